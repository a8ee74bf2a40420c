"""Splits a fitted estimator into a head and a torch module."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline
from skorch import NeuralNet
from torch import nn

from ._columns import NoTorchForm
from ._convert import Clip, Identity, convert, without_clips
from ._heads import BranchesHead, ChainHead, Head, ModuleHead, TransformerHead, is_head
from ._inverses import convert_inverse
from ._modules import BlackBox, Branches, Chain, Scaled, Stage, column_map, columns_read, stages
from ._offers import name_of, offered_method
from ._skorch import InferStage, changes_samples, own_methods, several_inputs
from ._text import WordsHead, vectoriser_of

_MOST = 1000  # items of a list that are looked into for networks; longer ones hold numbers


@dataclass
class Parts:
    """A head to run as it is (or None), and the torch module that follows it."""

    head: Head | None
    module: nn.Module


@dataclass(frozen=True)
class Asked:
    """What is wanted of an estimator.

    Attributes
    ----------
    method : str or None
        Method of the last step; those before it transform. None: it offers nothing to explain,
        which does not matter before it.
    layer : str or None
        The layer looked at, if any: a network whose own ``transform`` has no torch form can still
        be run up to a layer.
    link : bool
        Whether a skorch net's probabilities are wanted, not what its module returns.
    split : bool
        Whether steps are kept apart although one of them has no torch form.
    """

    method: str | None = "transform"
    layer: str | None = None
    link: bool = True
    split: bool = False

    @classmethod
    def of(cls, estimator, response_method="auto", layer=None, link=True):
        """Resolve what is asked of an estimator; ``link`` counts for ``"auto"`` only."""
        try:
            method = _last_method(estimator, response_method)
        except TypeError:
            if layer is None:
                raise
            method = None
        split = layer is not None or not link or method == "forward"
        return cls(method, layer, link or response_method != "auto", split)


def _last_method(estimator, response_method):
    """Name the method of the last step, ``"forward"`` of a module."""
    estimator = unwrap(estimator)
    if isinstance(estimator, nn.Module):
        return "forward"
    if isinstance(estimator, Pipeline):
        _, last = [(None, None), *named_steps(estimator)][-1]
        if isinstance(last, nn.Module):
            return "forward"
    return offered_method(estimator, response_method)


def decompose(estimator, n_columns, asked):
    """Split a fitted estimator into a head and a torch module.

    Parameters
    ----------
    estimator : nn.Module or fitted estimator
        The estimator to explain.
    n_columns : int
        Number of columns of the input, used for heads and selections.
    asked : Asked
        What is wanted of it.

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
    if vectoriser_of(estimator) is not None:
        return _decompose_texts(estimator, asked)
    # Steps before may have dropped columns, or made some.
    n_columns = getattr(estimator, "n_features_in_", n_columns)
    if isinstance(estimator, Pipeline):
        return _decompose_steps(named_steps(estimator), n_columns, asked)
    if isinstance(estimator, ColumnTransformer):
        return _decompose_branches(_column_branches(estimator), asked)
    if isinstance(estimator, FeatureUnion):
        return _decompose_branches(_union_branches(estimator, n_columns), asked)
    if type(estimator) is TransformedTargetRegressor:
        return _decompose_target(estimator, n_columns, asked)
    if hasattr(estimator, "_torch_form"):
        if asked.method != "transform" and asked.layer is None:
            raise NoTorchForm(f"{type(estimator).__name__}.{asked.method}")
        return Parts(None, Stage(*estimator._torch_form()))
    if isinstance(estimator, NeuralNet):
        return Parts(None, _skorch_stage(estimator, n_columns, asked))
    if is_head(estimator):
        return Parts(TransformerHead(estimator), Identity())
    module = convert(estimator, asked.method)
    if module is None:
        raise NoTorchForm(name_of(estimator))
    return Parts(None, module)


def black_box(estimator, reason, asked):
    """Wrap a fitted estimator without torch form; the reason names the step that has none."""
    estimator = unwrap(estimator)
    # skorch does not cast its inputs.
    dtype = Stage(estimator.module_).dtype if isinstance(estimator, NeuralNet) else None
    return BlackBox(estimator, reason, dtype, asked.method)


# What a skorch net's predictions are made with; a subclass may compute something else in them.
_SKORCH_METHODS = ("evaluation_step", "forward_iter", "forward", "infer")


