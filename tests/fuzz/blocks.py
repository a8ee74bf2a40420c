"""Blocks of networks drawn at random, from vectors to vectors."""

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

# -- activations -----------------------------------------------------------------------------------


class Act(nn.Module):
    """An activation, as users write it."""

    def __init__(self, name):
        super().__init__()
        self.name = name
        self.module = {"prelu": nn.PReLU, "silu in place": lambda: nn.SiLU(inplace=True)}.get(
            name, nn.Identity
        )()

    def forward(self, h):
        return ACTIVATIONS[self.name](self, h)

    def extra_repr(self):
        return self.name


def _ignored(_, h):
    F.relu(h, inplace=True)
    return h


ACTIVATIONS = {
    "tanh": lambda _, h: torch.tanh(h),
    "relu": lambda _, h: F.relu(h),
    "relu_": lambda _, h: h.relu_(),
    "relu in place, ignored": _ignored,
    "sigmoid_": lambda _, h: h.sigmoid_(),
    "tanh_": lambda _, h: torch.tanh_(h),
    "clamp_": lambda _, h: h.clamp_(-0.5, 0.7),
    "gelu": lambda _, h: F.gelu(h),
    "silu in place": lambda act, h: act.module(h),
    "elu": lambda _, h: F.elu(h),
    "softplus": lambda _, h: F.softplus(h),
    "leaky": lambda _, h: F.leaky_relu(h, 0.2),
    "prelu": lambda act, h: act.module(h),
    "softsign": lambda _, h: F.softsign(h),
    "where": lambda _, h: torch.where(h > 0, h, torch.expm1(h)),
    "mask": lambda _, h: h * (h > 0),
    "sine": lambda _, h: h.sin(),
    "square": lambda _, h: h**2,
}
activations = st.sampled_from(list(ACTIVATIONS)).map(Act)

# -- linear maps with their weight made of other numbers -------------------------------------------

PARAMETRISATIONS = {
    "none": lambda layer: layer,
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}
parametrisations = st.sampled_from(["none", "none", "none", "none", *PARAMETRISATIONS])


def parametrised(layer, way):
    return PARAMETRISATIONS[way](layer)


# -- blocks of vectors -----------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, h):
        return h + self.inner(h)


class Twice(nn.Module):
    """One module, called twice."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, h):
        return self.inner(self.inner(h))


class Gate(nn.Module):
    """A product of two activations."""

    def __init__(self, size):
        super().__init__()
        self.value, self.gate = nn.Linear(size, size), nn.Linear(size, size)

    def forward(self, h):
        return self.value(h) * torch.sigmoid(self.gate(h))


class Experts(nn.Module):
    """Two experts, mixed or one for each sample; the other one has no gradient then."""

    def __init__(self, size, routed):
        super().__init__()
        self.router = nn.Linear(size, 2)
        self.experts = nn.ModuleList(nn.Linear(size, size) for _ in range(2))
        self.routed, self.jumps = routed, routed != "mixed"

    def forward(self, h):
        weights = self.router(h).softmax(dim=-1)
        if self.routed == "mixed":
            return sum(weights[..., i : i + 1] * e(h) for i, e in enumerate(self.experts))
        first = weights[..., :1] > 0.5
        if self.routed == "indexed":
            first, out = first[..., 0], torch.zeros_like(h)
            out[first] = self.experts[0](h[first])
            out[~first] = self.experts[1](h[~first]).tanh()
            return out
        return torch.where(first, self.experts[0](h), self.experts[1](h).tanh())

    def extra_repr(self):
        return self.routed


class Glu(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.inner = nn.Linear(size, 2 * size)

    def forward(self, h):
        return F.glu(self.inner(h), dim=-1)


class UnitLength(nn.Module):
    def forward(self, h):
        return F.normalize(h, dim=-1)


NORMS = {
    "none": lambda size: nn.Identity(),
    "layer": nn.LayerNorm,
    "rms": nn.RMSNorm,
    "batch": nn.BatchNorm1d,
    "group": lambda size: nn.GroupNorm(1, size),
    "length": lambda size: UnitLength(),
}


@st.composite
def stages(draw, size, norms=tuple(NORMS)):
    """Draw a linear layer and what follows on it."""
    return nn.Sequential(
        parametrised(nn.Linear(size, size), draw(parametrisations)),
        NORMS[draw(st.sampled_from(norms))](size),
        draw(activations),
    )


@st.composite
def blocks(draw, size, norms=tuple(NORMS)):
    """Draw a block from vectors to vectors of the same size."""
    kinds = ["stage", "stage", "residual", "twice", "gate", "glu", "mixed", "routed", "indexed"]
    kind = draw(st.sampled_from(kinds))
    if kind == "gate":
        return Gate(size)
    if kind == "glu":
        return Glu(size)
    if kind in ("mixed", "routed", "indexed"):
        return Experts(size, kind)
    stage = draw(stages(size, norms))
    return {"stage": lambda s: s, "residual": Residual, "twice": Twice}[kind](stage)
