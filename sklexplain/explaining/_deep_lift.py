"""DeepLIFT's rescale rule (Shrikumar et al. 2017), for modules and functions alike.

The network is run once on samples and baselines together. On the way back every elementwise
nonlinearity uses the slope of the secant between sample and baseline instead of its derivative, and
max-pooling gives the change of a maximum to the entries that hold it. Other operations that mix
entries (softmax, layer normalisation, recurrent layers, attention, products of activations) use
their Jacobian averaged along the straight line between the two; for an elementwise function this
average *is* the secant slope, so it is the same rule, and the attributions still sum to the
difference of the outputs.
"""

import numpy as np
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

ELEMENTWISE = {
    *(F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.softplus),
    *(F.hardtanh, F.hardswish, F.hardsigmoid, F.softsign, F.logsigmoid, F.tanh, F.sigmoid),
    *(F.tanhshrink, F.softshrink, F.hardshrink, F.prelu, F.rrelu),
    *(torch.relu, torch.tanh, torch.sigmoid, torch.exp, torch.sqrt, torch.abs, torch.square),
    *(torch.log, torch.log1p, torch.sin, torch.cos, torch.clamp, torch.reciprocal, torch.selu),
    *(torch.Tensor.relu, torch.Tensor.tanh, torch.Tensor.sigmoid, torch.Tensor.exp),
    *(torch.Tensor.sqrt, torch.Tensor.abs, torch.Tensor.square, torch.Tensor.log),
    *(torch.Tensor.clamp, torch.Tensor.reciprocal, torch.Tensor.sin, torch.Tensor.cos),
}
# Operations that mix entries, and the axis that holds the samples.
MIXING = {
    **dict.fromkeys((F.softmax, F.log_softmax, torch.softmax, torch.Tensor.softmax), 0),
    **dict.fromkeys((F.layer_norm, F.group_norm, F.instance_norm, F.normalize), 0),
    **dict.fromkeys((torch.logsumexp, F.scaled_dot_product_attention), 0),
    **dict.fromkeys((torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.div), 0),
    **dict.fromkeys((torch.Tensor.div, torch.Tensor.__truediv__, torch.pow, torch.Tensor.pow), 0),
    **dict.fromkeys((torch.Tensor.__pow__, torch.matmul, torch.Tensor.matmul, torch.bmm), 0),
    **dict.fromkeys((torch.Tensor.__matmul__, torch.Tensor.bmm), 0),
    F.multi_head_attention_forward: 1,
}
_MAXIMUM = {
    *(F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.amax, torch.Tensor.amax),
    *(torch.max_pool1d, torch.max_pool2d, torch.max_pool3d),
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
}
RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
_N_NODES = 32


class _Secant(torch.autograd.Function):
    """Elementwise function whose gradient is the slope between the batch's two halves."""

    @staticmethod
    def forward(ctx, function, axis, x):
        out = function(x)
        ctx.function, ctx.axis = function, axis
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, out = ctx.saved_tensors
        (sample, baseline), (y, y0) = (t.chunk(2, dim=ctx.axis) for t in (x, out))
        dx, dy = sample - baseline, y - y0
        with torch.enable_grad():
            leaf = sample.detach().requires_grad_()
            (derivative,) = torch.autograd.grad(ctx.function(leaf).sum(), leaf)
        # Where sample and baseline agree the secant is the tangent.
        near = dx.abs() <= torch.finfo(x.dtype).eps ** 0.5 * (1 + sample.abs())
        slope = torch.where(near, derivative, dy / torch.where(near, 1.0, dx))
        return None, None, grad * torch.cat([slope, slope], dim=ctx.axis)


class _Maximum(torch.autograd.Function):
    """Max-pooling, with every change of a maximum accounted for.

    The rise of a maximum goes to its place in the sample, the fall to its place in the baseline.
    """

    @staticmethod
    def forward(ctx, function, axis, x):
        out = function(x)
        ctx.function, ctx.axis = function, axis
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, out = ctx.saved_tensors
        y, y0 = out.chunk(2, dim=ctx.axis)
        g, _ = grad.chunk(2, dim=ctx.axis)
        higher = torch.maximum(y, y0)
        outer = torch.cat([g * (higher - y0), g * (y - higher)], dim=ctx.axis)
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (routed,) = torch.autograd.grad(ctx.function(leaf), leaf, outer)
        sample, baseline = x.chunk(2, dim=ctx.axis)
        dx = sample - baseline
        # A maximum can only rise (fall) at a place where the input does.
        shares = sum(routed.chunk(2, dim=ctx.axis)) / torch.where(dx == 0, 1.0, dx)
        return None, None, torch.cat([shares, shares], dim=ctx.axis)


