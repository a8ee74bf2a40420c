"""Looking into any torch module: layers, activations, Jacobians and maps."""

from ._aggregators import AGGREGATORS, aggregate
from ._buffer import activation_buffer, activation_moments
from ._constant import ConstantSum
from ._copies import copied
from ._linear_map import LinearMap
from ._maps import (
    SALIENCIES,
    NotFiniteMapError,
    cancels,
    check_grad_cam,
    layer_maps,
    samples_from,
    unit_maps,
)
from ._memory import fits, fitting_rows, most_rows
from ._nested import first_tensor, mapped, parts_of, path_of, tensor_paths
from ._points import CHANNELS_FIRST, CHANNELS_LAST, Point, find_points
from ._recording import ancestors, depends, gradient_edge, record
from ._rows import N_TRIED, check_order, check_rows, moves_rows
from ._run import (
    batch_axis,
    known_layer,
    parse_path,
    pick,
    run_through,
    run_to,
    unknown_layer,
)
from ._sizes import aggregate_with_size, rounding_of
from ._trial import tried_points
from ._watching import entering, watching
from ._wrappers import (
    can_be_passed_over,
    hidden_layers,
    named_layers,
    plain_name,
    uncompiled,
    unwrapped,
    wrapped,
)

__all__ = [
    "AGGREGATORS",
    "CHANNELS_FIRST",
    "CHANNELS_LAST",
    "ConstantSum",
    "LinearMap",
    "N_TRIED",
    "NotFiniteMapError",
    "Point",
    "SALIENCIES",
    "activation_buffer",
    "activation_moments",
    "aggregate",
    "aggregate_with_size",
    "ancestors",
    "batch_axis",
    "can_be_passed_over",
    "cancels",
    "check_grad_cam",
    "check_order",
    "check_rows",
    "copied",
    "depends",
    "entering",
    "find_points",
    "gradient_edge",
    "first_tensor",
    "fits",
    "fitting_rows",
    "hidden_layers",
    "known_layer",
    "layer_maps",
    "mapped",
    "most_rows",
    "moves_rows",
    "named_layers",
    "parse_path",
    "parts_of",
    "path_of",
    "pick",
    "plain_name",
    "record",
    "run_through",
    "rounding_of",
    "run_to",
    "samples_from",
    "tensor_paths",
    "tried_points",
    "uncompiled",
    "unit_maps",
    "unknown_layer",
    "unwrapped",
    "watching",
    "wrapped",
]
