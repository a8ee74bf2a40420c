"""Sparse reconstruction autoencoder: a few concepts that explain a network's output."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from ..layers import activation_buffer
from ..representation import unwrap
from ..training import VALIDATION_SPLIT, WIDTHS, loss_curves, split_validation
from ..utils import (
    MAPPING,
    NONE,
    VERBOSE,
    ArrayOrSparse,
    Baseline,
    BatchSize,
    ChannelAxis,
    Choice,
    DeviceLike,
    Entries,
    Integer,
    Integers,
    Is,
    ModelLike,
    Number,
    Params,
    RandomState,
    ResponseMethod,
    SplitterLike,
    Text,
    by_blocks,
    harmonic_mean,
)
from ._base import ConceptExplainer
from ._fitting import (
    summary_of,
    train_concepts,
    varying_targets,
    warn_of_nothing_compressed,
    warn_unless_converged,
)
from ._losses import PENALTIES
from ._maps import EXCITATION, concept_maps
from ._scores import prediction_r2, unit_r2, unit_relevance
from ._targets import resolve_target

# A concept that moves the prediction by less than this share of its spread is not used.
_ACTIVE = 0.01


class SRAEExplainer(ConceptExplainer):
    r"""A few concepts from which a network's output can be predicted.

    A small network on the activations Z of one layer of a frozen network: an encoder E to a few
    concepts, a linear head v that predicts the network's output :math:`\hat y` from them, and a
    decoder D back to the activations (Qi & Li, equation 1):

    .. math:: \min \frac{1}{M} \sum_m (v^\top E(Z_m) - \hat y_m)^2 + \frac{\beta}{S_z} \sum_k
        \log\Big(1 + \frac{q}{M} \sum_m (D(E(Z_m))_k - Z_{mk})^2\Big) + \eta \, P,

    with M samples in a mini-batch and :math:`S_z` units. The log gives up units that do not
    matter, and without the second term :math:`\hat y` itself would be a concept. P, the pull-away
    term, is the mean squared cosine between concepts (columns of E times v).

    Inside, activations are centred and divided by the root mean square of what is left, targets are
    standardised, and the head has an intercept; everything returned is in original units.

    Parameters
    ----------
    estimator : nn.Module, skorch net, scikit-learn estimator or Pipeline
        The network that is explained; never changed. Of an unfitted estimator a clone is fitted in
        ``fit``. Of a skorch classifier that adds a softmax in ``predict_proba``, and of
        scikit-learn's, the scores before it (logits) are explained; a module is what its
        ``forward`` returns, a transformer what ``transform`` returns.
    layer : str or None, default=None
        Submodule whose output is Z, as in ``named_modules()``; ``"rnn[1][0]"`` picks from a tuple,
        ``"enc['mu']"`` from a dict. None: the *input* of the last linear layer.
    response_method : str or list of str, default="auto"
        Which of an estimator's outputs concepts approximate. ``"auto"``: the first that it has of
        ``transform``, ``predict_proba``, ``decision_function`` and a regressor's ``predict``;
        labels are refused. Or one of ``"transform"``, ``"predict_proba"``, ``"predict_log_proba"``,
        ``"decision_function"``, ``"score_samples"`` and ``"predict"``, or a list of them, of which
        the first that it has counts. With a module or ``layer``, only ``"auto"``.
    target : int, list of int, str or None, default=None
        What is approximated: one of the network's outputs (a class's score, an embedding's unit) by
        its number or the class's name, several numbers at once, ``"norm"`` (the Euclidean norm of
        all outputs, of an embedding without labels), or None: all outputs. Outputs with several
        axes are numbered flat.
    n_concepts : int, default=5
        Number of concepts; fewer than the layer has units, else nothing is compressed
        (with a warning).
    hidden_layer_sizes : sequence of int, default=(800, 100)
        Widths of the encoder's hidden layers, with ReLUs; the decoder has them in reverse. The
        concepts themselves are linear, so none can die.
    beta : float, default=0.3
        Weight of the reconstruction; 0 leaves a plain network ("NN" in the paper). The paper's is
        10. On ten networks on tables, series and images 0.3 had a held-out `score` within .004 of
        the best of each, 10 up to .032 below it: units were rebuilt as well, and the output was
        told better.
    q : float, default=100.0
        How soon a unit is given up; see `penalty`.
    penalty : {"log", "l1", "epsilon_l1", "kl", "none"}, default="log"
        Of :math:`m_k`, the mean squared error of unit k: log(1 + q m_k), sqrt(q m_k),
        sqrt(q m_k + 0.01), the Kullback-Leibler divergence of q m_k / (1 + q m_k) from 0.05, or
        m_k itself (a plain autoencoder, "SAE" in the paper).
    pull_away : float, default=0.0
        Weight :math:`\eta` of the pull-away term; the authors' later code has 10.
    lr : float, default=1e-3
        Learning rate of Adam.
    max_epochs : int, default=500
        Most passes over the training samples; a ConvergenceWarning says if they were too few.
    warm_up : int, default=30
        Number of epochs over which `beta` rises to its value (at most a third of `max_epochs`). So
        the target comes first and the reconstruction is built around it: that reaches a lower loss
        than `beta` from the start, in which the larger term wins.
    validation_split : float, splitter or None, default=0.1
        Which samples are held out to decide when to stop; None: train on all for `max_epochs`.
    patience : int, default=20
        Epochs without improvement of the held-out loss after which training stops.
    net_params : dict or None, default=None
        Other parameters of the skorch net, such as ``{"batch_size": 200, "optimizer":
        torch.optim.SGD}``. Mini-batches have 50 samples, and Adam a weight decay of 1e-4, unless
        they are set here.
    channel_axis : {"auto"}, int or None, default="auto"
        Axis of one sample's array that holds channels, for `ConceptDisplay`. ``"auto"``: as the
        network's own layers take it; None: there are none.
    batch_size : int or "auto", default="auto"
        Most samples in the explained network at once; it changes no result. "auto": 1024; on a GPU,
        what its memory holds.
    device : str, torch.device or None, default=None
        Where to run; None: where the model is.
    random_state : int, RandomState instance or None, default=None
        Of the initial weights, the mini-batches and the held-out samples.
    verbose : int, default=0
        1 prints the losses of every epoch.

    Attributes
    ----------
    estimator_ : nn.Module or estimator
        The fitted estimator that is explained.
    layer_ : str
        Name of the layer that is looked at (its input, if ``layer`` is None).
    layer_shape_ : tuple of int
        Shape of one sample's activations.
    concept_weights_ : ndarray of shape (n_concepts,) or (n_targets, n_concepts)
        v: what a concept's value adds to the prediction, in the target's units. Signs of concepts
        are chosen so that it is positive (of several targets, the largest of standardised ones).
    intercept_ : float or ndarray of shape (n_targets,)
        The constant that is added to that.
    active_concepts_ : ndarray of bool of shape (n_concepts,)
        Concepts that move the prediction by at least 1 % of its standard deviation over the
        training samples; none of an output that does not vary over them.
    n_active_concepts_ : int
        How many there are.
    relevance_ : ndarray of shape layer_shape_
        Share of every unit of the layer in the target: mean :math:`|Z_k \partial \hat y /
        \partial Z_k|` over the training samples, divided by the sum.
    net_ : skorch.NeuralNet
        The trained net; ``net_.module_`` has ``encode``, ``predict`` and ``decode``.
    loss_curve_, validation_loss_curve_ : list of float
        Losses of every epoch, with the full `beta`; the second is None without a held-out part.
    n_epochs_ : int
        Number of epochs.
    n_features_in_, feature_names_in_, input_shape_, seed_
        See `BaseExplainer`.

    See Also
    --------
    sklexplain.metrics.faithfulness : How well the concepts predict the output.
    sklexplain.metrics.locality : Whether a concept looks at few parts of the input.
    sklexplain.plotting.ConceptDisplay : The concepts of one sample.
    sklexplain.SparseDictionary : Many concepts of a layer, few of them a sample.
    sklexplain.metrics.concept_orthogonality : Whether concepts are different ones.

    Notes
    -----
    Cost: `fit` runs every sample twice through the network, and trains on the activations that it
    has kept of them; `transform` and `score` run a sample once, `concept_attributions` as often as
    `LabelFreeAttributor` does.

    References
    ----------
    .. [1] Z. Qi, F. Li, "Learning Explainable Embeddings for Deep Networks", NIPS 2017 workshop on
       Interpreting, Explaining and Visualizing Deep Learning.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from sklexplain import SRAEExplainer
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MLPClassifier((16,), solver="lbfgs", max_iter=500, random_state=0).fit(X, y)
    >>> explainer = SRAEExplainer(classifier, target=0, n_concepts=2, lr=1e-2, random_state=0)
    >>> quick = {"hidden_layer_sizes": (20,), "max_epochs": 60, "validation_split": None}
    >>> explainer = explainer.set_params(**quick).fit(X)
    >>> explainer.transform(X).shape
    (150, 2)
    >>> bool(explainer.score(X) > 0.9)
    True
    """

    _more_map_methods = (EXCITATION,)

    _parameter_constraints = {
        "target": [
            Is("the number of an output", Integer(None).is_satisfied_by),
            Is("a list of such numbers", Entries("", Integer(None)).is_satisfied_by),
            Text("'norm', the name of a class"),
            NONE,
        ],
        "n_concepts": [Integer(1, 100_000)],
        "hidden_layer_sizes": WIDTHS,
        "beta": [Number(at_least=0)],
        "q": [Number(above=0)],
        "penalty": [Choice(*PENALTIES)],
        "pull_away": [Number(at_least=0)],
        "lr": [Number(above=0)],
        "max_epochs": [Integer()],
        "warm_up": [Integer(0)],
        "validation_split": VALIDATION_SPLIT,
        "patience": [Integer()],
        "net_params": [MAPPING, NONE],
        "verbose": [VERBOSE],
    }

    def __init__(
        self,
        estimator: ModelLike,
        *,
        layer: str | None = None,
        response_method: ResponseMethod = "auto",
        target: int | Integers | str | None = None,
        n_concepts: int = 5,
        hidden_layer_sizes: Integers = (800, 100),
        beta: float = 0.3,
        q: float = 100.0,
        penalty: Literal["log", "l1", "epsilon_l1", "kl", "none"] = "log",
        pull_away: float = 0.0,
        lr: float = 1e-3,
        max_epochs: int = 500,
        warm_up: int = 30,
        validation_split: float | SplitterLike | None = 0.1,
        patience: int = 20,
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
        self.target = target
        self.n_concepts = n_concepts
        self.hidden_layer_sizes = hidden_layer_sizes
        self.beta = beta
        self.q = q
        self.penalty = penalty
        self.pull_away = pull_away
        self.lr = lr
        self.max_epochs = max_epochs
        self.warm_up = warm_up
        self.validation_split = validation_split
        self.patience = patience
        self.net_params = net_params
        self.channel_axis = channel_axis
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # -- fit -----------------------------------------------------------------------------------

    def _fit(self, inputs, y):
        params, representation = self._params_at_fit, self._representation
        split = split_validation(params.validation_split, inputs, y, None, self.seed_)
        tap = self._find_layer(inputs)
        classes = getattr(unwrap(self.estimator_), "classes_", ())
        self._target = resolve_target(params.target, representation.n_units, classes)
        self._data = summary_of(inputs, representation, self.seed_)
        z, targets = self._activations(inputs)
        varying = varying_targets(targets, self._target)
        warn_of_nothing_compressed(params.n_concepts, tap.shape, tap.what)
        self.net_ = train_concepts(
            params,
            z,
            targets,
            split,
            seed=self.seed_,
            device=representation.device,
            owner=type(self).__name__,
        )
        self.n_epochs_ = len(self.net_.history)
        self.loss_curve_, self.validation_loss_curve_ = loss_curves(self.net_)
        self._describe_concepts(z, varying)
        scale = self.net_.module_.y_scale  # so that targets can be added
        self.relevance_ = unit_relevance(
            representation, tap, self._target, scale, inputs, self._params_at_fit.batch_size
        )
        warn_unless_converged(self.net_)

    def _activations(self, inputs):
        """Activations (n, *shape) and targets (n, n_targets), in float32, of one pass."""
        tap, tensor = self._tap, self._representation.tensor

        def run(batch):
            z, output = tap.with_output(tensor(batch))
            return z.float(), self._target(output).float()

        finite = tap.what, "the network's outputs"
        return activation_buffer(run, inputs, self._params_at_fit.batch_size, finite=finite)

    def _describe_concepts(self, z, varying=slice(None)):
        single = self._target.single
        weights, intercept, v = self.net_.module_.linear_head()
        self.concept_weights_ = weights[0] if single else weights
        self.intercept_ = float(intercept[0]) if single else intercept
        deviation = self._apply("encode", z).std(axis=0, dtype=np.float64)
        # In standard deviations of the targets, as far as they vary: others cannot be moved.
        moved = np.abs(v[varying]).max(axis=0, initial=0.0) * deviation
        self.active_concepts_ = moved >= _ACTIVE
        self.n_active_concepts_ = int(self.active_concepts_.sum())

    # -- concepts ------------------------------------------------------------------------------

    def _transform(self, inputs):
        """Values of the concepts.

        Parameters
        ----------
        inputs : ndarray of shape (n_samples, ...)
            Samples as they enter the network.

        Returns
        -------
        concepts : ndarray of shape (n_samples, n_concepts), float32
        """
        return self._encoded(inputs)

    def _row_form(self):
        return (len(self.active_concepts_),), np.float32

    def _form_of_targets(self):
        return () if self._target.single else (len(self.intercept_),), np.float32

    def _encoded(self, inputs):
        """Values of the concepts, which maps explain."""
        tap, tensor, module = self._tap, self._representation.tensor, self.net_.module_

        def run(batch):  # no further than the layer
            return module.encode(tap(tensor(batch)))

        options = {"max_bytes": np.inf, "finite": [tap.what]}
        return activation_buffer(run, inputs, self._params_at_fit.batch_size, **options)

    @by_blocks(lambda self: self._form_of_targets())
    def predict(self, X: ArrayLike) -> np.ndarray:
        """Approximate the network's output by its concepts.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets), float32
            In the units of the output.
        """
        with self._door(X) as inputs:
            return self._shaped(self._apply("predict", self._transform(inputs)))

    @by_blocks(lambda self: self._form_of_targets())
    def target_values(self, X: ArrayLike) -> np.ndarray:
        """Return what `predict` approximates: the chosen output of the network itself.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets), float32
        """
        with self._door(X) as inputs:
            return self._shaped(self._activations(inputs)[1])

    def inverse_transform(self, concepts: ArrayOrSparse) -> np.ndarray:
        """Activations that concepts stand for.

        Parameters
        ----------
        concepts : array-like of shape (n_samples, n_concepts)
            Values of the concepts.

        Returns
        -------
        activations : ndarray of shape (n_samples, *layer_shape_), float32
            In the units of the layer; units that do not matter to the target are not
            reconstructed well.

        Raises
        ------
        ValueError
            If there is another number of concepts.
        """
        check_is_fitted(self)
        concepts = check_array(concepts, dtype=np.float32, input_name="concepts", estimator=self)
        if concepts.shape[1] != len(self.active_concepts_):
            raise ValueError(
                f"concepts has shape (n, {concepts.shape[1]}), but this SRAEExplainer was fitted "
                f"with n_concepts={len(self.active_concepts_)}."
            )
        return self._apply("decode", concepts)

    def _shaped(self, values):
        return values[:, 0] if self._target.single else values

    def _apply(self, method, arrays):
        """Call a method of the module, a batch at a time."""
        call, device = getattr(self.net_.module_, method), torch.device(self.net_.device)

        def run(batch):
            return call(torch.as_tensor(np.array(batch), device=device))

        with torch.no_grad():
            return activation_buffer(run, arrays, self._params_at_fit.batch_size, max_bytes=np.inf)

    def concept_attributions(
        self,
        X: ArrayLike,
        method: str = "integrated_gradients",
        *,
        method_params: Params = None,
        baseline: Baseline = "mean",
    ) -> np.ndarray:
        """Where in a sample its concepts come from: one map for each.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.
        method : str, default="integrated_gradients"
            A method of `LabelFreeAttributor`, or ``"excitation_backprop"``: the contrastive
            marginal winning probability (c-MWP) of ReLU networks, which the paper uses.
        method_params, baseline
            See `LabelFreeAttributor`; not used by ``"excitation_backprop"``.

        Returns
        -------
        attributions : ndarray of shape (n_samples, n_concepts, *X.shape[1:])

        Raises
        ------
        TypeError
            If the method needs gradients and there are none.
        ValueError
            If the method is unknown, or is excitation backprop and the network has other
            nonlinearities than ReLU and pooling.
        """
        return concept_maps(self, X, method, method_params, baseline)

    # -- scores --------------------------------------------------------------------------------

    def score(self, X: ArrayLike, y: ArrayLike | None = None) -> float:
        r"""Faithfulness and relevant reconstruction together.

        The harmonic mean, clipped at 0, of :math:`R^2` of the prediction and :math:`\sum_k \omega_k
        R^2_k` of the reconstructed units, :math:`\omega` being `relevance_`. The first alone would
        always choose ``beta=0``.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples, best held out.
        y : object, default=None
            Ignored.

        Returns
        -------
        score : float
            1 is best.
        """
        return harmonic_mean(*self.score_parts(X))

    def score_parts(self, X: ArrayLike) -> tuple[float, float]:
        """Both parts of `score`.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        faithfulness : float
            R² of the prediction, averaged over targets; NaN, with a warning, for a single sample,
            as of scikit-learn's.
        reconstruction : float
            R² of the reconstruction, averaged over units by `relevance_`; units that do not vary
            over X are left out.
        """
        with self._door(X) as inputs:
            z, targets = self._activations(inputs)
            concepts = self._apply("encode", z)
            faithfulness = prediction_r2(targets, self._apply("predict", concepts))
            step = self._params_at_fit.batch_size
            blocks = [slice(i, i + step) for i in range(0, len(z), step)]
            decoded = ((z[block], self._apply("decode", concepts[block])) for block in blocks)
            mean = z.mean(axis=0, dtype=np.float64)
            return faithfulness, unit_r2(decoded, mean, self.relevance_)

    @property
    def _n_features_out(self):
        return len(self.active_concepts_)
