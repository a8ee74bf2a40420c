"""Where files saved by version 0.1 look for the callback."""

from ..scores import ScoreConstraint

__all__ = ["ScoreConstraint"]
