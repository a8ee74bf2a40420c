"""Checks of a skorch net after training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from skorch import NeuralNet

# The product of two weights that are larger is no number of float32.
_LARGEST = 1e18
# Weights of terms of a loss that are larger were hardly meant.
_LARGE = 1e3


@contextmanager
def diverging(net: NeuralNet, params: Any, *names: str, scale: bool = True) -> Iterator[None]:
    """While a net is trained in it: raise an error that says what to change if that diverges.

    Parameters
    ----------
    net : skorch.NeuralNet
        Trained in the context.
    params : object
        Has the parameter ``lr``, and those in `names`.
    *names : str
        Parameters that make training diverge when they are large.
    scale : bool, default=True
        Whether to advise to scale X.

    Yields
    ------
    None

    Raises
    ------
    ValueError
        If there are weights that are not finite, or are too large to be multiplied.
    RuntimeError
        What is raised otherwise is passed on.
    """
    try:
        yield
    except RuntimeError as error:
        if "without overflow" not in str(error):  # of the optimizer: of a step or of weight_decay
            raise
        raise ValueError(
            f"Training diverged: {error}. {_advice(net, params, names, scale)}"
        ) from error
    for weights in net.module_.parameters():
        if weights.is_floating_point() and not (weights.abs() < _LARGEST).all():
            raise ValueError(
                f"Training diverged: after {len(net.history)} epochs there are weights that are "
                f"not finite, or nearly so. {_advice(net, params, names, scale)}"
            )


def _advice(net: NeuralNet, params: Any, names: Iterable[str], scale: bool) -> str:
    values = {name: getattr(params, name) for name in names}
    for _, callback in net.callbacks_:  # a ScoreConstraint has weights of its own
        values |= {k: v for k, v in vars(callback).items() if k.startswith("lambda_")}
    large = {name: value for name, value in values.items() if value > _LARGE}
    lower = " and ".join(f"{name}={value}" for name, value in {"lr": params.lr, **large}.items())
    return f"Scale X (StandardScaler), or lower {lower}." if scale else f"Lower {lower}."


def still_improves(net: NeuralNet) -> bool:
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
