"""Display of one sample's concepts."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..base import BaseExplainer
from ..samples import resolve_kind, sample_of
from ..utils import (
    NONE,
    Axes,
    Baseline,
    ChannelAxis,
    Kind,
    Names,
    Numbers,
    Params,
    as_array,
    check_params,
)
from ._attribution import _coloured_line
from ._channels import ChannelScales
from ._params import AXES, COUNT, KIND, LIMIT, NAMES, VALUES, as_numbers
from ._samples import (
    as_channels,
    as_drawn,
    channel_labels,
    column_names,
    draw_image,
    format_value,
    row_at,
    rows_of,
    shortened,
)
from ._style import (
    bar_ticks,
    centred_norm,
    diverging_colormap,
    get_axes,
    ink,
    plain_axes,
    split_axes,
)

# Panels side by side, and their sizes in inches.
_COLUMNS = {"table": 2, "series": 1, "image": 3}
_WIDTH = {"table": 3.6, "series": 4.8, "image": 2.4}


class ConceptDisplay:
    """What every concept adds to a network's output for one sample, and where it comes from.

    Bars on the left are the concepts' contributions: weight times how far the concept is from its
    value at the baseline, which is also what its map adds up to (of methods whose maps have a sum:
    integrated gradients, DeepLIFT, Shapley values). On the right stands a map a concept, largest
    contribution first: bars for the columns of a table, a coloured line for a series, a heat map
    for an image. Red adds to the output, blue takes from it.

    Parameters
    ----------
    sample : array-like of shape (n_features,), (channels, time), (time, channels), \
            (height, width) or (channels, height, width)
        The sample, in raw units; a table's row may hold categories.
    maps : array-like of shape (n_concepts, *sample.shape)
        Where every concept comes from, times its weight.
    contributions : array-like of shape (n_concepts,)
        What every concept adds to the output, compared with the baseline.
    kind : {"table", "series", "image"} or None, default=None
        How to draw. None: "table" for one axis, "series" for two axes of which `channel_axis` is
        one, else "image".
    channel_axis : int or None, default=None
        The sample's axis that holds channels.
    feature_names : array-like of str or None, default=None
        Column names.
    limit : float or None, default=None
        The attribution of the strongest colour; None: the largest of this sample.
    n_top : int, default=5
        Number of columns to draw for each concept, for tables.
    n_maps : int or None, default=None
        Number of concepts whose maps are drawn, those that contribute most; None: all.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where it was drawn, an empty frame.
    bar_ax_ : matplotlib.axes.Axes
        The axes with the contributions.
    axes_ : ndarray of matplotlib.axes.Axes of shape (n_maps,)
        The axes with the maps, in the order in which they are drawn.
    order_ : ndarray of int of shape (n_concepts,)
        The concepts in that order.
    figure_ : matplotlib.figure.Figure
        The figure.

    See Also
    --------
    sklexplain.SRAEExplainer : What finds concepts.
    sklexplain.plotting.DictionaryDisplay : Many concepts.

    Examples
    --------
    >>> import numpy as np
    >>> from sklexplain.plotting import ConceptDisplay
    >>> maps = np.array([[1.0, 0.0, 0.2], [0.0, -0.3, 0.1]])
    >>> display = ConceptDisplay([5.1, 3.5, 1.4], maps, [1.2, -0.2]).plot()
    >>> display.order_
    array([0, 1])
    """

    _parameter_constraints = {
        "sample": VALUES,
        "maps": VALUES,
        "contributions": [Numbers()],
        "kind": KIND,
        "channel_axis": AXES,
        "feature_names": NAMES,
        "channel_names": NAMES,
        "limit": LIMIT,
        "n_top": COUNT,
        "n_maps": [*COUNT, NONE],
    }

    def __init__(
        self,
        sample: ArrayLike,
        maps: ArrayLike,
        contributions: ArrayLike,
        *,
        kind: Kind = None,
        channel_axis: int | None = None,
        feature_names: Names | None = None,
        channel_names: Names | None = None,
        limit: float | None = None,
        n_top: int = 5,
        n_maps: int | None = None,
    ) -> None:
        self.sample = sample
        self.maps = maps
        self.contributions = contributions
        self.kind = kind
        self.channel_axis = channel_axis
        self.feature_names = feature_names
        self.channel_names = channel_names
        self.limit = limit
        self.n_top = n_top
        self.n_maps = n_maps

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseExplainer,
        X: ArrayLike,
        *,
        index: int = 0,
        target: int = 0,
        method: str = "integrated_gradients",
        method_params: Params = None,
        baseline: Baseline = "mean",
        kind: Kind = None,
        channel_axis: ChannelAxis = "auto",
        ax: Axes | None = None,
        **kw: Any,
    ) -> Self:
        """Compute and draw the concepts of one sample.

        Parameters
        ----------
        estimator : SRAEExplainer
            Fitted.
        X : array-like or DataFrame of shape (n_samples, ...)
            Samples.
        index : int, default=0
            Position of the sample in X.
        target : int, default=0
            Which of several targets the contributions are to.
        method, method_params, baseline
            See `SRAEExplainer.concept_attributions`.
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
        display : ConceptDisplay
        """
        seen = sample_of(estimator).seen_as(kind, channel_axis)
        one = row_at(X, index)
        weights = np.atleast_2d(estimator.concept_weights_)[target]  # (n_concepts,)
        maps = estimator.concept_attributions(
            one, method, method_params=method_params, baseline=baseline
        )[0]
        maps = maps * weights.reshape(-1, *[1] * (maps.ndim - 1))
        # From the baseline, as maps do: so a bar is the sum of its map.
        moved = np.asarray(estimator.transform(one), dtype=np.float64)
        moved = (moved - estimator.baseline_concepts(one, baseline))[0]
        contributions = weights * moved
        kw.setdefault("feature_names", getattr(estimator, "feature_names_in_", None))
        kw |= {"kind": seen.kind, "channel_axis": seen.channel_axis}
        display = cls(rows_of(as_drawn(estimator, one), 0), maps, contributions, **kw)
        return display.plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the concepts.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        display : ConceptDisplay
            Itself, with ``ax_``, ``bar_ax_``, ``axes_``, ``order_`` and ``figure_``.

        Raises
        ------
        ValueError
            If shapes do not fit together.
        """
        check_params(self)
        sample, maps = as_array(self.sample, "sample"), as_numbers(self.maps, "maps")
        contributions = as_numbers(self.contributions, "contributions")
        n = len(maps)
        if maps.shape[1:] != sample.shape or contributions.shape != (n,):
            raise ValueError(
                f"maps of shape {maps.shape} and contributions of shape {contributions.shape} do "
                f"not fit to a sample of shape {sample.shape}: there must be a map of its shape, "
                "and a number, for each concept."
            )
        kind = resolve_kind(self.kind, sample.shape, self.channel_axis)
        n_maps = n if self.n_maps is None else min(n, self.n_maps)
        n_panels = n_maps + (kind == "image")  # the sample itself is one
        columns = min(n_panels, _COLUMNS[kind])
        rows = -(-n_panels // columns)
        height = {"table": 0.7 + 0.25 * min(self.n_top, sample.size), "series": 1.2, "image": 1.9}[
            kind
        ]
        width = columns * _WIDTH[kind]
        self.figure_, self.ax_ = get_axes(ax, (2.6 + width, 0.8 + height * rows))
        left, right = split_axes(self.ax_, 1, 2, width_ratios=[2.2, width])[0]
        self.order_ = np.argsort(-np.abs(contributions), kind="stable")
        self._bars(left, contributions[self.order_])
        grid = split_axes(right, rows, columns, **({"sharex": True} if kind == "series" else {}))
        draw = {"table": self._table, "series": self._series, "image": self._image}[kind]
        draw(grid.ravel(), sample, maps[self.order_[:n_maps]])
        # A table's bars are narrow beside their labels: a title needs the room to the left.
        where = "right" if kind == "table" else "center"
        for axes, concept in zip(self.axes_, self.order_[:n_maps], strict=True):
            title = f"concept {concept}: {contributions[concept]:+.3g}"
            axes.set_title(title, fontsize=9, loc=where)
        return self

    def _bars(self, ax, contributions):
        self.bar_ax_ = ax
        colors = diverging_colormap()(centred_norm(contributions)(contributions))
        position = np.arange(len(contributions))
        ax.barh(position, contributions, color=colors, edgecolor=ink(), linewidth=0.4)
        ax.axvline(0, color=ink(), linewidth=0.8)
        ax.set_yticks(position, [f"concept {i}" for i in self.order_], fontsize=9)
        ax.invert_yaxis()
        ax.set_xlabel("contribution to the output,\nfrom the baseline", fontsize=9)
        plain_axes(ax)

    def _table(self, grid, sample, maps):
        self.axes_ = self._used(grid, len(maps))
        names = column_names(self.feature_names, len(sample))
        norm = centred_norm(maps, self.limit)
        for ax, values in zip(self.axes_, maps, strict=True):
            top = np.argsort(-np.abs(values), kind="stable")[: self.n_top]
            colors = diverging_colormap()(norm(values[top]))
            ax.barh(np.arange(len(top)), values[top], color=colors, edgecolor=ink(), linewidth=0.4)
            ax.axvline(0, color=ink(), linewidth=0.8)
            labels = [f"{shortened(names[i], 18)} = {format_value(sample[i])}" for i in top]
            # A dollar sign in a column's name is no formula.
            ax.set_yticks(np.arange(len(top)), labels, fontsize=7, parse_math=False)
            ax.tick_params(axis="x", labelsize=7)
            ax.set_xlim(norm.vmin, norm.vmax)
            ax.locator_params(axis="x", nbins=3)
            ax.invert_yaxis()
            plain_axes(ax)

    def _series(self, grid, sample, maps):
        self.axes_ = self._used(grid, len(maps))
        lines = as_channels(sample, "series", self.channel_axis)
        norm, colormap = centred_norm(maps, self.limit), diverging_colormap()
        scales = ChannelScales(lines[None])
        for ax, values in zip(self.axes_, maps, strict=True):
            colours = as_channels(values, "series", self.channel_axis)
            for line, colour in zip(scales.placed(lines), colours, strict=True):
                collection = _coloured_line(ax, line, colour, colormap, norm)
            if scales.apart_:
                ax.set_ylim(*scales.limits)
                scales.name(ax, channel_labels(self.channel_names, len(lines)), colored=False)
            plain_axes(ax)
        self.axes_[-1].set_xlabel("time step")
        self.figure_.colorbar(
            collection, ax=grid.tolist(), label="attribution", pad=0.02, ticks=bar_ticks()
        )

    def _image(self, grid, sample, maps):
        draw_image(grid[0], as_channels(sample, "image", self.channel_axis))
        grid[0].set_title("sample", fontsize=9)
        self.axes_ = self._used(grid[1:], len(maps))
        if maps.ndim == 4:  # what matters at a pixel is the sum over its channels
            maps = maps.sum(axis=1 + (0 if self.channel_axis is None else self.channel_axis))
        options = {"cmap": diverging_colormap(), "norm": centred_norm(maps, self.limit)}
        for ax, values in zip(self.axes_, maps, strict=True):
            image = ax.imshow(values, interpolation="nearest", **options)
            ax.set(xticks=[], yticks=[])
        self.figure_.colorbar(
            image, ax=grid.tolist(), label="attribution", pad=0.02, ticks=bar_ticks()
        )

    def _used(self, grid, n):
        """Keep the first axes; the others are hidden."""
        for ax in grid[n:]:
            ax.set_axis_off()
        return grid[:n]
