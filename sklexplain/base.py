"""The base of every explainer: the whole trip of X in, and of explanations out."""

from __future__ import annotations

import inspect
import re
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.metadata_routing import MetadataRouter
from sklearn.utils.validation import check_is_fitted

from .base_dask import SamplesInDask, then_by_blocks
from .base_door import Door
from .layers import N_TRIED
from .representation import (
    RESPONSE_METHODS,
    NotFiniteError,
    Representation,
    as_texts,
    check_columns,
    check_estimator_type,
    check_response_method,
    check_vectoriser,
    checked_texts,
    fitted_estimator,
    may_take_raw,
    represent,
    routed_params,
    routes,
    shared_or_cloned,
    takes_raw_columns,
    unwrap,
    vectoriser_of,
    warn_of_few_values,
)
from .samples import Sample
from .utils import (
    AXIS,
    NONE,
    SEED,
    ArrayOrFrame,
    Choice,
    Device,
    Entries,
    FittedParams,
    Integer,
    Text,
    as_array_like,
    by_blocks,
    check_params,
    dask_kind,
    documented,
    draw_seed,
    first_missing,
    on_cpu_by_default,
    own_arrays,
    own_value,
    spread_places,
    validate_X,
)

# Words of errors about the values of X, in any library.
_ABOUT_VALUES = re.compile(
    r"convert|nan|null|infinit|finite|numeric|dtype|\bstr(ing)?s?\b|promot|supported", re.IGNORECASE
)
# What scikit-learn keeps beside parameters; fitting does not end it.
_SETTINGS = ("_metadata_request", "_sklearn_output_config")
# Parameters that name a layer; a method of the estimator cannot be explained then.
_LAYERS = ("layer", "output")
# What scikit-learn puts there before it calls fit, and looks for afterwards.
_DURING_FIT = ("_skl_callbacks", "_parent_callback_ctx")


