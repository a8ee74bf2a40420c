"""Checks for your own explainers."""

from .estimator_checks import TOPICS, nd_checks, parametrize_nd_checks

__all__ = ["TOPICS", "nd_checks", "parametrize_nd_checks"]
