"""Samples in dask's arrays and dataframes: results of each of them made lazily, samples drawn.

dask is imported only where a collection of its own has come in.
"""

from __future__ import annotations

import functools
import math
import pickle
import sys
import uuid
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ._containers import as_array_like
from ._typing import Function

# Samples that are kept of a collection, and numbers in them.
_MOST_ROWS, _MOST_NUMBERS, _FEWEST_ROWS = 10_000, 2**26, 100
_MERGED = 8  # parts put together at once
# Bytes from which an explainer is sent to a cluster before any task, and is in no other graph.
_LARGE = 2**23


A_NUMBER = (), np.float64  # a form, see `by_blocks`


def dask_kind(X):
    """Tell whether samples are in dask, without importing it.

    Parameters
    ----------
    X : object
        What was given.

    Returns
    -------
    kind : {"array", "frame"} or None
        None of anything else, a single dask Series among it.
    """
    kind = type(X)
    if not hasattr(kind, "__dask_graph__") or kind.__module__.partition(".")[0] != "dask":
        return None
    if hasattr(kind, "map_blocks"):
        return "array"
    return "frame" if hasattr(kind, "map_partitions") and X.ndim == 2 else None


def dask_text(X):
    """Name a collection, for messages."""
    return "a dask Array" if dask_kind(X) == "array" else "a dask DataFrame"


def by_blocks(form: Any) -> Callable[[Function], Function]:
    """Let a method with a result for each sample take collections of dask, and return lazy ones.

    Parameters
    ----------
    form : tuple or callable
        Shape and dtype of one sample's result, and True if results are a CSR matrix; or what
        returns it of the explainer and whatever else the method is given.

    Returns
    -------
    decorate : callable
    """

    def decorate(method: Function) -> Function:
        @functools.wraps(method)
        def of_any(self, X, *args, **kwargs):
            if dask_kind(X) is None:
                return method(self, X, *args, **kwargs)
            return self._over_blocks(method.__name__, X, form, args, kwargs)

        wrapped: Any = of_any
        wrapped.takes_dask = True
        return wrapped

    return decorate


def methods_by_blocks(explainer):
    """Names of the methods that take dask's collections block by block."""
    kind = type(explainer)
    found = [name for name in dir(kind) if getattr(_function(kind, name), "takes_dask", False)]
    return ["transform", *(name for name in found if name != "transform")]


def _function(kind, name):
    """Look a method up without calling what `available_if` asks."""
    for base in kind.__mro__:
        if name in vars(base):
            return getattr(vars(base)[name], "fn", vars(base)[name])
    return None


# -- a result for each sample ----------------------------------------------------------------------


def one_block_a_sample(X):
    """Rechunk an array so that samples are whole: only their own axis is cut."""
    if dask_kind(X) != "array" or all(n == 1 for n in X.numblocks[1:]):
        return X
    return X.rechunk(dict.fromkeys(range(1, X.ndim), -1))


def stand_in(X):
    """Return one sample of zeros in a container that has the axes and columns of a collection."""
    if dask_kind(X) == "array":
        return np.zeros((1, *X.shape[1:]))
    import pandas as pd

    return pd.DataFrame(np.zeros((1, len(X.columns))), columns=X.columns)


def sent(explainer, container="default"):
    """Put an explainer into one task of its own, which all blocks share.

    Parameters
    ----------
    explainer : BaseExplainer
        Fitted; what happens to it afterwards does not count.
    container : {"default", "pandas"}, default="default"
        Of what its ``transform`` is to return.

    Returns
    -------
    task : Delayed
        Where there is a client of `distributed` and the explainer is large, it is sent at once and
        graphs only name it. It is not scattered: what a worker that dies had of scattered data
        cannot be made again, but a task can.
    """
    import dask

    # Another object with the same parts: `fit` gives an explainer others, and changes none.
    still = object.__new__(type(explainer))
    vars(still).update(vars(explainer))
    vars(still).pop("_whole", None)
    still._sklearn_output_config = {"transform": container}
    name = f"{type(explainer).__name__}-{uuid.uuid4().hex}"
    task = dask.delayed(still, name=name, traverse=False)
    client = _client()
    if client is None or len(pickle.dumps(still)) <= _LARGE:
        return task
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph")  # it is sent only here
        return client.persist(task)


