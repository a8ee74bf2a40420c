"""Noise inputs."""

import warnings

import numpy as np

from ..utils import check_choice, first_missing

NOISES = ("data", "unit", "permuted")


def noise_inputs(kind, inputs, n_noise, rng):
    """Draw inputs without structure.

    Parameters
    ----------
    kind : {"data", "unit", "permuted"}
        Uniform over the range between the 1st and the 99th percentile of the data, of each column
        where samples are one-dimensional and of all entries together otherwise; uniform on [0, 1];
        or every entry taken from a random sample, another for every entry.
    inputs : ndarray of shape (n, ...)
        The data, as it enters the network.
    n_noise : int
        How many to draw.
    rng : numpy.random.Generator
        Moves on.

    Returns
    -------
    noise : ndarray of shape (n_noise, ...)
        Of the dtype of ``inputs``; of integers, integers.

    Raises
    ------
    ValueError
        If there is no such noise, or integers are asked to be uniform on [0, 1].
    """
    check_choice("noise", kind, NOISES)
    shape = (n_noise, *inputs.shape[1:])
    if kind == "permuted":
        return _permuted(inputs, n_noise, rng)
    if kind == "unit":
        if inputs.dtype.kind in "iu":
            raise ValueError(
                "noise='unit' draws numbers between 0 and 1 but the network takes integers (token "
                "numbers, for example); use 'data' or 'permuted'."
            )
        return rng.uniform(size=shape).astype(inputs.dtype)
    axis = 0 if inputs.ndim == 2 else None
    # numpy refuses the range from 0.0 to -0.0, which are both 0.
    low, high = (edge + 0.0 for edge in _percentiles(inputs, axis))
    if inputs.dtype.kind in "iu":
        low, high = np.floor(low).astype(int), np.ceil(high).astype(int)
        return rng.integers(low, high, size=shape, endpoint=True).astype(inputs.dtype)
    unknown = np.isnan(low)  # what is missing in all samples stays so
    noise = rng.uniform(np.where(unknown, 0.0, low), np.where(unknown, 0.0, high), size=shape)
    return np.where(unknown, np.nan, noise).astype(inputs.dtype)


def _percentiles(inputs, axis):
    if first_missing(inputs) is None:
        return np.percentile(inputs, [1, 99], axis=axis)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy's of entries without any value
        return np.nanpercentile(inputs, [1, 99], axis=axis)


def _permuted(inputs, n_noise, rng):
    """Shuffle every entry's values over the samples; as many shuffles as are needed."""
    flat = inputs.reshape(len(inputs), -1)
    n_shuffles = -(-n_noise // len(flat))
    parts = [rng.permuted(flat, axis=0) for _ in range(n_shuffles)]
    return np.concatenate(parts)[:n_noise].reshape(n_noise, *inputs.shape[1:])
