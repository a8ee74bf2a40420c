"""Which training examples a representation likens a sample to."""

from ._agreement import saliency_correlation, similarity_rate
from ._base import BaseExampleImportance
from ._dknn import DKNNImportance
from ._influence import InfluenceImportance
from ._simplex import SimplExImportance
from ._tracin import TracInImportance

__all__ = [
    "BaseExampleImportance",
    "DKNNImportance",
    "InfluenceImportance",
    "saliency_correlation",
    "similarity_rate",
    "SimplExImportance",
    "TracInImportance",
]
