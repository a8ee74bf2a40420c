"""What every explainer does before it explains: cloning, fitting, validating."""

import copy
import pickle

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, KernelPCA
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch import NeuralNetRegressor
from torch import nn

from sklexplain.attribution import LabelFreeAttributor
from sklexplain.nets import Autoencoder

from .cases import encode, make_net, make_X

RNG = np.random.RandomState(0)
X = RNG.normal(size=(20, 5)).astype("f")
FRAME = pd.DataFrame(X, columns=list("abcde"))


def explain(estimator, **params):
    return LabelFreeAttributor(estimator, method="saliency", random_state=0, **params)


def skorch_net(**params):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Linear(5, 5)
    return NeuralNetRegressor(module, max_epochs=1, verbose=0, train_split=None, **params)


def small_autoencoder():
    return Autoencoder(
        n_components=2, hidden_layer_sizes=(3,), max_epochs=1, validation_split=None, random_state=0
    )


# -- cloning and fitting -----------------------------------------------------------------------

FITTED = {
    "pca": lambda: PCA(2).fit(X),
    "pipeline": lambda: make_pipeline(StandardScaler(), PCA(2)).fit(X),
    "union": lambda: FeatureUnion([("a", PCA(2)), ("b", StandardScaler())]).fit(X),
    "autoencoder": lambda: small_autoencoder().fit(X),
    "skorch": lambda: skorch_net().fit(X, X),
    "search": lambda: GridSearchCV(PCA(), {"n_components": [1, 2]}, cv=2).fit(X),
}


@pytest.mark.parametrize("name", FITTED)
def test_clones_explain_the_same_fitted_estimator(name):
    estimator = FITTED[name]()
    before = pickle.dumps(estimator)
    cloned = clone(clone(explain(estimator)))
    assert isinstance(cloned.estimator, FrozenEstimator)
    assert cloned.estimator.estimator is estimator
    cloned.fit(X[:10])
    assert cloned.estimator_.estimator is estimator
    assert explain(estimator).fit(X[:10]).estimator_ is estimator
    assert pickle.dumps(estimator) == before
    np.testing.assert_array_equal(cloned.transform(X), explain(estimator).fit(X[:10]).transform(X))


def test_clones_share_modules_and_frozen_estimators():
    net = make_net("mlp")
    assert clone(explain(net)).estimator is net
    assert clone(explain(net)).fit(X).estimator_ is net
    frozen = FrozenEstimator(PCA(2).fit(X))
    assert clone(explain(frozen)).estimator is frozen
    explain(FrozenEstimator(net)).fit(X)


@pytest.mark.parametrize("make", [PCA, small_autoencoder, skorch_net], ids=["pca", "ae", "skorch"])
def test_unfitted_estimators_are_cloned_and_fitted(make):
    estimator = make()
    before = pickle.dumps(estimator)
    cloned = clone(explain(estimator))
    assert cloned.estimator is not estimator
    y = X if make is skorch_net else None
    fitted = cloned.fit(X.astype(np.float64), y)
    assert fitted.estimator_ is not cloned.estimator
    assert explain(estimator).fit(X, y).estimator_ is not estimator
    assert pickle.dumps(estimator) == before


def test_clone_keeps_parameters_and_output():
    explainer = explain(PCA(2), units=[1], baseline=X[:2]).set_output(transform="pandas")
    cloned = clone(explainer)
    assert cloned.baseline is not explainer.baseline
    assert cloned.get_params(deep=False).keys() == explainer.get_params(deep=False).keys()
    assert cloned.units == [1] and cloned.units is not explainer.units
    assert isinstance(cloned.fit(FRAME).transform(FRAME), pd.DataFrame)


def test_parameters_reach_the_estimator():
    explainer = explain(PCA(2))
    assert explainer.get_params()["estimator__n_components"] == 2
    explainer.set_params(estimator__n_components=3, method="feature_ablation")
    assert explainer.fit(X).n_units_ == 3
    with pytest.raises(ValueError, match="frozen"):
        clone(explain(PCA(2).fit(X))).set_params(estimator__n_components=3)


@pytest.mark.parametrize("name", ["pipeline", "skorch"])
def test_search_explains_a_fitted_estimator_in_every_fold(name):
    estimator = FITTED[name]()
    before = pickle.dumps(estimator)
    search = GridSearchCV(explain(estimator), {"units": [[0], [1]]}, cv=2, error_score="raise")
    search.fit(X)
    assert pickle.dumps(estimator) == before
    assert search.best_estimator_.estimator_.estimator is estimator


