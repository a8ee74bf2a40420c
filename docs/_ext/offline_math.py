"""Formulas as MathML, which browsers draw themselves: pages ask for nothing from elsewhere."""

import re

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.util import logging

# Sizes of brackets, which MathML chooses by itself.
_SIZES = re.compile(r"\\[bB]igg?[lr]?(?![a-zA-Z])")
# An index of a letter with an accent, which docutils would set below the letter.
_ACCENTS = re.compile(r"\\(hat|bar|tilde)(?:\s*\{(\w)\}|\s+(\w))(?=_)")

logger = logging.getLogger(__name__)


def _mathml(translator, node, as_block):
    source = node.astext()
    # Sphinx's own directive allows blocks of several formulas, each in a paragraph of its own.
    parts = source.split("\n\n") if as_block else [source]
    for part in filter(str.strip, parts):
        try:
            found = latex2mathml.tex2mathml(_tex(part), as_block=as_block)
        except MathError as error:
            logger.warning("a formula cannot be drawn: %s: %s", part, error, location=node)
            found = f"<code>{translator.encode(part)}</code>"
        translator.body.append(found)
    raise nodes.SkipNode


def _tex(part):
    return _ACCENTS.sub(r"{\\\1{\2\3}{}}", _SIZES.sub("", " ".join(part.split())))


def _inline(translator, node):
    translator.body.append('<span class="math">')
    try:
        _mathml(translator, node, as_block=False)
    except nodes.SkipNode:
        translator.body.append("</span>")
        raise


def _block(translator, node):
    # A wide formula is scrolled by itself, also with the keyboard, and not the whole page.
    translator.body.append('<div class="math-block" tabindex="0" role="group">')
    try:
        _mathml(translator, node, as_block=True)
    except nodes.SkipNode:
        translator.body.append("</div>\n")
        raise


def setup(app):
    app.add_html_math_renderer(
        "mathml", inline_renderers=(_inline, None), block_renderers=(_block, None)
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
