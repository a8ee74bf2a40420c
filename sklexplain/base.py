"""The base of every explainer."""

import copy
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from .representation import (
    Representation,
    check_columns,
    check_estimator_type,
    fitted_estimator,
    shared_or_cloned,
    takes_raw_columns,
)
from .utils import as_array_like, cast_checked, check_positive_int, draw_seed, validate_X

# Stand-in for the base that is being written beside this; not to be merged.
_LIVE = ("batch_size", "verbose", "n_jobs", "max_bytes")
_PROBED = ("n_units", "_batch_axis", "_in_place", "_bytes_per_row", "no_torch_form")


class FittedParams:
    """Stand-in: parameters as they were in fit."""

    def __init__(self, explainer):
        params = {k: v for k, v in explainer.get_params(deep=False).items() if k != "estimator"}
        plain = (dict, list, np.ndarray)
        for name, value in params.items():
            vars(self)[name] = copy.deepcopy(value) if isinstance(value, plain) else value


class BaseExplainer(TransformerMixin, BaseEstimator):
    """Base class of all explainers: resolves the estimator and validates X, once for all.

    A subclass stores its parameters in ``__init__`` (among them ``estimator``, ``layer``,
    ``batch_size``, ``device``, ``random_state`` and ``verbose``) and implements ``_fit(inputs, y)``
    and ``transform``; in both, ``self._representation`` maps inputs to representations.

    Attributes
    ----------
    estimator_ : nn.Module or estimator
        The fitted estimator that is explained.
    n_features_in_ : int
        Size of axis 1 of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, if X was a DataFrame with names.
    input_shape_ : tuple of int
        Shape of one sample.
    seed_ : int
        Seed of everything random, derived from ``random_state`` in ``fit``.
    """

    def fit(self, X, y=None):
        """Resolve the estimator, fitting a clone of it if it is unfitted, and learn from X.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Training samples, in raw units.
        y : array-like of shape (n_samples,), default=None
            Targets, handed to the estimator if it has to be fitted.

        Returns
        -------
        self : object
            The fitted explainer.

        Raises
        ------
        TypeError
            If ``estimator`` is no model.
        NotFittedError
            If ``estimator`` is partly fitted.
        ValueError
            If X has missing values, another shape than the network takes, or is empty.
        """
        # First, so that what is no model is refused as such, whatever X is.
        check_estimator_type(self.estimator)
        self._check_params()
        X = as_array_like(X)
        raw = takes_raw_columns(self.estimator)
        checked = validate_X(self, X, reset=True, raw=raw)
        # A DataFrame goes on as it is: a ColumnTransformer may need its names.
        given = X if raw or hasattr(X, "columns") else checked
        self.estimator_ = fitted_estimator(self.estimator, given, y)
        check_columns(
            self.estimator_, self.n_features_in_, getattr(self, "feature_names_in_", None)
        )
        self.seed_ = draw_seed(self.random_state)
        self._raw = raw
        self._fitted_params = FittedParams(self)
        representation = self._made_representation()
        inputs = representation.inputs(checked)
        representation.probe(inputs)
        self._representation = representation
        self._probed = {name: getattr(representation, name) for name in _PROBED}
        with self._ready():
            self._fit(self._cast(inputs), y)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray) and np.shares_memory(value, inputs):
                setattr(self, name, value.copy())
        return self

    _keeps_results = False
    _not_saved = ("_representation_of_fit",)

    def _made_representation(self):
        return Representation(
            self.estimator_,
            self.n_features_in_,
            **self._explained(),
            device=self.device,
            seed=self.seed_,
        )

    @property
    def _representation(self):
        check_is_fitted(self)
        if "_representation_of_fit" not in vars(self):
            self._representation_of_fit = self._made_representation()
            vars(self._representation_of_fit).update(self._probed)
        return self._representation_of_fit

    @_representation.setter
    def _representation(self, value):
        self._representation_of_fit = value

    @contextmanager
    def _ready(self):
        if not self._keeps_results:
            yield
            return
        with self._representation.session(), torch.no_grad():
            yield

    @contextmanager
    def _door(self, X):
        inputs = self._inputs(X)
        with self._ready():
            yield inputs

    @property
    def _params_at_fit(self):
        for name in _LIVE:
            if hasattr(self, name):
                setattr(self._fitted_params, name, getattr(self, name))
        return self._fitted_params

    def transform(self, X):
        """Stand-in."""
        with self._door(X) as inputs:
            return self._output(self._transform(inputs))

    def __getstate__(self):
        return {k: v for k, v in super().__getstate__().items() if k not in self._not_saved}

    def _check_params(self):
        """Validate parameters; subclasses extend it."""
        check_positive_int("batch_size", self.batch_size)

    def _explained(self):
        """Say what of the estimator is explained, as arguments of `Representation`."""
        return {"layer": self.layer}

    def _fit(self, inputs, y):
        """Learn from validated inputs; the hook of subclasses."""

    def _inputs(self, X):
        """Validate X against what was seen in fit, and return the representation's inputs."""
        check_is_fitted(self)
        X = validate_X(self, X, reset=False, raw=self._raw)
        return self._cast(self._representation.inputs(X))

    def _cast(self, inputs):
        """Check that the network's dtype can hold the inputs."""
        representation = self._representation
        if representation.takes_integers and inputs.dtype.kind not in "iu":
            raise TypeError(
                f"the network takes integers (token numbers, for example) but X has dtype "
                f"{inputs.dtype}; pass X.astype('int64')."
            )
        names = getattr(self, "feature_names_in_", None)
        if names is not None and representation.head is not None:
            names = names[representation.head.columns]
        dtype = np.dtype(str(representation.input_dtype).removeprefix("torch."))
        return cast_checked(inputs, dtype, names)

    def _output(self, values):
        """Return explanations as they are, or with flat columns where a DataFrame is asked for."""
        if values.ndim > 2 and self._container() != "default":
            return values.reshape(len(values), -1)
        return values

    def _container(self):
        from sklearn import get_config

        config = getattr(self, "_sklearn_output_config", {})
        return config.get("transform", get_config()["transform_output"])

    def __sklearn_clone__(self):
        """Clone the explainer; a fitted estimator or module is kept, not reset."""
        params = self.get_params(deep=False)
        estimator = shared_or_cloned(params.pop("estimator"))
        fresh = type(self)(estimator, **{k: clone(v, safe=False) for k, v in params.items()})
        for name in ("_metadata_request", "_sklearn_output_config"):
            if hasattr(self, name):
                setattr(fresh, name, clone(getattr(self, name), safe=False))
        return fresh

    def __sklearn_tags__(self):
        """Say what the explainer takes: what its estimator takes."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        if takes_raw_columns(self.estimator):
            tags.input_tags.allow_nan = True
        return tags
