"""Shorter ways to a Jacobian change no score."""

import numpy as np
import pytest
import torch
from torch import nn

from sklexplain import NoiseScorer, VarianceScorer
from sklexplain.layers import _jacobian


@pytest.mark.parametrize("scorer_class", [NoiseScorer, VarianceScorer])
@pytest.mark.parametrize("regime", ["columns", "affine"])
def test_few_activations_and_affine_ends_change_nothing(monkeypatch, scorer_class, regime):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 24)).double()
    if regime == "columns":
        net.append(nn.Tanh())
    X = np.random.RandomState(0).normal(size=(9, 5))
    params = {"layers": ["0" if regime == "columns" else "1"]}
    scorer = scorer_class(net, random_state=0, **params).fit(X)
    found = scorer.transform(X)
    assert scorer._points.batched[regime] is True
    monkeypatch.setattr(_jacobian, "_try_affine", lambda *args: None)
    monkeypatch.setattr(_jacobian, "_try_columns", lambda *args: None)
    scorer = scorer_class(net, random_state=0, **params).fit(X)
    expected = scorer.transform(X)
    assert regime not in scorer._points.batched
    np.testing.assert_allclose(found, expected, rtol=1e-9)
