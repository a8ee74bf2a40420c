import matplotlib

matplotlib.use("Agg")

import os
import re
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skops import io as skops_io

import sklexplain
from sklexplain.__main__ import main
from sklexplain.datasets import make_motif_series, make_relevant_columns
from sklexplain.nets import Autoencoder

from .report.test_report import check_page, shorten_decoders

# A few epochs are enough here, and the autoencoder says that they are not enough in general.
pytestmark = pytest.mark.filterwarnings(
    "default:The validation loss still improved:sklearn.exceptions.ConvergenceWarning",
    # Shown on the terminal, where the tests look for it.
    "default:loading .* runs the code in it:UserWarning",
)


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    shorten_decoders(monkeypatch)


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """Run a command in an empty folder; return its status and what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*args):
        status = main(["report", *map(str, args)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


def test_what_is_not_installed_is_named_before_anything_is_done(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, out, err = run()
    assert status == 2 and not out
    assert "Writing reports needs matplotlib" in err and "'sklexplain[report]'" in err


@pytest.fixture(scope="module")
def patients():
    rng = np.random.default_rng(0)
    X, y, _ = make_relevant_columns(n_samples=80, n_relevant=3, n_irrelevant=1, random_state=0)
    frame = pd.DataFrame(X, columns=["age", "<script>alert(1)</script>", "$\\frac{", "weight"])
    frame.loc[::9, "age"] = np.nan
    frame["ward"] = rng.choice(["north", "south", None], 80)
    frame["patient"] = [f"P{i:04d}" for i in range(80)]
    frame["row"] = np.arange(80)
    frame["constant"] = 1
    frame["seen"] = pd.date_range("2024-01-01", periods=80)
    frame["outcome"] = np.where(y == 1, "good", "bad")
    return frame


def numbers(frame):
    """Return the columns of a table without missing values, and the labels."""
    return frame[["$\\frac{", "weight", "outcome"]]


def test_without_arguments_the_heartbeats_are_explained(run, tmp_path):
    threads = torch.get_num_threads()
    status, out, _ = run("--max-epochs", 2)
    assert status == 0 and torch.get_num_threads() == threads
    assert "normal heartbeats" in out and "shift ratio" in out and "Wrote report.html" in out
    page = check_page(tmp_path / "report.html")
    assert "R-on-T PVC" in page.text and "mean normal beat" in page.text


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_table_with_text_and_missing_values(run, tmp_path, patients, suffix, request):
    if suffix == "parquet":  # pictures of one of them will do
        request.getfixturevalue("undrawn")
    path = tmp_path / f"patients.{suffix}"
    patients.to_csv(path, index=False) if suffix == "csv" else patients.to_parquet(path)
    status, _, err = run("--data", path, "--target", "outcome", "--max-epochs", 2, "--quiet")
    assert (status, err) == (0, "")
    text = check_page(tmp_path / "report.html").text
    assert "Column 'patient' names the samples" in text and "patient P00" in text
    assert "Column 'row' was left out: it counts the rows" in text
    assert "Column 'constant' was left out: it has the same value everywhere" in text
    assert "Column 'seen' was left out" in text
    assert "<script>alert(1)</script>" in text and "ward" in text and "missing" in text
    assert "good" in text


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ("table", (60, 6)),
        ("series", (60, 24)),
        ("channels-first", (60, 2, 24)),
        ("channels-last", (60, 24, 2)),
        ("images", (60, 1, 5, 6)),
    ],
)
def test_npz_of_every_layout(run, tmp_path, layout, shape, undrawn):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", X=rng.normal(size=shape), y=rng.integers(2, size=60))
    status, out, _ = run("--data", "x.npz", "--layout", layout, "--max-epochs", 1, "--seed", 3)
    assert status == 0, out
    page = check_page(tmp_path / "report.html")
    series = layout in ("series", "channels-first", "channels-last")
    assert ("time steps matter overall" in page.text) == series
    assert ("24 time steps" in page.text) == series


def test_npz_with_a_test_part(run, tmp_path, undrawn):
    X, y, _ = make_relevant_columns(n_samples=60, random_state=0)
    np.savez(tmp_path / "x.npz", X_train=X[:50], y_train=y[:50], X_test=X[50:], y_test=y[50:])
    status, out, _ = run("--data", "x.npz", "--max-epochs", 1, "--out", "other.html")
    assert status == 0 and "50 samples; 10 others" in out
    check_page(tmp_path / "other.html")


def save_model(path, frame):
    X = frame.drop(columns="outcome")
    options = {"validation_split": None, "max_epochs": 2, "random_state": 0}
    net = Autoencoder(n_components=2, hidden_layer_sizes=(8,), **options)
    skops_io.dump(make_pipeline(StandardScaler(), net).fit(X), path)


# A network with so little training bends within a step from the baseline.
@pytest.mark.filterwarnings("ignore:integrated_gradients attributions miss")
def test_saved_model_is_explained_and_not_trained(run, tmp_path, patients, undrawn):
    frame = numbers(patients)
    frame.to_csv(tmp_path / "x.csv", index=False)
    save_model(tmp_path / "model.skops", frame)
    options = ["--data", "x.csv", "--model", "model.skops", "--target", "outcome"]
    status, out, err = run(*options)
    assert (status, err) == (0, "") and "Pipeline from model.skops" in out
    assert "is not known here" in check_page(tmp_path / "report.html").text


def test_saved_model_with_a_text_column(run, tmp_path, patients, undrawn):
    frame = patients[["weight", "$\\frac{", "ward"]].fillna("unknown")
    frame.to_csv(tmp_path / "x.csv", index=False)
    columns = [("n", StandardScaler(), ["weight", "$\\frac{"]), ("c", OneHotEncoder(), ["ward"])]
    model = make_pipeline(ColumnTransformer(columns, sparse_threshold=0), PCA(n_components=2))
    skops_io.dump(model.fit(frame), tmp_path / "model.skops")
    status, _, err = run("--data", "x.csv", "--model", "model.skops")
    assert status == 0, err
    check_page(tmp_path / "report.html")


# Concepts of a network with so little training bend within a step from the baseline.
@pytest.mark.filterwarnings("ignore:integrated_gradients attributions miss")
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_saved_classifiers_are_looked_into(run, tmp_path, patients, solver, undrawn):
    frame = numbers(patients)
    frame.to_csv(tmp_path / "x.csv", index=False)
    options = {"max_iter": 2, "random_state": 0, "solver": solver}
    model = make_pipeline(StandardScaler(), MLPClassifier((4,), **options))
    with pytest.warns(ConvergenceWarning):
        model.fit(frame.drop(columns="outcome"), frame["outcome"])
    skops_io.dump(model, tmp_path / "model.skops")
    status, out, err = run("--data", "x.csv", "--model", "model.skops", "--target", "outcome")
    assert status == 0, err
    assert "tell the model's output with R²" in out
    assert "samples can be rebuilt with R²" in out
    text = check_page(tmp_path / "report.html").text
    assert "What a layer keeps of its input" in text


def test_pickles_only_where_allowed(run, tmp_path, patients, undrawn):
    frame = numbers(patients)
    frame.to_csv(tmp_path / "x.csv", index=False)
    joblib.dump(PCA(n_components=1).fit(frame.drop(columns="outcome")), tmp_path / "pca.joblib")
    options = ["--data", "x.csv", "--model", "pca.joblib", "--target", "outcome"]
    status, _, err = run(*options)
    assert status == 2 and "--allow-pickle" in err
    assert not (tmp_path / "report.html").exists()
    status, _, err = run(*options, "--allow-pickle")
    assert status == 0 and "warning: loading pca.joblib runs the code in it" in err
    check_page(tmp_path / "report.html")


class Trap:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("trapped",)


def test_a_refused_pickle_is_not_even_opened(run, tmp_path, patients):
    numbers(patients).to_csv(tmp_path / "x.csv", index=False)
    for name in ("x.pkl", "x.pickle", "x.joblib"):
        joblib.dump(Trap(), tmp_path / name)
        assert run("--data", "x.csv", "--model", name)[0] == 2
    joblib.dump(Trap(), tmp_path / "x.skops")  # a pickle in disguise
    assert run("--data", "x.csv", "--model", "x.skops")[0] == 2
    assert not (tmp_path / "trapped").exists()


class OwnPCA(PCA):
    """An estimator of the user's."""


