"""DeepLIFT: completeness for every network, and captum's on networks it can handle."""

import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sklexplain.explaining._deep_lift import deep_lift
from sklexplain.explaining._operations import operation_kind
from tests.cases import NETS, make_net, make_X


class Functional(nn.Module):
    """Nonlinearities as functions, one module used twice, and a product of activations."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 6), nn.Linear(6, 6)
        self.relu = nn.ReLU()

    def forward(self, x):
        a = self.relu(self.first(x))
        b = self.relu(self.second(a))
        gate = torch.sigmoid(a) * b
        return F.normalize(torch.tanh(gate) + gate.softmax(dim=1), dim=1)


def _instance(net, x):
    net = net.double().eval()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    torch.backends.mha.set_fastpath_enabled(False)
    generator = torch.Generator().manual_seed(1)
    references = torch.randn((1, 2, *x.shape[1:]), generator=generator, dtype=torch.float64)
    with torch.no_grad():
        z, z0 = net(x), net(references[0])
    return net, references, z[:, None], (z * (z - z0.mean(dim=0))).sum(dim=1)


@pytest.fixture(autouse=True)
def _fast_path():
    before = torch.backends.mha.get_fastpath_enabled()
    yield
    torch.backends.mha.set_fastpath_enabled(before)


@pytest.mark.parametrize("name", [*sorted(NETS), "functional"])
def test_attributions_sum_to_the_difference_of_outputs(name):
    net = Functional() if name == "functional" else make_net(name)
    x = torch.from_numpy(make_X("mlp" if name == "functional" else name)).double()
    net, references, cotangents, expected = _instance(net, x)
    maps = deep_lift(net, x, references, cotangents)
    total = maps.flatten(1).sum(dim=1)
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=1e-6 * expected.abs().max().item())


@pytest.mark.parametrize("name", sorted(NETS))
def test_batch_equals_one_by_one(name):
    x = torch.from_numpy(make_X(name)).double()
    net, references, cotangents, _ = _instance(make_net(name), x)
    whole = deep_lift(net, x, references, cotangents)
    for i in range(len(x)):
        alone = deep_lift(net, x[i : i + 1], references, cotangents[i : i + 1])
        torch.testing.assert_close(alone[0], whole[i])


@pytest.mark.parametrize(
    "activation", [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.Softplus, nn.LeakyReLU]
)
def test_equals_captum_where_every_nonlinearity_is_a_module_used_once(activation):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), activation(), nn.Linear(6, 6), activation())
    x = torch.from_numpy(make_X("mlp")).double()
    net, references, cotangents, _ = _instance(net, x)

    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x, u):
            return (self.net(x) * u).sum(dim=1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum announces the hooks it sets
        from captum.attr import DeepLift

        expected = DeepLift(Inner()).attribute(
            x, references[0, :1].expand_as(x), additional_forward_args=(cotangents[:, 0],)
        )
    actual = deep_lift(net, x, references[:, :1], cotangents)[:, 0]
    torch.testing.assert_close(actual, expected.detach(), rtol=1e-6, atol=1e-9)


def test_max_pooling_gives_rises_and_falls_to_their_places():
    pool = nn.MaxPool1d(2)
    x = torch.tensor([[[3.0, 0.0, 1.0, 1.0]]], dtype=torch.float64)
    reference = torch.tensor([[[[0.0, 1.0, 1.0, 4.0]]]], dtype=torch.float64)
    maps = deep_lift(lambda x: pool(x).flatten(1), x, reference, torch.ones(1, 1, 2).double())
    # First pair: the maximum rises from 1 to 3, held by entry 0. Second: falls from 4, held by 3.
    torch.testing.assert_close(
        maps[0, 0, 0], torch.tensor([2.0, 0.0, 0.0, -3.0], dtype=torch.float64)
    )


# -- every kind of operation -----------------------------------------------------------------------

W1, W2, W3 = (
    torch.randn(shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
    for i, shape in enumerate([(6, 8), (8, 8), (8, 4)])
)


class Sine(torch.autograd.Function):
    """A function with a derivative of its own, which torch cannot look into."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].cos()


def _ignoring(function):
    """Run a function for what it does to its input."""

    def changed(h):
        function(h)
        return h

    return changed


def _pieces(h):
    h = h.clone()
    h[:, :3] = torch.tanh(h[:, :3])
    h[:, 3:].sigmoid_()
    h[:, 1] += h[:, 2] * h[:, 3]
    h *= 2
    return h


def _buffer(h):
    buffer = torch.zeros(len(h), 8, dtype=h.dtype)
    buffer[:, :6] = h[:, :6]
    buffer[:, 6:].add_(h[:, 6:] ** 2)
    return torch.tanh(buffer @ W2)


