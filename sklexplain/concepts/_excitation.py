"""Excitation backprop (Zhang et al. 2016): contrastive marginal winning probabilities.

A neuron passes its probability on to the neurons that excite it, each in proportion to its
positive contribution: P(j) = sum_i P(i) c_ij / sum_k c_ik, c_ij = max(a_j w_ij, 0). For activations
that are not negative, those behind a ReLU, that is the rule of the paper; of inputs that may be
negative, a negative one excites by a negative weight. The network is run forward as it is; on the
way back every linear operation follows this rule instead of its derivative.
"""

import torch
from torch.nn import functional as F

from ..utils import ScopedMode

_RELU = {F.relu, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_}
# x and weights are the first two arguments, a bias the third.
_WEIGHTED = {
    *(F.linear, F.conv1d, F.conv2d, F.conv3d),
    *(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
}
_PRODUCTS = {torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.bmm}
_AVERAGES = {
    *(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, torch.mean, torch.Tensor.mean, torch.sum),
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d, torch.Tensor.sum),
}
_SUMS = {torch.add, torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.__radd__}
_SUMS_IN_PLACE = {torch.Tensor.add_, torch.Tensor.__iadd__}
# Each output entry depends on one input entry, which receives all of its probability.
_ONE_TO_ONE = {
    *(F.batch_norm, torch.sub, torch.Tensor.sub, torch.Tensor.__sub__, torch.Tensor.__rsub__),
    *(torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__, torch.div),
    *(torch.Tensor.div, torch.Tensor.__truediv__),
}
# Their derivatives do not follow the rule, so accepting them would give wrong maps.
_ELEMENTWISE = {
    *(F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.softplus),
    *(F.hardtanh, F.hardswish, F.hardsigmoid, F.softsign, F.logsigmoid, F.tanh, F.sigmoid),
    *(F.tanhshrink, F.softshrink, F.hardshrink, F.prelu, F.rrelu, F.threshold),
    *(torch.tanh, torch.sigmoid, torch.exp, torch.sqrt, torch.abs, torch.square),
    *(torch.log, torch.log1p, torch.sin, torch.cos, torch.clamp, torch.reciprocal, torch.selu),
    *(torch.Tensor.tanh, torch.Tensor.sigmoid, torch.Tensor.exp),
    *(torch.Tensor.sqrt, torch.Tensor.abs, torch.Tensor.square, torch.Tensor.log),
    *(torch.Tensor.clamp, torch.Tensor.reciprocal, torch.Tensor.sin, torch.Tensor.cos),
    *(torch.neg, torch.Tensor.__neg__),
}
_MIXING = {
    *(F.softmax, F.log_softmax, torch.softmax, torch.Tensor.softmax, torch.logsumexp),
    *(F.layer_norm, F.group_norm, F.instance_norm, F.normalize, F.local_response_norm),
    *(F.scaled_dot_product_attention, F.multi_head_attention_forward, F.bilinear),
    *(torch.pow, torch.Tensor.pow, torch.Tensor.__pow__, torch.einsum, torch.outer),
    *(torch.addmm, torch.baddbmm, torch.Tensor.addmm, torch.Tensor.bmm),
}
_FORBIDDEN = (
    _ELEMENTWISE
    | _MIXING
    | _PRODUCTS
    | _ONE_TO_ONE
    | {torch.Tensor.mul_, torch.Tensor.div_, torch.Tensor.sub_, torch.Tensor.__imul__}
    | {torch.Tensor.__isub__, torch.Tensor.__itruediv__}
)
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
_REFUSED = _FORBIDDEN | _SUMS_IN_PLACE  # what is left of them by then


class _Share(torch.autograd.Function):
    """An operation whose backward pass shares the probability among its inputs by a rule."""

    @staticmethod
    def forward(ctx, function, rule, *tensors):
        ctx.rule = rule
        ctx.save_for_backward(*tensors)
        return function(*tensors)

    @staticmethod
    def backward(ctx, probability):
        return None, None, *ctx.rule(probability, *ctx.saved_tensors)


class _ShareInPlace(torch.autograd.Function):
    """The same for an operation that writes into its first input."""

    @staticmethod
    def forward(ctx, function, rule, first, *others):
        ctx.rule = rule
        ctx.save_for_backward(first.clone(), *others)
        ctx.mark_dirty(first)
        return function(first, *others)

    @staticmethod
    def backward(ctx, probability):
        return None, None, *ctx.rule(probability, *ctx.saved_tensors)


def _ratio(probability, total):
    return torch.where(total > 0, probability / torch.where(total > 0, total, 1.0), 0.0)


