"""Copies of networks, also of those that keep results of a pass."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def copied(value: Any, modules: Iterable[nn.Module] | None = None) -> Any:
    """Copy a network, or something that holds networks.

    Parameters
    ----------
    value : object
        A module, several in a tuple, or an estimator; it stays as it is.
    modules : iterable of nn.Module or None, default=None
        The networks that it holds; None: ``value`` is a module.

    Returns
    -------
    copy : object
        Where a module keeps what it has computed of its weights (old weight_norm and spectral_norm,
        pruning, recurrent layers with parametrizations), a tensor that torch does not copy, there
        is another of the same values.
    """
    memo = {}
    for network in [value] if modules is None else modules:
        for part in network.modules():
            for held in vars(part).values():
                for tensor in held if isinstance(held, (list, tuple)) else (held,):
                    if isinstance(tensor, torch.Tensor) and not tensor.is_leaf:
                        memo[id(tensor)] = tensor.detach().clone()
    return copy.deepcopy(value, memo)
