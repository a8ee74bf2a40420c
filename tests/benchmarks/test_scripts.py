"""Every benchmark script runs, in a tiny size, and writes what it should.

A new script is found by itself; what its results must be goes into ``checks.py``.
"""

import json
import warnings

import numpy as np
import pytest
import torch

from benchmarks import _runner
from benchmarks.common import ROOT, without_conclusions

from .checks import CHECKS

# Both keep earlier results, but measure anew whatever they are asked for.
MEASURE_AGAIN = ("speed.influence", "speed.score_curve")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Run from another folder; random states and warnings are put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_runner.tempfile, "tempdir", str(tmp_path))
    states = np.random.get_state(), torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # what a script warns of is its user's to see
        yield tmp_path / "out"
    np.random.set_state(states[0])
    torch.set_rng_state(states[1])


def section_of(page, benchmark):
    start, end = (f"<!-- {benchmark.section}: {word} -->" for word in ("start", "end"))
    assert page.count(start) == page.count(end) == 1
    return page.split(start)[1].split(end)[0].strip()


@pytest.mark.parametrize("name", _runner.names())
def test_script(name, elsewhere):
    benchmark = _runner.load(name)
    results = _runner.run(name, smoke=True, folder=elsewhere)
    path = elsewhere / f"{name}.json"
    assert json.loads(path.read_text()) == json.loads(json.dumps(results))
    assert set(benchmark.settings) <= set(results["settings"])
    assert results["environment"]["n_cores"] >= 1
    page = (elsewhere / benchmark.page).read_text()
    section = section_of(page, benchmark)
    assert section.startswith("## ")
    # The section is made of what the file has, and of nothing else.
    assert benchmark.section_of(json.loads(path.read_text())).strip() == section
    if name in CHECKS:
        CHECKS[name](results, page)
    if benchmark.resume and name not in MEASURE_AGAIN:
        again = _runner.run(name, smoke=True, folder=elsewhere)
        assert json.loads(json.dumps(again)) == json.loads(path.read_text())
        assert json.loads(json.dumps(results)) == json.loads(path.read_text())


def test_checks_are_of_scripts():
    assert set(CHECKS) <= set(_runner.names())


@pytest.mark.parametrize("name", _runner.names())
def test_page_shows_the_committed_results(name):
    benchmark, path = _runner.load(name), _runner.results_path(name)
    if not path.exists():
        pytest.skip(f"{path.relative_to(ROOT)} is not there")
    page = (_runner.PAGES / benchmark.page).read_text()
    section = without_conclusions(benchmark.section, section_of(page, benchmark))
    assert benchmark.section_of(json.loads(path.read_text())).strip() == section
