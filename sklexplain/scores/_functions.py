"""The scores as functions of maps; positions are the last axis.

Maps of a layer p are those of `sklexplain.layers`: A_p(x), aggregated over channels and
output units, or one for every output unit, aggregated over channels only.
"""

import numpy as np
import torch

from ..layers import rounding_of

# Maps that vary by less, relative to their largest value, vary by rounding only.
_ROUNDING = 16


def min_max_scaled(maps, sizes=None):
    """Scale every map to [0, 1]; a map that is constant up to rounding becomes zeros.

    Parameters
    ----------
    maps : tensor of shape (..., n_positions)
        Maps, of any floating dtype.
    sizes : tensor of the same shape, or with one position, or None, default=None
        How large what was aggregated to each number is (`sklexplain.layers.aggregate_with_size`);
        None: as the maps themselves.

    Returns
    -------
    scaled : tensor of shape (..., n_positions)
        At least float32; differentiable, with finite gradients also where a map is constant.
    """
    maps, low, span, varies = _measured(maps, sizes)
    # Constant maps are divided by one, which avoids 0 / 0 also in the gradient.
    scaled = (maps - low) / torch.where(varies, span, torch.ones_like(span))
    return torch.where(varies, scaled, torch.zeros_like(scaled))


def scaled_maps(layers):
    """Scale the maps of all layers, pairs of maps and sizes; see `min_max_scaled`."""
    return [min_max_scaled(maps, sizes) for maps, sizes in layers]


def map_ranges(maps, sizes=None):
    """Largest minus smallest value of every map, 0 of those that are constant up to rounding.

    Parameters
    ----------
    maps, sizes
        See `min_max_scaled`.

    Returns
    -------
    ranges : tensor of float64 of shape (...)
    """
    _, _, span, varies = _measured(maps, sizes)
    return (span.double() * varies).squeeze(-1)


def _measured(maps, sizes):
    """Return maps in at least single precision, their minima, ranges, and whether these count."""
    sizes = None if sizes is None else sizes.detach().amax(dim=-1, keepdim=True)
    if maps.dtype.itemsize < 4:
        maps = maps.float()  # half precision is too coarse for differences
    low, high = maps.amin(dim=-1, keepdim=True), maps.amax(dim=-1, keepdim=True)
    span = high - low
    rounding = _ROUNDING * torch.finfo(maps.dtype).eps * torch.maximum(low.abs(), high.abs())
    if sizes is not None:
        rounding = torch.maximum(rounding, rounding_of(sizes).to(rounding))
    return maps, low, span, span > rounding


def noise_scores(scaled, scaled_noise):
    """Mean absolute difference of scaled maps to those of noise inputs, equation (1).

    Parameters
    ----------
    scaled : tensor of shape (..., n, n_positions)
        Scaled maps of samples.
    scaled_noise : tensor of shape (..., n_noise, n_positions)
        Scaled maps of noise inputs.

    Returns
    -------
    scores : tensor of shape (..., n)
        In [0, 1], the mean over noise inputs and positions.
    """
    distances = torch.cdist(scaled, scaled_noise, p=1)
    return distances.mean(dim=-1) / scaled.shape[-1]


def excess_over_benchmark(noise_score, benchmark, rounding=0.0, collapsed=np.nan):
    """How much of N + N⁰ is in favour of the samples: mean over layers of (N - N⁰) / (N + N⁰).

    Parameters
    ----------
    noise_score, benchmark : ndarray of shape (..., n_layers)
        N and N⁰.
    rounding : float, default=0.0
        What is not larger counts as 0.
    collapsed : float, default=nan
        What a layer with N⁰ = 0 and a larger N counts as: a benchmark of maps that are all alike
        is none.

    Returns
    -------
    excess : ndarray of shape (...)
        In [-1, 1]; a layer whose maps are all alike, N = N⁰ = 0, counts as 0.
    """
    total = noise_score + benchmark
    ratio = (noise_score - benchmark) / (total + (total == 0))
    equal = np.maximum(noise_score, benchmark) <= rounding
    has_none = (benchmark <= rounding) & (noise_score > rounding)
    return np.where(has_none, collapsed, np.where(equal, 0.0, ratio)).mean(axis=-1)


class UnitVariance:
    """Variance over output units of scaled maps, accumulated block by block; equation (3).

    Parameters
    ----------
    threshold : float or None, default=None
        Scaled maps above it become 1 and the others 0.

    Attributes
    ----------
    n_units : int
        Number of units added so far.
    """

    def __init__(self, threshold=None):
        self.threshold = threshold
        self.n_units = 0
        self._sum = self._squares = 0.0

    def add(self, maps, sizes=None):
        """Add the maps of a block of units.

        Parameters
        ----------
        maps : tensor of shape (k, ..., n_positions)
            Not scaled yet.
        sizes : tensor or None, default=None
            See `min_max_scaled`.

        Returns
        -------
        self : UnitVariance
        """
        scaled = binarised(min_max_scaled(maps, sizes), self.threshold).double()
        # In float64 the difference of the two sums loses nothing: values are at most 1.
        self._sum = self._sum + scaled.sum(dim=0)
        self._squares = self._squares + scaled.square().sum(dim=0)
        self.n_units += len(maps)
        return self

    def scores(self):
        """Return the population variance (ddof = 0) over units, averaged over positions: (...)."""
        mean = self._sum / self.n_units
        variance = self._squares / self.n_units - mean.square()
        return variance.clamp(min=0).mean(dim=-1)


def subset_variances(maps, member, threshold=None, sizes=None):
    """Variance over subsets of the units, as of `UnitVariance`, averaged over positions.

    Parameters
    ----------
    maps : tensor of shape (n_units, b, n_positions)
        Not scaled yet.
    member : tensor of shape (n_subsets, n_units), float64
        1 where a unit is in a subset, else 0.
    threshold : float or None, default=None
        See `UnitVariance`.
    sizes : tensor or None, default=None
        See `min_max_scaled`.

    Returns
    -------
    variances : tensor of shape (n_subsets, b)
    """
    scaled = binarised(min_max_scaled(maps, sizes), threshold).double()
    share = member / member.sum(dim=1, keepdim=True)
    means = torch.tensordot(share, scaled, dims=1)  # (n_subsets, b, n_positions)
    squares = share @ scaled.square().mean(dim=2)
    return (squares - means.square().mean(dim=2)).clamp(min=0)


def binarised(scaled, threshold):
    """Return maps as they are, or {0, 1} by a threshold."""
    return scaled if threshold is None else (scaled > threshold).to(scaled.dtype)
