"""Table 1 of Qi & Li: faithfulness and locality of concepts, beside the paper's alternatives.

For every target (a class's score) of a small ReLU network, concepts are learned by SRAE, by the
same network without reconstruction (NN: beta = 0) and as a plain autoencoder (SAE: no penalty);
F_reg is the mean absolute difference of the approximated and the true score, locality the entropy,
over parts, of the concepts' contrastive excitation maps (c-MWP). The maps of the score itself
("output") and of the layer's single units ("Z") stand beside them. MNIST's parts are the cells of
a grid, ECG5000's are segments of time. Every seed trains a network of its own.
"""

import functools
import itertools
import time
import warnings

import numpy as np
import torch
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sklexplain import SRAEExplainer
from sklexplain.attribution import time_segments
from sklexplain.concepts._excitation import excitation_maps
from sklexplain.concepts._network import ConceptModule
from sklexplain.datasets import load_ecg5000
from sklexplain.metrics import concept_orthogonality, faithfulness, grid_parts, locality

from .._runner import Benchmark, complete
from ..common import load_digits_28x28, markdown_table, rounded

# The paper's three at the same beta; then what else their names may stand for: a beta that leaves
# more to the prediction, the authors' later weight of the pull-away term, and a plain autoencoder
# whose reconstruction has the weight that the log has at small errors, beta times q.
METHODS = {
    "SRAE": {"beta": 10.0},
    "NN": {"beta": 0.0},
    "SAE": {"penalty": "none", "beta": 10.0},
    "SRAE, beta 1": {"beta": 1.0},
    "SRAE, pull-away 10": {"pull_away": 10.0, "beta": 10.0},
    "SAE, beta 1000": {"penalty": "none", "beta": 1000.0},
}
PAPER = {"SRAE": (0.083, 0.154, 1.97), "NN": (0.066, 0.117, 2.31), "SAE": (0.099, 0.193, 2.15)}
PAPER_LOCALITY = {"Z": 1.96, "output": 2.49}
MEASURES = ("f_reg_train", "f_reg_test", "r2_test", "rebuilt_test", "locality", "orthogonality")


def load(dataset, n_train, n_test, seed):
    """Return samples, labels and the parts of a data set."""
    if dataset == "mnist":
        X, y = load_digits_28x28()
        parts = grid_parts((28, 28), 4)
    else:
        X, y = load_ecg5000(return_X_y=True)
        X, y = np.asarray(X)[:, None], np.unique(y, return_inverse=True)[1]
        parts = time_segments(140, 14)
    order = np.random.RandomState(seed).permutation(len(X))
    train, test = order[:n_train], order[n_train : n_train + n_test]
    return X[train].astype(np.float32), y[train], X[test].astype(np.float32), y[test], parts


def make_network(dataset):
    if dataset == "mnist":
        first = [nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()]
        flat, n_classes = 16 * 6 * 6, 10
    else:
        first = [nn.Conv1d(1, 8, 7, stride=3), nn.ReLU(), nn.Conv1d(8, 16, 5, stride=3), nn.ReLU()]
        flat, n_classes = 16 * 14, 5
    return nn.Sequential(
        *first, nn.Flatten(), nn.Linear(flat, 64), nn.ReLU(), nn.Linear(64, n_classes)
    )


def train_network(dataset, X, y, n_epochs, seed):
    """Train a classifier with Adam; a few lines, as nothing of it is measured."""
    torch.manual_seed(seed)
    network = make_network(dataset)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    X, y = torch.from_numpy(X), torch.from_numpy(y.astype(np.int64))
    for _ in range(n_epochs):
        for rows in torch.randperm(len(X)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(X[rows]), y[rows]).backward()
            optimizer.step()
    return network.eval().requires_grad_(False)


def linear_maps(explainer, weights, X):
    """Excitation maps of linear functions of the layer: (n, n_functions, ...)."""
    module = ConceptModule(explainer.layer_shape_, len(weights), (), 1.0, np.zeros(1), np.ones(1))
    module.requires_grad_(False)
    module.encoder[0].weight.copy_(torch.as_tensor(weights))
    representation = explainer._representation
    with representation.session():
        return excitation_maps(explainer._tap, module, representation.tensor(X)).numpy()


