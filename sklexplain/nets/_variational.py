"""The variational autoencoder as a scikit-learn estimator."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ..training import VariationalNet, antithetic
from ..utils import (
    FLAG,
    ArrayOrFrame,
    Choice,
    DeviceLike,
    Integers,
    Number,
    Params,
    RandomState,
    SplitterLike,
    check_positive_int,
    draw_seed,
    in_plain_modes,
)
from ._base import DecodingMixin, NetEstimator
from ._net import check_module_shapes, make_net
from ._variational_module import build_variational

_RESERVED = {
    **{name: name for name in ("beta", "total_correlation")},
    "module__likelihood": "likelihood",
    "module__noise_variance": None,
    "criterion": "likelihood",
}
_THRESHOLD = 0.01  # nats: smaller improvements are none
_N_DRAWS = 16  # of the code's noise, by which samples are scored


class VariationalAutoencoder(DecodingMixin, NetEstimator):
    r"""Variational autoencoder for tables, series and images, with a weight on the divergence.

    An encoder makes of a sample x a normal distribution of codes, q(z | x), and a decoder makes of
    a code z a distribution of samples, p(x | z). Both are trained to minimise, over the training
    samples,

    .. math:: - E_{q(z | x)} \log p(x | z) + \beta \, \mathrm{KL}(q(z | x) \,\|\, N(0, I)).

    With :math:`\beta = 1` this is the negative evidence lower bound (ELBO) of [1]_; larger weights
    make the units of the code more independent [2]_. With `total_correlation` the divergence
    itself keeps the weight 1, and only the part of it that says how much the units depend on each
    other, the total correlation of the codes of all samples, has the weight :math:`\beta` [3]_.
    These are the encoders of section 4.3 of [4]_.

    Training stops early if the loss on held-out samples, with the same draws in every epoch, has
    not improved for `patience` epochs, and the weights of the best epoch are kept.

    Parameters
    ----------
    module : {"mlp", "conv1d", "conv2d", "lstm"} or type, default="mlp"
        The network, as in :class:`Autoencoder`. Its encoder's last linear layer makes the means of
        the codes, another beside it their log-variances; an encoder that does not end in one
        ("lstm"), or that is a `torch.nn.Sequential` with a ``forward`` or hooks of its own, is
        given one.

    n_components : int, default=8
        Length of the code.

    hidden_layer_sizes : sequence of int, default=(128, 64)
        Widths of the hidden layers ("mlp"), or channels after each convolution, of the encoder; the
        decoder has them in reverse. "lstm" does not use it.

    activation : {"relu", "softplus", "tanh", "elu", "gelu", "silu"} or None, default=None
        Function between the layers, as in :class:`Autoencoder`.

    beta : float, default=1.0
        Weight of the divergence or, with `total_correlation`, of the total correlation.

    total_correlation : bool, default=False
        Whether `beta` is the weight of the total correlation only, which is estimated by
        minibatch-weighted sampling.

    likelihood : {"gaussian", "bernoulli"}, default="gaussian"
        Distribution of the entries of x, given the code.

        - "gaussian": normal, with one variance for all entries, which is learned: a running mean of
          the squared error;
        - "bernoulli": for X in [0, 1]; its negative logarithm is the cross-entropy.

    lambda_noise, lambda_variance : float, default=0.0
        Weights of the noise score and of the variance score of the posterior means: see
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
        Number of epochs without improvement of the validation loss (by 0.01 nats per sample) after
        which training stops.

    lr : float, default=1e-3
        Learning rate of Adam.

    weight_decay : float, default=0.0
        L2 penalty on the weights, as Adam has it.

    max_epochs : int, default=100
        Largest number of passes over the training samples.

    batch_size : int, default=64
        Samples in a batch, in training and afterwards.

    net_params : dict or None, default=None
        Parameters of the skorch net, which override ours, as in :class:`Autoencoder`.

    device : str or torch.device, default="cpu"
        Where the network is.

    random_state : int, RandomState instance or None, default=None
        Determines everything random: initial weights, validation split, order of the samples, draws
        of codes. The global generators of numpy and torch are never touched.

    verbose : int, default=0
        Whether to print a line per epoch.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net. ``net_.module_.posterior(x)`` returns means and log-variances of codes;
        ``net_.module_(x)`` draws nothing, and decodes the means.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Size of axis 1 of X.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, if X was a DataFrame with names.

    n_epochs_ : int
        Number of epochs trained; 0 if the weights were loaded.

    loss_curve_ : list of float
        Training loss of every epoch, in nats per sample.

    validation_loss_curve_ : list of float or None
        Validation loss of every epoch; None without a validation split.

    See Also
    --------
    sklexplain.nets.Autoencoder : Without distributions, with pretext tasks.
    sklexplain.LabelFreeAttributor : Which features the codes depend on.
    sklexplain.nets.ContrastiveEncoder : Without a decoder.
    sklexplain.metrics.active_units : Which units of the code say anything.

    Notes
    -----
    The network computes in float32. X is used as it is: put a scaler in front of it where columns
    have different units.

    A code whose units all have the posterior N(0, 1), whatever x is, says nothing about x: training
    ends there if `beta` is too large for what the code can tell of the entries.

    Cost: `fit` runs every sample once through the network in an epoch, with one draw of its code,
    and back where it is not held out; `transform` once through the encoder.

    References
    ----------
    .. [1] D. P. Kingma and M. Welling, "Auto-Encoding Variational Bayes", ICLR 2014.

    .. [2] I. Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained
       Variational Framework", ICLR 2017.

    .. [3] R. T. Q. Chen, X. Li, R. Grosse and D. Duvenaud, "Isolating Sources of Disentanglement in
       Variational Autoencoders", NeurIPS 2018.

    .. [4] J. Crabbé and M. van der Schaar, "Label-Free Explainability for Unsupervised Models",
       ICML 2022.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklexplain.datasets import make_relevant_columns
    >>> from sklexplain.nets import VariationalAutoencoder
    >>> X, y, relevant = make_relevant_columns(n_factors=2, random_state=0)
    >>> vae = VariationalAutoencoder(
    ...     n_components=2, hidden_layer_sizes=(), lr=0.05, patience=3, random_state=0
    ... )
    >>> pipeline = make_pipeline(StandardScaler(), vae).fit(X)
    >>> pipeline.transform(X).shape
    (200, 2)
    >>> vae.sample(3).shape
    (3, 10)
    """

    _parameter_constraints = {
        "beta": [Number(at_least=0)],
        "total_correlation": [FLAG],
        "likelihood": [Choice("gaussian", "bernoulli")],
    }

    def __init__(
        self,
        module: str | type[nn.Module] = "mlp",
        *,
        n_components: int = 8,
        hidden_layer_sizes: Integers = (128, 64),
        activation: str | None = None,
        beta: float = 1.0,
        total_correlation: bool = False,
        likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
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
        self.beta = beta
        self.total_correlation = total_correlation
        self.likelihood = likelihood
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

    def transform(self, X: ArrayLike) -> ArrayOrFrame:
        """Return the posterior means of the codes; nothing is drawn.

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components), float32
            The codes.
        """
        return super().transform(X)

    def inverse_transform(self, Z: ArrayLike) -> np.ndarray:
        """Return the mean of X, given codes.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        X : ndarray of shape (n_samples, ...), float32
            Means, which are probabilities with ``likelihood="bernoulli"``.
        """
        return super().inverse_transform(Z)

    def sample(self, n_samples: int = 1) -> np.ndarray:
        """Draw codes from the prior and decode them.

        Parameters
        ----------
        n_samples : int, default=1
            How many.

        Returns
        -------
        X : ndarray of shape (n_samples, ...), float32
            The means of X given the codes; no noise is added. They are the same in every call
            if `random_state` is an int.
        """
        check_is_fitted(self)
        n_samples = check_positive_int("n_samples", n_samples)
        generator = np.random.default_rng(draw_seed(self.random_state))
        codes = generator.standard_normal((n_samples, self._n_features_out), dtype=np.float32)
        return self._apply("decode", codes)

    @in_plain_modes()
    def score_samples(self, X: ArrayLike) -> np.ndarray:
        """Return the evidence lower bound of every sample, at beta = 1.

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        bound : ndarray of shape (n_samples,), float32
            Lower bounds of log p(x), in nats: the mean over 16 draws of the code's noise, which are
            the same for all samples and for every model.
        """
        X = self._validate(X)
        self._check_range(X, self.net_.module_.likelihood)
        noise = antithetic(_N_DRAWS, self._n_features_out, seed=0)
        return self._apply("elbo", X, noise)

    def score(self, X: ArrayLike, y: ArrayLike | None = None) -> float:
        """Return the mean evidence lower bound of the samples, at beta = 1.

        Whatever `beta` training used: a bound that contains `beta` itself is largest for the
        smallest `beta`, and a search would choose nothing else. It compares models of the same X,
        in the same units, with the same `likelihood`.

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, ...)
            Samples.

        y : None
            Ignored.

        Returns
        -------
        score : float
            In nats per sample; larger is better.
        """
        return float(self.score_samples(X).mean(dtype=np.float64))

    _larger = ("beta",)

    def _prepare(self, X, y):
        X, target, seed = super()._prepare(X, y)
        self._check_range(X, self.likelihood)
        return X, target, seed

    def _check_range(self, X, likelihood):
        if likelihood == "bernoulli" and not (0 <= X.min() and X.max() <= 1):
            outside = X.min() if X.min() < 0 else X.max()
            raise ValueError(
                f"likelihood='bernoulli' is for X in [0, 1], but X contains {outside:.6g}: scale X "
                "(MinMaxScaler(clip=True)), or use likelihood='gaussian'."
            )

    def _make_net(self, params, module_class, X, seed):
        variance = X.reshape(len(X), -1).var(axis=0, dtype=np.float64).mean()
        return make_net(
            VariationalNet,
            build_variational,
            self,
            params,
            module_class,
            seed,
            reserved=_RESERVED,
            module__likelihood=params.likelihood,
            module__noise_variance=float(variance) or 1.0,  # of a single sample there is none
            # Of a share of a negative loss, skorch takes what is worse for an improvement.
            stopping={"threshold": _THRESHOLD, "threshold_mode": "abs"},
            beta=params.beta,
            total_correlation=params.total_correlation,
        )

    def _check_module(self, module, x, params):
        check_module_shapes(module, x, params.n_components)
