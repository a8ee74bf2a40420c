"""What people hand over as samples: read as one array or table, or refused by name.

Everything that takes arrays (explainers, nets, metrics, displays) begins with `as_array_like`, so
that a container is read alike everywhere. It asks what an object can do rather than what it is:
whether it is a mapping, lazy, a table, a sequence of samples, or can be read only once. Messages
name the container and the way out, in one line, and never show the data.
"""

import os
from collections.abc import Mapping

import numpy as np
import torch
from scipy import sparse
from torch.utils.data import IterableDataset

from ._precision import cast_checked
from ._several import check_one_array

PANEL = "sklexplain.utils.as_numpy3d"
_RAGGED = ("ragged",)  # instead of a shape
_N_LOOKED_AT = 10  # cells of a column, of which the first few may be missing


def as_array_like(X, name="X"):
    """Read samples from whatever holds them.

    Parameters
    ----------
    X : object
        Arrays, nested lists, tensors (on any device, with gradients, quantised or in a dtype that
        numpy lacks), tables of pandas, polars or pyarrow, lazy arrays, datasets of torch and skorch
        (of pairs, the first is the sample).
    name : str, default="X"
        The parameter, for messages.

    Returns
    -------
    X : ndarray, DataFrame, Series, sparse matrix or list
        Tables of pandas and polars, sparse matrices and lists of text as they are, and anything
        else as an array; masked entries are NaN.

    Raises
    ------
    TypeError
        If it is no container of samples, or none that can be read twice in the same order.
    ValueError
        If samples differ in shape, or there are no numbers behind it.

    Examples
    --------
    >>> import torch
    >>> from sklexplain.utils import as_array_like
    >>> as_array_like(torch.ones(2, 3, dtype=torch.bfloat16, requires_grad=True)).dtype
    dtype('float32')
    """
    if isinstance(X, np.ndarray):
        return _from_ndarray(X, name)
    if isinstance(X, torch.Tensor):
        return _from_tensor(X, name)
    if is_table(X) or sparse.issparse(X):
        return X
    if name == "X":
        check_one_array(X)
    if isinstance(X, (list, tuple)):
        return _from_sequence(X, name)
    return _from_object(X, name)


def as_array(values, name="X"):
    """Read numbers, labels or other values from whatever holds them, as an array.

    Parameters
    ----------
    values : object
        See `as_array_like`.
    name : str, default="X"
        The parameter, for messages.

    Returns
    -------
    values : ndarray
    """
    return np.asarray(as_array_like(values, name))


def is_table(X):
    """Whether X is a DataFrame that is used as it is: of pandas or polars."""
    kind = type(X)
    if not (hasattr(kind, "columns") and hasattr(kind, "shape")) or hasattr(kind, "__dask_graph__"):
        return False
    # A frame on a graphics card has all of pandas' ways, and one more.
    return hasattr(kind, "get_columns") or (
        hasattr(kind, "iloc") and not hasattr(kind, "to_pandas")
    )


def _from_ndarray(X, name):
    if isinstance(X, np.ma.MaskedArray):
        X = _filled(X)
    if X.dtype.names is not None:
        fields = _listed(X.dtype.names)
        raise TypeError(
            f"{name} is a structured array with fields {fields}; pass pandas.DataFrame({name})."
        )
    if X.dtype != object or X.size == 0:
        return X
    if X.ndim == 0:
        return as_array_like(X.item(), name)
    if not is_series(X.flat[0]):
        return X
    if X.ndim > 1:
        raise _nested(name, "every cell")
    return _from_sequence(list(X), name)


def _filled(X):
    """Write NaN, or None among other things than numbers, where entries are masked."""
    if not np.ma.is_masked(X):
        return np.ma.getdata(X)
    if X.dtype.kind in "OUS":
        cells = np.ma.getdata(X).astype(object)
        cells[np.ma.getmaskarray(X)] = None
        return cells
    if X.dtype.kind in "Mm":
        return X.filled(np.array("NaT", dtype=X.dtype))
    numbers = np.ma.getdata(X)
    numbers = cast_checked(numbers, np.float64) if X.dtype.kind in "biu" else numbers.copy()
    numbers[np.ma.getmaskarray(X)] = np.nan
    return numbers


