"""DKNN example importance beside scikit-learn's nearest neighbours of the same latents.

Both start from the samples: latents are computed by the same encoder, a small dense one, so that
the search is most of the work; and once more from the latents themselves, so that it is all of it.
The k nearest of every query (``top_examples``, and a sparse ``transform``) are compared with
``NearestNeighbors(algorithm="brute")``; a dense ``transform``, an importance of every training
example, with ``pairwise_distances``.
"""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import FunctionTransformer

from sklexplain import DKNNImportance

from .._runner import Benchmark
from ..common import markdown_table, side_by_side

N_UNITS = 32
K = 10


def tasks(n_train, n_query):
    """Return the tasks by name: (ours, scikit-learn's), functions of nothing."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((n_train + n_query, 2 * N_UNITS))
    pca = PCA(n_components=N_UNITS, random_state=0).fit(X[:n_train])
    codes = FunctionTransformer().fit(pca.transform(X[:n_train]))
    return {
        **_pairs(pca, X, n_train, ""),
        **_pairs(codes, pca.transform(X), n_train, ", codes given"),
    }


def _pairs(encoder, X, n_train, suffix):
    X_train, X_query = X[:n_train], X[n_train:]
    dense = DKNNImportance(encoder).fit(X_train)
    sparse = DKNNImportance(encoder, n_neighbors=K).fit(X_train)
    latents = encoder.transform(X_train)
    search = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(latents)
    return {
        f"top_examples{suffix}": (
            lambda: dense.top_examples(X_query, K),
            lambda: search.kneighbors(encoder.transform(X_query)),
        ),
        f"top_examples, n_neighbors{suffix}": (
            lambda: sparse.top_examples(X_query, K),
            lambda: search.kneighbors(encoder.transform(X_query)),
        ),
        f"transform, sparse{suffix}": (
            lambda: sparse.transform(X_query),
            lambda: search.kneighbors_graph(encoder.transform(X_query), mode="distance"),
        ),
        f"transform, dense{suffix}": (
            lambda: dense.transform(X_query),
            lambda: pairwise_distances(encoder.transform(X_query), latents),
        ),
    }


def table(results):
    header = ["task", "training examples", "ours, ms", "scikit-learn, ms", "ratio"]
    header += ["the same, processor time"]
    rows = []
    for name, sizes in results["speed"].items():
        for n_train, entry in sizes.items():
            times = [f"{1000 * entry[key]:.1f}" for key in ("ours_seconds", "theirs_seconds")]
            ratios = [f"{entry[key]:.2f}" for key in ("ratio", "cpu_ratio")]
            rows.append([name, n_train, *times, *ratios])
    return markdown_table(header, rows)


def render(results):
    """Return the section as Markdown."""
    settings, machine = results["settings"], results["environment"]
    return "\n\n".join(
        [
            "## Speed of DKNN",
            f"Importance for {settings['n_query']} queries, {settings['n_units']} latent units, "
            f"k = {settings['k']}, beside scikit-learn's brute-force `NearestNeighbors` (for the "
            "dense matrix, `pairwise_distances`) on the same latents, which each side computes "
            "first unless codes are given. Ours also applies the kernel, is exactly zero between "
            "duplicates, and breaks ties by position. Made by "
            f"`benchmarks/speed/dknn.py`. Medians of {settings['n_repeats']} turns; "
            f"{machine['processor']}, {machine['n_cores']} cores, scikit-learn "
            f"{machine['scikit-learn']}.",
            table(results),
        ]
    )


def measure(args, results, save):
    for n_train in args.n_train:
        for name, functions in tasks(n_train, args.n_query).items():
            entry = side_by_side(*functions, args.n_repeats)
            results.setdefault("speed", {}).setdefault(name, {})[str(n_train)] = entry


BENCHMARK = Benchmark(
    section="speed of DKNN",
    page="speed.md",
    measure=measure,
    render=render,
    settings={"n_train": [1000, 10000], "n_query": 1000, "n_repeats": 7},
    fixed={"n_units": N_UNITS, "k": K},
    smoke={"n_train": [60], "n_query": 20, "n_repeats": 2},
    resume=False,
)
