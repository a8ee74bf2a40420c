"""Which columns of a table are measurements, and which number, name or date the rows."""

import re

import numpy as np
from sklearn.utils import Bunch

from ._problems import InputError, listed

# Text with more values than this is no category if most of its values differ.
MANY = 20
# Names that people, and pandas, give to columns that number the rows.
_ID_NAME = re.compile(
    r"(^|[\s_\-.])(id|ids|nr|no|num|number|index|idx|mrn|uid|uuid|guid|key|code)$|^unnamed: \d+$|"
    r"^(patient|subject|participant|person|individual|record|sample|case)s?$|"
    r"[a-z]I[dD]$|^(id|nr|no)[\s_\-.]",
    re.IGNORECASE,
)
_CASED_ID = re.compile(r"[a-z](Id|ID|Nr)$")
_MOST_EXACT = 2**53  # larger integers are not told apart as decimal numbers


def is_id_name(name):
    """Tell whether a column's name says that it numbers the rows."""
    name = str(name).strip()
    return bool(_ID_NAME.search(name) or _CASED_ID.search(name)) or name == ""


def why_no_measurement(name, column):
    """Say why a column holds nothing to learn from; None if it may.

    Parameters
    ----------
    name : str
        Its name.
    column : pandas.Series
        Its values.

    Returns
    -------
    reason : str or None
    """
    import pandas as pd

    values = column.dropna()
    n_distinct = values.map(str).nunique() if values.dtype == object else values.nunique()
    if n_distinct == 0:
        return "it has no value"
    if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_timedelta64_dtype(column):
        return "it holds dates; turn them into numbers (an age, the hour of the day) to use them"
    if pd.api.types.is_bool_dtype(column):
        return None if n_distinct > 1 else "it has the same value everywhere"
    if pd.api.types.is_integer_dtype(column):
        reason = _why_integers_name(name, values, n_distinct)
        if reason is not None:
            return reason
    if n_distinct < 2:
        return "it has the same value everywhere"
    if pd.api.types.is_numeric_dtype(column):
        return None
    if _are_dates(values):
        return "it holds dates; turn them into numbers (an age, the hour of the day) to use them"
    if n_distinct == len(values) or (n_distinct > MANY and n_distinct > len(values) / 2):
        return (
            f"{n_distinct:,} different texts in {len(values):,} rows look like identifiers or free "
            "text, not categories"
        )
    return None


def _why_integers_name(name, values, n_distinct):
    """Say why integers are names of the rows, or none that can be computed with."""
    steps = values.astype("float64").diff().dropna()
    if n_distinct == len(values) > MANY:
        if values.max() - values.min() == n_distinct - 1:
            return "it counts the rows"
        if is_id_name(name):
            return "it numbers the rows, by its name and its values, which are all different"
        if len(steps) and ((steps > 0).all() or (steps < 0).all()) and steps.nunique() == 1:
            return "it counts the rows"
    if is_id_name(name) and n_distinct > MANY:
        return "it is an identifier, by its name"
    if int(values.abs().max()) > _MOST_EXACT:
        return (
            f"it has numbers above 2**53, such as {int(values.abs().max())}, which cannot be told "
            "apart as decimal numbers; identifiers, perhaps"
        )
    return None


def _are_dates(values):
    """Tell whether texts are dates or times: only what has a digit is looked at."""
    import pandas as pd

    if values.dtype.kind in "biufc":
        return False
    some = values.iloc[:50].map(str)
    if not some.str.contains(r"\d[-/.:]\d").all():
        return False
    for options in (
        {"format": "ISO8601"},
        {"format": "mixed"},
        {"format": "mixed", "dayfirst": True},
    ):
        try:
            pd.to_datetime(some, **options)
        except (ValueError, TypeError, OverflowError):
            continue
        return True
    return False


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
        reason = why_no_measurement(name, column)
        if reason is not None:
            notes.append(f"Column {name!r} was left out: {reason}.")
        elif pd.api.types.is_bool_dtype(column):
            categorical.append(name)
            used[name] = column.map({True: "yes", False: "no"}).fillna("missing").astype(object)
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


