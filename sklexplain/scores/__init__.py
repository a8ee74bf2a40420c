"""Scores of representations that need no labels."""

from ._noise_scorer import NoiseScorer
from ._score_constraint import ScoreConstraint
from ._scoring import noise_scorer, variance_scorer
from ._variance_scorer import VarianceScorer

__all__ = ["noise_scorer", "NoiseScorer", "ScoreConstraint", "variance_scorer", "VarianceScorer"]
