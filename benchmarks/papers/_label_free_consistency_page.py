"""The section that label_free_consistency.py writes, and what both must know."""

import numpy as np

from ..common import markdown_table, rounded

METHODS = (
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "gradient_shap",
    "smooth_grad",
    "deep_lift",
    "feature_ablation",
    "occlusion",
    "shapley_sampling",
    "kernel_shap",
    "lime",
)
# Gradient SHAP with the draws that the paper's code makes, tiled right and as that code tiles them.
OWN_METHODS = {
    "gradient_shap_5": True,
    "gradient_shap_5_mistiled": False,
}
ALL_METHODS = METHODS + tuple(OWN_METHODS)
# What the paper compares integrated gradients with, in its code's way.
COMPARED = ("saliency", "gradient_shap_5_mistiled", "gradient_shap_5", "gradient_shap", "deep_lift")
LABELS = {
    "gradient_shap_5": "gradient shap, 5 draws",
    "gradient_shap_5_mistiled": "gradient shap, 5 draws, mis-tiled",
}
KERNELS = ("inverse_distance", "rbf")
FRACTIONS = (0.05, 0.1, 0.2, 0.5, 0.7, 1.0)  # of the training examples, as in figure 3
DATASETS = ("ecg5000", "mnist")


def spread(values):
    ddof = 1 if len(values) > 1 else 0
    return {
        "mean": rounded(np.mean(values)),
        "std": rounded(np.std(values, ddof=ddof)),
        "min": rounded(np.min(values)),
    }


def render(results):
    """Return the section as Markdown."""
    settings, machine = results["settings"], results["environment"]
    parts = [
        "## Consistency of label-free importance",
        "Crabbé & van der Schaar (ICML 2022), section 4.1, figures 2 and 3. Made by "
        "`benchmarks/papers/label_free_consistency.py`; every seed is in "
        "`benchmarks/papers/results/label_free_consistency.json`. "
        f"{_seed_words(results)} (data split, weights, explained samples, random masks); ± is the "
        f"standard deviation over seeds. {machine['processor']}, {machine['n_cores']} cores, no "
        "GPU. The paper shows curves and gives no numbers, so what it says of them is compared.",
        _render_claims(results),
        "### Features (figure 2)",
        _feature_words(results),
    ]
    for name, dataset in results["datasets"].items():
        if "features_summary" in dataset:
            parts += [f"**{_title(name)}.** {_encoder_words(dataset['features'])}"]
            parts += [_feature_table(dataset["features_summary"])]
        if "compared_summary" in dataset:
            parts += [
                f"The paper's methods once more, with {len(dataset['compared'])} encoders trained "
                f"again ({_encoder_words(dataset['compared'])[:-1]}):",
                _feature_table(dataset["compared_summary"]),
            ]
    parts += ["### Examples (figure 3)", _example_words(results)]
    for name, dataset in results["datasets"].items():
        if "examples_summary" in dataset:
            parts += [f"**{_title(name)}.** {_encoder_words(dataset['examples'])}"]
            parts += [_example_table(dataset["examples_summary"], settings)]
    parts += ["### What differs from the paper", _difference_words(settings)]
    return "\n\n".join(parts)


def _seed_words(results):
    counts = {name: len(d["features"]) for name, d in results["datasets"].items()}
    if len(set(counts.values())) == 1:
        return f"{next(iter(counts.values()))} seeds"
    return "Seeds: " + ", ".join(f"{n} for {_title(name)}" for name, n in counts.items())


def _title(name):
    return {"ecg5000": "ECG5000", "mnist": "MNIST"}[name]


def _pm(spread, digits=2):
    return f"{spread['mean']:.{digits}f} ± {spread['std']:.{digits}f}"