def _client():
    distributed = sys.modules.get("distributed")
    try:
        return None if distributed is None else distributed.default_client()
    except ValueError:  # there is none
        return None


def explained_by_blocks(explainer, X, method, form, args=(), kwargs=None, names=None):
    """Make the results of a method lazily, block by block.

    Parameters
    ----------
    explainer : BaseExplainer
        Fitted.
    X : dask Array or DataFrame
        Samples, with the axes of those in ``fit``.
    method : str
        Name of the method.
    form : tuple
        Shape and dtype of one sample's result, and True if results are a CSR matrix.
    args, kwargs : tuple and dict, default=() and None
        What the method is given beside X.
    names : ndarray of str or None, default=None
        Columns, if a DataFrame is wanted.

    Returns
    -------
    results : dask Array, or DataFrame
    """
    X = one_block_a_sample(X)
    frames = names is not None
    shape, dtype, *is_sparse = form
    shape = (math.prod(shape),) if frames else tuple(int(n) for n in shape)
    of_frames = dask_kind(X) == "frame"
    if any(is_sparse):
        from scipy import sparse

        empty = sparse.csr_matrix((0, *shape), dtype=dtype)
    else:
        empty = np.empty((0, *shape), dtype)
    if frames and of_frames:
        import pandas as pd

        empty = pd.DataFrame(empty, columns=names, index=X._meta.index)
    explain = functools.partial(
        _explained, method=method, args=args, kwargs=kwargs or {}, empty=empty, flat=frames
    )
    if of_frames:
        task = sent(explainer, "pandas" if frames else "default")
        return X.map_partitions(explain, task, meta=empty, enforce_metadata=False)
    result = X.map_blocks(
        explain,
        explainer=sent(explainer),
        dtype=dtype,
        drop_axis=list(range(1, X.ndim)),
        new_axis=list(range(1, 1 + len(shape))),
        chunks=(X.chunks[0], *((n,) for n in shape)),
        meta=empty,
    )
    if not frames:
        return result
    import dask.dataframe as dd

    return dd.from_dask_array(result, columns=list(names))


def _explained(block, explainer, *, method, args, kwargs, empty, flat):
    """Explain the samples of one block, which may be none."""
    if len(block) == 0:
        return empty
    result = getattr(explainer, method)(block, *args, **kwargs)
    return result.reshape(len(result), -1) if flat and isinstance(result, np.ndarray) else result


# -- samples of all blocks -------------------------------------------------------------------------


def tasks_of_blocks(X):
    """List the blocks, one task each."""
    X = one_block_a_sample(X)
    return list(np.ravel(X.to_delayed()))


def drawn_rows(X, y, seed):
    """Draw samples at random from all blocks, in one pass.

    Every sample is given a random number, and those with the smallest are kept, block by block
    and then of several blocks, so that only a few blocks are in memory at once.

    Parameters
    ----------
    X : dask Array or DataFrame
        Samples; how many there are in a block need not be known.
    y : object
        Targets: None, of dask in the same blocks, or in memory if X knows its blocks' lengths.
    seed : int
        Of the draw, which also depends on how X is cut into blocks.

    Returns
    -------
    X : ndarray or DataFrame
        Up to 10 000 samples (fewer of large ones), in their order: all, if there are no more.
    y : object
        Their targets.
    n : int
        How many samples there are.
    """
    import dask

    targets = _targets_of_blocks(X, y)
    draw = dask.delayed(_smallest, pure=False)
    blocks = zip(tasks_of_blocks(X), targets, strict=True)
    parts = [draw([_numbered(block, ys, i, seed)]) for i, (block, ys) in enumerate(blocks)]
    while len(parts) > 1:
        parts = [draw(parts[i : i + _MERGED]) for i in range(0, len(parts), _MERGED)]
    ((_, places, rows, ys, n),) = dask.compute(parts[0])
    order = np.lexsort(places.T[::-1])
    return _taken(rows, order), None if ys is None else _taken(ys, order), n


