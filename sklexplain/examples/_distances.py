"""Distances between representations, in float64, and the nearest of a corpus.

Every result is that of one pair at a time up to rounding, so it depends neither on the other
queries nor on the size of blocks; ties go to the example that comes first.
"""

import numpy as np
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

from ..utils import call_given

# Below this share of the squared lengths, a difference of squares has lost six digits.
_CANCELLED = 1e-6
_BLOCK = 2**22  # numbers held at once
_MEDIAN_ROWS = 2000
_BY_PRODUCT = ("euclidean", "l2", "cosine")
# scikit-learn's search pays off from here on; it finds a few more than asked for, to see ties.
_MIN_SEARCH = 1000
_SPARE = 4
_ROUNDING = 1e-12

METRICS = (
    *("braycurtis", "canberra", "chebyshev", "cityblock", "correlation", "cosine", "euclidean"),
    *("hamming", "l1", "l2", "manhattan", "minkowski", "sqeuclidean"),
)


def distances(queries, corpus, metric):
    """Distances of all queries to all of a corpus.

    Parameters
    ----------
    queries : ndarray of shape (b, N) of float64
        Representations.
    corpus : ndarray of shape (n, N) of float64
        Representations.
    metric : str or callable
        One of ``METRICS``, or a function of two vectors.

    Returns
    -------
    d : ndarray of shape (b, n) of float64
        Exactly 0 between duplicates.

    Raises
    ------
    ValueError
        If a distance is negative, infinite or not defined.
    """
    if metric == "cosine":
        queries, corpus = _unit(queries), _unit(corpus)
        d = 1 - queries @ corpus.T
        close = np.nonzero(d < _CANCELLED)
        d[close] = pair_distances(queries, corpus, *close, metric)
    elif metric in ("euclidean", "l2"):
        # Around the origin lengths are smallest, and so is what cancels.
        center = corpus.mean(axis=0)
        queries, corpus = queries - center, corpus - center
        lengths = np.add.outer(_squares(queries), _squares(corpus))
        d = lengths - 2 * queries @ corpus.T
        close = np.nonzero(d < _CANCELLED * lengths)
        d[close] = 0
        np.sqrt(d, out=d)
        d[close] = pair_distances(queries, corpus, *close, metric)
    else:
        d = _all_pairs(queries, corpus, metric)
        _check_distances(d, metric)
    return d


def _all_pairs(queries, corpus, metric):
    if not callable(metric):
        return pairwise_distances(queries, corpus, metric=metric)

    def number(a, b):
        value = call_given("metric", metric, a, b)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"metric={metric!r} must return a distance, a finite number of at least 0, but it "
                f"returned {value!r} for two representations."
            ) from None

    return pairwise_distances(queries, corpus, metric=number)


