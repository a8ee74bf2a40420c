"""How sparse maps are."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..utils import FLAG, check_numbers, largest_size, rounding_of, validated


@validated(absolute=[FLAG])
def map_sparsity(maps: ArrayLike, *, absolute: bool = False) -> np.ndarray:
    """Mean of every map after scaling it to [0, 1]; lower is sparser.

    The measure below the maps of Fig. 2 in [1]_. A constant map, but for rounding, has no
    place that differs from the others, is scaled to zeros and so counts 0.

    Parameters
    ----------
    maps : array-like of shape (n, ...)
        Maps of n samples, of `EmbeddingAttributor`, for example.
    absolute : bool, default=False
        Take absolute values first, for maps with signs (means).

    Returns
    -------
    sparsity : ndarray of shape (n,)
        Between 0 and 1.

    Raises
    ------
    ValueError
        If values are not finite or there are none.

    See Also
    --------
    sklexplain.EmbeddingAttributor : What makes maps.

    References
    ----------
    .. [1] M. Bertolini, D.-A. Clevert, F. Montanari, "Explaining, Evaluating and Enhancing Neural
       Networks' Learned Representations", 2022, section 2.2.

    Examples
    --------
    >>> from sklexplain.metrics import map_sparsity
    >>> map_sparsity([[0.0, 0.0, 0.0, 8.0], [1.0, 3.0, 3.0, 3.0]])
    array([0.25, 0.75])
    """
    maps = check_numbers("maps", maps, min_ndim=2)
    eps = rounding_of(maps)
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    flat = np.abs(flat) if absolute else flat
    flat = flat / largest_size(flat, axis=1)
    low, high = flat.min(axis=1), flat.max(axis=1)
    span = high - low
    mean = (flat - low[:, None]).mean(axis=1)
    # What rounding alone makes vary does not.
    return np.divide(mean, span, out=np.zeros(len(maps)), where=span > 8 * eps)
