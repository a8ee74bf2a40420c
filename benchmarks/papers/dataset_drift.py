"""A two-sided drift statistic beside that of Bertolini, Clevert & Montanari, section 4.4.

An autoencoder is trained on digits; digits it has not seen drift to x + λ y, y normal, clipped to
[0, 1] or not. Beside the paper's statistic, the drop of the noise score, stands a two-sided one:
``NoiseScorer.drift(X, method="distance")`` and its p-values.
"""

from functools import partial

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import nn

from sklexplain import NoiseScorer

from .._runner import Benchmark, complete
from ..common import load_digits_28x28, markdown_table, rounded

LEVELS = (0.05, 0.1, 0.2, 0.4, 1.0)
SHOWN = (0.05, 0.2, 1.0)
SETTINGS = {  # what is scored: parameters of NoiseScorer
    "conv2's input": {"layers": ["conv2"], "at": "input"},
    "all layers": {},
}


class Autoencoder(nn.Module):
    """The paper's: convolutions of 8, 4 and 2 channels, BatchNorm, pooling, 32 units."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential()
        sizes = [(1, 8, 5), (8, 4, 5), (4, 2, 3)]
        for i, (n_in, n_out, kernel) in enumerate(sizes, start=1):
            self.encoder.add_module(f"conv{i}", nn.Conv2d(n_in, n_out, kernel, padding=2))
            self.encoder.add_module(f"norm{i}", nn.BatchNorm2d(n_out))
            self.encoder.add_module(f"relu{i}", nn.ReLU())
            if i < len(sizes):
                self.encoder.add_module(f"pool{i}", nn.MaxPool2d(2))
        self.encoder.add_module("flatten", nn.Flatten())
        self.encoder.add_module("code", nn.Linear(2 * 81, 32))
        self.decoder = nn.Sequential(nn.Linear(32, 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28)))

    def forward(self, x):
        return self.decoder(self.encoder(x))


def trained(X, seed, n_epochs):
    torch.manual_seed(seed)
    net = Autoencoder()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    x = torch.from_numpy(X)
    for _ in range(n_epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            (net(x[rows]) - x[rows]).square().mean().backward()
            optimizer.step()
    return net.encoder


def run(seed, args):
    """Statistics of one network, for every setting, with and without clipping."""
    X, _ = load_digits_28x28()
    X = X[np.random.RandomState(seed).permutation(len(X))]
    encoder = trained(X[: args.n_train], seed, args.n_epochs)
    held_out = X[args.n_train :]
    reference, samples = held_out[: args.n_reference], held_out[-args.n_samples :]
    noise = np.random.RandomState(seed).normal(size=samples.shape).astype(np.float32)
    results = {}
    for name, params in SETTINGS.items():
        # The paper's noise inputs: uniform on [0, 1], where digits are.
        scorer = NoiseScorer(encoder, noise="unit", **params, random_state=seed).fit(reference)
        for clipped in (True, False):
            drifted = [samples + level * noise for level in (0.0, *LEVELS)]
            drifted = [np.clip(X, 0, 1) for X in drifted] if clipped else drifted
            place = results.setdefault(name, {})["clipped" if clipped else "unclipped"] = {}
            for method in ("relative", "distance"):
                place[method] = judged([scorer.drift(X, method) for X in drifted])
            if clipped:
                p_values = [scorer.drift_pvalue(X) for X in drifted]
                place["rejected"] = rounded([(p <= 0.05).mean() for p in p_values], 3)
    return results


def judged(values):
    """Rank correlation of the mean statistic with λ, and how well single samples are told apart."""
    labels = np.repeat([0, 1], len(values[0]))
    return {
        "means": rounded([v.mean() for v in values], 4),
        "spearman": rounded(spearmanr((0, *LEVELS), [v.mean() for v in values]).statistic, 3),
        "auc": rounded([roc_auc_score(labels, np.append(values[0], v)) for v in values[1:]], 3),
    }


def render(results):
    """Return the section as Markdown."""
    s = results["settings"]
    runs = list(results["seeds"].values())
    rows, rejected = [], []
    for name in SETTINGS:
        for clipped in ("clipped", "unclipped"):
            for method in ("relative", "distance"):
                found = [run[name][clipped][method] for run in runs]
                rhos = [f["spearman"] for f in found]
                auc = np.mean([f["auc"] for f in found], axis=0)
                rows.append(
                    [
                        f"{name}, {clipped}: {'drop (paper)' if method == 'relative' else method}",
                        ", ".join(f"{rho:.2f}" for rho in rhos),
                        *[f"{auc[LEVELS.index(level)]:.2f}" for level in SHOWN],
                    ]
                )
        share = np.mean([run[name]["clipped"]["rejected"] for run in runs], axis=0)
        shown = [share[0], *[share[1 + LEVELS.index(level)] for level in SHOWN]]
        rejected.append([f"{name}, clipped", *[f"{100 * value:.1f}" for value in shown]])
    header = ["", "Spearman with λ, each seed", *[f"AUC, λ = {level:g}" for level in SHOWN]]
    shares = ["p ≤ 0.05, %", "no drift", *[f"λ = {level:g}" for level in SHOWN]]
    return "\n".join(
        [
            "## A two-sided drift statistic",
            "",
            "Bertolini, Clevert & Montanari, section 4.4, report a Spearman correlation of 0.988 "
            "between the drop of the noise score and λ for digits x + λ y, y normal. Here: an "
            f"autoencoder like theirs with a linear decoder, {s['n_train']} digits for "
            f"training, {s['n_epochs']} epochs, the scorer "
            f"fitted on {s['n_reference']} held-out digits, {s['n_samples']} others that drift; "
            f"{len(runs)} seeds (digits, weights, noise); λ from 0 to 1; clipped to [0, 1] or not. "
            '*drop* is `drift(X)`, *distance* `drift(X, method="distance")`. Spearman: of the '
            "mean over samples with λ; AUC: of single samples against the same ones without drift. "
            "Made by `benchmarks/papers/dataset_drift.py`.",
            "",
            markdown_table(header, rows),
            "",
            "`drift_pvalue` at level 5 %: the share of samples that are called drifted. Without "
            "drift it should be 5.",
            "",
            markdown_table(shares, rejected),
            "",
            "The distance tells whether samples have drifted rather than how far: where the "
            "faintest noise changes the maps, on a background that is black no more, it is large "
            "at once and grows little afterwards, so that its Spearman correlation with λ can be "
            "low while its AUC is near 1.",
        ]
    )


def measure(args, results, save):
    tasks = {str(seed): partial(run, seed, args) for seed in args.seeds}
    complete(results.setdefault("seeds", {}), tasks, save)


BENCHMARK = Benchmark(
    section="two-sided drift",
    page="embeddings_and_scores.md",
    measure=measure,
    render=render,
    settings={"n_train": 3000, "n_reference": 300, "n_samples": 100, "n_epochs": 5},
    options={"seeds": [0, 1, 2]},
    fixed={"levels": LEVELS},
    smoke={"n_train": 64, "n_reference": 20, "n_samples": 4, "n_epochs": 1, "seeds": [0]},
    threads=1,
)
