"""What is done alike whatever torch's default dtype and default device are."""

import threading
from contextlib import ExitStack, contextmanager, nullcontext

import torch

from ._thread_modes import ScopedMode

# What makes floating numbers of nothing; others take the dtype of what they are given.
_FACTORIES = {
    torch.empty,
    torch.eye,
    torch.linspace,
    torch.logspace,
    torch.ones,
    torch.rand,
    torch.randn,
    torch.zeros,
}
# Devices whose casting to fewer bits the caller may have switched on.
_AUTOCAST = "cpu", "cuda", "mps", "xpu"
# Of each thread: the default device of whoever called the library, if it is not the CPU.
_callers = threading.local()


@contextmanager
def on_cpu_by_default():
    """Make tensors on the CPU inside a with block unless a device is named.

    The user may have set another default device for networks and data; what is computed beside the
    network is on the CPU, or has its device named.

    Yields
    ------
    None
    """
    device = torch.get_default_device()
    if device.type == "cpu":
        yield
        return
    before = vars(_callers).get("device")
    _callers.device = device
    try:
        with torch.device("cpu"):
            yield
    finally:
        _callers.device = before


@contextmanager
def in_plain_modes():
    """Compute alike inside a with block whatever modes of torch its caller has switched on.

    In inference mode nothing could be trained, without gradients neither, and autocast would round;
    see also `on_cpu_by_default`, which this includes.

    Yields
    ------
    None
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in _AUTOCAST:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(on_cpu_by_default())
        yield


def as_the_caller():
    """Return a context with the default device of the caller, for running a user's own code.

    Returns
    -------
    context : context manager
        It changes nothing outside of `on_cpu_by_default`.
    """
    device = vars(_callers).get("device")
    return nullcontext() if device is None else torch.device(device)


class _InFloat32(ScopedMode):
    """Gives tensors that are made without a dtype float32."""

    def _instead(self, func, args, kwargs):
        if func in _FACTORIES and kwargs.get("dtype") is None:
            kwargs = {**kwargs, "dtype": torch.float32}
        return func(*args, **kwargs)


def float32_by_default():
    """Return a context in which new tensors are float32, whatever torch's default dtype is.

    So the weights of a new module are drawn alike. It counts for the calling thread, where torch's
    own default is all threads'. Tensors that are made of Python's numbers keep that.

    Returns
    -------
    context : context manager
    """
    return nullcontext() if torch.get_default_dtype() == torch.float32 else _InFloat32()


def uniform(generator, *shape):
    """Draw numbers between 0 and 1, in float32 whatever torch's default is.

    Parameters
    ----------
    generator : torch.Generator or None
        Of the CPU; None: torch's own.
    *shape : int
        Of what is drawn.

    Returns
    -------
    draws : torch.Tensor of float32
    """
    return torch.rand(shape, generator=generator, dtype=torch.float32)


def normal(generator, *shape):
    """Draw standard normal numbers; see `uniform`.

    Parameters
    ----------
    generator : torch.Generator or None
        Of the CPU; None: torch's own.
    *shape : int
        Of what is drawn.

    Returns
    -------
    draws : torch.Tensor of float32
    """
    return torch.randn(shape, generator=generator, dtype=torch.float32)
