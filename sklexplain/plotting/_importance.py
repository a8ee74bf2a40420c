"""Display of what matters over a whole data set."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..base import BaseExplainer
from ..explaining import warn_of_close
from ..samples import resolve_kind, sample_of
from ..utils import (
    ARRAY,
    NONE,
    Axes,
    ChannelAxis,
    Kind,
    Names,
    Text,
    as_array,
    as_array_like,
    by_columns,
    check_params,
    column_labels,
)
from ._params import (
    AXES,
    COUNT,
    KIND,
    NAMES,
    VALUES,
    as_numbers,
    check_entries,
    checked_errors,
    maps_of,
)
from ._samples import (
    as_channels,
    as_drawn,
    channel_colors,
    channel_labels,
    column_names,
    label_time,
    numbers_of,
    shortened,
)
from ._style import (
    MUTED,
    ORANGE,
    diverging_colormap,
    draw_whiskers,
    get_axes,
    ink,
    named_legend,
    plain_axes,
)

_LABEL = "attribution"
_MOST_POINTS = 400


class ImportanceDisplay:
    """What matters over a data set, and which way.

    Of a table, a point a sample: its place is the attribution of a column, its colour the column's
    value (blue the lowest, red the highest, grey a category or a missing value), so that it shows
    whether high values add or take away. Of a series or an image, the mean absolute attribution of
    every step, by channel, or of every pixel.

    Parameters
    ----------
    attributions : array-like of shape (n_samples, ...)
        Attribution of every entry of every sample.
    X : array-like or DataFrame of the same shape, or None, default=None
        The samples, in raw units: for the colours; None: all grey.
    errors : array-like of the attributions' shape or None, default=None
        Standard errors of the attributions, where these were sampled. Under the points of a column
        stands its mean attribution, and on bars of one channel, with whiskers: twice the mean
        standard error to each side, as the draws are common to all samples.
    kind : {"table", "series", "image"} or None, default=None
        What a sample is; None: as `AttributionDisplay` has it.
    channel_axis : int or None, default=None
        A sample's axis that holds channels.
    feature_names : array-like of str or None, default=None
        Column names.
    time_names, channel_names : array-like of str or None, default=None
        Names of a series' time steps and channels; None: numbers.
    label : str, default="attribution"
        What the attributions are of, written at the axis.
    n_top : int, default=12
        Number of columns to draw, those of largest mean absolute attribution.

    Attributes
    ----------
    order_ : ndarray of int
        The columns that are drawn, for tables.
    ax_ : matplotlib.axes.Axes
        Where it was drawn.
    figure_ : matplotlib.figure.Figure
        The figure.

    See Also
    --------
    AttributionDisplay : One sample.
    sklexplain.LabelFreeAttributor : What computes importance.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from sklexplain import LabelFreeAttributor
    >>> from sklexplain.datasets import make_relevant_columns
    >>> from sklexplain.plotting import ImportanceDisplay
    >>> X, _, _ = make_relevant_columns(random_state=0)
    >>> attributor = LabelFreeAttributor(PCA(n_components=2)).fit(X)
    >>> display = ImportanceDisplay.from_estimator(attributor, X)
    >>> len(display.order_)
    10
    """

    _parameter_constraints = {
        "attributions": VALUES,
        "X": [ARRAY, NONE],
        "errors": [ARRAY, NONE],
        "kind": KIND,
        "channel_axis": AXES,
        "feature_names": NAMES,
        "time_names": NAMES,
        "channel_names": NAMES,
        "label": [Text()],
        "n_top": COUNT,
    }

    def __init__(
        self,
        attributions: ArrayLike,
        X: ArrayLike | None = None,
        *,
        errors: ArrayLike | None = None,
        kind: Kind = None,
        channel_axis: int | None = None,
        feature_names: Names | None = None,
        time_names: Names | None = None,
        channel_names: Names | None = None,
        label: str = _LABEL,
        n_top: int = 12,
    ) -> None:
        self.attributions = attributions
        self.X = X
        self.errors = errors
        self.kind = kind
        self.channel_axis = channel_axis
        self.feature_names = feature_names
        self.time_names = time_names
        self.channel_names = channel_names
        self.label = label
        self.n_top = n_top

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseExplainer,
        X: ArrayLike,
        *,
        unit: int | None = None,
        kind: Kind = None,
        channel_axis: ChannelAxis = "auto",
        ax: Axes | None = None,
        **kw: Any,
    ) -> Self:
        """Compute and draw attributions of samples.

        Parameters
        ----------
        estimator : LabelFreeAttributor
            Fitted, without ``groups`` and ``basis``.
        X : array-like or DataFrame of shape (n_samples, ...)
            Samples.
        unit : int or None, default=None
            Explain this unit, a class for example; None: the whole representation.
        kind : {"table", "series", "image"} or None, default=None
            What a sample is; None: as the estimator has it.
        channel_axis : {"auto"}, int or None, default="auto"
            A sample's axis that holds channels; ``"auto"``: that of the estimator.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None for a new figure.
        **kw : object
            Other parameters of the constructor.

        Returns
        -------
        display : ImportanceDisplay

        Raises
        ------
        ValueError
            If the attributor explains groups or coefficients, or returns no maps of samples.

        Warns
        -----
        ConvergenceWarning
            If a table's attributions were sampled so little that the most important column cannot
            be told from the second (they are less than two standard errors apart).
        """
        check_entries("ImportanceDisplay", estimator)
        seen = sample_of(estimator).seen_as(kind, channel_axis)
        if unit is None and hasattr(estimator, "confidence_intervals"):
            found = estimator.confidence_intervals(X)
            maps, errors = found.attributions, found.standard_errors
            if seen.kind == "table":
                means = np.abs(maps).mean(axis=0, keepdims=True), errors.mean(axis=0, keepdims=True)
                warn_of_close(*means, "the number of samples")
            kw.setdefault("errors", errors.reshape(len(maps), *estimator.input_shape_))
        elif unit is None:
            maps = maps_of("ImportanceDisplay", estimator, X)
        else:
            maps = np.asarray(estimator.unit_attributions(X, [unit]))[:, 0]
        maps = maps.reshape(len(maps), *estimator.input_shape_)
        kw.setdefault("feature_names", getattr(estimator, "feature_names_in_", None))
        kw |= {"kind": seen.kind, "channel_axis": seen.channel_axis}
        return cls(maps, as_drawn(estimator, X), **kw).plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the samples.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        display : ImportanceDisplay
            Itself, with ``ax_`` and ``figure_``.

        Raises
        ------
        ValueError
            If shapes do not fit together.
        """
        check_params(self)
        maps = by_columns(self.attributions, column_labels(self.X), "attributions", strict=False)
        maps = as_numbers(maps, "attributions")
        if maps.ndim < 2 or len(maps) == 0:
            raise ValueError(
                f"attributions of shape {maps.shape} must have samples on the first axis, and one "
                "or more of them."
            )
        self._errors = checked_errors(self.errors, maps.shape)
        kind = resolve_kind(self.kind, maps.shape[1:], self.channel_axis)
        {"table": self._table, "series": self._series, "image": self._image}[kind](ax, maps)
        return self

    def _table(self, ax, maps):
        names = column_names(self.feature_names, maps.shape[1])
        order = np.argsort(-np.abs(maps).mean(axis=0), kind="stable")[: self.n_top]
        self.order_ = order
        self.figure_, self.ax_ = get_axes(ax, (5.0, 0.9 + 0.34 * len(order)))
        some = np.arange(len(maps))
        if len(some) > _MOST_POINTS:  # more cannot be told apart
            some = np.linspace(0, len(maps) - 1, _MOST_POINTS).astype(int)
        columns = self._columns(maps.shape)
        colormap = diverging_colormap()
        self.ax_.axvline(0, color=ink(), linewidth=0.8)
        for place, column in enumerate(order):
            values = maps[some, column]
            shares = _ranks(None if columns is None else columns[column])
            colors = MUTED if shares is None else colormap(np.nan_to_num(shares[some], nan=0.5))
            heights = place + _spread(values)
            self.ax_.scatter(values, heights, s=9, c=colors, linewidths=0, zorder=2)
        if self._errors is not None:
            means, errors = maps.mean(axis=0)[order], self._errors.mean(axis=0)[order]
            draw_whiskers(self.ax_, means, np.arange(len(order)) + 0.42, 2 * errors)
        labels = [shortened(names[i], 24) for i in order]
        self.ax_.set_yticks(np.arange(len(order)), labels, fontsize=9, parse_math=False)
        self.ax_.set_ylim(len(order) - 0.5, -0.5)
        self.ax_.set_xlabel(self.label, parse_math=False)
        plain_axes(self.ax_)
        if columns is not None:
            self._value_bar(colormap)

    def _columns(self, shape):
        """Columns of the samples, each an array."""
        if self.X is None:
            return None
        X = as_array_like(self.X)
        X = X if hasattr(X, "iloc") else as_array(X, "X")
        if X.shape != tuple(shape):
            raise ValueError(
                f"X of shape {tuple(X.shape)} does not fit to attributions of shape {shape}."
            )
        columns = [X.iloc[:, i] for i in range(shape[1])] if hasattr(X, "iloc") else list(X.T)
        return [np.asarray(column) for column in columns]

    def _value_bar(self, colormap):
        from matplotlib.cm import ScalarMappable

        bar = self.figure_.colorbar(ScalarMappable(cmap=colormap), ax=self.ax_, pad=0.02)
        bar.set_ticks([0, 1], labels=["low", "high"])
        bar.set_label("value of the column")

    def _series(self, ax, maps):
        importance = as_channels(np.abs(maps).mean(axis=0), "series", self.channel_axis)
        self.figure_, self.ax_ = get_axes(ax, (5.0, 2.6))
        names, n = channel_labels(self.channel_names, len(importance)), importance.shape[1]
        colors = [ORANGE] if len(importance) == 1 else channel_colors(len(importance))
        below, bars = np.zeros(n), []
        for values, color in zip(importance, colors, strict=True):
            style = {"bottom": below, "color": color, "width": 1.0}
            bars.append(self.ax_.bar(np.arange(n), values, **style))
            below = below + values
        if self._errors is not None and len(importance) == 1:
            errors = as_channels(self._errors.mean(axis=0), "series", self.channel_axis)[0]
            draw_whiskers(self.ax_, below, np.arange(n), 2 * errors, upright=True)
        if len(importance) > 1:
            named_legend(self.ax_, bars, [shortened(name, 20) for name in names], fontsize=8)
        self.ax_.set_ylabel(f"mean |{self.label}|", parse_math=False)
        label_time(self.ax_, self.time_names, n)
        plain_axes(self.ax_)

    def _image(self, ax, maps):
        heat = np.abs(maps).mean(axis=0)
        if heat.ndim == 3:
            heat = heat.sum(axis=self.channel_axis or 0)
        self.figure_, self.ax_ = get_axes(ax, (3.6, 3.0))
        image = self.ax_.imshow(heat, cmap="cividis", vmin=0, interpolation="nearest")
        self.ax_.set(xticks=[], yticks=[])
        self.figure_.colorbar(image, ax=self.ax_, label=f"mean |{self.label}|", pad=0.02)


