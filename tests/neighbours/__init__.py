"""Estimators of neighbouring libraries, as black boxes: `make test-neighbours`.

These libraries want older versions of others than the rest of the tests, so they have an
environment of their own (`constraints-neighbours.txt`). Where one is not installed its file is
skipped.
"""
