"""Eval mode inside a with block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in eval mode inside a with block; restore each submodule's mode afterwards.

    Parameters
    ----------
    module : torch.nn.Module
        The module.

    Yields
    ------
    None
    """
    training = [part for part in module.modules() if part.training]
    gradients = torch.is_grad_enabled()
    try:
        module.eval()
        yield
    finally:
        for part in training:
            part.training = True
        # Ctrl-C just as a torch.no_grad() inside begins leaves them off.
        torch.set_grad_enabled(gradients)
