"""Looking at layers during a pass.

`watching` puts hooks on layers for as long as a pass is looked at: it hands each activation to a
function and lets a copy of it flow on, so that gradients at the layer can be asked for and a later
operation in place changes nothing. What a gradient means does not depend on which other layers are
looked at: at a layer's output it is that through this output alone, at its input that through all
uses of the tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..utils import ScopedMode
from ._nested import replaced
from ._run import pick

if TYPE_CHECKING:
    from ._points import Point


def entering(x: torch.Tensor, points: Iterable[Point]) -> torch.Tensor:
    """Input of a network, with a gradient where a point may look at it.

    Parameters
    ----------
    x : torch.Tensor
        The input.
    points : sequence of Point
        What is looked at.

    Returns
    -------
    x : torch.Tensor
    """
    if x.is_floating_point() and not x.requires_grad and any(p.at == "input" for p in points):
        return x.detach().requires_grad_().clone()  # a network may write into it
    return x


def check_floating(tensor: torch.Tensor, name: str) -> None:
    """Raise a ValueError if activations have no gradient, by their dtype."""
    if not tensor.is_floating_point():
        raise ValueError(
            f"layer {name!r} has activations of dtype {tensor.dtype}, which have no gradient; look "
            "at another layer, or at its output."
        )


class _GradientsOfIntegers(ScopedMode):
    """Gives a gradient to what is computed from integers, as an embedding's output is.

    Where a network's input has a gradient, so has all that is computed from it, before any layer is
    looked at. Integers have none, and without this a tensor that two layers use would get one only
    when the first of them that is looked at is reached.
    """

    def _instead(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        result = function(*args, **kwargs)
        if not (
            isinstance(result, torch.Tensor)
            and result.is_floating_point()
            and not result.requires_grad
            and result.grad_fn is None
            and torch.is_grad_enabled()
        ):
            return result
        given = list(_tensors((args, tuple(kwargs.values()))))
        if all(t.is_floating_point() for t in given) or _shares_memory(result, given):
            return result
        return result.requires_grad_().clone()  # a network may write into it


def _tensors(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)


def _shares_memory(tensor: torch.Tensor, others: Iterable[torch.Tensor]) -> bool:
    try:
        address = tensor.untyped_storage().data_ptr()
        return any(t.untyped_storage().data_ptr() == address for t in others)
    except (RuntimeError, NotImplementedError):  # sparse tensors, for example, have no storage
        return True


@contextmanager
def watching(watched: Iterable[tuple[Point, Callable[..., Any]]]) -> Iterator[None]:
    """Hand activations to functions during forward passes.

    What flows on is a copy, so that a later operation in place leaves the activation as it is.

    Parameters
    ----------
    watched : list of (Point, callable)
        The function is called with the activations, which require a gradient.

    Yields
    ------
    None
    """

    def hook(point: Point, keep: Callable[..., Any]) -> torch.utils.hooks.RemovableHandle:
        def see(where: Any) -> Any:
            tensor = pick(where, point.items, point.name)
            check_floating(tensor, point.name)
            if not tensor.requires_grad:
                # Neither a weight that is passed in nor what else uses the tensor gets a gradient.
                tensor = tensor.detach().requires_grad_()
            elif point.at == "output":
                # The module may have returned its own input, which others use past this layer.
                tensor = tensor.clone()
            keep(tensor)
            return replaced(where, point.items, tensor.clone())

        def after(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
            return see(output)

        def before(
            _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[Any, Any]:
            if not args:
                name = next(iter(kwargs))
                return args, {**kwargs, name: see(kwargs[name])}
            if point.items:
                return see(args), kwargs
            first = args[0]
            new = see(first)
            return tuple(new if arg is first else arg for arg in args), kwargs

        if point.at == "output":
            return point.module.register_forward_hook(after)
        return point.module.register_forward_pre_hook(before, with_kwargs=True)

    with ExitStack() as stack:
        if any(point.at == "input" for point, _ in watched):
            stack.enter_context(_GradientsOfIntegers())
        for point, keep in watched:
            stack.callback(hook(point, keep).remove)
        yield
