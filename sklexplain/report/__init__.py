"""Reports on what a model has learned: one file, readable by people."""

from ._data import LAYOUTS, InputError, read_data
from ._models import load_model
from ._report import RepresentationReport
from ._words import verdict

__all__ = ["InputError", "LAYOUTS", "load_model", "read_data", "RepresentationReport", "verdict"]
