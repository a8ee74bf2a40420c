"""Maps of where in its layers a network builds its output: saliency, then aggregation.

For output unit i and layer p the saliency has the shape (C_p, *spatial_p) of the layer's
activations; it is aggregated over the channels, then over the units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ._aggregators import aggregate
from ._jacobian import unit_gradients
from ._points import Points
from ._sizes import RunningSizedAggregate, Sized, aggregate_with_size

# So many numbers stay in the processor's cache between two operations.
_CHUNK = 2**20

SALIENCIES = ("gradient", "activation_x_gradient", "grad_cam")


class NotFiniteMapError(ValueError):
    """Activations or gradients at a layer are NaN or infinite.

    Parameters
    ----------
    layer : str
        Name of the layer.
    sample : int
        The first sample concerned.
    """

    def __init__(self, layer: str, sample: int) -> None:
        super().__init__(
            f"the activations at layer {layer!r}, or the gradients there, are not finite (NaN or "
            f"infinity) for sample {sample}; check the network's weights, and whether X has the "
            "scale that it was trained on."
        )
        self.layer, self.sample = layer, sample

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.layer, self.sample)


@contextmanager
def samples_from(start: int) -> Iterator[None]:
    """Count the samples in errors about maps from the first of a batch on.

    Parameters
    ----------
    start : int
        Position of the first sample of the batch that is computed inside.

    Yields
    ------
    None

    Raises
    ------
    NotFiniteMapError
        With the sample's position among all.
    """
    try:
        yield
    except NotFiniteMapError as error:
        raise NotFiniteMapError(error.layer, error.sample + start) from None


def _check_finite(points: Points, maps: list[torch.Tensor]) -> None:
    """Raise if a map (k, b, ...) of one of the points holds NaN or infinity."""
    for point, m in zip(points, maps, strict=True):
        if torch.isfinite(m.detach().sum()):
            continue
        bad = ~torch.isfinite(m.detach()).transpose(0, 1).flatten(1).all(dim=1)
        if bad.any():
            raise NotFiniteMapError(point.name, int(bad.nonzero()[0, 0]))


def check_grad_cam(points: Points, saliency: str) -> None:
    """Raise a ValueError if Grad-CAM is asked for at a layer without channels and positions."""
    if saliency != "grad_cam":
        return
    for point in points:
        if not point.has_channels:
            raise ValueError(
                f"saliency='grad_cam' averages gradients over positions, but layer {point.name!r} "
                f"has activations of shape {point.spatial_shape} without an axis of channels "
                "beside positions; use 'gradient' or 'activation_x_gradient', or a convolutional, "
                "recurrent or attention layer."
            )


def channel_maps(
    gradients: torch.Tensor,
    activations: torch.Tensor,
    saliency: str,
    channel_agg: str | Callable[..., Any],
) -> torch.Tensor:
    """Aggregate the saliency of one layer over its channels.

    Parameters
    ----------
    gradients, activations, saliency, channel_agg
        See `sized_channel_maps`.

    Returns
    -------
    maps : tensor of shape (k, b, *spatial), or (k, b, C, *spatial) for "none"
    """
    return sized_channel_maps(gradients, activations, saliency, channel_agg)[0]


def sized_channel_maps(
    gradients: torch.Tensor,
    activations: torch.Tensor,
    saliency: str,
    channel_agg: str | Callable[..., Any],
) -> Sized:
    """Aggregate the saliency of one layer over its channels, and say how large that was.

    Parameters
    ----------
    gradients : tensor of shape (k, b, C, *spatial)
        Gradients of k units at the layer.
    activations : tensor of shape (b, C, *spatial)
        Activations of the layer.
    saliency : {"gradient", "activation_x_gradient", "grad_cam"}
        Grad-CAM sums over the channels, and ``channel_agg`` does nothing.
    channel_agg : str or callable
        See `aggregate`.

    Returns
    -------
    maps : tensor of shape (k, b, *spatial), or (k, b, C, *spatial) for "none"
    sizes : tensor of the same shape or None
        How large what was aggregated is (`aggregate_with_size`); None: as the maps themselves.
    """
    # If all samples share their gradients (a view of stride 0), those of one sample will do.
    distinct = gradients[:, :1] if gradients.stride(1) == 0 else gradients
    if saliency == "grad_cam":
        weights = distinct.flatten(3).mean(3).expand(gradients.shape[:3])
        maps = torch.einsum("kbc,bc...->kb...", weights, activations)
        with torch.no_grad():
            sizes = torch.einsum("kbc,bc...->kb...", weights.abs(), activations.abs())
        return maps.relu(), sizes
    if saliency == "gradient":
        maps, sizes = aggregate_with_size(distinct, None, channel_agg, 2)
        shape = (len(gradients), gradients.shape[1])
        maps = maps.expand(*shape, *maps.shape[2:])
        return maps, None if sizes is None else sizes.expand(*shape, *sizes.shape[2:])
    if torch.is_grad_enabled():
        values = gradients * activations
        sizes = aggregate_with_size(values.detach(), None, channel_agg, 2)[1]
        return aggregate(values, channel_agg, 2), sizes
    if channel_agg in ("mean", "abs"):
        return _mean_product(gradients, activations, channel_agg)
    return aggregate_with_size(gradients * activations, None, channel_agg, 2, overwrite=True)


def _mean_product(gradients: torch.Tensor, activations: torch.Tensor, how: str) -> Sized:
    """Mean over the channels of products or their absolute values, a few channels at a time."""
    n_channels, size = gradients.shape[2], gradients[:, :, :1].numel()
    step = max(1, _CHUNK // max(1, size))
    total: Any = None
    signed: torch.Tensor | None = None
    for i in range(0, n_channels, step):
        product = gradients[:, :, i : i + step] * activations[:, i : i + step]
        if how == "mean":
            part = product.sum(2)
            signed = part if signed is None else signed.add_(part)
        part = product.abs_().sum(2)
        total = part if total is None else total.add_(part)
    total.mul_(1 / n_channels)
    return (total, None) if signed is None else (signed.mul_(1 / n_channels), total)


def unit_maps(
    call: Callable[..., Any],
    points: Points,
    x: torch.Tensor,
    *,
    saliency: str,
    channel_agg: str | Callable[..., Any],
    units: torch.Tensor | Sequence[int] | None = None,
    weights: torch.Tensor | None = None,
    rows: int,
    create_graph: bool = False,
    with_sizes: bool = False,
) -> Iterator[tuple[Any, ...]]:
    """Compute maps of single output units at layers, block by block over the units.

    Parameters
    ----------
    call, points, x, units, weights, rows, create_graph
        See `unit_gradients`.
    saliency, channel_agg
        See `channel_maps`.
    with_sizes : bool, default=False
        Whether to yield sizes, too.

    Yields
    ------
    index : tensor of int64 of shape (k,), or None with ``weights``
        The units of this block.
    maps : list of tensor of shape (k, b, *spatial)
        One for each layer, aggregated over the channels; (k, b, C, *spatial) with "none".
    sizes : list of tensor or None
        Only ``with_sizes``, see `sized_channel_maps`.

    Raises
    ------
    ValueError
        For Grad-CAM at a layer that has no channels beside positions.
    NotFiniteMapError
        If activations or gradients at a layer are not finite.
    """
    check_grad_cam(points, saliency)

    def reduce(gradients: torch.Tensor, activations: torch.Tensor) -> Sized:
        return sized_channel_maps(gradients, activations, saliency, channel_agg)

    blocks = unit_gradients(
        call,
        points,
        x,
        units=units,
        weights=weights,
        rows=rows,
        create_graph=create_graph,
        reduce=reduce,
    )
    for index, found, _ in blocks:
        maps = [m for m, _ in found]
        if not create_graph:
            _check_finite(points, maps)
        yield (index, maps, [s for _, s in found]) if with_sizes else (index, maps)


def layer_maps(
    call: Callable[..., Any],
    points: Points,
    x: torch.Tensor,
    *,
    saliency: str,
    channel_agg: str | Callable[..., Any],
    unit_agg: str | Callable[..., Any],
    units: torch.Tensor | Sequence[int] | None = None,
    unit_weights: torch.Tensor | None = None,
    rows: int,
    create_graph: bool = False,
    with_sizes: bool = False,
) -> Any:
    """Compute maps of a whole representation at layers, aggregated over channels, then units.

    Parameters
    ----------
    call, points, x, units, rows, create_graph
        See `unit_gradients`. More than ``rows`` samples are taken in turns.
    saliency, channel_agg
        See `channel_maps`.
    unit_agg : str or callable
        See `aggregate`.
    unit_weights : tensor of shape (N,) or None, default=None
        Explain this weighted sum of all units; ``unit_agg`` and ``units`` do nothing then.
    with_sizes : bool, default=False
        Whether to return sizes, too.

    Returns
    -------
    maps : list of tensor of shape (b, *spatial)
        One for each layer; with "none" (b, [units], [C], *spatial).
    sizes : list of tensor or None
        Only ``with_sizes``: how large what was aggregated to each number is, see
        `aggregate_with_size`; None: as the maps themselves.

    Raises
    ------
    ValueError
        For Grad-CAM at a layer that has no channels beside positions.
    """
    weights = unit_weights
    if weights is None and _only_mean(saliency, channel_agg, unit_agg):
        # Everything is linear: the mean of the maps is the map of the mean.
        weights = _mean_weights(points.n_units, units, x)
    if weights is not None and with_sizes:
        weights = torch.stack([torch.as_tensor(weights), _mixed_signs(weights)])
    parts: list[tuple[list[Any], ...]] = []
    for i in range(0, len(x), rows):
        blocks = unit_maps(
            call,
            points,
            x[i : i + rows],
            saliency=saliency,
            channel_agg=channel_agg,
            units=units,
            weights=weights,
            rows=rows,
            create_graph=create_graph,
            with_sizes=True,
        )
        with samples_from(i), torch.set_grad_enabled(create_graph):
            if weights is not None:
                parts.append(_of_sums(blocks))
            else:
                parts.append(_over_units(blocks, unit_agg))
    maps, sizes = (list(zip(*part, strict=True)) for part in zip(*parts, strict=True))
    maps = [torch.cat(m) for m in maps]
    if not with_sizes:
        return maps
    return maps, [None if s[0] is None else torch.cat(s) for s in sizes]


def _mixed_signs(weights: torch.Tensor) -> torch.Tensor:
    """Weights with other signs: every second of the units that count, against the others.

    Where the sum of all units' gradients cancels, it is 0 by what autograd adds up inside, and the
    numbers that cancel are nowhere to be seen. The sum with these signs is as large as they are.

    Parameters
    ----------
    weights : tensor of shape (N,)
        Weights of the units.

    Returns
    -------
    weights : tensor of shape (N,)
    """
    weights = torch.as_tensor(weights).clone()
    counted = weights.nonzero()[:, 0]
    weights[counted[1::2]] *= -1
    return weights


def _of_sums(blocks: Iterable[tuple[Any, ...]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return maps of a weighted sum of units and their sizes, which its second row shows.

    Parameters
    ----------
    blocks : iterable
        What `unit_maps` yields ``with_sizes``, of a weighted sum or of it and its `_mixed_signs`.

    Returns
    -------
    maps, sizes : list of tensor of shape (b, *spatial)
    """
    _, maps, sizes = zip(*blocks, strict=True)
    maps = [torch.cat(m) for m in zip(*maps, strict=True)]
    sizes = [None if s[0] is None else torch.cat(s) for s in zip(*sizes, strict=True)]
    sizes = [m.abs() if s is None else s for m, s in zip(maps, sizes, strict=True)]
    return [m[0] for m in maps], [s.amax(dim=0) for s in sizes]


