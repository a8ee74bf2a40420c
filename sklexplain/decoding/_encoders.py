"""What turns samples into activations: the layer that is explained, and fresh copies of it."""

import copy

import numpy as np
import torch
from torch import nn

from ..layers import LinearMap, activation_buffer, pick, run_to
from ..representation import BlackBox, Chain, LayerTap
from ..training import draw_weights, undrawn
from ..utils import seeded


class OutputTap:
    """The output of a model without torch form, in the place of a layer's activations.

    Parameters
    ----------
    representation : Representation
        After its `probe`.
    """

    name, module = None, None

    def __init__(self, representation):
        self._representation = representation
        self.shape, self.dtype = (representation.n_units,), representation.output_dtype

    def __call__(self, x):
        """Activations of a batch: (b, N)."""
        return self._representation(x)

    def with_output(self, x):
        """Activations and the model's output, which are the same."""
        output = self._representation(x)
        return output, output


def layer_tap(representation, layer, inputs, units):
    """Find the layer that is decoded.

    Parameters
    ----------
    representation : Representation
        After its `probe`.
    layer : str or None
        Its name. None: the last linear layer's input, or its output where that input is no more
        than the sample itself; a model without torch form is decoded from its output.
    inputs : ndarray of shape (n, ...)
        Samples; the first few are run.
    units : InputUnits
        Of the same network.

    Returns
    -------
    tap : LayerTap or OutputTap
    """
    if layer is None and isinstance(_last_step(representation.chain), BlackBox):
        return OutputTap(representation)
    tap = LayerTap(representation, layer, inputs)
    if layer is not None:
        return tap
    with representation.session(), torch.no_grad():
        x = representation.tensor(inputs[:8])
        z, x = tap(x).flatten(1), units.to_network(x).flatten(1)
    if z.shape == x.shape and torch.allclose(z.to(x), x):
        return LayerTap(representation, tap.name, inputs)  # nothing has been encoded before it
    return tap


def _last_step(chain):
    while isinstance(chain, Chain):
        chain = chain.steps[-1]
    return chain


def nothing_to_train(representation, tap, seed, rows):
    """Say why there is no reference: what a layer's activations are made by cannot learn anew.

    Parameters
    ----------
    representation : Representation
        Of the network.
    tap : LayerTap or OutputTap
        The layer.
    seed : int
        Of the weights of a trial.
    rows : ndarray of shape (n, ...)
        A few samples.

    Returns
    -------
    reason : str or None
        What has no torch form, if activations depend on it and on no weight.
    """
    boxes = [m for m in representation.chain.modules() if isinstance(m, BlackBox)]
    for box in boxes:
        box.reached = False
    with representation.session(), torch.no_grad():
        tap(representation.tensor(rows[:2]))
    reasons = [box.reason for box in boxes if box.reached]
    if reasons and tap.module is not None:
        encoder = fresh_encoder(representation, tap, seed, rows)
        if any(parameter.requires_grad for parameter in encoder.parameters()):
            return None
    return reasons[0] if reasons else None


class FreshEncoder(nn.Module):
    """A network up to a layer, with weights of its own.

    Parameters
    ----------
    chain : nn.Module
        The network.
    layer : nn.Module
        The layer in it.
    tap : LayerTap
        Says which call of the layer, and what of it, is looked at.
    """

    def __init__(self, chain, layer, tap):
        super().__init__()
        self.chain = chain
        self._layer = (layer,)  # registered once, within the chain
        self._items, self._at, self._name = tap._items, tap.at, tap.name
        self._n_calls, self._batch_axis = tap._n_calls, tap._batch_axis

    def forward(self, x):
        """Turn samples (b, ...) into activations (b, *z_shape)."""
        seen, _ = run_to(self.chain, self._layer[0], x.clone(), self._n_calls, self._at)
        return pick(seen, self._items, self._name).movedim(self._batch_axis, 0)


