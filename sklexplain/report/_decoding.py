"""The report's section on decoding: what a layer keeps of its input."""

import warnings

import numpy as np
from sklearn.utils import Bunch

from ..decoding import ClaDecExplainer
from ..metrics import interpretability
from ..plotting import ReconstructionDisplay
from ..utils import spread_places
from . import _compute, _figures
from . import _pieces as pieces
from ._words import drawn_part

# Most samples a decoder learns from, most epochs and learning rate: convolutions take their time.
_LIMITS = {"table": (5000, 500, 1e-3), "series": (800, 40, 3e-3), "image": (800, 30, 3e-3)}
# Below this R² there is hardly anything rebuilt that could be compared.
_LITTLE = 0.1
# From this share of the variation on, one column is nearly all that R² of a table is about.
_DOMINANT = 0.8
_LINE = {"table": 30, "series": 22, "image": 13}  # characters above a sample
_N_SHOWN = {"table": 2, "series": 3, "image": 5}


def decode_layer(report, X, y, X_explain, rng):
    """Learn to decode a layer of the report's model, and what the decoder is worth.

    Parameters
    ----------
    report : RepresentationReport
        While it is fitted.
    X : ndarray or DataFrame of shape (n_train, ...)
        What it is learned from; a random part if it is large.
    y : ndarray of shape (n_train, ...) or None
        Labels, for ``class_target="y"`` and for splitters that look at them.
    X_explain : ndarray or DataFrame of shape (n_explained, ...)
        What it is tested on.
    rng : numpy.random.RandomState
        Randomness.

    Returns
    -------
    found : Bunch
        ``explainer``; ``n_learned``, from how many samples; ``agreement`` and ``kept``, the parts
        of its score; ``kept_reference``, the share of variation that the reference rebuilds,
        ``kept_by_model``, the share that the model itself rebuilds, if it can, and ``losses``, from
        `sklexplain.metrics.interpretability`; ``places`` of some of the report's shown samples, and
        what the ``display`` of them is made of.
    """
    n_rows, max_epochs, lr = _LIMITS[report._sample.kind]
    explainer = ClaDecExplainer(report.estimator_, decoder="small", lr=lr, max_epochs=max_epochs)
    explainer.set_params(**report._common(), channel_axis=report.channel_axis)
    explainer.set_params(net_params=_compute.training_options(report))
    explainer.set_params(**report.decoding_params or {})
    with warnings.catch_warnings():
        # The page says both, and what can be done about the second here.
        warnings.filterwarnings("ignore", "there is no reference")
        warnings.filterwarnings("ignore", ".* still improved when max_epochs=")
        X_train, y_train = _compute.random_part(X, y, n_rows, rng)
        explainer.fit(X_train, y_train)
    agreement, kept = explainer.score_parts(X_explain)
    # With other seeds beside: what these differ by is not the model's doing.
    seeds = {}
    if explainer.reference_decoder_ is not None:
        seeds = {"X_train": X_train, "y_train": y_train, "random_state": explainer.seed_}
    losses = interpretability(explainer, X_explain, **seeds)
    kept_reference = None
    if losses.reference is not None:
        total = losses.explanation / (1 - kept) if kept < 1 else 0.0
        kept_reference = 1 - losses.reference / total if total > 0 else kept
    found = Bunch(
        explainer=explainer,
        n_learned=len(X_train),
        agreement=agreement,
        kept=kept,
        kept_reference=kept_reference,
        kept_by_model=None if report.reconstruction_ is None else report.reconstruction_.explained,
        losses=losses,
        balanced=None,
        n_classes=None,
        largest=_largest_column(explainer) if report._sample.kind == "table" else None,
    )
    if explainer.task_ == "classification":
        with explainer._door(X_explain) as inputs:
            said = explainer._predicted(inputs)
        classes = np.unique(said.given)
        found.n_classes = len(classes)
        shares = [np.mean(said.rebuilt[said.given == c] == c) for c in classes]
        found.balanced = float(np.mean(shares))
    found.update(_rebuilt(report, explainer))
    return found


