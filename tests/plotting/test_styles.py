"""Displays in the user's own style of matplotlib; reports in that which it comes with."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib import rc_context, style
from matplotlib.colors import to_rgb
from sklearn.decomposition import PCA

from sklexplain.plotting import (
    INK,
    AnomalyDisplay,
    AttributionDisplay,
    ConceptDisplay,
    DictionaryDisplay,
    ExampleDisplay,
    ImportanceDisplay,
    ReconstructionDisplay,
    SpectrumDisplay,
    channel_colors,
    ink,
)
from sklexplain.report import RepresentationReport

RNG = np.random.default_rng(0)
ROW, ROWS = RNG.normal(size=5), RNG.normal(size=(3, 5))
LINES = RNG.normal(size=(3, 2, 20))
SERIES = {"kind": "series", "channel_axis": 0}
DISPLAYS = {
    "anomaly of a table": lambda: AnomalyDisplay(ROW, ROWS[0], kind="table"),
    "anomaly of a series": lambda: AnomalyDisplay(
        LINES[0], LINES[1], residuals=LINES[2], reference=LINES[2], **SERIES
    ),
    "attribution of a table": lambda: AttributionDisplay(ROW, ROWS[0], errors=np.abs(ROWS[1])),
    "attribution of a series": lambda: AttributionDisplay(LINES[0], LINES[1], **SERIES),
    "concepts of a table": lambda: ConceptDisplay(ROW, ROWS, ROWS[:, 0]),
    "concepts of a series": lambda: ConceptDisplay(LINES[0], LINES, ROWS[:, 0], **SERIES),
    "dictionary of a table": lambda: DictionaryDisplay(ROWS[None], ROWS[:1, :3], ROWS[None]),
    "dictionary of a series": lambda: DictionaryDisplay(LINES[None], ROWS[:1, :3], **SERIES),
    "examples of a table": lambda: ExampleDisplay(ROW, ROWS),
    "examples of a series": lambda: ExampleDisplay(LINES[0], LINES[1:], **SERIES),
    "importance of a table": lambda: ImportanceDisplay(ROWS, ROWS, errors=np.abs(ROWS)),
    "importance of a series": lambda: ImportanceDisplay(LINES, **SERIES),
    "reconstruction of a table": lambda: ReconstructionDisplay(ROWS, ROWS + 0.1),
    "reconstruction of a series": lambda: ReconstructionDisplay(LINES, LINES + 0.1, **SERIES),
    "spectrum": lambda: SpectrumDisplay(LINES[0], channel_axis=0),
}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def luminance(color):
    return float(np.dot([0.2126, 0.7152, 0.0722], to_rgb(color)))


def colors_of(display):
    """Colours of lines and texts that somebody has to see."""
    for ax in display.figure_.axes:
        if not ax.get_visible():
            continue
        for line in ax.get_lines():
            yield line.get_color()
        for text in ax.texts + [ax.title, ax.xaxis.label, ax.yaxis.label]:
            if text.get_text():
                yield text.get_color()
        for table in ax.tables:
            for cell in table.get_celld().values():
                paper = cell.get_facecolor()
                assert paper[3] == 0 or abs(luminance(paper) - luminance("black")) < 0.2
                yield cell.get_text().get_color()
        for spine in ax.spines.values():
            yield spine.get_edgecolor()


@pytest.mark.parametrize("name", DISPLAYS)
def test_everything_is_seen_on_dark_paper(name):
    with style.context("dark_background"):
        display = DISPLAYS[name]().plot()
        display.figure_.canvas.draw()
        colors = list(colors_of(display))
    assert colors and min(map(luminance, colors)) > 0.3
    assert luminance(display.figure_.get_facecolor()) == 0


def test_ink_follows_the_style():
    assert ink() == INK and channel_colors(3)[0] == INK and channel_colors(1) == [INK]
    with style.context("dark_background"):
        assert ink() == "white" and channel_colors(3)[0] == "white" and channel_colors(1) == [ink()]
    with rc_context({"text.color": "darkblue"}):
        assert ink() == INK


def page(tmp_path, report):
    return report.to_html(tmp_path / "report.html").read_bytes()


@pytest.mark.parametrize(
    "changed",
    [["dark_background"], [{"font.size": 30}], ["ggplot", {"lines.linewidth": 9}]],
    ids=str,
)
def test_reports_are_the_same_in_every_style(changed, tmp_path):
    X = RNG.normal(size=(40, 4))
    report = RepresentationReport(
        PCA(2), random_state=0, n_explained=10, n_examples=1, anomalies=False
    ).fit(X, X[:, 0] > 0)
    before = plt.get_backend()
    pages = []
    for wanted in ([], changed):
        report._clock["draw and write"] = 0.0
        with style.context(wanted):
            pages.append(pictures(page(tmp_path, report)))
            assert plt.rcParams["font.size"] == (30 if {"font.size": 30} in wanted else 10.0)
    assert len(pages[0]) >= 3 and pages[0] == pages[1]
    assert plt.get_backend() == before


def pictures(html):
    return [part.partition(b'"')[0] for part in html.split(b'src="data:image/svg+xml;base64,')[1:]]
