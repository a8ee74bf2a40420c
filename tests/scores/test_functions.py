"""The pure functions against plain loops."""

import numpy as np
import pytest
import torch

from sklexplain.scores._functions import (
    UnitVariance,
    excess_over_benchmark,
    min_max_scaled,
    noise_scores,
    subset_variances,
)
from sklexplain.scores._noise import noise_inputs
from sklexplain.scores._sampling import draw_units, standard_error, t_quantile


def scaled_by_loop(map_):
    low, high = min(map_), max(map_)
    return [0.0 if high == low else (v - low) / (high - low) for v in map_]


def make_maps(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def test_min_max_scaling_equals_a_loop():
    maps = make_maps(3, 4, 6)
    maps[1, 2] = -1.5
    expected = [[scaled_by_loop(m.tolist()) for m in row] for row in maps]
    np.testing.assert_allclose(min_max_scaled(maps), expected, rtol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("constant", [0.0, 0.1, -3e20, 1e-30])
def test_constant_maps_become_zeros(constant, dtype):
    maps = torch.full((2, 5), constant, dtype=dtype, requires_grad=True)
    # The second one is constant up to rounding.
    maps = maps * torch.tensor([[1] * 5, [1, 1, 1, 1, 1 + 2 * torch.finfo(dtype).eps]], dtype=dtype)
    maps.retain_grad()
    scaled = min_max_scaled(maps)
    scaled.square().sum().backward()
    assert (scaled == 0).all()
    assert torch.isfinite(maps.grad).all()


def test_maps_of_one_position_become_zeros():
    assert (min_max_scaled(make_maps(4, 1)) == 0).all()


def test_tiny_maps_are_scaled_like_large_ones():
    maps = make_maps(3, 7)
    torch.testing.assert_close(min_max_scaled(1e-30 * maps), min_max_scaled(maps))


def test_scores_are_differentiable():
    x, noise, units = make_maps(3, 6), make_maps(2, 6, seed=1), make_maps(4, 3, 6, seed=2)
    assert torch.autograd.gradcheck(min_max_scaled, [x.requires_grad_()])

    def score(x):
        return noise_scores(min_max_scaled(x), min_max_scaled(noise))

    assert torch.autograd.gradcheck(score, [x])
    assert torch.autograd.gradcheck(
        lambda m: UnitVariance().add(m).scores(), units.requires_grad_()
    )


def test_noise_score_equals_a_loop():
    x, noise = torch.rand(4, 6, dtype=torch.float64), torch.rand(3, 6, dtype=torch.float64)
    expected = np.zeros(4)
    for i in range(4):
        for k in range(3):
            for s in range(6):
                expected[i] += abs(x[i, s] - noise[k, s]) / (3 * 6)
    np.testing.assert_allclose(noise_scores(x, noise), expected, rtol=1e-12)


def test_noise_score_is_zero_for_identical_and_one_for_opposite_maps():
    zeros, ones = torch.zeros(1, 5), torch.ones(1, 5)
    assert noise_scores(zeros, zeros).item() == 0
    assert noise_scores(zeros, ones).item() == 1


@pytest.mark.parametrize("threshold", [None, 0.5])
@pytest.mark.parametrize("blocks", [[7], [3, 4], [1] * 7])
def test_variance_equals_a_loop_in_any_blocks(threshold, blocks):
    maps = make_maps(7, 3, 5)
    scaled = np.array([[scaled_by_loop(m.tolist()) for m in unit] for unit in maps])
    if threshold is not None:
        scaled = np.where(scaled > threshold, 1.0, 0.0)
    expected = np.zeros(3)
    for b in range(3):
        for s in range(5):
            values = scaled[:, b, s]
            expected[b] += sum((v - values.mean()) ** 2 for v in values) / 7 / 5
    variance = UnitVariance(threshold)
    for block in maps.split(blocks):
        variance.add(block)
    assert variance.n_units == 7
    np.testing.assert_allclose(variance.scores(), expected, rtol=1e-12)


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_variances_of_subsets_are_those_of_their_units(threshold):
    maps = make_maps(5, 3, 4)
    subsets = [[0, 1, 2, 3, 4], [1, 3], [4, 0, 2]]
    member = torch.zeros(3, 5, dtype=torch.float64)
    for row, subset in zip(member, subsets, strict=True):
        row[subset] = 1
    expected = torch.stack([UnitVariance(threshold).add(maps[s]).scores() for s in subsets])
    torch.testing.assert_close(subset_variances(maps, member, threshold), expected)


def test_variance_reaches_a_quarter():
    maps = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]])
    assert UnitVariance().add(maps).scores().item() == 0.25


def test_excess_is_averaged_over_layers_and_has_no_nan():
    excess = excess_over_benchmark(np.array([0.3, 0.0, 0.0]), np.array([0.1, 0.0, 0.2]))
    assert excess == pytest.approx((0.5 + 0 - 1) / 3)


