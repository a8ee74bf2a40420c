"""A skorch net that trains on arrays, of which it slices whole batches.

Explanations are trained this way: on activations that were computed once, with a loss that is a
function of a module and a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping
from torch import nn

from ._on_device import on_device
from ._params import check_net_params
from ._saved_net import SavedNet

_VALID_ROWS = 1024

# Names that net_params may not have, as something here depends on them; estimators add their own.
_RESERVED = {
    "train_split": "validation_split",
    "device": "device",
    "max_epochs": "max_epochs",
    "warm_start": None,
}


class ArrayBatches:
    """Mini-batches of several arrays, each with its target; faster than stacking single samples.

    Parameters
    ----------
    arrays : dict of str to ndarray, or to torch.Tensor
        All with the same number of rows.
    rows : ndarray of int
        The rows to use.
    batch_size : int
        Samples in a batch; -1 for all. A last batch of a single sample joins the one before it:
        BatchNorm cannot train on one.
    shuffle : bool, default=False
        Whether to draw another order for every pass.
    generator : torch.Generator or None, default=None
        Draws the order; None for torch's global generator.
    """

    def __init__(
        self,
        arrays: dict[str, Any],
        rows: np.ndarray,
        batch_size: int,
        *,
        shuffle: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        self.arrays = arrays
        self.rows = rows
        self.batch_size = len(rows) if batch_size == -1 else batch_size
        self.shuffle = shuffle
        self.generator = generator
        # skorch's callbacks expect pairs: the second part is whatever comes closest to a target.
        self._target = next(n for n in ("y", "target", "x", "z") if n in arrays)

    def __len__(self) -> int:
        return len(self._starts()) - 1

    def __iter__(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        rows = self.rows
        if self.shuffle:
            rows = rows[torch.randperm(len(rows), generator=self.generator).numpy()]
        starts = self._starts()
        target = self.arrays[self._target]
        on_gpu = isinstance(target, torch.Tensor)
        if on_gpu:
            rows = torch.from_numpy(rows).to(target.device)
        for start, stop in zip(starts[:-1], starts[1:], strict=True):
            chosen = rows[start:stop]
            batch = {name: array[chosen] for name, array in self.arrays.items()}
            if not on_gpu:
                batch = {name: torch.from_numpy(array) for name, array in batch.items()}
            yield batch, batch[self._target]

    def _starts(self) -> list[int]:
        """Positions at which batches start, and the end of the last one."""
        n = len(self.rows)
        starts = list(range(0, n, self.batch_size))
        if len(starts) > 1 and n - starts[-1] == 1:
            starts.pop()
        return [*starts, n]


class ArrayNet(SavedNet):
    """A skorch net whose loss is a function of the module and a batch."""

    def fit_arrays(
        self,
        arrays: dict[str, np.ndarray],
        objective: Callable[..., Any],
        train: np.ndarray,
        valid: np.ndarray | None,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Train from the present weights on some rows of arrays; monitor the loss on others.

        Parameters
        ----------
        arrays : dict of str to ndarray
            The arrays that `objective` needs.
        objective : callable
            From the module, a batch (a dict of tensors) and the number of the epoch, from 1 on, to
            the outputs, the loss, and the part of the loss that is differentiated in that epoch.
        train, valid : ndarray of int, ndarray of int or None
            The rows; None for no validation.
        generator : torch.Generator or None, default=None
            Draws the order of the samples; None for torch's global generator.

        Returns
        -------
        self : ArrayNet
            In eval mode.

        Raises
        ------
        KeyboardInterrupt
            If training was interrupted.
        """
        tensors = on_device(arrays, self.device)
        needed = {"arrays": tensors or arrays, "objective": objective, "generator": generator}
        self._train(None, None, split=(train, valid), **needed)
        self.module_.eval().requires_grad_(False)
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.initialized_:
            self.module_.requires_grad_(False)

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> tuple[Any, Any]:
        """Return the rows of the two parts of the split."""
        return self._during_fit["split"]

    def get_iterator(self, dataset: Any, training: bool = False) -> ArrayBatches:
        """Return the batches of one pass."""
        arrays, generator = (self._during_fit[name] for name in ("arrays", "generator"))
        if training:
            return ArrayBatches(arrays, dataset, self.batch_size, shuffle=True, generator=generator)
        return ArrayBatches(arrays, dataset, _VALID_ROWS)

    def train_step_single(self, batch: tuple[Any, Any], **fit_params: Any) -> dict[str, Any]:
        """Compute the loss of a batch and its gradients."""
        self._set_training(True)
        arrays, _ = batch
        outputs, loss, trained = self._losses(arrays)
        trained.backward()
        return {"loss": loss, "y_pred": outputs}

    def validation_step(self, batch: tuple[Any, Any], **fit_params: Any) -> dict[str, Any]:
        """Compute the loss of a batch, in eval mode."""
        self._set_training(False)
        arrays, _ = batch
        with torch.no_grad():
            outputs, loss, _ = self._losses(arrays)
        return {"loss": loss, "y_pred": outputs}

    def _losses(self, arrays: dict[str, torch.Tensor]) -> tuple[Any, torch.Tensor, torch.Tensor]:
        return self._during_fit["objective"](self.module_, arrays, len(self.history))


