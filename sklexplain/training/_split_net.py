"""A skorch net that trains on some rows and watches others, with draws that depend on a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from skorch.dataset import unpack_data
from torch.utils.data import Subset

from ..utils import float32_by_default
from ._on_device import LoaderOnDevice, can_stand_in, on_device
from ._saved_net import SavedNet


class SplitNet(SavedNet):
    """A skorch net that is trained on some rows, and watches its loss on others.

    A subclass implements `_step`, from a batch to outputs and their loss. What that draws comes
    from a generator: one that goes on through training, and, for the rows that are watched, one
    that begins anew in every epoch.
    """

    def initialize_module(self) -> Self:
        """Build the module, in float32 whatever torch's default dtype is."""
        with float32_by_default():
            super().initialize_module()
        if torch.get_default_dtype() != torch.float32:  # of Python's numbers
            self.module_.float()
        return self

    def fit_split(
        self,
        X: np.ndarray,
        y: np.ndarray | None,
        train: np.ndarray,
        valid: np.ndarray | None,
        seed: int,
    ) -> Self:
        """Train from the present weights on some rows of (X, y); monitor the loss on others.

        Parameters
        ----------
        X : ndarray of float32 of shape (n, ...)
            The inputs.

        y : ndarray of int64 of shape (n,) or None
            The target; None without one.

        train : ndarray of int
            The rows to fit on.

        valid : ndarray of int or None
            The rows to watch; None for no validation.

        seed : int
            Determines what the loss draws. All other randomness is torch's global generator's.

        Returns
        -------
        self : SplitNet
            The fitted net, in eval mode.

        Raises
        ------
        KeyboardInterrupt
            If training was interrupted.
        """
        generator = torch.Generator().manual_seed(seed)
        arrays = {"X": X} if y is None else {"X": X, "y": y}
        tensors = on_device(arrays, self.device)
        during = {"seed": seed, "train": generator, "tensors": tensors}
        self._train(X, y, split=(train, valid), **during)
        self._set_training(False)
        return self

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> tuple[Any, Any]:
        """Return the datasets of the two parts of the split."""
        if not hasattr(self, "_during_fit"):
            return super().get_split_datasets(X, y, **fit_params)
        dataset = self.get_dataset(X, y)
        train, valid = self._during_fit["split"]
        return Subset(dataset, train), None if valid is None else Subset(dataset, valid)

    def run_single_epoch(
        self,
        iterator: Any,
        training: bool,
        prefix: str,
        step_fn: Callable[..., Any],
        **fit_params: Any,
    ) -> None:
        """Run one epoch; what the validation loss draws is the same in each."""
        if not training and hasattr(self, "_during_fit"):
            # Other draws each time would make the losses of two epochs differ by chance, and early
            # stopping would follow that chance.
            self._during_fit["valid"] = torch.Generator().manual_seed(self._during_fit["seed"] + 1)
        if hasattr(self, "_during_fit") and iterator is not None:
            self._check_batches(iterator, "train" if training else "valid")
        tensors = getattr(self, "_during_fit", {}).get("tensors")
        if tensors is not None and can_stand_in(iterator):
            rows = self._during_fit["split"][0 if training else 1]
            iterator = LoaderOnDevice(iterator, tensors["X"], tensors.get("y"), rows)
        super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)

    def _check_batches(self, iterator: Any, which: str) -> None:
        """Raise if there is no batch, whose loss would be missed later on."""
        try:
            n_batches = len(iterator)
        except TypeError:  # an iterator of the user's own
            return
        if n_batches == 0:
            n = len(self._during_fit["split"][0 if which == "train" else 1])
            raise ValueError(
                f"the {n} samples of the {'training' if which == 'train' else 'validation'} part "
                f"are fewer than a batch, and net_params leaves out the last, smaller batch "
                f"(iterator_{which}__drop_last=True): lower batch_size, or leave that out."
            )

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute the loss of a batch and its gradients."""
        self._set_training(True)
        X, y = unpack_data(batch)
        outputs, loss = self._step(X, y, training=True)
        loss.backward()
        return {"loss": loss, "y_pred": outputs}

    def validation_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute the loss of a batch, in eval mode."""
        self._set_training(False)
        with torch.no_grad():
            X, y = unpack_data(batch)
            outputs, loss = self._step(X, y, training=False)
        return {"loss": loss, "y_pred": outputs}

    def _generator(self, training: bool) -> torch.Generator | None:
        """Return what draws come from; None for torch's global generator, in a user's own call."""
        if not hasattr(self, "_during_fit"):
            return None
        return self._during_fit["train" if training else "valid"]

    def _step(
        self, X: torch.Tensor, y: torch.Tensor, training: bool
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Return outputs and their loss."""
        raise NotImplementedError