def explain(network, target, X_train, X_test, n_maps, parts, params, own):
    """Fit one explainer and measure it."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # counted by the epochs
        explainer = SRAEExplainer(network, target=target, **params, **own).fit(X_train)
    seconds = time.process_time() - start
    result = {"seconds": seconds, "n_epochs": explainer.n_epochs_}
    for name, X in (("train", X_train), ("test", X_test)):
        told = faithfulness(explainer.target_values(X), explainer.predict(X))
        result[f"f_reg_{name}"], result[f"r2_{name}"] = told.f_reg, told.r2
    result["rebuilt_test"] = explainer.score_parts(X_test)[1]
    active = explainer.active_concepts_
    maps = explainer.concept_attributions(X_test[:n_maps], "excitation_backprop")
    result["locality"] = locality(maps, parts, active=active) if active.any() else float("nan")
    result["n_active"] = explainer.n_active_concepts_
    result["orthogonality"] = float("nan")
    if active.sum() > 1:
        result["orthogonality"] = concept_orthogonality(explainer.transform(X_test), active=active)
    return {key: rounded(value) for key, value in result.items()}, explainer


@functools.lru_cache(maxsize=1)
def task(dataset, n_train, n_test, n_epochs, seed):
    """Return data, parts, a trained network and its accuracy."""
    X_train, y_train, X_test, y_test, parts = load(dataset, n_train, n_test, seed)
    network = train_network(dataset, X_train, y_train, n_epochs, seed)
    with torch.no_grad():
        labels = network(torch.from_numpy(X_test)).argmax(1).numpy()
    return X_train, X_test, parts, network, np.mean(labels == y_test)


def one_target(dataset, seed, target, settings):
    """Measure every method on one target of one network."""
    sizes = [settings[name] for name in ("n_train", "n_test", "network_epochs")]
    X_train, X_test, parts, network, accuracy = task(dataset, *sizes, seed)
    params = {
        "hidden_layer_sizes": tuple(settings["hidden_layer_sizes"]),
        "max_epochs": settings["max_epochs"],
        "random_state": seed,
    }
    out = {"accuracy": rounded(accuracy), "methods": {}}
    for name, own in METHODS.items():
        out["methods"][name], explainer = explain(
            network, target, X_train, X_test, settings["n_maps"], parts, params, own
        )
    some = X_test[: settings["n_maps"]]
    score = network[-1].weight[[target]]
    out["output"] = rounded(locality(linear_maps(explainer, score, some), parts))
    out["Z"] = rounded(locality(linear_maps(explainer, np.eye(64), some), parts))
    return out


def summarise(entries):
    """Mean over targets for every seed, then mean and standard deviation over seeds."""
    seeds = [list(targets.values()) for targets in entries.values()]
    summary = {}
    for name in METHODS:
        means = [
            [np.nanmean([t["methods"][name][m] for t in targets]) for m in MEASURES]
            for targets in seeds
        ]
        summary[name] = dict(zip(MEASURES, spread_of(means), strict=True))
    for name in ("output", "Z"):
        summary[name] = {
            "locality": spread_of([[np.mean([t[name] for t in targets])] for targets in seeds])[0]
        }
    return summary


def spread_of(rows):
    rows = np.asarray(rows, dtype=np.float64)
    std = rows.std(axis=0, ddof=1) if len(rows) > 1 else np.full(rows.shape[1], np.nan)
    return [
        {"mean": rounded(m, 4), "std": None if np.isnan(s) else rounded(s, 4)}
        for m, s in zip(rows.mean(axis=0), std, strict=True)
    ]


def text_of(entry):
    if entry["std"] is None:
        return f"{entry['mean']:.3f}"
    return f"{entry['mean']:.3f} ± {entry['std']:.3f}"


def table(results, dataset):
    header = ["", "F_reg train", "F_reg test", "R² test", "relevant units rebuilt, R²", "locality"]
    header += ["correlation of concepts", "paper: F_reg train, test, locality"]
    rows = []
    for name, entry in results["summary"][dataset].items():
        paper = f"–, –, {PAPER_LOCALITY[name]}" if name in PAPER_LOCALITY else "–"
        if name in PAPER:
            paper = ", ".join(map(str, PAPER[name]))
        cells = [text_of(entry[m]) if m in entry else "–" for m in MEASURES]
        rows.append([name, *cells, paper])
    return markdown_table(header, rows)


def order(summary, measure):
    """The paper's methods by their mean, lowest first."""
    return " < ".join(sorted(PAPER, key=lambda name: summary[name][measure]["mean"]))


def localities(entries, name):
    """Locality by seed, for each target, of a method or of the maps that stand beside them."""
    return [
        np.array([t[name] if name in t else t["methods"][name]["locality"] for t in found.values()])
        for found in entries.values()
    ]


