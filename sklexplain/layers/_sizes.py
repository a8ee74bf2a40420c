r"""How large the numbers were that an aggregate is made of, which is what its rounding is about.

A mean of large numbers that cancel is not 0 but some roundings of those numbers. Whether it is
anything else shows only beside their size. So each aggregate can be had with a *size*, a number
that its absolute error is a few roundings of. For a mean of numbers with sizes :math:`S_i` that is
the mean of the sizes; the variance of numbers that are off by :math:`\delta` is off by
:math:`2 \sigma \delta + \delta^2`; skewness, which has no scale, by a multiple of
:math:`\delta / \sigma`. The size of a number that is no sum is its absolute value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import torch

from ._aggregators import RunningAggregate, RunningMoments, aggregate

# Numbers and their sizes, None where these are the numbers' absolute values.
Sized: TypeAlias = tuple[torch.Tensor, torch.Tensor | None]

# The longest sums and the passes back through a few layers stay well below this many roundings.
_ROUNDINGS = 64
_FEWEST = {"var": 2, "skew": 3}  # numbers that may differ in them
_HALF_ROUNDINGS = 4  # more would be a good part of the number itself


def rounding_of(size: torch.Tensor) -> torch.Tensor:
    """Largest absolute error of numbers of a given size.

    Parameters
    ----------
    size : torch.Tensor
        Of the dtype that was computed in.

    Returns
    -------
    rounding : torch.Tensor
        Of the same shape, in at least single precision.
    """
    if size.dtype.itemsize < 4:
        return size.float() * (_HALF_ROUNDINGS * torch.finfo(size.dtype).eps)
    return size * (_ROUNDINGS * torch.finfo(size.dtype).eps)


def aggregate_with_size(
    values: torch.Tensor,
    sizes: torch.Tensor | None,
    how: str | Callable[..., Any],
    dim: int,
    overwrite: bool = False,
) -> Sized:
    """Aggregate along one axis, and say how large what was aggregated is.

    Parameters
    ----------
    values : torch.Tensor
        The multisets.
    sizes : torch.Tensor or None
        Their sizes; None: their absolute values.
    how : str or callable
        See `aggregate`.
    dim : int
        The axis.
    overwrite : bool, default=False
        Whether ``values`` may be overwritten, which is faster.

    Returns
    -------
    aggregated : torch.Tensor
    sizes : torch.Tensor or None
        Of the aggregates; None: their absolute values.
    """
    if how == "none":
        return values, sizes
    n = values.shape[dim]
    if callable(how):
        # Of a sum of these the error grows with the root of their number, which the margin covers.
        return aggregate(values, how, dim), (values.abs() if sizes is None else sizes).amax(dim)
    if how == "abs":
        size = None if sizes is None else sizes.mean(dim)
        return aggregate(values, how, dim, overwrite), size
    if how == "mean":
        mean = aggregate(values, how, dim)
        if sizes is None:
            sizes = values.abs_() if overwrite else values.abs()
        return mean, sizes.sum(dim) * (1 / n)
    squares = (values if sizes is None else sizes).square().sum(dim) * (1 / n)
    if n < _FEWEST[how]:  # 0 by definition, not by rounding
        return torch.zeros_like(squares), torch.zeros_like(squares)
    if how == "var":
        value = aggregate(values, how, dim, overwrite)
        return value, _size_of_variance(value, squares)
    moments = RunningMoments(order=3)
    moments.add(values, dim)
    return _skewness_with_size(moments, squares)


def _size_of_variance(variance: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    """Size of a variance, from the mean of the squared sizes."""
    spread = variance.clamp(min=0).sqrt()
    return 2 * spread * squares.sqrt() + rounding_of(squares).to(squares.dtype)


def _skewness_with_size(
    moments: RunningMoments, squares: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Skewness, 0 where the numbers differ by their rounding only, and its size."""
    value = moments.result("skew")
    spread, rms = (moments.m2 / moments.n).sqrt(), squares.sqrt()
    known = spread > rounding_of(rms)
    ratio = rms / torch.where(known, spread, torch.ones_like(spread))
    none = torch.zeros_like(value)
    return torch.where(known, value, none), torch.where(known, 6 * (1 + value.abs()) * ratio, none)


class RunningSizedAggregate:
    """An aggregate along axis 0 of values that arrive block by block, with its size.

    Parameters
    ----------
    how : str or callable
        See `aggregate`.
    """

    def __init__(self, how: str | Callable[..., Any]) -> None:
        self.how = how
        self._values = RunningAggregate(how)
        self._sizes: list[torch.Tensor] = []  # all of them, or their sum, or that of their squares
        self._n = 0

    def add(self, values: torch.Tensor, sizes: torch.Tensor | None) -> None:
        """Take in a block of shape (k, ...), with its sizes or None for the absolute values."""
        self._values.add(values)
        self._n += len(values)
        if self._values.keeps_all:
            if sizes is not None:
                self._sizes.append(sizes)
            return
        if self.how == "abs" and sizes is None:
            return
        sizes = values.abs() if sizes is None else sizes
        part = (sizes if self.how in ("mean", "abs") else sizes.square()).sum(dim=0)
        self._sizes = [self._sizes[0] + part if self._sizes else part]

    def result(self) -> Sized:
        """Aggregate of all blocks, and its size; None for the absolute value.

        Returns
        -------
        aggregated : torch.Tensor of shape (...), or (N, ...) for "none"
        sizes : torch.Tensor or None
        """
        value = self._values.result()
        if self.how == "none":
            return value, torch.cat(self._sizes) if self._sizes else None
        if callable(self.how):
            sizes = torch.cat(self._sizes) if self._sizes else self._values.everything().abs()
            return value, sizes.amax(dim=0)
        if not self._sizes:
            return value, None
        mean = self._sizes[0] * (1 / self._n)
        if self.how in ("mean", "abs"):
            return value, mean
        if self._n < _FEWEST[self.how]:
            return value, torch.zeros_like(value)
        if self.how == "var":
            return value, _size_of_variance(value, mean)
        # Only "none" and callables have none.
        return _skewness_with_size(cast(RunningMoments, self._values.moments), mean)
