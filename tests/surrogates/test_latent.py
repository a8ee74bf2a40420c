"""LatentSurrogate: planted trees and sums are read off, and what cannot be told is said."""

import itertools
import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor
from torch import nn

from sklexplain import LatentSurrogate
from sklexplain.exceptions import SklexplainWarning, UndefinedMetricWarning
from sklexplain.surrogates._models import UnitTree
from tests.cases import encode, make_net, make_X
from tests.tables import make_table

RNG = np.random.default_rng(0)
X = RNG.integers(0, 10, size=(400, 5)).astype(np.float64)


def function(f):
    """An estimator whose transform is f."""
    return FunctionTransformer(f).fit(X)


def planted_tree(X):
    """Return a tree of depth 2, and a second unit that is one of depth 1."""
    X = np.asarray(X)
    first = np.where(
        X[:, 1] <= 4, np.where(X[:, 3] <= 6, -2.0, 0.5), np.where(X[:, 0] <= 2, 1.0, 4.0)
    )
    return np.stack([first, np.where(X[:, 4] <= 7, 3.0, -1.0)], axis=1)


# -- planted units -----------------------------------------------------------------------------


def test_a_planted_tree_is_recovered():
    surrogate = LatentSurrogate(function(planted_tree), random_state=0).fit(X)
    np.testing.assert_array_equal(surrogate.r2_, 1.0)
    np.testing.assert_array_equal(surrogate.transform(X), planted_tree(X))
    assert surrogate.score(X) == 1.0
    assert surrogate.export_text(0).splitlines() == [
        "unit 0, held-out R² 1.00",
        "|--- x1 <= 4.5",
        "|   |--- x3 <= 6.5",
        "|   |   |--- value: -2",
        "|   |--- x3 >  6.5",
        "|   |   |--- value: 0.5",
        "|--- x1 >  4.5",
        "|   |--- x0 <= 2.5",
        "|   |   |--- value: 1",
        "|   |--- x0 >  2.5",
        "|   |   |--- value: 4",
    ]
    assert surrogate.export_text().count("unit") == 2
    assert surrogate.importances_[1].tolist() == [0, 0, 0, 0, 1]
    assert surrogate.get_feature_names_out().tolist() == ["unit0", "unit1"]


def test_a_planted_tree_behind_a_layer_of_a_module():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Identity()
            self.last = nn.Linear(2, 3)

        def forward(self, x):
            low = torch.where(x[:, 3] <= 6, -2.0, 0.5)
            high = torch.where(x[:, 0] <= 2, 1.0, 4.0)
            first = torch.where(x[:, 1] <= 4, low, high)
            second = torch.where(x[:, 4] <= 7, 3.0, -1.0)
            return self.last(self.inner(torch.stack([first, second], dim=1)))

    surrogate = LatentSurrogate(Network(), layer="inner", units=[-1, 0], random_state=0)
    surrogate.fit(X.astype(np.float32))
    assert surrogate.units_.tolist() == [1, 0]
    np.testing.assert_array_equal(surrogate.transform(X), planted_tree(X)[:, ::-1])
    assert "x4 <= 7.5" in surrogate.export_text(1)
    with pytest.raises(ValueError, match="unit 0 was not fitted; units="):
        surrogate.set_params(units=[1]).fit(X.astype(np.float32)).export_text(0)
    with pytest.raises(ValueError, match="there is no latent unit 2"):
        surrogate.export_text(2)


def test_a_planted_sum_is_recovered():
    def planted(X):
        return 5 + 2 * X[:, [1]] - 0.5 * X[:, [4]]

    surrogate = LatentSurrogate(function(planted), model="linear", random_state=0).fit(X)
    assert surrogate.r2_ == pytest.approx(1.0)
    np.testing.assert_allclose(surrogate.transform(X), planted(X), rtol=1e-10, atol=1e-10)
    assert surrogate.export_text(0).splitlines() == [
        "unit 0, held-out R² 1.00",
        "  5",
        "+ 2 * x1",
        "- 0.5 * x4",
    ]
    # A sum of one term is the best of all such.
    one = surrogate.set_params(max_terms=1).fit(X)
    fits = [np.polyval(np.polyfit(x, planted(X)[:, 0], 1), x) for x in X.T]
    np.testing.assert_allclose(one.transform(X)[:, 0], fits[1], rtol=1e-8)
    assert max(r2_score(planted(X), fit) for fit in fits) == pytest.approx(one.score(X))


