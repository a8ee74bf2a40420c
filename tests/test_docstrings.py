"""Docstrings of everything public: other names to look at, an example, what an estimator costs."""

import importlib
import inspect
import re

import numpy as np
import pytest
import torch
from torch import nn

import sklexplain
from sklexplain import (
    AnomalyAttributor,
    DKNNImportance,
    EmbeddingAttributor,
    LabelFreeAttributor,
    NoiseScorer,
    RelevanceMasker,
    SimplExImportance,
    TracInImportance,
)

# Modules of which everything public is documented for users, and single names of others.
MODULES = (
    "datasets",
    "exceptions",
    "extending",
    "metrics",
    "nets",
    "plotting",
    "scores",
    "testing",
)
NAMES = (
    *(name for name in sklexplain.__all__ if not name.startswith("__")),
    "attribution.time_segments",
    "base.BaseExplainer",
    "examples.BaseExampleImportance",
    "report.ChannelScaler",
    "report.RepresentationReport",
    "training.randomized_layers",
    "utils.as_numpy3d",
)


def found(path):
    """Return what a dotted path names: a module, or a name in one."""
    try:
        return importlib.import_module(path)
    except ImportError:
        module, _, name = path.rpartition(".")
        return getattr(found(module), name) if module else None


def is_documented(thing):
    return inspect.isclass(thing) or inspect.isfunction(thing)


def public():
    paths = [f"sklexplain.{name}" for name in NAMES]
    for module in MODULES:
        names = found(f"sklexplain.{module}").__all__
        paths += [f"sklexplain.{module}.{name}" for name in names]
    return [path for path in paths if is_documented(found(path))]


PUBLIC = public()


def sections(thing):
    """Return the sections of a docstring by their titles."""
    parts = re.split(r"^(\w[\w ]+)\n-+$", inspect.getdoc(thing), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def names_in(see_also):
    """Return the names of "See Also": those before a colon, at the start of a line."""
    lines = re.findall(r"^(\S[^:\n]*?) ?:(?: |$)", see_also, flags=re.MULTILINE)
    return [name.strip() for line in lines for name in line.split(",")]


@pytest.mark.parametrize("path", PUBLIC)
def test_there_are_other_names_to_look_at_and_an_example(path):
    parts = sections(found(path))
    assert ">>> " in parts.get("Examples", "")
    names = names_in(parts.get("See Also", ""))
    assert names
    module = path.rpartition(".")[0]
    for name in names:
        if not name.startswith("sklexplain"):
            name = f"{module}.{name}"
        assert found(name) is not None, name
        assert name != path, "a docstring that names itself"


ESTIMATORS = [
    path
    for path in PUBLIC
    if hasattr(found(path), "fit") and not path.endswith(("Scaler", "BaseExampleImportance"))
]


@pytest.mark.parametrize("path", ESTIMATORS)
def test_estimators_say_what_they_cost(path):
    assert re.search(r"^Cost: ", sections(found(path))["Notes"], flags=re.MULTILINE)


ROWS = []  # of every call of a `Counting` network


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(3, 2)
        self.decoder = nn.Linear(2, 3)

    def forward(self, x):
        ROWS.append(len(x))
        return self.decoder(torch.tanh(self.encoder(x)))


def label_free(method, **params):
    return LabelFreeAttributor(Counting(), method=method, method_params=params)


@pytest.mark.parametrize(
    ("explainer", "rows"),
    [
        (label_free("saliency"), 1 + 1),
        (label_free("integrated_gradients", n_steps=4), 1 + 4),
        (label_free("gradient_shap", n_samples=6), 1 + 6),
        (label_free("feature_ablation"), 1 + 3 + 1),
        (label_free("shapley_sampling", n_samples=2), 1 + 2 * (3 + 1)),
        (RelevanceMasker(Counting(), n_masks=10), 1 + 10),
        (AnomalyAttributor(Counting(), method_params={"n_steps": 4}), 4 + 3),
        (EmbeddingAttributor(Counting(), layer="encoder"), 1),
        (NoiseScorer(Counting()), 1),
        (DKNNImportance(Counting()), 1),
        (SimplExImportance(Counting()), 1),
        (TracInImportance(Counting(), parameters="all"), 1),
    ],
    ids=lambda value: getattr(value, "method", None) or type(value).__name__,
)
def test_transform_runs_as_many_rows_a_sample_as_docstrings_say(explainer, rows):
    X = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    explainer.fit(X)
    taken = []
    for n_samples in (10, 20):
        ROWS.clear()
        explainer.transform(X[:n_samples])
        taken.append(sum(ROWS))
    assert taken[1] - taken[0] == 10 * rows
