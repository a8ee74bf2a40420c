"""Checks of the parameter ``estimator``: is it a model, is it fitted? Fits it if it is not."""

import joblib
import numpy as np
from sklearn import get_config
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet
from torch import nn

from ..utils import as_the_caller, n_shape
from ._heads import is_head
from ._offers import RESPONSE_METHODS, nothing_to_explain
from ._resolve import is_sampler, named_steps, unwrap
from ._skorch import check_not_interrupted, inputs_of


def check_estimator_type(estimator):
    """Raise a TypeError if an object cannot be explained at all.

    Parameters
    ----------
    estimator : object
        What was passed as ``estimator``.

    Raises
    ------
    TypeError
        Naming what was passed and what may be.
    """
    if isinstance(estimator, nn.Module):
        return
    fix = "pass a torch.nn.Module, a skorch net, a scikit-learn estimator or a Pipeline of them."
    if isinstance(estimator, type):
        raise TypeError(
            f"estimator is the class {estimator.__name__}, not an instance; write "
            f"{estimator.__name__}(...), or {fix}"
        )
    if not hasattr(estimator, "fit") or not hasattr(estimator, "get_params"):
        raise TypeError(f"estimator={estimator!r} is no model ({type(estimator).__name__}); {fix}")
    if isinstance(estimator, FrozenEstimator):
        check_estimator_type(estimator.estimator)
        return
    # Those that depend on parameters or on fit are looked for again in the fitted estimator.
    if not any(hasattr(type(estimator), n) or hasattr(estimator, n) for n in RESPONSE_METHODS):
        raise TypeError(nothing_to_explain(estimator))


def is_fitted(estimator):
    """Tell whether an estimator is fitted, looking into every step.

    Parameters
    ----------
    estimator : estimator
        A scikit-learn estimator or skorch net.

    Returns
    -------
    fitted : bool or None
        None for an estimator that needs no fitting.

    Raises
    ------
    NotFittedError
        If it is neither fitted nor untouched: some steps of a Pipeline are fitted and others are
        not, a skorch net is initialised but was never trained (frozen, it is taken as it is), or
        another frozen estimator is not fitted.
    """
    if isinstance(estimator, nn.Module):
        return None
    if isinstance(estimator, FrozenEstimator):
        if _has_weights(estimator.estimator) and not isinstance(estimator, _Unfinished):
            return None  # the weights may have been loaded; freezing says that they count
        if is_fitted(estimator.estimator) is False:
            raise NotFittedError(
                f"estimator={estimator!r} is frozen but not fitted; fit the "
                f"{type(estimator.estimator).__name__} before freezing it."
            )
        return None
    if isinstance(estimator, NeuralNet):
        return _is_trained(estimator)
    if isinstance(estimator, (Pipeline, FeatureUnion)):
        steps = estimator.steps if isinstance(estimator, Pipeline) else estimator.transformer_list
        steps = [(n, s) for n, s in steps if not (s is None or isinstance(s, str))]
        return _are_fitted([(n, s) for n, s in steps if not is_sampler(s)])
    if isinstance(estimator, BaseSearchCV) and hasattr(estimator, "cv_results_"):
        if not hasattr(estimator, "best_estimator_"):
            raise NotFittedError(
                f"{type(estimator).__name__} was run with refit=False and keeps no fitted "
                "estimator; run it with refit=True, or pass the estimator to explain."
            )
        return True
    if not _has_tags(estimator):
        return _has_learnt(estimator)
    # The tags of a HashingVectorizer say so from scikit-learn 1.8 on.
    if isinstance(estimator, HashingVectorizer) or not get_tags(estimator).requires_fit:
        return None
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return hasattr(estimator, "__sklearn_is_fitted__") or bool(_learnt(estimator))


def _has_learnt(estimator):
    """Tell whether an estimator without tags is fitted, by what it says or by its attributes."""
    said = getattr(estimator, "is_fitted", None)
    return said if isinstance(said, bool) else bool(_learnt(estimator))


def _learnt(estimator):
    """Name the attributes that ``fit`` has set; a constructor may have made some of their kind."""
    names = [n for n in vars(estimator) if n.endswith("_") and not n.startswith("__")]
    try:
        made = vars(type(estimator)(**estimator.get_params(deep=False)))
    except Exception:  # it cannot be made anew, so nothing is known of its constructor
        return names
    return [n for n in names if n not in made or _differ(made[n], getattr(estimator, n))]


def _differ(one, other):
    """Tell whether two values are not the same; those that cannot be saved are taken to differ."""
    try:
        return joblib.hash(one) != joblib.hash(other)
    except Exception:
        return True


class _Unfinished(FrozenEstimator):
    """Shares an estimator that cannot be explained, so that ``fit`` says why."""


def _has_weights(estimator):
    return isinstance(estimator, NeuralNet) and estimator.initialized_


