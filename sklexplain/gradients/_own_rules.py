"""Rules of users for the per-sample gradients of their own layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from ._layers import LayerCall, NoRule, samples_first
from ._terms import Explicit
from ._typing import Pair


class OwnRule:
    """A user's rule in the form of the library's, see `_layers`.

    Parameters
    ----------
    rule : callable
        ``rule(layer, x, grad)``, see `sklexplain.extending.register_gradient_rule`.
    """

    def __init__(self, rule: Callable[..., dict[str, torch.Tensor]]) -> None:
        self.rule = rule
        self.__name__ = getattr(rule, "__name__", type(rule).__name__)

    def __call__(self, call: LayerCall, grads: Sequence[Any], n: int, axis: int) -> Iterator[Pair]:
        if len(grads) != 1:
            raise NoRule
        x = samples_first(call.input, n, axis)
        grad = samples_first(grads[0], n, axis)
        own = dict(call.layer.named_parameters(recurse=False))
        found = self.rule(call.layer, x.flatten(0, 1), grad.flatten(0, 1))
        for name, values in found.items():
            if own.get(name) is not None:
                # A sample may have several rows, as the time steps of a series.
                values = torch.as_tensor(values).reshape(*x.shape[:2], own[name].numel())
                yield own[name], Explicit(values.sum(dim=1))
