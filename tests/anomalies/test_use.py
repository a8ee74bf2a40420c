"""Planted anomalies are found; searches, Pipelines, files, networks of others."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import IsolationForest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import OneClassSVM
from skorch import NeuralNetRegressor
from torch import nn

from sklexplain import AnomalyAttributor, LabelFreeAttributor
from sklexplain.attribution import time_segments
from sklexplain.datasets import load_ecg5000
from sklexplain.exceptions import SklexplainWarning
from sklexplain.explaining import METHODS
from sklexplain.nets import Autoencoder
from sklexplain.representation import torch_modules
from tests.cases import make_reconstructor, make_X

RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 2)) @ RNG.normal(size=(2, 6)) + 0.1 * RNG.normal(size=(150, 6))
PLACES = RNG.integers(6, size=30)
STEPS = {"n_steps": 4}  # exact of squares of a linear map
ODD = X[:30] + 2 * np.eye(6)[PLACES]


def auroc(maps, places):
    """Share of a sample's other features that a planted one is above, ties counted half."""
    maps = np.abs(maps)
    planted = maps[np.arange(len(maps)), places][:, None]
    above = (maps < planted).sum(axis=1) + ((maps == planted).sum(axis=1) - 1) / 2
    return np.mean(above / (maps.shape[1] - 1))


def planted_columns(train, new, rng, n=80):
    """Samples with one column set to another's value, at least 2 standard deviations away."""
    sd, odd, places = train.std(axis=0), new[rng.integers(len(new), size=n)].copy(), []
    for row in odd:
        while True:
            j = rng.integers(train.shape[1])
            far = np.flatnonzero(np.abs(new[:, j] - row[j]) >= 2 * sd[j])
            if len(far):
                break
        row[j] = new[rng.choice(far), j]
        places.append(j)
    return odd, np.array(places)


