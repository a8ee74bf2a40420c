import pickle

import numpy as np
import pytest
from scipy.optimize import minimize, nnls

from sklexplain.examples import _simplex_candidates, _simplex_solver
from sklexplain.examples._simplex_solver import SimplexProblem


def problem(n, n_units, n_queries=12, seed=0, spread=0.7):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_units)), spread * rng.normal(size=(n_queries, n_units))


def solve(corpus, queries, locality, **params):
    solution = SimplexProblem(corpus, locality).solve(queries, **params)
    return solution.weights.toarray(), solution


def objective(w, z, corpus, locality):
    b = corpus - z
    return 0.5 * np.sum((w @ b) ** 2) + 0.5 * locality * w @ np.sum(b**2, axis=1)


def gradient(w, z, corpus, locality):
    b = corpus - z
    return b @ (w @ b) + 0.5 * locality * np.sum(b**2, axis=1)


def nearest_by_nnls(z, corpus):
    """Closest combination, with the sum of weights as one heavy equation."""
    b = (corpus - z).T
    heavy = 1e4 * np.abs(b).max()
    system = np.vstack([b, np.full(len(corpus), heavy)])
    w = nnls(system, np.append(np.zeros(len(z)), heavy), maxiter=100 * len(corpus))[0]
    return w / w.sum()


# -- against other solvers


@pytest.mark.parametrize(("n", "n_units"), [(5, 8), (30, 2), (200, 4), (200, 16), (150, 40)])
def test_closest_combination_against_nnls(n, n_units):
    corpus, queries = problem(n, n_units)
    weights, solution = solve(corpus, queries, 0.0)
    variance = np.sum(corpus.var(axis=0))
    for w, z in zip(weights, queries, strict=True):
        oracle = objective(nearest_by_nnls(z, corpus), z, corpus, 0.0)
        ours = objective(w, z, corpus, 0.0)
        assert ours - oracle <= 1e-6 * variance  # 1e-4 is what must hold
        assert ours <= oracle + solution.gap.max() * np.sum((z - corpus.mean(axis=0)) ** 2) + 1e-9


@pytest.mark.parametrize("locality", [1e-2, 0.3])
@pytest.mark.parametrize("n_units", [1, 3, 12])
def test_local_combination_against_a_general_solver(locality, n_units):
    corpus, queries = problem(20, n_units, n_queries=4)
    weights, _ = solve(corpus, queries, locality)
    for w, z in zip(weights, queries, strict=True):
        oracle = minimize(
            objective,
            np.full(20, 1 / 20),
            args=(z, corpus, locality),
            jac=gradient,
            method="SLSQP",
            bounds=[(0, 1)] * 20,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(20)},
            options={"ftol": 1e-14, "maxiter": 1000},
        )
        scale = np.sum((z - corpus.mean(axis=0)) ** 2)
        assert objective(w, z, corpus, locality) <= oracle.fun + 1e-6 * scale
        np.testing.assert_allclose(w, oracle.x, atol=1e-2)


def low_dimensional(n, n_units, n_queries, seed=0):
    """Wide representations of few dimensions, and a little noise: about 10 examples count."""
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(8, n_units))

    def draw(m):
        return rng.normal(size=(m, 8)) @ basis / 3 + 0.02 * rng.normal(size=(m, n_units))

    return draw(n), draw(n_queries)


@pytest.fixture(params=["gram", "vectors"])
def either_way(request, monkeypatch):
    """Gradients by way of the Gram matrix, or of the vectors."""
    if request.param == "gram":
        monkeypatch.setattr(_simplex_candidates, "_SPARSE_COST", 0)
    else:
        monkeypatch.setattr(SimplexProblem, "_gram", lambda self: None)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("locality", [0.0, 1e-2])
