"""How decoders are trained: a skorch net on arrays that are cut into batches as a whole."""

from contextlib import nullcontext

import numpy as np
import torch
from sklearn.utils import Bunch
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping
from torch import nn

from ..nets._net import check_net_params
from ..nets._training import seeded, split_validation
from ..utils._trained import check_finite_weights, still_improves
from ._losses import reconstruction_loss, squared_error

_VALID_ROWS = 1024

# What net_params may not have, because something here depends on it, and where it is set instead.
_RESERVED = {
    "module": "decoder",
    "criterion": "loss",
    "train_split": "validation_split",
    "device": "device",
    "max_epochs": "max_epochs",
    "warm_start": None,
}


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

    def __call__(self, module, batch):
        """Return a module's outputs for a batch, and the loss, averaged over samples."""
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
        return output, total.mean()


class Batches:
    """Mini-batches of several arrays; the order depends on the seed alone.

    Parameters
    ----------
    arrays : dict of str to ndarray
        All with the same number of rows.
    rows : ndarray of int
        Which rows.
    batch_size : int
        Samples in a batch; -1 for all. A last batch of a single sample joins the one before it:
        BatchNorm cannot train on one.
    seed : int or None, default=None
        Seed of the order, another in every pass; None for the order of the rows.
    """

    def __init__(self, arrays, rows, batch_size, seed=None):
        self.arrays = arrays
        self.rows = rows
        self.batch_size = len(rows) if batch_size == -1 else batch_size
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self):
        return len(self._starts()) - 1

    def __iter__(self):
        rows = self.rows
        if self.generator is not None:
            rows = rows[torch.randperm(len(rows), generator=self.generator).numpy()]
        starts = self._starts()
        for start, stop in zip(starts[:-1], starts[1:], strict=True):
            chosen = rows[start:stop]
            yield {name: torch.from_numpy(array[chosen]) for name, array in self.arrays.items()}

    def _starts(self):
        """Where batches start, and where the last one ends."""
        n = len(self.rows)
        starts = list(range(0, n, self.batch_size))
        if len(starts) > 1 and n - starts[-1] == 1:
            starts.pop()
        return [*starts, n]


class DecodingNet(NeuralNet):
    """A skorch net whose loss is a function of the module and a batch."""

    def fit_arrays(self, arrays, objective, train, valid, seed):
        """Train on some rows of the arrays, watch the loss on others.

        Parameters
        ----------
        arrays : dict of str to ndarray
            What `objective` needs.
        objective : callable
            From the module and a batch, a dict of tensors, to the outputs and the loss.
        train, valid : ndarray of int, ndarray of int or None
            The rows; None for no validation.
        seed : int
            Of the order of the samples, and of whatever else is drawn.

        Returns
        -------
        self : DecodingNet
        """
        self._run = {"arrays": arrays, "objective": objective, "seed": seed}
        self._run["split"] = train, valid
        try:
            with seeded(seed, self.device):
                self.initialize().partial_fit(None, None)
        finally:
            del self._run
        self.module_.eval().requires_grad_(False)
        return self

    def get_split_datasets(self, X, y=None, **fit_params):
        """Return the rows of the two parts of the split."""
        return self._run["split"]

    def get_iterator(self, dataset, training=False):
        """Return the batches of one pass."""
        seed = self._run["seed"] if training else None
        batch_size = self.batch_size if training else _VALID_ROWS
        return Batches(self._run["arrays"], dataset, batch_size, seed)

    def train_step_single(self, batch, **fit_params):
        """Compute the loss of a batch and its gradients."""
        self._set_training(True)
        outputs, loss = self._run["objective"](self.module_, batch)
        loss.backward()
        return {"loss": loss, "y_pred": outputs}

    def validation_step(self, batch, **fit_params):
        """Compute the loss of a batch, in eval mode."""
        self._set_training(False)
        with torch.no_grad():
            outputs, loss = self._run["objective"](self.module_, batch)
        return {"loss": loss, "y_pred": outputs}


def make_decoding_net(estimator, module, device):
    """Make the skorch net that trains a module, not initialised.

    Parameters
    ----------
    estimator : ClaDecExplainer
        Its parameters are used.
    module : Decoding
        What is trained.
    device : torch.device
        Where.

    Returns
    -------
    net : DecodingNet

    Raises
    ------
    ValueError
        If ``net_params`` has a name that is unknown, or that is set elsewhere.
    """
    extra = dict(estimator.net_params or {})
    check_net_params(extra, type(estimator).__name__, _RESERVED)
    for name in extra:
        if name.startswith(("iterator_", "dataset")):
            raise ValueError(
                f"net_params may not have {name!r}: batches are cut from arrays, in an order that "
                "the reference shares; set net_params={'batch_size': ...}."
            )
    callbacks = list(extra.pop("callbacks", None) or [])
    if estimator.validation_split is not None:
        stopping = EarlyStopping(patience=estimator.patience, load_best=True)
        # Last, because those after it would not be told of the epoch that it stops at.
        callbacks = [*callbacks, ("early_stopping", stopping)]
    params = {
        "optimizer": torch.optim.Adam,
        "lr": estimator.lr,
        "batch_size": 64,
        "verbose": estimator.verbose,
    }
    return DecodingNet(
        module,
        criterion=nn.MSELoss,  # skorch wants one
        callbacks=callbacks,
        train_split=None,
        max_epochs=estimator.max_epochs,
        device=device,
        **(params | extra),
    )


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
    net = make_decoding_net(estimator, module, representation.device)
    # The explained model takes part where alpha < 1 only.
    session = representation.session() if objective.alpha < 1 else nullcontext()
    autocast = torch.autocast(representation.device.type, enabled=False)
    with torch.inference_mode(False), autocast, session, torch.enable_grad():
        net.fit_arrays(used, objective, *split, seed)
    check_finite_weights(net, f"Scale X (StandardScaler), or lower lr={estimator.lr}.")
    return Bunch(
        module=net.module_,
        n_epochs=len(net.history),
        loss_curve=_curve(net, "train_loss"),
        validation_loss_curve=None if split[1] is None else _curve(net, "valid_loss"),
        converged=not still_improves(net),
    )


def _curve(net, name):
    return [float(loss) for loss in net.history[:, name]]
