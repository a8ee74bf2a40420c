"""The error about what the user gave."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what to do."""


def listed(names, most=10):
    """Names in quotes, the first of them if there are many.

    Parameters
    ----------
    names : iterable
        Names.
    most : int, default=10
        How many are written out.

    Returns
    -------
    text : str
    """
    names = [repr(name) for name in names]
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
