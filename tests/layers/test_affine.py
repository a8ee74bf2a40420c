"""What is affine is told by its operations; shared gradients equal those of a plain double loop."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from sklexplain.layers import find_points
from sklexplain.layers._affine import is_affine
from sklexplain.layers._jacobian import unit_gradients
from tests.layers.test_jacobian import assert_equals_loop, modules

N_UNITS, N_SAMPLES = 12, 5


class Tail(nn.Module):
    """A layer with a given end."""

    def __init__(self, end, **parts):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Tanh())
        self.head = nn.Linear(3, N_UNITS)
        self.end = end
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.end(self, self.first(x), x)


def pooled(net, h, _x):
    return net.head(h.mean((2, 3)))


def layers(net, h, _x):
    return net.head(net.layers(h).flatten(2).sum(2) / 3 - 1)


def skipped(net, h, x):
    return net.head((h + x[:, :1, 1:, 1:].sin()).mean((2, 3)))


def in_the_second_axis(net, h, _x):
    return net.head(h.movedim(0, 1).flatten(2).mean(2).T)


def from_the_left(net, h, _x):
    return (2 * torch.mm(net.head.weight, h.mean((2, 3)).T)).T


def normed():
    norm = nn.BatchNorm2d(3)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    return norm


AFFINE = {
    "pooled": lambda: Tail(pooled),
    "layers": lambda: Tail(
        layers,
        layers=nn.Sequential(
            normed(), nn.Conv2d(3, 4, 2), nn.AvgPool2d(2), nn.Upsample(scale_factor=2),
            nn.ZeroPad2d(1), nn.Dropout(), nn.ConvTranspose2d(4, 3, 2), nn.AdaptiveAvgPool2d(2),
        ),
    ),
    "skipped": lambda: Tail(skipped),
    "in the second axis": lambda: Tail(in_the_second_axis),
    "from the left": lambda: Tail(from_the_left),
}  # fmt: skip


def rectified(net, h, _x):
    return net.head((h.mean((2, 3)) + 10).relu())  # never below zero


def gated(net, h, x):
    return net.head(h.mean((2, 3)) * x[:, :1, 0, 0])


def gated_later(net, h, x):
    return net.head(h.mean((2, 3))) * x[:, :1, 0, 0]


def masked(net, h, x):
    # The same mask at all samples.
    return net.head(torch.where(x[:, :1, 1:, 1:] < 100, h, -h).mean((2, 3)))


def largest(net, h, _x):
    return net.head(h.amax((2, 3)))


def squared(net, h, _x):
    h = h.mean((2, 3))
    return net.head(h * h)


def normalized(net, h, _x):
    return net.head(functional.layer_norm(h.mean((2, 3)), (3,)))


def scaled_by_itself(net, h, _x):
    h = h.mean((2, 3))
    return net.head(h / h.sum(1, keepdim=True).add(9))


CURVED = (rectified, gated, gated_later, masked, largest, squared, normalized, scaled_by_itself)


def own_weights(net, h, x):
    """A convolution with weights of each sample's own, which no graph shows."""
    weight = net.kernel * x[:, :1, :1, :1].detach()  # (b, 3, 2, 2)
    b = len(h)
    h = functional.conv2d(h.reshape(1, b * 3, 4, 4), weight.reshape(b * 3, 1, 2, 2), groups=b * 3)
    return net.head(h.reshape(b, 3, -1).mean(2))


def made(make):
    torch.manual_seed(0)
    net = make().double().eval()
    return net, torch.randn(N_SAMPLES, 2, 5, 5, dtype=torch.float64)


@pytest.mark.parametrize("rows", [1, 100])
@pytest.mark.parametrize("name", sorted(AFFINE))
def test_shared_gradients_equal_the_loop(name, rows):
    net, x = made(AFFINE[name])
    points = find_points(net, x, modules(net), layers=["first"])
    assert_equals_loop(net, points, x, rows)
    assert points.batched == {"affine": True}


@pytest.mark.parametrize("end", CURVED, ids=lambda end: end.__name__)
def test_curved_ends_are_told_and_equal_the_loop(end):
    net, x = made(lambda: Tail(end))
    points = find_points(net, x, modules(net), layers=["first"])
    assert_equals_loop(net, points, x, rows=100)
    assert points.batched["affine"] is False


