"""The linear decoder in closed form, and what is said where it rebuilds more."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklexplain import ClaDecExplainer
from sklexplain.decoding._ridge import fit_ridge, rows_for_ridge
from sklexplain.exceptions import ConvergenceWarning
from sklexplain.nets import Autoencoder


@pytest.mark.parametrize(("n", "p"), [(40, 6), (15, 30), (20, 20)])
def test_ridge_equals_scikit_learns(n, p):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, p)) * 3 + 50
    x = z @ rng.normal(size=(p, 4)) + rng.normal(size=(n, 4)) * 5
    ours = fit_ridge(z, x)
    scaled = (z - z.mean(axis=0)) / ours.scale
    theirs = Ridge(ours.penalty).fit(scaled, x)
    z_new, x_new = rng.normal(size=(9, p)) * 3 + 50, rng.normal(size=(9, 4))
    expected = np.sum((theirs.predict((z_new - z.mean(axis=0)) / ours.scale) - x_new) ** 2, axis=1)
    np.testing.assert_allclose(ours.errors(z_new, x_new), expected, rtol=1e-8)
    # The penalty is the best of the grid by the definition of generalised cross-validation.
    criteria = []
    for penalty in n * 10.0 ** np.arange(-8, 3):
        hat = scaled @ np.linalg.solve(scaled.T @ scaled + penalty * np.eye(p), scaled.T)
        freedom = n - np.trace(hat) - 1
        error = np.square(x - x.mean(axis=0) - hat @ (x - x.mean(axis=0))).sum()
        criteria.append(n * error / freedom**2 if freedom > 1e-3 * n else np.inf)
    best = n * 10.0 ** np.arange(-8, 3)[np.argmin(criteria)]
    assert ours.penalty == pytest.approx(best)


def test_errors_of_what_is_left_out_are_those_of_fits_without_it():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(12, 3))
    x = z @ rng.normal(size=(3, 2)) + rng.normal(size=(12, 2))
    ours = fit_ridge(z, x)
    scaled = (z - z.mean(axis=0)) / ours.scale
    expected = []
    for i in range(12):
        rest = np.arange(12) != i
        theirs = Ridge(ours.penalty).fit(scaled[rest], x[rest])
        expected.append(np.sum((theirs.predict(scaled[[i]]) - x[i]) ** 2))
    np.testing.assert_allclose(ours.left_out, expected, rtol=1e-8)


def test_constant_activations_tell_nothing_but_the_mean():
    z, x = np.full((20, 3), 0.1, np.float32), np.random.default_rng(0).normal(size=(20, 2))
    errors = fit_ridge(z, x).errors(z, x)
    np.testing.assert_allclose(errors, np.square(x - x.mean(axis=0)).sum(axis=1), rtol=1e-6)


def test_few_rows_of_many_are_used():
    rows = rows_for_ridge(np.arange(10_000), 100, 0)
    assert len(np.unique(rows)) == 2000
    assert len(rows_for_ridge(np.arange(10_000), 10**6, 0)) == 30
    assert len(rows_for_ridge(np.arange(70), 10**3, 0)) == 70


class Offset(nn.Module):
    """A layer whose mean is far above what it varies by."""

    def __init__(self, layer, offset, scale):
        super().__init__()
        self.layer, self.offset, self.scale = layer, offset, scale

    def forward(self, x):
        return self.layer(x) * self.scale + self.offset


def correlated(n, d, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)) @ rng.normal(size=(3, d)) + 0.1 * rng.normal(size=(n, d))
    return X.astype(np.float32)


@pytest.mark.parametrize("offset", [15.0, 1000.0])
@pytest.mark.parametrize("shape", ["table", "series"])
def test_a_large_mean_of_activations_hides_nothing(offset, shape):
    X = correlated(300, 12)
    first = nn.Linear(12, 6)
    if shape == "series":
        X = X[:, None]
        first = nn.Sequential(nn.Conv1d(1, 2, 3, stride=2), nn.Flatten(), nn.Linear(10, 6))
    net = nn.Sequential(Offset(first, offset, 1.0), nn.Linear(6, 2)).eval()
    explainer = ClaDecExplainer(net, layer="0", reference=None, lr=5e-3, random_state=0)
    explainer.set_params(patience=3).fit(X[:200])
    with torch.no_grad():
        z = net[0](torch.from_numpy(X)).numpy().astype(np.float64)
    z, x = StandardScaler().fit(z[:200]).transform(z), X.reshape(300, -1).astype(np.float64)
    ridge = RidgeCV(np.logspace(-6, 3, 10)).fit(z[:200], x[:200])
    total = np.square(x[200:] - x[:200].mean(axis=0)).sum()
    kept = 1 - np.square(ridge.predict(z[200:]) - x[200:]).sum() / total
    assert kept > 0.9
    assert explainer.score_parts(X[200:])[1] >= 0.9 * kept
    assert explainer.kept_ >= 0.9 * explainer.ridge_kept_


def test_a_decoder_that_falls_behind_is_said_with_both_numbers():
    X = correlated(200, 8)
    net = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 2)).eval()
    options = {"reference": None, "random_state": 0, "layer": "0"}
    with pytest.warns(ConvergenceWarning, match=r"rebuilds -?\d+% .* linear regression .* \d+%"):
        short = ClaDecExplainer(net, max_epochs=1, **options).fit(X)
    assert short.kept_ < 0.9 * short.ridge_kept_
    # A decoder that is stopped early, but not by the number of epochs.
    narrow = nn.Sequential(nn.Flatten(), nn.Linear(6, 1), nn.Linear(1, 8))
    with pytest.warns(ConvergenceWarning, match="too small") as warned:
        ClaDecExplainer(net, decoder=narrow, lr=0.05, **options).fit(X)
    assert warned[0].filename == __file__
    # Without samples held out, and for what is not trained to reconstruct alone, nothing is.
    ClaDecExplainer(net, max_epochs=1, validation_split=None, **options).fit(X)


@pytest.mark.parametrize("kind", ["mlp", "conv1d", "classifier"])
def test_ordinary_layers_are_not_warned_of(kind):
    options = {"lr": 5e-3, "patience": 3, "reference": None, "random_state": 0}
    if kind == "classifier":
        X, y = load_breast_cancer(return_X_y=True)
        X = StandardScaler().fit_transform(X)
        model = MLPClassifier((16, 8), max_iter=300, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, y)
        layers = [None, "hidden_0"]
    else:
        X = correlated(160, 12)
        X = X if kind == "mlp" else np.repeat(X, 2, axis=1)[:, None]
        model = Autoencoder(kind, n_components=4, max_epochs=60, lr=5e-3, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X)
        assert model.score(X) > 0.5
        parts = model.net_.module_.encoder.named_children()
        layers = [f"encoder.{name}" for name, _ in parts][1::2]
    for layer in layers:
        explainer = ClaDecExplainer(model, layer=layer, **options).fit(X)
        assert explainer.kept_ > 0.9 * explainer.ridge_kept_
