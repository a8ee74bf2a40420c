from tests.benchmarks.test_smoke import run


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
    assert page.count("| -2 |") == 3  # in the table of layers, of weights and of epochs
    # What is there is not computed again.
    seconds = {name: piece["cpu_seconds"] for name, piece in pieces.items()}
    again = run("papers/cladec_tables.py", tmp_path)["runs"]["0"]
    assert seconds == {name: piece["cpu_seconds"] for name, piece in again.items()}
