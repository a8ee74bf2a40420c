"""Passes of a network over a few samples, by which the plans of gradients are decided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..exceptions import WrongGradientRuleWarning
from ..utils import warn
from ._own_rules import OwnRule
from ._per_sample import (
    completed,
    looped_gradients,
    recorded_calls,
    requiring_gradients,
    rule_gradients,
    vmapped_gradients,
)
from ._plans import GradientPlan, rule_of
from ._sets import terms_bytes
from ._typing import Batch, Term
from ._watching import VaryingRows, sample_axis

# A rule that is wrong for a layer is wrong by more than rounding.
_TOLERANCE = {torch.float64: 1e-7, torch.float16: 1e-2, torch.bfloat16: 5e-2}
_MAX_ROUNDING = 1e-3


@dataclass
class Watched:
    """One output of a watched module.

    Attributes
    ----------
    output : object
        What it returned.
    edge : (object, int) or None
        Where everything that uses the output leaves the graph before it; None if it has no
        gradient.
    """

    output: Any
    edge: tuple | None = None


class Trial:
    """One pass of a network over a few samples, in which gradients reach layers and parameters.

    Gradients of a sample's loss are those of one entry of the batch's losses: that samples do not
    depend on each other is to be checked before, as `Representation` does. So one forward pass is
    enough to compare the layers' rules with a loop over samples, for any function of what the pass
    computes. A second one, over a sample more and without gradients, tells which axis of a layer's
    input follows the samples: the one that has become longer.

    Parameters
    ----------
    run : callable
        Runs ``module`` on a batch. What it returns is in ``result``.
    module : nn.Module
        The network, in eval mode and without gradients of parameters.
    names : iterable of str
        Names of parameters, as in ``module.named_parameters()``.
    x : torch.Tensor of shape (n, ...)
        Two samples or more.
    watched : nn.Module or None, default=None
        A part of the network whose outputs are kept in ``watched``.

    Attributes
    ----------
    module, x, names
        As above.
    parameters : dict of str to torch.Tensor
        The chosen ones, in the order of ``names``.
    result : object
        What ``run`` returned.
    watched : list of Watched
        What the watched part returned, call by call.
    """

    def __init__(
        self,
        run: Callable[..., Any],
        module: nn.Module,
        names: Iterable[str],
        x: Batch,
        watched: nn.Module | None = None,
    ) -> None:
        named = dict(module.named_parameters())
        self.module, self.x, self.names = module, x, list(names)
        self.parameters = {name: named[name] for name in self.names}
        self._tensors = list(self.parameters.values())
        chosen = {id(p) for p in self._tensors}
        self._layers = {
            name: layer
            for name, layer in module.named_modules()
            # Rules of attention cover the parameters of a layer inside it.
            if rule_of(layer) is not None and any(id(p) in chosen for p in layer.parameters())
        }
        self.watched: list[Watched] = []
        handle = None if watched is None else watched.register_forward_hook(self._watch)
        try:
            with (
                recorded_calls(self._layers.values()) as calls,
                requiring_gradients(self._tensors),
                torch.enable_grad(),
                VaryingRows() as varying,
            ):
                self.result = run(x)
        finally:
            if handle is not None:
                handle.remove()
        self._calls = calls
        self._axes = {} if varying.seen else self._axes_of_samples(run)
        self._layers = {n: layer for n, layer in self._layers.items() if layer in self._axes}

    def _axes_of_samples(self, run: Callable[..., Any]) -> dict[nn.Module, list[int]]:
        """Axes of the samples in the inputs of layers, call by call; without unclear ones."""
        n = len(self.x)
        with recorded_calls(self._layers.values()) as more, torch.enable_grad():
            run(self.x[[*range(n), 0]])
        axes: dict[nn.Module, list[int]] = {}
        for layer in self._layers.values():
            ours, theirs = ([c for c in calls if c.layer is layer] for calls in (self._calls, more))
            found: list[Any] = [sample_axis(a, b, n) for a, b in zip(ours, theirs, strict=False)]
            if len(ours) == len(theirs) and None not in found:
                axes[layer] = found or [0]
        return axes

    def _watch(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        if not isinstance(output, torch.Tensor):
            self.watched.append(Watched(output))
            return output
        # A copy has a place of its own in the graph, also if it is changed in place afterwards.
        passed_on = output.clone()
        edge = (passed_on.grad_fn, passed_on.output_nr) if passed_on.requires_grad else None
        self.watched.append(Watched(output, edge))
        return passed_on

    def acts_through(self, values: torch.Tensor) -> bool:
        """Tell whether the parameters act on values through the watched part's outputs only.

        Parameters
        ----------
        values : torch.Tensor
            Computed in the pass.

        Returns
        -------
        acts_through : bool
        """
        ends = {watched.edge for watched in self.watched}
        chosen = {id(p) for p in self._tensors}
        todo, seen = [(values.grad_fn, values.output_nr)], set()
        while todo:
            edge = todo.pop()
            node = edge[0]
            if node is None or edge in ends or node in seen:
                continue
            if id(getattr(node, "variable", None)) in chosen:
                return False
            seen.add(node)
            todo.extend(node.next_functions)
        return True

    def plan(
        self, values: torch.Tensor, function: Callable[..., Any], x: Batch | None = None
    ) -> GradientPlan:
        """Decide how gradients are taken, by comparing every way with a loop.

        Parameters
        ----------
        values : torch.Tensor of shape (n,)
            One number a sample, computed in the pass.
        function : callable
            From a batch to those values, running the network. It is only run for parameters that no
            rule covers.
        x : torch.Tensor or None, default=None
            The function's argument, if it is not the pass's.

        Returns
        -------
        plan : GradientPlan
        """
        x = self.x if x is None else x
        # First, as operations of one's own may allow a single backward pass.
        grads = self._layer_gradients(values)
        expected, unused = self._looped(values, function, x)
        terms = self._agreeing(grads, expected)
        self._tell_of_wrong_rules({*terms, *unused})
        covered = [name for name in self.names if name in terms or name in unused]
        rest = [name for name in self.names if name not in covered]
        served = {id(self.parameters[name]) for name in covered}
        layers = {
            name: layer
            for name, layer in self._layers.items()
            if any(id(p) in served for p in layer.parameters())
        }
        open_ones = {name: self.parameters[name] for name in rest}
        all_terms = completed(dict(terms), self.parameters, len(values))
        return GradientPlan(
            parameters=self.names,
            n_parameters=sum(p.numel() for p in self._tensors),
            layers={
                name: rule.__name__
                for name, layer in layers.items()
                if (rule := rule_of(layer)) is not None
            },
            axes={name: self._axes[layer] for name, layer in layers.items()},
            by_rule=covered,
            unused=[name for name in covered if name not in terms],
            rest=rest,
            vectorised=bool(rest) and self._vmap_works(function, open_ones, x, expected),
            bytes_per_sample=max(1, terms_bytes(all_terms) // len(values)),
        )

    def _looped(
        self, values: torch.Tensor, function: Callable[..., Any], x: Batch
    ) -> tuple[dict[str, torch.Tensor], set[str]]:
        """Gradients sample by sample, and names of the parameters that values do not depend on."""
        out = {n: p.new_zeros(len(values), p.numel()) for n, p in self.parameters.items()}
        unused = set(self.names)
        if not values.requires_grad:
            return out, unused
        for i in range(len(values)):
            try:
                with requiring_gradients(self._tensors), torch.enable_grad():
                    grads = torch.autograd.grad(
                        values[i], self._tensors, retain_graph=True, allow_unused=True
                    )
            except RuntimeError:
                return looped_gradients(function, self.module, self.parameters, x), set()
            for name, gradient in zip(self.names, grads, strict=True):
                if gradient is not None:
                    out[name][i] = gradient.to_dense().flatten()
                    unused.discard(name)
        return out, unused

    def _layer_gradients(self, values: torch.Tensor) -> tuple[torch.Tensor | None, ...] | None:
        """Gradients of the batch's values in all outputs of layers; None if there are none."""
        edges = [edge for call in self._calls for edge in call.edges]
        if not edges or not values.requires_grad:
            return None
        ones = torch.ones_like(values)
        try:
            return torch.autograd.grad(values, edges, ones, retain_graph=True, allow_unused=True)
        except RuntimeError:  # then without rules
            return None

    def _agreeing(
        self, grads: Sequence[torch.Tensor | None] | None, expected: dict[str, torch.Tensor]
    ) -> dict[str, Term]:
        """Gradients by rules, where they are those of the loop."""
        if grads is None:
            return {}
        layers = {
            layer: (rule, self._axes[layer])
            for layer in self._layers.values()
            if (rule := rule_of(layer)) is not None
        }
        names_of = {id(p): name for name, p in self.parameters.items()}
        terms = rule_gradients(layers, names_of, self._calls, grads, len(self.x))
        return {name: t for name, t in terms.items() if _agree(t.values, expected[name])}

    def _tell_of_wrong_rules(self, covered: Set[str]) -> None:
        """Warn of rules of the user's that do not give what the loop gives."""
        for name, layer in self._layers.items():
            own = {f"{name}.{p}" if name else p for p, _ in layer.named_parameters(recurse=False)}
            wrong, rule = sorted(own.intersection(self.parameters) - covered), rule_of(layer)
            if wrong and isinstance(rule, OwnRule):
                warn(
                    f"the gradient rule {rule.__name__!r} of {type(layer).__name__} "
                    f"{name!r} fails, or differs from gradients sample by sample, in "
                    f"{', '.join(wrong)}: it is not used there, and gradients are taken in a "
                    "slower way.",
                    WrongGradientRuleWarning,
                )

    def _vmap_works(
        self,
        function: Callable[..., Any],
        parameters: dict[str, nn.Parameter],
        x: Batch,
        expected: dict[str, torch.Tensor],
    ) -> bool:
        try:
            found = vmapped_gradients(function, self.module, parameters, x)
        except Exception:  # whatever a network's code makes of vmap's tensors
            return False
        return all(_agree(found[name], expected[name]) for name in parameters)


