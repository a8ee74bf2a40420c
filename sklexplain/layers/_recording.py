"""What happens in one forward pass: which modules are called, with what, in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ._nested import mapped


@dataclass
class Call:
    """One call of a module.

    Attributes
    ----------
    module : nn.Module
        What was called.
    args, kwargs : tuple, dict
        What it was called with.
    output : object
        What it returned; None while it runs, or if the pass ended before.
    began, ended : int
        Places of its beginning and its end among those of all calls.
    n_bytes : int
        Memory kept for a backward pass by the time the call ended.
    """

    module: torch.nn.Module
    args: tuple
    kwargs: dict
    began: int
    output: Any = None
    ended: int | None = None
    n_bytes: int = 0


@dataclass
class Recording:
    """One forward pass.

    Attributes
    ----------
    x : torch.Tensor
        The input; with a gradient if it has a floating dtype.
    leaf : torch.Tensor
        The tensor that ``x`` is a copy of, as a network may write into its input.
    output : object
        What the pass returned, None if it was cut.
    calls : list of Call
        In the order in which they began.
    n_bytes : int
        Memory that a backward pass would need.
    """

    x: torch.Tensor
    leaf: torch.Tensor
    output: Any = None
    calls: list = field(default_factory=list)
    n_bytes: int = 0

    def of(self, module: nn.Module) -> list[Call]:
        """Return the calls of one module, in order."""
        return [call for call in self.calls if call.module is module]

    def until(self, last: Call) -> Recording:
        """Cut the recording at the end of one call, as if the pass had stopped there."""
        calls = [call for call in self.calls if call.began <= last.ended]
        cut = [
            call if call.ended is not None and call.ended <= last.ended else _unfinished(call)
            for call in calls
        ]
        return Recording(self.x, self.leaf, last.output, cut, last.n_bytes)


def gradient_edge(tensor: torch.Tensor) -> torch.autograd.graph.GradientEdge:
    """Where a tensor is in the graph of operations.

    Parameters
    ----------
    tensor : torch.Tensor
        One that has a gradient.

    Returns
    -------
    edge : torch.autograd.graph.GradientEdge
    """
    # For a leaf, some versions of torch make a view of it, which has no graph in no-grad mode.
    with torch.enable_grad():
        return torch.autograd.graph.get_gradient_edge(tensor)


class _Differentiates(Exception):
    """The network differentiates inside its forward pass, so its graph must not be dropped."""


def _unfinished(call: Call) -> Call:
    return Call(call.module, call.args, call.kwargs, call.began)


def record(call: Callable[..., Any], x: torch.Tensor, modules: Iterable[nn.Module]) -> Recording:
    """Run a network once, with gradients, and note every call of its modules.

    Parameters
    ----------
    call : callable
        Runs the network.
    x : torch.Tensor
        Its input.
    modules : iterable of nn.Module
        Modules whose calls are noted; nobody's mode is changed.

    Returns
    -------
    recording : Recording
        Holds the tensors of the pass, but nothing that the graph would save for a backward pass
        (that is only counted): so all memory is freed together with the recording.
    """
    leaf = x.detach()
    with torch.enable_grad():
        x = (leaf.requires_grad_() if leaf.is_floating_point() else leaf).clone()
    recording, opened, clock = Recording(x, leaf), [], iter(range(2**62))

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        # Inputs without a gradient (codes, for example) get one: it shows what depends on them.
        leaves = tuple(map(_with_gradient, args))
        entered = Call(module, leaves, kwargs, next(clock))
        recording.calls.append(entered)
        opened.append(entered)
        flowing = (a if leaf is a else leaf.clone() for leaf, a in zip(leaves, args, strict=True))
        return tuple(flowing), kwargs

    def after(
        module: nn.Module, _args: tuple[Any, ...], _kwargs: dict[str, Any], output: Any
    ) -> Any:
        call = opened.pop()
        while call.module is not module:  # that call ended by an error, which the network caught
            call = opened.pop()
        call.output, call.ended, call.n_bytes = _own(output), next(clock), n_bytes[0]
        # A copy, so that later operations in place leave the output as it is.
        return mapped(torch.clone, call.output)

    n_bytes = [0]

    def pack(tensor: torch.Tensor) -> None:
        # Nothing is kept: a tensor that holds its own graph would never be freed.
        n_bytes[0] += tensor.numel() * tensor.element_size()

    def unpack(_: object) -> torch.Tensor:
        raise _Differentiates

    handles = []
    try:
        for module in dict.fromkeys(modules):
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks, or never calls what is inside of it
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True, prepend=True))
            handles.append(module.register_forward_hook(after, with_kwargs=True))
        try:
            with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, unpack):
                recording.output = call(x)
        except _Differentiates:
            recording.calls.clear()
            opened.clear()
            with torch.enable_grad():
                recording.output = call(x)
    finally:
        for handle in handles:
            handle.remove()
    recording.n_bytes = n_bytes[0]
    return recording


def _with_gradient(value: Any) -> Any:
    """Return the value or, for a floating tensor without a gradient, another that has one."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    return value if value.requires_grad else value.detach().requires_grad_()


