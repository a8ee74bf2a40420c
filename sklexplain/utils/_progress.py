"""Progress bars."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


def progress(total: int, shown: Any, desc: str | None = None) -> Any:
    """Return a progress bar for a ``with`` block, with a method ``update``.

    tqdm takes a lock of the whole process even for a bar that is not shown. A call that is
    interrupted there keeps it, and other threads wait for it forever: so such a bar is none of its.

    Parameters
    ----------
    total : int
        How much there is to do.
    shown : object
        Whether to show it.
    desc : str or None, default=None
        What is being done.

    Returns
    -------
    bar : context manager
    """
    return tqdm(total=total, desc=desc) if shown else _unseen()


class _Unseen:
    """A bar that is not shown."""

    def update(self, n: int = 1) -> None:
        """Do nothing."""


@contextmanager
def _unseen() -> Any:
    yield _Unseen()
