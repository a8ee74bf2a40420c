"""What a reference of its own costs a sample: neighbours and reconstructions beside common rows.

Integrated gradients of the reconstruction error, 50 points a sample from one reference whichever it
is, so that the network has the same rows to run but for a pass that finds the code (or the
reconstruction). Turns are interleaved; medians of processor time.
"""

import time
import warnings

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from sklexplain import AnomalyAttributor
from sklexplain.datasets import load_ecg5000
from sklexplain.nets import Autoencoder

from .._runner import Benchmark
from ..common import markdown_table, rounded

BASELINES = ("mean", "neighbors", "reconstruction")


def tables(n_train):
    """Normal samples of a table and of heartbeats."""
    table = StandardScaler().fit_transform(load_breast_cancer().data)
    beats, kinds = load_ecg5000(return_X_y=True)
    return {"breast cancer": table[:n_train], "heartbeats": beats[kinds == 1][:n_train]}


def timed(explainers, X, n_turns):
    """Median processor seconds of a call, turns interleaved."""
    seconds = {name: [] for name in explainers}
    for _ in range(n_turns + 1):  # the first warms up
        for name, explainer in explainers.items():
            start = time.process_time()
            explainer.transform(X)
            seconds[name].append(time.process_time() - start)
    return {name: float(np.median(values[1:])) for name, values in seconds.items()}


def measure(args, results, save):
    """Seconds by data, number of samples at once and reference."""
    rows = results["rows"] = []
    for name, train in tables(args.n_train).items():
        train = train.astype(np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            net = Autoencoder(n_components=8, max_epochs=args.n_epochs, random_state=0).fit(train)
        explainers = {
            baseline: AnomalyAttributor(net, baseline=baseline, random_state=0).fit(train)
            for baseline in BASELINES
        }
        for n_samples in args.n_samples:
            X = train[-n_samples:] + np.float32(0.1)
            seconds = timed(explainers, X, args.n_turns)
            seconds = {key: rounded(value, 6) for key, value in seconds.items()}
            rows.append({"data": name, "n_samples": len(X), "seconds": seconds})


def render(results):
    """Write the section of docs/results.md."""
    rows = []
    for row in results["rows"]:
        seconds = row["seconds"]
        cells = [f"{1000 * seconds['mean']:.1f}"]
        cells += [f"{seconds[name] / seconds['mean']:.2f}" for name in BASELINES[1:]]
        rows.append([row["data"], row["n_samples"], *cells])
    header = ["data", "samples at once", "common mean, ms", "× for neighbours", "× for rebuilt"]
    machine, settings = results["environment"], results["settings"]
    return "\n\n".join(
        [
            "## Speed of anomalies",
            "`AnomalyAttributor.transform` of an autoencoder, integrated gradients, by what "
            f"samples are compared with: one mean, the 10 nearest of {settings['n_train']} normal "
            "samples at most, or what the network rebuilds; one path a sample in each case. Made "
            "by `benchmarks/speed/anomalies.py`. Processor time, medians of "
            f"{settings['n_turns']} interleaved turns; {machine['processor']}, "
            f"{machine['torch_threads']} thread(s), torch {machine['torch']}.",
            markdown_table(header, rows),
        ]
    )


BENCHMARK = Benchmark(
    section="speed of anomalies",
    page="speed.md",
    measure=measure,
    render=render,
    settings={"n_train": 1500, "n_samples": [10, 100, 500], "n_epochs": 5, "n_turns": 25},
    smoke={"n_train": 40, "n_samples": [5], "n_epochs": 1, "n_turns": 1},
    threads=1,
    resume=False,
)
