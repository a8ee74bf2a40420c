"""The built documentation, as browsers show it; run by ``make test-docs``, which builds it first.

Links to other places are not followed: there may be no network.
"""

import os
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1] / "docs" / "_build" / "html"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.skipif(os.environ.get("SKLEXPLAIN_DOCS") != "all", reason="run make test-docs"),
    pytest.mark.skipif(not (ROOT / "index.html").is_file(), reason="run make docs"),
]


def written():
    """Pages that were written for readers: no listings of the source, no indices."""
    found = sorted(ROOT.rglob("*.html"))
    left_out = {"genindex.html", "py-modindex.html", "search.html"}
    names = [(path, path.relative_to(ROOT)) for path in found]
    return [
        p
        for p, name in names
        if name.parts[0] not in ("_modules", "_static") and str(name) not in left_out
    ]


class Links(HTMLParser):
    """Anchors of a page, and where its links and pictures lead."""

    def __init__(self, page):
        super().__init__()
        self.anchors, self.targets = set(), []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        self.targets += [attrs[key] for key in ("href", "src") if attrs.get(key)]


def test_links_lead_somewhere():
    found = [page for page in sorted(ROOT.rglob("*.html")) if page.parent.name != "_static"]
    pages = {page: Links(page) for page in found}
    broken = []
    for page, links in pages.items():
        for target in links.targets:
            scheme, host, path, _, anchor = urlsplit(target)
            if scheme or host:
                continue
            file = (page.parent / unquote(path)).resolve() if path else page
            if not file.exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
            elif anchor and file in pages and unquote(anchor) not in pages[file].anchors:
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken, "\n".join(sorted(set(broken)))


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.skipif(not (HERE / "node_modules").is_dir(), reason="run make test-docs")
def test_pages(tmp_path):
    command = ["node", HERE / "docs.mjs", BROWSER, tmp_path, ROOT, *written()]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=HERE)
    assert done.returncode == 0, done.stdout + done.stderr
