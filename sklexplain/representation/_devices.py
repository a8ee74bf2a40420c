"""Where a representation's network runs."""

import torch

from ..layers import copied
from ..utils import warn
from ._modules import stages
from ._session import checked_device


def moved(chain, device, loaded=False):
    """Bring a torch path to where it is to run; the user's network stays where it is.

    Parameters
    ----------
    chain : nn.Module
        The torch path; its steps that are ours are moved in place.
    device : str, torch.device or None
        Where the network is to run. None: where it is.
    loaded : bool, default=False
        Whether it was fitted before, perhaps on another machine.

    Returns
    -------
    chain : nn.Module
        A copy, if the networks have to be moved.
    device : torch.device

    Raises
    ------
    ValueError
        If the networks have no weights, or those of inference mode.
    """
    networks = stages(chain)
    tensors = [t for net in networks for t in (*net.parameters(), *net.buffers())]
    own = tensors[0].device if tensors else torch.device("cpu")
    wanted = own if device is None else _wanted(device, own, loaded)
    if own.type == "meta":
        raise ValueError("the network is on the meta device, where it has no weights; load it.")
    if any(t.is_inference() for t in tensors):
        raise ValueError(
            "the network was made in torch.inference_mode(), where nothing has a gradient; "
            "load its state_dict() into one made outside."
        )
    where = own
    if networks and wanted != own:
        # Moving a module moves its parameters in place: so it is a copy that is moved.
        chain, where = copied(chain).to(wanted), wanted
        networks = stages(chain)
    ours = set(chain.modules()).difference(*(net.modules() for net in networks))
    for module in ours:
        for name, buffer in module._buffers.items():
            module._buffers[name] = buffer.to(where)
    return chain, where


def _wanted(device, own, loaded):
    """Where the network is to run: where it is, if what was fitted elsewhere is loaded here."""
    try:
        return checked_device(device)
    except ValueError:
        if not loaded:
            raise
    warn(f"what was fitted with device={str(device)!r} runs on {own}: torch finds none such here.")
    return own
