"""From the cells of arrays and tables to numbers; what is none is named."""

import sys

import numpy as np

from ._containers import PANEL, columns_of, is_series, is_table, short
from ._precision import EXACT, cast_checked, warn_of_lost

_DATES = (np.datetime64, np.timedelta64)


def as_numbers(X, name="X"):
    """Make numbers of the cells of an array or table.

    Parameters
    ----------
    X : object
        What `as_array_like` returned.
    name : str, default="X"
        The parameter, for messages.

    Returns
    -------
    X : ndarray
        Of bool, integers or floating numbers of at most 64 bits; missing values are NaN. What is
        neither an array nor a table is returned as it is.

    Raises
    ------
    ValueError
        If some cell holds text, a date, a series or a complex number, naming its column or
        position.
    TypeError
        If some cell holds an object of another kind.

    Warns
    -----
    DataConversionWarning
        If integers, or numbers of more than 64 bits, can no longer be told apart.
    """
    if is_table(X):
        return _table_numbers(X)
    if not isinstance(X, np.ndarray) or X.dtype.kind in "biu":
        return X
    kind = X.dtype.kind
    if kind == "f":
        return X if X.dtype.itemsize <= 8 else cast_checked(X, np.float64)
    if kind == "c":
        raise ValueError(
            f"Complex data not supported: {name} has dtype {X.dtype}; pass real numbers, its "
            "absolute value, or real and imaginary part side by side."
        )
    if kind == "V":  # a dtype of another library, bfloat16 for example
        try:
            return X.astype(np.float32)
        except (TypeError, ValueError):
            raise ValueError(f"{name} is not numeric (dtype {X.dtype}).") from None
    if X.ndim == 2 and X.shape[1]:
        lost = []
        columns = [_column_numbers(column, i, X.dtype, lost) for i, column in enumerate(X.T)]
        _warn_of_first(lost)
        return np.stack(columns, axis=1)
    return _cell_numbers(X, name)


def check_columns_numeric(X):
    """Raise a ValueError that names the first column without numbers, if there is one."""
    as_numbers(X)


# -- tables ----------------------------------------------------------------------------------------


def _table_numbers(X):
    names = list(X.columns)
    if not names:
        return np.empty(tuple(X.shape))
    dtypes = list(X.dtypes)
    if all(isinstance(dtype, np.dtype) and dtype.kind in "biuf" for dtype in dtypes):
        return _plain_numbers(X, names, dtypes)
    lost = []
    columns = [
        _series_numbers(series, repr(str(column)), lost)
        for series, column in zip(columns_of(X), names, strict=True)
    ]
    _warn_of_first(lost)
    common = _floating(np.result_type(*columns))
    pairs = zip(columns, names, strict=True)
    cast = [_exactly(values[:, None], common, [column]) for values, column in pairs]
    return np.concatenate(cast, axis=1)


def _plain_numbers(X, names, dtypes):
    """Numbers of a table of pandas whose columns hold numpy's numbers, in one piece."""
    common = np.result_type(*dtypes)
    numbers = X.to_numpy(dtype=common)
    if common.kind == "f":
        # Integers that become floating numbers only because of other columns.
        large = [i for i, dtype in enumerate(dtypes) if dtype.kind in "iu" and dtype.itemsize == 8]
        for i in large:
            if np.abs(numbers[:, i]).max(initial=0) >= EXACT:
                _exactly(X.iloc[:, i].to_numpy()[:, None], _floating(common), [names[i]])
    return _exactly(numbers, _floating(common), names)


def _floating(dtype):
    return np.dtype(np.float64) if dtype.itemsize > 8 else dtype


def _exactly(X, dtype, names):
    return cast_checked(X, dtype, names) if dtype.itemsize >= 8 else X.astype(dtype, copy=False)


def _series_numbers(series, label, lost):
    """Numbers of a column of a table; ``lost`` gets its label if they cannot be told apart."""
    dtype = series.dtype
    # Types of pandas itself, which have a missing value of their own.
    if getattr(dtype, "kind", "") in ("b", "i", "u", "f") and hasattr(dtype, "numpy_dtype"):
        if not series.isna().any():
            return series.to_numpy(dtype=dtype.numpy_dtype)
        numbers = series.to_numpy(dtype=np.float64, na_value=np.nan)
        if np.nanmax(np.abs(numbers), initial=0) >= EXACT:
            lost += [label] * _is_lost(np.asarray(series, dtype=object), numbers)
        return numbers
    return _column_numbers(np.asarray(series), label, dtype, lost)


