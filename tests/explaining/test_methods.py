"""Records of methods: what docs say of them, and that nothing else knows methods by name."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import sklexplain
from sklexplain import LabelFreeAttributor
from sklexplain.explaining import GRADIENT_METHODS, METHODS, PERTURBATION_METHODS, checked_params

ROOT = Path(sklexplain.__file__).parent


def test_records_are_by_name_and_cannot_change():
    assert [record.name for record in METHODS.values()] == list(METHODS)
    assert {**GRADIENT_METHODS, **PERTURBATION_METHODS} == dict(METHODS)
    with pytest.raises(AttributeError):
        METHODS["saliency"].is_complete = True
    with pytest.raises(TypeError):
        METHODS["lime"].params["alpha"] = 2
    checked_params("lime", {"alpha": 2})["alpha"] = 3
    assert METHODS["lime"].params["alpha"] == 1.0


def sums(record):
    if not record.is_complete:
        return "no"
    return "in expectation" if record.in_expectation else "yes"


def test_the_readme_agrees():
    readme = ROOT.parent / "README.md"
    if not readme.exists():
        pytest.skip("installed without its README")
    rows = re.findall(r"^\| (`.*`) \| (.*) \| (.*) \|$", readme.read_text(), re.MULTILINE)
    told = {
        name: (needs, complete)
        for names, needs, complete in rows
        for name in re.findall("`(.*?)`", names)
    }
    needs = {True: "gradients", False: "outputs only"}
    assert told == {r.name: (needs[r.needs_gradients], sums(r)) for r in METHODS.values()}


def test_the_docstring_agrees():
    text = inspect.getdoc(LabelFreeAttributor)
    methods, params = re.search(
        r"method : str.*?\n(.*?)method_params : .*?\n(.*?)baseline : ", text, re.DOTALL
    ).groups()
    by_gradient, by_output = methods.split("Needing only the estimator's output:")
    for section, records in ((by_gradient, GRADIENT_METHODS), (by_output, PERTURBATION_METHODS)):
        assert re.findall(r"``\"(.*?)\"``", section) == list(records)
    known = {name for record in METHODS.values() for name in record.params}
    assert set(re.findall("``(.*?)``", params)) == known


def test_every_complete_method_knows_what_to_do_about_a_shortfall():
    for record in METHODS.values():
        assert bool(record.shortfall) == record.is_complete
        assert record.refined_by is None or record.refined_by in record.params


def test_nothing_else_compares_names_of_methods():
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Compare):
                continue
            constants = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
            assert not constants & set(METHODS), f"{path}:{node.lineno}"
