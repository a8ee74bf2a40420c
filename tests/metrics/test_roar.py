"""Remove and retrain, against a loop."""

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklexplain import LabelFreeAttributor
from sklexplain.metrics import roar
from sklexplain.nets import Autoencoder
from sklexplain.utils import draw_seed

RNG = np.random.default_rng(0)
X = RNG.normal(2.0, 1.0, size=(90, 5))
Y = 3 * X[:, 0] + X[:, 1] + 0.1 * RNG.normal(size=90)


def by_weight(model, X_train, X):
    return (X - X_train.mean(axis=0)) * model.coef_


def test_equals_a_loop():
    splitter = KFold(3)
    result = roar(
        LinearRegression(), by_weight, X, Y, shares=(0.5, 0.2), cv=splitter, random_state=0
    )
    assert result.shares.tolist() == [0, 0.2, 0.5]
    assert result.attributed.shape == (3, 3) and result.random.shape == (3, 3, 3)
    for split, (train, test) in enumerate(splitter.split(X)):
        model = LinearRegression().fit(X[train], Y[train])
        maps = by_weight(model, X[train], X)
        for row, n_removed in enumerate([0, 1, 3]):
            masked = X.copy()
            for i in range(90):
                for column in np.argsort(-np.abs(maps[i]))[:n_removed]:
                    masked[i, column] = X[train, column].mean()
            expected = clone(model).fit(masked[train], Y[train]).score(masked[test], Y[test])
            np.testing.assert_allclose(result.attributed[row, split], expected, rtol=1e-10)
    difference = result.random.mean(axis=1) - result.attributed
    areas = 0.2 * difference[1] / 2 + 0.3 * (difference[1] + difference[2]) / 2
    np.testing.assert_allclose(result.gain, areas / 0.5, rtol=1e-10)
    assert (result.random[0] == result.attributed[0]).all()


def test_random_attributions_gain_nothing():
    def at_random(model, X_train, X):
        return np.random.default_rng(1).normal(size=X.shape)

    chance = roar(LinearRegression(), at_random, X, Y, random_state=0, cv=5).gain
    informed = roar(LinearRegression(), by_weight, X, Y, random_state=0, cv=5).gain
    assert abs(chance.mean()) < 0.1 < informed.mean()


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_flat_columns_of_series(container):
    series = X[:, :4].astype(np.float32).reshape(90, 2, 2)
    estimator = Autoencoder(n_components=1, max_epochs=1, validation_split=None, random_state=0)
    attributor = LabelFreeAttributor(estimator, method="saliency", random_state=0)
    options = {"shares": [0.5], "cv": 2, "n_random": 1, "random_state": 0}
    expected = roar(estimator, attributor, series, **options)
    with config_context(transform_output=container):
        found = roar(estimator, attributor, series, **options)
    np.testing.assert_array_equal(found.attributed, expected.attributed)


def test_ties_are_broken_at_random():
    class Removed(BaseEstimator):
        """Its score is the share of the first column's entries that are all the same."""

        def fit(self, X, y=None):
            return self

        def score(self, X, y=None):
            return np.unique(X[:, 0], return_counts=True)[1].max() / len(X)

    def no_column_matters(model, X_train, X):
        return np.zeros_like(X)

    params = dict(shares=(0.2, 0.6), cv=2, n_random=2)
    result = roar(Removed(), no_column_matters, X, random_state=0, **params)
    # Of 45 samples: three standard deviations.
    for share, removed in zip((0.2, 0.6), result.attributed[1:], strict=True):
        assert (abs(removed - share) < 3 * np.sqrt(share * (1 - share) / 45)).all()
    assert not np.array_equal(result.attributed, result.random[:, 0])
    again = roar(Removed(), no_column_matters, X, random_state=0, **params)
    np.testing.assert_array_equal(result.attributed, again.attributed)


def test_one_feature_is_kept():
    result = roar(LinearRegression(), by_weight, X, Y, shares=[0.8, 0.99], cv=2, random_state=0)
    np.testing.assert_array_equal(result.attributed[1], result.attributed[2])


def test_it_repeats_whatever_the_number_of_jobs():
    params = dict(shares=(0.4,), cv=2, n_random=2)
    first = roar(LinearRegression(), by_weight, X, Y, random_state=0, **params)
    with joblib.parallel_config("threading"):
        again = roar(LinearRegression(), by_weight, X, Y, random_state=0, n_jobs=2, **params)
    other = roar(LinearRegression(), by_weight, X, Y, random_state=1, n_jobs=None, **params)
    np.testing.assert_array_equal(first.random, again.random)
    assert not np.array_equal(first.random, other.random)


