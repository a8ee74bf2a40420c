"""Per-sample gradients of a loss in chosen parameters of a network.

A weight matrix that is applied to a, with gradient b of the product, has the gradient b aᵀ: one
backward pass over a batch gives all of its samples' gradients, as factors. What no rule covers is
differentiated one sample at a time; which parameters those are is decided once, see `_trial`. As
other samples may take other ways through the network (experts, gates, branches), the gradients of
every batch are added up and compared with torch's own gradient of the batch, see `_totals`: where
they differ, that batch goes one sample at a time.

All functions here are for networks in eval mode whose parameters require no gradients, as in
``Representation.session()``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from ..layers import gradient_edge, mapped
from ._labelled import Labelled
from ._layers import LayerCall
from ._plans import BoundPlan, GradientPlan
from ._terms import Explicit, add_terms
from ._totals import adds_up
from ._typing import Batch, Rule, Term
from ._watching import VaryingRows

_VMAP_BYTES = 2**26


def per_sample_gradients(
    losses: Callable[..., Any], module: nn.Module, x: Batch, plan: GradientPlan
) -> dict[str, Term]:
    """Gradient of every sample's loss in the plan's parameters.

    Parameters
    ----------
    losses : callable
        From a batch (n, ...) to one loss a sample (n,), running ``module``.
    module : nn.Module
        The network.
    x : torch.Tensor of shape (n, ...)
        Samples.
    plan : GradientPlan
        Made by a `Trial` of the same losses.

    Returns
    -------
    terms : dict of str to Explicit, Outer or Lookup
        By parameter, in the plan's order; ``flatten_terms(terms)`` is the (n, p) matrix.
    """
    return _gradients(losses, module, x, plan.bound(module))


def _gradients(
    losses: Callable[..., Any], module: nn.Module, x: Batch, bound: BoundPlan
) -> dict[str, Term]:
    (terms,) = _ruled_gradients(losses, bound, x)
    rest = {name: p for name, p in bound.parameters.items() if name not in terms}
    if rest:
        values = _rest(losses, module, rest, x, bound.plan)
        terms.update({name: Explicit(values[name]) for name in rest})
    return completed(terms, bound.parameters, len(x))


def _rest(
    losses: Callable[..., Any],
    module: nn.Module,
    parameters: dict[str, nn.Parameter],
    x: Batch,
    plan: GradientPlan,
) -> dict[str, torch.Tensor]:
    """Gradients that do not come from rules, as the plan says if it is about the same ones."""
    if plan.vectorised and parameters.keys() <= set(plan.rest):
        try:
            return vmapped_gradients(losses, module, parameters, x)
        except RuntimeError:  # a branch that the trial's samples did not take
            pass
    return looped_gradients(losses, module, parameters, x)


def completed(
    terms: dict[str, Term], parameters: dict[str, nn.Parameter], n: int
) -> dict[str, Term]:
    """Put gradients in order, with zeros for what the losses do not depend on.

    Parameters
    ----------
    terms : dict of str to term
        Gradients that there are.
    parameters : dict of str to torch.Tensor
        The chosen ones.
    n : int
        Number of samples.

    Returns
    -------
    terms : dict of str to term
        In the parameters' order, each in its smallest form, and in float32 if not in float64.
    """
    for name, p in parameters.items():
        if name not in terms:
            terms[name] = Explicit(p.new_zeros(n, p.numel()))
    return {name: terms[name].single().compact() for name in parameters}


def per_sample_products(
    outputs: Callable[..., Any],
    module: nn.Module,
    x: Batch,
    plan: GradientPlan,
    directions: Sequence[torch.Tensor],
) -> list[dict[str, Term]]:
    """Gradients of inner products of every sample's output, for one forward pass.

    Parameters
    ----------
    outputs : callable
        From a batch (n, ...) to a tensor (n, ...) of m entries a sample, running ``module``.
    module : nn.Module
        The network.
    x : torch.Tensor of shape (n, ...)
        Samples.
    plan : GradientPlan
        Made by a `Trial` for a function of the same outputs.
    directions : list of torch.Tensor of shape (n, m)
        What outputs are multiplied with.

    Returns
    -------
    terms : list of dict of str to term
        For each of the directions, see `per_sample_gradients`.
    """
    bound = plan.bound(module)
    found = _ruled_gradients(outputs, bound, x, directions)
    names = bound.parameters.keys() - set.intersection(*(set(terms) for terms in found))
    if names:
        rest = {name: p for name, p in bound.parameters.items() if name in names}
        products = looped_products(outputs, rest, x, directions)
        for terms, values in zip(found, products, strict=True):
            terms.update({name: Explicit(values[name]) for name in rest if name not in terms})
    return [completed(terms, bound.parameters, len(x)) for terms in found]


def _ruled_gradients(
    outputs: Callable[..., Any],
    bound: BoundPlan,
    x: Batch,
    directions: Sequence[torch.Tensor | None] = (None,),
) -> list[dict[str, Term]]:
    """Gradients from one forward pass and a backward pass a direction, by the layers' rules.

    Returns
    -------
    found : list of dict of str to term
        For each direction, those that are right: they add up to the gradient of the batch.
    """
    names = bound.plan.by_rule
    if not names:
        return [{} for _ in directions]
    tensors = [bound.parameters[name] for name in names]
    with (
        recorded_calls(bound.layers) as calls,
        requiring_gradients(tensors),
        torch.enable_grad(),
    ):
        with VaryingRows() as varying:
            out = outputs(x)
        if varying.seen:  # rows of the layers' inputs are no samples
            return [{} for _ in directions]
        if not out.requires_grad:
            return [completed({}, bound.parameters, len(x)) for _ in directions]
        edges = [edge for call in calls for edge in call.edges]
        found = []
        for number, direction in enumerate(directions):
            along = torch.ones_like(out) if direction is None else direction.view_as(out)
            more = number + 1 < len(directions)
            keep = more or bool(bound.plan.unused) or varying.moved
            grads = torch.autograd.grad(
                out, [*edges, *tensors], along, retain_graph=keep, allow_unused=True
            )
            totals = dict(zip(names, grads[len(edges) :], strict=True))
            terms = rule_gradients(bound.layers, bound.names_of, calls, grads, len(x))
            terms = {n: t for n, t in terms.items() if n in totals and adds_up(t, totals[n])}
            if varying.moved:
                terms = _of_their_samples(terms, out, along, bound.parameters)
            idle = [n for n in names if n not in terms and _is_zero(totals[n])]
            if idle and _stay_idle(out, along, [bound.parameters[n] for n in idle]):
                terms.update({n: _zeros(bound.parameters[n], len(x)) for n in idle})
            found.append(terms)
    return found


def _is_zero(total: torch.Tensor | None) -> bool:
    return total is None or not total.to_dense().any()


def _zeros(parameter: torch.Tensor, n: int) -> Explicit:
    return Explicit(parameter.new_zeros(n, parameter.numel()))


def _unequal(along: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Unequal multiples of samples, which neither cancel nor stand for one another's."""
    flat = along.reshape(len(along), -1)
    generator = torch.Generator().manual_seed(len(along))
    weights = torch.rand(len(along), 1, generator=generator, dtype=torch.float64) + 0.5
    return (flat * weights.to(flat)).view_as(along), weights.flatten()


