"""Readable models of latent units."""

from ._latent import LatentSurrogate

__all__ = ["LatentSurrogate"]