def test_explainers_classifiers_and_scorings():
    labels = (Y > np.median(Y)).astype(int)
    explainer = LabelFreeAttributor(None, method="feature_ablation", random_state=0)
    result = roar(
        make_pipeline(StandardScaler(), LogisticRegression()),
        explainer,
        X,
        labels,
        shares=(0.2,),
        cv=2,
        n_random=2,
        scoring="roc_auc",
        random_state=0,
    )
    assert (result.gain > 0).all() and explainer.estimator is None


def test_without_labels():
    autoencoder = Autoencoder(
        n_components=2,
        hidden_layer_sizes=(4,),
        max_epochs=2,
        validation_split=None,
        random_state=0,
    )
    explainer = LabelFreeAttributor(None, method="saliency", random_state=0)
    series = RNG.normal(size=(30, 2, 4))
    result = roar(autoencoder, explainer, series, shares=(0.3,), cv=2, n_random=1, random_state=0)
    assert np.isfinite(result.attributed).all() and result.attributed.shape == (2, 2)


def test_data_frames_keep_their_columns():
    frame = pd.DataFrame(X, columns=list("abcde"))
    columns = make_column_transformer((StandardScaler(), ["b", "a"]))

    class Absolute(BaseEstimator):
        """Attributions of a model that looks at two columns."""

        def __init__(self, estimator=None):
            self.estimator = estimator

        def fit(self, X):
            return self

        def transform(self, X):
            return np.abs(X.to_numpy()) * [1, 1, 0, 0, 0]

    model = make_pipeline(columns, PCA(1))
    result = roar(model, Absolute(), frame, shares=(0.2,), cv=2, n_random=1, random_state=0)
    assert np.isfinite(result.attributed).all()


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"attributor": 3}, TypeError, "attributor=3 must be an explainer"),
        ({"attributor": lambda m, t, x: x[:, :2]}, ValueError, r"returned shape \(90, 2\)"),
        ({"attributor": lambda m, t, x: x * np.nan}, ValueError, "not finite"),
        ({"shares": (0.5, 1.5)}, ValueError, "'shares' parameter of roar"),
        ({"shares": ()}, ValueError, "a sequence of shares, not empty"),
        ({"n_random": 0}, ValueError, "'n_random' parameter of roar"),
        ({"y": Y[:5]}, ValueError, "inconsistent numbers of samples"),
        ({"X": X[:, :1]}, ValueError, "X has a single feature"),
        ({"X": np.full((5, 2), np.nan)}, ValueError, "X contains NaN"),
    ],
)
def test_wrong_input_is_named(params, error, message):
    given = {"attributor": by_weight, "X": X, "y": Y, "cv": 2} | params
    with pytest.raises(error, match=message):
        roar(LinearRegression(), **given)


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int8, np.float16])
def test_importance_in_any_dtype(dtype):
    def importance(model, X_train, X):
        return np.tile([1, 0, *[0] * (X.shape[1] - 2)], (len(X), 1)).astype(kind)

    params = {"shares": (0.2, 0.4), "random_state": 0}
    kind = float
    expected = roar(LinearRegression(), importance, X, Y, **params)
    kind = dtype
    found = roar(LinearRegression(), importance, X, Y, **params)
    np.testing.assert_array_equal(found.attributed, expected.attributed)


class Constant(BaseEstimator):
    """Its score is the number of columns that are the same in all samples."""

    def fit(self, X, y=None):
        return self

    def score(self, X, y=None):
        return sum(len(np.unique(column)) == 1 for column in np.asarray(X).T)


def from_the_left(model, X_train, X):
    return np.broadcast_to(np.arange(X.shape[1], 0, -1), X.shape)


@pytest.mark.parametrize("n_features", [2, 3, 5])
def test_all_features_but_one_can_be_removed(n_features):
    params = dict(shares=(0.01, 0.99), cv=2, n_random=1, random_state=0)
    result = roar(Constant(), from_the_left, X[:, :n_features], **params)
    np.testing.assert_array_equal(result.attributed.T, [[0, 1, n_features - 1]] * 2)


def test_three_folds_unless_asked_for_others():
    assert roar(LinearRegression(), by_weight, X, Y, random_state=0).gain.shape == (3,)


def share_of_ones(estimator, X, y):
    return y.mean()


