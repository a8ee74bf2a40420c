"""Noise and variance score curves: figures 3 and 5 of Bertolini, Clevert & Montanari.

The noise score N of every convolution for photographs (or digits), beside the same of untrained
networks and the benchmark N⁰ between noise inputs; and the variance score V, beside its bound 1/4.
On EfficientNet-Lite0 with ImageNet weights and on ResNets trained on MNIST.
"""

import time
from functools import partial
from itertools import product

import numpy as np

from sklexplain.scores._sampling import draw_units

from .._runner import Benchmark, Option, complete
from ..common import load_digits_28x28, markdown_table, rounded
from ..embedding_scores import Scorer, noise_curves
from ..embeddings import (
    EFFICIENTNET,
    OPTIONS,
    PHOTOGRAPHS,
    SALIENCIES,
    SALIENCY_WORDS,
    SMOKE,
    MnistResNet,
    accuracy,
    calibrated,
    convolutions,
    efficientnet,
    mean_and_error,
    photographs,
    seeded,
    thirds,
    trained_resnet,
    without_efficientnet,
)

NETWORK_WORDS = {"efficientnet": "EfficientNet-Lite0", "mnist_resnet": "ResNets, MNIST"}
# Untrained networks normalise by means of 0 and variances of 1, or by what their activations have.
WEIGHTS = ("trained", "untrained", "untrained, calibrated")
N_PAIRS = 4  # pairs of halves of the random units, for standard errors
BOUND = 0.25  # of the variance of what lies in [0, 1]


# -- networks and data ---------------------------------------------------------------------------


def mnist(weights, seed, args):
    """Return a ResNet, the digits it is scored on, and its accuracy."""
    X, y = load_digits_28x28()
    order = np.random.RandomState(seed).permutation(len(X))
    train, test = order[: args.n_train], order[8000:]
    if weights == "trained":
        net = trained_resnet(X[train], y[train], seed, args)
    else:
        with seeded(1000 + seed):
            net = MnistResNet(args.channels).eval()
        if weights != "untrained":
            calibrated(net, X[train[:512]])
    return net, X[test[: args.n_digits]], rounded(accuracy(net, X[test], y[test]))


def imagenet(weights, seed, args):
    """Return EfficientNet-Lite0, the photographs, and no accuracy."""
    X = photographs(args.efficientnet_path, args.photographs)
    random_seed = None if weights == "trained" else seed
    net = efficientnet(args.efficientnet_path, random_seed=random_seed)
    if weights == "untrained, calibrated":
        calibrated(net, X)
    return net, X, None


# -- pieces --------------------------------------------------------------------------------------


def piece(network, weights, seed, args):
    """Score one network: noise curves with every saliency, and the variance curve."""
    start = time.process_time()
    load = mnist if network == "mnist_resnet" else imagenet
    net, X, share = load(weights, seed, args)
    encoder, layers, sample = net, convolutions(net), None
    if network == "mnist_resnet":
        encoder = net.encoder()
    else:
        n_units = net.net._fc.in_features
        sample = draw_units(n_units, args.n_units, np.random.default_rng(seed))
        sample.halves = sample.halves[: 2 * N_PAIRS]
    scorer = Scorer(encoder, layers, X, sample=sample, batch_size=1 if sample else 16)
    noise = np.random.default_rng(seed).uniform(size=(2 * args.n_noise, *X.shape[1:]))
    noise = noise.astype(np.float32)
    curves = noise_curves(scorer, X, noise, [(s, "abs", "abs") for s in SALIENCIES])
    result = {
        "network": network,
        "weights": weights,
        "seed": seed,
        "layers": layers,
        "n_units": scorer.points.n_units,
        "accuracy": share,
        "noise": {},
    }
    for (saliency, *_), (scores, benchmark) in curves.items():
        result["noise"][saliency] = _entry(scorer, scores)
        result["noise"][saliency] |= {
            "benchmark": rounded(benchmark[0]),
            "benchmark_error_from_units": rounded(scorer.error(benchmark)),
        }
    scores = scorer.variance(X, "activation_x_gradient", "mean", 0.5)
    result["variance"] = {"activation_x_gradient": _entry(scorer, scores)}
    return result | {"processor_seconds": rounded(time.process_time() - start, 1)}


def _entry(scorer, scores):
    """Mean over the images, its standard error, and that from drawing units."""
    return mean_and_error(scores[0]) | {
        "error_from_units": rounded(scorer.error(scores.mean(axis=1)))
    }


def pieces(args):
    """Arguments of all pieces, by name."""
    networks = [("mnist_resnet", seed) for seed in args.seeds]
    if not without_efficientnet(args):
        networks.insert(1, ("efficientnet", 0))
    return {
        f"{network}, {weights}, seed {seed}": (network, weights, seed)
        for (network, seed), weights in product(networks, WEIGHTS)
    }


# -- summary -------------------------------------------------------------------------------------


