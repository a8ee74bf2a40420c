"""DeepLIFT's rescale rule (Shrikumar et al. 2017), for modules and functions alike.

Every operation of the network is run twice, on samples and on baselines. On the way back linear
operations have their derivative, elementwise nonlinear ones the slope of the secant between sample
and baseline, and a maximum gives its change to the entries that hold it. All other operations
(softmax, layer normalisation, recurrent layers, attention, products of activations) have their
Jacobian averaged along the straight line between the two; for an elementwise function this average
*is* the secant slope, so it is the same rule, and the attributions still sum to the difference of
the outputs. What an operation does is told by its derivative, not by its name (`_operations`).
"""

import functools
import inspect
import re

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..utils import ScopedMode
from . import _deep_lift_rules as rules
from . import _operations as operations

# The attribute of a tensor that holds what it is for the baselines.
_PAIR = "_sklexplain_baseline"


class _Unseen(Exception):
    """Part of the network is no operation of torch that can be run again."""


class _Unpaired(_Unseen):
    """A sample and its baseline go through different operations, as others may not."""


class _Rescale(ScopedMode):
    """Runs everything on the baselines as well, and replaces derivatives by rules."""

    def __init__(self):
        super().__init__()
        self._written = []

    def pair(self, sample, baseline):
        """Let a tensor stand for samples, another for their baselines."""
        setattr(sample, _PAIR, (baseline, sample.requires_grad))

    def __exit__(self, *exc_info):
        super().__exit__(*exc_info)
        for tensor in self._written:  # they may be the network's own
            if hasattr(tensor, _PAIR):
                delattr(tensor, _PAIR)
        self._written.clear()

    def _instead(self, func, args, kwargs):
        leaves, spec = tree_flatten((args, kwargs))
        tensors = {id(t): t for t in leaves if isinstance(t, torch.Tensor)}
        if not any(hasattr(t, _PAIR) for t in tensors.values()):
            if any(_is_unseen(t) for t in tensors.values()):
                raise _Unseen
            return func(*args, **kwargs)
        if any(_is_unseen(t) for t in tensors.values()):
            raise _Unseen
        call = _Call(func, leaves, spec)
        varying = [t for t in tensors.values() if t.requires_grad and hasattr(t, _PAIR)]
        if not varying or not torch.is_grad_enabled():
            return self._on_both(call, tensors)
        if _may_write(func, kwargs):
            return self._writing(call, tensors, varying)
        out = call.run()
        found = [o for o in tree_flatten(out)[0] if _differentiable(o)]
        if not found:
            return self._paired(out, call, tensors)
        rule = _rule(found, varying, tensors.values())
        if rule is None:
            return self._paired(out, call, tensors)
        return self._ruled(call, out, varying, rule)

    # -- as it is ---------------------------------------------------------------------------------

    def _on_both(self, call, tensors):
        """Run an operation as it is."""
        before = {i: t._version for i, t in tensors.items()}
        copies = {}
        if _may_write(call.func, {}):
            copies = {i: t.detach().clone() for i, t in tensors.items() if not hasattr(t, _PAIR)}
        out = call.run()
        for i, copy in copies.items():
            if tensors[i]._version != before[i]:
                self._written.append(tensors[i])
                self.pair(tensors[i], copy)
        for i, t in tensors.items():
            if t._version != before[i] and hasattr(t, _PAIR):
                self.pair(t, _baseline(t))
        return self._paired(out, call, tensors)

    def _paired(self, out, call, tensors):
        """Run an operation on the baselines, too, where it has made or changed a tensor."""
        made = [o for o in tree_flatten(out)[0] if isinstance(o, torch.Tensor)]
        if not made and not _may_write(call.func, {}):
            return out
        out0 = self._on_baselines(call, {i: _baseline(t) for i, t in tensors.items()})
        self._pair_all(out, out0)
        return out

    def _on_baselines(self, call, filling):
        try:
            with torch.no_grad():
                return call.run(filling)
        except Exception as error:
            raise _Unpaired from error

    def _pair_all(self, out, out0):
        made, made0 = tree_flatten(out)[0], tree_flatten(out0)[0]
        for o, o0 in zip(made, made0, strict=True):
            if isinstance(o, torch.Tensor):
                if not isinstance(o0, torch.Tensor) or o0.shape != o.shape:
                    raise _Unpaired  # how many there are depends on the numbers
                self.pair(o, o0)

    # -- with a rule ------------------------------------------------------------------------------

    def _ruled(self, call, out, varying, rule):
        """Put a rule in place of the derivative of an operation that has been run."""
        leaves, spec = tree_flatten(out)
        places = [i for i, o in enumerate(leaves) if _differentiable(o)]
        ids = [id(t) for t in varying]

        def outputs(tensors):
            found = tree_flatten(call.run(dict(zip(ids, tensors, strict=True))))[0]
            return [found[i] for i in places]

        tensors = call.tensors()
        out0 = self._on_baselines(call, {i: _baseline(t) for i, t in tensors.items()})
        found0 = tree_flatten(out0)[0]
        step = rules.Step(
            outputs,
            [t.detach().clone() for t in varying],
            [_baseline(t).clone() for t in varying],
            [leaves[i].detach() for i in places],
            [found0[i] for i in places],
            rule,
        )
        _check_shapes(step)
        for i, o in zip(places, rules.Applied.apply(step, *varying), strict=True):
            leaves[i] = o
        out = tree_unflatten(leaves, spec)
        self._pair_all(out, out0)
        return out

    def _writing(self, call, tensors, varying):
        """Run an operation that may write into its inputs: first on copies, to see what it does."""
        ids = [id(t) for t in varying]
        constant = {i: t.detach().clone() for i, t in tensors.items() if i not in ids}
        constant0 = {i: _baseline(t).clone() for i, t in tensors.items() if i not in ids}
        fresh = [t.detach().clone() for t in varying]

        def outputs(tensors, rest=constant):
            # Copies, so that what is written into them leaves the originals alone.
            filling = {i: t.clone() for i, t in zip(ids, tensors, strict=True)}
            filling |= {i: t.clone() for i, t in rest.items()}
            names = {id(t): i for i, t in filling.items()}
            made = tree_flatten(call.run(filling))[0]
            written = {i: t for i, t in filling.items() if t._version}
            made = [o for o in made if _differentiable(o) and id(o) not in names]
            return made, written

        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in fresh]
            made, written = outputs(leaves)
        differentiable = [t for t in written.values() if _differentiable(t)]
        rule = None
        if made or differentiable:
            rule = _rule([*made, *differentiable], leaves, tensors.values())
        if rule is None:
            return self._on_both(call, tensors)
        if not written:
            return self._ruled(call, call.run(), varying, rule)
        if made:
            raise _Unseen
        names = [i for i, t in written.items() if _differentiable(t)]
        with torch.no_grad():
            _, written0 = outputs([_baseline(t) for t in varying], constant0)

        def changed(tensors):
            _, written = outputs(tensors)
            return [written[i] for i in names]

        step = rules.Step(
            changed,
            fresh,
            [_baseline(t).clone() for t in varying],
            [written[i].detach() for i in names],
            [written0[i] for i in names],
            rule,
        )
        _check_shapes(step)
        for i, new in zip(names, rules.Applied.apply(step, *varying), strict=True):
            target = tensors[i]
            if not hasattr(target, _PAIR):
                self._written.append(target)
                self.pair(target, constant0[i])
            target.copy_(new)
            with torch.no_grad():
                _baseline(target).copy_(written0[i])
            self.pair(target, _baseline(target))
        return tensors[names[0]]


