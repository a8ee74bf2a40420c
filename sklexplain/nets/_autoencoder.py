"""The autoencoder as a scikit-learn estimator."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import ClassifierTags, assert_all_finite, check_consistent_length, column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from torch import nn

from ..training import PretextNet
from ..utils import (
    Choice,
    DeviceLike,
    Integers,
    Number,
    Params,
    RandomState,
    SplitterLike,
    as_array,
    as_array_like,
    check_labels,
    check_sortable,
    in_plain_modes,
)
from ._base import DecodingMixin, NetEstimator
from ._modules import build_autoencoder
from ._net import check_module_shapes, make_net

LOSSES = {"squared_error": torch.nn.MSELoss, "absolute_error": torch.nn.L1Loss}

_RESERVED = {name: name for name in ("pretext", "noise_std", "mask_rate", "lambda_class")}


def _has_class_head(estimator):
    if estimator.lambda_class > 0:
        if hasattr(estimator, "net_") and not hasattr(estimator, "classes_"):
            raise AttributeError(
                f"This {type(estimator).__name__} was fitted without a class head: lambda_class="
                f"{estimator.lambda_class} counts from the next fit on. Call fit(X, y)."
            )
        return True
    raise AttributeError(
        f"This {type(estimator).__name__} has no class head: it predicts classes only with "
        f"lambda_class > 0, but lambda_class={estimator.lambda_class}."
    )


class Autoencoder(DecodingMixin, NetEstimator):
    r"""Autoencoder for tables, series and images, trained with a pretext task.

    An encoder turns a sample x into a short code z = e(x), a decoder turns the code back into a
    sample d(z). Both are trained to minimise, over the training samples,

    .. math:: L(d(e(\tilde x)), x) + \lambda \, H(y, \mathrm{softmax}(W e(\tilde x) + b)),

    where the pretext task makes :math:`\tilde x` of x (denoising adds noise, inpainting sets
    entries to 0, reconstruction leaves x alone), L is the mean squared or absolute error and the
    cross-entropy H, with a linear head on the code, is there only if `lambda_class` is positive.
    These are the encoders compared in sections 4.1 and 4.2 of [1]_.

    Training stops early if the loss on held-out samples has not improved for `patience` epochs,
    and the weights of the best epoch are kept.

    Parameters
    ----------
    module : {"mlp", "conv1d", "conv2d", "lstm"} or type, default="mlp"
        The network.

        - "mlp": fully connected, for X of any shape (it is flattened);
        - "conv1d": strided convolutions over time, for series of shape (n, time) or
          (n, channels, time);
        - "conv2d": strided convolutions over height and width, for images of shape
          (n, height, width) or (n, channels, height, width);
        - "lstm": two LSTM layers each way, for series of shape (n, time) or (n, time, channels),
          the network that [1]_ uses for ECG5000;
        - a class of `torch.nn.Module` whose instances have the attributes encoder, from X to codes
          of shape (n, n_components), and decoder, from codes to the shape of X. It is given
          `n_components`, `hidden_layer_sizes` and ``input_shape`` (``X.shape[1:]``) where its
          constructor has parameters of these names.

    n_components : int, default=8
        Length of the code.

    hidden_layer_sizes : sequence of int, default=(128, 64)
        Widths of the hidden layers ("mlp"), or channels after each convolution, of the
        encoder; the decoder has them in reverse. "lstm" does not use it.

    activation : {"relu", "softplus", "tanh", "elu", "gelu", "silu"} or None, default=None
        Function between the layers. None is ReLU, or the default of a class of your own, which is
        given any other value if its constructor has a parameter of this name; "lstm" has none to
        choose.

    pretext : {"reconstruction", "denoising", "inpainting"}, default="reconstruction"
        What is done to the inputs in training. `transform` never corrupts anything.

    noise_std : float, default=0.3
        Standard deviation of the normal noise of "denoising", in the units of X.

    mask_rate : float, default=0.2
        Probability of each entry to be set to 0 in "inpainting".

    lambda_class : float, default=0.0
        Weight of the cross-entropy. If positive, `fit` needs y, and the estimator is also a
        classifier.

    lambda_noise, lambda_variance : float, default=0.0
        Weights of the noise score and of the variance score of the code, which training then
        raises: see :class:`ScoreConstraint`, and [2]_. They need second derivatives: with
        ``activation="softplus"`` they can act on all layers.

    score_every : int, default=20
        Score constraints act on every this many mini-batches; 1 for all.

    score_layer : str or None, default=None
        Layer whose maps are scored, such as ``"encoder.conv1"``. None for the second convolution of
        the encoder; with fewer than two, for its last hidden layer.

    n_score_samples : int or None, default=8
        Samples of a mini-batch that are scored; None for all.

    loss : {"squared_error", "absolute_error"}, default="squared_error"
        The reconstruction loss, the mean over all entries of a batch.

    validation_split : float, splitter or None, default=0.1
        Which samples are held out to decide when to stop: a share, drawn at random (of the groups,
        if `fit` is given `groups`); the last split of a scikit-learn splitter, such as
        ``TimeSeriesSplit()`` or ``PredefinedSplit(...)``; or None, to train on all samples for
        `max_epochs`.

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
        Samples in a batch, in training and afterwards. The last, smaller batch is used too; torch's
        BatchNorm, in a module class of your own, refuses to train on a last batch of one sample.

    net_params : dict or None, default=None
        Parameters of the skorch net, which override ours: for example
        ``{"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9}``, ``{"callbacks": [...]}``
        (added to ours), ``{"criterion": torch.nn.HuberLoss}`` or ``{"module__x": ...}``
        for the parameter ``x`` of a module class of your own.

    device : str or torch.device, default="cpu"
        Where the network is.

    random_state : int, RandomState instance or None, default=None
        Determines everything random: initial weights, validation split, order of the samples,
        corruption. The global generators of numpy and torch are never touched.

    verbose : int, default=0
        Whether to print a line per epoch.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net. ``net_.module_`` is an :class:`~sklexplain.nets.AutoencoderModule` in
        eval mode.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Size of axis 1 of X.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, if X was a DataFrame with names.

    classes_ : ndarray of shape (n_classes,)
        Class labels, if `lambda_class` is positive.

    n_epochs_ : int
        Number of epochs trained; 0 if the weights were loaded.

    loss_curve_ : list of float
        Training loss of every epoch.

    validation_loss_curve_ : list of float or None
        Validation loss of every epoch; None without a validation split.

    See Also
    --------
    sklexplain.LabelFreeAttributor : Which features the codes depend on.
    sklexplain.nets.VariationalAutoencoder : With distributions of codes.
    sklexplain.nets.ContrastiveEncoder : Without a decoder.
    sklexplain.AnomalyAttributor : What it cannot rebuild.

    Notes
    -----
    The network computes in float32. X is used as it is: put a scaler in front of it where columns
    have different units.

    To save weights only, save ``net_.module_.state_dict()``, and load it with
    ``Autoencoder(...).initialize(X).load_state_dict(state_dict)``.

    Cost: `fit` runs every sample once through the network in an epoch, and back where it is not
    held out; `transform` once through the encoder.

    References
    ----------
    .. [1] J. Crabbé and M. van der Schaar, "Label-Free Explainability for Unsupervised Models",
       ICML 2022.

    .. [2] M. Bertolini, D.-A. Clevert and F. Montanari, "Explaining, Evaluating and Enhancing
       Neural Networks' Learned Representations", ICANN 2023, section 4.5.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklexplain.datasets import make_relevant_columns
    >>> from sklexplain.nets import Autoencoder
    >>> X, y, relevant = make_relevant_columns(n_factors=2, random_state=0)
    >>> autoencoder = Autoencoder(
    ...     n_components=2, hidden_layer_sizes=(), lr=0.05, patience=3, random_state=0
    ... )
    >>> pipeline = make_pipeline(StandardScaler(), autoencoder).fit(X)
    >>> pipeline.transform(X).shape
    (200, 2)
    >>> pipeline.score(X) > 0.4  # R² of the reconstruction; 4 of the 10 columns are noise
    True
    """

    _parameter_constraints = {
        "pretext": [Choice("reconstruction", "denoising", "inpainting")],
        "noise_std": [Number(at_least=0)],
        "mask_rate": [Number(at_least=0, below=1)],
        "lambda_class": [Number(at_least=0)],
        "loss": [Choice(*LOSSES)],
    }

    def __init__(
        self,
        module: str | type[nn.Module] = "mlp",
        *,
        n_components: int = 8,
        hidden_layer_sizes: Integers = (128, 64),
        activation: str | None = None,
        pretext: Literal["reconstruction", "denoising", "inpainting"] = "reconstruction",
        noise_std: float = 0.3,
        mask_rate: float = 0.2,
        lambda_class: float = 0.0,
        lambda_noise: float = 0.0,
        lambda_variance: float = 0.0,
        score_every: int = 20,
        score_layer: str | None = None,
        n_score_samples: int | None = 8,
        loss: Literal["squared_error", "absolute_error"] = "squared_error",
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
        self.pretext = pretext
        self.noise_std = noise_std
        self.mask_rate = mask_rate
        self.lambda_class = lambda_class
        self.lambda_noise = lambda_noise
        self.lambda_variance = lambda_variance
        self.score_every = score_every
        self.score_layer = score_layer
        self.n_score_samples = n_score_samples
        self.loss = loss
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

    @available_if(_has_class_head)
    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return class probabilities; only if `lambda_class` is positive.

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes), float32
            Probabilities in the order of `classes_`.
        """
        with in_plain_modes():
            logits = torch.from_numpy(self._apply("classify", self._validate(X)))
            return logits.softmax(dim=1).numpy()

    @available_if(_has_class_head)
    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return class labels; only if `lambda_class` is positive.

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The most probable class of each sample.
        """
        X = self._validate(X)
        return self.classes_[self._apply("classify", X).argmax(axis=1)]

    def score(self, X: ArrayLike, y: ArrayLike | None = None) -> float:
        """Return the R² of the reconstruction, or the accuracy if `lambda_class` is positive.

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, ...)
            Samples.

        y : array-like of shape (n_samples,) or None, default=None
            Class labels, needed for the accuracy and ignored otherwise.

        Returns
        -------
        score : float
            1 minus the summed squared error over the summed squared deviation from each entry's
            mean over X (1 is perfect, 0 is what the mean does); or the share of right labels.

        Raises
        ------
        ValueError
            If y is needed and not given.
        """
        if self.lambda_class > 0:
            if y is None:
                raise ValueError(
                    f"score needs y for the accuracy, because lambda_class={self.lambda_class}."
                )
            return float(accuracy_score(as_array_like(y, "y"), self.predict(X)))
        X = self._validate(X)
        reconstruction = self._apply("forward", X)
        # In float32 sums would round, the more so the larger the samples' mean.
        pair = (values.reshape(len(X), -1).astype(np.float64) for values in (X, reconstruction))
        return float(r2_score(*pair, multioutput="variance_weighted"))

    _larger = ("noise_std", "lambda_class")

    def _make_net(self, params, module_class, X, seed):
        return make_net(
            PretextNet,
            build_autoencoder,
            self,
            params,
            module_class,
            seed,
            reserved=_RESERVED,
            module__n_classes=len(self.classes_) if params.lambda_class > 0 else None,
            criterion=LOSSES[params.loss],
            pretext=params.pretext,
            noise_std=params.noise_std,
            mask_rate=params.mask_rate,
            lambda_class=params.lambda_class,
        )

    def _check_module(self, module, x, params):
        check_module_shapes(module, x, params.n_components)

    def _encode_target(self, X, y):
        """Return class indices and set `classes_` if there is a class head; raise without y."""
        vars(self).pop("classes_", None)
        if self.lambda_class == 0:
            return None
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                f"is None: lambda_class={self.lambda_class} trains a class head."
            )
        y = column_or_1d(as_array(y, "y"), warn=True)  # as an array, integers of pandas stay some
        check_consistent_length(X, y)
        assert_all_finite(y, input_name="y")
        check_sortable("y", check_labels("y", y))
        check_classification_targets(y)
        encoder = LabelEncoder().fit(y)
        if len(encoder.classes_) < 2:
            raise ValueError(
                f"y holds one class only, {encoder.classes_[0]!r}, but lambda_class="
                f"{self.lambda_class} trains a class head, which needs at least two."
            )
        self.classes_ = encoder.classes_
        return encoder.transform(y).astype(np.int64)

    def __sklearn_tags__(self):
        """Say that with a class head this is a classifier."""
        tags = super().__sklearn_tags__()
        if self.lambda_class > 0:
            tags.estimator_type = "classifier"
            tags.classifier_tags = ClassifierTags()
            tags.target_tags.required = True
        return tags