@pytest.mark.parametrize("n", [12, 25])
def test_wide_representations_against_a_general_solver(n, locality):
    corpus, queries = low_dimensional(n, 300, 3)
    weights, solution = solve(corpus, queries, locality, tol=1e-9)
    assert solution.converged.all()
    for w, z in zip(weights, queries, strict=True):
        oracle = minimize(
            lambda w, z=z: objective(w, z, corpus, locality),
            np.full(n, 1 / n),
            jac=lambda w, z=z: gradient(w, z, corpus, locality),
            method="SLSQP",
            bounds=[(0, 1)] * n,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(n)},
            options={"ftol": 1e-15, "maxiter": 1000},
        )
        scale = np.sum((z - corpus.mean(axis=0)) ** 2)
        assert objective(w, z, corpus, locality) <= oracle.fun + 1e-8 * scale
        np.testing.assert_allclose(w, oracle.x, atol=1e-3)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("few", [2, 3, 1000])
@pytest.mark.parametrize(("n", "n_units"), [(80, 6), (40, 300)])
def test_slots_grow_where_they_are_needed(n, n_units, few, monkeypatch):
    corpus, queries = low_dimensional(n, n_units, 20)
    corpus = np.vstack([corpus, corpus[:5]])
    exclude = np.arange(20)
    expected = solve(corpus, queries, 1e-2, tol=1e-10, exclude=exclude)[0]
    for n_keep in (None, 3):
        monkeypatch.setattr(_simplex_solver, "_FEW_SLOTS", few)
        monkeypatch.setattr(_simplex_solver, "_LONG", few)
        weights, solution = solve(corpus, queries, 1e-2, tol=1e-10, exclude=exclude, n_keep=n_keep)
        assert solution.converged.all()
        assert np.isfinite(solution.gap).all()
        if n_keep is None:
            assert (weights > 0).sum(axis=1).max() > 4
            np.testing.assert_allclose(weights, expected, atol=1e-7)
        for w, z, i in zip(weights, queries, exclude, strict=True):
            kept = np.flatnonzero(w) if n_keep else np.delete(np.arange(len(corpus)), i)
            g = gradient(w, z, corpus, 1e-2)
            scale = np.sum((z - corpus.mean(axis=0)) ** 2)
            assert g @ w - g[kept].min() <= 1e-9 * scale


def test_a_saved_problem_makes_its_gram_matrix_anew():
    corpus, queries = low_dimensional(60, 200, 4)
    problem = SimplexProblem(corpus, 1e-2)
    saved = pickle.dumps(problem)
    assert len(saved) < corpus.nbytes + 60 * 60 * 8
    loaded = pickle.loads(saved)
    np.testing.assert_array_equal(loaded.gram, problem.gram)
    difference = loaded.solve(queries).weights - problem.solve(queries).weights
    assert abs(difference).max() == 0


# -- conditions of an optimum


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("locality", [0.0, 1e-2, 1.0])
@pytest.mark.parametrize(("n", "n_units"), [(300, 2), (300, 8), (300, 64), (40, 64)])
def test_conditions_of_karush_kuhn_and_tucker(n, n_units, locality):
    corpus, queries = problem(n, n_units)
    weights, solution = solve(corpus, queries, locality, tol=1e-10)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=0, atol=1e-12)
    assert solution.converged.all()
    for w, z in zip(weights, queries, strict=True):
        g = gradient(w, z, corpus, locality)
        scale = np.sum((z - corpus.mean(axis=0)) ** 2)
        level = g[w > 0]
        np.testing.assert_allclose(level, g.min(), rtol=0, atol=1e-6 * scale)


def test_the_gap_is_what_it_says_and_bounds_the_excess():
    corpus, queries = problem(200, 8)
    optima, _ = solve(corpus, queries, 1e-2, tol=1e-12)
    for max_iter in (1, 3, 10):
        weights, early = solve(corpus, queries, 1e-2, max_iter=max_iter)
        assert (early.n_iter <= max_iter).all()
        for w, best, z, gap in zip(weights, optima, queries, early.gap, strict=True):
            g = gradient(w, z, corpus, 1e-2)
            scale = np.sum((z - corpus.mean(axis=0)) ** 2)
            assert gap == pytest.approx((g @ w - g.min()) / scale, rel=1e-6, abs=1e-12)
            excess = objective(w, z, corpus, 1e-2) - objective(best, z, corpus, 1e-2)
            assert -1e-12 <= excess <= gap * scale + 1e-12
        assert not early.converged.all()


