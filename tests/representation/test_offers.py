"""Which method of an estimator is explained, and what is refused as labels."""

import warnings

import numpy as np
import pytest
import torch
from sklearn import cluster, ensemble, linear_model, neighbors, svm
from sklearn.base import BaseEstimator, ClassifierMixin, ClusterMixin, RegressorMixin, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.manifold import TSNE
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity, KNeighborsClassifier, LocalOutlierFactor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    QuantileTransformer,
    StandardScaler,
)
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from sklexplain import DKNNImportance, LabelFreeAttributor, SRAEExplainer
from sklexplain.exceptions import RandomModelWarning
from sklexplain.nets import Autoencoder
from sklexplain.representation import Representation, is_fitted, kind_of, torch_modules
from sklexplain.representation._offers import RESPONSE_METHODS

RNG = np.random.RandomState(0)
X = RNG.normal(size=(30, 4)) * [1, 2, 0.1, 3] + [0, 1, -2, 5]
Z = (X - X.mean(axis=0)) / X.std(axis=0)
Y = RNG.randint(3, size=30)
TARGET = np.exp(Z @ [0.5, -0.3, 0.2, 0.0])
NET = {"max_epochs": 1, "verbose": 0, "train_split": None}


def resolve(estimator, X, **params):
    representation = Representation(estimator, X.shape[1], X=X, **params)
    return representation, representation.inputs(X)


def check_method(estimator, method, response_method="auto", X=X, rtol=1e-9, torch_form=None):
    """What is explained is what the method returns."""
    representation, inputs = resolve(estimator, X, response_method=response_method)
    assert representation.method == method
    z = representation.activations(inputs, 7)
    expected = np.asarray(getattr(estimator, method)(X), dtype=float).reshape(len(X), -1)
    assert z.shape == expected.shape
    np.testing.assert_allclose(z, expected, rtol=rtol, atol=rtol * np.abs(expected).max())
    if torch_form is not None:
        assert representation.differentiable == torch_form
    return representation


# -- what "auto" picks


@pytest.mark.parametrize(
    ("estimator", "method", "torch_form"),
    [
        (LinearDiscriminantAnalysis(), "transform", True),
        (cluster.KMeans(3, random_state=0), "transform", False),
        (KNeighborsClassifier(), "predict_proba", False),
        (GaussianMixture(2, random_state=0), "predict_proba", False),
        (LogisticRegression(), "predict_proba", True),
        (ensemble.IsolationForest(n_estimators=10, random_state=0), "decision_function", False),
        (EllipticEnvelope(random_state=0), "decision_function", False),
        (LocalOutlierFactor(novelty=True), "decision_function", False),
        (svm.OneClassSVM(), "decision_function", False),
        (svm.OneClassSVM(kernel="linear"), "decision_function", True),
        (linear_model.SGDOneClassSVM(random_state=0), "decision_function", True),
        (svm.SVC(), "decision_function", False),
        (svm.LinearSVC(), "decision_function", True),
        (RidgeClassifier(), "decision_function", True),
        (linear_model.Perceptron(), "decision_function", True),
        (linear_model.SGDClassifier(random_state=0), "decision_function", True),
        (Ridge(), "predict", True),
        (neighbors.KNeighborsRegressor(), "predict", False),
    ],
    ids=lambda value: repr(value) if hasattr(value, "fit") else "",
)
def test_order_of_what_is_offered(estimator, method, torch_form):
    fitted = clone(estimator).fit(X, Y)
    check_method(fitted, method, torch_form=torch_form)
    # Through everything that hands on its last step's methods.
    pipeline = make_pipeline(StandardScaler(), clone(estimator), "passthrough")
    pipeline = pipeline[:2] if method != "transform" else pipeline
    check_method(pipeline.fit(X, Y), method, torch_form=torch_form)
    check_method(FrozenEstimator(fitted), method, torch_form=torch_form)
    search = GridSearchCV(clone(estimator), {}, cv=2, scoring=lambda *args: 0.0).fit(X, Y)
    check_method(search, method, torch_form=torch_form)


# -- what is refused


class Voices:
    """An estimator of another library: no tags tell what it is."""

    def __init__(self, dtype=int):
        self.dtype = dtype

    def get_params(self, deep=True):
        return {"dtype": self.dtype}

    def __repr__(self):
        return f"Voices({self.dtype.__name__})"

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def predict(self, X):
        return (np.asarray(X)[:, 0] > 0).astype(self.dtype)


