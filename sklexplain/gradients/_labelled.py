"""Samples with their targets, which batches, blocks and single rows are cut of together."""

from __future__ import annotations

from typing import Any

import torch


class Labelled:
    """Samples and their targets: takes the place of an array of samples alone.

    Parameters
    ----------
    x : ndarray or torch.Tensor of shape (n, ...)
        Samples.
    y : ndarray or torch.Tensor of shape (n, ...)
        Their targets.

    Examples
    --------
    >>> import numpy as np
    >>> from sklexplain.gradients import Labelled
    >>> both = Labelled(np.eye(3), np.arange(3))[1:]
    >>> len(both), both.shape, both.y.tolist()
    (2, (2, 3), [1, 2])
    """

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Any) -> Labelled:
        """Return rows of both: a slice or an array of positions."""
        return Labelled(self.x[rows], self.y[rows])

    @property
    def shape(self) -> torch.Size:
        """Of the samples."""
        return self.x.shape

    @property
    def dtype(self) -> torch.dtype:
        """Of the samples."""
        return self.x.dtype

    @property
    def device(self) -> torch.device:
        """Of the samples."""
        return self.x.device


def samples_of(batch: Any) -> Any:
    """Return the samples of a batch, with or without targets."""
    return batch.x if isinstance(batch, Labelled) else batch


def targets_of(batch: Any) -> Any:
    """Return the targets of a batch, None if it has none."""
    return batch.y if isinstance(batch, Labelled) else None
