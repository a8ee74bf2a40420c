"""Which weight of the reconstruction concepts should have by default: ten networks, six weights.

Networks on tables, series and images are explained by `SRAEExplainer` with its other defaults; what
is compared is its own score on samples held out, the harmonic mean of how well the output is told
(R²) and the units that matter are rebuilt (R²).
"""

import time
import warnings
from functools import partial
from itertools import product

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklexplain import SRAEExplainer
from sklexplain.datasets import load_ecg5000

from .._runner import Benchmark, complete
from ..common import MnistAutoencoder, load_digits_28x28, markdown_table, rounded

BETAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def table(load, model, target=None):
    """A table of scikit-learn's and an MLP on it."""

    def make(seed, n_train, n_test):
        X, y = load(return_X_y=True)
        X, y = shuffled(X, y, seed)
        n = min(n_train, len(X) * 2 // 3)
        fitted = make_pipeline(StandardScaler(), model(seed)).fit(X[:n], y[:n])
        return fitted, X[:n], X[n : n + n_test], target

    return make


def shuffled(X, y, seed):
    order = np.random.RandomState(seed).permutation(len(X))
    return X[order], y[order]


def classes(width):
    return lambda seed: MLPClassifier(
        (width,), learning_rate_init=0.005, max_iter=200, tol=0.0, n_iter_no_change=200,
        random_state=seed,
    )  # fmt: skip


def values(seed):
    return MLPRegressor(hidden_layer_sizes=(32,), max_iter=2000, random_state=seed)


class LastState(nn.Module):
    """An LSTM's last hidden state and a linear layer on it."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 16, batch_first=True)
        self.head = nn.Linear(16, 2)

    def forward(self, x):  # (b, 140): four values at each of 35 steps
        return self.head(self.rnn(x.unflatten(1, (35, 4)))[0][:, -1])


class Residual(nn.Module):
    """A convolution with a way around it."""

    def __init__(self, width):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width))

    def forward(self, x):
        return torch.relu(x + self.conv(x))


def resnet():
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), Residual(16), nn.MaxPool2d(2), Residual(16)),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10)),
    )


def convolutional():
    return nn.Sequential(
        *(nn.Conv1d(1, 8, 7, stride=3), nn.ReLU(), nn.Conv1d(8, 16, 5, stride=3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(16 * 14, 64), nn.ReLU(), nn.Linear(64, 2)),
    )


def digit_classifier():
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(16 * 6 * 6, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def heartbeats(channels):
    X, y = load_ecg5000(return_X_y=True)
    X, y = np.asarray(X, np.float32), (np.asarray(y) != 1).astype(np.int64)
    return (X[:, None] if channels else X), y


def small_digits():
    X, y = load_digits(return_X_y=True)
    return (X / 16).reshape(-1, 1, 8, 8).astype(np.float32), y


def network(load, build, target=None, n_epochs=20, loss=None):
    """Arrays and a torch network that is trained on them, with labels or to reconstruct."""

    def make(seed, n_train, n_test):
        X, y = shuffled(*load(), seed)
        torch.manual_seed(seed)
        net = build()
        optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
        inputs, labels = torch.from_numpy(X[:n_train]), torch.from_numpy(y[:n_train]).long()
        for _ in range(n_epochs):
            for rows in torch.randperm(n_train).split(32):
                optimizer.zero_grad()
                if loss is None:
                    error = nn.functional.cross_entropy(net(inputs[rows]), labels[rows])
                else:
                    error = loss(net, inputs[rows])
                error.backward()
                optimizer.step()
        explained = net.eval().requires_grad_(False) if loss is None else net.encoder.eval()
        return explained, X[:n_train], X[n_train : n_train + n_test], target

    return make


def reconstruction(net, x):
    return nn.functional.mse_loss(net.decoder(net.encoder(x)), x)


# Of ten scores five concepts cannot tell all: one is explained then.
NETWORKS = {
    "breast cancer, MLP": ("table", table(load_breast_cancer, classes(32))),
    "wine, MLP": ("table", table(load_wine, classes(16))),
    "diabetes, MLP regressor": ("table", table(load_diabetes, values)),
    "heartbeats, convolutions": ("series", network(lambda: heartbeats(True), convolutional)),
    "heartbeats, LSTM": ("series", network(lambda: heartbeats(False), LastState, n_epochs=40)),
    "digits 8 × 8 as a table, MLP": ("image", table(load_digits, classes(32), 0)),
    "digits 8 × 8, ResNet": ("image", network(small_digits, resnet, 0)),
    "digits 28 × 28, convolutions": ("image", network(load_digits_28x28, digit_classifier, 0)),
    "digits 28 × 28, autoencoder": (
        "image",
        network(load_digits_28x28, MnistAutoencoder, None, 15, reconstruction),
    ),
    "heartbeats, convolutions, norm of the output": (
        "series",
        network(lambda: heartbeats(True), convolutional, "norm"),
    ),
}


def means(results, name, key):
    """Mean over seeds for every beta that all seeds have."""
    seeds = results["networks"].get(name, {}).values()
    betas = [str(beta) for beta in results["settings"]["betas"]]
    if not seeds or any(beta not in found for found in seeds for beta in betas):
        return None
    return np.array([np.mean([found[beta][key] for found in seeds]) for beta in betas])


def render(results):
    """Return the section as Markdown."""
    settings = results["settings"]
    rows, regrets = [], []
    for name in NETWORKS:
        score = means(results, name, "score")
        if score is None:
            continue
        told, rebuilt = means(results, name, "told"), means(results, name, "rebuilt")
        rows.append([name] + [f"{s:.3f} ({t:.2f}, {r:.2f})" for s, t, r in zip(
            score, told, rebuilt, strict=True)])  # fmt: skip
        regrets.append(score.max() - score)
    regrets = np.array(regrets)
    rows.append(["below the best of its row, mean", *(f"{r:.3f}" for r in regrets.mean(axis=0))])
    rows.append(["below the best of its row, most", *(f"{r:.3f}" for r in regrets.max(axis=0))])
    text = [
        "## The default weight of reconstruction in concepts",
        f"`SRAEExplainer(beta=...)` with its other defaults ({settings['max_epochs']} epochs at "
        f"most) on {len(regrets)} networks; at most {settings['n_train']} samples to learn from "
        f"and {settings['n_test']} held out, on which everything here is measured; means over "
        f"{settings['n_seeds']} seeds, each with a network and samples of its own. In every cell: "
        "the score, the harmonic mean of the two numbers behind it: R² of the output that is told, "
        "and of the units that are rebuilt, by their relevance. Made by "
        f"`benchmarks/papers/concepts_beta.py`; torch {results['environment']['torch']}.",
        markdown_table(["network", *(f"{beta:g}" for beta in settings["betas"])], rows),
    ]
    return "\n\n".join(text)


def one(network, X, X_test, target, beta, seed, args):
    """Explain a network with one weight, and measure it."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # counted by the epochs
        explainer = SRAEExplainer(
            network, target=target, beta=beta, max_epochs=args.max_epochs, random_state=seed
        ).fit(X)
    told, rebuilt = explainer.score_parts(X_test)
    return {
        "score": rounded(explainer.score(X_test)),
        "told": rounded(told),
        "rebuilt": rounded(rebuilt),
        "n_active": explainer.n_active_concepts_,
        "n_epochs": explainer.n_epochs_,
        "cpu_seconds": rounded(time.process_time() - start, 1),
    }


def measure(args, results, save):
    networks = results.setdefault("networks", {})
    for (name, (_, make)), seed in product(NETWORKS.items(), range(args.n_seeds)):
        done = networks.setdefault(name, {}).setdefault(str(seed), {})
        if len(done) < len(args.betas):
            data = make(seed, args.n_train, args.n_test)
            complete(done, {str(b): partial(one, *data, b, seed, args) for b in args.betas}, save)


BENCHMARK = Benchmark(
    section="beta of concepts",
    page="srae.md",
    measure=measure,
    render=render,
    settings={
        "n_train": 600,
        "n_test": 400,
        "n_seeds": 2,
        "max_epochs": 200,
        "betas": list(BETAS),
    },
    smoke={"n_train": 20, "n_test": 10, "n_seeds": 1, "max_epochs": 2, "betas": [1.0]},
)