def _skorch_stage(net, n_columns, asked):
    name = type(net).__name__
    changing = changes_samples(net, n_columns)
    if changing:
        raise NoTorchForm(f"{name}.{changing} (its own code, which changes X)")
    own = own_methods(net, ("infer",))
    inputs = [] if own else several_inputs(net.module_.forward)
    if inputs:
        raise NoTorchForm(f"{name}, of several inputs ({', '.join(inputs)}),")
    if asked.layer is not None or not asked.link:
        if own and len(getattr(net, "_modules", ())) > 1:
            raise NoTorchForm(f"{name}.infer (its own code, of several modules)")
        return InferStage(net) if own else Stage(net.module_, first_output=True)
    # ``predict`` asks ``predict_proba``.
    methods = dict.fromkeys((asked.method, "predict_proba", *_SKORCH_METHODS))
    own = own_methods(net, tuple(methods))
    if own:
        raise NoTorchForm(
            f"{name}.{own[0]} (its own code; name a layer of its module instead, as in "
            "layer='encoder')"
        )
    return Stage(net.module_, post=net._get_predict_nonlinearity(), first_output=True)


def named_steps(pipeline):
    """Pairs of name and estimator of the steps that act on new samples: samplers do in fit only."""
    steps = [(n, s) for n, s in pipeline.steps if s is not None and s != "passthrough"]
    return [(n, s) for n, s in steps if not is_sampler(s)]


def is_sampler(step):
    """Tell whether a step chooses samples to fit the next ones on, and does nothing else."""
    return hasattr(step, "fit_resample") and not hasattr(step, "transform")


def _decompose_steps(steps, n_columns, asked):
    parts, n_inputs = [], n_columns
    for number, (_, step) in enumerate(steps, start=1):
        n_inputs = getattr(step, "n_features_in_", n_inputs)
        wanted = asked if number == len(steps) else _before(asked)
        parts.append(_decompose_or_wrap(step, n_inputs, wanted))
        n_inputs = n_inputs if parts[-1].head is None else len(parts[-1].head.columns)
    steps, parts = _raw_prefix(steps, parts, asked)
    head, modules = None, []
    for number, ((name, step), part) in enumerate(zip(steps, parts, strict=True), start=1):
        if part.head is not None and modules:
            # The steps before it must join the head, which needs columns to be kept apart.
            before = Chain(modules)
            mapped = column_map(before, n_columns)
            if mapped is None:
                reason = f"{name!r} after steps that mix columns"
                if not asked.split:
                    raise NoTorchForm(reason)
                wanted = asked if number == len(steps) else _before(asked)
                part = Parts(None, black_box(step, reason, wanted))
            else:
                read = columns_read(before, n_columns)
                before, clips = _clipped_later(before, part.head, n_columns)
                modules = [] if clips is None else [(modules[-1][0], clips)]
                head = _after(head, ModuleHead(before, mapped[0], read))
        if part.head is not None:
            head = _after(head, part.head)
            n_columns = len(head.columns)
        if not isinstance(part.module, Identity):
            modules.append((name, part.module))
    return Parts(head, Chain(modules) if modules else Identity())


def _before(asked):
    """Say what is asked of the steps before the last one."""
    return replace(asked, method="transform", link=True)


def _decompose_target(estimator, n_columns, asked):
    """Split a regressor of a transformed target: its predictions go back through the inverse."""
    predicts = replace(asked, method="predict", link=True)
    parts = _decompose_or_wrap(estimator.regressor_, n_columns, predicts)
    transformer = estimator.transformer_
    inverse = convert_inverse(transformer)
    if inverse is None:
        reason = f"the inverse of {type(transformer).__name__}"
        inverse = BlackBox(transformer, reason, method="inverse_transform")
    chain = Chain([("regressor", parts.module), ("inverse", inverse)])
    if not asked.split:
        _checked([Parts(None, chain)])
    return Parts(parts.head, chain)


def _decompose_texts(estimator, asked):
    """Take the vectoriser for a head: what follows sees numbers, whether in torch form or not."""
    vectoriser = vectoriser_of(estimator)
    head = WordsHead(vectoriser)
    steps = named_steps(estimator)[1:] if isinstance(estimator, Pipeline) else []
    if not steps:
        return Parts(head, Identity())
    rest = Pipeline(steps)
    part = _decompose_or_wrap(rest, len(head.words), asked)
    if part.head is not None:
        return Parts(ChainHead(head, part.head), part.module)
    return Parts(head, part.module)


