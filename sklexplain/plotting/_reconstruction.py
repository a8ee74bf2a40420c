"""Display of samples and what reconstructions keep of them."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..base import BaseExplainer
from ..samples import resolve_kind, sample_of
from ..utils import (
    ARRAY,
    NONE,
    Axes,
    ChannelAxis,
    Integers,
    Kind,
    Names,
    Numbers,
    as_array_like,
    check_params,
    visible_text,
)
from ._channels import ChannelScales, name_channels
from ._params import AXES, COUNT, KIND, NAMES, VALUES, as_numbers, checked_numbers
from ._samples import (
    as_channels,
    channel_labels,
    column_names,
    draw_series,
    samples_at,
)
from ._style import (
    BLUE,
    ORANGE,
    centred_norm,
    diverging_colormap,
    get_axes,
    ink,
    split_axes,
)

_COLORS = {"reference": BLUE, "reconstruction": ORANGE}  # what else is drawn, in ink


class ReconstructionDisplay:
    """Samples, a reference's and a layer's reconstructions, and the difference of the two.

    One column a sample, as in figures 6 and 7 of Schneider & Vlachos: what differs between
    reconstruction and reference is due to the explained model, what both lack is not.

    Parameters
    ----------
    inputs : array-like of shape (n_samples, ...)
        The samples; shapes as in `AttributionDisplay`, with an axis of samples in front.
    reconstructions : array-like of the same shape
        What the layer keeps.
    references : array-like of the same shape or None, default=None
        What the reference keeps. None: differences are to the inputs.
    kind : {"table", "series", "image"} or None, default=None
        How to draw, as in `AttributionDisplay`. Tables are drawn as bars.
    channel_axis : int or None, default=None
        A sample's axis that holds channels.
    feature_names : array-like of str or None, default=None
        Column names, for tables.
    channel_names : array-like of str or None, default=None
        Names of a series' channels. Where these are of very different scale they are drawn in
        bands, each on its own scale, and their differences as shares of the channel's range.
    titles : sequence of str or None, default=None
        A title for each sample; None: its number.
    center, scale : array-like of shape (n_columns,) or None, default=None
        For tables: bars show (value - center) / scale, so that columns of different units can be
        seen beside each other; differences are divided by scale. None: 0 and 1.
    n_top : int, default=10
        For tables: number of columns to draw, those with the largest differences.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where it was drawn; an empty frame around `axes_`.
    axes_ : ndarray of matplotlib.axes.Axes of shape (n_rows, n_samples)
        Rows: input, reference if there is one, reconstruction, difference.
    figure_ : matplotlib.figure.Figure
        The figure.

    See Also
    --------
    sklexplain.ClaDecExplainer : What reconstructs.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklexplain import ClaDecExplainer
    >>> from sklexplain.plotting import ReconstructionDisplay
    >>> X = load_iris(as_frame=True).data
    >>> explainer = ClaDecExplainer(
    ...     PCA(1), max_epochs=5, validation_split=None, random_state=0
    ... ).fit(X)
    >>> display = ReconstructionDisplay.from_estimator(explainer, X, index=[0, 60, 120])
    >>> display.axes_.shape
    (4, 3)
    """

    _parameter_constraints = {
        "inputs": VALUES,
        "reconstructions": VALUES,
        "references": [ARRAY, NONE],
        "kind": KIND,
        "channel_axis": AXES,
        "feature_names": NAMES,
        "channel_names": NAMES,
        "titles": NAMES,
        "center": [Numbers(), NONE],
        "scale": [Numbers(), NONE],
        "n_top": COUNT,
    }

    def __init__(
        self,
        inputs: ArrayLike,
        reconstructions: ArrayLike,
        *,
        references: ArrayLike | None = None,
        kind: Kind = None,
        channel_axis: int | None = None,
        feature_names: Names | None = None,
        channel_names: Names | None = None,
        titles: Names | None = None,
        center: ArrayLike | None = None,
        scale: ArrayLike | None = None,
        n_top: int = 10,
    ) -> None:
        self.inputs = inputs
        self.reconstructions = reconstructions
        self.references = references
        self.kind = kind
        self.channel_axis = channel_axis
        self.feature_names = feature_names
        self.channel_names = channel_names
        self.titles = titles
        self.center = center
        self.scale = scale
        self.n_top = n_top

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseExplainer,
        X: ArrayLike,
        *,
        index: int | Integers | None = None,
        kind: Kind = None,
        channel_axis: ChannelAxis = "auto",
        ax: Axes | None = None,
        **kw: Any,
    ) -> Self:
        """Reconstruct and draw some samples.

        Parameters
        ----------
        estimator : ClaDecExplainer
            Fitted.
        X : array-like or DataFrame of shape (n_samples, ...)
            Samples. Of a table's columns, center and scale are mean and standard deviation in the
            data that the explainer was fitted on.
        index : int, array-like of int or None, default=None
            Positions of the samples in X; None: the first five.
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
        display : ReconstructionDisplay

        Raises
        ------
        TypeError
            If ``index`` holds booleans.
        """
        X = as_array_like(X)
        seen = sample_of(estimator).seen_as(kind, channel_axis)
        kw |= {"kind": seen.kind, "channel_axis": seen.channel_axis}
        positions = range(min(5, len(X))) if index is None else np.atleast_1d(index)
        if isinstance(positions, np.ndarray) and positions.dtype.kind == "b":
            raise TypeError("index holds bools; give positions, as in np.flatnonzero(mask).")
        positions = [range(len(X))[int(i)] for i in positions]
        chosen = samples_at(X, positions)
        explanation = estimator.explain(chosen)
        kw.setdefault("titles", [f"sample {i}" for i in positions])
        if explanation.input.ndim == 2:
            kw.setdefault("feature_names", estimator.get_feature_names_out())
            mean, deviation = estimator._spread
            kw.setdefault("center", mean)
            kw.setdefault("scale", np.where(deviation > 0, deviation, 1.0))
        display = cls(
            explanation.input,
            explanation.reconstruction,
            references=explanation.reference,
            **kw,
        )
        return display.plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the samples and reconstructions.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        display : ReconstructionDisplay
            Itself, with ``ax_``, ``axes_`` and ``figure_``.

        Raises
        ------
        ValueError
            If shapes do not fit together.
        """
        check_params(self)
        rows = self._rows()
        shape = rows["input"].shape
        kind = resolve_kind(self.kind, shape[1:], self.channel_axis)
        height = {"table": 0.5 + 0.2 * min(self.n_top, shape[1]), "series": 1.1, "image": 1.2}[kind]
        width = {"table": 1.7, "series": 2.0, "image": 1.2}[kind]
        margin = 1.4 if kind == "table" else 0.7
        size = (margin + width * shape[0], 0.3 + height * len(rows))
        self.figure_, self.ax_ = get_axes(ax, size)
        self.axes_ = split_axes(self.ax_, len(rows), shape[0], sharex=kind == "table")
        for panel, name in zip(self.axes_[:, 0], rows, strict=True):
            panel.set_ylabel(name, fontsize=9)
        {"table": self._tables, "series": self._series, "image": self._images}[kind](rows)
        titles = self._titles(shape[0])
        for panel, title in zip(self.axes_[0], titles, strict=True):
            panel.set_title(title, fontsize=9, parse_math=False)
        return self

    def _rows(self):
        """Arrays to draw, by name, from top to bottom."""
        rows = {"input": as_numbers(self.inputs, "inputs")}
        if self.references is not None:
            rows["reference"] = as_numbers(self.references, "references")
        rows["reconstruction"] = as_numbers(self.reconstructions, "reconstructions")
        for name, values in rows.items():
            if values.shape != rows["input"].shape or values.ndim < 2 or len(values) == 0:
                raise ValueError(
                    f"{name}s of shape {values.shape} do not fit to inputs of shape "
                    f"{rows['input'].shape}: both must be (n_samples, ...), a sample or more."
                )
        other = rows.get("reference", rows["input"])
        rows["difference"] = rows["reconstruction"] - other
        return rows

    def _titles(self, n):
        if self.titles is None:
            return [f"sample {i}" for i in range(n)]
        if len(self.titles) != n:
            raise ValueError(f"{len(self.titles)} titles for {n} samples.")
        return [visible_text(title) for title in self.titles]

    def _images(self, rows):
        difference = rows.pop("difference")
        lowest, highest = rows["input"].min(), rows["input"].max()
        for panels, values in zip(self.axes_, rows.values(), strict=False):
            for panel, sample in zip(panels, values, strict=True):
                image = as_channels(sample, "image", self.channel_axis)
                # One scale for all: a pale reconstruction is to look pale.
                image = np.clip((image - lowest) / ((highest - lowest) or 1), 0, 1)
                panel.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        norm, colormap = centred_norm(difference), diverging_colormap()
        for panel, sample in zip(self.axes_[-1], difference, strict=True):
            axis = 0 if self.channel_axis is None else self.channel_axis
            heat = sample.mean(axis=axis) if sample.ndim == 3 else sample
            drawn = panel.imshow(heat, cmap=colormap, norm=norm, interpolation="nearest")
        for panel in self.axes_.ravel():
            panel.set(xticks=[], yticks=[])
        # Beside the last row only, but with room beside all: else the columns would not align.
        beside = {"shrink": 1 / len(self.axes_), "anchor": (0.0, 0.0), "pad": 0.02}
        self.figure_.colorbar(drawn, ax=self.axes_.ravel().tolist(), **beside)
        rows["difference"] = difference

    def _series(self, rows):
        rows = {
            name: np.stack([as_channels(sample, "series", self.channel_axis) for sample in values])
            for name, values in rows.items()
        }
        difference = rows["difference"]
        together = np.concatenate([v for name, v in rows.items() if name != "difference"])
        scales = ChannelScales(together)
        names = channel_labels(self.channel_names, together.shape[1])
        if scales.apart_:
            rows["difference"] = difference = difference / scales.range_[:, None]
            self.axes_[-1, 0].set_ylabel("difference\n(share of range)", fontsize=9)
        widest = np.abs(difference).max()
        for panels, (name, values) in zip(self.axes_, rows.items(), strict=True):
            for panel, lines in zip(panels, values, strict=True):
                panel.spines[["top", "right"]].set_visible(False)
                if name == "difference":
                    several = {} if len(lines) > 1 else {"color": _COLORS.get(name, ink())}
                    draw_series(panel, lines, **several)
                    panel.axhline(0, color=ink(), linewidth=0.5)
                    panel.set_ylim(*_limits(np.array([-widest, widest])))
                else:
                    scales.draw(panel, lines, color=_COLORS.get(name, ink()))
                    if scales.apart_:
                        scales.name(panel, names)
                    else:
                        panel.set_ylim(*_limits(together))
                panel.tick_params(labelsize=7, labelbottom=name == "difference")
                panel.tick_params(labelleft=panel is panels[0])
        if len(names) > 1 and not scales.apart_:
            lines = self.axes_[0, 0].get_lines()
            name_channels(self.ax_, lines, names)
        for panel in self.axes_[-1]:
            panel.set_xlabel("time step", fontsize=8)

    def _tables(self, rows):
        n_columns = rows["input"].shape[1]
        names = column_names(self.feature_names, n_columns)
        center, scale = np.zeros(n_columns), np.ones(n_columns)
        of = "a number for each column"
        if self.center is not None:
            center = checked_numbers("center", self.center, (n_columns,), of)
        if self.scale is not None:
            scale = checked_numbers("scale", self.scale, (n_columns,), of)
            if not (scale > 0).all():
                raise ValueError(f"scale={scale.tolist()} must be positive.")
        largest = np.abs(rows["difference"] / scale).max(axis=0)
        shown = np.sort(np.argsort(-largest, kind="stable")[: self.n_top])
        position = np.arange(len(shown))
        for panels, (name, values) in zip(self.axes_, rows.items(), strict=True):
            offset = 0 if name == "difference" else center
            for panel, bars in zip(panels, (values - offset) / scale, strict=True):
                panel.barh(position, bars[shown], color=_COLORS.get(name, ink()), height=0.7)
                panel.axvline(0, color=ink(), linewidth=0.6)
                labels = [names[i] for i in shown] if panel is panels[0] else []
                panel.set_yticks(position if labels else [], labels, fontsize=7, parse_math=False)
                panel.set_ylim(len(shown) - 0.5, -0.5)
                panel.tick_params(axis="x", labelsize=7)
                panel.spines[["top", "right"]].set_visible(False)
        if self.scale is not None:
            for panel in self.axes_[-1]:
                panel.set_xlabel("standard deviations", fontsize=8)


def _limits(values):
    """Smallest and largest value, with a margin."""
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * ((high - low) or 1.0)
    return low - margin, high + margin
