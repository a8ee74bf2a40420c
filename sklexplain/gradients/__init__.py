"""Per-sample gradients of a loss, their inner products, curvature and its solvers."""

from ._curvature import GaussNewtonRows, curvature_products
from ._per_sample import (
    double_terms,
    flatten_terms,
    gram_matrix,
    join_terms,
    per_sample_gradients,
    plan_gradients,
    project_terms,
    squared_norms,
    terms_bytes,
)
from ._solvers import DenseSolver, IterativeSolver, JacobianSolver, RowsSolver

__all__ = [
    "DenseSolver",
    "GaussNewtonRows",
    "IterativeSolver",
    "JacobianSolver",
    "RowsSolver",
    "curvature_products",
    "double_terms",
    "flatten_terms",
    "gram_matrix",
    "join_terms",
    "per_sample_gradients",
    "plan_gradients",
    "project_terms",
    "squared_norms",
    "terms_bytes",
]