def make_array_net(
    params: Any,
    module: nn.Module | type[nn.Module],
    device: torch.device,
    reserved: dict[str, str | None],
    owner: str,
    *,
    stopping: Callable[..., Any] = EarlyStopping,
    own: Sequence[Any] = (),
    **defaults: Any,
) -> ArrayNet:
    """Make the skorch net that trains an explanation, not initialised.

    Parameters
    ----------
    params : object
        Has the explainer's parameters ``net_params``, ``validation_split``, ``patience``, ``lr``,
        ``max_epochs`` and ``verbose``.
    module : nn.Module or type
        The module to train, or a class that is called with the ``module__...`` in `defaults`.
    device : torch.device
        Where to train.
    reserved : dict of str to (str or None)
        More names that ``net_params`` may not have, and the explainer's parameter for each.
    owner : str
        The explainer's name.
    stopping : callable, default=EarlyStopping
        Makes the callback that stops training early.
    own : list of (str, skorch.callbacks.Callback), default=()
        Callbacks of the explainer itself, beside those in ``net_params``.
    **defaults : object
        Parameters of the net that ``net_params`` may replace.

    Returns
    -------
    net : ArrayNet

    Raises
    ------
    ValueError
        If ``net_params`` has a name that is unknown, or that is set elsewhere.
    """
    extra = check_net_params(params.net_params, owner, _RESERVED | reserved)
    for name in extra:
        if name.startswith(("iterator_", "dataset", "module__")):
            raise ValueError(
                f"net_params may not have {name!r}: the module is made, and batches are cut from "
                "arrays, as a whole; set net_params={'batch_size': ...}."
            )
    callbacks = [*(extra.pop("callbacks", None) or []), *own]
    if params.validation_split is not None:
        stop = stopping(patience=int(params.patience), load_best=True)
        # Last: callbacks after it would not be called for the epoch in which it stops.
        callbacks = [*callbacks, ("early_stopping", stop)]
    settings = {"optimizer": torch.optim.Adam, "lr": params.lr, "verbose": params.verbose}
    return ArrayNet(
        module,
        criterion=nn.MSELoss,  # skorch requires one
        callbacks=callbacks,
        train_split=None,
        max_epochs=int(params.max_epochs),
        device=str(device),
        **(settings | defaults | extra),
    )


def loss_curves(net: NeuralNet) -> tuple[list[float], list[float] | None]:
    """Return training and validation losses of every epoch, None without validation.

    Parameters
    ----------
    net : NeuralNet
        After training.

    Returns
    -------
    train, valid : list of float, list of float or None
    """
    names = [name for name in ("train_loss", "valid_loss") if name in net.history[0]]
    curves = [[float(loss) for loss in net.history[:, name]] for name in names]
    return curves[0], curves[1] if len(curves) > 1 else None
