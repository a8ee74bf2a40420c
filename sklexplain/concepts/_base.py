"""The base of explainers that learn concepts of a layer's activations."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from ..base import BaseExplainer
from ..representation import LayerTap
from ..utils import Baseline, Names
from ._maps import baseline_concepts


class ConceptExplainer(BaseExplainer):
    """Base of explainers whose `transform` returns values of concepts.

    A subclass calls `_find_layer` in ``_fit``, and has ``_encoded(inputs)``, the concepts that maps
    explain, and ``_n_features_out``, how many there are.
    """

    _keeps_results = True
    _reads_rows = True
    # Methods of maps beside those of the attribution engine.
    _more_map_methods: tuple[str, ...] = ()

    def _explained(self):
        return {"link": False}

    def _find_layer(self, inputs):
        tap = LayerTap.find(self._representation, self._params_at_fit.layer, inputs)
        self._record, self.layer_, self.layer_shape_ = tap.record, tap.name, tap.shape
        return tap

    @property
    def _tap(self):
        """The layer of the network that runs."""
        return LayerTap(self._representation, self._record)

    def baseline_concepts(self, X: ArrayLike, baseline: Baseline = "mean") -> np.ndarray:
        """Values of the concepts at the baseline: what maps of concepts count from.

        Of methods whose maps sum to something, the values that are mapped minus these are that sum.
        Those of a `SparseDictionary` are from before the k largest are chosen.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples; they matter only if each has its own baseline.
        baseline : str, array-like or callable, default="mean"
            As of `concept_attributions`.

        Returns
        -------
        concepts : ndarray of shape (n_samples, n_concepts)
            Of a baseline of several rows the mean of their concepts.
        """
        return baseline_concepts(self, X, baseline)

    def get_feature_names_out(self, input_features: Names | None = None) -> np.ndarray:
        """Names of the columns of `transform`.

        Parameters
        ----------
        input_features : object, default=None
            Ignored.

        Returns
        -------
        names : ndarray of str
            ``concept0``, ``concept1``, …
        """
        check_is_fitted(self)
        return np.asarray([f"concept{i}" for i in range(self._n_features_out)], dtype=object)
