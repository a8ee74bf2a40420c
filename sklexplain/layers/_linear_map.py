"""A linear map with fixed numbers, into which scikit-learn estimators are converted."""

import numpy as np
import torch
from torch import nn


class LinearMap(nn.Module):
    """``((x - center) @ weight.T + bias) / scale``, centred first so that no digits are lost."""

    def __init__(self, weight, bias=0.0, center=0.0, scale=1.0):
        super().__init__()
        for name, value in (("weight", weight), ("bias", bias), ("center", center)):
            self.register_buffer(name, torch.as_tensor(np.array(value, dtype=np.float64)))
        self.register_buffer("scale", torch.as_tensor(np.array(scale, dtype=np.float64)))

    def forward(self, x):
        return ((x.to(self.weight.dtype) - self.center) @ self.weight.T + self.bias) / self.scale