def _over_units(
    blocks: Iterable[tuple[Any, ...]], unit_agg: str | Callable[..., Any]
) -> tuple[list[Any], ...]:
    """Aggregate blocks of maps (k, b, *spatial) over the units, for each layer.

    Parameters
    ----------
    blocks : iterable
        What `unit_maps` yields ``with_sizes``.
    unit_agg : str or callable
        See `aggregate`.

    Returns
    -------
    maps : list of tensor of shape (b, *spatial)
    sizes : list of tensor of shape (b, *spatial), or of None
    """
    running = RunningSizedAggregate(unit_agg)
    for _, maps, sizes in blocks:
        shapes = [m.shape[2:] for m in maps]
        # All layers side by side.
        sized = [s for s in sizes if s is not None]
        sizes = torch.cat([s.flatten(2) for s in sized], dim=2) if sized else None
        running.add(torch.cat([m.flatten(2) for m in maps], dim=2), sizes)
    both = running.result()
    return tuple(
        [None] * len(shapes) if flat is None else _split(flat, shapes, unit_agg) for flat in both
    )


def _split(
    flat: torch.Tensor, shapes: list[torch.Size], unit_agg: str | Callable[..., Any]
) -> list[torch.Tensor]:
    if unit_agg == "none":
        flat = flat.movedim(0, 1)
    parts = flat.split([shape.numel() for shape in shapes], dim=-1)
    return [m.unflatten(-1, shape) for m, shape in zip(parts, shapes, strict=True)]


