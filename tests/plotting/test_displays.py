import builtins
import sys

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from matplotlib.collections import LineCollection
from sklearn.decomposition import PCA

from sklexplain import EmbeddingAttributor, LabelFreeAttributor
from sklexplain.datasets import make_motif_series, make_relevant_columns
from sklexplain.examples import DKNNImportance, SimplExImportance
from sklexplain.plotting import (
    AttributionDisplay,
    ExampleDisplay,
    ImportanceDisplay,
    LatentShiftDisplay,
)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def table():
    X, _, _ = make_relevant_columns(n_samples=60, random_state=0)
    X = pd.DataFrame(X, columns=[f"column {i}" for i in range(10)])
    return X, LabelFreeAttributor(PCA(n_components=2), random_state=0).fit(X)


@pytest.fixture(scope="module")
def series():
    X, _, _ = make_motif_series(n_samples=20, n_channels=2, random_state=0)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv1d(2, 3, 5), torch.nn.Flatten(), torch.nn.Linear(168, 2))
    return X.astype(np.float32), net


@pytest.mark.parametrize(
    ("shape", "channel_axis", "kind", "n_axes"),
    [
        ((12,), None, None, 1),
        ((12,), None, "series", 1),
        ((2, 12), 0, None, 2),
        ((12, 3), 1, "series", 3),
        ((6, 7), None, None, 2),
        ((1, 6, 7), 0, None, 2),
        ((3, 6, 7), 0, "image", 2),
    ],
)
def test_attributions_of_every_kind_are_drawn(shape, channel_axis, kind, n_axes):
    rng = np.random.default_rng(0)
    sample, attributions = rng.normal(size=(2, *shape))
    display = AttributionDisplay(sample, attributions, channel_axis=channel_axis, kind=kind)
    assert display.plot() is display
    display.figure_.draw_without_rendering()
    assert len(display.axes_) == n_axes
    assert display.ax_.figure is display.figure_


def test_each_time_step_has_the_colour_of_its_attribution():
    attributions = np.array([0.0, 2.0, -1.0, 0.5])
    display = AttributionDisplay(np.arange(4.0), attributions, kind="series").plot()
    (line,) = [c for c in display.ax_.collections if isinstance(c, LineCollection)]
    # Half a step to both sides of each point; the first and last have one side only.
    np.testing.assert_array_equal(line.get_array(), [0, 2, 2, -1, -1, 0.5])
    assert (line.norm.vmin, line.norm.vmax) == (-2, 2)
    np.testing.assert_allclose(line.get_segments()[1], [[0.5, 0.5], [1, 1]])


def test_no_attribution_at_all_has_the_colour_of_zero():
    display = AttributionDisplay(np.arange(4.0), np.zeros(4), kind="series").plot()
    (line,) = [c for c in display.ax_.collections if isinstance(c, LineCollection)]
    np.testing.assert_allclose(line.cmap(line.norm(0.0)), line.cmap(0.5))


def test_largest_columns_come_first_with_their_values():
    sample = np.array([1.5, "north", np.nan], dtype=object)
    names = ["age", "price in $x_1$", "<b>bold</b>"]
    display = AttributionDisplay(sample, [0.1, -3, 2], feature_names=names, n_top=2).plot()
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == ["price in $x_1$ = north", "<b>bold</b> = missing"]
    assert [bar.get_width() for bar in display.ax_.patches] == [-3, 2]


def test_attributions_from_estimator(table, series):
    X, attributor = table
    display = AttributionDisplay.from_estimator(attributor, X, index=-1)
    expected = attributor.transform(X.iloc[-1:])[0]
    np.testing.assert_allclose(display.attributions, expected)
    assert "column" in display.ax_.get_yticklabels()[0].get_text()
    X, net = series
    display = AttributionDisplay.from_estimator(LabelFreeAttributor(net).fit(X), X, index=3)
    assert display.channel_axis == 0 and len(display.axes_) == 2


def test_series_of_one_axis_are_known_by_the_network():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv1d(1, 2, 3)

        def forward(self, x):
            return self.conv(x[:, None]).mean(dim=2)

    X = np.random.default_rng(0).normal(size=(10, 30)).astype(np.float32)
    attributor = LabelFreeAttributor(Net()).fit(X)
    assert AttributionDisplay.from_estimator(attributor, X).kind == "series"


def test_groups_have_no_place_on_a_sample(table):
    X, _ = table
    groups = {"first": X.columns[:5], "second": X.columns[5:]}
    attributor = LabelFreeAttributor(PCA(n_components=2), groups=groups).fit(X)
    with pytest.raises(ValueError, match="groups=None"):
        AttributionDisplay.from_estimator(attributor, X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "sereis"}, "Did you mean 'series'"),
        ({"kind": "table"}, "does not fit to a sample of shape"),
        ({"kind": "series"}, "channel_axis=0 if it is"),
    ],
)
def test_kinds_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AttributionDisplay(np.zeros((2, 5)), np.zeros((2, 5)), **options).plot()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(4,\) do not fit to a sample of shape \(5,\)"):
        AttributionDisplay(np.zeros(5), np.zeros(4)).plot()
    with pytest.raises(ValueError, match="3 feature_names for 5 columns"):
        AttributionDisplay(np.zeros(5), np.zeros(5), feature_names=list("abc")).plot()
    with pytest.raises(ValueError, match="do not fit"):
        ExampleDisplay(np.zeros(5), np.zeros((2, 4))).plot()
    with pytest.raises(ValueError, match="an example or more"):
        ExampleDisplay(np.zeros(5), np.zeros((0, 5))).plot()


