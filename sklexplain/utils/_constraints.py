"""What values parameters may have: a table for each class, in scikit-learn's words."""

from __future__ import annotations

import functools
import inspect
import numbers
import os
import reprlib
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import numpy as np
import torch
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    Options,
    _Constraint,
    make_constraint,
)

from ._containers import as_array
from ._messages import did_you_mean
from ._typing import Function

# More than anything here can count, and what torch and itertools still take.
_MOST = 2**62


class Integer(Interval):
    """An integer of Python's or numpy's; scikit-learn's `Interval` takes booleans, too.

    Parameters
    ----------
    minimum : int or None, default=1
        The smallest one.
    maximum : int or None, default=None
        The largest one: what would take too much memory or time to be meant.
    """

    def __init__(self, minimum=1, maximum=None):
        closed = {
            (True, True): "both",
            (True, False): "left",
            (False, True): "right",
            (False, False): "neither",
        }[minimum is not None, maximum is not None]
        super().__init__(numbers.Integral, minimum, maximum, closed=closed)

    def is_satisfied_by(self, val):
        """Tell whether it is an integer in the range."""
        return not isinstance(val, bool) and super().is_satisfied_by(val)

    def plain(self, value):
        """Return an int; where nothing is too large, none that is too large for an index."""
        return min(int(value), _MOST)


class Number(Interval):
    """A finite real number of Python's or numpy's; no boolean.

    Parameters
    ----------
    above, at_least : float or None, default=None
        The lower limit, without or with itself.
    below, at_most : float or None, default=None
        The upper limit, without or with itself.
    """

    def __init__(self, *, above=None, at_least=None, below=None, at_most=None):
        left = above if at_least is None else at_least
        right = below if at_most is None else at_most
        closed = {
            (True, True): "both",
            (True, False): "left",
            (False, True): "right",
            (False, False): "neither",
        }[at_least is not None, at_most is not None]
        super().__init__(numbers.Real, left, right, closed=closed)

    def is_satisfied_by(self, val):
        """Tell whether it is a number in the range."""
        if isinstance(val, bool) or not isinstance(val, numbers.Real):
            return False
        try:
            return float(val) in self  # of fractions scikit-learn cannot tell
        except OverflowError:
            return False

    def plain(self, value):
        """Return a float."""
        return float(value)


class Choice(Options):
    """One of several strings, which are listed in their order.

    Parameters
    ----------
    *choices : str
        The strings.
    table : mapping or None, default=None
        Its keys are choices, too, also those that it gets later.
    """

    def __init__(self, *choices, table=None):
        choices = dict.fromkeys(choices)
        # A chain lists the last one first.
        super().__init__(str, (choices if table is None else ChainMap(table, choices)).keys())

    def hint(self, value):
        """Suggest the nearest one."""
        return did_you_mean(value, self.options) if isinstance(value, str) else ""


class Is(_Constraint):
    """A value for which a test holds.

    Parameters
    ----------
    words : str
        What it is, with an article.
    test : callable
        From a value to a bool.
    """

    def __init__(self, words, test):
        super().__init__()
        self.words, self.test = words, test

    def is_satisfied_by(self, val):
        """Tell whether the test holds."""
        return self.test(val)

    def __str__(self):
        return self.words


class Text(Is):
    """Any string: a name.

    Parameters
    ----------
    words : str, default="a str"
        What it names.
    empty : bool, default=True
        Whether it may be empty, as the name of a whole network is.
    """

    def __init__(self, words="a str", empty=True):
        super().__init__(words, lambda value: isinstance(value, str) and (empty or value != ""))


class Device(Is):
    """A device that torch can use here, by its name or as torch has it."""

    def __init__(self):
        super().__init__(
            "the name of a device that torch finds, such as 'cpu', a torch.device",
            lambda value: isinstance(value, (str, torch.device)) and not self.hint(value),
        )

    def hint(self, value):
        """Say why a device cannot be used."""
        if not isinstance(value, (str, torch.device)):
            return ""
        try:
            found = torch.empty(0, device=value).device
        except (RuntimeError, TypeError, AssertionError) as error:
            return f" It cannot be used here: {error}"
        return " It holds no numbers." if found.type == "meta" else ""