@pytest.mark.parametrize("model", ["tree", "linear"])
def test_units_that_have_nothing_to_do_with_the_columns(model):
    Z = np.random.default_rng(1).permuted(planted_tree(X), axis=0)
    rows = {row.tobytes(): z for row, z in zip(X, Z, strict=True)}

    def permuted(X):
        return np.stack([rows[row.tobytes()] for row in np.asarray(X)])

    # Rows are looked up, so none may be there twice.
    kept = np.unique(X, axis=0, return_index=True)[1]
    surrogate = LatentSurrogate(function(permuted), model=model, random_state=0).fit(X[kept])
    assert (surrogate.r2_ <= 0.05).all()
    assert surrogate.export_text().count("as good as nothing") == 2


def test_held_out_r2_is_that_of_scikit_learn():
    Z = planted_tree(X) + np.sin(3 * X[:, :2]) + X[:, [2]] / 3

    def noisy(X):
        return planted_tree(X) + np.sin(3 * X[:, :2]) + X[:, [2]] / 3

    surrogate = LatentSurrogate(function(noisy), max_depth=2, random_state=0).fit(X)
    order = np.random.RandomState(surrogate.seed_).permutation(400)
    train, test = order[100:], order[:100]
    for j in range(2):
        tree = DecisionTreeRegressor(max_depth=2).fit(X[train], Z[train, j])
        expected = r2_score(Z[test, j], tree.predict(X[test]))
        assert surrogate.r2_[j] == pytest.approx(expected, abs=1e-9)
        whole = DecisionTreeRegressor(max_depth=2).fit(X, Z[:, j]).predict(X)
        np.testing.assert_allclose(surrogate.transform(X)[:, j], whole, rtol=1e-9)
    told = surrogate.transform(X)
    expected = [r2_score(Z[:, j], told[:, j]) for j in range(2)]
    np.testing.assert_allclose(surrogate.unit_scores(X), expected)
    assert surrogate.score(X) == pytest.approx(np.mean(expected))


def test_numbers_far_from_zero_keep_their_digits():
    seconds = 1.7e9 + np.arange(400.0)[:, None]
    f = FunctionTransformer(lambda X: np.where(X <= 1.7e9 + 100, 0.0, 1.0)).fit(seconds)
    surrogate = LatentSurrogate(f, random_state=0).fit(seconds)
    np.testing.assert_array_equal(surrogate.transform(seconds), f.transform(seconds))
    assert "x0 <= 1700000100.5" in surrogate.export_text(0, digits=12)


# -- what is read ------------------------------------------------------------------------------


def test_segments_of_series():
    beats = RNG.normal(size=(300, 2, 20)).astype(np.float32)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(2, 2, 1)

        def forward(self, x):
            return torch.where(x[:, 1, 5:10].mean(dim=1) <= 0.1, -1.0, 1.0)[:, None]

    options = {"channel_axis": 0, "max_depth": 1, "random_state": 0}
    surrogate = LatentSurrogate(Net(), n_segments=4, **options).fit(beats)
    names = [f"ch{c} t{a}-{a + 4}" for c in range(2) for a in range(0, 20, 5)]
    assert surrogate.column_names_ == names
    assert surrogate.r2_[0] > 0.9
    assert "ch1 t5-9 <= 0." in surrogate.export_text(0)
    means = beats.astype(np.float64).reshape(300, 2, 4, 5).mean(axis=3).reshape(300, 8)
    np.testing.assert_allclose(surrogate._columns(beats, None), means, rtol=1e-12, atol=1e-12)
    # Groups of one's own, by name or by label.
    mask = np.zeros((2, 20), dtype=bool)
    mask[1, 5:10] = True
    surrogate.set_params(groups={"bump": mask, "rest": ~mask}).fit(beats)
    assert "bump <= 0." in surrogate.export_text()


