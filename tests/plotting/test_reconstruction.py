import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from matplotlib.colors import to_rgba
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

from sklexplain import ClaDecExplainer
from sklexplain.plotting import INK, ReconstructionDisplay

OPTIONS = {"max_epochs": 1, "validation_split": None, "random_state": 0}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


@pytest.mark.parametrize(
    ("shape", "channel_axis", "kind", "with_reference"),
    [
        ((12,), None, None, True),
        ((12,), None, None, False),
        ((12,), None, "series", True),
        ((2, 12), 0, None, True),
        ((2, 12), 0, None, False),
        ((12, 3), 1, "series", True),
        ((6, 7), None, None, True),
        ((1, 6, 7), 0, None, True),
        ((3, 6, 7), 0, "image", True),
        ((3, 6, 7), 0, "image", False),
    ],
)
def test_every_kind_is_drawn(shape, channel_axis, kind, with_reference):
    inputs, references, reconstructions = np.random.default_rng(0).normal(size=(3, 2, *shape))
    display = ReconstructionDisplay(
        inputs,
        reconstructions,
        references=references if with_reference else None,
        channel_axis=channel_axis,
        kind=kind,
    )
    assert display.plot() is display
    display.figure_.draw_without_rendering()
    assert display.axes_.shape == (3 + with_reference, 2)
    names = ["input", "reference", "reconstruction", "difference"]
    names = names if with_reference else [name for name in names if name != "reference"]
    assert [panel.get_ylabel() for panel in display.axes_[:, 0]] == names
    assert [panel.get_title() for panel in display.axes_[0]] == [f"sample {i}" for i in range(2)]


def test_series_shown_are_those_given():
    inputs, references, reconstructions = np.random.default_rng(0).normal(size=(3, 2, 9))
    display = ReconstructionDisplay(inputs, reconstructions, references=references, kind="series")
    display.plot()
    drawn = [[panel.lines[0].get_ydata() for panel in panels] for panels in display.axes_]
    expected = [inputs, references, reconstructions, reconstructions - references]
    np.testing.assert_array_equal(drawn, expected)
    limits = {panel.get_ylim() for panel in display.axes_[:3].ravel()}
    assert len(limits) == 1  # heights can be compared
    low, high = display.axes_[3, 0].get_ylim()
    assert low == -high


def test_images_have_one_scale():
    inputs = np.zeros((2, 1, 4, 4))
    inputs[0, 0, 0, 0] = 2.0
    references, reconstructions = inputs / 2, inputs + 1
    display = ReconstructionDisplay(inputs, reconstructions, references=references, channel_axis=0)
    display.plot()
    shown = [panel.images[0].get_array() for panel in display.axes_[:, 0]]
    assert [s[0, 0] for s in shown] == [1.0, 0.5, 1.0, 2.0]  # the third one clipped
    assert [s[1, 1] for s in shown] == [0.0, 0.0, 0.5, 1.0]
    norm = display.axes_[3, 0].images[0].norm
    assert norm.vmin == -norm.vmax


def test_bars_of_a_table():
    inputs = np.array([[1.0, 200.0, 3.0]])
    reconstructions = np.array([[2.0, 100.0, 3.5]])
    display = ReconstructionDisplay(
        inputs,
        reconstructions,
        feature_names=["a", "b$", "c"],
        center=[0, 100, 3],
        scale=[1, 50, 0.1],
        n_top=2,
    ).plot()
    widths = [[bar.get_width() for bar in panel.patches] for panel in display.axes_[:, 0]]
    # Those with the largest differences for their scale: b (-2) and c (5).
    np.testing.assert_allclose(widths, [[2, 0], [0, 5], [-2, 5]])
    assert [t.get_text() for t in display.axes_[0, 0].get_yticklabels()] == ["b$", "c"]
    assert display.axes_[0, 0].patches[0].get_facecolor() == to_rgba(INK)
    assert display.axes_[-1, 0].get_xlabel() == "standard deviations"
    display.figure_.draw_without_rendering()


