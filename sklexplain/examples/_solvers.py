r"""Products with the inverse of a damped curvature, :math:`G_1 H^{-1} G_2^\top`.

All in float64: gradients may be rounded, but their inner products must fit to each other.
"""

import torch

from ..representation._per_sample import (
    combine_terms,
    flatten_terms,
    gram_matrix,
    multiply_terms,
    own_gram_matrix,
    squared_norms,
)


class DenseSolver:
    """Inverse of a matrix that is there.

    Parameters
    ----------
    matrix : torch.Tensor of shape (p, p)
        Symmetric.

    Attributes
    ----------
    negative_curvature : bool
        Whether it is not positive definite.
    """

    def __init__(self, matrix):
        self._root, info = torch.linalg.cholesky_ex(matrix)
        self.negative_curvature = bool(info)
        self._matrix = matrix if self.negative_curvature else None

    def solve(self, vectors):
        """Multiply vectors (k, p) with the inverse."""
        if self.negative_curvature:
            return torch.linalg.solve(self._matrix, vectors.T).T
        return torch.cholesky_solve(vectors.T, self._root).T

    def inner(self, first, second):
        """Inner products of two sets of gradients through the inverse, (n_first, n_second)."""
        if len(next(iter(first.values()))) > len(next(iter(second.values()))):
            return self.inner(second, first).T
        return self.solve(flatten_terms(first)) @ flatten_terms(second).T

    def diagonal(self, terms):
        """Inner products of gradients with themselves through the inverse, (n,)."""
        vectors = flatten_terms(terms)
        return (self.solve(vectors) * vectors).sum(dim=1)


class RowsSolver:
    r"""Inverse of :math:`A^\top A + \lambda I` by the inner products of A's few rows.

    .. math:: (A^\top A + \lambda I)^{-1} = \frac 1 \lambda \left(
              I - A^\top (A A^\top + \lambda I)^{-1} A \right)

    Parameters
    ----------
    rows : dict of str to term
        A, in float64.
    shift : float
        Lambda, positive.

    Raises
    ------
    ValueError
        If lambda is too small for the rows' size.
    """

    negative_curvature = False

    def __init__(self, rows, shift):
        self._rows, self._shift = rows, shift
        gram = own_gram_matrix(rows)
        gram.diagonal().add_(shift)
        self._root, info = torch.linalg.cholesky_ex(gram)
        if info:
            raise ValueError(
                f"damping and weight decay, {shift:.2g} together, are lost in the rounding of a "
                f"curvature of up to {float(gram.diagonal().max()):.2g}; raise damping."
            )

    def solve(self, vectors):
        """Multiply vectors (k, p) with the inverse."""
        inside = torch.cholesky_solve(multiply_terms(self._rows, vectors), self._root)
        return (vectors - combine_terms(inside.T, self._rows)) / self._shift

    def _whitened(self, terms):
        products = gram_matrix(self._rows, terms)
        return torch.linalg.solve_triangular(self._root, products, upper=False)

    def inner(self, first, second):
        """Inner products of two sets of gradients through the inverse, (n_first, n_second)."""
        inside = self._whitened(first).T @ self._whitened(second)
        return (gram_matrix(first, second) - inside) / self._shift

    def diagonal(self, terms):
        """Inner products of gradients with themselves through the inverse, (n,)."""
        inside = self._whitened(terms).square().sum(dim=0)
        return (squared_norms(terms) - inside) / self._shift


class IterativeSolver:
    """Inverse of a matrix that only products are known of, by conjugate gradients.

    Parameters
    ----------
    product : callable
        Multiplies a vector (p,) with the matrix.
    tol, max_iter : float, int
        See `conjugate_gradients`.

    Attributes
    ----------
    residual : float
        Largest relative residual so far.
    n_iter : int
        Largest number of products for one vector so far.
    negative_curvature : bool
        Whether a direction of negative curvature was met so far.
    """

    def __init__(self, product, tol, max_iter):
        self._product, self._tol, self._max_iter = product, tol, max_iter
        self.residual, self.n_iter, self.negative_curvature = 0.0, 0, False

    def solve(self, vectors):
        """Multiply vectors (k, p) with the inverse."""
        solved = []
        for b in vectors:
            x, residual, n_iter, negative = conjugate_gradients(
                self._product, b, self._tol, self._max_iter
            )
            solved.append(x)
            self.residual = max(self.residual, residual)
            self.n_iter = max(self.n_iter, n_iter)
            self.negative_curvature |= negative
        return torch.stack(solved)

    def diagonal(self, terms):
        """Inner products of gradients with themselves through the inverse, (n,)."""
        vectors = flatten_terms(terms)
        return (self.solve(vectors) * vectors).sum(dim=1)


def conjugate_gradients(product, b, tol, max_iter):
    """Solve a symmetric, positive definite system.

    Parameters
    ----------
    product : callable
        Multiplies a vector (p,) with the matrix.
    b : torch.Tensor of shape (p,)
        Right-hand side.
    tol : float
        Length of the residual, relative to b's, at which to stop.
    max_iter : int
        Most products.

    Returns
    -------
    x : torch.Tensor of shape (p,)
    residual : float
        Relative length of the residual.
    n_iter : int
        Number of products.
    negative_curvature : bool
        Whether a direction of negative curvature was met; x is then what was there before.

    Examples
    --------
    >>> import torch
    >>> matrix = torch.diag(torch.tensor([1.0, 2.0, 4.0]))
    >>> x, residual, n_iter, negative = conjugate_gradients(matrix.mv, torch.ones(3), 1e-6, 10)
    >>> x
    tensor([1.0000, 0.5000, 0.2500])
    """
    x, r = torch.zeros_like(b), b.clone()
    direction, squared, length = r.clone(), r @ r, b.norm()
    n_iter = 0
    while n_iter < max_iter and squared.sqrt() > tol * length:
        n_iter += 1
        through = product(direction)
        curvature = direction @ through
        if curvature <= 0:
            return x, float(squared.sqrt() / length), n_iter, True
        step = squared / curvature
        x += step * direction
        r -= step * through
        squared, before = r @ r, squared
        direction = r + (squared / before) * direction
    return x, float(squared.sqrt() / length) if length > 0 else 0.0, n_iter, False
