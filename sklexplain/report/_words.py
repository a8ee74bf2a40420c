"""The report's sentences: what the numbers mean, in plain language."""

import numpy as np
from scipy.integrate import trapezoid
from sklearn.utils import Bunch

from ..utils import visible_text
from ._compute import half_count, half_window
from ._numbers import entry_names

# From where on a ratio to chance is called clear. Below, it may be real and still of little use.
_CLEAR, _SLIGHT = 1.2, 1.05
_FEW = 30
_FEW_OF_LABEL = 10
_NOTHING = 0.01  # of the largest shift
_MANY_TIMES = 100  # more is not worth a number
_ALONE = 0.9  # share of all importance that one column or time step hardly has by right

CAVEATS = (
    "Attributions say what the model's representation depends on. They do not say that the model "
    "is right, nor what causes anything in the world.",
    "What counts as important depends on the baseline, that is, on what a sample is compared with. "
    "Another baseline can give another picture.",
    "Masking sets features to a mean and can make samples that never occur in reality; the test "
    "against chance shares this weakness with all methods of its kind.",
    "The shift ratio compares explanations of one model. It does not compare models.",
    "A similar known sample is similar to the model, not necessarily to an expert.",
)

GLOSSARY = (
    (
        "Representation",
        "The list of numbers (the code) by which the model describes a sample. Attributions and "
        "similar samples explain these numbers, not a diagnosis.",
    ),
    (
        "Attribution",
        "How much a time step, column or pixel contributes to the sample's representation, "
        "compared with the baseline. Red contributes, blue works against it, grey hardly matters. "
        "The strength of the colour counts more than its sign.",
    ),
    (
        "Baseline",
        "The sample that stands for 'nothing special'. Features equal to the baseline get no "
        "attribution.",
    ),
    (
        "Latent shift",
        "The distance by which the representation moves when features are masked. If the "
        "attributions are right, masking important features moves it further than masking as many "
        "features at random, and masking unimportant ones moves it less.",
    ),
    (
        "Shift ratio",
        "The area under the curve of the most important features over that of random masking. 1 is "
        "chance, 2 is twice as much.",
    ),
    (
        "Most similar known samples",
        "The known samples whose representations are nearest to this sample's representation.",
    ),
    (
        "R² of reconstruction",
        "How well the model can rebuild samples from their representation: 1 is perfectly, 0 is no "
        "better than always giving the mean of these samples, below 0 is worse than that.",
    ),
)

CONCEPT_TERMS = (
    (
        "Concept",
        "One of a few numbers that a small network makes of a layer, such that the model's output "
        "is a weighted sum of them. A concept has no name: look at where in a sample it comes from "
        "and at the samples in which it is large.",
    ),
)

DECODING_TERMS = (
    (
        "Reference",
        "The same network with weights of its own, which does not know the model's task. It shows "
        "what is lost by the architecture and the decoder, not by what the model learned.",
    ),
)


def verdict(curve, against=()):
    """Judge attributions by their latent-shift curve, and by what speaks against a good word.

    Parameters
    ----------
    curve : Bunch
        From `sklexplain.metrics.latent_shift_curve`.
    against : sequence of str, default=()
        Sentences from `doubts`.

    Returns
    -------
    result : Bunch
        ``level`` ("good", "weak" or "bad"), ``heading`` and ``sentence``.
    """
    judged = _verdict(curve)
    if judged.level == "good" and against:
        judged.level = "weak"
        judged.heading += ", but there is more to say"
    judged.sentence = " ".join([judged.sentence, *against])
    return judged


def doubts(report):
    """Say what makes a report worth less than its maps are.

    Parameters
    ----------
    report : RepresentationReport
        Fitted.

    Returns
    -------
    sentences : list of str
    """
    facts, sentences = report.facts_, []
    rebuilt = report.reconstruction_
    if rebuilt is not None and rebuilt.train is not None and rebuilt.train <= 0:
        sentences.append(
            "The model rebuilds the very samples it was given no better than their mean would "
            f"(R² = {rebuilt.train:.2f}): what it represents has little to do with them, however "
            "right the maps are."
        )
    quality = report.predictions_
    if quality is not None and quality.r2 is not None and quality.r2 <= 0:
        sentences.append(f"The model predicts no better than a mean would (R² = {quality.r2:.2f}).")
    few = [
        f"{n} {what}"
        for n, what in ((facts.n_train, "to learn from"), (len(report.explained_), "explained"))
        if n < _FEW
    ]
    if few:
        sentences.append(f"These are few samples ({', '.join(few)}): chance may have made this.")
    importance = report.feature_importances_
    if importance.size > 2 and importance.max() > _ALONE * importance.sum() > 0:
        names = entry_names(report)
        sentences.append(
            f"“{names[int(importance.argmax())]}” alone has "
            f"{importance.max() / importance.sum():.0%} of all importance: check that it is a "
            "measurement, and no identifier or label."
        )
    return sentences


