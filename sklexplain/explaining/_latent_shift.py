"""How far a representation moves, or a score falls, when important features are masked."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import trapezoid
from sklearn.utils import Bunch, check_random_state

from ..utils import (
    SEED,
    RandomState,
    by_columns,
    check_encode,
    check_numbers,
    check_positive_int,
    column_labels,
    draw_seed,
    encoded,
    validated,
    warn,
)

FRACTIONS = (0.05, 0.1, 0.2, 0.5, 0.8, 1.0)


@validated(random_state=[SEED])
def latent_shift_curve(
    encode: Callable[..., Any],
    X: ArrayLike,
    attributions: ArrayLike,
    *,
    mask_value: ArrayLike,
    fractions: Sequence[float] | np.ndarray = FRACTIONS,
    channel_axis: int | None = None,
    groups: ArrayLike | None = None,
    without_effect: ArrayLike | None = None,
    n_random: int = 10,
    random_state: RandomState = None,
    batch_size: int = 1024,
) -> Bunch:
    r"""Latent shift when the most, the least or random features are masked.

    For every sample the M features of largest \|attribution\| are replaced by ``mask_value``, and
    the shift of the representation,

    .. math:: \| f(x) - f(m \odot \bar x + (1 - m) \odot x) \|,

    is averaged over samples (the consistency check of [1]_, section 4.1 and figure 2). Good
    attributions shift the representation more than random masks do. Curves compare explanations of
    *one* encoder; between encoders, lengths in latent space mean different things.

    Parameters
    ----------
    encode : callable
        From an ndarray of samples (n, ...) to an ndarray (n, n_units).
    X : array-like of shape (n, ...)
        Samples.
    attributions : array-like of shape (n, ...)
        Attributions, of the shape of X, or without its channel axis.
    mask_value : float or array-like
        What masked entries are set to; broadcast to one sample.
    fractions : array-like of float, default=(0.05, 0.1, 0.2, 0.5, 0.8, 1.0)
        Shares of the features that are masked; M is rounded up.
    channel_axis : int or None, default=None
        Axis of one sample's array that holds channels: its entries are masked together, and ranked
        by the sum of \|attribution\| over it. None: every entry is a feature.
    groups : array-like of int or None, default=None
        Feature that each entry of one sample belongs to, 0 to n_features - 1; the entries of a
        feature are masked together, and ``attributions`` has shape (n, ...) with n_features
        entries per sample.
    without_effect : array-like of bool of shape (n_features,) or None, default=None
        Features that the encoder does not depend on at all. They are in no random order, not among
        the least important, and do not count for shares: were random masks to hit them, adding
        columns that the encoder never reads would raise ``area_ratio``. None: there are none.
    n_random : int, default=10
        Number of random orders, each common to all samples.
    random_state : int, RandomState instance or None, default=None
        Seed of the random orders.
    batch_size : int, default=1024
        Most samples given to ``encode`` at once.

    Returns
    -------
    curve : :class:`~sklearn.utils.Bunch`
        fractions : ndarray of shape (n_points,)
            Share of the features (with an effect) that are masked, without repeats, starting at 0.
        n_masked : ndarray of shape (n_points,)
            M.
        most, least, random : ndarray of shape (n_points,)
            Mean shift when the most important, the least important, or random features are masked;
            starting at 0.
        random_std : ndarray of shape (n_points,)
            Standard deviation of ``random`` over the ``n_random`` orders.
        full_shift : float
            Mean shift when everything is masked.
        area_ratio : float
            Trapezoid area under ``most`` over that under ``random``; 1 is chance.
        separation : float
            Area under ``most`` minus that under ``least``, over ``full_shift``.

    Raises
    ------
    ValueError
        If shapes do not fit, values are not finite, or a fraction is outside [0, 1].
    TypeError
        If ``encode`` is not callable.

    Warns
    -----
    SklexplainWarning
        If no mask shifts the representation; ``area_ratio`` is then 1 and ``separation`` 0.

    See Also
    --------
    sklexplain.LabelFreeAttributor : Its ``score`` is the ratio of areas.
    sklexplain.plotting.LatentShiftDisplay : The curves.
    sklexplain.metrics.roar : With a model that is trained again.

    Notes
    -----
    Equal attributions are ranked in the order of the features, so that results repeat; the least
    important features are those at the end of the same ranking.

    References
    ----------
    .. [1] J. Crabbé and M. van der Schaar, "Label-Free Explainability for Unsupervised Models",
       ICML 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from sklexplain.metrics import latent_shift_curve
    >>> X = np.random.default_rng(0).normal(size=(50, 4))
    >>> encode = lambda X: X[:, :1]  # only the first feature matters
    >>> perfect = X * [1, 0, 0, 0]
    >>> curve = latent_shift_curve(encode, X, perfect, mask_value=0.0, random_state=0)
    >>> curve.n_masked
    array([0, 1, 2, 4])
    >>> bool(curve.area_ratio > 1)
    True
    """
    check_encode(encode)
    check_positive_int("batch_size", batch_size)
    check_positive_int("n_random", n_random)
    if groups is None:
        attributions = by_columns(attributions, column_labels(X), "attributions", strict=False)
    mask_value = by_columns(mask_value, column_labels(X), "mask_value")
    X = check_numbers("X", X, min_ndim=2, allow_nan=True)  # encode may take missing values
    attributions = check_numbers("attributions", attributions)
    if groups is None:
        axis = _checked_axis(channel_axis, X.ndim - 1)
        groups = position_groups(X.shape[1:], axis)
        attributions = _without_channels(X, attributions, axis)
    else:
        groups = _checked_groups(groups, X, attributions, channel_axis)
    mask_value = np.broadcast_to(_checked_mask_value(mask_value, X), X.shape)
    masking = Masking(fractions, n_random, random_state, batch_size)
    return _summary(*masking.curves(encode, X, attributions, mask_value, groups, without_effect))


@dataclass(frozen=True)
class Masking:
    """How features are masked, and what is measured then.

    Attributes
    ----------
    fractions : array-like of float
        See `latent_shift_curve`, as of all others.
    n_random : int
    random_state : int, RandomState instance or None
    batch_size : int
    along : ndarray of shape (n_units,) or None
        Measure the fall along this direction, with its sign; None: the length of the shift.
    """

    fractions: object = FRACTIONS
    n_random: int = 10
    random_state: object = None
    batch_size: int = 1024
    along: np.ndarray | None = None

    def curves(self, encode, X, attributions, mask_values, groups, without_effect=None):
        """Mean shift, by what is masked.

        Parameters
        ----------
        encode, X, groups, without_effect
            See `latent_shift_curve`.
        attributions : ndarray of shape (n, ...)
            One number a feature.
        mask_values : ndarray of X's shape
            What the entries of each sample are set to.

        Returns
        -------
        curves : ndarray of shape (2 + n_random, n_points)
            The most important features first, the least important, and the random orders.
        full : float
            With everything masked.
        n_masked : ndarray of shape (n_points,)
        n_features : int
            How many features there are, without those that have no effect.
        """
        args = (encode, X, attributions, mask_values, groups, without_effect)
        n_masked, n_features, batches = self.batches(*args)
        total, full = np.zeros((2 + self.n_random, len(n_masked))), 0.0
        for _, shifts, full_shifts in batches:
            total += shifts.sum(axis=-1)
            full += full_shifts.sum()
        return total / len(X), full / len(X), n_masked, n_features

    def batches(self, encode, X, attributions, mask_values, groups, without_effect=None):
        """Shifts, or falls, of a few samples at a time.

        Parameters
        ----------
        encode, X, attributions, mask_values, groups, without_effect
            See `curves`.

        Returns
        -------
        n_masked : ndarray of shape (n_points,)
        n_features : int
        batches : iterator
            Of slices of samples, their shifts (2 + n_random, n_points, b), and those with
            everything masked (b,).

        Raises
        ------
        ValueError
            If fractions or flags do not fit.
        """
        ranks = _ranks(attributions)  # (n, n_features)
        counted = ~_checked_flags(without_effect, ranks.shape[1])
        n_masked = _mask_sizes(self.fractions, counted.sum())
        # A generator of its own for None: numpy's global one is left alone.
        seed = self.random_state
        rng = check_random_state(draw_seed(None) if seed is None else seed)
        orders = np.full((self.n_random, len(counted)), len(counted))
        orders[:, counted] = [rng.permutation(counted.sum()) for _ in range(self.n_random)]

        def batches():
            for start in range(0, len(X), self.batch_size):
                rows = slice(start, start + self.batch_size)
                masks = _Masks(ranks[rows], orders, n_masked, groups, counted)
                try:
                    shifts, full = self._shifts(encode, X[rows], masks, mask_values[rows])
                except ValueError:
                    check_numbers("X", X)  # if anything is missing, that is why
                    raise
                if not np.isfinite(shifts).all():
                    check_numbers("X", X)
                yield rows, shifts, full

        return n_masked, counted.sum(), batches()

    def _shifts(self, encode, X, masks, mask_values):
        """Shifts of a few samples: per kind and point, and with everything masked."""
        z = encoded(encode, X)
        smallest = no_shift(z, self.along)
        z = z.astype(np.float64)
        dtype = np.result_type(X, mask_values)

        def shift(masked):
            difference = encoded(encode, masked).reshape(-1, *z.shape) - z
            measured = sizes(difference) if self.along is None else -(difference @ self.along)
            return np.where(np.abs(measured) > smallest, measured, 0.0)

        full = shift(mask_values.astype(dtype))[0]
        shifts = np.zeros((2 + len(masks.orders), len(masks.n_masked), len(X)))
        shifts[:, masks.complete] = full
        per_call = max(1, self.batch_size // len(X))  # few samples: several masks in one call
        for i in range(0, len(masks.keys), per_call):
            keys = masks.keys[i : i + per_call]
            masked = np.concatenate([np.where(masks(*key), mask_values, X) for key in keys])
            shifts[tuple(np.transpose(keys))] = shift(masked.astype(dtype, copy=False))
        return shifts, full


class _Masks:
    """The masks of a few samples: kind 0 most, 1 least, then the random orders."""

    def __init__(self, ranks, orders, n_masked, groups, counted):
        self.ranks, self.orders, self.n_masked = ranks, orders, n_masked
        self.groups = groups
        # Positions from the end of the same ranking, among the features that count.
        self.from_end = _ranks(np.where(counted, ranks + 1, 0))
        # Masking nothing shifts nothing, and masking all that counts is the same for every kind,
        # but that the most important may be others.
        partial = np.flatnonzero((n_masked > 0) & (n_masked < counted.sum()))
        self.keys = [(kind, point) for kind in range(2 + len(orders)) for point in partial]
        self.complete = n_masked == counted.sum()
        if not counted.all():
            self.keys += [(0, point) for point in np.flatnonzero(self.complete)]

    def __call__(self, kind, point):
        m = self.n_masked[point]
        if kind == 0:
            mask = self.ranks < m
        elif kind == 1:
            mask = self.from_end < m
        else:
            mask = np.broadcast_to(self.orders[kind - 2] < m, self.ranks.shape)
        return mask[:, self.groups]


def sizes(difference, along=None):
    """Sizes of shifts: their lengths, or what they are along a direction.

    Parameters
    ----------
    difference : ndarray of shape (..., n_units)
        Shifts.
    along : ndarray of shape (n_units,) or None, default=None
        Direction.

    Returns
    -------
    sizes : ndarray of shape (...)
    """
    return np.linalg.norm(difference, axis=-1) if along is None else np.abs(difference @ along)


def no_shift(z, along=None):
    """Size that no shift has: rounding differs with the size of a batch.

    Parameters
    ----------
    z : ndarray of shape (n, n_units)
        Representations.
    along : ndarray of shape (n_units,) or None, default=None
        Direction of the shift; None: its length counts.

    Returns
    -------
    sizes : ndarray of shape (n,)
    """
    length = 1.0 if along is None else np.linalg.norm(along)
    return 32 * np.finfo(z.dtype).eps * length * np.linalg.norm(z, axis=1)


def _summary(curves, full_shift, n_masked, n_features):
    fractions = n_masked / n_features
    most, least, draws = curves[0], curves[1], curves[2:]
    random = draws.mean(axis=0)
    if full_shift == 0 and not curves.any():
        warn(
            "no mask shifts the representation, so there is nothing to compare; area_ratio is "
            "set to 1, which is chance. Is the encoder constant, or mask_value equal to X?"
        )
        ratio, separation = 1.0, 0.0
    else:
        areas = trapezoid([most, least, random], fractions, axis=1)
        ratio = areas[0] / areas[2] if areas[2] > 0 else (np.inf if areas[0] > 0 else 1.0)
        separation = (areas[0] - areas[1]) / full_shift if full_shift > 0 else np.nan
    return Bunch(
        fractions=fractions,
        n_masked=n_masked,
        most=most,
        least=least,
        random=random,
        random_std=draws.std(axis=0),
        full_shift=float(full_shift),
        area_ratio=float(ratio),
        separation=float(separation),
    )


def position_groups(shape, axis):
    """Return the number of every entry's position; channels share it."""
    positions = [1 if i == axis else size for i, size in enumerate(shape)]
    return np.broadcast_to(np.arange(np.prod(positions)).reshape(positions), shape)


