r"""Products with the inverse of a damped curvature, :math:`G_1 H^{-1} G_2^\top`.

Systems are solved in float64; inner products of gradients are taken in the gradients' own dtype
where its rounding is far below the damping.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..utils import SavedAsArrays
from ._sets import (
    combine_terms,
    double_terms,
    flatten_terms,
    gram_matrix,
    multiply_terms,
    own_gram_matrix,
    scale_terms,
    squared_norms,
)
from ._terms import Outer
from ._typing import Term, Terms

_ROUNDING = 0.01  # rounding of a curvature, as a share of what is added to it
_LOST = 0.1  # of float64's rounding: nothing is right above it
_N_POWERS = 12  # products that estimate the largest and the smallest eigenvalue
_BLOCK_BYTES = 2**27  # size of the right-hand sides that are solved together


def _same_dtype(terms: Terms, others: Terms) -> Terms:
    """Convert gradients to float64 if others are."""
    values = next(iter(others.values()))
    kept = values.b if hasattr(values, "b") else values.values
    return double_terms(terms) if kept.dtype == torch.float64 else terms


class Shift:
    r"""What is added to the diagonal of a curvature: one number, or one for each parameter.

    With unequal numbers D on the diagonal, gradients are divided by the roots of D, relative to the
    smallest one, and that is then added to all of the diagonal:
    :math:`(A^\top A + d D)^{-1} = D^{-1/2} (\tilde A^\top \tilde A + d I)^{-1} D^{-1/2}`.

    Parameters
    ----------
    values : dict of str to float
        By parameter; positive.

    Attributes
    ----------
    smallest : float
        d, the smallest of the numbers.
    """

    def __init__(self, values: dict[str, float]) -> None:
        self._values = values
        self.smallest = min(values.values())
        same = all(value == self.smallest for value in values.values())
        roots = {name: (self.smallest / value) ** 0.5 for name, value in values.items()}
        self._roots = None if same else roots

    def whitened(self, terms: Terms) -> Terms:
        """Divide gradients by the roots of D."""
        return scale_terms(terms, self._roots)

    def whitened_vectors(self, vectors: torch.Tensor, terms: Terms) -> torch.Tensor:
        """Divide vectors (k, p) by the roots of D; gradients tell the parameters' sizes."""
        if self._roots is None:
            return vectors
        return vectors * self._vector(self._roots, terms, vectors)

    def diagonal(self, sizes: dict[str, int], like: torch.Tensor) -> torch.Tensor:
        """Return what is added to the diagonal, (p,), of parameters of some sizes."""
        pairs = [(size, self._values[name]) for name, size in sizes.items()]
        return torch.cat([like.new_full((size,), value) for size, value in pairs])

    @staticmethod
    def _vector(values: dict[str, float], terms: Terms, like: torch.Tensor) -> torch.Tensor:
        return torch.cat([like.new_full((t.size,), values[name]) for name, t in terms.items()])


def _precise(curvature: torch.Tensor, shift: float) -> bool:
    """Whether the rounding of a matrix of inner products, A Aᵀ, is far below the shift."""
    return torch.finfo(curvature.dtype).eps * float(curvature.trace()) <= _ROUNDING * shift


def _precise_trace(trace: float, terms: Terms, shift: float) -> bool:
    """Tell the same from the trace alone, before there is a matrix."""
    kept = next(iter(terms.values()))
    dtype = (kept.b if hasattr(kept, "b") else kept.values).dtype
    return torch.finfo(dtype).eps * trace <= _ROUNDING * shift


