"""Slopes between a sample and its baseline: what DeepLIFT has instead of derivatives."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

# Numbers of nodes for an averaged Jacobian, until it does not change any more.
_N_NODES = (8, 16, 32, 64, 128, 256)
_TOLERANCE = 1e-6


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
    """Any operation: its Jacobian averaged on the straight line between sample and baseline."""
    before = None
    for n_nodes in _N_NODES:
        total = _averaged(step, step.x, step.x0, grads, n_nodes)
        if before is not None and all(map(_close, total, before)):
            break
        before = total
    return total


def _close(a, b):
    tolerance = max(_TOLERANCE, 64 * torch.finfo(a.dtype).eps)
    return not a.numel() or bool((a - b).abs().amax() <= tolerance * a.abs().amax())


def _averaged(step, x, x0, grads, n_nodes):
    totals = [torch.zeros_like(t) for t in x]
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        between = [b + node * (a - b) for a, b in zip(x, x0, strict=True)]
        for total, g in zip(totals, step.jacobian_products(between, grads), strict=True):
            total += weight * g
    return totals
