"""Second derivatives that are wrong or negative."""

import numpy as np
import torch

from sklexplain.gradients._second import asymmetry, positive_part


def test_asymmetry():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(3, 50, generator=generator).double()
    matrix = torch.randn(50, 50, generator=generator).double()
    assert asymmetry(vectors, vectors @ (matrix + matrix.T)) < 1e-12
    assert asymmetry(vectors, vectors @ matrix) > 0.3
    assert asymmetry(vectors, 0 * vectors) == 0


def test_positive_parts():
    rng = np.random.default_rng(1)
    like = torch.zeros(5, 3, dtype=torch.float64)
    matrix = torch.as_tensor(rng.normal(size=(5, 3, 3)))
    matrix = matrix + matrix.transpose(1, 2)

    def product(direction, matrix=matrix):
        return (matrix @ direction[:, :, None])[:, :, 0]

    values, vectors = np.linalg.eigh(matrix.numpy())
    wanted = np.einsum("nij,nj,nkj->nik", vectors, np.maximum(values, 0), vectors)
    found = positive_part(product, like)
    for j in range(3):
        unit = torch.zeros_like(like)
        unit[:, j] = 1
        np.testing.assert_allclose(found(unit), wanted[:, :, j], atol=1e-12)
    squares = matrix @ matrix

    def positive(direction):
        return product(direction, squares)

    assert positive is positive_part(positive, like)
    numbers = torch.zeros(5, dtype=torch.float64)  # outputs of a single number
    curve = torch.tensor([1.0, -2, 3, 0, -1]).double()
    cut = positive_part(lambda d: curve * d, numbers)
    assert cut(torch.ones(5).double()).tolist() == [1, 0, 3, 0, 0]
