"""The torch module of contrastive encoders."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..training import Views
from ._modules import built


class ContrastiveModule(nn.Module):
    """Hold an encoder, the projection head that training puts on it, and random views.

    Parameters
    ----------
    encoder : torch.nn.Module
        Turns inputs of shape (n, ...) into codes of shape (n, n_components).

    projector : torch.nn.Module
        Turns codes into what views are compared by.

    views : Views
        Makes views of inputs.

    See Also
    --------
    sklexplain.nets.build_contrastive : Makes one.
    sklexplain.nets.ContrastiveEncoder : The estimator that trains one.

    Examples
    --------
    >>> import torch
    >>> from sklexplain.nets import MLPAutoencoder, build_contrastive
    >>> shapes = {"input_shape": (6,), "n_components": 2, "hidden_layer_sizes": (4,)}
    >>> views = {"augment": ("jitter",), "strengths": {"jitter_std": 0.2}, "axes": (0,)}
    >>> views |= {"projection_dim": 3, "is_table": True}
    >>> module = build_contrastive(MLPAutoencoder, **shapes, **views)
    >>> module.project(torch.zeros(5, 6)).shape
    torch.Size([5, 3])
    """

    def __init__(self, encoder: nn.Module, projector: nn.Module, views: Views) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.views = views

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return the codes.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...)
            The inputs.

        Returns
        -------
        code : torch.Tensor of shape (n, n_components)
            The codes.
        """
        return self.encoder(x)

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Return the unit vectors by which views are compared in training.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...)
            The inputs.

        Returns
        -------
        projection : torch.Tensor of shape (n, projection_dim)
            Of length 1.
        """
        return F.normalize(self.projector(self.encode(x)), dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the codes.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...)
            The inputs.

        Returns
        -------
        code : torch.Tensor of shape (n, n_components)
            The codes; nothing is drawn, and the projection head is not used.
        """
        return self.encode(x)


def build_contrastive(
    module_class: type[nn.Module],
    *,
    input_shape: tuple[int, ...],
    n_components: int,
    hidden_layer_sizes: Sequence[int],
    projection_dim: int,
    augment: tuple[str, ...] | Callable[..., Any],
    strengths: dict[str, Any],
    axes: Any,
    is_table: bool,
    **params: Any,
) -> ContrastiveModule:
    """Build a `ContrastiveModule` from a class that makes an encoder.

    Parameters
    ----------
    module_class : type
        See `build_autoencoder`; a decoder is not needed.

    input_shape : tuple of int
        Shape of one sample.

    n_components : int
        Length of the code.

    hidden_layer_sizes : sequence of int
        Sizes of the hidden layers.

    projection_dim : int
        Length of the projections.

    augment, strengths, axes, is_table : objects
        Of the views.

    **params : dict
        More arguments of the class.

    Returns
    -------
    module : ContrastiveModule
        The new module.

    Raises
    ------
    TypeError
        If the class does not take one of `params`, or makes no encoder.
    ValueError
        If ``activation`` is among `params` and the class has no such parameter.

    See Also
    --------
    sklexplain.nets.ContrastiveEncoder : The estimator that trains what is built.

    Examples
    --------
    >>> from sklexplain.nets import MLPAutoencoder, build_contrastive
    >>> shapes = {"input_shape": (6,), "n_components": 2, "hidden_layer_sizes": (4,)}
    >>> views = {"augment": ("jitter",), "strengths": {"jitter_std": 0.2}, "axes": (0,)}
    >>> views |= {"projection_dim": 3, "is_table": True}
    >>> module = build_contrastive(MLPAutoencoder, **shapes, **views)
    >>> module.encoder.code.out_features
    2
    """
    made = built(
        module_class,
        ("encoder",),
        input_shape=input_shape,
        n_components=n_components,
        hidden_layer_sizes=hidden_layer_sizes,
        **params,
    )
    projector = nn.Sequential(
        OrderedDict(
            linear0=nn.Linear(n_components, n_components),
            relu0=nn.ReLU(),
            output=nn.Linear(n_components, projection_dim),
        )
    )
    views = Views(augment, strengths, input_shape, axes, is_table)
    return ContrastiveModule(made.encoder, projector, views)
