"""``python -m benchmarks papers.srae_table1``: run benchmarks by name."""

from ._runner import main

main()
