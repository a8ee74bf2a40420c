"""Raw tables as numbers, and back: what a black box is given is what its user gave.

Masks, baselines and neighbours work on arrays of float64. An estimator without torch form may want
something else: a DataFrame with its categories, text, dates, 32-bit floats, integers. So a `Table`
writes every cell as a number and turns numbers into the user's container again. A column that
float64 holds exactly keeps its numbers. In any other column a number stands for a value: it is the
place of the value in a list of all values seen. Cells of two rows can be swapped in both kinds;
only in the first can they be averaged.
"""

import threading
from contextlib import contextmanager

import numpy as np

from ._frames import CONTAINERS, cast_if_exact, container_of, is_plain


class Table:
    """How samples looked as their user gave them.

    Parameters
    ----------
    X : ndarray or DataFrame of shape (n, ...)
        The samples that an explainer is fitted on. Later ones must be of the same kind.

    Attributes
    ----------
    coded : ndarray of bool of shape (n_columns,)
        Columns in which numbers stand for values.
    names : list or None
        Column names.
    """

    def __init__(self, X):
        self._container = container_of(X)
        self.names = self._container.names(X)
        self.shape = tuple(X.shape[1:])
        self._dtype, self._columns = None, None
        if is_plain(X):
            self._dtype = X.dtype
            self.coded = np.zeros(X.shape[1], dtype=bool)
        else:
            columns = self._container.columns(X)
            self._columns = [_column_of(column, self._container) for column in columns]
            self.coded = np.array([isinstance(column, _Codes) for column in self._columns])
        self._n_readers, self._lock = 0, threading.Lock()
        self.inputs(X)
        self._settle()

    # -- both ways -----------------------------------------------------------------------------

    def inputs(self, X):
        """Write samples as numbers.

        Parameters
        ----------
        X : ndarray or DataFrame of shape (n, *shape)
            Samples; values that were not seen before are remembered while `reading`.

        Returns
        -------
        inputs : ndarray of shape (n, *shape)
            Float64, or X itself if it holds plain numbers.

        Raises
        ------
        ValueError
            If a column held numbers before and does not now.
        """
        if self._columns is None:
            if not is_plain(X):
                X = np.asarray(X)
                X = X if is_plain(X) else self._as_floats(X)
            return X
        container = self._container if self._container.holds(X) else container_of(X)
        inputs = np.empty((len(X), len(self._columns)))
        pairs = zip(self._columns, container.columns(X), strict=True)
        for i, (column, values) in enumerate(pairs):
            with self._lock:
                encoded = column.encode(values, container)
            if encoded is None:
                raise ValueError(
                    f"column {self._name(i)} held numbers in fit and now holds something else; "
                    "give it the type that it had."
                )
            inputs[:, i] = encoded
        return inputs

    def restored(self, inputs):
        """Turn numbers into what the user's estimator takes.

        Parameters
        ----------
        inputs : ndarray of shape (n, *shape)
            Numbers, as `inputs` returned them, of mixed rows perhaps.

        Returns
        -------
        X : ndarray or DataFrame of shape (n, *shape)
            In the container and, as far as the values allow it, the dtypes of the fitted samples:
            a mean of integers stays a float.
        """
        if self._columns is None:
            return cast_if_exact(inputs, self._dtype)
        # Frames of one floating dtype are made in one piece.
        same = {getattr(column, "dtype", None) for column in self._columns}
        dtype = next(iter(same)) if len(same) == 1 else None
        if isinstance(dtype, np.dtype) and dtype.kind == "f" and not self.coded.any():
            return self._container.whole(inputs.astype(dtype), self.names)
        columns = [
            column.decode(values, self._container)
            for column, values in zip(self._columns, inputs.T, strict=True)
        ]
        return self._container.build(columns, self.names)

    def typical(self, inputs, *, rounded=False):
        """Return the mean sample: means of numbers and dates, else the most frequent value.

        Parameters
        ----------
        inputs : ndarray of shape (n, *shape)
            Samples; missing numbers are left out.
        rounded : bool, default=False
            Whether integers have no mean either, as where they stand for categories.

        Returns
        -------
        typical : ndarray of shape (*shape)
        """
        mean = _means(inputs)
        if self._columns is None:
            if self._dtype.kind == "b" or (rounded and self._dtype.kind in "iu"):
                flat = inputs.reshape(len(inputs), -1)
                mean = np.array([_mode(column) for column in flat.T]).reshape(inputs.shape[1:])
            return mean
        for i, column in enumerate(self._columns):
            mean[i] = column.typical(inputs[:, i], mean[i], rounded, self._container)
        return mean

    def value_names(self, i, values):
        """Name a column, or some of its values: "age", "site=a".

        Parameters
        ----------
        i : int
            The column.
        values : ndarray or None
            Numbers that stand for values; None: the column itself.

        Returns
        -------
        names : list of str
        """
        name = f"x{i}" if self.names is None else str(self.names[i])
        if values is None:
            return [name]
        known = self._columns[i].values
        return [f"{name}={known[int(place)]}" for place in values]

    def all_values(self, i):
        """Write the values of a column whose numbers stand for values.

        Parameters
        ----------
        i : int
            The column.

        Returns
        -------
        texts : list of str
            By number.
        """
        return [str(value) for value in self._columns[i].values]

    @property
    def is_frame(self):
        """Whether samples are restored as a DataFrame."""
        return self.names is not None

    def check_zeros(self):
        """Raise a ValueError if zero is no value of some column."""
        if self.coded.any():
            name = self._name(int(np.flatnonzero(self.coded)[0]))
            raise ValueError(
                f"baseline='zeros': column {name} holds no numbers, so it has no zero; use "
                "'background', 'mean' (its most frequent value) or rows of your own."
            )

    def _as_floats(self, X):
        try:
            return np.asarray(X, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"X held numbers in fit and now holds others ({error}).") from None

    def _name(self, i):
        return i if self.names is None else repr(str(self.names[i]))

    # -- values seen after fit -----------------------------------------------------------------

    @contextmanager
    def reading(self):
        """Context in which values that were not seen in ``fit`` keep their numbers.

        Yields
        ------
        None
        """
        with self._lock:
            self._n_readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_readers -= 1
                if not self._n_readers:
                    for column in self._coded_columns():
                        column.forget()

    def settle(self):
        """Remember the values seen so far for good."""
        with self._lock:
            self._settle()

    def _settle(self):
        for column in self._coded_columns():
            column.settle()

    def _coded_columns(self):
        return [c for c in self._columns or () if isinstance(c, _Codes)]

    def __getstate__(self):
        # Plain data: neither skops nor another version of pandas takes its dtypes and indices.
        container, columns = self._container, None
        if self._columns is not None:
            columns = [column.plain(container) for column in self._columns]
        return {
            "container": container.name,
            "names": None if self.names is None else list(self.names),
            "shape": self.shape,
            "dtype": None if self._dtype is None else self._dtype.str,
            "columns": columns,
        }

    def __setstate__(self, state):
        self._container, self.shape = CONTAINERS[state["container"]](), tuple(state["shape"])
        self.names = None
        if state["names"] is not None:
            self.names = self._container.names_of(state["names"])
        self._dtype = None if state["dtype"] is None else np.dtype(state["dtype"])
        self._columns, self.coded = None, np.zeros(self.shape[0], dtype=bool)
        if state["columns"] is not None:
            self._columns = [_from_plain(plain, self._container) for plain in state["columns"]]
            self.coded = np.array([isinstance(column, _Codes) for column in self._columns])
        self._n_readers, self._lock = 0, threading.Lock()


