"""Orthonormal bases along time: attributions of frequencies instead of time steps.

With the rows of B orthonormal, a series is x = B'c with coefficients c = Bx. A function of x is one
of c, whose gradient is B times that by x; so methods of gradients run on the series as they are and
turn what they find, and only methods that mask coefficients have to make series of them.
"""

import numpy as np
import scipy.fft
import torch

BASES = ("dct",)
_TOLERANCE = 1e-6


class Basis:
    """An orthonormal basis along the time axis of samples.

    Parameters
    ----------
    matrix : ndarray of shape (T, T)
        Its vectors, as rows.
    axis : {-1, -2}
        The axis of time, counted from the end of a sample.
    cycles : ndarray of shape (T,) or None, default=None
        Cycles per series of each vector, where they have a frequency.
    """

    def __init__(self, matrix, axis, cycles=None):
        self.matrix, self.axis, self.cycles = matrix, axis, cycles

    def coefficients(self, x):
        """Return coefficients of series: c = Bx, for every channel.

        Parameters
        ----------
        x : tensor or ndarray of shape (..., T) or (..., T, channels)
            Series, or gradients by them.

        Returns
        -------
        c : tensor or ndarray of x's shape
            Of half precision in float32.
        """
        return self._times(x, inverse=False)

    def series(self, c):
        """Return the series of coefficients: x = B'c.

        Parameters
        ----------
        c : tensor or ndarray of shape (..., T) or (..., T, channels)
            Coefficients.

        Returns
        -------
        x : tensor or ndarray of c's shape
        """
        return self._times(c, inverse=True)

    def _times(self, values, inverse):
        if isinstance(values, torch.Tensor):
            dtype = torch.promote_types(values.dtype, torch.float32)
            matrix = torch.from_numpy(self.matrix).to(dtype).to(values.device)
            values = values.to(dtype)
        else:
            matrix = self.matrix
        matrix = matrix.T if inverse else matrix
        return values @ matrix.T if self.axis == -1 else matrix @ values


def dct_matrix(n):
    """Return the vectors of the orthonormal discrete cosine transform (type II) as rows.

    Parameters
    ----------
    n : int
        Length of the series, T.

    Returns
    -------
    matrix : ndarray of shape (n, n)
        Row k has k/2 cycles per series.
    """
    return scipy.fft.dct(np.eye(n), axis=0, norm="ortho")


def resolved_basis(basis, n, axis):
    """Make the basis that a parameter stands for.

    Parameters
    ----------
    basis : str or array-like of shape (n, n)
        One of `BASES`, or its vectors as rows.
    n : int
        Length of the series.
    axis : {-1, -2}
        The axis of time, counted from the end of a sample.

    Returns
    -------
    basis : Basis

    Raises
    ------
    ValueError
        If an array is not orthonormal to 1e-6, or has another shape.
    """
    if isinstance(basis, str):
        return Basis(dct_matrix(n), axis, np.arange(n) / 2)
    matrix = np.array(basis, dtype=np.float64, order="C")
    if matrix.shape != (n, n):
        raise ValueError(
            f"basis has shape {matrix.shape}, but a basis of series of {n} time steps is {n} "
            f"vectors of {n} numbers: ({n}, {n})."
        )
    if not np.isfinite(matrix).all():
        raise ValueError("basis holds NaN or infinity.")
    misses = np.abs(matrix @ matrix.T - np.eye(n))
    if misses.max() > _TOLERANCE:
        i, j = np.unravel_index(misses.argmax(), misses.shape)
        which = (
            f"row {i} has the squared length {matrix[i] @ matrix[i]:.6g}"
            if i == j
            else f"rows {i} and {j} have the product {matrix[i] @ matrix[j]:.6g}"
        )
        raise ValueError(
            f"basis is not orthonormal: {which}, so basis @ basis.T misses the identity by "
            f"{misses.max():.2g}, where {_TOLERANCE:g} is allowed. Rows of the Q of "
            "numpy.linalg.qr(basis.T), transposed, are orthonormal and span the same."
        )
    return Basis(matrix, axis)