def _agree(found: torch.Tensor, expected: torch.Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    tolerance = _TOLERANCE.get(expected.dtype, _MAX_ROUNDING)
    # Sample by sample: what is small beside an outlier may still be wrong.
    sizes = expected.abs().amax(dim=1, keepdim=True)
    allowed = tolerance * sizes + 64 * torch.finfo(expected.dtype).eps * sizes.max()
    return bool(((found - expected).abs() <= allowed).all())


def plan_gradients(
    losses: Callable[..., Any], module: nn.Module, names: Iterable[str], x: Batch
) -> GradientPlan:
    """Decide how the gradients of chosen parameters are taken, by passes over a few samples.

    Parameters
    ----------
    losses : callable
        From a batch (n, ...) to one loss a sample (n,), running ``module``; a sample's loss does
        not depend on the other samples.
    module : nn.Module
        The network, in eval mode and without gradients of parameters.
    names : iterable of str
        Names of parameters, as in ``module.named_parameters()``.
    x : torch.Tensor of shape (n, ...)
        Two samples or more.

    Returns
    -------
    plan : GradientPlan

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklexplain.gradients import gram_matrix, per_sample_gradients, plan_gradients
    >>> net = nn.Sequential(nn.Linear(3, 2), nn.Tanh()).requires_grad_(False)
    >>> x = torch.eye(3)
    >>> def losses(x):
    ...     return net(x).square().sum(dim=1)
    >>> plan = plan_gradients(losses, net, ["0.weight", "0.bias"], x[:2])
    >>> plan.layers
    {'0': 'linear'}
    >>> gradients = per_sample_gradients(losses, net, x, plan)
    >>> gram_matrix(gradients, gradients).shape
    torch.Size([3, 3])
    """
    trial = Trial(losses, module, names, x)
    return trial.plan(trial.result, losses)
