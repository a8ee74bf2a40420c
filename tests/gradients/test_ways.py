"""Samples that take other ways through the network than those that the plan was made with."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from sklexplain.gradients import (
    flatten_terms,
    gram_matrix,
    join_terms,
    joins_within,
    per_sample_gradients,
    plan_gradients,
)
from sklexplain.gradients._per_sample import looped_gradients, per_sample_products
from sklexplain.gradients._sets import interleave_terms, own_gram_matrix
from sklexplain.gradients._terms import Explicit, Lookup, Outer
from sklexplain.gradients._totals import adds_up

WAYS = ("mask", "rows", "where")


class Experts(nn.Module):
    """Each sample goes to one of two experts, by the sign of its first number."""

    def __init__(self, of="layers", by="mask"):
        super().__init__()
        kind = nn.Linear if of == "layers" else lambda i, o: nn.ParameterList([torch.randn(o, i)])
        self.a, self.b, self.by = kind(4, 4), kind(4, 4), by

    def run(self, expert, x):
        return expert(x) if isinstance(expert, nn.Linear) else (x @ expert[0].T).tanh()

    def forward(self, x):
        chosen = x[..., 0] > 0
        if self.by == "where":
            return torch.where(chosen[..., None], self.run(self.a, x), self.run(self.b, x))
        out = torch.zeros_like(x)
        for expert, mine in ((self.a, chosen), (self.b, ~chosen)):
            if not mine.any():
                continue
            if self.by == "mask":
                out = torch.index_put(out, (mine,), self.run(expert, x[mine]))
            else:
                rows = mine.nonzero().squeeze(1)
                out = out.index_copy(0, rows, self.run(expert, x[rows]))
        return out


class Gated(nn.Module):
    """A second use of a weight, and parameters of their own, behind a gate or a branch."""

    def __init__(self, gate):
        super().__init__()
        self.layer, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
        self.scale, self.gate = nn.Parameter(torch.randn(4)), gate

    def forward(self, x):
        y, negative = self.layer(x).tanh(), x[:, :1] < 0
        if self.gate == "branch" and not negative.any():
            return y
        share = (-x[:, :1]).relu() if self.gate == "relu" else negative.to(x.dtype)
        more = x.tanh() @ self.layer.weight.T + self.scale * x + self.other(x).square()
        return y + share * more


class Sorting(nn.Module):
    """Looks at the samples of a batch in the order of their sums."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        order = x.sum(dim=1).argsort()
        return self.outer(self.inner(x[order]).tanh()[order.argsort()])


class RarelySorting(nn.Module):
    """Takes rows of samples apart if there is a negative one."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        rows, first = x.reshape(-1, 4), x.reshape(-1, 4)[:, 0] > 0
        if first.all():
            return self.layer(rows).reshape(x.shape)
        out = self.layer(torch.cat([rows[first], rows[~first]]))
        back = torch.cat([first.nonzero(), (~first).nonzero()]).squeeze(1).argsort()
        return out[back].reshape(x.shape)


class TimeFirst(nn.Module):
    def __init__(self, flat=False):
        super().__init__()
        self.layer, self.norm, self.flat = nn.Linear(4, 4), nn.LayerNorm(4), flat

    def forward(self, x):
        steps = x.transpose(0, 1)
        if self.flat:  # the samples are neither the first axis nor a later one
            return self.norm(self.layer(steps.reshape(-1, 4)).tanh()).reshape(steps.shape).mean(0)
        return self.norm(self.layer(steps).tanh()).sum(dim=0)


def losses_of(net):
    def losses(x):
        return net(x.clone()).flatten(1).square().mean(dim=1) + net(x).flatten(1).sum(dim=1).sin()

    return losses


def checked(net, x, n_tried=2):
    """Compare gradients with a loop, every sample on its own scale."""
    net = net.double().eval().requires_grad_(False)
    losses, named = losses_of(net), dict(net.named_parameters())
    plan = plan_gradients(losses, net, list(named), x[:n_tried])
    for batch in (x, x[:n_tried], x[-1:], x.flip(0)[:4]):
        found = flatten_terms(per_sample_gradients(losses, net, batch, plan))
        expected = torch.cat(list(looped_gradients(losses, net, named, batch).values()), dim=1)
        size = expected.abs().amax(dim=1, keepdim=True)
        assert ((found - expected).abs() <= 1e-11 * size).all()
    return plan


def positive(n, *shape):
    """Samples whose last is unlike the others."""
    x = torch.randn(n, *shape, dtype=torch.float64).abs()
    x[-1] *= -1
    return x


@pytest.mark.parametrize(
    "make",
    [
        *(partial(Experts, of, by) for of in ("layers", "plain") for by in WAYS),
        lambda: Gated("relu"),
        lambda: Gated("zero"),
        lambda: Gated("branch"),
    ],
)
def test_other_ways_are_seen_in_every_batch(make):
    """The trial's samples are all positive; an outlier hides nothing."""
    x = positive(7, 4)
    x[1] *= 1e4
    checked(make(), x)


