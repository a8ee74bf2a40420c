"""Second derivatives: what torch gets wrong, and what is negative in a loss's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..utils import ScopedMode

_MAX_COUPLED = 256  # entries of an output of which the second derivatives are decomposed
_ROUNDING = 1e3  # machine epsilons


class WrittenOut(ScopedMode):
    """Replaces operations whose gradients torch differentiates wrongly by their formulas.

    That is weight normalisation: the gradient of ``torch._weight_norm``, differentiated once more,
    is wrong by more than half of it (torch 2.13), without any error.
    """

    def _instead(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return (_weight_norm if func is torch._weight_norm else func)(*args, **kwargs)


def _weight_norm(v: torch.Tensor, g: torch.Tensor, dim: int = 0) -> torch.Tensor:
    others = [k for k in range(v.dim()) if k != dim % v.dim()] if dim != -1 else None
    return v * (g / torch.linalg.vector_norm(v, dim=others, keepdim=True))


def positive_part(
    product: Callable[[torch.Tensor], torch.Tensor], like: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    r"""Leave out what is negative in second derivatives: :math:`S_+` of every sample.

    A loss that is convex in the output has nothing negative. Where each entry of the output counts
    for itself, the diagonal is cut off at 0; where up to 256 are coupled, eigenvalues are; more
    are left as they are.

    Parameters
    ----------
    product : callable
        From directions (n, ...) to the products of S with them.
    like : torch.Tensor of shape (n, ...)
        The output.

    Returns
    -------
    product : callable
        The same one where nothing is negative.
    """
    ones = torch.ones_like(like)
    diagonal, size = product(ones).detach(), like[0].numel()
    signs = torch.randint(0, 2, like.shape, generator=torch.Generator().manual_seed(0)).to(like)
    signs = 2 * signs - 1
    allowed = _ROUNDING * torch.finfo(like.dtype).eps * diagonal.abs().max()
    if ((product(signs) - diagonal * signs).abs() <= allowed).all():
        if (diagonal >= -allowed).all():
            return product
        cut = diagonal.clamp(min=0)
        return lambda direction: cut * direction
    if size > _MAX_COUPLED:
        return product
    matrix = []
    for j in range(size):
        unit = like.new_zeros(len(like), size)
        unit[:, j] = 1
        matrix.append(product(unit.view_as(like)).detach().reshape(len(like), -1))
    matrix = torch.stack(matrix, dim=2).double()
    matrix = (matrix + matrix.transpose(1, 2)) / 2
    allowed = _ROUNDING * torch.finfo(like.dtype).eps * matrix.abs().max()
    _, negative = torch.linalg.cholesky_ex(matrix + allowed * torch.eye(size).to(matrix))
    if not negative.any():
        return product
    values, vectors = torch.linalg.eigh(matrix)
    matrix = (vectors * values.clamp(min=0).unsqueeze(1)) @ vectors.transpose(1, 2)
    matrix = matrix.to(like.dtype)

    def cut_product(direction: torch.Tensor) -> torch.Tensor:
        return (matrix @ direction.reshape(len(like), size, 1)).view_as(direction)

    return cut_product


def asymmetry(vectors: torch.Tensor, products: torch.Tensor) -> float:
    """Compare products of a matrix from both sides: how far it is from symmetric.

    Parameters
    ----------
    vectors : torch.Tensor of shape (k, p)
        Independent standard normal numbers, k > 1.
    products : torch.Tensor of shape (k, p)
        The matrix times them.

    Returns
    -------
    asymmetry : float
        About the size of its skew part, relative to its own; 0 for a matrix of zeros.
    """
    sides = vectors @ products.T
    length = float(products.norm(dim=1).mean())
    return float((sides - sides.T).abs().max()) / length if length > 0 else 0.0
