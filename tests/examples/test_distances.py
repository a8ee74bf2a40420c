import numpy as np
import pytest
from scipy.spatial import distance

from sklexplain.examples import _distances, _nearest
from sklexplain.examples._distances import METRICS, distances, median_distance
from sklexplain.examples._nearest import largest, nearest

RNG = np.random.default_rng(0)
QUERIES = RNG.normal(size=(7, 5))
CORPUS = RNG.normal(size=(12, 5))
NAMES = {"l1": "cityblock", "manhattan": "cityblock", "l2": "euclidean"}


@pytest.fixture(params=["search", "compare"])
def both_ways(request, monkeypatch):
    monkeypatch.setattr(_nearest, "_MIN_SEARCH", 0 if request.param == "search" else 10**9)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_against_scipy(metric):
    expected = distance.cdist(QUERIES, CORPUS, NAMES.get(metric, metric))
    np.testing.assert_allclose(distances(QUERIES, CORPUS, metric), expected, rtol=1e-10)
    d, index = nearest(QUERIES, CORPUS, 4, metric)
    order = np.argsort(expected, axis=1, kind="stable")[:, :4]
    np.testing.assert_array_equal(index, order)
    np.testing.assert_allclose(d, np.take_along_axis(expected, order, axis=1), rtol=1e-10)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_close_pairs_keep_their_digits_far_from_the_origin(metric):
    corpus = CORPUS + 1e6
    queries = corpus[:3] * (1 + 1e-12 * np.arange(3)[:, None] * [1, 0, 0, 0, 0])
    d = distances(queries, corpus, metric)
    assert d[0, 0] == 0
    for i in range(3):
        a, b = (v.astype(np.longdouble) for v in (queries[i], corpus[i]))
        if metric == "cosine":
            a, b = a / np.sqrt((a * a).sum()), b / np.sqrt((b * b).sum())
        exact = np.sqrt(((a - b) ** 2).sum())
        exact = exact**2 / 2 if metric == "cosine" else exact
        # Unit vectors are rounded themselves: the cosine of so small an angle has two digits.
        assert abs(d[i, i] - exact) <= {"euclidean": 1e-6, "cosine": 1e-2}[metric] * exact


@pytest.mark.usefixtures("both_ways")
def test_cosine_of_zero_vectors_is_one():
    zero = np.zeros((1, 5))
    assert distances(zero, np.vstack([zero, CORPUS[:1]]), "cosine").tolist() == [[1.0, 1.0]]
    assert nearest(zero, CORPUS, 2, "cosine")[0].tolist() == [[1.0, 1.0]]


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
def test_ties_go_to_the_first_whatever_the_batch(metric):
    # Corners of a cube: distances that tie, which matrix products round apart.
    corpus = np.array(list(np.ndindex(2, 2, 2)), dtype=float) * 0.1 + 0.3
    corpus = np.vstack([corpus, corpus])
    queries = np.vstack([np.full((1, 3), 0.35), corpus])
    d, index = nearest(queries, corpus, 5, metric)
    for i, query in enumerate(queries):
        one_d, one = nearest(query[None], corpus, 5, metric)
        np.testing.assert_array_equal(one[0], index[i])
        np.testing.assert_array_equal(one_d[0], d[i])


