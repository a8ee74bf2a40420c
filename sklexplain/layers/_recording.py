"""What happens in one forward pass: which modules are called, with what, in which order."""

from dataclasses import dataclass, field

import torch


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
    entered, left : int
        Places of its beginning and its end among those of all calls.
    n_bytes : int
        What had been kept for a backward pass when it ended.
    """

    module: torch.nn.Module
    args: tuple
    kwargs: dict
    entered: int
    output: object = None
    left: int | None = None
    n_bytes: int = 0


@dataclass
class Recording:
    """One forward pass.

    Attributes
    ----------
    x : torch.Tensor
        The input; with a gradient if it has a floating dtype.
    leaf : torch.Tensor
        What it is a copy of: a network may write into its input.
    output : object
        What the pass returned, None if it was cut.
    calls : list of Call
        In the order in which they began.
    n_bytes : int
        What a backward pass would need.
    """

    x: torch.Tensor
    leaf: torch.Tensor
    output: object = None
    calls: list = field(default_factory=list)
    n_bytes: int = 0

    def of(self, module):
        """Return the calls of one module, in order."""
        return [call for call in self.calls if call.module is module]

    def until(self, last):
        """Keep what came before the end of one call, that call included."""
        calls = [call for call in self.calls if call.entered <= last.left]
        cut = [
            call if call.left is not None and call.left <= last.left else _unfinished(call)
            for call in calls
        ]
        return Recording(self.x, self.leaf, last.output, cut, last.n_bytes)


class _Differentiates(Exception):
    """The network differentiates inside its forward pass, so it needs what would be dropped."""


def _unfinished(call):
    return Call(call.module, call.args, call.kwargs, call.entered)


def record(call, x, modules):
    """Run a network once, with gradients, and note every call of its modules.

    Parameters
    ----------
    call : callable
        Runs the network.
    x : torch.Tensor
        Its input.
    modules : iterable of nn.Module
        Those whose calls are noted; theirs and the network's modes are as they are.

    Returns
    -------
    recording : Recording
        Holds the tensors of the pass but nothing of the graph's own, so that both are gone as soon
        as the recording is: what would be kept for a backward pass is only counted.
    """
    leaf = x.detach()
    with torch.enable_grad():
        x = (leaf.requires_grad_() if leaf.is_floating_point() else leaf).clone()
    recording, opened, clock = Recording(x, leaf), [], iter(range(2**62))

    def before(module, args, kwargs):
        # What has no gradient is given one, where gradients at a layer are to be seen: codes.
        leaves = tuple(map(_with_gradient, args))
        entered = Call(module, leaves, kwargs, next(clock))
        recording.calls.append(entered)
        opened.append(entered)
        flowing = (a if leaf is a else leaf.clone() for leaf, a in zip(leaves, args, strict=True))
        return tuple(flowing), kwargs

    def after(module, _args, _kwargs, output):
        left = opened.pop()
        while left.module is not module:  # one that ended by an error which was caught
            left = opened.pop()
        left.output, left.left, left.n_bytes = _with_gradient(output), next(clock), n_bytes[0]
        return _copied(left.output)

    n_bytes = [0]

    def pack(tensor):
        # Nothing is kept: a tensor that holds its own graph would never be freed.
        n_bytes[0] += tensor.numel() * tensor.element_size()

    def unpack(_):
        raise _Differentiates

    handles = []
    try:
        for module in dict.fromkeys(modules):
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


def _with_gradient(value):
    """Return a tensor that has a gradient for a leaf that has none; not the very tensor."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    return value if value.requires_grad else value.detach().requires_grad_()


def _copied(output):
    """Return what goes on in place of an output, which is not to change in place afterwards."""
    if isinstance(output, torch.Tensor):
        return output.clone()
    if type(output) in (tuple, list):
        return type(output)(map(_copied, output))
    return output


def ancestors(z):
    """Everything that a tensor was computed of, as pairs of a graph node and an output's number.

    Parameters
    ----------
    z : torch.Tensor
        With a gradient, or none.

    Returns
    -------
    known : set of (object, int)
        See `depends`.
    """
    if not z.requires_grad:
        return set()
    if z.grad_fn is None:
        return {(id(z), 0)}
    known, todo = {(z.grad_fn, z.output_nr)}, [z.grad_fn]
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


def depends(known, tensor):
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
