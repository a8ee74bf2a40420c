"""Heads: columns, slopes and zeros against scikit-learn's names, exchanges and differences."""

import functools
import itertools
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.feature_selection import VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDRegressor
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils.fixes import parse_version
from torch import nn

from sklexplain import DKNNImportance, LabelFreeAttributor
from sklexplain.representation import Representation, _convert
from sklexplain.representation import _heads as heads
from sklexplain.representation._columns import (
    NoTorchForm,
    check_columns_of,
    recombined,
    told_columns,
    zeros_of,
)
from sklexplain.representation._convert import Affine

pytestmark = pytest.mark.filterwarnings("ignore:Skipping features:UserWarning")


# -- random preprocessing ----------------------------------------------------------------------


def pick(rng, *options):
    return options[rng.randint(len(options))]


def column(rng, kind, n):
    if kind == "number":
        values = rng.normal(size=n) * 10.0 ** rng.randint(-2, 4) + rng.normal() * 10
        values[rng.rand(n) < pick(rng, 0.0, 0.2)] = np.nan
    elif kind == "code":
        values = rng.randint(4, size=n).astype(pick(rng, np.int64, np.float64))
    elif kind == "empty":
        values = np.full(n, np.nan)
    else:
        values = rng.choice(list("abcd"), n).astype(object)
        values[rng.rand(n) < pick(rng, 0.0, 0.2)] = np.nan
    return values


def table(rng, n=40):
    """A frame whose column names are found in the names that scikit-learn makes of them."""
    kinds = [
        "number",
        "number",
        *rng.choice(["number", "code", "text", "empty"], rng.randint(1, 5)),
    ]
    kinds = [kinds[i] for i in rng.permutation(len(kinds))]
    frame = {f"<{i}{kind}>": column(rng, kind, n) for i, kind in enumerate(kinds)}
    return pd.DataFrame(frame)


def imputer(rng, text):
    if text:
        strategy = pick(rng, "most_frequent", "constant")
    else:
        strategy = pick(rng, "mean", "median", "most_frequent", "constant")
    fill = "gap" if text else pick(rng, 0.0, -7.5)
    return SimpleImputer(
        strategy=strategy,
        fill_value=fill if strategy == "constant" else None,
        keep_empty_features=pick(rng, False, True),
        add_indicator=pick(rng, False, True),
    )


def encoder(rng):
    return pick(
        rng,
        OneHotEncoder(handle_unknown="ignore", sparse_output=pick(rng, False, True)),
        OneHotEncoder(drop=pick(rng, "first", "if_binary"), sparse_output=pick(rng, False, True)),
        OneHotEncoder(min_frequency=6, handle_unknown="infrequent_if_exist"),
        OneHotEncoder(max_categories=2),
        OneHotEncoder(feature_name_combiner=lambda name, category: "same"),
        OrdinalEncoder(encoded_missing_value=-1),
    )


def scaler(rng):
    clip = pick(rng, False, True)
    return pick(
        rng,
        StandardScaler(),
        MinMaxScaler(feature_range=pick(rng, (0, 1), (-2, 5)), clip=clip),
        MaxAbsScaler(clip=clip) if "clip" in MaxAbsScaler().get_params() else MaxAbsScaler(),
        RobustScaler(),
    )


def numeric_part(rng):
    steps = [scaler(rng)] if rng.rand() < 0.5 else []
    fill = imputer(rng, text=False)
    if rng.rand() < 0.3:
        fill = make_union(fill, MissingIndicator(features=pick(rng, "missing-only", "all")))
    after = [scaler(rng)] if rng.rand() < 0.5 else []
    again = [SimpleImputer()] if rng.rand() < 0.2 else []
    return make_pipeline(*steps, fill, *after, *again)


def coded_part(rng):
    return make_pipeline(imputer(rng, text=True), encoder(rng))


