"""What a report's sections say; how they look is in the templates."""

import platform
import re

import numpy as np

from ..plotting import format_value
from . import _anomalies, _clusters, _concepts, _decoding, _figures, _predictions, _words
from . import _overall as _overall_figures
from . import _pieces as pieces
from ._pages import write_page

_PACKAGES = ("sklexplain", "scikit-learn", "torch", "skorch", "numpy", "matplotlib")
_LONGEST_REPR = 4000


def render(report):
    """Return a fitted report as an HTML document.

    Parameters
    ----------
    report : RepresentationReport
        Fitted.

    Returns
    -------
    html : str
    """
    sections = [
        ("summary", "In short", _summary),
        ("overall", _overall_heading(report), _overall),
        ("samples", "Samples one by one", _samples),
        ("anomalies", "What is abnormal, and where", _inside(_anomalies, "anomalies_")),
        ("trust", "Can the maps be trusted?", _trust),
        ("labels", "Do similar samples share their label?", _labels),
        ("clusters", _clusters_heading(report), _inside(_clusters, "clusters_")),
        ("concepts", "Which concepts its output is made of", _inside(_concepts, "concepts_")),
        ("decoding", "What a layer keeps of its input", _inside(_decoding, "decoding_")),
        ("glossary", "How to read this", _glossary),
        ("appendix", "Appendix: how to repeat this", _appendix),
    ]
    missing = {"labels": report.label_agreement_, "concepts": report.concepts_}
    missing |= {"decoding": report.decoding_, "anomalies": report.anomalies_}
    missing["clusters"] = report.clusters_
    facts = report.facts_
    with _figures.default_style():
        said = [
            {"name": name, "heading": heading, "template": name, **say(report)}
            for name, heading, say in sections
            if name not in missing or missing[name] is not None
        ]
    content = {
        "title": report.title,
        "subtitle": f"{facts.name} · {facts.created[:16].replace('T', ' ')}",
        "version": pieces.version_of("sklexplain"),
        "sections": said,
    }
    return write_page("report", content)


def _inside(module, attribute):
    """Return what says a section of something that may have been impossible."""

    def say(report):
        found = getattr(report, attribute)
        if "reason" in found:
            return {"template": "impossible", "reason": found.reason}
        return module.section(report)

    return say


# -- sections ----------------------------------------------------------------------------------


def _summary(report):
    facts, curve = report.facts_, report.latent_shift_
    verdict = _words.verdict(report.latent_shift_, _words.doubts(report))
    tiles = [
        (
            f"{curve.area_ratio:.2f} ×",
            "shift ratio: masking what the maps call important, against "
            "masking at random (1 = chance)",
        ),
    ]
    if report.label_agreement_ is not None:
        agreement = report.label_agreement_
        tiles.append(
            (
                pieces.percent(agreement.most),
                f"of the {agreement.n_top} most similar known samples share the label "
                f"(chance: {pieces.percent(agreement.chance)})",
            )
        )
    if report.reconstruction_ is not None and report.reconstruction_.train is not None:
        tiles.append(
            (
                f"{report.reconstruction_.train:.2f}",
                "R² of reconstruction on the training samples (1 = perfect)",
            )
        )
    tiles.append(
        (f"{facts.n_units:,}", f"numbers describe a sample of {facts.n_features:,} values")
    )
    items = [
        _model_sentence(facts),
        *_words.data_sentence(report),
        *_prediction_sentences(report),
        _overall_sentence(report),
        *report._remarks,
    ]
    if report.reconstruction_ is not None:
        items.append(_words.reconstruction_sentence(report.reconstruction_))
    if report.label_agreement_ is not None:
        items.append(_words.agreement_sentence(report.label_agreement_, report.target_names))
    parts = ((report.anomalies_, _anomalies), (report.concepts_, _concepts))
    for found, module in (*parts, (report.decoding_, _decoding)):
        if found is not None and "reason" not in found:
            items.append(module.sentence(found))
    return {
        "notes": report.notes,
        "verdict": verdict,
        "tiles": tiles,
        "findings": items,
        "caveats": _words.CAVEATS,
    }


def _prediction_sentences(report):
    """Say what is explained of a predictor, and how good it is."""
    found = report.predictions_
    if found is None:
        return []
    quality = _predictions.quality_sentence(found)
    return [
        _predictions.output_sentence(found, _names_of(report)),
        *([] if quality is None else [quality]),
    ]


def _names_of(report):
    """Return a function from labels to readable names."""
    return lambda label: _words.label_name(label, report.target_names)


