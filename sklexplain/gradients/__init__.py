"""Per-sample gradients of a loss, their inner products, curvature and its solvers."""

from ._curvature import GaussNewtonRows, bends_back, curvature_products
from ._labelled import Labelled, samples_of, targets_of
from ._nystrom import Nystrom, nystrom
from ._per_sample import per_sample_gradients, requiring_gradients
from ._plans import GradientPlan, register_gradient_rule
from ._products import FactorProducts, PassProducts, joined_products
from ._second import asymmetry
from ._sets import (
    double_terms,
    flatten_terms,
    gram_matrix,
    join_terms,
    joins_within,
    multiply_terms,
    project_terms,
    scale_terms,
    squared_norms,
    terms_bytes,
)
from ._solvers import DenseSolver, IterativeSolver, JacobianSolver, RowsSolver, Shift
from ._trial import Trial, plan_gradients

__all__ = [
    "DenseSolver",
    "FactorProducts",
    "GaussNewtonRows",
    "GradientPlan",
    "IterativeSolver",
    "JacobianSolver",
    "Labelled",
    "Nystrom",
    "PassProducts",
    "RowsSolver",
    "Shift",
    "Trial",
    "asymmetry",
    "bends_back",
    "curvature_products",
    "double_terms",
    "flatten_terms",
    "gram_matrix",
    "join_terms",
    "joins_within",
    "joined_products",
    "multiply_terms",
    "nystrom",
    "per_sample_gradients",
    "plan_gradients",
    "project_terms",
    "register_gradient_rule",
    "requiring_gradients",
    "samples_of",
    "scale_terms",
    "squared_norms",
    "targets_of",
    "terms_bytes",
]
