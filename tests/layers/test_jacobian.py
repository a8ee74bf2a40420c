"""Gradients of output units at layers equal those of a plain double loop."""

import pytest
import torch
from torch import nn

from sklexplain.layers import find_points
from sklexplain.layers._jacobian import unit_gradients
from tests.cases import NETS, make_net, make_X

# Every convolutional, linear, recurrent and attention layer, in call order.
DEFAULT_LAYERS = {
    "mlp": ["0", "4"],
    "conv1d": ["0", "5"],
    "conv2d": ["0", "6"],
    "lstm": ["rnn", "head"],
    "gru": ["rnn", "head"],
    "rnn": ["rnn", "head"],
    "transformer": ["embed", "block.self_attn", "block.linear1", "block.linear2", "head"],
}
OTHER_LAYERS = {"conv2d": ["1", "2", "3", "4"], "transformer": ["block", "block.norm1"]}


class TimeFirst(nn.Module):
    """A recurrent network that has time first inside."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 5)

    def forward(self, x):
        return self.rnn(x.transpose(0, 1))[1][0][-1]


class Means(TimeFirst):
    """The same, using all times."""

    def forward(self, x):
        return self.rnn(x.transpose(0, 1))[0].tanh().mean(0)


class Tokens(nn.Module):
    """Integers in, so that no gradient reaches the input."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.conv = nn.Conv1d(4, 3, 2)

    def forward(self, x):
        return self.conv(self.embed(x).transpose(1, 2)).tanh().mean(2)


