"""Outputs that are not finite."""

import torch


class NotFiniteError(ValueError):
    """The network returned NaN or infinity, in some row of a batch."""


def check_finite(z):
    """Raise if the output of a batch is not finite.

    Parameters
    ----------
    z : torch.Tensor of shape (b, N)

    Raises
    ------
    NotFiniteError
        Naming the first row.
    """
    total = z.detach().sum()  # one pass over the numbers; a sum of finite ones may overflow
    if torch.isfinite(total):
        return
    position = not_finite_row(z)
    if position is not None:
        raise NotFiniteError(not_finite_text(f"sample {position}"))


def not_finite_row(z):
    """Return the first row of (b, N) that is not finite, None if all are."""
    bad = ~torch.isfinite(z.detach()).all(dim=1)
    return int(bad.nonzero()[0, 0]) if bad.any() else None


def not_finite_text(where):
    """Words of the error about an output that is not finite."""
    return (
        f"the network's output is not finite (NaN or infinity) for {where}; check its weights, and "
        "whether X has the scale that it was trained on."
    )
