"""Standard errors of sampled attributions: leaving draws out one by one, and coverage."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import Ridge

from sklexplain.explaining import _designs, _paths
from sklexplain.explaining._spread import Running, Spread, close_features


def net(seed, n_features, n_units=3):
    """A random network with one hidden layer, in float64."""
    rng = np.random.RandomState(seed)
    first = torch.from_numpy(rng.normal(size=(n_features, 12)))
    second = torch.from_numpy(rng.normal(size=(12, n_units)) / 4)
    return lambda x: torch.tanh(x @ first) @ second


def run(design, encode, x, references, cotangents, block_rows=1000):
    """Attributions and what is known of their errors."""
    spread = Spread((len(x), cotangents.shape[1], design.n_outputs), x.device)
    players = torch.arange(x.shape[1])
    args = encode, x, references, cotangents, players, design, block_rows
    maps = _designs.masked_attributions(*args, spread)
    return maps.numpy(), spread.errors.numpy(), spread.degrees.numpy()


def instance(d, n=3, k=2, seed=0):
    rng = np.random.RandomState(seed)
    x = torch.from_numpy(rng.normal(size=(n, d)))
    references = torch.from_numpy(rng.normal(size=(1, 2, d)))
    cotangents = torch.from_numpy(rng.normal(size=(n, k, 3)))
    return net(seed, d), x, references, cotangents


def values(encode, x, references, cotangents, coalitions):
    """v(S) for one sample and one function."""
    kept = torch.from_numpy(np.asarray(coalitions))[:, None]
    z = encode(torch.where(kept, x, references)).mean(dim=1)
    return (z @ cotangents).numpy()


@pytest.mark.parametrize("n_orders", [6, 7])
@pytest.mark.parametrize("block_rows", [3, 40, 1000])
def test_pairs_of_orders(n_orders, block_rows):
    encode, x, references, cotangents = instance(5)
    design = _designs.shapley_sampling_design(5, n_orders, np.random.RandomState(1))
    _, errors, degrees = run(design, encode, x, references, cotangents, block_rows)
    rng = np.random.RandomState(1)
    orders = [rng.permutation(5) for _ in range((n_orders + 1) // 2)][:3]
    for i in range(3):
        for k in range(2):
            pairs = []
            for order in orders:
                marginals = []
                for one in (order, order[::-1]):
                    kept = np.zeros((6, 5), dtype=bool)
                    for step, player in enumerate(one):
                        kept[step + 1 :, player] = True
                    v = values(encode, x[i], references[0], cotangents[i, k], kept)
                    marginals.append(np.diff(v)[np.argsort(one)])
                pairs.append(np.mean(marginals, axis=0))
            expected = np.std(pairs, axis=0, ddof=1) / np.sqrt(3)
            np.testing.assert_allclose(errors[i, k], expected, rtol=1e-8)
    assert (degrees == 2).all()


@pytest.mark.parametrize("n_samples", [24, 25])
def test_a_pair_of_coalitions_is_left_out_at_a_time(n_samples):
    d = 6
    encode, x, references, cotangents = instance(d)
    design = _designs.kernel_shap_design(d, n_samples, np.random.RandomState(1))
    maps, errors, degrees = run(design, encode, x, references, cotangents, 11)
    Z, _ = _designs._shapley_coalitions(d, n_samples, np.random.RandomState(1))
    everybody = np.arange(d) >= 0
    for i in range(3):
        c = cotangents[i, 1]
        v0, v1 = values(encode, x[i], references[0], c, [~everybody, everybody])
        v = values(encode, x[i], references[0], c, Z) - v0

        def fit(rows, v=v, total=v1 - v0):
            """Least squares with the last attribution eliminated by the sum of all."""
            A = Z[rows, :-1].astype(float) - Z[rows, -1:]
            first = np.linalg.lstsq(A, v[rows] - Z[rows, -1] * total, rcond=None)[0]
            return np.append(first, total - first.sum())

        whole, pair = fit(np.arange(n_samples)), np.arange(n_samples) // 2
        np.testing.assert_allclose(maps[i, 1], whole, rtol=1e-8)
        moved = np.array([fit(np.flatnonzero(pair != k)) - whole for k in np.unique(pair)])
        expected = np.sqrt((len(moved) - 1) / len(moved) * (moved**2).sum(axis=0))
        np.testing.assert_allclose(errors[i, 1], expected, rtol=1e-6)
        assert (degrees == len(moved) - 1).all()


def test_a_coalition_of_lime_is_left_out_at_a_time():
    d, n = 5, 20
    encode, x, references, cotangents = instance(d)
    design = _designs.lime_design(d, n, 0.4, 2.0, np.random.RandomState(1))
    maps, errors, degrees = run(design, encode, x, references, cotangents, 11)
    Z, _ = design.block(0, n)
    weights = np.exp(-(((1 - np.sqrt(Z.mean(axis=1))) / 0.4) ** 2))
    weights /= weights.sum()
    for i in range(3):
        v = values(encode, x[i], references[0], cotangents[i, 0], Z)
        fits = [
            Ridge(alpha=2.0 / n).fit(Z[rows], v[rows], weights[rows]).coef_
            for rows in (np.arange(n) != left for left in range(-1, n))
        ]
        np.testing.assert_allclose(maps[i, 0], fits[0], rtol=1e-8)
        expected = np.sqrt(((np.array(fits[1:]) - fits[0]) ** 2).sum(axis=0))
        np.testing.assert_allclose(errors[i, 0], expected, rtol=1e-6)
    assert (degrees == n - d - 1).all()


def test_values_are_kept_for_few_samples_at_once(monkeypatch):
    case = instance(6, n=5)
    for design in (
        _designs.kernel_shap_design(6, 20, np.random.RandomState(0)),
        _designs.lime_design(6, 20, 0.25, 1.0, np.random.RandomState(0)),
    ):
        whole = run(design, *case)
        monkeypatch.setattr(_designs, "_MOST_VALUES", 100)
        for actual, expected in zip(run(design, *case), whole, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-9)
        monkeypatch.undo()


def test_nothing_is_left_to_chance():
    for d, design in (
        (4, _designs.kernel_shap_design(4, 14, np.random.RandomState(0))),
        (1, _designs.kernel_shap_design(1, 14, np.random.RandomState(0))),
        (1, _designs.shapley_sampling_design(1, 3, np.random.RandomState(0))),
        (2, _designs.shapley_sampling_design(2, 4, np.random.RandomState(0))),
    ):
        _, errors, degrees = run(design, *instance(d))
        assert (errors == 0).all() and np.isposinf(degrees).all()


def test_two_players_and_an_odd_order():
    case = instance(2)
    exact = run(_designs.kernel_shap_design(2, 2, np.random.RandomState(0)), *case)[0]
    maps, errors, _ = run(_designs.shapley_sampling_design(2, 5, np.random.RandomState(0)), *case)
    np.testing.assert_allclose(errors, np.abs(maps - exact), atol=1e-12)
    assert (errors > 0).all()


def test_too_few_draws_tell_nothing():
    rng = np.random.RandomState(0)
    case, two = instance(4), np.zeros((2, 4))
    for design in (
        _designs.shapley_sampling_design(4, 1, rng),
        _designs.shapley_sampling_design(4, 3, rng),
        _designs.lime_design(4, 5, 0.25, 1.0, rng),
    ):
        assert np.isnan(run(design, *case)[1]).all()
    assert torch.isnan(Running((4,), "cpu").errors(1)).all()
    running = Running((4,), "cpu")
    running.add(slice(None), 0, torch.from_numpy(two))
    assert (running.errors(2) == 0).all()
    # Ten coalitions of six players fit without error, and with a pair left out not at all.
    design = _designs.kernel_shap_design(6, 10, np.random.RandomState(2))
    assert np.isnan(run(design, *instance(6))[1]).all()


def test_draws_along_paths():
    encode, x, references, cotangents = instance(4)
    n = 9
    path = _paths.expected_gradients_path(2, n, np.random.RandomState(2))
    rng = np.random.RandomState(2)
    rows, positions = rng.randint(2, size=n), rng.uniform(size=n)
    groups = torch.tensor([0, 1, 1, 0])

    def of_features(maps, rows):
        return maps.new_zeros(*maps.shape[:2], 2).index_add_(2, groups, maps)

    for block_rows in (2, 5, 100):
        spread = Spread((3, 2, 2), x.device, of_features)
        args = encode, x, references, cotangents, path, block_rows
        _paths.path_gradients(*args, spread=spread)
        for i in range(3):
            draws = []
            for row, t in zip(rows, positions, strict=True):
                r = references[0, row]
                point = (r + t * (x[i] - r)).requires_grad_()
                (gradient,) = torch.autograd.grad(encode(point) @ cotangents[i, 1], point)
                entries = (gradient * (x[i] - r)).numpy()
                draws.append([entries[[0, 3]].sum(), entries[[1, 2]].sum()])
            expected = np.std(draws, axis=0, ddof=1) / np.sqrt(n)
            np.testing.assert_allclose(spread.errors[i, 1], expected, rtol=1e-8)
        assert (spread.degrees == n - 1).all()


def test_running_moments_of_large_numbers():
    draws = 1e6 + np.random.RandomState(0).normal(size=(3, 50, 4))
    running = Running((3, 4), "cpu")
    for start, stop in ((0, 1), (1, 20), (20, 50)):
        running.add(slice(None), start, torch.from_numpy(draws[:, start:stop]))
    expected = draws.std(axis=1, ddof=1) / np.sqrt(50)
    np.testing.assert_allclose(running.errors(50), expected, rtol=1e-8)


def coverage(design_of, n_seeds, d, exact):
    """Share of 95 % intervals that hold the limit, over seeds, samples and features."""
    encode, x, references, cotangents = instance(d, n=20, k=1)
    held = []
    for seed in range(n_seeds):
        design = design_of(np.random.RandomState(1000 + seed))
        maps, errors, degrees = run(design, encode, x, references, cotangents, 10**5)
        half = stats.t.ppf(0.975, degrees) * errors
        held.append(np.abs(maps - exact(encode, x, references, cotangents)) <= half)
    return np.mean(held)


def shapley_values(*case):
    d = case[1].shape[1]
    return run(_designs.kernel_shap_design(d, 2**d, np.random.RandomState(0)), *case, 10**5)[0]


def test_coverage_of_pairs():
    # Orders as if they were independent would cover 98 %.
    known = shapley_values(*instance(7, n=20, k=1))
    covered = coverage(
        lambda rng: _designs.shapley_sampling_design(7, 30, rng), 120, 7, lambda *case: known
    )
    assert 0.915 <= covered <= 0.965


def test_coverage_of_coalitions():
    # Rows as if they were independent would cover 97 % and more, pairs without CR3 80 %.
    known = shapley_values(*instance(8, n=20, k=1))
    covered = coverage(
        lambda rng: _designs.kernel_shap_design(8, 50, rng), 120, 8, lambda *case: known
    )
    assert 0.93 <= covered <= 0.97


def test_errors_fall_with_the_root_of_the_number_of_draws():
    case, sizes = instance(8, n=20, k=1), []
    for n in (20, 200):
        errors = [
            run(_designs.shapley_sampling_design(8, n, np.random.RandomState(seed)), *case)[1]
            for seed in range(10)
        ]
        sizes.append(np.mean(errors))
    assert np.log10(sizes[1] / sizes[0]) == pytest.approx(-0.5, abs=0.05)


def test_features_that_are_close():
    maps = np.array([[3.0, 1.0, 0.0], [3.0, 2.9, 0.0], [0.0, 0.0, 0.0], [3.0, 2.9, np.nan]])
    errors = np.array([[0.1, 0.1, 9.0], [0.1, 0.1, 0.0], [0.0, 0.0, 0.0], [np.nan, 0.1, 0.1]])
    assert close_features(maps, errors).tolist() == [False, True, False, True]
    assert close_features(maps[:, :1], errors[:, :1]).tolist() == [False] * 4
