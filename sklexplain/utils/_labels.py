"""Values that name the columns they belong to."""


def by_columns(values, names, what, *, strict=True):
    """Return values of columns in the columns' order, if they name them.

    Parameters
    ----------
    values : object
        A DataFrame, whose columns are looked at; a Series of pandas, whose index is; or anything
        else, which names no columns.
    names : sequence of str or None
        The columns. None: they have no names.
    what : str
        The parameter, for messages.
    strict : bool, default=True
        Whether other names are an error; else values with such are taken as they are.

    Returns
    -------
    values : object
        As it was given where it names no columns, or these in their order.

    Raises
    ------
    ValueError
        If it names other columns, and is to be strict.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklexplain.utils import by_columns
    >>> by_columns(pd.Series({"b": 2, "a": 1}), ["a", "b"], "baseline").tolist()
    [1, 2]
    """
    labels = column_labels(values)
    if names is None or labels is None or labels == list(names):
        return values
    names = list(names)
    if len(set(names)) < len(names) or set(labels) != set(names) or len(labels) != len(names):
        if not strict:
            return values
        others = [label for label in labels if label not in names] or labels
        raise ValueError(
            f"{what} names other columns than X: it has {str(others[0])!r} among {len(labels)}, X "
            f"has {', '.join(repr(str(name)) for name in names[:5])}"
            f"{', ...' if len(names) > 5 else ''}. Name the columns of X, or give an array."
        )
    if not hasattr(values, "columns"):
        return values.reindex(names)
    return values.select(names) if hasattr(values, "select") else values[names]


def column_labels(values):
    """Return the names of the columns that values belong to, None if they name none.

    Parameters
    ----------
    values : object
        A DataFrame, a Series of pandas, or anything else.

    Returns
    -------
    labels : list or None
        Of a DataFrame's columns, of a Series's index; numbers from 0 on name nothing.
    """
    is_series = hasattr(values, "index") and hasattr(values, "reindex") and values.ndim == 1
    labels = values.index if is_series else getattr(values, "columns", None)
    if labels is None or callable(labels):
        return None
    labels = list(labels)
    return None if labels == list(range(len(labels))) else labels
