"""Maps of where a network's layers build its output: saliency, then aggregation.

For output unit i and layer p the saliency has the shape (C_p, *spatial_p) of the layer's
activations; it is aggregated over the channels, then over the units.
"""

import torch

from ..representation._jacobian import unit_gradients
from ._aggregators import RunningAggregate, aggregate

SALIENCIES = ("gradient", "activation_x_gradient", "grad_cam")


def check_grad_cam(points, saliency):
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


def channel_maps(gradients, activations, saliency, channel_agg):
    """Aggregate the saliency of one layer over its channels.

    Parameters
    ----------
    gradients : tensor of shape (k, b, C, *spatial)
        Of k units at the layer.
    activations : tensor of shape (b, C, *spatial)
        Of the layer.
    saliency : {"gradient", "activation_x_gradient", "grad_cam"}
        Grad-CAM sums over the channels, and ``channel_agg`` does nothing.
    channel_agg : str or callable
        See `aggregate`.

    Returns
    -------
    maps : tensor of shape (k, b, *spatial), or (k, b, C, *spatial) for "none"
    """
    if saliency == "grad_cam":
        weights = gradients.flatten(3).mean(3)  # (k, b, C)
        return torch.einsum("kbc,bc...->kb...", weights, activations).relu()
    if saliency == "activation_x_gradient":
        gradients = gradients * activations
    return aggregate(gradients, channel_agg, 2)


def unit_maps(
    call, points, x, *, saliency, channel_agg, units=None, weights=None, rows, create_graph=False
):
    """Compute maps of single output units at layers, block by block over the units.

    Parameters
    ----------
    call, points, x, units, weights, rows, create_graph
        See `unit_gradients`.
    saliency, channel_agg
        See `channel_maps`.

    Yields
    ------
    index : tensor of int64 of shape (k,), or None with ``weights``
        Which units.
    maps : list of tensor of shape (k, b, *spatial)
        Aggregated over the channels, one a layer; (k, b, C, *spatial) with "none".

    Raises
    ------
    ValueError
        For Grad-CAM at a layer that has no channels beside positions.
    """
    check_grad_cam(points, saliency)
    blocks = unit_gradients(
        call, points, x, units=units, weights=weights, rows=rows, create_graph=create_graph
    )
    for index, gradients, activations in blocks:
        pairs = zip(gradients, activations, strict=True)
        yield index, [channel_maps(g, a, saliency, channel_agg) for g, a in pairs]


def layer_maps(
    call,
    points,
    x,
    *,
    saliency,
    channel_agg,
    unit_agg,
    units=None,
    unit_weights=None,
    rows,
    create_graph=False,
):
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

    Returns
    -------
    maps : list of tensor of shape (b, *spatial)
        One a layer; with "none" (b, [units], [C], *spatial).

    Raises
    ------
    ValueError
        For Grad-CAM at a layer that has no channels beside positions.
    """
    parts = []
    for i in range(0, len(x), rows):
        weights, aggregates = unit_weights, None
        if weights is None and _only_mean(saliency, channel_agg, unit_agg):
            # Everything is linear: the mean of the maps is the map of the mean.
            weights = _mean_weights(points.n_units, units, x)
        if weights is None:
            aggregates = [RunningAggregate(unit_agg) for _ in points]
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
        )
        if weights is not None:
            parts.append([m[0] for m in next(blocks)[1]])
            continue
        for _, maps in blocks:
            for running, m in zip(aggregates, maps, strict=True):
                running.add(m)
        results = [running.result() for running in aggregates]
        parts.append([r.movedim(0, 1) if unit_agg == "none" else r for r in results])
    return [torch.cat(part) for part in zip(*parts, strict=True)]


def _only_mean(saliency, channel_agg, unit_agg):
    return saliency != "grad_cam" and channel_agg in ("mean", "none") and unit_agg == "mean"


def _mean_weights(n_units, units, x):
    dtype = x.dtype if x.is_floating_point() else None
    weights = torch.zeros(n_units, dtype=dtype, device=x.device)
    units = torch.arange(n_units) if units is None else torch.as_tensor(units)
    weights[units.to(x.device)] = 1 / len(units)
    return weights
