"""Where files saved by version 0.1 look for the skorch net."""

from ..training import PretextNet

__all__ = ["PretextNet"]
