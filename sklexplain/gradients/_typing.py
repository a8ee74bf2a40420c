"""What gradients are computed of and kept in: the names that signatures use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import nn

from ._labelled import Labelled

# Samples as they enter the network, perhaps with targets.
Batch: TypeAlias = torch.Tensor | Labelled
# From samples or their outputs to one number each, or from a direction to another.
Function: TypeAlias = Callable[..., Any]


class Losses(Protocol):
    """A loss of each sample, and the passes through the network that it takes."""

    module: nn.Module
    run: Callable[..., Any]

    def inputs(self, x: Any) -> Sequence[Any]:
        """Return what enters the network, once for each draw."""
        ...

    def output(self, part: Any) -> Any:
        """Return the network's output for one of them."""
        ...

    def compare(self, output: Any, x: Any) -> torch.Tensor:
        """Return the losses of outputs."""
        ...


class Term(Protocol):
    """The gradients of some samples by one parameter; those of two parameters are not mixed."""

    @property
    def values(self) -> torch.Tensor:
        """All gradients, written out."""
        ...

    @property
    def size(self) -> int:
        """Number of entries of the parameter."""
        ...

    @property
    def n_bytes(self) -> int:
        """Memory that they take."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Term: ...

    def compact(self) -> Term:
        """Return the same gradients, in the smaller form."""
        ...

    def total(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return their sum, and how large what was summed is."""
        ...

    def scaled(self, factor: Any) -> Term:
        """Return multiples of them."""
        ...

    def weighted(self, weights: torch.Tensor) -> Term:
        """Return a multiple of each sample's."""
        ...

    def double(self) -> Term:
        """Return them in double precision."""
        ...

    def single(self) -> Term:
        """Return them in at least single precision."""
        ...

    def joined(self, others: Any) -> Term:
        """Return them, and those of other samples after them."""
        ...

    def interleaved(self, others: Any, n_each: int = 1) -> Term:
        """Return them and others by turns."""
        ...

    def chunks(self, max_bytes: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield them written out, some columns at a time."""
        ...

    def gram(self, other: Any, max_bytes: int) -> torch.Tensor:
        """Return inner products with others of the same form."""
        ...


Terms: TypeAlias = Mapping[str, Term]
# What a rule finds: gradients by one of a layer's parameters.
Pair: TypeAlias = tuple[Any, Term]
Rule: TypeAlias = Callable[..., Iterator[Pair]]
