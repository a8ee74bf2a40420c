"""SimplExImportance beside gradient descent on the softmax form of the same problem.

The softmax form has free numbers whose softmax is the weights, and takes 1000 Adam steps with a
learning rate of 1e-3, all queries at once, in 32-bit floats: the usual way to fit such weights.
Both minimise the same function of the weights, once without and once with the locality term. Ours
is all that a user pays for ``transform(X)``, validation and the encoder included, after a ``fit``
that is not timed; the softmax form gets the latents for nothing. They take turns in one process.

The excess is what the function is above its minimum, in float64, where the minimum is that of our
solver at a tolerance of 1e-13 less its duality gap: a lower bound of what any weights reach.

    python benchmarks/speed/simplex.py

prints the medians and writes ``benchmarks/speed/results/simplex.json``.
"""

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator

from sklexplain import SimplExImportance
from sklexplain.datasets import load_ecg5000
from sklexplain.nets import Autoencoder

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import ROOT, environment, markdown_table, rounded, write_json  # noqa: E402

LOCALITIES = (0.0, 1e-2)
LEARNING_RATE = 1e-3
TARGETS = {"excess": 0.01, "seconds": 1.0}  # ours over the softmax form's


def normal(n_train, n_query, n_units, epochs):
    """Normal latents: a fitted rotation, the corpus, the queries."""
    X = np.random.RandomState(0).standard_normal((n_train + n_query, n_units))
    return PCA(random_state=0).fit(X), X[:n_train], X[n_train:]


