"""How the networks are trained: the pretext tasks, the validation split, the seeds."""

import copy
from contextlib import contextmanager
from numbers import Real

import numpy as np
import torch
from skorch import NeuralNet
from skorch.dataset import unpack_data
from skorch.utils import get_map_location
from torch.utils.data import Subset


class PretextNet(NeuralNet):
    """A skorch net that learns to give back inputs which it sees corrupted.

    The loss is the criterion between the reconstruction of the corrupted input and the clean input,
    plus `lambda_class` times the cross-entropy of the class head, if there is one.

    Parameters
    ----------
    *args, **kwargs : objects
        Arguments of `skorch.NeuralNet`.

    pretext : {"reconstruction", "denoising", "inpainting"}, default="reconstruction"
        What is done to the inputs; see `corrupt`.

    noise_std : float, default=0.3
        Standard deviation of the noise in denoising.

    mask_rate : float, default=0.2
        Share of the entries that inpainting masks.

    lambda_class : float, default=0.0
        Weight of the cross-entropy.
    """

    def __init__(
        self,
        *args,
        pretext="reconstruction",
        noise_std=0.3,
        mask_rate=0.2,
        lambda_class=0.0,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.pretext = pretext
        self.noise_std = noise_std
        self.mask_rate = mask_rate
        self.lambda_class = lambda_class

    def fit_split(self, X, y, train, valid, seed):
        """Train, from the weights there are, on some rows of (X, y); watch the loss on others.

        Parameters
        ----------
        X : ndarray of float32 of shape (n, ...)
            The inputs.

        y : ndarray of int64 of shape (n,) or None
            The class indices; None without a class head.

        train : ndarray of int
            The rows to fit on.

        valid : ndarray of int or None
            The rows to watch; None for no validation.

        seed : int
            Determines the corruption. All other randomness is torch's global generator's.

        Returns
        -------
        self : PretextNet
            The fitted net, in eval mode.
        """
        self._run = {"split": (train, valid), "seed": seed}
        self._run["train"] = torch.Generator().manual_seed(seed)
        try:
            self.partial_fit(X, y)
        finally:
            del self._run
        self._set_training(False)
        return self

    def get_split_datasets(self, X, y=None, **fit_params):
        """Return the datasets of the two parts of the split."""
        if not hasattr(self, "_run"):
            return super().get_split_datasets(X, y, **fit_params)
        dataset = self.get_dataset(X, y)
        train, valid = self._run["split"]
        return Subset(dataset, train), None if valid is None else Subset(dataset, valid)

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Run one epoch; the validation inputs are corrupted in the same way in each."""
        if not training and hasattr(self, "_run"):
            # Other draws each time would make the losses of two epochs differ by chance, and early
            # stopping would follow that chance.
            self._run["valid"] = torch.Generator().manual_seed(self._run["seed"] + 1)
        super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)

    def train_step_single(self, batch, **fit_params):
        """Compute the loss of a batch and its gradients."""
        self._set_training(True)
        outputs, loss = self._corrupted_step(batch, training=True)
        loss.backward()
        return {"loss": loss, "y_pred": outputs}

    def validation_step(self, batch, **fit_params):
        """Compute the loss of a batch, in eval mode."""
        self._set_training(False)
        with torch.no_grad():
            outputs, loss = self._corrupted_step(batch, training=False)
        return {"loss": loss, "y_pred": outputs}

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return the loss of reconstructions and class scores.

        Parameters
        ----------
        y_pred : tuple of torch.Tensor
            The reconstructions (n, ...) and the class scores (n, n_classes), if there
            is a class head.

        y_true : torch.Tensor of shape (n,)
            The class indices; ignored without a class head.

        X : torch.Tensor of shape (n, ...)
            The clean inputs.

        training : bool, default=False
            Whether this is a training step; it makes no difference here.

        Returns
        -------
        loss : torch.Tensor of shape ()
            The loss.
        """
        reconstruction, *logits = y_pred
        loss = self.criterion_(reconstruction, X.to(reconstruction.device))
        for scores in logits:
            target = y_true.to(scores.device)
            loss = loss + self.lambda_class * torch.nn.functional.cross_entropy(scores, target)
        return loss

    def _corrupted_step(self, batch, training):
        X, y = unpack_data(batch)
        generator = self._run["train" if training else "valid"] if hasattr(self, "_run") else None
        corrupted = corrupt(X, self.pretext, self.noise_std, self.mask_rate, generator)
        module = self.module_
        code = module.encode(corrupted.to(self.device))
        outputs = (module.decode(code),)
        if module.classifier is not None:
            outputs += (module.classifier(code),)
        return outputs, self.get_loss(outputs, y, X=X, training=training)

    def __getstate__(self):
        """Return parameters and plain arrays: no module, and no pickle inside the pickle.

        So a file that skops wrote can be checked before it is loaded, and modules that cannot be
        pickled can be saved. The optimizer's state is not kept.
        """
        state = vars(self).copy()
        state.pop("_run", None)  # generators cannot be pickled, and belong to one fit only
        if self.initialized_:
            for name in self._optimizers:
                del state[f"{name}_"]
            state["_weights"] = {
                name: {key: value.cpu().numpy() for key, value in part.state_dict().items()}
                for name in self._modules + self._criteria
                if isinstance(part := state.pop(f"{name}_"), torch.nn.Module)
            }
        return state

    def __setstate__(self, state):
        state = state.copy()
        weights = state.pop("_weights", None)
        device = get_map_location(state["device"])  # the CPU, with a warning, if there is no GPU
        state["device"] = self._check_device(state["device"], device)
        vars(self).update(state)
        if weights is None:
            return
        self.initialized_ = False  # else skorch would report that it initialises again
        with seeded(0, self.device):
            self._initialize_module()
            self._initialize_criterion()
            self._initialize_optimizer()
        for name, arrays in weights.items():
            tensors = {key: torch.from_numpy(np.array(value)) for key, value in arrays.items()}
            getattr(self, f"{name}_").load_state_dict(tensors)
        self._set_training(False)
        self.initialized_ = True


def corrupt(x, pretext, noise_std=0.3, mask_rate=0.2, generator=None):
    """Corrupt inputs as a pretext task does.

    Parameters
    ----------
    x : torch.Tensor
        The clean inputs; they stay as they are.

    pretext : {"reconstruction", "denoising", "inpainting"}
        Leave the inputs alone, add normal noise, or set entries to 0.

    noise_std : float, default=0.3
        Standard deviation of the noise, in the units of `x`.

    mask_rate : float, default=0.2
        Probability of every entry, by itself, to be set to 0.

    generator : torch.Generator or None, default=None
        Where the draws come from, on the CPU; None for torch's global generator.

    Returns
    -------
    corrupted : torch.Tensor
        The corrupted inputs; `x` itself for "reconstruction".
    """
    if pretext == "denoising":
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return x + noise_std * noise.to(x.device)
    if pretext == "inpainting":
        keep = torch.rand(x.shape, generator=generator) >= mask_rate
        return x * keep.to(x.device)
    return x


def check_validation_split(validation_split):
    """Validate the parameter ``validation_split`` of an explainer.

    Parameters
    ----------
    validation_split : object
        What was given.

    Raises
    ------
    TypeError, ValueError
        If it is no share between 0 and 1, no splitter and not None.
    """
    if validation_split is None:
        return
    wanted = f"validation_split={validation_split!r} must be between 0 and 1, a splitter or None."
    if isinstance(validation_split, Real) and not isinstance(validation_split, bool):
        if not 0 < validation_split < 1:
            raise ValueError(wanted)
    elif isinstance(validation_split, (str, bool)) or not hasattr(validation_split, "split"):
        raise TypeError(wanted)


def split_validation(validation_split, X, y, groups, seed):
    """Split rows into those to train on and those to watch.

    Parameters
    ----------
    validation_split : float, None or splitter
        Share of the rows, drawn at random; no split; or the splitter whose last split is used.

    X : ndarray of shape (n, ...)
        The inputs.

    y : ndarray of shape (n,) or None
        The target, for splitters that look at it.

    groups : array-like of shape (n,) or None
        The groups, for splitters that look at them.

    seed : int
        Determines the draw, also in a splitter whose own random_state is None.

    Returns
    -------
    train, valid : ndarray of int, ndarray of int or None
        The rows.

    Raises
    ------
    ValueError
        If a part is empty, or groups are given that nothing looks at.
    """
    n = len(X)
    if hasattr(validation_split, "split"):
        splitter = copy.copy(validation_split)
        if getattr(splitter, "random_state", 0) is None:
            splitter.random_state = seed  # else it would draw from numpy's global generator
        train = valid = ()
        for train, valid in splitter.split(X, y, groups):  # noqa: B007
            pass
        if len(train) == 0 or len(valid) == 0:
            raise ValueError(
                f"The last split of validation_split={validation_split!r} has {len(train)} samples "
                f"to train on and {len(valid)} to validate: both need at least one."
            )
        return np.asarray(train), np.asarray(valid)
    if groups is not None:
        raise ValueError(
            f"groups was given, but validation_split={validation_split!r} does not look at it: "
            "pass a splitter that does, such as GroupShuffleSplit(n_splits=1, test_size=0.1)."
        )
    if validation_split is None:
        return np.arange(n), None
    n_valid = max(1, int(validation_split * n))
    if n_valid >= n:
        raise ValueError(
            f"validation_split={validation_split} leaves no sample to train on (n_samples={n}): "
            "give more samples, or validation_split=None."
        )
    order = np.random.RandomState(seed).permutation(n)
    return np.sort(order[n_valid:]), np.sort(order[:n_valid])


@contextmanager
def seeded(seed, device="cpu"):
    """Seed torch's generators inside a with block; they are as before afterwards.

    Parameters
    ----------
    seed : int
        The seed.

    device : str or torch.device, default="cpu"
        The device on which things are drawn, besides the CPU.

    Yields
    ------
    None
    """
    device = torch.device(device)
    cuda = device.type == "cuda"
    index = torch.cuda.current_device() if cuda and device.index is None else device.index
    with torch.random.fork_rng(devices=[index] if cuda else []):
        # Not torch.manual_seed, which seeds all GPUs, also those that are not restored here.
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(index):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def evaluating(module):
    """Put a module in eval mode inside a with block, each submodule back as it was afterwards.

    Parameters
    ----------
    module : torch.nn.Module
        The module.

    Yields
    ------
    None
    """
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
