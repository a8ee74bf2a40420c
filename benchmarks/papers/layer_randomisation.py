"""Noise score and accuracy when one layer is random: table 1 and figure 4 of Bertolini et al.

A ResNet is trained on MNIST; then one convolution at a time gets random weights, everything else
stays as it was trained. The paper: the mean noise score of the embedding goes with the accuracy,
Spearman .91 (top 1) and .89 (top 5). Here for several seeds, three saliencies, the accuracy of the
trained head and that of a linear probe fitted on the randomised embedding.
"""

import copy
import time
from functools import partial
from itertools import product

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklexplain.scores._functions import excess_over_benchmark
from sklexplain.training import randomized_layers

from .._runner import Benchmark, Option, complete
from ..common import load_digits_28x28, markdown_table, rounded
from ..embedding_scores import Scorer, noise_curves
from ..embeddings import (
    OPTIONS,
    SALIENCIES,
    SALIENCY_WORDS,
    SMOKE,
    accuracy,
    convolutions,
    initialise,
    outputs,
    plus_minus,
    seeded,
    trained_resnet,
)

PAPER = {"top 1": 0.91, "top 5": 0.89}
# Mean of N over the layers, as in the paper; the same without the shallow half of the layers; and
# the mean over layers of (N - N⁰) / (N + N⁰).
SCORES = {"mean": "mean N", "deep": "mean N, deeper half", "excess": "`score`"}
# How a random layer's weights are drawn: as torch does, or as ResNets are initialised, which is
# about 2.4 times as large.
DRAWS = {"default": "`reset_parameters`", "he": "He's normal"}
TARGETS = {"accuracy": "trained head", "probe": "linear probe"}
# What scores are correlated with; "single" leaves out the network that is random altogether.
WITH = TARGETS | {"single": "trained head, without *all*"}


def versions(net, draw, seed):
    """Yield the trained network, copies with one random convolution, and one all random.

    Parameters
    ----------
    net : MnistResNet
        It is left as it is.
    draw : str
        Of `DRAWS`.
    seed : int
        Of the random weights.

    Yields
    ------
    layer : str
        A convolution's name, "none" or "all".
    changed : MnistResNet
    """
    layers = [name for name, m in net.named_modules() if isinstance(m, nn.Conv2d)]
    yield "none", net
    if draw == "default":
        yield from randomized_layers(net, layers, random_state=seed)
        layers = []
    for layer in [*layers, "all"]:
        changed = copy.deepcopy(net)
        with seeded([*layers, "all"].index(layer) + 1000 * (1 + seed)):
            initialise(changed if layer == "all" else changed.get_submodule(layer))
        yield layer, changed


def probe_accuracy(net, train, test):
    """Accuracy of a linear classifier that is fitted on the embedding."""
    features = [outputs(net.encoder(), X).astype(np.float64) for X, _ in (train, test)]
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return probe.fit(features[0], train[1]).score(features[1], test[1])


def piece(seed, draw, args):
    """Scores and accuracies of every randomised copy of one trained network."""
    start = time.process_time()
    X, y = load_digits_28x28()
    order = np.random.RandomState(seed).permutation(len(X))
    train, test = order[: args.n_train], order[8000:][: args.n_test]
    net = trained_resnet(X[train], y[train], seed, args)
    scored, probed = X[test[: args.n_scored]], train[: args.n_probe]
    rows = []
    for layer, changed in versions(net, draw, seed):
        probe = probe_accuracy(changed, (X[probed], y[probed]), (X[test], y[test]))
        row = {
            "layer": layer,
            "accuracy": rounded(accuracy(changed, X[test], y[test])),
            "probe": rounded(probe),
        }
        rows.append(row | scores_of(changed, scored, args))
    return {
        "draw": draw,
        "versions": rows,
        "processor_seconds": rounded(time.process_time() - start, 1),
    }


