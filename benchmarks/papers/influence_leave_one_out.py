"""Influence functions beside what leaving examples out does, on networks that are not convex.

Autoencoders of scikit-learn's digits are trained, in float64 and without batches, to a minimum of
the mean squared error plus weight decay. Then one training example at a time is left out and the
encoder trained again, from the weights there are, with the decoder frozen; and once more the whole
network. What that does to the losses of other digits is compared with their importance.
"""

import time
import warnings
from functools import partial

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.stats import pearsonr, spearmanr
from sklearn.datasets import load_digits
from torch import nn

from sklexplain import InfluenceImportance, TracInImportance
from sklexplain.nets import AutoencoderModule

from .._runner import Benchmark, Option, complete
from ..common import markdown_table, rounded

GRADIENT_TOL = 1e-8  # largest entry of the gradient at which training stops


def mlp():
    encoder = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 4))
    decoder = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 64))
    return AutoencoderModule(encoder, decoder), (64,)


def conv():
    encoder = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 4),
    )
    decoder = nn.Sequential(
        nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 64), nn.Unflatten(1, (1, 8, 8))
    )
    return AutoencoderModule(encoder, decoder), (1, 8, 8)


NETWORKS = {"mlp": mlp, "conv": conv}


class Training:
    """Mean loss plus weight decay, minimised in chosen parameters.

    Parameters
    ----------
    module : nn.Module
        The autoencoder; its weights are changed.
    weight_decay : float
        Half of it times the squared length of the parameters is added.
    """

    def __init__(self, module, weight_decay):
        self.module, self._decay = module, weight_decay

    def losses(self, x):
        """Return one loss a sample."""
        return (self.module(x) - x).square().flatten(1).mean(dim=1)

    def run(self, parameters, x, n, max_iter):
        """Minimise from the weights there are; returns the largest entry of the gradient.

        The sum of losses is divided by n, however many samples there are.
        """
        start = nn.utils.parameters_to_vector(parameters).detach().numpy()

        def value(theta):
            nn.utils.vector_to_parameters(torch.from_numpy(theta), parameters)
            total = self.losses(x).sum() / n
            total = total + self._decay / 2 * sum(p.square().sum() for p in parameters)
            grads = torch.autograd.grad(total, parameters)
            return float(total.detach()), torch.cat([g.flatten() for g in grads]).numpy()

        options = {"maxiter": max_iter, "maxfun": 2 * max_iter, "gtol": GRADIENT_TOL, "ftol": 0}
        options["maxcor"] = 30
        found = minimize(value, start, jac=True, method="L-BFGS-B", options=options)
        nn.utils.vector_to_parameters(torch.from_numpy(found.x), parameters)
        return float(np.abs(found.jac).max())


def left_out(training, parameters, x, query, chosen, max_iter):
    """What leaving each of the chosen examples out adds to the queries' losses, (queries, chosen).

    Also the largest entry of a gradient where training stopped.
    """
    best = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        before = training.losses(query)
    changes, worst = [], 0.0
    for i in chosen:
        rest = torch.cat([x[:i], x[i + 1 :]])
        worst = max(worst, training.run(parameters, rest, len(x), max_iter))
        with torch.no_grad():
            changes.append(training.losses(query) - before)
            for p, b in zip(parameters, best, strict=True):
                p.copy_(b)
    return torch.stack(changes, dim=1).numpy(), worst


def importances(module, x, query, weight_decay):
    """Importance matrices (n_query, n_train) by method; the smallest curvature goes with them."""
    params = {"damping": weight_decay, "solver": "exact"}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = {
            "influence, Hessian": InfluenceImportance(module, curvature="hessian", **params),
            "influence, Gauss–Newton": InfluenceImportance(module, **params),
            "TracIn, last weights only": TracInImportance(module),
        }
        found = {name: e.fit(x).transform(query) for name, e in found.items()}
    return found, any("negative" in str(w.message) for w in said)


def correlations(importance, changes):
    """Means over queries of the correlation over examples."""
    pairs = list(zip(importance, changes, strict=True))
    return {
        "spearman": rounded(np.mean([spearmanr(a, b)[0] for a, b in pairs]), 4),
        "pearson": rounded(np.mean([pearsonr(a, b)[0] for a, b in pairs]), 4),
    }


