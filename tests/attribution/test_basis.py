"""Attributions of frequencies, beside explicit sums, brute force and networks turned by hand."""

import itertools
import math
import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.fft
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from sklexplain import LabelFreeAttributor
from sklexplain.attribution import time_segments
from sklexplain.datasets import make_frequency_series
from sklexplain.explaining import METHODS
from sklexplain.metrics import completeness_error
from sklexplain.nets import Autoencoder

T = 12
X = np.random.default_rng(0).normal(size=(10, 2, T))
QUICK = {
    "integrated_gradients": {"n_steps": 60},
    "gradient_shap": {"n_samples": 10},
    "smooth_grad": {"n_samples": 5},
    "shapley_sampling": {"n_samples": 4},
    "kernel_shap": {"n_samples": 150},
    "lime": {"n_samples": 60},
}
COMPLETE = ["integrated_gradients", "deep_lift", "shapley_sampling", "kernel_shap"]
BASELINES = ["mean", "background", lambda X: 0.3 * X]


def make_net():
    torch.manual_seed(0)
    layers = nn.Conv1d(2, 3, 5), nn.Tanh(), nn.Flatten(), nn.Linear(3 * (T - 4), 3)
    return nn.Sequential(*layers).double()


NET = make_net()


class Turned(nn.Module):
    """A network as a function of coefficients."""

    def __init__(self, net, matrix):
        super().__init__()
        self.net, self.matrix = net, nn.Parameter(torch.as_tensor(matrix))

    def forward(self, c):
        return self.net(c @ self.matrix)


def explain(net=NET, method="integrated_gradients", **params):
    params = {"method_params": QUICK.get(method), "random_state": 0, "channel_axis": 0} | params
    return LabelFreeAttributor(net, method=method, **params)


def dct(n):
    """By its formula, one number after the other."""
    B = np.empty((n, n))
    for k, t in itertools.product(range(n), range(n)):
        scale = np.sqrt((1 if k == 0 else 2) / n)
        B[k, t] = scale * math.cos(math.pi * (2 * t + 1) * k / (2 * n))
    return B


def rotation(n, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


# -- what a basis is


@pytest.mark.parametrize("n", [2, 3, 7, 8])
def test_dct_is_the_orthonormal_one(n):
    net = nn.Sequential(nn.Flatten(), nn.Linear(n, 2)).double()
    series = np.random.default_rng(0).normal(size=(5, 1, n))
    explainer = explain(net, basis="dct").fit(series)
    assert_allclose(explainer.basis_, dct(n), atol=1e-14)
    coefficients = scipy.fft.dct(series, norm="ortho")
    weights = net[1].weight.detach().numpy() @ dct(n).T
    z = net(torch.as_tensor(series)).detach().numpy()
    expected = (coefficients - coefficients.mean(axis=0)) * (z @ weights)[:, None]
    assert_allclose(explainer.transform(series), expected, atol=1e-12)  # linear: exactly


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:.*cannot be told from the second")
def test_identity_gives_the_maps_without_a_basis(method, baseline):
    plain = explain(method=method, baseline=baseline).fit(X)
    basis = explain(method=method, baseline=baseline, basis=np.eye(T)).fit(X)
    assert_array_equal(basis.transform(X), plain.transform(X))
    assert basis.score(X) == plain.score(X)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"smooth_grad"}))
@pytest.mark.parametrize("baseline", ["mean", "background"])
def test_maps_are_those_of_a_network_of_coefficients(method, baseline):
    B = rotation(T)
    found = explain(method=method, baseline=baseline, basis=B).fit(X)
    by_hand = explain(Turned(NET, B), method=method, baseline=baseline).fit(X @ B.T)
    assert_allclose(found.transform(X), by_hand.transform(X @ B.T), rtol=1e-7, atol=1e-12)


