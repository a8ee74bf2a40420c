from statistics import harmonic_mean as expected

import pytest

from sklexplain.utils import harmonic_mean


def test_harmonic_mean():
    for a, b in [(0.5, 0.25), (1.0, 1.0), (1e-9, 0.9)]:
        assert harmonic_mean(a, b) == pytest.approx(expected([a, b]))
    for a, b in [(0.0, 0.5), (-0.1, 0.5), (0.5, -3.0), (-0.5, -0.5), (0.0, 0.0)]:
        assert harmonic_mean(a, b) == 0.0
