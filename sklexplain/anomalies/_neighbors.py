"""The normal samples that are most like a sample, and the mean of them."""

from collections import Counter

import numpy as np
from sklearn.neighbors import NearestNeighbors

from ..explaining import data_mean
from ..utils import known_mean

_MOST_VALUES = 100  # of a column without numbers that are told apart
_SPARE = 5  # candidates more, so that ranking them anew by exact distances finds the right ones
# Queries below which sorting the corpus into a tree costs more than looking at all of it.
_FEW = 100


class Neighbors:
    """Samples that are normal, where they lie, and how the mean of some of them is made.

    Parameters
    ----------
    inputs : ndarray of shape (n, ...)
        Normal samples as they enter the network, each row its own memory.
    codes : ndarray of shape (n, n_units) or None
        Where they lie. None: where their standardised entries are.
    coded : ndarray of bool or None
        Columns of a raw table in which numbers stand for values, which match or do not.
    """

    def __init__(self, inputs, codes, coded=None):
        self.inputs = inputs
        self.space = None if codes is not None else _Space(inputs, coded)
        codes = self.space(inputs) if codes is None else codes
        self.codes = np.asarray(codes, dtype=np.float64)
        self.most_copies = max(Counter(row.tobytes() for row in inputs).values())

    def __call__(self, inputs, codes, k):
        """Find the nearest samples, none of them a copy of the sample itself.

        Parameters
        ----------
        inputs : ndarray of shape (b, ...)
            Samples.
        codes : ndarray of shape (b, n_units) or None
            Where they lie, as in the constructor.
        k : int
            How many; all where there are fewer.

        Yields
        ------
        rows : ndarray of int
            Positions of the nearest of each sample, in order.
        """
        codes = self.space(inputs) if codes is None else np.asarray(codes, dtype=np.float64)
        n = len(self.codes)
        found = min(n, k + self.most_copies + _SPARE)
        algorithm = "brute" if len(codes) < _FEW else "auto"
        search = NearestNeighbors(n_neighbors=found, algorithm=algorithm).fit(self.codes)
        nearest = search.kneighbors(codes, return_distance=False)
        flat, queries = self.inputs.reshape(n, -1), inputs.reshape(len(inputs), -1)
        for code, query, candidates in zip(codes, queries, nearest, strict=True):
            same = (flat[candidates] == query) | (
                (flat[candidates] != flat[candidates]) & (query != query)
            )
            others = candidates[~same.all(axis=1)]
            candidates = others if len(others) else candidates
            distances = ((self.codes[candidates] - code) ** 2).sum(axis=1)
            yield np.sort(candidates[np.lexsort((candidates, distances))[:k]])


class _Space:
    """Entries over their standard deviation; values of columns without numbers match or do not."""

    def __init__(self, inputs, coded):
        coded = np.zeros(inputs.shape[1], dtype=bool) if coded is None else coded
        self.coded = np.flatnonzero(coded) if inputs.ndim == 2 else np.empty(0, dtype=int)
        numbers = self._numbers(inputs)
        self.mean = np.nan_to_num(known_mean(numbers))
        spread = np.sqrt(np.nan_to_num(known_mean((numbers - self.mean) ** 2)))
        self.scale = np.where(spread > 0, spread, 1.0)
        # A value that no two samples share brings none of them nearer.
        self.values = [
            [v for v, count in Counter(inputs[:, i]).most_common(_MOST_VALUES) if count > 1]
            for i in self.coded
        ]

    def _numbers(self, inputs):
        flat = np.asarray(inputs.reshape(len(inputs), -1), dtype=np.float64)
        return np.delete(flat, self.coded, axis=1)

    def __call__(self, inputs):
        # What is missing is nowhere in particular: at the mean.
        parts = [np.nan_to_num((self._numbers(inputs) - self.mean) / self.scale)]
        for i, values in zip(self.coded, self.values, strict=True):
            # Two values that differ are at a distance of 1.
            parts.append((inputs[:, i, None] == np.array(values)[None]) * np.sqrt(0.5))
        return np.concatenate(parts, axis=1)


def mean_of(rows, representation, rounded):
    """Make one sample of several: the mean of numbers, the most frequent of other values.

    Parameters
    ----------
    rows : ndarray of shape (k, ...)
        As they enter the network or black box.
    representation : Representation
        Which that is.
    rounded : bool
        Whether integers have no mean in its table, as they stand for categories.

    Returns
    -------
    mean : ndarray of shape (...)
    """
    if representation.table is not None:
        return representation.table.typical(rows, rounded=rounded)
    return data_mean(rows, integers=representation.takes_integers)
