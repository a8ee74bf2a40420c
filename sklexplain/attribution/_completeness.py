"""Whether attributions sum to what they should."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..utils import FLAG, by_columns, check_encode, check_numbers, column_labels, encoded, validated

_BATCH = 1024
# Differences of representations below this share of their length are rounding in float32 nets.
_FLOOR = float(np.sqrt(np.finfo(np.float32).eps))


@validated(center=[FLAG])
def completeness_error(
    attributions: ArrayLike,
    encode: Callable[..., Any],
    X: ArrayLike,
    baseline: ArrayLike,
    *,
    center: bool = False,
) -> np.ndarray:
    r"""Relative error of the completeness of label-free attributions, per sample.

    Label-free attributions of a complete method sum to ([1]_, proposition 2.3)

    .. math:: \sum_i b_i = \|f(x)\|^2 - \langle f(x), f(\bar x)\rangle
              = \langle f(x), f(x) - f(\bar x)\rangle

    or, with ``center``, to :math:`\|f(x) - f(\bar x)\|^2`. The absolute difference is divided by
    the largest absolute value this product can take, :math:`\|f(x)\| \|f(x) - f(\bar x)\|` (with
    ``center`` the square of the second factor). So an error of 0.01 is 1 % of that bound also where
    the product itself happens to be near zero. Distances below 0.03 % of the longer of
    the two representations are counted as that, because a float32 network rounds them.

    Parameters
    ----------
    attributions : array-like of shape (n, ...)
        Attributions; summed over all axes but the first.
    encode : callable
        From an ndarray of samples (n, ...) to an ndarray (n, n_units).
    X : array-like of shape (n, ...)
        The samples that were explained.
    baseline : float or array-like
        The baseline, broadcast to one sample; or several, of shape (n_baselines, ...), whose
        representations are averaged.
    center : bool, default=False
        Whether the attributions are those of centred representations.

    Returns
    -------
    error : ndarray of shape (n,)

    Raises
    ------
    ValueError
        If shapes do not fit or values are not finite.
    TypeError
        If ``encode`` is not callable.

    See Also
    --------
    sklexplain.LabelFreeAttributor : What makes attributions.

    References
    ----------
    .. [1] J. Crabbé and M. van der Schaar, "Label-Free Explainability for Unsupervised Models",
       ICML 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from sklexplain.metrics import completeness_error
    >>> W = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]])
    >>> X = np.array([[1.0, 0.0, 2.0], [0.5, 1.0, 1.0]])
    >>> b = X * (X @ W.T @ W)  # exact for a linear encoder and a baseline of zeros
    >>> completeness_error(b, lambda X: X @ W.T, X, 0.0)
    array([0., 0.])
    """
    check_encode(encode)
    baseline = by_columns(baseline, column_labels(X), "baseline")
    X = check_numbers("X", X, min_ndim=2)
    attributions = check_numbers("attributions", attributions)
    if len(attributions) != len(X):
        raise ValueError(f"There are {len(attributions)} attributions for {len(X)} samples.")
    rows = _baseline_rows(baseline, X)
    z0 = encoded(encode, rows).mean(axis=0, dtype=np.float64)  # (n_units,)
    blocks = (X[i : i + _BATCH] for i in range(0, len(X), _BATCH))
    # Copies: a function may return the same array, filled anew, each time.
    z = np.concatenate([encoded(encode, block).astype(np.float64) for block in blocks])
    difference = z - z0
    left = difference if center else z
    totals = attributions.reshape(len(X), -1).sum(axis=1, dtype=np.float64)
    error = np.abs(totals - np.einsum("ij,ij->i", left, difference))

    length = np.linalg.norm(z, axis=1)
    floor = _FLOOR * np.maximum(length, np.linalg.norm(z0))
    distance = np.maximum(np.linalg.norm(difference, axis=1), floor)
    scale = distance * (distance if center else np.maximum(length, floor))
    # Zero only where both representations are zero: then so must be the attributions.
    nothing = np.where(error == 0, 0.0, np.inf)
    return np.divide(error, scale, out=nothing, where=scale > 0)


def _baseline_rows(baseline, X):
    baseline = check_numbers("baseline", baseline, min_ndim=0)
    if baseline.ndim == X.ndim and baseline.shape[1:] == X.shape[1:]:
        rows = baseline
    else:
        try:
            rows = np.broadcast_to(baseline, X.shape[1:])[None]
        except ValueError:
            raise ValueError(
                f"baseline of shape {baseline.shape} is neither one sample, of shape "
                f"{X.shape[1:]}, nor several of them."
            ) from None
    return rows.astype(X.dtype if X.dtype.kind == "f" else np.result_type(X, rows))
