"""Scores, thresholds and p-values by what normal samples score that a model has not seen."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import OutlierMixin
from sklearn.utils import _safe_indexing

from ..representation import abnormality_sign
from ..utils import A_NUMBER, by_blocks, kept_rows, warn
from ._scores import (
    OF_RESIDUALS,
    check_sign,
    largest_square,
    mean_square,
    of_callable,
    resolved_score,
    typical_size,
)

_N_SIGNED = 1000  # fitted samples that a detector is asked about, for the sign of its scores


class CalibratedDetector(OutlierMixin):
    """Part of an explainer that calls samples abnormal.

    The explainer has ``_representation`` and ``_door(X)``, which gives ``inputs``; in ``fit`` it
    calls `_settle_sign`, `_learn_size` and `_calibrate`.
    """

    # -- the score -----------------------------------------------------------------------------

    @property
    def _kind(self):
        """What the score is, see `resolved_score`."""
        return resolved_score(self._params_at_fit.score_function, self.estimator_)

    def _encode(self, x):
        """How abnormal samples are: tensors (b, ...) to (b, 1)."""
        z = self._representation(x)
        if self._kind_at_fit == "reconstruction":
            return mean_square(z)
        if self._kind_at_fit == "largest_residual":
            return largest_square(z, self._size)
        if self._kind_at_fit == "callable":
            return of_callable(self._params_at_fit.score_function, z)
        return self._sign * z

    def _scores(self, inputs):
        """How abnormal samples are, of the network's dtype: (n, 1)."""
        representation = self._representation
        rows = representation.block_rows(self._params_at_fit.batch_size)

        def run(block):
            s = self._encode(representation.tensor(inputs[block]))
            return s.to(representation.output_dtype).cpu().numpy()

        with representation.session(), torch.no_grad():
            blocks = representation.in_blocks(run, len(inputs), rows, lambda: rows)
            return np.concatenate([s for _, s in blocks])

    def _settle_sign(self, inputs, X):
        """Find out whether larger numbers of a detector are more abnormal, and check it."""
        self._sign = 1
        if self._kind_at_fit != "decision":
            return
        method = self._representation.method
        self._sign = abnormality_sign(self.estimator_, method)
        if self._representation.n_units != 1:
            raise ValueError(
                f"{method} gives {self._representation.n_units} numbers a sample, not one; set "
                "score_function to a function of them."
            )
        rows = kept_rows(np.arange(len(inputs)), self.seed_, _N_SIGNED)
        abnormal = self._representation.called_abnormal(_safe_indexing(X, rows))
        check_sign(self._scores(inputs[rows])[:, 0], abnormal, self.estimator_, method)

    def _learn_size(self, inputs):
        """Learn how large each entry's residuals usually are."""
        self._size = None
        if self._kind_at_fit == "largest_residual":
            residuals = self._representation.activations(inputs, self._params_at_fit.batch_size)
            self._size = typical_size(np.square(residuals, dtype=np.float64).mean(axis=0))

    # -- calibration ---------------------------------------------------------------------------

    def _calibrate(self, inputs, own_size):
        """Score normal samples; ``own_size``: the size of residuals was learnt from them."""
        contamination = self._params_at_fit.contamination
        if own_size and self._kind_at_fit == "largest_residual" and len(inputs) > 1:
            scores = self._scores_by_others(inputs)
        else:
            scores = self._scores(inputs)[:, 0].astype(np.float64)
        self.calibration_scores_ = np.sort(-scores)
        self.offset_ = float(np.quantile(self.calibration_scores_, contamination))
        n = len(inputs)
        if contamination * (n + 1) < 1:
            warn(
                f"with {n} calibration samples no p-value is below 1/{n + 1} = {1 / (n + 1):.3g}, "
                f"so none reaches contamination={contamination}; give fit more normal samples."
            )

    def _scores_by_others(self, inputs):
        # A new sample has no part in what is usual; nor may these have, or they score too little.
        residuals = self._representation.activations(inputs, self._params_at_fit.batch_size)
        squares = np.square(residuals, dtype=np.float64)
        others = (squares.sum(axis=0) - squares) / (len(squares) - 1)
        return (squares / typical_size(others) ** 2).max(axis=1)

    def _warn_if_exact(self, inputs):
        """Warn if reconstructions miss nothing but rounding; single precision is never so close."""
        exact = self._kind_at_fit in OF_RESIDUALS and self._representation.eps < 1e-12
        size = np.nanmean(np.square(inputs, dtype=np.float64)) if exact else 0.0
        missed = -self.calibration_scores_[0]
        if self._kind_at_fit == "largest_residual":
            missed = np.square(self._size).mean()
        if exact and missed <= (64 * self._representation.eps) ** 2 * size:
            warn(
                "the model reconstructs every calibration sample but for rounding, so nothing "
                "tells anomalies from them; give it fewer components."
            )

    # -- judging -------------------------------------------------------------------------------

    @by_blocks(A_NUMBER)
    def score_samples(self, X: ArrayLike) -> np.ndarray:
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

    @by_blocks(A_NUMBER)
    def decision_function(self, X: ArrayLike) -> np.ndarray:
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

    @by_blocks(((), np.int64))
    def predict(self, X: ArrayLike) -> np.ndarray:
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

    @by_blocks(A_NUMBER)
    def pvalue(self, X: ArrayLike) -> np.ndarray:
        r"""Return how often a normal sample is at least as abnormal (split conformal).

        .. math:: p(x) = \frac{1 + \#\{\text{calibration samples with } s \ge s(x)\}}
                  {n_\text{cal} + 1}

        Over draws of calibration samples and a normal sample, p is at most alpha with a probability
        of at most alpha, whatever the model is, if the model was trained on neither. Trained on the
        calibration samples, it may be wrong by a factor of 4 and more. With one set of n_cal
        calibration samples the share of false alarms is alpha +- 2 sqrt(alpha (1 - alpha) / n_cal),
        and no p is below 1 / (n_cal + 1). P-values of several samples share the calibration
        samples, so they are not independent; nor are samples of one person, for which calibration
        holds whole groups back if ``fit`` is given ``groups``.

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
