"""Weighted sums of output units that are the same for all samples, as that of probabilities is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from ._sizes import rounding_of

# Units must vary by so much more than their sum, or nothing is known of it.
_CLEARLY = 1e3


@dataclass
class ConstantSum:
    """A weighted sum of units that does not vary, although the units do: its gradient is 0.

    What autograd makes of it is rounding, and as large as it likes beside gradients that are small
    themselves: those of saturated probabilities, for example.

    Attributes
    ----------
    weights : torch.Tensor of shape (N,)
        Of the units.
    value : float
        The sum.
    """

    weights: torch.Tensor
    value: float

    @classmethod
    def of(cls, z: torch.Tensor, weights: torch.Tensor | None = None) -> Self | None:
        """Look for it in the outputs of some samples.

        Parameters
        ----------
        z : torch.Tensor of shape (n, N)
            Outputs.
        weights : torch.Tensor of shape (N,) or None, default=None
            None: all ones.

        Returns
        -------
        found : ConstantSum or None
            None if the sum varies, or too little else does.
        """
        z = z.detach()
        weights = torch.ones(z.shape[1]) if weights is None else torch.as_tensor(weights)
        rounding = cls._rounding(z, weights)
        sums = z.double() @ weights.to(z.device, torch.float64)
        spans = (z.amax(dim=0) - z.amin(dim=0)).double().cpu() @ weights.double().abs().cpu()
        constant = (sums - sums[0]).abs().amax() <= rounding.amax()
        if len(z) < 2 or not constant or spans <= _CLEARLY * rounding.amax().cpu():
            return None
        return cls(weights, float(sums.mean()))

    def holds(self, z: torch.Tensor) -> torch.Tensor:
        """Tell for which samples the sum has that value.

        Parameters
        ----------
        z : torch.Tensor of shape (b, N)
            Outputs.

        Returns
        -------
        holds : torch.Tensor of bool of shape (b,)
        """
        z = z.detach()
        sums = z.double() @ self.weights.to(z.device, torch.float64)
        return (sums - self.value).abs() <= 2 * self._rounding(z, self.weights)

    @staticmethod
    def _rounding(z: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        sizes = z.abs() @ weights.to(z).abs()
        return rounding_of(sizes).double()
