"""Points of a network: layers whose activations are watched, and the meaning of their axes.

`find_points` runs the network on two and on three samples, records every call of its modules
(`record`) and compares the two recordings: the axis of a layer's activations that grows from two to
three follows the samples, and whatever the output does not depend on is left out or refused. Which
axis holds channels is taken from the layer's kind (a convolution has channels first, a recurrent
layer last) or, for a layer that works on any axes, from the last layer before it that is decisive.

What watches the layers during a pass is in ``_watching.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from ..utils import warn
from ._linear_map import LinearMap
from ._memory import fitting_rows
from ._nested import path_of
from ._recording import Call, Recording, ancestors, depends, is_rearranged, record
from ._run import batch_axis, known_layer, parse_path, pick
from ._watching import check_floating
from ._wrappers import hidden_layers

CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.GroupNorm,
)
CHANNELS_LAST = (
    *(nn.RNNBase, nn.Linear, LinearMap, nn.LayerNorm, nn.MultiheadAttention, nn.Embedding),
    *(nn.EmbeddingBag, nn.RNNCellBase, nn.Bilinear),
)
_LAYOUT_KNOWN = (*CHANNELS_FIRST, *CHANNELS_LAST)
_KINDS = (
    nn.modules.conv._ConvNd,
    nn.Linear,
    LinearMap,
    nn.Bilinear,
    nn.RNNBase,
    nn.MultiheadAttention,
)
_TUPLES = (nn.RNNBase, nn.MultiheadAttention)


MIN_BLOCK = 3


@dataclass(frozen=True)
class Point:
    """A layer whose activations are looked at, and the meaning of their axes.

    Attributes
    ----------
    name : str
        Path of the layer, ``"rnn[1][0]"`` for an item of a tuple.
    module : nn.Module
        The layer.
    items : tuple of int
        Position in the tuple that the layer returns (or is called with).
    at : {"output", "input"}
        Whether the layer's output or its input is looked at.
    batch_axis : int
        The axis that follows the samples.
    channel_axis : int or None
        The axis of channels, None where every unit is a position.
    shape : tuple of int
        (C, *spatial) of one sample; C = 1 where there is no axis of channels.
    is_output : bool
        Whether it is the network's output itself, number by number in the same order: nothing but
        views and copies lies between.
    """

    name: str
    module: nn.Module
    items: tuple
    at: str
    batch_axis: int = 0
    channel_axis: int | None = None
    shape: tuple = ()
    is_output: bool = False

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Sizes of the axes of positions."""
        return self.shape[1:]

    @property
    def has_channels(self) -> bool:
        """Whether activations have an axis of channels beside positions."""
        return self.channel_axis is not None

    def arrange(self, tensor: torch.Tensor, lead: int = 0) -> torch.Tensor:
        """Bring activations, behind ``lead`` other axes, to the shape (b, C, *spatial)."""
        if self.channel_axis is None:
            return tensor.movedim(lead + self.batch_axis, lead).unsqueeze(lead + 1)
        return tensor.movedim((lead + self.batch_axis, lead + self.channel_axis), (lead, lead + 1))


@dataclass(frozen=True)
class Points:
    """The layers that are looked at, in call order: a sequence of `Point`.

    Attributes
    ----------
    points : tuple of Point
    n_units : int
        Number of output units, N.
    row_bytes : int
        Memory that a forward pass keeps for each sample until the backward pass.
    may_move : bool
        Whether their rows may be in another order than the samples, which is looked at then.
    batched : dict
        Which faster ways of `unit_gradients` work for these points, as far as they were tried.
    """

    points: tuple
    n_units: int
    row_bytes: int
    may_move: bool = False
    batched: dict = field(default_factory=dict, compare=False, repr=False)

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> Point:
        return self.points[index]

    @property
    def names(self) -> list[str]:
        """Names of the layers, in the order of the points."""
        return [point.name for point in self.points]

    @property
    def hidden(self) -> tuple[Point, ...]:
        """The points before the one that makes the output, by itself or with a function after it.

        Where only an activation function follows the last layer, it has as many positions as there
        are output units, and no channels.
        """
        last = [p.is_output or p.shape == (1, self.n_units) for p in self.points[-1:]]
        return self.points[: len(self.points) - any(last)]

    def only(self, *indices: int) -> Points:
        """Points at some positions."""
        return replace(self, points=tuple(self.points[i] for i in indices), batched={})

    def block_rows(self, batch_size: int, device: torch.device) -> int:
        """Return how many rows to run at once, at most ``batch_size``."""
        return fitting_rows(batch_size, self.row_bytes, device, at_least=MIN_BLOCK)


