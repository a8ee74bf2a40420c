"""What a layer keeps of its input: decoders that turn activations back into samples."""

from ._cladec import ClaDecExplainer
from ._losses import gaussian_divergence
from ._measures import (
    evaluation_accuracy,
    evaluation_accuracy_scorer,
    interpretability,
    interpretability_scorer,
)

__all__ = [
    "ClaDecExplainer",
    "evaluation_accuracy",
    "evaluation_accuracy_scorer",
    "gaussian_divergence",
    "interpretability",
    "interpretability_scorer",
]
