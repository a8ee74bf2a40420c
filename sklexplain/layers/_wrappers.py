"""Modules that only hand on to the network inside: names are those of the network."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

# By name: most of them are loaded only where they are used. What they hand on to is an attribute.
_INSIDE = {
    "OptimizedModule": "_orig_mod",  # torch.compile
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "CheckpointWrapper": "_checkpoint_wrapped_module",
}
_SHARDED = ("FullyShardedDataParallel",)


def wrapped(module: nn.Module) -> nn.Module | None:
    """Return the network inside a wrapper of torch that only hands on to it.

    Parameters
    ----------
    module : nn.Module
        Any module.

    Returns
    -------
    inside : nn.Module or None
        None for any other module.
    """
    inside = getattr(type(module), "hands_on_to", None)
    if inside is not None:  # a stand-in of ours
        return getattr(module, inside)
    for kind in type(module).__mro__:
        if kind.__name__ in _INSIDE and kind.__module__.startswith("torch."):
            return getattr(module, _INSIDE[kind.__name__])
    return None


def unwrapped(module: nn.Module) -> nn.Module:
    """Look through all wrappers around a network.

    Parameters
    ----------
    module : nn.Module
        The network, in a wrapper or not.

    Returns
    -------
    module : nn.Module
    """
    inside = wrapped(module)
    while inside is not None:
        module, inside = inside, wrapped(inside)
    return module


def can_be_passed_over(wrapper: nn.Module) -> bool:
    """Whether the network inside can be run instead of a wrapper: its weights are all there."""
    return not any(kind.__name__ in _SHARDED for kind in type(wrapper).__mro__)


def named_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Submodules by the names that they have in the network itself.

    Parameters
    ----------
    module : nn.Module
        The network, in wrappers or with wrappers inside.

    Returns
    -------
    layers : dict of str to nn.Module
        As ``named_modules()`` of the network without wrappers: compiled with `torch.compile`, its
        layers are ``l1``, not ``_orig_mod.l1``.
    """
    layers: dict[str, nn.Module] = {}
    _add_layers(layers, set(), module, "")
    return layers


def _add_layers(layers: dict[str, nn.Module], seen: set[int], module: nn.Module, name: str) -> None:
    # Not a closure: one that calls itself is a cycle, which would keep the modules it has seen.
    module = unwrapped(module)
    if id(module) in seen:
        return
    seen.add(id(module))
    layers[name] = module
    for child, below in module._modules.items():
        if below is not None:
            _add_layers(layers, seen, below, f"{name}.{child}" if name else child)


@contextmanager
def uncompiled(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Run compiled modules as they are written, so that hooks on what is inside of them run.

    A compiled graph is used again whatever hooks there are: those it was traced with run, others do
    not.

    Parameters
    ----------
    modules : iterable of nn.Module
        All that will run; they are put back into the state they were in.

    Yields
    ------
    None
    """
    # Bypassing whatever a class does on attribute access: a compiled one hands it on.
    changes: list[tuple[dict[str, Any], str, Any]] = []
    for module in modules:
        attributes = object.__getattribute__(module, "__dict__")
        if attributes.get("_compiled_call_impl") is not None:
            changes.append((attributes, "_compiled_call_impl", None))
        inside = wrapped(module)
        if inside is not None and "forward" in attributes:
            changes.append((attributes, "forward", inside.__call__))
    before = [(attributes, name, attributes[name]) for attributes, name, _ in changes]
    try:
        for attributes, name, value in changes:
            attributes[name] = value
        yield
    finally:
        for attributes, name, value in before:
            attributes[name] = value


def plain_name(name: str, known: Collection[str]) -> str:
    """Leave out of a name what wrappers have put into it.

    Parameters
    ----------
    name : str
        Of a layer or a parameter: ``"_orig_mod.l1"``, ``"module.l1"``.
    known : collection of str
        The names that there are.

    Returns
    -------
    name : str
        One of them, if leaving out parts makes it one; else the name as it is.
    """
    if name in known:
        return name
    parts = name.split(".")
    removable = [i for i, part in enumerate(parts) if part in _INSIDE.values()]
    for n in range(1, len(removable) + 1):
        for left_out in itertools.combinations(removable, n):
            shorter = ".".join(part for i, part in enumerate(parts) if i not in left_out)
            if shorter in known:
                return shorter
    return name


def hidden_layers(modules: Iterable[nn.Module]) -> str | None:
    """Say why layers cannot be looked at, where a network runs without calling them.

    Parameters
    ----------
    modules : iterable of nn.Module
        The network's.

    Returns
    -------
    reason : str or None
        A sentence for an error message; None if every layer is a Python module.
    """
    for module in modules:
        if isinstance(module, torch.jit.ScriptModule):
            return (
                "layers of a ScriptModule cannot be looked at (TorchScript runs without calling "
                "them); pass the Python module that it was made of."
            )
        if _is_exported(module):
            return (
                "layers of an exported module cannot be looked at (torch.export leaves operations "
                "only, which call no layers); pass the Python module that it was made of."
            )
    return None


def _is_exported(module: nn.Module) -> bool:
    graph = getattr(module, "graph", None) if isinstance(module, torch.fx.GraphModule) else None
    if graph is None:
        return False
    # torch.fx.symbolic_trace leaves calls of layers, and those can be looked at.
    calls = {node.op for node in graph.nodes if not str(node.target).startswith("_guards")}
    holds = any(parameter is not None for parameter in module.parameters())
    return holds and "call_module" not in calls
