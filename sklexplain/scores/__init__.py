"""Scores of representations that need no labels."""

from ._noise_scorer import NoiseScorer
from ._scoring import noise_scorer, variance_scorer
from ._variance_scorer import VarianceScorer

__all__ = ["NoiseScorer", "VarianceScorer", "noise_scorer", "variance_scorer"]
