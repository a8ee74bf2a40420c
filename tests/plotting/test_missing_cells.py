"""Cells without a value are drawn as missing, whatever a table writes in them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from sklexplain import AnomalyAttributor, DKNNImportance, LabelFreeAttributor
from sklexplain.plotting import (
    AnomalyDisplay,
    AttributionDisplay,
    DictionaryDisplay,
    ExampleDisplay,
    ImportanceDisplay,
    format_value,
    numbers_of,
)
from sklexplain.report import RepresentationReport
from sklexplain.utils import is_missing

N = 40


def mixed():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.integers(20, 90, N).astype(float),
            "dose": rng.normal(size=N).round(2),
            "city": rng.choice(["Graz", "Linz"], N),
        }
    )
    frame.loc[3, "age"], frame.loc[3, "dose"], frame.loc[[3, 5], "city"] = np.nan, np.nan, None
    return frame


FRAMES = {
    "numpy": lambda frame: frame,
    "nullable": lambda frame: frame.convert_dtypes(),
    "pyarrow": lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
}


def floats(X):
    cells = {name: X[name].to_numpy(dtype="float64", na_value=np.nan) for name in X}
    return pd.DataFrame(cells, index=X.index)


def words(X):
    return X.astype(object).where(X.notna(), "none")


def model():
    numbers = make_pipeline(FunctionTransformer(floats), SimpleImputer())
    texts = make_pipeline(FunctionTransformer(words), OneHotEncoder(handle_unknown="ignore"))
    columns = make_column_transformer((numbers, ["age", "dose"]), (texts, ["city"]))
    return make_pipeline(columns, PCA(2))


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(params=FRAMES)
def frame(request):
    if request.param == "pyarrow":
        pytest.importorskip("pyarrow")
    return FRAMES[request.param](mixed())


def labels_of(display):
    return {label.get_text().partition(" = ")[0]: label.get_text() for label in labels(display)}


def labels(display):
    return display.ax_.get_yticklabels()


def test_attribution_display(frame):
    explainer = LabelFreeAttributor(model(), method="feature_ablation").fit(frame)
    shown = labels_of(AttributionDisplay.from_estimator(explainer, frame, index=3))
    assert set(shown.values()) == {"age = missing", "dose = missing", "city = missing"}


@pytest.mark.filterwarnings("ignore:.*calibration samples")
def test_anomaly_display(frame):
    explainer = AnomalyAttributor(model(), method="feature_ablation").fit(frame)
    shown = labels_of(AnomalyDisplay.from_estimator(explainer, frame, index=3))
    assert shown["city"].startswith("city = missing")


@pytest.mark.parametrize("given", [True, False])
def test_example_display(frame, given):
    explainer = DKNNImportance(model()).fit(frame)
    X_train = frame if given else None
    display = ExampleDisplay.from_estimator(explainer, frame, X_train=X_train, index=3)
    cells = display.ax_.tables[0].get_celld()
    assert [cells[i, 0].get_text().get_text() for i in (1, 2, 3)] == ["missing"] * 3


def test_importance_display_colours_what_is_known(frame):
    maps = np.random.default_rng(0).normal(size=(N, 3))
    drawn = [
        [points.get_facecolors() for points in ImportanceDisplay(maps, X).plot().ax_.collections]
        for X in (frame, mixed())
    ]
    for found, expected in zip(*drawn, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert sorted(len(np.unique(colors, axis=0)) > 1 for colors in drawn[0]) == [False, True, True]


def test_dictionary_display_shows_medians_of_what_is_known():
    ages = np.array([[1, pd.NA, 5, 3], [pd.NA, pd.NA, pd.NA, 8]], dtype=object)
    names = np.array([["a", "b", "b", pd.NA]] * 2, dtype=object)
    examples = np.stack([ages, names], axis=2)
    display = DictionaryDisplay(examples, np.ones((2, 4)), np.ones((2, 4, 2)), kind="table").plot()
    shown = [
        [label.get_text() for label in ax.get_yticklabels()]
        for ax in display.figure_.axes
        if ax.get_yticklabels() and "≈" in ax.get_yticklabels()[0].get_text()
    ]
    assert shown == [["x0 ≈ 3", "x1 ≈ b"], ["x0 ≈ 8", "x1 ≈ b"]]


def test_dates_without_a_value_are_grey():
    dates = pd.DataFrame({"seen": pd.date_range("2024-01-01", periods=N)})
    dates.loc[3, "seen"] = pd.NaT
    maps = np.random.default_rng(0).normal(size=(N, 1))
    colors = ImportanceDisplay(maps, dates).plot().ax_.collections[0].get_facecolors()
    low, gap, high = colors[0], colors[3], colors[-1]
    assert low[2] > low[0] and high[0] > high[2] and abs(gap[0] - gap[2]) < 0.01


@pytest.mark.parametrize("grouped", [True, False])
def test_report(frame, grouped, tmp_path):
    y = (np.arange(N) % 2) if grouped else None
    report = RepresentationReport(model(), n_explained=10, random_state=0, anomalies=False)
    report.fit(frame, y)
    text = report.to_html(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "&lt;NA&gt;" not in text and ("What makes each label" in text) == grouped
    if grouped:
        expected = RepresentationReport(model(), n_explained=10, random_state=0, anomalies=False)
        expected.fit(mixed(), y)
        for one, other in zip(report.clusters_.classes, expected.clusters_.classes, strict=True):
            np.testing.assert_allclose(
                one.sample[:2].astype(float), other.sample[:2].astype(float), rtol=1e-12
            )
            assert one.sample[2] == other.sample[2] and one.others[2] == other.others[2]


@pytest.mark.parametrize("value", [None, np.nan, np.float32("nan"), pd.NA, pd.NaT, float("nan")])
def test_what_is_missing(value):
    assert is_missing(value) and format_value(value) == "missing"


@pytest.mark.parametrize("value", [0, 0.0, "", "nan", False, np.inf, pd.Timestamp(0)])
def test_what_is_not_missing(value):
    assert not is_missing(value) and format_value(value) != "missing"


def test_numbers_of():
    np.testing.assert_array_equal(
        numbers_of(np.array([1, pd.NA, None, 2.5], dtype=object)), [1, np.nan, np.nan, 2.5]
    )
    assert numbers_of(np.array(["1", "2"], dtype=object)) is None
    assert numbers_of(np.array(["1", "2"])) is None
