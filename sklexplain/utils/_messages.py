"""Messages to the user: warnings at the user's line, suggestions of names, shapes."""

import difflib
import sys
import warnings

import numpy as np

from ..exceptions import SklexplainWarning

# Packages that may be on the call stack between the user's line and a warning.
_BETWEEN = ("sklexplain", "sklearn", "skorch", "joblib", "torch", "contextlib")


def warn(message, category=SklexplainWarning):
    """Warn at the user's line: the nearest frame outside this library and those it is called by.

    Parameters
    ----------
    message : str
        The text.
    category : type, default=SklexplainWarning
        A class of `sklexplain.exceptions`.
    """
    frame, level = sys._getframe(1), 2
    while frame is not None and _is_between(frame):
        frame, level = frame.f_back, level + 1
    # In a worker process there may be no such frame: then the outermost one is used.
    warnings.warn(message, category, stacklevel=level if frame is not None else level - 1)


def _is_between(frame):
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    return package in _BETWEEN or frame.f_code.co_filename.startswith("<frozen")


def did_you_mean(name, known, *, n=1, cutoff=0.4):
    """Suggest the nearest known names, in a sentence to put after an error message.

    Parameters
    ----------
    name : str
        The unknown name.
    known : iterable of str
        The names that exist.
    n : int, default=1
        Largest number of suggestions.
    cutoff : float, default=0.4
        Least similarity, from 0 (anything) to 1 (equal).

    Returns
    -------
    sentence : str
        With a space in front; empty if no name is similar.

    Examples
    --------
    >>> did_you_mean("encodr", ["encoder", "decoder"])
    " Did you mean 'encoder'?"
    """
    near = difflib.get_close_matches(str(name), [k for k in known if k], n=n, cutoff=cutoff)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def numpy_dtype_of(dtype):
    """Return numpy's dtype of the same name as torch's.

    Parameters
    ----------
    dtype : torch.dtype
        One that numpy has too.

    Returns
    -------
    dtype : numpy.dtype
    """
    return np.dtype(str(dtype).removeprefix("torch."))


def n_shape(shape):
    """Write the shape of samples as "(n, 3, 20)".

    Parameters
    ----------
    shape : sequence of int
        Of one sample.

    Returns
    -------
    text : str
    """
    return f"({', '.join(['n', *map(str, shape)])})"
