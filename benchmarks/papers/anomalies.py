"""Anomalies: which column or segment was changed, and whether anything was.

Part one plants a change in samples that are normal otherwise and asks each map where it is: AUROC
of the planted column (or segment of ten steps) among the sample's others, beside squared residuals,
label-free maps and a Gaussian's conditional residuals, which know every linear dependence.

Part two asks whether samples are called abnormal at p <= 0.05: by the reconstruction error
(`AnomalyAttributor.pvalue`), by the Mahalanobis distance of the code and of label-free maps, each
calibrated alike on the same held-out samples, and by the noise score's `drift_pvalue`.

A peer's attributions, those of PyOD's ECOD, stand beside the maps of part one where PyOD is
installed: run the script again in the environment of ``make test-neighbours``, and they are added.
"""

import importlib.util
import warnings
from functools import partial

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklexplain import AnomalyAttributor, LabelFreeAttributor, NoiseScorer
from sklexplain.attribution import time_segments
from sklexplain.datasets import load_ecg5000
from sklexplain.nets import Autoencoder

from .._runner import Benchmark, complete
from ..common import markdown_table, rounded

MAPS = ("reconstruction", "neighbours", "mean", "squared residuals", "label-free", "gauss")
PEER = "ECOD (PyOD)"
RARE = 0.1  # share of rows below which a category is odd


# -- data


def mixed_table(rng, n=600):
    """Eight numbers and four categories that follow three hidden causes."""
    causes = rng.normal(size=(n, 3))
    numbers = causes @ rng.normal(size=(3, 8)) + 0.3 * rng.normal(size=(n, 8))
    frame = pd.DataFrame(numbers, columns=[f"number{j}" for j in range(8)])
    for j in range(4):
        signal = causes @ rng.normal(size=3) + 0.3 * rng.normal(size=n)
        edges = np.quantile(signal, [0.07, 0.5])
        frame[f"kind{j}"] = np.array(["rare", "some", "most"])[np.digitize(signal, edges)]
    return frame


def tables(seed):
    """Tables by name, with the length of the code."""
    rng = np.random.default_rng([seed, 1])
    return {
        "breast cancer": (load_breast_cancer(as_frame=True).data, 8),
        "wine": (load_wine(as_frame=True).data, 4),
        "numbers and categories": (mixed_table(rng), 4),
    }


def model_of(frame, n_components, n_epochs, seed):
    """A Pipeline that scales numbers, encodes categories and reconstructs both."""
    numbers = list(frame.select_dtypes("number"))
    kinds = [name for name in frame if name not in numbers]
    steps = [(StandardScaler(), numbers)]
    if kinds:
        encoder = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
        steps.append((encoder, kinds))
    columns = make_column_transformer(*steps)
    net = Autoencoder(n_components=n_components, max_epochs=n_epochs, random_state=seed)
    return make_pipeline(columns, net)


# -- planting


def far_values(train, new, row, name):
    """Values of a column in other samples that are far from a row's own."""
    values = new[name]
    if values.dtype.kind == "f":
        return values[(values - row[name]).abs() >= 2 * train[name].std()]
    share = values.map(train[name].value_counts(normalize=True)).fillna(0)
    return values[(share < RARE) & (values != row[name])]


def planted(train, new, rng, n, sigmas=None):
    """Samples with one cell changed, and the column of each.

    To another sample's value at least 2 standard deviations away (a category: one that is seen in
    less than a tenth of the rows), or by some standard deviations, up or down.
    """
    odd = new.iloc[rng.integers(len(new), size=n)].reset_index(drop=True).copy()
    numeric = [j for j, dtype in enumerate(new.dtypes) if dtype.kind == "f"]
    places = []
    for i in range(n):
        while True:
            j = rng.choice(numeric) if sigmas else rng.integers(new.shape[1])
            name, row = new.columns[j], odd.iloc[i]
            if sigmas:
                values = [row[name] + sigmas * rng.choice([-1, 1]) * train[name].std()]
            else:
                values = far_values(train, new, row, name).to_list()
            if values:
                break
        odd.loc[i, name] = values[rng.integers(len(values))]
        places.append(j)
    return odd, np.array(places)


