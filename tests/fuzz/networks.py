"""Small networks drawn at random, of every kind there is a way to write one in torch."""

from dataclasses import dataclass, field

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from .blocks import Residual, Twice, activations, blocks, parametrised

N_UNITS = 3  # of every output


@dataclass
class Drawn:
    """A network, samples for it, and what is known of its layers.

    ``points`` are names of layers with the axis of their channels in one sample, None where every
    unit is a position. ``exact``: whether DeepLIFT's averages have no kinks in them.
    """

    net: nn.Module
    X: np.ndarray
    points: dict
    batch_axes: dict = field(default_factory=dict)
    exact: bool = True

    def __repr__(self):
        return f"{self.net}\non {self.X.dtype} {self.X.shape}"


def integers(low, high):
    return st.integers(low, high)


# -- vectors ---------------------------------------------------------------------------------------


@st.composite
def dense(draw):
    """Draw a network of vectors."""
    # Normalised, two numbers are a step, whose slope is rounding in float32.
    n_columns, size = draw(integers(2, 5)), draw(integers(3, 5))
    body = [draw(blocks(size)) for _ in range(draw(integers(1, 3)))]
    net = nn.Sequential(
        nn.Linear(n_columns, size), *body, nn.Dropout(0.3), nn.Linear(size, N_UNITS)
    )
    return net, (n_columns,), {"0": None, str(len(body)): None}, {}, True


# -- convolutions ----------------------------------------------------------------------------------

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAX_POOLS = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
MEAN_POOLS = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
ADAPTIVE = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveMaxPool3d}
BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORMS = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


