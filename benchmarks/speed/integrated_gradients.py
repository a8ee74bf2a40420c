"""Label-free integrated gradients beside captum's integrated gradients of one output.

Both explain the same encoder on the same batch with 50 Gauss-Legendre steps, a baseline of zeros
and 32-bit floats, in turns in one process. Ours is all that a user pays for
``LabelFreeAttributor(...).transform(X)``, validation and f(x) included, after a ``fit`` that is not
timed; captum's is ``IntegratedGradients(net).attribute(x, target=0, n_steps=50)``. The floor is
what remains if everything but the network is free: one forward and one backward pass of n * 50 rows
that are there already, in the best of several block sizes. Peak memory at growing n is that of a
process of its own each.
"""

import ctypes
import gc
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from captum.attr import IntegratedGradients
from sklearn.exceptions import ConvergenceWarning

from sklexplain import LabelFreeAttributor
from sklexplain.datasets import load_ecg5000
from sklexplain.metrics import completeness_error
from sklexplain.nets import Autoencoder

from .._runner import Benchmark, Option
from ..common import (
    ROOT,
    MnistAutoencoder,
    environment,
    interleaved,
    load_digits_28x28,
    markdown_table,
    rounded,
    side_by_side,
)

N_STEPS = 50
TARGETS = {200: 0.7, 8: 1.0}  # ours over captum's
BLOCKS = (64, 100, 128, 256, 512, 1024, 2048, 10**9)  # rows at once, tried for the floor

# name: (data, arguments of Autoencoder)
NETWORKS = {
    "mnist_cnn": ("digits", {"module": MnistAutoencoder, "n_components": 4}),
    "ecg_lstm": ("beats", {"module": "lstm", "n_components": 16}),
    "ecg_conv1d": ("beats", {"module": "conv1d", "n_components": 8}),
    "ecg_mlp": ("beats", {"module": "mlp", "n_components": 8}),
}


def load(data):
    return load_digits_28x28()[0] if data == "digits" else load_ecg5000(return_X_y=True)[0]


