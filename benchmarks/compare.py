"""``python -m benchmarks.compare REVISION``: speed now beside that of an earlier revision.

Both are read from the committed files in ``benchmarks/speed/results``, nothing is run. What is
compared is processor time, and where a measurement has a competitor, run in turns with it, the
ratio to this one: it depends less on the machine. Of measurements with other settings nothing is
said but that.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "speed" / "results"
# The first that a measurement has is compared.
MEASURES = ("cpu_ratio", "ours_cpu_seconds", "cpu_seconds", "ratio", "ours_seconds", "seconds")
LARGER = 1.2  # from here on a row is marked


def measurements(results):
    """Find the measurements in the results of one benchmark.

    Parameters
    ----------
    results : dict
        As read from its file.

    Yields
    ------
    name : str
        The keys that lead there, and of a list what tells its items apart.
    measure : str
        One of `MEASURES`.
    value : float
    """
    for key, value in results.items():
        if key not in ("settings", "environment", "targets"):
            yield from _within(key, value)


def _within(name, found):
    if isinstance(found, list):
        for item in found:
            yield from _within(f"{name}, {_label(item)}" if _label(item) else name, item)
    elif isinstance(found, dict):
        measure = next((m for m in MEASURES if isinstance(found.get(m), (int, float))), None)
        if measure is not None:
            yield name, measure, found[measure]
            return
        for key, value in found.items():
            yield from _within(f"{name}, {key}", value)


def _label(item):
    """Words and counts of an item of a list, which say what was measured."""
    if not isinstance(item, dict):
        return ""
    told = {k: v for k, v in item.items() if type(v) in (str, int) and k != "n_repeats"}
    return ", ".join(v if isinstance(v, str) else f"{k}={v}" for k, v in told.items())


def compared(before, now):
    """Compare two results of one benchmark.

    Parameters
    ----------
    before, now : dict
        Results of the same benchmark.

    Returns
    -------
    rows : list of (str, str, float, float)
        Name, measure, and the two values, of all that both have.
    remarks : list of str
        What makes the comparison unsure.
    """
    if before.get("settings") != now.get("settings"):
        return [], ["other settings, not compared"]
    places = [results.get("environment", {}) for results in (before, now)]
    remarks = [
        f"{key}: {places[0].get(key)}, now {places[1].get(key)}"
        for key in ("processor", "n_cores", "torch")
        if places[0].get(key) != places[1].get(key)
    ]
    old = {(name, measure): value for name, measure, value in measurements(before)}
    rows = [
        (name, measure, old[name, measure], value)
        for name, measure, value in measurements(now)
        if (name, measure) in old
    ]
    return rows, remarks


def table(name, rows, remarks):
    """Write a comparison as text; a row that has become slower by a fifth is marked."""
    lines = [name, *(f"  ({remark})" for remark in remarks)]
    width = max((len(row[0]) for row in rows), default=0)
    for row, measure, before, now in rows:
        ratio = now / before if before else float("nan")
        mark = "  slower" if ratio > LARGER else ""
        what = measure.replace("_", " ")
        lines.append(f"  {row:<{width}}  {before:10.5g} {now:10.5g}  x {ratio:.2f}{mark}  {what}")
    return "\n".join(lines)


def _git(*arguments):
    run = subprocess.run(
        ["git", *arguments], cwd=RESULTS, capture_output=True, text=True, check=False
    )
    return run.stdout if run.returncode == 0 else None


def main(argv=None):
    """Print all comparisons.

    Parameters
    ----------
    argv : list of str or None, default=None
        Arguments; by default those of the command line.

    Returns
    -------
    code : int
        0, or 2 if there is no such revision.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("revision", nargs="?", help="tag or commit; by default the last tag")
    revision = parser.parse_args(argv).revision
    if not revision:
        revision = (_git("describe", "--tags", "--abbrev=0") or "").strip()
        if not revision:
            print("there is no tag yet: name a revision, REVISION=<commit>", file=sys.stderr)
            return 2
    if _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}") is None:
        print(f"there is no revision {revision!r} in this repository", file=sys.stderr)
        return 2
    print(f"before: {revision}; x is now / before, above 1 is slower\n")
    for path in sorted(RESULTS.glob("*.json")):
        text = _git("show", f"{revision}:./{path.name}")
        if text is None:
            print(f"{path.stem}\n  (new)\n")
            continue
        rows, remarks = compared(json.loads(text), json.loads(path.read_text()))
        print(table(path.stem, rows, remarks), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
