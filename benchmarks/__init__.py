"""Benchmarks: how the methods do beside their papers' claims, and how fast they are.

``python -m benchmarks --list`` shows what there is; ``benchmarks/_runner.py`` says how to add one.
"""
