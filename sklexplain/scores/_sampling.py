"""Scores from a random part of the output units, and how far they may be off.

A score is a function of the maps of all N output units. From n of them, drawn without replacement,
the same function gives an estimate. It is noisy and, where maps are scaled to [0, 1] only after
they are aggregated, also biased, because the scale is estimated too. Both show when the units are
halved at random and the score is computed from each half: its mean squared difference from the
score of all n units is the variance plus the squared bias that n units have (a half has twice the
variance and twice the bias), and drawing without replacement leaves the share 1 - n / N of it.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

# Pairs of halves: with 32, intervals were not narrower and did not cover more often.
_N_PAIRS = 16
_MIN_UNITS = 4  # a variance needs two units in a half


@dataclass
class UnitSample:
    """Random output units, and the halves of them that are scored too.

    Attributes
    ----------
    units : ndarray of shape (n_units,)
        Positions among all output units, in increasing order.
    halves : list of ndarray of int
        Positions in ``units``; empty for fewer than four units.
    n_total : int
        N, the number of output units there are.
    """

    units: np.ndarray
    halves: list
    n_total: int


def draw_units(n_total, n_units, rng):
    """Draw output units without replacement.

    Parameters
    ----------
    n_total : int
        N, number of output units.
    n_units : int
        n, how many to draw.
    rng : numpy.random.Generator
        Moves on.

    Returns
    -------
    sample : UnitSample
    """
    units = np.sort(rng.choice(n_total, size=n_units, replace=False))
    halves = []
    if n_units >= _MIN_UNITS:
        orders = [rng.permutation(n_units) for _ in range(_N_PAIRS)]
        halves = [half for order in orders for half in np.array_split(order, 2)]
    return UnitSample(units, halves, n_total)


def standard_error(value, of_halves, sample):
    """Root mean squared error of an estimate, from its values on halves of the units.

    Parameters
    ----------
    value : ndarray of shape (...)
        The estimate from all n units that were drawn.
    of_halves : ndarray of shape (n_halves, ...)
        The estimates from each half.
    sample : UnitSample
        The units.

    Returns
    -------
    error : ndarray of shape (...)
        Zero if all units were drawn, NaN if fewer than four were.
    """
    value = np.asarray(value, dtype=np.float64)
    n = len(sample.units)
    if n == sample.n_total:
        return np.zeros_like(value)
    if not sample.halves:
        return np.full_like(value, np.nan)
    sizes = np.array([len(half) for half in sample.halves])
    # The error of a half of m units is larger by 1 / m - 1 / n; that of all n units has 1 / n.
    weights = (sizes / (n - sizes)).reshape(-1, *[1] * value.ndim)
    squares = weights * (np.asarray(of_halves) - value) ** 2
    return np.sqrt(squares.mean(axis=0) * (1 - n / sample.n_total))


def t_quantile(sample, level):
    """Half width of the interval of a given level, in standard errors; n - 1 degrees of freedom."""
    return float(stats.t.ppf((1 + level) / 2, len(sample.units) - 1))
