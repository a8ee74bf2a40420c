"""Copies of arrays that belong to the caller, so that a fitted object owns what it keeps."""

import copy

import numpy as np
import torch

from ._constraints import check_params

_DEPTH = 8
# Parameters that change how much is done at once, never a result: they count at once.
_LIVE = ("batch_size", "max_bytes", "n_jobs", "verbose")


def own_arrays(owner, foreign, skip=()):
    """Replace by copies all arrays in an object that share memory with the caller's.

    Looks into attributes, containers and objects of this library's classes, not into models.

    Parameters
    ----------
    owner : object
        The object whose attributes are checked.
    foreign : list of object
        Values that the caller passed; arrays, tensors and DataFrames in them are considered.
    skip : container of str, default=()
        Attributes that are left alone, as constructor parameters are.
    """
    theirs = [a for value in foreign for a in _arrays(value)]
    if theirs:
        _Owning(theirs).attributes(owner, skip)


def _arrays(value):
    if isinstance(value, torch.Tensor):
        array = _array(value)
        return [] if array is None else [array]
    if isinstance(value, np.ndarray):
        return [value]
    if hasattr(value, "columns") and hasattr(value, "to_numpy"):
        columns = (np.asarray(value[name]) for name in value.columns)
        return [column for column in columns if column.dtype != object]
    if isinstance(value, dict):
        return [a for v in value.values() for a in _arrays(v)]
    if isinstance(value, (list, tuple)) and len(value) <= 100:
        return [a for v in value for a in _arrays(v)]
    return []


def _array(tensor):
    """Array that shares memory with a tensor, None where numpy cannot have it."""
    try:
        return tensor.detach().numpy()
    except (TypeError, RuntimeError):  # bfloat16 and quantised numbers; on another device
        return None


class _Owning:
    """One walk over an object and everything in it."""

    def __init__(self, theirs):
        self._theirs = theirs
        self._seen = set()

    def attributes(self, owner, skip=(), depth=0):
        """Replace the caller's arrays among the attributes of an object."""
        for name, value in list(vars(owner).items()):
            # Models are shared on purpose; views of them hold their weights.
            if name in skip or name in ("estimator_", "_representation_of_fit", "_values_at_fit"):
                continue
            owned = self._owned(value, depth)
            if owned is not value:
                object.__setattr__(owner, name, owned)

    def _owned(self, value, depth):
        """Return the value, or a copy if it belongs to the caller."""
        if isinstance(value, np.ndarray):
            return self._copied(value, value)
        if isinstance(value, torch.Tensor):
            array = _array(value)
            return value if array is None else self._copied(value, array)
        if depth > _DEPTH or id(value) in self._seen:
            return value
        if isinstance(value, dict):
            self._seen.add(id(value))
            for key, item in value.items():
                value[key] = self._owned(item, depth + 1)
        elif isinstance(value, list):
            self._seen.add(id(value))
            value[:] = [self._owned(item, depth + 1) for item in value]
        elif type(value) is tuple:
            owned = tuple(self._owned(item, depth + 1) for item in value)
            changed = any(a is not b for a, b in zip(owned, value, strict=True))
            return owned if changed else value
        elif type(value).__module__.startswith("sklexplain.") and hasattr(value, "__dict__"):
            if not isinstance(value, torch.nn.Module):
                self._seen.add(id(value))
                self.attributes(value, (), depth + 1)
        return value

    def _copied(self, value, array):
        # This compares bounds only: an exact answer can take exponential time.
        if any(np.may_share_memory(array, other) for other in self._theirs):
            return value.clone() if isinstance(value, torch.Tensor) else value.copy()
        return value


class FittedParams:
    """Parameters as they were in ``fit``; those that change no result as they are now.

    Made anew at every access: kept by the explainer, it would be a circle that only the garbage
    collector ends, and the explainer's networks with it.
    """

    def __init__(self, explainer, values, resolve):
        self._explainer = explainer
        self._values = values
        self._resolve = resolve  # functions that make something else of parameters, by their names

    def __getattr__(self, name):
        if name.startswith("__") or "_values" not in vars(self):
            raise AttributeError(name)
        if name in _LIVE and hasattr(self._explainer, name):
            checked = check_params(self._explainer, [name])
            value = checked.get(name, getattr(self._explainer, name))
            return self._resolve[name](value) if name in self._resolve else value
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"there is no parameter {name!r}") from None


def lent(X):
    """Copy samples for a function or model of the user's, which may write into what it is given.

    A Pipeline whose first step has ``copy=False`` does, for example.

    Parameters
    ----------
    X : ndarray, DataFrame, list or torch.Tensor of shape (n, ...)
        Samples.

    Returns
    -------
    X : object
        A copy in the same layout; what cannot be written into as it is.
    """
    if isinstance(X, torch.Tensor):
        return X.clone()
    if isinstance(X, np.ndarray):
        return X.copy(order="K")
    return X.copy() if hasattr(X, "iloc") or isinstance(X, list) else X


def own_value(value):
    """Copy what could be written into; functions and models are shared."""
    if isinstance(value, (dict, list, set, np.ndarray, torch.Tensor)):
        return copy.deepcopy(value)
    return value