def one_run(name, seed, args):
    rng = np.random.RandomState(seed)
    torch.manual_seed(seed)
    module, shape = NETWORKS[name]()
    module.double().eval()
    X = load_digits().data.reshape(-1, *shape) / 16
    X = X[rng.permutation(len(X))[: args.n_train + args.n_query]]
    x, query = torch.from_numpy(X).split([args.n_train, args.n_query])
    start = time.process_time()
    training = Training(module, args.weight_decay)
    everything, encoder = list(module.parameters()), list(module.encoder.parameters())
    gradient = training.run(everything, x, len(x), args.max_iter)
    with torch.no_grad():
        error = float(training.losses(x).mean() / x.var(dim=0).mean())
    found, negative = importances(module, x.numpy(), query.numpy(), args.weight_decay)
    chosen = np.sort(rng.permutation(args.n_train)[: args.n_left_out])
    entry = {"gradient": gradient, "unexplained_variance": rounded(error)}
    entry["negative_curvature"] = negative
    for what, parameters in (("encoder", encoder), ("whole network", everything)):
        changes, worst = left_out(training, parameters, x, query, chosen, args.max_iter)
        entry[what] = {n: correlations(m[:, chosen], changes) for n, m in found.items()}
        entry[what]["gradient"] = worst
    entry["cpu_seconds"] = rounded(time.process_time() - start, 1)
    return entry


def render(results):
    """Return the section as Markdown."""
    settings = results["settings"]
    header = ["network", "importance", "encoder again: Spearman", "lowest seed", "Pearson"]
    header += ["whole network again: Spearman", "Pearson"]
    rows = []
    for name, seeds in results["networks"].items():
        entries = list(seeds.values())
        for method in [m for m in entries[0]["encoder"] if m != "gradient"]:
            row = [name, method]
            for what in ("encoder", "whole network"):
                for key in ("spearman", "pearson"):
                    values = [e[what][method][key] for e in entries]
                    row.append(f"{np.mean(values):.3f} ± {np.std(values):.3f}")
                    if (what, key) == ("encoder", "spearman"):
                        row.append(f"{min(values):.3f}")
            rows.append(row)
    every = [e for seeds in results["networks"].values() for e in seeds.values()]
    n_seeds = min(map(len, results["networks"].values()))
    n_negative = sum(e["negative_curvature"] for e in every)
    largest = max(e[what]["gradient"] for e in every for what in ("encoder", "whole network"))
    return "\n\n".join(
        [
            "## Influence functions and leaving examples out",
            f"Autoencoders of {settings['n_train']} of scikit-learn's digits, four latent units, "
            "trained in float64 to a minimum of the mean squared error plus weight decay "
            f"{settings['weight_decay']:g}, which is the damping too; then "
            f"{settings['n_left_out']} examples are left out one at a time, and the encoder "
            "(decoder frozen), or the whole network, is trained again from there. Correlation, "
            f"over the examples left out, of their importance with what the losses of "
            f"{settings['n_query']} other digits rise by; means over the digits, then over "
            f"{n_seeds} seeds (data, weights), ± the standard deviation over seeds. Importance "
            "is in the encoder's parameters throughout. The mlp has tanh, the convolutional net "
            "ReLU. Training stopped at gradients with no entry above "
            f"{largest:.0e}; the Hessian with damping had negative eigenvalues in {n_negative} of "
            f"{len(every)} runs. Made by `benchmarks/papers/influence_leave_one_out.py`.",
            markdown_table(header, rows),
        ]
    )


def measure(args, results, save):
    for name in args.networks:
        tasks = {str(seed): partial(one_run, name, seed, args) for seed in args.seeds}
        complete(results.setdefault("networks", {}).setdefault(name, {}), tasks, save)


BENCHMARK = Benchmark(
    section="influence and leaving out",
    page="label_free.md",
    measure=measure,
    render=render,
    settings={
        "seeds": [0, 1, 2],
        "n_train": 150,
        "n_query": 50,
        "n_left_out": 40,
        "weight_decay": 1e-3,
        "max_iter": 3000,
    },
    options={"networks": Option(list(NETWORKS), choices=NETWORKS)},
    smoke={"seeds": [0], "n_train": 20, "n_query": 4, "n_left_out": 5, "max_iter": 40},
    threads=1,
)
