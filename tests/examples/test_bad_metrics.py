"""Distances that are none are refused, whoever computes them."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from sklexplain import DKNNImportance

X = np.random.default_rng(0).normal(size=(20, 4))


@pytest.mark.parametrize("n_neighbors", [None, 3])
@pytest.mark.parametrize(
    ("metric", "error", "match"),
    [
        (lambda a, b: None, ValueError, "returned None"),
        (lambda a, b: "near", ValueError, "returned 'near'"),
        (lambda a, b: a - b, ValueError, "must return a distance"),
        (lambda a, b: np.nan, ValueError, "returned nan"),
        (lambda a, b: np.inf, ValueError, "returned inf"),
        (lambda a, b: -np.abs(a - b).sum(), ValueError, "at least 0"),
        ("correlation", ValueError, "metric='correlation' gives nan"),
    ],
)
def test_are_refused(metric, error, match, n_neighbors):
    with pytest.raises(error, match=match):
        explainer = DKNNImportance(PCA(1), metric=metric, n_neighbors=n_neighbors).fit(X)
        explainer.transform(X[:2])


def test_a_metric_of_ones_own_is_used():
    ours = DKNNImportance(PCA(2), metric=lambda a, b: np.abs(a - b).sum()).fit(X).transform(X[:3])
    theirs = DKNNImportance(PCA(2), metric="manhattan").fit(X).transform(X[:3])
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
