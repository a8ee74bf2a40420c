import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sklexplain.layers import find_points
from sklexplain.scores._score_factors import FactoredVariance, windows
from sklexplain.scores._score_terms import add_gradients, piecewise_linear, run, unit_gradients
from tests.cases import NETS, make_net


class Functional(nn.Module):
    """Pooling and softplus that are no modules, and a way past the layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.head = nn.Linear(3 * 16, 4)
        self.past = nn.Linear(64, 4)

    def forward(self, x):
        h = F.softplus(F.max_pool2d(self.conv(x), 2))
        return self.head(h.flatten(1)) + self.past(x.flatten(1)).tanh()


class InPlace(nn.Module):
    """What looks like a chain of modules, with a step in place between two of them."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(1, 3, 3), nn.Softplus()
        self.flat, self.head = nn.Flatten(), nn.Linear(3 * 36, 4)

    def forward(self, x):
        h = self.act(self.conv(x))
        h -= h.mean(dim=(2, 3), keepdim=True)
        return self.head(self.flat(h))


class Recurrent(nn.Module):
    """Two recurrent layers: what the first makes of every step is looked at."""

    def __init__(self, cell):
        super().__init__()
        self.first, self.second = cell(3, 5, batch_first=True), cell(5, 4, batch_first=True)

    def forward(self, x):
        return self.second(self.first(x)[0])[0][:, -1]


def images(*tail, n_in=36):
    return nn.Sequential(nn.Conv2d(1, 3, 3), *tail, nn.Flatten(), nn.Linear(3 * n_in, 4))


class Ended(nn.Module):
    """What a linear layer made is the embedding, but written to in place."""

    def __init__(self):
        super().__init__()
        self.conv, self.act, self.flat = nn.Conv2d(1, 2, 3), nn.Softplus(), nn.Flatten()
        self.head = nn.Linear(72, 4)

    def forward(self, x):
        return self.head(self.flat(self.act(self.conv(x)))).tanh_()


class Past(nn.Module):
    """Modules one after the other, and a way past the last ones."""

    def __init__(self):
        super().__init__()
        self.conv, self.act, self.flat = nn.Conv2d(1, 2, 3), nn.Softplus(), nn.Flatten()
        self.head = nn.Sequential(nn.Linear(72, 5), nn.Tanh(), nn.Linear(5, 4))
        self.other = nn.Linear(6, 4)

    def forward(self, x):
        h = self.act(self.conv(x))
        return self.head(self.flat(h)) + self.other(h.mean(dim=(1, 2)))


