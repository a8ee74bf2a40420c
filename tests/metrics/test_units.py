"""Measures of the maps of latent units."""

from itertools import combinations

import numpy as np
import pytest
from scipy import sparse, stats

from sklexplain.exceptions import SklexplainWarning
from sklexplain.metrics import (
    active_units,
    saliency_correlation,
    saliency_entropy,
    unit_correlation,
)

MAPS = np.random.default_rng(0).normal(size=(5, 3, 2, 4))


def test_entropy_equals_a_loop():
    maps = MAPS.copy()
    maps[0, :, 0, 0] = 0  # matters to no unit, and does not count
    maps[1, :2] = 0
    found = []
    for sample in maps.reshape(5, 3, -1):
        for feature in np.abs(sample).T:
            if feature.sum() > 0:
                shares = feature / feature.sum()
                found.append(-sum(p * np.log(p) for p in shares if p > 0))
    np.testing.assert_allclose(saliency_entropy(maps), np.mean(found), rtol=1e-12)
    for scale in (1e-200, 1e200, 5e307 / np.abs(maps).max()):
        np.testing.assert_allclose(saliency_entropy(maps * scale), np.mean(found), rtol=1e-9)


def test_entropy_ends():
    assert saliency_entropy(np.eye(4)[None]) == 0
    np.testing.assert_allclose(saliency_entropy(np.ones((2, 7, 3))), np.log(7))
    with pytest.warns(SklexplainWarning, match="all maps are 0"):
        assert np.isnan(saliency_entropy(np.zeros((2, 3, 4))))


@pytest.mark.parametrize(
    ("mode", "function"),
    [
        ("pearson", lambda a, b: stats.pearsonr(a, b)[0]),
        ("spearman", lambda a, b: stats.spearmanr(a, b)[0]),
        ("cosine", lambda a, b: a @ b / np.sqrt((a @ a) * (b @ b))),
    ],
)
def test_correlations_equal_scipys(mode, function):
    maps = MAPS + 0.3
    rows = [maps[:, j].ravel() for j in range(3)]
    matrix = unit_correlation(maps, mode=mode, average=False)
    for i, j in combinations(range(3), 2):
        np.testing.assert_allclose(matrix[i, j], function(rows[i], rows[j]), rtol=1e-10)
    np.testing.assert_allclose(matrix, matrix.T)
    np.testing.assert_allclose(np.diag(matrix), 1)
    expected = np.mean([matrix[i, j] for i, j in combinations(range(3), 2)])
    np.testing.assert_allclose(unit_correlation(maps, mode=mode), expected)
    # And of two whole explanations.
    found = saliency_correlation(maps, MAPS[::-1], mode=mode)
    np.testing.assert_allclose(found, function(maps.ravel(), MAPS[::-1].ravel()), rtol=1e-10)


def test_cosine_of_sparse_matrices():
    a, b = MAPS[:2, 0, 0] * (MAPS[:2, 0, 0] > 0), MAPS[:2, 1, 0]
    found = saliency_correlation(sparse.csr_array(a), sparse.csr_array(b), mode="cosine")
    np.testing.assert_allclose(found, saliency_correlation(a, b, mode="cosine"), rtol=1e-12)


def test_constant_units_are_left_out():
    maps = MAPS.copy()
    maps[:, 1] = 2.0
    with pytest.warns(SklexplainWarning, match=r"units \[1\] are constant"):
        matrix = unit_correlation(maps, average=False)
    assert np.isnan(matrix[1]).all() and np.isnan(matrix[:, 1]).all()
    with pytest.warns(SklexplainWarning, match=r"units \[1\] are constant"):
        assert unit_correlation(maps) == matrix[0, 2]
    assert not np.isnan(unit_correlation(maps, mode="cosine"))
    with pytest.warns(SklexplainWarning, match="b is 0"):
        assert np.isnan(saliency_correlation(maps, 0 * maps, mode="cosine"))


