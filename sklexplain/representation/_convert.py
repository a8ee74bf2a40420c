"""Fitted scikit-learn estimators as torch modules: exact, in float64.

Every converter below rebuilds what one of the estimator's methods computes, from its public fitted
attributes. Types are matched exactly, never by ``isinstance``, or the method's code itself is:
a subclass may compute something else, and then it has no torch form.
"""

import copy
import functools
import operator

import numpy as np
import torch
from scipy import sparse
from sklearn import decomposition, linear_model, neural_network, preprocessing, svm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import SelectorMixin
from sklearn.linear_model._base import LinearClassifierMixin
from torch import nn

from ..layers import LinearMap
from ..utils import Registration, check_choice
from ._offers import offered_method
from ._own_forms import OwnConverter


class Affine(nn.Module):
    """Column-wise ``(x - center) * scale + offset``, then an optional clip."""

    is_affine = True

    def __init__(self, center, scale, offset=0.0, clip=None):
        super().__init__()
        for name, value in (("center", center), ("scale", scale), ("offset", offset)):
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float64))
        self.clip = clip

    def forward(self, x):
        x = (x.to(self.scale.dtype) - self.center) * self.scale + self.offset
        return x if self.clip is None else x.clamp(*self.clip)

    def column_map(self, n_columns):
        """Map outputs to columns; see `column_map`, which has the law."""
        return np.arange(n_columns), np.broadcast_to(self.scale.numpy(), n_columns)


class Clip(nn.Module):
    """Columns clipped to limits of their own, as a scaler in front of an imputer clips them."""

    is_affine = True

    def __init__(self, low, high):
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, x):
        return x.to(self.low.dtype).clamp(self.low, self.high)

    def column_map(self, n_columns):
        """Map outputs to columns; see `column_map`, which has the law."""
        return np.arange(n_columns), np.ones(n_columns)


def without_clips(module):
    """Return a copy of a column-wise module that does not clip."""
    module = copy.deepcopy(module)
    for part in module.modules():
        if isinstance(part, Affine):
            part.clip = None
        elif isinstance(part, Clip):
            part.low.fill_(-torch.inf)
            part.high.fill_(torch.inf)
    return module


class ColumnSelection(nn.Module):
    """A selection of columns, in the order given."""

    is_affine = True

    def __init__(self, indices):
        super().__init__()
        self.register_buffer("indices", torch.as_tensor(np.asarray(indices, dtype=np.int64)))

    def forward(self, x):
        return x[:, self.indices]

    def column_map(self, n_columns):
        """Map outputs to columns; see `column_map`, which has the law."""
        return self.indices.numpy(), np.ones(len(self.indices))


class Identity(nn.Module):
    """What ``"passthrough"`` and an identity ``FunctionTransformer`` do."""

    is_affine = True

    def forward(self, x):
        return x

    def column_map(self, n_columns):
        """Map outputs to columns; see `column_map`, which has the law."""
        return np.arange(n_columns), np.ones(n_columns)


class Cast(nn.Module):
    """Numbers rounded to another type, as a step that casts rounds them."""

    is_affine = True

    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, x):
        return x.to(self.dtype)

    def column_map(self, n_columns):
        """Map outputs to columns; see `column_map`, which has the law."""
        return np.arange(n_columns), np.ones(n_columns)


class Exponential(nn.Module):
    """The mean of a Poisson regression."""

    def forward(self, x):
        return x.exp()


class BinaryProbabilities(nn.Module):
    """Logits (n, 1) to the probabilities (n, 2) of the negative and the positive class."""

    def forward(self, logits):
        p = torch.sigmoid(logits)
        return torch.cat([1 - p, p], dim=1)


class BinaryLogProbabilities(nn.Module):
    """Logits (n, 1) to the logarithms (n, 2) of both classes' probabilities."""

    def forward(self, logits):
        return nn.functional.logsigmoid(torch.cat([-logits, logits], dim=1))


def _sequential(*named):
    """Build an ``nn.Sequential`` from (name, module) pairs, so that layers can be named."""
    module = nn.Sequential()
    for name, child in named:
        module.add_module(name, child)
    return module


def _standard_scaler(est):
    center = 0.0 if est.mean_ is None or not est.with_mean else est.mean_
    return Affine(center, 1.0 if est.scale_ is None else _inverse(est.scale_))


def _min_max_scaler(est):
    # data_min_ first: x * scale_ + min_ cancels when the offset dwarfs the spread (epoch seconds).
    clip = tuple(map(float, est.feature_range)) if est.clip else None
    return Affine(est.data_min_, est.scale_, est.feature_range[0], clip)


def _max_abs_scaler(est):
    return Affine(
        0.0, _inverse(est.scale_), clip=(-1.0, 1.0) if getattr(est, "clip", False) else None
    )


def _robust_scaler(est):
    center = est.center_ if est.with_centering else 0.0
    return Affine(center, _inverse(est.scale_) if est.with_scaling else 1.0)


def _inverse(scale):
    return 1.0 / np.asarray(scale, dtype=np.float64)


