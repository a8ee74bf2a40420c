"""Whether the rows of a layer's activations are those of the samples."""

from __future__ import annotations

from typing import Any

import torch

_aten = torch.ops.aten
# Operations that take rows from elsewhere, or put rows behind others, along an axis.
_ALONG = {
    _aten.index_select.default,
    _aten.gather.default,
    _aten.scatter.src,
    _aten.index_copy.default,
    _aten.index_add.default,
}
_JOINING = {_aten.cat.default, _aten.stack.default}

N_TRIED = 8  # samples of a trial
_TOLERANCE = 1e-3  # of the largest activation: rows are rounded differently at other places


def moves_rows(func: Any, args: tuple[Any, ...]) -> bool:
    """Tell whether an operation of torch may move rows along the first axis.

    Parameters
    ----------
    func : callable
        The operation, as a dispatch mode is given it.
    args : tuple
        What it is called with.

    Returns
    -------
    moves : bool
        Whether it picks rows by number, turns their order round, or puts rows behind others.
    """
    if func is _aten.index.Tensor:
        return args[1][0] is not None
    if func in (_aten.index_put.default, _aten.index_put_.default):
        return args[1][0] is not None
    if func in _ALONG:
        return args[1] in (0, -args[0].dim())
    if func in _JOINING:
        return len(args[0]) > 1 and (args[1] if len(args) > 1 else 0) in (0, -args[0][0].dim())
    if func is _aten.flip.default:
        return any(axis in (0, -args[0].dim()) for axis in args[1])
    return func is _aten.roll.default and (
        len(args) < 3 or not args[2] or any(axis in (0, -args[0].dim()) for axis in args[2])
    )


def check_rows(tensor: object, axis: int, n_samples: int, n_units: int, what: str) -> None:
    """Raise unless a tensor has a row for every sample of a batch.

    Which axis follows the samples was seen in a pass of few samples, but a network may run a part
    of itself on pieces of a large batch, or on those samples only that it concerns.

    Parameters
    ----------
    tensor : object
        What was seen in the pass: a tensor, or None where nothing was.
    axis : int
        The axis that follows the samples.
    n_samples : int
        Size of the batch.
    n_units : int
        How many numbers there are of one sample. A network may drop the axis for a single one.
    what : str
        What has these numbers, for the error message.

    Raises
    ------
    ValueError
        If it has more or fewer rows.
    """
    if isinstance(tensor, torch.Tensor):
        if tensor.shape[axis : axis + 1] == (n_samples,):
            return
        if n_samples == 1 and tensor.numel() == n_units:
            return
        seen = f"has shape {tuple(tensor.shape)} in a batch of {n_samples} samples"
    else:
        seen = f"is not reached by a batch of {n_samples} samples"
    raise ValueError(
        f"{what} {seen}, though one of its axes follows the samples where there are two or three: "
        "the network runs it on a part of a batch, or on some samples only, so nobody knows whose "
        "numbers these are. Run no more samples at once than are in such a part (batch_size), or "
        "look at another layer."
    )


def check_order(z: torch.Tensor, of_reversed: torch.Tensor, what: str) -> None:
    """Raise unless a layer's rows change places with the samples.

    Parameters
    ----------
    z : torch.Tensor of shape (b, ...)
        Activations of some samples that are unlike.
    of_reversed : torch.Tensor of shape (b, ...)
        Those of the same samples from the last to the first.
    what : str
        What has these activations, for the error message.

    Raises
    ------
    ValueError
        If they do not: networks may sort samples before a layer.
    """
    found = of_reversed.flip(0)
    if not (torch.isfinite(found).all() and torch.isfinite(z).all()):
        return  # which is said where it is computed
    if not ((found - z).abs() <= _TOLERANCE * z.abs().max()).all():
        raise ValueError(
            f"{what} has other rows in another order of the samples: the network sorts samples, or "
            "mixes them, before it, so nobody knows whose numbers these are. Look at another layer."
        )
