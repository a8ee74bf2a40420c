"""Completeness: whether the attributions of each sample have the sum that they should have."""

import numpy as np
import torch
from scipy import stats

from ..exceptions import ConvergenceWarning
from ..utils import warn

MAX_ERROR = 0.05
# Differences of representations below this share of their length are rounding in float32.
_FLOOR = 1e-4
# Share of false alarms among batches of samples whose errors are those of sampling.
_ALPHA = 1e-3


def completeness_errors(
    maps, z, z_ref, cotangents, squares=None, n_draws=1, *, eps=0.0, by_mass=False
):
    """Errors of the sums of attributions, relative to the largest sum that there could be.

    Parameters
    ----------
    maps : tensor of shape (n, k, ...)
        Attributions.
    z : tensor of shape (n, N)
        Representations of the samples.
    z_ref : tensor of shape (n or 1, N)
        Mean representations of the baselines.
    cotangents : tensor of shape (n, k, N)
        c_j: the sums should be <c_j, z - z_ref>.
    squares : tensor of shape (n, k) or None, default=None
        Where sums are means over random draws: the mean of the draws' squares.
    n_draws : int, default=1
        How many draws there are.
    eps : float, default=0.0
        Relative rounding error of the network, where it is larger than that of ``z``.
    by_mass : bool, default=False
        Whether errors are relative to the sum of absolute attributions where that is larger, for
        functions of one number a sample, whose difference to the baseline may be any fraction of
        what is shared out.

    Returns
    -------
    errors : ndarray of shape (n,)
        Of every sample's worst map.
    scores : ndarray of shape (n,)
        Largest miss in standard errors; infinite if there are none.
    """
    dz, cotangents = (z - z_ref).double(), cotangents.double()
    sums = maps.flatten(2).double().sum(dim=2)
    missed = (sums - torch.einsum("bn,bkn->bk", dz, cotangents)).abs()
    # The product of lengths, not the inner product: that may be small by cancellation.
    # And no less than what rounding can make of it.
    share = max(_FLOOR, 64 * max(torch.finfo(z.dtype).eps, eps))
    floor = share * torch.maximum(*torch.broadcast_tensors(_length(z), _length(z_ref)))
    size = _length(dz).clamp(min=floor) * cotangents.norm(dim=2)
    if by_mass:
        size = torch.maximum(size, maps.flatten(2).double().abs().sum(dim=2))
    errors = torch.where(size > 0, missed / torch.where(size > 0, size, 1.0), 0.0)
    scores = torch.full_like(errors, torch.inf)
    if squares is not None:
        deviation = standard_errors(sums, squares, n_draws, size)
        scores = torch.where(missed > 0, missed / deviation, 0.0)
    return errors.amax(dim=1).cpu().numpy(), scores.amax(dim=1).cpu().numpy()


def _length(z):
    return z.double().norm(dim=1, keepdim=True)


def standard_errors(sums, squares, n_draws, size):
    """Estimate standard errors of means over draws.

    A place where the gradient is large may have been hit by no draw. So one more draw is counted,
    which misses by ``size``.

    Parameters
    ----------
    sums, squares : tensor
        Mean, and mean of squares, over the draws.
    n_draws : int
        Number of draws; of a single one nothing is known.
    size : tensor
        How large a draw may be.

    Returns
    -------
    errors : tensor
    """
    if n_draws == 1:
        return torch.full_like(sums, torch.inf)
    variances = (squares - sums**2).clamp(min=0) + size**2 / n_draws
    return (variances / (n_draws - 1)).sqrt()


def beyond_sampling(n_maps, n_draws):
    """Return the miss, in standard errors, that hardly any of so many maps reaches by chance.

    Parameters
    ----------
    n_maps : int
        Number of samples times number of maps per sample.
    n_draws : int
        Number of draws.

    Returns
    -------
    bound : float
    """
    return float(stats.t.isf(_ALPHA / 2 / max(1, n_maps), max(1, n_draws - 1)))


def warn_incomplete(errors, advice, *, what, items):
    """Warn if some samples' attributions miss their sum by over 5 %.

    Parameters
    ----------
    errors : ndarray of shape (n,)
        Relative error of every sample; 0 if random draws explain it.
    advice : callable
        Called with the positions of the worst samples, worst first; returns what to do.
    what : str
        Name of the attributions.
    items : str
        Name of the samples.

    Warns
    -----
    ConvergenceWarning
        Saying for how many, and naming the worst.
    """
    n_wrong = int(np.sum(errors > MAX_ERROR))
    if n_wrong:
        order = np.argsort(-errors, kind="stable")[:n_wrong]
        worst = order[0]
        warn(
            f"{what} miss the sum they should have by more than {MAX_ERROR:.0%} for {n_wrong} of "
            f"{len(errors)} {items} (number {worst} by {errors[worst]:.1%}): {advice(order)}.",
            ConvergenceWarning,
        )
