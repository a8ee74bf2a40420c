"""SimplExImportance beside gradient descent on the softmax form of the same problem.

The softmax form has free numbers whose softmax is the weights, and takes 1000 Adam steps with a
learning rate of 1e-3, all queries at once, in 32-bit floats: the usual way to fit such weights.
Both minimise the same function of the weights, once without and once with the locality term. Ours
is all that a user pays for ``transform(X)``, validation and the encoder included, after a ``fit``
that is not timed; the softmax form gets the latents for nothing. They take turns in one process.

The excess is what the function is above its minimum, in float64, where the minimum is that of our
solver at a tolerance of 1e-13 less its duality gap: a lower bound of what any weights reach.
"""

import time
import warnings
from itertools import product

import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import FunctionTransformer

from sklexplain import SimplExImportance
from sklexplain.datasets import load_ecg5000
from sklexplain.nets import Autoencoder

from .._runner import Benchmark, Option
from ..common import markdown_table, rounded

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


def wide(n_train, n_query, n_units, epochs):
    """Wide latents of eight dimensions and a little noise, as those of large networks are."""
    rng = np.random.RandomState(0)
    basis = rng.standard_normal((8, n_units)) / 3
    X = rng.standard_normal((n_train + n_query, 8)) @ basis
    X += 0.02 * rng.standard_normal(X.shape)
    return FunctionTransformer().fit(X), X[:n_train], X[n_train:]


DATA = {"normal": normal, "ecg_mlp": beats, "wide": wide}
WIDE = 768


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
    squares = np.stack([np.sum((one - corpus) ** 2, axis=1) for one in z])
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


def measure(args, results, save):
    results["targets"] = TARGETS
    pieces = [piece for piece in product(args.data, args.n_units) if piece[0] != "wide"]
    if "wide" in args.data:
        pieces.append(("wide", max(args.n_units) if args.smoke else WIDE))
    for name, n_units in pieces:
        data = DATA[name](args.n_train, args.n_query, n_units, args.epochs)
        place = results.setdefault("speed", {}).setdefault(name, {}).setdefault(str(n_units), {})
        for locality in LOCALITIES:
            place[f"locality={locality:g}"] = compare(data, locality, args)
            save()


def render(results):
    """Return the section as Markdown."""
    settings, machine = results["settings"], results["environment"]
    header = ["problem", "ours, ms", "softmax, ms", "ratio"]
    header += ["excess of ours", "of the softmax form", "ratio"]
    rows = []
    for name, by_units in results["speed"].items():
        for n_units, by_locality in by_units.items():
            for locality, entry in by_locality.items():
                times = [entry[f"{who}_seconds"] for who in ("ours", "softmax")]
                keys = ("ours_excess_over_variance", "softmax_excess_over_variance")
                rows.append(
                    [
                        f"{name}, {n_units} units, {locality}",
                        *[f"{1000 * seconds:.0f}" for seconds in times],
                        entry["seconds_ratio"],
                        *[f"{entry[key]:.1e}" for key in (*keys, "excess_ratio")],
                    ]
                )
    return "\n\n".join(
        [
            "## Speed of SimplEx",
            f"Weights of {settings['n_train']} examples for {settings['n_query']} queries, beside "
            f"{settings['n_steps']} Adam steps (learning rate {settings['learning_rate']:g}) on "
            "numbers whose softmax is the weights. Both minimise the same function; *excess* is "
            "what it is above a lower bound of its minimum, over the variance of the codes. Ours "
            "includes validation and the encoder, the softmax form is given the codes. Medians of "
            f"{settings['n_repeats']} turns; {machine['processor']}, {machine['torch_threads']} "
            f"thread(s), torch {machine['torch']}. Made by `benchmarks/speed/simplex.py`.",
            markdown_table(header, rows),
        ]
    )


BENCHMARK = Benchmark(
    section="speed of SimplEx",
    page="speed.md",
    measure=measure,
    render=render,
    settings={"n_train": 1000, "n_query": 100, "n_steps": 1000, "n_repeats": 5, "epochs": 20},
    options={"data": Option(list(DATA), choices=DATA), "n_units": [4, 16, 64]},
    fixed={"learning_rate": LEARNING_RATE},
    smoke={
        "n_train": 40,
        "n_query": 5,
        "n_steps": 5,
        "n_repeats": 1,
        "epochs": 1,
        "n_units": [3],
    },
    resume=False,
)
