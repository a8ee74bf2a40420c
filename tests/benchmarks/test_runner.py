"""The runner of benchmarks: command line, earlier results, pages."""

import json
import sys
from types import ModuleType

import pytest

from benchmarks import _runner
from benchmarks._runner import Benchmark, Option, complete, main
from benchmarks.common import without_conclusions, write_section


def measure(args, results, save):
    tasks = {str(seed): lambda seed=seed: args.n_train * seed for seed in args.seeds}
    complete(results.setdefault("seeds", {}), tasks, save)


def render(results):
    if not results["seeds"]:
        return None
    return f"## Numbers\n\nSettings.\n\n{sorted(results['seeds'].items())}"


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Return how to set up a script ``papers.made`` whose files are in a temporary folder."""

    def make(**changes):
        module = ModuleType("benchmarks.papers.made", "A script.\n\nMore.")
        params = {
            "section": "numbers",
            "page": "numbers.md",
            "measure": measure,
            "render": render,
            "settings": {"n_train": 10, "sizes": [1, 2], "kind": Option("a", choices=("a", "b"))},
            "options": {"seeds": [0, 1], "whole": False, "site": Option(None, "x %", type=str)},
            "fixed": {"levels": (0.5,)},
            "smoke": {"n_train": 2, "seeds": [1]},
        }
        module.BENCHMARK = Benchmark(**params | changes)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    make()
    monkeypatch.setattr(_runner, "names", lambda: ["papers.made"])
    monkeypatch.setattr(_runner, "HERE", tmp_path)
    monkeypatch.setattr(_runner, "PAGES", tmp_path / "pages")
    return make


def results(tmp_path):
    return json.loads((tmp_path / "papers" / "results" / "made.json").read_text())


def test_settings_and_options_are_options(script, tmp_path):
    words = "--n-train 4 --sizes 3 --kind b --seeds 2 3 --whole --site there"
    main(["papers.made", *words.split()])
    found = results(tmp_path)
    assert found["settings"] == {"n_train": 4, "sizes": [3], "kind": "b", "levels": [0.5]}
    assert found["seeds"] == {"2": 8, "3": 12}
    assert "('2', 8)" in (tmp_path / "pages" / "numbers.md").read_text()


@pytest.mark.parametrize("wrong", ["--n-train x", "--kind c", "--unknown 1", "--seeds a"])
def test_wrong_options_are_refused(script, tmp_path, wrong):
    with pytest.raises(SystemExit):
        main(["papers.made", *wrong.split()])
    assert not (tmp_path / "papers").exists()


def test_goes_on_with_the_same_settings_only(script, tmp_path, capsys):
    main(["papers.made"])
    main(["papers/made.py", "--seeds", "0", "5"])  # as a shell completes it
    assert set(results(tmp_path)["seeds"]) == {"0", "1", "5"}
    main(["papers", "--n-train", "7", "--seeds", "5"])
    assert results(tmp_path)["seeds"] == {"5": 35}
    assert "n_train was 10, is 7" in capsys.readouterr().out
    main(["papers.made", "--n-train", "7", "--seeds", "1", "--again"])
    assert results(tmp_path)["seeds"] == {"1": 7}
    script(resume=False)
    main(["papers.made", "--n-train", "7", "--seeds", "2"])
    assert results(tmp_path)["seeds"] == {"2": 14}


def test_a_stopped_run_goes_on(script, tmp_path):
    def stops(args, results, save):
        def stop():
            raise KeyboardInterrupt

        complete(results.setdefault("seeds", {}), {"0": lambda: 0, "1": stop}, save)

    script(measure=stops)
    with pytest.raises(KeyboardInterrupt):
        main(["papers.made"])
    assert results(tmp_path)["seeds"] == {"0": 0}
    script()
    main(["papers.made"])
    assert results(tmp_path)["seeds"] == {"0": 0, "1": 10}


def test_smoke_leaves_the_repository_alone(script, tmp_path, monkeypatch):
    other = tmp_path / "temporary"
    other.mkdir()
    monkeypatch.setattr(_runner.tempfile, "mkdtemp", lambda: str(other))
    main(["papers.made", "--smoke", "--n-train", "3"])  # what is said rules
    assert {path.name for path in tmp_path.iterdir()} == {"temporary"}
    found = json.loads((other / "papers.made.json").read_text())
    assert found["seeds"] == {"1": 3}
    assert (other / "numbers.md").exists()


def test_render_measures_nothing(script, tmp_path):
    main(["papers.made"])
    page = tmp_path / "pages" / "numbers.md"
    before, text = results(tmp_path), page.read_text()
    page.unlink()
    main(["papers.made", "--render", "--seeds", "9"])
    assert results(tmp_path) == before
    assert page.read_text() == text
    main(["papers.made", "--render", "--out", str(tmp_path / "other")])
    assert (tmp_path / "other" / "numbers.md").read_text() == text
    assert not (tmp_path / "other" / "papers.made.json").exists()


def test_summary_comes_before_rendering(script, tmp_path):
    def summarize(results):
        results["sum"] = sum(results["seeds"].values())

    script(summarize=summarize, render=lambda results: f"## Sum\n\n{results['sum']}")
    main(["papers.made"])
    assert results(tmp_path)["sum"] == 10
    assert "## Sum\n\n10\n" in (tmp_path / "pages" / "numbers.md").read_text()


def test_nothing_to_show(script, tmp_path):
    main(["papers.made", "--seeds"])
    assert results(tmp_path)["seeds"] == {}
    assert not (tmp_path / "pages").exists()


def test_scripts_without_the_interface_are_named(script):
    del sys.modules["benchmarks.papers.made"].BENCHMARK
    with pytest.raises(TypeError, match="benchmarks/papers/made.py has no `BENCHMARK"):
        _runner.load("papers.made")
    with pytest.raises(SystemExit, match="_runner.py says how"):
        main(["papers.made"])


def test_smoke_values_must_have_a_setting():
    params = {"section": "a", "page": "a.md", "measure": measure, "render": render}
    with pytest.raises(ValueError, match=r"smoke has \['n_trian'\]"):
        Benchmark(**params, settings={"n_train": 1}, smoke={"n_trian": 1})


def test_unknown_names():
    with pytest.raises(SystemExit, match="no benchmark 'papers.nothing'"):
        main(["papers.nothing"])
    with pytest.raises(SystemExit, match="Name a benchmark"):
        main(["--smoke"])


def test_list(script, capsys):
    main(["--list"])
    assert capsys.readouterr().out.split() == ["papers.made", "A", "script."]


def test_files_that_are_shared_are_no_scripts():
    names = _runner.names()
    assert "speed.dknn" in names and "papers.drift" in names
    assert not [n for n in names if n.split(".")[-1].startswith("_") or "common" in n]


def test_conclusions_stay_under_the_title(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Page\n\nWords.\n")
    write_section(page, "a", "## A\n\nOld numbers.\n")
    write_section(page, "b", "## B\n\nOther numbers.")
    by_hand = "<!-- a: found -->\n\nIt works.\n\nIt does.\n\n<!-- a: details -->\n\n"
    page.write_text(page.read_text().replace("Old numbers", by_hand + "Old numbers"))
    write_section(page, "a", "## A\n\nNew numbers.\n\nMore.")
    a = f"## A\n\n{by_hand}New numbers.\n\nMore."
    expected = f"<!-- a: start -->\n\n{a}\n\n<!-- a: end -->"
    other = "<!-- b: start -->\n\n## B\n\nOther numbers.\n\n<!-- b: end -->"
    assert page.read_text() == f"# Page\n\nWords.\n\n{expected}\n\n{other}\n"
    assert without_conclusions("a", f"\n\n{a}\n\n") == "## A\n\nNew numbers.\n\nMore."
    assert without_conclusions("b", "## B\n\nOther.") == "## B\n\nOther."


def test_joined_pieces_are_summarised_together(script, tmp_path):
    def summarize(results):
        results["sum"] = {"of": sum(results["seeds"].values())}

    script(summarize=summarize)
    for seed in ("3", "4"):
        main(["papers.made", "--seeds", seed, "--out", str(tmp_path / seed)])
    main(["papers.made", "--merge", str(tmp_path / "3"), str(tmp_path / "4")])
    assert results(tmp_path)["sum"] == {"of": 70}


def test_pieces_of_several_processes_are_joined(script, tmp_path, monkeypatch):
    for seed in ("3", "4"):
        main(["papers.made", "--seeds", seed, "--out", str(tmp_path / seed)])
    main(["papers.made", "--seeds", "1", "4"])
    monkeypatch.setattr(_runner, "environment", lambda: {"processor": "another"})
    main(["papers.made", "--seeds", "5", "--out", str(tmp_path / "5")])
    main(["papers.made", "--merge", *(str(tmp_path / seed) for seed in "345")])
    found = results(tmp_path)
    assert found["seeds"] == {"1": 10, "3": 30, "4": 40, "5": 50}
    assert found["other_environments"] == [{"processor": "another"}]
    assert "('5', 50)" in (tmp_path / "pages" / "numbers.md").read_text()
    main(["papers.made", "--n-train", "7", "--out", str(tmp_path / "7")])
    with pytest.raises(ValueError, match="has settings .*'n_train': 7"):
        main(["papers.made", "--merge", str(tmp_path / "7")])
    assert results(tmp_path) == found
