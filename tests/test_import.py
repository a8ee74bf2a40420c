"""What importing the library imports; nothing is timed here."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

import sklexplain

HEAVY = {
    *("captum", "dask", "h5py", "jinja2", "matplotlib", "numba", "plotly", "polars", "pytest"),
    *("seaborn", "skops", "torchvision", "IPython", "zarr"),
}
# Of ours: what only some users need.
ROOMS = {"sklexplain.plotting", "sklexplain.report", "sklexplain.testing", "sklexplain.reading"}


def imported(code):
    """Names of all modules that there are after a line of code in a new process."""
    code = f"import sys\n{code}\nprint(*sys.modules)"
    run = [sys.executable, "-W", "error::DeprecationWarning:sklexplain", "-c", code]
    return set(subprocess.run(run, check=True, capture_output=True, text=True).stdout.split())


def test_the_library_itself_imports_nothing_heavy():
    alone, ours = imported(""), imported("import sklexplain")
    new = {name.split(".")[0] for name in ours - alone} - set(sys.stdlib_module_names)
    assert new == {"sklexplain"}
    assert {name for name in ours if name.startswith("sklexplain")} == {"sklexplain"}


def test_explainers_import_nothing_that_only_some_need():
    ours = imported("from sklexplain import *")
    assert not HEAVY & {name.split(".")[0] for name in ours}
    assert not ROOMS & ours
    assert {"sklexplain.attribution", "sklexplain.surrogates"} <= ours


@pytest.mark.parametrize("name", [*sklexplain.__all__, *sklexplain._MODULES])
def test_everything_is_there_when_it_is_asked_for(name):
    found = getattr(sklexplain, name)
    assert found is getattr(sklexplain, name)
    assert name in dir(sklexplain)
    if isinstance(found, type):
        assert found.__name__ == name and found.__module__.startswith("sklexplain.")


def test_threads_import_one_after_the_other(monkeypatch):
    # Side by side, they meet modules that are half done.
    at_work, most = [], []

    def import_module(name, package):
        at_work.append(name)
        most.append(len(at_work))
        time.sleep(0.01)
        at_work.remove(name)
        return SimpleNamespace()

    monkeypatch.setattr("sklexplain.importlib", SimpleNamespace(import_module=import_module))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(sklexplain.__getattr__, ["plotting", "metrics", "report", "nets"]))
    assert most == [1, 1, 1, 1]


def test_what_is_not_there():
    with pytest.raises(AttributeError, match="'sklexplain' has no attribute 'LabelFreeAttributer'"):
        sklexplain.LabelFreeAttributer  # noqa: B018
