"""Like these and unlike those: what maps of a corpus and a foil find, beside label-free maps.

After Lin, Chen, Kim & Lee (ICLR 2023), on digits (8 x 8) and heartbeats, with MLP autoencoders.

Part one plants a contrast: a patch of 2 x 2 pixels (or a bump of ten steps) is added to half of the
samples, whatever their class. Corpus: training samples that have it; foil: those that have not.
Asked is how far up in maps of other samples that have it the planted entries stand (AUROC), and
whether one of them is first.

Part two takes classes: each is the corpus once, all others the foil. The features that a map calls
most important for held-out samples of the class are set to the mean of the training data, and the
area under the fall of g is compared with that of random orders. g is computed here, from codes.
"""

import warnings
from functools import partial

import numpy as np
from scipy.integrate import trapezoid
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score

from sklexplain import LabelFreeAttributor
from sklexplain.datasets import load_ecg5000
from sklexplain.nets import Autoencoder

from .._runner import Benchmark, complete
from ..common import markdown_table, rounded

SIMILARITIES = ("dot", "cosine")
# Maps by name, with the parameters of the attributor; corpus and foil are added to the first two.
MAPS = {
    "corpus and foil, dot": {"similarity": "dot"},
    "corpus and foil, cosine": {"similarity": "cosine"},
    "label-free": {},
    "label-free, centred": {"center": True},
}
FRACTIONS = np.array([0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0])
# Height of what is planted: ink is 1, and heartbeats have the variance 1.
HEIGHTS = {"digits": {"weak": 0.5, "strong": 1.0}, "heartbeats": {"weak": 1.5, "strong": 3.0}}
# Heartbeats: normal, and R-on-T premature ventricular contractions; the others are rare.
CLASSES = {"digits": range(10), "heartbeats": (1, 2)}


def load(name, seed, args):
    """Training and held-out samples with their classes, in an order of the seed."""
    X, y = load_digits(return_X_y=True) if name == "digits" else load_ecg5000(return_X_y=True)
    X = np.asarray(X / (16 if name == "digits" else 1), dtype=np.float32)
    rows = np.flatnonzero(np.isin(y, CLASSES[name]))
    rows = np.random.default_rng(seed).permutation(rows)[: args.n_samples]
    cut = 2 * len(rows) // 3
    return X[rows[:cut]], y[rows[:cut]], X[rows[cut:]], y[rows[cut:]]


def trained(X, seed, args):
    """Train an autoencoder on samples."""
    params = {"max_epochs": args.n_epochs, "random_state": seed}
    return Autoencoder(n_components=args.n_components, **params).fit(X)


def maps_of(net, X, corpus, foil, samples, args):
    """Maps of samples by name."""
    found = {}
    for name, params in MAPS.items():
        contrast = {"corpus": corpus, "foil": foil} if "similarity" in params else {}
        explainer = LabelFreeAttributor(net, random_state=0, **params, **contrast).fit(X)
        found[name] = explainer.transform(samples)
    return found


# -- a planted contrast


def plant(name, X, height, rng):
    """Samples of which half have something added, which ones, and where."""
    has, X = rng.uniform(size=len(X)) < 0.5, X.copy()
    where = np.zeros(X.shape[1], dtype=bool)
    if name == "digits":
        row, column = rng.integers(7, size=2)
        where.reshape(8, 8)[row : row + 2, column : column + 2] = True
        X[np.ix_(has, where)] += height
    else:
        start = rng.integers(130)
        where[start : start + 10] = True
        bump = height * rng.choice([-1, 1]) * np.sin(np.linspace(0, np.pi, 10))
        X[np.ix_(has, where)] += bump.astype(np.float32)
    return X, has, where


