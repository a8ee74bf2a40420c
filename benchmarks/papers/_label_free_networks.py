"""The networks whose example importance and pretext tasks are compared, and what explains them."""

import time
import warnings
from functools import lru_cache

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping
from skorch.dataset import ValidSplit
from torch import nn

from sklexplain import DKNNImportance, InfluenceImportance, SimplExImportance, TracInImportance
from sklexplain.nets import Autoencoder, CheckpointHistory

from ..common import MnistAutoencoder, gradient_shap  # noqa: F401
from .label_free_consistency import train_test

TASKS = ("reconstruction", "denoising", "inpainting", "classification")
PATIENCE = 10
EVERY = 5  # epochs between two checkpoints


class MnistClassifier(nn.Module):
    """The encoder of the paper's MNIST autoencoder, and a linear layer to ten classes."""

    def __init__(self, n_components=4):
        super().__init__()
        self.encoder = MnistAutoencoder(n_components).encoder
        self.head = nn.Linear(n_components, 10)

    def forward(self, x):
        return self.head(self.encoder(x))


@lru_cache
def digits(n_examples, n_train=None):
    """Return X_train, corpus, y_corpus, queries, y_queries, y_train: one split for all runs."""
    rng = np.random.RandomState(0)
    X_train, y_train, X_test, y_test = train_test("mnist", "examples", rng)
    return _subset(X_train[:n_train], y_train[:n_train], X_test, y_test, n_examples)


@lru_cache(maxsize=2)
def heartbeats(seed, n_examples, n_train=None):
    """Return the same of ECG5000, with a split and examples of its own for each seed."""
    rng = np.random.RandomState(seed)
    X_train, y_train, X_test, y_test = train_test("ecg5000", "examples", rng)
    return _subset(X_train[:n_train], y_train[:n_train], X_test, y_test, n_examples)


def _subset(X_train, y_train, X_test, y_test, n):
    """The training set, and the examples and queries: they come shuffled, so the first n."""
    return {
        "X_train": X_train,
        "y_train": y_train,
        "corpus": X_train[:n],
        "y_corpus": y_train[:n],
        "queries": X_test[:n],
        "y_queries": y_test[:n],
    }


def train_digits(task, run, n_epochs, n_train=None):
    """Train the paper's MNIST network on a pretext task; every (task, run) has its own seed."""
    data = digits(1, n_train)
    seed = len(TASKS) * run + TASKS.index(task)
    if task == "classification":
        return _train_classifier(data, seed, n_epochs)
    return _fit(
        Autoencoder(
            MnistAutoencoder,
            n_components=4,
            pretext=task,
            noise_std=0.3,
            mask_rate=0.2,
            weight_decay=1e-5,
            max_epochs=n_epochs,
            patience=PATIENCE,
            net_params={"callbacks": [CheckpointHistory(every=min(EVERY, n_epochs))]},
            random_state=seed,
        ),
        data["X_train"],
    )


def _train_classifier(data, seed, n_epochs):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return NeuralNetClassifier(
            MnistClassifier,
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            optimizer__weight_decay=1e-5,
            lr=1e-3,
            batch_size=64,
            max_epochs=n_epochs,
            iterator_train__shuffle=True,
            train_split=ValidSplit(0.1, random_state=seed),
            callbacks=[EarlyStopping(patience=PATIENCE, load_best=True, sink=_silent)],
            verbose=0,
        ).fit(data["X_train"], data["y_train"])


def _silent(_message):
    pass


def train_heartbeats(seed, n_epochs, n_components, n_train=None):
    """Train the paper's LSTM autoencoder on ECG5000."""
    autoencoder = Autoencoder(
        "lstm",
        n_components=n_components,
        loss="absolute_error",
        batch_size=8,
        max_epochs=n_epochs,
        patience=PATIENCE,
        net_params={"callbacks": [CheckpointHistory(every=min(EVERY, n_epochs))]},
        random_state=seed,
    )
    return _fit(autoencoder, heartbeats(seed, 1, n_train)["X_train"])


def untrained(run):
    """Return the MNIST network with random weights."""
    autoencoder = Autoencoder(MnistAutoencoder, n_components=4, random_state=1000 + run)
    autoencoder.initialize(digits(1)["X_train"][:2])
    return autoencoder.load_state_dict(autoencoder.net_.module_.state_dict())


def _fit(autoencoder, X):
    with warnings.catch_warnings():
        # The number of epochs is a setting here, and written into the results.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return autoencoder.fit(X)


def squared_error(output, x):
    """Mean squared error of each sample."""
    return (output - x).square().flatten(1).mean(dim=1)


# What explains by examples. Of the classifier, the encoder's output is explained; of the others,
# what transform returns is that already. A loss without labels the classifier has not.
METHODS = {
    "DKNN": DKNNImportance,
    "SimplEx": SimplExImportance,
    "TracIn": TracInImportance,
    "TracIn, last weights": TracInImportance,
    "influence": InfluenceImportance,
}
# The heartbeats' code has 16 units: with more examples, systems are too large to be solved exactly.
N_INFLUENCE = 300
LOSS_BASED = ("TracIn", "influence")


def explainer(method, network, loss=None):
    """Make the explainer of a trained network, not fitted."""
    if method in ("DKNN", "SimplEx"):
        layer = "encoder" if isinstance(network, NeuralNetClassifier) else None
        return METHODS[method](network, layer=layer)
    params = {"loss": loss, "random_state": 0}
    if method == "TracIn":
        params["checkpoints"] = history_of(network)
    if method == "influence":
        params["n_draws"] = 1  # with more, the linear systems are too large to be solved exactly
    return METHODS[method](network, **params)


def history_of(network):
    """Return the checkpoints of an autoencoder's training."""
    callbacks = (callback for _, callback in network.net_.callbacks_)
    return next(c for c in callbacks if isinstance(c, CheckpointHistory))


def explain(method, network, data, loss=None):
    """Return the importance of the corpus for the queries, and how long it took."""
    example_importance = explainer(method, network, loss)
    corpus = data["corpus"]
    if method == "influence" and corpus.ndim == 2:
        corpus = corpus[:N_INFLUENCE]
    start = time.perf_counter()
    example_importance.fit(corpus)
    middle = time.perf_counter()
    importance = example_importance.transform(data["queries"])
    seconds = {"fit": middle - start, "transform": time.perf_counter() - middle}
    details = {
        k: getattr(example_importance, k)
        for k in ("solver_", "residual_")
        if hasattr(example_importance, k)
    }
    return importance, seconds | details


def reduced_cost(network, data):
    """Return how far from a weight SimplEx has the examples of the corpus, for the queries."""
    simplex = explainer("SimplEx", network).fit(data["corpus"])
    return simplex.reduced_cost(data["queries"])
