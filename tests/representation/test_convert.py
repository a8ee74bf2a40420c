"""The torch form of a scikit-learn estimator computes what the estimator does."""

import warnings
from functools import partial
from operator import methodcaller

import numpy as np
import pytest
import torch
from scipy import special
from sklearn import decomposition, feature_selection, linear_model, preprocessing, svm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline

from sklexplain.representation import convert
from sklexplain.representation._convert import _LINEAR_REGRESSORS
from sklexplain.representation._inverses import _FUNCTIONS, convert_inverse

RNG = np.random.RandomState(0)
X = RNG.normal(size=(40, 4)) * [1, 10, 0.1, 3] + [0, 5, -2, 100]
Z = (X - X.mean(axis=0)) / X.std(axis=0)
LABELS = RNG.randint(3, size=40)
TARGET = Z @ [1.0, -2.0, 0.5, 0.0] + 0.1 * RNG.normal(size=40)
DTYPES = [np.float64, np.float32]


def fit(estimator, X, y=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(X, y)


def offered(estimator, X, method="auto"):
    for name in ("transform", "predict_proba", "predict") if method == "auto" else (method,):
        if hasattr(estimator, name):
            out = getattr(estimator, name)(X)
            return np.asarray(out, dtype=np.float64).reshape(len(X), -1)


def check_exact(estimator, X, rtol=1e-12, method="auto"):
    module = convert(estimator, method)
    with torch.no_grad():
        out = module(torch.as_tensor(X)).numpy()
    expected = offered(estimator, X, method)
    assert out.shape == expected.shape
    np.testing.assert_allclose(out, expected, rtol=rtol, atol=rtol * np.abs(expected).max())
    return module


def check_gradient(module, X):
    x = torch.as_tensor(X[:3]).clone().requires_grad_()
    assert torch.autograd.gradcheck(module, (x,), rtol=1e-5, atol=1e-6)


PREPROCESSING = [
    preprocessing.StandardScaler(),
    preprocessing.StandardScaler(with_mean=False),
    preprocessing.StandardScaler(with_std=False),
    preprocessing.StandardScaler(with_mean=False, with_std=False),
    preprocessing.MinMaxScaler(),
    preprocessing.MinMaxScaler((-1, 3)),
    preprocessing.MinMaxScaler(clip=True),
    preprocessing.MaxAbsScaler(),
    preprocessing.RobustScaler(),
    preprocessing.RobustScaler(with_centering=False),
    preprocessing.RobustScaler(with_scaling=False, quantile_range=(10, 90)),
    preprocessing.RobustScaler(unit_variance=True),
    preprocessing.FunctionTransformer(),
    preprocessing.FunctionTransformer(np.asarray),
    decomposition.PCA(),
    decomposition.PCA(2, whiten=True),
    decomposition.IncrementalPCA(3, whiten=True, batch_size=20),
    decomposition.TruncatedSVD(2, random_state=0),
    feature_selection.VarianceThreshold(0.5),
    feature_selection.SelectKBest(feature_selection.f_regression, k=2),
    feature_selection.SelectFromModel(linear_model.Ridge()),
    feature_selection.RFE(linear_model.Ridge(), n_features_to_select=2),
]


@pytest.mark.parametrize("dtype", DTYPES)
# Without the addresses of functions, which differ between the workers of a parallel run.
@pytest.mark.parametrize("estimator", PREPROCESSING, ids=lambda e: repr(e).split(" at 0x")[0])
def test_preprocessing(estimator, dtype):
    fit(estimator, X.astype(dtype), TARGET)
    outside = np.concatenate([X, X[:3] * 10, -X[:3]])
    # In float32 scikit-learn rounds intermediate results that the torch form does not round.
    rtol = 1e-12 if dtype == np.float64 else 1e-5
    check_gradient(check_exact(estimator, outside, rtol), 0.9 * X + 0.1 * X.mean(axis=0))


def test_pca_of_rank_deficient_data_is_whitened_alike():
    flat = np.repeat(X[:, :2], 2, axis=1)
    pca = decomposition.PCA(whiten=True, svd_solver="covariance_eigh").fit(flat)
    out = convert(pca)(torch.as_tensor(flat)).numpy()
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[:, :2], pca.transform(flat)[:, :2], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "scaler", [preprocessing.StandardScaler(), preprocessing.MinMaxScaler()], ids=repr
)
def test_epoch_seconds_keep_their_digits(scaler):
    seconds = 1.7e9 + np.linspace(0, 60, 50)[:, None]
    out = convert(scaler.fit(seconds))(torch.as_tensor(seconds)).numpy()
    exact = np.linspace(0, 60, 50)[:, None]
    exact = type(scaler)().fit_transform(exact)
    np.testing.assert_allclose(out, exact, atol=1e-8)


