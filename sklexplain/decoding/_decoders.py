"""Decoders: from a layer's activations to samples."""

import copy
import inspect
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, log2, prod

import numpy as np
import torch
from torch import nn

from ..utils import call_given, float32_by_default, n_shape
from ._losses import gaussian_divergence

_HIDDEN = (128, 128)
_WIDTH, _MAX_WIDTH = 32, 128
# With units of their own before and behind; the user's decoders are given activations as they are.
_OWN = (None, "small")
_CONV = {1: nn.Conv1d, 2: nn.Conv2d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}


class Decoding(nn.Module):
    """A decoder, with an encoder or a latent layer in front of it if there is one.

    Parameters
    ----------
    decoder : nn.Module
        Activations (b, *z_shape) to samples (b, *x_shape), or to their logits.
    encoder : nn.Module or None, default=None
        Samples to activations. None: the decoder is given activations.
    latent : Latent or None, default=None
        For several explanations of one sample.
    loss : {"squared_error", "cross_entropy"}, default="squared_error"
        With "cross_entropy", outputs are logits.
    """

    def __init__(self, decoder, encoder=None, latent=None, loss="squared_error"):
        super().__init__()
        self.decoder = decoder
        self.encoder = encoder
        self.latent = latent
        self.loss = loss

    def forward(self, inputs, noise=None):
        """Return outputs and the latent layer's divergence (0 without one).

        Parameters
        ----------
        inputs : torch.Tensor of shape (b, ...)
            Activations, or samples if there is an encoder.
        noise : torch.Tensor of shape (b, n_latent) or None, default=None
            Standard normal draws. None: draws of torch's generator in training, zeros else.

        Returns
        -------
        output : torch.Tensor of shape (b, *x_shape)
        divergence : torch.Tensor of shape (b,) or float
        """
        z = inputs if self.encoder is None else self.encoder(inputs)
        z = z.to(next(self.decoder.parameters(), z).dtype)
        if self.latent is None:
            return self.decoder(z), 0.0
        z, divergence = self.latent(z, noise)
        return self.decoder(z), divergence

    def samples(self, output):
        """Turn outputs into samples: the sigmoid of logits."""
        return output.sigmoid() if self.loss == "cross_entropy" else output


class Latent(nn.Module):
    """An extra layer with a normal latent code, in front of a decoder (section III of the paper).

    Parameters
    ----------
    z_shape : tuple of int
        Of one sample's activations.
    n_latent : int
        Length of the code.
    center : ndarray of shape z_shape or float, default=0.0
        Mean activations.
    scale : float, default=1.0
        Root mean square of what is left without them.
    """

    def __init__(self, z_shape, n_latent, center=0.0, scale=1.0):
        super().__init__()
        self.units = UnitActivations(center, scale)
        self.code = nn.Linear(prod(z_shape), 2 * n_latent)
        self.back = nn.Linear(n_latent, prod(z_shape))
        self.z_shape = tuple(z_shape)

    def forward(self, z, noise=None):
        """Return activations made of a drawn code, and the code's divergence."""
        mean, log_variance = self.code(self.units(z).flatten(1)).chunk(2, dim=1)
        if noise is None and self.training:
            noise = torch.randn_like(mean)
        code = mean if noise is None else mean + noise * (0.5 * log_variance).exp()
        back = self.back(code).reshape(len(z), *self.z_shape)
        return self.units.undo(back), gaussian_divergence(mean, log_variance)


class UnitActivations(nn.Module):
    """The first step of a decoder: activations without their mean, divided by one number.

    Logits may be tens, a deep network's activations hundredths, and their mean many times what
    they vary by: training would see nothing but the mean.

    Parameters
    ----------
    center : ndarray of shape z_shape
        Mean activations.
    scale : float
        Root mean square of what is left without them.
    """

    def __init__(self, center, scale):
        super().__init__()
        self.register_buffer("center", torch.tensor(center))
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, z):
        """Activations (b, ...) to activations of order 1 around 0."""
        return (z - self.center) / self.scale

    def undo(self, z):
        """Return to the layer's own units."""
        return z * self.scale + self.center


class DataUnits(nn.Module):
    """The last step of a decoder: from deviations to the data's units.

    The first reconstruction is the mean then, however far from 0 the data are, and steps of
    training do not depend on their units; the loss is the same.

    Parameters
    ----------
    mean, deviation : ndarray of shape (...)
        Of every entry of a sample.
    per_entry : bool
        Whether every entry has units of its own, as columns of a table. Otherwise those are a
        channel's, or all of a sample's.
    axis : int or None, default=None
        A sample's axis that holds channels.
    """

    def __init__(self, mean, deviation, *, per_entry, axis=None):
        super().__init__()
        if not per_entry:
            others = tuple(i for i in range(mean.ndim) if i != axis)
            center = mean.mean(axis=others, keepdims=True)
            # All entries together vary by what each does and by how their means differ.
            variance = (deviation**2 + (mean - center) ** 2).mean(axis=others, keepdims=True)
            mean, deviation = center, variance**0.5
        self.register_buffer("center", torch.tensor(mean))
        self.register_buffer("scale", torch.tensor(deviation))

    def forward(self, x):
        """Deviations (b, ...) to data."""
        return x * self.scale + self.center


