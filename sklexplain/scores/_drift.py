"""Drift: how unusual maps are, compared with those of the fitted data."""

import numpy as np
from sklearn.covariance import LedoitWolf

_MIN_SAMPLES = 20
_ROUNDING = 1e-6  # of networks in single precision, relative


class DriftReference:
    """Distances of feature vectors from those of reference samples, with p-values.

    One half of the samples gives mean and covariance (shrunk, of standardised features), the other
    half the distances that are usual: as it took no part in the first step, p-values are those of
    split conformal prediction, uniform or larger for a sample from the same distribution, whatever
    that is.

    Parameters
    ----------
    first, second : ndarray of shape (n, n_features)
        Features of each half.
    """

    def __init__(self, first, second):
        self.mean = first.mean(axis=0)
        # A feature that does not vary must not make a sample look unusual by rounding alone.
        floor = np.maximum(_ROUNDING * np.abs(self.mean), 1e-12)
        self.scale = np.maximum(first.std(axis=0), floor)
        self.covariance = LedoitWolf(assume_centered=True).fit(self._standardised(first))
        self.usual = np.sort(self.distances(second))

    def _standardised(self, features):
        return (features - self.mean) / self.scale

    def distances(self, features):
        """Mahalanobis distances: (n, n_features) to (n,)."""
        squared = self.covariance.mahalanobis(self._standardised(features))
        return np.sqrt(np.maximum(squared, 0))

    def p_values(self, distances):
        """Share of the usual distances, this one included, that are at least as large."""
        n = len(self.usual)
        n_larger = n - np.searchsorted(self.usual, distances, side="left")
        return (1 + n_larger) / (n + 1)


def split_in_halves(n_samples, rng):
    """Draw the positions of the two halves.

    Parameters
    ----------
    n_samples : int
        Number of samples to divide.
    rng : numpy.random.Generator
        Draws the order.

    Returns
    -------
    halves : list of two ndarrays of int

    Raises
    ------
    ValueError
        If there are fewer than 20 samples.
    """
    if n_samples < _MIN_SAMPLES:
        raise ValueError(
            f"the distribution of {n_samples} fitted samples is not known well enough to tell what "
            f"is unusual; fit on at least {_MIN_SAMPLES}, better hundreds, or use "
            "method='relative'."
        )
    return np.array_split(rng.permutation(n_samples), 2)