def _from_tensor(X, name):
    if hasattr(X, "get_mask") and hasattr(X, "get_data"):
        data, mask = X.get_data(), X.get_mask()
        data = data if data.is_floating_point() else data.double()
        return _from_tensor(data.masked_fill(~mask, float("nan")), name)
    if X.is_nested:
        raise ValueError(
            f"{name} is a nested tensor, whose samples differ in shape; pad them to one: "
            f"{name}.to_padded_tensor(0.0), or float('nan') for a network that takes NaN."
        )
    if X.is_meta:
        raise ValueError(f"{name} is a tensor on the meta device, which holds no numbers.")
    X = X.detach()
    if X.is_mkldnn:
        X = X.to_dense()
    if X.layout != torch.strided:
        layout = str(X.layout).removeprefix("torch.")
        raise TypeError(
            f"Sparse data was passed: {name} is a tensor with layout {layout}; pass "
            f"{name}.to_dense()."
        )
    X = X.dequantize() if X.is_quantized else X
    X = X.cpu().resolve_conj().resolve_neg()
    try:
        return X.numpy()
    except TypeError:  # a dtype that numpy lacks
        return X.to(torch.complex64 if X.is_complex() else torch.float32).numpy()


def _from_sequence(X, name):
    """Read a list or tuple."""
    if len(X) == 0 or isinstance(X[0], (str, bytes, Mapping)):
        return X
    if any(hasattr(type(item), "shape") and np.ndim(item) > 0 for item in X):
        return _stacked(X, name)
    try:
        array = np.asarray(X)
    except (ValueError, TypeError, RuntimeError) as error:
        shapes = {shape: None for shape in map(_shape, X)}
        if len(shapes) == 1 and _RAGGED not in shapes:
            raise TypeError(f"{name} holds no numbers that numpy can read ({error}).") from None
        raise _ragged(name, shapes) from None
    # As text, numbers in one column would no longer be told from text in another.
    return np.array(X, dtype=object) if array.dtype.kind in "USO" and array.ndim > 1 else array


def _stacked(items, name):
    """Stack samples, which must have one shape."""
    first = items[0]
    if any(is_table(item) for item in items):
        raise ValueError(
            f"{name} is a list of DataFrames; pass {PANEL}({name}), an array of shape "
            "(n, channels, time)."
        )
    if any(isinstance(item, Mapping) for item in items):
        raise _several_inputs(name, f"holds {_a(type(first).__name__)} for every sample")
    arrays = [np.asarray(as_array_like(item, name)) for item in items]
    shapes = {array.shape: None for array in arrays}
    if len(shapes) > 1:
        axes = [shape[0] if len(shape) > 1 else None for shape in shapes]
        if isinstance(items, tuple) and None not in axes and len(set(axes)) == 1:
            listed = " and ".join(str(array.shape) for array in arrays)
            raise _several_inputs(name, f"is a tuple of arrays of shapes {listed}")
        raise _ragged(name, shapes)
    return np.stack(arrays)


def _from_object(X, name):
    """Read anything else, or refuse it."""
    kind = type(X)
    graph = getattr(X, "__dask_graph__", None)
    if graph is not None and graph() is not None:
        return as_array_like(X.compute(), name)
    if isinstance(X, Mapping):
        example = f", {name}[{next(iter(X))!r}] for example" if len(X) else ""
        raise _several_inputs(name, f"is {_a(kind.__name__)} of {_listed(X) or 'nothing'}", example)
    if isinstance(X, (str, bytes, os.PathLike)):
        raise TypeError(
            f"{name} is {_a(kind.__name__)}, no array; if it names a file, read that first "
            "(numpy.load, pandas.read_csv)."
        )
    if hasattr(kind, "batch_sampler") or (hasattr(X, "batch_sampler") and hasattr(X, "dataset")):
        raise TypeError(
            f"{name} is {_a(kind.__name__)}, which gives batches in an order of its own; pass its "
            "dataset, loader.dataset, or one array of all samples."
        )
    if isinstance(X, IterableDataset) or (hasattr(kind, "__iter__") and not _is_indexed(X)):
        raise TypeError(
            f"{name} is {_a(kind.__name__)}, which has no fixed order or can be read only once; "
            f"pass numpy.stack(list({name}))."
        )
    if hasattr(kind, "to_native"):
        return as_array_like(X.to_native(), name)
    if hasattr(kind, "lazy") and hasattr(kind, "collect"):
        raise TypeError(f"{name} is {_a(kind.__name__)}, a query; pass {name}.collect().")
    if hasattr(kind, "to_pandas") and (hasattr(kind, "column_names") or hasattr(kind, "columns")):
        return X.to_pandas()
    if hasattr(X, "iloc"):  # a Series
        return X
    if hasattr(X, "tensors"):
        return _from_tensor(_sample_of(tuple(X.tensors), name, X), name)
    if _is_indexed(X) and not _has_array(X):
        return _from_items(X, name)
    return _from_array_protocol(X, name)


def _from_items(X, name):
    """Read a sequence of samples, or of pairs of a sample and its target."""
    items = [X[i] for i in range(len(X))]
    if not items:
        raise ValueError(f"{name} is {_a(type(X).__name__)} without samples.")
    if isinstance(items[0], tuple):
        items = [_sample_of(item, name, X) for item in items]
    return _stacked(items, name)


