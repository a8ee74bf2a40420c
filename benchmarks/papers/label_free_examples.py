"""Example importance, and what pretext tasks change: figure 3 and tables 1, 2 of label-free XAI.

Crabbé & van der Schaar (2022). Section 4.1: how often the training examples that four methods call
important, or unimportant, have the label of the sample, on ECG5000 and MNIST. Section 4.2: how
alike the importance of pixels and of examples is between encoders trained for reconstruction,
denoising, inpainting and classification, beside encoders of one task that differ only in their
seed, and what an error in the paper's released code did to it.

With ``--cache FOLDER``, trained networks and slow importances are kept there, for later runs.
"""

import tempfile
from functools import partial
from itertools import combinations, product
from pathlib import Path

import joblib
import numpy as np
from scipy.stats import rankdata

from sklexplain import DKNNImportance, LabelFreeAttributor
from sklexplain.metrics import saliency_correlation, similarity_rate

from .._runner import Benchmark, Option, complete
from ..common import rounded
from . import _label_free_networks as networks
from ._label_free_consistency_page import FRACTIONS
from ._label_free_examples_page import FEW, LETTERS, WEIGHTS_ONLY, render
from ._label_free_networks import LOSS_BASED, TASKS

# -- figure 3 ----------------------------------------------------------------------------------


def importance(method, dataset, task, run, settings):
    """Return one importance matrix and its times; training is looked up in the cache."""
    network, data = trained(dataset, task, run, settings)
    # The absolute error that the heartbeats' network is trained with has no second derivatives.
    smooth = dataset == "ecg5000" and method == "influence"
    return networks.explain(method, network, data, networks.squared_error if smooth else None)


def trained(dataset, task, run, settings):
    """Return a network and its data."""
    memory = joblib.Memory(settings["cache"], verbose=0)
    n_train = settings["n_train"]
    if task == "untrained":
        return networks.untrained(run), networks.digits(settings["n_examples"], n_train)
    if dataset == "mnist":
        train = memory.cache(networks.train_digits)
        network = train(task, run, settings["epochs_mnist"], n_train)
        return network, networks.digits(settings["n_examples"], n_train)
    train = memory.cache(networks.train_heartbeats)
    network = train(run, settings["epochs_ecg"], settings["units_ecg"], n_train)
    return network, networks.heartbeats(run, settings["n_examples"], n_train)


def cached_importance(settings):
    return joblib.Memory(settings["cache"], verbose=0).cache(importance)


def _rates(matrix, y, y_corpus, ties=None):
    n = matrix.shape[1]
    sizes = [*FEW, *(max(1, int(np.ceil(f * n))) for f in FRACTIONS)]
    rate = partial(similarity_rate, matrix, y, y_corpus, n_top=sizes, ties=ties)
    return {"n_train": n, "most": rounded(rate()), "least": rounded(rate(least=True))}


def simplex_rates(matrix, network, data):
    """Rates of SimplEx: few examples have a weight, and the others are ranked by reduced cost."""
    labels = data["y_queries"], data["y_corpus"]
    cost = networks.reduced_cost(network, data)
    return {
        WEIGHTS_ONLY: _rates(matrix, *labels),
        "SimplEx": _rates(matrix, *labels, ties=-cost),
    }


def consistency(dataset, run, settings):
    """Similarity rates of every method, for one run."""
    task = "denoising" if dataset == "mnist" else None
    network, data = trained(dataset, task, run, settings)
    y, y_corpus = data["y_queries"], data["y_corpus"]
    result = {
        "n_epochs": network.n_epochs_,
        "n_checkpoints": len(networks.history_of(network).checkpoints_),
        "r2_queries": rounded(network.score(data["queries"])),
        "prior": rounded((y[:, None] == y_corpus).mean()),
        "methods": {},
    }
    for method in networks.METHODS:
        matrix, info = cached_importance(settings)(method, dataset, task, run, settings)
        n = matrix.shape[1]
        if method == "SimplEx":
            result["methods"].update(simplex_rates(matrix, network, data))
        else:
            result["methods"][method] = _rates(matrix, y, y_corpus[:n])
        result["methods"][method] |= {
            k: v if isinstance(v, str) else rounded(v, 7) for k, v in info.items()
        }
    stored = cached_importance(settings)("SimplEx", dataset, task, run, settings)[0].getnnz(axis=1)
    result["simplex_examples"] = rounded(stored.mean(), 2)
    return result


# -- tables 1 and 2 ----------------------------------------------------------------------------


def encoder_of(network):
    """Return the torch module of the encoder."""
    net = getattr(network, "net_", network)
    return net.module_.eval().encoder


def attributions(method, network, X_train, X):
    layer = None if hasattr(network, "net_") else "encoder"
    attributor = LabelFreeAttributor(
        network, layer=layer, method=method, baseline="zeros", random_state=0
    )
    return attributor.fit(X_train).transform(X)


def inverse_square(distance):
    return 1 / np.maximum(distance, 1e-6) ** 2


def nearest(network, data, *, kernel="inverse_distance", scale=1, ranks=False):
    layer = None if hasattr(network, "net_") else "encoder"
    dknn = DKNNImportance(network, layer=layer, kernel=kernel).fit(scale * data["corpus"])
    matrix = dknn.transform(scale * data["queries"])
    return rankdata(matrix).reshape(matrix.shape) if ranks else matrix


