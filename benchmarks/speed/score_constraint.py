"""Training steps with score constraints beside plain steps, in turns in one process.

A plain step is what `Autoencoder` does with a batch of 64 digits: the loss of reconstruction and
classes, its gradients, Adam. A scored step adds the gradients of the noise and the variance score
at the second convolution, for 8 samples or for the whole batch, with 8 noise inputs. At 10 and 64
latent units; the encoder is that of Bertolini, Clevert & Montanari, with pooling and without, and
with one more hidden layer.
"""

from itertools import product

import numpy as np
import torch

from sklexplain.nets import Autoencoder

from .._runner import Benchmark
from ..common import ConstraintAutoencoder, interleaved, load_digits_28x28, markdown_table, rounded

TARGETS = {"8": 2.5, "all": 5.0}  # at most so many plain steps
NETWORKS = {
    "pooling": {"pooling": True},
    "no pooling": {"pooling": False},
    "hidden layer": {"pooling": True, "hidden": 32},  # no target
}
PAPER_EPOCH = {2: 134 / 12, 10: 1569 / 12}  # the paper's, with the noise score


def make_step(X, y, dim, network, n_score_samples, weights):
    """Return a function that trains on one batch, always the same."""
    net = Autoencoder(
        ConstraintAutoencoder,
        n_components=dim,
        lambda_class=1.0,
        lambda_noise=weights[0],
        lambda_variance=weights[1],
        score_every=1,
        n_score_samples=n_score_samples,
        validation_split=None,
        random_state=0,
        net_params={f"module__{name}": value for name, value in network.items()},
    )
    net.initialize(X, y)
    net = net.net_
    net.notify("on_train_begin", X=X, y=y)
    net.notify("on_epoch_begin", dataset_train=X)
    batch = [torch.from_numpy(X), torch.from_numpy(y)]

    def step():
        net.history.new_batch()
        net.notify("on_batch_begin", batch=batch, training=True)
        net.train_step(batch)

    return step


def compare(X, y, dim, network, n_score_samples, n_repeats):
    """Time a plain step and steps with either score and both, in turns."""
    kinds = {"plain": (0.0, 0.0), "noise": (0.1, 0.0), "variance": (0.0, 0.1), "both": (0.1, 0.1)}
    steps = [make_step(X, y, dim, network, n_score_samples, w) for w in kinds.values()]
    wall, cpu = interleaved(steps, n_repeats)
    entry = {"plain_ms": rounded(1000 * np.median(cpu[0]), 2)}
    for i, name in enumerate(kinds):
        if i:
            ratios = cpu[i] / cpu[0]
            entry[name] = {
                "ratio": rounded(np.median(ratios), 2),
                "quartiles": rounded(np.percentile(ratios, [25, 75]), 2),
                "wall_ratio": rounded(np.median(wall[i] / wall[0]), 2),
            }
    return entry


def render(results):
    """Return the section as Markdown."""
    rows = []
    for key, entry in results["speed"].items():
        network, _, samples = key.split(", ")
        cells = [
            f"{entry[name]['ratio']:.2f} ({entry[name]['quartiles'][0]:.2f}–"
            f"{entry[name]['quartiles'][1]:.2f})"
            for name in ("noise", "variance", "both")
        ]
        target = "" if network == "hidden layer" else f"{TARGETS[samples.split()[0]]:g}"
        rows.append([key, f"{entry['plain_ms']:.1f}", *cells, target])
    machine, settings = results["environment"], results["settings"]
    twentieth = {
        key: 1 + (entry["both"]["ratio"] - 1) / 20
        for key, entry in results["speed"].items()
        if "reached" in entry and key.endswith("8 samples")
    }
    return "\n\n".join(
        [
            "## Speed of score constraints",
            "A training step (batch of 64 digits, Adam) that adds the gradients of the scores, "
            "over a plain one: medians and quartiles of the ratio of processor times, turn by "
            f"turn, {settings['n_repeats']} turns, one thread, {machine['processor']}, torch "
            f"{machine['torch']}. Made by `benchmarks/speed/score_constraint.py`.",
            markdown_table(
                ["encoder, units, scored", "plain, ms", "noise", "variance", "both", "target"], rows
            ),
            "With a score every 20 mini-batches, an epoch costs "
            f"{min(twentieth.values()):.2f} to {max(twentieth.values()):.2f} times a plain one "
            "with 8 samples and both scores, by these ratios; the paper reports "
            f"{PAPER_EPOCH[2]:.0f} times at 2 and {PAPER_EPOCH[10]:.0f} times at 10 dimensions for "
            "the noise score. The paper's encoder has one linear layer behind the scored one, so "
            "that no gradient is taken for each unit; with a hidden layer in between (32 units, "
            "softplus) they are taken from the code to that layer's input.",
        ]
    )


def measure(args, results, save):
    X, y = (data[:64] for data in load_digits_28x28())
    results["speed"] = {}
    for (name, network), dim, n_samples in product(NETWORKS.items(), args.dims, (8, None)):
        samples = "all samples" if n_samples is None else f"{n_samples} samples"
        entry = compare(X, y, dim, network, n_samples, args.n_repeats)
        if name != "hidden layer":
            entry["reached"] = entry["both"]["ratio"] <= TARGETS[samples.split()[0]]
        results["speed"][f"{name}, {dim} units, {samples}"] = entry


BENCHMARK = Benchmark(
    section="speed of score constraints",
    page="speed.md",
    measure=measure,
    render=render,
    settings={"n_repeats": 15},
    options={"dims": [10, 64]},
    fixed={"batch_size": 64, "n_noise": 8, "targets": TARGETS},
    smoke={"n_repeats": 1, "dims": [3]},
    threads=1,
    resume=False,
)
