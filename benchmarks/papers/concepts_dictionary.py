"""What `SparseDictionary` finds: planted dictionaries, and heartbeats beside PCA and NMF."""

import time
from functools import partial

import numpy as np
from sklearn.decomposition import NMF, PCA
from sklearn.metrics import r2_score
from torch import nn

from sklexplain import SparseDictionary
from sklexplain.datasets import load_ecg5000
from sklexplain.nets import Autoencoder

from .._runner import Benchmark, Option, complete
from ..common import markdown_table, rounded

N_DIRECTIONS, N_ACTIVE, NOISE, K = 64, 4, 0.05, 8
# Units of the layer, and numbers of concepts.
PLANTED = ((32, 64), (48, 64), (64, 64), (32, 128))
LAYERS = ("encoder.relu0", "encoder.relu1")


def planted(n_samples, n_units, seed):
    """Sums of few of 64 directions with coefficients between .5 and 1.5, and noise."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(N_DIRECTIONS, n_units))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    codes = np.zeros((n_samples, N_DIRECTIONS))
    for row in codes:
        chosen = rng.choice(N_DIRECTIONS, N_ACTIVE, replace=False)
        row[chosen] = rng.uniform(0.5, 1.5, N_ACTIVE)
    X = codes @ directions + NOISE * rng.normal(size=(n_samples, n_units))
    return directions, X.astype(np.float32)


def found_in_planted(args, n_units, n_concepts, seed):
    directions, X = planted(args.n_planted, n_units, seed)
    net = nn.Sequential(nn.Identity(), nn.Linear(n_units, 2))
    start = time.process_time()
    dictionary = SparseDictionary(
        net, layer="0", n_concepts=n_concepts, k=N_ACTIVE, max_epochs=args.max_epochs,
        random_state=seed,
    ).fit(X)  # fmt: skip
    seconds = time.process_time() - start
    cosines = (dictionary.components_ @ directions.T).max(axis=0)
    return {
        "cosine": rounded(cosines.mean()),
        "dead": rounded(dictionary.dead_fraction_),
        "cpu_seconds": rounded(seconds, 1),
    }


def found_in_heartbeats(args, seed):
    X = np.asarray(load_ecg5000()["data"], np.float32)
    X = X[np.random.RandomState(seed).permutation(len(X))]
    train, test = X[: args.n_train], X[args.n_train :][: args.n_test]
    # No early stopping: the same number of passes for every seed.
    options = {"max_epochs": args.autoencoder_epochs, "validation_split": None}
    net = Autoencoder(n_components=8, random_state=seed, **options).fit(train)
    found = {}
    for layer in LAYERS:
        for n_concepts in args.n_concepts:
            dictionary = SparseDictionary(
                net, layer=layer, n_concepts=n_concepts, k=K, max_epochs=args.max_epochs,
                random_state=seed,
            ).fit(train)  # fmt: skip
            found.setdefault(layer, {})[f"dictionary of {n_concepts}"] = {
                "r2": rounded(dictionary.score(test)),
                "dead": rounded(dictionary.dead_fraction_),
                "n_used": rounded((dictionary.transform(test) > 0).sum(axis=1).mean(), 2),
            }
        with dictionary._door(train) as inputs, dictionary._door(test) as others:
            z, z_test = dictionary._activations(inputs), dictionary._activations(others)
        for model in (PCA(K), NMF(K, init="nndsvda", max_iter=2000)):
            rebuilt = model.fit(z).inverse_transform(model.transform(z_test))
            r2 = r2_score(z_test, rebuilt, multioutput="variance_weighted")
            found[layer][type(model).__name__] = {"r2": rounded(r2)}
    return found


def _each(values, digits=3):
    return ", ".join(f"{value:.{digits}f}" for value in values)


def render(results):
    """Return the section as Markdown."""
    settings, environment = results["settings"], results["environment"]
    planted_rows = [
        [
            name,
            _each(found["cosine"] for found in seeds.values()),
            _each((100 * found["dead"] for found in seeds.values()), 1),
        ]
        for name, seeds in results["planted"].items()
    ]
    rows, beats = [], list(results["heartbeats"].values())
    for layer in LAYERS:
        for name in beats[0][layer]:
            found = [seed[layer][name] for seed in beats]
            dead = _each((100 * f["dead"] for f in found), 1) if "dead" in found[0] else "–"
            rows.append([layer, name, _each(f["r2"] for f in found), dead])
    text = [
        "## Dictionaries of concepts",
        f"`SparseDictionary` with its defaults. First, {settings['n_planted']} samples, each the "
        f"sum of {N_ACTIVE} of {N_DIRECTIONS} random directions with coefficients between 0.5 and "
        f"1.5, and noise of standard deviation {NOISE} in every unit: the largest cosine between "
        "each direction and a concept, averaged over directions, and the share of concepts that "
        "no training sample has, for each seed. Coefficients are positive: concepts are "
        "one-sided, and a direction that matters both ways takes two. More concepts than "
        "directions leave the rest dead.",
        markdown_table(["planted", "mean largest cosine", "dead, %"], planted_rows),
        f"Then two layers of an MLP autoencoder of heartbeats (128 and 64 units, ReLU; "
        f"{settings['n_train']} beats to learn from): R² on {settings['n_test']} beats held out, "
        f"k = {K}, beside PCA and NMF with {K} components, for each seed (a network and a split "
        f"of its own). A sample takes {K} numbers with each, but with a dictionary also which "
        "concepts they are of. Made by `benchmarks/papers/concepts_dictionary.py`; torch "
        f"{environment['torch']}.",
        markdown_table(["layer", "model", "R² held out", "dead, %"], rows),
    ]
    return "\n\n".join(text)


def measure(args, results, save):
    places = [results.setdefault(name, {}) for name in ("planted", "heartbeats")]
    seeds = range(args.n_seeds)
    for sizes in PLANTED:
        done = places[0].setdefault("{} units, {} concepts".format(*sizes), {})
        complete(done, {str(s): partial(found_in_planted, args, *sizes, s) for s in seeds}, save)
    complete(places[1], {str(s): partial(found_in_heartbeats, args, s) for s in seeds}, save)


BENCHMARK = Benchmark(
    section="dictionaries",
    page="dictionaries.md",
    measure=measure,
    render=render,
    settings={
        "n_planted": 10_000,
        "n_train": 3000,
        "n_test": 1000,
        "n_seeds": 3,
        "max_epochs": Option("auto", type=int),
        "autoencoder_epochs": 60,
        "n_concepts": [64, 256],
    },
    smoke={
        "n_planted": 40,
        "n_train": 40,
        "n_test": 10,
        "n_seeds": 1,
        "max_epochs": 2,
        "autoencoder_epochs": 2,
    },
)