def prepare_series(frame, name):
    """Choose the columns of a table that are steps of time, one series a row.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.
    name : str
        Of the file, for messages.

    Returns
    -------
    result : Bunch
        ``X``, an array (n, time) of float64; ``times``, names of the columns that are left;
        ``notes``, what was left out and why.

    Raises
    ------
    InputError
        If a column holds no numbers, is on a scale of its own, or values are missing.
    """
    import pandas as pd

    notes, left = [], []
    for column in frame.columns:
        reason = why_no_measurement(column, frame[column])
        is_number = pd.api.types.is_numeric_dtype(frame[column]) and frame[column].dtype != bool
        if reason == "it has the same value everywhere" and is_number:
            left.append(column)  # a step of time may well be constant
        elif reason is not None:
            notes.append(f"Column {column!r} was left out: {reason}.")
        elif not is_number:
            raise InputError(
                f"{name}: column {column!r} holds no numbers, so it is no step of time; name it "
                "with --target, --id or --group if it is about the whole series, or leave it out."
            )
        else:
            left.append(column)
    if len(left) < 2:
        raise InputError(
            f"{name}: {len(left)} of {len(frame.columns)} columns could be steps of time. "
            + " ".join(notes)
        )
    X = frame[left].to_numpy(dtype=np.float64)
    constant = [c for c, values in zip(left, X.T, strict=True) if np.ptp(values) == 0]
    if constant:
        notes.append(f"The series all have the same value at {listed(constant, 5)}.")
    _check_gaps(X, left, name)
    _check_one_scale(frame[left], X, name)
    return Bunch(X=X, times=[str(column) for column in left], notes=notes)


def _check_gaps(X, names, name):
    bad = np.argwhere(~np.isfinite(X))
    if len(bad):
        row, column = bad[0]
        what = "no value" if np.isnan(X[row, column]) else "an infinite value"
        raise InputError(
            f"{name}: row {row + 1} of the data has {what} at {names[column]!r} "
            f"({len(np.unique(bad[:, 0])):,} rows have such gaps); fill gaps or leave these series "
            "out before, as they cannot be filled here."
        )


def _check_one_scale(frame, X, name):
    """Raise if a column at either end is not on the scale of the others, or holds labels."""
    for position in (0, X.shape[1] - 1):
        column, rest = X[:, position], np.delete(X, position, axis=1)
        title = frame.columns[position]
        low, high = rest.min(), rest.max()
        span = max(high - low, 1e-300)
        far = not low - span <= np.median(column) <= high + span
        whole = bool((column == np.round(column)).all())
        others_whole = bool((rest == np.round(rest)).all())
        few = len(np.unique(column)) <= min(MANY, len(column) / 5)
        if far or (whole and not others_whole and np.ptp(column) > 0):
            what = "labels" if whole and few and not far else "something else"
            fix = "--target" if what == "labels" else "--id, --group or --target"
            raise InputError(
                f"{name}: column {title!r} ({column.min():g} to {column.max():g}"
                f"{', whole numbers' if whole else ''}) does not look like a step of the series "
                f"beside it ({low:g} to {high:g}) but like {what}; name it with {fix}, or leave it "
                "out of the file. If it is a step of time, give the series as .npy."
            )


def looks_like_series(frame):
    """Tell whether the columns of a table look like steps of time.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table.

    Returns
    -------
    answer : bool
        True if there are many columns of numbers that are named in order, or of which each is
        nearly what the one beside it is.
    """
    import pandas as pd

    columns = [
        c
        for c in frame.columns
        if pd.api.types.is_numeric_dtype(frame[c])
        and frame[c].dtype != bool
        and why_no_measurement(c, frame[c]) in (None, "it has the same value everywhere")
    ]
    if len(columns) < 12:
        return False
    numbers = [re.findall(r"[-+]?\d*\.?\d+", str(c)) for c in columns]
    stems = {re.sub(r"[-+]?\d*\.?\d+", "#", str(c)) for c in columns}
    if len(stems) == 1 and all(len(found) == 1 for found in numbers):
        values = np.array([float(found[0]) for found in numbers])
        in_order = bool((np.diff(values) > 0).all())
    else:
        in_order = False
    X = frame[columns].to_numpy(dtype=np.float64)
    X = X[np.isfinite(X).all(axis=1)][:1000]
    if len(X) < 5:
        return in_order
    spread = X.std(axis=0)
    if not (spread > 0).any():
        return False
    # What one step has more than another is little beside what all steps have.
    one_scale = np.median(np.abs(np.diff(X, axis=1))) < 0.5 * np.median(np.abs(X - np.median(X)))
    return bool(one_scale) or (in_order and _alike(spread))


def _alike(spread):
    spread = spread[spread > 0]
    return bool(spread.max() < 100 * np.median(spread))