def trained(name, n_train, max_epochs):
    """Train an encoder for a moment: speed needs no more, and dead units are real."""
    data, params = NETWORKS[name]
    X = load(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        autoencoder = Autoencoder(
            **params, max_epochs=max_epochs, validation_split=None, random_state=0
        ).fit(X[:n_train])
    return autoencoder, X


def attributor(autoencoder, X, n_steps=N_STEPS):
    params = {"n_steps": n_steps}
    explainer = LabelFreeAttributor(autoencoder, method_params=params, baseline="zeros")
    return explainer.fit(X)


def speed(autoencoder, X, n, n_repeats):
    """Medians, and the ratio of ours to captum's in each turn."""
    encoder = autoencoder.net_.module_.encoder
    encoder.eval()
    explainer = attributor(autoencoder, X[:200])
    captum = IntegratedGradients(encoder)
    batch = X[:n]
    tensor = torch.from_numpy(batch)
    entry = side_by_side(
        lambda: explainer.transform(batch),
        lambda: captum.attribute(tensor, target=0, n_steps=N_STEPS),
        n_repeats,
    )
    floor, block = network_floor(encoder, tensor, max(2, n_repeats // 3))
    return entry | {
        "floor_cpu_seconds": rounded(floor),
        "floor_rows_at_once": block,
        "ours_over_floor": rounded(entry["ours_cpu_seconds"] / floor, 3),
        "our_rows_at_once": explainer._representation.block_rows(explainer.batch_size),
    }


def network_floor(encoder, x, n_repeats):
    """Least processor time of the network's passes alone, and the block size that had it."""
    points = x.repeat(N_STEPS, *[1] * (x.dim() - 1))
    blocks = [b for b in BLOCKS if b < len(points)] + [len(points)]
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)

    def passes(rows):
        for i in range(0, len(points), rows):
            part = points[i : i + rows].detach().requires_grad_()
            torch.autograd.grad(encoder(part)[:, 0].sum(), part)

    _, cpu = interleaved([lambda b=b: passes(b) for b in blocks], n_repeats)
    seconds = cpu.min(axis=1)
    for parameter in encoder.parameters():
        parameter.requires_grad_(True)
    return seconds.min(), blocks[int(seconds.argmin())]


def completeness(autoencoder, X, n):
    """Completeness error, mean and largest over samples, by the number of steps."""
    result = {}
    for n_steps in (50, 200):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            maps = attributor(autoencoder, X[:200], n_steps).transform(X[:n])
        error = completeness_error(maps, autoencoder.transform, X[:n], 0.0)
        result[str(n_steps)] = {"mean": rounded(error.mean()), "max": rounded(error.max())}
    return result


# -- memory ------------------------------------------------------------------------------------


def peak_memory(name, n, who, n_train):
    """Megabytes that the peak of the process rises by while n samples are explained.

    The rise is over what is in use after two samples have been explained, so that the libraries'
    own memory is not counted; inputs are there already, outputs are counted.
    """
    autoencoder, X = trained(name, n_train, 1)
    X = np.concatenate([X] * (1 + n // len(X)))[:n].copy()
    explainer = attributor(autoencoder, X[:100])
    captum = IntegratedGradients(autoencoder.net_.module_.encoder.eval())
    functions = {
        "ours": explainer.transform,
        "captum": lambda batch: captum.attribute(
            torch.from_numpy(batch), target=0, n_steps=N_STEPS
        ),
    }
    functions[who](X[:2])
    _give_back()
    before = _status("VmRSS")
    _reset_peak()
    out = functions[who](X)
    return {"rise_mb": (_peak() - before) / 1e6, "output_mb": out.nbytes / 1e6}


def _status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _give_back():
    """Return freed memory to the system, so that using it again counts."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def _reset_peak():
    """Set the kernel's peak back to what is in use now, so that training is not counted."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak():
    return _status("VmHWM")


def rise_of(name, n, who, args):
    """As `peak_memory`, in a process of its own unless nothing is measured anyway."""
    if args.smoke:
        return peak_memory(name, n, who, args.n_train)
    code = "import json; from benchmarks.speed.integrated_gradients import peak_memory; "
    code += f"print(json.dumps(peak_memory({name!r}, {n}, {who!r}, {args.n_train})))"
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    return json.loads(printed.splitlines()[-1])


def memory(args):
    """Peak memory at growing n, each in a fresh process: name -> who -> n -> megabytes."""
    result = {}
    for name in args.memory_networks:
        for who, sizes in (("ours", args.memory_sizes), ("captum", args.memory_sizes[:2])):
            for n in sizes:
                rise = rise_of(name, n, who, args)
                entry = {key: rounded(value, 1) for key, value in rise.items()}
                result.setdefault(name, {}).setdefault(who, {})[str(n)] = entry
                print(f"peak memory, {name}, {who}, n = {n}: {entry}", flush=True)
    return result


# -- tables ------------------------------------------------------------------------------------


def speed_table(results):
    header = ["network", "n", "ours, ms", "captum, ms", "ours / captum"]
    header += ["the same, processor time", "ours / floor, processor time"]
    rows = []
    for name, sizes in results["speed"].items():
        for n, entry in sizes.items():
            milliseconds = [
                f"{1000 * entry[key]:.1f}" for key in ("ours_seconds", "theirs_seconds")
            ]
            low, high = entry["ratio_quartiles"]
            ratio = f"{entry['ratio']:.2f} ({low:.2f}–{high:.2f})"
            others = [f"{entry[key]:.2f}" for key in ("cpu_ratio", "ours_over_floor")]
            rows.append([name.replace("_", " "), n, *milliseconds, ratio, *others])
    return markdown_table(header, rows)


def memory_table(results):
    rows = []
    for name, whos in results.get("peak_memory", {}).items():
        for who, sizes in whos.items():
            for n, entry in sizes.items():
                inner = entry["rise_mb"] - entry["output_mb"]
                row = [f"{name.replace('_', ' ')}, {who}", n]
                rows.append([*row, *(f"{v:.0f}" for v in (entry["rise_mb"], inner))])
    return markdown_table(["", "n", "rise of the peak, MB", "outputs aside, MB"], rows)


def completeness_table(results):
    header = ["network", "50 steps: mean", "largest", "200 steps: mean", "largest"]
    rows = [
        [name.replace("_", " ")]
        + [f"{errors[steps][key]:.2%}" for steps in ("50", "200") for key in ("mean", "max")]
        for name, errors in results["completeness_error"].items()
    ]
    return markdown_table(header, rows)


def render(results):
    """Return the section as Markdown."""
    machine = results["environment"]
    n_repeats = next(e["n_repeats"] for s in results["speed"].values() for e in s.values())
    parts = [
        "## Speed of label-free integrated gradients",
        "Beside captum's `IntegratedGradients(net).attribute(x, target=0, n_steps=50)`, which "
        "explains one output, on the same trained encoder and batch, in turns in one process; ours "
        "explains the whole representation and includes validation, f(x) and a check of "
        "completeness. Made by `benchmarks/speed/integrated_gradients.py`. Medians of "
        f"{n_repeats} turns, quartiles in brackets; {machine['torch_threads']} thread(s) of "
        f"{machine['n_cores']} cores, {machine['processor']}, captum {machine['captum']}, torch "
        f"{machine['torch']}. The machine was shared, so the ratio of processor time is given too. "
        "The floor is the network's forward and backward passes over n · 50 rows and nothing else, "
        "in the best of several block sizes. Aims: 0.7 at n = 200 and 1.0 at n = 8.",
        speed_table(results),
        "Peak resident memory while n samples are explained, over what the process used before; "
        "each line is a process of its own. What grows with n is the result itself, held twice "
        "while its parts are joined, and a validated copy of the input.",
        memory_table(results),
        "Completeness error: the difference between the sum of the attributions and what it should "
        "be, over ‖f(x)‖ ‖f(x) − f(0)‖.",
        completeness_table(results),
    ]
    return "\n\n".join(parts)


def measure(args, results, save):
    if args.threads:
        torch.set_num_threads(args.threads)
        results["environment"] = environment()
    results |= {"targets": TARGETS, "speed": {}, "completeness_error": {}}
    for name in args.networks:
        autoencoder, X = trained(name, args.n_train, args.epochs)
        for n in args.n_samples:
            entry = speed(autoencoder, X, n, args.n_repeats)
            results["speed"].setdefault(name, {})[str(n)] = entry
        error = completeness(autoencoder, X, min(200, args.n_train))
        results["completeness_error"][name] = error
        save()
    if sys.platform == "linux":  # its /proc has the peak
        results["peak_memory"] = memory(args)


BENCHMARK = Benchmark(
    section="speed of integrated gradients",
    page="speed.md",
    measure=measure,
    render=render,
    settings={"n_samples": list(TARGETS), "n_repeats": 9, "n_train": 2000, "epochs": 3},
    options={
        "networks": Option(list(NETWORKS), choices=NETWORKS),
        "threads": Option(None, "of torch", type=int),
        "memory_networks": Option(["mnist_cnn"], choices=NETWORKS),
        "memory_sizes": [200, 800, 3200],
    },
    fixed={"n_steps": N_STEPS},
    smoke={
        "n_samples": [4],
        "n_repeats": 2,
        "n_train": 16,
        "epochs": 1,
        "networks": ["mnist_cnn", "ecg_lstm"],
        "memory_sizes": [4],
    },
    resume=False,
)