@pytest.mark.parametrize(("load", "n_components"), [(load_breast_cancer, 8), (load_wine, 4)])
@pytest.mark.filterwarnings("ignore:with .* calibration samples")
def test_planted_columns(load, n_components):
    data = load().data
    found = {"reconstruction": [], "neighbors": [], "residuals": [], "label-free": []}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(data))
        train, new = np.split(data[order], [len(data) // 2])
        odd, places = planted_columns(train, new, rng)
        model = make_pipeline(StandardScaler(), PCA(n_components))
        for baseline in ("reconstruction", "neighbors"):
            explainer = AnomalyAttributor(
                model, baseline=baseline, method_params=STEPS, random_state=0
            ).fit(train)
            found[baseline].append(auroc(explainer.transform(odd), places))
        found["residuals"].append(auroc(explainer.residuals(odd), places))
        label_free = LabelFreeAttributor(explainer.estimator_, method_params=STEPS).fit(train)
        found["label-free"].append(auroc(label_free.transform(odd), places))
    found = {name: np.mean(values) for name, values in found.items()}
    for name in ("reconstruction", "neighbors"):
        assert found[name] >= found["label-free"] + 0.2
        assert found[name] >= found["residuals"] - 0.02
        if load is load_breast_cancer:
            assert found[name] >= 0.95


PLANTS = {
    "bump": lambda beat, place, rng: beat[place] + 1.5 * np.sin(np.linspace(0, np.pi, 10)),
    "noise": lambda beat, place, rng: beat[place] + rng.normal(size=10),
    "shift": lambda beat, place, rng: np.roll(beat, 15)[place],
}


def test_planted_segments_of_heartbeats():
    beats, kinds = load_ecg5000(return_X_y=True)
    normal = beats[kinds == 1]
    segments = time_segments(140, 14)
    for baseline in ("reconstruction", "neighbors"):
        explainer = AnomalyAttributor(
            PCA(12), baseline=baseline, groups=segments, method_params=STEPS, random_state=0
        ).fit(normal[:600])
        for plant in PLANTS.values():
            rng, odd = np.random.default_rng(0), normal[600:700].copy()
            places = rng.integers(14, size=100)
            for beat, place in zip(odd, places, strict=True):
                part = slice(10 * place, 10 * place + 10)
                beat[part] = plant(beat, part, rng)
            assert auroc(explainer.transform(odd), places) >= 0.9


def test_real_abnormal_beats_are_called_so():
    beats, kinds = load_ecg5000(return_X_y=True)
    explainer = AnomalyAttributor(PCA(12), random_state=0).fit(beats[kinds == 1][:600])
    assert np.mean(explainer.predict(beats[kinds == 2]) == -1) > 0.95
    assert np.mean(explainer.predict(beats[kinds == 1][600:]) == -1) < 0.1


# -- score and searches


def test_score_is_the_fall_over_that_of_random_features():
    explainer = AnomalyAttributor(PCA(2), baseline="mean", random_state=0).fit(X)
    assert explainer.score(ODD) > 1.3
    opposite = copy.copy(explainer)
    opposite._mapped = lambda samples: 1 / (1e-9 + np.abs(explainer._mapped(samples)))
    assert opposite.score(ODD) < explainer.score(ODD)
    rows = AnomalyAttributor(PCA(2), baseline=X[:3], random_state=0).fit(X)
    assert rows.score(ODD) > 1.3
    with pytest.raises(ValueError, match="same 3 rows"):
        rows.references(ODD)


def test_score_by_a_loop():
    """All masks at all shares, one sample and one mask at a time."""
    explainer = AnomalyAttributor(PCA(2), baseline="mean", random_state=0).fit(X)
    reference, rng = explainer.references(ODD), np.random.RandomState(explainer.seed_)
    ranks = [rng.permutation(6) for _ in range(10)]
    maps, sizes = explainer.transform(ODD), [0, 1, 2, 3, 5, 6]

    def area(ranks_of):
        """Area under the mean fall when features of rank below m are put back."""
        curve = []
        for m in sizes:
            changed = ODD.copy()
            for i, row in enumerate(changed):
                row[ranks_of(i) < m] = reference[i][ranks_of(i) < m]
            fall = explainer.score_samples(changed) - explainer.score_samples(ODD)
            curve.append(np.mean(fall))
        return trapezoid(curve, np.array(sizes) / 6)

    most = area(lambda i: (maps[i] > maps[i][:, None]).sum(axis=1))
    random = np.mean([area(lambda i, rank=rank: rank) for rank in ranks])
    assert explainer.score(ODD) == pytest.approx(most / random, rel=1e-6)


def test_in_a_search_and_a_pipeline():
    data = np.concatenate([X, ODD])
    rows = [(np.arange(len(X)), np.arange(len(X), len(data)))]  # fitted on normal, judged on odd
    search = GridSearchCV(
        AnomalyAttributor(PCA(2), random_state=0),
        {
            "baseline": ["reconstruction", "neighbors", "mean"],
            "n_neighbors": [1, 10],
            "method": ["integrated_gradients", "feature_ablation"],
        },
        cv=rows,
        error_score="raise",
    ).fit(data)
    assert len(set(search.cv_results_["mean_test_score"])) > 4
    pipeline = make_pipeline(StandardScaler(), AnomalyAttributor(PCA(2), random_state=0)).fit(X)
    assert pipeline.predict(ODD).shape == pipeline.score_samples(ODD).shape == (30,)
    assert pipeline.transform(ODD).shape == ODD.shape
    assert auroc(pipeline.transform(ODD), PLACES) > 0.9


def test_normal_samples_have_nothing_to_put_back():
    explainer = AnomalyAttributor(PCA(2), baseline="mean", random_state=0).fit(X)
    with pytest.warns(UserWarning, match="as normal as their references"):
        assert explainer.score(X) == 1.0


# -- models and files


def _pickled(explainer):
    return pickle.loads(pickle.dumps(explainer))


def _skops(explainer):
    io = pytest.importorskip("skops.io")
    saved = io.dumps(explainer)
    return io.loads(saved, trusted=io.get_untrusted_types(data=saved))


@pytest.mark.parametrize("reload", [_pickled, _skops])
@pytest.mark.parametrize(
    ("model", "params"),
    [
        (PCA(2), {"baseline": "neighbors"}),
        (make_pipeline(StandardScaler(), PCA(2)), {}),
        (
            IsolationForest(n_estimators=5, random_state=0),
            {"method": "feature_ablation"},
        ),
    ],
    ids=["neighbours", "reconstruction", "detector"],
)
def test_files(reload, model, params):
    explainer = AnomalyAttributor(model, random_state=0, **params).fit(X)
    loaded = reload(explainer)
    for name in ("transform", "references", "pvalue", "predict", "score"):
        np.testing.assert_array_equal(getattr(loaded, name)(ODD), getattr(explainer, name)(ODD))
    np.testing.assert_array_equal(loaded.feature_importances_, explainer.feature_importances_)


def test_importances_are_those_of_kept_samples():
    explainer = AnomalyAttributor(PCA(2), baseline="neighbors", random_state=0).fit(X)
    expected = np.abs(explainer.transform(X)).mean(axis=0)
    np.testing.assert_allclose(explainer.feature_importances_, expected, rtol=1e-9)
    own = AnomalyAttributor(PCA(2), baseline=lambda X: 0.5 * X, random_state=0).fit(X)
    np.testing.assert_allclose(own.references(ODD), 0.5 * ODD)
    expected = np.abs(own.transform(X)).mean(axis=0)
    np.testing.assert_allclose(own.feature_importances_, expected, rtol=1e-9)


@pytest.mark.parametrize("baseline", ["mean", "zeros", "background", X[:3], X[::-1].copy()])
def test_importances_from_baselines_that_all_samples_share(baseline):
    explainer = AnomalyAttributor(PCA(2), baseline=baseline, random_state=0).fit(X)
    expected = np.abs(explainer.transform(X)).mean(axis=0)
    np.testing.assert_allclose(explainer.feature_importances_, expected, rtol=1e-9)


def test_every_method_explains_a_network_and_leaves_it():
    network, samples = make_reconstructor("mlp"), make_X("mlp", 10)
    before = copy.deepcopy(network.state_dict())
    for method, record in METHODS.items():
        params = {"n_samples": 20} if "n_samples" in record.params else None
        explainer = AnomalyAttributor(
            network, method=method, method_params=params, contamination=0.5, random_state=0
        ).fit(samples)
        assert np.isfinite(explainer.transform(samples)).all()
        assert explainer.transform(samples).shape == samples.shape
    assert network.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(6, 2), nn.Linear(2, 6)

    def forward(self, x):
        return self.decoder(self.encoder(x))


def skorch_net():
    net = NeuralNetRegressor(Linear, max_epochs=2, lr=0.1, train_split=None, verbose=0)
    cast = FunctionTransformer(np.float32)
    return make_pipeline(StandardScaler(), cast, net).fit(X, X.astype(np.float32))


def network_and_detector():
    net = Autoencoder(
        n_components=2, hidden_layer_sizes=(4,), max_epochs=1, validation_split=None, patience=1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_pipeline(StandardScaler(), net, OneClassSVM(nu=0.1)).fit(X)


@pytest.mark.parametrize(
    ("model", "params"),
    [
        (skorch_net, {}),
        (skorch_net, {"baseline": "neighbors"}),
        (network_and_detector, {"method": "kernel_shap"}),
    ],
)
def test_nets_in_pipelines_are_left_as_they_are(model, params):
    model = model()
    (network,) = torch_modules(model)
    network.train()
    before = copy.deepcopy(network.state_dict())
    explainer = AnomalyAttributor(model, random_state=0, **params).fit(X)
    fall = explainer.score_samples(explainer.references(ODD)) - explainer.score_samples(ODD)
    np.testing.assert_allclose(explainer.transform(ODD).sum(axis=1), fall, rtol=1e-3, atol=1e-4)
    assert network.training and all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_gaps_that_a_detector_takes():
    gaps = X.copy()
    gaps[::7, 1] = np.nan
    explainer = AnomalyAttributor(
        IsolationForest(n_estimators=10, random_state=0), method="kernel_shap", random_state=0
    ).fit(gaps)
    odd = ODD.copy()
    odd[0, 0] = np.nan
    fall = explainer.score_samples(explainer.references(odd)) - explainer.score_samples(odd)
    np.testing.assert_allclose(explainer.transform(odd).sum(axis=1), fall, atol=1e-9)
    assert not np.isnan(explainer.references(odd)).any()


def test_integers_have_means():
    whole = (10 * X).astype(int)
    explainer = AnomalyAttributor(
        IsolationForest(n_estimators=10, random_state=0), method="kernel_shap", n_neighbors=3
    ).fit(whole)
    assert (explainer.references(whole) % 1 != 0).any()
    exact = AnomalyAttributor(PCA(2), random_state=0).fit(whole)
    assert (exact.references(whole) % 1 != 0).any()


def test_what_reconstructs_everything_says_so():
    with pytest.warns(SklexplainWarning, match="reconstructs every calibration sample but for"):
        AnomalyAttributor(PCA(), random_state=0).fit(X)
    with pytest.raises(TypeError, match="set novelty=True"):
        AnomalyAttributor(LocalOutlierFactor()).fit(X)


def test_a_clone_explains_the_same_model():
    pca = PCA(2).fit(X)
    explainer = AnomalyAttributor(pca, random_state=0).fit(X)
    again = clone(explainer).fit(X)
    np.testing.assert_array_equal(again.transform(ODD), explainer.transform(ODD))
    assert again.estimator_.estimator is pca


def test_texts():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.permutation(["red", "green", "blue"])) for _ in range(40)]
    texts = [text + " bright" * (i % 2) for i, text in enumerate(texts)]
    model = make_pipeline(
        TfidfVectorizer(vocabulary=["blue", "bright", "green", "red", "spam"]),
        TruncatedSVD(1, random_state=0),
    )
    explainer = AnomalyAttributor(model, contamination=0.1, random_state=0).fit(texts)
    odd = ["red green blue spam"]
    assert explainer.get_feature_names_out()[explainer.transform(odd)[0].argmax()] == "spam"
    assert explainer.pvalue(odd)[0] < 0.1


@pytest.mark.parametrize("offset", [0, 1e8])
def test_neighbours_far_from_the_origin(offset):
    """Many distances at once are those of few, and of a loop."""
    X = np.random.default_rng(1).normal(size=(2200, 24)) + offset
    svd = TruncatedSVD(20, random_state=0).fit(X)
    options = {"baseline": "neighbors", "n_neighbors": 3, "method": "feature_ablation"}
    explainer = AnomalyAttributor(svd, random_state=0, **options).fit(X)
    found = explainer.references(X[:1500])
    few = np.concatenate([explainer.references(X[i : i + 100]) for i in range(0, 1500, 100)])
    np.testing.assert_array_equal(found, few)
    usual = explainer._references._neighbors.inputs
    for row in range(0, 1500, 250):
        distances = np.square(svd.transform(usual) - svd.transform(X[[row]])).sum(axis=1)
        distances[(usual == X[row]).all(axis=1)] = np.inf
        expected = usual[np.argsort(distances)[:3]].mean(axis=0)
        np.testing.assert_allclose(found[row], expected, rtol=1e-12)


def test_copies_by_number_are_copies():
    """0.0 and -0.0 are one number: a sample is never its own reference."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(100, 3)), np.tile([[0.0, 1.0, 2.0]], (40, 1))])
    X[-20:, 0] = -0.0
    explainer = AnomalyAttributor(
        OneClassSVM(), method="feature_ablation", baseline="neighbors", random_state=0
    ).fit(X)
    assert np.abs(explainer.references(X[-1:]) - X[-1]).max() > 0.1
