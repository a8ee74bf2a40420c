"""Preprocessing that has no torch form but keeps columns apart: imputers and encoders.

A head is run as it is. It remembers, for every column it produces, which raw column that column
was made of, so that explanations of its output can be summed back, and it has the derivatives along
raw columns at any sample.
"""

import numbers
import warnings

import numpy as np
import torch
from scipy import sparse
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
from sklearn.utils import _safe_indexing
from sklearn.utils._missing import is_scalar_nan

from ._columns import told_columns


class Head:
    """Preprocessing whose output columns are each made from one raw column.

    Attributes
    ----------
    columns : ndarray of shape (n_outputs,)
        Raw column that each output column was made of.
    """

    def __init__(self, columns):
        self.columns = np.asarray(columns, dtype=np.int64)

    def __call__(self, X):
        """Output for samples, as dense numbers of shape (n, n_outputs)."""
        return to_dense(self._run(X))

    def slopes(self, X):
        """Return the derivative of every output by its raw column, at each sample.

        Parameters
        ----------
        X : ndarray or DataFrame of shape (n, n_columns)
            Samples in raw units; steps may write into it.

        Returns
        -------
        slopes : ndarray of shape (n, n_outputs)
            0 where a column's cell is missing, or out of the range to which a scaler clips, and of
            outputs that have no derivative: indicators and codes of categories.
        """
        return self._run_with_slopes(X)[1]

    def on_raw_columns(self, X):
        """Head and samples where the raw columns begin; (None, None) if there is none there."""
        return self, X

    def maker(self, k):
        """Name the step that makes output k."""
        return "preprocessing"

    def _run(self, X):
        """Output in whatever container: another step may ask for names, or for text."""
        raise NotImplementedError

    def _run_with_slopes(self, X):
        """Output and slopes; each step is run once, as it may write into what it is given."""
        raise NotImplementedError


class TransformerHead(Head):
    """One fitted scikit-learn transformer."""

    def __init__(self, transformer):
        columns, is_column = told_columns(transformer)
        super().__init__(columns)
        self.transformer = transformer
        # Outputs that are the cells themselves, where these are not missing.
        self.passed_on = np.flatnonzero(is_column & _PASSES_ON[type(transformer)])

    def _run(self, X):
        return self.transformer.transform(named(X, self.transformer))

    def _run_with_slopes(self, X):
        slopes = np.zeros((X.shape[0], len(self.columns)))
        if not len(self.passed_on):
            return self._run(X), slopes
        cells = _numbers(X, self.columns[self.passed_on])
        out = self._run(X)
        slopes[:, self.passed_on] = cells == _numbers(out, self.passed_on)
        return out, slopes

    def maker(self, k):
        return type(self.transformer).__name__

    @property
    def fills_nan(self):
        """Whether it imputes NaN, and nothing else."""
        passes_on = _PASSES_ON[type(self.transformer)]
        return passes_on and is_scalar_nan(self.transformer.missing_values)

    def fills(self):
        """Output of an imputer for a row without any value."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self(np.full((1, self.transformer.n_features_in_), np.nan))[0]


class ModuleHead(Head):
    """A column-wise torch module in front of a head, run on numbers."""

    def __init__(self, module, columns, read):
        super().__init__(columns)
        self.module = module
        self.read = read  # columns that may not hold just anything

    def _run(self, X):
        return self.module(as_tensor(numbers_of(X, self.read))).numpy()

    @torch.inference_mode(False)
    def _run_with_slopes(self, X):
        x = as_tensor(numbers_of(X, self.read)).requires_grad_()
        with torch.enable_grad():
            out = self.module(x)
            # Column-wise, so the derivative along all columns at once is each one's own; it is the
            # derivative of the backward pass by what it begins with.
            start = torch.zeros_like(out, requires_grad=True)
            (gradient,) = torch.autograd.grad(out, x, start, create_graph=True)
            (slopes,) = torch.autograd.grad(gradient, start, torch.ones_like(gradient))
        return out.detach().numpy(), slopes.numpy()


class ChainHead(Head):
    """One head after another."""

    def __init__(self, first, second):
        super().__init__(first.columns[second.columns])
        self.first, self.second = first, second

    def on_raw_columns(self, X):
        if self.first.on_raw_columns(X)[0] is None:  # words of texts are
            return self.second, self.first(X)
        return self, X

    def maker(self, k):
        return self.second.maker(k)

    def _run(self, X):
        return self.second._run(self.first._run(X))

    def _run_with_slopes(self, X):
        between, first = self.first._run_with_slopes(X)
        out, second = self.second._run_with_slopes(between)
        # The scale of a column without any value is NaN.
        return out, np.where(second == 0, 0.0, first[:, self.second.columns] * second)


class BranchesHead(Head):
    """Heads on selections of columns, their outputs side by side; None copies the selection."""

    def __init__(self, branches):
        super().__init__(np.concatenate([i if h is None else i[h.columns] for i, h in branches]))
        self.branches = branches

    def maker(self, k):
        for indices, head in self.branches:
            n_outputs = len(indices if head is None else head.columns)
            if k < n_outputs:
                break
            k -= n_outputs
        return super().maker(k) if head is None else head.maker(k)

    def _run(self, X):
        parts = []
        for indices, head in self.branches:
            part = _safe_indexing(X, indices, axis=1)
            parts.append(to_dense(part) if head is None else head(part))
        return np.hstack(parts)

    def _run_with_slopes(self, X):
        parts, slopes = [], []
        for indices, head in self.branches:
            part = _safe_indexing(X, indices, axis=1)
            if head is not None:
                part, slope = head._run_with_slopes(part)
            parts.append(to_dense(part))
            slopes.append(np.ones(parts[-1].shape) if head is None else slope)
        return np.hstack(parts), np.hstack(slopes)


def _numbers(X, columns):
    """Copy columns of any table as numbers, with NaN for cells that are none."""
    if sparse.issparse(X):
        return to_dense(X)[:, columns]
    try:
        return np.array(X, dtype=np.float64)[:, columns]  # mostly: at once
    except (TypeError, ValueError):
        parts = [_safe_indexing(X, int(j), axis=1) for j in columns]
        return np.stack([_cells(part) for part in parts], axis=1)


def _cells(column):
    try:
        return np.array(column, dtype=np.float64)
    except (TypeError, ValueError):
        cells = np.asarray(column, dtype=object)
        return np.array([v if isinstance(v, numbers.Real) else np.nan for v in cells], np.float64)


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
    # Torch takes no read-only memory, negative strides, foreign byte order or longdouble.
    dtype = np.float64 if X.dtype == np.longdouble else X.dtype.newbyteorder("=")
    X = np.require(X, dtype=dtype, requirements=["C", "W"])
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


# Transformers that make every output of one column, and tell which, whatever their parameters are;
# and whether outputs that have the column's own name are its cells, so that there is a derivative.
_PASSES_ON = {
    SimpleImputer: True,
    MissingIndicator: False,
    OneHotEncoder: False,
    OrdinalEncoder: False,
}


def is_head(estimator):
    """Tell whether an estimator, fitted or not, is run as a head."""
    return type(estimator) in _PASSES_ON


def numpy_dtype(dtype, other=torch.float32):
    """Return single or double precision as it is, ``other`` for half precision and others."""
    if dtype is None:
        return torch.get_default_dtype()
    return dtype if dtype in (torch.float32, torch.float64) else other
