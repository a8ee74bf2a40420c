"""Run a network up to a named layer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from ..utils import did_you_mean
from ._nested import key_of, parts_of, path_of, tensor_paths
from ._wrappers import hidden_layers, plain_name

_ITEM = re.compile(r"""\[(?:(?P<position>-?\d+)|'(?P<key>[^']+)'|"(?P<other>[^"]+)")\]""")
_PATH = re.compile(r"""^(?P<name>[^\[\]]*)(?P<items>(\[(-?\d+|'[^']+'|"[^"]+")\])*)$""")


class _LayerReached(Exception):
    """Ends a forward pass once the wanted activations are computed."""


def parse_path(path: str) -> tuple[str, tuple[int | str, ...]]:
    """Split ``"rnn[1][0]"`` or ``"enc['mu']"`` into the submodule's name and items of its output.

    Parameters
    ----------
    path : str
        A name as in ``named_modules()``, followed by any number of ``[integer]`` and ``['key']``.

    Returns
    -------
    name : str
    items : tuple of int or str

    Raises
    ------
    ValueError
        If the path does not have that form.

    Examples
    --------
    >>> parse_path("rnn[1][0]")
    ('rnn', (1, 0))
    >>> parse_path("enc['mu']")
    ('enc', ('mu',))
    """
    match = _PATH.match(path)
    if match is None:
        raise ValueError(
            f"layer={path!r} is not a layer path; write a submodule's name as in "
            "named_modules(), and pick from a tuple by its position, 'rnn[1][0]', and from a dict "
            "by its key, \"enc['mu']\"."
        )
    items = (
        int(item["position"]) if item["position"] else item["key"] or item["other"]
        for item in _ITEM.finditer(match["items"])
    )
    return match["name"], tuple(items)


def unknown_layer(name: str, known: Iterable[str], parameter: str = "layer") -> ValueError:
    """Build the error for a layer name that does not exist, with the nearest ones that do."""
    known = [k for k in known if k]
    hint = did_you_mean(name, known, n=3)
    listed = ", ".join(map(repr, known[:20])) + (", …" if len(known) > 20 else "")
    return ValueError(
        f"{parameter}={name!r} is not a submodule of the network.{hint} Layers: {listed}."
    )


def known_layer(name: str, modules: dict[str, nn.Module], parameter: str = "layer") -> str:
    """Find a layer by its name, with or without what wrappers of the network have put into it.

    Parameters
    ----------
    name : str
        Without items.
    modules : dict of str to nn.Module
        The layers there are, see `named_layers`.
    parameter : str, default="layer"
        Name of the parameter, for error messages.

    Returns
    -------
    name : str
        One of ``modules``.

    Raises
    ------
    ValueError
        If there is no such layer.
    TypeError
        If the layer is part of a network that runs without calling it (TorchScript, torch.export).
    """
    name = plain_name(name, modules)
    if name not in modules:
        error = unknown_layer(name, modules, parameter)
        raise error
    parents = [name[:i] for i, letter in enumerate(name) if letter == "."] + [""] * bool(name)
    around = [modules[parent] for parent in parents if parent in modules]
    itself = [modules[name]] if isinstance(modules[name], torch.jit.ScriptModule) else []
    reason = hidden_layers(around + itself)
    if reason is not None:
        raise TypeError(f"{parameter}={name!r}: {reason}")
    return name


def pick(
    output: Any, items: tuple[int | str, ...], where: str, parameter: str = "layer"
) -> torch.Tensor:
    """Take one tensor out of a module's (possibly nested) output.

    Parameters
    ----------
    output : tensor or nested tuple, dict or object with tensors
        What the module returned.
    items : tuple of int or str
        Positions and keys, outermost first.
    where : str
        The layer's name, for the error message.
    parameter : str, default="layer"
        Name of the parameter that names layers, for the error message.

    Returns
    -------
    tensor : torch.Tensor

    Raises
    ------
    ValueError
        If a part does not exist, or is something other than a single tensor.
    """
    if isinstance(output, torch.Tensor) and not items:
        return output.dequantize() if output.is_quantized else output
    match = _PATH.match(where)
    whole, name = output, match["name"] if match else where
    for depth, item in enumerate(items):
        try:
            output = (parts_of(output) or {})[key_of(output, item)]
        except KeyError:
            raise ValueError(
                f"{_named(name, items[:depth])} has no item [{item!r}]: it is "
                f"{_described(output)}.{_suggested(whole, name, parameter)}"
            ) from None
    if not isinstance(output, torch.Tensor):
        within = _suggested(output, name, parameter, items)
        raise ValueError(
            f"{_named(name, items)} is not one tensor but {_described(output)}."
            f"{within or _suggested(whole, name, parameter)}"
        )
    return output.dequantize() if output.is_quantized else output


