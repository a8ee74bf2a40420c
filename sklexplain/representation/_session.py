"""Running networks that cannot be viewed, and restoring them; checks of devices."""

from contextlib import contextmanager

import torch

from ..utils import GENERATOR_LOCK


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
    with GENERATOR_LOCK, _as_found(parts):
        for part in parts:
            part.training = False
            for parameter in part.parameters(recurse=False):
                parameter.requires_grad_(False)
        yield


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


def checked_device(device):
    """Device of a name; raise a ValueError if it cannot be used here."""
    try:
        checked = torch.empty(0, device=device).device
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(
            f"device={device!r} cannot be used here: {error}. Use None (where the model is), 'cpu' "
            "or a device that torch finds."
        ) from error
    if checked.type == "meta":
        raise ValueError("device='meta' holds no numbers; use None (where the model is) or 'cpu'.")
    return checked
