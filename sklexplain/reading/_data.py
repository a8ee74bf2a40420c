"""Reading a file of samples: tables, series, images, with labels and names."""

import io
import warnings

import numpy as np
from sklearn.utils import Bunch

from ..utils import missing_extra
from ._arrays import read_arrays
from ._columns import MANY, is_id_name, looks_like_series
from ._dialect import find_dialect
from ._long import check_not_long, pivot
from ._problems import InputError, listed

LAYOUTS = ("table", "series", "channels-first", "channels-last", "images")
SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".npz", ".npy")

_N_DIMENSIONS = {"table": 2, "series": 2, "channels-first": 3, "channels-last": 3, "images": 4}
_LEAST = 10
# Words for a missing value that pandas does not know.
_MISSING = ["-", ".", "?"]


def read_data(
    path,
    *,
    layout=None,
    target=None,
    id=None,
    group=None,
    pivot_columns=None,
    samples=None,
    separator=None,
    decimal=None,
    encoding=None,
    has_header=None,
    needed=(),
):
    """Read samples from a file, and say what was read.

    Parameters
    ----------
    path : pathlib.Path
        A file with one of the suffixes .csv, .tsv, .txt, .parquet, .npz and .npy.
    layout : {"table", "series", "channels-first", "channels-last", "images"} or None, default=None
        What the axes of X are. None: a table if there are two; with three or four it must be given.
    target : str or None, default=None
        Column with labels, or array in a .npz file.
    id : str or None, default=None
        Column that names the samples. None: one that is called so and whose values are all
        different, else row numbers.
    group : str or None, default=None
        Column that says which samples belong together, as those of one patient do.
    pivot_columns : sequence of str or None, default=None
        Of a table in long format: columns with series, times and values.
    samples : str or None, default=None
        Name of the array with samples in a .npz file.
    separator, decimal, encoding : str or None, default=None
        Of a text file; None: what fits.
    has_header : bool or None, default=None
        Whether the first row of a text file holds names; None: unless it looks like a sample. What
        was read says where that is not sure.
    needed : sequence of str, default=()
        Columns that a model takes: none of them is left out as a name of samples unasked.

    Returns
    -------
    data : Bunch
        ``X``, ``y``, ``X_test``, ``y_test``, ``groups`` (None where there are none), ``ids``, a
        name of every sample, ``id_name``, what these are, ``layout``, ``times`` and ``channels``,
        names or None, ``read``, what was read, in words, and ``notes`` for the reader.

    Raises
    ------
    InputError
        If the file cannot be used.
    """
    suffix = _checked_suffix(path)
    if suffix in (".npz", ".npy"):
        if (separator, decimal, encoding, has_header, pivot_columns) != (None,) * 5:
            raise InputError(
                "--sep, --decimal, --encoding, --header, --no-header and --pivot are for text "
                f"files, not for {suffix}."
            )
        if id is not None or group is not None:
            raise InputError(f"--id and --group name columns of a table; {path.name} holds arrays.")
        data = read_arrays(path, suffix, samples=samples, target=target)
        data.y = None if data.y is None else np.ravel(data.y)
        data |= {"ids": None, "id_name": None, "groups": None, "times": None, "channels": None}
        data = Bunch(**data, notes=[])
    else:
        if samples is not None:
            raise InputError("--x names an array of a .npz file; a table has columns.")
        options = {"target": target, "id": id, "group": group}
        asked = [(option, column) for option, column in options.items() if column is not None]
        asked += [("pivot", column) for column in pivot_columns or ()]
        dialect = separator, decimal, encoding, has_header
        frame, read = _read_frame(path, suffix, *dialect, asked, needed)
        data = _from_frame(frame, path.name, layout, target, id, group, pivot_columns, needed)
        data.read = read
    if len(data.X) < _LEAST:
        raise InputError(
            f"{path.name} has {len(data.X)} samples; at least {_LEAST} are needed. Read: "
            f"{data.read}."
        )
    _set_layout(data, layout, path.name)
    if data.ids is None:
        data.ids, data.id_name = [str(i) for i in range(1, len(data.X) + 1)], "row"
    return data


