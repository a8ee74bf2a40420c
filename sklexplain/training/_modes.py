"""Eval mode inside a with block."""

from contextlib import contextmanager


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
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
