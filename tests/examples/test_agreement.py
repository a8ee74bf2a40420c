import itertools

import numpy as np
import pytest
from scipy import sparse, stats

from sklexplain.metrics import saliency_correlation, similarity_rate

RNG = np.random.default_rng(0)


def reference(importance, y_query, y_train, m, sign=1):
    """Average over every order that breaks the ties: exact, and exponential."""
    rates = []
    for row, label in zip(importance, y_query, strict=True):
        orders = [
            o
            for o in itertools.permutations(range(len(row)))
            if all(sign * row[a] >= sign * row[b] for a, b in itertools.pairwise(o))
        ]
        rates.append(np.mean([np.mean([y_train[i] == label for i in o[:m]]) for o in orders]))
    return np.mean(rates)


@pytest.mark.parametrize("least", [False, True])
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array, sparse.csc_matrix])
def test_similarity_rate_is_the_mean_over_all_orders_of_ties(make, least):
    importance = RNG.integers(-1, 3, size=(8, 6)).astype(float)
    y_query, y_train = RNG.integers(0, 2, size=8), RNG.integers(0, 2, size=6)
    sizes = [1, 2, 3, 5, 6]
    rate = similarity_rate(make(importance), y_query, y_train, n_top=sizes, least=least)
    expected = [reference(importance, y_query, y_train, m, -1 if least else 1) for m in sizes]
    np.testing.assert_allclose(rate, expected)


def test_sparse_rows_of_any_length_and_stored_zeros():
    dense = np.array([[0.0, 0, 0, 0], [3, 0, 2, 1], [0, -1, 0, 0]])
    stored = sparse.csr_array((np.zeros(1), ([0], [2])), shape=dense.shape) + dense
    y_query, y_train = ["a", "b", "b"], ["a", "b", "b", "a"]
    for m in range(1, 5):
        rate = similarity_rate(dense, y_query, y_train, n_top=m)
        assert similarity_rate(stored, y_query, y_train, n_top=m) == pytest.approx(rate)
        assert isinstance(rate, float)


def test_blocks_of_queries_change_nothing(monkeypatch):
    importance = RNG.normal(size=(11, 9))
    y_query, y_train = RNG.integers(0, 3, size=11), RNG.integers(0, 3, size=9)
    whole = similarity_rate(importance, y_query, y_train, n_top=[2, 9])
    monkeypatch.setattr("sklexplain.examples._agreement._BLOCK", 20)
    np.testing.assert_allclose(similarity_rate(importance, y_query, y_train, n_top=[2, 9]), whole)


def test_constant_importance_is_chance():
    y_train = np.array([0, 0, 0, 1])
    rate = similarity_rate(np.ones((2, 4)), [0, 1], y_train, n_top=[1, 3])
    np.testing.assert_allclose(rate, (0.75 + 0.25) / 2)


@pytest.mark.parametrize(
    ("args", "n_top", "error", "match"),
    [
        ((np.ones((2, 3)), [0, 1], [0, 1, 1]), 4, ValueError, "n_top=4 is more than the 3"),
        ((np.ones((2, 3)), [0, 1], [0, 1, 1]), 0, ValueError, "'n_top' .* Got 0"),
        ((np.ones((2, 3)), [0, 1], [0, 1, 1]), 0.5, TypeError, "'n_top' .* Got 0.5"),
        ((np.ones((2, 3)), [0, 1], [0, 1, 1]), [], ValueError, "empty"),
        ((np.ones((2, 3)), [0], [0, 1, 1]), 1, ValueError, "y_query"),
        ((np.ones((2, 3)), [0, 1], [0, 1]), 1, ValueError, "y_train"),
        ((np.ones(3), [0], [0, 1, 1]), 1, ValueError, "2 axes"),
        ((np.ones((2, 3)) * np.nan, [0, 1], [0, 1, 1]), 1, ValueError, "NaN"),
        ((sparse.csr_array([[np.nan]]), [0], [0]), 1, ValueError, "NaN"),
        ((np.array([["a"]]), [0], [0]), 1, TypeError, "numbers"),
    ],
)
def test_similarity_rate_errors(args, n_top, error, match):
    with pytest.raises(error, match=match):
        similarity_rate(*args, n_top=n_top)


