"""A skorch net's own loss, sample by sample, as a plan says, and the targets it takes."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from skorch import NeuralNet, NeuralNetClassifier
from torch import nn

from ..layers import unwrapped
from ..representation import net_around
from ._losses import mapped, tensors_of


@dataclass(frozen=True)
class LossPlan:
    """How the loss of a sample is computed; decided in fit.

    Attributes
    ----------
    source : {"given", "objective", "reconstruction", "criterion", "vectorised", "samples"}
        The user's callable, a loss of single samples that the net offers, the criterion of a
        reconstruction, or a skorch net's ``get_loss``: with its criterion unreduced, or on batches
        of one, all at once or one after another.
    takes_y : bool
        Whether the targets are y; else they are the inputs.
    cast : {"float", "int"} or None
        What y is converted to, if it is not what the criterion takes.
    divisor : float
        What the sum of a sample's unreduced values is divided by.
    joined : bool
        Whether several outputs of the network are handled as one tensor.
    """

    source: str
    takes_y: bool = False
    cast: str | None = None
    divisor: float = 1.0
    joined: bool = False


class NetLoss:
    """A skorch net's own loss, for each sample.

    Parameters
    ----------
    net : NeuralNet
        Stays as it is.
    module : nn.Module
        Its network, or a view of it.
    device : torch.device
        Where the module is.
    plan : LossPlan
        Of this net.
    """

    def __init__(self, net, module, device, plan):
        criterion = _own_criterion(net.criterion_, device)
        self.net = net_around(net, module, device, criterion_=criterion)
        self._plan, self._template = plan, None
        self._unreduced = None
        if hasattr(criterion, "reduction"):
            criterion = copy.copy(criterion)
            criterion.reduction = "none"
            self._unreduced = net_around(net, module, device, criterion_=criterion)

    def prepared(self, output):
        """Return the network's output as one tensor, if it is handled as one."""
        if not self._plan.joined:
            return output
        self._template = mapped(lambda part: part.shape[1:], output)
        return torch.cat([part.reshape(len(part), -1) for part in tensors_of(output)], dim=1)

    def _parts(self, output):
        """Return the network's output as it was before it was `prepared`."""
        if not self._plan.joined:
            return output
        start = 0

        def cut(size):
            nonlocal start
            start += size.numel()
            return output[:, start - size.numel() : start].unflatten(1, size)

        return _rebuilt(cut, self._template)

    def __call__(self, output, x, y):
        target = y if self._plan.takes_y else x
        output = self._parts(output)
        if self._plan.source == "criterion":
            return self.unreduced(output, target, x) / self._plan.divisor
        if self._plan.source == "vectorised":
            return self.vectorised(output, target, x)
        return torch.stack(self.alone(output, target, x))

    def whole(self, output, target, x):
        """Return the loss of a batch, as training computes it."""
        return self.net.get_loss(output, target, X=x, training=True)

    def alone(self, output, target, x):
        """Return the losses of batches of one."""
        rows = [slice(i, i + 1) for i in range(len(x))]
        values = [self.whole(rows_of(output, row), target[row], x[row]) for row in rows]
        return [value.reshape(()) for value in values]

    def vectorised(self, output, target, x):
        """Return the losses of batches of one, all at once, where the net's code allows it."""

        def alone(output, target, x):
            output = mapped(lambda part: part.unsqueeze(0), output)
            return self.whole(output, target.unsqueeze(0), x.unsqueeze(0)).reshape(())

        return torch.vmap(alone)(output, target, x)

    def unreduced(self, output, target, x):
        """Return the sum of the criterion's values for each sample."""
        values = self._unreduced.get_loss(output, target, X=x, training=True)
        return values.reshape(len(x), -1).sum(dim=1)

    @property
    def reduction(self):
        """The criterion's, None where the loss is more than a criterion, or that has none."""
        kind = type(self.net)
        plain = kind.get_loss in (NeuralNet.get_loss, NeuralNetClassifier.get_loss)
        if not plain or "get_loss" in vars(self.net):
            return None
        return getattr(self.net.criterion_, "reduction", None)


def _own_criterion(criterion, device):
    """Return a criterion that can be run without a trace in the user's."""
    if not isinstance(criterion, nn.Module):
        return criterion
    criterion = unwrapped(criterion)  # skorch compiles it with the network
    state = [*criterion.parameters(), *criterion.buffers()]
    parts = len(list(criterion.modules()))
    if parts == 1 and all(tensor.device == device for tensor in state):
        return criterion
    return copy.deepcopy(criterion).to(device).eval().requires_grad_(False)


def rows_of(output, rows):
    """Return some rows of an output, of every part of it."""
    return mapped(lambda part: part[rows], output)


def _rebuilt(function, template):
    """Apply a function to every shape of a nested template."""
    if isinstance(template, torch.Size):
        return function(template)
    if isinstance(template, dict):
        parts = {key: _rebuilt(function, part) for key, part in template.items()}
        return parts if type(template) is dict else type(template)(**parts)
    if isinstance(template, (tuple, list)):
        parts = [_rebuilt(function, part) for part in template]
        kind = type(template)
        return kind(*parts) if hasattr(template, "_fields") else kind(parts)
    return template


def as_targets(y, cast, dtype):
    """Convert y to numbers of the dtype that a loss takes.

    Parameters
    ----------
    y : ndarray of shape (n, ...)
        Targets.
    cast : {"float", "int"} or None
        See `LossPlan`.
    dtype : numpy.dtype
        Of the network's numbers.

    Returns
    -------
    y : ndarray of shape (n, ...)

    Raises
    ------
    TypeError
        If y holds anything but numbers.
    """
    y = np.asarray(y.tolist()) if y.dtype.kind == "O" else y
    if y.dtype.kind not in "biuf":
        raise TypeError(
            f"the loss takes y, but y has dtype {y.dtype} (for example {str(y.flat[0])!r}); pass "
            "the numbers that the network was trained on (LabelEncoder makes them of labels)."
        )
    if cast == "float" or (cast is None and y.dtype.kind == "f"):
        return y.astype(dtype)
    return y.astype(np.int64) if cast == "int" or y.dtype.kind in "iu" else y
