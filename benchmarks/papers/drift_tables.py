"""Drift of tables: p-values of the noise score beside those of the reconstruction error.

An autoencoder learns a third of breast cancer's patients, both statistics are calibrated on another
third, and the columns of the last one get noise. Both p-values are those of split conformal
prediction, so that without drift a share of 5 % is at most 0.05.

Results go to ``results/drift_tables.json`` and into ``docs/results.md``; ``--render`` only writes
the section.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

from sklexplain import NoiseScorer
from sklexplain.nets import Autoencoder

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import ROOT, environment, markdown_table, rounded, write_json, write_section  # noqa: E402

SECTION = "drift of tables"
DRIFTS = {
    "none": lambda X, noise: X,
    "every column + 1 sd of noise": lambda X, noise: X + noise,
    "every column + 2 sd of noise": lambda X, noise: X + 2 * noise,
    "every column + 3 sd of noise": lambda X, noise: X + 3 * noise,
    "one column + 6 sd": lambda X, noise: X + 6 * (np.arange(X.shape[1]) == 0),
}


def conformal(usual, values):
    """P-values of values, from the usual ones of other samples."""
    return (1 + (usual[None] >= values[:, None]).sum(axis=1)) / (len(usual) + 1)


def run(seed, args):
    """Share of samples with p <= 0.05 and the mean relative drop, for every kind of drift."""
    rng = np.random.RandomState(seed)
    X = load_breast_cancer().data
    parts = np.array_split(rng.permutation(len(X)), 3)
    scaler = StandardScaler().fit(X[parts[0]])
    train, calibration, test = (scaler.transform(X[p]).astype(np.float32) for p in parts)
    test, noise = test[: args.n_samples], rng.normal(size=test[: args.n_samples].shape)
    net = Autoencoder(
        n_components=4, max_epochs=args.n_epochs, validation_split=None, random_state=seed
    )
    net.fit(train)
    scorer = NoiseScorer(net, random_state=seed).fit(calibration)

    def errors(Z):
        return np.square(Z - net.inverse_transform(net.transform(Z))).mean(axis=1)

    usual, found = errors(calibration), {}
    for name, drift in DRIFTS.items():
        drifted = drift(test, noise).astype(np.float32)
        shares = (scorer.drift_pvalue(drifted), conformal(usual, errors(drifted)))
        found[name] = {
            "noise score": rounded((shares[0] <= 0.05).mean(), 3),
            "reconstruction": rounded((shares[1] <= 0.05).mean(), 3),
            "drop": rounded(scorer.drift(drifted).mean(), 3),
        }
    return found


def render(results):
    """Write the section of docs/results.md."""
    runs, s = list(results["seeds"].values()), results["settings"]
    rows = []
    for name in DRIFTS:
        means = [
            np.mean([run[name][key] for run in runs])
            for key in ("noise score", "reconstruction", "drop")
        ]
        rows.append([name, *[f"{mean:.2f}" for mean in means]])
    header = [
        "drift",
        "`drift_pvalue` ≤ 0.05",
        "reconstruction error, p ≤ 0.05",
        "mean of `drift` (paper)",
    ]
    return "\n".join(
        [
            "## Drift of tables",
            "",
            "The paper's drift statistic is about digits. Here: breast cancer, standardised, "
            f"`Autoencoder(4)` trained for {s['n_epochs']} epochs on a third of the patients, "
            "calibrated on another third, the rest drifts; share of samples that are flagged, "
            f"means of {len(runs)} seeds. Made by `benchmarks/papers/drift_tables.py`; every seed "
            "is in `benchmarks/papers/results/drift_tables.json`.",
            "",
            markdown_table(header, rows),
            "",
            "On tables the noise score is no detector of drift: what it compares is where a layer "
            "looks, which noise in the columns changes little. The reconstruction error sees "
            "most of it, with p-values of the same kind.",
        ]
    )


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--n-epochs", type=int, default=200)
    parser.add_argument("--n-samples", type=int, default=150)
    parser.add_argument("--smoke", action="store_true", help="a tiny run that says nothing")
    parser.add_argument("--render", action="store_true", help="only write the section")
    parser.add_argument("--out", type=Path, help="results file (JSON)")
    parser.add_argument("--docs", type=Path, help="Markdown file with the section")
    args = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp()) if args.smoke else ROOT
    args.out = args.out or folder / "benchmarks/papers/results/drift_tables.json"
    args.docs = args.docs or folder / "docs/results.md"
    if args.smoke:
        args.seeds, args.n_epochs, args.n_samples = [0], 1, 4
    return args


def main(argv=None):
    args = parse_args(argv)
    if args.render:
        write_section(args.docs, SECTION, render(json.loads(args.out.read_text())))
        return
    settings = {"n_epochs": args.n_epochs, "n_samples": args.n_samples}
    results = {"settings": settings, "environment": environment(), "seeds": {}}
    for seed in args.seeds:
        results["seeds"][str(seed)] = run(seed, args)
        write_json(args.out, results)
    write_section(args.docs, SECTION, render(results))


if __name__ == "__main__":
    main()
