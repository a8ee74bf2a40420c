"""What a layer keeps of its input: decoders that turn activations back into samples."""

from ._accuracy import evaluation_accuracy, evaluation_accuracy_scorer
from ._cladec import ClaDecExplainer
from ._interpretability import interpretability, interpretability_scorer
from ._losses import gaussian_divergence

__all__ = [
    "ClaDecExplainer",
    "evaluation_accuracy",
    "evaluation_accuracy_scorer",
    "gaussian_divergence",
    "interpretability",
    "interpretability_scorer",
]
