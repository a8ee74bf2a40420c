"""Detectors: what is explained is the score, not the label, of which 1 is "abnormal"."""

import importlib

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

pytest.importorskip("pyod")

from sklexplain import AnomalyAttributor, DKNNImportance, LabelFreeAttributor
from tests import oracles
from tests.tables import CATEGORIES
from tests.tables import NUMBERS as NUMERIC

from .checks import CLASSES, FRAME, NUMBER_CLASSES, NUMBERS, check_three

pytestmark = pytest.mark.filterwarnings("ignore")

DETECTORS = {
    "HBOS": {},
    "IForest": {"n_estimators": 10, "random_state": 0},
    "KDE": {},
    "KNN": {},
    "LOF": {},
    "MCD": {"random_state": 0},
    "OCSVM": {},
    "PCA": {},
}


def detector(name):
    return getattr(importlib.import_module(f"pyod.models.{name.lower()}"), name)(**DETECTORS[name])


@pytest.mark.parametrize("name", DETECTORS)
def test_scores_are_explained(name):
    check_three(detector(name), NUMBERS, NUMBER_CLASSES, method="decision_function")


def test_what_makes_a_sample_abnormal():
    X = NUMBERS.copy()
    X[0, 2] = 9.0
    attributor = LabelFreeAttributor(detector("KNN").fit(X), method="shapley_sampling")
    assert np.argmax(attributor.fit(X).transform(X[:1])[0]) == 2


@pytest.mark.parametrize("name", DETECTORS)
def test_the_sign_of_anomalies(name):
    """PyOD's scores are larger for what is more abnormal, and its labels are 0 and 1."""
    X = np.concatenate([NUMBERS, NUMBERS + 0.01])
    fitted = detector(name).fit(X)
    explainer = AnomalyAttributor(fitted, method="kernel_shap", random_state=0).fit(X)
    odd = X[:3].copy()
    odd[:, 2] += 9.0
    scores = fitted.decision_function(odd)
    np.testing.assert_allclose(explainer.score_samples(odd), -scores, rtol=1e-9)
    assert explainer.score_samples(odd).mean() < explainer.score_samples(X).mean()
    if name not in ("HBOS", "IForest"):  # beyond the data these know nothing
        assert (explainer.transform(odd).argmax(axis=1) == 2).all()


def test_behind_a_table():
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), NUMERIC),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), CATEGORIES),
    )
    pipeline = make_pipeline(columns, detector("KNN"))
    check_three(pipeline, FRAME, CLASSES, method="decision_function", rebuilt=())


@pytest.mark.parametrize("name", ["ECOD", "COPOD"])
def test_scores_that_compare_the_samples_of_a_batch_are_told(name):
    estimator = getattr(importlib.import_module(f"pyod.models.{name.lower()}"), name)()
    estimator.fit(NUMBERS)
    alone = oracles.output(estimator, NUMBERS[:1], "decision_function")
    assert not np.allclose(
        alone, oracles.output(estimator, NUMBERS[:3], "decision_function")[:1], rtol=1e-9
    )
    with pytest.warns(UserWarning, match="compares the samples of a batch"):
        DKNNImportance(estimator).fit(NUMBERS)
