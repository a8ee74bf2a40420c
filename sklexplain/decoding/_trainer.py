"""Training of the decoders of one fit."""

import numpy as np
import torch
from sklearn.utils import check_consistent_length

from ..layers import activation_moments
from ..training import arrays_of
from ..utils import seeded, warn
from ._decoders import DecoderPlan, check_decoder
from ._fitting import Objective, split_rows, train, warn_unless_converged
from ._ridge import bound_of


class Trainer:
    """Trains the decoder of a layer, and references beside it.

    Parameters
    ----------
    layer : Layer
        The layer that is decoded.
    params : object
        The explainer's parameters.
    rows : ndarray of shape (n, ...)
        A few samples.
    moments : tuple of (ndarray, ndarray)
        Mean and standard deviation of every entry of a sample, in the network's units.
    sample : Sample
        What one sample is.
    comparison : callable
        Finds out how outputs are compared, where that is needed.
    owner : str
        The explainer's name, for messages.
    quiet : bool, default=False
        Whether not to warn of training that was too short: where it is said already.
    """

    def __init__(self, layer, params, *, rows, moments, sample, comparison, owner, quiet=False):
        self._quiet = quiet
        self._layer = layer
        self._params = params
        self._rows = rows
        self._moments = moments
        self._sample = sample
        self._comparison = comparison
        self._owner = owner

    def decoder(self, inputs, y, seed):
        """Train the decoder of the layer's activations.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
            Samples.
        y : array-like or None
            Labels.
        seed : int
            Of everything random.

        Returns
        -------
        module : Decoding
        trained : TrainedDecoding
        bound : Bound or None
            What a linear decoder rebuilds; None of a quiet trainer.
        """
        params = self._params
        compares_outputs = params.alpha < 1 and params.fidelity == "output"
        by_labels = compares_outputs and params.class_target == "y"
        target = self._target_of_labels(y, len(inputs)) if by_labels else None
        needs_output = compares_outputs and not by_labels
        z, scores = self._layer.activations(inputs, params.batch_size, output=needs_output)
        if needs_output:
            target = self._comparison().target_of_outputs(torch.from_numpy(scores)).numpy()
        scale = 1.0
        if params.alpha < 1 and params.fidelity == "activation":
            scale = activation_moments(z)[1]
        elif compares_outputs and self._comparison().link is None:
            scale = self._prediction_scale(target)
        objective = self._objective(params.alpha, compares_outputs, scale)
        arrays = {"z": z, "x": inputs, "target": target}
        module, plan = self._untrained(z, seed)
        split = split_rows(params, len(inputs), y, seed)
        trained = self._train(module, plan, objective, arrays, split, seed)
        if self._quiet:
            return module, trained, None
        bound = bound_of(module, self._layer, z, inputs, self._moments[0], *split, seed)
        # Whatever else a decoder is trained for costs it some of the reconstruction; and without
        # samples held out nothing tells how far it can be trained.
        comparable = params.alpha == 1 and params.n_latent is None and split[1] is not None
        finding = bound.finding if comparable else None
        warn_unless_converged(trained, params.max_epochs, "decoder", finding)
        return module, trained, bound

    def has_reference(self, seed):
        """Tell whether a reference is trained; warn if there can be none."""
        if self._params.reference is None:
            return False
        reason = self._layer.nothing_to_train(seed, self._rows)
        if reason is not None:
            warn(
                f"there is no reference: it would have the network's architecture, but {reason}. "
                "With reference=None this warning is not given."
            )
        return reason is None

    def reference(self, inputs, y, seed):
        """Train a reference on reconstruction alone, from the initial weights of a seed.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
            Samples.
        y : array-like or None
            Labels, for splitters that look at them.
        seed : int
            Of everything random.

        Returns
        -------
        module : Decoding
            With an encoder.
        trained : TrainedDecoding
        """
        encoder = self._layer.fresh_encoder(seed, inputs, self._params.batch_size)
        arrays, joint = {"x": inputs}, self._params.reference == "autoencoder"
        if joint:
            # As it is drawn: both decoders begin with activations of order 1.
            z = self._layer.first_activations(encoder, self._rows, seed)
        else:
            encoder.eval().requires_grad_(False)
            z, _ = self._layer.activations(inputs, self._params.batch_size, encoder=encoder)
            arrays["z"] = z
        module, plan = self._untrained(z, seed)
        module.encoder = encoder if joint else None
        split = split_rows(self._params, len(inputs), y, seed)
        trained = self._train(module, plan, self._objective(), arrays, split, seed)
        if not self._quiet:
            warn_unless_converged(trained, self._params.max_epochs, "reference")
        module.encoder, trained.encoder_weights = encoder, arrays_of(encoder)
        return module, trained

    def _target_of_labels(self, y, n_samples):
        if y is None:
            raise ValueError(
                "class_target='y' needs y, which fit was not given; use class_target='model' to "
                "do without."
            )
        check_consistent_length(range(n_samples), y)
        return self._comparison().target_of_labels(y, self._layer.representation.n_units)

    def _untrained(self, z, seed):
        """Build a decoder with the initial weights of a seed; check that it returns samples."""
        plan, device = self._plan(*activation_moments(z)), self._layer.representation.device
        with torch.inference_mode(False), seeded(seed, device):
            module = plan.build(device)
        x = self._layer.tensor(self._rows[np.arange(2) % len(self._rows)])
        check_decoder(module, self._layer.of(x), plan.x_shape)
        return module, plan

    def _train(self, module, plan, objective, arrays, split, seed):
        options = {"split": split, "seed": seed, "owner": self._owner}
        return train(module, plan, objective, arrays, self._params, **options)

    def _plan(self, z_mean, z_scale):
        params, shape = self._params, self._moments[0].shape
        # Of the network's dtype, but never less than float32.
        exact = self._layer.representation.output_dtype == torch.float64
        mean, deviation = self._moments
        return DecoderPlan(
            decoder=params.decoder,
            z_shape=tuple(self._layer.shape),
            x_shape=tuple(shape),
            kind=self._sample.kind,
            channel_axis=self._sample.channel_axis,
            loss=params.loss,
            n_latent=None if params.n_latent is None else int(params.n_latent),
            dtype="float64" if exact else "float32",
            z_mean=z_mean,
            z_scale=z_scale,
            mean=mean,
            deviation=deviation,
        )

    @staticmethod
    def _prediction_scale(target):
        """Return the standard deviation of every output, infinite where it does not vary."""
        target = np.asarray(target, dtype=np.float64)
        scale = target.std(axis=0)
        # What rounding alone makes vary does not.
        varies = scale > 1e-6 * np.abs(target).max(axis=0)
        if not varies.any():
            warn(
                "the model's predictions do not vary over X, so reconstructions cannot be judged "
                "by them: only the reconstruction loss is left (use alpha=1)."
            )
        return np.where(varies, scale, np.inf)

    def _objective(self, alpha=1.0, compares_outputs=False, scale=1.0):
        params = self._params
        return Objective(
            self._layer,
            alpha=alpha,
            comparison=self._comparison() if compares_outputs else None,
            loss=params.loss,
            kl_weight=0.0 if params.n_latent is None else params.kl_weight,
            scale=scale,
        )
