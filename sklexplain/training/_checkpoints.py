"""Weights along the training path of a skorch net."""

import json
import os
from pathlib import Path

import torch
from skorch.callbacks import Callback

from ..utils import SavedWeights, check_positive_int

_INDEX = "checkpoints.json"


class CheckpointHistory(Callback):
    """Skorch callback that keeps weights and learning rates of a training run.

    Give it to a net in ``callbacks`` (to :class:`Autoencoder` in ``net_params``), and then to
    :class:`~sklexplain.TracInImportance` as ``checkpoints``.

    Parameters
    ----------
    every : int, default=10
        Number of epochs between two checkpoints.

    folder : path-like or None, default=None
        Where a file for each checkpoint is written, as safetensors if that package is installed
        and with `torch.save` if not; None keeps the weights in memory.

    Attributes
    ----------
    checkpoints_ : list of (dict or Path, float)
        Weights, or the files they are in, and learning rates, in the order of training.

    epochs_ : list of int
        Number of epochs trained before each.

    rates_ : list of (dict of str to float or None)
        Learning rates by parameter, where those of the optimizer's parameter groups differ.

    Notes
    -----
    The learning rate is the one that the epoch began with, of the optimizer's first parameter
    group; where groups have others, ``rates_`` has each parameter's own. Training again from new
    weights starts a new history, and the files of the old one are removed. Training that goes on
    (``partial_fit``) goes on with its history: also in another process, if the net's own history
    was loaded with its weights, ``load_params(f_params=..., f_history=...)``; checkpoints of later
    epochs than those are removed.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklexplain.nets import Autoencoder, CheckpointHistory
    >>> history = CheckpointHistory(every=2)
    >>> autoencoder = Autoencoder(
    ...     n_components=2,
    ...     validation_split=None,
    ...     max_epochs=5,
    ...     net_params={"callbacks": [history]},
    ...     random_state=0,
    ... )
    >>> _ = autoencoder.fit(load_iris().data)
    >>> history.epochs_
    [2, 4]
    >>> weights, learning_rate = history.checkpoints_[0]
    >>> learning_rate
    0.001
    """

    def __init__(self, every=10, folder=None):
        self.every = every
        self.folder = folder

    def initialize(self):
        """Check the parameters, and look for checkpoints in the folder.

        Returns
        -------
        self : CheckpointHistory
        """
        check_positive_int("every", self.every)
        self.checkpoints_, self.epochs_, self.rates_ = [], [], []
        if self.folder is not None and self._index.exists():
            for entry in json.loads(self._index.read_text()):
                self.epochs_.append(entry["epoch"])
                self.rates_.append(entry.get("rates"))
                self.checkpoints_.append((Path(self.folder) / entry["file"], entry["lr"]))
        return self

    def on_train_begin(self, net, **kwargs):
        """Forget checkpoints of epochs that this training run does not come after."""
        n_epochs = len(net.history)
        later = [i for i, epoch in enumerate(self.epochs_) if epoch > n_epochs]
        for i in reversed(later):
            saved, _ = self.checkpoints_.pop(i)
            del self.epochs_[i], self.rates_[i]
            if isinstance(saved, Path):
                saved.unlink(missing_ok=True)
        if later:
            self._write_index()

    def on_epoch_begin(self, net, **kwargs):
        """Remember the learning rate, before a scheduler changes it."""
        groups = net.optimizer_.param_groups
        self._lr = float(groups[0]["lr"])
        held = {id(p): float(group["lr"]) for group in groups for p in group["params"]}
        rates = {name: held.get(id(p), 0.0) for name, p in net.module_.named_parameters()}
        self._rates = None if set(rates.values()) == {self._lr} else rates

    def on_epoch_end(self, net, **kwargs):
        """Keep the weights, if it is time to."""
        epoch = len(net.history)
        if epoch % self.every:
            return
        weights = net.module_.state_dict()
        weights = {name: value.detach().cpu().clone() for name, value in weights.items()}
        if self.folder is not None:
            weights = save_weights(weights, Path(self.folder) / f"epoch{epoch:05d}")
        self.checkpoints_.append((weights, self._lr))
        self.epochs_.append(epoch)
        self.rates_.append(self._rates)
        self._write_index()

    def __getstate__(self):
        """Return parameters, names of files and plain arrays."""
        state = vars(self).copy()
        if "checkpoints_" in state:
            state["checkpoints_"] = [
                (str(saved) if isinstance(saved, Path) else SavedWeights(saved), lr)
                for saved, lr in self.checkpoints_
            ]
        return state

    def __setstate__(self, state):
        """Make tensors of arrays."""
        vars(self).update(state)
        if "checkpoints_" in state and "rates_" not in state:  # of an earlier version
            self.rates_ = [None] * len(state["checkpoints_"])
        if "checkpoints_" in state:
            self.checkpoints_ = [
                (Path(saved) if isinstance(saved, str) else dict(saved.state_dict()), lr)
                for saved, lr in state["checkpoints_"]
            ]

    @property
    def _index(self):
        return Path(self.folder) / _INDEX

    def _write_index(self):
        if self.folder is None:
            return
        entries = [
            {"epoch": epoch, "lr": lr, "file": saved.name} | ({"rates": rates} if rates else {})
            for epoch, (saved, lr), rates in zip(
                self.epochs_, self.checkpoints_, self.rates_, strict=True
            )
        ]
        _replace(self._index, lambda path: path.write_text(json.dumps(entries, indent=1)))


def save_weights(weights, path):
    """Write weights to a file, completely or not at all.

    Parameters
    ----------
    weights : dict of str to torch.Tensor
        A state dict, on the CPU, of tensors that share no memory.
    path : Path
        Where to, without suffix. Folders are made.

    Returns
    -------
    path : Path
        The file: ``.safetensors``, or ``.pt`` where safetensors is not installed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        from safetensors.torch import save_file
    except ImportError:
        path = path.with_suffix(".pt")
        _replace(path, lambda new: torch.save(weights, new))
    else:
        path = path.with_suffix(".safetensors")
        weights = {name: value.contiguous() for name, value in weights.items()}
        _replace(path, lambda new: save_file(weights, new))
    return path


def load_weights(path):
    """Read weights from a file.

    Parameters
    ----------
    path : path-like
        A file with the suffix ``.safetensors``, or one that `torch.save` wrote.

    Returns
    -------
    weights : dict of str to torch.Tensor
        On the CPU.

    Raises
    ------
    ImportError
        If safetensors is needed and not installed.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        return torch.load(path, map_location="cpu", weights_only=True)
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError(f"reading {path} needs safetensors; pip install safetensors.") from error
    return load_file(path)


def _replace(path, write):
    """Write beside the file and rename, so that there is never half a file."""
    beside = path.with_name(f".{path.name}.part")
    write(beside)
    os.replace(beside, path)
