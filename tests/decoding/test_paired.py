"""The interval and the test of two proportions measured on the same samples."""

import pytest
from scipy import stats

from sklexplain.decoding._paired import score_interval, score_test

SETTINGS = [
    *[(50, 0.02, 0), (100, 0.03, 0), (1000, 0.002, 0.001), (100, 0.05, 0.05)],
    *[(100, 0.1, 0.05), (200, 0.05, 0.05), (500, 0.01, 0.02), (40, 0.2, 0.1)],
]


@pytest.mark.parametrize(("n", "p_gained", "p_lost"), SETTINGS)
def test_coverage_of_the_interval(n, p_gained, p_lost):
    """By all outcomes and their probabilities, not by simulation."""
    most = [int(stats.binom.isf(1e-7, n, p)) + 1 if p else 0 for p in (p_gained, p_lost)]
    covered, total = 0.0, 0.0
    for gained in range(most[0] + 1):
        for lost in range(min(most[1], n - gained) + 1):
            counts = [gained, lost, n - gained - lost]
            probability = stats.multinomial.pmf(
                counts, n, [p_gained, p_lost, 1 - p_gained - p_lost]
            )
            if probability < 1e-9:
                continue
            low, high = score_interval(gained, lost, n, 0.95)
            assert low <= (gained - lost) / n <= high
            assert (low > 0 or high < 0) == (score_test(gained, lost) < 0.05)
            covered += probability * (low <= p_gained - p_lost <= high)
            total += probability
    assert total > 1 - 1e-4
    assert covered >= 0.94
    assert covered <= 0.97 or n * (p_gained + p_lost) < 5


@pytest.mark.parametrize("gained_lost_n", [(0, 0, 40), (40, 0, 40), (0, 40, 40), (0, 0, 1)])
def test_interval_at_the_ends(gained_lost_n):
    gained, lost, n = gained_lost_n
    low, high = score_interval(gained, lost, n, 0.95)
    assert -1 <= low <= (gained - lost) / n <= high <= 1
    assert high - low > 0.05
    assert (low, high) == pytest.approx(
        [-end for end in score_interval(lost, gained, n, 0.95)][::-1]
    )
