"""Display of attributions of frequencies."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..base import BaseExplainer
from ..samples import resolve_kind
from ..utils import (
    NONE,
    Axes,
    Names,
    Number,
    Numbers,
    Text,
    as_array,
    check_params,
    visible_text,
)
from ._params import AXES, NAMES, TEXT, VALUES, checked_numbers
from ._samples import (
    as_channels,
    channel_labels,
    row_at,
    shortened,
)
from ._style import (
    ORANGE,
    diverging_colormap,
    get_axes,
    ink,
    plain_axes,
    split_axes,
)

_LABEL = "attribution"


def _channel_axis(one, basis):
    """Return the axis of a map that is not that of a basis."""
    return None if one.ndim == 1 else {-1: 0, -2: 1}[basis.axis]


class SpectrumDisplay:
    """Which frequencies of a series matter.

    A bar for every coefficient, channels below one another. Attributions of one series have their
    signs: red adds to the representation, blue takes from it.

    Parameters
    ----------
    attributions : array-like of shape (T,), (channels, T) or (T, channels)
        Attribution of every coefficient of a series, or its mean size over several.
    cycles : array-like of shape (T,) or None, default=None
        Cycles per series of each coefficient; None: they have no frequency, and are numbered.
    sampling_rate : float or None, default=None
        Time steps per second, for frequencies in hertz; None: in cycles per series.
    channel_axis : int or None, default=None
        The axis of ``attributions`` that holds channels.
    channel_names : array-like of str or None, default=None
        Names of the channels; None: numbers.
    label : str, default="attribution"
        What the bars are, written at their axis.
    title : str or None, default=None
        Written above.

    Attributes
    ----------
    frequencies_ : ndarray of shape (T,)
        Places of the bars, in cycles per series or hertz.
    ax_ : matplotlib.axes.Axes
        Where it was drawn; an empty frame if there are several channels.
    axes_ : ndarray of matplotlib.axes.Axes
        The axes of the channels.
    figure_ : matplotlib.figure.Figure
        The figure.

    See Also
    --------
    sklexplain.LabelFreeAttributor : What computes attributions, with ``basis="dct"``.

    Examples
    --------
    >>> from sklexplain.plotting import SpectrumDisplay
    >>> display = SpectrumDisplay([0.1, 2.0, -1.0, 0.0], [0, 0.5, 1, 1.5], sampling_rate=100).plot()
    >>> display.frequencies_
    array([ 0. , 12.5, 25. , 37.5])
    """

    _parameter_constraints = {
        "attributions": VALUES,
        "cycles": [Numbers(), NONE],
        "sampling_rate": [Number(above=0), NONE],
        "channel_axis": AXES,
        "channel_names": NAMES,
        "label": [Text()],
        "title": TEXT,
    }

    def __init__(
        self,
        attributions: ArrayLike,
        cycles: ArrayLike | None = None,
        *,
        sampling_rate: float | None = None,
        channel_axis: int | None = None,
        channel_names: Names | None = None,
        label: str = _LABEL,
        title: str | None = None,
    ) -> None:
        self.attributions = attributions
        self.cycles = cycles
        self.sampling_rate = sampling_rate
        self.channel_axis = channel_axis
        self.channel_names = channel_names
        self.label = label
        self.title = title

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseExplainer,
        X: ArrayLike,
        *,
        index: int | None = None,
        unit: int | None = None,
        ax: Axes | None = None,
        **kw: Any,
    ) -> Self:
        """Compute and draw attributions of frequencies.

        Parameters
        ----------
        estimator : LabelFreeAttributor
            Fitted, with a ``basis`` and without ``groups``.
        X : array-like or DataFrame of shape (n_samples, ...)
            Series.
        index : int or None, default=None
            Position in X of the series to explain; None: the mean absolute attribution of all.
        unit : int or None, default=None
            Explain this unit, a class for example; None: the whole representation.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None for a new figure.
        **kw : object
            Other parameters of the constructor, such as ``sampling_rate``.

        Returns
        -------
        display : SpectrumDisplay

        Raises
        ------
        ValueError
            If the attributor explains time steps or groups.
        """
        basis = getattr(estimator, "_basis", None)
        if basis is None or estimator.groups_ is not None:
            raise ValueError(
                "SpectrumDisplay draws an attribution for every coefficient of a series; explain "
                "with basis='dct' and groups=None."
            )
        if index is not None:
            X = row_at(X, index)
        if unit is None:
            maps = np.asarray(estimator.transform(X))
        else:
            maps = np.asarray(estimator.unit_attributions(X, [unit]))[:, 0]
        maps = maps.reshape(len(maps), *estimator.input_shape_)
        if index is None:
            maps = np.abs(maps).mean(axis=0, keepdims=True)
            kw.setdefault("label", f"mean |{_LABEL}|")
        kw = {"cycles": basis.cycles, "channel_axis": _channel_axis(maps[0], basis)} | kw
        return cls(maps[0], **kw).plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the frequencies.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        display : SpectrumDisplay
            Itself, with ``frequencies_``, ``ax_``, ``axes_`` and ``figure_``.

        Raises
        ------
        ValueError
            If shapes do not fit together.
        """
        params = check_params(self)
        values = as_array(self.attributions, "attributions")
        values = checked_numbers("attributions", values, values.shape, "one for each coefficient")
        resolve_kind("series", values.shape, self.channel_axis)
        lines = as_channels(values, "series", self.channel_axis)
        self.frequencies_, what = self._places(lines.shape[1], params["sampling_rate"])
        self.figure_, self.ax_ = get_axes(ax, (5.0, 1.2 + 1.3 * len(lines)))
        if len(lines) == 1:
            self.axes_ = np.array([self.ax_])
        else:
            self.axes_ = split_axes(self.ax_, len(lines), 1, sharex=True, sharey=True)[:, 0]
        for i, channel_ax in enumerate(self.axes_):
            self._draw(channel_ax, lines[i], signed=(lines < 0).any())
            text = self.label
            if len(lines) > 1:
                text = channel_labels(self.channel_names, len(lines))[i]
            channel_ax.set_ylabel(shortened(text, 18), fontsize=9, parse_math=False)
        if len(lines) > 1:
            self.axes_[0].set_title(self.label, fontsize=9, loc="left", parse_math=False)
        self.axes_[-1].set_xlabel(what)
        if self.title is not None:
            self.axes_[0].set_title(visible_text(self.title), fontsize=10, parse_math=False)
        return self

    def _places(self, n, sampling_rate):
        """Return where the coefficients stand, and what that is."""
        if self.cycles is None:
            if sampling_rate is not None:
                raise ValueError(
                    f"sampling_rate={sampling_rate:g} has no meaning without cycles: these "
                    "coefficients have no frequency, as of a basis given as an array."
                )
            return np.arange(n, dtype=np.float64), "coefficient"
        cycles = checked_numbers("cycles", self.cycles, (n,), "one for each coefficient")
        if (np.diff(cycles) <= 0).any() or not np.isfinite(cycles).all():
            raise ValueError("cycles must be finite and in ascending order.")
        if sampling_rate is None:
            return cycles, "cycles per series"
        return cycles / n * sampling_rate, "frequency (Hz)"

    def _draw(self, ax, values, signed):
        places = self.frequencies_
        # Bars meet halfway between their places: two outlines, however many there are.
        half = np.diff(places) / 2 if len(places) > 1 else np.array([0.5])
        edges = np.concatenate([places[:1] - half[:1], (places[1:] + places[:-1]) / 2])
        edges = np.append(edges, places[-1] + half[-1])
        colormap = diverging_colormap()
        above, below = (colormap(0.98), colormap(0.02)) if signed else (ORANGE, ORANGE)
        for part, color in ((np.maximum(values, 0), above), (np.minimum(values, 0), below)):
            if part.any():
                ax.stairs(part, edges, fill=True, color=color)
        ax.axhline(0, color=ink(), linewidth=0.8)
        ax.set_xlim(edges[0], edges[-1])
        plain_axes(ax)