def auroc(maps, places):
    """Share of a sample's other features that the planted one is above; ties count half."""
    maps = np.abs(np.asarray(maps, dtype=np.float64))
    own = maps[np.arange(len(maps)), places][:, None]
    above = (maps < own).sum(axis=1) + ((maps == own).sum(axis=1) - 1) / 2
    return float(np.mean(above / (maps.shape[1] - 1)))


def gauss_maps(train, odd, columns):
    """(K a)_i^2 / K_ii of a Gaussian with precision K, summed over what a column was encoded to."""
    covariance = LedoitWolf().fit(train)
    precision = covariance.precision_
    values = ((odd - covariance.location_) @ precision) ** 2 / np.diag(precision)
    return summed(values, columns)


def summed(values, columns):
    """Sum encoded columns over the raw columns that they were made of."""
    out = np.zeros((len(values), columns.max() + 1))
    np.add.at(out.T, columns, np.asarray(values, dtype=np.float64).T)
    return out


def encoded_columns(encoder, names):
    """Number of the raw column that each encoded one was made of."""
    (_, _, numbers), *kinds = encoder.transformers_
    found = [names.index(name) for name in numbers]
    for _, step, columns in kinds:
        if columns and hasattr(step, "categories_"):
            for name, values in zip(columns, step.categories_, strict=True):
                found += [names.index(name)] * len(values)
    return np.array(found)


PLANTINGS = {"legal": None, "3 sd": 3, "5 sd": 5}


def halves(frame, seed):
    """Rows to train on, others, and the generator of what is planted in them."""
    rng = np.random.default_rng([seed, 2])
    order = rng.permutation(len(frame))
    half = len(frame) // 2
    return frame.iloc[order[:half]], frame.iloc[order[half:]], rng


def by_peer(seed, args):
    """AUROC of ECOD's scores of single columns, on the samples of `in_tables`."""
    from pyod.models.ecod import ECOD

    found = {}
    for name, (frame, n_components) in tables(seed).items():
        train, new, rng = halves(frame, seed)
        encoder = model_of(train, n_components, 1, seed)[0].fit(train)
        columns = encoded_columns(encoder, list(frame))
        found[name] = {}
        for kind, sigmas in PLANTINGS.items():
            odd, places = planted(train, new, rng, args.n_samples, sigmas)
            peer = ECOD().fit(encoder.transform(train))
            peer.decision_function(encoder.transform(odd))
            maps = summed(peer.O[-len(odd) :], columns)
            found[name][kind] = rounded(auroc(maps, places), 4)
    return found


def in_tables(seed, args):
    """AUROC by table, planting and map."""
    found = {}
    for name, (frame, n_components) in tables(seed).items():
        train, new, rng = halves(frame, seed)
        model = model_of(train, n_components, args.n_epochs, seed).fit(train)
        explainers = explainers_of(model, train, args)
        encoder = model[0]
        columns = encoded_columns(encoder, list(frame))
        found[name] = {}
        for kind, sigmas in PLANTINGS.items():
            odd, places = planted(train, new, rng, args.n_samples, sigmas)
            maps = {key: e.transform(odd) for key, e in explainers.items()}
            residuals = explainers["mean"].residuals(odd) ** 2
            maps["squared residuals"] = summed(residuals, columns)
            encoded = encoder.transform(train), encoder.transform(odd)
            maps["gauss"] = gauss_maps(*encoded, columns)
            found[name][kind] = {key: rounded(auroc(maps[key], places), 4) for key in MAPS}
    return found