def _checked_suffix(path):
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a file.")
    if not path.exists():
        raise InputError(f"there is no file {path}.")
    if not path.is_file():
        raise InputError(f"{path} is no regular file; save its contents as one first.")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"{path.name}: the suffix {suffix!r} is not known; give one of {', '.join(SUFFIXES)}."
        )
    return suffix


def _pandas():
    try:
        import pandas as pd
    except ImportError as error:
        raise InputError(missing_extra("pandas", "Reading tables")) from error
    return pd


def _read_frame(path, suffix, separator, decimal, encoding, has_header, asked, needed):
    """Read a table, and say how."""
    pd = _pandas()
    if suffix == ".parquet":
        if (separator, decimal, encoding, has_header) != (None,) * 4:
            raise InputError(
                "--sep, --decimal, --encoding, --header and --no-header are for text files."
            )
        return _read_parquet(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error}") from error
    if suffix == ".tsv" and separator is None:
        separator = "\t"
    dialect, text = find_dialect(
        content,
        path.name,
        separator=separator,
        decimal=decimal,
        encoding=encoding,
        has_header=has_header,
        named=[*(column for _, column in asked), *needed],
    )
    if dialect.header is None:
        _check_not_in_first(path.name, dialect, asked)
    names = dialect.header
    if names is None:
        names = [f"x{i}" for i in range(dialect.n_columns)]
    names = [name or f"Unnamed: {i}" for i, name in enumerate(names)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.DtypeWarning)
        frame = pd.read_csv(
            io.StringIO(text),
            sep=r"\s+" if dialect.separator == " " else dialect.separator,
            decimal=dialect.decimal,
            thousands=dialect.thousands,
            header=0 if dialect.header is not None else None,
            names=names,
            index_col=False,
            skipinitialspace=True,
            na_values=_MISSING,
            low_memory=False,
        )
    if len(frame) != dialect.n_rows:
        raise InputError(
            f"{path.name}: {dialect.n_rows:,} rows were found, but {len(frame):,} were read; a "
            "quotation mark may be missing."
        )
    _check_numbers(frame, path.name, dialect)
    return frame, dialect.said


def _read_parquet(path):
    pd = _pandas()
    try:
        frame = pd.read_parquet(path)
    except ImportError as error:
        raise InputError(missing_extra("pyarrow", "Reading .parquet files")) from error
    except (ValueError, OSError) as error:
        raise InputError(f"{path.name} cannot be read as .parquet: {error}") from error
    frame = _index_kept(frame)
    frame.columns = [str(name) for name in frame.columns]
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise InputError(f"{path.name} has more than one column named {twice!r}.")
    return frame, f"{len(frame):,} rows of {len(frame.columns):,} columns"


def _check_not_in_first(name, dialect, asked):
    """Raise if a column that is asked for is named in the row that was taken for a sample."""
    taken = {f"x{i}" for i in range(dialect.n_columns)}
    for option, column in asked:
        if column not in taken and column in dialect.first:
            raise InputError(
                f"--{option}: there is no column {column!r} in {name}, as its first row was taken "
                f"for a sample; {column!r} stands in that row: say --header if it holds names."
            )


def _index_kept(frame):
    """Make a column of an index that is more than row numbers."""
    pd = _pandas()
    if isinstance(frame.index, pd.RangeIndex):
        return frame
    names = [n if n is not None else f"index {i}" for i, n in enumerate(frame.index.names)]
    if len(names) == 1 and frame.index.names[0] is None:
        names = ["id"]
    taken = [name for name in names if name in frame.columns]
    if taken:
        raise InputError(f"the index and a column are both named {taken[0]!r}; rename one.")
    return frame.rename_axis(index=names).reset_index()


