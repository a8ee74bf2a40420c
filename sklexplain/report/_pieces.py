"""Pieces of HTML that the report is made of; all text is escaped here."""

from html import escape
from importlib import metadata


def paragraph(text, css=None):
    """Return a paragraph, of a class of the style sheet if one is named."""
    return f"<p{_css(css)}>{escape(text)}</p>"


def _css(name):
    return "" if name is None else f' class="{name}"'


def bullets(items):
    """Return a list of texts."""
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def figure(uri, alt, caption=None):
    """Return a figure; ``alt`` says what it shows to those who do not see it."""
    below = "" if caption is None else f"<figcaption>{escape(caption)}</figcaption>"
    return f'<figure><img src="{uri}" alt="{escape(alt)}">{below}</figure>'


def table(header, rows, caption, numbers=()):
    """Return a table; ``numbers`` are the columns aligned to the right."""
    align = [' class="number"' if i in numbers else "" for i in range(len(header))]
    head = "".join(
        f'<th scope="col"{a}>{escape(h)}</th>' if h else f"<td{a}></td>"
        for a, h in zip(align, header, strict=True)
    )
    lines = []
    for first, *rest in rows:
        cells = "".join(
            f"<td{a}>{escape(str(cell))}</td>" for a, cell in zip(align[1:], rest, strict=True)
        )
        lines.append(f'<tr><th scope="row">{escape(str(first))}</th>{cells}</tr>')
    # It may be wider than a telephone: who has no mouse can scroll it by the keyboard.
    scroll = f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(caption)}">'
    return (
        f"{scroll}<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


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
