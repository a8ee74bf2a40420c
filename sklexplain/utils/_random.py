"""Seeds and random generators."""

import threading
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.utils import check_random_state

# All threads share the global generators. Whoever seeds them holds this lock until they are
# restored; otherwise two threads could draw from each other's seeds, or leave them seeded.
GENERATOR_LOCK = threading.RLock()


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
    """Copy samples that are needed after fit: all of them, or a random subset.

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
    """Seed torch's generators inside a with block, and restore them afterwards.

    Other threads that want to seed them wait until then.

    Parameters
    ----------
    seed : int
        The seed.

    device : str or torch.device, default="cpu"
        A device whose generator is seeded, too, besides the CPU's.

    Yields
    ------
    None
    """
    device = torch.device(device)
    cuda = device.type == "cuda"
    index = torch.cuda.current_device() if cuda and device.index is None else device.index
    with GENERATOR_LOCK, torch.random.fork_rng(devices=[index] if cuda else []):
        # Not torch.manual_seed, which seeds all GPUs, also those that are not restored here.
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(index):
                torch.cuda.manual_seed(seed)
        yield
