"""Baselines: values that stand for the absence of features."""

import numpy as np
from sklearn.utils import check_random_state

from ..utils import (
    as_array_like,
    by_columns,
    call_given,
    check_finite,
    first_missing,
    known_mean,
    lent,
)

BASELINES = ("mean", "zeros", "background")
_N_BACKGROUND = 100


def data_mean(inputs, *, integers):
    """Return the mean sample.

    Parameters
    ----------
    inputs : ndarray of shape (n, ...)
        Fitted data; missing values, which some black boxes take, are left out.
    integers : bool
        Whether these are token numbers, which have no mean: the most frequent one at each
        position is returned.

    Returns
    -------
    mean : ndarray of shape (...)
        In float64, or of the tokens' dtype.
    """
    if integers:
        flat = inputs.reshape(len(inputs), -1)
        values, counts = zip(*(np.unique(c, return_counts=True) for c in flat.T), strict=True)
        modes = [v[c.argmax()] for v, c in zip(values, counts, strict=True)]
        return np.reshape(modes, inputs.shape[1:])
    return known_mean(inputs)


def mean_sample(representation, inputs):
    """Return the mean sample, in a raw table the most frequent value of what has no mean.

    Parameters
    ----------
    representation : Representation
        What is explained.
    inputs : ndarray of shape (n, ...)
        Fitted data, as they enter the network or black box.

    Returns
    -------
    mean : ndarray of shape (...)
    """
    if representation.table is not None:
        return representation.typical(inputs)
    return data_mean(inputs, integers=representation.takes_integers)


def named_baseline(name, representation, inputs, mean, seed):
    """Return the rows of a baseline given by name.

    Parameters
    ----------
    name : {"mean", "zeros", "background"}
        Which baseline.
    representation : Representation
        The network, which may have preprocessing in front.
    inputs : ndarray of shape (n, ...)
        Fitted data.
    mean : ndarray of shape (...)
        Its mean.
    seed : int
        Of the choice of background rows.

    Returns
    -------
    rows : ndarray of shape (n_baselines, ...)

    Raises
    ------
    ValueError
        If the mean of token numbers is asked for.
    """
    if name == "zeros":
        return representation.zeros(inputs)
    if name == "background":
        n_rows = min(_N_BACKGROUND, len(inputs))
        chosen = check_random_state(seed).choice(len(inputs), n_rows, replace=False)
        return inputs[np.sort(chosen)]
    if representation.takes_integers:
        raise ValueError(
            "baseline='mean': the network takes integers, which have no mean; use "
            "baseline='zeros' (the padding token, often), 'background' or an array."
        )
    return mean[None]


def given_baseline(baseline, shape, names=None):
    """Check a baseline given as an array.

    Parameters
    ----------
    baseline : array-like or DataFrame
        One sample, or several.
    shape : tuple of int
        Of one sample.
    names : sequence of str or None, default=None
        Its columns, in whose order a DataFrame or Series is read.

    Returns
    -------
    rows : ndarray or DataFrame of shape (n_baselines, *shape)

    Raises
    ------
    ValueError
        If it has another shape, or names other columns.
    """
    baseline = by_columns(as_array_like(baseline, "baseline"), names, "baseline")
    if not hasattr(baseline, "columns"):
        # numpy makes text of a list that holds numbers and text.
        dtype = object if isinstance(baseline, (list, tuple)) and _holds_text(baseline) else None
        baseline = np.asarray(baseline, dtype=dtype)
    baseline_shape = tuple(baseline.shape)
    if baseline_shape == shape:
        return np.asarray(baseline)[None]
    if baseline_shape[1:] != shape or baseline_shape[0] == 0:
        raise ValueError(
            f"baseline has shape {baseline_shape}; give one of a sample's shape {shape} or "
            f"several, (n_baselines, *{shape})."
        )
    return baseline


def _holds_text(baseline):
    return np.asarray(baseline).dtype.kind in "US"


def own_baselines(function, X):
    """Call for every sample's own baseline.

    Parameters
    ----------
    function : callable
        From samples to baselines of the same shape.
    X : ndarray or DataFrame of shape (n, ...)
        Samples.

    Returns
    -------
    baselines : ndarray or DataFrame of shape (n, ...)

    Raises
    ------
    ValueError
        If they have another shape, or name other columns.
    TypeError
        If the function does not take arrays, where it is given one.
    """
    baselines = as_array_like(_called(function, X), "baseline(X)")
    baselines = by_columns(baselines, getattr(X, "columns", None), "baseline(X)")
    shape = np.shape(baselines) if hasattr(baselines, "shape") else np.asarray(baselines).shape
    if shape != np.shape(X):
        raise ValueError(
            f"baseline(X) returned shape {shape} for X of shape {np.shape(X)}; it "
            "must return every sample's own baseline, in X's shape."
        )
    return baselines if hasattr(baselines, "columns") else np.asarray(baselines)


def _called(function, X):
    try:
        return call_given("baseline", function, lent(X))
    except AttributeError as error:
        if isinstance(X, np.ndarray):
            raise TypeError(
                f"baseline={function!r} is given samples as an array, as they enter the model as "
                f"numbers, and fails on it ({error}). Have it take arrays and return them."
            ) from error
        raise


def raw_baselines(function, representation, X):
    """Every sample's own baseline, in raw units, as it enters the network.

    Parameters
    ----------
    function : callable
        From samples to baselines of the same shape.
    representation : Representation
        The network, which may have preprocessing in front.
    X : ndarray, DataFrame or list of texts of shape (n, ...)
        Validated samples in raw units.

    Returns
    -------
    baselines : callable or ndarray of shape (n, ...)
        ``function`` itself where samples (or numbers of words) enter the network as they are: so
        it is called for few at a time.
    """
    if representation.head is None or isinstance(X, list):  # words of texts are the raw columns
        return function
    return representation.inputs(own_baselines(function, X))


def fitted_baseline(baseline, representation, inputs, *, mean, input_shape, seed, estimator=None):
    """Rows that stand for absence, as they enter the network.

    Parameters
    ----------
    baseline : str, array-like or callable
        One of `BASELINES`, rows in raw units, or every sample's own.
    representation : Representation
        The network, which may have preprocessing in front.
    inputs : ndarray of shape (n, ...)
        Fitted samples, as they enter the network.
    mean : ndarray of shape (...)
        Their mean.
    input_shape : tuple of int
        Of one raw sample.
    seed : int
        Of the choice of background rows.
    estimator : estimator or None, default=None
        Named in messages; a baseline's columns are put into the order of its own.

    Returns
    -------
    rows : ndarray of shape (n_baselines, ...) or None
        None for a callable.

    Raises
    ------
    ValueError
        If rows have another shape than samples or are not finite, or the mean of token numbers is
        asked for.
    """
    if callable(baseline):
        return None
    table = representation.table
    if isinstance(baseline, str):
        if baseline == "zeros" and table is not None:
            table.check_zeros()
        return named_baseline(baseline, representation, inputs, mean, seed)
    names = getattr(estimator, "feature_names_in_", None)
    rows = np.asarray(representation.inputs(given_baseline(baseline, input_shape, names)))
    if table is None:  # a black box may take missing values
        allow_nan = first_missing(rows) is not None and representation.takes(rows)
        check_finite(rows, None, estimator, allow_nan=allow_nan)
    return rows
