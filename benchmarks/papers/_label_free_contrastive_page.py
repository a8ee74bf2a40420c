"""The section that label_free_contrastive.py writes, and what both must know."""

import numpy as np

from ..common import markdown_table

METHODS = ("integrated_gradients", "gradient_shap", "deep_lift", "saliency")
FRACTIONS = (0.05, 0.1, 0.2, 0.5, 0.7, 1.0)  # of the training examples, as in figure 3
BASELINES = ("raw beats", "segment means", "PCA", "autoencoder", "untrained")
# Ways of making views, temperatures and networks.
CANDIDATES = {
    "the library's own": {"module": "conv1d"},
    "jitter, scaling, mask": {
        "module": "conv1d",
        "augment": ["jitter", "scaling", "mask"],
        "temperature": 0.1,
    },
    "jitter, scaling, weak crop, mask": {
        "module": "conv1d",
        "augment": ["jitter", "scaling", "crop", "mask"],
        "augment_params": {"crop_least": 0.9},
        "temperature": 0.1,
    },
    "corruption, jitter": {
        "module": "conv1d",
        "augment": ["corruption", "jitter"],
        "augment_params": {"corruption_rate": 0.3},
    },
    "corruption, mask": {
        "module": "conv1d",
        "augment": ["corruption", "mask"],
        "augment_params": {"corruption_rate": 0.3},
        "temperature": 0.1,
    },
    "corruption, jitter; mlp": {
        "module": "mlp",
        "augment": ["corruption", "jitter"],
        "augment_params": {"corruption_rate": 0.3},
    },
}
WORDS = {
    "integrated_gradients": "integrated gradients",
    "gradient_shap": "gradient SHAP",
    "deep_lift": "DeepLIFT",
    "saliency": "saliency",
}
CONTRASTIVE = "contrastive"


def _pm(values, digits=3):
    std = np.std(values, ddof=1) if len(values) > 1 else 0
    return f"{np.mean(values):.{digits}f} ± {std:.{digits}f}"


def _chosen(results):
    return [results["runs"][f"seed {seed}, {name}"] for seed, name in results["chosen"].items()]


def _of(results, name):
    """Return the runs of an encoder, for the seeds for which views are chosen."""
    if name == CONTRASTIVE:
        return _chosen(results)
    runs = [results["runs"].get(f"seed {seed}, {name}") for seed in results["chosen"]]
    return [run for run in runs if run]


def _probe_values(results, name, labels, what):
    return np.array([run["probe"][labels][what] for run in _of(results, name)])


def _probe_table(results):
    header = ["codes", "numbers", "all labels", "balanced", "few labels", "balanced"]
    d = results["settings"]["n_components"]
    rows = []
    for name in (CONTRASTIVE, *BASELINES):
        cells = [
            _pm(_probe_values(results, name, labels, what))
            for labels in ("all labels", "few labels")
            for what in ("test", "test_balanced")
        ]
        rows.append([name, 140 if name == "raw beats" else d, *cells])
    return markdown_table(header, rows)


def _differences_of_probes(results):
    """Contrastive codes minus others, seed by seed, in points."""
    rows = []
    for name in BASELINES:
        row = [name]
        for labels in ("all labels", "few labels"):
            ours = _probe_values(results, CONTRASTIVE, labels, "test")
            theirs = _probe_values(results, name, labels, "test")
            if len(ours) != len(theirs):
                row += ["", ""]
                continue
            gain = 100 * (ours - theirs)
            row += [_pm(gain, 2), f"{(gain > 0).sum()} of {len(gain)}"]
        rows.append(row)
    header = ["contrastive minus", "all labels, points", "above", "few labels, points", "above"]
    return markdown_table(header, rows)


def _candidate_table(results):
    header = [
        "views",
        "validation",
        "test",
        "test, few labels",
        "chosen",
        "epochs",
        "stopped early",
    ]
    rows = []
    for name in results["settings"]["views"]:
        runs = _of(results, name)
        probe = [run["probe"] for run in runs]
        epochs = sorted(run["n_epochs"] for run in runs)
        rows.append(
            [
                name,
                CANDIDATES[name].get("temperature", 0.5),
                _pm([p["all labels"]["validation"] for p in probe]),
                _pm([p["all labels"]["test"] for p in probe]),
                _pm([p["few labels"]["test"] for p in probe]),
                list(results["chosen"].values()).count(name),
                f"{epochs[0]} to {epochs[-1]}",
                f"{sum(run['stopped_early'] for run in runs)} of {len(runs)}",
            ]
        )
    return markdown_table(header, rows)


def _feature_table(runs):
    header = ["method", "score, paper", "lowest seed", "score, centred", "lowest seed"]
    header += ["separation, paper", "separation, centred"]
    rows = []
    for method in METHODS:
        row = [WORDS[method]]
        for center in ("paper", "centered"):
            values = [run["features"][method][center]["area_ratio"] for run in runs]
            row += [_pm(values, 2), f"{min(values):.2f}"]
        for center in ("paper", "centered"):
            row.append(_pm([run["features"][method][center]["separation"] for run in runs], 2))
        rows.append(row)
    rows.append(["random masks", "1", "", "1", "", "0", "0"])
    return markdown_table(header, rows)