def pair_distances(queries, corpus, rows, columns, metric):
    """Euclidean or cosine distances of pairs, by subtraction.

    Parameters
    ----------
    queries : ndarray of shape (b, N) of float64
        Representations.
    corpus : ndarray of shape (n, N) of float64
        Representations.
    rows, columns : ndarray of shape (n_pairs,)
        Positions of the pairs in queries and corpus.
    metric : {"euclidean", "l2", "cosine"}
        The distance. Cosine is 1 where a vector is zero.

    Returns
    -------
    d : ndarray of shape (n_pairs,) of float64
    """
    if metric == "cosine":
        queries, corpus = _unit(queries), _unit(corpus)
    d = np.empty(len(rows))
    step = max(1, _BLOCK // queries.shape[1])
    for i in range(0, len(rows), step):
        pairs = slice(i, i + step)
        d[pairs] = _squares(queries[rows[pairs]] - corpus[columns[pairs]])
    if metric != "cosine":
        return np.sqrt(d)
    undefined = ~queries.any(axis=1)[rows] | ~corpus.any(axis=1)[columns]
    return np.where(undefined, 1.0, d / 2)


def _squares(z):
    return np.einsum("ij,ij->i", z, z)


def _unit(z):
    length = np.linalg.norm(z, axis=1, keepdims=True)
    return z / np.where(length > 0, length, 1.0)


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
    d, index = np.empty((len(queries), k)), np.empty((len(queries), k), dtype=np.intp)
    remaining = np.arange(len(queries))
    zeros = metric == "cosine" and not (queries.any(axis=1).all() and corpus.any(axis=1).all())
    if metric in _BY_PRODUCT and len(corpus) > _MIN_SEARCH and not zeros:
        d, index, settled = _search(queries, corpus, k, metric, exclude)
        remaining = np.flatnonzero(~settled)
    step = max(1, _BLOCK // len(corpus))
    for i in range(0, len(remaining), step):
        rows = remaining[i : i + step]
        d[rows], index[rows] = _compare_all(queries[rows], corpus, k, metric, exclude[rows])
    return d, index


def _search(queries, corpus, k, metric, exclude):
    """Find the nearest with scikit-learn, and the queries for which that settles ties too."""
    # Squared distances of unit vectors are twice the cosine's; around the center less cancels.
    unit = metric == "cosine"
    points, base = (_unit(queries), _unit(corpus)) if unit else (queries, corpus)
    center = base.mean(axis=0)
    points, base = points - center, base - center
    n_found = min(k + 1 + _SPARE, len(corpus))
    search = NearestNeighbors(n_neighbors=n_found, algorithm="brute").fit(base)
    coarse, columns = search.kneighbors(points)
    rows, columns = np.repeat(np.arange(len(queries)), n_found), columns.ravel()
    values = pair_distances(queries, corpus, rows, columns, metric)
    values[columns == exclude[rows]] = np.inf
    order = first_of_rows(rows, columns, values, len(queries), k)
    d, index = values[order], columns[order]
    # Examples that were not found are at least as far as the last one found, up to rounding.
    squared = 2 * d[:, -1] if unit else d[:, -1] ** 2
    rounding = _ROUNDING * (_squares(points) + _squares(base).max())
    return d, index, (squared + rounding < coarse[:, -1] ** 2) | (n_found == len(corpus))


def _compare_all(queries, corpus, k, metric, exclude):
    """Find the nearest by their distances to all of the corpus."""
    d = distances(queries, corpus, metric)
    some = np.flatnonzero(exclude >= 0)
    d[some, exclude[some]] = np.inf
    kth = np.partition(d, k - 1, axis=1)[:, k - 1, None]
    # Matrix products round equal distances apart, so candidates are computed again, pair by pair.
    rows, columns = np.nonzero(d <= kth * (1 + 1e-8))
    if metric in _BY_PRODUCT:
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


def median_distance(corpus, metric, rng):
    """Median distance between two different examples of a corpus.

    Parameters
    ----------
    corpus : ndarray of shape (n, N) of float64
        Representations.
    metric : str or callable
        See `distances`.
    rng : RandomState
        Draws 2000 examples of a larger corpus, whose pairs are then used.

    Returns
    -------
    median : float
        Positive: without the zeros if more than half are, and 1 if all are.
    """
    if len(corpus) > _MEDIAN_ROWS:
        corpus = corpus[rng.choice(len(corpus), _MEDIAN_ROWS, replace=False)]
    d = distances(corpus, corpus, metric)[np.triu_indices(len(corpus), 1)]
    median = np.median(d) if len(d) else 0.0
    if median > 0:
        return float(median)
    return float(np.median(d[d > 0])) if (d > 0).any() else 1.0


def _check_distances(d, metric):
    good = np.isfinite(d) & (d >= 0)
    if good.all():
        return
    bad = d[~good][0]
    if not callable(metric):
        raise ValueError(
            f"metric={metric!r} gives {bad:.3g} for two representations: it is not defined where "
            "one is constant or 0 (or overflows). 'euclidean' always is."
        )
    raise ValueError(
        f"metric={metric!r} must return a distance, a finite number of at least 0, but it "
        f"returned {bad:.3g} for two representations."
    )
