"""Score constraints and activations of the Autoencoder."""

import pickle

import numpy as np
import pytest
import skops.io
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from torch import nn

from sklexplain import VarianceScorer
from sklexplain.datasets import make_relevant_columns
from sklexplain.nets import Autoencoder, Conv1dAutoencoder, MLPAutoencoder, ScoreConstraint
from sklexplain.nets._modules import ACTIVATIONS
from sklexplain.report import load_model

X, Y, _ = make_relevant_columns(60, random_state=0)


def quick(module="mlp", **params):
    """Make an autoencoder that trains in a few milliseconds."""
    defaults = {
        "n_components": 3,
        "hidden_layer_sizes": (8,),
        "activation": "softplus",
        "max_epochs": 2,
        "batch_size": 16,
        "validation_split": None,
        "random_state": 0,
    }
    return Autoencoder(module, **(defaults | params))


class Batches(Callback):
    """What training starts from and sees."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.start = torch.cat([p.detach().flatten() for p in net.module_.parameters()])
        self.batches = []

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        self.batches.append(batch[0].numpy().copy())


def test_scores_change_nothing_but_the_gradients():
    fits = []
    for params in ({}, {"lambda_noise": 0.0, "score_every": 1}, {"lambda_noise": 1.0}):
        record = Batches()
        estimator = quick(net_params={"callbacks": [record]}, **params).fit(X)
        fits.append((record, estimator.transform(X), estimator))
    (plain, code, _), (zero, same_code, estimator), (scored, other_code, constrained) = fits
    np.testing.assert_array_equal(code, same_code)
    assert "score_constraint" not in dict(estimator.net_.callbacks_)
    assert np.abs(code - other_code).max() > 1e-5
    for record in (zero, scored):
        assert torch.equal(plain.start, record.start)
        for one, two in zip(plain.batches, record.batches, strict=True):
            np.testing.assert_array_equal(one, two)
    assert 0 < constrained.net_.history[0, "noise_score"] < 1
    assert len(constrained.loss_curve_) == 2


def test_zero_weights_equal_a_net_with_an_idle_constraint():
    idle = {"callbacks": [ScoreConstraint(score_every=1, random_state=0)]}
    one, two = quick().fit(X), quick(net_params=idle).fit(X)
    np.testing.assert_array_equal(one.transform(X), two.transform(X))


@pytest.mark.parametrize(
    "other",
    [
        {"lambda_noise": 0.9},
        {"lambda_variance": 0.9},
        {"score_every": 2},
        {"score_layer": "encoder.softplus0"},
        {"n_score_samples": 2},
        {"n_score_samples": None},
        {"activation": "tanh"},
        {"random_state": 1},
    ],
)
def test_every_parameter_matters(other):
    params = {"lambda_noise": 0.5, "lambda_variance": 0.5, "score_every": 1}
    one, two = (quick(**p).fit(X).transform(X) for p in (params, params | other))
    assert np.abs(one - two).max() > 1e-6


@pytest.mark.parametrize(
    ("module", "shape", "layer"),
    [
        ("mlp", (5,), "encoder.linear0"),
        ("mlp", (2, 3, 4), "encoder.linear1"),
        ("conv1d", (12,), "encoder.conv1"),
        ("conv1d", (2, 9), "encoder.conv1"),
        ("lstm", (6, 2), "encoder.lstm0[0]"),
    ],
)
def test_modules_and_their_default_layers(module, shape, layer):
    series = np.random.RandomState(0).uniform(size=(30, *shape))
    params = {"activation": None} if module == "lstm" else {}
    sizes = (8,) if shape == (5,) else (8, 6)
    estimator = quick(
        module,
        hidden_layer_sizes=sizes,
        lambda_noise=0.1,
        lambda_variance=0.1,
        pretext="denoising",
        **params,
    ).fit(series)
    constraint = dict(estimator.net_.callbacks_)["score_constraint"]
    assert constraint.score_layer_.removesuffix("[0]") == layer.removesuffix("[0]")
    assert estimator.net_.history[0, "variance_score"] > 0
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.transform(series), estimator.transform(series))
    np.testing.assert_array_equal(
        clone(estimator).fit(series).transform(series), estimator.transform(series)
    )


def test_more_weight_gives_a_higher_score():
    digits = load_digits().data[:300] / 16
    scores = []
    for weight in (1e-9, 3.0):
        estimator = quick(
            hidden_layer_sizes=(16,),
            lambda_variance=weight,
            score_every=1,
            n_score_samples=None,
            max_epochs=10,
        ).fit(digits)
        scorer = VarianceScorer(estimator, layers=["encoder.linear0"]).fit(digits)
        scores.append(scorer.score(digits))
        # The one that is trained on is the one that is measured afterwards.
        assert scores[-1] == pytest.approx(estimator.net_.history[-1, "variance_score"], abs=0.01)
    assert scores[1] > scores[0] * 1.1


def test_grid_search_over_the_weights():
    grid = {"lambda_noise": [0, 0.1, 10], "lambda_variance": [0, 0.1]}
    search = GridSearchCV(quick(lambda_class=1.0, max_epochs=3, lr=0.01), grid, cv=2)
    y = (Y > np.median(Y)).astype(int)
    search.fit(X, y)
    assert len(search.cv_results_["params"]) == 6
    assert set(search.best_params_) == set(grid)
    assert search.best_estimator_.predict(X).shape == (60,)


def test_gates_warn():
    with pytest.warns(UserWarning, match="piecewise linear functions .Relu.*activation='softplus'"):
        quick(activation=None, lambda_noise=0.1).fit(X)


def test_saved_by_skops_it_is_trusted(tmp_path):
    estimator = quick(lambda_noise=0.1).fit(X)
    skops.io.dump(estimator, tmp_path / "model.skops")
    loaded = load_model(tmp_path / "model.skops")
    np.testing.assert_array_equal(loaded.transform(X), estimator.transform(X))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation):
    for module, shape in ((MLPAutoencoder, (6,)), (Conv1dAutoencoder, (9,))):
        made = module(shape, 2, (4, 3), activation)
        for half in (made.encoder, made.decoder):
            between = [
                (name, part) for name, part in half.named_children() if name[:-1] == activation
            ]
            assert [type(part) for _, part in between] == [ACTIVATIONS[activation]] * 2
    # ReLU is what there is without a choice.
    one, two = (quick(activation=a).fit(X).transform(X) for a in (activation, None))
    assert np.array_equal(one, two) == (activation == "relu")


class WithActivation(nn.Module):
    """A network of a user that has its own idea of an activation."""

    def __init__(self, n_components, activation=nn.Tanh):
        super().__init__()
        activation = {"softplus": nn.Softplus}.get(activation, activation)
        self.encoder = nn.Sequential(nn.Linear(10, 4), activation(), nn.Linear(4, n_components))
        self.decoder = nn.Linear(n_components, 10)


class Without(nn.Module):
    def __init__(self, n_components):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(10, n_components), nn.Linear(n_components, 10)


def test_activations_of_other_classes():
    def kind(**params):
        return type(quick(WithActivation, **params).fit(X).net_.module_.encoder[1])

    assert kind(activation=None) is nn.Tanh
    assert kind() is nn.Softplus
    assert kind(net_params={"module__activation": nn.ELU}) is nn.ELU
    quick(Without, activation=None).fit(X)
    with pytest.raises(ValueError, match="activation='softplus' cannot be set: Without has no"):
        quick(Without).fit(X)
    with pytest.raises(ValueError, match="activation='softplus' cannot be set: LSTMAutoencoder"):
        quick("lstm").fit(X)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"activation": "sofplus"}, "activation='sofplus' is unknown. Did you mean 'softplus'"),
        ({"lambda_noise": -0.1}, "lambda_noise=.* must be"),
        ({"lambda_variance": -0.1}, "lambda_variance=.* must be"),
        ({"score_every": 0}, "score_every=.* must be"),
        ({"n_score_samples": 0}, "n_score_samples=.* must be"),
        (
            {"score_layer": "linear0", "lambda_noise": 0.1},
            "score_layer='linear0'.*'encoder.linear0'",
        ),
        ({"net_params": {"lambda_noise": 1}}, r"set Autoencoder\(lambda_noise=...\) instead"),
        ({"net_params": {"score_layer": "x"}}, r"set Autoencoder\(score_layer=...\) instead"),
        ({"net_params": {"module__n_components": 2}}, r"set Autoencoder\(n_components=...\)"),
        (
            {"net_params": {"module__hidden_layer_sizes": ()}},
            r"set Autoencoder\(hidden_layer_sizes=",
        ),
    ],
)
def test_parameters_in_error(params, message):
    with pytest.raises(ValueError, match=message):
        quick(**params).fit(X)
