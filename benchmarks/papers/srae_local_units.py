"""Locality of SRAE's concepts on networks whose single units are local, as in the paper.

Qi & Li's concepts rebuild single units of a layer, and these are more local than the output in
their network (1.96 to 2.49, table 1), but not in those of ``srae_table1.py``. Here is data that
makes them so: series of six slots, three of them with a motif each; a class is three motifs,
wherever they stand. Parts are the slots, or a sample's motifs, wherever they stand, as the paper's
are those of a bird. The network is convolutions, a dense layer of 128 units that is trained with an
L1 penalty on its activations, and a second one; the first dense layer is explained. For every
target (a class's score), concepts are learned from 50 samples of the class among many others, as in
the paper.

``--seeds 3 --targets 0 1`` is a piece, which trains its seed's network again; results of pieces are
merged by the keys of "seeds", and of what is in them.
"""

import itertools
import json
import warnings

import numpy as np
import torch
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sklexplain import SRAEExplainer
from sklexplain.attribution import time_segments
from sklexplain.metrics import faithfulness, locality

from .._runner import Benchmark, Option
from ..common import markdown_table, rounded
from .srae_table1 import linear_maps

N_SLOTS, SLOT = 6, 20
N_MOTIFS, N_CLASSES = 9, 6
PENALTY = 3e-3  # on the mean activation of the first dense layer
METHODS = {
    "SRAE, beta 10": {"beta": 10.0},
    "SRAE, beta 1": {"beta": 1.0},
    "NN": {"beta": 0.0},
    "SAE, beta 10": {"penalty": "none", "beta": 10.0},
}
PARTS = ("slots", "motifs")
PAPER = {"SRAE, beta 10": 1.97, "NN": 2.31, "SAE, beta 10": 2.15, "output": 2.49, "Z": 1.96}


def make_network():
    """Return two convolutions, the dense layer that is explained, another one, and the output."""
    return nn.Sequential(
        *(nn.Conv1d(1, 16, 15, padding=7), nn.ReLU(), nn.MaxPool1d(2)),
        *(nn.Conv1d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2)),
        *(nn.Flatten(), nn.Linear(32 * N_SLOTS * SLOT // 4, 128), nn.ReLU()),
        *(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, N_CLASSES)),
    )


EXPLAINED, LAST = "8", "10"  # the activations of the first dense layer, and of the second


def motifs():
    """Return the shapes: a sine in a window, a slope, a step, ... of length SLOT - 4."""
    t = np.linspace(0, 1, SLOT - 4)
    window = np.sin(np.pi * t)
    waves = [window * np.sin(2 * np.pi * k * t) for k in (1, 2, 3)]
    bumps = [window, -window, np.abs(2 * t - 1) - 0.5]
    others = [2 * t - 1, 1 - 2 * t, np.sign(t - 0.5)]
    return np.array([*waves, *bumps, *others])


def classes(rng):
    """Draw six different triples of motifs, every motif in two of them."""
    while True:
        twice = rng.permutation(np.repeat(np.arange(N_MOTIFS), 2)).reshape(N_CLASSES, 3)
        triples = {tuple(sorted(row)) for row in twice}
        if len(triples) == N_CLASSES and all(len(set(row)) == 3 for row in twice):
            return np.array(sorted(triples))


def draw(n_samples, triples, rng):
    """Draw series of noise with the class's motifs in three of the slots, labels, and parts."""
    shapes = motifs()
    X = 0.1 * rng.standard_normal((n_samples, 1, N_SLOTS * SLOT))
    y = rng.integers(N_CLASSES, size=n_samples)
    parts = np.full(X.shape, N_MOTIFS)  # what is in no motif's slot is one part more
    for x, label, part in zip(X, y, parts, strict=True):
        for slot, kind in zip(rng.permutation(N_SLOTS)[:3], triples[label], strict=True):
            start = slot * SLOT + rng.integers(5)
            x[0, start : start + SLOT - 4] += shapes[kind]
            part[0, slot * SLOT : (slot + 1) * SLOT] = kind
    return X.astype(np.float32), y, parts


def train(X, y, n_epochs, seed):
    """Train the network with Adam and the penalty on the dense layer's activations."""
    torch.manual_seed(seed)
    network = make_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    for _ in range(n_epochs):
        for rows in torch.randperm(len(X)).split(64):
            optimizer.zero_grad()
            z = network[: int(EXPLAINED) + 1](X[rows])
            loss = nn.functional.cross_entropy(network[int(EXPLAINED) + 1 :](z), y[rows])
            (loss + PENALTY * z.sum(dim=1).mean()).backward()
            optimizer.step()
    return network.eval().requires_grad_(False)


