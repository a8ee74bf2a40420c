"""Training: skorch nets on arrays, validation splits, weights drawn anew."""

from ._array_net import ArrayNet, loss_curves, make_array_net
from ._checkpoints import CheckpointHistory, load_weights, save_weights
from ._contrastive import SAMPLE_LOSSES, ContrastiveNet, nt_xent
from ._modes import evaluating
from ._params import WIDTHS, check_net_params
from ._pretext import PretextNet, corrupt
from ._randomization import randomized_layers
from ._saved_net import arrays_of, load_arrays
from ._split import VALIDATION_SPLIT, split_validation
from ._split_net import SplitNet
from ._trained import diverging, still_improves
from ._variational import (
    VariationalNet,
    antithetic,
    kl_divergence,
    log_likelihood,
    total_correlation,
)
from ._views import AUGMENTATIONS, AUTO, STRENGTHS, Views, rows_of
from ._weights import draw_weights, undrawn

__all__ = [
    "AUGMENTATIONS",
    "AUTO",
    "ArrayNet",
    "CheckpointHistory",
    "ContrastiveNet",
    "PretextNet",
    "SAMPLE_LOSSES",
    "STRENGTHS",
    "SplitNet",
    "VALIDATION_SPLIT",
    "VariationalNet",
    "Views",
    "WIDTHS",
    "antithetic",
    "arrays_of",
    "check_net_params",
    "corrupt",
    "diverging",
    "draw_weights",
    "evaluating",
    "kl_divergence",
    "load_arrays",
    "load_weights",
    "log_likelihood",
    "loss_curves",
    "make_array_net",
    "nt_xent",
    "randomized_layers",
    "rows_of",
    "save_weights",
    "split_validation",
    "still_improves",
    "total_correlation",
    "undrawn",
]