def _own(output: Any) -> Any:
    """Return an output whose tensors nobody else has: a module may return its own input."""
    if isinstance(output, torch.Tensor) and not output.requires_grad:
        return _with_gradient(output)
    return mapped(lambda t: t.clone() if t.requires_grad else t, output)


# Operations that keep every number, in any order.
_REARRANGING = {
    *("Clone", "Alias", "ToCopy", "View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze"),
    *("T", "Transpose", "Permute", "Expand", "Select", "Slice"),
}

_BASE = 256  # digits below it are exact in every floating dtype


def is_rearranged(z: torch.Tensor, tensor: torch.Tensor, batch_axis: int = 0) -> bool:
    """Tell whether an output is a tensor itself, flattened after the samples.

    Parameters
    ----------
    z : torch.Tensor of shape (b, N)
        The output.
    tensor : torch.Tensor
        Of the same pass.
    batch_axis : int, default=0
        The tensor's axis of samples.

    Returns
    -------
    same : bool
        Whether the graph has nothing but copies and views between them, and these leave every
        number at its place.
    """
    if z.numel() != tensor.numel() or not (z.requires_grad and tensor.requires_grad):
        return False
    start, end = map(gradient_edge, (z, tensor))
    node: Any = start.node
    number = start.output_nr
    while (node, number) != (end.node, end.output_nr):
        kind = node.name().rstrip("0123456789").removesuffix("Backward")
        below = [edge for edge in node.next_functions if edge[0] is not None]
        if kind not in _REARRANGING or len(below) != 1:
            return False
        node, number = below[0]
    # The number of every place, sent back through the views digit by digit (half precision holds no
    # large integers), must come to its own place.
    places = torch.arange(z.numel(), device=z.device).reshape(z.shape)
    while True:
        digit = (places % _BASE).to(z)
        (sent,) = torch.autograd.grad(z, tensor, digit, retain_graph=True)
        if not torch.equal(sent.movedim(batch_axis, 0).reshape(z.shape).to(z), digit):
            return False
        places = places // _BASE
        if not places.any():
            return True


def ancestors(z: torch.Tensor) -> set[tuple[Any, int]]:
    """Everything that a tensor was computed from: pairs of a graph node and an output's number.

    Parameters
    ----------
    z : torch.Tensor
        With or without a gradient.

    Returns
    -------
    known : set of (object, int)
        See `depends`.
    """
    if not z.requires_grad:
        return set()
    if z.grad_fn is None:
        return {(id(z), 0)}
    known: set[tuple[Any, int]] = {(z.grad_fn, z.output_nr)}
    todo: list[Any] = [z.grad_fn]
    nodes = set(todo)
    while todo:
        node = todo.pop()
        variable = getattr(node, "variable", None)
        if variable is not None:
            known.add((id(variable), 0))
        for below, number in node.next_functions:
            if below is None:
                continue
            known.add((below, number))
            if below not in nodes:
                nodes.add(below)
                todo.append(below)
    return known


def depends(known: set[tuple[Any, int]], tensor: torch.Tensor) -> bool:
    """Tell whether a tensor is among the ancestors of another.

    Parameters
    ----------
    known : set
        From `ancestors`.
    tensor : torch.Tensor
        Of the same pass.

    Returns
    -------
    depends : bool
    """
    if not tensor.requires_grad:
        return False
    node = tensor.grad_fn
    return ((id(tensor), 0) if node is None else (node, tensor.output_nr)) in known
