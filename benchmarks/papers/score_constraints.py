"""Score constraints in training: tables 2 and 3 of Bertolini, Clevert & Montanari.

An autoencoder with a linear class head is trained on 8,000 MNIST digits, without and with the noise
and the variance score in its loss, and its accuracy on 2,000 others is compared: paired by seed,
which determines the split, the initial weights and the order of the batches. And what an epoch
costs, beside one without scores.

With the paper's schedule the scores hardly move. A second part ("moved") has weights at which they
do, in every mini-batch and on all of its samples, with more seeds at one dimension, and says of
every run what its scores on held-out digits are. ``--parts moved --seeds 3 --rows 0 2`` is a piece
of it; results of pieces are merged by the keys of "moved".
"""

import time
from functools import partial
from itertools import product

import numpy as np
from scipy import stats
from skorch.callbacks import Callback

from sklexplain import NoiseScorer, VarianceScorer
from sklexplain.nets import Autoencoder

from .._runner import Benchmark, Option, complete
from ..common import ConstraintAutoencoder, load_digits_28x28, markdown_table, rounded

EPOCHS = {2: 20, 3: 15, 5: 10, 10: 5}
# (lambda of the noise score, of the variance score, mini-batches from one score to the next)
ROWS = [
    (0.0, 0.0, 20),
    (0.01, 0.0, 20),
    (0.1, 0.0, 20),
    (1.0, 0.0, 20),
    (0.0, 0.01, 20),
    (0.0, 0.1, 20),
    (0.0, 1.0, 20),
    (0.1, 0.1, 20),
]
MORE_ROWS = [(1.0, 0.0, 1), (0.0, 1.0, 1)]  # not in the paper
# (lambda of the noise score, of the variance score), in every mini-batch, the first without
MOVED_ROWS = [(0.0, 0.0), (0.1, 0.0), (1.0, 0.0), (0.0, 0.1), (0.0, 1.0), (1.0, 1.0)]
MOVED_DIM = 3
LAYER = "4"  # of the encoder: the second convolution, whose scores are constrained
N_SCORED = 500  # held-out digits whose scores are measured
PAPER = {  # accuracy in percent, and its standard deviation over 4 runs
    (0.0, 0.0): ["88.3 ± 0.7", "93.74 ± 0.3", "97.2 ± 0.2", "97.7 ± 0.2"],
    (0.01, 0.0): ["89.1 ± 0.5", "94.3 ± 0.4", "97.4 ± 0.1", "97.8 ± 0.2"],
    (0.1, 0.0): ["87.8 ± 0.0", "94.3 ± 0.2", "97.1 ± 0.3", "97.8 ± 0.3"],
    (1.0, 0.0): ["89.3 ± 0.5", "95.1 ± 0.5", "97.3 ± 0.1", "97.9 ± 0.1"],
    (0.0, 0.01): ["88.6 ± 0.9", "94.8 ± 0.8", "97.6 ± 0.1", "98.0 ± 0.2"],
    (0.0, 0.1): ["88.5 ± 1.0", "94.5 ± 0.7", "97.4 ± 0.2", "98.0 ± 0.2"],
    (0.0, 1.0): ["88.7 ± 0.9", "94.7 ± 0.6", "97.5 ± 0.2", "97.8 ± 0.2"],
    (0.1, 0.1): ["88.5 ± 2.1", "94.6 ± 0.8", "97.4 ± 0.2", "97.8 ± 0.2"],
}
PAPER_SECONDS = {  # an epoch, at dimensions 2, 3, 5, 10
    "plain": [12, 12, 12, 12],
    "V": [18, 18, 19, 22],
    "N": [134, 225, 483, 1569],
    "N + V": [135, 222, 500, 1567],
}


