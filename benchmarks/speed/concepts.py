"""Fitting SRAEExplainer beside plain skorch: the same network on the same activations.

Plain skorch is given the activations as an array (computing them is not counted) and trains the
same layers with the mean squared error of both outputs. Ours is the whole ``fit``: it runs the
explained network, keeps its activations, and trains with the loss of the paper.

    python benchmarks/speed/concepts.py

prints the medians and writes ``benchmarks/speed/results/concepts.json``.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from skorch import NeuralNet
from torch import nn

from sklexplain import SRAEExplainer
from sklexplain.concepts._network import ConceptModule

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import ROOT, environment, markdown_table, side_by_side, write_json, write_section  # noqa: E402

N_FEATURES = 64
SECTION = "speed of concepts"


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
    """Return the section of docs/results.md as Markdown."""
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


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-samples", type=int, default=1000)
    parser.add_argument("--n-units", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--hidden", type=int, nargs="+", default=[800, 100])
    parser.add_argument("--n-epochs", type=int, default=4)
    parser.add_argument("--n-repeats", type=int, default=7)
    parser.add_argument("--smoke", action="store_true", help="a tiny run that says nothing")
    parser.add_argument("--out", type=Path, help="results file (JSON)")
    parser.add_argument("--docs", type=Path, help="page to write a section of (Markdown)")
    parser.add_argument("--render", action="store_true", help="only write the section again")
    args = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp()) if args.smoke else ROOT
    args.out = args.out or folder / "benchmarks/speed/results/concepts.json"
    if args.smoke:
        args.n_samples, args.n_units, args.hidden, args.n_epochs = 60, [8], [6], 1
        args.n_repeats = 2
    return args


def main(argv=None):
    args = parse_args(argv)
    if args.render:
        results = json.loads(args.out.read_text())
        write_section(args.docs or ROOT / "docs" / "results.md", SECTION, render(results))
        return
    names = ("n_samples", "n_epochs", "n_repeats")
    settings = {name: getattr(args, name) for name in names}
    settings["hidden_layer_sizes"] = args.hidden
    results = {"settings": settings, "environment": environment(), "speed": []}
    for n_units in args.n_units:
        for batch_size in (50, 200):
            ours, theirs = task(
                args.n_samples, n_units, tuple(args.hidden), args.n_epochs, batch_size
            )
            entry = {"n_samples": args.n_samples, "n_units": n_units, "batch_size": batch_size}
            results["speed"].append({**entry, **side_by_side(ours, theirs, args.n_repeats)})
    print(table(results))
    write_json(args.out, results)
    print(f"wrote {args.out}")
    if args.docs:
        write_section(args.docs, SECTION, render(results))


if __name__ == "__main__":
    main()
