"""Attributions in raw units through Pipelines, black boxes, model selection and DataFrames."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import skorch
import torch
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA, KernelPCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectFromModel
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler
from torch import nn

from sklexplain import LabelFreeAttributor
from sklexplain.explaining import GRADIENT_METHODS, METHODS, PERTURBATION_METHODS
from sklexplain.nets import Autoencoder

RNG = np.random.RandomState(0)


def small_autoencoder(**params):
    params = {"n_components": 2, "hidden_layer_sizes": (6,), "max_epochs": 3, **params}
    return Autoencoder(validation_split=None, random_state=0, **params)


def raw_table(n_samples=60):
    """Columns of very different units, the last one epoch seconds within one minute."""
    X = RNG.normal(size=(n_samples, 4)) @ RNG.normal(size=(4, 4)) * [1, 1e-3, 1e4, 20]
    X[:, 3] += 1.7e9
    return X


LINEAR_IN_BASELINE = sorted(set(METHODS) - {"saliency", "smooth_grad", "lime", "occlusion"})


@pytest.mark.parametrize("method", LINEAR_IN_BASELINE)
def test_scalers_and_whitened_pca_have_the_closed_form_in_raw_units(method):
    X = raw_table()
    pipe = make_pipeline(MinMaxScaler(), StandardScaler(), PCA(3, whiten=True)).fit(X)
    params = {"n_samples": 2} if method == "shapley_sampling" else None
    explainer = LabelFreeAttributor(pipe, method=method, method_params=params, random_state=0)
    actual = explainer.fit(X).transform(X)
    # The closed form, with centred columns throughout so that epoch seconds keep their digits.
    mean = X.mean(axis=0)
    scale = np.ptp(X, axis=0) * ((X - mean) / np.ptp(X, axis=0)).std(axis=0)
    pca = pipe[-1]
    W = pca.components_ / np.sqrt(pca.explained_variance_)[:, None] / scale
    expected = (X - mean) * ((X - mean) @ W.T @ W)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max())
    np.testing.assert_allclose(actual.sum(axis=1), (pipe.transform(X) ** 2).sum(axis=1), rtol=1e-6)


def test_saliency_is_per_raw_unit():
    X = raw_table()
    pipe = make_pipeline(StandardScaler(), PCA(3)).fit(X)
    actual = LabelFreeAttributor(pipe, method="saliency").fit(X).transform(X)
    W = pipe[-1].components_ / pipe[0].scale_
    expected = (X - X.mean(axis=0)) @ W.T @ W
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())


def test_a_network_behind_a_scaler_gets_raw_epoch_seconds():
    X = raw_table()
    pipe = make_pipeline(StandardScaler(), small_autoencoder()).fit(X)
    scaled = pipe[0].transform(X)
    raw = LabelFreeAttributor(pipe).fit(X).transform(X)
    inner = LabelFreeAttributor(pipe[1]).fit(scaled).transform(scaled)
    np.testing.assert_allclose(raw, inner, atol=1e-4 * np.abs(inner).max())
    assert raw.dtype == np.float32


# -- heads -------------------------------------------------------------------------------------


def mixed_frame(n_samples=40):
    rng = np.random.RandomState(1)
    frame = pd.DataFrame(
        {
            "age": rng.normal(50, 10, n_samples),
            "site": rng.choice(["a", "b", "c"], n_samples),
            "dose": rng.normal(size=n_samples),
            "stage": rng.choice(["I", "II"], n_samples),
        }
    )
    frame.loc[3, "age"] = np.nan
    return frame


def mixed_pipeline():
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), ["age", "dose"]),
        (OneHotEncoder(drop="first"), ["site"]),
        (OrdinalEncoder(), ["stage"]),
    )
    return make_pipeline(columns, small_autoencoder())


@pytest.mark.parametrize("method", sorted(METHODS))
def test_encoded_columns_are_summed_back_to_raw_columns(method):
    frame = mixed_frame()
    params = {"n_steps": 1000} if method == "integrated_gradients" else None
    explainer = LabelFreeAttributor(
        mixed_pipeline(), method=method, method_params=params, random_state=0
    ).fit(frame)
    maps = explainer.transform(frame)
    assert maps.shape == (40, 4)
    assert explainer.get_feature_names_out().tolist() == ["age", "site", "dose", "stage"]
    assert np.isfinite(explainer.score(frame))
    if method in ("integrated_gradients", "deep_lift", "kernel_shap", "shapley_sampling"):
        z = explainer.estimator_.transform(frame)
        encoded = explainer._representation.inputs(frame).mean(axis=0, keepdims=True)
        z0 = explainer._representation.activations(encoded, 10)
        expected = (z * (z - z0)).sum(axis=1)
        np.testing.assert_allclose(maps.sum(axis=1), expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_column_that_the_pipeline_drops_has_no_importance(method):
    frame = mixed_frame()  # its last column is not used
    columns = make_column_transformer(
        (SimpleImputer(), ["age", "dose"]), (OneHotEncoder(), ["site"])
    )
    pipe = make_pipeline(columns, PCA(2)).fit(frame)
    for groups, n_features in ((None, 4), ({"used": ["age", "site", "dose"], "not": ["stage"]}, 2)):
        explainer = LabelFreeAttributor(pipe, method=method, groups=groups, random_state=0)
        maps = explainer.fit(frame).transform(frame)
        assert maps.shape == (40, n_features) == (40, len(explainer.get_feature_names_out()))
        # LIME's ridge gives a player that does nothing what chance gives it.
        tolerance = 0.3 if method == "lime" else 1e-9
        assert np.abs(maps[:, -1]).max() <= tolerance * np.abs(maps).max()
        assert explainer.feature_importances_.shape == (n_features,)
        assert np.isfinite(explainer.score(frame))


def test_ablating_a_raw_column_ablates_all_it_was_encoded_to():
    frame = mixed_frame()
    explainer = LabelFreeAttributor(mixed_pipeline(), method="feature_ablation").fit(frame)
    encoded = explainer._representation.inputs(frame)
    assert explainer._representation.head.columns.tolist() == [0, 2, 0, 1, 1, 3]
    masked = encoded.copy()
    masked[:, [0, 2]] = encoded.mean(axis=0)[[0, 2]]
    z, z0 = (explainer._representation.activations(e, 100) for e in (encoded, masked))
    expected = (z * (z - z0)).sum(axis=1)
    np.testing.assert_allclose(explainer.transform(frame)[:, 0], expected, atol=1e-5)


def test_polars_and_pandas_give_the_same():
    frame = mixed_frame()
    explainer = LabelFreeAttributor(mixed_pipeline(), method="saliency").fit(frame)
    X = raw_table()
    names = ["a", "b", "c", "seconds"]
    pipe = make_pipeline(StandardScaler(), PCA(2))
    pandas = LabelFreeAttributor(pipe).fit(pd.DataFrame(X, columns=names))
    polars = LabelFreeAttributor(pipe).fit(pl.DataFrame(X, schema=names))
    expected = LabelFreeAttributor(pipe).fit(X).transform(X)
    # Column order in memory differs, and with it the rounding of the scaler's mean.
    close = {"rtol": 1e-4, "atol": 1e-6}
    actual = pandas.transform(pd.DataFrame(X, columns=names))
    np.testing.assert_allclose(actual, expected, **close)
    actual = polars.transform(pl.DataFrame(X, schema=names))
    np.testing.assert_allclose(actual, expected, **close)
    assert pandas.get_feature_names_out().tolist() == names
    assert polars.get_feature_names_out().tolist() == names
    with pytest.raises(ValueError, match="feature names"):
        pandas.transform(pd.DataFrame(X, columns=names[::-1]))
    assert explainer.set_output(transform="polars").transform(frame).columns == list(frame.columns)


def test_a_text_column_without_an_encoder_is_named():
    frame = mixed_frame().drop(columns="age")
    with pytest.raises(ValueError, match=r"column 'site' is not numeric .*OneHotEncoder"):
        LabelFreeAttributor(PCA(1)).fit(frame)


# -- black boxes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "estimator",
    [
        KernelPCA(2, kernel="rbf"),
        KMeans(3, random_state=0),
        RandomForestClassifier(40, min_samples_leaf=3, random_state=0),
        make_pipeline(StandardScaler(), KernelPCA(2, kernel="rbf")),
    ],
    ids=["kernel_pca", "kmeans", "forest", "pipeline"],
)
def test_black_boxes_through_perturbation(estimator):
    X = RNG.normal(size=(40, 4))
    X[:, 3] = 1.0
    y = (X[:, 0] > 0).astype(int)
    fitted = clone(estimator).fit(X, y)
    for method in sorted(PERTURBATION_METHODS):
        explainer = LabelFreeAttributor(fitted, method=method, random_state=0).fit(X)
        maps = explainer.transform(X)
        whole = np.concatenate([explainer.transform(X[i : i + 7]) for i in range(0, 40, 7)])
        np.testing.assert_allclose(whole, maps, atol=1e-12)
        if method == "kernel_shap":
            offered = "transform" if hasattr(fitted, "transform") else "predict_proba"
            f = getattr(fitted, offered)
            z, z0 = f(X), f(X.mean(axis=0)[None])
            np.testing.assert_allclose(maps.sum(axis=1), (z * (z - z0)).sum(axis=1), atol=1e-9)
            np.testing.assert_allclose(maps[:, 3], 0, atol=1e-9)
    for method in sorted(GRADIENT_METHODS):
        with pytest.raises(TypeError, match="no torch form.*'kernel_shap'"):
            LabelFreeAttributor(fitted, method=method).fit(X)


@pytest.mark.parametrize("method", ["integrated_gradients", "feature_ablation"])
def test_classifiers_are_explained_by_their_probabilities(method):
    X = RNG.normal(size=(60, 4))
    y = np.where(X[:, 1] > 0, "ill", "well")
    classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    explainer = LabelFreeAttributor(classifier, method=method).fit(X)
    assert explainer.n_units_ == 2
    assert explainer.feature_importances_.argmax() == 1
    mlp = MLPClassifier((5,), max_iter=5000, learning_rate_init=0.01, random_state=0).fit(X, y)
    assert LabelFreeAttributor(mlp, method=method).fit(X).feature_importances_.argmax() == 1


# -- model selection and clones ----------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("kind", ["fitted", "frozen", "unfitted", "module"])
def test_grid_search(kind, n_jobs):
    X = RNG.normal(size=(40, 4)).astype(np.float32)
    net = small_autoencoder()
    if kind != "unfitted":
        net.fit(X)
        before = {k: v.clone() for k, v in net.net_.module_.state_dict().items()}
    estimator = {"frozen": lambda: FrozenEstimator(net), "module": lambda: net.net_.module_.encoder}
    estimator = estimator.get(kind, lambda: net)()
    search = GridSearchCV(
        LabelFreeAttributor(estimator, random_state=0),
        {"method": ["saliency", "deep_lift"], "center": [False, True]},
        cv=2,
        n_jobs=n_jobs,
        error_score="raise",
    ).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    explained = search.best_estimator_.estimator_
    if kind == "unfitted":
        assert not hasattr(net, "net_")
        assert explained is not net
        return
    while isinstance(explained, FrozenEstimator):
        explained = explained.estimator
    assert explained is (net.net_.module_.encoder if kind == "module" else net)
    assert all(torch.equal(before[k], v) for k, v in net.net_.module_.state_dict().items())


def test_searches_and_frozen_estimators_are_looked_through():
    X = RNG.normal(size=(40, 4))
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression()), {"logisticregression__C": [1, 10]}
    ).fit(X, X[:, 0] > 0)
    expected = LabelFreeAttributor(search.best_estimator_).fit(X).transform(X)
    for estimator in (search, FrozenEstimator(search), FrozenEstimator(search.best_estimator_)):
        actual = LabelFreeAttributor(estimator).fit(X).transform(X)
        np.testing.assert_array_equal(actual, expected)


def test_an_unfitted_estimator_is_fitted_on_a_clone():
    X = RNG.normal(size=(40, 4))
    pipe = make_pipeline(StandardScaler(), PCA(2))
    explainer = LabelFreeAttributor(pipe).fit(X)
    assert not hasattr(pipe[1], "components_")
    assert hasattr(explainer.estimator_[1], "components_")


def test_set_params_reaches_into_the_estimator():
    explainer = LabelFreeAttributor(make_pipeline(StandardScaler(), PCA(2)))
    explainer.set_params(estimator__pca__n_components=3, center=True)
    assert explainer.fit(RNG.normal(size=(20, 4))).n_units_ == 3


def test_select_from_model_and_pipeline_composition():
    X = RNG.normal(size=(50, 4)) * [10, 1, 1, 0.1]
    selector = SelectFromModel(LabelFreeAttributor(PCA(1)), max_features=1, threshold=-np.inf)
    assert selector.fit(X).get_support().tolist() == [True, False, False, False]
    composed = make_pipeline(LabelFreeAttributor(PCA(2)), StandardScaler())
    assert composed.fit_transform(X).shape == (50, 4)


# -- what cannot be explained ------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(x)


def test_partly_fitted_pipelines_and_untrained_nets_are_not_fitted():
    X = RNG.normal(size=(20, 4))
    pipe = make_pipeline(StandardScaler().fit(X), PCA(2))
    with pytest.raises(NotFittedError, match="step 'pca' is not fitted but step 'standardscaler'"):
        LabelFreeAttributor(pipe).fit(X)
    with pytest.raises(NotFittedError, match="step 'pca'"):
        clone(LabelFreeAttributor(pipe)).fit(X)
    with pytest.raises(NotFittedError, match="frozen but not fitted"):
        LabelFreeAttributor(FrozenEstimator(PCA(2))).fit(X)
    net = skorch.NeuralNetClassifier(Net, criterion=nn.CrossEntropyLoss).initialize()
    with pytest.raises(NotFittedError, match="initialised but was never trained.*module_"):
        LabelFreeAttributor(net).fit(X)


@pytest.mark.parametrize("thing", ["model", 3, None, np.ones(3), PCA, Net, lambda x: x])
def test_what_is_no_model_is_a_type_error(thing):
    with pytest.raises(TypeError, match="estimator.*(no model|is the class).*torch.nn.Module"):
        LabelFreeAttributor(thing).fit(RNG.normal(size=(20, 4)))


def test_skorch_nets():
    X = RNG.normal(size=(40, 4)).astype(np.float32)
    y = (X[:, 0] > 0).astype(np.int64)
    net = skorch.NeuralNetClassifier(
        Net, criterion=nn.CrossEntropyLoss, max_epochs=2, verbose=0, train_split=None
    )
    explainer = LabelFreeAttributor(net).fit(X.astype(np.float64), y)
    assert explainer.n_units_ == 2
    z = explainer._representation.activations(X, 10)
    np.testing.assert_allclose(z, explainer.estimator_.predict_proba(X), atol=1e-6)
    assert not net.initialized_ if hasattr(net, "initialized_") else True
    logits = LabelFreeAttributor(explainer.estimator_, layer="linear").fit(X)
    assert (logits._representation.activations(X, 10) < 0).any()


@pytest.mark.parametrize(
    "X, message",
    [
        (np.zeros((5, 3)), "X has 3 features"),
        (np.zeros((5, 4, 1)), r"shape \(n, 4, 1\).*fitted on \(n, 4\)"),
        (np.zeros(4), "Expected 2D array"),
        (np.full((5, 4), np.nan), "contains NaN: column 0, row 0"),
        (np.full((5, 4), np.inf), "contains infinity: column 0, row 0"),
        (np.zeros((0, 4)), "0 sample"),
        (np.array([["a", "b", "c", "d"]]), "column 0 is not numeric"),
    ],
)
def test_wrong_X(X, message):
    explainer = LabelFreeAttributor(PCA(2)).fit(RNG.normal(size=(20, 4)))
    with pytest.raises(ValueError, match=message):
        explainer.transform(X)


def test_a_network_of_another_width():
    with pytest.raises(ValueError, match=r"could not run on X of shape \(n, 7\)"):
        LabelFreeAttributor(nn.Linear(4, 2)).fit(RNG.normal(size=(20, 7)))
