"""Consistency checks of label-free importance: figures 2 and 3 of Crabbé & van der Schaar (2022).

Features: an autoencoder is trained, the features that a method calls important are masked, and the
shift of the representation is compared with that of random masks. Examples: how often the training
examples that deep nearest neighbours call important have the label of the sample. Both on ECG5000
(the paper's LSTM) and on 10,000 digits of MNIST (the paper's denoising CNN), several seeds each.
"""

import time
import warnings

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.integrate import trapezoid
from sklearn.exceptions import ConvergenceWarning

from sklexplain import DKNNImportance, LabelFreeAttributor
from sklexplain.datasets import load_ecg5000
from sklexplain.metrics import latent_shift_curve, similarity_rate
from sklexplain.nets import Autoencoder

from .._runner import Benchmark, Option
from ..common import MnistAutoencoder, gradient_shap, load_digits_28x28, rounded
from ._label_free_consistency_page import (
    ALL_METHODS,
    DATASETS,
    FRACTIONS,
    KERNELS,
    METHODS,
    OWN_METHODS,
    render,
    spread,
)

N_RANDOM = 10  # random orders that a curve is compared with


def train_test(dataset, purpose, rng):
    """Return X_train, y_train, X_test, y_test as the paper splits them.

    ECG5000: for features, normal beats train and abnormal ones are explained; for examples, all
    beats are split at random. Labels are normal or not. MNIST: 8,000 and 2,000 digits at random.
    """
    if dataset == "mnist":
        X, y = load_digits_28x28()
        n_train = 8000
    else:
        X, y = load_ecg5000(return_X_y=True)
        y = (y == 1).astype(np.int64)
        if purpose == "features":
            return X[y == 1], y[y == 1], X[y == 0], y[y == 0]
        n_train = 4000
    order = rng.permutation(len(X))
    train, test = order[:n_train], order[n_train:]
    return X[train], y[train], X[test], y[test]


def train_encoder(dataset, purpose, X, seed, args):
    """Train the paper's autoencoder, with fewer epochs."""
    common = {"validation_split": 0.1, "patience": 10, "random_state": seed}
    with warnings.catch_warnings():
        # The number of epochs is a setting here, and written into the results.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if dataset == "mnist":
            return Autoencoder(
                MnistAutoencoder,
                n_components=4,
                pretext="denoising",
                noise_std=0.3,
                weight_decay=1e-5,
                max_epochs=args.epochs_mnist,
                **common,
            ).fit(X)
        return Autoencoder(
            "lstm",
            n_components=args.units_ecg,
            loss="absolute_error",
            batch_size=args.batch_size_ecg,
            max_epochs=args.epochs_ecg if purpose == "features" else args.epochs_ecg_examples,
            **common,
        ).fit(X)


def feature_check(dataset, encoder, data, seed, args, methods=None):
    """Latent-shift curves of every method on a sample of the test set, for one seed."""
    rng = np.random.RandomState(seed)
    X_train, _, X_test, _ = data
    n_explained = args.n_explained_mnist if dataset == "mnist" else args.n_explained_ecg
    X = X_test[rng.permutation(len(X_test))[:n_explained]]
    result = _training(encoder, X_test) | {"methods": {}}
    # The paper's baseline is black for digits, the mean normal beat for heartbeats, and it masks
    # with it. A score masks with the mean; for digits both masks are looked at.
    baseline = "zeros" if dataset == "mnist" else "mean"
    for method in ALL_METHODS if methods is None else methods:
        for center in (False, True):
            attributor = LabelFreeAttributor(
                encoder,
                method="gradient_shap" if method in OWN_METHODS else method,
                baseline=baseline,
                center=center,
                random_state=seed,
            ).fit(X_train)
            start = time.perf_counter()
            if method in OWN_METHODS:
                attributions = gradient_shap(
                    encoder.net_.module_.eval().encode,
                    X.astype(np.float32),
                    seed,
                    aligned=OWN_METHODS[method],
                    baseline=attributor.baseline_,
                    center=center,
                )
            else:
                attributions = attributor.transform(X)
            seconds = time.perf_counter() - start
            curve = _curve(attributor, encoder, X, attributions, attributor.mean_)
            entry = _summary_of(curve) | {"seconds": round(seconds, 3)}
            if dataset == "mnist":
                black = _curve(attributor, encoder, X, attributions, 0.0)
                entry["area_ratio_black_mask"] = rounded(black.area_ratio)
            result["methods"].setdefault(method, {})[_center(center)] = entry
    result |= {
        "fractions": rounded(curve.fractions),
        "random": rounded(curve.random),
        "random_std": rounded(curve.random_std),
        "random_area": rounded(trapezoid(curve.random, curve.fractions)),
    }
    return result


