"""Networks that learn representations, as scikit-learn estimators and as torch modules."""

from ._autoencoder import Autoencoder
from ._checkpoints import CheckpointHistory
from ._modules import AutoencoderModule, Conv1dAutoencoder, LSTMAutoencoder, MLPAutoencoder
from ._score_constraint import ScoreConstraint

__all__ = [
    "Autoencoder",
    "AutoencoderModule",
    "CheckpointHistory",
    "Conv1dAutoencoder",
    "LSTMAutoencoder",
    "MLPAutoencoder",
    "ScoreConstraint",
]