class _MoveAxis(nn.Module):
    """(b, time, channels) to (b, channels, time), and back."""

    def __init__(self, source, destination):
        super().__init__()
        self.source, self.destination = source, destination

    def forward(self, x):
        return x.movedim(self.source, self.destination)


@dataclass(frozen=True)
class DecoderPlan:
    """How a decoder is built; saved in its place, together with its weights.

    Attributes
    ----------
    decoder : None, "small", "linear", nn.Module or callable
        See `make_decoder`.
    z_shape, x_shape : tuple of int
        Of one sample's activations and of one sample.
    kind : {"table", "series", "image"}
        What a sample is.
    channel_axis : int or None
        A sample's axis that holds channels.
    loss : {"squared_error", "cross_entropy"}
        With "cross_entropy", outputs are logits.
    n_latent : int or None
        Length of the latent code, if there is one.
    dtype : {"float32", "float64"}
        Of the weights.
    z_mean : ndarray of shape z_shape
        Mean activations.
    z_scale : float
        Root mean square of what is left of activations without their mean.
    mean, deviation : ndarray of shape x_shape
        Of every entry of a sample.
    """

    decoder: object
    z_shape: tuple
    x_shape: tuple
    kind: str
    channel_axis: int | None
    loss: str
    n_latent: int | None
    dtype: str
    z_mean: np.ndarray
    z_scale: float
    mean: np.ndarray
    deviation: np.ndarray

    def build(self, device):
        """Build the decoder with weights of torch's generator, or those of the user's module."""
        shapes = self.z_shape, self.x_shape
        with float32_by_default():
            decoder = make_decoder(self.decoder, *shapes, self.kind, self.channel_axis)
        own = self.decoder is None or isinstance(self.decoder, str) and self.decoder in _OWN
        if own:
            decoder.insert(0, UnitActivations(self.z_mean, self.z_scale))
        if own and self.loss == "squared_error":
            per_entry = not _has_positions(self.x_shape, self.kind, self.channel_axis)
            options = {"per_entry": per_entry, "axis": self.channel_axis}
            decoder.append(DataUnits(self.mean, self.deviation, **options))
        latent = None
        if self.n_latent is not None:
            with float32_by_default():
                latent = Latent(self.z_shape, self.n_latent, self.z_mean, self.z_scale)
        decoding = Decoding(decoder, latent=latent, loss=self.loss)
        return decoding.requires_grad_(True).to(device, getattr(torch, self.dtype))


def make_decoder(decoder, z_shape, x_shape, kind, channel_axis):
    """Make a decoder with new weights, or a copy of the user's.

    Parameters
    ----------
    decoder : None, "small", "linear", nn.Module or callable
        None: an MLP for tables, transposed convolutions for series and images, with up to 128
        channels, or 32 if "small". A callable (a class,
        for example) is given z_shape and x_shape, as far as it takes two arguments.
    z_shape, x_shape : tuple of int
        Of one sample's activations and of one sample.
    kind : {"table", "series", "image"}
        What a sample is.
    channel_axis : int or None
        A sample's axis that holds channels.

    Returns
    -------
    decoder : nn.Module

    Raises
    ------
    TypeError
        If ``decoder`` is something else.
    """
    if decoder is None or isinstance(decoder, str) and decoder in _OWN:
        if not _has_positions(x_shape, kind, channel_axis):
            return _mlp(tuple(z_shape), tuple(x_shape))
        most = _MAX_WIDTH if decoder is None else _WIDTH
        return _convolutional(tuple(z_shape), tuple(x_shape), channel_axis, most)
    if isinstance(decoder, str):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(prod(z_shape), prod(x_shape)), nn.Unflatten(1, tuple(x_shape))
        )
    if isinstance(decoder, nn.Module):
        return copy.deepcopy(decoder)
    arguments = _arguments(decoder, tuple(z_shape), tuple(x_shape))
    made = call_given("decoder", decoder, *arguments)
    if not isinstance(made, nn.Module):
        raise TypeError(f"decoder returned {type(made).__name__}; it must return a torch module.")
    return made


def _has_positions(x_shape, kind, channel_axis):
    """Tell whether samples have one or two axes of positions, for convolutions."""
    return kind != "table" and len(x_shape) - (channel_axis is not None) in (1, 2)


def _arguments(decoder, *shapes):
    """Return the shapes if the user's class or function takes them, else no arguments."""
    try:
        parameters = inspect.signature(decoder).parameters.values()
    except (TypeError, ValueError):  # not written in Python
        return ()
    n_taken = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    return shapes if n_taken >= 2 or any(p.kind is p.VAR_POSITIONAL for p in parameters) else ()