def test_experts_of_single_time_steps():
    plan = checked(Experts(by="mask"), torch.randn(6, 3, 4, dtype=torch.float64))
    assert not plan.layers  # whatever rows there are, they are no samples


def test_rows_that_are_only_sometimes_taken_apart():
    plan = checked(RarelySorting(), positive(6, 3, 4))
    assert plan.layers


def test_samples_in_another_order():
    """Sums cannot tell, but the trial's samples can, if there are some."""
    x = torch.randn(9, 4, dtype=torch.float64)
    x[:2] = torch.tensor([[-9.0], [9.0]])  # in order
    assert checked(Sorting(), x, n_tried=6).rest == ["inner.weight", "inner.bias"]


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("n_steps", [2, 4, 6])
def test_the_axis_of_samples_is_the_one_that_grows(n_steps, flat):
    """Batches of as many samples as there are steps, or units, are among those checked."""
    for n in (n_steps, 4, 6):
        plan = checked(TimeFirst(flat), torch.randn(n, n_steps, 4, dtype=torch.float64))
        assert bool(plan.rest) == flat


def test_gradients_that_cancel_in_the_sum():
    """A parameter that the trial did not use, by two samples that are opposites."""

    class Opposites(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.shift = nn.Linear(4, 4), nn.Parameter(torch.randn(4))

        def forward(self, x):
            far = (x[:, :1].abs() > 2) * x.sign()
            return self.layer(x) + far * self.shift if far.any() else self.layer(x)

    net = Opposites().double().requires_grad_(False)

    def losses(x):
        return net(x).sum(dim=1)

    x = torch.full((4, 4), 0.5, dtype=torch.float64)
    x[2], x[3] = 3, -3
    plan = plan_gradients(losses, net, ["layer.weight", "shift"], x[:2])
    assert plan.unused == ["shift"]
    found = per_sample_gradients(losses, net, x, plan)["shift"].values
    torch.testing.assert_close(found[:, 0], torch.tensor([0.0, 0, 1, -1]).double())


@pytest.mark.parametrize("make", [Experts, lambda: Gated("relu"), lambda: Gated("branch")])
def test_products_of_outputs_by_other_ways(make):
    net, x = make().double().requires_grad_(False), positive(7, 4)
    names = [name for name, _ in net.named_parameters()]
    plan = plan_gradients(losses_of(net), net, names, x[:2])
    directions = [torch.randn(7, 4).double() for _ in range(3)]
    found = per_sample_products(net, net, x, plan, directions)
    for terms, direction in zip(found, directions, strict=True):
        for i in range(7):
            single = copy.deepcopy(net).requires_grad_(True)
            (single(x[i : i + 1]) * direction[i]).sum().backward()
            for name, p in single.named_parameters():
                wanted = torch.zeros_like(p) if p.grad is None else p.grad
                torch.testing.assert_close(terms[name].values[i], wanted.flatten())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_totals(dtype):
    """One missing sample of many is noticed, rounding is not."""
    terms = [
        Explicit(torch.randn(500, 6).to(dtype)),
        Outer(torch.randn(500, 2, 3, 4).to(dtype), torch.randn(500, 2, 3, 2).to(dtype)),
        Lookup(torch.randint(0, 4, (500, 3)), torch.randn(500, 3, 3).to(dtype), 4),
    ]
    for term in terms:
        total = term.values.flip(0).sum(dim=0)
        assert adds_up(term, total)
        assert not adds_up(term, total - term.values[7])
        assert not adds_up(term, total * float("nan"))
        assert not adds_up(term, None)
    assert adds_up(Explicit(torch.zeros(3, 2)), torch.zeros(2))


class Rare(nn.Module):
    """Samples with a large first number use a weight again, in one of several ways."""

    def __init__(self, again):
        super().__init__()
        self.layer, self.again = nn.Linear(4, 4), again

    def forward(self, x):
        y, rare = self.layer(x).tanh(), x[:, :1] > 5
        if not rare.any():
            return y
        if self.again == "product":
            return torch.where(rare, y + x @ self.layer.weight.T @ self.layer.weight, y)
        if self.again == "positions":
            return torch.where(rare, y + self.layer(x.cos()), y)
        y = y.clone()
        y[rare[:, 0]] = self.layer(x[rare[:, 0]].clamp(-5, 5))
        return y


@pytest.mark.parametrize("again", ["product", "positions", "rows"])
def test_batches_with_rare_samples_are_joined(again):
    torch.manual_seed(0)
    net, x = Rare(again), torch.randn(12, 4)
    x[10, 0] = 9.0

    def losses(batch):
        return net(batch).square().sum(dim=1)

    plan = plan_gradients(losses, net, list(dict(net.named_parameters())), x[:3])
    parts = [per_sample_gradients(losses, net, part, plan) for part in x.split(4)]
    expected = flatten_terms(per_sample_gradients(losses, net, x, plan))
    alone = [flatten_terms(per_sample_gradients(losses, net, row[None], plan)) for row in x]
    torch.testing.assert_close(expected, torch.cat(alone))
    joined = join_terms(parts)
    torch.testing.assert_close(flatten_terms(joined), expected)
    gram = expected @ expected.T
    for first in parts:
        found = gram_matrix(joined, first)
        torch.testing.assert_close(found, expected @ flatten_terms(first).T)
    torch.testing.assert_close(own_gram_matrix(joined), gram)
    mixed = interleave_terms([parts[0], parts[2]])
    both = torch.stack([expected[:4], expected[8:]], dim=1).flatten(0, 1)
    torch.testing.assert_close(flatten_terms(mixed), both)
    assert joins_within(parts[:2], 0)


def test_terms_in_any_forms_are_joined_and_multiplied():
    torch.manual_seed(0)
    outer = Outer(torch.randn(3, 1, 2, 4), torch.randn(6, 1, 2, 5))
    longer = Outer(torch.randn(2, 1, 3, 4), torch.randn(2, 1, 3, 5))
    table = Lookup(torch.randint(5, (3, 2)), torch.randn(3, 2, 4), 5)
    wider = Lookup(torch.randint(5, (2, 4)), torch.randn(2, 4, 4), 5)
    explicit = Explicit(torch.randn(3, 20))
    terms = [outer, longer, table, wider, explicit]
    for first in terms:
        for second in terms:
            parts = [{"w": first}, {"w": second}]
            expected = torch.cat([first.values, second.values])
            torch.testing.assert_close(join_terms(parts)["w"].values, expected)
            gram = gram_matrix(*parts)
            torch.testing.assert_close(gram, first.values @ second.values.T)
            kept = type(first) is type(second)
            assert joins_within(parts, 0) == kept
            assert isinstance(join_terms(parts)["w"], type(first) if kept else Explicit)
