"""What a sample is (a row of a table, a series or an image) and how it is drawn in plain."""

import numpy as np

from ..representation import checked_texts, unwrap, vectoriser_of
from ..utils import as_array_like, is_missing, visible_text
from ._style import (
    channel_palette,
    ink,
)


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
    style = {"linewidth": 1.2} | kwargs
    for channel, color in zip(sample, channel_colors(len(sample)), strict=True):
        ax.plot(channel, **({"color": color} | style))


def label_time(ax, names, n_times, *, most=6):
    """Name the axis of time: by the names of some steps, or by their numbers.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where a series was drawn.
    names : array-like of str or None
        A name a step.
    n_times : int
        How many there are.
    most : int, default=6
        How many of them are written at most.

    Raises
    ------
    ValueError
        If there are more or fewer names.
    """
    ax.set_xlabel("time step")
    if names is None:
        return
    names = [visible_text(name) for name in names]
    if len(names) != n_times:
        raise ValueError(f"{len(names)} time_names for {n_times} time steps.")
    n_ticks = min(most, 6 if max(map(len, names)) <= 6 else 4)
    places = np.unique(np.linspace(0, n_times - 1, min(n_ticks, n_times)).round().astype(int))
    ax.set_xticks(places, [shortened(names[i], 14) for i in places], parse_math=False)


def channel_labels(names, n_channels):
    """Return the names of channels, numbers if there are none.

    Parameters
    ----------
    names : array-like of str or None
        The names.
    n_channels : int
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
        return [f"channel {i}" for i in range(n_channels)]
    names = [visible_text(name) for name in names]
    if len(names) != n_channels:
        raise ValueError(f"{len(names)} channel_names for {n_channels} channels.")
    return names


def channel_colors(n_channels):
    """Return a colour for each channel: the first seven can be told apart by everyone."""
    if n_channels == 1:
        return [ink()]
    palette = channel_palette()
    return [palette[i % len(palette)] for i in range(n_channels)]


def shortened(text, length=28):
    """Return a text with nothing invisible in it, cut to a length if it is longer."""
    text = visible_text(text)
    return text if len(text) <= length else text[: length - 1] + "…"


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


def column_names(names, n_columns, parameter="feature_names"):
    """Return column names as strings, ``x0``, … if there are none.

    Parameters
    ----------
    names : array-like or None
        The names.
    n_columns : int
        How many there must be.
    parameter : str, default="feature_names"
        What they are a value of, for the error message.

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
    names = [visible_text(name) for name in names]
    if len(names) != n_columns:
        raise ValueError(f"{len(names)} {parameter} for {n_columns} columns.")
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
        return visible_text(value)
    if isinstance(value, (int, np.integer)):
        return f"{value:d}"
    if isinstance(value, (float, np.floating)):
        return "missing" if np.isnan(value) else f"{value:.4g}"
    if is_missing(value):
        return "missing"
    return visible_text(value).removesuffix(" 00:00:00")  # a date without a time


def numbers_of(column):
    """Return the numbers of a column, as it is drawn or summed up.

    Parameters
    ----------
    column : array-like of shape (n,)
        Cells: numbers, what is missing, or anything else.

    Returns
    -------
    numbers : ndarray of float64 or None
        NaN where one is missing; None if some cells hold neither.
    """
    cells = np.asarray(column)
    if cells.dtype.kind == "O":
        cells = [np.nan if is_missing(cell) else cell for cell in cells]
        if any(isinstance(cell, str) for cell in cells):  # digits that name something
            return None
    elif cells.dtype.kind not in "biuf":
        return None
    try:
        return np.array(cells, dtype=np.float64)
    except (TypeError, ValueError):
        return None


def as_drawn(estimator, X):
    """Return samples as they are drawn: of texts, the numbers that a vectoriser makes of words.

    Parameters
    ----------
    estimator : BaseExplainer
        Fitted.
    X : array-like or DataFrame of shape (n, ...)
        Samples, as the estimator takes them.

    Returns
    -------
    X : array-like or DataFrame of shape (n, ...)
        As given, unless the estimator explains texts.
    """
    if not getattr(estimator, "_texts", False) or np.ndim(X) != 1:
        return X
    vectoriser = vectoriser_of(unwrap(estimator.estimator_))
    numbers = vectoriser.transform(checked_texts(X, type(estimator).__name__))
    return numbers.toarray() if hasattr(numbers, "toarray") else np.asarray(numbers)


def row_at(X, index):
    """Return samples of which there is only one, the one at a position.

    Parameters
    ----------
    X : array-like or DataFrame of shape (n, ...)
        Samples.
    index : int
        Its position; negative ones count from the end.

    Returns
    -------
    one : array-like or DataFrame of shape (1, ...)
    """
    X = as_array_like(X)
    return samples_at(X, [range(len(X))[index]])


def samples_at(X, positions):
    """Return some samples in the container that they are in.

    Parameters
    ----------
    X : array-like or DataFrame of shape (n, ...)
        Samples.
    positions : sequence of int
        Which ones, none of them negative.

    Returns
    -------
    some : array-like or DataFrame of shape (n_positions, ...)
    """
    if hasattr(X, "iloc"):
        return X.iloc[positions]
    return [X[i] for i in positions] if isinstance(X, (list, tuple)) else X[positions]


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
        return _cells(X)[positions]
    return np.asarray(X)[positions]


def _cells(frame):
    kinds = set(frame.dtypes)
    if len(kinds) == 1 or not any(kind.is_temporal() for kind in kinds):
        return frame.to_numpy()
    # Dates have no dtype in common with numbers, and beside text nanoseconds would become numbers.
    cells = np.empty(frame.shape, dtype=object)
    for i, name in enumerate(frame.columns):
        cells[:, i] = frame[name].to_list()
    return cells
