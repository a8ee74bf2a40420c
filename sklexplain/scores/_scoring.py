"""The scores as ``scoring=`` of searches and cross-validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._noise_scorer import NoiseScorer
from ._variance_scorer import VarianceScorer


def noise_scorer(**params: Any) -> Callable[..., float]:
    """Make a scorer of fitted estimators: the noise score, which needs no labels.

    Parameters
    ----------
    **params : object
        Parameters of `NoiseScorer`.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y=None)`` returns ``NoiseScorer(estimator, **params).fit(X)
        .score(X)``; higher is better. It can be pickled.

    Raises
    ------
    TypeError
        If `NoiseScorer` has no such parameter.

    See Also
    --------
    sklexplain.NoiseScorer : What computes it.
    sklexplain.scores.variance_scorer : The other score of the paper.

    Notes
    -----
    Compare only networks with layers of the same sizes that were trained differently. Layers
    with few positions, short codes above all, score high whatever was learned. Among autoencoders
    of different sizes it chose no better than chance, and R² of the reconstruction chose best.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklexplain.datasets import make_relevant_columns
    >>> from sklexplain.nets import Autoencoder
    >>> from sklexplain.scores import noise_scorer
    >>> X, _, _ = make_relevant_columns(n_samples=60, random_state=0)
    >>> autoencoder = Autoencoder(max_epochs=3, validation_split=None, random_state=0)
    >>> search = GridSearchCV(
    ...     autoencoder, {"n_components": [2, 4]}, scoring=noise_scorer(random_state=0), cv=2
    ... ).fit(X)
    >>> sorted(search.best_params_)
    ['n_components']
    """
    return Scoring(NoiseScorer, params)


def variance_scorer(**params: Any) -> Callable[..., float]:
    """Make a scorer of fitted estimators: the variance score, which needs no labels.

    Parameters
    ----------
    **params : object
        Parameters of `VarianceScorer`.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y=None)`` returns ``VarianceScorer(estimator, **params).fit(X)
        .score(X)``; higher is better. It can be pickled.

    Raises
    ------
    TypeError
        If `VarianceScorer` has no such parameter.

    See Also
    --------
    sklexplain.VarianceScorer : What computes it.
    sklexplain.scores.noise_scorer : The other score of the paper.

    Notes
    -----
    Among autoencoders of different sizes it chose better than chance on three data sets of four,
    and R² of the reconstruction chose best on all.

    Examples
    --------
    >>> import torch
    >>> from sklexplain.scores import variance_scorer
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    >>> 0 <= variance_scorer(layers=["0"])(net, torch.ones(5, 3)) <= 0.25
    True
    """
    return Scoring(VarianceScorer, params)


class Scoring:
    """A score of fitted estimators, with its parameters, as ``scoring=`` of a search.

    Parameters
    ----------
    scorer_class : type
        The scorer.
    params : dict
        Its parameters.
    """

    def __init__(self, scorer_class, params):
        scorer_class(None, **params)  # an unknown parameter is refused here, not in every fold
        self.scorer_class = scorer_class
        self.params = params

    def __call__(self, estimator, X, y=None):
        return self.scorer_class(estimator, **self.params).fit(X).score(X)

    def __repr__(self):
        params = ", ".join(f"{name}={value!r}" for name, value in self.params.items())
        return f"{self.scorer_class.__name__}({params})"
