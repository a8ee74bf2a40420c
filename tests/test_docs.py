"""Code in the pages of the documentation runs, and prints what they say it prints.

The blocks of a page are one program. Those that take long run with ``make test-docs`` only.
"""

import contextlib
import importlib
import io
import os
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# A second of processor time at most, all of them together, when the library is imported already.
CHEAP = {"how_to/pipelines.md", "how_to/what_is_explained.md"}
GENERATED = ("results", "generated", "auto_gallery", "_build")

needs_docs = pytest.mark.skipif(not DOCS.is_dir(), reason="installed without its documentation")


def pages():
    """Pages with code, by their path in the documentation."""
    for path in sorted(DOCS.rglob("*.md")):
        name = path.relative_to(DOCS).as_posix()
        if name.split("/")[0] not in GENERATED and "```python" in path.read_text(encoding="utf-8"):
            long = name not in CHEAP and os.environ.get("SKLEXPLAIN_DOCS") != "all"
            marks = [pytest.mark.skipif(long, reason="make test-docs")]
            yield pytest.param(path, id=name, marks=marks)


def assert_says(printed, told):
    """Words are the same, and numbers nearly: of what is trained they differ between machines."""
    assert NUMBER.sub("#", printed).split() == NUMBER.sub("#", told).split(), printed
    for found, expected in zip(NUMBER.findall(printed), NUMBER.findall(told), strict=True):
        assert float(found) == pytest.approx(float(expected), rel=0.15, abs=0.1), printed


@needs_docs
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:X has .* samples in dask")  # the page speaks of it
@pytest.mark.parametrize("page", list(pages()))
def test_code_of_a_page_runs(page, tmp_path, monkeypatch):
    pytest.importorskip("pandas")
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    names, printed = {"__name__": "__main__"}, ""
    for match in BLOCK.finditer(text):
        kind, code = match.groups()
        if kind == "text":  # what the block before it printed
            assert_says(printed, code)
            continue
        line = text.count("\n", 0, match.start()) + 1
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile("\n" * line + code, str(page), "exec"), names)
        printed = out.getvalue()
    matplotlib.pyplot.close("all")


@needs_docs
def test_every_public_name_has_a_page():
    import sklexplain
    from sklexplain import datasets, exceptions, extending, metrics, nets, plotting

    api = (DOCS / "api.md").read_text(encoding="utf-8")
    for module in (sklexplain, datasets, exceptions, extending, metrics, nets, plotting):
        for name in set(module.__all__) - {"__version__"}:
            assert f"   ~{module.__name__}.{name}\n" in api, name


@needs_docs
def test_names_that_the_pages_link_to_exist():
    """What ``make docs`` says, too, but later."""
    for path in DOCS.rglob("*.md"):
        for name in re.findall(r"\{(?:class|func|mod)\}`~?(sklexplain[\w.]*)`", path.read_text()):
            module, _, last = name.rpartition(".")
            namespace = importlib.import_module(module or name)
            assert not module or hasattr(namespace, last), f"{path}: {name}"
