"""What is explained: an estimator and a layer, resolved to one function of tensors."""

from ._convert import convert, register_converter
from ._detectors import abnormality_sign, is_detector, score_methods
from ._expansion import Expansion
from ._fallback import represent
from ._few import warn_of_few_values
from ._finite import NotFiniteError, not_finite_text
from ._fitted import (
    check_columns,
    check_estimator_type,
    fitted_estimator,
    is_fitted,
    may_take_raw,
    routed_params,
    routes,
    shared_or_cloned,
    takes_raw_columns,
)
from ._heads import named
from ._modules import BlackBox, Chain, Stage, column_map, is_affine_at, layer_table
from ._offers import RESPONSE_METHODS, check_response_method, kind_of
from ._probe import Probe, add_note
from ._reconstruction import reconstructed_inputs, reconstructs, with_residuals
from ._representation import Representation
from ._resolve import named_steps, no_gradient_reason, torch_modules, unwrap
from ._skorch import first_batch, net_around, own_data, own_methods
from ._table import Table
from ._tap import LayerRecord, LayerTap
from ._text import as_texts, check_vectoriser, checked_texts, vectoriser_of

__all__ = [
    "RESPONSE_METHODS",
    "abnormality_sign",
    "add_note",
    "as_texts",
    "BlackBox",
    "Chain",
    "check_columns",
    "check_estimator_type",
    "check_vectoriser",
    "checked_texts",
    "check_response_method",
    "column_map",
    "convert",
    "Expansion",
    "first_batch",
    "fitted_estimator",
    "is_affine_at",
    "is_detector",
    "is_fitted",
    "kind_of",
    "layer_table",
    "LayerRecord",
    "LayerTap",
    "may_take_raw",
    "named",
    "named_steps",
    "net_around",
    "no_gradient_reason",
    "not_finite_text",
    "NotFiniteError",
    "own_data",
    "own_methods",
    "Probe",
    "reconstructed_inputs",
    "reconstructs",
    "register_converter",
    "represent",
    "Representation",
    "routed_params",
    "routes",
    "shared_or_cloned",
    "score_methods",
    "Stage",
    "Table",
    "takes_raw_columns",
    "torch_modules",
    "unwrap",
    "vectoriser_of",
    "warn_of_few_values",
    "with_residuals",
]
