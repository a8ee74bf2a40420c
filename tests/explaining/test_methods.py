"""Records of methods: what docs say of them, and that nothing else knows methods by name."""

import ast
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import sklexplain
from sklexplain import LabelFreeAttributor
from sklexplain.explaining import (
    GRADIENT_METHODS,
    METHODS,
    PERTURBATION_METHODS,
    AttributionEngine,
    Features,
    checked_params,
)

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
        r"\nmethod : str.*?\n(.*?)method_params : .*?\n(.*?)baseline : ", text, re.DOTALL
    ).groups()
    by_gradient, by_output = methods.split("Needing only the estimator's output:")
    for section, records in ((by_gradient, GRADIENT_METHODS), (by_output, PERTURBATION_METHODS)):
        assert re.findall(r"``\"(.*?)\"``", section) == list(records)
    known = {name for record in METHODS.values() for name in record.params}
    assert set(re.findall("``(.*?)``", params)) == known


def test_the_docstring_names_methods_without_a_baseline():
    text = " ".join(inspect.getdoc(LabelFreeAttributor).split())
    without = [record.name for record in METHODS.values() if not record.uses_baseline]
    assert f"Not used by {' and '.join(without)}." in text


@pytest.mark.parametrize("method", METHODS)
def test_records_say_what_methods_depend_on(method):
    """On the seed, and on the baseline."""
    X = np.random.RandomState(0).normal(size=(20, 5))
    changes = {"n_samples": 20} if "n_samples" in METHODS[method].params else {}

    def maps(seed=0, baseline=0.0):
        rows = np.full((1, 5), baseline)
        params = checked_params(method, changes)
        engine = AttributionEngine(method, params, X, Features((5,)), baseline=rows, seed=seed)
        attribute = engine._attribute(params)
        x, r = torch.as_tensor(X), torch.as_tensor(rows)[None]
        return attribute(
            lambda x: torch.exp(x.sum(1, keepdim=True)), x, r, torch.ones(20, 1, 1), 99
        )

    assert torch.allclose(maps(), maps(seed=1)) != METHODS[method].samples
    assert torch.allclose(maps(), maps(baseline=1.0)) != METHODS[method].uses_baseline


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
