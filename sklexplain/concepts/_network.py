"""The explanation module as a network, and how it is trained."""

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping
from torch import nn
from torch.utils.data import Subset

from ..nets._net import check_net_params
from ._losses import prediction_loss, pull_away_loss, reconstruction_loss

_VALID_ROWS = 1024

# What net_params may not have, because something here depends on it, and where it is set instead.
_RESERVED = {
    "module": "hidden_layer_sizes",
    "criterion": "penalty",
    "train_split": "validation_split",
    "device": "device",
    "max_epochs": "max_epochs",
    "loss_params": "beta",
    "warm_up": "warm_up",
    "warm_start": None,
}


class ConceptModule(nn.Module):
    """Activations to concepts, concepts to predictions and back to activations.

    Inside, activations are divided by one number and predictions are standardised; `encode`,
    `decode` and `predict` are in original units.

    Parameters
    ----------
    shape : tuple of int
        Of one sample's activations.
    n_concepts : int
        Number of concepts.
    hidden_layer_sizes : sequence of int
        Widths between activations and concepts; the decoder has them in reverse.
    z_scale : float
        What activations are divided by.
    y_mean, y_scale : array-like of shape (n_targets,)
        What is subtracted from predictions, and what they are divided by.
    """

    def __init__(self, shape, n_concepts, hidden_layer_sizes, z_scale, y_mean, y_scale):
        super().__init__()
        self.shape = tuple(shape)
        sizes = [int(np.prod(shape)), *hidden_layer_sizes, n_concepts]
        self.encoder = _relu_stack(sizes)
        self.head = nn.Linear(n_concepts, len(y_mean))
        self.decoder = _relu_stack(sizes[::-1])
        for name, value in (("z_scale", z_scale), ("y_mean", y_mean), ("y_scale", y_scale)):
            self.register_buffer(name, torch.as_tensor(np.asarray(value, dtype=np.float32)))
        self.float()  # whatever torch's default dtype is

    def scaled(self, z):
        """Activations (b, *shape) as they enter the encoder: (b, n_units)."""
        return z.flatten(1).to(self.z_scale) / self.z_scale

    def forward(self, z):
        """Concepts, standardised predictions and scaled reconstructions of (b, *shape)."""
        concepts = self.encoder(self.scaled(z))
        return concepts, self.head(concepts), self.decoder(concepts)

    def encode(self, z):
        """Activations (b, *shape) to concepts (b, n_concepts)."""
        return self.encoder(self.scaled(z))

    def decode(self, concepts):
        """Concepts to activations (b, *shape)."""
        return (self.decoder(concepts) * self.z_scale).unflatten(1, self.shape)

    def standardised(self, targets):
        """Targets (n, n_targets) as the head tells them: an ndarray of float32."""
        mean, scale = (b.cpu().numpy() for b in (self.y_mean, self.y_scale))
        return ((targets - mean) / scale).astype(np.float32)

    @torch.no_grad()
    def orient(self):
        """Choose the signs of concepts, which nothing else does: a larger value adds.

        Of several targets, the one that a concept moves most counts. Predictions and
        reconstructions stay what they are, bit for bit.
        """
        weight = self.head.weight  # (n_targets, n_concepts)
        most = weight.abs().argmax(dim=0, keepdim=True)
        sign = torch.where(weight.gather(0, most)[0] < 0, -1.0, 1.0)
        self.encoder[-1].weight.mul_(sign[:, None])
        self.encoder[-1].bias.mul_(sign)
        self.head.weight.mul_(sign)
        self.decoder[0].weight.mul_(sign)

    def linear_head(self):
        """Weights and intercept in units of the targets, and weights of standardised ones."""
        v, bias, mean, scale = (
            t.detach().double().cpu().numpy()
            for t in (self.head.weight, self.head.bias, self.y_mean, self.y_scale)
        )
        return v * scale[:, None], bias * scale + mean, v

    def predict(self, concepts):
        """Concepts to predictions (b, n_targets)."""
        return self.head(concepts) * self.y_scale + self.y_mean


def _relu_stack(sizes):
    """Linear layers with ReLUs between them."""
    layers = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Batches:
    """Mini-batches of arrays, cut out as a whole: samples one by one would take longer.

    Parameters
    ----------
    dataset : Subset of a skorch Dataset
        Of two arrays.
    batch_size : int
        Samples in a batch.
    shuffle : bool, default=False
        Another order in every pass, drawn from torch's global generator.
    """

    def __init__(self, dataset, batch_size, shuffle=False):
        self.arrays = dataset.dataset.X, dataset.dataset.y
        self.rows = np.asarray(dataset.indices)
        self.batch_size = len(self.rows) if batch_size == -1 else batch_size
        self.shuffle = shuffle

    def __len__(self):
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self):
        rows = self.rows[torch.randperm(len(self.rows)).numpy()] if self.shuffle else self.rows
        for start in range(0, len(rows), self.batch_size):
            batch = rows[start : start + self.batch_size]
            yield tuple(torch.from_numpy(array[batch]) for array in self.arrays)


