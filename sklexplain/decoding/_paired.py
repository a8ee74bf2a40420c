"""The difference of two proportions that are measured on the same samples."""

import numpy as np
from scipy import stats
from scipy.optimize import brentq


def score_test(gained, lost):
    """Score test of equal proportions, McNemar's without a correction.

    Parameters
    ----------
    gained, lost : int
        Samples of which the first is right and the second is not, and the other way round.

    Returns
    -------
    p_value : float
        Of (gained - lost)² / (gained + lost), chi-squared with one degree of freedom; 1 where
        nothing differs.

    Examples
    --------
    >>> from sklexplain.decoding._paired import score_test
    >>> round(score_test(4, 0), 4)
    0.0455
    """
    if gained == lost:
        return 1.0
    return float(stats.chi2.sf((gained - lost) ** 2 / (gained + lost), 1))


def score_interval(gained, lost, n, confidence_level):
    """Tango's interval of (gained - lost) / n: all differences that the score test does not reject.

    Parameters
    ----------
    gained, lost : int
        As of `score_test`.
    n : int
        Number of samples.
    confidence_level : float
        Between 0 and 1.

    Returns
    -------
    low, high : float
        Between -1 and 1.

    Examples
    --------
    >>> from sklexplain.decoding._paired import score_interval
    >>> tuple(round(end, 4) for end in score_interval(4, 0, 100, 0.95))
    (0.0015, 0.0984)
    """
    critical = stats.norm.ppf(0.5 + confidence_level / 2)
    estimate = (gained - lost) / n
    low, high = -1.0, 1.0
    # The statistic falls with the difference, from above the critical value to below its negative.
    if gained - lost > -n:
        low = brentq(lambda d: _statistic(d, gained, lost, n) - critical, -1, estimate, xtol=1e-13)
    if gained - lost < n:
        high = brentq(lambda d: _statistic(d, gained, lost, n) + critical, estimate, 1, xtol=1e-13)
    return float(low), float(high)


def _statistic(difference, gained, lost, n):
    """Score statistic of a difference, in standard errors under it."""
    above = gained - lost - n * difference
    # The share of those lost that is most likely under the difference: the root of a quadratic.
    b = -gained - lost + (2 * n - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    share = (np.sqrt(max(b**2 - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * share + difference * (1 - difference))
    if variance <= 0:  # at a difference of -1 or 1, or where nothing differs
        return 0.0 if above == 0 else np.sign(above) * np.inf
    return above / np.sqrt(variance)
