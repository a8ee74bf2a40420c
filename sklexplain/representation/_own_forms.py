"""Torch forms of users for their own estimators: taken as they are, and held against numbers."""

import copy

import numpy as np
from torch import nn

# Relative difference that single precision explains.
_TOLERANCE = 1e-5


class OwnConverter:
    """A user's converter in the form of the library's, see `convert`.

    Parameters
    ----------
    converter : callable
        ``converter(estimator)``, see `sklexplain.extending.register_converter`.
    method : str
        The method of the estimator that it converts.
    """

    def __init__(self, converter, method):
        self.converter, self.method = converter, method

    def __call__(self, estimator):
        module = self.converter(estimator)
        if module is None:
            return None
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"the converter of {type(estimator).__name__} returned "
                f"{type(module).__name__}, not a torch module or None."
            )
        # It may be part of the estimator, which stays as it is.
        module = copy.deepcopy(module).eval().requires_grad_(False).double()
        module.stands_for = (estimator, self.method)
        return module


def check_own_forms(chain, recording):
    """Compare what users' torch forms returned in a pass with what the estimators return.

    Parameters
    ----------
    chain : nn.Module
        The torch path that was run.
    recording : Recording
        The pass.

    Raises
    ------
    ValueError
        If they differ.
    """
    for module in chain.modules():
        if not hasattr(module, "stands_for"):
            continue
        estimator, method = module.stands_for
        for call in recording.of(module):
            if call.ended is not None:
                _check(estimator, method, call)


def _check(estimator, method, call):
    what = f"{method} of {type(estimator).__name__}"
    rows = call.args[0].detach().cpu().numpy()
    expected = np.asarray(getattr(estimator, method)(rows.copy()), dtype=np.float64)
    found = call.output.detach().cpu().numpy()
    if expected.ndim == 1:
        expected = expected[:, None]
    if found.shape != expected.shape:
        raise ValueError(
            f"the registered torch form of {what} returns shape {found.shape} where the estimator "
            f"returns {expected.shape}."
        )
    allowed = _TOLERANCE * np.abs(expected).max(initial=0.0)
    error = np.abs(found - expected).max(initial=0.0)
    if not error <= allowed:
        raise ValueError(
            f"the registered torch form of {what} differs from it by {error:.2g} on the first "
            f"samples, whose values are up to {np.abs(expected).max():.2g}; correct the converter, "
            "or remove() it."
        )
