"""Copies of networks in which one layer has new random weights."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..layers import copied, named_layers, plain_name, unknown_layer
from ..representation import torch_modules
from ..utils import ModelLike, RandomState, draw_seed, seeded
from ._weights import draw_part


def randomized_layers(
    estimator: ModelLike, layers: Sequence[str] | None = None, random_state: RandomState = None
) -> Iterator[tuple[str, Any]]:
    """Copy a model once for every layer, with the weights of just that layer drawn anew.

    What each layer has learned shows by what is lost without it: "independent" randomisation, as in
    section 4.2 of Bertolini, Clevert & Montanari, "Explaining, Evaluating and Enhancing Neural
    Networks' Learned Representations".

    Parameters
    ----------
    estimator : nn.Module, skorch net or scikit-learn estimator
        The model; a fitted estimator that holds one network, a Pipeline for example. It is left as
        it is.
    layers : list of str or None, default=None
        Names as in ``named_modules()``. None: every layer that has a weight matrix (or kernel) of
        its own and a method ``reset_parameters``, in the order of ``named_modules()``.
    random_state : int, RandomState instance or None, default=None
        Determines the weights. A layer's do not depend on which other layers are asked for.

    Returns
    -------
    copies : iterator of (str, object)
        For every layer its name and a copy of ``estimator``, on the same device, in which the
        layer's own parameters are what its ``reset_parameters`` draws; its running statistics, if
        it has any, start anew. Nothing else changes: neither layers inside of it (an attention's
        output projection) nor others that it shares weights with. Each copy is made when it is
        asked for, and that raises a ValueError if one of the layer's weight matrices, as it
        computes with them, is the same as before.

    Raises
    ------
    ValueError
        If a layer does not exist or has no ``reset_parameters``, or the model holds no network or
        several.

    See Also
    --------
    sklexplain.NoiseScorer : With ``reference``, how far such networks have moved.

    Examples
    --------
    >>> import torch
    >>> from sklexplain.training import randomized_layers
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> [name for name, _ in randomized_layers(net, random_state=0)]
    ['0', '2']
    """
    # Errors are raised at once, not when the first copy is asked for.
    names = _checked_layers(_network(estimator), layers)
    return _copies(estimator, names, draw_seed(random_state))


def _copies(estimator: ModelLike, names: Sequence[str], seed: int) -> Iterator[tuple[str, Any]]:
    for name in names:
        randomized = copied(estimator, torch_modules(estimator))
        network = _network(randomized)
        try:
            _reset(named_layers(network)[name], network, seed, name)
        except ValueError as error:
            raise ValueError(
                f"layer {name!r} cannot be randomised: {error}. Leave it out of layers."
            ) from None
        yield name, randomized


def _network(estimator: ModelLike) -> nn.Module:
    modules = list(torch_modules(estimator))
    if len(modules) != 1:
        raise ValueError(
            f"{type(estimator).__name__} holds {len(modules)} networks, and the layers to "
            "randomise are those of one; pass that one."
        )
    return modules[0]


def _checked_layers(network: nn.Module, layers: Sequence[str] | None) -> list[str]:
    modules = named_layers(network)
    if layers is None:
        return [name for name, m in modules.items() if _can_reset(m) and _has_weights(m)]
    layers = [plain_name(name, modules) for name in layers]
    for name in layers:
        if name not in modules:
            raise unknown_layer(name, modules)
        if not _can_reset(modules[name]):
            known = [n for n, m in modules.items() if _can_reset(m) and _has_weights(m)]
            raise ValueError(
                f"layer {name!r} ({type(modules[name]).__name__}) has no reset_parameters to draw "
                f"its weights anew; layers that have are {known}."
            )
    return layers


def _can_reset(module: nn.Module) -> bool:
    return hasattr(module, "reset_parameters") or hasattr(module, "_reset_parameters")


def _has_weights(module: nn.Module) -> bool:
    own = list(module.parameters(recurse=False))
    for computed in getattr(module, "parametrizations", {}).values():
        own += computed.parameters()
    return any(parameter.dim() > 1 for parameter in own)


def _reset(layer: nn.Module, network: nn.Module, seed: int, name: str) -> None:
    """Draw a layer's weights on the CPU, so that they are the same on every device."""
    tensors = [*layer.parameters(), *layer.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    # The name counts: layers of the same shape are not given the same weights.
    mixed = np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1)
    layer.to("cpu")
    with seeded(int(mixed[0])), torch.no_grad():
        draw_part(layer, network)
    layer.to(device)
