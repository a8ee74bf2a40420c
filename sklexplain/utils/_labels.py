"""Values that name the columns they belong to."""


def by_columns(values, names, what):
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

    Returns
    -------
    values : object
        As it was given where it names no columns, or these in their order.

    Raises
    ------
    ValueError
        If it names other columns.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklexplain.utils import by_columns
    >>> by_columns(pd.Series({"b": 2, "a": 1}), ["a", "b"], "baseline").tolist()
    [1, 2]
    """
    is_series = hasattr(values, "index") and hasattr(values, "reindex") and values.ndim == 1
    labels = values.index if is_series else getattr(values, "columns", None)
    if names is None or labels is None:
        return values
    labels, names = list(labels), list(names)
    if labels == names or (is_series and labels == list(range(len(names)))):
        return values
    if len(set(names)) < len(names) or set(labels) != set(names) or len(labels) != len(names):
        others = [label for label in labels if label not in names] or labels
        raise ValueError(
            f"{what} names other columns than X: it has {str(others[0])!r} among {len(labels)}, X "
            f"has {', '.join(repr(str(name)) for name in names[:5])}"
            f"{', ...' if len(names) > 5 else ''}. Name the columns of X, or give an array."
        )
    if is_series:
        return values.reindex(names)
    return values.select(names) if hasattr(values, "select") else values[names]