def one_seed(seed, targets, settings, entries, save):
    """Measure all methods on all targets of one network."""
    rng = np.random.default_rng(seed)
    triples = classes(rng)
    X, y, _ = draw(settings["n_train"], triples, rng)
    X_pool, y_pool, _ = draw(settings["n_pool"], triples, rng)
    X_test, y_test, parts_test = draw(settings["n_test"], triples, rng)
    network = train(X, y, settings["network_epochs"], seed)
    with torch.no_grad():
        accuracy = (network(torch.from_numpy(X_test)).argmax(1).numpy() == y_test).mean()
        units = network[: int(EXPLAINED) + 1](torch.from_numpy(X_test))
    alive = np.flatnonzero((units > 0).any(dim=0).numpy())
    for target in targets[: settings["n_targets"]]:
        if str(target) in entries:
            continue
        positives = np.flatnonzero(y_pool == target)[: settings["n_positives"]]
        negatives = np.flatnonzero(y_pool != target)[: settings["n_negatives"]]
        corpus = X_pool[np.sort(np.concatenate([positives, negatives]))]
        mapped, by_motif = (
            values[y_test == target][: settings["n_maps"]] for values in (X_test, parts_test)
        )
        parts = {"slots": time_segments(N_SLOTS * SLOT, N_SLOTS), "motifs": by_motif}
        found = {"accuracy": rounded(accuracy), "n_alive": len(alive), "methods": {}}
        for name, params in METHODS.items():
            found["methods"][name], explainer = explain(
                network, target, corpus, X_test, mapped, parts, params, settings, seed
            )
        # The score is no linear function of the explained layer, but it is one of the last.
        found["output"] = output_locality(network, target, mapped, parts, seed)
        found["Z"] = localities_of(linear_maps(explainer, np.eye(128)[alive], mapped), parts)
        entries[str(target)] = found
        save()
        print(seed, target, json.dumps(found), flush=True)


