"""Whether a method has the parameters that it is given, and a model what the method needs."""

from ..utils import check_choice, check_positive_int
from ._methods import METHODS, PERTURBATION_METHODS, RECORDS


def checked_params(method, changes):
    """Fill a method's parameters up with defaults, and refuse what it does not have.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    changes : dict or None
        Values that differ from the defaults.

    Returns
    -------
    params : dict

    Raises
    ------
    ValueError
        If a parameter is unknown or out of range.
    TypeError
        If a number of steps or samples is not an integer.
    """
    params = dict(RECORDS[method].params)
    for name, value in (changes or {}).items():
        if not params:
            raise ValueError(f"method_params={changes}: method={method!r} has no parameters.")
        check_choice(f"method_params key for {method!r}", name, params)
        params[name] = value
    for name in ("n_steps", "n_samples"):
        if params.get(name) is not None:
            check_positive_int(f"method_params[{name!r}]", params[name])
    for name in ("noise_level", "alpha", "kernel_width"):
        if name in params and not params[name] > 0:
            raise ValueError(f"method_params[{name!r}]={params[name]} must be positive.")
    return params


def check_gradients(method, reason):
    """Raise a TypeError if a method needs gradients and there are none.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    reason : str or None
        Why there are none; None if there are.

    Raises
    ------
    TypeError
        Naming the methods that need none.
    """
    if RECORDS[method].needs_gradients and reason is not None:
        raise TypeError(
            f"method={method!r} needs gradients, but {reason}; use one of "
            f"{list(PERTURBATION_METHODS)}."
        )


def check_operations(method, reason):
    """Raise a TypeError if a method follows a network's operations and cannot see them.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    reason : str or None
        Why they cannot be seen; None if they can.

    Raises
    ------
    TypeError
        Naming a method that needs gradients only.
    """
    if RECORDS[method].follows_operations and reason is not None:
        others = [name for name, other in METHODS.items() if not other.follows_operations]
        raise TypeError(
            f"method={method!r} follows the operations of a network, but {reason} Or use one of "
            f"{others}."
        )
