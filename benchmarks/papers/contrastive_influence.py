"""Importance of training examples for a contrastive encoder, beside what leaving them out does.

A loss over pairs is no sample's. `ContrastiveEncoder` offers two losses of single samples in its
place: how far two views of a sample are from each other ("stability", Influence-SSL), and the
NT-Xent of a sample with other samples' views that stay as they are ("nt_xent"). Encoders of
scikit-learn's digits are trained, in float64 and on a fixed set of views. Then one training example
at a time is left out, and the encoder trained again from the weights there are, with the projection
head frozen and a term that keeps it near those weights (half of the damping times the squared
distance: the lengths of codes are nearly free, so that without it there is no minimum to compare
with). What that does to the losses of other digits is compared with their importance.
"""

import time
import warnings
from functools import partial

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from torch import nn

from sklexplain import DKNNImportance, InfluenceImportance, TracInImportance
from sklexplain.nets import ContrastiveEncoder

from .._runner import Benchmark, complete
from ..common import markdown_table, rounded

GRADIENT_TOL = 1e-7  # largest entry of the gradient at which training stops
LOSSES = ("stability", "nt_xent")
WORDS = {
    "influence": "influence",
    "tracin": "TracIn, last weights only",
}


class Training:
    """Mean NT-Xent over a fixed set of views plus weight decay, minimised in chosen parameters.

    Parameters
    ----------
    module : nn.Module
        Of the contrastive encoder, in float64; its weights are changed.
    x : torch.Tensor of shape (n, d)
        Training examples.
    args : object
        Settings.
    seed : int
        Of the views.
    """

    def __init__(self, module, x, args, seed):
        self.module, self._args = module, args
        generator = torch.Generator().manual_seed(1000 + seed)
        self._generator = generator
        self.pairs = self.views_of(x)

    def views_of(self, x):
        """Return pairs of views of samples, (n_views, 2, n, d), each sample's drawn for itself."""
        views, generator = self.module.views, self._generator
        pair = lambda: [views.view(x, views.draw(len(x), generator)) for _ in range(2)]  # noqa: E731
        return torch.stack([torch.stack(pair()) for _ in range(self._args.n_views)])

    def project(self, pairs):
        """Return unit vectors (n_views, 2, n, d)."""
        return self.module.project(pairs.flatten(0, 2)).unflatten(0, pairs.shape[:3])

    def loss(self, pairs):
        """Return the mean NT-Xent."""
        views = self.project(pairs).flatten(1, 2)  # (n_views, 2 n, d)
        logits = views @ views.mT / self._args.temperature
        own = torch.eye(logits.shape[1], dtype=torch.bool)
        same = logits.diagonal(pairs.shape[2], dim1=1, dim2=2)
        return logits.masked_fill(own, -torch.inf).logsumexp(dim=2).mean() - same.mean()

    def run(self, parameters, pairs, max_iter, near=None):
        """Minimise from the weights there are; returns the largest entry of the gradient.

        Half of the damping times the squared distance from other weights is added, if there are
        any: influence with damping is about such training.
        """
        start = nn.utils.parameters_to_vector(parameters).detach().numpy()

        def value(theta):
            nn.utils.vector_to_parameters(torch.from_numpy(theta), parameters)
            total = self.loss(pairs)
            if near is not None:
                away = sum((p - q).square().sum() for p, q in zip(parameters, near, strict=True))
                total = total + self._args.damping / 2 * away
            grads = torch.autograd.grad(total, parameters)
            return float(total.detach()), torch.cat([g.flatten() for g in grads]).numpy()

        options = {"maxiter": max_iter, "maxfun": 2 * max_iter, "gtol": GRADIENT_TOL, "ftol": 0}
        options["maxcor"] = 30
        found = minimize(value, start, jac=True, method="L-BFGS-B", options=options)
        nn.utils.vector_to_parameters(torch.from_numpy(found.x), parameters)
        return float(np.abs(found.jac).max())

    def losses(self, query, bank):
        """Return the losses of queries, by pairs of their views and the views of the bank."""
        one, two = self.project(query).unbind(dim=1)  # (n_views, n, d)
        others = self.project(bank).flatten(0, 2)
        stability = (one - two).square().sum(dim=2).mean(dim=0)
        temperature, n_others = self._args.temperature, 2 * (self._args.n_train - 1)
        pair = ((one * two).sum(dim=2) / temperature).exp()
        crossed = []
        for view in (one, two):
            mean = (view @ others.T / temperature).exp().mean(dim=2)
            crossed.append(-(pair / (pair + n_others * mean)).log())
        return {"stability": stability, "nt_xent": sum(crossed).mean(dim=0) / 2}