def scores_of(net, X, args):
    """Noise scores of the embedding by saliency; the noise is the same for all networks."""
    noise = np.random.default_rng(0).uniform(size=(2 * args.n_noise, *X.shape[1:]))
    combinations = [(saliency, "abs", "abs") for saliency in SALIENCIES]
    scorer = Scorer(net.encoder(), convolutions(net), X)
    curves = noise_curves(scorer, X, noise.astype(np.float32), combinations)
    found = {}
    for (saliency, *_), (scores, benchmark) in curves.items():
        curve = scores[0].mean(axis=0)
        found[saliency] = {
            "mean": rounded(curve.mean()),
            "deep": rounded(curve[len(curve) // 2 :].mean()),
            "excess": rounded(excess_over_benchmark(curve, benchmark[0])),
        }
    return found


# -- summary -------------------------------------------------------------------------------------


def summarize(results):
    """Add rank correlations, a seed each."""
    results["spearman"] = {}
    for draw in DRAWS:
        found = _pieces(results, draw)
        if found:
            results["spearman"][draw] = {s: _correlations(found, s) for s in SALIENCIES}


def _pieces(results, draw):
    return [p["versions"] for p in results["pieces"].values() if p["draw"] == draw]


def _correlations(found, saliency):
    """By score and target, a list over the seeds."""
    return {
        score: {
            target: [_correlation(p, saliency, score, target) for p in found] for target in WITH
        }
        for score in SCORES
    }


def _correlation(rows, saliency, score, target):
    kept = [row for row in rows if target != "single" or row["layer"] != "all"]
    other = "accuracy" if target == "single" else target
    return _spearman([row[saliency][score] for row in kept], [row[other] for row in kept])


def _spearman(x, y):
    # A version whose noise maps have collapsed has no score, and is left out.
    return rounded(spearmanr(x, y, nan_policy="omit").statistic, 3)


# -- the section ---------------------------------------------------------------------------------


def render(results):
    """Return the section as Markdown."""
    machine, settings = results["environment"], results["settings"]
    found = _pieces(results, "default")
    n_layers = len(found[0]) - 2
    parts = [
        "## Noise score and accuracy with one random layer",
        "Bertolini, Clevert & Montanari, section 4.2, table 1 and figure 4. Made by "
        "`benchmarks/papers/layer_randomisation.py`; every seed is in "
        "`benchmarks/papers/results/layer_randomisation.json`. "
        f"{machine['processor']}, {machine['n_cores']} cores, no GPU. {len(found)} seeds, each "
        f"with a ResNet trained for {settings['epochs']} epochs on {settings['n_train']} digits "
        f"and {n_layers + 2} versions of it: as trained, with one of {n_layers} convolutions "
        "drawn anew, or all weights. C = E = abs, uniform noise on [0, 1], "
        f"{settings['n_scored']} digits and {settings['n_noise']} noise inputs, layers looked at "
        "by what the convolutions are called with.",
        "Spearman's rank correlation with accuracy over the versions, mean ± standard deviation "
        "over seeds (every seed in brackets). The paper, ResNet18 on ImageNet, 12 versions: "
        f"{PAPER['top 1']:.2f} with top-1 and {PAPER['top 5']:.2f} with top-5 accuracy of the "
        "trained head.",
        _spearman_table(results),
        "*mean N* is the paper's score, the mean of the curve; *`score`* is the mean over layers "
        "of (N − N⁰)/(N + N⁰). The probe is a logistic regression fitted on "
        f"{settings['n_probe']} embeddings of the changed network, so it tells whether the "
        "embedding still says which digit it is; the trained head fails also where the embedding "
        "has merely moved. " + _draw_words(results),
        "Every version, weights by `reset_parameters`, means over the seeds:",
        _version_table(found),
        "### What differs from the paper",
        f"- A ResNet of {n_layers} convolutions on digits, the paper ResNet18 on ImageNet, of "
        "whose layers it shows ten.\n"
        "- Only a convolution's weights are drawn anew; batch normalisation keeps its statistics "
        "and weights, except where all weights are drawn. The paper does not say.\n"
        "- The paper does not name the saliency; all three are shown.",
    ]
    return "\n\n".join(parts)


def _draw_words(results):
    words = (
        "Weights are drawn by torch's `reset_parameters` (`sklexplain.training.randomized_layers`)"
    )
    if "he" not in results["spearman"]:
        return f"{words}."
    return (
        f"{words} or by He's normal initialisation, which is about 2.4 times as large for as many "
        "channels in as out."
    )


def _spearman_table(results):
    header = ["drawn by", "saliency", "score", *(f"ρ, {words}" for words in WITH.values())]
    rows = []
    for draw, saliencies in results["spearman"].items():
        for saliency, scores in saliencies.items():
            for score, words in SCORES.items():
                row = [DRAWS[draw], SALIENCY_WORDS[saliency], words]
                for values in scores[score].values():
                    if np.isnan(values).any():
                        row.append("–")  # collapsed noise maps leave this score without a value
                        continue
                    every = ", ".join(f"{v:.2f}" for v in values)
                    row.append(f"{plus_minus(values)} ({every})")
                rows.append(row)
    return markdown_table(header, rows)


def _version_table(found):
    header = ["random layer", *TARGETS.values()]
    header += [f"mean N, {SALIENCY_WORDS[s]}" for s in SALIENCIES]
    rows = []
    for versions_of_layer in zip(*found, strict=True):
        layer = versions_of_layer[0]["layer"]
        shares = [plus_minus([row[t] for row in versions_of_layer], 3) for t in TARGETS]
        scores = [plus_minus([row[s]["mean"] for row in versions_of_layer], 3) for s in SALIENCIES]
        rows.append([f"`{layer}`" if "." in layer else layer, *shares, *scores])
    return markdown_table(header, rows)


def measure(args, results, save):
    tasks = {
        f"seed {seed}, {draw}": partial(piece, seed, draw, args)
        for draw, seed in product(args.draws, args.seeds)
    }
    complete(results.setdefault("pieces", {}), tasks, save)


BENCHMARK = Benchmark(
    section="layer randomisation",
    page="embeddings_and_scores.md",
    measure=measure,
    summarize=summarize,
    render=render,
    settings={
        "epochs": 3,
        "n_train": 8000,
        "n_test": 2000,
        "n_scored": 25,
        "n_noise": 4,
        "n_probe": 2000,
    },
    options={**OPTIONS, "draws": Option(list(DRAWS), choices=DRAWS)},
    smoke={
        "epochs": 1,
        "n_train": 256,
        "n_test": 50,
        "n_scored": 2,
        "n_noise": 1,
        "n_probe": 50,
        **SMOKE,
    },
)
