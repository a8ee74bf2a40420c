"""Explanations by a few concepts."""

from ._srae import SRAEExplainer

__all__ = ["SRAEExplainer"]