def of_pairs(training, parameters, query, chosen, n, damping):
    """Influence by the loss of pairs itself: what leaving out does, to first order.

    Returns
    -------
    importance : dict of str to ndarray of shape (n_query, n_chosen)
        By the loss of the queries.
    """

    def flat(value, **options):
        grads = torch.autograd.grad(value, parameters, **options)
        return torch.cat([g.flatten() for g in grads])

    slope = flat(training.loss(training.pairs), create_graph=True)
    curvature = torch.stack([flat(entry, retain_graph=True) for entry in slope])
    curvature += damping * torch.eye(len(curvature), dtype=torch.float64)
    full, rows = slope.detach(), []
    for i in chosen:
        kept = [j for j in range(n) if j != i]
        rows.append(full - flat(training.loss(training.pairs[:, :, kept])))
    moved = torch.linalg.solve(curvature, torch.stack(rows, dim=1))  # (p, n_chosen)
    losses = training.losses(query, training.pairs)
    return {
        name: (torch.stack([flat(value, retain_graph=True) for value in values]) @ moved).numpy()
        for name, values in losses.items()
    }


def importances(encoder, x, query, args):
    """Importance matrices (n_query, n_train) by method and loss."""
    found = {}
    params = {"n_draws": args.n_draws, "random_state": 0}
    for loss in LOSSES:
        curvature = "hessian" if loss == "nt_xent" else "gauss_newton"
        influence = {"damping": args.damping, "curvature": curvature, "solver": "exact"}
        for name, explainer in (
            ("influence", InfluenceImportance(encoder, loss=loss, **influence, **params)),
            ("tracin", TracInImportance(encoder, loss=loss, **params)),
        ):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[f"{WORDS[name]}, {loss}"] = explainer.fit(x).transform(query)
    found["DKNN"] = DKNNImportance(encoder).fit(x).transform(query)
    return found


def one_run(seed, args):
    rng = np.random.RandomState(seed)
    start = time.process_time()
    X = (load_digits().data / 16).astype(np.float32)
    X = X[rng.permutation(len(X))[: args.n_train + args.n_query]]
    encoder = ContrastiveEncoder(
        n_components=args.n_components,
        hidden_layer_sizes=(args.width,),
        activation="tanh",
        projection_dim=args.n_components,
        augment=["jitter", "corruption"],
        augment_params={"corruption_rate": 0.3},
        temperature=args.temperature,
        batch_size=args.n_train,
        random_state=seed,
    ).initialize(X[: args.n_train])
    module = encoder.net_.module_.double()
    module.projector.relu0 = nn.Tanh()  # with kinks, training would not settle
    x, query = torch.from_numpy(X).double().split([args.n_train, args.n_query])
    training = Training(module, x, args, seed)
    query_views = training.views_of(query)
    learned = [*module.encoder.parameters(), *module.projector.parameters()]
    training.run(learned, training.pairs, args.max_iter)
    parameters = list(module.encoder.parameters())
    near = [p.detach().clone() for p in parameters]
    gradient = training.run(parameters, training.pairs, args.max_iter_again, near)
    best = [p.detach().clone() for p in parameters]
    chosen = np.sort(rng.permutation(args.n_train)[: args.n_left_out])
    exact = of_pairs(training, parameters, query_views, chosen, args.n_train, args.damping)
    with torch.no_grad():
        before = training.losses(query_views, training.pairs)
    changes, worst = {loss: [] for loss in LOSSES}, 0.0
    for i in chosen:
        kept = [j for j in range(args.n_train) if j != i]
        pairs = training.pairs[:, :, kept]
        worst = max(worst, training.run(parameters, pairs, args.max_iter_again, near))
        with torch.no_grad():
            # Among the same views as before: it is the encoder that has changed.
            after = training.losses(query_views, training.pairs)
        for loss in LOSSES:
            changes[loss].append(after[loss] - before[loss])
        with torch.no_grad():
            for p, b in zip(parameters, best, strict=True):
                p.copy_(b)
    encoder.net_.module_.float()
    encoder.load_state_dict(encoder.net_.module_.state_dict())
    found = importances(encoder, X[: args.n_train], X[args.n_train :], args)
    entry = {"gradient": gradient, "gradient_left_out": worst}
    entry["loss"] = rounded(float(training.loss(training.pairs.float()).detach()), 4)
    for loss in LOSSES:
        change = torch.stack(changes[loss], dim=1).numpy()  # (n_query, n_left_out)
        entry[loss] = {}
        every = {name: matrix[:, chosen] for name, matrix in found.items()}
        for name, matrix in ({"influence of the loss of pairs": exact[loss]} | every).items():
            rows = [spearmanr(a, b)[0] for a, b in zip(matrix, change, strict=True)]
            total = spearmanr(matrix.mean(axis=0), change.mean(axis=0))[0]
            entry[loss][name] = {
                "each": rounded(float(np.mean(rows)), 4),
                "mean": rounded(float(total), 4),
            }
    entry["cpu_seconds"] = rounded(time.process_time() - start, 1)
    return entry


