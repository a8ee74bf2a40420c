"""Example importance by nearest neighbours in latent space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from scipy import sparse
from sklearn.base import clone
from sklearn.utils import check_random_state

from ..utils import (
    CALLABLE,
    NONE,
    BatchSize,
    Choice,
    DeviceLike,
    EstimatorLike,
    Integer,
    Is,
    ModelLike,
    RandomState,
    ResponseMethod,
    call_given,
)
from ._base import BaseExampleImportance, check_finite
from ._distances import (
    BY_PRODUCT,
    METRICS,
    distances,
    distances_to_some,
    median_distance,
    pair_distances,
    parts,
    tiles,
)
from ._dknn_blocks import NORMS, NeighborsInBlocks, csr
from ._nearest import first_by_importance, first_of_rows, in_corpus_order, nearest

_KERNELS = ("inverse_distance", "rbf", "cosine")
_TIED = 2**20  # distances at once, where many tie
_EPSILON = 1e-6  # of the corpus's median distance


def _transforms(value):
    return hasattr(value, "transform") and not isinstance(value, type)


class DKNNImportance(NeighborsInBlocks, BaseExampleImportance):
    r"""Importance of training examples by their distance in latent space.

    The importance of example n for a sample x is a kernel of the two representations, for the K
    nearest examples ([1]_, section 3.2, after [2]_):

    .. math:: c_n(x) = \mathbf 1[n \in \mathrm{KNN}(x)] \; \kappa(f(x_n), f(x))

    Parameters
    ----------
    estimator : nn.Module or estimator
        What is explained: a torch module, a skorch net, a scikit-learn estimator or a Pipeline. An
        unfitted estimator is cloned and fitted in ``fit``.
    layer : str or None, default=None
        Submodule whose output is the representation, as in ``named_modules()``;
        ``"rnn[1][0]"`` picks from a tuple, ``"enc['mu']"`` from a dict. None: what
        ``response_method`` says; a module's ``forward``.
    response_method : str or list of str, default="auto"
        Which of an estimator's outputs is the representation. ``"auto"``: the first that it has of
        ``transform``, ``predict_proba``, ``decision_function`` and a regressor's ``predict``;
        labels are refused. Or one of ``"transform"``, ``"predict_proba"``, ``"predict_log_proba"``,
        ``"decision_function"``, ``"score_samples"`` and ``"predict"``, or a list of them, of which
        the first that it has counts. With a module or ``layer``, only ``"auto"``.
    n_neighbors : int or None, default=None
        K. None gives every training example an importance, in a dense matrix; an integer gives a
        sparse matrix with exactly K entries per row.
    kernel : {"inverse_distance", "rbf", "cosine"} or callable, default="inverse_distance"
        - ``"inverse_distance"``: :math:`1 / (\delta + \varepsilon)`, where :math:`\varepsilon` is a
          millionth of the corpus's median distance: finite on duplicates;
        - ``"rbf"``: :math:`\exp(-\delta^2 / (2 m^2))`, m the corpus's median distance;
        - ``"cosine"``: cosine similarity, which may be negative;
        - a callable from an array of distances to an array of weights, elementwise.
    metric : str or callable, default="euclidean"
        The distance :math:`\delta`, which picks the neighbours: ``"euclidean"``, ``"cosine"``,
        ``"manhattan"`` or another of scikit-learn's for real vectors, or a function of two vectors.
    neighbors : transformer or None, default=None
        Finds the neighbours instead: any transformer from representations to sparse graphs of
        distances, such as :class:`~sklearn.neighbors.KNeighborsTransformer` or one around an
        approximate index (see the examples). It is cloned, and its ``n_neighbors`` set if it has
        that parameter and ``n_neighbors`` is given; else its own counts.
    max_bytes : int, default=2**31
        Largest dense matrix that `transform` returns.
    batch_size : int or "auto", default="auto"
        Most samples in the network at once. "auto": 1024; on a GPU, what its memory holds.
    device : str, torch.device or None, default=None
        Where the network runs; None: where it is.
    random_state : int, RandomState instance or None, default=None
        Seed of the draw of 2000 examples whose pairs give the median distance of a larger corpus.
    verbose : int, default=0
        Whether to show progress.

    Attributes
    ----------
    estimator_ : nn.Module or estimator
        The fitted estimator that is explained.
    embedding_ : ndarray of shape (n_train, n_units)
        Representations of the training examples, in float64.
    median_distance_ : float
        Median distance between two training examples.
    neighbors_ : transformer or None
        The fitted ``neighbors``.
    corpus_index_ : ndarray of shape (n_train,)
        Labels of the training examples: the index of a pandas DataFrame, else positions.
    n_features_in_ : int
        Size of axis 1 of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, if X was a DataFrame with names.
    input_shape_ : tuple of int
        Shape of one sample.
    seed_ : int
        Seed of everything random, derived from ``random_state``.

    See Also
    --------
    sklexplain.metrics.similarity_rate : Share of important examples that have the same label.
    sklexplain.SimplExImportance : Importance as weights of a combination.
    sklexplain.InfluenceImportance : What examples did to the weights.
    sklexplain.plotting.ExampleDisplay : A sample and its examples.

    Notes
    -----
    With ``"euclidean"`` and ``"cosine"`` nothing changes if representations are rotated or
    reflected. Distances are computed in float64 and are exactly 0 between equal representations.
    A float32 network, however, rounds one sample differently in batches of different sizes, by
    about a millionth. So the inverse distance takes distances below that for 0 (32 machine epsilons
    of the network's dtype times the median length of a representation, at most 1e-4 of the median
    distance): a duplicate has the same importance whatever batch it came in.

    The corpus may be of any size: the nearest are found in blocks of it, so that `top_examples`,
    and `transform` with ``n_neighbors``, need little memory beside ``embedding_`` and the result,
    but time in proportion to samples times examples. An approximate index needs less time.

    Given a dask Array or DataFrame, ``fit`` takes all of it: ``embedding_`` is a dask Array, whose
    blocks each find their nearest, and the median distance is that of the whole corpus. Then there
    is no `score` and no ``exclude_self``, which need the examples themselves.

    Cost: `fit` runs every training example once through the network, `transform` every sample once;
    the rest is a search of neighbours among codes.

    References
    ----------
    .. [1] J. Crabbé and M. van der Schaar, "Label-Free Explainability for Unsupervised Models",
       ICML 2022.
    .. [2] N. Papernot and P. McDaniel, "Deep k-Nearest Neighbors: Towards Confident, Interpretable
       and Robust Deep Learning", 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklexplain.examples import DKNNImportance
    >>> X, y = load_iris(return_X_y=True)
    >>> dknn = DKNNImportance(PCA(n_components=2)).fit(X[::2], y[::2])
    >>> dknn.transform(X[1::2]).shape
    (75, 75)
    >>> importance, index = dknn.top_examples(X[1::2], k=3)
    >>> y[::2][index[0]]
    array([0, 0, 0])
    >>> round(dknn.score(X[1::2], y[1::2]), 2)
    0.88

    In a corpus of millions an approximate index is faster. pynndescent's ``PyNNDescentTransformer``
    can be given as it is; for faiss a few lines follow scikit-learn's convention, by which a graph
    has one neighbour more, since a training example finds itself first:

    .. code-block:: python

        class FaissTransformer(TransformerMixin, BaseEstimator):
            def __init__(self, n_neighbors=5):
                self.n_neighbors = n_neighbors

            def fit(self, X, y=None):
                self.index_ = faiss.IndexHNSWFlat(X.shape[1], 32)
                self.index_.add(X.astype("float32"))
                return self

            def transform(self, X):
                k = self.n_neighbors + 1
                squares, index = self.index_.search(X.astype("float32"), k)
                indptr = k * np.arange(len(X) + 1)
                graph = np.sqrt(squares).ravel(), index.ravel(), indptr
                return csr_matrix(graph, shape=(len(X), self.index_.ntotal))


        dknn = DKNNImportance(encoder, n_neighbors=10, neighbors=FaissTransformer())
    """

    _reads_rows = True

    _parameter_constraints = {
        "n_neighbors": [Integer(), NONE],
        "kernel": [Choice(*_KERNELS), CALLABLE],
        "metric": [Choice(*METRICS), CALLABLE],
        "neighbors": [
            Is(
                "a transformer that gives graphs, such as KNeighborsTransformer()",
                _transforms,
            ),
            NONE,
        ],
    }

    def __init__(
        self,
        estimator: ModelLike,
        *,
        layer: str | None = None,
        response_method: ResponseMethod = "auto",
        n_neighbors: int | None = None,
        kernel: Literal["inverse_distance", "rbf", "cosine"]
        | Callable[..., Any] = "inverse_distance",
        metric: str | Callable[..., Any] = "euclidean",
        neighbors: EstimatorLike | None = None,
        max_bytes: int = 2**31,
        batch_size: BatchSize = "auto",
        device: DeviceLike | None = None,
        random_state: RandomState = None,
        verbose: int | bool = 0,
    ) -> None:
        self.estimator = estimator
        self.layer = layer
        self.response_method = response_method
        self.n_neighbors = n_neighbors
        self.kernel = kernel
        self.metric = metric
        self.neighbors = neighbors
        self.max_bytes = max_bytes
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _check_params(self):
        super()._check_params()
        if self.neighbors is None:
            return
        if getattr(self.neighbors, "mode", "distance") != "distance":
            raise ValueError(
                f"neighbors has mode={self.neighbors.mode!r}, but its distances are needed; set "
                "mode='distance'."
            )

    def _fit_corpus(self, inputs):
        z = self._representation.activations(inputs, self._params_at_fit.batch_size).astype(
            np.float64
        )
        self._check_corpus(len(z), 0)
        rng = check_random_state(self.seed_)
        self.median_distance_ = median_distance(z, self._scale_metric(), rng)
        self.embedding_ = z
        metric = self._scale_metric()
        length = 0.0
        if metric in NORMS:
            length = np.median(distances(z, np.zeros((1, z.shape[1])), metric))
        self._resolution = self._rounding(length)
        self.neighbors_ = None
        if self._params_at_fit.neighbors is not None:
            self.neighbors_ = clone(self._params_at_fit.neighbors)
            if (
                self._params_at_fit.n_neighbors is not None
                and "n_neighbors" in self.neighbors_.get_params()
            ):
                self.neighbors_.set_params(n_neighbors=self._params_at_fit.n_neighbors)
            self.neighbors_.fit(z)

    def _check_corpus(self, n_train, excluded):
        n_neighbors = self._params_at_fit.n_neighbors
        if n_neighbors is not None and n_neighbors > n_train - excluded:
            left_out = ", each left out of its own corpus" if excluded else ""
            raise ValueError(
                f"n_neighbors={n_neighbors} is larger than the corpus allows: n_samples = "
                f"{n_train}{left_out}; at most n_neighbors={n_train - excluded}."
            )

    def _more_examples(self):
        if self.neighbors_ is None or self._params_at_fit.n_neighbors is not None:
            return super()._more_examples()
        return f"{self._look_for_more()}, or set neighbors=None"

    def _look_for_more(self):
        name = type(self.neighbors_).__name__
        if hasattr(self.neighbors_, "radius"):
            return f"raise the radius of {name}, {self.neighbors_.radius}"
        return (
            f"have {name} look for more; if the sample itself is one of those it finds, with one "
            "more of its own n_neighbors, and n_neighbors=None here"
        )

    def _scale_metric(self):
        """Return the metric of the distances given to the kernel."""
        neighbors = self._params_at_fit.neighbors
        metric = getattr(neighbors, "metric", None)
        if metric == "minkowski":
            metric = {1: "manhattan", 2: "euclidean"}.get(getattr(neighbors, "p", 2))
        return metric if callable(metric) or metric in METRICS else self._params_at_fit.metric

    def _rounding(self, length):
        """Return the distance below which two representations may be the same, rounded apart."""
        return min(32 * self._representation.eps * length, 1e-4 * self.median_distance_)

    @property
    def _sparse_output(self):
        return (
            self._params_at_fit.n_neighbors is not None or self._params_at_fit.neighbors is not None
        )

    def _blocks(self, inputs, exclude_self=False):
        for rows, z, excluded in self._codes(inputs, exclude_self):
            if self._sparse_output:
                yield rows, self._sparse_block(z, excluded)
                continue
            for part in self._row_blocks(len(z)):
                some = slice(rows.start + part.start, rows.start + part.stop)
                yield some, self._dense_block(z[part])

    def _codes(self, inputs, exclude_self):
        """Yield (rows, representations, what each leaves out or None), a batch at a time."""
        self._check_corpus(len(self.embedding_), int(exclude_self))
        for rows in parts(len(inputs), self._rows_at_once):
            z = self._representation.activations(inputs[rows], rows.stop - rows.start)
            excluded = np.arange(rows.start, rows.stop) if exclude_self else None
            yield rows, z.astype(np.float64), excluded

    def _fill(self, out, inputs, exclude_self):
        with self._bar(len(inputs)) as bar:
            for rows, z, _ in self._codes(inputs, exclude_self):
                self._write_dense(out[rows], z, rows.start)
                bar.update(len(z))

    def _dense_block(self, z):
        block = np.empty((len(z), len(self.embedding_)))
        self._write_dense(block, z)
        return block

    def _write_dense(self, out, z, start=0):
        """Write the importance of every training example, tile by tile.

        Arrays that do not fit into the cache would take most of the time.
        """
        if self._params_at_fit.kernel == "cosine":
            metric, weights = "cosine", _similarities
        else:
            metric, weights = self._params_at_fit.metric, self._weights
        if self._corpus_blocks is not None:
            out[:] = weights(self._corpus_blocks.distances(z, metric))
            check_finite(start, out)
            return
        for rows, columns, tile in tiles(z, self.embedding_, metric):
            tile = weights(tile)
            if not np.isfinite(tile.sum()):
                check_finite(start + rows.start, tile)
            out[rows, columns] = tile

    def _nearest(self, z, k, metric, excluded):
        """Return the importance of the k nearest, and which they are: two of shape (b, k)."""
        if self._corpus_blocks is not None:
            return self._weighed(*self._merged(z, k, metric).compute())
        d, columns = nearest(z, self.embedding_, k, metric, exclude=excluded)
        if self._params_at_fit.kernel != "cosine":
            return self._weights(d), columns
        if metric != "cosine":
            d = distances_to_some(z, self.embedding_, columns, "cosine")
        return _similarities(d), columns

    def _merged(self, z, k, metric):
        with_cosine = self._params_at_fit.kernel == "cosine"
        return self._corpus_blocks.nearest(z, k, metric, with_cosine)

    def _weighed(self, d, columns, cosine):
        return (self._weights(d) if cosine is None else _similarities(cosine)), columns

    # -- the nearest only ----------------------------------------------------------------------

    def _matrix(self, inputs, exclude_self=False):
        k = self._params_at_fit.n_neighbors
        if k is None or self.neighbors_ is not None:
            return super()._matrix(inputs, exclude_self)
        shape = (len(inputs), len(self.embedding_))
        dtype = np.int32 if max(len(inputs) * k, *shape) < 2**31 else np.int64
        data = np.empty((len(inputs), k), dtype=self._dtype)
        indices = np.empty((len(inputs), k), dtype=dtype)
        blocks = self._nearest_blocks(inputs, exclude_self)
        for rows, importance, columns in self._shown(len(inputs), blocks):
            data[rows], indices[rows] = in_corpus_order(importance, columns)
        indptr = np.arange(len(inputs) + 1, dtype=dtype) * k
        return csr(data.ravel(), indices.ravel(), indptr, shape)

    def _nearest_blocks(self, inputs, exclude_self):
        k, metric = self._params_at_fit.n_neighbors, self._params_at_fit.metric
        for rows, z, excluded in self._codes(inputs, exclude_self):
            yield rows, *self._nearest(z, k, metric, excluded)

    def _top_blocks(self, inputs, k, exclude_self):
        if self.neighbors_ is not None or callable(self._params_at_fit.kernel):
            yield from super()._top_blocks(inputs, k, exclude_self)
        elif self._params_at_fit.n_neighbors is not None:
            self._check_stored(k, self._params_at_fit.n_neighbors)
            for rows, importance, columns in self._nearest_blocks(inputs, exclude_self):
                # In the matrix's dtype more examples may tie.
                yield rows, *first_by_importance(importance.astype(self._dtype), columns, k)
        else:
            for rows, z, excluded in self._codes(inputs, exclude_self):
                yield rows, *self._top_of_all(z, k, excluded)

    def _top_of_all(self, z, k, excluded):
        """Return the k most important of all examples, which no matrix is needed for."""
        if self._corpus_blocks is not None:
            return self._corpus_blocks.top(z, k, self._with_corpus(None)).compute()
        kernel = self._params_at_fit.kernel
        metric = "cosine" if kernel == "cosine" else self._params_at_fit.metric
        n_others = len(self.embedding_) - (excluded is not None)
        importance, columns = self._nearest(z, min(k + 1, n_others), metric, excluded)
        if (np.diff(importance) < 0).all():  # nearer is larger, and nothing ties
            return importance[:, :k], columns[:, :k]
        top = first_by_importance(importance, columns, k)
        if k == n_others:
            return top
        # Where the next one ties, others further away may too: kernels are flat in places.
        tied = np.flatnonzero(importance[:, k] >= importance[:, k - 1])
        for part in parts(len(tied), _TIED // len(self.embedding_)):
            rows = tied[part]
            own = None if excluded is None else excluded[rows]
            found = self._top_of_tied(z[rows], k, metric, importance[rows, k - 1, None], own)
            for values, better in zip(top, found, strict=True):
                values[rows] = better
        return top

    def _top_of_tied(self, z, k, metric, least, own):
        """Return the k most important, where many have the ``least`` importance among these."""
        weights = _similarities if self._params_at_fit.kernel == "cosine" else self._weights
        d = distances(z, self.embedding_, metric)
        # Matrix products round equal distances apart, so what may tie is computed pair by pair.
        slack = 1e-8 if metric in BY_PRODUCT else 0.0
        maybe = weights(d * (1 - slack)) >= least
        if own is not None:
            maybe[np.arange(len(z)), own] = False
        rows, columns = np.nonzero(maybe)
        if metric in BY_PRODUCT:
            values = weights(pair_distances(z, self.embedding_, rows, columns, metric))
        else:
            values = weights(d[rows, columns])
        order = first_of_rows(rows, columns, -values, len(z), k)
        return values[order], columns[order]

    def _sparse_block(self, z, excluded):
        """Return the importance of the nearest, as a CSR matrix whose zeros are stored."""
        shape = (len(z), len(self.embedding_))
        if self.neighbors_ is None:
            k, metric = self._params_at_fit.n_neighbors, self._params_at_fit.metric
            data, columns = in_corpus_order(*self._nearest(z, k, metric, excluded))
            counts = np.full(len(z), k)
            data, columns = data.ravel(), columns.ravel()
        else:
            d, columns, counts = self._their_neighbors(z, excluded)
            if self._params_at_fit.kernel == "cosine":
                row = np.repeat(np.arange(len(z)), counts)
                data = _similarities(pair_distances(z, self.embedding_, row, columns, "cosine"))
            else:
                data = self._weights(d)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        return csr(data.astype(self._dtype), columns, indptr, shape)

    def _their_neighbors(self, z, excluded):
        graph = sparse.csr_matrix(self.neighbors_.transform(z))
        row = np.repeat(np.arange(len(z)), np.diff(graph.indptr))
        d, columns = graph.data.astype(np.float64), graph.indices
        if excluded is not None:
            others = columns != excluded[row]
            row, d, columns = row[others], d[others], columns[others]
        counts = np.bincount(row, minlength=len(z))
        k = self._params_at_fit.n_neighbors
        if k is None:
            k = getattr(self.neighbors_, "n_neighbors", None)
            if k is not None and excluded is not None and counts.min() == k - 1 > 0:
                k -= 1  # it has counted the sample itself, as some do
        if k is None:  # neighbours within a radius: as many as there are
            return d, columns, counts
        if counts.min() < k:
            raise ValueError(
                f"neighbors found {counts.min()} examples for sample {int(counts.argmin())}, but "
                f"n_neighbors={k} are needed; {self._look_for_more()}."
            )
        chosen = first_of_rows(row, columns, d, len(z), k).ravel()
        return d[chosen], columns[chosen], np.full(len(z), k)

    def _weights(self, d):
        """Return the kernel of distances, which may be overwritten."""
        kernel = self._params_at_fit.kernel
        if kernel == "inverse_distance":
            if d.size and d.min() <= self._resolution:
                d[d <= self._resolution] = 0
            d += _EPSILON * self.median_distance_
            return np.divide(1, d, out=d)
        if kernel == "rbf":
            d /= self.median_distance_
            np.square(d, out=d)
            d *= -0.5
            return np.exp(d, out=d)
        weights = np.asarray(call_given("kernel", kernel, d))
        if weights.dtype.kind not in "biuf":
            raise ValueError(
                f"kernel={kernel!r} must return one finite weight per distance, but it returned "
                f"an array of dtype {weights.dtype}."
            )
        weights = weights.astype(np.float64)
        if weights.shape != d.shape or not np.isfinite(weights).all():
            raise ValueError(
                f"kernel={kernel!r} must return one finite weight per distance; for "
                f"distances of shape {d.shape} it returned shape {weights.shape}"
                f"{'' if np.isfinite(weights).all() else ' with NaN or infinity'}."
            )
        return weights


def _similarities(d):
    """Cosine similarities of cosine distances, which are overwritten."""
    return np.subtract(1, d, out=d)
