"""What values constructor parameters may have: a table for each class, checked in one place."""

import functools
import inspect
import math
import numbers
import os
import reprlib
from collections.abc import Iterable, Mapping

import numpy as np
import torch

from ._containers import as_array
from ._messages import did_you_mean

# More than anything here can count, and what torch still takes as an index.
_MOST = 2**62


class Constraint:
    """What a value may be; the base of the classes that follow.

    A class says by ``is_kind`` whether a value is of its kind at all, and by ``problem`` what is
    wrong with one that is.
    """

    words = "something else"

    def is_kind(self, value):
        """Tell whether a value is of this kind, right or wrong."""
        raise NotImplementedError

    def problem(self, value):
        """Say what is wrong with a value of this kind ("must be positive"), None if nothing is."""

    def checked(self, value):
        """Return a right value as Python's own type, where numpy has another one."""
        return value


class Integer(Constraint):
    """An integer of Python's or numpy's; no boolean.

    Parameters
    ----------
    minimum : int, default=1
        The smallest one.
    maximum : int, default=2**62
        The largest one: what would take too much memory or time to be meant.
    """

    def __init__(self, minimum=1, maximum=_MOST):
        self.minimum, self.maximum = minimum, maximum
        self.words = "an integer"

    def is_kind(self, value):
        """Tell whether it is an integer."""
        value = _scalar(value)
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)

    def problem(self, value):
        """Say which limit it passes."""
        if value < self.minimum:
            return f"must be at least {self.minimum}"
        return f"must be at most {self.maximum}" if value > self.maximum else None

    def checked(self, value):
        """Return an int."""
        return int(_scalar(value))


class Number(Constraint):
    """A finite real number of Python's or numpy's; no boolean.

    Parameters
    ----------
    above, at_least : float or None, default=None
        The lower limit, without or with itself.
    below, at_most : float or None, default=None
        The upper limit, without or with itself.
    """

    words = "a number"

    def __init__(self, *, above=None, at_least=None, below=None, at_most=None):
        self._checks = [
            ("above", above, lambda v: v > above),
            ("at least", at_least, lambda v: v >= at_least),
            ("below", below, lambda v: v < below),
            ("at most", at_most, lambda v: v <= at_most),
        ]
        self._checks = [check for check in self._checks if check[1] is not None]

    def is_kind(self, value):
        """Tell whether it is a real number."""
        value = _scalar(value)
        return isinstance(value, numbers.Real) and not isinstance(value, bool)

    def problem(self, value):
        """Say between which limits it should be."""
        try:
            value = float(_scalar(value))
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            return "must be a finite number"
        broken = [check[:2] for check in self._checks if not check[2](value)]
        if not broken:
            return None
        limits = [limit for _, limit, _ in self._checks]
        if len(limits) == 2 and max(limits) == 1:
            return f"must be between {limits[0]:g} and {limits[1]:g}"
        words, limit = broken[0]
        return (
            "must be positive" if (words, limit) == ("above", 0) else f"must be {words} {limit:g}"
        )

    def checked(self, value):
        """Return a float."""
        return float(_scalar(value))


class Flag(Constraint):
    """True or False, also numpy's."""

    words = "True or False"

    def is_kind(self, value):
        """Tell whether it is a boolean."""
        return isinstance(_scalar(value), bool)

    def checked(self, value):
        """Return a bool."""
        return bool(value)


class Choice(Constraint):
    """One of several strings.

    Parameters
    ----------
    *choices : str
        The strings.
    """

    def __init__(self, *choices):
        self.choices = list(choices)
        self.words = f"one of {self.choices}" if len(choices) > 1 else repr(choices[0])

    def is_kind(self, value):
        """Tell whether it is a string."""
        return isinstance(value, str)

    def problem(self, value):
        """Say which strings there are."""
        if value in self.choices:
            return None
        return f"is unknown.{did_you_mean(value, self.choices)} Choose from {self.choices}"

    def checked(self, value):
        """Return a str."""
        return str(value)


class Text(Constraint):
    """Any string: a name.

    Parameters
    ----------
    words : str, default="a string"
        What it names.
    empty : bool, default=True
        Whether it may be empty, as the name of a whole network is.
    """

    def __init__(self, words="a string", empty=True):
        self.words, self.empty = words, empty

    def is_kind(self, value):
        """Tell whether it is a string."""
        return isinstance(value, str)

    def problem(self, value):
        """Say that it is empty."""
        return None if value or self.empty else f"is empty; it must be {self.words}"


class Device(Constraint):
    """A device that torch can use here, by its name or as torch has it.

    Parameters
    ----------
    use : str, default="'cpu' or a device that torch finds"
        What to use instead of one that cannot be used.
    """

    words = "the name of a device, a torch.device"

    def __init__(self, use="'cpu' or a device that torch finds"):
        self.use = use

    def is_kind(self, value):
        """Tell whether it is a name or a device of torch's."""
        return isinstance(value, (str, torch.device))

    def problem(self, value):
        """Say what torch says of it."""
        try:
            found = torch.empty(0, device=value).device
        except (RuntimeError, TypeError, AssertionError) as error:
            return f"cannot be used here: {error}. Use {self.use}"
        return f"holds no numbers; use {self.use}" if found.type == "meta" else None


class Is(Constraint):
    """A value for which a test holds.

    Parameters
    ----------
    words : str
        What it is, with an article.
    test : callable
        From a value to a bool.
    """

    def __init__(self, words, test):
        self.words, self.is_kind = words, test


