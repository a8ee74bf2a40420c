"""Shares that features of corpus members have in a combination of representations."""

import torch

from ..explaining import AttributionEngine, Features
from ..utils import warn


def project(
    representation,
    corpus,
    positions,
    combinations,
    references,
    *,
    n_steps,
    batch_size,
    input_shape,
    verbose=0,
):
    """Project examples' shifts from a baseline on the shifts of combinations.

    Parameters
    ----------
    representation : Representation
        f, with gradients.
    corpus : ndarray of shape (n_train, ...)
        The examples, as they enter the network.
    positions : ndarray of shape (n_query, k) of int
        Which examples belong to each combination.
    combinations : ndarray of shape (n_query, N)
        Of representations.
    references : ndarray of shape (n_baselines, ...)
        Baselines, as they enter the network; averaged over.
    n_steps : int
        Number of nodes of the integral.
    batch_size : int
        Most rows in the network at once.
    input_shape : tuple of int
        Shape of a sample in raw units.
    verbose : int, default=0
        Whether to show progress.

    Returns
    -------
    projections : ndarray of shape (n_query, k, *input_shape)

    Warns
    -----
    ConvergenceWarning
        If the integral differs from its exact value by more than 5 % for some pairs.
    SklexplainWarning
        If a combination has the representation of the baseline.
    """
    k = positions.shape[1]
    engine = AttributionEngine(
        "integrated_gradients",
        {"n_steps": n_steps},
        corpus,
        Features(input_shape, representation.head),
        baseline=references,
        seed=0,
    )
    latents = representation.activations(references, batch_size)
    origin = torch.from_numpy(latents).double().mean(dim=0)
    epsilon = 16 * representation.eps
    directions = _directions(torch.from_numpy(combinations).to(origin), origin, epsilon)

    def cotangents(rows, z, z_ref):
        return directions[rows // k][:, None].to(z)

    maps = engine.maps(
        representation,
        corpus,
        cotangents,
        index=positions.ravel(),
        batch_size=batch_size,
        what="feature projections",
        items="pairs of a sample and an example",
        parameter="{}",
        verbose=verbose,
    )
    return maps.reshape(*positions.shape, *input_shape)


def _directions(combinations, origin, epsilon):
    """Return u = d / |d|^2 of every combination, 0 where d is up to rounding: (n_query, N)."""
    d = combinations - origin
    squares = (d**2).sum(dim=1, keepdim=True)
    nothing = squares <= (epsilon * origin.norm()) ** 2
    if nothing.any():
        warn(
            f"{int(nothing.sum())} combinations have the representation of the baseline itself, "
            "so there is nothing to project on; their projections are 0."
        )
    return torch.where(nothing, 0.0, d / torch.where(nothing, 1.0, squares))
