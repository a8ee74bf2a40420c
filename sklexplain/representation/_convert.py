"""Fitted scikit-learn estimators as torch modules: exact, in float64.

Every converter below rebuilds what the estimator's ``transform``, ``predict_proba`` or ``predict``
computes, from its public fitted attributes. Types are matched exactly, never by ``isinstance``:
a subclass may compute something else, and then it has no torch form.
"""

import functools
import operator

import numpy as np
import torch
from sklearn import decomposition, linear_model, neural_network, preprocessing, svm
from sklearn.feature_selection import SelectorMixin
from torch import nn

from ..layers import LinearMap

# A module that keeps columns apart has a `column_map`, which is used only if the module declares to
# be affine (``is_affine``): then one value and the derivative determine all others, up to a clip or
# to rounding.


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
        """Source column of every output column, and the derivative along it."""
        return np.arange(n_columns), np.broadcast_to(self.scale.numpy(), n_columns)


class ColumnSelection(nn.Module):
    """A selection of columns, in the order given."""

    is_affine = True

    def __init__(self, indices):
        super().__init__()
        self.register_buffer("indices", torch.as_tensor(np.asarray(indices, dtype=np.int64)))

    def forward(self, x):
        return x[:, self.indices]

    def column_map(self, n_columns):
        """Source column of every output column, and the derivative along it."""
        return self.indices.numpy(), np.ones(len(self.indices))


class Identity(nn.Module):
    """What ``"passthrough"`` and an identity ``FunctionTransformer`` do."""

    is_affine = True

    def forward(self, x):
        return x

    def column_map(self, n_columns):
        """Source column of every output column, and the derivative along it."""
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
        """Source column of every output column, and the derivative along it."""
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
    coef = np.atleast_2d(np.asarray(est.coef_, dtype=np.float64))
    return LinearMap(coef, np.atleast_1d(est.intercept_))


def _logistic(est):
    # One-vs-rest probabilities, normalised, are no softmax; old versions have a choice.
    one_vs_rest = len(est.classes_) > 2 and est.solver == "liblinear"
    if one_vs_rest or getattr(est, "multi_class", "auto") not in ("auto", "deprecated"):
        return None
    link = BinaryProbabilities() if len(est.coef_) == 1 else nn.Softmax(dim=1)
    return _sequential(("linear", LinearMap(est.coef_, est.intercept_)), ("proba", link))


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

_CONVERTERS = {
    preprocessing.StandardScaler: _standard_scaler,
    preprocessing.MinMaxScaler: _min_max_scaler,
    preprocessing.MaxAbsScaler: _max_abs_scaler,
    preprocessing.RobustScaler: _robust_scaler,
    preprocessing.FunctionTransformer: _function_transformer,
    decomposition.PCA: _pca,
    decomposition.IncrementalPCA: _pca,
    decomposition.TruncatedSVD: _truncated_svd,
    linear_model.LogisticRegression: _logistic,
    linear_model.LogisticRegressionCV: _logistic,
    neural_network.MLPClassifier: _mlp,
    neural_network.MLPRegressor: _mlp,
    **dict.fromkeys(_LINEAR_REGRESSORS, _linear_regressor),
}


def convert(estimator):
    """Convert one fitted scikit-learn estimator to a torch module.

    Parameters
    ----------
    estimator : estimator
        A fitted scaler, decomposition, feature selector, linear or logistic model, or MLP.

    Returns
    -------
    module : torch.nn.Module or None
        Computes in float64 what ``transform``, else ``predict_proba``, else ``predict`` returns,
        always with two dimensions; None where the estimator has no exact torch form.
    """
    converter = _CONVERTERS.get(type(estimator))
    if converter is None and isinstance(estimator, SelectorMixin):
        # Every selector's transform is the selection of its support, whatever chose it.
        if type(estimator).transform is SelectorMixin.transform:
            converter = _selector
    return None if converter is None else converter(estimator)
