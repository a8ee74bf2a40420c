"""Scaling of series and images, as a step of the model: so all else stays in the file's units."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn


class ChannelScaler(TransformerMixin, BaseEstimator):
    """Centre samples and divide them by their standard deviation, channel by channel.

    Parameters
    ----------
    channel_axis : int or None, default=None
        A sample's axis that holds channels, each of which is scaled by itself; None: one mean and
        one standard deviation for all values.

    Attributes
    ----------
    mean_, scale_ : ndarray of float64
        Of the fitted samples, to be broadcast; a constant channel is divided by 1.
    n_features_in_ : int
        Size of axis 1.

    See Also
    --------
    sklexplain.report.RepresentationReport : Scales series by it.

    Examples
    --------
    >>> import numpy as np
    >>> from sklexplain.report import ChannelScaler
    >>> X = np.array([[[1.0, 3.0], [10.0, 30.0]]])  # (samples, channels, time)
    >>> ChannelScaler(channel_axis=0).fit_transform(X).tolist()
    [[[-1.0, 1.0], [-1.0, 1.0]]]
    """

    def __init__(self, channel_axis: int | None = None) -> None:
        self.channel_axis = channel_axis

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn means and standard deviations.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...)
            Samples.
        y : object, default=None
            Ignored.

        Returns
        -------
        self : ChannelScaler
        """
        X = np.asarray(X, dtype=np.float64)
        kept = None if self.channel_axis is None else 1 + self.channel_axis
        axes = tuple(axis for axis in range(X.ndim) if axis != kept)
        self.mean_ = X.mean(axis=axes, keepdims=True)
        self.scale_ = X.std(axis=axes, keepdims=True)
        self.scale_[self.scale_ == 0] = 1.0
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Scale samples.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...)
            Samples.

        Returns
        -------
        X : ndarray of shape (n_samples, ...), float32
        """
        check_is_fitted(self)
        scaled = (np.asarray(X, dtype=np.float64) - self.mean_) / self.scale_
        return scaled.astype(np.float32)

    def inverse_transform(self, X: ArrayLike) -> np.ndarray:
        """Give samples their units back.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...)
            Scaled samples.

        Returns
        -------
        X : ndarray of shape (n_samples, ...), float64
        """
        check_is_fitted(self)
        return np.asarray(X, dtype=np.float64) * self.scale_ + self.mean_

    def _torch_form(self):
        """Return the module that computes what `transform` gives, and the name of its method."""
        return _Scaling(self.mean_, self.scale_), "forward"


class _Scaling(nn.Module):
    """(x - mean) / scale."""

    def __init__(self, mean, scale):
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(np.array(mean)))
        self.register_buffer("scale", torch.from_numpy(np.array(scale)))

    def forward(self, x):
        return (x - self.mean) / self.scale
