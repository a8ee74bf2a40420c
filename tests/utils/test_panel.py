"""Series in every form, against loops over single values."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from torch.utils.data import Dataset

from sklexplain.exceptions import DataConversionWarning
from sklexplain.utils import as_numpy3d

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 2, 7))
CASES, CHANNELS = ["b", "a", "e", "d", "c"], ["v", "u"]


def long_frame(X=X, cases=CASES, times=None, columns=CHANNELS):
    """One row at a time, series after series."""
    rows, labels = [], []
    for i, series in enumerate(X):
        for k in range(series.shape[1]):
            rows.append(series[:, k])
            labels.append((cases[i], k if times is None else times[k]))
    index = pd.MultiIndex.from_tuples(labels, names=["case", "time"])
    return pd.DataFrame(rows, index=index, columns=columns)


def nested_frame(X=X, make=pd.Series):
    columns = {name: pd.Series([make(s[c]) for s in X]) for c, name in enumerate(CHANNELS)}
    return pd.DataFrame(columns)


def slow_long(frame, n_times):
    """Find every value by its labels; what is not there is NaN."""
    cases = list(dict.fromkeys(case for case, _ in frame.index))
    times = sorted({time for _, time in frame.index})
    out = np.full((len(cases), frame.shape[1], n_times), np.nan)
    for i, case in enumerate(cases):
        for c, column in enumerate(frame.columns):
            for k, time in enumerate(times):
                for label, value in zip(frame.index, frame[column], strict=True):
                    if label == (case, time):
                        out[i, c, k] = value
    return out


SERIES = [X[i] for i in range(5)]


class Pairs(Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, i):
        return torch.tensor(X[i]), i


OBJECTS = np.empty(5, dtype=object)
CELLS = np.empty((5, 2), dtype=object)
for i in range(5):
    OBJECTS[i] = X[i]
    for c in range(2):
        CELLS[i, c] = X[i, c]


@pytest.mark.parametrize(
    "panel",
    [
        long_frame(),
        long_frame(times=pd.date_range("2020", periods=7)),
        long_frame(times=list("abcdefg")),
        long_frame().sample(frac=1, random_state=0).loc[CASES],
        nested_frame(),
        nested_frame(make=np.asarray),
        nested_frame(make=list),
        nested_frame(make=lambda s: pd.Series(s[::-1], index=range(7)[::-1])),
        pl.DataFrame({name: [list(s[c]) for s in X] for c, name in enumerate(CHANNELS)}),
        pa.table({name: [list(s[c]) for s in X] for c, name in enumerate(CHANNELS)}),
        SERIES,
        tuple(SERIES),
        X.tolist(),
        [torch.tensor(s, requires_grad=True) for s in X],
        [pd.DataFrame(s.T, columns=CHANNELS) for s in X],
        [pl.DataFrame(s.T, schema=CHANNELS) for s in X],
        [pd.DataFrame(X[0].T, columns=CHANNELS)]
        + [pd.DataFrame(s[::-1].T, columns=CHANNELS[::-1]) for s in X[1:]],
        OBJECTS,
        CELLS,
        Pairs(),
        torch.tensor(X),
    ],
    ids=lambda panel: type(panel).__name__,
)
def test_every_form_is_the_same_array(panel):
    read = as_numpy3d(panel)
    assert read.dtype == np.float64
    np.testing.assert_array_equal(read, X)


def test_an_array_is_returned_as_it_is():
    assert as_numpy3d(X) is X
    np.testing.assert_array_equal(as_numpy3d(X[:, 0]), X[:, :1])
    single = X.astype(np.float32)
    assert as_numpy3d(single) is single
    assert as_numpy3d((10 * X).astype(int)).dtype == np.float64
    assert as_numpy3d(X > 0).dtype.kind == "f"


def test_one_channel():
    expected = X[:, :1]
    np.testing.assert_array_equal(as_numpy3d(long_frame()[["v"]]), expected)
    np.testing.assert_array_equal(as_numpy3d(long_frame()["v"]), expected)
    np.testing.assert_array_equal(as_numpy3d([s[0] for s in X]), expected)
    np.testing.assert_array_equal(as_numpy3d(nested_frame()["v"]), expected)
    np.testing.assert_array_equal(as_numpy3d(pl.Series([list(s[0]) for s in X])), expected)


def test_channels_stand_in_the_order_of_the_columns():
    np.testing.assert_array_equal(as_numpy3d(long_frame()[["u", "v"]]), X[:, ::-1])
    np.testing.assert_array_equal(as_numpy3d(nested_frame()[["u", "v"]]), X[:, ::-1])


def test_series_stand_in_the_order_in_which_they_occur():
    mixed = long_frame().sample(frac=1, random_state=1)
    assert list(dict.fromkeys(mixed.index.get_level_values(0))) != CASES
    np.testing.assert_array_equal(as_numpy3d(mixed), slow_long(mixed, 7))


# -- lengths ---------------------------------------------------------------------------------------


RAGGED = [X[0], X[1, :, :4], X[2, :, :6]]


def padded():
    out = np.full((3, 2, 7), np.nan)
    for i, series in enumerate(RAGGED):
        for c in range(2):
            for k in range(series.shape[1]):
                out[i, c, k] = series[c, k]
    return out


@pytest.mark.parametrize(
    "panel",
    [
        RAGGED,
        long_frame(RAGGED),
        nested_frame(RAGGED),
        [s.tolist() for s in RAGGED],
        [torch.tensor(s) for s in RAGGED],
        [pd.DataFrame(s.T, columns=CHANNELS) for s in RAGGED],
        long_frame(RAGGED).sample(frac=1, random_state=0).loc[CASES[:3]],
    ],
    ids=["arrays", "long", "nested", "lists", "tensors", "frames", "shuffled"],
)
def test_unequal_lengths_are_padded_only_if_asked_for(panel):
    with pytest.raises(ValueError, match="different lengths, 4, 6, 7; pass pad=True"):
        as_numpy3d(panel)
    np.testing.assert_array_equal(as_numpy3d(panel, pad=True), padded())


def test_channels_of_one_series_may_differ_in_length():
    frame = pd.DataFrame({"v": [X[0, 0], X[1, 0]], "u": [X[0, 1, :3], X[1, 1]]}, dtype=object)
    with pytest.raises(ValueError, match="different lengths, 3, 7"):
        as_numpy3d(frame)
    expected = X[:2].copy()
    expected[0, 1, 3:] = np.nan
    np.testing.assert_array_equal(as_numpy3d(frame, pad=True), expected)
    lists = [[list(X[0, 0]), list(X[0, 1, :3])], X[1].tolist()]
    np.testing.assert_array_equal(as_numpy3d(lists, pad=True), expected)


def test_many_lengths_are_not_all_listed():
    with pytest.raises(ValueError, match=r"lengths, 1, 2, 3, 4, 5 \.\.\. 30;"):
        as_numpy3d([np.zeros(i) for i in range(1, 31)])


# -- times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_times_that_series_lack_are_missing_where_they_are(seed):
    rng = np.random.default_rng(seed)
    whole = long_frame()
    kept = np.sort(rng.choice(len(whole), len(whole) - 6, replace=False))
    frame = whole.iloc[kept]
    with pytest.raises(ValueError, match="lengths"):
        as_numpy3d(frame)
    np.testing.assert_array_equal(as_numpy3d(frame, pad=True), slow_long(frame, 7))


def test_equal_lengths_with_different_times_are_no_equal_series():
    frame = long_frame().drop([(case, 0) for case in "bae"]).drop([(case, 6) for case in "dc"])
    assert set(frame.groupby(level=0).size()) == {6}
    with pytest.raises(ValueError, match=r"series 'b' has no row for time 0.*cumcount"):
        as_numpy3d(frame)
    np.testing.assert_array_equal(as_numpy3d(frame, pad=True), slow_long(frame, 7))


def test_series_without_a_common_time_have_their_own_clocks():
    parts = [long_frame(X[i : i + 1], CASES[i:], times=np.arange(7) + 7 * i) for i in range(5)]
    np.testing.assert_array_equal(
        as_numpy3d(pd.concat(parts).sample(frac=1, random_state=0).loc[CASES]), X
    )
    short = pd.concat([parts[0], parts[1].iloc[:4], parts[2].iloc[:6]])
    with pytest.raises(ValueError, match="4, 6, 7"):
        as_numpy3d(short)
    np.testing.assert_array_equal(as_numpy3d(short, pad=True), padded())


def test_times_that_hardly_agree_make_no_array():
    index = pd.MultiIndex.from_tuples(
        [(i, t) for i in range(300) for t in ([0] if i < 2 else [i * 1000, i * 1000 + 1])]
    )
    frame = pd.DataFrame({"x": np.zeros(len(index))}, index=index)
    with pytest.raises(ValueError, match="300 series have 597 different times.*resample"):
        as_numpy3d(frame, pad=True)


# -- what is no panel ------------------------------------------------------------------------------


def with_label(frame, row, label):
    labels = frame.index.tolist()
    labels[row] = label
    return frame.set_axis(pd.MultiIndex.from_tuples(labels, names=frame.index.names))


@pytest.mark.parametrize(
    ("panel", "message"),
    [
        (with_label(long_frame(), 3, ("b", 2)), "2 rows for series 'b' at time 2; keep one"),
        (with_label(long_frame(), 3, ("b", None)), "missing label in row 3"),
        (long_frame().assign(w="x"), "column 'w' is not numeric.*'x'"),
        (long_frame().assign(w=pd.Timestamp("2020")), "column 'w' is not numeric.*days since"),
        (pd.concat([long_frame()], keys=["k"]), "3 levels; it must have two"),
        (long_frame().iloc[:0], "no rows"),
        (pd.DataFrame(X[:, 0]), r"table of single values.*set_index\(\[series, time\]\)"),
        (pl.DataFrame(X[:, 0]), "table of single values"),
        (nested_frame().assign(age=[1, 2, 3, 4, 5]), "row 0, column 'age', holds 1, not a series"),
        (
            nested_frame().assign(w=[X[0, 0], None, X[1, 0], X[2, 0], X[3, 0]]),
            "row 1, column 'w'.*None.*pad",
        ),
        (
            nested_frame(make=lambda s: pd.Series(s, index=[0, 1, 2, 2, 4, 5, 6])),
            "row 0, column 'v'.*several values at time 2",
        ),
        (nested_frame(make=lambda s: pd.Series(["x"] * 7)), "row 0, column 'v',.*not numeric.*'x'"),
        ([X[0], X[1, :1]], "series 1, has 1 channels, and the first has 2"),
        ([X[0], X[1, 0]], r"series 1, has 1 channels.*\(channels, time\)"),
        ([X], r"series 0, has shape \(5, 2, 7\)"),
        ([1.0, 2.0], r"series 0, has shape \(\)"),
        ([], "panel is empty"),
        (X[0, 0], r"1 axis \(shape \(7,\)\).*x\[None\]"),
        (X[None], r"4 axes \(shape \(1, 5, 2, 7\)\)"),
        (
            [pd.DataFrame(X[0].T, columns=["u", "v"]), pd.DataFrame(X[0].T, columns=["u", "w"])],
            r"series 1, has columns \['u', 'w'\], and the first has \['u', 'v'\]",
        ),
        (X.astype(complex), "[Cc]omplex"),
    ],
)
def test_refused(panel, message):
    with pytest.raises(ValueError, match=message) as caught:
        as_numpy3d(panel)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 350


@pytest.mark.parametrize(
    ("panel", "message"),
    [({"a": X}, "panel is a dict of 'a'"), ("x.csv", "panel is a str"), (iter(X), "fixed order")],
)
def test_no_container_of_series(panel, message):
    with pytest.raises(TypeError, match=message):
        as_numpy3d(panel)


# -- values ----------------------------------------------------------------------------------------


def test_missing_values_are_kept():
    frame = long_frame()
    frame.iloc[3, 1] = np.nan
    expected = X.copy()
    expected[0, 1, 3] = np.nan
    np.testing.assert_array_equal(as_numpy3d(frame), expected)
    np.testing.assert_array_equal(as_numpy3d(frame.convert_dtypes()), expected)
    cells = nested_frame(expected)
    np.testing.assert_array_equal(as_numpy3d(cells), expected)
    series = pd.DataFrame({"v": [X[0, 0], None], "u": [X[0, 1], X[1, 1]]}, dtype=object)
    expected = X[:2].copy()
    expected[1, 0] = np.nan
    np.testing.assert_array_equal(as_numpy3d(series, pad=True), expected)


def test_dtypes():
    frame = long_frame()
    numbers = {
        "v": (10 * frame["v"]).astype("int32"),
        "u": frame["u"] > 0,
        "w": frame["u"].astype("f4"),
    }
    mixed = frame.assign(**numbers)
    expected = as_numpy3d(mixed.astype("float64"))
    assert as_numpy3d(mixed).dtype == np.float64
    np.testing.assert_array_equal(as_numpy3d(mixed), expected)
    assert as_numpy3d(frame.astype("float32")).dtype == np.float32
    assert as_numpy3d(frame.astype("Float32")).dtype == np.float32
    assert as_numpy3d([s.astype("float32") for s in X]).dtype == np.float32
    assert as_numpy3d([X[0].astype("float32"), X[1]]).dtype == np.float64


def test_integers_beyond_the_precision_of_floats_are_told():
    frame = long_frame().assign(stamp=2**60 + np.arange(35))
    with pytest.warns(DataConversionWarning, match="Column 'stamp' varies too little"):
        as_numpy3d(frame)


def test_nothing_given_is_changed():
    frame = long_frame().sample(frac=1, random_state=0)
    before = frame.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_numpy3d(frame)[:] = 0
    pd.testing.assert_frame_equal(frame, before)
