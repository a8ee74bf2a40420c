"""The best linear decoder, in closed form: what a trained decoder should not fall behind."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from ..layers import activation_moments
from ._losses import explained_share, squared_error

# Most rows that it is fitted on, and most numbers in an array: the work grows with their cube.
_MAX_ROWS = 2000
_MAX_NUMBERS = 25_000_000
_FEWEST_ROWS = 30
# Penalties, times the number of rows: activations are of order 1.
_PENALTIES = 10.0 ** np.arange(-8, 3)
# A decoder that rebuilds less than this share of what a linear one does is said to.
_ENOUGH = 0.9
_FEWEST_TESTED = 8  # held-out samples from which something is said


@dataclass(frozen=True)
class LinearDecoder:
    """A ridge regression from activations to samples.

    Attributes
    ----------
    z_mean, x_mean : ndarray of shape (p,), ndarray of shape (d,)
        Means of the rows that it was fitted on.
    scale : float
        The number by which activations are divided.
    basis : ndarray of shape (p, k)
        Directions of activations, of length 1.
    weights : ndarray of shape (k, d)
        From the coordinates in these to samples.
    penalty : float
        The penalty, chosen by generalised cross-validation.
    left_out : ndarray of shape (n,)
        Squared error of every fitted row by the regression that leaves it out.
    """

    z_mean: np.ndarray
    x_mean: np.ndarray
    scale: float
    basis: np.ndarray
    weights: np.ndarray
    penalty: float
    left_out: np.ndarray

    def errors(self, z, x):
        """Squared error of each sample, summed over its entries.

        Parameters
        ----------
        z : ndarray of shape (n, ...)
            Activations.
        x : ndarray of shape (n, ...)
            Samples.

        Returns
        -------
        errors : ndarray of shape (n,)
        """
        coordinates = (z.reshape(len(z), -1) - self.z_mean) / self.scale @ self.basis
        rebuilt = coordinates @ self.weights + self.x_mean
        return np.square(rebuilt - x.reshape(len(x), -1)).sum(axis=1)


def fit_ridge(z, x):
    """Fit a ridge regression whose penalty is chosen by generalised cross-validation.

    Parameters
    ----------
    z : ndarray of shape (n, ...)
        Activations.
    x : ndarray of shape (n, ...)
        Samples.

    Returns
    -------
    decoder : LinearDecoder
    """
    n = len(z)
    z_mean, scale = activation_moments(z)
    z = ((z - z_mean) / scale).reshape(n, -1)
    x = x.reshape(n, -1).astype(np.float64)
    x_mean = x.mean(axis=0)
    x = x - x_mean
    # The smaller of the two matrices of inner products has the same spectrum.
    values, vectors = np.linalg.eigh(z @ z.T if n <= z.shape[1] else z.T @ z)
    known = values > n * np.finfo(np.float64).eps * max(values[-1], np.finfo(np.float64).tiny)
    values, vectors = values[known], vectors[:, known]
    roots = np.sqrt(values)
    if n <= z.shape[1]:
        left, right = vectors, z.T @ vectors / roots
    else:
        left, right = z @ vectors / roots, vectors
    coordinates = left.T @ x  # (k, d)
    squares = np.square(coordinates).sum(axis=1)
    outside = max(np.square(x).sum() - squares.sum(), 0.0)
    best = np.inf, None
    for penalty in n * _PENALTIES:
        kept = values / (values + penalty)
        freedom = n - kept.sum() - 1
        if freedom <= 1e-3 * n:  # every row is met: nothing can be said of others
            continue
        missed = (squares * np.square(1 - kept)).sum() + outside
        best = min(best, (n * missed / freedom**2, penalty))
    penalty = n * _PENALTIES[-1] if best[1] is None else best[1]
    kept = values / (values + penalty)
    missed = x - left @ (kept[:, None] * coordinates)
    # What leaving out a row does to its own prediction; the mean is learned, too.
    own = 1 / n + np.square(left) @ kept
    left_out = np.square(missed).sum(axis=1) / np.square(np.maximum(1 - own, 1e-12))
    weights = (kept / roots)[:, None] * coordinates
    return LinearDecoder(z_mean.ravel(), x_mean, scale, right, weights, penalty, left_out)


def rows_for_ridge(rows, n_numbers, seed):
    """Draw so many rows that a regression on them is cheap, all if they are few.

    Parameters
    ----------
    rows : ndarray of int
        Rows to draw from.
    n_numbers : int
        Activations and entries of one sample.
    seed : int
        Determines the draw.

    Returns
    -------
    rows : ndarray of int
        In their order.
    """
    most = min(_MAX_ROWS, max(_FEWEST_ROWS, _MAX_NUMBERS // n_numbers))
    if len(rows) <= most:
        return rows
    return np.sort(np.random.RandomState(seed).choice(rows, most, replace=False))


@dataclass(frozen=True)
class Bound:
    """What a trained decoder and a linear one rebuild of the same samples.

    Attributes
    ----------
    errors, linear_errors : ndarray of shape (n,)
        Squared error of each sample.
    total : float
        Their squared deviation from the fitted mean.
    """

    errors: np.ndarray
    linear_errors: np.ndarray
    total: float

    @property
    def kept(self):
        """Share of the deviation that the trained decoder rebuilds."""
        return explained_share(float(self.errors.sum()), self.total)

    @property
    def kept_by_linear(self):
        """Share of the deviation that the linear decoder rebuilds."""
        return explained_share(float(self.linear_errors.sum()), self.total)

    @property
    def falls_behind(self):
        """Whether the trained decoder rebuilds clearly less."""
        difference = self.errors - self.linear_errors
        n = len(difference)
        if n < _FEWEST_TESTED or self.kept >= _ENOUGH * self.kept_by_linear:
            return False
        half = stats.t.ppf(0.975, n - 1) * difference.std(ddof=1) / np.sqrt(n)
        return bool(difference.mean() > half)

    @property
    def finding(self):
        """What is to be said if it does; None else."""
        if not self.falls_behind:
            return None
        return (
            f"Of held-out samples it rebuilds {self.kept:.0%} of the variation, a linear "
            f"regression on the same activations {self.kept_by_linear:.0%}: what it misses is not "
            "missing in the layer."
        )


def bound_of(module, layer, z, inputs, mean, train, valid, seed):
    """Compare a trained decoder with a linear one.

    Parameters
    ----------
    module : Decoding
        The trained decoder, without encoder.
    layer : Layer
        The layer that is decoded.
    z : ndarray of shape (n, *shape)
        Its activations.
    inputs : ndarray of shape (n, ...)
        Samples.
    mean : ndarray of shape (...)
        Mean sample in the network's units.
    train, valid : ndarray of int, ndarray of int or None
        Rows that the decoder was trained on, and rows held out. Without these the linear decoder is
        tested on rows that it leaves out one by one, the trained one on what it was trained on.
    seed : int
        Determines which rows are used, if there are many.

    Returns
    -------
    bound : Bound
    """
    n_numbers = int(np.prod(layer.shape)) + mean.size
    train = rows_for_ridge(train, n_numbers, seed)
    ridge = fit_ridge(z[train], layer.in_network_units(inputs[train]).numpy())
    tested = train if valid is None else rows_for_ridge(valid, n_numbers, seed)
    x = layer.in_network_units(inputs[tested])
    linear = ridge.left_out if valid is None else ridge.errors(z[tested], x.numpy())
    with torch.no_grad():
        device = layer.representation.device
        parts = [
            module.samples(module(torch.from_numpy(z[rows]).to(device))[0]).cpu().double()
            for rows in np.array_split(tested, -(-len(tested) // 256))
        ]
    errors = squared_error(torch.cat(parts), x).numpy()
    total = float(squared_error(torch.from_numpy(mean), x).sum())
    return Bound(errors, linear, total)