def test_from_estimator():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(20, 3)) * [1, 10, 0] + 5, columns=["a", "b", "c"])
    explainer = ClaDecExplainer(PCA(1), **OPTIONS).fit(X)
    display = ReconstructionDisplay.from_estimator(explainer, X, index=[3, -1])
    assert [panel.get_title() for panel in display.axes_[0]] == ["sample 3", "sample 19"]
    np.testing.assert_allclose(display.inputs, X.iloc[[3, 19]])
    np.testing.assert_allclose(display.reconstructions, explainer.transform(X.iloc[[3, 19]]))
    np.testing.assert_allclose(display.references, explainer.transform_reference(X.iloc[[3, 19]]))
    np.testing.assert_allclose(display.scale[:2], X.std(ddof=0)[:2])
    assert display.scale[2] == 1
    assert list(display.feature_names) == ["a", "b", "c"]
    of_two = ReconstructionDisplay.from_estimator(explainer, X[:2])
    np.testing.assert_array_equal(of_two.scale, display.scale)  # of the fitted data
    np.testing.assert_allclose(of_two.center, X.mean())
    assert ReconstructionDisplay.from_estimator(explainer, X).axes_.shape == (4, 5)
    assert ReconstructionDisplay.from_estimator(explainer, X, index=2).axes_.shape == (4, 1)
    _, ax = pyplot.subplots()
    assert ReconstructionDisplay.from_estimator(explainer, X, ax=ax).ax_ is ax


def test_from_estimator_of_networks_and_encoders():
    X = np.random.default_rng(0).normal(size=(8, 20)).astype(np.float32)
    net = nn.Sequential(
        nn.Unflatten(1, (1, 20)), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(36, 2)
    )
    explainer = ClaDecExplainer(net, reference=None, **OPTIONS).fit(X)
    display = ReconstructionDisplay.from_estimator(explainer, torch.from_numpy(X).numpy())
    assert display.kind == "series"
    assert display.axes_.shape == (3, 5)
    table = pd.DataFrame({"a": list("uvuvuvuv"), "b": np.arange(8.0)})
    encode = ColumnTransformer([("one", OneHotEncoder(), ["a"]), ("s", StandardScaler(), ["b"])])
    explainer = ClaDecExplainer(make_pipeline(encode, PCA(1)), **OPTIONS).fit(table)
    display = ReconstructionDisplay.from_estimator(explainer, table)
    assert list(display.feature_names) == ["a_0", "a_1", "b"]


@pytest.mark.parametrize(
    ("reconstructions", "options", "message"),
    [
        (np.zeros((2, 4)), {}, r"reconstructions of shape \(2, 4\) do not fit"),
        (np.zeros((2, 3)), {"references": np.zeros((1, 3))}, "references of shape"),
        (np.zeros((2, 3)), {"titles": ["a"]}, "1 titles for 2 samples"),
        (np.zeros((2, 3)), {"kind": "image"}, "does not fit"),
        (np.zeros((2, 3)), {"feature_names": ["a"]}, "1 feature_names for 3"),
    ],
)
def test_what_does_not_fit(reconstructions, options, message):
    with pytest.raises(ValueError, match=message):
        ReconstructionDisplay(np.zeros((2, 3)), reconstructions, **options).plot()


def test_columns_of_images_stand_below_each_other():
    images = np.random.RandomState(0).rand(3, 5, 5)
    display = ReconstructionDisplay(images, images * 0.5, kind="image").plot()
    display.figure_.canvas.draw()
    left = np.array([[ax.get_position().x0 for ax in row] for row in display.axes_])
    np.testing.assert_allclose(left, np.broadcast_to(left[0], left.shape), atol=1e-6)


def test_positions_and_containers():
    X = load_iris().data
    options = {"reference": None, "max_epochs": 1, "validation_split": None, "random_state": 0}
    explainer = ClaDecExplainer(PCA(2), **options).fit(X)
    display = ReconstructionDisplay.from_estimator(explainer, X.tolist(), index=[2, 5])
    np.testing.assert_array_equal(display.inputs, X[[2, 5]])
    with pytest.raises(TypeError, match="flatnonzero"):
        ReconstructionDisplay.from_estimator(explainer, X, index=np.arange(150) < 2)
    with pytest.raises(ValueError, match="over 3 axes"):
        ReconstructionDisplay(np.zeros((2, 1, 3, 3, 3)), np.zeros((2, 1, 3, 3, 3))).plot()