def _check_numbers(frame, name, dialect):
    """Raise if a column holds numbers but for a few fields, which would make it text."""
    pd = _pandas()
    for column in frame.columns:
        values = frame[column]
        if pd.api.types.is_numeric_dtype(values) or values.dtype.kind == "M":
            continue
        texts = values.dropna().map(str)
        if not len(texts):
            continue
        as_numbers = pd.to_numeric(
            texts.str.replace(dialect.decimal, ".", regex=False), errors="coerce"
        )
        odd = as_numbers.isna()
        if 0 < odd.sum() <= max(1, 0.05 * len(texts)) and len(texts) > 2 * odd.sum() + 5:
            row, text = odd.idxmax(), texts[odd.idxmax()]
            raise InputError(
                f"{name}: column {column!r} holds numbers but for {odd.sum():,} "
                f"{'field' if odd.sum() == 1 else 'fields'}, first {text!r} in row {row + 1} of "
                "the data; correct it, or leave it empty if the value is missing."
            )


def _from_frame(frame, name, layout, target, id, group, pivot_columns, needed):
    """Take labels, names and groups out of a table."""
    notes, about = [], {"target": target, "id": id, "group": group}
    for option, column in about.items():
        if column is not None and column not in frame.columns:
            raise InputError(
                f"--{option}: there is no column {column!r} in {name}; it has "
                f"{listed(frame.columns)}."
            )
    asked = [column for column in about.values() if column is not None]
    if pivot_columns is not None:
        return _pivoted(frame, name, layout, about, asked, pivot_columns)
    if layout is None:
        check_not_long(frame.drop(columns=asked), name)
    groups, y = None, None
    if id is None:
        id = _named_id(frame.drop(columns=asked), needed)
        if id is not None:
            notes.append(
                f"Column {id!r} names the samples, as its values are all different; it was left "
                "out of them. --id names another."
            )
    ids = None if id is None else _checked_ids(frame[id], id)
    if group is not None:
        groups = np.array(_texts(frame[group]), dtype=object)
        n = len(set(groups.tolist()))
        if n < 5:
            raise InputError(f"--group {group} has {n} different values; at least 5 are needed.")
        notes.append(
            f"Samples of one {group!r} ({n:,} of them) are never both learned from and explained."
        )
    if target is not None:
        y, note = _labels(frame[target])
        out = "the model takes it, too" if target in needed else "it was left out of the samples"
        notes.append(f"Column {target!r} holds the labels; {out}.{note}")
    X = frame.drop(columns=list({c for c in (target, id, group) if c not in (None, *needed)}))
    if not len(X.columns):
        raise InputError(f"{name} has no column left to learn from.")
    if group is None:
        notes += _repeated(X)
    if layout is None and looks_like_series(X):
        notes.append(
            f"The {len(X.columns)} columns look like steps of time, and were taken for columns in "
            "no order: --layout series explains them as series."
        )
    return Bunch(
        X=X,
        y=y,
        X_test=None,
        y_test=None,
        ids=ids,
        id_name=id,
        groups=groups,
        times=None,
        channels=None,
        notes=notes,
    )


def _checked_ids(column, name):
    """Names of samples as texts, all of which have to be different."""
    ids = _texts(column)
    if len(set(ids)) < len(ids):
        twice = column.astype(str)[column.duplicated()].iloc[0]
        raise InputError(
            f"--id {name}: {twice!r} is there more than once. If it says which samples belong "
            f"together, that is --group {name}."
        )
    return ids


