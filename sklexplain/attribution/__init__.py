"""Which features build a representation."""

from ..explaining import latent_shift_curve, time_segments
from ._completeness import completeness_error
from ._embedding import EmbeddingAttributor
from ._label_free import LabelFreeAttributor
from ._relax import RelevanceMasker
from ._roar import roar
from ._sparsity import map_sparsity
from ._unit_maps import active_units, saliency_entropy, unit_correlation

__all__ = [
    "active_units",
    "completeness_error",
    "EmbeddingAttributor",
    "LabelFreeAttributor",
    "latent_shift_curve",
    "map_sparsity",
    "RelevanceMasker",
    "roar",
    "saliency_entropy",
    "time_segments",
    "unit_correlation",
]
