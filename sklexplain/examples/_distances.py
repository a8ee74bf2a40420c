"""Distances between representations, in float64.

Every result is that of one pair at a time up to rounding, so it depends neither on the other
queries nor on the size of blocks. Beside the results memory is held for a few blocks only.
"""

import numpy as np
from sklearn.metrics import pairwise_distances

from ..utils import call_given, lent

# Below this share of the squared lengths, a difference of squares has lost six digits.
_CANCELLED = 1e-6
_SHORT = 1e-140  # squares of shorter vectors lose digits
_OVERFLOWS = 1e300  # squares that are larger
_CACHED = 2**17  # numbers: a megabyte
_BLOCK = 2**22  # numbers held at once
_TILE = (256, 1024)  # rows and columns of a matrix that is worked on while it is in the cache
_MEDIAN_ROWS = 2000
BY_PRODUCT = ("euclidean", "l2", "cosine")

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
    d = np.empty((len(queries), len(corpus)))
    for rows, columns, tile in tiles(queries, corpus, metric):
        d[rows, columns] = tile
    return d


def tiles(queries, corpus, metric):
    """Yield distances a tile at a time, so that what is done to one is done in the cache.

    Parameters
    ----------
    queries : ndarray of shape (b, N) of float64
        Representations.
    corpus : ndarray of shape (n, N) of float64
        Representations.
    metric : str or callable
        See `distances`.

    Yields
    ------
    rows, columns : slice
        Which queries, and which of the corpus.
    tile : ndarray
        Their distances, in an array that can be overwritten, as the next tile does.
    """
    if metric not in BY_PRODUCT:
        for rows in parts(len(queries), _BLOCK // len(corpus)):
            tile = _all_pairs(queries[rows], corpus, metric)
            _check_distances(tile, metric)
            yield rows, slice(0, len(corpus)), tile
        return
    # The cosine is of directions from the origin, so that its products are of these.
    center = 0.0 if metric == "cosine" else center_of(corpus, metric)
    points = around(queries, center, metric)
    by_length = metric != "cosine"
    points = _augmented(points, metric, swap=False) if by_length else points
    held = np.empty(np.prod(_TILE))
    for columns in parts(len(corpus), _TILE[1]):
        some = corpus[columns]
        base = around(some, center, metric)
        base = _augmented(base, metric, swap=True) if by_length else base
        for rows in parts(len(queries), _TILE[0]):
            shape = rows.stop - rows.start, len(some)
            tile = held[: np.prod(shape)].reshape(shape)
            _fill(tile, points[rows], base, queries[rows], some, metric)
            yield rows, columns, tile


def _augmented(z, metric, swap):
    """Add columns with which products are squared distances: [z, |z|^2, 1], [-2 z, 1, |z|^2]."""
    more = [checked_squares(z, metric), np.ones(len(z))]
    return np.column_stack([-2 * z, *more[::-1]] if swap else [z, *more])


def parts(n, step):
    """Slices of n rows, ``step`` at most in each."""
    step = max(1, step)
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def center_of(corpus, metric):
    """Mean of a corpus, of its directions for the cosine, by blocks: ndarray of shape (N,)."""
    if metric != "cosine":
        return corpus.mean(axis=0)
    blocks = parts(len(corpus), _CACHED // corpus.shape[1])
    return sum(_unit(corpus[part]).sum(axis=0) for part in blocks) / len(corpus)


def around(z, center, metric):
    """Vectors, or their directions for the cosine, less a center.

    Around the center of a corpus lengths are smallest, and so is what cancels in products.

    Parameters
    ----------
    z : ndarray of shape (b, N)
        Representations.
    center : ndarray of shape (N,)
        See `center_of`.
    metric : str
        One of ``BY_PRODUCT``.

    Returns
    -------
    points : ndarray of shape (b, N)
        Half the squared Euclidean distance of directions is the cosine's.
    """
    return (_unit(z) if metric == "cosine" else z) - center


def _fill(d, points, base, queries, corpus, metric):
    """Write a tile of distances: by products, and by subtraction where these cancel."""
    np.matmul(points, base.T, out=d)
    if metric == "cosine":
        np.subtract(1, d, out=d)
        lengths, lengths_of_base = np.ones(len(points)), np.zeros(len(base))
    else:
        lengths, lengths_of_base = points[:, -2], base[:, -1]
    # Mostly no row has a close pair, which its minimum tells soonest.
    near = np.flatnonzero(d.min(axis=1) < _CANCELLED * (lengths + lengths_of_base.max()))
    scale = np.add.outer(lengths[near], lengths_of_base)
    rows, columns = np.nonzero(d[near] < _CANCELLED * scale)
    close = near[rows], columns
    if metric != "cosine":
        d[close] = 0
        np.sqrt(d, out=d)
    if len(rows):
        d[close] = pair_distances(queries, corpus, *close, metric)


def _all_pairs(queries, corpus, metric):
    if not callable(metric):
        return pairwise_distances(queries, corpus, metric=metric)

    def number(a, b):
        value = call_given("metric", metric, lent(a), lent(b))
        try:
            if np.ndim(value):  # older versions of numpy make a number of an array with one entry
                raise TypeError
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
    d = np.empty(len(rows))
    for pairs in parts(len(rows), _CACHED // queries.shape[1]):
        d[pairs] = _subtracted(queries[rows[pairs]], corpus[columns[pairs]], metric)
    return d


def distances_to_some(queries, corpus, columns, metric):
    """Euclidean or cosine distances of each query to some of a corpus, by subtraction.

    Parameters
    ----------
    queries : ndarray of shape (b, N) of float64
        Representations.
    corpus : ndarray of shape (n, N) of float64
        Representations.
    columns : ndarray of shape (b, m) of int
        Positions in the corpus, for each query.
    metric : {"euclidean", "l2", "cosine"}
        The distance. Cosine is 1 where a vector is zero.

    Returns
    -------
    d : ndarray of shape (b, m) of float64
        Each number is what `pair_distances` gives.
    """
    d = np.empty(columns.shape)
    for rows in parts(len(queries), _CACHED // (columns.shape[1] * queries.shape[1])):
        d[rows] = _subtracted(queries[rows, None], corpus[columns[rows]], metric)
    return d


def _subtracted(a, b, metric):
    """Distances along the last axis; b may be overwritten."""
    if metric != "cosine":
        b -= a
        return np.sqrt(squares(b))
    undefined = ~(a.any(axis=-1) & b.any(axis=-1))
    return np.where(undefined, 1.0, squares(_unit(b) - _unit(a)) / 2)


def squares(z):
    """Squared lengths along the last axis."""
    return np.einsum("...j,...j->...", z, z)


def _unit(z):
    length = _length(z)
    odd = ~((length > _SHORT) & (length < np.inf))  # squares vanish or overflow
    if odd.any():
        # A power of two changes no digit.
        exponent = np.frexp(np.abs(z).max(axis=-1, keepdims=True))[1]
        z = np.where(odd, np.ldexp(z, -exponent), z)
        length = np.where(odd, _length(z), length)
    return z / np.where(length > 0, length, 1.0)


def _length(z):
    with np.errstate(over="ignore"):
        return np.linalg.norm(z, axis=-1, keepdims=True)


def checked_squares(z, metric):
    """Squared lengths, if these are not too large.

    Parameters
    ----------
    z : ndarray of shape (b, N)
        What `around` returned.
    metric : str
        For the message.

    Returns
    -------
    lengths : ndarray of shape (b,)

    Raises
    ------
    ValueError
        If distances might overflow.
    """
    lengths = squares(z)
    if not (lengths < _OVERFLOWS).all():
        raise ValueError(
            f"metric={metric!r} overflows: representations are up to {np.abs(z).max():.3g} away "
            "from the corpus's mean; scale them, or the samples."
        )
    return lengths


def median_rows(n, rng):
    """Draw the examples whose distances give the median: positions, in no order."""
    return np.arange(n) if n <= _MEDIAN_ROWS else rng.choice(n, _MEDIAN_ROWS, replace=False)


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
        corpus = corpus[median_rows(len(corpus), rng)]
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
