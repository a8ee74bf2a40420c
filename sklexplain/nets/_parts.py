"""What the networks here have in common."""

from torch import nn

from ..utils import n_shape

ACTIVATIONS = {
    "relu": nn.ReLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def series_shape(module, input_shape, layout):
    """Complete the shape of one series.

    Parameters
    ----------
    module : str
        Name of the autoencoder, for the error message.
    input_shape : tuple of int
        Of one sample.
    layout : str
        The shape that the autoencoder takes, for the error message.

    Returns
    -------
    shape : tuple of int
        With an axis of channels, of length 1 if `input_shape` has none.

    Raises
    ------
    ValueError
        If samples have more than two axes.
    """
    if len(input_shape) == 2:
        return tuple(input_shape)
    if len(input_shape) == 1:
        return (1, *input_shape) if module == "conv1d" else (*input_shape, 1)
    raise ValueError(
        f"module={module!r} takes series of shape (n, time) or {layout}, but X has shape "
        f"{n_shape(input_shape)}: for other shapes use module='mlp' or a class of your own."
    )
