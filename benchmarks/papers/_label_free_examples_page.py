"""The section that label_free_examples.py writes."""

from itertools import combinations, product

import numpy as np

from ..common import markdown_table
from . import _label_free_networks as networks
from ._label_free_consistency_page import FRACTIONS
from ._label_free_networks import LOSS_BASED, TASKS

WEIGHTS_ONLY = "SimplEx, weights only"
LETTERS = {task: task[0].upper() for task in (*TASKS, "untrained")}
FEW = (5, 10)  # examples looked at besides the shares of figure 3
TITLES = {"ecg5000": "ECG5000", "mnist": "MNIST"}
# An independent replication of the paper's tables: R-D, R-I, R-C, D-I, D-C, I-C.
REPLICATED_FEATURES = (
    ("replication: gradient SHAP, mis-tiled", 0.41, 0.33, 0.44, 0.32, 0.41, 0.33),
    ("replication: integrated gradients", 0.45, 0.43, 0.39, 0.45, 0.40, 0.35),
)
REPLICATED_EXAMPLES = (("replication: DKNN", 0.09, 0.13, 0.09, 0.10, 0.06, 0.09),)


def render(results):
    """Return the section as Markdown."""
    settings, machine = results["settings"], results["environment"]
    datasets = {k: list(v.values()) for k, v in results["consistency"].items() if v}
    parts = [
        "## Example importance and pretext tasks",
        "Crabbé & van der Schaar (ICML 2022), figure 3 and tables 1 and 2. Made by "
        "`benchmarks/papers/label_free_examples.py`; every run is in "
        "`benchmarks/papers/results/label_free_examples.json`. "
        f"{machine['processor']}, one thread, no GPU.",
        "### Similarity rates (figure 3)",
        _example_words(settings),
        _claims(datasets),
    ]
    for name, runs in datasets.items():
        parts += [_network_words(name, runs), _rate_table(runs)]
    parts += [_seconds_words(), _seconds_table(datasets)]
    if "pretext" in results:
        parts += _render_pretext(results["pretext"])
    parts += ["### What differs from the paper", _difference_words(settings)]
    return "\n\n".join(parts)


def _example_words(settings):
    n = settings["n_examples"]
    return (
        f"Share of the M most (and least) important of {n} training examples that have the label "
        f"of the test sample, averaged over {n} test samples. Labels: the digit; normal or "
        "abnormal. Examples that tie count at their expected rate, that of a random order among "
        "them. SimplEx gives a weight to a handful of examples and 0 to all others: those are "
        "ranked by their reduced cost, which says how far each is from a weight, as "
        "`top_examples` does. *Weights only* leaves them tied: beyond the handful its rates tend "
        "to chance, which is no weakness of the method. The first 5 and 10 examples are shown as "
        "well as the paper's shares. *TracIn, last weights* is one checkpoint, the weights that "
        "are explained. ± is "
        "the standard deviation over runs: of ECG5000, runs differ in the split, the weights and "
        "the samples, of MNIST in the weights only."
    )


def _network_words(name, runs):
    epochs = sorted({r["n_epochs"] for r in runs})
    checkpoints = sorted({r["n_checkpoints"] for r in runs})
    words = (
        f"**{TITLES[name]}.** {len(runs)} runs, {_span(epochs)} epochs, {_span(checkpoints)} "
        f"checkpoints; R² of the reconstruction {_pm([r['r2_queries'] for r in runs])}; SimplEx "
        f"gives weight to {_pm([r['simplex_examples'] for r in runs], 1)} examples a sample."
    )
    if name == "ecg5000":
        words += (
            " Influence is that of the squared error: the absolute error, which the network is "
            "trained with, has no second derivatives, so its Gauss–Newton matrix is 0 and "
            "influence would rank examples exactly as TracIn with the last weights does. It has "
            f"the first {runs[0]['methods']['influence']['n_train']} training examples only, so "
            "that its linear systems can be solved exactly."
        )
    return words


def _span(values):
    return f"{values[0]}" if len(values) == 1 else f"{values[0]}–{values[-1]}"


def _pm(values, digits=2):
    ddof = 1 if len(values) > 1 else 0
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=ddof):.{digits}f}"


def _rate_table(runs):
    header = ["M", *map(str, FEW), *(f"{f:.0%}" for f in FRACTIONS)]
    rows = []
    methods = [*networks.METHODS]
    methods.insert(methods.index("SimplEx") + 1, WEIGHTS_ONLY)
    for side, method in product(("most", "least"), methods):
        rates = np.array([r["methods"][method][side] for r in runs])
        rows.append([f"{side} important, {method}", *(_pm(r, 3) for r in rates.T)])
    prior = _pm([r["prior"] for r in runs], 3)
    return markdown_table(header, [*rows, ["at random", *[prior] * (len(header) - 1)]])