def _sample_of(item, name, X):
    if len(item) > 2:
        raise _several_inputs(
            name, f"is {_a(type(X).__name__)} whose items hold {len(item)} things"
        )
    return item[0]


def _from_array_protocol(X, name):
    try:
        array = np.asarray(X)
    except Exception as error:
        raise TypeError(
            f"{name} is {_a(_qualified(X))}, which numpy cannot read ({short(error)}); pass an "
            "array, a DataFrame or a tensor."
        ) from error
    if array.ndim == 0 and array.dtype == object:
        raise TypeError(
            f"{name} is {_a(_qualified(X))}, not an array; pass an array, a DataFrame or a tensor."
        )
    return _from_ndarray(array, name) if array.ndim else X


def _is_indexed(X):
    return hasattr(type(X), "__len__") and (hasattr(type(X), "__getitem__") or _has_array(X))


def _has_array(X):
    names = ("__array__", "__array_interface__", "__array_struct__")
    return isinstance(X, memoryview) or any(hasattr(X, name) for name in names)


def columns_of(X):
    """Return the columns of a table, as Series."""
    if hasattr(X, "get_columns"):
        return X.get_columns()
    return [X.iloc[:, i] for i in range(X.shape[1])]


def is_series(cell):
    """Whether a cell of a table holds several values."""
    if isinstance(cell, (str, bytes, Mapping, set, frozenset)) or not hasattr(cell, "__len__"):
        return False
    return np.ndim(cell) > 0 if hasattr(cell, "shape") else True


def _has_iloc(cell):
    return hasattr(cell, "iloc")


def _shape(item):
    try:
        return np.shape(item)
    except (ValueError, TypeError, RuntimeError):
        return _RAGGED


def _qualified(X):
    kind = type(X)
    return (
        kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    )


def _a(word):
    return f"{'an' if word[0].lower() in 'aeiou' else 'a'} {word}"


def short(value, n_characters=60):
    """Write a value in one line."""
    lines = str(value).strip().splitlines()
    text = lines[0] if lines else ""
    return text if len(lines) < 2 and len(text) <= n_characters else f"{text[:n_characters]}..."


def _listed(names, n_most=4):
    names = [repr(str(name)) for name in names]
    more = f" and {len(names) - n_most} more" if len(names) > n_most else ""
    return ", ".join(names[:n_most]) + more


# -- refusals --------------------------------------------------------------------------------------


def _several_inputs(name, what, example=""):
    return TypeError(
        f"{name} {what}; pass one array{example}. Where a network takes several inputs, a first "
        "step makes them of the columns of one array: make_pipeline(FunctionTransformer(f), net)."
    )


def _ragged(name, shapes):
    known = [shape for shape in shapes if shape != _RAGGED][:2]
    example = f", {known[0]} and {known[1]} for example" if len(known) == 2 else ""
    several = ""
    same = len({shape[:1] for shape in shapes}) == 1 and all(len(shape) > 1 for shape in shapes)
    if len(shapes) < 5 and same and len(known) > 1:
        several = (
            " If they are several inputs of a network, a first step makes them of the columns of "
            "one array: make_pipeline(FunctionTransformer(f), net)."
        )
    return ValueError(
        f"{name} holds samples of different shapes{example}: series must be padded to one length. "
        f"{PANEL}({name}, pad=True) pads them with NaN.{several}"
    )


def _nested(name, where):
    return ValueError(
        f"{name} is a nested table, {where} holds a series; pass {PANEL}({name}), an array of "
        "shape (n, channels, time)."
    )


def check_rows(X, name="X"):
    """Raise a ValueError if the rows of a table are not its samples.

    Parameters
    ----------
    X : object
        What `as_array_like` returned.
    name : str, default="X"
        The parameter, for messages.

    Raises
    ------
    ValueError
        If rows are labelled by several levels, as the times of series are, or a cell holds a
        pandas Series.
    TypeError
        If samples are dicts.
    """
    if isinstance(X, (list, tuple)) and len(X) and isinstance(X[0], Mapping):
        raise TypeError(
            f"{name} is a list of {type(X[0]).__name__}s; pass pandas.DataFrame({name})."
        )
    n_levels = getattr(getattr(X, "index", None), "nlevels", 1)
    if isinstance(n_levels, int) and n_levels > 1:
        levels = _listed(X.index.names)
        raise ValueError(
            f"the rows of {name} are labelled by {n_levels} levels ({levels}), as those of a table "
            f"of series are; pass {PANEL}({name}), or {name}.reset_index(drop=True) if every row "
            "is a sample."
        )
    if is_table(X) and hasattr(X, "iloc"):
        for i, dtype in enumerate(X.dtypes):
            if dtype == np.dtype(object) and any(map(_has_iloc, X.iloc[:_N_LOOKED_AT, i])):
                error = _nested(name, f"every cell of column {str(X.columns[i])!r}")
                raise error
