"""Solvers of linear systems with a curvature, beside dense ones."""

import numpy as np
import torch

from sklexplain.gradients._solvers import JacobianSolver, RowsSolver, Shift, conjugate_gradients
from sklexplain.gradients._terms import Explicit

RNG = np.random.default_rng(0)


def test_conjugate_gradients():
    root = torch.from_numpy(RNG.normal(size=(6, 6)))
    matrix = root @ root.T + torch.eye(6)
    b = torch.from_numpy(RNG.normal(size=(4, 6)))
    b[1] = 0
    b[2] = torch.linalg.eigh(matrix).eigenvectors[:, 0]  # one product is enough
    sizes = []

    def products(vectors):
        sizes.append(len(vectors))
        return vectors @ matrix

    x, residual, n_iter, negative = conjugate_gradients(products, b, 1e-10, 50)
    torch.testing.assert_close(x, torch.linalg.solve(matrix, b.T).T)
    assert (residual <= 1e-10).all()
    assert not negative.any()
    assert n_iter[1:3].tolist() == [0, 1]
    assert n_iter.max() <= 8
    assert sizes[:2] == [3, 2]  # only those that have not converged
    alone = conjugate_gradients(lambda v: v @ matrix, b[3:], 1e-10, 50)[0]
    torch.testing.assert_close(alone, x[3:], rtol=1e-12, atol=1e-12)


def test_conjugate_gradients_stop_at_negative_curvature():
    matrix = torch.diag(torch.tensor([2.0, 1.0, -1.0]).double())
    b = torch.tensor([[1.0, 1, 0], [1, 0, 2]]).double()
    x, residual, _, negative = conjugate_gradients(lambda v: v @ matrix, b, 1e-10, 50)
    assert negative.tolist() == [False, True]
    torch.testing.assert_close(x[0], torch.tensor([0.5, 1, 0]).double())
    assert residual[0] <= 1e-10 < residual[1]


def test_single_precision_where_damping_is_far_above_rounding():
    torch.manual_seed(0)
    rows, roots = torch.randn(6, 50), torch.randn(3, 1, 2, 2).double()
    slopes = torch.randn(3, 1, 2).double()
    blocks = torch.block_diag(*roots.flatten(0, 1))
    J = rows.double()
    for shift in (1e-6, 10.0):
        solver = JacobianSolver({"w": Explicit(rows)}, roots, slopes, Shift({"w": shift}))
        H = J.T @ blocks @ blocks.T @ J + shift * torch.eye(50)
        g = torch.stack([slopes[i, 0] @ J[2 * i : 2 * i + 2] for i in range(3)])
        expected = torch.linalg.solve(H, g.T)
        found = solver.corpus_products({"w": Explicit(torch.eye(50))})
        assert found.dtype == (torch.float64 if shift == 1e-6 else torch.float32)
        tolerance = 1e-6 if shift == 1e-6 else 1e-4
        error = (found - expected).abs().max() / expected.abs().max()
        assert error < tolerance
        few = RowsSolver({"w": Explicit((blocks.T @ J).float())}, Shift({"w": shift}))
        assert few.inner({"w": Explicit(rows)}, {"w": Explicit(rows)}).dtype == torch.float64
        torch.testing.assert_close(few.solve(g).T, expected, rtol=1e-3, atol=1e-3 / shift)
