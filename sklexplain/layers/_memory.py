"""How many rows run at once: what the processor's cache holds, or what a GPU has free."""

from __future__ import annotations

import torch

from ..utils import BatchSize

# Larger blocks do not fit the processor's cache.
_CACHE_BYTES = 12 * 2**20
# cuDNN takes fewer than 2**31 numbers in a tensor; these are fewer even in half precision.
_MOST_BYTES = 2**32 - 1
# Of what a GPU has free, as others may use it too; and what a pass needs beside each byte that it
# keeps: the gradients, which are as large, and room to work.
_SHARE, _PER_KEPT_BYTE = 0.5, 3
# Rows at once where nobody says how many; on a GPU more would gain nothing.
_CPU_ROWS, _GPU_ROWS = 1024, 2**18


def free_bytes(device: torch.device) -> int | None:
    """Return the memory that a device has free for torch; None where it cannot be asked.

    Parameters
    ----------
    device : torch.device
        Any but the CPU.

    Returns
    -------
    n_bytes : int or None
    """
    if device.type != "cuda" or not torch.cuda.is_available():
        return None
    # What torch holds on to but does not use is as good as free.
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def block_bytes(device: torch.device) -> int:
    """Return how much memory a block of rows may keep for its backward pass.

    Parameters
    ----------
    device : torch.device
        Where it runs.

    Returns
    -------
    n_bytes : int
    """
    if device.type == "cpu":
        return _CACHE_BYTES
    free = free_bytes(device)
    return _MOST_BYTES if free is None else min(_MOST_BYTES, int(_SHARE * free) // _PER_KEPT_BYTE)


def fitting_rows(batch_size: int, row_bytes: int, device: torch.device, *, at_least: int) -> int:
    """Return how many rows fit into the processor's cache, or the memory meant for a block.

    Parameters
    ----------
    batch_size : int
        Most rows allowed.
    row_bytes : int
        Memory of one row.
    device : torch.device
        Where they are run.
    at_least : int
        Fewest rows, unless ``batch_size`` is smaller: fewer would be inefficient.

    Returns
    -------
    n_rows : int
    """
    return min(batch_size, max(at_least, block_bytes(device) // row_bytes))


def most_rows(batch_size: BatchSize, row_bytes: int, device: torch.device) -> int:
    """Return the number of rows that ``batch_size`` allows, and a GPU has room for.

    Parameters
    ----------
    batch_size : int or "auto"
        The parameter of an explainer.
    row_bytes : int
        Memory of one row.
    device : torch.device
        Where they are run.

    Returns
    -------
    n_rows : int
        On a CPU just what is asked for, whatever the size of a row.

    Examples
    --------
    >>> import torch
    >>> from sklexplain.layers import most_rows
    >>> most_rows("auto", 100, torch.device("cpu")), most_rows(64, 100, torch.device("cpu"))
    (1024, 64)
    """
    if device.type == "cpu":
        return _CPU_ROWS if batch_size == "auto" else batch_size
    allowed = _GPU_ROWS if batch_size == "auto" else batch_size
    return fitting_rows(allowed, row_bytes, device, at_least=1)


def fits(n_bytes: int, device: torch.device) -> bool:
    """Tell whether data may lie on a device for a while, and leave most of its memory free.

    Parameters
    ----------
    n_bytes : int
        Of the data.
    device : torch.device
        Any but the CPU.

    Returns
    -------
    fits : bool
        False where the device cannot be asked.
    """
    free = free_bytes(device)
    return free is not None and n_bytes <= free // 4