def _of_their_samples(
    terms: dict[str, Term],
    out: torch.Tensor,
    along: torch.Tensor,
    parameters: Mapping[str, torch.Tensor],
) -> dict[str, Term]:
    """Leave out gradients that add up, but belong to other samples than their place says."""
    along, weights = _unequal(along)
    tensors = [parameters[name] for name in terms]
    try:
        totals = torch.autograd.grad(out, tensors, along, retain_graph=True, allow_unused=True)
    except RuntimeError:  # an operation that allows a single backward pass
        return {}
    pairs = zip(terms.items(), totals, strict=True)
    return {name: term for (name, term), total in pairs if adds_up(term, total, weights)}


def _stay_idle(out: torch.Tensor, along: torch.Tensor, tensors: Sequence[torch.Tensor]) -> bool:
    """Tell whether no sample has a gradient, where the batch's is 0: some may cancel."""
    along, _ = _unequal(along)
    try:
        grads = torch.autograd.grad(out, tensors, along, retain_graph=True, allow_unused=True)
    except RuntimeError:  # an operation that allows a single backward pass
        return False
    return all(map(_is_zero, grads))


def rule_gradients(
    layers: Mapping[nn.Module, tuple[Rule, list[int]]],
    names_of: dict[int, str],
    calls: list[LayerCall],
    grads: Sequence[torch.Tensor | None],
    n: int,
) -> dict[str, Term]:
    """Gradients in parameters from those of the layers' outputs.

    Parameters
    ----------
    layers : dict of nn.Module to (callable, list of int)
        Rules, and the axes of samples by call; the last counts for later calls too.
    names_of : dict of int to str
        The chosen parameters' names by their ids.
    calls : list of LayerCall
        Of `recorded_calls`.
    grads : list of torch.Tensor or None
        Gradients of all the calls' outputs, in their order.
    n : int
        Number of samples.

    Returns
    -------
    terms : dict of str to term
        Calls that a rule does not cover are left out.
    """
    terms: defaultdict[str, list[Term]] = defaultdict(list)
    counts: defaultdict[nn.Module, int] = defaultdict(int)
    rest = iter(grads)
    for call in calls:
        of_outputs = [next(rest) for _ in call.edges]
        number, counts[call.layer] = counts[call.layer], counts[call.layer] + 1
        if call.layer not in layers or all(g is None for g in of_outputs):
            continue
        rule, axes = layers[call.layer]
        axis = axes[min(number, len(axes) - 1)]
        try:
            pairs = list(rule(call, of_outputs, n, axis))
        except Exception:  # whatever a rule makes of arguments that it was not written for
            continue
        for parameter, term in pairs:
            if id(parameter) in names_of:
                terms[names_of[id(parameter)]].append(term)
    return {name: _sum(found) for name, found in terms.items()}


