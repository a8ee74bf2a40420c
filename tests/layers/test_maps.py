"""Maps of layers equal those of a plain double loop over samples and units."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import skew
from torch import nn

from sklexplain.layers import _memory, aggregate, find_points, layer_maps, unit_maps
from sklexplain.layers._aggregators import RunningAggregate
from sklexplain.layers._jacobian import unit_gradients
from tests.cases import NETS, make_net, make_X

REFERENCES = {
    "mean": lambda v: v.mean(),
    "abs": lambda v: np.abs(v).mean(),
    "var": lambda v: v.var(ddof=1) if len(v) > 1 else 0.0,
    "skew": lambda v: skew(v) if np.ptp(v) > 1e-12 else 0.0,
}
SALIENCIES = ("gradient", "activation_x_gradient", "grad_cam")


def net_and_x(name, n=3):
    net = make_net(name, torch.float64).eval()
    x = torch.as_tensor(make_X(name, n, "float64"))
    return net, x, find_points(net, x, dict(net.named_modules()))


def reduced(values, how, axis):
    """Aggregate by numpy and scipy, multiset by multiset."""
    return np.apply_along_axis(REFERENCES[how], axis, values)


def looped(net, points, x, saliency, channel_agg):
    """Channel-aggregated maps (N, b, *spatial), a sample and a unit at a time."""
    maps = []
    for p, _ in enumerate(points):
        rows = []
        for i in range(points.n_units):
            row = []
            for j in range(len(x)):
                ((_, g, a),) = unit_gradients(net, points, x[j : j + 1], units=[i], rows=1)
                g, a = g[p][0, 0].numpy(), a[p][0].numpy()  # (C, *spatial)
                if saliency == "grad_cam":
                    w = g.reshape(len(g), -1).mean(axis=1)
                    row.append(np.maximum(np.tensordot(w, a, 1), 0))
                else:
                    row.append(reduced(g * a if "x" in saliency else g, channel_agg, 0))
            rows.append(row)
        maps.append(np.array(rows))
    return maps


@pytest.mark.parametrize("saliency", SALIENCIES)
@pytest.mark.parametrize("name", sorted(NETS))
def test_every_aggregation_equals_the_loop(name, saliency):
    net, x, points = net_and_x(name, 2)
    if saliency == "grad_cam":
        keep = [p for p in points if p.has_channels]
        if not keep:
            with pytest.raises(ValueError, match="'0' has activations of shape"):
                layer_maps(
                    net, points, x, saliency=saliency, channel_agg="abs", unit_agg="var", rows=4
                )
            return
        points = find_points(net, x, dict(net.named_modules()), layers=[p.name for p in keep])
    for channel_agg in REFERENCES:
        expected = looped(net, points, x, saliency, channel_agg)
        params = {"saliency": saliency, "channel_agg": channel_agg, "rows": 3}
        blocks = list(unit_maps(net, points, x, **params))
        assert torch.cat([b[0] for b in blocks]).tolist() == list(range(points.n_units))
        for e, *found in zip(expected, *[b[1] for b in blocks], strict=True):
            np.testing.assert_allclose(torch.cat(found).numpy(), e, rtol=1e-6, atol=1e-12)
        for unit_agg in REFERENCES:
            maps = layer_maps(net, points, x, unit_agg=unit_agg, **params)
            for e, m, point in zip(expected, maps, points, strict=True):
                assert m.shape == (len(x), *point.spatial_shape)
                wanted, found = reduced(e, unit_agg, 0), m.numpy()
                if unit_agg == "skew":  # of what only rounding has made, it may be anything
                    told = np.ptp(e, axis=0) > 1e-12
                    wanted, found = wanted[told], found[told]
                np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("how", ["mean", "abs", "var", "skew", "none", torch.amax])
@pytest.mark.parametrize("sizes", [(1,), (5,), (1, 1, 4), (3, 4, 1, 2)])
def test_blocks_equal_the_whole(how, sizes):
    values = torch.randn(sum(sizes), 4, dtype=torch.float64) + 100
    running = RunningAggregate(how)
    for block in values.split(sizes):
        running.add(block)
    torch.testing.assert_close(running.result(), aggregate(values, how, 0))
    if how in REFERENCES:
        expected = reduced(values.numpy(), how, 0)
        np.testing.assert_allclose(running.result().numpy(), expected, rtol=1e-9, atol=1e-9)


def test_examples_of_the_paper():
    for values, variance in (([-1, 1, 0, 0], 2 / 3), ([1, 1, 1, 0], 1 / 4), ([3], 0)):
        values = torch.tensor(values, dtype=torch.float64)
        assert aggregate(values, "var", 0).item() == pytest.approx(variance)


@pytest.mark.parametrize("channel_agg", ["abs", "var"])
def test_mean_and_abs_over_units_agree_on_maps_without_sign(channel_agg):
    net, x, points = net_and_x("conv2d")
    params = {"saliency": "gradient", "channel_agg": channel_agg, "rows": 4}
    mean, absolute = (layer_maps(net, points, x, unit_agg=e, **params) for e in ("mean", "abs"))
    for m, a in zip(mean, absolute, strict=True):
        torch.testing.assert_close(m, a)


@pytest.mark.parametrize(
    ("channel_agg", "unit_agg"), [*itertools.product(("abs", "none"), repeat=2)]
)
def test_none_keeps_the_axis(channel_agg, unit_agg):
    net, x, points = net_and_x("conv1d")
    params = {"saliency": "gradient", "channel_agg": channel_agg, "unit_agg": unit_agg, "rows": 4}
    maps = layer_maps(net, points, x, **params)
    channels = (4,) if channel_agg == "none" else ()
    units = (4,) if unit_agg == "none" else ()
    assert maps[0].shape == (3, *units, *channels, 10)


def test_callable_aggregators():
    net, x, points = net_and_x("conv1d")
    params = {"saliency": "gradient", "rows": 4}
    every = layer_maps(net, points, x, channel_agg="none", unit_agg="none", **params)[0]
    found = layer_maps(net, points, x, channel_agg=torch.amax, unit_agg=torch.amin, **params)[0]
    torch.testing.assert_close(found, every.amax(2).amin(1))


def test_order_of_units_changes_nothing():
    net, x, points = net_and_x("transformer")
    params = {"saliency": "gradient", "channel_agg": "abs", "unit_agg": "var", "rows": 4}
    one = layer_maps(net, points, x, units=[0, 1, 2, 3], **params)
    other = layer_maps(net, points, x, units=[2, 0, 3, 1], **params)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("saliency", SALIENCIES)
def test_weights_explain_a_weighted_sum(saliency):
    net, x, _ = net_and_x("conv2d")
    w = torch.randn(5, dtype=torch.float64)
    points = find_points(net, x, dict(net.named_modules()), layers=["0"])

    def task(x):
        return net(x) @ w[:, None]

    params = {"saliency": saliency, "channel_agg": "abs", "rows": 100}
    found = layer_maps(net, points, x, unit_weights=w, unit_agg="var", **params)
    of_task = find_points(task, x, dict(net.named_modules()), layers=["0"])
    expected = layer_maps(task, of_task, x, unit_agg="mean", **params)
    torch.testing.assert_close(found, expected)


def test_mean_of_chosen_units_in_one_pass(monkeypatch):
    net, x, points = net_and_x("conv2d")
    params = {"saliency": "activation_x_gradient", "units": [3, 1], "rows": 3}
    maps = layer_maps(net, points, x, channel_agg="mean", unit_agg="none", **params)
    calls, grad = [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: calls.append(1) or grad(*a, **k))
    mean = layer_maps(net, points, x, channel_agg="mean", unit_agg="mean", **params)
    assert len(calls) == 1
    for every, m in zip(maps, mean, strict=True):
        torch.testing.assert_close(every.mean(1), m)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 1000])
def test_rows_and_batches_change_nothing(rows):
    net, x, points = net_and_x("lstm", 5)
    params = {"saliency": "activation_x_gradient", "channel_agg": "abs", "unit_agg": "skew"}
    whole = layer_maps(net, points, x, rows=20, **params)
    parts = layer_maps(net, points, x, rows=rows, **params)
    torch.testing.assert_close(whole, parts)


@pytest.mark.parametrize("unit_agg", ["mean", "abs", "var", "skew"])
@pytest.mark.parametrize("saliency", SALIENCIES)
def test_second_derivatives(saliency, unit_agg):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(1, 3, 2), nn.Softplus(), nn.Flatten(), nn.Linear(9, 4)).double()
    x = torch.randn(2, 1, 4, dtype=torch.float64, requires_grad=True)
    points = find_points(net, x, dict(net.named_modules()), layers=["0"])
    weight = net[0].weight.detach().clone().requires_grad_()

    def maps(x, weight):
        def call(x):
            return torch.func.functional_call(net, {"0.weight": weight}, (x,))

        params = {"saliency": saliency, "channel_agg": "var", "unit_agg": unit_agg}
        return layer_maps(call, points, x, rows=4, create_graph=True, **params)[0]

    assert torch.autograd.gradcheck(maps, (x, weight))


class Branches(nn.Module):
    """Two parallel convolutions, one of them past a part that no other layer is behind."""

    def __init__(self):
        super().__init__()
        self.left = nn.Conv1d(2, 3, 3, padding=1)
        self.right = nn.Conv1d(2, 3, 1)
        self.last = nn.Conv1d(3, 2, 1)

    def forward(self, x):
        h = self.left(x).tanh() * self.right(x * x).relu()
        return self.last(h).exp().flatten(1)


@pytest.mark.parametrize("freeze", [True, False])
def test_parallel_branches_and_large_samples(monkeypatch, freeze):
    torch.manual_seed(0)
    net, x = Branches().double(), torch.randn(2, 2, 4, dtype=torch.float64)
    net.requires_grad_(not freeze)
    points = find_points(net, x, dict(net.named_modules()))
    assert points.names == ["left", "right", "last"]
    params = {"saliency": "activation_x_gradient", "channel_agg": "var", "unit_agg": "skew"}
    expected = layer_maps(net, points, x, rows=16, create_graph=True, **params)
    for chunk in (1, 100):
        monkeypatch.setattr("sklexplain.layers._maps._CHUNK", chunk)
        for bytes_, large in ((1, 1), (1, 2**30), (2**30, 1)):
            monkeypatch.setattr(_memory, "_CACHE_BYTES", bytes_)
            monkeypatch.setattr("sklexplain.layers._jacobian._LARGE", large)
            found = layer_maps(net, points, x, rows=16, **params)
            torch.testing.assert_close(found, [e.detach() for e in expected])
            for channel_agg in ("mean", "abs"):
                given = params | {"channel_agg": channel_agg}
                found = layer_maps(net, points, x[:1], rows=16, **given)
                want = layer_maps(net, points, x[:1], rows=16, create_graph=True, **given)
                torch.testing.assert_close(found, [w.detach() for w in want])
