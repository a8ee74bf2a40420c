"""How the networks are trained: the pretext tasks, the validation split, the seeds."""

import torch
from skorch.dataset import unpack_data
from torch.utils.data import Subset

from ._saved_net import SavedNet


class PretextNet(SavedNet):
    """A skorch net that learns to reconstruct inputs from corrupted ones.

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
        """Train from the present weights on some rows of (X, y); monitor the loss on others.

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

        Raises
        ------
        KeyboardInterrupt
            If training was interrupted.
        """
        generator = torch.Generator().manual_seed(seed)
        self._train(X, y, split=(train, valid), seed=seed, train=generator)
        self._set_training(False)
        return self

    def get_split_datasets(self, X, y=None, **fit_params):
        """Return the datasets of the two parts of the split."""
        if not hasattr(self, "_during_fit"):
            return super().get_split_datasets(X, y, **fit_params)
        dataset = self.get_dataset(X, y)
        train, valid = self._during_fit["split"]
        return Subset(dataset, train), None if valid is None else Subset(dataset, valid)

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Run one epoch; the validation inputs are corrupted in the same way in each."""
        if not training and hasattr(self, "_during_fit"):
            # Other draws each time would make the losses of two epochs differ by chance, and early
            # stopping would follow that chance.
            self._during_fit["valid"] = torch.Generator().manual_seed(self._during_fit["seed"] + 1)
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
        generator = (
            self._during_fit["train" if training else "valid"]
            if hasattr(self, "_during_fit")
            else None
        )
        corrupted = corrupt(X, self.pretext, self.noise_std, self.mask_rate, generator)
        module = self.module_
        code = module.encode(corrupted.to(self.device))
        outputs = (module.decode(code),)
        if module.classifier is not None:
            outputs += (module.classifier(code),)
        return outputs, self.get_loss(outputs, y, X=X, training=training)


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