def preprocessing(rng, frame):
    """A ColumnTransformer of everything, in any order, maybe with a head behind it."""
    numbers = [c for c in frame if "number" in c or "empty" in c]
    texts, codes = ([c for c in frame if kind in c] for kind in ("text", "code"))
    parts = [("num", numeric_part(rng), rng.permutation(numbers).tolist())]
    if texts:
        parts.append(("text", coded_part(rng), rng.permutation(texts).tolist()))
    if codes:
        parts.append(("code", encoder(rng), codes))
    if codes and rng.rand() < 0.3:
        parts.append(("again", scaler(rng), codes[:1]))
    parts = [parts[i] for i in rng.permutation(len(parts))]
    whole = ColumnTransformer(parts, sparse_threshold=pick(rng, 0.0, 1.0))
    return make_pipeline(whole, SimpleImputer()) if rng.rand() < 0.3 else whole


def drawn(seed):
    rng = np.random.RandomState(seed)
    frame = table(rng)
    y = rng.randint(3, size=len(frame)).astype(float)
    return rng, frame, y, preprocessing(rng, frame)


def quietly(function, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args)


@pytest.mark.parametrize("seed", range(12))
def test_columns_are_those_of_scikit_learns_names_and_of_exchanges(seed):
    rng, frame, y, prep = drawn(seed)
    quietly(prep.fit, frame, y)
    representation = quietly(lambda: Representation(prep, frame.shape[1], X=frame))
    inputs = quietly(representation.inputs, frame)
    expected = quietly(prep.transform, frame)
    expected = np.asarray(expected.todense() if hasattr(expected, "todense") else expected, float)
    head = representation.head
    z = representation.activations(inputs, 17)
    np.testing.assert_allclose(z, expected, rtol=1e-9, atol=1e-9)
    assert len(head.columns) == inputs.shape[1]
    if inputs.shape == expected.shape:  # no torch step behind, so scikit-learn's names tell
        same_names = "lambda" in repr(prep) or "feature_name_combiner" in repr(prep)
        names = [] if same_names else quietly(prep.get_feature_names_out)
        for name, j in zip(names, head.columns, strict=False):
            assert [c in name for c in frame] == [k == j for k in range(frame.shape[1])]
    for j in range(frame.shape[1]):
        changed = frame.copy()
        changed.isetitem(j, frame.iloc[rng.permutation(len(frame)), j].array)
        moved = (quietly(head, changed) != inputs).any(axis=0)
        assert not moved[head.columns != j].any()


@pytest.mark.parametrize("seed", range(12))
def test_saliency_is_the_difference_quotient_in_raw_units(seed):
    """By the estimator's own predict; 0 for gaps, categories and indicators."""
    rng, frame, y, prep = drawn(1000 + seed)
    y = y + 0.3 * rng.normal(size=len(y))
    model = make_pipeline(prep, LinearRegression())
    quietly(model.fit, frame, y)
    explainer = LabelFreeAttributor(model, method="saliency")
    quietly(explainer.fit, frame)
    rows = frame.iloc[:8].reset_index(drop=True)
    # Beyond the fitted range, where scalers may clip.
    for j, name in enumerate(frame):
        if "number" in name:
            rows.iloc[rng.randint(8), j] = frame[name].max() * pick(rng, 3, -3) + 1
    maps = quietly(explainer.unit_attributions, rows)[:, 0]
    for j, name in enumerate(frame):
        if "number" not in name:
            if "text" in name or "empty" in name:
                assert not maps[:, j].any()
            continue
        step = 1e-5 * np.nanstd(frame[name])
        up, down = rows.copy(), rows.copy()
        up[name], down[name] = rows[name] + step, rows[name] - step
        above, here, below = (quietly(model.predict, x).ravel() for x in (up, rows, down))
        right, left = (above - here) / step, (here - below) / step
        size = np.abs(right).max() + np.abs(maps[:, j]).max() + 1e-9
        tolerance = 1e-4 * size + 1e-9 * np.abs(here).max() / step
        smooth = np.abs(right - left) <= tolerance  # at the edge of a clip either side is right
        assert smooth.mean() > 0.5
        np.testing.assert_allclose(maps[smooth, j], right[smooth], rtol=0, atol=tolerance)
        gaps = rows[name].isna().to_numpy()
        assert not maps[gaps, j].any()


