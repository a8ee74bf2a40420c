"""How good label-free maps are: what masking their most important features moves."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from ..base_attributor import BaseAttributor, Samples
from ..explaining import BASELINES, fall_curve, fitted_baseline, latent_shift, raw_baselines
from ..utils import ARRAY, CALLABLE, MAPPING, Choice, check_positive_int


class JudgedAttributor(BaseAttributor):
    """Base of attributors whose maps are judged by masking features with the fitted mean.

    Beside `BaseAttributor`'s, a subclass has the parameter ``baseline``, and in ``_fit`` it calls
    `_learn_baseline` and sets ``_units``, ``_contrast`` and ``_basis``.
    """

    _reads_rows = True

    _parameter_constraints = {"baseline": [Choice(*BASELINES), CALLABLE, ARRAY, MAPPING]}

    def _handed(self, inputs, X):
        own = self._own_baselines()
        own = None if own is None else raw_baselines(own, self._representation, X)
        return Samples(inputs, self._slopes(X), own)

    def _own_baselines(self):
        baseline = self._params_at_fit.baseline
        return baseline if callable(baseline) else None

    def _learn_baseline(self, inputs):
        """Keep the mean, and the baseline, of fitted samples as they enter the network."""
        representation = self._representation
        self._mean = self._fitted_mean(inputs)
        self._baseline = fitted_baseline(
            self._params_at_fit.baseline,
            representation,
            inputs,
            mean=self._mean,
            input_shape=self.input_shape_,
            seed=self.seed_,
            estimator=self,
        )

    @property
    def mean_(self) -> np.ndarray | None:
        """Mean of the fitted data, as the network or black box takes it."""
        check_is_fitted(self)
        return self._shown(self._mean[None]) if self._is_frame else self._mean

    @property
    def baseline_(self) -> object:
        """Baseline rows, as the network or black box takes them; None for a callable."""
        check_is_fitted(self)
        return None if self._baseline is None else self._shown(self._baseline)

    def latent_shift(self, X: ArrayLike, n_random: int = 10) -> Bunch:
        """Latent shift as features are masked, most and least important first (Fig. 2).

        With a corpus, the fall of how like the corpus (and unlike the foil) the samples are: the
        features that add most to it first, and those that take most away. Then ``full_shift`` is
        the mean absolute change when all are masked, and ``separation`` the area between the two
        curves over that. ``area_ratio`` is the area under the first curve over that under the
        random one R; where random masks make samples more like the corpus nearly as much as others
        less (R is under a third of the samples' mean absolute area), it is 1 plus the difference of
        the two areas over that third, as a ratio to what cancels would be anything.

        Features are masked with the fitted mean, whatever ``baseline`` is, so that settings
        compare fairly; with a ``basis``, coefficients are. Features without any effect, as far as
        the given samples show, are not among the random ones: columns that the model never reads
        do not make a map look better.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.
        n_random : int, default=10
            Number of random orders to compare with, common to all samples.

        Returns
        -------
        curve : Bunch
            See `sklexplain.metrics.latent_shift_curve`.
        """
        with self._door(X) as samples:
            return self._latent_shift(samples, self._order(samples), n_random)

    def _order(self, samples, sure=False):
        """Return maps whose features are masked; with ``sure``, warn where their order is not."""
        if sure:
            return self._judged(samples, signed=self._contrast is not None)
        return self._mapped(samples)

    def _latent_shift(self, samples, maps, n_random):
        check_positive_int("n_random", n_random)
        representation, batch_size = self._representation, self._params_at_fit.batch_size
        basis, contrast, X, mean = self._basis, self._contrast, samples.inputs, self._mean
        dtype = X.dtype
        if basis is not None:
            X, mean = (basis.coefficients(v.astype(np.float64)) for v in (X, mean))

        def encode(rows):
            rows = rows if basis is None else basis.series(rows).astype(dtype)
            z = representation.activations(rows, batch_size)
            return z[:, self._units] if contrast is None else contrast.scaled_rows(z)

        common = {
            "channel_axis": self._sample.channel_axis,
            "n_random": n_random,
            "batch_size": batch_size,
            "is_numeric": True if self._table is None else ~self._table.coded,
            "random_state": self.seed_,
        }
        if contrast is None:
            return latent_shift(encode, X, maps, self._features, mask_value=mean, **common)
        references = [np.broadcast_to(mean, X.shape)]
        return fall_curve(
            encode,
            X,
            maps,
            self._features,
            references=references,
            along=contrast.direction,
            **common,
        )

    def score(self, X: ArrayLike, y: ArrayLike | None = None) -> float:
        """Area under the latent-shift curve over that of random masking; needs no labels.

        It compares explanations of one representation, never two representations. With a corpus
        it is ``area_ratio`` of the fall, see `latent_shift`.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples, best held out.
        y : object, default=None
            Ignored.

        Returns
        -------
        score : float
            1 is chance; higher is better.

        Warns
        -----
        SklexplainWarning
            If masking moves nothing at all; the score is 1 then.
        ConvergenceWarning
            If a method draws so little that for most samples the first feature cannot be told from
            the second (their attributions are less than two standard errors apart).
        """
        with self._door(X) as samples:
            maps = self._order(samples, sure=True)
            return float(self._latent_shift(samples, maps, 10).area_ratio)
