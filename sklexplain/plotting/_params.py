"""What the parameters that displays share may be."""

import numpy as np

from ..samples import KINDS
from ..utils import (
    ARRAY,
    AXIS,
    NONE,
    Choice,
    Integer,
    Is,
    Number,
    Text,
    as_array,
    is_sequence,
    n_shape,
)

VALUES = [ARRAY]
AXES = [AXIS, NONE]
COUNT = [Integer()]
KIND = [Choice(*KINDS), NONE]
LIMIT = [Number(at_least=0), NONE]
NAMES = [Is("a sequence of names", is_sequence), NONE]
TEXT = [Text(), NONE]


def checked_numbers(name, values, shape, of):
    """Return the numbers of a parameter as an array; raise if they do not fit to what is drawn.

    Parameters
    ----------
    name : str
        The parameter.
    values : array-like
        Its value.
    shape : tuple of int
        The shape that it must have.
    of : str
        What there must be a number for, as in "a number for each layer".

    Returns
    -------
    numbers : ndarray of float64

    Raises
    ------
    ValueError
        If it has another shape, or holds no numbers.
    """
    array = as_numbers(values, name)
    if array.shape != tuple(shape):
        raise ValueError(f"{name} of shape {array.shape} must have the shape {shape}: {of}.")
    return array


def as_numbers(values, name):
    """Return an array in double precision, in which differences and absolute values are right.

    Parameters
    ----------
    values : array-like
        What a parameter holds.
    name : str
        The parameter.

    Returns
    -------
    numbers : ndarray of float64

    Raises
    ------
    ValueError
        If it holds no numbers.
    """
    array = as_array(values, name)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {array.dtype}; it must hold numbers.")
    return array.astype(np.float64)


def checked_errors(errors, shape):
    """Return standard errors as an array; raise if they do not fit to the attributions.

    Parameters
    ----------
    errors : array-like or None
        The parameter.
    shape : tuple of int
        Of the attributions.

    Returns
    -------
    errors : ndarray of float64 or None
        NaN where nothing is known.

    Raises
    ------
    ValueError
        If they have another shape, are no numbers, or some are negative.
    """
    if errors is None:
        return None
    errors = checked_numbers("errors", errors, shape, "one for each attribution")
    if (errors < 0).any():
        raise ValueError(f"errors has a negative number ({errors[errors < 0][0]:g}).")
    return np.where(np.isfinite(errors), errors, np.nan)


def check_entries(display, estimator):
    """Raise if an explainer explains groups or coefficients, which have no place on samples.

    Parameters
    ----------
    display : str
        Name of the display.
    estimator : BaseExplainer
        Fitted.

    Raises
    ------
    ValueError
        If it does.
    """
    if getattr(estimator, "groups_", None) is not None:
        raise ValueError(
            f"{display} draws an attribution for every entry of a sample; explain with groups=None."
        )
    if getattr(estimator, "_basis", None) is not None:
        raise ValueError(
            f"{display} draws attributions of time steps, and with a basis they are of "
            "coefficients: use SpectrumDisplay, or explain with basis=None."
        )


def maps_of(display, estimator, X):
    """Explain samples by one map of a sample's shape for each, whatever ``set_output`` says.

    Parameters
    ----------
    display : str
        Name of the display.
    estimator : BaseExplainer
        Fitted.
    X : array-like or DataFrame of shape (n, ...)
        Samples.

    Returns
    -------
    maps : ndarray of shape (n, *estimator.input_shape_)

    Raises
    ------
    ValueError
        If explanations have no entry for every entry of a sample.
    """
    maps, shape = np.asarray(estimator.transform(X)), tuple(estimator.input_shape_)
    if maps[0].size != np.prod(shape):
        raise ValueError(
            f"{display} draws an attribution for every entry of a sample, {n_shape(shape)}, but "
            f"what {type(estimator).__name__} returns has shape {n_shape(maps.shape[1:])}; use the "
            "display of that explainer, or give the maps themselves to the display's constructor."
        )
    return maps.reshape(len(maps), *shape)


def check_length(name, values, length, of):
    """Raise a ValueError unless a parameter has a certain number of entries.

    Parameters
    ----------
    name : str
        The parameter.
    values : sequence
        Its value.
    length : int
        How many there must be.
    of : str
        What there must be one for, as in "one for each example".

    Raises
    ------
    ValueError
        If there are more or fewer.
    """
    if len(values) != length:
        raise ValueError(f"{name} has {len(values)} entries, but {length} are needed: {of}.")