def _curve(attributor, encoder, X, attributions, mask_value):
    """As `LabelFreeAttributor.latent_shift`, without computing the attributions again."""
    return latent_shift_curve(
        encoder.transform,
        X,
        attributions,
        mask_value=mask_value,
        channel_axis=0 if X.ndim == 4 else None,
        n_random=N_RANDOM,
        random_state=attributor.seed_,
    )


def _summary_of(curve):
    return {
        "area_ratio": rounded(curve.area_ratio),
        "separation": rounded(curve.separation),
        "most": rounded(curve.most),
        "least": rounded(curve.least),
    }


def _training(encoder, X_test):
    return {
        "n_epochs": encoder.n_epochs_,
        "n_components": encoder.n_components,
        "validation_loss": rounded(min(encoder.validation_loss_curve_)),
        "r2_explained_set": rounded(encoder.score(X_test)),
    }


def _center(center):
    return "centered" if center else "paper"


def example_check(dataset, encoder, data, seed, args):
    """Similarity rates of the most and least important examples, for one seed."""
    rng = np.random.RandomState(seed)
    X_train, y_train, X_test, y_test = data
    corpus = rng.permutation(len(X_train))[: args.n_examples]
    queries = rng.permutation(len(X_test))[: args.n_examples]
    y_corpus, y_queries = y_train[corpus], y_test[queries]
    sizes = [max(1, int(np.ceil(f * len(corpus)))) for f in FRACTIONS]
    result = _training(encoder, X_test) | {"n_top": sizes, "kernels": {}}
    for kernel in KERNELS:
        dknn = DKNNImportance(encoder, kernel=kernel, random_state=seed).fit(X_train[corpus])
        importance = dknn.transform(X_test[queries])
        result["kernels"][kernel] = {
            "most": rounded(similarity_rate(importance, y_queries, y_corpus, n_top=sizes)),
            "least": rounded(
                similarity_rate(importance, y_queries, y_corpus, n_top=sizes, least=True)
            ),
        }
    # What examples drawn at random would give.
    result["prior"] = rounded((y_queries[:, None] == y_corpus).mean())
    return result


CHECKS = {"features": feature_check, "examples": example_check}


def run_one(dataset, seed, args):
    """Run both checks with one seed, single-threaded: runs go side by side."""
    torch.set_num_threads(1)
    results = {}
    encoder = None
    for name, check in CHECKS.items():
        start = time.perf_counter()
        if encoder is None or dataset == "ecg5000":  # one encoder of digits serves both
            data = train_test(dataset, name, np.random.RandomState(seed))
            data = [a[: args.n_train] for a in data]
            encoder = train_encoder(dataset, name, data[0], seed, args)
        results[name] = check(dataset, encoder, data, seed, args)
        results[name]["minutes"] = round((time.perf_counter() - start) / 60, 2)
    return dataset, seed, results


def run_methods(dataset, seed, args, methods):
    """Score more methods of features, with the encoder of that seed trained again."""
    torch.set_num_threads(1)
    data = train_test(dataset, "features", np.random.RandomState(seed))
    data = [a[: args.n_train] for a in data]
    encoder = train_encoder(dataset, "features", data[0], seed, args)
    return dataset, seed, feature_check(dataset, encoder, data, seed, args, methods)


def summarize(results):
    """Mean, standard deviation and smallest value over seeds, into the results."""
    results["datasets"] = {d: results["datasets"][d] for d in DATASETS if d in results["datasets"]}
    for dataset in results["datasets"].values():
        if dataset.get("features"):
            dataset["features_summary"] = _feature_summary(list(dataset["features"].values()))
        if dataset.get("compared"):
            dataset["compared_summary"] = _feature_summary(list(dataset["compared"].values()))
        if dataset.get("examples"):
            dataset["examples_summary"] = _example_summary(list(dataset["examples"].values()))