# -- what steps tell ---------------------------------------------------------------------------

N = 40
FRAME = table(np.random.RandomState(3), N)
NUMBERS = np.random.RandomState(0).normal(size=(N, 3)) * [1, 5, 0.1] + [3, -2, 0]
HOLES = np.where(np.random.RandomState(1).rand(N, 3) < 0.2, np.nan, NUMBERS)
Y = np.random.RandomState(2).normal(size=N)


def patients():
    rng = np.random.RandomState(0)
    columns = {
        "empty": np.nan,
        "site": rng.choice(list("ABC"), 80),
        "arm": rng.choice(["x", "y"], 80),
    }
    frame = pd.DataFrame(columns).astype(object)
    return frame, (frame["site"] == "A").astype(int)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    "behind", [OneHotEncoder(), OrdinalEncoder(), None], ids=["hot", "ord", "no"]
)
def test_an_empty_column_is_dropped_or_kept_as_the_imputer_does(keep, behind):
    """Whichever of the two a version of scikit-learn does with strategy="constant"."""
    frame, y = patients()
    steps = [SimpleImputer(strategy="constant", fill_value="missing", keep_empty_features=keep)]
    if behind is None:
        behind = make_pipeline(SimpleImputer(strategy="most_frequent"), OrdinalEncoder())
    model = make_pipeline(*steps, behind, LogisticRegression(C=100)).fit(frame, y)
    explainer = LabelFreeAttributor(model, method="kernel_shap").fit(frame)
    empty, site, arm = explainer.feature_importances_
    assert empty == pytest.approx(0, abs=1e-12) and site > 5 * arm


def test_columns_are_told_whatever_columns_and_categories_are_called():
    awkward = pd.DataFrame(
        {"x1": list("abab"), "x1_a": ["b", "a_b", "x1", "x10"], "x10": list("xyxy")}
    )
    encoder = OneHotEncoder(feature_name_combiner=lambda name, category: f"{category}!").fit(
        awkward
    )
    columns, is_column = told_columns(encoder)
    assert columns.tolist() == [0, 0, 1, 1, 1, 1, 2, 2]
    assert not is_column.any()
    assert encoder.feature_names_in_.tolist() == list(awkward)  # untouched
    columns, is_column = told_columns(SimpleImputer(add_indicator=True).fit(HOLES))
    assert columns.tolist() == [0, 1, 2, 0, 1, 2]
    assert is_column.tolist() == [True] * 3 + [False] * 3


class Known(TransformerMixin, BaseEstimator):
    """A transformer that could be a head, with columns in another order than it says."""

    def __init__(self, order=(0, 1, 2), names=(0, 1, 2)):
        self.order = order
        self.names = names

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        self.is_fitted_ = True
        return self

    def transform(self, X):
        return np.asarray(X)[:, list(self.order)]

    def get_feature_names_out(self, input_features=None):
        return [f"{input_features[i]}_coded" if i >= 0 else "joint" for i in self.names]


LIES = {
    "other order": ((0, 1, 2), (0, 2, 1)),
    "too many": ((0, 1), (0, 1, 2)),
    "too few": ((0, 1, 2), (0, 1)),
    "no column": ((0, 1, 2), (0, 1, -1)),
}


