"""The base of explainers whose maps in features the attribution engine makes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from .base import BaseExplainer
from .explaining import (
    METHODS,
    RECORDS,
    AttributionEngine,
    Estimates,
    Features,
    check_gradients,
    check_operations,
    checked_params,
    intervals,
    mean_sample,
    resolve_groups,
    warn_of_close,
    warn_of_unreached,
)
from .representation import no_gradient_reason
from .utils import (
    ARRAY,
    FLAG,
    MAPPING,
    NONE,
    VERBOSE,
    ArrayOrFrame,
    Choice,
    Names,
    Number,
    by_blocks,
    kept_rows,
    numpy_dtype_of,
    streamed_mean,
    validated,
)


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


def _draws(explainer):
    """Whether the method draws at random, so that its attributions have standard errors."""
    fitted = explainer.__sklearn_is_fitted__()
    method, _ = explainer._method_of(explainer._params_at_fit if fitted else explainer)
    if method in METHODS and not METHODS[method].samples:
        drawing = [name for name, record in METHODS.items() if record.samples]
        raise AttributeError(
            f"standard errors are of methods that draw at random ({', '.join(drawing)}); "
            f"method={method!r} does not."
        )
    return True


class BaseAttributor(BaseExplainer):
    """Base of explainers that share a number out among the features of each sample.

    Beside `BaseExplainer`'s, a subclass has the parameters ``method``, ``method_params``,
    ``groups``, ``absolute``, ``batch_size`` and ``verbose``. In ``_fit`` it calls `_learn_features`
    first, then makes the engine of its baseline with `_make_engine` and keeps samples with
    `_keep_for_importances`. ``_function()`` says which function of a sample is shared out.
    """

    _parameter_constraints = {
        "method": [Choice(table=METHODS)],
        "method_params": [MAPPING, NONE],
        "groups": [MAPPING, ARRAY, NONE],
        "absolute": [FLAG],
        "verbose": [VERBOSE],
    }

    _basis = None  # along time, whose coefficients are attributed to; subclasses may have one

    def _check_params(self):
        super()._check_params()
        checked_params(*self._method_of(self))

    @staticmethod
    def _method_of(params):
        """Name of the method and what is set of its parameters."""
        return params.method, params.method_params

    @property
    def _method(self):
        """Name of the method, as it was in ``fit``."""
        return self._method_of(self._params_at_fit)[0]

    def _cells(self):
        """Cells that are explained where there are no groups, one number an entry; None: each."""
        return None

    def _slopes(self, X):
        """Return derivatives of the inputs by raw columns, where the method needs them."""
        in_raw_slope = RECORDS[self._method].in_raw_slope
        return self._representation.slopes(X) if in_raw_slope else None

    # -- fit -----------------------------------------------------------------------------------

    def _learn_features(self):
        """Decide what is attributed to, and whether the method can do that."""
        representation, params = self._representation, self._params_at_fit
        reason = None if representation.differentiable else no_gradient_reason(representation)
        check_gradients(self._method, reason)
        check_operations(self._method, representation.hidden)
        index, self.groups_ = self._cells(), None
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
        method, changes = self._method_of(self._params_at_fit)
        self._engine = AttributionEngine(
            method,
            checked_params(method, changes),
            inputs,
            self._features,
            baseline=baseline,
            seed=self.seed_,
            basis=self._basis,
        )

    def _fitted_mean(self, inputs):
        """Return the mean sample, of all of what is in dask if these are a part of it.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
            Fitted samples, as they enter the network or black box.

        Returns
        -------
        mean : ndarray of shape (...)
        """
        representation = self._representation
        # Text and token numbers have no mean, and most frequent values are known from a sample.
        has_mean = representation.table is None and not representation.takes_integers
        if self._whole is None or not has_mean:
            return mean_sample(representation, inputs)
        return streamed_mean(self._whole, self)

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
        if RECORDS[self._method].needs_gradients:
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

    def _function(self):
        """Say which function of each sample is explained, as arguments of `_maps`."""
        raise NotImplementedError(f"{type(self).__name__} has no _function()")

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
        maps = self._run_engine(samples, cotangents, encode=encode, by_mass=by_mass)
        return np.abs(maps) if getattr(self._params_at_fit, "absolute", False) else maps

    def _run_engine(self, samples, cotangents, **options):
        params = self._params_at_fit
        return self._engine.maps(
            self._representation,
            samples.inputs,
            cotangents,
            batch_size=params.batch_size,
            own_baseline=samples.baselines,
            slopes=samples.slopes,
            verbose=params.verbose,
            **options,
        )

    def _row_form(self):
        shape = self.input_shape_ if self.groups_ is None else (len(self.groups_),)
        return shape, numpy_dtype_of(self._representation.output_dtype)

    def _mapped(self, samples):
        """Return maps of samples as the engine takes them, one a sample."""
        return self._maps(samples, **self._function())[:, 0]

    def _estimates(self, samples):
        """Return maps, not their absolute values, and how sure they are: (n, ...) each."""
        found = self._run_engine(samples, **self._function(), with_spread=True)
        return Estimates(*(values[:, 0] for values in found))

    def _handed_samples(self, handed):
        """Return what the engine takes of what the door hands on."""
        return handed

    @available_if(_draws)
    @by_blocks(lambda self: self._row_form())
    def standard_errors(self, X: ArrayLike) -> ArrayOrFrame:
        """Estimate how far the attributions are from those of endless draws.

        Of methods that draw at random: the standard error of the very numbers that `transform`
        returns, from the same draws, at the price of computing these. Between them,
        `confidence_intervals` have the right quantiles.

        * shapley_sampling: from the spread of pairs of an order and its reverse; a last order
          without its reverse is left out. The limit is the Shapley value.
        * kernel_shap: from pairs of complementary coalitions, each left out once (CR3). The limit
          is the Shapley value; where all coalitions are used the error is 0.
        * lime: of a weighted regression with unequal variances (HC3). The limit is the same ridge
          with the same strength of penalty on all coalitions, not one without penalty. With few
          coalitions for the features, errors are somewhat too large.
        * gradient_shap, smooth_grad: from the spread of draws; the limit is the expected gradient
          over the fitted background, or the gradient that noise has smoothed. Where gradients are
          constant in pieces (ReLU) and noise is small, errors may be too small.

        They cover the draws only: not that other background rows might have been fitted, nor that
        the model might have been trained on other data. With fewer than about ten pairs they are
        themselves rough.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        errors : ndarray of the shape of ``transform(X)``
            With ``absolute=True``, of the value before its sign was dropped. NaN where too few
            draws tell nothing: fewer than two (pairs), or coalitions so few that without one (pair)
            of them features could not be told apart.

        Raises
        ------
        NotFittedError
            If called before ``fit``.
        AttributeError
            If the method does not draw.
        ValueError
            See `transform`.
        """
        with self._door(X) as handed:
            return self._estimates(self._handed_samples(handed)).errors

    @available_if(_draws)
    @validated(confidence_level=[Number(above=0, below=1)])
    def confidence_intervals(self, X: ArrayLike, confidence_level: float = 0.95) -> Bunch:
        """Compute attributions with intervals that hold their limits, for each by itself.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.
        confidence_level : float, default=0.95
            How often an interval is to hold the limit, see `standard_errors`.

        Returns
        -------
        intervals : Bunch
            With ``attributions``, as of `transform`; their ``standard_errors``; these'
            ``degrees_of_freedom`` (pairs or draws less one; infinite where nothing is left to
            chance); ``low`` and ``high``, by quantiles of Student's t. All have one shape.

        Raises
        ------
        NotFittedError
            If called before ``fit``.
        AttributeError
            If the method does not draw.
        ValueError
            If ``confidence_level`` is not between 0 and 1; see also `transform`.
        """
        with self._door(X) as handed:
            found = self._estimates(self._handed_samples(handed))
        return intervals(found, confidence_level, getattr(self._params_at_fit, "absolute", False))

    def _judged(self, samples, signed=False):
        """Return maps for `score`, which stands on the order of features, so that has to be sure.

        Parameters
        ----------
        samples : Samples
            What to explain.
        signed : bool, default=False
            Whether what takes away comes last, not by its size.

        Returns
        -------
        maps : ndarray of shape (n, ...)

        Warns
        -----
        ConvergenceWarning
            If the method draws, and for most samples not enough to tell the first feature from the
            second.
        """
        if not RECORDS[self._method].samples:
            return self._mapped(samples)
        found = self._estimates(samples)
        signed = signed and not self._params_at_fit.absolute
        maps = found.maps if signed else np.abs(found.maps)
        warn_of_close(maps, found.errors, "method_params['n_samples']")
        return np.abs(found.maps) if self._params_at_fit.absolute else found.maps

    def _own_baselines(self):
        """Return the callable, or None, that finds baselines of the kept samples."""
        return None

    @property
    def feature_importances_(self) -> np.ndarray:
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

    def get_feature_names_out(self, input_features: Names | None = None) -> np.ndarray:
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
