"""Explanations by concepts."""

from ._dictionary import SparseDictionary
from ._measures import concept_orthogonality, faithfulness, grid_parts, locality, voronoi_parts
from ._srae import SRAEExplainer

__all__ = [
    "concept_orthogonality",
    "faithfulness",
    "grid_parts",
    "locality",
    "SparseDictionary",
    "SRAEExplainer",
    "voronoi_parts",
]