def _feature_words(results):
    settings = results["settings"]
    return (
        "The features with the largest |attribution| are set to the mean of the training data, 5 "
        "to 100 % of them, and the score is the area under the curve of the latent shift over that "
        "of the mean of 10 random masks (1 is chance). Separation is the area between masking the "
        "most and the least important, over the shift with everything masked. *Paper* explains "
        "⟨f(x), f(·)⟩, *centred* ⟨f(x) − f(x̄), f(·)⟩. Every method with its default settings, a "
        "pixel or a time step a feature, on the same "
        f"{settings['n_explained_ecg']} abnormal heartbeats or {settings['n_explained_mnist']} "
        "test digits. The spread over seeds is mostly that of the encoders and common to the "
        "methods, so integrated gradients are compared seed by seed above."
    )


def _example_words(results):
    n = results["settings"]["n_examples"]
    return (
        f"Share of the top M (and bottom M) of {n} training examples that have the label of the "
        f"test sample, averaged over {n} test samples. Labels: the digit; normal or abnormal. "
        "Inverse distance and RBF kernels order the examples alike; they are shown apart only "
        "where their rates differ. 100 % is chance."
    )


def _encoder_words(seeds):
    seeds = list(seeds.values())
    epochs = sorted({s["n_epochs"] for s in seeds})
    span = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]}–{epochs[-1]}"
    r2 = _pm(spread([s["r2_explained_set"] for s in seeds]))
    loss = _pm(spread([s["validation_loss"] for s in seeds]), 3)
    return (
        f"{seeds[0]['n_components']} latent units, {span} epochs; loss on held-out training "
        f"samples {loss}, R² of the reconstruction of the test set {r2}."
    )


def _feature_table(summary):
    black = "area_ratio_black_mask" in next(iter(summary["paper"].values()))
    header = ["method", "score, paper", "lowest seed", "score, centred", "lowest seed"]
    header += ["separation, paper", "separation, centred"]
    header += ["score, paper, masked black"] if black else []
    rows = []
    for method in ALL_METHODS:
        if method not in summary["paper"]:
            continue
        paper = summary["paper"][method]
        centred = summary["centered"][method]
        row = [_label(method)]
        for entry in (paper, centred):
            row += [_pm(entry["area_ratio"]), f"{entry['area_ratio']['min']:.2f}"]
        row += [_pm(paper["separation"]), _pm(centred["separation"])]
        row += [_pm(paper["area_ratio_black_mask"])] if black else []
        rows.append(row)
    one = f"1 ± {summary['random_standard_error']:.2f}"
    rows.append(["random masks", one, "", one, "", "0", "0"] + (["1"] if black else []))
    return markdown_table(header, rows)


def _label(method):
    return LABELS.get(method, method.replace("_", " "))


def _example_table(summary, settings):
    header = ["share of the examples", *(f"{f:.0%}" for f in settings["example_fractions"])]
    rows = []
    for side in ("most", "least"):
        rates = {kernel: [_pm(rate, 3) for rate in summary[kernel][side]] for kernel in KERNELS}
        if len({tuple(r) for r in rates.values()}) == 1:  # the kernels rank alike
            rows.append([f"{side} important", *rates[KERNELS[0]]])
            continue
        rows += [[f"{side} important, {k.replace('_', ' ')}", *r] for k, r in rates.items()]
    rows.append(["at random", *[_pm(summary["prior"], 3)] * len(settings["example_fractions"])])
    return markdown_table(header, rows)


def _render_claims(results):
    header = ["the paper shows", "dataset", "here"]
    rows = []
    for name, dataset in results["datasets"].items():
        rows += _claims(_title(name), dataset)
    table = markdown_table(header, rows).replace("---:", "---")
    return table