@pytest.mark.parametrize("shape", [(2, 12), (1, 6, 7)])
def test_examples_are_drawn_beside_the_sample(shape):
    X = np.random.default_rng(0).normal(size=(5, *shape))
    display = ExampleDisplay(X[0], X[1:], importance=[4, 3, 2, 1], channel_axis=0).plot()
    display.figure_.draw_without_rendering()
    titles = [ax.get_title() for ax in display.axes_]
    assert titles[0] == "sample" and titles[2] == "example 2 (75%)" and len(titles) == 5


def test_examples_of_a_table_are_found_by_their_label(table):
    X, attributor = table
    X_train = X.set_axis([f"patient {i}" for i in range(len(X))])
    importance = DKNNImportance(attributor.estimator_).fit(X_train)
    display = ExampleDisplay.from_estimator(importance, X[7:9], X_train=X_train, n_examples=3)
    np.testing.assert_array_equal(display.examples[0], X.iloc[7])  # its own nearest
    cells = display.ax_.tables[0].get_celld()
    assert cells[0, 1].get_text().get_text() == "training example patient 7"


def test_examples_of_series_from_estimator(series):
    X, net = series
    importance = DKNNImportance(net).fit(X)
    display = ExampleDisplay.from_estimator(importance, X, X_train=X, index=2)
    np.testing.assert_array_equal(display.examples[0], X[2])


def test_weights_of_examples_are_shown(table):
    X, attributor = table
    X_train = X.set_axis([f"patient {i}" for i in range(len(X))]).iloc[20:]
    simplex = SimplExImportance(attributor.estimator_).fit(X_train)
    weights, labels = simplex.top_examples(X[7:8], 8)
    display = ExampleDisplay.from_estimator(simplex, X[7:8], X_train=X_train, n_examples=8)
    cells = display.ax_.tables[0].get_celld()
    for j in (0, 7):
        text = f"training example {labels[0, j]} (weight {weights[0, j]:.2g})"
        assert cells[0, j + 1].get_text().get_text() == text
    assert text.endswith("(weight 0)")


def test_importance_that_has_no_share():
    """Shares of nothing, or of a loss, would be NaN or upside down."""
    X = np.zeros((4, 2))
    for importance, last in (([0, 0, -2.5], "(-2.5)"), ([-1, -2, -3], "(-3)")):
        display = ExampleDisplay(X[0], X[1:], importance=importance, kind="table").plot()
        assert display.ax_.tables[0].get_celld()[0, 3].get_text().get_text() == f"example 3 {last}"


def test_latent_shift_curves_are_drawn(table):
    X, attributor = table
    _, ax = pyplot.subplots()
    display = LatentShiftDisplay.from_estimator(attributor, X, ax=ax)
    assert display.ax_ is ax
    most, random, least = (line.get_ydata() for line in display.lines_)
    assert most[1] > random[1] > least[1]
    assert f"{attributor.score(X):.2f}" in ax.get_title()


def test_plotting_names_what_to_install(monkeypatch):
    real = builtins.__import__

    def no_matplotlib(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    for name in [m for m in sys.modules if m.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(ImportError, match=r"pip install 'sklexplain\[plot\]'"):
        LatentShiftDisplay([0, 1], [0, 1], [0, 1], [0, 1]).plot()
    monkeypatch.undo()


def test_ticks_of_a_colour_bar_do_not_follow_its_length():
    rng = np.random.default_rng(0)
    counts = set()
    for height in (1.5, 6.0):
        ax = pyplot.figure(figsize=(5, height), layout="constrained").subplots()
        maps = rng.uniform(-1, 1, 40)
        maps[0] = 1.0
        figure = AttributionDisplay(maps, 6 * maps, kind="series").plot(ax=ax).figure_
        figure.draw_without_rendering()
        counts.add(len(figure.axes[-1].get_yticks()))
        pyplot.close(figure)
    assert len(counts) == 1


@pytest.mark.parametrize("display", [AttributionDisplay, ImportanceDisplay])
def test_maps_of_a_layer_are_refused(display):
    X = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    net = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.ReLU(), torch.nn.Linear(7, 2))
    explainer = EmbeddingAttributor(net, layer="0").fit(X)
    with pytest.raises(ValueError, match=r"entry of a sample, \(n, 5\), but what EmbeddingAttri"):
        display.from_estimator(explainer, X)
