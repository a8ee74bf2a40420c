"""Docstrings of public methods, made of those of the hooks behind them."""

from __future__ import annotations

import inspect
from typing import Any

from numpy.typing import ArrayLike

from ._typing import ArrayOrFrame


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
    text, whole = inspect.getdoc(hook), inspect.getdoc(getattr(base, name))
    summary, _, rest = text.partition("\n")
    parameters = whole[whole.index("Parameters\n") : whole.index("Returns\n")]
    raises = whole[whole.index("Raises\n") :] if "Raises\n" in whole else ""
    before, found, results = rest.partition("Returns\n-------\n")
    before = before.partition("Parameters\n")[0].rstrip()
    sections = [summary + before, parameters.rstrip()]
    if found:
        returns, warns, after = results.partition("Warns\n-----\n")
        sections += ["Returns\n-------\n" + returns.rstrip(), raises.rstrip()]
        sections += ["Warns\n-----\n" + after.rstrip()] if warns else []
    method.__doc__ = "\n\n".join(filter(None, sections)) + "\n"
    method.__name__, method.__qualname__ = name, f"{cls.__qualname__}.{name}"
    method.__module__ = cls.__module__
    return method
