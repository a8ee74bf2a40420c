"""Units in which reconstructions are compared with samples."""

from dataclasses import dataclass

import numpy as np
import torch

from ..representation import Chain, Expansion, column_map, is_affine_at


@dataclass(frozen=True)
class InputUnits:
    """Units in which the loss is measured: those of the network's input, behind any scalers.

    Attributes
    ----------
    center : ndarray of shape (n_columns,) or None
        A sample in raw units; None where there is nothing to convert.
    slopes, offset : ndarray of shape (n_columns,) or None
        Derivatives of the network's units by raw ones, and the sample in the network's.

    Notes
    -----
    One sample and the slopes describe a step completely only if it is affine within the range of
    the data (beyond it, it may clip, for example). A step must declare that (see `column_map`), and
    the declaration is checked at two more points.
    """

    center: np.ndarray | None = None
    slopes: np.ndarray | None = None
    offset: np.ndarray | None = None

    @classmethod
    def of(cls, representation, inputs):
        """Find the steps at a network's beginning that keep columns apart.

        Parameters
        ----------
        representation : Representation
            Of the network.
        inputs : ndarray of shape (n, ...)
            Samples.

        Returns
        -------
        units : InputUnits
        """
        expansion = Expansion.of(representation, inputs)
        if expansion is not None:
            return TableUnits.of(expansion, inputs)
        if inputs.ndim != 2:
            return cls()
        prefix, units = [], cls()
        points = None
        for step in _flat_steps(representation.chain):
            prefix.append(("", step))
            mapped = _one_to_one(step, Chain(prefix), inputs.shape[1])
            if mapped is None:
                break
            if points is None:
                points = representation.tensor(_points(inputs))
            with torch.no_grad():
                values = Chain(prefix)(points).to(points)
            columns, slopes = mapped[0], torch.as_tensor(mapped[1].copy()).to(points)
            if not is_affine_at(points, values, columns, slopes):
                break
            order = torch.as_tensor(np.argsort(columns), device=points.device)
            kept = points[0], slopes[order], values[0][order]
            units = cls(*(tensor.cpu().numpy() for tensor in kept))
        return units

    @property
    def scaled(self):
        """Whether there is anything to convert."""
        return self.center is not None

    def _tensors(self, device):
        arrays = self.center, self.slopes, self.offset
        return (torch.tensor(array, device=device) for array in arrays)

    def to_network(self, x):
        """Raw units to the network's."""
        if not self.scaled:
            return x
        center, slopes, offset = self._tensors(x.device)
        return (x - center) * slopes + offset

    def to_raw(self, x):
        """Convert the network's units to raw ones."""
        if not self.scaled:
            return x
        center, slopes, offset = self._tensors(x.device)
        return (x.to(center.dtype) - offset) / slopes + center

    def to_inputs(self, raw):
        """Turn raw reconstructions into what the model takes: that is what they are."""
        return raw


@dataclass(frozen=True)
class TableUnits(InputUnits):
    """Units of a raw table that holds other things than numbers: a column for every category.

    Attributes
    ----------
    expansion : Expansion
        Of the table.
    center, slopes, offset : ndarray of shape (n_outputs,)
        Columns of numbers are standardised, so that their units do not decide what is learnt.
    """

    expansion: Expansion | None = None

    @classmethod
    def of(cls, expansion, inputs):
        """Standardise the columns of numbers.

        Parameters
        ----------
        expansion : Expansion
            Of the table.
        inputs : ndarray of shape (n, n_columns)
            Samples.

        Returns
        -------
        units : TableUnits
        """
        numbers = expansion(inputs)
        mean, deviation = numbers.mean(axis=0), numbers.std(axis=0)
        as_it_is = expansion.is_category | (deviation == 0)
        slopes = np.where(as_it_is, 1.0, 1 / np.where(as_it_is, 1.0, deviation))
        center = np.where(expansion.is_category, 0.0, mean)
        return cls(center, slopes, np.zeros_like(center), expansion)

    def to_network(self, x):
        """Turn samples into standardised numbers and one-hot categories."""
        numbers = self.expansion(x.detach().cpu().numpy())
        return super().to_network(torch.from_numpy(numbers).to(x.device))

    def to_inputs(self, raw):
        """Take of the categories of each column the one with the largest number."""
        return self.expansion.inverse(raw)


def _points(inputs):
    """Mean sample, and two points within the range of the data, to which nothing is clipped."""
    mean = np.mean(inputs, axis=0, dtype=np.float64)
    return np.stack([mean, (mean + inputs.min(axis=0)) / 2, (mean + inputs.max(axis=0)) / 2])


def _one_to_one(step, chain, n_columns):
    """Column map of a chain that ends in a step, if it is affine and loses no column."""
    mapped = column_map(chain, n_columns) if getattr(step, "is_affine", False) else None
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