class Stopwatch(Callback):
    """Processor seconds of every training epoch."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.seconds_ = []

    def on_epoch_begin(self, net, **kwargs):
        self._start = time.process_time()

    def on_epoch_end(self, net, **kwargs):
        self.seconds_.append(time.process_time() - self._start)


def train(dim, row, seed, data, args, n_score_samples=8, held_out=False):
    """Train one network; return its accuracy, what an epoch cost, and its scores."""
    X, y = data
    order = np.random.RandomState(seed).permutation(len(X))
    train, test = order[: args.n_train], order[args.n_train :][: args.n_test]
    lambda_noise, lambda_variance, every = row
    watch = Stopwatch()
    net = Autoencoder(
        ConstraintAutoencoder,
        n_components=dim,
        lambda_class=1.0,
        lambda_noise=lambda_noise,
        lambda_variance=lambda_variance,
        score_every=every,
        n_score_samples=n_score_samples,
        lr=1e-3,
        batch_size=64,
        validation_split=None,
        max_epochs=args.epochs or EPOCHS[dim],
        random_state=seed,
        net_params={"callbacks": [watch]},
    ).fit(X[train], y[train])
    history = net.net_.history[-1]
    scores = held_out_scores(net, X[test[:N_SCORED]]) if held_out else {}
    return {
        "dim": dim,
        "lambda_noise": lambda_noise,
        "lambda_variance": lambda_variance,
        "score_every": every,
        "seed": seed,
        "accuracy": net.score(X[test], y[test]),
        "seconds_per_epoch": rounded(np.median(watch.seconds_), 4),
        "train_loss": rounded(history["train_loss"]),
        **{k: rounded(history[k]) for k in ("noise_score", "variance_score") if k in history},
        **scores,
    }


def held_out_scores(net, X):
    """Mean N and V of samples that were not trained on, by what training constrains."""
    encoder = net.net_.module_.encoder
    noise = NoiseScorer(encoder, layers=[LAYER], noise="unit", random_state=0).fit(X)
    variance = VarianceScorer(encoder, layers=[LAYER]).fit(X)
    found = {"N": noise.transform(X), "V": variance.transform(X)}
    return {f"held_out_{name}": rounded(values.mean()) for name, values in found.items()}


def _row(run):
    return run["lambda_noise"], run["lambda_variance"], run["score_every"]


def summarize(results):
    """Compare every row with that without scores, seed by seed; and the paper's with its first."""
    results["of_the_paper"] = of_the_paper()
    results["moved_summary"] = moved_summary(results.get("moved", {}))
    runs = results.get("runs", [])
    table = {(run["dim"], _row(run), run["seed"]): run for run in runs}
    summary = results["summary"] = []
    for dim in sorted({run["dim"] for run in runs}):
        for row in [*ROWS, *MORE_ROWS]:
            seeds = [s for d, r, s in table if (d, r) == (dim, row) and (d, ROWS[0], s) in table]
            if not seeds:
                continue
            ours = [table[dim, row, s] for s in seeds]
            plain = [table[dim, ROWS[0], s] for s in seeds]
            accuracy = np.array([run["accuracy"] for run in ours])
            gain = accuracy - [run["accuracy"] for run in plain]
            ratio = [
                one["seconds_per_epoch"] / two["seconds_per_epoch"]
                for one, two in zip(ours, plain, strict=True)
            ]
            n = len(seeds)
            spread = gain.std(ddof=1) if n > 1 else np.nan
            half = stats.t.ppf(0.975, n - 1) * spread / np.sqrt(n) if n > 1 else np.nan
            summary.append(
                {
                    "dim": dim,
                    "row": list(row),
                    "seeds": seeds,
                    "accuracy": rounded(accuracy.mean()),
                    "accuracy_std": rounded(accuracy.std(ddof=1)) if n > 1 else None,
                    "gain": rounded(gain.mean()),
                    "gain_half_width": rounded(half) if n > 1 else None,
                    "seconds_per_epoch": rounded(
                        np.median([run["seconds_per_epoch"] for run in ours]), 3
                    ),
                    "seconds_ratio": rounded(np.median(ratio), 3),
                }
            )


