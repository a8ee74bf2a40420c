"""Which of an estimator's methods is explained, and what of it are labels and no numbers."""

import re

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from torch import nn

# In order of preference; of ``predict`` only what are numbers, as a regressor's are.
OFFERS = ("transform", "predict_proba", "decision_function", "predict")
RESPONSE_METHODS = (
    "transform",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "score_samples",
    "predict",
)
# What predicts names of groups, also where these are numbers, and the way out.
_LABELLED = {
    "classifier": "explain one with predict_proba or decision_function (CalibratedClassifierCV "
    "makes probabilities of any classifier's scores)",
    "clusterer": "explain one with transform, as KMeans has, or a classifier with predict_proba "
    "that has learnt the labels",
    "outlier_detector": "explain one with decision_function or score_samples, as IsolationForest "
    "has",
}


def kind_of(estimator):
    """Say what an estimator is: by its tags, and without them by what it has.

    Parameters
    ----------
    estimator : estimator
        Fitted or not; a Pipeline is what its last step is.

    Returns
    -------
    kind : str or None
        ``"classifier"``, ``"regressor"``, ``"clusterer"``, ``"outlier_detector"`` or another of
        scikit-learn's words; None if nothing tells.
    """
    try:
        kind = get_tags(estimator).estimator_type
    except (AttributeError, TypeError):  # of a library that has no tags
        kind = getattr(estimator, "_estimator_type", None)
    if kind is None and hasattr(estimator, "classes_"):
        return "classifier"
    if kind is None and hasattr(estimator, "decision_scores_"):
        return "outlier_detector"
    return kind


def offers_of(estimator):
    """List what ``response_method="auto"`` takes the first one of.

    Parameters
    ----------
    estimator : estimator
        Fitted or not.

    Returns
    -------
    names : tuple of str
        `OFFERS`, scores first for detectors of outliers: their probabilities, where a library has
        any, are scores that are cut off at the ends of the fitted range.
    """
    if kind_of(estimator) != "outlier_detector":
        return OFFERS
    return "decision_function", *(name for name in OFFERS if name != "decision_function")


def check_response_method(response_method, estimator, place=None):
    """Raise if the parameter ``response_method`` has one of its values that cannot count.

    Parameters
    ----------
    response_method : str or sequence of str
        The parameter.
    estimator : object
        What is explained.
    place : str or None, default=None
        Name and value of a parameter that names a layer; None: no layer is named.

    Raises
    ------
    ValueError
        If it is empty, or not ``"auto"`` though a layer or a module is explained.
    """
    if isinstance(response_method, str) and response_method == "auto":
        return
    if len(response_method) == 0:
        raise ValueError("response_method=[] names no method; use 'auto', or name one.")
    inner = estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator
    if isinstance(inner, nn.Module):
        raise ValueError(
            f"response_method={response_method!r} is a method of an estimator, but "
            f"{type(inner).__name__} is a module, explained by its forward; leave "
            "response_method='auto'."
        )
    if place is not None:
        raise ValueError(
            f"response_method={response_method!r} goes with no layer, but {place}: leave "
            "response_method='auto', or name no layer."
        )


def offered_method(estimator, response_method="auto"):
    """Name of the method of an estimator that is explained.

    Parameters
    ----------
    estimator : estimator
        A fitted one; a Pipeline has the methods of its last step.
    response_method : str or list of str, default="auto"
        ``"auto"``: the first of `offers_of` that it has; else the method, or the first one of the
        list that it has.

    Returns
    -------
    name : str

    Raises
    ------
    TypeError
        If it offers nothing but labels, or is asked for them.
    ValueError
        If it does not have the method that is asked for.
    """
    labelled = kind_of(estimator) in _LABELLED
    if response_method == "auto":
        for name in offers_of(estimator):
            if hasattr(estimator, name) and not (name == "predict" and labelled):
                return name
        raise TypeError(nothing_to_explain(estimator))
    wanted = [response_method] if isinstance(response_method, str) else list(response_method)
    for name in wanted:
        if hasattr(estimator, name):
            if name == "predict" and labelled:
                raise TypeError(labels_refused(estimator, name))
            return name
    others = [name for name in _having(estimator) if not (name == "predict" and labelled)]
    fix = f"it has {', '.join(others)}" if others else "leave response_method='auto'"
    raise ValueError(
        f"response_method={response_method!r}, but {name_of(estimator)} has no "
        f"{' and no '.join(wanted)}{why_without(estimator, wanted)}; {fix}."
    )


