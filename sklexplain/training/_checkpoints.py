"""Weights along the training path of a skorch net."""

from __future__ import annotations

import json
import math
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback

from ..utils import (
    NONE,
    PATH,
    Integer,
    PathLike,
    SavedWeights,
    check_params,
    missing_extra,
    replacing,
    write_file,
)

_INDEX = "checkpoints.json"
_SUFFIXES = (".safetensors", ".pt")
# What may go wrong in reading any file.
_NOT_OF_THE_FILE = (ImportError, OSError, MemoryError)


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

    See Also
    --------
    sklexplain.TracInImportance : What the checkpoints are for.

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

    _parameter_constraints = {"every": [Integer()], "folder": [PATH, NONE]}

    def __init__(self, every: int = 10, folder: PathLike | None = None) -> None:
        self.every = every
        self.folder = folder

    def initialize(self) -> Self:
        """Check the parameters, and look for checkpoints in the folder.

        Returns
        -------
        self : CheckpointHistory

        Raises
        ------
        TypeError
            If a parameter is of a wrong type.
        ValueError
            If a parameter is out of range, or the folder's index is none that was written here.
        NotADirectoryError
            If the folder is a file.
        """
        self._every = check_params(self)["every"]
        self.checkpoints_, self.epochs_, self.rates_ = [], [], []
        if self.folder is None:
            return self
        folder = Path(self.folder)
        if _exists(folder) and not folder.is_dir():
            raise NotADirectoryError(f"folder={str(folder)!r} is a file; name a folder.")
        if _exists(self._index):
            for entry in read_index(self._index):
                self.epochs_.append(entry["epoch"])
                self.rates_.append(entry.get("rates"))
                self.checkpoints_.append((folder / entry["file"], float(entry["lr"])))
        return self

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Forget checkpoints of epochs that this training run does not come after."""
        n_epochs = len(net.history)
        later = [i for i, epoch in enumerate(self.epochs_) if epoch > n_epochs]
        obsolete = [self.checkpoints_.pop(i)[0] for i in reversed(later)]
        for i in reversed(later):
            del self.epochs_[i], self.rates_[i]
        # Before any training, so that a folder that cannot be written to costs none.
        self._write_index()
        for saved in obsolete:
            if isinstance(saved, Path):
                saved.unlink(missing_ok=True)

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Remember the learning rate, before a scheduler changes it."""
        groups = net.optimizer_.param_groups
        self._lr = float(groups[0]["lr"])
        held = {id(p): float(group["lr"]) for group in groups for p in group["params"]}
        rates = {name: held.get(id(p), 0.0) for name, p in net.module_.named_parameters()}
        self._rates = None if set(rates.values()) == {self._lr} else rates

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Keep the weights, if it is time to."""
        epoch = len(net.history)
        if epoch % self._every:
            return
        weights = net.module_.state_dict()
        weights = {name: value.detach().cpu().clone() for name, value in weights.items()}
        if self.folder is not None:
            weights = save_weights(weights, Path(self.folder) / _stem(epoch))
        self.checkpoints_.append((weights, self._lr))
        self.epochs_.append(epoch)
        self.rates_.append(self._rates)
        self._write_index()

    def __getstate__(self) -> dict[str, Any]:
        """Return parameters, names of files and plain arrays."""
        state = vars(self).copy()
        if "checkpoints_" in state:
            state["checkpoints_"] = [
                (str(saved) if isinstance(saved, Path) else SavedWeights(saved), lr)
                for saved, lr in self.checkpoints_
            ]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make tensors of arrays."""
        self.__dict__.update(state)
        if "checkpoints_" in state and "rates_" not in state:  # of an earlier version
            self.rates_ = [None] * len(state["checkpoints_"])
        if "checkpoints_" in state:
            self.checkpoints_ = [
                (Path(saved) if isinstance(saved, str) else dict(saved.state_dict()), lr)
                for saved, lr in state["checkpoints_"]
            ]

    @property
    def _index(self) -> Path:
        return Path(cast("PathLike", self.folder)) / _INDEX

    def _write_index(self) -> None:
        if self.folder is None:
            return
        entries = [
            {"epoch": epoch, "lr": lr, "file": saved.name} | ({"rates": rates} if rates else {})
            for epoch, (saved, lr), rates in zip(
                self.epochs_, self.checkpoints_, self.rates_, strict=True
            )
        ]
        try:
            self._index.parent.mkdir(parents=True, exist_ok=True)
            write_file(self._index, json.dumps(entries, indent=1))
        except OSError as error:
            raise OSError(
                error.errno,
                f"folder={str(self.folder)!r} cannot be written to: {error.strerror or error}",
            ) from error