def test_search_fits_an_unfitted_estimator_in_every_fold():
    rows = []

    class Recorder(PCA):
        def fit(self, X, y=None):
            rows.append(len(X))
            return super().fit(X, y)

    estimator = Recorder(2)
    explainer = LabelFreeAttributor(estimator, method="feature_ablation", random_state=0)
    GridSearchCV(
        explainer, {"units": [[0]]}, cv=[(range(9), range(9, 20)), (range(5), [6, 7])]
    ).fit(X)
    assert rows == [9, 5, 20]
    assert not hasattr(estimator, "components_")


def test_unfitted_search_over_a_net_is_fitted():
    search = GridSearchCV(skorch_net(), {"lr": [0.1, 0.01]}, cv=2)
    explainer = explain(search).fit(X.astype(np.float64), X)
    assert explainer.estimator_.best_estimator_.history


# -- not fitted, no model ----------------------------------------------------------------------


def half_fitted(cls=make_pipeline):
    return cls(StandardScaler().fit(X), PCA(2))


def search_without_refit():
    return GridSearchCV(PCA(), {"n_components": [1, 2]}, cv=2, refit=False).fit(X)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (half_fitted, "step 'pca' is not fitted but step 'standardscaler' is"),
        (lambda: make_pipeline(half_fitted()), "step 'pca' is not fitted"),
        (
            lambda: make_pipeline(StandardScaler(), PCA(2).fit(X)),
            "step 'standardscaler' is not fitted",
        ),
        (lambda: FrozenEstimator(PCA()), "frozen but not fitted; fit the PCA"),
        (lambda: skorch_net().initialize(), "initialised but was never trained; call fit"),
        (search_without_refit, "refit=False and keeps no fitted estimator; run it with refit"),
    ],
    ids=["pipeline", "nested", "first", "frozen", "skorch", "search"],
)
def test_partly_fitted(make, message):
    estimator = make()
    for explainer in (explain(estimator), clone(explain(estimator))):
        with pytest.raises(NotFittedError, match=message):
            explainer.fit(X)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (5, "estimator=5 is no model"),
        (None, "estimator=None is no model"),
        ("resnet", "estimator='resnet' is no model"),
        (PCA, r"is the class PCA, not an instance; write PCA\(...\)"),
        (nn.Linear, "is the class Linear"),
        (lambda x: x, "is no model"),
    ],
)
def test_no_model(estimator, message):
    for explainer in (explain(estimator), clone(explain(estimator))):
        with pytest.raises(TypeError, match=message):
            explainer.fit([["whatever X is"]])


def test_not_fitted_explainer():
    with pytest.raises(NotFittedError, match="LabelFreeAttributor"):
        explain(PCA(2)).transform(X)


# -- X -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        X.tolist(),
        FRAME,
        pl.DataFrame(X, schema=list("abcde")),
        torch.tensor(X, requires_grad=True),
        X.astype(np.float64),
        X.astype(object),
        X[:, ::-1].copy()[:, ::-1],
        X.astype(">f4"),
    ],
    ids=["list", "pandas", "polars", "torch", "float64", "object", "reversed", "big-endian"],
)
def test_kinds_of_X(given):
    net = make_net("mlp")
    expected = explain(net).fit(X).transform(X)
    maps = explain(net).fit(given).transform(given)
    assert isinstance(maps, np.ndarray) and maps.dtype == np.float32
    np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float16, bool, np.int32, np.uint8])
def test_other_numbers(dtype):
    given = (10 * X).astype(dtype)
    net = make_net("mlp")
    np.testing.assert_allclose(
        explain(net).fit(given).transform(given),
        explain(net).fit(given.astype("f")).transform(given.astype("f")),
        rtol=1e-6,
    )


def with_value(value, dtype=np.float32):
    out = X.astype(dtype)
    out[3, 1] = value
    return out


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (with_value(np.nan), ValueError, "contains NaN: column 1, row 3.*SimpleImputer"),
        (with_value(np.inf), ValueError, "contains infinity: column 1, row 3.*clip"),
        (with_value("x", object), ValueError, "(?s)column 1 is not numeric.*'x'.*OneHotEncoder"),
        (FRAME.assign(b="x"), ValueError, "column 'b' is not numeric.*'x'.*OneHotEncoder"),
        (pd.DataFrame(with_value(np.nan), columns=list("abcde")), ValueError, "column 'b', row 3"),
        (X[:, :4], ValueError, "4"),
        (X[:, 0], ValueError, "Expected 2D array, got 1D|dim"),
        (X[:0], ValueError, "0 sample"),
        (X[:, :0], ValueError, r"0 feature"),
        (np.stack([X, X], axis=2), ValueError, r"\(n, 5, 2\)"),
        (sparse.csr_matrix(X), TypeError, "[Ss]parse"),
        (with_value(1e300, np.float64), ValueError, "up to 1e\\+300, too large for.*float32"),
        (X.astype(complex), ValueError, "[Cc]omplex"),
    ],
    ids=lambda v: None,
)
@pytest.mark.parametrize("when", ["fit", "transform"])
def test_bad_X(bad, error, message, when):
    explainer = explain(make_net("mlp"))
    if when == "transform":
        explainer.fit(FRAME if hasattr(bad, "columns") else X)
    with pytest.raises(error, match=message):
        getattr(explainer, when)(bad)


