"""Explanations by a few concepts."""

from ._measures import concept_orthogonality, faithfulness, grid_parts, locality, voronoi_parts
from ._srae import SRAEExplainer

__all__ = [
    "concept_orthogonality",
    "faithfulness",
    "grid_parts",
    "locality",
    "SRAEExplainer",
    "voronoi_parts",
]
