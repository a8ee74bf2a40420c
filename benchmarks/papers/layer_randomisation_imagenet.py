"""Noise score and performance with one random layer, on a network of ImageNet.

Section 4.2 of Bertolini et al. again, where the paper has it: EfficientNet-Lite0 with its ImageNet
weights and scikit-image's photographs in the place of ResNet18 and ImageNet's. One of its 49
convolutions at a time gets random weights, by Xavier's uniform initialisation as in the authors'
released code. What a version still does is how often it agrees with the network as it was trained,
over crops of the photographs. Scores are the mean N of the paper, the mean over layers of (N -
N⁰)/(N + N⁰) and minus the distance of N from that of the trained network, by three saliencies and
by what the authors' code has in the place of activations × gradients: expected gradients, the mean
over ten points between grey and noisy copies of the input.

Pieces run in processes of their own: ``--layers`` takes positions among the 51 versions, the first
being the network as it is, the last all random, and ``--methods`` has the costly one apart. Give
each process a folder by ``--out``, and join them by ``--merge``.
"""

import copy
import time
from functools import partial
from itertools import product

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import nn

from sklexplain.layers._jacobian import unit_gradients
from sklexplain.scores._functions import excess_over_benchmark, min_max_scaled
from sklexplain.scores._sampling import draw_units
from sklexplain.training import randomized_layers

from .._runner import Benchmark, Option, complete
from ..common import markdown_table, rounded
from ..embedding_scores import Scorer, against, noise_curves
from ..embeddings import (
    EFFICIENTNET,
    PHOTOGRAPHS,
    SALIENCIES,
    SALIENCY_WORDS,
    MnistResNet,
    convolutions,
    efficientnet,
    initialise,
    photographs,
    seeded,
    without_efficientnet,
)

DRAWS = {"xavier": "Xavier's uniform", "default": "`reset_parameters`"}
METHODS = ("plain", "expected_gradients")
WORDS = SALIENCY_WORDS | {"expected_gradients": "expected gradients × activations"}
# Means and standard deviations of ImageNet's pixels: the authors' code adds noise to, and begins
# at 0 of, what is normalised by them.
GREY, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCORES = {
    "mean": "mean N",
    "excess": "(N − N⁰)/(N + N⁰)",
    "distance": "minus the distance from the trained N, layer by layer",
    "difference": "minus the distance from the trained mean N",
}
PAPER = {"top1": 0.91, "top5": 0.89}
PREDICTIVE = 0.5  # top-5 agreement from which on a version still predicts


# -- networks and data ---------------------------------------------------------------------------


def load(args):
    """Return the network with its head, and the photographs; small random ones in a smoke run."""
    if args.smoke:
        X = np.random.default_rng(0).uniform(size=(2, 1, 12, 12)).astype(np.float32)
        with seeded(0):
            net = MnistResNet((2, 2, 3, 10)).eval()
        return net, X
    X = photographs(args.efficientnet_path, args.photographs, size=args.size_of_photographs)
    return efficientnet(args.efficientnet_path), X


def parts(net):
    """Return the embedding and the head of a network, which share its modules."""
    if isinstance(net, MnistResNet):
        return net.encoder(), net.head
    return net, net.net._fc


def names_of(net):
    """Names of all versions: as trained, each convolution, all."""
    layers = [name for name, m in net.named_modules() if isinstance(m, nn.Conv2d)]
    return ["none", *layers, "all"]


def version(net, name, draw, seed):
    """Return a copy with random weights in one convolution, in all layers, or in none."""
    if name == "none":
        return net
    if name != "all" and draw == "default":
        return next(changed for _, changed in randomized_layers(net, [name], random_state=seed))
    device = next(net.parameters()).device
    changed = copy.deepcopy(net).cpu()  # weights are the same on every device
    with seeded(names_of(net).index(name) + 1000 * (1 + seed)):
        if name == "all":
            initialise(changed)
        else:
            nn.init.xavier_uniform_(changed.get_submodule(name).weight)
    return changed.to(device)


