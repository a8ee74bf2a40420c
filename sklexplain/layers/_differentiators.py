"""The ways to gradients of output units at layers, of which `unit_gradients` takes one."""

from __future__ import annotations

import functools
import math
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, TypeAlias

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..utils import uniform
from ._affine import is_affine
from ._columns import JacobianColumns
from ._memory import block_bytes
from ._points import Point, Points
from ._recording import gradient_edge
from ._rows import check_rows
from ._trial import check_order_at
from ._watching import entering, watching

# What is made of gradients and activations at one point.
Reduce: TypeAlias = Callable[[torch.Tensor, torch.Tensor], Any]
# Of some units, or of sums of them: their index, their gradients and the activations.
Block: TypeAlias = tuple[torch.Tensor | None, list[Any], list[torch.Tensor]]


def _unit_rows(block: torch.Tensor, n_units: int) -> torch.Tensor:
    c = torch.zeros(len(block), n_units)
    c[torch.arange(len(block)), block.cpu()] = 1
    return c


def _forward(
    call: Callable[..., Any], points: Points, x: torch.Tensor, copies: int, create_graph: bool
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Run a batch that holds all samples ``copies`` times, copy by copy.

    Parameters
    ----------
    call, points, x, create_graph
        See `unit_gradients`.
    copies : int
        How often each sample is in the batch.

    Returns
    -------
    z : tensor of shape (copies * b, N)
        The output.
    tensors : list of tensor
        Activations at the points, as the network has them.

    Raises
    ------
    ValueError
        If a layer is not called before the output is computed, or its rows or their shape are not
        those of the samples.
    """
    seen = {}

    def recorder(point: Point) -> Callable[[torch.Tensor], None]:
        def keep(tensor: torch.Tensor) -> None:
            seen[point] = tensor

        return keep

    # The fused kernels of attention have no second derivative.
    attention = sdpa_kernel(SDPBackend.MATH) if create_graph else nullcontext()
    with torch.enable_grad(), attention, watching([(point, recorder(point)) for point in points]):
        x = entering(x, points)
        if copies > 1:
            x = x.expand(copies, *x.shape).flatten(0, 1)
        z = call(x)
        z = z.reshape(len(z), -1)
    missing = [point.name for point in points if point not in seen]
    if missing:
        raise ValueError(f"layer={missing[0]!r} was not called before the output was computed.")
    for point in points:
        size = math.prod(point.shape)
        check_rows(seen[point], point.batch_axis, len(x), size, f"layer {point.name!r}")
        shape = tuple(point.arrange(seen[point]).shape[1:])
        if shape != point.shape:
            raise ValueError(
                f"layer {point.name!r} has shape {shape} for a sample and had {point.shape} in its "
                "trial: the network cuts samples, to the longest of a batch for example. Have it "
                "keep the length that X has, or look at another layer."
            )
    if points.may_move and len(x) > 1:
        check_order_at(call, points, x.detach(), seen)
    return z, [seen[point] for point in points]


def _activations(
    points: Points, tensors: list[torch.Tensor], n_samples: int, copies: int, create_graph: bool
) -> list[torch.Tensor]:
    arranged = []
    for point, tensor in zip(points, tensors, strict=True):
        tensor = point.arrange(tensor if create_graph else tensor.detach())
        arranged.append(tensor[:n_samples] if copies > 1 else tensor)
    return arranged


class Differentiator:
    """Gradients at points by backward passes over copies of the samples.

    If gradients are reduced and need no derivative, each is reduced during the pass, while it is
    still in the processor's cache, and then dropped: torch is asked only for the gradients at the
    points that no other point precedes, and hooks see those at the others. Otherwise torch is asked
    for all of them.
    """

    def __init__(
        self,
        call: Callable[..., Any],
        points: Points,
        x: torch.Tensor,
        copies: int,
        reduce: Reduce | None,
        create_graph: bool,
    ) -> None:
        with torch.set_grad_enabled(create_graph):
            self.z, tensors = _forward(call, points, x, copies, create_graph)
            self.activations = _activations(points, tensors, len(x), copies, create_graph)
        self.points = points
        self.n_samples = len(x)
        self.copies = copies
        self.reduce = reduce
        self.create_graph = create_graph
        self.collected = [None] * len(points)
        self.n_units = 0
        self.ends = tensors
        self._prepare(tensors)

    def _prepare(self, tensors: list[torch.Tensor]) -> None:
        self.reduces_early = self.reduce is not None and not self.create_graph
        if self.reduces_early:
            self.ends = [tensors[i] for i in _sources(tensors)]
            for i, tensor in enumerate(tensors):
                # Weakly: a tensor holds its hooks where no garbage collector looks.
                hook = functools.partial(_hand_on, weakref.WeakMethod(self._collect), i)
                tensor.register_hook(hook)

    def blocks(self, index: Any, cotangents: Any, k: int) -> Iterator[Block]:
        """Yield what `unit_gradients` does, for the units of an index, else for cotangents."""
        n_rows = len(cotangents if index is None else index)
        for i in range(0, n_rows, k):
            block = None
            if index is None:
                c = cotangents[i : i + k]
            else:
                block = index[i : i + k]
                c = _unit_rows(block, self.points.n_units)
            with torch.set_grad_enabled(self.create_graph):
                gradients = self.backward(c.to(self.z), last=i + k >= n_rows)
            yield block, gradients, self.activations

    def backward(self, cotangents: torch.Tensor, last: bool) -> list[Any]:
        """Run one backward pass; copies of the samples beyond the number of units get zeros."""
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
        if not self.reduces_early:
            for i, gradient in enumerate(gradients):
                self._collect(i, gradient)
        collected, self.collected = self.collected, [None] * len(self.points)
        return collected

    def _collect(self, i: int, gradient: torch.Tensor) -> None:
        """Store the gradient at one point, reduced if asked for."""
        gradient = self.points[i].arrange(gradient)
        gradient = gradient.unflatten(0, (self.copies, self.n_samples))[: self.n_units]
        if self.reduce is not None:
            gradient = self.reduce(gradient, self.activations[i])
        self.collected[i] = gradient


def _hand_on(
    method: weakref.WeakMethod[Callable[[int, torch.Tensor], None]], i: int, gradient: torch.Tensor
) -> None:
    """Call a method of an object that is there as long as gradients are asked for."""
    collect = method()
    if collect is not None:
        collect(i, gradient)


class BatchedDifferentiator(Differentiator):
    """Gradients of several units by one vectorised backward pass, without copies of samples."""

    def _prepare(self, tensors: list[torch.Tensor]) -> None:
        pass

    def works(self) -> bool:
        """Whether torch can vectorise the backward pass of every operation on the way."""
        cotangents = _unit_rows(torch.zeros(2, dtype=torch.int64), self.z.shape[1])
        with warnings.catch_warnings(record=True) as caught, torch.no_grad():
            warnings.simplefilter("always")
            try:
                self.backward(cotangents.to(self.z), last=False)
            except (RuntimeError, NotImplementedError, ValueError):
                return False
        return not any("batching rule" in str(warning.message) for warning in caught)

    def backward(self, cotangents: torch.Tensor, last: bool) -> list[Any]:
        """Run one vectorised backward pass."""
        gradients = torch.autograd.grad(
            self.z,
            self.ends,
            cotangents[:, None].expand(-1, self.n_samples, -1),
            retain_graph=not last,
            is_grads_batched=True,
        )
        gradients = [p.arrange(g, lead=1) for p, g in zip(self.points, gradients, strict=True)]
        return _reduced(self.reduce, gradients, self.activations)


class SharedDifferentiator(Differentiator):
    """Gradients that are the same at all samples: each sample stands for another unit."""

    def _prepare(self, tensors: list[torch.Tensor]) -> None:
        self.first: list[list[torch.Tensor]] = []  # of the first units

    def holds(self, index: torch.Tensor) -> bool:
        """Whether gradients of these units are the same: operations say so, and samples agree."""
        if not is_affine(self.z, self.ends):
            return False
        # All units are summed with weights, at every sample. Units and activations may be of any
        # scale, and none may hide another: a unit's weight makes its gradient one of size 1, and
        # every entry of the sum is compared on its own scale, that of what is summed in it.
        generator = torch.Generator().manual_seed(0)
        signs = torch.randint(2, (self.points.n_units,), generator=generator) * 2 - 1
        factors = signs * (0.5 + uniform(generator, self.points.n_units))
        factors = factors.to(self.z)
        sizes, n_bytes = torch.zeros_like(factors), 0
        own: list[Any] = [0.0] * len(self.points)
        most_bytes = block_bytes(self.z.device)
        for units in index.split(self.n_samples):
            gradients = self._gradients_of(units)
            units = units.to(self.z.device)
            size = torch.stack([g.flatten(1).abs().amax(dim=1) for g in gradients]).amax(dim=0)
            sizes[units] = size.to(sizes)
            weights = torch.where(size > 0, factors[units].to(size) / size, 0)
            for i, g in enumerate(gradients):
                own[i] += torch.einsum("u,u...->u...", weights, g).square().sum(dim=0)
            n_bytes += sum(g.nbytes for g in gradients)
            if n_bytes <= most_bytes:  # the others are computed again
                self.first.append(gradients)
        # What is 0 at one sample may be of any size at another, and must not be too small to see.
        seen = sizes[sizes > 0]
        sizes = sizes.clamp(min=seen.min()) if len(seen) else torch.ones_like(sizes)
        row = torch.zeros_like(sizes)
        index = index.to(row.device)
        row[index] = factors[index] / sizes[index]
        compared = self._gradients_at_samples(row.expand(self.n_samples, -1))
        for g, square in zip(compared, own, strict=True):
            most = 1e3 * torch.finfo(g.dtype).eps * square.sqrt()
            if not ((g - g[:1]).abs() <= most).all():
                return False
        return True

    def _gradients_of(self, units: torch.Tensor) -> list[torch.Tensor]:
        """Gradients of as many units as there are samples, or fewer."""
        rows = _unit_rows(units, self.points.n_units).to(self.z)
        return [g[: len(units)] for g in self._gradients_at_samples(rows)]

    def _gradients_at_samples(self, cotangents: torch.Tensor) -> list[torch.Tensor]:
        """Gradients at each point, (b, C, *spatial), where every sample has its own cotangent."""
        c = torch.nn.functional.pad(cotangents, (0, 0, 0, self.n_samples - len(cotangents)))
        gradients = torch.autograd.grad(self.z, self.ends, c, retain_graph=True)
        return [p.arrange(g) for p, g in zip(self.points, gradients, strict=True)]

    def blocks(self, index: Any, cotangents: Any, k: int) -> Iterator[Block]:
        """Yield what `unit_gradients` does."""
        first, self.first = self.first[::-1], []
        for units in index.split(self.n_samples):
            gradients = first.pop() if first else self._gradients_of(units)
            for i in range(0, len(units), k):
                block = units[i : i + k]
                shared = [g[i : i + len(block), None] for g in gradients]
                repeated = [g.expand(-1, self.n_samples, *g.shape[2:]) for g in shared]
                with torch.no_grad():
                    reduced = _reduced(self.reduce, repeated, self.activations)
                yield block, reduced, self.activations


class ColumnDifferentiator:
    """Gradients of many units at once, as Jacobians that are computed by columns."""

    def __init__(
        self,
        call: Callable[..., Any],
        points: Points,
        x: torch.Tensor,
        reduce: Reduce | None,
        at_once: int,
    ) -> None:
        z, tensors = _forward(call, points, x, 1, True)
        self.points = points
        self.reduce = reduce
        self.activations = _activations(points, tensors, len(x), 1, False)
        self.columns = JacobianColumns(
            z, tensors, lambda g, i: points[i].arrange(g).flatten(1), at_once
        )
        self.first: list[torch.Tensor] | None = None

    def start(self, units: torch.Tensor) -> None:
        """Compute the gradients of the first units, which shows whether columns work at all."""
        self.first = self._gradients(units)
        self.n_units = len(units)

    def _gradients(self, units: torch.Tensor) -> list[torch.Tensor]:
        with torch.no_grad():
            jacobians = self.columns.jacobians(units)
            return [j.unflatten(2, p.shape) for j, p in zip(jacobians, self.points, strict=True)]

    def blocks(self, index: Any, cotangents: Any, k: int) -> Iterator[Block]:
        """Yield what `unit_gradients` does."""
        for units in index.split(self.n_units):
            gradients, self.first = self.first or self._gradients(units), None
            with torch.no_grad():
                gradients = _reduced(self.reduce, gradients, self.activations)
            yield units, gradients, self.activations


def _reduced(
    reduce: Reduce | None, gradients: list[torch.Tensor], activations: list[torch.Tensor]
) -> list[Any]:
    if reduce is None:
        return gradients
    return [reduce(g, a) for g, a in zip(gradients, activations, strict=True)]


def _sources(tensors: list[torch.Tensor]) -> list[int]:
    """Positions of the tensors that no other tensor precedes: passes to these meet all others."""
    nodes = [gradient_edge(tensor).node for tensor in tensors]
    reaches: dict[Any, bool] = {}
    sources = []
    for i, node in enumerate(nodes):
        if not _reaches(node, reaches):
            reaches[node] = True
            sources.append(i)
    return sources


def _reaches(node: Any, known: dict[Any, bool]) -> bool:
    """Whether a backward pass leads from a node to one known to be, or to reach, a source."""
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
