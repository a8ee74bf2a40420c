"""Choose an autoencoder without labels: by the noise score, the variance score, or by R².

Every architecture is trained on the same samples with every seed. Without labels, each is scored on
held-out samples: by `NoiseScorer`, by `VarianceScorer` and by R² of the reconstruction, the natural
rival. With labels, each is judged by a linear probe: the accuracy, on the held-out samples, of a
logistic regression trained on the codes of the training samples. A score is good if it orders
architectures as the probe does (Spearman), and if the one it would choose is hardly worse than the
best (regret, in points of accuracy), set beside one chosen at random.
"""

import itertools
import time
import warnings

import numpy as np
from scipy.stats import spearmanr
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklexplain import NoiseScorer, VarianceScorer
from sklexplain.datasets import load_ecg5000
from sklexplain.nets import Autoencoder
from sklexplain.scores._functions import excess_over_benchmark

from .._runner import Benchmark, Option, complete
from ..common import markdown_table, rounded

SCORES = {
    "noise": "noise score",
    "hidden_noise": "noise score, hidden layers",
    "variance": "variance score",
    "hidden_variance": "variance score, hidden layers",
    "reconstruction": "R²",
}
NAMES = {
    "wine": "wine",
    "breast_cancer": "breast cancer",
    "ecg5000": "ECG5000",
    "digits": "digits (8 × 8)",
}


def grid(**axes):
    """All combinations, as dictionaries of parameters of `Autoencoder`."""
    names = list(axes)
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*axes.values())]


TABLES = grid(
    module=["mlp"],
    hidden_layer_sizes=[(16,), (32,), (128, 64)],
    n_components=[2, 4, 16],
    max_epochs=[1, 10, 40],
)
SERIES = [
    *grid(
        module=["mlp"],
        hidden_layer_sizes=[(32,), (128, 64)],
        n_components=[2, 8, 32],
        max_epochs=[1, 10, 40],
    ),
    *grid(
        module=["conv1d"],
        hidden_layer_sizes=[(8,), (16, 32)],
        n_components=[2, 8, 32],
        max_epochs=[1, 10, 40],
    ),
    *grid(module=["lstm"], n_components=[4, 16], max_epochs=[5]),
]


def load(name):
    """Samples, labels, and the architectures that are tried."""
    if name == "ecg5000":
        X, y = load_ecg5000(return_X_y=True)
        rows = np.random.RandomState(0).permutation(len(X))[:600]
        return X[rows], y[rows], SERIES
    loaders = {"digits": load_digits, "breast_cancer": load_breast_cancer, "wine": load_wine}
    X, y = loaders[name](return_X_y=True)
    return (X / 16 if name == "digits" else X), y, TABLES


