"""Nearest neighbours in a corpus in dask, found block by block and merged."""

import numpy as np
from scipy import sparse
from sklearn.utils import check_random_state

from ..utils import dask_kind, sent, tasks_of_blocks
from ._corpus_blocks import represented
from ._nearest import first_by_importance, in_corpus_order

NORMS = ("chebyshev", "cityblock", "euclidean", "l1", "l2", "manhattan", "minkowski")


class NeighborsInBlocks:
    """Part of `DKNNImportance`: a corpus in dask, one scale of distances for all its blocks."""

    _merges_blocks = True

    def _fit_blocks(self, blocks):
        if self._params_at_fit.neighbors is not None:
            raise blocks.not_here("neighbors, an index of the whole corpus,")
        self.neighbors_ = None
        self._check_corpus(len(blocks), 0)
        metric = self._scale_metric()
        self.median_distance_ = blocks.median_distance(metric, check_random_state(self.seed_))
        length = blocks.median_length(metric) if metric in NORMS else 0.0
        self._resolution = self._rounding(length)
        self.embedding_ = blocks.representations()

    def _with_corpus(self, codes):
        """Return what weighs distances as this does, with other representations or none."""
        kept = ("seed_", "median_distance_", "_resolution")
        light = object.__new__(type(self))
        vars(light).update({name: vars(self)[name] for name in kept})
        values = {k: v for k, v in self._values_at_fit.items() if k != "estimator"}
        light._values_at_fit, light.embedding_, light.neighbors_ = values, codes, None
        return light

    def _without_corpus(self):
        """Return what represents samples as this does."""
        light = object.__new__(type(self))
        vars(light).update(vars(self))
        for name in ("_corpus", "_corpus_blocks", "embedding_", "corpus_index_"):
            delattr(light, name)
        return light

    def _tasks_of_codes(self, X):
        import dask

        task, represent = sent(self._without_corpus()), dask.delayed(represented, pure=False)
        return [represent(block, task) for block in tasks_of_blocks(X)]

    def _over_blocks(self, name, X, form, args, kwargs):
        if self._corpus_blocks is None:
            return super()._over_blocks(name, X, form, args, kwargs)
        import dask
        import dask.array as da

        params, n = self._params_at_fit, len(self._corpus)
        if params.n_neighbors is None:
            raise TypeError(
                "with the corpus and the samples in dask, a number for every pair of them would be "
                "computed; set n_neighbors, or call top_examples."
            )
        finish = dask.delayed(_rows_of_nearest, pure=False)
        kernel = dask.delayed(self._with_corpus(None), traverse=False)
        k, metric = params.n_neighbors, params.metric
        found = [self._merged(z, k, metric) for z in self._tasks_of_codes(X)]
        meta = sparse.csr_matrix((0, n), dtype=self._dtype)
        sizes = X.chunks[0] if dask_kind(X) == "array" else [np.nan] * len(found)
        parts = [finish(each, kernel, n, self._dtype) for each in found]
        pairs = zip(parts, sizes, strict=True)
        return da.concatenate(
            [da.from_delayed(part, (size, n), self._dtype, meta=meta) for part, size in pairs]
        )

    def _top_over_blocks(self, X, k, exclude_self):
        if self._corpus_blocks is None:
            return super()._top_over_blocks(X, k, exclude_self)
        import dask

        if exclude_self:
            raise self._corpus_blocks.not_here("exclude_self=True")
        params, blocks, n = self._params_at_fit, self._corpus_blocks, len(self._corpus)
        if callable(params.kernel):
            raise blocks.not_here("a kernel of one's own")
        if k > n:
            raise ValueError(f"k={k} is larger than the corpus of {n} training examples.")
        kernel = self._with_corpus(None)
        codes = self._tasks_of_codes(X)
        if params.n_neighbors is not None:
            self._check_stored(k, params.n_neighbors)
            found = [self._merged(z, params.n_neighbors, params.metric) for z in codes]
        else:
            found = [blocks.top(z, k, kernel) for z in codes]
        finish = dask.delayed(_top_of_nearest, nout=2, pure=False)
        kernel, labels = (dask.delayed(v, traverse=False) for v in (kernel, self.corpus_index_))
        pairs = [finish(each, k, kernel, labels, self._dtype) for each in found]
        return self._tops_in_dask(X, k, pairs)


def _rows_of_nearest(found, kernel, n_train, dtype):
    """Make a CSR matrix of merged neighbours."""
    importance, columns = in_corpus_order(*kernel._weighed(*found))
    indptr = np.arange(len(columns) + 1) * columns.shape[1]
    shape = len(columns), n_train
    return csr(importance.astype(dtype).ravel(), columns.ravel(), indptr, shape)


def _top_of_nearest(found, k, kernel, labels, dtype):
    """Choose the most important of merged neighbours."""
    if len(found) == 3:
        importance, columns = kernel._weighed(*found)
        found = first_by_importance(importance.astype(dtype), columns, k)
    importance, columns = found
    return importance.astype(dtype), labels[columns]


def csr(data, indices, indptr, shape):
    """Make a CSR matrix whose columns are in order."""
    matrix = sparse.csr_matrix((data, indices, indptr), shape=shape)
    matrix.sort_indices()
    return matrix