class Twice(nn.Module):
    """Calls a layer twice, has one past the output's way and one that is never called."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.unused = nn.Linear(4, 2)
        self.never = nn.Linear(4, 2)
        self.relu = nn.ReLU6(inplace=True)

    def forward(self, x):
        x = self.relu(self.layer(x))
        self.unused(x)
        x = self.layer(x)
        return torch.relu_(x) ** 2


def looped(net, point, x, n_units):
    """Gradients (N, b, ...) and activations (b, ...): one pass a sample and unit.

    A zero is added to what the layer returns; its gradient is the layer's. What a layer is given
    may go past it as well, so that gradient is taken at the tensor itself.
    """
    gradients = []
    for i in range(n_units):
        row = []
        for j in range(len(x)):
            zeros = []

            def add(tensor, zeros=zeros):
                zeros[:] = [torch.zeros_like(tensor, requires_grad=True), tensor.detach().clone()]
                return tensor + zeros[0]

            def after(_module, _args, output, add=add):
                if isinstance(output, tuple):
                    assert point.items == (0,)
                    return (add(output[0]), *output[1:])
                return add(output)

            def before(_module, args, zeros=zeros):
                zeros[:] = [args[0], args[0].detach().clone()]

            register = "register_forward_hook"
            if point.at == "input":
                register = "register_forward_pre_hook"
            handle = getattr(point.module, register)(after if point.at == "output" else before)
            one = x[j : j + 1]
            z = net(one.clone().requires_grad_() if one.is_floating_point() else one)
            handle.remove()
            row.append(torch.autograd.grad(z.flatten()[i], zeros[0])[0])
            row[-1] = (row[-1], zeros[1])
        gradients.append(row)
    arrange = point.arrange
    g = torch.stack([torch.cat([arrange(r[0]) for r in row]) for row in gradients])
    return g, torch.cat([arrange(r[1]) for r in gradients[0]])


def modules(net):
    return dict(net.named_modules())


def gathered(net, points, x, **params):
    blocks = list(unit_gradients(net, points, x, **params))
    gradients = [torch.cat(parts) for parts in zip(*(b[1] for b in blocks), strict=True)]
    return torch.cat([b[0] for b in blocks]), gradients, blocks[0][2]


def assert_equals_loop(net, points, x, rows):
    index, gradients, activations = gathered(net, points, x, rows=rows)
    assert index.tolist() == list(range(points.n_units))
    for point, g, a in zip(points, gradients, activations, strict=True):
        expected, expected_activations = looped(net, point, x, points.n_units)
        torch.testing.assert_close(g, expected, rtol=1e-9, atol=1e-12, msg=point.name)
        torch.testing.assert_close(a, expected_activations, msg=point.name)
        assert g.shape == (points.n_units, len(x), *point.shape)
        assert g.abs().max() > 0


def net_and_x(name, n=3):
    return make_net(name, torch.float64).eval(), torch.as_tensor(make_X(name, n, "float64"))


@pytest.mark.parametrize("at", ["output", "input"])
@pytest.mark.parametrize("name", sorted(NETS))
def test_default_layers_equal_the_loop(name, at):
    net, x = net_and_x(name)
    points = find_points(net, x, modules(net), at=at)
    assert points.names == DEFAULT_LAYERS[name]
    assert_equals_loop(net, points, x, rows=8)
    assert "works" in points.batched  # a batched backward pass was tried
    points.batched["works"] = False
    assert_equals_loop(net, points, x, rows=8)


@pytest.mark.parametrize("rows", [1, 3, 7, 100])
def test_rows_change_nothing(rows):
    net, x = net_and_x("conv2d")
    points = find_points(net, x, modules(net), layers=["0", "6"])
    assert_equals_loop(net, points, x, rows)


@pytest.mark.parametrize("name", sorted(OTHER_LAYERS))
def test_other_layers_equal_the_loop(name):
    net, x = net_and_x(name)
    points = find_points(net, x, modules(net), layers=OTHER_LAYERS[name])
    assert points.names == OTHER_LAYERS[name]
    assert_equals_loop(net, points, x, rows=8)


def test_batch_in_the_second_axis():
    torch.manual_seed(0)
    net, x = Means().double().eval(), torch.randn(3, 6, 3, dtype=torch.float64)
    points = find_points(net, x, modules(net))
    assert (points[0].batch_axis, points[0].channel_axis, points[0].shape) == (1, 2, (5, 6))
    assert_equals_loop(net, points, x, rows=6)


def test_hidden_state_of_a_recurrent_layer():
    net = TimeFirst().double().eval()
    x = torch.randn(3, 6, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"does not depend on layer 'rnn'.*item \[1\]"):
        find_points(net, x, modules(net), layers=["rnn"])
    points = find_points(net, x, modules(net))
    assert points.names == ["rnn[1][0]"]
    assert points[0].shape == (1, 1, 5)
    assert not points[0].has_channels
    gradients = gathered(net, points, x, rows=9)[1][0]  # (N, b, 1, 1, 5)
    expected = torch.eye(5, dtype=torch.float64)[:, None].expand(5, 3, 5)
    torch.testing.assert_close(gradients[:, :, 0, 0], expected)


@pytest.mark.parametrize("rows", [2, 100])
def test_tokens(rows):
    torch.manual_seed(0)
    net, x = Tokens().double().eval(), torch.randint(7, (2, 5))
    points = find_points(net, x, modules(net), layers=["embed", "conv"])
    assert [p.shape for p in points] == [(4, 5), (3, 4)]
    assert_equals_loop(net, points, x, rows)
    inputs = find_points(net, x, modules(net), layers=["conv"], at="input")
    _, gradients, _ = gathered(net, inputs, x, rows=rows)
    expected, _ = looped(net, points[0], x, 3)
    torch.testing.assert_close(gradients[0], expected)


def test_last_call_counts_and_layers_past_the_way_are_left_out():
    torch.manual_seed(0)
    net, x = Twice().double().eval(), torch.randn(3, 4, dtype=torch.float64)
    points = find_points(net, x, modules(net))
    assert points.names == ["layer"]
    h = torch.clamp(net.layer(x), 0, 6)
    h = net.layer(h)  # the second call's output, before the operation in place
    _, gradients, activations = gathered(net, points, x, rows=6)
    torch.testing.assert_close(activations[0][:, 0], h)
    expected = torch.diag_embed(2 * h.relu()).movedim(1, 0)
    torch.testing.assert_close(gradients[0][:, :, 0], expected)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("unused", "'unused'.*depend|depend.*'unused'"),
        ("never", "'never'.*not called"),
        ("laier", "Did you mean 'layer'"),
        ("layer[0]", "no item"),
    ],
)
def test_layers_that_cannot_be_looked_at(layer, words):
    net, x = Twice().eval(), torch.randn(3, 4)
    with pytest.raises(ValueError, match=words):
        find_points(net, x, modules(net), layers=[layer])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_layer_that_mixes_the_samples():
    net = nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (-1, 3)), nn.Linear(3, 2))
    with pytest.raises(ValueError, match="layer '0' returned shape .* must be one axis"):
        find_points(net, torch.randn(3, 3), modules(net), layers=["0"])


def test_layer_on_rows_of_its_own_is_left_out_of_all():
    net = nn.Sequential(
        nn.Conv1d(2, 3, 1), nn.Flatten(0, 1), nn.Linear(4, 5), nn.Unflatten(0, (-1, 3))
    )
    x = torch.randn(3, 2, 4)
    with pytest.warns(UserWarning, match="left out: layer '2' returned shape"):
        points = find_points(net, x, modules(net))
    assert points.names == ["0"]


def test_chosen_units_and_weights():
    net, x = net_and_x("conv1d")
    points = find_points(net, x, modules(net))
    _, every, _ = gathered(net, points, x, rows=3)
    index, chosen, _ = gathered(net, points, x, units=[2, 0], rows=3)
    assert index.tolist() == [2, 0]
    weights = torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=torch.float64)
    ((none, summed, _),) = unit_gradients(net, points, x, weights=weights, rows=100)
    assert none is None
    for e, c, s in zip(every, chosen, summed, strict=True):
        torch.testing.assert_close(c, e[[2, 0]])
        torch.testing.assert_close(s[0], torch.einsum("n,n...->...", weights, e))
    with pytest.raises(ValueError, match="one number for each of the 4 output units"):
        next(unit_gradients(net, points, x, weights=torch.ones(3), rows=100))


@pytest.mark.parametrize("name", ["conv2d", "gru", "lstm", "transformer"])
def test_second_derivatives(name):
    if name == "conv2d":  # with a second derivative
        net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Softplus(), nn.Flatten(), nn.Linear(8, 2))
        net, x = net.double(), torch.randn(2, 1, 4, 4, dtype=torch.float64)
    else:
        net, x = net_and_x(name, 2)
    points = find_points(net, x, modules(net))

    def flat(x):
        blocks = unit_gradients(net, points, x, rows=4, create_graph=True)
        return torch.cat([g.flatten() for b in blocks for g in (*b[1], *b[2])])

    assert torch.autograd.gradcheck(flat, x.requires_grad_(), fast_mode=True)


def test_gradients_reach_parameters_only_when_asked():
    net, x = net_and_x("conv2d")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    points = find_points(net, x, modules(net))
    (block,) = unit_gradients(net, points, x, rows=100)
    assert not any(t.requires_grad for t in (*block[1], *block[2]))
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    (block,) = unit_gradients(net, points, x, rows=100, create_graph=True)
    (block[1][0] ** 2).sum().backward()
    assert net[6].weight.grad.abs().max() > 0


def test_grad_mode_of_the_consumer_is_its_own():
    net, x = net_and_x("mlp")
    points = find_points(net, x, modules(net))
    with torch.no_grad():
        for _ in unit_gradients(net, points, x, rows=3):
            assert not torch.is_grad_enabled()


class InNumpy(torch.autograd.Function):
    """An operation whose backward pass cannot be batched."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, gradient):
        return torch.from_numpy(gradient.numpy() * 2 * ctx.saved_tensors[0].numpy())


class Squared(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.last = nn.Linear(5, 3)

    def forward(self, x):
        return self.last(InNumpy.apply(self.first(x)))


def test_backward_pass_that_cannot_be_batched():
    torch.manual_seed(0)
    net, x = Squared().double(), torch.randn(2, 4, dtype=torch.float64)
    points = find_points(net, x, modules(net))
    assert_equals_loop(net, points, x, rows=100)
    assert points.batched == {"works": False}
    last = points.only(1)
    assert_equals_loop(net, last, x, rows=100)
    assert last.batched == {"works": True}


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
def test_recurrent_layers_in_single_precision(name):
    net, x = make_net(name).eval(), torch.as_tensor(make_X(name, 3))
    points = find_points(net, x, modules(net), at="input")
    _, found, _ = gathered(net, points, x, rows=100)
    for point, g in zip(points, found, strict=True):
        expected, _ = looped(net, point, x, points.n_units)
        torch.testing.assert_close(g, expected, rtol=1e-4, atol=1e-6)
