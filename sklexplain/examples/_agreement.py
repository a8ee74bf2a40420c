"""Agreement of example importance with labels, and of explanations with each other."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse, stats

from ..utils import (
    FLAG,
    ArrayOrSparse,
    Entries,
    Integer,
    Integers,
    as_array,
    check_choice,
    check_comparable,
    check_labels,
    check_numbers,
    check_positive_int,
    rounding_of,
    validated,
    warn,
)

_BLOCK = 2**22  # matrix entries processed together


@validated(n_top=[Integer(), Entries("a sequence", Integer())], least=[FLAG])
def similarity_rate(
    importance: ArrayOrSparse,
    y_query: ArrayLike,
    y_train: ArrayLike,
    *,
    n_top: int | Integers = 10,
    least: bool = False,
    ties: ArrayLike | None = None,
) -> float | np.ndarray:
    r"""Share of the most important training examples that have the query's label.

    .. math:: \frac{1}{n} \sum_{q} \frac{1}{M}
              \#\{\, i \in \mathrm{top}_M(c_q) : y_i = y_q \,\}

    This is the consistency check of [1]_, section 4.1 and figure 3. Importance that follows what
    the samples have in common finds their label among the most important examples, and others
    among the least important.

    Parameters
    ----------
    importance : array-like or sparse matrix of shape (n_query, n_train)
        Larger is more important. What a sparse matrix does not store is 0.
    y_query : array-like of shape (n_query,)
        Labels of the queries.
    y_train : array-like of shape (n_train,)
        Labels of the training examples.
    n_top : int or array-like of int, default=10
        M, one or several.
    least : bool, default=False
        Look at the M *least* important examples instead.
    ties : array-like of shape (n_query, n_train) or None, default=None
        Values by which examples of equal importance are ranked, larger first: for the many that
        have no weight in `SimplExImportance`, ``-explainer.reduced_cost(X)``.

    Returns
    -------
    rate : float, or ndarray of shape (n_sizes,)
        Mean over the queries; an array if ``n_top`` is one.

    Raises
    ------
    ValueError
        If M is larger than n_train, lengths do not fit, values are not finite, or one of
        ``y_query`` and ``y_train`` holds text and the other numbers.

    Warns
    -----
    SklexplainWarning
        If ``y_query`` holds several classes, and ``y_train`` none of them.

    See Also
    --------
    sklexplain.DKNNImportance : What makes such importances.
    sklexplain.metrics.saliency_correlation : Whether two importances agree.

    Notes
    -----
    Examples that tie for the last of the M places fill the remaining places at their mean rate,
    which is what a random order of them would give on average.

    References
    ----------
    .. [1] J. Crabbé and M. van der Schaar, "Label-Free Explainability for Unsupervised Models",
       ICML 2022.

    Examples
    --------
    >>> from sklexplain.metrics import similarity_rate
    >>> similarity_rate([[0.9, 0.1, 0.5]], ["a"], ["a", "a", "b"], n_top=[1, 2, 3])
    array([1.        , 0.5       , 0.66666667])
    >>> similarity_rate([[0.9, 0.5, 0.5]], ["a"], ["a", "a", "b"], n_top=2)  # a tie
    0.75
    """
    importance = _checked_matrix("importance", importance)
    n_query, n_train = importance.shape
    y_query, y_train = as_array(y_query, "y_query"), as_array(y_train, "y_train")
    for name, y, n in (("y_query", y_query, n_query), ("y_train", y_train, n_train)):
        if y.shape != (n,):
            raise ValueError(
                f"{name} has shape {y.shape}, but importance of shape {importance.shape} needs "
                f"({n},)."
            )
        check_labels(name, y)
    check_comparable("y_query", y_query, "y_train", y_train)
    rates = rates_of_labels(importance, y_query, y_train, n_top, least=least, ties=ties)
    return float(rates[0]) if np.ndim(n_top) == 0 else rates


def rates_of_labels(importance, y_query, y_train, n_top, *, least=False, ties=None):
    """Compute `similarity_rate` of checked labels, which may be some of many.

    Parameters
    ----------
    importance, y_query, y_train, n_top, least, ties
        See `similarity_rate`.

    Returns
    -------
    rates : ndarray of shape (n_sizes,)
    """
    importance = _checked_matrix("importance", importance)
    n_query, n_train = importance.shape
    if ties is not None:
        ties = _checked_ties(ties, importance.shape)
    sizes = _checked_sizes(n_top, n_train)
    step = max(1, _BLOCK // n_train)
    total = np.zeros(len(sizes))
    for start in range(0, n_query, step):
        rows = slice(start, start + step)
        block = importance[rows]
        if ties is not None:
            block = block.toarray() if sparse.issparse(block) else block
            block = _ranks(block.astype(np.float64), ties[rows])
        values, before, matches = _groups(block, y_query[rows], y_train, -1 if least else 1)
        total += [_matches(values, before, matches, m).sum() / m for m in sizes]
    return total / n_query


def in_order(importance, ties):
    """Sort examples by importance, and equal ones by other values; largest first.

    Parameters
    ----------
    importance, ties : ndarray of shape (n_query, n_train)
        The values.

    Returns
    -------
    columns : ndarray of shape (n_query, n_train) of int
        Where both are equal, in the order of the corpus.
    """
    return np.lexsort((-ties, -importance), axis=1)


def _ranks(importance, ties):
    """Numbers that are larger for larger importance, and then for larger ties."""
    columns = in_order(importance, ties)
    sorted_ = [np.take_along_axis(values, columns, axis=1) for values in (importance, ties)]
    changes = [values[:, 1:] != values[:, :-1] for values in sorted_]
    ranks = np.zeros(importance.shape)
    ranks[:, 1:] = -np.cumsum(changes[0] | changes[1], axis=1)
    out = np.empty_like(ranks)
    np.put_along_axis(out, columns, ranks, axis=1)
    return out


def _checked_ties(ties, shape):
    ties = as_array(ties, "ties")
    if ties.shape != shape:
        raise ValueError(f"ties has shape {ties.shape}, but importance has {shape}.")
    if ties.dtype.kind not in "biuf" or np.isnan(ties).any():
        raise ValueError("ties must be numbers, and none of them NaN.")
    return ties.astype(np.float64)


def _groups(importance, y_query, y_train, sign):
    """Sort the examples of every row, most important first.

    All examples that a sparse row does not store make one group of value 0.

    Returns
    -------
    values : ndarray of shape (n_queries, n_groups)
        Importance times ``sign``, in descending order.
    weights : ndarray of shape (n_queries, n_groups + 1)
        How many examples come before each of them.
    matches : ndarray of shape (n_queries, n_groups + 1)
        How many of these have the query's label.
    """
    same = y_query[:, None] == y_train[None, :]
    if not sparse.issparse(importance):
        values, weights = importance.astype(np.float64), np.ones(importance.shape)
        matches = same.astype(np.float64)
    else:
        values, weights, matches = _sparse_groups(importance, same)
    order = np.argsort(-sign * values, axis=1, kind="stable")
    values, weights, matches = (
        np.take_along_axis(a, order, axis=1) for a in (sign * values, weights, matches)
    )
    zero = np.zeros((len(values), 1))
    weights = np.hstack([zero, np.cumsum(weights, axis=1)])
    return values, weights, np.hstack([zero, np.cumsum(matches, axis=1)])


def _sparse_groups(importance, same):
    n, n_train = importance.shape
    stored = np.diff(importance.indptr)
    shape = (n, stored.max() + 1)
    # Padding has no weight, so its value never counts.
    values, weights, matches = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    row = np.repeat(np.arange(n), stored)
    column = np.arange(len(row)) - np.repeat(importance.indptr[:-1], stored)
    values[row, column] = importance.data
    weights[row, column] = 1
    matches[row, column] = same[row, importance.indices]
    weights[:, -1] = n_train - stored
    matches[:, -1] = same.sum(axis=1) - matches.sum(axis=1)
    return values, weights, matches


def _matches(values, before, matches, m):
    """Return the expected number of matches among the first m of each row, ties shared."""
    # The group whose examples take the m-th place.
    last = (before[:, 1:] < m).sum(axis=1)
    value = np.take_along_axis(values, last[:, None], axis=1)
    low = (values > value).sum(axis=1)[:, None]
    high = (values >= value).sum(axis=1)[:, None]
    n_low, n_high, hits_low, hits_high = (
        np.take_along_axis(a, at, axis=1)[:, 0]
        for a, at in ((before, low), (before, high), (matches, low), (matches, high))
    )
    return hits_low + (m - n_low) * (hits_high - hits_low) / (n_high - n_low)


def _checked_sizes(n_top, n_train):
    sizes = [check_positive_int("n_top", m) for m in np.ravel(n_top).tolist()]
    if not sizes:
        raise ValueError("n_top is empty.")
    if max(sizes) > n_train:
        raise ValueError(
            f"n_top={max(sizes)} is more than the {n_train} training examples of importance."
        )
    return sizes


def _checked_matrix(name, values):
    if not sparse.issparse(values):
        values = check_numbers(name, values, min_ndim=2)
        if values.ndim != 2:
            raise ValueError(f"{name} must have two axes, but has shape {values.shape}.")
        return values
    values = sparse.csr_array(values)
    values.sum_duplicates()
    if 0 in values.shape:
        raise ValueError(f"{name} is empty: shape {values.shape}.")
    if not np.isfinite(values.data).all():
        raise ValueError(f"{name} contains NaN or infinity.")
    return values


def saliency_correlation(
    a: ArrayOrSparse,
    b: ArrayOrSparse,
    *,
    mode: Literal["pearson", "spearman", "cosine"] = "pearson",
) -> float:
    r"""Correlation of two explanations over all their entries.

    .. math:: r = \frac{\sum_{s,i} (a_{si} - \bar a)(b_{si} - \bar b)}
              {\sqrt{\sum_{s,i} (a_{si} - \bar a)^2 \sum_{s,i} (b_{si} - \bar b)^2}}

    over all (sample, feature) pairs of two attributions, or all (query, train) pairs of two
    matrices of example importance ([1]_, section 4.2).

    Parameters
    ----------
    a, b : array-like or sparse matrix of shape (n, ...)
        The explanations, of one shape. What a sparse matrix does not store is 0.
    mode : {"pearson", "spearman", "cosine"}, default="pearson"
        Correlation of the values, of their ranks (dense arrays only), or of values from which no
        mean is subtracted.

    Returns
    -------
    correlation : float
        In [-1, 1]; nan if one of the explanations is constant but for rounding (for "cosine": 0).

    Raises
    ------
    ValueError
        If the shapes differ or values are not finite.
    TypeError
        If ranks of a sparse matrix are asked for.

    Warns
    -----
    UserWarning
        If one of the explanations is constant.

    See Also
    --------
    sklexplain.metrics.similarity_rate : How well importance goes with labels.
    sklexplain.metrics.unit_correlation : Of the maps of units.

    References
    ----------
    .. [1] J. Crabbé and M. van der Schaar, "Label-Free Explainability for Unsupervised Models",
       ICML 2022.

    Examples
    --------
    >>> from sklexplain.metrics import saliency_correlation
    >>> saliency_correlation([[1.0, 2.0], [3.0, 4.0]], [[2.0, 4.0], [6.0, 8.0]])
    1.0
    """
    check_choice("mode", mode, ("pearson", "spearman", "cosine"))
    any_sparse = sparse.issparse(a) or sparse.issparse(b)
    if any_sparse and mode == "spearman":
        raise TypeError("mode='spearman' needs dense arrays; pass a.toarray() and b.toarray().")
    check = _checked_matrix if any_sparse else check_numbers
    a, b = check("a", a), check("b", b)
    if a.shape != b.shape:
        raise ValueError(f"a and b must have one shape, but have {a.shape} and {b.shape}.")
    roundings = [rounding_of(values) for values in (a, b)]
    # First of all: of -128, int8 knows no absolute value.
    a, b = a.astype(np.float64), b.astype(np.float64)
    for name, values, eps in zip("ab", (a, b), roundings, strict=True):
        if mode == "cosine" and abs(values).max() == 0:
            warn(f"{name} is 0, so its cosine is not defined; nan is returned.")
            return float("nan")
        # What rounding alone makes vary does not.
        if mode != "cosine" and _span(values) <= 8 * eps * abs(values).max():
            warn(f"{name} is constant, so its correlation is not defined; nan is returned.")
            return float("nan")
    if any_sparse:
        a, b = sparse.csr_array(a), sparse.csr_array(b)
        return _sparse_pearson(a, b, centred=mode == "pearson")
    a, b = np.ravel(a), np.ravel(b)
    # Of the largest: sums may be infinite, in the ranking of some versions of scipy, too.
    a, b = (values / np.abs(values).max() for values in (a, b))
    if mode == "spearman":
        a, b = stats.rankdata(a), stats.rankdata(b)
    if mode != "cosine":
        a, b = a - a.mean(), b - b.mean()
    return _pearson(a, b)


def _span(values):
    return float(values.max()) - float(values.min())


def _pearson(a, b):
    # Scaled first, so that squares neither overflow nor vanish.
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def _sparse_pearson(a, b, centred=True):
    """Pearson correlation, or cosine, from what either of two CSR arrays stores only."""
    n, n_columns = float(a.shape[0]) * a.shape[1], a.shape[1]
    stored = [matrix.tocoo() for matrix in (a, b)]
    places = [m.row.astype(np.int64) * n_columns + m.col for m in stored]
    either = np.union1d(*places)
    found = []
    for matrix, place in zip(stored, places, strict=True):
        values = np.zeros(len(either))
        values[np.searchsorted(either, place)] = matrix.data
        values /= np.abs(values).max()
        mean = values.sum() / n if centred else 0.0
        found.append((values - mean, mean))
    (a, mean_a), (b, mean_b) = found
    n_rest = n - len(either)  # entries that are 0 in both
    covariance = a @ b + n_rest * mean_a * mean_b
    variances = (a @ a + n_rest * mean_a**2) * (b @ b + n_rest * mean_b**2)
    return float(np.clip(covariance / np.sqrt(variances), -1.0, 1.0))
