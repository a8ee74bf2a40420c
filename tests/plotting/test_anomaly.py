"""AnomalyDisplay draws what AnomalyAttributor says of one sample."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklexplain import AnomalyAttributor
from sklexplain.attribution import time_segments
from sklexplain.plotting import AnomalyDisplay

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 2)) @ RNG.normal(size=(2, 12)) + 0.1 * RNG.normal(size=(80, 12))


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


def labels(ax):
    return [text.get_text() for text in ax.get_yticklabels()]


@pytest.mark.parametrize(
    ("shape", "channel_axis", "kind", "n_axes"),
    [
        ((12,), None, None, 1),
        ((12,), None, "series", 3),
        ((2, 12), 0, None, 6),
        ((12, 2), 1, None, 6),
        ((6, 7), None, None, 3),
        ((3, 6, 7), 0, "image", 3),
    ],
)
def test_every_kind_is_drawn(shape, channel_axis, kind, n_axes):
    sample, maps, reference, residuals = RNG.normal(size=(4, *shape))
    options = {"channel_axis": channel_axis, "kind": kind, "p": 0.012, "title": "beat $1"}
    display = AnomalyDisplay(sample, maps, reference=reference, residuals=residuals, **options)
    assert display.plot() is display
    display.figure_.draw_without_rendering()
    assert len(display.axes_) == n_axes
    assert display.axes_[0].get_title() == "beat $1, p = 0.012"
    plain = AnomalyDisplay(sample, maps, channel_axis=channel_axis, kind=kind).plot()
    assert plain.axes_[0].get_title() == ""
    _, ax = pyplot.subplots()
    assert plain.plot(ax).ax_ is ax


def test_a_series_is_drawn_with_its_reference_its_parts_and_its_residuals():
    sample, reference, maps, residuals = RNG.normal(size=(4, 7))
    display = AnomalyDisplay(sample, maps, reference=reference, residuals=residuals, kind="series")
    first, second, third = display.plot().axes_
    np.testing.assert_array_equal(first.lines[0].get_ydata(), sample)
    np.testing.assert_array_equal(first.lines[1].get_ydata(), reference)
    np.testing.assert_array_equal([bar.get_height() for bar in second.patches], maps)
    np.testing.assert_array_equal(third.lines[0].get_ydata(), residuals)


def test_a_row_is_named_by_its_values_and_those_of_the_reference():
    frame = pd.DataFrame(X, columns=[f"c{j}" for j in range(12)])
    explainer = AnomalyAttributor(make_pipeline(StandardScaler(), PCA(2)), random_state=0)
    explainer.fit(frame)
    odd = frame[:2].assign(c3=9.0)
    display = AnomalyDisplay.from_estimator(explainer, odd, index=1)
    reference = explainer.references(odd)["c3"].iloc[1]
    assert labels(display.ax_)[0] == f"c3 = 9 (not {reference:.4g})"
    assert display.ax_.get_title() == f"p = {explainer.pvalue(odd)[1]:.2g}"
    widths = [bar.get_width() for bar in display.ax_.patches]
    maps = explainer.transform(odd)[1]
    np.testing.assert_allclose(widths, maps[np.argsort(-np.abs(maps))][:10])


def test_of_an_estimator_of_series_with_and_without_groups():
    explainer = AnomalyAttributor(PCA(2), random_state=0).fit(X)
    display = AnomalyDisplay.from_estimator(explainer, X, index=-1, kind="series")
    residuals = explainer.residuals(X)[-1]
    np.testing.assert_allclose(display.axes_[2].lines[0].get_ydata(), residuals)
    segments = time_segments(12, 3)
    grouped = AnomalyAttributor(PCA(2), groups=segments, random_state=0).fit(X)
    display = AnomalyDisplay.from_estimator(grouped, X, kind="series")
    heights = [bar.get_height() for bar in display.axes_[1].patches]
    np.testing.assert_allclose(heights, np.repeat(grouped.transform(X[:1])[0], 4))
    bars = AnomalyDisplay.from_estimator(grouped, X)
    assert sorted(labels(bars.ax_)) == ["t0-3", "t4-7", "t8-11"]


def test_of_a_detector_and_of_several_references():
    forest = IsolationForest(n_estimators=10, random_state=0)
    detector = AnomalyAttributor(forest, method="kernel_shap", random_state=0).fit(X)
    display = AnomalyDisplay.from_estimator(detector, X, kind="series")
    assert len(display.axes_) == 2  # a forest leaves no residuals
    rows = AnomalyAttributor(PCA(2), baseline=X[:2], random_state=0).fit(X)
    assert "not" not in " ".join(labels(AnomalyDisplay.from_estimator(rows, X).ax_))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"attributions": np.ones((2, 2))}, "do not fit to a sample"),
        ({"reference": np.ones(3)}, "reference of shape"),
        ({"residuals": np.ones(3), "kind": "series"}, "residual for every entry"),
        ({"group_index": np.zeros(3, dtype=int), "kind": "series"}, "group_index of shape"),
        ({"group_index": np.full(4, 9), "kind": "series"}, "below 4"),
        ({"p": 1.5}, "'p' parameter"),
    ],
)
def test_what_does_not_fit_is_named(params, message):
    params = {"sample": np.ones(4), "attributions": np.ones(4), **params}
    with pytest.raises(ValueError, match=message):
        AnomalyDisplay(**params).plot()
