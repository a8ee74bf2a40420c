"""Which samples a report learns from, explains, and looks up."""

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, train_test_split
from sklearn.utils import Bunch, check_consistent_length

from ..utils import as_array, is_missing
from ._compute import as_container, take


def split_rows(n, test_size, seed, groups=None):
    """Split rows in two, by groups if there are any, so that none is on both sides.

    Parameters
    ----------
    n : int
        Number of rows.
    test_size : float
        Share of the second part: of rows, or of groups.
    seed : int
        Of the split.
    groups : array-like of shape (n,) or None, default=None
        Which rows belong together.

    Returns
    -------
    train, held : ndarray of int
        Positions, in order.
    """
    if groups is None:
        train, held = train_test_split(np.arange(n), test_size=test_size, random_state=seed)
    else:
        splitter = GroupShuffleSplit(1, test_size=test_size, random_state=seed)
        train, held = next(splitter.split(np.zeros(n), groups=groups))
    return np.sort(train), np.sort(held)


def split_parts(given, explained, corpus, test_size, seed, groups=None):
    """Return training, explained and known samples with their labels and names.

    Parameters
    ----------
    given, explained, corpus : (array-like, array-like or None, array-like or None)
        Samples, labels and names; explained samples and the corpus may be None.
    test_size : float
        Share of the given samples that is explained, if none are given for that.
    seed : int
        Of that split.
    groups : array-like or None, default=None
        Which of the given samples belong together in that split.

    Returns
    -------
    parts : Bunch
        ``X``, ``y``, ``X_explain``, ``y_explain``, ``X_corpus``, ``y_corpus``, the names
        ``ids_explain`` and ``ids_corpus``, and ``positions``, those of the explained samples where
        they come from.

    Raises
    ------
    ValueError
        If there are too few samples, or labels do not fit to samples.
    """
    X, y = as_container(given[0]), _labels(*given[:2], "y")
    ids = _names(X, given[2], "ids")
    X_explain, y_explain, ids_explain = explained
    X_corpus, y_corpus, ids_corpus = corpus
    groups = _names(X, groups, "groups") if groups is not None else None
    if X_explain is None:
        if len(X) < 4:
            raise ValueError(
                f"X has {len(X)} samples: give at least 4, to explain some and learn from the "
                "others, or give X_explain."
            )
        if groups is not None and len(set(groups)) < 2:
            raise ValueError("groups has one value only, so X cannot be split by it.")
        train, positions = split_rows(len(X), test_size, seed, groups)
        X_explain, y_explain = take(X, positions), None if y is None else y[positions]
        y_explain = None if np.ndim(y) == 2 else y_explain
        ids_explain = ids[positions]
        X, y, ids = take(X, train), None if y is None else y[train], ids[train]
    else:
        X_explain = as_container(X_explain)
        y_explain = _labels(X_explain, y_explain, "y_explain")
        if len(X_explain) == 0:
            raise ValueError("X_explain is empty: there is nothing to explain.")
        ids_explain = _names(X_explain, ids_explain, "ids_explain")
        positions = np.arange(len(X_explain))
        X_explain = take(X_explain, positions)
    if X_corpus is None:
        X_corpus, y_corpus, ids_corpus = X, None if np.ndim(y) == 2 else y, ids
    X_corpus = as_container(X_corpus)
    return Bunch(
        X=X,
        y=y,
        X_explain=X_explain,
        y_explain=y_explain,
        X_corpus=X_corpus,
        y_corpus=_labels(X_corpus, y_corpus, "y_corpus"),
        ids_explain=ids_explain,
        ids_corpus=_names(X_corpus, ids_corpus, "ids_corpus"),
        positions=positions,
    )


def _names(X, ids, name):
    """Names of samples as texts: those given, a DataFrame's index, or row numbers."""
    if ids is None:
        index = getattr(X, "index", None)
        ids = range(len(X)) if index is None or callable(index) else index
    ids = np.array([str(i) for i in ids], dtype=object)
    if len(ids) != len(X):
        raise ValueError(f"{name} has {len(ids)} entries, but there are {len(X)} samples.")
    return ids


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
    missing = y != y if y.dtype.kind == "f" else np.array([is_missing(v) for v in y])
    if missing.any():
        raise ValueError(
            f"{name} has missing labels, first in row {np.flatnonzero(missing)[0]}; leave those "
            "samples out, or give them a label of their own."
        )
    return y
