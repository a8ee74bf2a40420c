"""Per-sample gradients in the parameters of recurrent layers.

The layer is run again, one time step after another, which gives the gradients of its gates:
at every time step the weights are matrices applied to the step's input and to the state before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ._layers import LayerCall, NoRule
from ._terms import Explicit, Outer
from ._typing import Pair


def recurrent(call: LayerCall, grads: Sequence[Any], n: int, _axis: int) -> Iterator[Pair]:
    """Rule of ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN``.

    Parameters
    ----------
    call : LayerCall
        Of a layer in eval mode.
    grads : list of torch.Tensor or None
        Gradients of the output sequence and of the last states.
    n : int
        Number of samples.
    _axis : int
        Not used: the layer knows which axis follows the samples.

    Yields
    ------
    parameter, term : nn.Parameter, Outer or Explicit
        Its per-sample gradients.

    Raises
    ------
    NoRule
        For packed sequences, single sequences and projected states.
    """
    layer, x = call.layer, call.input
    if x.dim() != 3 or layer.proj_size:
        raise NoRule
    x = x.transpose(0, 1) if layer.batch_first else x
    if x.shape[1] != n:
        raise NoRule
    states = call.args[1] if len(call.args) > 1 else call.kwargs.get("hx")
    with torch.enable_grad():
        outputs, taps = _run(layer, x, _detached(states))
    if layer.batch_first:
        outputs[0] = outputs[0].transpose(0, 1)
    # The gradients of outputs that are not used are None.
    used = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None]
    gates = [t for _, step_gates, hidden, _ in taps for t in (step_gates, *hidden)]
    of_gates = torch.autograd.grad(
        [o for o, _ in used], gates, [g for _, g in used], allow_unused=True
    )
    pairs = zip(gates, of_gates, strict=True)
    of_gates = [torch.zeros_like(t) if g is None else g for t, g in pairs]
    n_steps = len(x)
    for number, (suffix, _, _, (inputs, before)) in enumerate(taps):
        start = number * (n_steps + 1)
        of_inputs = of_gates[start]
        of_states = torch.stack(of_gates[start + 1 : start + 1 + n_steps])
        yield from _terms(layer, f"ih_{suffix}", inputs, of_inputs)
        yield from _terms(layer, f"hh_{suffix}", before, of_states)


def _terms(layer: nn.RNNBase, name: str, a: torch.Tensor, b: torch.Tensor) -> Iterator[Pair]:
    """Gradients of a weight and a bias from (time, n, ...)."""
    a, b = a.detach().transpose(0, 1), b.transpose(0, 1)
    yield getattr(layer, f"weight_{name}"), Outer(a.unsqueeze(1), b.unsqueeze(1))
    if layer.bias:
        yield getattr(layer, f"bias_{name}"), Explicit(b.sum(dim=1))


def _detached(states: Any) -> tuple[torch.Tensor, ...] | None:
    if isinstance(states, tuple):
        return tuple(s.detach() for s in states)
    return None if states is None else (states.detach(),)


def _run(
    layer: nn.RNNBase, x: torch.Tensor, states: tuple[torch.Tensor, ...] | None
) -> tuple[list[torch.Tensor], list[tuple[Any, ...]]]:
    """Return what the layer returns, and for each of its parts the gates and their inputs."""
    n_directions = 2 if layer.bidirectional else 1
    n_states = 2 if isinstance(layer, nn.LSTM) else 1
    if states is None:
        shape = (layer.num_layers * n_directions, x.shape[1], layer.hidden_size)
        states = (x.new_zeros(shape),) * n_states
    taps, last = [], []
    for k in range(layer.num_layers):
        sides = []
        for direction in range(n_directions):
            suffix = f"l{k}" + ("_reverse" if direction else "")
            start = [s[k * n_directions + direction] for s in states]
            steps = x.flip(0) if direction else x
            out, final, gates = _run_cell(layer, suffix, steps, start)
            taps.append((suffix, *gates))
            sides.append(out.flip(0) if direction else out)
            last.append(final)
        x = torch.cat(sides, dim=2)
    return [x, *(torch.stack(states) for states in zip(*last, strict=True))], taps


def _run_cell(
    layer: nn.RNNBase, suffix: str, x: torch.Tensor, states: list[torch.Tensor]
) -> tuple[torch.Tensor, list[torch.Tensor], tuple[Any, ...]]:
    """Run one direction of one layer over (time, n, width)."""
    weights = [getattr(layer, f"weight_{w}_{suffix}").detach() for w in ("ih", "hh")]
    biases = (None, None)
    if layer.bias:
        biases = [getattr(layer, f"bias_{w}_{suffix}").detach() for w in ("ih", "hh")]
    of_inputs = _with_gradient(functional.linear(x, weights[0], biases[0]))
    step = next(step for kind, step in _STEPS.items() if isinstance(layer, kind))
    outputs, of_states, before = [], [], []
    for gates in of_inputs:
        before.append(states[0])
        of_states.append(_with_gradient(functional.linear(states[0], weights[1], biases[1])))
        states = step(layer, gates, of_states[-1], states)
        outputs.append(states[0])
    gates = (of_inputs, of_states, (x, torch.stack(before)))
    return torch.stack(outputs), states, gates


def _with_gradient(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.requires_grad else tensor.requires_grad_()


def _lstm_step(
    _layer: nn.RNNBase, x: torch.Tensor, h: torch.Tensor, states: list[torch.Tensor]
) -> list[torch.Tensor]:
    into, forget, cell, out = (x + h).chunk(4, dim=1)
    c = forget.sigmoid() * states[1] + into.sigmoid() * cell.tanh()
    return [out.sigmoid() * c.tanh(), c]


def _gru_step(
    _layer: nn.RNNBase, x: torch.Tensor, h: torch.Tensor, states: list[torch.Tensor]
) -> list[torch.Tensor]:
    (xr, xz, xn), (hr, hz, hn) = x.chunk(3, dim=1), h.chunk(3, dim=1)
    keep = (xz + hz).sigmoid()
    new = (xn + (xr + hr).sigmoid() * hn).tanh()
    return [(1 - keep) * new + keep * states[0]]


def _rnn_step(
    layer: nn.RNNBase, x: torch.Tensor, h: torch.Tensor, _states: list[torch.Tensor]
) -> list[torch.Tensor]:
    return [(x + h).tanh() if layer.nonlinearity == "tanh" else (x + h).relu()]


_STEPS = {nn.LSTM: _lstm_step, nn.GRU: _gru_step, nn.RNN: _rnn_step}
