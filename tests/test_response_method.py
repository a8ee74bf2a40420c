"""The parameter ``response_method`` of all explainers that have it, and what it explains."""

import functools
import itertools
import math
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDOneClassSVM
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC, OneClassSVM
from torch import nn

from sklexplain import (
    ClaDecExplainer,
    DKNNImportance,
    EmbeddingAttributor,
    LabelFreeAttributor,
    LatentSurrogate,
    NoiseScorer,
    RelevanceMasker,
    SimplExImportance,
    SRAEExplainer,
    VarianceScorer,
)

RNG = np.random.RandomState(0)
X = RNG.normal(size=(60, 4))
Y = (X[:, 0] + X[:, 1] > 0) + (X[:, 2] > 1).astype(int)
TRAINING = {"max_epochs": 2, "validation_split": None, "random_state": 0}
EXPLAINERS = {
    LabelFreeAttributor: {"method": "saliency"},
    RelevanceMasker: {"n_masks": 20, "random_state": 0},
    DKNNImportance: {},
    SimplExImportance: {},
    EmbeddingAttributor: {},
    NoiseScorer: {"random_state": 0},
    VarianceScorer: {},
    SRAEExplainer: {"n_concepts": 2, "hidden_layer_sizes": (4,), **TRAINING},
    ClaDecExplainer: {"reference": None, **TRAINING},
    LatentSurrogate: {"random_state": 0},
}
BLACK_BOX = {
    LabelFreeAttributor: {"method": "kernel_shap", "random_state": 0},
    RelevanceMasker: {"n_masks": 20, "random_state": 0},
    DKNNImportance: {},
    SimplExImportance: {},
    ClaDecExplainer: EXPLAINERS[ClaDecExplainer],
    LatentSurrogate: {"random_state": 0},
}


@functools.cache
def mlp():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make_pipeline(
            StandardScaler(), MLPClassifier((6, 5), max_iter=100, random_state=0)
        ).fit(X, Y)


@pytest.mark.parametrize("cls", EXPLAINERS, ids=lambda c: c.__name__)
class TestParameter:
    def test_the_method_is_explained(self, cls):
        model = mlp()
        explainer = cls(model, response_method="predict_log_proba", **EXPLAINERS[cls]).fit(X)
        inputs = explainer._representation.inputs(X)
        z = explainer._representation.activations(inputs, 100)
        np.testing.assert_allclose(z, model.predict_log_proba(X), rtol=1e-6, atol=1e-9)
        assert "response_method='predict_log_proba'" in repr(explainer)

    def test_what_is_explained_of_itself_can_be_named(self, cls):
        model = mlp()
        named = cls(model, response_method="predict_proba", **EXPLAINERS[cls]).fit(X)
        if cls is SRAEExplainer:  # of itself it explains the scores before
            np.testing.assert_allclose(named.target_values(X), model.predict_proba(X), rtol=1e-5)
            return
        automatic = cls(model, **EXPLAINERS[cls]).fit(X)
        np.testing.assert_array_equal(dense(named.transform(X)), dense(automatic.transform(X)))

    def test_it_counts_from_the_next_fit_on_and_is_kept(self, cls):
        explainer = cls(mlp(), **EXPLAINERS[cls]).fit(X[:40])
        before = dense(explainer.transform(X[40:]))
        explainer.set_params(response_method=["decision_function", "predict_log_proba"])
        np.testing.assert_array_equal(dense(explainer.transform(X[40:])), before)
        after = dense(explainer.fit(X[:40]).transform(X[40:]))
        if cls is not ClaDecExplainer:  # it decodes a layer before the output
            assert not np.array_equal(after, before)
        loaded = pickle.loads(pickle.dumps(explainer))
        np.testing.assert_allclose(dense(loaded.transform(X[40:])), after, rtol=1e-6, atol=1e-9)
        assert clone(explainer).response_method == explainer.response_method

    @pytest.mark.parametrize("response_method", ["predict_proba", ["transform"]])
    def test_a_module_is_explained_by_its_forward(self, cls, response_method):
        net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
        for estimator in (net, FrozenEstimator(net)) if cls is DKNNImportance else (net,):
            explainer = cls(estimator, response_method=response_method, **EXPLAINERS[cls])
            with pytest.raises(ValueError, match="response_method=.* Sequential is a module, expl"):
                explainer.fit(X)

    def test_it_goes_with_no_layer(self, cls):
        name = "output" if cls in (NoiseScorer, VarianceScorer) else "layer"
        explainer = cls(mlp(), response_method="predict_proba", **EXPLAINERS[cls])
        explainer.set_params(**{name: "mlpclassifier.hidden_1"})
        with pytest.raises(ValueError, match=rf"goes with no layer, but {name}='mlpc.*'auto'"):
            explainer.fit(X)
        explainer.set_params(response_method="auto").fit(X)

    @pytest.mark.parametrize(
        ("value", "error", "text"),
        [
            ("predict_probas", ValueError, "Did you mean 'predict_proba'"),
            (["predict_proba", "auto"], ValueError, "or a list of names, .*'auto'"),
            ([], ValueError, "names no method"),
            (None, TypeError, "must be a str among {'auto', .* Got None"),
            (1, TypeError, "must be a str among {'auto', .* Got 1"),
            ("transform", ValueError, "MLPClassifier has no transform; it has predict_proba"),
        ],
    )
    def test_wrong_values(self, cls, value, error, text):
        explainer = cls(mlp(), response_method=value, **EXPLAINERS[cls])
        with pytest.raises(error, match=f"response_method.*{text}"):
            explainer.fit(X)

    def test_labels_are_refused(self, cls):
        explainer = cls(mlp(), response_method="predict", **EXPLAINERS[cls])
        with pytest.raises(TypeError, match="predict of MLPClassifier returns labels"):
            explainer.fit(X)


