"""The contrastive encoder as a scikit-learn estimator."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from ..training import AUGMENTATIONS, AUTO, STRENGTHS, ContrastiveNet, evaluating, nt_xent, rows_of
from ..utils import (
    CALLABLE,
    MAPPING,
    NONE,
    Choice,
    DeviceLike,
    Entries,
    Integer,
    Integers,
    Is,
    Number,
    Params,
    RandomState,
    SplitterLike,
    check_choice,
    check_param,
    in_plain_modes,
    row_bytes,
)
from ._base import NetEstimator
from ._contrastive_module import build_contrastive
from ._net import check_codes, make_net

_RESERVED = {
    "temperature": "temperature",
    "criterion": "temperature",
    "module__projection_dim": "projection_dim",
    "module__augment": "augment",
    "module__strengths": "augment_params",
    "module__axes": "augment",
    "module__is_table": "augment",
}
_LIMITS = {
    "corruption_rate": Number(at_least=0, at_most=1),
    "jitter_std": Number(at_least=0),
    "scaling_std": Number(at_least=0),
    "crop_least": Number(above=0, at_most=1),
    "mask_share": Number(at_least=0, at_most=1),
}
_N_SLOTS = 256  # independent draws, of which a sample's own are chosen by its numbers
_N_PAIRS = 4  # of views by which samples are scored
_N_ANCHORS = 1024  # views whose losses are computed at once


class ContrastiveEncoder(NetEstimator):
    r"""Encoder that learns, without a decoder, which views are of one sample.

    Of every sample in a mini-batch of n two random views are made. The encoder and a projection
    head on top of it turn each into a unit vector, and are trained to minimise the normalised
    temperature-scaled cross-entropy (NT-Xent) of [1]_: the mean over all 2 n views of

    .. math:: \ell_i = - \log \frac{\exp(z_i^\top z_{i^+} / \tau)}
              {\sum_{j \neq i} \exp(z_i^\top z_j / \tau)},

    with :math:`z_{i^+}` the other view of the same sample. `transform` gives the codes below the
    projection head, which is used in training only.

    Training stops early if the loss on held-out samples, with the same views in every epoch, has
    not improved for `patience` epochs, and the weights of the best epoch are kept.

    Parameters
    ----------
    module : {"mlp", "conv1d", "conv2d", "lstm"} or type, default="mlp"
        The network, as in :class:`Autoencoder`, without the decoder. A class of your own needs the
        attribute encoder only.

    n_components : int, default=16
        Length of the code.

    hidden_layer_sizes : sequence of int, default=(128, 64)
        Widths of the hidden layers ("mlp"), or channels after each convolution. "lstm" does not use
        it.

    activation : {"relu", "softplus", "tanh", "elu", "gelu", "silu"} or None, default=None
        Function between the layers, as in :class:`Autoencoder`.

    augment : {"auto"}, str, sequence of str or callable, default="auto"
        How views are made, by one or more of these in their order.

        - "corruption": a share of the entries, drawn at random, is replaced by values drawn from
          the same column of the training data (SCARF, [2]_);
        - "jitter": normal noise, relative to the standard deviation of each column of a table, or
          of each channel;
        - "scaling": each channel is multiplied with a random number around 1;
        - "crop": a random part of the time, or of height and width, is stretched to the whole;
        - "mask": a random part of the time, or of height and width, is set to the channel's mean.

        "auto" is corruption for tables, jitter, scaling, crop and mask for series ("conv1d",
        "lstm", or samples of two axes), and crop and jitter for images ("conv2d", or samples of
        three axes). Time is the first axis of a sample for "lstm", else the last one; height and
        width are the last two. A callable(sample, generator) is given one sample at a time, a
        tensor of shape ``X.shape[1:]``, and a `torch.Generator`, from which alone it may draw; it
        returns a tensor of that shape.

    augment_params : dict or None, default=None
        Strengths, where they are not to be ``{"corruption_rate": 0.6, "jitter_std": 0.2,
        "scaling_std": 0.2, "crop_least": 0.5, "mask_share": 0.2}``.

    temperature : float, default=0.5
        What cosines are divided by.

    projection_dim : int, default=32
        Length of the unit vectors that the projection head makes.

    lambda_noise, lambda_variance : float, default=0.0
        Weights of the noise score and of the variance score of the code: see
        :class:`ScoreConstraint`.

    score_every : int, default=20
        Score constraints act on every this many mini-batches; 1 for all.

    score_layer : str or None, default=None
        Layer whose maps are scored, as in :class:`Autoencoder`.

    n_score_samples : int or None, default=8
        Samples of a mini-batch that are scored; None for all.

    validation_split : float, splitter or None, default=0.1
        Which samples are held out to decide when to stop, as in :class:`Autoencoder`.

    patience : int, default=10
        Number of epochs without improvement of the validation loss (by 0.01 %) after which
        training stops.

    lr : float, default=1e-3
        Learning rate of Adam.

    weight_decay : float, default=0.0
        L2 penalty on the weights, as Adam has it.

    max_epochs : int, default=100
        Largest number of passes over the training samples.

    batch_size : int, default=64
        Samples in a batch, 2 at least, in training and afterwards. In training the other samples
        of the batch are what a sample is to be told from.

    net_params : dict or None, default=None
        Parameters of the skorch net, which override ours, as in :class:`Autoencoder`.

    device : str or torch.device, default="cpu"
        Where the network is.

    random_state : int, RandomState instance or None, default=None
        Determines everything random: initial weights, validation split, order of the samples,
        views. The global generators of numpy and torch are never touched.

    verbose : int, default=0
        Whether to print a line per epoch.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net. ``net_.module_(x)`` returns codes, ``net_.module_.project(x)`` the unit
        vectors of training, and ``net_.module_.views`` makes views.

    augment_ : tuple of str or callable
        What makes views.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Size of axis 1 of X.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, if X was a DataFrame with names.

    n_epochs_ : int
        Number of epochs trained; 0 if the weights were loaded.

    loss_curve_ : list of float
        Training loss of every epoch.

    validation_loss_curve_ : list of float or None
        Validation loss of every epoch; None without a validation split.

    See Also
    --------
    sklexplain.nets.Autoencoder : Learns by reconstruction.
    sklexplain.InfluenceImportance : Which examples a contrastive encoder was shaped by.
    sklexplain.LabelFreeAttributor : Which features the codes depend on.

    Notes
    -----
    The network computes in float32. X is used as it is: put a scaler in front of it where columns
    have different units.

    Means, standard deviations and, for "corruption", 256 values of each column are kept with the
    weights, each column in ascending order by itself: they are no samples.

    Cost: `fit` runs two views of every sample through the encoder in an epoch, and back where it is
    not held out; `transform` the sample itself, once.

    References
    ----------
    .. [1] T. Chen, S. Kornblith, M. Norouzi and G. Hinton, "A Simple Framework for Contrastive
       Learning of Visual Representations", ICML 2020.

    .. [2] D. Bahri, H. Jiang, Y. Tay and D. Metzler, "SCARF: Self-Supervised Contrastive Learning
       Using Random Feature Corruption", ICLR 2022.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklexplain.datasets import make_relevant_columns
    >>> from sklexplain.nets import ContrastiveEncoder
    >>> X, y, relevant = make_relevant_columns(n_factors=2, random_state=0)
    >>> encoder = ContrastiveEncoder(n_components=2, lr=0.01, patience=3, random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), encoder).fit(X)
    >>> pipeline.transform(X).shape
    (200, 2)
    >>> encoder.augment_
    ('corruption',)
    """

    _parameter_constraints = {
        "augment": [
            Choice("auto", *AUGMENTATIONS),
            Entries("a sequence of names of augmentations", Choice(*AUGMENTATIONS), n_least=1),
            Is("a callable(sample, generator)", CALLABLE.is_satisfied_by),
        ],
        "augment_params": [MAPPING, NONE],
        "batch_size": [Integer(2)],
        "temperature": [Number(above=0)],
        "projection_dim": [Integer(1, 100_000)],
    }

    def __init__(
        self,
        module: str | type[nn.Module] = "mlp",
        *,
        n_components: int = 16,
        hidden_layer_sizes: Integers = (128, 64),
        activation: str | None = None,
        augment: str | Sequence[str] | Callable[..., Any] = "auto",
        augment_params: Params = None,
        temperature: float = 0.5,
        projection_dim: int = 32,
        lambda_noise: float = 0.0,
        lambda_variance: float = 0.0,
        score_every: int = 20,
        score_layer: str | None = None,
        n_score_samples: int | None = 8,
        validation_split: float | SplitterLike | None = 0.1,
        patience: int = 10,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        max_epochs: int = 100,
        batch_size: int = 64,
        net_params: Params = None,
        device: DeviceLike = "cpu",
        random_state: RandomState = None,
        verbose: int | bool = 0,
    ) -> None:
        self.module = module
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.augment = augment
        self.augment_params = augment_params
        self.temperature = temperature
        self.projection_dim = projection_dim
        self.lambda_noise = lambda_noise
        self.lambda_variance = lambda_variance
        self.score_every = score_every
        self.score_layer = score_layer
        self.n_score_samples = n_score_samples
        self.validation_split = validation_split
        self.patience = patience
        self.lr = lr
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.net_params = net_params
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @in_plain_modes()
    def score(self, X: ArrayLike, y: ArrayLike | None = None) -> float:
        """Return minus the mean NT-Xent of the samples.

        All samples of X are told from each other, by four pairs of views of each. The views of a
        sample are determined by its numbers, so that neither the order of X nor earlier calls
        change the score. It compares encoders on the same X only: the loss grows with the number of
        samples, and temperatures and augmentations make other tasks of it. To choose
        between those, score what the codes are for.

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, ...)
            Samples, two at least.

        y : None
            Ignored.

        Returns
        -------
        score : float
            Larger is better; at most 0.

        Raises
        ------
        ValueError
            If X holds a single sample, which there is none to tell from.
        """
        X = self._validate(X)
        if len(X) < 2:
            raise ValueError("score needs more than 1 sample, as views of samples are told apart.")
        crcs = [zlib.crc32(row_bytes(row)) for row in X]
        slots = torch.tensor(crcs, dtype=torch.int64) % _N_SLOTS
        generator = torch.Generator().manual_seed(0)
        views, losses = self.net_.module_.views, []
        for _ in range(_N_PAIRS):
            one, two = (
                self._projections(X, views.draw(_N_SLOTS, generator), slots) for _ in range(2)
            )
            for start in range(0, 2 * len(X), _N_ANCHORS):
                anchors = slice(start, start + _N_ANCHORS)
                losses.append(nt_xent(one, two, self.net_.temperature, anchors))
        return -float(torch.cat(losses).mean())

    def _projections(self, X, draws, slots):
        """Return unit vectors of one view of every sample, in float64 and on the CPU."""
        module, size = self.net_.module_, self._batch_size()
        found = []
        with evaluating(module), torch.no_grad():
            for start in range(0, len(X), size):
                rows = slice(start, start + size)
                x = torch.from_numpy(np.require(X[rows], requirements=["C", "W"]))
                views = module.views.view(x.to(self.net_.device), rows_of(draws, slots[rows]))
                found.append(module.project(views).cpu().double())
        self._checked(torch.cat(found).numpy())
        return torch.cat(found)

    def _validate_params(self):
        params = super()._validate_params()
        strengths = params["augment_params"] or {}
        for name, value in strengths.items():
            check_choice("A name in augment_params", name, tuple(STRENGTHS))
            owner = f"augment_params[{name!r}]"
            strengths = strengths | {
                name: check_param(type(self).__name__, owner, value, [_LIMITS[name]])
            }
        return params | {"augment_params": dict(strengths)}

    def _prepare(self, X, y):
        X, target, seed = super()._prepare(X, y)
        self.augment_ = self.net_.module_.views.names
        return X, target, seed

    def _make_net(self, params, module_class, X, seed):
        kind, axes = _kind_and_axes(params.module, self.input_shape_)
        augment = params.augment
        if isinstance(augment, str):
            augment = AUTO[kind] if augment == "auto" else (augment,)
        net = make_net(
            ContrastiveNet,
            build_contrastive,
            self,
            params,
            module_class,
            seed,
            reserved=_RESERVED,
            module__projection_dim=params.projection_dim,
            module__augment=augment if callable(augment) else tuple(augment),
            module__strengths=params.augment_params,
            module__axes=axes,
            module__is_table=kind == "table",
            temperature=params.temperature,
        )
        if net.batch_size == 1:
            raise ValueError(
                "net_params['batch_size']=1 leaves no other sample in a batch, from which views "
                "could be told: give 2 at least."
            )
        net.initialize().module_.views.learn(X)
        return net

    def _check_split(self, train, valid):
        # The loss of a single sample is 0, whatever the weights.
        if len(train) < 2:
            raise ValueError(
                "there is 1 sample to train on, but views of several samples are told apart: give "
                "more."
            )
        if valid is not None and len(valid) < 2:
            raise ValueError(
                f"validation_split={self.validation_split!r} holds out 1 sample, but views of "
                "several samples are told apart: hold out more, or set validation_split=None."
            )

    def _check_module(self, module, x, params):
        check_codes(module, x, params.n_components)
        views, generator = module.views, torch.Generator().manual_seed(0)
        with torch.no_grad():
            module.project(views.view(x, views.draw(len(x), generator)))


def _kind_and_axes(module, shape):
    """Say what samples are, and which of their axes are of time, or of height and width.

    Parameters
    ----------
    module : str or type
        The parameter.
    shape : tuple of int
        Of one sample.

    Returns
    -------
    kind : {"table", "series", "image"}
    axes : tuple of int
    """
    if module == "conv2d" or len(shape) > 2:
        return "image", (len(shape) - 2, len(shape) - 1)
    if module == "lstm":
        return "series", (0,)
    if module == "conv1d" or len(shape) == 2:
        return "series", (len(shape) - 1,)
    return "table", (0,)
