"""Seeds."""

from contextlib import contextmanager

import numpy as np
import torch
from sklearn.utils import check_random_state


def draw_seed(random_state):
    """Draw a seed without touching numpy's global generator.

    Parameters
    ----------
    random_state : int, RandomState instance or None
        None gives another seed every time; an instance moves on by one draw.

    Returns
    -------
    seed : int
        Between 0 and 2**31 - 2.
    """
    if random_state is None:
        return int(np.random.default_rng().integers(2**31 - 1))
    return int(check_random_state(random_state).randint(2**31 - 1))


def kept_rows(inputs, seed, most=1000):
    """Copy the samples that are kept for what is computed later: all, or a random subset.

    Parameters
    ----------
    inputs : ndarray of shape (n, ...)
        Samples.
    seed : int
        Of the draw.
    most : int, default=1000
        Largest number kept.

    Returns
    -------
    rows : ndarray of shape (min(n, most), ...)
        In their order.
    """
    if len(inputs) <= most:
        return inputs.copy()
    chosen = np.random.default_rng([seed, 3]).choice(len(inputs), most, replace=False)
    return inputs[np.sort(chosen)]


@contextmanager
def seeded(seed, device="cpu"):
    """Seed torch's generators inside a with block; they are as before afterwards.

    Parameters
    ----------
    seed : int
        The seed.

    device : str or torch.device, default="cpu"
        The device on which things are drawn, besides the CPU.

    Yields
    ------
    None
    """
    device = torch.device(device)
    cuda = device.type == "cuda"
    index = torch.cuda.current_device() if cuda and device.index is None else device.index
    with torch.random.fork_rng(devices=[index] if cuda else []):
        # Not torch.manual_seed, which seeds all GPUs, also those that are not restored here.
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(index):
                torch.cuda.manual_seed(seed)
        yield