def find_points(
    call: Callable[..., Any],
    x: torch.Tensor,
    modules: dict[str, nn.Module],
    *,
    layers: list[str] | None = None,
    at: str = "output",
    recordings: list[Recording] | None = None,
    parameter: str = "layer",
) -> Points:
    """Find layers in a network, by running it.

    Parameters
    ----------
    call : callable
        The network: (b, ...) to (b, N). It runs in the modes it is in.
    x : tensor of shape (b, ...)
        A few samples that it can run on; the first three are used.
    modules : dict of str to nn.Module
        The submodules by name, as of ``named_modules()``.
    layers : list of str or None, default=None
        Names, with ``[i]`` for an item of a tuple; in this order. None: every convolution, linear,
        recurrent and attention layer that the output depends on, in call order.
    at : {"output", "input"}, default="output"
        Whether to look at the layers' outputs or at their inputs. If a layer is called several
        times, its last call counts.
    recordings : list of Recording or None, default=None
        Of two and of three samples, if they were recorded already; nothing is run then.
    parameter : str, default="layer"
        Name of the parameter that names them, for error messages.

    Returns
    -------
    points : Points

    Raises
    ------
    ValueError
        If a layer does not exist, is not called before the output is computed, returns several
        tensors, has no axis that follows the samples, or if the output does not depend on it.
    TypeError
        If a name is no string, or the network runs without calling its layers.

    Warns
    -----
    UserWarning
        If ``layers`` is None and a layer is left out, as none of its axes follows the samples.

    Notes
    -----
    The network is run on two and on three samples, and the axis that differs follows the samples.
    """
    if layers is None:
        candidates = _candidates(modules, at)
    else:
        candidates = [_requested(layer, modules, at, parameter) for layer in layers]
    if recordings is None:
        recordings = [record(call, _rows(x, n), modules.values()) for n in (2, 3)]
    passes = [_summarised(recording, candidates, layers is None) for recording in recordings]
    if layers is None:
        candidates = _reached(candidates, passes)
    points = []
    for candidate in candidates:
        try:
            points.append(_described(candidate, passes))
        except ValueError as error:
            if layers is not None:
                raise
            warn(f"left out: {error}")
    if not points:
        reason = hidden_layers(part for module in modules.values() for part in module.modules())
        if reason is not None:
            raise TypeError(reason)
    n_units = passes[1].z.numel() // 3
    return Points(tuple(points), n_units, max(1, passes[1].bytes - passes[0].bytes))


def _candidates(modules: dict[str, nn.Module], at: str) -> list[Point]:
    """Every convolution, linear, recurrent and attention layer, by its first name."""
    unique: dict[nn.Module, str] = {}
    for name, module in modules.items():
        if isinstance(module, _KINDS):
            unique.setdefault(module, name)
    candidates = []
    for module, name in unique.items():
        candidates.append(Point(name, module, (0,) if _returns_tuple(module, at) else (), at))
        if at == "output" and isinstance(module, nn.RNNBase):
            # Where only the last hidden state is used, the sequence is not on the way.
            items = (1, 0) if isinstance(module, nn.LSTM) else (1,)
            path = name + "".join(f"[{item}]" for item in items)
            candidates.append(Point(path, module, items, at))
    return candidates


def _reached(candidates: list[Point], passes: list[_Pass]) -> list[Point]:
    """Candidates on the way to the output, in call order, one for each layer."""
    order = passes[1].order
    reached = [c for c in candidates if all(id(c) in one.used for one in passes)]
    unique = {id(c.module): c for c in reversed(reached)}.values()
    return sorted(unique, key=lambda candidate: order[id(candidate)])


def _returns_tuple(module: nn.Module, at: str) -> bool:
    return at == "output" and isinstance(module, _TUPLES)


def _rows(x: torch.Tensor, n: int) -> torch.Tensor:
    return x[torch.arange(n, device=x.device) % len(x)]


def _requested(layer: str, modules: dict[str, nn.Module], at: str, parameter: str) -> Point:
    if not isinstance(layer, str):
        raise TypeError(f"{parameter}={layer!r} must be a string.")
    name, items = parse_path(layer)
    name = known_layer(name, modules, parameter)
    module, layer = modules[name], path_of(name, items)
    if not items and _returns_tuple(module, at):
        items = (0,)
    return Point(layer, module, items, at)


