"""Whatever is passed as an estimator is explained as what it offers."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA, KernelPCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.svm import LinearSVC
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from sklexplain.nets import Autoencoder
from sklexplain.representation import Representation

RNG = np.random.RandomState(0)
X = RNG.normal(size=(30, 4)) * [1, 10, 0.1, 3] + [0, 5, -2, 100]
Y = RNG.randint(3, size=30)
FRAME = pd.DataFrame(X, columns=list("abcd"))
NET = {"max_epochs": 1, "verbose": 0, "train_split": None}


def offered(estimator, X):
    for name in ("transform", "predict_proba", "decision_function", "predict"):
        if hasattr(estimator, name):
            out = getattr(estimator, name)(X)
            out = out.toarray() if sparse.issparse(out) else np.asarray(out)
            return out.reshape(len(X), -1).astype(np.float64)


def resolve(estimator, X, **params):
    representation = Representation(estimator, X.shape[1], X=X, **params)
    return representation, representation.inputs(X)


def check_same(estimator, X, differentiable=True, rtol=1e-10):
    """The representation is what the estimator offers, in batches that do not divide n."""
    representation, inputs = resolve(estimator, X)
    z = representation.activations(inputs, 7)
    expected = offered(estimator, X)
    assert z.shape == expected.shape == (len(X), representation.n_units)
    np.testing.assert_allclose(z, expected, rtol=rtol, atol=rtol * np.abs(expected).max())
    assert representation.differentiable == differentiable
    return representation


def small_autoencoder(**params):
    params = {"n_components": 2, "hidden_layer_sizes": (3,), "max_epochs": 1, **params}
    return Autoencoder(validation_split=None, random_state=0, **params)


# -- modules and nets --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_module(dtype):
    net = nn.Linear(4, 3).to(dtype)
    representation, inputs = resolve(net, X.astype(np.float32))
    z = representation.activations(inputs, 7)
    # Half precision is explained in float32.
    assert z.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    expected = net(torch.as_tensor(X).to(torch.float32).to(dtype)).detach().float()
    np.testing.assert_allclose(z, expected, rtol=1e-6)
    assert representation.differentiable and representation.n_units == 3


def test_module_without_weights_or_with_integers_only():
    net = nn.Sequential(nn.Flatten())
    net.register_buffer("order", torch.tensor([1, 0]))
    representation, inputs = resolve(net, X)
    assert representation.input_dtype == representation.output_dtype == torch.float32
    np.testing.assert_array_equal(representation.activations(inputs, 7), X.astype(np.float32))


def classifier(n_out=3, softmax=True, **params):
    layers = [nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, n_out)]
    layers += [nn.Softmax(dim=1)] if softmax else []
    return NeuralNetClassifier(nn.Sequential(*layers), **NET, **params)


@pytest.mark.parametrize(
    ("make", "y"),
    [
        (lambda: classifier(), Y),
        (lambda: classifier(softmax=False, criterion=nn.CrossEntropyLoss), Y),
        (lambda: NeuralNetRegressor(nn.Linear(4, 2), **NET), X[:, :2].astype("f")),
        (
            lambda: NeuralNetBinaryClassifier(nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), **NET),
            (Y > 0).astype("f"),
        ),
    ],
    ids=["probabilities", "logits", "regressor", "binary"],
)
def test_skorch_nets(make, y):
    X32 = (X / X.std(axis=0)).astype("f")
    net = make().fit(X32, y)
    check_same(net, X32, rtol=1e-6)
    check_same(FrozenEstimator(net), X32, rtol=1e-6)


class Encoder(NeuralNet):
    """A net with a transform of its own."""

    def transform(self, X):
        return self.predict(X)[:, ::-1].copy()


class Doubled(NeuralNetRegressor):
    """A net whose predictions are made in another way."""

    def infer(self, x, **params):
        return 2 * super().infer(x, **params)


@pytest.mark.parametrize("cls", [Encoder, Doubled])
def test_net_with_code_of_its_own_is_a_black_box_but_for_its_layers(cls):
    X32 = X.astype("f")
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
    net = cls(module, criterion=nn.MSELoss, **NET).fit(X32, X32[:, :3])
    representation = check_same(net, X32, differentiable=False, rtol=1e-6)
    assert "its own code" in representation.no_torch_form
    representation, inputs = resolve(net, X32, layer="0")
    assert representation.differentiable
    z = net.module_[0](torch.as_tensor(X32)).detach()
    np.testing.assert_allclose(representation.activations(inputs, 7), z, rtol=1e-6)


@pytest.mark.parametrize("module", ["mlp", "conv1d", "lstm"])
def test_autoencoder(module):
    X16 = RNG.normal(size=(20, 16)).astype("f")
    check_same(small_autoencoder(module=module).fit(X16), X16, rtol=1e-5)


# -- pipelines ---------------------------------------------------------------------------------

PIPELINES = {
    "one-step": make_pipeline(PCA(2)),
    "two": make_pipeline(StandardScaler(), PCA(2, whiten=True)),
    "nested": make_pipeline(MinMaxScaler(), make_pipeline(StandardScaler(), PCA(2))),
    "passthrough": Pipeline([("a", "passthrough"), ("b", StandardScaler()), ("c", None)]),
    "nothing": Pipeline([("a", "passthrough")]),
    "proba": make_pipeline(StandardScaler(), LogisticRegression()),
    "predict": make_pipeline(StandardScaler(), LinearRegression()),
    "odd-names": Pipeline([("type", StandardScaler()), ("a.b", PCA(3)), ("a_b", PCA(2))]),
    "union": make_union(PCA(2), StandardScaler(), "passthrough"),
    "weights": FeatureUnion(
        [("p", PCA(2)), ("s", StandardScaler()), ("no", "drop")], transformer_weights={"p": 3.0}
    ),
}


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("fitted_on", [X, FRAME], ids=["array", "frame"])
@pytest.mark.parametrize("given", [X, FRAME], ids=["array", "frame"])
def test_pipelines(name, fitted_on, given):
    pipeline = copy.deepcopy(PIPELINES[name]).fit(fitted_on, Y)
    representation, inputs = resolve(pipeline, given)
    z = representation.activations(inputs, 7)
    np.testing.assert_allclose(z, offered(pipeline, fitted_on), rtol=1e-10, atol=1e-10)
    assert representation.differentiable
    assert representation.head is None


def test_frozen_step():
    check_same(make_pipeline(FrozenEstimator(StandardScaler().fit(X)), PCA(2)).fit(X), X)


def test_network_in_the_middle():
    pipeline = make_pipeline(StandardScaler(), small_autoencoder(), LogisticRegression())
    representation = check_same(pipeline.fit(X, Y), X, rtol=1e-5)
    assert representation.input_dtype == torch.float64
    assert representation.output_dtype == torch.float32


def test_pipeline_that_starts_with_a_network_is_given_its_dtype():
    representation = check_same(make_pipeline(small_autoencoder(), PCA(2)).fit(X), X, rtol=1e-4)
    assert representation.input_dtype == torch.float32


@pytest.mark.parametrize(
    "search",
    [
        GridSearchCV(make_pipeline(StandardScaler(), PCA()), {"pca__n_components": [1, 2]}, cv=2),
        RandomizedSearchCV(PCA(), {"n_components": [1, 2]}, n_iter=1, cv=2, random_state=0),
    ],
    ids=["grid", "random"],
)
def test_searches(search):
    check_same(search.fit(X), X)
    check_same(FrozenEstimator(search), X)


COLUMNS = {
    "names": ColumnTransformer([("s", StandardScaler(), ["c", "a"]), ("p", PCA(2), ["a", "d"])]),
    "positions": ColumnTransformer([("s", StandardScaler(), [2, 0])], remainder="passthrough"),
    "slice": ColumnTransformer([("s", StandardScaler(), slice(1, 3))], remainder=MinMaxScaler()),
    "mask": ColumnTransformer([("s", StandardScaler(), [True, False, False, True])]),
    "callable": ColumnTransformer([("s", StandardScaler(), make_column_selector("[ab]"))]),
    "one": ColumnTransformer([("s", StandardScaler(), ["b"]), ("no", "drop", ["a"])]),
    "weights": ColumnTransformer(
        [("s", StandardScaler(), ["a"]), ("t", "passthrough", ["b", "d"])],
        transformer_weights={"s": 2.0, "t": 0.5},
    ),
    "nested": ColumnTransformer(
        [("a", make_pipeline(MinMaxScaler(), PCA(2)), ["d", "a", "b"]), ("type", "drop", ["c"])]
    ),
    "reserved": ColumnTransformer([("float", StandardScaler(), ["a"]), ("train", PCA(1), ["b"])]),
    "empty": ColumnTransformer([("s", StandardScaler(), []), ("p", "passthrough", ["a"])]),
}


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("given", [X, FRAME], ids=["array", "frame"])
def test_column_transformers(name, given):
    columns = copy.deepcopy(COLUMNS[name]).fit(FRAME)
    representation, inputs = resolve(columns, given)
    z = representation.activations(inputs, 7)
    np.testing.assert_allclose(z, columns.transform(FRAME), rtol=1e-10, atol=1e-10)
    assert representation.differentiable and representation.head is None


# -- heads -------------------------------------------------------------------------------------


def mixed():
    frame = FRAME.copy()
    frame["s"] = np.array(["u", "v", "w", "v", "u"] * 6)
    frame["t"] = np.array(["k", "l"] * 15)
    frame["rare"] = np.array(["p"] * 14 + ["q"] * 14 + ["r", "s"])
    frame.loc[[1, 5], "a"] = np.nan
    frame.loc[2, "c"] = np.nan
    return frame


HEADS = {
    "imputer": (SimpleImputer(), ["a", "b"], [0, 1]),
    "indicator": (SimpleImputer(add_indicator=True), ["a", "b", "c"], [0, 1, 2, 0, 2]),
    "one-hot": (OneHotEncoder(), ["s", "t"], [4, 4, 4, 5, 5]),
    "dense": (OneHotEncoder(sparse_output=False, drop="first"), ["s", "t"], [4, 4, 5]),
    "binary": (OneHotEncoder(drop="if_binary"), ["s", "t"], [4, 4, 4, 5]),
    "infrequent": (OneHotEncoder(min_frequency=5, drop="first"), ["rare", "t"], [6, 6, 5]),
    "top": (OneHotEncoder(max_categories=2), ["s", "rare"], [4, 4, 6, 6]),
    "ordinal": (OrdinalEncoder(), ["t", "s"], [5, 4]),
    "indicators": (MissingIndicator(), ["b", "c", "a"], [2, 0]),
    "text": (
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
        ["t"],
        [5, 5],
    ),
    "scaled": (make_pipeline(SimpleImputer(), StandardScaler()), ["c", "b"], [2, 1]),
    "after": (make_pipeline(StandardScaler(), SimpleImputer()), ["c", "b"], [2, 1]),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_alone(name):
    head, columns, origins = HEADS[name]
    frame = mixed()
    transformer = ColumnTransformer([("x", copy.deepcopy(head), columns)]).fit(frame, Y)
    representation = check_same(transformer, frame)
    assert representation.head.columns.tolist() == origins


def test_heads_side_by_side():
    frame = mixed()
    transformer = ColumnTransformer(
        [
            ("num", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), ["c", "a"]),
            ("cat", OneHotEncoder(), ["t"]),
            ("one", StandardScaler(), ["d"]),
            ("no", "drop", ["s", "rare"]),
        ],
        remainder="passthrough",
        transformer_weights={"one": 2.0},
    )
    pipeline = make_pipeline(transformer, PCA(3)).fit(frame)
    representation = check_same(pipeline, frame)
    assert representation.head.columns.tolist() == [2, 0, 2, 0, 5, 5, 3, 1]
    # An array of objects is given its names back.
    as_array, inputs = resolve(pipeline, frame.to_numpy())
    np.testing.assert_array_equal(inputs, representation.inputs(frame))


def test_head_in_front_of_a_head():
    pipeline = make_pipeline(
        ColumnTransformer([("o", OrdinalEncoder(), ["s", "t"])], remainder="passthrough"),
        SimpleImputer(),
        PCA(2),
    )
    frame = mixed().drop(columns="rare")
    representation = check_same(pipeline.fit(frame), frame)
    assert representation.head.columns.tolist() == [4, 5, 0, 1, 2, 3]


def test_head_with_pandas_output():
    frame = mixed()
    columns = ColumnTransformer(
        [("n", SimpleImputer(), ["a", "c"]), ("s", OneHotEncoder(sparse_output=False), ["s"])]
    )
    pipeline = make_pipeline(columns, StandardScaler(), PCA(2)).set_output(transform="pandas")
    check_same(pipeline.fit(frame), frame)


def test_union_of_heads():
    union = make_union(SimpleImputer(), make_pipeline(SimpleImputer(), PCA(1)))
    holes = mixed()[list("abcd")].to_numpy()
    representation = check_same(union.fit(holes), holes)
    assert representation.head.columns.tolist() == [0, 1, 2, 3] * 2


def test_scaler_before_imputer_has_its_slope():
    frame = mixed()[list("abcd")]
    pipeline = make_pipeline(MinMaxScaler(), SimpleImputer()).fit(frame)
    representation = check_same(pipeline, frame)
    missing = np.isnan(frame.to_numpy())
    np.testing.assert_allclose(
        representation.slopes(frame), np.where(missing, 0, pipeline[0].scale_), rtol=1e-12
    )


def test_column_that_stays_missing_is_named():
    frame = mixed()
    columns = ColumnTransformer([("i", SimpleImputer(), ["a"]), ("c", "passthrough", ["c"])])
    with pytest.raises(ValueError, match="column 'c' still contains NaN.*SimpleImputer"):
        resolve(columns.fit(frame), frame)


def test_imputer_that_writes_in_place_leaves_X_alone():
    holes = mixed()[list("abcd")].to_numpy()
    before = holes.copy()
    imputer = SimpleImputer(copy=False).fit(holes.copy())
    resolve(imputer, holes)
    np.testing.assert_array_equal(holes, before)


# -- no torch form -----------------------------------------------------------------------------

BLACK_BOXES = {
    "kernel-pca": KernelPCA(2, kernel="rbf"),
    "forest": RandomForestClassifier(5, random_state=0),
    "kmeans": KMeans(2, n_init=1, random_state=0),
    "scaled": make_pipeline(StandardScaler(copy=False), KernelPCA(2)),
    "behind": make_pipeline(PCA(2), SimpleImputer()),
    "lambda": make_pipeline(FunctionTransformer(lambda x: x), PCA(2)),
}


@pytest.mark.parametrize("name", BLACK_BOXES)
@pytest.mark.parametrize("fitted_on", [X, FRAME], ids=["array", "frame"])
def test_black_boxes(name, fitted_on):
    estimator = copy.deepcopy(BLACK_BOXES[name]).fit(fitted_on.copy(), Y)
    before = X.copy()
    representation, inputs = resolve(estimator, X)
    z = representation.activations(inputs, 30)
    np.testing.assert_array_equal(X, before)
    # Columns and rows of a kernel's sums lie otherwise in memory: the last bits may differ.
    rtol = 1e-11 if name == "kernel-pca" else 0
    np.testing.assert_allclose(z, offered(estimator, fitted_on.copy()), rtol=rtol, atol=0)
    assert not representation.differentiable
    assert representation.output_dtype == torch.float64


def test_black_box_names_what_has_no_torch_form():
    representation, _ = resolve(make_pipeline(StandardScaler(), KernelPCA(2)).fit(X), X)
    assert representation.no_torch_form == "KernelPCA"
    representation, _ = resolve(make_pipeline(PCA(2), SimpleImputer()).fit(X), X)
    assert "'simpleimputer' after steps that mix columns" in representation.no_torch_form


def test_a_step_without_torch_form_makes_the_pipeline_one_black_box():
    frame = mixed()
    columns = ColumnTransformer(
        [("n", SimpleImputer(), ["a", "c"]), ("o", OneHotEncoder(), ["s"]), ("k", KMeans(2), ["d"])]
    )
    forest = RandomForestClassifier(5, random_state=0)
    pipeline = make_pipeline(columns, StandardScaler(), forest).fit(frame, Y)
    representation = check_same(pipeline, frame, differentiable=False)
    assert representation.head is None and representation.table is not None
    assert representation.no_torch_form == "KMeans"


def test_multioutput_probabilities_are_side_by_side():
    forest = RandomForestClassifier(3, random_state=0).fit(X, np.stack([Y, Y > 0], axis=1))
    representation, inputs = resolve(forest, X)
    z = representation.activations(inputs, 7)
    np.testing.assert_array_equal(z, np.hstack(forest.predict_proba(X)))


def test_black_box_with_missing_values():
    frame = mixed()[list("abcd")]
    boosting = HistGradientBoostingClassifier(max_iter=2).fit(frame, Y)
    for given in (frame, frame.to_numpy(), frame.astype(object).to_numpy()):
        representation, inputs = resolve(boosting, given)
        z = representation.activations(inputs, 7)
        np.testing.assert_array_equal(z, boosting.predict_proba(frame))


def test_black_box_that_takes_text():
    frame = mixed()[["a", "s"]]
    columns = ColumnTransformer([("t", CountVectorizer(analyzer="char"), "s")]).fit(frame)
    representation, inputs = resolve(columns, frame)
    z = representation.activations(inputs, 7)
    np.testing.assert_array_equal(z, offered(columns, frame))


@pytest.mark.parametrize("y", [Y, np.array(list("uvw"))[Y]], ids=["numbers", "text"])
def test_scores_of_a_classifier_are_no_labels(y):
    check_same(make_pipeline(StandardScaler(), LinearSVC()).fit(X, y), X)


def test_layers_before_and_behind_a_black_box():
    pipeline = Pipeline([("s", StandardScaler()), ("ae", small_autoencoder()), ("k", KMeans(2))])
    pipeline.fit(X)
    representation, inputs = resolve(pipeline, X, layer="ae.encoder")
    assert representation.differentiable and representation.no_torch_form is None
    z = representation.activations(inputs, 7)
    np.testing.assert_allclose(z, pipeline[:2].transform(X), rtol=1e-5)
    pipeline = make_pipeline(KernelPCA(3), small_autoencoder()).fit(X)
    representation, inputs = resolve(pipeline, X, layer="encoder")
    assert representation.no_torch_form == "KernelPCA"
    z = representation.activations(inputs, 7)
    np.testing.assert_allclose(z, pipeline.transform(X), rtol=1e-4, atol=1e-6)


def test_layer_of_a_black_box_is_refused():
    with pytest.raises(ValueError, match="layer='x' needs a network; KernelPCA has no torch form"):
        Representation(KernelPCA(2).fit(X), 4, layer="x")
