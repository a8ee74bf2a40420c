"""The noise and the variance score of a network as differentiable functions, for training."""

import math
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..layers import Point, check_rows, watching
from ._functions import min_max_scaled, noise_scores
from ._score_factors import ELEMENTWISE, POOLING, FactoredVariance, is_plain, windows

_PIECEWISE_LINEAR = (
    *("Relu", "LeakyRelu", "PreluKernel", "RreluWithNoise", "Hardtanh", "Threshold"),
    *("Hardsigmoid", "Hardshrink", "Softshrink"),
)

# Numbers in one intermediate result of a block of samples, of which autograd keeps several.
_KEPT = 2**21


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
    """Results of one forward pass of a batch.

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
        """What `linear_factors` returns."""
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
    size = math.prod(point.shape)
    check_rows(next(iter(kept), None), point.batch_axis, len(x), size, f"layer {point.name!r}")
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
    if record.factors is not None and record.factors.is_constant:
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
    names = {
        node.name().split("Backward")[0] for node in _between(record.embedding, record.activations)
    }
    return names.intersection(_PIECEWISE_LINEAR)


def _between(z, activations, cut=None):
    """Find autograd's nodes on the ways from z back to activations, but not through `cut`."""
    end = activations.grad_fn
    leads = {None: False}  # node: whether the activations are behind it
    if cut is not None:
        leads[cut.grad_fn] = False
    todo = [z.grad_fn]
    while todo:
        node = todo[-1]
        if node in leads and leads[node] is not ...:
            todo.pop()
        elif node is end or getattr(node, "variable", None) is activations:
            leads[todo.pop()] = True
        elif node not in leads:
            leads[node] = ...
            todo.extend(behind for behind, _ in node.next_functions if behind not in leads)
        else:
            leads[todo.pop()] = any(leads[behind] is True for behind, _ in node.next_functions)
    return [node for node, leads_there in leads.items() if leads_there is True and node is not end]


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
        factors = record.factors
        weights = factors.spread(factors.weights.abs().mean(dim=0))
        return min_max_scaled((factors.slopes.abs() * weights).mean(dim=1))
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
    factors = record.factors
    if factors is not None and factors.is_constant:
        weights = factors.spread(factors.weights[:, 0]).movedim(1, 0)
        return FactoredVariance.apply(factors.slopes, weights)
    if factors is not None:
        activations, gradients = factors.slopes, factors.spread(factors.weights)
    else:
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


@dataclass
class Factors:
    """Factors of all units' gradients at the layer.

    Attributes
    ----------
    slopes : torch.Tensor of shape (n, n_channels, n_positions)
        Activations times the derivative of what they lead to, the same for all units.
    weights : torch.Tensor of shape (n_units, n, n_channels, nwindows)
        Gradients there; of shape (n_units, 1, ...) if they are the same for all samples.
    window : torch.Tensor of int64 of shape (n_positions,)
        Where each position leads to.
    """

    slopes: torch.Tensor
    weights: torch.Tensor
    window: torch.Tensor

    @property
    def is_constant(self):
        """Whether the weights are the same for all samples."""
        return self.weights.shape[1] == 1 < len(self.slopes)

    def spread(self, values):
        """Repeat the values of windows at their positions."""
        if values.shape[-1] == len(self.window):
            return values
        return values[..., self.window.to(values.device)]


def linear_factors(record):
    """Factor all units' gradients, where elementwise functions and pooling follow the layer.

    If from the layer to the input of another module every step works elementwise, or pools windows
    that do not overlap, the gradient of unit u at an entry is the slope of that entry, the same for
    all units, times the gradient of u in the one number that the entry leads to. If that module is
    linear and its output the embedding, the latter is its weight, the same for all samples: then no
    gradient has to be taken for each unit.

    Parameters
    ----------
    record : Pass

    Returns
    -------
    factors : Factors or None
        None where the network is not of that form.
    """
    point, activations = record.point, record.activations
    before, step = _elementwise_steps(record)
    if step is None or point.batch_axis != 0 or point.channel_axis not in (None, 1):
        return None
    entries = step.given
    n_channels, *spatial = point.shape
    window = windows(spatial, [earlier.module for earlier in before])
    if entries.shape[1:] != (n_channels * (int(window[-1]) + 1),):
        return None
    if _is_last(step, record) and is_plain(step, (nn.Linear,)):
        gradients = step.module.weight[:, None]
    elif _between(
        record.embedding, activations, cut=entries
    ):  # the output depends on the layer by another path too
        return None
    else:
        gradients = unit_gradients(record.embedding, entries)
    (slopes,) = torch.autograd.grad(entries.sum(), activations, create_graph=True)
    slopes = point.arrange(activations * slopes).flatten(2)
    return Factors(slopes, gradients.unflatten(2, (n_channels, -1)), window)


def _is_last(step, record):
    """Say whether what a step made is the embedding as it is."""
    return step.made is record.embedding and step.made_version == record.embedding._version


def _elementwise_steps(record):
    """Return the steps that work elementwise, one after the other, and that which comes then."""
    value, version = record.passed_on, 0
    for i, step in enumerate(record.steps):
        if value is None or step.given is not value or step.given_version != version:
            break
        if not is_plain(step, (*ELEMENTWISE, *POOLING)):
            untouched = value._version == version
            return (record.steps[:i], step) if untouched else (None, None)
        value, version = step.made, step.made_version
    return None, None
