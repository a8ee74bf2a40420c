"""The engine that makes maps in features: methods, paths, designs, baselines, groups."""

from ._baselines import BASELINES, data_mean, given_baseline, named_baseline, own_baselines
from ._deep_lift import ELEMENTWISE, MIXING, RECURRENT
from ._groups import resolve_groups, time_segments
from ._methods import GRADIENT_METHODS, METHODS, PERTURBATION_METHODS, Engine, checked_params
from ._paths import integrated_gradients_path, path_gradients
from ._units import checked_units, completeness_sums, sum_by

__all__ = [
    "BASELINES",
    "ELEMENTWISE",
    "Engine",
    "GRADIENT_METHODS",
    "METHODS",
    "MIXING",
    "PERTURBATION_METHODS",
    "RECURRENT",
    "checked_params",
    "checked_units",
    "completeness_sums",
    "data_mean",
    "given_baseline",
    "integrated_gradients_path",
    "named_baseline",
    "own_baselines",
    "path_gradients",
    "resolve_groups",
    "sum_by",
    "time_segments",
]
