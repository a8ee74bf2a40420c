"""Whether the gradients of samples add up to that of their batch, which torch computes itself."""

from __future__ import annotations

import torch

from ..utils import eps_of_products
from ._typing import Term

# Of the size of what is added up: what rounding makes, in another order of the same operations.
_ROUNDING = {torch.float64: 1e-9, torch.float32: 3e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
_CANCELLED = 64
_TF32 = 2e-3  # where torch may round factors to 10 bits


def adds_up(term: Term, total: torch.Tensor | None, weights: torch.Tensor | None = None) -> bool:
    """Tell whether a parameter's per-sample gradients add up to the batch's gradient.

    Parameters
    ----------
    term : Explicit, Outer or Lookup
        The gradients.
    total : torch.Tensor or None
        The batch's gradient; None if nothing depends on the parameter.
    weights : torch.Tensor of shape (n,) or None, default=None
        What samples count in it. None: one each. A sum of all alike does not tell whose gradients
        are whose.

    Returns
    -------
    adds_up : bool
        False also if there is NaN.
    """
    if total is None:
        return False
    dtype = total.dtype
    total = total.to_dense().detach().flatten()
    term = term.single()
    found, size = (term if weights is None else term.weighted(weights)).total()
    if found.shape != total.shape:
        return False
    error = (found - total.to(found.dtype)).abs()
    allowed = _tolerance(dtype, total.device) * size
    # Where the factors themselves cancel out, as for the bias of attention's keys.
    allowed += _CANCELLED * torch.finfo(dtype).eps * size.max()
    return bool((error <= allowed).all())


def _tolerance(dtype: torch.dtype, device: torch.device) -> float:
    if dtype == torch.float32 and eps_of_products(device) > torch.finfo(dtype).eps:
        return _TF32
    return _ROUNDING[dtype]
