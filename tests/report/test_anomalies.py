"""The report's sections on anomalies and on labels or clusters."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklexplain import LabelFreeAttributor
from sklexplain.nets import Autoencoder
from sklexplain.report import RepresentationReport, _anomalies

RNG = np.random.default_rng(0)
MIX = RNG.normal(size=(2, 6))
FAST = {"n_examples": 3, "n_neighbors": 2, "concepts": False, "decoding": False, "random_state": 0}


def normal(n):
    return RNG.normal(size=(n, 2)) @ MIX + 0.1 * RNG.normal(size=(n, 6))


def odd(n):
    samples = normal(n)
    samples[:, 4] += 3
    return samples


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    explained = np.concatenate([normal(10), odd(10)])
    report = RepresentationReport(PCA(2), title="beats & more", **FAST).fit(
        normal(60),
        X_explain=explained,
        y_explain=np.repeat([0, 1], 10),
        X_calibration=normal(99),
    )
    path = report.to_html(tmp_path_factory.mktemp("report") / "report.html")
    return report, explained, path.read_text("utf-8")


def test_what_is_abnormal_and_where(report):
    report, explained, page = report
    found, pca = report.anomalies_, report.estimator_
    errors = np.square(explained - pca.inverse_transform(pca.transform(explained))).mean(axis=1)
    usual = -found.explainer.calibration_scores_
    expected = [(1 + np.sum(usual >= error)) / 100 for error in errors]
    np.testing.assert_allclose(found.p, expected)
    assert not found.own and found.n_calibration == 99
    assert (found.p[10:] == 0.01).all() and found.share >= 0.5
    assert [(c.label, c.n) for c in found.classes] == [(0, 10), (1, 10)]
    assert found.classes[1].share == 1
    shown = report._shown.positions[found.places]
    assert sorted(found.p[shown]) == sorted(found.p[report._shown.positions])[:3]
    for place, parts in zip(shown, found.maps, strict=True):
        assert place < 10 or parts.argmax() == 4
    assert "What is abnormal, and where" in page
    assert "99 samples which were given as normal" in page
    assert "Most by “x4”" in page and "p = 0.01 (none can be smaller)" in page
    assert 'id="anomalies"' in page and "<dt>p-value</dt>" in page


def test_without_normal_samples_ranks_are_said_to_be_ranks(tmp_path, undrawn):
    series = np.cumsum(RNG.normal(size=(60, 30)), axis=1)
    report = RepresentationReport(PCA(2), kind="series", channel_axis=None, **FAST).fit(series)
    found = report.anomalies_
    assert found.own and found.n_calibration == 12
    assert np.mean(found.p) > 0.4
    page = report.to_html(tmp_path / "report.html").read_text("utf-8")
    assert "rank among 12 samples that were set aside" in page
    assert "Most in time steps" in page and "No normal samples were given" in page


def test_detectors_and_networks_that_rebuild():
    forest = RepresentationReport(IsolationForest(n_estimators=10, random_state=0), **FAST)
    forest.fit(pd.DataFrame(normal(50), columns=list("abcdef")), X_explain=None)
    assert len(forest.anomalies_.p) == 10 and "reason" not in forest.anomalies_
    assert _anomalies.section(forest)["table"] is None

    class Net(nn.Module):
        def __init__(self, n_outputs):
            super().__init__()
            torch.manual_seed(0)
            self.encoder = nn.Linear(6, 2)
            self.decoder = nn.Linear(2, n_outputs)

        def forward(self, x):
            return self.decoder(self.encoder(x))

    samples = normal(40).astype(np.float32)
    assert len(RepresentationReport(Net(6), **FAST).fit(samples).anomalies_.p) == 8
    assert RepresentationReport(Net(3), **FAST).fit(samples).anomalies_ is None


def test_what_makes_each_cluster_and_each_label(tmp_path, undrawn):
    frame = pd.DataFrame(normal(90), columns=list("abcdef"))
    frame["c"] += np.repeat([0, 8, 0], 30)
    frame["e"] -= np.repeat([0, 0, 8], 30)
    model = make_pipeline(StandardScaler(), KMeans(3, n_init=1, random_state=0)).fit(frame)
    report = RepresentationReport(model, **FAST).fit(frame)
    found = report.clusters_
    labels = model.predict(frame)
    assert found.clustered and found.n_classes == 3
    assert report.anomalies_ is None
    page = report.to_html(tmp_path / "report.html").read_text("utf-8")
    assert "What makes each cluster" in page and "Cluster 0 (n =" in page
    for one in found.classes:
        assert one.n <= np.sum(labels == one.label)
        assert one.sample.shape == one.attributions.shape == (6,)
    ill = np.repeat(["no", "yes", "no"], 30)
    classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, ill)
    report = RepresentationReport(classifier, **FAST).fit(frame, ill)
    no, yes = report.clusters_.classes
    assert (no.label, yes.label) == ("no", "yes")
    assert np.abs(yes.attributions).argmax() == 2  # column c
    page = report.to_html(tmp_path / "report.html").read_text("utf-8")
    assert "What makes each label unlike the others" in page and "Most by “c”" in page


def test_maps_of_a_label_are_means_over_its_members():
    X, y = normal(30), np.repeat([3.0, 4.0], 15)
    pca = PCA(2).fit(X)
    report = RepresentationReport(pca, **FAST).fit(X, y, X_explain=X[:5])
    one = report.clusters_.classes[0]
    explainer = LabelFreeAttributor(pca, corpus={"label": one.label}, foil="rest").fit(X, y)
    expected = explainer.transform(X[y == one.label]).mean(axis=0)
    np.testing.assert_allclose(one.attributions, expected, rtol=1e-6)
    np.testing.assert_allclose(one.sample, X[y == one.label].mean(axis=0))


def test_sections_are_a_choice():
    X = normal(30)
    params = FAST | {"anomalies": False, "clusters": False}
    report = RepresentationReport(PCA(2), **params).fit(X, np.arange(30) % 2)
    assert report.anomalies_ is None and report.clusters_ is None
    asked = RepresentationReport(LogisticRegression(), anomalies=True, **FAST)
    asked.fit(X, np.arange(30) % 2)
    assert "neither reconstructs" in asked.anomalies_.reason
    assert RepresentationReport(PCA(2), **FAST).fit(X, np.arange(30)).clusters_ is None


def test_maps_of_images_where_dataframes_are_asked_for():
    images = np.random.default_rng(1).normal(size=(50, 2, 6)).astype(np.float32)
    estimator = Autoencoder(n_components=2, max_epochs=1, validation_split=None, random_state=0)
    options = {**FAST, "channel_axis": None}
    expected = RepresentationReport(estimator.fit(images), **options).fit(images)
    with config_context(transform_output="pandas"):
        found = RepresentationReport(estimator, **options).fit(images)
    assert found.anomalies_.maps.shape[1:] == (2, 6)
    np.testing.assert_array_equal(found.anomalies_.maps, expected.anomalies_.maps)
