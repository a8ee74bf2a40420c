import importlib

from tests.benchmarks.test_smoke import ROOT, run


def test_speed_of_decoding(tmp_path):
    entries = run("speed/decoding.py", tmp_path)["speed"]
    assert [entry["case"] for entry in entries] == ["table"] * 2 + ["series"] * 2 + ["image"] * 2
    assert all(entry["ratio"] > 0 for entry in entries)


def test_cladec_tables(tmp_path):
    docs = tmp_path / "results.md"
    results = run("papers/cladec_tables.py", tmp_path, "--docs", docs)
    pieces = results["runs"]["0"]
    assert len(pieces) == 12
    for piece in pieces.values():
        assert piece["loss"] > 0
        assert 0 <= piece["accuracy"] <= 1
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
    assert len(computed) == 10
    script.compute(args, results)
    assert len(computed) == 10
    assert set(results["runs"]["0"]) == {name for name, *_ in script.pieces()}