def planted(name, height, seed, args):
    """AUROC of the planted entries, and how often one of them is first, by map."""
    X, _, new, _ = load(name, seed, args)
    rng = np.random.default_rng([seed, 1])
    both, has, where = plant(name, np.concatenate([X, new]), height, rng)
    X, new, in_X, in_new = both[: len(X)], both[len(X) :], has[: len(X)], has[len(X) :]
    net = trained(X, seed, args)
    samples = new[in_new][: args.n_explained]
    maps = maps_of(net, X, X[in_X], X[~in_X], samples, args)
    # A contrast has a sign; how much a label-free map says of an entry is its size.
    maps = {key: m if key.startswith("corpus") else np.abs(m) for key, m in maps.items()}
    return {
        key: {
            "auroc": rounded(np.mean([roc_auc_score(where, one) for one in m]), 4),
            "first": rounded(where[m.argmax(axis=1)].mean(), 4),
        }
        for key, m in maps.items()
    }


# -- the fall of g


def g_of(net, corpus, foil):
    """Return g of samples, by similarity, from codes alone."""
    means = {}
    for name in SIMILARITIES:
        scale = _unit if name == "cosine" else np.asarray
        u = scale(net.transform(corpus)).mean(axis=0) - scale(net.transform(foil)).mean(axis=0)
        means[name] = scale, u

    def g(X):
        z = net.transform(X)
        return {name: scale(z) @ u for name, (scale, u) in means.items()}

    return g


def _unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def areas(g, samples, mean, orders):
    """Areas under the mean fall of g as features are masked in an order, by similarity.

    Parameters
    ----------
    orders : ndarray of int of shape (n, n_features)
        The features of every sample, those first that are masked first.
    """
    before, falls = g(samples), {name: [] for name in SIMILARITIES}
    for fraction in FRACTIONS:
        masked, m = samples.copy(), int(np.ceil(fraction * samples.shape[1]))
        chosen = orders[:, :m]
        np.put_along_axis(masked, chosen, mean[chosen], axis=1)
        for name, after in g(masked).items():
            falls[name].append(np.mean(before[name] - after))
    return {name: trapezoid(values, FRACTIONS) for name, values in falls.items()}


def fall(name, seed, args):
    """Areas under the fall of g over those of random orders: by class, map and similarity."""
    X, y, new, y_new = load(name, seed, args)
    net, rng = trained(X, seed, args), np.random.default_rng([seed, 2])
    mean, found = X.mean(axis=0), {}
    for label in CLASSES[name][: args.n_classes]:
        corpus, foil = X[y == label], X[y != label]
        samples = new[y_new == label][: args.n_explained]
        g = g_of(net, corpus, foil)
        chance = [
            areas(g, samples, mean, np.tile(rng.permutation(X.shape[1]), (len(samples), 1)))
            for _ in range(args.n_random)
        ]
        chance = {s: np.mean([area[s] for area in chance]) for s in SIMILARITIES}
        found[str(label)] = {"random": {s: rounded(chance[s]) for s in SIMILARITIES}}
        for key, maps in maps_of(net, X, corpus, foil, samples, args).items():
            # What adds most comes first; of a label-free map's two rankings the better counts.
            own = areas(g, samples, mean, np.argsort(-maps, axis=1, kind="stable"))
            if not key.startswith("corpus"):
                size = areas(g, samples, mean, np.argsort(-np.abs(maps), axis=1, kind="stable"))
                own = {s: max(own[s], size[s]) for s in SIMILARITIES}
            found[str(label)][key] = {s: rounded(own[s]) for s in SIMILARITIES}
    return found


# -- the page


def _pm(values, digits=3):
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=len(values) > 1):.{digits}f}"


def ratio_of(run, name, key, similarity):
    """Area of a map over random's, summed over classes."""
    by_class = run["fall"][name].values()
    own = sum(entry[key][similarity] for entry in by_class)
    return own / sum(entry["random"][similarity] for entry in by_class)