class _Call:
    """A function with its arguments, to be run with others in place of its tensors."""

    def __init__(self, func, leaves, spec):
        self.func, self._leaves, self._spec = func, leaves, spec

    def tensors(self):
        return {id(t): t for t in self._leaves if isinstance(t, torch.Tensor)}

    def run(self, filling=None):
        leaves = self._leaves
        if filling is not None:
            leaves = [filling.get(id(leaf), leaf) for leaf in leaves]
        args, kwargs = tree_unflatten(leaves, self._spec)
        return self.func(*args, **kwargs)


def _rule(outputs, inputs, tensors):
    """Choose what stands in place of an operation's derivative; None: the derivative itself."""
    kind = operations.operation_kind(outputs, inputs)
    simple = len(outputs) == 1 and not any(t.is_complex() for t in [*inputs, *outputs])
    if _differ(tensors):
        # A mask or index that is made of the input, and another one for the baseline.
        if simple and operations.is_elementwise(outputs, inputs):
            return rules.product
        raise _Unpaired
    if kind == operations.LINEAR:
        return None
    if simple and kind in (operations.MAXIMUM, operations.MINIMUM):
        return rules.maximum if kind == operations.MAXIMUM else rules.minimum
    if simple and kind == operations.ELEMENTWISE:
        alone = len(inputs) == 1 and inputs[0].shape == outputs[0].shape
        return rules.secant if alone else rules.product
    return rules.mean_jacobian


