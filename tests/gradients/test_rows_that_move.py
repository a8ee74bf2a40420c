"""Gradients of samples, in networks that group or sort samples, or stack them, now and then."""

import numpy as np
import pytest
import torch
from torch import nn

from sklexplain import InfluenceImportance, TracInImportance
from sklexplain.gradients import _per_sample

RNG = np.random.default_rng(0)
# The first samples, those that are tried, need no other order.
X = RNG.normal(size=(60, 4)).clip(-0.9, 0.9)
X[[7, 23, 41], 0] = 2.0
QUERIES = X[[3, 7, 8, 41, 5]]


class Grouped(nn.Module):
    def __init__(self, how):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.encoder = nn.Sequential(nn.Linear(4, 2), nn.Tanh())
            self.decoder = nn.Linear(2, 4)
        self.how = how

    def forward(self, x):
        if self.how == "plain":
            return self.decoder(self.encoder(x))
        if self.how == "stacked":
            if not (x[:, 0] > 1).any():
                return self.decoder(self.encoder(x))
            z = self.encoder(torch.cat([x, x]))  # rows i and n + i are of sample i
            return self.decoder((z[: len(x)] + z[len(x) :]) / 2)
        order = (x[:, 0] > 1).long().argsort(stable=True)
        back = order.argsort()
        if self.how == "selected":
            return self.decoder(self.encoder(x.index_select(0, order))).index_select(0, back)
        return self.decoder(self.encoder(x[order]))[back]


def square(output, x):
    return (output - x).square().sum(dim=1)


def gradients(samples):
    net, rows = Grouped("plain").double(), []
    for x in torch.from_numpy(samples):
        net.zero_grad()
        square(net(x[None]), x[None]).sum().backward()
        rows.append(torch.cat([p.grad.flatten() for p in net.parameters()]).clone())
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("how", ["grouped", "selected", "stacked"])
def test_against_a_loop(how):
    net = Grouped(how).double().eval()
    tracin = TracInImportance(net, loss=square, parameters="all").fit(X)
    expected = gradients(QUERIES) @ gradients(X).T
    np.testing.assert_allclose(tracin.transform(QUERIES), expected, rtol=1e-9, atol=1e-12)
    for solver in ("exact", "cg", "low_rank"):
        options = {"loss": square, "parameters": "all", "damping": 0.5, "random_state": 0}
        options |= {"solver": solver, "tol": 1e-10, "rank": 1000}
        found, plain = (
            InfluenceImportance(Grouped(name).double().eval(), **options).fit(X).transform(QUERIES)
            for name in (how, "plain")
        )
        np.testing.assert_allclose(found, plain, rtol=1e-6, atol=1e-9 * np.abs(plain).max())


def test_selections_that_move_nothing_keep_their_rules(monkeypatch):
    """The last step of every sample is picked by number, as after padding."""

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.Linear(1, 3), nn.Linear(3, 4)

        def forward(self, x):
            steps = torch.tanh(self.rnn(x[..., None]))
            n = (x > -5).sum(dim=1) - 1
            return self.head(steps[torch.arange(len(x)), n])

    net, looped = Last().double(), []
    whole = _per_sample.looped_products
    monkeypatch.setattr(
        _per_sample, "looped_products", lambda *args: looped.append(1) or whole(*args)
    )
    TracInImportance(net, loss=square, parameters="all").fit(X).transform(QUERIES)
    assert not looped
