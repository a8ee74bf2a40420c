"""Gradients of output units at layers: one forward pass, and one backward pass a unit for all.

Several units are differentiated at once: by a batched backward pass where all operations have one.
Elsewhere, and for large samples, a batch that holds every sample several times is run forward once:
its rows are independent of one another, so that one backward pass gives a unit a copy.
"""

import functools
import warnings
from contextlib import nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ._points import Point, Points, entering, find_points, watching

# Bytes of a batch kept for the backward pass beyond which a pass's overhead does not count.
_LARGE = 4 * 2**20
_UNITS_A_COPY = 8

__all__ = ["Point", "Points", "find_points", "unit_gradients"]


def unit_gradients(
    call, points, x, *, units=None, weights=None, rows, create_graph=False, reduce=None
):
    """Gradients of output units at layers, block by block over the units.

    Parameters
    ----------
    call : callable
        The network: (b, ...) to (b, N). A sample's output must not depend on the other samples.
    points : Points
        The layers, of `find_points`.
    x : tensor of shape (b, ...)
        Samples.
    units : tensor or sequence of int, or None, default=None
        Output units; None: all.
    weights : tensor of shape (N,) or None, default=None
        Differentiate the weighted sum of all units instead: one block, of one "unit".
    rows : int
        Most (sample, unit) rows at once, but at least one unit of all samples.
    create_graph : bool, default=False
        Whether the gradients are differentiable.
    reduce : callable or None, default=None
        Called as ``reduce(gradients, activations)`` for one point, as soon as its gradients are
        there; what it returns is yielded in their place.

    Yields
    ------
    index : tensor of int64 of shape (k,), or None with ``weights``
        Which units.
    gradients : list of tensor of shape (k, b, C, *spatial)
        Of these units, at each of the points.
    activations : list of tensor of shape (b, C, *spatial)
        At each of the points; the same in every block.
    """
    if weights is not None:
        cotangents = _matrix(weights, points.n_units)
        index = None
    else:
        index = torch.arange(points.n_units) if units is None else torch.as_tensor(units)
        cotangents = None
    n_rows = 1 if weights is not None else len(index)
    k = _units_at_once(points, x, n_rows, rows)
    batched = _try_batched(call, points, x, k, reduce, create_graph)
    taken = batched or _Taken(call, points, x, k, reduce, create_graph)
    for i in range(0, n_rows, k):
        block = None if index is None else index[i : i + k]
        c = cotangents if index is None else _unit_rows(block, points.n_units)
        with torch.set_grad_enabled(create_graph):
            found = taken.backward(c.to(taken.z), last=i + k >= n_rows)
        yield block, found, taken.activations


def _matrix(weights, n_units):
    weights = torch.as_tensor(weights)
    if weights.shape != (n_units,):
        raise ValueError(
            f"weights of shape {tuple(weights.shape)} must hold one number for each of the "
            f"{n_units} output units."
        )
    return weights[None]


def _unit_rows(block, n_units):
    c = torch.zeros(len(block), n_units)
    c[torch.arange(len(block)), block.cpu()] = 1
    return c