ACTIVATIONS = {
    # in place
    "relu_": torch.Tensor.relu_,
    "torch.relu_": torch.relu_,
    "tanh_": torch.Tensor.tanh_,
    "sigmoid_": torch.Tensor.sigmoid_,
    "clamp_": lambda h: h.clamp_(-0.5, 0.5),
    "elu_": F.elu_,
    "hardtanh_": F.hardtanh_,
    "threshold_": lambda h: F.threshold_(h, 0.1, 0.3),
    "pow_": lambda h: h.pow_(2),
    "abs_": torch.Tensor.abs_,
    "mul_": lambda h: h.mul_(h.tanh()),
    "masked_fill_": lambda h: h.masked_fill_(h < 0, 0.0),
    "F.relu, its result ignored": _ignoring(lambda h: F.relu(h, inplace=True)),
    "nn.SiLU, its result ignored": _ignoring(nn.SiLU(inplace=True)),
    "halves": lambda h: torch.cat([h[:, :4].tanh(), h[:, 4:].sigmoid_()], dim=1),
    "pieces": _pieces,
    "buffer": _buffer,
    # elementwise
    "rsqrt": lambda h: (h.abs() + 0.1).rsqrt(),
    "expm1": torch.expm1,
    "threshold": lambda h: F.threshold(h, 0.1, 0.2),
    "hardswish": F.hardswish,
    "logsigmoid": F.logsigmoid,
    "prelu by channels": lambda h: F.prelu(h, W2[0]),
    "softsign": F.softsign,
    "round": lambda h: h.round() + h,
    "power": lambda h: 2**h,
    # elementwise, of several
    "where": lambda h: torch.where(h > 0, h, torch.expm1(h)),
    "relu by a mask": lambda h: h * (h > 0),
    "maximum": lambda h: torch.maximum(h, h.flip(1)),
    "division": lambda h: h / (1 + h.abs()),
    "addcmul": lambda h: torch.addcmul(h, h, h.tanh()),
    "lerp": lambda h: torch.lerp(h, h.tanh(), h.sigmoid()),
    "outer": lambda h: (h[:, :, None] * h[:, None]).sum(dim=1),
    # chosen for their size
    "max": lambda h: h.max(dim=-1, keepdim=True)[0] * W2[:1],
    "min": lambda h: h.amin(dim=-1, keepdim=True) * W2[:1],
    "pool with places": lambda h: F.max_pool1d(h[:, None], 2, return_indices=True)[0][:, 0].repeat(
        1, 2
    ),
    # mixing
    "glu": lambda h: F.glu(h @ torch.cat([W2, W2.T], dim=1)),
    "log_softmax": lambda h: h.log_softmax(dim=1),
    "rms_norm": lambda h: F.rms_norm(h, (8,)),
    "cumprod": lambda h: torch.tanh(h).cumprod(dim=1),
    "einsum": lambda h: torch.einsum("bi,bj->bij", h, h.sin()).sum(dim=1),
    "bilinear": lambda h: F.bilinear(h, h.tanh(), W2.expand(8, 8, 8)),
    "standardised": lambda h: (h - h.mean(dim=1, keepdim=True)) / h.std(dim=1, keepdim=True),
    "cdist": lambda h: torch.cdist(h, W2),
    "samples last": lambda h: torch.tanh_(h.T).T,
    "samples inside": lambda h: torch.tanh((h.T[:, :, None] @ W2[:1]).reshape(-1, 8)).reshape(
        8, len(h), 8
    )[0],
    "a derivative of one's own": Sine.apply,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("n_samples", [1, 8])  # 8 is the size of another axis
def test_sums_for_every_kind_of_operation(name, n_samples):
    function = ACTIVATIONS[name]
    check_sums(lambda x: function(x @ W1) @ W3, (6,), n_samples)


def check_sums(net, shape, n_samples, rtol=1e-8):
    generator = torch.Generator().manual_seed(2)
    x, references = (
        torch.randn(*n, *shape, generator=generator, dtype=torch.float64)
        for n in ((n_samples,), (1, 2))
    )
    with torch.no_grad():
        z = net(x.clone())
        z0 = sum(net(r.expand_as(x).clone()) for r in references[0]) / 2
    cotangents = torch.randn(*z.shape, generator=generator, dtype=torch.float64)[:, None]
    before = x.clone()
    sums = deep_lift(net, x, references, cotangents).flatten(1).sum(dim=1)
    expected = (cotangents[:, 0] * (z - z0)).sum(dim=1)
    size = cotangents[:, 0].norm(dim=1) * (z - z0).norm(dim=1)
    assert ((sums - expected).abs() / size).max() < rtol
    assert torch.equal(x, before)


def test_input_that_is_written_into():
    check_sums(lambda x: x.relu_() @ W1, (6,), 4)


@pytest.mark.parametrize("names", [("relu_", "relu by a mask"), ("tanh_", "samples last")])
def test_spellings_of_a_function_are_attributed_alike(names):
    one, other = (ACTIVATIONS[name] for name in names)
    x, references = torch.sin(W1[:4, :6] * 3), torch.cos(W1[None, :2, :6])
    cotangents = W3.T[:, None, :4]
    maps = [
        deep_lift(lambda x, f=f: f(x @ W1) @ W3, x, references, cotangents) for f in (one, other)
    ]
    torch.testing.assert_close(*maps)


def test_kinks_of_an_operation_without_a_rule_of_its_own():
    # The Jacobian of sorting is constant between crossings, so its average is as exact as the
    # nodes are dense.
    check_sums(lambda x: (x @ W1).sort(dim=1)[0] @ W3, (6,), 4, rtol=0.03)


def test_experts_that_take_other_rows_of_the_baselines_than_of_the_samples():
    def routed(x):
        first, out = x[:, 0] > 0, torch.zeros(len(x), 4, dtype=x.dtype)
        out[first] = torch.tanh(x[first] @ W1) @ W3
        out[~first] = torch.sin(x[~first] @ W1) @ W3
        return out

    x, references = torch.sin(W1.T[:4, :6] * 3), torch.cos(W1[None, :1, :6])
    cotangents = W3[:4, None]
    same = (x[:, 0] > 0) == (references[0, 0, 0] > 0)
    assert 0 < same.sum() < 4
    maps = deep_lift(routed, x, references, cotangents)
    alone = [deep_lift(routed, x[i : i + 1], references, cotangents[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(maps, torch.cat(alone))
    with torch.no_grad():
        expected = (cotangents[:, 0] * (routed(x) - routed(references[0]))).sum(dim=1)
    torch.testing.assert_close(maps.flatten(1).sum(dim=1)[same], expected[same])


# -- recurrent layers ------------------------------------------------------------------------------


class Sequences(nn.Module):
    """An encoder's last state starts a decoder, which reads the series or nothing."""

    def __init__(self, cell, batch_first, reads):
        super().__init__()
        self.encoder, self.decoder = (cell(3, 4, batch_first=batch_first) for _ in range(2))
        self.out = nn.Linear(4, 2)
        self.batch_first, self.reads = batch_first, reads

    def forward(self, x):
        x = x if self.batch_first else x.transpose(0, 1)
        _, state = self.encoder(x)
        out, _ = self.decoder(x if self.reads else torch.zeros_like(x), state)
        out = self.out(out)
        return (out if self.batch_first else out.transpose(0, 1)).flatten(1)


class Steps(nn.Module):
    """A cell, step by step."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell(3, 4)

    def forward(self, x):
        state = None
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return state[0] if isinstance(state, tuple) else state


class Packed(nn.Module):
    """Series of several lengths."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(3, 4, batch_first=True)

    def forward(self, x):
        lengths = torch.arange(len(x)) % 3 + 3
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        return self.rnn(packed)[1][0]


def _seeded(make, *args):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return make(*args).double().eval().requires_grad_(False)


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("reads", [True, False])
def test_initial_states_of_recurrent_layers(cell, batch_first, reads):
    # As many samples as steps.
    check_sums(_seeded(Sequences, cell, batch_first, reads), (5, 3), 5)


@pytest.mark.parametrize("make", [Packed, *(partial(Steps, c) for c in (nn.LSTMCell, nn.GRUCell))])
def test_recurrent_layers_of_other_kinds(make):
    check_sums(_seeded(make), (5, 3), 4)


def test_attention_behind_normalisation_from_a_baseline_of_zeros():
    torch.backends.mha.set_fastpath_enabled(False)
    block = _seeded(partial(nn.TransformerEncoderLayer, 4, 2, 8, batch_first=True, norm_first=True))
    x = torch.sin(torch.arange(60.0, dtype=torch.float64)).reshape(3, 5, 4)
    with torch.no_grad():
        z, z0 = block(x).flatten(1), block(torch.zeros_like(x)).flatten(1)
    maps = deep_lift(lambda x: block(x).flatten(1), x, torch.zeros_like(x)[:1, None], z[:, None])
    expected = (z * (z - z0)).sum(dim=1)
    torch.testing.assert_close(maps.flatten(1).sum(dim=1), expected, rtol=1e-5, atol=0)


# -- what an operation does ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function, kind",
    [
        (lambda h: h[:, 1:].T.flatten(), "linear"),
        (lambda h: F.linear(h, W2.T), "linear"),
        (lambda h: F.batch_norm(h, W2[0], W2[1].abs()), "linear"),
        (lambda h: F.batch_norm(h, None, None, training=True), "other"),
        (lambda h: h / 2, "linear"),
        (lambda h: 2 / h, "elementwise"),
        (lambda h: h * h, "elementwise"),
        (lambda h: h * W2[0], "linear"),
        (lambda h: h @ h.T, "other"),
        (lambda h: F.max_pool1d(h[:, None], 2), "maximum"),
        (lambda h: h.amin(1), "minimum"),
        (lambda h: h.min(), "minimum"),
        (lambda h: h.softmax(1), "other"),
        (Sine.apply, "other"),
    ],
)
def test_operation_kind(function, kind):
    h = W2.clone().requires_grad_() * 1
    assert operation_kind([function(h)], [h]) == kind
