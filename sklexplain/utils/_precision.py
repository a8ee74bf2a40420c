"""Casts of numbers that tell what they lose."""

import numpy as np
import torch

from ..exceptions import DataConversionWarning
from ._messages import warn

# From here on, neighbouring integers are the same number in float64.
EXACT = 2**53


def too_large(X, dtype):
    """Words of the error about numbers that a network's dtype cannot hold."""
    largest = np.nanmax(np.abs(X))
    if not np.isfinite(float(largest)):  # of more than 64 bits
        largest = np.format_float_scientific(largest, precision=2)
    else:
        largest = f"{largest:.3g}"
    return (
        f"X holds values up to {largest}, too large for the network's {_name(dtype)}; put a scaler "
        "in a Pipeline in front of it."
    )


def _name(dtype):
    """Name of a dtype of torch's, or of numpy's."""
    is_torch = isinstance(dtype, torch.dtype)
    return str(dtype).removeprefix("torch.") if is_torch else np.dtype(dtype).name


def cast_checked(X, dtype, names=None):
    """Cast numbers, refusing overflow and warning where a column loses its variation.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
        Numbers; missing ones stay NaN.
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
    if not np.isfinite(cast).all() and (np.isfinite(X) & ~np.isfinite(cast)).any():
        raise ValueError(too_large(X, dtype))
    if X.ndim and (X.dtype.itemsize > np.dtype(dtype).itemsize or X.dtype.kind != "f"):
        lost = _lost(X, cast)
        if lost.any():
            i = np.flatnonzero(lost)[0]
            column = X.reshape(len(X), -1)[:, i : i + 1]
            scalable = not _lost(column, column.astype(np.float64)).any()
            warn_of_lost(_place(X, i, names), dtype, scalable=scalable)
    return cast


def check_half(X, dtype, names=None):
    """Check that a network of half precision can hold single-precision numbers, as it will.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
        Numbers; missing ones are NaN.
    dtype : torch.dtype
        In which the network computes; any but float16 and bfloat16 needs no check.
    names : array-like of str or None, default=None
        Column names, for messages.

    Raises
    ------
    ValueError
        If a finite value overflows.

    Warns
    -----
    DataConversionWarning
        If rounding errors are usually more than 1 % of a column's standard deviation.
    """
    if dtype not in (torch.float16, torch.bfloat16):
        return
    cast = torch.from_numpy(np.ascontiguousarray(X)).to(dtype).double().numpy()
    known = np.isfinite(X)
    if (known & ~np.isfinite(cast)).any():
        raise ValueError(too_large(X, dtype))
    # The usual error, not the largest: that of values far out is a percent at any scale.
    X, error = (np.ma.array(values, mask=~known) for values in (X.astype(np.float64), cast - X))
    lost = np.ravel((np.sqrt((error**2).mean(axis=0)) > 0.01 * X.std(axis=0)).filled(False))
    lost &= np.ravel((X.max(axis=0) > X.min(axis=0)).filled(False))
    if lost.any():
        warn_of_lost(_place(X, np.flatnonzero(lost)[0], names), dtype, scalable=True)


def _place(X, i, names):
    """Name an entry of a flat sample."""
    if X.ndim == 2:
        return f"Column {i if names is None else repr(str(names[i]))}"
    return f"Position {tuple(map(int, np.unravel_index(i, X.shape[1:])))} of the sample"


def warn_of_lost(where, dtype, *, scalable=False):
    """Warn of a column whose values are the same, or nearly, in a floating dtype.

    Parameters
    ----------
    where : str
        Names the column.
    dtype : dtype
        The floating dtype.
    scalable : bool, default=False
        Whether float64, in which scalers compute, still tells them apart.

    Warns
    -----
    DataConversionWarning
        Always.
    """
    size = dtype.itemsize if isinstance(dtype, torch.dtype) else np.dtype(dtype).itemsize
    taker = ", which the network takes" if size < 8 else ""
    fix = (
        "put a StandardScaler in a Pipeline in front of it"
        if scalable
        else "subtract its smallest value before, as integers"
    )
    warn(
        f"{where} varies too little for its size to be told apart in {_name(dtype)}{taker}; {fix}.",
        DataConversionWarning,
    )


def _lost(X, cast):
    """Return, for every entry of a flat sample, whether rounding hides its variation."""
    if len(X) == 0:
        return np.zeros(1, dtype=bool)
    wide = cast.astype(np.float64)
    if X.dtype.kind in "iu" and X.dtype.itemsize == 8 and np.abs(wide).max() >= EXACT:
        # Only in integers are differences exact: to the smallest value, modulo 2**64.
        lowest = X.argmin(axis=0)[None]
        exact = X.astype(np.uint64) - np.take_along_axis(X, lowest, axis=0).astype(np.uint64)
        exact = exact.astype(np.float64)
        rounding = np.abs(exact - (wide - np.take_along_axis(wide, lowest, axis=0)))
        spread = exact.std(axis=0)
    elif X.dtype.kind == "f" and not np.isfinite(X).all():
        known = np.isfinite(X)
        count = np.maximum(known.sum(axis=0), 1)
        filled = np.where(known, X, 0)
        mean = filled.sum(axis=0, dtype=np.float64) / count
        squares = np.where(known, filled.astype(np.float64) - mean, 0) ** 2
        spread = np.sqrt(squares.sum(axis=0) / count)
        rounding = np.abs(np.where(known, wide, 0) - filled)
        X = np.where(known, X, np.where(known, X, -np.inf).max(axis=0))
    else:
        rounding, spread = np.abs(wide - X), np.std(X, axis=0, dtype=np.float64)
    # A constant column has no variation to lose, however it is rounded.
    varies = (X != X[:1]).any(axis=0)
    return np.ravel((rounding.max(axis=0) > 0.01 * spread) & varies)


def rounding_of(values):
    """Return the relative size of rounding in an array's dtype; integers have that of float64.

    Parameters
    ----------
    values : ndarray
        Numbers.

    Returns
    -------
    eps : float
    """
    return np.finfo(values.dtype if values.dtype.kind == "f" else np.float64).eps


def largest_size(values, axis):
    """Return what to divide numbers by, so that sums are not infinite, nor squares lost.

    Parameters
    ----------
    values : ndarray of float64
        Numbers.
    axis : int or tuple of int
        Axes along which they are divided by one number.

    Returns
    -------
    size : ndarray
        Largest absolute values; the axes stay, with length 1. 1 where all are 0.
    """
    size = np.abs(values).max(axis=axis, keepdims=True)
    return np.where(size > 0, size, 1.0)


def eps_of_products(device):
    """Return the relative rounding error of products of numbers in single precision.

    Parameters
    ----------
    device : torch.device
        Where they are multiplied.

    Returns
    -------
    eps : float
        That of float32, but on a GPU where torch is allowed to round factors to ten bits (TF32), as
        convolutions are by default.
    """
    if device.type != "cuda":
        return torch.finfo(torch.float32).eps
    try:
        rounded = torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    except RuntimeError:  # some kinds of layers round and others do not
        rounded = True
    return 2.0**-10 if rounded else torch.finfo(torch.float32).eps
