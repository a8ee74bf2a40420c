"""Gradients of the loss of each sample, a batch at a time."""

from __future__ import annotations

from ..gradients import (
    join_terms,
    joins_within,
    per_sample_gradients,
    project_terms,
    scale_terms,
    terms_bytes,
)
from ..utils import in_blocks

_CACHE_BYTES = 2**28  # gradients of the corpus kept for the next samples
_BLOCK_BYTES, _MOST_ROWS = 2**27, 2**13  # gradients of samples at once


class GradientPass:
    """Per-sample gradients of one session's network, a batch at a time.

    Parameters
    ----------
    network : Network
        The session's.
    losses : Losses
        Of the network.
    plan : GradientPlan
        How gradients are taken.
    batch_size : int
        Most samples in the network at once.
    projection : (int, int) or None, default=None
        Number of dimensions that gradients are projected to, and the projection's seed.

    Attributes
    ----------
    module : nn.Module
        The session's.
    parameters : list of nn.Parameter
        The chosen ones.
    bytes_per_sample : int
        Bytes that the gradients of a sample take.
    factors : dict of str to float or None
        What gradients are multiplied with, by parameter; to be set from outside.
    """

    def __init__(self, network, losses, plan, batch_size, projection=None):
        self.network, self.losses, self.plan = network, losses, plan
        self.module = network.module
        self.parameters = list(plan.bound(network.module).parameters.values())
        self._batch_size = network.representation.block_rows(batch_size)
        if network.representation.device.type != "cpu":
            # Second derivatives keep a pass's steps, and those of its backward pass.
            self._batch_size = max(1, self._batch_size // 4)
        self._projection, self._kept, self.factors = projection, {}, None
        self.bytes_per_sample = plan.bytes_per_sample
        if projection is not None:
            self.bytes_per_sample = projection[0] * self.parameters[0].element_size()

    def _terms(self, x):
        terms = per_sample_gradients(self.losses, self.module, x, self.plan)
        terms = scale_terms(terms, self.factors)
        return terms if self._projection is None else project_terms(terms, *self._projection)

    def batches(self, inputs, n_rows=None):
        """Yield the network's inputs, a few samples at a time."""
        step = self._batch_size if n_rows is None else min(n_rows, self._batch_size)
        for i in range(0, len(inputs), step):
            yield self.network.tensor(inputs[i : i + step])

    def terms(self, inputs):
        """Return the gradients of all inputs."""
        return join_terms(self._parts(inputs))

    def _parts(self, inputs):
        tensor = self.network.tensor
        blocks = in_blocks(
            lambda rows: self._terms(tensor(inputs[rows])), len(inputs), self._batch_size
        )
        return [terms for _, terms in blocks]

    def _sets(self, inputs):
        # Batches with samples that take a branch of their own may have explicit gradients where
        # those of others are factors: all of them together would be explicit, and perhaps huge.
        sets = []
        for part in self._parts(inputs):
            if sets and joins_within([*sets[-1], part], _BLOCK_BYTES):
                sets[-1].append(part)
            else:
                sets.append([part])
        return map(join_terms, sets)

    def blocks(self, inputs, key=None):
        """Yield slices and gradients of as many inputs as fit into memory.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
            Samples.
        key : hashable or None, default=None
            Stands for the inputs and the weights that the network has now. Not None: the first
            gradients are kept, and used again when the key is the same.

        Yields
        ------
        rows : slice
        terms : dict of str to term
        """
        start = 0
        while start < len(inputs):
            terms = self._kept.get((key, start))
            stop = start + self.rows_at_once
            for part in self._sets(inputs[start:stop]) if terms is None else [terms]:
                n_rows = len(next(iter(part.values())))
                if terms is None and key is not None:
                    n_bytes = sum(map(terms_bytes, self._kept.values())) + terms_bytes(part)
                    if n_bytes <= _CACHE_BYTES:
                        self._kept[key, start] = part
                yield slice(start, start + n_rows), part
                start += n_rows

    @property
    def rows_at_once(self):
        """Number of samples whose gradients fit into memory; more than some gain nothing."""
        return max(1, min(_MOST_ROWS, _BLOCK_BYTES // self.bytes_per_sample))
