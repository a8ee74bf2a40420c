"""DictionaryDisplay and SurrogateDisplay draw what they are given."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.collections import LineCollection
from sklearn.decomposition import PCA

from sklexplain import LatentSurrogate, SparseDictionary
from sklexplain.plotting import DictionaryDisplay, SurrogateDisplay
from tests.cases import make_net, make_X


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


@pytest.mark.parametrize(
    ("shape", "channel_axis", "kind", "n_columns"),
    [
        ((12,), None, None, 1),
        ((12,), None, "series", 2),
        ((2, 12), 0, None, 2),
        ((6, 7), None, None, 2),
        ((3, 6, 7), 0, "image", 2),
    ],
)
def test_every_kind_is_drawn(shape, channel_axis, kind, n_columns):
    rng = np.random.default_rng(0)
    examples, maps = rng.normal(size=(2, 2, 2, *shape))
    values = rng.random((2, 2)) + 0.1
    values[1, 1] = 0  # which only one sample has
    options = {"channel_axis": channel_axis, "kind": kind}
    display = DictionaryDisplay(examples, values, maps, **options)
    assert display.plot() is display
    display.figure_.draw_without_rendering()
    assert display.axes_.shape == (2, n_columns)
    if n_columns > 1:
        drawn = [[bool(ax.lines or ax.images) for ax in row] for row in display.axes_]
        assert drawn == [[True, True], [True, False]]
        DictionaryDisplay(examples, values, **options).plot()


def test_a_series_is_coloured_by_its_map():
    maps = np.zeros((1, 1, 1, 6))
    maps[0, 0, 0, 4] = 2
    display = DictionaryDisplay(np.ones((1, 1, 1, 6)), [[1.0]], maps, channel_axis=0).plot()
    (line,) = [c for c in display.axes_[0, 0].collections if isinstance(c, LineCollection)]
    assert (line.get_array() == 2).sum() == 2  # half a step to both sides


def test_a_table_names_what_the_examples_have_in_common():
    examples = np.array([[[1.0, "a"], [3.0, "b"], [8.0, "b"]]], dtype=object)
    maps = np.array([[[1.0, 4.0], [1.0, 2.0], [900.0, 900.0]]])
    display = DictionaryDisplay(examples, [[3, 2, 0]], maps, feature_names=["age", "site"]).plot()
    panel = display.axes_[0, 0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["site ≈ a", "age ≈ 2"]
    assert [bar.get_width() for bar in panel.patches] == [3, 1]


def test_examples_are_those_of_the_estimator():
    X = make_X("conv1d", 15)
    dictionary = SparseDictionary(
        make_net("conv1d"), n_concepts=6, k=2, max_epochs=5, random_state=0
    ).fit(X)
    display = DictionaryDisplay.from_estimator(dictionary, X, n_concepts=2, n_examples=3)
    values, places = dictionary.top_examples(X, 3, concepts=[0, 1])
    np.testing.assert_array_equal(display.examples, X[places])
    np.testing.assert_array_equal(display.values, values)
    maps = dictionary.concept_attributions(X, concepts=[1])[:, 0]
    np.testing.assert_allclose(display.maps[1], maps[places[1]], rtol=1e-4, atol=1e-5)
    assert display.kind == "series"
    assert display.titles[0].startswith("concept 0 (")
    DictionaryDisplay.from_estimator(dictionary, X, concepts=[-1], n_examples=1, method=None)


def test_examples_of_a_frame_are_found_by_place():
    X = pd.DataFrame(make_X("mlp", 12), columns=list("abcde"), index=[3] * 12)
    dictionary = SparseDictionary(make_net("mlp"), n_concepts=6, k=2, max_epochs=5, random_state=0)
    display = DictionaryDisplay.from_estimator(dictionary.fit(X), X, n_concepts=2)
    assert display.examples.shape == (2, 4, 5)
    assert "≈" in display.axes_[0, 0].get_yticklabels()[0].get_text()


def test_shapes_must_fit():
    ones = np.ones((2, 3, 5))
    with pytest.raises(ValueError, match="do not fit together"):
        DictionaryDisplay(ones, np.ones((2, 2)), ones).plot()
    with pytest.raises(ValueError, match="do not fit to"):
        DictionaryDisplay(ones, np.ones((2, 3)), ones[:, :, :2]).plot()
    with pytest.raises(ValueError, match="give maps"):
        DictionaryDisplay(ones, np.ones((2, 3))).plot()
    with pytest.raises(ValueError, match="1 titles for 2 concepts"):
        DictionaryDisplay(ones, np.ones((2, 3)), ones, titles=["one"]).plot()


# -- surrogates --------------------------------------------------------------------------------


def test_units_told_best_come_first():
    shares = np.array([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    display = SurrogateDisplay([0.5, 0.9, -2.0, np.nan], shares, units=[3, 5, 7, 9]).plot()
    display.figure_.draw_without_rendering()
    assert display.order_.tolist() == [1, 0, 2]
    assert [bar.get_width() for bar in display.bar_ax_.patches] == [0.9, 0.5, 0]
    labels = [label.get_text() for label in display.bar_ax_.get_yticklabels()]
    assert labels == ["unit 5", "unit 3", "unit 7"]
    assert display.columns_.tolist() == [1, 0, 2]
    image = display.map_ax_.images[0].get_array()
    np.testing.assert_array_equal(image, shares[np.ix_([1, 0, 2], [1, 0, 2])])


def test_surrogates_are_drawn():
    X = pd.DataFrame(make_X("mlp", 60), columns=[f"$column {i}$" for i in range(5)])
    surrogate = LatentSurrogate(PCA(3), random_state=0).fit(X)
    display = SurrogateDisplay.from_estimator(surrogate, n_units=2, n_columns=4)
    np.testing.assert_array_equal(display.r2, surrogate.r2_)
    assert len(display.order_) == 2
    assert len(display.columns_) == 4
    display = SurrogateDisplay.from_estimator(surrogate, X)
    np.testing.assert_array_equal(display.r2, surrogate.unit_scores(X))


def test_surrogates_must_fit_together():
    with pytest.raises(ValueError, match="do not fit together"):
        SurrogateDisplay([0.5], np.ones((2, 3))).plot()
    with pytest.raises(ValueError, match="NaN for every unit"):
        SurrogateDisplay([np.nan], np.ones((1, 3))).plot()
