"""Run a network up to a named layer."""

import re
from contextlib import contextmanager

import torch

from ..utils import did_you_mean

_PATH = re.compile(r"^(?P<name>[^\[\]]*)(?P<items>(\[-?\d+\])*)$")


class _LayerReached(Exception):
    """Ends a forward pass once the wanted activations are computed."""


def parse_path(path):
    """Split ``"rnn[1][0]"`` into the submodule's name and the items of its output.

    Parameters
    ----------
    path : str
        A name as in ``named_modules()``, followed by any number of ``[integer]``.

    Returns
    -------
    name : str
    items : tuple of int

    Raises
    ------
    ValueError
        If the path does not have that form.

    Examples
    --------
    >>> parse_path("rnn[1][0]")
    ('rnn', (1, 0))
    """
    match = _PATH.match(path)
    if match is None:
        raise ValueError(
            f"layer={path!r} is not a layer path; write a submodule's name as in "
            "named_modules(), and pick from a tuple by its position: 'rnn[1][0]'."
        )
    items = tuple(int(i) for i in re.findall(r"-?\d+", match["items"]))
    return match["name"], items


def unknown_layer(name, known, parameter="layer"):
    """Build the error for a layer name that does not exist, with the nearest ones that do."""
    known = [k for k in known if k]
    hint = did_you_mean(name, known, n=3)
    listed = ", ".join(map(repr, known[:20])) + (", …" if len(known) > 20 else "")
    return ValueError(
        f"{parameter}={name!r} is not a submodule of the network.{hint} Layers: {listed}."
    )


def pick(output, items, where):
    """Take one tensor out of a module's (possibly nested) output.

    Parameters
    ----------
    output : tensor or nested tuple, list or dict of tensors
        What the module returned.
    items : tuple of int
        Positions, outermost first.
    where : str
        The layer's name, for the error message.

    Returns
    -------
    tensor : torch.Tensor

    Raises
    ------
    ValueError
        If a position does not exist, or leads to something other than a single tensor.
    """
    for item in items:
        is_nested = isinstance(output, (tuple, list, dict))
        if not is_nested or not -len(output) <= item < len(output):
            raise ValueError(f"the output of layer {where!r} has no item [{item}].")
        output = list(output.values())[item] if isinstance(output, dict) else output[item]
    if not isinstance(output, torch.Tensor):
        size = len(output) if isinstance(output, (tuple, list, dict)) else type(output).__name__
        raise ValueError(
            f"the output of layer {where!r} is not one tensor but {type(output).__name__} "
            f"({size}); name the part to explain: layer='{where}[0]', layer='{where}[1]', …"
        )
    return output


def batch_axis(two, three, what):
    """Find the one axis that follows the samples, the others being fixed.

    Parameters
    ----------
    two, three : tuple of int
        Shapes of the output for two and for three samples.
    what : str
        What has this output, for the error message.

    Returns
    -------
    axis : int

    Raises
    ------
    ValueError
        If there is no such axis.
    """
    if len(two) == len(three):
        differing = [i for i, n in enumerate(two) if n != three[i]]
        if len(differing) == 1 and (two[differing[0]], three[differing[0]]) == (2, 3):
            return differing[0]
    raise ValueError(
        f"{what} returned shape {two} for two samples and {three} for three: there must be one "
        "axis of its output that follows the samples, else it gives them no representation."
    )


def run_to(call, module, x, n_calls=1, at="output"):
    """Output or input of a submodule during ``call(x)``, which is run no further than needed.

    Parameters
    ----------
    call : callable
        Runs the network on ``x``.
    module : torch.nn.Module
        The submodule. It may be called several times; its last call counts.
    x : torch.Tensor
        The network's input.
    n_calls : int or None, default=1
        Number of times ``module`` is called in one pass; the pass ends there. None runs to the
        end and counts.
    at : {"output", "input"}, default="output"
        Whether to look at what the submodule returns, or at its first argument.

    Returns
    -------
    output : object
        What the submodule returned (or received) in that call, None if it was not called.
    count : int
        Number of calls.
    """
    seen = []

    def see(value):
        seen[:] = [value, seen[1] + 1 if seen else 1]
        if seen[1] == n_calls:
            raise _LayerReached

    with _watching(module, at, see):
        try:
            call(x)
        except _LayerReached:
            pass
    return (seen[0], seen[1]) if seen else (None, 0)


def run_through(call, module, x, items=(), where="", at="output"):
    """Activations of a submodule during ``call(x)``, and what the call returns.

    Parameters
    ----------
    call, module, x, at
        See `run_to`; the submodule's last call counts.
    items : tuple of int, default=()
        Which item of what it returned; see `pick`.
    where : str, default=""
        The layer's name, for error messages.

    Returns
    -------
    activations : torch.Tensor
        A copy, so that a later operation in place leaves it as it is.
    output : object
        What the call returned.
    """
    seen = []

    def see(value):
        seen[:] = [pick(value, items, where).clone()]

    with _watching(module, at, see):
        output = call(x)
    return seen[0], output


@contextmanager
def _watching(module, at, see):
    """Hand what a module returns, or its first argument, to a function in every call."""

    def after(_module, _args, output):
        see(output)

    def before(_module, args, kwargs):
        see(args[0] if args else next(iter(kwargs.values())))

    if at == "output":
        handle = module.register_forward_hook(after)
    else:
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