def test_unknown_types_in_skops_files_must_be_named(run, tmp_path, patients, undrawn):
    frame = numbers(patients)
    frame.to_csv(tmp_path / "x.csv", index=False)
    skops_io.dump(OwnPCA(n_components=1).fit(frame.drop(columns="outcome")), tmp_path / "m.skops")
    options = ["--data", "x.csv", "--model", "m.skops", "--target", "outcome"]
    status, _, err = run(*options)
    name = f"{__name__}.OwnPCA"
    assert status == 2 and f"--trust {name}" in err
    # A subclass may compute anything, so it has no gradient.
    status, _, err = run(*options, "--trust", name, "--method", "feature_ablation")
    assert status == 0, err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data", "none.csv"], "there is no file none.csv"),
        (["--data", "x.xlsx"], "suffix '.xlsx' is not known"),
        (["--data", "empty.csv"], "empty.csv is empty"),
        (["--data", "few.csv"], "at least 10"),
        (["--data", "text.csv"], "no column to learn from"),
        (["--data", "infinite.csv"], "column 'a' has infinite values"),
        (["--data", "good.csv", "--target", "outcom"], "no column 'outcom'"),
        (["--data", "good.csv", "--layout", "images"], "needs a .npz file"),
        (["--data", "good.csv", "--out", "nowhere/r.html"], "there is no folder nowhere"),
        (["--data", "good.csv", "--out", "."], "is a folder"),
        (["--data", "good.csv", "--model", "model.pt"], "skops.io.dump"),
        (["--data", "good.csv", "--model", "none.skops"], "no file none.skops"),
        (["--data", "good.csv", "--model", "broken.skops"], "cannot be read as .skops"),
        (["--data", "good.csv", "--model", "dict.skops"], "holds no model but a dict"),
        (["--data", "good.csv", "--model", "unfitted.skops"], "is not fitted"),
        (["--data", "good.csv", "--model", "wide.skops"], r"shape (5,)"),
        (["--data", "good.csv", "--model", "named.skops"], "do not have: ['z']"),
        (["--data", "good.csv", "--model", "wide.skops", "--max-epochs", "1"], "not trained"),
        (["--data", "wards.csv", "--model", "wide.skops"], "['ward'] hold no numbers"),
        (["--model", "wide.skops"], "--model needs --data"),
        (["--target", "y"], "give it too"),
        (["--allow-pickle"], "give it too"),
        (["--header"], "--header says something about --data; give it too"),
        (["--data", "good.csv", "--header", "--no-header"], "exclude each other; give one"),
        (["--data", "series.npz", "--header"], "--header, --no-header and --pivot are for text"),
        (["--data", "other.npz"], "name the samples X"),
        (["--data", "objects.npz"], "cannot be read as .npz"),
        (["--data", "series.npz"], "--layout channels-first"),
        (["--data", "series.npz", "--layout", "table"], "needs 2 axes"),
        (["--data", "missing.npz", "--layout", "channels-first"], "at (1, 0, 2)"),
        (["--data", "series.npz", "--target", "y"], "labels are named y"),
        (["--data", "labels.npz"], "labels of X have shape (3,)"),
    ],
)
def test_mistakes_are_explained(run, tmp_path, args, message):
    make_bad_files(tmp_path)
    status, out, err = run(*args)
    assert status == 2
    assert err.startswith("sklexplain: error: ") and message in err
    assert "Traceback" not in err and err.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