def explainers_of(model, train, args, **params):
    """One explainer for each reference, and the label-free one, of a trained model."""
    kinds = {"reconstruction": "reconstruction", "neighbours": "neighbors", "mean": "mean"}
    found = {
        key: AnomalyAttributor(model, baseline=baseline, random_state=0, **params).fit(train)
        for key, baseline in kinds.items()
    }
    return {**found, "label-free": LabelFreeAttributor(model, **params).fit(train)}


# -- heartbeats


def segment_of(beats, i, start, kind, others, rng):
    """Ten steps of a beat, changed."""
    own = beats[i, start : start + 10]
    if kind == "bump":
        return own + 1.5 * rng.choice([-1, 1]) * np.sin(np.linspace(0, np.pi, 10))
    if kind == "noise":
        return own + rng.normal(size=10)
    if kind == "shift":
        return np.roll(beats[i], 15)[start : start + 10]
    if kind == "other place":
        start = rng.integers(130)
    return others[rng.integers(len(others)), start : start + 10]


SEGMENTS = ("bump", "noise", "shift", "other place", "same place (legal)")


def in_heartbeats(seed, args):
    """AUROC by planting and map."""
    beats, classes = load_ecg5000(return_X_y=True)
    rng = np.random.default_rng([seed, 3])
    normal = beats[classes == 1]
    normal = normal[rng.permutation(len(normal))][: args.n_beats + 2 * args.n_samples]
    train, new = normal[: args.n_beats], normal[args.n_beats : args.n_beats + args.n_samples]
    others = normal[-args.n_samples :]
    net = Autoencoder(n_components=8, max_epochs=args.n_epochs, random_state=seed).fit(train)
    segments = time_segments(140, 14)
    explainers = explainers_of(net, train, args, groups=segments)
    found = {}
    for kind in SEGMENTS:
        odd, places = new.copy(), rng.integers(14, size=len(new))
        for i, place in enumerate(places):
            start = 10 * place
            odd[i, start : start + 10] = segment_of(new, i, start, kind, others, rng)
        maps = {key: e.transform(odd) for key, e in explainers.items()}
        residuals = explainers["mean"].residuals(odd) ** 2
        maps["squared residuals"] = residuals.reshape(-1, 14, 10).sum(axis=2)
        found[kind] = {key: rounded(auroc(maps[key], places), 4) for key in MAPS if key != "gauss"}
    return found


# -- p-values


def conformal(usual, values):
    """P-values of values, from the usual ones of other samples."""
    return (1 + (usual[None] >= values[:, None]).sum(axis=1)) / (len(usual) + 1)


def table_drifts(X, rng):
    noise, one = rng.normal(size=X.shape), rng.integers(X.shape[1], size=len(X))
    single = np.arange(X.shape[1]) == one[:, None]
    return {
        "none": X,
        **{f"noise of {k} sd in all columns": X + k * noise for k in (1, 2, 3, 6)},
        "all columns + 2 sd": X + 2,
        "one column + 3 sd": X + 3 * single,
        "one column + 6 sd": X + 6 * single,
    }


def beat_drifts(X, abnormal, rng):
    spread = X.std()
    noise = rng.normal(size=X.shape) * spread
    return {
        "none": X,
        **{f"noise of {k} sd in all steps": X + k * noise for k in (0.25, 0.5, 1)},
        "bump of 1.5 in ten steps": _bumped(X, rng),
        **{f"abnormal beats, class {k}": beats for k, beats in abnormal.items()},
    }


def _bumped(X, rng):
    odd = X.copy()
    for row, start in zip(odd, rng.integers(130, size=len(odd)), strict=True):
        row[start : start + 10] += 1.5 * np.sin(np.linspace(0, np.pi, 10))
    return odd