def crops(X, n, size, seed=0):
    """Cut squares of random sides and places, some mirrored, and resize them."""
    rng, found = np.random.default_rng(seed), []
    for i in range(n):
        x = torch.as_tensor(X[i % len(X)])[None]
        side = int(rng.uniform(0.4, 1) * x.shape[2])
        top, left = rng.integers(x.shape[2] - side + 1, size=2)
        x = x[..., top : top + side, left : left + side]
        x = nn.functional.interpolate(x, (size, size), mode="bilinear", antialias=True)
        found.append(x.flip(3) if rng.integers(2) else x)
    return torch.cat(found).clamp(0, 1)


def logits(net, x, args):
    """Outputs of the head, batch by batch."""
    encoder, head = parts(net)
    with torch.no_grad():
        batches = x.split(args.batch_size * 8)
        return torch.cat([head(encoder(b.to(args.device))).cpu() for b in batches])


# -- pieces --------------------------------------------------------------------------------------


class Bench:
    """What all pieces share: the network, photographs, crops, noise, units.

    Parameters
    ----------
    args : object
        Settings and options.
    """

    def __init__(self, args):
        self.args = args
        net, X = load(args)
        self.net = net.to(args.device)
        size = X.shape[2] if args.smoke else args.size
        whole = nn.functional.interpolate(
            torch.as_tensor(X), (size, size), mode="bilinear", antialias=True
        )
        self.X = whole.clamp(0, 1).numpy()
        self.crops = crops(X, args.n_crops, size)
        noise = np.random.default_rng(0).uniform(size=(2 * args.n_noise, *self.X.shape[1:]))
        self.noise = noise.astype(np.float32)
        self.names = names_of(self.net)
        self.best = logits(self.net, self.crops, args).argmax(1)

    def performance(self, name, draw, seed):
        """Agreement with the trained network, whose first class is to be among the first k."""
        net = version(self.net, name, draw, seed)
        order = logits(net, self.crops, self.args).argsort(dim=1, descending=True)
        hit = order == self.best[:, None]
        return {f"top{k}": rounded(hit[:, :k].any(dim=1).double().mean()) for k in (1, 5)}

    def curves(self, method, name, draw, seed):
        """N and N⁰ at every layer."""
        start = time.process_time()
        net, _ = parts(version(self.net, name, draw, seed))
        n_units = self.args.n_units if method == "plain" else self.args.n_units_expected
        n_total = parts(self.net)[1].in_features
        sample = draw_units(n_total, n_units, np.random.default_rng(0))
        sample.halves = []
        options = {"sample": sample, "batch_size": self.args.batch_size}
        scorer = Scorer(net, convolutions(net), self.X, device=self.args.device, **options)
        if method == "plain":
            combinations = [(saliency, "abs", "abs") for saliency in SALIENCIES]
            found = noise_curves(scorer, self.X, self.noise, combinations)
            found = {saliency: pair for (saliency, *_), pair in found.items()}
        else:
            found = {"expected_gradients": expected_curves(scorer, self.X, self.noise, self.args)}
        entry = {
            saliency: {
                "noise": rounded(scores[0].mean(axis=0)),
                "benchmark": rounded(benchmark[0]),
            }
            for saliency, (scores, benchmark) in found.items()
        }
        return entry | {"processor_seconds": rounded(time.process_time() - start, 1)}


def expected_curves(scorer, X, noise, args):
    """As `noise_curves`, by expected gradients."""
    maps, noise_maps = (expected_maps(scorer, torch.as_tensor(x), args) for x in (X, noise))
    n = len(noise) // 2
    first, second = ([m[:, part] for m in noise_maps] for part in (slice(n), slice(n, None)))
    return against(maps, first), against(first, second).mean(axis=1)


