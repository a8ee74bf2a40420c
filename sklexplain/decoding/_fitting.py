"""How decoders are trained: parameters, loss, and a skorch net on arrays."""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from ..exceptions import ConvergenceWarning
from ..representation import BlackBox
from ..training import (
    arrays_of,
    check_finite_weights,
    load_arrays,
    loss_curves,
    make_array_net,
    split_validation,
    still_improves,
)
from ..utils import seeded, warn
from ._decoders import DecoderPlan
from ._losses import RECONSTRUCTION_LOSSES, squared_error

# More names that net_params may not have here, and what to set instead.
_RESERVED = {"module": "decoder", "criterion": "loss"}


def check_network(representation, alpha):
    """Raise a TypeError if a network takes integers, or has no gradients where they are needed.

    Parameters
    ----------
    representation : Representation
        Of the network.
    alpha : float
        Below 1 the loss needs gradients through the network.

    Raises
    ------
    TypeError
        Saying which of the two.
    """
    if representation.takes_integers:
        raise TypeError(
            "the network takes integers (token numbers, for example), which a decoder cannot "
            "give; explain the part of it that takes real numbers."
        )
    if alpha < 1 and not representation.differentiable:
        what = representation.no_torch_form
        if isinstance(representation.chain, BlackBox):
            what = representation.chain.reason
        raise TypeError(
            f"alpha={alpha} needs the gradient of the model, but {what} has no torch form; use "
            "alpha=1."
        )


class Objective:
    """The loss of a batch (equation 1 of the paper), and the arrays that it needs.

    Parameters
    ----------
    layer : Layer
        The layer of the explained network, and units.
    alpha : float, default=1.0
        Weight of the reconstruction loss.
    comparison : OutputComparison or None, default=None
        How the network's outputs are compared. None: activations are.
    loss : {"squared_error", "cross_entropy"}, default="squared_error"
        Reconstruction loss.
    kl_weight : float, default=0.0
        Weight of the latent code's divergence.
    """

    def __init__(self, layer, *, alpha=1.0, comparison=None, loss="squared_error", kl_weight=0.0):
        self.layer = layer
        self.alpha = alpha
        self.comparison = comparison
        self.loss = RECONSTRUCTION_LOSSES[loss]
        self.kl_weight = kl_weight

    def needs(self, name, module):
        """Tell whether an array ("x", "z" or "target") takes part in a module's loss."""
        if name == "x":
            return self.alpha > 0 or module.encoder is not None
        if name == "z":
            return module.encoder is None
        return self.alpha < 1 and self.comparison is not None

    def __call__(self, module, batch, epoch):
        """Return a module's outputs for a batch, and twice the loss, averaged over samples."""
        layer = self.layer
        representation = layer.representation
        x = layer.tensor(batch["x"]) if "x" in batch else None
        z = batch["z"].to(representation.device) if module.encoder is None else None
        output, divergence = module(x if z is None else z)
        total = self.kl_weight * divergence
        if self.alpha > 0:
            sample = layer.units.to_network(x).to(output)
            total = total + self.alpha * self.loss(output, sample)
        if self.alpha < 1:
            raw = layer.units.to_raw(module.samples(output)).to(representation.input_dtype)
            if self.comparison is None:
                other = squared_error(layer.of(raw), z)
            else:
                target = batch["target"].to(representation.device)
                other = self.comparison.loss(representation(raw), target)
            total = total + (1 - self.alpha) * other
        total = total.mean()
        return output, total, total


@dataclass
class TrainedDecoding:
    """A trained decoder as plain data, from which it can be built again.

    Attributes
    ----------
    plan : DecoderPlan
        How it is built.
    weights : dict of str to ndarray
        Of the decoder and its latent layer.
    encoder_weights : dict of str to ndarray or None
        Of a reference's encoder.
    n_epochs : int
        Number of epochs trained.
    loss_curve, validation_loss_curve : list of float, list of float or None
        Losses of every epoch.
    """

    plan: DecoderPlan
    weights: dict
    encoder_weights: dict | None
    n_epochs: int
    loss_curve: list
    validation_loss_curve: list | None

    def build(self, layer):
        """Build the trained module.

        Parameters
        ----------
        layer : Layer
            The layer that is decoded.

        Returns
        -------
        module : Decoding
            In eval mode.
        """
        device = layer.representation.device
        with torch.inference_mode(False), seeded(0, device):
            module = load_arrays(self.plan.build(device), self.weights)
        module.eval().requires_grad_(False)
        if self.encoder_weights is not None:
            module.encoder = layer.saved_encoder(self.encoder_weights)
        return module


def train(module, plan, objective, arrays, params, *, seed, y, owner, name):
    """Train a module, and check that it converged.

    Parameters
    ----------
    module : Decoding
        The module to train; in eval mode afterwards.
    plan : DecoderPlan
        How it was built.
    objective : Objective
        The loss.
    arrays : dict of str to ndarray
        "x", "z" and "target", if they exist; those not needed are never read.
    params : object
        The explainer's parameters.
    seed : int
        Seed of the validation split, the order of samples, and all draws in training.
    y : array-like or None
        Labels, for splitters that look at them.
    owner : str
        The explainer's name, for messages.
    name : str
        The name of what is trained, for messages.

    Returns
    -------
    trained : TrainedDecoding

    Raises
    ------
    ValueError
        If training diverges.

    Warns
    -----
    ConvergenceWarning
        If the validation loss still improved in the last epoch.
    """
    used = {key: array for key, array in arrays.items() if objective.needs(key, module)}
    rows = np.empty((len(next(iter(used.values()))), 0))
    labels = None if y is None else np.asarray(y)
    split = split_validation(params.validation_split, rows, labels, None, seed)
    representation = objective.layer.representation
    device = representation.device
    net = make_array_net(params, module, device, _RESERVED, owner, batch_size=64)
    # The explained model takes part where alpha < 1 only.
    session = representation.session() if objective.alpha < 1 else nullcontext()
    autocast = torch.autocast(device.type, enabled=False)
    # Of its own, so that the order does not depend on what else is drawn.
    order = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False), autocast, session, torch.enable_grad():
        with seeded(seed, device):
            net.fit_arrays(used, objective, *split, order)
    check_finite_weights(net, f"Scale X (StandardScaler), or lower lr={params.lr}.")
    if still_improves(net):
        warn(
            f"The validation loss of the {name} still improved when "
            f"max_epochs={params.max_epochs} was reached: raise max_epochs or lr.",
            ConvergenceWarning,
        )
    module = net.module_
    encoder, module.encoder = module.encoder, None
    weights, module.encoder = arrays_of(module), encoder
    encoder_weights = None if encoder is None else arrays_of(encoder)
    return TrainedDecoding(plan, weights, encoder_weights, len(net.history), *loss_curves(net))
