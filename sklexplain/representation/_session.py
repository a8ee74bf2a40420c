"""Running networks that cannot be viewed, and restoring them; checks of devices."""

from contextlib import contextmanager, nullcontext

import torch

from ..layers import uncompiled
from ..utils import GENERATOR_LOCK, Device, check_param

DEVICE = Device("None (where the model is), 'cpu' or a device that torch finds")


@contextmanager
def frozen(modules):
    """Run networks in eval mode without parameter gradients, and restore everything afterwards.

    Parameters
    ----------
    modules : list of nn.Module
        The networks.

    Yields
    ------
    None
    """
    parts = {id(m): m for module in modules for m in module.modules()}.values()
    # One lock for all that is shared: two, taken in either order, could wait for each other.
    with GENERATOR_LOCK, _as_found(parts), uncompiled(parts), _eager():
        for part in parts:
            part.training = False
            for parameter in part.parameters(recurse=False):
                parameter.requires_grad_(False)
        yield


def _eager():
    """Run what is compiled as it is written, functions too, where torch can be told so."""
    set_stance = getattr(torch.compiler, "set_stance", None)  # since torch 2.6
    return nullcontext() if set_stance is None else set_stance("force_eager")


@contextmanager
def _as_found(parts):
    """Restore modes, gradient flags and buffers at the end."""
    modes = [(m, m.training) for m in parts]
    parameters = [p for m in parts for p in m.parameters(recurse=False) if p.requires_grad]
    # By name: a forward pass may put another tensor in a buffer's place.
    buffers = [(m, name, b) for m in parts for name, b in m._buffers.items()]
    values = [None if b is None else b.clone() for _, _, b in buffers]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in parameters:
            parameter.requires_grad_(True)
        with torch.no_grad():
            for (module, name, buffer), value in zip(buffers, values, strict=True):
                if module._buffers[name] is not buffer:
                    module._buffers[name] = buffer
                if buffer is not None and not torch.equal(buffer, value):
                    buffer.copy_(value)


@contextmanager
def own_weights(module):
    """Run a network that shares its weights on copies of them, for one that may write into them.

    Parameters
    ----------
    module : nn.Module
        The network; its parameters point to where they did afterwards.

    Yields
    ------
    changed : callable
        Says, without arguments, whether a copy differs from what it is a copy of.
    """
    shared = [(parameter, parameter.data) for parameter in module.parameters()]

    def changed():
        return not all(_alike(parameter.data, data) for parameter, data in shared)

    try:
        for parameter, data in shared:
            parameter.data = data.clone()
        yield changed
    finally:
        for parameter, data in shared:
            parameter.data = data


def _alike(a, b):
    """Tell whether two tensors hold the same values; NaN is like NaN."""
    return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())


def checked_device(device):
    """Device of a name; raise a ValueError if it cannot be used here."""
    return torch.empty(0, device=check_param("device", device, DEVICE)).device
