"""The state that networks run in, and putting everything back afterwards."""

import threading
from contextlib import contextmanager

import torch
from torch import nn

# Modes and gradient flags are switched on shared modules: one thread at a time.
_LOCK = threading.RLock()


@contextmanager
def frozen(modules, device, seed):
    """Run networks in eval mode without parameter gradients, and put everything back after.

    Parameters
    ----------
    modules : list of nn.Module
        The networks.
    device : torch.device
        Where they run.
    seed : int
        Seed of the generators inside, for networks that draw even in eval mode.

    Yields
    ------
    None
    """
    parts = {id(m): m for module in modules for m in module.modules()}.values()
    cuda = [device] if device.type == "cuda" else []
    with _LOCK, _as_found(parts), _one_arithmetic(parts, device):
        for part in parts:
            part.training = False
            for parameter in part.parameters(recurse=False):
                parameter.requires_grad_(False)
        with torch.random.fork_rng(devices=cuda):
            _seed(cuda, seed)
            yield


@contextmanager
def _as_found(parts):
    """Put modes, gradient flags and buffers back."""
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
def _one_arithmetic(parts, device):
    """Compute alike with gradients and without, and whatever the caller's context is."""
    recurrent = any(isinstance(m, nn.RNNBase) for m in parts)
    cudnn = torch.backends.cudnn
    enabled, fast_path = cudnn.enabled, torch.backends.mha.get_fastpath_enabled()
    try:
        # Attention's fast path is taken without gradients only.
        torch.backends.mha.set_fastpath_enabled(False)
        if recurrent and device.type == "cuda":
            cudnn.enabled = False  # it refuses a backward pass of recurrent layers in eval mode
        with torch.inference_mode(False), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        if cudnn.enabled != enabled:
            cudnn.enabled = enabled


def _seed(cuda, seed):
    # torch.manual_seed would reseed every device, also those that are not put back.
    torch.default_generator.manual_seed(seed)
    for device in cuda:
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)


def checked_device(device):
    """Device of a name; raise a ValueError if it cannot be used here."""
    try:
        found = torch.empty(0, device=device).device
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(
            f"device={device!r} cannot be used here: {error}. Use None (where the model is), 'cpu' "
            "or a device that torch finds."
        ) from error
    if found.type == "meta":
        raise ValueError("device='meta' holds no numbers; use None (where the model is) or 'cpu'.")
    return found
