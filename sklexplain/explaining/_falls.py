"""How far a number falls as the features that add most to it are put back."""

import numpy as np
from scipy.integrate import trapezoid

from ..utils import warn
from ._idle_features import features_without_effect, numbered
from ._latent_shift import Masking


def fall_curves(
    encode, X, maps, features, *, references, channel_axis, batch_size, is_numeric, seed, n_random
):
    """Fall of a number as features are put back, those first that add most to it.

    Parameters
    ----------
    encode, X, maps, features, references, channel_axis, batch_size, is_numeric, seed, n_random
        See `fall_ratio`.

    Returns
    -------
    curves : ndarray of shape (2 + n_random, n_points)
        The features that add most first, those that add least, and random ones.
    n_masked : ndarray of shape (n_points,)
        How many features are put back.
    n_features : int
        How many there are, without those that have no effect.
    """
    groups, n_features = numbered(X, features, channel_axis)
    if features.is_identity and channel_axis is not None:
        maps = maps.sum(axis=channel_axis + 1)  # channels of a position go together
    # Ranks are those of absolute values: what takes away from the number comes last.
    maps = maps - maps.reshape(len(maps), -1).min(axis=1).reshape(-1, *[1] * (maps.ndim - 1))
    idle = features_without_effect(
        encode, X, references[0], groups, n_features, batch_size, is_numeric
    )
    masking = Masking(n_random=n_random, random_state=seed, batch_size=batch_size, by_drop=True)
    curves = 0.0
    for reference in references:
        found, _, n_masked, n_counted = masking.curves(encode, X, maps, reference, groups, idle)
        curves = curves + found / len(references)
    return curves, n_masked, n_counted


def fall_ratio(
    encode, X, maps, features, *, references, channel_axis, batch_size, is_numeric, seed, n_random
):
    """Area under the fall of a score as features are put back, over that of random features.

    Parameters
    ----------
    encode : callable
        From samples (b, ...) to scores (b, 1).
    X, maps, features, channel_axis, batch_size, is_numeric
        See `latent_shift`.
    references : list of ndarray of X's shape
        What each sample's features are put back to, in turn; the mean fall counts.
    seed : int
        Of the random orders.
    n_random : int
        How many there are.

    Returns
    -------
    ratio : float
        1 is chance.

    Warns
    -----
    SklexplainWarning
        If the score does not fall when random features are put back; the ratio is 1 then.
    """
    curves, n_masked, n_features = fall_curves(
        encode,
        X,
        maps,
        features,
        references=references,
        channel_axis=channel_axis,
        batch_size=batch_size,
        is_numeric=is_numeric,
        seed=seed,
        n_random=n_random,
    )
    most, _, *random = trapezoid(curves, n_masked / n_features, axis=1)
    if not np.mean(random) > 0:
        warn(
            "putting random features back to the reference does not lower the score of these "
            "samples, so there is nothing to compare; the ratio is set to 1, which is chance. Are "
            "they as normal as their references?"
        )
        return 1.0
    return float(most / np.mean(random))