class Flip(nn.Module):
    """Convolves with the samples' axes in another order of memory."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.movedim(1, -1).contiguous().movedim(-1, 1).flip(-1))


class Mean(nn.Module):
    def forward(self, h):
        return h.flatten(2).mean(dim=2)


def _run(layers, channels, sizes):
    with torch.no_grad():
        return nn.Sequential(*layers).eval()(torch.zeros(2, channels, *sizes))


@st.composite
def convolutional(draw, dims=None):
    """Draw a network of series, images or volumes."""
    dims = draw(integers(1, 3)) if dims is None else dims
    channels, width = draw(integers(1, 2)), 2 * draw(integers(1, 2))
    sizes = tuple(draw(integers(3, 6 if dims < 3 else 3)) for _ in range(dims))
    if dims == 3:
        sizes = (3, 3, draw(integers(3, 4)))
    mode = draw(st.sampled_from(["zeros", "reflect", "circular", "replicate"]))
    first = CONVS[dims](channels, width, 3, padding=1, padding_mode=mode)
    groups = draw(st.sampled_from([1, 2, width]))
    second = CONVS[dims](
        width,
        width,
        draw(st.sampled_from([1, 2])),
        groups=groups,
        dilation=draw(integers(1, 2)),
        stride=draw(integers(1, 2)),
        bias=draw(st.booleans()),
    )
    norms = {
        "none": nn.Identity(),
        "batch": BATCH_NORMS[dims](width),
        "instance": INSTANCE_NORMS[dims](width, affine=True),
        "group": nn.GroupNorm(2, width),
        "layer": nn.LayerNorm([width, *sizes]),
        "response": nn.LocalResponseNorm(2, alpha=1.0),
    }
    body = [
        parametrised(first, draw(st.sampled_from(["none", "none", "weight norm"]))),
        norms[draw(st.sampled_from(list(norms)))],
        draw(activations),
    ]
    kind = draw(st.sampled_from(["second", "residual", "twice", "transposed"]))
    third = nn.Sequential(CONVS[dims](width, width, 3, padding=1), draw(activations))
    body += {
        "second": [second],
        "residual": [Residual(third), second],
        "twice": [Twice(third), second],
        "transposed": [TRANSPOSED[dims](width, width, 2, stride=2, groups=groups)],
    }[kind]
    pools = {
        "none": nn.Identity(),
        "max": MAX_POOLS[dims](2, ceil_mode=True),
        "mean": MEAN_POOLS[dims](2, ceil_mode=True),
        "adaptive": ADAPTIVE[dims](2),
    }
    body.append(draw(activations))
    fitting = (
        list(pools) if min(_run(body, channels, sizes).shape[2:]) > 1 else ["none", "adaptive"]
    )
    body.append(pools[draw(st.sampled_from(fitting))])
    h = _run(body, channels, sizes)
    if draw(st.booleans()):
        body += [nn.Flatten(), nn.Linear(h[0].numel(), N_UNITS)]
    else:
        body += [Mean(), nn.Linear(width, N_UNITS)]
    net = nn.Sequential(*body)
    if draw(st.booleans()) and mode == "zeros":
        net = Flip(net)
        return net, (channels, *sizes), {"inner.0": 0}, {}, True
    return net, (channels, *sizes), {"0": 0}, {}, True


# -- series ----------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """A recurrent layer, of which the last step, all steps or the state are read."""

    def __init__(self, cell, channels, size, batch_first, read, **options):
        super().__init__()
        self.rnn = cell(channels, size, batch_first=batch_first, **options)
        n_states = self.rnn.num_layers * (2 if self.rnn.bidirectional else 1)
        width = size * (2 if self.rnn.bidirectional else 1)
        self.head = nn.Linear(size * n_states if read == "state" else width, N_UNITS)
        self.read, self.batch_first = read, batch_first

    def forward(self, x):
        out, state = self.rnn(x if self.batch_first else x.transpose(0, 1))
        time = 1 if self.batch_first else 0
        if self.read == "state":
            state = state[0] if isinstance(state, tuple) else state
            return self.head(state.transpose(0, 1).flatten(1))
        return self.head(out.select(time, -1) if self.read == "last" else out.mean(dim=time))


class Seq2Seq(nn.Module):
    """The state of an encoder starts a decoder, which reads the series or zeros."""

    def __init__(self, cell, channels, size, batch_first, reads):
        super().__init__()
        self.rnn = cell(channels, size, batch_first=batch_first)
        self.decoder = cell(channels, size, batch_first=batch_first)
        self.head = nn.Linear(size, N_UNITS)
        self.batch_first, self.reads = batch_first, reads

    def forward(self, x):
        x = x if self.batch_first else x.transpose(0, 1)
        _, state = self.rnn(x)
        out, _ = self.decoder(x if self.reads else torch.zeros_like(x), state)
        return self.head(out.mean(dim=1 if self.batch_first else 0))


class Cells(nn.Module):
    """A cell, step by step, written into a tensor or kept."""

    def __init__(self, cell, channels, size, writes):
        super().__init__()
        self.cell, self.head, self.writes = cell(channels, size), nn.Linear(size, N_UNITS), writes

    def forward(self, x):
        state, steps = None, x.new_zeros(len(x), x.shape[1], self.cell.hidden_size)
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
            h = state[0] if isinstance(state, tuple) else state
            if self.writes:
                steps[:, t] = h
        return self.head(steps.mean(dim=1) if self.writes else h)


@st.composite
def recurrent(draw):
    """Draw a network with memory."""
    n_steps, channels, size = draw(integers(2, 5)), draw(integers(1, 3)), draw(integers(2, 3))
    batch_first, points, axes, exact = draw(st.booleans()), {"rnn": -1}, {}, True
    kind = draw(st.sampled_from(["layer", "layer", "states", "cells"]))
    if kind == "cells":
        cell = draw(st.sampled_from([nn.LSTMCell, nn.GRUCell, nn.RNNCell]))
        net = Cells(cell, channels, size, draw(st.booleans()))
        return net, (n_steps, channels), {"head": None}, axes, exact
    cell = draw(st.sampled_from([nn.LSTM, nn.GRU, nn.RNN]))
    if kind == "states":
        net = Seq2Seq(cell, channels, size, batch_first, draw(st.booleans()))
        points = {"decoder": -1}
    else:
        options = {"num_layers": draw(integers(1, 2)), "bidirectional": draw(st.booleans())}
        if cell is nn.RNN and draw(st.booleans()):
            options["nonlinearity"], exact = "relu", False
        read = draw(st.sampled_from(["last", "all", "state"]))
        net = Recurrent(cell, channels, size, batch_first, read, **options)
        if read == "state":
            points = {"head": None}
    if not batch_first and "head" not in points:
        axes = dict.fromkeys(points, 1)
    return net, (n_steps, channels), points, axes, exact


class SelfAttention(nn.Module):
    """Attention in one of the ways that it is written."""

    def __init__(self, size, n_heads, way):
        super().__init__()
        self.way = way
        if way in ("batch first", "time first"):
            self.attention = nn.MultiheadAttention(size, n_heads, batch_first=way == "batch first")
        else:
            self.maps = nn.Linear(size, 3 * size)

    def forward(self, h):
        if self.way == "batch first":
            return self.attention(h, h, h, need_weights=False)[0]
        if self.way == "time first":
            h = h.transpose(0, 1)
            return self.attention(h, h, h)[0].transpose(0, 1)
        q, k, v = self.maps(h).chunk(3, dim=-1)
        if self.way == "fused":
            return F.scaled_dot_product_attention(q, k, v)
        scores = torch.einsum("bqd,bkd->bqk", q, k) / q.shape[-1] ** 0.5
        return torch.einsum("bqk,bkd->bqd", scores.softmax(dim=-1), v)

    def extra_repr(self):
        return self.way


@st.composite
def attentive(draw):
    """Draw a network of tokens."""
    n_steps, channels = draw(integers(2, 4)), draw(integers(1, 3))
    n_heads, size = draw(integers(1, 2)), 4
    if draw(st.booleans()):
        block = nn.TransformerEncoderLayer(
            size,
            n_heads,
            4,
            dropout=0.1,
            batch_first=True,
            norm_first=draw(st.booleans()),
            activation=draw(st.sampled_from(["relu", "gelu"])),
        )
    else:
        ways = st.sampled_from(["batch first", "time first", "fused", "einsum"])
        block = Residual(SelfAttention(size, n_heads, draw(ways)))
    after = draw(blocks(size, ("none", "layer", "rms", "length")))
    net = nn.Sequential(nn.Linear(channels, size), block, after, Tokens(), nn.Linear(size, N_UNITS))
    return net, (n_steps, channels), {"0": -1}, {}, True


class Tokens(nn.Module):
    def forward(self, h):
        return h.mean(dim=1)


FAMILIES = {
    "dense": dense(),
    "convolutional": convolutional(),
    "recurrent": recurrent(),
    "attentive": attentive(),
}


@st.composite
def networks(draw):
    """Draw a network of any family, with weights and samples."""
    family = FAMILIES[draw(st.sampled_from(list(FAMILIES)))]
    seed = draw(integers(0, 2**16))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net, shape, points, axes, exact = draw(family)
        net = net.double()
        with torch.no_grad():
            for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
                if "running_var" in name:
                    tensor.uniform_(0.5, 2.0)
                elif tensor.dim() == 1 and tensor.is_floating_point() and "parametriz" not in name:
                    tensor.add_(0.3 * torch.randn_like(tensor))
        net.eval()
    # Often as many samples as another axis has entries.
    n_samples = draw(st.sampled_from(sorted({*shape, 1, N_UNITS, 4})))
    X = np.random.default_rng(seed).normal(size=(n_samples, *shape))
    if draw(st.booleans()):
        net, X = net.float(), X.astype(np.float32)
    return Drawn(net, X, points, axes, exact)
