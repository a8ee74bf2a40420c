"""Like a corpus and unlike a foil, beside closed forms, loops and finite differences."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import trapezoid
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklexplain import LabelFreeAttributor
from sklexplain.exceptions import ChangedModelWarning, SklexplainWarning

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 5))
y = np.arange(40) % 4
EXACT = {"integrated_gradients": {"n_steps": 200}, "shapley_sampling": {"n_samples": 200}}


def linear(bias=True):
    torch.manual_seed(0)
    return nn.Linear(5, 3, bias=bias).double()


def tanh_net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def codes(net, X):
    with torch.no_grad():
        return net(torch.as_tensor(X)).numpy()


def similarity(name, a, b):
    """Of every row of a with every row of b, one pair after the other."""
    values = np.zeros((len(a), len(b)))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            lengths = np.linalg.norm(one) * np.linalg.norm(other) if name == "cosine" else 1.0
            values[i, j] = one @ other / lengths
    return values


def g(net, X, corpus, foil, name):
    value = similarity(name, codes(net, X), codes(net, corpus)).mean(axis=1)
    if foil is None:
        return value
    return value - similarity(name, codes(net, X), codes(net, foil)).mean(axis=1)


METHODS = ["integrated_gradients", "gradient_shap", "deep_lift", "input_x_gradient",
           "shapley_sampling", "kernel_shap", "feature_ablation"]  # fmt: skip


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_linear_closed_form(method, bias):
    net, corpus, foil = linear(bias), X[:7], X[7:20]
    explainer = LabelFreeAttributor(net, method=method, corpus=corpus, foil=foil, random_state=0)
    difference = codes(net, corpus).mean(axis=0) - codes(net, foil).mean(axis=0)
    weights = difference @ net.weight.detach().numpy()
    found = explainer.fit(X).transform(X)
    assert_allclose(found, (X - X.mean(axis=0)) * weights, atol=1e-8)


@pytest.mark.parametrize("name", ["dot", "cosine"])
@pytest.mark.parametrize("with_foil", [False, True])
@pytest.mark.parametrize("method", ["integrated_gradients", "shapley_sampling", "deep_lift"])
def test_complete_methods_share_out_the_change_of_g(method, with_foil, name):
    net, corpus, foil = tanh_net(), X[:7], X[7:20] if with_foil else None
    explainer = LabelFreeAttributor(
        net,
        method=method,
        method_params=EXACT.get(method),
        corpus=corpus,
        foil=foil,
        similarity=name,
        random_state=0,
    ).fit(X)
    expected = g(net, X, corpus, foil, name) - g(net, X.mean(axis=0)[None], corpus, foil, name)
    assert_allclose(explainer.transform(X).sum(axis=1), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["dot", "cosine"])
def test_saliency_is_the_slope_of_g(name):
    net, corpus, foil, h = tanh_net(), X[:7], X[7:20], 1e-5
    explainer = LabelFreeAttributor(
        net, method="saliency", corpus=corpus, foil=foil, similarity=name
    ).fit(X)
    found = explainer.transform(X[20:])
    for j in range(5):
        up, down = X[20:].copy(), X[20:].copy()
        up[:, j] += h
        down[:, j] -= h
        slope = (g(net, up, corpus, foil, name) - g(net, down, corpus, foil, name)) / (2 * h)
        assert_allclose(found[:, j], slope, rtol=1e-5, atol=1e-8)


def test_a_sample_alone_is_the_label_free_map():
    net = tanh_net()
    usual = LabelFreeAttributor(net).fit(X).transform(X[:3])
    for i in range(3):
        explainer = LabelFreeAttributor(net, corpus=X[i]).fit(X)
        assert_allclose(explainer.transform(X[i : i + 1]), usual[i : i + 1], rtol=1e-9)


def test_units():
    net, units = tanh_net(), [0, 2]
    part = nn.Sequential(*copy.deepcopy(list(net)))
    last = nn.Linear(6, 2).double()
    with torch.no_grad():
        last.weight.copy_(net[2].weight[units])
        last.bias.copy_(net[2].bias[units])
    part[2] = last
    kwargs = {"corpus": X[:7], "foil": X[7:9], "similarity": "cosine"}
    found = LabelFreeAttributor(net, units=units, **kwargs).fit(X)
    expected = LabelFreeAttributor(part, **kwargs).fit(X).transform(X)
    assert_allclose(found.transform(X), expected, rtol=1e-9)
    plain = LabelFreeAttributor(net).fit(X)
    assert_array_equal(found.unit_attributions(X, [1]), plain.unit_attributions(X, [1]))


@pytest.mark.parametrize("labels", [y, y.astype(str), y[:, None], pd.Series(y, index=y + 50)])
def test_labels_are_the_fitted_samples_that_carry_them(labels):
    as_label = str if np.asarray(labels).dtype.kind in "UO" else int
    named = {
        "rest": ({"label": as_label(1)}, "rest", y == 1, y != 1),
        "one": ({"label": as_label(1)}, {"label": as_label(3)}, y == 1, y == 3),
        "several": ({"label": [as_label(1), as_label(2)]}, None, (y == 1) | (y == 2), None),
        "mixed": ({"label": as_label(0)}, X[5:7], y == 0, np.isin(np.arange(40), [5, 6])),
    }
    for corpus, foil, rows, others in named.values():
        net = tanh_net()
        found = LabelFreeAttributor(net, corpus=corpus, foil=foil).fit(X, labels).transform(X)
        arrays = {"corpus": X[rows], "foil": None if others is None else X[others]}
        expected = LabelFreeAttributor(net, **arrays).fit(X).transform(X)
        assert_allclose(found, expected, rtol=1e-9)


def test_clusters_of_a_planted_column_are_told_by_it():
    clusters = RNG.normal(size=(120, 6))
    clusters[:40, 2] += 6
    clusters[40:80, 4] += 6
    labels = KMeans(3, n_init=5, random_state=0).fit_predict(clusters)
    columns = []
    for label in range(3):
        explainer = LabelFreeAttributor(PCA(4), corpus={"label": label}, foil="rest")
        own = explainer.fit(clusters, labels).transform(clusters[labels == label])
        columns.append(int(own.mean(axis=0).argmax()))
    assert set(columns) == {2, 4} and sorted(columns.count(c) for c in (2, 4)) == [1, 2]


def test_pipelines_black_boxes_and_searches():
    frame = pd.DataFrame(X * [1, 10, 100, 1, 1], columns=list("abcde"))
    target = (frame.c > 0).astype(int)
    forest = RandomForestClassifier(50, max_depth=3, random_state=0).fit(frame, target)
    explainer = LabelFreeAttributor(
        forest, method="shapley_sampling", corpus={"label": 1}, foil="rest", random_state=0
    ).fit(frame, target)
    assert explainer.feature_importances_.argmax() == 2
    assert explainer.transform(frame)[target == 1].mean(axis=0).argmax() == 2
    pipeline = make_pipeline(StandardScaler(), PCA(3)).fit(frame)
    raw = LabelFreeAttributor(pipeline, corpus=frame[:5], foil=frame[5:9]).fit(frame)
    scaled = pipeline[0].transform(frame)
    inner = LabelFreeAttributor(pipeline[1], corpus=scaled[:5], foil=scaled[5:9]).fit(scaled)
    assert_allclose(raw.transform(frame), inner.transform(scaled), rtol=1e-6, atol=1e-9)
    search = GridSearchCV(
        LabelFreeAttributor(tanh_net(), corpus={"label": 1}, foil="rest", random_state=0),
        {"method": ["saliency", "integrated_gradients"], "similarity": ["dot", "cosine"]},
        cv=2,
        error_score="raise",
    ).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("name", ["dot", "cosine"])
def test_score_measures_how_far_g_falls(name):
    net, corpus, foil = tanh_net(), X[:10], X[10:20]
    explainer = LabelFreeAttributor(
        net, corpus=corpus, foil=foil, similarity=name, random_state=0
    ).fit(X)
    curve, maps, mean = explainer.latent_shift(X), explainer.transform(X), X.mean(axis=0)
    order = np.argsort(-maps, axis=1)
    falls = []
    for m in curve.n_masked:
        masked = X.copy()
        for row, columns in zip(masked, order[:, :m], strict=True):
            row[columns] = mean[columns]
        before, after = (g(net, rows, corpus, foil, name) for rows in (X, masked))
        falls.append((before - after).mean())
    assert_allclose(curve.most, falls, atol=1e-10)
    away = g(net, X, corpus, foil, name) - g(net, mean[None], corpus, foil, name)
    assert_allclose(curve.full_shift, np.abs(away).mean())
    areas = trapezoid([curve.most, curve.random, curve.least], curve.fractions, axis=1)
    by_chance, rng = np.zeros(len(X)), np.random.RandomState(explainer.seed_)
    for _ in range(10):
        rank, falls = rng.permutation(5), []
        for m in curve.n_masked:
            masked = np.where(rank < m, mean, X)
            before, after = (g(net, rows, corpus, foil, name) for rows in (X, masked))
            falls.append(before - after)
        by_chance += trapezoid(falls, curve.fractions, axis=0) / 10
    assert_allclose(by_chance.mean(), areas[1], atol=1e-10)
    assert areas[1] < np.abs(by_chance).mean() / 3  # the mean is the baseline: all but cancels
    assert_allclose(curve.area_ratio, 1 + (areas[0] - areas[1]) / (np.abs(by_chance).mean() / 3))
    some = X[by_chance > 0]  # of these it is the ratio of the areas
    one = explainer.latent_shift(some)
    assert_allclose(
        one.area_ratio,
        trapezoid(one.most, one.fractions) / trapezoid(one.random, one.fractions),
    )
    assert_allclose(curve.separation, (areas[0] - areas[2]) / curve.full_shift)
    assert explainer.score(X) == curve.area_ratio > 1
    worse = LabelFreeAttributor(net, corpus=foil, foil=corpus, similarity=name, random_state=0).fit(
        X
    )
    worse._contrast = explainer._contrast  # maps of the opposite would be worse than chance
    worse._maps = lambda *args, **kwargs: -maps[:, None]
    assert worse.score(X) < 1


def test_score_of_samples_that_nothing_moves():
    explainer = LabelFreeAttributor(linear(), corpus=X[:3]).fit(X)
    with pytest.warns(SklexplainWarning, match="nothing to compare"):
        assert explainer.score(np.repeat(X.mean(axis=0)[None], 3, axis=0)) == 1.0


def test_a_code_of_zero_has_no_direction():
    net = nn.Sequential(nn.Linear(5, 2, bias=False), nn.ReLU()).double()
    explainer = LabelFreeAttributor(
        net, method="saliency", corpus=X[:20], similarity="cosine", baseline="zeros"
    ).fit(X)
    assert_array_equal(explainer.transform(np.zeros((1, 5))), np.zeros((1, 5)))


def test_nothing_of_the_samples_is_kept_and_all_is_saved():
    explainer = LabelFreeAttributor(tanh_net(), corpus={"label": 1}, foil="rest").fit(X, y)
    again = pickle.loads(pickle.dumps(explainer))
    assert_array_equal(again.transform(X), explainer.transform(X))
    assert explainer._contrast.direction.shape == (3,)


def test_changed_weights_are_said():
    net = tanh_net()
    explainer = LabelFreeAttributor(net, corpus=X[:4]).fit(X)
    with torch.no_grad():
        net[0].weight.add_(0.1)
    with pytest.warns(ChangedModelWarning, match="fit it again"):
        explainer.transform(X)


WRONG = {
    "foil alone": ({"foil": X[:3]}, "foil is given without corpus"),
    "cosine alone": ({"similarity": "cosine"}, "needs a corpus"),
    "similarity": ({"corpus": X[:3], "similarity": "cosin"}, "Did you mean 'cosine'"),
    "centred": ({"corpus": X[:3], "center": True}, "center=True has no meaning"),
    "a word": ({"corpus": "1"}, "corpus={'label': '1'}"),
    "rest of samples": ({"corpus": X[:3], "foil": "rest"}, "corpus must be {'label': …}"),
    "another word": ({"corpus": {"label": 1}, "foil": "rests"}, "Did you mean 'rest'"),
    "another key": ({"corpus": {"labels": 1}}, "must have the key 'label'"),
    "unknown label": ({"corpus": {"label": 7}}, "no sample has corpus's label 7; y holds 0, 1"),
    "no label": ({"corpus": {"label": []}}, "corpus names no label"),
    "in both": ({"corpus": {"label": [0, 1]}, "foil": {"label": 1}}, "label 1 is in corpus and"),
    "all": ({"corpus": {"label": [0, 1, 2, 3]}, "foil": "rest"}, "foil='rest' is empty"),
    "alike": ({"corpus": X[:3], "foil": X[:3]}, "the same mean representation"),
    "shape": ({"corpus": X[:3, :4]}, "4 features"),
    "not finite": ({"corpus": np.full((1, 5), np.nan)}, "NaN"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_has_no_meaning_is_refused(name):
    params, match = WRONG[name]
    with pytest.raises(ValueError, match=match):
        LabelFreeAttributor(tanh_net(), **params).fit(X, y)


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (None, "fit needs y"),
        (y[:5], r"y has shape \(5,\)"),
        (np.where(y == 2, np.nan, y), "no label"),
    ],
)
def test_labels_that_are_not_of_the_samples(labels, match):
    with pytest.raises(ValueError, match=match):
        LabelFreeAttributor(tanh_net(), corpus={"label": 1}).fit(X, labels)


def test_skops():
    io = pytest.importorskip("skops.io")
    explainer = LabelFreeAttributor(PCA(3), corpus={"label": 1}, foil=X[:4]).fit(X, y)
    data = io.dumps(explainer)
    again = io.loads(data, trusted=io.get_untrusted_types(data=data))
    assert_array_equal(again.transform(X), explainer.transform(X))
    assert again.score(X) == explainer.score(X)


@pytest.mark.parametrize("given", [[1, "a"], (1, "a"), {1, "a"}, np.array([1, "a"], dtype=object)])
def test_labels_of_several_types(given):
    labels = np.array([1, "a", "b"] * 20, dtype=object)[: len(X)]
    found = LabelFreeAttributor(PCA(3), corpus={"label": given}, foil="rest").fit(X, labels)
    one = np.where(labels == "b", 0, 1)
    expected = LabelFreeAttributor(PCA(3), corpus={"label": 1}, foil="rest").fit(X, one)
    np.testing.assert_array_equal(found.transform(X), expected.transform(X))
