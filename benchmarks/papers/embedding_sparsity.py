"""Sparsity of embedding maps: figure 2b of Bertolini, Clevert & Montanari.

The sparsity of a map is the mean of the map scaled to [0, 1] (of its absolute value for mean and
mean), so a sparser map has less. The paper: at all layers, the variance produces a sparser map than
the mean absolute aggregator. Here for every image and convolution, over channels (C), over units
(E) and over both, with three saliencies, on EfficientNet-Lite0 with photographs and on ResNets
trained on MNIST.
"""

from itertools import product

import numpy as np
import torch

from sklexplain.layers import find_points
from sklexplain.layers._aggregators import RunningAggregate
from sklexplain.layers._jacobian import unit_gradients
from sklexplain.layers._maps import channel_maps
from sklexplain.metrics import map_sparsity

from .._runner import Benchmark, Option, complete
from ..common import load_digits_28x28, markdown_table, rounded
from ..embeddings import (
    EFFICIENTNET,
    OPTIONS,
    PHOTOGRAPHS,
    SALIENCIES,
    SALIENCY_WORDS,
    SMOKE,
    accuracy,
    convolutions,
    efficientnet,
    photographs,
    trained_resnet,
    without_efficientnet,
)

# Where C is abs or var, nothing is negative: E = mean is E = abs.
PAIRS = [p for p in product(("mean", "abs", "var"), repeat=2) if p[0] == "mean" or p[1] != "mean"]
# What varies, what it is said to be sparser than; (C, E) each. Grad-CAM has no C.
CLAIMS = {
    "E, C = mean": (("mean", "var"), ("mean", "abs")),
    "E, C = abs": (("abs", "var"), ("abs", "abs")),
    "E, C = var": (("var", "var"), ("var", "abs")),
    "C, E = abs": (("var", "abs"), ("abs", "abs")),
    "C, E = var": (("var", "var"), ("abs", "var")),
    "C and E": (("var", "var"), ("abs", "abs")),
}
NETWORK_WORDS = {"efficientnet": "EfficientNet-Lite0", "mnist_resnet": "ResNets, MNIST"}


def combinations(saliency):
    """Pairs (C, E) that differ for a saliency; Grad-CAM's C is a sum, called "sum"."""
    return [("sum", "abs"), ("sum", "var")] if saliency == "grad_cam" else PAIRS


def all_maps(net, points, x, units):
    """Maps of one sample for every saliency and aggregation, in one pass.

    The same as `EmbeddingAttributor` gives for one combination at a time.

    Returns
    -------
    maps : dict of (saliency, C, E) to a list of tensor of shape (1, *spatial), one a layer
    """
    running = {
        (saliency, *pair): [RunningAggregate(pair[1]) for _ in points]
        for saliency in SALIENCIES
        for pair in combinations(saliency)
    }
    for _, gradients, activations in unit_gradients(net, points, x, units=units, rows=1024):
        for i, (g, a) in enumerate(zip(gradients, activations, strict=True)):
            for saliency in SALIENCIES:
                aggregated = {}
                for how, unit_agg in combinations(saliency):
                    if how not in aggregated:
                        aggregated[how] = channel_maps(g, a, saliency, how)
                    running[saliency, how, unit_agg][i].add(aggregated[how])
    return {key: [r.result() for r in layers] for key, layers in running.items()}


def sparsities(net, layers, X, units):
    """Sparsity of every sample's maps.

    Returns
    -------
    sparsity : dict of saliency to dict of "C/E" to list of shape (n_samples, n_layers)
    """
    net.requires_grad_(False)
    x = torch.as_tensor(X)
    points = find_points(net, x[:1], dict(net.named_modules()), layers=layers, at="input")
    result = {s: {"/".join(p): [] for p in combinations(s)} for s in SALIENCIES}
    for i in range(len(x)):
        for (saliency, *pair), maps in all_maps(net, points, x[i : i + 1], units).items():
            values = [map_sparsity(m.numpy(), absolute=True)[0] for m in maps]
            result[saliency]["/".join(pair)].append(rounded(values, 4))
    channels = [point.shape[0] for point in points]
    return {"layers": layers, "n_channels": channels, "sparsity": result}


