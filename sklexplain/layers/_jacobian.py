"""Gradients of output units at layers: one forward pass, and one backward pass a unit for all.

Several units are differentiated at once: by a batched backward pass where all operations have one.
Elsewhere, and for large samples, a batch that holds every sample several times is run forward once:
its rows are independent of one another, so that one backward pass gives a unit a copy.

Where few activations make many output units, a pass an activation does instead (`_columns`). Where
all that follows the layers is affine (`_affine`), gradients are those of any sample, and one
backward pass gives a unit a sample.
"""

import functools
import math
import warnings
from contextlib import nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ._affine import is_affine
from ._columns import Columns
from ._points import BLOCK_BYTES, Point, Points, entering, find_points, watching

# Bytes of a batch kept for the backward pass beyond which a pass's overhead does not count.
_LARGE = 4 * 2**20
_UNITS_A_COPY = 8
# How many backward passes a column costs, and how many an affine end must save.
_PASSES_A_COLUMN = 2
_PASSES_SAVED = 2

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
        Most (sample, unit) rows in the network at once, but at least one unit of all samples.
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
    args = (call, points, x, k, reduce, create_graph)
    taken = None
    if index is not None and not create_graph:
        taken = _try_affine(*args, n_rows) or _try_columns(*args, index, rows)
    taken = taken or _try_batched(*args) or _Taken(*args)
    yield from taken.blocks(index, cotangents, k)


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


def _try_affine(call, points, x, k, reduce, create_graph, n_units):
    """Return what takes gradients that all samples share, None where they do not."""
    n_passes = -(-n_units // len(x)) + 1
    if n_units < _PASSES_SAVED * n_passes or not points.batched.get("affine", True):
        return None
    taken = _Affine(call, points, x, 1, reduce, create_graph)
    points.batched["affine"] = taken.holds()
    return taken if points.batched["affine"] else None


def _try_columns(call, points, x, k, reduce, create_graph, index, rows):
    """Return what takes Jacobians by columns, None where they are not to be had or not fewer."""
    n_columns = sum(math.prod(point.shape) for point in points)
    most = BLOCK_BYTES["cpu" if x.device.type == "cpu" else "other"]
    n_units = min(len(index), most // (len(x) * n_columns * 8))
    if n_units < _PASSES_A_COLUMN * n_columns or not points.batched.get("columns", True):
        return None
    at_once = max(1, points.block_rows(rows, x.device) // len(x))
    if not points.batched.get("batched columns", True):
        at_once = 1
    try:
        taken = _Columns(call, points, x, reduce, at_once)
        taken.take(index[:n_units])
    except (RuntimeError, NotImplementedError):
        taken = None
    points.batched["columns"] = taken is not None
    if taken is not None and at_once > 1:
        points.batched["batched columns"] = taken.columns.at_once > 1
    return taken


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

    def blocks(self, index, cotangents, k):
        """Yield what `unit_gradients` does: of the units of an index, else of cotangents."""
        n_rows = len(cotangents if index is None else index)
        for i in range(0, n_rows, k):
            block = None if index is None else index[i : i + k]
            c = cotangents if index is None else _unit_rows(block, self.points.n_units)
            with torch.set_grad_enabled(self.create_graph):
                found = self.backward(c.to(self.z), last=i + k >= n_rows)
            yield block, found, self.activations

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
        return _reduced(self.reduce, found, self.activations)


class _Affine(_Taken):
    """Takes gradients that are the same at all samples: every sample is given a unit of its own."""

    def _prepare(self, tensors):
        pass

    def holds(self):
        """Whether gradients are the same, by the operations and at these samples."""
        if not is_affine(self.z, self.ends):
            return False
        row = torch.linspace(0.5, 1.5, self.z.shape[1]).to(self.z)
        for gradient in self._take_rows(row.expand(self.n_samples, -1)):
            most = 1e3 * torch.finfo(gradient.dtype).eps * gradient.abs().amax()
            if not (gradient - gradient[:1]).abs().amax() <= most:
                return False
        return True

    def _take_rows(self, cotangents):
        """Gradients at every sample for a cotangent of its own: (b, C, *spatial) a point."""
        c = torch.nn.functional.pad(cotangents, (0, 0, 0, self.n_samples - len(cotangents)))
        gradients = torch.autograd.grad(self.z, self.ends, c, retain_graph=True)
        return [p.arrange(g) for p, g in zip(self.points, gradients, strict=True)]

    def blocks(self, index, cotangents, k):
        """Yield what `unit_gradients` does."""
        for units in index.split(self.n_samples):
            gradients = self._take_rows(_unit_rows(units, self.points.n_units).to(self.z))
            for i in range(0, len(units), k):
                block = units[i : i + k]
                shared = [g[i : i + len(block), None] for g in gradients]
                found = [g.expand(-1, self.n_samples, *g.shape[2:]) for g in shared]
                with torch.no_grad():
                    found = _reduced(self.reduce, found, self.activations)
                yield block, found, self.activations


class _Columns:
    """Takes Jacobians by columns, of many units at once."""

    def __init__(self, call, points, x, reduce, at_once):
        z, tensors = _forward(call, points, x, 1, True)
        self.points = points
        self.reduce = reduce
        self.activations = _activations(points, tensors, len(x), 1, False)
        self.columns = Columns(z, tensors, lambda g, i: points[i].arrange(g).flatten(1), at_once)
        self.first = None

    def take(self, units):
        """Take the first units' gradients."""
        self.first = self._gradients(units)
        self.n_units = len(units)

    def _gradients(self, units):
        with torch.no_grad():
            jacobians = self.columns.jacobians(units)
            return [j.unflatten(2, p.shape) for j, p in zip(jacobians, self.points, strict=True)]

    def blocks(self, index, cotangents, k):
        """Yield what `unit_gradients` does."""
        for units in index.split(self.n_units):
            found, self.first = self.first or self._gradients(units), None
            with torch.no_grad():
                found = _reduced(self.reduce, found, self.activations)
            yield units, found, self.activations


def _reduced(reduce, gradients, activations):
    if reduce is None:
        return gradients
    return [reduce(g, a) for g, a in zip(gradients, activations, strict=True)]


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
