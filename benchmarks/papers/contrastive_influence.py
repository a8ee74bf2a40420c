"""Importance of training examples for a contrastive encoder, beside what leaving them out does.

A loss over pairs is no sample's. `ContrastiveEncoder` offers two losses of single samples in its
place: how far two views of a sample are from each other ("stability", Influence-SSL), and the
NT-Xent of a sample among views of the others ("nt_xent"). Encoders of scikit-learn's digits are
trained, in float64 and on the pairs of views that importance is computed by, so that both are about
the same loss: of views of its own for each sample, an encoder of so few learns what just these
views teach, which other views of the same samples do not show.

Then the projection head is frozen, and the encoder trained to a minimum of the same loss plus half
of the damping times the squared distance from the weights there were: the lengths of codes are
nearly free, so that without that there is no minimum to compare with, and it is what influence's
damping stands for. One training example at a time is left out, and the encoder trained to the
minimum of what remains. What that does to the losses of other digits is compared with their
importance.

Projections have more entries than codes: in few, some view's projection comes close to 0 in
training, where unit vectors have no derivative, and training again does not settle.
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
from sklexplain.utils import draw_seed

from .._runner import Benchmark, complete
from ..common import markdown_table, rounded

GRADIENT_TOL = 1e-8  # largest entry of the gradient at which training stops
SETTLED = 1e-5  # that of a minimum whose curvature need not be computed again
ROWS = 16  # of the curvature at once
LOSSES = ("stability", "nt_xent")
WORDS = {
    "influence": "influence",
    "tracin": "TracIn, last weights only",
}
PAIRS = "influence by the loss of pairs"
# Of the examples, what is in the place of the change of the loss when they are left out.
OTHERS = {
    "nt_xent": "nt_xent of the example, curvature of the loss of pairs",
    "stability": "stability of the example, curvature of the loss of pairs",
}
RANDOM_STATE = 0  # of the explainers, which determines their views


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
    """

    def __init__(self, module, x, args):
        self.module, self._args = module, args
        self.pairs = self.views_of(x)

    def views_of(self, x):
        """Return pairs of views of samples, (n_draws, 2, n, d), as explainers draw them."""
        views, generator = self.module.views, torch.Generator().manual_seed(draw_seed(RANDOM_STATE))
        draw = lambda: views.view(x, views.draw(1, generator))  # noqa: E731
        return torch.stack([torch.stack([draw(), draw()]) for _ in range(self._args.n_draws)])

    def project(self, pairs):
        """Return unit vectors (n_draws, 2, n, d)."""
        return self.module.project(pairs.flatten(0, 2)).unflatten(0, pairs.shape[:3])

    def loss(self, pairs):
        """Return the mean NT-Xent."""
        views = self.project(pairs).flatten(1, 2)  # (n_draws, 2 n, d)
        logits = views @ views.mT / self._args.temperature
        own = torch.eye(logits.shape[1], dtype=torch.bool)
        same = logits.diagonal(pairs.shape[2], dim1=1, dim2=2)
        return logits.masked_fill(own, -torch.inf).logsumexp(dim=2).mean() - same.mean()

    def minimise(self, parameters, pairs, max_iter, near=None, basis=None):
        """Train from the weights there are, by L-BFGS.

        Parameters
        ----------
        parameters : list of torch.Tensor
            What is trained.
        pairs : torch.Tensor
            Views, see `views_of`.
        max_iter : int
            Most iterations.
        near : ndarray or None, default=None
            Weights: half of the damping times the squared distance from them is added.
        basis : ndarray of shape (p, p) or None, default=None
            Directions in which steps are taken. Those in which the curvature is 1 need a few.

        Returns
        -------
        gradient : float
            Largest entry of the gradient.
        """
        start = weights_of(parameters)

        def value(step):
            theta = start + (step if basis is None else basis @ step)
            put(theta, parameters)
            loss = self.loss(pairs)
            gradient = flat_gradient(loss, parameters).numpy()
            total = float(loss.detach())
            if near is not None:
                away = theta - near
                total += self._args.damping / 2 * away @ away
                gradient = gradient + self._args.damping * away
            worst[0] = float(np.abs(gradient).max())
            return total, gradient if basis is None else basis.T @ gradient

        options = {"maxiter": max_iter, "maxfun": 2 * max_iter, "maxcor": 30, "ftol": 0}
        options["gtol"] = GRADIENT_TOL / (1 if basis is None else np.abs(basis).max())
        worst = [np.inf]
        found = minimize(value, np.zeros_like(start), jac=True, method="L-BFGS-B", options=options)
        value(found.x)
        return worst[0]

    def curvature(self, parameters):
        """Return the Hessian of the loss of all examples, plus the damping."""
        slope = flat_gradient(self.loss(self.pairs), parameters, create_graph=True)
        rows = []
        for unit in torch.eye(len(slope), dtype=torch.float64).split(ROWS):
            found = torch.autograd.grad(
                slope, parameters, unit, retain_graph=True, is_grads_batched=True
            )
            rows.append(torch.cat([g.flatten(1) for g in found], dim=1))
        matrix = torch.cat(rows).numpy()
        return (matrix + matrix.T) / 2 + self._args.damping * np.eye(len(matrix))

    def settle(self, parameters, near):
        """Train to the minimum; return the largest entry of the gradient, and the curvature."""
        self.minimise(parameters, self.pairs, self._args.max_iter_again, near)
        for _ in range(3):
            before = weights_of(parameters)
            matrix = self.curvature(parameters)
            gradient = self.minimise(
                parameters, self.pairs, self._args.max_iter_again, near, steps_of(matrix)
            )
            if np.abs(weights_of(parameters) - before).max() <= SETTLED:
                break
        return gradient, matrix

    def losses(self, query, bank):
        """Return the losses of queries, by pairs of their views and those of the bank."""
        one, two = self.project(query).unbind(dim=1)  # (n_draws, n, d)
        others = self.project(bank).flatten(1, 2)
        stability = (one - two).square().sum(dim=2).mean(dim=0)
        temperature, n_others = self._args.temperature, 2 * (self._args.n_train - 1)
        pair = ((one * two).sum(dim=2) / temperature).exp()
        crossed = []
        for view in (one, two):
            mean = (view @ others.mT / temperature).exp().mean(dim=2)
            crossed.append(-(pair / (pair + n_others * mean)).log())
        return {"stability": stability, "nt_xent": sum(crossed).mean(dim=0) / 2}


