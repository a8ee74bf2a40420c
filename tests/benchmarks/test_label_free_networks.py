"""What label_free_examples.py computes for itself, beside closed forms."""

import numpy as np
import pytest
import torch

from benchmarks.papers import _label_free_networks as networks


@pytest.fixture
def linear():
    torch.manual_seed(0)
    encoder = torch.nn.Linear(3, 2, bias=False)
    X = np.random.RandomState(0).standard_normal((7, 3)).astype(np.float32)
    return encoder, X, encoder.weight.detach().numpy()


def test_aligned_gradient_shap_of_a_linear_encoder_is_exact(linear):
    encoder, X, W = linear
    maps = networks.gradient_shap(encoder, X, 0, batch_size=3)
    np.testing.assert_allclose(maps, X * (X @ W.T @ W), rtol=1e-5, atol=1e-6)


def test_misaligned_gradient_shap_explains_other_samples(linear):
    encoder, X, W = linear
    n_samples, batch = 2, 3
    maps = networks.gradient_shap(
        encoder, X, 0, n_samples=n_samples, batch_size=batch, aligned=False
    )
    # Row j of a batch is sample j // n_samples, but z of sample j % (size of the batch).
    expected = np.zeros_like(X)
    for start in range(0, len(X), batch):
        x = X[start : start + batch]
        for j in range(len(x) * n_samples):
            of, z = j // n_samples, x[j % len(x)] @ W.T
            expected[start + of] += x[of] * (z @ W) / n_samples
    np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(maps[:6], (X * (X @ W.T @ W))[:6], atol=0.1)
    np.testing.assert_allclose(maps[6], (X * (X @ W.T @ W))[6], rtol=1e-5)  # alone in its batch


def test_tasks_start_from_different_weights():
    nets = [networks.untrained(run) for run in (0, 1)]
    weights = [net.net_.module_.encoder[0].weight for net in nets]
    assert not torch.equal(*weights)
    a, b = (networks.train_digits(task, 0, 1, 20) for task in ("reconstruction", "inpainting"))
    assert a.random_state != b.random_state


def test_corpus_is_part_of_the_training_set():
    for data in (networks.digits(5, 10), networks.heartbeats(3, 5, 10)):
        assert len(data["X_train"]) == 10
        np.testing.assert_array_equal(data["corpus"], data["X_train"][:5])
        assert len(data["y_queries"]) == len(data["queries"]) == 5