def _sum(terms: list[Term]) -> Term:
    total = terms[0]
    for term in terms[1:]:
        total = add_terms(total, term)
    return total


@contextmanager
def recorded_calls(layers: Iterable[nn.Module]) -> Iterator[list[LayerCall]]:
    """Note the calls of layers while the context lasts.

    Parameters
    ----------
    layers : iterable of nn.Module
        Those that are looked at.

    Yields
    ------
    calls : list of LayerCall
        Grows with every call.
    """
    calls: list[LayerCall] = []
    # First, so that what a user's hook makes of the output is part of the rest.
    handles = [
        layer.register_forward_hook(_recorder(calls), with_kwargs=True, prepend=True)
        for layer in layers
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _recorder(calls: list[LayerCall]) -> Callable[..., Any]:
    """Make a forward hook that remembers calls and where their outputs are in the graph."""

    def record(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        edges: list[Any] = []
        output = mapped(partial(_with_edge, edges), output)
        calls.append(LayerCall(layer, args, kwargs, edges))
        return output

    return record


def _with_edge(edges: list[Any], tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that a layer returned, and add where it is in the graph, if it can be."""
    if not tensor.requires_grad:
        if not tensor.is_floating_point():  # lengths in a packed sequence, for example
            return tensor
        # Nothing before needs a gradient; a copy may be changed in place.
        tensor = tensor.detach().requires_grad_().clone()
    edges.append(gradient_edge(tensor))
    return tensor


def looped_gradients(
    losses: Callable[..., Any], module: nn.Module, parameters: dict[str, nn.Parameter], x: Batch
) -> dict[str, torch.Tensor]:
    """Gradients one sample at a time: slow, and right for any network.

    Parameters
    ----------
    losses : callable
        From a batch (n, ...) to one loss a sample (n,), running ``module``.
    module : nn.Module
        The network.
    parameters : dict of str to torch.Tensor
        The chosen ones.
    x : torch.Tensor of shape (n, ...)
        Samples.

    Returns
    -------
    gradients : dict of str to torch.Tensor of shape (n, p)
    """
    out = {name: p.new_zeros(len(x), p.numel()) for name, p in parameters.items()}
    tensors = list(parameters.values())
    for i in range(len(x)):
        with requiring_gradients(tensors), torch.enable_grad():
            loss = losses(x[i : i + 1]).sum()
            if not loss.requires_grad:
                continue
            grads = torch.autograd.grad(loss, tensors, allow_unused=True)
        for values, gradient in zip(out.values(), grads, strict=True):
            if gradient is not None:
                values[i] = gradient.to_dense().flatten()
    return out


def looped_products(
    outputs: Callable[..., Any],
    parameters: dict[str, nn.Parameter],
    x: Batch,
    directions: Sequence[torch.Tensor],
) -> list[dict[str, torch.Tensor]]:
    """Gradients of inner products of outputs, one sample at a time; see `per_sample_products`.

    Parameters
    ----------
    outputs : callable
        From a batch (n, ...) to a tensor (n, ...) of m entries a sample, running the network.
    parameters : dict of str to torch.Tensor
        The chosen ones.
    x : torch.Tensor of shape (n, ...)
        Samples.
    directions : list of torch.Tensor of shape (n, m)
        What outputs are multiplied with.

    Returns
    -------
    products : list of dict of str to torch.Tensor of shape (n, p)
        For each of the directions.
    """
    shapes = {name: (len(x), p.numel()) for name, p in parameters.items()}
    found = [{k: parameters[k].new_zeros(s) for k, s in shapes.items()} for _ in directions]
    tensors = list(parameters.values())
    for i in range(len(x)):
        with requiring_gradients(tensors), torch.enable_grad():
            out = outputs(x[i : i + 1])
            if not out.requires_grad:
                continue
            for number, (products, direction) in enumerate(zip(found, directions, strict=True)):
                keep = number + 1 < len(directions)
                along = direction[i].view_as(out)
                grads = torch.autograd.grad(
                    out, tensors, along, retain_graph=keep, allow_unused=True
                )
                for values, gradient in zip(products.values(), grads, strict=True):
                    if gradient is not None:
                        values[i] = gradient.to_dense().flatten()
    return found


@contextmanager
def requiring_gradients(tensors: Sequence[torch.Tensor]) -> Iterator[None]:
    """Let gradients flow to tensors while the context lasts.

    Parameters
    ----------
    tensors : list of torch.Tensor
        Parameters; their flags are put back.

    Yields
    ------
    None
    """
    flags = [t.requires_grad for t in tensors]
    try:
        for t in tensors:
            t.requires_grad_(True)
        yield
    finally:
        for t, flag in zip(tensors, flags, strict=True):
            t.requires_grad_(flag)


class _WithLoss(nn.Module):
    """Holds the network, so that its parameters can be exchanged while the losses run it."""

    def __init__(self, module: nn.Module, losses: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module
        self.losses = losses

    def forward(self, x: Batch) -> torch.Tensor:
        return self.losses(x).sum()


def vmapped_gradients(
    losses: Callable[..., Any], module: nn.Module, parameters: dict[str, nn.Parameter], x: Batch
) -> dict[str, torch.Tensor]:
    """Gradients one sample at a time, several at once; see `looped_gradients`.

    Parameters
    ----------
    losses : callable
        From a batch (n, ...) to one loss a sample (n,), running ``module``.
    module : nn.Module
        The network.
    parameters : dict of str to torch.Tensor
        The chosen ones.
    x : torch.Tensor of shape (n, ...)
        Samples.

    Returns
    -------
    gradients : dict of str to torch.Tensor of shape (n, p)
    """
    # Building it registers the network as a part and changes nothing in it.
    holder = _WithLoss(module, losses)
    inside = {f"module.{name}": p.detach() for name, p in parameters.items()}
    n_bytes = sum(p.numel() * p.element_size() for p in inside.values())

    def loss(parameters: dict[str, torch.Tensor], *sample: torch.Tensor) -> torch.Tensor:
        parts = [part.unsqueeze(0) for part in sample]
        batch = Labelled(*parts) if len(parts) > 1 else parts[0]
        return torch.func.functional_call(holder, parameters, (batch,))

    chunk = max(1, _VMAP_BYTES // max(1, n_bytes))
    batch = (x.x, x.y) if isinstance(x, Labelled) else (x,)
    in_dims = (None, *(0 for _ in batch))
    gradient = torch.vmap(torch.func.grad(loss), in_dims=in_dims, chunk_size=chunk)
    found = gradient(inside, *batch)
    return {name: found[f"module.{name}"].reshape(len(x), -1).detach() for name in parameters}