def test_steps_never_make_it_worse():
    corpus, queries = problem(200, 8, n_queries=5)
    values = [
        [objective(w, z, corpus, 1e-2) for w, z in zip(solved, queries, strict=True)]
        for solved in (solve(corpus, queries, 1e-2, max_iter=i)[0] for i in range(1, 60, 3))
    ]
    assert (np.diff(values, axis=0) <= 1e-12).all()


@pytest.mark.parametrize("n_units", [2, 5, 16])
def test_about_one_example_more_than_units(n_units):
    corpus, queries = problem(500, n_units, spread=0.3)
    weights, _ = solve(corpus, queries, 1e-2)
    counts = (weights > 0).sum(axis=1)
    assert counts.max() <= n_units + 1
    assert np.median(counts) >= n_units


# -- independence of what should not matter


@pytest.mark.parametrize("locality", [0.0, 1e-2])
@pytest.mark.parametrize("n_units", [3, 64])
def test_a_batch_equals_its_queries(n_units, locality, monkeypatch):
    corpus, queries = problem(150, n_units)
    corpus = np.vstack([corpus, corpus[:40]])
    whole, _ = solve(corpus, queries, locality)
    single = np.vstack([solve(corpus, z[None], locality)[0] for z in queries])
    np.testing.assert_allclose(single, whole, atol=1e-9)
    monkeypatch.setattr(_simplex_solver, "_BLOCK", 500)  # a few queries at once
    np.testing.assert_allclose(solve(corpus, queries, locality)[0], whole, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-170, 1.0, 1e150])
def test_shifts_rotations_and_units_change_nothing(scale):
    corpus, queries = problem(150, 6)
    turn = scale * np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    expected, _ = solve(corpus, queries, 1e-2)
    moved, _ = solve((corpus + 3) @ turn, (queries + 3) @ turn, 1e-2)
    np.testing.assert_allclose(moved, expected, atol=1e-8)


def test_the_order_of_the_corpus_changes_nothing():
    corpus, queries = problem(150, 6)
    order = np.random.default_rng(1).permutation(150)
    expected, _ = solve(corpus, queries, 1e-2, tol=1e-10)
    shuffled, _ = solve(corpus[order], queries, 1e-2, tol=1e-10)
    np.testing.assert_allclose(shuffled, expected[:, order], atol=1e-6)


# -- degenerate corpora


@pytest.mark.parametrize("locality", [0.0, 1e-2])
@pytest.mark.parametrize("n_units", [4, 64])
def test_duplicates_share_nothing(n_units, locality):
    corpus, queries = problem(100, n_units)
    weights, solution = solve(np.vstack([corpus] * 3), queries, locality)
    assert solution.converged.all()
    assert not weights[:, 100:].any()
    np.testing.assert_allclose(weights[:, :100], solve(corpus, queries, locality)[0], atol=1e-8)


@pytest.mark.parametrize("locality", [0.0, 1e-2, 100.0])
@pytest.mark.parametrize(
    "corpus",
    [
        np.ones((1, 3)),
        np.full((5, 3), 0.1),
        np.arange(50.0)[:, None] @ np.ones((1, 3)),  # a line
        np.random.default_rng(0).integers(0, 3, size=(200, 3)).astype(float),  # a grid
        np.zeros((4, 3)),
    ],
    ids=["one", "equal", "line", "grid", "zero"],
)
def test_degenerate_corpora(corpus, locality):
    mean = corpus.mean(axis=0)
    queries = np.vstack([corpus[:3], [mean, mean + 1e-9, mean + [0.3, 0.5, 5], [9, 9, 9]]])
    weights, solution = solve(corpus, queries, locality)
    assert solution.converged.all()
    assert np.isfinite(weights).all()
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=0, atol=1e-12)
    variance = np.sum(corpus.var(axis=0)) + np.sum((queries - mean) ** 2, axis=1)
    for w, z, v in zip(weights, queries, variance, strict=True):
        g = gradient(w, z, corpus, locality)
        assert g @ w - g.min() <= 2e-6 * v + 1e-14


