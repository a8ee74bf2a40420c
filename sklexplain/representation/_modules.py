"""The torch path: the steps of an estimator as one chain of modules."""

import itertools

import numpy as np
import torch
from torch import nn

from ..layers import named_layers
from ..utils import as_the_caller, numpy_dtype_of
from ._heads import as_tensor, named, to_numbers
from ._offers import check_no_labels, nothing_to_explain


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
        # Lazily: it is asked for in every pass, and the first weight nearly always has it.
        tensors = itertools.chain(self.module.parameters(), self.module.buffers())
        return next((t.dtype for t in tensors if t.is_floating_point()), None)

    def forward(self, x):
        dtype = None if self.takes_integers else self.dtype
        out = self.call(x if dtype is None else x.to(dtype))
        if self.first_output and isinstance(out, tuple):
            out = out[0]
        return out if self.post is None else self.post(out)

    def call(self, x):
        """Run the network, and return all that it returns."""
        # Calling the module, not its forward, runs hooks on it.
        run = self.module if self.method == "forward" else getattr(self.module, self.method)
        with as_the_caller():
            return run(x)


class BlackBox(nn.Module):
    """A fitted estimator without torch form, run on numbers: no gradient passes it.

    Its method is None where it offers nothing to explain: it stands behind the layer that is.

    Attributes
    ----------
    table : Table or None
        At the beginning of a path: what turns numbers into what the estimator's user gave.
    """

    def __init__(self, estimator, reason, dtype=None, method="transform"):
        super().__init__()
        self.estimator = estimator
        self.reason = reason
        self.dtype = dtype
        self.method = method
        self.reached = False
        self.table = None

    def forward(self, x):
        self.reached = True
        if self.method is None:
            raise TypeError(nothing_to_explain(self.estimator))
        given = self._given(x)
        try:
            with as_the_caller():
                out = getattr(self.estimator, self.method)(given)
        except (AttributeError, NotImplementedError) as error:
            error.method_called = self.method  # there may be another one that works
            raise
        check_no_labels(out, self.estimator, self.method)
        return as_tensor(to_numbers(out, self.method)).to(x.device)

    def _given(self, x):
        """Turn numbers into what the estimator takes; it may write into it."""
        x = x.detach().cpu()
        if self.table is None:
            return named(x.to(self.dtype or torch.float64).numpy().copy(), self.estimator)
        X = self.table.restored(x.numpy())
        if (
            self.dtype is not None
        ):  # skorch takes a frame's columns for arguments, and casts nothing
            X = np.asarray(X)
            X = X.astype(numpy_dtype_of(self.dtype)) if X.dtype.kind == "f" else X
        return named(X, self.estimator)


class Chain(nn.Module):
    """Named steps, one after another."""

    is_affine = True  # where all parts are: else there is no column map

    def __init__(self, steps):
        super().__init__()
        # Steps may have any name, also that of an attribute of a module.
        self.names = [name for name, _ in steps]
        self.steps = nn.ModuleList(module for _, module in steps)

    def forward(self, x):
        for module in self.steps:
            x = module(x)
        return x

    def named_parts(self):
        """Pairs of a step's name and module."""
        return zip(self.names, self.steps, strict=True)

    def column_map(self, n_columns):
        """Map outputs to columns; see `column_map`, which has the law. None if they mix."""
        columns, slopes = np.arange(n_columns), np.ones(n_columns)
        for module in self.steps:
            mapped = column_map(module, len(columns))
            if mapped is None:
                return None
            columns, slopes = columns[mapped[0]], slopes[mapped[0]] * mapped[1]
        return columns, slopes


class Branches(nn.Module):
    """Named modules on selections of columns, their outputs side by side."""

    is_affine = True  # where all parts are: else there is no column map

    def __init__(self, branches):
        super().__init__()
        self.names = [name for name, _, _ in branches]
        self.selections = [torch.as_tensor(indices) for _, indices, _ in branches]
        self.branches = nn.ModuleList(module for _, _, module in branches)

    def forward(self, x):
        outputs = []
        for indices, module in zip(self.selections, self.branches, strict=True):
            out = module(x[:, indices.to(x.device)])
            outputs.append(out.reshape(len(x), -1).to(torch.promote_types(out.dtype, x.dtype)))
        return torch.cat(outputs, dim=1)

    def named_parts(self):
        """Pairs of a branch's name and module."""
        return zip(self.names, self.branches, strict=True)

    def column_map(self, n_columns):
        """Map outputs to columns; see `column_map`, which has the law. None if they mix."""
        columns, slopes = [], []
        for indices, module in zip(self.selections, self.branches, strict=True):
            mapped = column_map(module, len(indices))
            if mapped is None:
                return None
            columns.append(indices.numpy()[mapped[0]])
            slopes.append(mapped[1])
        return np.concatenate(columns), np.concatenate(slopes)


class Scaled(nn.Module):
    """A module's output times a constant (``transformer_weights`` of a FeatureUnion)."""

    is_affine = True  # where all parts are: else there is no column map

    def __init__(self, module, factor):
        super().__init__()
        self.module = module
        self.factor = factor

    def forward(self, x):
        return self.module(x) * self.factor

    def column_map(self, n_columns):
        """Map outputs to columns; see `column_map`, which has the law. None if they mix."""
        mapped = column_map(self.module, n_columns)
        return None if mapped is None else (mapped[0], mapped[1] * self.factor)


