"""What a readable model reads of raw samples: named numbers, categories, means of segments."""

import numpy as np
from scipy import sparse

from ..explaining import resolve_groups, time_segments
from ..representation import Table
from ..utils import warn

_ROWS = 1024
# Categories must have as many samples on average, else a model would learn them by heart.
_SAMPLES_A_CATEGORY = 5
_MISSING = {"nan", "None", "<NA>", "NaT"}


class ReadableColumns:
    """Raw samples as a table of numbers, whose columns have names.

    Parameters
    ----------
    X : ndarray, DataFrame or list of str
        The fitted samples in raw units, validated.
    sample : Sample
        What one of them is.
    raw : bool
        Whether X may be other than an array of numbers.
    groups : object
        The parameter, see `resolve_groups`.
    n_segments : int
        Segments along each axis of a series or an image.
    words : list of str or None, default=None
        X are texts, which enter the network as so many numbers.

    Attributes
    ----------
    names : list of str
        One a column.
    values : list of (list of str or None)
        Of a column of categories their names, by number; None for numbers.
    """

    def __init__(self, X, sample, raw, groups, n_segments, words=None):
        self._table = self._means = self._columns = None
        if words is not None:
            names, self.values = list(words), [None] * len(words)
        elif groups is not None or sample.kind != "table":
            index, names = _groups_of(sample, groups, n_segments)
            self._means = _averages(index, len(names))
            self.values = [None] * len(names)
            if raw:
                self._table = Table(X)
                _refuse_categories(self._table)
        else:
            names = [str(name) for name in sample.names()]
            self.values = [None] * len(names)
            if raw:
                self._table = Table(X)
                self._choose(names, len(X))
        self.names = names if self._columns is None else [names[i] for i in self._columns]

    def _choose(self, names, n_samples):
        """Leave out columns with almost as many categories as samples: ids, texts, dates."""
        left_out, table = [], self._table
        for i in np.flatnonzero(table.coded):
            texts = table.all_values(i)
            if len(texts) * _SAMPLES_A_CATEGORY > n_samples:
                left_out.append(i)
            else:
                self.values[i] = ["missing" if text in _MISSING else text for text in texts]
        if not left_out:
            return
        told = ", ".join(repr(names[i]) for i in left_out)
        reason = (
            f"{told}: fewer than {_SAMPLES_A_CATEGORY} samples a category on average, which a "
            "model would learn by heart"
        )
        self._columns = np.setdiff1d(np.arange(len(names)), left_out)
        if not len(self._columns):
            raise ValueError(f"no column of X can be read as a number or category ({reason}).")
        warn(f"surrogates do not read {reason}. Make numbers of them (days, lengths) or drop them.")
        self.values = [self.values[i] for i in self._columns]

    def __call__(self, X, inputs):
        """Make numbers of samples.

        Parameters
        ----------
        X : ndarray, DataFrame or list of str of shape (n, ...)
            Samples in raw units, validated.
        inputs : ndarray of shape (n, n_words)
            The same as they enter the network, which is what is read of texts.

        Returns
        -------
        numbers : ndarray of shape (n, n_columns), float64
            Of categories their numbers; missing values, and categories that were not among the
            fitted samples, are NaN.
        """
        if isinstance(X, list):
            return np.asarray(inputs, dtype=np.float64)
        if self._table is not None:
            with self._table.reading():
                X = np.array(self._table.inputs(X), dtype=np.float64)
        if self._means is not None:
            blocks = (X[i : i + _ROWS].reshape(-1, self._means.shape[0]) for i in _starts(X))
            return np.concatenate([block.astype(np.float64) @ self._means for block in blocks])
        X = np.array(X if self._columns is None else X[:, self._columns], dtype=np.float64)
        for i, values in enumerate(self.values):
            if values is not None:
                X[X[:, i] >= len(values), i] = np.nan
        return X


def _starts(X):
    return range(0, len(X), _ROWS)


def _groups_of(sample, groups, n_segments):
    """Return the group of every entry of a sample, and the names of the groups."""
    if groups is not None:
        return resolve_groups(groups, sample.shape, sample.columns)
    axes = [axis for axis in range(len(sample.shape)) if axis != sample.channel_axis]
    letters = {1: "t", 2: "yx"}.get(len(axes), [f"a{axis}_" for axis in axes])
    labels = np.full(sample.shape, "", dtype=object)
    if sample.channel_axis is not None and sample.shape[sample.channel_axis] > 1:
        n_channels = sample.shape[sample.channel_axis]
        labels = labels + _along(
            [f"ch{i} " for i in range(n_channels)], sample.channel_axis, labels
        )
    for letter, axis in zip(letters, axes, strict=True):
        size = sample.shape[axis]
        steps = [s[1:] for s in time_segments(size, min(n_segments, size))]
        steps = [s.split("-")[0] if len(set(s.split("-"))) == 1 else s for s in steps]
        labels = labels + _along([f"{letter}{step} " for step in steps], axis, labels)
    return resolve_groups(np.char.strip(labels.astype(str)), sample.shape)


def _along(names, axis, labels):
    names = np.array(names, dtype=object)
    return names.reshape([-1 if i == axis else 1 for i in range(labels.ndim)])


def _averages(index, n_groups):
    """Return the matrix (n_entries, n_groups) that takes means over groups."""
    flat = index.ravel()
    weights = 1 / np.bincount(flat, minlength=n_groups)[flat]
    entries = np.arange(len(flat))
    return sparse.csr_matrix((weights, (entries, flat)), shape=(len(flat), n_groups))


def _refuse_categories(table):
    if table.coded.any():
        i = int(np.flatnonzero(table.coded)[0])
        raise ValueError(
            f"groups are means of numbers, but column {table.value_names(i, None)[0]!r} holds "
            "none; use groups=None."
        )