# name: (factory, shape of a sample, layer, what can be factored: with weights that are constant,
# with weights for all samples, or nothing)
OTHERS = {
    "softplus": (lambda: images(nn.BatchNorm2d(3), nn.Softplus()), (1, 8, 8), "0", "constant"),
    "pooled": (lambda: images(nn.Softplus(), nn.MaxPool2d(2), n_in=9), (1, 8, 8), "0", "constant"),
    "cut": (
        lambda: images(nn.Tanh(), nn.AvgPool2d((4, 2)), nn.MaxPool2d((1, 2)), n_in=1),
        (1, 8, 8),
        "0",
        "constant",
    ),
    "bare": (lambda: images(), (1, 8, 8), "0", "constant"),
    "average": (lambda: images(nn.GELU(), nn.AvgPool2d(5), n_in=1), (1, 8, 8), "0", "constant"),
    "overlapping": (
        lambda: images(nn.Softplus(), nn.MaxPool2d(3, 1), n_in=16),
        (1, 8, 8),
        "0",
        None,
    ),
    "padded": (
        lambda: images(nn.Softplus(), nn.AvgPool2d(2, 2, 1), n_in=16),
        (1, 8, 8),
        "0",
        None,
    ),
    "deep": (
        lambda: nn.Sequential(*images(nn.Softplus()), nn.Softplus(), nn.Linear(4, 5)),
        (1, 8, 8),
        "0",
        "samples",
    ),
    "deep and pooled": (
        lambda: nn.Sequential(*images(nn.Softplus(), nn.MaxPool2d(2), n_in=9), nn.LayerNorm(4)),
        (1, 8, 8),
        "0",
        "samples",
    ),
    "ended": (Ended, (1, 8, 8), "conv", "samples"),
    "past": (Past, (1, 8, 8), "conv", None),
    "normed": (lambda: images(nn.LayerNorm(6), nn.ELU()), (1, 8, 8), "0", None),
    "units": (
        lambda: nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.SiLU(), nn.Linear(6, 3)),
        (5,),
        "0",
        "constant",
    ),
    "lstm": (lambda: Recurrent(nn.LSTM), (7, 3), "first[0]", None),
    "gru": (lambda: Recurrent(nn.GRU), (7, 3), "first[0]", None),
    "rnn": (lambda: Recurrent(nn.RNN), (7, 3), "first[0]", None),
    "functional": (Functional, (1, 8, 8), "conv", None),
    "in place": (InPlace, (1, 8, 8), "conv", None),
}
LAYERS = {"mlp": "0", "conv1d": "0", "conv2d": "0", "transformer": "embed"}
FACTORED = {name: case[3] for name, case in OTHERS.items()}
FACTORED |= {"conv1d": "constant", "conv2d": "constant", "mlp": "samples", "transformer": None}
NAMES = [*LAYERS, *OTHERS]


def make(name):
    """Return a net of float64 in eval mode, inputs, noise and the point."""
    if name in LAYERS:
        net, shape, layer = make_net(name, torch.float64), NETS[name][1], LAYERS[name]
    else:
        factory, shape, layer, _ = OTHERS[name]
        torch.manual_seed(0)
        net = factory().double()
        net(torch.randn(16, *shape, dtype=torch.float64))
    net.eval()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(5, *shape, generator=generator, dtype=torch.float64)
    noise = torch.rand(3, *shape, generator=generator, dtype=torch.float64)
    point = find_points(net, x, dict(net.named_modules()), layers=[layer])[0]
    return net, x, noise, point


def reference_maps(net, x, point):
    """Maps |a·g| over units and a·g a unit, a sample and a unit at a time; scaled one by one."""
    kept = []

    def keep(_module, _inputs, made):
        made = made[0] if isinstance(made, tuple) else made
        kept.append(made)

    handle = point.module.register_forward_hook(keep)
    pooled, single = [], []
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for sample in x:
            z = net(sample[None])[0]
            activations = kept.pop()
            products = []
            for unit in z:
                (gradient,) = torch.autograd.grad(unit, activations, create_graph=True)
                products.append(point.arrange(activations * gradient)[0].flatten(1))
            pooled.append(scale(sum(p.abs().mean(dim=0) for p in products) / len(products)))
            single.append([scale(p.mean(dim=0)) for p in products])
    handle.remove()
    return pooled, single


def scale(a_map):
    return (a_map - a_map.min()) / (a_map.max() - a_map.min())


def reference(net, x, noise, point, lambda_noise, lambda_variance):
    """Return both scores and the gradients of the constraint, by loops."""
    pooled, single = reference_maps(net, x, point)
    of_noise, _ = reference_maps(net, noise, point)
    n = sum((a - b).abs().mean() for a in pooled for b in of_noise) / (len(x) * len(noise))
    variances = []
    for maps in single:
        mean = sum(maps) / len(maps)
        variances.append(sum((m - mean) ** 2 for m in maps).mean() / len(maps))
    v = sum(variances) / len(x)
    parameters = list(net.parameters())
    gradients = torch.autograd.grad(
        -lambda_noise * n - lambda_variance * v, parameters, materialize_grads=True
    )
    return n.item(), v.item(), gradients


