"""Scores, thresholds and p-values by what normal samples score that a model has not seen."""

import numpy as np
from sklearn.base import OutlierMixin

from ..utils import warn


class CalibratedDetector(OutlierMixin):
    """Part of an explainer that calls samples abnormal.

    The explainer has ``_scores(inputs)``, larger for what is more abnormal, ``_door(X)``, which
    gives ``inputs``, and calls `_calibrate` in ``fit``.
    """

    def _calibrate(self, inputs):
        contamination = self._params_at_fit.contamination
        self.calibration_scores_ = np.sort(-self._scores(inputs)[:, 0].astype(np.float64))
        self.offset_ = float(np.quantile(self.calibration_scores_, contamination))
        n = len(inputs)
        if contamination * (n + 1) < 1:
            warn(
                f"with {n} calibration samples no p-value is below 1/{n + 1} = {1 / (n + 1):.3g}, "
                f"so none reaches contamination={contamination}; give fit more normal samples."
            )

    def _warn_if_exact(self, inputs):
        """Warn if reconstructions miss nothing but rounding; single precision is never so close."""
        exact = self._kind_at_fit == "reconstruction" and self._representation.eps < 1e-12
        size = np.nanmean(np.square(inputs, dtype=np.float64)) if exact else 0.0
        if exact and -self.calibration_scores_[0] <= (64 * self._representation.eps) ** 2 * size:
            warn(
                "the model reconstructs every calibration sample but for rounding, so nothing "
                "tells anomalies from them; give it fewer components."
            )

    def score_samples(self, X):
        """Return minus the score s: lower is more abnormal, as in scikit-learn.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
        """
        with self._door(X) as given:
            return -self._scores(given.inputs)[:, 0].astype(np.float64)

    def decision_function(self, X):
        """Return `score_samples` minus ``offset_``: negative for what is called abnormal.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        decision : ndarray of shape (n_samples,)
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Call samples normal (1) or abnormal (-1).

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        labels : ndarray of shape (n_samples,) of int
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def pvalue(self, X):
        r"""Return how often a normal sample is at least as abnormal (split conformal).

        .. math:: p(x) = \frac{1 + \#\{\text{calibration samples with } s \ge s(x)\}}
                  {n_\text{cal} + 1}

        Over draws of calibration samples and a normal sample, p is at most alpha with a probability
        of at most alpha, whatever the model is, if the model was trained on neither. Trained on the
        calibration samples, it may be wrong by a factor of 6. With one set of n_cal calibration
        samples the share of false alarms is alpha +- 2 sqrt(alpha (1 - alpha) / n_cal), and no p is
        below 1 / (n_cal + 1). P-values of several samples share the calibration samples, so they
        are not independent; nor are samples of one person, for which calibration holds whole groups
        back if ``fit`` is given ``groups``.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        p : ndarray of shape (n_samples,)
            In [1 / (n_cal + 1), 1].
        """
        scores = self.score_samples(X)
        known = self.calibration_scores_
        return (1 + np.searchsorted(known, scores, side="right")) / (len(known) + 1)
