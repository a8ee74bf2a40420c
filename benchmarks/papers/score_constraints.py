"""Score constraints in training: tables 2 and 3 of Bertolini, Clevert & Montanari.

An autoencoder with a linear class head is trained on 8,000 MNIST digits, without and with the noise
and the variance score in its loss, and its accuracy on 2,000 others is compared: paired by seed,
which determines the split, the initial weights and the order of the batches. And what an epoch
costs, beside one without scores.
"""

import time

import numpy as np
from scipy import stats
from skorch.callbacks import Callback

from sklexplain.nets import Autoencoder

from .._runner import Benchmark, Option
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


def train(dim, row, seed, data, args):
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
        lr=1e-3,
        batch_size=64,
        validation_split=None,
        max_epochs=args.epochs or EPOCHS[dim],
        random_state=seed,
        net_params={"callbacks": [watch]},
    ).fit(X[train], y[train])
    history = net.net_.history[-1]
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
    }


def _row(run):
    return run["lambda_noise"], run["lambda_variance"], run["score_every"]


def summarize(results):
    """Compare every row with that without scores, seed by seed."""
    runs = results["runs"]
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


def render(results):
    """Return the section as Markdown."""
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
        ]
    )


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
    },
    smoke={"n_train": 128, "n_test": 100, "seeds": [0, 1], "dims": [3], "epochs": 1},
    threads=1,  # the networks are small
)