def test_missing_values_pass_scalers_as_they_do_in_scikit_learn():
    holes = X.copy()
    holes[0, 1] = np.nan
    scaler = preprocessing.MinMaxScaler(clip=True).fit(holes)
    out = convert(scaler)(torch.as_tensor(holes)).numpy()
    np.testing.assert_allclose(out, scaler.transform(holes), atol=1e-12)


@pytest.mark.parametrize(
    "func",
    [
        np.float32,
        partial(np.asarray, dtype=np.float32),
        methodcaller("astype", np.float32),
        methodcaller("astype", dtype="float32"),
    ],
    ids=str,
)
def test_casts_round_as_the_estimator_does(func):
    estimator = preprocessing.FunctionTransformer(func).fit(X)
    module = convert(estimator)
    out = module(torch.as_tensor(X))
    assert out.dtype == torch.float32
    np.testing.assert_array_equal(out.numpy(), estimator.transform(X))


@pytest.mark.parametrize(
    "func",
    [lambda x: x, np.log1p, partial(np.asarray, dtype=int), methodcaller("astype", int)],
    ids=["lambda", "log1p", "partial-int", "astype-int"],
)
def test_other_functions_have_no_torch_form(func):
    assert convert(preprocessing.FunctionTransformer(func).fit(X)) is None


def test_a_function_with_arguments_has_no_torch_form():
    estimator = preprocessing.FunctionTransformer(np.asarray, kw_args={"dtype": int})
    assert convert(estimator.fit(X)) is None


class Shifted(preprocessing.StandardScaler):
    def transform(self, X):
        return super().transform(X) + 1


class Reversed(feature_selection.VarianceThreshold):
    def transform(self, X):
        return super().transform(X)[:, ::-1]


@pytest.mark.parametrize("estimator", [Shifted(), Reversed()], ids=repr)
def test_subclasses_with_code_of_their_own_have_no_torch_form(estimator):
    assert convert(estimator.fit(X)) is None


PARAMS = {
    linear_model.Lars: {"n_nonzero_coefs": 3},
    linear_model.OrthogonalMatchingPursuit: {"n_nonzero_coefs": 2},
    linear_model.SGDRegressor: {"random_state": 0},
    linear_model.TheilSenRegressor: {"random_state": 0, "max_subpopulation": 50},
    svm.LinearSVR: {"random_state": 0},
}


@pytest.mark.parametrize("regressor", _LINEAR_REGRESSORS, ids=lambda c: c.__name__)
def test_linear_regressors(regressor):
    many = regressor.__name__.startswith("MultiTask")
    y = np.stack([TARGET, -TARGET], axis=1) if many else TARGET
    estimator = fit(regressor(**PARAMS.get(regressor, {})), Z, y)
    check_gradient(check_exact(estimator, X), X)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_regression_with_several_targets(fit_intercept, dtype):
    ridge = linear_model.Ridge(fit_intercept=fit_intercept)
    check_exact(ridge.fit(Z.astype(dtype), Z[:, :2].astype(dtype)), X)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("estimator", "n_classes"),
    [
        (linear_model.LogisticRegression(), 2),
        (linear_model.LogisticRegression(), 3),
        (linear_model.LogisticRegression(fit_intercept=False, solver="newton-cg"), 3),
        (linear_model.LogisticRegression(solver="liblinear"), 2),  # it takes no more
    ],
    ids=repr,
)
def test_logistic_regression(estimator, n_classes, dtype):
    fit(estimator, Z.astype(dtype), LABELS % n_classes)
    check_gradient(check_exact(estimator, Z), Z)