def flat_gradient(value, parameters, **options):
    """Return the gradient, a vector."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters, **options)])


def weights_of(parameters):
    """Return a copy of the weights, a vector."""
    return nn.utils.parameters_to_vector(parameters).detach().numpy().copy()


def put(theta, parameters):
    """Put weights into a network, which keeps its own storage."""
    with torch.no_grad():
        for p, part in zip(
            parameters, torch.from_numpy(theta).split([p.numel() for p in parameters]), strict=True
        ):
            p.copy_(part.view_as(p))


def steps_of(matrix):
    """Return directions in which a curvature is 1, or as good as that where it is negative."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors / np.maximum(np.abs(values), 1e-3) ** 0.5


def of_pairs(training, parameters, matrix, query, chosen):
    """Influence by the curvature of the loss of pairs: what leaving out does, to first order.

    Parameters
    ----------
    training : Training
    parameters : list of torch.Tensor
        At their minimum.
    matrix : ndarray of shape (p, p)
        Curvature there, with damping.
    query : torch.Tensor
        Views of the queries.
    chosen : ndarray of int
        Which examples are left out.

    Returns
    -------
    importance : dict of str to dict of str to ndarray of shape (n_query, n_chosen)
        By what the examples' gradients are of, then by the loss of the queries.
    """
    pairs = training.pairs
    full, n = flat_gradient(training.loss(pairs), parameters), pairs.shape[2]
    losses = training.losses(query, pairs)
    examples = {
        PAIRS: [full - flat_gradient(training.loss(without(pairs, i)), parameters) for i in chosen],
    }
    for loss, name in OTHERS.items():
        own = (training.losses(pairs[:, :, [i]], without(pairs, i))[loss].sum() for i in chosen)
        examples[name] = [flat_gradient(value, parameters) / n for value in own]
    queries = {
        loss: torch.stack([flat_gradient(v, parameters, retain_graph=True) for v in values])
        for loss, values in losses.items()
    }
    return {
        name: {
            loss: q.numpy() @ np.linalg.solve(matrix, torch.stack(g, dim=1).numpy())
            for loss, q in queries.items()
        }
        for name, g in examples.items()
    }


