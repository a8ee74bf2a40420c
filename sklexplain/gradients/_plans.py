"""Which way the gradients of every parameter are taken: plain data, and bound to a network.

A plan names layers and parameters instead of holding them. So it can be kept and saved, and serves
every view of the network, and every copy of it that has parts of the same names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from ..utils import Registration
from ._layers import (
    attention,
    batch_norm,
    convolution,
    embedding,
    group_norm,
    layer_norm,
    linear,
    transposed_convolution,
)
from ._own_rules import OwnRule
from ._recurrent import recurrent
from ._typing import Rule

_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: linear,
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.ConvTranspose1d: transposed_convolution,
    nn.ConvTranspose2d: transposed_convolution,
    nn.BatchNorm1d: batch_norm,
    nn.BatchNorm2d: batch_norm,
    nn.BatchNorm3d: batch_norm,
    nn.LayerNorm: layer_norm,
    nn.GroupNorm: group_norm,
    nn.Embedding: embedding,
    nn.MultiheadAttention: attention,
    nn.LSTM: recurrent,
    nn.GRU: recurrent,
    nn.RNN: recurrent,
}
_LIBRARY_RULES = {rule.__name__ for rule in _RULES.values()}


def rule_of(layer: nn.Module) -> Rule | None:
    """Rule that covers a layer, see `_layers`; None if there is none."""
    # That of a subclass comes before that of what it was made of.
    return next((_RULES[kind] for kind in type(layer).__mro__ if kind in _RULES), None)


def register_gradient_rule(
    kind: type[nn.Module], rule: Callable[..., dict[str, torch.Tensor]]
) -> Registration:
    """Add a rule for a layer of one's own; see `sklexplain.extending.register_gradient_rule`."""
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise TypeError(f"kind={kind!r} must be a class of layers, a subclass of nn.Module.")
    if not callable(rule):
        raise TypeError(f"rule={rule!r} must be callable.")
    return Registration(_RULES, kind, OwnRule(rule), f"a gradient rule of {kind.__name__}")


@dataclass(frozen=True)
class GradientPlan:
    """How to get the gradients of every parameter, by names.

    Attributes
    ----------
    parameters : list of str
        The chosen ones, in the order of the gradients.
    n_parameters : int
        Length of a gradient.
    layers : dict of str to str
        Layers whose rules are used, and the rules' names.
    axes : dict of str to list of int
        For those layers, the axis of the input that follows the samples, in every call of a pass.
    by_rule : list of str
        Parameters whose gradients come from rules, or are zero.
    unused : list of str
        Those among them that no gradient reached in the trial. A gate or a branch may let one
        through for other samples, which is looked at in every batch.
    rest : list of str
        Parameters whose gradients are taken one sample at a time.
    vectorised : bool
        Whether ``torch.vmap`` can do that.
    bytes_per_sample : int
        Bytes that the gradients of a sample take.
    """

    parameters: list
    n_parameters: int
    layers: dict = field(default_factory=dict)
    axes: dict = field(default_factory=dict)
    by_rule: list = field(default_factory=list)
    unused: list = field(default_factory=list)
    rest: list = field(default_factory=list)
    vectorised: bool = False
    bytes_per_sample: int = 1

    def bound(self, module: nn.Module) -> BoundPlan:
        """Find the layers and parameters in a network, without running it.

        Parameters
        ----------
        module : nn.Module
            The network that the plan was made for, or a view or copy of it.

        Returns
        -------
        bound : BoundPlan
            Not to be kept longer than the network's session.

        Raises
        ------
        ValueError
            If the network has other parts than when the plan was made, or a rule of the user's is
            missing.
        """
        parts, named = dict(module.named_modules()), dict(module.named_parameters())
        for name in self.parameters:
            if name not in named:
                raise ValueError(_other_network(module, f"parameter {name!r}"))
        layers = {}
        for name, rule in self.layers.items():
            found = rule_of(parts[name]) if name in parts else None
            if found is None and name in parts and rule not in _LIBRARY_RULES:
                raise ValueError(
                    f"layer {name!r} was fitted with the gradient rule {rule!r}, which is not "
                    "registered here: call sklexplain.extending.register_gradient_rule, or fit "
                    "again."
                )
            if found is None or found.__name__ != rule:
                raise ValueError(_other_network(module, f"layer {name!r} of the same kind"))
            layers[parts[name]] = (found, self.axes[name])
        return BoundPlan(self, {name: named[name] for name in self.parameters}, layers)


def _other_network(module: nn.Module, missing: str) -> str:
    return (
        f"{type(module).__name__} no longer has the {missing}: parts of it have been replaced "
        "since the explainer was fitted; fit it again."
    )


class BoundPlan:
    """A plan with one network's own layers and parameters.

    Parameters
    ----------
    plan : GradientPlan
        The plan.
    parameters : dict of str to torch.Tensor
        The chosen ones, in the order of the gradients.
    layers : dict of nn.Module to (callable, list of int)
        Layers whose rules are used, the rules, and the axes of samples by call.
    """

    def __init__(
        self,
        plan: GradientPlan,
        parameters: dict[str, nn.Parameter],
        layers: dict[nn.Module, tuple[Rule, list[int]]],
    ) -> None:
        self.plan, self.parameters, self.layers = plan, parameters, layers
        self.names_of = {id(p): name for name, p in parameters.items()}
