"""Pages from templates: every text is escaped by Jinja2, none is put together with tags here."""

import base64
import hashlib
from functools import cache
from importlib import resources

from ..utils import missing_extra, visible_text


def import_jinja2():
    """Import jinja2, or say how to get it.

    Returns
    -------
    jinja2 : module

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ImportError(missing_extra("jinja2", "Writing reports")) from error
    return jinja2


@cache
def _environment():
    """Return what compiles the package's templates, once for all pages."""
    jinja2 = import_jinja2()
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )


def _source(name):
    place = resources.files("sklexplain.report") / "templates" / name
    return place.read_text(encoding="utf-8")


def write_page(name, content):
    """Return a page made from a template and the package's style sheet.

    Parameters
    ----------
    name : str
        Of the template, without its endings.
    content : dict
        What the template asks for: texts, numbers, and lists and dicts of them. Texts may come
        from anywhere.

    Returns
    -------
    html : str
    """
    style = f"\n{_source('report.css').strip()}\n"
    digest = hashlib.sha256(style.encode()).digest()
    page = _environment().get_template(f"{name}.html.j2")
    return page.render(**plain(content), style=style, style_hash=base64.b64encode(digest).decode())


def plain(content):
    r"""Return content whose texts are nothing but texts, and can be seen in full.

    Objects that call themselves safe HTML are escaped like all others, and signs that are not seen
    but change how the rest is read are written as their codes.

    Parameters
    ----------
    content : object
        A text or number, or lists and dicts of them.

    Returns
    -------
    content : object
        Of str, int, bool, None, list and dict only.

    Examples
    --------
    >>> from sklexplain.report._pages import plain
    >>> plain({"title": "a\tb", "rows": [(1, 2.5)]})
    {'title': 'a\tb', 'rows': [[1, '2.5']]}
    """
    if content is None or isinstance(content, (bool, int)):
        return content
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple, range)):
        return [plain(value) for value in content]
    return visible_text(content)
