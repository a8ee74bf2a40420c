import matplotlib

matplotlib.use("Agg")

import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, LabelEncoder, OneHotEncoder, StandardScaler
from skorch import NeuralNetClassifier

from sklexplain.datasets import make_motif_series, make_relevant_columns
from sklexplain.nets import Autoencoder
from sklexplain.report import RepresentationReport, _decoding, _figures
from sklexplain.samples import Sample
from tests.conftest import draw_nothing

# With so little training, concepts bend within a step of the path from the baseline.
pytestmark = pytest.mark.filterwarnings("ignore:integrated_gradients attributions miss")

_VOID = {"meta", "link", "img", "br", "hr", "input"}
_EVIL = '<script>alert("x")</script>'


class Page(HTMLParser):
    """Checks that tags are balanced, and collects tags, links and text."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.text += data

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def check_page(path):
    """Check that a report is complete, loads nothing and can be read without seeing it."""
    html = path.read_text(encoding="utf-8")
    assert len(html.encode()) < 3_000_000
    assert not re.search(r"https?://|@import|url\(", html)
    page = Page(html)
    for tag, attrs in page.tags:
        assert tag not in ("script", "iframe", "object", "embed")
        assert not any(name.startswith("on") for name in attrs)
        assert attrs.get("src", "data:").startswith("data:")
        assert attrs.get("href", "#").startswith(("#", "data:"))
    assert all(len(image["alt"]) > 20 for image in page.named("img"))
    assert len(page.named("h1")) == 1
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = {a["href"][1:] for a in page.named("a")}
    assert links <= set(ids)
    return page


def shorten_decoders(monkeypatch):
    """Train decoders for a few epochs only, where how well they do is not looked at."""
    short = {kind: (n, min(most, 60), lr) for kind, (n, most, lr) in _decoding._LIMITS.items()}
    monkeypatch.setattr(_decoding, "_LIMITS", short)


def options(**kwargs):
    few = {"n_examples": 1, "n_neighbors": 3, "n_explained": 20, "random_state": 0}
    # Sections that have tests of their own.
    return few | {"anomalies": False, "clusters": False} | kwargs


@pytest.fixture(scope="module")
def table():
    X, y, relevant = make_relevant_columns(n_samples=120, random_state=0)
    return X, y, relevant


def test_report_on_a_table(table, tmp_path):
    X, y, relevant = table
    report = RepresentationReport(PCA(n_components=2), **options()).fit(X, y)
    importances = report.feature_importances_
    assert importances[relevant].min() > importances[~relevant].max()
    assert report.latent_shift_.area_ratio > 1
    assert report.label_agreement_.most > report.label_agreement_.chance
    assert report.reconstruction_.train > 0.4
    page = check_page(report.to_html(tmp_path / "report.html"))
    assert "better than chance" in page.text
    assert "Do similar samples share their label?" in page.text
    assert f"“x{int(importances.argmax())}”" in page.text


def test_without_labels_nothing_is_said_about_them(table, tmp_path, undrawn):
    report = RepresentationReport(PCA(n_components=2), **options()).fit(table[0])
    assert report.label_agreement_ is None
    page = check_page(report.to_html(tmp_path / "report.html"))
    assert "label" not in page.text.replace("needs no labels", "").replace("labels: Da", "")


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_names_from_users_are_escaped(table, tmp_path, frame, request):
    if frame is pl.DataFrame:  # pictures of one of them will do
        request.getfixturevalue("undrawn")
    X, y, _ = table
    names = [_EVIL, "$\\frac{1}{", "a & b", "${title}", *(f"x{i}" for i in range(6))]
    X = frame({name: column for name, column in zip(names, X.T, strict=True)})
    labels = np.array([_EVIL, "<i>"], dtype=object)[y]
    report = RepresentationReport(
        PCA(n_components=4),
        **options(n_examples=2, title=_EVIL, notes=[_EVIL], target_names={"<i>": "<u>"}),
    ).set_params(anomalies="auto", clusters=True)
    page = check_page(report.fit(X, labels).to_html(tmp_path / "report.html"))
    for text in (_EVIL, "$\\frac{1}{", "a & b", "${title}", "<u>"):
        assert text in page.text


@pytest.mark.parametrize("shape", ["time", "channels first", "channels last", "image"])
def test_report_on_series_and_images(shape, tmp_path, request):
    whole = shape in ("channels last", "image")
    if not whole:
        request.getfixturevalue("undrawn")
    X, y, _ = make_motif_series(n_samples=60, n_timesteps=24, n_channels=2, random_state=0)
    X = X.astype(np.float32)
    estimator = Autoencoder("conv1d", n_components=2, hidden_layer_sizes=(4,))
    if shape == "time":
        X = X[:, 0]
    elif shape == "channels last":
        X = X.swapaxes(1, 2)
        estimator = Autoencoder("lstm", n_components=2)
    elif shape == "image":
        X = X.reshape(60, 1, 6, 8)
        estimator = Autoencoder("mlp", n_components=2, hidden_layer_sizes=(8,))
    estimator.set_params(max_epochs=2, validation_split=None, random_state=0)
    sections = {"anomalies": "auto", "clusters": True} if whole else {}
    report = RepresentationReport(estimator, **options(n_examples=2, **sections)).fit(X, y)
    assert report.feature_importances_.shape == X.shape[1:]
    page = check_page(report.to_html(tmp_path / "report.html"))
    assert ("time steps" in page.text) == (shape != "image")
    images = 3 + 2 * 2 if shape != "image" else 2 + 2 * 2
    if whole:
        images += 2 * 2 + 2  # what is abnormal in two samples, what makes two labels
    assert len(page.named("img")) == images


def test_corpus_and_explained_samples_can_be_given(table, tmp_path, undrawn):
    X, y, _ = table
    report = RepresentationReport(PCA(n_components=2), **options(max_corpus=30))
    report.fit(X[y == 0], X_explain=X[y == 1][:9], y_explain=y[y == 1][:9], X_corpus=X, y_corpus=y)
    np.testing.assert_array_equal(report.explained_, np.arange(9))
    np.testing.assert_allclose(report.estimator_.mean_, X[y == 0].mean(axis=0))
    assert report.example_importance_.transform(X[:1]).shape == (1, 30)
    page = check_page(report.to_html(tmp_path / "report.html"))
    assert "120 known samples" in page.text


def test_explained_samples_are_held_out(table):
    X, _, _ = table
    report = RepresentationReport(PCA(n_components=2), **options(n_explained=1000)).fit(X)
    assert len(report.explained_) == 24
    train = np.delete(X, report.explained_, axis=0)
    np.testing.assert_allclose(report.estimator_.mean_, train.mean(axis=0))


def test_fitted_models_are_explained_as_they_are(table, tmp_path, undrawn):
    X, y, _ = table
    pipeline = make_pipeline(StandardScaler(), PCA(n_components=2)).fit(X)
    report = RepresentationReport(pipeline, **options()).fit(X)
    assert report.estimator_ is pipeline
    page = check_page(report.to_html(tmp_path / "report.html"))
    assert "is not known here" in page.text
    module = torch.nn.Linear(10, 2)
    report = RepresentationReport(module, **options()).fit(X.astype(np.float32))
    assert report.reconstruction_ is None
    check_page(report.to_html(tmp_path / "report.html"))


def test_same_seed_gives_the_same_report(table, tmp_path):
    X, y, _ = table
    texts = []
    report = RepresentationReport(PCA(n_components=2, random_state=0), **options(n_examples=2))
    for one in (report, clone(report)):
        path = one.fit(X, y).to_html(tmp_path / "report.html")
        images = re.findall(r'src="([^"]+)"', path.read_text(encoding="utf-8"))
        texts.append((one.latent_shift_.area_ratio, images))
    assert texts[0] == texts[1]


def test_a_constant_representation_is_called_so(table, tmp_path):
    X, _, _ = table
    module = torch.nn.Linear(10, 2)
    torch.nn.init.zeros_(module.weight)
    report = RepresentationReport(module, **options())
    with pytest.warns(UserWarning, match="shift"):
        report.fit(X.astype(np.float32))
    page = check_page(report.to_html(tmp_path / "report.html"))
    assert "does not react" in page.text


@pytest.mark.parametrize(
    ("params", "data", "message"),
    [
        ({"n_examples": 0}, {}, "'n_examples' parameter .* Got 0"),
        ({}, {"y": [0, 1]}, "inconsistent numbers"),
        ({}, {"X_explain": np.zeros((0, 10))}, "X_explain is empty"),
        ({}, {"X_explain": np.zeros((3, 4))}, "4"),
        ({}, {"X": np.zeros((3, 10))}, "at least 4"),
        ({"kind": "image"}, {}, "kind='image'"),
        ({"method": "guess"}, {}, "'method' parameter .* Got 'guess'"),
    ],
)
def test_what_cannot_be_used_is_refused(table, params, data, message):
    data = {"X": table[0]} | data
    with pytest.raises(ValueError, match=message):
        RepresentationReport(PCA(n_components=2), **options(**params)).fit(**data)


def test_nothing_is_written_before_fit(tmp_path):
    with pytest.raises(NotFittedError):
        RepresentationReport(PCA()).to_html(tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


# -- classifiers and regressors --------------------------------------------------------------

INSIDE = {
    "concept_params": {"max_epochs": 3, "validation_split": None, "hidden_layer_sizes": (8,)},
    "decoding_params": {"max_epochs": 2, "validation_split": None},
}


def networks(shape, n_outputs):
    """A small network for samples of a shape, not trained."""
    if len(shape) == 1:
        layers = [torch.nn.Linear(*shape, 6)]
    elif len(shape) == 2:
        layers = [torch.nn.Conv1d(shape[0], 3, 5, stride=2), torch.nn.Flatten()]
    else:
        layers = [torch.nn.Conv2d(shape[0], 3, 3, stride=2), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers, torch.nn.LazyLinear(6), torch.nn.ReLU(), last(n_outputs))


def last(n_outputs):
    return torch.nn.Linear(6, n_outputs)


@pytest.fixture(scope="module", params=[(10,), (2, 24), (1, 8, 8)], ids=str)
def looked_into(request, tmp_path_factory):
    """A classifier, its report on X, and the page of it."""
    shape = request.param
    rng = np.random.RandomState(0)
    X = rng.randn(40, *shape).astype(np.float32)
    y = np.array(["no", _EVIL, "maybe"])[np.arange(40) % 3]
    net = NeuralNetClassifier(
        networks(shape, 3),
        criterion=torch.nn.CrossEntropyLoss,
        max_epochs=2,
        train_split=None,
        verbose=0,
    )
    net = make_pipeline(FunctionTransformer(), net)
    classes = LabelEncoder().fit(y)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net.fit(X, classes.transform(y))
    names = dict(enumerate(classes.classes_))
    report = RepresentationReport(net, **options(n_examples=2, target_names=names), **INSIDE)
    report.fit(X, classes.transform(y))
    path = tmp_path_factory.mktemp("report") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        if len(shape) == 2:  # tables and images are drawn
            draw_nothing(patch)
        report.to_html(path)
    return net, X, report, path


def test_classifiers_are_looked_into(looked_into, tmp_path, monkeypatch):
    net, X, report, path = looked_into
    concepts, decoding = report.concepts_, report.decoding_
    X_explain = X[report.explained_]
    found = concepts.explainer.score_parts(X_explain)
    np.testing.assert_allclose((concepts.faithfulness, concepts.reconstruction), found)
    values = concepts.explainer.transform(X_explain)
    weights = concepts.explainer.concept_weights_
    np.testing.assert_allclose(concepts.moves, weights * values.std(axis=0), rtol=1e-4, atol=1e-6)
    assert concepts.maps.shape == (5, *X.shape[1:])
    for one in concepts.shown:
        sample = X_explain[report._shown.positions[one.place]]
        output = net.predict_proba(sample[None])[0]
        assert one.target == output.argmax()
        # Bars and maps are both counted from the baseline.
        both = concepts.explainer.predict(np.stack([sample, report.attributor_.baseline_[0]]))
        told = (both[0] - both[1])[one.target]
        np.testing.assert_allclose(one.contributions.sum(), told, rtol=1e-3, atol=1e-5)
        sums = one.maps.reshape(len(one.maps), -1).sum(axis=1)
        np.testing.assert_allclose(sums, one.contributions, rtol=0.05, atol=1e-3)
    assert (decoding.agreement, decoding.kept) == decoding.explainer.score_parts(X_explain)
    squared = decoding.explainer.reconstruction_loss(X_explain, reference=True).mean()
    own = decoding.explainer.reconstruction_loss(X_explain).mean()
    np.testing.assert_allclose((1 - decoding.kept_reference) / (1 - decoding.kept), squared / own)
    page = check_page(path)
    for text in ("Which concepts its output is made of", "What a layer keeps of its input"):
        assert page.text.count(text) == 2  # in the contents, and above the section
    assert f"score of {_EVIL}" in page.text
    assert "that were allowed" in page.text
    if X.ndim == 4:
        check_that_writing_only_writes(report, path.read_text(), tmp_path, monkeypatch)


def check_that_writing_only_writes(report, before, tmp_path, monkeypatch):
    assert "reason" not in report.concepts_ and "reason" not in report.decoding_

    def run(*args, **kwargs):
        raise AssertionError("a network is run")

    monkeypatch.setattr(torch.nn.Module, "__call__", run)
    monkeypatch.setattr(NeuralNetClassifier, "infer", run)
    after = report.to_html(tmp_path / "after.html").read_text()
    pictures = re.compile(r'src="data:[^"]*"')
    assert pictures.findall(before) == pictures.findall(after)


def test_regressors_and_heads(tmp_path, undrawn):
    rng = np.random.RandomState(0)
    X = pd.DataFrame({"a": rng.randn(60), "b": rng.randn(60), "site": list("xyz") * 20})
    X.loc[::7, "b"] = np.nan
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["a", "b"]), (OneHotEncoder(), ["site"])
    )
    y = X["a"].to_numpy() * 2
    model = make_pipeline(
        columns,
        MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", random_state=0),
    )
    report = RepresentationReport(model, **options(), **INSIDE).fit(X, y)
    assert report.concepts_.outputs == ["output"]
    # Fewer concepts than the layer's four numbers, and maps of raw columns.
    assert report.concepts_.maps.shape == (3, 3)
    assert report.decoding_.explainer.task_ == "regression"
    assert report.label_agreement_ is None  # values are hardly ever the same
    page = check_page(report.to_html(tmp_path / "report.html"))
    assert "Do similar samples share their label?" not in page.text
    assert "agrees with what it predicts" in page.text


def test_two_classes_have_one_score(table):
    X, y, _ = table
    report = RepresentationReport(
        LogisticRegression(), **options(target_names={1: "ill"}), **INSIDE
    )
    assert report.fit(X, y).concepts_.outputs == ["score of ill"]
    quick = INSIDE["concept_params"]
    for target, name in ((0, "score of ill"), ("norm", "norm of the output")):
        report.set_params(concept_params={**quick, "target": target})
        assert report.fit(X, y).concepts_.outputs == [name]


def test_chosen_classes_have_their_names():
    X, y = load_iris(return_X_y=True)
    names = {0: "setosa", 1: "versicolor", 2: "virginica"}
    params = {**INSIDE["concept_params"], "target": [2, 0]}
    report = RepresentationReport(
        LogisticRegression(max_iter=500),
        **options(target_names=names, concept_params=params, decoding=False),
    )
    assert report.fit(X, y).concepts_.outputs == ["score of virginica", "score of setosa"]


def test_what_has_no_layers_says_so(table, tmp_path, undrawn):
    X, y, _ = table
    forest = RandomForestClassifier(30, min_samples_leaf=3, random_state=0)
    quick = options(method="feature_ablation", **INSIDE)
    report = RepresentationReport(forest, **quick).fit(X, y)
    assert "no torch form" in report.concepts_.reason
    assert report.decoding_.kept_reference is None
    page = check_page(report.to_html(tmp_path / "report.html"))
    assert "This is not possible for this model: RandomForestClassifier" in page.text
    assert "the model's output" in page.text
    with pytest.raises(TypeError, match="no torch form"):
        RepresentationReport(forest, concepts=True, **quick).fit(X, y)


def test_looking_inside_is_a_choice(table, tmp_path, undrawn):
    X, y, _ = table
    report = RepresentationReport(PCA(2), **options(), **INSIDE).fit(X)
    assert report.concepts_ is None and report.decoding_ is None  # no predictor
    module = torch.nn.Sequential(torch.nn.Linear(10, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    report = RepresentationReport(module, **options(), **INSIDE).fit(X.astype(np.float32))
    assert report.concepts_ is None and report.decoding_ is None  # does not tell
    report.set_params(concepts=True, decoding=True).fit(X.astype(np.float32))
    page = check_page(report.to_html(tmp_path / "report.html"))
    assert "Reference" in page.text and "Concept" in page.text
    report = RepresentationReport(
        LogisticRegression(), **options(), concepts=False, decoding=False
    ).fit(X, y)
    assert report.concepts_ is None and report.decoding_ is None
    with pytest.raises(ValueError, match="'concepts' parameter .* Got 'yes'"):
        report.set_params(concepts="yes").fit(X, y)
    with pytest.raises(ValueError, match="n_concept"):
        report.set_params(concepts=True, concept_params={"n_concept": 3}).fit(X, y)


def test_values_and_labels_are_told_apart(table):
    X, y, _ = table
    report = RepresentationReport(PCA(2), **options())
    assert report.fit(X, X[:, 0]).label_agreement_ is None
    assert report.fit(X, y.astype(float)).label_agreement_.most > 0.5
    module = RepresentationReport(torch.nn.Linear(10, 2), **options())
    assert module.fit(X.astype(np.float32), y).label_agreement_ is not None


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA])
def test_missing_labels_are_named(table, missing):
    X, y, _ = table
    y = y.astype(float if missing is np.nan else object)
    y[5] = missing
    with pytest.raises(ValueError, match="y has missing labels, first in row 5"):
        RepresentationReport(PCA(2), **options()).fit(X, y)


def test_what_nothing_was_rebuilt_of_is_not_compared(tmp_path, undrawn):
    X = np.random.RandomState(0).randn(80, 10)
    model = LogisticRegression().fit(X, np.arange(80) % 2)
    report = RepresentationReport(model, **options(), **INSIDE).fit(X)
    assert report.decoding_.kept_reference < 0.1
    page = check_page(report.to_html(tmp_path / "report.html"))
    assert page.text.count("Neither rebuilds much") == 2
    assert "has dropped" not in page.text


def test_long_labels_do_not_reach_their_neighbours():
    report = SimpleNamespace(ids_=np.arange(3), id_name=None, target_names={0: "a very long name"})
    report._shown = SimpleNamespace(positions=np.array([2]), labels=np.array([0]))
    assert _figures.sample_title(report, 0) == "Sample 2: a very long name"
    assert _figures.sample_title(report, 0, 8) == "Sample 2\na very …"
    report._shown.labels = None
    assert _figures.sample_title(report, 0, 8) == "Sample 2"


def test_wrong_parameters_of_the_user_are_not_blamed_on_the_model(table):
    X, y, _ = table
    for wrong, match in (
        ({"concept_params": {"n_concept": 3}}, "n_concept"),
        ({"decoding_params": {"layer": "nope"}}, "nope"),
    ):
        report = RepresentationReport(LogisticRegression(), **{**options(), **INSIDE, **wrong})
        with pytest.raises(ValueError, match=match):
            report.fit(X, y)
    with pytest.raises(
        TypeError, match="The 'concept_params' parameter of RepresentationReport must be a dict"
    ):
        RepresentationReport(LogisticRegression(), concept_params=[1]).fit(X, y)
    with pytest.raises(ValueError, match="'decoding' parameter .* must be .* Got 0"):
        RepresentationReport(LogisticRegression(), decoding=0).fit(X, y)
    report = RepresentationReport(
        LogisticRegression(), **options(), concepts=np.False_, decoding=np.False_
    )
    assert report.fit(X, y).concepts_ is None


def test_labels_reach_what_needs_them(table):
    X, y, _ = table
    params = {**INSIDE["decoding_params"], "class_target": "y", "alpha": 0.5}
    report = RepresentationReport(
        LogisticRegression(), **options(decoding_params=params, concepts=False)
    )
    assert report.fit(X, y).decoding_.kept_reference is not None


def test_agreement_is_judged_class_by_class():
    """A model that says yes rarely, and a decoder that makes it say no always."""
    X = np.random.RandomState(0).randn(400, 10)
    y = (X[:, 0] > 1.6).astype(int)
    params = {"max_epochs": 1, "lr": 1e-9, "validation_split": None, "reference": None}
    report = RepresentationReport(
        LogisticRegression(C=100), **options(decoding_params=params, concepts=False, n_explained=80)
    )
    found = report.fit(X, y).decoding_
    said = report.estimator_.predict(X[report.explained_])
    assert 0 < said.mean() < 0.2
    assert found.agreement == pytest.approx(1 - said.mean()) and found.agreement > 0.8
    assert found.balanced == 0.5
    text = _decoding.sentence(found)
    assert "(50% on average over classes)" in text and "leaves out" in text
    found.n_classes = 1
    assert "cannot be tested" in _decoding.sentence(found)


def found_in_a_layer(**facts):
    explainer = SimpleNamespace(
        reference="autoencoder", layer_="h", layer=None, n_epochs_=5, reference_n_epochs_=5,
        max_epochs=20, ridge_kept_=0.2,
    )  # fmt: skip
    vars(explainer).update({k: facts.pop(k) for k in list(facts) if hasattr(explainer, k)})
    found = {"kept": 0.43, "kept_reference": 0.45, "kept_by_model": None}
    losses = SimpleNamespace(interval=facts.pop("interval", (0.1, 0.5)))
    return SimpleNamespace(explainer=explainer, losses=losses, **(found | facts))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, "has dropped"),
        ({"interval": (-0.1, 0.5)}, "cannot be told apart"),
        ({"interval": None}, "cannot be told apart"),
        ({"kept_by_model": 0.55}, "the model's own decoder rebuilds samples with R² = 0.55"),
        ({"ridge_kept_": 0.5}, "a linear regression on the same numbers"),
        ({"kept_by_model": 0.44}, "has dropped"),
        ({"n_epochs_": 20}, "Training of the decoder ended at the most"),
        ({"reference_n_epochs_": 20}, "Training of the reference ended at the most"),
        ({"interval": (-0.5, -0.1)}, "This reference keeps less than the model"),
        ({"interval": (-0.5, -0.1), "n_epochs_": 20}, "Training of the decoder ended at the most"),
    ],
)
def test_what_is_said_of_a_layer_and_its_reference(facts, said):
    text = _decoding._compared(found_in_a_layer(**facts), False)
    assert said in text
    assert ("has dropped" in text) == (said == "has dropped")


def test_maps_of_concepts_are_of_samples_at_random():
    """Sorted data: the first samples are all of one class."""
    X = np.sort(np.random.RandomState(0).randn(600, 1), axis=0) * np.ones((1, 4))
    model = MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", max_iter=200, random_state=0)
    report = RepresentationReport(
        model, **options(n_explained=120, decoding=False, concept_params=INSIDE["concept_params"])
    ).fit(X, X[:, 0])
    found = report.concepts_
    assert found.n_maps == 50
    X_explain = X[report.explained_]
    own = np.abs(found.explainer.concept_attributions(X_explain)).mean(axis=0)
    first = np.abs(found.explainer.concept_attributions(X_explain[:50])).mean(axis=0)
    assert np.abs(found.maps - own).sum() < 0.5 * np.abs(first - own).sum()


def test_references_and_betas_that_say_something_else(table, tmp_path, undrawn):
    X, y, _ = table
    report = RepresentationReport(
        LogisticRegression(),
        **options(
            decoding_params={**INSIDE["decoding_params"], "reference": "random"},
            concept_params={**INSIDE["concept_params"], "beta": 0.0, "n_concepts": 1},
        ),
    ).fit(X, y)
    text = check_page(report.to_html(tmp_path / "report.html")).text
    assert "weights that were drawn and not trained" in text
    assert "trained from new weights" not in text and "too briefly" not in text
    assert "1 concept tells the model's output" in text
    assert "they may repeat the output" in text and "cannot merely repeat" not in text


def test_one_column_that_has_all_the_variation_is_named(table, tmp_path, undrawn):
    X, y, _ = table
    X = pd.DataFrame(X * [1] * 10).rename(columns=str)
    X["3"] *= 1000
    report = RepresentationReport(LogisticRegression(max_iter=5000), **options(), **INSIDE)
    text = check_page(report.fit(X, y).to_html(tmp_path / "report.html")).text
    assert "that of the column “3” alone, which has 100% of the variation" in text
    report = RepresentationReport(
        make_pipeline(StandardScaler(), LogisticRegression()), **options(), **INSIDE
    )
    text = check_page(report.fit(X, y).to_html(tmp_path / "report.html")).text
    assert "of the variation: scale" not in text


def test_outputs_of_other_sizes_are_shown_by_what_is_unusual():
    X = np.random.RandomState(0).randn(200, 4).astype(np.float32)
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    with torch.no_grad():
        module[2].bias.copy_(torch.tensor([0.0, 5000.0]))
    report = RepresentationReport(
        module,
        **options(n_examples=3, concept_params=INSIDE["concept_params"]),
        concepts=True,
    ).fit(X)
    found = report.concepts_
    for one in found.shown:
        sample = X[report.explained_][report._shown.positions[one.place]]
        values = found.explainer.net_.module_.standardised(
            found.explainer.target_values(sample[None])
        )
        assert one.target == np.abs(values[0]).argmax()


def test_regressors_of_several_outputs(tmp_path, undrawn):
    X = np.random.RandomState(0).randn(60, 5)
    model = MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", max_iter=200, random_state=0)
    report = RepresentationReport(model, **options(), **INSIDE).fit(X, X[:, :2])
    assert report.label_agreement_ is None
    assert report.concepts_.outputs == ["output 0", "output 1"]
    text = check_page(report.to_html(tmp_path / "report.html")).text
    assert "hidden_layer_sizes=(8,)" in text  # how to repeat it
    with pytest.raises(ValueError, match="y_explain has shape"):
        report.fit(X, X[:, :2], X_explain=X[:5], y_explain=X[:5, :2])


def test_every_concept_has_its_largest_column(monkeypatch):
    """Of 40 columns 15 are drawn; concepts look at columns that matter little overall."""
    heats = []
    original = matplotlib.axes.Axes.imshow
    monkeypatch.setattr(
        matplotlib.axes.Axes, "imshow", lambda s, h, **k: heats.append(h) or original(s, h, **k)
    )
    report = SimpleNamespace(_sample=Sample((40,), "table"), facts_=SimpleNamespace(n_features=40))
    report.attributor_ = SimpleNamespace()
    report.feature_importances_ = np.arange(40)[::-1]
    _figures.heat_rows(report, [(f"concept {i}", np.eye(40)[39 - i] + 0.1) for i in range(5)])
    np.testing.assert_allclose(heats[0].max(axis=1), 1)


# -- what a sample is ----------------------------------------------------------------------------


def test_channels_of_a_network_without_axes(tmp_path, undrawn):
    X, y, _ = make_motif_series(n_samples=60, n_timesteps=20, n_channels=3, random_state=0)
    net = Autoencoder("mlp", n_components=2, max_epochs=15, random_state=0)
    with pytest.warns(match="max_epochs"):
        report = RepresentationReport(
            net,
            channel_axis=0,
            decoding=True,
            decoding_params={**INSIDE["decoding_params"], "layer": "encoder"},
            concepts=True,
            concept_params=INSIDE["concept_params"],
            **options(),
        ).fit(X.astype(np.float32), y)
    assert report.latent_shift_.n_masked[-1] == 20  # time steps
    for found in (report.concepts_, report.decoding_):
        assert found.explainer.channel_axis == 0
    page = check_page(report.to_html(tmp_path / "report.html"))
    assert "Which time steps matter overall" in page.text
    assert "20 time steps in 3 channels" in page.text and "pixels build" not in page.text
    # What the network's layers tell is what is drawn by default: nothing, here.
    auto = RepresentationReport(report.estimator_, **options()).fit(X.astype(np.float32), y)
    assert auto.latent_shift_.n_masked[-1] == 60
    assert "Which pixels matter overall" in check_page(auto.to_html(tmp_path / "auto.html")).text


def test_reports_leave_the_global_generators_alone(table):
    X, y, _ = table
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    first = RepresentationReport(PCA(2), **options(random_state=None)).fit(X, y)
    assert (np.random.get_state()[1] == before[0]).all()
    assert torch.equal(torch.get_rng_state(), before[1])
    # Everything follows from the one seed that was drawn.
    again = RepresentationReport(PCA(2), **options(random_state=None))
    assert again.fit(X, y).seed_ != first.seed_
    one, two = (
        RepresentationReport(PCA(2), **options(random_state=np.random.RandomState(3))).fit(X, y)
        for _ in range(2)
    )
    assert one.seed_ == two.seed_
    np.testing.assert_array_equal(one.explained_, two.explained_)
    np.testing.assert_array_equal(one.latent_shift_.random, two.latent_shift_.random)