def _pca(est):
    scale = 1.0
    if est.whiten:
        # scikit-learn's own floor: directions without variance stay finite.
        deviation = np.sqrt(est.explained_variance_)
        scale = np.maximum(deviation, np.finfo(deviation.dtype).eps)
    return LinearMap(est.components_, center=est.mean_, scale=scale)


def _truncated_svd(est):
    return LinearMap(est.components_)


def _discriminant_transform(est):
    if est.solver == "lsqr":  # it has none
        return None
    n_components = len(est.get_feature_names_out())
    center = est.xbar_ if est.solver == "svd" else 0.0
    return LinearMap(est.scalings_[:, :n_components].T, center=center)


_AS_ARRAY = (np.asarray, np.ascontiguousarray)
_CASTS = {np.dtype(np.float32): torch.float32, np.dtype(np.float64): torch.float64}


def _function_transformer(est):
    if est.kw_args:
        return None
    if est.func is None or est.func in _AS_ARRAY:
        return Identity()
    dtype = _cast_dtype(est.func)
    dtype = None if dtype is None else _CASTS.get(np.dtype(dtype))
    return None if dtype is None else Cast(dtype)


def _cast_dtype(func):
    """Return the dtype that a function casts to, None if it may do anything else."""
    if func in (np.float32, np.float64):
        return func
    if isinstance(func, functools.partial) and func.func in _AS_ARRAY and not func.args:
        return func.keywords["dtype"] if set(func.keywords) == {"dtype"} else None
    if isinstance(func, operator.methodcaller):
        call, args = func.__reduce__()  # a partial one, if there are keywords
        keywords = getattr(call, "keywords", {})
        match (*getattr(call, "args", ()), *args, *keywords.values()):
            case ("astype", dtype) if set(keywords) <= {"dtype"}:
                return dtype
    return None


def _selector(est):
    return ColumnSelection(est.get_support(indices=True))


def _linear_regressor(est):
    return LinearMap(_coef(est), np.atleast_1d(est.intercept_))


def _coef(est):
    """Coefficients, one row an output: sparse ones are dense."""
    coef = est.coef_.toarray() if sparse.issparse(est.coef_) else est.coef_
    return np.atleast_2d(np.asarray(coef, dtype=np.float64))


def _linear_scores(est):
    """Layer ``linear``: scores of a linear classifier, logits of a logistic regression."""
    return _sequential(("linear", LinearMap(_coef(est), np.atleast_1d(est.intercept_))))


def _probabilities(est):
    """Layers ``linear`` and ``proba``: probabilities of a linear classifier's scores."""
    module = _linear_scores(est)
    binary = len(module.linear.weight) == 1
    module.add_module("proba", BinaryProbabilities() if binary else nn.Softmax(dim=1))
    return module


def _logistic(est):
    # One-vs-rest probabilities, normalised, are no softmax; old versions have a choice.
    one_vs_rest = len(est.classes_) > 2 and est.solver == "liblinear"
    if one_vs_rest or getattr(est, "multi_class", "auto") not in ("auto", "deprecated"):
        return None
    return _probabilities(est)


def _sgd_probabilities(est):
    # Of several classes they are one-vs-rest.
    return _probabilities(est) if est.loss == "log_loss" and len(est.classes_) == 2 else None


def _linear_svm(est):
    """Scores of a support vector machine with a linear kernel."""
    if est.kernel != "linear":
        return None
    # Otherwise votes of the pairs of classes are counted, which are steps.
    is_linear = len(est.classes_) == 2 or est.decision_function_shape == "ovo"
    return _linear_scores(est) if is_linear else None


def _one_class_svm(est, offset=True):
    """Decision function of a one-class support vector machine, or its score before the offset."""
    if getattr(est, "kernel", "linear") != "linear":
        return None
    return _sequential(("linear", LinearMap(_coef(est), -np.atleast_1d(est.offset_) * offset)))