def dense(values):
    return values.toarray() if hasattr(values, "toarray") else np.asarray(values)


# -- the numbers that come out


def exact_shapley(f, x, baseline):
    """Shapley values of <f(x), f(.)> by their definition, over all coalitions."""
    n = len(x)
    weights = f(x[None])[0]
    coalitions = list(itertools.product([False, True], repeat=n))
    value = dict(zip(coalitions, f(np.where(coalitions, x, baseline)) @ weights, strict=True))
    shares = np.zeros(n)
    for i, c in itertools.product(range(n), coalitions):
        if not c[i]:
            size = sum(c)
            share = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            shares[i] += share * (value[c[:i] + (True,) + c[i + 1 :]] - value[c])
    return shares


OUTPUTS = [
    (IsolationForest(n_estimators=10, random_state=0), "decision_function"),
    (IsolationForest(n_estimators=10, random_state=0), "score_samples"),
    (EllipticEnvelope(random_state=0), "decision_function"),
    (LocalOutlierFactor(novelty=True), "decision_function"),
    (LocalOutlierFactor(novelty=True), "score_samples"),
    (OneClassSVM(), "decision_function"),
    (SGDOneClassSVM(random_state=0), "decision_function"),
    (SVC(), "decision_function"),
    (LinearSVC(), "decision_function"),
    (RidgeClassifier(), "decision_function"),
    (LogisticRegression(), "predict_log_proba"),
]


def output_of(estimator, method):
    return lambda X: np.reshape(getattr(estimator, method)(X), (len(X), -1))


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize(("estimator", "method"), OUTPUTS, ids=lambda v: str(v))
def test_shapley_values_are_those_of_the_output(estimator, method, piped):
    model = clone(estimator)
    model = (make_pipeline(StandardScaler(), model) if piped else model).fit(X, Y)
    automatic = method == "decision_function"
    for kind in ("kernel_shap", "shapley_sampling"):
        explainer = LabelFreeAttributor(
            model, method=kind, response_method="auto" if automatic else method, random_state=0
        ).fit(X)
        maps = explainer.transform(X[:3])
        f = output_of(model, method)
        total = (f(X[:3]) * (f(X[:3]) - f(X.mean(axis=0)[None]))).sum(axis=1)
        np.testing.assert_allclose(maps.sum(axis=1), total, atol=1e-9 * np.abs(total).max())
        assert np.any(maps != 0, axis=1).all()
        if kind == "kernel_shap":  # of all coalitions
            expected = [exact_shapley(f, x, X.mean(axis=0)) for x in X[:3]]
            np.testing.assert_allclose(maps, expected, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("estimator", [LocalOutlierFactor(novelty=True), SVC(), OneClassSVM()])
def test_neighbours_are_those_of_the_output(estimator):
    model = clone(estimator).fit(X, Y)
    f = output_of(model, "decision_function")
    index = DKNNImportance(model, n_neighbors=3).fit(X[:50]).top_examples(X[50:], 3)[1]
    expected = NearestNeighbors(n_neighbors=3).fit(f(X[:50])).kneighbors(f(X[50:]))[1]
    np.testing.assert_array_equal(index, expected)


@pytest.mark.parametrize("cls", BLACK_BOX, ids=lambda c: c.__name__)
@pytest.mark.parametrize("estimator", [LocalOutlierFactor(novelty=True), SVC()])
def test_output_only_explainers_take_decision_functions(cls, estimator):
    model = make_pipeline(StandardScaler(), clone(estimator)).fit(X, Y)
    out = dense(cls(model, **BLACK_BOX[cls]).fit(X, Y).transform(X[:5]))
    assert len(out) == 5 and np.isfinite(out).all()


@pytest.mark.parametrize("estimator", [LinearSVC(), RidgeClassifier(), SVC(kernel="linear")])
def test_gradients_of_linear_decision_functions(estimator):
    y = (Y > 0).astype(int)
    model = make_pipeline(StandardScaler(), clone(estimator)).fit(X, y)
    maps = LabelFreeAttributor(model, method="saliency").fit(X).transform(X)
    slopes = np.ravel(model[-1].coef_) / model[0].scale_
    np.testing.assert_allclose(maps, model.decision_function(X)[:, None] * slopes, rtol=1e-9)
    for cls in (EmbeddingAttributor, NoiseScorer, VarianceScorer):
        assert np.isfinite(cls(model, **EXPLAINERS[cls]).fit(X).transform(X)).all()


# -- how ClaDec compares outputs


@pytest.mark.parametrize(
    ("model", "response_method", "task"),
    [
        (mlp, "auto", "classification"),
        (mlp, "predict_proba", "classification"),
        (mlp, "predict_log_proba", "classification"),
        (LogisticRegression, "decision_function", "classification"),
        (LinearSVC, "auto", "regression"),
        (SVC, "auto", "regression"),
        (IsolationForest, "auto", "regression"),
    ],
)
def test_task_of_the_output(model, response_method, task):
    model = model()
    model = model if hasattr(model, "classes_") else model.fit(X, Y)
    explainer = ClaDecExplainer(
        model, response_method=response_method, **EXPLAINERS[ClaDecExplainer]
    ).fit(X)
    assert explainer.task_ == task
    if task == "classification":
        expected = np.mean(model.predict(explainer.transform(X)) == model.predict(X))
        assert explainer.agreement(X) == pytest.approx(expected)
