"""Arguments that would make a measure say something of nothing."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from torch import nn

from sklexplain import (
    ClaDecExplainer,
    DKNNImportance,
    LabelFreeAttributor,
    SimplExImportance,
    TracInImportance,
)
from sklexplain.exceptions import SklexplainWarning
from sklexplain.metrics import evaluation_accuracy, locality, similarity_rate
from sklexplain.utils import seeded

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(6, 3, 4))
X = RNG.normal(size=(30, 4))


@pytest.mark.parametrize("parts", [None, "x", 5, [1], [0, 0, 0, 0], [[2]], {"a": [0, 1, 2, 3]}])
def test_locality_in_one_part(parts):
    with pytest.raises((ValueError, TypeError), match="part"):
        locality(MAPS, parts)


def test_locality_in_two_parts_equals_a_loop():
    entropies = []
    for concept in range(3):
        shares = []
        for sample in MAPS:
            m = np.abs(sample[concept])
            shares.append([m[:2].sum() / m.sum(), m[2:].sum() / m.sum()])
        mean = np.mean(shares, axis=0)
        entropies.append(-(mean * np.log(mean)).sum())
    assert locality(MAPS, [0, 0, 1, 1]) == pytest.approx(np.mean(entropies), rel=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, None, np.datetime64("NaT")])
@pytest.mark.parametrize("which", ["y_train", "y_test"])
def test_labels_that_are_missing(bad, which):
    explainer = ClaDecExplainer(
        PCA(2), reference=None, max_epochs=1, validation_split=None, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one epoch is few
        explainer.fit(X)
    y = np.arange(30) % 2
    if isinstance(bad, float):
        broken = y.astype(float)
    elif bad is None:
        broken = y.astype(object)
    else:
        broken = np.array(["2020-01-01", "2021-01-01"], "datetime64[D]")[y]
    broken[7] = bad
    labels = {"y_train": y, "y_test": y, which: broken}
    with pytest.raises(ValueError, match=f"{which} holds .* for sample 7"):
        evaluation_accuracy(explainer, X, labels["y_train"], X, labels["y_test"])


@pytest.mark.parametrize(
    "method", ["feature_ablation", "occlusion", "shapley_sampling", "kernel_shap", "lime"]
)
def test_attributions_too_large_for_their_dtype(method):
    torch.manual_seed(0)
    explainer = LabelFreeAttributor(nn.Linear(4, 3), method=method).fit(X.astype(np.float32))
    with pytest.raises(ValueError, match="of sample 1 are too large for float32"):
        explainer.transform(np.float32([[1] * 4, [1e30] * 4]))


@pytest.mark.parametrize("which", [0, 1])
def test_missing_labels_of_examples(which):
    labels = [np.zeros(2), np.zeros(3)]
    labels[which][1] = np.nan
    with pytest.raises(ValueError, match="contains nan, first at 1"):
        similarity_rate(np.ones((2, 3)), *labels, n_top=1)


# -- labels that can never be equal


NUMBERS = np.arange(30) % 3
FORMS = {
    "text": NUMBERS.astype(str),
    "text in objects": NUMBERS.astype(str).astype(object),
    "bytes": NUMBERS.astype("S"),
    "dates": NUMBERS.astype("M8[D]"),
}


def similarity(y):
    return similarity_rate(np.eye(30), NUMBERS, y, n_top=1)


def dknn(y):
    return DKNNImportance(PCA(2), n_neighbors=5).fit(X, NUMBERS).score(X, y)


def simplex(y):
    return SimplExImportance(PCA(2), max_iter=5).fit(X, NUMBERS).score(X, y)


def tracin(y):
    with seeded(0):
        net = nn.Linear(4, 4).double()
    return TracInImportance(net, parameters="all").fit(X, NUMBERS).score(X, y)


def accuracy(y):
    explainer = ClaDecExplainer(PCA(2), reference=None, max_epochs=1, validation_split=None).fit(X)
    given = (explainer, X, NUMBERS, X, y)
    return evaluation_accuracy(*given, classifier=LogisticRegression()).explanation


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("measure", [similarity, dknn, simplex, tracin, accuracy])
@pytest.mark.parametrize("form", FORMS)
def test_labels_of_another_type_are_refused(measure, form):
    expected = measure(NUMBERS)
    said = form.split()[0]
    with pytest.raises(ValueError, match=rf"holds {said} .*in one form|and \w+ holds {said} "):
        measure(FORMS[form])
    # Those in objects, or of other precision, are the same labels.
    for same in (NUMBERS.astype(object), NUMBERS.astype(float), NUMBERS.astype(np.int8)):
        if measure is not accuracy:
            assert measure(same) == expected


def test_text_matches_text_whatever_holds_it():
    labels = NUMBERS.astype(str)
    for kind in (object, "U9"):
        assert similarity_rate(np.eye(30), labels, labels.astype(kind), n_top=1) == 1.0


def test_several_classes_of_which_none_is_known():
    with pytest.warns(SklexplainWarning, match=r"no label in y_query \(10, 11 and so on\)"):
        assert similarity_rate(np.eye(30), NUMBERS + 10, NUMBERS, n_top=1) == 0
    explainer = DKNNImportance(PCA(2)).fit(X, NUMBERS)
    with pytest.warns(SklexplainWarning, match="among those in the y of fit") as caught:
        assert explainer.score(X, NUMBERS + 10) == 0
    assert len(caught) == 1  # however many blocks there are
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one class, which the examples may lack
        assert similarity_rate(np.eye(30), np.full(30, 10), NUMBERS, n_top=1) == 0
        assert similarity_rate(np.eye(30), NUMBERS + 2, NUMBERS, n_top=1) < 1
        # Each sample has a label of its own.
        assert similarity_rate(np.eye(30), np.arange(10, 40), NUMBERS, n_top=1) == 0
