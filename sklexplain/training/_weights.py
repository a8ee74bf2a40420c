"""New random weights for a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ._modes import evaluating

_N_SETTLING = 15  # torch's own number of steps for a new spectral norm


def draw_weights(module: nn.Module) -> None:
    """Draw every weight anew, by the ``reset_parameters`` of each submodule.

    Parameters
    ----------
    module : nn.Module
        Its weights are replaced; those that no ``reset_parameters`` draws become NaN.
    """
    # In eval mode: a parametrization that keeps something between passes (spectral norm, for
    # example) must not update it from weights that are not drawn yet.
    with torch.no_grad(), evaluating(module):
        plain = {part: _drawn_plain(part) for part in module.modules()}
        for parameter in module.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
            parameter.grad = None
            if parameter.is_floating_point():
                parameter.fill_(torch.nan)
        # Inner modules first, as those around them may adapt their weights.
        for part in reversed(list(module.modules())):
            _draw_own(part, plain[part])


def draw_part(part: nn.Module, network: nn.Module) -> None:
    """Draw the weights of one layer anew, by its ``reset_parameters``, and no others.

    Layers inside of it are kept, although its method may reset them, and so are those that it
    shares parameters with, which are its own from then on. A container without parameters of its
    own draws what its method draws.

    Parameters
    ----------
    part : nn.Module
        The layer.
    network : nn.Module
        What it is a part of.

    Raises
    ------
    ValueError
        If one of the weights that the layer computes with is the same as before.
    """
    own = _own_parts(part)
    with torch.no_grad(), evaluating(part):
        _part_from(own, network)
        before = effective_weights(own)
        inside = [
            (tensor, tensor.clone())
            for child in part.modules()
            if child not in own
            for tensor in [*child._parameters.values(), *child._buffers.values()]
            if tensor is not None
        ]
        _draw_own(part, _drawn_plain(part))
        for tensor, value in inside:
            tensor.copy_(value)
        _check_drawn(before, effective_weights(own))


def _own_parts(part: nn.Module) -> list[nn.Module]:
    """Return the layer, with what parametrises it; a container with all that is inside."""
    computed = list(getattr(part, "parametrizations", {}).values())
    own = [part, *(m for c in computed for m in c.modules())]
    if any(p is not None for m in own for p in m._parameters.values()):
        return own
    return list(part.modules())


def _part_from(own: list[nn.Module], network: nn.Module) -> None:
    """Give parts of a network their own copies of parameters that other parts use, too."""
    others = {id(p) for m in network.modules() if m not in own for p in m._parameters.values()}
    for part in own:
        for name, p in part._parameters.items():
            if p is not None and id(p) in others:
                part._parameters[name] = nn.Parameter(p.clone(), requires_grad=p.requires_grad)


def effective_weights(parts: Iterable[Any]) -> dict[tuple[int, str], torch.Tensor]:
    """Weights that modules compute with (what is computed, if parametrised) and running statistics.

    Parameters
    ----------
    parts : list of nn.Module
        The modules, each without what is inside.

    Returns
    -------
    weights : dict of (int, str) to torch.Tensor
        Copies, by the position of the module and the name of the weight.
    """
    weights = {}
    for i, part in enumerate(parts):
        if isinstance(part, nn.utils.parametrize.ParametrizationList):
            continue
        for hook in part._forward_pre_hooks.values():
            if isinstance(hook, (WeightNorm, SpectralNorm, BasePruningMethod)):
                hook(part, None)  # computes the weight, as it does before every call
        names: dict[str, Any] = dict(part._parameters)
        hidden: set[str] = set()
        for name, value in vars(part).items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                names[name] = value
                hidden |= {name + ending for ending in ("_orig", "_g", "_v")}
        names |= {name: b for name, b in part._buffers.items() if name.startswith("running_")}
        if is_parametrized(part):
            names |= {name: getattr(part, name) for name in part.parametrizations}
        for name, value in names.items():
            if value is not None and name not in hidden:
                weights[i, name] = value.detach().clone()
    return weights


def _check_drawn(
    before: dict[tuple[int, str], torch.Tensor], after: dict[tuple[int, str], torch.Tensor]
) -> None:
    """Raise if a matrix is the same as before, or, without matrices, all weights are."""
    same = [key for key, weight in after.items() if _is_same(before.get(key), weight)]
    kept = [name for i, name in same if after[i, name].dim() > 1]
    if not any(weight.dim() > 1 for weight in after.values()) and len(same) == len(after):
        kept = [name for _, name in same]
    if kept:
        raise ValueError(
            f"its weights {', '.join(map(repr, kept))} are the same after reset_parameters as "
            "before: it does not draw them, or what they are computed from (a parametrization, a "
            "pruning mask) makes them what they were"
        )


def _is_same(old: torch.Tensor | None, new: torch.Tensor) -> bool:
    # What is NaN was not drawn either: there is no way back through a parametrization.
    return bool(torch.isnan(new).any()) or (old is not None and torch.equal(old, new))


def _draw_own(part: nn.Module, plain: dict[str, torch.Tensor]) -> None:
    """Draw a module's own weights, ``plain`` being those of a parametrized one."""
    reset = _reset_of(part)
    if reset is None:
        return
    computed = list(_computed(part))
    for weight, _ in computed:
        weight.fill_(torch.nan)
    reset()
    for name, weight in plain.items():
        _take_over(part, name, weight)
    for weight, originals in computed:
        _take_over_computed(weight, originals, part)
    _settle(part)


