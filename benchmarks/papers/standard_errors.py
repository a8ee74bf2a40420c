"""Standard errors of sampled attributions: how often their intervals hold, and what they cost.

For every method that draws, ``confidence_intervals`` of 20 samples are computed with many seeds, on
random networks, and compared with the method's own limit: exact Shapley values (Shapley sampling,
KernelSHAP), the ridge on all coalitions with the same strength of penalty (LIME), integrated
gradients from every background row (gradient SHAP), 20 000 draws (SmoothGrad).

Results go to ``results/standard_errors.json`` and into ``docs/results.md``; ``--render`` only
writes the section.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sklexplain import LabelFreeAttributor

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common import (
    ROOT,
    environment,
    interleaved,
    markdown_table,
    rounded,
    write_json,
    write_section,
)  # noqa: E402, I001

SECTION = "standard errors"
N_SEEDS, N_SAMPLES = 150, 20
# Columns of the network, activation, and numbers of draws.
SETTINGS = {
    "shapley_sampling": [
        (7, "relu", (10, 20, 30, 50, 100)),
        (8, "tanh", (20, 26, 30, 50, 100, 200)),
    ],
    "kernel_shap": [(8, "tanh", (32, 50, 100, 200)), (12, "tanh", (128, 240, 1024))],
    "lime": [(8, "tanh", (50, 100, 300, 1000)), (8, "relu", (50, 100, 300, 1000))],
    "gradient_shap": [(8, "tanh", (10, 25, 50, 100)), (8, "relu", (10, 25, 50, 100))],
    "smooth_grad": [(8, "tanh", (10, 25, 50, 100)), (8, "relu", (10, 25, 50, 100))],
}
# Numbers of draws between which errors should halve with four times as many.
SLOPES = {
    "shapley_sampling": (8, 10, 100),
    "kernel_shap": (14, 280, 1120),
    "lime": (8, 100, 1000),
    "gradient_shap": (8, 25, 250),
    "smooth_grad": (8, 25, 250),
}
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


def network(d, activation):
    """A random network, and 100 rows for it."""
    torch.manual_seed(d)
    inner = nn.Linear(d, 24), ACTIVATIONS[activation](), nn.Linear(24, 3)
    X = np.random.RandomState(d).normal(size=(100, d))
    return nn.Sequential(*inner).double(), X


def attributor(net, method, n, seed):
    """The attributor of n draws."""
    baseline = "background" if method == "gradient_shap" else "mean"
    params = None if n is None else {"n_samples": n}
    return LabelFreeAttributor(
        net, method=method, method_params=params, baseline=baseline, random_state=seed
    )


def limit(net, X, method, n):
    """What endless draws would give."""
    d = X.shape[1]
    if method in ("shapley_sampling", "kernel_shap"):
        return attributor(net, "kernel_shap", 2**d, 0).fit(X).transform(X[:N_SAMPLES])
    if method == "gradient_shap":
        exact = LabelFreeAttributor(net, baseline="background", random_state=0).fit(X)
        return exact.transform(X[:N_SAMPLES])
    if method == "smooth_grad":
        return attributor(net, method, 20_000, 10**6).fit(X).transform(X[:N_SAMPLES])
    Z = np.array(list(itertools.product([False, True], repeat=d)))
    weights = np.exp(-(((1 - np.sqrt(Z.mean(axis=1))) / 0.25) ** 2))
    weights /= weights.sum()
    centred = Z - weights @ Z
    gram = (centred.T * weights) @ centred + np.eye(d) / n
    maps = []
    with torch.no_grad():
        for x in X[:N_SAMPLES]:
            z = net(torch.from_numpy(np.where(Z, x, X.mean(axis=0)))).numpy()
            v = z @ net(torch.from_numpy(x)).numpy()
            maps.append(np.linalg.solve(gram, (centred.T * weights) @ v))
    return np.array(maps)


def coverage(net, X, method, n):
    """Share of intervals that hold the limit; its spread over seeds; relative size of errors."""
    expected, held, errors, misses, n_unknown = limit(net, X, method, n), [], [], [], 0
    for seed in range(N_SEEDS):
        try:
            explainer = attributor(net, method, n, seed).fit(X)
        except ValueError:  # so few coalitions that they cannot tell the columns apart
            continue
        found = explainer.confidence_intervals(X[:N_SAMPLES])
        if np.isnan(found.low).any():  # without one of the pairs they could not be told apart
            n_unknown += 1
            continue
        held.append(((found.low <= expected) & (expected <= found.high)).mean())
        errors.append(found.standard_errors)
        misses.append(found.attributions - expected)
    return {
        "n_refused": N_SEEDS - len(held) - n_unknown,
        "n_unknown": n_unknown,
        "coverage": rounded(np.mean(held), 4),
        "sd_over_seeds": rounded(np.std(held), 4),
        "error_over_miss": rounded(
            np.sqrt(np.mean(np.square(errors)) / np.mean(np.square(misses)))
        ),
    }


def slope(method):
    """Of the logarithm of the mean error by that of the number of draws."""
    d, few, many = SLOPES[method]
    net, X = network(d, "tanh")
    sizes = [
        np.mean(
            [
                attributor(net, method, n, seed).fit(X).standard_errors(X[:N_SAMPLES]).mean()
                for seed in range(10)
            ]
        )
        for n in (few, many)
    ]
    return {
        "d": d,
        "draws": [few, many],
        "slope": rounded(np.log(sizes[1] / sizes[0]) / np.log(many / few), 3),
    }


def costs(method):
    """Time of standard errors over that of maps, on a network of some size."""
    torch.manual_seed(0)
    d = 16
    net = nn.Sequential(
        nn.Linear(d, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 8)
    )
    X = np.random.RandomState(0).normal(size=(100, d)).astype(np.float32)
    fitted = attributor(net, method, None, 0).fit(X)
    _, cpu = interleaved([lambda: fitted.transform(X), lambda: fitted.standard_errors(X)], 15)
    return {
        "maps_seconds": rounded(np.median(cpu[0])),
        "ratio": rounded(np.median(cpu[1] / cpu[0]), 3),
    }


def compute():
    """Run everything."""
    torch.set_num_threads(1)
    results = {
        "environment": environment(),
        "n_seeds": N_SEEDS,
        "n_samples": N_SAMPLES,
        "coverage": [],
    }
    for method, settings in SETTINGS.items():
        for d, activation, sizes in settings:
            net, X = network(d, activation)
            for n in sizes:
                row = {"method": method, "d": d, "activation": activation, "n": n}
                results["coverage"].append(row | coverage(net, X, method, n))
                print(results["coverage"][-1], flush=True)
    results["slopes"] = {method: slope(method) for method in SLOPES}
    results["costs"] = {method: costs(method) for method in SETTINGS}
    return results


def render(results):
    """The section of the results page."""
    rows = []
    for method, settings in SETTINGS.items():
        for d, activation, _ in settings:
            own = [
                row
                for row in results["coverage"]
                if (row["method"], row["d"], row["activation"]) == (method, d, activation)
            ]
            shown = ", ".join(f"{row['coverage']:.3f} ({row['n']})" for row in own)
            rows.append([method, f"{d}", activation, shown])
    table = markdown_table(["method", "columns", "activation", "coverage (draws)"], rows)
    other = markdown_table(
        ["method", "slope of errors (columns, draws)", "time over that of maps"],
        [
            [
                method,
                f"{found['slope']:.2f} ({found['d']}; {found['draws'][0]} to {found['draws'][1]})",
                f"{results['costs'][method]['ratio']:.2f}",
            ]
            for method, found in results["slopes"].items()
        ],
    )
    return f"""## Standard errors of sampled attributions

