"""Which samples a report learns from, explains, and looks up."""

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch, check_consistent_length

from ..utils import as_array
from ._compute import as_container, take


def split_parts(given, explained, corpus, test_size, seed):
    """Return training, explained and known samples with their labels.

    Parameters
    ----------
    given, explained, corpus : (array-like, array-like or None)
        Samples and labels; explained samples and the corpus may be None.
    test_size : float
        Share of the given samples that is explained, if none are given for that.
    seed : int
        Of that split.

    Returns
    -------
    parts : Bunch
        ``X``, ``y``, ``X_explain``, ``y_explain``, ``X_corpus``, ``y_corpus`` and ``positions``,
        those of the explained samples where they come from.

    Raises
    ------
    ValueError
        If there are too few samples, or labels do not fit to samples.
    """
    X, y = as_container(given[0]), _labels(*given, "y")
    X_explain, y_explain = explained
    X_corpus, y_corpus = corpus
    if X_explain is None:
        if len(X) < 4:
            raise ValueError(
                f"X has {len(X)} samples: give at least 4, to explain some and learn from the "
                "others, or give X_explain."
            )
        train, held = train_test_split(np.arange(len(X)), test_size=test_size, random_state=seed)
        train, positions = np.sort(train), np.sort(held)
        X_explain, y_explain = take(X, positions), None if y is None else y[positions]
        y_explain = None if np.ndim(y) == 2 else y_explain
        X, y = take(X, train), None if y is None else y[train]
    else:
        X_explain = as_container(X_explain)
        y_explain = _labels(X_explain, y_explain, "y_explain")
        if len(X_explain) == 0:
            raise ValueError("X_explain is empty: there is nothing to explain.")
        positions = np.arange(len(X_explain))
        X_explain = take(X_explain, positions)
    if X_corpus is None:
        X_corpus, y_corpus = X, None if np.ndim(y) == 2 else y
    X_corpus = as_container(X_corpus)
    return Bunch(
        X=X,
        y=y,
        X_explain=X_explain,
        y_explain=y_explain,
        X_corpus=X_corpus,
        y_corpus=_labels(X_corpus, y_corpus, "y_corpus"),
        positions=positions,
    )


def _labels(X, y, name):
    if y is None:
        return None
    y = as_array(y, "y")
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    check_consistent_length(X, y)
    if y.ndim == 2 and name == "y":
        return y  # of a model with several outputs
    if y.ndim != 1:
        raise ValueError(f"{name} has shape {y.shape}, but one label a sample is needed.")
    missing = y != y if y.dtype.kind == "f" else np.array([_is_missing(v) for v in y])
    if missing.any():
        raise ValueError(
            f"{name} has missing labels, first in row {np.flatnonzero(missing)[0]}; leave those "
            "samples out, or give them a label of their own."
        )
    return y


def _is_missing(value):
    """Tell None, NaN, NaT and pandas' NA, which is neither equal nor unequal to itself."""
    try:
        return value is None or bool(value != value)
    except TypeError:
        return True
