"""Files of samples as people have them: read rightly, or refused with the way out."""

from ._columns import prepare_series, prepare_table
from ._data import LAYOUTS, SUFFIXES, read_data
from ._problems import InputError

__all__ = ["InputError", "LAYOUTS", "prepare_series", "prepare_table", "read_data", "SUFFIXES"]
