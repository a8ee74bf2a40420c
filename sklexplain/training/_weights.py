"""Weights drawn anew."""

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.weight_norm import WeightNorm

from ._modes import evaluating


def draw_weights(module):
    """Draw every weight anew, by the ``reset_parameters`` of each submodule.

    Parameters
    ----------
    module : nn.Module
        What cannot be drawn becomes NaN in it.
    """
    # In eval mode: what a parametrization keeps between passes must not see what is not drawn yet.
    with torch.no_grad(), evaluating(module):
        parametrized = {part: _drawn_plain(part) for part in module.modules()}
        for parameter in module.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
            parameter.grad = None
            if parameter.is_floating_point():
                parameter.fill_(torch.nan)
        # Parts first: what holds them may adapt them.
        for part in reversed(list(module.modules())):
            for name in ("reset_parameters", "_reset_parameters"):
                if callable(getattr(part, name, None)):
                    getattr(part, name)()
                    break
            for name, weight in parametrized[part].items():
                setattr(part, name, weight)
            _take_over_weight_norm(part)


def _drawn_plain(part):
    """Newly drawn weights of a parametrized layer (weight_norm, for example), by name."""
    if not is_parametrized(part) or not hasattr(part, "reset_parameters"):
        return {}
    # Parametrizations are of the class, which the user's layer shares: a stand-in of the class
    # below it has plain weights.
    plain_class = type(part).__bases__[0]
    plain = plain_class.__new__(plain_class)
    vars(plain).update(vars(part))
    weights = {name: torch.empty_like(getattr(part, name)) for name in part.parametrizations}
    plain._modules = {k: v for k, v in part._modules.items() if k != "parametrizations"}
    plain._parameters = {**part._parameters, **{k: nn.Parameter(w) for k, w in weights.items()}}
    plain.reset_parameters()
    return {name: getattr(plain, name).detach() for name in weights}


def _take_over_weight_norm(part):
    """Make direction and length of the weight that was drawn, where the old weight_norm is used."""
    for hook in part._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm) and hasattr(part, "reset_parameters"):
            weight = getattr(part, hook.name).detach()
            getattr(part, f"{hook.name}_v").copy_(weight)
            length = torch.norm_except_dim(weight, 2, hook.dim)
            getattr(part, f"{hook.name}_g").copy_(length)


def undrawn(module):
    """Names of the weights that `draw_weights` could not draw."""
    return [name for name, p in module.named_parameters() if torch.isnan(p).any()]
