"""The noise and the variance score of a network as functions that can be trained on."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..representation._points import Point, watching
from ..scores._functions import _ROUNDING, min_max_scaled, noise_scores

# Exact types: a subclass may do anything.
_ELEMENTWISE = (
    *(nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.AlphaDropout, nn.FeatureAlphaDropout, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Softplus, nn.Softsign, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Tanhshrink),
    *(nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Hardshrink, nn.Softshrink, nn.Threshold),
)
_POOLING = {  # and the number of axes that they pool
    **{nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3},
    **{nn.AvgPool1d: 1, nn.AvgPool2d: 2, nn.AvgPool3d: 3},
}
_PIECEWISE_LINEAR = (
    *("Relu", "LeakyRelu", "PreluKernel", "RreluWithNoise", "Hardtanh", "Threshold"),
    *("Hardsigmoid", "Hardshrink", "Softshrink"),
)

# Numbers in one intermediate result of a block of samples: what fits a cache; and what autograd,
# which keeps several of them, may take.
_CACHED = 2**17
_KEPT = 2**20


@dataclass
class Step:
    """One call of a module without submodules."""

    module: nn.Module
    given: object
    given_version: int | None  # how often it had been written to
    made: object = None
    made_version: int | None = None


@dataclass
class Pass:
    """What one forward pass made of a batch.

    Attributes
    ----------
    point : Point
        The layer.
    activations : torch.Tensor
        At the layer, as the network has them.
    passed_on : torch.Tensor
        The copy of them that goes on.
    embedding : torch.Tensor of shape (n, n_units)
        The output.
    steps : list of Step
        Calls after the layer.
    """

    point: Point
    activations: torch.Tensor
    passed_on: torch.Tensor
    embedding: torch.Tensor
    steps: list

    @cached_property
    def factors(self):
        """See `linear_factors`."""
        return linear_factors(self)

    @cached_property
    def arranged(self):
        """Activations and their gradients of all units.

        Shapes (n, n_channels, n_positions), (n_units, n, n_channels, n_positions).
        """
        gradients = unit_gradients(self.embedding, self.activations)
        first, second = self.point.batch_axis + 1, self.point.channel_axis
        if second is None:
            gradients = gradients.movedim(first, 1).unsqueeze(2)
        else:
            gradients = gradients.movedim((first, second + 1), (1, 2))
        return self.point.arrange(self.activations).flatten(2), gradients.flatten(3)


def run(call, point, x, modules):
    """Run a network and keep what its scores are computed from.

    Parameters
    ----------
    call : callable
        The network: (n, ...) to (n, n_units).
    point : Point
        The layer, its output.
    x : torch.Tensor of shape (n, ...)
        The inputs.
    modules : iterable of torch.nn.Module
        All parts of the network.

    Returns
    -------
    record : Pass
    """
    kept, steps = [], []

    def at_layer(tensor):
        kept[:] = [tensor]
        steps.clear()

    def passed_on(_module, _inputs, made):
        if not point.items:
            kept[1:] = [made]

    def enter(part, inputs):
        given = inputs[0] if len(inputs) == 1 else None
        steps.append(Step(part, given, getattr(given, "_version", None)))

    def leave(part, _inputs, made):
        step = next((s for s in reversed(steps) if s.module is part and s.made is None), None)
        if step is not None:
            step.made, step.made_version = made, getattr(made, "_version", None)

    attention = sdpa_kernel(SDPBackend.MATH)  # the fused kernels have no second derivative
    with torch.enable_grad(), attention, watching([(point, at_layer)]), ExitStack() as hooks:
        handles = [point.module.register_forward_hook(passed_on)]
        for part in modules:
            if part is not point.module and next(part.children(), None) is None:
                handles.append(part.register_forward_pre_hook(enter))
                handles.append(part.register_forward_hook(leave))
        for handle in handles:
            hooks.callback(handle.remove)
        z = call(x)
    activations, copy = kept if len(kept) == 2 else (*kept, None)
    return Pass(point, activations, copy, z if z.ndim == 2 else z.flatten(1), steps)


def add_gradients(forward, x, noise, lambda_noise, lambda_variance):
    """Add the gradients of -lambda_noise · N - lambda_variance · V to those of the parameters.

    Parameters
    ----------
    forward : callable
        Inputs to a `Pass`.
    x : torch.Tensor of shape (n, ...)
        The samples.
    noise : torch.Tensor of shape (n_noise, ...)
        The noise inputs that every sample is compared with; not used if `lambda_noise` is 0.
    lambda_noise, lambda_variance : float
        The weights.

    Returns
    -------
    scores : dict of str to torch.Tensor of shape ()
        The noise score N, if it has a weight, and the variance score V, if it has one.
    """
    scores = {}
    if lambda_noise:
        # Each block of samples adds to what these maps' own pass back begins with.
        noise_graph = noise_maps(forward(noise))
        noise_leaf = noise_graph.detach().requires_grad_()
    for record in _blocks(forward, x):
        share = len(record.embedding) / len(x)
        terms = {}
        if lambda_noise:
            terms["noise_score"] = noise_scores(noise_maps(record), noise_leaf).mean() * share
        if lambda_variance:
            terms["variance_score"] = variance_score(record) * share
        weights = {"noise_score": lambda_noise, "variance_score": lambda_variance}
        loss = -sum(weights[name] * term for name, term in terms.items())
        loss.backward()
        for name, term in terms.items():
            scores[name] = scores.get(name, 0) + term.detach()
    if lambda_noise:
        noise_graph.backward(noise_leaf.grad)
    return scores


def _blocks(forward, x):
    """Run all samples, in as few blocks as memory allows."""
    record = forward(x)
    if record.factors is not None:
        yield record
        return
    n_units = record.embedding.shape[1]
    size = max(1, _KEPT // (n_units * record.activations[0].numel()))
    if size >= len(x):
        yield record
        return
    del record
    for block in x.split(size):
        yield forward(block)


def piecewise_linear(record):
    """Name the piecewise linear functions between the layer and the embedding.

    Parameters
    ----------
    record : Pass

    Returns
    -------
    names : set of str
        As autograd calls them; empty if there are none.
    """
    leaf, end = record.activations, record.activations.grad_fn
    leads = {None: False}  # node: whether the layer is below it
    todo = [record.embedding.grad_fn]
    while todo:
        node = todo[-1]
        if node in leads and leads[node] is not ...:
            todo.pop()
        elif node is end or getattr(node, "variable", None) is leaf:
            leads[todo.pop()] = True
        elif node not in leads:
            leads[node] = ...
            todo.extend(below for below, _ in node.next_functions if below not in leads)
        else:
            leads[todo.pop()] = any(leads.get(below) is True for below, _ in node.next_functions)
    between = [node for node, below in leads.items() if below is True and node is not end]
    return {node.name().split("Backward")[0] for node in between}.intersection(_PIECEWISE_LINEAR)


def noise_maps(record):
    """Scaled maps of the noise score: |activation · gradient|, mean over channels and units.

    Parameters
    ----------
    record : Pass

    Returns
    -------
    maps : torch.Tensor of shape (n, n_positions)
    """
    if record.factors is not None:
        slopes, weights = record.factors
        return min_max_scaled((slopes.abs() * weights.abs().mean(dim=1)).mean(dim=1))
    activations, gradients = record.arranged
    # The mean over units first: the activations are the same for all.
    return min_max_scaled((activations.abs() * gradients.abs().mean(dim=0)).mean(dim=1))


def variance_score(record):
    """Mean variance score of the samples.

    Parameters
    ----------
    record : Pass

    Returns
    -------
    score : torch.Tensor of shape ()
        Variance over units (ddof = 0) of the scaled maps activation · gradient, mean over channels;
        averaged over positions and samples.
    """
    if record.factors is not None:
        return _FactoredVariance.apply(*record.factors)
    activations, gradients = record.arranged
    maps = (activations * gradients).mean(dim=2)  # (n_units, n, n_positions)
    return min_max_scaled(maps).var(dim=0, unbiased=False).mean()


def unit_gradients(z, activations):
    """Gradient of every output unit in the activations, itself differentiable.

    Parameters
    ----------
    z : torch.Tensor of shape (n, n_units)
        A sample's output must not depend on the other samples.
    activations : torch.Tensor
        What `z` was made from.

    Returns
    -------
    gradients : torch.Tensor of shape (n_units, *activations.shape)
    """
    n_units = z.shape[1]
    one_hot = torch.eye(n_units, dtype=z.dtype, device=z.device)[:, None].expand(-1, *z.shape)
    try:
        # One pass back for all units, without the copies of the activations that rows would need.
        return torch.autograd.grad(
            z, activations, one_hot, create_graph=True, is_grads_batched=True
        )[0]
    except RuntimeError:  # an operation that vmap does not know
        units = [
            torch.autograd.grad(z[:, i].sum(), activations, create_graph=True)[0]
            for i in range(n_units)
        ]
        return torch.stack(units)


def linear_factors(record):
    """Factors of all units' maps, where only a linear layer mixes positions.

    If every step from the layer to the embedding works elementwise or pools windows that do not
    overlap, and then one linear layer follows, the gradient of unit u at a position is the slope
    of that entry (the same for all units) times the weight of u at the window of that entry (the
    same for all samples). Then no gradient has to be taken a unit.

    Parameters
    ----------
    record : Pass

    Returns
    -------
    factors : tuple of torch.Tensor or None
        The activations times their slopes, (n, n_channels, n_positions), and the weights,
        (n_channels, n_units, n_positions); None where the network is not of that form.
    """
    point, activations = record.point, record.activations
    if not _is_chain(record) or point.batch_axis != 0 or point.channel_axis not in (None, 1):
        return None
    *before, last = record.steps
    n_channels, *spatial = point.shape
    window = _windows(spatial, [step.module for step in before])
    if last.given.shape[1:] != (n_channels * (int(window[-1]) + 1),):
        return None
    (slopes,) = torch.autograd.grad(last.given.sum(), activations, create_graph=True)
    weights = last.module.weight.unflatten(1, (n_channels, -1)).movedim(1, 0)
    if weights.shape[2] != len(window):
        weights = weights[:, :, window.to(weights.device)]
    return point.arrange(activations * slopes).flatten(2), weights


def _is_chain(record):
    """Say whether nothing but one module after the other leads from the layer to the output."""
    if not record.steps or record.passed_on is None:
        return False
    value, version = record.passed_on, 0
    for i, step in enumerate(record.steps):
        if step.given is not value or step.given_version != version:
            return False
        kinds = (nn.Linear,) if i == len(record.steps) - 1 else (*_ELEMENTWISE, *_POOLING)
        hooked = step.module._forward_hooks or step.module._forward_pre_hooks
        if hooked or not _is_plain(step, kinds):
            return False
        value, version = step.made, step.made_version
    return record.embedding is value and value._version == version


def _is_plain(step, kinds):
    """Say whether a module is of one of these types and works elementwise, or window by window."""
    part = step.module
    if type(part) not in kinds:
        return False
    if isinstance(part, nn.Flatten):
        return part.start_dim == 1 and part.end_dim == -1
    if isinstance(part, nn.modules.batchnorm._BatchNorm):
        return part.running_mean is not None and not part.training
    if type(part) not in _POOLING:
        return True
    if step.given.ndim != _POOLING[type(part)] + 2 or part.ceil_mode:
        return False
    size, stride, padding, dilation = (
        _as_tuple(getattr(part, name, 1), _POOLING[type(part)])
        for name in ("kernel_size", "stride", "padding", "dilation")
    )
    return size == stride and set(padding) == {0} and set(dilation) == {1}


def _as_tuple(value, n):
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * n


def _windows(spatial, parts):
    """Return the pooled window that each position falls into; any for those in none."""
    axes = [torch.arange(size) for size in spatial]
    for part in parts:
        if type(part) in _POOLING:
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


class _FactoredVariance(torch.autograd.Function):
    """Mean variance score from factors, with its gradients, block by block in a cache."""

    @staticmethod
    def forward(ctx, slopes, weights):
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
        slope_gradients, weight_gradients = ctx.saved_tensors
        return slope_gradients * gradient, weight_gradients * gradient


def _scaled_variance(maps):
    """Sum of squared deviations of scaled maps from their mean over units, and half its gradient.

    `maps` (b, n_units, n_positions) is overwritten. With s = (m - low) / (high - low), the
    derivative of s in low is (s - 1) / (high - low) and in high -s / (high - low).
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