def _raw_prefix(steps, parts, asked):
    """Join the steps up to one without torch form, all of which see the raw table.

    Parameters
    ----------
    steps : list of (str, estimator)
        A Pipeline's.
    parts : list of Parts
        What each was split into.
    asked : Asked
        What is wanted: where steps are not split, the whole estimator is exact as it is.

    Returns
    -------
    steps, parts : list
        With one step in place of those.

    Raises
    ------
    NoTorchForm
        If there is such a step, and steps are not split.
    """
    end = 0
    for i, part in enumerate(parts):
        if stages(part.module):
            break
        if isinstance(part.module, BlackBox) or (end and part.head is not None):
            end = i + 1
    boxes = [part.module for part in parts if isinstance(part.module, BlackBox)]
    if boxes and not asked.split:
        raise NoTorchForm(boxes[0].reason)
    if end < 2:
        return steps, parts
    wanted = asked if end == len(steps) else _before(asked)
    joined = black_box(Pipeline(steps[:end]), boxes[0].reason, wanted)
    return [(steps[end - 1][0], joined.estimator), *steps[end:]], [
        Parts(None, joined),
        *parts[end:],
    ]


def _clipped_later(before, head, n_columns):
    """Move the clip of a scaler behind the imputer that follows, where both orders are the same.

    So the clip is part of the torch path: gradients and straight lines are those of raw columns.

    Returns
    -------
    before : nn.Module
        Without the clip, if that can be moved.
    clips : Clip or None
        What comes behind the imputer instead.
    """
    if not isinstance(head, TransformerHead) or not head.fills_nan:
        return before, None
    ends = torch.full((2, n_columns), torch.inf, dtype=torch.float64)
    ends[0] *= -1
    limits = before(ends)[:, head.columns].sort(dim=0).values  # a scale may be negative
    free = limits.isnan().any(dim=0)  # scaled by NaN, as empty columns are, or by 0
    free[np.setdiff1d(np.arange(len(head.columns)), head.passed_on)] = True  # indicators
    low, high = torch.where(free, ends[:, :1], limits)
    fills = torch.as_tensor(head.fills())
    # What fills a gap is not clipped: so it has to lie within the limits.
    within = ((low <= fills) & (fills <= high)).all()
    if not within or (low.isinf() & high.isinf()).all():
        return before, None
    return without_clips(before), Clip(low, high)


def _after(first, second):
    return second if first is None else ChainHead(first, second)


def _decompose_or_wrap(estimator, n_columns, asked):
    try:
        return decompose(estimator, n_columns, asked)
    except NoTorchForm as error:
        return Parts(None, black_box(estimator, str(error), asked))


def _checked(parts):
    """Refuse a step that holds a black box: as a whole it is exact, and sees the raw table."""
    boxes = [m for part in parts for m in part.module.modules() if isinstance(m, BlackBox)]
    if boxes:
        raise NoTorchForm(boxes[0].reason)
    return parts


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


def _decompose_branches(branches, asked):
    branches = list(branches)
    parts = []
    for _, indices, step, weight in branches:
        part = Parts(None, Identity())
        if not isinstance(step, str):  # "passthrough"
            if vectoriser_of(step) is not None:  # its words are no columns of the table
                raise NoTorchForm(type(step).__name__)
            part = _decompose_or_wrap(step, len(indices), _before(asked))
        if weight is not None:
            part = Parts(part.head, Scaled(part.module, weight))
        parts.append(part)
    _checked(parts)
    if all(part.head is None for part in parts):
        modules = [(b[0], b[1], p.module) for b, p in zip(branches, parts, strict=True)]
        return Parts(None, Branches(modules))
    head = BranchesHead([(b[1], p.head) for b, p in zip(branches, parts, strict=True)])
    if all(isinstance(part.module, Identity) for part in parts):
        return Parts(head, Identity())
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
        for _, step in named_steps(estimator):
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
                return
        yield from _modules_inside(estimator, set())


def _modules_inside(value, seen):
    """Yield the networks of trained nets in the attributes of an estimator: of an ensemble's."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, NeuralNet):
        if value.initialized_:
            yield value.module_
    elif isinstance(value, nn.Module):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value[:_MOST]:
            yield from _modules_inside(item, seen)
    elif isinstance(value, dict):
        for item in list(value.values())[:_MOST]:
            yield from _modules_inside(item, seen)
    elif isinstance(value, BaseEstimator):
        for item in vars(value).values():
            yield from _modules_inside(item, seen)


def no_gradient_reason(representation):
    """Say why no gradient passes through a `Representation`, for error messages."""
    if representation.takes_integers:
        return "the network takes integers, which have no gradient"
    return f"{representation.no_torch_form} has no torch form, so there is no gradient"