def make_bad_files(folder):
    rng = np.random.default_rng(0)
    good = pd.DataFrame(rng.normal(size=(20, 2)), columns=["a", "b"])
    good.to_csv(folder / "good.csv", index=False)
    good[:3].to_csv(folder / "few.csv", index=False)
    good.assign(a=np.inf, b=0).assign(a=[np.inf, *range(19)]).to_csv(folder / "infinite.csv")
    good.assign(ward="north").to_csv(folder / "wards.csv", index=False)
    pd.DataFrame({"name": [f"n{i}" for i in range(20)]}).to_csv(folder / "text.csv", index=False)
    for name in ("x.xlsx", "empty.csv", "model.pt", "broken.skops"):
        (folder / name).touch()
    skops_io.dump({"a": 1}, folder / "dict.skops")
    skops_io.dump(PCA(), folder / "unfitted.skops")
    skops_io.dump(PCA(2).fit(rng.normal(size=(20, 5))), folder / "wide.skops")
    skops_io.dump(PCA(2).fit(good.rename(columns={"b": "z"})), folder / "named.skops")
    series = make_motif_series(n_samples=20, random_state=0)[0]
    np.savez(folder / "series.npz", X=series)
    np.savez(folder / "other.npz", series=series)
    np.savez(folder / "objects.npz", X=np.array([[None], [1]] * 10, dtype=object))
    np.savez(folder / "labels.npz", X=good.to_numpy(), y=np.zeros(3))
    series[1, 0, 2] = np.nan
    np.savez(folder / "missing.npz", X=series)


