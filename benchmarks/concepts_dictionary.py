"""What `SparseDictionary` finds: planted dictionaries, and heartbeats beside PCA and NMF.

    python benchmarks/concepts_dictionary.py --docs docs/results.md

A run that is stopped goes on where it was when it is started again.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from common import ROOT, environment, markdown_table, rounded, write_json, write_section
from sklearn.decomposition import NMF, PCA
from sklearn.metrics import r2_score
from torch import nn

from sklexplain import SparseDictionary
from sklexplain.datasets import load_ecg5000
from sklexplain.nets import Autoencoder

SECTION = "dictionaries"
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


def compute(args, results):
    """Compute what is missing; write it down as soon as it is there."""
    for n_units, n_concepts in PLANTED:
        name = f"{n_units} units, {n_concepts} concepts"
        done = results["planted"].setdefault(name, {})
        for seed in range(args.n_seeds):
            if str(seed) not in done:
                done[str(seed)] = found_in_planted(args, n_units, n_concepts, seed)
                print(name, seed, done[str(seed)], flush=True)
                write_json(args.out, results)
    for seed in range(args.n_seeds):
        if str(seed) not in results["heartbeats"]:
            results["heartbeats"][str(seed)] = found_in_heartbeats(args, seed)
            print(seed, results["heartbeats"][str(seed)], flush=True)
            write_json(args.out, results)


def _each(values, digits=3):
    return ", ".join(f"{value:.{digits}f}" for value in values)


def render(results):
    """Return the section of docs/results.md as Markdown."""
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
        "concepts they are of. Made by `benchmarks/concepts_dictionary.py`; torch "
        f"{environment['torch']}.",
        markdown_table(["layer", "model", "R² held out", "dead, %"], rows),
    ]
    return "\n\n".join(text)


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-planted", type=int, default=10_000)
    parser.add_argument("--n-train", type=int, default=3000)
    parser.add_argument("--n-test", type=int, default=1000)
    parser.add_argument("--n-seeds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="a tiny run that says nothing")
    parser.add_argument("--out", type=Path, help="results file (JSON)")
    parser.add_argument("--docs", type=Path, help="page to write a section of (Markdown)")
    parser.add_argument("--render", action="store_true", help="only write the section again")
    args = parser.parse_args(argv)
    args.max_epochs, args.autoencoder_epochs, args.n_concepts = "auto", 60, [64, 256]
    folder = Path(tempfile.mkdtemp()) if args.smoke else ROOT
    args.out = args.out or folder / "benchmarks/papers/results/concepts_dictionary.json"
    if args.smoke:
        args.n_planted, args.n_train, args.n_test, args.n_seeds = 40, 40, 10, 1
        args.max_epochs, args.autoencoder_epochs = 2, 2
    return args


def main(argv=None):
    args = parse_args(argv)
    names = ("n_planted", "n_train", "n_test", "n_seeds", "max_epochs", "autoencoder_epochs")
    settings = {name: getattr(args, name) for name in names} | {"n_concepts": args.n_concepts}
    results = {
        "settings": settings,
        "environment": environment(),
        "planted": {},
        "heartbeats": {},
    }
    if args.out.exists():
        earlier = json.loads(args.out.read_text())
        if args.render or earlier["settings"] == settings:
            results = earlier
    if not args.render:
        compute(args, results)
        write_json(args.out, results)
    docs = args.docs or (ROOT / "docs" / "results.md" if args.render else None)
    if docs:
        write_section(docs, SECTION, render(results))


if __name__ == "__main__":
    main()
