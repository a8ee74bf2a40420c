"""Attributions of anomalies against formulas and slow, obvious loops."""

from itertools import combinations
from math import factorial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA, FactorAnalysis, KernelPCA
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import SGDOneClassSVM
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, PowerTransformer, StandardScaler
from sklearn.svm import OneClassSVM
from torch import nn

from sklexplain import AnomalyAttributor
from sklexplain.anomalies import _neighbors
from sklexplain.explaining import METHODS
from sklexplain.nets import Autoencoder
from tests.cases import make_reconstructor, make_X

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3)) @ RNG.normal(size=(3, 5)) + 0.1 * RNG.normal(size=(120, 5)) + 3
ODD = X[:6] + 2 * np.eye(5)[[0, 1, 2, 3, 4, 0]]


def anomaly(estimator, fitted_on=X, **params):
    return AnomalyAttributor(estimator, random_state=0, **params).fit(fitted_on)


def sums(maps):
    return np.asarray(maps).reshape(len(maps), -1).sum(axis=1)


def assert_complete(explainer, samples, **tolerance):
    references = explainer.references(samples)
    fall = explainer.score_samples(references) - explainer.score_samples(samples)
    np.testing.assert_allclose(sums(explainer.transform(samples)), fall, **tolerance)


# -- closed forms of PCA


def left_over(pca, samples):
    """(I - V V')(x - mu)."""
    centred = samples - pca.mean_
    return centred - centred @ pca.components_.T @ pca.components_


@pytest.mark.parametrize("method", ["integrated_gradients", "shapley_sampling"])
def test_pca_from_its_mean(method):
    pca = PCA(3).fit(X)
    explainer = anomaly(pca, baseline=pca.mean_, method=method, method_params=few(method))
    expected = (ODD - pca.mean_) * left_over(pca, ODD) / 5
    np.testing.assert_allclose(explainer.transform(ODD), expected, atol=1e-6 if few(method) else 1)
    np.testing.assert_allclose(explainer.score_samples(ODD), -sums(expected), rtol=1e-9)


def few(method):
    return {"n_samples": 120} if method == "shapley_sampling" else None