def test_derivatives_turn_as_series_do():
    for method in ("saliency", "smooth_grad"):
        plain = explain(method=method).fit(X).transform(X)
        assert_allclose(explain(method=method, basis="dct").fit(X).transform(X), plain @ dct(T).T)


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("method", COMPLETE)
def test_sums_are_those_without_a_basis(method, baseline):
    plain = explain(method=method, baseline=baseline).fit(X).transform(X)
    turned = explain(method=method, baseline=baseline, basis="dct").fit(X).transform(X)
    assert np.abs(turned - plain).max() > 0.01
    assert_allclose(turned.sum(axis=(1, 2)), plain.sum(axis=(1, 2)), atol=1e-6)
    if baseline == "mean":
        assert completeness_error(turned, code, X, X.mean(axis=0)).max() < 1e-6


def code(X):
    with torch.no_grad():
        return NET(torch.as_tensor(X)).numpy()


def test_shapley_values_by_brute_force_over_coefficients():
    n = 5
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(n, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    series = np.random.default_rng(1).normal(size=(3, 1, n))
    B, mean = dct(n), series.mean(axis=0)

    def g(x, z):
        return float(net(torch.as_tensor(x[None]))[0].detach().numpy() @ z)

    expected = np.zeros_like(series)
    for row, x in zip(expected, series, strict=True):
        z = net(torch.as_tensor(x[None]))[0].detach().numpy()
        c, absent = x[0] @ B.T, mean[0] @ B.T
        for order in itertools.permutations(range(n)):
            mixed = absent.copy()
            for k in order:
                before = g((mixed @ B)[None], z)
                mixed[k] = c[k]
                row[0, k] += (g((mixed @ B)[None], z) - before) / math.factorial(n)
    found = explain(net, "kernel_shap", method_params=None, basis="dct").fit(series)
    assert_allclose(found.transform(series), expected, atol=1e-9)


# -- what it finds


@pytest.mark.parametrize("method", ["integrated_gradients", "deep_lift", "shapley_sampling"])
def test_a_planted_frequency_is_found(method):
    series, y, cycles = make_frequency_series(n_samples=60, n_timesteps=32, random_state=0)
    series = series.astype(np.float32)
    net = nn.Sequential(nn.Flatten(), nn.Linear(32, 2, bias=False), nn.Tanh())
    with torch.no_grad():  # it reads two cosines
        net[1].weight.copy_(torch.as_tensor(dct(32)[[2 * int(c) for c in cycles]]))
    explainer = explain(net, method, basis="dct").fit(series)
    names = explainer.get_feature_names_out()
    top = np.argsort(-explainer.feature_importances_.ravel())[:2]
    assert set(names[top]) == {f"ch0_cycles{c:g}" for c in cycles}
    share = np.abs(explainer.transform(series)).sum(axis=(0, 1))
    assert share[top].sum() / share.sum() > 0.999  # as no others are read
    # Coefficients that the network does not read are not counted as chance.
    curve = explainer.latent_shift(series)
    assert curve.n_masked.tolist() == [0, 1, 2]


def test_score_masks_coefficients():
    explainer = explain(basis="dct", center=True).fit(X)
    maps, curve = explainer.transform(X), explainer.latent_shift(X)
    c, mean, B = X @ dct(T).T, X.mean(axis=0) @ dct(T).T, dct(T)
    order = np.argsort(-np.abs(maps).sum(axis=1), axis=1, kind="stable")
    shifts = []
    for m in curve.n_masked:
        masked = c.copy()
        for row, chosen in zip(masked, order[:, :m], strict=True):
            row[:, chosen] = mean[:, chosen]
        shifts.append(np.linalg.norm(code(masked @ B) - code(X), axis=1).mean())
    assert_allclose(curve.most, shifts, atol=1e-10)
    assert explainer.score(X) == curve.area_ratio


def test_groups_corpus_units_and_maps_of_units():
    full = explain(basis="dct").fit(X)
    bands = explain(basis="dct", groups=time_segments(T, 3)).fit(X)
    sums = full.transform(X).sum(axis=1).reshape(10, 3, 4).sum(axis=2)
    assert_allclose(bands.transform(X), sums, atol=1e-12)
    assert bands.get_feature_names_out().tolist() == ["t0-3", "t4-7", "t8-11"]
    units = full.unit_attributions(X)
    assert units.shape == (10, 3, 2, T)
    assert_allclose(np.einsum("nj,njct->nct", code(X), units), full.transform(X), atol=1e-10)
    contrast = explain(basis="dct", corpus=X[:4], foil=X[4:], similarity="cosine").fit(X)
    plain = explain(corpus=X[:4], foil=X[4:], similarity="cosine").fit(X)
    assert_allclose(
        contrast.transform(X).sum(axis=(1, 2)), plain.transform(X).sum(axis=(1, 2)), atol=1e-6
    )
    assert contrast.score(X) > 1


@pytest.mark.parametrize("method", ["deep_lift", "integrated_gradients", "kernel_shap"])
def test_time_may_come_first_or_alone(method):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = NET

        def forward(self, x):
            return self.net(x.transpose(1, 2))

    expected = explain(method=method, basis="dct").fit(X).transform(X)
    last = explain(Last(), method, basis="dct", channel_axis=1).fit(X.transpose(0, 2, 1))
    found = last.transform(X.transpose(0, 2, 1))
    # Masks are drawn entry by entry, so only those of all coalitions would be the same.
    tolerance = 0.3 * np.abs(expected).max() if method == "kernel_shap" else 1e-10
    assert_allclose(found.transpose(0, 2, 1), expected, atol=tolerance)
    names = last.get_feature_names_out()[:3].tolist()
    assert names == ["ch0_cycles0", "ch1_cycles0", "ch0_cycles0.5"]


def test_one_channel_needs_no_word():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(T, 2)).double()
    told = explain(linear, basis="dct").fit(X[:, :1])
    untold = explain(linear, basis="dct", channel_axis="auto").fit(X[:, :1])
    assert_array_equal(untold.transform(X[:, :1]), told.transform(X[:, :1]))
    assert untold.get_feature_names_out().tolist() == told.get_feature_names_out().tolist()
    assert untold.score(X[:, :1]) == told.score(X[:, :1])
    last = X[:, 0][:, :, None]
    found = explain(linear, basis="dct", channel_axis="auto").fit(last).transform(last)
    assert_allclose(found[..., 0], told.transform(X[:, :1])[:, 0], atol=1e-12)