# -- pieces --------------------------------------------------------------------------------------


def mnist_piece(seed, args):
    """Train a ResNet on 8,000 digits; sparsity for some of the other 2,000."""
    X, y = load_digits_28x28()
    order = np.random.RandomState(seed).permutation(len(X))
    train, test = order[: args.n_train], order[8000:]
    net = trained_resnet(X[train], y[train], seed, args)
    result = {"accuracy": rounded(accuracy(net, X[test], y[test]))}
    return result | sparsities(net.encoder(), convolutions(net), X[test[: args.n_digits]], None)


def photograph_piece(name, args):
    """Sparsity for one photograph, from random units."""
    net = efficientnet(args.efficientnet_path)
    X = photographs(args.efficientnet_path, [name])
    n_units = net.net._fc.in_features
    units = np.sort(np.random.RandomState(0).permutation(n_units)[: args.n_units])
    return sparsities(net, convolutions(net), X, units)


def pieces(args):
    """Names of the pieces and how to compute them."""
    made = {
        f"mnist_resnet, seed {seed}": lambda seed=seed: mnist_piece(seed, args)
        for seed in args.seeds
    }
    if not without_efficientnet(args):
        made |= {
            f"efficientnet, {name}": lambda name=name: photograph_piece(name, args)
            for name in args.photographs
        }
    return made


# -- summary -------------------------------------------------------------------------------------


def summarize(results):
    """Add how often each claim holds, a network each."""
    results["summary"] = {}
    for network in NETWORK_WORDS:
        found = [p for k, p in results["pieces"].items() if k.startswith(network)]
        if found:
            results["summary"][network] = _summary_of(found)


def _summary_of(found):
    channels = np.array(found[0]["n_channels"])
    summary = {"n_images": 0, "claims": {}, "mean_sparsity": {}}
    for saliency in SALIENCIES:
        tables = {
            pair: np.concatenate([p["sparsity"][saliency][pair] for p in found])
            for pair in found[0]["sparsity"][saliency]
        }
        summary["n_images"] = len(next(iter(tables.values())))
        summary["mean_sparsity"][saliency] = {k: rounded(t.mean(), 4) for k, t in tables.items()}
        for claim, (sparser, denser) in CLAIMS.items():
            if saliency == "grad_cam":
                if claim != "E, C = abs":
                    continue
                sparser, denser = ("sum", "var"), ("sum", "abs")
            # The variance over one channel is 0 everywhere.
            kept = channels > 1 if "var" in (sparser[0], denser[0]) else channels > 0
            less, more = (tables["/".join(pair)][:, kept] for pair in (sparser, denser))
            name = "E" if saliency == "grad_cam" else claim
            layers = np.array(found[0]["layers"])[kept]
            summary["claims"].setdefault(saliency, {})[name] = _holds(less, more, layers)
    return summary


def _holds(less, more, layers):
    """How often one table of (image, layer) is below another, and where it is not."""
    holds = less < more
    return {
        "share": rounded(holds.mean(), 4),
        "n_pairs": int(holds.size),
        "layers_of_mean": int((less.mean(axis=0) < more.mean(axis=0)).sum()),
        "layers_of_all_images": int(holds.all(axis=0).sum()),
        "n_layers": len(layers),
        "exceptions": {
            str(layer): int(n) for layer, n in zip(layers, (~holds).sum(axis=0), strict=True) if n
        },
        "median_ratio": rounded(np.median(less[more > 0] / more[more > 0]), 3),
    }


# -- the section ---------------------------------------------------------------------------------


def render(results):
    """Return the section as Markdown."""
    machine = results["environment"]
    parts = [
        "## Sparsity of embedding maps",
        'Bertolini, Clevert & Montanari, section 2.2, figure 2b: "for all layers, the variance '
        'produces a sparser map than the mean absolute aggregator". Made by '
        "`benchmarks/papers/embedding_sparsity.py`; every image is in "
        "`benchmarks/papers/results/embedding_sparsity.json`. "
        f"{machine['processor']}, {machine['n_cores']} cores, no GPU. Sparsity is the mean of the "
        "map scaled to [0, 1]; less is sparser. C aggregates over channels, E over the units of "
        "the embedding; a row compares var with abs for what it names first.",
        _settings_words(results),
    ]
    for network, summary in results["summary"].items():
        parts += [f"**{NETWORK_WORDS[network]}** ({_image_words(network, results, summary)})."]
        parts += [_claim_table(summary), _sparsity_words(summary)]
    return "\n\n".join([*parts, "### What differs from the paper", _difference_words(results)])