def run(name, seed, args):
    """Train every architecture once, and score and judge it."""
    X, y, architectures = load(name)
    share = 1 / 3
    train, test, y_train, y_test = train_test_split(
        X, y, test_size=share, stratify=y, random_state=seed
    )
    if name in ("breast_cancer", "wine"):
        scaler = StandardScaler().fit(train)
        train, test = scaler.transform(train), scaler.transform(test)
    if args.smoke:
        architectures, train, y_train = (
            architectures[:: len(architectures) // 3],
            train[:90],
            y_train[:90],
        )
        architectures = [a | {"max_epochs": 1} for a in architectures]
    start, entries = time.process_time(), []
    for architecture in architectures:
        model = Autoencoder(**architecture, validation_split=None, random_state=seed)
        model.fit(train)
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
        probe.fit(model.transform(train), y_train)
        noise = NoiseScorer(model, random_state=seed).fit(test)
        variance = VarianceScorer(model).fit(test)
        curve, benchmark = noise.transform(test).mean(axis=0), noise.benchmark_
        entry = {
            "architecture": architecture,
            "accuracy": probe.score(model.transform(test), y_test),
            "noise": noise.score(test),
            "variance": variance.score(test),
            # The last layer is the code itself.
            "hidden_noise": excess_over_benchmark(curve[:-1], benchmark[:-1]),
            "hidden_variance": variance.transform(test)[:, :-1].mean(),
            "raw_noise": curve.mean(),
            "reconstruction": model.score(test),
        }
        entries.append({k: v if isinstance(v, dict) else rounded(v) for k, v in entry.items()})
    minutes = (time.process_time() - start) / 60
    return {"architectures": entries, "core_minutes": rounded(minutes, 2)}


# -- summary -----------------------------------------------------------------------------------


def judged(entries, score):
    """Spearman with the probe's accuracy, and the regret of choosing by a score.

    An architecture without a score, whose noise maps have collapsed, is left out of the correlation
    and not chosen; where none has a score, the choice is one at random.
    """
    accuracy = np.array([entry["accuracy"] for entry in entries])
    values = np.array([entry[score] for entry in entries])
    known = np.isfinite(values)
    constant = len({*values[known]}) < 2 or len({*accuracy[known]}) < 2
    chosen = accuracy[np.nanargmax(values)] if known.any() else accuracy.mean()
    return {
        "spearman": 0.0 if constant else spearmanr(values[known], accuracy[known]).statistic,
        "regret": 100 * (accuracy.max() - chosen),
        "random_regret": 100 * (accuracy.max() - accuracy.mean()),
    }


def longest(entries):
    """Keep those that were trained longest, of each module."""
    most = {}
    for entry in entries:
        module, epochs = (entry["architecture"][k] for k in ("module", "max_epochs"))
        most[module] = max(most.get(module, 0), epochs)
    return [
        entry
        for entry in entries
        if entry["architecture"]["max_epochs"] == most[entry["architecture"]["module"]]
    ]


def summarize(results):
    """Mean and range over seeds, for all architectures and for those trained longest."""
    results["summary"] = {}
    for name, runs in results["datasets"].items():
        place = results["summary"][name] = {}
        for part, select in (("all", list), ("longest", longest)):
            for score in (*SCORES, "raw_noise"):
                found = [judged(select(run["architectures"]), score) for run in runs.values()]
                place.setdefault(part, {})[score] = {
                    key: {
                        "mean": rounded(np.mean([f[key] for f in found]), 3),
                        "lowest": rounded(np.min([f[key] for f in found]), 3),
                        "highest": rounded(np.max([f[key] for f in found]), 3),
                    }
                    for key in found[0]
                }


def render(results):
    """Return the section as Markdown."""
    n_seeds = max(len(runs) for runs in results["datasets"].values())
    minutes = sum(
        run["core_minutes"] for runs in results["datasets"].values() for run in runs.values()
    )
    lines = [
        "## Choosing an autoencoder without labels",
        "",
        "How well scores that need no labels tell which architecture has the best code. Made by "
        "`benchmarks/papers/architecture_choice.py`: "
        f"{_counts(results)}; {n_seeds} seeds (split, weights), {minutes:.0f} core-minutes. Every "
        "autoencoder is trained on two thirds of the samples and scored on the rest, by "
        "`noise_scorer`, by `variance_scorer` (both at every layer of the encoder, or all but the "
        "code itself) and by R² of the reconstruction; the judge is a "
        "logistic regression on the code. *Spearman* is the rank correlation of a score with the "
        "judge's accuracy over architectures; *regret* is how many points of accuracy the one with "
        "the highest score lacks to the best. Means over seeds, lowest to highest in brackets.",
        "",
    ]
    titles = {
        "all": "### Architectures and numbers of epochs",
        "longest": "### Architectures only: those trained longest",
    }
    for part, title in titles.items():
        lines += [title, "", _table(results, part), ""]
    return "\n".join([*lines, *_verdict(results)])


def _counts(results):
    parts = []
    for name, runs in results["datasets"].items():
        n = len(next(iter(runs.values()))["architectures"])
        parts.append(f"{n} for {NAMES[name]}")
    return "architectures (module, widths, code, epochs): " + ", ".join(parts)


def _table(results, part):
    header = [
        f"{quantity}, {label}" for quantity in ("Spearman", "regret") for label in NAMES.values()
    ]
    rows = []
    for score, label in SCORES.items():
        row = [label]
        for key, digits in (("spearman", 2), ("regret", 1)):
            for name in NAMES:
                entry = results["summary"].get(name, {}).get(part, {}).get(score)
                row.append("" if entry is None else _spread(entry[key], digits))
        rows.append(row)
    random = ["at random", *[""] * len(NAMES)]
    for name in NAMES:
        entry = results["summary"].get(name, {}).get(part, {}).get("noise")
        random.append("" if entry is None else f"{entry['random_regret']['mean']:.1f}")
    return markdown_table(["chosen by", *header], [*rows, random])


def _spread(value, digits):
    low, high = value["lowest"], value["highest"]
    return f"{value['mean']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _verdict(results):
    """Say, from the numbers, where a score is better than chance and than its rival."""
    lines = []
    for score in [score for score in SCORES if score != "reconstruction"]:
        better, worse = [], []
        for name, summary in results["summary"].items():
            for part, label in (("all", "with epochs"), ("longest", "architectures only")):
                entry, rival = summary[part][score], summary[part]["reconstruction"]
                where = f"{NAMES[name]}, {label}"
                if entry["regret"]["mean"] >= entry["random_regret"]["mean"]:
                    worse.append(where)
                if entry["regret"]["mean"] < rival["regret"]["mean"]:
                    better.append(where)
        lines += [
            f"- Chosen by {SCORES[score]}: better than by R² (lower mean regret) in "
            f"{len(better)} of {2 * len(results['summary'])} comparisons"
            + (f" ({'; '.join(better)})" if better else "")
            + ", no better than at random in "
            + (f"{len(worse)} ({'; '.join(worse)})." if worse else "none.")
        ]
    smallest = [
        _smallest_code_chosen(run["architectures"])
        for runs in results["datasets"].values()
        for run in runs.values()
    ]
    lines.append(
        f"- The noise score chose one of the smallest codes in {sum(smallest)} of {len(smallest)} "
        "runs: the fewer positions a layer has, the more maps scaled to [0, 1] differ. Comparing "
        "codes of different lengths by it, at the code itself above all, is not sound."
    )
    n_lost, n, codes = _without_score(results)
    if n_lost:
        lines.append(
            f"- {n_lost} of {n} trained autoencoders have no noise score, as the maps of all noise "
            "inputs are the same at a layer, and are not chosen by it; their codes have "
            f"{', '.join(map(str, codes))} units."
        )
    raw = [
        f"{NAMES[name]} {s['all']['raw_noise']['spearman']['mean']:.2f}"
        for name, s in results["summary"].items()
    ]
    lines.append(
        "- The noise score without its benchmark, mean N, has these Spearman correlations over all "
        f"architectures: {', '.join(raw)}."
    )
    return lines


def _without_score(results):
    """Count the autoencoders without a noise score and all, and list the sizes of their codes."""
    lost, n = [], 0
    for runs in results["datasets"].values():
        for run in runs.values():
            n += len(run["architectures"])
            lost += [e["architecture"] for e in run["architectures"] if np.isnan(e["noise"])]
    return len(lost), n, sorted({architecture["n_components"] for architecture in lost})


def _smallest_code_chosen(entries):
    scored = [entry for entry in entries if not np.isnan(entry["noise"])]
    if not scored:
        return False
    chosen = max(scored, key=lambda entry: entry["noise"])
    sizes = [entry["architecture"]["n_components"] for entry in entries]
    return chosen["architecture"]["n_components"] == min(sizes)


def measure(args, results, save):
    for seed, name in itertools.product(args.seeds, args.datasets):
        place = results.setdefault("datasets", {}).setdefault(name, {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            complete(place, {str(seed): lambda n=name, s=seed: run(n, s, args)}, save)


BENCHMARK = Benchmark(
    section="architecture choice",
    page="embeddings_and_scores.md",
    measure=measure,
    summarize=summarize,
    render=render,
    options={"datasets": Option(list(NAMES), choices=NAMES), "seeds": [0, 1, 2]},
    fixed={"epochs": "in each architecture"},
    smoke={"datasets": ["ecg5000", "wine"], "seeds": [0]},
    threads=1,
)
