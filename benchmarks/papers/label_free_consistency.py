"""Consistency checks of label-free importance: figures 2 and 3 of Crabbé & van der Schaar (2022).

Features: an autoencoder is trained, the features that a method calls important are masked, and the
shift of the representation is compared with that of random masks. Examples: how often the training
examples that deep nearest neighbours call important have the label of the sample. Both on ECG5000
(the paper's LSTM) and on 10,000 digits of MNIST (the paper's denoising CNN), several seeds each.
"""

import time
import warnings

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.integrate import trapezoid
from sklearn.exceptions import ConvergenceWarning

from sklexplain import DKNNImportance, LabelFreeAttributor
from sklexplain.datasets import load_ecg5000
from sklexplain.metrics import latent_shift_curve, similarity_rate
from sklexplain.nets import Autoencoder

from .._runner import Benchmark, Option
from ..common import MnistAutoencoder, gradient_shap, load_digits_28x28, markdown_table, rounded

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
N_RANDOM = 10  # random orders that a curve is compared with


def train_test(dataset, purpose, rng):
    """Return X_train, y_train, X_test, y_test as the paper splits them.

    ECG5000: for features, normal beats train and abnormal ones are explained; for examples, all
    beats are split at random. Labels are normal or not. MNIST: 8,000 and 2,000 digits at random.
    """
    if dataset == "mnist":
        X, y = load_digits_28x28()
        n_train = 8000
    else:
        X, y = load_ecg5000(return_X_y=True)
        y = (y == 1).astype(np.int64)
        if purpose == "features":
            return X[y == 1], y[y == 1], X[y == 0], y[y == 0]
        n_train = 4000
    order = rng.permutation(len(X))
    train, test = order[:n_train], order[n_train:]
    return X[train], y[train], X[test], y[test]


def train_encoder(dataset, purpose, X, seed, args):
    """Train the paper's autoencoder, with fewer epochs."""
    common = {"validation_split": 0.1, "patience": 10, "random_state": seed}
    with warnings.catch_warnings():
        # The number of epochs is a setting here, and written into the results.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if dataset == "mnist":
            return Autoencoder(
                MnistAutoencoder,
                n_components=4,
                pretext="denoising",
                noise_std=0.3,
                weight_decay=1e-5,
                max_epochs=args.epochs_mnist,
                **common,
            ).fit(X)
        return Autoencoder(
            "lstm",
            n_components=args.units_ecg,
            loss="absolute_error",
            batch_size=args.batch_size_ecg,
            max_epochs=args.epochs_ecg if purpose == "features" else args.epochs_ecg_examples,
            **common,
        ).fit(X)


def feature_check(dataset, encoder, data, seed, args, methods=None):
    """Latent-shift curves of every method on a sample of the test set, for one seed."""
    rng = np.random.RandomState(seed)
    X_train, _, X_test, _ = data
    n_explained = args.n_explained_mnist if dataset == "mnist" else args.n_explained_ecg
    X = X_test[rng.permutation(len(X_test))[:n_explained]]
    result = _training(encoder, X_test) | {"methods": {}}
    # The paper's baseline is black for digits, the mean normal beat for heartbeats, and it masks
    # with it. A score masks with the mean; for digits both masks are looked at.
    baseline = "zeros" if dataset == "mnist" else "mean"
    for method in ALL_METHODS if methods is None else methods:
        for center in (False, True):
            attributor = LabelFreeAttributor(
                encoder,
                method="gradient_shap" if method in OWN_METHODS else method,
                baseline=baseline,
                center=center,
                random_state=seed,
            ).fit(X_train)
            start = time.perf_counter()
            if method in OWN_METHODS:
                attributions = gradient_shap(
                    encoder.net_.module_.eval().encode,
                    X.astype(np.float32),
                    seed,
                    aligned=OWN_METHODS[method],
                    baseline=attributor.baseline_,
                    center=center,
                )
            else:
                attributions = attributor.transform(X)
            seconds = time.perf_counter() - start
            curve = _curve(attributor, encoder, X, attributions, attributor.mean_)
            entry = _summary_of(curve) | {"seconds": round(seconds, 3)}
            if dataset == "mnist":
                black = _curve(attributor, encoder, X, attributions, 0.0)
                entry["area_ratio_black_mask"] = rounded(black.area_ratio)
            result["methods"].setdefault(method, {})[_center(center)] = entry
    result |= {
        "fractions": rounded(curve.fractions),
        "random": rounded(curve.random),
        "random_std": rounded(curve.random_std),
        "random_area": rounded(trapezoid(curve.random, curve.fractions)),
    }
    return result


