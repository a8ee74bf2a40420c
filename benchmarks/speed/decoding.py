"""Fitting ClaDecExplainer beside plain skorch: the same decoder on the same activations.

Plain skorch is given the activations as an array (computing them is not counted) and trains the
same decoder, from the same weights, with the mean squared error. Ours is the whole ``fit`` without
a reference: it runs the explained network, keeps its activations, and trains.
"""

import copy
from itertools import product

import numpy as np
import torch
from skorch import NeuralNet
from torch import nn

from sklexplain import ClaDecExplainer
from sklexplain.decoding._decoders import make_decoder

from .._runner import Benchmark, Option
from ..common import load_digits_28x28, markdown_table, side_by_side

TARGET = 1.2


def table_case(n_samples):
    X = np.random.RandomState(0).standard_normal((n_samples, 30)).astype(np.float32)
    return X, nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 3)), "1", "table", None


def series_case(n_samples):
    X = np.random.RandomState(0).standard_normal((n_samples, 1, 140)).astype(np.float32)
    layers = [nn.Conv1d(1, 8, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(544, 16), nn.ReLU()]
    return X, nn.Sequential(*layers, nn.Linear(16, 5)), "4", "series", 0


def image_case(n_samples):
    X = load_digits_28x28()[0][:n_samples]
    layers = [nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(784, 10))
    return X, net, "3", "image", 0


CASES = {"table": table_case, "series": series_case, "image": image_case}


def task(case, n_samples, n_epochs, batch_size):
    """Return functions of nothing: our fit, and plain skorch's."""
    torch.manual_seed(0)
    X, network, layer, kind, channel_axis = CASES[case](n_samples)
    with torch.no_grad():
        z = network[: int(layer) + 1](torch.from_numpy(X)).numpy()
    decoder = make_decoder(None, z.shape[1:], X.shape[1:], kind, channel_axis)
    explainer = ClaDecExplainer(
        network,
        layer=layer,
        decoder=decoder,
        reference=None,
        max_epochs=n_epochs,
        validation_split=None,
        net_params={"batch_size": batch_size},
        random_state=0,
    )

    def plain():
        NeuralNet(
            copy.deepcopy(decoder),
            criterion=nn.MSELoss,
            optimizer=torch.optim.Adam,
            lr=1e-3,
            batch_size=batch_size,
            max_epochs=n_epochs,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
        ).fit(z, X)

    return lambda: explainer.fit(X), plain


def table(results):
    header = ["samples", "mini-batch", "ours, s", "plain skorch, s", "ratio", "processor time"]
    rows = []
    for entry in results["speed"]:
        seconds = [f"{entry[key]:.2f}" for key in ("ours_seconds", "theirs_seconds")]
        ratios = [f"{entry[key]:.2f}" for key in ("ratio", "cpu_ratio")]
        name = f"{entry['case']}, {entry['n_samples']}"
        rows.append([name, entry["batch_size"], *seconds, *ratios])
    return markdown_table(header, rows)


def render(results):
    """Return the section as Markdown."""
    settings, machine = results["settings"], results["environment"]
    return "\n\n".join(
        [
            "## Speed of decoding",
            f"`ClaDecExplainer(reference=None).fit`, {settings['n_epochs']} epochs, beside a plain "
            "skorch fit of the same decoder on the same activations, which are computed before; at "
            f"most {TARGET} times its time is wanted. Processor time does not count the waiting on "
            "a shared machine. Made by `benchmarks/speed/decoding.py`. Medians of "
            f"{settings['n_repeats']} turns; {machine['processor']}, {machine['n_cores']} cores, "
            f"{machine['torch_threads']} threads, torch {machine['torch']}.",
            table(results),
        ]
    )


def measure(args, results, save):
    results["speed"] = []
    for case, batch_size in product(args.cases, (64, 256)):
        ours, theirs = task(case, args.n_samples, args.n_epochs, batch_size)
        entry = {"case": case, "n_samples": args.n_samples, "batch_size": batch_size}
        found = side_by_side(ours, theirs, args.n_repeats)
        results["speed"].append({**entry, **found, "reached": found["ratio"] <= TARGET})


BENCHMARK = Benchmark(
    section="speed of decoding",
    page="speed.md",
    measure=measure,
    render=render,
    settings={"n_samples": 1000, "n_epochs": 3, "n_repeats": 7},
    options={"cases": Option(list(CASES), choices=CASES)},
    smoke={"n_samples": 40, "n_epochs": 1, "n_repeats": 2},
    resume=False,
)