def summarize(results):
    """Add curves averaged over the seeds, and how they compare."""
    results["summary"] = {"noise": {}, "variance": {}}
    for network in NETWORK_WORDS:
        for saliency in SALIENCIES:
            for kind in ("noise", "variance"):
                curves = _curves(results, kind, network, saliency)
                if set(WEIGHTS) <= set(curves):
                    entry = results["summary"][kind].setdefault(network, {})
                    entry[saliency] = _compared(curves, kind)


def _curves(results, kind, network, saliency):
    """Score, its standard error, the benchmark and that of it; (n_seeds, n_layers) each."""
    curves = {}
    for piece_ in results["pieces"].values():
        if piece_["network"] != network or saliency not in piece_[kind]:
            continue
        entry = piece_[kind][saliency]
        rows = curves.setdefault(piece_["weights"], {"score": [], "error": []})
        rows["score"].append(entry["mean"])
        rows["error"].append(np.hypot(entry["standard_error"], entry["error_from_units"]))
        if "benchmark" in entry:
            rows.setdefault("benchmark", []).append(entry["benchmark"])
            rows.setdefault("benchmark_error", []).append(entry["benchmark_error_from_units"])
    return {w: {k: np.array(v) for k, v in rows.items()} for w, rows in curves.items()}


def _compared(curves, kind):
    trained = curves["trained"]
    n_layers = trained["score"].shape[1]
    entry = {"n_seeds": len(trained["score"]), "n_layers": n_layers, "thirds": {}}
    others = {w: curves[w] for w in WEIGHTS[1:]}
    if kind == "noise":
        others["N⁰"] = {"score": trained["benchmark"], "error": trained["benchmark_error"]}
        entry["from_benchmark"] = {
            w: rounded(np.abs(_relative(c["score"], trained["benchmark"])).mean(), 3)
            for w, c in curves.items()
        }
    for third, where in thirds(n_layers).items():
        row = {"trained": rounded(trained["score"][:, where].mean(), 4)}
        for name, other in others.items():
            gap = trained["score"] - other["score"]
            error = np.hypot(trained["error"], other["error"])
            row[name] = {
                "score": rounded(other["score"][:, where].mean(), 4),
                "relative": rounded(
                    _relative(trained["score"], other["score"])[:, where].mean(), 3
                ),
                "above": int((gap > 0)[:, where].sum()),
                "clearly_above": int((gap > 2 * error)[:, where].sum()),
                "clearly_below": int((gap < -2 * error)[:, where].sum()),
                "of": int(gap[:, where].size),
            }
        entry["thirds"][third] = row
    return entry


def _relative(x, y):
    """How far scores are above others, relative to the mean of the two; 0 where both are 0."""
    total = x + y
    return 2 * (x - y) / (total + (total == 0))


# -- the section ---------------------------------------------------------------------------------


def render(results):
    """Return the section as Markdown."""
    machine = results["environment"]
    parts = [
        "## Noise and variance curves",
        "Bertolini, Clevert & Montanari, sections 4.1 and 4.3, figures 3 and 5. Made by "
        "`benchmarks/papers/score_curves.py`; every curve is in "
        "`benchmarks/papers/results/score_curves.json`. "
        f"{machine['processor']}, {machine['n_cores']} cores, no GPU.",
        _settings_words(results),
        "How far the trained network's score is above, relative to the mean of the two; in "
        "brackets in how many (seed, layer) pairs it is by more than two standard errors:",
        _claim_table(results),
        "### Noise curves (figure 3)",
        "Mean scores over a third of the layers, from the input on. In brackets how far the "
        "trained network's score is above, then in how many pairs it is clearly above, and below.",
    ]
    for network, entries in results["summary"]["noise"].items():
        parts += [f"**{NETWORK_WORDS[network]}.** {_network_words(results, network)}"]
        parts += [_noise_table(entries)]
    parts += ["### Variance curves (figure 5)", "As parts of the bound 1/4."]
    parts += [_variance_table(results["summary"]["variance"])]
    parts += ["### What differs from the paper", _difference_words(results)]
    return "\n\n".join(parts)


def _settings_words(results):
    settings = results["settings"]
    return (
        "Noise scores: C = E = abs, noise uniform on [0, 1] in every pixel, "
        f"{settings['n_noise']} noise inputs (and as many pairs for N⁰, of the trained network). "
        "Variance scores: C = mean, activations × gradients, maps cut at 0.5. Layers are looked "
        "at by what the convolutions are called with. Untrained networks have the weights of an "
        "initialisation; batch normalisation by 0 and 1, or calibrated to the data. ± and errors "
        "are standard errors over images and, for EfficientNet, over its random "
        f"{settings['n_units']} of 1,280 units (by halves of them). All saliencies are computed "
        "from the same gradients, which costs a third and gives what `NoiseScorer` and "
        "`VarianceScorer` give."
    )


def _network_words(results, network):
    found = [p for p in results["pieces"].values() if p["network"] == network]
    first = found[0]
    words = f"{len(first['layers'])} convolutions, {first['n_units']} units"
    if network == "efficientnet":
        return (
            f"{len(results['settings']['photographs'])} photographs, {words}, one draw of weights."
        )
    shares = [p["accuracy"] for p in found if p["weights"] == "trained"]
    n_seeds = len({p["seed"] for p in found})
    return (
        f"{n_seeds} seeds, {results['settings']['n_digits']} digits each, {words}, test accuracy "
        f"at least {min(shares):.3f}."
    )


