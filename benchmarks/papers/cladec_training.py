"""What a layer keeps while its classifier is trained: Table IV of the ClaDec paper.

Schneider & Vlachos (2020) decode the last convolution of a classifier that was trained for 0 to 64
epochs, and find a loss like an inverted U. A decoder that is trained too little has a loss of its
own, so two decoders in closed form stand beside it here: what these cannot rebuild is not for want
of steps. Images, networks and runs are those of ``cladec_tables.py``, but fewer images, so that an
epoch is short: 24 of them are as many steps as one of the paper's. So there are longer trainings,
too.
"""

from types import SimpleNamespace

import numpy as np

from .._runner import Benchmark, Option
from ..common import markdown_table
from .cladec_tables import NORMED, PAPER, Run, cell, mean_difference

EPOCHS = (0, 1, 2, 4, 8, 16, 64, 128, 256)
DECODED = (0, 1, 2, 4, 8, 16, 64)  # epochs at which decoders are trained, too
LAYER = "block4"
PAPERS = PAPER | {"64 epochs": PAPER["-2"]}
STEPS_OF_THE_PAPER = 60_000 // 64  # of an epoch


def names(settings):
    """Rows, with the options of each."""
    rows = {NORMED: {"n_epochs": 0, "normed": True}}
    return rows | {f"{n} epochs": {"n_epochs": n} for n in settings["epochs"]}


def measure(args, results, save):
    """Compute what is missing: first what takes no training of decoders."""
    args = SimpleNamespace(**vars(args), classifier_epochs=max(args.epochs))
    runs = [Run(args, seed) for seed in args.runs]
    for run in runs:
        done = results.setdefault("closed", {}).setdefault(str(run.seed), {})
        for name, options in names(vars(args)).items():
            if name not in done:
                done[name] = run.without_training("digits", LAYER, **options)
                save()
                print(run.seed, name, done[name], flush=True)
    for run in runs if args.decoders else []:
        done = results.setdefault("trained", {}).setdefault(str(run.seed), {})
        for n in sorted(args.decoded, reverse=True):  # the first has the reference
            name = f"{n} epochs"
            if name not in done:
                reference = "autoencoder" if n == max(args.decoded) else None
                done[name] = run.piece("digits", LAYER, n_epochs=n, reference=reference)
                save()
                print(run.seed, name, done[name], flush=True)


def spread(entries, name, key):
    values = [entry[name][key] for entry in entries.values() if key in entry.get(name, {})]
    if not values:
        return None
    return np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0, len(values)


def change(results, first, second):
    """Differences between two rows, by run, with their intervals: kernel ridge and ClaDec."""
    cells = []
    for kind, key in (("closed", "loss_kernel_ridge"), ("trained", "loss")):
        entries = [e for e in results.get(kind, {}).values() if first in e and second in e]
        pairs = [(e[second][key] - e[first][key], 0) for e in entries]
        ups = sum(difference > 0 for difference, _ in pairs)
        cells += [mean_difference(pairs), f"{ups} of {len(pairs)}"] if pairs else ["–", "–"]
    return [f"{first} to {second}", *cells]


def table(results):
    rows = []
    n_steps = -(-results["settings"]["n_train"] // 64)
    for name, options in names(results["settings"]).items():
        ours, theirs = PAPERS.get(name), options["n_epochs"] * n_steps / STEPS_OF_THE_PAPER
        rows.append(
            [
                name,
                f"{theirs:.2g}",
                cell(spread(results["closed"], name, "accuracy_explained"), 3),
                cell(spread(results["closed"], name, "loss_ridge"), 2),
                cell(spread(results["closed"], name, "loss_kernel_ridge"), 2),
                cell(spread(results.get("trained", {}), name, "loss"), 2),
                cell(spread(results.get("trained", {}), name, "accuracy"), 3),
                f"{ours[0]:g}; {ours[2]:g}" if ours else "–",
            ]
        )
    header = ["classifier trained for", "in the paper's epochs", "its accuracy", "loss, ridge"]
    header += ["loss, kernel ridge", "loss, ClaDec", "accuracy, ClaDec", "paper: loss; accuracy"]
    return markdown_table(header, rows)


def render(results):
    """Return the section as Markdown."""
    settings, machine = results["settings"], results["environment"]
    rows = [f"{n} epochs" for n in settings["epochs"]]
    n_trained = len(results.get("trained", {}))
    reference = spread(
        results.get("trained", {}), f"{max(settings['decoded'])} epochs", "loss_reference"
    )
    longest = len([1 for entry in results["closed"].values() if rows[-1] in entry])
    decoder = (
        f", and of ClaDec's decoder ({n_trained} runs, {settings['n_epochs']} epochs; RefAE's loss "
        f"is {cell(reference, 2)}); accuracies are those of fresh classifiers that learn from its "
        "reconstructions"
    )
    decoder = decoder if n_trained else "; decoders were not trained yet"
    changes = [change(results, a, b) for a, b in zip(rows[:-1], rows[1:], strict=True)]
    return "\n\n".join(
        [
            "## What a layer keeps while its classifier is trained (Table IV)",
            f"MNIST, padded to 32 × 32, {settings['n_train']} images to train and "
            f"{settings['n_test']} to test; the last convolution (256 units) of the paper's "
            f"classifier, {len(results['closed'])} runs, each with images and weights of its own, "
            f"{longest} of them with the longest training. "
            "Losses are squared errors summed over an image's pixels, of test images: of ridge "
            "regression and kernel ridge regression from centred activations, whose penalties are "
            f"chosen by cross-validation and on held-out images{decoder}. *Normed*: not trained, "
            "but batch normalisation has the images' statistics. The "
            "paper's are of Fashion-MNIST with 60 000 images. ± is the standard deviation over "
            "runs. Made by `benchmarks/papers/cladec_training.py`; "
            f"{machine['processor']}, torch {machine['torch']}.",
            table(results),
            "Change of the losses from row to row, with 95 % intervals over runs, and in how many "
            "runs they rise:",
            markdown_table(["from, to", "kernel ridge", "rises", "ClaDec", "rises"], changes),
        ]
    )


BENCHMARK = Benchmark(
    section="ClaDec while training",
    page="cladec.md",
    measure=measure,
    render=render,
    settings={
        "n_train": 2500,
        "n_test": 1000,
        "n_epochs": 12,
        "epochs": list(EPOCHS),
        "decoded": list(DECODED),
    },
    options={
        "runs": [0, 1, 2, 3, 4],
        "decoders": Option(True, "train decoders, too"),
        "device": "cpu",
    },
    smoke={"n_train": 40, "n_test": 30, "n_epochs": 1, "epochs": [0, 1, 2], "decoded": [0, 1]}
    | {"runs": [0]},
)