def test_arguments_that_are_none_end_with_status_2(capsys):
    for args in (["report", "--seed", "x"], ["report", "--method", "guess"], ["dance"]):
        with pytest.raises(SystemExit) as error:
            main(args)
        assert error.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_no_command_asks_for_help(capsys):
    assert main([]) == 0
    assert "write an HTML report" in capsys.readouterr().out


def test_module_runs_as_a_command():
    run = subprocess.run(
        [sys.executable, "-m", "sklexplain", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == f"sklexplain {sklexplain.__version__}\n"


# -- names of samples, and numbers -----------------------------------------------------------------


def check_names(tmp_path, ids):
    """Samples in page and numbers are those of the file that have these names."""
    numbers = pd.read_csv(tmp_path / "numbers.csv", dtype={0: str})
    assert set(numbers.iloc[:, 0]) < set(ids)
    assert not set(numbers.iloc[:, 0]) & set(numbers["similar 1"].astype(str))
    assert set(numbers["similar 1"].astype(str)) < set(ids)
    text = check_page(tmp_path / "report.html").text
    title = numbers.columns[0]
    shown = [name for name in numbers.iloc[:, 0] if re.search(rf"^{title} {name}\b", text, re.M)]
    assert len(shown) == 6
    return numbers


def test_names_of_samples_reach_report_and_numbers(run, tmp_path, patients, undrawn):
    frame = patients[["patient", "weight", "$\\frac{", "outcome"]]
    frame.to_csv(tmp_path / "x.csv", index=False)
    options = ["--data", "x.csv", "--target", "outcome", "--max-epochs", 1, "--quiet"]
    assert run(*options, "--numbers", "numbers.csv")[0] == 0
    numbers = check_names(tmp_path, patients["patient"])
    known = patients.set_index("patient")["outcome"]
    np.testing.assert_array_equal(numbers["label"], known[numbers["patient"]])
    np.testing.assert_array_equal(numbers["similar 1: label"], known[numbers["similar 1"]])
    frame.drop(columns="patient").to_csv(tmp_path / "x.csv", index=False)
    assert run(*options, "--numbers", "numbers.csv", "--force")[0] == 0
    numbers = check_names(tmp_path, [str(i) for i in range(1, 81)])
    labels = patients["outcome"].to_numpy()[numbers["row"].astype(int) - 1]
    np.testing.assert_array_equal(numbers["label"], labels)


def test_a_column_that_the_model_takes_is_not_left_out(run, tmp_path, patients, undrawn):
    frame = patients[["weight", "$\\frac{"]].assign(code=np.arange(80) * 3 + 5)
    frame.to_csv(tmp_path / "x.csv", index=False)
    skops_io.dump(make_pipeline(StandardScaler(), PCA(2)).fit(frame), tmp_path / "model.skops")
    status, out, err = run("--data", "x.csv", "--model", "model.skops", "--numbers", "n.csv")
    assert (status, err) == (0, "")
    numbers = pd.read_csv(tmp_path / "n.csv")
    assert "attribution: code" in numbers.columns and numbers.columns[0] == "row"


def test_names_groups_and_labels_may_be_columns_that_the_model_takes(
    run, tmp_path, patients, undrawn
):
    frame = patients[["weight", "$\\frac{"]].assign(code=np.arange(80) * 3, ward=np.arange(80) // 8)
    frame["mark"] = np.arange(80) % 2
    frame.to_csv(tmp_path / "x.csv", index=False)
    skops_io.dump(make_pipeline(StandardScaler(), PCA(2)).fit(frame), tmp_path / "model.skops")
    options = ["--data", "x.csv", "--model", "model.skops", "--id", "code", "--group", "ward"]
    status, out, err = run(*options, "--target", "mark", "--numbers", "n.csv")
    assert (status, err) == (0, "")
    assert "holds the labels; the model takes it, too" in out
    numbers = pd.read_csv(tmp_path / "n.csv")
    assert numbers.columns[0] == "code"
    assert {f"attribution: {c}" for c in frame.columns} <= set(numbers.columns)


def test_no_patient_is_on_both_sides(run, tmp_path, patients, undrawn):
    frame = patients[["weight", "$\\frac{"]].assign(who=np.arange(80) // 8)
    frame.to_csv(tmp_path / "x.csv", index=False)
    options = ["--data", "x.csv", "--group", "who", "--max-epochs", 1, "--quiet"]
    assert run(*options, "--numbers", "numbers.parquet")[0] == 0
    numbers = pd.read_parquet(tmp_path / "numbers.parquet")
    explained = {(int(row) - 1) // 8 for row in numbers["row"]}
    similar = {(int(row) - 1) // 8 for row in numbers["similar 1"]}
    assert len(explained) == 2 and not explained & similar


def test_series_in_long_format(run, tmp_path, undrawn):
    X, y, _ = make_motif_series(n_samples=40, random_state=0)
    X = X.reshape(40, -1)
    n = X.shape[1]
    pd.DataFrame(
        {
            "beat": np.repeat([f"b{i}" for i in range(40)], n),
            "ms": np.tile(np.arange(n) * 4, 40),
            "mV": X.ravel(),
            "kind": np.repeat(y, n),
        }
    ).to_csv(tmp_path / "x.csv", index=False, sep=";", decimal=",")
    assert run("--data", "x.csv")[2].count("--pivot beat ms mV") == 1
    options = ["--pivot", "beat", "ms", "mV", "--target", "kind", "--max-epochs", 1]
    status, out, err = run("--data", "x.csv", *options, "--numbers", "numbers.csv")
    assert status == 0, err
    assert "separator ';'; decimal ','" in out
    numbers = check_names(tmp_path, {f"b{i}" for i in range(40)})
    assert f"attribution: {4 * (n - 1)}" in numbers.columns


@pytest.mark.filterwarnings("ignore:integrated_gradients attributions miss")
def test_names_that_look_like_values(run, tmp_path, undrawn):
    X = np.random.default_rng(0).normal(size=(40, 3))
    pd.DataFrame(X, columns=["10", "50", "1000"]).to_csv(tmp_path / "x.csv", index=False)
    options = ["--data", "x.csv", "--max-epochs", "1"]
    status, out, err = run(*options)
    assert status == 0, err
    assert "read 41 rows" in out and "--header if the first row holds names" in out
    status, out, err = run(*options, "--header", "--force", "--numbers", "n.csv")
    assert status == 0, err
    assert "read 40 rows of 3 columns" in out and "names in the first row" in out
    assert "attribution: 1000" in pd.read_csv(tmp_path / "n.csv").columns


# -- files that are written ------------------------------------------------------------------------


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
@pytest.mark.parametrize("option", ["--out", "--numbers"])
def test_inputs_are_never_written(run, tmp_path, link, option):
    make_bad_files(tmp_path)
    before, name = (tmp_path / "good.csv").read_bytes(), "good.csv"
    if link is not None:
        name = "link.csv"
        link(tmp_path / "good.csv", tmp_path / name)
    status, out, err = run("--data", "good.csv", option, name, "--force")
    assert status == 2 and "is the file of --data; it would be lost" in err and not out
    assert (tmp_path / "good.csv").read_bytes() == before


def test_what_is_no_report_is_replaced_by_force_only(run, tmp_path, undrawn):
    make_bad_files(tmp_path)
    out = tmp_path / "precious.html"
    out.write_text("precious")
    command = ["--data", "good.csv", "--max-epochs", 1, "--quiet", "--out", "precious.html"]
    status, _, err = run(*command)
    assert status == 2 and "--force" in err and out.read_text() == "precious"
    assert run(*command, "--force")[0] == 0
    check_page(out)
    assert run(*command)[0] == 0  # a report of ours
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_places_that_cannot_be_written_are_told_first(run, tmp_path):
    make_bad_files(tmp_path)
    (tmp_path / "closed").mkdir(mode=0o500)
    status, out, err = run("--data", "good.csv", "--out", "closed/report.html")
    assert status == 2 and "cannot be written" in err and not out
