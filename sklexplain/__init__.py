"""Explanations of learned representations as scikit-learn estimators."""

from .anomalies import AnomalyAttributor
from .attribution import EmbeddingAttributor, LabelFreeAttributor
from .concepts import SRAEExplainer
from .decoding import ClaDecExplainer
from .examples import DKNNImportance, InfluenceImportance, SimplExImportance, TracInImportance
from .scores import NoiseScorer, VarianceScorer

__version__ = "0.1.0"

__all__ = [
    "AnomalyAttributor",
    "ClaDecExplainer",
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
