"""Preprocessing that has no torch form but keeps columns apart: imputers and encoders.

A head is run as it is. It remembers, for every column it produces, which raw column that column
was made of and the derivative along it, so that explanations of its output can be summed back.
"""

import numpy as np
import torch
from scipy import sparse
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
from sklearn.utils import _safe_indexing


class Head:
    """Preprocessing whose output columns are each made from one raw column.

    Attributes
    ----------
    columns : ndarray of shape (n_outputs,)
        Raw column that each output column was made of.
    slopes : ndarray of shape (n_outputs,)
        Derivative of the output column along its raw column, 1 where it has none.
    """

    def __init__(self, columns, slopes):
        self.columns = np.asarray(columns, dtype=np.int64)
        self.slopes = np.asarray(slopes, dtype=np.float64)


class TransformerHead(Head):
    """One fitted scikit-learn transformer."""

    def __init__(self, transformer, columns):
        super().__init__(columns, np.ones(len(columns)))
        self.transformer = transformer

    def __call__(self, X):
        return self.transformer.transform(named(X, self.transformer))


class ModuleHead(Head):
    """A column-wise torch module in front of a head, run on numbers."""

    def __init__(self, module, read):
        super().__init__(*module.column_map(len(read)))
        self.module = module
        self.read = read  # columns that may not hold just anything

    def __call__(self, X):
        return self.module(as_tensor(numbers_of(X, self.read))).numpy()


class ChainHead(Head):
    """One head after another."""

    def __init__(self, first, second):
        super().__init__(
            first.columns[second.columns], first.slopes[second.columns] * second.slopes
        )
        self.first, self.second = first, second

    def __call__(self, X):
        return self.second(self.first(X))


class BranchesHead(Head):
    """Heads on selections of columns, their outputs side by side; None copies the selection."""

    def __init__(self, branches):
        columns, slopes = [], []
        for indices, head in branches:
            columns.append(indices if head is None else indices[head.columns])
            slopes.append(np.ones(len(indices)) if head is None else head.slopes)
        super().__init__(np.concatenate(columns), np.concatenate(slopes))
        self.branches = branches

    def __call__(self, X):
        parts = []
        for indices, head in self.branches:
            part = _safe_indexing(X, indices, axis=1)
            parts.append(to_dense(part if head is None else head(part)))
        return np.hstack(parts)


def to_dense(X):
    """Numbers as a dense float64 array, whatever container they came in."""
    return np.asarray(X.toarray() if sparse.issparse(X) else X, dtype=np.float64)


def numbers_of(X, read):
    """Columns as numbers, zeros where nobody reads them, whatever they hold.

    Parameters
    ----------
    X : ndarray, sparse matrix or DataFrame of shape (n, n_columns)
        Samples.
    read : ndarray of bool of shape (n_columns,)
        The columns that are read.

    Returns
    -------
    numbers : ndarray of shape (n, n_columns)
        Float64.
    """
    if read.all():
        return to_dense(X)
    numbers = np.zeros(X.shape)
    numbers[:, read] = to_dense(_safe_indexing(X, np.flatnonzero(read), axis=1))
    return numbers


def as_tensor(X):
    """Tensor of an array's numbers, sharing its memory where torch can."""
    # Torch takes neither read-only memory, negative strides nor a foreign byte order.
    X = np.require(X, dtype=X.dtype.newbyteorder("="), requirements=["C", "W"])
    # numpy calls an array contiguous whose axis of length 1 has a negative stride.
    return torch.as_tensor(X.copy() if min(X.strides, default=0) < 0 else X)


def to_numbers(out, method):
    """Return an estimator's output as a float64 array of shape (n, N).

    Parameters
    ----------
    out : array-like, sparse matrix or list of arrays
        What the estimator returned.
    method : str
        Its method, for the error message.

    Returns
    -------
    out : ndarray of shape (n, N)

    Raises
    ------
    TypeError
        If they are no numbers.
    """
    try:
        if isinstance(out, list):  # probabilities, one array for each target
            return np.concatenate([to_dense(o).reshape(len(o), -1) for o in out], axis=1)
        out = to_dense(out)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{method} returned {np.asarray(out).dtype} labels, not numbers; explain an estimator "
            "with transform or predict_proba."
        ) from error
    return out.reshape(len(out), -1)


def named(X, estimator):
    """X as what the estimator was fitted on: a DataFrame if that had column names, or an array.

    Parameters
    ----------
    X : ndarray, sparse matrix or DataFrame
        Samples.
    estimator : estimator
        Whose ``feature_names_in_`` are used.

    Returns
    -------
    X : ndarray, sparse matrix or DataFrame
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        # One that counts columns but knows no names was fitted on an array.
        was_array = hasattr(X, "columns") and hasattr(estimator, "n_features_in_")
        return np.asarray(X) if was_array else X
    if hasattr(X, "columns") or sparse.issparse(X):
        return X
    try:
        import pandas
    except ImportError:
        import polars

        return polars.DataFrame(X, schema=list(names))
    return pandas.DataFrame(X, columns=names)


def _imputer_columns(imputer):
    statistics = imputer.statistics_
    kept = np.arange(len(statistics))
    if not imputer.keep_empty_features and imputer.strategy != "constant":
        empty = [isinstance(s, float) and np.isnan(s) for s in statistics.tolist()]
        kept = kept[~np.array(empty, dtype=bool)]
    indicator = imputer.indicator_.features_ if imputer.add_indicator else []
    return np.concatenate([kept, np.asarray(indicator, dtype=np.int64)])


def _one_hot_columns(encoder):
    sizes = []
    for i, categories in enumerate(encoder.categories_):
        infrequent = getattr(encoder, "infrequent_categories_", None)
        n_infrequent = 0 if infrequent is None or infrequent[i] is None else len(infrequent[i])
        dropped = encoder.drop_idx_ is not None and encoder.drop_idx_[i] is not None
        sizes.append(len(categories) - n_infrequent + (n_infrequent > 0) - dropped)
    return np.repeat(np.arange(len(sizes)), sizes)


def _ordinal_columns(encoder):
    return np.arange(len(encoder.categories_))


_COLUMNS = {
    SimpleImputer: _imputer_columns,
    OneHotEncoder: _one_hot_columns,
    OrdinalEncoder: _ordinal_columns,
}


def is_head(estimator):
    """Tell whether an estimator, fitted or not, is run as a head."""
    return type(estimator) in _COLUMNS


def transformer_head(transformer):
    """Wrap a fitted imputer or encoder as a head."""
    return TransformerHead(transformer, _COLUMNS[type(transformer)](transformer))


def numpy_dtype(dtype, other=torch.float32):
    """Return a floating dtype if numpy has it too, else ``other``."""
    if dtype is None:
        return torch.get_default_dtype()
    return dtype if dtype in (torch.float16, torch.float32, torch.float64) else other