@pytest.mark.parametrize("lie", LIES)
def test_preprocessing_whose_columns_are_not_certain_is_no_head(monkeypatch, lie):
    monkeypatch.setitem(heads._PASSES_ON, Known, False)
    true = make_pipeline(Known(), LinearRegression()).fit(NUMBERS, Y)
    assert Representation(true, 3, X=NUMBERS).head.columns.tolist() == [0, 1, 2]
    order, names = LIES[lie]
    model = make_pipeline(Known(order, names), LinearRegression()).fit(NUMBERS, Y)
    explainer = LabelFreeAttributor(model, method="shapley_sampling", random_state=0).fit(NUMBERS)
    assert explainer._representation.head is None and explainer._representation.is_black_box
    coef = np.zeros(3)
    coef[list(order)] = model[-1].coef_
    expected = coef * (NUMBERS - NUMBERS.mean(axis=0))
    np.testing.assert_allclose(explainer.unit_attributions(NUMBERS)[:, 0], expected, atol=1e-9)
    again = pickle.loads(pickle.dumps(explainer))
    assert again._representation.is_black_box  # nothing is tried again
    np.testing.assert_array_equal(again.transform(NUMBERS), explainer.transform(NUMBERS))
    with pytest.raises(TypeError, match=r"needs gradients, but Known \("):
        LabelFreeAttributor(model).fit(NUMBERS)


class Swapped(nn.Module):
    is_affine = True

    def forward(self, x):
        return x.flip(1)

    def column_map(self, n_columns):
        return np.arange(n_columns), np.ones(n_columns)


def test_a_column_map_is_not_relied_upon(monkeypatch):
    converters = _convert._CONVERTERS["transform"]
    monkeypatch.setitem(converters, StandardScaler, lambda est: Swapped())
    model = make_pipeline(StandardScaler(), SimpleImputer()).fit(NUMBERS)
    assert Representation(model, 3, X=NUMBERS).is_black_box


@pytest.mark.parametrize("n_columns", [1, 2, 3, 5, 8, 9])
def test_any_two_columns_are_told_apart(n_columns):
    """Every wrong pair of an output and a column is found."""
    X = np.random.RandomState(0).normal(size=(20, n_columns))

    class Head:
        def __init__(self, columns):
            self.columns = np.asarray(columns)

        def __call__(self, X):
            return X[:, np.arange(n_columns)]

        def maker(self, k):
            return k

    check_columns_of(Head(np.arange(n_columns)), X)
    for i in range(n_columns):
        for j in range(n_columns):
            columns = np.arange(n_columns)
            columns[i] = j
            if i != j:
                with pytest.raises(NoTorchForm, match=rf"{i} \(an output follows another"):
                    check_columns_of(Head(columns), X)


def test_cells_are_recombined_in_any_container():
    take = np.array([[2, 0], [1, 1], [0, 2], [2, 2]])
    data = {"a": [1.5, 2.5, 3.5], "b": ["x", None, "z"]}
    expected = [[3.5, "x"], [2.5, None], [1.5, "z"], [3.5, "z"]]
    frame = pd.DataFrame(data, index=[7, 7, 9])
    kept = recombined(frame, take)
    assert kept.dtypes.tolist() == frame.dtypes.tolist() and list(kept) == ["a", "b"]
    assert kept.astype(object).where(kept.notna(), None).to_numpy().tolist() == expected
    assert recombined(frame.astype(object).to_numpy(), take)[2].tolist() == [1.5, "z"]
    assert recombined(pl.DataFrame(data), take).rows() == [tuple(row) for row in expected]
    twice = pd.DataFrame([[1, 2], [3, 4], [5, 6]], columns=["same", "same"])
    assert recombined(twice, take).to_numpy().tolist() == [[5, 2], [3, 4], [1, 6], [5, 6]]


def test_a_text_column_of_a_table_is_no_list_of_texts():
    """Its words are no columns, so it is explained as it is."""
    frame = pd.DataFrame({"text": ["a b", "b c", "c a a", "b"] * 5, "n": np.arange(20.0)})
    words = CountVectorizer(token_pattern=r"\w")
    columns = make_column_transformer((words, "text"), (StandardScaler(), ["n"]))
    model = make_pipeline(columns, LogisticRegression()).fit(frame, frame["n"] > 9)
    explainer = LabelFreeAttributor(model, method="shapley_sampling").fit(frame)
    assert explainer.transform(frame).shape == (20, 2)
    with pytest.raises(TypeError, match="needs gradients, but CountVectorizer has no torch form"):
        LabelFreeAttributor(model).fit(frame)


