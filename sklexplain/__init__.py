"""Explanations of learned representations as scikit-learn estimators."""

from .attribution import EmbeddingAttributor, LabelFreeAttributor
from .concepts import SRAEExplainer
from .examples import DKNNImportance, InfluenceImportance, SimplExImportance, TracInImportance
from .scores import NoiseScorer, VarianceScorer

__version__ = "0.1.0"

__all__ = [
    "DKNNImportance",
    "EmbeddingAttributor",
    "InfluenceImportance",
    "LabelFreeAttributor",
    "NoiseScorer",
    "SRAEExplainer",
    "SimplExImportance",
    "TracInImportance",
    "VarianceScorer",
    "__version__",
]
