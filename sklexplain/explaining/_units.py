"""Latent units, and the features to which entries of a network's inputs are summed."""

import numpy as np


def checked_units(units, n_units, name="units", *, distinct=False):
    """Latent units as an array of positions.

    Parameters
    ----------
    units : array-like of int or None
        Positions, counted from the end where negative; None: all.
    n_units : int
        How many there are.
    name : {"units", "concepts"}, default="units"
        The parameter, for messages.
    distinct : bool, default=False
        Whether each may be named once only.

    Returns
    -------
    units : ndarray of int

    Raises
    ------
    TypeError
        If they are not a list of integers.
    ValueError
        If one does not exist, or is named twice where that is not allowed.
    """
    if units is None:
        return np.arange(n_units)
    units = np.atleast_1d(np.asarray(units))
    if units.dtype.kind not in "iu" or units.ndim != 1 or len(units) == 0:
        raise TypeError(f"{name}={units.tolist()} must be a list of integers.")
    unknown = units[(units < -n_units) | (units >= n_units)]
    if len(unknown):
        one, what = {
            "units": ("latent unit", "the representation"),
            "concepts": ("concept", "the dictionary"),
        }[name]
        raise ValueError(
            f"{name}: there is no {one} {unknown[0]}; {what} has {n_units}, numbered 0 to "
            f"{n_units - 1}."
        )
    units = units % n_units
    values, counts = np.unique(units, return_counts=True)
    if distinct and counts.max() > 1:
        raise ValueError(f"{name} names {values[counts.argmax()]} twice; name each once.")
    return units


class Features:
    """The features that entries of inputs belong to: raw columns, positions or groups.

    Parameters
    ----------
    input_shape : tuple of int
        Of one raw sample.
    head : Head or None, default=None
        Preprocessing, which knows the raw column that each entry was made from.
    groups : ndarray of int of shape input_shape or None, default=None
        Group of every raw entry.

    Attributes
    ----------
    players : ndarray of int
        Feature of every entry of the network's inputs.
    n_players : int
        How many features there are, those without an entry included.
    shape : tuple of int
        Of one sample's map.
    columns : ndarray of int or None
        Raw column of every entry behind a head; None where entries are raw themselves.
    n_columns : int
        How many raw columns (or entries) a sample has.
    is_identity : bool
        Whether every entry is a feature.
    """

    def __init__(self, input_shape, head=None, groups=None):
        raw = np.arange(int(np.prod(input_shape))).reshape(input_shape)
        index = raw if groups is None else groups
        # Counted before the head: a column that it drops is still a feature, of no importance.
        self.n_players = int(index.max()) + 1
        self.players = index if head is None else index[head.columns]
        self.shape = tuple(input_shape) if groups is None else (self.n_players,)
        self.columns = None if head is None else head.columns
        self.n_columns = raw.size
        self.is_identity = head is None and groups is None

    def sums(self, maps):
        """Sum maps of entries over features.

        Parameters
        ----------
        maps : ndarray of shape (b, k, *players.shape)
            Maps.

        Returns
        -------
        sums : ndarray of shape (b, k, *shape)
        """
        if self.is_identity:
            return maps
        flat = maps.reshape(*maps.shape[:2], -1)
        out = np.zeros((*maps.shape[:2], self.n_players), dtype=flat.dtype)
        np.add.at(out, (slice(None), slice(None), self.players.ravel()), flat)
        return out.reshape(*maps.shape[:2], *self.shape)