def test_blocks_of_pairs_change_nothing(monkeypatch):
    whole = nearest(CORPUS, CORPUS, 3, "euclidean")
    monkeypatch.setattr(_nearest, "_BLOCK", 7)
    for a, b in zip(whole, nearest(CORPUS, CORPUS, 3, "euclidean"), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("both_ways")
def test_exclude_leaves_one_out():
    corpus = np.vstack([CORPUS, CORPUS[:1]])
    d, index = nearest(corpus, corpus, 12, "euclidean", exclude=np.arange(13))
    assert all(i not in row for i, row in enumerate(index))
    assert (d[0, 0], index[0, 0]) == (0.0, 12)  # its duplicate stays


def test_largest_first_column_first():
    values = np.array([[1.0, 3, 3, 2, 3], [0, 0, 0, 0, 0]])
    assert largest(values, 4).tolist() == [[1, 2, 4, 3], [0, 1, 2, 3]]


def test_median_distance(monkeypatch):
    rng = np.random.RandomState(0)
    pairs = distance.pdist(CORPUS)
    assert median_distance(CORPUS, "euclidean", rng) == pytest.approx(np.median(pairs))
    assert median_distance(CORPUS[:1], "euclidean", rng) == 1.0
    assert median_distance(np.ones((4, 2)), "euclidean", rng) == 1.0
    mostly = np.vstack([np.zeros((9, 2)), [[3.0, 4.0]]])
    assert median_distance(mostly, "euclidean", rng) == 5.0
    large = RNG.normal(size=(3000, 4))
    draws = {median_distance(large, "euclidean", np.random.RandomState(s)) for s in (0, 0, 1)}
    assert len(draws) == 2
    assert max(draws) / min(draws) < 1.05


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("exclude", [None, np.arange(300)])
def test_a_search_with_many_ties_is_the_full_comparison(metric, exclude, monkeypatch):
    corpus = np.vstack([RNG.integers(-2, 3, size=(400, 3)), np.full((30, 3), 2)]) + 0.5
    monkeypatch.setattr(_nearest, "_MIN_SEARCH", 0)
    searched = nearest(corpus[:300], corpus, 6, metric, exclude)
    monkeypatch.setattr(_nearest, "_MIN_SEARCH", 10**9)
    compared = nearest(corpus[:300], corpus, 6, metric, exclude)
    np.testing.assert_array_equal(searched[1], compared[1])
    np.testing.assert_allclose(searched[0], compared[0], rtol=1e-9, atol=1e-15)


def slow_nearest(queries, corpus, k, metric, exclude):
    """Sort all distances of each query, ties by position."""
    d = distance.cdist(queries, corpus, NAMES.get(metric, metric))
    d[np.arange(len(d)), exclude] = np.inf
    index = np.argsort(d, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(d, index, axis=1), index


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan", "chebyshev"])
@pytest.mark.parametrize("k", [1, 5, 62])
def test_blocks_of_the_corpus_change_nothing(metric, k, monkeypatch):
    corpus = np.random.default_rng(1).normal(size=(63, 4)) + 3
    exclude = np.arange(63)
    monkeypatch.setattr(_nearest, "_MIN_SEARCH", 0)
    monkeypatch.setattr(_nearest, "_BLOCK", 4 * 10)  # ten examples at once
    d, index = nearest(corpus, corpus, k, metric, exclude)
    expected, expected_index = slow_nearest(corpus, corpus, k, metric, exclude)
    np.testing.assert_array_equal(index, expected_index)
    np.testing.assert_allclose(d, expected, rtol=1e-12, atol=1e-14)


def test_norms_that_overflow_are_still_seen(monkeypatch):
    monkeypatch.setattr(_nearest, "_MIN_SEARCH", 0)
    with pytest.raises(ValueError, match="overflows"):
        nearest(np.full((1, 2), 1.2e308), -np.full((5, 2), 1.2e308), 1, "manhattan")


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
def test_tiles_change_nothing(metric, monkeypatch):
    queries = np.vstack([QUERIES, CORPUS[:2], CORPUS[:1] * (1 + 1e-9)]) + 5
    expected = distance.cdist(queries, CORPUS + 5, NAMES.get(metric, metric))
    monkeypatch.setattr(_distances, "_TILE", (4, 5))
    monkeypatch.setattr(_distances, "_BLOCK", 30)
    d = distances(queries, CORPUS + 5, metric)
    np.testing.assert_allclose(d, expected, rtol=1e-9, atol=1e-15 if metric == "cosine" else 0)
    assert (d[[7, 8], [0, 1]] == 0).all()