def render(results):
    """Return the section as Markdown."""
    s, runs = results["settings"], list(results["seeds"].values())
    found, falls, above = [], [], []
    for name in CLASSES:
        for key in MAPS:
            for strength in HEIGHTS[name]:
                entries = [run["planted"][name][strength][key] for run in runs]
                row = [f"{name}, {strength}", key]
                for what in ("auroc", "first"):
                    values = [entry[what] for entry in entries]
                    row += [_pm(values, 2), f"{min(values):.2f}"]
                found.append(row)
            row = [name, key]
            for similarity in SIMILARITIES:
                ratios = [ratio_of(run, name, key, similarity) for run in runs]
                row += [_pm(ratios, 2), f"{min(ratios):.2f}"]
            falls.append(row)
        for similarity in SIMILARITIES:
            key = f"corpus and foil, {similarity}"
            pairs = [
                (entry[key][similarity], entry["random"][similarity])
                for run in runs
                for entry in run["fall"][name].values()
            ]
            wins = sum(own > chance for own, chance in pairs)
            above.append(f"{name}, {similarity}: {wins} of {len(pairs)}")
    return "\n".join(
        [
            "## Like these and unlike those",
            "",
            "After Lin, Chen, Kim & Lee (ICLR 2023): `LabelFreeAttributor(corpus=..., foil=...)` "
            "with integrated gradients from the mean, beside label-free maps of the same networks. "
            f"MLP autoencoders with {s['n_components']} units, {s['n_epochs']} epochs at most, two "
            f"thirds of {s['n_samples']} samples at most for training; {len(runs)} seeds (split, "
            "weights, places); ± is the standard deviation over seeds. Made by "
            "`benchmarks/papers/corpus_foil.py`; every seed is in "
            "`benchmarks/papers/results/corpus_foil.json`.",
            "",
            "A planted contrast: 2 × 2 pixels are brighter (digits, 8 × 8; by 0.5 or 1, where ink "
            "is 1), or a bump is added to ten steps (heartbeats, of variance 1; height 1.5 or 3), "
            "at one place of half of the samples, of any class. AUROC of the planted entries among "
            "all of a held-out sample's, 0.5 by chance, and how often one of them is first, 0.06 "
            "and 0.07 by chance; of label-free maps by their absolute values.",
            "",
            markdown_table(
                ["data", "map", "AUROC", "lowest seed", "is first", "lowest seed"],
                sorted(found, key=lambda row: row[0]),
            ),
            "",
            "Classes: each is the corpus once (digits: ten; heartbeats: normal ones and the most "
            "frequent abnormal kind), the others the foil. Features of held-out samples of the "
            "class are set to the mean, the most important first, and the area under the fall of g "
            "is divided by that of random orders (1 is chance), summed over classes. g by dot "
            "products and by cosines, from codes alone; label-free maps are ranked with their "
            "signs or by size, whichever is better.",
            "",
            markdown_table(
                ["data", "map", "fall of g, dot", "lowest seed", "cosine", "lowest seed"], falls
            ),
            "",
            "Above random, in pairs of a class and a seed, each map by its own g: "
            + "; ".join(above)
            + ".",
        ]
    )


def one_seed(seed, args):
    """Both parts with one seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return {
            "planted": {
                name: {
                    strength: planted(name, height, seed, args)
                    for strength, height in HEIGHTS[name].items()
                }
                for name in CLASSES
            },
            "fall": {name: fall(name, seed, args) for name in CLASSES},
        }


def measure(args, results, save):
    tasks = {str(seed): partial(one_seed, seed, args) for seed in args.seeds}
    complete(results.setdefault("seeds", {}), tasks, save)


BENCHMARK = Benchmark(
    section="corpus and foil",
    page="label_free.md",
    measure=measure,
    render=render,
    settings={
        "n_epochs": 100,
        "n_components": 16,
        "n_samples": 900,
        "n_explained": 50,
        "n_random": 10,
        "n_classes": 10,
    },
    options={"seeds": [0, 1, 2, 3, 4]},
    fixed={"fractions": FRACTIONS.tolist(), "heights": HEIGHTS},
    smoke={
        "n_epochs": 1,
        "n_samples": 120,
        "n_explained": 3,
        "n_random": 1,
        "n_classes": 2,
        "seeds": [0],
    },
    threads=1,
)