class _FreshLinear(nn.Linear):
    def forward(self, x):
        return super().forward(x.to(self.weight.dtype))


def fresh_encoder(representation, tap, seed, rows):
    """Copy the network up to the layer, with newly drawn weights.

    Parameters
    ----------
    representation : Representation
        Of the network.
    tap : LayerTap
        The layer.
    seed : int
        Determines the weights.
    rows : ndarray of shape (n, ...)
        A few samples, to see which weights matter.

    Returns
    -------
    encoder : FreshEncoder
        Its weights require a gradient; the network is as it was.

    Raises
    ------
    ValueError
        If the network cannot be copied, or a weight cannot be drawn.
    """
    try:
        chain, layer = copy.deepcopy((representation.chain, tap.module))
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"the reference needs a copy of the network, which cannot be copied ({error}); use "
            "reference=None."
        ) from error
    with seeded(seed, representation.device):
        replaced = _with_trainable_maps(chain)
        encoder = FreshEncoder(chain, replaced.get(layer, layer), tap)
        _drop_foreign_hooks(chain)
        draw_weights(chain)
        # Only from here on does a weight that is not needed do no harm.
        _check_drawn(encoder, representation.tensor(rows[:2]))
    return encoder


def first_activations(encoder, representation, rows, seed):
    """Activations of a few samples by an encoder as its training begins: by batch statistics.

    Parameters
    ----------
    encoder : FreshEncoder
        Stays as it is.
    representation : Representation
        Of the network.
    rows : ndarray of shape (n, ...)
        Samples.
    seed : int
        Of what is drawn in training.

    Returns
    -------
    z : ndarray of shape (m, *z_shape)
    """
    x = representation.tensor(rows[np.arange(max(2, len(rows))) % len(rows)])
    with torch.no_grad(), seeded(seed, representation.device):
        return copy.deepcopy(encoder).train()(x).cpu().double().numpy()


def _check_drawn(encoder, x):
    """Raise if a weight that the layer depends on was not drawn; leave the others out."""
    encoder.eval()
    parameters = dict(encoder.chain.named_parameters())
    missing = set(undrawn(encoder.chain))
    # cuDNN refuses a backward pass of recurrent layers in eval mode.
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        z = encoder(x)
        needed = set()
        if z.requires_grad and parameters:
            trained = {k: p for k, p in parameters.items() if p.requires_grad}
            found = torch.autograd.grad(z.sum(), list(trained.values()), allow_unused=True)
            needed = {k for k, g in zip(trained, found, strict=True) if g is not None}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in needed)
    if missing & needed:
        names = ", ".join(repr(name) for name in sorted(missing & needed))
        raise ValueError(
            f"the reference starts from new weights, but {names} cannot be drawn: no submodule "
            "that holds them has a reset_parameters() that sets them. Give it one, or use "
            "reference=None."
        )


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
    """Remove hooks that are the user's: they would see what another network computes."""
    for module in chain.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks):
            for key, hook in list(hooks.items()):
                if not type(hook).__module__.startswith("torch."):
                    del hooks[key]


def all_activations(tap, representation, inputs, batch_size, *, output=False):
    """Activations of all samples, and the network's outputs if wanted, each computed once.

    Parameters
    ----------
    tap : LayerTap or OutputTap
        The layer.
    representation : Representation
        Of the network.
    inputs : ndarray of shape (n, ...)
        Samples.
    batch_size : int
        Most samples in the network at once.
    output : bool, default=False
        Whether to run on to the output.

    Returns
    -------
    z : ndarray of shape (n, *z_shape)
    scores : ndarray of shape (n, N) or None
    """

    def run(batch):
        x = representation.tensor(batch)
        return tap.with_output(x) if output else (tap(x),)

    with representation.session(), torch.no_grad():
        z, *scores = activation_buffer(run, inputs, batch_size)
    return z, scores[0] if output else None
