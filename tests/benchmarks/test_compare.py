"""Speed now beside that of an earlier revision."""

import subprocess

import pytest

from benchmarks.compare import RESULTS, compared, main, measurements, table

BEFORE = {
    "settings": {"n": 3},
    "environment": {"processor": "A", "n_cores": 2, "torch": "2.13.0"},
    "speed": [
        {"method": "saliency", "cpu_ratio": 2.0, "ours_cpu_seconds": 9.0, "n_repeats": 7},
        {"method": "lime", "n_samples": 10, "cpu_seconds": 1.0},
    ],
    "memory": {"large": {"rise_mb": 3, "cpu_seconds": 4.0}, "note": "none"},
}


def changed(**changes):
    return {**BEFORE, **changes}


def test_what_is_compared():
    assert list(measurements(BEFORE)) == [
        ("speed, saliency", "cpu_ratio", 2.0),
        ("speed, lime, n_samples=10", "cpu_seconds", 1.0),
        ("memory, large", "cpu_seconds", 4.0),
    ]


def test_ratios():
    now = changed(memory={"large": {"cpu_seconds": 5.0}, "new": {"cpu_seconds": 1.0}}, speed=[])
    rows, remarks = compared(BEFORE, now)
    assert rows == [("memory, large", "cpu_seconds", 4.0, 5.0)] and not remarks
    assert "x 1.25  slower" in table("a", rows, remarks)


def test_what_makes_a_comparison_unsure():
    rows, remarks = compared(BEFORE, changed(environment={**BEFORE["environment"], "torch": "3"}))
    assert len(rows) == 3 and remarks == ["torch: 2.13.0, now 3"]
    assert compared(BEFORE, changed(settings={"n": 4})) == ([], ["other settings, not compared"])


def test_a_revision_with_itself(capsys):
    git = subprocess.run(["git", "log", "-1"], cwd=RESULTS, capture_output=True, check=False)
    if git.returncode:
        pytest.skip("not in a git repository")
    assert main(["HEAD"]) == 0
    told = capsys.readouterr().out
    assert all(path.stem in told for path in RESULTS.glob("*.json"))
    assert main(["no-such-tag"]) == 2
    assert "no revision 'no-such-tag'" in capsys.readouterr().err
