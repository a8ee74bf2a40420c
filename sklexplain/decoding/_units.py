"""Units in which reconstructions are compared with samples."""

import numpy as np
import torch

from ..representation import Chain


class InputUnits:
    """Units in which the loss is measured: those that enter the network, behind any scalers.

    Parameters
    ----------
    representation : Representation
        After its `probe`.
    inputs : ndarray of shape (n, ...)
        Samples.

    Attributes
    ----------
    scaled : bool
        Whether there is anything to convert.

    Notes
    -----
    The steps of a Pipeline that keep columns apart are affine, or clip beyond the fitted range; so
    the value at one sample and the slopes say all.
    """

    def __init__(self, representation, inputs):
        self.scaled = False
        prefix, columns, slopes = [], None, None
        if inputs.ndim == 2:
            for step in _flat_steps(representation.chain):
                mapped = _one_to_one(Chain([*prefix, ("", step)]), inputs.shape[1])
                if mapped is None:
                    break
                prefix.append(("", step))
                columns, slopes = mapped
        if not prefix:
            return
        self.scaled = True
        center = representation.tensor(np.mean(inputs, axis=0, dtype=np.float64))
        with torch.no_grad():
            offset = Chain(prefix)(center[None])[0].to(center)
        order = torch.as_tensor(np.argsort(columns), device=center.device)
        self._center = center
        self._slopes = torch.as_tensor(slopes.copy()).to(center)[order]
        self._offset = offset[order]

    def to_network(self, x):
        """Raw units to the network's."""
        return (x - self._center) * self._slopes + self._offset if self.scaled else x

    def to_raw(self, x):
        """Convert the network's units to raw ones."""
        if not self.scaled:
            return x
        return (x.to(self._center) - self._offset) / self._slopes + self._center


def _one_to_one(chain, n_columns):
    """Column map of a chain, if every column comes out once and can be told back."""
    mapped = chain.column_map(n_columns)
    if mapped is None:
        return None
    columns, slopes = mapped
    complete = np.array_equal(np.sort(columns), np.arange(n_columns))
    return mapped if complete and np.isfinite(slopes).all() and np.all(slopes != 0) else None


def _flat_steps(module):
    """Yield the steps of a chain, and of the chains in it."""
    if isinstance(module, Chain):
        for step in module.steps:
            yield from _flat_steps(step)
    else:
        yield module


def moments(representation, units, inputs, batch_size):
    """Mean and standard deviation of every entry, and the range, in the network's units.

    Parameters
    ----------
    representation : Representation
        Of the network.
    units : InputUnits
        Of the same network.
    inputs : ndarray of shape (n, ...)
        Samples.
    batch_size : int
        Most samples at once.

    Returns
    -------
    mean, deviation : ndarray of shape (...), float64
    low, high : float
    """

    def batches():
        for start in range(0, len(inputs), batch_size):
            yield units.to_network(representation.tensor(inputs[start : start + batch_size]))

    total, low, high = 0.0, np.inf, -np.inf
    for x in batches():
        total = total + x.sum(dim=0, dtype=torch.float64)
        low, high = min(low, float(x.min())), max(high, float(x.max()))
    mean = total / len(inputs)
    squares = sum((x - mean).square().sum(dim=0) for x in batches())  # float64, as mean is
    return mean.cpu().numpy(), (squares / len(inputs)).sqrt().cpu().numpy(), low, high
