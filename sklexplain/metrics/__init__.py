"""Measures of explanations: plain functions of arrays."""

from ..attribution import completeness_error, latent_shift_curve, map_sparsity
from ..concepts import concept_orthogonality, faithfulness, grid_parts, locality, voronoi_parts
from ..decoding import (
    evaluation_accuracy,
    evaluation_accuracy_scorer,
    interpretability,
    interpretability_scorer,
)
from ..examples import saliency_correlation, similarity_rate

__all__ = [
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
    "saliency_correlation",
    "similarity_rate",
    "voronoi_parts",
]
