"""How a module's outputs are compared: found out by what they are far away, too."""

import numpy as np
import pytest
import torch
from torch import nn

from sklexplain import ClaDecExplainer

X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
OPTIONS = {"task": "classification", "reference": None, "max_epochs": 2, "validation_split": None}


def logit(last=None):
    net = nn.Sequential(nn.Linear(3, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0.5, -0.5]]))
        net[0].bias.zero_()
    return net if last is None else net.append(last)


@pytest.mark.parametrize("order", [1, -1])
def test_logits_that_are_between_0_and_1_for_some_samples(order):
    """Of the same network in whatever order samples come."""
    scores = logit()(torch.from_numpy(X)).detach().numpy().ravel()
    samples = X[np.argsort(np.abs(scores - 0.5))[::order]]  # nearest to 0.5 first, or last
    explainer = ClaDecExplainer(logit(), layer="0", random_state=0, **OPTIONS).fit(samples)
    rebuilt = logit()(torch.from_numpy(explainer.transform(samples))).detach().numpy().ravel()
    given = logit()(torch.from_numpy(samples)).detach().numpy().ravel()
    assert explainer.agreement(samples) == np.mean((rebuilt > 0) == (given > 0))


def test_probabilities():
    net = logit(nn.Sigmoid())
    explainer = ClaDecExplainer(net, layer="0", random_state=0, **OPTIONS).fit(X)
    with torch.no_grad():
        rebuilt = net(torch.from_numpy(explainer.transform(X))).numpy().ravel()
        given = net(torch.from_numpy(X)).numpy().ravel()
    assert explainer.agreement(X) == np.mean((rebuilt > 0.5) == (given > 0.5))
