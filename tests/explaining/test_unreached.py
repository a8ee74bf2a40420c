"""Inputs that the output depends on without a gradient."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from skorch import NeuralNetRegressor
from torch import nn

from sklexplain import EmbeddingAttributor, LabelFreeAttributor
from sklexplain.exceptions import UnreachedInputWarning
from sklexplain.explaining import GRADIENT_METHODS, PERTURBATION_METHODS
from sklexplain.layers import N_TRIED
from tests.cases import NETS, make_net, make_X

RNG = np.random.RandomState(0)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def told(function, X, **params):
    """What the warning says, None without one."""
    module = function if isinstance(function, nn.Module) else Function(function)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        LabelFreeAttributor(module, **{"method": "saliency", **params}).fit(X)
    texts = [str(w.message) for w in record if w.category is UnreachedInputWarning]
    return texts[0] if texts else None


@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_every_gradient_method_warns(method):
    X = RNG.normal(size=(300, 4)).astype(np.float32)
    text = told(lambda x: torch.cat([x[:, :2], (x[:, 2:3] > 0).to(x)], 1), X, method=method)
    assert text.startswith("no gradient reaches column 2 although")
    assert "on the 100 samples looked at" in text
    assert all(repr(name) in text for name in PERTURBATION_METHODS)


def test_methods_without_gradients_do_not():
    X = RNG.normal(size=(30, 4)).astype(np.float32)
    assert told(lambda x: x.round(), X, method="feature_ablation") is None


def test_bisection_finds_each_and_only_those():
    table = torch.as_tensor(RNG.normal(size=(10, 3)), dtype=torch.float32)

    def function(x):
        looked_up = table[x[:, 3].long()] + table[x[:, 40].long()]
        return torch.cat([looked_up, x[:, 50:60].round(), x[:, 20:30] ** 2], dim=1)

    X = RNG.randint(10, size=(80, 60)).astype(np.float32)
    text = told(function, X)
    assert "columns 3, 40, 50, 51, 52 and 7 more although" in text
    assert "on the 80 samples" in text


def test_what_matters_jointly_is_named_jointly():
    X = RNG.randint(2, size=(60, 4)).astype(np.float32)
    X[:, 1] = X[:, 0]  # exchanged alone, both change what they are compared with

    def function(x):
        return torch.stack([(x[:, 0] + x[:, 2] > 1).to(x), x[:, 3]], 1)

    assert "columns 0, 2 although" in told(function, X)


def test_columns_by_name_and_positions():
    frame = pd.DataFrame(RNG.normal(size=(50, 3)), columns=["age", "dose", "site"])
    assert "column 'site'" in told(lambda x: torch.cat([x[:, :2], x[:, 2:].round()], 1), frame)
    X = RNG.normal(size=(50, 2, 3)).astype(np.float32)

    def function(x):
        return torch.cat([x[:, 0], x[:, 1].sign()], 1)

    assert "positions (1, 0), (1, 1), (1, 2) although" in told(function, X)


def test_raw_columns_behind_a_head():
    frame = pd.DataFrame(RNG.normal(size=(50, 3)), columns=list("abc"))
    frame.loc[:3, "b"] = np.nan
    torch.manual_seed(0)
    rounds = Function(lambda x: torch.cat([x[:, 1:].round(), x[:, :1]], 1))
    net = NeuralNetRegressor(nn.Sequential(rounds, nn.Linear(3, 2)).double(), max_epochs=1)
    pipeline = make_pipeline(SimpleImputer(), net.set_params(verbose=0))
    pipeline.fit(frame, RNG.normal(size=(50, 2)))
    with pytest.warns(UnreachedInputWarning, match="columns 'b', 'c' although"):
        LabelFreeAttributor(pipeline, method="saliency").fit(frame)


def test_only_chosen_units_count():
    X = RNG.normal(size=(50, 3)).astype(np.float32)
    assert told(lambda x: torch.cat([x[:, :2], x[:, 2:].round()], 1), X, units=[0, 1]) is None


@pytest.mark.parametrize("n", [3, 20, 150])
def test_units_that_are_off_are_no_lookups(n):
    for seed in range(15):
        X = np.random.RandomState(seed).normal(size=(n, 6)).astype(np.float32)
        torch.manual_seed(seed)
        narrow = nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 2))
        nn.init.constant_(narrow[0].bias, -1.5)
        for function in (
            narrow,
            lambda x: torch.relu(x - 1.5),
            lambda x: torch.relu(x.cumsum(1) - 4),
        ):
            assert told(function, X) is None


@pytest.mark.parametrize("name", NETS)
def test_ordinary_networks(name):
    assert told(make_net(name), make_X(name, 20)) is None


def test_constant_columns_and_single_samples_say_nothing():
    X = RNG.normal(size=(30, 3)).astype(np.float32)
    X[:, 2] = 1.2
    assert told(lambda x: torch.cat([x[:, :2], x[:, 2:].round()], 1), X) is None
    assert told(lambda x: torch.cat([x[:, :2], x[:, 2:].round()], 1), X[:1]) is None


def test_combinations_that_the_network_does_not_take():
    def function(x):
        if (x[:, 0] != x[:, 1]).any():
            raise KeyError("never seen")
        return x[:, 2:] + x[:, :1].round()

    X = np.repeat(RNG.normal(size=(30, 1)), 4, axis=1).astype(np.float32)
    X[:, 1] = X[:, 0]

    def one(x):
        return function(torch.cat([x[:, :1], x[:, 1:2].detach(), x[:, 2:]], 1))

    assert told(one, X) is None


def test_embeddings_at_the_input():
    X = RNG.normal(size=(40, 4)).astype(np.float32)
    module = Function(lambda x: torch.cat([x[:, :3], x[:, 3:].floor()], 1))
    with pytest.warns(UnreachedInputWarning, match="column 3"):
        EmbeddingAttributor(module).fit(X)


def test_costs_one_pass_where_all_is_well():
    sizes = []

    def function(x):
        sizes.append(len(x))
        return x**2

    X = RNG.normal(size=(1000, 3)).astype(np.float32)
    LabelFreeAttributor(Function(function), method="saliency").fit(X)
    assert sum(size for size in sizes if size > N_TRIED) == 100
