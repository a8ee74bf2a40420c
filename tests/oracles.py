"""What explanations must be, computed from an estimator's own methods and nothing of ours."""

import numpy as np
from scipy import sparse
from sklearn.base import is_regressor

# What an estimator offers that is explained, in this order; a regressor's predict as well.
METHODS = ("transform", "predict_proba", "decision_function")


def as_dense(Z):
    """Return an output as numbers: (n, ...), float64."""
    if isinstance(Z, list):  # probabilities of several outputs, each (n, classes)
        Z = np.concatenate([as_dense(z) for z in Z], axis=1)
    if sparse.issparse(Z):
        Z = Z.toarray()
    return np.asarray(Z, dtype=np.float64)


def output_method(estimator):
    """Name the method whose output is explained, None if there is none."""
    found = [name for name in METHODS if hasattr(estimator, name)]
    if not found and hasattr(estimator, "predict") and is_regressor(estimator):
        found = ["predict"]
    return found[0] if found else None


def output(estimator, X, method=None):
    """Return what is explained of X, a row each."""
    Z = as_dense(getattr(estimator, method or output_method(estimator))(X))
    return Z.reshape(len(Z), -1)


def check_sums(attributor, estimator, X, absent, rtol=1e-6, method=None):
    """Check that attributions of a complete method sum to <f(x), f(x) - f(absent)>.

    Parameters
    ----------
    attributor : LabelFreeAttributor
        Fitted.
    estimator : estimator
        Fitted, with an output of its own.
    X : array or DataFrame
        Samples.
    absent : array or DataFrame
        Rows that stand for what is absent; averaged over.
    rtol : float
        Relative to the size of the output.
    method : str or None
        The estimator's method that is explained; None: found by what the estimator has.
    """
    attributions = attributor.transform(X)
    Z, Z_absent = output(estimator, X, method), output(estimator, absent, method).mean(axis=0)
    expected = (Z * (Z - Z_absent)).sum(axis=1)
    scale = max(np.abs(Z).max() ** 2 * Z.shape[1], 1e-12)
    found = attributions.reshape(len(Z), -1).sum(axis=1, dtype=np.float64)
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * scale)


def check_neighbours(dknn, estimator, X_train, X, k, atol=1e-6, method=None):
    """Check that the neighbours found are the k nearest by the estimator's own output."""
    found = dknn.transform(X)
    assert found.shape == (len(X), len(X_train)) and np.isfinite(found.data).all()
    Z_train, Z = output(estimator, X_train, method), output(estimator, X, method)
    distances = np.sqrt(((Z[:, None] - Z_train[None]) ** 2).sum(axis=2))
    scale = max(np.abs(Z_train).max(), 1e-12)
    for row, own in zip(sparse.csr_matrix(found), distances, strict=True):
        # By distance, not by number: ties may be settled either way.
        np.testing.assert_allclose(np.sort(own[row.indices]), np.sort(own)[:k], atol=atol * scale)


def check_reconstructions(cladec, X, shape):
    """Check that reconstructions have the shape of what is rebuilt, and are finite."""
    rebuilt = np.asarray(cladec.transform(X), dtype=np.float64)
    assert rebuilt.shape == shape
    assert np.isfinite(rebuilt).all()
