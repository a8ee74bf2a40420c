"""The net of autoencoders, and the pretext tasks that it is trained with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..utils import uniform
from ._split_net import SplitNet


class PretextNet(SplitNet):
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
        *args: Any,
        pretext: str = "reconstruction",
        noise_std: float = 0.3,
        mask_rate: float = 0.2,
        lambda_class: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.pretext = pretext
        self.noise_std = noise_std
        self.mask_rate = mask_rate
        self.lambda_class = lambda_class

    def get_loss(
        self, y_pred: Sequence[torch.Tensor], y_true: Any, X: Any = None, training: bool = False
    ) -> torch.Tensor:
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

    def _step(
        self, X: torch.Tensor, y: torch.Tensor, training: bool
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        generator = self._generator(training)
        corrupted = corrupt(X, self.pretext, self.noise_std, self.mask_rate, generator)
        module = self.module_
        code = module.encode(corrupted.to(self.device))
        outputs = (module.decode(code),)
        if module.classifier is not None:
            outputs += (module.classifier(code),)
        return outputs, self.get_loss(outputs, y, X=X, training=training)


def corrupt(
    x: torch.Tensor,
    pretext: str,
    noise_std: float = 0.3,
    mask_rate: float = 0.2,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
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
        keep = uniform(generator, *x.shape) >= mask_rate
        return x * keep.to(x.device)
    return x
