"""What of a skorch net is its user's own code, and how a net is run around another module."""

import inspect
import types
from collections.abc import Mapping

import numpy as np
from sklearn.base import BaseEstimator
from skorch import NeuralNet
from skorch.callbacks import EpochTimer
from skorch.dataset import Dataset, unpack_data
from torch import nn
from torch.utils.data import DataLoader

from ..utils import as_the_caller, seeded
from ._modules import Stage

# What an inference needs nothing of, and what leads back to the network of the net itself.
_NOT_NEEDED = ("callbacks", "callbacks_", "history_", "optimizer_", "criterion_", "module_")
# Parameters of torch's loaders by which samples are changed, or some seen more often than others.
_LOADING = ("collate_fn", "sampler", "batch_sampler")


def own_methods(net, names):
    """Tell which methods of a skorch net are its user's own, not skorch's.

    Parameters
    ----------
    net : NeuralNet
        An instance of any subclass.
    names : iterable of str
        Methods that skorch's nets have.

    Returns
    -------
    own : list of str
        Those that a class of the user's, or the instance itself, replaces.
    """
    theirs = next(kind for kind in type(net).__mro__ if _is_skorchs(kind))
    return [
        name
        for name in names
        if name in vars(net) or getattr(type(net), name, None) is not getattr(theirs, name, None)
    ]


def _is_skorchs(kind):
    return issubclass(kind, NeuralNet) and kind.__module__.partition(".")[0] == "skorch"


def net_around(net, module, device, **attributes):
    """Make a net that is like another one but for its module.

    Parameters
    ----------
    net : NeuralNet
        Stays as it is.
    module : nn.Module
        Takes the place of ``net.module_``.
    device : torch.device
        Where the module is.
    **attributes : object
        More that is another.

    Returns
    -------
    net : NeuralNet
        A shallow copy, never to be trained.
    """
    twin = object.__new__(type(net))
    state = {**vars(net), "module_": module, "device": device, **attributes}
    for name, value in state.items():
        if isinstance(value, types.MethodType) and value.__self__ is net:
            state[name] = types.MethodType(value.__func__, twin)
    vars(twin).update(state)
    return twin


class InferStage(Stage):
    """A skorch net's network, run as the net's own ``infer`` does it."""

    def __init__(self, net):
        super().__init__(net.module_, first_output=True)
        # Without what leads to the network itself: this is run around views of it.
        bare = object.__new__(type(net))
        for name, value in vars(net).items():
            if name in _NOT_NEEDED or name == "module" and isinstance(value, nn.Module):
                continue
            if isinstance(value, types.MethodType) and value.__self__ is net:
                value = types.MethodType(value.__func__, bare)
            vars(bare)[name] = value
        self._net = bare

    def call(self, x):
        """Run the network, and return all that it returns."""
        if self.method != "forward":
            return super().call(x)
        with as_the_caller():
            return net_around(self._net, self.module, x.device).infer(x)


def several_inputs(forward, bound=True):
    """Name the inputs of a network that takes more than one.

    Parameters
    ----------
    forward : callable
        Its ``forward``.
    bound : bool, default=True
        Whether it is a method of an instance; a class's has ``self`` as well.

    Returns
    -------
    names : list of str
        Empty for a network that runs on one tensor.
    """
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):  # not written in Python
        return []
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = parameters if bound else parameters[1:]
    names = [p.name for p in parameters if p.default is p.empty and p.kind not in kinds]
    return names if len(names) > 1 else []


def inputs_of(estimator):
    """Name the inputs of a network that is given the samples as they are and takes several.

    Parameters
    ----------
    estimator : nn.Module or NeuralNet
        A network; a net may be unfitted.

    Returns
    -------
    names : list of str
        Empty if it runs on one tensor, or if that cannot be told.
    """
    if isinstance(estimator, nn.Module):
        return several_inputs(estimator.forward)
    if own_methods(estimator, ("infer", "forward_iter")) or own_data(estimator):
        return []  # which may make several inputs of one
    module = vars(estimator).get("module_", estimator.module)
    if isinstance(module, nn.Module):
        return several_inputs(module.forward)
    if isinstance(module, type) and issubclass(module, nn.Module):
        return several_inputs(module.forward, bound=False)
    return []