def test_one_vs_rest_probabilities_have_no_torch_form():
    estimator = fit(linear_model.LogisticRegression(), Z, LABELS)
    estimator.solver = "liblinear"  # as older scikit-learn versions fit it
    assert convert(estimator) is None


MLP = {"hidden_layer_sizes": (5, 3), "max_iter": 5, "random_state": 0}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("y", [LABELS, LABELS % 2, np.eye(3, dtype=int)[LABELS]])
def test_mlp_classifiers(y, activation, dtype):
    estimator = fit(MLPClassifier(activation=activation, **MLP), Z.astype(dtype), y)
    check_gradient(check_exact(estimator, Z), Z)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("y", [TARGET, Z[:, :2]], ids=["one", "two"])
def test_mlp_regressors(y, activation):
    estimator = fit(MLPRegressor(activation=activation, **MLP), Z, y)
    module = check_exact(estimator, Z)
    assert [name for name, _ in module.named_children()] == [
        "hidden_0",
        "activation_0",
        "hidden_1",
        "activation_1",
        "output",
    ]


def test_poisson_regression_by_an_mlp():
    check_exact(fit(MLPRegressor(loss="poisson", **MLP), Z, np.exp(TARGET)), Z)


def _logistic_regression_cv():
    estimator = linear_model.LogisticRegressionCV(cv=2)
    if hasattr(estimator, "use_legacy_attributes"):  # of scikit-learn 1.8 and later
        estimator.set_params(use_legacy_attributes=False, l1_ratios=(0.0,))
    return estimator


LINEAR_CLASSIFIERS = [
    linear_model.LogisticRegression(),
    _logistic_regression_cv(),
    linear_model.Perceptron(random_state=0),
    linear_model.RidgeClassifier(),
    linear_model.RidgeClassifierCV(),
    linear_model.SGDClassifier(random_state=0),
    svm.LinearSVC(),
    LinearDiscriminantAnalysis(),
    LinearDiscriminantAnalysis(solver="lsqr"),
]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # classes and defaults on their way out
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("estimator", LINEAR_CLASSIFIERS, ids=repr)
def test_decision_functions_of_linear_classifiers(estimator, n_classes, dtype):
    fit(estimator, Z.astype(dtype), LABELS % n_classes)
    check_gradient(check_exact(estimator, X, method="decision_function"), X)


def test_decision_function_of_several_labels_and_of_sparse_coefficients():
    ridge = linear_model.RidgeClassifier().fit(Z, np.eye(3, dtype=int)[LABELS])
    check_exact(ridge, X, method="decision_function")
    sparse = fit(linear_model.LogisticRegression(), Z, LABELS).sparsify()
    check_exact(sparse, Z, method="decision_function")
    check_exact(sparse, Z, method="predict_proba")


@pytest.mark.parametrize("cls", [svm.SVC, svm.NuSVC])
def test_linear_support_vector_machines(cls):
    for y, shape in ((LABELS % 2, "ovr"), (LABELS, "ovo")):
        machine = cls(kernel="linear", decision_function_shape=shape, **NU.get(cls, {})).fit(Z, y)
        check_exact(machine, X, 1e-10, method="decision_function")
    # One-vs-rest of several classes counts votes, which are steps.
    machine = cls(kernel="linear", **NU.get(cls, {})).fit(Z, LABELS)
    assert convert(machine) is None
    assert convert(cls(**NU.get(cls, {})).fit(Z, LABELS % 2)) is None  # no linear kernel


NU = {svm.NuSVC: {"nu": 0.3}}


@pytest.mark.parametrize("method", ["decision_function", "score_samples"])
@pytest.mark.parametrize(
    "estimator",
    [
        linear_model.SGDOneClassSVM(random_state=0),
        linear_model.SGDOneClassSVM(fit_intercept=False, random_state=0),
        svm.OneClassSVM(kernel="linear"),
    ],
    ids=repr,
)
def test_linear_outlier_detectors(estimator, method):
    check_gradient(check_exact(estimator.fit(Z), X, 1e-10, method=method), X)


def test_other_one_class_machines_have_no_torch_form():
    assert convert(svm.OneClassSVM().fit(Z)) is None


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("params", [{}, {"solver": "eigen"}, {"n_components": 1}], ids=str)
def test_discriminant_analysis(params, n_classes):
    estimator = LinearDiscriminantAnalysis(**params).fit(Z, LABELS % n_classes)
    for method in ("transform", "predict_proba", "predict_log_proba", "decision_function"):
        check_exact(estimator, Z, 1e-10, method=method)


