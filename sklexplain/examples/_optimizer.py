"""Settings of a skorch net's optimizer, for single parameters."""

from ..layers import plain_name


def of_groups(network, names, key, default):
    """Find a setting of the parameter groups that hold some parameters.

    Parameters
    ----------
    network : Network
        The session's.
    names : list of str
        Names of its parameters.
    key : str
        "lr" or "weight_decay".
    default : float
        Without an optimizer.

    Returns
    -------
    values : dict of str to float
        By name; 0 for what no group holds, which training has not moved.
    """
    groups = getattr(getattr(network.net, "optimizer_", None), "param_groups", None)
    if not groups:
        return dict.fromkeys(names, float(default))
    held = {id(p): float(group.get(key, 0.0)) for group in groups for p in group["params"]}
    theirs = {}
    for name, parameter in network.users_module.named_parameters():
        if id(parameter) in held:
            theirs[plain_name(name, names)] = held[id(parameter)]
    if not theirs and len(groups) == 1:  # weights were replaced since
        return dict.fromkeys(names, float(groups[0].get(key, 0.0)))
    return {name: theirs.get(name, 0.0) for name in names}
