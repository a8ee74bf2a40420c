"""The pages of results: every claim has a verdict, every link leads somewhere."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "results"
VERDICTS = ("reproduced", "in part", "not reproduced", "not tested")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def slug(title):
    """Return the anchor that GitHub gives a title."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def anchors(page):
    return {slug(title) for title in re.findall(r"^#+ (.*)$", page.read_text(), flags=re.M)}


def claims():
    """Rows of the tables of claims: cells without their spaces."""
    rows = re.findall(r"^\| (.*) \|$", (PAGES / "README.md").read_text(), flags=re.M)
    rows = [[cell.strip() for cell in re.split(r" \|(?: |$)", row)] for row in rows]
    return [row for row in rows if row[0] not in ("where", "---")]


def test_every_claim_has_one_of_four_verdicts():
    rows = claims()
    assert len(rows) > 50
    for row in rows:
        assert len(row) == 6, row
        where, paper, here, verdict, why, link = row
        assert where and paper and here, row
        assert verdict in VERDICTS, row
        assert (why == "") == (verdict == "reproduced"), row
        assert link == "–" if verdict == "not tested" else LINK.fullmatch(link), row
    assert {row[3] for row in rows} == set(VERDICTS)


def test_the_index_counts_its_verdicts():
    found = Counter(row[3] for row in claims())
    words = " ".join((PAGES / "README.md").read_text().split())
    assert (
        f"Of {found.total()} claims {found['reproduced']} are reproduced, {found['in part']} in "
        f"part, {found['not reproduced']} are not reproduced, and {found['not tested']} are not "
        "tested." in words
    )


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(PAGES.glob("*.md"))], ids=str
)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        if target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), target
        if anchor:
            assert anchor in anchors(other), target


def test_sections_start_and_end_once_and_say_first_what_is_found():
    sections = []
    for page in PAGES.glob("*.md"):
        text = page.read_text()
        for name in re.findall(r"<!-- (.*): start -->", text):
            marks = [f"<!-- {name}: {w} -->" for w in ("start", "found", "details", "end")]
            assert [text.count(mark) for mark in marks] == [1] * 4, (
                f"{page.name}: under its title the section {name!r} says what is found, between "
                f"{marks[1]} and {marks[2]}"
            )
            assert sorted(marks, key=text.index) == marks, name
            title, found = text.split(marks[0])[1].split(marks[1])
            assert re.fullmatch(r"\n\n## .*\n\n", title), name
            assert found.split(marks[2])[0].strip(), name
            sections.append(name)
    assert len(sections) == len(set(sections)) > 20