def of_the_paper():
    """Welch's test of every row of the paper's table against its first, from means and deviations.

    Returns
    -------
    found : dict
        How many cells are above, have p < .05, and have it after Holm's correction.
    """
    cells = {row: [list(map(float, cell.split(" ± "))) for cell in PAPER[row]] for row in PAPER}
    plain, p_values, gains = cells.pop((0.0, 0.0)), [], []
    for row in cells.values():
        for (mean, std), (mean0, std0) in zip(row, plain, strict=True):
            test = stats.ttest_ind_from_stats(mean, std, 4, mean0, std0, 4, equal_var=False)
            p_values.append(test.pvalue)
            gains.append(mean - mean0)
    p_values = np.sort(p_values)
    holm = np.maximum.accumulate(p_values * np.arange(len(p_values), 0, -1))
    return {
        "cells": len(gains),
        "above": int(np.sum(np.array(gains) > 1e-9)),
        "significant": int((p_values < 0.05).sum()),
        "significant_holm": int((holm < 0.05).sum()),
        "least_p": rounded(p_values[0], 4),
    }


def moved_summary(runs):
    """Return what each row of the second part changes, seed by seed: the accuracy, N and V."""
    table = {
        (run["lambda_noise"], run["lambda_variance"], run["seed"]): run for run in runs.values()
    }
    summary = []
    for row in MOVED_ROWS:
        seeds = sorted(s for *r, s in table if tuple(r) == row and (*MOVED_ROWS[0], s) in table)
        if not seeds:
            continue
        entry = {"row": list(row), "seeds": seeds}
        for key in ("accuracy", "held_out_N", "held_out_V"):
            ours, plain = (
                np.array([table[(*r, s)][key] for s in seeds]) for r in (row, MOVED_ROWS[0])
            )
            n, change = len(seeds), ours - plain
            half = stats.t.ppf(0.975, n - 1) * change.std(ddof=1) / np.sqrt(n) if n > 1 else None
            entry[key] = {
                "mean": rounded(ours.mean()),
                "change": rounded(change.mean()),
                "half_width": None if half is None else rounded(half),
                "relative": rounded(ours.mean() / plain.mean() - 1, 4),
                "n_above": int((change > 0).sum()),
            }
        summary.append(entry)
    return summary


def render(results):
    """Return the section as Markdown; None of a piece of the second part."""
    if not results["summary"]:
        return None
    found = {(entry["dim"], tuple(entry["row"])): entry for entry in results["summary"]}
    dims = sorted({dim for dim, _ in found})
    rows = [row for row in [*ROWS, *MORE_ROWS] if any((d, row) in found for d in dims)]
    return "\n\n".join(
        [
            "## Score constraints in training",
            _introduction(results, found, dims),
            "Accuracy in percent, and its standard deviation over runs; the paper's beneath.",
            _accuracies(found, dims, rows),
            "What the constraint changes: the mean over runs of the difference to the run without "
            "it that has the same split, weights and batches, in percent points, with its 95 % "
            "interval (t distribution).",
            _gains(found, dims, rows),
            _verdict(results["summary"]),
            "Seconds an epoch over those of the run without scores (median over runs, processor "
            "time, on a machine that did other work too), and the paper's ratio.",
            _seconds(found, dims),
            *_moved(results),
        ]
    )


