"""Validation for the metrics."""

import numbers

import numpy as np

from ._cells import as_numbers
from ._containers import as_array, as_array_like, is_table
from ._messages import warn
from ._missing import is_missing
from ._owning import lent


def check_numbers(name, values, *, min_ndim=1, allow_nan=False):
    """Return an array of finite numbers.

    Parameters
    ----------
    name : str
        The parameter.
    values : array-like
        The values to check.
    min_ndim : int, default=1
        Fewest axes.
    allow_nan : bool, default=False
        Whether missing and infinite values are let through.

    Returns
    -------
    values : ndarray

    Raises
    ------
    ValueError
        If there are no values, too few axes, or NaN or infinite values.
    TypeError
        If they are not numbers, or no container of them.
    """
    values = as_array_like(values, name)
    values = as_numbers(values, name) if is_table(values) else np.asarray(values)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, but has dtype {values.dtype}.")
    if values.ndim < min_ndim:
        raise ValueError(
            f"{name} must have at least {min_ndim} axes, samples first, but has shape "
            f"{values.shape}; a single sample is x[None]."
        )
    if values.size == 0:
        raise ValueError(f"{name} is empty: shape {values.shape}.")
    if not allow_nan and values.dtype.kind == "f" and not np.isfinite(values).all():
        where = tuple(np.argwhere(~np.isfinite(values))[0].tolist())
        raise ValueError(f"{name} contains NaN or infinity, first at {where}.")
    return values


def check_encode(encode):
    """Raise a TypeError if ``encode`` cannot be called.

    Parameters
    ----------
    encode : object
        The value of the parameter.

    Raises
    ------
    TypeError
        Naming the method to pass instead, where there is one.
    """
    if not callable(encode):
        hint = (
            "pass its method: encode=estimator.transform"
            if hasattr(encode, "transform")
            else ("pass a function from samples (n, ...) to representations (n, n_units)")
        )
        raise TypeError(f"encode={encode!r} is not callable; {hint}.")


def encoded(encode, X):
    """Representations of a batch, flat.

    Parameters
    ----------
    encode : callable
        From samples (n, ...) to representations (n, n_units).
    X : ndarray of shape (n, ...)
        Samples; the callable is given a copy.

    Returns
    -------
    z : ndarray of shape (n, n_units)
        In their own floating dtype, which shows how precise they are, else float64.

    Raises
    ------
    ValueError
        If it does not return one finite row per sample.
    """
    z = as_array(encode(lent(X)), "encode(X)")
    z = z if z.dtype in (np.float32, np.float64) else z.astype(np.float64)
    if z.ndim == 0 or len(z) != len(X):
        raise ValueError(
            f"encode returned shape {z.shape} for {len(X)} samples; it must return one row per "
            "sample."
        )
    if not np.isfinite(z).all():
        raise ValueError("encode returned NaN or infinity.")
    return z.reshape(len(z), -1)


def check_labels(name, labels):
    """Raise a ValueError if a label is missing: it would be a class of its own, or none.

    Parameters
    ----------
    name : str
        The parameter.
    labels : ndarray
        Labels, of any dtype.

    Returns
    -------
    labels : ndarray
        As given.

    Raises
    ------
    ValueError
        If one is None, NaN, NaT or infinite.
    """
    if labels.dtype.kind in "fc":
        bad = ~np.isfinite(labels)
    elif labels.dtype.kind in "mM":
        bad = np.isnat(labels)
    elif labels.dtype.kind == "O":
        # Only what is missing differs from itself, but for pandas' NA, which does not say.
        bad = np.array([_is_no_label(label) for label in labels.ravel()]).reshape(labels.shape)
    else:
        return labels
    if bad.any():
        i = tuple(int(k) for k in np.argwhere(bad)[0])
        raise ValueError(
            f"{name} contains {labels[i]}, first at {i[0]}, which is no label; leave out the "
            "samples without one."
        )
    return labels


def check_sortable(name, labels):
    """Raise a TypeError if labels are of types that cannot be put in order, as classes are.

    Parameters
    ----------
    name : str
        The parameter.
    labels : ndarray
        Labels, of any dtype, none of them missing.

    Returns
    -------
    labels : ndarray
        As given.

    Raises
    ------
    TypeError
        Naming two of the types.
    """
    if labels.dtype.kind != "O":
        return labels
    try:
        np.unique(labels)
    except TypeError:
        examples = {type(label).__name__: label for label in labels.ravel()}
        listed = " and ".join(f"{k} ({v!r} for example)" for k, v in sorted(examples.items())[:2])
        raise TypeError(
            f"{name} holds {listed}, which cannot be put in order; give all of one type, "
            f"[str(label) for label in {name}] for example."
        ) from None
    return labels


def check_comparable(name, labels, other_name, others):
    """Raise a ValueError if labels that are to be compared can never be equal, for their types.

    Parameters
    ----------
    name, other_name : str
        The parameters.
    labels, others : ndarray
        Labels, of any dtype.

    Raises
    ------
    ValueError
        If one holds text and the other numbers, or dates, or bytes.

    Warns
    -----
    SklexplainWarning
        If ``labels`` are of several classes, fewer than there are samples, and none of them is
        among the others.
    """
    kinds = _label_kind(labels), _label_kind(others)
    if None in kinds or not (labels.size and others.size):
        return
    if kinds[0] != kinds[1]:
        one, two = labels.ravel()[:1].tolist()[0], others.ravel()[:1].tolist()[0]
        raise ValueError(
            f"{name} holds {kinds[0]} ({one!r} for example) and {other_name} holds {kinds[1]} "
            f"({two!r} for example), of which none are equal; give the labels of both in one form, "
            "as text by astype(str) for example."
        )
    # Numbers of another precision count as numpy compares them.
    classes = np.unique(labels)
    # One class may be one that the others lack; where each sample has its own, they are no classes.
    if 1 < len(classes) < labels.size and not np.isin(classes, others).any():
        (one, two), (known,) = classes[:2].tolist(), others.ravel()[:1].tolist()
        warn(
            f"no label in {name} ({one!r}, {two!r} and so on) is among those in "
            f"{other_name} ({known!r} for example), so that nothing matches; are they labels of "
            "the same classes, written alike?"
        )


_LABEL_KINDS = {"U": "text", "S": "bytes", "M": "dates", "m": "times"} | dict.fromkeys(
    "biufc", "numbers"
)


def _label_kind(labels):
    """Say what labels are, None where they are of several types or of another library's."""
    if labels.dtype.kind != "O":
        return _LABEL_KINDS.get(labels.dtype.kind)
    kinds = set()
    for kind in set(map(type, labels.ravel())):
        if issubclass(kind, str):
            kinds.add("text")
        elif issubclass(kind, bytes):
            kinds.add("bytes")
        else:
            kinds.add("numbers" if issubclass(kind, (numbers.Number, np.bool_)) else None)
    return kinds.pop() if len(kinds) == 1 else None


def _is_no_label(label):
    return is_missing(label) or label in (np.inf, -np.inf)
