"""Whiskers of attributions that were sampled."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from sklearn.decomposition import PCA
from torch import nn

from sklexplain import LabelFreeAttributor, RelevanceMasker
from sklexplain.exceptions import ConvergenceWarning
from sklexplain.plotting import AttributionDisplay, ImportanceDisplay

X = np.random.RandomState(0).normal(size=(30, 4)) * [4, 2, 1, 0.1]


def whiskers(ax):
    """Ends of whiskers along the axis of values, sorted by their place."""
    found = [c.get_segments() for c in ax.collections if isinstance(c, LineCollection)]
    return [np.asarray(line) for lines in found for line in lines]


@pytest.fixture(scope="module")
def sampled():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    params = {"method_params": {"n_samples": 400}, "random_state": 0}
    return LabelFreeAttributor(net, method="shapley_sampling", **params).fit(X)


def test_bars_of_a_sample_have_whiskers(sampled):
    display = AttributionDisplay.from_estimator(sampled, X, index=3)
    maps, errors = sampled.transform(X[3:4])[0], sampled.standard_errors(X[3:4])[0]
    order = np.argsort(-np.abs(maps), kind="stable")
    lines = whiskers(display.ax_)
    assert len(lines) == 4
    for place, (line, column) in enumerate(zip(lines, order, strict=True)):
        expected = maps[column] + np.array([-2, 2]) * errors[column]
        np.testing.assert_allclose(line[:, 0], expected)
        np.testing.assert_allclose(line[:, 1], place)
    exact = LabelFreeAttributor(PCA(2)).fit(X)
    assert not whiskers(AttributionDisplay.from_estimator(exact, X).ax_)


def test_means_of_columns_have_whiskers(sampled):
    display = ImportanceDisplay.from_estimator(sampled, X)
    maps, errors = sampled.transform(X), sampled.standard_errors(X)
    lines = whiskers(display.ax_)
    assert len(lines) == 4
    for line, column in zip(lines, display.order_, strict=True):
        expected = maps[:, column].mean() + np.array([-2, 2]) * errors[:, column].mean()
        np.testing.assert_allclose(line[:, 0], expected)


def test_bars_of_a_series_have_whiskers():
    maps, errors = np.abs(X[:, None]), np.full((30, 1, 4), 0.1)
    display = ImportanceDisplay(maps, errors=errors, kind="series", channel_axis=0).plot()
    lines = whiskers(display.ax_)
    np.testing.assert_allclose([line[1, 1] - line[0, 1] for line in lines], 0.4)


def test_order_that_is_not_sure_is_a_warning():
    few = RelevanceMasker(PCA(2), n_masks=10, random_state=0).fit(X)
    with pytest.warns(ConvergenceWarning, match="cannot be told"):
        AttributionDisplay.from_estimator(few, X[:1] * 0 + 1)
    with pytest.warns(ConvergenceWarning, match="cannot be told"):
        ImportanceDisplay.from_estimator(few, X)


def test_what_is_not_known_has_no_whisker():
    errors = np.array([0.1, np.nan, 0.0, np.inf])
    display = AttributionDisplay(X[0], X[1], errors=errors).plot()
    assert len(whiskers(display.ax_)) == 1


@pytest.mark.parametrize("errors", [[0.1], [-0.1, 0, 0, 0], ["a", "b", "c", "d"]])
def test_errors_that_do_not_fit(errors):
    with pytest.raises(ValueError, match="errors"):
        AttributionDisplay(X[0], X[1], errors=errors).plot()
    with pytest.raises(ValueError, match="errors"):
        ImportanceDisplay(X[:2], errors=[errors, errors]).plot()
