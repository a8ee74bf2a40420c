"""The three explainers, each beside what an estimator's own methods return."""

import numpy as np
from sklearn.base import clone

from sklexplain import ClaDecExplainer, DKNNImportance, LabelFreeAttributor
from tests import oracles
from tests.tables import make_table

FRAME, CLASSES, VALUES = make_table()
RARE = (np.quantile(VALUES, 0.7) < VALUES).astype(int)
RNG = np.random.RandomState(0)
NUMBERS = RNG.normal(size=(60, 4))
NUMBER_CLASSES = (NUMBERS[:, 0] + 0.3 * NUMBERS[:, 1] > 0).astype(int)

# Series, (n, channels, time); a bump in the first channel tells the classes.
SERIES_CLASSES = np.arange(24) % 2
SERIES = RNG.normal(size=(24, 2, 20))
SERIES[:, 0, 5:10] += 2 * SERIES_CLASSES[:, None]
SERIES_VALUES = SERIES[:, 0, 5:10].mean(axis=1)


def check_three(estimator, X, y, *, method=None, groups=None, rebuilt=None):
    """Check sums of Shapley values, neighbours, and reconstructions.

    Parameters
    ----------
    estimator : estimator
        Unfitted.
    X, y : array or DataFrame, array
        Samples and targets that it takes.
    method : str or None
        Its method that is explained; None: as scikit-learn's estimators are asked.
    groups : ndarray or None
        Groups of features, which cost less.
    rebuilt : tuple or None
        Shape of a reconstruction; None: a sample's; () where a column is rebuilt as several.
    """
    fitted = clone(estimator).fit(X, y)
    check_sums(fitted, X, X[10:13], method, baseline=X[10:13], groups=groups)
    dknn = DKNNImportance(estimator, n_neighbors=4, random_state=0).fit(X, y)
    oracles.check_neighbours(dknn, dknn.estimator_, X, X[:5], 4, method=method)
    cladec = ClaDecExplainer(fitted, reference=None, max_epochs=2, random_state=0).fit(X)
    shape = X.shape[1:] if rebuilt is None else rebuilt
    if rebuilt == ():
        shape = np.shape(cladec.transform(X[:1]))[1:]
        assert shape >= X.shape[1:]
    oracles.check_reconstructions(cladec, X[:5], (5, *shape))


def check_sums(fitted, X, absent, method=None, **params):
    """Check that Shapley values sum to the change of the estimator's own output."""
    attributor = LabelFreeAttributor(
        fitted,
        method="shapley_sampling",
        method_params={"n_samples": 2},
        random_state=0,
        **params,
    ).fit(X)
    oracles.check_sums(attributor, fitted, X[:5], absent, rtol=1e-5, method=method)
