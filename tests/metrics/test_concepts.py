"""Measures of concepts, against loops and known values."""

import numpy as np
import pytest

from sklexplain.attribution import time_segments
from sklexplain.metrics import (
    concept_orthogonality,
    faithfulness,
    grid_parts,
    locality,
    voronoi_parts,
)


def looped_locality(maps, labels, n_parts):
    """Entropies by the paper's definition, entry by entry; labels (n, *shape)."""
    n, n_concepts = maps.shape[:2]
    result = np.zeros(n_concepts)
    for c in range(n_concepts):
        histogram = np.zeros(n_parts)
        for m in range(n):
            total = sum(abs(maps[m, c][i]) for i in np.ndindex(labels[m].shape))
            for i in np.ndindex(labels[m].shape):
                histogram[labels[m][i]] += abs(maps[m, c][i]) / total / n
        result[c] = -sum(p * np.log(p) for p in histogram if p > 0)
    return result


def test_locality_against_a_loop():
    rng = np.random.RandomState(0)
    maps = rng.normal(size=(3, 2, 1, 4, 6))
    grid = grid_parts((4, 6), (2, 3))
    expected = looped_locality(maps, np.broadcast_to(grid, (3, 1, 4, 6)), 6)
    np.testing.assert_allclose(locality(maps, grid, average=False), expected, rtol=1e-12)
    assert locality(maps, grid) == pytest.approx(expected.mean())
    own = rng.randint(4, size=(3, 1, 4, 6))
    expected = looped_locality(maps, own, 4)
    np.testing.assert_allclose(locality(maps, own, average=False), expected, rtol=1e-12)


def test_locality_of_known_maps():
    even, one = np.ones((2, 1, 12)), np.zeros((2, 1, 12))
    one[..., 5] = -3
    segments = time_segments(12, 4)
    assert locality(even, segments) == pytest.approx(np.log(4))
    assert locality(one, segments) == 0
    # Averaged over samples first: two samples that look at two different parts.
    moving = np.zeros((2, 1, 12))
    moving[0, 0, 0] = moving[1, 0, 11] = 1
    assert locality(moving, segments) == pytest.approx(np.log(2))
    columns = {"a": ["x", "y"], "b": ["z"]}
    maps = np.array([[[1.0, 1.0, 2.0]]])
    assert locality(maps, columns, feature_names=["x", "y", "z"]) == pytest.approx(np.log(2))


def test_locality_leaves_out_what_is_not_used():
    maps = np.zeros((2, 3, 4))
    maps[:, 0, 0] = 1
    maps[:, 1] = 1
    maps[1, 0] = 0  # no attribution in this sample: it says nothing
    entropy = locality(maps, [0, 1, 2, 3], average=False)
    np.testing.assert_allclose(entropy, [0, np.log(4), np.nan])
    assert locality(maps, [0, 1, 2, 3]) == pytest.approx(np.log(4) / 2)
    assert locality(maps, [0, 1, 2, 3], active=[True, False, True]) == 0
    with pytest.raises(ValueError, match="no concept that is used"):
        locality(maps, [0, 1, 2, 3], active=[False, False, True])


def test_negative_labels_are_in_no_part():
    maps = np.array([[[1.0, 1.0, 8.0]]])
    assert locality(maps, [0, 1, -1]) == pytest.approx(np.log(2))
    assert locality(maps, [[0, 1, -1]]) == pytest.approx(np.log(2))
    with pytest.raises(ValueError, match="every label is negative"):
        locality(maps, [-1, -1, -1])


@pytest.mark.parametrize(
    ("parts", "active", "match"),
    [
        ([0, 1], None, "does not broadcast"),
        (np.zeros((2, 3), int), None, "fit neither one sample"),
        (np.zeros((1, 3)), None, "must be integers"),
        ([0, 1, 2], [True], "a bool for each of the 1|a bool for each of the 2"),
        ([0, 1, 2], [1, 0], "dtype int"),
    ],
)
def test_locality_errors(parts, active, match):
    with pytest.raises(ValueError, match=match):
        locality(np.ones((1, 2, 3)), parts, active=active)


def test_voronoi_parts_against_a_loop():
    rng = np.random.RandomState(0)
    keypoints = rng.uniform(0, 8, size=(3, 4, 2))
    keypoints[1, 2] = np.nan
    labels = voronoi_parts(keypoints, (7, 9))
    for m in range(3):
        for i, j in np.ndindex(7, 9):
            distance = [(i - a) ** 2 + (j - b) ** 2 for a, b in keypoints[m]]
            assert labels[m, i, j] == np.nanargmin(distance)
    assert 2 not in labels[1]
    np.testing.assert_array_equal(voronoi_parts(keypoints[0], (7, 9)), labels[0])


def test_voronoi_parts_errors():
    with pytest.raises(ValueError, match="must be \\(n_keypoints, 2\\)"):
        voronoi_parts([[1.0, 2.0, 3.0]], (4, 4))
    with pytest.raises(ValueError, match="all those of sample 0 are absent"):
        voronoi_parts([[np.nan, 1.0]], (4, 4))


def test_grid_parts():
    labels = grid_parts((5, 4), (2, 4))
    assert len(np.unique(labels)) == 8
    counts = np.bincount(labels.ravel())
    assert counts.max() - counts.min() <= 1
    with pytest.raises(ValueError, match="5 cells along an axis of 4"):
        grid_parts((4, 8), 5)
    with pytest.raises(ValueError, match="one for each of"):
        grid_parts((4, 8), (2,))


