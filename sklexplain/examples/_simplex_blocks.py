"""Convex combinations of a corpus in dask: few candidates are solved for, all blocks are asked.

For a query the examples that may be needed are few. It is solved for the nearest ones first; with
the result every block tells which of its examples would make it better (their slopes are below the
level of the weights, see `_simplex_solver`), these are added, and so on until there are none: the
certificate is that of the whole corpus.
"""

import numpy as np
from scipy import sparse

from ._nearest import nearest
from ._simplex_solver import MIN_SCALE, ROUNDING, Measures, SimplexProblem, Solution

_QUERIES = 256  # at once, which share their candidates
_NEAREST = 8  # candidates of each query to begin with
_ADDED = 4  # candidates of each block that a query is given in a round
_ROUNDS = 100


class BlocksProblem:
    """The problem of `SimplexProblem` for a corpus in dask.

    Parameters
    ----------
    blocks : CorpusBlocks
        The examples.
    locality : float
        See `SimplexProblem`.
    """

    def __init__(self, blocks, locality):
        self.blocks, self.locality = blocks, locality
        n, n_blocks = len(blocks), len(blocks.tasks)
        self.center = sum(blocks.of_each(_sum)) / n
        centers = [self.center] * n_blocks
        size = max(blocks.of_each(_largest, centers))
        unit = size if size > 0 else 1.0
        squares = blocks.of_each(_squares, centers, [unit] * n_blocks)
        variance = sum(total for total, _ in squares) / n
        largest = max(most for _, most in squares)
        self.measures = Measures(self.center, unit, variance, largest)

    def solve(self, queries, *, exclude=None, n_keep=None, tol=1e-6, max_iter=1000):
        """Solve for a batch of queries; see `SimplexProblem.solve`."""
        found = []
        for start in range(0, len(queries), _QUERIES):
            rows = slice(start, start + _QUERIES)
            own = None if exclude is None else exclude[rows]
            found.append(self._solve(queries[rows], own, n_keep, tol, max_iter))
        weights = sparse.vstack([each.weights for each in found], format="csr")
        fields = ([vars(each)[name] for each in found] for name in ("gap", "converged", "n_iter"))
        return Solution(weights, *map(np.concatenate, fields))

    def _solve(self, z, exclude, n_keep, tol, max_iter):
        blocks, n_blocks = self.blocks, len(self.blocks.tasks)
        excluded = [None] * n_blocks if exclude is None else [exclude - s for s in blocks.starts]
        parts = blocks.of_each(_near, [z] * n_blocks, excluded, blocks.starts.tolist())
        near = _near_of(parts)
        candidates = _Candidates(blocks.n_units).add(*near)
        if exclude is not None:
            candidates = candidates.add(exclude, blocks.take(exclude))
        for _ in range(_ROUNDS):
            problem = SimplexProblem(candidates.codes, self.locality, self.measures)
            own = None if exclude is None else candidates.places(exclude)
            options = {"exclude": own, "tol": tol, "max_iter": max_iter}
            solution = problem.solve(z, **options)
            level, gap, scale, allowed, better = self._ask(z, candidates, solution, excluded, tol)
            more = candidates.add(*better)
            if len(more.codes) == len(candidates.codes):
                break
            candidates = more
        solution.gap = np.maximum(gap, 0) / np.where(scale > 0, scale, 1.0)
        solution.converged &= gap <= allowed
        if n_keep is not None and (np.diff(solution.weights.indptr) > n_keep).any():
            kept = problem.solve(z, n_keep=n_keep, **options)
            many = np.diff(solution.weights.indptr) > n_keep
            for name in ("gap", "converged", "n_iter"):
                vars(solution)[name][many] = vars(kept)[name][many]
            solution.weights = kept.weights
        solution.weights = candidates.among_all(solution.weights, len(blocks))
        return solution

    def _ask(self, z, candidates, solution, excluded, tol):
        """Ask all blocks what would be better than a solution for the candidates."""
        measures, n_blocks = self.measures, len(self.blocks.tasks)
        points = (candidates.codes - measures.center) / measures.unit
        queries = (z - measures.center) / measures.unit
        direction = solution.weights @ points - (1 + self.locality) * queries
        bias = 0.5 * self.locality * np.einsum("ij,ij->i", points, points)
        slopes = direction @ points.T + bias
        level = np.asarray(solution.weights.multiply(slopes).sum(axis=1)).ravel()
        squares = np.einsum("ij,ij->i", queries, queries)
        scale = np.maximum(squares, MIN_SCALE * measures.variance)
        allowed = tol * scale + ROUNDING * (1 + self.locality) * (squares + measures.largest)
        given = direction, level - allowed, self.locality, measures.center, measures.unit
        answers = self.blocks.of_each(
            _better, [given] * n_blocks, excluded, self.blocks.starts.tolist()
        )
        gap = level - np.min([low for low, _, _ in answers], axis=0)
        positions = np.concatenate([p for _, p, _ in answers])
        return level, gap, scale, allowed, (positions, np.concatenate([c for *_, c in answers]))

    def reduced_costs(self, queries, weights, exclude=None):
        """Refuse: it is a number for every example.

        Raises
        ------
        TypeError
            With what to do.
        """
        raise self.blocks.not_here("an order of the examples without weight")

    def combined(self, weights):
        """Combine representations by weights (b, n)."""
        used = np.unique(weights.indices)
        return weights[:, used] @ self.blocks.take(used)


