"""A trial of layers: whether their activations have a row for each sample, in their order."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ..utils import warn
from ._points import Point, Points
from ._rows import check_order, check_rows
from ._watching import entering, watching


def tried_points(
    call: Callable[..., Any], points: Points, x: torch.Tensor, *, ordered: bool, lenient: bool
) -> Points:
    """Run a few samples, and leave out layers whose rows are not those of the samples.

    Parameters
    ----------
    call : callable
        The network: (b, ...) to (b, N).
    points : Points
        Of `find_points`.
    x : torch.Tensor of shape (b, ...)
        Samples from all over, as those side by side may be alike.
    ordered : bool
        Whether to look at the order of rows, too: not where the network draws random numbers.
    lenient : bool
        Whether layers are left out; else they are errors.

    Returns
    -------
    points : Points

    Raises
    ------
    ValueError
        If a layer is wrong and not to be left out, or all are.

    Warns
    -----
    SklexplainWarning
        Of every layer that is left out.
    """
    one = _activations(call, points, x)
    other = _activations(call, points, x.flip(0)) if ordered else one
    kept: list[int] = []
    for i, point in enumerate(points):
        size, what = math.prod(point.shape), f"layer {point.name!r}"
        try:
            for seen in (one, other):
                check_rows(seen.get(point), point.batch_axis, len(x), size, what)
            if ordered:
                _check_order(point, one, other)
        except ValueError as error:
            if not lenient or (not kept and i + 1 == len(points)):
                raise
            warn(f"left out: {error}")
        else:
            kept.append(i)
    return points if len(kept) == len(points) else points.only(*kept)


def check_order_at(
    call: Callable[..., Any], points: Points, x: torch.Tensor, seen: dict[Point, torch.Tensor]
) -> None:
    """Raise a ValueError if a layer's rows are in another order than the samples.

    Parameters
    ----------
    call : callable
        The network: (b, ...) to (b, N).
    points : Points
        The layers.
    x : torch.Tensor of shape (b, ...)
        Samples.
    seen : dict of Point to torch.Tensor
        Their activations.
    """
    other = _activations(call, points, x.flip(0))
    for point in points:
        _check_order(point, seen, other)


def _check_order(
    point: Point, seen: dict[Point, torch.Tensor], other: dict[Point, torch.Tensor]
) -> None:
    rows, of_reversed = (one[point].detach().movedim(point.batch_axis, 0) for one in (seen, other))
    check_order(rows, of_reversed, f"layer {point.name!r}")


def _activations(
    call: Callable[..., Any], points: Points, x: torch.Tensor
) -> dict[Point, torch.Tensor]:
    seen: dict[Point, torch.Tensor] = {}
    with torch.enable_grad(), watching([(p, partial(seen.__setitem__, p)) for p in points]):
        call(entering(x, points))
    return {point: tensor.detach() for point, tensor in seen.items()}