@pytest.mark.parametrize("mode", ["pearson", "spearman"])
def test_correlation_over_all_pairs(mode):
    a = RNG.normal(size=(6, 2, 5))
    b = a + RNG.normal(size=a.shape)
    expected = getattr(stats, f"{mode}r")(a.ravel(), b.ravel()).statistic
    assert saliency_correlation(a, b, mode=mode) == pytest.approx(expected)
    assert saliency_correlation(a, -3 * b + 2, mode=mode) == pytest.approx(-expected)


def test_correlation_of_sparse_matrices():
    a, b = (RNG.normal(size=(20, 30)) * (RNG.random((20, 30)) < 0.2) for _ in range(2))
    b += a
    expected = saliency_correlation(a, b)
    for make_a, make_b in itertools.product([np.asarray, sparse.csr_array], repeat=2):
        assert saliency_correlation(make_a(a), make_b(b)) == pytest.approx(expected)


def test_correlation_of_tiny_and_huge_values():
    a = RNG.normal(size=(5, 4))
    assert saliency_correlation(a * 1e-200, a * 1e200) == pytest.approx(1.0)
    assert saliency_correlation(sparse.csr_array(a * 1e-200), a) == pytest.approx(1.0)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array])
def test_constant_explanation_is_nan_with_a_warning(make):
    with pytest.warns(UserWarning, match="b is constant"):
        assert np.isnan(saliency_correlation(make(np.eye(3)), make(np.ones((3, 3)))))
    with pytest.warns(UserWarning, match="a is constant"):
        assert np.isnan(saliency_correlation(make(np.zeros((3, 3))), make(np.eye(3))))


def test_correlation_errors():
    with pytest.raises(ValueError, match="one shape"):
        saliency_correlation(np.eye(3), np.eye(2))
    with pytest.raises(ValueError, match="Did you mean 'pearson'"):
        saliency_correlation(np.eye(3), np.eye(3), mode="pearsons")
    with pytest.raises(TypeError, match="toarray"):
        saliency_correlation(sparse.csr_array(np.eye(3)), np.eye(3), mode="spearman")
    with pytest.raises(ValueError, match="NaN"):
        saliency_correlation(np.eye(3) * np.nan, np.eye(3))


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int8])
@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_array])
def test_ties_beside_importance_in_any_dtype(dtype, convert):
    importance = np.array([[0, 1, 5, 9]]).astype(dtype)
    params = {"n_top": 1, "ties": np.arange(4.0)[None]}
    expected = similarity_rate(importance.astype(float), ["a"], ["a", "b", "b", "b"], **params)
    assert expected == 0
    assert similarity_rate(convert(importance), ["a"], ["a", "b", "b", "b"], **params) == expected


@pytest.mark.parametrize("offset", [0, 1e4, 1e8])
@pytest.mark.parametrize("density", [0.3, 1.0])
def test_sparse_correlations_do_not_cancel(offset, density):
    rng = np.random.default_rng(0)
    a, b = ((rng.normal(size=(20, 5)) + offset) for _ in range(2))
    b = b + a - offset
    a, b = (np.where(rng.random(a.shape) < density, values, 0) for values in (a, b))
    found = saliency_correlation(sparse.csr_array(a), sparse.csr_array(b))
    assert found == pytest.approx(saliency_correlation(a, b), abs=1e-9)


@pytest.mark.parametrize("mode", ["pearson", "spearman", "cosine"])
@pytest.mark.parametrize("scale", [1e-300, 4e307])
def test_correlations_of_tiny_and_huge_values(mode, scale):
    a, b = np.random.default_rng(0).uniform(-4, 4, size=(2, 6, 5))
    expected = saliency_correlation(a, b, mode=mode)
    assert saliency_correlation(scale * a, scale * b, mode=mode) == pytest.approx(expected)
