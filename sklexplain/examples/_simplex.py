"""Example importance by the closest convex combination of the corpus."""

from __future__ import annotations

from numbers import Real

import numpy as np
import torch
from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend
from numpy.typing import ArrayLike
from scipy import sparse

from ..exceptions import ConvergenceWarning
from ..explaining import fitted_baseline, mean_sample, warn_of_unreached
from ..representation import no_gradient_reason
from ..utils import (
    A_NUMBER,
    JOBS,
    NONE,
    BatchSize,
    ChannelAxis,
    DeviceLike,
    Integer,
    ModelLike,
    Number,
    RandomState,
    ResponseMethod,
    by_blocks,
    check_positive_int,
    spread_places,
    warn,
)
from ._base import BaseExampleImportance
from ._projections import project
from ._simplex_blocks import BlocksProblem
from ._simplex_solver import SimplexProblem

_N_TRIED = 20


class SimplExImportance(BaseExampleImportance):
    r"""Importance of training examples as weights of a convex combination in latent space.

    A sample's representation is rebuilt from those of the training examples ([1]_, and section 3.2
    of [2]_). The weights are those that minimise

    .. math:: F(w) = \frac{1}{2} \Big\| f(x) - \sum_n w_n f(x_n) \Big\|^2
              + \frac{\lambda}{2} \sum_n w_n \| f(x) - f(x_n) \|^2,
              \quad w_n \ge 0, \quad \sum_n w_n = 1 .

    The second term, with a small :math:`\lambda`, chooses among the many combinations that come
    equally close where there are more examples than latent units: those of nearby examples. With
    it about one example more than there are units has a weight at all, and a training example is
    explained by itself alone.

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
    locality : float, default=1e-2
        :math:`\lambda`: how much nearby examples are preferred. 0 asks for the closest combination
        only, which is seldom unique; a large value leaves only the nearest example.
    n_keep : int or None, default=None
        Keep at most so many examples per sample: those with the largest weights, which are then
        computed anew.
    tol : float, default=1e-6
        Largest duality gap, relative to the squared distance from the sample's representation to
        the mean of the corpus.
    max_iter : int, default=1000
        Most steps of the solver for a sample. It needs a few for each latent unit, see ``n_iter_``.
    channel_axis : {"auto"}, int or None, default="auto"
        Axis of one sample's array that holds channels, for `ExampleDisplay`. ``"auto"``: as the
        network's own layers take it; None: there are none.
    max_bytes : int, default=2**31
        Largest dense matrix returned by estimators of example importance; the one here is sparse
        and not limited.
    batch_size : int or "auto", default="auto"
        Most samples in the network at once. "auto": 1024; on a GPU, what its memory holds.
    device : str, torch.device or None, default=None
        Where the network runs; None: where it is. Weights are computed on the CPU, in float64.
    random_state : int, RandomState instance or None, default=None
        Seed for networks that draw random numbers; nothing else here is random.
    n_jobs : int or None, default=None
        How many blocks of samples are solved at once, by joblib; the network itself runs before,
        a batch at a time. None: 1, or as `joblib.parallel_config` says; -1: one per core.
    verbose : int, default=0
        Whether to show progress.

    Attributes
    ----------
    estimator_ : nn.Module or estimator
        The fitted estimator that is explained.
    embedding_ : ndarray of shape (n_train, n_units)
        Representations of the training examples, in float64.
    n_iter_ : int
        Most steps that the solver took for some training examples (at most 20, spread evenly), each
        left out of its own corpus: what ``max_iter`` compares with.
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

    Warns
    -----
    ConvergenceWarning
        By every method that computes weights, if ``max_iter`` ends it before the gap is at most
        ``tol``.

    See Also
    --------
    DKNNImportance : Importance by distance in latent space.
    sklexplain.metrics.similarity_rate : Share of important examples that have the same label.
    sklexplain.plotting.ExampleDisplay : A sample and its examples.

    Notes
    -----
    `transform` returns a CSR matrix in float64 whose rows sum to 1. Few examples have a weight; the
    others are ranked by `reduced_cost`, in `top_examples` and `score`. With the gradient
    :math:`g_n = \langle f(x_n) - f(x), v \rangle + \frac{\lambda}{2} \|f(x_n) - f(x)\|^2`, where
    :math:`v = \sum_n w_n f(x_n) - f(x)`, no weights have an F smaller by more than the duality gap
    :math:`\sum_n w_n g_n - \min_n g_n`, so a small gap certifies the solution. An active-set
    method ([3]_, with the linear term added) that starts at the nearest example reaches it in a
    number of steps that grows with the number of latent units and hardly with the corpus. Nothing
    changes if representations are shifted, scaled, rotated or reflected. Of duplicates in the
    corpus only the first can have a weight.

    Given a dask Array or DataFrame, ``fit`` takes all of it. Few candidates are solved for, and all
    blocks are asked for better ones until there are none, so that the gap is that of the whole
    corpus. Samples must then be in memory; there is no `score`, `reduced_cost` or
    `feature_projections`, and `top_examples` has examples with a weight only.

    Cost: `fit` runs every training example once through the network, `transform` every sample once;
    the solver takes a few steps for each latent unit. `feature_projections` takes 50 rows for each
    example with a weight.

    References
    ----------
    .. [1] J. Crabbé, Z. Qian, F. Imrie and M. van der Schaar, "Explaining Latent Representations
       with a Corpus of Examples", NeurIPS 2021.
    .. [2] J. Crabbé and M. van der Schaar, "Label-Free Explainability for Unsupervised Models",
       ICML 2022.
    .. [3] P. Wolfe, "Finding the nearest point in a polytope", Mathematical Programming 11, 1976.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklexplain.examples import SimplExImportance
    >>> X, y = load_iris(return_X_y=True)
    >>> simplex = SimplExImportance(PCA(n_components=2)).fit(X[::2], y[::2])
    >>> weights = simplex.transform(X[1::2])
    >>> weights.shape
    (75, 75)
    >>> int(weights.getnnz(axis=1).max())
    3
    >>> importance, index = simplex.top_examples(X[1::2], k=3)
    >>> y[::2][index[0]]
    array([0, 0, 0])
    >>> bool(simplex.residual(X[1::2]).mean() < 0.1)
    True
    """

    _reads_rows = True
    _sparse_output = True
    _merges_blocks = True

    _parameter_constraints = {
        "locality": [Number(at_least=0)],
        "n_keep": [Integer(), NONE],
        "tol": [Number(above=0)],
        "max_iter": [Integer()],
        "n_jobs": [JOBS, NONE],
    }

    def __init__(
        self,
        estimator: ModelLike,
        *,
        layer: str | None = None,
        response_method: ResponseMethod = "auto",
        locality: float = 1e-2,
        n_keep: int | None = None,
        tol: float = 1e-6,
        max_iter: int = 1000,
        channel_axis: ChannelAxis = "auto",
        max_bytes: int = 2**31,
        batch_size: BatchSize = "auto",
        device: DeviceLike | None = None,
        random_state: RandomState = None,
        n_jobs: int | None = None,
        verbose: int | bool = 0,
    ) -> None:
        self.estimator = estimator
        self.layer = layer
        self.response_method = response_method
        self.locality = locality
        self.n_keep = n_keep
        self.tol = tol
        self.max_iter = max_iter
        self.channel_axis = channel_axis
        self.max_bytes = max_bytes
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _fit_corpus(self, inputs):
        n_keep = self._params_at_fit.n_keep
        if n_keep is not None and n_keep > len(inputs):
            raise ValueError(
                f"n_keep={n_keep} is larger than the corpus: n_samples = {len(inputs)}."
            )
        self.embedding_ = self._latents(inputs, "training example")
        self._problem = SimplexProblem(self.embedding_, float(self._params_at_fit.locality))
        self.n_iter_ = self._steps_of_some()

    def _fit_blocks(self, blocks):
        n_keep = self._params_at_fit.n_keep
        if n_keep is not None and n_keep > len(blocks):
            raise ValueError(
                f"n_keep={n_keep} is larger than the corpus: n_samples = {len(blocks)}."
            )
        self.embedding_ = blocks.representations()
        self._problem = BlocksProblem(blocks, float(self._params_at_fit.locality))
        self.n_iter_ = self._steps_of_some()

    def _steps_of_some(self):
        n_train = len(self.embedding_)
        if n_train == 1:
            return 1
        some = spread_places(n_train, _N_TRIED)
        blocks = self._corpus_blocks
        z = self.embedding_[some] if blocks is None else blocks.take(some)
        solution = self._problem.solve(
            z, exclude=some, tol=self._params_at_fit.tol, max_iter=self._params_at_fit.max_iter
        )
        return max(1, int(solution.n_iter.max()))

    def _latents(self, inputs, what="sample"):
        z = self._representation.activations(inputs, self._params_at_fit.batch_size).astype(
            np.float64
        )
        bad = np.flatnonzero(~np.isfinite(z).all(axis=1))
        if len(bad):
            raise ValueError(
                f"the representation of {what} {bad[0]} is not finite; check the network's output."
            )
        return z

    @property
    def _dtype(self):
        """float64, in which the weights sum to 1."""
        return np.dtype(np.float64)

    def _more_examples(self):
        if self._corpus_blocks is None:
            return super()._more_examples()
        return "with the corpus in dask, the others have no order"

    def _over_blocks(self, name, X, form, args, kwargs):
        if self._corpus_blocks is not None:
            raise self._corpus_blocks.not_here(f"{name} of samples in dask")
        return super()._over_blocks(name, X, form, args, kwargs)

    def _top_over_blocks(self, X, k, exclude_self):
        if self._corpus_blocks is not None:
            raise self._corpus_blocks.not_here("top_examples of samples in dask")
        return super()._top_over_blocks(X, k, exclude_self)

    # -- solving -------------------------------------------------------------------------------

    def _blocks(self, inputs, exclude_self=False):
        for rows, _, solution in self._solutions(inputs, exclude_self):
            yield rows, solution.weights

    def _ranked_blocks(self, inputs, exclude_self=False):
        """Yield (rows, weights, order beyond the weights) for a few samples at a time."""
        if self._corpus_blocks is not None:  # which has no order beyond them
            yield from super()._ranked_blocks(inputs, exclude_self)
            return
        for rows, z, solution in self._solutions(inputs, exclude_self):
            excluded = np.arange(rows.start, rows.stop) if exclude_self else None
            yield rows, solution.weights, self._order(z, solution.weights, excluded)

    def _order(self, z, weights, excluded=None):
        return -self._problem.reduced_costs(z, weights, excluded)

    def _solutions(self, inputs, exclude_self=False):
        """Yield (rows, representations, solution) for a few samples at a time."""
        if exclude_self and len(self.embedding_) == 1:
            raise ValueError(
                "the corpus has n_samples = 1, and nothing is left when that is left out of its "
                "own corpus; fit on more."
            )
        params, worst, n_failed = self._params_at_fit, 0.0, 0
        step, (backend, _) = self._rows_at_once, get_active_backend(prefer="threads")
        return_as = "generator" if backend.supports_return_generator else "list"  # of ray: a list
        for start in range(0, len(inputs), step):
            z = self._latents(inputs[start : start + step])
            n_jobs = self._params_at_fit.n_jobs
            parts = self._row_blocks(len(z), effective_n_jobs(n_jobs))
            excluded = [
                np.arange(start + part.start, start + part.stop) if exclude_self else None
                for part in parts
            ]
            # Mostly in compiled code, which lets other threads run.
            solutions = Parallel(n_jobs=n_jobs, prefer="threads", return_as=return_as)(
                delayed(self._problem.solve)(
                    z[part],
                    exclude=indices,
                    n_keep=params.n_keep,
                    tol=params.tol,
                    max_iter=params.max_iter,
                )
                for part, indices in zip(parts, excluded, strict=True)
            )
            for part, solution in zip(parts, solutions, strict=True):
                rows = slice(start + part.start, start + part.stop)
                failed = ~solution.converged
                n_failed += failed.sum()
                worst = max(worst, solution.gap[failed].max(initial=0.0))
                yield rows, z[part], solution
        if n_failed:
            warn(
                f"max_iter={params.max_iter} steps ended {n_failed} of {len(inputs)} samples "
                f"early: the largest relative duality gap is {worst:.2g}, more than "
                f"tol={params.tol:.2g}; raise max_iter or tol.",
                ConvergenceWarning,
            )

    def _combined(self, weights):
        """Combine representations of the corpus by weights (b, n)."""
        if self._corpus_blocks is not None:
            return self._problem.combined(weights)
        return weights @ self.embedding_

    @by_blocks(A_NUMBER)
    def residual(self, X: ArrayLike) -> np.ndarray:
        r"""Return how far the combinations stay from the samples' representations.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_query, ...)
            Samples, in raw units.

        Returns
        -------
        residual : ndarray of shape (n_query,) of float64
            :math:`\| f(x) - \sum_n w_n f(x_n) \|`: small where the corpus can account for the
            sample.
        """
        with self._door(X) as inputs:
            blocks = self._solutions(inputs)
            parts = [z - self._combined(solution.weights) for _, z, solution in blocks]
        return np.linalg.norm(np.concatenate(parts), axis=1)

    @by_blocks(A_NUMBER)
    def duality_gap(self, X: ArrayLike) -> np.ndarray:
        """Return the certificate of the samples' weights.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_query, ...)
            Samples, in raw units.

        Returns
        -------
        gap : ndarray of shape (n_query,) of float64
            By how much F could at most be smaller, relative to the squared distance between the
            sample's representation and the mean of the corpus (to a millionth of the corpus's
            variance, if that is more). Where ``n_keep`` has left examples out, that is among
            weights for the others.
        """
        with self._door(X) as inputs:
            return np.concatenate([s.gap for _, _, s in self._solutions(inputs)])

    def reduced_cost(self, X: ArrayLike) -> np.ndarray:
        r"""Return how far from a weight every training example is.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_query, ...)
            Samples, in raw units.

        Returns
        -------
        cost : ndarray of shape (n_query, n_train) of float64
            :math:`g_n - \sum_m w_m g_m`, with the gradient g of the notes: by how much F would
            grow, to first order, for every part of the weights that is given to the example
            instead. 0 for examples with a weight. The smaller, the closer to one: that is the order
            of `top_examples` among the examples without weight. A ValueError says if the matrix
            would be larger than ``max_bytes``.
        """
        if self._corpus_blocks is not None:
            raise self._corpus_blocks.not_here("reduced_cost")
        with self._door(X) as inputs:
            self._check_bytes(len(inputs))
            return np.concatenate([-order for *_, order in self._ranked_blocks(inputs)])

    # -- explaining by features ----------------------------------------------------------------

    def feature_projections(
        self, X: ArrayLike, k: int | None = None, *, baseline: ArrayLike = "mean", n_steps: int = 50
    ) -> tuple[np.ndarray, np.ndarray]:
        r"""Return which features of the important examples link them to the samples.

        The combination of a sample is a shift from the representation of a baseline
        :math:`\bar x`, :math:`d = \sum_n w_n f(x_n) - f(\bar x)`. With :math:`u = d / \|d\|^2`,
        feature i of example c has the share

        .. math:: p_{c,i} = (x_{c,i} - \bar x_i) \int_0^1 \frac{\partial}{\partial x_i}
                  \langle f(\bar x + t (x_c - \bar x)), u \rangle \, dt

        of it, and over all weights :math:`\sum_c w_c \sum_i p_{c,i} = 1`
        (section 2.2 of the paper that `SimplExImportance` follows).

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_query, ...)
            Samples, in raw units.
        k : int or None, default=None
            Number of examples per sample, those of `top_examples`. None: as many as the sample with
            the most weights has, so that no weight is missing.
        baseline : "mean" or array-like, default="mean"
            What "absent" means: the mean of the corpus, or an array of a sample's shape or of
            several samples (averaged over), in raw units.
        n_steps : int, default=50
            Number of Gauss-Legendre nodes of the integral.

        Returns
        -------
        index : ndarray of shape (n_query, k)
            Which examples, as `top_examples` returns them.
        projections : ndarray of shape (n_query, k, *X.shape[1:])
            The shares of their features, in the network's dtype.

        Raises
        ------
        TypeError
            If there are no gradients, because the network takes integers or a step of the
            estimator has no torch form.
        ValueError
            If k is larger than the corpus, or ``baseline`` has another shape.

        Warns
        -----
        ConvergenceWarning
            If the shares miss their sum by more than 5 % for some pairs of a sample and an example.
        UnreachedInputWarning
            If no gradient reaches some inputs that the representation depends on.
        SklexplainWarning
            If a combination is the representation of the baseline itself, so that there is
            nothing to share out; the projections are then 0.
        """
        if self._corpus_blocks is not None:
            raise self._corpus_blocks.not_here("feature_projections")
        with self._door(X) as inputs:
            check_positive_int("n_steps", n_steps)
            if k is not None and check_positive_int("k", k) > len(self._corpus):
                raise ValueError(
                    f"k={k} is larger than the corpus of {len(self._corpus)} training examples."
                )
            self._require_gradients()
            references = self._references(baseline)
            solved = [(z, solution.weights) for _, z, solution in self._solutions(inputs)]
            weights = sparse.vstack([block for _, block in solved], format="csr")
            k = int(weights.getnnz(axis=1).max()) if k is None else k
            tops = [self._top_of_block(w, k, None, self._order(z, w))[1] for z, w in solved]
            positions = np.concatenate(tops)
            self._warn_of_unreached()
            projections = project(
                self._representation,
                self._corpus,
                positions,
                weights @ self.embedding_,
                references,
                n_steps=n_steps,
                batch_size=self._params_at_fit.batch_size,
                input_shape=self.input_shape_,
                verbose=self._params_at_fit.verbose,
            )
            return self.corpus_index_[positions], projections

    def _require_gradients(self):
        if not self._representation.differentiable:
            reason = no_gradient_reason(self._representation)
            raise TypeError(
                f"feature_projections needs gradients, but {reason}; transform, top_examples and "
                "residual work without."
            )

    def _warn_of_unreached(self):
        names = getattr(self, "feature_names_in_", None)
        batch_size = self._params_at_fit.batch_size
        warn_of_unreached(
            self._representation, self._corpus, names, batch_size=batch_size, seed=self.seed_
        )

    def _references(self, baseline):
        """Baseline rows, as they enter the network; raise a ValueError for an unknown name."""
        if callable(baseline) or (isinstance(baseline, str) and baseline != "mean"):
            raise ValueError(f"baseline={baseline!r} is unknown; use 'mean' or an array.")
        return fitted_baseline(
            baseline,
            self._representation,
            self._corpus,
            mean=mean_sample(self._representation, self._corpus),
            input_shape=self.input_shape_,
            seed=self.seed_,
            estimator=self,
        )


def _check_real(name, value, condition, holds):
    if not isinstance(value, Real) or isinstance(value, (bool, torch.Tensor)):
        raise TypeError(f"{name}={value!r} must be a number.")
    if not (np.isfinite(value) and holds(value)):
        raise ValueError(f"{name}={value} must {condition}, and finite.")
