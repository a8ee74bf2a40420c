"""How different the maps of latent units are, and which units say anything."""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from ..utils import (
    FLAG,
    Number,
    check_choice,
    check_numbers,
    largest_size,
    rounding_of,
    validated,
    warn,
)


def saliency_entropy(maps: ArrayLike) -> float:
    r"""Entropy of how the importance of a feature is spread over latent units, on average.

    .. math:: \frac{1}{|S|} \sum_{(s, i) \in S} - \sum_j p_{sij} \ln p_{sij},
              \qquad p_{sij} = \frac{|a_{sji}|}{\sum_k |a_{ski}|},

    over the pairs S of a sample and a feature that matters to one unit at least, by more than
    rounding (appendix C.3 and figure 8 of [1]_). 0: every feature matters to a single unit;
    ln n_units: to all alike.

    Parameters
    ----------
    maps : array-like of shape (n, n_units, ...)
        Maps of single units, as ``LabelFreeAttributor.unit_attributions`` returns them.

    Returns
    -------
    entropy : float
        In nats; nan if all maps are 0.

    Raises
    ------
    ValueError
        If values are not finite, or there are none.

    Warns
    -----
    SklexplainWarning
        If all maps are 0.

    See Also
    --------
    sklexplain.metrics.unit_correlation : Whether units look at the same features.
    sklexplain.LabelFreeAttributor : Whose ``unit_attributions`` are what is judged.

    References
    ----------
    .. [1] J. Crabbé and M. van der Schaar, "Label-Free Explainability for Unsupervised Models",
       ICML 2022.

    Examples
    --------
    >>> from sklexplain.metrics import saliency_entropy
    >>> saliency_entropy([[[1.0, 0.0], [0.0, -3.0]]])  # each unit has a feature of its own
    0.0
    >>> round(saliency_entropy([[[1.0, 2.0], [-1.0, 2.0]]]), 3)
    0.693
    """
    maps, eps = _checked_maps(maps)
    maps = np.abs(maps)
    largest = maps.max(axis=1, keepdims=True)
    axes = tuple(range(1, maps.ndim))
    # What is rounding beside the sample's largest number matters to no unit.
    seen = (largest > 8 * eps * maps.max(axis=axes, keepdims=True))[:, 0]
    if not seen.any():
        warn("all maps are 0, so their entropy is not defined; nan is returned.")
        return float("nan")
    # Scaled first, so that sums neither overflow nor vanish.
    shares = np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1)
    return float(stats.entropy(shares, axis=1)[seen].mean())


