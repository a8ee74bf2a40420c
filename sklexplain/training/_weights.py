"""New random weights for a network."""

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
        Its weights are replaced; those that no ``reset_parameters`` draws become NaN.
    """
    # In eval mode: a parametrization that keeps something between passes (spectral norm, for
    # example) must not update it from weights that are not drawn yet.
    with torch.no_grad(), evaluating(module):
        parametrized = {part: _drawn_plain(part) for part in module.modules()}
        for parameter in module.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
            parameter.grad = None
            if parameter.is_floating_point():
                parameter.fill_(torch.nan)
        # Inner modules first, as those around them may adapt their weights.
        for part in reversed(list(module.modules())):
            for name in ("reset_parameters", "_reset_parameters"):
                if callable(getattr(part, name, None)):
                    getattr(part, name)()
                    break
            for name, weight in parametrized[part].items():
                setattr(part, name, weight)
            _take_over_weight_norm(part)


def _drawn_plain(part):
    """Newly drawn weights of a parametrized layer (weight_norm, for example), by name.

    A parametrized layer has no plain parameter ``weight`` any more: its class was replaced by a
    subclass whose ``weight`` is computed from other parameters, so ``reset_parameters`` would draw
    into a temporary tensor. The plain weights are therefore drawn by a stand-in: an object of the
    original class that has the layer's attributes and ordinary parameters of the same shapes.
    Assigning the result to the layer (`draw_weights`) then lets each parametrization find the
    parameters that give these weights, by its ``right_inverse``.

    Parameters
    ----------
    part : nn.Module
        Any module; it is not changed.

    Returns
    -------
    weights : dict of str to torch.Tensor
        Empty for a module that is not parametrized.
    """
    if not is_parametrized(part) or not hasattr(part, "reset_parameters"):
        return {}
    # torch puts one class in front of the original one, which is therefore the first base.
    plain_class = type(part).__bases__[0]
    plain = plain_class.__new__(plain_class)
    vars(plain).update(vars(part))
    weights = {name: torch.empty_like(getattr(part, name)) for name in part.parametrizations}
    plain._modules = {k: v for k, v in part._modules.items() if k != "parametrizations"}
    plain._parameters = {**part._parameters, **{k: nn.Parameter(w) for k, w in weights.items()}}
    plain.reset_parameters()
    return {name: getattr(plain, name).detach() for name in weights}


def _take_over_weight_norm(part):
    """Set direction and length to those of the drawn weight, for the hook-based weight_norm."""
    for hook in part._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm) and hasattr(part, "reset_parameters"):
            weight = getattr(part, hook.name).detach()
            getattr(part, f"{hook.name}_v").copy_(weight)
            length = torch.norm_except_dim(weight, 2, hook.dim)
            getattr(part, f"{hook.name}_g").copy_(length)


def undrawn(module):
    """Names of the weights that `draw_weights` could not draw."""
    return [name for name, p in module.named_parameters() if torch.isnan(p).any()]
