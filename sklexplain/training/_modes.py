"""Eval mode for a while."""

from contextlib import contextmanager


@contextmanager
def evaluating(module):
    """Put a module in eval mode inside a with block, each submodule back as it was afterwards.

    Parameters
    ----------
    module : torch.nn.Module
        The module.

    Yields
    ------
    None
    """
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
