"""How good an explanation by concepts is."""

import numpy as np
import torch

from ..exceptions import UndefinedMetricWarning
from ..utils import in_blocks, warn


def unit_relevance(representation, tap, target, scale, inputs, batch_size):
    """Share of every unit of a layer in the targets: mean |Z dy/dZ|, divided by the sum.

    Parameters
    ----------
    representation : Representation
        Of the network.
    tap : LayerTap
        The layer.
    target : callable
        From the network's output to the targets.
    scale : tensor of shape (n_targets,)
        The numbers by which targets are divided, so that they can be added.
    inputs : ndarray of shape (n, ...)
        Samples.
    batch_size : int
        Most samples at once.

    Returns
    -------
    relevance : ndarray of shape `tap.shape`
        Sums to one; where nothing matters all units count alike.
    """
    total = np.zeros(tap.shape)
    with representation.session():

        def run(rows):
            x, shares = representation.tensor(inputs[rows]), []
            for j, (z, gradient) in enumerate(tap.gradients(x, target)):
                share = (z * gradient).abs().sum(dim=0, dtype=torch.float64)
                shares.append((share / scale[j].double()).cpu().numpy())
            return shares

        for _, shares in in_blocks(run, len(inputs), batch_size):
            for share in shares:
                total += share
    total = total if total.sum() > 0 else np.ones(tap.shape)
    return total / total.sum()


def prediction_r2(true, predicted):
    """R² of predictions, averaged over targets that vary.

    Parameters
    ----------
    true, predicted : ndarray of shape (n, n_targets)
        Values.

    Returns
    -------
    r2 : float
        1.0 if no target varies and all are met, 0.0 if one of those is missed. NaN for a single
        sample, which cannot vary.
    """
    if len(true) < 2:
        warn(
            "R² is not defined for fewer than two samples: both parts of the score are NaN.",
            UndefinedMetricWarning,
        )
        return float("nan")
    true, predicted = true.astype(np.float64), predicted.astype(np.float64)
    error = np.square(true - predicted).sum(axis=0)
    total = np.square(true - true.mean(axis=0)).sum(axis=0)
    return float(_r2(error, total)[1].mean())


def unit_r2(blocks, mean, weights):
    """R² of the reconstruction of every unit, averaged with weights.

    Parameters
    ----------
    blocks : iterable of (ndarray, ndarray)
        Activations and reconstructions (b, *shape), all samples block by block.
    mean : ndarray of shape `shape`
        Mean activation over all samples.
    weights : ndarray of shape `shape`
        Non-negative; those of units that vary are made to sum to one.

    Returns
    -------
    r2 : float
        NaN for a single sample.
    """
    error, total, n = np.zeros(mean.shape), np.zeros(mean.shape), 0
    for z, reconstructed in blocks:
        n += len(z)
        error += np.square(z - reconstructed, dtype=np.float64).sum(axis=0)
        total += np.square(z - mean).sum(axis=0)
    if n < 2:
        return float("nan")
    varies, r2 = _r2(error, total)
    weights = weights[varies] if varies.any() else weights.ravel()
    if weights.sum() == 0:
        weights = np.ones(len(weights))
    return float(np.average(r2, weights=weights))


def total_r2(blocks, mean):
    """R² of the reconstruction of all units together.

    Parameters
    ----------
    blocks : iterable of (ndarray, ndarray)
        Activations and reconstructions (b, *shape), all samples block by block.
    mean : ndarray of shape `shape`
        Mean activation over all samples.

    Returns
    -------
    r2 : float
        Where nothing varies, 1.0 without an error and 0.0 with one. NaN for a single sample.
    """
    error, total, n, eps = 0.0, 0.0, 0, 0.0
    for z, reconstructed in blocks:
        n, eps = n + len(z), np.finfo(z.dtype).eps
        error += float(np.square(z - reconstructed, dtype=np.float64).sum())
        total += float(np.square(z - mean).sum())
    if n < 2:
        warn(
            "R² is not defined for fewer than two samples: the score is NaN.",
            UndefinedMetricWarning,
        )
        return float("nan")
    rounding = n * mean.size * (8 * eps * np.abs(mean).max(initial=0.0)) ** 2
    if total <= rounding:
        return float(error <= rounding)
    return 1 - error / total


def _r2(error, total):
    """Which entries vary, and their R²; where none does, 1 for those without error."""
    varies = total > 0
    if varies.any():
        return varies, 1 - error[varies] / total[varies]
    return varies, (error == 0).astype(np.float64).ravel()
