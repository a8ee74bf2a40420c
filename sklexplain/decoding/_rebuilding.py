"""Samples rebuilt by a trained decoder, and what differs between the two."""

import numpy as np
import torch
from sklearn.utils import Bunch

from ..exceptions import UndefinedMetricWarning
from ..utils import in_blocks, warn
from ._losses import explained_share, squared_deviation, squared_error


class Rebuilder:
    """Rebuilds samples from a layer's activations, a block at a time.

    Parameters
    ----------
    layer : Layer
        Of the network that runs.
    module : Decoding
        Trained on the layer's activations, or a reference.
    batch_size : int
        Most samples in the network at once.
    """

    def __init__(self, layer, module, batch_size):
        self._layer = layer
        self._module = module
        self._batch_size = batch_size

    def blocks(self, inputs):
        """Cut inputs into parts that are run at once."""
        for start in range(0, len(inputs), self._batch_size):
            yield inputs[start : start + self._batch_size]

    def __call__(self, inputs, noise=None):
        """Reconstruct samples in the network's units.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
            Samples.
        noise : torch.Tensor of shape (n_latent,) or None, default=None
            What is drawn for the latent code of every sample; None: its mean is decoded.

        Returns
        -------
        reconstructions : torch.Tensor
            On the CPU.
        """
        layer, module = self._layer, self._module

        def run(rows):
            x = layer.tensor(inputs[rows])
            code = layer.of(x) if module.encoder is None else x
            draws = None
            if noise is not None:
                draws = noise.to(module.latent.back.weight).expand(len(x), -1)
            return module.samples(module(code, draws)[0]).cpu()

        return torch.cat([part for _, part in in_blocks(run, len(inputs), self._batch_size)])

    def in_raw_units(self, inputs, noise=None):
        """Reconstruct samples in raw units: an ndarray."""
        return self._layer.in_raw_units(self(inputs, noise))

    def draws(self, inputs, n_draws, seed):
        """Draw several reconstructions of each sample.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
            Samples.
        n_draws : int
            How many.
        seed : int
            Of the draws.

        Returns
        -------
        reconstructions : ndarray of shape (n, n_draws, ...)
            In raw units.
        """
        generator = torch.Generator().manual_seed(seed)
        length = self._module.latent.back.in_features
        # In float64: the same draws for every dtype. One at a time: more begin with the same.
        noise = (
            torch.randn(length, generator=generator, dtype=torch.float64) for _ in range(n_draws)
        )
        return np.stack([self.in_raw_units(inputs, draw) for draw in noise], axis=1)

    def errors(self, inputs):
        """Squared error of every sample, in the network's units: an ndarray of shape (n,)."""
        errors = [
            squared_error(self(rows).double(), self._layer.in_network_units(rows))
            for rows in self.blocks(inputs)
        ]
        return torch.cat(errors).numpy()

    def predicted(self, inputs, comparison, mean):
        """Compare samples and reconstructions, and what the model makes of them.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
            Samples.
        comparison : Comparison
            How outputs are compared.
        mean : ndarray of shape (...)
            Of the fitted data, in the network's units.

        Returns
        -------
        found : Bunch
            ``rebuilt`` and ``given``, the predictions for reconstructions and for samples; and
            ``error`` and ``deviation``, the squared differences of all samples from their
            reconstructions and from the mean.
        """
        layer = self._layer

        def predictions(rows):
            scores = layer.representation.activations(rows, self._batch_size)
            return comparison.predictions(torch.from_numpy(scores)).numpy()

        rebuilt, given, error, deviation = [], [], 0.0, 0.0
        for rows in self.blocks(inputs):
            reconstructions = self(rows)
            given.append(predictions(rows))
            rebuilt.append(predictions(layer.units.to_inputs(layer.in_raw_units(reconstructions))))
            samples = layer.in_network_units(rows)
            error += float(squared_error(reconstructions.double(), samples).sum())
            deviation += float(squared_error(torch.from_numpy(mean), samples).sum())
        return Bunch(
            rebuilt=np.concatenate(rebuilt),
            given=np.concatenate(given),
            error=error,
            deviation=deviation,
        )


def agreement_of(rebuilt, given, *, classes):
    """How far predictions for reconstructions are those for the samples.

    Parameters
    ----------
    rebuilt, given : ndarray of shape (n, ...)
        Both predictions.
    classes : bool
        Whether they are classes or labels, and not values.

    Returns
    -------
    agreement : float
        Share of the samples whose classes or labels are all the same; of values R².

    Warns
    -----
    UndefinedMetricWarning
        If values are those of fewer than two samples: R² is NaN.
    """
    if classes:
        same = rebuilt == given
        return float(np.mean(same.reshape(len(same), -1).all(axis=1)))
    if len(given) < 2:
        warn(
            "R² of predictions is not defined for fewer than two samples: agreement is NaN.",
            UndefinedMetricWarning,
        )
        return float("nan")
    return explained_share(
        squared_deviation(given, rebuilt),
        squared_deviation(given, given.mean(axis=0, dtype=np.float64)),
    )