def feature_methods(settings):
    """Return functions from (task, run) to maps."""

    def shap(task, run, aligned):
        network, data = trained("mnist", task, run, settings)
        seed = len(LETTERS) * run + list(LETTERS).index(task)
        X = data["queries"][: settings["n_explained"]]
        return networks.gradient_shap(encoder_of(network), X, seed, aligned=aligned)

    def library(task, run, method):
        network, data = trained("mnist", task, run, settings)
        X = data["queries"][: settings["n_explained"]]
        return attributions(method, network, data["X_train"], X)

    return {
        "integrated gradients": partial(library, method="integrated_gradients"),
        "gradient SHAP": partial(library, method="gradient_shap"),
        "gradient SHAP, 5 draws": partial(shap, aligned=True),
        "gradient SHAP, 5 draws, mis-tiled": partial(shap, aligned=False),
    }


def example_methods(settings):
    """Return functions from (task, run) to matrices."""

    def dknn(task, run, **params):
        return nearest(*trained("mnist", task, run, settings), **params)

    def other(task, run, method):
        return cached_importance(settings)(method, "mnist", task, run, settings)[0]

    return {
        "DKNN": dknn,
        "DKNN, ranks": partial(dknn, ranks=True),
        "DKNN, inverse squared distance": partial(dknn, kernel=inverse_square),
        "DKNN, inverse squared distance, pixels 0 to 255": partial(
            dknn, kernel=inverse_square, scale=255
        ),
        **{m: partial(other, method=m) for m in ("SimplEx", *LOSS_BASED)},
    }


def pretext(runs, settings):
    """Yield correlations between all encoders, with one method more each time."""
    result = {"features": {}, "absolute features": {}, "examples": {}, "beside exact": {}}
    result["quality"] = {t: [quality(t, r, settings) for r in runs] for t in TASKS}
    exact = None
    for name, make in feature_methods(settings).items():
        maps = {(t, r): make(t, r) for t, r in product((*TASKS, "untrained"), runs)}
        exact = exact or maps
        result["features"][name] = correlations(maps)
        result["absolute features"][name] = correlations({k: abs(v) for k, v in maps.items()})
        result["beside exact"][name] = [
            rounded(saliency_correlation(maps[k], exact[k])) for k in maps if k[0] in TASKS
        ]
        yield result
    for name, make in example_methods(settings).items():
        tasks = TASKS[:-1] if name in LOSS_BASED else (*TASKS, "untrained")
        result["examples"][name] = correlations(
            {(t, r): make(t, r) for t, r in product(tasks, runs)}
        )
        yield result


def correlations(maps):
    """Pearson between encoders, by pair of tasks: of all pairs of runs."""
    pairs = {}
    for a, b in combinations(maps, 2):
        if a[0] != b[0] and "untrained" in (a[0], b[0]):
            continue
        key = f"{LETTERS[a[0]]}-{LETTERS[b[0]]}"
        pairs.setdefault(key, []).append(rounded(saliency_correlation(maps[a], maps[b])))
    return pairs


def quality(task, run, settings):
    """R² of the reconstruction, or accuracy, of the test digits looked at."""
    network, data = trained("mnist", task, run, settings)
    if task == "classification":
        return rounded(network.score(data["queries"], data["y_queries"]))
    return rounded(network.score(data["queries"]))


def measure(args, results, save):
    settings = {name: getattr(args, name) for name in ("n_examples", "n_train", "n_explained")}
    settings |= {name: getattr(args, name) for name in ("epochs_mnist", "epochs_ecg", "units_ecg")}
    settings["cache"] = str(args.cache or tempfile.mkdtemp())
    places = results.setdefault("consistency", {"ecg5000": {}, "mnist": {}})
    runs = {"ecg5000": args.runs_ecg, "mnist": args.runs_mnist}
    for run, dataset in product(range(max(runs.values())), runs):
        if run < runs[dataset]:
            task = partial(consistency, dataset, run, settings)
            if not args.only or f"{dataset} {run}" in args.only:
                complete(places[dataset], {str(run): task}, save)
    done = results.get("pretext", {}).get("examples", {})
    if not args.figure3 and len(done) < len(example_methods(settings)):
        for results["pretext"] in pretext(range(args.runs_mnist), settings):
            save()


BENCHMARK = Benchmark(
    section="label-free examples",
    page="label_free.md",
    measure=measure,
    render=render,
    settings={
        "runs_mnist": 3,
        "runs_ecg": 3,
        "epochs_mnist": 25,
        "epochs_ecg": 20,
        "units_ecg": 16,
        "n_examples": Option(1000, "training, and test, samples"),
        "n_train": Option(None, "at most; for short tests", type=int),
        "n_explained": Option(500, "digits whose pixels are explained"),
    },
    options={
        "cache": Option(None, "folder for networks and slow importances", type=Path),
        "figure3": Option(False, "only what figure 3 lacks, no tables"),
        "only": Option([], 'runs of figure 3 ("mnist 1"); none: all'),
    },
    smoke={
        "runs_mnist": 2,
        "runs_ecg": 1,
        "epochs_mnist": 1,
        "epochs_ecg": 1,
        "units_ecg": 2,
        "n_examples": 10,
        "n_train": 32,
        "n_explained": 10,
    },
    threads=1,
)