def test_baselines_of_texts_are_numbers_of_words():
    texts = ["a b", "b c", "c a a", "b", "b a c"] * 4
    model = make_pipeline(CountVectorizer(token_pattern=r"\w"), SimpleImputer(), PCA(2)).fit(texts)
    zeros, rows, own = (
        LabelFreeAttributor(model, method="kernel_shap", baseline=baseline).fit(texts)
        for baseline in ("zeros", np.zeros(3), np.zeros_like)
    )
    expected = rows.transform(texts[:5])
    np.testing.assert_allclose(zeros.transform(texts[:5]), expected)
    np.testing.assert_allclose(own.transform(texts[:5]), expected)
    z, z0 = model.transform(texts[:5]), model[-1].transform(np.zeros((1, 3)))
    np.testing.assert_allclose(expected.sum(axis=1), (z * (z - z0)).sum(axis=1), atol=1e-9)
    saliency = LabelFreeAttributor(model, method="saliency").fit(texts)
    np.testing.assert_allclose(saliency.unit_attributions(texts)[0], model[-1].components_)


# -- steps behind steps that change the number of columns ---------------------------------------


@pytest.mark.parametrize(
    "steps",
    [
        (PCA(2), make_union(StandardScaler(), MinMaxScaler())),
        (VarianceThreshold(0.5), make_union(SimpleImputer(), StandardScaler())),
        (VarianceThreshold(0.5), make_pipeline(StandardScaler(), SimpleImputer())),
    ],
    ids=["mixed", "union", "pipeline"],
)
def test_the_number_of_columns_is_that_of_the_step(steps):
    model = make_pipeline(*steps).fit(NUMBERS)
    representation = Representation(model, 3, X=NUMBERS)
    z = representation.activations(representation.inputs(NUMBERS), 7)
    np.testing.assert_allclose(z, model.transform(NUMBERS), rtol=1e-12, atol=1e-12)
    assert representation.differentiable


def test_rounding_is_no_influence_of_other_samples():
    """Large coefficients that cancel each other round differently in batches of other sizes."""
    rng = np.random.RandomState(0)
    X = rng.normal(size=(30, 40))
    model = LinearRegression().fit(X, X[:, 0])
    model.coef_ = 1e8 * rng.normal(size=40)
    X -= np.outer(X @ model.coef_, model.coef_) / (model.coef_ @ model.coef_)
    assert np.abs(model.predict(X)).max() < 1
    model = make_pipeline(SimpleImputer().fit(X), FrozenEstimator(model))
    assert DKNNImportance(model).fit(X).n_features_in_ == 40


# -- derivatives --------------------------------------------------------------------------------


def test_an_indicator_is_no_derivative():
    rng = np.random.RandomState(0)
    X, missing = rng.normal(size=(200, 2)), rng.rand(200) < 0.3
    y = 2 * X[:, 1] + 5 * missing
    X[missing, 0] = np.nan
    model = make_pipeline(SimpleImputer(add_indicator=True), LinearRegression()).fit(X, y)
    for method in ("saliency", "smooth_grad"):
        explainer = LabelFreeAttributor(model, method=method).fit(X)
        maps = explainer.unit_attributions(X)[:, 0]
        np.testing.assert_allclose(maps, np.tile([0.0, 2.0], (200, 1)), atol=1e-12)
        assert explainer.feature_importances_[0] < 1e-9


CLIPS = {
    "low": (MinMaxScaler((-3, -1), clip=True),),
    "twice": (MinMaxScaler(clip=True), MinMaxScaler((0, 0.5), clip=True)),
    "scaled": (MinMaxScaler(clip=True), StandardScaler()),
    "abs": (MaxAbsScaler(),),
}
if "clip" in MaxAbsScaler().get_params():  # since scikit-learn 1.8
    CLIPS["abs"] = (MaxAbsScaler(clip=True),)