@dataclass
class _Pass:
    """What one forward pass shows about the candidates."""

    seen: dict  # id of a candidate -> its activations
    order: dict  # id of a candidate -> place of its last call among all calls
    modules: dict  # id of a candidate -> modules called up to then, the last one first
    z: torch.Tensor
    bytes: int
    used: set  # ids of candidates that the output depends on


def _summarised(recording: Recording, candidates: list[Point], lenient: bool) -> _Pass:
    """Find in a recorded pass what every candidate returned (or received) last, and when."""
    seen, order, modules = {}, {}, {}
    known = ancestors(recording.output)
    informative = [c for c in recording.calls if isinstance(c.module, _LAYOUT_KNOWN)]
    informative = [c for c in informative if c.ended is not None]
    informative.sort(key=lambda call: -call.ended)
    for candidate in candidates:
        calls = recording.of(candidate.module)
        calls = [c for c in calls if candidate.at == "input" or c.ended is not None]
        tensor = _tensor_of(candidate, calls[-1], lenient) if calls else None
        if tensor is None:
            continue
        last = calls[-1]
        place = last.began if candidate.at == "input" else last.ended
        seen[id(candidate)], order[id(candidate)] = tensor, place
        before = [c.module for c in informative if c.ended <= place]
        modules[id(candidate)] = [candidate.module, *before]
    used = {key for key, tensor in seen.items() if depends(known, tensor)}
    return _Pass(seen, order, modules, recording.output, recording.n_bytes, used)


def _tensor_of(candidate: Point, call: Call, lenient: bool) -> torch.Tensor | None:
    """Activations that a candidate looks at in one call; None where it may be passed over."""
    if candidate.at == "output":
        where = call.output
    elif call.args:
        where = call.args if candidate.items else call.args[0]
    else:
        where = next(iter(call.kwargs.values()))
    try:
        tensor = pick(where, candidate.items, candidate.name)
        check_floating(tensor, candidate.name)
    except ValueError:
        if lenient:
            return None
        raise
    return tensor


def _described(candidate: Point, passes: list[_Pass]) -> Point | None:
    """Fill in the axes of a candidate; raise a ValueError if it cannot be a point."""
    name = candidate.name
    seen: list[Any] = [one.seen.get(id(candidate)) for one in passes]
    if any(tensor is None for tensor in seen):
        raise ValueError(
            f"layer={name!r} is not called before the output is there: it comes after the output, "
            "or is never called. Name a layer on the way to the output."
        )
    if any(id(candidate) not in one.used for one in passes):
        state = candidate.items == (0,) and isinstance(candidate.module, nn.RNNBase)
        hint = " The last hidden state is its item [1]." if state else ""
        raise ValueError(
            f"the output does not depend on layer {name!r} (or not differentiably), so its "
            f"gradient says nothing; name a layer on the way to the output.{hint}"
        )
    two, three = (tuple(tensor.shape) for tensor in seen)
    axis = batch_axis(two, three, f"layer {name!r}")
    channel_axis = _channel_axis(candidate, seen[1], axis, passes[1].modules[id(candidate)])
    point = replace(candidate, batch_axis=axis, channel_axis=channel_axis)
    shape = tuple(point.arrange(seen[1]).shape[1:])
    return replace(point, shape=shape, is_output=is_rearranged(passes[1].z, seen[1], axis))


def _channel_axis(
    candidate: Point, tensor: torch.Tensor, batch: int, modules: list[nn.Module]
) -> int | None:
    """Axis of channels by the layer's kind, else by that of the last known layer before it."""
    if tensor.dim() <= 2:
        return None
    module, items = candidate.module, candidate.items
    if candidate.at == "output" and items[:1] == (1,):
        if isinstance(module, nn.RNNBase):
            return None  # the last hidden states have no positions
        if isinstance(module, nn.MultiheadAttention):
            return 1 if tensor.dim() == 4 else None  # weights, of every head or their mean
    last = tensor.dim() - 1
    for known in modules:
        if isinstance(known, CHANNELS_LAST):
            return last if last != batch else None
        if isinstance(known, CHANNELS_FIRST):
            break
    return 1 if batch == 0 else last