class Entries(Is):
    """A list, tuple or one-dimensional array, of which each entry is checked.

    Parameters
    ----------
    words : str
        What it is.
    entry : _Constraint
        What its entries are.
    n_least : int, default=0
        How many there must be.
    """

    def __init__(self, words, entry, n_least=0):
        super().__init__(
            f"{words}, not empty, each {entry}" if n_least else f"{words}, each {entry}",
            lambda value: (
                is_sequence(value)
                and len(value) >= n_least
                and all(map(entry.is_satisfied_by, value))
            ),
        )
        self._entry = entry

    def hint(self, value):
        """Say what the entry's constraint has to say of the first wrong one."""
        if not is_sequence(value) or not hasattr(self._entry, "hint"):
            return ""
        wrong = (entry for entry in value if not self._entry.is_satisfied_by(entry))
        return self._entry.hint(next(wrong, None))

    def plain(self, value):
        """Return a tuple."""
        return tuple(_plain(entry, self._entry) for entry in value)


class Numbers(Is):
    """An array or nested lists of numbers.

    Parameters
    ----------
    words : str, default="an array of numbers"
        What it is.
    """

    def __init__(self, words="an array of numbers"):
        super().__init__(words, _is_numbers)


def is_sequence(value):
    """Tell whether a value has entries in an order: a list, tuple or one-dimensional array."""
    if isinstance(value, (str, bytes, Mapping, set, frozenset, type)):
        return False
    if getattr(value, "ndim", 1) != 1:
        return False
    return isinstance(value, Iterable) and hasattr(value, "__len__")


def is_listed(value):
    """Tell whether a value is an array, or a list of such: not a string, dict or function."""
    if isinstance(value, (str, bytes, Mapping, set, frozenset, type)):
        return False
    if getattr(value, "ndim", 1) == 0:  # a single number of numpy's or torch's
        return False
    return hasattr(value, "__len__") or hasattr(value, "__array__")


def _is_numbers(value):
    try:
        return is_listed(value) and as_array(value, "value").dtype.kind in "biuf"
    except (ValueError, TypeError, AttributeError, RuntimeError):  # of lists of different lengths
        return False


NONE = make_constraint(None)
FLAG = make_constraint("boolean")
SEED = make_constraint("random_state")
VERBOSE = make_constraint("verbose")
# No class by mistake, such as torch.nn.ReLU for torch.nn.ReLU().
CALLABLE = Is("a callable", lambda value: callable(value) and not isinstance(value, type))
ARRAY = Is("an array-like", is_listed)
MAPPING = Is("a dict", lambda value: isinstance(value, dict))
PATH = Is("a path", lambda value: isinstance(value, (str, os.PathLike)))
AXIS = Is("the number of an axis of one sample", Integer(None).is_satisfied_by)
# As joblib counts them: -1 is one for each processor.
JOBS = Is(
    "an int other than 0",
    lambda value: (
        isinstance(value, numbers.Integral)
        and not isinstance(value, bool)
        and 0 < abs(int(value)) <= 100_000
    ),
)


@functools.cache
def constraints_of(cls):
    """Table of a class, with those of the classes it is derived from.

    Parameters
    ----------
    cls : type
        With an attribute ``_parameter_constraints`` as scikit-learn's classes have it: from the
        names of parameters to lists of constraints, of which one must hold.

    Returns
    -------
    constraints : dict of str to (list of _Constraint)
        Of the parameters that its constructor has.
    """
    table = {}
    for base in reversed(cls.__mro__):
        table |= vars(base).get("_parameter_constraints", {})
    return {
        name: [_made(constraint) for constraint in table[name]]
        for name in inspect.signature(cls.__init__).parameters
        if table.get(name, "no_validation") != "no_validation"
    }


