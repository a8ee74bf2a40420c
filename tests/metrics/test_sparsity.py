"""Sparsity of maps."""

import numpy as np
import pytest

from sklexplain.metrics import map_sparsity


def test_means_of_scaled_maps():
    maps = np.random.RandomState(0).normal(size=(5, 3, 4)).astype("float32")
    for absolute in (False, True):
        expected = []
        for m in np.abs(maps) if absolute else maps:
            expected.append(np.mean((m - m.min()) / (m.max() - m.min())))
        np.testing.assert_allclose(map_sparsity(maps, absolute=absolute), expected, rtol=1e-5)


def test_scale_and_origin_change_nothing():
    maps = np.random.RandomState(0).normal(size=(5, 8))
    np.testing.assert_allclose(map_sparsity(3 * maps + 2), map_sparsity(maps))


def test_constant_maps():
    np.testing.assert_array_equal(map_sparsity(np.full((2, 3), 7.0)), [0, 0])


@pytest.mark.parametrize("maps", [[1.0, 2.0], [[np.nan, 1.0]], np.zeros((2, 0))], ids=str)
def test_maps_that_are_none(maps):
    with pytest.raises(ValueError, match="maps"):
        map_sparsity(maps)


def test_maps_as_large_as_numbers_get():
    np.testing.assert_allclose(map_sparsity([[-1.7e308, 1.7e308, 0]]), [0.5])


@pytest.mark.parametrize("scale", [1.0, -1e-300, 1e300])
def test_what_varies_by_rounding_is_constant(scale):
    maps = scale * np.array([[0.1 + 0.2, 0.3, 0.3], [0.0, 0.0, 1.0]])
    assert map_sparsity(maps)[0] == 0 < map_sparsity(maps)[1]
    single = np.float32([[1 + 3e-7, 1, 1]])
    assert map_sparsity(single) == 0
    np.testing.assert_allclose(map_sparsity(single.astype(float)), 1 / 3)
