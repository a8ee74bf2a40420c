"""The way back through a fitted transformer as a torch module: exact, in float64."""

import numpy as np
import torch
from scipy import special
from sklearn import decomposition, preprocessing
from sklearn.pipeline import Pipeline
from torch import nn

from ..layers import LinearMap
from ._convert import Affine, Identity, convert

_SCALERS = (
    preprocessing.StandardScaler,
    preprocessing.MinMaxScaler,
    preprocessing.MaxAbsScaler,
    preprocessing.RobustScaler,
)
_PROJECTIONS = (decomposition.PCA, decomposition.IncrementalPCA, decomposition.TruncatedSVD)
# Functions of numpy and scipy that torch has too.
_FUNCTIONS = (
    (np.exp, torch.exp),
    (np.exp2, torch.exp2),
    (np.expm1, torch.expm1),
    (np.log, torch.log),
    (np.log10, torch.log10),
    (np.log1p, torch.log1p),
    (np.log2, torch.log2),
    (np.negative, torch.neg),
    (np.reciprocal, torch.reciprocal),
    (np.sqrt, torch.sqrt),
    (np.square, torch.square),
    (np.sinh, torch.sinh),
    (np.arcsinh, torch.arcsinh),
    (np.tanh, torch.tanh),
    (np.arctanh, torch.arctanh),
    (special.expit, torch.sigmoid),
    (special.logit, torch.logit),
)


class Elementwise(nn.Module):
    """A function of every number by itself."""

    def __init__(self, func):
        super().__init__()
        self.func = func

    def forward(self, x):
        return self.func(x.to(torch.float64))


def convert_inverse(transformer):
    """Convert what a fitted transformer's ``inverse_transform`` computes.

    Parameters
    ----------
    transformer : estimator
        A scaler, a projection, a function with its inverse, or a Pipeline of them.

    Returns
    -------
    module : torch.nn.Module or None
        In float64; None where it has no exact torch form.
    """
    if type(transformer) is Pipeline:
        steps = [s for _, s in transformer.steps if s is not None and s != "passthrough"]
        modules = [convert_inverse(step) for step in reversed(steps)]
        return None if None in modules else nn.Sequential(*modules)
    if type(transformer) in _SCALERS:
        forth = convert(transformer, "transform")
        # Without a clip: what was clipped cannot be known.
        return Affine(forth.offset, 1 / forth.scale, forth.center)
    if type(transformer) in _PROJECTIONS:
        forth = convert(transformer, "transform")
        weight = forth.weight * forth.scale.reshape(-1, 1)
        return LinearMap(weight.T.numpy(), forth.center.numpy())
    if type(transformer) is preprocessing.FunctionTransformer:
        return _inverse_function(transformer)
    return None


def _inverse_function(transformer):
    inverse = transformer.inverse_func
    if transformer.inv_kw_args:
        return None
    if inverse is None or inverse in (np.asarray, np.ascontiguousarray):
        return Identity()
    for known, function in _FUNCTIONS:
        if inverse is known:
            return Elementwise(function)
    return None
