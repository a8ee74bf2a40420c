"""Fitted explainers that are saved, and networks that return NaN."""

import copy
import functools
import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skops import io as skops_io
from torch import nn
from torch.nn.utils import parametrizations

from sklexplain import ClaDecExplainer, SRAEExplainer
from sklexplain.nets import Autoencoder

X, y = load_iris(return_X_y=True)
QUICK = {"max_epochs": 2, "validation_split": None, "random_state": 0}


@functools.cache
def model(name):
    if name == "autoencoder":
        options = {"n_components": 2, "hidden_layer_sizes": (6,), **QUICK}
        return Autoencoder(**options).fit(X)
    classifier = MLPClassifier((6,), solver="lbfgs", max_iter=500, random_state=0)
    return make_pipeline(StandardScaler(), classifier).fit(X, y)


def by_skops(explainer):
    data = skops_io.dumps(explainer)
    types = skops_io.get_untrusted_types(data=data)
    # Nothing of torch's is in there but the classes that training was told to use.
    assert not any(name.startswith(("torch._", "torch.Tensor", "torch.nn.param")) for name in types)
    return skops_io.loads(data, trusted=types)


def by_pickle(explainer):
    return pickle.loads(pickle.dumps(explainer))


@pytest.mark.parametrize("save", [by_skops, by_pickle, copy.deepcopy])
@pytest.mark.parametrize("name", ["mlp", "autoencoder"])
@pytest.mark.parametrize(
    "explainer",
    [
        SRAEExplainer(None, n_concepts=2, hidden_layer_sizes=(5,), **QUICK),
        ClaDecExplainer(None, **QUICK),
        ClaDecExplainer(None, reference="random", n_latent=2, alpha=0.5, **QUICK),
    ],
    ids=["srae", "cladec", "random"],
)
def test_saved_explainers_give_the_same(explainer, name, save):
    explainer = copy.deepcopy(explainer).set_params(estimator=model(name)).fit(X)
    again = save(explainer)
    np.testing.assert_array_equal(again.transform(X), explainer.transform(X))
    assert again.score_parts(X) == explainer.score_parts(X)
    if isinstance(explainer, ClaDecExplainer):
        references = again.transform_reference(X), explainer.transform_reference(X)
        np.testing.assert_array_equal(*references)
        state = again.decoder_.state_dict(), explainer.decoder_.state_dict()
        assert all(torch.equal(state[0][k], state[1][k]) for k in state[1])
    else:
        np.testing.assert_array_equal(again.relevance_, explainer.relevance_)
        maps = again.concept_attributions(X[:3]), explainer.concept_attributions(X[:3])
        np.testing.assert_array_equal(*maps)


def plain(value):
    """Yield every object that a fitted state reaches, but for the model and live modules."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in ("estimator", "estimator_"):
                yield from plain(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from plain(item)
    elif hasattr(value, "__dict__") and type(value).__module__.startswith("sklexplain."):
        yield value
        yield from plain(getattr(value, "__getstate__", lambda: vars(value))())
    else:
        yield value


@pytest.mark.parametrize("kind", [SRAEExplainer, ClaDecExplainer])
def test_fitted_state_holds_no_modules_and_little_of_X(kind):
    data = np.random.RandomState(0).standard_normal((3000, 4))
    explainer = kind(PCA(2).fit(data) if kind is ClaDecExplainer else model("mlp"), **QUICK)
    found = list(plain(explainer.fit(data)))
    assert not any(isinstance(value, (nn.Module, torch.Tensor)) for value in found)
    arrays = [value for value in found if isinstance(value, np.ndarray)]
    assert not any(np.shares_memory(array, data) for array in arrays)
    assert all(len(array) <= 128 for array in arrays if array.shape[1:] == (4,))


class Normed(nn.Sequential):
    """A decoder that pickle cannot take apart."""

    def __init__(self, z_shape, x_shape):
        layer = parametrizations.weight_norm(nn.Linear(z_shape[0], x_shape[0]))
        super().__init__(nn.Tanh(), layer)


def old_weight_norm(layer):
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.utils.weight_norm(layer)


def test_decoders_that_cannot_be_pickled_are_saved_by_their_weights():
    explainer = ClaDecExplainer(PCA(2).fit(X), decoder=Normed, **QUICK).fit(X)
    with pytest.raises(RuntimeError, match="state_dict"):
        pickle.dumps(explainer.decoder_)
    np.testing.assert_array_equal(by_pickle(explainer).transform(X), explainer.transform(X))


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, old_weight_norm])
def test_references_of_such_networks_are_built_again(norm):
    torch.manual_seed(0)
    net = nn.Sequential(norm(nn.Linear(4, 3)), nn.Tanh(), nn.Linear(3, 2)).double()
    explainer = ClaDecExplainer(net, **QUICK).fit(X)
    expected = explainer.transform_reference(X)
    explainer._modules.clear()  # as after loading
    net(torch.ones(1, 4).double())  # the old weight_norm keeps a weight with its graph
    np.testing.assert_array_equal(explainer.transform_reference(X), expected)


class NotFinite(nn.Module):
    def __init__(self, where):
        super().__init__()
        self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 2)
        self.where = where

    def forward(self, x):
        bad = x[:, :1] > 100
        z = self.first(x)
        z = torch.where(bad, torch.nan, z) if self.where == "layer" else z
        return self.last(z)


@pytest.mark.parametrize("make", [SRAEExplainer, ClaDecExplainer])
@pytest.mark.filterwarnings("ignore:X ")
def test_activations_that_are_not_finite_are_named(make):
    data = X.astype(np.float32)
    bad = data.copy()
    bad[12, 0] = 1e3
    net = NotFinite("layer")
    if make is SRAEExplainer:
        make = functools.partial(SRAEExplainer, n_concepts=2)
    message = "the inputs of layer 'last' are not finite for sample 12"
    with pytest.raises(ValueError, match=message):
        make(net, batch_size=5, **QUICK).fit(bad)
    fitted = make(net, batch_size=5, **QUICK).fit(data)
    if isinstance(fitted, SRAEExplainer):
        with pytest.raises(ValueError, match=message):
            fitted.transform(bad)
