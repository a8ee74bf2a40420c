"""Reading the user's data for the command line."""

from zipfile import BadZipFile

import numpy as np
from sklearn.utils import Bunch

LAYOUTS = ("table", "series", "channels-first", "channels-last", "images")

_ARRAYS = (("X", "y"), ("X_train", "y_train"), ("data", "target"))
_N_DIMENSIONS = {"table": 2, "series": 2, "channels-first": 3, "channels-last": 3, "images": 4}
# Text with more values than this is no category if most of its values differ.
_MANY = 20


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what to do."""


def read_data(path, *, layout=None, target=None):
    """Read samples from a file.

    Parameters
    ----------
    path : pathlib.Path
        A file with the suffix .npz, .csv or .parquet.
    layout : {"table", "series", "channels-first", "channels-last", "images"} or None, default=None
        What the axes of X are. None: a table if there are two; with three or four it must be given.
    target : str or None, default=None
        Column with labels, for csv and parquet.

    Returns
    -------
    data : Bunch
        ``X``, ``y``, ``X_test``, ``y_test`` (None where there are none), ``layout``, and ``notes``
        for the reader.

    Raises
    ------
    InputError
        If the file cannot be used.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}.")
    suffix = path.suffix.lower()
    if suffix not in (".npz", ".csv", ".parquet"):
        raise InputError(
            f"{path.name}: the suffix {suffix!r} is not known; give a .npz, .csv or .parquet file."
        )
    if suffix == ".npz":
        if target is not None:
            raise InputError("--target is for csv and parquet; in a .npz file, labels are named y.")
        data = _read_npz(path)
    else:
        data = _read_frame(path, suffix, target)
    if len(data.X) < 10:
        raise InputError(f"{path.name} has {len(data.X)} samples; at least 10 are needed.")
    _set_layout(data, layout)
    return data


def _read_npz(path):
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, BadZipFile) as error:
        raise InputError(f"{path.name} cannot be read as .npz: {error}") from error
    names = next((pair for pair in _ARRAYS if pair[0] in arrays), None)
    if names is None:
        raise InputError(
            f"{path.name} has the arrays {sorted(arrays)}; name the samples X (or X_train, data)."
        )
    X, y = arrays[names[0]], arrays.get(names[1])
    X_test, y_test = arrays.get("X_test"), arrays.get("y_test")
    _check_array(names[0], X, y)
    if X_test is not None:
        _check_array("X_test", X_test, y_test)
        if X_test.shape[1:] != X.shape[1:]:
            raise InputError(f"X_test has shape {X_test.shape} but {names[0]} has {X.shape}.")
    return Bunch(X=X, y=y, X_test=X_test, y_test=y_test, notes=[])


def _check_array(name, X, y):
    if X.dtype.kind not in "biuf" or X.ndim < 2:
        raise InputError(
            f"{name} has shape {X.shape} and dtype {X.dtype}; numbers with at least two axes, "
            "samples first, are needed."
        )
    if y is not None and y.shape != (len(X),):
        raise InputError(f"the labels of {name} have shape {y.shape}; ({len(X)},) is needed.")
    if X.ndim > 2 and not np.isfinite(X).all():
        where = tuple(np.argwhere(~np.isfinite(X))[0].tolist())
        raise InputError(
            f"{name} has a missing or infinite value at {where}; fill or remove such samples."
        )


def _read_frame(path, suffix, target):
    try:
        import pandas as pd
    except ImportError as error:
        raise InputError(
            f"reading {suffix} files needs pandas: pip install sklexplain[report]"
        ) from error
    try:
        frame = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    except (ValueError, OSError, ImportError) as error:
        raise InputError(f"{path.name} cannot be read as {suffix}: {error}") from error
    frame = frame.reset_index(drop=True)
    frame.columns = [str(name) for name in frame.columns]
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise InputError(f"{path.name} has more than one column named {twice!r}.")
    notes, y = [], None
    if target is not None:
        if target not in frame.columns:
            raise InputError(
                f"there is no column {target!r} in {path.name}; it has {_listed(frame.columns)}."
            )
        y, note = _labels(frame.pop(target))
        notes.append(f"Column {target!r} holds the labels; it was left out of the samples.{note}")
    return Bunch(X=frame, y=y, X_test=None, y_test=None, notes=notes)


