"""What `EmbeddingAttributor` explains: which layer, which units, with which weights."""

import numpy as np
import torch
from sklearn.utils import check_random_state

from ..layers import rounding_of


def are_probabilities(z):
    """Whether there are two outputs, between 0 and 1, that sum to 1 for every sample."""
    sums = z.double().sum(dim=1)
    rounding = float(rounding_of(torch.ones((), dtype=z.dtype)))
    return bool(
        z.shape[1] == 2
        and (z >= 0).all()
        and (z <= 1).all()
        and ((sums - 1).abs() <= rounding).all()
    )


def check_torch_form(explainer, representation):
    """Raise a TypeError if there is no network to look into."""
    if representation.no_torch_form is not None:
        raise TypeError(
            f"{type(explainer).__name__} looks into the layers of a network, but "
            f"{representation.no_torch_form} has no torch form; use LabelFreeAttributor with a "
            "perturbation method ('feature_ablation', 'kernel_shap', …)."
        )


def chosen_units(n_units, n_all, seed):
    """Positions of a random subset of units, in order; of all where there are no more."""
    if n_units is None or n_units >= n_all:
        return np.arange(n_all)
    return np.sort(check_random_state(seed).choice(n_all, n_units, replace=False))


def checked_weights(weights, n_units):
    """Weights of the units as a tensor.

    Parameters
    ----------
    weights : array-like of shape (n_units,) or None
        The parameter ``unit_weights``.
    n_units : int
        Number of all units of the embedding.

    Returns
    -------
    weights : torch.Tensor of float64 of shape (n_units,) or None

    Raises
    ------
    ValueError
        If there is not one finite number for each unit.
    """
    if weights is None:
        return None
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (n_units,) or not np.isfinite(weights).all():
        raise ValueError(
            f"unit_weights of shape {weights.shape} must hold one finite number for each of the "
            f"embedding's {n_units} units."
        )
    return torch.from_numpy(weights)


def last_layer(representation, inputs, at):
    """Find the last layer with positions beside channels, else the last before the output."""
    all_points = representation.points(inputs, None, at)
    at_input = all_points if at == "input" else None
    for points in (all_points, at_input or representation.points(inputs, None, "input")):
        for i in reversed(range(len(points))):
            point = points[i]
            if point.has_channels and np.prod(point.spatial_shape) > 1 and not point.is_output:
                return points.only(i)
    n_before = len(all_points.hidden)
    if n_before:
        return all_points.only(n_before - 1)
    return representation.points(inputs, [""], "input")
