"""How sure sampled attributions are: standard errors from the very draws that made them.

What counts as one independent draw differs: a noise or a point on a path, a *pair* of an order and
its reverse, a pair of complementary coalitions, a single coalition. As all of these are common to
all samples and functions, so is what is computed of them here in advance.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from sklearn.utils import Bunch

from ..exceptions import ConvergenceWarning
from ..utils import warn

# Leverages this close to 1: without that draw the regression would have no solution.
_LEFT = 1e-8
# Standard errors of their difference that two features must be apart, to be told apart.
_APART = 2.0


class Estimates(NamedTuple):
    """Maps of a method that draws, and how sure they are.

    Attributes
    ----------
    maps : ndarray of shape (n, k, *features.shape)
        Attributions.
    errors : ndarray of that shape
        Their standard errors; NaN where too few draws tell nothing.
    degrees : ndarray of that shape
        Degrees of freedom of these, for intervals; infinite where nothing was left to chance.
    uncertainty : ndarray of that shape
        Spread of what was averaged; NaN unless the method has such a thing.
    """

    maps: np.ndarray
    errors: np.ndarray
    degrees: np.ndarray
    uncertainty: np.ndarray


class Spread:
    """What a run leaves beside its maps: one number for each of theirs.

    Parameters
    ----------
    shape : tuple of int
        (n, k, n_features).
    device : torch.device
        Where to keep them.
    of_features : callable or None, default=None
        For methods whose maps are of entries of the inputs: from draws (b, s, ...) and the
        positions of their samples to features (b, s, n_features).

    Attributes
    ----------
    errors : tensor of that shape, float64
        Standard errors; NaN where too few draws tell nothing, 0 where nothing was left to chance.
    degrees : tensor of that shape, float64
        Their degrees of freedom, infinite where nothing was left to chance.
    uncertainty : tensor of that shape or None
        Spread of what was averaged; of methods that have such a thing.
    """

    def __init__(self, shape, device, of_features=None):
        # Where nothing is drawn (features that are as in the baseline), that is what it stays.
        self.errors = torch.zeros(shape, dtype=torch.float64, device=device)
        self.degrees = torch.full_like(self.errors, torch.inf)
        self.uncertainty = None
        self.of_features = of_features

    def part(self, rows):
        """Return the same of some samples, a slice, to be filled in its place."""
        part = Spread((0,), self.errors.device, self.of_features)
        part.errors, part.degrees = self.errors[rows], self.degrees[rows]
        part.uncertainty = None if self.uncertainty is None else self.uncertainty[rows]
        return part

    def fill(self, errors, degrees):
        """Keep what was found; there is no error without a degree of freedom."""
        known = torch.as_tensor(degrees, device=errors.device) > 0
        self.errors[:] = torch.where(known, errors, torch.nan)
        self.degrees[:] = degrees


class Running:
    """Mean of draws that come a block at a time, and sum of their squared deviations from it.

    Parameters
    ----------
    shape : tuple of int
        Of the mean.
    device : torch.device
        Where to keep it.
    """

    def __init__(self, shape, device):
        self.mean = torch.zeros(shape, dtype=torch.float64, device=device)
        self.squares = torch.zeros_like(self.mean)

    def add(self, where, before, draws):
        """Add draws (..., u, P) to what has seen so many of them ``before``."""
        n = draws.shape[-2]
        variance, mean = torch.var_mean(draws, dim=-2, correction=0)
        if before == 0:  # often all of them
            self.mean[where], self.squares[where] = mean.to(self.mean), variance.to(self.mean) * n
            return
        step = mean.to(self.mean) - self.mean[where]
        self.mean[where] += step * (n / (before + n))
        self.squares[where] += variance.to(self.mean) * n + step**2 * (before * n / (before + n))

    def errors(self, n):
        """Return standard errors of the mean of n draws; NaN of fewer than two."""
        if n < 2:
            return torch.full_like(self.mean, torch.nan)
        return (self.squares / (n - 1) / n).sqrt()


class PairsOfOrders:
    """Shapley sampling: an order and its reverse are one draw.

    Parameters
    ----------
    n_players : int
        Number of features.
    n_orders : int
        Number of orders; a last one without its reverse is left out.
    """

    keeps_values = False

    def __init__(self, n_players, n_orders):
        self.n_players, self.n_orders = n_players, n_orders
        self.n_pairs = n_orders // 2
        self.unit = 2 * (n_players + 1)  # coalitions of a pair: blocks are whole ones, or in one

    def start(self, shape, device):
        """Begin with (n, k, n_players) attributions."""
        self._pairs = Running(shape, device)
        self._part = torch.zeros(shape, dtype=torch.float64, device=device)

    def add(self, rows, start, stop, values, coefficients):
        """Take values (b, k, s) of some samples' coalitions, and their coefficients (s, P)."""
        n = (stop - start) // self.unit
        if n == 0:
            self._part[rows] += values @ coefficients
            if stop % self.unit == 0:
                pair = self._part[rows][:, :, None] * (self.n_orders / 2)
                self._pairs.add(rows, stop // self.unit - 1, pair)
                self._part[rows] = 0.0
            return
        values = values[..., : n * self.unit].unflatten(-1, (n, self.unit))
        coefficients = coefficients[: n * self.unit].unflatten(0, (n, self.unit))
        pairs = torch.einsum("bkul,ulp->bkup", values * (self.n_orders / 2), coefficients)
        self._pairs.add(rows, start // self.unit, pairs)

    def leave(self, spread, attributions):
        """Fill a `Spread` in."""
        if self.n_players == 1:
            return  # there is one order only
        if self.n_players == 2 and self.n_pairs:
            # A pair is all there is, and only a last order that has none moves the mean from it.
            spread.errors[:] = (attributions - self._pairs.mean).abs() * (self.n_orders % 2)
            return
        spread.fill(self._pairs.errors(self.n_pairs), self.n_pairs - 1)


class _Regression:
    """Least squares on coalitions: values are kept, as residuals are known at the end only."""

    keeps_values = True
    unit = 1

    def start(self, shape, device):
        """Begin with (n, k, n_players) attributions."""
        self._values = torch.empty(*shape[:2], self.n_values, dtype=torch.float64, device=device)

    def add(self, rows, start, stop, values, coefficients):
        """Take values (b, k, s) of some samples' coalitions."""
        self._values[rows, :, start:stop] = values

    def _sandwich(self, scores, influence):
        """Return roots of sums of squares of scores (n, k, S) times influence (P, S)."""
        return (scores**2 @ torch.from_numpy(influence.T**2).to(scores)).sqrt()


class PairedRegression(_Regression):
    """KernelSHAP: one of two complementary coalitions at a time is left out (CR3).

    A pair's rows of influence differ in sign only, so what leaving it out changes is one number
    times one of them. A last coalition without complement is a draw of its own.

    Parameters
    ----------
    coalitions : ndarray of bool of shape (S, P)
        Drawn coalitions, complements side by side.
    influence : ndarray of shape (P, S)
        Influence of their values on attributions.
    """

    def __init__(self, coalitions, influence):
        self.coalitions, self.influence = coalitions, influence
        self.n_values = len(coalitions) + 2  # nobody and everybody follow them

    def leave(self, spread, attributions):
        """Fill a `Spread` in."""
        Z, n = self.coalitions.astype(np.float64), len(self.coalitions)
        leverage = (Z * self.influence.T).sum(axis=1)
        left = 1 - np.where(np.arange(n) < n - n % 2, 2.0, 1.0) * leverage
        fitted = attributions @ torch.from_numpy(Z.T).to(attributions)
        residuals = self._values[..., :n] - self._values[..., n : n + 1] - fitted
        scores = residuals[..., ::2].clone()
        scores[..., : n // 2] -= residuals[..., 1::2]
        scores /= torch.from_numpy(left[::2].copy()).to(scores)
        n_draws = scores.shape[-1]
        errors = self._sandwich(scores, self.influence[:, ::2])
        degrees = n_draws - 1 if left.min() > _LEFT else 0
        spread.fill(errors * ((n_draws - 1) / n_draws) ** 0.5, degrees)
        self._values = None


class WeightedRegression(_Regression):
    """LIME: heteroscedasticity of the third kind (HC3), of a regression with weights.

    Parameters
    ----------
    centred : ndarray of shape (S, P)
        Coalitions minus their weighted mean.
    weights : ndarray of shape (S,)
        Weights, of sum 1.
    influence : ndarray of shape (P, S)
        Influence of values on attributions.
    """

    def __init__(self, centred, weights, influence):
        self.centred, self.weights, self.influence = centred, weights, influence
        self.n_values = len(centred)

    def leave(self, spread, attributions):
        """Fill a `Spread` in."""
        left = 1 - self.weights - (self.centred * self.influence.T).sum(axis=1)
        mean = self._values @ torch.from_numpy(self.weights).to(self._values)
        fitted = attributions @ torch.from_numpy(self.centred.T).to(attributions)
        scores = (self._values - mean[..., None] - fitted) / torch.from_numpy(left).to(fitted)
        degrees = self.n_values - self.centred.shape[1] - 1 if left.min() > _LEFT else 0
        spread.fill(self._sandwich(scores, self.influence), degrees)
        self._values = None


class Masks:
    """RELAX: sums of outputs, and of their squares, over the masks that keep a cell.

    Parameters
    ----------
    coalitions : ndarray of bool of shape (S, P)
        The masks.
    relative : bool
        Whether the mean over masks that do not keep it is subtracted.
    """

    keeps_values = False
    unit = 1

    def __init__(self, coalitions, relative):
        self.coalitions, self.relative = coalitions, relative

    def start(self, shape, device):
        """Begin with (n, k, n_players) attributions."""
        self._kept = torch.zeros(2, *shape, dtype=torch.float64, device=device)
        self._all = torch.zeros(2, *shape[:2], 1, dtype=torch.float64, device=device)

    def add(self, rows, start, stop, values, coefficients):
        """Take values (b, k, s) of some samples' masks: cosines, which are often close to 1."""
        kept = torch.from_numpy(self.coalitions[start:stop].astype(np.float64)).to(values)
        for power in (0, 1):
            moment = (values - 1) ** (power + 1)
            self._kept[power, rows] += moment @ kept
            self._all[power, rows] += moment.sum(dim=2, keepdim=True)

    def leave(self, spread, attributions):
        """Fill a `Spread` in."""
        counts = torch.from_numpy(self.coalitions.sum(axis=0)).to(attributions)
        least, spread.uncertainty = counts, _variance(self._kept, counts)
        squares = spread.uncertainty / counts
        if self.relative:
            others = len(self.coalitions) - counts
            least = torch.minimum(least, others)
            squares = squares + _variance(self._all - self._kept, others) / others
        spread.fill(squares.sqrt(), least - 1)


def _variance(sums, counts):
    """Variance from sums of numbers and of their squares; NaN of none."""
    mean, square = sums / counts
    return (square - mean**2).clamp(min=0)


class Nothing:
    """All coalitions were used, so nothing was left to chance: errors stay 0."""

    keeps_values = False
    unit = 1

    def start(self, shape, device):
        """Do nothing."""

    def add(self, rows, start, stop, values, coefficients):
        """Do nothing."""

    def leave(self, spread, attributions):
        """Do nothing."""


def intervals(found, level, absolute):
    """Make intervals of Student's t.

    Parameters
    ----------
    found : Estimates
        Signed maps and their standard errors.
    level : float
        How often an interval is to hold the limit.
    absolute : bool
        Whether absolute values are asked for: an interval then holds those of all its values.

    Returns
    -------
    intervals : Bunch
        See `BaseAttributor.confidence_intervals`.
    """
    with np.errstate(invalid="ignore"):
        half = stats.t.ppf((1 + level) / 2, found.degrees) * found.errors
    maps, half = found.maps, half.astype(found.maps.dtype)
    low, high = maps - half, maps + half
    if absolute:
        both = np.abs(low), np.abs(high)
        nearest = np.minimum(*both) * ((low > 0) | (high < 0) | np.isnan(half))
        low, high, maps = nearest, np.maximum(*both), np.abs(maps)
    return Bunch(
        attributions=maps,
        standard_errors=found.errors,
        degrees_of_freedom=found.degrees,
        low=low,
        high=high,
    )


def close_features(maps, errors):
    """Say of which samples the first feature cannot be told from the second.

    Parameters
    ----------
    maps : ndarray of shape (n, ...)
        Importance of features: the largest comes first.
    errors : ndarray of the same shape
        Standard errors.

    Returns
    -------
    close : ndarray of bool of shape (n,)
        Whether they are closer than two standard errors of their difference, as if the draws'
        errors of the two were independent; or nothing is known of these.
    """
    sizes, errors = maps.reshape(len(maps), -1), errors.reshape(len(maps), -1)
    if sizes.shape[1] < 2:
        return np.zeros(len(maps), dtype=bool)
    sizes = np.where(np.isnan(sizes), -np.inf, sizes)
    first = np.argpartition(-sizes, 1, axis=1)[:, :2]
    top = np.take_along_axis(sizes, first, axis=1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.abs(top[:, 0] - top[:, 1])
        size = np.linalg.norm(np.take_along_axis(errors, first, axis=1).astype(np.float64), axis=1)
        return ~(gap >= _APART * size)


def warn_of_close(maps, errors, fix):
    """Warn if most samples' first feature cannot be told from their second.

    Parameters
    ----------
    maps, errors : ndarray of shape (n, ...)
        See `close_features`.
    fix : str
        The parameter to raise.

    Returns
    -------
    warned : bool
        Whether that is so.

    Warns
    -----
    ConvergenceWarning
        Saying of how many.
    """
    close = int(close_features(maps, errors).sum())
    if 2 * close > len(maps):
        which = "the sample's" if len(maps) == 1 else f"for {close} of {len(maps)} samples the"
        warn(
            f"{which} most important feature cannot be told from the second: their attributions "
            f"are less than {_APART:g} standard errors of sampling apart; raise {fix}.",
            ConvergenceWarning,
        )
    return 2 * close > len(maps)
