"""Display of one anomaly: which part of a sample is abnormal, and how sure that is."""

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
    Kind,
    Names,
    Number,
    as_array,
    check_params,
    visible_text,
)
from ._params import AXES, COUNT, KIND, NAMES, TEXT, VALUES, as_numbers, checked_numbers
from ._samples import (
    as_channels,
    as_drawn,
    channel_labels,
    column_names,
    draw_image,
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
    get_axes,
    ink,
    named_legend,
    plain_axes,
    split_axes,
)

_LABEL = "part of the score"


class AnomalyDisplay:
    """One sample, what it is compared with, and what makes it more abnormal than that.

    Of a table's row, the columns of largest absolute attribution are bars, with their values beside
    those of the reference. A series is drawn over its reference, above its attributions and, if
    they are given, residuals. An image stands beside its reference and its map. Red makes the
    sample more abnormal, blue less.

    Parameters
    ----------
    sample : array-like of shape (n_features,), (channels, time), (time, channels), \
            (height, width) or (channels, height, width)
        The sample; a table's row may hold categories.
    attributions : array-like of the sample's shape, or (n_groups,)
        Attribution of every entry, or of every group.
    reference : array-like of the sample's shape or None, default=None
        What the sample is compared with, in its units.
    residuals : array-like of the sample's shape or None, default=None
        Sample minus reconstruction; drawn of series.
    p : float or None, default=None
        How often a normal sample is at least as abnormal; written above.
    kind : {"table", "series", "image"} or None, default=None
        How to draw. None: "table" for one axis, "series" for two axes of which `channel_axis` is
        one, else "image".
    channel_axis : int or None, default=None
        The sample's axis that holds channels.
    group_index : array-like of int of the sample's shape or None, default=None
        Number of the group of each entry, -1 for none, where ``attributions`` are of groups. None:
        bars of groups by their names.
    feature_names : array-like of str or None, default=None
        Names of the columns, or of the groups.
    time_names, channel_names : array-like of str or None, default=None
        Names of a series' time steps and channels; None: numbers.
    value_name : str or None, default=None
        What the values of a series are, and their unit, as in "mV".
    title : str or None, default=None
        Written above, before the p-value.
    n_top : int, default=10
        Number of columns or groups drawn as bars.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where it was drawn; an empty frame if there are several axes in its place.
    axes_ : ndarray of matplotlib.axes.Axes
        The axes with the drawings, in reading order.
    figure_ : matplotlib.figure.Figure
        The figure.

    See Also
    --------
    sklexplain.AnomalyAttributor : What computes attributions, references and p-values.
    AttributionDisplay : What builds the representation of a sample.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from sklexplain import AnomalyAttributor
    >>> from sklexplain.plotting import AnomalyDisplay
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(300, 5))
    >>> explainer = AnomalyAttributor(PCA(2), random_state=0).fit(X)
    >>> display = AnomalyDisplay.from_estimator(explainer, X[:1] + [0, 0, 0, 2, 0])
    >>> display.ax_.get_title()
    'p = 0.011'
    """

    _parameter_constraints = {
        "sample": VALUES,
        "attributions": VALUES,
        "reference": [ARRAY, NONE],
        "residuals": [ARRAY, NONE],
        "p": [Number(at_least=0, at_most=1), NONE],
        "kind": KIND,
        "channel_axis": AXES,
        "group_index": [ARRAY, NONE],
        "feature_names": NAMES,
        "time_names": NAMES,
        "channel_names": NAMES,
        "value_name": TEXT,
        "title": TEXT,
        "n_top": COUNT,
    }

    def __init__(
        self,
        sample: ArrayLike,
        attributions: ArrayLike,
        *,
        reference: ArrayLike | None = None,
        residuals: ArrayLike | None = None,
        p: float | None = None,
        kind: Kind = None,
        channel_axis: int | None = None,
        group_index: ArrayLike | None = None,
        feature_names: Names | None = None,
        time_names: Names | None = None,
        channel_names: Names | None = None,
        value_name: str | None = None,
        title: str | None = None,
        n_top: int = 10,
    ) -> None:
        self.sample = sample
        self.attributions = attributions
        self.reference = reference
        self.residuals = residuals
        self.p = p
        self.kind = kind
        self.channel_axis = channel_axis
        self.group_index = group_index
        self.feature_names = feature_names
        self.time_names = time_names
        self.channel_names = channel_names
        self.value_name = value_name
        self.title = title
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
        """Compute and draw what makes one sample abnormal.

        Parameters
        ----------
        estimator : AnomalyAttributor
            Fitted.
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
        display : AnomalyDisplay
        """
        seen = sample_of(estimator).seen_as(kind, channel_axis)
        one = row_at(X, index)
        shape = estimator.input_shape_
        groups = getattr(estimator, "groups_", None)
        attributions = np.asarray(estimator.transform(one))[0]
        if groups is None:
            attributions = attributions.reshape(shape)
            kw.setdefault("feature_names", getattr(estimator, "feature_names_in_", None))
        else:
            kw.setdefault("feature_names", groups)
            if seen.kind != "table":
                kw.setdefault("group_index", estimator._features.players)
        kw.setdefault("reference", _reference(estimator, one, shape))
        if seen.kind == "series" and hasattr(estimator, "residuals"):
            residuals = np.asarray(estimator.residuals(one))[0]
            if residuals.size == np.prod(shape):
                kw.setdefault("residuals", residuals.reshape(shape))
        kw.setdefault("p", float(estimator.pvalue(one)[0]))
        kw |= {"kind": seen.kind, "channel_axis": seen.channel_axis}
        return cls(rows_of(as_drawn(estimator, one), 0), attributions, **kw).plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the sample.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        display : AnomalyDisplay
            Itself, with ``ax_``, ``axes_`` and ``figure_``.

        Raises
        ------
        ValueError
            If shapes do not fit together.
        """
        check_params(self)
        sample = as_array(self.sample, "sample")
        maps = as_numbers(self.attributions, "attributions")
        kind = resolve_kind(self.kind, sample.shape, self.channel_axis)
        reference = None
        if self.reference is not None:
            reference = as_array(self.reference, "reference")
            if reference.shape != sample.shape:
                raise ValueError(
                    f"reference of shape {reference.shape} does not fit to a sample of shape "
                    f"{sample.shape}."
                )
        if self.group_index is not None and kind != "table":
            maps = _on_entries(maps, as_array(self.group_index, "group_index"), sample.shape)
        elif maps.shape != sample.shape and maps.ndim == 1:
            kind = "groups"
        if kind != "groups" and maps.shape != sample.shape:
            raise ValueError(
                f"attributions of shape {maps.shape} do not fit to a sample of shape "
                f"{sample.shape}; those of groups need group_index, or are of one axis."
            )
        draw = {"table": self._bars, "groups": self._bars, "series": self._series}
        draw.get(kind, self._image)(ax, sample if kind != "groups" else None, maps, reference)
        title = [] if self.title is None else [visible_text(self.title)]
        title += [] if self.p is None else [f"p = {self.p:.2g}"]
        if title:
            self.axes_[0].set_title(", ".join(title), fontsize=10, parse_math=False)
        return self

    def _bars(self, ax, sample, maps, reference):
        order = np.argsort(-np.abs(maps), kind="stable")[: self.n_top]
        self.figure_, self.ax_ = get_axes(ax, (5.6, 0.9 + 0.3 * len(order)))
        self.axes_ = np.array([self.ax_])
        names = column_names(self.feature_names, len(maps))
        labels = [shortened(names[i], 24) for i in order]
        if sample is not None:
            labels = [
                f"{name} = {_value_of(sample, reference, i)}"
                for name, i in zip(labels, order, strict=True)
            ]
        colors = diverging_colormap()(centred_norm(maps)(maps[order]))
        places = np.arange(len(order))
        self.ax_.barh(places, maps[order], color=colors, edgecolor=ink(), linewidth=0.4)
        self.ax_.axvline(0, color=ink(), linewidth=0.8)
        # A dollar sign in a column's name is no formula.
        self.ax_.set_yticks(places, labels, fontsize=9, parse_math=False)
        self.ax_.invert_yaxis()
        self.ax_.set_xlabel(_LABEL)
        plain_axes(self.ax_)

    def _series(self, ax, sample, maps, reference):
        lines, maps = (as_channels(v, "series", self.channel_axis) for v in (sample, maps))
        others = None
        if reference is not None:
            others = as_channels(reference, "series", self.channel_axis)
        missed = None
        if self.residuals is not None:
            of = "a residual for every entry of the sample"
            missed = checked_numbers("residuals", self.residuals, sample.shape, of)
            missed = as_channels(missed, "series", self.channel_axis)
        n, heights = len(lines), [2.2, 1.0] if missed is None else [2.2, 1.0, 1.0]
        self.figure_, self.ax_ = get_axes(ax, (5.6, 0.5 + 0.75 * n * sum(heights)))
        axes = split_axes(self.ax_, len(heights) * n, 1, sharex=True, height_ratios=heights * n)
        self.axes_ = axes[:, 0]
        names = [self.value_name or "value"]
        if n > 1:
            names = channel_labels(self.channel_names, n)
        norm, colors, time = centred_norm(maps), diverging_colormap(), np.arange(lines.shape[1])
        for i in range(n):
            own = self.axes_[len(heights) * i : len(heights) * (i + 1)]
            for row in own:
                plain_axes(row)
                row.margins(x=0.01)
            drawn = own[0].plot(time, lines[i], color=ink(), linewidth=1.2)
            texts = ["sample"]
            if others is not None:
                style = {"color": MUTED, "linewidth": 1.2, "linestyle": "--"}
                drawn += own[0].plot(time, others[i], **style)
                texts.append("compared with")
            named_legend(own[0], drawn, texts, fontsize=7, ncols=2, loc="best")
            own[1].bar(time, maps[i], width=1.0, color=colors(norm(maps[i])))
            own[1].axhline(0, color=ink(), linewidth=0.6)
            own[1].set_ylabel("part", fontsize=8)
            if missed is not None:
                own[2].plot(time, missed[i], color=ink(), linewidth=0.9)
                own[2].axhline(0, color=MUTED, linewidth=0.6)
                own[2].set_ylabel("residual", fontsize=8)
            own[0].set_ylabel(shortened(names[i], 18), fontsize=9, parse_math=False)
        label_time(self.axes_[-1], self.time_names, lines.shape[1])

    def _image(self, ax, sample, maps, reference):
        self.figure_, self.ax_ = get_axes(ax, (2.3 * (2 + (reference is not None)) + 0.6, 2.6))
        images = [("sample", sample)]
        images += [] if reference is None else [("compared with", reference)]
        self.axes_ = split_axes(self.ax_, 1, len(images) + 1)[0]
        for own, (name, image) in zip(self.axes_, images, strict=False):
            draw_image(own, as_channels(np.asarray(image), "image", self.channel_axis))
            own.set_xlabel(name, fontsize=10)
        heat = maps
        if heat.ndim == 3:  # what a pixel adds is the sum over its channels
            heat = heat.sum(axis=0 if self.channel_axis is None else self.channel_axis)
        options = {"cmap": diverging_colormap(), "norm": centred_norm(heat)}
        image = self.axes_[-1].imshow(heat, interpolation="nearest", **options)
        self.axes_[-1].set(xticks=[], yticks=[])
        self.axes_[-1].set_xlabel(_LABEL, fontsize=10)
        self.figure_.colorbar(image, ax=self.axes_.tolist(), pad=0.02, ticks=bar_ticks())


def _reference(estimator, one, shape):
    """Return what a sample is compared with, if it is one row in the sample's own columns."""
    if estimator.baseline_ is not None and len(estimator.baseline_) > 1:
        return None
    found = rows_of(estimator.references(one), 0)
    return found if found.shape == tuple(shape) else None


def _value_of(sample, reference, i):
    """Write a cell, and what it is compared with."""
    text = shortened(format_value(sample[i]), 16)
    if reference is None:
        return text
    return f"{text} (not {shortened(format_value(reference[i]), 16)})"


def _on_entries(values, index, shape):
    """Give every entry the attribution of its group, 0 where it is in none."""
    if (
        index.shape != tuple(shape)
        or index.dtype.kind not in "iu"
        or index.max(initial=-1) >= len(values)
    ):
        raise ValueError(
            f"group_index of shape {index.shape} and dtype {index.dtype} must be the number of a "
            f"group, below {len(values)}, for every entry of a sample of shape {tuple(shape)}."
        )
    return np.where(index >= 0, values[index], 0.0)
