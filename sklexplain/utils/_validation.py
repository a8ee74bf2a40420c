"""Validation of X with any number of axes, shared by explainers and nets."""

import numbers

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from ._cells import as_numbers
from ._containers import as_array_like, check_rows
from ._messages import did_you_mean, n_shape


def validate_X(estimator, X, *, reset, raw=False, allow_nan=False):
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
    allow_nan : bool, default=False
        Let missing numbers through.

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
    X = as_array_like(X)
    check_rows(X)
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
        given, X = X, as_numbers(X)
        _check_more_than_one_axis(X)
        if not reset:
            _check_axes(estimator, X)
        options = {"dtype": "numeric", "allow_nd": True, "ensure_all_finite": False}
        X = check_array(X, estimator=estimator, input_name="X", **options)
        validate_data(estimator, given, reset=reset, skip_check_array=True)
        X = X.astype(np.float64) if X.dtype.kind == "b" or X.dtype == np.float16 else X
        names = getattr(estimator, "feature_names_in_", None)
        check_finite(X, names, estimator, allow_nan=allow_nan)
    if reset:
        estimator.input_shape_ = tuple(X.shape[1:])
    else:
        _check_axes(estimator, X)
    return X


def _check_more_than_one_axis(X):
    """Raise a ValueError if there is one axis, so that samples and features cannot be told apart.

    Raises
    ------
    ValueError
        With both ways to add one.
    """
    shape = (len(X),) if isinstance(X, (list, tuple)) else getattr(X, "shape", ())
    if len(shape) < 2:
        got = "1D array" if shape else "scalar array"
        raise ValueError(
            f"Expected 2D array, got {got} instead: X has shape {shape}. Reshape your data: "
            "X[None] if it is one sample, X[:, None] if it is one feature."
        )


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


def check_finite(X, names, estimator, *, allow_nan=False):
    """Raise a ValueError that locates the first NaN or infinite value.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
        Numbers.
    names : array-like of str or None
        Column names, for two-dimensional X.
    estimator : estimator
        Named in the message.
    allow_nan : bool, default=False
        Whether only infinite values are refused.

    Raises
    ------
    ValueError
        If a value is NaN or infinite.
    """
    if X.dtype.kind != "f" or np.isfinite(np.sum(X)):
        return
    bad = np.isinf(X) if allow_nan else ~np.isfinite(X)
    if bad.any():
        row, *rest = np.argwhere(bad)[0].tolist()
        error = not_finite_error(X[row], tuple(rest), row, names, estimator)
        raise error


def not_finite_error(sample, where, row, names, estimator, fix=None):
    """Build the error about a value that is not finite.

    Parameters
    ----------
    sample : ndarray
        The sample that has it.
    where : tuple of int
        Its position there.
    row : int
        The sample's position in X.
    names : array-like of str or None
        Column names, for samples with one axis.
    estimator : estimator
        Named in the message.
    fix : str or None, default=None
        What to do; None: what is usual.

    Returns
    -------
    error : ValueError
    """
    kind = "NaN" if np.isnan(sample[where]) else "infinity"
    is_table = sample.ndim == 1
    if is_table:
        place = f"column {where[0]}" if names is None else f"column {str(names[where[0]])!r}"
    else:
        place = f"position {where} of the sample (axes 1 to {sample.ndim} of X)"
    usual = (
        "fill it before (by interpolation, or with 0), or explain a network that masks missing "
        "values itself"
    )
    if kind != "NaN":
        usual = "clip or remove it"
    elif is_table:
        usual = "impute it, in a Pipeline around the estimator (SimpleImputer) or before"
    return ValueError(
        f"Input X contains {kind}: {place}, row {row}. {type(estimator).__name__} does not accept "
        f"missing values encoded as NaN, nor infinity; {fix or usual}."
    )


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
    if isinstance(value, str) and value in choices:
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
