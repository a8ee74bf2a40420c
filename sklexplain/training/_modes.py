"""Eval mode inside a with block."""

from contextlib import contextmanager

import torch


@contextmanager
def evaluating(module):
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
