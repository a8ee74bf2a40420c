"""Which examples may enter the support of a convex combination, and what each would bring."""

import numpy as np
from scipy import sparse

# A product by way of the Gram matrix takes so many times longer, number for number.
_SPARSE_COST = 8


def without_own(values, exclude):
    """Make the numbers of the queries' own examples infinite, if they are left out."""
    if exclude is not None:
        values[np.arange(len(values)), exclude] = np.inf
    return values


class Corpus:
    """Candidates for the support: all examples but the query's own."""

    def __init__(self, problem, exclude, z):
        self.problem = problem
        self.exclude = exclude
        self.products = z @ problem.points.T

    def price(self, rows, run):
        """Gradient for some queries, up to a constant.

        With v - lambda z: <z_n, v - lambda z> + lambda/2 |z_n|^2.

        Parameters
        ----------
        rows : ndarray of int of shape (r,)
            Which queries.
        run : Run
            Has their supports.

        Returns
        -------
        gradient : ndarray of shape (r, n_corpus)
        """
        problem = self.problem
        row, slot = np.nonzero(run.weights[rows] > 0)
        if problem.gram is None or _SPARSE_COST * len(row) > len(rows) * problem.points.shape[1]:
            g = run.directions(rows) @ problem.points.T
        else:
            entries = run.weights[rows[row], slot], (row, run.columns[rows[row], slot])
            weights = sparse.csr_matrix(entries, shape=(len(rows), len(problem.gram)))
            g = weights @ problem.gram
            g -= (1 + problem.locality) * self.products[rows]
        g += problem.bias
        return without_own(g, None if self.exclude is None else self.exclude[rows])

    def nearest(self, z):
        """Position of the example nearest to each query."""
        d = without_own(self.problem.half_squares - self.products, self.exclude)
        return self.representative(d.argmin(axis=1), slice(None))

    def representative(self, columns, rows):
        """Return the first of equal examples: rounding must not choose between them."""
        first = self.problem.first[columns]
        if self.exclude is None:
            return first
        excluded = self.exclude[rows]
        return np.where(first == excluded, columns, first)

    def take(self, rows, columns):
        """Points of one candidate for each of some queries: (r, N)."""
        return self.problem.points[columns]


class Subsets:
    """Candidates for the support: a few examples, each query's own."""

    def __init__(self, problem, columns):
        self.points = problem.points[columns]  # (b, K, N)
        self.bias = problem.bias[columns]
        self.half_squares = problem.half_squares[columns]
        self.problem = problem

    def price(self, rows, run):
        """Gradient for some queries, up to a constant: (r, K)."""
        directions = run.directions(rows)
        return np.einsum("rkn,rn->rk", self.points[rows], directions) + self.bias[rows]

    def nearest(self, z):
        """Position of the candidate nearest to each query."""
        return (self.half_squares - np.einsum("rkn,rn->rk", self.points, z)).argmin(axis=1)

    def representative(self, columns, rows):
        """Every candidate stands for itself."""
        return columns

    def take(self, rows, columns):
        """Points of one candidate for each of some queries: (r, N)."""
        return self.points[rows, columns]
