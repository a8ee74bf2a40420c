"""What is explained: an estimator and a layer, resolved to one function of tensors."""

from ._convert import convert
from ._fitted import (
    check_columns,
    check_estimator_type,
    fitted_estimator,
    is_fitted,
    shared_or_cloned,
    takes_raw_columns,
)
from ._representation import Representation
from ._resolve import no_gradient_reason

__all__ = [
    "Representation",
    "check_columns",
    "check_estimator_type",
    "convert",
    "fitted_estimator",
    "is_fitted",
    "no_gradient_reason",
    "shared_or_cloned",
    "takes_raw_columns",
]
