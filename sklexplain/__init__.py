"""Explanations of learned representations as scikit-learn estimators."""

from .attribution import LabelFreeAttributor
from .examples import DKNNImportance, SimplExImportance

__version__ = "0.1.0"

__all__ = ["DKNNImportance", "LabelFreeAttributor", "SimplExImportance", "__version__"]