def _example_table(runs):
    rows = []
    for name in ("DKNN", "SimplEx"):
        for side in ("most", "least"):
            rates = np.array([run["examples"][name][side] for run in runs])
            rows.append([f"{side} important, {name}", *(_pm(column) for column in rates.T)])
    prior = _pm([run["examples"]["prior"] for run in runs])
    rows.append(["at random", *[prior] * len(FRACTIONS)])
    return markdown_table(["share of the examples", *(f"{f:.0%}" for f in FRACTIONS)], rows)


def _claims(runs):
    scores = {
        method: np.array([run["features"][method]["paper"]["area_ratio"] for run in runs])
        for method in METHODS
    }
    apart = {
        method: np.array([run["features"][method]["paper"]["separation"] for run in runs])
        for method in METHODS
    }
    n, best = len(runs), scores["integrated_gradients"]
    beat = "; ".join(f"{WORDS[m]}: {(v > 1).sum()} of {n} seeds" for m, v in scores.items())
    sharp = "; ".join(f"{WORDS[m]}: {(v > 0.1).sum()} of {n}" for m, v in apart.items())
    above = "; ".join(
        f"{WORDS[m]} in {(best > v).sum()} of {n} (by {np.mean(best - v):.3f})"
        for m, v in scores.items()
        if m != "integrated_gradients"
    )
    rows = [
        ["every method beats random masks", beat],
        ["the most important steps move f more than the least: separation above 0.1", sharp],
        ["integrated gradients outperform the others", f"above {above}"],
    ]
    for name in ("DKNN", "SimplEx"):
        most, least = (
            np.array([r["examples"][name][s][0] for r in runs]) for s in ("most", "least")
        )
        words = (
            f"in {(most > least).sum()} of {n} seeds; first 5 %: {_pm(most)}, last 5 %: "
            f"{_pm(least)}"
        )
        rows.append([f"{name}: most important examples share the label more than least", words])
    return markdown_table(["the paper shows, on CIFAR-10", "here"], rows).replace("---:", "---")


def render(results):
    """Return the section as Markdown, or None if no seed has all its encoders."""
    runs, settings = _chosen(results), results["settings"]
    if not runs:
        return None
    n_random, n_examples = settings["n_random"], settings["n_examples"]
    parts = [
        "## Contrastive encoders of heartbeats",
        "Crabbé & van der Schaar (ICML 2022), section 4.1, the third column of figures 2 and 3, on "
        f"ECG5000 in place of CIFAR-10. {len(runs)} seeds (split, weights, views); ± is the "
        "standard deviation over seeds. Made by `benchmarks/papers/label_free_contrastive.py`; "
        "every run is in `benchmarks/papers/results/label_free_contrastive.json`.",
        _claims(runs),
        "### What a linear probe reads",
        f"Accuracy on 1,000 test beats, five classes, of logistic regressions on codes of 3,200 "
        f"training beats, with all labels or {settings['n_labels']}. Views are those whose codes "
        "are best on 800 validation beats, with all labels of the training beats. *Balanced*: the "
        "mean over classes. The standard error of an accuracy of .94 on 1,000 beats is .008, but "
        "all codes of a seed are of the same beats.",
        _probe_table(results),
        _differences_of_probes(results),
        "All ways of making views that were tried; τ is the temperature. Has every encoder "
        f"converged? Training that did not stop early ended after {settings['epochs']} epochs; in "
        "all runs, the last tenth of the epochs lowered the loss on held-out training beats by "
        f"{_gain(results)}.",
        _candidate_table(results),
        "### Features (figure 2)",
        "The chosen encoders. The time steps with the largest |attribution| are set to the mean of "
        "the training data, and the score is the area under the curve of the latent shift over "
        f"that of {n_random} random masks (1 is chance), for {settings['n_explained']} test beats. "
        "Separation is the area between masking the most and the least important, over the shift "
        "with everything masked. *Paper* explains ⟨f(x), f(·)⟩, *centred* ⟨f(x) − f(x̄), f(·)⟩.",
        _feature_table(runs),
        "### Examples (figure 3)",
        f"Share of the top M (and bottom M) of {n_examples} training beats that are normal, or "
        f"abnormal, as the test beat is, over {n_examples} test beats. Examples without a weight "
        "in SimplEx are ranked by their reduced cost. 100 % is chance.",
        _example_table(runs),
        "### What differs from the paper",
        _differences(settings),
    ]
    return "\n\n".join(parts)


def _gain(results):
    gains = [run["last_gain"] for run in results["runs"].values() if "last_gain" in run]
    return f"{100 * np.mean(gains):.1f} % on average, {100 * max(gains):.1f} % at most"


def _differences(settings):
    lines = [
        "ECG5000 in place of CIFAR-10, small convolutions along time in place of ResNet-18: "
        f"channels {' and '.join(map(str, settings['channels']))}, {settings['n_components']} "
        f"numbers a beat, at most {settings['epochs']} epochs with patience 10, Adam, batches of "
        f"{settings['batch_size']}. The paper: 512 numbers, 100 epochs of SGD.",
        "Normal and abnormal beats are in both parts, as the paper's classes are for CIFAR-10; for "
        "the features of its ECG5000 autoencoder it trains on normal beats only.",
        "The baseline and the masks are the mean beat, where the paper blurs images.",
        "Loss-based importance is left out, as in the paper; the library's is in a section of its "
        "own.",
    ]
    return "\n".join(f"- {line}" for line in lines)