def _moved(results):
    """Return the part about weights at which the scores move, and the paper's own statistics."""
    paper = results["of_the_paper"]
    parts = []
    if summary := results["moved_summary"]:
        lines = []
        for entry in summary:
            accuracy = entry["accuracy"]
            half = accuracy["half_width"]
            gain = f"{100 * accuracy['change']:+.2f}"
            gain += "" if half is None else f" ± {100 * half:.2f}"
            plain = tuple(entry["row"]) == MOVED_ROWS[0]
            moved = [
                f"{entry[key]['mean']:.3f}" + ("" if plain else f" ({entry[key]['relative']:+.0%})")
                for key in ("held_out_N", "held_out_V")
            ]
            above = "" if plain else f"{accuracy['n_above']} of {len(entry['seeds'])}"
            lines.append(
                [
                    "{:g}, {:g}".format(*entry["row"]),
                    *moved,
                    f"{100 * accuracy['mean']:.2f}",
                    "" if plain else gain,
                    above,
                ]
            )
        header = ["λ noise, λ variance", "N held out", "V held out", "accuracy"]
        header += ["difference", "seeds above"]
        parts = [
            "### Where the scores move",
            f"Dimension {MOVED_DIM}, {len(summary[0]['seeds'])} seeds, the same network, epochs "
            "and digits, but the scores are in every mini-batch, on all of its samples. N and V "
            f"of {N_SCORED} held-out digits at the layer that is constrained, in brackets how far "
            "they are from the run's without scores; accuracy in percent, and the mean difference "
            "to the run with the same split, weights and batches, with its 95 % interval.",
            markdown_table(header, lines),
        ]
    words = (
        f"The paper's own table, by Welch's test from its means and deviations of 4 runs: "
        f"{paper['above']} of {paper['cells']} cells are above the row without scores, "
        f"{paper['significant']} with p < .05, {paper['significant_holm']} after Holm's "
        "correction; all rows of a dimension are compared with the same four runs."
    )
    return [*parts, words]