class BaseExplainer(Door, SamplesInDask, TransformerMixin, BaseEstimator):
    """Base class of all explainers: validates X, resolves the estimator, runs its network.

    A subclass stores its parameters in ``__init__``, ``estimator`` among them, and has two hooks:

    * ``_fit(inputs, y)`` learns from validated inputs;
    * ``_transform(inputs)`` returns explanations of validated inputs, one row a sample.

    In both ``self._representation`` maps tensors of samples to representations, without gradients
    unless they are switched on; ``self._representation.activations(inputs, batch_size)`` does so
    for all samples, and ``self._params_at_fit`` has the parameters as they were in ``fit``, and of
    ``batch_size="auto"`` the number that it stands for. Where
    ``fit_transform`` differs from ``fit`` and ``transform``, there is ``_fit_transform(inputs)``.
    Other public methods that take X begin with ``with self._door(X) as inputs:``. ``_row_form()``
    returns the shape and dtype of one sample's explanation, so that samples in dask can be
    explained lazily.

    Parameters that every explainer has, and that are None where the subclass has no such one:
    ``layer``, ``batch_size``, ``device``, ``random_state``, ``channel_axis``; ``"auto"``:
    ``response_method``.

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

    See Also
    --------
    sklexplain.testing.nd_checks : Checks for a class of your own.
    sklexplain.examples.BaseExampleImportance : The base of example importance.

    Notes
    -----
    The network of the estimator is never touched: views of it are run, which share its weights and
    nothing else, so that others can use it, or train it, meanwhile. Arrays that are kept are
    copies. If ``fit`` fails or is interrupted, the explainer is what it was before. A fitted
    explainer can be used by several threads at once; ``fit`` by one.

    Cost: `fit` runs a few dozen rows through the network, to see what it is, beside what a
    subclass does.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from sklexplain.base import BaseExplainer
    >>> class Surprise(BaseExplainer):
    ...     def __init__(self, estimator, *, batch_size="auto"):
    ...         self.estimator = estimator
    ...         self.batch_size = batch_size
    ...
    ...     def _fit(self, inputs, y):
    ...         self.mean_ = self._z(inputs).mean(axis=0)
    ...
    ...     def _transform(self, inputs):
    ...         return abs(self._z(inputs) - self.mean_)
    ...
    ...     def _row_form(self):
    ...         return self.mean_.shape, self.mean_.dtype
    ...
    ...     def _z(self, inputs):
    ...         return self._representation.activations(inputs, self._params_at_fit.batch_size)
    >>> X = np.random.RandomState(0).normal(size=(50, 3))
    >>> Surprise(PCA(2)).fit(X).transform(X).shape
    (50, 2)
    """

    # What values parameters may have; subclasses have tables of their own. Not of every parameter
    # that is so called is it known: "auto" may be allowed, or what depends on X and the estimator.
    _parameter_constraints = {
        "layer": [Text("the name of a layer"), NONE],
        "output": [Text("the name of a layer"), NONE],
        "response_method": [
            Choice("auto", *RESPONSE_METHODS),
            Entries("a list of names", Choice(*RESPONSE_METHODS)),
        ],
        "channel_axis": [Choice("auto"), AXIS, NONE],
        "batch_size": [Integer(), Choice("auto")],
        "device": [Device(), NONE],
        "random_state": [SEED],
    }

    # Arguments of ``fit`` that the explainer takes itself, not only its estimator.
    _own_fit_params: tuple[str, ...] = ()
    # Whether something fitted is a result of the network, and wrong once the network has changed.
    _keeps_results = False
    # Whether it matters that an output takes few different values: of maps and neighbours it does.
    _minds_few_values = True
    # Whether hooks are called again where memory was short; most only run a block again.
    _whole_again = False
    # Whether `_transform` takes large samples as `Rows`, cast where they are looked at.
    _reads_rows = False
    # Attributes that are made anew after loading instead of being saved: they hold modules.
    _not_saved: tuple[str, ...] = ("_representation_of_fit",)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for name in ("transform", "fit_transform"):
            hook = cls.__dict__.get(f"_{name}")
            if hook is not None and name not in cls.__dict__ and inspect.getdoc(hook):
                setattr(cls, name, documented(cls, BaseExplainer, name, hook))

    # -- fit -----------------------------------------------------------------------------------

    def fit(self, X: ArrayLike, y: ArrayLike | None = None, **fit_params: Any) -> Self:
        """Resolve the estimator, fitting a clone of it if it is unfitted, and learn from X.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Training samples, in raw units. Of a dask Array or DataFrame, up to 10 000 samples
            (fewer of large ones) are drawn by ``random_state`` and fitted on; means are of all.
        y : array-like of shape (n_samples,), default=None
            Targets, handed to the estimator if it has to be fitted.
        **fit_params : object
            Handed to the ``fit`` of an unfitted estimator: ``sample_weight``, for example. With
            metadata routing enabled, what the estimator requested.

        Returns
        -------
        self : object
            The fitted explainer.

        Raises
        ------
        TypeError
            If ``estimator`` is no model, or ``fit_params`` are given though nothing is fitted.
        NotFittedError
            If ``estimator`` is partly fitted.
        ValueError
            If X has missing values that the estimator does not take (a network is tried on a sample
            that has some), another shape than the network takes, or is empty; or if the network's
            output is not finite, or no function of each sample by itself.

        Warns
        -----
        RandomModelWarning
            If the network draws random numbers.
        FewValuesWarning
            If an estimator without torch form gives few different values for the samples.
        SklexplainWarning
            If X is in dask, and not all of it is fitted on.
        """
        # First, so that what is no model is refused as such, whatever X is.
        check_estimator_type(self.estimator)
        params = self._validate_params()
        before = vars(self).copy()
        try:
            with on_cpu_by_default():
                self._fit_all(X, y, params, routed_params(self, fit_params))
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        return self

    def _fit_all(self, X, y, params, fit_params):
        kept = {*params, *_SETTINGS, *_DURING_FIT}
        for name in [name for name in vars(self) if name not in kept]:
            delattr(self, name)  # of an earlier fit
        self.seed_ = draw_seed(params.get("random_state"))
        if dask_kind(X) is not None:
            X, y = self._drawn(X, y, fit_params)
        given = as_array_like(X), None if y is None else as_array_like(y)
        X, y = given
        are_texts = as_texts(X) is not None
        if are_texts:
            check_vectoriser(unwrap(self.estimator))
            checked, obstacle = checked_texts(X, type(self).__name__), None
        else:
            checked, obstacle = self._checked(X)
        with _blaming(obstacle):
            # A DataFrame goes on as it is: a ColumnTransformer may need its names.
            fitted_on = X if hasattr(X, "columns") else checked
            self.estimator_ = self._fitted_estimator(fitted_on, y, fit_params)
            if are_texts:
                words = vectoriser_of(unwrap(self.estimator_)).get_feature_names_out()
                self.feature_names_in_ = np.asarray(words, dtype=object)
                self.n_features_in_ = len(words)
                self.input_shape_ = (len(words),)
            names = getattr(self, "feature_names_in_", None)
            check_columns(self.estimator_, self.input_shape_, names)
            self._remember(X, y)
            self._values_at_fit = {
                name: value if name == "estimator" else own_value(value)
                for name, value in params.items()
            }
            representation = self._represent(checked)
        self._raw = representation.takes_raw
        self._texts = are_texts
        self._representation_of_fit = representation
        self._probe, self._table = representation.probe, representation.table
        if not self._raw:
            if may_take_raw(self.estimator):  # so far only the container was looked at
                checked = validate_X(self, checked, reset=False, allow_nan=True)
            self._check_missing(checked)
        self._sample = Sample.of(self, representation.probe)
        if self._keeps_results:
            self._fingerprint = representation.fingerprint()
        inputs = self._cast(representation.inputs(checked))
        with self._inside(inputs):
            if self._minds_few_values:
                rows = getattr(self._params_at_fit, "batch_size", None) or self._most_rows("auto")
                warn_of_few_values(representation, inputs, rows, self.seed_)
            handed = self._handed(inputs, checked)
            self._in_memory(lambda: self._fit(handed, y))
            own_arrays(self, [*given, *self.get_params(deep=False).values()], skip=params)
        if self._table is not None:
            self._table.settle()
        representation.forget_recordings()
        vars(self).pop("_whole", None)

    def _fitted_estimator(self, X, y, fit_params):
        """Return what is explained, fitted on X if it was not; subclasses may hold samples back.

        Parameters
        ----------
        X : array-like or DataFrame
            Samples in raw units.
        y : array-like or None
            Targets.
        fit_params : dict
            More arguments of its ``fit``.

        Returns
        -------
        estimator : nn.Module or estimator
        """
        return fitted_estimator(self.estimator, X, y, fit_params)

    @property
    def _represented(self):
        """The fitted estimator, or another made of it, whose output is the representation."""
        return self.estimator_

    def _checked(self, X):
        """Validate X in fit, and say what keeps it from being finite numbers, if anything does.

        Returns
        -------
        X : ndarray or DataFrame
            As it was given unless only numbers will do; these may be missing.
        obstacle : Exception or None
            To be raised if the estimator cannot take X as it is.
        """
        if not may_take_raw(self.estimator):
            return validate_X(self, X, reset=True, allow_nan=True), None
        X = validate_X(self, X, reset=True, raw=True)
        try:
            validate_X(self, X, reset=False)
        except (ValueError, TypeError) as error:
            return X, error
        return X, None

    def _represent(self, X):
        """Make the representation, which is run on a few samples."""
        make = partial(
            represent, self._represented, self.n_features_in_, **self._representation_params()
        )
        try:
            return make(X=X)
        except Exception as error:
            if not isinstance(X, np.ndarray):
                raise
            places = spread_places(len(X), N_TRIED)
            gap = first_missing(X[places])
            if gap is None:
                raise
            try:
                make(X=np.nan_to_num(X[places]))
            except Exception:  # so it is not what is missing
                raise error from None
            raise self._missing_error(X[places[gap]], places[gap]) from error

    def _validate_params(self):
        """Validate parameters; return them, numpy's numbers as Python's."""
        checked = check_params(self)
        self._check_params()
        return self.get_params(deep=False) | checked

    def _check_params(self):
        """Validate what the table cannot say; subclasses extend it."""
        named = [name for name in _LAYERS if getattr(self, name, None) is not None]
        place = f"{named[0]}={getattr(self, named[0])!r}" if named else None
        check_response_method(getattr(self, "response_method", "auto"), self.estimator, place)

    def _remember(self, X, y):
        """Note what of X and y as they were given is needed later; for subclasses.

        Parameters
        ----------
        X : array-like or DataFrame
            Samples, of which the container tells more than the numbers.
        y : array-like or None
            Targets.
        """

    def _explained(self):
        """Say what of the estimator is explained, as arguments of `Representation`."""
        return {"layer": getattr(self._params_at_fit, "layer", None)}

    def _representation_params(self):
        params = self._params_at_fit
        return {
            "response_method": getattr(params, "response_method", "auto"),
            "device": getattr(params, "device", None),
            "seed": self.seed_,
            **self._explained(),
        }

    def _fit(self, inputs, y):
        """Learn from validated inputs; a hook of subclasses.

        Parameters
        ----------
        inputs : ndarray of shape (n_samples, ...)
            Samples as they enter the network (or black box), in its dtype.
        y : array-like or None
            What was given to ``fit``.
        """

    # -- transform -----------------------------------------------------------------------------

    def transform(self, X: ArrayLike) -> ArrayOrFrame:
        """Explain samples.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples, of the shape given to ``fit``. A dask Array or DataFrame is explained block
            by block, when the result is computed.

        Returns
        -------
        explanations : ndarray of shape (n_samples, ...)
            See the class.

        Raises
        ------
        NotFittedError
            If called before ``fit``.
        ValueError
            If X does not have the fitted shape, holds infinity, or NaN that the estimator does not
            take, or if the network's output is not finite.
        """
        with self._door(X, by_rows=self._reads_rows) as inputs:
            return self._output(self._in_memory(lambda: self._transform(inputs)))

    def fit_transform(
        self, X: ArrayLike, y: ArrayLike | None = None, **fit_params: Any
    ) -> ArrayOrFrame:
        """Fit, and explain the same samples.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Training samples, in raw units.
        y : array-like of shape (n_samples,), default=None
            See ``fit``.
        **fit_params : object
            See ``fit``.

        Returns
        -------
        explanations : ndarray of shape (n_samples, ...)
            What ``fit(X, y).transform(X)`` returns, unless the class says otherwise.
        """
        self.fit(X, y, **fit_params)
        with self._door(X) as inputs:
            explain = getattr(self, "_fit_transform", self._transform)
            return self._output(self._in_memory(lambda: explain(inputs)))

    def _in_memory(self, call):
        """Call a hook, again with fewer rows at once where it does not make do with less itself."""
        while self._whole_again:
            try:
                return call()
            except torch.OutOfMemoryError:
                if not self._representation.shrink(self._params_at_fit.batch_size):
                    raise
        return call()

    def _transform(self, inputs):
        """Return explanations of validated inputs; a hook of subclasses.

        Parameters
        ----------
        inputs : ndarray of shape (n_samples, ...)
            Samples as they enter the network (or black box), in its dtype.

        Returns
        -------
        explanations : ndarray of shape (n_samples, ...)
        """
        raise NotImplementedError(f"{type(self).__name__} has no _transform(inputs)")

    def _output(self, values):
        """Return explanations as they are, or with flat columns where a DataFrame is asked for."""
        if values.ndim > 2 and self._container() != "default":
            return values.reshape(len(values), -1)
        return values

    def _container(self):
        from sklearn import get_config

        config = getattr(self, "_sklearn_output_config", {})
        return config.get("transform", get_config()["transform_output"])

    # -- state ---------------------------------------------------------------------------------

    @property
    def _params_at_fit(self):
        """Parameters as they were in ``fit``; ``batch_size`` as a number."""
        return FittedParams(self, self._values_at_fit, {"batch_size": self._most_rows})

    def _most_rows(self, batch_size):
        """Return how many rows ``batch_size`` allows, where the network runs."""
        return self._representation.most_rows(batch_size)

    @property
    def _representation(self):
        """What is explained, as a function of tensors; made anew after loading."""
        found = vars(self).get("_representation_of_fit")
        if found is None:
            check_is_fitted(self)
            found = self._representation_of_fit = Representation(
                self._represented,
                self.n_features_in_,
                probe=self._probe,
                table=self._table,
                **self._representation_params(),
            )
        return found

    def __getstate__(self):
        """Leave out what holds modules of its own."""
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name not in self._not_saved}

    def __sklearn_is_fitted__(self):
        """Say whether there is anything fitted."""
        return "estimator_" in vars(self)

    def set_params(self, **params: Any) -> Self:
        """Set parameters, which count from the next ``fit`` on.

        ``batch_size``, ``max_bytes``, ``n_jobs`` and ``verbose`` count at once.

        Parameters
        ----------
        **params : object
            Parameters of the explainer, and of an unfitted estimator as ``estimator__name``.

        Returns
        -------
        self : object
            The explainer.

        Raises
        ------
        ValueError
            If a parameter is unknown, or belongs to an estimator that is explained as it is.
        """
        nested = sorted(name for name in params if name.startswith("estimator__"))
        if nested and "estimator_" in vars(self) and self.estimator_ is self.estimator:
            raise ValueError(
                f"{nested[0]!r} would change the fitted {type(self.estimator).__name__} itself, "
                "which is shared with this explainer; set it there and fit that again, or give "
                "the explainer an unfitted one."
            )
        return super().set_params(**params)

    def get_metadata_routing(self) -> MetadataRouter:
        """Say that what ``fit`` is given beside X and y goes to the estimator's ``fit``.

        Returns
        -------
        routing : MetadataRouter
        """
        return routes(self)

    def __sklearn_clone__(self):
        """Clone the explainer; a fitted estimator or module is kept, not reset."""
        params = self.get_params(deep=False)
        estimator = shared_or_cloned(params.pop("estimator"))
        fresh = type(self)(estimator, **{k: clone(v, safe=False) for k, v in params.items()})
        for name in _SETTINGS:
            if hasattr(self, name):
                setattr(fresh, name, clone(getattr(self, name), safe=False))
        return fresh

    def __sklearn_tags__(self):
        """Say what the explainer takes: what its estimator takes."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        # Once fitted nothing has to be asked: the whole Pipeline would be walked in every call.
        raw = vars(self).get("_raw")
        if takes_raw_columns(self.estimator) if raw is None else raw:
            tags.input_tags.allow_nan = True
        return tags


# Around what scikit-learn has made of them for set_output, which would hold all of it in memory.
_wrapped = by_blocks(lambda self: self._row_form())(BaseExplainer.transform)
BaseExplainer.transform = _wrapped  # type: ignore[method-assign]  # as the comment above says
BaseExplainer.fit_transform = then_by_blocks(  # type: ignore[method-assign]  # likewise
    BaseExplainer.fit_transform
)


@contextmanager
def _blaming(obstacle):
    """Where an estimator stumbles over what X holds, say what that is."""
    try:
        yield
    except (ValueError, TypeError) as error:
        of_output = isinstance(error, NotFiniteError)  # X was taken as it is
        if obstacle is None or of_output or not _ABOUT_VALUES.search(str(error)):
            raise
        raise obstacle from error
