"""Contrastive encoders of heartbeats: the CIFAR-10 column of figures 2 and 3 of label-free XAI.

Crabbé & van der Schaar (2022), section 4.1, explain a SimCLR encoder of CIFAR-10. Here encoders of
ECG5000 are trained by NT-Xent: masking features that are called important is compared with masking
at random, and the labels of the examples that are called important with those of the samples. How
well classes can be read from the codes by a linear probe is compared with PCA, segment means, an
autoencoder and untrained weights at the same dimension, and with the raw beats.

Several ways of making views are tried for each seed. Which of them counts is decided by the probe's
accuracy on a validation part of the training beats, never on test beats.

A piece is one seed and one encoder: ``--seeds 3`` computes all of seed 3.
"""

import time
import warnings
from functools import partial

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklexplain import DKNNImportance, LabelFreeAttributor, SimplExImportance
from sklexplain.datasets import load_ecg5000
from sklexplain.metrics import similarity_rate
from sklexplain.nets import Autoencoder, ContrastiveEncoder

from .._runner import Benchmark, Option, complete
from ..common import rounded
from ._label_free_contrastive_page import BASELINES, CANDIDATES, FRACTIONS, METHODS, render

N_TRAIN, N_VALIDATION = 3200, 800  # and 1,000 test beats


def split_beats(seed, args):
    """Return (X, y) to train on, to choose views by, and to test on."""
    X, y = load_ecg5000(return_X_y=True)
    order = np.random.RandomState(seed).permutation(len(X))
    parts = np.split(order, [N_TRAIN, N_TRAIN + N_VALIDATION])
    return [(X[rows[: args.n_beats]], y[rows[: args.n_beats]]) for rows in parts]


def trained(kind, X, seed, args, **params):
    """Train an encoder on beats."""
    hidden = {"conv1d": args.channels, "mlp": (128, 64)}[params["module"]]
    estimator = kind(
        n_components=args.n_components,
        hidden_layer_sizes=tuple(hidden),
        max_epochs=args.epochs,
        batch_size=args.batch_size,
        lr=args.lr,
        device=args.device,
        random_state=seed,
        **params,
    )
    with warnings.catch_warnings():
        # Whether training has come to its end is written into the results.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(X)


def probes(encode, parts, args):
    """Accuracies of linear probes for the five classes, by codes in standard deviations."""
    codes = [encode(X) for X, _ in parts]
    (_, y), (_, y_validation), (_, y_test) = parts
    found = {}
    for name, n in (("all labels", len(y)), ("few labels", args.n_labels)):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
        probe.fit(codes[0][:n], y[:n])
        predicted = probe.predict(codes[2])
        found[name] = {
            "validation": rounded(probe.score(codes[1], y_validation)),
            "test": rounded((predicted == y_test).mean()),
            "test_balanced": rounded(balanced_accuracy_score(y_test, predicted)),
        }
    return found


def segment_means(X, n):
    return np.stack([part.mean(axis=1) for part in np.array_split(X, n, axis=1)], axis=1)


def baseline_run(name, seed, args):
    """Probes of what needs no contrastive training."""
    parts = split_beats(seed, args)
    X, d = parts[0][0], args.n_components
    if name == "raw beats":
        return {"probe": probes(lambda X: X, parts, args)}
    if name == "segment means":
        return {"probe": probes(partial(segment_means, n=d), parts, args)}
    if name == "PCA":
        return {"probe": probes(PCA(d, random_state=seed).fit(X).transform, parts, args)}
    if name == "autoencoder":
        network = trained(Autoencoder, X, seed, args, module="conv1d")
        return {"probe": probes(network.transform, parts, args)} | training_of(network)
    network = ContrastiveEncoder(
        "conv1d", n_components=d, hidden_layer_sizes=tuple(args.channels), random_state=seed
    ).initialize(X)
    network.load_state_dict(network.net_.module_.state_dict())
    return {"probe": probes(network.transform, parts, args)}


