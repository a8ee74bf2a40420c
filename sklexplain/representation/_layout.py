"""The meaning of a sample's axes, inferred from the layers that take the sample."""

from itertools import permutations

import torch
from torch import nn

from ..layers import CHANNELS_FIRST, CHANNELS_LAST

_IMAGE = (
    *(nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d),
    *(nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
)
_SERIES = (nn.Conv1d, nn.RNNBase)
# By how much an order has to be more correlated than another to be preferred to it.
_CLEARLY = 0.25


def input_layout(recording, shape):
    """Find a sample's axis of channels.

    Only layers that are applied to the samples themselves count, with their axes in order or
    transposed: a linear layer behind a `Flatten` shows nothing about axes.

    Parameters
    ----------
    recording : Recording
        Of a few samples.
    shape : tuple of int
        Of one sample.

    Returns
    -------
    channel_axis : int or None
        None where nothing tells, and for samples with one axis. Images of three axes are taken for
        (channels, height, width) where nothing tells, as is the custom.
    is_series : bool
        Whether samples with one axis go through layers for series.
    """
    calls = [call for call in recording.calls if call.args]
    if len(shape) == 1:
        return None, any(isinstance(call.module, _SERIES) for call in calls)
    if len(shape) == 2:
        return _axis_of_calls(calls, recording.x, stop=_IMAGE), False
    if len(shape) == 3:
        axis = _axis_of_calls([c for c in calls if isinstance(c.module, _IMAGE)], recording.x)
        return axis or 0, False
    return None, False


def _axis_of_calls(calls, x, stop=()):
    """Find the axis of a sample that the first layer to tell takes for channels."""
    for call in calls:
        tensor = call.args[0]
        if not isinstance(tensor, torch.Tensor):
            continue
        if isinstance(call.module, stop) and tensor.dim() == x.dim() + 1:
            return None  # (height, width), to which the network adds an axis of channels
        place = _place_of_channels(call.module, tensor)
        if place is None or tensor.dim() != x.dim():
            continue
        order = _order(tensor, x)
        if order is not None and order[place] > 0:
            return order[place] - 1
    return None


def _place_of_channels(module, tensor):
    """Return the place of channels in a layer's input, None if it tells nothing."""
    if isinstance(module, CHANNELS_FIRST):
        return 1
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) > 1:
        return None  # over time and channels alike
    return tensor.dim() - 1 if isinstance(module, CHANNELS_LAST) else None


def _order(tensor, x):
    """Say which axis of x every axis of a tensor is; None if it holds something else.

    Where sizes do not tell, as of square samples, numbers do: the order in which x is closest.

    Returns
    -------
    order : tuple of int or None
    """
    sizes, size = tuple(x.shape), tuple(tensor.shape)
    orders = [o for o in permutations(range(x.dim())) if tuple(sizes[i] for i in o) == size]
    if len(orders) < 2:
        return orders[0] if orders else None
    values, tensor = x.detach().double(), tensor.detach().double()
    # What a network has done before is mostly to scale and to shift.
    values, tensor = values - values.mean(), tensor - tensor.mean()
    size = (values.norm() * tensor.norm()).item() or 1.0
    alike = [abs((values.permute(order) * tensor).sum().item()) / size for order in orders]
    best = max(range(len(orders)), key=alike.__getitem__)
    # The order of x itself comes first: another one has to be clearly better.
    return orders[best if alike[best] > alike[0] + _CLEARLY else 0]
