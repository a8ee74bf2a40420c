"""The loss terms equal slow references in float64."""

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score

from sklexplain.decoding import gaussian_divergence
from sklexplain.decoding._losses import (
    binary_cross_entropy,
    class_loss,
    explained_share,
    find_link,
    log_probabilities,
    squared_deviation,
    squared_error,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_squared_error(rng):
    x, x_hat = rng.normal(size=(2, 4, 2, 3))
    expected = [
        sum((a - b) ** 2 for a, b in zip(u.flat, v.flat, strict=True))
        for u, v in zip(x, x_hat, strict=True)
    ]
    found = squared_error(torch.from_numpy(x_hat), torch.from_numpy(x))
    np.testing.assert_allclose(found.numpy(), expected)


def test_binary_cross_entropy(rng):
    x, logits = rng.uniform(size=(4, 5)), 3 * rng.normal(size=(4, 5))
    p = 1 / (1 + np.exp(-logits))
    expected = [
        sum(-a * np.log(b) - (1 - a) * np.log(1 - b) for a, b in zip(u, v, strict=True))
        for u, v in zip(x, p, strict=True)
    ]
    found = binary_cross_entropy(torch.from_numpy(logits), torch.from_numpy(x))
    np.testing.assert_allclose(found.numpy(), expected)


def test_class_loss(rng):
    scores, target = rng.normal(size=(5, 3)), rng.dirichlet([1, 1, 1], size=5)
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    logs = log_probabilities(torch.from_numpy(scores), "softmax")
    expected = [
        -sum(t * np.log(q) for t, q in zip(u, v, strict=True))
        for u, v in zip(target, p, strict=True)
    ]
    np.testing.assert_allclose(class_loss(logs, torch.from_numpy(target)).numpy(), expected)
    labels = np.array([0, 2, 1, 1, 0])
    expected = [-np.log(p[i, label]) for i, label in enumerate(labels)]
    np.testing.assert_allclose(class_loss(logs, torch.from_numpy(labels)).numpy(), expected)


def test_gaussian_divergence_is_the_expected_difference_of_log_densities(rng):
    mean, log_variance = rng.normal(size=(2, 3, 2))
    draws = mean[None] + np.exp(log_variance / 2) * rng.normal(size=(400_000, 3, 2))
    own = -0.5 * ((draws - mean) ** 2 / np.exp(log_variance) + log_variance)
    standard = -0.5 * draws**2
    expected = (own - standard).sum(axis=2).mean(axis=0)
    found = gaussian_divergence(torch.from_numpy(mean), torch.from_numpy(log_variance))
    np.testing.assert_allclose(found.numpy(), expected, rtol=0.02)


def test_links_are_found(rng):
    logits = torch.from_numpy(rng.normal(size=(6, 3)))
    p = logits.softmax(dim=1)
    one = torch.from_numpy(rng.normal(size=(6, 1)))
    pair = torch.cat([1 - one.sigmoid(), one.sigmoid()], dim=1)
    cases = [
        (logits, p, "softmax"),
        (p, p, "probability"),
        (p.log(), p, "softmax"),
        (one, pair, "sigmoid"),
        (one.sigmoid(), pair, "binary_probability"),
    ]
    for scores, own, link in cases:
        assert find_link(scores, own) == link
        torch.testing.assert_close(log_probabilities(scores, link).exp(), own)
    assert find_link(logits, logits.sigmoid()) is None
    guesses = [(logits, "softmax"), (p, "probability"), (p.log(), "log_probability")]
    for scores, link in [*guesses, (one, "sigmoid"), (one.sigmoid(), "binary_probability")]:
        assert find_link(scores) == link


def test_a_probability_of_zero_is_no_infinite_loss():
    logs = log_probabilities(torch.tensor([[0.0, 1.0]]), "probability")
    assert torch.isfinite(logs).all()


def test_explained_share(rng):
    values, found = rng.normal(size=(2, 20, 3))
    error, total = squared_deviation(values, found), squared_deviation(values, values.mean(axis=0))
    expected = r2_score(values, found, multioutput="variance_weighted")
    assert explained_share(error, total) == pytest.approx(expected)
    assert explained_share(0.0, total) == 1
    assert explained_share(total, total) == 0
    assert explained_share(1.0, 0.0) == 0
    assert explained_share(0.0, 0.0) == 1
