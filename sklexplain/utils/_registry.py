"""Tables that users add their own pieces to, for as long as they want."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Self


class Registration:
    """One entry of a table, which can be taken out again.

    It is a context manager, too: the entry is taken out at the end of the ``with`` block.

    Parameters
    ----------
    table : dict
        Gets the entry.
    key : hashable
        Its key, which must be new.
    value : object
        Its value.
    words : str
        What the key stands for, in an error message.

    Raises
    ------
    ValueError
        If the table has an entry with this key.

    See Also
    --------
    sklexplain.extending.register_method : Returns one.

    Examples
    --------
    >>> from sklexplain.extending import Registration
    >>> table = {}
    >>> with Registration(table, "mine", 1, "the name 'mine'"):
    ...     print(table)
    {'mine': 1}
    >>> table
    {}
    """

    def __init__(self, table: MutableMapping[Any, Any], key: Any, value: Any, words: str) -> None:
        if table.setdefault(key, value) is not value:
            raise ValueError(
                f"{words} is registered already; to exchange what you have registered, call "
                "remove() of what the first call returned."
            )
        self._table, self._key, self._value = table, key, value

    def remove(self) -> None:
        """Take the entry out. What is fitted needs it; a second call does nothing."""
        if self._table.get(self._key) is self._value:
            del self._table[self._key]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