def _model_sentence(facts):
    sentence = f"The model is {facts.name}"
    if len(facts.steps) > 1:
        sentence += f", the last step of {' → '.join(facts.steps)}"
    if facts.n_parameters:
        sentence += f", with {facts.n_parameters:,} weights"
    if facts.n_epochs:
        sentence += f", trained for {facts.n_epochs} epochs"
        if facts.n_epochs == facts.max_epochs:
            sentence += " (the most it was allowed: more might make it better)"
    return sentence + "."


def _overall_sentence(report):
    return _importance_sentence(report, report.feature_importances_)


def _importance_sentence(report, importance):
    names = report.time_names
    if report._sample.kind == "table":
        names = _figures.feature_names(report)
    return _words.overall_sentence(
        importance, report._sample.kind, report._sample.channel_axis, names, report.channel_names
    )


def _overall_heading(report):
    what = {"table": "columns", "series": "time steps", "image": "pixels"}[report._sample.kind]
    return f"Which {what} matter overall"


def _clusters_heading(report):
    clustered = report.clusters_ is not None and report.clusters_.get("clustered")
    return "What makes each cluster" if clustered else "What makes each label unlike the others"


def _overall(report):
    sentence = _overall_sentence(report)
    caption = {
        "table": "Mean absolute attribution of each column over the explained samples.",
        "series": "Above: the mean of the explained samples. Below: the mean absolute attribution "
        "of each time step. The shaded stretch is the shortest that has half of all importance.",
        "image": "Left: the mean of the explained samples. Right: mean absolute attribution of "
        "each pixel; lighter is more.",
    }[report._sample.kind]
    if report._sample.kind == "series" and _overall_figures.channel_scales(report).apart_:
        caption += " Channels differ too much for one scale: each has its own."
    panels = [_panel(None, _overall_figures.overall_figure(report), sentence, caption)]
    if report._sample.kind == "table" and report._explained_rows is not None:
        (right, left), unit = _figures.swarm_of(report)
        text = f"A point is a sample: to the right, its value {right}; to the left, it {left}."
        alt = f"Value and attribution of the most important columns, a point a sample. {text}"
        caption = f"{text} Colours are the column's values; grey: categories and gaps."
        panels.append(_panel("Which way", _figures.swarm_figure(report, unit), alt, caption))
    maps = report._unit_maps
    if maps is not None and len(maps) > 2 and report._sample.kind != "image":
        text = "Mean absolute attribution of each output, a row each, scaled to its largest value."
        panels.append(_panel("For each output", _figures.outputs_figure(report), text, text))
    per_class = report._class_importances
    if len(per_class) > 1 and report._sample.kind != "image":
        text = "The same for each label, one row each, scaled to the row's largest value. Rows of "
        text += "few samples (their number is in brackets) are uncertain."
        uri = _figures.class_figure(report)
        panels.append(_panel("For each label", uri, _class_alt(report), text))
    return {"sentence": sentence, "panels": panels}


def _panel(heading, uri, alt, caption):
    """Return a figure, and the heading above it."""
    return {"heading": heading, "figure": pieces.figure(uri, alt, caption)}


def _class_alt(report):
    sentences = ["Mean absolute attribution for each label."]
    for label, _, importance in report._class_importances:
        name = _words.label_name(label, report.target_names)
        if report._sample.kind == "series":
            time = _words.over_time(importance, report._sample.channel_axis)
            first, last = _words.half_window(time)
            times = report.time_names or range(len(time))
            sentences.append(f"{name}: half of it in time steps {times[first]} to {times[last]}.")
        else:
            sentences.append(
                f"{name}: most for {_figures.feature_names(report)[int(importance.argmax())]}."
            )
    return " ".join(sentences)


def _samples(report):
    shown = report._shown
    how = "drawn at random"
    if report.label_agreement_ is not None:
        how += ", from each label in turn"
    intro = (
        f"{len(shown.positions)} samples, {how}, not picked for looking good. Colours show what "
        "builds each sample's representation, compared with the baseline. "
        f"{_words.names_sentence(report)}"
    )
    if report.predictions_ is not None:
        intro = (
            f"{len(shown.positions)} samples, {how}, not picked for looking good. Colours show "
            "what speaks for what the model says of each, compared with the baseline. "
            f"{_words.names_sentence(report)}"
        )
    return {
        "intro": intro,
        "legend": _legend(report),
        "samples": [_one_sample(report, i) for i in range(len(shown.positions))],
    }


