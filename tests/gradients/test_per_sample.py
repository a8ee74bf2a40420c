import copy
import pickle
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from sklexplain.gradients import (
    Trial,
    _per_sample,
    flatten_terms,
    gram_matrix,
    join_terms,
    per_sample_gradients,
    plan_gradients,
    project_terms,
    squared_norms,
    terms_bytes,
)
from sklexplain.gradients import _sets as _gradient_sets
from sklexplain.gradients import _terms as _gradient_terms
from sklexplain.gradients._per_sample import per_sample_products
from sklexplain.gradients._sets import (
    combine_terms,
    interleave_terms,
    multiply_terms,
    own_gram_matrix,
)
from sklexplain.gradients._terms import Explicit, Lookup, Outer
from tests.cases import NETS, make_net, make_X


@contextmanager
def frozen(modules, *_):
    """Eval mode, and no gradients of weights, as explainers run networks."""
    parts = [part for module in modules for part in module.modules()]
    modes = [part.training for part in parts]
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    for module in modules:
        module.eval().requires_grad_(False)
    yield
    for part, mode in zip(parts, modes, strict=True):
        part.training = mode
    for parameter in parameters:
        parameter.requires_grad_(True)


class TimeMajor(nn.Module):
    """Series of shape (n, time, channels) through layers that have the time first."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 4)
        self.norm = nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2, bias=False)
        self.rnn = nn.GRU(4, 2, bidirectional=True)

    def forward(self, x):
        x = self.norm(self.embed(x.transpose(0, 1)))
        x = x + self.attention(x, x, x)[0]
        return self.rnn(x)[0].mean(dim=0)


class CrossAttention(nn.Module):
    """A few queries look at a longer series, of which the last steps are masked."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, add_zero_attn=True)

    def forward(self, x):
        x = self.embed(x)
        mask = torch.zeros(x.shape[:2], dtype=torch.bool)
        mask[:, -2:] = True
        return self.attention(x[:, :3], x, value=2 * x, key_padding_mask=mask)[0].flatten(1)


class Tokens(nn.Module):
    def __init__(self, n_rows=6):
        super().__init__()
        self.table = nn.Embedding(n_rows, 3, padding_idx=0)
        self.out = nn.Linear(3, 2)

    def forward(self, x):
        return self.out(self.table(x).tanh()).sum(dim=1)


class Shared(nn.Module):
    """One layer used twice, and another layer that has its weight."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.second = nn.Linear(5, 5)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(self.first(x).tanh()).relu())


class Tied(nn.Module):
    """The weight of a layer is used a second time outside of it."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(5, 3)
        self.shift = nn.Parameter(torch.randn(5))

    def forward(self, x):
        return self.encoder(x).tanh() @ self.encoder.weight + self.shift


class Folded(nn.Module):
    """Every time step is an image of its own for the convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 2)

    def forward(self, x):
        return self.conv(x.reshape(-1, 1, 3)).reshape(len(x), -1)


class LoopOnly(nn.Module):
    """A cell, a normal weight, and control flow that depends on the data."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(3, 2)
        self.weighted = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))

    def forward(self, x):
        h = self.weighted(self.cell(x[:, 0]))
        return h if float(x.detach().abs().sum()) > 0 else -h


class Initial(nn.Module):
    """The first state is a parameter, the last state the result."""

    def __init__(self, **params):
        super().__init__()
        self.start = nn.Parameter(torch.randn(2, 1, 4))
        self.lstm = nn.LSTM(3, 4, num_layers=2, dropout=0.5, **params)

    def forward(self, x):
        start = self.start.expand(-1, len(x), -1).contiguous()
        out, (h, c) = self.lstm(x.transpose(0, 1), (start, start.tanh()))
        return torch.cat([out[0], h[-1], c[0]], dim=1)


def _last(kind, **params):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = kind(3, 4, batch_first=True, **params)

        def forward(self, x):
            return self.rnn(x)[0][:, -1]

    return Last


def _flat(*layers):
    return lambda: nn.Sequential(*(layer() for layer in layers), nn.Flatten())


