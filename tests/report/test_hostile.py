"""Names from anywhere: nothing of them is code, and all of them can be seen."""

import matplotlib

matplotlib.use("Agg")

import base64
import hashlib
import re
import sys
import warnings
from importlib import resources

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from sklexplain.report import RepresentationReport
from sklexplain.report._figures import data_uri, new_axes

from .test_report import check_page, options

HOSTILE = [
    "<script>alert(1)</script>",
    '"quo\'tes" onload=alert(1) x',
    "{{ 7*7 }}{% include 'report.html.j2' %}",
    "</style><style>*{color:red}</style>",
    "</title><meta http-equiv=refresh content=0>",
    "<!-- ]]> &amp; &#x3c;b>",
    "left \u202eto right\u202c and \u2066on",
    "nul\x00 and bell\x07",
    "_hidden $\\frac{1}{",
    "${style}",
]
VISIBLE = [*HOSTILE[:6], r"left \u202eto right\u202c and \u2066on", r"nul\u0000 and bell\u0007"]
VISIBLE += HOSTILE[8:]


class Safe(str):
    """A text that says of itself that it need not be escaped."""

    def __html__(self):
        return str(self)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page on which everything that users name has a hostile name."""
    rng = np.random.RandomState(0)
    X = pd.DataFrame(rng.randn(60, len(HOSTILE)), columns=HOSTILE)
    y = np.array([*HOSTILE[:2], "half \udcff"], dtype=object)[np.arange(60) % 3]
    report = RepresentationReport(
        PCA(2),
        **options(n_examples=1, n_explained=12, n_neighbors=2),
        title=Safe(" ".join(HOSTILE)),
        notes=[Safe(HOSTILE[0]), *HOSTILE[1:]],
        id_name=HOSTILE[0],
        target_names={HOSTILE[1]: Safe(HOSTILE[3])},
    )
    report.fit(X, y, ids=[HOSTILE[i % len(HOSTILE)] for i in range(60)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return report.to_html(tmp_path_factory.mktemp("hostile") / "report.html")


def test_nothing_of_a_name_is_markup(page):
    checked = check_page(page)
    names = {name for name, _ in checked.tags}
    assert not names & {"script", "b", "base", "form", "object"}
    assert len(checked.named("style")) == 1 and len(checked.named("meta")) == 4
    assert not any("style" in attrs or "onload" in attrs for _, attrs in checked.tags)


def test_every_sign_of_a_name_is_seen(page):
    text = check_page(page).text
    for name in VISIBLE:
        assert name in text
    assert not set(text) & set("\x00\x07\u202e\u202c\u2066\udcff")
    assert "half \\udcff" in text


def test_only_the_styles_of_the_package_are_allowed(page):
    html = page.read_text(encoding="utf-8")
    (allowed,) = re.findall(r"style-src 'sha256-([^']+)'", html)
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert base64.b64decode(allowed) == hashlib.sha256(style.encode()).digest()
    assert "default-src 'none'" in html and "unsafe" not in html


def test_pictures_are_whole(page):
    from xml.etree import ElementTree

    for uri in re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page.read_text("utf-8")):
        assert ElementTree.fromstring(base64.b64decode(uri)).tag.endswith("svg")


def test_letters_that_the_font_does_not_have_are_left_to_the_browser():
    def drawn(name):
        ax = new_axes(1.0)
        ax.set_xlabel(name)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return base64.b64decode(data_uri(ax.figure).partition(",")[2]).decode()

    assert "<text" not in drawn("age") and "<text" in drawn("年龄") and "年龄" in drawn("年龄")


def test_no_template_trusts_a_text():
    """The one text that is not escaped is the package's own style sheet."""
    trusted = []
    for place in (resources.files("sklexplain.report") / "templates").iterdir():
        source = place.read_text(encoding="utf-8")
        assert "autoescape" not in source and "xmlattr" not in source
        trusted += re.findall(r"(\S+) \| safe", source)
    assert trusted == ["style"]


def test_without_jinja2_its_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    from sklexplain.report import import_jinja2

    with pytest.raises(ImportError, match=r"pip install 'sklexplain\[report\]'"):
        import_jinja2()
