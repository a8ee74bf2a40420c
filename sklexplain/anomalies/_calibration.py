"""Which samples a model is not trained on, so that they tell how it sees new ones."""

import inspect

import numpy as np
from sklearn import get_config
from sklearn.model_selection import GroupShuffleSplit
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import _is_arraylike, _num_samples

from ..utils import as_array, check_labels, check_sortable


def held_out_rows(X, share, groups, seed):
    """Choose samples at random to be held back.

    Parameters
    ----------
    X : array-like or DataFrame
        Samples.
    share : float
        How many of them, at least one.
    groups : array-like of shape (n_samples,) or None
        Samples of one group stay together.
    seed : int
        Of the choice.

    Returns
    -------
    train, held : ndarray of int
        Rows in order.

    Raises
    ------
    ValueError
        If there are too few samples or groups, or a group is missing.
    TypeError
        If groups are of several types.
    """
    n = _num_samples(X)
    if n < 2:
        raise ValueError(
            f"X has {n} sample (n_samples={n}), but an unfitted estimator is trained on some and "
            "calibrated on others; give at least 2."
        )
    if groups is not None:
        groups = check_sortable("groups", check_labels("groups", as_array(groups, "groups")))
        if len(np.unique(groups)) < 2:
            raise ValueError(
                "groups holds one group only; the estimator is trained on some and calibrated on "
                "others, so at least 2 are needed."
            )
        split = GroupShuffleSplit(1, test_size=share, random_state=seed)
        train, held = next(split.split(np.empty(n), groups=groups))
        return np.sort(train), np.sort(held)
    n_held = min(n - 1, max(1, round(share * n)))
    order = np.random.default_rng([seed, 5]).permutation(n)
    return np.sort(order[n_held:]), np.sort(order[:n_held])


def rows_of_params(fit_params, rows, n):
    """Take the rows of what ``fit`` was given for each sample.

    Parameters
    ----------
    fit_params : dict
        Arguments of ``fit``, weights of samples among them.
    rows : ndarray of int
        Which.
    n : int
        Number of samples.

    Returns
    -------
    fit_params : dict
    """
    return {
        name: _safe_indexing(value, rows)
        if _is_arraylike(value) and _num_samples(value) == n
        else value
        for name, value in fit_params.items()
    }


def takes_groups(estimator):
    """Tell whether an estimator's ``fit`` takes ``groups``, as networks and searches do.

    Parameters
    ----------
    estimator : estimator
        A Pipeline's ``fit`` takes arguments of any name, but refuses those of no step. It has to
        have requested them where metadata routing is enabled.

    Returns
    -------
    takes : bool
    """
    if get_config()["enable_metadata_routing"]:
        return bool(get_routing_for_object(estimator).consumes("fit", ["groups"]))
    parameters = inspect.signature(estimator.fit).parameters.values()
    any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = any(p.name == "groups" for p in parameters)
    return named or (any_name and not isinstance(estimator, Pipeline))
