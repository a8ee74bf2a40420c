"""The meaning of a sample's axes, inferred from the layers that take the sample."""

import torch
from torch import nn

from ..layers import CHANNELS_FIRST, CHANNELS_LAST

_IMAGE = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d)
_SERIES = (nn.Conv1d, nn.RNNBase)


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
        None where nothing shows it, and for samples with one axis.
    is_series : bool
        Whether samples with one axis go through layers for series.
    """
    if len(shape) == 3:
        return 0, False
    calls = [call for call in recording.calls if call.args]
    if len(shape) == 1:
        return None, any(isinstance(call.module, _SERIES) for call in calls)
    if len(shape) != 2:
        return None, False
    for call in calls:
        tensor = call.args[0]
        if not isinstance(tensor, torch.Tensor):
            continue
        if isinstance(call.module, _IMAGE) and tensor.dim() == 4:
            return None, False  # (height, width), to which the network adds an axis of channels
        if not isinstance(call.module, (*CHANNELS_FIRST, *CHANNELS_LAST)) or tensor.dim() != 3:
            continue
        axis = _axis(call.module, tensor, recording.x, shape)
        if axis is not None:
            return axis, False
    return None, False


def _axis(module, tensor, x, shape):
    """Axis of a sample that a layer takes for channels; None if it is given something else."""
    n = len(x)
    orders = {  # where the sample's axes 0 and 1 are in the tensor
        (n, *shape): (1, 2),
        (n, *shape[::-1]): (2, 1),
        (shape[0], n, shape[1]): (0, 2),
        (shape[1], n, shape[0]): (2, 0),
    }
    places = orders.get(tuple(tensor.shape))
    if places is None:
        return None
    if shape[0] == shape[1] and tensor.shape == x.shape:
        # Only the values distinguish a square sample from its transpose.
        turned = torch.equal(tensor, x.transpose(1, 2)) and not torch.equal(tensor, x)
        places = (2, 1) if turned else (1, 2)
    position = 1 if isinstance(module, CHANNELS_FIRST) else 2
    return places.index(position) if position in places else None