def _seconds_words():
    return (
        "Seconds of the fastest run, on a machine that was shared: `fit` on the training examples, "
        "`transform` of the test samples. TracIn averages the gradients of the denoising network "
        "over 8 draws of the noise, which costs 8 passes; influence has one draw, so that its "
        "linear systems, 4 rows an example and a draw, can be solved exactly. Residual: of these "
        "systems, relative."
    )


def _seconds_table(datasets):
    header = ["", *(f"{TITLES[d]}, {s}" for d, s in product(datasets, ("fit", "transform")))]
    rows = []
    for method in networks.METHODS:
        entries = [[r["methods"][method] for r in runs] for runs in datasets.values()]
        values = [min(e[step] for e in runs) for runs in entries for step in ("fit", "transform")]
        rows.append([method, *(f"{v:.2f}" for v in values)])
    row = ["influence: residual"]
    for runs in datasets.values():
        entries = [r["methods"]["influence"] for r in runs]
        row += [f"{max(e['residual_'] for e in entries):.1g}", entries[0]["solver_"]]
    return markdown_table(header, [*rows, row])


def _claims(datasets):
    rows = []
    for name, runs in datasets.items():
        for method in ("DKNN", "SimplEx", *LOSS_BASED):
            rates = [r["methods"][method] for r in runs]
            at = [len(FEW), 0]  # 5 % and 5 examples
            most, least, few = (
                [rate[side][i] for rate in rates]
                for side, i in (("most", at[0]), ("least", at[0]), ("most", at[1]))
            )
            above = sum(m > s for m, s in zip(most, least, strict=True))
            words = (
                f"in {above} of {len(runs)} runs; first 5 %: {_pm(most)}, last 5 %: {_pm(least)}, "
                f"first 5 examples: {_pm(few)}"
            )
            rows.append([f"{method}: most important above least", TITLES[name], words])
        for i, where in ((0, "5 examples"), (len(FEW), "5 %")):
            rows.append(
                [
                    f"representation-based above loss-based, at {where}",
                    TITLES[name],
                    _family_words(runs, i),
                ]
            )
    return markdown_table(["the paper shows", "data", "here"], rows).replace("---:", "---")


def _family_words(runs, i):
    """Compare DKNN and SimplEx with TracIn and influence, run by run."""
    words = []
    for ours, theirs in product(("DKNN", "SimplEx"), LOSS_BASED):
        pairs = [(r["methods"][ours]["most"][i], r["methods"][theirs]["most"][i]) for r in runs]
        words.append(f"{ours} above {theirs} in {sum(a > b for a, b in pairs)} of {len(pairs)}")
    return ", ".join(words)


def _render_pretext(pretext):
    accuracy = pretext["quality"]["classification"]
    quality = ", ".join(f"{t} {_pm(pretext['quality'][t])}" for t in TASKS[:-1])
    tiled = {name: _pm(values) for name, values in pretext["beside exact"].items()}
    right, wrong = (tiled[f"gradient SHAP, 5 draws{s}"] for s in ("", ", mis-tiled"))
    return [
        "### Pretext tasks (tables 1 and 2)",
        f"MNIST, {len(accuracy)} encoders for each of four tasks: reconstruction (R), denoising "
        "(D), inpainting (I) and classification (C), all from different initial weights. Mean "
        "Pearson correlation between encoders, over all pairs of runs. The columns after "
        "I-C compare encoders of *one* task, that is, what a seed alone changes, which the paper "
        f"does not show, and in U-U encoders with random weights. R² of the reconstruction of "
        f"clean digits: {quality}; accuracy {_pm(accuracy, 3)}.",
        _pretext_claims(pretext),
        "**Pixels.** The paper's released code takes absolute values before it correlates, so both "
        "are shown; black pixels have no importance for any encoder, so absolute values are alike "
        "wherever the ink is. It also tiles f(x) as x1, x2, …, x1, x2, … beside draws tiled x1, "
        "x1, …, x2, x2, …, so that most draws explain the representation of another sample of the "
        "batch of 300. *5 draws* is gradient SHAP with captum's default number of draws, tiled "
        "right; *mis-tiled* is the same with that error. Correlation with integrated gradients of "
        f"the same encoder: {right} tiled right, {wrong} mis-tiled. *Replication*: an independent "
        "one, 5 runs.",
        _correlation_table(pretext["features"], "signed: "),
        _correlation_table(pretext["absolute features"], "absolute: ", REPLICATED_FEATURES),
        "**Examples.** 1 / δ is the library's DKNN. The paper's text says inverse distance, its "
        "released code takes 1 / δ², which gives most of the correlation to the few pairs that lie "
        "closest, and feeds pixels from 0 to 255 to encoders that were trained on 0 to 1. *Ranks* "
        "are Spearman's correlation. The loss of the classifier needs labels, so TracIn and "
        "influence leave it out.",
        _correlation_table(pretext["examples"], "", REPLICATED_EXAMPLES),
    ]


