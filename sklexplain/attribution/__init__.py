"""Which features build a representation."""

from ..explaining import latent_shift_curve, time_segments
from ._completeness import completeness_error
from ._embedding import EmbeddingAttributor
from ._label_free import LabelFreeAttributor
from ._sparsity import map_sparsity

__all__ = [
    "completeness_error",
    "EmbeddingAttributor",
    "LabelFreeAttributor",
    "latent_shift_curve",
    "map_sparsity",
    "time_segments",
]
