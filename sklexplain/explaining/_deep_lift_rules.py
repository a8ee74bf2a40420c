"""Slopes between a sample and its baseline: what DeepLIFT has instead of derivatives."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

# Of an averaged Jacobian: nodes in a panel, panels at most, and the width of the narrowest one.
_N_NODES = 12
_N_PANELS = 64
_NARROWEST = 2.0**-12
_TOLERANCE = 1e-9


@dataclass
class Step:
    """One operation, run on a sample and on a baseline.

    Attributes
    ----------
    call : callable
        From a list of tensors in place of the inputs to a list of outputs, differentiable.
    x, x0 : list of tensor
        Inputs that vary: of the sample, of the baseline.
    y, y0 : list of tensor
        Outputs.
    rule : callable
        From this and gradients by the outputs to gradients by the inputs.
    """

    call: Callable
    x: list
    x0: list
    y: list
    y0: list
    rule: Callable

    def jacobian_products(self, tensors, grads):
        """Gradients of <grads, call(tensors)> by the tensors."""
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in tensors]
            outputs = self.call(leaves)
        pairs = [
            (o, g) for o, g in zip(outputs, grads, strict=True) if g is not None and o.requires_grad
        ]
        if not pairs:
            return [torch.zeros_like(t) for t in tensors]
        outputs, outer = zip(*pairs, strict=True)
        return torch.autograd.grad(outputs, leaves, outer, materialize_grads=True)


class Applied(torch.autograd.Function):
    """An operation that has been run, with a rule in place of its derivative."""

    @staticmethod
    def forward(ctx, step, *inputs):
        ctx.step = step
        ctx.set_materialize_grads(False)
        return tuple(y.clone() for y in step.y)

    @staticmethod
    def backward(ctx, *grads):
        if all(g is None for g in grads):
            return None, *[None] * len(ctx.step.x)
        return None, *ctx.step.rule(ctx.step, grads)


def secant(step, grads):
    """Elementwise functions of one tensor: the slope between its entries."""
    (grad,), (x,), (x0,) = grads, step.x, step.x0
    dx, dy = x - x0, step.y[0] - step.y0[0]
    ones = [torch.ones_like(dy)]
    tangent, tangent0 = (step.jacobian_products([t], ones)[0] for t in (x, x0))
    # Close together a difference is mostly rounding, and the tangents tell the slope, if they
    # agree. A step or kink between the two is one that they do not agree about.
    near = dx.abs() <= torch.finfo(x.dtype).eps ** 0.5 * (1 + x.abs())
    alike = (tangent - tangent0).abs() <= 1e-2 * torch.maximum(tangent.abs(), tangent0.abs())
    near = (near & alike) | (dx == 0)
    slope = torch.where(near, (tangent + tangent0) / 2, dy / torch.where(near, 1.0, dx))
    return [grad * slope]


def product(step, grads):
    """Elementwise functions of several tensors: averaged slopes, which explain every change.

    Those of a product are (y + y0) / 2 and (x + x0) / 2. What a finite number of nodes leaves is
    shared out among the inputs by how far they move.

    Parameters
    ----------
    step : Step
        The operation.
    grads : tuple of tensor
        Gradients by its outputs.

    Returns
    -------
    gradients : list of tensor
        By its inputs.
    """
    (grad,), (y,), (y0,) = grads, step.y, step.y0
    x = [t.expand_as(y) for t in step.x]
    x0 = [t.expand_as(y) for t in step.x0]
    moves, dy = [a - b for a, b in zip(x, x0, strict=True)], y - y0
    eps = torch.finfo(y.dtype).eps
    rounding = 64 * eps * (y.abs() + y0.abs())
    before = torch.inf
    for n_nodes in (2, 8, 32):
        slopes = _averaged(step, x, x0, [torch.ones_like(y)], n_nodes)
        parts = [s * m for s, m in zip(slopes, moves, strict=True)]
        missed = dy - sum(parts)
        size = dy.abs() + sum(p.abs() for p in parts)
        wrong = missed.abs() > 64 * eps * size + rounding
        left = missed.abs().sum()
        if not wrong.any() or left > 0.5 * before:
            break
        before = left
    way = sum(m.abs() for m in moves)
    share = missed / torch.where(way > 0, way, 1.0)
    # No steeper than the function is: what jumps while hardly anything moves is left unexplained.
    steepest = torch.stack([s.abs() for s in slopes]).amax(dim=0).clamp(min=1.0)
    share = torch.where(wrong & (share.abs() <= steepest), share, 0.0)
    return [
        (grad * (s + share * m.sign())).sum_to_size(t.shape)
        for s, m, t in zip(slopes, moves, step.x, strict=True)
    ]


def maximum(step, grads):
    """Maxima, as in pooling: every change of a maximum is accounted for.

    The rise of a maximum goes to its place in the sample, the fall to its place in the baseline.

    Parameters
    ----------
    step : Step
        The operation.
    grads : tuple of tensor
        Gradients by its outputs.

    Returns
    -------
    gradients : list of tensor
        By its inputs.
    """
    return _chosen(step, grads, torch.maximum)


def minimum(step, grads):
    """Minima: the fall goes to its place in the sample, the rise to its place in the baseline."""
    return _chosen(step, grads, torch.minimum)


def _chosen(step, grads, better):
    (grad,), (y,), (y0,), (x,), (x0,) = grads, step.y, step.y0, step.x, step.x0
    best = better(y, y0)
    (gain,) = step.jacobian_products([x], [grad * (best - y0)])
    (loss,) = step.jacobian_products([x0], [grad * (y - best)])
    dx = x - x0
    # A maximum can only rise (fall) at a place where the input does.
    return [(gain + loss) / torch.where(dx == 0, 1.0, dx)]


def mean_jacobian(step, grads):
    """Any operation: its Jacobian averaged on the straight line between sample and baseline.

    The line is divided where the average does not explain the change of the output: at kinks, and
    where the operation is steep.

    Parameters
    ----------
    step : Step
        The operation.
    grads : tuple of tensor
        Gradients by its outputs.

    Returns
    -------
    gradients : list of tensor
        By its inputs.
    """
    pairs = list(zip(step.y, step.y0, grads, strict=True))
    size = sum(float(((y - y0) * g).abs().sum()) for y, y0, g in pairs if g is not None)
    allowed = max(_TOLERANCE, 64 * torch.finfo(step.x[0].dtype).eps) * size
    waiting, n_panels = [_panel(step, grads, 0.0, 1.0, step.y0, step.y)], 0
    total = waiting[0].gradients
    while n_panels < _N_PANELS:
        waiting = [p for p in waiting if p.missed > allowed and p.width > _NARROWEST]
        if not waiting:
            break
        worst = max(waiting, key=lambda p: p.missed)
        waiting.remove(worst)
        middle = (worst.start + worst.end) / 2
        with torch.no_grad():
            between = step.call(_between(step.x, step.x0, middle))
        halves = [
            _panel(step, grads, worst.start, middle, worst.low, between),
            _panel(step, grads, middle, worst.end, between, worst.high),
        ]
        parts = [worst.gradients, *(half.gradients for half in halves)]
        total = [t - w + a + b for t, w, a, b in zip(total, *parts, strict=True)]
        waiting += halves
        n_panels += 1
    return total


@dataclass
class _Panel:
    """Part of the line, its share of the average, and by how much that misses the change."""

    start: float
    end: float
    low: list
    high: list
    gradients: list
    missed: float

    @property
    def width(self):
        return self.end - self.start


def _panel(step, grads, start, end, low, high):
    x = _between(step.x, step.x0, end)
    x0 = _between(step.x, step.x0, start)
    gradients = [(end - start) * g for g in _averaged(step, x, x0, grads, _N_NODES)]
    explained = sum(
        float((g * (a - b)).sum(dtype=_wide(g)).real)
        for g, a, b in zip([g.conj() for g in gradients], step.x, step.x0, strict=True)
    )
    change = sum(
        float((g.conj() * (b - a)).sum(dtype=_wide(g)).real)
        for g, a, b in zip(grads, low, high, strict=True)
        if g is not None
    )
    return _Panel(start, end, low, high, gradients, abs(explained - change))


def _wide(tensor):
    return torch.complex128 if tensor.is_complex() else torch.float64


def _between(x, x0, t):
    return [b + t * (a - b) for a, b in zip(x, x0, strict=True)]


def _averaged(step, x, x0, grads, n_nodes):
    totals = [torch.zeros_like(t) for t in x]
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        products = step.jacobian_products(_between(x, x0, node), grads)
        for total, g in zip(totals, products, strict=True):
            total += weight * g
    return totals
