"""Looking into any torch module: layers, activations, Jacobians and maps."""

from ._aggregators import AGGREGATORS, aggregate, check_aggregator
from ._buffer import activation_buffer, root_mean_square
from ._linear_map import LinearMap
from ._maps import (
    SALIENCIES,
    NotFiniteMapError,
    check_grad_cam,
    layer_maps,
    samples_from,
    unit_maps,
)
from ._points import (
    CHANNELS_FIRST,
    CHANNELS_LAST,
    Point,
    entering,
    find_points,
    fitting_rows,
    watching,
)
from ._recording import ancestors, depends, record
from ._run import batch_axis, parse_path, pick, run_through, run_to, unknown_layer

__all__ = [
    "AGGREGATORS",
    "CHANNELS_FIRST",
    "CHANNELS_LAST",
    "LinearMap",
    "NotFiniteMapError",
    "Point",
    "SALIENCIES",
    "activation_buffer",
    "aggregate",
    "ancestors",
    "batch_axis",
    "check_aggregator",
    "check_grad_cam",
    "depends",
    "entering",
    "find_points",
    "fitting_rows",
    "layer_maps",
    "parse_path",
    "pick",
    "record",
    "root_mean_square",
    "run_through",
    "run_to",
    "samples_from",
    "unit_maps",
    "unknown_layer",
    "watching",
]
