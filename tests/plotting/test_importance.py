import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from sklearn.decomposition import PCA

from sklexplain import LabelFreeAttributor
from sklexplain.datasets import make_relevant_columns
from sklexplain.plotting import ImportanceDisplay, diverging_colormap

X, _, _ = make_relevant_columns(random_state=0)


def test_points_are_attributions_and_colours_are_values():
    attributor = LabelFreeAttributor(PCA(2)).fit(X)
    maps = attributor.transform(X)
    display = ImportanceDisplay.from_estimator(attributor, X, n_top=4)
    order = np.argsort(-np.abs(maps).mean(axis=0), kind="stable")[:4]
    np.testing.assert_array_equal(display.order_, order)
    swarms = display.ax_.collections
    assert len(swarms) == 4
    for place, (swarm, column) in enumerate(zip(swarms, order, strict=True)):
        points = np.asarray(swarm.get_offsets())
        np.testing.assert_allclose(points[:, 0], maps[:, column])
        assert np.abs(points[:, 1] - place).max() < 0.5
        ranks = np.argsort(np.argsort(X[:, column])) / (len(X) - 1)
        np.testing.assert_allclose(swarm.get_facecolors(), diverging_colormap()(ranks))
    assert [t.get_text() for t in display.ax_.get_yticklabels()] == [f"x{i}" for i in order]


def test_one_unit():
    attributor = LabelFreeAttributor(PCA(2)).fit(X)
    display = ImportanceDisplay.from_estimator(attributor, X, unit=1, label="second component")
    column = display.order_[0]
    points = np.asarray(display.ax_.collections[0].get_offsets())[:, 0]
    np.testing.assert_allclose(points, attributor.unit_attributions(X, [1])[:, 0, column])
    assert display.ax_.get_xlabel() == "second component"


def test_categories_and_gaps_are_grey():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": list("xy") * 5, "b": [1.0, np.nan] * 5})
    maps = np.random.RandomState(0).normal(size=(10, 2))
    display = ImportanceDisplay(maps, frame, feature_names=["a", "b"]).plot()
    swarms = dict(zip(display.order_.tolist(), display.ax_.collections, strict=True))
    assert len(np.unique(swarms[0].get_facecolors(), axis=0)) == 1
    middle = diverging_colormap()(0.5)
    np.testing.assert_allclose(swarms[1].get_facecolors()[1], middle)


def test_series_and_images():
    maps = np.random.RandomState(0).normal(size=(5, 2, 6))
    display = ImportanceDisplay(
        maps, kind="series", channel_axis=0, channel_names=["I", "II"], time_names=list("abcdef")
    ).plot()
    heights = np.array([p.get_height() for p in display.ax_.patches]).reshape(2, 6)
    np.testing.assert_allclose(heights, np.abs(maps).mean(axis=0))
    assert [t.get_text() for t in display.ax_.get_legend().get_texts()] == ["I", "II"]
    assert display.ax_.get_xticklabels()[0].get_text() == "a"
    image = ImportanceDisplay(maps, kind="image").plot().ax_.images[0]
    np.testing.assert_allclose(image.get_array(), np.abs(maps).mean(axis=0))


def test_what_does_not_fit_is_refused():
    maps = np.zeros((5, 3))
    with pytest.raises(ValueError, match="does not fit to attributions of shape"):
        ImportanceDisplay(maps, np.zeros((5, 2))).plot()
    with pytest.raises(ValueError, match="samples on the first axis"):
        ImportanceDisplay(np.zeros(3)).plot()
    with pytest.raises(ValueError, match="2 time_names for 6 time steps"):
        ImportanceDisplay(np.zeros((2, 6)), kind="series", time_names=["a", "b"]).plot()
    grouped = LabelFreeAttributor(PCA(2), groups=[0, 1]).fit(X[:, :2])
    with pytest.raises(ValueError, match="groups=None"):
        ImportanceDisplay.from_estimator(grouped, X[:, :2])
