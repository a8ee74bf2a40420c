"""Outputs that take few different values on the data are told, once, and cheaply."""

import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.decomposition import KernelPCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Perceptron
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from sklexplain import ClaDecExplainer, DKNNImportance, LabelFreeAttributor, SimplExImportance
from sklexplain.exceptions import FewValuesWarning

RNG = np.random.RandomState(0)
X = RNG.normal(size=(200, 3))


class Steps(RegressorMixin, BaseEstimator):
    """A regressor that takes a number of values, and counts the rows that it is given."""

    def __init__(self, n_values=3):
        self.n_values = n_values

    def fit(self, X, y=None):
        self.edges_ = np.quantile(X[:, 0], np.linspace(0, 1, self.n_values + 1)[1:-1])
        self.n_rows_ = 0
        return self

    def predict(self, X):
        self.n_rows_ += len(X)
        return np.digitize(X[:, 0], self.edges_) / 7


def explain(estimator, X=X, **params):
    return LabelFreeAttributor(estimator, method="feature_ablation", **params).fit(X)


def texts(estimator, X=X, **params):
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        explain(estimator, X, **params)
    return [str(w.message) for w in record if w.category is FewValuesWarning]


@pytest.mark.parametrize(
    ("n", "n_values", "told"),
    [
        (39, 1, False),  # too few samples to say
        (40, 1, True),
        (40, 10, True),
        (40, 11, False),
        (200, 10, True),
        (200, 11, False),
        (400, 20, True),
        (400, 21, False),
        (1000, 50, True),
        (1000, 51, False),
        (3000, 50, True),  # of the thousand samples that are looked at
        (3000, 150, False),
    ],
)
def test_a_twentieth_or_ten_are_few(n, n_values, told):
    X = RNG.normal(size=(n, 3))
    (*text,) = texts(Steps(n_values).fit(X), X)
    assert len(text) == told
    if told:
        plural = "s" if n_values > 1 else ""
        assert f"takes only {n_values} different value{plural} on {min(n, 1000)} samp" in text[0]


@pytest.mark.parametrize("n", [100, 1000, 20_000])
def test_seeing_that_there_are_enough_takes_few_rows(n):
    X = RNG.normal(size=(n, 3))
    steps = Steps(n).fit(X)
    explain(steps, X)
    assert steps.n_rows_ <= 10 + max(20, min(n, 1000) // 10)


def test_few_different_samples_have_few_outputs():
    rows = np.repeat(RNG.normal(size=(8, 3)), 10, axis=0)
    assert not texts(KernelPCA(2, kernel="rbf").fit(rows), rows)
    assert texts(Steps(3).fit(rows), rows)


def test_rounding_makes_no_difference():
    class Rounded(Steps):
        def predict(self, X):
            return super().predict(X) + 1e-13 * X[:, 1]

    assert texts(Rounded().fit(X))


@pytest.mark.parametrize(
    "estimator",
    [DecisionTreeClassifier(), KNeighborsClassifier(1)],
    ids=repr,
)
def test_one_hot_probabilities_ask_for_probabilistic_steps(estimator):
    y = (X[:, 0] > 0).astype(int)
    (text,) = texts(make_pipeline(StandardScaler(), estimator).fit(X, y))
    assert "probabilities are 0 or 1" in text
    assert "calibrated or probabilistic last step" in text


class OneHot(ClassifierMixin, BaseEstimator):
    """As classifiers that turn the sign of their scores into probabilities."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        return X[:, 0]

    def predict_proba(self, X):
        return np.stack([X[:, 0] <= 0, X[:, 0] > 0], axis=1).astype(float)


def test_another_method_is_named_where_there_is_one():
    one_hot = OneHot().fit(X, X[:, 0] > 0)
    (text,) = texts(one_hot)
    assert text.endswith(
        "Use response_method='decision_function', or a calibrated or probabilistic last step "
        "(CalibratedClassifierCV)."
    )
    assert not texts(one_hot, response_method="decision_function")


def test_every_explainer_of_black_boxes_tells():
    tree = DecisionTreeRegressor(max_depth=3).fit(X, X[:, 0])
    cladec = ClaDecExplainer(tree, reference=None, max_epochs=1, validation_split=None)
    for explainer in (DKNNImportance(tree), SimplExImportance(tree), cladec):
        with pytest.warns(FewValuesWarning, match="predict of DecisionTreeRegressor takes only 8"):
            explainer.fit(X)
        with warnings.catch_warnings():
            warnings.simplefilter("error", FewValuesWarning)
            explainer.transform(X[:3])  # once, in fit


def test_what_has_a_torch_form_is_not_looked_at():
    assert not texts(Perceptron().fit(X, X[:, 0] > 0))


def test_forests_with_enough_trees_are_fine():
    assert not texts(RandomForestClassifier(random_state=0).fit(X, X[:, 0] + X[:, 1] > 0))