def render(results):
    """Return the section of docs/results.md as Markdown."""
    settings, seeds = results["settings"], list(results["seeds"].values())
    header = ["importance"]
    for loss in LOSSES:
        header += [f"{loss} of each query", f"mean {loss} of the queries"]
    rows = []
    for name in seeds[0][LOSSES[0]]:
        row = [name]
        for loss in LOSSES:
            for key in ("each", "mean"):
                values = [entry[loss][name][key] for entry in seeds]
                row.append(f"{np.mean(values):.3f} ± {np.std(values):.3f}")
        rows.append(row)
    worst = max(entry["gradient_left_out"] for entry in seeds)
    return "\n\n".join(
        [
            "## Influence in contrastive encoders and leaving examples out",
            f"Encoders (64, {settings['width']}, {settings['n_components']} units, tanh) of "
            f"{settings['n_train']} of scikit-learn's digits, trained in float64 by NT-Xent "
            f"(temperature {settings['temperature']:g}) over {settings['n_views']} fixed pairs of "
            "views of each (jitter, 30 % of the pixels replaced); then "
            f"{settings['n_left_out']} examples are left out one at a time, and the encoder is "
            "trained again from there, the projection head frozen, with half of "
            f"{settings['damping']:g} (the damping of influence) times the squared distance from "
            "the weights added. Spearman correlation, over the examples left out, of their "
            f"importance with what two losses of {settings['n_query']} other digits rise by: "
            "*stability* is the squared distance of two views, *nt_xent* the loss among views of "
            "the training examples. Of each query and then averaged, or of importance and losses "
            f"that are averaged over queries before. Means over {len(seeds)} seeds (data, weights, "
            f"views), ± the standard deviation. Training again stopped at gradients with no entry "
            f"above {worst:.0e}. Made by `benchmarks/papers/contrastive_influence.py`.",
            markdown_table(header, rows),
        ]
    )


def measure(args, results, save):
    tasks = {str(seed): partial(one_run, seed, args) for seed in args.seeds}
    complete(results.setdefault("seeds", {}), tasks, save)


BENCHMARK = Benchmark(
    section="contrastive influence",
    page="label_free.md",
    measure=measure,
    render=render,
    settings={
        "seeds": [0, 1, 2],
        "n_train": 120,
        "n_query": 30,
        "n_left_out": 100,
        # Of few views, leaving out shows what those taught, and not what views teach on average,
        # which is what importance is about.
        "n_views": 16,
        "n_draws": 16,
        "n_components": 4,
        "width": 8,
        "temperature": 0.5,
        "damping": 0.1,
        "max_iter": 100,
        "max_iter_again": 60,
    },
    smoke={
        "seeds": [0],
        "n_train": 15,
        "n_query": 4,
        "n_left_out": 4,
        "n_views": 2,
        "n_draws": 2,
        "max_iter": 10,
        "max_iter_again": 5,
    },
    threads=1,
)
