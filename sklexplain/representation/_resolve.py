"""From what was passed as ``estimator`` to what can be explained."""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet
from torch import nn

from ._convert import Identity, convert
from ._heads import BranchesHead, ChainHead, Head, ModuleHead, is_head, transformer_head

OFFERS = ("transform", "predict_proba", "predict")  # in order of preference


class Stage(nn.Module):
    """A user's network as one step of a chain, called through one of its methods."""

    def __init__(self, module, method="forward", post=None, first_output=False):
        super().__init__()
        self.module = module
        self.method = method
        self.post = post
        self.first_output = first_output
        self.takes_integers = False

    @property
    def dtype(self):
        """Floating dtype of the network's weights, None if it has none."""
        tensors = (*self.module.parameters(), *self.module.buffers())
        return next((t.dtype for t in tensors if t.is_floating_point()), None)

    def forward(self, x):
        if not self.takes_integers and self.dtype is not None:
            x = x.to(self.dtype)
        # Calling the module, not its forward, runs hooks on it.
        call = self.module if self.method == "forward" else getattr(self.module, self.method)
        out = call(x)
        if self.first_output and isinstance(out, tuple):
            out = out[0]
        return out if self.post is None else self.post(out)


class Chain(nn.Module):
    """Named steps, one after another."""

    def __init__(self, steps):
        super().__init__()
        for name, module in steps:
            self.add_module(name.replace(".", "_"), module)

    def forward(self, x):
        for module in self.children():
            x = module(x)
        return x

    def column_map(self, n_columns):
        """Source column of every output column and the derivative along it, None if they mix."""
        columns, slopes = np.arange(n_columns), np.ones(n_columns)
        for module in self.children():
            mapped = _column_map(module, len(columns))
            if mapped is None:
                return None
            columns, slopes = columns[mapped[0]], slopes[mapped[0]] * mapped[1]
        return columns, slopes


class Branches(nn.Module):
    """Named modules on selections of columns, their outputs side by side."""

    def __init__(self, branches):
        super().__init__()
        self.selections = []
        for name, indices, module in branches:
            self.selections.append(torch.as_tensor(indices))
            self.add_module(name.replace(".", "_"), module)

    def forward(self, x):
        outputs = []
        for indices, module in zip(self.selections, self.children(), strict=True):
            out = module(x[:, indices.to(x.device)])
            outputs.append(out.reshape(len(x), -1).to(torch.promote_types(out.dtype, x.dtype)))
        return torch.cat(outputs, dim=1)

    def column_map(self, n_columns):
        """Source column of every output column and the derivative along it, None if they mix."""
        columns, slopes = [], []
        for indices, module in zip(self.selections, self.children(), strict=True):
            mapped = _column_map(module, len(indices))
            if mapped is None:
                return None
            columns.append(indices.numpy()[mapped[0]])
            slopes.append(mapped[1])
        return np.concatenate(columns), np.concatenate(slopes)


class Scaled(nn.Module):
    """A module's output times a constant (``transformer_weights`` of a FeatureUnion)."""

    def __init__(self, module, factor):
        super().__init__()
        self.module = module
        self.factor = factor

    def forward(self, x):
        return self.module(x) * self.factor


def _column_map(module, n_columns):
    column_map = getattr(module, "column_map", None)
    return None if column_map is None else column_map(n_columns)


@dataclass
class Parts:
    """A head to run as it is (or None), and the torch module that follows it."""

    head: Head | None
    module: nn.Module


class NoTorchForm(Exception):
    """Carries the name of the step that cannot be written in torch."""