def _curve(attributor, encoder, X, attributions, mask_value):
    """As `LabelFreeAttributor.latent_shift`, without computing the attributions again."""
    return latent_shift_curve(
        encoder.transform,
        X,
        attributions,
        mask_value=mask_value,
        channel_axis=0 if X.ndim == 4 else None,
        n_random=N_RANDOM,
        random_state=attributor.seed_,
    )


def _summary_of(curve):
    return {
        "area_ratio": rounded(curve.area_ratio),
        "separation": rounded(curve.separation),
        "most": rounded(curve.most),
        "least": rounded(curve.least),
    }


def _training(encoder, X_test):
    return {
        "n_epochs": encoder.n_epochs_,
        "n_components": encoder.n_components,
        "validation_loss": rounded(min(encoder.validation_loss_curve_)),
        "r2_explained_set": rounded(encoder.score(X_test)),
    }


def _center(center):
    return "centered" if center else "paper"


def example_check(dataset, encoder, data, seed, args):
    """Similarity rates of the most and least important examples, for one seed."""
    rng = np.random.RandomState(seed)
    X_train, y_train, X_test, y_test = data
    corpus = rng.permutation(len(X_train))[: args.n_examples]
    queries = rng.permutation(len(X_test))[: args.n_examples]
    y_corpus, y_queries = y_train[corpus], y_test[queries]
    sizes = [max(1, int(np.ceil(f * len(corpus)))) for f in FRACTIONS]
    result = _training(encoder, X_test) | {"n_top": sizes, "kernels": {}}
    for kernel in KERNELS:
        dknn = DKNNImportance(encoder, kernel=kernel, random_state=seed).fit(X_train[corpus])
        importance = dknn.transform(X_test[queries])
        result["kernels"][kernel] = {
            "most": rounded(similarity_rate(importance, y_queries, y_corpus, n_top=sizes)),
            "least": rounded(
                similarity_rate(importance, y_queries, y_corpus, n_top=sizes, least=True)
            ),
        }
    # What examples drawn at random would give.
    result["prior"] = rounded((y_queries[:, None] == y_corpus).mean())
    return result


CHECKS = {"features": feature_check, "examples": example_check}


def run_one(dataset, seed, args):
    """Run both checks with one seed, single-threaded: runs go side by side."""
    torch.set_num_threads(1)
    results = {}
    encoder = None
    for name, check in CHECKS.items():
        start = time.perf_counter()
        if encoder is None or dataset == "ecg5000":  # one encoder of digits serves both
            data = train_test(dataset, name, np.random.RandomState(seed))
            data = [a[: args.n_train] for a in data]
            encoder = train_encoder(dataset, name, data[0], seed, args)
        results[name] = check(dataset, encoder, data, seed, args)
        results[name]["minutes"] = round((time.perf_counter() - start) / 60, 2)
    return dataset, seed, results


def run_methods(dataset, seed, args, methods):
    """Score more methods of features, with the encoder of that seed trained again."""
    torch.set_num_threads(1)
    data = train_test(dataset, "features", np.random.RandomState(seed))
    data = [a[: args.n_train] for a in data]
    encoder = train_encoder(dataset, "features", data[0], seed, args)
    return dataset, seed, feature_check(dataset, encoder, data, seed, args, methods)


def summarize(results):
    """Mean, standard deviation and smallest value over seeds, into the results."""
    results["datasets"] = {d: results["datasets"][d] for d in DATASETS if d in results["datasets"]}
    for dataset in results["datasets"].values():
        if dataset.get("features"):
            dataset["features_summary"] = _feature_summary(list(dataset["features"].values()))
        if dataset.get("compared"):
            dataset["compared_summary"] = _feature_summary(list(dataset["compared"].values()))
        if dataset.get("examples"):
            dataset["examples_summary"] = _example_summary(list(dataset["examples"].values()))


