"""Display of latent-shift curves."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch

from ..base import BaseExplainer
from ..utils import NONE, Axes, Number, Numbers, check_params
from ._params import checked_numbers
from ._style import BLUE, MUTED, ORANGE, get_axes, plain_axes


class LatentShiftDisplay:
    """How far masking features moves the representation: most and least important, and random.

    An explanation is better than chance if masking what it calls important moves the representation
    further than masking as many features at random, and masking what it calls unimportant less far.

    Parameters
    ----------
    fractions : array-like of shape (n_points,)
        Share of the features that is masked.
    most, least, random : array-like of shape (n_points,)
        Mean shift when the most important, the least important, or random features are masked.
    random_std : array-like of shape (n_points,) or None, default=None
        Standard deviation of ``random`` between the random orders.
    area_ratio : float or None, default=None
        Area under ``most`` over that under ``random``.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where it was drawn.
    figure_ : matplotlib.figure.Figure
        The figure.
    lines_ : list of matplotlib.lines.Line2D
        The three curves.

    See Also
    --------
    sklexplain.metrics.latent_shift_curve : What computes the curves.
    sklexplain.LabelFreeAttributor : Whose ``score`` is their ratio of areas.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from sklexplain import LabelFreeAttributor
    >>> from sklexplain.datasets import make_relevant_columns
    >>> from sklexplain.plotting import LatentShiftDisplay
    >>> X, _, _ = make_relevant_columns(random_state=0)
    >>> attributor = LabelFreeAttributor(PCA(n_components=2), random_state=0).fit(X)
    >>> display = LatentShiftDisplay.from_estimator(attributor, X)
    >>> len(display.lines_)
    3
    """

    _parameter_constraints = {
        "fractions": [Numbers()],
        "most": [Numbers()],
        "least": [Numbers()],
        "random": [Numbers()],
        "random_std": [Numbers(), NONE],
        "area_ratio": [Number(), NONE],
    }

    def __init__(
        self,
        fractions: ArrayLike,
        most: ArrayLike,
        least: ArrayLike,
        random: ArrayLike,
        *,
        random_std: ArrayLike | None = None,
        area_ratio: float | None = None,
    ) -> None:
        self.fractions = fractions
        self.most = most
        self.least = least
        self.random = random
        self.random_std = random_std
        self.area_ratio = area_ratio

    @classmethod
    def from_estimator(
        cls, estimator: BaseExplainer, X: ArrayLike, *, n_random: int = 10, ax: Axes | None = None
    ) -> Self:
        """Compute and draw the curves of a fitted attributor.

        Parameters
        ----------
        estimator : LabelFreeAttributor
            Fitted.
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples, best held out.
        n_random : int, default=10
            Number of random orders.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        display : LatentShiftDisplay
        """
        return cls.from_curve(estimator.latent_shift(X, n_random=n_random), ax=ax)

    @classmethod
    def from_curve(cls, curve: Bunch, *, ax: Axes | None = None) -> Self:
        """Draw what `sklexplain.metrics.latent_shift_curve` returned.

        Parameters
        ----------
        curve : Bunch
            The curves.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        display : LatentShiftDisplay
        """
        display = cls(
            curve.fractions,
            curve.most,
            curve.least,
            curve.random,
            random_std=curve.random_std,
            area_ratio=curve.area_ratio,
        )
        return display.plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        display : LatentShiftDisplay
            Itself, with ``ax_`` and ``figure_``.
        """
        area_ratio = check_params(self)["area_ratio"]
        fractions = checked_numbers(
            "fractions", self.fractions, np.shape(self.fractions)[:1], "one for each point"
        )
        curves = {
            name: checked_numbers(
                name, getattr(self, name), fractions.shape, "one for each of fractions"
            )
            for name in ("most", "random", "least", "random_std")
            if getattr(self, name) is not None
        }
        self.figure_, self.ax_ = get_axes(ax, (5.0, 3.3))
        percent = 100 * fractions
        styles = {
            # Marker and dash tell the lines apart where colours do not.
            "most": ("most important first", {"color": ORANGE, "marker": "o"}),
            "random": ("random", {"color": MUTED, "linestyle": "--"}),
            "least": ("least important first", {"color": BLUE, "marker": "s"}),
        }
        self.lines_ = [
            self.ax_.plot(percent, curves[name], label=label, markersize=4.5, **style)[0]
            for name, (label, style) in styles.items()
        ]
        if self.random_std is not None:
            middle, spread = curves["random"], 2 * curves["random_std"]
            self.ax_.fill_between(
                percent, middle - spread, middle + spread, color=MUTED, alpha=0.25, linewidth=0
            )
        self.ax_.set(xlabel="features masked (%)", ylabel="shift of the representation")
        if area_ratio is not None:
            self.ax_.set_title(f"{area_ratio:.2f} × random masking (1 = chance)", fontsize=10)
        self.ax_.set_xlim(0, 101)
        self.ax_.set_ylim(bottom=0)
        self.ax_.legend(frameon=False, fontsize=9)
        plain_axes(self.ax_)
        return self