def without(pairs, i):
    """Leave one example out."""
    return pairs[:, :, [j for j in range(pairs.shape[2]) if j != i]]


def importances(encoder, x, query, args):
    """Importance matrices (n_query, n_train) by method and loss."""
    found = {}
    params = {"n_draws": args.n_draws, "random_state": RANDOM_STATE}
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
    # Means of 2 x 2 pixels: with fewer weights, the curvature takes seconds.
    X = load_digits().images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16)
    X = (X / 16).astype(np.float32)
    X = X[rng.permutation(len(X))[: args.n_train + args.n_query]]
    encoder = ContrastiveEncoder(
        n_components=args.n_components,
        hidden_layer_sizes=(args.width,),
        activation="tanh",
        projection_dim=args.projection_dim,
        augment=["jitter", "corruption"],
        augment_params={"corruption_rate": 0.3},
        temperature=args.temperature,
        batch_size=args.n_train,
        random_state=seed,
    ).initialize(X[: args.n_train])
    module = encoder.net_.module_.double()
    module.projector.relu0 = nn.Tanh()  # with kinks, training would not settle
    x, query = torch.from_numpy(X).double().split([args.n_train, args.n_query])
    training = Training(module, x, args)
    query_views = training.views_of(query)
    learned = [*module.encoder.parameters(), *module.projector.parameters()]
    training.minimise(learned, training.pairs, args.max_iter)
    parameters = list(module.encoder.parameters())
    near = weights_of(parameters)
    gradient, matrix = training.settle(parameters, near)
    best, basis = weights_of(parameters), steps_of(matrix)
    chosen = np.sort(rng.permutation(args.n_train)[: args.n_left_out])
    exact = of_pairs(training, parameters, matrix, query_views, chosen)
    with torch.no_grad():
        before = training.losses(query_views, training.pairs)
    changes, worst = {loss: [] for loss in LOSSES}, 0.0
    for i in chosen:
        put(best, parameters)
        again = args.max_iter_again
        left = training.minimise(parameters, without(training.pairs, i), again, near, basis)
        worst = max(worst, left)
        with torch.no_grad():
            # Among the same views as before: it is the encoder that has changed.
            after = training.losses(query_views, training.pairs)
        for loss in LOSSES:
            changes[loss].append(after[loss] - before[loss])
    put(best, parameters)
    entry = {"gradient": gradient, "gradient_left_out": worst}
    entry["loss"] = rounded(float(training.loss(training.pairs).detach()), 4)
    entry["lowest_curvature"] = rounded(np.linalg.eigvalsh(matrix)[0] - args.damping, 4)
    encoder.net_.module_.float()
    encoder.load_state_dict(encoder.net_.module_.state_dict())
    found = importances(encoder, X[: args.n_train], X[args.n_train :], args)
    for loss in LOSSES:
        change = torch.stack(changes[loss], dim=1).numpy()  # (n_query, n_left_out)
        entry[loss] = {}
        every = {name: matrices[loss] for name, matrices in exact.items()}
        every |= {name: matrix[:, chosen] for name, matrix in found.items()}
        for name, importance in every.items():
            rows = [spearmanr(a, b)[0] for a, b in zip(importance, change, strict=True)]
            total = spearmanr(importance.mean(axis=0), change.mean(axis=0))[0]
            entry[loss][name] = {
                "each": rounded(float(np.mean(rows)), 4),
                "mean": rounded(float(total), 4),
            }
    entry["cpu_seconds"] = rounded(time.process_time() - start, 1)
    return entry


