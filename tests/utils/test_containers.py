"""What people hand over: read rightly, or refused by name in one line."""

import array
import collections
import datetime
import decimal
import fractions
import io
import pathlib
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from scipy import sparse
from sklearn.utils import Bunch
from skorch.dataset import Dataset as SkorchDataset
from skorch.helper import SliceDataset, SliceDict
from torch import nn
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
)

from sklexplain import DKNNImportance, LabelFreeAttributor, VarianceScorer
from sklexplain.exceptions import DataConversionWarning
from sklexplain.metrics import (
    completeness_error,
    concept_orthogonality,
    faithfulness,
    locality,
    map_sparsity,
    saliency_correlation,
    similarity_rate,
)
from sklexplain.nets import Autoencoder
from sklexplain.utils import as_array_like, as_numbers, cast_checked

X = np.random.RandomState(0).normal(size=(8, 4)).astype(np.float32)
FRAME = pd.DataFrame(X, columns=list("abcd"))
TENSOR, TARGETS = torch.tensor(X), torch.arange(8)


class Lazy:
    """An array of dask, or what behaves like one."""

    def __init__(self, result):
        self.result = result
        self.shape = result.shape

    def __dask_graph__(self):
        return {"task": None}

    def compute(self):
        return self.result


class LazyFrame(Lazy):
    columns = property(lambda self: self.result.columns)
    shape = property(lambda self: self.result.shape, lambda self, shape: None)
    iloc = property(lambda self: 1 / 0)


class DeviceFrame:
    """A table on a graphics card: like pandas, and it does not become an array by itself."""

    columns = FRAME.columns
    shape = FRAME.shape
    iloc = property(lambda self: 1 / 0)

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion to a host array")

    def to_pandas(self):
        return FRAME


