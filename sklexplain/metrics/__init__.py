"""Measures of explanations: plain functions of arrays."""

from ..attribution import (
    active_units,
    completeness_error,
    latent_shift_curve,
    map_sparsity,
    roar,
    saliency_entropy,
    unit_correlation,
)
from ..concepts import concept_orthogonality, faithfulness, grid_parts, locality, voronoi_parts
from ..decoding import (
    evaluation_accuracy,
    evaluation_accuracy_scorer,
    interpretability,
    interpretability_scorer,
)
from ..examples import saliency_correlation, similarity_rate

__all__ = [
    "active_units",
    "completeness_error",
    "concept_orthogonality",
    "evaluation_accuracy",
    "evaluation_accuracy_scorer",
    "faithfulness",
    "grid_parts",
    "interpretability",
    "interpretability_scorer",
    "latent_shift_curve",
    "locality",
    "map_sparsity",
    "roar",
    "saliency_correlation",
    "saliency_entropy",
    "similarity_rate",
    "unit_correlation",
    "voronoi_parts",
]
