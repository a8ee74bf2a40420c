"""Explaining one sample: what an explainer does around the method, in milliseconds.

A Pipeline of a scaler and a small multilayer perceptron, fitted on 200 samples of a table. Ours is
``transform`` of one row: it checks the row, finds out whether the weights are those of fit, runs
the network, and puts its result into an array. By hand the same numbers come from torch,
scikit-learn's scaler and scikit-learn's nearest neighbours, with no checks at all.

    python benchmarks/speed/one_sample.py

prints the medians and writes ``benchmarks/speed/results/one_sample.json``.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklexplain import DKNNImportance, LabelFreeAttributor

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import ROOT, environment, markdown_table, side_by_side, write_json, write_section  # noqa: E402

SECTION = "speed of one sample"
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
    """Return the section of docs/results.md as Markdown."""
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


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, nargs="+", default=[32, 16])
    parser.add_argument("--n-samples", type=int, default=200)
    parser.add_argument("--n-repeats", type=int, default=15)
    parser.add_argument("--smoke", action="store_true", help="a tiny run that says nothing")
    parser.add_argument("--out", type=Path, help="results file (JSON)")
    parser.add_argument("--docs", type=Path, help="page to write a section of (Markdown)")
    parser.add_argument("--render", action="store_true", help="only write the section again")
    args = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp()) if args.smoke else ROOT
    args.out = args.out or folder / "benchmarks/speed/results/one_sample.json"
    if args.smoke:
        args.n_samples, args.hidden, args.n_repeats = 60, [4], 1
    return args


def main(argv=None):
    args = parse_args(argv)
    if args.render:
        results = json.loads(args.out.read_text())
        write_section(args.docs or ROOT / "docs" / "results.md", SECTION, render(results))
        return
    torch.set_num_threads(1)
    X, y = load_breast_cancer(return_X_y=True)
    X, y = X[: args.n_samples], y[: args.n_samples]
    settings = {
        "n_samples": len(X),
        "n_features": X.shape[1],
        "hidden_layer_sizes": args.hidden,
        "n_calls": N_CALLS,
        "n_repeats": args.n_repeats,
    }
    results = {"settings": settings, "environment": environment(), "speed": []}
    for method, (ours, theirs) in tasks(X, y, tuple(args.hidden)).items():
        timed = side_by_side(many(ours), many(theirs), args.n_repeats)
        for name in ("ours_seconds", "theirs_seconds", "ours_cpu_seconds", "theirs_cpu_seconds"):
            timed[name] = round(timed[name] / N_CALLS, 7)
        results["speed"].append({"method": method, **timed})
    print(table(results))
    write_json(args.out, results)
    print(f"wrote {args.out}")
    if args.docs:
        write_section(args.docs, SECTION, render(results))


if __name__ == "__main__":
    main()