def test_series_of_two_axes():
    series = np.random.default_rng(0).normal(size=(30, 16)).astype(np.float32)
    net = Autoencoder("conv1d", n_components=2, max_epochs=1, validation_split=None, random_state=0)
    frame = pd.DataFrame(series, columns=[f"second {i}" for i in range(16)])
    explainer = LabelFreeAttributor(net.fit(frame), method="saliency", basis="dct").fit(frame)
    assert explainer.get_feature_names_out()[:2].tolist() == ["cycles0", "cycles0.5"]
    out = explainer.set_output(transform="pandas").transform(frame)
    assert out.columns[3] == "cycles1.5"
    with pytest.raises(ValueError, match="input_features"):
        explainer.get_feature_names_out(["a"] * 16)


def test_a_scaler_may_stand_in_front_and_baselines_are_series():
    series = np.random.default_rng(0).normal(size=(30, 16)) * np.arange(1, 17)
    net = Autoencoder("conv1d", n_components=2, max_epochs=1, validation_split=None, random_state=0)
    pipeline = make_pipeline(StandardScaler(), net).fit(series)
    explainer = LabelFreeAttributor(
        pipeline, method="deep_lift", basis="dct", baseline=series[:3]
    ).fit(series)
    assert_array_equal(explainer.baseline_, series[:3])
    z, z0 = (pipeline.transform(rows) for rows in (series, series[:3]))
    expected = np.einsum("nj,nj->n", z, z - z0.mean(axis=0))
    assert_allclose(explainer.transform(series).sum(axis=1), expected, rtol=1e-3, atol=1e-4)


