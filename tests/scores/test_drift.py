"""Drift: the paper's, and the two-sided distance with its p-values."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklexplain import NoiseScorer
from sklexplain.nets import Autoencoder
from sklexplain.scores._drift import DriftReference, split_in_halves
from tests.cases import make_net, make_X


@pytest.fixture(scope="module")
def fitted():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv1d(1, 4, 5, padding=2), nn.ReLU(), nn.Conv1d(4, 4, 5, padding=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(4 * 30, 6),
    )  # fmt: skip
    return NoiseScorer(net, random_state=0).fit(waves(300, 0))


def waves(n_samples, seed, noise=0.0):
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 1.0, size=(n_samples, 1, 1))
    X = np.sin(np.linspace(0, 9, 30) + phase) + noise * rng.normal(size=(n_samples, 1, 30))
    return X.astype(np.float32)


def test_relative_drift_is_the_drop_of_the_score(fitted):
    X = waves(20, 1, noise=0.5)
    mean = fitted.score_samples(waves(300, 0)).mean()
    expected = (mean - fitted.score_samples(X)) / mean
    np.testing.assert_allclose(fitted.drift(X), expected, atol=1e-6)
    assert abs(fitted.drift(waves(300, 0)).mean()) < 1e-6


def test_distance_grows_with_drift(fitted):
    levels = [fitted.drift(waves(50, 1, noise), "distance").mean() for noise in (0, 0.1, 0.4, 3)]
    assert levels == sorted(levels)


def test_p_values_are_uniform_without_drift_and_small_with(fitted):
    p = fitted.drift_pvalue(waves(400, 2))
    for level in (0.05, 0.2, 0.5):
        # Four standard deviations, of the samples and of the 150 reference distances.
        spread = 4 * np.sqrt(level * (1 - level) * (1 / 400 + 1 / 150))
        assert abs((p <= level).mean() - level) <= spread
    assert p.min() >= 1 / 151
    assert np.median(fitted.drift_pvalue(waves(100, 3, noise=0.5))) <= 0.05


def test_distance_by_hand():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(5000, 3)) * [1, 5, 0.1] + [0, 3, 7], rng.normal(size=(40, 3))
    second = second * [1, 5, 0.1] + [0, 3, 7]
    reference = DriftReference(first, second)
    x = np.array([[2.0, 3 - 5, 7.0]])
    # Two-sided: as far on the other side is as far.
    opposite = reference.distances(2 * first.mean(axis=0) - x)
    np.testing.assert_allclose(opposite, reference.distances(x))
    assert reference.distances(x)[0] == pytest.approx(5**0.5, rel=0.05)
    larger = [reference.distances(row[None])[0] >= reference.distances(x)[0] for row in second]
    assert reference.p_values(reference.distances(x))[0] == (1 + sum(larger)) / 41


def test_features_that_do_not_vary_do_not_count_by_rounding():
    first = np.random.default_rng(0).normal(size=(50, 2))
    first[:, 1] = 0.25
    reference = DriftReference(first, first)
    x = np.array([[0.3, 0.25], [0.3, 0.25 + 1e-9], [0.3, 0.26]])
    a, b, c = reference.distances(x)
    assert b == pytest.approx(a, rel=0.01)
    assert c > 100 * a  # beyond rounding, what never varied is unusual


def test_samples_far_outside_the_range_of_noise_are_unusual():
    X, _ = load_wine(return_X_y=True)
    model = make_pipeline(StandardScaler(), Autoencoder(max_epochs=5, random_state=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X[::2])
    scorer = NoiseScorer(model, random_state=0).fit(X[::2])
    for n_deviations in (10, -10, 1000):
        shifted = X[1::2] + n_deviations * X.std(axis=0)
        assert np.median(scorer.drift_pvalue(shifted)) <= 0.05
    assert np.median(scorer.drift_pvalue(X[1::2])) >= 0.2


def test_few_samples_and_unknown_methods():
    X = make_X("conv1d")
    scorer = NoiseScorer(make_net("conv1d"), random_state=0).fit(X)
    assert scorer.drift(X).shape == (9,)
    with pytest.raises(ValueError, match="9 fitted samples.*at least 20"):
        scorer.drift_pvalue(X)
    with pytest.raises(ValueError, match="Did you mean 'distance'"):
        scorer.drift(X, method="distanc")
    first, second = split_in_halves(21, np.random.default_rng(0))
    assert sorted([*first, *second]) == list(range(21))


def test_nothing_can_be_relative_to_zero():
    net = nn.Sequential(nn.Linear(5, 3))
    scorer = NoiseScorer(net, saliency="gradient", random_state=0).fit(make_X("mlp"))
    with pytest.raises(ValueError, match="noise score of 0"):
        scorer.drift(make_X("mlp"))