LAYERS = {
    **NETS,
    "linear": (lambda: nn.Linear(5, 3), (5,)),
    "linear, series": (_flat(lambda: nn.Linear(3, 2, bias=False), nn.Tanh), (7, 3)),
    "conv1d, groups": (_flat(lambda: nn.Conv1d(4, 6, 3, stride=2, groups=2, dilation=2)), (4, 11)),
    "conv1d, same": (
        _flat(lambda: nn.Conv1d(2, 3, 4, padding="same", dilation=2, bias=False)),
        (2, 9),
    ),
    "conv2d, circular": (
        _flat(lambda: nn.Conv2d(2, 3, (3, 2), padding=1, stride=(2, 1), padding_mode="circular")),
        (2, 6, 5),
    ),
    "transposed1d": (
        _flat(lambda: nn.ConvTranspose1d(4, 6, 3, 2, 1, output_padding=1, groups=2)),
        (4, 5),
    ),
    "transposed1d, dilated": (
        _flat(lambda: nn.ConvTranspose1d(2, 3, 3, 1, output_padding=2, dilation=3)),
        (2, 5),
    ),
    "transposed2d": (
        _flat(lambda: nn.ConvTranspose2d(2, 3, (3, 2), 2, padding=(1, 0), bias=False)),
        (2, 4, 3),
    ),
    "batch norm": (
        lambda: nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten()),
        (2, 3, 3),
    ),
    "layer norm": (_flat(lambda: nn.LayerNorm((7, 3)), lambda: nn.LayerNorm(3)), (7, 3)),
    "group norm": (_flat(lambda: nn.GroupNorm(2, 4), nn.Tanh), (4, 5)),
    "time major": (TimeMajor, (7, 3)),
    "cross attention": (CrossAttention, (7, 3)),
    "shared": (Shared, (5,)),
    "tied": (Tied, (5,)),
    "folded": (Folded, (4, 3)),
    "loop": (LoopOnly, (2, 3)),
    "prelu": (_flat(nn.PReLU, lambda: nn.InstanceNorm1d(2, affine=True)), (2, 6)),
    "initial state": (Initial, (6, 3)),
    "projected state": (_last(nn.LSTM, proj_size=2), (6, 3)),
    "two layers": (_last(nn.LSTM, num_layers=2, bidirectional=True), (6, 3)),
    "gru, two layers": (_last(nn.GRU, num_layers=2, bias=False), (6, 3)),
    "rnn, relu": (_last(nn.RNN, nonlinearity="relu"), (6, 3)),
}
LOOPED = [f"cell.{kind}_{of}" for kind in ("weight", "bias") for of in ("ih", "hh")]
LOOPED += [f"weighted.parametrizations.weight.original{i}" for i in (0, 1)]
# What no rule covers, and whether vmap does.
REST = {
    "tied": (["shift", "encoder.weight"], True),
    "loop": (LOOPED, False),
    "prelu": (["0.weight", "1.weight", "1.bias"], True),
    "initial state": (["start"], None),  # newer versions of torch can vectorise it
    "projected state": (
        [
            "rnn.weight_ih_l0",
            "rnn.weight_hh_l0",
            "rnn.bias_ih_l0",
            "rnn.bias_hh_l0",
            "rnn.weight_hr_l0",
        ],
        False,
    ),
}


def build(name, dtype):
    torch.manual_seed(0)
    if name in NETS:
        return make_net(name, dtype), torch.as_tensor(make_X(name, 5)).to(dtype)
    factory, shape = LAYERS[name]
    net, x = factory().to(dtype), torch.randn(5, *shape, dtype=dtype)
    net(torch.randn(16, *shape, dtype=dtype))  # moves BatchNorm's statistics
    return net, x


def make_losses(net):
    def losses(x):
        z = net(x.clone())
        weights = torch.linspace(-1, 2, z.shape[1], dtype=z.dtype)
        return (z.square() * weights).sum(dim=1) + z.sum(dim=1).sin()

    return losses


def obvious(net, x):
    """One backward pass a sample, on a copy of the network in eval mode."""
    net = copy.deepcopy(net).eval()
    rows = []
    for i in range(len(x)):
        net.zero_grad()
        make_losses(net)(x[i : i + 1]).sum().backward()
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in net.parameters()]
        rows.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(rows)


