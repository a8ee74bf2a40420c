"""Switches of the whole process and modes of views, so that networks compute the same everywhere.

* `exact_attention` turns off what cannot be set for one view only: switches of the whole process.
* `keep_cudnn` puts a view's recurrent layers into the mode in which cuDNN has a backward pass.
"""

import threading
from contextlib import contextmanager

import torch
from torch import nn


class _Switch:
    """A flag of the process that is off as long as any user needs it off.

    Users are kept in a set, not counted: so both steps can be repeated, and one that an interrupt
    cut short is simply done again.
    """

    def __init__(self, get, put):
        self.get, self.put = get, put
        self.before = None  # the value before the first user
        self.users = set()
        # Reentrant: a context that was dropped may be closed by the collector, in here.
        self.lock = threading.RLock()

    def off(self, user):
        with self.lock:
            self.users.add(user)  # first, so that from now on `back` restores the value
            if self.before is None:
                self.before = self.get()
            if self.before:
                self.put(False)

    def back(self, user):
        with self.lock:
            self.users.discard(user)
            before = self.before
            if not self.users and before is not None:
                if before:
                    self.put(True)
                self.before = None


def _fast_path(value):
    torch.backends.mha.set_fastpath_enabled(value)


def _cudnn(value):
    torch.backends.cudnn.enabled = value


class _RoundingOfCudnn:
    """Whether cuDNN rounds to ten bits what it multiplies in single precision, as is its default.

    Torch has an old and a new switch for it; where layers of different kinds have been given
    different settings, the old one must not even be read.
    """

    def __init__(self):
        self.own = None  # the new switch of recurrent layers

    def get(self):
        try:
            self.own = None
            return torch.backends.cudnn.allow_tf32
        except RuntimeError:
            self.own = torch.backends.cudnn.rnn
            return self.own.fp32_precision == "tf32"

    def put(self, value):
        if self.own is None:
            torch.backends.cudnn.allow_tf32 = value
        else:
            self.own.fp32_precision = "tf32" if value else "ieee"


_TF32 = _RoundingOfCudnn()
_ATTENTION = _Switch(torch.backends.mha.get_fastpath_enabled, _fast_path)
_CUDNN = _Switch(lambda: torch.backends.cudnn.enabled, _cudnn)
_ROUNDING = _Switch(_TF32.get, _TF32.put)

# Whose `forward` is known to hand cuDNN their mode and their dropout, and nothing else.
_RECURRENT = (nn.RNN, nn.LSTM, nn.GRU)


def may_keep_cudnn(modules):
    """Whether views can have all recurrent layers in a mode that computes the same with cuDNN.

    Parameters
    ----------
    modules : list of nn.Module
        The networks.

    Returns
    -------
    may : bool
    """
    parts = [part for module in modules for part in module.modules()]
    return all(type(m) in _RECURRENT for m in parts if isinstance(m, nn.RNNBase))


def keep_cudnn(view):
    """Have a view's recurrent layers compute the same in the mode that cuDNN's backward pass needs.

    That is the mode of training, which differs from eval mode by dropout between layers only.

    Parameters
    ----------
    view : View
        A new one.
    """
    for part in view.parts():
        if type(part) in _RECURRENT:
            part.training, part.dropout = True, 0.0
    view.settle()


@contextmanager
def exact_attention(modules, device, cudnn=False):
    """Let networks compute the same with gradients and without; most need nothing for it.

    Attention's fast path is taken without gradients only, and hooks on a `MultiheadAttention` do
    not prevent it; cuDNN refuses a backward pass of recurrent layers in eval mode, and has no
    derivatives of its gradients. Both can only be switched off for the whole process, and so can
    the rounding of cuDNN, of which torch's own recurrent layers do less. No lock is held in the
    context.

    Parameters
    ----------
    modules : list of nn.Module
        The networks that will run.
    device : torch.device
        Where they run.
    cudnn : bool, default=False
        Whether cuDNN may run the recurrent layers; see `keep_cudnn`.

    Yields
    ------
    None
    """
    switches = _switches(modules, torch.device(device), cudnn)
    user = object()
    # Twice: if an interrupt arrives while switches are restored, they are restored again. If it
    # arrives between the caller and here, this generator is closed when the error is dropped.
    try:
        try:
            for switch in switches:
                switch.off(user)
            yield
        finally:
            for switch in switches:
                switch.back(user)
    finally:
        for switch in switches:
            switch.back(user)


def _switches(modules, device, cudnn=False):
    switches = []
    parts = [part for module in modules for part in module.modules()]
    # Also those inside an encoder layer: beside the layer's fast path they have one of their own.
    if any(isinstance(m, nn.MultiheadAttention) and m.batch_first for m in parts):
        switches.append(_ATTENTION)
    if device.type == "cuda" and any(isinstance(m, nn.RNNBase) for m in parts):
        switches.append(_ROUNDING if cudnn else _CUDNN)
    return switches
