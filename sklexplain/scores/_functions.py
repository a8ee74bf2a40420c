"""The scores as functions of maps; positions are the last axis.

Maps of a layer p are those of `sklexplain.layers`: A_p(x), aggregated over channels and
output units, or one for every output unit, aggregated over channels only.
"""

import torch

# Maps that vary by less, relative to their largest value, vary by rounding only.
_ROUNDING = 16


def min_max_scaled(maps):
    """Scale every map to [0, 1]; a map that is constant up to rounding becomes zeros.

    Parameters
    ----------
    maps : tensor of shape (..., n_positions)
        Maps, of any floating dtype.

    Returns
    -------
    scaled : tensor of shape (..., n_positions)
        At least float32; differentiable, with finite gradients also where a map is constant.
    """
    if maps.dtype.itemsize < 4:
        maps = maps.float()  # half precision is too coarse for differences
    low, high = maps.amin(dim=-1, keepdim=True), maps.amax(dim=-1, keepdim=True)
    span = high - low
    rounding = _ROUNDING * torch.finfo(maps.dtype).eps * torch.maximum(low.abs(), high.abs())
    varies = span > rounding
    # Constant maps are divided by one, which avoids 0 / 0 also in the gradient.
    scaled = (maps - low) / torch.where(varies, span, torch.ones_like(span))
    return torch.where(varies, scaled, torch.zeros_like(scaled))


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


def excess_over_benchmark(noise_score, benchmark):
    """How much of N + N⁰ is in favour of the samples: mean over layers of (N - N⁰) / (N + N⁰).

    Parameters
    ----------
    noise_score, benchmark : ndarray of shape (..., n_layers)
        N and N⁰.

    Returns
    -------
    excess : ndarray of shape (...)
        In [-1, 1]; a layer whose maps are all alike, N = N⁰ = 0, counts as 0.
    """
    total = noise_score + benchmark
    ratio = (noise_score - benchmark) / (total + (total == 0))
    return ratio.mean(axis=-1)


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

    def add(self, maps):
        """Add the maps of a block of units.

        Parameters
        ----------
        maps : tensor of shape (k, ..., n_positions)
            Not scaled yet.

        Returns
        -------
        self : UnitVariance
        """
        scaled = binarised(min_max_scaled(maps), self.threshold).double()
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


def subset_variances(maps, member, threshold=None):
    """Variance over subsets of the units, as of `UnitVariance`, averaged over positions.

    Parameters
    ----------
    maps : tensor of shape (n_units, b, n_positions)
        Not scaled yet.
    member : tensor of shape (n_subsets, n_units), float64
        1 where a unit is in a subset, else 0.
    threshold : float or None, default=None
        See `UnitVariance`.

    Returns
    -------
    variances : tensor of shape (n_subsets, b)
    """
    scaled = binarised(min_max_scaled(maps), threshold).double()
    share = member / member.sum(dim=1, keepdim=True)
    means = torch.tensordot(share, scaled, dims=1)  # (n_subsets, b, n_positions)
    squares = share @ scaled.square().mean(dim=2)
    return (squares - means.square().mean(dim=2)).clamp(min=0)


def binarised(scaled, threshold):
    """Return maps as they are, or {0, 1} by a threshold."""
    return scaled if threshold is None else (scaled > threshold).to(scaled.dtype)