@pytest.mark.parametrize("clips", CLIPS)
@pytest.mark.parametrize(
    "method",
    ["saliency", "smooth_grad", "input_x_gradient", "integrated_gradients", "deep_lift", "lime"],
)
def test_an_imputer_without_gaps_changes_nothing(clips, method):
    """Samples are clipped where they are beyond the fitted range, and noise is as it is."""
    scalers, net = CLIPS[clips], LogisticRegression()
    plain = make_pipeline(*scalers, net).fit(NUMBERS, Y > 0)
    filled = make_pipeline(make_pipeline(*scalers), SimpleImputer(), net).fit(NUMBERS, Y > 0)
    beyond = NUMBERS[:6] * [[1], [1], [1.5], [3], [-4], [9]]
    for baseline in ("mean", "zeros"):
        params = {"n_steps": 1000} if method == "integrated_gradients" else None
        params = {"method": method, "method_params": params, "baseline": baseline}
        expected, actual = (
            LabelFreeAttributor(model, random_state=0, **params).fit(NUMBERS)
            for model in (plain, filled)
        )
        importances = expected.feature_importances_
        np.testing.assert_allclose(actual.feature_importances_, importances, rtol=1e-7)
        expected = expected.transform(beyond)
        np.testing.assert_allclose(actual.transform(beyond), expected, rtol=1e-7, atol=1e-10)


def test_a_clip_that_the_filling_value_is_beyond_stays_where_it_is():
    scale = MinMaxScaler(clip=True)
    model = make_pipeline(scale, SimpleImputer(strategy="constant", fill_value=7.0)).fit(HOLES)
    representation = Representation(model, 3, X=HOLES)
    rows = HOLES.copy()
    rows[::5] *= 30
    inputs = representation.inputs(rows)
    np.testing.assert_allclose(representation.activations(inputs, 9), model.transform(rows))
    scaled = (rows - scale.data_min_) * scale.scale_
    inside = (scaled >= 0) & (scaled <= 1)
    expected = np.where(inside, scale.scale_, 0.0)
    edge = np.isclose(scaled, 0) | np.isclose(scaled, 1)  # either side is right
    np.testing.assert_allclose(representation.slopes(rows)[~edge], expected[~edge])


@pytest.mark.parametrize("copies", [False, True])
def test_slopes_of_imputers_that_write_into_what_they_are_given(copies):
    imputers = [SimpleImputer(copy=copies, add_indicator=True), SimpleImputer(copy=copies)]
    model = make_pipeline(*imputers).fit(HOLES.copy())
    for given in (HOLES, pd.DataFrame(HOLES)):
        before = given.copy()
        slopes = Representation(model, 3, X=given).slopes(given)
        np.testing.assert_array_equal(slopes[:, :3], ~np.isnan(HOLES))
        assert not slopes[:, 3:].any()
        np.testing.assert_array_equal(given, before)


def test_a_number_that_stands_for_a_gap_has_no_slope():
    X = np.array([[-1.0, 2.0], [3.0, -1.0], [5.0, 0.0], [-1.0, 1.0]])
    model = SimpleImputer(missing_values=-1, add_indicator=True).fit(X)
    slopes = Representation(model, 2, X=X).slopes(X)
    np.testing.assert_array_equal(slopes[:, :2], X != -1)
    assert not slopes[:, 2:].any()


def test_outputs_of_one_column_share_its_noise():
    """In the difference of two copies the noise of SmoothGrad cancels out."""
    model = make_pipeline(make_union(SimpleImputer(), SimpleImputer()), LogisticRegression())
    model.fit(HOLES, Y > 0)
    model[-1].coef_ = np.array([[1.0, 2.0, 3.0, -1.0, -2.0, -3.5]])
    explainer, alone = (
        LabelFreeAttributor(m, method="smooth_grad", random_state=0).fit(HOLES)
        for m in (model, make_pipeline(SimpleImputer(), alone_of(model[-1])).fit(HOLES))
    )
    # Of each column one copy is left over: as if there were but one.
    actual, expected = (e.unit_attributions(HOLES)[:, 1] for e in (explainer, alone))
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


