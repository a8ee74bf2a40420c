"""The nearest of a corpus to every query, in blocks of both; ties go to the first example."""

import numpy as np
from sklearn import config_context
from sklearn.neighbors import NearestNeighbors

from ._distances import (
    BY_PRODUCT,
    around,
    center_of,
    checked_squares,
    distances,
    distances_to_some,
    pair_distances,
    parts,
)

_BLOCK = 2**22  # numbers held at once
# scikit-learn's search pays off from here on; it finds a few more than asked for, to see ties.
_MIN_SEARCH = 100
_SPARE = 1
_ROUNDING = 1e-12
# What scikit-learn's search computes pair by pair, without products.
_DIRECT = ("chebyshev", "cityblock", "l1", "manhattan")
_MAX_DIRECT = 1e150  # larger numbers may overflow, which has to be seen


def nearest(queries, corpus, k, metric, exclude=None):
    """Find the k nearest of a corpus to every query.

    Parameters
    ----------
    queries : ndarray of shape (b, N) of float64
        Representations.
    corpus : ndarray of shape (n, N) of float64
        Representations.
    k : int
        How many; at most as many as there are.
    metric : str or callable
        See `distances`.
    exclude : ndarray of shape (b,) of int or None, default=None
        Position of the one example that is left out of every query's corpus.

    Returns
    -------
    d : ndarray of shape (b, k) of float64
        Ascending.
    index : ndarray of shape (b, k) of int
        Positions in the corpus; equal distances in their order there.
    """
    exclude = np.full(len(queries), -1) if exclude is None else exclude
    if len(corpus) > _MIN_SEARCH and _searchable(queries, corpus, metric):
        d, index, settled = _search(queries, corpus, k, metric, exclude)
        remaining = np.flatnonzero(~settled)
    else:
        d, index = np.empty((len(queries), k)), np.empty((len(queries), k), dtype=np.intp)
        remaining = np.arange(len(queries))
    for part in parts(len(remaining), _BLOCK // len(corpus)):
        rows = remaining[part]
        d[rows], index[rows] = _compare_all(queries[rows], corpus, k, metric, exclude[rows])
    return d, index


def _searchable(queries, corpus, metric):
    if metric == "cosine":  # its distance from zero vectors is 1, whatever the others' directions
        return queries.any(axis=1).all() and corpus.any(axis=1).all()
    if metric in _DIRECT:
        return max(np.abs(z).max() for z in (queries, corpus)) < _MAX_DIRECT
    return metric in BY_PRODUCT


def _search(queries, corpus, k, metric, exclude):
    """Find the nearest with scikit-learn, and the queries for which that settles ties too."""
    # One of those found may be the excluded one.
    n_found = min(k + _SPARE + bool((exclude >= 0).any()), len(corpus))
    if metric in _DIRECT:
        values, columns, _ = _found(queries, corpus, n_found, metric)
        last, rounding = values[:, -1], _ROUNDING * values[:, -1]
        order = columns.argsort(axis=1)
        values, columns = (np.take_along_axis(a, order, axis=1) for a in (values, columns))
        square = np.asarray
    else:
        center = center_of(corpus, metric)
        points = around(queries, center, metric)
        coarse, columns, longest = _found(points, corpus, n_found, metric, center)
        last, rounding = coarse[:, -1] ** 2, _ROUNDING * (checked_squares(points, metric) + longest)
        columns.sort(axis=1)
        values = distances_to_some(queries, corpus, columns, metric)
        # Squared distances of unit vectors are twice the cosine's.
        square = (lambda d: 2 * d) if metric == "cosine" else np.square
    values[columns == exclude[:, None]] = np.inf
    order = values.argsort(axis=1, kind="stable")[:, :k]
    d, index = (np.take_along_axis(a, order, axis=1) for a in (values, columns))
    # Examples that were not found are at least as far as the last one found, up to rounding.
    settled = square(d[:, -1]) + rounding < last
    return d, index, settled | (n_found == len(corpus))


def _found(points, corpus, n_found, metric, center=None):
    """Let scikit-learn search a block of the corpus after the other.

    Parameters
    ----------
    points : ndarray of shape (b, N)
        Queries, around the center if there is one.
    corpus : ndarray of shape (n, N)
        Representations.
    n_found : int
        How many to find.
    metric : str
        The distance.
    center : ndarray of shape (N,) or None, default=None
        See `around`; distances are then Euclidean ones of what that returns.

    Returns
    -------
    d : ndarray of shape (b, n_found)
        Ascending.
    columns : ndarray of shape (b, n_found) of int
        Positions in the corpus.
    longest : float
        Largest squared length around the center.
    """
    longest, held = 0.0, None
    theirs = metric if center is None else "euclidean"
    for part in parts(len(corpus), _BLOCK // corpus.shape[1]):
        base = corpus[part]
        if center is not None:
            base = around(base, center, metric)
            longest = max(longest, checked_squares(base, metric).max())
        n = min(n_found, len(base))
        # All are finite numbers of ours: checks would take as long as a search of few.
        with config_context(assume_finite=True, skip_parameter_validation=True):
            search = NearestNeighbors(n_neighbors=n, algorithm="brute", metric=theirs).fit(base)
            d, columns = search.kneighbors(points)
        columns += part.start
        if held is not None:
            d, columns = (np.hstack(pair) for pair in zip(held, (d, columns), strict=True))
            order = d.argsort(axis=1, kind="stable")[:, :n_found]
            d, columns = (np.take_along_axis(a, order, axis=1) for a in (d, columns))
        held = d, columns
    return *held, longest


def _compare_all(queries, corpus, k, metric, exclude):
    """Find the nearest by their distances to all of the corpus."""
    d = distances(queries, corpus, metric)
    some = np.flatnonzero(exclude >= 0)
    d[some, exclude[some]] = np.inf
    kth = np.partition(d, k - 1, axis=1)[:, k - 1, None]
    # Matrix products round equal distances apart, so candidates are computed again, pair by pair.
    rows, columns = np.nonzero(d <= kth * (1 + 1e-8))
    if metric in BY_PRODUCT:
        values = pair_distances(queries, corpus, rows, columns, metric)
    else:
        values = d[rows, columns]
    order = first_of_rows(rows, columns, values, len(d), k)
    return values[order], columns[order]


def first_of_rows(rows, columns, values, n_rows, k):
    """Positions of the k smallest values of each row, lowest column first where they tie.

    Parameters
    ----------
    rows, columns : ndarray of shape (n_entries,) of int
        Positions of the values; at least k in every row.
    values : ndarray of shape (n_entries,)
        The values.
    n_rows, k : int
        Numbers of rows, and of positions for each.

    Returns
    -------
    positions : ndarray of shape (n_rows, k) of int
        Into ``values``.
    """
    order = np.lexsort((columns, values, rows))
    counts = np.bincount(rows, minlength=n_rows)
    starts = np.cumsum(counts) - counts
    return order[starts[:, None] + np.arange(k)]


def first_by_importance(importance, columns, k):
    """Choose the k most important of each row, the first of the corpus where they tie.

    Parameters
    ----------
    importance : ndarray of shape (b, m)
        Numbers, at least k in a row.
    columns : ndarray of shape (b, m) of int
        Positions in the corpus.
    k : int
        How many.

    Returns
    -------
    importance, columns : ndarray of shape (b, k)
        Most first.
    """
    order = np.lexsort((columns, -importance), axis=1)[:, :k]
    return [np.take_along_axis(values, order, axis=1) for values in (importance, columns)]


def in_corpus_order(importance, columns):
    """Sort each row by its positions in the corpus; see `first_by_importance`."""
    order = columns.argsort(axis=1)
    return [np.take_along_axis(values, order, axis=1) for values in (importance, columns)]


def largest(values, k):
    """Columns of the k largest values of each row, the first column first where they tie.

    Parameters
    ----------
    values : ndarray of shape (b, n)
        Numbers, at least k in a row.
    k : int
        How many.

    Returns
    -------
    columns : ndarray of shape (b, k) of int
        Most first.
    """
    kth = -np.partition(-values, k - 1, axis=1)[:, k - 1, None]
    rows, columns = np.nonzero(values >= kth)
    return columns[first_of_rows(rows, columns, -values[rows, columns], len(values), k)]
