"""The explanation module as a network, its loss, and when its training ends."""

import numpy as np
import torch
from skorch.callbacks import EarlyStopping
from torch import nn

from ._losses import prediction_loss, pull_away_loss, sparse_reconstruction_loss


class ConceptModule(nn.Module):
    """Activations to concepts, concepts to predictions and back to activations.

    Inside, activations are centred and divided by one number, and predictions are standardised;
    `encode`, `decode` and `predict` are in original units.

    Parameters
    ----------
    shape : tuple of int
        Of one sample's activations.
    n_concepts : int
        Number of concepts.
    hidden_layer_sizes : sequence of int
        Widths between activations and concepts; the decoder has them in reverse.
    z_scale : float
        The number by which activations are divided.
    y_mean, y_scale : array-like of shape (n_targets,)
        The mean and the standard deviation by which targets are standardised.
    z_mean : array-like of shape `shape` or float, default=0.0
        What is subtracted from activations before, until `fold`.
    """

    def __init__(self, shape, n_concepts, hidden_layer_sizes, z_scale, y_mean, y_scale, z_mean=0.0):
        super().__init__()
        self.shape = tuple(shape)
        sizes = [int(np.prod(shape)), *hidden_layer_sizes, n_concepts]
        self.encoder = _relu_stack(sizes)
        self.head = nn.Linear(n_concepts, len(y_mean), dtype=torch.float32)
        self.decoder = _relu_stack(sizes[::-1])
        z_mean = np.broadcast_to(z_mean, self.shape).ravel()
        buffers = {"z_mean": z_mean, "z_scale": z_scale, "y_mean": y_mean, "y_scale": y_scale}
        for name, value in buffers.items():
            self.register_buffer(name, torch.tensor(np.asarray(value, dtype=np.float32)))

    def scaled(self, z):
        """Activations (b, *shape) as they enter the encoder: (b, n_units)."""
        return (z.flatten(1).to(self.z_scale) - self.z_mean) / self.z_scale

    def forward(self, z):
        """Concepts, standardised predictions and scaled reconstructions of (b, *shape)."""
        concepts = self.encoder(self.scaled(z))
        return concepts, self.head(concepts), self.decoder(concepts)

    def encode(self, z):
        """Activations (b, *shape) to concepts (b, n_concepts)."""
        return self.encoder(self.scaled(z))

    def decode(self, concepts):
        """Concepts to activations (b, *shape)."""
        return (self.decoder(concepts) * self.z_scale + self.z_mean).unflatten(1, self.shape)

    def standardised(self, targets):
        """Standardised targets (n, n_targets), for the head: an ndarray of float32."""
        mean, scale = (b.cpu().numpy() for b in (self.y_mean, self.y_scale))
        return ((targets - mean) / scale).astype(np.float32)

    @torch.no_grad()
    def orient(self):
        """Choose the signs of concepts, which are arbitrary, so that a larger value adds.

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

    @torch.no_grad()
    def fold(self):
        """Move the mean of the activations into the biases; what is computed stays the same.

        Training wants inputs around 0, but behind a ReLU no activation is negative, and rules of
        what excites a concept rest on that.
        """
        first, last, shift = self.encoder[0], self.decoder[-1], self.z_mean / self.z_scale
        first.bias.sub_((first.weight.double() @ shift.double()).float())
        last.bias.add_(shift)
        self.z_mean.zero_()

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
        layers += [nn.Linear(n_in, n_out, dtype=torch.float32), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class StopAfterWarmUp(EarlyStopping):
    """Early stopping that looks at epochs with the full loss only.

    Parameters
    ----------
    warm_up : int
        Number of epochs that do not count.
    **kwargs : object
        Arguments of `skorch.callbacks.EarlyStopping`.
    """

    def __init__(self, warm_up, **kwargs):
        super().__init__(**kwargs)
        self.warm_up = warm_up

    def on_epoch_end(self, net, **kwargs):
        """Count the epoch, if it is past the warm-up."""
        if len(net.history) > self.warm_up:
            super().on_epoch_end(net, **kwargs)


class ConceptObjective:
    """The loss of the sparse reconstruction autoencoder: equation 1, and the pull-away term.

    Parameters
    ----------
    beta, pull_away : float
        Weights of the reconstruction and of the pull-away term.
    q : float
        Of the penalty.
    penalty : str
        A name in `PENALTIES`.
    warm_up : int
        Number of epochs before beta has its full value in training.
    """

    def __init__(self, *, beta, pull_away, q, penalty, warm_up):
        self.beta = beta
        self.pull_away = pull_away
        self.q = q
        self.penalty = penalty
        self.warm_up = warm_up

    def __call__(self, module, batch, epoch):
        """Return outputs, the loss, and the loss with what beta has risen to in an epoch."""
        device = module.z_scale.device
        z, target = batch["z"].to(device), batch["y"].to(device)
        outputs = module(z)
        first, second = self._terms(module, outputs, module.scaled(z), target)
        share = min(1.0, epoch / (self.warm_up + 1))
        return outputs, first + second, first + share * second

    def _terms(self, module, outputs, z, target):
        """Prediction and pull-away, and what beta weighs."""
        concepts, predicted, reconstructed = outputs
        loss = prediction_loss(predicted, target)
        if self.pull_away > 0:
            weights = module.head.weight.norm(dim=0)  # of one target: |v|
            loss = loss + self.pull_away * pull_away_loss(concepts * weights)
        if self.beta == 0:
            return loss, torch.zeros_like(loss)
        term = sparse_reconstruction_loss(reconstructed, z, q=self.q, penalty=self.penalty)
        return loss, self.beta * term