def cancels(params: Any, n_units: int) -> bool:
    """Whether maps of all units aggregate to 0 if the sum of the units is constant.

    Parameters
    ----------
    params : object
        With the attributes ``saliency``, ``channel_agg`` and ``unit_agg``.
    n_units : int
        Number of output units, N.

    Returns
    -------
    cancels : bool
        The mean of the gradients is 0; of two units, one has the other's with the other sign, and
        what does not look at signs is the same for both.
    """
    if params.saliency == "grad_cam":
        return False
    if params.unit_agg == "mean":
        return params.channel_agg in ("mean", "none")
    return n_units == 2 and params.unit_agg == "var" and params.channel_agg in ("abs", "var")


def _only_mean(
    saliency: str, channel_agg: str | Callable[..., Any], unit_agg: str | Callable[..., Any]
) -> bool:
    return saliency != "grad_cam" and channel_agg in ("mean", "none") and unit_agg == "mean"


def _mean_weights(
    n_units: int, units: torch.Tensor | Sequence[int] | None, x: torch.Tensor
) -> torch.Tensor:
    dtype = x.dtype if x.is_floating_point() else None
    weights = torch.zeros(n_units, dtype=dtype, device=x.device)
    units = torch.arange(n_units) if units is None else torch.as_tensor(units)
    weights[units.to(x.device)] = 1 / len(units)
    return weights
