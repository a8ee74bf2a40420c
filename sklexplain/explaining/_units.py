"""Latent units, and sums of maps over features."""

import numpy as np
import torch


def checked_units(units, n_units):
    """Latent units as an array of positions."""
    if units is None:
        return np.arange(n_units)
    units = np.atleast_1d(np.asarray(units))
    if units.dtype.kind not in "iu" or units.ndim != 1 or len(units) == 0:
        raise TypeError(f"units={units.tolist()} must be a list of integers.")
    unknown = units[(units < -n_units) | (units >= n_units)]
    if len(unknown):
        raise ValueError(
            f"units: there is no latent unit {unknown[0]}; the representation has {n_units}, "
            f"numbered 0 to {n_units - 1}."
        )
    return units % n_units


def sum_by(index, maps, n_features):
    """Sum entries of (b, k, ...) by their feature: (b, k, n_features)."""
    flat = maps.reshape(*maps.shape[:2], -1)
    out = np.zeros((*maps.shape[:2], n_features), dtype=flat.dtype)
    np.add.at(out, (slice(None), slice(None), index.ravel()), flat)
    return out


def completeness_sums(maps, z, z_ref, cotangents):
    """How much sums of attributions miss what they should be, and how large that could be."""
    dz, cotangents = (z - z_ref).double(), cotangents.double()
    missed = maps.flatten(2).double().sum(dim=2) - torch.einsum("bn,bkn->bk", dz, cotangents)
    # The product of lengths, not the inner product: that may be small by cancellation.
    # And no less than what rounding can make of it.
    length = dz.norm(dim=1, keepdim=True).clamp(min=1e-4 * z.double().norm(dim=1).mean().item())
    size = length * cotangents.norm(dim=2)
    return np.array([missed.abs().sum().item(), size.sum().item()])