def _by_weights(call, weight):
    """Share by positive contributions; ``call(x, weight)`` is the operation without a bias."""

    def rule(probability, x):
        with torch.enable_grad():
            up = x.detach().clamp(min=0).requires_grad_()
            down = x.detach().clamp(max=0).requires_grad_()
            total = call(up, weight.clamp(min=0)) + call(down, weight.clamp(max=0))
        shares = torch.autograd.grad(total, (up, down), _ratio(probability, total))
        return (sum(part * share for part, share in zip((up, down), shares, strict=True)),)

    return rule


def _by_size(function):
    """Share by the positive entries themselves; for averages and sums."""

    def rule(probability, *tensors):
        with torch.enable_grad():
            parts = [t.detach().clamp(min=0).requires_grad_() for t in tensors]
            total = function(*parts)
        shares = torch.autograd.grad(total, parts, _ratio(probability, total))
        return tuple(part * share for part, share in zip(parts, shares, strict=True))

    return rule


class _Excitation(ScopedMode):
    """Replaces the derivatives of a ReLU network's operations by shares of probability."""

    def _instead(self, func, args, kwargs):
        varying = [i for i, a in enumerate(args) if _varies(a)]
        if not varying:
            return func(*args, **kwargs)
        if func in _WEIGHTED or func in _PRODUCTS:
            return self._weighted(func, args, kwargs, varying)
        if func in _AVERAGES or (func in _SUMS and len(varying) > 1):
            filled = _filling(func, args, kwargs, varying)
            return _Share.apply(filled, _by_size(filled), *(args[i] for i in varying))
        if func in _SUMS_IN_PLACE and varying == [0, 1] and not kwargs:
            return _ShareInPlace.apply(func, _by_size(torch.add), *args)
        if (func in _ONE_TO_ONE or func in _SUMS) and len(varying) == 1:
            filled = _filling(func, args, kwargs, varying)
            x = args[varying[0]]
            return _Share.apply(filled, lambda p, x: (p.expand_as(x),), x)
        if func in _REFUSED or func.__name__ in _RECURRENT:
            raise _unsupported(func.__name__)
        return func(*args, **kwargs)

    def _weighted(self, func, args, kwargs, varying):
        weight = args[1] if len(args) > 1 else kwargs["weight"]
        if varying != [0]:
            raise _unsupported(f"{func.__name__} of two activations")
        rest = list(args[2:])
        options = dict(kwargs)
        options.pop("weight", None)

        def whole(x):
            return func(x, weight, *rest, **options)

        def without_bias(x, part):
            if func in _PRODUCTS:
                return func(x, part)
            return func(x, part, None, *rest[1:], **{**options, "bias": None} if not rest else {})

        return _Share.apply(whole, _by_weights(without_bias, weight.detach()), args[0])


def _varies(value):
    return isinstance(value, torch.Tensor) and value.requires_grad


def _filling(func, args, kwargs, positions):
    """Make a function of the varying arguments alone."""

    def function(*tensors):
        filled = list(args)
        for position, tensor in zip(positions, tensors, strict=True):
            filled[position] = tensor
        return func(*filled, **kwargs)

    return function


def _unsupported(name):
    return ValueError(
        f"method='excitation_backprop' is defined for ReLU networks, but this one has {name}; use "
        "'integrated_gradients' or another method."
    )


def excitation_maps(tap, module, x):
    """c-MWP of every concept of some samples.

    Parameters
    ----------
    tap : LayerTap
        The layer of the explained network.
    module : ConceptModule
        The concepts on it.
    x : tensor of shape (b, ...)
        Samples as they enter the network.

    Returns
    -------
    maps : tensor of shape (b, n_concepts, ...)
        Marginal winning probabilities of a concept minus those of its opposite (the same neuron
        with its weights negated), where that is positive.

    Raises
    ------
    ValueError
        If the network has other nonlinearities than ReLU and pooling.
    """
    x = x.detach().clone().requires_grad_()
    with torch.enable_grad(), _Excitation():
        hidden = module.encoder[:-1](module.scaled(tap(x)))  # (b, width)
    evidence = hidden.detach()[:, None] * module.encoder[-1].weight.detach()
    contrast = _distribution(evidence) - _distribution(-evidence)  # (b, n_concepts, width)
    maps = [
        torch.autograd.grad(hidden, x, contrast[:, i], retain_graph=True)[0]
        for i in range(contrast.shape[1])
    ]
    return torch.stack(maps, dim=1).clamp(min=0)


def _distribution(evidence):
    evidence = evidence.clamp(min=0)
    return _ratio(evidence, evidence.sum(dim=2, keepdim=True))
