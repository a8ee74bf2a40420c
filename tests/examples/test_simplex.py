import copy
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from joblib.parallel import ThreadingBackend
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA, KernelPCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

from sklexplain.examples import SimplExImportance, _base
from sklexplain.examples._simplex_solver import SimplexProblem
from sklexplain.exceptions import UnreachedInputWarning
from sklexplain.metrics import similarity_rate
from tests.cases import NETS, encode, make_net, make_X

IRIS, LABELS = load_iris(return_X_y=True)
TRAIN, QUERY = IRIS[::2], IRIS[1::2]
Y_TRAIN, Y_QUERY = LABELS[::2], LABELS[1::2]
RNG = np.random.default_rng(0)


def small_net(seed=0):
    """Make a smooth float64 network with batch normalisation and dropout, left in train mode."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(), nn.Linear(6, 3)
    )
    return net.double().train()


def dense(explainer, X=QUERY):
    return explainer.transform(X).toarray()


# -- values


def test_weights_are_on_the_simplex_and_best_in_latent_space():
    simplex = SimplExImportance(small_net()).fit(TRAIN)
    weights = simplex.transform(QUERY)
    assert sparse.issparse(weights)
    assert weights.format == "csr"
    assert weights.shape == (75, 75)
    assert weights.dtype == np.float64
    assert weights.data.min() > 0
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=0, atol=1e-12)
    assert np.diff(weights.indptr).max() <= 4
    z, z_train = encode(simplex.estimator, QUERY), encode(simplex.estimator, TRAIN)
    for w, query in zip(weights.toarray(), z, strict=True):
        b = z_train - query
        g = b @ (w @ b) + 0.5e-2 * np.sum(b**2, axis=1)
        scale = np.sum((query - z_train.mean(axis=0)) ** 2)
        assert g @ w - g.min() <= 1e-6 * scale + 1e-14


def test_residual_and_gap():
    simplex = SimplExImportance(small_net(), batch_size=20).fit(TRAIN)
    z, z_train = encode(simplex.estimator, QUERY), encode(simplex.estimator, TRAIN)
    expected = np.linalg.norm(z - dense(simplex) @ z_train, axis=1)
    residual = simplex.residual(QUERY)
    np.testing.assert_allclose(residual, expected, atol=1e-12)
    assert not simplex.residual(TRAIN).any()
    closest = SimplExImportance(small_net(), locality=0).fit(TRAIN).residual(QUERY)
    assert (closest <= residual + 1e-6).all()
    assert simplex.duality_gap(QUERY).shape == (75,)
    assert simplex.duality_gap(QUERY).max() <= 1e-6 + 1e-12


def test_a_training_example_explains_itself_alone():
    simplex = SimplExImportance(PCA(3)).fit(IRIS[:100])
    weights = simplex.transform(IRIS[:100])
    first = [np.flatnonzero((IRIS[:100] == x).all(axis=1))[0] for x in IRIS[:100]]
    np.testing.assert_array_equal(weights.indices, first)
    np.testing.assert_allclose(weights.data, 1)


@pytest.mark.parametrize("name", ["mlp", "conv2d", "lstm"])
def test_float32_networks_know_their_examples_in_any_batch(name):
    net, X = make_net(name), make_X(name, 40)
    simplex = SimplExImportance(net).fit(X)
    assert simplex.embedding_.dtype == np.float64
    single = sparse.vstack([simplex.transform(x[None]) for x in X]).toarray()
    np.testing.assert_allclose(single, np.eye(40), atol=1e-4)


@pytest.mark.parametrize("params", [{}, {"locality": 0}, {"n_keep": 2}])
def test_batch_equals_one_by_one(params, monkeypatch):
    whole = dense(SimplExImportance(small_net(), **params).fit(TRAIN))
    simplex = SimplExImportance(small_net(), batch_size=7, **params).fit(TRAIN)
    monkeypatch.setattr(_base, "_BLOCK", 200)  # blocks of two rows
    np.testing.assert_allclose(dense(simplex), whole, atol=1e-6)
    single = [simplex.transform(q[None]) for q in QUERY]
    np.testing.assert_allclose(sparse.vstack(single).toarray(), whole, atol=1e-6)


def test_orthogonal_invariance():
    turn = nn.Linear(3, 3, bias=False).double()
    turn.weight.data = torch.from_numpy(np.linalg.qr(RNG.normal(size=(3, 3)))[0])
    net = small_net()
    plain = SimplExImportance(net, tol=1e-10).fit(TRAIN)
    turned = SimplExImportance(nn.Sequential(net, turn), tol=1e-10).fit(TRAIN)
    np.testing.assert_allclose(dense(turned), dense(plain), atol=1e-6)


def test_black_boxes():
    forest = RandomForestClassifier(40, random_state=0).fit(TRAIN, Y_TRAIN)
    for model in (forest, KernelPCA(3, kernel="rbf").fit(TRAIN)):
        weights = SimplExImportance(model).fit(TRAIN).transform(QUERY)
        np.testing.assert_allclose(weights.sum(axis=1), 1)


def test_layer():
    net = small_net()
    simplex = SimplExImportance(net, layer="2").fit(TRAIN)
    np.testing.assert_allclose(simplex.embedding_, encode(net[:3], TRAIN))
    with pytest.raises(ValueError, match="'5' is not a submodule"):
        SimplExImportance(net, layer="5").fit(TRAIN)


# -- options


def test_n_keep():
    simplex = SimplExImportance(small_net(), n_keep=2).fit(TRAIN)
    weights = simplex.transform(QUERY)
    assert np.diff(weights.indptr).max() == 2
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=0, atol=1e-12)
    largest = SimplExImportance(small_net()).fit(TRAIN).top_examples(QUERY, 2)[1]
    for row, kept in zip(weights, largest, strict=True):
        assert set(row.indices) <= set(kept)
    full = SimplExImportance(small_net()).fit(TRAIN)
    assert simplex.residual(QUERY).mean() > 2 * full.residual(QUERY).mean()


def test_no_convergence_is_a_warning_with_the_worst_gap():
    simplex = SimplExImportance(small_net(), max_iter=2).fit(TRAIN)
    with pytest.warns(ConvergenceWarning, match=r"max_iter=2 .* of 75 .*gap is \d"):
        weights = simplex.transform(QUERY)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    with pytest.warns(ConvergenceWarning):
        worst = simplex.duality_gap(QUERY).max()
    with pytest.warns(ConvergenceWarning, match=f"gap is {worst:.2g}"):
        simplex.residual(QUERY)


def test_fit_tells_how_many_steps_are_needed():
    simplex = SimplExImportance(small_net()).fit(TRAIN)
    assert 3 <= simplex.n_iter_ < 60
    enough = SimplExImportance(small_net(), max_iter=2 * simplex.n_iter_).fit(TRAIN)
    assert enough.duality_gap(QUERY).max() <= 1e-6 + 1e-12
    assert SimplExImportance(small_net()).fit(TRAIN[:1]).n_iter_ == 1


# -- leaving out, and the most important


def test_fit_transform_leaves_each_example_out():
    X = np.vstack([TRAIN, TRAIN[:2]])
    weights = SimplExImportance(small_net()).fit_transform(X)
    assert not weights.diagonal().any()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert weights[0, 75] == pytest.approx(1)  # a duplicate elsewhere is not left out
    for i in (2, 30):
        rest = SimplExImportance(small_net()).fit(np.delete(X, i, axis=0))
        expected = dense(rest, X[i][None])[0]
        np.testing.assert_allclose(np.delete(weights[[i]].toarray(), i), expected, atol=1e-6)
    with pytest.raises(ValueError, match="n_samples = 1.*nothing is left"):
        SimplExImportance(small_net()).fit_transform(TRAIN[:1])
    assert SimplExImportance(small_net()).fit(TRAIN[:1]).transform(QUERY).nnz == 75


@pytest.mark.parametrize("k", [2, 10])
def test_top_examples_are_the_largest_of_the_matrix(k, monkeypatch):
    simplex = SimplExImportance(small_net()).fit(TRAIN)
    matrix = dense(simplex)
    monkeypatch.setattr(_base, "_BLOCK", 200)
    importance, index = simplex.top_examples(QUERY, k)
    expected = np.lexsort((slopes(simplex, QUERY), -matrix), axis=1)[:, :k]
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_allclose(importance, np.take_along_axis(matrix, expected, axis=1), atol=1e-9)


def slopes(simplex, X, matrix=None):
    """Growth of F with weight given to each example instead, by central differences."""
    z, corpus = encode(simplex.estimator, X), encode(simplex.estimator, TRAIN)
    weights = dense(simplex, X) if matrix is None else matrix
    out = np.empty(weights.shape)
    for w, query, row in zip(weights, z, out, strict=True):
        squares = ((query - corpus) ** 2).sum(axis=1)

        def value(w, query=query, squares=squares):
            miss = query - w @ corpus
            return 0.5 * miss @ miss + 0.5 * simplex.locality * w @ squares

        for n in range(len(corpus)):
            to = (np.arange(len(corpus)) == n) - w
            row[n] = (value(w + 1e-5 * to) - value(w - 1e-5 * to)) / 2e-5
    return np.where(weights > 0, 0, out)


@pytest.mark.parametrize("params", [{}, {"locality": 0.5}, {"n_keep": 2}, {"locality": 0.0}])
def test_the_order_beyond_the_weights_is_that_of_slopes(params):
    simplex = SimplExImportance(small_net(), **params).fit(TRAIN, Y_TRAIN)
    wanted, cost = slopes(simplex, QUERY), simplex.reduced_cost(QUERY)
    np.testing.assert_allclose(cost, np.maximum(wanted, 0), atol=1e-8 * wanted.max() + 1e-9)
    matrix = dense(simplex)
    assert (cost[matrix > 0] == 0).all()
    index = simplex.top_examples(QUERY, 75)[1]
    ordered = np.take_along_axis(cost, index, axis=1)
    assert (np.diff(ordered, axis=1) >= 0).all()
    importance = np.take_along_axis(matrix, index, axis=1)
    assert (np.diff(importance, axis=1) <= 0).all()


def test_scores_count_the_order_beyond_the_weights():
    simplex = SimplExImportance(small_net()).fit(TRAIN, Y_TRAIN)
    index = simplex.top_examples(QUERY, 10)[1]
    rate = (Y_TRAIN[index] == Y_QUERY[:, None]).mean()
    prior = (Y_TRAIN == Y_QUERY[:, None]).mean()
    assert simplex.score(QUERY, Y_QUERY) == pytest.approx((rate - prior) / (1 - prior))
    squares = ((QUERY[:, None] - TRAIN) ** 2).sum(axis=2)
    near = np.take_along_axis(squares, index, axis=1).mean()
    assert simplex.score(QUERY) == pytest.approx(1 - near / squares.mean())
    matrix, cost = simplex.transform(QUERY), simplex.reduced_cost(QUERY)
    for n_top in (10, 40):
        chosen = simplex.top_examples(QUERY, 75)[1]
        for least in (False, True):
            found = similarity_rate(matrix, Y_QUERY, Y_TRAIN, n_top=n_top, least=least, ties=-cost)
            part = chosen[:, -n_top:] if least else chosen[:, :n_top]
            assert found == pytest.approx((Y_TRAIN[part] == Y_QUERY[:, None]).mean())
    few = similarity_rate(matrix, Y_QUERY, Y_TRAIN, n_top=20)
    assert similarity_rate(matrix, Y_QUERY, Y_TRAIN, n_top=20, ties=-cost) > few + 0.2
    for bad, match in ((cost[:, :3], "ties has shape"), (cost * np.nan, "none of them NaN")):
        with pytest.raises(ValueError, match=match):
            similarity_rate(matrix, Y_QUERY, Y_TRAIN, ties=bad)


def test_projections_go_on_beyond_the_weights():
    simplex = SimplExImportance(small_net()).fit(TRAIN)
    index, _ = simplex.feature_projections(QUERY[:5], k=8)
    np.testing.assert_array_equal(index, simplex.top_examples(QUERY[:5], 8)[1])


@pytest.mark.parametrize("k", [1, 10, 74])
def test_top_examples_of_the_training_set(k):
    simplex = SimplExImportance(small_net())
    matrix = simplex.fit_transform(TRAIN).toarray()
    importance, index = simplex.top_examples(TRAIN, k, exclude_self=True)
    assert not (index == np.arange(75)[:, None]).any()
    np.testing.assert_allclose(importance, -np.sort(-matrix, axis=1)[:, :k], atol=1e-9)


def test_names_and_set_output():
    frame = pd.DataFrame(TRAIN, index=[f"p{i}" for i in range(75)], columns=list("abcd"))
    queries = pd.DataFrame(QUERY, columns=list("abcd"))
    simplex = SimplExImportance(PCA(2)).fit(frame)
    positions = SimplExImportance(PCA(2)).fit(TRAIN).top_examples(QUERY, 3)[1]
    assert (simplex.top_examples(queries, 3)[1] == frame.index.to_numpy()[positions]).all()
    assert simplex.get_feature_names_out().tolist() == frame.index.tolist()
    with pytest.raises(ValueError, match="sparse"):
        SimplExImportance(PCA(2)).set_output(transform="pandas").fit_transform(frame)


# -- score and search


def test_score():
    simplex = SimplExImportance(small_net()).fit(TRAIN, Y_TRAIN)
    assert 0.1 < simplex.score(QUERY, Y_QUERY) < 1
    assert 0.1 < simplex.score(QUERY) < 1
    # Everyone has about four of ten places, the others count at chance.
    alone = SimplExImportance(small_net(), n_keep=1).fit(TRAIN, Y_TRAIN)
    assert 0 < alone.score(QUERY, Y_QUERY) < simplex.score(QUERY, Y_QUERY)


def test_grid_search():
    grid = {"locality": [1e-2, 1.0], "n_keep": [1, None]}
    order = RNG.permutation(150)  # folds are contiguous
    search = GridSearchCV(SimplExImportance(PCA(3)), grid, cv=3, error_score="raise")
    search.fit(IRIS[order], LABELS[order])
    assert search.best_params_["n_keep"] is None
    assert search.best_score_ > 0.15


def test_round_trips(tmp_path):
    simplex = SimplExImportance(small_net()).fit(TRAIN, Y_TRAIN)
    joblib.dump(simplex, tmp_path / "simplex.joblib")
    copies = [pickle.loads(pickle.dumps(simplex)), joblib.load(tmp_path / "simplex.joblib")]
    copies += [copy.deepcopy(simplex), clone(simplex).fit(TRAIN, Y_TRAIN)]
    for other in copies:
        assert abs(other.transform(QUERY) - simplex.transform(QUERY)).max() == 0
        assert other.score(QUERY, Y_QUERY) == simplex.score(QUERY, Y_QUERY)
    changed = clone(simplex).set_params(n_keep=1).fit(TRAIN)
    assert changed.transform(QUERY).nnz == 75


# -- feature projections


@pytest.mark.parametrize("name", sorted(NETS))
def test_projections_add_up(name):
    net, X = make_net(name, torch.float64), make_X(name, 20, np.float64)
    simplex = SimplExImportance(net).fit(X[:14])
    index, projections = simplex.feature_projections(X[14:], n_steps=300)
    assert projections.shape == (*index.shape, *X.shape[1:])
    weights = np.take_along_axis(dense(simplex, X[14:]), index, axis=1)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    shares = np.sum(projections.reshape(*index.shape, -1).sum(axis=2) * weights, axis=1)
    np.testing.assert_allclose(shares, 1, atol=1e-2)


def test_projections_against_a_loop_of_gradients():
    net = small_net()
    simplex = SimplExImportance(net).fit(TRAIN)
    index, projections = simplex.feature_projections(QUERY[:4], 3, n_steps=30)
    weights = torch.from_numpy(dense(simplex, QUERY[:4]))
    net = copy.deepcopy(net).eval()
    X, mean = torch.from_numpy(TRAIN), torch.from_numpy(TRAIN.mean(axis=0))
    nodes, node_weights = np.polynomial.legendre.leggauss(30)
    for i in range(4):
        d = (weights[i] @ net(X) - net(mean[None])[0]).detach()
        for j in range(3):
            shift = X[index[i, j]] - mean
            total = torch.zeros(4, dtype=torch.float64)
            for t, weight in zip((nodes + 1) / 2, node_weights / 2, strict=True):
                point = (mean + t * shift).requires_grad_()
                value = net(point[None])[0] @ d / (d @ d)
                total += weight * torch.autograd.grad(value, point)[0]
            np.testing.assert_allclose(projections[i, j], shift * total, rtol=1e-8, atol=1e-12)


def test_projections_of_a_linear_map_have_a_closed_form():
    pca = PCA(2).fit(TRAIN)
    simplex = SimplExImportance(pca).fit(TRAIN)
    baseline = TRAIN.min(axis=0)
    index, projections = simplex.feature_projections(QUERY, 3, baseline=baseline, n_steps=2)
    d = dense(simplex) @ pca.transform(TRAIN) - pca.transform(baseline[None])
    u = d / np.sum(d**2, axis=1, keepdims=True)
    expected = (TRAIN[index] - baseline) * (u @ pca.components_)[:, None]
    np.testing.assert_allclose(projections, expected, rtol=1e-9)


def test_projections_of_a_batch_are_those_of_its_samples():
    simplex = SimplExImportance(small_net()).fit(TRAIN)
    index, projections = simplex.feature_projections(QUERY, 2)
    simplex.batch_size = 3
    for i in (0, 40):
        one_index, one = simplex.feature_projections(QUERY[i][None], 2)
        np.testing.assert_array_equal(one_index[0], index[i])
        np.testing.assert_allclose(one[0], projections[i], rtol=1e-9)


def test_projections_are_in_raw_columns():
    frame = pd.DataFrame(TRAIN.copy(), columns=list("abcd"), index=[f"p{i}" for i in range(75)])
    frame["e"] = np.where(Y_TRAIN == 0, "small", "large")
    frame.iloc[3, 0] = np.nan
    preparation = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), list("abcd")),
            ("words", OneHotEncoder(), ["e"]),
        ]
    )
    simplex = SimplExImportance(make_pipeline(preparation, PCA(3))).fit(frame)
    index, projections = simplex.feature_projections(frame[:5], n_steps=4)
    assert projections.shape == (5, index.shape[1], 5)
    assert set(index.ravel()) <= set(frame.index)
    importance = simplex.top_examples(frame[:5], index.shape[1])[0]
    np.testing.assert_allclose(np.sum(projections.sum(axis=2) * importance, axis=1), 1)


def test_projections_of_nothing():
    simplex = SimplExImportance(PCA(2)).fit(TRAIN)
    baseline = TRAIN[3]
    with pytest.warns(UserWarning, match="1 combinations have the representation of the baseline"):
        _, projections = simplex.feature_projections(TRAIN[2:4], baseline=baseline)
    assert not projections[1].any()
    assert projections[0].any()


def test_a_coarse_integral_is_a_warning():
    torch.manual_seed(0)
    steep = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    with torch.no_grad():
        steep[0].weight.mul_(30)
    simplex = SimplExImportance(steep).fit(TRAIN)
    pairs = "pairs of a sample and an example"
    with pytest.warns(ConvergenceWarning, match=rf"{pairs} \(number \d+ by .*%\): raise n_steps"):
        simplex.feature_projections(QUERY, n_steps=2)


def test_projections_cannot_reach_a_lookup():
    class Rounded(nn.Module):
        def forward(self, x):
            return torch.cat([x[:, :3], x[:, 3:].round()], dim=1)

    frame = pd.DataFrame(TRAIN, columns=list("abcd"))
    simplex = SimplExImportance(Rounded()).fit(frame)
    with (
        pytest.warns(UnreachedInputWarning, match="no gradient reaches column 'd' although"),
        pytest.warns(ConvergenceWarning, match="twice n_steps does not help"),
    ):
        simplex.feature_projections(frame[:20])


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 3)

    def forward(self, x):
        return self.embed(x).mean(dim=1)


def test_projections_need_gradients():
    simplex = SimplExImportance(KernelPCA(2, kernel="rbf").fit(TRAIN)).fit(TRAIN)
    with pytest.raises(TypeError, match="KernelPCA.* no torch form"):
        simplex.feature_projections(QUERY)
    tokens = RNG.integers(0, 10, size=(20, 6))
    simplex = SimplExImportance(Tokens()).fit(tokens)
    assert simplex.transform(tokens).shape == (20, 20)
    with pytest.raises(TypeError, match="takes integers"):
        simplex.feature_projections(tokens)


# -- networks


@pytest.mark.parametrize("name", sorted(NETS))
def test_networks_of_any_kind_come_back_untouched(name):
    net, X = make_net(name), make_X(name, 20)
    before = copy.deepcopy(net.state_dict())
    modes = [m.training for m in net.modules()]
    state = torch.get_rng_state()
    simplex = SimplExImportance(net, batch_size=5).fit(X[:14])
    simplex.transform(X[14:])
    _, projections = simplex.feature_projections(X[14:], 2)
    assert projections.dtype == np.float32
    assert np.isfinite(simplex.score(X[14:]))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert [m.training for m in net.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_verbose_shows_progress(capsys):
    simplex = SimplExImportance(small_net(), verbose=1).fit(TRAIN)
    simplex.transform(QUERY)
    assert "75/75" in capsys.readouterr().err
    simplex.feature_projections(QUERY[:2], 1)
    assert "projections" in capsys.readouterr().err


# -- errors that teach


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        ({"locality": -0.1}, ValueError, r"'locality' parameter .* Got -0\.1 instead"),
        ({"locality": np.nan}, ValueError, "'locality' parameter .* Got nan instead"),
        ({"locality": "0.1"}, TypeError, r"'locality' parameter .* Got '0\.1' instead"),
        ({"tol": 0}, ValueError, "'tol' parameter .* Got 0 instead"),
        ({"tol": True}, TypeError, "'tol' parameter .* Got True instead"),
        ({"max_iter": 0}, ValueError, "'max_iter' parameter .* Got 0 instead"),
        ({"n_keep": 0}, ValueError, "'n_keep' parameter .* Got 0 instead"),
        ({"n_keep": 2.0}, TypeError, r"'n_keep' parameter .* Got 2\.0 instead"),
        ({"n_keep": 76}, ValueError, "n_keep=76 is larger than the corpus.* 75"),
        ({"batch_size": 0}, ValueError, "'batch_size' parameter .* Got 0 instead"),
    ],
)
def test_parameters_in_error(params, error, match):
    with pytest.raises(error, match=match):
        SimplExImportance(small_net(), **params).fit(TRAIN)


def test_samples_in_error():
    simplex = SimplExImportance(small_net())
    for method in (simplex.transform, simplex.residual, simplex.feature_projections):
        with pytest.raises(NotFittedError):
            method(QUERY)
    simplex.fit(TRAIN)
    with pytest.raises(ValueError, match="features"):
        simplex.residual(QUERY[:, :3])
    with pytest.raises(ValueError, match="k=76 is larger than the corpus of 75"):
        simplex.top_examples(QUERY, 76)
    with pytest.raises(ValueError, match="k=76 is larger than the corpus of 75"):
        simplex.feature_projections(QUERY, 76)
    with pytest.raises(ValueError, match="baseline='zeros' is unknown"):
        simplex.feature_projections(QUERY, baseline="zeros")
    with pytest.raises(ValueError, match="baseline has shape"):
        simplex.feature_projections(QUERY, baseline=np.zeros(3))
    with pytest.raises(TypeError, match="n_steps=1.5"):
        simplex.feature_projections(QUERY, n_steps=1.5)


class Root(nn.Module):
    def forward(self, x):
        return x.sqrt()


def test_representations_that_are_not_finite():
    with pytest.raises(ValueError, match="not finite .* for sample 2"):
        SimplExImportance(Root()).fit(np.vstack([TRAIN[:2], -TRAIN[:2]]))
    with pytest.raises(ValueError, match="not finite .* for sample 0"):
        SimplExImportance(Root()).fit(TRAIN).transform(-TRAIN[:1])


def test_a_backend_that_returns_lists_only(monkeypatch):
    """As that of ray."""
    simplex = SimplExImportance(small_net()).fit(TRAIN)
    monkeypatch.setattr(ThreadingBackend, "supports_return_generator", False)
    with joblib.parallel_config("threading", n_jobs=2):
        found = simplex.transform(QUERY)
    monkeypatch.undo()
    np.testing.assert_allclose(found.toarray(), simplex.transform(QUERY).toarray(), atol=1e-12)


@pytest.mark.parametrize("batch_size", [7, 1024])
def test_jobs_share_the_samples_and_change_nothing(monkeypatch, batch_size):
    sizes = []
    solve = SimplexProblem.solve

    def spy(self, z, **params):
        sizes.append(len(z))
        return solve(self, z, **params)

    one = SimplExImportance(small_net(), batch_size=batch_size).fit(TRAIN)
    three = clone(one).set_params(n_jobs=3).fit(TRAIN)
    expected = one.transform(QUERY)
    monkeypatch.setattr(SimplexProblem, "solve", spy)
    np.testing.assert_allclose(three.transform(QUERY).toarray(), expected.toarray(), atol=1e-12)
    assert sum(sizes) == len(QUERY)
    assert max(sizes) == -(-min(batch_size, len(QUERY)) // 3)
    sizes.clear()
    with joblib.parallel_config(n_jobs=2):  # the user's, where n_jobs is None
        one.transform(QUERY)
    assert max(sizes) == -(-min(batch_size, len(QUERY)) // 2)
    alone = three.fit_transform(TRAIN)
    expected = one.fit_transform(TRAIN)
    np.testing.assert_allclose(alone.toarray(), expected.toarray(), atol=1e-12)
