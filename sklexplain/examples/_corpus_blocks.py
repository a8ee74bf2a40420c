"""A corpus in dask: representations stay in its blocks, and what each block finds is merged."""

import numpy as np

from ..utils import dask_kind, dask_text, sent, tasks_of_blocks
from ._distances import distances, distances_to_some, median_distance, median_rows
from ._nearest import first_by_importance, nearest

_MERGED = 8  # results put together at once


class CorpusBlocks:
    """Representations of a corpus, computed once and kept block by block.

    Parameters
    ----------
    explainer : BaseExampleImportance
        What represents samples.
    X : dask Array or DataFrame
        The corpus.

    Attributes
    ----------
    tasks : list of Delayed
        Representations of each block, of shape (n_block, N), in float64.
    starts : ndarray of int
        Position of each block's first example.
    labels : ndarray of shape (n,)
        Names of the rows of a DataFrame, else positions.
    """

    def __init__(self, explainer, X):
        import dask

        task, represent = sent(explainer), dask.delayed(represented, pure=False)
        blocks = tasks_of_blocks(X)
        self.tasks = list(dask.persist(*(represent(block, task) for block in blocks)))
        self.n_units = explainer._representation.n_units
        self.of = dask_text(X)
        self.sizes = np.array(dask.compute(*(dask.delayed(len)(z) for z in self.tasks)))
        self.starts = np.cumsum(self.sizes) - self.sizes
        if dask_kind(X) == "frame":
            self.labels = X.index.compute().to_numpy()
        else:
            self.labels = np.arange(len(self))

    def __len__(self):
        return int(self.sizes.sum())

    def __getitem__(self, index):
        """Refuse: samples themselves are not kept.

        Raises
        ------
        TypeError
            With what to do.
        """
        raise self.not_here("this")

    def not_here(self, what):
        """Build the error about what needs the examples themselves."""
        return TypeError(
            f"{what} needs the training examples in memory, but fit was given {self.of}, of which "
            "only representations are kept, block by block; fit on examples in memory, those that "
            "matter for example: X.compute(), or the ones that top_examples names."
        )

    def representations(self):
        """Return all of them as a dask Array of shape (n, N)."""
        import dask.array as da

        shapes = ((int(n), self.n_units) for n in self.sizes)
        pairs = zip(self.tasks, shapes, strict=True)
        return da.concatenate([da.from_delayed(z, shape, np.float64) for z, shape in pairs])

    def take(self, positions):
        """Return some representations, in the order that is asked for: (m, N)."""
        positions = np.asarray(positions)
        block = np.searchsorted(self.starts, positions, side="right") - 1
        found = [np.flatnonzero(block == i) for i in range(len(self.tasks))]
        inside = [positions[rows] - start for rows, start in zip(found, self.starts, strict=True)]
        parts = self.of_each(_taken, inside, only=[len(rows) > 0 for rows in found])
        out = np.empty((len(positions), self.n_units))
        for rows, part in zip((rows for rows in found if len(rows)), parts, strict=True):
            out[rows] = part
        return out

    def of_each(self, function, *given, only=None):
        """Call a function of each block's representations, with an entry of each list.

        Parameters
        ----------
        function : callable
            Of the representations, and of what is given.
        *given : list
            An entry for each block.
        only : list of bool or None, default=None
            Which blocks; None: all that are not empty.

        Returns
        -------
        results : tuple
        """
        import dask

        only = self.sizes > 0 if only is None else only
        call = dask.delayed(function, pure=False)
        calls = zip(self.tasks, only, *given, strict=True)
        return dask.compute(*(call(z, *rest) for z, chosen, *rest in calls if chosen))

    def median_distance(self, metric, rng):
        """Median distance between two examples: of those that would be drawn in memory."""
        chosen = median_rows(len(self), rng)
        return median_distance(self.take(chosen), metric, rng)

    def median_length(self, metric):
        """Median distance from the origin."""
        return np.median(np.concatenate(self.of_each(_lengths, [metric] * len(self.tasks))))

    # -- queries -------------------------------------------------------------------------------

    def nearest(self, z, k, metric, with_cosine):
        """Find the k nearest of all blocks, equal distances in the order of the corpus.

        Parameters
        ----------
        z : ndarray of shape (b, N) or Delayed
            Queries.
        k : int
            How many.
        metric : str or callable
            The distance.
        with_cosine : bool
            Whether the cosine's distances are wanted, too.

        Returns
        -------
        task : Delayed
            Of (distances, positions, cosine's distances or None), each of shape (b, k).
        """
        return self._merged(nearest_of_block, z, (k, metric, with_cosine), nearest_of, k)

    def top(self, z, k, kernel):
        """Find the k most important of all blocks.

        Parameters
        ----------
        z : ndarray of shape (b, N) or Delayed
            Queries.
        k : int
            How many.
        kernel : DKNNImportance
            Weighs distances, and has no corpus of its own.

        Returns
        -------
        task : Delayed
            Of (importance, positions), each of shape (b, k).
        """
        return self._merged(top_of_block, z, (k, kernel), top_of, k)

    def _merged(self, function, z, given, merge, k):
        import dask

        # What is large or the same for all blocks is a task of its own.
        z, *given = (dask.delayed(value, traverse=False) for value in (z, *given))
        call, put = dask.delayed(function, pure=False), dask.delayed(merge, pure=False)
        blocks = zip(self.tasks, self.starts, self.sizes, strict=True)
        parts = [call(codes, z, int(start), *given) for codes, start, size in blocks if size > 0]
        while True:
            parts = [put(parts[i : i + _MERGED], k) for i in range(0, len(parts), _MERGED)]
            if len(parts) == 1:
                return parts[0]

    def distances(self, z, metric):
        """Compute distances to all examples: ndarray of shape (b, n)."""
        n = len(self.tasks)
        return np.hstack(self.of_each(_distances, [z] * n, [metric] * n))


def represented(block, explainer):
    """Represent the samples of a block: ndarray of shape (n_block, N) of float64."""
    if len(block) == 0:
        return np.empty((0, explainer._representation.n_units))
    with explainer._opened(block) as (inputs, _):
        rows = explainer._params_at_fit.batch_size
        return explainer._representation.activations(inputs, rows).astype(np.float64)


def nearest_of_block(codes, z, start, k, metric, with_cosine):
    """Find the nearest of one block; see `CorpusBlocks.nearest`."""
    d, columns = nearest(z, codes, min(k, len(codes)), metric)
    cosine = distances_to_some(z, codes, columns, "cosine") if with_cosine else None
    return d, columns + start, cosine


def nearest_of(parts, k):
    """Merge what blocks have found."""
    d, columns = (np.hstack([part[i] for part in parts]) for i in range(2))
    order = np.lexsort((columns, d), axis=1)[:, :k]
    cosine = None if parts[0][2] is None else np.hstack([part[2] for part in parts])
    return tuple(
        None if values is None else np.take_along_axis(values, order, axis=1)
        for values in (d, columns, cosine)
    )


def top_of_block(codes, z, start, k, kernel):
    """Find the most important of one block; see `CorpusBlocks.top`."""
    importance, columns = kernel._with_corpus(codes)._top_of_all(z, min(k, len(codes)), None)
    return importance, columns + start


def top_of(parts, k):
    """Merge what blocks have found."""
    return tuple(first_by_importance(*map(np.hstack, zip(*parts, strict=True)), k))


def _taken(codes, rows):
    return codes[rows]


def _lengths(codes, metric):
    return distances(codes, np.zeros((1, codes.shape[1])), metric)[:, 0]


def _distances(codes, z, metric):
    return distances(z, codes, metric)
