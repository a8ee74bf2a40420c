"""Raw tables as numbers and back: containers, dtypes, unknown values, typical rows."""

import pickle
import threading

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler, TargetEncoder

from sklexplain import DKNNImportance, LabelFreeAttributor
from sklexplain.representation._expansion import Expansion
from sklexplain.representation._table import Table

N = 24
RNG = np.random.RandomState(0)


def pandas_frame():
    frame = pd.DataFrame(
        {
            "float": RNG.normal(size=N),
            "single": RNG.normal(size=N).astype(np.float32),
            "int": RNG.randint(0, 4, N),
            "small": RNG.randint(0, 4, N).astype(np.int8),
            "huge": 2**60 + np.arange(N),
            "bool": RNG.rand(N) < 0.4,
            "text": [f"note {i % 5}" for i in range(N)],
            "objects": ["a", 1, True, 1.5, None, float("nan")] * (N // 6),
            "category": pd.Categorical(list("abc") * (N // 3), categories=list("cbad")),
            "ordered": pd.Categorical(list("abc") * (N // 3), ordered=True),
            "numbers": pd.Categorical([1, 2, 3] * (N // 3)),
            "date": pd.date_range("2024-01-01", periods=N),
            "zone": pd.date_range("2024-01-01", periods=N, tz="Europe/Paris"),
            "span": pd.to_timedelta(np.arange(N), unit="h"),
            "nullable": pd.array([1, None, 3] * (N // 3), dtype="Int64"),
            "maybe": pd.array([True, None, False] * (N // 3), dtype="boolean"),
            "string": pd.array(["x", None, "y"] * (N // 3), dtype="string"),
            "arrow": pd.Series(["x", None, "y"] * (N // 3), dtype="string[pyarrow]"),
            "arrow_int": pd.Series([1, None, 3] * (N // 3), dtype="int64[pyarrow]"),
            "lists": [[i] for i in range(N)],
            "period": pd.period_range("2024-01", periods=N, freq="M"),
        }
    )
    frame.loc[3, "float"] = np.nan
    frame.loc[4, "date"] = pd.NaT
    return frame


def test_pandas_comes_back_as_it_was():
    frame = pandas_frame()
    table = Table(frame)
    inputs = table.inputs(frame)
    assert inputs.dtype == np.float64 and inputs.shape == frame.shape
    pd.testing.assert_frame_equal(table.restored(inputs), frame)
    order = RNG.permutation(N)
    expected = frame.iloc[order].reset_index(drop=True)
    pd.testing.assert_frame_equal(table.restored(inputs[order]), expected)
    numbers = {"float", "single", "int", "small", "bool", "nullable", "maybe", "arrow_int"}
    assert {n for n, coded in zip(frame, table.coded, strict=True) if not coded} == numbers


def test_cells_of_two_rows_are_swapped():
    frame = pandas_frame()
    table = Table(frame)
    inputs = table.inputs(frame)
    for i, name in enumerate(frame):
        mixed = inputs[:1].copy()
        mixed[0, i] = inputs[7, i]
        expected = frame.iloc[:1].copy()
        expected[name] = frame[name].iloc[7:8].set_axis([0])
        pd.testing.assert_frame_equal(table.restored(mixed), expected)


@pytest.mark.parametrize("columns", [list("ab"), [3, "x"], [("a", 1), ("a", 2)], ["a", "a"]])
def test_any_column_names(columns):
    frame = pd.DataFrame({0: [1.0, 2.0], 1: ["u", "v"]})
    frame.columns = pd.MultiIndex.from_tuples(columns) if columns[0] == ("a", 1) else columns
    table = Table(frame)
    pd.testing.assert_frame_equal(table.restored(table.inputs(frame)), frame)


def test_polars_comes_back_as_it_was():
    frame = pl.DataFrame(
        {
            "float": [1.5, None, 2.0],
            "int": [1, 2, None],
            "small": pl.Series([1, 2, 3], dtype=pl.UInt8),
            "bool": [True, None, False],
            "text": ["a", None, "b"],
            "category": pl.Series(["a", "b", None], dtype=pl.Categorical),
            "date": pl.Series(["2024-01-01", None, "2024-03-01"]).str.to_date(),
        }
    )
    table = Table(frame)
    back = table.restored(table.inputs(frame))
    assert back.equals(frame) and back.schema == frame.schema


@pytest.mark.parametrize(
    "X",
    [
        RNG.normal(size=(5, 3)),
        RNG.normal(size=(5, 3)).astype(np.float32),
        RNG.randint(0, 9, (5, 3)),
        RNG.rand(5, 3) < 0.5,
        2**60 + RNG.randint(0, 9, (5, 3)),
        np.array([["a", "bcd"], ["e", "f"]]),
        np.array([["a", 1.5], [None, 2.0]], dtype=object),
        np.array([["2024-01-01", "2024-02-01"]], dtype="datetime64[D]"),
        RNG.normal(size=(5, 3, 4)).astype(np.float32),
    ],
    ids=lambda X: str(X.dtype),
)
def test_arrays_come_back_as_they_were(X):
    table = Table(X)
    back = table.restored(np.asarray(table.inputs(X), dtype=np.float64))
    assert back.dtype == X.dtype
    np.testing.assert_array_equal(back, X)


def test_means_of_integers_stay_floats():
    frame = pd.DataFrame({"a": [1, 2], "b": [True, False], "c": pd.array([1, 2], dtype="Int64")})
    table = Table(frame)
    mean = table.restored(table.inputs(frame).mean(axis=0)[None])
    assert mean.to_numpy(dtype=float).tolist() == [[1.5, 0.5, 1.5]]
    assert Table(np.array([[1, 2]])).restored(np.array([[1.5, 2]])).tolist() == [[1.5, 2.0]]


def test_the_typical_row():
    frame = pd.DataFrame(
        {
            "age": [10.0, np.nan, 30.0, 20.0],
            "children": [0, 1, 1, 2],
            "smoker": [True, True, True, False],
            "site": pd.Categorical(list("cbbc")),
            "date": pd.to_datetime(["2024-01-01", "2024-01-03", None, "2024-01-05"]),
            "empty": [np.nan] * 4,
        }
    )
    table = Table(frame)
    row = table.restored(table.typical(table.inputs(frame))[None]).iloc[0].tolist()
    assert row[:5] == [20.0, 1.0, True, "c", pd.Timestamp("2024-01-03")]  # c is the first of two
    assert np.isnan(row[5])
    frame["children"] = [0, 1, 2, 2]
    table = Table(frame)
    inputs = table.inputs(frame)
    assert table.restored(table.typical(inputs)[None])["children"].tolist() == [1.25]
    assert table.restored(table.typical(inputs, rounded=True)[None])["children"].tolist() == [2]


def test_values_that_fit_has_not_seen():
    frame = pd.DataFrame({"s": pd.Categorical(["a", "b"]), "t": ["u", "v"], "x": [1, 2]})
    table = Table(frame)
    new = pd.DataFrame({"s": pd.Categorical(["z", "a"]), "t": ["w", None], "x": [1.5, np.nan]})
    with table.reading():
        back = table.restored(table.inputs(new))
        assert back["s"].tolist() == ["z", "a"] and isinstance(back["s"].dtype, pd.CategoricalDtype)
        assert back["t"].iloc[0] == "w" and back["t"].isna().iloc[1]
        assert back["x"].iloc[0] == 1.5 and np.isnan(back["x"].iloc[1])
    assert [len(c.values) for c in table._columns[:2]] == [2, 2]  # forgotten
    pd.testing.assert_frame_equal(table.restored(table.inputs(frame)), frame)
    with pytest.raises(ValueError, match="column 'x' held numbers in fit and now holds something"):
        table.inputs(new.assign(x=["a", "b"]))


def test_saved_tables():
    frame = pandas_frame().drop(columns="lists")
    table = Table(frame)
    again = pickle.loads(pickle.dumps(table))
    pd.testing.assert_frame_equal(again.restored(table.inputs(frame)), frame)
    np.testing.assert_array_equal(again.inputs(frame), table.inputs(frame))


def test_threads_do_not_mix_up_unknown_values():
    table = Table(pd.DataFrame({"s": ["a", "b"]}))
    wrong = []

    def work(k):
        for i in range(200):
            own = pd.DataFrame({"s": [f"{k}-{i}", "a"]})
            with table.reading():
                inputs = table.inputs(own)
                if table.restored(inputs)["s"].tolist() != own["s"].tolist():
                    wrong.append((k, i))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_expansion_and_its_inverse():
    frame = pd.DataFrame(
        {"x": [1.0, np.nan, 3.0, 4.0], "s": list("abab"), "id": list("pqrs"), "b": [True] * 4}
    )
    table = Table(frame)
    inputs = table.inputs(frame)
    expansion = Expansion(table, inputs)
    assert expansion.names == ["x", "s=a", "s=b", "b"]
    assert expansion.columns.tolist() == [0, 1, 1, 3]
    numbers = expansion(inputs)
    np.testing.assert_allclose(numbers[:, 0], [1, 8 / 3, 3, 4])
    assert numbers[:, 1:3].tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    back = table.restored(expansion.inverse(numbers))
    assert back["s"].tolist() == list("abab")
    np.testing.assert_allclose(back["x"], [1, 8 / 3, 3, 4])


# -- explainers on raw tables ----------------------------------------------------------------------


def shapley(f, row, background):
    """Shapley values by all subsets, cells of background rows in place of absent ones."""
    from itertools import combinations
    from math import factorial

    d = len(row.columns)

    def value(present):
        mixed = background.copy()
        for j in present:
            mixed.isetitem(j, row.iloc[[0] * len(background), j].to_numpy())
            mixed = mixed.astype({mixed.columns[j]: row.dtypes.iloc[j]})
        return f(mixed).mean()

    values = np.zeros(d)
    for j in range(d):
        others = [k for k in range(d) if k != j]
        for size in range(d):
            weight = factorial(size) * factorial(d - size - 1) / factorial(d)
            for present in combinations(others, size):
                values[j] += weight * (value({*present, j}) - value(set(present)))
    return values


def raw_frame():
    return pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(N)],
            "age": np.where(RNG.rand(N) < 0.2, np.nan, RNG.normal(60, 10, N)),
            "site": pd.Categorical(list("abcd") * (N // 4)),
            "smoker": RNG.rand(N) < 0.5,
        }
    )


def estimators():
    frame = raw_frame()
    y = (frame["site"].isin(["a", "b"]) ^ frame["smoker"]).astype(int)
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["age"]),
        (TargetEncoder(cv=2), ["site"]),
        ("passthrough", ["smoker"]),
    )
    boosting = HistGradientBoostingClassifier(
        categorical_features="from_dtype", max_iter=3, min_samples_leaf=2
    )
    kept = make_column_transformer(("passthrough", ["age", "site", "smoker"]))
    return [
        (make_pipeline(columns, LogisticRegression()).fit(frame, y), frame),
        (make_pipeline(columns, MLPClassifier((4,), solver="lbfgs", alpha=1)).fit(frame, y), frame),
        (make_pipeline(kept.set_output(transform="pandas"), boosting).fit(frame, y), frame),
    ]


@pytest.mark.parametrize("which", range(3))
def test_shapley_values_of_raw_columns(which):
    estimator, frame = estimators()[which]
    background = frame.iloc[:2]
    explainer = LabelFreeAttributor(estimator, method="kernel_shap", baseline=background)
    explainer.fit(frame)
    maps = explainer.transform(frame.iloc[[9]])[0]
    code = estimator.predict_proba(frame.iloc[[9]])[0]
    exact = shapley(lambda rows: estimator.predict_proba(rows) @ code, frame.iloc[[9]], background)
    np.testing.assert_allclose(maps, exact, atol=1e-9)
    assert abs(maps[0]) < 1e-15  # the id, which no step reads


def test_neighbours_are_those_of_the_estimators_own_output():
    for estimator, frame in estimators():
        code = estimator.predict_proba(frame)
        squares = ((code[:, None] - code[None]) ** 2).sum(axis=2)
        explainer = DKNNImportance(estimator).fit(frame)
        importance, index = explainer.top_examples(frame, 3)
        found = np.take_along_axis(squares, index, axis=1)
        np.testing.assert_allclose(found, np.sort(squares, axis=1)[:, :3], atol=1e-12)
        age = frame["age"].fillna(frame["age"].mean()).to_numpy()
        numbers = np.column_stack(
            [(age - age.mean()) / age.std(), frame["smoker"] / frame["smoker"].std(ddof=0)]
        )
        inputs = ((numbers[:, None] - numbers[None]) ** 2).sum(axis=2)
        inputs += frame["site"].to_numpy()[:, None] != frame["site"].to_numpy()[None]
        top = explainer.top_examples(frame, 10)[1]
        expected = 1 - np.take_along_axis(inputs, top, axis=1).mean() / inputs.mean()
        assert explainer.score(frame) == pytest.approx(expected, abs=0.1)


def test_a_saved_explainer_knows_its_table():
    estimator, frame = estimators()[2]
    explainer = LabelFreeAttributor(estimator, method="occlusion").fit(frame)
    again = pickle.loads(pickle.dumps(explainer))
    new = frame.iloc[:3].assign(id=["new", "p1", "x"])
    np.testing.assert_array_equal(again.transform(new), explainer.transform(new))
    assert isinstance(explainer.mean_, pd.DataFrame)
    assert explainer.mean_["site"].iloc[0] == "a"


def test_what_stands_in_the_way_is_named():
    estimator, frame = estimators()[0]
    with pytest.raises(TypeError, match="TargetEncoder has no torch form.*'shapley_sampling'"):
        LabelFreeAttributor(estimator).fit(frame)
    with pytest.raises(ValueError, match="baseline='zeros': column 'id' holds no numbers"):
        LabelFreeAttributor(estimator, method="occlusion", baseline="zeros").fit(frame)
    with pytest.raises(ValueError, match="column 'id' is not numeric"):
        LabelFreeAttributor(MLPClassifier(), method="occlusion").fit(frame, frame["smoker"])


def gaps(frame):
    return np.where(np.arange(len(frame)) % 3 == 1, np.nan, 1.0)[:, None]


def test_an_output_that_is_not_finite_is_not_blamed_on_a_column():
    box = FunctionTransformer(gaps).fit(raw_frame())
    with pytest.raises(ValueError, match="output is not finite .* for sample 1"):
        DKNNImportance(box).fit(raw_frame())


def test_columns_that_no_step_reads_may_hold_anything():
    frame = raw_frame()
    columns = make_column_transformer((StandardScaler(), ["age"]))
    frame["age"] = frame["age"].fillna(50.0)
    estimator = make_pipeline(columns, MLPClassifier((4,), "tanh", solver="lbfgs", alpha=1))
    estimator.fit(frame, frame["smoker"])
    explainer = LabelFreeAttributor(estimator, method_params={"n_steps": 200}).fit(frame)
    maps = explainer.transform(frame)
    assert (maps[:, [0, 2, 3]] == 0).all()
    code = estimator.predict_proba(frame)
    base = estimator.predict_proba(frame.assign(age=frame["age"].mean()))
    np.testing.assert_allclose(maps.sum(axis=1), (code * (code - base)).sum(axis=1), atol=1e-5)
    frame.loc[2, "age"] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN: column 'age', row 2"):
        explainer.transform(frame)


def test_explainers_of_tables_go_through_skops():
    import skops.io as sio

    frame = raw_frame().assign(
        age=50.0,
        date=pd.date_range("2024-01-01", periods=N, tz="Europe/Paris"),
        kind=pd.Categorical([1, 2] * (N // 2)),
    )
    columns = make_column_transformer((TargetEncoder(cv=2), ["site"]), ("passthrough", ["age"]))
    model = make_pipeline(columns, KNeighborsRegressor(2)).fit(frame, np.arange(N) % 5)
    explainer = LabelFreeAttributor(model, method="occlusion").fit(frame)
    data = sio.dumps(explainer)
    again = sio.loads(data, trusted=sio.get_untrusted_types(data=data))
    np.testing.assert_array_equal(again.transform(frame), explainer.transform(frame))
    pd.testing.assert_frame_equal(again.mean_, explainer.mean_)
