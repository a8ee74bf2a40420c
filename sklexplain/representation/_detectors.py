"""Detectors of outliers: which of their methods says how abnormal a sample is, and by which sign.

scikit-learn's scores are lower for what is more abnormal. PyOD's are higher, under the same name.
"""

import numpy as np
from sklearn.pipeline import Pipeline

from ._offers import kind_of, name_of, why_without
from ._resolve import named_steps, unwrap


def is_detector(estimator):
    """Tell whether an estimator scores how abnormal a sample is, or how likely.

    Parameters
    ----------
    estimator : object
        Fitted, or a network, which does not.

    Returns
    -------
    is_detector : bool
    """
    if not hasattr(estimator, "fit"):
        return False
    model = unwrap(estimator)
    return kind_of(model) == "outlier_detector" or _is_pyods(model) or _has(model, "score_samples")


def score_methods(estimator):
    """Methods that say how abnormal a sample is, in order.

    Parameters
    ----------
    estimator : fitted estimator
        A detector.

    Returns
    -------
    names : list of str

    Raises
    ------
    TypeError
        If it is no detector.
    """
    if not is_detector(estimator):
        raise TypeError(
            f"score_function='decision' needs a detector, with score_samples or decision_function, "
            f"but {type(unwrap(estimator)).__name__} is none; use 'reconstruction' for a model "
            "with inverse_transform, or a function of its output."
        )
    if _is_pyods(unwrap(estimator)):
        return ["decision_function"]
    names = ["score_samples", "decision_function"]
    if not any(_has(estimator, name) for name in names):
        raise TypeError(
            f"{name_of(unwrap(estimator))} has no score_samples and no decision_function"
            f"{why_without(estimator, names)}, so nothing says how abnormal a new sample is."
        )
    return names


def abnormality_sign(estimator, method):
    """Return the sign with which a detector's scores are larger for what is more abnormal.

    Parameters
    ----------
    estimator : fitted estimator
        A detector.
    method : str
        Which of its methods.

    Returns
    -------
    sign : {-1, 1}
    """
    return 1 if method == "decision_function" and _is_pyods(unwrap(estimator)) else -1


def called_abnormal(estimator, X):
    """Ask a detector which samples it calls abnormal.

    Parameters
    ----------
    estimator : fitted estimator
        A detector.
    X : ndarray or DataFrame
        Samples in raw units.

    Returns
    -------
    abnormal : ndarray of bool or None
        None if it has no ``predict``.
    """
    if not hasattr(estimator, "predict"):
        return None
    labels = np.asarray(estimator.predict(X)).ravel()
    return labels == (1 if _is_pyods(unwrap(estimator)) else -1)


def _is_pyods(model):
    while isinstance(model, Pipeline) and named_steps(model):
        model = unwrap(named_steps(model)[-1][1])
    return hasattr(model, "decision_scores_")


def _has(model, name):
    try:
        return hasattr(model, name)
    except Exception:  # of a Pipeline whose last step is a network
        return False