def _without_channels(X, attributions, axis):
    b = np.abs(attributions.astype(np.float64))
    without = X.shape if axis is None else X.shape[: axis + 1] + X.shape[axis + 2 :]
    if b.shape == X.shape:
        return b if axis is None else b.sum(axis=axis + 1)
    if b.shape != without:
        either = f"{X.shape}" if axis is None else f"{X.shape}, or {without} without the channels"
        raise ValueError(f"attributions have shape {b.shape}, but X needs {either}.")
    return b


def _checked_groups(groups, X, attributions, channel_axis):
    if channel_axis is not None:
        raise ValueError(f"channel_axis={channel_axis} and groups cannot both be given.")
    groups = np.asarray(groups)
    if groups.shape != X.shape[1:] or groups.dtype.kind not in "iu":
        raise ValueError(
            f"groups must be integers of one sample's shape {X.shape[1:]}; got "
            f"{groups.dtype} of shape {groups.shape}."
        )
    n_features = int(np.prod(attributions.shape[1:]))
    if len(attributions) != len(X) or groups.min() < 0 or groups.max() >= n_features:
        raise ValueError(
            f"attributions have shape {attributions.shape}, but groups numbers features "
            f"{groups.min()} to {groups.max()} and X has {len(X)} samples."
        )
    return groups