class _MeanJacobian(torch.autograd.Function):
    """Any operation, with its Jacobian averaged between the batch's two halves."""

    @staticmethod
    def forward(ctx, function, axis, *tensors):
        ctx.function, ctx.axis = function, axis
        ctx.save_for_backward(*tensors)
        return function(*tensors)

    @staticmethod
    def backward(ctx, *grads):
        tensors = ctx.saved_tensors
        totals = [torch.zeros_like(t) for t in tensors]
        nodes, weights = np.polynomial.legendre.leggauss(_N_NODES)
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            leaves = []
            for t in tensors:
                sample, baseline = t.chunk(2, dim=ctx.axis)
                between = baseline + node * (sample - baseline)
                leaves.append(torch.cat([between, baseline], dim=ctx.axis).requires_grad_())
            with torch.enable_grad():
                out = ctx.function(*leaves)
            out = out if isinstance(out, tuple) else (out,)
            pairs = [(o, g) for o, g in zip(out, grads, strict=True) if g is not None]
            outputs, outer = zip(*[p for p in pairs if p[0].requires_grad], strict=True)
            gradients = torch.autograd.grad(outputs, leaves, outer, materialize_grads=True)
            for total, gradient in zip(totals, gradients, strict=True):
                total += weight * gradient
        return None, None, *totals


class _Rescale(TorchFunctionMode):
    """Replaces nonlinear operations on a batch of samples followed by their baselines."""

    def __init__(self, n_rows):
        super().__init__()
        self.n_rows = n_rows

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        rule, axis = self._rule(func, args, kwargs)
        if rule is None:
            return func(*args, **kwargs)
        if rule is not _MeanJacobian:
            positions = [0]
        else:
            positions = [i for i, a in enumerate(args) if self._varies(a, axis)]
            if not positions:
                return func(*args, **kwargs)

        def function(*tensors):
            # Copies, so that an in-place operation leaves what was saved alone.
            filled = list(args)
            for position, tensor in zip(positions, tensors, strict=True):
                filled[position] = tensor.clone()
            return func(*filled, **kwargs)

        return rule.apply(function, axis, *(args[i] for i in positions))

    def _rule(self, func, args, kwargs):
        if not args or not isinstance(args[0], torch.Tensor):
            return None, 0
        if func in ELEMENTWISE or func in _MAXIMUM:
            axis = next((a for a in (0, 1) if self._varies(args[0], a)), None)
            rule = _Secant if func in ELEMENTWISE else _Maximum
            return (None, 0) if axis is None else (rule, axis)
        if getattr(func, "__name__", "") in RECURRENT:
            # The last argument of the fused recurrent layers is batch_first.
            return _MeanJacobian, 0 if args[-1] is True else 1
        return (_MeanJacobian, MIXING[func]) if func in MIXING else (None, 0)

    def _varies(self, value, axis):
        return (
            isinstance(value, torch.Tensor)
            and value.requires_grad
            and value.dim() > axis
            and value.shape[axis] > 0
            and value.shape[axis] % self.n_rows == 0
        )


def deep_lift(encode, x, references, cotangents):
    """DeepLIFT (rescale) attributions of several functions <c_j, encode(.)> of each sample.

    Parameters
    ----------
    encode : callable
        (b, ...) to (b, N), differentiable.
    x : tensor of shape (n, ...)
        Samples.
    references : tensor of shape (n or 1, K, ...)
        Reference rows; attributions are averaged over them.
    cotangents : tensor of shape (n, k, N)
        c_j, held constant.

    Returns
    -------
    maps : tensor of shape (n, k, ...)
    """
    n = len(x)
    # The axis of the samples is recognised by its size: no other axis may be a multiple of it.
    n_padded = n
    while any(size % (2 * n_padded) == 0 for size in x.shape[1:]):
        n_padded += 1
    padding = torch.arange(n_padded).clamp(max=n - 1)
    total = x.new_zeros(n, cotangents.shape[1], *x.shape[1:])
    for k in range(references.shape[1]):
        reference = references[:, k].expand_as(x)
        both = torch.cat([x[padding], reference[padding]]).requires_grad_()
        with torch.enable_grad(), _Rescale(2 * n_padded):
            z = encode(both)
        for j in range(cotangents.shape[1]):
            outer = torch.zeros_like(z)
            outer[:n] = cotangents[:, j].to(z)
            (multiplier,) = torch.autograd.grad(
                z, both, outer, retain_graph=True, materialize_grads=True
            )
            total[:, j] += (x - reference) * multiplier[:n]
    return total / references.shape[1]
