"""What is missing, and statistics of samples that may have gaps."""

import numpy as np


def is_missing(value):
    """Tell whether a value is None, NaN, NaT or pandas' NA.

    Parameters
    ----------
    value : object
        A cell of a table, or a label.

    Returns
    -------
    answer : bool
    """
    try:
        return value is None or bool(value != value)
    except TypeError:  # NA does not say whether it equals itself
        return True


def first_missing(X):
    """Find the first sample with a missing number.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
        Samples.

    Returns
    -------
    row : int or None
        None if there is none.
    """
    if X.dtype.kind != "f" or np.isfinite(np.sum(X)):  # much cheaper than to look at each
        return None
    rows = np.isnan(X).reshape(len(X), -1).any(axis=1)
    return int(rows.argmax()) if rows.any() else None


def known_mean(X):
    """Mean of the values that are not missing, NaN where all are.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
        Samples.

    Returns
    -------
    mean : ndarray of shape (...) of float64
    """
    mean = np.mean(X, axis=0, dtype=np.float64)
    if not np.isnan(mean).any():
        return mean
    known = ~np.isnan(X)
    total = np.where(known, X, 0).sum(axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return total / known.sum(axis=0)


def known_range(X, axis=0):
    """Smallest and largest of the values that are not missing, NaN where all are.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
        Samples.
    axis : int or None, default=0
        Axis over which to look; None: all.

    Returns
    -------
    low, high : ndarray
    """
    # fmin and fmax prefer numbers to NaN, and say nothing.
    return np.fmin.reduce(X, axis=axis), np.fmax.reduce(X, axis=axis)
