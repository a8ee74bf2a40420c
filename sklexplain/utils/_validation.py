"""Validation of X with any number of axes, shared by explainers and nets."""

import numbers

import numpy as np
import torch
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from ..exceptions import DataConversionWarning
from ._messages import did_you_mean, n_shape, warn
from ._several import check_one_array


def as_array_like(X):
    """Torch tensors become numpy arrays; anything else is returned as it is.

    Parameters
    ----------
    X : array-like, DataFrame or torch.Tensor
        Samples.

    Returns
    -------
    X : array-like or DataFrame
    """
    return X.detach().cpu().numpy() if isinstance(X, torch.Tensor) else X


def validate_X(estimator, X, *, reset, raw=False):
    """Validate samples with two or more axes, and record or check their shape and names.

    Parameters
    ----------
    estimator : estimator
        Gets ``n_features_in_``, ``feature_names_in_`` (DataFrames) and ``input_shape_`` if
        ``reset``; its ``input_shape_`` is checked against otherwise.
    X : array-like, DataFrame or torch.Tensor of shape (n, ...)
        Samples.
    reset : bool
        Whether this is ``fit``.
    raw : bool, default=False
        Leave missing values, categories and the container as they are, for a Pipeline that takes
        them.

    Returns
    -------
    X : ndarray or DataFrame
        Numbers of the dtype they came in (float16, bool and numbers in object arrays: float64).

    Raises
    ------
    ValueError
        If there are NaN, infinite or non-numeric values, no samples, fewer than two axes, or
        another shape or other columns than in ``fit``.
    TypeError
        If X is sparse, or several arrays.
    """
    check_one_array(X)
    X = as_array_like(X)
    if raw:
        is_frame = hasattr(X, "columns")
        if not is_frame:
            options = {"dtype": None, "ensure_all_finite": False, "allow_nd": True}
            X = check_array(X, estimator=estimator, input_name="X", **options)
        if not reset:
            _check_axes(estimator, X)
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        if is_frame:  # of whatever columns: only its size is checked
            check_array(np.broadcast_to(0.0, X.shape), estimator=estimator, input_name="X")
    else:
        check_columns_numeric(X)
        if isinstance(X, np.ndarray) and X.dtype.kind in "US":
            X = X.astype(np.float64)
        if not reset:
            _check_axes(estimator, X)
        options = {"dtype": "numeric", "allow_nd": True, "ensure_all_finite": False}
        X = validate_data(estimator, X, reset=reset, **options)
        X = X.astype(np.float64) if X.dtype.kind == "b" or X.dtype == np.float16 else X
        check_finite(X, getattr(estimator, "feature_names_in_", None), estimator)
    if reset:
        estimator.input_shape_ = tuple(X.shape[1:])
    else:
        _check_axes(estimator, X)
    return X


def _check_axes(estimator, X):
    """Raise a ValueError if samples have other axes than in ``fit``.

    Tables of another width are left to scikit-learn.

    Raises
    ------
    ValueError
        Naming both shapes.
    """
    try:
        # What is only to become an array says nothing of its shape before.
        shape = np.shape(X)[1:] if isinstance(X, (list, tuple)) else getattr(X, "shape", ())[1:]
    except ValueError:  # lists of unequal lengths
        return
    expected = estimator.input_shape_
    if shape and shape != expected and max(len(shape), len(expected)) > 1:
        raise ValueError(
            f"X has shape {n_shape(shape)}, but {type(estimator).__name__} was fitted on "
            f"{n_shape(expected)}; axes are never added, dropped or swapped."
        )


def check_columns_numeric(X):
    """Raise a ValueError that names the first column without numbers, if there is one."""
    if hasattr(X, "columns") and hasattr(X, "shape"):
        columns = ((repr(str(name)), np.asarray(X[name])) for name in X.columns)
    elif isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "OUS":
        columns = ((i, X[:, i]) for i in range(X.shape[1]))
    else:
        return
    for name, column in columns:
        if column.dtype.kind in "biuf" or len(column) == 0:
            continue
        try:
            column.astype(np.float64)
        except (TypeError, ValueError):
            texts = (v for v in column if isinstance(v, (str, bytes)))
            example = next(texts, None if isinstance(X, np.ndarray) else column[0])
            if example is None:
                continue  # objects of other kinds: scikit-learn's message is as good
            raise ValueError(
                f"column {name} is not numeric (dtype {column.dtype}, for example "
                f"{str(example)!r}); drop it, or encode it in a Pipeline around the estimator "
                "(OneHotEncoder, OrdinalEncoder in a ColumnTransformer)."
            ) from None


