"""How much reconstructions help with the task."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import Bunch, check_consistent_length
from skorch import NeuralNet, NeuralNetClassifier
from torch import nn

from ..layers import copied
from ..representation import named, unwrap
from ..training import draw_weights, undrawn
from ..utils import (
    SEED,
    EstimatorLike,
    Number,
    RandomState,
    as_array,
    as_array_like,
    check_comparable,
    check_positive_int,
    check_sortable,
    draw_seed,
    in_plain_modes,
    is_missing,
    seeded,
    validated,
)
from ._cladec import ClaDecExplainer
from ._interpretability import check_explainer
from ._paired import score_interval, score_test
from ._units import TableUnits


@torch.inference_mode(False)  # else what is copied could not be trained
@validated(confidence_level=[Number(above=0, below=1)], random_state=[SEED])
def evaluation_accuracy(
    explainer: ClaDecExplainer,
    X_train: ArrayLike,
    y_train: ArrayLike,
    X_test: ArrayLike,
    y_test: ArrayLike,
    *,
    classifier: EstimatorLike | None = None,
    confidence_level: float = 0.95,
    random_state: RandomState = None,
) -> Bunch:
    """Accuracy of classifiers that learn from reconstructions instead of samples.

    One fresh classifier learns from the explainer's reconstructions, another from the reference's,
    and both are tested on reconstructed test samples ([1]_, section IV-A). Reconstructions by the
    explained layer contain less of a sample than those of the reference; if a classifier does
    better with them nevertheless, what they do contain is what matters.

    Parameters
    ----------
    explainer : ClaDecExplainer
        Fitted.
    X_train : array-like or DataFrame of shape (n_train, ...)
        Samples to learn from, reconstructed.
    y_train : array-like of shape (n_train,) or (n_train, 1)
        Their labels.
    X_test : array-like or DataFrame of shape (n_test, ...)
        Samples to test on, reconstructed too.
    y_test : array-like of shape (n_test,) or (n_test, 1)
        Their labels.
    classifier : estimator or None, default=None
        The classifier; a clone is fitted. None: the explained model with newly drawn weights, which
        is a clone of an estimator; for a module, a skorch net with Adam, for 20 epochs.
    confidence_level : float, default=0.95
        Of the interval.
    random_state : int, RandomState instance or None, default=None
        Determines the first weights and the order of samples, the same for both classifiers.

    Returns
    -------
    result : Bunch
        ``explanation`` and ``reference``, the accuracies, and ``balanced_explanation`` and
        ``balanced_reference``, their means over classes, which rare classes need; ``difference``,
        the first accuracy minus the second, and ``interval`` around it, Tango's for paired
        proportions ([2]_); ``p_value`` of the score test that it inverts, McNemar's without a
        correction: with b samples that only the first gets right and c that only the second does,
        (b - c)² / (b + c) is chi-squared with one degree of freedom. So the interval leaves out 0
        exactly if the p-value is below 1 - ``confidence_level``. Last, ``correct_explanation`` and
        ``correct_reference``, ndarrays of bool. Without a reference, only what does not need it;
        the rest is None.

    Raises
    ------
    ValueError
        If reconstructions are not what the classifier takes, its weights cannot be drawn, y is no
        column of labels, or one y holds text and the other numbers.

    Warns
    -----
    SklexplainWarning
        If ``y_test`` holds several classes, and ``y_train`` none of them.

    See Also
    --------
    sklexplain.metrics.interpretability : How close reconstructions are to samples.
    sklexplain.metrics.evaluation_accuracy_scorer : As ``scoring=`` of a search.
    sklexplain.ClaDecExplainer : What reconstructs.

    Notes
    -----
    The interval is about these two classifiers: it does not say how far others, that start from
    other weights, would differ. Where fewer than ten samples are answered differently, the score
    test is approximate; ``scipy.stats.binomtest(b, b + c)`` is exact and more cautious.

    References
    ----------
    .. [1] J. Schneider, M. Vlachos, "Explaining Neural Networks by Decoding Layer Activations",
       2020.
    .. [2] T. Tango, "Equivalence test and confidence interval for the difference in proportions
       for the paired-sample design", Statistics in Medicine, 1998.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklexplain import ClaDecExplainer
    >>> from sklexplain.metrics import evaluation_accuracy
    >>> X, y = load_iris(return_X_y=True)
    >>> explainer = ClaDecExplainer(
    ...     PCA(2), reference=None, max_epochs=20, validation_split=None, random_state=0
    ... ).fit(X[::2])
    >>> classifier = LogisticRegression(max_iter=1000)
    >>> result = evaluation_accuracy(
    ...     explainer, X[::2], y[::2], X[1::2], y[1::2], classifier=classifier, random_state=0
    ... )
    >>> result.explanation > 0.8
    True
    """
    check_explainer(explainer)
    X_train, X_test = as_array_like(X_train, "X_train"), as_array_like(X_test, "X_test")
    y_train, y_test = _labels(y_train, "y_train"), _labels(y_test, "y_test")
    check_consistent_length(X_train, y_train)
    check_consistent_length(X_test, y_test)
    check_comparable("y_test", y_test, "y_train", y_train)
    seed = draw_seed(random_state)
    fresh = _fresh_classifier(explainer, classifier)
    like = explainer.estimator_ if classifier is None else None  # whose column names it knows
    classes = _labels_of_outputs(explainer, y_train) if classifier is None else None
    correct = []
    for reconstruct in _reconstructions(explainer, classifier):
        data = reconstruct(X_train), y_train, reconstruct(X_test)
        predicted = _predicted_labels(fresh, *data, seed, like, classes)
        correct.append(predicted == y_test)
    result = Bunch(explanation=float(correct[0].mean()), correct_explanation=correct[0])
    result.balanced_explanation = _balanced(correct[0], y_test)
    for name in ("reference", "correct_reference", "difference", "interval", "p_value"):
        result[name] = None
    result.balanced_reference = None
    if len(correct) == 1:
        return result
    gained, lost = int((correct[0] & ~correct[1]).sum()), int((correct[1] & ~correct[0]).sum())
    result.reference, result.correct_reference = float(correct[1].mean()), correct[1]
    result.difference = (gained - lost) / len(y_test)
    result.balanced_reference = _balanced(correct[1], y_test)
    result.interval = score_interval(gained, lost, len(y_test), confidence_level)
    result.p_value = score_test(gained, lost)
    return result


def evaluation_accuracy_scorer(*, cv: int = 2, **params: Any) -> Callable[..., float]:
    """Make a scorer of explainers: the accuracy of classifiers that learn from reconstructions.

    Parameters
    ----------
    cv : int, default=2
        Number of parts of the scored samples; each is tested on what was learned from the others.
    **params : object
        ``classifier`` and ``random_state`` of `evaluation_accuracy`.

    Returns
    -------
    scorer : callable
        ``scorer(explainer, X, y)`` returns the share of right answers; it can be pickled.

    Raises
    ------
    TypeError
        If `evaluation_accuracy` has no such parameter.

    See Also
    --------
    sklexplain.metrics.evaluation_accuracy : The measure.
    sklexplain.metrics.interpretability_scorer : The other measure of the paper.

    Examples
    --------
    >>> from sklexplain.metrics import evaluation_accuracy_scorer, interpretability_scorer
    >>> scoring = {
    ...     "accuracy": evaluation_accuracy_scorer(random_state=0),
    ...     "interpretability": interpretability_scorer(),
    ... }  # of GridSearchCV(..., scoring=scoring, refit="accuracy")
    """
    check_positive_int("cv", cv, minimum=2)
    unknown = set(params) - {"classifier", "random_state"}
    if unknown:
        raise TypeError(f"evaluation_accuracy_scorer has no parameter {min(unknown)!r}.")
    return partial(_score_accuracy, cv=cv, params=params)


@torch.inference_mode(False)
def _score_accuracy(explainer, X, y, *, cv, params):
    check_explainer(explainer)
    seed = draw_seed(params.get("random_state"))
    X, y = as_array_like(X), _labels(y, "y")
    classifier = params.get("classifier")
    fresh = _fresh_classifier(explainer, classifier)
    like = explainer.estimator_ if classifier is None else None
    classes = _labels_of_outputs(explainer, y) if classifier is None else None
    reconstructed = next(_reconstructions(explainer, classifier))(X)
    correct = np.zeros(len(y), dtype=bool)
    folds = StratifiedKFold(cv, shuffle=True, random_state=seed)
    for train, test in folds.split(reconstructed, y):
        data = reconstructed[train], y[train], reconstructed[test]
        predicted = _predicted_labels(fresh, *data, seed, like, classes)
        correct[test] = predicted == y[test]
    return float(correct.mean())


def _labels(y, name):
    """Read labels from whatever holds one for each sample: an array, or a column.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, 1)
        The labels.
    name : str
        The parameter, for messages.

    Returns
    -------
    y : ndarray of shape (n,)

    Raises
    ------
    ValueError
        If there are several columns, a label is missing, or they are numbers without classes.
    TypeError
        If labels are of several types.
    """
    y = as_array(y, name)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise ValueError(
            f"{name} has shape {y.shape}, but each sample needs one label: give a single column "
            f"({name}.argmax(axis=1) where there is one for each class)."
        )
    if y.dtype.kind == "O":
        absent = [is_missing(label) for label in y]
    else:
        absent = np.isnat(y) if y.dtype.kind in "mM" else y != y
    absent = np.asarray(absent, dtype=bool)
    if y.dtype.kind == "f":
        absent |= np.isinf(y)
    if absent.any():
        i = np.flatnonzero(absent)[0]
        raise ValueError(f"{name} holds {y[i]} for sample {i}: every sample needs a label.")
    if y.dtype.kind == "f" and (y != np.round(y)).any():
        i = np.flatnonzero(y != np.round(y))[0]
        raise ValueError(
            f"{name} holds {y[i]:g} for sample {i}, which is no label of a class: accuracy is "
            "about classes, for regressors there is the explainer's agreement(X)."
        )
    return check_sortable(name, y)


def _balanced(correct, y):
    """Accuracy, averaged over classes."""
    return float(np.mean([correct[y == label].mean() for label in np.unique(y)]))


def _labels_of_outputs(explainer, y):
    """Labels that the outputs of a bare module stand for.

    Parameters
    ----------
    explainer : ClaDecExplainer
        Fitted.
    y : ndarray of shape (n,)
        Labels of the training samples.

    Returns
    -------
    labels : ndarray or None
        In the order of the outputs; None for estimators.

    Raises
    ------
    ValueError
        If there are more labels than outputs.
    """
    if not isinstance(unwrap(explainer.estimator_), nn.Module):
        return None
    labels, n_outputs = np.unique(y), explainer._representation.n_units
    if len(labels) > n_outputs:
        raise ValueError(
            f"y has {len(labels)} labels, but the explained module has {n_outputs} outputs; give a "
            "classifier."
        )
    # Labels that are numbers of outputs stay what they are, also where some do not occur.
    is_number = labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < n_outputs
    return np.arange(n_outputs) if is_number else labels


def _reconstructions(explainer, classifier):
    """Yield functions that reconstruct samples: by the layer, and by the reference if any."""
    learner = unwrap(explainer.estimator_) if classifier is None else classifier
    # Networks take their own dtype only, which reconstructions have; others learned from X's.
    is_network = isinstance(learner, (nn.Module, NeuralNet))

    def cast(X, values):
        dtype = getattr(X, "dtype", None)
        is_float = isinstance(dtype, np.dtype) and dtype.kind == "f"
        return values.astype(dtype) if is_float and not is_network else values

    def explanation(X):
        return cast(X, explainer.explain(X).reconstruction)

    yield explanation
    if explainer.reference_decoder_ is not None:
        yield lambda X: cast(X, explainer.transform_reference(X))


def _fresh_classifier(explainer, classifier):
    """Make a classifier that has learned nothing yet, to be cloned.

    Parameters
    ----------
    explainer : ClaDecExplainer
        Fitted.
    classifier : classifier or None
        The user's, which is returned as it is; None: the explained model.

    Returns
    -------
    classifier : classifier

    Raises
    ------
    ValueError
        If the explained model cannot learn from reconstructions as a classifier.
    """
    if classifier is not None:
        return classifier
    estimator = unwrap(explainer.estimator_)
    encoded = explainer._representation.head is not None
    if encoded or isinstance(explainer._units, TableUnits):
        raise ValueError(
            "the explained Pipeline encodes columns first, but reconstructions are of the "
            "encoders' output; give a classifier that takes those columns."
        )
    if not isinstance(estimator, nn.Module):
        if not hasattr(estimator, "predict"):
            raise ValueError(f"{type(estimator).__name__} is no classifier; give one.")
        if isinstance(getattr(estimator, "steps", [(None, None)])[-1][1], FrozenEstimator):
            raise ValueError(
                "the last step of the explained Pipeline is frozen, so that a clone of it knows "
                "already what it is to learn; give a classifier."
            )
        return clone(estimator)
    if explainer._found_comparison().link not in ("softmax", "probability", "log_probability"):
        raise ValueError("the explained module has no output for each class; give a classifier.")
    # Logarithms of probabilities are logits, too.
    by_scores = explainer._found_comparison().link != "probability"
    return NeuralNetClassifier(
        copied(estimator).requires_grad_(True),
        criterion=nn.CrossEntropyLoss if by_scores else nn.NLLLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        max_epochs=20,
        batch_size=64,
        iterator_train__shuffle=True,
        train_split=None,
        device=str(explainer._representation.device),
        verbose=0,
    )


@in_plain_modes()
def _predicted_labels(fresh, X, y, X_test, seed, like=None, classes=None):
    """Labels of test samples by a classifier that is fitted from new weights.

    Parameters
    ----------
    fresh : classifier
        Cloned, and its networks' weights drawn again, before it is fitted.
    X, y : ndarray
        Training samples and their labels.
    X_test : ndarray
        Samples to label.
    seed : int
        Determines the weights and all that the classifier draws.
    like : array-like or DataFrame or None, default=None
        The caller's samples, from which the column names are taken.
    classes : ndarray or None, default=None
        If given, the classifier learns positions in it instead of the labels.

    Returns
    -------
    labels : ndarray of shape (n_test,)
        With ``classes``, None where the classifier predicts a position that does not exist.

    Raises
    ------
    ValueError
        If weights of the classifier cannot be drawn again.
    """
    classifier = clone(fresh)
    params = classifier.get_params()
    seeds = {k: seed for k in params if k.split("__")[-1] == "random_state" and params[k] is None}
    classifier.set_params(**seeds)
    y = y if classes is None else np.searchsorted(classes, y).astype(np.int64)
    # In predict, too: skorch's batches draw.
    with torch.enable_grad(), seeded(seed):
        for name, module in params.items():
            # skorch trains an instance in place: a clone has a copy, with the trained weights.
            if isinstance(module, nn.Module):
                draw_weights(module)
                if undrawn(module):
                    raise ValueError(
                        f"a fresh classifier needs new weights, but {undrawn(module)[0]!r} of "
                        f"{name} cannot be drawn: give its module a reset_parameters(), or give a "
                        "classifier whose module is a class."
                    )
        predicted = classifier.fit(named(X, like), y).predict(named(X_test, like))
    if classes is None:
        return predicted
    # An output that no label stands for is a wrong answer.
    known = predicted < len(classes)
    return np.where(known, classes[np.where(known, predicted, 0)].astype(object), None)
