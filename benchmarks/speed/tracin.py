"""TracIn between 1000 samples and 1000 training examples beside training's own backward pass.

Ours is all that a user pays for ``TracInImportance(...).transform(X)`` with one checkpoint, the
gradients of the training examples and the 1000 x 1000 inner products included; theirs is one
forward and backward pass over the same 2000 samples, as in an epoch of training, with the batch
size that is fastest for it. Both in turns in one process, on the MNIST autoencoder.

    python benchmarks/speed/tracin.py

writes ``benchmarks/speed/results/tracin.json``, with the largest difference from gradients taken
one sample at a time.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

from sklexplain import TracInImportance
from sklexplain.nets import AutoencoderModule

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import (  # noqa: E402
    ROOT,
    MnistAutoencoder,
    environment,
    load_digits_28x28,
    rounded,
    side_by_side,
    write_json,
)

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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-samples", type=int, default=1000)
    parser.add_argument("--n-repeats", type=int, default=9)
    arguments = parser.parse_args()
    n = arguments.n_samples
    torch.manual_seed(0)
    parts = MnistAutoencoder()
    module = AutoencoderModule(parts.encoder, parts.decoder).eval()
    X, _ = load_digits_28x28()
    train, query = X[:n], X[n : 2 * n]
    x = torch.from_numpy(X[: 2 * n])
    tracin = TracInImportance(module).fit(train)
    batch_size = fastest_batch_size(module, x)
    entry = side_by_side(
        lambda: tracin.transform(query),
        lambda: backward(module, x, batch_size),
        arguments.n_repeats,
    )
    gradients = looped(module, torch.from_numpy(np.vstack([train[:N_CHECKED], query[:N_CHECKED]])))
    expected = (gradients[N_CHECKED:] @ gradients[:N_CHECKED].T).numpy()
    found = tracin.transform(query[:N_CHECKED])[:, :N_CHECKED]
    entry["batch_size_of_backward"] = batch_size
    entry["largest_relative_error"] = float(np.abs(found - expected).max() / np.abs(expected).max())
    entry["n_samples"], entry["target"] = n, TARGET
    entry["reached"] = entry["ratio"] <= TARGET
    results = {"environment": environment(), "mnist_cnn": entry}
    write_json(ROOT / "benchmarks" / "speed" / "results" / "tracin.json", results)
    print(
        f"TracIn, {n} x {n}: {entry['ours_seconds']} s, {rounded(entry['ratio'], 2)} times a "
        f"backward pass over the same samples (target: at most {TARGET})"
    )


if __name__ == "__main__":
    main()
