"""Files as people have them: each with the right reading, or the right refusal."""

import io
import os
import re
import sys

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris

from sklexplain.datasets import load_ecg5000
from sklexplain.reading import InputError, prepare_series, prepare_table, read_data

pd = pytest.importorskip("pandas")

BEATS = load_ecg5000().data[:40].astype(np.float64).round(4)
CLASSES = np.arange(40) % 2 + 1
STEPS = pd.DataFrame(BEATS, columns=[f"t{i}" for i in range(140)])
IRIS = load_iris(as_frame=True).frame
LONG = pd.DataFrame(
    {
        "patient": np.repeat(np.arange(40) + 5, 140),
        "time": np.tile(np.arange(140) * 4, 40),
        "mV": BEATS.ravel(),
    }
)


def mixed():
    rng = np.random.RandomState(0)
    return pd.DataFrame(
        {
            "id": rng.permutation(900)[:60] + 5000,
            "age": rng.randint(20, 90, 60),
            "sex": rng.choice(["m", "f"], 60),
            "smoker": rng.uniform(size=60) < 0.3,
            "crp": rng.gamma(2, 2, 60).round(2),
            "admitted": pd.date_range("2024-01-01", periods=60).astype(str),
            "note": [f"free text number {i}" for i in range(60)],
            "serial": 2**60 + rng.permutation(60) * 3,
            "site": 1,
        }
    )


def with_gaps():
    return mixed().assign(crp=mixed()["crp"].where(mixed()["age"] > 40))


def csv(frame, **options):
    return frame.to_csv(**({"index": False} | options)).encode()


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def read(tmp_path, name, content, **options):
    path = tmp_path / name
    path.write_bytes(content)
    return read_data(path, **options)


def with_first(name, values):
    frame = STEPS.copy()
    frame.insert(0, name, values)
    return frame


# -- series ----------------------------------------------------------------------------------------

SERIES = {
    "plain": ("a.csv", csv(STEPS), {}),
    "semicolons": ("a.csv", csv(STEPS, sep=";"), {}),
    "decimal commas": ("a.csv", csv(STEPS, sep=";", decimal=","), {}),
    "quoted decimal commas": ("a.csv", csv(STEPS, decimal=",", quoting=1), {}),
    "decimal commas and tabs": ("a.csv", csv(STEPS, sep="\t", decimal=","), {}),
    "tabs": ("a.tsv", csv(STEPS, sep="\t"), {}),
    "bars": ("a.txt", csv(STEPS, sep="|"), {}),
    "blanks, no header": ("a.txt", csv(STEPS, sep=" ", header=False), {}),
    "no header": ("a.csv", csv(STEPS, header=False), {}),
    "no header, said": ("a.csv", csv(STEPS, header=False), {"has_header": False}),
    "numbers for names": ("a.csv", csv(pd.DataFrame(BEATS)), {}),
    "times for names": ("a.csv", csv(pd.DataFrame(BEATS, columns=np.arange(140) * 0.004)), {}),
    "a saved index": ("a.csv", csv(STEPS, index=True), {}),
    "a saved index, numbers for names": ("a.csv", csv(pd.DataFrame(BEATS), index=True), {}),
    "patients' numbers": ("a.csv", csv(with_first("patient_id", np.arange(1000, 1040))), {}),
    "patients' numbers, not in order": (
        "a.csv",
        csv(with_first("Patient", np.random.RandomState(0).permutation(40) * 7 + 1000)),
        {},
    ),
    "labels": ("a.csv", csv(with_first("label", CLASSES)), {"target": "label"}),
    "dates": ("a.csv", csv(with_first("day", pd.date_range("2024-01-01", periods=40))), {}),
    "a mark at the beginning": ("a.csv", csv(STEPS).decode().encode("utf-8-sig"), {}),
    "UTF-16": ("a.csv", csv(STEPS).decode().encode("utf-16"), {}),
    "UTF-16, said": ("a.csv", csv(STEPS).decode().encode("utf-16-le"), {"encoding": "utf-16-le"}),
    "other ends of lines": ("a.csv", csv(STEPS, lineterminator="\r\n"), {}),
    "old ends of lines": ("a.csv", csv(STEPS, lineterminator="\r"), {}),
    "a blank line at the end": ("a.csv", csv(STEPS) + b"\n\n", {}),
    "scientific notation": ("a.csv", csv(STEPS, float_format="%.6e"), {}),
    "archive files with labels first": (
        "a.txt",
        csv(with_first("x", CLASSES), sep="\t", header=False),
        {"target": "x0"},
    ),
    "long format": ("a.csv", csv(LONG), {"pivot_columns": ["patient", "time", "mV"]}),
    "long format in another order": (
        "a.csv",
        csv(LONG.sample(frac=1, random_state=0)),
        {"pivot_columns": ["patient", "time", "mV"]},
    ),
    "an array": ("a.npy", npy(BEATS), {}),
    "arrays": ("a.npz", npz(X=BEATS, y=CLASSES), {}),
    "arrays of other names": ("a.npz", npz(beats=BEATS, kind=CLASSES), {"samples": "beats"}),
    "big-endian arrays": ("a.npz", npz(X=BEATS.astype(">f8")), {}),
    "labels as texts": ("a.npz", npz(X=BEATS, y=CLASSES.astype(str)), {}),
    "labels in a column": ("a.npz", npz(X=BEATS, y=CLASSES[:, None]), {}),
}