@pytest.mark.parametrize("locality", [0.0, 1e-2])
@pytest.mark.parametrize("noise", [1e-6, 1e-9, 1e-12])
def test_near_duplicates_do_not_stall(noise, locality):
    rng = np.random.default_rng(0)
    corpus, _ = problem(90, 64)
    corpus = np.vstack([corpus] * 4)
    corpus += noise * rng.normal(size=corpus.shape)
    queries = rng.dirichlet(np.full(len(corpus), 0.1), size=6) @ corpus
    _, solution = solve(corpus, queries, locality)
    assert solution.converged.all()
    assert solution.n_iter.max() < 500


@pytest.mark.parametrize("locality", [1e-4, 1e-2, 10.0])
def test_a_member_explains_itself_alone(locality):
    corpus, _ = problem(200, 5)
    weights, _ = solve(corpus, corpus[:50], locality)
    np.testing.assert_array_equal(weights, np.eye(50, 200))
    # As it does when a float32 network has rounded it otherwise.
    rounded = corpus[:50] * (1 + 1e-7 * np.random.default_rng(1).normal(size=(50, 5)))
    np.testing.assert_allclose(solve(corpus, rounded, locality)[0], np.eye(50, 200), atol=1e-9)


def test_large_locality_leaves_the_nearest():
    corpus, queries = problem(100, 4)
    weights, _ = solve(corpus, queries, 1e6)
    distances = np.linalg.norm(queries[:, None] - corpus, axis=2)
    np.testing.assert_array_equal(weights.argmax(axis=1), distances.argmin(axis=1))
    assert (weights > 0).sum() == len(queries)


# -- options


def test_an_excluded_example_is_as_if_it_were_not_there():
    corpus, _ = problem(60, 4)
    weights, _ = solve(corpus, corpus, 1e-2, exclude=np.arange(60))
    assert not weights.diagonal().any()
    for i in range(60):
        others = np.delete(corpus, i, axis=0)
        expected = SimplexProblem(others, 1e-2).solve(corpus[i][None]).weights.toarray()[0]
        np.testing.assert_allclose(np.delete(weights[i], i), expected, atol=1e-6)
    twice = np.vstack([corpus, corpus])
    weights, _ = solve(twice, twice, 1e-2, exclude=np.arange(120))
    np.testing.assert_array_equal(weights, np.roll(np.eye(120), 60, axis=1))


@pytest.mark.parametrize("n_keep", [1, 3, 6])
def test_the_largest_are_kept_and_solved_again(n_keep):
    corpus, queries = problem(200, 8)
    full, _ = solve(corpus, queries, 1e-2)
    weights, solution = solve(corpus, queries, 1e-2, n_keep=n_keep)
    assert solution.converged.all()
    assert (weights > 0).sum(axis=1).max() <= n_keep
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=0, atol=1e-12)
    for w, before, z in zip(weights, full, queries, strict=True):
        kept = np.sort(np.argsort(-before)[:n_keep])
        assert set(np.flatnonzero(w)) <= set(kept)
        g = gradient(w, z, corpus, 1e-2)[kept]
        scale = np.sum((z - corpus.mean(axis=0)) ** 2)
        assert g @ w[kept] - g.min() <= 1e-6 * scale + 1e-12


def test_keeping_more_than_there_are_changes_nothing():
    corpus, queries = problem(200, 4)
    np.testing.assert_array_equal(
        solve(corpus, queries, 1e-2, n_keep=200)[0], solve(corpus, queries, 1e-2)[0]
    )


def test_smaller_tolerances_are_reached():
    corpus, queries = problem(400, 16)
    for tol in (1e-2, 1e-6, 1e-12):
        assert SimplexProblem(corpus, 1e-2).solve(queries, tol=tol).gap.max() <= tol + 1e-13
