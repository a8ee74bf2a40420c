"""Objects that hold tensors and are saved as plain arrays."""

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
