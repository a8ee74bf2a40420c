"""Variance scores of networks where one linear layer follows elementwise functions and pooling."""

import torch
from torch import nn

from ._functions import _ROUNDING

# Exact types, as a subclass may do anything.
ELEMENTWISE = (
    *(nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.AlphaDropout, nn.FeatureAlphaDropout, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Softplus, nn.Softsign, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Tanhshrink),
    *(nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Hardshrink, nn.Softshrink, nn.Threshold),
)
POOLING: dict[type[nn.Module], int] = {  # and the number of axes that they pool
    **{nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3},
    **{nn.AvgPool1d: 1, nn.AvgPool2d: 2, nn.AvgPool3d: 3},
}
# Numbers in one intermediate result of a block of samples: what fits a cache.
_CACHED = 2**17


def is_plain(step, kinds):
    """Say whether a call works as the type of its module does, and that elementwise or by windows.

    Parameters
    ----------
    step : Step
        A call of a module.
    kinds : collection of type
        Which types it may be of.

    Returns
    -------
    plain : bool
        Also False if the module has hooks, which may do anything.
    """
    part = step.module
    if type(part) not in kinds or part._forward_hooks or part._forward_pre_hooks:
        return False
    if isinstance(part, nn.Flatten):
        return part.start_dim == 1 and part.end_dim == -1
    if isinstance(part, nn.modules.batchnorm._BatchNorm):
        return part.running_mean is not None and not part.training
    if type(part) not in POOLING:
        return True
    if step.given.ndim != POOLING[type(part)] + 2 or part.ceil_mode:
        return False
    size, stride, padding, dilation = (
        _as_tuple(getattr(part, name, 1), POOLING[type(part)])
        for name in ("kernel_size", "stride", "padding", "dilation")
    )
    return size == stride and set(padding) == {0} and set(dilation) == {1}


def _as_tuple(value, n):
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * n


def windows(spatial, parts):
    """Return the pooled window that each position falls into; any for those in none.

    Parameters
    ----------
    spatial : sequence of int
        Sizes of the axes of positions.
    parts : list of torch.nn.Module
        What works on them; of these, some pool.

    Returns
    -------
    window : torch.Tensor of int64 of shape (n_positions,)
    """
    axes = [torch.arange(size) for size in spatial]
    for part in parts:
        if type(part) in POOLING:
            sizes = _as_tuple(part.kernel_size, len(axes))
            lengths = [(int(axis[-1]) + 1) // size for axis, size in zip(axes, sizes, strict=True)]
            axes = [
                (axis // size).clamp(max=length - 1)
                for axis, size, length in zip(axes, sizes, lengths, strict=True)
            ]
    window = axes[0]
    for axis in axes[1:]:
        window = window[..., None] * (axis[-1] + 1) + axis
    return window.flatten()


class FactoredVariance(torch.autograd.Function):
    """Mean variance score from factors, with its gradients, block by block in a cache.

    The maps of unit u are the sums over channels of slopes (n, n_channels, n_positions) times
    weights (n_channels, n_units, n_positions).
    """

    @staticmethod
    def forward(ctx, slopes, weights):
        """Compute the score, and already both gradients."""
        n, n_channels, n_positions = slopes.shape
        n_units = weights.shape[1]
        weights = weights.contiguous()
        slope_gradients = torch.empty_like(slopes, memory_format=torch.contiguous_format)
        weight_gradients = torch.zeros_like(weights)
        score = slopes.new_zeros(())
        size = max(1, _CACHED // (n_units * n_positions))
        for start in range(0, n, size):
            block = slopes[start : start + size, :, None]  # (b, n_channels, 1, n_positions)
            maps = block[:, 0] * weights[0]  # n_channels times the mean: scaling undoes that
            for c in range(1, n_channels):
                maps.addcmul_(block[:, c], weights[c])
            value, gradients = _scaled_variance(maps)
            score += value
            for c in range(n_channels):
                slope_gradients[start : start + size, c] = (gradients * weights[c]).sum(dim=1)
                if len(block) == 1:
                    weight_gradients[c].addcmul_(gradients[0], block[0, c])
                else:
                    weight_gradients[c] += (gradients * block[:, c]).sum(dim=0)
        factor = 1 / (n_units * n_positions * n)
        ctx.save_for_backward(slope_gradients.mul_(2 * factor), weight_gradients.mul_(2 * factor))
        return score.mul_(factor)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        """Scale the gradients."""
        slope_gradients, weight_gradients = ctx.saved_tensors
        return slope_gradients * gradient, weight_gradients * gradient


def _scaled_variance(maps):
    """Sum of squared deviations of scaled maps from their mean over units, and half its gradient.

    With s = (m - low) / (high - low), the derivative of s in low is (s - 1) / (high - low) and in
    high -s / (high - low).

    Parameters
    ----------
    maps : tensor of shape (b, n_units, n_positions)
        Overwritten.

    Returns
    -------
    value : tensor of shape ()
        The sum.
    gradients : tensor of shape (b, n_units, n_positions)
        Half its gradient; the same memory as ``maps``.
    """
    low, at_low = maps.min(dim=-1, keepdim=True)
    high, at_high = maps.max(dim=-1, keepdim=True)
    width = high - low
    rounding = _ROUNDING * torch.finfo(maps.dtype).eps * torch.maximum(low.abs(), high.abs())
    inverse = torch.where(width > rounding, 1 / width, 0)
    maps.sub_(low).mul_(inverse)
    deviation = maps - maps.mean(dim=1, keepdim=True)
    value = deviation.square().sum()
    total = deviation.sum(dim=-1, keepdim=True)
    aligned = (deviation * maps).sum(dim=-1, keepdim=True)
    gradients = deviation.mul_(inverse)
    gradients.scatter_add_(-1, at_low, inverse * (aligned - total))
    gradients.scatter_add_(-1, at_high, -inverse * aligned)
    return value, gradients
