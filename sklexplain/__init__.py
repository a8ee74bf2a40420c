"""Explanations of learned representations as scikit-learn estimators."""

from .anomalies import AnomalyAttributor
from .attribution import EmbeddingAttributor, LabelFreeAttributor, RelevanceMasker
from .concepts import SparseDictionary, SRAEExplainer
from .decoding import ClaDecExplainer
from .examples import DKNNImportance, InfluenceImportance, SimplExImportance, TracInImportance
from .scores import NoiseScorer, VarianceScorer
from .surrogates import LatentSurrogate

__version__ = "0.1.0"

__all__ = [
    "AnomalyAttributor",
    "ClaDecExplainer",
    "DKNNImportance",
    "EmbeddingAttributor",
    "InfluenceImportance",
    "LabelFreeAttributor",
    "LatentSurrogate",
    "NoiseScorer",
    "RelevanceMasker",
    "SRAEExplainer",
    "SimplExImportance",
    "SparseDictionary",
    "TracInImportance",
    "VarianceScorer",
    "__version__",
]
