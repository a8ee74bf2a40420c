"""Which parameters of a skorch net a user may set."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from skorch import NeuralNet

from ..utils import Entries, Integer, Is, check_choice, check_param

_ALL = Is("-1 (all samples)", lambda value: isinstance(value, int) and value == -1)


def check_net_params(
    extra: dict[str, Any] | None, owner: str, reserved: Mapping[str, str | None]
) -> dict[str, Any]:
    """Check the parameters of a net that its estimator passes on.

    Parameters
    ----------
    extra : dict or None
        The parameter ``net_params``.
    owner : str
        The estimator's name.
    reserved : dict of str to (str or None)
        Names that are not allowed, and the estimator's parameter to set instead.

    Returns
    -------
    extra : dict
        A copy in which integers are Python's: torch takes no others as the size of a batch.

    Raises
    ------
    TypeError
        If it is not a dict.
    ValueError
        If a parameter of the net is unknown, or is set elsewhere.
    """
    if extra is not None and not isinstance(extra, dict):
        raise TypeError(f"net_params={extra!r} must be a dict or None.")
    extra = {k: int(v) if isinstance(v, np.integer) else v for k, v in (extra or {}).items()}
    unnamed = [name for name in extra if not isinstance(name, str)]
    if unnamed:
        raise TypeError(f"net_params has the key {unnamed[0]!r}; keys are names of parameters.")
    known = inspect.signature(NeuralNet).parameters
    for name in extra:
        if name in reserved:
            home = reserved[name]
            instead = "fit starts anew"
            if home is not None:
                instead = f"set {owner}({home}=...) instead"
            raise ValueError(f"net_params may not have {name!r}: {instead}.")
        if "__" not in name:  # skorch checks the others
            check_choice("A name in net_params", name, [*known][:-1])
    if "batch_size" in extra:
        extra["batch_size"] = check_param(
            owner, "net_params['batch_size']", extra["batch_size"], [_ALL, Integer()]
        )
    if isinstance(extra.get("callbacks"), str):
        raise ValueError(
            f"net_params may not have callbacks={extra['callbacks']!r}, which would turn off "
            "the recording of losses too: set validation_split=None to train without early "
            "stopping, and verbose=0 to print nothing."
        )
    return extra


# Wider layers would take gigabytes before anything is said.
WIDTHS = [Entries("a sequence of widths, such as (100,)", Integer(1, 100_000))]