def beats(n_train, n_query, n_units, epochs):
    """Heartbeats encoded by a dense autoencoder."""
    X = load_ecg5000(return_X_y=True)[0]
    X = X[np.random.RandomState(0).permutation(len(X))[: n_train + n_query]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        autoencoder = Autoencoder(
            n_components=n_units, max_epochs=epochs, validation_split=None, random_state=0
        ).fit(X[:n_train])
    return autoencoder, X[:n_train], X[n_train:]


DATA = {"normal": normal, "ecg_mlp": beats}


def softmax_adam(z, corpus, locality, n_steps):
    """Weights (b, n) by Adam on numbers whose softmax they are, from equal weights."""
    z, corpus = (torch.as_tensor(a, dtype=torch.float32) for a in (z, corpus))
    squares = torch.cdist(z, corpus) ** 2 if locality else None
    free = torch.zeros(len(z), len(corpus), requires_grad=True)
    optimizer = torch.optim.Adam([free], lr=LEARNING_RATE)
    for _ in range(n_steps):
        optimizer.zero_grad()
        w = torch.softmax(free, dim=1)
        loss = 0.5 * ((w @ corpus - z) ** 2).sum()
        if locality:
            loss = loss + 0.5 * locality * (w * squares).sum()
        loss.backward()
        optimizer.step()
    return torch.softmax(free.detach(), dim=1).numpy()


def objective(weights, z, corpus, locality):
    """F of every query, in float64: (b,)."""
    if sparse.issparse(weights):
        weights = weights.toarray()
    weights = weights.astype(np.float64)
    weights /= weights.sum(axis=1, keepdims=True)
    squares = np.sum((z[:, None] - corpus) ** 2, axis=2)
    closeness = np.sum((weights @ corpus - z) ** 2, axis=1)
    return 0.5 * closeness + 0.5 * locality * np.sum(weights * squares, axis=1)


def lower_bound(estimator, X_train, X_query, locality):
    """No weights have a smaller F: (b,)."""
    tight = SimplExImportance(estimator, locality=locality, tol=1e-13, max_iter=5000).fit(X_train)
    corpus = tight.embedding_
    with warnings.catch_warnings():
        # At worst the bound is a little lower than it could be.
        warnings.simplefilter("ignore", ConvergenceWarning)
        z, weights = latents(estimator, X_query), tight.transform(X_query)
        gap = tight.duality_gap(X_query) * np.sum((z - corpus.mean(axis=0)) ** 2, axis=1)
    return objective(weights, z, corpus, locality) - gap


def latents(estimator, X):
    return np.asarray(estimator.transform(X), dtype=np.float64)


def interleaved(functions, n_repeats):
    """Seconds of each function, in turns: (n_functions, n_repeats); and what each returned."""
    seconds = np.zeros((len(functions), n_repeats))
    for j in range(n_repeats):
        returned = []
        for i, function in enumerate(functions):
            start = time.perf_counter()
            returned.append(function())
            seconds[i, j] = time.perf_counter() - start
    return seconds, returned


def compare(data, locality, args):
    """Medians of times, and mean excesses."""
    estimator, X_train, X_query = data
    estimator = FrozenEstimator(estimator)
    explainer = SimplExImportance(estimator, locality=locality).fit(X_train)
    z, corpus = latents(estimator, X_query), explainer.embedding_
    explainer.transform(X_query[:2])
    softmax_adam(z[:2], corpus, locality, 2)
    functions = [
        lambda: explainer.transform(X_query),
        lambda: softmax_adam(z, corpus, locality, args.n_steps),
    ]
    seconds, weights = interleaved(functions, args.n_repeats)
    bound = lower_bound(estimator, X_train, X_query, locality)
    excess = np.stack([objective(w, z, corpus, locality) - bound for w in weights])
    variance = np.sum(corpus.var(axis=0))
    ours, theirs = seconds
    return {
        "ours_seconds": rounded(np.median(ours)),
        "softmax_seconds": rounded(np.median(theirs)),
        "seconds_ratio": rounded(np.median(ours / theirs), 4),
        "ours_excess_over_variance": float(f"{excess[0].mean() / variance:.3g}"),
        "softmax_excess_over_variance": float(f"{excess[1].mean() / variance:.3g}"),
        "excess_ratio": float(f"{excess[0].mean() / excess[1].mean():.3g}"),
        "worst_excess_ratio": float(f"{excess[0].max() / excess[1].mean():.3g}"),
        "worst_gap": float(f"{explainer.duality_gap(X_query).max():.3g}"),
        "examples_with_weight": rounded(np.diff(weights[0].indptr).mean(), 2),
    }


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--n-units", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--n-train", type=int, default=1000)
    parser.add_argument("--n-query", type=int, default=100)
    parser.add_argument("--n-steps", type=int, default=1000)
    parser.add_argument("--n-repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--smoke", action="store_true", help="a tiny run that says nothing")
    parser.add_argument("--out", type=Path, help="results file (JSON)")
    args = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp()) if args.smoke else ROOT
    args.out = args.out or folder / "benchmarks/speed/results/simplex.json"
    if args.smoke:
        args.n_units, args.n_train, args.n_query = [3], 40, 5
        args.n_steps, args.n_repeats, args.epochs = 5, 1, 1
    return args


def main(argv=None):
    args = parse_args(argv)
    names = ("n_train", "n_query", "n_steps", "n_repeats", "epochs")
    settings = {name: getattr(args, name) for name in names} | {"learning_rate": LEARNING_RATE}
    results = {"settings": settings, "environment": environment(), "targets": TARGETS, "speed": {}}
    rows = []
    for name in args.data:
        for n_units in args.n_units:
            data = DATA[name](args.n_train, args.n_query, n_units, args.epochs)
            for locality in LOCALITIES:
                entry = compare(data, locality, args)
                place = results["speed"].setdefault(name, {}).setdefault(str(n_units), {})
                place[f"locality={locality:g}"] = entry
                milliseconds = [
                    f"{1000 * entry[key]:.0f}" for key in ("ours_seconds", "softmax_seconds")
                ]
                keys = ("ours_excess_over_variance", "softmax_excess_over_variance")
                rows.append(
                    [
                        f"{name}, {n_units} units, locality {locality:g}",
                        *milliseconds,
                        entry["seconds_ratio"],
                        *[f"{entry[key]:.1e}" for key in keys],
                        f"{entry['excess_ratio']:.1e}",
                    ]
                )
                write_json(args.out, results)
    header = ["problem", "ours ms", "softmax ms", "ratio", "our excess", "softmax's", "ratio"]
    print(markdown_table(header, rows))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