def alone_of(logistic):
    """The same function of one copy."""
    alone = LogisticRegression().fit(NUMBERS, Y > 0)
    alone.coef_ = logistic.coef_[:, :3] + logistic.coef_[:, 3:]
    alone.intercept_ = logistic.intercept_
    return FrozenEstimator(alone)


# -- zeros and other baselines --------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["integrated_gradients", "input_x_gradient", "kernel_shap", "lime"]
)
@pytest.mark.parametrize("baseline", ["zeros", "array", "callable"])
def test_zeros_are_zero_in_raw_units(method, baseline):
    plain = make_pipeline(StandardScaler(), PCA(2)).fit(NUMBERS)
    model = make_pipeline(StandardScaler(), SimpleImputer(), PCA(2)).fit(NUMBERS)
    zeros = {"zeros": "zeros", "array": np.zeros(3), "callable": np.zeros_like}[baseline]
    expected, actual = (
        LabelFreeAttributor(m, method=method, baseline=zeros, random_state=0).fit(NUMBERS)
        for m in (plain, model)
    )
    np.testing.assert_allclose(actual.transform(NUMBERS), expected.transform(NUMBERS), rtol=1e-9)
    np.testing.assert_allclose(actual.feature_importances_, expected.feature_importances_)
    again = pickle.loads(pickle.dumps(actual))
    np.testing.assert_array_equal(again.feature_importances_, actual.feature_importances_)


def test_zeros_of_columns_without_a_zero_are_no_category():
    frame = pd.DataFrame(
        {
            "number": [1.0, 2.0, np.nan, 4.0],
            "code": [0, 1, 2, 1],
            "unknown": [1, 2, 1, 2],
            "flag": [True, False, True, True],
            "text": ["a", "b", "a", None],
            "kind": pd.Categorical([0, 1, 0, 1]),
            "count": pd.array([1, None, 3, 4], dtype="Int64"),
        }
    )
    columns = ColumnTransformer(
        [
            ("n", make_pipeline(StandardScaler(), SimpleImputer(add_indicator=True)), ["number"]),
            ("o", OneHotEncoder(), ["code", "unknown", "flag", "text", "kind"]),
            ("c", SimpleImputer(missing_values=pd.NA), ["count"]),
        ],
        sparse_threshold=0,
    ).fit(frame)
    representation = Representation(columns, frame.shape[1], X=frame)
    zeros = representation.zeros(representation.inputs(frame))
    scaler = columns.named_transformers_["n"][0]
    expected = [-scaler.mean_[0] / scaler.scale_[0], 0]  # the number, and its indicator
    expected += [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]  # code 0; flag False; text and kind have none
    np.testing.assert_allclose(zeros, [[*expected, 0]])
    as_objects = frame.astype(object).to_numpy()
    head = representation.head
    np.testing.assert_allclose(zeros_of(head, as_objects)[:7], expected[:7])


@pytest.mark.parametrize("sparse", [False, True])
def test_zeros_of_polars(sparse):
    if sparse and parse_version(sklearn.__version__) < parse_version("1.8"):
        pytest.skip("scikit-learn 1.7 does not stack columns of polars beside sparse ones")
    frame = pl.DataFrame(
        {"a": [1.0, float("nan"), 3.0], "b": ["u", "v", "u"], "c": [True, False, True]}
    )
    columns = ColumnTransformer(
        [
            ("a", SimpleImputer(), ["a"]),
            ("b", OneHotEncoder(sparse_output=sparse), ["b"]),
            ("c", "passthrough", ["c"]),
        ]
    ).fit(frame)
    representation = Representation(columns, 3, X=frame)
    inputs = representation.inputs(frame)
    np.testing.assert_array_equal(representation.zeros(inputs), [[0, 0, 0, 0]])
    np.testing.assert_array_equal(representation.slopes(frame)[:, [0, 3]], [[1, 1], [0, 1], [1, 1]])


