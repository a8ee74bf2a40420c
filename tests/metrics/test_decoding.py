"""What reconstructions are worth."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from sklexplain import ClaDecExplainer
from sklexplain.metrics import (
    evaluation_accuracy,
    evaluation_accuracy_scorer,
    interpretability,
    interpretability_scorer,
)
from sklexplain.utils import draw_seed

OPTIONS = {"validation_split": None, "max_epochs": 10, "lr": 0.01, "random_state": 0}


@pytest.fixture(scope="module")
def data():
    X, y = load_iris(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    order = np.random.RandomState(0).permutation(150)
    return X[order].astype(np.float32), y[order]


def module():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.fixture(scope="module")
def explainer(data):
    return ClaDecExplainer(LogisticRegression().fit(*data), **OPTIONS).fit(data[0])


def split(data):
    X, y = data
    return X[:90], y[:90], X[90:], y[90:]


def test_accuracies_are_those_of_classifiers_fitted_by_hand(explainer, data):
    X, y, X_test, y_test = split(data)
    result = evaluation_accuracy(explainer, X, y, X_test, y_test, random_state=0)
    for name in ("explanation", "reference"):
        reconstruct = (
            explainer.transform if name == "explanation" else explainer.transform_reference
        )
        learned = LogisticRegression().fit(reconstruct(X), y)
        correct = learned.predict(reconstruct(X_test)) == y_test
        np.testing.assert_array_equal(result[f"correct_{name}"], correct)
        assert result[name] == correct.mean()
    assert result.difference == pytest.approx(result.explanation - result.reference)
    low, high = result.interval
    assert low <= result.difference <= high


def score_by_search(difference, gained, lost, n):
    """Score statistic at a difference, its share of the lost found by the largest likelihood."""
    share = np.linspace(max(0, -difference), (1 - difference) / 2, 2001)[1:-1]
    rest = np.maximum(1 - 2 * share - difference, 1e-300)
    likelihood = gained * np.log(share + difference) + lost * np.log(share)
    likelihood += (n - gained - lost) * np.log(rest)
    best = share[np.argmax(likelihood)]
    variance = (2 * best + difference - difference**2) / n
    return ((gained - lost) / n - difference) / np.sqrt(variance)


def test_interval_and_p_value(explainer, data, monkeypatch):
    answers = [np.arange(60) % 3 > 0, np.arange(60) % 4 > 1]
    y = np.zeros(60, dtype=int)

    class Fixed(LogisticRegression):
        n_fits = 0

        def fit(self, X, y):
            self.said_ = np.where(answers[Fixed.n_fits], 0, 1)
            Fixed.n_fits += 1
            return self

        def predict(self, X):
            return self.said_

    result = evaluation_accuracy(
        explainer, data[0], data[1], data[0][:60], y, classifier=Fixed(), random_state=0
    )
    a, b = answers
    gained, lost = np.sum(a & ~b), np.sum(b & ~a)
    expected = stats.chi2.sf((gained - lost) ** 2 / (gained + lost), 1)
    assert result.p_value == pytest.approx(expected)
    # All differences that the score test does not reject, one at a time.
    grid = np.linspace(-0.45, 0.45, 1801)
    kept = grid[[abs(score_by_search(d, gained, lost, 60)) <= stats.norm.ppf(0.975) for d in grid]]
    np.testing.assert_allclose(result.interval, (kept[0], kept[-1]), atol=1e-3)
    assert result.balanced_explanation == result.explanation  # a single class
    Fixed.n_fits = 0
    narrow = evaluation_accuracy(
        *(explainer, data[0], data[1], data[0][:60], y),
        classifier=Fixed(),
        confidence_level=0.5,
        random_state=0,
    )
    assert np.diff(narrow.interval) < np.diff(result.interval)


@pytest.mark.parametrize("kind", ["module", "instance", "class", "pipeline"])
def test_fresh_classifiers_of_the_explained_architecture(kind, data):
    X, y, X_test, y_test = split(data)
    net = module()
    if kind == "pipeline":
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    elif kind == "module":
        model = net
    else:
        given = net if kind == "instance" else Net
        model = NeuralNetClassifier(
            given,
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=0.02,
            max_epochs=20,
            train_split=None,
            verbose=0,
        )
        with torch.random.fork_rng(devices=[]):
            model.fit(X, y)
    explainer = ClaDecExplainer(model, **OPTIONS).fit(X)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    result = evaluation_accuracy(explainer, X, y, X_test, y_test, random_state=0)
    again = evaluation_accuracy(explainer, X, y, X_test, y_test, random_state=0)
    np.testing.assert_array_equal(result.correct_explanation, again.correct_explanation)
    assert torch.equal(state[0], torch.get_rng_state())
    assert np.array_equal(state[1], np.random.get_state()[1])
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert result.reference > 0.5
    # Random labels cannot be learned: what was learned before is not there any more.
    rng = np.random.default_rng(0)
    if kind != "module":
        shuffled = rng.permutation(y)
        lost = evaluation_accuracy(explainer, X, shuffled, X_test, y_test, random_state=0)
        assert lost.explanation < result.explanation


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def test_columns_by_name(data):
    X = pd.DataFrame(data[0].astype(np.float64), columns=list("abcd"))
    scale = ColumnTransformer(
        [("ab", StandardScaler(), ["a", "b"]), ("cd", StandardScaler(), [2, 3])]
    )
    model = make_pipeline(scale, LogisticRegression()).fit(X, data[1])
    explainer = ClaDecExplainer(model, **OPTIONS).fit(X)
    by_name = evaluation_accuracy(explainer, X, data[1], X, data[1], random_state=0)
    by_number = evaluation_accuracy(
        explainer, X, data[1], X, data[1], classifier=LogisticRegression(), random_state=0
    )
    assert by_name.explanation == pytest.approx(by_number.explanation, abs=0.05)
    score = evaluation_accuracy_scorer(random_state=0)
    assert score(explainer, X, data[1]) > 0.7


def test_weights_of_an_instance_are_drawn_anew(data):
    X, y, X_test, y_test = split(data)
    trained = NeuralNetClassifier(
        module(), criterion=nn.CrossEntropyLoss, lr=0.1, max_epochs=60, train_split=None, verbose=0
    )
    with torch.random.fork_rng(devices=[]):
        trained.fit(X, y)
    explainer = ClaDecExplainer(trained, **OPTIONS).fit(X)
    trained.set_params(max_epochs=1, lr=1e-9)  # learns nothing
    result = evaluation_accuracy(explainer, X, y, X_test, y_test, random_state=3)
    said = trained.predict(explainer.transform(X_test)) == y_test
    assert said.mean() > 0.7
    assert not np.array_equal(result.correct_explanation, said)


def test_what_cannot_be_a_classifier(data):
    X, y, X_test, y_test = split(data)
    explainer = ClaDecExplainer(PCA(2), reference=None, **OPTIONS).fit(X)
    with pytest.raises(ValueError, match="PCA is no classifier; give one"):
        evaluation_accuracy(explainer, X, y, X_test, y_test)
    result = evaluation_accuracy(
        explainer, X, y, X_test, y_test, classifier=LogisticRegression(), random_state=0
    )
    assert result.explanation > 0.7
    assert result.reference is result.interval is result.p_value is None

    frozen = make_pipeline(StandardScaler(), FrozenEstimator(LogisticRegression().fit(X, y))).fit(X)
    frozen = ClaDecExplainer(frozen, **OPTIONS).fit(X)
    with pytest.raises(ValueError, match="frozen"):
        evaluation_accuracy(frozen, X, y, X_test, y_test)

    class Token(nn.Linear):
        def __init__(self):
            super().__init__(4, 3)
            self.token = nn.Parameter(torch.ones(3))

    token = ClaDecExplainer(Token(), reference=None, **OPTIONS).fit(X)
    with pytest.raises(ValueError, match="'token' of module cannot be drawn"):
        evaluation_accuracy(token, X, y, X_test, y_test)
    with pytest.raises(ValueError, match="'confidence_level' parameter of .* Got 1"):
        evaluation_accuracy(explainer, X, y, X_test, y_test, confidence_level=1)


def test_interpretability(explainer, data):
    X, _, X_test, _ = split(data)
    result = interpretability(explainer, X_test)
    own, theirs = (
        ((reconstruct(X_test) - X_test) ** 2).sum(axis=1)
        for reconstruct in (explainer.transform, explainer.transform_reference)
    )
    assert result.explanation == pytest.approx(own.mean(), rel=1e-5)
    assert result.reference == pytest.approx(theirs.mean(), rel=1e-5)
    assert result.difference == pytest.approx((own - theirs).mean(), rel=1e-4)
    # Samples alone do not say whether the model makes the difference, or the seed.
    assert result.interval is result.noise_floor is None


def test_interval_holds_the_noise_of_seeds(explainer, data):
    X, _, X_test, _ = split(data)
    result = interpretability(explainer, X_test, X_train=data[0], random_state=1, n_seeds=4)
    assert result.explanations.shape == result.references.shape == (4,)
    assert result.explanations[0] == result.explanation
    assert result.references[0] == result.reference
    assert result.difference == pytest.approx(result.explanations.mean() - result.references.mean())
    seeds = np.random.SeedSequence([explainer.seed_, draw_seed(1)]).generate_state(3)
    losses = {"decoder": [], "reference": []}
    for seed in [explainer.seed_, *seeds]:
        losses["decoder"].append(explainer._errors_of_another_decoder(data[0], X_test, int(seed)))
        losses["reference"].append(
            explainer._errors_of_another_reference(data[0], X_test, int(seed))
        )
    D, R = np.array(losses["decoder"]), np.array(losses["reference"])
    np.testing.assert_allclose(result.explanations, D.mean(axis=1), rtol=1e-6)
    paired = D.mean(axis=0) - R.mean(axis=0)
    parts = [
        (paired.var(ddof=1) / len(paired), len(paired) - 1),
        (D.mean(axis=1).var(ddof=1) / 4, 3),
        (R.mean(axis=1).var(ddof=1) * (1 + 1 / 4), 3),
    ]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / df for part, df in parts)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
    expected = result.difference - half, result.difference + half
    np.testing.assert_allclose(result.interval, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="n_seeds"):
        interpretability(explainer, X_test, X_train=data[0], n_seeds=1)


def test_noise_floor(explainer, data):
    X, _, X_test, _ = split(data)
    result = interpretability(explainer, X_test, X_train=data[0], n_seeds=2, random_state=1)
    same = interpretability(explainer, X_test, X_train=data[0], n_seeds=2, random_state=1)
    assert result.noise_floor == same.noise_floor > 0
    other = interpretability(explainer, X_test, X_train=data[0], n_seeds=2, random_state=2)
    assert result.noise_floor != other.noise_floor
    # A reference from the seed of the first is the first.
    errors = explainer._errors_of_another_reference(data[0], X_test, explainer.seed_)
    assert errors.mean() == pytest.approx(result.reference, rel=1e-6)


def test_interpretability_without_a_reference(data):
    X = data[0]
    explainer = ClaDecExplainer(PCA(2), reference=None, **OPTIONS).fit(X)
    assert interpretability(explainer, X).reference is None
    with pytest.raises(ValueError, match="noise floor needs a reference"):
        interpretability(explainer, X, X_train=X)


def test_scorers_in_a_search_with_several(data):
    X, y = data
    scoring = {
        "accuracy": evaluation_accuracy_scorer(
            classifier=LogisticRegression(max_iter=500), random_state=0
        ),
        "interpretability": interpretability_scorer(),
    }
    explainer = ClaDecExplainer(module(), reference=None, **OPTIONS)
    grid = {"alpha": [0.0, 1.0]}
    search = GridSearchCV(explainer, grid, scoring=scoring, refit="interpretability", cv=2)
    search.fit(X, y)
    assert search.best_params_ == {"alpha": 1.0}
    found = search.cv_results_["mean_test_interpretability"]
    assert (found < 0).all()
    accuracy = search.cv_results_["mean_test_accuracy"]
    assert ((0 < accuracy) & (accuracy <= 1)).all()
    again = pickle.loads(pickle.dumps(scoring))
    best = search.best_estimator_
    assert again["accuracy"](best, X, y) == scoring["accuracy"](best, X, y)
    expected = interpretability(best, X).explanation
    assert again["interpretability"](best, X) == pytest.approx(-expected)


def test_scorer_tests_every_sample_on_what_others_taught(data):
    X, y = data
    explainer = ClaDecExplainer(PCA(2), reference=None, **OPTIONS).fit(X)

    class Memory(LogisticRegression):
        def fit(self, X, y):
            self.seen_ = {tuple(row) for row in np.round(X, 5)}
            return self

        def predict(self, X):
            assert not any(tuple(row) in self.seen_ for row in np.round(X, 5))
            return np.zeros(len(X), dtype=int)

    rows = np.unique(np.round(explainer.transform(X), 5), axis=0, return_index=True)[1]
    score = evaluation_accuracy_scorer(classifier=Memory(), cv=3, random_state=0)
    assert score(explainer, X[rows], y[rows]) == np.mean(y[rows] == 0)
    with pytest.raises(TypeError, match="classifer"):
        evaluation_accuracy_scorer(classifer=Memory())


def test_noise_floor_of_the_same_random_state_is_of_another_reference(data):
    X = data[0]
    explainer = ClaDecExplainer(module(), **OPTIONS).fit(X)
    options = {"X_train": X, "n_seeds": 2}
    floors = [interpretability(explainer, X, random_state=s, **options).noise_floor for s in (0, 1)]
    assert min(floors) > 0
    assert floors[0] != floors[1]


@pytest.mark.parametrize("labels", [[0, 1, 2], [1, 2, 5], ["a", "b", "c"], [1.0, 2.0, 5.0]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels_of_any_kind_for_a_module(data, labels, dtype):
    X, y = data
    explainer = ClaDecExplainer(module(), reference=None, **OPTIONS).fit(X)
    expected = evaluation_accuracy(explainer, X, y, X, y, random_state=0)
    X, y = X.astype(dtype), np.array(labels)[y]
    found = evaluation_accuracy(explainer, X, y, X, y, random_state=0)
    assert found.explanation == expected.explanation > 0.5
    score = evaluation_accuracy_scorer(random_state=0)(explainer, X, y)
    assert score > 0.5


FORMS = {
    "column": lambda y: y[:, None],
    "frame": lambda y: pd.DataFrame({"y": y}),
    "series": lambda y: pd.Series(y, index=np.arange(len(y))[::-1]),
    "list": lambda y: y.tolist(),
    "tensor": lambda y: torch.from_numpy(y)[:, None],
    "categories": lambda y: pd.DataFrame({"y": pd.Categorical(y)}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reference", [None, "autoencoder"])
def test_labels_in_a_column_of_any_form(form, reference, data):
    X, y, X_test, y_test = split(data)
    explainer = ClaDecExplainer(LogisticRegression().fit(X, y), reference=reference, **OPTIONS)
    explainer.fit(X)
    expected = evaluation_accuracy(explainer, X, y, X_test, y_test, random_state=0)
    given = FORMS[form]
    found = evaluation_accuracy(explainer, X, given(y), X_test, given(y_test), random_state=0)
    np.testing.assert_array_equal(found.correct_explanation, expected.correct_explanation)
    assert found.explanation == expected.explanation > 0.7
    assert found.interval == expected.interval
    score = evaluation_accuracy_scorer(random_state=0)
    assert score(explainer, X, given(y)) == score(explainer, X, y)


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (np.eye(3)[np.arange(150) % 3], "shape .* one label"),
        (np.where(np.arange(150) == 4, np.nan, 1.0), "nan for sample 4"),
        (np.where(np.arange(150) == 4, np.inf, 1.0), "inf for sample 4"),
        (np.where(np.arange(150) == 4, None, "a"), "None for sample 4"),
        (np.where(np.arange(150) == 4, pd.NA, 1), "<NA> for sample 4"),
        (np.where(np.arange(150) == 4, np.datetime64("NaT"), np.datetime64("2020")), "NaT"),
        (np.linspace(0, 1, 150), "no label of a class"),
    ],
)
def test_what_is_no_label_is_refused(y, match, data, explainer):
    X, labels = data
    with pytest.raises(ValueError, match=match):
        evaluation_accuracy(explainer, X, labels, X, y)
    with pytest.raises(ValueError, match=match):
        evaluation_accuracy_scorer()(explainer, X, y)


def test_balanced_accuracies_count_classes_alike(data):
    X, y, X_test, y_test = split(data)
    rare = np.flatnonzero((y_test != 0) | (np.arange(len(y_test)) < 5))
    explainer = ClaDecExplainer(PCA(2), **OPTIONS).fit(X)
    result = evaluation_accuracy(
        *(explainer, X, y, X_test[rare], y_test[rare]),
        classifier=LogisticRegression(),
        random_state=0,
    )
    for name in ("explanation", "reference"):
        correct = result[f"correct_{name}"]
        expected = np.mean([correct[y_test[rare] == label].mean() for label in range(3)])
        assert result[f"balanced_{name}"] == pytest.approx(expected)


def test_more_labels_than_outputs(data):
    X = data[0]
    explainer = ClaDecExplainer(module(), reference=None, **OPTIONS).fit(X)
    y = np.arange(len(X)) % 4
    with pytest.raises(ValueError, match="y has 4 labels, but .* 3 outputs; give a classifier"):
        evaluation_accuracy(explainer, X, y, X, y)


def test_inference_mode_of_the_caller(data):
    X, y = data
    explainer = ClaDecExplainer(module(), reference=None, **OPTIONS).fit(X)
    expected = evaluation_accuracy(explainer, X, y, X, y, random_state=0).explanation
    with torch.inference_mode():
        found = evaluation_accuracy(explainer, X, y, X, y, random_state=0).explanation
    assert found == expected


def test_other_explainers_are_refused(data):
    X, y = data
    with pytest.raises(TypeError, match="LogisticRegression reconstructs nothing"):
        evaluation_accuracy(LogisticRegression(), X, y, X, y)
    with pytest.raises(TypeError, match="give a ClaDecExplainer"):
        interpretability(LogisticRegression(), X)
    with pytest.raises(TypeError, match="give a ClaDecExplainer"):
        interpretability_scorer()(LogisticRegression(), X)