class TestNoise:
    X = np.random.default_rng(0).normal(size=(500, 3)) * [1.0, 100.0, 0.0] + [0, 0, 7]

    def test_data_noise_is_uniform_over_each_columns_range(self):
        noise = noise_inputs("data", self.X, 4000, np.random.default_rng(0))
        low, high = np.percentile(self.X, [1, 99], axis=0)
        assert (noise >= low).all() and (noise <= high).all()
        np.testing.assert_allclose(noise.mean(axis=0), (low + high) / 2, atol=0.03 * 250)
        np.testing.assert_allclose(noise.std(axis=0), (high - low) / 12**0.5, rtol=0.05)

    def test_data_noise_is_uniform_over_one_range_for_images(self):
        X = np.random.default_rng(0).uniform(size=(50, 1, 4, 4)).astype(np.float32)
        X[:, :, 0] *= 0.1
        noise = noise_inputs("data", X, 500, np.random.default_rng(0))
        low, high = np.percentile(X, [1, 99])
        assert noise.dtype == np.float32 and noise.shape == (500, 1, 4, 4)
        np.testing.assert_allclose(noise.min(axis=(0, 1, 3)), low, atol=0.01)
        np.testing.assert_allclose(noise.max(axis=(0, 1, 3)), high, atol=0.01)

    def test_missing_values_are_left_out_of_the_range(self):
        X = np.where(np.random.RandomState(1).uniform(size=self.X.shape) < 0.2, np.nan, self.X)
        X[:, 0] = np.nan
        noise = noise_inputs("data", X, 300, np.random.default_rng(0))
        assert np.isnan(noise[:, 0]).all() and np.isfinite(noise[:, 1:]).all()
        low, high = np.nanpercentile(X[:, 1:], [1, 99], axis=0)
        assert (noise[:, 1:] >= low).all() and (noise[:, 1:] <= high).all()
        # As often missing as in the data, at every entry.
        shuffled = noise_inputs("permuted", X, 2 * len(X), np.random.default_rng(0))
        np.testing.assert_array_equal(np.isnan(shuffled).sum(axis=0), 2 * np.isnan(X).sum(axis=0))

    def test_unit_noise(self):
        noise = noise_inputs("unit", self.X, 2000, np.random.default_rng(0))
        assert noise.min() >= 0 and noise.max() <= 1
        np.testing.assert_allclose(noise.mean(axis=0), 0.5, atol=0.03)

    def test_permuted_noise_has_each_columns_values_once_and_no_row(self):
        noise = noise_inputs("permuted", self.X, 500, np.random.default_rng(0))
        np.testing.assert_array_equal(np.sort(noise, axis=0), np.sort(self.X, axis=0))
        rows = {tuple(row) for row in self.X[:, :2]}
        assert sum(tuple(row) in rows for row in noise[:, :2]) < 10

    def test_permuted_noise_of_few_samples(self):
        noise = noise_inputs("permuted", self.X[:3], 8, np.random.default_rng(0))
        assert noise.shape == (8, 3)
        assert np.isin(noise, self.X[:3]).all()

    @pytest.mark.parametrize("kind", ["data", "permuted"])
    def test_integers_stay_integers(self, kind):
        X = np.random.default_rng(0).integers(3, 9, size=(200, 5))
        noise = noise_inputs(kind, X, 300, np.random.default_rng(0))
        assert noise.dtype == X.dtype
        assert set(np.unique(noise)) == set(range(3, 9))

    def test_errors(self):
        with pytest.raises(ValueError, match="Did you mean 'permuted'"):
            noise_inputs("permute", self.X, 2, np.random.default_rng(0))
        with pytest.raises(ValueError, match="'data' or 'permuted'"):
            noise_inputs("unit", self.X.astype(int), 2, np.random.default_rng(0))


class TestSampling:
    def test_units_are_distinct_and_halves_are_halves(self):
        sample = draw_units(30, 9, np.random.default_rng(0))
        assert len(set(sample.units.tolist())) == 9
        assert sample.units.max() < 30
        for first, second in zip(sample.halves[::2], sample.halves[1::2], strict=True):
            assert sorted([*first, *second]) == list(range(9))
            assert {len(first), len(second)} == {4, 5}

    def test_every_unit_is_drawn_as_often(self):
        draws = [draw_units(6, 2, np.random.default_rng(i)).units for i in range(3000)]
        np.testing.assert_allclose(np.bincount(np.concatenate(draws)), 1000, rtol=0.1)

    @pytest.mark.parametrize("n_units", [10, 11])
    def test_standard_error_of_a_mean_is_the_textbooks(self, n_units):
        # Of a mean, with the finite-population correction; over all the draws of halves.
        population = np.random.default_rng(0).normal(size=25)
        squares = []
        for i in range(400):
            sample = draw_units(25, n_units, np.random.default_rng(i))
            values = population[sample.units]
            halves = [values[half].mean() for half in sample.halves]
            textbook = values.var(ddof=1) / n_units * (1 - n_units / 25)
            squares.append(standard_error(values.mean(), halves, sample) ** 2 / textbook)
        assert np.mean(squares) == pytest.approx(1, abs=0.05)

    def test_bias_is_part_of_the_standard_error(self):
        # A statistic of pure bias: 1 / n, whatever the units are.
        sample = draw_units(10**6, 8, np.random.default_rng(0))
        halves = [1 / len(half) for half in sample.halves]
        assert standard_error(1 / 8, halves, sample) == pytest.approx(1 / 8, rel=1e-4)

    def test_no_error_with_all_units_and_none_known_with_few(self):
        everything = draw_units(6, 6, np.random.default_rng(0))
        assert standard_error(0.3, np.zeros(32), everything) == 0
        few = draw_units(6, 3, np.random.default_rng(0))
        assert np.isnan(standard_error(0.3, [], few))

    def test_t_quantile(self):
        sample = draw_units(100, 5, np.random.default_rng(0))
        assert t_quantile(sample, 0.95) == pytest.approx(2.776, abs=1e-3)
