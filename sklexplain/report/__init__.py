"""Reports on what a model has learned: one file, readable by people."""

from ._report import RepresentationReport

__all__ = ["RepresentationReport"]
