"""The report's section on concepts: which few numbers a model's output is made of."""

import contextlib
import warnings

import numpy as np
from sklearn.base import clone
from sklearn.utils import Bunch

from ..concepts import SRAEExplainer
from ..metrics import concept_orthogonality
from ..plotting import ConceptDisplay
from ..representation import unwrap
from ..utils import spread_places
from . import _compute, _figures, _words
from . import _pieces as pieces

_MAX_FIT = 5000
_MAX_CONCEPTS = 10
# Of heartbeats they rebuild as much as the paper's 800 and 100 units, in a quarter of the time.
_HIDDEN_LAYERS = (100,)
_N_MAPS = 50  # samples that the mean maps are of
_N_SHOWN = 3
_N_PANELS = 5
_THE_SAME = 0.9


def find_concepts(report, X, y, X_explain, rng):
    """Learn concepts of the report's model, and what they are worth.

    Parameters
    ----------
    report : RepresentationReport
        While it is fitted.
    X : ndarray or DataFrame of shape (n_train, ...)
        What they are learned from; a random part if it is large.
    y : ndarray of shape (n_train, ...) or None
        Labels, for splitters that look at them.
    X_explain : ndarray or DataFrame of shape (n_explained, ...)
        What they are tested on.
    rng : numpy.random.RandomState
        Randomness.

    Returns
    -------
    found : Bunch
        ``explainer``; ``n_learned``, from how many samples; ``faithfulness`` and
        ``reconstruction``, the two parts of its score; ``correlation``, mean absolute correlation
        of used concepts or None; ``outputs``, names of the targets; ``moves`` (n_targets,
        n_concepts), by how much a concept's standard deviation moves a target; ``maps``
        (n_concepts, ...), mean absolute attributions, of ``n_maps`` samples; ``shown``, a list of
        Bunches with ``place`` among the report's shown samples, ``target``, ``contributions``,
        counted from the baseline, and ``maps``.
    """
    explainer = SRAEExplainer(
        report.estimator_,
        n_concepts=_n_concepts(report.estimator_),
        hidden_layer_sizes=_HIDDEN_LAYERS,
    )
    explainer.set_params(**report._common(), channel_axis=report.channel_axis)
    explainer.set_params(net_params=_compute.training_options(report))
    explainer.set_params(**report.concept_params or {})
    with warnings.catch_warnings():
        # The page says it, and concepts cannot be fewer than one.
        warnings.filterwarnings("ignore", ".*so many concepts compress nothing")
        if "n_concepts" not in (report.concept_params or {}):
            size = _layer_size(explainer, X, y)
            explainer.set_params(n_concepts=max(1, min(explainer.n_concepts, size - 1)))
        learned = _compute.random_part(X, y, _MAX_FIT, rng)
        explainer.fit(*learned)
    faithfulness, reconstruction = explainer.score_parts(X_explain)
    values = np.asarray(explainer.transform(X_explain), dtype=np.float64)
    weights = np.atleast_2d(explainer.concept_weights_)
    correlation = None
    with contextlib.suppress(ValueError):  # fewer than two that are used and vary
        correlation = concept_orthogonality(
            explainer.transform(X_explain), active=explainer.active_concepts_
        )
    maps = _maps(report, explainer, _compute.random_part(X_explain, None, _N_MAPS, rng)[0])
    places = spread_places(len(report._shown.positions), _N_SHOWN)
    chosen = _compute.take(X_explain, report._shown.positions[places])
    own = zip(
        places,
        # From the baseline, as maps do: so a bar is the sum of its map.
        np.asarray(explainer.transform(chosen), dtype=np.float64)
        - explainer.baseline_concepts(chosen, report.baseline),
        _maps(report, explainer, chosen),
        _most_telling(report, explainer, chosen),
        strict=True,
    )
    return Bunch(
        explainer=explainer,
        n_learned=len(learned[0]),
        faithfulness=faithfulness,
        reconstruction=reconstruction,
        correlation=correlation,
        outputs=_output_names(report, explainer),
        moves=weights * values.std(axis=0),
        maps=np.abs(maps).mean(axis=0),
        n_maps=len(maps),
        shown=[
            Bunch(
                place=place,
                target=target,
                contributions=weights[target] * moved,
                maps=map_ * weights[target].reshape(-1, *[1] * (map_.ndim - 1)),
            )
            for place, moved, map_, target in own
        ],
    )