def test_folds_of_classifiers_hold_every_class():
    labels = np.zeros(90, dtype=int)
    labels[:6] = 1
    params = dict(shares=(0.2,), n_random=1, random_state=0, scoring=share_of_ones)
    stratified = roar(LogisticRegression(), from_the_left, X, labels, **params)
    np.testing.assert_allclose(stratified.attributed, 2 / 30)
    # Folds of whatever is no classifier are drawn without a look at y.
    plain = roar(LinearRegression(), from_the_left, X, labels, **params)
    train_and_test = KFold(3, shuffle=True, random_state=draw_seed(0))
    expected = [labels[test].mean() for _, test in train_and_test.split(X)]
    assert len(set(expected)) > 1
    np.testing.assert_allclose(np.sort(plain.attributed[0]), np.sort(expected))


def with_state():
    return np.random.RandomState(0)


def test_the_attributor_is_copied():
    state = with_state()
    params = {"method": "kernel_shap", "method_params": {"n_samples": 20}}
    attributor = LabelFreeAttributor(None, random_state=state, **params)
    given = dict(shares=(0.4,), cv=2, n_random=1, random_state=0)
    first, again, jobs = (
        roar(PCA(2), attributor, X, n_jobs=n_jobs, **given).attributed for n_jobs in (None, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, jobs)
    assert state.randint(10**6) == with_state().randint(10**6)
    # In every split it begins with the state that was given.
    fresh = LabelFreeAttributor(None, random_state=with_state(), **params)
    np.testing.assert_array_equal(roar(PCA(2), fresh, X, **given).attributed, first)


def test_an_attributor_explains_the_fitted_estimator_itself():
    seen = []

    class Watching(BaseEstimator):
        def __init__(self, estimator=None, other=None):
            self.estimator = estimator
            self.other = other

        def fit(self, X):
            seen.append(self.estimator)
            return self

        def transform(self, X):
            return X * self.estimator.coef_  # only what is fitted has some

    attributor = Watching(other=LinearRegression())
    expected = roar(LinearRegression(), lambda m, t, x: x * m.coef_, X, Y, cv=2, random_state=0)
    found = roar(LinearRegression(), attributor, X, Y, cv=2, random_state=0)
    np.testing.assert_array_equal(found.attributed, expected.attributed)
    assert len(seen) == 2 and attributor.estimator is None


@pytest.mark.parametrize("n", [90, 5])
@pytest.mark.parametrize("kind", ["polars", "pyarrow", "pandas"])
def test_frames_of_any_kind_keep_their_names(kind, n):
    values = {name: X[:n, i] for i, name in enumerate("abcde")}
    module = pytest.importorskip(kind)
    frame = module.table(values) if kind == "pyarrow" else module.DataFrame(values)
    columns = make_column_transformer((StandardScaler(), ["b", "a"]))
    model = make_pipeline(columns, LinearRegression())
    explainer = LabelFreeAttributor(None, method="feature_ablation", random_state=0)
    params = dict(shares=(0.2, 0.4), cv=2, n_random=1, random_state=0)
    result = roar(model, explainer, frame, Y[:n], **params)
    by_place = make_pipeline(
        make_column_transformer((StandardScaler(), [1, 0])), LinearRegression()
    )
    expected = roar(by_place, explainer, X[:n], Y[:n], **params)
    np.testing.assert_allclose(result.attributed, expected.attributed, rtol=1e-9)


@pytest.mark.parametrize(
    "holding",
    [
        lambda maps: torch.tensor(maps, requires_grad=True),
        sparse.csr_array,
        sparse.csr_matrix,
        pd.DataFrame,
        lambda maps: maps.astype(object),
    ],
)
def test_attributions_in_any_container(holding):
    params = {"shares": (0.2, 0.4), "random_state": 0}
    expected = roar(LinearRegression(), by_weight, X, Y, **params)
    found = roar(LinearRegression(), lambda *given: holding(by_weight(*given)), X, Y, **params)
    np.testing.assert_array_equal(found.attributed, expected.attributed)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"scoring": ["r2"]}, TypeError, r"scoring=\['r2'\] holds several scores"),
        ({"scoring": {"a": "r2"}}, TypeError, "call roar with one at a time"),
        ({"scoring": lambda e, X, y: {"a": 1}}, TypeError, "returned dict, no number"),
        ({"attributor": lambda m, t, x: None}, TypeError, "what the attributor returned is a None"),
        ({"attributor": lambda m, t, x: 1j * x}, ValueError, "Complex data not supported: what th"),
    ],
)
def test_what_is_no_score_and_no_attribution(params, error, message):
    given = {"attributor": by_weight, "X": X, "y": Y, "cv": 2} | params
    with pytest.raises(error, match=message):
        roar(LinearRegression(), **given)