`python benchmarks/papers/standard_errors.py`; settings and all numbers in
`benchmarks/papers/results/standard_errors.json`.

How often 95 % intervals of `LabelFreeAttributor.confidence_intervals` hold the method's own limit,
over {results["n_seeds"]} seeds and {results["n_samples"]} samples of a random network in float64.
The limit is the exact Shapley value for Shapley sampling and KernelSHAP; for LIME the ridge on all
coalitions with the same strength of penalty; for gradient SHAP and SmoothGrad what endless draws
give.

{table}

The unit of Shapley sampling and KernelSHAP is a pair (an order and its reverse, a coalition and its
complement), so that ten draws are five pairs; with fewer than ten pairs intervals hold somewhat
less often than they should. {_of_few(results)} LIME's intervals are too wide where
coalitions are few: the whole sample, which is always among them, counts as if it were drawn. Draws
are common to all samples, so that with one seed the share of intervals that hold differs from these
by .02 to .06 (standard deviation).

{other}

Errors fall with the root of the number of draws; those of KernelSHAP faster where coalitions are
few for its columns. Time is processor time for 100 samples of 16 columns with each method's default
number of draws: the same rows enter the network once.
"""


def _of_few(results):
    """Say for how many seeds KernelSHAP has too few coalitions."""
    said = [
        f"with {row['n']} coalitions of {row['d']} columns {row['n_refused']} of "
        f"{results['n_seeds']} seeds were refused and {row['n_unknown']} had no errors (NaN)"
        for row in results["coverage"]
        if row["method"] == "kernel_shap" and row["n_refused"] + row["n_unknown"]
    ]
    text = "; ".join(said)
    return f"KernelSHAP {text}: without one of the pairs it could not tell the columns apart."


def main():
    """Compute, write, render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--render", action="store_true")
    args = parser.parse_args()
    path = Path(__file__).parent / "results" / "standard_errors.json"
    if not args.render:
        write_json(path, compute())
    write_section(ROOT / "docs" / "results.md", SECTION, render(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
