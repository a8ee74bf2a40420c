"""What may be set of a skorch net."""

import inspect

from skorch import NeuralNet

from ..utils import check_choice


def check_net_params(extra, owner, reserved):
    """Raise where a parameter of the net is unknown, or is set elsewhere.

    Parameters
    ----------
    extra : dict
        What was given as ``net_params``.
    owner : str
        The estimator's name.
    reserved : dict of str to (str or None)
        What may not be there, and the estimator's parameter to set instead.

    Raises
    ------
    ValueError
        Naming the parameter.
    """
    known = inspect.signature(NeuralNet).parameters
    for name in extra:
        if name in reserved:
            home = reserved[name]
            instead = "fit starts anew"
            if home is not None:
                instead = f"set {owner}({home}=...) instead"
            raise ValueError(f"net_params may not have {name!r}: {instead}.")
        if "__" not in name:  # skorch checks the others
            check_choice("A name in net_params", name, [*known][:-1])
    if isinstance(extra.get("callbacks"), str):
        raise ValueError(
            f"net_params may not have callbacks={extra['callbacks']!r}, which would turn off "
            "the recording of losses too: set validation_split=None to train without early "
            "stopping, and verbose=0 to print nothing."
        )