def _named(name: str, items: tuple[int | str, ...]) -> str:
    """Name a part of what a layer, or the whole network, returns."""
    path = path_of(name, items)
    of = f"the output of layer {path!r}" if name else "the network's output"
    return of if name or not items else f"{of} {path!r}"


def _described(output: Any) -> str:
    """Say what an output is, for an error message."""
    if output is None:
        return "None, which the network leaves out (attention with need_weights=False, for example)"
    if isinstance(output, torch.Tensor):
        return f"one tensor of shape {tuple(output.shape)}"
    parts, kind = parts_of(output), type(output).__name__
    if isinstance(output, PackedSequence):
        return f"{kind}, whose rows belong to no sample alone (pad_packed_sequence unpacks it)"
    if parts is None:
        return kind
    keys = ", ".join(repr(key) for key in list(parts)[:8]) + (", …" if len(parts) > 8 else "")
    keys = ", ".join(map(repr, output._fields)) if hasattr(output, "_fields") else keys
    by_position = isinstance(output, (tuple, list)) and not hasattr(output, "_fields")
    return f"{kind} ({len(parts)})" if by_position else f"{kind} with {keys}"


def _suggested(output: Any, name: str, parameter: str, items: tuple[int | str, ...] = ()) -> str:
    """List the parts that are tensors, as values of the parameter."""
    paths = tensor_paths(output, name, items)
    listed = ", ".join(f"{parameter}={path!r}" for path in paths)
    return f" Name the part to explain: {listed}." if listed and paths != [name] else ""


def batch_axis(two: tuple[int, ...], three: tuple[int, ...], what: str) -> int:
    """Find the one axis that follows the samples, the others being fixed.

    Parameters
    ----------
    two, three : tuple of int
        Shapes of the output for two and for three samples.
    what : str
        What has this output, for the error message.

    Returns
    -------
    axis : int

    Raises
    ------
    ValueError
        If there is no such axis.
    """
    if len(two) == len(three):
        differing = [i for i, n in enumerate(two) if n != three[i]]
        if len(differing) == 1 and (two[differing[0]], three[differing[0]]) == (2, 3):
            return differing[0]
    raise ValueError(
        f"{what} returned shape {two} for two samples and {three} for three: there must be one "
        "axis of its output that follows the samples, else it gives them no representation."
    )


def run_to(
    call: Callable[..., Any],
    module: nn.Module,
    x: Any,
    n_calls: int | None = 1,
    at: str = "output",
) -> tuple[Any, int]:
    """Output or input of a submodule during ``call(x)``, which is run no further than needed.

    Parameters
    ----------
    call : callable
        Runs the network on ``x``.
    module : torch.nn.Module
        The submodule. It may be called several times; its last call counts.
    x : torch.Tensor
        The network's input.
    n_calls : int or None, default=1
        Number of times ``module`` is called in one pass; the pass ends there. None runs to the
        end and counts.
    at : {"output", "input"}, default="output"
        Whether to look at what the submodule returns, or at its first argument.

    Returns
    -------
    output : object
        What the submodule returned (or received) in that call, None if it was not called.
    count : int
        Number of calls.
    """
    seen: list[Any] = []

    def see(value: Any) -> None:
        seen[:] = [value, seen[1] + 1 if seen else 1]
        if seen[1] == n_calls:
            raise _LayerReached

    with _watching(module, at, see):
        try:
            call(x)
        except _LayerReached:
            pass
    return (seen[0], seen[1]) if seen else (None, 0)


def run_through(
    call: Callable[..., Any],
    module: nn.Module,
    x: torch.Tensor,
    items: tuple[int | str, ...] = (),
    where: str = "",
    at: str = "output",
) -> tuple[torch.Tensor, Any]:
    """Activations of a submodule during ``call(x)``, and what the call returns.

    Parameters
    ----------
    call, module, x, at
        See `run_to`; the submodule's last call counts.
    items : tuple of int, default=()
        Which item of what it returned; see `pick`.
    where : str, default=""
        The layer's name, for error messages.

    Returns
    -------
    activations : torch.Tensor
        A copy, so that a later operation in place leaves it as it is.
    output : object
        What the call returned.
    """
    seen: list[Any] = []

    def see(value: Any) -> None:
        seen[:] = [pick(value, items, where).clone()]

    with _watching(module, at, see):
        output = call(x)
    return seen[0], output


@contextmanager
def _watching(module: nn.Module, at: str, see: Callable[[Any], None]) -> Iterator[None]:
    """Hand what a module returns, or its first argument, to a function in every call."""

    def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        see(output)

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        see(args[0] if args else next(iter(kwargs.values())))

    if at == "output":
        handle = module.register_forward_hook(after)
    else:
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
