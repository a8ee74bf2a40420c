"""Helpers for all parts of the library: validation, warnings, seeds."""

from ._blocks import in_blocks, spread_places
from ._cells import as_numbers, check_columns_numeric
from ._checks import (
    check_comparable,
    check_encode,
    check_labels,
    check_numbers,
    check_sortable,
    encoded,
)
from ._constraints import (
    ARRAY,
    AXIS,
    CALLABLE,
    FLAG,
    JOBS,
    MAPPING,
    NONE,
    PATH,
    SEED,
    VERBOSE,
    Choice,
    Device,
    Entries,
    Integer,
    Is,
    Number,
    Numbers,
    Text,
    call_given,
    check_param,
    check_params,
    is_sequence,
    shown,
    validated,
)
from ._containers import as_array, as_array_like, is_table
from ._dask import (
    A_NUMBER,
    by_blocks,
    dask_kind,
    dask_text,
    drawn_rows,
    explained_by_blocks,
    methods_by_blocks,
    one_block_a_sample,
    sent,
    stand_in,
    streamed_mean,
    tasks_of_blocks,
)
from ._defaults import (
    as_the_caller,
    float32_by_default,
    in_plain_modes,
    normal,
    on_cpu_by_default,
    uniform,
)
from ._docstrings import documented
from ._extras import EXTRAS_OF, missing_extra
from ._files import replacing, write_file
from ._labels import by_columns, column_labels
from ._messages import did_you_mean, n_shape, numpy_dtype_of, warn
from ._missing import first_missing, is_missing, known_mean, known_range
from ._owning import FittedParams, lent, own_arrays, own_value
from ._panel import as_numpy3d
from ._precision import (
    cast_checked,
    check_half,
    eps_of_products,
    largest_size,
    rounding_of,
    too_large,
)
from ._progress import progress
from ._random import GENERATOR_LOCK, draw_seed, kept_rows, seeded
from ._registry import Registration
from ._rows import Rows, Written, read_by_rows, row_bytes
from ._saving import SavedAsArrays, SavedWeights
from ._scores import harmonic_mean
from ._texts import visible_text
from ._thread_modes import ScopedMode, ThreadModes
from ._typing import (
    ArrayOrFrame,
    ArrayOrSparse,
    Axes,
    Baseline,
    BatchSize,
    ChannelAxis,
    DeviceLike,
    EstimatorLike,
    Function,
    Groups,
    Integers,
    Kind,
    ModelLike,
    Names,
    Params,
    PathLike,
    RandomState,
    ResponseMethod,
    SplitterLike,
)
from ._validation import (
    check_choice,
    check_finite,
    check_positive_int,
    not_finite_error,
    validate_X,
)

__all__ = [
    "ARRAY",
    "AXIS",
    "A_NUMBER",
    "CALLABLE",
    "EXTRAS_OF",
    "FLAG",
    "GENERATOR_LOCK",
    "JOBS",
    "MAPPING",
    "NONE",
    "PATH",
    "SEED",
    "VERBOSE",
    "ArrayOrFrame",
    "ArrayOrSparse",
    "Axes",
    "Baseline",
    "BatchSize",
    "ChannelAxis",
    "Choice",
    "Device",
    "DeviceLike",
    "Entries",
    "EstimatorLike",
    "FittedParams",
    "Function",
    "Groups",
    "Integer",
    "Integers",
    "Is",
    "Kind",
    "ModelLike",
    "Names",
    "Number",
    "Numbers",
    "Params",
    "PathLike",
    "RandomState",
    "Registration",
    "ResponseMethod",
    "Rows",
    "SavedAsArrays",
    "SavedWeights",
    "ScopedMode",
    "SplitterLike",
    "Text",
    "ThreadModes",
    "Written",
    "as_array",
    "as_array_like",
    "as_numbers",
    "as_numpy3d",
    "as_the_caller",
    "by_blocks",
    "by_columns",
    "call_given",
    "cast_checked",
    "check_choice",
    "check_columns_numeric",
    "check_comparable",
    "check_encode",
    "check_finite",
    "check_half",
    "check_labels",
    "check_numbers",
    "check_param",
    "check_params",
    "check_positive_int",
    "check_sortable",
    "column_labels",
    "dask_kind",
    "dask_text",
    "did_you_mean",
    "documented",
    "draw_seed",
    "drawn_rows",
    "encoded",
    "eps_of_products",
    "explained_by_blocks",
    "first_missing",
    "float32_by_default",
    "harmonic_mean",
    "in_blocks",
    "in_plain_modes",
    "is_missing",
    "is_sequence",
    "is_table",
    "kept_rows",
    "known_mean",
    "known_range",
    "largest_size",
    "lent",
    "methods_by_blocks",
    "missing_extra",
    "n_shape",
    "normal",
    "not_finite_error",
    "numpy_dtype_of",
    "on_cpu_by_default",
    "one_block_a_sample",
    "own_arrays",
    "own_value",
    "progress",
    "read_by_rows",
    "replacing",
    "rounding_of",
    "row_bytes",
    "seeded",
    "sent",
    "shown",
    "spread_places",
    "stand_in",
    "streamed_mean",
    "tasks_of_blocks",
    "too_large",
    "uniform",
    "validate_X",
    "validated",
    "visible_text",
    "warn",
    "write_file",
]


def __getattr__(name):
    """Keep a name importable from where it used to be, without importing upward before that."""
    if name == "randomized_layers":
        import warnings

        from ..training import randomized_layers

        warnings.warn(
            "sklexplain.utils.randomized_layers has moved: import it from sklexplain.training.",
            FutureWarning,
            stacklevel=2,
        )
        return randomized_layers
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