def column_map(module, n_columns):
    """Source column of every output column of a module, and the derivative along it.

    The law of ``column_map``, a method of modules that keep columns apart: each output is made of
    one column and of nothing else, by an affine function, up to rounding and to a clip of what lies
    beyond the fitted data. A module that claims it says ``is_affine``; no claim is relied upon
    before it was held against numbers: where columns are what is needed, by `check_columns_of`;
    where one value and the derivatives are to stand for all others, by `is_affine_at`. Derivatives
    at a sample are never taken from it, as a clip makes them the sample's own.

    Parameters
    ----------
    module : nn.Module
        A step, or a chain of steps.
    n_columns : int
        Number of columns of its input.

    Returns
    -------
    map : tuple of ndarray (columns, slopes) or None
        None of a module that mixes columns or is not affine.
    """
    return module.column_map(n_columns) if getattr(module, "is_affine", False) else None


def is_affine_at(points, values, columns, slopes):
    """Whether a column map holds at some points: all values follow from the first, up to rounding.

    Parameters
    ----------
    points : tensor of shape (n_points, n_columns)
        Samples.
    values : tensor of shape (n_points, n_outputs)
        What the module makes of them.
    columns, slopes : ndarray of shape (n_outputs,)
        What its ``column_map`` says.

    Returns
    -------
    holds : bool
    """
    columns = torch.as_tensor(columns, device=points.device)
    steps = torch.as_tensor(slopes).to(points) * (points - points[0])[:, columns]
    error = (values[0] + steps - values).abs()
    return bool((error <= 1e-3 * steps.abs().amax(dim=0) + 1e-5 * values.abs().amax(dim=0)).all())


def without_link(module):
    """Leave out the last step of a converted classifier, which makes probabilities of scores.

    Parameters
    ----------
    module : nn.Module
        A torch path.

    Returns
    -------
    module : nn.Module
        The same without that step, if there is one.
    """
    if isinstance(module, Chain):
        *before, (name, last) = module.named_parts()
        return Chain([*before, (name, without_link(last))])
    # A user's network is inside a Stage, so this one was made by `convert`.
    children = list(module.named_children()) if isinstance(module, nn.Sequential) else []
    if not children or children[-1][0] != "proba":
        return module
    rest = nn.Sequential()
    for name, child in children[:-1]:
        rest.add_module(name, child)
    return rest


def stages(module):
    """User's networks inside a module, in the order in which they are called."""
    return [m for m in module.modules() if isinstance(m, Stage)]


def first_step(module):
    """First step, which takes the inputs as they are."""
    while isinstance(module, Chain):
        module = module.steps[0]
    return module


def columns_read(module, n_columns):
    """Tell which columns the first step of a torch path looks at.

    Parameters
    ----------
    module : nn.Module
        A torch path.
    n_columns : int
        Number of columns of its input.

    Returns
    -------
    read : ndarray of bool of shape (n_columns,)
        A ColumnTransformer may leave some out, which can then hold anything.
    """
    first, read = first_step(module), np.ones(n_columns, dtype=bool)
    if isinstance(first, Branches):
        read = np.isin(np.arange(n_columns), np.concatenate([s.numpy() for s in first.selections]))
    return read


def subtracted_from(module, x):
    """Find the numbers from which the last step of a torch path subtracts what it makes of them.

    Parameters
    ----------
    module : nn.Module
        A torch path.
    x : torch.Tensor of shape (b, ...)
        Its inputs.

    Returns
    -------
    numbers : torch.Tensor or None
        Rounding is of their size, however small the difference is. None of other paths.
    """
    *before, last = module.steps if isinstance(module, Chain) and len(module.steps) else [module]
    if not getattr(getattr(last, "module", None), "subtracts", False):
        return None
    for step in before:
        x = step(x)
    return x


def layer_table(module):
    """Every addressable layer of a torch path.

    Parameters
    ----------
    module : nn.Module
        The torch path.

    Returns
    -------
    layers : dict of str to (nn.Module, Stage or None)
        With the names of the Pipeline's steps in front, and without where the later steps have
        none of that name; the stage is the user's network the layer belongs to.
    """
    bare = {}
    if isinstance(module, Chain):
        for step in module.steps:
            bare.update(layer_table(step))
    return {**bare, **dict(_walk(module, "", None))}


def _walk(module, name, stage):
    def below(child):
        return ".".join(filter(None, (name, child)))

    if isinstance(module, Stage):
        for path, layer in named_layers(module.module).items():
            # Calling a method of the network bypasses its hooks, and TorchScript takes none: so the
            # step itself is watched.
            hookless = module.method != "forward" or isinstance(layer, torch.jit.ScriptModule)
            is_step = path == "" and hookless
            yield below(path), (module if is_step else layer, module)
    elif isinstance(module, Scaled):
        yield from _walk(module.module, name, stage)
    else:
        yield name, (module, stage)
        if isinstance(module, (Chain, Branches)):
            parts = module.named_parts()
        else:
            parts = module.named_children() if isinstance(module, nn.Sequential) else ()
        for path, child in parts:
            yield from _walk(child, below(path), stage)
