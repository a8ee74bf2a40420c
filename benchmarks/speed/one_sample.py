"""Explaining one sample: what an explainer does around the method, in milliseconds.

A Pipeline of a scaler and a small multilayer perceptron, fitted on 200 samples of a table. Ours is
``transform`` of one row: it checks the row, finds out whether the weights are those of fit, runs
the network, and puts its result into an array. By hand the same numbers come from torch,
scikit-learn's scaler and scikit-learn's nearest neighbours, with no checks at all.
"""

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklexplain import DKNNImportance, LabelFreeAttributor

from .._runner import Benchmark
from ..common import markdown_table, side_by_side

N_CALLS = 20  # in a turn: one is too short to be timed


def by_hand(pipeline):
    """Return the scaler, and the network that ends in probabilities."""
    scaler, mlp = pipeline[0], pipeline[-1]
    layers = []
    for weights, bias in zip(mlp.coefs_, mlp.intercepts_, strict=True):
        linear = nn.Linear(*weights.shape, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weights.T))
            linear.bias.copy_(torch.from_numpy(bias))
        layers += [linear, nn.ReLU()]
    return scaler, nn.Sequential(*layers[:-1], nn.Sigmoid())


def probabilities(network, x):
    p = network(x)
    return torch.cat([1 - p, p], dim=1)


def tasks(X, y, hidden_layer_sizes):
    """Return the names of methods with functions of nothing: ours, and the same by hand."""
    mlp = MLPClassifier(hidden_layer_sizes, max_iter=2000, random_state=0)
    pipeline = make_pipeline(StandardScaler(), mlp).fit(X, y)
    scaler, network = by_hand(pipeline)
    row = X[:1]

    saliency = LabelFreeAttributor(pipeline, method="saliency").fit(X)

    def saliency_by_hand():
        x = torch.from_numpy(scaler.transform(row)).requires_grad_()
        p = probabilities(network, x)
        (gradient,) = torch.autograd.grad((p * p.detach()).sum(), x)
        return gradient.numpy() / scaler.scale_

    dknn = DKNNImportance(pipeline, n_neighbors=10).fit(X)
    with torch.inference_mode():
        codes = probabilities(network, torch.from_numpy(scaler.transform(X))).numpy()
    neighbors = NearestNeighbors(n_neighbors=10).fit(codes)

    def dknn_by_hand():
        with torch.inference_mode():
            z = probabilities(network, torch.from_numpy(scaler.transform(row))).numpy()
        return neighbors.kneighbors(z)

    np.testing.assert_allclose(saliency.transform(row), saliency_by_hand(), rtol=1e-4, atol=1e-7)
    return {
        "saliency": (lambda: saliency.transform(row), saliency_by_hand),
        "DKNN": (lambda: dknn.top_examples(row, 10), dknn_by_hand),
    }


def many(call):
    def calls():
        for _ in range(N_CALLS):
            call()

    return calls


def table(results):
    header = ["method", "ours, ms", "by hand, ms", "the door, ms"]
    rows = []
    for entry in results["speed"]:
        ours, hand = (1000 * entry[f"{name}_cpu_seconds"] for name in ("ours", "theirs"))
        rows.append([entry["method"], f"{ours:.2f}", f"{hand:.2f}", f"{ours - hand:.2f}"])
    return markdown_table(header, rows)


def render(results):
    """Return the section as Markdown."""
    settings, machine = results["settings"], results["environment"]
    return "\n\n".join(
        [
            "## Speed of one sample",
            "`transform` (DKNN: `top_examples`) of one row of breast cancer "
            f"({settings['n_features']} columns) through a Pipeline of a scaler and an MLP with "
            f"hidden layers of {' and '.join(map(str, settings['hidden_layer_sizes']))} units, "
            "beside the same numbers by hand from torch and scikit-learn, with no checks at all. "
            "What is between the two is the door: checks of the row, of the weights and of the "
            "result, and modes that are set and put back. Aim: under 2 ms in all. Made by "
            f"`benchmarks/speed/one_sample.py`. Processor time a call, the best of "
            f"{settings['n_repeats']} turns of {N_CALLS} calls; {machine['processor']}, "
            f"{machine['torch_threads']} thread(s), torch {machine['torch']}.",
            table(results),
        ]
    )


def measure(args, results, save):
    X, y = load_breast_cancer(return_X_y=True)
    X, y = X[: args.n_samples], y[: args.n_samples]
    results["settings"]["n_features"] = X.shape[1]
    results["speed"] = []
    for method, (ours, theirs) in tasks(X, y, tuple(args.hidden_layer_sizes)).items():
        timed = side_by_side(many(ours), many(theirs), args.n_repeats)
        for name in ("ours_seconds", "theirs_seconds", "ours_cpu_seconds", "theirs_cpu_seconds"):
            timed[name] = round(timed[name] / N_CALLS, 7)
        results["speed"].append({"method": method, **timed})


BENCHMARK = Benchmark(
    section="speed of one sample",
    page="speed.md",
    measure=measure,
    render=render,
    settings={"n_samples": 200, "hidden_layer_sizes": [32, 16], "n_repeats": 15},
    fixed={"n_calls": N_CALLS},
    smoke={"n_samples": 60, "hidden_layer_sizes": [4], "n_repeats": 1},
    threads=1,
    resume=False,
)
