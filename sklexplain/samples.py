"""What one sample is: a row of a table, a series or an image, and the names of its entries.

Decided once, in ``fit``, by the parameter ``channel_axis`` or by how the network's own layers take
the samples; names, masks, displays, decoders and the report all ask the same `Sample`.
"""

import numbers
from dataclasses import dataclass, replace

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .utils import check_choice

KINDS = ("table", "series", "image")


@dataclass(frozen=True)
class Sample:
    """What one sample is.

    Attributes
    ----------
    shape : tuple of int
        Of its array.
    kind : {"table", "series", "image"}
        A row of a table, a series or an image.
    channel_axis : int or None
        The axis that holds channels; None if there is none, or nothing tells.
    columns : tuple of str or None
        Names of a table's columns, if it has any.
    """

    shape: tuple
    kind: str
    channel_axis: int | None = None
    columns: tuple | None = None

    @classmethod
    def of(cls, explainer, probe):
        """Decide what the samples of an explainer are.

        Parameters
        ----------
        explainer : BaseExplainer
            In ``fit``, when X has been validated.
        probe : Probe
            Of its network.

        Returns
        -------
        sample : Sample

        Raises
        ------
        TypeError, ValueError
            If the parameter ``channel_axis`` is no axis of a sample.
        """
        shape = explainer.input_shape_
        given = getattr(explainer, "channel_axis", "auto")
        axis = check_channel_axis(given, len(shape))
        axis = probe.channel_axis if axis == "auto" else axis
        kind = "series" if len(shape) == 1 and probe.is_series else _kind_of_shape(shape, axis)
        columns = getattr(explainer, "feature_names_in_", None)
        return cls(shape, kind, axis, None if columns is None else tuple(columns))

    def seen_as(self, kind=None, channel_axis="auto"):
        """Return the sample as somebody wants to see it.

        Parameters
        ----------
        kind : {"table", "series", "image"} or None, default=None
            None: what follows from the axes.
        channel_axis : {"auto"}, int or None, default="auto"
            ``"auto"``: as it is.

        Returns
        -------
        sample : Sample

        Raises
        ------
        TypeError, ValueError
            If the kind does not fit to the shape, or there is no such axis.
        """
        axis = check_channel_axis(channel_axis, len(self.shape))
        axis = self.channel_axis if axis == "auto" else axis
        if kind is None and axis == self.channel_axis:
            kind = self.kind
        return replace(self, kind=resolve_kind(kind, self.shape, axis), channel_axis=axis)

    def names(self):
        """Name the entries of one flattened sample.

        Returns
        -------
        names : ndarray of str
            The column names, ``x0``, … without them; ``ch0_t12`` for series, ``ch0_y3_x5`` for
            images, ``y3_x5`` and ``f0_1_2`` without channels.
        """
        shape, axis = self.shape, self.channel_axis
        if len(shape) == 1:
            names = self.columns or [f"x{i}" for i in range(shape[0])]
            return np.asarray(names, dtype=object)
        letters = {1: "t", 2: "yx"}.get(len(shape) - (axis is not None))
        if letters is None or (axis is None and len(shape) != 2):
            names = ["f" + "_".join(map(str, index)) for index in np.ndindex(*shape)]
            return np.asarray(names, dtype=object)
        names = []
        for index in np.ndindex(*shape):
            rest = [i for place, i in enumerate(index) if place != axis]
            parts = [] if axis is None else [f"ch{index[axis]}"]
            parts += [f"{letter}{i}" for letter, i in zip(letters, rest, strict=True)]
            names.append("_".join(parts))
        return np.asarray(names, dtype=object)


def check_channel_axis(channel_axis, n_axes):
    """Validate the parameter ``channel_axis``.

    Parameters
    ----------
    channel_axis : {"auto"}, int or None
        What was set; negative axes count from the end.
    n_axes : int
        Number of axes of one sample.

    Returns
    -------
    channel_axis : {"auto"}, int or None
        Counted from 0.

    Raises
    ------
    TypeError
        If it is something else.
    ValueError
        If samples have no such axis.
    """
    if channel_axis is None:
        return None
    if isinstance(channel_axis, str):
        check_choice("channel_axis", channel_axis, ["auto"])
        return "auto"
    if not isinstance(channel_axis, numbers.Integral) or isinstance(channel_axis, bool):
        raise TypeError(
            f"channel_axis={channel_axis!r} must be 'auto' (as the network takes it), None (no "
            "channels) or the number of an axis of one sample."
        )
    if n_axes == 1 or not -n_axes <= channel_axis < n_axes:
        raise ValueError(
            f"channel_axis={channel_axis} is no axis of channels: samples have {n_axes} "
            f"{'axis' if n_axes == 1 else 'axes'}, without that of samples. Use 'auto' or None."
        )
    return int(channel_axis) % n_axes


def _kind_of_shape(shape, channel_axis):
    """Return what samples are whose axes tell everything."""
    if len(shape) == 1:
        return "table"
    # Without an axis of channels, two axes are those of a picture.
    return "series" if len(shape) == 2 and channel_axis is not None else "image"


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
    if len(shape) > 3:
        raise ValueError(f"samples of shape {shape} cannot be drawn: they have over 3 axes.")
    if kind is None:
        return _kind_of_shape(shape, channel_axis)
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


def sample_of(explainer):
    """Return what the samples of a fitted explainer are.

    Parameters
    ----------
    explainer : BaseExplainer
        Fitted.

    Returns
    -------
    sample : Sample
    """
    check_is_fitted(explainer)
    return explainer._sample