def check_finite(X, names, estimator):
    """Raise a ValueError that locates the first NaN or infinite value.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
        Numbers.
    names : array-like of str or None
        Column names, for two-dimensional X.
    estimator : estimator
        Named in the message.

    Raises
    ------
    ValueError
        If a value is NaN or infinite.
    """
    if X.dtype.kind != "f" or np.isfinite(np.sum(X)) or np.isfinite(X).all():
        return
    row, *rest = np.argwhere(~np.isfinite(X))[0].tolist()
    kind = "NaN" if np.isnan(X[(row, *rest)]) else "infinity"
    if X.ndim == 2:
        where = f"column {rest[0]}" if names is None else f"column {str(names[rest[0]])!r}"
    else:
        where = f"position {tuple(rest)} of the sample (axes 1 to {X.ndim - 1} of X)"
    fix = (
        "impute it, in a Pipeline around the estimator (SimpleImputer) or before"
        if kind == "NaN"
        else "clip or remove it"
    )
    raise ValueError(
        f"Input X contains {kind}: {where}, row {row}. {type(estimator).__name__} does not accept "
        f"missing values encoded as NaN, nor infinity; {fix}."
    )


def too_large(X, dtype):
    """Words of the error about numbers that a network's dtype cannot hold."""
    return (
        f"X holds values up to {np.abs(X).max():.3g}, too large for the network's "
        f"{np.dtype(dtype).name}; put a scaler in a Pipeline in front of it."
    )


def cast_checked(X, dtype, names=None):
    """Cast numbers, refusing overflow and warning where a column loses its variation.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
        Numbers.
    dtype : dtype
        The dtype that the network takes.
    names : array-like of str or None, default=None
        Column names, for messages.

    Returns
    -------
    X : ndarray of shape (n, ...)

    Raises
    ------
    ValueError
        If a finite value overflows.

    Warns
    -----
    DataConversionWarning
        If rounding errors exceed 1 % of a column's standard deviation.
    """
    if X.dtype == dtype or np.dtype(dtype).kind != "f":
        return X.astype(dtype, copy=False)
    with np.errstate(over="ignore"):
        cast = X.astype(dtype)
    if not np.isfinite(cast).all():
        raise ValueError(too_large(X, dtype))
    if X.dtype.itemsize > np.dtype(dtype).itemsize or X.dtype.kind != "f":
        error = np.abs(cast.astype(np.float64) - X).max(axis=0)
        lost = np.ravel(error > 0.01 * np.std(X, axis=0, dtype=np.float64))
        # A constant column has no variation to lose, however it is rounded.
        lost &= np.ravel(np.ptp(X, axis=0) > 0)
        if lost.any():
            i = np.flatnonzero(lost)[0]
            if X.ndim == 2:
                where = f"Column {i if names is None else repr(str(names[i]))}"
            else:
                where = (
                    f"Position {tuple(map(int, np.unravel_index(i, X.shape[1:])))} of the sample"
                )
            warn(
                f"{where} varies too little for its size to be told apart in "
                f"{np.dtype(dtype).name}, which the network takes; put a StandardScaler in a "
                "Pipeline in front of it.",
                DataConversionWarning,
            )
    return cast


def check_choice(name, value, choices):
    """Raise a ValueError that names the nearest choices.

    Parameters
    ----------
    name : str
        The parameter.
    value : object
        The value of the parameter.
    choices : iterable of str
        The allowed values.

    Raises
    ------
    ValueError
        If ``value`` is not one of them.
    """
    choices = list(choices)
    if value in choices:
        return
    hint = did_you_mean(value, choices)
    raise ValueError(f"{name}={value!r} is unknown.{hint} Choose from {choices}.")


def check_positive_int(name, value, *, minimum=1):
    """Raise unless a parameter is an integer of at least ``minimum``.

    Parameters
    ----------
    name : str
        The parameter.
    value : object
        The value of the parameter.
    minimum : int, default=1
        The smallest allowed value.

    Returns
    -------
    value : int

    Raises
    ------
    TypeError
        If it is not an integer.
    ValueError
        If it is too small.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be an integer.")
    if value < minimum:
        raise ValueError(f"{name}={value} must be at least {minimum}.")
    return int(value)
