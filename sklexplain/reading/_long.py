"""Tables in long format: a row is one time of one series."""

import numpy as np
from sklearn.utils import Bunch

from ._problems import InputError, listed

_MOST_COLUMNS = 8
_FEWEST_TIMES, _FEWEST_SERIES = 5, 3


def find_long(frame):
    """Find the two columns that say which series a row is of, and at what time.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.

    Returns
    -------
    found : tuple of str or None
        Names of the columns with series, times and values; None if rows are samples, as far as
        can be seen.
    """
    if not 3 <= len(frame.columns) <= _MOST_COLUMNS:
        return None
    n = len(frame)
    sizes = {c: frame[c].nunique() for c in frame.columns}
    for series in frame.columns:
        if not _FEWEST_SERIES <= sizes[series] <= n / _FEWEST_TIMES:
            continue
        for time in frame.columns:
            if time == series or not _FEWEST_TIMES <= sizes[time] <= n / 2:
                continue
            # A grid, nearly full, on which every pair is there once.
            if sizes[series] * sizes[time] > 1.5 * n or frame.duplicated([series, time]).any():
                continue
            if _goes_up(frame, series, time):
                values = [c for c in frame.columns if c not in (series, time)]
                return series, time, _values(frame, series, values)
    return None


def _goes_up(frame, series, time):
    """Tell whether times go up within each series, as they stand in the file."""
    if frame[time].dtype.kind not in "iufM":
        return False
    steps = frame.groupby(series, sort=False)[time].diff().dropna()
    positive = steps > np.timedelta64(0) if steps.dtype.kind == "m" else steps > 0
    return bool(positive.all())


def _values(frame, series, columns):
    """Columns of numbers that change within a series; the others are about all of it."""
    numbers = [c for c in columns if frame[c].dtype.kind in "iuf"]
    return [c for c in numbers if (frame.groupby(series)[c].nunique(dropna=False) > 1).any()]


def check_not_long(frame, name):
    """Raise if rows of a table are times of series and not samples.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.
    name : str
        Of the file, for messages.

    Raises
    ------
    InputError
        Saying how to turn it.
    """
    found = find_long(frame)
    if found is None:
        return
    series, time, values = found
    shown = " ".join(values) or "VALUE"
    raise InputError(
        f"{name} looks like a table in long format, in which a row is one value of {time!r} of one "
        f"{series!r}, not a sample: {frame[series].nunique():,} series of "
        f"{frame[time].nunique():,} times. Say --pivot {series} {time} {shown} to explain series, "
        "or --layout table if rows are samples after all."
    )


def pivot(frame, columns, name, about=()):
    """Turn a table in long format: one sample a series.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.
    columns : sequence of str
        Names of the columns with series, times and values, one or several (channels).
    name : str
        Of the file, for messages.
    about : sequence of str, default=()
        Columns that are about a whole series, such as labels.

    Returns
    -------
    result : Bunch
        ``X``, an array (n, time) of one value column and (n, channels, time) of several; ``ids``,
        names of the series; ``times``; ``channels``; ``about``, a DataFrame of those columns.

    Raises
    ------
    InputError
        If a column is missing, a time is there twice or not for all series, or what is about a
        whole series changes within it.
    """
    import pandas as pd

    if len(columns) < 3:
        raise InputError("--pivot needs at least three columns: ID TIME VALUE.")
    series, time, *values = columns
    unknown = [c for c in (*columns, *about) if c not in frame.columns]
    if unknown:
        raise InputError(f"{name} has no column {unknown[0]!r}; it has {listed(frame.columns)}.")
    for value in values:
        if frame[value].dtype.kind not in "iuf":
            raise InputError(f"--pivot: column {value!r} of {name} holds no numbers.")
    missing = frame[[series, time]].isna().any(axis=1)
    if missing.any():
        raise InputError(
            f"{name}: row {int(np.flatnonzero(missing)[0]) + 1} of the data has no {series!r} or "
            f"no {time!r}."
        )
    twice = frame.duplicated([series, time])
    if twice.any():
        row = frame[twice].iloc[0]
        raise InputError(
            f"{name} has {time}={row[time]} of {series}={row[series]} more than once; keep one."
        )
    cube = [frame.pivot(index=series, columns=time, values=value) for value in values]
    for value, table in zip(values, cube, strict=True):
        gaps = np.argwhere(table.isna().to_numpy())
        if len(gaps):
            i, j = gaps[0]
            raise InputError(
                f"{name}: {series}={table.index[i]} has no {value!r} at {time}={table.columns[j]} "
                f"({len(np.unique(gaps[:, 0])):,} of {len(table):,} series have such gaps); all "
                "series need the same times. Resample, fill or leave out such series before."
            )
    ids = cube[0].index
    whole = pd.DataFrame(index=ids)
    for column in about:
        groups = frame.groupby(series)[column]
        if (groups.nunique(dropna=False) > 1).any():
            bad = groups.nunique(dropna=False).idxmax()
            raise InputError(
                f"{name}: {column!r} changes within {series}={bad}; one value a series is needed."
            )
        whole[column] = groups.first()
    X = np.stack([table.to_numpy(dtype=np.float64) for table in cube], axis=1)
    return Bunch(
        X=X[:, 0] if len(values) == 1 else X,
        ids=[str(i) for i in ids],
        times=[str(t) for t in cube[0].columns],
        channels=list(values),
        about=whole.reset_index(drop=True),
    )