def own_data(net, training=False):
    """Name what of a skorch net makes the network's inputs of samples and is its user's own.

    Parameters
    ----------
    net : NeuralNet
        A net; it may be unfitted.
    training : bool, default=False
        Whether those of training are meant, or of prediction.

    Returns
    -------
    names : list of str
        Methods and parameters, empty if all are skorch's and torch's.
    """
    iterator = "iterator_train" if training else "iterator_valid"
    methods = ("get_split_datasets",) if training else ()
    own = own_methods(net, (*methods, "get_dataset", "get_iterator"))
    own += ["dataset"] if net.dataset is not Dataset else []
    own += [iterator] if getattr(net, iterator) is not DataLoader else []
    loading = [f"{iterator}__{name}" for name in _LOADING]
    return own + [name for name in loading if vars(net).get(name) is not None]


def first_batch(net, X, y=None, training=False, most=16):
    """Return what a net's network, and its loss, are given of the first samples.

    Parameters
    ----------
    net : NeuralNet
        Stays as it is.
    X : ndarray of shape (n, ...)
        Samples.
    y : ndarray of shape (n, ...) or None, default=None
        Targets.
    training : bool, default=False
        Whether in training or in prediction.
    most : int, default=16
        Number of samples, where the batch can be made of any number.

    Returns
    -------
    inputs, targets : object
    loader : object
        The iterable that batches come from.
    """
    net = net_around(net, None, "cpu")
    split = training and own_methods(net, ("get_split_datasets",))
    dataset = net.get_split_datasets(X, y)[0] if split else net.get_dataset(X, y)
    loader = net.get_iterator(dataset, training=training)
    if isinstance(loader, DataLoader) and type(loader).__iter__ is DataLoader.__iter__:
        # Without an iterator, which would start the workers.
        n = min(most, len(loader.dataset))
        batch = loader.collate_fn([loader.dataset[i] for i in range(n)])
    else:
        batch = next(iter(loader))
    return (*unpack_data(batch), loader)


def changes_samples(net, n_columns):
    """Find code of a net's own by which its network predicts from other numbers than X.

    Parameters
    ----------
    net : NeuralNet
        A net.
    n_columns : int
        Number of columns of a table that it is tried on.

    Returns
    -------
    name : str or None
        None if there is no such code, or it leaves a table as it is, or cannot be tried on one.
    """
    own = own_data(net)
    if not own:
        return None
    X = np.linspace(-1e3, 1e3, 3 * n_columns, dtype=np.float32).reshape(3, n_columns)
    try:
        with seeded(0):
            inputs = first_batch(net, X)[0]
    except Exception:  # whatever the user's code does with a table that is none of theirs
        return None
    same = not isinstance(inputs, (Mapping, list, tuple)) and np.shape(inputs) == X.shape
    return None if same and np.allclose(np.asarray(inputs), X) else own[0]


def check_not_interrupted(estimator):
    """Raise what ended the training of a skorch net too early.

    skorch catches it, so that a half-trained net looks like a trained one.

    Parameters
    ----------
    estimator : estimator
        Just fitted; nets are looked for in it.

    Raises
    ------
    KeyboardInterrupt
        If an epoch was begun and not ended.
    """
    for net in _nets_in(estimator, set()):
        history = getattr(net, "history", None)
        timed = any(isinstance(c, EpochTimer) for _, c in getattr(net, "callbacks_", None) or ())
        # Timed first of all at the end of an epoch: before anything can stop early there.
        if timed and history and "dur" not in history[-1]:
            raise KeyboardInterrupt(
                f"the training of {type(net).__name__} was interrupted in epoch {len(history)}"
            )


def _nets_in(value, seen):
    """Walk through estimators, and lists and dicts of them: yields the skorch nets."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, NeuralNet):
        yield value
        return
    if isinstance(value, BaseEstimator):
        value = vars(value)
    if isinstance(value, dict):
        value = list(value.values())
    # Longer ones hold data.
    if isinstance(value, (list, tuple)) and len(value) <= 1000:
        for item in value:
            yield from _nets_in(item, seen)