class Counts(RegressorMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def predict(self, X):
        return np.asarray(X)[:, :1].astype(int)


def hard_vote(voting="hard"):
    members = [("a", svm.LinearSVC()), ("b", KNeighborsClassifier())]
    return ensemble.VotingClassifier(members, voting=voting)


@pytest.mark.parametrize("in_pipeline", [False, True])
@pytest.mark.parametrize(
    ("estimator", "text"),
    [
        (LocalOutlierFactor(), "novelty=False; set novelty=True"),
        (cluster.MeanShift(), "MeanShift offers only predict, .*labels.*transform, as KMeans"),
        (cluster.AffinityPropagation(), "Propagation offers only predict, which returns labels"),
        (cluster.DBSCAN(), "DBSCAN offers neither transform, .*labels the samples of fit only"),
        (cluster.AgglomerativeClustering(), "Agglomerative.*labels the samples of fit only"),
        (cluster.SpectralClustering(3), "labels the samples of fit only"),
        (TSNE(perplexity=5), "TSNE offers neither .*fit_transform places the samples of fit only"),
        (hard_vote(), r"returns labels, not numbers \(predict_proba .* voting='hard'\); .*proba"),
        (KernelDensity(), "response_method='score_samples' explains what score_samples returns"),
        (Voices(), "Voices offers only predict, which returns labels.*RegressorMixin"),
        (Voices(bool), "Voices offers only predict, which returns labels"),
        (Voices(str), "Voices offers only predict, which returns labels"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value),
)
def test_labels_are_refused_with_a_way_out(estimator, text, in_pipeline):
    estimator = clone(estimator)
    if in_pipeline and hasattr(estimator, "__sklearn_tags__"):
        estimator = make_pipeline(StandardScaler(), estimator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of unstable clusters
        with pytest.raises(TypeError, match=text):
            LabelFreeAttributor(estimator, method="occlusion").fit(X, Y)


def test_predictions_without_a_kind_are_quantities_where_they_are_floating():
    check_method(Voices(float).fit(X), "predict")
    assert kind_of(Voices()) is None


def test_integers_of_a_regressor_are_quantities():
    check_method(Counts().fit(X), "predict")


class Untagged(Voices):
    """Labels of an estimator that has classes, but no tags."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return super().predict(X).astype(float)


class UntaggedDetector(Untagged):
    """As PyOD's: 0 and 1 are labels of outliers."""

    def fit(self, X, y=None):
        self.decision_scores_ = self.decision_function(X)
        return self

    def decision_function(self, X):
        return np.abs(X).sum(axis=1)


def test_kinds_are_told_by_what_an_estimator_has():
    untagged = Untagged().fit(X, Y)
    assert kind_of(untagged) == "classifier"
    with pytest.raises(TypeError, match="Untagged offers only predict, which returns labels"):
        resolve(untagged, X)
    detector = UntaggedDetector().fit(X)
    assert kind_of(detector) == "outlier_detector"
    check_method(detector, "decision_function")
    with pytest.raises(TypeError, match="predict of UntaggedDetector returns labels.*decision_"):
        resolve(detector, X, response_method="predict")


class OldTags(Voices):
    _estimator_type = "clusterer"


def test_older_ways_to_tell_the_kind_count():
    assert kind_of(OldTags()) == "clusterer"


class Grouper(ClusterMixin, BaseEstimator):
    """A clusterer whose labels are floating numbers."""

    def fit(self, X, y=None):
        self.labels_ = self.predict(X)
        return self

    def predict(self, X):
        return np.floor(np.asarray(X)[:, 0])


def test_labels_are_refused_whatever_their_dtype():
    with pytest.raises(TypeError, match="Grouper offers only predict, which returns labels"):
        resolve(Grouper().fit(X), X)


# -- response_method


@pytest.mark.parametrize(
    ("estimator", "method", "torch_form"),
    [
        (LogisticRegression(), "predict_proba", True),
        (LogisticRegression(), "predict_log_proba", True),
        (LogisticRegression(), "decision_function", True),
        (MLPClassifier([4], max_iter=20, random_state=0), "predict_log_proba", True),
        (LinearDiscriminantAnalysis(), "predict_proba", True),
        (LinearDiscriminantAnalysis(), "predict_log_proba", True),
        (LinearDiscriminantAnalysis(), "decision_function", True),
        (KNeighborsClassifier(), "predict_proba", False),
        (svm.SVC(kernel="linear", decision_function_shape="ovo"), "decision_function", True),
        (svm.OneClassSVM(), "score_samples", False),
        (svm.OneClassSVM(kernel="linear"), "score_samples", True),
        (ensemble.IsolationForest(n_estimators=10, random_state=0), "score_samples", False),
        (GaussianMixture(2, random_state=0), "score_samples", False),
        (KernelDensity(), "score_samples", False),
        (PCA(2), "score_samples", False),
        (PCA(2), "transform", True),
        (Ridge(), "predict", True),
        (ensemble.VotingRegressor([("a", Ridge()), ("b", LinearRegression())]), "predict", False),
    ],
    ids=lambda value: repr(value) if hasattr(value, "fit") else str(value),
)
def test_response_method(estimator, method, torch_form):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = clone(estimator).fit(Z, Y)
        pipeline = make_pipeline(StandardScaler(), clone(estimator)).fit(Z, Y)
    given = {"X": Z, "torch_form": torch_form, "response_method": method}
    check_method(fitted, method, **given)
    check_method(pipeline, method, **given)
    check_method(FrozenEstimator(pipeline), method, **given)
    missing = [m for m in RESPONSE_METHODS if not hasattr(fitted, m)]
    check_method(fitted, method, X=Z, response_method=[*missing, method])


def test_log_probabilities_are_the_logarithm():
    logistic = LogisticRegression().fit(Z, Y)
    proba, inputs = resolve(logistic, Z)
    log_proba, _ = resolve(logistic, Z, response_method="predict_log_proba")
    both = proba.activations(inputs, 7), log_proba.activations(inputs, 7)
    np.testing.assert_allclose(np.log(both[0]), both[1], rtol=1e-10)


def test_a_list_is_tried_in_its_order():
    logistic = LogisticRegression().fit(Z, Y)
    for names in (["decision_function", "predict_proba"], ("predict_proba", "transform")):
        assert resolve(logistic, Z, response_method=names)[0].method == names[0]


def test_what_an_estimator_lacks_is_named_and_what_it_has():
    ridge = RidgeClassifier().fit(Z, Y)
    with pytest.raises(ValueError, match="RidgeClassifier has no predict_proba; it has decision_f"):
        resolve(ridge, Z, response_method="predict_proba")
    with pytest.raises(ValueError, match="has no transform and no score_samples; it has deci"):
        resolve(ridge, Z, response_method=["transform", "score_samples"])
    machine = make_pipeline(svm.SVC()).fit(Z, Y)
    with pytest.raises(ValueError, match=r"SVC has no predict_proba \(.*probability=False"):
        resolve(machine, Z, response_method="predict_proba")


@pytest.mark.parametrize("estimator", [LogisticRegression(), cluster.KMeans(2), svm.SVC()])
@pytest.mark.parametrize("response_method", ["predict", ["score_samples", "predict"]])
def test_labels_are_refused_where_they_are_asked_for(estimator, response_method):
    fitted = make_pipeline(StandardScaler(), clone(estimator)).fit(Z, Y)
    with pytest.raises(TypeError, match=r"predict of \w+ returns labels.*explain its .*response"):
        resolve(fitted, Z, response_method=response_method)


def test_component_numbers_are_labels():
    mixture = GaussianMixture(2, random_state=0).fit(Z)
    with pytest.raises(TypeError, match="predict of GaussianMixture returns labels"):
        resolve(mixture, Z, response_method="predict")


# -- skorch nets and our own


def skorch_net(cls, n_out=3, **params):
    return cls(nn.Sequential(nn.Linear(4, n_out)), **NET, **params)


def test_skorch_nets():
    Z32 = Z.astype("f")
    loss = nn.CrossEntropyLoss
    classifier = skorch_net(NeuralNetClassifier, criterion=loss).fit(Z32, Y)
    check_method(classifier, "predict_proba", "predict_proba", Z32, 1e-6, True)
    with pytest.raises(TypeError, match="predict of NeuralNetClassifier returns labels"):
        resolve(classifier, Z32, response_method="predict")
    with pytest.raises(ValueError, match="NeuralNetClassifier has no decision_function"):
        resolve(classifier, Z32, response_method="decision_function")
    regressor = skorch_net(NeuralNetRegressor, 2).fit(Z32, Z32[:, :2])
    plain = skorch_net(NeuralNet, criterion=loss).fit(Z32, Y)
    for net in (regressor, plain):
        check_method(net, "predict", "predict", Z32, 1e-6, True)


class Halved(NeuralNetRegressor):
    def predict_proba(self, X):
        return super().predict_proba(X) / 2


class Energy(NeuralNetRegressor):
    def score_samples(self, X):
        return self.predict(X).sum(axis=1)


def test_skorch_nets_with_code_of_their_own():
    Z32 = Z.astype("f")
    halved = skorch_net(Halved, 2).fit(Z32, Z32[:, :2])
    check_method(halved, "predict", "predict", Z32, 1e-6, torch_form=False)
    energy = skorch_net(Energy, 2).fit(Z32, Z32[:, :2])
    check_method(energy, "score_samples", "score_samples", Z32, 1e-6, torch_form=False)
    check_method(energy, "predict", "predict", Z32, 1e-6, torch_form=True)


class ScoredAutoencoder(Autoencoder):
    def score_samples(self, X):
        return -((self.inverse_transform(self.transform(X)) - X) ** 2).mean(axis=1)


def test_other_methods_of_an_autoencoder_are_black_boxes():
    encoder = ScoredAutoencoder(n_components=2, max_epochs=1, validation_split=None, random_state=0)
    encoder.fit(Z)
    check_method(encoder, "transform", rtol=1e-5, X=Z, torch_form=True)
    representation = check_method(encoder, "score_samples", "score_samples", Z, 1e-5, False)
    assert representation.no_torch_form == "ScoredAutoencoder.score_samples"


def test_layers_before_a_step_that_offers_labels_only():
    encoder = Autoencoder(n_components=2, max_epochs=1, validation_split=None, random_state=0)
    pipeline = Pipeline([("ae", encoder), ("c", cluster.MeanShift())]).fit(Z)
    representation, inputs = resolve(pipeline, Z, layer="ae.encoder")
    assert representation.method is None
    z = representation.activations(inputs, 7)
    np.testing.assert_allclose(z, pipeline["ae"].transform(Z), rtol=1e-4, atol=1e-6)
    with pytest.raises(TypeError, match="MeanShift offers only predict"):
        resolve(pipeline, Z)


def test_steps_with_layers_before_a_decision_function():
    encoder = Autoencoder(n_components=2, max_epochs=1, validation_split=None, random_state=0)
    pipeline = make_pipeline(encoder, svm.SVC()).fit(Z, Y)
    explainer = SRAEExplainer(
        pipeline, n_concepts=2, hidden_layer_sizes=(4,), max_epochs=2, validation_split=None
    )
    expected = pipeline.decision_function(Z)
    np.testing.assert_allclose(explainer.fit(Z).target_values(Z), expected, rtol=1e-4)
    explainer.set_params(response_method="decision_function").fit(Z)
    np.testing.assert_allclose(explainer.target_values(Z), expected, rtol=1e-4)


# -- transformed targets


def mlp():
    return MLPRegressor(hidden_layer_sizes=(5,), max_iter=30, random_state=0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("regressor", "params", "y"),
    [
        (mlp(), {"transformer": StandardScaler()}, TARGET),
        (mlp(), {"transformer": MinMaxScaler((-1, 1), clip=True)}, TARGET),
        (mlp(), {"func": np.log, "inverse_func": np.exp}, TARGET),
        (mlp(), {"func": np.log1p, "inverse_func": np.expm1}, TARGET),
        (mlp(), {}, TARGET),
        (None, {"transformer": StandardScaler()}, TARGET),
        (
            make_pipeline(SimpleImputer(), StandardScaler(), mlp()),
            {
                "transformer": make_pipeline(
                    FunctionTransformer(np.log, np.exp), StandardScaler(), "passthrough"
                )
            },
            TARGET,
        ),
        (Ridge(), {"transformer": StandardScaler()}, np.stack([TARGET, -TARGET], axis=1)),
        (Ridge(), {"transformer": PCA(1)}, np.stack([TARGET, -TARGET + Z[:, 0]], axis=1)),
    ],
)
def test_transformed_targets_are_converted(regressor, params, y):
    estimator = TransformedTargetRegressor(regressor, **params).fit(Z, y)
    check_method(estimator, "predict", X=Z, torch_form=True)
    pipeline = make_pipeline(StandardScaler(), clone(estimator)).fit(X, y)
    check_method(pipeline, "predict", torch_form=True)
    attributor = LabelFreeAttributor(pipeline, method_params={"n_steps": 300}).fit(X)
    f, f0 = pipeline.predict(X), pipeline.predict(X.mean(axis=0)[None])
    f, f0 = f.reshape(30, -1), f0.reshape(1, -1)
    total = (f * (f - f0)).sum(axis=1)
    np.testing.assert_allclose(attributor.transform(X).sum(axis=1), total, rtol=0.02, atol=5e-3)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("regressor", "params", "reason"),
    [
        (mlp(), {"func": np.cbrt, "inverse_func": lambda y: y**3}, "the inverse of Function"),
        (mlp(), {"transformer": QuantileTransformer(n_quantiles=9)}, "the inverse of Quantile"),
        (neighbors.KNeighborsRegressor(), {"transformer": StandardScaler()}, "KNeighborsRegressor"),
    ],
)
def test_transformed_targets_without_torch_form_are_black_boxes(regressor, params, reason):
    estimator = TransformedTargetRegressor(regressor, **params).fit(Z, TARGET)
    representation = check_method(estimator, "predict", X=Z, torch_form=False)
    assert representation.no_torch_form.startswith(reason)


def test_layers_in_a_transformed_target_regressor():
    Z32, y = Z.astype("f"), np.log(TARGET)[:, None].astype("f")
    net = NeuralNetRegressor(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1)), **NET)
    for transformer in (StandardScaler(), QuantileTransformer(n_quantiles=9)):
        estimator = TransformedTargetRegressor(net, transformer=transformer).fit(Z32, y)
        (module,) = torch_modules(estimator)
        assert module is estimator.regressor_.module_
        for name in ("regressor.0", "0"):
            representation, inputs = resolve(estimator, Z32, layer=name)
            expected = module[0](torch.as_tensor(Z32)).detach()
            np.testing.assert_allclose(representation.activations(inputs, 7), expected, rtol=1e-5)
    check_method(
        TransformedTargetRegressor(net, transformer=StandardScaler()).fit(Z32, y),
        "predict",
        X=Z32,
        rtol=1e-5,
        torch_form=True,
    )


