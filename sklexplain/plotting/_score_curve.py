"""Display of score curves."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from ..base import BaseExplainer
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
from ._params import NAMES, checked_numbers
from ._style import BLUE, MUTED, get_axes, plain_axes


class ScoreCurveDisplay:
    """A score over the layers of a network, from first to last.

    Several networks are compared by drawing one display after another into the same axes,
    ``display.plot(ax=ax, label="untrained", color="tab:orange")``.

    Parameters
    ----------
    layers : array-like of str of shape (n_layers,)
        Names of the layers, in call order.
    scores : array-like of shape (n_samples, n_layers)
        Every sample's scores.
    benchmark : array-like of shape (n_layers,) or None, default=None
        The score between noise inputs, which has no samples in it.
    upper_bound : float or None, default=None
        The largest value there can be.
    standard_errors : array-like of shape (n_layers,) or None, default=None
        Of the means over samples; twice as much is drawn as error bars.
    name : str, default="score"
        What the score is called.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where it was drawn.
    figure_ : matplotlib.figure.Figure
        The figure.
    line_ : matplotlib.lines.Line2D
        The mean over samples.
    benchmark_line_, bound_line_ : matplotlib.lines.Line2D or None
        The benchmark and the bound.

    See Also
    --------
    sklexplain.NoiseScorer, sklexplain.VarianceScorer : What computes the scores.

    Examples
    --------
    >>> from sklexplain import VarianceScorer
    >>> from sklexplain.datasets import make_relevant_columns
    >>> from sklexplain.nets import Autoencoder
    >>> from sklexplain.plotting import ScoreCurveDisplay
    >>> X, _, _ = make_relevant_columns(random_state=0)
    >>> autoencoder = Autoencoder(max_epochs=3, validation_split=None, random_state=0).fit(X)
    >>> display = ScoreCurveDisplay.from_estimator(VarianceScorer(autoencoder).fit(X), X)
    >>> display.ax_.get_ylabel()
    'variance score'
    """

    _parameter_constraints = {
        "layers": NAMES[:1],
        "scores": [Numbers()],
        "benchmark": [Numbers(), NONE],
        "upper_bound": [Number(), NONE],
        "standard_errors": [Numbers(), NONE],
        "name": [Text()],
    }

    def __init__(
        self,
        layers: Names,
        scores: ArrayLike,
        *,
        benchmark: ArrayLike | None = None,
        upper_bound: float | None = None,
        standard_errors: ArrayLike | None = None,
        name: str = "score",
    ) -> None:
        self.layers = layers
        self.scores = scores
        self.benchmark = benchmark
        self.upper_bound = upper_bound
        self.standard_errors = standard_errors
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseExplainer,
        X: ArrayLike,
        *,
        ax: Axes | None = None,
        label: str | None = None,
        color: object = None,
    ) -> Self:
        """Compute and draw the curve of a fitted scorer.

        Parameters
        ----------
        estimator : NoiseScorer or VarianceScorer
            Fitted.
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples, best held out.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None for a new figure.
        label : str or None, default=None
            See `plot`.
        color : object, default=None
            See `plot`.

        Returns
        -------
        display : ScoreCurveDisplay
        """
        noise = hasattr(estimator, "benchmark_")
        errors = None
        if estimator.n_units is not None:
            errors = estimator.confidence_interval(X).layer_standard_errors
        display = cls(
            estimator.get_feature_names_out(),
            np.asarray(estimator.transform(X)),
            benchmark=estimator.benchmark_ if noise else None,
            upper_bound=None if noise else 0.25,
            standard_errors=errors,
            name="noise score" if noise else "variance score",
        )
        return display.plot(ax=ax, label=label, color=color)

    def plot(
        self, ax: Axes | None = None, *, label: str | None = None, color: object = None
    ) -> Self:
        """Draw the mean over samples, its quartiles, and what there is to compare it with.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None for a new figure.
        label : str or None, default=None
            Name of the curve in the legend; None: "samples".
        color : object, default=None
            Any colour of matplotlib; None: blue.

        Returns
        -------
        display : ScoreCurveDisplay
            Itself, with ``ax_`` and ``figure_``.

        Raises
        ------
        ValueError
            If the numbers of layers and scores differ.
        """
        check_params(self)
        scores = as_array(self.scores, "scores").astype(np.float64)
        layers = [visible_text(layer) for layer in self.layers]
        if scores.ndim != 2 or scores.shape[1] != len(layers):
            raise ValueError(
                f"scores of shape {scores.shape} do not fit to {len(layers)} layers: they must "
                "have the shape (n_samples, n_layers)."
            )
        self.figure_, self.ax_ = get_axes(ax, (max(4.5, 1 + 0.45 * len(layers)), 3.3))
        color = BLUE if color is None else color
        at, mean = np.arange(len(layers)), scores.mean(axis=0)
        (self.line_,) = self.ax_.plot(
            at, mean, color=color, marker="o", markersize=4.5, label=label or "samples"
        )
        low, high = np.percentile(scores, [25, 75], axis=0)
        self.ax_.fill_between(at, low, high, color=color, alpha=0.2, linewidth=0)
        if self.standard_errors is not None:
            of = "a number for each layer"
            errors = 2 * checked_numbers("standard_errors", self.standard_errors, at.shape, of)
            if not (errors >= 0).all():
                raise ValueError("standard_errors must be at least 0.")
            self.ax_.errorbar(at, mean, errors, fmt="none", ecolor=color, capsize=3)
        self._draw_references(at, label)
        rotation = {"rotation": 30, "ha": "right"} if len(layers) > 3 else {}
        self.ax_.set_xticks(at, layers, parse_math=False, **rotation)
        self.ax_.set(xlabel="layer", ylabel=self.name)
        self.ax_.set_ylim(bottom=0)
        self.ax_.legend(frameon=False, fontsize=9)
        plain_axes(self.ax_)
        return self

    def _draw_references(self, at, label):
        """Draw the benchmark and the bound."""
        self.benchmark_line_ = self.bound_line_ = None
        if self.benchmark is not None:
            of = "a number for each layer"
            benchmark = checked_numbers("benchmark", self.benchmark, at.shape, of)
            name = "noise" if label is None else f"noise, {label}"
            (self.benchmark_line_,) = self.ax_.plot(
                at, benchmark, color=self.line_.get_color(), linestyle="--", label=name
            )
        if self.upper_bound is not None:
            self.bound_line_ = self.ax_.axhline(
                self.upper_bound, color=MUTED, linestyle=":", label="largest possible"
            )
