r"""Convex combinations of a corpus that come closest to queries, with a certified duality gap.

For a query z and examples :math:`z_n`, with :math:`b_n = z_n - z`,

.. math:: \min_{w \ge 0,\ \sum_n w_n = 1} F(w) = \frac{1}{2} \Big\|\sum_n w_n b_n\Big\|^2
          + \frac{\lambda}{2} \sum_n w_n \|b_n\|^2 .

With :math:`v = \sum_n w_n b_n` the gradient is :math:`g_n = \langle b_n, v\rangle + \lambda
\|b_n\|^2 / 2`, and by convexity :math:`F(w) - \min F \le \langle g, w\rangle - \min_n g_n`, the
duality gap.

The method is that of Wolfe (1976) for the point of a polytope nearest to the origin, with the
linear term added. Every query has a support, a small set of examples. In turns, the example with
the smallest :math:`g_n` enters the support, and F is minimised over the affine hull of the support;
where that leaves the simplex, the way there is followed until a weight is zero and its example
leaves the support. Many queries take their steps together; none knows of the others.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse

from ._simplex_candidates import Corpus, Subsets, without_own

_BLOCK = 2**22  # numbers held at once, of each kind
# Of the mean square of a support's vectors: turns directions that change no combination, along
# which only the linear term counts, into long steps, which end at the boundary.
_RIDGE = 1e-12
ROUNDING = 32 * np.finfo(np.float64).eps
MIN_SCALE = 1e-6
_FEW_SLOTS = 32  # tried first; queries that need more are run again with four times as many
_GRAM_ROWS = 2048  # a Gram matrix of so many examples is worth its memory in any case
_LONG = 2**11  # numbers from which a copy takes longer than a loop


@dataclass
class Solution:
    """Weights of queries, with the certificate that nothing better was missed.

    Attributes
    ----------
    weights : CSR matrix of shape (n_queries, n_corpus) of float64
        On the simplex, row by row.
    gap : ndarray of shape (n_queries,)
        Duality gap, relative to the squared distance from the query to the corpus's mean (or to a
        millionth of the corpus's variance, if that is more).
    converged : ndarray of shape (n_queries,) of bool
        Whether the gap is at most ``tol``, up to rounding.
    n_iter : ndarray of shape (n_queries,) of int
        Number of steps taken.
    """

    weights: sparse.csr_matrix
    gap: np.ndarray
    converged: np.ndarray
    n_iter: np.ndarray


class Measures(NamedTuple):
    """What makes the numbers of a problem neither overflow nor vanish, and tolerances relative.

    Attributes
    ----------
    center : ndarray of shape (N,)
        Mean of the corpus.
    unit : float
        Largest distance from it along an axis, which is then 1.
    variance, largest : float
        Mean and largest square of distances from it, in these units.
    """

    center: np.ndarray
    unit: float
    variance: float
    largest: float


class SimplexProblem:
    r"""A corpus, ready for queries.

    Parameters
    ----------
    corpus : ndarray of shape (n, N) of float64
        The examples.
    locality : float
        :math:`\lambda`.
    measures : Measures or None, default=None
        Of a corpus of which these are a part; None: they are all of it.
    """

    def __init__(self, corpus, locality, measures=None):
        self.locality = locality
        self.center = corpus.mean(axis=0) if measures is None else measures.center
        centered = corpus - self.center
        size = np.abs(centered).max() if measures is None else measures.unit
        self.unit = size if size > 0 else 1.0  # so that squares neither overflow nor vanish
        self.points = centered / self.unit
        squares = np.einsum("ij,ij->i", self.points, self.points)
        self.variance = squares.mean() if measures is None else measures.variance
        self.largest = squares.max() if measures is None else measures.largest
        self.bias = 0.5 * locality * squares
        self.half_squares = 0.5 * squares
        self.first = _first_duplicates(corpus)
        self.gram = self._gram()

    def _gram(self):
        """Inner products of all examples, where these are not many; else None."""
        n, n_units = self.points.shape
        return self.points @ self.points.T if n <= max(n_units, _GRAM_ROWS) else None

    def __getstate__(self):
        """Leave out what can be made anew."""
        return {**vars(self), "gram": None}

    def __setstate__(self, state):
        """Make it."""
        vars(self).update(state)
        self.gram = self._gram()

    def solve(self, queries, *, exclude=None, n_keep=None, tol=1e-6, max_iter=1000):
        """Solve for a batch of queries.

        Parameters
        ----------
        queries : ndarray of shape (b, N) of float64
            The queries.
        exclude : ndarray of shape (b,) of int or None, default=None
            Position of the one example that is left out of every query's corpus.
        n_keep : int or None, default=None
            Keep only so many of the largest weights, and solve again for those examples.
        tol : float, default=1e-6
            Largest relative duality gap.
        max_iter : int, default=1000
            Most steps for a query.

        Returns
        -------
        solution : Solution
        """
        z = (queries - self.center) / self.unit
        n, n_units = self.points.shape
        # An optimum needs n_units + 1 examples, and one enters before another has left.
        most = min(n, n_units + 2)
        out = _Results(len(z), n)
        todo, n_slots = np.arange(len(z)), min(most, _FEW_SLOTS)
        while len(todo):
            step = max(1, _BLOCK // max(n, n_slots * (n_slots + n_units)))
            full = []
            for i in range(0, len(todo), step):
                rows = todo[i : i + step]
                corpus = Corpus(self, None if exclude is None else exclude[rows], z[rows])
                run = _Run(z[rows], corpus, n_slots, tol, max_iter, may_fill=n_slots < most)
                result = run.solve()
                if n_keep is not None:
                    result = self._keep(z[rows], result, n_keep, tol, max_iter)
                out.put(rows, result, ~run.full)
                full.append(rows[run.full])
            todo, n_slots = np.concatenate(full), min(most, 4 * n_slots)
        return out.solution()

    def reduced_costs(self, queries, weights, exclude=None):
        """Find how much every example would cost: slopes of F, above those of the weights.

        Parameters
        ----------
        queries : ndarray of shape (b, N) of float64
            The queries.
        weights : CSR matrix of shape (b, n)
            Their solution.
        exclude : ndarray of shape (b,) of int or None, default=None
            See `solve`; infinite for that one.

        Returns
        -------
        costs : ndarray of shape (b, n)
            At least 0, and 0 where there is a weight.
        """
        z = (queries - self.center) / self.unit
        combined = weights @ self.points - z
        g = (combined - self.locality * z) @ self.points.T
        g += self.bias
        g = without_own(g, exclude)
        rows = np.repeat(np.arange(len(z)), np.diff(weights.indptr))
        level = np.bincount(rows, weights.data * g[rows, weights.indices], minlength=len(z))
        costs = np.maximum(g - level[:, None], 0) * self.unit**2
        costs[rows, weights.indices] = 0
        return costs

    def _keep(self, z, result, n_keep, tol, max_iter):
        """Solve again where there are more than n_keep weights, for the largest of them."""
        columns, weights, gap, converged, n_iter = result
        many = np.flatnonzero((weights > 0).sum(axis=1) > n_keep)
        if len(many) == 0:
            return result
        # Largest weights first, equal ones in the order of the corpus.
        order = np.lexsort((columns[many], -weights[many]), axis=1)[:, :n_keep]
        kept = np.take_along_axis(columns[many], order, axis=1)
        run = _Run(z[many], Subsets(self, kept), n_keep, tol, max_iter)
        chosen, weights_kept, gap[many], converged[many], steps = run.solve()
        columns[many], weights[many] = -1, 0.0
        columns[many, :n_keep] = np.where(
            chosen >= 0, np.take_along_axis(kept, np.maximum(chosen, 0), axis=1), -1
        )
        weights[many, :n_keep] = weights_kept
        n_iter[many] += steps
        return columns, weights, gap, converged, n_iter


def _first_duplicates(corpus):
    """Position of the first example that equals each."""
    _, first, inverse = np.unique(corpus, axis=0, return_index=True, return_inverse=True)
    return first[np.ravel(inverse)]


class _Results:
    """Solutions of queries that come in any order."""

    def __init__(self, n_queries, n_corpus):
        self.n_corpus = n_corpus
        self.rows, self.columns, self.weights = [], [], []
        self.gap, self.converged = np.empty(n_queries), np.empty(n_queries, dtype=bool)
        self.n_iter = np.empty(n_queries, dtype=np.intp)

    def put(self, rows, result, chosen):
        """Keep what a run has found for some of its queries."""
        columns, weights, gap, converged, n_iter = (values[chosen] for values in result)
        rows = rows[chosen]
        self.gap[rows], self.converged[rows], self.n_iter[rows] = gap, converged, n_iter
        row, slot = np.nonzero(weights > 0)
        self.rows.append(rows[row])
        self.columns.append(columns[row, slot])
        self.weights.append(weights[row, slot])

    def solution(self):
        """Put all together."""
        rows, columns, weights = map(np.concatenate, (self.rows, self.columns, self.weights))
        shape = len(self.gap), self.n_corpus
        matrix = sparse.csr_matrix((weights, (rows, columns)), shape=shape)
        matrix.sort_indices()
        return Solution(matrix, self.gap, self.converged, self.n_iter)


class _Run:
    """Supports of a batch of queries in arrays with M slots, some of them empty (column -1).

    Queries that have no slot left are given up, and ``full``, if they ``may_fill`` all.
    """

    def __init__(self, z, candidates, n_slots, tol, max_iter, may_fill=False):
        b, n_units = z.shape
        self.z = z
        self.candidates = candidates
        self.locality = candidates.problem.locality
        self.max_iter = max_iter
        self.columns = np.full((b, n_slots), -1)
        self.weights = np.zeros((b, n_slots))
        self.vectors = np.zeros((b, n_slots, n_units))  # b_n
        self.gram = np.zeros((b, n_slots, n_slots))
        self.linear = np.zeros((b, n_slots))
        self.n_iter = np.zeros(b, dtype=np.intp)
        self.n_used = 0
        self.may_fill, self.full = may_fill, np.zeros(b, dtype=bool)
        squares = np.einsum("ij,ij->i", z, z)
        self.scale = np.maximum(squares, MIN_SCALE * candidates.problem.variance)
        rounding = ROUNDING * (1 + self.locality) * (squares + candidates.problem.largest)
        self.allowed = tol * self.scale + rounding
        self.gap = np.full(b, np.inf)

    def solve(self):
        """Run all queries to the end.

        Returns
        -------
        columns, weights : ndarray of shape (b, n_slots)
            Positions among the candidates, -1 where a slot is empty, and their weights.
        gap, converged, n_iter : ndarray of shape (b,)
            See `Solution`.
        """
        everyone = np.arange(len(self.z))
        self._insert(everyone, self.candidates.nearest(self.z))
        self.weights[:, 0] = 1.0
        active, settled = everyone, np.ones(len(everyone), dtype=bool)
        for _ in range(self.max_iter):
            self._enter(active[settled])
            going = (self.gap[active] > self.allowed[active]) & ~self.full[active]
            active = active[going]
            if len(active) == 0:
                break
            settled = self._step(active)
        self._enter(active)
        converged = self.gap <= self.allowed
        scale = np.where(self.scale > 0, self.scale, 1.0)
        return self.columns, self.weights, np.maximum(self.gap, 0) / scale, converged, self.n_iter

    def _enter(self, rows):
        """Measure the gap of queries, and have the best candidate enter where it is too large."""
        if len(rows) == 0:
            return
        g = self.candidates.price(rows, self)
        columns = self.columns[rows]
        slopes = np.take_along_axis(g, np.maximum(columns, 0), axis=1)
        level = np.einsum("rm,rm->r", self.weights[rows], np.where(columns >= 0, slopes, 0.0))
        best = g.argmin(axis=1)
        gap = level - g[np.arange(len(rows)), best]
        self.gap[rows] = gap
        best = self.candidates.representative(best, rows)
        # One that is there already needs another step, up to rounding of the last.
        enters = (gap > self.allowed[rows]) & ~(columns == best[:, None]).any(axis=1)
        # There is a free slot among the most that are needed, unless rounding has kept too many:
        # then a step must free one.
        free = (columns < 0).any(axis=1)
        self.full[rows] = self.may_fill & enters & ~free
        enters &= free
        self._insert(rows[enters], best[enters])

    def directions(self, rows):
        """Return v - lambda z of some queries: (r, N)."""
        m = self.n_used
        if m * self.z.shape[1] < _LONG:
            combined = np.matmul(self.weights[rows, None, :m], self.vectors[rows, :m])[:, 0]
        else:
            combined = np.stack([self.weights[i, :m] @ self.vectors[i, :m] for i in rows])
        return combined - self.locality * self.z[rows]

    def _insert(self, rows, columns):
        """Put one candidate for each query into its first empty slot, with weight 0."""
        if len(rows) == 0:
            return
        slots = (self.columns[rows] >= 0).argmin(axis=1)
        vectors = self.candidates.take(rows, columns) - self.z[rows]
        self.columns[rows, slots] = columns
        self.vectors[rows, slots] = vectors
        self.n_used = m = max(self.n_used, int(slots.max()) + 1)
        if m * self.z.shape[1] < _LONG:
            products = np.matmul(self.vectors[rows, :m], vectors[:, :, None])[:, :, 0]
        else:
            pairs = zip(rows, vectors, strict=True)
            products = np.stack([self.vectors[i, :m] @ vector for i, vector in pairs])
        self.gram[rows, slots, :m] = products
        self.gram[rows, :m, slots] = products
        self.linear[rows, slots] = 0.5 * self.locality * np.einsum("ij,ij->i", vectors, vectors)

    def _step(self, rows):
        """Take one step towards the minimum over the supports' affine hulls.

        Returns
        -------
        settled : ndarray of shape (r,) of bool
            Whether the minimum was reached within the simplex.
        """
        self.n_iter[rows] += 1
        used = self.columns[rows, : self.n_used] >= 0
        m = int(np.flatnonzero(used.any(axis=0))[-1]) + 1
        used, w = used[:, :m], self.weights[rows, :m]
        direction = _direction(self.gram[rows, :m, :m], self.linear[rows, :m], w, used)
        falling = used & (direction < 0)
        reach = np.full(w.shape, np.inf)
        np.divide(w, -direction, out=reach, where=falling)
        length = np.minimum(reach.min(axis=1), 1.0)
        w = w + length[:, None] * direction
        leaving = falling & ((reach <= length[:, None]) | (w <= 0))
        w[leaving | ~used] = 0.0
        w = np.maximum(w, 0.0)
        self.weights[rows, :m] = w / w.sum(axis=1, keepdims=True)
        columns = self.columns[rows, :m]
        columns[leaving] = -1
        self.columns[rows, :m] = columns
        return length >= 1


def _direction(gram, linear, w, used):
    """Direction from w to the minimum of F over the affine hull of the used slots.

    Parameters
    ----------
    gram : ndarray of shape (r, m, m)
        Inner products of the vectors; overwritten.
    linear, w : ndarray of shape (r, m)
        Coefficients of the linear term, and weights.
    used : ndarray of shape (r, m) of bool
        Which slots count.

    Returns
    -------
    direction : ndarray of shape (r, m)
        Sums to zero; zero where a slot is not used.
    """
    ones = used.astype(np.float64)
    gradient = (np.matmul(gram, w[:, :, None])[:, :, 0] + linear) * ones
    diagonal = np.arange(gram.shape[1])
    mean_square = np.einsum("rm,rm->r", gram[:, diagonal, diagonal], ones) / ones.sum(axis=1)
    mean_square = np.where(mean_square > 0, mean_square, 1.0)[:, None]
    # The direction sums to zero, so a constant added to all products changes nothing, but it
    # makes the matrix positive definite.
    gram += mean_square[:, :, None]
    gram *= ones[:, :, None] * ones[:, None, :]
    gram[:, diagonal, diagonal] += np.where(used, _RIDGE * mean_square, mean_square)
    right = np.stack([gradient, ones], axis=2)
    down, level = np.moveaxis(np.linalg.solve(gram, right), 2, 0)
    level *= (down.sum(axis=1) / level.sum(axis=1))[:, None]
    return (level - down) * ones