def test_axes_are_never_swapped():
    net, series = make_net("conv1d"), make_X("conv1d")
    with pytest.raises(
        ValueError, match=r"could not run on X of shape \(n, 10, 2\).*never swapped"
    ):
        explain(net).fit(series.swapaxes(1, 2))
    with pytest.raises(ValueError, match=r"X has shape \(n, 2, 9\), but .* fitted on \(n, 2, 10\)"):
        explain(net).fit(series).transform(series[:, :, :9])


def test_missing_values_in_series_are_located():
    series = make_X("conv1d")
    series[2, 1, 7] = np.nan
    with pytest.raises(ValueError, match=r"position \(1, 7\) of the sample.*row 2"):
        explain(make_net("conv1d")).fit(series)


@pytest.mark.parametrize(
    "estimator",
    [StandardScaler(), PCA(2), make_pipeline(StandardScaler(), PCA(2)), small_autoencoder()],
    ids=repr,
)
def test_fitted_estimators_are_given_the_columns_they_have_seen(estimator):
    estimator = clone(estimator).fit(FRAME if not hasattr(estimator, "lr") else X)
    name = type(estimator).__name__
    for bad in (X[:, :1], X[:, :4], np.hstack([X, X])):
        with pytest.raises(ValueError, match=rf"features, but {name} was fitted on 5"):
            explain(estimator).fit(bad)
    if hasattr(estimator, "feature_names_in_"):
        with pytest.raises(ValueError, match="has column 'b' where .* was fitted on 'a'"):
            explain(estimator).fit(FRAME[list("bacde")])
    explain(estimator).fit(X)


def test_scikit_learn_steps_take_two_dimensions():
    with pytest.raises(ValueError, match=r"\(n, 5, 5\).*two dimensions"):
        explain(StandardScaler().fit(X)).fit(np.stack([X] * 5, axis=2))


@pytest.mark.parametrize(("fitted_on", "given"), [(X, FRAME), (FRAME, X)], ids=["frame", "array"])
def test_names_come_and_go_without_warnings(fitted_on, given):
    for estimator in (make_pipeline(StandardScaler(), PCA(2)), make_pipeline(KernelPCA(2))):
        estimator.fit(fitted_on)
        explainer = LabelFreeAttributor(estimator, method="feature_ablation", random_state=0)
        assert explainer.fit(given).transform(given).shape == X.shape


# -- precision ---------------------------------------------------------------------------------


def seconds():
    t = 1.7e9 + RNG.uniform(0, 60, size=20)
    return pd.DataFrame({"a": X[:, 0].astype(np.float64), "time": t})


def test_epoch_seconds_straight_into_a_network_are_warned_of():
    frame, net = seconds(), nn.Linear(2, 2)
    with pytest.warns(
        DataConversionWarning, match="Column 'time' varies too little.*StandardScaler"
    ):
        explain(net).fit(frame)
    with pytest.warns(DataConversionWarning, match="Column 1 varies too little"):
        explain(net).fit(frame.to_numpy())


def test_warnings_name_the_raw_column_behind_a_head():
    frame = seconds().assign(kind=["u", "v"] * 10)[["kind", "a", "time"]]
    columns = [("k", OneHotEncoder(), ["kind"]), ("n", SimpleImputer(), ["a", "time"])]
    net = small_autoencoder()
    with pytest.warns(DataConversionWarning):
        pipeline = Pipeline([("c", ColumnTransformer(columns)), ("net", net)]).fit(frame)
    with pytest.warns(DataConversionWarning, match="Column 'time' varies"):
        explain(pipeline).fit(frame)


def test_epoch_seconds_survive_a_scaler_in_front():
    frame = seconds()
    explainer = explain(make_pipeline(StandardScaler(), small_autoencoder())).fit(frame)
    z = explainer._representation.activations(frame.to_numpy(), 8)
    np.testing.assert_allclose(z, explainer.estimator_.transform(frame), rtol=1e-5)


# -- token numbers -----------------------------------------------------------------------------


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 4)

    def forward(self, tokens):
        return self.embedding(tokens).mean(dim=1)


def test_token_numbers():
    tokens, net = RNG.randint(10, size=(9, 6)), Tokens()
    explainer = LabelFreeAttributor(net, method="feature_ablation", baseline="zeros")
    assert explainer.fit(tokens).transform(tokens).shape == (9, 6)
    z = explainer._representation.activations(tokens, 4)
    np.testing.assert_allclose(z, encode(net, tokens), rtol=1e-6)
    with pytest.raises(TypeError, match="takes integers.*float64; pass X.astype"):
        explainer.transform(tokens + 0.5)
    with pytest.raises(TypeError, match="takes integers.*float64; pass X.astype"):
        clone(explainer).fit(tokens.astype(np.float64))
    with pytest.raises(TypeError, match="takes integers, which have no gradient.*ablation"):
        explain(net).fit(tokens)
    with pytest.raises(ValueError, match="as integers: index out of range"):
        clone(explainer).fit(tokens + 10)


