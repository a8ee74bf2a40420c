"""What is said about the package, and what it is packed with; nothing is built here."""

import ast
import configparser
import re
import shlex
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

import sklexplain
from sklexplain.utils import EXTRAS_OF, missing_extra

ROOT = Path(sklexplain.__file__).parents[1]
PACKAGE = ROOT / "sklexplain"

if not (ROOT / "setup.cfg").exists():
    pytest.skip("installed without its project files", allow_module_level=True)

CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg", encoding="utf-8")
EXTRAS = {name: text.split("\n")[1:] for name, text in CONFIG["options.extras_require"].items()}
REQUIRED = CONFIG["options"]["install_requires"].split("\n")[1:]


def bounds(lines):
    """From ``name[extras] >= version`` to names and versions."""
    parts = (re.fullmatch(r"([\w-]+)(?:\[.*\])? >= ([\d.]+)", line).groups() for line in lines)
    return dict(parts)


def pins(path):
    lines = (ROOT / path).read_text(encoding="utf-8").split("\n")
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def release(version, n=3):
    return [*map(int, version.split(".")), 0, 0][:n]


# -- metadata --------------------------------------------------------------------------------------


def test_what_an_index_shows():
    metadata = CONFIG["metadata"]
    assert {"Documentation", "Source", "Issues", "Changelog"} == {
        line.split(" = ")[0] for line in metadata["project_urls"].split("\n")[1:]
    }
    assert metadata["author_email"] and metadata["url"] and metadata["keywords"]
    assert (ROOT / metadata["license_files"]).is_file()
    assert (PACKAGE / "datasets" / "data" / "LICENSE.md").is_file()  # that of the data


def test_one_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    recipe = (ROOT / "conda" / "meta.yaml").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", citation, re.M)[1] == sklexplain.__version__
    assert re.search(r'version = "(.*)"', recipe)[1] == sklexplain.__version__
    latest = re.search(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert latest is None or latest[1] == sklexplain.__version__


def test_the_recipe_asks_for_what_the_package_asks_for():
    recipe = (ROOT / "conda" / "meta.yaml").read_text(encoding="utf-8")
    run = recipe.partition("  run:\n")[2].partition("\n\n")[0]
    told = dict(re.findall(r"- ([\w-]+) >=(.*)", run))
    assert told.pop("python") == CONFIG["options"]["python_requires"].removeprefix(">=")
    told["torch"] = told.pop("pytorch")
    assert told == bounds(REQUIRED)


def test_yaml_can_be_read():
    yaml = pytest.importorskip("yaml")
    jinja2 = pytest.importorskip("jinja2")
    paths = [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"]
    found = {p.name: yaml.safe_load(p.read_text(encoding="utf-8")) for p in paths}
    assert {"tests.yml", "release.yml", "bug.yml", "idea.yml"} <= found.keys()
    assert "sklexplain" in str(yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8")))
    text = jinja2.Template((ROOT / "conda" / "meta.yaml").read_text("utf-8")).render(
        PYTHON="python"
    )
    recipe = yaml.safe_load(text)
    assert recipe["package"] == {"name": "sklexplain", "version": sklexplain.__version__}
    entry_points = CONFIG["options.entry_points"]["console_scripts"].split("\n")[1:]
    assert recipe["build"]["entry_points"] == entry_points


# -- versions --------------------------------------------------------------------------------------


def test_the_lowest_versions_are_the_lower_bounds():
    lowest = pins("constraints-min.txt")
    tested = bounds(REQUIRED + EXTRAS["dev"] + EXTRAS["plot"] + EXTRAS["report"])
    assert lowest.keys() == tested.keys()
    for name, version in tested.items():
        n = len(version.split("."))
        assert release(lowest[name], n) == release(version, n), name


def test_all_that_the_tests_import_is_pinned():
    newest = pins("constraints.txt")
    tested = bounds(REQUIRED + EXTRAS["dev"] + EXTRAS["plot"] + EXTRAS["report"])
    assert tested.keys() <= newest.keys()
    for name, version in tested.items():
        assert release(newest[name]) >= release(version), name


def test_one_version_of_ruff():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"ruff==([\d.]+)", hooks)) == {pins("constraints.txt")["ruff"]}


# -- extras ----------------------------------------------------------------------------------------


def test_extras_hold_what_is_said_of_them():
    for package, extra in EXTRAS_OF.items():
        named = " ".join(EXTRAS[extra])
        assert re.search(rf"\b{package}\b", named), f"{package} is not in {extra}"
    assert "dask[array,dataframe,distributed]" in EXTRAS["dask"][0]
    report = bounds(EXTRAS["report"])
    assert {"jinja2", "matplotlib", "pandas", "pyarrow", "skops"} == report.keys()
    assert {"hypothesis", "pytest"} <= bounds(EXTRAS["dev"]).keys()


def test_one_bound_for_each_package():
    known = bounds(REQUIRED)
    for lines in EXTRAS.values():
        for name, version in bounds(lines).items():
            assert known.setdefault(name, version) == version, name


def test_one_wording_for_what_is_missing():
    text = missing_extra("pandas", "Reading tables")
    assert text.endswith("needs pandas, which is not installed: pip install 'sklexplain[report]'")
    for path in PACKAGE.rglob("*.py"):
        if path.name != "_extras.py":
            source = path.read_text(encoding="utf-8")
            assert "pip install" not in source, path.name


def test_nothing_else_is_imported():
    """Modules of others that the package imports are required, or in an extra of users'."""
    names = {"scikit-learn": "sklearn"}
    users = (EXTRAS[name] for name in ("checkpoints", "plot", "report", "dask"))
    told = {names.get(name, name) for lines in (REQUIRED, *users) for name in bounds(lines)}
    told |= {"distributed"}
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module]
            for module in modules:
                found.setdefault(module.split(".")[0], path.name)

    others = found.keys() - set(sys.stdlib_module_names) - told - {"sklexplain"}
    # polars: where a user's own table is one. captum, pytest: of checks that users may run.
    assert others <= {"polars", "pytest"}, {name: found[name] for name in others}


# -- the source distribution -----------------------------------------------------------------------


def packed(name):
    """Whether MANIFEST.in takes a file of the repository, by the rules of setuptools."""
    taken = False
    for line in (ROOT / "MANIFEST.in").read_text(encoding="utf-8").split("\n"):
        command, *patterns = shlex.split(line, comments=True) or [""]
        if command == "include":
            taken |= any(fnmatch(name, p) for p in patterns) and "/" not in name
        elif command == "graft":
            taken |= any(name.startswith(f"{p}/") for p in patterns)
        elif command == "prune":
            taken &= not any(name.startswith(f"{p}/") for p in patterns)
        elif command == "global-exclude":
            taken &= not any(fnmatch(Path(name).name, p) for p in patterns)
    return taken


def test_the_source_distribution_has_all_files():

    git = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if git.returncode or not git.stdout:
        pytest.skip("not in a git repository")
    # setuptools adds these by itself.
    own = {"setup.cfg", "pyproject.toml", "MANIFEST.in", ".gitignore"}
    missing = [n for n in git.stdout.split("\n") if n and n not in own and not packed(n)]
    assert not missing


def test_the_source_distribution_has_no_products():
    made = ["docs/_build/a.html", "docs/auto_gallery/a.rst", "docs/generated/a.rst"]
    made += [
        "tests/pages/node_modules/a.js",
        "tests/__pycache__/a.pyc",
        "report.html",
        "dist/a.whl",
    ]
    assert not [name for name in made if packed(name)]
