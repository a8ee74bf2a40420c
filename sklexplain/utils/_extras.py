"""What is not installed, and the extra that brings it: the same sentence everywhere."""

# Of setup.cfg.
EXTRAS_OF = {
    "dask": "dask",
    "distributed": "dask",
    "jinja2": "report",
    "matplotlib": "plot",
    "pandas": "report",
    "pyarrow": "report",
    "safetensors": "checkpoints",
    "skops": "report",
}


def missing_extra(package, purpose, extra=None):
    """Say what to install.

    Parameters
    ----------
    package : str
        What is missing, by its name on PyPI.
    purpose : str
        What needs it, with a verb in -ing: "Drawing".
    extra : str or None, default=None
        The extra to name; None: the smallest one that has the package.

    Returns
    -------
    text : str

    Examples
    --------
    >>> from sklexplain.utils import missing_extra
    >>> missing_extra("matplotlib", "Drawing")
    "Drawing needs matplotlib, which is not installed: pip install 'sklexplain[plot]'"
    """
    extra = EXTRAS_OF[package] if extra is None else extra
    return f"{purpose} needs {package}, which is not installed: pip install 'sklexplain[{extra}]'"