def _is_trained(net):
    if not getattr(net, "initialized_", False):
        return False
    if not net.history and not getattr(net, "_trimmed_for_prediction", False):
        raise NotFittedError(
            f"{type(net).__name__} is initialised but was never trained; call fit, load its "
            "history with the weights (load_params(f_params=..., f_history=...)), or pass "
            "FrozenEstimator(net), or its module_, to explain the weights it has now."
        )
    return True


def _are_fitted(steps):
    states = {name: is_fitted(step) for name, step in steps}
    fitted = [name for name, state in states.items() if state is True]
    unfitted = [name for name, state in states.items() if state is False]
    if fitted and unfitted:
        raise NotFittedError(
            f"step {unfitted[0]!r} is not fitted but step {fitted[0]!r} is; fit the whole "
            "Pipeline, or pass it with no step fitted to have a clone of it fitted."
        )
    return None if not fitted and not unfitted else bool(fitted)


def fitted_estimator(estimator, X, y=None, fit_params=None):
    """Return the estimator to explain: the given one, or a clone fitted on (X, y).

    Parameters
    ----------
    estimator : nn.Module or estimator
        What was passed as ``estimator``; never changed.
    X : array-like or DataFrame
        The data, in raw units.
    y : array-like or None, default=None
        Targets, handed to the clone's ``fit``.
    fit_params : dict or None, default=None
        More arguments of the clone's ``fit``.

    Returns
    -------
    estimator : nn.Module or estimator
        The same object if it is a module or fitted, else a fitted clone.

    Raises
    ------
    TypeError
        If it is not a model, or is a network of several inputs.
    NotFittedError
        If it is only partly fitted, see `is_fitted`.
    KeyboardInterrupt
        If the training of a skorch net was interrupted.
    """
    check_estimator_type(estimator)
    _check_one_input(estimator)
    if is_fitted(estimator) is not False:
        return estimator
    fresh = clone(estimator)
    # A step with copy=False writes into the data that it is fitted on.
    X = X.copy() if isinstance(X, np.ndarray) or hasattr(X, "iloc") else X
    if isinstance(fresh.estimator if isinstance(fresh, BaseSearchCV) else fresh, NeuralNet):
        # skorch takes DataFrame columns for keyword arguments and does not cast; pandas locks what
        # it hands out, of which torch warns.
        X = np.require(X, requirements="W")
        X = X.astype(np.float32) if X.dtype == np.float64 else X
        y = None if y is None else np.asarray(y)
        y = y.astype(np.float32) if y is not None and y.dtype == np.float64 else y
    given = (X,) if y is None else (X, y)
    with as_the_caller():
        fresh = fresh.fit(*given, **(fit_params or {}))
    check_not_interrupted(fresh)
    return fresh


def _check_one_input(estimator):
    """Raise if samples would go as they are into a network of several inputs."""
    network = _entry(estimator)
    inputs = inputs_of(network) if isinstance(network, (nn.Module, NeuralNet)) else []
    if not inputs:
        return
    what = (
        f"{type(network).__name__} takes several inputs ({', '.join(inputs)}), and X is one array"
    )
    if isinstance(network, NeuralNet):
        columns = ", ".join(f"{name!r}: X[:, ...]" for name in inputs)
        raise TypeError(
            f"{what}. Put in front of it a step that makes them of X's columns: "
            f"make_pipeline(FunctionTransformer(lambda X: {{{columns}}}), net)."
        )
    cuts = ", ".join("x[:, ...]" for _ in inputs)
    raise TypeError(
        f"{what}. Wrap it in a module that takes one and cuts it: "
        f"def forward(self, x): return self.net({cuts})."
    )


def _entry(estimator):
    """Return what is given the samples as they are, of a fitted or unfitted estimator."""
    while True:
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif isinstance(estimator, BaseSearchCV):
            estimator = getattr(estimator, "best_estimator_", estimator.estimator)
        elif isinstance(estimator, Pipeline) and named_steps(estimator):
            estimator = named_steps(estimator)[0][1]
        else:
            return estimator


def routed_params(explainer, fit_params):
    """Return what of the arguments of an explainer's ``fit`` goes to its estimator's.

    Parameters
    ----------
    explainer : BaseExplainer
        With the parameter ``estimator``.
    fit_params : dict
        What ``fit`` was given beside X and y; None stands for nothing.

    Returns
    -------
    fit_params : dict
        All of it, or with metadata routing enabled what the estimator requested, and what the
        explainer itself takes.

    Raises
    ------
    TypeError
        If there is anything, but the estimator is not to be fitted.
    """
    given = {name: value for name, value in fit_params.items() if value is not None}
    if not given:
        return {}
    estimator = explainer.estimator
    if is_fitted(estimator) is not False:
        names, kind = ", ".join(sorted(given)), type(estimator).__name__
        raise TypeError(
            f"{type(explainer).__name__}.fit() got {names}, which goes to an estimator that is "
            f"fitted here, but this {kind} is explained as it is; leave it out, or pass an "
            "unfitted estimator."
        )
    if not get_config()["enable_metadata_routing"]:
        return given
    own = {name: given[name] for name in explainer._own_fit_params if name in given}
    return dict(process_routing(explainer, "fit", **given).estimator.fit) | own


