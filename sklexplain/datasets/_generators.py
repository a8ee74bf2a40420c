"""Generated data whose relevant parts are known."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from ..utils import RandomState


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_relevant": [Interval(Integral, 1, None, closed="left")],
        "n_irrelevant": [Interval(Integral, 0, None, closed="left")],
        "n_factors": [Interval(Integral, 1, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_relevant_columns(
    n_samples: int = 200,
    n_relevant: int = 6,
    n_irrelevant: int = 4,
    *,
    n_factors: int = 2,
    noise: float = 0.1,
    random_state: RandomState = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Generate a table in which some columns share hidden factors and the others are noise.

    A relevant column is a random mixture of ``n_factors`` independent standard normal factors plus
    noise; an irrelevant column is noise alone. All columns have the same expected variance, so an
    encoder with ``n_factors`` components keeps most of the variance only by looking at the relevant
    columns. They stand in a random order.

    Parameters
    ----------
    n_samples : int, default=200
        Number of rows.

    n_relevant : int, default=6
        Number of columns that carry the factors; at least ``n_factors``.

    n_irrelevant : int, default=4
        Number of columns of independent standard normal noise.

    n_factors : int, default=2
        Number of hidden factors.

    noise : float, default=0.1
        Standard deviation of the noise in relevant columns, before scaling to variance 1.

    random_state : int, RandomState instance or None, default=None
        Determines the data.

    Returns
    -------
    X : ndarray of shape (n_samples, n_relevant + n_irrelevant)
        The table.

    y : ndarray of shape (n_samples,)
        0 or 1: whether the first factor is positive.

    relevant : ndarray of bool of shape (n_relevant + n_irrelevant,)
        True where a column carries the factors.

    Raises
    ------
    ValueError
        If there are fewer relevant columns than factors.

    See Also
    --------
    sklexplain.datasets.make_motif_series : Series.
    sklexplain.datasets.load_ecg5000 : Real heartbeats.

    Examples
    --------
    >>> from sklexplain.datasets import make_relevant_columns
    >>> X, y, relevant = make_relevant_columns(n_relevant=3, n_irrelevant=2, random_state=0)
    >>> X.shape, int(relevant.sum())
    ((200, 5), 3)
    """
    if n_relevant < n_factors:
        raise ValueError(
            f"n_relevant={n_relevant} columns cannot carry n_factors={n_factors} independent "
            "factors: n_relevant must be at least n_factors."
        )
    rng = check_random_state(random_state)
    factors = rng.standard_normal((n_samples, n_factors))
    weights = rng.standard_normal((n_factors, n_relevant))
    weights /= np.linalg.norm(weights, axis=0)  # every mixture has variance 1
    mixtures = factors @ weights + noise * rng.standard_normal((n_samples, n_relevant))
    X = np.hstack(
        [mixtures / np.sqrt(1 + noise**2), rng.standard_normal((n_samples, n_irrelevant))]
    )
    order = rng.permutation(n_relevant + n_irrelevant)
    return X[:, order], (factors[:, 0] > 0).astype(int), order < n_relevant


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_timesteps": [Interval(Integral, 4, None, closed="left")],
        "motif_length": [Interval(Integral, 4, None, closed="left")],
        "n_classes": [Interval(Integral, 1, None, closed="left")],
        "n_channels": [Interval(Integral, 1, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_motif_series(
    n_samples: int = 200,
    n_timesteps: int = 60,
    motif_length: int = 16,
    n_classes: int = 2,
    *,
    n_channels: int = 1,
    noise: float = 0.1,
    random_state: RandomState = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Generate series of noise with one short motif each, whose shape depends on the class.

    The motif of class k (0, 1, ...) is k + 1 periods of a sine in a Hann window, with height about
    2. It starts at a random time step and appears in every channel, with a sign of its own in each,
    the same for all samples.

    Parameters
    ----------
    n_samples : int, default=200
        Number of series.

    n_timesteps : int, default=60
        Length of the series.

    motif_length : int, default=16
        Length of the motif, in time steps; at most `n_timesteps`.

    n_classes : int, default=2
        Number of motifs. The motifs of many classes in few time steps cannot be told apart:
        at most ``motif_length // 4``.

    n_channels : int, default=1
        Number of channels.

    noise : float, default=0.1
        Standard deviation of the noise.

    random_state : int, RandomState instance or None, default=None
        Determines the data.

    Returns
    -------
    X : ndarray of shape (n_samples, n_channels, n_timesteps)
        The series.

    y : ndarray of shape (n_samples,)
        The class, 0 to ``n_classes - 1``.

    motif : ndarray of bool of shape (n_samples, n_timesteps)
        True where the motif is.

    Raises
    ------
    ValueError
        If the motif is longer than the series, or too short for the number of classes.

    See Also
    --------
    sklexplain.datasets.make_frequency_series : Classes by a frequency.
    sklexplain.datasets.make_relevant_columns : A table.

    Examples
    --------
    >>> from sklexplain.datasets import make_motif_series
    >>> X, y, motif = make_motif_series(n_samples=3, motif_length=10, random_state=0)
    >>> X.shape, motif.sum(axis=1)
    ((3, 1, 60), array([10, 10, 10]))
    """
    if motif_length > n_timesteps:
        raise ValueError(
            f"motif_length={motif_length} is more than n_timesteps={n_timesteps}: the motif must "
            "fit into the series."
        )
    if n_classes > motif_length // 4:
        raise ValueError(
            f"n_classes={n_classes} motifs cannot be told apart in motif_length={motif_length} "
            f"time steps: n_classes must be at most motif_length // 4 = {motif_length // 4}."
        )
    rng = check_random_state(random_state)
    y = rng.randint(n_classes, size=n_samples)
    start = rng.randint(n_timesteps - motif_length + 1, size=n_samples)
    signs = rng.choice([-1.0, 1.0], size=n_channels)
    phase = (np.arange(motif_length) + 0.5) / motif_length
    window = 2 * np.sin(np.pi * phase) ** 2
    shapes = window * np.sin(2 * np.pi * np.arange(1, n_classes + 1)[:, None] * phase)
    X = noise * rng.standard_normal((n_samples, n_channels, n_timesteps))
    positions = start[:, None] + np.arange(motif_length)  # (n_samples, motif_length)
    motif = np.zeros((n_samples, n_timesteps), dtype=bool)
    np.put_along_axis(motif, positions, True, axis=1)
    X[np.arange(n_samples)[:, None], :, positions] += shapes[y][:, :, None] * signs
    return X, y, motif


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_timesteps": [Interval(Integral, 8, None, closed="left")],
        "n_classes": [Interval(Integral, 1, None, closed="left")],
        "n_channels": [Interval(Integral, 1, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_frequency_series(
    n_samples: int = 200,
    n_timesteps: int = 64,
    n_classes: int = 2,
    *,
    n_channels: int = 1,
    noise: float = 0.1,
    random_state: RandomState = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Generate series of noise with a sine each, whose frequency depends on the class.

    Sines have height 1 and start anywhere in their period, in each channel of each series, so that
    no time step tells the classes apart. Frequencies are whole numbers of cycles per series, no two
    of them neighbours.

    Parameters
    ----------
    n_samples : int, default=200
        Number of series.

    n_timesteps : int, default=64
        Length of the series.

    n_classes : int, default=2
        Number of frequencies; at most ``n_timesteps // 4 - 1``.

    n_channels : int, default=1
        Number of channels.

    noise : float, default=0.1
        Standard deviation of the noise.

    random_state : int, RandomState instance or None, default=None
        Determines the data.

    Returns
    -------
    X : ndarray of shape (n_samples, n_channels, n_timesteps)
        The series.

    y : ndarray of shape (n_samples,)
        The class, 0 to ``n_classes - 1``.

    cycles : ndarray of shape (n_classes,)
        Cycles per series of each class, in ascending order.

    Raises
    ------
    ValueError
        If there are more frequencies than so many time steps can tell apart.

    See Also
    --------
    sklexplain.datasets.make_motif_series : Classes by a shape at a place.
    sklexplain.datasets.make_relevant_columns : A table.

    Examples
    --------
    >>> from sklexplain.datasets import make_frequency_series
    >>> X, y, cycles = make_frequency_series(n_samples=3, random_state=0)
    >>> X.shape, len(cycles)
    ((3, 1, 64), 2)
    """
    most = n_timesteps // 4 - 1  # every other one from 2 on, below half the steps
    if n_classes > most:
        raise ValueError(
            f"n_classes={n_classes} frequencies cannot be told apart in n_timesteps={n_timesteps}: "
            f"n_classes must be at most n_timesteps // 4 - 1 = {most}."
        )
    rng = check_random_state(random_state)
    cycles = 2 + 2 * np.sort(rng.choice(most, size=n_classes, replace=False))
    y = rng.randint(n_classes, size=n_samples)
    phase = rng.uniform(size=(n_samples, n_channels, 1))
    time = (np.arange(n_timesteps) + 0.5) / n_timesteps
    X = np.sin(2 * np.pi * (cycles[y][:, None, None] * time + phase))
    return X + noise * rng.standard_normal(X.shape), y, cycles
