"""How a decoder and its reference are fitted, and run."""

from numbers import Real

import numpy as np
import torch
from sklearn.utils import check_consistent_length

from ..base import BaseExplainer
from ..exceptions import ConvergenceWarning
from ..layers import root_mean_square
from ..training import check_validation_split
from ..utils import check_choice, check_positive_int, seeded, warn
from ._decoders import DataUnits, Decoding, Latent, UnitActivations, check_decoder, make_decoder
from ._encoders import (
    all_activations,
    first_activations,
    fresh_encoder,
    layer_tap,
    nothing_to_train,
)
from ._losses import RECONSTRUCTION, squared_error
from ._targets import TASKS, check_gradients, resolve_target
from ._training import Objective, train
from ._units import InputUnits, moments

_N_ROWS = 16


class BaseDecoding(BaseExplainer):
    """The part of `ClaDecExplainer` that validates parameters, trains and runs decoders."""

    def _explained(self):
        return {"link": False}  # logarithms of probabilities are more exact made of scores

    def _check_params(self):
        super()._check_params()
        if not isinstance(self.alpha, Real) or not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha={self.alpha!r} must be a number between 0 and 1.")
        check_choice("class_target", self.class_target, ("model", "y"))
        check_choice("fidelity", self.fidelity, ("output", "activation"))
        check_choice("loss", self.loss, RECONSTRUCTION)
        if self.reference is not None:
            check_choice("reference", self.reference, ("autoencoder", "random"))
        if self.task is not None:
            check_choice("task", self.task, TASKS)
        if isinstance(self.decoder, str):
            check_choice("decoder", self.decoder, ("linear",))
        elif self.decoder is not None and not callable(self.decoder):
            raise TypeError(
                f"decoder={self.decoder!r} must be None, 'linear', a torch module or a callable "
                "that makes one."
            )
        for name in ("patience", "max_epochs"):
            check_positive_int(name, getattr(self, name))
        if self.n_latent is not None:
            check_positive_int("n_latent", self.n_latent)
        for name, zero in (("lr", False), ("kl_weight", True)):
            value = getattr(self, name)
            if not isinstance(value, Real) or not (value >= 0 if zero else value > 0):
                raise ValueError(f"{name}={value!r} must be {'at least' if zero else 'above'} 0.")
        check_validation_split(self.validation_split)

    def _fit(self, inputs, y):
        representation = self._representation
        if representation.takes_integers:
            raise TypeError(
                "the network takes integers (token numbers, for example), which a decoder cannot "
                "give; explain the part of it that takes real numbers."
            )
        if self.alpha < 1:
            check_gradients(representation, self.alpha)
        self._units = InputUnits(representation, inputs)
        self._tap = layer_tap(representation, self.layer, inputs, self._units)
        self.layer_ = self._tap.name
        self._rows = inputs[:_N_ROWS].copy()
        self._resolved = None
        # Of every entry, in raw units: what tables are drawn in.
        self._spread = inputs.mean(axis=0, dtype=np.float64), inputs.std(axis=0, dtype=np.float64)
        self._set_mean(inputs)
        z, target = self._activations_and_target(inputs, y)
        objective = self._objective(alpha=self.alpha, judged=target is not None)
        arrays = {"z": z, "x": inputs, "target": target}
        decoding = self._new_decoding(self.seed_, root_mean_square(z))
        fitted = train(self, decoding, objective, arrays, self.seed_, y)
        self._warn_unless_converged(fitted, "decoder")
        self._decoding, self.decoder_ = fitted.module, fitted.module.decoder
        self.n_epochs_, self.loss_curve_ = fitted.n_epochs, fitted.loss_curve
        self.validation_loss_curve_ = fitted.validation_loss_curve
        reason = None
        if self.reference is not None:
            reason = nothing_to_train(representation, self._tap, self.seed_, self._rows)
        if reason is not None:
            warn(
                f"there is no reference: it would have the network's architecture, but {reason} "
                "has no torch form. With reference=None this is not said."
            )
        if self.reference is None or reason is not None:
            self._reference = self.reference_decoder_ = self.reference_n_epochs_ = None
            self.reference_loss_curve_ = self.reference_validation_loss_curve_ = None
            return
        fitted = self._fitted_reference(inputs, self.seed_, y)
        self._warn_unless_converged(fitted, "reference")
        self._reference, self.reference_decoder_ = fitted.module, fitted.module.decoder
        self.reference_n_epochs_ = fitted.n_epochs
        self.reference_loss_curve_ = fitted.loss_curve
        self.reference_validation_loss_curve_ = fitted.validation_loss_curve

    def _set_mean(self, inputs):
        """Mean of the data in the network's units; check what cross-entropy needs."""
        arguments = self._representation, self._units, inputs, self.batch_size
        self.mean_, self._deviation, low, high = moments(*arguments)
        if self.loss == "cross_entropy" and (low < 0 or high > 1):
            raise ValueError(
                f"loss='cross_entropy' needs X between 0 and 1, but it enters the network between "
                f"{low:.4g} and {high:.4g}; put a MinMaxScaler in front of it, or use "
                "loss='squared_error'."
            )

    def _activations_and_target(self, inputs, y):
        """Activations, and what the model should say of reconstructions (None if no matter)."""
        judged = self.alpha < 1 and self.fidelity == "output"
        given = judged and self.class_target == "y"
        if given:
            if y is None:
                raise ValueError(
                    "class_target='y' needs y, which fit was not given; use class_target='model' "
                    "to do without."
                )
            check_consistent_length(inputs, y)
            target = self._target.of_y(y, self._representation.n_units)
        z, scores = all_activations(
            self._tap, self._representation, inputs, self.batch_size, output=judged and not given
        )
        if not judged:
            return z, None
        return z, target if given else self._target.of_model(torch.from_numpy(scores)).numpy()

    @property
    def _target(self):
        """How outputs are compared; found out when first needed."""
        if self._resolved is None:
            self._resolved = resolve_target(self._representation, self._rows, self.task)
        return self._resolved

    def _objective(self, *, alpha=1.0, judged=False):
        return Objective(
            self._representation,
            self._tap,
            self._units,
            alpha=alpha,
            target=self._target if judged else None,
            loss=self.loss,
            kl_weight=0.0 if self.n_latent is None else self.kl_weight,
        )

    def _new_decoding(self, seed, z_scale, encoder=None):
        """Return the decoder with the weights that a seed stands for, behind an encoder or not."""
        representation, tap = self._representation, self._tap
        shape = self._rows.shape[1:]
        # Of the network's dtype, but never less than float32.
        exact = representation.output_dtype == torch.float64
        dtype = torch.float64 if exact else torch.float32
        with torch.inference_mode(False), seeded(seed, representation.device):
            kind, channel_axis = sample_kind(representation, shape)
            decoder = make_decoder(self.decoder, tap.shape, shape, kind, channel_axis)
            if self.decoder is None:
                decoder.insert(0, UnitActivations(z_scale))
            if self.decoder is None and self.loss == "squared_error":
                moments = self.mean_, self._deviation
                decoder.append(DataUnits(*moments, per_entry=kind == "table", axis=channel_axis))
            latent = None if self.n_latent is None else Latent(tap.shape, self.n_latent)
            decoding = Decoding(decoder, latent=latent, loss=self.loss)
            decoding.requires_grad_(True).to(representation.device, dtype)
        with representation.session(), torch.no_grad():
            z = tap(representation.tensor(self._rows[np.arange(2) % len(self._rows)]))
        check_decoder(decoding, z, shape)
        decoding.encoder = encoder
        return decoding

    def _fitted_reference(self, inputs, seed, y=None):
        """Train the reference on reconstruction alone, from the weights a seed stands for."""
        representation = self._representation
        with torch.inference_mode(False):
            encoder = fresh_encoder(representation, self._tap, seed, self._rows)
        objective, arrays = self._objective(), {"x": inputs}
        joint = self.reference == "autoencoder"
        if not joint:
            encoder.eval().requires_grad_(False)
            arrays["z"] = all_activations(encoder, representation, inputs, self.batch_size)[0]
        # Of the encoder as it is drawn: both decoders begin with activations of order 1.
        z = first_activations(encoder, representation, self._rows, seed) if joint else arrays["z"]
        decoding = self._new_decoding(seed, root_mean_square(z), encoder if joint else None)
        fitted = train(self, decoding, objective, arrays, seed, y)
        fitted.module.encoder = encoder
        return fitted

    def _warn_unless_converged(self, fitted, name):
        if not fitted.converged:
            warn(
                f"The validation loss of the {name} still improved when "
                f"max_epochs={self.max_epochs} was reached: raise max_epochs or lr.",
                ConvergenceWarning,
            )

    # -- running -------------------------------------------------------------------------------

    def _checked_reference(self):
        if self._reference is None:
            raise ValueError("there is no reference: fit with reference='autoencoder'.")
        return self._reference

    def _reconstructions(self, inputs, decoding=None, noise=None):
        """Reconstruct samples in the network's units: a tensor on the CPU."""
        representation = self._representation
        decoding = self._decoding if decoding is None else decoding
        parts = []
        with representation.session(), torch.no_grad():
            for start in range(0, len(inputs), self.batch_size):
                x = representation.tensor(inputs[start : start + self.batch_size])
                code = self._tap(x) if decoding.encoder is None else x
                draws = None
                if noise is not None:
                    draws = noise.to(decoding.latent.back.weight).expand(len(x), -1)
                parts.append(decoding.samples(decoding(code, draws)[0]).cpu())
        return torch.cat(parts)

    def _in_raw_units(self, reconstructions):
        raw = self._units.to_raw(reconstructions.to(self._representation.device))
        return raw.to(self._representation.input_dtype).cpu().numpy()

    def _errors(self, inputs, decoding):
        errors = [
            squared_error(
                self._reconstructions(rows, decoding).double(), self._in_network_units(rows)
            )
            for rows in self._blocks(inputs)
        ]
        return torch.cat(errors).numpy()

    def _blocks(self, inputs):
        """Cut inputs into parts that are judged at once: memory does not grow with them."""
        for start in range(0, len(inputs), self.batch_size):
            yield inputs[start : start + self.batch_size]

    def _in_network_units(self, inputs):
        return self._units.to_network(self._representation.tensor(inputs)).cpu().double()