def _targets_of_blocks(X, y):
    n_blocks = X.numblocks[0] if dask_kind(X) == "array" else X.npartitions
    if y is None:
        return [None] * n_blocks
    if hasattr(type(y), "__dask_graph__"):
        if hasattr(y, "chunks") and dask_kind(X) == "array" and y.chunks[0] != X.chunks[0]:
            if not np.isnan([*y.chunks[0], *X.chunks[0]]).any():
                y = y.rechunk({0: X.chunks[0]})
        tasks = tasks_of_blocks(y)
        if len(tasks) != n_blocks:
            raise ValueError(
                f"X has {n_blocks} blocks of samples but y has {len(tasks)}; they must be cut at "
                "the same samples."
            )
        return tasks
    if dask_kind(X) == "frame" or np.isnan(X.chunks[0]).any():
        raise TypeError(
            f"X is {dask_text(X)} whose blocks have unknown lengths, so that y in memory cannot "
            "be cut as they are; give y as a collection of dask with the same blocks, a column of "
            "the same DataFrame for example."
        )
    y = as_array_like(y, "y")
    if len(y) != X.shape[0]:
        raise ValueError(f"X has {X.shape[0]} samples but y has {len(y)}.")
    ends = np.cumsum(X.chunks[0])
    return [y[end - size : end] for end, size in zip(ends, X.chunks[0], strict=True)]


def _numbered(block, y, i, seed):
    import dask

    return dask.delayed(_with_numbers, pure=False)(block, y, i, seed)


def _with_numbers(block, y, i, seed):
    """Give the samples of a block random numbers and places."""
    block = as_array_like(block)
    n = len(block)
    if y is not None and len(y) != n:
        raise ValueError(f"block {i} of X has {n} samples but that of y has {len(y)}.")
    numbers = np.random.default_rng([seed, 5, i]).random(n)
    places = np.column_stack([np.full(n, i), np.arange(n)])
    return numbers, places, block, y, n


def _smallest(parts):
    """Put parts together, and keep the samples with the smallest numbers."""
    # A block of none may have another dtype.
    held = [part for part in parts if len(part[0])] or parts[:1]
    numbers, places = (np.concatenate([part[i] for part in held]) for i in range(2))
    rows = _joined([part[2] for part in held])
    ys = None if held[0][3] is None else _joined([part[3] for part in held])
    size = math.prod(rows.shape[1:])
    most = int(np.clip(_MOST_NUMBERS // max(size, 1), _FEWEST_ROWS, _MOST_ROWS))
    n = sum(part[4] for part in parts)
    if len(numbers) > most:
        kept = np.sort(np.argpartition(numbers, most)[:most])
        numbers, places, rows = numbers[kept], places[kept], _taken(rows, kept)
        ys = None if ys is None else _taken(ys, kept)
    return numbers, places, rows, ys, n


def _joined(parts):
    if len(parts) == 1:
        return parts[0]
    if hasattr(parts[0], "iloc"):
        import pandas as pd

        return pd.concat(parts)
    return np.concatenate(parts)


def _taken(rows, order):
    return rows.iloc[order] if hasattr(rows, "iloc") else rows[order]


def streamed_mean(X, explainer):
    """Mean of all samples as they enter the network, block by block.

    Parameters
    ----------
    X : dask Array or DataFrame
        Samples.
    explainer : BaseExplainer
        Takes them in.

    Returns
    -------
    mean : ndarray of shape (...) of float64
        NaN where a number is missing in all.
    """
    import dask

    task, sums = sent(explainer), dask.delayed(_sums, pure=False)
    parts = [sums(block, task) for block in tasks_of_blocks(X)]
    add = dask.delayed(_added, pure=False)
    while len(parts) > 1:
        parts = [add(parts[i : i + _MERGED]) for i in range(0, len(parts), _MERGED)]
    ((total, known),) = dask.compute(parts[0])
    with np.errstate(invalid="ignore"):
        return total / known


def _sums(block, explainer):
    if len(block) == 0:
        return 0.0, 0
    with explainer._opened(block) as (inputs, _):
        missing = np.isnan(inputs)
        if not missing.any():
            return inputs.sum(axis=0, dtype=np.float64), len(inputs)
        known = np.where(missing, 0, inputs)
        return known.sum(axis=0, dtype=np.float64), (~missing).sum(axis=0)


def _added(parts):
    return tuple(sum(values[1:], values[0]) for values in zip(*parts, strict=True))
