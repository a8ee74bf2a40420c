"""The base of explainers whose maps in features the attribution engine makes."""

from typing import NamedTuple

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .base import BaseExplainer
from .explaining import (
    METHODS,
    AttributionEngine,
    Features,
    check_gradients,
    check_operations,
    checked_params,
    resolve_groups,
    warn_of_unreached,
)
from .representation import no_gradient_reason
from .utils import ARRAY, FLAG, MAPPING, NONE, VERBOSE, Choice, kept_rows


class Samples(NamedTuple):
    """Samples as the engine takes them.

    Attributes
    ----------
    inputs : ndarray of shape (n, ...)
        As they enter the network.
    slopes : ndarray of shape (n, ...) or None
        Their derivatives by raw columns, where preprocessing is in front and the method asks.
    baselines : callable, ndarray of shape (n, ...) or None
        Each one's own baseline, or what returns it of inputs.
    """

    inputs: np.ndarray
    slopes: np.ndarray | None
    baselines: object


class BaseAttributor(BaseExplainer):
    """Base of explainers that share a number out among the features of each sample.

    Beside `BaseExplainer`'s, a subclass has the parameters ``method``, ``method_params``,
    ``groups``, ``absolute``, ``batch_size`` and ``verbose``. In ``_fit`` it calls `_learn_features`
    first, then makes the engine of its baseline with `_make_engine` and keeps samples with
    `_keep_for_importances`.
    """

    _parameter_constraints = {
        "method": [Choice(*METHODS)],
        "method_params": [MAPPING, NONE],
        "groups": [MAPPING, ARRAY, NONE],
        "absolute": [FLAG],
        "verbose": [VERBOSE],
    }

    _basis = None  # along time, whose coefficients are attributed to; subclasses may have one

    def _check_params(self):
        super()._check_params()
        checked_params(self.method, self.method_params)

    def _slopes(self, X):
        """Return derivatives of the inputs by raw columns, where the method needs them."""
        in_raw_slope = METHODS[self._params_at_fit.method].in_raw_slope
        return self._representation.slopes(X) if in_raw_slope else None

    # -- fit -----------------------------------------------------------------------------------

    def _learn_features(self):
        """Decide what is attributed to, and whether the method can do that."""
        representation, params = self._representation, self._params_at_fit
        reason = None if representation.differentiable else no_gradient_reason(representation)
        check_gradients(params.method, reason)
        check_operations(params.method, representation.hidden)
        index, self.groups_ = None, None
        if params.groups is not None:
            names = getattr(self, "feature_names_in_", None)
            index, self.groups_ = resolve_groups(params.groups, self.input_shape_, names)
        self._features = Features(self.input_shape_, representation.head, index)

    def _make_engine(self, inputs, baseline):
        """Make the engine of the method.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
            Fitted samples, as they enter the network.
        baseline : ndarray of shape (K, ...) or None
            Baseline rows; None: each sample has its own.
        """
        params = self._params_at_fit
        self._engine = AttributionEngine(
            params.method,
            checked_params(params.method, params.method_params),
            inputs,
            self._features,
            baseline=baseline,
            seed=self.seed_,
            basis=self._basis,
        )

    def _warn_of_unreached(self, inputs, encode):
        """Warn if a method of gradients misses inputs that matter.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
            Fitted samples, as they enter the network.
        encode : callable
            What is explained, of tensors.

        Warns
        -----
        UnreachedInputWarning
            If no gradient reaches some of them.
        """
        params = self._params_at_fit
        if METHODS[params.method].needs_gradients:
            warn_of_unreached(
                self._representation,
                inputs,
                getattr(self, "feature_names_in_", None),
                batch_size=params.batch_size,
                encode=encode,
                seed=self.seed_,
            )

    def _keep_for_importances(self, samples):
        """Keep a copy of up to 1000 samples, for `feature_importances_`.

        Parameters
        ----------
        samples : Samples
            The fitted ones.
        """
        kept = {k: v for k, v in samples._asdict().items() if isinstance(v, np.ndarray)}
        self._kept = {name: kept_rows(values, self.seed_) for name, values in kept.items()}
        self._later = {}  # what is computed when it is first asked for

    # -- explaining ----------------------------------------------------------------------------

    def _maps(self, samples, cotangents, encode=None, by_mass=False):
        """Make the engine's maps: (n, k, ...).

        Parameters
        ----------
        samples : Samples
            What to explain.
        cotangents : callable
            See `AttributionEngine.maps`.
        encode : callable or None, default=None
            See `AttributionEngine.maps`.
        by_mass : bool, default=False
            See `AttributionEngine.maps`.

        Returns
        -------
        maps : ndarray
        """
        params = self._params_at_fit
        maps = self._engine.maps(
            self._representation,
            samples.inputs,
            cotangents,
            batch_size=params.batch_size,
            encode=encode,
            own_baseline=samples.baselines,
            slopes=samples.slopes,
            by_mass=by_mass,
            verbose=params.verbose,
        )
        return np.abs(maps) if params.absolute else maps

    def _mapped(self, samples):
        """Return maps of samples as the engine takes them, one a sample."""
        return self._transform(samples)

    def _own_baselines(self):
        """Return the callable, or None, that finds baselines of the kept samples."""
        return None

    @property
    def feature_importances_(self):
        """Mean absolute attribution over the data given to ``fit``, or 1000 of its samples."""
        check_is_fitted(self)
        if "importances" not in self._later:
            defaults = {"slopes": None, "baselines": self._own_baselines()}
            samples = Samples(**defaults | self._kept)
            with self._inside(samples.inputs):
                maps = np.abs(self._mapped(samples))
            self._later["importances"] = maps.mean(axis=0)
        return self._later["importances"]

    # -- what is shown -------------------------------------------------------------------------

    @property
    def _is_frame(self):
        return self._table is not None and self._table.is_frame

    def _shown(self, rows):
        """Return rows that enter the network or black box as their user gave them."""
        return self._representation.restored(rows) if self._is_frame else rows

    def get_feature_names_out(self, input_features=None):
        """Names of the columns of `transform` under ``set_output``.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Column names of two-dimensional X, checked against those seen in ``fit``.

        Returns
        -------
        names : ndarray of str
            Column names, group names, or ``ch0_t12`` for entries of series.
        """
        check_is_fitted(self)
        if self.groups_ is not None:
            return np.asarray(self.groups_, dtype=object)
        if len(self.input_shape_) == 1:
            from sklearn.utils.validation import _check_feature_names_in

            return _check_feature_names_in(self, input_features)
        return self._sample.names()