def _units_at_once(points, x, n_units, rows):
    """How many units are differentiated at once."""
    k = min(n_units, points.block_rows(rows, x.device) // len(x))
    # Where copies are no cheaper to run forward than one by one, many units must pay for them.
    if _is_large(points, x) and n_units < _UNITS_A_COPY * k:
        return 1
    return max(1, k)


def _is_large(points, x):
    return points.row_bytes * len(x) > _LARGE


def _try_batched(call, points, x, k, reduce, create_graph):
    """Return what takes batched gradients, None where they are not to be had or not worth it."""
    if k == 1 or create_graph or _is_large(points, x) or not points.batched.get("works", True):
        return None
    taken = _Batched(call, points, x, 1, reduce, False)
    if "works" not in points.batched:
        points.batched["works"] = taken.works()
    return taken if points.batched["works"] else None


def _forward(call, points, x, copies, create_graph):
    """Output and activations of every sample ``copies`` times, copy by copy."""
    seen = {}

    def look(point):
        def keep(tensor):
            seen[point] = tensor

        return keep

    # The fused kernels of attention have no second derivative.
    attention = sdpa_kernel(SDPBackend.MATH) if create_graph else nullcontext()
    with torch.enable_grad(), attention, watching([(point, look(point)) for point in points]):
        x = entering(x, points)
        if copies > 1:
            x = x.expand(copies, *x.shape).flatten(0, 1)
        z = call(x)
        z = z.reshape(len(z), -1)
    missing = [point.name for point in points if point not in seen]
    if missing:
        raise ValueError(f"layer={missing[0]!r} was not called before the output was there.")
    return z, [seen[point] for point in points]


def _activations(points, tensors, n_samples, copies, create_graph):
    found = []
    for point, tensor in zip(points, tensors, strict=True):
        tensor = point.arrange(tensor if create_graph else tensor.detach())
        found.append(tensor[:n_samples] if copies > 1 else tensor)
    return found


class _Taken:
    """Takes gradients at points out of backward passes.

    Each is reduced as soon as it is there, in the processor's cache, and then forgotten: only those
    at sources, which no other point's gradient goes on to, are kept to the end of the pass. Where
    gradients are wanted themselves or their derivatives are, all are kept.
    """

    def __init__(self, call, points, x, copies, reduce, create_graph):
        with torch.set_grad_enabled(create_graph):
            self.z, tensors = _forward(call, points, x, copies, create_graph)
            self.activations = _activations(points, tensors, len(x), copies, create_graph)
        self.points = points
        self.n_samples = len(x)
        self.copies = copies
        self.reduce = reduce
        self.create_graph = create_graph
        self.found = [None] * len(points)
        self.n_units = 0
        self.ends = tensors
        self._prepare(tensors)

    def _prepare(self, tensors):
        self.early = self.reduce is not None and not self.create_graph
        if self.early:
            self.ends = [tensors[i] for i in _sources(tensors)]
            for i, tensor in enumerate(tensors):
                tensor.register_hook(functools.partial(self._take, i))

    def backward(self, cotangents, last):
        """Run one pass; a copy of the samples that is given no unit is given zeros."""
        c, self.n_units = cotangents, len(cotangents)
        if len(c) < self.copies:
            c = torch.cat([c, c.new_zeros(self.copies - len(c), c.shape[1])])
        gradients = torch.autograd.grad(
            self.z,
            self.ends,
            c.repeat_interleave(self.n_samples, dim=0),
            retain_graph=self.create_graph or not last,
            create_graph=self.create_graph,
        )
        if not self.early:
            for i, gradient in enumerate(gradients):
                self._take(i, gradient)
        found, self.found = self.found, [None] * len(self.points)
        return found

    def _take(self, i, gradient):
        gradient = self.points[i].arrange(gradient)
        gradient = gradient.unflatten(0, (self.copies, self.n_samples))[: self.n_units]
        if self.reduce is not None:
            gradient = self.reduce(gradient, self.activations[i])
        self.found[i] = gradient


class _Batched(_Taken):
    """Takes several units' gradients out of one batched backward pass, of samples run once."""

    def _prepare(self, tensors):
        pass

    def works(self):
        """Whether every operation on the way has a batched backward pass."""
        cotangents = _unit_rows(torch.zeros(2, dtype=torch.int64), self.z.shape[1])
        with warnings.catch_warnings(record=True) as caught, torch.no_grad():
            warnings.simplefilter("always")
            try:
                self.backward(cotangents.to(self.z), last=False)
            except (RuntimeError, NotImplementedError, ValueError):
                return False
        return not any("batching rule" in str(warning.message) for warning in caught)

    def backward(self, cotangents, last):
        """Run one pass."""
        gradients = torch.autograd.grad(
            self.z,
            self.ends,
            cotangents[:, None].expand(-1, self.n_samples, -1),
            retain_graph=not last,
            is_grads_batched=True,
        )
        found = [p.arrange(g, lead=1) for p, g in zip(self.points, gradients, strict=True)]
        if self.reduce is None:
            return found
        return [self.reduce(g, a) for g, a in zip(found, self.activations, strict=True)]


def _sources(tensors):
    """Positions of tensors such that every tensor's gradient goes on to one of theirs."""
    nodes = [torch.autograd.graph.get_gradient_edge(tensor).node for tensor in tensors]
    reaches, sources = {}, []
    for i, node in enumerate(nodes):
        if not _reaches(node, reaches):
            reaches[node] = True
            sources.append(i)
    return sources


def _reaches(node, known):
    """Whether the backward pass goes from a node on to one known to be (or reach) a source."""
    stack = [node]
    while stack:
        top = stack[-1]
        if top in known:
            stack.pop()
            continue
        following = [n for n, _ in top.next_functions if n is not None]
        unknown = [n for n in following if n not in known]
        if unknown:
            stack.extend(unknown)
        else:
            known[top] = any(known[n] for n in following)
            stack.pop()
    return known[node]
