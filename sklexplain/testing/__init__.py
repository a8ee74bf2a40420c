"""Checks for explainers of one's own."""

from .estimator_checks import nd_checks, parametrize_nd_checks

__all__ = ["nd_checks", "parametrize_nd_checks"]