def _legend(report):
    entries = [("adds", "contributes"), ("neutral", "hardly matters"), ("takes", "works against")]
    if report._sample.kind == "series" and _figures.baseline_series(report) is not None:
        entries.append(("line", "baseline"))
    if report._sample.kind == "series" and report._shown.get("reconstructions") is not None:
        entries.append(("dash", "what the model rebuilds"))
    return entries


def _one_sample(report, i):
    title, facts = _figures.sample_title(report, i), _sample_facts(report, i)
    alt = f"{title}, coloured by attribution. {facts[0]}"
    figure = pieces.figure(_figures.sample_figure(report, i), alt)
    sample = {"title": title, "facts": facts, "figure": figure, "neighbour_table": None}
    if report._sample.kind == "table":
        return sample | {"neighbour_table": _neighbour_table(report, i)}
    neighbours = pieces.figure(_figures.neighbours_figure(report, i), _neighbours_alt(report, i))
    return sample | {"neighbour_figure": neighbours}


def _sample_facts(report, i):
    shown = report._shown
    facts = []
    if report.predictions_ is not None:
        found, place, names = report.predictions_, shown.positions[i], _names_of(report)
        label = None if shown.labels is None else shown.labels[i]
        facts.append(_predictions.sample_sentence(found, place, label, names))
        facts.append(_predictions.colour_sentence(found, place, names))
    importance = np.abs(shown.attributions[i])
    if importance.any():
        facts.append(_importance_sentence(report, importance))
    else:
        facts.append("Nothing is coloured: to the model, this sample is as the baseline.")
    if report.reconstruction_ is not None:
        rank = report.reconstruction_.error_rank[shown.positions[i]]
        n = report.reconstruction_.n_compared
        share = f"{rank:.0%}" if rank < 0.995 else "more than 99%"
        those = f"all of {n:,} training samples" if rank == 1 else f"{share} of training samples"
        facts.append(f"Its reconstruction error is larger than that of {those}.")
    if "p" in (report.anomalies_ or ()):
        facts.append(_anomalies.sample_fact(report.anomalies_, shown.positions[i]))
    closest = shown.importance[i]
    if len(closest) > 1 and closest[0] - closest[-1] <= 1e-6 * abs(closest[0]):
        facts.append(
            "The known samples shown are all equally similar to the model, and others may be as "
            "similar: these come first in the data."
        )
    if shown.isolation is not None and shown.isolation[i] >= 0.95:
        facts.append(
            "No known sample is really near: it is more isolated than "
            f"{shown.isolation[i]:.0%} of the known samples are among themselves."
        )
    return facts


def _neighbours_alt(report, i):
    shown = report._shown
    k = shown.importance.shape[1]
    if shown.neighbour_labels is None:
        return f"The sample and the {k} known samples that the model finds most similar."
    labels = [_words.label_name(label, report.target_names) for label in shown.neighbour_labels[i]]
    return f"The {k} known samples that the model finds most similar, labels: {', '.join(labels)}."


def _neighbour_table(report, i):
    """Return the most important columns of a sample and of its neighbours."""
    shown, names = report._shown, _figures.feature_names(report)
    k = shown.importance.shape[1]
    sample = _figures.rows(report, shown.samples)[i]
    neighbours = _figures.rows(report, shown.neighbours)[i * k : (i + 1) * k]
    columns = np.argsort(-np.abs(shown.attributions[i]), kind="stable")[:10]
    table = [[names[c], *(format_value(row[c]) for row in [sample, *neighbours])] for c in columns]
    if shown.neighbour_labels is not None:
        own = "?" if shown.labels is None else shown.labels[i]
        labels = [own, *shown.neighbour_labels[i]]
        table.insert(0, ["label", *(_words.label_name(x, report.target_names) for x in labels)])
    header = ["column", "this sample", *shown.neighbour_ids[i]]
    caption = "The sample and the known samples that the model finds most similar"
    return pieces.table(header, table, caption, numbers=range(1, len(header)))


def _trust(report):
    curve = report.latent_shift_
    verdict = _words.verdict(report.latent_shift_, _words.doubts(report))
    text = (
        "The test needs no labels: features are set to the training mean, first those that the "
        "maps call important, or unimportant, or random ones, and the distance is measured by "
        "which the representation moves. If the maps are right, the upper curve rises "
        "fast, the lower one stays low, and random masking is between them."
    )
    rows = [
        (f"{f:.0%}", *(f"{v:.3g}" for v in values))
        for f, *values in zip(curve.fractions, curve.most, curve.random, curve.least, strict=True)
    ]
    header = ["features masked", "most important", "random", "least important"]
    table = pieces.table(header, rows, "Shift of the representation", numbers=(1, 2, 3))
    alt = f"{verdict.heading}. {verdict.sentence} The values are in the table beside."
    caption = "The band is two standard deviations between random orders wide, to both sides."
    figure = pieces.figure(_figures.latent_shift_figure(report), alt, caption)
    texts = [text, f"{verdict.heading}: {verdict.sentence}"]
    return {"texts": texts, "figure": figure, "table": table}


