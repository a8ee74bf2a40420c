"""Which basis along time a parameter stands for, whether it can be used, and its names."""

import numpy as np

from ..explaining import BASES, resolved_basis
from ..utils import NONE, Choice, Numbers, first_missing

BASIS = [Choice(*BASES), Numbers("an orthonormal array of shape (T, T)"), NONE]


def fitted_basis(basis, sample, representation):
    """Make the basis along the time axis of samples.

    Parameters
    ----------
    basis : str, array-like or None
        The parameter.
    sample : Sample
        What one sample is.
    representation : Representation
        What is explained.

    Returns
    -------
    basis : Basis or None

    Raises
    ------
    ValueError
        If samples have no axis of time, or numbers that enter the network are not theirs; or if an
        array is not orthonormal.
    """
    if basis is None:
        return None
    given = f"basis={basis!r}" if isinstance(basis, str) else "basis"
    if representation.head is not None:
        raise ValueError(
            f"{given} needs series that enter the network as they are, perhaps scaled, but here "
            f"{representation.head.maker(0)} makes other columns of them first: fit that step "
            "before and give its output as X, or use basis=None."
        )
    if representation.takes_integers:
        raise ValueError(
            f"{given} has no meaning here: the network takes integers (token numbers, for "
            "example), which are no sums of waves; use basis=None."
        )
    coded = representation.table is not None and np.any(representation.table.coded)
    axis = None if coded else _time_axis(sample)
    if axis is None:
        raise ValueError(f"{given} needs an axis of time, and {_no_series(sample)}")
    return resolved_basis(basis, sample.shape[axis], axis - len(sample.shape))


def _time_axis(sample):
    """Return the axis of time; None if there is none, or nothing tells."""
    if len(sample.shape) == 1:
        return 0 if sample.kind == "series" else None
    if len(sample.shape) != 2:
        return None
    if sample.channel_axis is not None:
        return 1 - sample.channel_axis
    single = [axis for axis, size in enumerate(sample.shape) if size == 1]  # of one channel
    return 1 - single[0] if len(single) == 1 else None


def _no_series(sample):
    if sample.kind == "table":
        n = sample.shape[0]
        return (
            f"samples are rows of a table of {n} columns. If these are steps in time, give X as "
            f"(n_samples, 1, {n}) to a network or Pipeline that takes it so."
        )
    if len(sample.shape) == 2:
        return (
            f"samples of shape {sample.shape} are taken for images, as nothing tells their axis "
            "of channels: set channel_axis=0 if they are (channels, time), channel_axis=1 if they "
            "are (time, channels)."
        )
    return f"samples of shape {sample.shape} are no series."


def check_known(inputs, what):
    """Raise if values are missing: then no coefficient is known.

    Parameters
    ----------
    inputs : ndarray of shape (n, ...)
        Series.
    what : str
        Their name.

    Raises
    ------
    ValueError
        If any is NaN.
    """
    row = first_missing(inputs)
    if row is not None:
        raise ValueError(
            f"{what} {row} has missing values, and with a basis every coefficient depends on all "
            "time steps: fill them, or use basis=None."
        )


def coefficient_names(sample, basis):
    """Name the coefficients of one flattened sample.

    Parameters
    ----------
    sample : Sample
        What one sample is.
    basis : Basis
        Along time.

    Returns
    -------
    names : ndarray of str
        ``cycles0.5`` for half a cycle per series, ``c1`` where vectors have no frequency; behind
        ``ch0_`` where there are channels.
    """
    n = sample.shape[basis.axis]
    own = [f"c{k}" for k in range(n)] if basis.cycles is None else _with_cycles(basis.cycles)
    if len(sample.shape) == 1:
        return np.asarray(own, dtype=object)
    time = len(sample.shape) + basis.axis
    names = [f"ch{i[1 - time]}_{own[i[time]]}" for i in np.ndindex(*sample.shape)]
    return np.asarray(names, dtype=object)


def _with_cycles(cycles):
    return [f"cycles{float(number):.12g}" for number in cycles]
