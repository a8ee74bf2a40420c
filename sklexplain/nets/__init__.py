"""Networks that learn representations, as scikit-learn estimators and as torch modules."""

from ..scores import ScoreConstraint
from ..training import CheckpointHistory
from ._autoencoder import Autoencoder
from ._contrastive import ContrastiveEncoder
from ._contrastive_module import ContrastiveModule, build_contrastive
from ._modules import (
    AutoencoderModule,
    Conv1dAutoencoder,
    Conv2dAutoencoder,
    LSTMAutoencoder,
    MLPAutoencoder,
    build_autoencoder,
)
from ._variational import VariationalAutoencoder
from ._variational_module import VariationalModule, build_variational

__all__ = [
    "Autoencoder",
    "AutoencoderModule",
    "build_autoencoder",
    "build_contrastive",
    "build_variational",
    "CheckpointHistory",
    "ContrastiveEncoder",
    "ContrastiveModule",
    "Conv1dAutoencoder",
    "Conv2dAutoencoder",
    "LSTMAutoencoder",
    "MLPAutoencoder",
    "ScoreConstraint",
    "VariationalAutoencoder",
    "VariationalModule",
]