def difference(entries, name, other):
    """Say how much lower or higher a method's locality is than another's on the same networks.

    Differences on one network are averaged over its targets: networks are what was drawn.
    """
    pairs = zip(localities(entries, name), localities(entries, other), strict=True)
    differences = [ours - theirs for ours, theirs in pairs]
    means = np.array([np.nanmean(seed) for seed in differences])
    per_pair = np.concatenate(differences)
    text = f"{means.mean():+.3f}"
    if len(means) > 1:
        half = stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
        text += f" ± {half:.3f}"
    return f"{text} to {other} ({np.sum(per_pair < 0)} of {per_pair.size} lower)"


def verdict(results, dataset):
    """Say what the order of the methods is, and by how much SRAE's concepts are more local."""
    summary, entries = results["summary"][dataset], results["datasets"][dataset]
    beside = ", ".join(difference(entries, "SRAE", name) for name in ("NN", "SAE", "output"))
    others = "; ".join(
        f"{name}: {difference(entries, name, 'NN')}" for name in METHODS if name not in PAPER
    )
    return (
        f"Order of F_reg on test samples: {order(summary, 'f_reg_test')} (paper: NN < SRAE < SAE); "
        f"of locality: {order(summary, 'locality')} (paper: SRAE < SAE < NN). SRAE's locality, on "
        f"the same networks and targets, with 95 % intervals over networks: {beside}. {others}."
    )


def render(results):
    """Return the section as Markdown."""
    settings, machine = results["settings"], results["environment"]
    hidden = "-".join(map(str, settings["hidden_layer_sizes"]))
    parts = [
        "## Concepts: table 1 of the SRAE paper",
        "Five concepts for every target (a class's score before the softmax) on the 64 units "
        f"before a ReLU network's last layer; {settings['n_train']} training and "
        f"{settings['n_test']} test samples, hidden layers {hidden}, at most "
        f"{settings['max_epochs']} epochs. NN is the same without reconstruction, SAE a plain "
        "autoencoder (at the same beta its reconstruction weighs less: at small errors the log "
        "has q times its slope, so that it stands here with beta times q, too); *output* and *Z* "
        "are maps of the score itself and of single units. Locality is "
        f"the entropy in nats of c-MWP maps of {settings['n_maps']} test samples over 16 cells "
        "(MNIST, at most 2.77) or 14 time segments (ECG5000, at most 2.64). Means over targets, ± "
        "the standard deviation over seeds, each with a network of its own. The paper's numbers "
        "are of birds, a VGG19 and 15 parts, in units of its scores: only their order can be "
        f"compared. Made by `benchmarks/papers/srae_table1.py`; torch {machine['torch']}.",
    ]
    for dataset, entries in results["datasets"].items():
        n_targets = sorted({len(targets) for targets in entries.values()})
        parts += [
            f"**{dataset.upper()}**, {' or '.join(map(str, n_targets))} targets, "
            f"{len(entries)} seeds",
            table(results, dataset),
            verdict(results, dataset),
        ]
    return "\n\n".join(parts)


def measure(args, results, save):
    settings = results["settings"]
    for seed, dataset in itertools.product(args.seeds, args.datasets):
        place = results.setdefault("datasets", {}).setdefault(dataset, {})
        tasks = {
            str(target): functools.partial(one_target, dataset, seed, target, settings)
            for target in args.targets
        }
        complete(place.setdefault(str(seed), {}), tasks, save)


def summarize(results):
    """Add means over targets and seeds."""
    datasets = results["datasets"].items()
    results["summary"] = {dataset: summarise(entries) for dataset, entries in datasets}


BENCHMARK = Benchmark(
    section="SRAE table 1",
    page="srae.md",
    measure=measure,
    summarize=summarize,
    render=render,
    settings={
        "n_train": 2000,
        "n_test": 1000,
        "n_maps": 200,
        "max_epochs": 200,
        "network_epochs": 10,
        "hidden_layer_sizes": [800, 100],
    },
    options={"seeds": list(range(5)), "targets": list(range(5)), "datasets": ["mnist", "ecg5000"]},
    smoke={
        "n_train": 60,
        "n_test": 30,
        "n_maps": 5,
        "max_epochs": 2,
        "network_epochs": 1,
        "hidden_layer_sizes": [6],
        "seeds": [0],
        "targets": [0],
    },
)
