"""What one sample is: a row of a table, a series or an image, and the names of its entries."""

import numpy as np
from sklearn.utils.validation import check_is_fitted
from torch import nn

from .representation import torch_modules
from .utils import check_choice


def sample_feature_names(explainer, channel_axis=None):
    """Name the entries of one flattened sample.

    Parameters
    ----------
    explainer : BaseExplainer
        Fitted, for its shape and column names.
    channel_axis : int or None, default=None
        Axis of a sample's array that holds channels.

    Returns
    -------
    names : ndarray of str
        The column names, ``x0``, … without them; ``ch0_t12`` for series, ``ch0_y3_x5`` for images,
        ``f0_12`` where nothing tells which axis is which.
    """
    shape = explainer.input_shape_
    if len(shape) == 1:
        names = getattr(explainer, "feature_names_in_", [f"x{i}" for i in range(shape[0])])
        return np.asarray(names, dtype=object)
    letters = {2: "t", 3: "yx"}.get(len(shape))
    if channel_axis is None or letters is None:
        names = ["f" + "_".join(map(str, index)) for index in np.ndindex(*shape)]
        return np.asarray(names, dtype=object)
    names = []
    for index in np.ndindex(*shape):
        rest = [i for axis, i in enumerate(index) if axis != channel_axis]
        parts = [f"{letter}{i}" for letter, i in zip(letters, rest, strict=True)]
        names.append("_".join([f"ch{index[channel_axis]}", *parts]))
    return np.asarray(names, dtype=object)


KINDS = ("table", "series", "image")


_SERIES_MODULES = (nn.Conv1d, nn.RNNBase)


def resolve_kind(kind, shape, channel_axis):
    """Return "table", "series" or "image" for a sample's shape.

    Parameters
    ----------
    kind : {"table", "series", "image"} or None
        What was asked for.
    shape : tuple of int
        Shape of one sample.
    channel_axis : int or None
        The sample's axis that holds channels.

    Returns
    -------
    kind : str

    Raises
    ------
    ValueError
        If the kind is unknown or does not fit to the shape.
    """
    if kind is None:
        if len(shape) == 1:
            return "table"
        if len(shape) > 3:
            raise ValueError(f"samples of shape {shape} cannot be drawn: they have over 3 axes.")
        return "series" if len(shape) == 2 and channel_axis is not None else "image"
    check_choice("kind", kind, KINDS)
    axes = {"table": (1,), "series": (1, 2), "image": (2, 3)}[kind]
    if len(shape) not in axes:
        raise ValueError(
            f"kind={kind!r} does not fit to a sample of shape {shape}, which has {len(shape)} axes."
        )
    if kind == "series" and len(shape) == 2 and channel_axis is None:
        raise ValueError(
            f"kind='series' with samples of shape {shape}: give channel_axis=0 if it is "
            "(channels, time), channel_axis=1 if it is (time, channels)."
        )
    return kind


def kind_of_explainer(explainer):
    """Return kind and channel axis of an explainer's samples, as far as its network tells.

    Parameters
    ----------
    explainer : BaseExplainer
        Fitted.

    Returns
    -------
    kind : {"table", "series", "image"} or None
        "series" for samples with one axis if there are convolutions over time or recurrent layers.
    channel_axis : int or None
    """
    check_is_fitted(explainer)
    shape = explainer.input_shape_
    channel_axis = explainer._representation.channel_axis(len(shape) + 1)
    if len(shape) == 1:
        modules = (m for net in torch_modules(explainer.estimator_) for m in net.modules())
        is_series = any(isinstance(module, _SERIES_MODULES) for module in modules)
        return ("series" if is_series else "table"), None
    return None, channel_axis


_SERIES = (nn.Conv1d, nn.RNNBase)


def sample_kind(representation, shape):
    """Tell what a sample is from its shape and the layers of the network.

    Parameters
    ----------
    representation : Representation
        Of the network.
    shape : tuple of int
        Of one sample.

    Returns
    -------
    kind : {"table", "series", "image"}
    channel_axis : int or None
        The sample's axis of channels.
    """
    modules = list(representation.chain.modules())
    if len(shape) == 1:
        series = any(isinstance(module, _SERIES) for module in modules)
        return ("series" if series else "table"), None
    if len(shape) == 2:
        if any(isinstance(module, nn.Conv2d) for module in modules):
            return "image", None
        return "series", representation.channel_axis(3) or 0
    return ("image", 0) if len(shape) == 3 else ("table", None)
