"""Objects that hold tensors and are saved as plain arrays."""

from collections import OrderedDict

import numpy as np
import torch


class SavedAsArrays:
    """Base class of objects whose tensors are NumPy arrays in a file, whatever saves it.

    Loaded tensors are on the CPU; `moved` takes them to where they are needed.
    """

    def __getstate__(self):
        """Return arrays and what else there is."""
        tensors = {k: v.detach().cpu() for k, v in vars(self).items() if torch.is_tensor(v)}
        return {
            "arrays": {name: _array(tensor) for name, tensor in tensors.items()},
            "dtypes": {name: str(t.dtype).removeprefix("torch.") for name, t in tensors.items()},
            "others": {k: v for k, v in vars(self).items() if k not in tensors},
        }

    def __setstate__(self, state):
        """Make tensors of arrays."""
        vars(self).update(state["others"])
        for name, array in state["arrays"].items():
            # Of a file mapped into memory, an array may be one that cannot be written.
            tensor = torch.from_numpy(np.require(array, requirements="W"))
            vars(self)[name] = tensor.view(getattr(torch, state["dtypes"][name]))

    def moved(self, device):
        """Take all tensors to a device.

        Parameters
        ----------
        device : torch.device
            Where to.

        Returns
        -------
        self : SavedAsArrays
        """
        for name, value in list(vars(self).items()):
            if torch.is_tensor(value):
                vars(self)[name] = value.to(device)
            elif isinstance(value, dict):
                for term in value.values():
                    term.moved(device)
        return self


def _array(tensor):
    try:
        return tensor.numpy()
    except TypeError:  # numpy has no bfloat16
        return tensor.contiguous().view(torch.int16).numpy()


class SavedWeights:
    """A state dict that is saved as arrays.

    Parameters
    ----------
    weights : dict of str to torch.Tensor
        A state dict.
    """

    def __init__(self, weights):
        self._weights = _Attributes(weights)
        # Versions of the parts, which torch puts beside the weights.
        versions = getattr(weights, "_metadata", {})
        self._versions = {part: dict(version) for part, version in versions.items()}

    def state_dict(self):
        """Return the state dict."""
        weights = OrderedDict(vars(self._weights))
        if self._versions:
            weights._metadata = OrderedDict(self._versions)
        return weights


class _Attributes(SavedAsArrays):
    def __init__(self, weights):
        vars(self).update(weights)
