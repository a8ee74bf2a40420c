"""Drift: how unusual maps are, compared with those of the fitted data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.covariance import LedoitWolf

from ..utils import A_NUMBER, by_blocks, check_choice
from ._functions import map_ranges, scaled_maps

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


class DriftMixin:
    """How unusual samples are, for a scorer of maps; see `NoiseScorer`."""

    # What the scorer has.
    _door: Callable[..., Any]
    _scores: Callable[..., Any]
    _usual_scores: Callable[..., Any]

    @by_blocks(A_NUMBER)
    def drift(
        self, X: ArrayLike, method: Literal["relative", "distance"] = "relative"
    ) -> np.ndarray:
        """How far samples have drifted from the data given to ``fit``.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.
        method : {"relative", "distance"}, default="relative"
            ``"relative"``: (N - N(x)) / N, N(x) averaged over layers and N over the fitted data too
            (section 4.4 of the paper). It is positive where samples are looked at more as noise
            is, so it needs samples inside the range of the noise; outside it, samples become
            unlike noise again and it turns negative. ``"distance"``: two-sided, with no such range:
            the Mahalanobis distance, from the fitted data, of three numbers per layer: the noise
            score, the mean absolute difference of the map from the fitted data's mean map, and the
            logarithm of the map's range before it is scaled.

        Returns
        -------
        drift : ndarray of shape (n_samples,)
            0 means no drift.

        Raises
        ------
        ValueError
            If there is no such method, or ``"distance"`` has fewer than 20 fitted samples.

        Notes
        -----
        On tables either sees little of drift, and ``"relative"`` may turn negative with strong
        noise; see `drift_pvalue`.
        """
        check_choice("method", method, ("relative", "distance"))
        with self._door(X) as inputs:
            if method == "distance":
                reference = self._drift_reference()
                return reference.distances(self._drift_features(inputs))
            usual = self._usual_scores().mean()
            scores = self._scores(inputs)[0].mean(axis=1)
        if usual == 0:
            raise ValueError(
                "every fitted sample has a noise score of 0 at every layer, which nothing can be "
                "relative to; use method='distance'."
            )
        return (usual - scores) / usual

    @by_blocks(A_NUMBER)
    def drift_pvalue(self, X: ArrayLike) -> np.ndarray:
        """P-values of no drift: the rank of ``drift(X, method="distance")`` among fitted samples.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        p_values : ndarray of shape (n_samples,)
            Each, for a sample from the distribution of the data given to ``fit``, is at most p with
            probability p or less (split conformal). At least 1 / (n // 2 + 1) for n fitted samples,
            as half of them are ranked.

        Raises
        ------
        ValueError
            If there are fewer than 20 fitted samples.

        Notes
        -----
        A network may treat the data it was trained on unlike new data: fit on held-out data.

        On tables this sees little. Of an autoencoder of breast cancer's 30 columns, noise of one
        standard deviation in every column was flagged in 6 % of the samples, of three in 42 %, six
        standard deviations in one column in 5 %, as many as without drift; the reconstruction error
        with a p-value of the same kind flagged 63 %, 100 % and 88 %.
        It is meant for series and images.
        """
        with self._door(X) as inputs:
            reference = self._drift_reference()
            return reference.p_values(reference.distances(self._drift_features(inputs)))

    def _drift_reference(self):
        """Return the reference of drift, which is computed when it is first needed."""
        if "drift" not in self._later:
            rng = np.random.default_rng([self.seed_, 2])
            first, second = split_in_halves(len(self._fit_inputs), rng)
            self._later["maps"] = self._mean_of_maps(self._fit_inputs[first])
            features = [self._drift_features(self._fit_inputs[half]) for half in (first, second)]
            self._later["drift"] = DriftReference(*features)
        return self._later["drift"]

    def _mean_of_maps(self, inputs):
        """Mean scaled map of samples and its mean range before scaling, for each layer."""
        sums = [[0.0, 0.0] for _ in self._points]
        for maps in self._map_batches(inputs):
            for total, m, scaled in zip(sums, maps, scaled_maps(maps), strict=True):
                total[0] += scaled[0].double().sum(dim=0)
                total[1] += map_ranges(*m)[0].sum().item()
        return [((m / len(inputs)).cpu().numpy(), r / len(inputs)) for m, r in sums]

    def _drift_features(self, inputs):
        """Noise score, difference from the mean map and log range: (n, 3 n_layers)."""
        parts = []
        for maps in self._map_batches(inputs):
            scaled = scaled_maps(maps)
            columns = [*self._against_noise(scaled)[0].T]
            for m, s, (mean, usual) in zip(maps, scaled, self._later["maps"], strict=True):
                mean = torch.from_numpy(mean).to(s.device)
                columns.append((s[0] - mean).abs().mean(dim=-1).cpu().numpy())
                # A map that is constant has no logarithm of its range.
                ranges = map_ranges(*m)[0].cpu().numpy()
                columns.append(np.log(ranges + 1e-3 * usual + (usual == 0)))
            parts.append(np.stack(columns, axis=1))
        return np.concatenate(parts)