def check_decoder(module, z, x_shape):
    """Raise a ValueError if a decoder does not give samples, or has nothing to train.

    Parameters
    ----------
    module : Decoding
        Without encoder.
    z : torch.Tensor of shape (b, *z_shape)
        A few activations.
    x_shape : tuple of int
        Shape of a sample.

    Raises
    ------
    ValueError
        Naming both shapes.
    """
    if not list(module.parameters()):
        raise ValueError("decoder has no weights to train.")
    training = module.training
    try:
        with torch.no_grad():
            output = module.eval()(z)[0]
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(
            f"the decoder cannot take activations of shape {n_shape(z.shape[1:])}: {error}"
        ) from error
    finally:
        module.train(training)
    if not isinstance(output, torch.Tensor) or tuple(output.shape) != (len(z), *x_shape):
        shape = n_shape(output.shape[1:]) if isinstance(output, torch.Tensor) else type(output)
        raise ValueError(
            f"the decoder made {shape} of activations of shape {n_shape(z.shape[1:])}, but X has "
            f"shape {n_shape(x_shape)}: its output must have X's shape."
        )


def _mlp(z_shape, x_shape):
    """Two hidden layers, for tables."""
    sizes = (prod(z_shape), *_HIDDEN, prod(x_shape))
    decoder = nn.Sequential(nn.Flatten())
    for n_in, n_out in pairwise(sizes):
        decoder.append(nn.Linear(n_in, n_out))
        decoder.append(nn.ReLU())
    decoder[-1] = nn.Unflatten(1, x_shape)
    return decoder


def _convolutional(z_shape, x_shape, channel_axis, most):
    """Transposed convolutions, 5 wide with stride 2, for series and images.

    Activations that have positions, as samples have, keep them, behind a convolution 3 wide; others
    go through a linear layer first. Every transposed convolution doubles the number of positions,
    or gives one fewer, so that the last one gives exactly as many as a sample has.

    Parameters
    ----------
    z_shape : tuple of int
        Of the activations of one sample.
    x_shape : tuple of int
        Of one sample.
    channel_axis : int or None
        The axis of ``x_shape`` that holds the channels.
    most : int
        Most channels inside.

    Returns
    -------
    decoder : nn.Sequential
    """
    sizes = [size for i, size in enumerate(x_shape) if i != channel_axis]
    n_channels = 1 if channel_axis is None else x_shape[channel_axis]
    last = len(x_shape) == 2 and channel_axis == 1  # (time, channels), and so are activations
    code = z_shape[::-1] if last and len(z_shape) == 2 else z_shape
    decoder = nn.Sequential()
    if len(code) == len(sizes) + 1 and all(n <= m for n, m in zip(code[1:], sizes, strict=True)):
        if code is not z_shape:
            decoder.append(_MoveAxis(1, 2))
        n_ups = max(round(log2(m / n)) for n, m in zip(code[1:], sizes, strict=True))
        levels = _halved(sizes, n_ups)
        if tuple(levels[-1]) != tuple(code[1:]):
            decoder.append(nn.Upsample(size=tuple(levels[-1])))
        n_in = code[0]
        if n_ups > 0:  # else a single doubling would be a linear decoder
            decoder.append(_CONV[len(sizes)](n_in, _width(n_ups, most), 3, padding=1))
            decoder.append(nn.ReLU())
            n_in = _width(n_ups, most)
    else:
        n_ups = max(0, ceil(log2(max(sizes) / (8 if len(sizes) == 1 else 4))))
        levels = _halved(sizes, n_ups)
        n_in = _width(n_ups, most)
        decoder.append(nn.Flatten())
        decoder.append(nn.Linear(prod(z_shape), n_in * prod(levels[-1])))
        decoder.append(nn.Unflatten(1, (n_in, *levels[-1])))
        decoder.append(nn.ReLU())
    _add_convolutions(decoder, n_in, n_channels, levels, most)
    if channel_axis is None:
        decoder.append(nn.Flatten())
        decoder.append(nn.Unflatten(1, x_shape))
    elif channel_axis > 0:
        decoder.append(_MoveAxis(1, 1 + channel_axis))
    return decoder


def _add_convolutions(decoder, n_in, n_channels, levels, most):
    """Append the transposed convolutions from the coarsest level to the finest."""
    n_dims = len(levels[0])
    if len(levels) == 1:
        decoder.append(_CONV[n_dims](n_in, _WIDTH, 5, padding=2))
        decoder.append(nn.ReLU())
        decoder.append(_CONV[n_dims](_WIDTH, n_channels, 5, padding=2))
        return
    for i in reversed(range(len(levels) - 1)):
        n_out = n_channels if i == 0 else _width(i, most)
        # 2 * ceil(size / 2) - 1 come back by themselves: one is missing if even.
        missing = tuple(1 - size % 2 for size in levels[i])
        decoder.append(_TRANSPOSED[n_dims](n_in, n_out, 5, 2, 2, output_padding=missing))
        if i > 0:
            decoder.append(nn.ReLU())
        n_in = n_out


def _width(level, most):
    """Channels at a level, counted from the finest: 32 at the first, then doubled up to most."""
    return min(_WIDTH * 2 ** max(level - 1, 0), most)


def _halved(sizes, n_ups):
    """Sizes at every level, the finest first."""
    levels = [list(sizes)]
    for _ in range(n_ups):
        levels.append([(size + 1) // 2 for size in levels[-1]])
    return levels
