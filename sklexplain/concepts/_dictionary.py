"""Top-k sparse autoencoder: many concepts, of which a sample is made of a few."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from ..explaining import checked_units
from ..layers import activation_buffer, activation_moments
from ..training import diverging, loss_curves, make_array_net
from ..utils import (
    FLAG,
    MAPPING,
    NONE,
    VERBOSE,
    ArrayOrSparse,
    Baseline,
    BatchSize,
    ChannelAxis,
    Choice,
    DeviceLike,
    Integer,
    Integers,
    ModelLike,
    Number,
    Params,
    RandomState,
    check_positive_int,
    seeded,
)
from ._base import ConceptExplainer
from ._dictionary_net import DictionaryModule, DictionaryObjective, FallingRate
from ._fitting import summary_of, warn_of_nothing_compressed
from ._maps import concept_maps
from ._scores import total_r2

_BATCH = 128
# Passes that make so many mini-batches, but at least and at most so many.
_STEPS, _FEWEST_EPOCHS, _MOST_EPOCHS = 5000, 5, 1000


def _labels_of_rows(X):
    """Return the labels of a DataFrame's rows, None of anything else."""
    return X.index.to_numpy() if hasattr(X, "iloc") else None


class SparseDictionary(ConceptExplainer):
    r"""Many concepts of a layer, of which every sample is made of at most k.

    A top-k sparse autoencoder (Gao et al.) on the activations z of one layer of a frozen network:

    .. math:: e = \mathrm{TopK}_k(\mathrm{relu}(W (z - b))), \qquad \hat z = V e + b, \qquad
        \|V_j\| = 1.

    So a layer's activations are taken apart into directions :math:`V_j`, more of them than a
    sample uses, and each is shown by the samples that have most of it (`top_examples`) and by
    where in a sample it comes from (`concept_attributions`). No output is explained: what the
    network does with the concepts is not asked, see `SRAEExplainer` for that.

    Training minimises :math:`\|z - \hat z\|^2` plus `revival` times the same error of what is left
    over, rebuilt from dead concepts alone: those that none of the last 25 mini-batches used. So
    they come back to life.

    Parameters
    ----------
    estimator : nn.Module, skorch net, scikit-learn estimator or Pipeline
        The network that is explained; never changed. Of an unfitted estimator a clone is fitted in
        ``fit``.
    layer : str or None, default=None
        Submodule whose output is z, as in ``named_modules()``; ``"rnn[1][0]"`` picks from a tuple,
        ``"enc['mu']"`` from a dict. None: the *input* of the last linear layer.
    n_concepts : int, default=256
        Number of concepts; more than the layer has units, if wanted. Concepts are one-sided: a
        direction that matters both ways takes two.
    k : int, default=8
        Most concepts that a sample is made of; fewer than the layer has units, else nothing is
        compressed (with a warning).
    revival : float, default=1.0
        Weight of the term that revives dead concepts; 0: none. Gao et al. have 1/32; on planted
        dictionaries and heartbeats 1 left fewer dead concepts, at the same error.
    lr : float, default=3e-3
        Learning rate of Adam; it falls to 2 % of that over the second half of training.
    max_epochs : int or "auto", default="auto"
        Passes over the training samples. ``"auto"``: those that make 5,000 mini-batches, but at
        least 5 and at most 1,000.
    net_params : dict or None, default=None
        Other parameters of the skorch net, such as ``{"batch_size": 200}``. Mini-batches have 128
        samples unless it is set here.
    sparse_output : bool, default=False
        Whether `transform` returns a SciPy CSR matrix: of 256 concepts it stores 8 a sample.
    channel_axis : {"auto"}, int or None, default="auto"
        Axis of one sample's array that holds channels, for `DictionaryDisplay`. ``"auto"``: as the
        network's own layers take it; None: there are none.
    batch_size : int or "auto", default="auto"
        Most samples in the explained network at once; it changes no result. "auto": 1024; on a GPU,
        what its memory holds.
    device : str, torch.device or None, default=None
        Where to run; None: where the model is.
    random_state : int, RandomState instance or None, default=None
        Of the initial directions and the mini-batches.
    verbose : int, default=0
        1 prints the loss of every epoch.

    Attributes
    ----------
    estimator_ : nn.Module or estimator
        The fitted estimator that is explained.
    layer_ : str
        Name of the layer that is looked at (its input, if ``layer`` is None).
    layer_shape_ : tuple of int
        Shape of one sample's activations.
    components_ : ndarray of shape (n_concepts, *layer_shape_)
        Directions of the concepts in the layer, each of length 1, in the order of how much they
        rebuild of the training samples (sum of squared values).
    intercept_ : ndarray of shape layer_shape_
        b: what is rebuilt of a sample without concepts.
    frequencies_ : ndarray of shape (n_concepts,)
        Share of the training samples that each concept is a part of.
    active_concepts_ : ndarray of bool of shape (n_concepts,)
        Concepts that some training sample has; the others are dead.
    n_active_concepts_ : int
        How many there are.
    dead_fraction_ : float
        Share of dead concepts.
    net_ : skorch.NeuralNet
        The trained net.
    loss_curve_ : list of float
        Mean squared error of every epoch, of activations that are centred and divided by one
        number, so that 1 is that of their mean.
    n_epochs_ : int
        Number of epochs.
    n_features_in_, feature_names_in_, input_shape_, seed_
        See `BaseExplainer`.

    See Also
    --------
    SRAEExplainer : A few concepts from which the network's output can be told.
    sklexplain.plotting.DictionaryDisplay : Concepts by their examples.
    sklexplain.LatentSurrogate : What a unit stands for, in words.

    Notes
    -----
    With many concepts for few samples, or a layer of few directions, some stay dead whatever
    `revival` is; choose `n_concepts` and `k` by `score` in a search, and look at `dead_fraction_`.
    That a sample is told by k of n concepts takes their numbers and which they are; other
    decompositions of the same k (PCA's) need not say which.

    Cost: `fit` runs every sample once through the network, and trains on the activations that it
    has kept of them; `transform` and `score` run a sample once, `concept_attributions` as often as
    `LabelFreeAttributor` does.

    References
    ----------
    .. [1] L. Gao et al., "Scaling and evaluating sparse autoencoders", ICLR 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from sklexplain import SparseDictionary
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MLPClassifier((16,), solver="lbfgs", max_iter=500, random_state=0).fit(X, y)
    >>> dictionary = SparseDictionary(classifier, n_concepts=12, k=3, random_state=0)
    >>> dictionary = dictionary.set_params(max_epochs=100).fit(X)
    >>> concepts = dictionary.transform(X)
    >>> concepts.shape, int((concepts > 0).sum(axis=1).max())
    ((150, 12), 3)
    >>> bool(dictionary.score(X) > 0.95)
    True
    """

    _parameter_constraints = {
        "n_concepts": [Integer(1, 1_000_000)],
        "k": [Integer()],
        "revival": [Number(at_least=0)],
        "lr": [Number(above=0)],
        "max_epochs": [Integer(), Choice("auto")],
        "net_params": [MAPPING, NONE],
        "sparse_output": [FLAG],
        "verbose": [VERBOSE],
    }

    def __init__(
        self,
        estimator: ModelLike,
        *,
        layer: str | None = None,
        n_concepts: int = 256,
        k: int = 8,
        revival: float = 1.0,
        lr: float = 3e-3,
        max_epochs: int | Literal["auto"] = "auto",
        net_params: Params = None,
        sparse_output: bool = False,
        channel_axis: ChannelAxis = "auto",
        batch_size: BatchSize = "auto",
        device: DeviceLike | None = None,
        random_state: RandomState = None,
        verbose: int | bool = 0,
    ) -> None:
        self.estimator = estimator
        self.layer = layer
        self.n_concepts = n_concepts
        self.k = k
        self.revival = revival
        self.lr = lr
        self.max_epochs = max_epochs
        self.net_params = net_params
        self.sparse_output = sparse_output
        self.channel_axis = channel_axis
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # -- fit -----------------------------------------------------------------------------------

    def _check_params(self):
        super()._check_params()
        if self.k > self.n_concepts:
            raise ValueError(
                f"k={self.k} is more than n_concepts={self.n_concepts}: a sample cannot be made of "
                "more concepts than there are."
            )

    def _fit(self, inputs, y):
        params, representation = self._params_at_fit, self._representation
        tap = self._find_layer(inputs)
        warn_of_nothing_compressed(params.k, tap.shape, tap.what, "k")
        self._data = summary_of(inputs, representation, self.seed_)
        z = self._activations(inputs)
        self.net_ = self._trained(z)
        self.n_epochs_ = len(self.net_.history)
        self.loss_curve_, _ = loss_curves(self.net_)
        for epoch in self.net_.history:
            epoch["batches"] = []  # thousands of numbers that nobody asks for
        self._describe_concepts(z)

    def _activations(self, inputs):
        """Activations (n, *shape) in float32, in memory or in a file."""
        tap, tensor = self._tap, self._representation.tensor

        def run(batch):
            return tap(tensor(batch)).float()

        return activation_buffer(run, inputs, self._params_at_fit.batch_size, finite=[tap.what])

    def _trained(self, z):
        """Train the module on activations.

        Parameters
        ----------
        z : ndarray of shape (n, *shape)
            Activations.

        Returns
        -------
        net : ArrayNet

        Raises
        ------
        ValueError
            If training diverged.
        """
        params, device = self._params_at_fit, self._representation.device
        z_mean, z_scale = activation_moments(z)
        n_epochs = _n_epochs(params, len(z))
        settings = SimpleNamespace(
            net_params=params.net_params,
            validation_split=None,
            lr=params.lr,
            max_epochs=n_epochs,
            verbose=params.verbose,
        )
        with torch.inference_mode(False), torch.enable_grad(), seeded(self.seed_, device):
            net = make_array_net(
                settings,
                DictionaryModule,
                device,
                {"module": "n_concepts", "criterion": "revival", "train_split": "max_epochs"},
                type(self).__name__,
                own=[("falling_rate", FallingRate(n_epochs))],
                batch_size=_BATCH,
                module__shape=tuple(z.shape[1:]),
                module__n_concepts=int(params.n_concepts),
                module__k=int(params.k),
                module__z_mean=z_mean,
                module__z_scale=z_scale,
            ).initialize()
            rows = np.arange(len(z))
            with diverging(net, params, "revival", scale=False):
                net.fit_arrays({"z": z}, DictionaryObjective(float(params.revival)), rows, None)
        net.module_.fold()
        return net

    def _describe_concepts(self, z):
        """Count who uses each concept, and number them by how much they rebuild."""
        module, device = self.net_.module_, torch.device(self.net_.device)
        used, energy = 0, 0
        for i in range(0, len(z), self._params_at_fit.batch_size):
            batch = torch.as_tensor(
                np.array(z[i : i + self._params_at_fit.batch_size]), device=device
            )
            concepts = module.chosen(module.encode(batch)).cpu().double()
            used = used + (concepts > 0).sum(dim=0).numpy()
            energy = energy + concepts.square().sum(dim=0).numpy()
        order = np.argsort(-energy, kind="stable")
        module.reorder(torch.as_tensor(order, device=device))
        self.frequencies_ = used[order] / len(z)
        self.active_concepts_ = used[order] > 0
        self.n_active_concepts_ = int(self.active_concepts_.sum())
        self.dead_fraction_ = float(1 - self.active_concepts_.mean())
        self.components_ = module.directions.cpu().numpy().reshape(-1, *self.layer_shape_).copy()
        self.intercept_ = module.bias.cpu().numpy().reshape(self.layer_shape_).copy()

    # -- concepts ------------------------------------------------------------------------------

    def _transform(self, inputs):
        """Return values of the concepts, at most k of them above 0.

        Parameters
        ----------
        inputs : ndarray of shape (n_samples, ...)
            Samples as they enter the network.

        Returns
        -------
        concepts : ndarray or CSR matrix of shape (n_samples, n_concepts), float32
            In units of the layer's activations. Rows have fewer than k where fewer are driven.
        """
        if not self._params_at_fit.sparse_output:
            return self._run(inputs, lambda module, drive: module.chosen(drive))
        n_concepts, parts = len(self.frequencies_), []
        for i in range(0, len(inputs), self._params_at_fit.batch_size):
            dense = self._run(
                inputs[i : i + self._params_at_fit.batch_size],
                lambda module, drive: module.chosen(drive),
            )
            parts.append(sparse.csr_matrix(dense))
        empty = sparse.csr_matrix((0, n_concepts), dtype=np.float32)
        return sparse.vstack([empty, *parts], format="csr")

    def _row_form(self):
        is_sparse = bool(self._params_at_fit.sparse_output)
        return (len(self.frequencies_),), np.float32, is_sparse

    def _encoded(self, inputs):
        """Return what drives every concept, which maps explain."""
        return self._run(inputs, lambda module, drive: drive)

    def _run(self, inputs, finish):
        tap, tensor, module = self._tap, self._representation.tensor, self.net_.module_

        def run(batch):  # no further than the layer
            return finish(module, module.encode(tap(tensor(batch))))

        options = {"max_bytes": np.inf, "finite": [tap.what]}
        return activation_buffer(run, inputs, self._params_at_fit.batch_size, **options)

    def inverse_transform(self, concepts: ArrayOrSparse) -> np.ndarray:
        """Activations that concepts stand for.

        Parameters
        ----------
        concepts : array-like or sparse matrix of shape (n_samples, n_concepts)
            Values of the concepts.

        Returns
        -------
        activations : ndarray of shape (n_samples, *layer_shape_), float32
            In the units of the layer.

        Raises
        ------
        ValueError
            If there is another number of concepts.
        """
        check_is_fitted(self)
        concepts = check_array(
            concepts,
            accept_sparse="csr",
            dtype=np.float32,
            input_name="concepts",
            estimator=self,
        )
        if concepts.shape[1] != len(self.frequencies_):
            raise ValueError(
                f"concepts has shape (n, {concepts.shape[1]}), but this SparseDictionary was "
                f"fitted with n_concepts={len(self.frequencies_)}."
            )
        return self._decoded(concepts)

    def _decoded(self, concepts):
        directions = self.components_.reshape(len(self.components_), -1)
        flat = np.asarray(concepts @ directions) + self.intercept_.ravel()
        return flat.reshape(-1, *self.layer_shape_)

    def top_examples(
        self, X: ArrayLike, k: int = 5, *, concepts: int | Integers | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the samples that have most of every concept.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples to choose from, those of ``fit`` or others.
        k : int, default=5
            How many for a concept.
        concepts : int, array-like of int or None, default=None
            Which concepts; None: all.

        Returns
        -------
        values : ndarray of shape (n_concepts, k), float32
            The concepts' values, largest first; 0 where fewer than k samples have a concept.
        index : ndarray of shape (n_concepts, k)
            Which samples: labels of a pandas DataFrame's index, else positions. Samples that tie
            stand in the order of X.

        Raises
        ------
        ValueError
            If there are fewer than k samples, or a concept does not exist.
        """
        check_is_fitted(self)
        check_positive_int("k", k)
        chosen = self._checked_concepts(concepts)
        with self._door(X) as inputs:
            if k > len(inputs):
                raise ValueError(f"k={k} is more than the {len(inputs)} samples of X.")
            values = np.empty((0, len(chosen)), dtype=np.float32)
            places = np.empty((0, len(chosen)), dtype=np.intp)
            for i in range(0, len(inputs), self._params_at_fit.batch_size):
                block = inputs[i : i + self._params_at_fit.batch_size]
                found = self._run(block, lambda module, drive: module.chosen(drive))[:, chosen]
                rows = np.broadcast_to(np.arange(i, i + len(found))[:, None], found.shape)
                values, places = np.concatenate([values, found]), np.concatenate([places, rows])
                best = np.argsort(-values, axis=0, kind="stable")[:k]
                values = np.take_along_axis(values, best, axis=0)
                places = np.take_along_axis(places, best, axis=0)
        labels = _labels_of_rows(X)
        return values.T, places.T if labels is None else labels[places.T]

    def concept_attributions(
        self,
        X: ArrayLike,
        method: str = "integrated_gradients",
        *,
        concepts: int | Integers | None = None,
        method_params: Params = None,
        baseline: Baseline = "mean",
    ) -> np.ndarray:
        """Where in a sample its concepts come from: one map for each.

        What is explained is relu(W(z − b)), before the k largest are chosen: which is the
        concept's value where it is among them, and continuous, so that maps add up.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.
        method : str, default="integrated_gradients"
            A method of `LabelFreeAttributor`.
        concepts : int, array-like of int or None, default=None
            Which concepts; None: all.
        method_params, baseline
            See `LabelFreeAttributor`.

        Returns
        -------
        attributions : ndarray of shape (n_samples, n_concepts, *X.shape[1:])

        Raises
        ------
        TypeError
            If the method needs gradients and there are none.
        ValueError
            If the method is unknown, or a concept does not exist.
        """
        check_is_fitted(self)
        chosen = None if concepts is None else self._checked_concepts(concepts)
        return concept_maps(self, X, method, method_params, baseline, concepts=chosen)

    def _checked_concepts(self, concepts):
        return checked_units(concepts, len(self.frequencies_), "concepts")

    # -- scores --------------------------------------------------------------------------------

    def score(self, X: ArrayLike, y: ArrayLike | None = None) -> float:
        """R² of the activations that concepts rebuild.

        Of all units together: 1 minus the squared error over that of the mean of X.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples, best held out.
        y : object, default=None
            Ignored.

        Returns
        -------
        score : float
            1 is best; NaN, with a warning, for a single sample.
        """
        with self._door(X) as inputs:
            z, module = self._activations(inputs), self.net_.module_
            device = torch.device(self.net_.device)

            def blocks():
                for i in range(0, len(z), self._params_at_fit.batch_size):
                    batch = z[i : i + self._params_at_fit.batch_size]
                    tensor = torch.as_tensor(np.array(batch), device=device)
                    concepts = module.chosen(module.encode(tensor)).cpu().numpy()
                    yield batch, self._decoded(concepts)

            return total_r2(blocks(), z.mean(axis=0, dtype=np.float64))

    @property
    def _n_features_out(self):
        return len(self.frequencies_)


def _n_epochs(params, n_samples):
    if params.max_epochs != "auto":
        return int(params.max_epochs)
    size = (params.net_params or {}).get("batch_size", _BATCH)
    n_batches = 1 if size == -1 else -(-n_samples // int(size))
    return min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, -(-_STEPS // n_batches)))
