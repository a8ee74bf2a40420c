"""Removing what is important and training again (ROAR): figure 7 of label-free XAI.

Crabbé & van der Schaar (2022), appendix C.1. An autoencoder is trained and explained; the features
of largest importance, or random ones, are removed from training and test samples, and a new one is
trained. On ECG5000 and MNIST, with a part of the digits and few epochs.

A piece is a data set, a seed and a method, and takes some minutes on a core: ``--datasets mnist
--seeds 3 --methods saliency``.
"""

import time
import warnings
from functools import partial

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, cross_val_predict, cross_val_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from sklexplain import LabelFreeAttributor
from sklexplain.datasets import load_ecg5000
from sklexplain.metrics import roar
from sklexplain.nets import Autoencoder

from .._runner import Benchmark, Option, complete
from ..common import MnistAutoencoder, load_digits_28x28, rounded
from ._roar_page import DATASETS, METHODS, render


def samples(dataset, seed, args):
    """Return X, labels, which are for looking only, and rows to train and to test on."""
    if dataset == "mnist":
        X, y = load_digits_28x28()
        n = args.n_mnist
    else:
        X, y = load_ecg5000(return_X_y=True)
        n = args.n_ecg
    chosen = np.random.RandomState(seed).permutation(len(X))[:n]
    n_test = len(chosen) // 5
    rows = np.arange(len(chosen))
    return X[chosen], y[chosen], (rows[n_test:], rows[:n_test])


def autoencoder(dataset, seed, args):
    common = {"batch_size": 64, "device": args.device, "random_state": seed}
    if dataset == "mnist":
        return Autoencoder(
            MnistAutoencoder,
            n_components=4,
            pretext="denoising",
            noise_std=0.3,
            weight_decay=1e-5,
            max_epochs=args.epochs_mnist,
            **common,
        )
    return Autoencoder(
        "conv1d",
        n_components=16,
        hidden_layer_sizes=(16, 32),
        lr=2e-3,
        max_epochs=args.epochs_ecg,
        **common,
    )


class Judge:
    """A scorer that keeps more of each network than the one number that it returns.

    Parameters
    ----------
    whole : ndarray of shape (n, ...)
        All samples, with all features.
    labels : ndarray of shape (n,)
        Of all samples.

    Attributes
    ----------
    found : list of dict
        Of each network that was scored, in their order.
    """

    def __init__(self, whole, labels):
        self.whole, self.labels = whole.reshape(len(whole), -1), labels
        self.found = []

    def __call__(self, network, X, rows):
        """Return minus the mean squared error of test samples; ``rows`` are their numbers."""
        loss = float(np.mean((network.inverse_transform(network.transform(X)) - X) ** 2))
        codes, whole = network.transform(X), self.whole[rows]
        n_neighbors, folds = min(10, len(X) // 3), KFold(5 if len(X) > 50 else 2)
        by_code = KNeighborsClassifier(n_neighbors)
        accuracy = cross_val_score(by_code, codes, self.labels[rows], cv=folds).mean()
        told = cross_val_predict(KNeighborsRegressor(n_neighbors), codes, whole, cv=folds)
        self.found.append(
            {
                "loss": rounded(loss, 6),
                "explained": rounded(1 - loss / X.var(axis=0, dtype=np.float64).mean()),
                "whole": rounded(1 - ((told - whole) ** 2).mean() / whole.var(axis=0).mean()),
                "accuracy": rounded(accuracy),
                "n_epochs": network.n_epochs_,
            }
        )
        return -loss


def one_piece(dataset, seed, method, args):
    """Curves of a method, and of one random choice of features, which no other method has."""
    start = time.perf_counter()
    X, labels, split = samples(dataset, seed, args)
    estimator = autoencoder(dataset, seed, args)
    attributor = LabelFreeAttributor(
        estimator,
        method=method,
        baseline="zeros" if dataset == "mnist" else "mean",
        random_state=seed,
    )
    judge = Judge(X, labels)
    with warnings.catch_warnings():
        # The number of epochs is a setting here, and written into the results.
        warnings.simplefilter("ignore", ConvergenceWarning)
        result = roar(
            estimator,
            attributor,
            X,
            np.arange(len(X)),
            shares=args.shares,
            scoring=judge,
            cv=[split],
            n_random=1,
            random_state=len(METHODS) * seed + list(METHODS).index(method),
        )
    whole, rest = judge.found[0], judge.found[1:]
    n = len(rest) // 2
    return {
        "shares": rounded(result.shares),
        "attributed": _columns([whole, *rest[:n]]),
        "random": _columns([whole, *rest[n:]]),
        "gain": rounded(result.gain[0], 6),
        "minutes": rounded((time.perf_counter() - start) / 60, 2),
    }


def _columns(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


def measure(args, results, save):
    tasks = {
        f"{dataset}, seed {seed}, {method}": partial(one_piece, dataset, seed, method, args)
        for seed in args.seeds
        for dataset in args.datasets
        for method in args.methods
    }
    complete(results.setdefault("pieces", {}), tasks, save)


BENCHMARK = Benchmark(
    section="removing and training again",
    page="label_free.md",
    measure=measure,
    render=render,
    settings={
        "shares": Option([0.1, 0.3, 0.5, 0.7, 0.9], "of the features that are removed"),
        "n_mnist": Option(2500, "digits, a fifth of them for tests"),
        "n_ecg": Option(5000, "heartbeats, a fifth of them for tests"),
        "epochs_mnist": Option(15, "at most"),
        "epochs_ecg": Option(25, "at most"),
    },
    options={
        "seeds": Option([0, 1, 2, 3, 4], "of samples, split, weights and random choices"),
        "datasets": Option(list(DATASETS), choices=tuple(DATASETS)),
        "methods": Option(list(METHODS), choices=tuple(METHODS)),
        "device": Option("cpu", "where networks are: cpu, cuda"),
    },
    smoke={
        "shares": [0.5],
        "n_mnist": 30,
        "n_ecg": 30,
        "epochs_mnist": 1,
        "epochs_ecg": 1,
        "seeds": [0],
    },
    threads=1,
)
