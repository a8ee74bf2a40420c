"""Standard errors of attributors: what `transform` draws, whatever is explained and how."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

from sklexplain import AnomalyAttributor, LabelFreeAttributor
from sklexplain.exceptions import ConvergenceWarning

DRAWS = {
    "shapley_sampling": {"n_samples": 12},
    "kernel_shap": {"n_samples": 40},
    "lime": {"n_samples": 40},
    "gradient_shap": {"n_samples": 8},
    "smooth_grad": {"n_samples": 8},
}
X = np.random.RandomState(0).normal(size=(30, 6))


def mlp():
    return MLPRegressor(hidden_layer_sizes=(8,), activation="tanh", tol=0.05, random_state=0)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4)).double()


def attributor(net, method, **params):
    options = {"method_params": DRAWS.get(method), "random_state": 0, "baseline": "background"}
    return LabelFreeAttributor(net, method=method, **options | params)


@pytest.mark.parametrize("method", DRAWS)
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"groups": [0, 0, 1, 2, 3, 4]},
        {"units": [0, 2]},
        {"corpus": {"label": 1}, "foil": "rest", "similarity": "cosine"},
        {"baseline": lambda X: X / 2},
    ],
    ids=["plain", "groups", "units", "corpus", "own"],
)
def test_they_are_of_the_very_maps(net, method, params):
    if method == "kernel_shap" and "groups" in params:  # five have 30 coalitions
        params = params | {"method_params": {"n_samples": 28}}
    fitted = attributor(net, method, **params).fit(X, np.arange(30) % 3)
    maps, errors = fitted.transform(X[:5]), fitted.standard_errors(X[:5])
    assert errors.shape == maps.shape and errors.dtype == maps.dtype
    assert (errors > 0).any() and np.isfinite(errors).all()
    found = fitted.confidence_intervals(X[:5], confidence_level=0.9)
    np.testing.assert_allclose(found.attributions, maps, rtol=1e-9, atol=1e-12)
    half = stats.t.ppf(0.95, found.degrees_of_freedom) * errors
    np.testing.assert_allclose(found.high - maps, half, atol=1e-12)
    np.testing.assert_allclose(maps - found.low, half, atol=1e-12)
    # Few rows at once, and one sample at a time, give the same.
    fitted.set_params(batch_size=7)
    np.testing.assert_allclose(fitted.standard_errors(X[:5]), errors, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(fitted.standard_errors(X[1:2]), errors[1:2], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("method", DRAWS)
def test_absolute_values_keep_the_errors_of_signed_ones(net, method):
    signed = attributor(net, method).fit(X)
    absolute = attributor(net, method, absolute=True).fit(X)
    np.testing.assert_array_equal(absolute.standard_errors(X), signed.standard_errors(X))
    found, of = absolute.confidence_intervals(X), signed.confidence_intervals(X)
    np.testing.assert_array_equal(found.attributions, np.abs(of.attributions))
    across = (of.low < 0) & (of.high > 0)
    assert across.any() and (~across).any()
    assert (found.low[across] == 0).all()
    assert (found.low[~across] > 0).all()
    np.testing.assert_array_equal(found.high, np.maximum(np.abs(of.low), np.abs(of.high)))


@pytest.mark.parametrize("method", DRAWS)
def test_they_scatter_as_they_say(net, method):
    """Over seeds, the mean of squared errors is the variance of the maps."""
    maps, squares, params = [], [], DRAWS[method]
    if method == "kernel_shap":  # of 62 coalitions; ten for each feature
        params = {"n_samples": 60}
    for seed in range(30):
        options = {"method_params": params, "random_state": seed, "baseline": "mean"}
        fitted = attributor(net, method, **options).fit(X)
        found = fitted.confidence_intervals(X[:4])
        maps.append(found.attributions)
        squares.append(found.standard_errors**2)
    ratio = np.mean(squares, axis=0).mean() / np.var(maps, axis=0, ddof=1).mean()
    assert 0.6 < ratio < 1.7


class Counting(nn.Module):
    """A network that counts the rows it is given."""

    rows = 0

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        Counting.rows += len(x)
        return self.inner(x)


@pytest.mark.parametrize("method", DRAWS)
def test_they_cost_what_maps_cost(net, method):
    fitted = attributor(Counting(net), method).fit(X)
    counts = []
    for call in (fitted.transform, fitted.standard_errors, fitted.confidence_intervals):
        Counting.rows = 0
        call(X)
        counts.append(Counting.rows)
    assert counts[0] > 0 and counts[1] == counts[0] and counts[2] == counts[0]


@pytest.mark.parametrize("method", DRAWS)
def test_coefficients_in_a_basis(method):
    torch.manual_seed(0)
    layers = nn.Conv1d(1, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(15, 2)
    inner, series = nn.Sequential(*layers).double(), X[:, None]
    plain = attributor(inner, method).fit(series).standard_errors(series[:3])
    same = attributor(inner, method, basis=np.eye(6)).fit(series).standard_errors(series[:3])
    np.testing.assert_allclose(same, plain, rtol=1e-9, atol=1e-12)
    dct = attributor(inner, method, basis="dct").fit(series).confidence_intervals(series[:3])
    assert dct.standard_errors.shape == plain.shape and (dct.standard_errors > 0).all()
    # A linear map has the same error in every draw: none.
    line = nn.Sequential(nn.Flatten(), nn.Linear(6, 2)).double()
    if method not in ("lime", "gradient_shap"):  # the ridge shrinks; rows differ
        errors = (
            attributor(line, method, basis="dct", channel_axis=0)
            .fit(series)
            .standard_errors(series[:3])
        )
        assert (errors < 1e-9).all()


def test_only_methods_that_draw_have_them(net):
    for method in ("integrated_gradients", "saliency", "occlusion"):
        explainer = attributor(net, method)
        assert not hasattr(explainer, "standard_errors")
        assert not hasattr(explainer.fit(X), "standard_errors")
        for name in ("standard_errors", "confidence_intervals"):
            with pytest.raises(AttributeError, match=name) as raised:
                getattr(explainer, name)(X)
            why = str(raised.value.__cause__)
            assert all(repr(other)[1:-1] in why for other in DRAWS) and repr(method) in why
    assert hasattr(attributor(net, "lime"), "standard_errors")
    # What it was fitted with counts.
    fitted = attributor(net, "lime").fit(X).set_params(method="saliency", method_params=None)
    assert fitted.standard_errors(X).shape == X.shape
    assert not hasattr(fitted, "no_such_thing")


@pytest.mark.parametrize("level", [0, 1, -0.5, 95, "0.95", True, float("nan"), None, [0.5]])
def test_levels_are_between_0_and_1(net, level):
    fitted = attributor(net, "gradient_shap").fit(X)
    with pytest.raises(ValueError, match="confidence_level"):
        fitted.confidence_intervals(X, confidence_level=level)


def test_all_coalitions_leave_no_error(net):
    fitted = attributor(net, "kernel_shap", method_params=None).fit(X)
    assert (fitted.standard_errors(X) == 0).all()
    found = fitted.confidence_intervals(X)
    np.testing.assert_array_equal(found.low, found.high)
    assert np.isinf(found.degrees_of_freedom).all()


@pytest.mark.parametrize("method", ["shapley_sampling", "gradient_shap", "smooth_grad"])
def test_one_draw_tells_nothing(net, method):
    fitted = attributor(net, method, method_params={"n_samples": 1}).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the sums miss
        found = fitted.confidence_intervals(X)
    assert np.isnan(found.standard_errors).all()
    assert np.isnan(found.low).all() and np.isnan(found.high).all()


def test_features_as_in_the_baseline_have_no_error(net):
    some = X.copy()
    some[:, 2] = 0.0
    fitted = attributor(net, "kernel_shap", baseline="zeros", method_params={"n_samples": 28})
    found = fitted.fit(X).confidence_intervals(some[:3])
    assert (found.standard_errors[:, 2] == 0).all()
    # The other five have 30 coalitions, of which 28 are drawn.
    assert (found.standard_errors[:, [0, 1, 3, 4, 5]] > 0).all()
    assert (found.degrees_of_freedom[:, :2] == 13).all()


def test_tables_in_front_of_networks_and_black_boxes():
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1] * 100, "c": list("xyz") * 10})
    head = make_column_transformer((StandardScaler(), ["a", "b"]), (OneHotEncoder(), ["c"]))
    head.set_output(transform="default").fit(frame)
    pipeline = make_pipeline(head, PCA(2)).fit(frame)
    for method, params in DRAWS.items():
        fitted = LabelFreeAttributor(
            pipeline, method=method, method_params=params, random_state=0, baseline="background"
        ).fit(frame)
        errors = fitted.set_output(transform="pandas").standard_errors(frame)
        assert errors.shape == frame.shape and np.isfinite(errors).all()
        assert not hasattr(errors, "columns")


def test_gradients_of_a_linear_map_do_not_depend_on_noise():
    wide = X * [1, 10, 100, 1, 1, 1]
    fitted = attributor(make_pipeline(StandardScaler(), PCA(2)).fit(wide), "smooth_grad").fit(wide)
    maps, errors = fitted.transform(wide), fitted.standard_errors(wide)
    assert (errors <= 1e-12 * np.abs(maps)).all()


def test_gradients_behind_a_scaler_are_by_raw_columns(net):
    """Errors of derivatives change with the unit of a column as the derivatives do."""
    tanh = make_pipeline(StandardScaler(), mlp())
    for method in ("smooth_grad", "gradient_shap"):
        found = []
        for unit in (np.ones(6), np.array([1, 10, 100, 1, 1, 0.1])):
            fitted = attributor(tanh, method).fit(X * unit, X[:, 0])
            found.append(fitted.confidence_intervals(X * unit))
        power = unit if method == "smooth_grad" else 1.0
        for name in ("attributions", "standard_errors"):
            np.testing.assert_allclose(found[1][name] * power, found[0][name], rtol=1e-6, atol=1e-9)


def test_detectors():
    normal = np.random.RandomState(1).normal(size=(80, 5))
    explainer = AnomalyAttributor(
        IsolationForest(n_estimators=10, random_state=0),
        method="shapley_sampling",
        method_params={"n_samples": 8},
        random_state=0,
    ).fit(normal)
    odd = normal[:3] + [0, 4, 0, 0, 0]
    found = explainer.confidence_intervals(odd)
    np.testing.assert_allclose(found.attributions, explainer.transform(odd))
    assert found.standard_errors.shape == odd.shape and (found.standard_errors > 0).any()
    assert not hasattr(AnomalyAttributor(PCA(2)), "standard_errors")


def test_few_draws_are_a_warning_where_the_order_counts(net):
    twins = nn.Sequential(nn.Linear(6, 6), net).double()
    with torch.no_grad():  # all features do nearly the same
        twins[0].weight.fill_(0.2).add_(0.01 * torch.eye(6))
    few = attributor(twins, "shapley_sampling", method_params={"n_samples": 4}, baseline="zeros")
    few.fit(1 + X / 100)
    with pytest.warns(ConvergenceWarning, match=r"cannot be told .* raise method_params\['n_sam"):
        few.score(1 + X / 100)
    few.transform(X)  # which is an error if it warns
    few.standard_errors(X)
    few.latent_shift(X)
    exact = attributor(net, "kernel_shap", method_params=None).fit(X)
    assert exact.score(X) > 1


def test_few_draws_of_a_detector():
    normal = np.random.RandomState(1).normal(size=(80, 5))
    explainer = AnomalyAttributor(
        PCA(2), method="kernel_shap", method_params={"n_samples": 10}, random_state=0
    ).fit(normal)
    with pytest.warns(ConvergenceWarning, match="cannot be told"):
        explainer.score(normal[:5] + 3)