def gradients(net, x, n_batches=1, names=None):
    losses = make_losses(net)
    names = [name for name, _ in net.named_parameters()] if names is None else names
    with frozen([net], torch.device("cpu"), 0):
        plan = plan_gradients(losses, net, names, x[:2])
        parts = [per_sample_gradients(losses, net, part, plan) for part in x.chunk(n_batches)]
    return join_terms(parts), plan


# Torch says that a projected state takes its slower code.
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_against_a_loop(name, dtype):
    net, x = build(name, dtype)
    state, modes = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    terms, plan = gradients(net, x)
    expected = obvious(net, x)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    error = (flatten_terms(terms) - expected).abs().max()
    assert error <= tolerance * expected.abs().max()
    assert plan.n_parameters == expected.shape[1]
    rest, vectorised = REST.get(name, ([], False))
    assert plan.rest == rest
    if vectorised is not None:
        assert plan.vectorised == vectorised
    # The network is as it was, to the bit.
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert [m.training for m in net.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks for m in net.modules())


@pytest.mark.parametrize("name", LAYERS)
def test_gram_in_little_memory_and_with_partial_batches(name):
    net, x = build(name, torch.float64)
    terms, _ = gradients(net, x, n_batches=2)  # three samples and two
    some, _ = gradients(net, x[:3])
    expected = obvious(net, x)
    for max_bytes in (1, 500, 2**28):
        gram = gram_matrix(some, terms, max_bytes)
        torch.testing.assert_close(gram, expected[:3] @ expected.T)
        torch.testing.assert_close(squared_norms(terms, max_bytes), expected.square().sum(dim=1))


@pytest.mark.parametrize("n_rows", [6, 50])
def test_tokens(n_rows):
    torch.manual_seed(0)
    net = Tokens(n_rows).double()
    x = torch.randint(0, 6, (5, 8))
    terms, plan = gradients(net, x, n_batches=2)
    assert plan.rest == []
    expected = obvious(net, x)
    torch.testing.assert_close(flatten_terms(terms), expected)
    assert isinstance(terms["table.weight"], Explicit if n_rows == 6 else Lookup)
    for max_bytes in (1, 2**28):
        gram = gram_matrix(terms, terms, max_bytes)
        torch.testing.assert_close(gram, expected @ expected.T)
        torch.testing.assert_close(squared_norms(terms, max_bytes), gram.diagonal())


def test_both_ways_to_the_inner_products_are_the_same():
    torch.manual_seed(0)
    for n, n_other, n_positions, n_in, n_out in [
        (4, 3, 1, 9, 9),
        (4, 3, 9, 2, 30),
        (2, 2, 3, 8, 8),
    ]:
        a, b = torch.randn(n, 2, n_positions, n_in), torch.randn(n, 2, n_positions, n_out)
        c = torch.randn(n_other, 2, n_positions, n_in)
        d = torch.randn(n_other, 2, n_positions, n_out)
        first, second = Outer(a.double(), b.double()), Outer(c.double(), d.double())
        expected = first.values @ second.values.T
        for max_bytes in (1, 300, 2**20):
            for gram in (_gradient_terms._explicit_gram, _gradient_terms._paired_gram):
                torch.testing.assert_close(gram(first, second, max_bytes), expected)


def test_symmetric_products_and_sums(monkeypatch):
    monkeypatch.setattr(_gradient_sets, "_MIN_BLOCK", 2)
    for name in ("conv2d", "lstm"):
        net, x = build(name, torch.float64)
        terms, _ = gradients(net, x)
        whole = flatten_terms(terms)
        gram = own_gram_matrix(terms)
        torch.testing.assert_close(gram, whole @ whole.T)
        assert torch.equal(gram, gram.T)
        vectors, weights = torch.randn(3, whole.shape[1]).double(), torch.randn(2, 5).double()
        for max_bytes in (1, 2**20):
            products = multiply_terms(terms, vectors, max_bytes)
            torch.testing.assert_close(products, whole @ vectors.T)
            torch.testing.assert_close(combine_terms(weights, terms, max_bytes), weights @ whole)


