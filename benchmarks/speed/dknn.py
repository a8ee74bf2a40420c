"""DKNN example importance beside scikit-learn's nearest neighbours of the same latents.

Both start from the samples: latents are computed by the same encoder, a small dense one, so that
the search is most of the work. The k nearest of every query (``top_examples``, and a sparse
``transform``) are compared with ``NearestNeighbors(algorithm="brute")``; a dense ``transform``, an
importance of every training example, with ``pairwise_distances``.

    python benchmarks/speed/dknn.py

prints the medians and writes ``benchmarks/speed/results/dknn.json``.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

from sklexplain import DKNNImportance

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import ROOT, environment, markdown_table, side_by_side, write_json  # noqa: E402

N_UNITS = 32
K = 10


def tasks(n_train, n_query):
    """Return the tasks by name: (ours, scikit-learn's), functions of nothing."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((n_train + n_query, 2 * N_UNITS))
    X_train, X_query = X[:n_train], X[n_train:]
    pca = PCA(n_components=N_UNITS, random_state=0).fit(X_train)
    dense = DKNNImportance(pca).fit(X_train)
    sparse = DKNNImportance(pca, n_neighbors=K).fit(X_train)
    latents = pca.transform(X_train)
    search = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(latents)
    return {
        "top_examples": (
            lambda: dense.top_examples(X_query, K),
            lambda: search.kneighbors(pca.transform(X_query)),
        ),
        "top_examples, n_neighbors": (
            lambda: sparse.top_examples(X_query, K),
            lambda: search.kneighbors(pca.transform(X_query)),
        ),
        "transform, sparse": (
            lambda: sparse.transform(X_query),
            lambda: search.kneighbors_graph(pca.transform(X_query), mode="distance"),
        ),
        "transform, dense": (
            lambda: dense.transform(X_query),
            lambda: pairwise_distances(pca.transform(X_query), latents),
        ),
    }


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-train", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--n-query", type=int, default=1000)
    parser.add_argument("--n-repeats", type=int, default=7)
    parser.add_argument("--smoke", action="store_true", help="a tiny run that says nothing")
    parser.add_argument("--out", type=Path, help="results file (JSON)")
    args = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp()) if args.smoke else ROOT
    args.out = args.out or folder / "benchmarks/speed/results/dknn.json"
    if args.smoke:
        args.n_train, args.n_query, args.n_repeats = [60], 20, 2
    return args


def main(argv=None):
    args = parse_args(argv)
    settings = {"n_units": N_UNITS, "k": K, "n_query": args.n_query, "n_repeats": args.n_repeats}
    results = {"settings": settings, "environment": environment(), "speed": {}}
    rows = []
    for n_train in args.n_train:
        for name, functions in tasks(n_train, args.n_query).items():
            entry = side_by_side(*functions, args.n_repeats)
            results["speed"].setdefault(name, {})[str(n_train)] = entry
            milliseconds = [
                f"{1000 * entry[key]:.1f}" for key in ("ours_seconds", "theirs_seconds")
            ]
            rows.append([name, n_train, *milliseconds, entry["ratio"], entry["cpu_ratio"]])
    header = ["task", "n_train", "ours ms", "scikit-learn ms", "ratio", "ratio of processor time"]
    print(markdown_table(header, rows))
    write_json(args.out, results)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
