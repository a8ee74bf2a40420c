"""What a classifier or regressor says of the explained samples, and what its maps mean."""

import numbers

import numpy as np
from sklearn.metrics import accuracy_score, balanced_accuracy_score, r2_score
from sklearn.utils import Bunch

from ..representation import kind_of, unwrap


def predictions(report, X, y):
    """Collect what a predictor says of samples; None of other models.

    Parameters
    ----------
    report : RepresentationReport
        With a fitted ``attributor_`` and ``estimator_``.
    X : ndarray or DataFrame of shape (n, ...)
        The explained samples.
    y : ndarray of shape (n,) or None
        Their labels.

    Returns
    -------
    found : Bunch or None
        ``task``; ``method``, whose output is explained; ``said``, a label or value a sample;
        ``scores``, that output, (n, n_outputs); ``outputs``, names of its columns; ``own``, the
        column that stands for what is said of each sample; ``accuracy`` and ``balanced``, or
        ``r2``, None without fitting labels.
    """
    estimator = unwrap(report.estimator_)
    task = kind_of(estimator) if hasattr(estimator, "predict") else None
    method = report.attributor_._representation.method
    if task not in ("classifier", "regressor") or method in (None, "transform", "forward"):
        return None
    said = np.asarray(estimator.predict(X))
    scores = np.asarray(getattr(estimator, method)(X), dtype=np.float64)
    scores = scores[:, None] if scores.ndim == 1 else scores.reshape(len(scores), -1)
    if said.ndim > 1 or scores.shape[1] != report.attributor_.n_units_:
        return None  # several outputs, each of which would need a report of its own
    found = Bunch(task=task, method=method, said=said, scores=scores, accuracy=None, r2=None)
    found.balanced, found.outputs = None, [None] * scores.shape[1]
    found.own = np.zeros(len(said), dtype=int)
    known = None if y is None else np.asarray(y)
    if task == "regressor":
        if known is not None and known.dtype.kind in "iuf" and len(known) > 1:
            found.r2 = float(r2_score(*(v.astype(np.float64) for v in (known, said))))
        return found
    classes = np.asarray(getattr(estimator, "classes_", np.unique(said)))
    if scores.shape[1] == len(classes):
        found.outputs = list(classes)
        found.own = (
            np.searchsorted(classes, said)
            if classes.dtype.kind != "O"
            else np.array([list(classes).index(value) for value in said])
        )
    elif len(classes) == 2:
        found.outputs = [classes[1]]  # the score of the second class
    else:
        return None
    if known is not None:
        right, seen = _places(known, classes), _places(said, classes)
        if (right < len(classes)).any():
            found.accuracy = float(accuracy_score(right, seen))
            found.balanced = float(
                balanced_accuracy_score(right, seen) if len(set(right)) > 1 else found.accuracy
            )
    return found


def _places(labels, classes):
    """Return which class each label stands for; what is no class has a number above theirs."""
    places = {}
    for place, value in enumerate([*classes, *labels]):
        known = [places[name] for name in _writings(value) if name in places]
        for name in _writings(value):
            places.setdefault(name, known[0] if known else place)
    return np.array([places[_writings(label)[0]] for label in labels])


def _writings(label):
    """Return what a label may be written as: 1, 1.0 and True are one value, "1" a writing of it."""
    value = label.item() if isinstance(label, np.generic) else label
    if not isinstance(value, numbers.Real):
        return [str(value)]
    whole = float(value).is_integer() and not isinstance(value, bool)
    return [value, str(value), *([str(int(value))] if whole else [])]


def is_same_label(one, other):
    """Tell whether two labels are the same, though one is a text or of another type.

    Parameters
    ----------
    one, other : object
        Labels, as a model says them or as they are read of a file.

    Returns
    -------
    answer : bool
    """
    return not set(_writings(one)).isdisjoint(_writings(other))


def output_sentence(found, names):
    """Say which output is explained.

    Parameters
    ----------
    found : Bunch
        From `predictions`.
    names : callable
        From labels to readable names.

    Returns
    -------
    sentence : str
    """
    if found.task == "regressor":
        return "What is explained is the value that the model predicts."
    what = {
        "predict_proba": "the probabilities that the model gives its classes",
        "predict_log_proba": "the logarithms of the probabilities that the model gives its classes",
    }.get(found.method, f"the scores that the model gives its classes ({found.method})")
    listed = ", ".join(f"“{names(k)}”" for k in found.outputs[:8])
    more = f" and {len(found.outputs) - 8} more" if len(found.outputs) > 8 else ""
    if len(found.outputs) == 1:
        return f"What is explained is one score: the higher, the more it speaks for {listed}."
    return f"What is explained are {what}: {listed}{more}."


def quality_sentence(found):
    """Say how right a predictor is on the explained samples; None without labels.

    Parameters
    ----------
    found : Bunch
        From `predictions`.

    Returns
    -------
    sentence : str or None
    """
    n = len(found.said)
    if found.r2 is not None:
        return f"The model predicts the {n:,} explained samples with R² = {found.r2:.2f}."
    if found.accuracy is None:
        return None
    return (
        f"The model is right about {found.accuracy:.0%} of the {n:,} explained samples "
        f"({found.balanced:.0%} as the mean over labels)."
    )


def sample_sentence(found, place, label, names):
    """Say what the model says of one sample, beside its label.

    Parameters
    ----------
    found : Bunch
        From `predictions`.
    place : int
        Which of the explained samples.
    label : object or None
        Its label.
    names : callable
        From labels to readable names.

    Returns
    -------
    sentence : str
    """
    said = found.said[place]
    if found.task == "regressor":
        sentence = f"The model predicts {said:.4g}"
        return sentence + ("." if label is None else f"; the value is {label}.")
    sentence = f"The model says “{names(said)}”"
    if found.method == "predict_proba" and len(found.outputs) > 1:
        sentence += f" (probability {found.scores[place, found.own[place]]:.2f})"
    if label is None:
        return sentence + "."
    if is_same_label(label, said):
        return sentence + ", which is the sample's label."
    return sentence + f"; the sample's label is “{names(label)}”."


def colour_sentence(found, place, names):
    """Say what red and blue mean for one sample.

    Parameters
    ----------
    found : Bunch
        From `predictions`.
    place : int
        Which of the explained samples.
    names : callable
        From labels to readable names.

    Returns
    -------
    sentence : str
    """
    if found.task == "regressor":
        return "Red raises the prediction, blue lowers it."
    output = names(found.outputs[found.own[place]])
    what = "probability" if found.method == "predict_proba" else "score"
    return f"Red raises the {what} of “{output}”, blue lowers it."
