"""What in samples is abnormal, and how sure that is: the report's section on anomalies."""

import warnings

import numpy as np
from sklearn.utils import Bunch
from torch import nn

from ..anomalies import AnomalyAttributor
from ..attribution import time_segments
from ..plotting import AnomalyDisplay
from ..representation import is_detector, unwrap
from . import _compute, _figures
from . import _pieces as pieces
from ._words import counted, label_name

_N_SHOWN = 3
_N_SEGMENTS = 14
_LEVEL = 0.05
_MOST_CALIBRATION = 2000
_FEW_COLUMNS = 10  # all of whose coalitions are asked for

TERMS = (
    (
        "p-value",
        "How often a normal sample is at least as abnormal as this one, as far as the normal "
        "samples tell that were kept for it. It is right only if the model was not trained on "
        "these. Of normal samples, 5 % have one of 0.05 or less.",
    ),
)


def tells_anomalies(report):
    """Tell whether a model reconstructs samples or is a detector of outliers.

    Parameters
    ----------
    report : RepresentationReport
        With a fitted model.

    Returns
    -------
    answer : bool
        True, too, for a network with an encoder, which may turn out to return something else.
    """
    if report.reconstruction_ is not None or is_detector(report.estimator_):
        return True
    return is_bare(report.estimator_)


def is_bare(estimator):
    """Tell whether a model is a network with an encoder, but without methods to rebuild samples."""
    network = unwrap(estimator)
    return isinstance(network, nn.Module) and isinstance(
        getattr(network, "encoder", None), nn.Module
    )


def find_anomalies(report, calibration, set_aside, X_explain, y_explain, rng):
    """Score the explained samples, and say what makes some of them abnormal.

    Parameters
    ----------
    report : RepresentationReport
        With a fitted model, and samples chosen to be shown.
    calibration : ndarray, DataFrame or None
        Normal samples that p-values compare with; None: those set aside.
    set_aside : ndarray or DataFrame
        Samples of which the explained ones are some.
    X_explain : ndarray or DataFrame
        Explained samples.
    y_explain : ndarray or None
        Their labels.
    rng : numpy.random.RandomState
        Of what is drawn.

    Returns
    -------
    found : Bunch
        See `RepresentationReport.anomalies_`.
    """
    own = calibration is None
    usual = set_aside if own else calibration
    usual = _compute.random_part(usual, None, _MOST_CALIBRATION, rng)[0]
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        explainer = _fitted(report, usual)
        p = explainer.pvalue(X_explain)
        order = np.argsort(p[report._shown.positions], kind="stable")
        places = np.sort(order[:_N_SHOWN])
        shown = _compute.take(X_explain, report._shown.positions[places])
        maps = np.asarray(explainer.transform(shown))
        if explainer.groups_ is None:  # flat where scikit-learn's configuration asks for DataFrames
            maps = maps.reshape(len(maps), *explainer.input_shape_)
        references = _references(report, explainer, shown)
    return Bunch(
        explainer=explainer,
        p=p,
        n_calibration=len(usual),
        own=own,
        share=float(np.mean(p <= _LEVEL)),
        classes=_by_class(p, y_explain),
        places=places,
        maps=maps,
        references=references,
        residuals=_residuals(explainer, shown),
        remarks=list(dict.fromkeys(str(one.message) for one in heard)),
    )


def _fitted(report, usual):
    """Fit by the report's method, or by one that asks for outputs only."""
    params = {"channel_axis": report.channel_axis, **report._common(), "layer": None}
    # So that few samples are no reason for a warning that the text has anyway.
    params["contamination"] = min(0.5, max(_LEVEL, 1 / (len(usual) + 1)))
    if report._sample.kind == "series":
        params["groups"] = _segments(report)
    n_columns = int(np.prod(report.attributor_.input_shape_))
    last = "kernel_shap" if n_columns <= _FEW_COLUMNS else "shapley_sampling"
    method = {"method": report.method_, "method_params": report.method_params}
    try:
        return AnomalyAttributor(report.estimator_, **method, **params).fit(usual)
    except (TypeError, ValueError):
        if report.method_ == last:
            raise
        return AnomalyAttributor(report.estimator_, method=last, **params).fit(usual)


def _segments(report):
    """Label the entries of a series by segment, and by channel where there are several."""
    shape, axis = report.attributor_.input_shape_, report._sample.channel_axis
    if len(shape) == 1:
        return time_segments(shape[0], min(_N_SEGMENTS, shape[0]))
    n_times, n_channels = shape[1 - axis], shape[axis]
    segments = time_segments(n_times, min(_N_SEGMENTS, n_times))
    names = report.channel_names or [f"channel {i}" for i in range(n_channels)]
    if n_channels == 1:
        labels = segments[None]
    else:
        labels = np.array([[f"{i}. {c}: {t}" for t in segments] for i, c in enumerate(names)])
    return np.asarray(labels if axis == 0 else labels.T, dtype=object)


def _references(report, explainer, shown):
    found = _figures.rows(report, explainer.references(shown))
    return found if found.shape[1:] == tuple(explainer.input_shape_) else None


def _residuals(explainer, shown):
    if not hasattr(explainer, "residuals"):
        return None
    found = np.asarray(explainer.residuals(shown))
    return found if found.shape[1:] == tuple(explainer.input_shape_) else None


def _by_class(p, y):
    """Count small p-values of each label, those of most samples first."""
    if y is None:
        return []
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) > _compute.MAX_CLASSES or len(classes) == len(y):
        return []
    order = np.argsort(-counts, kind="stable")
    return [
        Bunch(label=classes[i], n=int(counts[i]), share=np.mean(p[y == classes[i]] <= _LEVEL))
        for i in order
    ]


