"""Products by factors, and the preconditioner made of them, beside dense matrices."""

import pickle

import numpy as np
import pytest
import torch

from sklexplain.gradients import (
    FactorProducts,
    PassProducts,
    _narrow,
    _products,
    flatten_terms,
    nystrom,
)
from sklexplain.gradients._nystrom import _missing
from sklexplain.gradients._solvers import conjugate_gradients
from sklexplain.gradients._terms import Explicit, Lookup, Outer

N, DRAWS, SIZE = 5, 2, 3


def make_jacobian():
    """Every kind of term, with inputs that a sample's rows share and with their own."""
    rows = N * DRAWS * SIZE

    def randn(*shape):
        return torch.randn(*shape, dtype=torch.float64)

    return {
        "shared": Outer(randn(N * DRAWS, 1, 1, 4), randn(rows, 1, 1, 3)),
        "positions": Outer(randn(N * DRAWS, 2, 7, 4), randn(rows, 2, 7, 3)),
        "own": Outer(randn(rows, 1, 2, 3), randn(rows, 1, 2, 2)),
        "plain": Explicit(randn(rows, 5)),
        "table": Lookup(torch.randint(6, (rows, 2)), randn(rows, 2, 2), 6),
    }


def make_roots():
    return torch.randn(N, DRAWS, SIZE, SIZE, dtype=torch.float64)


@pytest.mark.parametrize("k", [1, 4, 40])
@pytest.mark.parametrize("n_bytes", [1, 2**26])
def test_products_are_those_of_the_dense_matrix(monkeypatch, k, n_bytes):
    monkeypatch.setattr(_products, "_CHUNK_BYTES", n_bytes)
    jacobian, roots = make_jacobian(), make_roots()
    J, L = flatten_terms(jacobian), torch.block_diag(*roots.flatten(0, 1))
    C = J.T @ L @ L.T @ J
    vectors = torch.randn(k, J.shape[1], dtype=torch.float64)
    products = FactorProducts(jacobian, roots)
    torch.testing.assert_close(products(vectors), vectors @ C)
    halves = [slice(0, 2), slice(2, 5)]

    def parts():
        for half in halves:
            rows = slice(half.start * DRAWS * SIZE, half.stop * DRAWS * SIZE)
            yield {name: term[rows] for name, term in jacobian.items()}, roots[half]

    torch.testing.assert_close(PassProducts(parts)(vectors), vectors @ C)


def test_both_ways_of_products_are_taken():
    jacobian = make_jacobian()
    ways = [_products._is_factored(jacobian[name], k) for name in jacobian for k in (1, 40)]
    assert ways == [True, True, True, False, True, False, False, False, False, False]


def test_sketches_are_signed_sums_of_rows():
    jacobian, roots = make_jacobian(), make_roots()
    rows = torch.block_diag(*roots.flatten(0, 1)).T @ flatten_terms(jacobian)
    sketch = FactorProducts(jacobian, roots).sketch(4, torch.Generator().manual_seed(0))
    weights = torch.linalg.lstsq(rows.T, sketch.T).solution.T
    torch.testing.assert_close(weights @ rows, sketch)
    torch.testing.assert_close(weights.abs().sum(dim=0), torch.ones(30, dtype=torch.float64))
    torch.testing.assert_close(weights.abs(), weights.abs().round(), atol=1e-9, rtol=0)


def test_sketches_of_some_samples_only(monkeypatch):
    monkeypatch.setattr(_products, "_ROWS_A_SUM", 2)
    jacobian, roots = make_jacobian(), make_roots()
    rows = torch.block_diag(*roots.flatten(0, 1)).T @ flatten_terms(jacobian)
    sketch = FactorProducts(jacobian, roots).sketch(5, torch.Generator().manual_seed(0))
    weights = torch.linalg.lstsq(rows.T, sketch.T).solution.T
    torch.testing.assert_close(weights @ rows, sketch)
    used = weights.abs().sum(dim=0).view(N, -1)
    assert (used.amax(dim=1) - used.amin(dim=1)).max() < 1e-9
    assert int(used[:, 0].round().sum()) == 2  # ceil(2 * 5 / 6) samples


def test_narrow_layers_are_projections(monkeypatch):
    monkeypatch.setattr(_narrow, "_WIDE", 4)
    monkeypatch.setattr(_narrow, "_SHARE", 2)
    jacobian, roots = make_jacobian(), make_roots()
    a = jacobian["shared"].a
    a[..., 2:] = 1e-9 * a[..., 2:]  # so that two directions are all there is
    J, L = flatten_terms(jacobian), torch.block_diag(*roots.flatten(0, 1))
    products, narrow = FactorProducts(jacobian, roots).narrowed(torch.Generator().manual_seed(0))
    vectors = torch.randn(3, J.shape[1], dtype=torch.float64)
    short = narrow.narrowed(vectors)
    assert short.shape[1] == J.shape[1] - 2 * 3
    torch.testing.assert_close(narrow.narrowed(narrow.widened(short)), short)
    found = narrow.widened(products(short))
    torch.testing.assert_close(found, vectors @ J.T @ L @ L.T @ J, rtol=1e-6, atol=1e-5)
    values = torch.arange(5.0).repeat_interleave(torch.tensor([t.size for t in jacobian.values()]))
    torch.testing.assert_close(narrow.shortened(values).unique(), torch.arange(5.0))
    assert len(narrow.shortened(values)) == short.shape[1]
    assert narrow.narrowed(vectors[:0]).shape == short[:0].shape