def _ranks(values):
    """Place of every value between the lowest (0) and the highest (1); None where there is none."""
    if values is None:
        return None
    if values.dtype.kind in "mM":  # dates have an order, too
        values = np.where(np.isnat(values), np.nan, values.astype(np.int64).astype(np.float64))
    numbers = numbers_of(values)
    if numbers is None:  # categories have no order
        return None
    known = np.isfinite(numbers)
    if not known.any():
        return None
    shares = np.full(len(numbers), np.nan)
    distinct, place = np.unique(numbers[known], return_inverse=True)
    shares[known] = 0.5 if len(distinct) == 1 else place / (len(distinct) - 1)
    return shares


def _spread(values, width=0.36):
    """Move points that would hide one another up and down, as bees do in a swarm."""
    offsets = np.zeros(len(values))
    span = np.ptp(values)
    if span == 0:
        return offsets
    bins = np.floor((values - values.min()) / span * 60).astype(int)
    counts = np.bincount(bins)
    for i in np.flatnonzero(counts > 1):
        members = np.flatnonzero(bins == i)
        steps = np.arange(len(members))
        signs = np.where(steps % 2, 1, -1) * ((steps + 1) // 2)
        offsets[members] = signs
    largest = np.abs(offsets).max()
    return offsets / largest * width if largest else offsets
