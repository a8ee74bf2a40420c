"""The torch module of variational autoencoders."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from ..training import kl_divergence, log_likelihood
from ._modules import built

# Where a module keeps the functions that are called with what goes in and out.
_HOOKS = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
_MOMENTUM = 0.1  # of the variance of the noise, as that of BatchNorm's statistics
_SMALLEST = 1e-6  # variance of the noise, as a share of that of X


class VariationalModule(nn.Module):
    """Hold an encoder of posterior means, a layer of log-variances and a decoder.

    The encoder's last linear layer makes the means, and another linear layer makes the
    log-variances of what that one is given. Nothing here draws: `forward` decodes the means.

    Parameters
    ----------
    encoder : torch.nn.Sequential
        Turns inputs of shape (n, ...) into posterior means of shape (n, n_components). Its last
        part is a linear layer.

    decoder : torch.nn.Module
        Turns codes into means of X, or into logits of its probabilities.

    input_shape : tuple of int
        Shape of one sample.

    likelihood : {"gaussian", "bernoulli"}
        How X is distributed, given the code.

    noise_variance : float
        Variance of X given the code, to begin with.

    Attributes
    ----------
    noise_variance : torch.Tensor of shape ()
        Of "gaussian": a running mean of the squared error.

    See Also
    --------
    sklexplain.nets.build_variational : Makes one.
    sklexplain.nets.VariationalAutoencoder : The estimator that trains one.

    Examples
    --------
    >>> import torch
    >>> from sklexplain.nets import VariationalModule
    >>> encoder = torch.nn.Sequential(torch.nn.Linear(4, 2))
    >>> module = VariationalModule(encoder, torch.nn.Linear(2, 4), (4,), "gaussian", 1.0)
    >>> mean, log_variance = module.posterior(torch.zeros(3, 4))
    >>> mean.shape, log_variance.shape
    (torch.Size([3, 2]), torch.Size([3, 2]))
    """

    noise_variance: torch.Tensor

    def __init__(
        self,
        encoder: nn.Sequential,
        decoder: nn.Module,
        input_shape: tuple[int, ...],
        likelihood: Literal["gaussian", "bernoulli"],
        noise_variance: float,
    ) -> None:
        super().__init__()
        last: Any = encoder[-1]  # a linear layer
        self.encoder = encoder
        self.log_variance = nn.Linear(last.in_features, last.out_features)
        self.decoder = decoder
        self.output = nn.Sigmoid() if likelihood == "bernoulli" else nn.Identity()
        self.input_shape = tuple(input_shape)
        self.n_components = last.out_features
        self.likelihood = likelihood
        self.least = _SMALLEST * noise_variance
        self.register_buffer("noise_variance", torch.tensor(float(noise_variance)))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return the posterior means.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...)
            The inputs.

        Returns
        -------
        mean : torch.Tensor of shape (n, n_components)
            The codes.
        """
        return self.encoder(x)

    def posterior(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the parameters of the codes' distributions.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...)
            The inputs.

        Returns
        -------
        mean, log_variance : torch.Tensor of shape (n, n_components)
            Of independent normal distributions.
        """
        if not _is_plain(self.encoder):
            return self._watched(x)
        *parts, last = self.encoder
        for part in parts:
            x = part(x)
        return last(x), self.log_variance(x)

    def _watched(self, x):
        """Do the same with an encoder that is more than its parts one after another."""
        seen, thread = {}, threading.get_ident()

        def hook(_last, inputs):
            if threading.get_ident() == thread:  # others may be running the module, too
                seen["features"] = inputs[0]

        handle = self.encoder[-1].register_forward_pre_hook(hook)
        try:
            mean = self.encoder(x)
        finally:
            handle.remove()
        if not seen:
            raise ValueError(
                f"the encoder, a {type(self.encoder).__name__}, does not run its last part, which "
                "makes the means: use build_variational, which gives it a linear layer."
            )
        return mean, self.log_variance(seen["features"])

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        """Return the mean of X, given the code.

        Parameters
        ----------
        code : torch.Tensor of shape (n, n_components)
            The codes.

        Returns
        -------
        x : torch.Tensor of shape (n, ...)
            Means, which are probabilities for "bernoulli".
        """
        return self.output(self.decoder(code))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the reconstructions from the posterior means.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...)
            The inputs.

        Returns
        -------
        reconstruction : torch.Tensor of shape (n, ...)
            The inputs, encoded and decoded.
        """
        return self.decode(self.encode(x))

    def log_likelihood(self, raw: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return log p(x | z).

        Parameters
        ----------
        raw : torch.Tensor of shape (n, ...)
            What the decoder makes of z.

        x : torch.Tensor of shape (n, ...)
            The samples.

        Returns
        -------
        values : torch.Tensor of shape (n,)
            In nats, summed over the entries.
        """
        # A copy, as `update_noise` comes before the backward pass.
        variance = self.noise_variance.clone() if self.likelihood == "gaussian" else None
        return log_likelihood(raw, x, variance)

    def elbo(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return the evidence lower bound.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...)
            The samples.

        noise : torch.Tensor of shape (n_draws, n_components)
            Draws from the standard normal distribution, used for every sample.

        Returns
        -------
        bound : torch.Tensor of shape (n,)
            In nats.
        """
        mean, log_variance = self.posterior(x)
        scale = (log_variance / 2).exp()
        fits = [self.log_likelihood(self.decoder(mean + scale * e), x) for e in noise.to(x)]
        return sum(fits) / len(fits) - kl_divergence(mean, log_variance)

    def update_noise(self, raw: torch.Tensor, x: torch.Tensor) -> None:
        """Move the variance of the noise towards the squared error of a batch.

        Parameters
        ----------
        raw, x : torch.Tensor of shape (n, ...)
            What the decoder made, and the samples.
        """
        if self.likelihood == "gaussian":
            error = (raw - x).square().mean().clamp(min=self.least)
            self.noise_variance.lerp_(error, _MOMENTUM)


def build_variational(
    module_class: type[nn.Module],
    *,
    input_shape: tuple[int, ...],
    n_components: int,
    hidden_layer_sizes: Sequence[int],
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
    noise_variance: float = 1.0,
    **params: Any,
) -> VariationalModule:
    """Build a `VariationalModule` from a class that makes an encoder and a decoder.

    Parameters
    ----------
    module_class : type
        See `build_autoencoder`. An encoder that is no `torch.nn.Sequential` with a linear layer at
        its end, or that has a ``forward`` or hooks of its own, is given one, from codes to means.

    input_shape : tuple of int
        Shape of one sample.

    n_components : int
        Length of the code.

    hidden_layer_sizes : sequence of int
        Sizes of the hidden layers.

    likelihood : {"gaussian", "bernoulli"}, default="gaussian"
        How X is distributed, given the code.

    noise_variance : float, default=1.0
        Variance of X given the code, to begin with.

    **params : dict
        More arguments of the class.

    Returns
    -------
    module : VariationalModule
        The new module.

    Raises
    ------
    TypeError
        If the class does not take one of `params`, or makes no encoder or no decoder.
    ValueError
        If ``activation`` is among `params` and the class has no such parameter.

    See Also
    --------
    sklexplain.nets.VariationalAutoencoder : The estimator that trains what is built.

    Examples
    --------
    >>> from sklexplain.nets import MLPAutoencoder, build_variational
    >>> shapes = {"input_shape": (6,), "n_components": 2, "hidden_layer_sizes": (4,)}
    >>> build_variational(MLPAutoencoder, **shapes).log_variance
    Linear(in_features=4, out_features=2, bias=True)
    """
    made = built(
        module_class,
        ("encoder", "decoder"),
        input_shape=input_shape,
        n_components=n_components,
        hidden_layer_sizes=hidden_layer_sizes,
        **params,
    )
    encoder = made.encoder
    if not (_is_plain(encoder) and len(encoder) and _is_linear(encoder[-1])):
        # Of an LSTM, for example, whose states are between -1 and 1, as no normal variable is; or
        # of what has a forward or hooks of its own, which may do anything with the last layer's.
        code = nn.Linear(n_components, n_components)
        encoder = nn.Sequential(OrderedDict(features=encoder, code=code))
    return VariationalModule(encoder, made.decoder, input_shape, likelihood, noise_variance)


def _is_plain(module):
    """Tell whether a module does no more than running its parts one after another."""
    kind = type(module)
    if not isinstance(module, nn.Sequential) or "forward" in vars(module):
        return False
    if kind.forward is not nn.Sequential.forward or kind.__call__ is not nn.Module.__call__:
        return False
    return not any(getattr(module, name) for name in _HOOKS)


def _is_linear(part):
    return type(part) is nn.Linear