def test_active_units():
    codes = np.random.default_rng(0).normal(size=(400, 3)) * [1, 0.05, 0.2]
    assert active_units(codes).tolist() == [True, False, True]
    assert active_units(codes, threshold=0.1).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: saliency_entropy(np.ones((2, 3))), r"\(n, n_units, ...\)"),
        (lambda: saliency_entropy(np.full((2, 3, 4), np.nan)), "maps"),
        (lambda: unit_correlation(np.ones((2, 1, 4))), "a single unit"),
        (lambda: unit_correlation(MAPS, mode="kendall"), "mode='kendall'"),
        (lambda: active_units(np.ones((1, 3))), "two samples"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("value", [0.1, 1e300, 0.0])
def test_a_constant_unit_is_never_active(value):
    codes = np.stack([np.full(7, value), np.arange(7.0)], axis=1)
    assert active_units(codes, threshold=0).tolist() == [False, True]


@pytest.mark.parametrize("mode", ["pearson", "spearman", "cosine"])
@pytest.mark.parametrize("scale", [1e-310, 1e-200, 4e307])
def test_correlations_of_tiny_and_huge_maps(mode, scale):
    maps = np.random.default_rng(0).uniform(-4, 4, size=(6, 3, 5))
    expected = unit_correlation(maps, mode=mode, average=False)
    found = unit_correlation(scale * maps, mode=mode, average=False)
    np.testing.assert_allclose(found, expected, atol=1e-4 if scale < 1e-300 else 1e-12)


# What should be constant: sums that differ in the last bit.
ROUNDED = np.array([0.1 + 0.2, 0.3, 0.3])


@pytest.mark.parametrize("mode", ["pearson", "spearman"])
@pytest.mark.parametrize("scale", [1.0, 1e-300, 1e300])
def test_what_varies_by_rounding_is_constant(mode, scale):
    assert len(set(ROUNDED)) == 2
    maps = scale * np.array([[ROUNDED, [1.0, 0.0, 0.0]]])
    with pytest.warns(SklexplainWarning, match=r"units \[0\] are constant"):
        assert np.isnan(unit_correlation(maps, mode=mode))
    for a, b, name in ((maps[:, 0], maps[:, 1], "a"), (maps[:, 1], maps[:, 0], "b")):
        with pytest.warns(SklexplainWarning, match=f"{name} is constant"):
            assert np.isnan(saliency_correlation(a, b, mode=mode))
    # In single precision more is rounding, and a little more than rounding is none.
    single = np.float32([[[1 + 3e-7, 1, 1], [1, 0, 0]]])
    with pytest.warns(SklexplainWarning, match=r"units \[0\] are constant"):
        assert np.isnan(unit_correlation(single, mode=mode))
    with pytest.warns(SklexplainWarning, match="a is constant"):
        assert np.isnan(saliency_correlation(single[:, 0], single[:, 1], mode=mode))
    np.testing.assert_allclose(unit_correlation(single.astype(float), mode=mode), 1)
    np.testing.assert_allclose(
        saliency_correlation(*np.moveaxis(single.astype(float), 1, 0), mode=mode), 1
    )


def test_features_that_matter_by_rounding_do_not_count():
    maps = np.array([[[1.0, 1e-17, 0.0], [0.0, 1e-17, 4.0]]])
    assert saliency_entropy(maps) == 0
    assert saliency_entropy(maps.astype(np.float32)) == 0
    # Small ones count, and those of samples whose numbers are all small.
    np.testing.assert_allclose(saliency_entropy([[[1.0, 1e-9], [0.0, 1e-9]]]), np.log(2) / 2)
    small = np.concatenate([np.eye(2)[None], np.full((1, 2, 2), 1e-20)])
    np.testing.assert_allclose(saliency_entropy(small), np.log(2) / 2)


@pytest.mark.parametrize("holding", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("mode", ["pearson", "cosine"])
def test_the_smallest_number_of_a_dtype(holding, mode):
    a, b = np.int8([[-128, 0, 0]]), np.int8([[-128, 0, 5]])
    expected = saliency_correlation(a.astype(float), b.astype(float), mode=mode)
    assert expected > 0.9
    found = saliency_correlation(holding(a), holding(b), mode=mode)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(saliency_correlation(holding(a), holding(a), mode=mode), 1)
