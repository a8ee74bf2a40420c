"""ConceptDisplay draws every kind of sample."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier

from sklexplain import SRAEExplainer
from sklexplain.plotting import ConceptDisplay
from tests.cases import make_net, make_X

QUICK = {"n_concepts": 3, "hidden_layer_sizes": (6,), "max_epochs": 2, "validation_split": None}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


@pytest.mark.parametrize(
    ("shape", "channel_axis", "kind", "n_concepts"),
    [
        ((12,), None, None, 5),
        ((12,), None, None, 1),
        ((12,), None, "series", 5),
        ((2, 12), 0, None, 5),
        ((2, 12), 0, None, 1),
        ((12, 3), 1, "series", 5),
        ((6, 7), None, None, 5),
        ((3, 6, 7), 0, "image", 5),
        ((3, 6, 7), 0, "image", 1),
    ],
)
def test_every_kind_is_drawn(shape, channel_axis, kind, n_concepts):
    rng = np.random.default_rng(0)
    display = ConceptDisplay(
        rng.normal(size=shape),
        rng.normal(size=(n_concepts, *shape)),
        rng.normal(size=n_concepts),
        channel_axis=channel_axis,
        kind=kind,
    )
    assert display.plot() is display
    display.figure_.draw_without_rendering()
    assert len(display.axes_) == len(display.bar_ax_.patches) == n_concepts


def test_largest_contribution_first_in_red():
    maps = np.zeros((3, 4))
    maps[1, 2] = 5
    display = ConceptDisplay(np.arange(4.0), maps, [0.5, 3.0, -1.0], n_top=2).plot()
    assert display.order_.tolist() == [1, 2, 0]
    assert [p.get_width() for p in display.bar_ax_.patches] == [3.0, -1.0, 0.5]
    assert display.axes_[0].get_title(loc="right") == "concept 1: +3"
    first, second = display.axes_[0].patches
    assert (first.get_width(), second.get_width()) == (5, 0)
    red, _, blue = to_rgb(first.get_facecolor())
    assert red > blue
    labels = [label.get_text() for label in display.axes_[0].get_yticklabels()]
    assert labels[0] == "x2 = 2"


def test_a_series_is_coloured_by_its_map():
    maps = np.zeros((1, 1, 6))
    maps[0, 0, 4] = 2
    display = ConceptDisplay(np.ones((1, 6)), maps, [1.0], channel_axis=0).plot()
    (lines,) = [c for c in display.axes_[0].collections if isinstance(c, LineCollection)]
    assert (lines.get_array() == 2).sum() == 2  # half a step to both sides


def test_channels_of_images_are_summed():
    maps = np.ones((2, 3, 4, 5))
    display = ConceptDisplay(np.ones((3, 4, 5)), maps, [1.0, 2.0], channel_axis=0).plot()
    np.testing.assert_array_equal(display.axes_[0].images[0].get_array(), np.full((4, 5), 3.0))


def test_from_estimator_of_series():
    X = make_X("conv1d", 12)
    explainer = SRAEExplainer(make_net("conv1d"), random_state=0, **QUICK).fit(X)
    display = ConceptDisplay.from_estimator(explainer, X, index=3, target=2)
    weights = explainer.concept_weights_[2]
    # Counted from the mean sample, by hand.
    moved = explainer.transform(X[3:4])[0] - explainer.transform(X.mean(axis=0, keepdims=True))[0]
    np.testing.assert_allclose(display.contributions, weights * moved, rtol=1e-4)
    maps = explainer.concept_attributions(X[3:4])[0] * weights[:, None, None]
    np.testing.assert_allclose(display.maps, maps, rtol=1e-5)
    assert any(isinstance(c, LineCollection) for c in display.axes_[0].collections)


def test_from_estimator_of_a_frame():
    data = load_iris(as_frame=True)
    classifier = MLPClassifier((5,), solver="lbfgs", max_iter=100, random_state=0)
    classifier.fit(data.data, data.target)
    explainer = SRAEExplainer(classifier, target=0, random_state=0, **QUICK).fit(data.data)
    explainer.set_output(transform="pandas")
    display = ConceptDisplay.from_estimator(
        explainer, data.data, index=-1, method="excitation_backprop"
    )
    labels = [label.get_text() for ax in display.axes_ for label in ax.get_yticklabels()]
    assert any(label.startswith("petal length (cm) = 5.1") for label in labels)
    assert isinstance(data.data, pd.DataFrame)


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="maps of shape"):
        ConceptDisplay(np.ones(4), np.ones((2, 3)), [1.0, 2.0]).plot()
    with pytest.raises(ValueError, match="contributions of shape"):
        ConceptDisplay(np.ones(4), np.ones((2, 4)), [1.0]).plot()


def test_limit_sets_the_strongest_colour():
    maps = np.ones((1, 4, 5))
    for limit, expected in ((None, 1.0), (4.0, 4.0)):
        display = ConceptDisplay(np.ones((4, 5)), maps, [1.0], limit=limit).plot()
        assert display.axes_[0].images[0].norm.vmax == expected


def test_drawn_into_given_axes():
    _, axes = pyplot.subplots(1, 2, layout="constrained")
    display = ConceptDisplay(np.ones(4), np.ones((2, 4)), [1.0, 2.0]).plot(ax=axes[1])
    assert display.ax_ is axes[1]
    assert display.figure_ is axes[1].figure


@pytest.mark.parametrize(("shape", "kind"), [((4,), "table"), ((12,), "series"), ((5, 6), "image")])
def test_maps_of_the_largest_contributions_only(shape, kind):
    maps = np.random.RandomState(0).randn(4, *shape)
    contributions = [0.1, -3.0, 2.0, 0.0]
    display = ConceptDisplay(maps[0], maps, contributions, kind=kind, n_maps=2).plot()
    assert len(display.axes_) == 2
    titles = [ax.get_title() or ax.get_title(loc="right") for ax in display.axes_]
    assert [title.split(":")[0] for title in titles] == ["concept 1", "concept 2"]
    assert len(display.bar_ax_.patches) == 4
    with pytest.raises(ValueError, match="'n_maps' parameter .* Got 0"):
        ConceptDisplay(maps[0], maps, contributions, kind=kind, n_maps=0).plot()


def test_an_unfitted_explainer_is_called_so():
    with pytest.raises(NotFittedError):
        ConceptDisplay.from_estimator(SRAEExplainer(None), np.zeros((3, 4)))
