"""Nets that are saved as arrays, interrupted, and trained in threads."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from sklexplain import ClaDecExplainer, SRAEExplainer
from sklexplain.nets import Autoencoder
from sklexplain.training import arrays_of, check_net_params, load_arrays, randomized_layers
from sklexplain.utils import seeded

X = np.random.RandomState(0).standard_normal((40, 5)).astype(np.float32)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2))


def estimators(**options):
    """One of every class that trains a network."""
    options = {"max_epochs": 8, "validation_split": None, "random_state": 0, **options}
    return {
        "autoencoder": Autoencoder(n_components=2, hidden_layer_sizes=(6,), **options),
        "concepts": SRAEExplainer(network(), hidden_layer_sizes=(6,), **options),
        "decoding": ClaDecExplainer(network(), **options),
    }


NAMES = list(estimators())


class CtrlC(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_training_is_no_fit(name):
    estimator = estimators(net_params={"callbacks": [CtrlC()]})[name]
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X)
    if name == "autoencoder":  # explainers are put back by their base
        with pytest.raises(NotFittedError):
            check_is_fitted(estimator)


@pytest.mark.parametrize("name", NAMES)
def test_early_stopping_is_no_interruption(name):
    stopping = EarlyStopping(monitor="train_loss", patience=1, threshold=1e9)
    estimator = estimators(net_params={"callbacks": [stopping]})[name].fit(X)
    assert estimator.n_epochs_ == 2


@pytest.mark.parametrize("name", NAMES)
def test_integers_of_numpy(name):
    sizes = {"max_epochs": np.int64(2), "patience": np.int32(3), "batch_size": np.int64(8)}
    plain = {key: int(value) for key, value in sizes.items()}
    given, expected = (
        estimators(validation_split=0.2, net_params={"batch_size": kind(16)}, **options)[name]
        for kind, options in ((np.int64, sizes), (int, plain))
    )
    with pytest.warns(UserWarning, match="max_epochs=2"):
        results = [estimator.fit(X).transform(X) for estimator in (given, expected)]
    np.testing.assert_array_equal(*results)


def test_batch_size_of_numpy_reaches_the_data_loader():
    fitted = Autoencoder(n_components=np.int64(2), batch_size=np.int64(8), max_epochs=1)
    fitted.set_params(validation_split=None).fit(X)
    assert type(fitted.net_.batch_size) is type(fitted.net_.module__n_components) is int


def test_net_params_must_be_a_dict():
    with pytest.raises(TypeError, match="net_params=5 must be a dict or None"):
        check_net_params(5, "SRAEExplainer", {})


def test_training_in_threads_equals_training_one_by_one():
    expected = [estimator.fit(X).transform(X) for estimator in estimators().values()] * 3
    fresh = [estimator for _ in range(3) for estimator in estimators().values()]
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda estimator: estimator.fit(X).transform(X), fresh))
    for result, reference in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, reference, rtol=1e-4, atol=1e-6)
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_wait_for_the_generator():
    def draw(seed):
        with seeded(seed):
            return torch.cat([torch.randn(1) for _ in range(2000)])

    before = torch.get_rng_state()
    expected = [draw(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert all(map(torch.equal, pool.map(draw, range(4)), expected))
    assert torch.equal(torch.get_rng_state(), before)


def test_layers_drawn_anew_leave_the_generator_alone():
    net, before = network(), torch.get_rng_state()
    first, again = (dict(randomized_layers(net, random_state=0)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first["0"][0].weight, again["0"][0].weight)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_the_state_of_a_net_is_arrays(copied):
    net = estimators()["concepts"].fit(X).net_
    state = net.__getstate__()
    assert not any(isinstance(value, (nn.Module, torch.Tensor)) for value in state.values())
    again = copied(net)
    z = torch.randn(3, 6)
    assert torch.equal(again.module_.encode(z), net.module_.encode(z))
    assert not again.module_.training
    assert not any(parameter.requires_grad for parameter in again.module_.parameters())


def test_arrays_of_types_that_numpy_has_not():
    module = nn.Linear(3, 2).bfloat16()
    arrays = arrays_of(module)
    assert arrays["weight"].dtype == np.float32
    again = load_arrays(nn.Linear(3, 2).bfloat16(), arrays)
    assert torch.equal(again.weight, module.weight)
    arrays["weight"][:] = 0
    assert torch.equal(again.weight, module.weight)
