"""What the parameters that displays share may be."""

import numpy as np

from ..samples import KINDS
from ..utils import ARRAY, AXIS, NONE, Choice, Integer, Is, Number, Text, as_array, is_sequence

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
    array = as_array(values, name)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {array.dtype}; it must hold numbers: {of}.")
    if array.shape != tuple(shape):
        raise ValueError(f"{name} of shape {array.shape} must have the shape {shape}: {of}.")
    return array.astype(np.float64)


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
