"""Drawings of explanations, as scikit-learn displays."""

from ._attribution import AttributionDisplay
from ._concepts import ConceptDisplay
from ._examples import ExampleDisplay
from ._latent_shift import LatentShiftDisplay
from ._reconstruction import ReconstructionDisplay
from ._score_curve import ScoreCurveDisplay

__all__ = [
    "AttributionDisplay",
    "ConceptDisplay",
    "ExampleDisplay",
    "LatentShiftDisplay",
    "ReconstructionDisplay",
    "ScoreCurveDisplay",
]
