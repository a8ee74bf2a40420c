"""Standard errors of sampled attributions: how often their intervals hold, and what they cost.

For every method that draws, ``confidence_intervals`` of 20 samples are computed with many seeds, on
random networks, and compared with the method's own limit: exact Shapley values (Shapley sampling,
KernelSHAP), the ridge on all coalitions with the same strength of penalty (LIME), integrated
gradients from every background row (gradient SHAP), 20 000 draws (SmoothGrad).
"""

import itertools
from functools import partial

import numpy as np
import torch
from torch import nn

from sklexplain import LabelFreeAttributor

from .._runner import Benchmark, complete
from ..common import interleaved, markdown_table, rounded

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


def limit(net, rows, X, method, n, n_endless):
    """What endless draws would give for some of the rows."""
    d = X.shape[1]
    if method in ("shapley_sampling", "kernel_shap"):
        return attributor(net, "kernel_shap", 2**d, 0).fit(rows).transform(X)
    if method == "gradient_shap":
        exact = LabelFreeAttributor(net, baseline="background", random_state=0).fit(rows)
        return exact.transform(X)
    if method == "smooth_grad":
        return attributor(net, method, n_endless, 10**6).fit(rows).transform(X)
    Z = np.array(list(itertools.product([False, True], repeat=d)))
    weights = np.exp(-(((1 - np.sqrt(Z.mean(axis=1))) / 0.25) ** 2))
    weights /= weights.sum()
    centred = Z - weights @ Z
    gram = (centred.T * weights) @ centred + np.eye(d) / n
    maps = []
    with torch.no_grad():
        for x in X:
            z = net(torch.from_numpy(np.where(Z, x, rows.mean(axis=0)))).numpy()
            v = z @ net(torch.from_numpy(x)).numpy()
            maps.append(np.linalg.solve(gram, (centred.T * weights) @ v))
    return np.array(maps)


def coverage(method, d, activation, n, args):
    """Share of intervals that hold the limit; its spread over seeds; relative size of errors."""
    net, rows = network(d, activation)
    X = rows[: args.n_samples]
    expected = limit(net, rows, X, method, n, args.n_endless)
    held, errors, misses, n_unknown = [], [], [], 0
    for seed in range(args.n_seeds):
        try:
            explainer = attributor(net, method, n, seed).fit(rows)
        except ValueError:  # so few coalitions that they cannot tell the columns apart
            continue
        found = explainer.confidence_intervals(X)
        if np.isnan(found.low).any():  # without one of the pairs they could not be told apart
            n_unknown += 1
            continue
        held.append(((found.low <= expected) & (expected <= found.high)).mean())
        errors.append(found.standard_errors)
        misses.append(found.attributions - expected)
    ratio = np.sqrt(np.mean(np.square(errors)) / np.mean(np.square(misses)))
    return {
        **{"method": method, "d": d, "activation": activation, "n": n},
        "n_refused": args.n_seeds - len(held) - n_unknown,
        "n_unknown": n_unknown,
        "coverage": rounded(np.mean(held), 4),
        "sd_over_seeds": rounded(np.std(held), 4),
        "error_over_miss": rounded(ratio),
    }


def slope(method, args):
    """Of the logarithm of the mean error by that of the number of draws."""
    d, few, many = SLOPES[method]
    net, rows = network(d, "tanh")
    sizes = []
    for n in (few, many):
        fitted = [
            attributor(net, method, n, seed).fit(rows) for seed in range(2 if args.smoke else 10)
        ]
        sizes.append(np.mean([one.standard_errors(rows[: args.n_samples]) for one in fitted]))
    found = np.log(sizes[1] / sizes[0]) / np.log(many / few)
    return {"d": d, "draws": [few, many], "slope": rounded(found, 3)}


def cost(method, args):
    """Processor time of standard errors over that of maps, on a network of some size."""
    torch.manual_seed(0)
    d = 16
    hidden = nn.Linear(d, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU()
    net = nn.Sequential(*hidden, nn.Linear(64, 8))
    X = np.random.RandomState(0).normal(size=(100, d)).astype(np.float32)
    fitted = attributor(net, method, None, 0).fit(X)
    calls = [lambda: fitted.transform(X), lambda: fitted.standard_errors(X)]
    _, cpu = interleaved(calls, 2 if args.smoke else 15)
    return {
        "maps_seconds": rounded(np.median(cpu[0])),
        "ratio": rounded(np.median(cpu[1] / cpu[0]), 3),
    }


def measure(args, results, save):
    """Compute coverage row by row, then slopes and costs."""
    tasks = {}
    for method, settings in SETTINGS.items():
        for d, activation, sizes in settings[:1] if args.smoke else settings:
            for n in sizes[1:2] if args.smoke else sizes:
                name = f"{method}, {d} columns, {activation}, {n} draws"
                tasks[name] = partial(coverage, method, d, activation, n, args)
    complete(results.setdefault("coverage", {}), tasks, save)
    methods = ["gradient_shap"] if args.smoke else SETTINGS
    for name, function in (("slopes", slope), ("costs", cost)):
        tasks = {method: partial(function, method, args) for method in methods}
        complete(results.setdefault(name, {}), tasks, save)


def render(results):
    """The section of the results page."""
    rows, settings = [], results["settings"]
    for method, cases in SETTINGS.items():
        for d, activation, _ in cases:
            own = [
                row
                for row in results["coverage"].values()
                if (row["method"], row["d"], row["activation"]) == (method, d, activation)
            ]
            if not own:
                continue
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

How often 95 % intervals of `LabelFreeAttributor.confidence_intervals` hold the method's own limit,
over {settings["n_seeds"]} seeds and {settings["n_samples"]} samples of a random network in float64.
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

Errors fall with about the root of the number of draws, those of the regressions faster where
coalitions are few for the columns. Time is processor time for 100 samples of 16 columns with each
method's default number of draws: the same rows enter the network once. Made by
`benchmarks/papers/standard_errors.py`.
"""


def _of_few(results):
    """Say for how many seeds KernelSHAP has too few coalitions."""
    n_seeds = results["settings"]["n_seeds"]
    said = [
        f"with {row['n']} coalitions of {row['d']} columns refused {row['n_refused']} of {n_seeds} "
        f"seeds and had no errors (NaN) for {row['n_unknown']}"
        for row in results["coverage"].values()
        if row["method"] == "kernel_shap" and row["n_refused"] + row["n_unknown"]
    ]
    if not said:
        return ""
    text = "; ".join(said)
    return f"KernelSHAP {text}: without one of the pairs it could not tell columns apart."


BENCHMARK = Benchmark(
    section="standard errors",
    page="label_free.md",
    measure=measure,
    render=render,
    settings={"n_seeds": 150, "n_samples": 20, "n_endless": 20_000},
    smoke={"n_seeds": 2, "n_samples": 3, "n_endless": 100},
    threads=1,
)
