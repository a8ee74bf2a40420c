import importlib

import numpy as np

from .running import ROOT, run


def test_speed_of_decoding(tmp_path):
    entries = run("speed/decoding.py", tmp_path)["speed"]
    assert [entry["case"] for entry in entries] == ["table"] * 2 + ["series"] * 2 + ["image"] * 2
    assert all(entry["ratio"] > 0 for entry in entries)


def test_cladec_tables(tmp_path):
    docs = tmp_path / "results.md"
    results = run("papers/cladec_tables.py", tmp_path, "--docs", docs)
    pieces = results["runs"]["0"]
    assert len(pieces) == 13
    for piece in pieces.values():
        assert piece["loss"] > 0
        assert np.isclose(piece["accuracy"], 1 - len(piece["wrong"]) / 30, atol=1e-4)
    page = docs.read_text()
    assert page.count("<!-- ClaDec tables: start -->") == 1
    for row in ("-1", "-2", "weight 0", "weight 0.99", "all epochs", "0 epochs", "heartbeats"):
        assert page.count(f"| {row} |") == 1
    assert "Not computed" not in page


def test_what_is_there_is_not_computed_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks" / "papers")
    script = importlib.import_module("cladec_tables")
    args = script.parse_args(["--smoke", "--out", str(tmp_path / "results.json")])
    computed = []
    monkeypatch.setattr(script.Run, "piece", lambda self, *a, **k: computed.append(a) or {})
    results = {"runs": {"0": {"-1": {}, "heartbeats": {}}}}
    script.compute(args, results)
    assert len(computed) == 11
    script.compute(args, results)
    assert len(computed) == 11
    assert set(results["runs"]["0"]) == {name for name, *_ in script.pieces(args)}


def test_differences_have_the_intervals_of_paired_answers(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks" / "papers")
    script = importlib.import_module("cladec_tables")
    run = {"a": {"wrong": [0, 1]}, "b": {"wrong_reference": [1, 2, 3, 4]}}
    results = {"settings": {"n_test": 10}, "runs": {"0": run, "1": {}}}
    ((difference, half),) = script.differences(results, "a", "b")
    answers = np.zeros(10)
    answers[[2, 3, 4]], answers[0] = 1, -1
    assert np.isclose(difference, answers.mean())
    assert np.isclose(half, 1.96 * answers.std() / np.sqrt(10))
    assert script.mean_difference([(0.1, 0), (0.3, 0)]).startswith("+0.200 ± 1.271")


def test_dictionaries_of_concepts(tmp_path):
    docs = tmp_path / "results.md"
    results = run("concepts_dictionary.py", tmp_path, "--docs", docs)
    assert len(results["planted"]) == 4
    for layer in results["heartbeats"]["0"].values():
        assert set(layer) == {"dictionary of 64", "dictionary of 256", "PCA", "NMF"}
    assert "| encoder.relu1 | PCA |" in docs.read_text()
