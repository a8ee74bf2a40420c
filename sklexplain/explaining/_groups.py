"""Groups of features: time segments and column groups."""

from __future__ import annotations

import numbers

import numpy as np

from ..utils import as_array, by_columns


def time_segments(n_timesteps: int, n_segments: int) -> np.ndarray:
    """Label time steps by consecutive segments of (almost) equal length, for ``groups``.

    Parameters
    ----------
    n_timesteps : int
        Length of the series.
    n_segments : int
        Number of segments, at most ``n_timesteps``.

    Returns
    -------
    labels : ndarray of shape (n_timesteps,)
        Such as ``"t0-9"``. Used as it is where time is the last axis of X; for (n, time,
        channels) add an axis: ``labels[:, None]``.

    Raises
    ------
    ValueError
        If there are more segments than time steps, or fewer than one.

    See Also
    --------
    sklexplain.LabelFreeAttributor : Takes them as ``groups``.
    sklexplain.metrics.grid_parts : The same for images.

    Examples
    --------
    >>> from sklexplain.attribution import time_segments
    >>> time_segments(5, 2).tolist()
    ['t0-1', 't0-1', 't2-4', 't2-4', 't2-4']
    """
    if not 1 <= n_segments <= n_timesteps:
        raise ValueError(
            f"n_segments={n_segments} must lie between 1 and n_timesteps={n_timesteps}."
        )
    bounds = np.arange(n_segments + 1) * n_timesteps // n_segments
    names = [f"t{a}-{b - 1}" for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    return np.repeat(np.array(names, dtype=object), np.diff(bounds))


def resolve_groups(groups, shape, names=None):
    """Give numbers to the groups, and say which group each entry of a sample belongs to.

    Parameters
    ----------
    groups : array-like or dict
        Labels that broadcast to ``shape``; or, for columns, {name: list of columns}, columns by
        name or position, every column in exactly one group; or {name: boolean mask}.
    shape : tuple of int
        Of one sample.
    names : array-like of str or None, default=None
        Column names.

    Returns
    -------
    index : ndarray of int64 of shape ``shape``
        Group of every entry.
    labels : list of str
        One a group, in order of first appearance (of the dict's keys).

    Raises
    ------
    ValueError
        If labels do not fit the shape or name other columns, a group is empty, or columns are
        unknown, in no group or in two.
    """
    if isinstance(groups, dict):
        return _from_dict(groups, shape, names)
    labels = as_array(by_columns(groups, names, "groups"), "groups")
    if labels.dtype.kind == "f":
        raise ValueError("groups holds floats; give integer or string labels.")
    try:
        labels = np.broadcast_to(labels, shape)
    except ValueError:
        raise ValueError(
            f"groups has shape {labels.shape}, which does not broadcast to a sample's shape "
            f"{shape}; label every entry, as in groups=time_segments({shape[-1]}, 10)."
        ) from None
    unique, first, index = np.unique(
        labels.astype(str).ravel(), return_index=True, return_inverse=True
    )
    order = np.argsort(first)
    rank = np.argsort(order)
    prefix = "group" if labels.dtype.kind in "biu" else ""
    return rank[index].reshape(shape), [f"{prefix}{unique[i]}" for i in order]


def _from_dict(groups, shape, names):
    index = np.full(shape, -1, dtype=np.int64)
    for number, (label, members) in enumerate(groups.items()):
        members = as_array(members, f"groups[{label!r}]")
        mask = members if members.dtype == bool else _column_mask(label, members, shape, names)
        if mask.shape != shape:
            raise ValueError(
                f"groups[{label!r}] is a mask of shape {mask.shape}; a sample has shape {shape}."
            )
        if (index[mask] >= 0).any():
            entry = np.argwhere(mask & (index >= 0))[0]
            entry = entry.tolist() if names is None else str(names[entry[0]])
            raise ValueError(f"groups: column {entry} is in group {label!r} and in another.")
        if not mask.any():
            raise ValueError(f"groups[{label!r}] is empty; leave it out.")
        index[mask] = number
    if (index < 0).any():
        missing = np.argwhere(index < 0)[:5]
        missing = [m.tolist() if names is None else str(names[m[0]]) for m in missing]
        raise ValueError(
            f"groups leaves out {missing}; put every column into a group, the rest into one of "
            "their own ('other')."
        )
    return index, [str(label) for label in groups]


def _column_mask(label, members, shape, names):
    if len(shape) != 1:
        raise ValueError(
            f"groups[{label!r}] lists columns, but X has {len(shape) + 1} axes; give a boolean "
            "mask of a sample's shape, or labels."
        )
    mask = np.zeros(shape, dtype=bool)
    known = {} if names is None else {str(name): i for i, name in enumerate(names)}
    for member in members.ravel().tolist():
        position = known.get(member) if isinstance(member, str) else member
        is_position = isinstance(position, numbers.Integral)
        if not is_position or not -shape[0] <= position < shape[0]:
            raise ValueError(f"groups[{label!r}]: X has no column {member!r}.")
        mask[position] = True
    return mask
