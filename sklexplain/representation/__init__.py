"""What is explained: an estimator and a layer, resolved to one function of tensors."""

from ._convert import convert
from ._representation import Representation
from ._resolve import fitted_estimator, is_fitted, shared_or_cloned, takes_raw_columns

__all__ = [
    "Representation",
    "convert",
    "fitted_estimator",
    "is_fitted",
    "shared_or_cloned",
    "takes_raw_columns",
]
