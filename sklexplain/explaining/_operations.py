"""What an operation does, told by the derivatives that autograd has recorded for it.

A function of torch has many names (``relu``, ``Tensor.relu_``, ``F.relu``, ``nn.ReLU``), and one
derivative. So operations are told apart by the latter. Whatever is not known is taken to be
nonlinear: then its Jacobian is averaged, which is right for linear operations too, only slower.
"""

import functools
import re

import torch

# Derivatives that only move entries.
_MOVES = frozenset(
    """
    Alias AsStrided Clone Contiguous Diagonal Expand Flip Permute Repeat ReshapeAlias Roll Rot90
    Select Slice Split SplitWithSizes Squeeze Stack T ToCopy Transpose Unbind Unfold UnsafeSplit
    UnsafeView Unsqueeze View
    """.split()
)
# Derivatives of functions that are linear in all their inputs together.
_LINEAR = _MOVES | frozenset(
    """
    Add AdaptiveAvgPool2D AdaptiveAvgPool3D AvgPool2D AvgPool3D Cat ChannelShuffle Col2Im Conj
    ConstantPadNd Copy CopySlices Cumsum Detach DiagonalScatter FftC2C FftC2R FftR2C Fill Gather
    Im2Col Imag Index IndexAdd IndexCopy IndexFill IndexPut IndexPutImpl IndexSelect
    MaskedFill MaskedScatter MaskedSelect MaxUnpool2D MaxUnpool3D Mean MkldnnAdaptiveAvgPool2D
    NativeDropout Neg PackPaddedSequence PixelShuffle PixelUnshuffle Put Real ReflectionPad1D
    ReflectionPad2D ReflectionPad3D ReplicationPad1D ReplicationPad2D ReplicationPad3D Rsub Scatter
    ScatterAdd SelectScatter SliceScatter Sub Sum Take Trace Tril Triu UpsampleBicubic2D
    UpsampleBicubic2DAa UpsampleBilinear2D UpsampleBilinear2DAa UpsampleLinear1D UpsampleNearest1D
    UpsampleNearest2D UpsampleNearest3D UpsampleNearestExact1D UpsampleNearestExact2D
    UpsampleNearestExact3D UpsampleTrilinear3D ViewAsComplex ViewAsReal Where Zero
    """.split()
)
# Derivatives of functions that are linear in each input, so in one alone.
_PRODUCTS = frozenset(
    """
    Addbmm Addmm Addmv Addr Baddbmm Bmm Convolution ConvolutionOverrideable Dot LinalgVecdot Linear
    MkldnnLinear Mm Mul Mv Trilinear
    """.split()
)
_BATCH_NORMS = frozenset(
    ["NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm", "BatchNormWithUpdate"]
)
_MAXIMA = frozenset(
    """
    AdaptiveMaxPool2D AdaptiveMaxPool3D Amax Max MaxPool2DWithIndices MaxPool3DWithIndices
    """.split()
)
_MINIMA = frozenset(["Amin", "Min"])
# Elementwise functions that torch does not tag as such.
_UNTAGGED = frozenset(["Hardswish", "LogSigmoid", "PreluKernel", "RreluWithNoise"])

LINEAR, ELEMENTWISE, OTHER = "linear", "elementwise", "other"
MAXIMUM, MINIMUM = "maximum", "minimum"


def operation_kind(outputs, inputs):
    """Tell what an operation does with the inputs that a derivative goes to.

    Parameters
    ----------
    outputs : list of tensor
        What it has made; those without a derivative do not count.
    inputs : list of tensor
        What it has made them of.

    Returns
    -------
    kind : {"linear", "elementwise", "maximum", "minimum", "other"}
        Linear in all inputs together; each entry of one output made of the entries of the inputs
        at its place; entries chosen for their size; or anything else.
    """
    nodes = list(_nodes(outputs, inputs))
    kinds = {_kind(type(node).__name__) for node in nodes}
    if all(_is_linear(node) for node in nodes):
        return LINEAR
    for chosen, names in ((MAXIMUM, _MAXIMA), (MINIMUM, _MINIMA)):
        if len(inputs) == 1 and kinds & names and kinds <= names | _MOVES:
            return chosen
    return ELEMENTWISE if is_elementwise(outputs, inputs) else OTHER


def is_elementwise(outputs, inputs):
    """Tell whether an operation is elementwise, linear or not.

    Parameters
    ----------
    outputs, inputs : list of tensor
        As in `operation_kind`.

    Returns
    -------
    answer : bool
    """
    if len(outputs) != 1:
        return False
    shape = outputs[0].shape
    kinds = {_kind(type(node).__name__) for node in _nodes(outputs, inputs)}
    return all(_fits(t, shape) for t in inputs) and all(map(_is_elementwise, kinds))


def _fits(tensor, shape):
    """Whether a tensor can be expanded to a shape."""
    if tensor.dim() > len(shape):
        return False
    ends = zip(reversed(tensor.shape), reversed(shape), strict=False)
    return all(a in (1, b) for a, b in ends)


def _nodes(outputs, inputs):
    """Yield the derivatives between outputs and inputs."""
    stops = {t.grad_fn for t in inputs if t.grad_fn is not None}
    leaves = {id(t) for t in inputs}
    waiting, seen = [o.grad_fn for o in outputs if o.grad_fn is not None], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in stops or node in seen:
            continue
        if id(getattr(node, "variable", None)) in leaves:
            continue
        seen.add(node)
        yield node
        waiting += [following for following, _ in node.next_functions]


@functools.cache
def _kind(name):
    """From "ReluBackward0" to "Relu"."""
    return re.sub(r"Backwards?\d*$", "", name)


def _is_linear(node):
    kind = _kind(type(node).__name__)
    if kind in _LINEAR:
        return True
    edges = [following is not None for following, _ in node.next_functions]
    if kind in _PRODUCTS:
        return sum(edges) == 1
    if kind == "Div":  # linear in the numerator
        return not any(edges[1:])
    if kind in _BATCH_NORMS:
        return not getattr(node, "_saved_training", True) and not any(edges[1:])
    return False


@functools.cache
def _is_elementwise(kind):
    if kind in _UNTAGGED:
        return True
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).lower()
    packet = getattr(torch.ops.aten, name, None)
    # Maxima of two tensors have the name of those along an axis.
    if kind in _MAXIMA | _MINIMA or packet is None:
        return False
    return any(torch.Tag.pointwise in getattr(packet, o).tags for o in packet.overloads())
