"""How far a number falls as the features that add most to it are put back."""

import numpy as np
from scipy.integrate import trapezoid
from sklearn.utils import Bunch

from ..utils import warn
from ._idle_features import features_without_effect, numbered
from ._latent_shift import Masking


def fall_curve(
    encode,
    X,
    maps,
    features,
    *,
    references,
    channel_axis,
    batch_size,
    is_numeric,
    random_state,
    n_random,
    along=(1.0,),
):
    r"""Fall of a number as features are put back, those first that add most to it.

    Parameters
    ----------
    encode : callable
        From samples (b, ...) to representations (b, n_units).
    X, maps, features, channel_axis, batch_size, is_numeric
        See `latent_shift`.
    references : list of ndarray of X's shape
        What each sample's features are put back to, in turn; the mean fall counts.
    random_state : int
        Of the random orders.
    n_random : int
        How many there are.
    along : array-like of shape (n_units,), default=(1.0,)
        The number is the product of a representation with it; the default is for representations
        that are the number.

    Returns
    -------
    curve : Bunch
        As of `latent_shift_curve`, of falls. ``full_shift`` is the mean absolute change when all is
        put back. With :math:`A` the area under the mean fall, :math:`R_i` that under the fall of
        sample i by random features and :math:`R` their mean, ``area_ratio`` is

        .. math:: 1 + \frac{A - R}{\max(R, \operatorname{mean}_i |R_i| / 3)}:

        the ratio A / R where random features make numbers fall twice as much as they make them
        rise, or more. Of samples unlike a corpus they rise: the two may cancel, and a ratio to what
        is left would be anything.

    Warns
    -----
    SklexplainWarning
        If putting random features back changes the number of no sample; the ratio is 1 then.
    """
    groups, n_features = numbered(X, features, channel_axis)
    if features.is_identity and channel_axis is not None:
        maps = maps.sum(axis=channel_axis + 1)  # channels of a position go together
    # Ranks are those of absolute values: what takes away from the number comes last.
    maps = maps - maps.reshape(len(maps), -1).min(axis=1).reshape(-1, *[1] * (maps.ndim - 1))
    along = np.asarray(along, dtype=np.float64)
    idle = features_without_effect(
        encode, X, references[0], groups, n_features, batch_size, is_numeric, along
    )
    masking = Masking(
        n_random=n_random, random_state=random_state, batch_size=batch_size, along=along
    )
    curves, by_chance, changes = 0.0, np.zeros(len(X)), np.zeros(len(X))
    for reference in references:
        n_masked, n_counted, batches = masking.batches(encode, X, maps, reference, groups, idle)
        fractions = n_masked / n_counted
        for rows, falls, full in batches:
            curves = curves + falls.sum(axis=-1) / len(X) / len(references)
            by_chance[rows] += trapezoid(falls[2:].mean(axis=0), fractions, axis=0)
            changes[rows] += full
    scale = max(by_chance.mean(), np.abs(by_chance).mean() / 3) / len(references)
    return _summary(curves, n_masked, fractions, scale, np.abs(changes).mean() / len(references))


def fall_ratio(curve):
    """Return the area ratio of a number that is above what it is at the references.

    Parameters
    ----------
    curve : Bunch
        From `fall_curve`.

    Returns
    -------
    ratio : float
        1 is chance.

    Warns
    -----
    SklexplainWarning
        If random features make it rise: then it is not, and the ratio is 1.
    """
    if trapezoid(curve.random, curve.fractions) < 0:
        warn(
            "putting random features back to the reference does not lower the score of these "
            "samples, so there is nothing to compare; the ratio is set to 1, which is chance. Are "
            "they as normal as their references?"
        )
        return 1.0
    return curve.area_ratio


def _summary(curves, n_masked, fractions, scale, full_shift):
    most, least, draws = curves[0], curves[1], curves[2:]
    random = draws.mean(axis=0)
    areas = trapezoid([most, least, random], fractions, axis=1)
    ratio, separation = 1.0, 0.0
    if scale > 0:
        ratio += (areas[0] - areas[2]) / scale
    else:
        warn(
            "putting random features back to the reference does not change the number that is "
            "explained, of any of these samples, so there is nothing to compare; the ratio is set "
            "to 1, which is chance. Are samples and references alike?"
        )
    if full_shift > 0:
        separation = (areas[0] - areas[1]) / full_shift
    return Bunch(
        fractions=fractions,
        n_masked=n_masked,
        most=most,
        least=least,
        random=random,
        random_std=draws.std(axis=0),
        full_shift=float(full_shift),
        area_ratio=float(ratio),
        separation=float(separation),
    )
