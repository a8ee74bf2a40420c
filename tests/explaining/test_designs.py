"""Perturbation attributions against loops over coalitions, all Shapley orders, and a Ridge."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from sklexplain.explaining import _designs as p


def _encode(x):
    """A function with interactions, of samples (b, 6) or (b, 2, 3): (b, 2)."""
    x = x.flatten(1)
    return torch.stack([x[:, 0] * x[:, 1] + x[:, 2] ** 2, torch.sin(x).sum(dim=1)], dim=1)


def _instance(shape=(6,), n_references=1):
    rng = np.random.RandomState(0)
    x = torch.from_numpy(rng.normal(size=(4, *shape)))
    references = torch.from_numpy(rng.normal(size=(1, n_references, *shape)))
    cotangents = torch.from_numpy(rng.normal(size=(4, 3, 2)))
    return x, references, cotangents


def _value(x, references, c, players, kept):
    """v(S) for one sample and one function, by a loop over references."""
    total = 0.0
    for r in references[0]:
        mixed = torch.where(torch.from_numpy(np.isin(players, list(kept))), x, r)
        total += float((_encode(mixed[None])[0] * c).sum()) / len(references[0])
    return total


def _run(design, x, references, cotangents, players, block_rows=11):
    out = p.masked_attributions(
        _encode, x, references, cotangents, torch.from_numpy(players), design, block_rows
    )
    return out.numpy()


def _each(x, cotangents):
    return itertools.product(range(len(x)), range(cotangents.shape[1]))


@pytest.mark.parametrize("n_references", [1, 3])
@pytest.mark.parametrize("players", [np.arange(6), np.array([0, 0, 1, 2, 2, 1])])
def test_feature_ablation(players, n_references):
    x, references, cotangents = _instance(n_references=n_references)
    n = players.max() + 1
    actual = _run(p.feature_ablation_design(n), x, references, cotangents, players)
    for i, k in _each(x, cotangents):
        c = cotangents[i, k]
        whole = _value(x[i], references, c, players, range(n))
        for player in range(n):
            rest = set(range(n)) - {player}
            expected = whole - _value(x[i], references, c, players, rest)
            assert actual[i, k, player] == pytest.approx(expected)


@pytest.mark.parametrize("window, stride", [((1, 2), (1, 1)), ((2, 2), (2, 2)), ((1, 1), (1, 1))])
def test_occlusion(window, stride):
    shape = (2, 3)
    x, references, cotangents = _instance(shape)
    players = np.arange(6).reshape(shape)
    design = p.occlusion_design(shape, window, stride)
    actual = _run(design, x, references, cotangents, players)
    for i, k in _each(x, cotangents):
        c = cotangents[i, k]
        whole = _value(x[i], references, c, players, range(6))
        total, count = np.zeros(shape), np.zeros(shape)
        rows = sorted({*range(0, 2 - window[0] + 1, stride[0]), 2 - window[0]})
        columns = sorted({*range(0, 3 - window[1] + 1, stride[1]), 3 - window[1]})
        for row, column in itertools.product(rows, columns):
            where = np.zeros(shape, dtype=bool)
            where[row : row + window[0], column : column + window[1]] = True
            kept = players[~where].tolist()
            total[where] += whole - _value(x[i], references, c, players, kept)
            count[where] += 1
        np.testing.assert_allclose(actual[i, k], (total / count).ravel(), rtol=1e-9)


def _shapley(x, references, c, players):
    """Exact Shapley values: the mean marginal contribution over all orders."""
    n = players.max() + 1
    phi = np.zeros(n)
    orders = list(itertools.permutations(range(n)))
    for order in orders:
        for position, player in enumerate(order):
            with_it = _value(x, references, c, players, order[: position + 1])
            phi[player] += with_it - _value(x, references, c, players, order[:position])
    return phi / len(orders)


@pytest.mark.parametrize("players", [np.array([0, 1, 2, 3, 0, 1]), np.array([0, 0, 0, 0, 0, 0])])
def test_kernel_shap_with_all_coalitions_is_the_shapley_value(players):
    x, references, cotangents = _instance(n_references=2)
    n = players.max() + 1
    design = p.kernel_shap_design(n, 2**n, np.random.RandomState(0))
    actual = _run(design, x, references, cotangents, players)
    for i, k in [(0, 0), (1, 2), (3, 1)]:
        expected = _shapley(x[i], references, cotangents[i, k], players)
        np.testing.assert_allclose(actual[i, k], expected, rtol=1e-8)


def test_kernel_shap_solves_the_constrained_least_squares_of_its_sample():
    n, rng = 6, np.random.RandomState(2)
    x, references, cotangents = _instance()
    players = np.arange(n)
    actual = _run(p.kernel_shap_design(n, 30, rng), x, references, cotangents, players)
    design = p.kernel_shap_design(n, 30, np.random.RandomState(2))
    coalitions = design.block(0, design.n_coalitions)[0][:-2]
    c = cotangents[1, 0]
    v = [_value(x[1], references, c, players, np.flatnonzero(row)) for row in coalitions]
    empty, whole = (_value(x[1], references, c, players, s) for s in ([], range(n)))
    Z = coalitions.astype(float)
    # The optimality conditions with a Lagrange multiplier, solved as they stand.
    kkt = np.block([[Z.T @ Z, np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
    expected = np.linalg.solve(kkt, [*(Z.T @ (np.array(v) - empty)), whole - empty])[:n]
    np.testing.assert_allclose(actual[1, 0], expected, rtol=1e-8)
    assert actual[1, 0].sum() == pytest.approx(whole - empty)


def test_kernel_shap_with_too_few_coalitions_says_so():
    with pytest.raises(ValueError, match=r"n_samples=4 .* 20 features .*raise n_samples .*2088"):
        p.kernel_shap_design(20, 4, np.random.RandomState(0))


def test_kernel_shap_samples_sizes_by_the_kernel_in_pairs():
    design = p.kernel_shap_design(40, 4000, np.random.RandomState(0))
    coalitions = design.block(0, 4000)[0]
    assert (coalitions[::2] == ~coalitions[1::2]).all()
    sizes = np.bincount(coalitions.sum(axis=1), minlength=41)[1:40] / 4000
    kernel = 1 / (np.arange(1, 40) * np.arange(39, 0, -1))
    np.testing.assert_allclose(sizes, kernel / kernel.sum(), atol=0.02)


@pytest.mark.parametrize("n_permutations", [1, 2, 5])
def test_shapley_sampling_is_the_mean_over_its_orders(n_permutations):
    n, players = 6, np.arange(6)
    x, references, cotangents = _instance()
    design = p.shapley_sampling_design(n, n_permutations, np.random.RandomState(5))
    actual = _run(design, x, references, cotangents, players)
    rng = np.random.RandomState(5)
    orders = [rng.permutation(n) for _ in range((n_permutations + 1) // 2)]
    orders = [o for order in orders for o in (order, order[::-1])][:n_permutations]
    c, expected = cotangents[2, 1], np.zeros(n)
    for order in orders:
        for position, player in enumerate(order):
            with_it = _value(x[2], references, c, players, order[: position + 1])
            without = _value(x[2], references, c, players, order[:position])
            expected[player] += (with_it - without) / n_permutations
    np.testing.assert_allclose(actual[2, 1], expected, rtol=1e-9)


def test_shapley_sampling_tends_to_the_shapley_value():
    players = np.array([0, 1, 2, 3, 0, 1])
    x, references, cotangents = _instance()
    design = p.shapley_sampling_design(4, 4000, np.random.RandomState(0))
    actual = _run(design, x, references, cotangents, players, block_rows=4096)
    expected = _shapley(x[0], references, cotangents[0, 0], players)
    np.testing.assert_allclose(actual[0, 0], expected, atol=0.03 * np.abs(expected).max())


def test_lime_is_the_weighted_ridge_of_scikit_learn():
    n, players = 6, np.arange(6)
    x, references, cotangents = _instance()
    design = p.lime_design(n, 50, 0.3, 2.0, np.random.RandomState(1))
    actual = _run(design, x, references, cotangents, players)
    Z = design.block(0, 50)[0]
    v = [_value(x[0], references, cotangents[0, 1], players, np.flatnonzero(z)) for z in Z]
    distance = 1 - Z.sum(axis=1) / (np.sqrt(Z.sum(axis=1)) * np.sqrt(n) + 1e-300)
    weights = np.exp(-((distance / 0.3) ** 2))
    ridge = Ridge(alpha=2.0, tol=1e-12).fit(Z, v, sample_weight=weights * 50 / weights.sum())
    np.testing.assert_allclose(actual[0, 1], ridge.coef_, rtol=1e-6)


@pytest.mark.parametrize("block_rows", [1, 4, 7, 10_000])
def test_blocks_change_nothing(block_rows):
    x, references, cotangents = _instance(n_references=3)
    design = p.shapley_sampling_design(6, 3, np.random.RandomState(0))
    a = _run(design, x, references, cotangents, np.arange(6), block_rows)
    b = _run(design, x, references, cotangents, np.arange(6), 64)
    np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("players", [np.arange(6), np.array([0, 0, 1, 2, 2, 1])])
@pytest.mark.parametrize("n_references", [1, 3])
def test_entries_like_the_baseline_cost_no_runs(players, n_references):
    x, references, cotangents = _instance(n_references=n_references)
    references[:, :, 2:] = x[0, 2:]  # of the first sample; of no other
    references[0, 0, 1] = x[0, 1]  # still an entry that differs, if there are other rows
    n = players.max() + 1
    design = p.shapley_sampling_design(n, 4, np.random.RandomState(0))
    rows = []

    def counted(z):
        rows.append(len(z))
        return _encode(z)

    size = design.n_coalitions * n_references
    actual = p.masked_attributions(
        counted, x, references, cotangents, torch.from_numpy(players), design, size
    ).numpy()
    n_differing = 1 if n_references == 1 else 2
    assert rows[0] <= n_references * 2**n_differing
    assert rows[1:] == [size] * 3
    kept, coefficients = design.block(0, design.n_coalitions)
    for i, k in _each(x, cotangents):
        values = [
            _value(x[i], references, cotangents[i, k], players, np.flatnonzero(s)) for s in kept
        ]
        np.testing.assert_allclose(actual[i, k], coefficients @ values, atol=1e-12)


@pytest.mark.parametrize("n_references", [1, 2])
@pytest.mark.parametrize("players", [np.arange(6), np.array([0, 0, 1, 2, 2, 1])])
def test_only_players_that_differ_from_the_baseline_play(players, n_references):
    x, references, cotangents = _instance(n_references=n_references)
    references[:] = references[:, :1]
    x[0, players == 1] = references[0, 0, players == 1]
    x[1] = references[0, 0]
    x[2, players != 0] = references[0, 0, players != 0]
    n, asked = players.max() + 1, []

    def design(n_players):
        asked.append(n_players)
        return p.kernel_shap_design(n_players, 2**n, np.random.RandomState(0))

    args = (torch.from_numpy(players), n, design, 7)
    found = p.masked_attributions_of_present(_encode, x, references, cotangents, *args).numpy()
    exact = p.kernel_shap_design(n, 2**n, np.random.RandomState(0))
    expected = _run(exact, x, references, cotangents, players)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert not found[0][:, 1].any() and not found[1].any() and not found[2][:, 1:].any()
    assert sorted(asked) == [1, n - 1, n]  # and none for the sample without players
    for i in range(4):
        own = p.masked_attributions_of_present(
            _encode, x[i : i + 1], references, cotangents[i : i + 1], *args
        )
        np.testing.assert_allclose(own[0].numpy(), found[i], rtol=1e-12, atol=1e-14)
