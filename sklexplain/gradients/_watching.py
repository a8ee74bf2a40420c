"""What samples become inside of a network: rows of their own, and an axis of a layer's input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..layers import moves_rows

if TYPE_CHECKING:
    from ._layers import LayerCall

_MASKS = (torch.bool, torch.uint8)


class VaryingRows(TorchDispatchMode):
    """Notes whether samples are taken apart into rows, as many as each has.

    Packed sequences and selections by a mask do that: their rows belong to samples in a way that
    depends on the samples.

    Attributes
    ----------
    seen : bool
        Whether they are.
    moved : bool
        Whether rows are picked by number or put behind others, and may stand in another order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen = self.moved = False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and look at which one it is."""
        if not self.seen:
            varies = torch.Tag.dynamic_output_shape in getattr(func, "tags", ())
            if varies and func is torch.ops.aten.index.Tensor:
                varies = any(i is not None and i.dtype in _MASKS for i in args[1])
            self.seen = varies or func is torch.ops.aten._pack_padded_sequence.default
        self.moved = self.moved or moves_rows(func, args)
        return func(*args, **(kwargs or {}))


def sample_axis(call: LayerCall, longer: LayerCall, n: int) -> int | None:
    """Find the axis of a layer's input that follows the samples.

    Parameters
    ----------
    call, longer : LayerCall
        The same call in a pass over n samples and in one over a sample more.
    n : int
        Number of samples.

    Returns
    -------
    axis : int or None
        None if no axis does, or if it is not the one that layers of this kind take for it.
    """
    ours, theirs = _input_shape(call), _input_shape(longer)
    if ours is None or theirs is None or len(ours) != len(theirs):
        return None
    pairs = list(zip(ours, theirs, strict=True))
    changed = [k for k, (a, b) in enumerate(pairs) if a != b]
    if len(changed) != 1:
        return None
    (axis,) = changed
    short, long = pairs[axis]
    own = _own_axis(call.layer)
    if short % n or short // n * (n + 1) != long or (own is not None and axis != own):
        return None
    return axis


def _input_shape(call: LayerCall) -> tuple[int, ...] | None:
    x = call.args[0] if call.args else next(iter(call.kwargs.values()), None)
    x = call.kwargs.get("input", call.kwargs.get("query", x)) if not call.args else x
    return tuple(x.shape) if isinstance(x, torch.Tensor) else None


def _own_axis(layer: nn.Module) -> int | None:
    """Return the axis that a layer itself takes for that of the samples; None if any will do."""
    if isinstance(layer, (nn.RNNBase, nn.MultiheadAttention)):
        return 0 if layer.batch_first else 1
    if isinstance(layer, (nn.Linear, nn.LayerNorm, nn.Embedding)):
        return None
    return 0
