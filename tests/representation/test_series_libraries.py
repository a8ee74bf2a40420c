"""Estimators as libraries for series have them: without tags, counting other axes, with frames."""

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sklexplain import ClaDecExplainer, DKNNImportance, LabelFreeAttributor, SimplExImportance
from sklexplain.representation import is_fitted

RNG = np.random.RandomState(0)
X = RNG.normal(size=(20, 2, 6))  # (n, channels, time)
T = np.ascontiguousarray(X.swapaxes(1, 2))  # (n, time, channels)
Y = np.arange(20) % 2


class Untagged:
    """Parameters, and nothing else of scikit-learn: no tags, no mixins."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def get_params(self, deep=True):
        return {"scale": self.scale}

    def set_params(self, **params):
        vars(self).update(params)
        return self


class Says(Untagged):
    """Says whether it is fitted, and keeps what it has learnt under a private name."""

    _is_fitted = False

    @property
    def is_fitted(self):
        return self._is_fitted

    def fit(self, X, y=None):
        self._mean = X.mean(axis=0)
        self._is_fitted = True
        return self

    def transform(self, X):
        return self.scale * np.stack([(X - self._mean).mean(axis=2)[:, 0], X.std(axis=(1, 2))], 1)


class Shows(Untagged):
    """Shows by an attribute that it is fitted; a classifier."""

    def fit(self, X, y=None):
        self.means_ = np.stack([X[y == label].mean(axis=0) for label in np.unique(y)])
        return self

    def predict_proba(self, X):
        distance = ((X[:, None] - self.means_) ** 2).sum(axis=(2, 3))
        p = np.exp(-self.scale * distance / 10)
        return p / p.sum(axis=1, keepdims=True)

    def predict(self, X):
        return self.predict_proba(X).argmax(axis=1)


class CountsTheLastAxis(TransformerMixin, BaseEstimator):
    """Scales series (n, time, channels); ``n_features_in_`` is the number of channels."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[-1]
        self.mean_ = X.mean(axis=(0, 1))
        return self

    def transform(self, X):
        return X - self.mean_


def shapley_sums(estimator, X, method):
    """What attributions of each sample must sum to: <f(x), f(x) - f(mean)>."""
    z = getattr(estimator, method)(X).reshape(len(X), -1)
    z_mean = getattr(estimator, method)(X.mean(axis=0, keepdims=True)).reshape(1, -1)
    return np.einsum("ij,ij->i", z, z - z_mean)


CASES = {
    "says": (Says, X, "transform"),
    "shows": (Shows, X, "predict_proba"),
    "last axis": (CountsTheLastAxis, T, "transform"),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request):
    make, samples, method = request.param
    return make().fit(samples, Y), samples, method


def test_shapley_values_sum_to_the_change(case):
    estimator, samples, method = case
    explainer = LabelFreeAttributor(estimator, method="shapley_sampling", random_state=0)
    maps = explainer.fit(samples).transform(samples)
    assert maps.shape == samples.shape
    expected = shapley_sums(estimator, samples, method)
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), expected, rtol=1e-8, atol=1e-10)


def test_neighbours_are_those_of_the_output(case):
    estimator, samples, method = case
    z = getattr(estimator, method)(samples).reshape(len(samples), -1)
    distance = np.linalg.norm(z[:, None] - z[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    explainer = DKNNImportance(estimator, n_neighbors=3).fit(samples)
    _, index = explainer.top_examples(samples, 1, exclude_self=True)
    np.testing.assert_array_equal(index[:, 0], distance.argmin(axis=1))


def test_combinations_and_reconstructions(case):
    estimator, samples, _ = case
    weights = SimplExImportance(estimator).fit(samples).transform(samples[:4])
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    explainer = ClaDecExplainer(
        estimator, reference=None, max_epochs=1, validation_split=None, random_state=0
    )
    assert explainer.fit(samples).transform(samples).shape == samples.shape


def test_unfitted_ones_are_cloned_and_fitted(case):
    estimator, samples, _ = case
    fresh = clone(estimator)
    explainer = DKNNImportance(fresh, n_neighbors=3).fit(samples, Y)
    assert explainer.estimator_ is not fresh and not is_fitted(fresh)
    assert is_fitted(explainer.estimator_)
    expected = DKNNImportance(estimator, n_neighbors=3).fit(samples).transform(samples)
    np.testing.assert_allclose(
        explainer.transform(samples).toarray(), expected.toarray(), atol=1e-12
    )


def test_clones_and_searches_share_what_is_fitted(case):
    estimator, samples, _ = case
    again = clone(DKNNImportance(estimator, n_neighbors=3))
    assert isinstance(again.estimator, FrozenEstimator) and again.estimator.estimator is estimator
    again.fit(samples)
    assert again.estimator_ is estimator or again.estimator_.estimator is estimator
    search = GridSearchCV(DKNNImportance(estimator), {"n_neighbors": [2, 3]}, cv=2)
    assert search.fit(samples).best_params_["n_neighbors"] in (2, 3)


def test_steps_of_a_pipeline():
    pipeline = make_pipeline(Says(), LogisticRegression()).fit(X, Y)
    explainer = LabelFreeAttributor(pipeline, method="shapley_sampling", random_state=0).fit(X)
    expected = shapley_sums(pipeline, X, "predict_proba")
    np.testing.assert_allclose(explainer.transform(X).sum(axis=(1, 2)), expected, rtol=1e-6)
    pipeline = make_pipeline(CountsTheLastAxis()).fit(T)
    assert DKNNImportance(pipeline, n_neighbors=2).fit(T).transform(T).shape == (20, 20)
    mixed = make_pipeline(Says().fit(X), LogisticRegression())
    with pytest.raises(NotFittedError, match="step 'logisticregression' is not fitted"):
        DKNNImportance(mixed).fit(X)


def test_only_widths_of_tables_are_compared():
    with pytest.raises(ValueError, match="X has 3 features, but CountsTheLastAxis was fitted on 2"):
        DKNNImportance(CountsTheLastAxis().fit(X[:, 0, :2])).fit(X[:, 0, :3])


@pytest.mark.parametrize("classifier", [False, True])
def test_gradients_name_the_step_that_has_none(classifier):
    # scikit-learn's Pipelines themselves want tags of their last step.
    pipeline = (
        make_pipeline(Says(), LogisticRegression()).fit(X, Y) if classifier else Says().fit(X)
    )
    with pytest.raises(TypeError, match="Says.*no torch form.*shapley_sampling"):
        LabelFreeAttributor(pipeline).fit(X)


def test_scalers_of_series_in_front_of_a_network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rnn = nn.LSTM(2, 3, batch_first=True)
    explainer = DKNNImportance(rnn, layer="[1][0]", n_neighbors=2)
    assert explainer.fit(T.astype(np.float32)).transform(T.astype(np.float32)).shape == (20, 20)
