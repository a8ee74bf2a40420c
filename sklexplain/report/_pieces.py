"""Small pieces that the report's sections are made of."""

from importlib import metadata


def figure(uri, alt, caption=None):
    """Return a figure; ``alt`` says what it shows to those who do not see it."""
    return {"uri": uri, "alt": alt, "caption": caption}


def table(header, rows, caption, numbers=()):
    """Return a table; ``numbers`` are the columns aligned to the right."""
    return {"header": header, "rows": rows, "caption": caption, "numbers": list(numbers)}


def version_of(package):
    """Return a package's version."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        from .. import __version__

        return __version__ if package == "sklexplain" else "not installed"


def percent(value):
    """Return a share as text."""
    return f"{value:.0%}"


def layer_name(explainer):
    """Say in words which activations an explainer looks at."""
    if explainer.layer_ is None:
        return "the model's output"
    at_input = explainer._record.at == "input"
    return f"what {'enters' if at_input else 'leaves'} the layer “{explainer.layer_}”"
