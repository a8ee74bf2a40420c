"""Which warnings fail a test: our own, and those our code causes."""

import importlib.util
import re
import sys
import warnings
from pathlib import Path

import pytest

from sklexplain.exceptions import ConvergenceWarning, SklexplainWarning

from .conftest import OTHERS, import_quietly

ROOT = Path(__file__).resolve().parents[1]
OURS = {"sklexplain", "tests", "benchmarks"}
IMPORT = re.compile(r"^ *(?:import (\w+)|from (\w+)[\w.]* import )", re.MULTILINE)


def warn_in(module, category):
    warnings.warn_explicit("artificial", category, f"{module}.py", 1, module=module)


@pytest.mark.parametrize("category", [DeprecationWarning, FutureWarning, RuntimeWarning])
@pytest.mark.parametrize("module", ["scipy.linalg", "sklearn.base", "sklexplain_of_others"])
def test_warnings_of_others_do_not_fail(module, category):
    with warnings.catch_warnings(record=True) as caught:  # the filters stay as they are
        warn_in(module, category)
    assert [w.category for w in caught] == [category]


@pytest.mark.parametrize("category", [DeprecationWarning, FutureWarning, RuntimeWarning])
@pytest.mark.parametrize("module", ["sklexplain", "sklexplain.layers._maps", "tests.cases"])
def test_warnings_at_our_lines_fail(module, category):
    with pytest.raises(category, match="artificial"):
        warn_in(module, category)


@pytest.mark.parametrize("category", [SklexplainWarning, ConvergenceWarning])
def test_our_own_warnings_fail_wherever_they_point(category):
    with pytest.raises(category, match="artificial"):
        warn_in("file_of_a_user", category)


# -- what others say while they are imported ---------------------------------------------------

LOUD = "import warnings\nwarnings.warn('old age', {category}, stacklevel=2)\n"


@pytest.mark.parametrize("category", ["DeprecationWarning", "FutureWarning", "UserWarning"])
def test_packages_that_warn_while_they_are_imported_do_not_fail(category, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("first", "second"):
        (tmp_path / f"loud_{category}_{name}.py").write_text(LOUD.format(category=category))
    import_quietly([f"loud_{category}_first", "no_such_package"])
    at_our_line = {"__name__": "tests.somewhere"}
    exec(f"import loud_{category}_first", at_our_line)
    with pytest.raises(Warning, match="old age"):  # which is why
        exec(f"import loud_{category}_second", at_our_line)


def test_all_packages_that_are_imported_anywhere_are_imported_quietly_before():
    missing = {}
    for folder in ("sklexplain", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            if "neighbours" in path.parts:  # whose warnings are ignored altogether
                continue
            for name in _imported(path):
                if name not in {*sys.stdlib_module_names, *OURS, "pytest"}:
                    missing[name] = str(path)
    for other in (*OTHERS, "numpy", "sklearn", "torch"):
        missing.pop(other.split(".")[0], None)
    assert not missing


def _imported(path):
    """Names of packages in lines that look like imports; to parse all files takes seconds."""
    names = {found[1] or found[2] for found in IMPORT.finditer(path.read_text())}
    return {name for name in names if importlib.util.find_spec(name)}
