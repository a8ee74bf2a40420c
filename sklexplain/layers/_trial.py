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
        what, size = f"layer {point.name!r}", math.prod(point.shape)
        try:
            for seen in (one, other):
                check_rows(seen.get(point), point.batch_axis, len(x), size, what)
            if ordered:
                z, of_reversed = (seen[point].movedim(point.batch_axis, 0) for seen in (one, other))
                check_order(z, of_reversed, what)
        except ValueError as error:
            if not lenient or (not kept and i + 1 == len(points)):
                raise
            warn(f"left out: {error}")
        else:
            kept.append(i)
    return points if len(kept) == len(points) else points.only(*kept)


def _activations(
    call: Callable[..., Any], points: Points, x: torch.Tensor
) -> dict[Point, torch.Tensor]:
    seen: dict[Point, torch.Tensor] = {}
    with torch.enable_grad(), watching([(p, partial(seen.__setitem__, p)) for p in points]):
        call(entering(x, points))
    return {point: tensor.detach() for point, tensor in seen.items()}