def _noise_table(entries):
    header = ["saliency", "layers", "trained", *WEIGHTS[1:], "N⁰"]
    rows = []
    for saliency, entry in entries.items():
        for third, row in entry["thirds"].items():
            cells = [
                f"{c['score']:.3f} ({c['relative']:+.0%}; {c['clearly_above']}, "
                f"{c['clearly_below']} of {c['of']})"
                for c in (row[name] for name in header[3:])
            ]
            rows.append([SALIENCY_WORDS[saliency], third, f"{row['trained']:.3f}", *cells])
    return markdown_table(header, rows)


def _variance_table(summary):
    header = ["network", "layers", *WEIGHTS]
    rows = []
    for network, entries in summary.items():
        for third, row in entries["activation_x_gradient"]["thirds"].items():
            cells = [f"{row[w]['score'] / BOUND:.0%}" for w in WEIGHTS[1:]]
            rows.append([NETWORK_WORDS[network], third, f"{row['trained'] / BOUND:.0%}", *cells])
    return markdown_table(header, rows)


def _claim_table(results):
    """What the paper says of its curves, and the numbers that bear on it here."""
    rows = []
    for network, entries in results["summary"]["noise"].items():
        title = NETWORK_WORDS[network]
        axg, gradient, cam = (
            entries.get(s) for s in ("activation_x_gradient", "gradient", "grad_cam")
        )
        if axg:
            rows.append([AXG_EARLY, title, _first_and_last(axg, WEIGHTS[1:])])
            apart = ", ".join(f"{w} {d:.0%}" for w, d in axg["from_benchmark"].items())
            rows.append([AXG_NOISE, title, f"mean distance from N⁰: {apart}"])
        if gradient:
            rows.append([GRADIENT_EARLY, title, _first_and_last(gradient, WEIGHTS[1:])])
            rows.append([GRADIENT_NOISE, title, _first_and_last(gradient, ["N⁰"])])
        if cam:
            rows.append([CAM_LATE, title, _first_and_last(cam, [*WEIGHTS[1:], "N⁰"])])
    for network, entries in results["summary"]["variance"].items():
        row = entries["activation_x_gradient"]["thirds"].values()
        means = {
            w: np.mean([r[w]["score"] if w != "trained" else r[w] for r in row]) for w in WEIGHTS
        }
        words = ", ".join(f"{w} {m / BOUND:.0%}" for w, m in means.items())
        rows.append([VARIANCE, NETWORK_WORDS[network], words + " of the bound"])
    table = markdown_table(["the paper shows", "network", "here"], rows)
    return table.replace("---:", "---")


AXG_EARLY = (
    "activations × gradients: trained and untrained are alike in early layers, and part further on"
)
AXG_NOISE = "activations × gradients: the untrained network's curve is like N⁰"
GRADIENT_EARLY = "vanilla gradients: trained and untrained are well apart in early layers already"
GRADIENT_NOISE = "vanilla gradients: trained differs less from N⁰"
CAM_LATE = "Grad-CAM: no difference but in very deep layers, where trained is above both"
VARIANCE = (
    "variance near 1/4 untrained; trained too, unless the embedding is redundant (AlexNet, 75 % "
    "untrained, much lower trained)"
)


def _first_and_last(entry, names):
    """How far trained is above others in the first and last third of the layers."""
    words = []
    for name in names:
        cells = [entry["thirds"][third][name] for third in ("first third", "last third")]
        first, last = (f"{c['relative']:+.0%} ({c['clearly_above']}/{c['of']})" for c in cells)
        words.append(f"than {name}: first third {first}, last {last}")
    return "; ".join(words)


def _difference_words(results):
    lines = [
        "Other networks: EfficientNet-Lite0 and small ResNets, the paper ResNet18, Inception V3 "
        "and AlexNet; fewer images (the paper 50).",
        "Curves are over convolutions that are no shortcuts.",
        "The paper does not say what an untrained network's batch normalisation does; both ways "
        "are shown.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def measure(args, results, save):
    tasks = {name: partial(piece, *which, args) for name, which in pieces(args).items()}
    complete(results.setdefault("pieces", {}), tasks, save)


BENCHMARK = Benchmark(
    section="score curves",
    page="embeddings_and_scores.md",
    measure=measure,
    summarize=summarize,
    render=render,
    settings={
        "epochs": 3,
        "n_train": 8000,
        "n_digits": Option(30, "scored, a seed"),
        "n_noise": 4,
        "n_units": Option(32, "of EfficientNet's 1,280"),
        "photographs": list(PHOTOGRAPHS[:8]),
    },
    options={**OPTIONS, **EFFICIENTNET},
    smoke={
        "epochs": 1,
        "n_train": 256,
        "n_digits": 2,
        "n_noise": 1,
        "n_units": 4,
        "photographs": list(PHOTOGRAPHS[:1]),
        **SMOKE,
    },
)
