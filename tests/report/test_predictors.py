"""Reports of classifiers, regressors and other models: what they say, and what speaks against."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.cluster import KMeans
from sklearn.datasets import load_diabetes, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest, RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import Bunch

from sklexplain.report import RepresentationReport, doubts, verdict
from sklexplain.report._predictions import sample_sentence
from sklexplain.report._words import agreement_sentence

from .test_report import check_page, options

pd = pytest.importorskip("pandas")

WINE = load_wine(as_frame=True)
NAMES = {0: "barolo", 1: "grignolino", 2: "barbera"}


def report_on(estimator, X, y=None, **changes):
    plain = options(n_examples=3, concepts=False, decoding=False)
    return RepresentationReport(estimator, **(plain | changes)).fit(X, y)


def explained(report, X, y):
    """Rows that were explained, found by their names."""
    rows = np.array(report.ids_, dtype=int)
    return X.iloc[rows], np.asarray(y)[rows]


def test_a_forest_is_explained_by_its_outputs(tmp_path, undrawn):
    forest = RandomForestClassifier(10, random_state=0).fit(WINE.data, WINE.target)
    report = report_on(forest, WINE.data, WINE.target, target_names=NAMES)
    assert report.method_ == "shapley_sampling"
    X, y = explained(report, WINE.data, WINE.target)
    found = report.predictions_
    np.testing.assert_array_equal(found.said, forest.predict(X))
    np.testing.assert_allclose(found.scores, forest.predict_proba(X))
    assert found.accuracy == accuracy_score(y, found.said)
    assert found.balanced == balanced_accuracy_score(y, found.said)
    # The map of a shown sample is of the class that the model names.
    change = forest.predict_proba(X) - forest.predict_proba(report.attributor_.mean_)
    for place, attributions in zip(
        report._shown.positions, report._shown.attributions, strict=True
    ):
        assert attributions.sum() == pytest.approx(change[place, found.own[place]], abs=1e-9)
    text = check_page(report.to_html(tmp_path / "report.html")).text
    assert "the probabilities that the model gives its classes: “barolo”" in text
    assert f"is right about {found.accuracy:.0%} of the 20 explained samples" in text
    assert "No gradients pass through this model" in text
    assert "The model says “" in text and "Red raises the probability of “" in text
    assert "For each output" in text


def test_two_classes_and_values(tmp_path, undrawn):
    X, y = load_diabetes(as_frame=True, return_X_y=True)
    report = report_on(RandomForestRegressor(5, random_state=0), X, y)
    assert report.method_ == "kernel_shap"
    rows, values = explained(report, X, y)
    assert report.predictions_.r2 == pytest.approx(
        r2_score(values, report.estimator_.predict(rows))
    )
    text = check_page(report.to_html(tmp_path / "report.html")).text
    assert "the value that the model predicts" in text and "Red raises the prediction" in text
    two = WINE.target.to_numpy() < 2
    model = make_pipeline(StandardScaler(), LogisticRegression())
    report = report_on(model, WINE.data[two], WINE.target[two].map(NAMES))
    assert report.method_ == "integrated_gradients"
    assert set(report.predictions_.said) <= {"barolo", "grignolino"}
    text = check_page(report.to_html(tmp_path / "report.html")).text
    assert "raises the probability of “grignolino”" in text


@pytest.mark.parametrize(
    "model",
    [KMeans(3, random_state=0, n_init=1), IsolationForest(n_estimators=10, random_state=0)],
)
def test_clusters_and_detectors(model, tmp_path, undrawn):
    report = report_on(model, WINE.data)
    assert report.predictions_ is None and report.method_ == "shapley_sampling"
    check_page(report.to_html(tmp_path / "report.html"))


def test_a_chosen_method_stays():
    report = report_on(PCA(2), WINE.data, method="saliency")
    assert report.method_ == "saliency"
    assert report_on(PCA(2), WINE.data).method_ == "integrated_gradients"


def test_what_cannot_be_rebuilt_does_not_cost_the_report(tmp_path, undrawn):
    X = WINE.data.where(np.random.RandomState(0).uniform(size=WINE.data.shape) > 0.05)
    report = report_on(make_pipeline(SimpleImputer(), StandardScaler(), PCA(2)), X)
    assert report.reconstruction_.train > 0.3
    check_page(report.to_html(tmp_path / "report.html"))

    class Odd(PCA):
        def inverse_transform(self, X):
            raise ValueError("not today")

    report = report_on(Odd(2).fit(WINE.data), WINE.data)
    assert report.reconstruction_ is None
    text = check_page(report.to_html(tmp_path / "report.html")).text
    assert "Samples could not be rebuilt: not today" in text


# -- what speaks against ---------------------------------------------------------------------------


def test_few_samples_and_bad_models_lower_the_verdict():
    good = report_on(PCA(2), WINE.data, n_explained=200)
    assert doubts(good) == [
        "“proline” alone has 100% of all importance: check that it is a "
        "measurement, and no identifier or label."
    ]
    X = StandardScaler().fit_transform(WINE.data)
    fine = report_on(PCA(2), X, n_explained=200)
    assert doubts(fine) == [] and verdict(fine.latent_shift_).level == "good"
    few = report_on(PCA(2), X[:20], n_explained=200)
    assert "few samples (16 to learn from, 4 explained)" in doubts(few)[0]
    judged = verdict(fine.latent_shift_, doubts(few))
    assert judged.level == "weak" and judged.heading.endswith("more to say")
    assert doubts(few)[0] in judged.sentence
    fine.reconstruction_.train = -0.5
    assert "no better than their mean would (R² = -0.50)" in doubts(fine)[0]
    rng = np.random.RandomState(0)
    bad = report_on(LinearRegression(), rng.normal(size=(80, 10)), rng.normal(size=80))
    assert bad.predictions_.r2 <= 0 and "predicts no better" in " ".join(doubts(bad))


def test_labels_that_are_represented_backwards_are_named():
    row = Bunch(label=-1, n=10, n_corpus=50, most=0.57, least=0.86, chance=0.36)
    other = Bunch(label=1, n=10, n_corpus=50, most=0.9, least=0.1, chance=0.64)
    agreement = Bunch(n_top=10, most=0.8, least=0.3, chance=0.5, classes=[row, other])
    sentence = agreement_sentence(agreement, {-1: "ill"})
    assert "“ill” is represented backwards: 86% of the least similar" in sentence
    assert "“1”" not in sentence


def test_groups_and_names_of_the_interface():
    X = WINE.data.set_index(pd.Index([f"wine {i}" for i in range(len(WINE.data))]))
    report = report_on(PCA(2), X)
    assert all(name.startswith("wine ") for name in report.ids_)
    groups = np.arange(len(X)) // 10
    report = report_on(PCA(2), np.asarray(X))
    report.fit(np.asarray(X), ids=[f"w{i}" for i in range(len(X))], groups=groups)
    known = {int(name[1:]) // 10 for name in np.ravel(report._neighbours.ids)}
    assert not known & {int(name[1:]) // 10 for name in report.ids_}
    with pytest.raises(ValueError, match="ids has 3 entries, but there are 178 samples"):
        report.fit(np.asarray(X), ids=[1, 2, 3])


def test_samples_explained_come_from_train_test_split():
    X = np.asarray(WINE.data)
    report = report_on(PCA(2), X, n_explained=1000)
    held = train_test_split(np.arange(len(X)), test_size=0.2, random_state=report.seed_)[1]
    np.testing.assert_array_equal(report.ids_.astype(int), np.sort(held))


def test_nothing_of_this_run_only_is_in_the_page(tmp_path, undrawn):
    model = PCA(2)
    model.callback = object()
    model.__class__ = type("Talking", (PCA,), {"__repr__": lambda self: f"<{object()!r}>"})
    page = check_page(report_on(model, WINE.data).to_html(tmp_path / "report.html"))
    assert "object" in page.text and " at 0x" not in page.text


@pytest.mark.filterwarnings("ignore::sklexplain.exceptions.SklexplainWarning")
def test_neighbours_that_tie_are_said_to(tmp_path, undrawn):
    """Two leaves: half of the known samples are alike to such a model."""
    stump = DecisionTreeClassifier(max_depth=1, random_state=0).fit(WINE.data, WINE.target > 0)
    report = report_on(stump, WINE.data, n_examples=1, n_explained=10)
    page = check_page(report.to_html(tmp_path / "report.html"))
    assert "all equally similar to the model" in page.text


WRITINGS = {
    "int": lambda y: y,
    "float": lambda y: y.astype(float),
    "float32": lambda y: y.astype(np.float32),
    "bool": lambda y: y.astype(bool),
    "object": lambda y: y.astype(object),
    "objects, floating": lambda y: y.astype(float).astype(object),
    "text": lambda y: y.astype(str),
}


@pytest.mark.parametrize("given", WRITINGS)
@pytest.mark.parametrize("fitted", ["int", "float", "float32", "bool", "text"])
def test_labels_are_compared_by_value(fitted, given):
    if ("text" in fitted and "bool" in given) or ("bool" in fitted and "text" in given):
        pytest.skip("no value is written like that")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = (X[:, 0] + 2.0 * rng.normal(size=60) > 0).astype(int)
    model = RandomForestClassifier(5, max_depth=2, random_state=0).fit(X, WRITINGS[fitted](y))
    report = report_on(model, X, WRITINGS[given](y), clusters=False)
    rows = np.asarray(report.ids_, dtype=int)
    said = model.predict(X[rows]) == model.classes_[1]
    found = report.predictions_
    assert found.accuracy == np.mean(said == y[rows]) < 1
    assert found.balanced == balanced_accuracy_score(y[rows], said)
    for place, label in enumerate(WRITINGS[given](y)[rows]):
        sentence = sample_sentence(found, place, label, str)
        assert ("which is the sample's label" in sentence) == (said[place] == y[rows][place])


def test_labels_that_are_no_classes_are_not_graded():
    X = np.random.default_rng(0).normal(size=(40, 3))
    model = RandomForestClassifier(5, random_state=0).fit(X, X[:, 0] > 0)
    others = np.array(["low", "high"])[(X[:, 0] > 0) * 1]
    assert report_on(model, X, others).predictions_.accuracy is None
    partly = report_on(model, X, np.where(X[:, 1] > 0, X[:, 0] > 0, 7), clusters=False)
    rows = np.asarray(partly.ids_, dtype=int)
    right = (X[rows, 1] > 0) & (model.predict(X[rows]) == (X[rows, 0] > 0))
    assert partly.predictions_.accuracy == right.mean()


@pytest.mark.parametrize("form", ["pandas", "polars"])
def test_scikit_learns_output_changes_nothing(form, tmp_path, undrawn):
    pytest.importorskip(form)
    pipeline = make_pipeline(StandardScaler(), PCA(2))

    def report():
        return report_on(pipeline, WINE.data, WINE.target, anomalies=True, clusters=True)

    expected = report()
    with config_context(transform_output=form):
        found = report()
        found.to_html(tmp_path / "report.html")
    np.testing.assert_allclose(found.attributions_, expected.attributions_, rtol=1e-6, atol=1e-9)
    assert found.label_agreement_ == expected.label_agreement_
    assert found.reconstruction_.train == pytest.approx(expected.reconstruction_.train)
    np.testing.assert_allclose(found.anomalies_.maps, expected.anomalies_.maps, rtol=1e-5)
    for one, other in zip(found.clusters_.classes, expected.clusters_.classes, strict=True):
        np.testing.assert_allclose(one.attributions, other.attributions, rtol=1e-5, atol=1e-8)