def _verdict(curve):
    ratio = curve.area_ratio
    if not curve.random[-1] > 0:
        return Bunch(
            level="bad",
            heading="The representation does not react",
            sentence="Masking even all features does not move the representation: it seems to be "
            "constant, and there is nothing to explain.",
        )
    versus = _versus_random(curve)
    # By how much the ratio of a random order would vary if its ups and downs went all one way.
    spread = trapezoid(curve.random_std, curve.fractions) / trapezoid(curve.random, curve.fractions)
    if ratio >= _CLEAR and ratio > 1 + 2 * spread:
        heading = "The maps are clearly better than chance"
        return Bunch(level="good", heading=heading, sentence=versus)
    if ratio >= _SLIGHT:
        heading = "The maps are better than chance, but not by much"
        sentence = f"{versus} Read them as hints, and look at many samples."
        return Bunch(level="weak", heading=heading, sentence=sentence)
    return Bunch(
        level="bad",
        heading="The maps are no better than chance",
        sentence=f"{versus} Do not conclude anything from the coloured maps below.",
    )


def _versus_random(curve):
    """Compare with random masking, where there is something to compare."""
    fractions, most = np.asarray(curve.fractions), np.asarray(curve.most)
    at = max(int(np.abs(fractions - 0.1).argmin()), 1)
    # Beside the shift by all features, a few may do next to nothing, however they are chosen.
    moved = np.flatnonzero(most >= _NOTHING * most.max())
    at = max(at, int(moved[0]))
    share, chance = f"{fractions[at]:.0%}", curve.random[at]
    if not most[at] < _MANY_TIMES * chance:
        return (
            f"Masking the {share} most important features moves the representation; masking as "
            f"many at random hardly does (less than 1/{_MANY_TIMES} as far)."
        )
    return (
        f"Masking the {share} most important features moves the representation "
        f"{most[at] / chance:.1f} times as far as masking as many at random."
    )


def agreement_sentence(agreement, names=None):
    """Say in a sentence whether similar samples share their label.

    Parameters
    ----------
    agreement : Bunch
        From `label_agreement`.
    names : dict or None, default=None
        Readable names of labels.

    Returns
    -------
    sentence : str
    """
    sentence = (
        f"Of the {agreement.n_top} known samples that the model finds most similar, "
        f"{agreement.most:.0%} have the sample's own label; of the least similar, "
        f"{agreement.least:.0%}; by chance it would be {agreement.chance:.0%}."
    )
    if agreement.most < agreement.chance + 0.05:
        sentence += " So the representation says next to nothing about these labels."
    for row in agreement.classes:
        if row.n_corpus and row.least > row.chance + 0.05 and row.least > row.most:
            name = label_name(row.label, names)
            sentence += (
                f" “{name}” is represented backwards: {row.least:.0%} of the least similar samples "
                f"have that label, but {row.most:.0%} of the most similar (by chance "
                f"{row.chance:.0%})."
            )
            if row.n < _FEW_OF_LABEL:
                sentence += f" But that is of {counted(row.n, 'explained sample')} only."
    poor = [row for row in agreement.classes if row.most <= row.chance and row.n_corpus]
    if poor and agreement.most >= agreement.chance + 0.05:
        sentence += " It does not hold for every label; see the table."
    return sentence


def reconstruction_sentence(result):
    """Say in a sentence how well the model reconstructs.

    Parameters
    ----------
    result : Bunch
        The report's ``reconstruction_``.

    Returns
    -------
    sentence : str
    """
    sentence = "The model rebuilds "
    parts = []
    if result.train is not None:
        parts.append(f"the samples it was given to learn from with R² = {result.train:.2f}")
    if result.explained is not None:
        parts.append(f"the explained samples with R² = {result.explained:.2f}")
    sentence += " and ".join(parts) + "."
    if None not in (result.train, result.explained) and result.explained < result.train - 0.2:
        sentence += (
            " The gap is large: the explained samples differ from what the model knows, and it "
            "describes them badly. Its representation of them leaves much out."
        )
    elif result.train is not None and result.train < 0.5:
        sentence += " That is little: much of the data is not in the representation at all."
    return sentence


