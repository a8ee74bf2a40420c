"""A fixed sample in `make test`, more in `make fuzz`: the same draws in every run of either."""

import os
from collections import defaultdict
from pathlib import Path

from hypothesis import HealthCheck, settings

PROFILE = os.environ.get("SKLEXPLAIN_FUZZ", "few")
# A test function is a kind of pipeline, of which there are five, or a method's check of networks.
N_PIPELINES = {"few": 4, "many": 80}
N_NETWORKS = {"few": 5, "many": 200}

_COMMON = {
    "derandomize": True,
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}
for name in N_PIPELINES:
    settings.register_profile(name, max_examples=N_PIPELINES[name], **_COMMON)
settings.load_profile(PROFILE)
networks_settings = settings(max_examples=N_NETWORKS[PROFILE], **_COMMON)


def pytest_terminal_summary(terminalreporter):
    """Write how many networks were tried, and how far the largest deviation was."""
    rows = [
        value
        for report in terminalreporter.stats.get("", [])
        for key, value in getattr(report, "user_properties", [])
        if key == "fuzz" and report.when == "teardown"
    ]
    if rows and PROFILE == "many":
        table = _table(rows)
        terminalreporter.write_line("")
        terminalreporter.write_line(table)
        if "SKLEXPLAIN_FUZZ_PAGE" in os.environ:
            _write_page(Path(os.environ["SKLEXPLAIN_FUZZ_PAGE"]), table)


def _write_page(page, table):
    """Write the section of the page of results anew."""
    start, end = "<!-- random networks: start -->", "<!-- random networks: end -->"
    text = page.read_text()
    before, _, rest = text.partition(start)
    if not rest:
        raise ValueError(f"{page} has no line {start!r}")
    words = rest.partition(end)[0].split("| check |")[0].rstrip()
    page.write_text(f"{before}{start}{words}\n\n{table}\n\n{end}{rest.partition(end)[2]}")


def _table(rows):
    """Write the numbers of every check as a table."""
    total = defaultdict(float)
    lines = [
        "| check | networks | numbers compared | largest deviation, float64 | float32 | seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, n_cases, n_compared, worst, seconds in sorted(rows):
        total["cases"] += n_cases
        total["compared"] += n_compared
        total["seconds"] += seconds
        deviations = " | ".join(
            f"{worst[dtype]:.0e}" if dtype in worst else "" for dtype in ("float64", "float32")
        )
        lines.append(
            f"| {name.replace('_', ' ')} | {n_cases} | {n_compared} | {deviations} | "
            f"{seconds:.0f} |"
        )
    lines.append(
        f"| all | {total['cases']:.0f} | {total['compared']:.0f} | | | {total['seconds']:.0f} |"
    )
    return "\n".join(lines)
