from tests.benchmarks.test_smoke import run


def test_speed_of_decoding(tmp_path):
    entries = run("speed/decoding.py", tmp_path)["speed"]
    assert [entry["case"] for entry in entries] == ["table"] * 2 + ["series"] * 2 + ["image"] * 2
    assert all(entry["ratio"] > 0 for entry in entries)