def _labels(report):
    agreement, names = report.label_agreement_, report.target_names
    text = (
        "Labels were used for this check and to choose which samples are shown, not by the "
        "explanations. For each explained sample, "
        f"the {agreement.n_top} most and the {agreement.n_top} least similar known samples are "
        "looked at; chance is the label's share of the known samples."
    )
    rebuilt = dict(report.reconstruction_.classes) if report.reconstruction_ is not None else None
    header = ["label", "explained", "known", "most similar", "chance", "least similar"]
    rows = []
    for row in agreement.classes:
        cells = [_words.label_name(row.label, names), row.n, row.n_corpus]
        cells += [pieces.percent(row.most), pieces.percent(row.chance), pieces.percent(row.least)]
        if rebuilt is not None:
            r2 = rebuilt.get(row.label)
            cells.append("–" if r2 is None else f"{r2:.2f}")
        rows.append(cells)
    total = ["all", agreement.n, ""]
    total += [
        pieces.percent(agreement.most),
        pieces.percent(agreement.chance),
        pieces.percent(agreement.least),
    ]
    if rebuilt is not None:
        header.append("R²")
        overall = report.reconstruction_.explained
        total.append("–" if overall is None else f"{overall:.2f}")
    caption = "Share of known samples with the sample's own label"
    caption += ", and R² of reconstruction" if rebuilt is not None else ""
    table = pieces.table(header, [*rows, total], caption, numbers=range(1, len(header)))
    sentence = _words.agreement_sentence(agreement, names)
    return {"texts": [text, sentence], "table": table}


def _glossary(report):
    terms = list(_words.GLOSSARY)
    terms += _anomalies.TERMS if "p" in (report.anomalies_ or ()) else ()
    terms += _words.CONCEPT_TERMS if "explainer" in (report.concepts_ or ()) else ()
    has_reference = (report.decoding_ or {}).get("kept_reference") is not None
    terms += _words.DECODING_TERMS if has_reference else ()
    return {"terms": terms}


def _inner_settings(report):
    """Return what of the explainers of concepts and layers is not as the report's own settings."""
    own = {"estimator", "verbose", *report._common()}
    rows = []
    for title, found in (("concepts", report.concepts_), ("decoding", report.decoding_)):
        if "explainer" not in (found or ()):
            continue
        defaults = type(found.explainer)(None).get_params()
        params = found.explainer.get_params(deep=False)
        changed = {k: v for k, v in params.items() if k not in own and repr(v) != repr(defaults[k])}
        rows.append((title, ", ".join(f"{k}={v!r}" for k, v in changed.items()) or "defaults"))
        rows.append((f"{title}: layer", found.explainer.layer_))
    return rows


def _appendix(report):
    facts = report.facts_
    settings = [
        ("random_state", report.random_state),
        ("seed drawn from it", report.seed_),
        ("method", report.method_),
        *((f"method: {name}", value) for name, value in report.attributor_._engine.params.items()),
        ("baseline", report.baseline if isinstance(report.baseline, str) else "given"),
        ("centred", report.center),
        ("layer", "the model's own output" if report.layer is None else report.layer),
        *_inner_settings(report),
        ("shape of a sample", " × ".join(map(str, facts.shape))),
        ("samples explained", len(report.explained_)),
        ("fingerprint of training data", facts.data_hash),
        ("fingerprint of explained data", facts.explain_hash),
        ("threads", facts.n_threads),
        ("created", facts.created),
    ]
    versions = [
        ("Python", platform.python_version()),
        *((p, pieces.version_of(p)) for p in _PACKAGES),
    ]
    versions.append(("platform", platform.platform()))
    seconds = [(step, f"{value:.1f}") for step, value in report.timings_.items()]
    model = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(report.estimator_))  # of this run only
    if len(model) > _LONGEST_REPR:
        model = model[:_LONGEST_REPR] + " …"
    intro = "The same data, settings, seed, versions and number of threads give the same numbers."
    tables = [
        pieces.table(["setting", "value"], settings, "Settings"),
        pieces.table(["software", "version"], versions, "Versions"),
        pieces.table(["step", "seconds"], seconds, "Time taken", numbers=(1,)),
    ]
    return {"intro": intro, "tables": tables, "model": model}