def decompose(estimator, n_columns, layer=None):
    """Split a fitted estimator into a head and a torch module.

    Parameters
    ----------
    estimator : nn.Module or fitted estimator
        What is explained.
    n_columns : int
        Number of columns of the input, used for heads and selections.
    layer : str or None, default=None
        The layer looked at, if any: a network whose own ``transform`` has no torch form can still
        be run up to a layer.

    Returns
    -------
    parts : Parts

    Raises
    ------
    NoTorchForm
        If a step has no torch form; the argument names it.
    """
    estimator = unwrap(estimator)
    if isinstance(estimator, nn.Module):
        return Parts(None, Stage(estimator))
    if isinstance(estimator, Pipeline):
        return _decompose_steps(_named_steps(estimator), n_columns, layer)
    if isinstance(estimator, ColumnTransformer):
        return _decompose_branches(_column_branches(estimator), layer)
    if isinstance(estimator, FeatureUnion):
        return _decompose_branches(_union_branches(estimator, n_columns), layer)
    if hasattr(estimator, "_torch_form"):
        return Parts(None, Stage(*estimator._torch_form()))
    if isinstance(estimator, NeuralNet):
        return Parts(None, _skorch_stage(estimator, layer))
    if is_head(estimator):
        return Parts(transformer_head(estimator), Identity())
    module = convert(estimator)
    if module is None:
        raise NoTorchForm(f"{type(estimator).__name__}")
    return Parts(None, module)


def _skorch_stage(net, layer):
    if layer is not None:
        return Stage(net.module_, first_output=True)
    offered = next(name for name in OFFERS if hasattr(net, name))
    if not getattr(type(net), offered).__module__.startswith("skorch."):
        raise NoTorchForm(
            f"{type(net).__name__}.{offered} (its own code; name a layer of its module instead, "
            "as in layer='encoder')"
        )
    return Stage(net.module_, post=net._get_predict_nonlinearity(), first_output=True)


def _named_steps(pipeline):
    return [(n, s) for n, s in pipeline.steps if s is not None and s != "passthrough"]


def _decompose_steps(steps, n_columns, layer):
    head, modules = None, []
    for name, step in steps:
        parts = decompose(step, n_columns, layer)
        if parts.head is not None:
            if modules:
                # What came before must become part of the head: possible if it keeps columns apart.
                before = Chain(modules)
                if before.column_map(n_columns) is None:
                    raise NoTorchForm(f"{name!r} after steps that mix columns")
                before = ModuleHead(before, n_columns)
                head, modules = before if head is None else ChainHead(head, before), []
            head = parts.head if head is None else ChainHead(head, parts.head)
            n_columns = len(head.columns)
        if not isinstance(parts.module, Identity):
            modules.append((name, parts.module))
    return Parts(head, Chain(modules) if modules else Identity())


def _column_branches(transformer):
    indices = transformer._transformer_to_input_indices
    for name, step, _ in transformer.transformers_:
        columns = np.asarray(indices.get(name, []), dtype=np.int64)
        if len(columns) and not (isinstance(step, str) and step == "drop"):
            weight = (transformer.transformer_weights or {}).get(name)
            yield name, columns, step, weight


def _union_branches(union, n_columns):
    for name, step in union.transformer_list:
        if step is not None and step != "drop":
            weight = (union.transformer_weights or {}).get(name)
            yield name, np.arange(n_columns), step, weight


def _decompose_branches(branches, layer):
    branches = list(branches)
    parts = []
    for _, indices, step, weight in branches:
        part = Parts(None, Identity())
        if not isinstance(step, str):  # "passthrough"
            part = decompose(step, len(indices), layer)
        if weight is not None:
            part = Parts(part.head, Scaled(part.module, weight))
        parts.append(part)
    if all(part.head is None for part in parts):
        modules = [(b[0], b[1], p.module) for b, p in zip(branches, parts, strict=True)]
        return Parts(None, Branches(modules))
    head = BranchesHead([(b[1], p.head) for b, p in zip(branches, parts, strict=True)])
    modules, start = [], 0
    for (name, indices, _, _), part in zip(branches, parts, strict=True):
        stop = start + (len(indices) if part.head is None else len(part.head.columns))
        modules.append((name, np.arange(start, stop), part.module))
        start = stop
    return Parts(head, Branches(modules))


def unwrap(estimator):
    """Look through ``FrozenEstimator`` and fitted searches."""
    while isinstance(estimator, (FrozenEstimator, BaseSearchCV)):
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        else:
            estimator = estimator.best_estimator_
    return estimator


