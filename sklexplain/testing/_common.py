"""Helpers of the checks: fitting, comparing, and looking at networks."""

import numbers
from contextlib import contextmanager
from inspect import Parameter, isroutine, signature

import numpy as np
import torch
from sklearn.base import clone
from torch import nn

from ..representation import torch_modules

RTOL = 1e-4

# Parameters that say how much work is done at once, not what is computed.
RESOURCES = frozenset({"batch_size", "max_bytes", "n_jobs", "verbose"})

_NO_RESULTS = ("fit", "get_metadata_routing", "get_params", "set_", "partial_fit", "initialize")


def fit(estimator, X, y=None):
    """Fit a clone."""
    return refit(clone(estimator), X, y)


def refit(estimator, X, y=None):
    """Fit the estimator itself."""
    return estimator.fit(X) if y is None else estimator.fit(X, y)


def dense(values):
    """Return an array, whatever the container."""
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values)


def assert_close(actual, desired, what):
    """Compare by the largest value, as single precision allows."""
    actual, desired = dense(actual), dense(desired)
    if actual.shape != desired.shape:
        raise AssertionError(f"{what}: shape {actual.shape} instead of {desired.shape}")
    actual, desired = actual.astype(np.float64), desired.astype(np.float64)
    same = (actual == desired) | (np.isnan(actual) & np.isnan(desired))
    if same.all():
        return
    scale = np.abs(desired).max() or 1.0
    error = np.abs(actual - desired)[~same].max() / scale
    if not error <= RTOL:
        raise AssertionError(f"{what}: differs by {error:.2g} of the largest value")


def assert_raises(errors, words, call, what):
    """Expect an error whose message has the words."""
    try:
        call()
    except errors as error:
        missing = [word for word in words if word.lower() not in str(error).lower()]
        if missing:
            raise AssertionError(f"{what}: the message lacks {missing}: {error}") from error
    else:
        raise AssertionError(f"{what}: no error")


def results(fitted, X, y=None):
    """Everything that a fitted estimator returns or has, by name, as arrays.

    Parameters
    ----------
    fitted : estimator
        The estimator.
    X, y : array-like
        Samples and targets to ask about.

    Returns
    -------
    results : dict of str to ndarray
        Of transform, score and every fitted attribute that holds numbers.
    """
    found = {"transform": dense(fitted.transform(X))}
    if hasattr(fitted, "score"):
        needs_y = signature(fitted.score).parameters.get("y")
        if y is not None:
            found["score"] = np.asarray(fitted.score(X, y))
        elif needs_y is None or needs_y.default is not Parameter.empty:
            found["score"] = np.asarray(fitted.score(X))
    for name in fitted_names(fitted):
        for path, value in _numbers(name, getattr(fitted, name, None)):
            found[path] = value
    return found


def fitted_names(fitted):
    """Names of public fitted attributes, computed ones among them."""
    names = {n for n in vars(fitted)} | {
        n for n in dir(type(fitted)) if isinstance(getattr(type(fitted), n, None), property)
    }
    # The seed is drawn anew where there is no random_state.
    return sorted(n for n in names - {"seed_"} if n.endswith("_") and not n.startswith("_"))


def _numbers(name, value):
    if hasattr(value, "toarray"):
        value = value.toarray()
    if isinstance(value, (np.ndarray, numbers.Number)):
        if np.asarray(value).dtype.kind in "biuf":
            yield name, np.array(value)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _numbers(f"{name}[{key!r}]", part)
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield from _numbers(f"{name}[{i}]", part)


def assert_same_results(actual, desired, what):
    """Compare two of `results`."""
    if actual.keys() != desired.keys():
        raise AssertionError(f"{what}: {sorted(actual.keys() ^ desired.keys())} come or go")
    for name, value in desired.items():
        assert_close(actual[name], value, f"{what}: {name}")


def methods_of_X(estimator):
    """Names of public methods that need X and nothing else."""
    names = []
    for name in dir(type(estimator)):
        method = getattr(type(estimator), name, None)
        if name.startswith(("_", *_NO_RESULTS)) or not isroutine(method):
            continue
        if not hasattr(estimator, name):  # not available with these parameters
            continue
        needed = [
            p.name
            for p in signature(getattr(estimator, name)).parameters.values()
            if p.default is Parameter.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        if needed == ["X"]:
            names.append(name)
    return names


def networks_of(estimator):
    """Torch modules of the explained estimator; none if it is still to be fitted."""
    explained = getattr(estimator, "estimator", None)
    if explained is None:
        return []
    try:
        return list(torch_modules(explained))
    except AttributeError:  # unfitted: it is cloned, and this one has no module yet
        return []


def with_own_network(estimator):
    """Clone an explainer of a torch module together with the module, which may then be changed.

    Parameters
    ----------
    estimator : estimator
        An unfitted explainer.

    Returns
    -------
    own : estimator or None
        None if what it explains is not a module.
    network : nn.Module or None
        The copy that it explains.
    """
    import copy

    explained = getattr(estimator, "estimator", None)
    if not isinstance(explained, nn.Module):
        return None, None
    network = copy.deepcopy(explained)
    return clone(estimator).set_params(estimator=network), network


def first_leaf(network):
    """Return the module that sees the network's input first."""
    return next(m for m in network.modules() if not any(m.children()))


def snapshot(modules):
    """All of the modules that running them could change."""
    return [_snapshot(module) for module in modules]


def _snapshot(module):
    parts = list(module.modules())
    return {
        "state": {k: v.clone() for k, v in module.state_dict().items()},
        "tensors": [id(t) for m in parts for t in (*m._parameters.values(), *m._buffers.values())],
        "gradients": [p.grad for p in module.parameters()],
        **flags(module),
    }


def flags(module):
    """Modes, gradient flags and hooks of a module and its parts, as plain values."""
    parts = list(module.modules())
    return {
        "modes": [m.training for m in parts],
        "requires_grad": [p.requires_grad for p in module.parameters()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in parts
        ],
    }


def assert_unchanged(modules, before, what):
    """Compare with an earlier `snapshot`."""
    for module, old in zip(modules, before, strict=True):
        new = _snapshot(module)
        changed = [k for k in old if k not in ("state", "gradients") and old[k] != new[k]]
        if any(a is not b for a, b in zip(old["gradients"], new["gradients"], strict=True)):
            changed.append("gradients")
        state, new_state = old["state"], new["state"]
        if state.keys() != new_state.keys() or any(
            not torch.equal(state[k], v) for k, v in new_state.items()
        ):
            changed.append("state")
        if changed:
            raise AssertionError(f"{what}: the model was changed ({', '.join(changed)})")


@contextmanager
def hooked(module, hook):
    """Keep a forward hook on a module, as a user may have one there."""
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def of_tensor(change, output):
    """Change the output of a layer, the first one if there are several, as of a recurrent layer."""
    if isinstance(output, tuple):
        return (change(output[0]), *output[1:])
    return change(output)
