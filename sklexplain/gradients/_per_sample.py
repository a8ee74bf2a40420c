"""Per-sample gradients of a loss in chosen parameters of a network.

A weight matrix that is applied to a, with gradient b of what came out, has the gradient b aᵀ: one
backward pass over a batch gives all of its samples' gradients, as factors. What is not covered by
a rule is differentiated one sample at a time; which parameters those are is found out by trying.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import torch
from torch import nn

from ._layers import (
    attention,
    batch_norm,
    convolution,
    embedding,
    group_norm,
    layer_norm,
    linear,
    transposed_convolution,
)
from ._recurrent import recurrent
from ._sets import (
    combine_terms,
    double_terms,
    flatten_terms,
    gram_matrix,
    interleave_terms,
    join_terms,
    multiply_terms,
    own_gram_matrix,
    project_terms,
    squared_norms,
    terms_bytes,
)
from ._terms import Explicit, add_terms

__all__ = [
    "GradientPlan",
    "combine_terms",
    "double_terms",
    "flatten_terms",
    "gram_matrix",
    "interleave_terms",
    "join_terms",
    "looped_gradients",
    "multiply_terms",
    "own_gram_matrix",
    "per_sample_gradients",
    "per_sample_products",
    "plan_gradients",
    "project_terms",
    "squared_norms",
    "terms_bytes",
]

_RULES = {
    nn.Linear: linear,
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.ConvTranspose1d: transposed_convolution,
    nn.ConvTranspose2d: transposed_convolution,
    nn.BatchNorm1d: batch_norm,
    nn.BatchNorm2d: batch_norm,
    nn.BatchNorm3d: batch_norm,
    nn.LayerNorm: layer_norm,
    nn.GroupNorm: group_norm,
    nn.Embedding: embedding,
    nn.MultiheadAttention: attention,
    nn.LSTM: recurrent,
    nn.GRU: recurrent,
    nn.RNN: recurrent,
}
# A rule that is wrong for a layer is wrong by more than rounding.
_TOLERANCE = {torch.float64: 1e-7}
_MAX_ROUNDING = 1e-3
_VMAP_BYTES = 2**26


@dataclass
class GradientPlan:
    """How to get the gradients of every parameter.

    Attributes
    ----------
    parameters : dict of str to torch.Tensor
        The chosen ones, in the order of the gradients.
    layers : list of nn.Module
        Layers whose rules are used.
    by_rule : set of str
        Parameters whose gradients come from rules.
    rest : list of str
        Parameters whose gradients are taken one sample at a time.
    vectorised : bool
        Whether ``torch.vmap`` can do that.
    """

    parameters: dict
    layers: list = field(default_factory=list)
    by_rule: set = field(default_factory=set)
    rest: list = field(default_factory=list)
    vectorised: bool = False

    @property
    def n_parameters(self):
        """Length of a gradient."""
        return sum(p.numel() for p in self.parameters.values())


def plan_gradients(losses, module, names, x):
    """Find out how the gradients of chosen parameters can be had, by comparing with a loop.

    To be called where the network is in eval mode and parameters need no gradients, as in
    ``Representation.session()``; so are the functions below.

    Parameters
    ----------
    losses : callable
        From a batch (n, ...) to one loss a sample (n,), running ``module``.
    module : nn.Module
        The network.
    names : iterable of str
        Names of parameters, as in ``module.named_parameters()``.
    x : torch.Tensor of shape (2, ...)
        Two samples.

    Returns
    -------
    plan : GradientPlan

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklexplain.gradients._per_sample import (
    ...     gram_matrix,
    ...     per_sample_gradients,
    ...     plan_gradients,
    ... )
    >>> net = nn.Sequential(nn.Linear(3, 2), nn.Tanh()).requires_grad_(False)
    >>> x = torch.eye(3)
    >>> def losses(x):
    ...     return net(x).square().sum(dim=1)
    >>> plan = plan_gradients(losses, net, ["0.weight", "0.bias"], x[:2])
    >>> gradients = per_sample_gradients(losses, net, x, plan)
    >>> gram_matrix(gradients, gradients).shape
    torch.Size([3, 3])
    """
    named = dict(module.named_parameters())
    plan = GradientPlan({name: named[name] for name in names})
    names_of = {id(p): name for name, p in plan.parameters.items()}
    expected = looped_gradients(losses, module, plan.parameters, x)
    for layer in module.modules():
        # Rules of attention cover the parameters of a layer inside it.
        own = [p for m in layer.modules() for p in m.parameters(recurse=False)]
        if _rule(layer) is not None and any(id(p) in names_of for p in own):
            plan.layers.append(layer)
    (found,) = _ruled_gradients(losses, plan, x, tolerant=True)
    unused = _unused(losses, plan.parameters, x)
    for name in plan.parameters:
        good = name in found and _agree(found[name].values, expected[name])
        (plan.by_rule.add if good or name in unused else plan.rest.append)(name)
    plan.layers = [m for m in plan.layers if _serves(m, plan, names_of)]
    if plan.rest:
        plan.vectorised = _vmap_works(losses, module, plan, x, expected)
    return plan


def _rule(layer):
    return next((rule for kind, rule in _RULES.items() if isinstance(layer, kind)), None)


def _serves(layer, plan, names_of):
    return any(names_of.get(id(p)) in plan.by_rule for p in layer.parameters())


def _agree(found, expected):
    tolerance = _TOLERANCE.get(expected.dtype, _MAX_ROUNDING)
    size = expected.abs().max()
    return bool(((found - expected).abs() <= tolerance * size).all())


def _vmap_works(losses, module, plan, x, expected):
    try:
        found = _vmapped_gradients(losses, module, plan, x)
    except Exception:  # whatever a network's code makes of vmap's tensors
        return False
    return all(_agree(found[name], expected[name]) for name in plan.rest)


def per_sample_gradients(losses, module, x, plan):
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
        What `plan_gradients` returned.

    Returns
    -------
    terms : dict of str to Explicit, Outer or Lookup
        By parameter, in the plan's order; ``flatten_terms(terms)`` is the (n, p) matrix.
    """
    (terms,) = _ruled_gradients(losses, plan, x) if plan.layers else ({},)
    if plan.rest:
        rest = {name: plan.parameters[name] for name in plan.rest}
        if plan.vectorised:
            values = _vmapped_gradients(losses, module, plan, x)
        else:
            values = looped_gradients(losses, module, rest, x)
        terms.update({name: Explicit(values[name]) for name in rest})
    return _completed(terms, plan, x)