def shares(net, train, calibration, drifted, seed):
    """Share of p <= 0.05 by statistic and drift."""
    anomaly = AnomalyAttributor(net, random_state=seed).fit(calibration)
    largest = AnomalyAttributor(net, score_function="largest_residual", random_state=seed)
    largest.fit(calibration)
    on_training = AnomalyAttributor(net, random_state=seed).fit(train)
    label_free = LabelFreeAttributor(net, method_params={"n_steps": 10}).fit(train)
    noise = NoiseScorer(net, random_state=seed).fit(calibration)
    codes = LedoitWolf().fit(net.transform(train))
    maps = LedoitWolf().fit(label_free.transform(train))
    usual = {
        "code": codes.mahalanobis(net.transform(calibration)),
        "maps": maps.mahalanobis(label_free.transform(calibration)),
    }
    found = {}
    for name, X in drifted.items():
        X = X.astype(np.float32)
        pvalues = {
            "reconstruction error": anomaly.pvalue(X),
            "largest residual": largest.pvalue(X),
            "error, calibrated on training rows": on_training.pvalue(X),
            "distance in the code": conformal(usual["code"], codes.mahalanobis(net.transform(X))),
            "distance in label-free maps": conformal(
                usual["maps"], maps.mahalanobis(label_free.transform(X))
            ),
            "noise score": noise.drift_pvalue(X),
        }
        found[name] = {key: rounded(np.mean(p <= 0.05), 4) for key, p in pvalues.items()}
    return found


def pvalues(seed, args):
    """Shares of samples that are called abnormal, of a table and of heartbeats."""
    rng = np.random.default_rng([seed, 4])
    X = load_breast_cancer().data
    parts = np.array_split(rng.permutation(len(X)), 3)
    scaler = StandardScaler().fit(X[parts[0]])
    train, calibration, test = (scaler.transform(X[p]).astype(np.float32) for p in parts)
    net = Autoencoder(n_components=8, max_epochs=args.n_epochs, random_state=seed).fit(train)
    found = {
        "breast cancer": shares(
            net, train, calibration, table_drifts(test[: args.n_samples], rng), seed
        )
    }
    beats, classes = load_ecg5000(return_X_y=True)
    normal = beats[classes == 1]
    normal = normal[rng.permutation(len(normal))]
    cuts = np.cumsum([args.n_beats, args.n_calibration, args.n_samples])
    train, calibration, test = np.split(normal[: cuts[2]], cuts[:2])
    net = Autoencoder(n_components=8, max_epochs=args.n_epochs, random_state=seed).fit(train)
    abnormal = {k: beats[classes == k][: args.n_samples] for k in (2, 3, 4, 5)}
    found["heartbeats"] = shares(net, train, calibration, beat_drifts(test, abnormal, rng), seed)
    return found


def power(seed, args):
    """Shares of patients that are called abnormal, by the length of the code and the score.

    Beside them the distance from the mean in a Gaussian of all columns, and what can be said
    beforehand: how far the first component goes along "all columns rise", and what a change of 3
    standard deviations in one column adds to a mean of squares, at most, beside its usual size.
    """
    rng = np.random.default_rng([seed, 5])
    X = load_breast_cancer().data
    parts = np.array_split(rng.permutation(len(X)), 3)
    scaler = StandardScaler().fit(X[parts[0]])
    train, calibration, test = (scaler.transform(X[p]).astype(np.float32) for p in parts)
    kept = ("none", "noise of 1 sd in all columns", "noise of 2 sd in all columns")
    kept += ("all columns + 2 sd", "one column + 3 sd")
    drifted = {k: v for k, v in table_drifts(test, rng).items() if k in kept}
    drifted = {name: Z.astype(np.float32) for name, Z in drifted.items()}
    found, facts = {}, {}
    for n_units in (4, 8, 16):
        net = Autoencoder(n_components=n_units, max_epochs=args.n_epochs, random_state=seed)
        net.fit(train)
        for score in ("reconstruction", "largest_residual"):
            detector = AnomalyAttributor(net, score_function=score, random_state=seed)
            detector.fit(calibration)
            found[f"{n_units} units, {score}"] = {
                name: rounded(np.mean(detector.pvalue(Z) <= 0.05), 4) for name, Z in drifted.items()
            }
            if score == "reconstruction":
                usual = -detector.calibration_scores_
                facts[f"{n_units} units: 95 % of errors below"] = rounded(
                    np.quantile(usual, 0.95), 4
                )
                facts[f"{n_units} units: median error"] = rounded(np.median(usual), 4)
    gauss = LedoitWolf().fit(train)
    usual = gauss.mahalanobis(calibration)
    found["distance in all columns"] = {
        name: rounded(np.mean(conformal(usual, gauss.mahalanobis(Z)) <= 0.05), 4)
        for name, Z in drifted.items()
    }
    first = PCA(1).fit(train).components_[0]
    facts["cosine of the first component and a rise of all columns"] = rounded(
        abs(first.sum()) / np.sqrt(len(first)), 4
    )
    facts["what 3 sd in one of 30 columns add at most"] = 9 / 30
    return {"shares": found, "facts": facts}


