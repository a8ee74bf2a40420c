import copy
import pickle
import tracemalloc

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsTransformer, NearestNeighbors, RadiusNeighborsTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skorch import NeuralNetRegressor
from torch import nn

from sklexplain.examples import DKNNImportance, _base

IRIS, LABELS = load_iris(return_X_y=True)
TRAIN, QUERY = IRIS[::2], IRIS[1::2]
Y_TRAIN, Y_QUERY = LABELS[::2], LABELS[1::2]
RNG = np.random.default_rng(0)


def small_net(seed=0):
    """Make a float64 network with batch normalisation and dropout, left in train mode."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(), nn.Linear(6, 3)
    )
    return net.double().train()


def embed(net, X):
    net = copy.deepcopy(net).eval()
    with torch.no_grad():
        return net(torch.as_tensor(X)).numpy()


def reference(z_query, z_train, kernel):
    """Importance one pair at a time."""
    pairs = [np.linalg.norm(a - b) for i, a in enumerate(z_train) for b in z_train[:i]]
    median = np.median(pairs)
    weights = {
        "inverse_distance": lambda a, b: 1 / (np.linalg.norm(a - b) + 1e-6 * median),
        "rbf": lambda a, b: np.exp(-(np.linalg.norm(a - b) ** 2) / (2 * median**2)),
        "cosine": lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b),
    }
    return np.array([[weights[kernel](a, b) for b in z_train] for a in z_query])


# -- values


@pytest.mark.parametrize("kernel", ["inverse_distance", "rbf", "cosine"])
def test_dense_against_loops(kernel):
    net = small_net()
    dknn = DKNNImportance(net, kernel=kernel).fit(TRAIN)
    expected = reference(embed(net, QUERY), embed(net, TRAIN), kernel)
    importance = dknn.transform(QUERY)
    assert importance.shape == (75, 75)
    assert importance.dtype == np.float64
    np.testing.assert_allclose(importance, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kernel", ["inverse_distance", "rbf", "cosine"])
def test_sparse_keeps_the_k_nearest_of_the_dense(kernel):
    net = small_net()
    dense = DKNNImportance(net, kernel=kernel).fit(TRAIN).transform(QUERY)
    importance = DKNNImportance(net, kernel=kernel, n_neighbors=5).fit(TRAIN).transform(QUERY)
    assert sparse.issparse(importance)
    assert importance.format == "csr"
    assert np.diff(importance.indptr).tolist() == [5] * 75
    z_query, z_train = embed(net, QUERY), embed(net, TRAIN)
    for i in range(75):
        near = np.argsort(np.linalg.norm(z_query[i] - z_train, axis=1), kind="stable")[:5]
        assert set(importance.indices[5 * i : 5 * i + 5]) == set(near)
        np.testing.assert_allclose(importance[[i]].toarray()[0, near], dense[i, near], rtol=1e-8)


def test_callable_kernel_and_metric():
    params = {"kernel": lambda d: -d, "metric": lambda a, b: np.abs(a - b).max()}
    dense = DKNNImportance(small_net(), **params).fit(TRAIN).transform(QUERY)
    builtin = DKNNImportance(small_net(), kernel=np.negative, metric="chebyshev").fit(TRAIN)
    np.testing.assert_allclose(dense, builtin.transform(QUERY))
    few = DKNNImportance(small_net(), n_neighbors=3, **params).fit(TRAIN).transform(QUERY)
    np.testing.assert_allclose(few.data.reshape(75, 3).max(axis=1), dense.max(axis=1))


@pytest.mark.parametrize("params", [{}, {"n_neighbors": 4}, {"n_neighbors": 4, "metric": "cosine"}])
def test_batch_equals_one_by_one(params, monkeypatch):
    queries = np.vstack([QUERY, TRAIN[:5]])  # 80, and duplicates of the corpus
    whole = DKNNImportance(small_net(), **params).fit(TRAIN).transform(queries)
    whole = whole.toarray() if params else whole
    dknn = DKNNImportance(small_net(), batch_size=7, **params).fit(TRAIN)
    monkeypatch.setattr(_base, "_BLOCK", 200)  # blocks of two rows
    parts = dknn.transform(queries)
    np.testing.assert_allclose(parts.toarray() if params else parts, whole, rtol=1e-4)
    single = [dknn.transform(q[None]) for q in queries]
    single = sparse.vstack(single).toarray() if params else np.vstack(single)
    np.testing.assert_allclose(single, whole, rtol=1e-4)


@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "cosine"])
@pytest.mark.parametrize("n_neighbors", [None, 4])
def test_a_float32_network_finds_a_duplicate_in_any_batch(metric, n_neighbors):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(140, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU())
    X = RNG.normal(size=(60, 140)).astype(np.float32)
    dknn = DKNNImportance(net, metric=metric, n_neighbors=n_neighbors).fit(X)
    together, apart = dknn.transform(X), [dknn.transform(x[None]) for x in X]
    if n_neighbors is not None:
        together, apart = together.toarray(), [a.toarray() for a in apart]
    np.testing.assert_allclose(np.vstack(apart), together, rtol=1e-4)
    assert (together.argmax(axis=1) == np.arange(60)).all()


def test_resolution_never_hides_what_a_network_tells_apart():
    X = np.linspace(0, 1e-3, 30)[:, None].astype(np.float32)
    net = nn.Linear(1, 1)
    net.weight.data.fill_(1.0)
    net.bias.data.fill_(10.0)  # far from the origin: float32 has three digits left
    row = DKNNImportance(net).fit(X).transform(X[:1])[0]
    assert (np.diff(row) < 0).all()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("n_neighbors", [None, 6])
def test_orthogonal_invariance(metric, n_neighbors):
    rotation = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    net = small_net()
    turn = nn.Linear(3, 3, bias=False).double()
    turn.weight.data = torch.from_numpy(rotation)
    maps = []
    for model in (net, nn.Sequential(net, turn)):
        dknn = DKNNImportance(model, metric=metric, n_neighbors=n_neighbors).fit(TRAIN)
        maps.append(dknn.transform(QUERY))
    a, b = (m if n_neighbors is None else m.toarray() for m in maps)
    np.testing.assert_allclose(a, b, rtol=1e-6)


def test_duplicates_are_finite_and_do_not_level_the_rest():
    X = np.vstack([TRAIN, TRAIN[:1], TRAIN[:1]])
    net = small_net().float()
    dknn = DKNNImportance(net, n_neighbors=None).fit(X.astype(np.float32))
    row = dknn.fit_transform(X.astype(np.float32))[0]
    assert row[0] == row[1:].min()
    assert np.isfinite(row).all()
    np.testing.assert_allclose(row[[75, 76]], 1e6 / dknn.median_distance_, rtol=1e-3)
    assert len(np.unique(np.delete(row, [0, 75, 76]))) > 60


def test_a_corpus_of_equal_examples_is_finite():
    same = np.ones((5, 4))
    for params in ({}, {"kernel": "rbf"}, {"n_neighbors": 2}, {"kernel": "cosine"}):
        importance = DKNNImportance(small_net(), **params).fit_transform(same)
        assert np.isfinite(importance.data if params.get("n_neighbors") else importance).all()


# -- leaving out


def test_fit_transform_leaves_each_example_out():
    X = np.vstack([TRAIN, TRAIN[:2]])
    dense = DKNNImportance(small_net()).fit_transform(X)
    full = DKNNImportance(small_net()).fit(X).transform(X)
    off = ~np.eye(77, dtype=bool)
    np.testing.assert_array_equal(dense.diagonal(), np.where(off, dense, np.inf).min(axis=1))
    np.testing.assert_allclose(dense[off], full[off], rtol=1e-6)
    few = DKNNImportance(small_net(), n_neighbors=3).fit_transform(X)
    assert np.diff(few.indptr).tolist() == [3] * 77
    assert not few.diagonal().any()
    assert few[0, 75] > 0  # a duplicate elsewhere is not left out
    for i in range(77):
        expected = np.sort(dense[i])[-3:]
        np.testing.assert_allclose(np.sort(few[[i]].toarray()[0])[-3:], expected, rtol=1e-6)


def test_all_others_may_be_asked_for_but_not_more():
    few = DKNNImportance(small_net(), n_neighbors=74).fit_transform(TRAIN)
    assert np.diff(few.indptr).tolist() == [74] * 75
    with pytest.raises(
        ValueError, match=r"n_neighbors=75 .* n_samples = 75.*at most n_neighbors=74"
    ):
        DKNNImportance(small_net(), n_neighbors=75).fit_transform(TRAIN)
    assert DKNNImportance(small_net(), n_neighbors=75).fit(TRAIN).transform(QUERY).nnz == 75 * 75


# -- the most important


@pytest.mark.parametrize("n_neighbors", [None, 6])
def test_top_examples_are_the_largest_of_the_matrix(n_neighbors, monkeypatch):
    dknn = DKNNImportance(small_net(), n_neighbors=n_neighbors).fit(TRAIN)
    dense = dknn.transform(QUERY)
    dense = dense if n_neighbors is None else dense.toarray()
    monkeypatch.setattr(_base, "_BLOCK", 200)
    importance, index = dknn.top_examples(QUERY, 6)
    expected = np.argsort(-dense, axis=1, kind="stable")[:, :6]
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_allclose(importance, np.take_along_axis(dense, expected, axis=1), rtol=1e-9)


@pytest.mark.parametrize("n_neighbors", [None, 6])
def test_top_examples_of_the_training_set(n_neighbors):
    dknn = DKNNImportance(small_net(), n_neighbors=n_neighbors)
    matrix = dknn.fit_transform(TRAIN)
    matrix = matrix if n_neighbors is None else matrix.toarray()
    importance, index = dknn.top_examples(TRAIN, 6, exclude_self=True)
    assert not (index == np.arange(75)[:, None]).any()
    np.testing.assert_allclose(importance, -np.sort(-matrix, axis=1)[:, :6], rtol=1e-6)
    with pytest.raises(ValueError, match="75 training examples, but X has 74"):
        dknn.top_examples(TRAIN[1:], 2, exclude_self=True)
    with pytest.raises(ValueError, match="k=75 is larger than the corpus of 74 others"):
        dknn.top_examples(TRAIN, 75, exclude_self=True)


def test_top_examples_are_named_by_the_index():
    names = [f"patient {i}" for i in range(75)]
    frame = pd.DataFrame(TRAIN, index=names, columns=list("abcd"))
    dknn = DKNNImportance(PCA(2)).fit(frame)
    positions = DKNNImportance(PCA(2)).fit(TRAIN).top_examples(QUERY, 3)[1]
    labels = dknn.top_examples(pd.DataFrame(QUERY, columns=list("abcd")), 3)[1]
    assert labels.tolist() == [[names[i] for i in row] for row in positions]
    assert dknn.get_feature_names_out().tolist() == names
    numbered = DKNNImportance(PCA(2)).fit(frame.set_axis(range(100, 175)))
    labels = numbered.top_examples(frame, 1)[1]
    assert labels.ravel().tolist() == list(range(100, 175))
    from_polars = DKNNImportance(PCA(2)).fit(pl.DataFrame(TRAIN, schema=list("abcd")))
    queries = pl.DataFrame(QUERY, schema=list("abcd"))
    np.testing.assert_array_equal(from_polars.top_examples(queries, 3)[1], positions)


def test_set_output():
    frame = pd.DataFrame(TRAIN, index=[f"p{i}" for i in range(75)], columns=list("abcd"))
    query = pd.DataFrame(QUERY, index=[f"q{i}" for i in range(75)], columns=list("abcd"))
    out = DKNNImportance(PCA(2)).set_output(transform="pandas").fit(frame).transform(query)
    assert out.columns.tolist() == frame.index.tolist()
    assert out.index.tolist() == query.index.tolist()
    out = DKNNImportance(PCA(2)).set_output(transform="polars").fit(TRAIN).transform(QUERY)
    assert out.columns[:2] == ["dknnimportance0", "dknnimportance1"]
    with pytest.raises(ValueError, match="sparse"):
        DKNNImportance(PCA(2), n_neighbors=2).set_output(transform="pandas").fit_transform(frame)


@pytest.mark.parametrize(
    "params", [{}, {"kernel": "rbf"}, {"kernel": "cosine"}, {"metric": "manhattan"}]
)
@pytest.mark.parametrize("exclude_self", [False, True])
def test_top_examples_against_sorting_everything(params, exclude_self, monkeypatch):
    monkeypatch.setattr("sklexplain.examples._nearest._MIN_SEARCH", 0)
    dknn = DKNNImportance(FunctionTransformer(), batch_size=40, **params).fit(TRAIN)
    expected = dknn.transform(TRAIN)
    if not params:
        np.testing.assert_allclose(expected, reference(TRAIN, TRAIN, "inverse_distance"), rtol=1e-8)
    expected[np.diag_indices(75 * exclude_self)] = -np.inf
    for k in (1, 7, 74, 75)[: 3 if exclude_self else 4]:
        importance, index = dknn.top_examples(TRAIN, k, exclude_self=exclude_self)
        largest = -np.sort(-expected, axis=1)[:, :k]
        np.testing.assert_allclose(importance, largest, rtol=1e-9, atol=1e-12)
        chosen = np.take_along_axis(expected, index, axis=1)
        np.testing.assert_allclose(chosen, largest, rtol=1e-9, atol=1e-12)
        assert all(len(set(row)) == k for row in index)


@pytest.mark.parametrize("n_neighbors", [None, 6])
def test_where_a_kernel_is_flat_the_first_of_the_corpus_comes_first(n_neighbors):
    # Three clusters, close to each other by less than their median distance can tell.
    corpus = np.repeat([[0.0], [1000.0], [1.0]], [3, 1, 200], axis=0)
    corpus[:3, 0] = [2e-5, 1e-5, 0]
    dknn = DKNNImportance(FunctionTransformer(), kernel="rbf", n_neighbors=n_neighbors)
    dknn.fit(corpus)
    dknn.median_distance_ = 1e-5  # so that all but the first are out of sight: importance 0
    importance, index = dknn.top_examples(np.zeros((1, 1)), 6)
    assert index[0, :3].tolist() == [2, 1, 0]
    np.testing.assert_allclose(importance[0], np.exp([0, -0.5, -2, -np.inf, -np.inf, -np.inf]))
    assert index[0, 3:].tolist() == ([3, 4, 5] if n_neighbors is None else [4, 5, 6])
    # Distances below the resolution of the network are the same.
    near = DKNNImportance(FunctionTransformer(), n_neighbors=n_neighbors).fit(corpus)
    near._resolution = 1e-4
    assert near.top_examples(np.zeros((1, 1)), 2)[1].tolist() == [[0, 1]]


@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("kernel", ["inverse_distance", "rbf"])
def test_many_equal_distances_stand_in_the_order_of_the_corpus(kernel, exclude_self):
    # Integers, of which products are rounded apart once they are centred.
    X = np.random.RandomState(0).randint(0, 3, (150, 6)).astype(float)
    dknn = DKNNImportance(FunctionTransformer(), kernel=kernel).fit(X)
    squares = ((X[:, None] - X) ** 2).sum(axis=2)  # exact
    squares[np.diag_indices(150 * exclude_self)] = np.inf
    expected = squares.argsort(axis=1, kind="stable")
    for k in (1, 5):
        index = dknn.top_examples(X, k, exclude_self=exclude_self)[1]
        np.testing.assert_array_equal(index, expected[:, :k])


def test_equal_directions_stand_in_the_order_of_the_corpus():
    X = np.tile(RNG.normal(size=(7, 5)), (20, 1))
    dknn = DKNNImportance(FunctionTransformer(), kernel="cosine").fit(X)
    index = dknn.top_examples(X[:7], 3)[1]
    assert index.tolist() == [[i, i + 7, i + 14] for i in range(7)]


@pytest.mark.parametrize("n_neighbors", [None, 5])
def test_sizes_of_numbers_do_not_matter_to_directions(n_neighbors):
    def run(factor):
        params = {"kernel": "cosine", "metric": "cosine", "n_neighbors": n_neighbors}
        dknn = DKNNImportance(FunctionTransformer(), **params).fit(TRAIN * factor)
        matrix = dknn.transform(QUERY * factor)
        matrix = matrix if n_neighbors is None else matrix.toarray()
        return matrix, *dknn.top_examples(QUERY * factor, 3)

    expected = run(1.0)
    for factor in (2.0**600, 2.0**-600):  # squares overflow, or vanish
        for values, others in zip(run(factor), expected, strict=True):
            np.testing.assert_array_equal(values, others)


@pytest.mark.parametrize("n_neighbors", [None, 5])
def test_distances_that_overflow_are_refused(n_neighbors):
    dknn = DKNNImportance(FunctionTransformer(), n_neighbors=n_neighbors)
    large = np.vstack([TRAIN, TRAIN + 200, TRAIN - 1]) * 1e160
    with pytest.raises(ValueError, match=r"'euclidean' overflows"):
        dknn.fit(large)
    dknn.fit(np.vstack([TRAIN, TRAIN + 200]))
    for call in (dknn.transform, lambda X: dknn.top_examples(X, 3)):
        with pytest.raises(ValueError, match=r"'euclidean' overflows"):
            call(large)


def test_the_top_needs_no_matrix():
    X = RNG.normal(size=(20_000, 3))
    dense = DKNNImportance(FunctionTransformer()).fit(X)
    few = DKNNImportance(FunctionTransformer(), n_neighbors=5).fit(X)
    tracemalloc.start()
    try:
        _, index = dense.top_examples(X[:2000], 5)
        neighbours = few.transform(X[:2000])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6  # the matrix would have 320e6
    np.testing.assert_array_equal(np.sort(index, axis=1), neighbours.indices.reshape(2000, 5))


# -- neighbours of one's own


@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "cosine"])
@pytest.mark.parametrize("n_neighbors", [None, 5])
def test_a_neighbours_transformer_finds_the_same(metric, n_neighbors):
    theirs = KNeighborsTransformer(n_neighbors=5 if n_neighbors is None else 9, metric=metric)
    ours = DKNNImportance(small_net(), n_neighbors=5, metric=metric)
    plugged = DKNNImportance(small_net(), n_neighbors=n_neighbors, neighbors=theirs)
    np.testing.assert_allclose(
        plugged.fit(TRAIN).transform(QUERY).toarray(),
        ours.fit(TRAIN).transform(QUERY).toarray(),
        rtol=1e-5,
    )
    assert plugged.median_distance_ == ours.median_distance_
    assert theirs.n_neighbors == (5 if n_neighbors is None else 9)  # a clone was fitted
    left_out = plugged.fit_transform(TRAIN)
    assert np.diff(left_out.indptr).tolist() == [5] * 75
    assert not left_out.diagonal().any()


class Approximate(TransformerMixin, BaseEstimator):
    """The nearest among every other example only; the sample itself may be counted among them."""

    def __init__(self, n_neighbors=5, extra=1):
        self.n_neighbors = n_neighbors
        self.extra = extra

    def fit(self, X, y=None):
        self.search_ = NearestNeighbors().fit(X[::2])
        self.n_ = len(X)
        return self

    def transform(self, X):
        k = self.n_neighbors + self.extra
        d, index = self.search_.kneighbors(X, n_neighbors=k)
        indptr = k * np.arange(len(X) + 1)
        return sparse.csr_matrix((d.ravel(), 2 * index.ravel(), indptr), shape=(len(X), self.n_))


@pytest.mark.parametrize("extra", [0, 1])
def test_an_approximate_index(extra):
    X = RNG.normal(size=(60, 3))
    own = {} if extra else {"n_neighbors": 6}
    dknn = DKNNImportance(
        FunctionTransformer(),
        n_neighbors=5 if extra else None,
        neighbors=Approximate(extra=extra, **own),
    ).fit(X)
    half = DKNNImportance(FunctionTransformer(), n_neighbors=5).fit(X[::2])
    half.median_distance_ = dknn.median_distance_
    k = 5
    for exclude in (False, True):
        importance, index = dknn.top_examples(X, k, exclude_self=exclude)
        assert (index % 2 == 0).all()
        assert (index == np.arange(60)[:, None]).any() != exclude
    expected, positions = half.top_examples(X[1::2], k)
    np.testing.assert_array_equal(index[1::2], 2 * positions)
    np.testing.assert_allclose(importance[1::2], expected)
    assert np.diff(dknn.fit_transform(X).indptr).tolist() == [5] * 60
    if not extra:
        dknn.set_params(n_neighbors=6).fit(X)
        with pytest.raises(ValueError, match="found 5 .* one more of its own n_neighbors"):
            dknn.fit_transform(X)


def test_neighbours_at_distance_zero_are_kept():
    X = np.vstack([TRAIN, TRAIN])
    dknn = DKNNImportance(
        PCA(2), neighbors=KNeighborsTransformer(n_neighbors=2, algorithm="kd_tree")
    )
    importance = dknn.fit(X).transform(TRAIN)
    assert np.diff(importance.indptr).tolist() == [2] * 75
    assert importance.data.min() > 1e5


def test_neighbours_within_a_radius():
    dknn = DKNNImportance(PCA(2), neighbors=RadiusNeighborsTransformer(radius=1.0))
    importance = dknn.fit(TRAIN, Y_TRAIN).transform(QUERY)
    z = PCA(2).fit(TRAIN)
    gaps = np.linalg.norm(z.transform(QUERY)[:, None] - z.transform(TRAIN), axis=2)
    np.testing.assert_array_equal(np.diff(importance.indptr), (gaps <= 1).sum(axis=1))
    assert 0.5 < dknn.score(QUERY, Y_QUERY) < 1
    few = DKNNImportance(
        PCA(2), n_neighbors=40, neighbors=RadiusNeighborsTransformer(radius=1.0)
    ).fit(TRAIN)
    with pytest.raises(ValueError, match="neighbors found .* n_neighbors=40 are needed"):
        few.transform(QUERY)


def test_neighbours_of_no_use():
    with pytest.raises(ValueError, match="mode='distance'"):
        DKNNImportance(PCA(2), neighbors=KNeighborsTransformer(mode="connectivity")).fit(TRAIN)
    for bad in (3, KNeighborsTransformer):
        with pytest.raises(
            TypeError, match="'neighbors' .* must be a transformer that gives graphs"
        ):
            DKNNImportance(PCA(2), neighbors=bad).fit(TRAIN)


# -- score


def test_label_score_against_loops():
    dknn = DKNNImportance(small_net()).fit(TRAIN, Y_TRAIN)
    index = dknn.top_examples(QUERY, 10)[1]
    rate = np.mean([np.mean(Y_TRAIN[i] == y) for i, y in zip(index, Y_QUERY, strict=True)])
    prior = np.mean([np.mean(Y_TRAIN == y) for y in Y_QUERY])
    assert dknn.score(QUERY, Y_QUERY) == pytest.approx((rate - prior) / (1 - prior))
    few = DKNNImportance(small_net(), n_neighbors=10).fit(TRAIN, Y_TRAIN)
    assert few.score(QUERY, Y_QUERY) == pytest.approx(dknn.score(QUERY, Y_QUERY))
    names = np.array(["setosa", "versicolor", "virginica"], dtype=object)
    named = DKNNImportance(small_net()).fit(TRAIN, pd.Series(names[Y_TRAIN]))
    assert named.score(QUERY, names[Y_QUERY]) == dknn.score(QUERY, Y_QUERY)


def test_input_score_against_loops():
    dknn = DKNNImportance(small_net()).fit(TRAIN)
    index = dknn.top_examples(QUERY, 10)[1]
    top = np.mean([((x - TRAIN[i]) ** 2).sum(axis=1) for x, i in zip(QUERY, index, strict=True)])
    everything = np.mean([((x - TRAIN) ** 2).sum(axis=1) for x in QUERY])
    assert dknn.score(QUERY) == pytest.approx(1 - top / everything)
    few = DKNNImportance(small_net(), n_neighbors=10).fit(TRAIN)
    assert few.score(QUERY) == pytest.approx(dknn.score(QUERY))


@pytest.mark.parametrize("params", [{}, {"n_neighbors": 10}])
def test_random_examples_score_nothing(params):
    X = RNG.normal(size=(400, 4))
    y = RNG.integers(0, 3, size=400)
    # A kernel that likes the far as much as the near.
    noise = DKNNImportance(FrozenEstimator(PCA(1).fit(RNG.normal(size=(50, 4)) * 1e-9)), **params)
    noise.fit(X[:200], y[:200])
    assert abs(noise.score(X[200:], y[200:])) < 0.1
    constant = DKNNImportance(PCA(2), kernel=np.ones_like).fit(X[:200], y[:200])
    assert abs(constant.score(X[200:], y[200:])) < 0.02


def test_missing_places_count_at_chance():
    few = DKNNImportance(small_net(), n_neighbors=5).fit(TRAIN, Y_TRAIN)
    all_ten = DKNNImportance(small_net(), n_neighbors=10).fit(TRAIN, Y_TRAIN)
    assert 0 < few.score(QUERY, Y_QUERY) < all_ten.score(QUERY, Y_QUERY)
    assert 0 < few.score(QUERY) < all_ten.score(QUERY)


@pytest.mark.parametrize("kernel", ["rbf", "cosine", "inverse_distance"])
def test_scores_of_tiny_importance_keep_its_order(kernel):
    """Far from the corpus, all of the weights of a kernel are tiny."""
    far = TRAIN.mean(axis=0) + 8 * (QUERY - TRAIN.mean(axis=0))
    dense_one = DKNNImportance(PCA(2), kernel=kernel).fit(TRAIN, Y_TRAIN)
    if kernel == "rbf":
        assert dense_one.transform(far).max(axis=1).min() < 1e-17
    for params in (
        {"n_neighbors": 75},
        {"n_neighbors": 60},
        {"neighbors": KNeighborsTransformer(n_neighbors=50)},
    ):
        few = DKNNImportance(PCA(2), kernel=kernel, **params).fit(TRAIN, Y_TRAIN)
        expected = dense_one
        if kernel == "cosine":  # the nearest by distance have not the largest cosine
            index = few.top_examples(far, 10)[1]
            rate = (Y_TRAIN[index] == Y_QUERY[:, None]).mean()
            prior = (Y_TRAIN == Y_QUERY[:, None]).mean()
            wanted = (rate - prior) / (1 - prior)
        else:
            wanted = expected.score(far, Y_QUERY)
        assert few.score(far, Y_QUERY) == pytest.approx(wanted)


def test_ranks_within_rows():
    rows = sparse.csr_matrix(
        ([3e-30, 1e-30, 3e-30, -5.0, 0.0, 7.0], [0, 2, 3, 1, 0, 2], [0, 3, 4, 4, 6]), shape=(4, 5)
    )
    ranks = _base._by_rank(rows).toarray()
    expected = [[2, 0, 1, 2, 0], [0, 1, 0, 0, 0], [0] * 5, [1, 0, 2, 0, 0]]
    np.testing.assert_array_equal(ranks, expected)


def test_radii_within_which_there_is_nothing():
    """What helps is a larger radius, and not n_neighbors, which is None."""
    far = np.vstack([QUERY[:3], QUERY[:1] + 1e3])
    dknn = DKNNImportance(PCA(2), neighbors=RadiusNeighborsTransformer(radius=1.0))
    dknn.fit(TRAIN, Y_TRAIN)
    assert np.diff(dknn.transform(far).indptr)[3] == 0
    with pytest.raises(ValueError, match="raise the radius of RadiusNeighborsTransformer, 1.0, or"):
        dknn.top_examples(far, 3)
    labels = np.append(Y_QUERY[:3], 0)
    assert np.isfinite(dknn.score(far, labels)) and np.isfinite(dknn.score(far))
    nothing = DKNNImportance(PCA(2), neighbors=RadiusNeighborsTransformer(radius=1e-9))
    nothing.fit(TRAIN, Y_TRAIN)
    assert nothing.score(QUERY[:9] + 1e3, Y_QUERY[:9]) == pytest.approx(0)
    few = DKNNImportance(
        PCA(2), n_neighbors=40, neighbors=RadiusNeighborsTransformer(radius=1.0)
    ).fit(TRAIN)
    with pytest.raises(ValueError, match="needed; raise the radius of RadiusNeigh.*, 1.0"):
        few.transform(QUERY)


def test_labels_are_used_for_nothing_but_the_score():
    with_y = DKNNImportance(small_net()).fit(TRAIN, Y_TRAIN)
    np.testing.assert_array_equal(
        with_y.transform(QUERY), DKNNImportance(small_net()).fit(TRAIN).transform(QUERY)
    )


def test_scores_without_meaning():
    dknn = DKNNImportance(small_net()).fit(TRAIN)
    with pytest.raises(ValueError, match="fit was not"):
        dknn.score(QUERY, Y_QUERY)
    with pytest.raises(ValueError, match="continuous"):
        DKNNImportance(small_net()).fit(TRAIN, Y_TRAIN + 0.5).score(QUERY, Y_QUERY + 0.5)
    with pytest.warns(UserWarning, match="all labels are equal"):
        assert dknn.fit(TRAIN, np.ones(75)).score(QUERY, np.ones(75)) == 0
    with pytest.warns(UserWarning, match="all inputs are equal"):
        assert dknn.fit(np.ones((4, 4))).score(np.ones((2, 4))) == 0


# -- as a citizen of scikit-learn


@pytest.mark.parametrize("wrap", ["fitted", "frozen", "unfitted", "module"])
def test_grid_search(wrap):
    pca = PCA(2).fit(TRAIN)
    model = {
        "fitted": pca,
        "frozen": FrozenEstimator(pca),
        "unfitted": PCA(2),
        "module": small_net(),
    }
    grid = {"n_neighbors": [1, 10], "kernel": ["inverse_distance", "rbf"]}
    search = GridSearchCV(DKNNImportance(model[wrap]), grid, cv=3, n_jobs=2, error_score="raise")
    order = RNG.permutation(150)  # folds are contiguous
    search.fit(IRIS[order], LABELS[order])
    assert search.best_params_["n_neighbors"] == 10
    assert search.best_score_ > 0.7
    components = getattr(search.best_estimator_.estimator_, "components_", None)
    if wrap == "frozen" or wrap == "fitted":
        np.testing.assert_array_equal(components, pca.components_)
    unlabelled = GridSearchCV(DKNNImportance(model[wrap]), {"n_neighbors": [1, 10]}, cv=3)
    unlabelled.fit(IRIS[order])
    assert unlabelled.best_score_ > 0.5


def test_an_unfitted_estimator_is_fitted_on_each_corpus():
    dknn = DKNNImportance(PCA(2)).fit(TRAIN)
    assert not hasattr(dknn.estimator, "components_")
    np.testing.assert_array_equal(dknn.estimator_.components_, PCA(2).fit(TRAIN).components_)


@pytest.mark.parametrize("params", [{}, {"n_neighbors": 3}])
def test_round_trips(params, tmp_path):
    dknn = DKNNImportance(small_net(), **params).fit(TRAIN, Y_TRAIN)
    joblib.dump(dknn, tmp_path / "dknn.joblib")
    copies = [pickle.loads(pickle.dumps(dknn)), joblib.load(tmp_path / "dknn.joblib")]
    copies.append(clone(dknn).fit(TRAIN, Y_TRAIN))
    for other in copies:
        assert other.score(QUERY, Y_QUERY) == dknn.score(QUERY, Y_QUERY)
        assert abs(other.transform(QUERY) - dknn.transform(QUERY)).max() == 0
    changed = clone(dknn).set_params(n_neighbors=7, kernel="rbf").fit(TRAIN)
    assert changed.transform(QUERY).nnz == 7 * 75


def test_an_outer_random_state_repeats(monkeypatch):
    monkeypatch.setattr("sklexplain.examples._distances._MEDIAN_ROWS", 20)
    medians = [
        DKNNImportance(PCA(2), random_state=s).fit(TRAIN).median_distance_ for s in (0, 0, 1)
    ]
    assert medians[0] == medians[1] != medians[2]


# -- networks


class LastState(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn = kind(2, 5, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0][:, -1]


NETS = {
    "mlp": (nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout()), (6,)),
    "lstm": (LastState(nn.LSTM), (7, 2)),
    "gru": (LastState(nn.GRU), (7, 2)),
    "conv1d": (nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.Flatten()), (2, 8)),
    "conv2d": (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()), (1, 6, 6)),
    "transformer": (nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), (5, 4)),
}


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("params", [{}, {"n_neighbors": 4}])
def test_networks_of_any_kind_come_back_untouched(kind, params):
    net, shape = NETS[kind]
    net.train()
    net.register_forward_hook(lambda *_: None)
    X = RNG.normal(size=(23, *shape)).astype(np.float32)
    before = copy.deepcopy(net.state_dict())
    modes = [m.training for m in net.modules()]
    hooks = [len(m._forward_hooks) for m in net.modules()]
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    dknn = DKNNImportance(net, batch_size=5, **params).fit(X[:15])
    importance = dknn.transform(X[15:])
    dknn.top_examples(X[15:], 3)
    score = dknn.score(X[15:])
    assert importance.shape == (8, 15)
    assert importance.dtype == np.float32
    assert np.isfinite(score)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert [m.training for m in net.modules()] == modes
    assert [len(m._forward_hooks) for m in net.modules()] == hooks
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    one = [dknn.transform(x[None]) for x in X[15:]]
    together = importance.toarray() if params else importance
    apart = sparse.vstack(one).toarray() if params else np.vstack(one)
    np.testing.assert_allclose(apart, together, rtol=1e-4)


def test_layer():
    net = small_net()
    dknn = DKNNImportance(net, layer="2").fit(TRAIN)
    np.testing.assert_allclose(dknn.embedding_, embed(net[:3], TRAIN))
    with pytest.raises(ValueError, match="'5' is not a submodule"):
        DKNNImportance(net, layer="5").fit(TRAIN)


def test_memory_is_refused_with_a_hint():
    dknn = DKNNImportance(small_net(), max_bytes=1000).fit(TRAIN)
    with pytest.raises(ValueError, match=r"45,000 bytes.*n_neighbors.*top_examples\(X, k\)"):
        dknn.transform(QUERY)
    assert dknn.top_examples(QUERY, 2)[0].shape == (75, 2)
    assert dknn.transform(QUERY[:1]).shape == (1, 75)


def test_verbose_shows_progress(capsys):
    DKNNImportance(small_net(), verbose=1).fit(TRAIN).transform(QUERY)
    assert "75/75" in capsys.readouterr().err


# -- errors that teach


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        (
            {"kernel": "rfb"},
            ValueError,
            "'kernel' parameter .* Got 'rfb' instead. Did you mean 'rbf'",
        ),
        (
            {"metric": "euclidian"},
            ValueError,
            "'metric' .* Got 'euclidian' instead. Did you mean 'euclidean'",
        ),
        ({"metric": "precomputed"}, ValueError, "The 'metric' parameter .* Got 'precomputed'"),
        (
            {"n_neighbors": 0},
            ValueError,
            r"'n_neighbors' .* in the range \[1, inf\) or None. Got 0",
        ),
        ({"n_neighbors": 2.0}, TypeError, "'n_neighbors' parameter .* must be an int .* Got 2.0"),
        ({"n_neighbors": 76}, ValueError, "n_neighbors=76 .*75"),
        ({"max_bytes": 0}, ValueError, "'max_bytes' parameter .* Got 0 instead"),
        ({"batch_size": 0}, ValueError, "'batch_size' parameter .* Got 0 instead"),
    ],
)
def test_parameters_in_error(params, error, match):
    with pytest.raises(error, match=match):
        DKNNImportance(small_net(), **params).fit(TRAIN)


def test_kernels_in_error():
    with pytest.raises(ValueError, match="one finite weight per distance"):
        DKNNImportance(small_net(), kernel=np.sum).fit(TRAIN).transform(QUERY)
    with pytest.raises(ValueError, match="NaN or infinity"):
        DKNNImportance(small_net(), kernel=lambda d: d * np.nan).fit(TRAIN).transform(QUERY)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, None])
@pytest.mark.parametrize("n_neighbors", [None, 3])
def test_metrics_that_return_no_distance(value, n_neighbors):
    dknn = DKNNImportance(PCA(2), metric=lambda a, b: value, n_neighbors=n_neighbors)
    with pytest.raises(ValueError, match="must return a distance, a finite number of at least 0"):
        dknn.fit(TRAIN)


@pytest.mark.parametrize("convert", [lambda d: d.astype(str), lambda d: d * 1j])
def test_kernels_that_return_no_numbers(convert):
    with pytest.raises(ValueError, match="must return one finite weight per distance.*dtype"):
        DKNNImportance(PCA(2), kernel=convert).fit(TRAIN).transform(QUERY)


def test_samples_in_error():
    dknn = DKNNImportance(small_net())
    with pytest.raises(NotFittedError):
        dknn.transform(QUERY)
    with pytest.raises(NotFittedError):
        dknn.top_examples(QUERY, 2)
    with pytest.raises(NotFittedError):
        dknn.get_feature_names_out()
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        dknn.fit(TRAIN, Y_TRAIN[1:])
    dknn.fit(TRAIN)
    holes = QUERY.copy()
    holes[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN: column 1, row 3"):
        dknn.transform(holes)
    with pytest.raises(ValueError, match="features"):
        dknn.transform(QUERY[:, :3])
    with pytest.raises(ValueError, match="k=76 is larger than the corpus of 75"):
        dknn.top_examples(QUERY, 76)
    with pytest.raises(TypeError, match="k=2.5"):
        dknn.top_examples(QUERY, 2.5)
    with pytest.raises(ValueError, match="k=4 is larger than the 3 .* raise n_neighbors"):
        DKNNImportance(small_net(), n_neighbors=3).fit(TRAIN).top_examples(QUERY, 4)


def test_estimators_in_error():
    half = make_pipeline(StandardScaler().fit(TRAIN), PCA(2))
    with pytest.raises(NotFittedError, match="step 'pca' is not fitted"):
        DKNNImportance(half).fit(TRAIN)
    untrained = NeuralNetRegressor(nn.Linear, module__in_features=4, module__out_features=1)
    with pytest.raises(NotFittedError, match="never trained"):
        DKNNImportance(untrained.initialize()).fit(TRAIN)
    for bad in ("net", PCA):
        with pytest.raises(TypeError, match="estimator"):
            DKNNImportance(bad).fit(TRAIN)