def _rebuilt(report, explainer):
    """Rebuild some of the shown samples, so that nothing is left to compute for drawing."""
    shown, kind = report._shown, report._sample.kind
    n = min(_N_SHOWN[kind], len(shown.positions))
    places = spread_places(len(shown.positions), n)
    explanation = explainer.explain(_compute.take(shown.samples, places))
    display = {
        "inputs": explanation.input,
        "reconstructions": explanation.reconstruction,
        "references": explanation.reference,
    }
    if kind == "table":
        mean, deviation = explainer._spread
        display["feature_names"] = explainer.get_feature_names_out()
        display["center"], display["scale"] = mean, np.where(deviation > 0, deviation, 1.0)
    return {"places": places, "display": display}


def _largest_column(explainer):
    """Name the column that has most of the variation that R² counts, and its share."""
    variance = np.square(explainer._deviation)
    names = explainer.get_feature_names_out()
    i = int(variance.argmax())
    return Bunch(name=str(names[i]), share=float(variance[i] / (variance.sum() or 1)))


# -- what is written -----------------------------------------------------------------------------


def sentence(found):
    """Say in a sentence what the layer keeps.

    Parameters
    ----------
    found : Bunch
        From `decode_layer`.

    Returns
    -------
    sentence : str
    """
    text = f"From {_layer(found)}, samples can be rebuilt with R² = {found.kept:.2f}"
    if found.kept_reference is None:
        text += "."
    else:
        random = found.explainer.reference == "random"
        learned = "has not learned anything" if random else "has learned nothing else"
        text += (
            f", from a network of the same architecture that {learned} with R² = "
            f"{found.kept_reference:.2f}. {_compared(found, random)}"
        )
    if found.largest is not None and found.largest.share > _DOMINANT:
        text += (
            f" R² is nearly that of the column “{found.largest.name}” alone, which has "
            f"{found.largest.share:.0%} of the variation: scale columns in front of the model "
            "(StandardScaler) to see the others."
        )
    return f"{text} {_agreement(found)}"


def _compared(found, random):
    """Say what the layer's reconstruction is worth beside the reference's."""
    low, high = found.losses.interval or (-np.inf, np.inf)
    if max(found.kept, found.kept_reference) < _LITTLE:
        return (
            "Neither rebuilds much: the samples are mostly noise to such a network, or there were "
            "too few of them, so the difference says little."
        )
    if low <= 0 <= high:
        return (
            "The two cannot be told apart: other first weights, or other samples, would make as "
            "much of a difference."
        )
    unfinished = _ended_at_the_limit(found.explainer)
    if unfinished:
        return (
            f"Training of the {' and the '.join(unfinished)} ended at the most epochs that were "
            "allowed, so the difference says nothing of the model."
        )
    if random:
        return (
            f"So what the model has learned makes the layer keep {'less' if low > 0 else 'more'}."
        )
    if low > 0:
        return _dropped(found)
    return (
        "This reference keeps less than the model: it was trained too briefly, or on too few "
        "samples, to be compared with."
    )


def _dropped(found):
    """Say what it means that the decoder rebuilds less: it only shows what is kept at least."""
    others = {
        "the model's own decoder": found.kept_by_model,
        "a linear regression on the same numbers": found.explainer.ridge_kept_,
    }
    for name, kept in others.items():
        if kept is not None and kept >= found.kept_reference:
            return (
                f"But {name} rebuilds samples with R² = {kept:.2f}: what is missing here is the "
                "decoder's failing, and nothing is shown to be dropped."
            )
    return "So the model has dropped what such a network could have kept."


def _agreement(found):
    """Say whether the model takes rebuilt samples for what it takes the samples for."""
    if found.explainer.task_ == "multilabel":
        text = (
            f"The model gives {found.agreement:.0%} of the rebuilt samples all the labels that it "
            "gives the samples themselves"
        )
        share = found.agreement
    elif found.balanced is None:
        text = (
            "What the model predicts from rebuilt samples agrees with what it predicts from the "
            f"samples themselves by R² = {found.agreement:.2f}"
        )
        share = found.agreement
    elif found.n_classes == 1:
        return "The model gives all these samples one class: what it goes by cannot be tested."
    else:
        text = (
            f"The model gives {found.agreement:.0%} of the rebuilt samples the class that it gives "
            f"the samples themselves ({found.balanced:.0%} on average over classes)"
        )
        share = found.balanced
    if share < 0.8:
        return f"{text}: the decoder leaves out much of what the model goes by."
    return f"{text}: what it goes by is still there."


