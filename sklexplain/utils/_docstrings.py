"""Docstrings of public methods, made of those of the hooks behind them."""

from __future__ import annotations

import inspect
import re
from typing import Any

from numpy.typing import ArrayLike

from ._typing import ArrayOrFrame

_TITLE = re.compile(r"^(\w[\w ]*)\n-+\n", flags=re.MULTILINE)
_ORDER = ("Parameters", "Returns", "Raises", "Warns", "See Also", "Notes", "References", "Examples")


def documented(cls, base, name, hook):
    """Make a class's public method, with what its hook says of results in the docstring.

    Parameters
    ----------
    cls : type
        The class.
    base : type
        Whose method is called; parameters and errors are documented there.
    name : {"transform", "fit_transform"}
        The method.
    hook : callable
        The class's own hook, with "Returns" and perhaps "Warns" in its docstring.

    Returns
    -------
    method : callable
    """

    def transform(self, X: ArrayLike) -> ArrayOrFrame:
        return base.transform(self, X)

    def fit_transform(
        self, X: ArrayLike, y: ArrayLike | None = None, **fit_params: Any
    ) -> ArrayOrFrame:
        return base.fit_transform(self, X, y, **fit_params)

    method = transform if name == "transform" else fit_transform
    summary, own = _sections(inspect.getdoc(hook))
    _, common = _sections(inspect.getdoc(getattr(base, name)))
    # A hook that tells its errors tells all of them; parameters are the same everywhere.
    told = {**common, **own, "Parameters": common["Parameters"]}
    sections = [f"{title}\n{'-' * len(title)}\n{told[title]}" for title in _ORDER if title in told]
    method.__doc__ = "\n\n".join([summary, *sections]) + "\n"
    method.__name__, method.__qualname__ = name, f"{cls.__qualname__}.{name}"
    method.__module__ = cls.__module__
    return method


def _sections(docstring):
    """Return what stands before a docstring's sections, and each section by its title."""
    before, *parts = _TITLE.split(docstring)
    titles, texts = parts[::2], parts[1::2]
    return before.rstrip(), {
        title: text.rstrip() for title, text in zip(titles, texts, strict=True)
    }