def render(results):
    """Return the section of the results page as Markdown."""
    settings, seeds = results["settings"], list(results["seeds"].values())
    header = ["importance"]
    for loss in LOSSES:
        header += [f"{loss} of each query", f"lowest seed, {loss}", f"mean {loss} of the queries"]
    rows = []
    for name in seeds[0][LOSSES[0]]:
        row = [name]
        for loss in LOSSES:
            each, mean = ([entry[loss][name][key] for entry in seeds] for key in ("each", "mean"))
            row += [_spread(each), f"{min(each):.3f}", _spread(mean)]
        rows.append(row)
    worst = max(entry["gradient_left_out"] for entry in seeds)
    n_left_out = settings["n_left_out"] * len(seeds)
    return "\n\n".join(
        [
            "## Influence in contrastive encoders and leaving examples out",
            f"Encoders (16, {settings['width']}, {settings['n_components']} units, tanh; "
            f"projections of {settings['projection_dim']}) of {settings['n_train']} of "
            "scikit-learn's digits, 4 × 4 pixels, trained in float64 by NT-Xent (temperature "
            f"{settings['temperature']:g}) over {settings['n_draws']} fixed pairs of views "
            "(jitter, 30 % of the pixels replaced), which importance is computed by as well. Then "
            f"the projection head is frozen, half of {settings['damping']:g} (the damping of "
            "influence) times the squared distance from "
            "the weights is added, and the encoder is trained to the minimum, with all examples "
            f"and without one of them at a time: {n_left_out} examples over {len(seeds)} seeds "
            "(data, weights, views). Spearman correlation, over the examples left out, of their "
            f"importance with what two losses of {settings['n_query']} other digits rise by: "
            "*stability* is the squared distance of two views, *nt_xent* the loss among views of "
            "the training examples. Of each query and then averaged, or of importance and losses "
            "that are averaged over queries before; means over the seeds ± their standard "
            "deviation. At the minima no entry of the gradient is above "
            f"{worst:.0e}. Made by `benchmarks/papers/contrastive_influence.py`.",
            markdown_table(header, rows),
            f"*{PAIRS}*: of the query its loss, of the example the change of the loss that is "
            "trained when it is left out, and the Hessian of that loss: what first order can "
            "reach. The next two rows have one of the example's own losses in the place of that "
            "change, and the same Hessian. The others are `InfluenceImportance` (Hessian for "
            "nt_xent, Gauss–Newton matrix for stability, of the mean of that loss), "
            "`TracInImportance` and `DKNNImportance`.",
        ]
    )


def _spread(values):
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=min(1, len(values) - 1)):.3f}"


def measure(args, results, save):
    tasks = {str(seed): partial(one_run, seed, args) for seed in args.seeds}
    complete(results.setdefault("seeds", {}), tasks, save)


BENCHMARK = Benchmark(
    section="contrastive influence",
    page="label_free.md",
    measure=measure,
    render=render,
    settings={
        "n_train": 100,
        "n_query": 30,
        "n_left_out": 60,
        "n_draws": 16,
        "n_components": 6,
        "projection_dim": 16,
        "width": 8,
        "temperature": 0.5,
        "damping": 0.3,
        "max_iter": 60,
        "max_iter_again": 300,
    },
    options={"seeds": list(range(8))},
    smoke={
        "seeds": [0],
        "n_train": 15,
        "n_query": 4,
        "n_left_out": 4,
        "n_draws": 2,
        "n_components": 2,
        "projection_dim": 3,
        "width": 3,
        "max_iter": 10,
        "max_iter_again": 5,
    },
    threads=1,
)