def _introduction(results, found, dims):
    settings, machine = results["settings"], results["environment"]
    n_runs = [f"{len(found[dim, ROWS[0]]['seeds'])} at dimension {dim}" for dim in dims]
    missing = [str(dim) for dim in EPOCHS if dim not in dims]
    n_scored = sorted(EPOCHS[dim] * settings["n_train"] // (64 * 20) for dim in dims)
    return (
        "Bertolini, Clevert & Montanari, section 4.5, tables 2 and 3. Made by "
        "`benchmarks/papers/score_constraints.py`; every run is in "
        "`benchmarks/papers/results/score_constraints.json`. "
        f"{settings['n_train']:,} digits to train on and {settings['n_test']:,} to test, where the "
        "paper has MNIST, in runs that differ in split, weights and batches: "
        f"{', '.join(n_runs)}; rows without ± have one. "
        + (f"Not run: dimension {', '.join(missing)}. " if missing else "")
        + "Encoder: two convolutions (8 and 4 channels, 5 x 5), each with BatchNorm, softplus and "
        "2 x 2 pooling, and a linear layer; decoder 32-784, linear class head on the code. Loss: "
        "the mean over pixels of the squared error plus the cross-entropy. Adam 1e-3, batches of "
        "64; 20, 15, 10, 5 epochs at dimensions 2, 3, 5, 10. Scores at the second convolution's "
        "output, on 8 samples and 8 noise inputs, every 20 mini-batches: "
        f"{n_scored[0]} to {n_scored[-1]} times in a run, where 60,000 digits give "
        f"{60000 / settings['n_train']:.1f} times as many. {machine['processor']}, one thread."
    )


def _label(row):
    return f"{row[0]:g}, {row[1]:g}" + ("" if row[2] == 20 else ", every batch")


def _accuracies(found, dims, rows):
    lines = []
    for row in rows:
        cells = []
        for dim in dims:
            entry = found.get((dim, row))
            if entry is None:
                cells.append("")
                continue
            std = entry["accuracy_std"]
            cells.append(
                f"{100 * entry['accuracy']:.2f}" + ("" if std is None else f" ± {100 * std:.2f}")
            )
        lines.append([_label(row), *cells])
        if row[2] == 20:
            paper = dict(zip(EPOCHS, PAPER[row[:2]], strict=True))
            lines.append(["the paper", *(paper[dim] for dim in dims)])
    return markdown_table(["λ noise, λ variance", *(f"dim {dim}" for dim in dims)], lines)


def _gains(found, dims, rows):
    lines = []
    for row in rows[1:]:
        cells = []
        for dim in dims:
            entry = found.get((dim, row))
            if entry is None:
                cells.append("")
                continue
            half = entry["gain_half_width"]
            cell = f"{100 * entry['gain']:+.2f}"
            cells.append(cell if half is None else f"{cell} ± {100 * half:.2f}")
        lines.append([_label(row), *cells])
    return markdown_table(["λ noise, λ variance", *(f"dim {dim}" for dim in dims)], lines)


def _verdict(summary):
    tested = [
        entry
        for entry in summary
        if tuple(entry["row"]) != ROWS[0] and entry["gain_half_width"] is not None
    ]
    better = sum(entry["gain"] > entry["gain_half_width"] for entry in tested)
    worse = sum(entry["gain"] < -entry["gain_half_width"] for entry in tested)
    return (
        f"Of {len(tested)} comparisons, {better} intervals are above 0 and {worse} below; with no "
        f"effect at all, {0.025 * len(tested):.1f} of each would be expected. The mean of all "
        f"differences is {100 * np.mean([e['gain'] for e in tested] or [np.nan]):+.2f} points."
    )


def _seconds(found, dims):
    names = {"V": (0.0, 0.1, 20), "N": (0.1, 0.0, 20), "N + V": (0.1, 0.1, 20)}
    every = {"V, every batch": MORE_ROWS[1], "N, every batch": MORE_ROWS[0]}
    lines = []
    for name, row in {**names, **every}.items():
        cells = []
        for i, dim in enumerate(EPOCHS):
            if dim in dims:
                entry = found.get((dim, row))
                ours = "" if entry is None else f"{entry['seconds_ratio']:.2f}"
                paper = ""
                if name in PAPER_SECONDS and ours:
                    ratio = PAPER_SECONDS[name][i] / PAPER_SECONDS["plain"][i]
                    paper = f" (the paper {ratio:.1f})"
                cells.append(ours + paper)
        if any(cells):
            lines.append([name, *cells])
    return markdown_table(["scores", *(f"dim {dim}" for dim in EPOCHS if dim in dims)], lines)


def measure(args, results, save):
    if "table" in args.parts:
        measure_table(args, results, save)
    if "moved" in args.parts:
        measure_moved(args, results, save)


def measure_moved(args, results, save):
    data, tasks = load_digits_28x28(), {}
    for seed, i in product(args.seeds, args.rows):
        row = (*MOVED_ROWS[i], 1)
        name = "lambda {:g}, {:g}, seed {}".format(*row[:2], seed)
        tasks[name] = partial(train, MOVED_DIM, row, seed, data, args, None, held_out=True)
    complete(results.setdefault("moved", {}), tasks, save)


def measure_table(args, results, save):
    data, runs = load_digits_28x28(), results.setdefault("runs", [])
    results["settings"]["seeds"] = sorted({*results["settings"].get("seeds", []), *args.seeds})
    known = {(run["dim"], _row(run), run["seed"]) for run in runs}
    pairs = [(d, s) for d in args.dims for s in args.seeds]
    tasks = [(d, row, s) for rows in (ROWS, MORE_ROWS) for d, s in pairs for row in rows]
    for task in tasks:
        if task not in known:
            runs.append(train(*task, data, args))
            runs.sort(key=lambda run: (run["dim"], _row(run), run["seed"]))
            save()
            print(task, flush=True)


BENCHMARK = Benchmark(
    section="score constraints",
    page="embeddings_and_scores.md",
    measure=measure,
    summarize=summarize,
    render=render,
    settings={"n_train": 8000, "n_test": 2000},
    options={
        "seeds": [0, 1, 2, 3],
        "dims": Option([10, 5, 3, 2], choices=EPOCHS),
        "epochs": Option(None, "instead of the paper's", type=int),
        "parts": Option(["table", "moved"], choices=("table", "moved")),
        "rows": Option(list(range(len(MOVED_ROWS))), "of the second part, by position"),
    },
    smoke={
        "n_train": 128,
        "n_test": 100,
        "seeds": [0, 1],
        "dims": [3],
        "epochs": 1,
        "rows": [0, 2],
    },
    threads=1,  # the networks are small
)