def shapley(value, n):
    """Shapley values of a game by all orders of joining."""
    value = functools.cache(value)
    orders, total = list(itertools.permutations(range(n))), np.zeros(n)
    for order in orders:
        for k, player in enumerate(order):
            before, after = frozenset(order[:k]), frozenset(order[: k + 1])
            total[player] += value(after) - value(before)
    return total / len(orders)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("baseline", ["rows", "callable"])
def test_shapley_values_are_those_of_raw_rows(seed, baseline):
    rng, frame, y, prep = drawn(2000 + seed)
    frame = frame.iloc[:, :4]
    prep = preprocessing(rng, frame)
    model = quietly(make_pipeline(prep, LogisticRegression()).fit, frame, y > 0)
    absent = frame.iloc[[7]] if baseline == "callable" else frame.iloc[[5, 11]]
    given = absent
    if baseline == "callable":

        def given(X):
            return pd.concat([absent] * len(X), ignore_index=True)

    explainer = LabelFreeAttributor(model, method="kernel_shap", baseline=given)
    quietly(explainer.fit, frame)
    maps = quietly(explainer.unit_attributions, frame.iloc[:3], [1])[:, 0]
    for i in range(3):

        def value(present, i=i):
            rows = absent.copy()
            for j in present:
                rows.isetitem(j, frame.iloc[[i] * len(rows), j].array)
            return quietly(model.predict_proba, rows)[:, 1].mean()

        np.testing.assert_allclose(maps[i], shapley(value, frame.shape[1]), atol=1e-8)


# -- containers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [(), (StandardScaler(with_mean=False),), (MaxAbsScaler(),)])
def test_sparse_output_of_a_lone_encoder_is_no_obstacle(steps):
    rng = np.random.RandomState(0)
    frame = pd.DataFrame({"s": rng.choice(list("abc"), N), "t": rng.choice(list("uv"), N)})
    models = [
        make_pipeline(OneHotEncoder(sparse_output=sparse), *steps, LogisticRegression()).fit(
            frame, Y > 0
        )
        for sparse in (True, False)
    ]
    for given in (frame, frame.to_numpy()):
        sparse, dense = (LabelFreeAttributor(m).fit(given).transform(given) for m in models)
        np.testing.assert_allclose(sparse, dense, rtol=1e-12)
    assert DKNNImportance(models[0]).fit(frame).transform(frame).shape == (N, N)


@pytest.mark.parametrize("model", [SGDRegressor(random_state=0), LogisticRegression()])
def test_sparsified_models(model):
    y = Y if isinstance(model, SGDRegressor) else np.digitize(Y, [-0.5, 0.5])
    model = make_pipeline(StandardScaler(), model).fit(NUMBERS, y)
    expected = LabelFreeAttributor(model).fit(NUMBERS).transform(NUMBERS)
    model[-1].sparsify()
    explainer = LabelFreeAttributor(model).fit(NUMBERS)
    np.testing.assert_allclose(explainer.transform(NUMBERS), expected, rtol=1e-12)
    assert explainer._representation.differentiable


def test_heads_of_modules_have_the_slopes_of_the_module():
    scale = Affine(np.zeros(3), np.array([2.0, -3.0, np.nan]), clip=(-1.0, 1.0))
    head = heads.ModuleHead(scale, np.arange(3), np.ones(3, dtype=bool))
    X = np.array([[0.1, 0.1, 1.0], [5.0, -5.0, 1.0], [np.nan, 0.3, 1.0]])
    for mode in (torch.inference_mode(), torch.no_grad(), torch.enable_grad()):
        with mode:
            np.testing.assert_array_equal(head.slopes(X)[:2, :2], [[2, -3], [0, 0]])
