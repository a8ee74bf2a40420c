"""The gallery's examples are run when the documentation is built; here only what is cheap."""

import ast
import importlib
from pathlib import Path

import pytest

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"
EXAMPLES = sorted(GALLERY.glob("plot_*.py"))

# The documentation is not part of an installed package.
pytestmark = pytest.mark.skipif(not EXAMPLES, reason="no docs/gallery beside the tests")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_a_title_and_imports_what_there_is(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    title, line, blank, *_ = ast.get_docstring(tree).splitlines()
    assert line == "=" * len(title) and not blank
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if node.module.partition(".")[0] == "sklexplain"]
    assert ours
    for node in ours:
        room = importlib.import_module(node.module)
        missing = [alias.name for alias in node.names if not hasattr(room, alias.name)]
        assert not missing, f"{node.module} has no {missing}"
        assert not any(part.startswith("_") for part in node.module.split("."))
