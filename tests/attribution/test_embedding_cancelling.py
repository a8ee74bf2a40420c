"""Maps of gradients that cancel: of two probabilities, of all, of a single unit."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklexplain import EmbeddingAttributor
from sklexplain.exceptions import SklexplainWarning

X = np.random.default_rng(0).normal(size=(20, 1, 12))
AGAINST = r"unit_weights=\(-1, 1\) is used"
ROUNDING = "0 but for rounding and are returned as 0"


def conv(*last, n_out=2):
    torch.manual_seed(0)
    flat = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(40, n_out))
    return nn.Sequential(*flat, *last).double()


def test_two_probabilities_are_explained_one_against_the_other():
    net = conv(nn.Softmax(1))
    with pytest.warns(SklexplainWarning, match=AGAINST):
        explainer = EmbeddingAttributor(net, upsample=False).fit(X)
    maps = explainer.transform(X)
    for x, m in zip(torch.from_numpy(X), maps, strict=True):
        activations = net[0](x[None])
        p = net[1:](activations)[0]
        (gradient,) = torch.autograd.grad(p[1] - p[0], activations)
        np.testing.assert_allclose(
            m, (gradient * activations).detach().abs().mean(dim=1)[0], rtol=1e-12
        )
    assert maps.max() > 1e-3
    assert explainer.map_shape_ == maps.shape[1:]


@pytest.mark.parametrize(
    "classifier", [LogisticRegression(), MLPClassifier(max_iter=800, random_state=0)]
)
def test_of_classifiers_of_scikit_learn(classifier):
    data, y = load_breast_cancer(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), classifier).fit(data, y)
    with pytest.warns(SklexplainWarning, match=AGAINST):
        explainer = EmbeddingAttributor(pipeline).fit(data)
    assert explainer.transform(data[:20]).max() > 1e-6


@pytest.mark.parametrize(
    "params",
    [
        {"unit_weights": [0.0, 1.0]},
        {"unit_agg": "abs"},
        {"unit_agg": "none"},
        {"channel_agg": "mean"},
        {"saliency": "grad_cam"},
    ],
)
def test_what_does_not_cancel_is_left_as_it_is(params):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maps = EmbeddingAttributor(conv(nn.Softmax(1)), **params).fit(X).transform(X)
    assert np.abs(maps).reshape(len(X), -1).max(axis=1).min() > 0


def test_two_outputs_that_are_no_probabilities_keep_their_variance():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (EmbeddingAttributor(conv()).fit(X).transform(X).max(axis=1) > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("n_out", "params"),
    [
        (3, {"channel_agg": "mean", "unit_agg": "mean"}),
        (3, {"channel_agg": "abs", "unit_weights": [1.0, 1.0, 1.0]}),
        (2, {"channel_agg": "none", "unit_agg": "mean"}),
    ],
)
def test_maps_of_rounding_are_zero_and_said(n_out, params, dtype):
    net, data = conv(nn.Softmax(1), n_out=n_out).to(dtype), X.astype(str(dtype)[6:])
    explainer = EmbeddingAttributor(net, **params).fit(data)
    with pytest.warns(SklexplainWarning, match=ROUNDING):
        assert (explainer.transform(data) == 0).all()


def test_saturated_probabilities():
    net = conv(nn.Softmax(1), n_out=3)
    with torch.no_grad():
        net[3].weight *= 60
    explainer = EmbeddingAttributor(net, channel_agg="mean", unit_agg="mean").fit(X)
    with pytest.warns(SklexplainWarning, match="20 of 20 samples"):
        assert (explainer.transform(X) == 0).all()


@pytest.mark.parametrize(("n_out", "unit_agg"), [(1, "var"), (2, "skew")])
def test_what_is_zero_by_definition_needs_no_words(n_out, unit_agg):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explainer = EmbeddingAttributor(conv(n_out=n_out), unit_agg=unit_agg).fit(X)
        assert (explainer.transform(X) == 0).all()


def test_a_display_of_rounding_is_grey():
    pytest.importorskip("matplotlib")
    import matplotlib

    matplotlib.use("agg")
    from sklexplain.plotting import AttributionDisplay

    explainer = EmbeddingAttributor(
        conv(nn.Softmax(1), n_out=3), channel_agg="mean", unit_agg="mean"
    ).fit(X)
    with pytest.warns(SklexplainWarning, match=ROUNDING):
        display = AttributionDisplay.from_estimator(explainer, X)
    (line,) = display.ax_.collections
    line.update_scalarmappable()
    colors = line.get_colors()[:, :3]
    assert np.ptp(colors, axis=1).max() < 0.01  # as much red as green and blue