def _correlation_table(methods, prefix, replicated=()):
    letters = list(LETTERS.values())
    pairs = [f"{a}-{b}" for a, b in combinations(letters[:-1], 2)] + [f"{a}-{a}" for a in letters]
    rows = []
    for name, found in methods.items():
        cells = [f"{np.mean(found[p]):.2f}" if found.get(p) else "" for p in pairs]
        rows.append([prefix + name, *cells])
    rows += [
        [name, *(f"{v:.2f}" for v in values), *[""] * len(letters)] for name, *values in replicated
    ]
    return markdown_table(["", *pairs], rows)


def _pretext_claims(pretext):
    absolute = pretext["absolute features"]
    released = absolute["gradient SHAP, 5 draws, mis-tiled"]
    exact, signed = (pretext[k]["integrated gradients"] for k in ("absolute features", "features"))
    dknn = pretext["examples"]["DKNN"]
    as_released = pretext["examples"]["DKNN, inverse squared distance, pixels 0 to 255"]
    rows = [
        [
            "pixels of different tasks are moderately correlated",
            f"absolute: mis-tiled {_range(released)}, integrated gradients {_range(exact)}, two "
            f"untrained encoders {_mean(exact, 'u')}; signed: integrated gradients "
            f"{_range(signed)}, two untrained encoders {_mean(signed, 'u')}",
        ],
        [
            "examples are weakly correlated",
            f"DKNN as released {_range(as_released)}, as the text has it {_range(dknn)}, two "
            f"untrained encoders {_mean(dknn, 'u')}",
        ],
        [
            "for pixels, the classifier is no farther from autoencoders than they are apart",
            "; ".join(
                f"{name}: {_mean(found, 'c')} to the classifier, {_mean(found, 'a')} apart"
                for name, found in (
                    ("absolute, mis-tiled", released),
                    ("absolute, integrated gradients", exact),
                    ("signed, integrated gradients", signed),
                )
            ),
        ],
        [
            "for examples, it is",
            f"DKNN: {_mean(dknn, 'c')} to the classifier, {_mean(dknn, 'a')} apart",
        ],
        [
            "(not in the paper) importance by gradients of the loss",
            "; ".join(
                f"{m}: autoencoders of two tasks {_mean(pretext['examples'][m], 'a')}, of one task "
                f"{_mean(pretext['examples'][m], 's')}"
                for m in LOSS_BASED
            ),
        ],
        [
            "distinct tasks do not give interchangeable representations",
            "autoencoders of two tasks, and of one task with two seeds: pixels "
            f"{_mean(signed, 'a')} and {_mean(signed, 's')} (signed, integrated gradients), "
            f"examples {_mean(dknn, 'a')} and {_mean(dknn, 's')} (DKNN); two classifiers: "
            f"{_mean(signed, 'C')} and {_mean(dknn, 'C')}",
        ],
    ]
    return markdown_table(["the paper says", "here"], rows).replace("---:", "---")


# Pairs of encoders: autoencoders of two tasks, with a classifier, of one task, and so on.
KINDS = {
    "a": ("R-D", "R-I", "D-I"),
    "c": ("R-C", "D-C", "I-C"),
    "s": ("R-R", "D-D", "I-I"),
    "C": ("C-C",),
    "u": ("U-U",),
}


def _mean(found, kind):
    return f"{np.mean([np.mean(found[p]) for p in KINDS[kind]]):.2f}"


def _range(found):
    means = [np.mean(found[p]) for p in (*KINDS["a"], *KINDS["c"])]
    return f"{min(means):.2f} to {max(means):.2f}"


def _difference_words(settings):
    lines = [
        f"Fewer epochs: at most {settings['epochs_mnist']} (MNIST, the paper 100) and "
        f"{settings['epochs_ecg']} (ECG5000, the paper 150), with patience 10 on a tenth of the "
        f"training data; a checkpoint every {networks.EVERY} epochs, the paper every 10.",
        "MNIST: 10,000 digits, 8,000 of them for training, where the paper has 60,000; "
        f"{settings['n_explained']} test digits where its table 1 has 10,000. Noise of standard "
        "deviation 0.3, a fifth of the pixels masked, 4 latent units. ECG5000: "
        f"{settings['units_ecg']} units, as there, and batches of 8.",
        "Influence: Gauss–Newton curvature with damping 1e-3, solved exactly, where the paper has "
        "100 steps of a stochastic series for the Hessian. (With 8 draws of the noise, the "
        "default, a random matrix of 2,000 rows takes the place of the curvature: one encoder had "
        "a residual of 4 and a rate of 0.64 at 5 examples, where the exact solution for one draw "
        "had 0.73.)",
        "SimplEx is solved to its optimum, with a small penalty for distance, which gives few "
        "examples a weight and ranks the others by reduced cost; the paper's has weights of every "
        "size.",
        "CIFAR-10 is not part of this run.",
    ]
    return "\n".join(f"- {line}" for line in lines)
