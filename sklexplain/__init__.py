"""Explanations of learned representations as scikit-learn estimators."""

from .attribution import LabelFreeAttributor
from .examples import DKNNImportance

__version__ = "0.1.0"

__all__ = ["DKNNImportance", "LabelFreeAttributor", "__version__"]
