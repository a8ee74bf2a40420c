"""Which features of the input an encoder does not depend on at all."""

import numpy as np

from ..utils import spread_places
from ._latent_shift import latent_shift_curve, no_shift, position_groups, sizes

_N_ROWS = 8  # samples that features are tried in one by one
_MOST_ROWS = 50_000  # given to the encoder in that


def latent_shift(
    encode, X, maps, features, *, mask_value, channel_axis, batch_size, is_numeric, **params
):
    """Latent shift of a model's explanations, without the features that have no effect.

    Parameters
    ----------
    encode, X, maps, mask_value, batch_size
        See `latent_shift_curve`.
    features : Features
        What maps are of: entries of a sample, or groups of them.
    channel_axis : int or None
        Axis of one sample's array that holds channels.
    is_numeric : bool or ndarray of bool
        Which entries any number may stand for, as it may not for a category.
    **params : object
        Other parameters of `latent_shift_curve`.

    Returns
    -------
    curve : Bunch
    """
    by_entry = features.is_identity
    groups, n_features = numbered(X, features, channel_axis)
    idle = features_without_effect(
        encode, X, mask_value, groups, n_features, batch_size, is_numeric
    )
    return latent_shift_curve(
        encode,
        X,
        maps,
        mask_value=mask_value,
        channel_axis=channel_axis if by_entry else None,
        groups=None if by_entry else groups,
        without_effect=idle,
        batch_size=batch_size,
        **params,
    )


def numbered(X, features, channel_axis):
    """Return the number of the feature of every entry, and how many features there are.

    Parameters
    ----------
    X, features, channel_axis
        See `latent_shift`.

    Returns
    -------
    groups : ndarray of int of one sample's shape
    n_features : int
    """
    if features.is_identity:
        groups = position_groups(X.shape[1:], channel_axis)
        return groups, int(groups.max()) + 1
    return features.players, features.n_players


def features_without_effect(
    encode, X, mask_value, groups, n_features, batch_size, is_numeric=False, along=None
):
    """Find the features that change nothing, whatever they are set to.

    Each is set to ``mask_value`` and to the values of another sample, alone in a few samples and
    then, with all that have passed, in every sample. One that takes no other value in this way is
    set to larger and smaller numbers, where any number may stand for it, and else counts as having
    an effect.

    Parameters
    ----------
    encode : callable
        From samples (b, ...) to representations (b, n_units).
    X : ndarray of shape (n, ...)
        Samples.
    mask_value : ndarray
        Broadcast to one sample.
    groups : ndarray of int of one sample's shape
        Feature that each entry belongs to.
    n_features : int
        How many there are.
    batch_size : int
        Most samples given to ``encode`` at once.
    is_numeric : bool or ndarray of bool, default=False
        Which entries any number may stand for.
    along : ndarray of shape (n_units,) or None, default=None
        Only what changes along this direction counts; None: any change.

    Returns
    -------
    idle : ndarray of bool of shape (n_features,)
    """
    n = len(X)
    z = encode(X)
    smallest, z = no_shift(z, along), z.astype(np.float64)
    others = np.roll(X, max(1, n // 2), axis=0)
    values = [np.broadcast_to(mask_value, X.shape), others]
    differs = [(value != X) & ~(_is_missing(value) & _is_missing(X)) for value in values]
    varies = np.logical_or(*differs).any(axis=0)
    free = np.broadcast_to(is_numeric, varies.shape)
    if free.any() and X.dtype.kind == "f":
        step = np.where(free & ~varies, 1 + np.abs(X), 0)
        values = [np.where(varies, values[0], X + step), np.where(varies, values[1], X - step)]
        varies = varies | free

    def changes(rows, chosen):
        """Whether setting chosen features (k, n_features) of some samples shifts any of them."""
        inside = chosen[:, None, groups]
        found = np.zeros(len(chosen), dtype=bool)
        for value in values:
            tried = np.where(inside, value[rows], X[rows])
            flat = tried.reshape(-1, *X.shape[1:])
            try:
                parts = [encode(flat[i : i + batch_size]) for i in range(0, len(flat), batch_size)]
            except ValueError:  # of a number that the model does not take
                if len(chosen) == 1:
                    return np.ones(1, dtype=bool)
                return np.concatenate([changes(rows, one[None]) for one in chosen])
            shifts = np.concatenate(parts).reshape(-1, *z[rows].shape) - z[rows]
            found |= (sizes(shifts, along) > smallest[rows]).any(axis=1)
        return found

    rows = spread_places(n, _N_ROWS)
    candidates = np.unique(groups[varies])
    if 2 * len(rows) * len(candidates) > _MOST_ROWS:
        return np.zeros(n_features, dtype=bool)
    # Most features show an effect in the first sample already.
    for few in (rows[len(rows) // 2 :][:1], rows):
        at_once = max(1, batch_size // len(few))
        parts = [candidates[i : i + at_once] for i in range(0, len(candidates), at_once)]
        idle = [part[~changes(few, _flags(part, n_features))] for part in parts]
        candidates = np.concatenate(idle) if idle else candidates

    def any_changes(chosen):
        blocks = (slice(i, i + batch_size) for i in range(0, n, batch_size))
        return any(changes(block, chosen[None])[0] for block in blocks)

    # A column that a Pipeline drops is of no entry of what enters the network.
    dropped = ~np.isin(np.arange(n_features), groups)
    return dropped | _unchanging(candidates, n_features, any_changes)


def _flags(features, n_features):
    """One row for each feature, True there."""
    return features[:, None] == np.arange(n_features)


def _unchanging(features, n_features, changes):
    """Halve a set of features until each part changes nothing or is a single one that does."""
    idle = np.zeros(n_features, dtype=bool)
    todo = [features] if len(features) else []
    while todo:
        part = todo.pop()
        chosen = np.isin(np.arange(n_features), part)
        if not changes(chosen):
            idle |= chosen
        elif len(part) > 1:
            todo += [part[: len(part) // 2], part[len(part) // 2 :]]
    return idle


def _is_missing(values):
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, dtype=bool)