@pytest.mark.parametrize("unequal", [False, True])
def test_preconditioners_of_narrow_layers(monkeypatch, unequal):
    monkeypatch.setattr(_narrow, "_WIDE", 4)
    monkeypatch.setattr(_narrow, "_SHARE", 2)
    jacobian, roots = make_jacobian(), make_roots()
    J, L = flatten_terms(jacobian), torch.block_diag(*roots.flatten(0, 1))
    p, generator = J.shape[1], torch.Generator().manual_seed(0)
    products, narrow = FactorProducts(jacobian, roots).narrowed(generator)
    shifts = torch.tensor([0.1, 0.3, 0.1, 0.5, 0.1] if unequal else [0.1] * 5).double()
    diagonal = shifts.repeat_interleave(torch.tensor([t.size for t in jacobian.values()]))
    scale = (0.1 / diagonal).sqrt() if unequal else None
    made = nystrom(
        products, lambda k: products.sketch(k, generator), 0.1, p // 2, scale, narrow=narrow
    )
    again = pickle.loads(pickle.dumps(made)).moved("cpu")
    eye = torch.eye(p, dtype=torch.float64)
    matrix = again(eye)
    torch.testing.assert_close(matrix, matrix.T)
    assert torch.linalg.eigvalsh(matrix).min() > 0
    H = J.T @ L @ L.T @ J + torch.diag(diagonal)
    b = torch.randn(4, p, generator=generator, dtype=torch.float64)
    found, residual, *_ = conjugate_gradients(lambda v: v @ H, b, 1e-10, 500, made)
    assert (residual <= 1e-10).all()
    torch.testing.assert_close(found, torch.linalg.solve(H, b.T).T)


def falling(p=300, power=2.0):
    """A symmetric matrix whose eigenvalues follow a power law."""
    generator = np.random.default_rng(0)
    rotation = np.linalg.qr(generator.normal(size=(p, p)))[0]
    return torch.from_numpy((rotation * 100.0 / np.arange(1, p + 1) ** power) @ rotation.T)


@pytest.mark.parametrize("scaled", [False, True])
def test_preconditioned_solutions_are_those_of_the_dense_matrix(scaled):
    matrix, shift, p = falling(), 1e-3, 300
    generator = torch.Generator().manual_seed(0)
    diagonal = torch.full((p,), shift, dtype=torch.float64)
    if scaled:
        diagonal[::2] = 1.0
    scale = (shift / diagonal).sqrt() if scaled else None
    b = torch.randn(6, p, generator=generator, dtype=torch.float64)

    def start(k):
        return torch.randn(k, p, generator=generator, dtype=torch.float64)

    made = nystrom(lambda v: v @ matrix, start, shift, 200, scale)
    plain = conjugate_gradients(lambda v: v @ matrix + v * diagonal, b, 1e-10, 2000)
    found = conjugate_gradients(lambda v: v @ matrix + v * diagonal, b, 1e-10, 2000, made)
    expected = torch.linalg.solve(matrix + torch.diag(diagonal), b.T).T
    torch.testing.assert_close(found[0], expected, rtol=1e-7, atol=1e-7 * float(expected.max()))
    assert (found[1] <= 1e-10).all()
    assert 4 * found[2].max() < plain[2].max()


def test_low_rank_matrices_are_inverted_at_once():
    root = torch.randn(10, 50, dtype=torch.float64)
    C = root.T @ root
    made = nystrom(lambda v: v @ C, lambda k: torch.eye(50, dtype=torch.float64)[:k], 0.1, 50)
    assert len(made.values) == 10
    torch.testing.assert_close(made.values, torch.linalg.eigvalsh(C).flip(0)[:10])
    b = torch.randn(3, 50, dtype=torch.float64)
    inverse = torch.linalg.inv(C + 0.1 * torch.eye(50, dtype=torch.float64))
    expected = b @ inverse * float(made.values[-1] + 0.1)
    within = torch.linalg.svd(root, full_matrices=False).Vh
    torch.testing.assert_close(made(b) @ within.T, expected @ within.T)
    torch.testing.assert_close(made(b) - made(b) @ within.T @ within, b - b @ within.T @ within)


def test_matrices_without_positive_eigenvalues_have_no_preconditioner():
    def start(k):
        return torch.randn(k, 8, dtype=torch.float64)

    assert nystrom(torch.zeros_like, start, 0.1, 8) is None
    assert nystrom(torch.neg, start, 0.1, 8) is None


def test_how_many_vectors_more():
    values = 100.0 / torch.arange(1, 65, dtype=torch.float64) ** 2
    assert _missing(values, 1.0, 500) == 0
    # 100 / r² is 5 shifts at r = sqrt(20 / shift).
    assert _missing(values, 1e-3, 500) == pytest.approx(np.sqrt(20 / 1e-3) - 64, abs=6)
    assert _missing(values, 1e-9, 500) == 500 - 64
    assert _missing(values, 1e-9, 64) == 0