def expected_maps(scorer, X, args):
    """Scaled maps of activations × gradients, the mean over points between grey and noisy copies.

    The points are the same for all samples. A map's absolute value is taken after the mean.

    Parameters
    ----------
    scorer : Scorer
    X : torch.Tensor of shape (n, ...)
        Samples.
    args : object
        Settings.

    Returns
    -------
    maps : list of torch.Tensor of shape (1, n, n_positions)
        One a layer.
    """
    found, n = [], args.n_copies
    for x in X.split(max(1, args.batch_size // n)):
        points = between(x, args).to(scorer.device)

        def reduced(gradients, activations, n=n):
            product = (gradients * activations).unflatten(1, (-1, n)).mean(dim=2)
            return product.abs().mean(dim=2).flatten(2)  # (k, b, n_positions)

        blocks = unit_gradients(
            scorer.net, scorer.points, points, units=scorer.units, rows=1024, reduce=reduced
        )
        total = [0] * len(scorer.points)
        for _, maps, _ in blocks:
            total = [t + m.sum(dim=0) for t, m in zip(total, maps, strict=True)]
        found.append([min_max_scaled(t / len(scorer.units)).cpu() for t in total])
    return [torch.cat(layer)[None] for layer in zip(*found, strict=True)]


def between(x, args):
    """Return points between grey and noisy copies: (b, ...) to (b * n_copies, ...)."""
    rng = np.random.default_rng(1)
    shape = (args.n_copies, *x.shape[1:])
    share = torch.from_numpy(rng.uniform(size=(args.n_copies, 1, 1, 1)).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
    grey, spread = (torch.tensor(v)[: x.shape[1], None, None] for v in (GREY, SPREAD))
    noisy = x[:, None] + args.smoothing * spread * noise
    return (share * noisy + (1 - share) * grey).flatten(0, 1)


def measure(args, results, save):
    groups = {name: results.setdefault(name, {}) for name in ("performance", "curves")}
    if not args.smoke and without_efficientnet(args):
        return
    bench = Bench(args)
    results["versions"] = bench.names
    positions = args.layers or range(len(bench.names))
    versions = [
        (bench.names[i], draw, seed) for draw, seed, i in product(args.draws, args.seeds, positions)
    ]
    keys = {which: f"{which[1]}, seed {which[2]}, {which[0]}" for which in versions}
    tasks = {keys[which]: partial(bench.performance, *which) for which in versions}
    complete(groups["performance"], tasks, save)
    tasks = {
        f"{method}, {keys[which]}": partial(bench.curves, method, *which)
        for method, which in product(args.methods, versions)
    }
    complete(groups["curves"], tasks, save)


# -- summary -------------------------------------------------------------------------------------


def summarize(results):
    """Add the scores of all versions, and their rank correlations with the performance.

    Of a saliency that fewer versions were computed for there are other correlations to be compared
    with: those over the versions that all saliencies have.
    """
    results["scores"], results["spearman"], results["spearman_of_common"] = {}, {}, {}
    order = {name: i for i, name in enumerate(results.get("versions", ()))}
    for key in sorted(results["curves"], key=lambda key: order[_split(key)[2]]):
        piece, (method, run, name) = results["curves"][key], _split(key)
        for saliency, curve in piece.items():
            trained = results["curves"].get(f"{method}, {run}, none", {}).get(saliency)
            if saliency in WORDS and trained:
                place = results["scores"].setdefault(f"{saliency}, {run}", {})
                place[name] = _scores(curve, trained) | results["performance"][f"{run}, {name}"]
    for key, rows in results["scores"].items():
        results["spearman"][key] = {
            score: _correlations(rows, score) for score in SCORES if len(rows) > 3
        }
    common = set.intersection(*map(set, results["scores"].values())) if results["scores"] else ()
    for key, rows in results["scores"].items():
        kept = {name: row for name, row in rows.items() if name in common}
        if 3 < len(kept) < max(map(len, results["scores"].values())):
            results["spearman_of_common"][key] = {
                score: _correlations(kept, score) for score in SCORES
            }


def _split(key):
    method, draw, seed, name = key.split(", ")
    return method, f"{draw}, {seed}", name


def _scores(curve, trained):
    noise, benchmark = np.array(curve["noise"]), np.array(curve["benchmark"])
    away = noise - trained["noise"]
    scores = {
        "mean": noise.mean(),
        "excess": excess_over_benchmark(noise, benchmark),
        "distance": -np.abs(away).mean(),
        "difference": -np.abs(away.mean()),
    }
    # A layer whose maps of noise are all alike leaves `excess` without a value.
    return {name: rounded(v) if np.isfinite(v) else None for name, v in scores.items()}


def _correlations(rows, score):
    """Spearman with the agreement, without the trained network too, and AUC of still predicting."""
    changed = {name: row for name, row in rows.items() if name != "none"}
    found = {}
    for words, kept in (("", rows), (", changed only", changed)):
        pairs = [row for row in kept.values() if row[score] is not None]
        for k in ("top1", "top5"):
            ours, theirs = ([row[key] for row in pairs] for key in (score, k))
            found[f"{k}{words}"] = None
            if len(set(ours)) > 1 < len(set(theirs)):
                found[f"{k}{words}"] = rounded(spearmanr(ours, theirs).statistic, 3)
    pairs = [row for row in changed.values() if row[score] is not None]
    predictive = [row["top5"] > PREDICTIVE for row in pairs]
    found["auc"] = None
    if 0 < sum(predictive) < len(predictive):
        found["auc"] = rounded(roc_auc_score(predictive, [row[score] for row in pairs]), 3)
    return found | {"n": len(changed), "n_without": len(changed) - len(pairs)}


# -- the section ---------------------------------------------------------------------------------


def render(results):
    """Return the section as Markdown."""
    settings, scores = results["settings"], results["scores"]
    if not scores:
        return None
    n_layers = len(
        next(iter(results["curves"].values()))[next(iter(scores)).split(", ")[0]]["noise"]
    )
    rows = next(iter(scores.values()))
    parts_ = [
        "## One random layer on ImageNet",
        "Bertolini, Clevert & Montanari, section 4.2, table 1 and figure 4, on EfficientNet-Lite0 "
        "with its ImageNet weights. Made by `benchmarks/papers/layer_randomisation_imagenet.py`; "
        "every curve is in `benchmarks/papers/results/layer_randomisation_imagenet.json`. "
        f"{len(rows) - 1} changed versions: one of {n_layers} convolutions drawn anew, or all "
        f"weights (*all*). Scores: {len(settings['photographs'])} photographs, "
        f"{settings['n_noise']} noise inputs uniform on [0, 1] and as many pairs for N⁰, C = E = "
        f"abs, {settings['n_units']} of 1,280 units ({settings['n_units_expected']} for expected "
        "gradients), the same for all versions, layers looked at by what the convolutions are "
        f"called with. Performance: agreement over {settings['n_crops']} crops of the photographs, "
        "how often the trained network's first class is the version's first (top 1) or among its "
        "first five (top 5).",
        "Spearman's rank correlation of scores with the agreement over all versions, and over the "
        f"changed ones; AUC: of the changed versions' score, for a top-5 agreement above "
        f"{PREDICTIVE:g}. The paper, ResNet18 and 12 versions: {PAPER['top1']:.2f} with top-1 and "
        f"{PAPER['top5']:.2f} with top-5 accuracy.",
        _spearman_table(results["spearman"]),
        *_common(results),
        "*" + SCORES["excess"] + "*: each version's own N⁰, the mean over layers; where a layer's "
        "maps of noise inputs are all alike there is none, and the version is left out ("
        + _left_out(results)
        + ").",
        "Every version:",
        _version_table(results),
        "### What differs from the paper",
        "- EfficientNet-Lite0, the paper ResNet18; agreement with the trained network on crops of "
        f"{len(settings['photographs'])} photographs, the paper accuracy on ImageNet.\n"
        "- *Expected gradients* are what the authors' released code computes: gradients times "
        f"activations at {settings['n_copies']} points between grey and copies of the input with "
        "noise, averaged before absolute values are taken. It does so for the first unit only; "
        "here for those drawn.\n"
        "- Batch normalisation keeps its statistics and weights, except where all weights are "
        "drawn (He's normal).",
    ]
    return "\n\n".join(parts_)


def _common(results):
    """Return the same over the versions that all saliencies have, if some have more."""
    found = results["spearman_of_common"]
    if not found:
        return []
    n = next(iter(found.values()))["mean"]["n"]
    words = f"Over the {n + 1} versions that all saliencies were computed for, {n} of them changed:"
    return [words, _spearman_table(found)]


def _spearman_table(correlations):
    columns = ("top1", "top5", "top1, changed only", "top5, changed only", "auc")
    header = ["drawn by", "saliency", "score", "versions", "ρ, top 1", "ρ, top 5"]
    header += ["ρ, top 1, changed", "ρ, top 5, changed", "AUC"]
    lines = []
    for key, found in correlations.items():
        saliency, draw, seed = key.split(", ")
        drawn = DRAWS[draw] + ("" if seed == "seed 0" else f", {seed}")
        for score, entry in found.items():
            cells = ["–" if entry[c] is None else f"{entry[c]:.2f}" for c in columns]
            lines.append([drawn, WORDS[saliency], SCORES[score], entry["n"] + 1, *cells])
    return markdown_table(header, lines)


def _left_out(results):
    words = []
    for key, found in results["spearman"].items():
        if found:
            saliency, draw, seed = key.split(", ")
            words.append(f"{WORDS[saliency]}, {draw}, {seed}: {found['excess']['n_without']}")
    return "; ".join(words)


def _version_table(results):
    first = next(iter(results["scores"]))
    run = first.split(", ", 1)[1]
    found = {s: results["scores"].get(f"{s}, {run}", {}) for s in WORDS}
    found = {s: rows for s, rows in found.items() if rows}
    header = ["random layer", "top 1", "top 5", *(f"mean N, {WORDS[s]}" for s in found)]
    lines = []
    for name, row in results["scores"][first].items():
        scores = [f"{rows[name]['mean']:.3f}" if name in rows else "" for rows in found.values()]
        label = f"`{name}`" if "." in name else name
        lines.append([label, f"{row['top1']:.2f}", f"{row['top5']:.2f}", *scores])
    return markdown_table(header, lines)


BENCHMARK = Benchmark(
    section="layer randomisation on ImageNet",
    page="embeddings_and_scores.md",
    measure=measure,
    summarize=summarize,
    render=render,
    settings={
        "photographs": list(PHOTOGRAPHS),
        "size": 224,
        "size_of_photographs": 400,
        "n_crops": 240,
        "n_noise": 4,
        "n_units": 32,
        "n_units_expected": 16,
        "n_copies": 10,
        "smoothing": Option(0.5, "noise of the copies, in standard deviations of pixels"),
    },
    options={
        **EFFICIENTNET,
        "device": "cpu",
        "batch_size": Option(1, "inputs, or points of expected gradients, at once"),
        "seeds": Option([0], "of the random weights"),
        "draws": Option(["xavier"], choices=DRAWS),
        "methods": Option(list(METHODS), choices=METHODS),
        "layers": Option([], "positions among the versions; none: all", type=int),
    },
    smoke={
        "photographs": [],
        "n_crops": 4,
        "n_noise": 1,
        "n_units": 3,
        "n_units_expected": 2,
        "n_copies": 2,
        "layers": [0, 1, 4, 7, 13],
    },
    threads=1,
)