def _feature_summary(seeds):
    summary = {}
    for center in ("paper", "centered"):
        rows = {m: [s["methods"][m][center] for s in seeds] for m in seeds[0]["methods"]}
        summary[center] = {
            method: {
                key: _spread([entry[key] for entry in entries])
                for key in ("area_ratio", "separation", "area_ratio_black_mask")
                if key in entries[0]
            }
            for method, entries in rows.items()
        }
        # By how much, with each seed.
        ratios = {m: np.array([e["area_ratio"] for e in entries]) for m, entries in rows.items()}
        summary[center]["integrated_gradients_above"] = {
            m: rounded(ratios["integrated_gradients"] - ratio) for m, ratio in ratios.items()
        }
    pairs = [m for s in seeds for name, m in s["methods"].items() if name in METHODS]
    summary["centering_raises_score"] = {
        "times": sum(m["centered"]["area_ratio"] > m["paper"]["area_ratio"] for m in pairs),
        "of": len(pairs),
    }
    # At most this: the points of a curve are taken as fully correlated.
    errors = [trapezoid(s["random_std"], s["fractions"]) / s["random_area"] for s in seeds]
    summary["random_standard_error"] = rounded(np.mean(errors) / np.sqrt(N_RANDOM))
    return summary


def _example_summary(seeds):
    summary = {"prior": _spread([s["prior"] for s in seeds])}
    for kernel in seeds[0]["kernels"]:
        summary[kernel] = {
            side: [_spread(v) for v in zip(*(s["kernels"][kernel][side] for s in seeds))]  # noqa: B905
            for side in ("most", "least")
        }
    return summary


def _spread(values):
    ddof = 1 if len(values) > 1 else 0
    return {
        "mean": rounded(np.mean(values)),
        "std": rounded(np.std(values, ddof=ddof)),
        "min": rounded(np.min(values)),
    }


# -- the section -------------------------------------------------------------------------------


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
    r2 = _pm(_spread([s["r2_explained_set"] for s in seeds]))
    loss = _pm(_spread([s["validation_loss"] for s in seeds]), 3)
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


def compare_methods(args, results, save):
    """Score some methods only, with encoders that are trained again, beside the other results."""
    tasks = [(dataset, seed) for dataset in args.datasets for seed in args.seeds]
    runs = Parallel(n_jobs=args.n_jobs, return_as="generator_unordered")(
        delayed(run_methods)(*task, args, args.compare) for task in tasks
    )
    for dataset, seed, check in runs:
        results["datasets"][dataset].setdefault("compared", {})[str(seed)] = check
        save()


def measure(args, results, save):
    if args.compare:
        compare_methods(args, results, save)
        return
    datasets, settings = results.setdefault("datasets", {}), results["settings"]
    settings["seeds"] = sorted({*settings.get("seeds", []), *args.seeds})
    tasks = [
        (dataset, seed)
        for seed in args.seeds
        for dataset in args.datasets
        if str(seed) not in datasets.get(dataset, {}).get("examples", {})
    ]
    runs = Parallel(n_jobs=args.n_jobs, return_as="generator_unordered")(
        delayed(run_one)(*task, args) for task in tasks
    )
    for dataset, seed, checks in runs:
        minutes = {name: check["minutes"] for name, check in checks.items()}
        print(f"{dataset}, seed {seed}: minutes {minutes}", flush=True)
        for name, check in checks.items():
            datasets.setdefault(dataset, {}).setdefault(name, {})[str(seed)] = check
        save()


BENCHMARK = Benchmark(
    section="label-free consistency",
    page="label_free.md",
    measure=measure,
    summarize=summarize,
    render=render,
    settings={
        "epochs_mnist": 20,
        "epochs_ecg": 30,
        "epochs_ecg_examples": 20,
        "batch_size_ecg": 8,
        "units_ecg": 16,
        "n_explained_mnist": 100,
        "n_explained_ecg": 50,
        "n_examples": Option(1000, "training, and test, samples"),
        "n_train": Option(None, "and test, at most; for short tests", type=int),
    },
    options={
        "seeds": [0, 1, 2],
        "datasets": Option(list(DATASETS), choices=DATASETS),
        "n_jobs": 2,
        "compare": Option([], "score only these, beside the rest", choices=ALL_METHODS),
    },
    fixed={"example_fractions": FRACTIONS, "methods": METHODS},
    smoke={
        "epochs_mnist": 1,
        "epochs_ecg": 1,
        "epochs_ecg_examples": 1,
        "units_ecg": 2,
        "n_explained_mnist": 1,
        "n_explained_ecg": 1,
        "n_examples": 16,
        "n_train": 32,
        "seeds": [0],
        "n_jobs": 1,
    },
)
