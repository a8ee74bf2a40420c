"""Training on a GPU: data that lie there already, and few occasions to wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from skorch.callbacks import Callback
from skorch.dataset import get_len
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from ..layers import fits
from ..utils import DeviceLike

# Optimizers that have all steps in one kernel, and the settings that exclude it.
if TYPE_CHECKING:
    from skorch import NeuralNet as _Net
else:  # what it is mixed into is a net
    _Net = object

_FUSED = (torch.optim.Adam, torch.optim.AdamW)
_OTHER_STEPS = ("fused", "foreach", "capturable", "differentiable")


def on_device(
    arrays: dict[str, np.ndarray], device: DeviceLike | None
) -> dict[str, torch.Tensor] | None:
    """Move arrays to a GPU as a whole.

    Parameters
    ----------
    arrays : dict of str to ndarray
        Data.
    device : str, torch.device or None
        Where training runs, as a net has it.

    Returns
    -------
    tensors : dict of str to torch.Tensor, or None
        None on the CPU, or where they would take too much of the memory.
    """
    n_bytes = sum(array.nbytes for array in arrays.values())
    device = torch.device(device or "cpu")
    if device.type == "cpu" or not fits(n_bytes, device):
        return None
    return {name: torch.tensor(array, device=device) for name, array in arrays.items()}


class LoaderOnDevice:
    """The batches of a torch loader, cut from data that lie where they are needed.

    Parameters
    ----------
    loader : DataLoader
        One for which `can_stand_in` is true; its order is followed, and it draws what it would.
    X, y : torch.Tensor, torch.Tensor or None
        All data, of which the loader has some rows.
    rows : ndarray of int
        These rows.
    """

    def __init__(
        self, loader: DataLoader, X: torch.Tensor, y: torch.Tensor | None, rows: np.ndarray
    ) -> None:
        self.loader, self.X, self.y = loader, X, y
        self.rows = torch.as_tensor(rows)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        loader = self.loader
        # A loader draws a seed for its workers first, and has it even if it has none of these.
        torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
        order = self.rows[torch.tensor(list(loader.sampler))].to(self.X.device)
        for chosen in order.split(loader.batch_size):
            if self.y is None:  # skorch's stand-in
                yield [self.X[chosen], self.X.new_zeros(len(chosen), 1)]
            else:
                yield [self.X[chosen], self.y[chosen]]


def can_stand_in(loader: Any) -> bool:
    """Tell whether a loader does nothing but cut batches, in an order that its sampler draws.

    Parameters
    ----------
    loader : object
        What a net makes its batches with.

    Returns
    -------
    can : bool
    """
    return (
        type(loader) is DataLoader
        and type(loader.sampler) in (RandomSampler, SequentialSampler)
        and loader.num_workers == 0
        and loader.batch_size is not None
        and not loader.drop_last
        and loader.collate_fn is torch.utils.data.default_collate
    )


class OnDevice(_Net):
    """What nets do differently where they train on a GPU; before a skorch net among the bases."""

    def run_single_epoch(
        self,
        iterator: Any,
        training: bool,
        prefix: str,
        step_fn: Callable[..., Any],
        **fit_params: Any,
    ) -> None:
        """Run one epoch; read the losses at its end, as each reading waits for the GPU.

        Parameters
        ----------
        iterator, training, prefix, step_fn, **fit_params : objects
            See `skorch.NeuralNet`.
        """
        if iterator is None or not self._reads_late():
            super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
            return
        losses, entries = [], []
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            losses.append(step["loss"].detach())
            entries.append(self.history[-1]["batches"][-1])
            self.history.record_batch(f"{prefix}_batch_size", get_len(batch[0]))
            self.notify("on_batch_end", batch=batch, training=training, **step)
        for entry, loss in zip(entries, torch.stack(losses).tolist(), strict=True):
            entry[f"{prefix}_loss"] = loss
        self.history.record(f"{prefix}_batch_count", len(losses))

    def _reads_late(self) -> bool:
        """Whether nobody asks for a batch's loss before the epoch ends."""
        asks = (type(c).on_batch_end is not Callback.on_batch_end for _, c in self.callbacks_)
        return self._on_gpu() and not any(asks)

    def _on_gpu(self) -> bool:
        return torch.device(self.device or "cpu").type == "cuda"

    def get_params_for_optimizer(
        self, prefix: str, named_parameters: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Return the optimizer's arguments; on a GPU all weights are changed by one kernel.

        Parameters
        ----------
        prefix, named_parameters : objects
            See `skorch.NeuralNet`.

        Returns
        -------
        args, kwargs : tuple, dict
        """
        args, kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        plain = self.optimizer in _FUSED and not any(name in kwargs for name in _OTHER_STEPS)
        if plain and self._on_gpu():
            kwargs["fused"] = True
        return args, kwargs
