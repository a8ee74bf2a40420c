"""Display of a sample with the training examples that matter most for it."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..base import BaseExplainer
from ..samples import resolve_kind, sample_of
from ..utils import (
    NONE,
    Axes,
    ChannelAxis,
    Entries,
    Integer,
    Integers,
    Kind,
    Names,
    Numbers,
    Text,
    as_array,
    as_array_like,
    check_params,
    check_positive_int,
    visible_text,
)
from ._channels import ChannelScales, name_channels
from ._params import AXES, COUNT, KIND, NAMES, VALUES, check_length, checked_numbers
from ._samples import (
    as_channels,
    as_drawn,
    channel_labels,
    column_names,
    draw_image,
    format_value,
    row_at,
    rows_of,
    samples_at,
)
from ._style import (
    BLUE,
    get_axes,
    ink,
    split_axes,
)


class ExampleDisplay:
    """A sample and the training examples that are most important for its representation.

    Parameters
    ----------
    sample : array-like
        The sample; shapes as in `AttributionDisplay`.
    examples : array-like of shape (n_examples, *sample.shape)
        The training examples, most important first.
    importance : array-like of shape (n_examples,) or None, default=None
        Importance of each; shown as a share of the first, or as it is if that is not positive.
    titles : sequence of str or None, default=None
        A title for each example; None: its rank, and its importance if known.
    sample_title : str, default="sample"
        The sample's title.
    kind : {"table", "series", "image"} or None, default=None
        How to draw, as in `AttributionDisplay`.
    channel_axis : int or None, default=None
        The sample's axis that holds channels.
    feature_names : array-like of str or None, default=None
        Column names, for tables.
    channel_names : array-like of str or None, default=None
        Names of a series' channels. Where these are of very different scale they are drawn in
        bands, each on its own scale.
    n_columns : int, default=3
        Number of panels beside each other, for series and images.
    n_top : int, default=10
        Number of columns to show, for tables: the first ones, or those in `columns`.
    columns : array-like of int or None, default=None
        Which columns to show, for tables.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where it was drawn; an empty frame around `axes_`.
    axes_ : ndarray of matplotlib.axes.Axes
        The sample's axes and the examples', or the one of a table.
    figure_ : matplotlib.figure.Figure
        The figure.

    See Also
    --------
    sklexplain.DKNNImportance : What computes example importance.
    sklexplain.SimplExImportance : What computes example importance.

    Examples
    --------
    >>> from sklexplain.datasets import make_motif_series
    >>> from sklexplain.plotting import ExampleDisplay
    >>> X, _, _ = make_motif_series(n_samples=6, random_state=0)
    >>> display = ExampleDisplay(X[0], X[1:], channel_axis=0).plot()
    >>> len(display.axes_)
    6
    """

    _parameter_constraints = {
        "sample": VALUES,
        "examples": VALUES,
        "importance": [Numbers(), NONE],
        "titles": NAMES,
        "sample_title": [Text()],
        "kind": KIND,
        "channel_axis": AXES,
        "feature_names": NAMES,
        "channel_names": NAMES,
        "n_columns": COUNT,
        "n_top": COUNT,
        "columns": [Entries("a sequence", Integer(None)), NONE],
    }

    def __init__(
        self,
        sample: ArrayLike,
        examples: ArrayLike,
        *,
        importance: ArrayLike | None = None,
        titles: Names | None = None,
        sample_title: str = "sample",
        kind: Kind = None,
        channel_axis: int | None = None,
        feature_names: Names | None = None,
        channel_names: Names | None = None,
        n_columns: int = 3,
        n_top: int = 10,
        columns: Integers | None = None,
    ) -> None:
        self.sample = sample
        self.examples = examples
        self.importance = importance
        self.titles = titles
        self.sample_title = sample_title
        self.kind = kind
        self.channel_axis = channel_axis
        self.feature_names = feature_names
        self.channel_names = channel_names
        self.n_columns = n_columns
        self.n_top = n_top
        self.columns = columns

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseExplainer,
        X: ArrayLike,
        *,
        X_train: ArrayLike | None = None,
        index: int = 0,
        n_examples: int = 5,
        kind: Kind = None,
        channel_axis: ChannelAxis = "auto",
        ax: Axes | None = None,
        **kw: Any,
    ) -> Self:
        """Find and draw the top training examples of one sample.

        Of `SimplExImportance`, every example's weight is shown; those without one are the next to
        have one, see its ``reduced_cost``.

        Parameters
        ----------
        estimator : DKNNImportance
            Fitted on X_train; any explainer with ``top_examples`` will do.
        X : array-like or DataFrame of shape (n_samples, ...)
            Samples.
        X_train : array-like or DataFrame of shape (n_train, ...) or None, default=None
            What the explainer was fitted on. None: what it has kept of it, which is all but where
            the first steps of a Pipeline are run outside torch, such as encoders of text.
        index : int, default=0
            Position of the sample in X.
        n_examples : int, default=5
            Number of training examples.
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
        display : ExampleDisplay

        Raises
        ------
        TypeError
            If X_train is None, and the explainer does not keep training examples.
        ValueError
            If it has kept something else of them, or X_train has other rows than it was fitted on.
        """
        seen = sample_of(estimator).seen_as(kind, channel_axis)
        one = row_at(X, index)
        importance, labels, places = _top(estimator, one, n_examples)
        examples = _examples(estimator, X_train, labels, places)
        kw.setdefault("feature_names", getattr(estimator, "feature_names_in_", None))
        titles = [f"training example {label}" for label in labels]
        if _shows_weights(estimator):  # shares of a combination, most of which are 0
            pairs = zip(titles, importance, strict=True)
            titles = [f"{title} (weight {weight:.2g})" for title, weight in pairs]
        kw.setdefault("titles", titles)
        kw |= {"kind": seen.kind, "channel_axis": seen.channel_axis}
        drawn = as_drawn(estimator, one)
        sample = rows_of(drawn, 0)
        if drawn is not one:  # most words are in none of these texts
            used = np.abs(np.stack([sample, *examples])).max(axis=0)
            kw.setdefault("columns", np.argsort(-used, kind="stable"))
        display = cls(sample, examples, importance=importance, **kw)
        return display.plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the sample and its examples.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        display : ExampleDisplay
            Itself, with ``ax_``, ``axes_`` and ``figure_``.

        Raises
        ------
        ValueError
            If shapes do not fit together.
        """
        check_params(self)
        sample, examples = as_array(self.sample, "sample"), as_array(self.examples, "examples")
        if examples.shape[1:] != sample.shape or len(examples) == 0:
            raise ValueError(
                f"examples of shape {examples.shape} do not fit to a sample of shape "
                f"{sample.shape}: (n_examples, *sample.shape) is needed, with an example or more."
            )
        kind = resolve_kind(self.kind, sample.shape, self.channel_axis)
        if kind == "table":
            self._table(ax, sample, examples)
        else:
            self._panels(ax, kind, [sample, *examples])
        return self

    def _titles(self, n):
        if self.titles is not None:
            check_length("titles", self.titles, n, "one for each example")
            return [visible_text(title) for title in self.titles]
        if self.importance is None:
            return [f"example {i + 1}" for i in range(n)]
        of = "a number for each example"
        importance = checked_numbers("importance", self.importance, (n,), of)
        if not importance[0] > 0:
            return [f"example {i + 1} ({value:.2g})" for i, value in enumerate(importance)]
        return [f"example {i + 1} ({s:.0%})" for i, s in enumerate(importance / importance[0])]

    def _panels(self, ax, kind, samples):
        n_columns = min(self.n_columns, len(samples))
        n_rows = -(-len(samples) // n_columns)
        self.figure_, self.ax_ = get_axes(ax, (5.0, 0.2 + 1.35 * n_rows))
        grid = split_axes(self.ax_, n_rows, n_columns).ravel()
        self.axes_, spare = grid[: len(samples)], grid[len(samples) :]
        for unused in spare:
            unused.set_visible(False)
        titles = [visible_text(self.sample_title), *self._titles(len(samples) - 1)]
        samples = [as_channels(values, kind, self.channel_axis) for values in samples]
        colors = [ink()] + [BLUE] * (len(samples) - 1)
        for panel, title, color in zip(self.axes_, titles, colors, strict=True):
            panel.set_title(title, fontsize=9, color=color, parse_math=False)
        if kind == "series":
            self._series(np.stack(samples), colors)
        else:
            for panel, image in zip(self.axes_, samples, strict=True):
                draw_image(panel, image)

    def _series(self, samples, colors):
        scales = ChannelScales(samples)
        names = channel_labels(self.channel_names, samples.shape[1])
        for panel, sample, color in zip(self.axes_, samples, colors, strict=True):
            scales.draw(panel, sample, color=color)
            panel.spines[["top", "right", "bottom", "left"]].set_visible(False)
            panel.set(xticks=[], yticks=[])
        lower, upper = zip(*(panel.get_ylim() for panel in self.axes_), strict=True)
        for panel in self.axes_:
            panel.set_ylim(min(lower), max(upper))
        if scales.apart_:
            for first in self.axes_[:: self.n_columns]:
                scales.name(first, names)
        elif len(names) > 1:
            name_channels(self.ax_, self.axes_[0].get_lines(), names)

    def _chosen(self, n):
        columns = np.asarray(self.columns, dtype=int)
        if not len(columns) or not ((-n <= columns) & (columns < n)).all():
            raise ValueError(
                f"columns={columns.tolist()} must name one or more of the {n} columns, from 0 to "
                f"{n - 1}."
            )
        return columns

    def _table(self, ax, sample, examples):
        names = column_names(self.feature_names, len(sample))
        shown = np.arange(len(names)) if self.columns is None else self._chosen(len(names))
        shown = shown[: self.n_top]
        self.figure_, self.ax_ = get_axes(ax, (1.5 + 1.0 * len(examples), 0.6 + 0.27 * len(shown)))
        self.axes_ = np.array([self.ax_])
        self.ax_.set_axis_off()
        cells = [[format_value(row[i]) for row in [sample, *examples]] for i in shown]
        table = self.ax_.table(
            cells,
            rowLabels=[names[i] for i in shown],
            colLabels=[visible_text(self.sample_title), *self._titles(len(examples))],
            loc="center",
        )
        table.auto_set_font_size(False)
        table.set_fontsize(8)
        for cell in table.get_celld().values():
            cell.set_edgecolor("#cccccc")
            cell.set_facecolor("none")  # texts are in the style's colour, for its own paper
            cell.get_text().set_parse_math(False)


def _shows_weights(estimator):
    return hasattr(estimator, "reduced_cost")


def _top(estimator, one, k):
    """Return importance, labels and positions of one sample's examples; positions may be None."""
    if not hasattr(estimator, "_top_places"):
        importance, labels = estimator.top_examples(one, k)
        return importance[0], labels[0], None
    check_positive_int("n_examples", k)
    importance, places = estimator._top_places(one, k)
    # Labels alone do not tell which rows are meant: two may have the same one.
    return importance[0], estimator.corpus_index_[places[0]], places[0]


def _examples(estimator, X_train, labels, places):
    """Return training examples by their positions, from X_train or from what was kept of it."""
    if X_train is None:
        kept = getattr(estimator, "_examples_at", None)
        if kept is None:
            raise TypeError(
                f"{type(estimator).__name__} does not keep its training examples: give X_train, "
                "what it was fitted on."
            )
        return rows_of(kept(places), slice(None))
    X_train = as_array_like(X_train, "X_train")
    n_fitted = len(getattr(estimator, "corpus_index_", ()))
    if n_fitted and len(X_train) != n_fitted:
        raise ValueError(
            f"X_train has {len(X_train)} rows, but {type(estimator).__name__} was fitted on "
            f"{n_fitted}: give what it was fitted on, or nothing."
        )
    if places is None:  # of an explainer that is none of the library's
        places = _places_of(labels, X_train)
    return rows_of(as_drawn(estimator, samples_at(X_train, places)), slice(None))


def _places_of(labels, X_train):
    """Find rows by what ``top_examples`` of another explainer says of them."""
    if not hasattr(X_train, "loc"):
        return labels
    if not X_train.index.is_unique:
        raise ValueError(
            f"X_train has {_repeated(X_train.index)!r} in its index more than once, so labels do "
            "not tell which rows are meant: give X_train.to_numpy(), and an explainer that was "
            "fitted on it."
        )
    places = X_train.index.get_indexer(labels)
    if (places < 0).any():
        absent = np.asarray(labels).tolist()[places.argmin()]
        raise ValueError(
            f"X_train has no row labelled {absent!r}: give the DataFrame that the explainer was "
            "fitted on."
        )
    return places


def _repeated(index):
    return index[index.duplicated()].tolist()[0]