def _layer(found):
    return pieces.layer_name(found.explainer)


def section(report):
    """Say what is in the section.

    Parameters
    ----------
    report : RepresentationReport
        Fitted, with a decoded layer.

    Returns
    -------
    content : dict
        For its template.
    """
    found = report.decoding_
    small = "small " if found.explainer.decoder == "small" else ""
    text = (
        f"A {small}decoder was trained to turn {_layer(found)} back into the sample. "
        f"{drawn_part(found.n_learned, report.facts_.n_train)}"
        "What it cannot rebuild is not there, or not needed by the model, or beyond this kind of "
        "decoder."
    )
    if found.explainer.reference == "random" and found.kept_reference is not None:
        text += (
            " Beside it stands the same network with weights that were drawn and not trained, with "
            "the same decoder: where the two differ, in the last row, is what training has made."
        )
    elif found.kept_reference is not None:
        text += (
            " To tell these apart there is a reference: the same network, trained from new weights "
            "to rebuild samples and nothing else, with the same decoder. Only where the two "
            "differ, in the last row, does it say something of the model."
        )
    texts = [text, sentence(found)]
    unfinished = _unfinished(found.explainer)
    if unfinished:
        texts.append(unfinished)
    return {"texts": texts, "figure": _figure(report), "table": _loss_table(found)}


def _unfinished(explainer):
    which = _ended_at_the_limit(explainer)
    if not which:
        return None
    return (
        f"Training of the {' and the '.join(which)} ended after {explainer.max_epochs} epochs, the "
        "most that were allowed: more (decoding_params={'max_epochs': ...}) might rebuild more."
    )


def _ended_at_the_limit(explainer):
    """Name what was trained for as many epochs as were allowed."""
    epochs = {"decoder": explainer.n_epochs_, "reference": explainer.reference_n_epochs_}
    return [name for name, n in epochs.items() if n == explainer.max_epochs]


def _figure(report):
    found, kind = report.decoding_, report._sample.kind
    n = len(found.places)
    n_rows = 3 + (found.display["references"] is not None)
    height = {"table": 2.6, "series": 1.1, "image": 1.15}[kind]
    width = {"table": 7.5, "series": 7.5, "image": 1.0 + 1.3 * n}[kind]
    display = ReconstructionDisplay(
        **found.display,
        kind=kind,
        channel_axis=report._sample.channel_axis,
        channel_names=report.channel_names,
        titles=[_figures.sample_title(report, place, _LINE[kind]) for place in found.places],
    ).plot(ax=_figures.new_axes(0.4 + height * n_rows, width=width))
    rows = "input, reference, reconstruction" if n_rows == 4 else "input, reconstruction"
    alt = f"{n} samples: {rows} and difference. {sentence(found)}"
    caption = f"From above: {rows}; last, what the reconstruction has more or less than the "
    caption += "reference." if n_rows == 4 else "input."
    if kind == "table":
        caption += " In standard deviations of each column; those that differ most."
    return pieces.figure(_figures.data_uri(display.figure_), alt, caption)


def _loss_table(found):
    losses = found.losses
    rows = [["this layer", f"{losses.explanation:.4g}", f"{found.kept:.2f}"]]
    if found.kept_reference is not None:
        rows.append(["reference", f"{losses.reference:.4g}", f"{found.kept_reference:.2f}"])
        low, high = losses.interval or (np.nan, np.nan)
        difference = f"{losses.difference:.4g} ({low:.4g} to {high:.4g})"
        rows.append(["difference, 95 % interval", difference, ""])
    caption = "Squared error of a sample, summed over its values, and R²"
    if losses.interval is not None:
        caption += (
            f". The difference is the mean over {len(losses.references)} decoders and references "
            "from other first weights, and its interval counts what these differ by"
        )
    return pieces.table(["rebuilt from", "squared error", "R²"], rows, caption, (1, 2))
