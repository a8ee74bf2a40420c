"""Activations at a layer: of a batch, together with the network's output."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from ..layers import (
    N_TRIED,
    LinearMap,
    Point,
    batch_axis,
    check_order,
    check_rows,
    entering,
    hidden_layers,
    known_layer,
    parse_path,
    path_of,
    pick,
    run_through,
    run_to,
    watching,
)
from ..utils import spread_places
from ._modules import BlackBox

_LINEAR = (nn.Linear, LinearMap)


@dataclass(frozen=True)
class LayerRecord:
    """Where a layer's activations are found, and their form: plain data, which can be saved.

    Attributes
    ----------
    name : str
        The layer, as in ``named_modules()``, with ``[i]`` for an item of a tuple and ``['key']``
        for one of a dict.
    module_name : str
        The same without items.
    items : tuple of int or str
        Which part of its output.
    at : {"output", "input"}
        Whether its output or its input is looked at.
    n_calls : int
        How often it is called in a pass; the last call counts.
    batch_axis : int
        Axis of its output that follows the samples.
    shape : tuple of int
        Of one sample's activations.
    dtype : str
        Of the activations, "float32" for example.
    """

    name: str
    module_name: str
    items: tuple
    at: str
    n_calls: int
    batch_axis: int
    shape: tuple
    dtype: str


class LayerTap:
    """One layer of a representation's network: its activations, and the network's output.

    Parameters
    ----------
    representation : Representation
        Of the whole network; with ``link=False`` the output is a classifier's scores, not its
        probabilities.
    record : LayerRecord
        Which layer, as `find` returned it; there is no module in it, so that it can be kept.

    Notes
    -----
    Calls are to be made inside ``representation.session()``; a layer that is called several times
    is looked at in its last call.
    """

    def __init__(self, representation, record):
        self._representation = representation
        self.record = record

    @classmethod
    def find(cls, representation, layer, inputs):
        """Find a layer, and the form of its activations.

        Parameters
        ----------
        representation : Representation
            Of the whole network.
        layer : str or None
            Submodule whose output is looked at, as in ``named_modules()``, with ``[i]`` for an item
            of a tuple and ``['key']`` for one of a dict. None: the input of the last linear layer.
        inputs : ndarray of shape (n, *shape)
            Samples as they enter the network; a few from all over are run.

        Returns
        -------
        tap : LayerTap

        Raises
        ------
        TypeError
            If there is no network to look into, or it runs without calling its layers.
        ValueError
            If the layer does not exist, is not called, or its output does not follow the samples.
        """
        if isinstance(representation.chain, BlackBox):
            raise TypeError(
                f"{representation.chain.reason} has no torch form, so it has no layers to look at; "
                "pass a network, or a Pipeline that ends in one."
            )
        with representation.session(), torch.no_grad():
            recordings = representation.recordings_of(inputs)
            layers = representation.layers
            if layer is None:
                place = {"at": "input", **_last_linear(layers, recordings[0])}
            else:
                place = {"at": "output", **_named(layers, layer)}
            module = representation.module(place["module_name"])
            calls = [_calls(recording, module, place["at"]) for recording in recordings]
            if not calls[0]:
                raise ValueError(
                    f"layer={layer!r} is never called when the network runs on this input, so it "
                    "has no activations; name a layer that is."
                )
            z = [pick(c[-1], place["items"], place["name"]) for c in calls]
        axis = batch_axis(*(tuple(part.shape) for part in z), f"layer {place['name']!r}")
        place |= {"n_calls": representation.probe.ends_after(len(calls[0])), "batch_axis": axis}
        place |= {"shape": tuple(z[0].movedim(axis, 0).shape[1:])}
        place |= {"dtype": str(z[0].dtype).removeprefix("torch.")}
        tap = cls(representation, LayerRecord(**place))
        with representation.session(), torch.no_grad():
            x = representation.tensor(inputs[spread_places(len(inputs), N_TRIED)])
            rows = tap(x)
            if not representation.probe.random:
                check_order(rows, tap(x.flip(0)), f"layer {tap.name!r}")
        return tap

    @property
    def name(self):
        """The layer's name."""
        return self.record.name

    @property
    def at(self):
        """Whether its "output" or its "input" is looked at."""
        return self.record.at

    @property
    def shape(self):
        """Shape of one sample's activations."""
        return self.record.shape

    @property
    def what(self):
        """The activations in words, for messages."""
        if self.at == "input":
            return f"the inputs of layer {self.name!r}"
        return f"the activations at layer {self.name!r}"

    def _module(self):
        """Return the layer of the network that runs: found by name, never kept."""
        return self._representation.module(self.record.module_name)

    def _reached(self, x):
        """Run up to the layer; return its output (or input) and the number of its calls."""
        chain, record = self._representation.chain, self.record
        return run_to(chain, self._module(), x, record.n_calls, record.at)

    def _raw(self, x):
        """Activations as they are in the network; None where the layer is not reached."""
        seen, n_calls = self._reached(x)
        return None if n_calls == 0 else pick(seen, self.record.items, self.record.name)

    def _arranged(self, tensor, n_samples):
        record = self.record
        size, what = math.prod(record.shape), f"layer {record.name!r}"
        check_rows(tensor, record.batch_axis, n_samples, size, what)
        return tensor.movedim(record.batch_axis, 0)

    def __call__(self, x):
        """Activations of a batch, going no further than the layer: (b, ...) to (b, *shape)."""
        z = self._rows(x)
        self._representation.check_row_order(self._rows, x, z, f"layer {self.name!r}")
        return z

    def _rows(self, x):
        batches = self._representation.run_at_once(x)
        parts = [self._arranged(self._raw(rows.clone()), len(rows)) for rows in batches]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def with_output(self, x):
        """Activations (b, *shape) and the network's output (b, N), of the same pass."""
        batches = self._representation.run_at_once(x)
        parts = [self._with_output(rows) for rows in batches]
        return parts[0] if len(parts) == 1 else tuple(map(torch.cat, zip(*parts, strict=True)))

    def _with_output(self, x):
        representation, record = self._representation, self.record
        z, output = run_through(
            representation.chain, self._module(), x.clone(), record.items, record.name, record.at
        )
        output = output.movedim(representation.probe.batch_axis, 0).reshape(len(x), -1)
        z = self._arranged(z, len(x))
        representation.check_row_order(self._rows, x, z, f"layer {self.name!r}")
        return z, output

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
            Of each of the k numbers in turn; zeros where it does not depend on the layer, and
            where the network computes with quantised numbers, which have none.
        """
        representation, record, seen = self._representation, self.record, []
        if representation.probe.quantised:
            z, output = self.with_output(x)
            for _ in range(function(output).shape[1]):
                yield z, torch.zeros_like(z)
            return
        point = Point(record.name, self._module(), record.items, record.at)
        with torch.enable_grad(), watching([(point, seen.append)]):
            output = representation.chain(entering(x.clone(), [point]))
            output = output.movedim(representation.probe.batch_axis, 0).reshape(len(x), -1)
            totals = function(output).sum(dim=0).unbind()  # of independent samples
        z = seen[-1]
        rows = self._arranged(z.detach(), len(x))
        representation.check_row_order(self._rows, x, rows, f"layer {self.name!r}")
        for total in totals:
            gradient = None
            if total.requires_grad:
                (gradient,) = torch.autograd.grad(total, z, retain_graph=True, allow_unused=True)
            gradient = torch.zeros_like(z) if gradient is None else gradient
            yield rows, self._arranged(gradient, len(x))


def _named(layers, layer):
    """Locate a layer by its name; raise an error if there is no such layer."""
    if not isinstance(layer, str):
        raise TypeError(f"layer={layer!r} must be a string or None.")
    name, items = parse_path(layer)
    name = known_layer(name, layers)
    return {"name": path_of(name, items), "module_name": name, "items": items}


def _calls(recording, module, at):
    """Return what a module returned, or was first given, in each of its calls."""
    if at == "output":
        return [call.output for call in recording.of(module) if call.ended is not None]
    return [
        call.args[0] if call.args else next(iter(call.kwargs.values()), None)
        for call in recording.of(module)
    ]


def _is_linear(module):
    """Whether a module is a linear layer, quantised or not."""
    if isinstance(module, _LINEAR):
        return True
    sizes = hasattr(module, "in_features") and hasattr(module, "out_features")
    return sizes and "quantized" in type(module).__module__


def _last_linear(layers, recording):
    """Locate the linear layer that is called last; raise an error if there is none."""
    names = {module: name for name, module in layers.items()}
    called = [
        call
        for call in recording.calls
        if _is_linear(call.module) and call.module in names and call.ended is not None
    ]
    if not called:
        reason = hidden_layers(part for layer in layers.values() for part in layer.modules())
        if reason is not None:
            raise TypeError(f"layer=None looks at the last linear layer's input, but {reason}")
        listed = ", ".join(repr(name) for name in list(layers)[:20] if name)
        raise ValueError(
            "layer=None looks at the last linear layer's input, but this network has no linear "
            "layer; "
            + (f"name a layer: {listed}." if listed else "and no submodule to look at instead.")
        )
    name = names[max(called, key=lambda call: call.ended).module]
    return {"name": name, "module_name": name, "items": ()}
