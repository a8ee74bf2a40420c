"""Influence in a network of 59,720 parameters over 2000 heartbeats, by conjugate gradients.

Neither the curvature in the parameters nor the inner products of the Jacobian's 16,000 rows are
small enough to be decomposed. Beside conjugate gradients with a randomised Nyström preconditioner,
there is what was chosen before them, a Gauss-Newton matrix of few random rows.

Agreement is the mean over a few samples of Spearman's rank correlation, over the training
heartbeats, with the importance by conjugate gradients run to a small residual.
"""

import time
import warnings
from functools import cache, lru_cache, partial

import numpy as np
from scipy.stats import spearmanr
from sklearn.exceptions import ConvergenceWarning

from sklexplain import InfluenceImportance
from sklexplain.datasets import load_ecg5000
from sklexplain.nets import Autoencoder

from .._runner import Benchmark, complete
from ..common import markdown_table, rounded

WAYS = {
    "auto": {},
    "conjugate gradients, tol 0.1": {"solver": "cg", "tol": 0.1},
    "low_rank, rank 2000": {"solver": "low_rank"},
}
TARGET = 60  # seconds of processor time
TOL = 1e-4  # of the reference


@lru_cache(maxsize=1)
def trained(n_train, epochs):
    beats = load_ecg5000(return_X_y=True)[0].astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        autoencoder = Autoencoder(
            module="conv1d",
            n_components=8,
            max_epochs=epochs,
            validation_split=None,
            random_state=0,
        ).fit(beats[:n_train])
    return autoencoder, beats


def importance(args, n_query, **params):
    """Matrix, the estimator, processor times of fit and transform, and whether it warned."""
    autoencoder, beats = trained(args.n_train, args.epochs)
    influence = InfluenceImportance(autoencoder, random_state=0, **params)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.process_time()
        influence.fit(beats[: args.n_train])
        fitted = time.process_time()
        matrix = influence.transform(beats[args.n_train : args.n_train + n_query])
        end = time.process_time()
    warned = any(issubclass(w.category, ConvergenceWarning) for w in caught)
    return matrix, influence, (fitted - start, end - fitted), warned


def one_way(params, reference, args):
    expected = reference()
    matrix, influence, (fit, transform), warned = importance(args, args.n_query, **params)
    pairs = zip(matrix, expected, strict=False)
    agreement = np.mean([spearmanr(ours, theirs)[0] for ours, theirs in pairs])
    return {
        "solver": influence.solver_,
        "n_parameters": int(np.sum([p.numel() for p in encoder(influence).parameters()])),
        "fit_cpu_seconds": rounded(fit, 2),
        "transform_cpu_seconds": rounded(transform, 2),
        "residual": float(f"{influence.residual_:.2g}"),
        "n_iter": influence.n_iter_,
        "warned": warned,
        "agreement": rounded(agreement, 4),
    }


def encoder(influence):
    return influence.estimator_.net_.module_.encoder


def render(results):
    """Return the section as Markdown."""
    machine, settings, ways = results["environment"], results["settings"], results["ways"]
    header = ["solver", "fit", "transform", "together", "residual", "warned", "agreement"]
    rows = []
    for name, entry in ways.items():
        seconds = [entry["fit_cpu_seconds"], entry["transform_cpu_seconds"]]
        rows.append([name, *(f"{s:.1f}" for s in (*seconds, sum(seconds)))])
        rows[-1] += [entry["residual"], "yes" if entry["warned"] else "no", entry["agreement"]]
    n_parameters = next(iter(ways.values()))["n_parameters"]
    return "\n\n".join(
        [
            "## Speed of influence at scale",
            f"Importance of {settings['n_train']} training heartbeats for {settings['n_query']} "
            f"others, by influence in the {n_parameters:,} parameters of the encoder of a "
            f"convolutional autoencoder, trained for {settings['epochs']} epochs. Seconds of "
            "processor time; the residual is that of the worst of two gradients, by products that "
            "run the network. Agreement is the mean over "
            f"{settings['n_checked']} samples of Spearman's rank correlation with conjugate "
            f"gradients run to a residual of {TOL:g}. Made by "
            "`benchmarks/speed/influence_heartbeats.py`. "
            f"{machine['torch_threads']} thread(s) of {machine['n_cores']} cores, "
            f"{machine['processor']}, torch {machine['torch']}. Aim: at most {TARGET} s at a "
            "residual of at most 0.1, without a warning.",
            markdown_table(header, rows),
        ]
    )


def measure(args, results, save):
    @cache
    def reference():
        return importance(args, args.n_checked, solver="cg", tol=TOL)[0]

    tasks = {name: partial(one_way, params, reference, args) for name, params in WAYS.items()}
    complete(results.setdefault("ways", {}), tasks, save)


BENCHMARK = Benchmark(
    section="speed of influence at scale",
    page="speed.md",
    measure=measure,
    render=render,
    settings={"n_train": 2000, "n_query": 100, "n_checked": 20, "epochs": 20},
    fixed={"tol": TOL},
    smoke={"n_train": 12, "n_query": 4, "n_checked": 2, "epochs": 1},
    threads=1,
)