def _differ(tensors):
    """Whether something without a derivative is not the same for samples and baselines."""
    return any(
        hasattr(t, _PAIR) and not t.requires_grad and not torch.equal(t, _baseline(t))
        for t in tensors
    )


def _check_shapes(step):
    for a, b in zip([*step.x, *step.y], [*step.x0, *step.y0], strict=True):
        if a.shape != b.shape:
            raise _Unpaired


def _baseline(tensor):
    return getattr(tensor, _PAIR, (tensor,))[0]


def _differentiable(value):
    return isinstance(value, torch.Tensor) and value.requires_grad


def _is_unseen(tensor):
    """Whether a derivative goes through something that was not run under our eyes."""
    if not tensor.requires_grad or tensor.is_leaf:
        return False
    # A Function of the user's makes its output without a derivative, and gives it one afterwards.
    return not getattr(tensor, _PAIR, (None, False))[1]


def _may_write(func, kwargs):
    return kwargs.get("out") is not None or _writes_by_name(func)


@functools.lru_cache(maxsize=4096)
def _writes_by_name(func):
    """Whether a function is one that may write into its arguments."""
    name = getattr(func, "__name__", "").split(".")[0]
    if re.fullmatch(r"\w*[^_]_|__setitem__|__i(?!nvert|ndex|ter|nit)\w+__", name):
        return True
    try:
        return "inplace" in inspect.signature(func).parameters
    except (ValueError, TypeError):  # it is not written in Python
        return False


def deep_lift(encode, x, references, cotangents, turned=None):
    """DeepLIFT (rescale) attributions of several functions <c_j, encode(.)> of each sample.

    Parameters
    ----------
    encode : callable
        (b, ...) to (b, N), differentiable. If it does something that is no operation of torch (a
        compiled network, a derivative of the user's own), all of it is taken as one operation.
    x : tensor of shape (n, ...)
        Samples.
    references : tensor of shape (n or 1, K, ...)
        Reference rows; attributions are averaged over them.
    cotangents : tensor of shape (n, k, N)
        c_j, held constant.
    turned : callable or None, default=None
        From entries of samples, and multipliers of them, to those in an orthonormal basis: as of a
        linear layer in front.

    Returns
    -------
    maps : tensor of shape (n, k, ...)
    """
    total = x.new_zeros(len(x), cotangents.shape[1], *x.shape[1:])
    for k in range(references.shape[1]):
        total += _from_one_row(encode, x, references[:, k].expand_as(x), cotangents, turned)
    return total / references.shape[1]


def _from_one_row(encode, x, reference, cotangents, turned=None):
    """Attributions from one reference row of each sample: (n, k, ...)."""
    try:
        z, leaf = _run(encode, x, reference)
    except _Unpaired:
        if len(x) > 1:  # what is true of one sample must not change the others
            rows = zip(*(t.split(1) for t in (x, reference, cotangents)), strict=True)
            return torch.cat([_from_one_row(encode, *row, turned) for row in rows])
        z, leaf = _run_as_one(encode, x, reference)
    except _Unseen:
        z, leaf = _run_as_one(encode, x, reference)
    maps = []
    for cotangent in cotangents.unbind(1):
        (multiplier,) = torch.autograd.grad(
            z, leaf, cotangent.to(z), retain_graph=True, materialize_grads=True
        )
        difference = x - reference
        if turned is not None:
            multiplier, difference = turned(multiplier), turned(difference)
        maps.append(difference * multiplier)
    return torch.stack(maps, dim=1)


def _run(encode, x, reference):
    """Run a network, operation by operation."""
    leaf, mode = x.detach().clone().requires_grad_(), _Rescale()
    with torch.enable_grad():
        # Not the leaf itself, into which a network could not write.
        inputs = leaf.clone()
        mode.pair(inputs, reference.detach().clone())
        with mode:
            z = encode(inputs)
    if _is_unseen(z):
        raise _Unseen
    return z, leaf


def _run_as_one(encode, x, reference):
    """Run a network as a single operation."""

    def outputs(tensors):
        return [encode(tensors[0].clone())]

    leaf = x.detach().clone().requires_grad_()
    with torch.no_grad():
        y, y0 = encode(x.clone()), encode(reference.clone())
    step = rules.Step(
        outputs, [x.detach().clone()], [reference.clone()], [y], [y0], rules.mean_jacobian
    )
    with torch.enable_grad():
        (z,) = rules.Applied.apply(step, leaf)
    return z, leaf
