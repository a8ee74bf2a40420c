"""A skorch net that is saved as plain arrays, and that passes on an interruption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping
from skorch.utils import get_map_location
from torch import nn

from ..utils import in_plain_modes, seeded
from ._on_device import OnDevice


def arrays_of(module: nn.Module) -> dict[str, Any]:
    """Weights and buffers of a module as arrays, by name.

    Parameters
    ----------
    module : nn.Module
        The module to save.

    Returns
    -------
    arrays : dict of str to ndarray
        For `load_arrays`; on the CPU, they share memory with the module.
    """
    return {name: _array(value) for name, value in module.state_dict().items()}


def _array(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):  # extra state, which may be anything
        return value
    value = value.detach().cpu()
    # numpy has no bfloat16; float32 holds all of its numbers.
    return value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()


def load_arrays(module: nn.Module, arrays: Mapping[str, Any]) -> nn.Module:
    """Give a module the weights and buffers that `arrays_of` returned.

    Parameters
    ----------
    module : nn.Module
        Of the same architecture.
    arrays : dict of str to ndarray
        By name; they are copied.

    Returns
    -------
    module : nn.Module
        The module itself.
    """
    module.load_state_dict(
        {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in arrays.items()}
    )
    return module


def _nothing(*args: object, **kwargs: object) -> None:
    pass


class SavedNet(OnDevice, NeuralNet):
    """A skorch net whose saved state is parameters and plain arrays.

    There is no module in it and no pickle inside the pickle: so a file that skops wrote can be
    checked before it is loaded, and modules that cannot be pickled can be saved. The optimizer's
    state is not kept.
    """

    def _train(self, X: Any, y: Any, **during: Any) -> None:
        """Train from the present weights.

        Parameters
        ----------
        X, y : objects
            See ``partial_fit``.
        **during : objects
            What the other methods need in the meantime; kept in ``_during_fit`` until the end.

        Raises
        ------
        KeyboardInterrupt
            If training was interrupted, which skorch would not pass on.
        """
        self._during_fit = during
        try:
            self.partial_fit(X, y)
        finally:
            del self._during_fit

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any) -> Self:
        """Train from the present weights, in a user's own call without validation.

        Parameters
        ----------
        X, y, classes, **fit_params : objects
            See `skorch.NeuralNet`.

        Returns
        -------
        self : SavedNet
            The net.

        Raises
        ------
        KeyboardInterrupt
            If training was interrupted, which skorch would not pass on.
        """
        stopping = dict(getattr(self, "callbacks_", ())).get("early_stopping")
        if hasattr(self, "_during_fit"):
            stopping = None
        if stopping is not None:
            # Nothing is held out now, so there is nothing by which it could stop early.
            stopping.on_epoch_end = _nothing
        try:
            super().partial_fit(X, y, classes=classes, **fit_params)
        finally:
            if stopping is not None:
                del stopping.on_epoch_end
        interrupt = self.__dict__.pop("_interrupt", None)
        if interrupt is not None:
            raise interrupt
        return self

    def fit_loop(self, *args: Any, **kwargs: Any) -> Self:
        """Run the epochs; remember what interrupted them.

        Parameters
        ----------
        *args, **kwargs : objects
            See `skorch.NeuralNet`.

        Returns
        -------
        self : SavedNet
            The net.

        Raises
        ------
        KeyboardInterrupt
            The one that ended training; ``partial_fit`` takes care of it.
        """
        self.__dict__.pop("_interrupt", None)
        try:
            return super().fit_loop(*args, **kwargs)
        except KeyboardInterrupt as interrupt:
            # Early stopping raises one too.
            if not self._has_stopped_early():
                self._interrupt = interrupt
            raise

    def _has_stopped_early(self) -> bool:
        callbacks = (callback for _, callback in self.callbacks_)
        stopping = (c for c in callbacks if isinstance(c, EarlyStopping))
        return any(c.misses_ >= c.patience for c in stopping)

    def __getstate__(self) -> dict[str, Any]:
        """Return parameters and plain arrays."""
        state = vars(self).copy()
        state.pop("_interrupt", None)
        state.pop("_during_fit", None)  # generators cannot be pickled, and belong to one fit only
        if self.initialized_:
            for name in self._optimizers:
                del state[f"{name}_"]
            state["_weights"] = {
                name: arrays_of(part)
                for name in self._modules + self._criteria
                if isinstance(part := state.pop(f"{name}_"), torch.nn.Module)
            }
        return state

    @in_plain_modes()
    def __setstate__(self, state: dict[str, Any]) -> None:
        state = state.copy()
        weights = state.pop("_weights", None)
        device = get_map_location(state["device"])  # the CPU, with a warning, if there is no GPU
        state["device"] = self._check_device(state["device"], device)
        self.__dict__.update(state)
        if weights is None:
            return
        self.initialized_ = False  # else skorch would report that it initialises again
        with seeded(0, self.device):
            self._initialize_module()
            self._initialize_criterion()
            self._initialize_optimizer()
        for name, arrays in weights.items():
            load_arrays(getattr(self, f"{name}_"), arrays)
        self._set_training(False)
        self.initialized_ = True