@pytest.mark.parametrize(
    "estimator",
    [
        linear_model.LogisticRegression(),
        linear_model.SGDClassifier(loss="log_loss", alpha=0.1, random_state=0),
        MLPClassifier((4,), max_iter=20, random_state=0),
    ],
    ids=repr,
)
@pytest.mark.parametrize("y", [LABELS % 2, LABELS, np.eye(3, dtype=int)[LABELS]])
def test_log_probabilities(estimator, y):
    if y.ndim == 2 and not isinstance(estimator, MLPClassifier):
        return  # it takes one label a sample
    fit(estimator, Z, y)
    if isinstance(estimator, linear_model.SGDClassifier) and y.max() > 1:
        assert convert(estimator, "predict_log_proba") is None  # one-vs-rest
    else:
        check_gradient(check_exact(estimator, Z, 1e-10, method="predict_log_proba"), Z)


def test_log_probabilities_are_finite_where_probabilities_round_to_zero():
    estimator = fit(linear_model.LogisticRegression(), Z, LABELS % 2)
    far = torch.as_tensor(1e4 * Z)
    assert torch.isinf(convert(estimator)(far).log()).any()
    assert torch.isfinite(convert(estimator, "predict_log_proba")(far)).all()


class Tempered(linear_model.RidgeClassifier):
    def decision_function(self, X):
        return super().decision_function(X) / 2


class Named(linear_model.RidgeClassifier):
    pass


def test_decision_function_of_subclasses():
    assert convert(Tempered().fit(Z, LABELS)) is None
    check_exact(Named().fit(Z, LABELS), X, method="decision_function")


@pytest.mark.parametrize("estimator", [linear_model.RidgeClassifier(), preprocessing.Normalizer()])
def test_methods_without_torch_form(estimator):
    estimator.fit(Z, LABELS)
    for method in ("transform", "predict", "score_samples", "predict_log_proba"):
        assert convert(estimator, method) is None


INVERTIBLE = [
    *[e for e in PREPROCESSING if type(e).__name__.endswith("Scaler")],
    preprocessing.FunctionTransformer(),
    decomposition.PCA(3),
    decomposition.PCA(2, whiten=True),
    decomposition.TruncatedSVD(2, random_state=0),
    make_pipeline(preprocessing.StandardScaler(), "passthrough", decomposition.PCA(2)),
]


@pytest.mark.parametrize("transformer", INVERTIBLE, ids=lambda e: repr(e).split(" at 0x")[0])
def test_inverses(transformer):
    z = transformer.fit(X).transform(X) * 1.5
    module = convert_inverse(transformer)
    expected = transformer.inverse_transform(z)
    np.testing.assert_allclose(module(torch.as_tensor(z)).numpy(), expected, rtol=1e-10, atol=1e-10)
    check_gradient(module, z)


@pytest.mark.parametrize("inverse", [known for known, _ in _FUNCTIONS], ids=lambda f: f.__name__)
def test_inverse_functions(inverse):
    between = np.linspace(0.1, 0.9, 20)[:, None]
    transformer = preprocessing.FunctionTransformer(inverse_func=inverse, check_inverse=False)
    module = convert_inverse(transformer.fit(between))
    out = module(torch.as_tensor(between)).numpy()
    np.testing.assert_allclose(out, transformer.inverse_transform(between), rtol=1e-12)
    check_gradient(module, between)


@pytest.mark.parametrize(
    "transformer",
    [
        preprocessing.FunctionTransformer(np.cbrt, lambda x: x**3),
        preprocessing.FunctionTransformer(special.exprel, np.log, inv_kw_args={"where": True}),
        preprocessing.QuantileTransformer(n_quantiles=10),
        make_pipeline(preprocessing.StandardScaler(), preprocessing.PowerTransformer()),
        Shifted(),
    ],
    ids=["lambda", "arguments", "quantiles", "pipeline", "subclass"],
)
def test_inverses_without_torch_form(transformer):
    assert convert_inverse(transformer.fit(X)) is None
