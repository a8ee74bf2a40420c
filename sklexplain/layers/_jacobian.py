"""Gradients of output units at layers of a network.

Reverse-mode differentiation runs the network forward once, and backward once for each output unit.
`unit_gradients` does better where it can. It has four ways, and takes the first that applies:

Shared (`SharedDifferentiator`)
    If all operations after the layers are affine (`_affine.is_affine`), every sample has the same
    gradients. A backward pass over b samples then gives the gradients of b units, as each sample
    stands for another unit.
By columns (`ColumnDifferentiator`)
    If the layers have far fewer activations than the output has units, the Jacobian is computed one
    activation at a time (`_columns.JacobianColumns`), which gives all units at once.
Batched (`BatchedDifferentiator`)
    If torch can vectorise the backward pass of every operation, one pass is run for several units.
By copies (`Differentiator`)
    Always possible: the batch is repeated and run forward once, and in the backward pass each copy
    stands for another unit, as samples do not depend on one another. With a single copy, this is a
    pass per unit.

The first three need ordinary gradients (not differentiable ones), and whether they work is found
out by trying them once; `Points.batched` remembers the answers. Copies and batched passes do not
pay for large samples, whose arithmetic outweighs the overhead of a pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from ._differentiators import (
    BatchedDifferentiator,
    Block,
    ColumnDifferentiator,
    Differentiator,
    Reduce,
    SharedDifferentiator,
)
from ._memory import block_bytes
from ._points import Points

# If a batch keeps more bytes than this for its backward pass, the overhead of a pass is negligible.
_LARGE = 4 * 2**20
# A copy of a large batch must serve so many units to be worth its forward pass.
_UNITS_PER_COPY = 8
# A column costs as much as so many backward passes.
_PASSES_PER_COLUMN = 2
# Shared gradients must make the number of passes smaller by this factor.
_PASSES_SAVED = 2


def unit_gradients(
    call: Callable[..., Any],
    points: Points,
    x: torch.Tensor,
    *,
    units: torch.Tensor | Sequence[int] | None = None,
    weights: torch.Tensor | None = None,
    rows: int,
    create_graph: bool = False,
    reduce: Reduce | None = None,
) -> Iterator[Block]:
    """Gradients of output units at layers, block by block over the units.

    Shared gradients and columns are tried only for single units and where no derivative of the
    gradients is wanted; see the module's docstring.

    Parameters
    ----------
    call : callable
        The network: (b, ...) to (b, N). A sample's output must not depend on the other samples.
    points : Points
        The layers, of `find_points`.
    x : tensor of shape (b, ...)
        Samples.
    units : tensor or sequence of int, or None, default=None
        Output units; None: all.
    weights : tensor of shape (N,) or (n_sums, N) or None, default=None
        Differentiate the weighted sum of all units instead, or several: each is one "unit".
    rows : int
        Most (sample, unit) rows in the network at once, but at least one unit of all samples.
    create_graph : bool, default=False
        Whether the gradients are differentiable.
    reduce : callable or None, default=None
        Called as ``reduce(gradients, activations)`` for one point, as soon as its gradients are
        known; what it returns is yielded in their place.

    Yields
    ------
    index : tensor of int64 of shape (k,), or None with ``weights``
        The units of this block.
    gradients : list of tensor of shape (k, b, C, *spatial)
        Of these units, at each of the points.
    activations : list of tensor of shape (b, C, *spatial)
        At each of the points; the same in every block.
    """
    if weights is not None:
        cotangents = _matrix(weights, points.n_units)
        index, n_rows = None, len(cotangents)
    else:
        index = torch.arange(points.n_units) if units is None else torch.as_tensor(units)
        cotangents, n_rows = None, len(index)
    k = _units_at_once(points, x, n_rows, rows)
    args = (call, points, x, k, reduce, create_graph)
    differentiator = None
    if index is not None and not create_graph:
        differentiator = _try_affine(*args, index) or _try_columns(*args, index, rows)
    differentiator = differentiator or _try_batched(*args) or Differentiator(*args)
    yield from differentiator.blocks(index, cotangents, k)


def _matrix(weights: torch.Tensor, n_units: int) -> torch.Tensor:
    weights = torch.as_tensor(weights)
    if weights.ndim not in (1, 2) or weights.shape[-1] != n_units:
        raise ValueError(
            f"weights of shape {tuple(weights.shape)} must hold one number for each of the "
            f"{n_units} output units."
        )
    return weights.reshape(-1, n_units)


def _units_at_once(points: Points, x: torch.Tensor, n_units: int, rows: int) -> int:
    """Return how many units to differentiate together."""
    k = min(n_units, points.block_rows(rows, x.device) // len(x))
    # Running k large copies forward takes k times as long as one: many units must share that cost.
    if _is_large(points, x):
        k = min(k, n_units // _UNITS_PER_COPY)
    return max(1, k)


def _is_large(points: Points, x: torch.Tensor) -> bool:
    return points.row_bytes * len(x) > _LARGE


def _try_batched(
    call: Callable[..., Any],
    points: Points,
    x: torch.Tensor,
    k: int,
    reduce: Reduce | None,
    create_graph: bool,
) -> BatchedDifferentiator | None:
    """Differentiator by batched passes; None where they do not work or are not worthwhile."""
    if k == 1 or create_graph or _is_large(points, x) or not points.batched.get("works", True):
        return None
    differentiator = BatchedDifferentiator(call, points, x, 1, reduce, False)
    if "works" not in points.batched:
        points.batched["works"] = differentiator.works()
    return differentiator if points.batched["works"] else None


def _try_affine(
    call: Callable[..., Any],
    points: Points,
    x: torch.Tensor,
    k: int,
    reduce: Reduce | None,
    create_graph: bool,
    index: torch.Tensor,
) -> SharedDifferentiator | None:
    """Differentiator of gradients that all samples share; None where they do not share them."""
    n_units, n_passes = len(index), -(-len(index) // len(x)) + 1
    if n_units < _PASSES_SAVED * n_passes or not points.batched.get("affine", True):
        return None
    differentiator = SharedDifferentiator(call, points, x, 1, reduce, create_graph)
    points.batched["affine"] = differentiator.holds(index)
    return differentiator if points.batched["affine"] else None


def _try_columns(
    call: Callable[..., Any],
    points: Points,
    x: torch.Tensor,
    k: int,
    reduce: Reduce | None,
    create_graph: bool,
    index: torch.Tensor,
    rows: int,
) -> ColumnDifferentiator | None:
    """Differentiator by columns; None where columns do not work or would cost more than rows."""
    n_columns = sum(math.prod(point.shape) for point in points)
    n_units = min(len(index), block_bytes(x.device) // (len(x) * n_columns * 8))
    if n_units < _PASSES_PER_COLUMN * n_columns or not points.batched.get("columns", True):
        return None
    at_once = max(1, points.block_rows(rows, x.device) // len(x))
    if not points.batched.get("batched columns", True):
        at_once = 1
    try:
        differentiator = ColumnDifferentiator(call, points, x, reduce, at_once)
        differentiator.start(index[:n_units])
    except (RuntimeError, NotImplementedError):
        differentiator = None
    points.batched["columns"] = differentiator is not None
    if differentiator is not None and at_once > 1:
        points.batched["batched columns"] = differentiator.columns.at_once > 1
    return differentiator