def output_locality(network, target, mapped, parts, seed):
    """Locality of the score's own excitation maps: its last layer's weights are the function."""
    last = SRAEExplainer(
        network, layer=LAST, target=target, n_concepts=1, max_epochs=1, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        last.fit(mapped)
    return localities_of(linear_maps(last, network[-1].weight[[target]], mapped), parts)


def localities_of(maps, parts, active=None):
    """Locality over each of several parts; NaN without an active concept."""
    if active is not None and not active.any():
        return dict.fromkeys(parts, float("nan"))
    return {name: rounded(locality(maps, part, active=active)) for name, part in parts.items()}


def explain(network, target, corpus, X_test, mapped, parts, params, settings, seed):
    """Fit one explainer of one target and measure it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # counted by the epochs
        explainer = SRAEExplainer(
            network,
            layer=EXPLAINED,
            target=target,
            hidden_layer_sizes=tuple(settings["hidden_layer_sizes"]),
            max_epochs=settings["max_epochs"],
            random_state=seed,
            **params,
        ).fit(corpus)
    told = faithfulness(explainer.target_values(X_test), explainer.predict(X_test))
    active = explainer.active_concepts_
    maps = explainer.concept_attributions(mapped, "excitation_backprop")
    found = {
        "f_reg": told.f_reg,
        "r2": told.r2,
        "rebuilt": explainer.score_parts(X_test)[1],
        "n_active": explainer.n_active_concepts_,
        "n_epochs": explainer.n_epochs_,
    }
    found = {key: rounded(value) for key, value in found.items()}
    return found | {"locality": localities_of(maps, parts, active)}, explainer


# -- the page ------------------------------------------------------------------------------------


def localities(results, name, parts):
    """Locality by seed over some parts, means over targets."""
    return np.array(
        [
            np.nanmean(
                [
                    (t[name] if name in t else t["methods"][name]["locality"])[parts]
                    for t in targets.values()
                ]
            )
            for targets in results["seeds"].values()
        ]
    )


def interval(values):
    if len(values) < 2:
        return f"{np.mean(values):+.3f}"
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):+.3f} ± {half:.3f}"


def table(results):
    rows = []
    targets = [t for seed in results["seeds"].values() for t in seed.values()]
    for name in (*METHODS, "output", "Z"):
        local = []
        for parts in PARTS:
            by_seed = localities(results, name, parts)
            spread = f" ± {by_seed.std(ddof=1):.3f}" if len(by_seed) > 1 else ""
            local.append(f"{by_seed.mean():.3f}{spread}")
        found = [t["methods"][name] for t in targets] if name in METHODS else None
        told = ["–"] * 3
        if found:
            told = [f"{np.mean([m[key] for m in found]):.3f}" for key in ("r2", "rebuilt", "f_reg")]
        rows.append([name, *local, *told, PAPER.get(name, "–")])
    header = [
        "",
        *(f"locality, {p}" for p in PARTS),
        "R² test",
        "relevant units rebuilt, R²",
        "F_reg test",
    ]
    return markdown_table(header + ["paper: locality"], rows)


def comparisons(results):
    names = [*METHODS, "output", "Z"]
    pairs = [p for p in itertools.combinations(names, 2) if p[0].startswith("SRAE")]
    pairs += [("Z", "output"), ("NN", "output")]
    rows = []
    for first, second in pairs:
        row = [f"{first} − {second}"]
        for parts in PARTS:
            difference = localities(results, first, parts) - localities(results, second, parts)
            row += [interval(difference), f"{np.sum(difference < 0)}"]
        rows.append(row)
    header = ["difference of locality"]
    for parts in PARTS:
        header += [f"{parts}, 95 % interval", "seeds below 0"]
    return markdown_table(header, rows)


def render(results):
    """Return the section of the results page as Markdown."""
    settings = results["settings"]
    targets = [t for seed in results["seeds"].values() for t in seed.values()]
    accuracy = np.mean([t["accuracy"] for t in targets])
    alive = np.mean([t["n_alive"] for t in targets])
    return "\n\n".join(
        [
            "## Concepts of networks whose units are local",
            f"Series of {N_SLOTS} slots of {SLOT} steps, three with a motif each; a class is three "
            f"of {N_MOTIFS} motifs, in any slots. {len(results['seeds'])} seeds (data, network, "
            f"concepts), {len(targets)} targets in all; networks are right in "
            f"{accuracy:.3f} of test samples, and {alive:.0f} of the 128 units of the explained "
            f"dense layer, trained with an L1 penalty of {PENALTY:g} on its activations, are ever "
            f"on. Concepts are learned from {settings['n_positives']} samples of the class and "
            f"{settings['n_negatives']} others. Locality is the entropy in nats of c-MWP maps of "
            f"at most {settings['n_maps']} test samples of the class: over the slots (at most "
            f"{np.log(N_SLOTS):.2f}), and over its three motifs, wherever they are, and the rest "
            f"(at most {np.log(4):.2f}; evenly over the motifs {np.log(3):.2f}); ± is the standard "
            "deviation over seeds. The paper's are of "
            "birds, a VGG19 and 15 parts: only their order can be compared. Made by "
            "`benchmarks/papers/srae_local_units.py`; "
            f"{results['environment']['processor']}, torch {results['environment']['torch']}.",
            table(results),
            comparisons(results),
        ]
    )


def measure(args, results, save):
    for seed in args.seeds:
        entries = results.setdefault("seeds", {}).setdefault(str(seed), {})
        one_seed(seed, args.targets, results["settings"], entries, save)


BENCHMARK = Benchmark(
    section="SRAE local units",
    page="srae.md",
    measure=measure,
    render=render,
    settings={
        "n_targets": 6,
        "n_train": 3000,
        "n_pool": 1200,
        "n_test": 1000,
        "n_positives": 50,
        "n_negatives": 450,
        "n_maps": 100,
        "max_epochs": 200,
        "network_epochs": 20,
        "hidden_layer_sizes": [800, 100],
    },
    options={
        "seeds": [0, 1, 2, 3, 4],
        "targets": Option(list(range(N_CLASSES)), choices=range(N_CLASSES)),
    },
    smoke={
        "n_targets": 1,
        "n_train": 60,
        "n_pool": 80,
        "n_test": 40,
        "n_positives": 5,
        "n_negatives": 20,
        "n_maps": 3,
        "max_epochs": 2,
        "network_epochs": 1,
        "hidden_layer_sizes": [6],
        "seeds": [0],
    },
    threads=1,
)