def test_cells_of_images():
    images = RNG.normal(size=(60, 1, 8, 8)).astype(np.float32)
    surrogate = LatentSurrogate(make_net("conv2d"), n_segments=2, random_state=0).fit(images)
    assert surrogate.column_names_ == ["y0-3 x0-3", "y0-3 x4-7", "y4-7 x0-3", "y4-7 x4-7"]
    cells = images.reshape(60, 2, 4, 2, 4).mean(axis=(2, 4)).reshape(60, 4)
    np.testing.assert_allclose(surrogate._columns(images, None), cells, rtol=1e-5, atol=1e-6)
    short = LatentSurrogate(make_net("conv2d"), n_segments=99, random_state=0).fit(images)
    assert short.column_names_[:2] == ["y0 x0", "y0 x1"]


def risk(frame):
    """A tree of depth 2 on a category and a truth value."""
    ward = np.asarray(frame["ward"])
    smoker = np.asarray(frame["smoker"]).astype(bool)
    return np.where(np.isin(ward, ["north", "east"]), np.where(smoker, 3.0, 2.0), 0.0)[:, None]


@pytest.mark.parametrize("container", [pd.DataFrame, "polars"])
def test_a_table_as_people_have_it(container):
    frame = make_table(200)[0][["id", "age", "ward", "smoker"]]
    expected = risk(frame)
    if container == "polars":
        frame = pytest.importorskip("polars").from_pandas(frame)
    model = FunctionTransformer(risk).fit(frame)
    with pytest.warns(SklexplainWarning, match="do not read 'id': fewer than 5 samples a categ"):
        surrogate = LatentSurrogate(model, random_state=0).fit(frame)
    assert surrogate.column_names_ == ["age", "ward", "smoker"]
    np.testing.assert_array_equal(surrogate.transform(frame), expected)
    lines = surrogate.export_text(0).splitlines()
    assert (
        lines[1] == "|--- ward in {south, missing}" or lines[1] == "|--- ward in {missing, south}"
    )
    assert set(re.findall(r"\w+", lines[3])) == {"ward", "in", "north", "east"}
    assert lines[4].startswith("|   |--- smoker <= 0.5")
    again = pickle.loads(pickle.dumps(surrogate))
    np.testing.assert_array_equal(again.transform(frame), expected)
    assert again.export_text() == surrogate.export_text()
    with pytest.warns(SklexplainWarning):
        linear = LatentSurrogate(model, model="linear", random_state=0).fit(frame)
    assert linear.r2_[0] > 0.8
    assert "* [ward is south]" in linear.export_text()
    # A ward that was not there before is missing, of which the tree has a side.
    other = make_table(5)[0][["id", "age", "ward", "smoker"]].assign(ward="west")
    if container != "polars":
        assert np.isfinite(surrogate.transform(other)).all()
        assert np.isfinite(linear.transform(other)).all()


def test_numbers_with_gaps_through_a_pipeline():
    frame = make_table(200)[0][["age", "ward"]]
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["age"]),
        (OneHotEncoder(sparse_output=False), ["ward"]),
    )
    y = np.nan_to_num(frame["age"], nan=50) + 100 * (frame["ward"] == "east")
    model = make_pipeline(columns, PCA(2)).fit(frame, y)
    for kind in ("tree", "linear"):
        surrogate = LatentSurrogate(model, model=kind, random_state=0).fit(frame)
        assert surrogate.r2_.min() > 0.5
    tree = LatentSurrogate(model, random_state=0).fit(frame)
    assert "or missing" in tree.export_text()


def test_splits_of_categories_are_the_best_of_all_subsets():
    rng = np.random.default_rng(3)
    codes, y = rng.integers(0, 6, 120).astype(float), rng.normal(size=120)
    y += rng.normal(size=6)[codes.astype(int)]

    class Columns:
        names, values = ["site"], [list("abcdef")]

    tree = UnitTree(Columns, 1, 0).fit(codes[:, None], y)
    error = np.square(y - tree.predict(codes[:, None])).sum()
    errors = []
    for n in range(1, 6):
        for subset in itertools.combinations(range(6), n):
            side = np.isin(codes, subset)
            errors.append(sum(np.square(y[s] - y[s].mean()).sum() for s in (side, ~side)))
    assert error == pytest.approx(min(errors))
    left, right = (set(re.findall(r"\b[a-f]\b", line)) for line in tree.lines(3)[::2])
    assert left | right == set("abcdef")
    assert not left & right
    found = np.isin(codes, [ord(v) - 97 for v in left])
    assert y[found].mean() < y[~found].mean()