def _labels(column):
    """Return labels as text, numbers with many values as quarters, and a note."""
    import pandas as pd

    if pd.api.types.is_float_dtype(column) and column.nunique() > _MANY:
        quarter = column.rank(pct=True).mul(4).apply(np.ceil)
        text = quarter.map(lambda q: "missing" if np.isnan(q) else f"quarter {int(q)} of 4")
        return text.to_numpy(dtype=object), " Its many values were grouped in four equal parts."
    text = column.astype(object).where(column.notna(), "missing").map(str)
    return text.to_numpy(dtype=object), ""


def _set_layout(data, layout):
    X = data.X
    if hasattr(X, "columns"):
        if layout not in (None, "table", "series"):
            raise InputError(f"--layout {layout} needs a .npz file; csv and parquet are tables.")
    elif layout is None and X.ndim > 2:
        raise InputError(
            f"X has shape {X.shape}: say what its axes are, --layout channels-first for (samples, "
            "channels, time), channels-last for (samples, time, channels), or images for (samples, "
            "channels, height, width)."
        )
    layout = layout or "table"
    if X.ndim != _N_DIMENSIONS[layout]:
        raise InputError(
            f"--layout {layout} needs {_N_DIMENSIONS[layout]} axes, but X has shape {X.shape}."
        )
    data.layout = layout


def prepare_table(frame):
    """Choose the columns of a table that a model can learn from.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.

    Returns
    -------
    result : Bunch
        ``X``, the columns that are used; the names of the ``numeric`` and ``categorical`` ones;
        ``has_missing``, whether a number is missing; ``notes``, what was left out and why.

    Raises
    ------
    InputError
        If a number is infinite, or there is no column to learn from.
    """
    import pandas as pd

    numeric, categorical, notes, used = [], [], [], {}
    for name in frame.columns:
        column = frame[name]
        reason = _why_not(column)
        if reason is not None:
            notes.append(f"Column {name!r} was left out: {reason}.")
        elif pd.api.types.is_numeric_dtype(column):
            numeric.append(name)
            used[name] = column.astype("float64")
            if np.isinf(used[name]).any():
                raise InputError(f"column {name!r} has infinite values; clip or remove them.")
        else:
            categorical.append(name)
            used[name] = column.astype(object).where(column.notna(), "missing").map(str)
    if not used:
        raise InputError("there is no column to learn from. " + " ".join(notes))
    X = pd.DataFrame(used)
    has_missing = bool(X[numeric].isna().any(axis=None)) if numeric else False
    return Bunch(
        X=X, numeric=numeric, categorical=categorical, has_missing=has_missing, notes=notes
    )


def _why_not(column):
    """Say why a column is of no use to a model; None if it may be."""
    import pandas as pd

    values = column.dropna()
    n_distinct = values.map(str).nunique() if values.dtype == object else values.nunique()
    if n_distinct < 2:
        return "it has no value" if n_distinct == 0 else "it has the same value everywhere"
    if pd.api.types.is_numeric_dtype(column):
        if pd.api.types.is_integer_dtype(column) and n_distinct == len(column) > _MANY:
            if values.max() - values.min() == n_distinct - 1:
                return "it counts the rows"
        return None
    if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_timedelta64_dtype(column):
        return "it holds dates; turn them into numbers (an age, the hour of the day) to use them"
    if n_distinct == len(values) or (n_distinct > _MANY and n_distinct > len(values) / 2):
        return (
            f"{n_distinct} different texts in {len(values)} rows look like identifiers or free "
            "text, not categories"
        )
    return None


def _listed(names, most=10):
    names = [repr(name) for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