# -- words and figures -------------------------------------------------------------------------


def sentence(found):
    """Say in short how many samples are abnormal.

    Parameters
    ----------
    found : Bunch
        From `find_anomalies`.

    Returns
    -------
    sentence : str
    """
    if found.own:
        return (
            "No normal samples were given to compare with, so abnormal ones are told by their rank "
            "among those set aside to be explained."
        )
    return (
        f"{_share(found.share)} of the explained samples are more abnormal than 95% of "
        f"{counted(found.n_calibration, 'normal sample')} that were kept for this (5% would be, "
        "if they were normal)."
    )


def _share(value):
    """Write a share; nearly all are not all."""
    return "More than 99%" if 0.99 < value < 1 else f"{value:.0%}"


def sample_fact(found, place):
    """Say the p-value of an explained sample.

    Parameters
    ----------
    found : Bunch
        From `find_anomalies`.
    place : int
        Position among the explained samples.

    Returns
    -------
    sentence : str
    """
    p, n = found.p[place], found.n_calibration
    least = " (none can be smaller)" if p <= 1.0001 / (n + 1) else ""
    among = "samples set aside" if found.own else "normal samples"
    return f"Abnormality among {among}: p = {p:.2g}{least}."


def section(report):
    """Return what the section says.

    Parameters
    ----------
    report : RepresentationReport
        Fitted.

    Returns
    -------
    content : dict
    """
    found = report.anomalies_
    texts = [*_texts(report, found), *found.remarks]
    table = None
    if found.classes:
        rows = [
            [label_name(c.label, report.target_names), c.n, _share(c.share)] for c in found.classes
        ]
        rows.append(["all", len(found.p), _share(found.share)])
        header = ["label", "explained", "p ≤ 0.05"]
        table = pieces.table(header, rows, "Share of samples with a small p-value", (1, 2))
    samples = [_one_sample(report, i) for i in range(len(found.places))]
    return {"texts": texts, "table": table, "samples": samples}


def _texts(report, found):
    explainer = found.explainer
    what = "how badly the model rebuilds it"
    if not hasattr(explainer, "residuals"):
        what = f"what {report.facts_.name} says of it"
    first = f"A score says how abnormal a sample is: {what}. "
    n = counted(found.n_calibration, "sample")
    if found.own:
        first += (
            f"Its p-value is its rank among {n} that were set aside to be explained, as no normal "
            "ones were given to compare with: about 5% of these have p ≤ 0.05 whatever they are, "
            "and a small one says which of them are the least usual."
        )
        if report._was_fitted:
            first += (
                " The model came fitted: if it was trained on some of them and not on others, "
                "those that it knows look more normal than they are."
            )
    else:
        first += (
            f"Its p-value compares that with {n} which were given as normal, and on which the "
            "model must not have been trained: on its own training samples it does too well, and "
            f"everything new would look abnormal. No p-value is below "
            f"{1 / (found.n_calibration + 1):.2g}. "
            f"{sentence(found)}"
        )
    same = "the sample as the model rebuilds it"
    if explainer._references is None or explainer._references.name == "neighbors":
        same = "normal samples like it"
    if report._sample.kind == "table" and found.references is not None:
        same += " (its values are in brackets)"
    second = (
        f"Below are the {len(found.places)} least usual of the samples shown one by one. "
        "On the left, red makes the sample more abnormal, compared with "
        f"{same}. On the right is what moves its representation: that is another question, and "
        "often has another answer."
    )
    return [first, second]


def _segment(report, name):
    """Say in words where a segment is: "channel: t0-9" is in time steps 0 to 9 of it."""
    channel, _, steps = name.rpartition("t")
    first, last = (int(step) for step in steps.split("-"))
    times = report.time_names or range(last + 1)
    where = f"time steps {times[first]} to {times[last]}"
    channel = channel.partition(". ")[2].rstrip(": ")
    return f"{where} of {channel}" if channel else where


def _one_sample(report, i):
    found, shown, kind = report.anomalies_, report._shown, report._sample.kind
    place = found.places[i]
    sample, maps = _figures.rows(report, shown.samples)[place], found.maps[i]
    options = {"kind": kind, "channel_axis": report._sample.channel_axis}
    names, height = None, 2.4
    if found.explainer.groups_ is not None:
        options["group_index"] = found.explainer._features.players
    elif kind == "table":
        names = getattr(report.attributor_, "feature_names_in_", None)
        height = 0.8 + 0.3 * min(10, sample.size)
    n_channels = 1 if sample.ndim == 1 else sample.shape[report._sample.channel_axis or 0]
    if kind == "series":
        height = 0.6 + 2.6 * n_channels
    references, residuals = found.references, found.residuals
    display = AnomalyDisplay(
        sample,
        maps,
        reference=None if references is None else references[i],
        residuals=None if residuals is None or kind != "series" else residuals[i],
        feature_names=names,
        **_figures.series_names(report),
        **options,
    ).plot(ax=_figures.new_axes(height))
    title = _figures.sample_title(report, place)
    fact = sample_fact(found, shown.positions[place])
    most = int(np.abs(maps).argmax())
    where = ""
    if found.explainer.groups_ is not None:
        where = f" Most in {_segment(report, found.explainer.groups_[most])}."
    elif kind == "table":
        where = f" Most by “{_figures.feature_names(report)[most]}”."
    left = pieces.figure(_figures.data_uri(display.figure_), f"What is abnormal. {fact}{where}")
    right = pieces.figure(_figures.sample_figure(report, place), "What moves its representation.")
    return {"title": title, "text": fact + where, "left": left, "right": right}
