"""The torch modules of autoencoders: encoders, decoders, and the module that combines them.

The encoders and decoders are plain `torch.nn.Sequential` wherever that is possible, with one module
per activation: explanation methods that rewrite or hook modules then need to know nothing about
them, and every step has a name (``"encoder.conv0"``, ``"encoder.code"``).
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import nn

from ..utils import check_choice, did_you_mean
from ._conv2d import Conv2dAutoencoder
from ._lstm import LSTMAutoencoder
from ._parts import ACTIVATIONS, series_shape


class AutoencoderModule(nn.Module):
    """Hold an encoder, a decoder and, if there is one, a linear class head on the code.

    Parameters
    ----------
    encoder : torch.nn.Module
        Turns inputs of shape (n, ...) into codes of shape (n, n_components).

    decoder : torch.nn.Module
        Turns codes back into inputs.

    classifier : torch.nn.Module or None, default=None
        Turns codes into class scores (logits) of shape (n, n_classes).

    See Also
    --------
    sklexplain.nets.build_autoencoder : Makes one.
    sklexplain.nets.Autoencoder : The estimator that trains one.

    Examples
    --------
    >>> import torch
    >>> from sklexplain.nets import AutoencoderModule
    >>> module = AutoencoderModule(torch.nn.Linear(4, 2), torch.nn.Linear(2, 4))
    >>> module.encode(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, classifier: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.classifier: Any = classifier  # None without classes

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return the codes.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...)
            The inputs.

        Returns
        -------
        code : torch.Tensor of shape (n, n_components)
            The codes.
        """
        return self.encoder(x)

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        """Return what the codes stand for.

        Parameters
        ----------
        code : torch.Tensor of shape (n, n_components)
            The codes.

        Returns
        -------
        x : torch.Tensor of shape (n, ...)
            The reconstructed inputs.
        """
        return self.decoder(code)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the reconstructions.

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

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        """Return the class scores.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...)
            The inputs.

        Returns
        -------
        logits : torch.Tensor of shape (n, n_classes)
            The class scores, before the softmax.
        """
        return self.classifier(self.encode(x))


class MLPAutoencoder(nn.Module):
    """Fully connected encoder and its mirror image, activations between layers, a linear code.

    Inputs with more than one axis are flattened first and restored at the end.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one sample.

    n_components : int, default=8
        Length of the code.

    hidden_layer_sizes : sequence of int, default=(128, 64)
        Widths of the encoder's hidden layers; the decoder has them in reverse.

    activation : {"relu", "softplus", "tanh", "elu", "gelu", "silu"}, default="relu"
        The function between layers, by which its modules are named (``"encoder.relu0"``).

    Attributes
    ----------
    encoder : torch.nn.Sequential
        (n, ...) to (n, n_components).

    decoder : torch.nn.Sequential
        (n, n_components) to (n, ...).

    See Also
    --------
    sklexplain.nets.Autoencoder : The estimator that trains it, as ``"mlp"``.

    Examples
    --------
    >>> import torch
    >>> from sklexplain.nets import MLPAutoencoder
    >>> module = MLPAutoencoder((6,), n_components=2, hidden_layer_sizes=(4,))
    >>> module.encoder(torch.zeros(5, *(6,))).shape, module.decoder(torch.zeros(5, 2)).shape
    (torch.Size([5, 2]), torch.Size([5, 6]))
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
        sizes = (prod(input_shape), *hidden_layer_sizes, n_components)
        self.encoder = nn.Sequential(
            OrderedDict(flatten=nn.Flatten(), **_linear_stack(sizes, activation, last="code"))
        )
        self.decoder = nn.Sequential(
            OrderedDict(
                **_linear_stack(sizes[::-1], activation, last="output"),
                unflatten=nn.Unflatten(1, tuple(input_shape)),
            )
        )


