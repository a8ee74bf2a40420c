"""Per-sample gradients in the parameters of single layers.

A rule takes a call of a layer, the gradients of its outputs, the number of samples and the input's
axis that follows them, and yields pairs of a parameter and its per-sample gradients. The axis is
decided once (see `Trial`) and not by the shape of each batch: as many samples as time steps would
be taken for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ._terms import Explicit, Lookup, Outer
from ._typing import Pair


class NoRule(Exception):
    """A layer was called in a way that its rule does not cover."""


@dataclass
class LayerCall:
    """One call of a layer.

    Attributes
    ----------
    layer : nn.Module
        What was called.
    args, kwargs : tuple, dict
        Its arguments.
    edges : list of torch.autograd.graph.GradientEdge
        Where its outputs are in the graph.
    memo : dict
        What rules keep for other gradients of the same call.
    """

    layer: Any
    args: tuple
    kwargs: dict
    edges: list
    memo: dict = field(default_factory=dict)

    @property
    def input(self) -> torch.Tensor:
        """The tensor that the layer was called with."""
        x = self.args[0] if self.args else self.kwargs.get("input")
        if not isinstance(x, torch.Tensor):
            raise NoRule
        return x.detach()


def samples_first(tensor: torch.Tensor, n: int, axis: int) -> torch.Tensor:
    """Bring the axis that follows the samples to the front, as (n, positions, ...).

    Parameters
    ----------
    tensor : torch.Tensor
        Input or output of a layer. Its axis may be n times as long as there are samples, each
        sample's entries in a row.
    n : int
        Number of samples.
    axis : int
        The axis.

    Returns
    -------
    tensor : torch.Tensor of shape (n, m, ...)

    Raises
    ------
    NoRule
        If the axis does not follow the samples.
    """
    tensor = tensor.movedim(axis, 0)
    if len(tensor) % n:
        raise NoRule
    return tensor.reshape(n, len(tensor) // n, *tensor.shape[1:])


def _by_position(tensor: torch.Tensor, n: int, axis: int) -> torch.Tensor:
    """(..., n, ..., width) to (n, L, width)."""
    tensor = samples_first(tensor, n, axis)
    return tensor.reshape(n, -1, tensor.shape[-1])


def _bias(layer: Any, b: torch.Tensor) -> Iterator[Pair]:
    """Gradients of the bias from those of the output, (n, L, n_out)."""
    if layer.bias is not None:
        yield layer.bias, Explicit(b.sum(dim=1))


def linear(call: LayerCall, grads: Sequence[Any], n: int, axis: int) -> Iterator[Pair]:
    """Rule of ``nn.Linear``."""
    layer = call.layer
    x = call.input
    a, b = _by_position(x, n, axis), _by_position(grads[0], n, axis)
    yield layer.weight, Outer(a.unsqueeze(1), b.unsqueeze(1))
    yield from _bias(layer, b)


def convolution(call: LayerCall, grads: Sequence[Any], n: int, _axis: int) -> Iterator[Pair]:
    """Rule of ``nn.Conv1d`` and ``nn.Conv2d``: a matrix applied to patches, which are kept."""
    layer = call.layer
    a = call.memo.get("patches")
    if a is None:
        # A convolution may leave out the last entries of its input, and unfold does too.
        x = _padded(layer, call.input)
        a = _in_groups(_patches(layer, x), layer.groups, n)
        call.memo["patches"] = a
    b = grads[0].flatten(2)
    yield layer.weight, Outer(a, _in_groups(b, layer.groups, n))
    yield from _bias(layer, samples_first(b, n, 0).transpose(2, 3).flatten(1, 2))


def transposed_convolution(
    call: LayerCall, grads: Sequence[Any], n: int, _axis: int
) -> Iterator[Pair]:
    """Rule of ``nn.ConvTranspose1d`` and ``nn.ConvTranspose2d``: the roles are exchanged."""
    layer = call.layer
    x, out = call.input, grads[0]
    size = x.shape[2:]
    padding: list[Any] = [p for q in reversed(layer.padding) for p in (q, q)]
    a = _patches(layer, functional.pad(out, padding))
    if a.shape[2] != size.numel():
        a = _first_positions(layer, a, functional.pad(out, padding).shape[2:], size)
    yield layer.weight, _grouped(a, x.flatten(2), layer.groups, n)
    yield from _bias(layer, samples_first(out.flatten(2), n, 0).transpose(2, 3).flatten(1, 2))


def _first_positions(
    layer: nn.ConvTranspose1d | nn.ConvTranspose2d,
    patches: torch.Tensor,
    padded: torch.Size,
    size: torch.Size,
) -> torch.Tensor:
    """Leave out the patches at positions that only ``output_padding`` has made."""
    spans = zip(padded, layer.dilation, layer.kernel_size, layer.stride, strict=True)
    lengths = [(p - d * (k - 1) - 1) // s + 1 for p, d, k, s in spans]
    grid = patches.reshape(*patches.shape[:2], *lengths)
    for axis, length in enumerate(size):
        grid = grid.narrow(axis + 2, 0, length)
    return grid.flatten(2)


def _grouped(patches: torch.Tensor, other: torch.Tensor, groups: int, n: int) -> Outer:
    """Outer of (N, groups · n_in, L) and (N, groups · n_out, L), N a multiple of n."""
    return Outer(_in_groups(patches, groups, n), _in_groups(other, groups, n))


def _in_groups(tensor: torch.Tensor, groups: int, n: int) -> torch.Tensor:
    """(N, groups · width, L) to (n, groups, N / n · L, width)."""
    tensor = tensor.reshape(len(tensor), groups, -1, tensor.shape[2])
    tensor = samples_first(tensor, n, 0)  # (n, m, groups, width, L)
    return tensor.permute(0, 2, 1, 4, 3).flatten(2, 3)


def _padded(layer: Any, x: torch.Tensor) -> torch.Tensor:
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        padding = [p for total in reversed(totals) for p in (total // 2, total - total // 2)]
    elif layer.padding == "valid":
        return x
    else:
        padding = [p for q in reversed(layer.padding) for p in (q, q)]
    if not any(padding):
        return x
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return functional.pad(x, padding, mode=mode)


def _patches(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """Patches that a kernel sees, (N, channels · kernel entries, L), channels outermost."""
    kernel, dilation, stride = layer.kernel_size, layer.dilation, layer.stride
    if x.dim() == 3:
        x, kernel, dilation, stride = x.unsqueeze(2), (1, *kernel), (1, *dilation), (1, *stride)
    return functional.unfold(x, kernel, dilation=dilation, stride=stride)


def batch_norm(call: LayerCall, grads: Sequence[Any], n: int, _axis: int) -> Iterator[Pair]:
    """Rule of ``nn.BatchNorm1d`` to ``3d`` with running statistics."""
    layer = call.layer
    x = call.input
    if layer.running_mean is None:
        raise NoRule
    plain = functional.batch_norm(x, layer.running_mean, layer.running_var, eps=layer.eps)
    yield from _scaled(layer, plain, grads[0], n)


def group_norm(call: LayerCall, grads: Sequence[Any], n: int, _axis: int) -> Iterator[Pair]:
    """Rule of ``nn.GroupNorm``."""
    layer = call.layer
    plain = functional.group_norm(call.input, layer.num_groups, eps=layer.eps)
    yield from _scaled(layer, plain, grads[0], n)


def _scaled(layer: Any, plain: torch.Tensor, out: torch.Tensor, n: int) -> Iterator[Pair]:
    """Scale and shift of channels, at axis 1."""
    for parameter, product in ((layer.weight, plain * out), (layer.bias, out)):
        if parameter is not None:
            product = samples_first(product, n, 0).transpose(1, 2).flatten(2)
            yield parameter, Explicit(product.sum(dim=2))


def layer_norm(call: LayerCall, grads: Sequence[Any], n: int, axis: int) -> Iterator[Pair]:
    """Rule of ``nn.LayerNorm``."""
    layer = call.layer
    x, shape = call.input, layer.normalized_shape
    if x.dim() == len(shape):
        raise NoRule
    plain = functional.layer_norm(x, shape, eps=layer.eps)
    for parameter, product in ((layer.weight, plain * grads[0]), (layer.bias, grads[0])):
        if parameter is not None:
            product = samples_first(product, n, axis).reshape(n, -1, parameter.numel())
            yield parameter, Explicit(product.sum(dim=1))


def embedding(call: LayerCall, grads: Sequence[Any], n: int, axis: int) -> Iterator[Pair]:
    """Rule of ``nn.Embedding``."""
    layer = call.layer
    index = call.input
    b = _by_position(grads[0], n, axis)
    index = samples_first(index, n, axis).reshape(n, -1)
    if layer.padding_idx is not None:
        b = b * (index != layer.padding_idx).unsqueeze(2)
    yield layer.weight, Lookup(index.long(), b, layer.num_embeddings)


def attention(call: LayerCall, grads: Sequence[Any], n: int, _axis: int) -> Iterator[Pair]:
    """Rule of ``nn.MultiheadAttention``: its projections, by running the rest of it again."""
    layer = call.layer
    if not layer._qkv_same_embed_dim or layer.bias_k is not None:
        raise NoRule
    names = ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask")
    arguments = dict(zip(names, call.args, strict=False)) | call.kwargs
    inputs = [arguments[name] for name in names[:3]]
    if inputs[0].dim() != 3 or grads[0] is None:
        raise NoRule
    if layer.batch_first:
        inputs = [x.transpose(0, 1) for x in inputs]
        out = grads[0].transpose(0, 1)
    else:
        out = grads[0]
    heads, b = _projected_gradients(layer, inputs, arguments, out)
    yield (
        layer.out_proj.weight,
        Outer(_by_position(heads, n, 1).unsqueeze(1), _by_position(out, n, 1).unsqueeze(1)),
    )
    if layer.out_proj.bias is not None:
        yield layer.out_proj.bias, Explicit(_by_position(out, n, 1).sum(dim=1))
    # One group for each third of the weight; zeros where one of them has fewer positions.
    length = max(x.shape[0] for x in inputs)
    a = torch.stack([_lengthened(x, length) for x in inputs], dim=1)  # (L, 3, n, width)
    b = torch.stack([_lengthened(x, length) for x in b], dim=1)
    a, b = a.permute(2, 1, 0, 3), b.permute(2, 1, 0, 3)
    yield layer.in_proj_weight, Outer(a, b)
    if layer.in_proj_bias is not None:
        yield layer.in_proj_bias, Explicit(b.sum(dim=2).flatten(1))


def _projected_gradients(
    layer: Any, inputs: list[torch.Tensor], arguments: dict[str, Any], out: torch.Tensor
) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
    """Input of the output projection, and gradients of the input projections' results."""
    width = layer.embed_dim
    weights = layer.in_proj_weight.detach().chunk(3)
    biases = (None,) * 3 if layer.in_proj_bias is None else layer.in_proj_bias.detach().chunk(3)
    same = torch.eye(width, dtype=out.dtype, device=out.device)
    projected = [
        functional.linear(x.detach(), w, b).requires_grad_()
        for x, w, b in zip(inputs, weights, biases, strict=True)
    ]
    with torch.enable_grad():
        heads = _heads(layer, projected, arguments, same)
    b = torch.autograd.grad(heads, projected, out @ layer.out_proj.weight.detach())
    return heads.detach(), b


def _heads(
    layer: Any, projected: list[torch.Tensor], arguments: dict[str, Any], same: torch.Tensor
) -> torch.Tensor:
    query, key, value = projected
    heads, _ = functional.multi_head_attention_forward(
        query,
        key,
        value,
        embed_dim_to_check=layer.embed_dim,
        num_heads=layer.num_heads,
        in_proj_weight=None,
        in_proj_bias=None,
        bias_k=None,
        bias_v=None,
        add_zero_attn=layer.add_zero_attn,
        dropout_p=0.0,
        out_proj_weight=same,
        out_proj_bias=None,
        training=False,
        key_padding_mask=arguments.get("key_padding_mask"),
        need_weights=False,
        attn_mask=arguments.get("attn_mask"),
        use_separate_proj_weight=True,
        q_proj_weight=same,
        k_proj_weight=same,
        v_proj_weight=same,
        is_causal=arguments.get("is_causal", False),
    )
    return heads


def _lengthened(x: torch.Tensor, length: int) -> torch.Tensor:
    return functional.pad(x.detach(), (0, 0, 0, 0, 0, length - x.shape[0]))