def _most_telling(report, explainer, X):
    """Choose the target that is shown of each sample.

    Of classes the one with the highest score; of other outputs the one that is furthest from its
    mean, in standard deviations.

    Returns
    -------
    targets : ndarray of int of shape (n_samples,)
        Positions among the explainer's targets.
    """
    values = explainer.target_values(X).reshape(len(X), -1)
    if not _compute.is_classifying(report.estimator_):
        values = np.abs(explainer.net_.module_.standardised(values))
    return values.argmax(axis=1)


def _maps(report, explainer, X):
    return explainer.concept_attributions(
        X, report.method_, method_params=report.method_params, baseline=report.baseline
    )


def _n_concepts(estimator):
    """As many as classes, so that a weighted sum of concepts can tell all scores, within bounds."""
    n_classes = len(getattr(unwrap(estimator), "classes_", ()))
    return int(np.clip(n_classes, 5, _MAX_CONCEPTS))


def _layer_size(explainer, X, y):
    """Count the numbers of the layer that concepts are made of, by a trial on a few samples."""
    few = slice(0, 50)
    trial = clone(explainer).set_params(
        n_concepts=1, hidden_layer_sizes=(), max_epochs=1, validation_split=None, verbose=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters of them the real fit says again
        trial.fit(_compute.take(X, few), None if y is None else y[few])
    return int(np.prod(trial.layer_shape_))


def _output_names(report, explainer):
    """Name the targets: scores of classes, by their names, where there is one for each output."""
    units, n_outputs = explainer._target.units, explainer._representation.n_units
    if units is None:
        return ["norm of the output"]
    classes = getattr(unwrap(report.estimator_), "classes_", ())
    names = [_words.label_name(label, report.target_names) for label in classes]
    if len(names) == 2 and n_outputs == 1:
        names = names[1:]
    if len(names) == n_outputs:
        return [f"score of {names[i]}" for i in units]
    return ["output"] if n_outputs == 1 else [f"output {i}" for i in units]


# -- what is written -----------------------------------------------------------------------------


def sentence(found):
    """Say in a sentence what the concepts are worth.

    Parameters
    ----------
    found : Bunch
        From `find_concepts`.

    Returns
    -------
    sentence : str
    """
    explainer = found.explainer
    n, used = len(explainer.active_concepts_), explainer.n_active_concepts_
    which = "1 concept" if n == 1 else f"{n} concepts"
    which += "" if used == n else f", of which {used} {'is' if used == 1 else 'are'} used,"
    s = "s" if n == 1 else ""
    what = (
        "the model's output"
        if explainer.target is None
        else f"the {' and the '.join(found.outputs)}"
    )
    told = f"tell{s} {what} with R² = {found.faithfulness:.2f}"
    rebuilt = f"and rebuild{s} what matters to it in the layer with R² = {found.reconstruction:.2f}"
    if explainer.beta == 0:
        verdict = "As beta is 0, nothing made them rebuild the layer: they may repeat the output."
    elif n >= np.prod(explainer.layer_shape_):
        verdict = (
            "There are as many concepts as numbers in the layer, so nothing is compressed and they "
            "explain nothing."
        )
    elif min(found.faithfulness, found.reconstruction) <= 0:
        verdict = (
            "An R² below 0 is worse than always giving the mean: no concepts were found. There may "
            "be too few samples or epochs (concept_params)."
        )
    elif min(found.faithfulness, found.reconstruction) >= 0.9 and _are_one(found):
        verdict = (
            f"But they all say nearly the same (they are correlated by {found.correlation:.2f}): "
            "the output is made of one concept, which is here several times."
        )
    elif min(found.faithfulness, found.reconstruction) >= 0.9:
        verdict = "So they may be read as what the output is made of."
    elif found.faithfulness >= 0.9:
        verdict = (
            "They tell the output, but the layer holds more than they do: what they miss of it is "
            "not shown here."
        )
    else:
        verdict = "So part of what the output depends on is not in them: read them as hints."
    return f"{which} {told} {rebuilt}, on the explained samples. {verdict}"


def _are_one(found):
    return found.correlation is not None and found.correlation >= _THE_SAME


def section(report):
    """Say what is in the section.

    Parameters
    ----------
    report : RepresentationReport
        Fitted, with concepts.

    Returns
    -------
    content : dict
        For its template.
    """
    found = report.concepts_
    explainer = found.explainer
    n = len(explainer.active_concepts_)
    text = (
        f"A small network turns {pieces.layer_name(explainer)} "
        f"({int(np.prod(explainer.layer_shape_)):,} numbers) into {n} "
        f"concept{'s' if n > 1 else ''}. The model's output is told by a weighted sum of them"
    )
    if explainer.beta > 0:
        text += (
            ", and the layer's numbers are rebuilt from them, so that they cannot merely repeat "
            "the output"
        )
    text += f". {_words.drawn_part(found.n_learned, report.facts_.n_train)}".rstrip()
    texts = [text, sentence(found)]
    if found.correlation is not None:
        texts.append(
            f"Two concepts are correlated by {found.correlation:.2f} on average (0: they say "
            "different things, 1: the same)."
        )
    caption = (
        f"Mean absolute attribution of each concept over {found.n_maps} explained samples, drawn "
        "at random; scaled to its largest."
    )
    note = (
        "Bars: what each concept adds to the named output, compared with the baseline. Maps: where "
        "in the sample that comes from; red adds, blue takes away."
    )
    if len(found.maps) > _N_PANELS:
        note += f" Of the {_N_PANELS} concepts that add or take most there is a map."
    return {
        "texts": texts,
        "figure": pieces.figure(overall_figure(report), _alt(report), caption),
        "table": _weights_table(found),
        "note": note,
        "samples": [_one_sample(report, one) for one in found.shown],
    }


def _alt(report):
    sentences = ["Where each concept looks: mean absolute attribution."]
    for i, importance in enumerate(report.concepts_.maps):
        where = _words.overall_sentence(
            importance, report._sample.kind, report._sample.channel_axis, _names(report)
        )
        sentences.append(f"Concept {i}: {where}")
    return " ".join(sentences)


def _names(report):
    return _figures.feature_names(report) if report._sample.kind == "table" else None


def _weights_table(found):
    rows = [
        [f"concept {i}", *(f"{value:+.3g}" for value in moves)]
        for i, moves in enumerate(found.moves.T)
    ]
    for row, used in zip(rows, found.explainer.active_concepts_, strict=True):
        row[0] += "" if used else " (not used)"
    caption = "By how much a concept that rises by its standard deviation moves the output"
    return pieces.table(["", *found.outputs], rows, caption, range(1, len(found.outputs) + 1))


def overall_figure(report):
    """Draw where each concept looks.

    Parameters
    ----------
    report : RepresentationReport
        Fitted, with concepts.

    Returns
    -------
    uri : str
    """
    maps = report.concepts_.maps
    labels = [f"concept {i}" for i in range(len(maps))]
    if report._sample.kind == "image":
        return _figures.heat_images(maps, labels, report._sample.channel_axis)
    return _figures.heat_rows(report, list(zip(labels, maps, strict=True)))


def _one_sample(report, one):
    shown = report._shown
    sample = _figures.rows(report, shown.samples)[one.place]
    kind, n = report._sample.kind, min(_N_PANELS, len(one.maps))
    title = _figures.sample_title(report, one.place)
    height = {"table": 1.7 * -(-n // 2), "series": 0.95 * n, "image": 1.6 * -(-(n + 1) // 3)}[kind]
    display = ConceptDisplay(
        sample,
        one.maps,
        one.contributions,
        kind=kind,
        channel_axis=report._sample.channel_axis,
        channel_names=report.channel_names,
        feature_names=getattr(report.attributor_, "feature_names_in_", None),
        n_top=4,
        n_maps=_N_PANELS,
    ).plot(ax=_figures.new_axes(0.8 + height, width=7.5))
    first = display.order_[0]
    output = report.concepts_.outputs[one.target]
    said = f"{title}: concept {first} moves the {output} most, by {one.contributions[first]:+.3g}."
    return {
        "title": f"{title} (contributions to the {output})",
        "figure": pieces.figure(_figures.data_uri(display.figure_), said),
    }
