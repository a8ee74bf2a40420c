"""The base class of estimators of example importance."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import _num_samples, check_is_fitted

from ..base import BaseExplainer
from ..gradients import samples_of
from ..layers import most_rows
from ..representation import Expansion
from ..utils import (
    VERBOSE,
    Integer,
    Names,
    as_array,
    check_comparable,
    check_labels,
    check_positive_int,
    dask_kind,
    known_mean,
    numpy_dtype_of,
    progress,
    sent,
    tasks_of_blocks,
    warn,
)
from ._agreement import in_order, rates_of_labels
from ._corpus_blocks import CorpusBlocks
from ._nearest import first_of_rows, largest

_BLOCK = 2**22  # entries of the matrix held at once besides the output
_N_TOP = 10


class BaseExampleImportance(BaseExplainer):
    """Base class of estimators that say how important each training example is for a sample.

    A subclass implements ``_fit_corpus(inputs)`` and ``_blocks(inputs, exclude_self)``, which
    yields (rows, importance) for a few samples at a time: an ndarray of shape (b, n_train), or a
    CSR matrix if ``_sparse_output`` is true. Larger is more important. Where many examples have no
    importance but still an order, its ``_ranked_blocks`` yields (rows, importance, order), with
    order an ndarray of shape (b, n_train).

    Attributes
    ----------
    corpus_index_ : ndarray of shape (n_train,)
        Labels of the training examples: the index of a pandas DataFrame, else positions.

    See Also
    --------
    sklexplain.DKNNImportance : Made from it.
    sklexplain.base.BaseExplainer : The base of all explainers.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from sklexplain.examples import BaseExampleImportance
    >>> class Products(BaseExampleImportance):
    ...     def __init__(self, estimator, *, batch_size="auto", max_bytes=2**31, verbose=0):
    ...         self.estimator = estimator
    ...         self.batch_size = batch_size
    ...         self.max_bytes = max_bytes
    ...         self.verbose = verbose
    ...
    ...     def _fit_corpus(self, inputs):
    ...         self.codes_ = self._codes(inputs)
    ...
    ...     def _blocks(self, inputs, exclude_self):
    ...         products = self._codes(inputs) @ self.codes_.T
    ...         if exclude_self:
    ...             np.fill_diagonal(products, products.min(axis=1))
    ...         yield slice(0, len(products)), products
    ...
    ...     def _codes(self, inputs):
    ...         return self._representation.activations(inputs, self._params_at_fit.batch_size)
    >>> X = np.random.RandomState(0).normal(size=(50, 3))
    >>> Products(PCA(2)).fit(X).transform(X[:4]).shape
    (4, 50)
    """

    _sparse_output = False
    _corpus_blocks = None  # of a corpus in dask
    _keeps_results = True

    _parameter_constraints = {
        "max_bytes": [Integer()],
        "verbose": [VERBOSE],
    }

    def _remember(self, X, y):
        """Keep labels: of the examples, and of the rows of a pandas DataFrame."""
        if y is not None:
            y = np.asarray(y)
            check_consistent_length(X, y)
        self._labelled = hasattr(X, "iloc")
        self.corpus_index_ = X.index.to_numpy() if self._labelled else np.arange(_num_samples(X))
        self._y = y

    def _fit(self, inputs, y):
        if self._whole is not None:
            self._corpus = self._corpus_blocks = CorpusBlocks(self, self._whole)
            self.corpus_index_, self._y = self._corpus.labels, None
            self._fit_blocks(self._corpus)
            return
        self._corpus = inputs
        self._fit_corpus(inputs)

    def _transform(self, inputs):
        """Return the importance of every training example for every sample.

        Returns
        -------
        importance : ndarray or CSR matrix of shape (n_query, n_train)
            Larger is more important; what a sparse matrix does not store is 0. A ValueError says
            if a dense matrix would be larger than ``max_bytes``.
        """
        return self._matrix(inputs)

    def _fit_transform(self, inputs):
        """Fit, and return the importance of every training example for every other one.

        Returns
        -------
        importance : ndarray or CSR matrix of shape (n_train, n_train)
            Every example is left out of its own corpus: the diagonal of a dense matrix has the
            smallest importance of its row, so that no example ranks above others in its own
            explanation; a sparse one does not store it. Duplicates of it elsewhere are not left
            out.
        """
        return self._matrix(inputs, exclude_self=True)

    def _matrix(self, inputs, exclude_self=False):
        if self._sparse_output:
            blocks = [block for _, block in self._shown_blocks(inputs, exclude_self)]
            return sparse.vstack(blocks, format="csr")
        self._check_bytes(len(inputs))
        out = np.empty((len(inputs), len(self._corpus)), dtype=self._dtype)
        self._fill(out, inputs, exclude_self)
        if exclude_self:
            np.fill_diagonal(out, np.inf)
            smallest = out.min(axis=1)
            np.fill_diagonal(out, np.where(np.isfinite(smallest), smallest, 0))
        return out

    def _row_form(self):
        return (len(self._corpus),), self._dtype, self._sparse_output

    def _fill(self, out, inputs, exclude_self):
        """Write the dense matrix."""
        for rows, block in self._shown_blocks(inputs, exclude_self):
            out[rows] = block

    @property
    def _dtype(self):
        """The network's dtype, but float32 at least."""
        return np.result_type(numpy_dtype_of(self._representation.output_dtype), np.float32)

    def _check_bytes(self, n_query):
        n_train = len(self._corpus)
        needed = n_query * n_train * self._dtype.itemsize
        most = self._params_at_fit.max_bytes
        if needed <= most:
            return
        sparser = ", set n_neighbors for a sparse one" if hasattr(self, "n_neighbors") else ""
        raise ValueError(
            f"the importance of {n_train} training examples for {n_query} samples is a matrix of "
            f"{needed:,} bytes, more than max_bytes={most:,}{sparser}, call "
            "top_examples(X, k) for the k most important examples only, or raise max_bytes."
        )

    def _row_blocks(self, n, n_jobs=1):
        """Slices of n samples: blocks of the matrix stay small, and every job has one."""
        step = max(1, min(_BLOCK // len(self._corpus), -(-n // n_jobs)))
        return [slice(i, min(i + step, n)) for i in range(0, n, step)]

    def _ranked_blocks(self, inputs, exclude_self=False):
        """Yield (rows, importance, order of equal importance), order None for none."""
        for rows, block in self._blocks(inputs, exclude_self):
            yield rows, block, None

    def _shown_blocks(self, inputs, exclude_self=False, ranked=False):
        """Yield blocks, and show progress; raise a ValueError for what is not finite."""
        blocks = self._ranked_blocks if ranked else self._blocks
        return self._shown(len(inputs), blocks(inputs, exclude_self))

    def _bar(self, n):
        return progress(n, self.verbose)

    def _shown(self, n, blocks):
        with self._bar(n) as bar:
            for rows, block, *rest in blocks:
                check_finite(rows.start, block)
                yield rows, block, *rest
                bar.update(rows.stop - rows.start)

    def _examples_at(self, positions):
        """Return training examples in raw units; a ValueError says if only codes were kept."""
        if self._corpus_blocks is not None:
            raise self._corpus_blocks.not_here("showing them")
        if self._texts or not self._representation.keeps_samples:
            raise ValueError(
                f"this {type(self).__name__} has kept what its first steps make of the training "
                "examples, not the examples: give X_train, what it was fitted on."
            )
        return self._representation.restored(self._corpus[positions])

    def top_examples(
        self, X: ArrayLike, k: int, *, exclude_self: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the most important training examples of every sample.

        Needs no matrix of all samples and examples.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_query, ...)
            Samples, in raw units.
        k : int
            How many examples.
        exclude_self : bool, default=False
            X is the training set of ``fit``, in its order, and every example is left out of its own
            corpus.

        Returns
        -------
        importance : ndarray of shape (n_query, k)
            Most important first; examples that tie stand in the order of the corpus, and those
            without a weight of `SimplExImportance` in that of their reduced cost.
        index : ndarray of shape (n_query, k)
            Which examples: labels of the DataFrame's index if ``fit`` was given a pandas one, else
            positions.

        Raises
        ------
        ValueError
            If there are fewer than k examples, or X is not as long as the corpus though
            ``exclude_self`` says that it is the corpus.
        """
        check_is_fitted(self)
        check_positive_int("k", k)
        if dask_kind(X) is not None:
            return self._top_over_blocks(X, k, exclude_self)
        importance, positions = self._top_places(X, k, exclude_self)
        return importance, self.corpus_index_[positions]

    def _top_places(self, X, k, exclude_self=False):
        """Return importance and positions of the most important: labels may be there twice."""
        with self._door(X) as inputs:
            return self._top(inputs, k, exclude_self)

    def _top_over_blocks(self, X, k, exclude_self):
        """Find the most important examples of samples in dask lazily: two dask Arrays."""
        import dask

        if exclude_self:
            raise TypeError(
                "exclude_self=True takes X to be the corpus in its order, which is not known of X "
                "in dask; pass X.compute()."
            )
        find = dask.delayed(_top_of_samples, nout=2, pure=False)
        task = sent(self)
        pairs = [find(block, task, k) for block in tasks_of_blocks(X)]
        return self._tops_in_dask(X, k, pairs)

    def _tops_in_dask(self, X, k, pairs):
        import dask.array as da

        known = dask_kind(X) == "array"
        sizes = X.chunks[0] if known else [np.nan] * len(pairs)
        return tuple(
            da.concatenate(
                [
                    da.from_delayed(pair[i], (size, k), dtype)
                    for pair, size in zip(pairs, sizes, strict=True)
                ]
            )
            for i, dtype in enumerate((self._dtype, self.corpus_index_.dtype))
        )

    def _top(self, inputs, k, exclude_self):
        n_train = len(self._corpus)
        if exclude_self and self._corpus_blocks is not None:
            raise self._corpus_blocks.not_here("exclude_self=True")
        if exclude_self and len(inputs) != n_train:
            raise ValueError(
                f"exclude_self=True takes X to be the {n_train} training examples, but X has "
                f"{len(inputs)} samples."
            )
        if k > n_train - exclude_self:
            others = " others" if exclude_self else ""
            raise ValueError(
                f"k={k} is larger than the corpus of {n_train - exclude_self}{others} training "
                "examples."
            )
        importance = np.empty((len(inputs), k), dtype=self._dtype)
        positions = np.empty((len(inputs), k), dtype=np.intp)
        for rows, *top in self._shown(len(inputs), self._top_blocks(inputs, k, exclude_self)):
            importance[rows], positions[rows] = top
        return importance, positions

    def _top_blocks(self, inputs, k, exclude_self):
        """Yield (rows, importance, positions) of the k most important, for some samples at once."""
        for rows, block, order in self._ranked_blocks(inputs, exclude_self):
            check_finite(rows.start, block)
            excluded = np.arange(rows.start, rows.stop) if exclude_self else None
            yield rows, *self._top_of_block(block, k, excluded, order)

    def _top_of_block(self, block, k, excluded, order=None):
        if order is not None and np.diff(block.indptr).min() < k:
            block = block.toarray()
            columns = in_order(block, order)[:, :k]
            return np.take_along_axis(block, columns, axis=1), columns
        if not sparse.issparse(block):
            if excluded is not None:
                block[np.arange(len(block)), excluded] = -np.inf
            columns = largest(block, k)
            return np.take_along_axis(block, columns, axis=1), columns
        self._check_stored(k, np.diff(block.indptr).min())
        entries = self._top_entries(block, k)
        return block.data[entries], block.indices[entries]

    def _check_stored(self, k, stored):
        if k > stored:
            raise ValueError(
                f"k={k} is larger than the {stored} examples that have an importance; "
                f"{self._more_examples()}."
            )

    def _more_examples(self):
        """Say what gives more training examples an importance."""
        return "raise n_neighbors, or set it to None to give every training example one"

    @staticmethod
    def _top_entries(block, k):
        row = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        return first_of_rows(row, block.indices, -block.data, block.shape[0], k)

    def score(self, X: ArrayLike, y: ArrayLike | None = None) -> float:
        r"""Score how alike samples and their most important examples are.

        With y, the share :math:`s` of the M = 10 most important examples that have the sample's
        label, corrected for the share :math:`p` that random examples would have:

        .. math:: (s - p) / (1 - p)

        Without y, how much closer they are than all examples are, in the space of the inputs:

        .. math:: 1 - \frac{\mathrm{mean} \|x - x_{\mathrm{top}\,M}\|^2}
                  {\mathrm{mean} \|x - x_{\mathrm{all}}\|^2}

        In raw tables with text, categories or missing values, columns of numbers are standardised
        and another value of any other column counts as a distance of 1. Missing numbers count as
        the mean.

        Both are 0 for random examples and at most 1. X should be held-out samples: a training
        example would find itself.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_query, ...)
            Samples, in raw units.
        y : array-like of shape (n_query,), default=None
            Labels.

        Returns
        -------
        score : float
            Larger is better. Ties, and places among the M to which no example has an importance,
            count at their expected value.

        Raises
        ------
        ValueError
            If y is given but ``fit`` was given none, labels are continuous or missing, or one y
            holds text and the other numbers.

        Warns
        -----
        UserWarning
            If all labels, or all inputs, are equal; the score is then 0. If y holds several
            classes, and none that ``fit`` was given.
        """
        if self._corpus_blocks is not None:
            raise self._corpus_blocks.not_here("score")
        with self._door(X) as inputs:
            if y is None:
                score = self._input_score(inputs)
            else:
                score = self._label_score(inputs, as_array(y, "y"))
        if np.isnan(score):
            what = "inputs" if y is None else "labels"
            warn(
                f"all {what} are equal, so no example is closer than others; the score is set to "
                "0, which is chance."
            )
            return 0.0
        return float(score)

    def _label_score(self, inputs, y):
        check_consistent_length(inputs, y)
        if self._y is None:
            raise ValueError(
                "score was given y, but fit was not, so the labels of the training examples are "
                "unknown; call fit(X, y), or score(X) to compare inputs instead."
            )
        y_train, y = np.squeeze(self._y), np.atleast_1d(np.squeeze(y))
        y_train = np.atleast_1d(y_train)
        continuous = y_train.dtype.kind == "f" and (y_train % 1 != 0).any()
        if y_train.ndim != 1 or y.ndim != 1 or continuous:
            raise ValueError(
                "score needs one discrete label per sample, but y is continuous or has several "
                "columns; bin it, or call score(X) to compare inputs instead."
            )
        check_comparable("y", check_labels("y", y), "the y of fit", y_train)
        m = min(_N_TOP, len(y_train))
        hits = prior = 0.0
        for rows, block, order in self._shown_blocks(inputs, ranked=True):
            n = rows.stop - rows.start
            if order is None and sparse.issparse(block):
                # Those with an importance come first, also where it is negative (cosine) or zero.
                block = _by_rank(block)
            hits += n * rates_of_labels(block, y[rows], y_train, m, ties=order)[0]
            prior += (y[rows, None] == y_train).mean(axis=1).sum()
        rate, prior = hits / len(y), prior / len(y)
        return (rate - prior) / (1 - prior) if prior < 1 else np.nan

    @property
    def _rows_at_once(self):
        """Samples that are compared with the corpus together, on the CPU."""
        rows = self._params_at_fit.batch_size
        if self.batch_size != "auto":
            return rows
        # However many a GPU encodes at once: each has a number for every example.
        return min(rows, most_rows("auto", 1, torch.device("cpu")))

    def _input_score(self, inputs):
        n_train = len(self._corpus)
        m = min(_N_TOP, n_train)
        expansion = Expansion.of(self._representation, self._corpus)
        scale = None if expansion is None else _comparable(expansion, expansion(self._corpus))

        def numbers(inputs):
            if expansion is None:
                return inputs.reshape(len(inputs), -1).astype(np.float64)
            return expansion(inputs) / scale

        corpus = numbers(self._corpus)
        center = known_mean(corpus)
        corpus = np.nan_to_num(corpus - center)
        lengths = np.einsum("ij,ij->i", corpus, corpus)
        top = everything = 0.0
        for rows, block, order in self._shown_blocks(inputs, ranked=True):
            x = np.nan_to_num(numbers(samples_of(inputs[rows])) - center)
            # The corpus is centred, so the mean over all of it needs no distances.
            to_all = np.einsum("ij,ij->i", x, x) + lengths.mean()
            everything += to_all.sum()
            top += self._top_sum(block, order, x, corpus, to_all, m) / m
        return 1 - top / everything if everything > 0 else np.nan

    def _top_sum(self, block, order, x, corpus, to_all, m):
        """Sum of squared distances to the m most important, of all rows."""
        if order is not None or not sparse.issparse(block):
            columns = self._top_of_block(block, m, None, order)[1]
            return sum(((x - corpus[c]) ** 2).sum() for c in columns.T)
        total = 0.0
        for i, row_sum in enumerate(to_all * len(corpus)):
            entries = slice(block.indptr[i], block.indptr[i + 1])
            columns = block.indices[entries][np.argsort(-block.data[entries], kind="stable")]
            squares = ((x[i] - corpus[columns]) ** 2).sum(axis=1)
            total += squares[:m].sum()
            if len(columns) < m:  # the remaining places go to any of the others
                rest = (row_sum - squares.sum()) / (len(corpus) - len(columns))
                total += (m - len(columns)) * rest
        return total

    def get_feature_names_out(self, input_features: Names | None = None) -> np.ndarray:
        """Name the columns of `transform`: one for each training example.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Checked against the names seen in ``fit``, else ignored.

        Returns
        -------
        names : ndarray of str
            The labels of the DataFrame given to ``fit``, else the class's name and the position.

        Raises
        ------
        ValueError
            If ``input_features`` are not those of ``fit``.
        """
        check_is_fitted(self)
        if input_features is not None:
            seen = getattr(self, "feature_names_in_", None)
            if seen is not None and not np.array_equal(seen, input_features):
                raise ValueError("input_features is not equal to feature_names_in_")
            if len(input_features) != self.n_features_in_:
                raise ValueError(
                    "input_features should have length equal to number of features "
                    f"({self.n_features_in_}), got {len(input_features)}"
                )
        prefix = "" if self._labelled else type(self).__name__.lower()
        return np.array([f"{prefix}{label}" for label in self.corpus_index_], dtype=object)


def _top_of_samples(block, explainer, k):
    """Find the most important examples of the samples of a block, which may be none."""
    if len(block) == 0:
        index = explainer.corpus_index_
        return np.empty((0, k), explainer._dtype), np.empty((0, k), index.dtype)
    return explainer.top_examples(block, k)


def check_finite(start, block):
    """Raise if importance is not finite.

    Parameters
    ----------
    start : int
        Position of the first sample.
    block : ndarray or CSR matrix of shape (b, ...)
        Importance for b samples.

    Raises
    ------
    ValueError
        Naming the sample.
    """
    values = block.data if sparse.issparse(block) else block
    if np.isfinite(values).all():
        return
    bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))[0]
    if sparse.issparse(block):
        bad = np.searchsorted(block.indptr, bad, side="right") - 1
    raise ValueError(
        f"the importance for sample {start + bad} is not finite: the sample, the network's "
        "weights or the learning rates are too large, or not numbers."
    )


def _by_rank(block):
    """Replace what a sparse matrix stores by ranks within its row, the smallest being 1."""
    row = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    order = np.lexsort((block.data, row))
    values, rows = block.data[order], row[order]
    new_row = np.diff(rows, prepend=-1) > 0
    larger = np.diff(values, prepend=0) != 0
    ranks = np.cumsum(larger | new_row)
    first = np.maximum.accumulate(np.where(new_row, ranks, 0))
    block = block.copy()
    block.data = np.empty(len(order))
    block.data[order] = ranks - first + 1
    return block


def _comparable(expansion, numbers):
    """Return divisors of columns: unit variance, and a distance of 1 between two categories."""
    deviation = numbers.std(axis=0)
    deviation[deviation == 0] = 1.0
    return np.where(expansion.is_category, np.sqrt(2.0), deviation)