def test_weights_of_each_samples_own():
    torch.manual_seed(0)
    net = Tail(own_weights, kernel=torch.randn(1, 3, 2, 2, dtype=torch.float64)).double()
    net.requires_grad_(False)
    x = torch.randn(N_SAMPLES, 2, 5, 5, dtype=torch.float64)
    h = net.first(x).requires_grad_()
    assert is_affine(net.end(net, h, x), [h])  # as far as operations tell
    points = find_points(net, x, modules(net), layers=["first"])
    assert_equals_loop(net, points, x, rows=100)
    assert points.batched["affine"] is False


def test_norm_in_training_is_curved():
    h = torch.randn(4, 3, 2, requires_grad=True)
    norm = nn.BatchNorm1d(3)
    assert not is_affine(norm(h), [h])
    assert is_affine(norm.eval()(h), [h])
    assert not is_affine(nn.Dropout()(h), [h])


def test_every_way_from_every_tensor_counts():
    h = torch.randn(4, 3, requires_grad=True)
    k = h.tanh()
    z = k + 1
    assert is_affine(z, [k])
    assert not is_affine(z, [h])
    assert not is_affine(z, [k, h])
    assert not is_affine(z + h.relu(), [h])
    assert is_affine(torch.addmm(k, k.detach(), torch.eye(3)), [k])
    assert is_affine(torch.addmm(k, k, torch.eye(3)), [k])
    assert not is_affine(torch.addmm(k, k.T.T, k.T[:, :3]), [k])
    assert is_affine(z + (h - 1), [k])
    assert not is_affine(h @ h.T, [h])
    assert not is_affine(h.detach(), [h])


def test_several_points_and_chosen_units():
    net, x = made(AFFINE["layers"])
    points = find_points(net, x, modules(net), layers=["layers.1", "layers.0"])
    assert_equals_loop(net, points, x, rows=20)
    assert points.batched == {"affine": True}
    every = torch.cat([g[0] for _, g, _ in unit_gradients(net, points, x, rows=20)])
    units = [3, 1, 7, 2, 11, 0, 5, 4]
    blocks = list(unit_gradients(net, points, x, units=units, rows=20))
    assert torch.cat([b[0] for b in blocks]).tolist() == units
    torch.testing.assert_close(torch.cat([b[1][0] for b in blocks]), every[units])


def test_differentiable_gradients_are_taken_one_by_one():
    net, x = made(AFFINE["pooled"])
    points = find_points(net, x, modules(net), layers=["first"])
    (block,) = unit_gradients(net, points, x, rows=100, create_graph=True)
    block[1][0].square().sum().backward()
    assert net.head.weight.grad.abs().max() > 0
    assert points.batched == {}


class Heads(nn.Module):
    """One of two linear heads for each sample, which differ in a few weights only."""

    def __init__(self, scale, place):
        super().__init__()
        self.first, self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 40), nn.Linear(3, 40)
        self.first.requires_grad_(False)
        with torch.no_grad():
            self.b.weight.copy_(self.a.weight)
            self.b.weight[place] *= -3
            for head in (self.a, self.b):
                head.weight[:, 0] *= scale if isinstance(place[0], slice) else 1
                head.weight[:20] *= 1 if isinstance(place[0], slice) else scale

    def forward(self, x):
        parts = zip(x.split(1), self.first(x).split(1), strict=True)
        return torch.cat([(self.a if row[0, 1] > 0 else self.b)(h) for row, h in parts])


@pytest.mark.parametrize("scale", [1, 1e5, 1e9])
@pytest.mark.parametrize("place", [(slice(None), 1), (30, slice(None)), (30, 1)])
def test_gradients_of_any_scale_are_compared(scale, place):
    torch.manual_seed(0)
    net, x = Heads(scale, place), torch.randn(6, 3)
    points = find_points(net, x, modules(net), layers=["first"])
    gradients = torch.cat([g[0] for _, g, _ in unit_gradients(net, points, x, rows=100)])
    assert points.batched["affine"] is False
    for i, row in enumerate(x):
        expected = (net.a if row[1] > 0 else net.b).weight
        torch.testing.assert_close(gradients[:, i].reshape(40, 3), expected)
    same = find_points(net, x, modules(net), layers=["first"])
    x[:, 1] = 1.0
    list(unit_gradients(net, same, x, rows=100))
    assert same.batched == {"affine": True}


def test_units_without_gradients_are_shared():
    net, x = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 40)), torch.randn(6, 3)
    nn.init.zeros_(net[1].weight)
    points = find_points(net, x, modules(net), layers=["0"])
    blocks = list(unit_gradients(net, points, x, rows=100))
    assert points.batched == {"affine": True}
    assert not any(g[0].any() for _, g, _ in blocks)
