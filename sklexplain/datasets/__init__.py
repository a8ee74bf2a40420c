"""Real data that comes with the package, and generators of data with known ground truth."""

from ._ecg5000 import load_ecg5000
from ._generators import make_frequency_series, make_motif_series, make_relevant_columns

__all__ = ["load_ecg5000", "make_frequency_series", "make_motif_series", "make_relevant_columns"]