# -- results


def mean_sd(values):
    values = np.asarray(values, dtype=float)
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    return f"{values.mean():.3f} ± {spread:.3f}"


def render(results):
    """Return the section as Markdown."""
    runs, s = list(results["seeds"].values()), results["settings"]
    rows = []
    for table, kinds in runs[0]["tables"].items():
        for kind in kinds:
            cells = [mean_sd([run["tables"][table][kind][key] for run in runs]) for key in MAPS]
            others = [peer[table][kind] for peer in results.get("peer", {}).values()]
            rows.append([table, kind, *cells, mean_sd(others) if others else "-"])
    for kind in SEGMENTS:
        cells = [
            mean_sd([run["heartbeats"][kind][key] for run in runs]) if key != "gauss" else "-"
            for key in MAPS
        ]
        rows.append(["heartbeats, segments", kind, *cells, "-"])
    drifts = []
    for data in ("breast cancer", "heartbeats"):
        for kind, statistics in runs[0]["p-values"][data].items():
            cells = [
                mean_sd([run["p-values"][data][kind][key] for run in runs]) for key in statistics
            ]
            drifts.append([data, kind, *cells])
    statistics = list(runs[0]["p-values"]["heartbeats"]["none"])
    by_size = [
        [name, *[mean_sd([run["power"]["shares"][name][kind] for run in runs]) for kind in kinds]]
        for name, kinds in runs[0]["power"]["shares"].items()
    ]
    kinds = list(next(iter(runs[0]["power"]["shares"].values())))
    facts = {
        k: np.mean([run["power"]["facts"][k] for run in runs]) for k in runs[0]["power"]["facts"]
    }
    cosine = facts["cosine of the first component and a rise of all columns"]
    limits = [run["power"]["facts"]["8 units: 95 % of errors below"] for run in runs]
    medians = [facts["8 units: median error"]]
    paired = {
        f"{name}, {kind}": np.mean([r[kind]["reconstruction"] - r[kind]["neighbours"] for r in of])
        for name, of in [
            *((t, [run["tables"][t] for run in runs]) for t in runs[0]["tables"]),
            ("heartbeats", [run["heartbeats"] for run in runs]),
        ]
        for kind in of[0]
    }
    least, most = min(paired, key=paired.get), max(paired, key=paired.get)
    return "\n".join(
        [
            "## Anomalies",
            "",
            "Which column (or which of 14 segments of ten steps) was changed in a sample that is "
            "normal otherwise: AUROC of its |attribution| among the sample's others; mean and "
            f"standard deviation of {len(runs)} seeds, {s['n_samples']} samples each. *legal*: the "
            "value of another sample, at least 2 standard deviations away (a category: one seen in "
            "less than a tenth of the rows). *3 sd*, *5 sd*: a number moved by so much, up or "
            "down. Autoencoders behind scalers and one-hot encoders, 8 units (4 for wine and the "
            "simulated table of 8 numbers and 4 categories), half of the rows for training. "
            "*reconstruction*, *neighbours*, *mean*: `AnomalyAttributor` by its `baseline`. "
            "*gauss*: conditional residuals of a Gaussian, without any network. Made by "
            "`benchmarks/papers/anomalies.py`; every seed is in "
            "`benchmarks/papers/results/anomalies.json`. *ECOD*: what a column adds to the score "
            "of PyOD's ECOD, which takes columns to be independent.",
            "",
            markdown_table(["data", "planted", *MAPS, PEER], rows),
            "",
            "Squared residuals find the place as well as attributions of the reconstruction error "
            "do. What attributions add is another thing: a sum that is known, raw columns behind "
            "a Pipeline, groups, and detectors that have no residuals. Label-free maps, which "
            "tell what builds the code, are no answer to this question.",
            "",
            "Reconstructions and neighbours as references, on the same samples and seeds: the "
            f"mean difference of AUROC is between {paired[least]:+.3f} ({least}) and "
            f'{paired[most]:+.3f} ({most}). So `baseline="auto"` takes the reconstruction where '
            "there is one, which needs no search and no second network, and the mean of the "
            "neighbours, one path as well, where there is none.",
            "",
            "Share of samples with p ≤ 0.05; *none* should be at most 0.05 up to the draw of the "
            f"calibration samples ({s['n_calibration']} heartbeats, a third of breast cancer's "
            "patients).",
            "",
            markdown_table(["data", "drift", *statistics], drifts),
            "",
            "Calibrated on the network's own training rows, p-values are too small: `fit` wants "
            "other normal data than a fitted model was trained on. Noise breaks what columns have "
            "to do with each other, and the reconstruction error sees it.",
            "",
            "How the power depends on the length of the code and on the score, on breast cancer "
            "with other splits, and beside them the Mahalanobis distance of all columns, without "
            "any network:",
            "",
            markdown_table(["score", *kinds], by_size),
            "",
            "The bars that were set beforehand are 0.95 for noise of 2 standard deviations in all "
            "columns, which all reach, and 0.5 for one column moved by 3. Such a column adds at "
            "most 9/30 = 0.3 to a mean of 30 squares. The error of normal patients has a median "
            f"of {medians[0]:.2f} with 8 units, but a long tail: 5 % are above "
            f"{min(limits):.2f} to {max(limits):.2f}, by the split. So a mean of squares finds "
            "most or few of these samples by the luck of the split; a longer code lowers the "
            "tail. Training five times as long, without early stopping, on twice the rows or on "
            "benign patients only did not help (trials, not in the JSON). "
            '`score_function="largest_residual"` is not diluted.',
            "",
            "The last kind, all columns raised by 2 standard deviations, is reached by no "
            f"statistic here: the first component is nearly that direction (cosine {cosine:.2f}), "
            "large tumours lie along it, and a sample moved so is rebuilt like another large one. "
            "Where such a shift is what matters, compare means of many samples instead.",
        ]
    )


def one_seed(seed, args):
    """All parts with one seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return {
            "tables": in_tables(seed, args),
            "heartbeats": in_heartbeats(seed, args),
            "p-values": pvalues(seed, args),
            "power": power(seed, args),
        }


def measure(args, results, save):
    tasks = {str(seed): partial(one_seed, seed, args) for seed in args.seeds}
    complete(results.setdefault("seeds", {}), tasks, save)
    if importlib.util.find_spec("pyod") is not None:
        peers = {str(seed): partial(by_peer, seed, args) for seed in args.seeds}
        complete(results.setdefault("peer", {}), peers, save)


BENCHMARK = Benchmark(
    section="anomalies",
    page="anomalies.md",
    measure=measure,
    render=render,
    settings={"n_epochs": 300, "n_samples": 100, "n_beats": 1500, "n_calibration": 500},
    options={"seeds": [10, 11, 12, 13, 14]},
    smoke={"n_epochs": 1, "n_samples": 4, "n_beats": 30, "n_calibration": 20, "seeds": [0]},
)
