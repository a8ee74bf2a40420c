"""Which raw column an output of preprocessing is made of: asked of the steps, and tried out."""

import copy
import numbers
import re
import warnings

import numpy as np
from sklearn.utils import _safe_indexing

from ..utils import spread_places

_N_ROWS = 32  # fitted rows whose cells are exchanged
_MARK = "\0column {}\0"  # a name that no column and no category has
_MARKED = re.compile(_MARK.format(r"(\d+)"))


class NoTorchForm(Exception):
    """Carries the name of the step that cannot be written in torch."""


def told_columns(transformer):
    """Ask a fitted transformer which column each of its outputs is made of.

    It is asked for the names of its outputs, given names of columns that are found in them again.

    Parameters
    ----------
    transformer : estimator
        With ``get_feature_names_out``, which names every output after its column.

    Returns
    -------
    columns : ndarray of int of shape (n_outputs,)
        Column of every output.
    is_column : ndarray of bool of shape (n_outputs,)
        Whether the output has the name of its column, as an imputed column has and an indicator or
        a category has not.

    Raises
    ------
    NoTorchForm
        If it does not tell.
    """
    asked = copy.copy(transformer)
    vars(asked).pop("feature_names_in_", None)  # lest it takes no others
    if hasattr(asked, "feature_name_combiner"):
        asked.feature_name_combiner = "concat"  # the user's own may leave the column's name out
    try:
        marks = [_MARK.format(i) for i in range(asked.n_features_in_)]
        names = [str(name) for name in asked.get_feature_names_out(marks)]
    except Exception as error:
        raise NoTorchForm(_untold(transformer)) from error
    found = [_MARKED.findall(name) for name in names]
    if any(len(columns) != 1 for columns in found):
        raise NoTorchForm(_untold(transformer))
    columns = np.array([int(columns[0]) for columns in found], dtype=np.int64)
    return columns, np.array([_MARKED.fullmatch(name) is not None for name in names], dtype=bool)


def _untold(transformer):
    return f"{type(transformer).__name__} (it does not tell which column an output is made of)"


