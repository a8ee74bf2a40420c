"""Display of one sample's attributions."""

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
    as_array,
    by_columns,
    check_params,
    column_labels,
    visible_text,
)
from ._params import (
    AXES,
    COUNT,
    KIND,
    LIMIT,
    NAMES,
    TEXT,
    VALUES,
    as_numbers,
    check_entries,
    checked_errors,
    maps_of,
)
from ._samples import (
    as_channels,
    as_drawn,
    channel_labels,
    column_names,
    draw_image,
    draw_series,
    format_value,
    label_time,
    row_at,
    rows_of,
    shortened,
)
from ._style import (
    MUTED,
    bar_ticks,
    centred_norm,
    diverging_colormap,
    draw_whiskers,
    get_axes,
    ink,
    plain_axes,
    split_axes,
)

_LABEL = "attribution"


class AttributionDisplay:
    """One sample and what in it builds its representation.

    A series is a line coloured by attribution, an image stands beside its heat map, and of a
    table's row the columns of largest absolute attribution are bars. Colours are centred at 0:
    red adds to the representation, blue takes from it, grey does not matter.

    Parameters
    ----------
    sample : array-like of shape (n_features,), (channels, time), (time, channels), \
            (height, width) or (channels, height, width)
        The sample, in raw units; a table's row may hold categories.
    attributions : array-like of the sample's shape
        Attribution of every entry.
    kind : {"table", "series", "image"} or None, default=None
        How to draw. None: "table" for one axis, "series" for two axes of which `channel_axis` is
        one, else "image".
    channel_axis : int or None, default=None
        The sample's axis that holds channels.
    errors : array-like of the sample's shape or None, default=None
        Standard errors of the attributions, where these were sampled: a table's bars have whiskers,
        two of them to each side.
    baseline : array-like of the sample's shape or None, default=None
        What the sample is compared with; drawn as a thin line below series.
    feature_names : array-like of str or None, default=None
        Column names.
    time_names, channel_names : array-like of str or None, default=None
        Names of a series' time steps and channels; None: numbers.
    value_name : str or None, default=None
        What the values of a series are, and their unit, as in "mV".
    title : str or None, default=None
        Written above.
    limit : float or None, default=None
        The attribution of the strongest colour, to compare several displays; None: the largest
        of this sample.
    n_top : int, default=10
        Number of columns to draw, for tables.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where it was drawn; an empty frame if there are several axes in its place.
    axes_ : ndarray of matplotlib.axes.Axes
        The axes with the drawings.
    figure_ : matplotlib.figure.Figure
        The figure.

    See Also
    --------
    sklexplain.LabelFreeAttributor : What computes attributions.
    sklexplain.plotting.ImportanceDisplay : All samples.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from sklexplain import LabelFreeAttributor
    >>> from sklexplain.datasets import make_relevant_columns
    >>> from sklexplain.plotting import AttributionDisplay
    >>> X, _, _ = make_relevant_columns(random_state=0)
    >>> attributor = LabelFreeAttributor(PCA(n_components=2)).fit(X)
    >>> display = AttributionDisplay.from_estimator(attributor, X, index=3)
    >>> len(display.ax_.patches)  # a bar a column
    10
    """

    _parameter_constraints = {
        "sample": VALUES,
        "attributions": VALUES,
        "kind": KIND,
        "channel_axis": AXES,
        "errors": [ARRAY, NONE],
        "baseline": [ARRAY, NONE],
        "feature_names": NAMES,
        "time_names": NAMES,
        "channel_names": NAMES,
        "value_name": TEXT,
        "title": TEXT,
        "limit": LIMIT,
        "n_top": COUNT,
    }

    def __init__(
        self,
        sample: ArrayLike,
        attributions: ArrayLike,
        *,
        kind: Kind = None,
        channel_axis: int | None = None,
        errors: ArrayLike | None = None,
        baseline: ArrayLike | None = None,
        feature_names: Names | None = None,
        time_names: Names | None = None,
        channel_names: Names | None = None,
        value_name: str | None = None,
        title: str | None = None,
        limit: float | None = None,
        n_top: int = 10,
    ) -> None:
        self.sample = sample
        self.attributions = attributions
        self.kind = kind
        self.channel_axis = channel_axis
        self.errors = errors
        self.baseline = baseline
        self.feature_names = feature_names
        self.time_names = time_names
        self.channel_names = channel_names
        self.value_name = value_name
        self.title = title
        self.limit = limit
        self.n_top = n_top

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseExplainer,
        X: ArrayLike,
        *,
        index: int = 0,
        kind: Kind = None,
        channel_axis: ChannelAxis = "auto",
        ax: Axes | None = None,
        **kw: Any,
    ) -> Self:
        """Compute and draw the attributions of one sample.

        Parameters
        ----------
        estimator : LabelFreeAttributor
            Fitted, without ``groups`` and ``basis``.
        X : array-like or DataFrame of shape (n_samples, ...)
            Samples.
        index : int, default=0
            Position of the sample in X.
        kind : {"table", "series", "image"} or None, default=None
            How to draw; None: what the estimator's samples are.
        channel_axis : {"auto"}, int or None, default="auto"
            The sample's axis that holds channels; None: there are none; ``"auto"``: that of the
            estimator.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None for a new figure.
        **kw : object
            Other parameters of the constructor.

        Returns
        -------
        display : AttributionDisplay

        Raises
        ------
        ValueError
            If the attributor explains groups or coefficients, or returns no map of the sample.

        Warns
        -----
        ConvergenceWarning
            If a table's attributions were sampled so little that the first column cannot be told
            from the second (they are less than two standard errors apart).
        """
        check_entries("AttributionDisplay", estimator)
        seen = sample_of(estimator).seen_as(kind, channel_axis)
        one = row_at(X, index)
        if hasattr(estimator, "confidence_intervals"):
            found = estimator.confidence_intervals(one)
            attributions, errors = found.attributions, found.standard_errors
            if seen.kind == "table":
                warn_of_close(np.abs(attributions), errors, "the number of samples")
            kw.setdefault("errors", errors[0].reshape(estimator.input_shape_))
        else:
            attributions = maps_of("AttributionDisplay", estimator, one)
        attributions = attributions[0].reshape(estimator.input_shape_)
        kw.setdefault("feature_names", getattr(estimator, "feature_names_in_", None))
        kw |= {"kind": seen.kind, "channel_axis": seen.channel_axis}
        display = cls(rows_of(as_drawn(estimator, one), 0), attributions, **kw)
        return display.plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the sample.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        display : AttributionDisplay
            Itself, with ``ax_``, ``axes_`` and ``figure_``.

        Raises
        ------
        ValueError
            If shapes do not fit together.
        """
        check_params(self)
        sample = as_array(self.sample, "sample")
        attributions = by_columns(
            self.attributions, column_labels(self.sample), "attributions", strict=False
        )
        attributions = as_numbers(attributions, "attributions")
        if sample.shape != attributions.shape:
            raise ValueError(
                f"attributions of shape {attributions.shape} do not fit to a sample of shape "
                f"{sample.shape}."
            )
        self._errors = checked_errors(self.errors, sample.shape)
        kind = resolve_kind(self.kind, sample.shape, self.channel_axis)
        draw = {"table": self._table, "series": self._series, "image": self._image}[kind]
        draw(ax, sample, attributions)
        if self.title is not None:
            self.axes_[0].set_title(visible_text(self.title), fontsize=10, parse_math=False)
        return self

    def _table(self, ax, sample, attributions):
        order = np.argsort(-np.abs(attributions), kind="stable")[: self.n_top]
        self.figure_, self.ax_ = get_axes(ax, (5.0, 0.9 + 0.27 * len(order)))
        self.axes_ = np.array([self.ax_])
        names = column_names(self.feature_names, len(sample))
        labels = [f"{shortened(names[i])} = {shortened(format_value(sample[i]))}" for i in order]
        values = attributions[order]
        colors = diverging_colormap()(centred_norm(attributions, self.limit)(values))
        position = np.arange(len(order))
        self.ax_.barh(position, values, color=colors, edgecolor=ink(), linewidth=0.4)
        if self._errors is not None:
            draw_whiskers(self.ax_, values, position, 2 * self._errors[order])
        self.ax_.axvline(0, color=ink(), linewidth=0.8)
        # A dollar sign in a column's name is no formula.
        self.ax_.set_yticks(position, labels, fontsize=9, parse_math=False)
        self.ax_.invert_yaxis()
        self.ax_.set_xlabel(_LABEL)
        plain_axes(self.ax_)

    def _series(self, ax, sample, attributions):
        lines = as_channels(sample, "series", self.channel_axis)
        maps = as_channels(attributions, "series", self.channel_axis)
        self.figure_, self.ax_ = get_axes(ax, (5.0, 1.2 + 1.3 * len(lines)))
        if len(lines) == 1:
            self.axes_ = np.array([self.ax_])
        else:
            self.axes_ = split_axes(self.ax_, len(lines), 1, sharex=True)[:, 0]
        baseline = None
        if self.baseline is not None:
            baseline = as_channels(as_array(self.baseline, "baseline"), "series", self.channel_axis)
        norm, colormap = centred_norm(maps, self.limit), diverging_colormap()
        for i, channel_ax in enumerate(self.axes_):
            if baseline is not None:
                style = {"color": MUTED, "linewidth": 1, "linestyle": ":"}
                draw_series(channel_ax, baseline[i : i + 1], **style)
            collection = _coloured_line(channel_ax, lines[i], maps[i], colormap, norm)
            plain_axes(channel_ax)
            unit = self.value_name or "value"
            if len(lines) > 1:
                unit = channel_labels(self.channel_names, len(lines))[i]
            channel_ax.set_ylabel(shortened(unit, 18), fontsize=9, parse_math=False)
        label_time(self.axes_[-1], self.time_names, lines.shape[1])
        self.figure_.colorbar(
            collection, ax=self.axes_.tolist(), label=_LABEL, pad=0.02, ticks=bar_ticks()
        )

    def _image(self, ax, sample, attributions):
        self.figure_, self.ax_ = get_axes(ax, (5.0, 2.6))
        self.axes_ = split_axes(self.ax_, 1, 2)[0]
        draw_image(self.axes_[0], as_channels(sample, "image", self.channel_axis))
        heat = attributions
        if heat.ndim == 3:  # what matters at a pixel is the sum over its channels
            heat = heat.sum(axis=0 if self.channel_axis is None else self.channel_axis)
        options = {"cmap": diverging_colormap(), "norm": centred_norm(heat, self.limit)}
        image = self.axes_[1].imshow(heat, interpolation="nearest", **options)
        self.axes_[1].set(xticks=[], yticks=[])
        self.axes_[0].set_title("sample", fontsize=10)
        self.axes_[1].set_title("attribution", fontsize=10)
        self.figure_.colorbar(
            image, ax=self.axes_.tolist(), label=_LABEL, pad=0.02, ticks=bar_ticks()
        )


def _coloured_line(ax, values, attributions, colormap, norm):
    """Draw a thin line over a wide one that is coloured by attribution."""
    from matplotlib.collections import LineCollection

    time = np.arange(len(values))
    # Half steps to both sides, so that every time step has a colour of its own.
    half_steps = np.arange(2 * len(values) - 1) / 2
    points = np.column_stack([half_steps, np.interp(half_steps, time, values)])
    segments = np.stack([points[:-1], points[1:]], axis=1)
    owner = (np.arange(len(segments)) + 1) // 2
    collection = LineCollection(segments, cmap=colormap, norm=norm, linewidth=5, capstyle="round")
    collection.set_array(attributions[owner])
    ax.add_collection(collection)
    ax.plot(time, values, color=ink(), linewidth=0.8)
    ax.margins(x=0.01)
    return collection