def overall_sentence(importance, kind, channel_axis, names=None, channels=None):
    """Say in a sentence where the importance is.

    Parameters
    ----------
    importance : ndarray of a sample's shape
        Mean absolute attribution.
    kind : {"table", "series", "image"}
        What a sample is.
    channel_axis : int or None
        The sample's axis that holds channels.
    names : list of str or None, default=None
        Names of columns, or of time steps.
    channels : list of str or None, default=None
        Names of a series' channels.

    Returns
    -------
    sentence : str
    """
    if not importance.sum() > 0:
        return "No feature matters: all attributions are 0."
    if kind == "table":
        count = half_count(importance)
        top = np.argsort(-importance, kind="stable")[: min(count, 5)]
        listed = ", ".join(f"“{names[i]}”" for i in top)
        more = "" if count <= 5 else f" and {count - 5} more"
        has = "has" if count == 1 else "have"
        columns = f"{counted(len(importance), 'column')} {has}"
        return f"{count} of {columns} half of all importance: {listed}{more}."
    if kind == "series":
        time = over_time(importance, channel_axis)
        first, last = half_window(time)
        share = (last - first + 1) / len(time)
        names = names or range(len(time))
        sentence = f"Half of all importance lies in time steps {names[first]} to {names[last]}, "
        if first == last:
            sentence = f"Half of all importance lies in time step {names[first]}, "
        verb = "is" if first == last else "are"
        sentence += f"which {verb} {share:.0%} of the series."
        return sentence + _channels(importance, channel_axis, channels)
    share = half_count(importance) / importance.size
    return f"Half of all importance lies in {share:.0%} of the pixels."


def _channels(importance, channel_axis, names):
    """Say which channels matter, if there are several."""
    if importance.ndim == 1 or importance.shape[channel_axis] == 1:
        return ""
    shares = importance.sum(axis=1 - channel_axis)
    shares = shares / shares.sum()
    names = names or [f"channel {i}" for i in range(len(shares))]
    order = np.argsort(-shares, kind="stable")[:3]
    listed = ", ".join(f"“{names[i]}” {shares[i]:.0%}" for i in order)
    more = f" (of {len(shares)} channels)" if len(shares) > 3 else ""
    return f" By channel: {listed}{more}."


def over_time(importance, channel_axis):
    """Return importance summed over channels.

    Parameters
    ----------
    importance : ndarray of a sample's shape
        Importance, not negative.
    channel_axis : int or None
        The axis to sum over, if there are two.

    Returns
    -------
    importance : ndarray of shape (time,)
    """
    return importance if importance.ndim == 1 else importance.sum(axis=channel_axis)


def data_sentence(report):
    """Say in a sentence or two what was learned from and what was explained.

    Parameters
    ----------
    report : RepresentationReport
        Fitted.

    Returns
    -------
    sentences : list of str
    """
    facts = report.facts_
    size, n_train = _size(report._sample), counted(facts.n_train, "sample")
    describes = f"describes each by {counted(facts.n_units, 'number')}"
    sentences = [f"The model learned from {n_train} of {size}, and {describes}."]
    if report._was_fitted:
        sentences = [
            f"The model was fitted before; it takes samples of {size} and {describes}. Baseline "
            f"and masks come from the {n_train} given here to learn from."
        ]
    n = len(report.explained_)
    of = "" if n == facts.n_explain else f", drawn at random from {facts.n_explain:,},"
    held = f"{counted(n, 'other sample')}{of} {'is' if n == 1 else 'are'} explained."
    if report._was_fitted:
        held += " Whether the model saw them when it was trained is not known here."
    else:
        held += " The model was not trained on them."
    sentences.append(held)
    if facts.corpus_is_train and report._was_fitted:
        sentences.append("Similar samples are looked up among those given here to learn from.")
    elif facts.corpus_is_train:
        sentences.append("Similar samples are looked up among those the model learned from.")
    else:
        sentences.append(
            f"Similar samples are looked up among {facts.n_corpus:,} known samples, not all of "
            "which the model learned from."
        )
    return sentences


def counted(n, noun):
    """Return a number and its noun, which agree."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def drawn_part(n, n_all):
    """Say that something was learned from a part of the training samples, if it was.

    Parameters
    ----------
    n, n_all : int
        How many it learned from, and how many there are.

    Returns
    -------
    text : str
        With a space behind, or nothing.
    """
    if n == n_all:
        return ""
    return f"It learned from {n:,} of the {n_all:,} training samples, drawn at random. "


def names_sentence(report):
    """Say what the names of samples are.

    Parameters
    ----------
    report : RepresentationReport
        Fitted.

    Returns
    -------
    sentence : str
    """
    if report.id_name is None:
        return "Samples are called by their index or position in the data."
    if report.id_name == "row":
        return "Samples are called by their row in the file; the first sample is row 1."
    return f"Samples are called by their “{report.id_name}”."


def _size(sample):
    shape, axis = sample.shape, sample.channel_axis
    if sample.kind == "table":
        return counted(shape[0], "column")
    if sample.kind == "series":
        if len(shape) == 1:
            return f"{shape[0]:,} time steps"
        channels = "1 channel" if shape[axis] == 1 else f"{shape[axis]} channels"
        return f"{shape[1 - axis]:,} time steps in {channels}"
    return " × ".join(map(str, shape)) + " values"


def label_name(label, names):
    """Return a label as readable text.

    Parameters
    ----------
    label : object
        The label.
    names : dict or None
        Readable names.

    Returns
    -------
    text : str
    """
    if isinstance(label, (float, np.floating)) and float(label).is_integer():
        label = int(label)  # equal and of the same hash, so it finds the same name
    return visible_text((names or {}).get(label, label))
