"""Aggregation of a multiset of numbers to a single one, at once or block by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

AGGREGATORS = ("mean", "abs", "var", "skew", "none")


def aggregate(
    values: torch.Tensor, how: str | Callable[..., Any], dim: int, overwrite: bool = False
) -> torch.Tensor:
    """Aggregate along one axis.

    Parameters
    ----------
    values : torch.Tensor
        The multisets.
    how : {"mean", "abs", "var", "skew", "none"} or callable
        ``"abs"`` is the mean of absolute values; ``"var"`` has n - 1 in its denominator, and is 0
        for one element; ``"skew"`` is the third central moment over the standard deviation (with
        n) cubed, 0 where nothing varies and for two elements, which are symmetric; ``"none"`` keeps
        the axis. A callable is called as
        ``how(values, dim=dim)`` and drops the axis, like ``torch.amax``.
    dim : int
        The axis.
    overwrite : bool, default=False
        Whether ``values`` may be overwritten, which is faster.

    Returns
    -------
    aggregated : torch.Tensor

    Examples
    --------
    >>> import torch
    >>> from sklexplain.layers._aggregators import aggregate
    >>> aggregate(torch.tensor([-1.0, 1.0, 0.0, 0.0]), "var", 0)
    tensor(0.6667)
    """
    if callable(how):
        return _by_callable(values, how, dim)
    if how == "none":
        return values
    n = values.shape[dim]
    if how == "mean":
        return values.sum(dim) * (1 / n)
    if how == "abs":
        return (values.abs_() if overwrite else values.abs()).sum(dim) * (1 / n)
    if how == "var":
        if n == 1:
            return torch.zeros_like(values.select(dim, 0))
        mean = values.sum(dim, keepdim=True) * (1 / n)
        centred = values.sub_(mean) if overwrite else values - mean
        return (centred.square_() if overwrite else centred**2).sum(dim) * (1 / (n - 1))
    moments = RunningMoments(order=3)
    moments.add(values, dim)
    return moments.result(how)


def _by_callable(values: torch.Tensor, how: Callable[..., Any], dim: int) -> torch.Tensor:
    """Call a user's aggregator, and check what it returns."""
    said = f"channel_agg or unit_agg, {getattr(how, '__name__', type(how).__name__)}(values, dim),"
    try:
        aggregated = how(values, dim=dim)
    except TypeError as error:
        raise TypeError(f"{said} cannot be called: {error}") from error
    if not isinstance(aggregated, torch.Tensor):
        raise TypeError(f"{said} returned {type(aggregated).__name__}, not a tensor.")
    wanted = tuple(size for axis, size in enumerate(values.shape) if axis != dim % values.ndim)
    if aggregated.shape != wanted:
        raise ValueError(
            f"{said} made {tuple(aggregated.shape)} of {tuple(values.shape)}; it must drop axis "
            f"{dim}, like torch.amax."
        )
    return aggregated


class RunningMoments:
    """Mean and central moments of multisets that arrive block by block, numerically stable.

    Parameters
    ----------
    order : {1, 2, 3}
        The highest moment.
    """

    def __init__(self, order: int) -> None:
        self.order = order
        self.n = 0
        self.mean: Any = None  # a tensor each, as far as they are asked for
        self.m2: Any = None
        self.m3: Any = None

    def add(self, values: torch.Tensor, dim: int = 0) -> None:
        """Take in a block along one axis."""
        n = values.shape[dim]
        mean = values.mean(dim, keepdim=True)
        m2 = m3 = None
        if self.order > 1:
            centred = values - mean
            m2 = (centred**2).sum(dim)
            m3 = (centred**3).sum(dim) if self.order > 2 else None
        self._merge(n, mean.squeeze(dim), m2, m3)

    def _merge(self, n: int, mean: torch.Tensor, m2: Any, m3: Any) -> None:
        # Chan, Golub & LeVeque's and Pébay's formulas for the union of two sets.
        if self.n == 0:
            self.n, self.mean, self.m2, self.m3 = n, mean, m2, m3
            return
        total = self.n + n
        delta = mean - self.mean
        if self.order > 2:
            self.m3 = (
                self.m3
                + m3
                + delta**3 * (self.n * n * (self.n - n) / total**2)
                + delta * (self.n * m2 - n * self.m2) * (3 / total)
            )
        if self.order > 1:
            self.m2 = self.m2 + m2 + delta**2 * (self.n * n / total)
        self.mean = self.mean + delta * (n / total)
        self.n = total

    def result(self, how: str) -> torch.Tensor:
        """Aggregate of all blocks: "mean", "var" or "skew"."""
        if how == "mean":
            return self.mean
        if how == "var":
            return self.m2 / (self.n - 1) if self.n > 1 else torch.zeros_like(self.mean)
        if self.n < 3:  # two numbers are symmetric
            return torch.zeros_like(self.mean)
        # A variance that may be due to the rounding of the mean counts as none.
        rounding = 10 * torch.finfo(self.mean.dtype).eps * self.mean
        varies = self.m2 > self.n * rounding**2
        safe = torch.where(varies, self.m2, torch.ones_like(self.m2))
        return torch.where(varies, self.m3 / safe**1.5 * self.n**0.5, torch.zeros_like(self.m3))


class RunningAggregate:
    """An aggregate along axis 0 of values that arrive block by block.

    Parameters
    ----------
    how : {"mean", "abs", "var", "skew", "none"} or callable
        See `aggregate`. The last two need all values at once and keep them.
    """

    # Fewer, larger steps: many small ones cost more than the numbers in them.
    _BUFFER = 32

    def __init__(self, how: str | Callable[..., Any]) -> None:
        self.how = how
        self._blocks: list[torch.Tensor] = []
        self._n = 0
        order = {"mean": 1, "abs": 1, "var": 2, "skew": 3}
        self.moments = None if callable(how) or how == "none" else RunningMoments(order[how])
        self.keeps_all = self.moments is None

    def add(self, values: torch.Tensor) -> None:
        """Take in a block of shape (k, ...)."""
        self._blocks.append(values.abs() if self.how == "abs" else values)
        self._n += len(values)
        if self._n >= self._BUFFER and not self.keeps_all:
            self._merge()

    def _merge(self) -> None:
        if self._blocks and self.moments is not None:
            self.moments.add(torch.cat(self._blocks))
        self._blocks, self._n = [], 0

    def everything(self) -> torch.Tensor:
        """Return all values, where they are kept: (N, ...)."""
        self._blocks = [torch.cat(self._blocks)]
        return self._blocks[0]

    def result(self) -> torch.Tensor:
        """Aggregate of all blocks: (...), or (N, ...) for "none"."""
        if self.moments is None:
            return aggregate(self.everything(), self.how, 0)
        self._merge()
        return self.moments.result("mean" if self.how == "abs" else str(self.how))