def test_pca_from_the_reconstruction_is_the_squared_residual():
    explainer = anomaly(PCA(2))
    pca = explainer.estimator_
    assert len(explainer.calibration_scores_) == 36  # and so the PCA is one of 84 samples
    squares = left_over(pca, ODD) ** 2 / 5
    np.testing.assert_allclose(explainer.transform(ODD), squares, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(explainer.residuals(ODD), left_over(pca, ODD), atol=1e-9)
    np.testing.assert_allclose(explainer.references(ODD), ODD - left_over(pca, ODD), atol=1e-9)


@pytest.mark.parametrize("whiten", [False, True])
def test_scaled_pca_in_raw_columns(whiten):
    scaler, pca = StandardScaler(), PCA(2, whiten=whiten)
    pipeline = make_pipeline(scaler, pca).fit(X * [1, 10, 100, 1, 1])
    raw = ODD * [1, 10, 100, 1, 1]
    explainer = anomaly(pipeline, X * [1, 10, 100, 1, 1])
    residuals = left_over(
        PCA(2).fit(scaler.transform(X * [1, 10, 100, 1, 1])), scaler.transform(raw)
    )
    np.testing.assert_allclose(explainer.transform(raw), residuals**2 / 5, rtol=1e-6, atol=1e-12)
    # The way back goes through the scaler.
    np.testing.assert_allclose(
        explainer.references(raw),
        scaler.inverse_transform(scaler.transform(raw) - residuals),
        rtol=1e-9,
    )
    # A Pipeline in a Pipeline is the same.
    nested = make_pipeline(scaler, make_pipeline(pca))
    np.testing.assert_allclose(
        anomaly(nested, X * [1, 10, 100, 1, 1]).transform(raw), explainer.transform(raw)
    )


# -- completeness


COMPLETE = sorted(n for n, m in METHODS.items() if m.is_complete and not m.in_expectation)


@pytest.mark.parametrize("method", COMPLETE)
@pytest.mark.parametrize("baseline", ["reconstruction", "neighbors"])
def test_complete_of_a_network(method, baseline):
    network = make_reconstructor("conv1d", torch.float64)
    samples = make_X("conv1d", 12, np.float64)
    params = {"shapley_sampling": {"n_samples": 2}, "integrated_gradients": {"n_steps": 200}}
    explainer = anomaly(
        network,
        samples,
        contamination=0.5,
        baseline=baseline,
        n_neighbors=3,
        method=method,
        method_params=params.get(method),
        groups=np.arange(10) // 4 if method == "kernel_shap" else None,
    )
    assert_complete(explainer, samples[:3], rtol=2e-3)
    with torch.no_grad():
        missed = torch.tensor(samples) - network.eval()(torch.tensor(samples))
    np.testing.assert_allclose(explainer.residuals(samples), missed)
    np.testing.assert_allclose(explainer.score_samples(samples), -missed.square().mean(dim=(1, 2)))


DETECTORS = {
    "forest": IsolationForest(n_estimators=10, random_state=0),
    "neighbours": LocalOutlierFactor(10, novelty=True),
    "vectors": OneClassSVM(nu=0.1),
    "envelope": EllipticEnvelope(random_state=0),
    "scaled": make_pipeline(StandardScaler(), OneClassSVM(nu=0.1)),
    "mixture": GaussianMixture(2, random_state=0),
}


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_without_torch_form(name):
    detector = DETECTORS[name]
    explainer = anomaly(detector, method="kernel_shap", calibration=0.4)
    scores = explainer.estimator_.score_samples(ODD)
    np.testing.assert_allclose(explainer.score_samples(ODD), scores, rtol=1e-9)
    assert_complete(explainer, ODD, rtol=1e-6, atol=1e-9)
    assert not hasattr(explainer, "residuals")
    with pytest.raises(TypeError, match="kernel_shap"):
        anomaly(detector)


def test_shapley_values_of_a_forest_by_all_coalitions():
    explainer = anomaly(DETECTORS["forest"], method="kernel_shap")
    forest, references = explainer.estimator_, explainer.references(ODD[:2])
    for x, reference, found in zip(ODD, references, explainer.transform(ODD[:2]), strict=False):
        coalitions = [frozenset(s) for size in range(6) for s in combinations(range(5), size)]
        mixed = [np.where(np.isin(np.arange(5), list(s)), x, reference) for s in coalitions]
        worth = dict(zip(coalitions, -forest.score_samples(mixed), strict=True))
        for i, value in enumerate(found):
            expected = sum(
                factorial(len(s)) * factorial(4 - len(s)) / 120 * (worth[s | {i}] - worth[s])
                for s in coalitions
                if i not in s
            )
            assert value == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("detector", [OneClassSVM(kernel="linear"), SGDOneClassSVM(random_state=0)])
def test_linear_detectors_have_gradients(detector):
    explainer = anomaly(detector, baseline="mean")
    expected = -explainer.estimator_.coef_.ravel() * (ODD - explainer.baseline_)
    np.testing.assert_allclose(explainer.transform(ODD), expected, rtol=1e-9)


def test_likelihoods_of_what_reconstructs_too():
    pca = PCA(2).fit(X)
    explainer = anomaly(pca, score_function="decision", method="kernel_shap")
    np.testing.assert_allclose(explainer.score_samples(ODD), pca.score_samples(ODD))
    analysis = anomaly(FactorAnalysis(2), method="shapley_sampling")
    np.testing.assert_allclose(analysis.score_samples(ODD), analysis.estimator_.score_samples(ODD))


def test_a_function_of_the_output():
    pca = PCA(3).fit(X)
    explainer = anomaly(pca, score_function=lambda z: z.square().sum(dim=1), baseline=pca.mean_)
    codes = pca.transform(ODD)
    expected = (ODD - pca.mean_) * (codes @ pca.components_)
    np.testing.assert_allclose(explainer.transform(ODD), expected, rtol=1e-6, atol=1e-9)
    as_arrays = anomaly(
        pca,
        score_function=lambda z: np.square(z.numpy()).sum(axis=1),
        method="kernel_shap",
        baseline=pca.mean_,
    )
    np.testing.assert_allclose(as_arrays.score_samples(ODD), explainer.score_samples(ODD))


# -- references


def test_neighbours_are_the_nearest_in_the_code_and_none_a_copy():
    pca = PCA(3).fit(X)
    twice = np.concatenate([X, X[:3]])
    explainer = anomaly(pca, twice, baseline="neighbors", n_neighbors=4)
    queries = np.concatenate([X[:5], ODD])
    codes, corpus = pca.transform(queries), pca.transform(twice)
    for query, code, found in zip(queries, codes, explainer.references(queries), strict=True):
        distances = ((corpus - code) ** 2).sum(axis=1)
        distances[(twice == query).all(axis=1)] = np.inf
        nearest = np.argsort(distances, kind="stable")[:4]
        np.testing.assert_allclose(found, twice[nearest].mean(axis=0), rtol=1e-12)
    few = anomaly(pca, X[:5], baseline="neighbors", n_neighbors=50, contamination=0.5)
    np.testing.assert_allclose(few.references(ODD)[0], X[:5].mean(axis=0))


def test_neighbours_of_detectors_are_those_in_standardised_columns():
    explainer = anomaly(DETECTORS["forest"].fit(X), method="kernel_shap", n_neighbors=3)
    z = (X - X.mean(axis=0)) / X.std(axis=0)
    query = (ODD[:1] - X.mean(axis=0)) / X.std(axis=0)
    nearest = np.argsort(((z - query) ** 2).sum(axis=1))[:3]
    np.testing.assert_allclose(explainer.references(ODD[:1])[0], X[nearest].mean(axis=0))


def test_the_code_of_a_network_is_its_encoder_or_a_layer():
    network, samples = make_reconstructor("mlp"), make_X("mlp", 20)
    explainer = anomaly(network, samples, baseline="neighbors", n_neighbors=1)
    with torch.no_grad():
        codes = network.encoder.eval()(torch.tensor(samples)).numpy()
    distances = ((codes[:, None] - codes) ** 2).sum(axis=2) + np.diag([np.inf] * 20)
    np.testing.assert_array_equal(explainer.references(samples), samples[distances.argmin(axis=1)])
    named = anomaly(network, samples, baseline="neighbors", n_neighbors=1, layer="encoder")
    np.testing.assert_array_equal(named.transform(samples), explainer.transform(samples))


def test_black_boxes_go_the_whole_way_back():
    pipeline = make_pipeline(PowerTransformer(), KernelPCA(3, fit_inverse_transform=True))
    explainer = anomaly(pipeline, method="kernel_shap")
    fitted = explainer.estimator_
    expected = fitted.inverse_transform(fitted.transform(ODD))
    np.testing.assert_allclose(explainer.references(ODD), expected, rtol=1e-9)
    inside = fitted[0].transform(ODD)
    missed = inside - fitted[1].inverse_transform(fitted[1].transform(inside))
    np.testing.assert_allclose(explainer.residuals(ODD), missed, atol=1e-9)
    assert_complete(explainer, ODD, rtol=1e-9)


def test_no_way_back():
    frame = pd.DataFrame(X, columns=list("abcde"))
    columns = make_column_transformer((PowerTransformer(), list("abcde")))
    pipeline = make_pipeline(columns, KernelPCA(3, fit_inverse_transform=True))
    with pytest.raises(ValueError, match="inverse_transform; use baseline='neighbors'"):
        anomaly(pipeline, frame, method="kernel_shap", baseline="reconstruction")
    assert_complete(anomaly(pipeline, frame, method="kernel_shap"), frame[:3], rtol=1e-9)
    with pytest.raises(ValueError, match="score only"):
        anomaly(DETECTORS["forest"], method="kernel_shap", baseline="reconstruction")


# -- tables


def make_frame(n=200):
    rng = np.random.default_rng(1)
    kind = rng.choice(["low", "high"], n)
    size = np.where(kind == "high", 5.0, -5.0) + 0.3 * rng.normal(size=n)
    return pd.DataFrame(
        {"kind": kind, "size": size, "weight": 2 * size, "noise": rng.normal(size=n)}
    )


def test_a_category_that_does_not_fit():
    frame = make_frame()
    columns = make_column_transformer(
        (StandardScaler(), ["size", "weight"]), (OneHotEncoder(sparse_output=False), ["kind"])
    )
    odd = frame[:10].assign(kind=np.where(frame.kind[:10] == "low", "high", "low"))
    for baseline in ("reconstruction", "neighbors", "mean"):
        explainer = anomaly(make_pipeline(columns, PCA(1)), frame, baseline=baseline)
        explainer.set_output(transform="pandas")
        maps = explainer.transform(odd)
        assert list(maps.columns) == ["kind", "size", "weight", "noise"]
        assert (maps["noise"] == 0).all()
        if baseline != "mean":
            assert (maps.abs().idxmax(axis=1) == "kind").all()
        assert (explainer.pvalue(odd) < 0.02).all()


def test_raw_cells_of_a_detector_and_neighbours_that_match():
    frame = make_frame()
    columns = make_column_transformer(
        (OrdinalEncoder(), ["kind"]), remainder="passthrough", sparse_threshold=0
    )
    forest = IsolationForest(n_estimators=30, random_state=0)
    explainer = anomaly(make_pipeline(columns, forest), frame, method="kernel_shap", n_neighbors=5)
    odd = frame[:4].assign(noise=8.0)
    assert (explainer.transform(odd).argmax(axis=1) == 3).all()
    references = explainer.references(odd)
    assert references.kind.tolist() == odd.kind.tolist()  # what matches is nearer
    assert (np.sign(references["size"]) == np.sign(odd["size"])).all()


def test_groups_are_sums():
    whole = anomaly(PCA(2))
    grouped = anomaly(PCA(2), groups={"a": [0, 1], "b": [2, 3, 4]})
    maps = whole.transform(ODD)
    expected = np.stack([maps[:, :2].sum(axis=1), maps[:, 2:].sum(axis=1)], axis=1)
    np.testing.assert_allclose(grouped.transform(ODD), expected, rtol=1e-9)
    assert grouped.get_feature_names_out().tolist() == ["a", "b"]


# -- networks


class ReturnsMore(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def forward(self, x):
        code = self.inside.encoder(x)
        return code, self.inside.decoder(code), code.square().sum()


def test_a_reconstruction_among_several_outputs():
    network, samples = make_reconstructor("lstm"), make_X("lstm", 12)
    plain = anomaly(network, samples, contamination=0.5)
    several = anomaly(ReturnsMore(network), samples, contamination=0.5)
    np.testing.assert_allclose(several.transform(samples), plain.transform(samples), rtol=1e-6)
    with pytest.raises(TypeError, match="no reconstruction"):
        anomaly(network.encoder, samples, contamination=0.5)


def test_the_librarys_autoencoder_behind_a_scaler():
    network = Autoencoder(
        n_components=2, hidden_layer_sizes=(8,), max_epochs=3, patience=3, random_state=0
    )
    with pytest.warns(UserWarning):
        pipeline = make_pipeline(StandardScaler(), network).fit(X)
    explainer = anomaly(pipeline)
    inside = pipeline[0].transform(ODD)
    missed = inside - pipeline[1].inverse_transform(pipeline[1].transform(inside))
    np.testing.assert_allclose(explainer.residuals(ODD), missed, rtol=1e-4, atol=1e-5)
    # Where a network reconstructs its reconstruction anew, something is left.
    assert_complete(explainer, ODD, rtol=1e-3, atol=1e-4)
    assert (explainer.score_samples(explainer.references(ODD)) < 0).all()


# -- the largest residual


def test_the_largest_residual_of_pca():
    """From the reconstruction, each column's part is that of the projection's row."""
    pca = PCA(3).fit(X)
    explainer = anomaly(pca, score_function="largest_residual")
    variance = (left_over(pca, X) ** 2).mean(axis=0)
    residuals = left_over(pca, ODD)
    standardised = residuals**2 / variance
    np.testing.assert_allclose(explainer.score_samples(ODD), -standardised.max(axis=1), rtol=1e-9)
    projection = np.eye(5) - pca.components_.T @ pca.components_
    for found, row, largest in zip(
        explainer.transform(ODD), residuals, standardised.argmax(axis=1), strict=True
    ):
        expected = row * projection[:, largest] * row[largest] / variance[largest]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert_complete(explainer, ODD, rtol=1e-9)
    np.testing.assert_allclose(explainer.residuals(ODD), residuals, atol=1e-12)


def test_what_is_usual_is_that_of_the_others():
    """A fitted model is calibrated on samples that its own residuals are measured by."""
    pca = PCA(3).fit(X)
    explainer = anomaly(pca, score_function="largest_residual")
    squares = left_over(pca, X) ** 2
    scores = [
        max(row / np.delete(squares, i, axis=0).mean(axis=0)) for i, row in enumerate(squares)
    ]
    np.testing.assert_allclose(explainer.calibration_scores_, np.sort(-np.array(scores)))
    trained = anomaly(PCA(3), score_function="largest_residual", baseline="neighbors")
    train = trained._references._neighbors.inputs
    variance = (left_over(trained.estimator_, train) ** 2).mean(axis=0)
    held = np.array([row for row in X if not (train == row).all(axis=1).any()])
    scores = (left_over(trained.estimator_, held) ** 2 / variance).max(axis=1)
    np.testing.assert_allclose(trained.calibration_scores_, np.sort(-scores))


def test_a_column_that_never_varies():
    constant = np.column_stack([X, np.full(len(X), 2.0)])
    explainer = anomaly(PCA(3), constant, score_function="largest_residual")
    odd = constant[:2] + 0.5 * np.eye(6)[5]
    assert np.isfinite(explainer.score_samples(odd)).all()
    assert (explainer.transform(odd).argmax(axis=1) == 5).all()
    assert (explainer.transform(constant[:20]).argmax(axis=1) != 5).all()


# -- neighbours, and the container of references


@pytest.mark.parametrize("few", [0, 10**9])
def test_candidates_of_both_searches(few, monkeypatch):
    """Far from the origin, with ties and copies; beside a loop over samples."""
    monkeypatch.setattr(_neighbors, "_FEW", few)
    rng = np.random.default_rng(0)
    corpus = rng.integers(0, 4, size=(300, 3)) + 1e6
    queries = np.concatenate([corpus[:5], rng.normal(size=(4, 3)) + 1e6 + 1.5])
    found = _neighbors.Neighbors(corpus, corpus)
    rows, counted = found(queries, queries, 7)
    means = found.means(rows, counted)
    for query, own, mean in zip(queries, rows, means, strict=True):
        distances = ((corpus - query) ** 2).sum(axis=1)
        distances[(corpus == query).all(axis=1)] = np.inf
        expected = np.sort(distances)[:7]
        np.testing.assert_allclose(((corpus[own] - query) ** 2).sum(axis=1), expected)
        np.testing.assert_allclose(mean, sum(corpus[i] for i in own) / 7)
    assert counted.all()


@pytest.mark.parametrize("baseline", ["neighbors", "reconstruction", "mean"])
def test_frames_have_references_that_are_frames(baseline):
    frame = pd.DataFrame(X, columns=list("abcde"))
    query = frame[7:10]
    explainer = anomaly(make_pipeline(StandardScaler(), PCA(2)), frame, baseline=baseline)
    references = explainer.references(query)
    assert list(references) == list("abcde") and list(references.index) == [7, 8, 9]
    plain = anomaly(make_pipeline(StandardScaler(), PCA(2)), X, baseline=baseline)
    np.testing.assert_allclose(references, plain.references(X[7:10]))
    assert isinstance(plain.references(X[7:10]), np.ndarray)
    encoded = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["kind"]), ("passthrough", ["size", "weight"])
    )
    table = make_frame()
    explainer = anomaly(make_pipeline(encoded, PCA(1)), table, baseline=baseline)
    references = explainer.references(table[3:5])
    assert list(references) == ["kind_0", "kind_1", "size", "weight"]
    assert list(references.index) == [3, 4]


def test_copies_with_the_other_zero_are_copies():
    copies = np.zeros((16, 2)) * np.tile([1.0, -1.0], 8)[:, None]  # 0.0 and -0.0
    corpus = np.concatenate([copies, np.arange(1.0, 41.0).reshape(20, 2)])
    rows, counted = _neighbors.Neighbors(corpus, corpus)(corpus[:1], corpus[:1], 3)
    assert rows.tolist() == [[16, 17, 18]] and counted.all()
