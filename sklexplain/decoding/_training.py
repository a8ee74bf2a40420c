"""How decoders are trained: their loss, and a skorch net on arrays."""

from contextlib import nullcontext

import numpy as np
import torch
from sklearn.utils import Bunch

from ..training import (
    check_finite_weights,
    loss_curves,
    make_array_net,
    split_validation,
    still_improves,
)
from ..utils import seeded
from ._losses import reconstruction_loss, squared_error

# What net_params may not have beside what no array net's may, and where it is set instead.
_RESERVED = {"module": "decoder", "criterion": "loss"}


class Objective:
    """The loss of a batch (equation 1 of the paper), and the arrays that it needs.

    Parameters
    ----------
    representation : Representation
        Of the explained network.
    tap : LayerTap or OutputTap
        The layer.
    units : InputUnits
        Units of the reconstruction.
    alpha : float, default=1.0
        Weight of the reconstruction loss.
    target : Target or None, default=None
        How the network's outputs are compared. None: activations are.
    loss : {"squared_error", "cross_entropy"}, default="squared_error"
        Reconstruction loss.
    kl_weight : float, default=0.0
        Weight of the latent code's divergence.
    """

    def __init__(
        self,
        representation,
        tap,
        units,
        *,
        alpha=1.0,
        target=None,
        loss="squared_error",
        kl_weight=0.0,
    ):
        self.representation = representation
        self.tap = tap
        self.units = units
        self.alpha = alpha
        self.target = target
        self.loss = loss
        self.kl_weight = kl_weight

    def needs(self, name, module):
        """Tell whether an array ("x", "z" or "target") takes part in a module's loss."""
        if name == "x":
            return self.alpha > 0 or module.encoder is not None
        if name == "z":
            return module.encoder is None
        return self.alpha < 1 and self.target is not None

    def __call__(self, module, batch, epoch):
        """Return a module's outputs for a batch, and twice the loss, averaged over samples."""
        device = self.representation.device
        x = self.representation.tensor(batch["x"]) if "x" in batch else None
        z = batch["z"].to(device) if module.encoder is None else None
        output, divergence = module(x if z is None else z)
        total = self.kl_weight * divergence
        if self.alpha > 0:
            sample = self.units.to_network(x).to(output)
            total = total + self.alpha * reconstruction_loss(output, sample, self.loss)
        if self.alpha < 1:
            raw = self.units.to_raw(module.samples(output)).to(self.representation.input_dtype)
            if self.target is None:
                other = squared_error(self.tap(raw), z)
            else:
                other = self.target.loss(self.representation(raw), batch["target"].to(device))
            total = total + (1 - self.alpha) * other
        total = total.mean()
        return output, total, total


def train(estimator, module, objective, arrays, seed, y=None):
    """Train a module, and see whether that went well.

    Parameters
    ----------
    estimator : ClaDecExplainer
        Its parameters are used.
    module : Decoding
        What is trained; in eval mode afterwards.
    objective : Objective
        The loss.
    arrays : dict of str to ndarray
        "x", "z" and "target", as far as they are there; those not needed are never read.
    seed : int
        Of the validation split, the order of samples, and whatever is drawn in training.
    y : array-like or None, default=None
        Labels, for splitters that look at them.

    Returns
    -------
    fitted : Bunch
        ``module``, ``n_epochs``, ``loss_curve``, ``validation_loss_curve`` and ``converged``.

    Raises
    ------
    ValueError
        If training diverges.
    """
    used = {name: array for name, array in arrays.items() if objective.needs(name, module)}
    rows = np.empty((len(next(iter(used.values()))), 0))
    labels = None if y is None else np.asarray(y)
    split = split_validation(estimator.validation_split, rows, labels, None, seed)
    representation = objective.representation
    device = representation.device
    net = make_array_net(estimator, module, device, _RESERVED, batch_size=64)
    # The explained model takes part where alpha < 1 only.
    session = representation.session() if objective.alpha < 1 else nullcontext()
    autocast = torch.autocast(representation.device.type, enabled=False)
    # Of its own, so that the order does not depend on what else is drawn.
    order = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False), autocast, session, torch.enable_grad():
        with seeded(seed, device):
            net.fit_arrays(used, objective, *split, order)
    check_finite_weights(net, f"Scale X (StandardScaler), or lower lr={estimator.lr}.")
    loss_curve, validation_loss_curve = loss_curves(net)
    return Bunch(
        module=net.module_,
        n_epochs=len(net.history),
        loss_curve=loss_curve,
        validation_loss_curve=validation_loss_curve,
        converged=not still_improves(net),
    )