def _settings_words(results):
    return (
        "Maps are of what each 3 × 3, depthwise or pointwise convolution is called with (the "
        "paper's M_p), its positions not upsampled, which changes no mean. A cell is the share of "
        "(image, layer) pairs where var is sparser; in brackets the number of layers where it is "
        "for the mean over the images, and for every image; then the median of var's sparsity "
        "over abs's."
    )


def _image_words(network, results, summary):
    found = {k: p for k, p in results["pieces"].items() if k.startswith(network)}
    first = next(iter(found.values()))
    n_layers = len(first["layers"])
    if network == "efficientnet":
        names = ", ".join(name.split(", ")[1] for name in found)
        return f"scikit-image's {names}; {n_layers} convolutions"
    share = min(p["accuracy"] for p in found.values())
    return (
        f"{len(found)} seeds, test accuracy at least {share:.3f}, {summary['n_images']} digits in "
        f"all, {n_layers} convolutions"
    )


def _claim_table(summary):
    header = ["var instead of abs for", *(SALIENCY_WORDS[s] for s in SALIENCIES)]
    rows = []
    for claim in [*CLAIMS, "E"]:
        cells = [_cell(summary["claims"][s].get(claim)) for s in SALIENCIES]
        rows.append([claim if claim != "E" else "E (C is a sum)", *cells])
    return markdown_table(header, rows)


def _cell(entry):
    if entry is None:
        return ""
    share = entry["share"]
    digits = 0 if share == 1 else 1
    return (
        f"{share:.{digits}%} ({entry['layers_of_mean']}, {entry['layers_of_all_images']} of "
        f"{entry['n_layers']}); {entry['median_ratio']:.2f}"
    )


def _sparsity_words(summary):
    lines = []
    for saliency, table in summary["mean_sparsity"].items():
        words = ", ".join(f"{pair} {value:.3f}" for pair, value in table.items())
        lines.append(f"- {SALIENCY_WORDS[saliency]}: {words}")
    lines = "\n".join(lines)
    exceptions = []
    for saliency, claims in summary["claims"].items():
        for claim, entry in claims.items():
            most = sorted(entry["exceptions"].items(), key=lambda item: -item[1])[:3]
            if most:
                where = ", ".join(f"`{name}` ({n})" for name, n in most)
                total = sum(entry["exceptions"].values())
                exceptions.append(
                    f"- {SALIENCY_WORDS[saliency]}, {claim}: {total} of {entry['n_pairs']} pairs, "
                    f"most at {where}"
                )
    found = "\n".join(exceptions) if exceptions else "None."
    return f"Mean sparsity of C/E:\n\n{lines}\n\nExceptions:\n\n{found}"


def _difference_words(results):
    settings = results["settings"]
    lines = [
        "Other networks than the paper's (Inception V3, ResNet18 and AlexNet, two images shown).",
        f"EfficientNet's E takes {settings['n_units']} random units of 1,280, the same for all "
        "images. The variance over units has n − 1 in its denominator, as in the paper.",
        "C = var is left out at a layer with one channel, where it is 0 everywhere.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def measure(args, results, save):
    complete(results.setdefault("pieces", {}), pieces(args), save)


BENCHMARK = Benchmark(
    section="sparsity of embedding maps",
    page="embeddings_and_scores.md",
    measure=measure,
    summarize=summarize,
    render=render,
    settings={
        "epochs": 3,
        "n_train": 8000,
        "n_digits": Option(10, "explained, a seed"),
        "n_units": Option(48, "of EfficientNet's 1,280"),
        "photographs": list(PHOTOGRAPHS[:6]),
    },
    options={**OPTIONS, **EFFICIENTNET},
    smoke={
        "epochs": 1,
        "n_train": 256,
        "n_digits": 2,
        "n_units": 2,
        "photographs": list(PHOTOGRAPHS[:1]),
        **SMOKE,
    },
)
