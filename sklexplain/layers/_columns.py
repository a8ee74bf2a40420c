"""A Jacobian column by column: for few activations and many output units.

A backward pass gives a row, and is linear in what it is given. Its derivative by that is a column:
two passes backward are one forward, and need no rule of their own for it.
"""

import warnings

import torch

__all__ = ["Columns"]


class Columns:
    """Jacobians of an output with respect to activations, by a pass an activation.

    Parameters
    ----------
    z : tensor of shape (b, N)
        The output, with its graph.
    activations : list of tensor
        On the way to it.
    flat : callable
        ``flat(tensor, i)`` brings activation i, or its gradient, to shape (b, d_i), differentiably.
    at_once : int
        How many columns at once, where all operations have a batched backward pass.
    """

    def __init__(self, z, activations, flat, at_once):
        self.z = z
        self.activations = activations
        self.flat = flat
        self.at_once = at_once

    def jacobians(self, units):
        """Rows of the Jacobians.

        Parameters
        ----------
        units : tensor of int64 of shape (m,)
            Which output units.

        Returns
        -------
        jacobians : list of tensor of shape (m, b, d_i)

        Raises
        ------
        RuntimeError
            If an operation has no second derivative.
        """
        with torch.enable_grad():
            z = self.z.index_select(1, units.to(self.z.device))
            # Any numbers would do; of these, no two sums are alike.
            row = torch.linspace(0.5, 1.5, len(units), dtype=z.dtype, device=z.device)
            v = row.repeat(len(z), 1).requires_grad_()
            gradients = torch.autograd.grad(z, self.activations, v, create_graph=True)
            gradients = [self.flat(g, i) for i, g in enumerate(gradients)]
        jacobians = []
        for gradient in gradients:
            jacobian = self._columns(gradient, v).movedim(0, 2).movedim(1, 0)
            _check(jacobian, row, gradient.detach())
            jacobians.append(jacobian)
        return jacobians

    def _columns(self, gradient, v):
        """Differentiate a gradient (b, d) by the cotangents (b, m): (d, b, m)."""
        eye = torch.eye(gradient.shape[1], dtype=gradient.dtype, device=gradient.device)
        blocks = eye[:, None].expand(-1, len(gradient), -1).split(self.at_once)
        columns = []
        for block in blocks:
            found = self._batched(gradient, v, block) if self.at_once > 1 else None
            if found is None:
                found = torch.stack([_differentiated(gradient, v, one) for one in block])
            columns.append(found)
        return torch.cat(columns)

    def _batched(self, gradient, v, block):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found = _differentiated(gradient, v, block, is_grads_batched=True)
            except (RuntimeError, NotImplementedError, ValueError):
                found = None
        if found is None or any("batching rule" in str(w.message) for w in caught):
            self.at_once = 1
            return None
        return found


def _differentiated(gradient, v, cotangents, **params):
    return torch.autograd.grad(gradient, v, cotangents, retain_graph=True, **params)[0]


def _check(jacobian, row, gradient):
    """Raise a RuntimeError unless a Jacobian (m, b, d) gives the gradient it was taken of.

    It does not where a backward pass of a user's own cuts its graph.

    Raises
    ------
    RuntimeError
        If the rows' weighted sum is not the gradient.
    """
    found = torch.einsum("mbd,m->bd", jacobian, row)
    scale = torch.einsum("mbd,m->bd", jacobian.abs(), row.abs()).amax()
    most = torch.finfo(row.dtype).eps ** 0.5 * scale
    if not (found - gradient).abs().amax() <= most:
        raise RuntimeError("The Jacobian does not give the gradient.")