def test_sums_of_factors_with_few_and_many_weights():
    torch.manual_seed(0)
    a, b = torch.randn(5, 2, 3, 20).double(), torch.randn(5, 2, 3, 30).double()
    terms = {"w": Outer(a, b), "v": Explicit(torch.randn(5, 4).double())}
    whole = torch.einsum("ngli,nglo->ngoi", a, b).flatten(1)
    whole = torch.cat([whole, terms["v"].values], dim=1)
    for n_sums in (1, 9):
        weights = torch.randn(n_sums, 5).double()
        torch.testing.assert_close(combine_terms(weights, terms), weights @ whole)
    gram = own_gram_matrix(terms)
    torch.testing.assert_close(gram, whole @ whole.T)


# The second kind needs a loop.
@pytest.mark.parametrize("net", [nn.Sequential(nn.Conv1d(2, 3, 2), nn.Flatten()), LoopOnly()])
def test_products_of_outputs_for_one_forward_pass(net):
    torch.manual_seed(0)
    net, x = net.double(), torch.randn(4, 2, 3).double()
    names, calls = [name for name, _ in net.named_parameters()], []

    def outputs(x):
        calls.append(len(x))
        return net(x)

    with frozen([net], torch.device("cpu"), 0):
        plan = plan_gradients(lambda x: outputs(x).flatten(1).sum(dim=1), net, names, x[:2])
        n_entries = net(x).shape[1]
        directions = [torch.randn(4, n_entries).double() for _ in range(2)]
        calls.clear()
        found = per_sample_products(outputs, net, x, plan, directions)
    if not plan.rest:
        assert calls == [4]
    parameters = list(net.parameters())
    for terms, direction in zip(found, directions, strict=True):
        rows = []
        for i in range(4):
            grads = torch.autograd.grad(net(x[i : i + 1])[0] @ direction[i], parameters)
            rows.append(torch.cat([g.flatten() for g in grads]))
        torch.testing.assert_close(flatten_terms(terms), torch.stack(rows))


def test_sets_of_the_same_samples_are_put_together_sample_by_sample():
    net = Tokens(50).double()
    x = torch.randint(1, 6, (3, 4))
    terms, _ = gradients(net, x)
    doubled = {k: type(t)(*_doubled(t)) for k, t in terms.items()}
    rows = flatten_terms(terms)
    both = torch.stack([rows, 2 * rows], dim=1).flatten(0, 1)
    together = interleave_terms([terms, doubled])
    assert isinstance(together["table.weight"], Lookup)
    torch.testing.assert_close(flatten_terms(together), both)


def _doubled(term):
    if isinstance(term, Explicit):
        return (2 * term.values,)
    if isinstance(term, Outer):
        return term.a, 2 * term.b
    return term.index, 2 * term.b, term.n_rows


def test_large_layers_are_kept_as_factors():
    net = nn.Linear(300, 200)
    x = torch.randn(6, 300)
    terms, _ = gradients(net, x)
    assert isinstance(terms["weight"], Outer)
    assert terms_bytes(terms) == 4 * 6 * (300 + 200 + 200)
    whole = obvious(net, x)
    torch.testing.assert_close(gram_matrix(terms, terms), whole @ whole.T, rtol=1e-4, atol=1e-2)


def test_chosen_parameters_only():
    net, x = build("mlp", torch.float64)
    names = ["4.bias", "0.weight"]
    terms, plan = gradients(net, x, names=names)
    assert list(terms) == names
    assert plan.layers == {"0": "linear", "4": "linear"}
    all_of_them, _ = gradients(net, x)
    for name in names:
        torch.testing.assert_close(terms[name].values, all_of_them[name].values)


def test_parameters_that_do_nothing_have_zero_gradients():
    torch.manual_seed(0)
    net = nn.Linear(5, 3).double()
    net.idle = nn.LSTM(5, 3).double()
    x = torch.randn(4, 5).double()
    terms, plan = gradients(net, x)
    assert plan.rest == []
    torch.testing.assert_close(flatten_terms(terms), obvious(net, x))


