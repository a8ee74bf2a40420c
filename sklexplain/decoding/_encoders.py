"""Fresh copies of a network up to a layer: the encoders of references."""

import math
import threading

import torch
from torch import nn

from ..layers import LinearMap, check_rows, copied, pick, run_to, unwrapped
from ..representation import layer_table
from ..training import draw_weights, undrawn

# A run stops at a hook on the layer, which would be met by another thread's run, too. (Not an
# attribute: modules are copied and pickled.)
_ONE_RUN = threading.RLock()
_HALF = (torch.float16, torch.bfloat16)


class FreshEncoder(nn.Module):
    """A network up to a layer, with weights of its own.

    In training only those of its parts are in training mode that keep statistics of the batches
    they see, as batch normalisation does. Dropout is off, as it is in the explained network: else
    the reference would carry noise that the explanation does not.

    Parameters
    ----------
    chain : nn.Module
        The network.
    layer : nn.Module
        The layer in it.
    record : LayerRecord
        Says which call of the layer is looked at, and which part of its output.
    """

    def __init__(self, chain, layer, record):
        super().__init__()
        self.chain = chain
        self._layer = (layer,)  # registered once, within the chain
        self._record = record
        self.counting = frozenset()  # names of parts that keep statistics: see `draw_encoder`

    def train(self, mode=True):
        """Set the mode of those parts that keep statistics; the others stay in evaluation mode.

        Parameters
        ----------
        mode : bool, default=True
            Whether to train.

        Returns
        -------
        self : FreshEncoder
        """
        super().train(mode)
        for name, module in self.chain.named_modules() if mode else ():
            if isinstance(module, nn.RNNBase):
                module.dropout = 0.0  # cuDNN goes backward in training mode only
            elif name not in self.counting:
                module.training = False
        return self

    def forward(self, x):
        """Turn samples (b, ...) into activations (b, *z_shape)."""
        record = self._record
        with _ONE_RUN:
            seen, n = run_to(self.chain, self._layer[0], x.clone(), record.n_calls, record.at)
        if n == 0:
            raise ValueError(
                "the reference needs a copy of the network, but the copy calls layers of the "
                "original (by a closure or a global name, for example); use reference=None."
            )
        z, size = pick(seen, record.items, record.name), math.prod(record.shape)
        check_rows(z, record.batch_axis, len(x), size, f"layer {record.name!r}")
        return z.movedim(record.batch_axis, 0)


class _FreshLinear(nn.Linear):
    def forward(self, x):
        return super().forward(x.to(self.weight.dtype))


def copied_encoder(chain, record):
    """Copy a network up to a layer, with linear layers in the places of converted linear maps.

    Parameters
    ----------
    chain : nn.Module
        The network; it stays as it is.
    record : LayerRecord
        The layer.

    Returns
    -------
    encoder : FreshEncoder

    Raises
    ------
    ValueError
        If the network cannot be copied.
    """
    layer = layer_table(chain)[record.module_name][0]
    try:
        chain, layer = copied((chain, layer), [chain])
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"the reference needs a copy of the network, which cannot be copied ({error}); use "
            "reference=None."
        ) from error
    chain, layer = _in_single_precision(_without_wrappers(chain)), unwrapped(layer)
    replaced = _with_trainable_maps(chain)
    _drop_foreign_hooks(chain)
    return FreshEncoder(chain, replaced.get(layer, layer), record)


def _without_wrappers(module):
    """Replace compiled and other wrapped parts of a copy of a network by what is inside."""
    module = unwrapped(module)
    for part in list(module.modules()):
        for name, child in part._modules.items():
            if child is not None:
                part._modules[name] = unwrapped(child)
        vars(part).pop("_compiled_call_impl", None)
    return module


def _in_single_precision(module):
    """Raise half precision, in which Adam's steps are lost or infinite."""
    return module._apply(lambda t: t.float() if t.dtype in _HALF else t)


