"""What a sample is (a row of a table, a series or an image) and how it is drawn in plain."""

import numpy as np

from ._style import INK


def as_channels(sample, kind, channel_axis):
    """Return a series as (channels, time), an image as (height, width[, colours]).

    Parameters
    ----------
    sample : ndarray
        One sample, or one map of its shape.
    kind : {"series", "image"}
        What it is.
    channel_axis : int or None
        The sample's axis that holds channels.

    Returns
    -------
    sample : ndarray
    """
    if kind == "series":
        return sample[None] if sample.ndim == 1 else np.moveaxis(sample, channel_axis, 0)
    if sample.ndim == 2:
        return sample
    sample = np.moveaxis(sample, 0 if channel_axis is None else channel_axis, -1)
    # Images with 1 channel are grey; what is neither grey nor RGB is shown as its mean.
    return sample if sample.shape[-1] == 3 else sample.mean(axis=-1)


def draw_series(ax, sample, **kwargs):
    """Draw the channels of a series as lines.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    sample : ndarray of shape (channels, time)
        The series.
    **kwargs : object
        For `matplotlib.axes.Axes.plot`.
    """
    style = {"color": INK, "linewidth": 1.2} | kwargs
    for channel in sample:
        ax.plot(channel, **style)


def draw_image(ax, image):
    """Draw an image in grey or colour, without ticks.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    image : ndarray of shape (height, width) or (height, width, 3)
        The image.
    """
    if image.ndim == 3:
        low, high = image.min(), image.max()
        image = (image - low) / ((high - low) or 1)  # standardised images are drawn too
    ax.imshow(image, cmap="gray", interpolation="nearest")
    ax.set(xticks=[], yticks=[])


def column_names(names, n_columns):
    """Return column names as strings, ``x0``, … if there are none.

    Parameters
    ----------
    names : array-like or None
        The names.
    n_columns : int
        How many there must be.

    Returns
    -------
    names : list of str

    Raises
    ------
    ValueError
        If there are more or fewer.
    """
    if names is None:
        return [f"x{i}" for i in range(n_columns)]
    names = [str(name) for name in names]
    if len(names) != n_columns:
        raise ValueError(f"{len(names)} feature_names for {n_columns} columns.")
    return names


def format_value(value):
    """Return a cell of a table as a short string.

    Parameters
    ----------
    value : object
        A number, a category or a missing value.

    Returns
    -------
    text : str
    """
    if isinstance(value, (bool, np.bool_, str)):
        return str(value)
    if isinstance(value, (int, np.integer)):
        return f"{value:d}"
    if isinstance(value, (float, np.floating)):
        return "missing" if np.isnan(value) else f"{value:.4g}"
    return "missing" if value is None or value != value else str(value)


def rows_of(X, positions):
    """Return rows of an array or DataFrame by position, as an ndarray.

    Parameters
    ----------
    X : array-like or DataFrame
        Samples.
    positions : int or array-like of int
        Which ones.

    Returns
    -------
    rows : ndarray
    """
    if hasattr(X, "iloc"):
        return X.iloc[positions].to_numpy()
    if hasattr(X, "columns"):  # polars
        return X.to_numpy()[positions]
    return np.asarray(X)[positions]