def test_hooks_of_the_user_are_part_of_the_network():
    net, x = build("mlp", torch.float64)
    net[0].register_forward_hook(lambda module, args, output: 3 * output)
    losses = make_losses(net)
    with frozen([net], torch.device("cpu"), 0):
        plan = plan_gradients(losses, net, ["0.weight"], x[:2])
        terms = per_sample_gradients(losses, net, x, plan)
        expected = _per_sample.looped_gradients(losses, net, {"0.weight": net[0].weight}, x)
    assert plan.rest == []
    torch.testing.assert_close(flatten_terms(terms), expected["0.weight"])


def test_projection():
    net, x = build("mlp", torch.float64)
    terms, _ = gradients(net, x)
    projected = project_terms(terms, 4_000, seed=3)
    assert flatten_terms(projected).shape == (5, 4_000)
    whole = flatten_terms(terms)
    lengths = whole.norm(dim=1)
    error = gram_matrix(projected, projected) - whole @ whole.T
    assert (error.abs() <= 5 * (2 / 4_000) ** 0.5 * torch.outer(lengths, lengths)).all()
    parts = [project_terms(gradients(net, part)[0], 7, 3, max_bytes=100) for part in x.chunk(2)]
    torch.testing.assert_close(
        flatten_terms(join_terms(parts)), flatten_terms(project_terms(terms, 7, 3))
    )
    other = flatten_terms(project_terms(terms, 7, 4))
    assert not torch.allclose(other, flatten_terms(project_terms(terms, 7, 3)))


@pytest.mark.parametrize("n_steps", [2, 4])
def test_as_many_samples_as_time_steps(n_steps):
    """The axis of samples is known from the trial, not from the shape of a batch."""
    torch.manual_seed(0)
    net, x = TimeMajor().double(), torch.randn(6, n_steps, 3).double()
    for n in (n_steps, 6):
        losses, names = make_losses(net), [name for name, _ in net.named_parameters()]
        with frozen([net]):
            plan = plan_gradients(losses, net, names, x[:2])
            terms = per_sample_gradients(losses, net, x[:n], plan)
        assert plan.rest == []
        torch.testing.assert_close(flatten_terms(terms), obvious(net, x[:n]))


def test_plans_serve_copies_and_survive_pickling():
    net, x = build("lstm", torch.float64)
    terms, plan = gradients(net, x)
    plan = pickle.loads(pickle.dumps(plan))
    other = copy.deepcopy(net)
    with frozen([other]):
        found = per_sample_gradients(make_losses(other), other, x, plan)
    torch.testing.assert_close(flatten_terms(found), flatten_terms(terms))
    assert plan.bytes_per_sample == terms_bytes(terms) // len(x)


def test_two_passes_are_enough():
    net, x = build("mlp", torch.float64)
    rows = []
    net.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    with frozen([net]):
        plan_gradients(make_losses(net), net, ["0.weight"], x[:2])
    assert rows == [2, 3]  # the second tells which axis is that of the samples


class OneBackwardPass(torch.autograd.Function):
    """Lets go of what it has saved, whatever the caller asks for."""

    @staticmethod
    def forward(ctx, x):
        ctx.kept = x
        return x.square()

    @staticmethod
    def backward(ctx, gradient):
        if ctx.kept is None:
            raise RuntimeError("a second time")
        x, ctx.kept = ctx.kept, None
        return 2 * x * gradient


def test_operations_that_allow_one_backward_pass():
    torch.manual_seed(0)
    net, x = nn.Linear(3, 2).double(), torch.randn(5, 3).double()

    def losses(x):
        return OneBackwardPass.apply(net(x)).sum(dim=1)

    with frozen([net]):
        plan = plan_gradients(losses, net, ["weight"], x[:2])
        found = flatten_terms(per_sample_gradients(losses, net, x, plan))
        expected = _per_sample.looped_gradients(losses, net, {"weight": net.weight}, x)
    torch.testing.assert_close(found, expected["weight"])


