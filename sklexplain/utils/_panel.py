"""Time series in the forms that libraries keep them in, as one array."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._cells import as_numbers
from ._containers import as_array_like, columns_of, is_series, is_table, short
from ._missing import is_missing
from ._precision import cast_checked

# Times that hardly any series has would make an array of little but NaN.
_MOST_CELLS_PER_VALUE = 100


def as_numpy3d(panel: Any, *, pad: bool = False) -> np.ndarray:
    """Read many time series as an array of shape (n, channels, time).

    That is the form in which explainers, convolutional networks, aeon and sktime take them.

    Parameters
    ----------
    panel : DataFrame, array-like or list
        One of

        * a DataFrame whose rows have an index of two levels, series and time (sktime's
          ``pd-multiindex``), with a column for each channel; rows may be in any order;
        * a nested DataFrame, with a row for each series, a column for each channel and a pandas
          Series, array or list in every cell (sktime's ``nested_univ``);
        * a list (or object array, or dataset of torch) with an item for each series: an array of
          shape (time,) or (channels, time), as aeon has them, or a DataFrame with a row for each
          time;
        * an array of shape (n, time), which has one channel, or (n, channels, time), which is
          returned as it is. (tslearn's are (n, time, channels): pass ``X.swapaxes(1, 2)``.)
    pad : bool, default=False
        Write NaN where a series has no value: at the end of shorter ones.

    Returns
    -------
    X : ndarray of shape (n, channels, time)
        Floating numbers. Series stand in the order in which they first occur, channels in the order
        of the columns, times in ascending order. Missing values are NaN.

    Raises
    ------
    ValueError
        If series differ in length, or lack times that others have, and ``pad`` is false; if they
        differ in their channels; if an index has duplicates or missing labels; or if a cell holds
        no number.
    TypeError
        If ``panel`` is no container of series.

    See Also
    --------
    sklexplain.datasets.make_motif_series : Series in this form.
    sklexplain.attribution.time_segments : Groups of their time steps.

    Notes
    -----
    Times in a DataFrame's index are those of one clock if any two series have one in common: then
    position k is the k-th of all times, and with ``pad=True`` a time that a series lacks is NaN
    wherever it is. If no two series have a time in common, every one has its own clock, and they
    are aligned at their first times. The index of a Series in a cell or list only puts it in order.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklexplain.utils import as_numpy3d
    >>> index = pd.MultiIndex.from_product([["a", "b"], [0, 1, 2]], names=["case", "time"])
    >>> long = pd.DataFrame({"x": np.arange(6.0), "y": np.arange(6.0) * 10}, index=index)
    >>> as_numpy3d(long)[1]
    array([[ 3.,  4.,  5.],
           [30., 40., 50.]])
    >>> as_numpy3d([[1.0, 2.0, 3.0], [4.0, 5.0]], pad=True)
    array([[[ 1.,  2.,  3.]],
           [[ 4.,  5., nan]]])
    """
    if hasattr(panel, "to_frame") and not is_table(panel):  # one channel, as a Series
        panel = panel.to_frame()
    if not is_table(panel) and not _is_sequence(panel):
        panel = as_array_like(panel, "panel")
    if is_table(panel):
        n_levels = getattr(getattr(panel, "index", None), "nlevels", 1)
        return _from_index(panel, pad) if n_levels > 1 else _from_nested(panel, pad)
    if isinstance(panel, np.ndarray) and not _holds_series(panel):
        return _from_array(panel)
    if isinstance(panel, np.ndarray) and panel.ndim > 1:
        rows = [
            [_block(cell, f"row {i}, column {j}", 1) for j, cell in enumerate(row)]
            for i, row in enumerate(panel)
        ]
        return _stacked(rows, [f"series {i}" for i in range(len(rows))], pad)
    items = [panel[i] for i in range(len(panel))]
    if not isinstance(panel, (list, tuple, np.ndarray)):  # a dataset: pairs of sample and target
        items = [item[0] if isinstance(item, tuple) else item for item in items]
    return _from_list(items, pad)


def _is_sequence(panel):
    """Whether it is a list of series, which may differ in length."""
    if isinstance(panel, np.ndarray):
        return _holds_series(panel)
    return isinstance(panel, (list, tuple)) or (
        hasattr(type(panel), "__getitem__")
        and hasattr(type(panel), "__len__")
        and not isinstance(panel, (str, bytes))
        and not any(hasattr(panel, n) for n in ("__array__", "keys", "columns", "to_pandas"))
    )


def _holds_series(array):
    return array.dtype == object and array.ndim > 0 and array.size and is_series(array.flat[0])


def _from_array(X):
    X = as_numbers(X, "panel")
    if X.ndim not in (2, 3):
        axes = {0: "no axis", 1: "1 axis"}.get(X.ndim, f"{X.ndim} axes")
        raise ValueError(
            f"panel has {axes} (shape {X.shape}); pass (n, channels, time), or (n, time) for one "
            "channel; a single series is x[None]."
        )
    return _floating(X[:, None] if X.ndim == 2 else X)


def _floating(X, names=None):
    return X if X.dtype.kind == "f" else cast_checked(X, np.result_type(np.float32, X.dtype), names)


# -- an index of two levels ------------------------------------------------------------------------


def _from_index(panel, pad):
    index = panel.index
    if index.nlevels != 2:
        raise ValueError(
            f"panel has an index of {index.nlevels} levels; it must have two, series and time: "
            "drop or join the others."
        )
    if len(panel) == 0:
        raise ValueError("panel has no rows.")
    numbers = _floating(as_numbers(panel, "panel"), list(panel.columns))
    row, labels = index.get_level_values(0).factorize()
    time, times = _ordered(index.get_level_values(1))
    if (row < 0).any() or (time < 0).any():
        i = int(np.flatnonzero((row < 0) | (time < 0))[0])
        raise ValueError(f"panel's index has a missing label in row {i}.")
    place = row * len(times) + time
    distinct, first, counts = np.unique(place, return_index=True, return_counts=True)
    if len(distinct) < len(place):
        i = first[counts.argmax()]
        raise ValueError(
            f"panel has {counts.max()} rows for series {_label(labels[row[i]])} at time "
            f"{_label(times[time[i]])}; keep one of them."
        )
    lengths = np.bincount(row)
    if len(times) == len(time):  # no two series have a time in common
        time = _ranks_within(row, time)
        _check_lengths(lengths, pad)
        return _filled(numbers, row, time, len(lengths), lengths.max())
    missing = len(lengths) * len(times) - len(place)
    if missing:
        last = np.zeros(len(lengths), dtype=np.int64)
        np.maximum.at(last, row, time)
        if (last + 1 == lengths).all():  # shorter ones only end earlier
            _check_lengths(lengths, pad)
        else:
            _check_gaps(place, lengths, labels, times, pad)
    return _filled(numbers, row, time, len(lengths), len(times))


def _ordered(level):
    try:
        return level.factorize(sort=True)
    except TypeError as error:
        raise ValueError(f"panel's times cannot be put in order ({short(error)}).") from None


def _ranks_within(row, time):
    """Place of each time among those of its own series."""
    order = np.lexsort((time, row))
    starts = np.concatenate([[0], np.cumsum(np.bincount(row))[:-1]])
    ranks = np.empty(len(row), dtype=np.int64)
    ranks[order] = np.arange(len(row)) - starts[row[order]]
    return ranks


def _filled(numbers, row, time, n, n_times):
    full = len(numbers) == n * n_times
    out = (np.empty if full else _nan)((n, numbers.shape[1], n_times), dtype=numbers.dtype)
    out[row, :, time] = numbers
    return out


def _nan(shape, dtype):
    return np.full(shape, np.nan, dtype=dtype)


def _check_gaps(place, lengths, labels, times, pad):
    """Raise a ValueError if times that series lack are not to be NaN, or would be nearly all."""
    grid = np.zeros(len(lengths) * len(times), dtype=bool)
    if grid.size > _MOST_CELLS_PER_VALUE * len(place):
        raise ValueError(
            f"panel's {len(lengths)} series have {len(times)} different times, of which each has "
            "few; number their steps 0, 1, 2 ... instead (groupby(level=0).cumcount()), or "
            "resample them."
        )
    grid[place] = True
    i, k = divmod(int(np.flatnonzero(~grid)[0]), len(times))
    if not pad:
        raise ValueError(
            f"series {_label(labels[i])} has no row for time {_label(times[k])}, which others have "
            f"(lengths {_numbers(lengths)}); pass pad=True to write NaN there, or, where times are "
            "each series' own, number its steps (groupby(level=0).cumcount())."
        )


# -- series in cells and lists ---------------------------------------------------------------------


def _from_nested(panel, pad):
    names, columns = list(panel.columns), [list(column) for column in columns_of(panel)]
    n = len(panel)
    if not any(is_series(cell) for column in columns for cell in column):
        raise ValueError(
            "panel is a table of single values; tell which rows make a series by an index of two "
            "levels (pandas' set_index([series, time])), or pass panel.to_numpy() if each row is a "
            "series of one channel."
        )
    rows = []
    for i in range(n):
        row = []
        for name, column in zip(names, columns, strict=True):
            where = f"row {i}, column {str(name)!r}"
            if not is_series(column[i]):
                row.append(_absent(column[i], where, pad))
            else:
                row.append(_block(column[i], where, 1))
        rows.append(row)
    return _stacked(rows, [f"row {i}" for i in range(n)], pad)


def _absent(cell, where, pad):
    missing = is_missing(cell)
    if missing and pad:
        return np.empty((1, 0), dtype=np.float32)
    fix = " (pass pad=True to write NaN)" if missing else ""
    raise ValueError(f"panel, {where}, holds {short(cell)}, not a series{fix}.")


def _from_list(items, pad):
    if not items:
        raise ValueError("panel is empty.")
    names, rows = None, []
    for i, item in enumerate(items):
        where = f"series {i}"
        if is_table(item):
            names = list(item.columns) if names is None else names
            if sorted(map(str, item.columns)) != sorted(map(str, names)):
                raise ValueError(
                    f"panel, {where}, has columns {short(list(item.columns))}, and the first has "
                    f"{short(names)}."
                )
            item = item if list(item.columns) == names else item[names]
        elif isinstance(item, (list, tuple)) and item and is_series(item[0]):
            rows.append([_block(channel, where, 1) for channel in item])
            continue
        rows.append([_block(item, where)])
    return _stacked(rows, [f"series {i}" for i in range(len(items))], pad)


def _block(item, where, n_axes=None):
    """Return one series, or one of its channels, as an array of shape (channels, time)."""
    item = _in_order(item, where)
    values = as_array_like(item, f"panel, {where},")
    is_frame = is_table(values)
    values = np.asarray(values) if not is_frame and not isinstance(values, np.ndarray) else values
    values = as_numbers(values, f"panel, {where},")
    values = values.T if is_frame else values
    if values.ndim not in (1, 2) or n_axes not in (None, values.ndim):
        shape = "(time,)" if n_axes == 1 else "(time,) or (channels, time)"
        raise ValueError(f"panel, {where}, has shape {values.shape}; a series has shape {shape}.")
    return values[None] if values.ndim == 1 else values


def _in_order(item, where):
    """Return a Series or DataFrame of pandas in the order of its index."""
    index = getattr(item, "index", None)
    if not hasattr(index, "is_monotonic_increasing"):
        return item
    if index.has_duplicates:
        twice = index[index.duplicated()][0]
        raise ValueError(f"panel, {where}, has several values at time {_label(twice)}.")
    return item if index.is_monotonic_increasing else item.sort_index()


def _stacked(rows, labels, pad):
    """Put series together; a row is a list of blocks of shape (channels, time)."""
    n_channels = [sum(len(block) for block in row) for row in rows]
    if len(set(n_channels)) > 1:
        i = next(i for i, n in enumerate(n_channels) if n != n_channels[0])
        raise ValueError(
            f"panel, {labels[i]}, has {n_channels[i]} channels, and the first has {n_channels[0]}; "
            "arrays of single series have shape (channels, time)."
        )
    lengths = [block.shape[1] for row in rows for block in row]
    _check_lengths(lengths, pad)
    dtype = np.result_type(np.float32, *{block.dtype for row in rows for block in row})
    out = _nan((len(rows), n_channels[0], max(lengths)), dtype)
    for i, row in enumerate(rows):
        start = 0
        for block in row:
            out[i, start : start + len(block), : block.shape[1]] = cast_checked(block.T, dtype).T
            start += len(block)
    return out


# -- messages --------------------------------------------------------------------------------------


def _check_lengths(lengths, pad):
    if pad or len(set(map(int, lengths))) == 1:
        return
    raise ValueError(
        f"series have different lengths, {_numbers(lengths)}; pass pad=True to pad them with NaN "
        "at the end, for models that take NaN, or cut or resample them to one length."
    )


def _numbers(lengths, n_most=6):
    distinct = sorted(set(map(int, lengths)))
    if len(distinct) > n_most:
        return f"{', '.join(map(str, distinct[: n_most - 1]))} ... {distinct[-1]}"
    return ", ".join(map(str, distinct))


def _label(label):
    return repr(label.item() if isinstance(label, np.generic) else label)
