"""The engine of attributions: methods, paths, designs, baselines, groups of features."""

from ._baselines import (
    BASELINES,
    data_mean,
    fitted_baseline,
    mean_sample,
    own_baselines,
    raw_baselines,
)
from ._basis import BASES, Basis, resolved_basis
from ._engine import AttributionEngine
from ._falls import fall_curve, fall_ratio
from ._groups import resolve_groups, time_segments
from ._idle_features import latent_shift
from ._latent_shift import latent_shift_curve
from ._method_checks import check_gradients, check_operations, checked_params
from ._methods import (
    GRADIENT_METHODS,
    METHODS,
    PERTURBATION_METHODS,
    RECORDS,
    register_method,
)
from ._records import Method, Setup
from ._spread import Estimates, intervals, warn_of_close
from ._units import Features, checked_units
from ._unreached import warn_of_unreached

__all__ = [
    "AttributionEngine",
    "BASELINES",
    "BASES",
    "Basis",
    "check_gradients",
    "check_operations",
    "checked_params",
    "checked_units",
    "data_mean",
    "Estimates",
    "fall_curve",
    "fall_ratio",
    "Features",
    "fitted_baseline",
    "GRADIENT_METHODS",
    "intervals",
    "latent_shift",
    "latent_shift_curve",
    "Method",
    "mean_sample",
    "METHODS",
    "PERTURBATION_METHODS",
    "own_baselines",
    "raw_baselines",
    "RECORDS",
    "register_method",
    "resolve_groups",
    "resolved_basis",
    "Setup",
    "time_segments",
    "warn_of_close",
    "warn_of_unreached",
]