def test_acting_through_a_part():
    net, x = build("mlp", torch.float64)

    def acts_through(run, names, part):
        with frozen([net]):
            trial = Trial(run, net, names, x[:2], part)
        return trial.acts_through(trial.result)

    losses = make_losses(net)
    assert acts_through(losses, ["0.weight"], net[0])
    assert acts_through(losses, ["0.weight"], net[2])
    assert not acts_through(losses, ["4.weight"], net[0])
    assert not acts_through(losses, ["0.weight", "4.bias"], net[2])
    assert not acts_through(lambda x: losses(x) + net[0].weight.sum(), ["0.weight"], net[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_terms_are_saved_as_arrays(dtype):
    terms = [
        Explicit(torch.randn(2, 6).to(dtype)),
        Outer(torch.randn(2, 1, 3, 4).to(dtype), torch.randn(2, 1, 3, 2).to(dtype)),
        Lookup(torch.tensor([[0, 1], [2, 2]]), torch.randn(2, 2, 3).to(dtype), 4),
    ]
    for term in terms:
        assert not any(torch.is_tensor(v) for v in term.__getstate__()["arrays"].values())
        for again in (pickle.loads(pickle.dumps(term)), copy.deepcopy(term)):
            assert again.values.dtype == dtype
            assert torch.equal(again.values, term.values)


# -- rows that belong to samples as the samples are --------------------------------------------


class Packing(nn.Module):
    """Runs only as many steps of a sample as there are before the padding."""

    def __init__(self, kind=nn.LSTM, uses="state", **params):
        super().__init__()
        self.rnn = kind(3, 4, batch_first=True, **params)
        self.inner, self.end, self.uses = nn.Linear(4, 4), nn.Linear(4, 3), uses
        self.sides = 2 if params.get("bidirectional") else 1

    def forward(self, x):
        lengths = (x != 0).any(dim=2).sum(dim=1)
        packed, states = self.rnn(
            pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        )
        if self.uses == "state":
            states = states[0] if isinstance(states, tuple) else states
            return self.end(sum(states[-self.sides :]).tanh())
        data = self.inner(packed.data.unflatten(1, (self.sides, 4)).sum(dim=1)).tanh()
        packed = PackedSequence(data, *packed[1:])
        steps, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
        return self.end(steps.sum(dim=1))


class Masking(nn.Module):
    """Takes out the rows that are no padding."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x):
        mask = (x != 0).any(dim=2)
        rows = self.a(x[mask]).tanh()
        out = x.new_zeros(*mask.shape, 4).masked_scatter(mask[..., None], rows)
        return self.b(out.sum(dim=1))


def padded(lengths):
    x = torch.randn(len(lengths), 4, 3, dtype=torch.float64)
    for row, length in zip(x, lengths, strict=True):
        row[length:] = 0
    return x


@pytest.mark.parametrize(
    "make",
    [
        Packing,
        partial(Packing, nn.GRU),
        partial(Packing, nn.RNN, bidirectional=True),
        partial(Packing, num_layers=2, bidirectional=True, uses="steps"),
        Masking,
    ],
)
@pytest.mark.parametrize("lengths", [[3, 1, 4, 2, 2, 4], [1, 1, 4, 2, 3, 1], [4, 4, 2, 2, 3, 1]])
def test_packed_and_masked_rows(make, lengths):
    """The trial's two samples may have equal numbers of rows, and others not."""
    torch.manual_seed(0)
    net, x = make().double(), padded(lengths)
    terms, plan = gradients(net, x)
    torch.testing.assert_close(flatten_terms(terms), obvious(net, x))
    assert not plan.layers and not plan.vectorised
    terms, _ = gradients(net, x, names=["end.bias" if make is not Masking else "a.weight"])
    assert flatten_terms(terms).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradients_of_half_precision_are_single(dtype):
    net, x = build("mlp", torch.float32)
    exact, _ = gradients(net.to(dtype).float(), x.to(dtype).float())
    terms, plan = gradients(net.to(dtype), x.to(dtype))
    found, expected = flatten_terms(terms), flatten_terms(exact)
    assert found.dtype == torch.float32 and not plan.rest
    scale = expected.abs().max()
    assert (found - expected).abs().max() <= 16 * torch.finfo(dtype).eps * scale
    assert gram_matrix(terms, terms).dtype == torch.float32
