"""Which features build a representation."""

from ._groups import time_segments
from ._label_free import LabelFreeAttributor

__all__ = ["LabelFreeAttributor", "time_segments"]