# -- columns and cells -----------------------------------------------------------------------------


def _column_numbers(values, label, dtype, lost):
    """Numbers of one column; raise a ValueError that names it if it holds other things."""
    if values.dtype.kind in "biuf":
        return values
    if values.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: column {label} has dtype {dtype}.")
    cells = values.astype(object) if values.dtype.kind not in "Mm" else values
    numbers, bad = _floats(cells)
    if bad is None:
        lost += [label] * _is_lost(cells, numbers)
        return numbers
    if is_series(cells[bad]):
        raise ValueError(
            f"column {label} holds a series in every cell, so this is a nested table; pass "
            f"{PANEL}(X), an array of shape (n, channels, time)."
        )
    raise _no_number(f"column {label}", dtype, cells[bad])


def _cell_numbers(X, name):
    """Numbers of an array of cells with any number of axes."""
    cells = X.reshape(-1)
    numbers, bad = _floats(cells if X.dtype.kind in "Mm" else cells.astype(object))
    if bad is None:
        return numbers.reshape(X.shape)
    where = tuple(int(i) for i in np.unravel_index(bad, X.shape))
    raise _no_number(name if X.ndim < 2 else f"{name}, at {where},", X.dtype, cells[bad])


def _floats(cells):
    """Cells as float64, or the position of the first that is no number."""
    if cells.dtype.kind in "Mm":
        return (None, 0) if len(cells) else (np.empty(0), None)
    # numpy makes numbers of its dates, and of arrays of one.
    simple = {str, bytes, bool, int, float, type(None), np.float64, np.float32, np.int64, np.bool_}
    if set(map(type, cells)) <= simple:
        try:
            return cells.astype(np.float64), None
        except (TypeError, ValueError, OverflowError):
            pass
    numbers = np.empty(len(cells))
    missing = getattr(sys.modules.get("pandas"), "NA", None)
    for i, cell in enumerate(cells):
        if cell is None or cell is missing:
            numbers[i] = np.nan
            continue
        if isinstance(cell, _DATES) or is_series(cell):
            return None, i
        try:
            numbers[i] = float(cell)
        except (TypeError, ValueError, OverflowError):
            return None, i
    return numbers, None


def _no_number(what, dtype, cell):
    example = f"dtype {dtype}, for example {short(cell)!r}"
    is_date = isinstance(cell, _DATES) or hasattr(cell, "year") or hasattr(cell, "total_seconds")
    fix = (
        "make a number of it (days since a date, for example) before or in a Pipeline around the "
        "estimator (FunctionTransformer)."
        if is_date
        else "encode it in a Pipeline around the estimator (OneHotEncoder, OrdinalEncoder in a "
        "ColumnTransformer)."
    )
    if is_date or isinstance(cell, (str, bytes)):
        return ValueError(f"{what} is not numeric ({example}); drop it, or {fix}")
    try:
        float(cell)
    except TypeError as error:  # as scikit-learn has it
        return TypeError(f"{what} is not numeric ({example}): {error}; drop it, or {fix}")
    except (ValueError, OverflowError):
        pass
    return ValueError(f"{what} is not numeric ({example}); drop it, or {fix}")


def _is_lost(cells, numbers):
    """Whether large integers or decimals can hardly be told apart as floating numbers."""
    if not (np.abs(numbers) >= EXACT).any():
        return False
    known = [i for i in np.flatnonzero(np.isfinite(numbers)) if not isinstance(cells[i], str)]
    try:
        exact = np.array([float(cells[i] - cells[known[0]]) for i in known])
    except (TypeError, IndexError, ArithmeticError):  # of several types
        return False
    rounding = np.abs(exact - (numbers[known] - numbers[known[0]]))
    return bool(exact.any() and rounding.max() > 0.01 * exact.std())


def _warn_of_first(labels):
    if labels:
        warn_of_lost(f"Column {labels[0]}", np.float64)