class Samples(Dataset):
    """Items of any kind."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(X)


def masked(mask):
    return np.ma.masked_array(X, mask=mask)


def objects(items, shape=None):
    out = np.empty(len(items), dtype=object)
    out[:] = items
    return out if shape is None else out.reshape(shape)


def quietly(make, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that these are new, or old
        return make(*args)


READ = {
    "list": X.tolist(),
    "tuple of tuples": tuple(map(tuple, X.tolist())),
    "list of tensors": list(torch.tensor(X, requires_grad=True)),
    "list of Series": [pd.Series(x) for x in X],
    "deque": collections.deque(X),
    "memoryview": memoryview(X),
    "object array": X.astype(object),
    "array of arrays": objects(list(X)),
    "fractions": [[fractions.Fraction(float(v)) for v in x] for x in X],
    "decimals": [[decimal.Decimal(float(v)) for v in x] for x in X],
    "numbers as text": X.astype(np.float64).astype(str),
    "longdouble": X.astype(np.longdouble),
    "masked array": masked(False),
    "requires_grad": torch.tensor(X, requires_grad=True),
    "Parameter": nn.Parameter(TENSOR),
    "neg view": torch._neg_view(-TENSOR),
    "imaginary part": torch.complex(TENSOR, -TENSOR).conj().imag,
    "mkldnn": TENSOR.to_mkldnn(),
    "masked tensor": quietly(torch.masked.masked_tensor, TENSOR, TENSOR < 99),
    "pandas": FRAME,
    "pandas, nullable": FRAME.convert_dtypes(),
    "pandas, arrow": FRAME.astype("float[pyarrow]"),
    "pandas, objects": FRAME.astype(object),
    "pandas, decimals": FRAME.map(lambda v: decimal.Decimal(float(v))),
    "pandas, sparse": FRAME.astype(pd.SparseDtype("float32")),
    "polars": pl.DataFrame(FRAME),
    "polars, text": pl.DataFrame(FRAME.astype("float64")).cast(pl.String),
    "pyarrow table": pa.Table.from_pandas(FRAME),
    "pyarrow batch": pa.RecordBatch.from_pandas(FRAME),
    "lazy array": Lazy(X),
    "lazy frame": LazyFrame(FRAME),
    "frame on a device": DeviceFrame(),
    "TensorDataset": TensorDataset(TENSOR),
    "TensorDataset of pairs": TensorDataset(TENSOR, TARGETS),
    "Subset": Subset(TensorDataset(TENSOR, TARGETS), range(8)),
    "ConcatDataset": ConcatDataset([TensorDataset(TENSOR[:3]), TensorDataset(TENSOR[3:])]),
    "skorch Dataset": SkorchDataset(X),
    "skorch Dataset of pairs": SkorchDataset(X, TARGETS),
    "SliceDataset": SliceDataset(TensorDataset(TENSOR, TARGETS)),
    "items": Samples(X),
    "rows of numbers": Samples([array.array("f", x) for x in X]),
}


@pytest.mark.parametrize("given", READ.values(), ids=READ)
def test_the_same_numbers_in_other_containers(given):
    read = as_numbers(as_array_like(given))
    assert read.dtype.kind == "f" and read.dtype.itemsize <= 8
    np.testing.assert_array_equal(read, X)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (TENSOR.to(torch.bfloat16), 2**-8),
        (TENSOR.half(), 2**-11),
        (TENSOR.to(torch.float8_e4m3fn), 2**-4),
        (quietly(torch.quantize_per_tensor, TENSOR, 0.01, 0, torch.qint32), 0.005),
    ],
    ids=["bfloat16", "float16", "float8", "quantised"],
)
def test_tensors_in_dtypes_that_numpy_lacks(given, error):
    read = as_numbers(as_array_like(given))
    np.testing.assert_allclose(read, X, rtol=error, atol=0.006)


def test_what_is_masked_is_missing():
    mask = np.zeros(X.shape, dtype=bool)
    mask[3, 1] = True
    expected = np.where(mask, np.nan, X)
    np.testing.assert_array_equal(as_array_like(masked(mask)), expected)
    whole = np.ma.masked_array((10 * X).astype(int), mask=mask)
    expected_whole = np.where(mask, np.nan, (10 * X).astype(int))
    np.testing.assert_array_equal(as_array_like(whole), expected_whole)
    text = np.ma.masked_array(X.astype(str), mask=mask)
    assert as_array_like(text)[3, 1] is None and as_array_like(text)[0, 0] == X.astype(str)[0, 0]
    dates = np.ma.masked_array(np.zeros(X.shape, "datetime64[D]"), mask=mask)
    assert np.isnat(as_array_like(dates)).tolist() == mask.tolist()
    tensor = quietly(torch.masked.masked_tensor, TENSOR, torch.tensor(~mask))
    np.testing.assert_array_equal(as_array_like(tensor), expected)


@pytest.mark.parametrize(
    "column",
    [
        pd.array([1, None, 3, 4, 5, 6, 7, 8], dtype="Int64"),
        pd.array([True, None] * 4, dtype="boolean"),
        pd.array([1.5, None] * 4, dtype="float[pyarrow]"),
        pd.Series([1.0, pd.NA] * 4, dtype=object),
        pd.Series([1.0, None] * 4, dtype=object),
        pd.Series([decimal.Decimal(1), decimal.Decimal("NaN")] * 4, dtype=object),
    ],
    ids=lambda column: str(column.dtype),
)
def test_missing_values_of_any_kind_are_nan(column):
    read = as_numbers(FRAME.assign(a=column))
    expected = [np.nan if pd.isna(v) else float(v) for v in column]
    np.testing.assert_array_equal(read[:, 0], expected)
    np.testing.assert_array_equal(read[:, 1:], X[:, 1:])
    with pytest.raises(ValueError, match="contains NaN: column 'a', row 1"):
        VarianceScorer(nn.Linear(4, 2)).fit(FRAME.assign(a=column))


# -- refused ---------------------------------------------------------------------------------------


NO_CONTAINER = {
    "dict": ({"num": X, "cat": X}, r"of several arrays \('num', 'cat'\).*FunctionTransformer"),
    "SliceDict": (SliceDict(a=X, b=X), r"a SliceDict of several arrays \('a', 'b'\)"),
    "dict of one": ({"x": X}, r"a dict of 'x'; pass one array, X\['x'\] for example"),
    "dict of lists": ({"x": [[1.0], [1.0, 2.0]], "y": [1.0]}, "a dict of 'x', 'y'; pass one array"),
    "dict of words": ({"x": "text", "y": None}, "a dict of 'x', 'y'; pass one array"),
    "empty dict": ({}, "a dict of nothing; pass one array"),
    "open file": (collections.UserDict(x=X, y=X), "UserDict of 'x', 'y'; pass one array"),
    "Bunch": (Bunch(data=X, target=X), r"a Bunch of 'data', 'target'; pass one array, X\['data'\]"),
    "tuple": ((X, X[:, :3]), "a tuple of several arrays.*FunctionTransformer"),
    "triples": (TensorDataset(TENSOR, TENSOR, TARGETS), "a TensorDataset whose items hold 3"),
    "dicts in a dataset": (Samples([{"x": x} for x in X]), "holds a dict for every sample"),
    "list of dicts": ([{"a": 1.0}, {"a": 2.0}], r"list of dicts; pass pandas\.DataFrame\(X\)"),
    "DataLoader": (DataLoader(TensorDataset(TENSOR)), r"a DataLoader.*pass its.*loader\.dataset"),
    "IterableDataset": (Stream(), r"a Stream.*numpy\.stack\(list\(X\)\)"),
    "generator": ((x for x in X), r"a generator.*read only once.*numpy\.stack\(list\(X\)\)"),
    "map": (map(np.asarray, X), "a map"),
    "values": ({"a": X}.values(), "a dict_values"),
    "set": ({1, 2}, "a set, which has no fixed order"),
    "path": ("data.csv", "a str, no array; if it names a file, read that first"),
    "Path": (pathlib.Path("data.csv"), "Path, no array; if it names a file"),
    "bytes": (b"x", "a bytes, no array"),
    "file": (io.StringIO("1,2"), "a StringIO"),
    "None": (None, "a NoneType, not an array"),
    "object": (object(), "an object, not an array"),
    "function": (np.mean, "not an array"),
    "module": (nn.Linear(4, 2), "a torch.nn.modules.linear.Linear, not an array"),
    "query": (pl.DataFrame(FRAME).lazy(), r"a LazyFrame, a query; pass X\.collect\(\)"),
    "structured": (FRAME.to_records(index=False), r"fields 'a', 'b', 'c', 'd'; pass pandas\.Data"),
    "sparse tensor": (TENSOR.to_sparse(), r"Sparse data.*sparse_coo; pass X\.to_dense\(\)"),
    "objects": (objects([{"a": 1}] * 8, (4, 2)), "column 0 is not numeric.*'dict'"),
    "sparse matrix": (sparse.csr_matrix(X), "Sparse data"),
}
NO_NUMBERS = {
    "complex": (X.astype(complex), "Complex data not supported: X has dtype complex128"),
    "conjugate": (torch.complex(TENSOR, TENSOR).conj(), "Complex data"),
    "meta": (torch.zeros(8, 4, device="meta"), "meta device, which holds no numbers"),
    "nested": (
        quietly(torch.nested.nested_tensor, [TENSOR[:3], TENSOR[:4]]),
        r"nested tensor.*X\.to_padded_tensor\(0\.0\)",
    ),
    "dates": (np.zeros((8, 4), "datetime64[D]"), "column 0 is not numeric.*'1970-01-01'.*days"),
    "durations": (np.zeros((8, 4), "timedelta64[s]"), "column 0 is not numeric"),
    "dates of images": (np.zeros((8, 4, 2), "datetime64[D]"), r"X, at \(0, 0, 0\), is not numeric"),
    "dates as objects": (
        np.full((8, 4), datetime.date(2020, 1, 2)),
        "column 0.*'2020-01-02'.*days",
    ),
    "numpy dates as objects": (objects([np.datetime64("2020")] * 8, (2, 4)), "column 0.*'2020'"),
    "text": (np.full((8, 4), "abc"), "column 0 is not numeric.*'abc'.*OneHotEncoder"),
    "text in images": (np.full((8, 4, 2), "abc", object), r"X, at \(0, 0, 0\), is not numeric"),
    "mixed rows": ([[1.0, "u"], [2.0, "v"]], "column 1 is not numeric.*'u'"),
    "huge integers": (np.full((8, 4), 10**400, dtype=object), "column 0 is not numeric"),
    "other dtype": (np.zeros((8, 4), "V8"), r"X is not numeric \(dtype \|V8\)"),
    "a Series": (FRAME["a"], r"got 1D array instead: X has shape \(8,\).*X\[:, None\]"),
    "text in a list": (["a", "b"], "got 1D array instead|put a vectoriser"),
    "a number": (5.0, "got scalar array instead"),
    "only dates": (
        pd.DataFrame({"d1": pd.date_range("2020", periods=8)}),
        "column 'd1' is not num",
    ),
    **{
        f"frame with {kind}": (FRAME.assign(d1=values), "column 'd1' is not numeric.*days since")
        for kind, values in {
            "dates": pd.date_range("2020", periods=8),
            "NaT": pd.NaT,
            "time zones": pd.date_range("2020", periods=8, tz="UTC"),
            "durations": pd.Timedelta("1h"),
            "periods": pd.period_range("2020", periods=8, freq="D"),
            "objects": datetime.date(2020, 1, 1),
        }.items()
    },
    "polars dates": (
        pl.DataFrame({"d1": [datetime.date(2020, 1, 1)] * 8}),
        "column 'd1' is not num",
    ),
    "polars durations": (pl.DataFrame({"d1": [datetime.timedelta(1)] * 8}), "column 'd1' is not"),
    "categories": (FRAME.assign(a=pd.Categorical(["u", "v"] * 4)), "column 'a' is not.*OneHot"),
    "levels": (
        FRAME.set_index(pd.MultiIndex.from_product([[0, 1], range(4)], names=["case", "time"])),
        r"2 levels \('case', 'time'\).*as_numpy3d\(X\), or X\.reset_index\(drop=True\)",
    ),
    "nested table": (
        pd.DataFrame({"a": [pd.Series(x) for x in X]}),
        r"nested table, every cell of column 'a' holds a series; pass sklexplain.*as_numpy3d\(X\)",
    ),
    "nested lists": (
        pd.DataFrame({"a": X.tolist()}),
        r"column 'a' holds a series.*as_numpy3d\(X\)",
    ),
    "nested polars": (
        pl.DataFrame({"a": X.tolist()}),
        r"column 'a' holds a series.*as_numpy3d\(X\)",
    ),
    "nested array": (objects([x for x in X] * 2, (8, 2)), r"nested table, every cell.*as_numpy3d"),
    "ragged lists": ([[1.0, 2.0], [3.0]], r"\(2,\) and \(1,\).*padded.*as_numpy3d\(X, pad=True\)"),
    "ragged arrays": ([X[:5].T, X[:3].T], r"\(4, 5\) and \(4, 3\).*padded to one length.*pad=True"),
    "ragged objects": (objects([X[:5], X[:4]]), r"\(5, 4\) and \(4, 4\).*padded to one length"),
    "ragged samples": ([[[1.0, 2.0], [3.0]]] * 2, "padded to one length"),
    "list of frames": (
        [FRAME, FRAME],
        r"list of DataFrames; pass sklexplain.utils.as_numpy3d\(X\)",
    ),
    "empty dataset": (Samples([]), "a Samples without samples"),
    "too large": (np.full((8, 4), np.longdouble("1e4000")), r"up to 1\.e\+4000, too large"),
}


def refuses(given, error, message):
    """Whether everything that takes X refuses it in one short line, without showing the data."""
    for estimator in (
        LabelFreeAttributor(nn.Linear(4, 2)),
        DKNNImportance(nn.Linear(4, 2)),
        Autoencoder(max_epochs=1),
    ):
        with pytest.raises(error, match=message) as caught:
            estimator.fit(given)
        text = str(caught.value)
        assert "\n" not in text and len(text) < 600, text


@pytest.mark.parametrize(("given", "message"), NO_CONTAINER.values(), ids=NO_CONTAINER)
def test_no_container_of_samples(given, message):
    refuses(given, TypeError, message)


@pytest.mark.parametrize(("given", "message"), NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_no_numbers(given, message):
    if hasattr(given, "__next__"):
        pytest.skip("can be read only once")
    refuses(given, ValueError, message)


def test_lists_of_several_inputs_are_told_from_series():
    with pytest.raises(ValueError, match="If they are several inputs of a network"):
        as_array_like([X, X[:, :3]])


def test_labelled_rows_may_have_any_single_index():
    frame = FRAME.set_axis(pd.date_range("2020", periods=8))
    VarianceScorer(nn.Linear(4, 2)).fit(frame)


# -- precision -------------------------------------------------------------------------------------


BIG = np.arange(32).reshape(8, 4)
TOO_BIG = {
    "int64": BIG + 2**60,
    "uint64": BIG.astype(np.uint64) + np.uint64(2**63 + 2**62),
    "negative": -BIG - 2**60,
    "frame": pd.DataFrame(BIG + 2**60, columns=list("abcd")),
    "one column of a frame": FRAME.astype("float64").assign(a=2**60 + np.arange(8)),
    "python": (BIG + 2**60).astype(object),
    "decimals": np.vectorize(lambda v: decimal.Decimal(int(v)) + 2**60, otypes=[object])(BIG),
    "nullable": pd.DataFrame({c: pd.array([*range(2**60, 2**60 + 8)], "Int64") for c in "ab"}),
}


@pytest.mark.parametrize("given", TOO_BIG.values(), ids=TOO_BIG)
def test_integers_that_floats_cannot_tell_apart_are_told(given):
    with pytest.warns(DataConversionWarning, match="Column (0|'a') varies too little") as caught:
        numbers = cast_checked(as_numbers(as_array_like(given)), np.float64)
    assert len(np.unique(numbers[:, 0])) < 8
    assert len(caught) == 1 and "subtract its smallest value" in str(caught[0].message)


@pytest.mark.parametrize("seed", range(20))
def test_lost_variation_against_exact_arithmetic(seed):
    rng = np.random.default_rng(seed)
    size, step = 2 ** int(rng.integers(45, 62)), 2 ** int(rng.integers(0, 10))
    column = size + step * rng.integers(0, 50, size=12)
    cast = [int(np.float64(int(v))) for v in column]
    mean = fractions.Fraction(sum(map(int, column)), 12)
    deviation = float(sum((int(v) - mean) ** 2 for v in column) / 12) ** 0.5
    rounding = max(abs(int(v) - c) for v, c in zip(column, cast, strict=True))
    if 0.008 < rounding / deviation < 0.012:
        pytest.skip("at the border rounding decides")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cast_checked(column[:, None], np.float64)
    assert bool(caught) == (rounding > 0.01 * deviation)


def test_epoch_seconds_are_helped_by_a_scaler_and_identifiers_are_not():
    seconds = 1_700_000_000 + np.arange(8)[:, None]
    with pytest.warns(DataConversionWarning, match="float32, which the network takes; put a Stand"):
        cast_checked(seconds, np.float32)
    with pytest.warns(DataConversionWarning, match="float32, which.*subtract its smallest value"):
        cast_checked(seconds + 2**60, np.float32)


def test_missing_values_hide_no_loss_and_no_overflow():
    column = np.array([1.7e9, 1.7e9 + 1, 1.7e9 + 2, np.nan])[:, None]
    with pytest.warns(DataConversionWarning):
        cast_checked(column, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = cast_checked(np.array([[1.0, np.nan], [2.0, np.nan], [np.nan, np.nan]]), np.float32)
        constant = cast_checked(np.array([[0.1], [0.1], [np.nan]]), np.float32)
    assert np.isnan(out).sum() == 4 and np.isnan(constant).sum() == 1
    with pytest.raises(ValueError, match=r"up to 1e\+300, too large"):
        cast_checked(np.array([[1e300], [np.nan]]), np.float32)


# -- elsewhere -------------------------------------------------------------------------------------


def faithful(y_true, y_approx):
    return list(faithfulness(y_true, y_approx).values())


MAPS = np.abs(X).reshape(2, 4, 4)


@pytest.mark.parametrize(
    ("measure", "args"),
    [
        (completeness_error, (X, lambda X: X[:, :2], X, 0.0)),
        (map_sparsity, (X,)),
        (saliency_correlation, (X, X**2)),
        (similarity_rate, (X, np.arange(8) % 2, np.arange(4) % 2, 1)),
        (faithful, (X, X**2)),
        (locality, (MAPS, np.arange(4) % 2)),
        (concept_orthogonality, (X,)),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_metrics_read_tensors_and_refuse_the_rest(measure, args):
    if measure is similarity_rate:
        *args, n_top = args
        kw = {"n_top": n_top}
    else:
        kw = {}
    expected = measure(*args, **kw)
    arrays = [isinstance(a, np.ndarray) for a in args]

    def given(make):
        return [make(a) if is_array else a for a, is_array in zip(args, arrays, strict=True)]

    def tensor(a):
        return torch.tensor(a, requires_grad=a.dtype.kind == "f")

    np.testing.assert_allclose(measure(*given(tensor), **kw), expected, rtol=1e-6)
    np.testing.assert_allclose(measure(*given(Lazy), **kw), expected, rtol=1e-6)
    for make, error in (
        (lambda a: {"a": a}, TypeError),
        (iter, TypeError),
        (lambda a: torch.zeros(a.shape, device="meta"), ValueError),
        (lambda a: np.ma.masked_array(a.astype(float), mask=True), ValueError),
    ):
        with pytest.raises(error) as caught:
            measure(*[make(a) if i == 0 else a for i, a in enumerate(args)], **kw)
        assert "\n" not in str(caught.value)


def test_representations_may_be_tensors_with_a_gradient():
    net = nn.Linear(4, 2)
    weight = net.weight.detach().numpy()
    error = completeness_error(X * 0, lambda X: net(torch.as_tensor(X)), X, 0.0)
    np.testing.assert_allclose(
        error,
        completeness_error(X * 0, lambda X: X @ weight.T + net.bias.detach().numpy(), X, 0.0),
        rtol=1e-5,
    )


def test_targets_and_baselines_may_be_tensors():
    y = torch.arange(8) % 2
    Autoencoder(lambda_class=1.0, max_epochs=1, patience=1, validation_split=None).fit(X, y)
    explainer = DKNNImportance(nn.Linear(4, 2), n_neighbors=3).fit(TENSOR, y)
    assert explainer.score(X, y.float().requires_grad_()) == explainer.score(X, y.numpy())
    net = nn.Linear(4, 2)
    expected = LabelFreeAttributor(net, baseline=X[0]).fit(X).transform(X)
    tensor = TENSOR[0].clone().requires_grad_()
    maps = LabelFreeAttributor(net, baseline=tensor).fit(X).transform(X)
    np.testing.assert_array_equal(maps, expected)
    with pytest.raises(TypeError, match="baseline is a dict of 'a'"):
        LabelFreeAttributor(net, baseline={"a": X[0]}).fit(X)


def test_displays_read_containers():
    pytest.importorskip("matplotlib").use("Agg")
    from sklexplain.plotting import AttributionDisplay

    explainer = LabelFreeAttributor(nn.Linear(4, 2)).fit(X)
    display = AttributionDisplay.from_estimator(explainer, TensorDataset(TENSOR), index=2)
    np.testing.assert_array_equal(display.sample, X[2])
    AttributionDisplay(TENSOR[0].clone().requires_grad_(), TENSOR[1]).plot()
