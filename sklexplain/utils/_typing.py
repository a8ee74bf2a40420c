"""Short names for the types in signatures, so that these can be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike

# A decorator that keeps a function's signature.
Function = TypeVar("Function", bound=Callable[..., Any])


class EstimatorLike(Protocol):
    """An estimator, by scikit-learn's conventions or close to them."""

    fit: Callable[..., Any]
    get_params: Callable[..., dict[str, Any]]


class SplitterLike(Protocol):
    """What yields pairs of training and test indices, as scikit-learn's splitters do."""

    split: Callable[..., Iterable[tuple[Any, Any]]]


# What is explained: most scorers and functions take a fitted or an unfitted one.
ModelLike: TypeAlias = torch.nn.Module | EstimatorLike

Baseline: TypeAlias = str | ArrayLike | Callable[..., Any] | dict[Any, Any]
BatchSize: TypeAlias = int | Literal["auto"]
ChannelAxis: TypeAlias = int | Literal["auto"] | None
DeviceLike: TypeAlias = str | torch.device
Groups: TypeAlias = ArrayLike | dict[Any, Any] | None
Integers: TypeAlias = Sequence[int] | np.ndarray
Kind: TypeAlias = Literal["table", "series", "image"] | None
Names: TypeAlias = Sequence[str] | np.ndarray
Params: TypeAlias = dict[str, Any] | None
PathLike: TypeAlias = str | os.PathLike[str]
RandomState: TypeAlias = int | np.random.RandomState | None
ResponseMethod: TypeAlias = str | Sequence[str]

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from matplotlib.axes import Axes
    from scipy import sparse

    # What a method returns that `set_output` is for: an array unless it was asked for a frame.
    # Of what is in dask, results are in dask, too, which no type says.
    ArrayOrFrame: TypeAlias = np.ndarray | pd.DataFrame | pl.DataFrame
    ArrayOrSparse: TypeAlias = ArrayLike | sparse.spmatrix | sparse.sparray
else:  # not everybody has these libraries, and no signature is worth the time to import them
    Axes = ArrayOrFrame = ArrayOrSparse = Any
