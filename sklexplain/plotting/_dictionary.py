"""Display of a dictionary's concepts by the samples that have most of them."""

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
    Integers,
    Kind,
    Names,
    Numbers,
    Params,
    as_array,
    as_array_like,
    check_params,
    check_positive_int,
)
from ._attribution import _coloured_line
from ._params import AXES, COUNT, KIND, NAMES, VALUES, as_numbers
from ._samples import (
    as_channels,
    as_drawn,
    column_names,
    draw_image,
    format_value,
    numbers_of,
    rows_of,
    samples_at,
    shortened,
)
from ._style import (
    centred_norm,
    diverging_colormap,
    get_axes,
    ink,
    plain_axes,
    split_axes,
)


class DictionaryDisplay:
    """Concepts, each shown by the samples that have most of it, and by where it comes from.

    A row a concept, most of it on the left. A series is a line coloured by the concept's map, an
    image has the map on top of it; of a table there is one panel a concept, with the columns whose
    mean map over the examples is largest, and the median (or most frequent) value that they have
    there. Red adds to the concept, blue takes from it.

    Parameters
    ----------
    examples : array-like of shape (n_concepts, n_examples, *sample_shape)
        Samples, in raw units; a table's rows may hold categories.
    values : array-like of shape (n_concepts, n_examples)
        The concepts' values; samples of value 0 do not have the concept and are not drawn.
    maps : array-like of shape (n_concepts, n_examples, *sample_shape) or None, default=None
        Where the concepts come from; None: not drawn (of tables they are needed).
    titles : sequence of str or None, default=None
        A name for each concept.
    kind : {"table", "series", "image"} or None, default=None
        How to draw. None: "table" for one axis, "series" for two axes of which `channel_axis` is
        one, else "image".
    channel_axis : int or None, default=None
        The sample's axis that holds channels.
    feature_names : array-like of str or None, default=None
        Column names.
    n_top : int, default=5
        Number of columns to draw for each concept, for tables.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where it was drawn, an empty frame.
    axes_ : ndarray of matplotlib.axes.Axes of shape (n_concepts, n_examples)
        The panels; (n_concepts, 1) for tables.
    figure_ : matplotlib.figure.Figure
        The figure.

    See Also
    --------
    sklexplain.SparseDictionary : What finds the concepts.
    sklexplain.plotting.ConceptDisplay : A few concepts.

    Examples
    --------
    >>> import numpy as np
    >>> from sklexplain.plotting import DictionaryDisplay
    >>> series = np.sin(np.arange(60.0)).reshape(2, 3, 1, 10)
    >>> display = DictionaryDisplay(series, [[3, 2, 1], [5, 1, 0]], channel_axis=0).plot()
    >>> display.axes_.shape
    (2, 3)
    """

    _parameter_constraints = {
        "examples": VALUES,
        "values": [Numbers()],
        "maps": [Numbers(), NONE],
        "titles": NAMES,
        "kind": KIND,
        "channel_axis": AXES,
        "feature_names": NAMES,
        "n_top": COUNT,
    }

    def __init__(
        self,
        examples: ArrayLike,
        values: ArrayLike,
        maps: ArrayLike | None = None,
        *,
        titles: Names | None = None,
        kind: Kind = None,
        channel_axis: int | None = None,
        feature_names: Names | None = None,
        n_top: int = 5,
    ) -> None:
        self.examples = examples
        self.values = values
        self.maps = maps
        self.titles = titles
        self.kind = kind
        self.channel_axis = channel_axis
        self.feature_names = feature_names
        self.n_top = n_top

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseExplainer,
        X: ArrayLike,
        *,
        concepts: Integers | None = None,
        n_concepts: int = 6,
        n_examples: int = 4,
        method: str | None = "integrated_gradients",
        method_params: Params = None,
        baseline: Baseline = "mean",
        kind: Kind = None,
        channel_axis: ChannelAxis = "auto",
        ax: Axes | None = None,
        **kw: Any,
    ) -> Self:
        """Find and draw the examples of concepts.

        Parameters
        ----------
        estimator : SparseDictionary
            Fitted.
        X : array-like or DataFrame of shape (n_samples, ...)
            Samples to choose from.
        concepts : array-like of int or None, default=None
            Which concepts; None: the first `n_concepts`, which rebuild most.
        n_concepts : int, default=6
            How many, without `concepts`.
        n_examples : int, default=4
            How many samples for each.
        method : str or None, default="integrated_gradients"
            Of the maps; None: no maps.
        method_params, baseline
            See `SparseDictionary.concept_attributions`.
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
        display : DictionaryDisplay
        """
        seen = sample_of(estimator).seen_as(kind, channel_axis)
        if concepts is None:
            check_positive_int("n_concepts", n_concepts)
            concepts = np.arange(min(n_concepts, estimator.n_active_concepts_ or 1))
        concepts = np.atleast_1d(np.asarray(concepts))
        X = as_array_like(X)
        # By position, whatever the labels are.
        plain = X.reset_index(drop=True) if hasattr(X, "reset_index") else X
        values, places = estimator.top_examples(plain, n_examples, concepts=concepts)
        taken = [as_drawn(estimator, samples_at(X, rows)) for rows in places]
        examples = np.stack([rows_of(some, slice(None)) for some in taken])
        maps = None
        if method is not None:
            options = {"method_params": method_params, "baseline": baseline}
            maps = np.stack(
                [
                    estimator.concept_attributions(
                        samples_at(plain, rows), method, concepts=[concept], **options
                    )[:, 0]
                    for concept, rows in zip(concepts.tolist(), places, strict=True)
                ]
            )
        shares = estimator.frequencies_[concepts]
        titles = [
            f"concept {concept} ({share:.0%} of samples)"
            for concept, share in zip(concepts % len(estimator.frequencies_), shares, strict=True)
        ]
        kw.setdefault("titles", titles)
        kw.setdefault("feature_names", getattr(estimator, "feature_names_in_", None))
        kw |= {"kind": seen.kind, "channel_axis": seen.channel_axis}
        return cls(examples, values, maps, **kw).plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the concepts.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        display : DictionaryDisplay
            Itself, with ``ax_``, ``axes_`` and ``figure_``.

        Raises
        ------
        ValueError
            If shapes do not fit together, or a table has no maps.
        """
        check_params(self)
        examples, values = as_array(self.examples, "examples"), as_numbers(self.values, "values")
        maps = None if self.maps is None else as_numbers(self.maps, "maps")
        if examples.ndim < 3 or 0 in examples.shape[:2] or values.shape != examples.shape[:2]:
            raise ValueError(
                f"examples of shape {examples.shape} and values of shape {values.shape} do not fit "
                "together: (n_concepts, n_examples, *sample_shape) and (n_concepts, n_examples) "
                "are needed, with a concept and an example or more."
            )
        if maps is not None and maps.shape != examples.shape:
            raise ValueError(f"maps of shape {maps.shape} do not fit to {examples.shape} examples.")
        titles = self.titles
        if titles is None:
            titles = [f"concept {i}" for i in range(len(examples))]
        if len(titles) != len(examples):
            raise ValueError(f"{len(titles)} titles for {len(examples)} concepts.")
        kind = resolve_kind(self.kind, examples.shape[2:], self.channel_axis)
        if kind == "table":
            if maps is None:
                raise ValueError("a table's concepts are drawn by their maps; give maps.")
            self._tables(ax, examples, values, maps, titles)
        else:
            self._panels(ax, kind, examples, values, maps, titles)
        return self

    def _panels(self, ax, kind, examples, values, maps, titles):
        n_concepts, n_examples = values.shape
        width, height = {"series": (2.0, 1.1), "image": (1.5, 1.6)}[kind]
        size = (0.6 + width * n_examples, 0.3 + height * n_concepts)
        self.figure_, self.ax_ = get_axes(ax, size)
        self.axes_ = split_axes(self.ax_, n_concepts, n_examples)
        norms = [centred_norm(one) for one in (values if maps is None else maps)]
        for concept, row in enumerate(self.axes_):
            for place, panel in enumerate(row):
                panel.set(xticks=[], yticks=[])
                panel.spines[:].set_visible(False)
                if not values[concept, place]:
                    continue
                sample = as_channels(examples[concept, place], kind, self.channel_axis)
                one = None if maps is None else maps[concept, place]
                draw = _draw_series if kind == "series" else _draw_image
                draw(panel, sample, one, norms[concept], self.channel_axis)
                label = f"{values[concept, place]:.3g}"
                panel.set_xlabel(label, fontsize=7, labelpad=1)
            row[0].set_title(titles[concept], fontsize=9, loc="left", parse_math=False)

    def _tables(self, ax, examples, values, maps, titles):
        names = column_names(self.feature_names, examples.shape[2])
        n_concepts = len(examples)
        size = (4.4, 0.4 + n_concepts * (0.45 + 0.22 * min(self.n_top, len(names))))
        self.figure_, self.ax_ = get_axes(ax, size)
        self.axes_ = split_axes(self.ax_, n_concepts, 1)
        for panel, rows, value, one, title in zip(
            self.axes_[:, 0], examples, values, maps, titles, strict=True
        ):
            have = value > 0
            panel.set_title(title, fontsize=9, loc="left", parse_math=False)
            if not have.any():
                panel.set_axis_off()
                continue
            mean = one[have].mean(axis=0)
            top = np.argsort(-np.abs(mean), kind="stable")[: self.n_top]
            colors = diverging_colormap()(centred_norm(mean)(mean[top]))
            places = np.arange(len(top))
            panel.barh(places, mean[top], color=colors, edgecolor=ink(), linewidth=0.4)
            panel.axvline(0, color=ink(), linewidth=0.8)
            labels = [f"{shortened(names[i], 18)} ≈ {_typical(rows[have, i])}" for i in top]
            panel.set_yticks(places, labels, fontsize=7, parse_math=False)
            panel.tick_params(axis="x", labelsize=7)
            panel.invert_yaxis()
            plain_axes(panel)


def _typical(cells):
    """Median of numbers, of other cells the most frequent, as text."""
    numbers = numbers_of(cells)
    if numbers is not None and not np.isnan(numbers).all():
        return format_value(float(np.nanmedian(numbers)))
    texts, counts = np.unique([format_value(cell) for cell in cells], return_counts=True)
    return shortened(str(texts[np.argmax(counts)]), 18)


def _draw_series(ax, lines, heat, norm, channel_axis):
    colours = None if heat is None else as_channels(heat, "series", channel_axis)
    for i, line in enumerate(lines):
        if colours is None:
            ax.plot(line, color=ink(), linewidth=0.9)
        else:
            _coloured_line(ax, line, colours[i], diverging_colormap(), norm)


def _draw_image(ax, image, heat, norm, channel_axis):
    draw_image(ax, image)
    if heat is None:
        return
    if heat.ndim == 3:  # what matters at a pixel is the sum over its channels
        heat = heat.sum(axis=0 if channel_axis is None else channel_axis)
    strength = np.abs(heat) / norm.vmax
    options = {"cmap": diverging_colormap(), "norm": norm, "interpolation": "nearest"}
    ax.imshow(heat, alpha=np.clip(strength, 0.15, 0.85), **options)
