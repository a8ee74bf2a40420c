"""TracIn between 1000 samples and 1000 training examples beside training's own backward pass.

Ours is all that a user pays for ``TracInImportance(...).transform(X)`` with one checkpoint, the
gradients of the training examples and the 1000 x 1000 inner products included; theirs is one
forward and backward pass over the same 2000 samples, as in an epoch of training, with the batch
size that is fastest for it. Both in turns in one process, on the MNIST autoencoder.
"""

import time

import numpy as np
import torch

from sklexplain import TracInImportance
from sklexplain.nets import AutoencoderModule

from .._runner import Benchmark
from ..common import MnistAutoencoder, load_digits_28x28, markdown_table, side_by_side

TARGET = 4.0
BATCH_SIZES = (64, 128, 256, 512, 1024, 2000)
N_CHECKED = 20


def backward(module, x, batch_size):
    for batch in x.split(batch_size):
        (module(batch) - batch).square().flatten(1).mean(dim=1).sum().backward()
    module.zero_grad()


def fastest_batch_size(module, x):
    seconds = []
    for batch_size in BATCH_SIZES:
        backward(module, x, batch_size)
        start = time.process_time()
        backward(module, x, batch_size)
        seconds.append(time.process_time() - start)
    return BATCH_SIZES[int(np.argmin(seconds))]


def looped(module, x):
    """Gradients in the encoder's parameters, a backward pass a sample."""
    rows = []
    for sample in x:
        module.zero_grad()
        (module(sample[None]) - sample).square().mean().backward()
        rows.append(torch.cat([p.grad.flatten() for p in module.encoder.parameters()]))
    module.zero_grad()
    return torch.stack(rows).double()


def measure(args, results, save):
    n = args.n_samples
    torch.manual_seed(0)
    parts = MnistAutoencoder()
    module = AutoencoderModule(parts.encoder, parts.decoder).eval()
    X, _ = load_digits_28x28()
    train, query = X[:n], X[n : 2 * n]
    x = torch.from_numpy(X[: 2 * n])
    tracin = TracInImportance(module).fit(train)
    batch_size = fastest_batch_size(module, x)
    functions = lambda: tracin.transform(query), lambda: backward(module, x, batch_size)
    entry = side_by_side(*functions, args.n_repeats)
    gradients = looped(module, torch.from_numpy(np.vstack([train[:N_CHECKED], query[:N_CHECKED]])))
    n_train = len(train[:N_CHECKED])
    expected = (gradients[n_train:] @ gradients[:n_train].T).numpy()
    found = tracin.transform(query[:N_CHECKED])[:, :N_CHECKED]
    entry["batch_size_of_backward"] = batch_size
    entry["largest_relative_error"] = float(np.abs(found - expected).max() / np.abs(expected).max())
    entry["n_samples"], entry["target"] = n, TARGET
    entry["reached"] = entry["ratio"] <= TARGET
    results["mnist_cnn"] = entry


def render(results):
    """Return the section as Markdown."""
    entry, machine = results["mnist_cnn"], results["environment"]
    n = entry["n_samples"]
    header = ["samples", "TracIn, s", "backward pass, s", "ratio", "processor time"]
    row = [f"{n} × {n}", f"{entry['ours_seconds']:.2f}", f"{entry['theirs_seconds']:.2f}"]
    row += [f"{entry[key]:.2f}" for key in ("ratio", "cpu_ratio")]
    return "\n\n".join(
        [
            "## Speed of TracIn",
            f"`TracInImportance(...).transform` of {n} samples and {n} training examples with one "
            "checkpoint, in the encoder of the MNIST autoencoder, all gradients and inner products "
            f"included, beside one forward and backward pass over the same {2 * n} samples with "
            f"the batch size that is fastest for it ({entry['batch_size_of_backward']}). Largest "
            "difference from gradients taken one sample at a time: "
            f"{entry['largest_relative_error']:.1g} of the largest value. Medians of "
            f"{entry['n_repeats']} turns; {machine['processor']}, {machine['torch_threads']} "
            f"thread(s), torch {machine['torch']}. Aim: at most {TARGET:g}. Made by "
            "`benchmarks/speed/tracin.py`.",
            markdown_table(header, [row]),
        ]
    )


BENCHMARK = Benchmark(
    section="speed of TracIn",
    page="speed.md",
    measure=measure,
    render=render,
    settings={"n_samples": 1000, "n_repeats": 9},
    smoke={"n_samples": 10, "n_repeats": 1},
    resume=False,
)