class Entries(Constraint):
    """A list, tuple or one-dimensional array, of which each entry is checked.

    Parameters
    ----------
    words : str
        What it is.
    entry : Constraint
        What its entries are.
    what : str
        What an entry is called.
    empty : bool, default=True
        Whether it may have none.
    """

    def __init__(self, words, entry, what, empty=True):
        self.words, self.entry, self.what, self.empty = words, entry, what, empty

    def is_kind(self, value):
        """Tell whether it has entries, in an order."""
        if isinstance(value, (str, bytes, Mapping, set, frozenset, type)):
            return False
        if isinstance(value, np.ndarray):
            return value.ndim == 1
        if getattr(value, "ndim", 1) == 0:  # a tensor of one number, which cannot be gone through
            return False
        return isinstance(value, Iterable) and hasattr(value, "__len__")

    def problem(self, value):
        """Say which entry is wrong."""
        if not self.empty and not len(value):
            return f"has no {self.what}; it must be {self.words}"
        for entry in value:
            if not self.entry.is_kind(entry):
                return f"has the {self.what} {_shown(entry)}, which must be {self.entry.words}"
            problem = self.entry.problem(entry)
            if problem:
                return f"has the {self.what} {_shown(entry)}, which {problem}"
        return None

    def checked(self, value):
        """Return a tuple."""
        return tuple(self.entry.checked(entry) for entry in value)


class Numbers(Constraint):
    """An array or nested lists of numbers.

    Parameters
    ----------
    words : str, default="an array of numbers"
        What it is.
    """

    def __init__(self, words="an array of numbers"):
        self.words = words

    def is_kind(self, value):
        """Tell whether it is an array or a list."""
        return is_listed(value)

    def problem(self, value):
        """Say that it holds something else, or lists of different lengths."""
        try:
            is_right = as_array(value, "value").dtype.kind in "biuf"
        except (ValueError, TypeError, AttributeError, RuntimeError):
            is_right = False
        return None if is_right else f"must be {self.words}, all of one length"


def is_callable(value):
    """Tell whether a value can be called, and is no class by mistake."""
    return callable(value) and not isinstance(value, type)


def is_listed(value):
    """Tell whether a value is an array, or a list of such: not a string, dict or function."""
    return (hasattr(value, "__len__") or hasattr(value, "__array__")) and not isinstance(
        value, (str, bytes, Mapping, set, frozenset, type)
    )


NONE = Is("None", lambda value: value is None)
CALLABLE = Is("a callable", is_callable)
ARRAY = Is("an array", is_listed)
MAPPING = Is("a dict", lambda value: isinstance(value, dict))
PATH = Is("a path", lambda value: isinstance(value, (str, os.PathLike)))
SEED = (
    Integer(0, 2**32 - 1),
    Is("a RandomState", lambda value: isinstance(value, np.random.RandomState)),
    NONE,
)
VERBOSE = (Integer(0), Flag())


class JobsNumber(Integer):
    """A number of jobs as joblib counts them."""

    def __init__(self):
        super().__init__(-100_000, 100_000)

    def problem(self, value):
        """Say that it is 0."""
        if value == 0:
            return "must not be 0; 1 is none in parallel, -1 is one for each processor"
        return super().problem(value)


N_JOBS = (JobsNumber(), NONE)


@functools.cache
def constraints_of(cls):
    """Table of a class, with those of the classes it is derived from.

    Parameters
    ----------
    cls : type
        With an attribute ``_constraints``: from the names of parameters to a `Constraint`, or to
        several of which one must hold.

    Returns
    -------
    constraints : dict of str to (Constraint or tuple of Constraint)
        Of the parameters that its constructor has.
    """
    table = {}
    for base in reversed(cls.__mro__):
        table |= vars(base).get("_constraints", {})
    names = inspect.signature(cls.__init__).parameters
    return {name: constraint for name, constraint in table.items() if name in names}


def check_params(owner):
    """Check the parameters of an object by its class's table.

    Parameters
    ----------
    owner : object
        With its constructor's parameters as attributes.

    Returns
    -------
    checked : dict of str to object
        Those in the table, of which numpy's numbers are Python's.

    Raises
    ------
    ValueError
        If one is not as the table says; it is a TypeError as well where the kind is wrong.
    """
    table = constraints_of(type(owner))
    return {name: check_param(name, getattr(owner, name), c) for name, c in table.items()}


def check_param(name, value, constraints):
    """Check one parameter.

    Parameters
    ----------
    name : str
        The parameter.
    value : object
        Its value.
    constraints : Constraint or tuple of Constraint
        What it may be.

    Returns
    -------
    checked : object
        The value, numpy's numbers as Python's.

    Raises
    ------
    InvalidTypeError
        If it is of another kind; a TypeError and a ValueError.
    ValueError
        If it is of the right kind and out of range.
    """
    alternatives = constraints if isinstance(constraints, tuple) else (constraints,)
    problem = None
    for constraint in alternatives:
        if constraint.is_kind(value):
            found = constraint.problem(value)
            if found is None:
                return constraint.checked(value)
            problem = problem or found
    if problem is not None:
        raise ValueError(f"{name}={_shown(value)} {problem}.")
    *others, last = [constraint.words for constraint in alternatives]
    words = f"{', '.join(others)} or {last}" if others else last
    raise InvalidTypeError(f"{name}={_shown(value)} must be {words}.")


class InvalidTypeError(TypeError, ValueError):
    """A parameter of a wrong type: a TypeError, and as in scikit-learn a ValueError as well."""


def _scalar(value):
    """Return Python's own of a number of numpy's; anything else as it is."""
    return value.item() if isinstance(value, (np.bool_, np.integer, np.floating)) else value


def _shown(value):
    """Write a value in an error: whole if it is short, else its beginning and end."""
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = shown.maxlong = 80
    try:
        return " ".join(shown.repr(value).split())
    except Exception:  # of an object that cannot even be shown
        return f"<{type(value).__name__}>"
