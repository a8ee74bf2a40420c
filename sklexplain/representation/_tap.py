"""Activations at a layer: of a batch, or of all samples, computed once."""

import numpy as np
import torch
from torch import nn

from ..layers import (
    LinearMap,
    Point,
    activation_buffer,
    batch_axis,
    entering,
    parse_path,
    pick,
    run_through,
    run_to,
    unknown_layer,
    watching,
)
from ._modules import BlackBox, layer_table

_LINEAR = (nn.Linear, LinearMap)


class LayerTap:
    """One layer of a representation's network: its activations, and the network's output.

    Parameters
    ----------
    representation : Representation
        Of the whole network, after its `probe`; with ``link=False`` the output is a classifier's
        scores, not its probabilities.
    layer : str or None
        Submodule whose output is looked at, as in ``named_modules()``, with ``[i]`` for an item
        of a tuple. None: the input of the last linear layer.
    inputs : ndarray of shape (n, *shape)
        Samples as they enter the network; at most three are run.

    Attributes
    ----------
    name : str
        The layer's name.
    at : {"output", "input"}
        Whether its output or its input is looked at.
    module : nn.Module
        The layer.
    shape : tuple of int
        Of one sample's activations.
    dtype : torch.dtype
        Of the activations.

    Raises
    ------
    TypeError
        If there is no network to look into.
    ValueError
        If the layer does not exist, is not called, or its output does not follow the samples.

    Notes
    -----
    Calls are to be made inside ``representation.session()``; a layer that is called several times
    is looked at in its last call.
    """

    def __init__(self, representation, layer, inputs):
        self._representation = representation
        chain = representation.chain
        if isinstance(chain, BlackBox):
            raise TypeError(
                f"{chain.reason} has no torch form, so it has no layers to look at; pass a "
                "network, or a Pipeline that ends in one."
            )
        rows = [inputs[np.arange(n) % len(inputs)] for n in (2, 3)]
        with representation.session(), torch.no_grad():
            if layer is None:
                self.name, self.module, self._items, self.at = *self._last_linear(rows[0]), "input"
            else:
                self.name, self.module, self._items, self.at = *self._named(layer), "output"
            self._n_calls = run_to(chain, self.module, self._tensor(rows[0]), None, self.at)[1]
            if self._n_calls == 0:
                raise ValueError(
                    f"layer={layer!r} is never called when the network runs on this input, so it "
                    "has no activations; name a layer that is."
                )
            outputs = [self._raw(self._tensor(r)) for r in rows]
            shapes = [tuple(output.shape) for output in outputs]
            self._batch_axis = batch_axis(*shapes, f"layer {self.name!r}")
            z = self._arranged(outputs[0])
        self.shape, self.dtype = tuple(z.shape[1:]), z.dtype

    def _last_linear(self, rows):
        """Find the linear layer that is called last."""
        found = {m: name for name, (m, _) in layer_table(self._chain).items()}
        found = {m: name for m, name in found.items() if isinstance(m, _LINEAR)}
        called, handles = [], []
        for module in found:
            hook = module.register_forward_hook(lambda module, _args, _out: called.append(module))
            handles.append(hook)
        try:
            self._chain(self._tensor(rows))
        finally:
            for handle in handles:
                handle.remove()
        if not called:
            names = _listed(layer_table(self._chain))
            raise ValueError(
                "layer=None looks at the last linear layer's input, but this network has no "
                "linear layer; "
                + (f"name a layer: {names}." if names else "and no submodule to look at instead.")
            )
        return found[called[-1]], called[-1], ()

    def _named(self, layer):
        if not isinstance(layer, str):
            raise TypeError(f"layer={layer!r} must be a string or None.")
        name, items = parse_path(layer)
        table = layer_table(self._chain)
        if name not in table:
            raise unknown_layer(name, table)
        return layer, table[name][0], items

    @property
    def _chain(self):
        return self._representation.chain

    def _tensor(self, inputs):
        # Always a copy: a network may write into its input.
        return self._representation.tensor(inputs).clone()

    def _raw(self, x):
        """Run no further than the layer; activations as they are in the network."""
        seen, _ = run_to(self._chain, self.module, x, self._n_calls, self.at)
        return pick(seen, self._items, self.name)

    def _arranged(self, tensor):
        return tensor.movedim(self._batch_axis, 0)

    def __call__(self, x):
        """Activations of a batch, going no further than the layer: (b, ...) to (b, *shape)."""
        return self._arranged(self._raw(x.clone()))

    def with_output(self, x):
        """Activations (b, *shape) and the network's output (b, N), of the same pass."""
        representation = self._representation
        z, output = run_through(
            self._chain, self.module, x.clone(), self._items, self.name, self.at
        )
        output = output.movedim(representation._batch_axis, 0).reshape(len(x), -1)
        return self._arranged(z), output

    def gradients(self, x, function):
        """Gradients, at the layer, of functions of the network's output.

        Parameters
        ----------
        x : tensor of shape (b, ...)
            Samples.
        function : callable
            From the output (b, N) to (b, k).

        Yields
        ------
        z : tensor of shape (b, *shape)
            Activations.
        gradient : tensor of shape (b, *shape)
            Of each of the k numbers in turn; zeros where it does not depend on the layer.
        """
        representation, seen = self._representation, []
        point = Point(self.name, self.module, self._items, self.at)
        with torch.enable_grad(), watching([(point, seen.append)]):
            output = self._chain(entering(x.clone(), [point]))
            output = output.movedim(representation._batch_axis, 0).reshape(len(x), -1)
            values = function(output)
        z = seen[-1]
        for j in range(values.shape[1]):
            gradient = None
            if values.requires_grad:
                (gradient,) = torch.autograd.grad(
                    values[:, j].sum(), z, retain_graph=True, allow_unused=True
                )
            gradient = torch.zeros_like(z) if gradient is None else gradient
            yield self._arranged(z.detach()), self._arranged(gradient)

    def buffers(self, inputs, batch_size, max_bytes=2**28):
        """Activations and outputs of all samples, each computed once.

        Parameters
        ----------
        inputs : ndarray of shape (n, *shape)
            Samples as they enter the network.
        batch_size : int
            Most samples in the network at once.
        max_bytes : int, default=2**28
            See `activation_buffer`.

        Returns
        -------
        z : ndarray of shape (n, *shape)
            Activations.
        output : ndarray of shape (n, N)
            The network's output.
        """

        def run(batch):
            return self.with_output(self._representation.tensor(batch))

        with self._representation.session(), torch.no_grad():
            return activation_buffer(run, inputs, batch_size, max_bytes)


def _listed(table):
    return ", ".join(repr(name) for name in list(table)[:20] if name)
