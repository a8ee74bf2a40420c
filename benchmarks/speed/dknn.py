"""DKNN example importance beside scikit-learn's nearest neighbours of the same latents.

Both start from the samples: latents are computed by the same encoder, a small dense one, so that
the search is most of the work. The k nearest of every query (``top_examples``, and a sparse
``transform``) are compared with ``NearestNeighbors(algorithm="brute")``; a dense ``transform``, an
importance of every training example, with ``pairwise_distances``.

    python benchmarks/speed/dknn.py

prints the medians and writes ``benchmarks/speed/results/dknn.json``.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

from sklexplain import DKNNImportance

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import ROOT, environment, markdown_table, side_by_side, write_json, write_section  # noqa: E402

N_UNITS = 32
K = 10
SECTION = "speed of DKNN"


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
    """Return the section of docs/results.md as Markdown."""
    settings, machine = results["settings"], results["environment"]
    return "\n\n".join(
        [
            "## Speed of DKNN",
            f"Importance for {settings['n_query']} queries, {settings['n_units']} latent units, "
            f"k = {settings['k']}, beside scikit-learn's brute-force `NearestNeighbors` (for the "
            "dense matrix, `pairwise_distances`) on the same latents. Ours also applies the "
            "kernel, is exactly zero between duplicates, and breaks ties by position. Made by "
            f"`benchmarks/speed/dknn.py`. Medians of {settings['n_repeats']} turns; "
            f"{machine['processor']}, {machine['n_cores']} cores, scikit-learn "
            f"{machine['scikit-learn']}.",
            table(results),
        ]
    )


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-train", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--n-query", type=int, default=1000)
    parser.add_argument("--n-repeats", type=int, default=7)
    parser.add_argument("--smoke", action="store_true", help="a tiny run that says nothing")
    parser.add_argument("--out", type=Path, help="results file (JSON)")
    parser.add_argument("--docs", type=Path, help="page to write a section of (Markdown)")
    parser.add_argument("--render", action="store_true", help="only write the section again")
    args = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp()) if args.smoke else ROOT
    args.out = args.out or folder / "benchmarks/speed/results/dknn.json"
    if args.smoke:
        args.n_train, args.n_query, args.n_repeats = [60], 20, 2
    return args


def main(argv=None):
    args = parse_args(argv)
    if args.render:
        results = json.loads(args.out.read_text())
        write_section(args.docs or ROOT / "docs" / "results.md", SECTION, render(results))
        return
    settings = {"n_units": N_UNITS, "k": K, "n_query": args.n_query, "n_repeats": args.n_repeats}
    results = {"settings": settings, "environment": environment(), "speed": {}}
    for n_train in args.n_train:
        for name, functions in tasks(n_train, args.n_query).items():
            entry = side_by_side(*functions, args.n_repeats)
            results["speed"].setdefault(name, {})[str(n_train)] = entry
    print(table(results))
    write_json(args.out, results)
    print(f"wrote {args.out}")
    if args.docs:
        write_section(args.docs, SECTION, render(results))


if __name__ == "__main__":
    main()
