r"""A preconditioner for conjugate gradients: what a curvature does on a few random vectors.

Frangella, Tropp and Udell, "Randomized Nyström Preconditioning", SIAM J. Matrix Anal. Appl. 44,
2023 (arXiv:2110.02820, 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..utils import DeviceLike, SavedAsArrays
from ._narrow import Narrow

_FIRST = 64  # vectors, before it is known how many are worth it
_SMALL = 5.0  # times the shift: eigenvalues below that need no vectors
_LOST = 16  # machine epsilons of the largest product: eigenvalues below that are rounding
_DEPENDENT = 1e-10  # squared length, of 1, that a vector has beside the others if it is one of them


class Nystrom(SavedAsArrays):
    r"""Approximate inverse of :math:`C + \lambda I` with a low-rank approximation of C.

    .. math:: P^{-1} = (\mu_r + \lambda)\, U (M + \lambda I)^{-1} U^\top + (I - U U^\top), \qquad
              C \approx U M U^\top = Y (\Omega^\top Y)^{-1} Y^\top, \quad Y = C \Omega.

    Parameters
    ----------
    vectors : torch.Tensor of shape (r, p)
        Rows of U, orthonormal.
    values : torch.Tensor of shape (r,)
        M, largest first; float64.
    shift : float
        Lambda.
    scale : torch.Tensor of shape (p,) or None
        What C was multiplied with on both sides, where lambda is not the same for all parameters.
    narrow : Narrow or None, default=None
        The space that C was approximated in, if it is not that of all parameters.
    """

    def __init__(
        self,
        vectors: torch.Tensor,
        values: torch.Tensor,
        shift: float,
        scale: torch.Tensor | None = None,
        narrow: Narrow | None = None,
    ) -> None:
        self._vectors, self.values, self._scale = vectors, values, scale
        self._narrow = narrow
        self._factors = (values[-1] + shift) / (values + shift) - 1

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """Multiply vectors (k, p) with the approximate inverse, up to a constant."""
        inside = vectors.to(self._vectors.dtype)
        scale = self._scale
        inside = inside if scale is None else inside * scale.to(inside.dtype)
        inside = inside if self._narrow is None else self._narrow.narrowed(inside)
        part = ((inside @ self._vectors.T) * self._factors.to(inside.dtype)) @ self._vectors
        part = part if self._narrow is None else self._narrow.widened(part)
        if scale is None:
            return vectors + part.to(vectors.dtype)
        return vectors * scale.square() + part.to(vectors.dtype) * scale

    def moved(self, device: DeviceLike) -> Nystrom:
        """Take all tensors to a device."""
        if self._narrow is not None:
            self._narrow.moved(device)
        return super().moved(device)


def nystrom(
    products: Callable[..., Any],
    start: Callable[[int], torch.Tensor],
    shift: float,
    most: int,
    scale: torch.Tensor | None = None,
    dtype: torch.dtype = torch.float64,
    narrow: Narrow | None = None,
) -> Nystrom | None:
    """Make a preconditioner, of as many vectors as are worth their products.

    Parameters
    ----------
    products : callable
        Multiplies vectors (k, p) with C.
    start : callable
        From a number k to as many random vectors (k, p); best, in the space of C's largest
        eigenvectors.
    shift : float
        What is added to C's diagonal.
    most : int
        Most vectors.
    scale : torch.Tensor of shape (p,) or None, default=None
        See `Nystrom`: vectors are multiplied with it before and after C.
    dtype : torch.dtype, default=torch.float64
        Of the products, whatever their result is converted to; the vectors are kept in it.

    narrow : Narrow or None, default=None
        The space that the products and random vectors are of, if it is not that of all parameters.

    Returns
    -------
    preconditioner : Nystrom or None
        None if C is 0, or has nothing but negative eigenvalues.
    """
    whole = scale
    if scale is not None and narrow is not None:
        scale = narrow.shortened(scale)
    basis, through, n, found = None, None, min(_FIRST, most), None
    while True:
        fresh = start(n)
        fresh = fresh if scale is None else fresh * scale
        basis, n_fresh = _extended(basis, fresh.double())
        if n_fresh:
            new = basis[-n_fresh:] if scale is None else basis[-n_fresh:] * scale
            new = products(new)
            new = new if scale is None else new * scale
            through = new if through is None else torch.cat([through, new])
        found = None if through is None else _decomposed(basis, through, torch.finfo(dtype).eps)
        # What is missing, if eigenvalues go on falling as they did.
        n = 0 if found is None or n_fresh < n else _missing(found[1], shift, most)
        if not n:
            break
    if found is None:
        return None
    return Nystrom(found[0].to(dtype), found[1], shift, whole, narrow)


def _extended(basis: torch.Tensor | None, vectors: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Add what is new in vectors to a basis that is about orthonormal; also the number of that."""
    if basis is not None:
        vectors = vectors - (vectors @ basis.T) @ basis
    lengths = vectors.norm(dim=1, keepdim=True)
    vectors = vectors / torch.where(lengths > 0, lengths, 1.0)
    values, rotation = torch.linalg.eigh(vectors @ vectors.T)
    kept = values > _DEPENDENT * values[-1].clamp(min=1)
    vectors = (rotation[:, kept] / values[kept].sqrt()).T @ vectors
    if basis is not None:
        return torch.cat([basis, vectors]), len(vectors)
    return vectors, len(vectors)


def _decomposed(
    basis: torch.Tensor, through: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Eigenvectors and eigenvalues of Y (ΩᵀY)⁻¹ Yᵀ, without what is not positive; or None."""
    lost = _LOST * eps * float(through.norm(dim=1).max())
    inner = basis @ through.T
    values, rotation = torch.linalg.eigh((inner + inner.T) / 2)
    kept = values > lost
    if not kept.any():
        return None
    half = (rotation[:, kept] / values[kept].sqrt()).T @ through
    values, rotation = torch.linalg.eigh(half @ half.T)
    values, rotation = values.flip(0), rotation.flip(1)
    kept = values > lost
    vectors = (rotation[:, kept] / values[kept].sqrt()).T @ half
    return vectors, values[kept]


def _missing(values: torch.Tensor, shift: float, most: int) -> int:
    """Return how many vectors more are worth it, by the power law that eigenvalues follow."""
    n, wanted = len(values), _SMALL * shift
    if values[-1] <= wanted or n >= most:
        return 0
    # The last ones of a sketch are too small: half of it tells how they fall.
    first, last = values[n // 8], values[n // 2]
    slope = float(torch.log(first / last)) / torch.log(torch.tensor((n // 2 + 1) / (n // 8 + 1)))
    target = (n // 2) * float((last / wanted) ** (1 / max(float(slope), 0.1)))
    return int(min(max(target, 1.25 * n), most)) - n