def _claims(title, dataset):
    """Rows of the table of claims: what the paper shows, the data set, what came out here."""
    rows = []
    if "features_summary" in dataset:
        n_seeds = len(dataset["features"])
        for center, name in (("paper", "paper"), ("centered", "centred")):
            summary = dict(dataset["features_summary"][center])
            compared = dataset.get("compared_summary", dataset["features_summary"])[center]
            above_by = compared["integrated_gradients_above"]
            summary = {m: summary[m] for m in METHODS}
            above = [m for m, s in summary.items() if s["area_ratio"]["min"] > 1]
            below = [_label(m) for m in summary if m not in above]
            words = f"{len(above)} of {len(summary)} methods with every seed"
            words += f"; not: {', '.join(below)}" if below else ""
            rows.append([f"every method beats random masks ({name})", title, words])
            lowest = {_label(m): s["separation"]["min"] for m, s in summary.items()}
            close = [f"{m} (lowest {v:.2f})" for m, v in lowest.items() if v < 0.1]
            words = f"{len(summary) - len(close)} of {len(summary)} methods: separation above 0.1 "
            words += "with every seed" + (f"; not: {', '.join(close)}" if close else "")
            rows.append([f"the most important move f more than the least ({name})", title, words])
            words = "; ".join(
                f"above {_label(m)} with {sum(d > 0 for d in above_by[m])} of {n_seeds} seeds "
                f"(by {np.mean(above_by[m]):.3f}, {min(above_by[m]):.3f} to "
                f"{max(above_by[m]):.3f})"
                for m in COMPARED
                if m in above_by
            )
            claim = f"integrated gradients are the best of its methods ({name})"
            rows.append([claim, title, words])
        raised = dataset["features_summary"]["centering_raises_score"]
        words = f"in {raised['times']} of {raised['of']} pairs of a method and a seed"
        rows.append(["(not in the paper) centring raises the score", title, words])
    if "examples_summary" in dataset:
        summary = dataset["examples_summary"]
        most, least = (summary["inverse_distance"][side][0] for side in ("most", "least"))
        words = (
            f"top 5 %: {_pm(most, 3)}, bottom 5 %: {_pm(least, 3)}, "
            f"at random: {_pm(summary['prior'], 3)}"
        )
        rows.append(["most similar examples share the label, least similar do not", title, words])
    return rows


def _difference_words(settings):
    lines = [
        f"Fewer epochs: at most {settings['epochs_mnist']} (MNIST, the paper 100), "
        f"{settings['epochs_ecg']} (ECG5000, features) and {settings['epochs_ecg_examples']} "
        "(ECG5000, examples; the paper 150 for both). Patience 10 as there, on a tenth of the "
        "training data, where the paper sometimes stops on the test set.",
        "MNIST: 10,000 digits, 8,000 of them for training, where the paper has 60,000. The "
        "encoder is the paper's, with 4 latent units, noise of standard deviation 0.3, Adam 1e-3 "
        "and weight decay 1e-5.",
        f"ECG5000: {settings['units_ecg']} latent units for features and for examples, where the "
        f"paper has 64 and 16; batches of {settings['batch_size_ecg']}.",
        "Masks: the mean of the training data, so that scores compare between baselines; the paper "
        "masks digits black, which is the last column of that table. Attributions are "
        "taken against the paper's baselines: a black image, the mean normal heartbeat.",
        "The paper has saliency, integrated gradients, gradient SHAP and DeepLIFT. Its code makes "
        "5 draws of gradient SHAP and tiles f(x) as x1, x2, …, x1, x2, … beside draws tiled x1, "
        "x1, …, x2, x2, …, so that most of them explain another sample's representation: "
        "*mis-tiled* is that, and the row above it is the same draws tiled right.",
        "More methods than the paper, and fewer explained samples. KernelSHAP and LIME have "
        "2 · features + 2,048 coalitions a sample, Shapley sampling 25 orders: on 784 pixels "
        "KernelSHAP's estimate is noisy at that number, and its score shows it (a side check with "
        "one encoder and 10 digits: 1.50, with four times as many coalitions 1.62, Shapley "
        "sampling 1.63).",
        "CIFAR-10 is not part of this run. SimplEx and the loss-based example importances have a "
        "section of their own.",
    ]
    return "\n".join(f"- {line}" for line in lines)