def _pivoted(frame, name, layout, about, asked, columns):
    """Make series of a table in long format."""
    series = columns[0]
    if layout not in (None, "series", "channels-first"):
        raise InputError(f"--pivot makes series, not --layout {layout}.")
    others = [c for c in asked if c != series]
    turned = pivot(frame, columns, name, others)
    y, notes = None, []
    if about["target"] is not None:
        y, note = _labels(turned.about[about["target"]])
        notes.append(f"Column {about['target']!r} holds the labels.{note}")
    groups = None
    if about["group"] not in (None, series):
        groups = np.array(_texts(turned.about[about["group"]]), dtype=object)
    unused = [c for c in frame.columns if c not in (*columns, *others)]
    if unused:
        notes.append(f"Columns {listed(unused)} were not used.")
    notes.append(
        f"One series a {series!r}: {len(turned.ids):,} of them, at {len(turned.times):,} values of "
        f"{columns[1]!r}."
    )
    return Bunch(
        X=turned.X,
        y=y,
        X_test=None,
        y_test=None,
        ids=turned.ids,
        id_name=series,
        groups=groups,
        times=turned.times,
        channels=turned.channels,
        notes=notes,
    )


def _named_id(frame, needed):
    """Column that names the samples, by its own name and values; None if there is none."""
    for column in frame.columns.difference(needed, sort=False):
        values = frame[column]
        whole = values.dtype.kind in "iuOTS" or str(values.dtype) in ("str", "string", "Int64")
        if is_id_name(column) and whole and values.notna().all() and values.is_unique:
            return column
    return None


def _repeated(frame):
    """Hint at columns that say which samples belong together."""
    for column in frame.columns:
        values = frame[column]
        n = values.nunique()
        if is_id_name(column) and values.dtype.kind != "f" and MANY < n < len(values):
            return [
                f"Column {column!r} has {n:,} different values in {len(values):,} rows: if samples "
                f"with the same one belong together, --group {column} keeps them on one side of "
                "the split; else what is learned from one may be told of another."
            ]
    return []


def _texts(column):
    return [str(value) for value in column.astype(object).where(column.notna(), "missing")]


def _labels(column):
    """Return labels as text, numbers with many values as quarters, and a note."""
    pd = _pandas()
    if column.isna().all():
        raise InputError(f"--target {column.name}: the column has no value.")
    is_number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if is_number and column.nunique() > MANY:
        # Types of pandas' own have gaps of their own, which some versions rank as numbers.
        values = pd.Series(column.to_numpy(dtype=np.float64, na_value=np.nan))
        shares = values.rank(pct=True).to_numpy()
        quarters = np.ceil(4 * shares)
        text = ["missing" if np.isnan(q) else f"quarter {int(q)} of 4" for q in quarters]
        note = " Its many values were grouped in four equal parts."
        return np.array(text, dtype=object), note
    if is_number and not column.isna().all():
        # Whole numbers beside gaps are floating in a file: 1.0 is the label 1.
        whole = (column.dropna().to_numpy(dtype=np.float64) % 1 == 0).all()
        column = column.astype("Int64") if whole else column
    text = column.astype(object).where(column.notna(), "missing").map(str)
    return text.to_numpy(dtype=object), ""


def _set_layout(data, layout, name):
    X = data.X
    if hasattr(X, "columns"):
        if layout not in (None, "table", "series"):
            raise InputError(f"--layout {layout} needs a .npz file or --pivot; {name} is a table.")
    elif layout is None and X.ndim > 2 and data.channels is None:
        raise InputError(
            f"X has shape {X.shape}: say what its axes are, --layout channels-first for (samples, "
            "channels, time), channels-last for (samples, time, channels), or images for (samples, "
            "channels, height, width)."
        )
    if data.channels is not None:
        layout = "series" if X.ndim == 2 else "channels-first"
    layout = layout or "table"
    if X.ndim != _N_DIMENSIONS[layout]:
        raise InputError(
            f"--layout {layout} needs {_N_DIMENSIONS[layout]} axes, but X has shape {X.shape}."
        )
    if layout.startswith("channels"):
        channels, times = X.shape[1:] if layout == "channels-first" else X.shape[:0:-1]
        if channels > times:
            other = "last" if layout == "channels-first" else "first"
            data.notes.append(
                f"As {layout}, a sample has {channels} channels of {times} time steps; if these "
                f"are {times} channels of {channels} steps, say --layout channels-{other}."
            )
    data.layout = layout
