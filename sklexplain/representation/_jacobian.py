"""Gradients of output units at layers: one forward pass, and one backward pass a unit for all.

The rows of a batch are independent of one another. So a batch that holds every sample several
times is run forward once, and one backward pass through it gives several units' gradients of every
sample, at every layer.
"""

from contextlib import nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ._points import Point, Points, entering, find_points, watching

__all__ = ["Point", "Points", "find_points", "unit_gradients"]


def unit_gradients(call, points, x, *, units=None, weights=None, rows, create_graph=False):
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
    # Each sample so often in the batch, as many units are differentiated at once.
    copies = max(1, min(n_rows, points.block_rows(rows, x.device) // len(x)))
    with torch.set_grad_enabled(create_graph):
        z, tensors = _forward(call, points, x, copies, create_graph)
        activations = _activations(points, tensors, len(x), copies, create_graph)
    for i in range(0, n_rows, copies):
        if index is None:
            block, c = None, cotangents.to(z)
        else:
            block = index[i : i + copies]
            c = _unit_rows(block, points.n_units, z)
        last = i + copies >= n_rows
        with torch.set_grad_enabled(create_graph):
            gradients = _backward(z, tensors, c, len(x), copies, create_graph, last)
            gradients = _arranged(points, gradients, len(x), copies, len(c))
        yield block, gradients, activations


def _matrix(weights, n_units):
    weights = torch.as_tensor(weights)
    if weights.shape != (n_units,):
        raise ValueError(
            f"weights of shape {tuple(weights.shape)} must hold one number for each of the "
            f"{n_units} output units."
        )
    return weights[None]


def _unit_rows(block, n_units, z):
    c = z.new_zeros(len(block), n_units)
    c[torch.arange(len(block)), block.to(z.device)] = 1
    return c


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


def _backward(z, tensors, cotangents, n_samples, copies, create_graph, last):
    """Gradients of the units, one a copy; copies without a unit get zeros."""
    c = cotangents
    if len(c) < copies:
        c = torch.cat([c, c.new_zeros(copies - len(c), c.shape[1])])
    c = c.repeat_interleave(n_samples, dim=0)
    return torch.autograd.grad(
        z, tensors, c, retain_graph=create_graph or not last, create_graph=create_graph
    )


def _arranged(points, gradients, n_samples, copies, n_units):
    """Gradients of (copies · b) rows to (k, b, C, *spatial)."""
    arranged = []
    for point, gradient in zip(points, gradients, strict=True):
        gradient = point.arrange(gradient)
        gradient = gradient.unflatten(0, (copies, n_samples))
        arranged.append(gradient[:n_units])
    return arranged
