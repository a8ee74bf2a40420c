"""Checks for explainers of one's own."""

from .estimator_checks import TOPICS, nd_checks, parametrize_nd_checks

__all__ = ["TOPICS", "nd_checks", "parametrize_nd_checks"]
