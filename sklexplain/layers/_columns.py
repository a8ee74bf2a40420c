"""A Jacobian column by column: for few activations and many output units.

A backward pass maps a cotangent v to the row v'J, which is linear in v. Differentiating that map by
v, which is a second backward pass, therefore gives J times a direction: a column of J. So two
backward passes do the work of forward-mode differentiation, and work for every operation that can
be differentiated twice.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch


class JacobianColumns:
    """Jacobians of an output with respect to activations, one pass for each activation.

    Parameters
    ----------
    z : tensor of shape (b, N)
        The output, with its graph.
    activations : list of tensor
        On the way to it.
    flat : callable
        ``flat(tensor, i)`` brings activation i, or its gradient, to shape (b, d_i), differentiably.
    at_once : int
        How many columns to compute together, where torch can vectorise all backward passes.
    """

    def __init__(
        self,
        z: torch.Tensor,
        activations: list[torch.Tensor],
        flat: Callable[[torch.Tensor, int], torch.Tensor],
        at_once: int,
    ) -> None:
        self.z = z
        self.activations = activations
        self.flat = flat
        self.at_once = at_once

    def jacobians(self, units: torch.Tensor) -> list[torch.Tensor]:
        """Rows of the Jacobians.

        Parameters
        ----------
        units : tensor of int64 of shape (m,)
            The output units.

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
            # Any cotangent would do. This one, with unequal entries, also serves for `_check`.
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

    def _columns(self, gradient: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Differentiate a gradient (b, d) by the cotangents (b, m): (d, b, m)."""
        eye = torch.eye(gradient.shape[1], dtype=gradient.dtype, device=gradient.device)
        blocks = eye[:, None].expand(-1, len(gradient), -1).split(self.at_once)
        columns = []
        for block in blocks:
            several = self._batched(gradient, v, block) if self.at_once > 1 else None
            if several is None:
                several = torch.stack([_differentiated(gradient, v, one) for one in block])
            columns.append(several)
        return torch.cat(columns)

    def _batched(
        self, gradient: torch.Tensor, v: torch.Tensor, block: torch.Tensor
    ) -> torch.Tensor | None:
        """Several columns by one vectorised pass; None, also later on, where there is none."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                columns = _differentiated(gradient, v, block, is_grads_batched=True)
            except (RuntimeError, NotImplementedError, ValueError):
                columns = None
        if columns is None or any("batching rule" in str(w.message) for w in caught):
            self.at_once = 1
            return None
        return columns


def _differentiated(
    gradient: torch.Tensor, v: torch.Tensor, cotangents: torch.Tensor, **params: Any
) -> torch.Tensor:
    return torch.autograd.grad(gradient, v, cotangents, retain_graph=True, **params)[0]


def _check(jacobian: torch.Tensor, row: torch.Tensor, gradient: torch.Tensor) -> None:
    """Raise a RuntimeError unless a Jacobian (m, b, d) agrees with the gradient it came from.

    It does not where a user's own backward pass is cut off from the graph.

    Raises
    ------
    RuntimeError
        If the rows' weighted sum is not the gradient.
    """
    expected = torch.einsum("mbd,m->bd", jacobian, row)
    scale = torch.einsum("mbd,m->bd", jacobian.abs(), row.abs()).amax()
    most = torch.finfo(row.dtype).eps ** 0.5 * scale
    if not (expected - gradient).abs().amax() <= most:
        raise RuntimeError("The Jacobian does not give the gradient.")
