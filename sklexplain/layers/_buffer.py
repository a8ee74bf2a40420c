"""Results of all samples, computed batch by batch and kept."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..utils import in_blocks

_MAX_BYTES = 2**28
_BLOCK = 1024


def activation_buffer(
    run: Callable[..., Any],
    inputs: np.ndarray | torch.Tensor,
    batch_size: int,
    max_bytes: float = _MAX_BYTES,
    *,
    finite: Sequence[str] = (),
) -> Any:
    """Run all samples, batch by batch, and keep the results.

    Parameters
    ----------
    run : callable
        From a batch of inputs to a tensor of shape (b, *shape), or to a tuple of such tensors.
    inputs : ndarray or tensor of shape (n, ...)
        Samples.
    batch_size : int
        Most samples at once.
    max_bytes : int, default=2**28
        Larger results are kept in a temporary file, which is deleted together with the array.
    finite : sequence of str, default=()
        Names of the tensors, in the plural ("the activations at layer 'a'"), if they must be
        finite.

    Returns
    -------
    buffer : ndarray of shape (n, *shape), or a tuple of them
        In memory, or a `numpy.memmap`.

    Raises
    ------
    ValueError
        If a number that must be finite is not; the message names the sample.
    OSError
        If there is no room for the temporary file.

    Examples
    --------
    >>> import torch
    >>> from sklexplain.layers import activation_buffer
    >>> activation_buffer(torch.exp, torch.zeros(5, 2), batch_size=2).shape
    (5, 2)
    """
    buffers: Any = None
    single = True
    for rows, parts in in_blocks(lambda rows: run(inputs[rows]), len(inputs), batch_size):
        start = rows.start
        single = isinstance(parts, torch.Tensor)
        arrays = [_numpy(part) for part in ((parts,) if single else parts)]
        if buffers is None:
            buffers = [_empty((len(inputs), *a.shape[1:]), a.dtype, max_bytes) for a in arrays]
        for what, array in zip(finite, arrays, strict=False):
            _check_finite(array, what, start)
        for buffer, array in zip(buffers, arrays, strict=True):
            buffer[start : start + len(array)] = array
    return buffers[0] if single else tuple(buffers)


def activation_moments(z: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the mean of every unit, and the root mean square of what is left without it.

    They are computed in blocks, as the activations may be in a file.

    Parameters
    ----------
    z : ndarray of shape (n, *shape)
        Activations.

    Returns
    -------
    mean : ndarray of shape shape, float64
    scale : float
        1 if nothing is left but rounding, which would only be blown up.

    Examples
    --------
    >>> import numpy as np
    >>> from sklexplain.layers import activation_moments
    >>> activation_moments(np.array([[8.0, 3.0], [12.0, 3.0]]))
    (array([10.,  3.]), 1.4142135623730951)
    """
    blocks = [z[i : i + _BLOCK] for i in range(0, len(z), _BLOCK)]
    mean = sum(block.sum(axis=0, dtype=np.float64) for block in blocks) / len(z)
    total = sum(float(np.square(block - mean, dtype=np.float64).sum()) for block in blocks)
    scale = float(np.sqrt(total / z.size))
    rounding = 8 * np.finfo(z.dtype).eps * np.abs(mean).max(initial=0.0)
    return mean, scale if scale > rounding else 1.0


def _check_finite(array: np.ndarray, what: str, start: int) -> None:
    with np.errstate(all="ignore"):
        # A sum is finite only if all terms are: cheaper than looking at each.
        if np.isfinite(array.sum(dtype=np.float64)):
            return
    bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if bad.any():
        raise ValueError(f"{what} are not finite for sample {start + np.flatnonzero(bad)[0]}.")


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    # In single precision, whatever half a network computes in: numpy has but one of them.
    is_half = tensor.dtype in (torch.bfloat16, torch.float16)
    return tensor.float().numpy() if is_half else tensor.numpy()


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any], max_bytes: float) -> np.ndarray:
    if np.prod(shape, dtype=np.float64) * dtype.itemsize <= max_bytes:
        return np.empty(shape, dtype)
    nbytes = int(np.prod([int(size) for size in shape], dtype=object)) * dtype.itemsize
    try:
        # The mapping keeps the file, whose name is gone already, for as long as the array lives.
        with tempfile.TemporaryFile(prefix="sklexplain-") as file:
            _reserve(file, nbytes)
            return np.memmap(file, dtype, "w+", shape=shape)
    except OSError as error:
        raise _no_room(error, nbytes) from error


def _reserve(file: Any, nbytes: int) -> None:
    """Take a file's space on the disk; a mapped page for which there is none ends the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, nbytes)
        return
    zeros = bytes(2**20)
    for start in range(0, nbytes, len(zeros)):
        file.write(zeros[: nbytes - start])
    file.flush()


def _no_room(error: OSError, nbytes: int) -> OSError:
    """Say of an error of the system what was to be kept, and where."""
    try:
        folder = tempfile.gettempdir()
        free = f"{_size(shutil.disk_usage(folder).free)} of the disk is free"
    except OSError as other:
        folder, free = tempfile.tempdir or "a temporary folder", str(other.strerror or other)
    return OSError(
        error.errno,
        f"the activations of all samples take {_size(nbytes)}, which were to be kept in a "
        f"temporary file in {folder}: {error.strerror or error} ({free}). Set the environment "
        "variable TMPDIR to a folder that has room, or give fewer samples or a smaller layer.",
    )


def _size(nbytes: float) -> str:
    """Write a number of bytes as people do."""
    units = ["TB", "GB", "MB", "kB"]
    if nbytes < 1000:
        return f"{nbytes} bytes"
    nbytes /= 1000
    while nbytes >= 1000 and len(units) > 1:
        nbytes, _ = nbytes / 1000, units.pop()
    return f"{nbytes:.1f} {units[-1]}"
