"""Example importance by the gradients along the training path."""

from __future__ import annotations

import numbers
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..gradients import gram_matrix, squared_norms
from ..layers import plain_name
from ..training import CheckpointHistory, load_weights
from ..utils import NONE, BatchSize, DeviceLike, Integer, Is, ModelLike, RandomState, SavedWeights
from ._base import check_finite
from ._gradients import BaseGradientImportance
from ._network import loaded
from ._optimizer import of_groups

_ROW_ENTRIES = 2**25  # of the importance matrix at once


def _is_pairs(value):
    if not isinstance(value, (list, tuple)):
        return False
    return len(value) > 0 and all(isinstance(p, (list, tuple)) and len(p) == 2 for p in value)


class TracInImportance(BaseGradientImportance):
    r"""Importance of training examples by the inner products of gradients along training.

    A step of gradient descent on example n, of length :math:`\eta_t`, lowers the loss L of a
    sample x by :math:`\eta_t \langle \nabla L(x), \nabla L(x_n) \rangle`, to first order. The
    importance is the sum of that over checkpoints t of the training ([1]_, its section 3.2), in the
    parameters :math:`\theta_r` of the encoder and with a loss that needs no labels ([2]_, section
    3.1):

    .. math:: c_n(x) = \sum_t \eta_t \langle \nabla_{\theta_r} L(x, \theta_t),
              \nabla_{\theta_r} L(x_n, \theta_t) \rangle

    Parameters
    ----------
    estimator : nn.Module or estimator
        What is explained: a torch module, a skorch net, an :class:`~sklexplain.nets.Autoencoder`,
        or a Pipeline with one of them as its last step. An unfitted estimator is cloned and fitted
        in ``fit``.
    loss : callable, {"stability", "nt_xent"} or None, default=None
        From the network's output (all of it, if that is a tuple) and its input, tensors of shape
        (n, ...), to one loss a sample (n,); with a third argument, it is given the targets y as
        well. None:

        - of a module, the mean squared error between the (first) output and the input;
        - of an :class:`~sklexplain.nets.Autoencoder`, its criterion between the two; a class head's
          cross-entropy is left out. If it was trained with a random pretext task (denoising,
          inpainting), the mean over ``n_draws`` draws that are the same for all samples;
        - of a :class:`~sklexplain.nets.VariationalAutoencoder`, the negative ELBO with its own
          weights, over ``n_draws`` draws of the code;
        - of a :class:`~sklexplain.nets.ContrastiveEncoder`, whose own loss is one of pairs,
          ``"stability"``: how far two views of the sample are from each other, squared, over
          ``n_draws`` pairs of views; or, if named, ``"nt_xent"``: the loss of training, among
          views of up to 256 training examples in the place of the other samples in a batch;
        - of a skorch net, what training minimised: its own ``get_loss`` for each sample, of the
          input if the net reconstructs that, else of y. Where training may have minimised
          something else, a TypeError asks for ``loss``.
    parameters : {"encoder", "all"} or list of str, default="encoder"
        The parameters :math:`\theta_r`: those of the network's submodule ``encoder``, all, or those
        named, as in ``named_parameters()`` and ``named_modules()``. Frozen ones
        (``requires_grad=False``) are taken like others; to leave them out, name the trainable:
        ``[name for name, p in module.named_parameters() if p.requires_grad]``.
    checkpoints : CheckpointHistory, list of (state dict or file, float) or None, default=None
        Weights of the network, with learning rates; files are safetensors, or were written by
        `torch.save`. A history without checkpoints stands for the one among the net's callbacks.
        None: the weights there are, with the learning rates that the skorch net's optimizer has
        (1 for a module). Rates are those of the parameter group that holds each parameter. For an
        explainer that skops can save, a history or files, not state dicts in a list.
    n_draws : int, default=8
        Number of draws of a random pretext task, of the code, or of pairs of views.
    n_projections : int or None, default=None
        If given, gradients are projected at random to this many dimensions: importance is then the
        exact one up to a random error of about :math:`\sqrt{1 / n_\mathrm{projections}}` times the
        product of the gradients' lengths, and gradients of large networks fit into memory.
    max_bytes : int, default=2**31
        Largest dense matrix that `transform` returns.
    batch_size : int or "auto", default="auto"
        Most samples in the network at once. "auto": 1024; on a GPU, what its memory holds.
    device : str, torch.device or None, default=None
        Where the network runs; None: where it is.
    random_state : int, RandomState instance or None, default=None
        Seed of the pretext task's draws and of the projection.
    verbose : int, default=0
        Whether to show progress.

    Attributes
    ----------
    estimator_ : nn.Module or estimator
        The fitted estimator that is explained.
    learning_rates_ : ndarray of shape (n_checkpoints,) or (n_checkpoints, n_parameters)
        Learning rate of every checkpoint; of every parameter, in the order of ``parameters_``, if
        the optimizer's parameter groups have unequal ones.
    parameters_ : list of str
        Names of the parameters that gradients are taken in.
    corpus_index_ : ndarray of shape (n_train,)
        Labels of the training examples: the index of a pandas DataFrame, else positions.
    n_features_in_ : int
        Size of axis 1 of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, if X was a DataFrame with names.
    input_shape_ : tuple of int
        Shape of one sample.
    seed_ : int
        Seed of everything random, derived from ``random_state``.

    See Also
    --------
    sklexplain.nets.CheckpointHistory : Keeps the checkpoints in training.
    DKNNImportance : Importance by representations, without a loss.
    sklexplain.InfluenceImportance : With the curvature of the loss.
    sklexplain.plotting.ExampleDisplay : A sample and its examples.

    Notes
    -----
    Positive importance: training on the example lowers the sample's loss. The gradients of linear,
    convolutional, recurrent, attention, embedding and normalisation layers come from one backward
    pass over a batch, and inner products from their factors; other parameters are differentiated
    one sample at a time. Dropout is off. Checkpoints are loaded into a view of the network, which
    itself keeps its weights all the while.

    A loss that takes y needs the targets of samples as well as those of the training examples:
    ``transform(X, y)``. Without them, a sample that is a training example has that one's y, and for
    any other the class that the network predicts stands in, so that the examples found are those
    that back the prediction; a regressor has no such stand-in, and a ValueError asks for y. Where
    weights of classes, or ignored labels, make the criterion divide by other numbers than that of
    the samples, losses are weighted so that their mean over the training examples is the net's own
    loss of them all.

    Cost: `fit` runs a few rows through the network; `transform` every training example and every
    sample once for each checkpoint, forward and backward, times ``n_draws`` where the loss is
    random.

    References
    ----------
    .. [1] G. Pruthi, F. Liu, S. Kale and M. Sundararajan, "Estimating Training Data Influence by
       Tracing Gradient Descent", NeurIPS 2020.
    .. [2] J. Crabbé and M. van der Schaar, "Label-Free Explainability for Unsupervised Models",
       ICML 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklexplain import TracInImportance
    >>> from sklexplain.nets import Autoencoder, CheckpointHistory
    >>> X, y = load_iris(return_X_y=True)
    >>> history = CheckpointHistory(every=10)
    >>> autoencoder = Autoencoder(
    ...     n_components=2,
    ...     validation_split=None,
    ...     max_epochs=30,
    ...     net_params={"callbacks": [history]},
    ...     random_state=0,
    ... ).fit(X[::2])
    >>> tracin = TracInImportance(autoencoder, checkpoints=history).fit(X[::2], y[::2])
    >>> tracin.transform(X[1::2]).shape
    (75, 75)
    >>> importance, index = tracin.top_examples(X[1::2], k=3)
    >>> index.shape
    (75, 3)
    """

    _parameter_constraints = {
        "checkpoints": [
            Is("a CheckpointHistory", lambda value: isinstance(value, CheckpointHistory)),
            Is("a list, not empty, of pairs (state dict or file, learning rate)", _is_pairs),
            NONE,
        ],
        "n_projections": [Integer(1, 1_000_000), NONE],
    }

    def __init__(
        self,
        estimator: ModelLike,
        *,
        loss: Literal["stability", "nt_xent"] | Callable[..., Any] | None = None,
        parameters: str | Sequence[str] = "encoder",
        checkpoints: CheckpointHistory | Sequence[tuple[Any, float]] | None = None,
        n_draws: int = 8,
        n_projections: int | None = None,
        max_bytes: int = 2**31,
        batch_size: BatchSize = "auto",
        device: DeviceLike | None = None,
        random_state: RandomState = None,
        verbose: int | bool = 0,
    ) -> None:
        self.estimator = estimator
        self.loss = loss
        self.parameters = parameters
        self.checkpoints = checkpoints
        self.n_draws = n_draws
        self.n_projections = n_projections
        self.max_bytes = max_bytes
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    _keeps_results = False  # gradients are taken anew in every call

    def _fit_corpus(self, inputs):
        network = self._network()
        self._choose_parameters(network)
        self._checkpoints = self._find_checkpoints(network)
        self.learning_rates_ = _table([c.rates for c in self._checkpoints], self.parameters_)
        for number, checkpoint in enumerate(self._checkpoints):
            checkpoint.names = list(network.module.state_dict())
            try:
                weights = checkpoint.load()
            except (OSError, ValueError) as error:
                raise type(error)(f"checkpoints[{number}]: {error}") from error
            _check_weights(network.module, weights, number)
        self._try_gradients(network, self._plan_losses(network))

    def _find_checkpoints(self, network):
        checkpoints, net, names = self._params_at_fit.checkpoints, network.net, self.parameters_
        if checkpoints is None:
            rates = of_groups(network, names, "lr", 1.0 if net is None else net.lr)
            return [Checkpoint(None, _moving(rates))]
        if isinstance(checkpoints, CheckpointHistory):
            history = _history_of(checkpoints, net)
            pairs, rates = _checked_pairs(history.checkpoints_), history.rates_
            found = [_rates_of(names, r, lr) for r, (_, lr) in zip(rates, pairs, strict=True)]
            return [Checkpoint(saved, r) for (saved, _), r in zip(pairs, found, strict=True)]
        return [
            Checkpoint(saved, dict.fromkeys(names, lr)) for saved, lr in _checked_pairs(checkpoints)
        ]

    @property
    def _projection(self):
        return (
            None
            if self._params_at_fit.n_projections is None
            else (self._params_at_fit.n_projections, self.seed_)
        )

    def _blocks(self, inputs, exclude_self=False):
        inputs = self._with_targets(inputs, exclude_self=exclude_self)
        n_train, gradients = len(self._corpus), self._gradients()
        step = min(gradients.rows_at_once, max(1, _ROW_ENTRIES // n_train))
        for start in range(0, len(inputs), step):
            rows = slice(start, min(start + step, len(inputs)))
            block = np.zeros((rows.stop - rows.start, n_train), dtype=self._dtype)
            for number, checkpoint in enumerate(self._checkpoints):
                gradients.factors = checkpoint.factors
                with loaded(gradients.module, checkpoint.load()):
                    terms = gradients.terms(inputs[rows])
                    for columns, corpus in gradients.blocks(self._examples, key=number):
                        products = gram_matrix(terms, corpus).cpu().numpy()
                        with np.errstate(over="ignore", invalid="ignore"):  # an error later
                            block[:, columns] += checkpoint.rate * products
            # The network has its own weights again, whenever the next rows are asked for.
            yield rows, block

    def self_influence(self, X: ArrayLike, y: ArrayLike | None = None) -> np.ndarray:
        r"""Return the importance that samples would have for themselves.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples, in raw units.
        y : array-like of shape (n_samples, ...), default=None
            See ``transform``.

        Returns
        -------
        influence : ndarray of shape (n_samples,)
            :math:`\sum_t \eta_t \|\nabla L(x, \theta_t)\|^2`. Large for samples that the network
            had to learn by heart: outliers, or mislabelled where the loss uses labels.
        """
        with self._door(X) as inputs:
            inputs = self._with_targets(inputs, y)
            out = np.zeros(len(inputs), dtype=self._dtype)
            gradients = self._gradients()
            for checkpoint in self._checkpoints:
                gradients.factors = checkpoint.factors
                with loaded(gradients.module, checkpoint.load()):
                    for rows, terms in gradients.blocks(inputs):
                        norms = squared_norms(terms).cpu().numpy()
                        with np.errstate(over="ignore", invalid="ignore"):  # an error later
                            out[rows] += checkpoint.rate * norms
            check_finite(0, out)
            return out

    def __sklearn_clone__(self):
        """Clone the explainer; fitted estimators and checkpoints are kept."""
        fresh = super().__sklearn_clone__()
        fresh.checkpoints = self.checkpoints
        return fresh


class Checkpoint:
    """Weights, or the file that they are in, and a learning rate.

    Parameters
    ----------
    saved : dict of str to torch.Tensor, path-like or None
        A state dict, or a file; None stands for the weights that the network has.
    rates : dict of str to float
        The learning rates of the parameters that gradients are taken in.

    Attributes
    ----------
    rate : float
        What inner products are multiplied with: the rate of all parameters, or 1.
    factors : dict of str to float or None
        What gradients are multiplied with before: the roots of unequal rates.
    """

    def __init__(self, saved, rates):
        is_file = isinstance(saved, (str, os.PathLike))
        self.path = os.fspath(saved) if is_file else None
        self.weights = None if saved is None or is_file else SavedWeights(saved)
        self.rates = rates
        same = len(set(rates.values())) == 1
        self.rate = next(iter(rates.values())) if same else 1.0
        self.factors = None if same else {name: rate**0.5 for name, rate in rates.items()}
        self.names = ()  # of the network's weights

    def load(self):
        """Return the state dict, None for the weights that the network has."""
        if self.path is not None:
            return self._plain(load_weights(self.path))
        return None if self.weights is None else self._plain(self.weights.state_dict())

    def _plain(self, weights):
        """Leave out of names what wrappers put there, which the network that runs is without."""
        plain = type(weights)((plain_name(k, self.names), v) for k, v in weights.items())
        if hasattr(weights, "_metadata"):
            plain._metadata = weights._metadata
        return plain


def _table(rates, names):
    """Learning rates of checkpoints, with a column for each parameter if they are unequal."""
    table = np.array([[each[name] for name in names] for each in rates])
    return table[:, 0] if (table == table[:, :1]).all() else table


def _rates_of(names, rates, lr):
    """Learning rates of parameters, from those of a checkpoint by the net's own names."""
    if rates is None:
        return dict.fromkeys(names, lr)
    theirs = {plain_name(name, names): rate for name, rate in rates.items()}
    return _moving({name: theirs.get(name, 0.0) for name in names})


def _moving(rates):
    """Raise unless training moved one of the parameters at least."""
    if not any(rates.values()):
        raise ValueError(
            f"the optimizer has a learning rate of 0 for {', '.join(map(repr, list(rates)[:5]))}, "
            "or no parameter group that holds them, so all importance would be 0; name other "
            "parameters, or pass checkpoints=[(module.state_dict(), learning_rate)]."
        )
    return rates


def _history_of(history, net):
    """Return a history with checkpoints: the net's own if the one that was given has none."""
    candidates = [history]
    if net is not None:
        candidates += [c for _, c in net.callbacks_ if isinstance(c, CheckpointHistory)]
    for candidate in candidates:
        if not hasattr(candidate, "checkpoints_"):
            candidate = CheckpointHistory(candidate.every, candidate.folder).initialize()
        if candidate.checkpoints_:
            return candidate
    raise ValueError(
        f"checkpoints={history!r} holds no checkpoints: give it to the net in callbacks (to an "
        "Autoencoder in net_params={'callbacks': [...]}) and train for at least "
        f"every={history.every} epochs."
    )


def _checked_pairs(checkpoints):
    pairs = list(checkpoints)
    for number, (saved, lr) in enumerate(pairs):
        if not isinstance(lr, numbers.Real) or not 0 < lr < np.inf:
            raise ValueError(
                f"checkpoints[{number}] has learning rate {lr!r}; it must be positive."
            )
        if isinstance(saved, (str, os.PathLike)) and not Path(saved).exists():
            raise FileNotFoundError(
                f"checkpoints[{number}] is the file {saved}, which is not there."
            )
        if not isinstance(saved, (str, os.PathLike)) and not hasattr(saved, "keys"):
            raise TypeError(
                f"checkpoints[{number}] holds {type(saved).__name__}, not a state dict or a file."
            )
    return [(saved, float(lr)) for saved, lr in pairs]


def _check_weights(module, weights, number):
    """Raise unless weights are those of a network."""
    if weights is None:
        return
    expected = module.state_dict()
    other = sorted(expected.keys() ^ weights.keys(), key=str)
    other += [
        name
        for name in expected.keys() & weights.keys()
        if torch.is_tensor(expected[name]) and _shape(weights[name]) != expected[name].shape
    ]
    if other:
        raise ValueError(
            f"checkpoints[{number}] holds the weights of another network than "
            f"{type(module).__name__}: {', '.join(map(str, other[:5]))} differ in shape, are "
            "missing or are no tensors."
        )
    for name, weight in expected.items():
        if torch.is_tensor(weight) and not _alike(weights[name].dtype, weight.dtype):
            raise ValueError(
                f"checkpoints[{number}] has {name!r} as {weights[name].dtype}, but the network's "
                f"is {weight.dtype}; casting it would give other weights."
            )


def _shape(weight):
    return weight.shape if torch.is_tensor(weight) else None


def _alike(dtype, wanted):
    """Tell whether numbers of a dtype are what another one holds: the precision may differ."""
    if dtype.is_complex != wanted.is_complex:
        return False
    # Integers are quantised weights, or counters.
    return dtype.is_floating_point or not wanted.is_floating_point