def read_index(path: Path) -> list[dict[str, Any]]:
    """Read which checkpoints a folder has.

    Parameters
    ----------
    path : Path
        The file ``checkpoints.json``.

    Returns
    -------
    entries : list of dict
        Epochs, learning rates and bare names of files, such as `CheckpointHistory` gives them: by
        others it would remove any file that it is told of.

    Raises
    ------
    ValueError
        If it is not as `CheckpointHistory` writes it.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        problem = _problem_of(entries)
    except OSError as error:
        problem = error.strerror or str(error)
    except (ValueError, RecursionError) as error:
        problem = f"it is no JSON ({error})"
    if problem is not None:
        raise ValueError(
            f"{path} is no index that CheckpointHistory wrote: {problem}. Name another folder, or "
            "move this file away."
        )
    return entries


def _problem_of(entries: object) -> str | None:
    """Say why what an index holds cannot be used, None if it can."""
    if not isinstance(entries, list):
        return f"it holds {_kind(entries)}, not a list of checkpoints"
    last = 0
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            return f"entry {number} is {_kind(entry)}, not an object"
        missing = [name for name in ("epoch", "lr", "file") if name not in entry]
        if missing:
            return f"entry {number} has no {missing[0]!r}"
        epoch, lr, name = entry["epoch"], entry["lr"], entry["file"]
        if type(epoch) is not int or epoch < 1:
            return f"entry {number} has epoch {epoch!r:.80}, which is no positive integer"
        rates = entry.get("rates") or {}
        if not isinstance(rates, dict):
            return f"entry {number} has the rates {rates!r:.80}, not an object"
        for rate in (lr, *rates.values()):
            if type(rate) not in (int, float) or not 0 <= rate < math.inf:
                return f"entry {number} has learning rate {rate!r:.80}"
        wanted = [_stem(epoch) + suffix for suffix in _SUFFIXES]
        if name not in wanted:
            return f"entry {number}, of epoch {epoch}, has the file {name!r:.80}, not {wanted[0]!r}"
        if epoch <= last:
            return f"epoch {epoch} comes after epoch {last}"
        last = epoch
    return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # no path can be so long, for example
        raise OSError(error.errno, f"folder={str(path)!r:.80}: {error.strerror}") from error


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", type(None): "null"}
    return kinds.get(type(value), f"{value!r:.80}")


def _stem(epoch: int) -> str:
    """Name of the file of an epoch's weights, without suffix."""
    return f"epoch{epoch:05d}"


def save_weights(weights: dict[str, torch.Tensor], path: Path) -> Path:
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
        with replacing(path) as beside:
            torch.save(weights, beside)
    else:
        path = path.with_suffix(".safetensors")
        weights = {name: value.contiguous() for name, value in weights.items()}
        with replacing(path) as beside:
            save_file(weights, beside)
    return path


def load_weights(path: PathLike) -> Mapping[str, torch.Tensor]:
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
    IsADirectoryError
        If it is a folder.
    FileNotFoundError
        If there is no such file.
    ValueError
        If it does not hold weights by name, and nothing else.
    """
    path = Path(path)
    is_safe = path.suffix == ".safetensors"
    if is_safe:
        _safetensors()  # what is missing of the two is to be said first
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file of weights.")
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there.")
    problem = None
    try:
        weights = _safetensors().load_file(path) if is_safe else _read_torch(path)
    except _NOT_OF_THE_FILE:
        raise
    except Exception as error:  # whatever either library says of a file that is no such file
        problem = "it is empty" if path.stat().st_size == 0 else _first_words(error)
    if problem is None and not isinstance(weights, Mapping):
        problem = f"it holds one {type(weights).__name__}"
    elif problem is None:
        tensors = {k: v for k, v in weights.items() if not str(k).endswith("_extra_state")}
        wrong = [name for name, value in tensors.items() if not torch.is_tensor(value)]
        if wrong:
            kind = type(weights[wrong[0]]).__name__
            problem = f"of {wrong[0]!r:.80} it holds no tensor, but one {kind}"
    if problem is None:
        return weights
    how = "safetensors.torch.save_file" if is_safe else "torch.save"
    # Not chained: torch's own error advises to run the code that a file may hold.
    raise ValueError(
        f"{path} holds no weights that can be read: {problem}. Write it anew with "
        f"{how}(module.state_dict(), {path.name!r})."
    )


def _read_torch(path: Path) -> Any:
    # The file is given to torch as a stream, so that errors of the system are the system's own.
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the file is made of, which the error says
        return torch.load(file, map_location="cpu", weights_only=True)


def _safetensors() -> Any:
    try:
        from safetensors import torch as safetensors
    except ImportError as error:
        raise ImportError(missing_extra("safetensors", "Reading .safetensors files")) from error
    return safetensors


def _first_words(error: Exception) -> str:
    """First sentence of what a library says, without its advice."""
    if isinstance(error, pickle.UnpicklingError):
        return "it is no file of torch.save, or holds other objects than tensors"
    words = str(error).strip().partition("\n")[0].partition(". ")[0]
    return f"{type(error).__name__}: {words[:120]}" if words else type(error).__name__
