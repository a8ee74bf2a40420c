"""Measures of explanations: plain functions of arrays."""

from ._agreement import saliency_correlation, similarity_rate
from ._completeness import completeness_error
from ._concepts import (
    concept_orthogonality,
    faithfulness,
    grid_parts,
    locality,
    voronoi_parts,
)
from ._decoding import (
    evaluation_accuracy,
    evaluation_accuracy_scorer,
    interpretability,
    interpretability_scorer,
)
from ._latent_shift import latent_shift_curve
from ._sparsity import map_sparsity

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
