"""The part of a network's output that concepts approximate."""

import numbers
from dataclasses import dataclass

import numpy as np
import torch

from ..utils import check_choice


@dataclass(frozen=True)
class Target:
    """One or several numbers made of a network's output.

    Attributes
    ----------
    units : tuple of int or None
        Output units; None for the norm of all.
    single : bool
        Whether it is one number, so that predictions have one axis.
    """

    units: tuple | None
    single: bool

    def __call__(self, output):
        """Output (b, N) to targets (b, n_targets)."""
        if self.units is None:
            return torch.linalg.vector_norm(output, dim=1, keepdim=True)
        return output[:, list(self.units)]


def resolve_target(target, n_outputs, classes=()):
    """Resolve the parameter ``target``.

    Parameters
    ----------
    target : None, int, list of int, "norm" or the name of a class
        The parameter.
    n_outputs : int
        Number of outputs of the network.
    classes : sequence, default=()
        The classes of a classifier.

    Returns
    -------
    target : Target

    Raises
    ------
    ValueError
        If an output does not exist, or the list is empty or holds one twice.
    TypeError
        If it is something else.
    """
    if target is None:
        return Target(tuple(range(n_outputs)), n_outputs == 1)
    if isinstance(target, str):
        names = _names(classes, n_outputs)
        if target != "norm" and target in names:
            return Target((names[target],), True)
        try:
            check_choice("target", target, ["norm", *names])
        except ValueError as error:
            raise ValueError(f"{error} The number of an output will do, too.") from None
        return Target(None, True)
    single = isinstance(target, numbers.Integral) and not isinstance(target, bool)
    try:
        units = np.atleast_1d(np.asarray(target))
    except ValueError as error:  # lists of different lengths
        raise TypeError(f"target={target!r:.80} is no list of numbers: {error}") from error
    if units.ndim != 1 or (units.size and units.dtype.kind not in "iu"):
        raise TypeError(
            f"target={target!r} must be the number of an output, a list of such numbers, 'norm' or "
            "None (all outputs)."
        )
    if units.size == 0:
        raise ValueError("target=[] is empty; name an output, or pass None for all.")
    unknown = units[(units < -n_outputs) | (units >= n_outputs)]
    if len(unknown):
        raise ValueError(
            f"target={target!r}: there is no output {unknown[0]}; the network has {n_outputs}, "
            f"numbered 0 to {n_outputs - 1}."
        )
    units = units % n_outputs
    if len(np.unique(units)) < len(units):
        raise ValueError(f"target={target!r} names an output twice.")
    return Target(tuple(units.tolist()), single)


def _names(classes, n_outputs):
    """Map the names of classes to the outputs that are their scores."""
    classes = list(classes)
    if len(classes) == 2 and n_outputs == 1:  # a single score is that of the second class
        return {str(classes[1]): 0} if isinstance(classes[1], str) else {}
    if len(classes) != n_outputs:
        return {}
    return {str(name): i for i, name in enumerate(classes) if isinstance(name, str)}