# -- columns ---------------------------------------------------------------------------------------


class _Numbers:
    """A column of numbers, which stand for themselves."""

    def __init__(self, dtype, missing=None):
        self.dtype = dtype
        self.missing = missing  # what the container has instead of NaN

    def plain(self, container):
        return {"dtype": container.plain(self.dtype), "missing": self.missing}

    def encode(self, values, container):
        return container.floats(values)

    def decode(self, values, container):
        return container.numbers(values, self.dtype, self.missing)

    def typical(self, values, mean, rounded, container):
        kind = container.kind(self.dtype)
        if np.isnan(mean) or not (kind == "b" or (rounded and kind == "i")):
            return mean
        return _mode(values[~np.isnan(values)])


class _Codes:
    """A column of anything: numbers are places in a list of values."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.values, self._places, self._n_settled = [], {}, 0
        self._bank = None

    def encode(self, values, container):
        objects, inverse = container.distinct(values)
        places = np.array([self._place(value) for value in objects], dtype=np.float64)
        return places if inverse is None else places[inverse]

    def _place(self, value):
        key = _key(value)
        try:
            place = self._places.get(key)
        except TypeError:  # a list, say, which cannot be looked up
            key, place = ("object", len(self.values)), None
        if place is None:
            place = self._places[key] = len(self.values)
            self.values.append(value)
        return place

    def decode(self, values, container):
        bank = self._bank
        if bank is None or len(bank) < len(self.values):
            bank = self._bank = container.bank(list(self.values), self.dtype)
        return container.take(bank, values.astype(np.int64))

    def typical(self, values, mean, rounded, container):
        middle = container.middle(self.decode(values, container))
        return _mode(values) if middle is None else self._place(middle)

    def settle(self):
        self._n_settled = len(self.values)

    def forget(self):
        if len(self.values) > self._n_settled:
            for key in list(self._places)[self._n_settled :]:
                del self._places[key]
            del self.values[self._n_settled :]
            self._bank = None

    def plain(self, container):
        values = self.values[: self._n_settled]
        return {
            "dtype": container.plain(self.dtype),
            "values": container.plain_values(values, self.dtype),
        }


def _from_plain(plain, container):
    dtype = container.dtype_of(plain["dtype"])
    if "values" not in plain:
        return _Numbers(dtype, plain["missing"])
    column = _Codes(dtype)
    for value in container.values_of(plain["values"], dtype):
        column._place(value)
    column.settle()
    return column


def _key(value):
    """Return what values are told apart by: 1, True and '1' are three, any two NaN are one."""
    if isinstance(value, np.generic) and value.dtype.kind in "biufUS":
        value = value.item()
    kind = type(value)
    try:
        return (kind, "missing") if value != value else (kind, value)
    except (TypeError, ValueError):  # missing values of pandas and arrays have no truth value
        return (kind, "missing") if getattr(value, "shape", None) is None else (kind, id(value))


def _mode(values):
    """Most frequent number, of several the first."""
    distinct, first, counts = np.unique(values, return_index=True, return_counts=True)
    most = np.flatnonzero(counts == counts.max())
    return distinct[most[np.argmin(first[most])]]


def _means(inputs):
    mean = np.mean(inputs, axis=0, dtype=np.float64)
    if np.isnan(mean).any():
        seen = ~np.isnan(inputs)
        total = np.where(seen, inputs, 0).sum(axis=0, dtype=np.float64)
        counts = seen.sum(axis=0)
        mean = np.where(counts > 0, total / np.maximum(counts, 1), np.nan)
    return mean


def _column_of(column, container):
    if container.floats(column) is None:
        return _Codes(container.dtype(column))
    return _Numbers(container.dtype(column), container.missing(column))
