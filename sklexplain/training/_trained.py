"""Checks of a skorch net after training."""

import torch


def check_finite_weights(net, advice):
    """Raise if training has diverged.

    Parameters
    ----------
    net : skorch.NeuralNet
        After training.
    advice : str
        What to change; ends the message.

    Raises
    ------
    ValueError
        If there are weights that are not finite.
    """
    for weights in net.module_.parameters():
        if weights.is_floating_point() and not torch.isfinite(weights).all():
            raise ValueError(
                f"Training diverged: after {len(net.history)} epochs there are weights that are "
                f"not finite. {advice}"
            )


def still_improves(net):
    """Whether training ended at its last epoch, before early stopping (if any) could end it.

    Parameters
    ----------
    net : skorch.NeuralNet
        After training.

    Returns
    -------
    improves : bool
    """
    stopping = dict(net.callbacks_).get("early_stopping")
    if stopping is None or len(net.history) < net.max_epochs:
        return False
    return stopping.misses_ < stopping.patience