def test_texts_are_read_by_their_words():
    # Not each as often as the others: there would be no first component, but any of many.
    texts = ["good day", "bad day", "good night", "bad night", "good day"] * 16
    model = make_pipeline(CountVectorizer(), PCA(1, random_state=0)).fit(texts)
    surrogate = LatentSurrogate(model, max_depth=2, random_state=0).fit(texts)
    assert surrogate.column_names_ == ["bad", "day", "good", "night"]
    assert surrogate.r2_[0] == pytest.approx(1.0)
    assert surrogate.transform(texts[:3]).shape == (3, 1)


def test_black_boxes_and_searches():
    model = RandomForestRegressor(20, random_state=0).fit(X, planted_tree(X))
    search = GridSearchCV(LatentSurrogate(model, random_state=0), {"max_depth": [1, 2]}, cv=2)
    search.fit(X)
    assert search.best_params_ == {"max_depth": 2}
    assert search.best_score_ > 0.95


# -- edges -------------------------------------------------------------------------------------


def test_units_that_do_not_vary():
    f = function(lambda X: np.stack([X[:, 0], np.full(len(X), 2.0)], axis=1))
    surrogate = LatentSurrogate(f, max_depth=4, random_state=0).fit(X)
    assert np.isnan(surrogate.r2_).tolist() == [False, True]
    assert "unit 1, which does not vary\n|--- value: 2" in surrogate.export_text()
    assert surrogate.score(X) == surrogate.unit_scores(X)[0]
    same = np.repeat(X[:1], 3, axis=0)
    assert np.isnan(surrogate.unit_scores(same)).all()
    assert surrogate.set_params(units=[1]).fit(X).score(X) == 1.0
    assert surrogate.set_params(units=[0], max_depth=1).fit(X).score(same) == 0.0
    with pytest.warns(UndefinedMetricWarning, match="fewer than two samples"):
        assert np.isnan(surrogate.score(X[:1]))


def test_the_network_is_what_is_told():
    samples = make_X("mlp", 40)
    surrogate = LatentSurrogate(make_net("mlp"), random_state=0, batch_size=7).fit(samples)
    z = encode(make_net("mlp"), samples)
    with surrogate._door(samples) as inputs:
        np.testing.assert_allclose(surrogate._unit_values(inputs), z, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        ({"model": "trees"}, ValueError, "Did you mean 'tree'"),
        ({"max_depth": 0}, ValueError, "'max_depth' parameter .* Got 0 instead"),
        ({"max_terms": 1.5}, TypeError, r"'max_terms' parameter .* Got 1\.5 instead"),
        ({"n_segments": 0}, ValueError, "'n_segments' parameter .* Got 0 instead"),
        ({"test_size": 1}, ValueError, "'test_size' parameter .* Got 1 instead"),
        ({"test_size": "a"}, TypeError, "'test_size' parameter .* Got 'a' instead"),
        ({"units": [5]}, ValueError, "there is no latent unit 5"),
        ({"groups": {"a": [0]}}, ValueError, "groups leaves out"),
    ],
)
def test_wrong_parameters(params, error, match):
    with pytest.raises(error, match=match):
        LatentSurrogate(PCA(2), **params).fit(X)


def test_too_little_to_read():
    with pytest.raises(ValueError, match=r"leaves no sample to fit on \(n_samples=1\)"):
        LatentSurrogate(PCA(1).fit(X)).fit(X[:1])
    frame = pd.DataFrame({"id": [f"p{i}" for i in range(30)]})
    model = FunctionTransformer(lambda frame: np.arange(len(frame))[:, None]).fit(frame)
    with pytest.raises(ValueError, match="no column of X can be read.*'id'"):
        LatentSurrogate(model).fit(frame)
    frame["age"] = np.arange(30.0)
    with pytest.raises(ValueError, match="column 'id' holds none; use groups=None"):
        LatentSurrogate(clone(model).fit(frame), groups={"all": ["id", "age"]}).fit(frame)