def _squares_of_mixed(term: Term, roots: torch.Tensor) -> float:
    """Sum the squares of all gradients, a sample's mixed by the transpose of its root before."""
    size, total = roots.shape[2], 0.0
    roots = roots.transpose(1, 2)
    if isinstance(term, Outer) and term.n_sharing == size and term.a.shape[1:3] == (1, 1):
        # One position: lengths are products of the factors'.
        mixed = roots.to(term.b) @ term.b.flatten(1).unflatten(0, (-1, size))
        return float((mixed.square().sum(dim=(1, 2)) * term.a.square().sum(dim=(1, 2, 3))).sum())
    step = max(1, _BLOCK_BYTES // max(1, 8 * term.size * size))
    for i in range(0, len(roots), step):
        values = term[i * size : (i + step) * size].values.unflatten(0, (-1, size))
        total += float((roots[i : i + step].to(values) @ values).square().sum())
    return total


def _lost(shift: float, size: float) -> ValueError:
    return ValueError(
        f"damping and weight decay, {shift:.2g} together, are lost in the rounding of a curvature "
        f"of up to {size:.2g}; raise damping."
    )


def _decomposed(curvature: torch.Tensor, shift: float) -> torch.Tensor:
    """Cholesky root of a matrix plus the shift, overwriting it; raise if rounding decides."""
    size = float(curvature.diagonal().max())
    rounding = torch.finfo(torch.float64).eps * float(curvature.trace())
    curvature.diagonal().add_(shift)
    root, info = torch.linalg.cholesky_ex(curvature)
    if info or rounding > _LOST * shift:
        raise _lost(shift, size)
    return root


class DenseSolver(SavedAsArrays):
    """Inverse of an explicit matrix.

    Parameters
    ----------
    matrix : torch.Tensor of shape (p, p)
        Symmetric, in float64.
    shift : float, default=0.0
        What its diagonal holds of damping and weight decay, for the error's words.

    Attributes
    ----------
    negative_curvature : bool
        Whether it is not positive definite.

    Raises
    ------
    ValueError
        If its smallest eigenvalue is lost in the rounding of the largest one.
    """

    def __init__(self, matrix: torch.Tensor, shift: float = 0.0) -> None:
        self._root, info = torch.linalg.cholesky_ex(matrix)
        self.negative_curvature = bool(info)
        self._matrix = matrix if self.negative_curvature else None
        largest = _largest(lambda v: v @ matrix, len(matrix), matrix)
        inverse = _largest(self.solve, len(matrix), matrix)
        rounding = torch.finfo(torch.float64).eps * largest * inverse
        if not rounding <= _LOST:  # NaN, too
            raise _lost(shift, largest)

    def solve(self, vectors: torch.Tensor) -> torch.Tensor:
        """Multiply vectors (k, p) with the inverse."""
        if self.negative_curvature:
            return torch.linalg.solve(self._matrix, vectors.T).T
        return torch.cholesky_solve(vectors.T, self._root).T

    def inner(self, first: Terms, second: Terms) -> torch.Tensor:
        """Inner products of two sets of gradients through the inverse, (n_first, n_second)."""
        if len(next(iter(first.values()))) > len(next(iter(second.values()))):
            return self.inner(second, first).T
        first, second = (flatten_terms(double_terms(t)) for t in (first, second))
        return self.solve(first) @ second.T

    def diagonal(self, terms: Terms) -> torch.Tensor:
        """Inner products of gradients with themselves through the inverse, (n,)."""
        vectors = flatten_terms(double_terms(terms))
        return (self.solve(vectors) * vectors).sum(dim=1)


def _largest(products: Callable[[torch.Tensor], torch.Tensor], p: int, like: torch.Tensor) -> float:
    """Size of a symmetric matrix's largest eigenvalue, by a few products."""
    vector = torch.randn(1, p, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vector, size = (vector / vector.norm()).to(like), 0.0
    for _ in range(_N_POWERS):
        through = products(vector)
        size = float(through.norm())
        if not 0 < size < float("inf"):
            return size
        vector = through / size
    return size


class RowsSolver(SavedAsArrays):
    r"""Inverse of :math:`A^\top A + \lambda I` by the inner products of A's few rows.

    .. math:: (A^\top A + \lambda I)^{-1} = \frac{1}{\lambda} \left(
              I - A^\top (A A^\top + \lambda I)^{-1} A \right)

    Where parameters have shifts of their own, A and all vectors are divided by their roots before.

    Parameters
    ----------
    rows : dict of str to term
        A, in float64.
    shift : Shift
        Lambda.

    Raises
    ------
    ValueError
        If lambda is too small for the rows' size.
    """

    negative_curvature = False

    def __init__(self, rows: Terms, shift: Shift) -> None:
        self._whole, self._shift = shift, shift.smallest
        rows = shift.whitened(rows)
        gram = own_gram_matrix(rows)
        if not _precise(gram, self._shift):
            rows = double_terms(rows)
            gram = own_gram_matrix(rows)
        self._rows, self._root = rows, _decomposed(gram.double(), self._shift)

    def solve(self, vectors: torch.Tensor) -> torch.Tensor:
        """Multiply vectors (k, p) with the inverse."""
        rows = double_terms(self._rows)
        vectors = self._whole.whitened_vectors(vectors, rows)
        inside = torch.cholesky_solve(multiply_terms(rows, vectors), self._root)
        solved = (vectors - combine_terms(inside.T, rows)) / self._shift
        return self._whole.whitened_vectors(solved, rows)

    def _inside(self, terms: Terms) -> torch.Tensor:
        products = gram_matrix(self._rows, _same_dtype(terms, self._rows)).double()
        return torch.linalg.solve_triangular(self._root, products, upper=False)

    def inner(self, first: Terms, second: Terms) -> torch.Tensor:
        """Inner products of two sets of gradients through the inverse, (n_first, n_second)."""
        first, second = (self._whole.whitened(terms) for terms in (first, second))
        inside = self._inside(first).T @ self._inside(second)
        first, second = (_same_dtype(t, self._rows) for t in (first, second))
        return (gram_matrix(first, second).double() - inside) / self._shift

    def diagonal(self, terms: Terms) -> torch.Tensor:
        """Inner products of gradients with themselves through the inverse, (n,)."""
        terms = self._whole.whitened(terms)
        inside = self._inside(terms).square().sum(dim=0)
        return (squared_norms(double_terms(terms)) - inside) / self._shift


class JacobianSolver(SavedAsArrays):
    r"""Products of a corpus's gradients with the inverse, for a curvature that is made of them.

    With J the Jacobian of z, for every training example a few rows, the gradients are
    :math:`J^\top D` and the curvature :math:`J^\top L L^\top J`, D and L block-diagonal. So

    .. math:: (J^\top L L^\top J + \lambda I)^{-1} J^\top D = \frac{1}{\lambda} J^\top \left(
              D - L (L^\top G L + \lambda I)^{-1} L^\top G D \right), \qquad G = J J^\top,

    and only inner products of J's rows are needed.

    Parameters
    ----------
    jacobian : dict of str to term
        J, n · n_draws · size rows.
    roots : torch.Tensor of shape (n, n_draws, size, size)
        L; float64.
    slopes : torch.Tensor of shape (n, n_draws, size)
        D; float64.
    shift : Shift
        Lambda; see `RowsSolver` about several.

    Raises
    ------
    ValueError
        If lambda is too small for the curvature.
    """

    negative_curvature = False

    def __init__(
        self, jacobian: Terms, roots: torch.Tensor, slopes: torch.Tensor, shift: Shift
    ) -> None:
        self._whole, self._shift = shift, shift.smallest
        self._roots = roots.flatten(0, 1)
        jacobian = shift.whitened(jacobian)
        gram: Any = None
        inside: torch.Tensor | None = None
        if _precise_trace(self._trace(jacobian), jacobian, self._shift):
            gram = own_gram_matrix(jacobian)
            inside = self._between_roots(gram)
        if inside is None or not _precise(inside, self._shift):
            jacobian = double_terms(jacobian)
            gram = own_gram_matrix(jacobian)
            inside = self._between_roots(gram)
        self._jacobian, self._root = jacobian, _decomposed(inside, self._shift)
        self._coefficients = self._of_corpus(gram, slopes)

    def _trace(self, jacobian: Terms) -> float:
        """Return the trace of LᵀGL, which takes little beside the rest of it."""
        return sum(_squares_of_mixed(term, self._roots) for term in jacobian.values())

    def _between_roots(self, gram: torch.Tensor) -> torch.Tensor:
        """Return LᵀGL."""
        factors = self._roots.transpose(1, 2).to(gram.dtype)
        blocks = (len(factors), factors.shape[2], len(gram))
        half = (factors @ gram.view(blocks)).view_as(gram)
        return (factors @ half.T.contiguous().view(blocks)).view_as(gram)

    def _of_corpus(self, gram: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        """Coefficients of J's rows in the products of the corpus's gradients, (rows, n)."""
        n, n_blocks, size = len(slopes), *self._roots.shape[:2]
        slopes = slopes.flatten(1).to(gram.dtype)  # (n, rows of a sample)
        roots = self._roots.to(gram.dtype)
        through = slopes.unsqueeze(1) @ gram.view(n, slopes.shape[1], -1)
        through = through.squeeze(1).T.reshape(n_blocks, size, n)  # G D
        inside = (roots.transpose(1, 2) @ through).view(-1, n)
        solved = torch.cholesky_solve(inside, self._root).view(n_blocks, size, n)
        weights = (roots @ solved).neg_().view(n, slopes.shape[1], n)
        each = torch.arange(n, device=gram.device)
        weights[each, :, each] += slopes
        return weights.view(-1, n) / self._shift

    def corpus_products(self, terms: Terms) -> torch.Tensor:
        """Inner products of gradients with the corpus's through the inverse, (n_terms, n)."""
        terms = _same_dtype(self._whole.whitened(terms), self._jacobian)
        return gram_matrix(terms, self._jacobian) @ self._coefficients

    def solved(self, rows: Any) -> torch.Tensor:
        """Multiply some of the corpus's gradients with the inverse, (n_rows, p)."""
        weights, jacobian = self._coefficients[:, rows].T, double_terms(self._jacobian)
        solved = combine_terms(weights.double(), jacobian)
        return self._whole.whitened_vectors(solved, jacobian)

    def diagonal(self, terms: Terms) -> torch.Tensor:
        """Inner products of gradients with themselves through the inverse, (n_terms,)."""
        terms = self._whole.whitened(terms)
        products = gram_matrix(self._jacobian, _same_dtype(terms, self._jacobian)).double()
        products = products.view(*self._roots.shape[:2], -1)
        products = (self._roots.transpose(1, 2) @ products).flatten(0, 1)
        inside = torch.linalg.solve_triangular(self._root, products, upper=False)
        norms = squared_norms(double_terms(terms))
        return (norms - inside.square().sum(dim=0)) / self._shift


class IterativeSolver:
    """Inverse of a matrix known by its products only, by conjugate gradients.

    Parameters
    ----------
    products : callable
        Multiplies vectors (k, p) with the matrix.
    tol, max_iter : float, int
        See `conjugate_gradients`.
    precondition : callable or None, default=None
        Likewise.

    Attributes
    ----------
    residual : float
        Largest relative residual so far.
    n_iter : int
        Largest number of products for one vector so far.
    negative_curvature : bool
        Whether a direction of negative curvature was met so far.
    """

    def __init__(
        self,
        products: Callable[[torch.Tensor], torch.Tensor],
        tol: float,
        max_iter: int,
        precondition: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self._products, self._tol, self._max_iter = products, tol, max_iter
        self._precondition = precondition
        self.residual, self.n_iter, self.negative_curvature = 0.0, 0, False

    def solve(self, vectors: torch.Tensor) -> torch.Tensor:
        """Multiply vectors (k, p) with the inverse."""
        step = max(1, _BLOCK_BYTES // (8 * vectors.shape[1]))
        solved = []
        for b in vectors.split(step):
            x, residual, n_iter, negative = conjugate_gradients(
                self._products, b, self._tol, self._max_iter, self._precondition
            )
            solved.append(x)
            self.residual = max(self.residual, float(residual.max()))
            self.n_iter = max(self.n_iter, int(n_iter.max()))
            self.negative_curvature |= bool(negative.any())
        return torch.cat(solved)

    def diagonal(self, terms: Terms) -> torch.Tensor:
        """Inner products of gradients with themselves through the inverse, (n,)."""
        vectors = flatten_terms(double_terms(terms))
        return (self.solve(vectors) * vectors).sum(dim=1)


def conjugate_gradients(
    products: Callable[[torch.Tensor], torch.Tensor],
    b: torch.Tensor,
    tol: float,
    max_iter: int,
    precondition: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Solve symmetric, positive definite systems with one matrix, each until it has converged.

    Parameters
    ----------
    products : callable
        Multiplies vectors (k, p) with the matrix.
    b : torch.Tensor of shape (n, p)
        Right-hand sides.
    tol : float
        Length of the residual, relative to b's, at which to stop.
    max_iter : int
        Most products of each.
    precondition : callable or None, default=None
        Multiplies vectors with an approximate inverse, symmetric and positive definite.

    Returns
    -------
    x : torch.Tensor of shape (n, p)
    residual : torch.Tensor of shape (n,)
        Relative lengths of the residuals.
    n_iter : torch.Tensor of shape (n,)
        Number of products.
    negative_curvature : torch.Tensor of shape (n,)
        Whether a direction of negative curvature was met; x is then the last one before that.

    Examples
    --------
    >>> import torch
    >>> matrix = torch.diag(torch.tensor([1.0, 2.0, 4.0]))
    >>> x, *_ = conjugate_gradients(lambda v: v @ matrix, torch.ones(1, 3), 1e-6, 10)
    >>> x
    tensor([[1.0000, 0.5000, 0.2500]])
    """
    x, length = torch.zeros_like(b), b.norm(dim=1)
    residual, n_iter = torch.ones_like(length), torch.zeros_like(length, dtype=torch.long)
    residual[length == 0] = 0
    negative = torch.zeros_like(length, dtype=torch.bool)
    open_ = torch.nonzero(residual > tol).squeeze(1)  # systems that are not solved yet
    r = b[open_].clone()
    near = r if precondition is None else precondition(r)
    direction, squared = near.clone(), (r * near).sum(dim=1)
    for number in range(1, max_iter + 1):
        if not len(open_):
            break
        through = products(direction)
        curvature = (direction * through).sum(dim=1)
        n_iter[open_] = number
        negative[open_] = curvature <= 0
        step = torch.where(curvature > 0, squared / curvature, 0.0).unsqueeze(1)
        x[open_] += step * direction
        r -= step * through
        residual[open_] = r.norm(dim=1) / length[open_]
        going = (residual[open_] > tol) & (curvature > 0)
        if not going.all():
            open_, r, direction, squared = (t[going] for t in (open_, r, direction, squared))
        near = r if precondition is None else precondition(r)
        squared, before = (r * near).sum(dim=1), squared
        direction = near + (squared / before).unsqueeze(1) * direction
    return x, residual, n_iter, negative