def _completed(terms, plan, x):
    """Terms in the plan's order, with zeros for what the losses do not depend on."""
    for name, p in plan.parameters.items():
        if name not in terms:
            terms[name] = Explicit(x.new_zeros(len(x), p.numel(), dtype=p.dtype))
    return {name: terms[name].compact() for name in plan.parameters}


def per_sample_products(outputs, module, x, plan, directions):
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
        What `plan_gradients` returned for a function of the same outputs.
    directions : list of torch.Tensor of shape (n, m)
        What outputs are multiplied with.

    Returns
    -------
    terms : list of dict of str to term
        For each of the directions, see `per_sample_gradients`.
    """
    if not plan.rest:
        found = _ruled_gradients(outputs, plan, x, directions) if plan.layers else None
        return [_completed(t, plan, x) for t in found or [{} for _ in directions]]
    # The rest goes over samples one by one, and each has a direction of its own.
    terms = []
    for direction in directions:
        parts = []
        for i in range(len(x)):

            def along(x, direction=direction[i]):
                return outputs(x).flatten(1) @ direction

            parts.append(per_sample_gradients(along, module, x[i : i + 1], plan))
        terms.append(join_terms(parts))
    return terms


def _ruled_gradients(outputs, plan, x, directions=(None,), tolerant=False):
    """Gradients from one forward pass and a backward pass a direction, by the layers' rules."""
    calls = []
    handles = [
        # First, so that what a user's hook makes of the output is part of the rest.
        m.register_forward_hook(_recorder(calls), with_kwargs=True, prepend=True)
        for m in plan.layers
    ]
    try:
        with torch.enable_grad():
            out = outputs(x)
    finally:
        for handle in handles:
            handle.remove()
    edges = [edge for call in calls for edge in call[3]]
    if not edges or not out.requires_grad:
        return [{} for _ in directions]
    found = []
    for number, direction in enumerate(directions):
        along = torch.ones_like(out) if direction is None else direction.view_as(out)
        more = number + 1 < len(directions)
        grads = torch.autograd.grad(out, edges, along, retain_graph=more, allow_unused=True)
        found.append(_by_rules(plan, calls, iter(grads), len(x), tolerant))
    return found


