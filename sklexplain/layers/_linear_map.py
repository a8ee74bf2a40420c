"""A linear map with fixed numbers, into which scikit-learn estimators are converted."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn


class LinearMap(nn.Module):
    """``((x - center) @ weight.T + bias) / scale``, centred first so that no digits are lost."""

    weight: torch.Tensor
    bias: torch.Tensor
    center: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        weight: ArrayLike,
        bias: ArrayLike = 0.0,
        center: ArrayLike = 0.0,
        scale: ArrayLike = 1.0,
    ) -> None:
        super().__init__()
        for name, value in (("weight", weight), ("bias", bias), ("center", center)):
            self.register_buffer(name, torch.as_tensor(np.array(value, dtype=np.float64)))
        self.register_buffer("scale", torch.as_tensor(np.array(scale, dtype=np.float64)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x.to(self.weight.dtype) - self.center) @ self.weight.T + self.bias) / self.scale