def _feature_summary(seeds):
    summary = {}
    for center in ("paper", "centered"):
        rows = {m: [s["methods"][m][center] for s in seeds] for m in seeds[0]["methods"]}
        summary[center] = {
            method: {
                key: spread([entry[key] for entry in entries])
                for key in ("area_ratio", "separation", "area_ratio_black_mask")
                if key in entries[0]
            }
            for method, entries in rows.items()
        }
        # By how much, with each seed.
        ratios = {m: np.array([e["area_ratio"] for e in entries]) for m, entries in rows.items()}
        summary[center]["integrated_gradients_above"] = {
            m: rounded(ratios["integrated_gradients"] - ratio) for m, ratio in ratios.items()
        }
    pairs = [m for s in seeds for name, m in s["methods"].items() if name in METHODS]
    summary["centering_raises_score"] = {
        "times": sum(m["centered"]["area_ratio"] > m["paper"]["area_ratio"] for m in pairs),
        "of": len(pairs),
    }
    # At most this: the points of a curve are taken as fully correlated.
    errors = [trapezoid(s["random_std"], s["fractions"]) / s["random_area"] for s in seeds]
    summary["random_standard_error"] = rounded(np.mean(errors) / np.sqrt(N_RANDOM))
    return summary


def _example_summary(seeds):
    summary = {"prior": spread([s["prior"] for s in seeds])}
    for kernel in seeds[0]["kernels"]:
        summary[kernel] = {
            side: [spread(v) for v in zip(*(s["kernels"][kernel][side] for s in seeds))]  # noqa: B905
            for side in ("most", "least")
        }
    return summary


def compare_methods(args, results, save):
    """Score some methods only, with encoders that are trained again, beside the other results."""
    tasks = [(dataset, seed) for dataset in args.datasets for seed in args.seeds]
    runs = Parallel(n_jobs=args.n_jobs, return_as="generator_unordered")(
        delayed(run_methods)(*task, args, args.compare) for task in tasks
    )
    for dataset, seed, check in runs:
        results["datasets"][dataset].setdefault("compared", {})[str(seed)] = check
        save()


def measure(args, results, save):
    if args.compare:
        compare_methods(args, results, save)
        return
    datasets, settings = results.setdefault("datasets", {}), results["settings"]
    settings["seeds"] = sorted({*settings.get("seeds", []), *args.seeds})
    tasks = [
        (dataset, seed)
        for seed in args.seeds
        for dataset in args.datasets
        if str(seed) not in datasets.get(dataset, {}).get("examples", {})
    ]
    runs = Parallel(n_jobs=args.n_jobs, return_as="generator_unordered")(
        delayed(run_one)(*task, args) for task in tasks
    )
    for dataset, seed, checks in runs:
        minutes = {name: check["minutes"] for name, check in checks.items()}
        print(f"{dataset}, seed {seed}: minutes {minutes}", flush=True)
        for name, check in checks.items():
            datasets.setdefault(dataset, {}).setdefault(name, {})[str(seed)] = check
        save()


BENCHMARK = Benchmark(
    section="label-free consistency",
    page="label_free.md",
    measure=measure,
    summarize=summarize,
    render=render,
    settings={
        "epochs_mnist": 20,
        "epochs_ecg": 30,
        "epochs_ecg_examples": 20,
        "batch_size_ecg": 8,
        "units_ecg": 16,
        "n_explained_mnist": 100,
        "n_explained_ecg": 50,
        "n_examples": Option(1000, "training, and test, samples"),
        "n_train": Option(None, "and test, at most; for short tests", type=int),
    },
    options={
        "seeds": [0, 1, 2],
        "datasets": Option(list(DATASETS), choices=DATASETS),
        "n_jobs": 2,
        "compare": Option([], "score only these, beside the rest", choices=ALL_METHODS),
    },
    fixed={"example_fractions": FRACTIONS, "methods": METHODS},
    smoke={
        "epochs_mnist": 1,
        "epochs_ecg": 1,
        "epochs_ecg_examples": 1,
        "units_ecg": 2,
        "n_explained_mnist": 1,
        "n_explained_ecg": 1,
        "n_examples": 16,
        "n_train": 32,
        "seeds": [0],
        "n_jobs": 1,
    },
)