@pytest.mark.parametrize("case", SERIES)
def test_series(tmp_path, case):
    name, content, options = SERIES[case]
    data = read(tmp_path, name, content, layout="series", **options)
    X = prepare_series(data.X, name).X if hasattr(data.X, "columns") else data.X
    np.testing.assert_allclose(X, BEATS, rtol=0, atol=1e-12)
    assert data.layout == "series"
    if "label" in case and case != "labels as texts" or options.get("target"):
        np.testing.assert_array_equal(np.asarray(data.y).astype(int), CLASSES)


def test_what_was_read_is_said(tmp_path):
    read_it = read(tmp_path, "a.csv", csv(STEPS, sep=";", decimal=",", header=False))
    assert read_it.read == "40 rows of 140 columns; separator ';'; decimal ','; no header"


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (with_first("device", np.random.RandomState(0).randint(1000, 1005, 40)), "'device'"),
        (with_first("label", CLASSES), "like labels; name it with --target"),
        (STEPS.assign(weight=80.5 + np.arange(40) / 3), "'weight'"),
        (STEPS.assign(sex=["m", "f"] * 20), "'sex' holds no numbers"),
        (
            STEPS.assign(t0=STEPS["t0"].where(STEPS.index != 7)),
            "row 8 of the data has no value at 't0'",
        ),
    ],
)
def test_columns_that_are_no_steps_of_time(tmp_path, frame, text):
    data = read(tmp_path, "a.csv", csv(frame), layout="series")
    with pytest.raises(InputError, match=text):
        prepare_series(data.X, "a.csv")


def test_series_are_suggested(tmp_path):
    assert "--layout series" in " ".join(read(tmp_path, "a.csv", csv(STEPS)).notes)
    cancer = load_breast_cancer(as_frame=True).data
    for table in (IRIS, mixed(), cancer):
        assert "--layout series" not in " ".join(read(tmp_path, "a.csv", csv(table)).notes)


def test_names_of_times_and_channels(tmp_path):
    frame = LONG.assign(pulse=60.0 + LONG["time"])
    data = read(tmp_path, "a.csv", csv(frame), pivot_columns=["patient", "time", "mV", "pulse"])
    assert data.X.shape == (40, 2, 140)
    np.testing.assert_allclose(data.X[:, 0], BEATS)
    assert data.channels == ["mV", "pulse"]
    assert data.times[:3] == ["0", "4", "8"]
    assert data.ids[:2] == ["5", "6"]
    assert data.id_name == "patient"
    labelled = LONG.assign(kind=np.repeat(CLASSES, 140))
    data = read(
        tmp_path,
        "a.csv",
        csv(labelled),
        pivot_columns=["patient", "time", "mV"],
        target="kind",
    )
    np.testing.assert_array_equal(data.y.astype(int), CLASSES)


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (LONG.iloc[:-1], "has no 'mV' at time=556"),
        (pd.concat([LONG, LONG.iloc[:1]]), "time=0.0 of patient=5.0 more than once"),
        (LONG.assign(mV="a"), "'mV' of a.csv holds no numbers"),
        (LONG.assign(time=LONG["time"].where(LONG.index != 3)), "row 4 of the data has no"),
        (LONG.rename(columns={"mV": "uV"}), "no column 'mV'"),
    ],
)
def test_long_tables_with_faults(tmp_path, frame, text):
    with pytest.raises(InputError, match=text):
        read(tmp_path, "a.csv", csv(frame), pivot_columns=["patient", "time", "mV"])


