"""The normal samples that are most like a sample, and the mean of them."""

from collections import Counter

import numpy as np
from sklearn.neighbors import NearestNeighbors

from ..explaining import data_mean
from ..utils import known_mean, row_bytes

_MOST_VALUES = 100  # of a column without numbers that are told apart
_SPARE = 5  # candidates more, so that ranking them anew by exact distances finds the right ones
# Distances that are fewer than these are all computed; a search would take longer to set up.
_FEW = 2**21
_BLOCK = 256  # queries whose candidates are looked at together


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
        self.most_copies = max(Counter(map(row_bytes, inputs)).values())

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

        Returns
        -------
        rows : ndarray of int of shape (b, k)
            Positions of the nearest of each sample.
        counted : ndarray of bool of shape (b, k)
            False at the end, where there are not so many.
        """
        codes = self.space(inputs) if codes is None else np.asarray(codes, dtype=np.float64)
        n = len(self.codes)
        nearest = self._candidates(codes, min(n, k + self.most_copies + _SPARE))
        rows, counted = [], []
        for i in range(0, len(codes), _BLOCK):
            block = slice(i, i + _BLOCK)
            parts = self._ranked(inputs[block], codes[block], nearest[block], min(k, n))
            rows.append(parts[0])
            counted.append(parts[1])
        return np.concatenate(rows), np.concatenate(counted)

    def _candidates(self, codes, found):
        """Find the nearest but for rounding, in any order."""
        # Distances from a point in their middle: far from the origin their squares would cancel.
        middle = self.codes.mean(axis=0)
        known, codes = self.codes - middle, codes - middle
        if len(codes) * len(known) > _FEW:
            search = NearestNeighbors(n_neighbors=found).fit(known)
            return search.kneighbors(codes, return_distance=False)
        distances = np.einsum("ij,ij->i", known, known) - 2 * codes @ known.T
        if found == len(known):
            return np.tile(np.arange(found), (len(codes), 1))
        return np.argpartition(distances, found - 1, axis=1)[:, :found]

    def means(self, rows, counted):
        """Average numbers of the neighbours of each sample.

        Parameters
        ----------
        rows : ndarray of int of shape (b, k)
            Positions of neighbours.
        counted : ndarray of bool of shape (b, k)
            Which of them count.

        Returns
        -------
        means : ndarray of shape (b, ...)
        """
        weights = counted / counted.sum(axis=1, keepdims=True)
        # Blocks: no copy of all neighbours of all samples at once.
        parts = [
            np.einsum("bk,bk...->b...", weights[i : i + _BLOCK], self.inputs[rows[i : i + _BLOCK]])
            for i in range(0, len(rows), _BLOCK)
        ]
        return np.concatenate(parts)

    def _ranked(self, inputs, codes, nearest, k):
        """Rank candidates by exact distance, then by position, copies of the sample last."""
        own, others = inputs.reshape(len(inputs), 1, -1), self.inputs[nearest]
        others = others.reshape(*nearest.shape, -1)
        same = (others == own) | ((others != others) & (own != own))  # NaN is like NaN
        same = same.all(axis=2)
        same[same.all(axis=1)] = False  # there is nothing else
        distances = ((self.codes[nearest] - codes[:, None]) ** 2).sum(axis=2)
        order = np.lexsort((nearest, distances, same), axis=1)[:, :k]
        rows = np.take_along_axis(nearest, order, axis=1)
        return rows, ~np.take_along_axis(same, order, axis=1)


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


def mean_of(rows, counted, representation, rounded):
    """Make one sample of several: the mean of numbers, the most frequent of other values.

    Parameters
    ----------
    rows : ndarray of shape (k, ...)
        As they enter the network or black box.
    counted : ndarray of bool of shape (k,)
        Which of them count.
    representation : Representation
        What takes them.
    rounded : bool
        Whether integers have no mean in its table, as they stand for categories.

    Returns
    -------
    mean : ndarray of shape (...)
    """
    rows = rows[counted]
    if representation.table is not None:
        return representation.table.typical(rows, rounded=rounded)
    return data_mean(rows, integers=representation.takes_integers)
