"""What makes each class, or each cluster, unlike the others: the report's section on them."""

import numpy as np
from sklearn.utils import Bunch

from ..attribution import LabelFreeAttributor
from ..plotting import AttributionDisplay, format_value, numbers_of
from ..representation import kind_of, unwrap
from ..utils import is_missing
from . import _compute, _figures, _words
from . import _pieces as pieces

_MOST_CLASSES = 5
_FEWEST = 5  # members
_MOST_FITTED = 1000
_MOST_MEMBERS = 40  # that a map is the mean of
_MOST_BLACK_BOX = 8


def labels_of(report, X, y):
    """Return what clusters, or classes, known samples are in.

    Parameters
    ----------
    report : RepresentationReport
        With a fitted model.
    X : ndarray or DataFrame
        Known samples.
    y : ndarray or None
        Their labels.

    Returns
    -------
    labels : ndarray or None
        None if there are none, or too many.
    clustered : bool
        Whether the model has made them.
    """
    estimator, clustered = report.estimator_, False
    model = unwrap(estimator)
    if hasattr(model, "get_params") and hasattr(estimator, "predict"):
        clustered = kind_of(model) in ("clusterer", "density_estimator")
    if clustered:
        y = np.asarray(estimator.predict(X))
    elif y is not None and _compute.has_values(estimator, y):
        y = None
    if y is None or y.ndim != 1 or len(np.unique(y)) < 2:
        return None, clustered
    few = len(np.unique(y)) <= _compute.MAX_CLASSES
    return (y if few else None), clustered


def contrast_clusters(report, X, y, rng):
    """Explain what makes the members of each class unlike the rest.

    Parameters
    ----------
    report : RepresentationReport
        With a fitted model.
    X : ndarray or DataFrame
        Known samples.
    y : ndarray or None
        Their labels.
    rng : numpy.random.RandomState
        Of what is drawn.

    Returns
    -------
    found : Bunch or None
        See `RepresentationReport.clusters_`.
    """
    X, y = _compute.random_part(X, y, _MOST_FITTED, rng)
    labels, clustered = labels_of(report, X, y)
    if labels is None:
        return None
    classes, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    large = [k for k in np.argsort(-counts, kind="stable") if counts[k] >= _FEWEST]
    if len(large) < 2:
        return None
    smooth = report.attributor_._representation.differentiable
    params = {"method": report.method_, "method_params": report.method_params}
    params |= {"baseline": report.baseline, "channel_axis": report.channel_axis, **report._common()}
    shown = []
    for k in large[:_MOST_CLASSES]:
        explainer = LabelFreeAttributor(
            report.estimator_, corpus={"label": int(k)}, foil="rest", **params
        ).fit(X, index)
        members, others = np.flatnonzero(index == k), np.flatnonzero(index != k)
        some = rng.permutation(members)[: _MOST_MEMBERS if smooth else _MOST_BLACK_BOX]
        maps = np.asarray(explainer.transform(_compute.take(X, np.sort(some))))
        maps = maps.reshape(len(some), *report.attributor_.input_shape_)
        shown.append(
            Bunch(
                label=classes[k],
                n=int(counts[k]),
                attributions=maps.mean(axis=0),
                sample=_typical(_figures.rows(report, _compute.take(X, members))),
                others=_typical(_figures.rows(report, _compute.take(X, others))),
            )
        )
    return Bunch(classes=shown, n=len(X), n_classes=len(classes), clustered=clustered)


def _typical(rows):
    """Means of numbers, and the most frequent of other values."""
    if rows.dtype.kind in "biuf":
        return np.nanmean(np.asarray(rows, dtype=np.float64), axis=0)
    return np.array([_middle(column) for column in rows.T], dtype=object)


def _middle(column):
    numbers = numbers_of(column)
    if numbers is None:
        known = [v for v in column if not is_missing(v)]
        return max(known, key=known.count) if known else None
    return float(numbers[~np.isnan(numbers)].mean()) if not np.isnan(numbers).all() else np.nan


# -- words and figures -------------------------------------------------------------------------


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
    found = report.clusters_
    what = "cluster that the model makes" if found.clustered else "label"
    more = ""
    if len(found.classes) < found.n_classes:
        more = (
            f" Shown are the {len(found.classes)} largest of {found.n_classes} that have at least "
            f"{_FEWEST} samples."
        )
    text = (
        f"For each {what}: what makes its samples, to the model, like each other and unlike the "
        f"rest of {_words.counted(found.n, 'known sample')}. Red makes them more so, blue less; "
        "maps are means over members and are compared with the baseline." + more
    )
    if not found.clustered:
        text += " The model was not asked for these labels: it may tell them apart badly."
    panels = [_panel(report, one) for one in found.classes]
    return {"template": "overall", "sentence": text, "panels": panels}


def _panel(report, one):
    names, kind = report.target_names, report._sample.kind
    label = str(one.label) if report.clusters_.clustered else _words.label_name(one.label, names)
    heading = f"{'Cluster ' if report.clusters_.clustered else ''}{label} (n = {one.n})"
    size = {"table": 0.8 + 0.28 * min(8, one.sample.size), "image": 2.4}
    n_channels = 1 if one.sample.ndim == 1 else one.sample.shape[report._sample.channel_axis or 0]
    display = AttributionDisplay(
        one.sample,
        one.attributions,
        kind=kind,
        channel_axis=report._sample.channel_axis,
        baseline=one.others if kind == "series" else None,
        feature_names=getattr(report.attributor_, "feature_names_in_", None),
        n_top=8,
        **_figures.series_names(report),
    ).plot(ax=_figures.new_axes(size.get(kind, 1.1 + 1.4 * n_channels)))
    caption = _caption(report, one)
    uri = _figures.data_uri(display.figure_)
    return {"heading": heading, "figure": pieces.figure(uri, f"{heading}. {caption}", caption)}


def _caption(report, one):
    kind = report._sample.kind
    if kind == "table":
        names, parts = _figures.feature_names(report), []
        for i in np.argsort(-np.abs(one.attributions), kind="stable")[:3]:
            own, rest = format_value(one.sample[i]), format_value(one.others[i])
            parts.append(f"“{names[i]}” ({own}; others {rest})")
        return f"Most by {', '.join(parts)}. Values are means, or the most frequent."
    where = _words.overall_sentence(
        np.abs(one.attributions),
        kind,
        report._sample.channel_axis,
        report.time_names,
        report.channel_names,
    )
    line = " Dotted: the mean of the others." if kind == "series" else ""
    return f"The mean member. {where}{line}"