def test_faithfulness():
    rng = np.random.RandomState(0)
    y, approximation = rng.normal(size=(2, 20, 3))
    result = faithfulness(y, approximation)
    assert result.f_reg == pytest.approx(np.mean([np.mean(np.abs(y - approximation))]))
    r2 = [
        1 - ((y - approximation)[:, j] ** 2).sum() / ((y[:, j] - y[:, j].mean()) ** 2).sum()
        for j in range(3)
    ]
    assert result.r2 == pytest.approx(np.mean(r2))
    assert np.isnan(faithfulness([1.0, 1.0], [1.0, 1.0]).r2)
    # The known error of a (n,) against a (n, 1).
    with pytest.raises(ValueError, match="compared with every other"):
        faithfulness(y[:, 0], approximation[:, :1])


def test_concept_orthogonality():
    rng = np.random.RandomState(0)
    concepts = rng.normal(size=(30, 3))
    pairs = [
        abs(np.corrcoef(concepts[:, i], concepts[:, j])[0, 1]) for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    assert concept_orthogonality(concepts) == pytest.approx(np.mean(pairs))
    assert concept_orthogonality(concepts, active=[True, True, False]) == pytest.approx(pairs[0])
    parallel = concepts[:, [0, 0]] * [1, -2]
    assert concept_orthogonality(parallel) == pytest.approx(1)
    with_constant = np.c_[concepts, np.ones(30)]
    assert concept_orthogonality(with_constant) == pytest.approx(np.mean(pairs))
    with pytest.raises(ValueError, match="1 of 2 concepts"):
        concept_orthogonality(with_constant[:, 2:])


def test_a_target_that_only_rounding_makes_vary_does_not_count():
    constant = np.full(7, 0.1)
    assert np.isnan(faithfulness(constant, constant + 1e-3).r2)
    true = np.stack([constant, np.arange(7.0)], axis=1)
    assert faithfulness(true, true + [1e-3, 0]).r2 == 1
    # However small the units are.
    assert faithfulness(1e-9 * np.arange(3), 1e-9 * np.array([0, 1, 1.5])).r2 == 0.875


@pytest.mark.parametrize("active", [[0, 1, 2, 3], True, ["True"] * 4, [True] * 3])
def test_active_concepts_are_bools(active):
    concepts = np.random.RandomState(0).randn(10, 4)
    with pytest.raises(ValueError, match="active must hold a bool for each of the 4 concepts"):
        concept_orthogonality(concepts, active=active)


def test_labels_of_parts_may_be_any_numbers():
    maps = np.abs(np.random.RandomState(0).randn(3, 2, 4))
    expected = locality(maps, [0, 1, 2, 2])
    assert locality(maps, [5, 10**9, 7, 7]) == pytest.approx(expected)
    labels = np.tile([5, 10**9, 7, 7], (3, 1))
    assert locality(maps, labels) == pytest.approx(expected)
    with pytest.raises(ValueError, match="do not fit a sample, of shape"):
        locality(maps, [0, -1])


@pytest.mark.parametrize("scale", [1.0, 1e300, 1e-310])
def test_columns_that_vary_by_rounding_are_no_concepts(scale):
    rng = np.random.default_rng(0)
    concepts = np.column_stack([rng.normal(size=(50, 2)), 1e6 + 1e-10 * rng.normal(size=50)])
    expected = abs(np.corrcoef(concepts[:, 0], concepts[:, 1])[0, 1])
    rtol = 1e-9 if scale >= 1 else 1e-3  # numbers below 1e-308 have fewer digits
    scaled = concepts * [scale, scale, 1.0]
    assert concept_orthogonality(scaled) == pytest.approx(expected, rel=rtol)
    single = np.column_stack([concepts[:, :2], 100 + 1e-6 * rng.normal(size=50)]).astype("float32")
    assert concept_orthogonality(single) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="1 of 2 concepts"):
        concept_orthogonality(concepts[:, 1:])


@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1e-160, 1e160, 1e200, 1e307])
def test_r2_is_free_of_units(scale):
    true, approx = np.array([1.0, 2.0, 4.0]), np.array([1.1, 2.0, 3.7])
    expected = faithfulness(true, approx).r2
    assert faithfulness(scale * true, scale * approx).r2 == pytest.approx(expected, rel=1e-6)


def test_a_target_that_varies_by_rounding_in_its_own_dtype():
    true = np.array([1, 1, 1 + 1.2e-7], dtype=np.float32)
    assert np.isnan(faithfulness(true, np.ones(3, dtype=np.float32)).r2)
    both = np.stack([true, np.array([1, 2, 3], dtype=np.float32)], axis=1)
    assert faithfulness(both, both).r2 == 1


def test_locality_of_the_least_integer_and_of_huge_numbers():
    maps = np.array([[[-128, 0, 100, 0]], [[-128, 0, 100, 100]]], dtype=np.int8)
    parts = [0, 0, 1, 1]
    assert locality(maps, parts) == locality(maps.astype(float), parts)
    assert locality(np.full((1, 1, 4), 1.7e308), parts) == pytest.approx(np.log(2))


def test_concepts_of_three_axes_are_refused():
    with pytest.raises(ValueError, match=r"shape \(4, 5, 5\), but must be \(n, n_concepts\)"):
        concept_orthogonality(np.random.default_rng(0).normal(size=(4, 5, 5)))
