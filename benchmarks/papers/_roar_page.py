"""The section that roar.py writes, and what both must know."""

import numpy as np

from ..common import markdown_table

METHODS = {
    "integrated_gradients": "integrated gradients",
    "gradient_shap": "gradient SHAP",
    "saliency": "saliency",
}
DATASETS = {"ecg5000": "ECG5000", "mnist": "MNIST"}
# What is better without the important features than without random ones, if the paper is right.
MEASURES = {
    "loss": ("loss", 1),
    "explained": ("share of the variation rebuilt", -1),
    "whole": ("share of the whole samples' variation told by neighbours in the codes", -1),
    "accuracy": ("accuracy of neighbours in the codes", -1),
}


def _pm(values, digits=3):
    std = np.std(values, ddof=1) if len(values) > 1 else 0
    return f"{np.mean(values):.{digits}f} ± {std:.{digits}f}"


def _of(results, dataset):
    """Pieces of a data set, by seed and method; of seeds that have all methods any seed has."""
    found = {}
    for key, piece in results["pieces"].items():
        name, seed, method = key.split(", ")
        if name == dataset:
            found.setdefault(seed, {})[method] = piece
    methods = {method for pieces in found.values() for method in pieces}
    return {seed: found[seed] for seed in sorted(found) if set(found[seed]) == methods}


def _random(pieces, what):
    """Mean of the random choices of a seed, by share."""
    return np.mean([piece["random"][what] for piece in pieces.values()], axis=0)


def _curves(seeds, what, digits):
    any_seed = next(iter(seeds.values()))
    shares = next(iter(any_seed.values()))["shares"]
    header = ["removed", *(f"{share:.0%}" for share in shares)]
    rows = []
    for method, words in METHODS.items():
        if method not in any_seed:
            continue
        values = np.array([pieces[method]["attributed"][what] for pieces in seeds.values()])
        rows.append([words, *(_pm(column, digits) for column in values.T)])
    values = np.array([_random(pieces, what) for pieces in seeds.values()])
    rows.append(["random", *(_pm(column, digits) for column in values.T)])
    return markdown_table(header, rows)


def _against_random(seeds, method, what, sign):
    """Differences from random choices, by seed and share; positive is as the paper has it."""
    return sign * np.array(
        [
            np.array(pieces[method]["attributed"][what]) - _random(pieces, what)
            for pieces in seeds.values()
        ]
    )


def _claims(results):
    rows = []
    for dataset, title in DATASETS.items():
        seeds = _of(results, dataset)
        for what, (words, sign) in MEASURES.items() if seeds else ():
            row = [title, words]
            for method in METHODS:
                if method not in next(iter(seeds.values())):
                    row.append("–")
                    continue
                worse = _against_random(seeds, method, what, sign)[:, 1:]
                mean = worse.mean(axis=1)
                row.append(
                    f"at {(worse > 0).sum()} of {worse.size} shares and seeds, on average with "
                    f"{(mean > 0).sum()} of {len(mean)} seeds"
                )
            rows.append(row)
    header = ["data", "worse than at random by", *METHODS.values()]
    return markdown_table(header, rows).replace("---:", "---")


def _epochs(seeds, most):
    found = [
        n
        for pieces in seeds.values()
        for piece in pieces.values()
        for n in (*piece["attributed"]["n_epochs"], *piece["random"]["n_epochs"][1:])
    ]
    return f"{sum(n < most for n in found)} of {len(found)} stopped early, at most {most} epochs"


def render(results):
    """Return the section as Markdown, or None if no seed has all methods."""
    settings, parts = results["settings"], []
    for dataset, title in DATASETS.items():
        seeds = _of(results, dataset)
        if not seeds:
            continue
        most = settings["epochs_mnist" if dataset == "mnist" else "epochs_ecg"]
        parts.append(
            f"**{title}.** {len(seeds)} seeds. Has every network converged? {_epochs(seeds, most)}."
        )
        for what, (words, _) in MEASURES.items():
            digits = 4 if what == "loss" else 3
            parts += [f"{words.capitalize()}:", _curves(seeds, what, digits)]
    if not parts:
        return None
    intro = [
        "## Removing and training again",
        "Crabbé & van der Schaar (ICML 2022), appendix C.1, figure 7: ROAR. Autoencoders are "
        "trained and explained; of every sample, of training and of test, the features of largest "
        "|importance| are set to the mean of the training samples, and the same network, with the "
        "same first weights, is trained again on what is left. *Random*: the mean of three random "
        "choices of features. ± is the standard deviation over seeds (samples, split, weights, "
        "choices). Made by `benchmarks/papers/roar.py`; every piece is in "
        "`benchmarks/papers/results/roar.json`.",
        _claims(results),
        "*Loss*: the mean squared error of the test samples without these features, which is what "
        "the paper looks at. The samples themselves change with what is removed, so it is shown as "
        "a share of their variation too. What the new codes still tell of the samples as they "
        "were, and of their labels, is told by 10 nearest neighbours among the test samples (five "
        "folds).",
    ]
    return "\n\n".join(
        [
            *intro,
            *parts,
            "### What differs from the paper",
            _differences(settings, bool(_of(results, "mnist"))),
        ]
    )


def _differences(settings, with_digits):
    of_digits = [
        f"{settings['n_mnist']:,} digits, a fifth of them for tests, where the paper has 70,000; "
        f"at most {settings['epochs_mnist']} epochs, the paper 100. The network is the paper's.",
        "The paper's digits have black in the place of what is removed, so that without its ink a "
        "digit is black altogether. The mean is not black where digits have ink, and so shows "
        "where ink was removed.",
        "Integrated gradients and gradient SHAP of digits have the paper's black baseline, by "
        "which black pixels have no importance: where more is removed than there is ink, black "
        "pixels are drawn at random.",
    ]
    lines = [
        f"ECG5000: convolutions along time, 16 numbers a beat, at most {settings['epochs_ecg']} "
        "epochs, in place of an LSTM, of which so many could not be trained here until they have "
        "converged; all beats, split at random, so that training and test samples are alike, where "
        "the paper's section 4.1 trains on normal beats and explains abnormal ones.",
        "Removed features are set to the mean of the training samples.",
    ]
    lines += of_digits if with_digits else ["MNIST was not run."]
    return "\n".join(f"- {line}" for line in lines)
