"""How close reconstructions are to samples, and which differences are more than chance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from ..utils import SEED, Integer, Number, RandomState, draw_seed, validated
from ._cladec import ClaDecExplainer


@validated(n_seeds=[Integer(2)], confidence_level=[Number(above=0, below=1)], random_state=[SEED])
def interpretability(
    explainer: ClaDecExplainer,
    X: ArrayLike,
    *,
    X_train: ArrayLike | None = None,
    y_train: ArrayLike | None = None,
    n_seeds: int = 3,
    confidence_level: float = 0.95,
    random_state: RandomState = None,
) -> Bunch:
    """Reconstruction loss, compared with the reference's: how close explanations are to samples.

    What looks like a sample is easy to understand ([1]_, section IV-B); so a low loss is good. The
    difference to the reference's is what the explained layer has not kept, as far as it is larger
    than that between two references.

    Parameters
    ----------
    explainer : ClaDecExplainer
        Fitted.
    X : array-like or DataFrame of shape (n_samples, ...)
        Samples, best held out.
    X_train : array-like or DataFrame of shape (n_train, ...) or None, default=None
        The samples that the explainer was fitted on. Decoders and references are trained on them
        from other first weights: what these differ by is due to neither the model nor the samples.
        None: no interval.
    y_train : array-like of shape (n_train,) or None, default=None
        Their labels, for an explainer with ``class_target="y"``, or a splitter that looks at them.
    n_seeds : int, default=3
        Number of decoders and of references, the explainer's own among them.
    confidence_level : float, default=0.95
        Of the interval.
    random_state : int, RandomState instance or None, default=None
        Determines the others' first weights and order of samples.

    Returns
    -------
    result : Bunch
        ``explanation`` and ``reference``, the squared errors summed over a sample's entries and
        averaged over samples, in the network's units, of the explainer's own; ``explanations`` and
        ``references``, ndarrays of shape (n_seeds,) with those of all; ``difference``, the mean of
        the first minus the mean of the second, and ``interval`` around it, which a layer of a
        network that has learned nothing else than to reconstruct leaves in as many cases as
        ``confidence_level`` says; ``noise_floor``, the absolute difference between the first two
        references. None for what was not asked for.

    Raises
    ------
    ValueError
        If ``confidence_level`` is not between 0 and 1, or ``X_train`` is given and the explainer
        has no reference.

    See Also
    --------
    sklexplain.metrics.evaluation_accuracy : Whether explanations help to classify.
    sklexplain.metrics.interpretability_scorer : As ``scoring=`` of a search.
    sklexplain.ClaDecExplainer : What reconstructs.

    Notes
    -----
    The variance of the difference is that of a mean over samples, of paired differences, and of
    the seeds: with S of them s²_decoders / S + s²_references (1 + 1 / S), as the model is itself
    one network of those that might have been trained. The interval is Student's with the degrees
    of freedom by Welch and Satterthwaite: approximate, and too short by a few percent in coverage
    where the errors of a few samples are much of their sum.

    References
    ----------
    .. [1] J. Schneider, M. Vlachos, "Explaining Neural Networks by Decoding Layer Activations",
       2020.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklexplain import ClaDecExplainer
    >>> from sklexplain.metrics import interpretability
    >>> X, _ = load_iris(return_X_y=True)
    >>> explainer = ClaDecExplainer(
    ...     PCA(2), max_epochs=20, validation_split=None, lr=0.01, random_state=0
    ... ).fit(X)
    >>> result = interpretability(explainer, X)
    >>> result.explanation < 1 and result.reference < 1
    True
    """
    check_explainer(explainer)
    own = explainer.reconstruction_loss(X)
    result = Bunch(explanation=float(own.mean()), explanations=own.mean(keepdims=True))
    for name in ("reference", "references", "difference", "interval", "noise_floor"):
        result[name] = None
    if explainer.reference_decoder_ is None:
        if X_train is not None:
            raise ValueError("a noise floor needs a reference: fit with reference='autoencoder'.")
        return result
    theirs = explainer.reconstruction_loss(X, reference=True)
    decoders, references = [own], [theirs]
    # Other seeds than the explainer's, also where both random states are the same.
    entropy = np.random.SeedSequence([explainer.seed_, draw_seed(random_state)])
    for seed in entropy.generate_state(n_seeds - 1) if X_train is not None else ():
        errors = explainer._errors_of_another_reference(X_train, X, int(seed), y_train)
        references.append(errors)
        decoders.append(explainer._errors_of_another_decoder(X_train, X, int(seed), y_train))
    decoders, references = np.array(decoders), np.array(references)  # (n_seeds, n)
    result.explanations, result.references = decoders.mean(axis=1), references.mean(axis=1)
    result.reference = float(result.references[0])
    result.difference = float(result.explanations.mean() - result.references.mean())
    if X_train is not None:
        result.noise_floor = float(abs(result.references[1] - result.references[0]))
        if len(own) > 1:
            half = _half_width(decoders, references, confidence_level)
            result.interval = result.difference - half, result.difference + half
    return result


def _half_width(decoders, references, confidence_level):
    """Half the width of the interval of a difference, from losses of shape (n_seeds, n)."""
    n_seeds, n = decoders.shape
    differences = decoders.mean(axis=0) - references.mean(axis=0)
    variances = np.array(
        [
            differences.var(ddof=1) / n,
            decoders.mean(axis=1).var(ddof=1) / n_seeds,
            references.mean(axis=1).var(ddof=1) * (1 + 1 / n_seeds),
        ]
    )
    total = variances.sum()
    if total == 0:
        return 0.0
    freedom = total**2 / (variances**2 / [n - 1, n_seeds - 1, n_seeds - 1]).sum()
    return float(stats.t.ppf(0.5 + confidence_level / 2, freedom) * np.sqrt(total))


def interpretability_scorer() -> Callable[..., float]:
    """Make a scorer of explainers: the reconstruction loss, negative so that higher is better.

    Returns
    -------
    scorer : callable
        ``scorer(explainer, X, y=None)``; it can be pickled.

    See Also
    --------
    sklexplain.metrics.interpretability : The measure.
    sklexplain.metrics.evaluation_accuracy_scorer : The other measure of the paper.

    Examples
    --------
    >>> from sklexplain.metrics import interpretability_scorer
    >>> scoring = interpretability_scorer()  # of GridSearchCV(..., scoring=scoring)
    """
    return _score_interpretability


def _score_interpretability(explainer, X, y=None):
    check_explainer(explainer)
    return -float(explainer.reconstruction_loss(X).mean())


def check_explainer(explainer):
    """Raise unless an explainer reconstructs samples and is fitted.

    Parameters
    ----------
    explainer : object
        What was given.

    Raises
    ------
    TypeError
        If it reconstructs nothing.
    """
    if not hasattr(explainer, "reconstruction_loss"):
        raise TypeError(f"{type(explainer).__name__} reconstructs nothing; give a ClaDecExplainer.")
    check_is_fitted(explainer)
