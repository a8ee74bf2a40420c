"""How decoders are trained: parameters, loss, and a skorch net on arrays."""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from ..exceptions import ConvergenceWarning
from ..representation import BlackBox
from ..training import (
    arrays_of,
    diverging,
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
    scale : float or ndarray of shape (n_outputs,), default=1.0
        What differences of activations, or of a regressor's predictions, are divided by, so that
        their units do not decide how much they weigh; infinite for what does not count.
    """

    def __init__(
        self,
        layer,
        *,
        alpha=1.0,
        comparison=None,
        loss="squared_error",
        kl_weight=0.0,
        scale=1.0,
    ):
        self.layer = layer
        self.alpha = alpha
        self.comparison = comparison
        self.loss = RECONSTRUCTION_LOSSES[loss]
        self.kl_weight = kl_weight
        self.scale = torch.as_tensor(scale, dtype=torch.float64, device=layer.representation.device)

    def needs(self, name, module):
        """Tell whether an array ("x", "z", "noise" or "target") takes part in a module's loss."""
        if name == "x":
            return self.alpha > 0 or module.encoder is not None
        if name == "z":
            return module.encoder is None
        if name == "noise":
            return module.latent is not None
        return self.alpha < 1 and self.comparison is not None

    def __call__(self, module, batch, epoch):
        """Return a module's outputs for a batch, and twice the loss, averaged over samples."""
        layer = self.layer
        representation = layer.representation
        x = layer.tensor(batch["x"]) if "x" in batch else None
        z = batch["z"].to(representation.device) if module.encoder is None else None
        # Other draws in every epoch of training; to compare epochs, always the same.
        fixed = module.latent is not None and not module.training
        noise = batch["noise"].to(representation.device) if fixed else None
        output, divergence = module(x if z is None else z, noise)
        total = self.kl_weight * divergence
        if self.alpha > 0:
            sample = layer.units.to_network(x).to(output)
            total = total + self.alpha * self.loss(output, sample)
        if self.alpha < 1:
            raw = layer.units.to_raw(module.samples(output)).to(representation.input_dtype)
            if self.comparison is None:
                scale = self.scale.to(z)
                other = squared_error(layer.of(raw) / scale, z / scale)
            else:
                target, scores = batch["target"].to(representation.device), representation(raw)
                if self.comparison.link is None:
                    scale = self.scale.to(scores)
                    target, scores = target.to(scores) / scale, scores / scale
                other = self.comparison.loss(scores, target)
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
    unfinished : bool
        Whether the validation loss still improved when the last epoch was reached.
    """

    plan: DecoderPlan
    weights: dict
    encoder_weights: dict | None
    n_epochs: int
    loss_curve: list
    validation_loss_curve: list | None
    unfinished: bool = False

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


def split_rows(params, n_samples, y, seed):
    """Split rows into those to train on and those held out.

    Parameters
    ----------
    params : object
        The explainer's parameters.
    n_samples : int
        Number of rows.
    y : array-like or None
        Labels, for splitters that look at them.
    seed : int
        Determines the draw.

    Returns
    -------
    train, valid : ndarray of int, ndarray of int or None
    """
    labels = None if y is None else np.asarray(y)
    return split_validation(params.validation_split, np.empty((n_samples, 0)), labels, None, seed)


def train(module, plan, objective, arrays, params, *, split, seed, owner):
    """Train a module.

    Parameters
    ----------
    module : Decoding
        The module to train; in eval mode afterwards.
    plan : DecoderPlan
        How it was built.
    objective : Objective
        The loss.
    arrays : dict of str to ndarray
        "x", "z" and "target", if they exist; those not needed are never read. Draws of a latent
        code for the validation loss are added.
    params : object
        The explainer's parameters.
    split : tuple of (ndarray of int, ndarray of int or None)
        Rows to train on, and rows held out.
    seed : int
        Seed of the order of samples, and of all draws in training.
    owner : str
        The explainer's name, for messages.

    Returns
    -------
    trained : TrainedDecoding

    Raises
    ------
    ValueError
        If training diverges.
    """
    used = {key: array for key, array in arrays.items() if objective.needs(key, module)}
    if objective.needs("noise", module):
        draws = np.random.RandomState(seed)
        size = len(next(iter(used.values()))), module.latent.back.in_features
        dtype = module.latent.back.weight.detach().cpu().numpy().dtype
        used["noise"] = draws.normal(size=size).astype(dtype)
    representation = objective.layer.representation
    device = representation.device
    net = make_array_net(params, module, device, _RESERVED, owner, batch_size=64)
    # The explained model takes part where alpha < 1 only.
    session = representation.session() if objective.alpha < 1 else nullcontext()
    autocast = torch.autocast(device.type, enabled=False)
    # Of its own, so that the order does not depend on what else is drawn.
    order = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False), autocast, session, torch.enable_grad():
        with diverging(net, params, "kl_weight"), seeded(seed, device):
            net.fit_arrays(used, objective, *split, order)
    module = net.module_
    encoder, module.encoder = module.encoder, None
    weights, module.encoder = arrays_of(module), encoder
    encoder_weights = None if encoder is None else arrays_of(encoder)
    curves = loss_curves(net)
    unfinished = still_improves(net)
    return TrainedDecoding(plan, weights, encoder_weights, len(net.history), *curves, unfinished)


def warn_unless_converged(trained, max_epochs, name, found=None):
    """Warn if the validation loss still improved in the last epoch, or a linear decoder does more.

    Parameters
    ----------
    trained : TrainedDecoding
        What was trained.
    max_epochs : int
        Most epochs.
    name : str
        What was trained, in words.
    found : str or None, default=None
        How much less than a linear decoder it rebuilds.

    Warns
    -----
    ConvergenceWarning
        Saying both.
    """
    if trained.unfinished:
        text = (
            f"The validation loss of the {name} still improved when max_epochs={max_epochs} was "
            "reached: raise max_epochs or lr."
        )
        warn(text if found is None else f"{text} {found}", ConvergenceWarning)
    elif found is not None:
        warn(
            f"The {name} has not been trained far enough, or is too small. {found} Raise lr, "
            "patience or max_epochs, or give another decoder.",
            ConvergenceWarning,
        )