def test_black_boxes_of_series():
    def flat(X):
        return X.reshape(len(X), -1) ** 2  # in no way that torch would know

    pipeline = make_pipeline(FunctionTransformer(flat), PCA(2)).fit(X)
    explainer = explain(pipeline, "kernel_shap", basis="dct").fit(X)
    z = pipeline.transform(X)
    expected = np.einsum("nj,nj->n", z, z - pipeline.transform(X.mean(axis=0)[None]))
    assert_allclose(explainer.transform(X).sum(axis=(1, 2)), expected, atol=1e-8)


def test_half_precision_and_saving():
    half = explain(make_net().bfloat16(), basis="dct", baseline="zeros").fit(X.astype(np.float32))
    exact = explain(basis="dct", baseline="zeros").fit(X).transform(X)
    assert np.abs(half.transform(X.astype(np.float32)) - exact).max() < 0.1 * np.abs(exact).max()
    explainer = explain(basis=rotation(T), method="shapley_sampling").fit(X)
    again = pickle.loads(pickle.dumps(explainer))
    for other in (again, clone(explainer).fit(X)):
        assert_allclose(other.transform(X), explainer.transform(X), rtol=1e-9, atol=1e-14)
    assert again.get_feature_names_out()[1] == "ch0_c1"


# -- what is refused


@pytest.mark.parametrize(
    ("basis", "message"),
    [
        (2 * np.eye(T), "squared length 4.*misses the identity by 3.*qr"),
        (np.eye(T) + 1e-5, "rows 0 and 1|squared length 1.00002"),
        (np.ones((T, T)), "product 12"),
        (np.eye(T - 1), r"\(11, 11\).*\(12, 12\)"),
        (np.eye(T)[0], r"shape \(12,\)"),
        (np.full((T, T), np.nan), "NaN"),
        ("dst", "'dct'"),
    ],
)
def test_what_is_no_basis(basis, message):
    with pytest.raises(ValueError, match=message):
        explain(basis=basis).fit(X)
    explain(basis=np.eye(T) + 1e-8).fit(X)


def test_samples_without_an_axis_of_time():
    table, pictures = X[:, 0], nn.Sequential(nn.Flatten(), nn.Linear(2 * T, 2)).double()
    with pytest.raises(ValueError, match=r"rows of a table of 12 columns.*\(n_samples, 1, 12\)"):
        LabelFreeAttributor(PCA(2), basis="dct").fit(table)
    with pytest.raises(ValueError, match="set channel_axis=0"):
        LabelFreeAttributor(pictures, basis="dct", channel_axis=None).fit(X)
    with pytest.raises(ValueError, match="no series"):
        LabelFreeAttributor(pictures, basis="dct").fit(X[:, None])


def test_other_columns_tokens_and_gaps():
    series = np.random.default_rng(0).normal(size=(30, 16)).astype(np.float32)
    net = Autoencoder("conv1d", n_components=2, max_epochs=1, validation_split=None, random_state=0)
    pipeline = make_pipeline(SimpleImputer(), net).fit(series)
    with pytest.raises(ValueError, match="SimpleImputer makes other columns"):
        LabelFreeAttributor(pipeline, basis="dct").fit(series)
    tokens = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(48, 2))
    with pytest.raises(ValueError, match="takes integers"):
        LabelFreeAttributor(tokens, method="feature_ablation", baseline="zeros", basis="dct").fit(
            np.arange(160).reshape(10, 16) % 5
        )

    class Filling(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = NET

        def forward(self, x):
            return self.net(torch.nan_to_num(x))

    gaps = X.copy()
    gaps[3, 0, 5] = np.nan
    with pytest.raises(ValueError, match="sample 3 has missing values"):
        explain(Filling(), basis="dct").fit(gaps)
    explainer = explain(Filling(), basis="dct").fit(X)
    for method in (explainer.transform, explainer.score):
        with pytest.raises(ValueError, match="sample 3 has missing values"):
            method(gaps)
