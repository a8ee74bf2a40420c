"""Display of readable models of latent units: how well each unit is told, and from what."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..base import BaseExplainer
from ..utils import (
    NONE,
    Axes,
    Entries,
    Integer,
    Integers,
    Names,
    Numbers,
    as_array,
    check_params,
)
from ._params import COUNT, NAMES, as_numbers
from ._samples import column_names, shortened
from ._style import (
    BLUE,
    get_axes,
    ink,
    plain_axes,
    split_axes,
)


class SurrogateDisplay:
    """How well readable models tell latent units, and what they read.

    Bars on the left are the units' R² on held-out samples, those told best first; a negative one is
    drawn as 0, as nothing is told. On the right stands the share of each column in what a unit's
    model explains, columns that matter most over all units first.

    Parameters
    ----------
    r2 : array-like of shape (n_units,)
        R² of every unit; NaN of those that do not vary, which are not drawn.
    importances : array-like of shape (n_units, n_columns)
        Share of every column.
    units : array-like of int or None, default=None
        The units' numbers; None: from 0 on.
    column_names : array-like of str or None, default=None
        Names of the columns.
    n_units : int, default=15
        Most units that are drawn.
    n_columns : int, default=12
        Most columns that are drawn.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where it was drawn, an empty frame.
    bar_ax_, map_ax_ : matplotlib.axes.Axes
        The axes with R², and those with the columns.
    order_ : ndarray of int
        Places of the units that are drawn, from above.
    columns_ : ndarray of int
        The columns that are drawn, from the left.
    figure_ : matplotlib.figure.Figure
        The figure.

    See Also
    --------
    sklexplain.LatentSurrogate : What makes the models, and writes them as text.

    Examples
    --------
    >>> from sklexplain.plotting import SurrogateDisplay
    >>> display = SurrogateDisplay([0.2, 0.9], [[1, 0, 0], [0, 0.5, 0.5]]).plot()
    >>> display.order_
    array([1, 0])
    """

    _parameter_constraints = {
        "r2": [Numbers()],
        "importances": [Numbers()],
        "units": [Entries("a sequence", Integer(0)), NONE],
        "column_names": NAMES,
        "n_units": COUNT,
        "n_columns": COUNT,
    }

    def __init__(
        self,
        r2: ArrayLike,
        importances: ArrayLike,
        *,
        units: Integers | None = None,
        column_names: Names | None = None,
        n_units: int = 15,
        n_columns: int = 12,
    ) -> None:
        self.r2 = r2
        self.importances = importances
        self.units = units
        self.column_names = column_names
        self.n_units = n_units
        self.n_columns = n_columns

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseExplainer,
        X: ArrayLike | None = None,
        *,
        ax: Axes | None = None,
        **kw: Any,
    ) -> Self:
        """Draw the models of a fitted surrogate.

        Parameters
        ----------
        estimator : LatentSurrogate
            Fitted.
        X : array-like, DataFrame or None, default=None
            Samples whose R² is drawn; None: those that were held out in ``fit``.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None for a new figure.
        **kw : object
            Other parameters of the constructor.

        Returns
        -------
        display : SurrogateDisplay
        """
        r2 = estimator.r2_ if X is None else estimator.unit_scores(X)
        kw = {"units": estimator.units_, "column_names": estimator.column_names_} | kw
        return cls(r2, estimator.importances_, **kw).plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the units.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        display : SurrogateDisplay
            Itself, with ``ax_``, ``bar_ax_``, ``map_ax_``, ``order_``, ``columns_`` and
            ``figure_``.

        Raises
        ------
        ValueError
            If shapes do not fit together, or no unit varies.
        """
        check_params(self)
        r2, shares = (
            as_numbers(self.r2, "r2"),
            as_numbers(self.importances, "importances"),
        )
        units = np.arange(len(r2)) if self.units is None else as_array(self.units, "units")
        if r2.ndim != 1 or shares.ndim != 2 or not len(r2) == len(shares) == len(units):
            raise ValueError(
                f"r2 of shape {r2.shape}, importances of shape {shares.shape} and {len(units)} "
                "units do not fit together: there must be an R², and a share of every column, for "
                "each unit."
            )
        known = np.flatnonzero(~np.isnan(r2))
        if not len(known):
            raise ValueError("r2 is NaN for every unit: none varies, so there is nothing to draw.")
        names = column_names(self.column_names, shares.shape[1], "column_names")
        self.order_ = order = known[np.argsort(-r2[known], kind="stable")][: self.n_units]
        total = (shares[order] * np.maximum(r2[order], 0)[:, None]).sum(axis=0)
        self.columns_ = np.argsort(-total, kind="stable")[: self.n_columns]
        size = (2.4 + 0.4 * len(self.columns_) + 1.2, 1.5 + 0.27 * len(order))
        self.figure_, self.ax_ = get_axes(ax, size)
        ratios = [2.2, max(2.0, 0.4 * len(self.columns_))]
        self.bar_ax_, self.map_ax_ = split_axes(self.ax_, 1, 2, width_ratios=ratios)[0]
        places = np.arange(len(order))
        bars = np.clip(r2[order], 0, 1)
        self.bar_ax_.barh(places, bars, color=BLUE, edgecolor=ink(), linewidth=0.4)
        self.bar_ax_.set_yticks(places, [f"unit {units[i]}" for i in order], fontsize=8)
        self.bar_ax_.set_xlim(0, 1)
        self.bar_ax_.set_ylim(len(order) - 0.5, -0.5)
        self.bar_ax_.set_xlabel("held-out R²", fontsize=9)
        plain_axes(self.bar_ax_)
        image = self.map_ax_.imshow(
            shares[np.ix_(order, self.columns_)],
            cmap="cividis",
            vmin=0,
            vmax=1,
            aspect="auto",
            interpolation="nearest",
        )
        self.map_ax_.set_yticks([])
        labels = [shortened(names[i], 18) for i in self.columns_]
        ticks = np.arange(len(labels))
        options = {"rotation": 90, "fontsize": 7, "parse_math": False}
        self.map_ax_.set_xticks(ticks, labels, **options)
        self.figure_.colorbar(image, ax=self.map_ax_, label="share in the model", pad=0.02)
        return self
