"""The top-k sparse autoencoder as a network, its loss, and the course of its learning rate."""

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import nn
from torch.nn import functional as F

# A concept that none of so many mini-batches has used counts as dead while training lasts.
_STRETCH = 25


class DictionaryModule(nn.Module):
    """Activations to the few concepts that drive them most, and back.

    Parameters
    ----------
    shape : tuple of int
        Of one sample's activations.
    n_concepts : int
        Number of concepts.
    k : int
        Most concepts that a sample is made of.
    z_mean : array-like of shape `shape` or float, default=0.0
        What is subtracted from activations while training lasts, until `fold`.
    z_scale : float, default=1.0
        The number by which they are divided then.
    """

    def __init__(self, shape, n_concepts, k, z_mean=0.0, z_scale=1.0):
        super().__init__()
        self.shape, self.k = tuple(shape), k
        n_units = int(np.prod(self.shape))
        rows = torch.randn(n_concepts, n_units, dtype=torch.float32)
        self.directions = nn.Parameter(F.normalize(rows))
        # Tied to the directions at the start only: what tells a concept apart from others need
        # not be what it is made of.
        self.weight = nn.Parameter(self.directions.detach().clone())
        self.bias = nn.Parameter(torch.zeros(n_units, dtype=torch.float32))
        z_mean = np.broadcast_to(z_mean, self.shape).ravel()
        for name, value in {"z_mean": z_mean, "z_scale": z_scale}.items():
            self.register_buffer(name, torch.tensor(np.asarray(value, dtype=np.float32)))
        idle = torch.zeros(n_concepts, dtype=torch.int64)
        self.register_buffer("idle", idle, persistent=False)

    def scaled(self, z):
        """Activations (b, *shape) as they are trained on: (b, n_units)."""
        return (z.flatten(1).to(self.z_scale) - self.z_mean) / self.z_scale

    def drive(self, scaled):
        """Return what drives each concept, before the largest are chosen: (b, n_concepts)."""
        return F.relu(F.linear(scaled - self.bias, self.weight))

    def encode(self, z):
        """Activations (b, *shape) to what drives each concept: continuous, as maps need it."""
        return self.drive(self.scaled(z))

    def chosen(self, drive, k=None):
        """Keep the k largest of each row, others become 0."""
        values, index = drive.topk(self.k if k is None else k, dim=1, sorted=False)
        return torch.zeros_like(drive).scatter(1, index, values)

    def rebuilt(self, concepts):
        """Concepts to scaled activations (b, n_units), without the bias."""
        # The rows have length 1, so this changes no number; but a gradient through it is at right
        # angles to them.
        return concepts @ F.normalize(self.directions)

    def forward(self, z):
        """Concepts, and scaled reconstructions of (b, *shape)."""
        concepts = self.chosen(self.encode(z))
        return concepts, self.rebuilt(concepts) + self.bias

    @torch.no_grad()
    def normalise(self):
        """Give all directions length 1."""
        self.directions.copy_(F.normalize(self.directions))

    @torch.no_grad()
    def fold(self):
        """Move mean and scale of the activations into the bias; concepts are in their units then.

        Neither choosing the largest nor a ReLU depends on the scale.
        """
        self.normalise()
        self.bias.copy_(self.z_mean + self.z_scale * self.bias)
        self.z_mean.zero_()
        self.z_scale.fill_(1.0)

    @torch.no_grad()
    def reorder(self, order):
        """Give the concepts other numbers."""
        self.directions.copy_(self.directions[order])
        self.weight.copy_(self.weight[order])


class DictionaryObjective:
    """Squared error of the reconstruction, and of what dead concepts could add to it.

    Parameters
    ----------
    revival : float
        Weight of the second term.
    """

    def __init__(self, revival):
        self.revival = revival

    def __call__(self, module, batch, epoch):
        """Return outputs, the loss, and the loss with the term for dead concepts."""
        scaled = module.scaled(batch["z"].to(module.z_scale.device))
        if module.training:
            module.normalise()
        drive = module.drive(scaled)
        concepts = module.chosen(drive)
        error = scaled - module.bias - module.rebuilt(concepts)
        loss = error.square().mean()
        if not module.training:
            return concepts, loss, loss
        dead = module.idle >= _STRETCH
        used = (concepts.detach() > 0).any(dim=0)
        module.idle.add_(1).masked_fill_(used, 0)
        if not self.revival or not dead.any():
            return concepts, loss, loss
        # As many of the dead as make up a good part of the layer rebuild what the others leave.
        n_most = min(int(dead.sum()), max(module.k, error.shape[1] // 2))
        revived = module.rebuilt(module.chosen(drive * dead, n_most))
        missed = (error.detach() - revived).square().mean()
        return concepts, loss, loss + self.revival * missed


class FallingRate(Callback):
    """Lower the learning rate over the second half of training, to 2 % of what it was.

    Parameters
    ----------
    n_epochs : int
        Of the whole training.
    """

    def __init__(self, n_epochs):
        self.n_epochs = n_epochs

    def on_epoch_begin(self, net, **kwargs):
        """Set the rate of an epoch."""
        done = (len(net.history) - 0.5) / self.n_epochs
        factor = 1 - 0.98 * max(0.0, 2 * done - 1)
        for group in net.optimizer_.param_groups:
            group["lr"] = factor * group.setdefault("initial_lr", group["lr"])
