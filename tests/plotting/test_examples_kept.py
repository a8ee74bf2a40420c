"""Displays of examples without the training set: from what an explainer has kept of it."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklexplain import DKNNImportance, InfluenceImportance, SimplExImportance, TracInImportance
from sklexplain.nets import Autoencoder
from sklexplain.plotting import ExampleDisplay

RNG = np.random.RandomState(0)
X = RNG.randn(30, 4).astype(np.float32)


def autoencoder():
    return Autoencoder(
        "mlp", hidden_layer_sizes=(4,), n_components=2, max_epochs=1, validation_split=None
    )


@pytest.mark.parametrize(
    "explainer",
    [
        DKNNImportance(PCA(2)),
        SimplExImportance(PCA(2), n_keep=3),
        InfluenceImportance(autoencoder()),
        TracInImportance(autoencoder()),
    ],
    ids=lambda e: type(e).__name__,
)
@pytest.mark.filterwarnings("ignore::sklexplain.exceptions.SklexplainWarning")
def test_every_explainer_has_its_examples(explainer):
    frame = pd.DataFrame(X, index=[f"p{i}" for i in range(30)])
    frame.columns = list("abcd")
    explainer.fit(frame)
    kept = ExampleDisplay.from_estimator(explainer, frame, index=7, n_examples=3)
    given = ExampleDisplay.from_estimator(explainer, frame, X_train=frame, index=7, n_examples=3)
    np.testing.assert_array_equal(kept.examples, given.examples)
    assert kept.titles == given.titles and kept.titles[0].startswith("training example p")


def mixed():
    return pd.DataFrame(
        {
            "age": np.where(np.arange(30) == 3, np.nan, np.arange(30.0)),
            "city": np.array(["Graz", "Linz"])[np.arange(30) % 2],
            "seen": pd.date_range("2024-01-01", periods=30),
            "unread": np.arange(30) % 3 > 0,
        }
    )


@pytest.mark.parametrize("unit", ["ns", "us"])
@pytest.mark.parametrize("container", [pd.DataFrame, pl.from_pandas])
def test_cells_of_mixed_tables_are_what_they_were(container, unit):
    frame = container(mixed().astype({"seen": f"datetime64[{unit}]"}))
    columns = make_column_transformer((SimpleImputer(), ["age"]), (OneHotEncoder(), ["city"]))
    forest = make_pipeline(columns, RandomForestClassifier(3, random_state=0))
    explainer = DKNNImportance(forest).fit(frame, np.arange(30) % 2)
    display = ExampleDisplay.from_estimator(explainer, frame, index=4, n_examples=3)
    _, places = explainer.top_examples(frame[4:5], 3)
    for row, place in zip(np.asarray(display.examples), places[0], strict=True):
        cells = mixed().iloc[place]
        assert row[1:].tolist() == cells.tolist()[1:] or row[2] == cells["seen"].to_pydatetime()
        assert row[0] == cells["age"] or (row[0] != row[0] and cells["age"] != cells["age"])


def test_what_is_not_kept_is_asked_for():
    frame = mixed()
    columns = make_column_transformer((StandardScaler(), ["age"]))  # the others are not read
    explainer = DKNNImportance(make_pipeline(columns, PCA(1))).fit(frame.fillna(0.0))
    frame = frame.fillna(0.0)
    with pytest.raises(ValueError, match="give X_train, what it was fitted on"):
        ExampleDisplay.from_estimator(explainer, frame)
    ExampleDisplay.from_estimator(explainer, frame, X_train=frame)
    with pytest.raises(ValueError, match="X_train has 29 rows, but .* fitted on 30"):
        ExampleDisplay.from_estimator(explainer, frame, X_train=frame[:29])


class Others(BaseEstimator):
    """An explainer that is none of the library's."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        self._sample = DKNNImportance(PCA(2)).fit(X)._sample
        return self

    def top_examples(self, X, k):
        return np.ones((1, k)), np.arange(k)[None]


def test_others_with_top_examples():
    other = Others().fit(X)
    display = ExampleDisplay.from_estimator(other, X, X_train=X, n_examples=2)
    np.testing.assert_array_equal(display.examples, X[:2])
    with pytest.raises(TypeError, match="Others does not keep its training examples"):
        ExampleDisplay.from_estimator(other, X)


def twice():
    parts = [pd.DataFrame(X[rows].astype(float), columns=list("abcd")) for rows in (slice(15),) * 2]
    parts[1] = parts[1] + 5.0
    return pd.concat(parts)


SHUFFLED = pd.DataFrame(X, columns=list("abcd")).sample(frac=1, random_state=0)


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("frame", [twice(), SHUFFLED], ids=["labels twice", "shuffled"])
@pytest.mark.parametrize(
    ("fitted", "shown"),
    [(lambda f: f, lambda f: f), (np.asarray, lambda f: f), (lambda f: f, np.asarray)],
    ids=["frame", "array shown as a frame", "frame shown as an array"],
)
@pytest.mark.parametrize("explainer", [DKNNImportance(PCA(2)), TracInImportance(autoencoder())])
@pytest.mark.filterwarnings("ignore::sklexplain.exceptions.SklexplainWarning")
def test_examples_are_found_by_position(explainer, fitted, shown, frame, given):
    frame = frame.astype(np.float32)
    explainer.fit(fitted(frame))
    X_train = shown(frame) if given else None
    display = ExampleDisplay.from_estimator(
        explainer, fitted(frame[3:4]), X_train=X_train, n_examples=2
    )
    importance = np.asarray(explainer.transform(fitted(frame[3:4])))[0]
    places = np.argsort(-importance, kind="stable")[:2]
    np.testing.assert_allclose(display.examples, frame.to_numpy()[places], rtol=1e-6)
    labels = np.arange(30) if fitted is np.asarray else frame.index.to_numpy()
    assert display.titles == [f"training example {label}" for label in labels[places]]


def test_labels_of_others_must_tell_rows_apart():
    frame = pd.DataFrame(X, columns=list("abcd"), index=np.arange(30)[::-1])
    other = Others().fit(X)
    display = ExampleDisplay.from_estimator(other, X, X_train=frame, n_examples=2)
    np.testing.assert_array_equal(display.examples, X[[29, 28]])
    with pytest.raises(ValueError, match="X_train has 0 in its index more than once"):
        ExampleDisplay.from_estimator(other, X, X_train=twice(), n_examples=2)
    frame.index += 1
    with pytest.raises(ValueError, match="X_train has no row labelled 0"):
        ExampleDisplay.from_estimator(other, X, X_train=frame, n_examples=2)


def test_n_examples_is_named_if_it_is_no_number():
    with pytest.raises(ValueError, match="n_examples"):
        ExampleDisplay.from_estimator(DKNNImportance(PCA(2)).fit(X), X, n_examples=0)
