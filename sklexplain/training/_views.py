"""Random views of samples, of which contrastive encoders learn to tell whose they are."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..utils import call_given, n_shape, normal, uniform

_N_VALUES = 256  # of each column that are kept

STRENGTHS = {
    "corruption_rate": 0.6,
    "jitter_std": 0.2,
    "scaling_std": 0.2,
    "crop_least": 0.5,
    "mask_share": 0.2,
}
# Of each kind of samples, what "auto" stands for.
AUTO = {
    "table": ("corruption",),
    "series": ("jitter", "scaling", "crop", "mask"),
    "image": ("crop", "jitter"),
}


class Views(nn.Module):
    """Random views of samples: draws, and what they make of samples.

    A draw is a list of tensors, one for each augmentation, whose first axis is that of the samples,
    or of length 1 for a draw that all samples share.

    Parameters
    ----------
    names : sequence of str or callable
        The augmentations, in their order: "corruption", "jitter", "scaling", "crop", "mask". Or a
        callable from a sample, a tensor, and a `torch.Generator` to another sample.

    strengths : dict of str to float
        As in `STRENGTHS`.

    input_shape : tuple of int
        Shape of one sample.

    axes : tuple of int
        The sample's axes of positions: time, or height and width. Another one is of channels.

    is_table : bool
        Whether each entry is a column, with a scale of its own.

    Attributes
    ----------
    center, spread : torch.Tensor
        Mean and standard deviation of each column, or each channel; broadcast with a sample.

    values : torch.Tensor of shape (256 or 0, ...)
        Values of each column in ascending order, if "corruption" is among the augmentations. A row
        of it is no sample.
    """

    names: tuple[str, ...] | Callable[..., Any]
    center: torch.Tensor
    spread: torch.Tensor
    values: torch.Tensor

    def __init__(
        self,
        names: Sequence[str] | Callable[..., Any],
        strengths: dict[str, float],
        input_shape: tuple[int, ...],
        axes: Sequence[int],
        is_table: bool,
    ) -> None:
        super().__init__()
        # A module of the user's is copied and kept beside ours: it is not trained, nor is its mode
        # ever set. Into the dict itself, as torch would take it for a part of this one.
        own = copy.deepcopy(names) if isinstance(names, nn.Module) else names
        vars(self)["names"] = own if callable(names) else tuple(names)
        self.strengths = STRENGTHS | strengths
        self.input_shape, self.axes = tuple(input_shape), tuple(axes)
        channels = [1 if axis in axes else size for axis, size in enumerate(input_shape)]
        shape = tuple(input_shape) if is_table else tuple(channels)
        self.register_buffer("center", torch.zeros(shape, dtype=torch.float32))
        self.register_buffer("spread", torch.ones(shape, dtype=torch.float32))
        n_values = 0 if callable(names) or "corruption" not in names else _N_VALUES
        self.register_buffer("values", torch.zeros(n_values, *input_shape, dtype=torch.float32))
        self._channels = channels

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Views:
        """Move what there is, the user's module, too."""
        if isinstance(self.names, nn.Module):
            self.names._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def learn(self, X: np.ndarray) -> None:
        """Take means, standard deviations and values from data.

        Parameters
        ----------
        X : ndarray of float32 of shape (n, ...)
            The data.
        """
        joint = (0, *(i + 1 for i, size in enumerate(self.center.shape) if size == 1))
        for name, found in (
            ("center", X.mean(axis=joint, dtype=np.float64)),
            # Within entries: what differs between the positions of all samples is no noise.
            ("spread", np.sqrt(X.var(axis=0, dtype=np.float64).mean(axis=self._inner(joint)))),
        ):
            buffer = getattr(self, name)
            buffer.copy_(torch.from_numpy(np.asarray(found)).reshape(buffer.shape))
        if len(self.values):
            # The same number of values for any n, so that weights of another fit can be loaded.
            ranks = (np.arange(_N_VALUES) + 0.5) / _N_VALUES * len(X)
            self.values.copy_(torch.from_numpy(np.sort(X, axis=0)[ranks.astype(int)]))

    @staticmethod
    def _inner(joint: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(axis - 1 for axis in joint[1:])

    def draw(self, n: int, generator: torch.Generator) -> list[torch.Tensor]:
        """Draw what n views depend on.

        Parameters
        ----------
        n : int
            How many.

        generator : torch.Generator or None
            On the CPU; None for torch's global generator.

        Returns
        -------
        draws : list of torch.Tensor of shape (n, ...)
        """
        if callable(self.names):
            return [torch.randint(2**62, (n,), generator=generator)]
        return [draw for name in self.names for draw in _DRAW[name](self, n, generator)]

    def view(self, x: torch.Tensor, draws: Sequence[torch.Tensor]) -> torch.Tensor:
        """Make views of samples.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...)
            The samples.

        draws : list of torch.Tensor of shape (n or 1, ...)
            See `draw`.

        Returns
        -------
        views : torch.Tensor of shape (n, ...)

        Raises
        ------
        TypeError
            If the user's callable returns no tensor.
        ValueError
            If it returns another shape, or numbers that are not finite.
        """
        if callable(self.names):
            seeds = draws[0].expand(len(x)).tolist()
            return torch.stack([self._own_view(*pair) for pair in zip(x, seeds, strict=True)])
        draws = iter(draw.to(x.device) for draw in draws)
        for name in self.names:
            x = _APPLY[name](self, x, draws)
        return x

    def _own_view(self, x: torch.Tensor, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        view = call_given("augment", self.names, x.detach().clone(), generator)
        if not isinstance(view, torch.Tensor):
            raise TypeError(f"augment returned {type(view).__name__}; it must return a tensor.")
        if view.shape != x.shape:
            raise ValueError(
                f"augment made {n_shape(view.shape)} of a sample in {n_shape(x.shape)}; a view "
                "must have the sample's shape."
            )
        if not torch.isfinite(view).all():
            raise ValueError("augment returned a view that is not finite.")
        return view.to(x)

    # -- one augmentation each: what is drawn, and what that does --------------------------------

    def _draw_corruption(self, n: int, generator: torch.Generator) -> Sequence[torch.Tensor]:
        size = math.prod(self.input_shape)
        # As in SCARF, the same number of columns in every view.
        n_replaced = round(self.strengths["corruption_rate"] * size)
        order = uniform(generator, n, size).argsort(dim=1).argsort(dim=1)
        return order < n_replaced, torch.randint(_N_VALUES, (n, size), generator=generator)

    def _corrupt(self, x: torch.Tensor, draws: Iterator[torch.Tensor]) -> torch.Tensor:
        replaced, which = next(draws), next(draws)
        new = self.values.flatten(1).gather(0, which).reshape(-1, *self.input_shape)
        return torch.where(replaced.reshape(new.shape), new.to(x), x)

    def _draw_jitter(self, n: int, generator: torch.Generator) -> Sequence[torch.Tensor]:
        noise = normal(generator, n, *self.input_shape)
        return (self.strengths["jitter_std"] * noise,)

    def _jitter(self, x: torch.Tensor, draws: Iterator[torch.Tensor]) -> torch.Tensor:
        return x + (self.spread * next(draws)).to(x)

    def _draw_scaling(self, n: int, generator: torch.Generator) -> Sequence[torch.Tensor]:
        noise = normal(generator, n, *self._channels)
        return (1 + self.strengths["scaling_std"] * noise,)

    def _scale(self, x: torch.Tensor, draws: Iterator[torch.Tensor]) -> torch.Tensor:
        return x * next(draws).to(x)

    def _draw_crop(self, n: int, generator: torch.Generator) -> Sequence[torch.Tensor]:
        share, *places = uniform(generator, 1 + len(self.axes), n)
        least = self.strengths["crop_least"]
        return least + (1 - least) * share, *places

    def _crop(self, x: torch.Tensor, draws: Iterator[torch.Tensor]) -> torch.Tensor:
        share = next(draws)
        for axis in self.axes:
            size = self.input_shape[axis]
            start = next(draws) * (1 - share) * (size - 1)
            places = start[:, None] + share[:, None] * torch.arange(size, device=x.device)
            x = _interpolated(x, axis + 1, places)
        return x

    def _draw_mask(self, n: int, generator: torch.Generator) -> Sequence[torch.Tensor]:
        return uniform(generator, len(self.axes), n).unbind()

    def _mask(self, x: torch.Tensor, draws: Iterator[torch.Tensor]) -> torch.Tensor:
        share = self.strengths["mask_share"] ** (1 / len(self.axes))
        hidden = torch.ones((), dtype=torch.bool, device=x.device)
        for axis in self.axes:
            size = self.input_shape[axis]
            length = round(share * size)
            start = (next(draws) * (size - length + 1)).floor()[:, None]
            places = torch.arange(size, device=x.device)
            inside = (places >= start) & (places < start + length)
            shape = [size if i == axis else 1 for i in range(len(self.input_shape))]
            hidden = hidden & inside.reshape(-1, *shape)
        return torch.where(hidden, self.center.to(x), x)


_DRAW = {
    "corruption": Views._draw_corruption,
    "jitter": Views._draw_jitter,
    "scaling": Views._draw_scaling,
    "crop": Views._draw_crop,
    "mask": Views._draw_mask,
}
_APPLY = {
    "corruption": Views._corrupt,
    "jitter": Views._jitter,
    "scaling": Views._scale,
    "crop": Views._crop,
    "mask": Views._mask,
}
AUGMENTATIONS = tuple(_DRAW)


def _interpolated(x: torch.Tensor, axis: int, places: torch.Tensor) -> torch.Tensor:
    """Read samples at places between their positions along an axis, linearly.

    Parameters
    ----------
    x : torch.Tensor of shape (n, ...)
        The samples.
    axis : int
        Of `x`.
    places : torch.Tensor of shape (n or 1, size)
        From 0 to size - 1.

    Returns
    -------
    views : torch.Tensor of shape (n, ...)
    """
    size = x.shape[axis]
    low = places.floor().clamp(0, max(size - 2, 0))
    shape = [-1 if i == 0 else size if i == axis else 1 for i in range(x.dim())]
    weight = (places - low).to(x).reshape(shape)
    index = low.long().reshape(shape).expand(x.shape)
    above = (index + 1).clamp(max=size - 1)
    return x.gather(axis, index) * (1 - weight) + x.gather(axis, above) * weight


def rows_of(draws: Sequence[torch.Tensor], rows: Any) -> list[torch.Tensor]:
    """Choose some of the views that were drawn.

    Parameters
    ----------
    draws : list of torch.Tensor of shape (n, ...)
        See `Views.draw`.

    rows : torch.Tensor of int
        Which ones.

    Returns
    -------
    draws : list of torch.Tensor
    """
    return [draw[rows] for draw in draws]
