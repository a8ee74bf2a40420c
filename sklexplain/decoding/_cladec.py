"""Classifier-decoder explanations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted
from torch import nn

from ..base import BaseExplainer
from ..training import VALIDATION_SPLIT
from ..utils import (
    A_NUMBER,
    MAPPING,
    NONE,
    VERBOSE,
    BatchSize,
    ChannelAxis,
    Choice,
    DeviceLike,
    Integer,
    Is,
    ModelLike,
    Names,
    Number,
    Params,
    RandomState,
    ResponseMethod,
    SplitterLike,
    Written,
    by_blocks,
    check_positive_int,
    first_missing,
    harmonic_mean,
    numpy_dtype_of,
    spread_places,
)
from ._comparison import LABELS, TASKS, find_comparison
from ._fitting import check_network
from ._layer import Layer
from ._losses import RECONSTRUCTION_LOSSES, explained_share
from ._rebuilding import Rebuilder, agreement_of
from ._trainer import Trainer

_N_ROWS = 16


class ClaDecExplainer(BaseExplainer):
    r"""What a layer keeps of its input: a decoder turns activations back into samples.

    A decoder D is trained on the activations L(X) of a layer of a frozen model, and its
    reconstruction :math:`\hat X = D(L(X))` shows what the layer has kept. Beside it stands the
    reconstruction of a reference autoencoder, which has the same architecture but has learned
    nothing else than to reconstruct: only what differs between the two is due to the model, the
    rest to the decoder (Schneider & Vlachos, section III). The loss is (equation 1)

    .. math:: \alpha \sum_i (X_i - \hat X_i)^2 + (1 - \alpha)\, \mathrm{Loss}(CL(\hat X)),

    summed over a sample's entries and averaged over samples. With a smaller :math:`\alpha`,
    reconstructions are shaped more by the classifier, and resemble samples less. Of a regressor the
    second term is the squared error of every output divided by its variance over the fitted data,
    so that the units of y do not matter. As the first is a sum over entries and a class's loss is
    not, 1 - alpha is best searched on a logarithmic scale, ``1 - np.logspace(-3, 0, 4)``: the more
    columns or pixels there are, the closer to 1 it must be for the model to count.

    Parameters
    ----------
    estimator : nn.Module, skorch net, scikit-learn estimator or Pipeline
        What is explained. A module or a fitted estimator is explained as it is and never changed;
        of an unfitted estimator a clone is fitted in ``fit``.
    layer : str or None, default=None
        Submodule whose activations are decoded, as in ``named_modules()``; ``"rnn[1][0]"`` picks
        from a tuple, ``"enc['mu']"`` from a dict. None: the last linear layer's input (its output,
        where the model has no layer before it); the output of an estimator without torch form or
        without any linear layer.
    response_method : str or list of str, default="auto"
        Which of an estimator's outputs counts as the model's. ``"auto"``: the first that it has of
        ``transform``, ``predict_proba``, ``decision_function`` and a regressor's ``predict``;
        labels are refused. Or one of ``"transform"``, ``"predict_proba"``, ``"predict_log_proba"``,
        ``"decision_function"``, ``"score_samples"`` and ``"predict"``, or a list of them, of which
        the first that it has counts. With a module or ``layer``, only ``"auto"``.
    decoder : None, "small", "linear", nn.Module or callable, default=None
        None: built from the shapes of activations and samples, with transposed convolutions for
        series and images and two hidden layers for tables. The mean activations are subtracted
        from its input, which is then divided by the root mean square of what is left, and its
        output is scaled to the data's mean and standard deviation (of each column or channel).
        ``"small"``: the same, but for series and images with at most 32 channels instead of 128,
        which takes a quarter of the time or so. What follows is given activations as they are.
        ``"linear"``: one linear layer. A module is copied and trained from its present weights; a
        class, or any callable, is called with both shapes if it takes two arguments. The model's
        layers decide whether samples of shape (n, time) are series of one channel or rows of a
        table.
    alpha : float, default=1.0
        Weight of the reconstruction loss, between 0 and 1. With 1 neither targets nor the model
        are used in training, with 0 samples are not. (The paper's Table III has the weight of the
        classification loss, 1 - alpha, in its first column.)
    class_target : {"model", "y"}, default="model"
        What the model should predict for a reconstruction: the same as for the sample (its own
        probabilities or predictions), or the y given to ``fit``.
    fidelity : {"output", "activation"}, default="output"
        With ``"activation"``, the second term is :math:`\|L(\hat X) - L(X)\|^2 / s^2`, s being
        the root mean square of activations without their mean.
    reference : {"autoencoder", "random"} or None, default="autoencoder"
        ``"autoencoder"``: the model up to the layer with newly drawn weights, and the same decoder,
        trained jointly to reconstruct, without dropout, as the model is run. ``"random"``: an
        encoder that is drawn and not trained, which shows what training an encoder adds. Decoders
        start from the same weights and see the same batches. Where no weight makes the activations,
        but a step without torch form, there is none, with a warning.
    loss : {"squared_error", "cross_entropy"}, default="squared_error"
        Reconstruction loss; ``"cross_entropy"`` (the paper's for MNIST) needs X between 0 and 1,
        and reconstructions are between 0 and 1 then.
    task : {"classification", "regression"} or None, default=None
        How the model's outputs are compared: as probabilities of classes, or by squared error.
        None: what the estimator is; a bare module with several outputs is a classifier (logits,
        unless they look like probabilities or their logarithms), with one a regressor.
    n_latent : int or None, default=None
        Length of a normal latent code between activations and decoder, for several explanations of
        one sample by `sample`. None: no such layer.
    kl_weight : float, default=1.0
        Weight of the latent code's Kullback-Leibler divergence.
    validation_split : float, splitter or None, default=0.1
        Samples held out to decide when to stop, as in `sklexplain.nets.Autoencoder`.
    patience : int, default=10
        Epochs without improvement on them after which training stops.
    lr : float, default=1e-3
        Learning rate of Adam.
    max_epochs : int, default=500
        Most passes over the training samples; a ConvergenceWarning says if that was too few.
    net_params : dict or None, default=None
        Parameters of the skorch net that trains decoders, ``{"batch_size": 128, "optimizer":
        torch.optim.SGD, "callbacks": [...]}`` for example. Batches have 64 samples by default.
    channel_axis : {"auto"}, int or None, default="auto"
        Axis of one sample's array that holds channels: it names entries, and shapes the decoder
        that is built. ``"auto"``: as the network's own layers take it; None: there are none.
    batch_size : int or "auto", default="auto"
        Most samples in the model at once, outside of training. "auto": 1024; on a GPU, what its
        memory holds.
    device : str, torch.device or None, default=None
        Where to run and train; None: where the model is.
    random_state : int, RandomState instance or None, default=None
        Determines initial weights, validation samples and the order of samples.
    verbose : int, default=0
        1 prints a line for every epoch.

    Attributes
    ----------
    estimator_ : nn.Module or estimator
        The fitted estimator that is explained.
    layer_ : str or None
        The layer that is decoded.
    decoder_ : nn.Module
        From activations (n, ...) to reconstructions in the network's units.
    reference_decoder_ : nn.Module or None
        The reference's decoder; this and what follows of the reference is None without one.
    task_ : {"classification", "multilabel", "regression"}
        How the model's outputs are compared; "multilabel", as probabilities of labels that do not
        exclude each other, if a bare module's are between 0 and 1 but do not sum to 1.
    mean_ : ndarray
        Mean of the fitted data, in the network's units; what `score` compares with.
    kept_, ridge_kept_ : float
        Share of the squared deviation of the validation samples from the mean that the decoder
        rebuilds, and that a ridge regression on the same activations does, which is exact: what the
        layer keeps is at least the larger. A ConvergenceWarning says if the first is clearly less
        than 0.9 times the second. Without validation samples (no warning): of the fitted ones, and
        by regressions that leave the sample out.
    n_epochs_, reference_n_epochs_ : int
        Number of epochs trained.
    loss_curve_, reference_loss_curve_ : list of float
        Training loss of every epoch.
    validation_loss_curve_, reference_validation_loss_curve_ : list of float or None
        Loss on the validation samples.
    n_features_in_, feature_names_in_, input_shape_, seed_
        See `BaseExplainer`.

    See Also
    --------
    sklexplain.metrics.evaluation_accuracy : Whether explanations help to classify.
    sklexplain.metrics.interpretability : How close reconstructions are to samples.
    sklexplain.plotting.ReconstructionDisplay : Samples and reconstructions side by side.
    sklexplain.SRAEExplainer : Which few concepts the output is made of.

    Notes
    -----
    Through a Pipeline, X is reconstructed in raw units, and the loss is measured in those that
    enter the network: behind the scalers, or whatever else keeps columns apart and can be undone,
    at its beginning. What imputers and encoders make of raw columns is reconstructed as it is: X
    stands for their output then, which has other columns.

    Cost: `fit` trains two decoders of the size of the network or larger, which is nearly all of its
    time. Through the network itself it runs every sample once or twice, and once more in every
    epoch if ``alpha`` is below 1; the reference's encoder, as large as the network up to the layer,
    runs and learns in every epoch, too. `transform` runs a sample once, `score` two or three times.

    References
    ----------
    .. [1] J. Schneider, M. Vlachos, "Explaining Neural Networks by Decoding Layer Activations",
       2020.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklexplain import ClaDecExplainer
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=2000, random_state=0))
    >>> explainer = ClaDecExplainer(model.fit(X, y), lr=0.01, random_state=0).fit(X)
    >>> explanation = explainer.explain(X)
    >>> explanation.reconstruction.shape, explanation.reference.shape
    ((150, 4), (150, 4))
    >>> explainer.score(X) > 0.9
    True
    """

    _keeps_results = True
    _not_saved = (*BaseExplainer._not_saved, "_modules")

    _reads_rows = True

    _parameter_constraints = {
        "decoder": [
            Choice("small", "linear"),
            Is("a torch module, a callable that makes one", callable),
            NONE,
        ],
        "alpha": [Number(at_least=0, at_most=1)],
        "class_target": [Choice("model", "y")],
        "fidelity": [Choice("output", "activation")],
        "reference": [Choice("autoencoder", "random"), NONE],
        "loss": [Choice(*RECONSTRUCTION_LOSSES)],
        "task": [Choice(*TASKS), NONE],
        "n_latent": [Integer(1, 100_000), NONE],
        "kl_weight": [Number(at_least=0)],
        "validation_split": VALIDATION_SPLIT,
        "patience": [Integer()],
        "lr": [Number(above=0)],
        "max_epochs": [Integer()],
        "net_params": [MAPPING, NONE],
        "verbose": [VERBOSE],
    }

    def __init__(
        self,
        estimator: ModelLike,
        *,
        layer: str | None = None,
        response_method: ResponseMethod = "auto",
        decoder: Literal["small", "linear"] | Callable[..., Any] | None = None,
        alpha: float = 1.0,
        class_target: Literal["model", "y"] = "model",
        fidelity: Literal["output", "activation"] = "output",
        reference: Literal["autoencoder", "random"] | None = "autoencoder",
        loss: Literal["squared_error", "cross_entropy"] = "squared_error",
        task: Literal["classification", "regression"] | None = None,
        n_latent: int | None = None,
        kl_weight: float = 1.0,
        validation_split: float | SplitterLike | None = 0.1,
        patience: int = 10,
        lr: float = 1e-3,
        max_epochs: int = 500,
        net_params: Params = None,
        channel_axis: ChannelAxis = "auto",
        batch_size: BatchSize = "auto",
        device: DeviceLike | None = None,
        random_state: RandomState = None,
        verbose: int | bool = 0,
    ) -> None:
        self.estimator = estimator
        self.layer = layer
        self.response_method = response_method
        self.decoder = decoder
        self.alpha = alpha
        self.class_target = class_target
        self.fidelity = fidelity
        self.reference = reference
        self.loss = loss
        self.task = task
        self.n_latent = n_latent
        self.kl_weight = kl_weight
        self.validation_split = validation_split
        self.patience = patience
        self.lr = lr
        self.max_epochs = max_epochs
        self.net_params = net_params
        self.channel_axis = channel_axis
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # -- fit -----------------------------------------------------------------------------------

    def _explained(self):
        return {"link": False}  # logarithms of probabilities are more exact made of scores

    def _fit(self, inputs, y):
        params, representation = self._params_at_fit, self._representation
        check_network(representation, params.alpha)
        layer = Layer.find(representation, params.layer, inputs)
        self._record, self._units, self.layer_ = layer.record, layer.units, layer.name
        self._rows = inputs[spread_places(len(inputs), _N_ROWS)]  # inputs may be sorted
        self._comparison = None
        # Of every entry, in raw units: what tables are drawn in.
        shown = layer.shown(inputs)
        self._check_known(layer, inputs)
        self._spread = shown.mean(axis=0, dtype=np.float64), shown.std(axis=0, dtype=np.float64)
        self.mean_, self._deviation = self._checked_moments(layer, inputs)
        trainer = self._trainer(layer)
        *decoder, bound = trainer.decoder(inputs, y, self.seed_)
        self.kept_, self.ridge_kept_ = bound.kept, bound.kept_by_linear
        fitted = {"decoder": decoder}
        if trainer.has_reference(self.seed_):
            fitted["reference"] = trainer.reference(inputs, y, self.seed_)
        self._modules = {name: module for name, (module, _) in fitted.items()}
        self._trained = {name: trained for name, (_, trained) in fitted.items()}
        for prefix, name in (("", "decoder"), ("reference_", "reference")):
            for fact in ("n_epochs", "loss_curve", "validation_loss_curve"):
                setattr(self, f"{prefix}{fact}_", getattr(self._trained.get(name), fact, None))

    def _check_known(self, layer, inputs):
        """Raise if there are missing values, unless a table's become the mean."""
        if first_missing(inputs) is None:
            return
        shown = layer.shown(inputs)
        gap = first_missing(shown)
        if gap is not None:
            fix = "fill it before, as a reconstruction cannot be compared with what is missing"
            raise self._missing_error(shown[gap], gap, fix)

    def _checked_moments(self, layer, inputs):
        """Mean and deviation in the network's units; raise if X does not suit cross-entropy."""
        mean, deviation, low, high = layer.moments(inputs, self._params_at_fit.batch_size)
        if self._params_at_fit.loss == "cross_entropy" and (low < 0 or high > 1):
            raise ValueError(
                f"loss='cross_entropy' needs X between 0 and 1, but it enters the network between "
                f"{low:.4g} and {high:.4g}; put a MinMaxScaler in front of it, or use "
                "loss='squared_error'."
            )
        return mean, deviation

    def _trainer(self, layer, *, quiet=False):
        """Make what trains decoders of this fit, also once it is over."""
        return Trainer(
            layer,
            self._params_at_fit,
            rows=self._rows,
            moments=(self.mean_, self._deviation),
            sample=self._sample,
            comparison=self._found_comparison,
            owner=type(self).__name__,
            quiet=quiet,
        )

    # -- fitted modules ------------------------------------------------------------------------

    @property
    def _layer(self):
        """The layer of the network that runs, and the units of the fit."""
        return Layer(self._representation, self._record, self._units)

    def _found_comparison(self):
        """How outputs are compared; found out when first needed, as it may not be possible."""
        if self._comparison is None:
            task = self._params_at_fit.task
            self._comparison = find_comparison(self._representation, self._rows, task)
        return self._comparison

    def _decoding(self, name="decoder"):
        """Return a trained module, built again after loading; None if there is no reference."""
        check_is_fitted(self)
        modules = vars(self).setdefault("_modules", {})
        if name not in modules and name in self._trained:
            modules[name] = self._trained[name].build(self._layer)
        return modules.get(name)

    def _reference_decoding(self):
        module = self._decoding("reference")
        if module is None:
            raise ValueError("there is no reference: fit with reference='autoencoder'.")
        return module

    @property
    def decoder_(self) -> nn.Module:
        """From activations to reconstructions in the network's units."""
        return self._decoding().decoder

    @property
    def reference_decoder_(self) -> nn.Module | None:
        """The reference's decoder, None without one."""
        module = self._decoding("reference")
        return None if module is None else module.decoder

    # -- explaining ----------------------------------------------------------------------------

    def _transform(self, inputs):
        """Reconstruct samples from the layer's activations.

        Parameters
        ----------
        inputs : ndarray of shape (n_samples, ...)
            Samples as they enter the network.

        Returns
        -------
        reconstructions : ndarray of X's shape
            In raw units. Behind a Pipeline's imputers and encoders, their output is reconstructed:
            (n_samples, n_columns); where a black box takes text or categories as they are, a
            column for each of their (100 most frequent) values. With ``set_output``, a DataFrame
            with a column for each number.
        """
        written, rebuilder = Written(len(inputs)), self._rebuilder()
        for rows in rebuilder.blocks(inputs):
            written.add(rebuilder.in_raw_units(rows))
        return written.array

    def _row_form(self):
        shape = self.input_shape_
        if len(shape) == 1:
            shape = (len(self.get_feature_names_out()),)
        return shape, numpy_dtype_of(self._representation.input_dtype)

    def _rebuilder(self, module=None):
        """Return what rebuilds samples by a trained module; None: by the decoder."""
        module = self._decoding() if module is None else module
        return Rebuilder(self._layer, module, self._params_at_fit.batch_size)

    @by_blocks(lambda self: self._row_form())
    def transform_reference(self, X: ArrayLike) -> np.ndarray:
        """Reconstruct samples by the reference.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        reconstructions : ndarray
            As of `transform`, always an array.

        Raises
        ------
        ValueError
            If there is no reference.
        """
        with self._door(X) as inputs:
            return self._rebuilder(self._reference_decoding()).in_raw_units(inputs)

    def explain(self, X: ArrayLike) -> Bunch:
        """Return samples, their reconstructions by the reference and the layer, and the difference.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        explanation : Bunch
            ``input``, ``reference`` (None without one), ``reconstruction``, and ``difference``,
            which is the reconstruction minus the reference: what is due to the model. Without a
            reference it is the reconstruction minus the input, the decoder's own errors included.
        """
        with self._door(X) as inputs:
            reconstruction = self._transform(inputs)
            module, reference = self._decoding("reference"), None
            if module is not None:
                reference = self._rebuilder(module).in_raw_units(inputs)
        samples = self._layer.shown(inputs).astype(reconstruction.dtype, copy=False)
        return Bunch(
            input=samples,
            reference=reference,
            reconstruction=reconstruction,
            difference=reconstruction - (samples if reference is None else reference),
        )

    def sample(self, X: ArrayLike, n_draws: int = 5) -> np.ndarray:
        """Draw several reconstructions of each sample; needs ``n_latent``.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.
        n_draws : int, default=5
            How many; the draws are common to all samples, and the first are those of fewer.

        Returns
        -------
        reconstructions : ndarray of shape (n_samples, n_draws, ...)
            In raw units.

        Raises
        ------
        ValueError
            If the decoder has no latent code.
        """
        with self._door(X) as inputs:
            n_draws = check_positive_int("n_draws", n_draws)
            if self._decoding().latent is None:
                raise ValueError(
                    "there is no latent code to draw from: set n_latent to its length before fit."
                )
            return self._rebuilder().draws(inputs, n_draws, self.seed_)

    # -- scores --------------------------------------------------------------------------------

    @property
    def task_(self) -> str:
        """How outputs are compared: "classification", "multilabel" or "regression"."""
        check_is_fitted(self)
        if self._found_comparison().link == LABELS:
            return "multilabel"
        return "regression" if self._found_comparison().link is None else "classification"

    def agreement(self, X: ArrayLike) -> float:
        """How far the model's outputs for reconstructions are those for the samples.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        agreement : float
            Share of samples whose reconstruction gets the same most probable class (whatever
            threshold the model's ``predict`` has), of several labels the same ones (above .5); for
            regressors R².
        """
        return self.score_parts(X)[0]

    def score_parts(self, X: ArrayLike) -> tuple[float, float]:
        """Both parts of `score`.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        agreement : float
            See `agreement`; of a regressor NaN, with a warning, for a single sample.
        reconstruction : float
            Share of the squared deviation of X from the fitted data's mean that is reconstructed,
            in the network's units; negative if the mean itself is closer to X.
        """
        with self._door(X) as inputs:
            found = self._predicted(inputs)
        classes = self._found_comparison().link is not None
        agreement = agreement_of(found.rebuilt, found.given, classes=classes)
        return agreement, explained_share(found.error, found.deviation)

    def _predicted(self, inputs):
        """Compare samples and reconstructions, and predictions for them; see `Rebuilder`."""
        self._check_known(self._layer, inputs)
        return self._rebuilder().predicted(inputs, self._found_comparison(), self.mean_)

    @by_blocks(lambda self, reference=False: A_NUMBER)
    def reconstruction_loss(self, X: ArrayLike, *, reference: bool = False) -> np.ndarray:
        """Squared error of each sample's reconstruction, summed over its entries.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.
        reference : bool, default=False
            Of the reference's reconstructions instead.

        Returns
        -------
        loss : ndarray of shape (n_samples,)
            In squared units of what enters the network, whatever ``loss`` is trained on.
        """
        with self._door(X) as inputs:
            module = self._reference_decoding() if reference else self._decoding()
            return self._errors(inputs, module)

    def _errors(self, inputs, module):
        self._check_known(self._layer, inputs)
        return self._rebuilder(module).errors(inputs)

    def _errors_of_another_reference(self, X_train, X, seed, y=None):
        """Squared error of each sample by a reference that starts from other weights."""
        return self._errors_of_another("reference", X_train, X, seed, y)

    def _errors_of_another_decoder(self, X_train, X, seed, y=None):
        """Squared error of each sample by a decoder that starts from other weights."""
        return self._errors_of_another("decoder", X_train, X, seed, y)

    def _errors_of_another(self, name, X_train, X, seed, y):
        with self._door(X_train) as inputs:
            trainer = self._trainer(self._layer, quiet=True)
            module = getattr(trainer, name)(inputs, y, seed)[0]
        with self._door(X) as inputs:
            return self._errors(inputs, module)

    def score(self, X: ArrayLike, y: ArrayLike | None = None) -> float:
        r"""Harmonic mean of agreement and reconstruction; needs no labels.

        Agreement is the share of reconstructions that the model classifies as the sample (R² of a
        regressor's predictions, 0 if negative), reconstruction is :math:`\max(0, 1 - \|X - \hat
        X\|^2 / \|X - \bar X\|^2)` with the mean of the fitted data. Agreement alone would always
        choose alpha = 0.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples, best held out.
        y : object, default=None
            Ignored.

        Returns
        -------
        score : float
            Between 0 and 1; higher is better.
        """
        return harmonic_mean(*self.score_parts(X))

    def get_feature_names_out(self, input_features: Names | None = None) -> np.ndarray:
        """Names of the columns of `transform` under ``set_output``.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Column names of two-dimensional X, checked against those seen in ``fit``.

        Returns
        -------
        names : ndarray of str
            Column names (numbered where an encoder makes several of one, ``site=a`` for a value
            of a raw column), or ``ch0_t12`` for entries of series.
        """
        check_is_fitted(self)
        if len(self.input_shape_) > 1:
            return self._sample.names()
        names = _check_feature_names_in(self, input_features)
        expansion = getattr(self._units, "expansion", None)
        if expansion is not None:
            return np.asarray(expansion.names, dtype=object)
        head = self._representation.head
        return names if head is None else _distinct(names[head.columns])


def _distinct(names):
    """Append numbers to names that occur more than once: a_0, a_1, b."""
    counts, seen, numbered = Counter(names), Counter(), []
    for name in names:
        numbered.append(name if counts[name] == 1 else f"{name}_{seen[name]}")
        seen[name] += 1
    return np.asarray(numbered, dtype=object)