def nothing_to_explain(estimator):
    """Words of the error about an estimator that offers no numbers.

    Parameters
    ----------
    estimator : estimator
        Fitted or not.

    Returns
    -------
    text : str
    """
    if hasattr(estimator, "predict"):
        return labels_refused(estimator, "predict")
    name, kind, reason = name_of(estimator), kind_of(estimator), why_without(estimator, OFFERS)
    way = ""
    if _having(estimator):
        method = _having(estimator)[0]
        way = f"; response_method={method!r} explains what {method} returns"
    elif not reason and kind in _LABELLED:
        way = f": it labels the samples of fit only; {_LABELLED[kind]}"
    elif not reason and hasattr(estimator, "fit_transform"):
        way = (
            ": fit_transform places the samples of fit only; explain an estimator with transform, "
            "or a regressor that has learnt the places"
        )
    return (
        f"{name} offers neither {', '.join(OFFERS[:-1])} nor {OFFERS[-1]}{reason}, so there is "
        f"nothing to explain{way}."
    )


def labels_refused(estimator, method):
    """Words of the error about a method that returns labels.

    Parameters
    ----------
    estimator : estimator
        A fitted one.
    method : str
        Its method.

    Returns
    -------
    text : str
    """
    name = name_of(estimator)
    others = [other for other in _having(estimator) if other not in (method, "predict")]
    if others:
        return (
            f"{method} of {name} returns labels, not numbers; explain its {' or '.join(others)}: "
            f"response_method={others[0]!r}."
        )
    fix = (
        "explain an estimator with transform, predict_proba or decision_function; or if they are "
        "quantities, let it inherit from RegressorMixin, or return floating numbers"
    )
    fix = _LABELLED.get(kind_of(estimator), fix)
    reason = why_without(estimator, OFFERS)
    return f"{name} offers only {method}, which returns labels, not numbers{reason}; {fix}."


def check_no_labels(output, estimator, method):
    """Raise a TypeError if what a method has returned are labels.

    Parameters
    ----------
    output : object
        What it has returned.
    estimator : estimator
        Whose method it is.
    method : str
        Its name.

    Raises
    ------
    TypeError
        If ``predict`` of anything but a regressor has returned integers or text, or ``transform``
        of a classifier integers, the votes of its members.
    """
    if method == "predict":
        if kind_of(estimator) != "regressor" and np.asarray(output).dtype.kind != "f":
            raise TypeError(labels_refused(estimator, method))
        return
    integers = getattr(getattr(output, "dtype", None), "kind", None) in ("b", "i", "u")
    if method == "transform" and integers and kind_of(estimator) == "classifier":
        raise TypeError(labels_refused(estimator, method))


def _having(estimator):
    """Return the methods that an estimator has."""
    return [name for name in RESPONSE_METHODS if hasattr(estimator, name)]


def name_of(estimator):
    """Class of an estimator, of a Pipeline's last step."""
    while getattr(estimator, "steps", None):
        acting = [s for _, s in estimator.steps if s is not None and s != "passthrough"]
        estimator = acting[-1] if acting else None
    return getattr(estimator, "_known_as", type(estimator).__name__)


def why_without(estimator, methods):
    """Say in brackets why an estimator does not have a method of its class, if it tells.

    Parameters
    ----------
    estimator : estimator
        Fitted or not.
    methods : iterable of str
        Names.

    Returns
    -------
    reason : str
        Empty if it does not tell.
    """
    for name in methods:
        try:
            if hasattr(type(estimator), name):
                getattr(estimator, name)
        except AttributeError as error:
            cause = error
            while cause.__cause__ is not None:  # a Pipeline's step tells, or a search's estimator
                cause = cause.__cause__
            text = str(cause).partition(". ")[0].rstrip(".")
            if "no attribute" not in text:
                flag = re.search(r"(\w+)=False$", text)
                return f" ({text}{f'; set {flag[1]}=True' if flag else ''})"
    return ""