# -- Pipelines whose steps choose samples


class Sampler(BaseEstimator):
    """As those of imbalanced-learn: it acts in fit only."""

    def fit_resample(self, X, y):
        self.sampling_strategy_ = "half"
        return X[::2], y[::2]


class SamplingPipeline(Pipeline):
    """As that of imbalanced-learn: samplers are skipped where samples are predicted."""

    def fit(self, X, y=None, **params):
        for _, step in self.steps[:-1]:
            if hasattr(step, "fit_resample"):
                X, y = step.fit_resample(X, y)
            else:
                X = step.fit(X, y).transform(X)
        self.steps[-1][1].fit(X, y)
        return self

    def _iter(self, with_final=True, filter_passthrough=True):
        for item in super()._iter(with_final, filter_passthrough):
            if not hasattr(item[-1], "fit_resample"):
                yield item

    def _validate_steps(self):
        pass


def sampling(last):
    return SamplingPipeline([("scale", StandardScaler()), ("half", Sampler()), ("last", last)])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("last", "method", "torch_form"),
    [
        (MLPClassifier((5,), max_iter=5, random_state=0), "predict_proba", True),
        (RidgeClassifier(), "decision_function", True),
        (svm.SVC(), "decision_function", False),
    ],
)
def test_samplers_are_skipped_as_in_prediction(last, method, torch_form):
    pipeline = sampling(last)
    assert is_fitted(pipeline) is False
    pipeline.fit(X, Y)
    assert is_fitted(pipeline) is True
    check_method(pipeline, method, torch_form=torch_form)
    DKNNImportance(pipeline).fit(X).transform(X)
    unfitted = LabelFreeAttributor(sampling(clone(last)), method="kernel_shap", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        f = unfitted.fit(X, Y).estimator_
    z, z0 = (np.reshape(getattr(f, method)(x), (len(x), -1)) for x in (X, X.mean(axis=0)[None]))
    total = (z * (z - z0)).sum(axis=1)
    np.testing.assert_allclose(unfitted.transform(X).sum(axis=1), total, atol=1e-9)


def test_a_sampler_that_was_never_fitted_does_not_matter():
    steps = [("scale", StandardScaler().fit(X)), ("half", Sampler()), ("last", Ridge().fit(Z, Y))]
    assert is_fitted(SamplingPipeline(steps)) is True


# -- black boxes that are no function of one sample


class Batchwise(ClassifierMixin, BaseEstimator):
    """It compares a sample with the others that it is given."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        return X[:, 0] - X[:, 0].mean()


def test_a_black_box_that_compares_samples_is_told():
    with pytest.warns(RandomModelWarning, match="decision_function of Batchwise gives sample 0"):
        resolve(Batchwise().fit(X, Y), X)


def test_an_empty_output_is_refused():
    with pytest.raises(ValueError, match=r"transform of MissingIndicator returns no numbers"):
        DKNNImportance(MissingIndicator()).fit(X)
    with pytest.raises(ValueError, match=r"the network returns no numbers \(3, 0\) for three"):
        DKNNImportance(nn.Sequential(nn.Linear(4, 0))).fit(X.astype("f"))
