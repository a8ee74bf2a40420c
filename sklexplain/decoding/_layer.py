"""The layer and the units of one fit."""

import numpy as np
import torch

from ..layers import LinearMap, activation_buffer, copied
from ..representation import BlackBox, Chain, LayerTap, Stage
from ..training import load_arrays
from ..utils import seeded, spread_places
from ._encoders import copied_encoder, draw_encoder
from ._units import InputUnits, TableUnits

_N_COMPARED = 8  # samples that are compared with their activations
_BATCH = 64  # samples at once where weights are looked for: as training takes them


class Layer:
    """The layer that is decoded, and the units of samples, of one fit.

    It is made from the fitted state of an explainer and the network that is running: it is cheap
    to make, and not kept.

    Parameters
    ----------
    representation : Representation
        Of the network.
    record : LayerRecord or None
        The layer; None for the output of a model without torch form or layers.
    units : InputUnits
        Of the same network.

    Attributes
    ----------
    name : str or None
        The layer's name.
    shape : tuple of int
        Of one sample's activations.
    """

    def __init__(self, representation, record, units):
        self.representation = representation
        self.record = record
        self.units = units
        self._tap = None if record is None else LayerTap(representation, record)
        self.name = None if record is None else record.name
        self.shape = (representation.n_units,) if record is None else record.shape

    @classmethod
    def find(cls, representation, layer, inputs):
        """Find the layer that is decoded.

        Parameters
        ----------
        representation : Representation
            Of the network.
        layer : str or None
            Its name. None: the last linear layer's input, or its output where that input is no more
            than the sample itself; a model without torch form or layers is decoded from its output.
        inputs : ndarray of shape (n, ...)
            Samples; a few are run.

        Returns
        -------
        layer : Layer
        """
        with representation.session(), torch.no_grad():
            units = InputUnits.of(representation, inputs)
            if layer is None and not _has_layers(representation.chain):
                return cls(representation, None, units)
            record = LayerTap.find(representation, layer, inputs).record
            candidate = cls(representation, record, units)
            some = inputs[spread_places(len(inputs), _N_COMPARED)]
            if layer is not None or not candidate._gives_samples(some):
                return candidate
        # Nothing has been encoded before the last linear layer.
        tap = LayerTap.find(representation, candidate.name, inputs)
        return cls(representation, tap.record, units)

    def _gives_samples(self, inputs):
        x = self.tensor(inputs)
        z, x = self.of(x).flatten(1), self.units.to_network(x).flatten(1)
        return z.shape == x.shape and torch.allclose(z.to(x), x)

    # -- activations ---------------------------------------------------------------------------

    @property
    def what(self):
        """The activations in words, for messages."""
        return "the model's outputs" if self._tap is None else self._tap.what

    def tensor(self, inputs):
        """Tensor of inputs as the network takes them."""
        return self.representation.tensor(inputs)

    def of(self, x):
        """Activations of a batch: (b, ...) to (b, *shape)."""
        return self.representation(x) if self._tap is None else self._tap(x)

    def with_output(self, x):
        """Activations of a batch and the model's output, of the same pass."""
        if self._tap is not None:
            return self._tap.with_output(x)
        output = self.representation(x)
        return output, output

    def activations(self, inputs, batch_size, *, output=False, encoder=None):
        """Activations of all samples, and the network's outputs if wanted, each computed once.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
            Samples.
        batch_size : int
            Most samples in the network at once.
        output : bool, default=False
            Whether to run on to the output.
        encoder : FreshEncoder or None, default=None
            A function that computes activations instead of the network.

        Returns
        -------
        z : ndarray of shape (n, *shape)
        scores : ndarray of shape (n, N) or None

        Raises
        ------
        ValueError
            If they are not finite: the decoder would be blamed for it later.
        """
        encode = self.of if encoder is None else encoder

        def run(batch):
            x = self.tensor(batch)
            return self.with_output(x) if output else (encode(x),)

        what = self.what if encoder is None else f"{self.what} of the reference"
        finite = what, "the model's outputs"
        with self.representation.session(), torch.no_grad():
            z, *scores = activation_buffer(run, inputs, batch_size, finite=finite)
        return z, scores[0] if output else None

    # -- samples -------------------------------------------------------------------------------

    def in_network_units(self, inputs):
        """Convert samples to what reconstructions are compared with: float64, on the CPU."""
        return self.units.to_network(self.tensor(inputs)).cpu().double()

    def in_raw_units(self, reconstructions):
        """Reconstructions as they are returned: of the network's dtype."""
        representation = self.representation
        raw = self.units.to_raw(reconstructions.to(representation.device))
        return raw.to(representation.input_dtype).cpu().numpy()

    def shown(self, inputs):
        """Return samples in the columns of reconstructions, which may be others."""
        if isinstance(self.units, TableUnits):
            return self.units.expansion(inputs)
        return inputs

    def moments(self, inputs, batch_size):
        """Mean and standard deviation of every entry, and the range, in the network's units.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
            Samples.
        batch_size : int
            Most samples at once.

        Returns
        -------
        mean, deviation : ndarray of shape (...), float64
        low, high : float
        """

        def batches():
            for start in range(0, len(inputs), batch_size):
                yield self.units.to_network(self.tensor(inputs[start : start + batch_size]))

        total, low, high = 0.0, np.inf, -np.inf
        for x in batches():
            total = total + x.sum(dim=0, dtype=torch.float64)
            low, high = min(low, float(x.min())), max(high, float(x.max()))
        mean = total / len(inputs)
        squares = sum((x - mean).square().sum(dim=0) for x in batches())  # float64, as mean is
        deviation = (squares / len(inputs)).sqrt()
        return mean.cpu().numpy(), deviation.cpu().numpy(), low, high

    # -- encoders of references ----------------------------------------------------------------

    def fresh_encoder(self, seed, inputs, batch_size=_BATCH):
        """Copy the network up to the layer, with newly drawn weights.

        Parameters
        ----------
        seed : int
            Determines the weights.
        inputs : ndarray of shape (n, ...)
            The samples that it is trained on: weights that none of them reaches do not matter.
        batch_size : int
            Most samples at once.

        Returns
        -------
        encoder : FreshEncoder
            Its weights require a gradient; the network is as it was.

        Raises
        ------
        ValueError
            If the network cannot be copied, or a weight cannot be drawn.
        """
        device = self.representation.device
        with torch.inference_mode(False), seeded(seed, device):
            encoder = copied_encoder(self.representation.chain, self.record)
            draw_encoder(encoder, lambda: self._trained_batches(inputs, min(batch_size, _BATCH)))
        return encoder

    def _trained_batches(self, inputs, size):
        """Yield tensors of all samples, in batches of rows from all over, two at least."""
        n_batches = max(1, len(inputs) // max(2, size))
        for first in range(n_batches):
            # Neighbours may be alike, as in a sorted table; training shuffles them.
            rows = np.arange(first, len(inputs), n_batches)
            yield self.tensor(inputs[rows if len(rows) > 1 else np.repeat(rows, 2)])

    def saved_encoder(self, arrays):
        """Build a trained encoder again.

        Parameters
        ----------
        arrays : dict of str to ndarray
            Its weights.

        Returns
        -------
        encoder : FreshEncoder
            In eval mode.
        """
        with torch.inference_mode(False), seeded(0, self.representation.device):
            encoder = copied_encoder(self.representation.chain, self.record)
            return load_arrays(encoder, arrays).eval().requires_grad_(False)

    def first_activations(self, encoder, rows, seed):
        """Activations of a few samples by an encoder as its training begins: by batch statistics.

        Parameters
        ----------
        encoder : FreshEncoder
            Stays as it is.
        rows : ndarray of shape (n, ...)
            Samples.
        seed : int
            Of what is drawn in training.

        Returns
        -------
        z : ndarray of shape (m, *shape)
        """
        # Twice: the statistics are the same, and no part sees a single sample, which has none.
        x = self.tensor(np.concatenate([rows, rows]))
        with torch.no_grad(), seeded(seed, self.representation.device):
            return copied(encoder).train()(x)[: max(2, len(rows))].cpu().double().numpy()

    def nothing_to_train(self, seed, rows):
        """Say why there is no reference: what makes the activations cannot learn anew.

        Parameters
        ----------
        seed : int
            Of the weights of a trial.
        rows : ndarray of shape (n, ...)
            A few samples.

        Returns
        -------
        reason : str or None
            What has no torch form or weights, if activations depend on it and on no weight.
        """
        if self.representation.probe.quantised:
            return self.representation.no_torch_form
        with self.representation.session(), torch.no_grad():
            modules = self.representation.chain.modules()
            boxes = [module for module in modules if isinstance(module, BlackBox)]
            for box in boxes:
                box.reached = False
            self.of(self.tensor(rows))
            reasons = [f"{box.reason} has no torch form" for box in boxes if box.reached]
        if self.record is None:  # scalers and selectors, maybe
            reasons.append(f"{type(self.representation.estimator).__name__} has no weights to draw")
        if reasons and self.record is not None:
            encoder = self.fresh_encoder(seed, rows)
            if any(parameter.requires_grad for parameter in encoder.parameters()):
                return None
        return reasons[0] if reasons else None


def _has_layers(chain):
    """Tell whether there is a network, or what stands for a layer, in front of the output."""
    last = chain
    while isinstance(last, Chain):
        last = last.steps[-1]
    layers = [m for m in chain.modules() if isinstance(m, (Stage, LinearMap))]
    return bool(layers) and not isinstance(last, BlackBox)
