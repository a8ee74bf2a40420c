"""Jacobians by columns equal those of a plain double loop."""

import pytest
import torch
from torch import nn

from sklexplain.layers import _memory, find_points
from sklexplain.layers._jacobian import unit_gradients
from tests.layers.test_jacobian import InNumpy, assert_equals_loop, looped, modules

N_UNITS, N_SAMPLES = 18, 3


class Decoder(nn.Module):
    """From a code of three."""

    def __init__(self, body):
        super().__init__()
        self.code = nn.Linear(4, 3)
        self.body = body

    def forward(self, x):
        return self.body(self.code(x).sin())


class Recurrent(nn.Module):
    """Decodes step by step."""

    def __init__(self, kind):
        super().__init__()
        self.rnn = kind(3, 4)
        self.out = nn.Linear(4, 2)

    def forward(self, code):
        return self.out(self.rnn(code.expand(9, -1, -1))[0]).transpose(0, 1)


class Tokens(nn.Module):
    """Decodes by attention."""

    def __init__(self):
        super().__init__()
        self.up = nn.Linear(3, 36)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.down = nn.Linear(4, 2)

    def forward(self, code):
        return self.down(self.layer(self.up(code).unflatten(1, (9, 4))))


def mlp():
    return nn.Sequential(nn.Linear(3, 7), nn.ReLU(inplace=True), nn.Linear(7, N_UNITS), nn.Tanh())


def convolutional():
    return nn.Sequential(
        nn.Unflatten(1, (3, 1)),
        nn.ConvTranspose1d(3, 4, 3),
        nn.BatchNorm1d(4),
        nn.GELU(),
        nn.Upsample(scale_factor=3),
        nn.MaxPool1d(1),
        nn.Conv1d(4, 2, 1),
        nn.Softplus(),
    )


BODIES = {
    "mlp": mlp,
    "convolutional": convolutional,
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "transformer": Tokens,
}


def made(name, dtype=torch.float64):
    torch.manual_seed(0)
    net = Decoder(BODIES[name]() if isinstance(name, str) else name).to(dtype).eval()
    return net, torch.randn(N_SAMPLES, 4, dtype=dtype)


@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("name", sorted(BODIES))
def test_columns_equal_the_loop(name, rows):
    net, x = made(name)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    points = find_points(net, x, modules(net), layers=["code"])
    for _ in range(2):  # also with what the first has found out
        assert_equals_loop(net, points, x, rows)
        assert points.batched["columns"] is True
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_several_layers():
    net, x = made("mlp")
    both = find_points(net, x, modules(net), layers=["body.3", "code", "body.0"]).only(1, 2)
    assert_equals_loop(net, both, x, rows=100)
    assert "columns" not in both.batched  # ten columns of eighteen units
    input_too = find_points(net, x, modules(net), layers=["", "code"], at="input")
    assert_equals_loop(net, input_too, x, rows=100)
    wide, _ = made(nn.Sequential(*mlp(), nn.Linear(N_UNITS, 90)))
    both = find_points(wide, x, modules(wide), layers=["body.0", "code"])
    assert_equals_loop(wide, both, x, rows=100)
    assert both.batched["columns"] is True
    assert input_too.batched["columns"] is True


def test_batch_in_the_second_axis():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.code = nn.Linear(2, 2)
            self.out = nn.Linear(4, N_UNITS)

        def forward(self, x):
            code = self.code(x.unflatten(1, (2, 2)).transpose(0, 1))  # (2, b, 2)
            return self.out(code.tanh().transpose(0, 1).flatten(1)).tanh()

    torch.manual_seed(0)
    net, x = Net().double(), torch.randn(N_SAMPLES, 4, dtype=torch.float64)
    points = find_points(net, x, modules(net), layers=["code"])
    assert points[0].batch_axis == 1
    assert_equals_loop(net, points, x, rows=100)
    assert points.batched["columns"] is True


def test_blocks_of_units(monkeypatch):
    net, x = made("mlp")
    points = find_points(net, x, modules(net), layers=["code"])
    monkeypatch.setattr(_memory, "_CACHE_BYTES", 7 * N_SAMPLES * 3 * 8)
    assert [len(b[0]) for b in unit_gradients(net, points, x, rows=100)] == [7, 7, 4]
    assert_equals_loop(net, points, x, rows=100)
    monkeypatch.setattr(_memory, "_CACHE_BYTES", 1)
    fresh = points.only(0)
    assert_equals_loop(net, fresh, x, rows=100)
    assert "columns" not in fresh.batched


def test_chosen_units():
    net, x = made("mlp")
    points = find_points(net, x, modules(net), layers=["code"])
    ((_, (every,), _),) = unit_gradients(net, points, x, rows=100)
    units = [3, 17, 0, 5, 9, 11, 2]
    ((index, (some,), _),) = unit_gradients(net, points, x, units=units, rows=100)
    assert index.tolist() == units
    torch.testing.assert_close(some, every[units])


class Cut(torch.autograd.Function):
    """A square whose backward pass cuts the graph."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, gradient):
        return gradient.detach() * 2 * ctx.saved_tensors[0]


class Beside(nn.Module):
    """An operation of the user's own, and a way past it."""

    def __init__(self, function):
        super().__init__()
        self.out = nn.Linear(3, N_UNITS)
        self.function = function

    def forward(self, code):
        return self.out(self.function.apply(code)) + self.out(code).tanh()


@pytest.mark.parametrize("function", [InNumpy, Cut])
def test_operations_without_a_second_derivative(function):
    net, x = made(Beside(function))
    points = find_points(net, x, modules(net), layers=["code"])
    assert_equals_loop(net, points, x, rows=100)
    assert points.batched["columns"] is False
    assert_equals_loop(net, points, x, rows=100)


def test_differentiable_gradients_are_taken_row_by_row():
    net, x = made("mlp")
    points = find_points(net, x, modules(net), layers=["code"])
    (block,) = unit_gradients(net, points, x, rows=100, create_graph=True)
    block[1][0].square().sum().backward()
    assert net.body[0].weight.grad.abs().max() > 0
    assert "columns" not in points.batched


@pytest.mark.parametrize("name", ["lstm", "mlp", "transformer"])
def test_single_precision(name):
    net, x = made(name, torch.float32)
    points = find_points(net, x, modules(net), layers=["code"])
    found = torch.cat([b[1][0] for b in unit_gradients(net, points, x, rows=100)])
    assert found.dtype == torch.float32
    net, x = net.double(), x.double()
    expected, _ = looped(net, points[0], x, N_UNITS)
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-5)
