"""The terms of the loss, against loops in float64."""

import math

import numpy as np
import pytest
import torch

from sklexplain.concepts._losses import (
    PENALTIES,
    prediction_loss,
    pull_away_loss,
    sparse_reconstruction_loss,
)


def numbers(*shape, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).normal(size=shape))


def kl(share, rho=0.05):
    return rho * math.log(rho / share) + (1 - rho) * math.log((1 - rho) / (1 - share))


BY_HAND = {
    "log": lambda m, q: math.log(1 + q * m),
    "l1": lambda m, q: math.sqrt(q * m),
    "epsilon_l1": lambda m, q: math.sqrt(q * m + 0.01),
    "kl": lambda m, q: kl(q * m / (1 + q * m)),
    "none": lambda m, q: m,
}


@pytest.mark.parametrize("penalty", sorted(PENALTIES))
@pytest.mark.parametrize("q", [0.5, 100.0])
def test_reconstruction_loss(penalty, q):
    a, b = numbers(6, 4), numbers(6, 4, seed=1)
    total = 0.0
    for k in range(4):
        mean = sum((a[m, k].item() - b[m, k].item()) ** 2 for m in range(6)) / 6
        total += BY_HAND[penalty](mean, q)
    loss = sparse_reconstruction_loss(a, b, q=q, penalty=penalty)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(total / 4, rel=1e-12)


def test_every_penalty_is_tested():
    assert set(BY_HAND) == set(PENALTIES)


def test_the_mean_over_samples_is_inside_the_log():
    a, b = numbers(6, 4), numbers(6, 4, seed=1)
    outside = torch.log1p(3 * (a - b).square()).mean()
    inside = sparse_reconstruction_loss(a, b, q=3.0)
    assert inside > outside + 0.1  # Jensen


def test_small_q_is_the_mean_squared_error():
    a, b = numbers(6, 4), numbers(6, 4, seed=1)
    mse = (a - b).square().mean().item()
    for q in (1e-4, 1e-6):
        assert sparse_reconstruction_loss(a, b, q=q).item() == pytest.approx(q * mse, rel=10 * q)


def test_kl_from_zero_would_be_the_log(monkeypatch):
    monkeypatch.setattr("sklexplain.concepts._losses._RHO", 1e-9)
    a, b = numbers(6, 4), numbers(6, 4, seed=1)
    log = sparse_reconstruction_loss(a, b, q=5.0)
    assert sparse_reconstruction_loss(a, b, q=5.0, penalty="kl").item() == pytest.approx(
        log.item(), 1e-6
    )


@pytest.mark.parametrize("penalty", sorted(PENALTIES))
def test_gradients_are_finite_at_zero_error(penalty):
    z = numbers(5, 3)
    z[:, 1] = 0  # a unit that is never active, reconstructed exactly
    reconstructed = (z + numbers(5, 3, seed=1)).detach()
    reconstructed[:, 1] = 0
    reconstructed.requires_grad_()
    sparse_reconstruction_loss(reconstructed, z, q=100.0, penalty=penalty).backward()
    assert torch.isfinite(reconstructed.grad).all()
    assert (reconstructed.grad[:, 0] != 0).all()


def test_prediction_loss():
    a, b = numbers(5, 3), numbers(5, 3, seed=1)
    by_hand = sum((a[m, t] - b[m, t]).item() ** 2 for m in range(5) for t in range(3)) / 15
    assert prediction_loss(a, b).item() == pytest.approx(by_hand)


def test_pull_away_loss():
    e = numbers(7, 4)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    by_hand = np.mean(
        [((e[:, i] @ e[:, j]) / e[:, i].norm() / e[:, j].norm()).item() ** 2 for i, j in pairs]
    )
    assert pull_away_loss(e).item() == pytest.approx(by_hand, rel=1e-12)
    orthogonal = torch.linalg.qr(e)[0]
    assert pull_away_loss(orthogonal).item() == pytest.approx(0, abs=1e-12)
    parallel = e[:, :1] * torch.tensor([1.0, -2.0, 0.5], dtype=e.dtype)
    assert pull_away_loss(parallel).item() == pytest.approx(1, rel=1e-12)
    assert pull_away_loss(e[:, :1]).item() == 0


def test_pull_away_of_a_concept_of_zeros_is_finite():
    e = numbers(7, 3)
    e[:, 0] = 0
    e.requires_grad_()
    loss = pull_away_loss(e)
    loss.backward()
    assert torch.isfinite(e.grad).all()
    cosine = torch.nn.functional.cosine_similarity(e[:, 1], e[:, 2], dim=0)
    assert loss.item() == pytest.approx(2 * cosine.item() ** 2 / 6)
