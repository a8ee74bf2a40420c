"""Functions and models of the user's that write into what they are given change nothing here."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

from sklexplain import (
    AnomalyAttributor,
    DKNNImportance,
    LabelFreeAttributor,
    TracInImportance,
)
from sklexplain.metrics import completeness_error, latent_shift_curve, roar

RNG = np.random.default_rng(0)
X = RNG.integers(0, 6, size=(40, 5)).astype(float)
Y = (X[:, 0] > 3).astype(int)
NET = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 5)).double()


def pipeline(copy):
    return make_pipeline(StandardScaler(copy=copy), PCA(2)).fit(X.copy())


def written(values):
    """Fill with zeros what is given, after it was read."""
    if isinstance(values, torch.Tensor):
        values.detach().zero_()
    else:
        values[:] = 0


def careful(function):
    return function


def careless(function):
    """The same function, which spoils its arguments."""

    def spoiling(*args, **kwargs):
        result = function(*args, **kwargs)
        for value in args:
            written(value)
        return result

    return spoiling


def spoiling_samples(function):
    """The same loss, which spoils the samples, but not the output that it is differentiated by."""

    def spoiling(output, x):
        result = function(output, x)
        written(x)
        return result

    return spoiling


def latent_shift(copy):
    samples = X.copy()
    curve = latent_shift_curve(
        pipeline(copy).transform, samples, np.abs(X), mask_value=X.mean(axis=0), random_state=0
    )
    return curve.most, samples


def completeness(copy):
    samples = X.copy()
    return completeness_error(X, pipeline(copy).transform, samples, X.mean(axis=0)), samples


def retrained(copy):
    def by_code(model, X_train, X):
        return np.abs(X[:, :1]) * [1, 1, 1, 1, 1] + 0 * model[0].transform(X)

    samples = X.copy()
    model = make_pipeline(StandardScaler(copy=copy), LogisticRegression())
    result = roar(model, by_code, samples, Y, shares=[0.4], cv=2, n_random=1, random_state=0)
    return np.append(result.attributed, result.random), samples


@pytest.mark.parametrize("measure", [latent_shift, completeness, retrained])
def test_measures_of_a_pipeline_that_scales_in_place(measure):
    expected, _ = measure(True)
    found, samples = measure(False)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(samples, X)


def with_baseline(wrap):
    function = wrap(lambda X: X[::-1].copy())
    codes = make_pipeline(
        OneHotEncoder(handle_unknown="ignore"), PCA(2, svd_solver="covariance_eigh")
    ).fit(X)
    return LabelFreeAttributor(
        codes, method="feature_ablation", baseline=function, random_state=0
    ).fit(X.copy())


def with_score(wrap):
    model = nn.Identity()  # its output is the samples
    return AnomalyAttributor(
        model,
        score_function=wrap(lambda z: z.square().sum(dim=1)),
        method="feature_ablation",
        baseline="zeros",
        random_state=0,
    ).fit(X.copy())


def with_metric(wrap):
    return DKNNImportance(PCA(2), metric=wrap(lambda a, b: np.abs(a - b).sum())).fit(X.copy())


def with_loss(_wrap):
    wrap = spoiling_samples if _wrap is careless else careful
    loss = wrap(lambda output, x: (output - x).abs().sum(dim=1))
    return TracInImportance(NET, loss=loss, parameters="all").fit(X.copy())


@pytest.mark.parametrize("explained", [with_baseline, with_score, with_metric, with_loss])
def test_explainers_with_a_function_of_ones_own(explained):
    samples = X.copy()
    expected = explained(careful).transform(X.copy())
    found = explained(careless).transform(samples)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    np.testing.assert_array_equal(samples, X)


def test_an_encode_that_returns_the_same_array_each_time():
    W = RNG.normal(size=(5, 2))
    many = RNG.normal(size=(3000, 5))
    store = np.empty((3000, 2))

    def encode(X):
        return np.matmul(X, W, out=store[: len(X)])

    b = many * (many @ W @ W.T)
    assert completeness_error(b, encode, many, 0.0).max() < 1e-12
