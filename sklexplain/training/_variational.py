"""The net of variational autoencoders, and the terms of their objective."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from ..utils import normal
from ._split_net import SplitNet


class VariationalNet(SplitNet):
    """A skorch net that maximises the evidence lower bound, one draw of the code a sample.

    Parameters
    ----------
    *args, **kwargs : objects
        Arguments of `skorch.NeuralNet`.

    beta : float, default=1.0
        Weight of the divergence, or of the total correlation.

    total_correlation : bool, default=False
        Whether only the total correlation has the weight.
    """

    def __init__(
        self, *args: Any, beta: float = 1.0, total_correlation: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.beta = beta
        self.total_correlation = total_correlation

    def _step(
        self, X: torch.Tensor, y: torch.Tensor, training: bool
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        module, x = self.module_, X.to(self.device)
        mean, log_variance = module.posterior(x)
        noise = torch.randn(mean.shape, generator=self._generator(training), dtype=mean.dtype)
        code = mean + (log_variance / 2).exp() * noise.to(mean.device)
        raw = module.decoder(code)
        fit = module.log_likelihood(raw, x)
        divergence = kl_divergence(mean, log_variance)
        if self.total_correlation:
            loss = (divergence - fit).mean()
            if self.beta != 1:  # without it the bits are those of the plain objective
                n = self._n_training_samples(len(x))
                loss = loss + (self.beta - 1) * total_correlation(code, mean, log_variance, n)
        else:
            loss = (self.beta * divergence - fit).mean()
        if training:
            module.update_noise(raw.detach(), x)
        return (raw,), loss

    def _n_training_samples(self, n: int) -> int:
        return len(self._during_fit["split"][0]) if hasattr(self, "_during_fit") else n

    def sample_objective(self, kind: str | None, n_draws: int, seed: int) -> ElboObjective:
        """Return the loss of single samples, for explanations by training examples.

        Parameters
        ----------
        kind : None
            Of the loss; there is one only.

        n_draws : int
            Number of draws of the code's noise, which are the same for all samples.

        seed : int
            Of the draws.

        Returns
        -------
        objective : ElboObjective

        Raises
        ------
        ValueError
            If the loss is known by a name.
        TypeError
            If the loss is one of pairs.
        """
        if kind is not None:
            raise ValueError(
                f"loss={kind!r} is a loss of contrastive encoders; that of a variational "
                "autoencoder is the negative ELBO, loss=None."
            )
        if self.total_correlation and self.beta != 1:
            raise TypeError(
                "the total correlation depends on the other samples in a batch, so that the loss "
                "is no sample's"
            )
        return ElboObjective(self.beta, n_draws, seed)


class ElboObjective:
    """The negative ELBO of single samples, by draws of the code that all samples share.

    Parameters
    ----------
    beta : float
        Weight of the divergence.

    n_draws : int
        Number of draws.

    seed : int
        Of the draws.
    """

    def __init__(self, beta: float, n_draws: int, seed: int) -> None:
        self.beta, self.n_draws, self.seed = beta, n_draws, seed

    def prepare(self, module: Any, examples: Callable[[], torch.Tensor]) -> None:
        """Draw the noise.

        Parameters
        ----------
        module : nn.Module
            The network, or a view of it.

        examples : callable
            Returns training examples, which are not needed.
        """
        self._module = module
        self._noise = antithetic(self.n_draws, module.n_components, self.seed)

    def draws(self, x: torch.Tensor) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """Return one function from samples to the network's input for each draw."""
        return [self._with_noise(noise) for noise in self._noise]

    @staticmethod
    def _with_noise(noise: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        def joined(x: torch.Tensor) -> torch.Tensor:
            rows = noise.to(x).expand(len(x), -1)
            return torch.cat([x.flatten(1), rows], dim=1)

        return joined

    def run(self, part: torch.Tensor) -> torch.Tensor:
        """Return mean, log-variance and raw reconstruction in one tensor, sample by sample."""
        module, size = self._module, self._module.n_components
        x = part[:, :-size].reshape(len(part), *module.input_shape)
        mean, log_variance = module.posterior(x)
        raw = module.decoder(mean + (log_variance / 2).exp() * part[:, -size:])
        return torch.cat([mean, log_variance, raw.flatten(1)], dim=1)

    def __call__(self, output: torch.Tensor, x: torch.Tensor, _y: object) -> torch.Tensor:
        """Return one loss a sample."""
        size = self._module.n_components
        mean, log_variance = output[:, :size], output[:, size : 2 * size]
        raw = output[:, 2 * size :].reshape(x.shape)
        divergence = kl_divergence(mean, log_variance)
        return self.beta * divergence - self._module.log_likelihood(raw, x)

    def prepared(self, output: torch.Tensor) -> torch.Tensor:
        """Return the output as it is."""
        return output


def antithetic(n_draws: int, size: int, seed: int) -> torch.Tensor:
    """Draw normal vectors, the second half of them the first one's negative.

    Parameters
    ----------
    n_draws : int
        How many; of an odd number, one has no partner.

    size : int
        Length of a vector.

    seed : int
        Determines them.

    Returns
    -------
    draws : torch.Tensor of shape (n_draws, size)
    """
    half = (n_draws + 1) // 2
    generator = torch.Generator().manual_seed(seed)
    draws = normal(generator, half, size)
    return torch.cat([draws, -draws])[:n_draws]


def log_likelihood(
    raw: torch.Tensor, x: torch.Tensor, noise_variance: torch.Tensor | None = None
) -> torch.Tensor:
    """Log-density of samples, given what the decoder makes of their codes.

    Parameters
    ----------
    raw : torch.Tensor of shape (n, ...)
        Means of a normal distribution, or the logits of probabilities.

    x : torch.Tensor of shape (n, ...)
        The samples.

    noise_variance : torch.Tensor of shape () or None, default=None
        Variance of the normal distribution; None for Bernoulli distributions.

    Returns
    -------
    values : torch.Tensor of shape (n,)
        In nats, summed over the entries.
    """
    if noise_variance is None:
        return -F.binary_cross_entropy_with_logits(raw, x, reduction="none").flatten(1).sum(dim=1)
    squares = (raw - x).square().flatten(1)
    constant = squares.shape[1] * (noise_variance.log() + math.log(2 * math.pi))
    return -(squares.sum(dim=1) / noise_variance + constant) / 2


def kl_divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Divergence of independent normal distributions from standard normal ones.

    Parameters
    ----------
    mean, log_variance : torch.Tensor of shape (n, n_components)
        Their parameters.

    Returns
    -------
    divergence : torch.Tensor of shape (n,)
        In nats.
    """
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1) / 2


def total_correlation(
    code: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor, n_train: int
) -> torch.Tensor:
    """Total correlation of the codes of all training samples, by minibatch-weighted sampling.

    Parameters
    ----------
    code : torch.Tensor of shape (n, n_components)
        A draw from each posterior of a mini-batch.

    mean, log_variance : torch.Tensor of shape (n, n_components)
        Parameters of the posteriors.

    n_train : int
        Number of training samples.

    Returns
    -------
    total_correlation : torch.Tensor of shape ()
        The estimate of [1]_, equation S6, in nats.

    References
    ----------
    .. [1] R. T. Q. Chen, X. Li, R. Grosse and D. Duvenaud, "Isolating Sources of Disentanglement in
       Variational Autoencoders", NeurIPS 2018.
    """
    # log q(z_i's entry d | x_j)
    squares = (code[:, None] - mean).square() / log_variance.exp()  # (n, n, n_components)
    density = -(squares + log_variance + math.log(2 * math.pi)) / 2
    weight = math.log(n_train * len(code))
    joint = density.sum(dim=2).logsumexp(dim=1) - weight
    marginals = (density.logsumexp(dim=1) - weight).sum(dim=1)
    return (joint - marginals).mean()