def routes(explainer):
    """Say that metadata of an explainer's ``fit`` goes to its estimator's.

    Parameters
    ----------
    explainer : BaseExplainer
        With the parameter ``estimator``.

    Returns
    -------
    router : MetadataRouter
    """
    router = MetadataRouter(owner=explainer)
    if explainer._own_fit_params:
        router.add_self_request(explainer)
    if hasattr(explainer.estimator, "get_metadata_routing"):
        mapping = MethodMapping().add(caller="fit", callee="fit")
        mapping = mapping.add(caller="fit_transform", callee="fit")
        router.add(estimator=explainer.estimator, method_mapping=mapping)
    return router


def check_columns(estimator, shape, names):
    """Raise if a fitted estimator has seen other columns than X has.

    Parameters
    ----------
    estimator : nn.Module or fitted estimator
        What is explained.
    shape : tuple of int
        Of one sample.
    names : ndarray of str or None
        Names of X's columns, if it has any.

    Raises
    ------
    ValueError
        If number, names or order of the columns differ, or sizes of axes.
    """
    if isinstance(estimator, nn.Module):
        return
    estimator = unwrap(estimator)
    name, fitted_shape = type(estimator).__name__, getattr(estimator, "input_shape_", shape)
    if tuple(fitted_shape) != tuple(shape) and max(len(fitted_shape), len(shape)) > 1:
        raise ValueError(
            f"X has shape {n_shape(shape)}, but {name} was fitted on {n_shape(fitted_shape)}."
        )
    expected = getattr(estimator, "n_features_in_", shape[0])
    # Of series, libraries count different axes.
    if len(shape) == 1 and expected != shape[0]:
        raise ValueError(f"X has {shape[0]} features, but {name} was fitted on {expected}.")
    fitted_names = getattr(estimator, "feature_names_in_", None)
    if names is None or fitted_names is None or list(names) == list(fitted_names):
        return
    ours, theirs = next(p for p in zip(names, fitted_names, strict=True) if p[0] != p[1])
    raise ValueError(
        f"X has column {str(ours)!r} where {type(estimator).__name__} was fitted on "
        f"{str(theirs)!r}; select and order its columns, X[list(estimator.feature_names_in_)]."
    )


def shared_or_cloned(estimator):
    """Return the estimator for a clone of an explainer.

    Parameters
    ----------
    estimator : object
        The ``estimator`` parameter of the explainer that is cloned.

    Returns
    -------
    estimator : object
        A module itself, a fitted estimator frozen (the same object inside), anything else cloned.
    """
    if isinstance(estimator, (nn.Module, FrozenEstimator)):
        return estimator
    if not hasattr(estimator, "fit") or isinstance(estimator, type):
        return clone(estimator, safe=False)
    try:
        fitted = is_fitted(estimator)
    except NotFittedError:
        return _Unfinished(estimator)
    return FrozenEstimator(estimator) if fitted else clone(estimator)


def may_take_raw(estimator):
    """Tell whether an estimator may take other things than finite numbers: a network does not.

    Parameters
    ----------
    estimator : nn.Module or estimator
        What was passed as ``estimator``, fitted or not.

    Returns
    -------
    may : bool
        False for a network, or a Pipeline that begins with one: it would compute with anything.
    """
    estimator = estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator
    if isinstance(estimator, BaseSearchCV):
        return may_take_raw(getattr(estimator, "best_estimator_", estimator.estimator))
    if isinstance(estimator, Pipeline):
        steps = named_steps(estimator)
        return bool(steps) and may_take_raw(steps[0][1])
    return not (isinstance(estimator, (nn.Module, NeuralNet)) or hasattr(estimator, "_torch_form"))


def takes_raw_columns(estimator):
    """Tell whether an estimator, fitted or not, can be given missing values or categories."""
    if isinstance(estimator, FrozenEstimator):
        return takes_raw_columns(estimator.estimator)
    if isinstance(estimator, BaseSearchCV):
        return takes_raw_columns(getattr(estimator, "best_estimator_", estimator.estimator))
    if isinstance(estimator, Pipeline):
        for _, step in named_steps(estimator):
            if takes_raw_columns(step):
                return True
            if not _passes_nan(step):
                break
        return False
    if isinstance(estimator, ColumnTransformer):
        return any(takes_raw_columns(step) for _, step, _ in estimator.transformers)
    if isinstance(estimator, FeatureUnion):
        return any(takes_raw_columns(step) for _, step in estimator.transformer_list)
    return is_head(estimator) or (hasattr(estimator, "predict") and _allows_nan(estimator))


def _allows_nan(estimator):
    return _has_tags(estimator) and get_tags(estimator).input_tags.allow_nan


def _passes_nan(estimator):
    return _allows_nan(estimator) or (_has_tags(estimator) and get_tags(estimator).no_validation)


def _has_tags(estimator):
    return hasattr(estimator, "__sklearn_tags__") and not isinstance(estimator, type)