class Conv1dAutoencoder(nn.Module):
    """Strided convolutions over time and their mirror image, for series.

    Every convolution (kernel 5, stride 2, then the activation) halves the number of time steps; a
    linear layer on all that is left gives the code. The decoder's transposed convolutions give back
    exactly as many time steps as there were, whatever their number.

    Parameters
    ----------
    input_shape : tuple of int
        (time,) for series of one channel, or (channels, time).

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
    sklexplain.nets.Autoencoder : The estimator that trains it, as ``"conv1d"``.

    Examples
    --------
    >>> import torch
    >>> from sklexplain.nets import Conv1dAutoencoder
    >>> module = Conv1dAutoencoder((1, 12), n_components=2, hidden_layer_sizes=(4,))
    >>> module.encoder(torch.zeros(5, *(1, 12))).shape, module.decoder(torch.zeros(5, 2)).shape
    (torch.Size([5, 2]), torch.Size([5, 1, 12]))
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
        n_channels, n_steps = series_shape("conv1d", input_shape, "(n, channels, time)")
        channels = (n_channels, *hidden_layer_sizes)
        lengths = [n_steps]
        encoder: OrderedDict[str, nn.Module] = OrderedDict()
        upwards: list[nn.Module] = []
        if len(input_shape) == 1:
            encoder["channel"] = nn.Unflatten(1, (1, n_steps))
        for i, (n_in, n_out) in enumerate(pairwise(channels)):
            encoder[f"conv{i}"] = nn.Conv1d(n_in, n_out, 5, stride=2, padding=2)
            encoder[f"{activation}{i}"] = ACTIVATIONS[activation]()
            # 2 * ceil(length / 2) - 1 steps come back by themselves: one is missing if even.
            missing = 1 - lengths[-1] % 2
            upwards.append(nn.ConvTranspose1d(n_out, n_in, 5, 2, 2, output_padding=missing))
            lengths.append((lengths[-1] + 1) // 2)
        encoder["flatten"] = nn.Flatten()
        encoder["code"] = nn.Linear(channels[-1] * lengths[-1], n_components)
        self.encoder = nn.Sequential(encoder)

        decoder: OrderedDict[str, nn.Module] = OrderedDict(
            expand=nn.Linear(n_components, channels[-1] * lengths[-1]),
            unflatten=nn.Unflatten(1, (channels[-1], lengths[-1])),
        )
        for i, conv in enumerate(reversed(upwards)):
            decoder[f"{activation}{i}"] = ACTIVATIONS[activation]()
            decoder[f"conv{i}"] = conv
        if len(input_shape) == 1:
            decoder["channel"] = nn.Flatten()
        self.decoder = nn.Sequential(decoder)


MODULES = {
    "mlp": MLPAutoencoder,
    "conv1d": Conv1dAutoencoder,
    "conv2d": Conv2dAutoencoder,
    "lstm": LSTMAutoencoder,
}


def find_module_class(module):
    """Return the class that the parameter `module` of an autoencoder stands for.

    Parameters
    ----------
    module : str or type
        A name in `MODULES`, or a subclass of `torch.nn.Module`.

    Returns
    -------
    module_class : type
        The class.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If it is neither a name nor a class of modules.
    """
    if isinstance(module, str):
        if module not in MODULES:
            hint = did_you_mean(module.lower(), MODULES)
            raise ValueError(
                f"module={module!r} is unknown.{hint} Known are {', '.join(map(repr, MODULES))}, "
                "or pass a class with an encoder and a decoder."
            )
        return MODULES[module]
    if isinstance(module, type) and issubclass(module, nn.Module):
        return module
    if isinstance(module, nn.Module):
        raise TypeError(
            f"module={type(module).__name__}(...) is an instance: pass the class "
            f"{type(module).__name__} itself, so that every fit starts from new weights, and its "
            "arguments as net_params={'module__<argument>': ...}."
        )
    raise TypeError(
        f"module={module!r} must be one of {', '.join(map(repr, MODULES))} or a subclass of "
        "torch.nn.Module with an encoder and a decoder."
    )


def build_autoencoder(
    module_class: type[nn.Module],
    *,
    input_shape: tuple[int, ...],
    n_components: int,
    hidden_layer_sizes: Sequence[int],
    n_classes: int | None = None,
    **params: Any,
) -> AutoencoderModule:
    """Build an `AutoencoderModule` from a class that makes an encoder and a decoder.

    Parameters
    ----------
    module_class : type
        Class with the attributes encoder and decoder. It is given `input_shape`, `n_components` and
        `hidden_layer_sizes` where its constructor has parameters of these names.

    input_shape : tuple of int
        Shape of one sample.

    n_components : int
        Length of the code.

    hidden_layer_sizes : sequence of int
        Sizes of the hidden layers.

    n_classes : int or None, default=None
        Number of outputs of a linear class head on the code; no head if None.

    **params : dict
        More arguments of the class.

    Returns
    -------
    module : AutoencoderModule
        The new module.

    Raises
    ------
    TypeError
        If the class does not take one of `params`, or makes no encoder or no decoder.
    ValueError
        If ``activation`` is among `params` and the class has no such parameter.

    See Also
    --------
    sklexplain.nets.Autoencoder : The estimator that trains what is built.

    Examples
    --------
    >>> from sklexplain.nets import MLPAutoencoder, build_autoencoder
    >>> shapes = {"input_shape": (6,), "n_components": 2, "hidden_layer_sizes": (4,)}
    >>> module = build_autoencoder(MLPAutoencoder, **shapes, activation="tanh")
    >>> module.encoder.code.out_features
    2
    """
    made = built(
        module_class,
        ("encoder", "decoder"),
        input_shape=input_shape,
        n_components=n_components,
        hidden_layer_sizes=hidden_layer_sizes,
        **params,
    )
    classifier = None if n_classes is None else nn.Linear(n_components, n_classes)
    return AutoencoderModule(made.encoder, made.decoder, classifier)


def built(module_class, parts, *, input_shape, n_components, hidden_layer_sizes, **params):
    """Construct a class of modules, with what its constructor takes.

    Parameters
    ----------
    module_class : type
        It is given `input_shape`, `n_components` and `hidden_layer_sizes` where its constructor has
        parameters of these names.

    parts : sequence of str
        Attributes that must be modules.

    input_shape : tuple of int
        Shape of one sample.

    n_components : int
        Length of the code.

    hidden_layer_sizes : sequence of int
        Sizes of the hidden layers.

    **params : dict
        More arguments of the class.

    Returns
    -------
    made : torch.nn.Module
        An instance.

    Raises
    ------
    TypeError
        If the class does not take one of `params`, or lacks one of the parts.
    ValueError
        If ``activation`` is among `params` and the class has no such parameter.
    """
    name = module_class.__name__
    accepted = inspect.signature(module_class).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    for param in params:
        if param not in accepted and not takes_all:
            known = [f"module__{parameter}" for parameter in accepted]
            hint = did_you_mean(f"module__{param}", known)
            if param == "activation":
                raise ValueError(
                    f"activation={params[param]!r} cannot be set: {name} has no parameter "
                    "'activation'. Leave it at None."
                )
            raise TypeError(
                f"net_params has 'module__{param}', but {name} has no parameter {param!r}.{hint} "
                f"It has {', '.join(accepted) or 'none'}."
            )
    ours = {
        "input_shape": tuple(input_shape),
        "n_components": n_components,
        "hidden_layer_sizes": tuple(hidden_layer_sizes),
    }
    made = module_class(**{k: v for k, v in ours.items() if k in accepted} | params)
    for part in parts:
        if not isinstance(getattr(made, part, None), nn.Module):
            raise TypeError(
                f"{name} has no {part}, so module={name} cannot be used: after construction, its "
                f"attribute {part!r} must be a torch.nn.Module."
            )
    return made


def _linear_stack(sizes, activation, last):
    """Name Linear layers with activations between them: linear0, relu0, ..., and the last one."""
    layers = {}
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        if i == len(sizes) - 2:
            layers[last] = nn.Linear(n_in, n_out)
        else:
            layers[f"linear{i}"] = nn.Linear(n_in, n_out)
            layers[f"{activation}{i}"] = ACTIVATIONS[activation]()
    return layers