_ACTIVATIONS = {"identity": Identity, "logistic": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


def _mlp(est):
    """Layers: ``hidden_0``, ``activation_0``, …, ``output``, and ``proba`` or ``mean``, if any."""
    named = []
    for i, (weight, bias) in enumerate(zip(est.coefs_, est.intercepts_, strict=True)):
        last = i == len(est.coefs_) - 1
        named.append(("output" if last else f"hidden_{i}", LinearMap(weight.T, bias)))
        if not last:
            named.append((f"activation_{i}", _ACTIVATIONS[est.activation]()))
    if est.out_activation_ == "softmax":
        named.append(("proba", nn.Softmax(dim=1)))
    elif est.out_activation_ == "logistic":
        binary = est.n_outputs_ == 1
        named.append(("proba", BinaryProbabilities() if binary else nn.Sigmoid()))
    elif est.out_activation_ == "exp":
        named.append(("mean", Exponential()))
    return _sequential(*named)


_LINEAR_REGRESSORS = (
    linear_model.ARDRegression,
    linear_model.BayesianRidge,
    linear_model.ElasticNet,
    linear_model.ElasticNetCV,
    linear_model.HuberRegressor,
    linear_model.Lars,
    linear_model.LarsCV,
    linear_model.Lasso,
    linear_model.LassoCV,
    linear_model.LassoLars,
    linear_model.LassoLarsCV,
    linear_model.LassoLarsIC,
    linear_model.LinearRegression,
    linear_model.MultiTaskElasticNet,
    linear_model.MultiTaskElasticNetCV,
    linear_model.MultiTaskLasso,
    linear_model.MultiTaskLassoCV,
    linear_model.OrthogonalMatchingPursuit,
    linear_model.OrthogonalMatchingPursuitCV,
    linear_model.QuantileRegressor,
    linear_model.Ridge,
    linear_model.RidgeCV,
    linear_model.SGDRegressor,
    linear_model.TheilSenRegressor,
    svm.LinearSVR,
)

_TRANSFORMS = {
    preprocessing.StandardScaler: _standard_scaler,
    preprocessing.MinMaxScaler: _min_max_scaler,
    preprocessing.MaxAbsScaler: _max_abs_scaler,
    preprocessing.RobustScaler: _robust_scaler,
    preprocessing.FunctionTransformer: _function_transformer,
    decomposition.PCA: _pca,
    decomposition.IncrementalPCA: _pca,
    decomposition.TruncatedSVD: _truncated_svd,
    LinearDiscriminantAnalysis: _discriminant_transform,
}
_PROBABILITIES = {
    linear_model.LogisticRegression: _logistic,
    linear_model.LogisticRegressionCV: _logistic,
    linear_model.SGDClassifier: _sgd_probabilities,
    LinearDiscriminantAnalysis: _probabilities,
    neural_network.MLPClassifier: _mlp,
}
_ONE_CLASS = (linear_model.SGDOneClassSVM, svm.OneClassSVM)
_DECISIONS = {
    **dict.fromkeys((svm.SVC, svm.NuSVC), _linear_svm),
    **dict.fromkeys(_ONE_CLASS, _one_class_svm),
}
_CONVERTERS = {
    "transform": _TRANSFORMS,
    "predict_proba": _PROBABILITIES,
    "decision_function": _DECISIONS,
    "score_samples": dict.fromkeys(_ONE_CLASS, functools.partial(_one_class_svm, offset=False)),
    "predict": {
        neural_network.MLPRegressor: _mlp,
        **dict.fromkeys(_LINEAR_REGRESSORS, _linear_regressor),
    },
}
# The code of all linear classifiers that have no decision function of their own.
_LINEAR_DECISIONS = (
    LinearClassifierMixin.decision_function,
    LinearDiscriminantAnalysis.decision_function,
)


def convert(estimator, method="auto"):
    """Convert one fitted scikit-learn estimator to a torch module.

    Parameters
    ----------
    estimator : estimator
        A fitted scaler, decomposition, feature selector, linear or logistic model, or MLP.
    method : str or None, default="auto"
        What of it. ``"auto"``: what is explained where nothing is chosen; None has no torch form.

    Returns
    -------
    module : torch.nn.Module or None
        Computes in float64 what the method returns, always with two dimensions; None where it has
        no exact torch form.
    """
    method = offered_method(estimator) if method == "auto" else method
    if method == "predict_log_proba":
        return _log_probabilities(convert(estimator, "predict_proba"))
    converter = _CONVERTERS.get(method, {}).get(type(estimator))
    if method == "transform" and converter is None and isinstance(estimator, SelectorMixin):
        # Every selector's transform is the selection of its support, whatever chose it.
        if type(estimator).transform is SelectorMixin.transform:
            converter = _selector
    if method == "decision_function" and converter is None:
        if getattr(type(estimator), method, None) in _LINEAR_DECISIONS:
            converter = _linear_scores
    return None if converter is None else converter(estimator)


def register_converter(kind, converter, method="transform"):
    """Add a converter of one's own; see `sklexplain.extending.register_converter`."""
    if not isinstance(kind, type) or issubclass(kind, nn.Module):
        raise TypeError(f"kind={kind!r} must be a class of estimators.")
    if not callable(converter):
        raise TypeError(f"converter={converter!r} must be callable.")
    check_choice("method", method, _CONVERTERS)
    if not callable(getattr(kind, method, None)):
        raise TypeError(f"method={method!r}: {kind.__name__} has no such method.")
    words = f"a converter of {kind.__name__}.{method}"
    return Registration(_CONVERTERS[method], kind, OwnConverter(converter, method), words)


def _log_probabilities(module):
    """Exchange the last step of a converted classifier, ``proba``, for ``log_proba``."""
    if module is None:
        return None
    *before, (_, last) = module.named_children()
    if isinstance(last, BinaryProbabilities):
        link = BinaryLogProbabilities()
    else:
        link = nn.LogSoftmax(dim=1) if isinstance(last, nn.Softmax) else nn.LogSigmoid()
    return _sequential(*before, ("log_proba", link))
