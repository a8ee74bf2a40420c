"""Measures of explanations: plain functions of arrays."""

from ._agreement import saliency_correlation, similarity_rate
from ._completeness import completeness_error
from ._latent_shift import latent_shift_curve

__all__ = [
    "completeness_error",
    "latent_shift_curve",
    "saliency_correlation",
    "similarity_rate",
]