def ours(net, x, noise, point, lambda_noise, lambda_variance):
    for parameter in net.parameters():
        parameter.grad = None
    parts = list(net.modules())
    scores = add_gradients(
        lambda batch: run(net, point, batch, parts), x, noise, lambda_noise, lambda_variance
    )
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in net.parameters()]
    return scores, gradients


@pytest.mark.parametrize("name", NAMES)
def test_scores_and_gradients_equal_loops_over_samples_and_units(name):
    net, x, noise, point = make(name)
    if name in ("mlp", "conv2d"):  # no ties: where all units are cut off, maps are constant
        x = x.abs() + 0.1
    for weights in ((1.0, 0.0), (0.0, 1.0), (0.3, 2.0)):
        n, v, expected = reference(net, x, noise, point, *weights)
        scores, gradients = ours(net, x, noise, point, *weights)
        for key, weight, value in zip(
            ("noise_score", "variance_score"), weights, (n, v), strict=True
        ):
            assert (key in scores) == (weight > 0)
            if weight:
                assert 0.001 < value and scores[key].item() == pytest.approx(value, rel=1e-10)
        assert max(g.abs().max() for g in expected) > 1e-5
        for gradient, by_loop in zip(gradients, expected, strict=True):
            torch.testing.assert_close(gradient, by_loop, rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_which_networks_are_factored(name):
    net, x, _, point = make(name)
    factors = run(net, point, x, list(net.modules())).factors
    if FACTORED[name] is None:
        assert factors is None
    else:
        assert factors.is_constant == (FACTORED[name] == "constant")


@pytest.mark.parametrize("name", ["pooled", "cut", "units", "deep and pooled"])
def test_factored_gradients_equal_those_of_the_general_way(name, monkeypatch):
    net, x, noise, point = make(name)
    _, factored = ours(net, x, noise, point, 1.0, 1.0)
    monkeypatch.setattr("sklexplain.scores._score_terms.linear_factors", lambda record: None)
    _, general = ours(net, x, noise, point, 1.0, 1.0)
    for one, two in zip(factored, general, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", ["softplus", "deep", "functional", "lstm"])
def test_small_blocks_give_what_one_gives(name, monkeypatch):
    net, x, noise, point = make(name)
    scores, gradients = ours(net, x, noise, point, 1.0, 1.0)
    monkeypatch.setattr("sklexplain.scores._score_terms._KEPT", 1)
    monkeypatch.setattr("sklexplain.scores._score_factors._CACHED", 1)
    block_scores, block_gradients = ours(net, x, noise, point, 1.0, 1.0)
    for key, score in scores.items():
        torch.testing.assert_close(block_scores[key], score)
    for one, two in zip(gradients, block_gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-13)


def test_hooks_of_others_are_seen():
    net, x, noise, point = make("softplus")
    # It mixes positions, so that the linear layer is not all that does.
    handle = net[2].register_forward_hook(lambda module, inputs, made: made.flip(-1) * made)
    assert run(net, point, x, list(net.modules())).factors is None
    _, _, expected = reference(net, x, noise, point, 1.0, 1.0)
    _, gradients = ours(net, x, noise, point, 1.0, 1.0)
    for gradient, by_loop in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, by_loop, rtol=1e-7, atol=1e-11)
    assert list(net[2]._forward_hooks) == [handle.id]


def test_gradients_are_added_to_those_there_are():
    net, x, noise, point = make("softplus")
    _, alone = ours(net, x, noise, point, 1.0, 1.0)
    net.zero_grad()
    net(x).square().sum().backward()
    before = [p.grad.clone() for p in net.parameters()]
    parts = list(net.modules())
    add_gradients(lambda batch: run(net, point, batch, parts), x, noise, 1.0, 1.0)
    for p, one, two in zip(net.parameters(), before, alone, strict=True):
        torch.testing.assert_close(p.grad, one + two)


def test_frozen_layers_get_no_gradient():
    net, x, noise, point = make("softplus")
    _, expected = ours(net, x, noise, point, 1.0, 1.0)
    net[0].requires_grad_(False)
    ours(net, x, noise, point, 1.0, 1.0)
    assert net[0].weight.grad is None
    torch.testing.assert_close(net[4].weight.grad, expected[4])


def test_factored_variance_passes_gradcheck():
    generator = torch.Generator().manual_seed(0)
    slopes = torch.randn(3, 2, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 4, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(FactoredVariance.apply, (slopes, weights))


@pytest.mark.parametrize("name", ["pooled", "functional"])
def test_gradients_equal_finite_differences_of_the_scores(name):
    net, x, noise, point = make(name)
    weights = (0.7, 1.3)
    _, gradients = ours(net, x, noise, point, *weights)
    generator = torch.Generator().manual_seed(2)
    for parameter, gradient in zip(net.parameters(), gradients, strict=True):
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        losses, step = [], 1e-6
        for sign in (1, -1):
            moved = copy.deepcopy(net)
            for p, q in zip(moved.parameters(), net.parameters(), strict=True):
                if q is parameter:
                    p.data += sign * step * direction
            modules = dict(moved.named_modules())
            moved_point = find_points(moved, x, modules, layers=[point.name])[0]
            scores, _ = ours(moved, x, noise, moved_point, *weights)
            losses.append(-sum(w * s for w, s in zip(weights, scores.values(), strict=True)))
        slope = (losses[0] - losses[1]) / (2 * step)
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-8)


def test_constant_maps_score_zero_with_finite_gradients():
    net, x, noise, point = make("softplus")
    with torch.no_grad():
        net[4].weight.zero_()
    scores, gradients = ours(net, x, noise, point, 1.0, 1.0)
    assert [score.item() for score in scores.values()] == [0, 0]
    assert all((gradient == 0).all() for gradient in gradients)


def test_unit_gradients_without_vmap(monkeypatch):
    net, x, _, _ = make("units")
    hidden = net[0](x)
    z = net[1:](hidden)
    batched = unit_gradients(z, hidden)
    grad = torch.autograd.grad

    def refuse(*args, is_grads_batched=False, **kwargs):
        if is_grads_batched:
            raise RuntimeError("vmap: not implemented")
        return grad(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", refuse)
    torch.testing.assert_close(unit_gradients(z, hidden), batched)


def test_windows():
    pool = nn.MaxPool2d(2)
    # 3 x 5: the last row and column fall into no window.
    expected = [[0, 0, 1, 1], [0, 0, 1, 1]]
    window = windows((3, 5), [pool]).view(3, 5)
    assert window[:2, :4].tolist() == expected
    assert window.max() == 1
    both = windows((8,), [nn.AvgPool1d(2), nn.Softplus(), nn.MaxPool1d(2)])
    assert both.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("activation", "names"),
    [
        (nn.ReLU(), {"Relu"}),
        (nn.ReLU(inplace=True), {"Relu"}),
        (nn.LeakyReLU(), {"LeakyRelu"}),
        (nn.PReLU(), {"PreluKernel"}),
        (nn.Hardtanh(), {"Hardtanh"}),
        (nn.ReLU6(), {"Hardtanh"}),
        (nn.Hardsigmoid(), {"Hardsigmoid"}),
        (nn.Softplus(), set()),
        (nn.GELU(), set()),
        (nn.Identity(), set()),
    ],
)
def test_piecewise_linear_functions_between_layer_and_output(activation, names):
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5), activation, nn.Linear(5, 3))
    net.append(nn.Identity())
    x = torch.randn(3, 4)
    modules = dict(net.named_modules())
    # What comes before the layer, and the layer itself, does not count.
    for layer in ("2", "1"):
        point = find_points(net, x, modules, layers=[layer])[0]
        assert piecewise_linear(run(net, point, x, modules.values())) == names
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    assert piecewise_linear(run(net, point, x, modules.values())) == names