def torch_modules(estimator):
    """Yield every torch module that an estimator holds, wherever it is nested."""
    estimator = unwrap(estimator)
    if isinstance(estimator, nn.Module):
        yield estimator
    elif isinstance(estimator, Pipeline):
        for _, step in _named_steps(estimator):
            yield from torch_modules(step)
    elif isinstance(estimator, ColumnTransformer):
        for _, step, _ in estimator.transformers_:
            yield from torch_modules(step)
    elif isinstance(estimator, FeatureUnion):
        for _, step in estimator.transformer_list:
            yield from torch_modules(step)
    else:
        for net in (estimator, getattr(estimator, "net_", None)):
            if isinstance(net, NeuralNet):
                yield net.module_


def takes_raw_columns(estimator):
    """Tell whether an estimator, fitted or not, can be given missing values or categories."""
    if isinstance(estimator, FrozenEstimator):
        return takes_raw_columns(estimator.estimator)
    if isinstance(estimator, BaseSearchCV):
        return takes_raw_columns(getattr(estimator, "best_estimator_", estimator.estimator))
    if isinstance(estimator, Pipeline):
        steps = [step for _, step in _named_steps(estimator)]
        return any(map(takes_raw_columns, steps)) or all(map(_allows_nan, steps))
    if isinstance(estimator, ColumnTransformer):
        return any(takes_raw_columns(step) for _, step, _ in estimator.transformers)
    if isinstance(estimator, FeatureUnion):
        return any(takes_raw_columns(step) for _, step in estimator.transformer_list)
    return is_head(estimator) or (hasattr(estimator, "predict") and _allows_nan(estimator))


def _allows_nan(estimator):
    return hasattr(estimator, "__sklearn_tags__") and get_tags(estimator).input_tags.allow_nan


def check_estimator_type(estimator):
    """Raise a TypeError if something cannot be explained at all.

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
    if not any(hasattr(type(estimator), name) or hasattr(estimator, name) for name in OFFERS):
        raise TypeError(
            f"{type(estimator).__name__} offers neither transform, predict_proba nor predict, "
            f"so there is nothing to explain; {fix}"
        )


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
        not, a skorch net is initialised but was never trained, or a frozen estimator is not fitted.
    """
    if isinstance(estimator, FrozenEstimator):
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
        return _are_fitted([(n, s) for n, s in steps if not (s is None or isinstance(s, str))])
    if isinstance(estimator, BaseSearchCV) and hasattr(estimator, "cv_results_"):
        if not hasattr(estimator, "best_estimator_"):
            raise NotFittedError(
                f"{type(estimator).__name__} was run with refit=False and keeps no fitted "
                "estimator; run it with refit=True, or pass the estimator to explain."
            )
        return True
    if not get_tags(estimator).requires_fit:
        return None
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True


def _is_trained(net):
    if not getattr(net, "initialized_", False):
        return False
    if not net.history:
        raise NotFittedError(
            f"{type(net).__name__} is initialised but was never trained; call fit, load its "
            "history with the weights (load_params(f_params=..., f_history=...)), or pass its "
            "module_ to explain the weights it has now."
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


def fitted_estimator(estimator, X, y=None):
    """Return what is explained: the estimator itself, or a clone fitted on (X, y).

    Parameters
    ----------
    estimator : nn.Module or estimator
        What was passed as ``estimator``; never changed.
    X : array-like or DataFrame
        The data, in raw units.
    y : array-like or None, default=None
        Targets, handed to the clone's ``fit``.

    Returns
    -------
    estimator : nn.Module or estimator
        The same object if it is a module or fitted, else a fitted clone.

    Raises
    ------
    TypeError
        If it is no model.
    NotFittedError
        If it is only partly fitted, see `is_fitted`.
    """
    check_estimator_type(estimator)
    if isinstance(estimator, nn.Module) or is_fitted(estimator) is not False:
        return estimator
    fresh = clone(estimator)
    if isinstance(fresh, NeuralNet):
        # skorch takes DataFrame columns for keyword arguments and does not cast.
        X = np.asarray(X)
        X = X.astype(np.float32) if X.dtype == np.float64 else X
        y = None if y is None else np.asarray(y)
        y = y.astype(np.float32) if y is not None and y.dtype == np.float64 else y
    return fresh.fit(X) if y is None else fresh.fit(X, y)


def shared_or_cloned(estimator):
    """Return what a clone of an explainer is given to explain.

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
        # Partly fitted: share it, so that fit can say so.
        return FrozenEstimator(estimator)
    return FrozenEstimator(estimator) if fitted else clone(estimator)
