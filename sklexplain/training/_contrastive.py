"""The net of contrastive encoders, its loss, and losses of single samples that stand for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from ._split_net import SplitNet

SAMPLE_LOSSES = ("stability", "nt_xent")


def nt_xent(
    one: torch.Tensor, two: torch.Tensor, temperature: float, anchors: slice = slice(None)
) -> torch.Tensor:
    """Normalised temperature-scaled cross-entropy of pairs of views.

    Parameters
    ----------
    one, two : torch.Tensor of shape (n, d)
        Unit vectors: the views of the same samples in their order.

    temperature : float
        What cosines are divided by.

    anchors : slice, default=slice(None)
        Which of the 2 n views, those in ``one`` first, the loss is computed of.

    Returns
    -------
    losses : torch.Tensor of shape (n_anchors,)
        For each view, minus the logarithm of the softmax at the other view of its sample, among
        all views but itself.
    """
    views, n = torch.cat([one, two]), len(one)
    rows = torch.arange(2 * n, device=views.device)[anchors]
    logits = views[rows] @ views.T / temperature
    logits = logits.masked_fill(rows[:, None] == torch.arange(2 * n, device=rows.device), -math.inf)
    return F.cross_entropy(logits, (rows + n) % (2 * n), reduction="none")


class ContrastiveNet(SplitNet):
    """A skorch net that learns which views are of one sample.

    Parameters
    ----------
    *args, **kwargs : objects
        Arguments of `skorch.NeuralNet`.

    temperature : float, default=0.5
        Of the loss.
    """

    def __init__(self, *args: Any, temperature: float = 0.5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.temperature = temperature

    def _step(
        self, X: torch.Tensor, y: torch.Tensor, training: bool
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        module, x = self.module_, X.to(self.device)
        generator = self._generator(training)
        views = [module.views.view(x, module.views.draw(len(x), generator)) for _ in range(2)]
        # In one batch, as BatchNorm's statistics are to be those of both.
        one, two = module.project(torch.cat(views)).chunk(2)
        return (one, two), nt_xent(one, two, self.temperature).mean()

    def sample_objective(self, kind: str | None, n_draws: int, seed: int) -> StabilityObjective:
        """Return a loss of single samples, for explanations by training examples.

        Parameters
        ----------
        kind : {"stability", "nt_xent"} or None
            Of the loss; None is the first one.

        n_draws : int
            Number of pairs of views, which are drawn alike for all samples.

        seed : int
            Of the draws.

        Returns
        -------
        objective : StabilityObjective
        """
        kinds = {"stability": StabilityObjective, "nt_xent": BankObjective}
        return kinds[kind or SAMPLE_LOSSES[0]](self, n_draws, seed)


class StabilityObjective:
    """How far two views of a sample are from each other, on average over pairs of views.

    Parameters
    ----------
    net : ContrastiveNet
        Whose loss it stands for.

    n_draws : int
        Number of pairs.

    seed : int
        Of the draws, which all samples share.
    """

    def __init__(self, net: ContrastiveNet, n_draws: int, seed: int) -> None:
        self.net, self.n_draws, self.seed = net, n_draws, seed

    def prepare(self, module: Any, examples: Callable[[], torch.Tensor]) -> None:
        """Draw the pairs of views.

        Parameters
        ----------
        module : nn.Module
            The network, or a view of it.

        examples : callable
            Returns some training examples, as the network takes them.
        """
        self._module, views = module, module.views
        generator = torch.Generator().manual_seed(self.seed)
        self._pairs = [
            (views.draw(1, generator), views.draw(1, generator)) for _ in range(self.n_draws)
        ]

    def draws(self, x: torch.Tensor) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """Return one function from samples to their two views for each draw."""
        return [self._pair(*pair) for pair in self._pairs]

    def _pair(
        self, one: Sequence[torch.Tensor], two: Sequence[torch.Tensor]
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        views = self._module.views

        def joined(x: torch.Tensor) -> torch.Tensor:
            return torch.stack([views.view(x, one), views.view(x, two)], dim=1)

        return joined

    def run(self, part: torch.Tensor) -> torch.Tensor:
        """Return the projections of both views, sample by sample."""
        project = self._module.project
        return torch.stack([project(part[:, 0]), project(part[:, 1])], dim=1)

    def __call__(self, output: torch.Tensor, x: torch.Tensor, _y: object) -> torch.Tensor:
        """Return one loss a sample."""
        return (output[:, 0] - output[:, 1]).square().sum(dim=1)

    def prepared(self, output: torch.Tensor) -> torch.Tensor:
        """Return the output as it is."""
        return output


class BankObjective(StabilityObjective):
    """The expected NT-Xent of a sample, among views of a bank of training examples.

    They stand for the other samples in a batch, of which training has two views each; the sample's
    own views are left out. With every pair of views that is drawn, the bank's are made by the same
    pair. Views are fixed, but not what the network makes of the bank's: examples act on others
    mostly by what they push away, and without its gradient importance hardly agrees with what
    leaving examples out does.
    """

    def prepare(self, module: Any, examples: Callable[[], torch.Tensor]) -> None:
        """Draw the pairs of views, and make those of the bank."""
        super().prepare(module, examples)
        self._sources = x = examples()
        with torch.no_grad():
            made = [self._pair(*pair)(x) for pair in self._pairs]
        self._inputs = [views.transpose(0, 1).flatten(0, 1) for views in made]  # (2 m, ...)
        size = self.net.batch_size
        self._n_others = 2 * max(1, min(len(x), size if size > 0 else len(x)) - 1)

    def draws(self, x: torch.Tensor) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """Make one function from samples to all of their views, pair by pair."""
        # In one, as the loss has to know which pair a view is of.
        pairs = super().draws(x)
        return [lambda x: torch.cat([pair(x) for pair in pairs], dim=1)]

    def run(self, part: torch.Tensor) -> torch.Tensor:
        """Return the projections of all views, sample by sample."""
        return torch.stack([self._module.project(view) for view in part.unbind(dim=1)], dim=1)

    def __call__(self, output: torch.Tensor, x: torch.Tensor, _y: object) -> torch.Tensor:
        """Return one loss a sample."""
        temperature = self.net.temperature
        own = torch.stack([(x == each).flatten(1).all(dim=1) for each in self._sources], dim=1)
        own = own.repeat(1, 2)
        weight = self._n_others / (~own).sum(dim=1, keepdim=True).clamp(min=1)
        losses = []
        for inputs, views in zip(self._inputs, output.split(2, dim=1), strict=True):
            bank = self._module.project(inputs)
            pair = (views[:, 0] * views[:, 1]).sum(dim=1, keepdim=True) / temperature
            for view in views.unbind(dim=1):
                others = view @ bank.T / temperature + weight.log()
                logits = torch.cat([pair, others.masked_fill(own, -math.inf)], dim=1)
                losses.append(logits.logsumexp(dim=1) - pair[:, 0])
        return sum(losses) / len(losses)
