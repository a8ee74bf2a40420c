"""The autoencoder as a scikit-learn estimator."""

import warnings
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import (
    ClassifierTags,
    assert_all_finite,
    check_array,
    check_consistent_length,
    column_or_1d,
)
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from ..utils._random import draw_seed
from ..utils._validation import cast_checked, check_choice, validate_X
from ._modules import check_module_shapes, find_module_class
from ._net import LOSSES, make_net
from ._training import evaluating, seeded, split_validation

_PRETEXTS = ("reconstruction", "denoising", "inpainting")


def _has_class_head(estimator):
    if estimator.lambda_class > 0:
        return True
    raise AttributeError(
        f"This {type(estimator).__name__} has no class head: it predicts classes only with "
        f"lambda_class > 0, but lambda_class={estimator.lambda_class}."
    )


class Autoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
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
    module : {"mlp", "conv1d", "lstm"} or type, default="mlp"
        The network.

        - "mlp": fully connected, for X of any shape (it is flattened);
        - "conv1d": strided convolutions over time, for series of shape (n, time) or
          (n, channels, time);
        - "lstm": two LSTM layers each way, for series of shape (n, time) or (n, time, channels),
          the network that [1]_ uses for ECG5000;
        - a class of `torch.nn.Module` whose instances have the attributes encoder, from X to codes
          of shape (n, n_components), and decoder, from codes to the shape of X. It is given
          `n_components`, `hidden_layer_sizes` and ``input_shape`` (``X.shape[1:]``) where its
          constructor has parameters of these names.

    n_components : int, default=8
        Length of the code.

    hidden_layer_sizes : sequence of int, default=(128, 64)
        Widths of the hidden layers ("mlp"), or channels after each convolution ("conv1d"), of the
        encoder; the decoder has them in reverse. "lstm" does not use it.

    pretext : {"reconstruction", "denoising", "inpainting"}, default="reconstruction"
        What is done to the inputs in training. `transform` never corrupts anything.

    noise_std : float, default=0.3
        Standard deviation of the normal noise of "denoising", in the units of X.

    mask_rate : float, default=0.2
        Probability of each entry to be set to 0 in "inpainting".

    lambda_class : float, default=0.0
        Weight of the cross-entropy. If positive, `fit` needs y, and the estimator is also a
        classifier.

    loss : {"squared_error", "absolute_error"}, default="squared_error"
        The reconstruction loss, the mean over all entries of a batch.

    validation_split : float, splitter or None, default=0.1
        Which samples are held out to decide when to stop: a share, drawn at random; the last split
        of a scikit-learn splitter, such as ``GroupShuffleSplit(n_splits=1, test_size=0.1)`` (give
        `groups` to `fit`), ``TimeSeriesSplit()`` or ``PredefinedSplit(...)``; or None, to train on
        all samples for `max_epochs`.

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
        (added to early stopping), ``{"criterion": torch.nn.HuberLoss}`` or ``{"module__x": ...}``
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

    Notes
    -----
    The network computes in float32. X is used as it is: put a scaler in front of it where columns
    have different units.

    To save weights only, save ``net_.module_.state_dict()``, and load it with
    ``Autoencoder(...).initialize(X).load_state_dict(state_dict)``.

    References
    ----------
    .. [1] J. Crabbé and M. van der Schaar, "Label-Free Explainability for Unsupervised Models",
       ICML 2022.

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

    _parameter_constraints: dict = {
        "module": [str, type, torch.nn.Module],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "pretext": [str],
        "noise_std": [Interval(Real, 0, None, closed="left")],
        "mask_rate": [Interval(Real, 0, 1, closed="left")],
        "lambda_class": [Interval(Real, 0, None, closed="left")],
        "loss": [str],
        "validation_split": [Interval(Real, 0, 1, closed="neither"), HasMethods("split"), None],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "net_params": [dict, None],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        module="mlp",
        *,
        n_components=8,
        hidden_layer_sizes=(128, 64),
        pretext="reconstruction",
        noise_std=0.3,
        mask_rate=0.2,
        lambda_class=0.0,
        loss="squared_error",
        validation_split=0.1,
        patience=10,
        lr=1e-3,
        weight_decay=0.0,
        max_epochs=100,
        batch_size=64,
        net_params=None,
        device="cpu",
        random_state=None,
        verbose=0,
    ):
        self.module = module
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.pretext = pretext
        self.noise_std = noise_std
        self.mask_rate = mask_rate
        self.lambda_class = lambda_class
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

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, groups=None):
        """Train the network.

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, ...)
            Training samples with one, two or three axes each, finite numbers.

        y : array-like of shape (n_samples,) or None, default=None
            Class labels; used only if `lambda_class` is positive, and by a splitter given as
            `validation_split`.

        groups : array-like of shape (n_samples,) or None, default=None
            Groups of samples, for a splitter given as `validation_split` that keeps groups
            together.

        Returns
        -------
        self : Autoencoder
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or y cannot be used, a parameter does not fit to X or to another parameter, or
            training diverges.
        TypeError
            If `module` is no class of modules, or does not take a parameter in `net_params`.

        Warns
        -----
        ConvergenceWarning
            If the validation loss still improved when `max_epochs` was reached.
        """
        X, target, seed = self._prepare(X, y)
        train, valid = split_validation(self.validation_split, X, y, groups, seed)
        with seeded(seed, self.device):
            self.net_.fit_split(X, target, train, valid, seed)
        self._check_finite_weights()
        history = self.net_.history
        self.loss_curve_ = [float(loss) for loss in history[:, "train_loss"]]
        self.validation_loss_curve_ = None
        if valid is not None:
            self.validation_loss_curve_ = [float(loss) for loss in history[:, "valid_loss"]]
        self.n_epochs_ = len(history)
        self._warn_unless_converged()
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def initialize(self, X, y=None):
        """Build the network for samples like X, with new weights and without training.

        `net_` is there afterwards, but the estimator is fitted only after `load_state_dict` (or
        `fit`, which starts from new weights).

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, ...)
            Samples of the shape, with the columns, that the network is for; one is enough.

        y : array-like of shape (n_samples,) or None, default=None
            Class labels; used only if `lambda_class` is positive, for the classes.

        Returns
        -------
        self : Autoencoder
            The estimator, with `net_`.
        """
        self._prepare(X, y)
        return self

    def load_state_dict(self, state_dict):
        """Load the weights of a network of the same build; the estimator is fitted afterwards.

        Parameters
        ----------
        state_dict : dict
            What ``net_.module_.state_dict()`` gave.

        Returns
        -------
        self : Autoencoder
            The fitted estimator.

        Raises
        ------
        AttributeError
            If there is no network yet: call `initialize` before.
        ValueError
            If names or shapes of the weights are other ones than the network's.

        Examples
        --------
        >>> import numpy as np
        >>> from sklexplain.nets import Autoencoder
        >>> X = np.random.RandomState(0).standard_normal((50, 4))
        >>> fitted = Autoencoder(n_components=2, validation_split=None, max_epochs=2).fit(X)
        >>> weights = fitted.net_.module_.state_dict()
        >>> loaded = Autoencoder(n_components=2).initialize(X).load_state_dict(weights)
        >>> bool((loaded.transform(X) == fitted.transform(X)).all())
        True
        """
        if not hasattr(self, "net_"):
            raise AttributeError(
                f"This {type(self).__name__} has no network yet: call initialize(X), with samples "
                "of the shape it is for, before load_state_dict."
            )
        try:
            self.net_.module_.load_state_dict(state_dict)
        except RuntimeError as error:
            raise ValueError(
                f"The weights are not those of this {type(self).__name__} (parameters that shape "
                f"the network, and the shape of X, must be the same): {error}"
            ) from error
        self.net_.module_.eval()
        self.n_epochs_, self.loss_curve_, self.validation_loss_curve_ = 0, [], None
        return self

    def transform(self, X):
        """Return the codes.

        Parameters
        ----------
        X : array-like, DataFrame or torch.Tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components), float32
            The codes.
        """
        return self._apply("encode", self._validate(X))

    def inverse_transform(self, Z):
        """Return the samples that codes stand for.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        X : ndarray of shape (n_samples, ...), float32
            Decoded samples.

        Raises
        ------
        ValueError
            If the codes have another length.
        """
        check_is_fitted(self)
        Z = check_array(Z, dtype=np.float32, input_name="Z", estimator=self)
        if Z.shape[1] != self._n_features_out:
            raise ValueError(
                f"Z has shape (n, {Z.shape[1]}), but the codes of this {type(self).__name__} have "
                f"n_components={self._n_features_out} entries."
            )
        return self._apply("decode", Z)

    @available_if(_has_class_head)
    def predict_proba(self, X):
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
        logits = torch.from_numpy(self._apply("classify", self._validate(X)))
        return logits.softmax(dim=1).numpy()

    @available_if(_has_class_head)
    def predict(self, X):
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

    def score(self, X, y=None):
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
            return float(accuracy_score(y, self.predict(X)))
        X = self._validate(X)
        reconstruction = self._apply("forward", X)
        flat = (len(X), -1)
        return float(
            r2_score(X.reshape(flat), reconstruction.reshape(flat), multioutput="variance_weighted")
        )

    def _torch_form(self):
        """Return the module that computes what `transform` gives, and the name of its method."""
        return self.net_.module_, "encode"

    def _prepare(self, X, y):
        """Validate everything and build the net; return X, the class indices and the seed."""
        check_choice("pretext", self.pretext, _PRETEXTS)
        check_choice("loss", self.loss, LOSSES)
        module_class = find_module_class(self.module)
        X = validate_X(self, X, reset=True)
        X = cast_checked(X, np.float32, getattr(self, "feature_names_in_", None))
        X = np.require(X, requirements="W")  # a DataFrame's values are read-only; torch warns
        target = self._encode_target(X, y)
        seed = draw_seed(self.random_state)
        self._n_features_out = self.n_components  # of the net, whatever is set later
        for name in ("n_epochs_", "loss_curve_", "validation_loss_curve_"):
            vars(self).pop(name, None)  # untrained from here on, also if something goes wrong
        with seeded(seed, self.device):
            self.net_ = make_net(self, module_class).initialize()
            self.net_.module_.eval()
            probe = torch.from_numpy(X[:2]).to(self.device)
            check_module_shapes(self.net_.module_, probe, self.n_components)
        return X, target, seed

    def _encode_target(self, X, y):
        """Return class indices and set `classes_`, if there is a class head."""
        vars(self).pop("classes_", None)
        if self.lambda_class == 0:
            return None
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                f"is None: lambda_class={self.lambda_class} trains a class head."
            )
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        encoder = LabelEncoder().fit(y)
        self.classes_ = encoder.classes_
        return encoder.transform(y).astype(np.int64)

    def _check_finite_weights(self):
        for weights in self.net_.module_.parameters():
            if not torch.isfinite(weights).all():
                raise ValueError(
                    f"Training diverged: after {len(self.net_.history)} epochs there are weights "
                    f"that are not finite. Scale X (StandardScaler), or lower lr={self.lr}."
                )

    def _warn_unless_converged(self):
        stopping = dict(self.net_.callbacks_).get("early_stopping")
        if stopping is None or self.n_epochs_ < self.max_epochs:
            return
        if stopping.misses_ < stopping.patience:
            warnings.warn(
                f"The validation loss still improved when max_epochs={self.max_epochs} was "
                "reached: raise max_epochs or lr.",
                ConvergenceWarning,
                stacklevel=4,  # the caller of fit, past the wrapper around it
            )

    def _validate(self, X):
        """Return X as the network takes it."""
        check_is_fitted(self)
        X = validate_X(self, X, reset=False)
        if X.dtype == np.float32:
            return X
        with warnings.catch_warnings():
            # What float32 cannot tell apart was said in fit; here there may be but one sample.
            warnings.simplefilter("ignore")
            return cast_checked(X, np.float32, getattr(self, "feature_names_in_", None))

    def _apply(self, method, inputs):
        """Call a method of the module on batches, in eval mode."""
        module = self.net_.module_
        outputs = []
        with evaluating(module), torch.no_grad():
            for start in range(0, len(inputs), self.batch_size):
                batch = inputs[start : start + self.batch_size]
                batch = np.require(batch, requirements=["C", "W"])
                batch = torch.from_numpy(batch).to(self.net_.device)
                outputs.append(getattr(module, method)(batch).cpu().numpy())
        return np.concatenate(outputs)

    def __sklearn_is_fitted__(self):
        """Say whether the weights have been trained or loaded."""
        return hasattr(self, "n_epochs_")

    def __sklearn_tags__(self):
        """Say that X may have more axes, and that with a class head this is a classifier."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        if self.lambda_class > 0:
            tags.estimator_type = "classifier"
            tags.classifier_tags = ClassifierTags()
            tags.target_tags.required = True
        return tags