def _by_rules(plan, calls, found, n, tolerant):
    """Gradients in parameters from those of the layers' outputs."""
    names_of = {id(p): name for name, p in plan.parameters.items()}
    terms = defaultdict(list)
    for layer, args, kwargs, outputs in calls:
        grads = [next(found) for _ in outputs]
        if all(g is None for g in grads):
            continue
        try:
            pairs = [(p, t) for p, t in _rule(layer)(layer, args, kwargs, grads, n)]
        except Exception:  # by a call that the rule does not cover
            if not tolerant:
                raise
            continue
        for parameter, term in pairs:
            terms[names_of.get(id(parameter))].append(term)
    wanted = terms.keys() if tolerant else terms.keys() & plan.by_rule
    return {name: _sum(terms[name]) for name in wanted if name is not None}


def _sum(terms):
    total = terms[0]
    for term in terms[1:]:
        total = add_terms(total, term)
    return total


def _recorder(calls):
    """Make a forward hook that remembers calls and where their outputs are in the graph."""

    def record(layer, args, kwargs, output):
        edges = []

        def tap(part):
            if isinstance(part, torch.Tensor):
                if not part.requires_grad and part.is_floating_point():
                    # Nothing before needs a gradient; a copy may be changed in place.
                    part = part.detach().requires_grad_().clone()
                edges.append(torch.autograd.graph.get_gradient_edge(part))
                return part
            if isinstance(part, (tuple, list)):
                return type(part)(tap(p) for p in part)
            return part

        output = tap(output)
        calls.append((layer, args, kwargs, edges))
        return output

    return record


def looped_gradients(losses, module, parameters, x):
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
    tensors = list(parameters.values())
    out = {name: x.new_zeros(len(x), t.numel(), dtype=t.dtype) for name, t in parameters.items()}
    for i in range(len(x)):
        grads = _summed_gradients(losses, tensors, x[i : i + 1])
        for values, gradient in zip(out.values(), grads, strict=True):
            if gradient is not None:
                values[i] = gradient.flatten()
    return out


def _summed_gradients(losses, tensors, x):
    """Gradients of a batch's summed loss; None in tensors that it does not depend on."""
    flags = [t.requires_grad for t in tensors]
    try:
        for t in tensors:
            t.requires_grad_(True)
        with torch.enable_grad():
            loss = losses(x).sum()
        if not loss.requires_grad:
            return (None,) * len(tensors)
        return torch.autograd.grad(loss, tensors, allow_unused=True)
    finally:
        for t, flag in zip(tensors, flags, strict=True):
            t.requires_grad_(flag)


def _unused(losses, parameters, x):
    grads = _summed_gradients(losses, list(parameters.values()), x)
    return {name for name, g in zip(parameters, grads, strict=True) if g is None}


class _WithLoss(nn.Module):
    """Holds the network, so that its parameters can be exchanged while the losses run it."""

    def __init__(self, module, losses):
        super().__init__()
        self.module = module
        self.losses = losses

    def forward(self, x):
        return self.losses(x).sum()


def _vmapped_gradients(losses, module, plan, x):
    """Gradients one sample at a time, several at once."""
    # Building it registers the network as a part and changes nothing in it.
    holder = _WithLoss(module, losses)
    rest = {f"module.{name}": plan.parameters[name].detach() for name in plan.rest}
    n_bytes = sum(p.numel() * p.element_size() for p in rest.values())

    def loss(parameters, sample):
        return torch.func.functional_call(holder, parameters, (sample.unsqueeze(0),))

    chunk = max(1, _VMAP_BYTES // max(1, n_bytes))
    gradient = torch.vmap(torch.func.grad(loss), in_dims=(None, 0), chunk_size=chunk)
    found = gradient(rest, x)
    return {name: found[f"module.{name}"].flatten(1).detach() for name in plan.rest}