def check_columns_of(head, X):
    """Try out whether every output of a head follows the column that it is said to be made of.

    Cells of fitted rows are exchanged within half of the columns at a time, in such halves that any
    two columns are apart in one of them: an output moves only if its own column is exchanged.

    Parameters
    ----------
    head : Head
        With the columns that its steps have told.
    X : ndarray or DataFrame
        Samples in raw units; some of them are run.

    Raises
    ------
    NoTorchForm
        If an output moves with another column than its own, or there are more or fewer outputs
        than were told.
    """
    X = _in_known_container(X)
    n, n_columns = X.shape
    rows = spread_places(n, _N_ROWS)
    bits = np.arange(n_columns)[:, None] >> np.arange(max(n_columns - 1, 0).bit_length()) & 1 == 1
    exchanged = np.concatenate([bits, ~bits], axis=1).T  # (n_trials, n_columns)
    # All trials in one table, one below the other, the rows as they are first.
    take = np.repeat(rows[None, :, None], len(exchanged) + 1, axis=0)
    take = np.where(
        np.concatenate([np.zeros((1, n_columns), dtype=bool), exchanged])[:, None],
        np.roll(take, 1, axis=1),
        take,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of steps, which have said so to their users already
        out = head(recombined(X, take.reshape(-1, n_columns)))
    if out.shape[1] != len(head.columns):
        raise NoTorchForm(
            f"{head.maker(0)} (it tells of {len(head.columns)} outputs and makes {out.shape[1]})"
        )
    first, *others = out.reshape(len(take), len(rows), -1)
    for columns, values in zip(exchanged, others, strict=True):
        moved = ~np.isclose(values, first, rtol=1e-9, atol=0, equal_nan=True).all(axis=0)
        wrong = moved & ~columns[head.columns]
        if wrong.any():
            maker = head.maker(np.flatnonzero(wrong)[0])
            raise NoTorchForm(
                f"{maker} (an output follows another column than the one it is named after)"
            )


def _in_known_container(X):
    """X itself if it is of pandas or polars, else as an array."""
    return X if hasattr(X, "iloc") or hasattr(X, "with_columns") else np.asarray(X)


def recombined(X, take):
    """Return a table whose cell (i, j) is that of X at (take[i, j], j).

    Parameters
    ----------
    X : ndarray or DataFrame of shape (n, n_columns)
        Any table; columns keep their dtypes.
    take : ndarray of int of shape (m, n_columns)
        Rows.

    Returns
    -------
    table : ndarray or DataFrame of shape (m, n_columns)
    """
    if not hasattr(X, "columns"):
        return np.asarray(X)[take, np.arange(X.shape[1])]
    if hasattr(X, "iloc"):
        return _frame(
            X,
            lambda cells, j: recombined(cells, take[:, j]),
            lambda column, j: column.take(take[:, j]),
        )
    return X.select(X[name].gather(take[:, j]) for j, name in enumerate(X.columns))


def _frame(X, of_cells, of_column):
    """Make a pandas DataFrame of another, columns of one dtype at once, as there may be many."""
    import pandas

    dtypes = list(X.dtypes)
    blocks, order = [], []
    for dtype in dict.fromkeys(dtypes):
        positions = np.flatnonzero([other == dtype for other in dtypes])
        order.append(positions)
        if isinstance(dtype, np.dtype):
            cells = of_cells(X.iloc[:, positions].to_numpy(), positions)
            blocks.append(pandas.DataFrame(cells, dtype=dtype))
        else:
            columns = (of_column(X.iloc[:, j], j) for j in positions)
            blocks += [column.reset_index(drop=True) for column in columns]
    table = pandas.concat(blocks, axis=1, ignore_index=True)
    return table.iloc[:, np.argsort(np.concatenate(order))].set_axis(X.columns, axis=1)


def zeros_of(head, X):
    """Return what a head makes of zeros in raw units.

    Columns that hold no numbers have no zero, and a zero that an encoder does not know has no
    code; there it is "none of the categories", zeros of what the head makes of the column.

    Parameters
    ----------
    head : Head
        Whose columns are settled.
    X : ndarray or DataFrame
        Samples in raw units.

    Returns
    -------
    zeros : ndarray of shape (n_outputs,)
    """
    X = _in_known_container(X)
    numeric = np.flatnonzero([_is_numeric(X, j) for j in range(X.shape[1])])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zeros = _made_of_zeros(head, X, numeric)
        if zeros is None:  # which column was it?
            zeros = np.zeros(len(head.columns))
            for j in numeric:
                made = _made_of_zeros(head, X, [j])
                zeros = zeros if made is None else zeros + made
    return zeros


def _made_of_zeros(head, X, columns):
    """Run zeros in some columns: outputs, 0 for those of other columns; None if that fails."""
    try:
        (out,) = head(_with_zeros(_safe_indexing(X, [0]), columns))
    except Exception:  # an encoder's, of a category that it does not know
        return None
    out = np.where(np.isin(head.columns, columns), out, 0.0)
    return out if np.isfinite(out).all() else None


def _with_zeros(row, columns):
    """Set some columns of a table of one row to zero."""
    if not hasattr(row, "columns"):
        row = np.array(row)
        row[:, columns] = 0
        return row
    if hasattr(row, "iloc"):

        def of_column(column, j):
            return (column.isna() & False).astype(column.dtype) if j in columns else column

        def of_cells(cells, j):
            return np.where(np.isin(j, columns), np.zeros_like(cells), cells)

        return _frame(row, of_cells, of_column)
    names = [row.columns[j] for j in columns]
    return row.with_columns((row[name].is_null() & False).cast(row[name].dtype) for name in names)


def _is_numeric(X, j):
    """Whether a column holds numbers or truth values, and maybe gaps."""
    dtype = X.dtypes.iloc[j] if hasattr(X, "iloc") else None
    if isinstance(dtype, np.dtype) and dtype.kind != "O":
        return dtype.kind in "biuf"
    column = _safe_indexing(X, j, axis=1)
    if "categor" in str(getattr(column, "dtype", "")).lower():
        return False
    column = np.asarray(column)
    if column.dtype.kind != "O":
        return column.dtype.kind in "biuf"
    return all(isinstance(v, (numbers.Real, np.bool_)) or _is_gap(v) for v in column.tolist())


def _is_gap(value):
    return value is None or type(value).__name__ in ("NAType", "NaTType")
