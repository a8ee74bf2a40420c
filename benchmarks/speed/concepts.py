"""Fitting SRAEExplainer beside plain skorch: the same network on the same activations.

Plain skorch is given the activations as an array (computing them is not counted) and trains the
same layers with the mean squared error of both outputs. Ours is the whole ``fit``: it runs the
explained network, keeps its activations, and trains with the loss of the paper.
"""

from itertools import product

import numpy as np
import torch
from skorch import NeuralNet
from torch import nn

from sklexplain import SRAEExplainer
from sklexplain.concepts._network import ConceptModule

from .._runner import Benchmark
from ..common import markdown_table, side_by_side

N_FEATURES = 64


class PlainModule(ConceptModule):
    """The same layers, without scales: predictions and reconstructions in one output."""

    def forward(self, z):
        concepts = self.encoder(z)
        return torch.cat([self.head(concepts), self.decoder(concepts)], dim=1)


def task(n_samples, n_units, hidden_layer_sizes, n_epochs, batch_size):
    """Return functions of nothing: our fit, and plain skorch's."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((n_samples, N_FEATURES)).astype(np.float32)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(N_FEATURES, n_units), nn.ReLU(), nn.Linear(n_units, 10))
    explainer = SRAEExplainer(
        network,
        target=0,
        hidden_layer_sizes=hidden_layer_sizes,
        max_epochs=n_epochs,
        validation_split=None,
        net_params={"batch_size": batch_size},
        random_state=0,
    )
    with torch.no_grad():
        z = network[:2](torch.from_numpy(X)).numpy()
        y = network(torch.from_numpy(X)).numpy()[:, :1]
    z, y = z / np.sqrt(np.square(z).mean()), (y - y.mean()) / y.std()
    plain = NeuralNet(
        PlainModule,
        criterion=nn.MSELoss,
        module__shape=(n_units,),
        module__n_concepts=5,
        module__hidden_layer_sizes=hidden_layer_sizes,
        module__z_scale=1.0,
        module__y_mean=np.zeros(1),
        module__y_scale=np.ones(1),
        optimizer=torch.optim.Adam,
        optimizer__weight_decay=1e-4,
        lr=1e-3,
        batch_size=batch_size,
        max_epochs=n_epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    both = np.hstack([y, z])
    return lambda: explainer.fit(X), lambda: plain.fit(z, both)


def table(results):
    header = ["activations", "mini-batch", "ours, s", "plain skorch, s", "ratio", "processor time"]
    rows = []
    for entry in results["speed"]:
        seconds = [f"{entry[key]:.2f}" for key in ("ours_seconds", "theirs_seconds")]
        ratios = [f"{entry[key]:.2f}" for key in ("ratio", "cpu_ratio")]
        shape = f"{entry['n_samples']} × {entry['n_units']}"
        rows.append([shape, entry["batch_size"], *seconds, *ratios])
    return markdown_table(header, rows)


def render(results):
    """Return the section as Markdown."""
    settings, machine = results["settings"], results["environment"]
    hidden = "-".join(map(str, settings["hidden_layer_sizes"]))
    return "\n\n".join(
        [
            "## Speed of concepts",
            f"`SRAEExplainer.fit`, {settings['n_epochs']} epochs with hidden layers {hidden}, "
            "beside a plain skorch fit of the same network on the same activations, which are "
            "computed before; processor time does not count the waiting on a shared machine. "
            "Made by `benchmarks/speed/concepts.py`. Medians of "
            f"{settings['n_repeats']} turns; {machine['processor']}, {machine['n_cores']} cores, "
            f"{machine['torch_threads']} threads, torch {machine['torch']}.",
            table(results),
        ]
    )


def measure(args, results, save):
    results["speed"] = []
    for n_units, batch_size in product(args.n_units, (50, 200)):
        hidden = tuple(args.hidden_layer_sizes)
        functions = task(args.n_samples, n_units, hidden, args.n_epochs, batch_size)
        entry = {"n_samples": args.n_samples, "n_units": n_units, "batch_size": batch_size}
        results["speed"].append({**entry, **side_by_side(*functions, args.n_repeats)})


BENCHMARK = Benchmark(
    section="speed of concepts",
    page="speed.md",
    measure=measure,
    render=render,
    settings={
        "n_samples": 1000,
        "n_units": [32, 256],
        "n_epochs": 4,
        "n_repeats": 7,
        "hidden_layer_sizes": [800, 100],
    },
    smoke={
        "n_samples": 60,
        "n_units": [8],
        "n_epochs": 1,
        "n_repeats": 2,
        "hidden_layer_sizes": [6],
    },
    resume=False,
)
