"""Docstrings as they are written for readers of code, rendered as they are meant.

A docstring says `LabelFreeAttributor` or `beta`, seldom a whole path, and gives shapes such as
``(n_samples, *spatial)`` or ``(n_features_in_,)``, in which reStructuredText sees markup.
"""

import re

from sphinx.util.nodes import make_refnode

# "name : type", or what is returned; continued on the next line where that ends with a backslash.
_CONTINUED = re.compile(r"\\$")
_TYPED = re.compile(r"^\s*[\w*, `]+ : ")


def find_elsewhere(app, env, node, contnode):
    """Resolve a Python name that is written without its path, if one thing only is meant.

    A parameter or attribute, which has no place of its own to link to, stays as it is. Names of
    classes and whole paths have to be found: Sphinx warns of them.
    """
    if node.get("refdomain") != "py":
        return None
    name = node["reftarget"]
    objects = env.domains["py"].objects
    found = {full for full in objects if full == name or full.endswith(f".{name}")}
    # A class and a method of another may share a name; the shortest path is the class.
    shortest = {full for full in found if full.count(".") == min(f.count(".") for f in found)}
    if len(shortest) == 1:
        entry = objects[full := shortest.pop()]
        return make_refnode(
            app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, full
        )
    return contnode if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else None


def skip_inherited(app, what, name, obj, skip, options):
    """Leave out what scikit-learn or skorch document: every estimator has it."""
    function = getattr(obj, "fget", None) or getattr(obj, "__func__", obj)
    module = getattr(function, "__module__", None)
    if what == "class" and module and not module.startswith("sklexplain"):
        return True
    return None


def escape_types(app, what, name, obj, options, lines):
    """Take away the meaning that stars and underscores in types have in reStructuredText."""
    joined = []
    for line in lines:
        if joined and _CONTINUED.search(joined[-1]):
            joined[-1] = _CONTINUED.sub("", joined[-1]) + line.strip()
        else:
            joined.append(line)
    for i, line in enumerate(joined):
        if _TYPED.match(line):
            before, colon, kind = line.partition(" : ")
            joined[i] = before + colon + re.sub(r"\*|_(?!\w)", r"\\\g<0>", kind)
    lines[:] = joined


def setup(app):
    app.connect("missing-reference", find_elsewhere)
    app.connect("autodoc-skip-member", skip_inherited)
    app.connect("autodoc-process-docstring", escape_types, priority=400)  # before numpydoc
    return {"parallel_read_safe": True, "parallel_write_safe": True}