def draw_encoder(encoder, batches):
    """Draw an encoder's weights anew; those that the layer does not depend on are left out.

    Parameters
    ----------
    encoder : FreshEncoder
        Those of its weights that matter require a gradient afterwards.
    batches : callable
        Yields the samples that it is trained on, in batches (b, ...), to see which weights matter:
        some may matter to a few samples only, as those of an expert do.

    Raises
    ------
    ValueError
        If a weight that matters cannot be drawn.
    """
    draw_weights(encoder.chain)
    encoder.counting = _counting(encoder, batches)
    encoder.eval()
    parameters = dict(encoder.chain.named_parameters())
    missing = set(undrawn(encoder.chain))
    needed = _needed(encoder, parameters, batches)
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in needed)
    if missing & needed:
        names = ", ".join(repr(name) for name in sorted(missing & needed))
        raise ValueError(
            f"the reference starts from new weights, but {names} cannot be drawn: no submodule "
            "that holds them has a reset_parameters() that sets them. Give it one, or use "
            "reference=None."
        )


def _counting(encoder, batches):
    """Names of the parts whose own buffers change when samples pass in training mode."""
    if not any(True for _ in encoder.chain.buffers()):
        return frozenset()
    trial, found = copied(encoder), []
    nn.Module.train(trial, True)
    before = _buffers(trial)
    for x in batches():
        try:
            with torch.no_grad():
                trial(x)
        except (RuntimeError, ValueError):
            found.append(None)  # what does not run at all is said when it is run
            before = _buffers(trial)
            continue
        after = _buffers(trial)
        found.append({k for k, b in after.items() if not _same(before.get(k), b)})
        before = after
    passed = [names for names in found if names is not None]
    if not passed:
        return frozenset()
    # A part that few samples reach may meet a single one in a batch, of which there are no
    # statistics: where a batch failed only those parts count that every batch reaches.
    merge = set.union if len(passed) == len(found) else set.intersection
    return frozenset(name.rpartition(".")[0] for name in merge(*passed))


def _buffers(encoder):
    buffers = encoder.chain.named_buffers(remove_duplicate=False)
    return {name: buffer.clone() for name, buffer in buffers}


def _same(before, after):
    return before is None or torch.equal(before, after)  # what is new is no statistics


def _needed(encoder, parameters, batches):
    """Names of the weights that the activations of any sample depend on."""
    trained = {k: p for k, p in parameters.items() if p.requires_grad}
    needed = set()
    for x in batches():
        if len(needed) == len(trained):
            break
        needed |= _reached(encoder, {k: p for k, p in trained.items() if k not in needed}, x)
    return needed


def _reached(encoder, parameters, x):
    """Names of the weights that the activations of a batch depend on."""
    # cuDNN refuses a backward pass of recurrent layers in eval mode.
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        try:
            z = encoder(x)
        except RuntimeError as error:
            raise ValueError(
                f"the reference, a copy of the network in single precision, does not run "
                f"({error}); use reference=None."
            ) from error
        if not z.requires_grad:
            return set()
        gradients = torch.autograd.grad(z.sum(), list(parameters.values()), allow_unused=True)
    return {name for name, g in zip(parameters, gradients, strict=True) if g is not None}


def _with_trainable_maps(chain):
    """Put linear layers in the places of converted linear maps; return which replaced which."""
    replaced = {}
    for module in list(chain.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LinearMap):
                n_out, n_in = child.weight.shape
                new = replaced.get(child)
                if new is None:
                    options = {"device": child.weight.device, "dtype": child.weight.dtype}
                    new = replaced[child] = _FreshLinear(n_in, n_out, **options)
                setattr(module, name, new)
    return replaced


def _drop_foreign_hooks(chain):
    """Remove the user's hooks, which would see what another network computes."""
    for module in chain.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks):
            for key, hook in list(hooks.items()):
                if not type(hook).__module__.startswith("torch."):
                    del hooks[key]
