"""Methods that exist and do not work; constructors that make what looks fitted."""

import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, OutlierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklexplain import ClaDecExplainer, DKNNImportance, LabelFreeAttributor
from sklexplain.representation import is_fitted

X = np.random.RandomState(0).normal(size=(60, 4))
y = (X[:, 0] > 0).astype(int)


class Margin(ClassifierMixin, BaseEstimator):
    """Has probabilities in its class, and none to give."""

    error = AttributeError

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.w_ = X[y == 1].mean(axis=0)
        return self

    def predict(self, X):
        return self.classes_[(self.decision_function(X) > 0).astype(int)]

    def predict_proba(self, X):
        raise self.error("fit with probability=True")

    def decision_function(self, X):
        return X @ self.w_


class MarginNotImplemented(Margin):
    error = NotImplementedError


class Mute(Margin):
    def decision_function(self, X):
        raise NotImplementedError("later")


@pytest.mark.parametrize("estimator", [Margin(), MarginNotImplemented()])
@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("response_method", ["auto", ["predict_proba", "decision_function"]])
def test_the_next_method_is_explained_where_one_does_not_work(estimator, piped, response_method):
    model = make_pipeline(StandardScaler(), estimator) if piped else estimator
    fitted = model.fit(X, y)
    attributor = LabelFreeAttributor(
        fitted, method="shapley_sampling", random_state=0, response_method=response_method
    ).fit(X)
    # Of a linear function all orders of the columns give the same.
    scaled = fitted[:-1].transform(X) if piped else X
    weights = (fitted[-1] if piped else fitted).w_
    expected = (scaled[:5] - scaled.mean(axis=0)) * weights
    np.testing.assert_allclose(attributor.unit_attributions(X[:5])[:, 0], expected, atol=1e-10)
    again = pickle.loads(pickle.dumps(attributor))
    np.testing.assert_array_equal(again.transform(X[:5]), attributor.transform(X[:5]))


def test_a_method_asked_for_by_name_raises_what_it_raises():
    attributor = LabelFreeAttributor(
        Margin().fit(X, y), method="shapley_sampling", response_method="predict_proba"
    )
    with pytest.raises(AttributeError, match="probability=True"):
        attributor.fit(X)


def test_where_nothing_works_the_first_error_is_raised():
    with pytest.raises(AttributeError, match="probability=True"):
        DKNNImportance(Mute().fit(X, y)).fit(X)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_decoding_compares_margins_where_there_are_no_probabilities():
    explainer = ClaDecExplainer(Margin().fit(X, y), reference=None, max_epochs=2, random_state=0)
    assert explainer.fit(X).transform(X[:3]).shape == (3, 4)


def test_discriminants_by_least_squares_have_probabilities_only():
    model = LinearDiscriminantAnalysis(solver="lsqr").fit(X, y)
    with pytest.raises(NotImplementedError):
        model.transform(X)
    attributor = LabelFreeAttributor(model, method="kernel_shap", random_state=0).fit(X)
    change = model.predict_proba(X[:4]) - model.predict_proba(X.mean(axis=0)[None])
    sums = attributor.unit_attributions(X[:4]).sum(axis=2)
    np.testing.assert_allclose(sums, change, atol=1e-8)


class Detector(OutlierMixin, BaseEstimator):
    """Makes attributes in its constructor, and probabilities that are cut off."""

    def __init__(self, n_neighbors=5):
        self.n_neighbors = n_neighbors
        self.neighbors_ = NearestNeighbors(n_neighbors=n_neighbors)
        self.scores_ = None

    def fit(self, X, y=None):
        self.neighbors_.fit(X)
        self.scores_ = self.decision_function(X)
        return self

    def decision_function(self, X):
        return self.neighbors_.kneighbors(X)[0][:, -1]

    def predict_proba(self, X):
        high = np.clip(self.decision_function(X) / self.scores_.max(), 0, 1)
        return np.stack([1 - high, high], axis=1)

    def predict(self, X):
        return np.where(self.decision_function(X) > self.scores_.max(), -1, 1)


class OldDetector:
    """Without tags, as of a library that has its own ways."""

    def __init__(self):
        self.labels_ = []

    def get_params(self, deep=True):
        return {}

    def fit(self, X):
        self.labels_ = [0] * len(X)
        return self

    def decision_function(self, X):
        return X.sum(axis=1)


@pytest.mark.parametrize("detector", [Detector(), OldDetector()])
def test_attributes_of_the_constructor_are_not_learnt(detector):
    assert is_fitted(detector) is False
    assert is_fitted(type(detector)().fit(X)) is True


def test_attributes_that_differ_from_the_constructors_are_learnt():
    detector = Detector()
    detector.neighbors_.fit(X)
    assert is_fitted(detector) is True


def test_an_estimator_that_its_class_cannot_make_is_judged_by_its_attributes():
    class Odd(Margin):
        def __init__(self, given):
            self.other = given

        def get_params(self, deep=True):
            return {}

    assert is_fitted(Odd(1)) is False
    assert is_fitted(Odd(1).fit(X, y)) is True


def test_scores_of_a_detector_come_before_its_probabilities():
    detector = Detector().fit(X)
    far = np.vstack([np.full((1, 4), 9.0), X[:3]])
    dknn = DKNNImportance(detector, n_neighbors=2).fit(X)
    assert dknn._representation.method == "decision_function"
    attributor = LabelFreeAttributor(detector, method="shapley_sampling", random_state=0).fit(X)
    change = detector.decision_function(far) - detector.decision_function(X.mean(axis=0)[None])
    sums = attributor.unit_attributions(far)[:, 0].sum(axis=1)
    np.testing.assert_allclose(sums, change, rtol=1e-8)