def _made(constraint):
    return constraint if isinstance(constraint, _Constraint) else make_constraint(constraint)


def check_params(owner, only=None):
    """Check the parameters of an object by its class's table.

    Parameters
    ----------
    owner : object
        With its constructor's parameters as attributes.
    only : iterable of str or None, default=None
        Names of parameters; None: all.

    Returns
    -------
    checked : dict of str to object
        Those in the table, of which numpy's numbers are Python's.

    Raises
    ------
    InvalidParameterError
        If one is not as the table says; a ValueError and a TypeError.
    """
    table, name = constraints_of(type(owner)), type(owner).__name__
    return {
        parameter: check_param(name, parameter, getattr(owner, parameter), table[parameter])
        for parameter in (table if only is None else table.keys() & only)
    }


def check_param(caller, name, value, constraints):
    """Check one parameter.

    Parameters
    ----------
    caller : str
        The class or function that has it.
    name : str
        The parameter.
    value : object
        Its value.
    constraints : list of _Constraint
        What it may be.

    Returns
    -------
    checked : object
        The value, numpy's numbers as Python's.

    Raises
    ------
    InvalidParameterError
        If no constraint holds; a ValueError and a TypeError.
    """
    for constraint in constraints:
        if constraint.is_satisfied_by(value):
            return _plain(value, constraint)
    *others, last = map(str, constraints)
    words = f"{', '.join(others)} or {last}" if others else last
    hints = [constraint.hint(value) for constraint in constraints if hasattr(constraint, "hint")]
    raise InvalidParameterError(
        f"The {name!r} parameter of {caller} must be {words}. Got {shown(value)} instead."
        f"{next(filter(None, hints), '')}"
    )


def validated(**table: list[Any]) -> Callable[[Function], Function]:
    """Check the arguments of a function by a table, before it runs.

    Parameters
    ----------
    **table : list
        From the names of arguments to constraints, of which one must hold.

    Returns
    -------
    decorator : callable
        From a function to one that is handed Python's numbers in place of numpy's. A default that
        the table does not allow is an error at once, as users may pass it, too.
    """
    table = {name: [_made(constraint) for constraint in row] for name, row in table.items()}

    def decorator(function: Function) -> Function:
        signature = inspect.signature(function)
        for name, row in table.items():
            default = signature.parameters[name].default
            if default is not inspect.Parameter.empty:
                check_param(function.__name__, name, default, row)

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError:
                return function(*args, **kwargs)  # Python says it with the function's name
            for name in table.keys() & bound.arguments.keys():
                value = bound.arguments[name]
                bound.arguments[name] = check_param(function.__name__, name, value, table[name])
            return function(*bound.args, **bound.kwargs)

        return cast(Function, wrapper)

    return decorator


def call_given(name, function, *args):
    """Call a function that is the value of a parameter.

    Parameters
    ----------
    name : str
        The parameter.
    function : callable
        Its value.
    *args : object
        What it is called with.

    Returns
    -------
    result : object

    Raises
    ------
    TypeError
        If it cannot be called so; names the parameter.
    """
    try:
        return function(*args)
    except TypeError as error:
        raise TypeError(f"{name}={shown(function)} cannot be called: {error}") from error


def _plain(value, constraint):
    """Return Python's own of a number, boolean or string of numpy's; anything else as it is."""
    if hasattr(constraint, "plain"):
        return constraint.plain(value)
    if isinstance(value, (np.bool_, np.integer, np.str_)):
        return value.item()
    return float(value) if isinstance(value, np.floating) else value


def shown(value):
    """Write a value in an error: whole if it is short, else its beginning and end."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 80
    try:
        return " ".join(short.repr(value).split())
    except Exception:  # of an object that cannot even be shown
        return f"<{type(value).__name__}>"