def _ranks(attributions):
    """Rank of every feature in its sample, 0 for the most important."""
    b = np.abs(attributions.reshape(len(attributions), -1).astype(np.float64))
    order = np.argsort(-b, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
    return ranks


def _checked_flags(without_effect, n_features):
    if without_effect is None:
        return np.zeros(n_features, dtype=bool)
    flags = np.asarray(without_effect)
    if flags.shape != (n_features,) or flags.dtype != bool:
        raise ValueError(
            f"without_effect must hold True or False for each of the {n_features} features; got "
            f"{flags.dtype} of shape {flags.shape}."
        )
    # Of features without any effect, all curves are 0.
    return np.zeros_like(flags) if flags.all() else flags


def _checked_axis(channel_axis, ndim):
    if channel_axis is None:
        return None
    if not isinstance(channel_axis, numbers.Integral) or isinstance(channel_axis, bool):
        raise TypeError(f"channel_axis={channel_axis!r} must be an integer or None.")
    if not -ndim <= channel_axis < ndim or ndim == 1:
        raise ValueError(
            f"channel_axis={channel_axis} is no channel axis of samples with {ndim} axes; it is "
            "counted in one sample's array: 0 for (channels, time), 1 for (time, channels)."
        )
    return int(channel_axis) % ndim


def _checked_mask_value(mask_value, X):
    mask_value = check_numbers("mask_value", mask_value, min_ndim=0, allow_nan=True)
    try:
        np.broadcast_to(mask_value, X.shape[1:])
    except ValueError:
        raise ValueError(
            f"mask_value of shape {mask_value.shape} cannot be broadcast to one sample, of shape "
            f"{X.shape[1:]}."
        ) from None
    return mask_value.astype(X.dtype) if X.dtype.kind == "f" else mask_value


def _mask_sizes(fractions, n_features):
    fractions = np.ravel(check_numbers("fractions", fractions, min_ndim=0)).astype(np.float64)
    if fractions.min() < 0 or fractions.max() > 1:
        raise ValueError(f"fractions={fractions.tolist()} must lie in [0, 1].")
    # Rounded first: 0.07 * 100 is a hair above 7.
    sizes = np.ceil(np.round(fractions * n_features, 9)).astype(int)
    return np.unique(np.append(sizes, 0))