def _reset_of(part: nn.Module) -> Any:
    """Return the method that draws a module's weights, None if it has none."""
    for name in ("reset_parameters", "_reset_parameters"):
        if callable(getattr(part, name, None)):
            return getattr(part, name)
    return None


def _drawn_plain(part: Any) -> dict[str, torch.Tensor]:
    """Newly drawn weights of a parametrized layer (weight_norm, for example), by name.

    A parametrized layer has no plain parameter ``weight`` any more: its class was replaced by a
    subclass whose ``weight`` is computed from other parameters, so ``reset_parameters`` would draw
    into a temporary tensor. The plain weights are therefore drawn by a stand-in: an object of the
    original class that has the layer's attributes and ordinary parameters of the same shapes.
    Assigning the result to the layer (`_take_over`) then lets each parametrization find the
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
    if not is_parametrized(part) or _reset_of(part) is None:
        return {}
    # torch puts one class in front of the original one, which is therefore the first base.
    plain_class: Any = type(part).__bases__[0]
    plain = plain_class.__new__(plain_class)
    vars(plain).update(vars(part))
    weights = {name: torch.empty_like(getattr(part, name)) for name in part.parametrizations}
    plain._modules = {k: v for k, v in part._modules.items() if k != "parametrizations"}
    plain._parameters = {**part._parameters, **{k: nn.Parameter(w) for k, w in weights.items()}}
    _reset_of(plain)()
    return {name: getattr(plain, name).detach() for name in weights}


def _take_over(part: Any, name: str, weight: torch.Tensor) -> None:
    """Set the parameters of a parametrized weight to those that give a drawn one, if possible."""
    try:
        setattr(part, name, weight)
    except (NotImplementedError, RuntimeError):  # it has no right_inverse
        originals = part.parametrizations[name]
        original = getattr(originals, "original", None)
        if original is None or original.shape != weight.shape:
            return  # stays NaN, which is an error where the weight matters
        original.copy_(weight)


def _computed(part: nn.Module) -> Iterator[tuple[torch.Tensor, dict[str, nn.Parameter]]]:
    """Weights that a hook computes before every call, with what it computes them of.

    Old weight_norm and spectral_norm and pruning do that: ``weight`` is no parameter, but an
    attribute, made of ``weight_orig``, or of ``weight_g`` and ``weight_v``.

    Parameters
    ----------
    part : nn.Module
        Any module.

    Yields
    ------
    weight : torch.Tensor
        The attribute.
    originals : dict of str to nn.Parameter
        By what their names add to the attribute's.
    """
    for name, value in vars(part).items():
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            continue
        endings = ("_orig", "_g", "_v")
        originals = {e: part._parameters.get(name + e) for e in endings}
        originals = {e: p for e, p in originals.items() if p is not None}
        if "_orig" in originals or len(originals) == 2:
            yield value, originals


def _take_over_computed(
    weight: torch.Tensor, originals: dict[str, nn.Parameter], part: nn.Module
) -> None:
    """Set what a weight is computed of to what gives the weight that was drawn."""
    if "_orig" in originals:
        # Drawn into the attribute, or into the parameters themselves by recurrent layers.
        if not torch.isnan(weight).any():
            originals["_orig"].copy_(weight)
        return
    direction = originals["_v"]
    if not torch.isnan(weight).any():
        direction.copy_(weight)
    for hook in part._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm) and getattr(part, f"{hook.name}_v") is direction:
            originals["_g"].copy_(torch.norm_except_dim(direction, 2, hook.dim))


def _settle(part: Any) -> None:
    """Let spectral norms find the largest singular values of weights that were drawn anew.

    They keep an estimate of the singular vectors, and improve it a little in every pass of
    training. That of other weights may be so far off that weights are divided by almost zero.

    Parameters
    ----------
    part : nn.Module
        Any module.
    """
    hooks = [h for h in part._forward_pre_hooks.values() if isinstance(h, SpectralNorm)]
    names = []
    if is_parametrized(part):
        names = [n for n, p in part.parametrizations.items() if any(True for _ in p.buffers())]
    if not hooks and not names:
        return
    modes = [(m, m.training) for m in part.modules()]
    try:
        for m, _ in modes:
            m.training = True
        for _ in range(_N_SETTLING):
            for hook in hooks:
                hook(part, None)
            for name in names:
                getattr(part, name)
    finally:
        for m, mode in modes:
            m.training = mode


def undrawn(module: nn.Module) -> list[str]:
    """Names of the weights that `draw_weights` could not draw."""
    return [name for name, p in module.named_parameters() if torch.isnan(p).any()]
