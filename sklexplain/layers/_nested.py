"""Nested outputs of modules: tuples, dicts and objects that hold tensors."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

_MOST = 8  # parts listed in a message
_DEEPEST = 4


def parts_of(output: Any) -> dict[Any, Any] | None:
    """Split a nested output into its parts.

    Parameters
    ----------
    output : object
        What a module returned.

    Returns
    -------
    parts : dict or None
        By position in a tuple or list, by key in a mapping, by attribute in an object that holds
        tensors; None if the output is not nested.
    """
    if isinstance(output, (tuple, list)):
        return dict(enumerate(output))
    if isinstance(output, Mapping):
        return dict(output.items())
    if output is None or isinstance(output, (torch.Tensor, nn.Module, type)):
        return None
    if dataclasses.is_dataclass(output):
        names = [field.name for field in dataclasses.fields(output)]
        return {name: getattr(output, name) for name in names if hasattr(output, name)}
    held = getattr(output, "__dict__", None)
    if not isinstance(held, dict) or not any(isinstance(v, torch.Tensor) for v in held.values()):
        return None
    return {name: value for name, value in held.items() if not name.startswith("_")}


def key_of(output: Any, item: int | str) -> Any:
    """Find the part that an item of a path means.

    Parameters
    ----------
    output : object
        What a module returned.
    item : int or str
        A position or a key; a position in a mapping is that of its values, unless it is a key.

    Returns
    -------
    key : object
        As in `parts_of`.

    Raises
    ------
    KeyError
        If there is no such part.
    """
    parts = parts_of(output)
    if parts is None:
        raise KeyError(item)
    if item in parts:
        return item
    keys = list(parts)
    if isinstance(item, int) and -len(keys) <= item < len(keys):
        return keys[item]
    fields = getattr(output, "_fields", ())
    if item in fields:
        return fields.index(item)
    raise KeyError(item)


def replaced(nested: Any, items: tuple[int | str, ...], tensor: torch.Tensor) -> Any:
    """Replace one of the tensors of a nested output, in a copy of it.

    Parameters
    ----------
    nested : object
        What a module returned; it stays as it is.
    items : tuple of int or str
        Which part, outermost first.
    tensor : torch.Tensor
        What is put in its place.

    Returns
    -------
    nested : object
        Of the same types.
    """
    if not items:
        return tensor
    key = key_of(nested, items[0])
    new = replaced((parts_of(nested) or {})[key], items[1:], tensor)
    return _with_parts(nested, {key: new})


def mapped(function: Callable[[torch.Tensor], Any], output: Any) -> Any:
    """Apply a function to every tensor of a nested output.

    Parameters
    ----------
    function : callable
        From a tensor to what takes its place.
    output : object
        What a module returned; it stays as it is.

    Returns
    -------
    output : object
        Of the same types; the same object where the function returned all tensors themselves.
    """
    if isinstance(output, torch.Tensor):
        return function(output)
    parts = parts_of(output)
    if not parts:
        return output
    new = {key: mapped(function, part) for key, part in parts.items()}
    new = {key: part for key, part in new.items() if part is not parts[key]}
    return _with_parts(output, new) if new else output


def _with_parts(output: Any, new: dict[Any, Any]) -> Any:
    """Return a copy of an output with other parts under some of its keys."""
    if isinstance(output, tuple):
        items = [new.get(i, item) for i, item in enumerate(output)]
        kind = type(output)
        # Not its constructor: that of a named tuple takes the items one by one, and may check them.
        return kind._make(items) if hasattr(kind, "_make") else kind(items)
    twin = copy.copy(output)
    if isinstance(output, (list, Mapping)):
        for key, part in new.items():
            twin[key] = part
    else:
        for key, part in new.items():
            object.__setattr__(twin, key, part)  # also where the class is frozen
    return twin


def path_of(name: str, items: tuple[int | str, ...]) -> str:
    """Write a layer's name and the items of its output as a path, ``"enc['mu'][0]"``."""
    return name + "".join(f"[{item!r}]" for item in items)


def tensor_paths(output: Any, name: str, items: tuple[int | str, ...] = ()) -> list[str]:
    """List the paths of the tensors of a nested output, the first few of them.

    Parameters
    ----------
    output : object
        What a module returned.
    name : str
        The module's name.
    items : tuple of int or str, default=()
        Where the output was found in what the module returned.

    Returns
    -------
    paths : list of str
    """
    if isinstance(output, torch.Tensor):
        return [path_of(name, items)]
    # Rows of a packed sequence belong to no sample alone.
    is_leaf = len(items) >= _DEEPEST or isinstance(output, PackedSequence)
    parts = None if is_leaf else parts_of(output)
    paths: list[str] = []
    for key, part in (parts or {}).items():
        if isinstance(key, (int, str)) and len(paths) < _MOST:
            paths += tensor_paths(part, name, (*items, key))
    return paths[:_MOST]


def first_tensor(output: Any) -> Any:
    """Return the first tensor of a nested output, the output itself if it holds none."""
    if isinstance(output, torch.Tensor):
        return output
    for part in (parts_of(output) or {}).values():
        found = first_tensor(part)
        if isinstance(found, torch.Tensor):
            return found
    return output
