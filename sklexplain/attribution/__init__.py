"""Which features build a representation."""

from ._embedding import EmbeddingAttributor
from ._groups import time_segments
from ._label_free import LabelFreeAttributor

__all__ = ["EmbeddingAttributor", "LabelFreeAttributor", "time_segments"]
