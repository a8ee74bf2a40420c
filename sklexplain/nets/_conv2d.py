"""The autoencoder for images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import nn

from ..utils import check_choice, n_shape
from ._parts import ACTIVATIONS


class Conv2dAutoencoder(nn.Module):
    """Strided convolutions over height and width and their mirror image, for images.

    Every convolution (kernel 3, stride 2, then the activation) halves height and width; a linear
    layer on all that is left gives the code. The decoder's transposed convolutions give back
    exactly as many rows and columns as there were, whatever their number.

    Parameters
    ----------
    input_shape : tuple of int
        (height, width) for images of one channel, or (channels, height, width).

    n_components : int, default=8
        Length of the code.

    hidden_layer_sizes : sequence of int, default=(128, 64)
        Numbers of channels after each convolution; the decoder has them in reverse.

    activation : {"relu", "softplus", "tanh", "elu", "gelu", "silu"}, default="relu"
        The function after each convolution, by which its modules are named (``"encoder.relu0"``).

    Attributes
    ----------
    encoder : torch.nn.Sequential
        (n, ...) to (n, n_components).

    decoder : torch.nn.Sequential
        (n, n_components) to (n, ...).

    See Also
    --------
    sklexplain.nets.Autoencoder : The estimator that trains it, as ``"conv2d"``.

    Examples
    --------
    >>> import torch
    >>> from sklexplain.nets import Conv2dAutoencoder
    >>> module = Conv2dAutoencoder((1, 8, 8), n_components=2, hidden_layer_sizes=(4,))
    >>> module.encoder(torch.zeros(5, *(1, 8, 8))).shape, module.decoder(torch.zeros(5, 2)).shape
    (torch.Size([5, 2]), torch.Size([5, 1, 8, 8]))
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        n_components: int = 8,
        hidden_layer_sizes: Sequence[int] = (128, 64),
        activation: str = "relu",
    ) -> None:
        super().__init__()
        check_choice("activation", activation, ACTIVATIONS)
        if len(input_shape) not in (2, 3):
            raise ValueError(
                "module='conv2d' takes images of shape (n, height, width) or (n, channels, height, "
                f"width), but X has shape {n_shape(input_shape)}: for other shapes use "
                "module='mlp' or a class of your own."
            )
        one_channel = len(input_shape) == 2
        n_channels, *size = (1, *input_shape) if one_channel else input_shape
        channels = (n_channels, *hidden_layer_sizes)
        encoder: OrderedDict[str, nn.Module] = OrderedDict()
        upwards: list[nn.Module] = []
        if one_channel:
            encoder["channel"] = nn.Unflatten(1, (1, size[0]))
        for i, (n_in, n_out) in enumerate(pairwise(channels)):
            encoder[f"conv{i}"] = nn.Conv2d(n_in, n_out, 3, stride=2, padding=1)
            encoder[f"{activation}{i}"] = ACTIVATIONS[activation]()
            # 2 * ceil(length / 2) - 1 come back by themselves: one is missing if even.
            missing = (1 - size[0] % 2, 1 - size[1] % 2)
            upwards.append(nn.ConvTranspose2d(n_out, n_in, 3, 2, 1, output_padding=missing))
            size = [(length + 1) // 2 for length in size]
        left = (channels[-1], *size)
        encoder["flatten"] = nn.Flatten()
        encoder["code"] = nn.Linear(prod(left), n_components)
        self.encoder = nn.Sequential(encoder)

        decoder: OrderedDict[str, nn.Module] = OrderedDict(
            expand=nn.Linear(n_components, prod(left)), unflatten=nn.Unflatten(1, left)
        )
        for i, conv in enumerate(reversed(upwards)):
            decoder[f"{activation}{i}"] = ACTIVATIONS[activation]()
            decoder[f"conv{i}"] = conv
        if one_channel:
            decoder["channel"] = nn.Flatten(1, 2)
        self.decoder = nn.Sequential(decoder)
