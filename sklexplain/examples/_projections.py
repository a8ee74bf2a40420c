"""Shares that features of corpus members have in a combination of representations."""

import numpy as np
import torch
from tqdm import tqdm

from ..exceptions import ConvergenceWarning
from ..explaining import integrated_gradients_path, path_gradients
from ..utils import warn

_MAX_ERROR = 0.05


def project(
    representation,
    corpus,
    positions,
    combinations,
    references,
    *,
    n_steps,
    block_rows,
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
    block_rows : int
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
        If the integral misses what it should be by more than 5 %.
    UserWarning
        If a combination is where the baseline is.
    """
    n_query, k = positions.shape
    chosen = positions.ravel()
    parts, missed, total = [], 0.0, 0.0
    with representation.session(), torch.no_grad():
        baselines = representation.tensor(references)
        origin = representation(baselines).double().mean(dim=0)
        epsilon = 16 * torch.finfo(representation.output_dtype).eps
        cotangents = _directions(torch.from_numpy(combinations).to(origin), origin, epsilon)
        path = integrated_gradients_path(len(baselines), n_steps)
        step = max(1, block_rows // n_steps)
        for i in tqdm(range(0, len(chosen), step), desc="projections", disable=not verbose):
            pairs = np.arange(i, min(i + step, len(chosen)))
            x = representation.tensor(corpus[chosen[pairs]])
            u = cotangents[pairs // k]
            maps = path_gradients(
                representation, x, baselines[None], u[:, None].to(x), path, block_rows
            )[:, 0]
            shift = representation(x).double() - origin
            expected = (shift * u).sum(dim=1)
            missed += (maps.double().flatten(1).sum(dim=1) - expected).abs().sum().item()
            total += (shift.norm(dim=1) * u.norm(dim=1)).sum().item()
            parts.append(_to_features(maps.cpu().numpy(), representation.head, input_shape))
    if missed > _MAX_ERROR * total:
        warn(
            f"the feature projections miss the sum they should have by {missed / total:.0%}; "
            "raise n_steps.",
            ConvergenceWarning,
        )
    dtype = str(representation.output_dtype).removeprefix("torch.")
    return np.concatenate(parts).reshape(n_query, k, *input_shape).astype(dtype, copy=False)


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


def _to_features(maps, head, input_shape):
    """Sum over what preprocessing made of a raw column: (b, *input_shape)."""
    if head is None:
        return maps
    flat = maps.reshape(len(maps), -1)
    out = np.zeros((len(maps), int(np.prod(input_shape))), dtype=maps.dtype)
    np.add.at(out, (slice(None), np.ravel(head.columns)), flat)
    return out