class _Candidates:
    """Some examples of the corpus, in its order."""

    def __init__(self, n_units, positions=None, codes=None):
        self.n_units = n_units
        self.positions = np.empty(0, dtype=np.intp) if positions is None else positions
        self.codes = np.empty((0, n_units)) if codes is None else codes

    def add(self, positions, codes):
        """Return these and others."""
        everything = np.concatenate([self.positions, positions])
        unique, first = np.unique(everything, return_index=True)
        return _Candidates(self.n_units, unique, np.concatenate([self.codes, codes])[first])

    def places(self, positions):
        """Where examples of the corpus are among these."""
        return np.searchsorted(self.positions, positions)

    def among_all(self, weights, n):
        """Return weights (b, n) of the whole corpus."""
        entries = weights.data, self.positions[weights.indices], weights.indptr
        return sparse.csr_matrix(entries, shape=(weights.shape[0], n))


def _sum(codes):
    return codes.sum(axis=0)


def _largest(codes, center):
    return np.abs(codes - center).max()


def _squares(codes, center, unit):
    points = (codes - center) / unit
    squares = np.einsum("ij,ij->i", points, points)
    return squares.sum(), squares.max()


def _near(codes, z, excluded, start):
    """Find the nearest of one block: distances, positions and representations."""
    if excluded is not None:
        excluded = np.where((excluded >= 0) & (excluded < len(codes)), excluded, -1)
    k = min(_NEAREST, len(codes))
    d, columns = nearest(z, codes, k, "euclidean", exclude=excluded)
    return d, columns + start, codes[columns]


def _near_of(parts):
    """Merge what blocks have found, of all queries: positions and representations."""
    d, columns, codes = (np.concatenate([part[i] for part in parts], axis=1) for i in range(3))
    order = np.lexsort((columns, d), axis=1)[:, :_NEAREST]
    kept = np.isfinite(np.take_along_axis(d, order, axis=1))
    codes = np.take_along_axis(codes, order[..., None], axis=1)
    return np.take_along_axis(columns, order, axis=1)[kept], codes[kept]


def _better(codes, given, excluded, start):
    """Find the examples of one block whose slopes are below a level.

    Returns
    -------
    lowest : ndarray of shape (b,)
        The smallest slope for each query.
    positions, codes : ndarray
        Of a few with the smallest slopes for each query that has any below.
    """
    direction, level, locality, center, unit = given
    points = (codes - center) / unit
    slopes = direction @ points.T + 0.5 * locality * np.einsum("ij,ij->i", points, points)
    if excluded is not None:
        rows = np.flatnonzero((excluded >= 0) & (excluded < len(codes)))
        slopes[rows, excluded[rows]] = np.inf
    k = min(_ADDED, len(codes))
    columns = np.argpartition(slopes, k - 1, axis=1)[:, :k]
    found = np.take_along_axis(slopes, columns, axis=1)
    chosen = np.unique(columns[found < level[:, None]])
    return slopes.min(axis=1), chosen + start, codes[chosen]