def test_channels_that_may_be_times(tmp_path):
    X = np.random.RandomState(0).normal(size=(20, 3, 96))
    data = read(tmp_path, "a.npz", npz(X=X), layout="channels-last")
    assert "say --layout channels-first" in data.notes[0]
    assert not read(tmp_path, "a.npz", npz(X=X), layout="channels-first").notes


# -- tables ----------------------------------------------------------------------------------------

TABLES = {
    "plain": csv(mixed()),
    "decimal commas": csv(mixed(), sep=";", decimal=","),
    "another encoding": csv(mixed().rename(columns={"crp": "größe"})).decode().encode("latin1"),
    "gaps": csv(mixed().assign(crp=mixed()["crp"].where(mixed()["age"] > 40))),
    "words for gaps": csv(
        mixed().assign(crp=mixed()["crp"].where(mixed()["age"] > 40)), na_rep="-"
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables(tmp_path, case):
    data = read(tmp_path, "a.csv", TABLES[case])
    table = prepare_table(data.X)
    assert table.numeric == ["age", "größe" if "encoding" in case else "crp"]
    assert table.categorical == ["sex", "smoker"]
    assert set(table.X["smoker"]) == {"yes", "no"}
    assert table.has_missing == ("gaps" in case)
    np.testing.assert_array_equal(table.X["age"], mixed()["age"])
    known = table.X[table.numeric[1]].notna()
    np.testing.assert_allclose(table.X[table.numeric[1]][known], mixed()["crp"][known])
    assert data.ids == [str(i) for i in mixed()["id"]]
    left_out = " ".join(table.notes)
    for name, reason in {
        "admitted": "dates",
        "note": "identifiers or free text",
        "serial": "2\\*\\*53",
        "site": "same value",
    }.items():
        assert f"Column {name!r}" in left_out
        assert re.search(reason, left_out)


def test_an_index_of_parquet_is_kept(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    mixed().set_index("id").to_parquet(path)
    assert read_data(path).ids == [str(i) for i in mixed()["id"]]
    LONG.set_index(["patient", "time"]).to_parquet(path)
    with pytest.raises(InputError, match="--pivot patient time mV"):
        read_data(path)


def test_labels_of_whole_numbers_beside_gaps(tmp_path):
    frame = IRIS.assign(target=IRIS["target"].where(IRIS.index != 0))
    labels = read(tmp_path, "a.csv", csv(frame), target="target").y
    assert sorted(set(labels)) == ["0", "1", "2", "missing"]


def test_groups_and_names(tmp_path):
    frame = IRIS.assign(patient_id=np.arange(150) // 5 + 100, visit=[f"v{i}" for i in range(150)])
    data = read(tmp_path, "a.csv", csv(frame), group="patient_id", id="visit")
    assert list(data.X.columns) == list(IRIS.columns)
    assert data.groups[:6].tolist() == ["100"] * 5 + ["101"]
    assert data.ids[2] == "v2"
    assert "--group patient_id" in " ".join(read(tmp_path, "a.csv", csv(frame)).notes)
    with pytest.raises(InputError, match="'100' is there more than once.*--group patient_id"):
        read(tmp_path, "a.csv", csv(frame), id="patient_id")
    with pytest.raises(InputError, match="there is no column 'patients'.*'visit'"):
        read(tmp_path, "a.csv", csv(frame), group="patients")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a;b\n" + "\n".join(f"1.{i:03d};0,{i}" for i in range(10, 40)), 1010),
        ("a,b\n" + "\n".join(f'"1,{i:03d}",0.{i}' for i in range(10, 40)), 1010),
        ("a;b\n" + "\n".join(f"{i}1.0{i},5;0,{i}" for i in range(10, 40)), None),
    ],
)
def test_thousands(tmp_path, text, expected):
    if expected is None:
        text = text.replace("1.0", "1.00")
    data = read(tmp_path, "a.csv", text.encode())
    assert data.X["b"].iloc[0] == pytest.approx(0.1)
    if expected is not None:
        assert data.X["a"].iloc[0] == expected


# -- refusals --------------------------------------------------------------------------------------

ROWS = "\n".join("1.5,2.5,3.5" for _ in range(20))
HUGE = bytearray(npy(np.zeros((20, 3))))
HUGE[HUGE.index(b"(20, 3)") : HUGE.index(b"(20, 3)") + 22] = b"(2000000000000, 3), } "[:22]

REFUSED = {
    "no file": ("a.csv", None, {}, "there is no file"),
    "empty": ("a.csv", b"", {}, "is empty"),
    "blank": ("a.csv", b"\n \n", {}, "is empty"),
    "unknown suffix": ("a.xlsx", b"1", {}, "suffix '.xlsx' is not known"),
    "few rows": ("a.csv", b"a,b\n1,2\n3,4\n", {}, "has 2 samples; at least 10"),
    "fewer names than fields": ("a.csv", b"a,b\n" + ROWS.encode(), {}, "names 2 columns.*3 fields"),
    "a short row": ("a.csv", f"a,b,c\n{ROWS}\n1,2".encode(), {}, "row 22 has 2 fields"),
    "names twice": ("a.csv", f"a,b,a\n{ROWS}".encode(), {}, "more than one column named 'a'"),
    "a thousand or a bit": (
        "a.csv",
        ("a;b\n" + "\n".join(f"1,{i};2,{i}" for i in range(100, 130))).encode(),
        {},
        "say --decimal",
    ),
    "two decimal marks": (
        "a.csv",
        ("a;b\n" + "\n".join(f"1,{i};2.{i}" for i in range(10, 40))).encode(),
        {},
        "with a decimal point .* and with a comma",
    ),
    "a number with a slip": (
        "a.csv",
        ("a,b\n" + "\n".join(f"{i},{'o.5' if i == 7 else i / 2}" for i in range(40))).encode(),
        {},
        "'b' holds numbers but for 1 field, first 'o.5' in row 8",
    ),
    "another encoding than said": ("a.csv", b"a,b\n\xff,1", {"encoding": "utf-8"}, "--encoding"),
    "zero bytes": ("a.csv", ROWS.encode("utf-16-le"), {}, "zero bytes.*utf-16-le"),
    "a wrong separator": ("a.csv", ROWS.encode(), {"separator": ";;"}, "must be one character"),
    "long format": ("a.csv", csv(LONG), {}, "--pivot patient time mV"),
    "an empty archive": ("a.npz", b"", {}, "is empty"),
    "an array called archive": ("a.npz", npy(BEATS), {}, "rename it to .npy"),
    "half an archive": ("a.npz", npz(X=BEATS)[:500], {}, "damaged"),
    "half an array": ("a.npy", npy(BEATS)[:500], {}, "damaged"),
    "an array that claims too much": ("a.npy", bytes(HUGE), {}, "damaged"),
    "objects": ("a.npz", npz(X=BEATS, y=np.array(["a", 1] * 20, dtype=object)), {}, "astype"),
    "other names": ("a.npz", npz(beats=BEATS), {}, "--x NAME"),
    "axes that are not said": ("a.npz", npz(X=BEATS[:, None]), {}, "--layout channels-first"),
    "axes that are not there": ("a.npz", npz(X=BEATS), {"layout": "images"}, "needs 4 axes"),
    "numbers beyond all": ("a.npz", npz(X=BEATS * 1e300), {}, "above 1e150"),
    "whole numbers beyond all": ("a.npz", npz(X=np.full((20, 3), 2**60)), {}, r"above 2\*\*53"),
    "options for other files": ("a.npz", npz(X=BEATS), {"separator": ";"}, "are for text files"),
    "a name in an array": ("a.npy", npy(BEATS), {"samples": "X"}, "a .npy file has one"),
    "an array that is not there": ("a.npz", npz(X=BEATS), {"samples": "Z"}, "--x Z: .* arrays 'X'"),
    "labels that are not there": ("a.npz", npz(X=BEATS), {"target": "z"}, "--target z: .* named y"),
    "tests of another shape": (
        "a.npz",
        npz(X_train=BEATS, X_test=BEATS[:, :9]),
        {},
        r"X_test has shape \(40, 9\) but X_train has \(40, 140\)",
    ),
    "a column in an archive": ("a.npz", npz(X=BEATS), {"id": "a"}, "--id and --group name columns"),
    "an array in a table": ("a.csv", ROWS.encode(), {"samples": "X"}, "a table has columns"),
    "no parquet": ("a.parquet", b"PAR0", {}, "cannot be read as .parquet"),
    "text options of parquet": ("a.parquet", b"", {"decimal": ","}, "are for text files"),
    "a mark of an encoding": (
        "a.csv",
        b"\xef\xbb\xbfa,\xff\n1,2",
        {},
        "begins as .* but is not",
    ),
    "gaps in channels": (
        "a.npz",
        npz(X=np.full((20, 3, 9), np.nan)),
        {"layout": "channels-first"},
        "missing or infinite value at",
    ),
    "too many labels": ("a.npz", npz(X=BEATS, y=np.zeros((40, 2))), {}, "labels of X have shape"),
    "no label at all": ("a.csv", csv(IRIS.assign(target=np.nan)), {"target": "target"}, "no value"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(tmp_path, case):
    name, content, options, text = REFUSED[case]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=text):
        read_data(path, **options)


@pytest.mark.parametrize("missing, name", [("pandas", "a.csv"), ("pyarrow", "a.parquet")])
def test_what_is_not_installed_is_named(monkeypatch, tmp_path, missing, name):
    path = tmp_path / name
    mixed().to_csv(path) if name == "a.csv" else mixed().to_parquet(path)
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "pyarrow":

        def read_parquet(path):
            raise ImportError("Missing optional dependency 'pyarrow'")

        monkeypatch.setattr(pd, "read_parquet", read_parquet)
    with pytest.raises(InputError, match=rf"needs {missing}, .* 'sklexplain\[report\]'"):
        read_data(path)


def test_folders_and_pipes(tmp_path):
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        read_data(tmp_path / "dir.csv")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.csv")
        with pytest.raises(InputError, match="no regular file"):
            read_data(tmp_path / "pipe.csv")


def test_only_what_is_named_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    path.write_bytes(npz(X=BEATS, unused=np.zeros(10)))
    seen = []
    whole = np.lib.format.read_array

    def counted(file, **options):
        seen.append(file.name)
        return whole(file, **options)

    monkeypatch.setattr(np.lib.format, "read_array", counted)
    assert "not used: 'unused'" in read_data(path).read
    assert seen == ["X.npy"]


def test_sizes_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr("sklexplain.reading._arrays._MAX_BYTES", 1000)
    with pytest.raises(InputError, match="GiB are read"):
        read(tmp_path, "a.npy", npy(BEATS))


@pytest.mark.parametrize("backend", ["numpy", "numpy_nullable", "pyarrow"])
def test_labels_of_pandas_own_types(tmp_path, backend):
    pytest.importorskip("pyarrow")
    rng = np.random.RandomState(0)
    frame = pd.DataFrame(
        {
            "few": rng.randint(0, 3, 60).astype(float),
            "many": rng.permutation(60).astype(float),
            "text": rng.choice(["m", "f"], 60),
            "x": rng.normal(size=60),
        }
    )
    frame.loc[4, ["few", "many"]], frame.loc[4, "text"] = np.nan, None
    expected = {name: labels_read(tmp_path, frame, name) for name in ("few", "many", "text")}
    assert expected["few"][4] == expected["many"][4] == expected["text"][4] == "missing"
    assert set(expected["few"]) == {"0", "1", "2", "missing"}
    assert set(expected["many"]) == {*(f"quarter {i} of 4" for i in range(1, 5)), "missing"}
    if backend != "numpy":
        frame = frame.convert_dtypes(dtype_backend=backend)
    for name, labels in expected.items():
        assert labels_read(tmp_path, frame, name) == labels


def labels_read(tmp_path, frame, target):
    frame.to_parquet(tmp_path / "labels.parquet")
    return read_data(tmp_path / "labels.parquet", target=target).y.tolist()


# -- names in the first row ------------------------------------------------------------------------

YEARS = pd.DataFrame(
    {
        "country": np.random.RandomState(0).choice(list("abc"), 40),
        "2010": BEATS[:, 0],
        "2011": BEATS[:, 1],
        "2020": BEATS[:, 2],
    }
)
NOT_SURE = "that is not sure"


def names_read(tmp_path, frame, header=True, **options):
    data = read(tmp_path, "a.csv", csv(frame, header=header), **options)
    return list(data.X.columns), data


def test_names_that_are_numbers(tmp_path):
    names, data = names_read(tmp_path, YEARS)
    assert names == list(YEARS.columns) and len(data.X) == 40
    assert NOT_SURE not in data.read
    names, data = names_read(tmp_path, YEARS.drop(columns="country"))
    assert names == ["2010", "2011", "2020"] and len(data.X) == 40
    assert "names in the first row (that is not sure: --no-header if" in data.read


@pytest.mark.parametrize("n_columns", [2, 3, 4])
def test_first_samples_are_no_names(tmp_path, n_columns):
    names, data = names_read(tmp_path, YEARS.iloc[:, :n_columns], header=False)
    assert names == [f"x{i}" for i in range(n_columns)] and len(data.X) == 40
    assert NOT_SURE not in data.read


def test_years_of_birth_and_death_are_samples(tmp_path):
    rng = np.random.RandomState(0)
    born = rng.randint(1850, 1900, 40)
    frame = pd.DataFrame({"born": born, "died": born + rng.randint(30, 80, 40)})
    names, data = names_read(tmp_path, frame, header=False)
    assert names == ["x0", "x1"] and len(data.X) == 40


def test_a_rare_category_leaves_a_doubt(tmp_path):
    frame = YEARS.copy()
    frame.loc[[0, 5], "country"] = ["d", "e"]
    frame.columns = ["d", 0.3, 1.2, 0.7]
    names, data = names_read(tmp_path, frame.iloc[1:])
    assert len(data.X) == 40 and "no header (that is not sure: --header if" in data.read
    names, data = names_read(tmp_path, frame.iloc[1:], has_header=True)
    assert names == ["d", "0.3", "1.2", "0.7"] and len(data.X) == 39
    assert NOT_SURE not in data.read


def test_the_only_one_of_its_kind_is_no_name(tmp_path):
    frame = YEARS.copy()
    frame.loc[0, "country"] = "d"
    names, data = names_read(tmp_path, frame, header=False)
    assert len(data.X) == 40 and "no header (that is not sure: --header if" in data.read
    whole = frame.assign(**{str(year): np.arange(40) for year in (2010, 2011, 2020)})
    whole.columns = ["country", "7", "3", "12"]
    names, data = names_read(tmp_path, whole.iloc[1:])
    assert names == list(whole.columns) and len(data.X) == 39
    assert "names in the first row (that is not sure: --no-header if" in data.read


def test_whole_numbers_above_fractions_leave_a_doubt(tmp_path):
    frame = pd.DataFrame(BEATS[:, :3], columns=["10", "50", "1000"])
    names, data = names_read(tmp_path, frame)
    assert len(data.X) == 41 and NOT_SURE in data.read
    names, data = names_read(tmp_path, frame, has_header=True)
    assert names == ["10", "50", "1000"] and len(data.X) == 40


def test_few_numbers_in_equal_steps_leave_a_doubt(tmp_path):
    _, few = names_read(tmp_path, pd.DataFrame(BEATS[:, :4]))
    _, many = names_read(tmp_path, pd.DataFrame(BEATS[:, :8]))
    assert len(few.X) == len(many.X) == 40
    assert NOT_SURE in few.read and NOT_SURE not in many.read


def test_texts_alone(tmp_path):
    rng = np.random.RandomState(0)
    frame = pd.DataFrame({"sex": rng.choice(["m", "f"], 40), "site": rng.choice(list("abc"), 40)})
    assert names_read(tmp_path, frame)[0] == ["sex", "site"]
    names, data = names_read(tmp_path, frame, header=False)
    assert names == ["x0", "x1"] and len(data.X) == 40


def test_columns_that_the_user_names_are_names(tmp_path):
    frame = pd.DataFrame(
        {"y": [f"kind {i}" for i in range(40)], "0.5": BEATS[:, 0], "0.7": BEATS[:, 1]}
    )
    assert names_read(tmp_path, frame)[1].X.shape == (41, 3)
    names, data = names_read(tmp_path, frame, target="y")
    assert names == ["0.5", "0.7"] and len(data.X) == 40
    names, data = names_read(tmp_path, frame, needed=["y", "0.5", "0.7"])
    assert names == ["y", "0.5", "0.7"] and len(data.X) == 40
    for target, options in (("0.7", {}), ("y", {"has_header": False})):
        with pytest.raises(InputError, match=f"'{target}' stands in that row: say --header if"):
            names_read(tmp_path, frame, target=target, **options)
    with pytest.raises(InputError, match="there is no column 'z' in a.csv; it has"):
        names_read(tmp_path, frame, target="z")


def test_the_option_of_arrays_is_refused(tmp_path):
    with pytest.raises(InputError, match="--header, --no-header and --pivot are for text files"):
        read(tmp_path, "a.npy", npy(BEATS), has_header=True)