def test_token_numbers_behind_a_pipeline():
    net = NeuralNetRegressor(Tokens, max_epochs=1, verbose=0, train_split=None)
    tokens = RNG.randint(10, size=(9, 6))
    pipeline = Pipeline([("pass", "passthrough"), ("net", net)])
    pipeline.fit(tokens, X[:9, :4])
    explainer = LabelFreeAttributor(pipeline, method="feature_ablation", baseline="zeros")
    assert explainer.fit(tokens).transform(tokens).shape == (9, 6)


# -- batches, devices, storage -----------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 20, 1000])
def test_batches_change_nothing(batch_size):
    net = make_net("mlp")
    expected = explain(net).fit(X).transform(X)
    maps = explain(net, batch_size=batch_size).fit(X).transform(X)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)


def test_no_more_rows_than_a_batch_are_in_the_network():
    net, rows = make_net("mlp"), []
    explainer = explain(net, batch_size=8).fit(X)
    net.register_forward_pre_hook(lambda _m, inputs: rows.append(len(inputs[0])))
    explainer.transform(X)
    assert max(rows) <= 8 and {8, 4} <= set(rows)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, None, True])
def test_batch_size_is_checked(batch_size):
    with pytest.raises(
        (ValueError, TypeError), match=f"'batch_size' parameter .* Got {batch_size}"
    ):
        explain(make_net("mlp"), batch_size=batch_size).fit(X)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "cpu:0"])
def test_device(device):
    net = make_net("mlp")
    expected = explain(net).fit(X).transform(X)
    np.testing.assert_array_equal(explain(net, device=device).fit(X).transform(X), expected)


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:99", 3.5])
def test_unusable_device(device):
    with pytest.raises(ValueError, match=f"'device' parameter .* None. Got '?{device}'?"):
        explain(make_net("mlp"), device=device).fit(X)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_converted_steps_follow_the_network_to_a_gpu():
    pipeline = make_pipeline(StandardScaler(), small_autoencoder()).fit(X)
    expected = explain(pipeline).fit(X).transform(X)
    maps = explain(pipeline, device="cuda").fit(X).transform(X)
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-5)
    module = pipeline[-1].net_.module_
    assert next(module.parameters()).device.type == "cpu"
    module.to("cuda")
    np.testing.assert_array_equal(explain(pipeline).fit(X).transform(X), maps)


def test_network_without_numbers():
    with pytest.raises(ValueError, match="on the meta device"):
        explain(make_net("mlp").to("meta")).fit(X)


@pytest.mark.parametrize("name", ["pipeline", "autoencoder", "skorch"])
def test_fitted_explainers_are_stored(name, tmp_path):
    explainer = explain(FITTED[name]()).fit(X)
    joblib.dump(explainer, tmp_path / "explainer.joblib")
    copies = [
        pickle.loads(pickle.dumps(explainer)),
        joblib.load(tmp_path / "explainer.joblib"),
        copy.deepcopy(explainer),
    ]
    for other in copies:
        np.testing.assert_array_equal(other.transform(X), explainer.transform(X))


def test_stored_explainers_of_a_layer_still_look_at_it():
    explainer = explain(make_net("transformer"), layer="block.linear1").fit(make_X("transformer"))
    other = pickle.loads(pickle.dumps(explainer))
    expected = explainer.transform(make_X("transformer"))
    np.testing.assert_array_equal(other.transform(make_X("transformer")), expected)


def test_seed_comes_from_random_state_alone():
    net = make_net("mlp")
    assert explain(net).fit(X).seed_ == explain(net).fit(X[:5]).seed_
    rng = np.random.RandomState(3)
    explainer = LabelFreeAttributor(net, method="saliency", random_state=rng)
    assert explainer.fit(X).seed_ != explainer.fit(X).seed_
    state = np.random.get_state()[1].copy()
    LabelFreeAttributor(net, method="saliency").fit(X)
    np.testing.assert_array_equal(state, np.random.get_state()[1])


@pytest.mark.parametrize("kind", ["array", "frame"])
def test_an_unfitted_step_that_works_in_place_leaves_X_alone(kind):
    given = X.astype(np.float64) if kind == "array" else FRAME.astype(np.float64)
    before = np.array(given)
    pipe = make_pipeline(StandardScaler(copy=False), PCA(2, copy=False))
    explain(pipe).fit(given)
    np.testing.assert_array_equal(np.asarray(given), before)