class StopAfterWarmUp(EarlyStopping):
    """Early stopping that looks at epochs with the full loss only."""

    def on_epoch_end(self, net, **kwargs):
        """Count the epoch, if it is past the warm-up."""
        if len(net.history) > net.warm_up:
            super().on_epoch_end(net, **kwargs)


class ConceptNet(NeuralNet):
    """A skorch net with the loss of the sparse reconstruction autoencoder.

    Parameters
    ----------
    *args, **kwargs : objects
        Arguments of `skorch.NeuralNet`.
    loss_params : dict
        ``beta``, ``q``, ``penalty`` and ``pull_away``.
    warm_up : int
        Number of epochs before beta has its full value in training. Validation always has it.
    """

    def __init__(self, *args, loss_params, warm_up, **kwargs):
        super().__init__(*args, **kwargs)
        self.loss_params = loss_params
        self.warm_up = warm_up

    def fit_split(self, Z, y, train, valid):
        """Train on some rows of (Z, y), watch the loss on others (None: no validation)."""
        self._split = train, valid
        try:
            self.partial_fit(Z, y)
        finally:
            del self._split
        self.module_.eval().requires_grad_(False)
        return self

    def get_split_datasets(self, X, y=None, **fit_params):
        """Return the datasets of the two parts of the split."""
        dataset = self.get_dataset(X, y)
        train, valid = self._split
        return Subset(dataset, train), None if valid is None else Subset(dataset, valid)

    def train_step_single(self, batch, **fit_params):
        """Compute the loss of a batch and, with what beta has risen to, its gradients."""
        self._set_training(True)
        X, y = batch
        outputs = self.infer(X, **fit_params)
        first, second = self._terms(outputs, y, X)
        share = min(1.0, len(self.history) / (self.warm_up + 1))
        (first + share * second).backward()
        return {"loss": first + second, "y_pred": outputs}

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return the loss of a batch: equation 1, and the pull-away term."""
        return sum(self._terms(y_pred, y_true, X))

    def _terms(self, outputs, y, X):
        """Prediction and pull-away, and what beta weighs."""
        concepts, predicted, reconstructed = outputs
        p = self.loss_params
        loss = prediction_loss(predicted, y.to(predicted))
        if p["pull_away"] > 0:
            weights = self.module_.head.weight.norm(dim=0)  # of one target: |v|
            loss = loss + p["pull_away"] * pull_away_loss(concepts * weights)
        if p["beta"] == 0:
            return loss, torch.zeros_like(loss)
        z = self.module_.scaled(X.to(predicted.device))
        term = reconstruction_loss(reconstructed, z, q=p["q"], penalty=p["penalty"])
        return loss, p["beta"] * term


def make_concept_net(estimator, module_params, device):
    """Make the skorch net of an `SRAEExplainer`, not initialised.

    Parameters
    ----------
    estimator : SRAEExplainer
        Its parameters are used.
    module_params : dict
        Of `ConceptModule`.
    device : str
        Where it is trained.

    Returns
    -------
    net : ConceptNet

    Raises
    ------
    ValueError
        If ``net_params`` has a name that is unknown, or that is set elsewhere.
    """
    extra = dict(estimator.net_params or {})
    check_net_params(extra, type(estimator).__name__, _RESERVED)
    callbacks = extra.pop("callbacks", None) or []
    if estimator.validation_split is not None:
        stopping = StopAfterWarmUp(patience=estimator.patience, load_best=True)
        # Last, because those after it would not be told of the epoch that it stops at.
        callbacks = [*callbacks, ("early_stopping", stopping)]
    params = {
        "optimizer": torch.optim.Adam,
        "lr": estimator.lr,
        "batch_size": 50,
        "iterator_train": Batches,
        "iterator_train__shuffle": True,
        "iterator_valid": Batches,
        "iterator_valid__batch_size": _VALID_ROWS,
        "verbose": estimator.verbose,
    }
    if "optimizer" not in extra:  # not every optimizer that may be given takes it
        params["optimizer__weight_decay"] = 1e-4
    names = ("beta", "q", "penalty", "pull_away")
    return ConceptNet(
        ConceptModule,
        criterion=nn.MSELoss,  # skorch wants one
        **{f"module__{name}": value for name, value in module_params.items()},
        callbacks=callbacks,
        train_split=None,
        max_epochs=estimator.max_epochs,
        device=device,
        loss_params={name: getattr(estimator, name) for name in names},
        # Short trainings too should see the full loss most of the time.
        warm_up=min(estimator.warm_up, estimator.max_epochs // 3),
        **(params | extra),
    )