@validated(average=[FLAG])
def unit_correlation(
    maps: ArrayLike,
    *,
    mode: Literal["pearson", "spearman", "cosine"] = "pearson",
    average: bool = True,
) -> float | np.ndarray:
    """Correlation of the maps of every two latent units, over all samples and features.

    Low, if the units look at different features (section 4.3 and figures 5 and 6 of [1]_).

    Parameters
    ----------
    maps : array-like of shape (n, n_units, ...)
        Maps of single units, as ``LabelFreeAttributor.unit_attributions`` returns them.
    mode : {"pearson", "spearman", "cosine"}, default="pearson"
        Correlation of values, of their ranks, or of values from which no mean is subtracted.
    average : bool, default=True
        Return the mean over pairs of units, not the matrix.

    Returns
    -------
    correlation : float, or ndarray of shape (n_units, n_units)
        Between -1 and 1. nan for pairs with a unit whose maps are constant but for rounding (for
        "cosine": 0), which the mean leaves out.

    Raises
    ------
    ValueError
        If values are not finite, there are fewer than two units, or the mode is unknown.

    Warns
    -----
    SklexplainWarning
        If the maps of a unit are constant.

    See Also
    --------
    sklexplain.metrics.saliency_correlation : Of two explanations.
    sklexplain.metrics.saliency_entropy : How importance is spread over units.

    References
    ----------
    .. [1] J. Crabbé and M. van der Schaar, "Label-Free Explainability for Unsupervised Models",
       ICML 2022.

    Examples
    --------
    >>> from sklexplain.metrics import unit_correlation
    >>> round(unit_correlation([[[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]]), 3)
    -1.0
    """
    check_choice("mode", mode, ("pearson", "spearman", "cosine"))
    maps, eps = _checked_maps(maps)
    n_units = maps.shape[1]
    if n_units < 2:
        raise ValueError("maps has a single unit, which there is none to compare with.")
    rows = np.moveaxis(maps, 1, 0).reshape(n_units, -1)
    rows = rows / largest_size(rows, axis=1)
    # What rounding alone makes vary does not.
    constant = ~rows.any(axis=1) if mode == "cosine" else np.ptp(rows, axis=1) <= 8 * eps
    if mode == "spearman":
        rows = stats.rankdata(rows, axis=1)
    if constant.any():
        warn(
            f"the maps of units {np.flatnonzero(constant).tolist()} are constant, so their "
            "correlations are not defined."
        )
    if mode != "cosine":
        rows = rows - rows.mean(axis=1, keepdims=True)
    rows = rows / largest_size(rows, axis=1)
    lengths = np.where(constant, 1, np.sqrt((rows**2).sum(axis=1)))
    matrix = np.clip(rows @ rows.T / np.outer(lengths, lengths), -1, 1)
    matrix[constant] = matrix[:, constant] = np.nan
    if not average:
        return matrix
    pairs = [matrix[pair] for pair in combinations(np.flatnonzero(~constant), 2)]
    return float(np.mean(pairs)) if pairs else float("nan")


@validated(threshold=[Number(at_least=0)])
def active_units(codes: ArrayLike, *, threshold: float = 0.01) -> np.ndarray:
    """Tell which latent units vary from sample to sample.

    Of a variational autoencoder, whose prior has the variance 1, the units whose posterior means
    vary by less than 0.01 tell nothing of the samples ([1]_).

    Parameters
    ----------
    codes : array-like of shape (n, n_units)
        What ``transform`` returns.
    threshold : float, default=0.01
        Variance that an active unit is above.

    Returns
    -------
    active : ndarray of bool of shape (n_units,)
        Count them with ``active.sum()``.

    Raises
    ------
    ValueError
        If values are not finite, or there are fewer than two samples.

    See Also
    --------
    sklexplain.metrics.saliency_entropy : How importance is spread over units.
    sklexplain.nets.VariationalAutoencoder : Whose units may be switched off.

    References
    ----------
    .. [1] Y. Burda, R. Grosse and R. Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016,
       appendix C.

    Examples
    --------
    >>> from sklexplain.metrics import active_units
    >>> active_units([[0.0, 1.0], [0.1, -1.0]])
    array([False,  True])
    """
    codes = check_numbers("codes", codes, min_ndim=2)
    if codes.ndim != 2 or len(codes) < 2:
        raise ValueError(
            f"codes has shape {codes.shape}, but must be (n, n_units) with two samples at least."
        )
    eps = rounding_of(codes)
    codes = codes.astype(np.float64)
    # What rounding alone makes vary does not, whatever the threshold.
    varies = np.ptp(codes, axis=0) > 8 * eps * np.abs(codes).max(axis=0)
    with np.errstate(over="ignore"):  # an infinite variance is above any threshold
        return varies & (codes.var(axis=0, ddof=1) > threshold)


def _checked_maps(maps):
    """Return maps in float64, and how large rounding is in the dtype that they had."""
    maps = check_numbers("maps", maps, min_ndim=2)
    if maps.ndim < 3:
        raise ValueError(
            f"maps has shape {maps.shape}, but must be (n, n_units, ...), as "
            "LabelFreeAttributor.unit_attributions returns it."
        )
    return maps.astype(np.float64), rounding_of(maps)