def training_of(network):
    """Say how long training was, and whether it had come to its end."""
    losses = np.array(network.validation_loss_curve_)
    at = max(1, len(losses) - max(1, len(losses) // 10))
    return {
        "n_epochs": network.n_epochs_,
        "stopped_early": network.n_epochs_ < network.max_epochs,
        "validation_loss": rounded(losses.min(), 4),
        # Of the loss, what the last tenth of the epochs has brought.
        "last_gain": rounded(1 - losses.min() / losses[:at].min(), 4),
    }


def contrastive_run(name, seed, args):
    """Train a contrastive encoder; its probes, and both consistency checks."""
    start = time.perf_counter()
    parts = split_beats(seed, args)
    network = trained(ContrastiveEncoder, parts[0][0], seed, args, **CANDIDATES[name])
    minutes = (time.perf_counter() - start) / 60
    found = training_of(network) | {"probe": probes(network.transform, parts, args)}
    found["features"] = feature_check(network, parts, seed, args)
    found["examples"] = example_check(network, parts, args)
    return found | {"minutes_training": rounded(minutes, 2)}


def feature_check(network, parts, seed, args):
    """Latent shift by masks of each method over that by random masks: figure 2."""
    X_train, X = parts[0][0], parts[2][0][: args.n_explained]
    found = {}
    for method in METHODS:
        for center in (False, True):
            attributor = LabelFreeAttributor(
                network, method=method, center=center, random_state=seed
            ).fit(X_train)
            curve = attributor.latent_shift(X, n_random=args.n_random)
            found.setdefault(method, {})["centered" if center else "paper"] = {
                "area_ratio": rounded(curve.area_ratio),
                "separation": rounded(curve.separation),
            }
    return found


def example_check(network, parts, args):
    """Share of the examples called most, or least, important with the sample's label: figure 3.

    Labels are normal or abnormal. Of the many examples that have no weight in SimplEx, those with
    the smaller reduced cost are taken for more important.
    """
    (X_corpus, y_corpus), (X, y) = (
        (a[: args.n_examples], b[: args.n_examples] == 1) for a, b in (parts[0], parts[2])
    )
    sizes = [max(1, int(np.ceil(f * len(X_corpus)))) for f in FRACTIONS]
    dknn = DKNNImportance(network).fit(X_corpus)
    simplex = SimplExImportance(network).fit(X_corpus)
    matrices = {
        "DKNN": (dknn.transform(X), None),
        "SimplEx": (simplex.transform(X), -simplex.reduced_cost(X)),
    }
    found = {"n_top": sizes, "prior": rounded((y[:, None] == y_corpus).mean())}
    for name, (matrix, ties) in matrices.items():
        rate = partial(similarity_rate, matrix, y, y_corpus, n_top=sizes, ties=ties)
        found[name] = {"most": rounded(rate()), "least": rounded(rate(least=True))}
    return found


def measure(args, results, save):
    tasks = {}
    for seed in args.seeds:
        for name in args.views:
            tasks[f"seed {seed}, {name}"] = partial(contrastive_run, name, seed, args)
        for name in BASELINES:
            tasks[f"seed {seed}, {name}"] = partial(baseline_run, name, seed, args)
    complete(results.setdefault("runs", {}), tasks, save)


def summarize(results):
    """Say which views are chosen for each seed: the first of the best on validation beats."""
    runs, views = results["runs"], results["settings"]["views"]
    results["chosen"] = {}
    for seed in sorted({int(key.split(",")[0].split()[1]) for key in runs}):
        there = [name for name in views if f"seed {seed}, {name}" in runs]
        by = {
            name: runs[f"seed {seed}, {name}"]["probe"]["all labels"]["validation"]
            for name in there
        }
        if len(there) == len(views):
            results["chosen"][str(seed)] = max(by, key=by.get)


BENCHMARK = Benchmark(
    section="contrastive encoders of heartbeats",
    page="label_free.md",
    measure=measure,
    summarize=summarize,
    render=render,
    settings={
        "views": Option(list(CANDIDATES), "ways of making views to choose from", CANDIDATES),
        "n_components": 16,
        "channels": [16, 32],
        "epochs": Option(100, "at most"),
        "batch_size": 256,
        "lr": 2e-3,
        "n_labels": Option(100, "of the probe with few labels"),
        "n_explained": Option(100, "test beats whose time steps are explained"),
        "n_random": Option(30, "random masks that a curve is compared with"),
        "n_examples": Option(1000, "training, and test, beats"),
        "n_beats": Option(None, "of each part, at most; for short tests", type=int),
    },
    options={
        "seeds": Option([0, 1, 2, 3, 4], "of the split, the weights and the views"),
        "device": Option("cpu", "where networks are: cpu, cuda"),
    },
    fixed={"candidates": CANDIDATES},
    smoke={
        "views": ["jitter, scaling, mask", "corruption, jitter; mlp"],
        "n_components": 2,
        "channels": [2, 2],
        "epochs": 2,
        "batch_size": 40,
        "n_labels": 30,
        "n_explained": 2,
        "n_random": 2,
        "n_examples": 20,
        "n_beats": 80,
        "seeds": [0],
    },
    threads=1,
)
