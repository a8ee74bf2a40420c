"""Which samples are held out to decide when training stops."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils import check_consistent_length

from ..utils import NONE, Is, Number, as_array, check_labels, check_sortable


def _is_splitter(value: object) -> bool:
    # Strings and tensors are split, too.
    others = (str, bytes, type, torch.Tensor)
    return callable(getattr(value, "split", None)) and not isinstance(value, others)


VALIDATION_SPLIT = [Number(above=0, below=1), Is("a splitter", _is_splitter), NONE]


def split_validation(
    validation_split: Any, X: np.ndarray, y: np.ndarray | None, groups: ArrayLike | None, seed: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Split rows into those to train on and those to validate on.

    Parameters
    ----------
    validation_split : float, None or splitter
        Share of the rows (of the groups, if there are any), drawn at random; no split; or the
        splitter whose last split is used.

    X : ndarray of shape (n, ...)
        The inputs.

    y : ndarray of shape (n,) or None
        The target, for splitters that look at it.

    groups : array-like of shape (n,) or None
        Groups of rows that stay together, unless by a splitter that does not look at them.

    seed : int
        Determines the draw, also in a splitter whose own random_state is None.

    Returns
    -------
    train, valid : ndarray of int, ndarray of int or None
        The rows.

    Raises
    ------
    TypeError
        Whatever the splitter raises, and if groups are of several types.
    ValueError
        If a group is missing, a part is empty, there is one group only, or the splitter needs y and
        there is none.
    """
    n = len(X)
    if hasattr(validation_split, "split"):
        splitter = copy.copy(validation_split)
        if getattr(splitter, "random_state", 0) is None:
            splitter.random_state = seed  # else it would draw from numpy's global generator
        train = valid = ()
        try:
            for train, valid in splitter.split(X, y, groups):  # noqa: B007
                pass
        except (TypeError, ValueError) as error:
            if groups is not None:
                _check_groups(groups)
            if y is not None:
                raise
            raise ValueError(
                f"validation_split={validation_split!r} could not split without y, which fit was "
                f"not given ({error}): pass y, or a splitter that looks at no labels, such as "
                "ShuffleSplit."
            ) from error
        if len(train) == 0 or len(valid) == 0:
            raise ValueError(
                f"The last split of validation_split={validation_split!r} has {len(train)} samples "
                f"to train on and {len(valid)} to validate: both need at least one."
            )
        return np.asarray(train), np.asarray(valid)
    if validation_split is None:
        return np.arange(n), None
    if groups is not None:
        return _split_groups(validation_split, X, groups, seed)
    n_valid = max(1, int(validation_split * n))
    if n_valid >= n:
        raise ValueError(
            f"validation_split={validation_split} leaves no sample to train on (n_samples={n}): "
            "give more samples, or validation_split=None."
        )
    order = np.random.RandomState(seed).permutation(n)
    return np.sort(order[n_valid:]), np.sort(order[:n_valid])


def _split_groups(
    share: float, X: np.ndarray, groups: ArrayLike, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Hold back a share of the groups, at least one."""
    groups = _check_groups(groups)
    check_consistent_length(X, groups)
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise ValueError(
            f"groups holds one group only, so validation_split={share} leaves nothing to train on; "
            "set validation_split=None, or leave groups out."
        )
    splitter = GroupShuffleSplit(1, test_size=max(1, int(share * n_groups)), random_state=seed)
    train, valid = next(splitter.split(X, groups=groups))
    return np.sort(train), np.sort(valid)


def _check_groups(groups: ArrayLike) -> np.ndarray:
    """Raise an error if a group is missing, or they are of several types."""
    return check_sortable("groups", check_labels("groups", as_array(groups, "groups")))
