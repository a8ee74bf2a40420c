"""Whether the output is affine in an activation, as the graph of operations shows.

Only the kinds of the operations count, never what they did to some samples: a ReLU is not affine,
even if its inputs happen to be positive.
"""

from __future__ import annotations

from typing import Any

import torch

from ._recording import gradient_edge

# Affine in all of their inputs together.
_AFFINE = {
    *("Add", "Sub", "Neg", "Sum", "Mean", "Cat", "Stack", "Clone", "Alias", "ToCopy"),
    *("View", "UnsafeView", "ReshapeAlias", "T", "Transpose", "Permute", "Expand", "Repeat"),
    *("Squeeze", "Unsqueeze", "Select", "Slice", "Split", "SplitWithSizes", "Unbind", "Narrow"),
    *("AvgPool2D", "AvgPool3D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "ConstantPadNd"),
    *("UpsampleNearest1D", "UpsampleNearest2D", "UpsampleNearest3D"),
}
# Affine in one of these inputs (by position) as long as the others are fixed.
_BY_INPUT = {"Addmm": (0, 1), "Mm": (0, 1), "Convolution": (0,), "NativeBatchNorm": (0,)}
_BY_NUMBER = {"Mul", "Div"}
_LEAF = "torch::autograd::AccumulateGrad"


def is_affine(z: torch.Tensor, tensors: list[torch.Tensor]) -> bool:
    """Whether an output is affine in tensors, with coefficients that no sample changes.

    Parameters
    ----------
    z : tensor
        The output, with its graph.
    tensors : list of tensor
        On the way to it.

    Returns
    -------
    affine : bool
        False also if there is an operation that this module does not know.
    """
    ends = {gradient_edge(tensor).node for tensor in tensors}
    if z.grad_fn is None:
        return False
    reaches: dict[Any, bool] = {}
    for node in _nodes(z.grad_fn):
        inputs = [n is not None and reaches[n] for n, _ in node.next_functions]
        reaches[node] = node in ends or any(inputs)
        if any(inputs) and not _is_affine_operation(node, inputs):
            return False
    return reaches[z.grad_fn]


def _nodes(root: Any) -> list[Any]:
    """Nodes that a root leads to, and the root; each comes after those that it leads to."""
    seen, order, stack = set(), [], [(root, False)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((n, False) for n, _ in node.next_functions if n is not None)
    return order


def _is_affine_operation(node: Any, inputs: list[bool]) -> bool:
    """Whether one operation is affine, given which of its inputs depend on the tensors."""
    kind = node.name().rstrip("0123456789").removesuffix("Backward")
    if kind in _AFFINE:
        return True
    if kind in _BY_NUMBER:
        return inputs[0] and not any(inputs[1:]) and _is_number(node._saved_other)
    if kind not in _BY_INPUT:
        return False
    if kind == "NativeBatchNorm" and node._saved_training:
        return False
    if kind == "Addmm":  # the first input is added
        inputs, following = inputs[1:], node.next_functions[1:]
    else:
        following = node.next_functions
    if not any(inputs):
        return True
    if sum(inputs) != 1 or inputs.index(True) not in _BY_INPUT[kind]:
        return False
    return all(_is_parameter(n) for (n, _), does in zip(following, inputs, strict=True) if not does)


def _is_number(other: object) -> bool:
    return not isinstance(other, torch.Tensor) or other.dim() == 0


def _is_parameter(node: Any) -> bool:
    """Whether a node is a leaf, perhaps transposed, or belongs to a tensor without a gradient."""
    while node is not None and node.name() in ("TBackward0", "TransposeBackward0"):
        node = node.next_functions[0][0]
    return node is None or node.name() == _LEAF
