"""Displays and reports of texts: drawn are the words, by the numbers that a vectoriser makes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sklexplain import (
    AnomalyAttributor,
    ClaDecExplainer,
    DKNNImportance,
    LabelFreeAttributor,
    SparseDictionary,
    SRAEExplainer,
)
from sklexplain.plotting import (
    AnomalyDisplay,
    AttributionDisplay,
    ConceptDisplay,
    DictionaryDisplay,
    ExampleDisplay,
    ImportanceDisplay,
    ReconstructionDisplay,
)
from sklexplain.report import RepresentationReport

TEXTS = [
    "the cat sat on the mat",
    "dogs and cats",
    "a dog ran in the park",
    "birds fly over the park",
    "the bird sang",
    "cats chase birds",
] * 6
Y = np.array([0, 1, 0, 1, 0, 1] * 6)
COUNTS = CountVectorizer().fit(TEXTS)
CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "array": np.asarray,
    "objects": lambda texts: np.array(texts, dtype=object),
    "series": pd.Series,
}

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklexplain.exceptions.SklexplainWarning", "ignore:integrated_gradients attributions"
)


def svd():
    return make_pipeline(CountVectorizer(), TruncatedSVD(2, random_state=0))


def classifier():
    return make_pipeline(CountVectorizer(), LogisticRegression())


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(params=CONTAINERS)
def texts(request):
    return CONTAINERS[request.param](TEXTS)


def counts_of(text):
    return dict(
        zip(COUNTS.get_feature_names_out(), COUNTS.transform([text]).toarray()[0], strict=True)
    )


def check_words(labels, text):
    """Check that labels say how often a text has each word."""
    known = counts_of(text)
    assert labels
    for label in labels:
        word, _, number = label.get_text().partition(" = ")
        assert float(number.partition(" ")[0]) == known[word]


def test_attribution_and_anomaly(texts):
    display = AttributionDisplay.from_estimator(
        LabelFreeAttributor(svd()).fit(texts), texts, index=-3
    )
    check_words(display.ax_.get_yticklabels(), TEXTS[-3])
    np.testing.assert_allclose(
        display.attributions, LabelFreeAttributor(svd()).fit(TEXTS).transform(TEXTS)[-3], rtol=1e-5
    )
    explainer = AnomalyAttributor(svd(), random_state=0).fit(texts)
    display = AnomalyDisplay.from_estimator(explainer, texts, index=4)
    check_words(display.ax_.get_yticklabels(), TEXTS[4])


def test_importance(texts):
    display = ImportanceDisplay.from_estimator(LabelFreeAttributor(svd()).fit(texts), texts)
    np.testing.assert_array_equal(display.X, COUNTS.transform(TEXTS).toarray())
    words = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert words[0] == COUNTS.get_feature_names_out()[display.order_[0]]


def test_examples(texts):
    explainer = DKNNImportance(svd()).fit(texts)
    display = ExampleDisplay.from_estimator(explainer, texts, X_train=texts, index=1, n_examples=2)
    cells = display.ax_.tables[0].get_celld()
    shown = {cells[i, -1].get_text().get_text(): i for i in range(1, 11)}
    assert list(shown)[:3] == ["and", "cats", "dogs"]  # words of these texts come first
    for word, i in shown.items():
        assert float(cells[i, 0].get_text().get_text()) == counts_of(TEXTS[1])[word]
    _, places = explainer.top_examples(TEXTS[1:2], 2)
    np.testing.assert_array_equal(
        display.examples, COUNTS.transform([TEXTS[i] for i in places[0]]).toarray()
    )
    with pytest.raises(ValueError, match="give X_train, what it was fitted on"):
        ExampleDisplay.from_estimator(explainer, texts)


def test_concepts_dictionaries_and_reconstructions(texts):
    short = {"max_epochs": 2, "random_state": 0}
    explainer = SRAEExplainer(classifier(), n_concepts=2, **short).fit(texts, Y)
    display = ConceptDisplay.from_estimator(explainer, texts, index=3)
    np.testing.assert_array_equal(display.sample, COUNTS.transform([TEXTS[3]]).toarray()[0])
    explainer = SparseDictionary(svd(), **short).fit(texts)
    display = DictionaryDisplay.from_estimator(explainer, texts, n_concepts=1, n_examples=2)
    _, places = explainer.top_examples(TEXTS, 2, concepts=[0])
    np.testing.assert_array_equal(
        display.examples[0], COUNTS.transform([TEXTS[i] for i in places[0]]).toarray()
    )
    explainer = ClaDecExplainer(classifier(), **short).fit(texts, Y)
    display = ReconstructionDisplay.from_estimator(explainer, texts, index=[2, 0])
    np.testing.assert_array_equal(display.inputs, COUNTS.transform([TEXTS[2], TEXTS[0]]).toarray())


@pytest.mark.parametrize(
    "model", [svd, classifier, lambda: make_pipeline(TfidfVectorizer(), LogisticRegression())]
)
def test_report(model, tmp_path):
    options = {"concept_params": {"max_epochs": 3}, "decoding_params": {"max_epochs": 3}}
    report = RepresentationReport(model(), random_state=0, n_explained=8, **options)
    page = report.fit(TEXTS, Y).to_html(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "What makes each label unlike the others" in page and "“cats”" in page
    for found in (report.anomalies_, report.clusters_, report.concepts_, report.decoding_):
        assert "reason" not in (found or ())
    numbers = make_pipeline(*[step for _, step in report.estimator_.steps[:1]]).transform(TEXTS)
    one = report.clusters_.classes[0]
    members = numbers.toarray()[np.setdiff1d(np.flatnonzero(one.label == Y), report.explained_)]
    np.testing.assert_allclose(one.sample, members.mean(axis=0), atol=1e-12)
