"""Helpers shared by the rooms, and checks for explainers of one's own."""

from ._randomization import randomized_layers

__all__ = ["randomized_layers"]
