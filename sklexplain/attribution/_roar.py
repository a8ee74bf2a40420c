"""Remove and retrain: whether a model misses the features that an explanation names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.integrate import trapezoid
from sklearn.base import clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import KFold, StratifiedKFold, check_cv
from sklearn.utils import Bunch, check_consistent_length

from ..utils import (
    JOBS,
    NONE,
    SEED,
    Entries,
    EstimatorLike,
    Integer,
    Number,
    RandomState,
    SplitterLike,
    as_array,
    as_array_like,
    as_numbers,
    by_columns,
    check_numbers,
    column_labels,
    draw_seed,
    is_table,
    lent,
    n_shape,
    validated,
)

_MAPS = "what the attributor returned"


@validated(
    shares=[Entries("a sequence of shares", Number(above=0, below=1), n_least=1)],
    n_random=[Integer()],
    random_state=[SEED],
    n_jobs=[JOBS, NONE],
)
def roar(
    estimator: EstimatorLike,
    attributor: EstimatorLike | Callable[..., Any],
    X: ArrayLike,
    y: ArrayLike | None = None,
    *,
    shares: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
    scoring: str | Callable[..., Any] | None = None,
    cv: int | SplitterLike = 3,
    n_random: int = 3,
    random_state: RandomState = None,
    n_jobs: int | None = None,
) -> Bunch:
    r"""Score models that are trained again without the features that an explanation names.

    In every split the estimator is fitted and explained. Then, for each share, that part of the
    features of each sample, those of largest \|attribution\|, is set to the mean of the training
    samples, in training and test samples alike; the estimator is trained again, and scored on the
    test samples. Of features that tie, it is random ones. The same is done with features drawn at
    random. Where an explanation names what a model can learn from, the scores fall faster than at
    random (ROAR [1]_; without labels, appendix C.1 of [2]_).

    Training again makes sure that a score falls because information is missing, and not because a
    model meets inputs that are unlike those it was trained on.

    Parameters
    ----------
    estimator : estimator
        Cloned and fitted, once for each split, share, and way of choosing features.
    attributor : explainer or callable
        An explainer with the parameter ``estimator``, which is cloned and given the fitted
        estimator, such as `LabelFreeAttributor`; or a callable(fitted estimator, X_train, X) that
        returns attributions of X.
    X : array-like or DataFrame of shape (n, ...)
        Samples, numbers only.
    y : array-like of shape (n,) or None, default=None
        Target, if the estimator or the scoring needs one.
    shares : sequence of float, default=(0.1, 0.3, 0.5, 0.7, 0.9)
        Shares of the features that are removed, between 0 and 1; their number is rounded up, but
        one feature is always kept.
    scoring : str, callable or None, default=None
        As in scikit-learn; None is the estimator's own ``score``.
    cv : int or splitter, default=3
        Number of folds, of shuffled samples (stratified for classifiers), or a splitter.
    n_random : int, default=3
        Number of random choices of features, for each split.
    random_state : int, RandomState instance or None, default=None
        Determines the folds, the random choices, and the order of features that tie.
    n_jobs : int or None, default=None
        Number of models that are trained at the same time, by joblib.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        shares : ndarray of shape (n_shares + 1,)
            In ascending order, with 0 before them.
        attributed : ndarray of shape (n_shares + 1, n_splits)
            Scores without the features of largest \|attribution\|.
        random : ndarray of shape (n_shares + 1, n_random, n_splits)
            Scores without random features.
        gain : ndarray of shape (n_splits,)
            Area between the two curves, positive if scores fall faster without the features of
            largest \|attribution\|; over the largest share, so that it is a mean difference.

    Raises
    ------
    ValueError
        If X is not finite or has a single feature, the lengths of X and y differ, or attributions
        are not of the shape of X.
    TypeError
        If the attributor is neither an explainer nor a callable, or there are several scores.

    See Also
    --------
    sklexplain.metrics.latent_shift_curve : Masks without training again.

    Notes
    -----
    An unsupervised score, such as R² of a reconstruction, is of the samples without those features,
    which may be easier to reconstruct than the whole ones: look at the difference from random
    choices, not at the fall.

    References
    ----------
    .. [1] S. Hooker, D. Erhan, P.-J. Kindermans and B. Kim, "A Benchmark for Interpretability
       Methods in Deep Neural Networks", NeurIPS 2019.

    .. [2] J. Crabbé and M. van der Schaar, "Label-Free Explainability for Unsupervised Models",
       ICML 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklexplain.metrics import roar
    >>> X = np.random.default_rng(0).normal(size=(90, 4))
    >>> y = X[:, 0]
    >>> by_weight = lambda model, X_train, X: X * model.coef_
    >>> result = roar(LinearRegression(), by_weight, X, y, shares=[0.25], random_state=0)
    >>> bool((result.gain > 0.3).all())
    True
    """
    make = _maker(attributor)
    X = as_array_like(X)
    values = check_numbers("X", X, min_ndim=2)
    if values[0].size < 2:
        raise ValueError("X has a single feature, and without it there is nothing to train on.")
    values = values.astype(np.result_type(values.dtype, np.float32), copy=True)
    if y is not None:
        y = as_array(y, "y")
        check_consistent_length(values, y)
    seed = draw_seed(random_state)
    if isinstance(scoring, (list, tuple, set, dict)):
        raise TypeError(f"scoring={scoring!r} holds several scores; call roar with one at a time.")
    scorer = check_scoring(estimator, scoring)
    splits = list(_splitter(cv, y, estimator, seed).split(values, y))
    shares = np.unique(np.asarray(shares, dtype=float))
    task = _Task(estimator, make, scorer, values, y, _packer(X))
    parallel = Parallel(n_jobs=n_jobs)
    whole = parallel(delayed(task.explained)(*split) for split in splits)
    jobs = []
    for number, (_, importance) in enumerate(whole):
        # Where many features have the importance 0, their places must not choose among them.
        ties = np.random.default_rng([seed, number, n_random]).random(importance.shape)
        orders = [np.lexsort((ties, -np.abs(importance)), axis=1)]
        for draw in range(n_random):
            rng = np.random.default_rng([seed, number, draw])
            orders.append(
                rng.permuted(np.tile(np.arange(orders[0].shape[1]), (len(values), 1)), axis=1)
            )
        jobs += [(order, share, *splits[number]) for order in orders for share in shares]
    scores = parallel(delayed(task.removed)(*job) for job in jobs)
    scores = np.reshape(scores, (len(splits), 1 + n_random, len(shares))).T
    full = np.array([score for score, _ in whole])
    scores = np.concatenate([np.broadcast_to(full, (1, 1 + n_random, len(splits))), scores])
    shares = np.concatenate([[0.0], shares])
    attributed, random = scores[:, 0], scores[:, 1:]
    gain = trapezoid(random.mean(axis=1) - attributed, shares, axis=0) / shares[-1]
    return Bunch(shares=shares, attributed=attributed, random=random, gain=gain)


class _Task:
    """What is done for a split, in any process."""

    def __init__(self, estimator, make, scorer, X, y, pack):
        self.estimator, self.make, self.scorer = estimator, make, scorer
        self.X, self.y, self.pack = X, y, pack

    def explained(self, train, test):
        """Return the score of a fitted model, and attributions of all samples."""
        fitted = self._fitted(self.X, train)
        X = self.pack(lent(self.X))
        maps = self.make(fitted, self.pack(self.X[train]), X)
        importance = _numbers(by_columns(maps, column_labels(X), _MAPS, strict=False))
        if importance.shape != self.X.shape:
            raise ValueError(
                f"the attributor returned shape {importance.shape} for X of shape "
                f"{self.X.shape}; it must name every entry of "
                f"{n_shape(self.X.shape[1:])} (no groups of features, no single units)."
            )
        if not np.isfinite(importance).all():
            raise ValueError("the attributor returned values that are not finite.")
        return self._score(fitted, self.X, test), importance.reshape(len(self.X), -1)

    def removed(self, order, share, train, test):
        """Return the score of a model that was trained without a share of the features."""
        X = self.X.reshape(order.shape).copy()
        n_removed = min(int(np.ceil(round(share * X.shape[1], 9))), X.shape[1] - 1)
        columns = order[:, :n_removed]
        mean = X[train].mean(axis=0, dtype=np.float64)
        np.put_along_axis(X, columns, mean[columns].astype(X.dtype), axis=1)
        X = X.reshape(self.X.shape)
        return self._score(self._fitted(X, train), X, test)

    def _fitted(self, X, train):
        target = () if self.y is None else (self.y[train],)
        return clone(self.estimator).fit(self.pack(X[train]), *target)

    def _score(self, fitted, X, test):
        target = () if self.y is None else (self.y[test],)
        score = self.scorer(fitted, self.pack(X[test]), *target)
        try:
            return float(score)
        except (TypeError, ValueError):
            raise TypeError(
                f"scoring={self.scorer!r} returned {type(score).__name__}, no number; give one "
                "score, as a name or as a callable(estimator, X, y)."
            ) from None


def _numbers(maps):
    """Attributions in float64, whatever holds them."""
    if sparse.issparse(maps):
        return maps.toarray().astype(np.float64)
    maps = as_numbers(as_array_like(maps, _MAPS), _MAPS)
    return np.asarray(maps, dtype=np.float64)


class _Frames:
    """Makes DataFrames of arrays, for estimators that know columns by their names."""

    def __init__(self, kind, columns):
        self.kind, self.columns = kind, columns

    def __call__(self, values):
        if hasattr(self.kind, "get_columns"):  # of polars, which would take a square for columns
            return self.kind(values, schema=self.columns, orient="row")
        return self.kind(values, columns=self.columns)


def _as_it_is(values):
    return values


def _packer(X):
    return _Frames(type(X), X.columns) if is_table(X) else _as_it_is


class _Explainer:
    """From a fitted estimator to attributions, by an explainer."""

    def __init__(self, attributor):
        self.attributor = attributor

    def __call__(self, fitted, X_train, X):
        params = self.attributor.get_params(deep=False)
        # Copies, as of a RandomState, which must be the same in every split and process.
        params = {k: clone(v, safe=False) for k, v in params.items() if k != "estimator"}
        maps = type(self.attributor)(estimator=fitted, **params).fit(X_train).transform(X)
        if hasattr(maps, "columns"):  # scikit-learn is configured so, and columns are flat
            maps = np.asarray(maps)
            maps = maps.reshape(X.shape) if maps.size == np.size(X) else maps
        return maps


def _maker(attributor):
    if hasattr(attributor, "get_params") and "estimator" in attributor.get_params(deep=False):
        return _Explainer(attributor)
    if callable(attributor) and not isinstance(attributor, type):
        return attributor
    raise TypeError(
        f"attributor={attributor!r} must be an explainer with the parameter 'estimator', such as "
        "LabelFreeAttributor(estimator), or a callable(fitted estimator, X_train, X) that returns "
        "attributions of X."
    )


def _splitter(cv, y, estimator, seed):
    if not isinstance(cv, (int, np.integer)) or isinstance(cv, bool):
        return check_cv(cv, y, classifier=is_classifier(estimator))
    kind = StratifiedKFold if y is not None and is_classifier(estimator) else KFold
    return kind(int(cv), shuffle=True, random_state=seed)
