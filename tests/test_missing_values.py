"""Missing values go to networks that take them, and are located where they are not taken."""

import itertools
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetRegressor
from torch import nn

from sklexplain import (
    ClaDecExplainer,
    DKNNImportance,
    EmbeddingAttributor,
    InfluenceImportance,
    LabelFreeAttributor,
    NoiseScorer,
    SimplExImportance,
    SRAEExplainer,
    VarianceScorer,
)
from sklexplain.explaining import GRADIENT_METHODS, PERTURBATION_METHODS
from sklexplain.nets import Autoencoder

RNG = np.random.RandomState(0)


class MaskedMean(nn.Module):
    """A network for padded series (n, 2, time): means over the steps that are there."""

    def __init__(self):
        super().__init__()
        self.step = nn.Linear(2, 4)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        known = ~torch.isnan(x).any(dim=1, keepdim=True)
        h = torch.tanh(self.step(torch.where(known, x, 0.0).transpose(1, 2))).transpose(1, 2)
        return self.out((h * known).sum(dim=2) / known.sum(dim=2).clamp(min=1))


class Indicating(nn.Module):
    """A network for tables that is told what is missing."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(6, 5)
        self.out = nn.Linear(5, 2)

    def forward(self, x):
        missing = torch.isnan(x)
        return self.out(torch.tanh(self.hidden(torch.cat([torch.nan_to_num(x), missing], dim=1))))


def made(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind()


def padded(n=12, n_times=6):
    X = RNG.normal(size=(n, 2, n_times)).astype(np.float32)
    for i in range(n):
        X[i, :, 2 + i % 4 :] = np.nan  # the last step is missing in all
    return X


SERIES = padded()
TABLE = RNG.normal(size=(15, 3)).astype(np.float32)
TABLE[::4, 1] = np.nan
TABLE[5, 2] = np.nan


def encode(net, X):
    with torch.no_grad():
        return net(torch.as_tensor(X, dtype=torch.float32)).numpy().astype(np.float64)


def shapley(net, x, baseline):
    """Shapley values of <f(x), f(.)> by all subsets; absent cells take the baseline's value."""
    flat, absent = x.ravel(), baseline.ravel()
    players, z = range(len(flat)), encode(net, x[None])[0]

    def value(subset):
        cells = [flat[i] if i in subset else absent[i] for i in players]
        return encode(net, np.array(cells, dtype=np.float32).reshape(1, *x.shape))[0] @ z

    out = np.zeros(len(flat))
    for i in players:
        rest = [j for j in players if j != i]
        for size in range(len(flat)):
            weight = math.factorial(size) * math.factorial(len(flat) - size - 1)
            for subset in itertools.combinations(rest, size):
                out[i] += weight * (value({*subset, i}) - value(set(subset)))
    return (out / math.factorial(len(flat))).reshape(x.shape)


@pytest.mark.parametrize("baseline", ["mean", "row with gaps"])
def test_shapley_values_are_those_of_the_samples_with_their_gaps(baseline):
    net = made(Indicating)
    rows = TABLE[5] if baseline == "row with gaps" else baseline
    explainer = LabelFreeAttributor(net, method="kernel_shap", baseline=rows, random_state=0)
    maps = explainer.fit(TABLE).transform(TABLE)
    absent = np.nanmean(TABLE, axis=0) if baseline == "mean" else TABLE[5]
    for i in (0, 4, 5, 6):
        np.testing.assert_allclose(maps[i], shapley(net, TABLE[i], absent), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", PERTURBATION_METHODS)
@pytest.mark.parametrize("baseline", ["mean", "zeros", "background"])
def test_perturbation_methods_on_padded_series(method, baseline):
    explainer = LabelFreeAttributor(
        made(MaskedMean), method=method, baseline=baseline, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maps = explainer.fit(SERIES).transform(SERIES)
    assert maps.shape == SERIES.shape and np.isfinite(maps).all()
    assert np.isfinite(explainer.feature_importances_).all()
    assert np.isfinite(explainer.score(SERIES))


@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_gradient_methods_say_what_to_use_instead(method):
    explainer = LabelFreeAttributor(made(MaskedMean), method=method, random_state=0).fit(SERIES)
    if method in ("saliency", "smooth_grad"):  # they take no difference to a baseline
        maps = explainer.transform(SERIES)
        assert np.isfinite(maps).all() and (maps[np.isnan(SERIES)] == 0).all()
        return
    with pytest.raises(ValueError, match=rf"{method} .*sample 0, which has missing.*'kernel_shap'"):
        explainer.transform(SERIES)
    known = np.nan_to_num(SERIES)
    with pytest.raises(
        ValueError, match="sample 0, which is compared with a baseline that has mis"
    ):
        explainer.transform(known)  # the last step is missing in every sample
    explainer.set_params(baseline="zeros").fit(SERIES)
    assert np.isfinite(explainer.transform(known)).all()


@pytest.mark.parametrize(
    "make",
    [
        EmbeddingAttributor,
        VarianceScorer,
        lambda net: NoiseScorer(net, random_state=0),
        lambda net: NoiseScorer(net, noise="permuted", random_state=0),
        lambda net: DKNNImportance(net, n_neighbors=3),
        SimplExImportance,
        lambda net: InfluenceImportance(net, loss=lambda z, x: (z**2).sum(dim=1), parameters="out"),
        lambda net: SRAEExplainer(net, layer="step", max_epochs=2, random_state=0),
    ],
    ids=["embedding", "variance", "noise", "permuted", "dknn", "simplex", "influence", "srae"],
)
@pytest.mark.filterwarnings("ignore:The validation loss")
def test_explainers_take_padded_series(make):
    explainer = make(made(MaskedMean)).fit(SERIES)
    out = explainer.transform(SERIES)
    out = out.toarray() if hasattr(out, "toarray") else out
    assert len(out) == len(SERIES) and np.isfinite(out).all()


def test_neighbours_are_those_of_the_representation():
    net = made(MaskedMean)
    z = encode(net, SERIES)
    distance = np.linalg.norm(z[:, None] - z[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    explainer = DKNNImportance(net, n_neighbors=3).fit(SERIES)
    _, index = explainer.top_examples(SERIES, 1, exclude_self=True)
    np.testing.assert_array_equal(index[:, 0], distance.argmin(axis=1))


def test_score_of_examples_counts_missing_values_as_the_mean():
    with_gaps = np.where(RNG.uniform(size=(30, 3)) < 0.1, np.nan, RNG.normal(size=(30, 3)))
    filled = np.where(np.isnan(with_gaps), np.nanmean(with_gaps, axis=0), with_gaps)
    net = made(Indicating)
    explainer = DKNNImportance(net, n_neighbors=30).fit(with_gaps)
    top = np.argsort(-explainer.transform(with_gaps).toarray(), axis=1, kind="stable")[:, :10]
    near = np.mean([((filled[i] - filled[top[i]]) ** 2).sum(axis=1).mean() for i in range(30)])
    every = np.mean([((filled[i] - filled) ** 2).sum(axis=1).mean() for i in range(30)])
    np.testing.assert_allclose(explainer.score(with_gaps), 1 - near / every, rtol=1e-6)


def test_gaps_that_only_new_samples_have():
    net = made(Indicating)
    explainer = LabelFreeAttributor(net, method="kernel_shap", baseline="zeros", random_state=0)
    known = np.nan_to_num(TABLE)
    maps = explainer.fit(known).transform(TABLE)
    np.testing.assert_allclose(maps[4], shapley(net, TABLE[4], np.zeros(3)), rtol=1e-3, atol=1e-6)


# -- whatever the network is inside of -------------------------------------------------------------


def skorch_net():
    return NeuralNetRegressor(Indicating, max_epochs=1, train_split=None, verbose=0)


Y = RNG.normal(size=(15, 2)).astype(np.float32)


@pytest.mark.parametrize(
    "make",
    [
        skorch_net,
        lambda: skorch_net().fit(TABLE, Y),
        lambda: make_pipeline(StandardScaler(), skorch_net()),
        lambda: make_pipeline(StandardScaler(), skorch_net()).fit(TABLE, Y),
    ],
    ids=["unfitted", "fitted", "pipeline, unfitted", "pipeline, fitted"],
)
@pytest.mark.parametrize("container", [np.asarray, pd.DataFrame], ids=["array", "frame"])
def test_skorch_nets_and_pipelines(make, container):
    X = container(TABLE)
    explainer = LabelFreeAttributor(make(), method="kernel_shap", random_state=0).fit(X, Y)
    maps = explainer.transform(X)
    z = explainer.estimator_.predict(np.asarray(TABLE))
    z_mean = explainer.estimator_.predict(np.nanmean(TABLE, axis=0, keepdims=True))
    expected = np.einsum("ij,ij->i", z, z - z_mean)
    np.testing.assert_allclose(maps.sum(axis=1), expected, rtol=1e-3, atol=1e-5)


# -- refused ---------------------------------------------------------------------------------------


def dense():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))


def with_gap(row, position=(1, 3)):
    X = np.nan_to_num(SERIES)
    X[(row, *position)] = np.nan
    return X


@pytest.mark.parametrize("row", [0, 2, 7])
@pytest.mark.parametrize("when", ["fit", "transform"])
def test_networks_that_take_no_gaps_are_told_where_one_is(row, when):
    explainer = LabelFreeAttributor(made(dense))
    if when == "transform":
        explainer.fit(np.nan_to_num(SERIES))
    message = rf"NaN: position \(1, 3\) of the sample.*row {row}\..*fill it.*masks missing values"
    with pytest.raises(ValueError, match=message) as caught:
        getattr(explainer, when)(with_gap(row))
    assert "SimpleImputer" not in str(caught.value)


def test_columns_of_tables_are_named():
    frame = pd.DataFrame(TABLE, columns=list("abc"))
    net = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="NaN: column 'b', row 0.*SimpleImputer"):
        LabelFreeAttributor(net).fit(frame)
    with pytest.raises(ValueError, match="NaN: column 'b', row 4.*SimpleImputer"):
        LabelFreeAttributor(net).fit(frame.fillna(0)).transform(
            frame.iloc[1:].iloc[[0, 1, 2, 1, 3]]
        )


class OnlySome(nn.Module):
    """A network that takes gaps, but no sample of nothing else."""

    def forward(self, x):
        return torch.nanmean(x, dim=2)


def test_a_sample_that_a_network_for_gaps_does_not_take():
    X = with_gap(3)
    X[9] = np.nan
    explainer = LabelFreeAttributor(OnlySome(), method="shapley_sampling", random_state=0)
    with pytest.raises(ValueError, match=r"NaN: position \(0, 0\) of the sample.*row 9"):
        explainer.fit(X).transform(X)
    explainer.fit(X[:9])
    with pytest.raises(ValueError, match=r"NaN: position \(0, 0\) of the sample.*row 9"):
        explainer.transform(X)


class Fails(nn.Module):
    """A network that fails on gaps with words of its own."""

    def forward(self, x):
        if torch.isnan(x).any():
            raise LookupError("no such token")
        return x.flatten(1)


@pytest.mark.parametrize("row", [0, 7])
def test_errors_of_networks_on_gaps_are_kept_as_the_cause(row):
    with pytest.raises(ValueError, match=rf"NaN: position.*row {row}"):
        LabelFreeAttributor(Fails(), method="occlusion").fit(with_gap(row))


def test_a_broken_network_is_not_blamed_on_gaps():
    net = made(dense)
    net[1].weight.data[:] = float("nan")
    with pytest.raises(ValueError, match="network's output is not finite.*check its weights"):
        LabelFreeAttributor(net).fit(with_gap(0))


def test_infinity_is_refused_in_any_case():
    X = np.where(np.isnan(SERIES), np.inf, SERIES)
    with pytest.raises(ValueError, match="contains infinity.*clip"):
        LabelFreeAttributor(made(MaskedMean), method="occlusion").fit(X)


def test_what_is_missing_is_not_reconstructed():
    explainer = ClaDecExplainer(made(MaskedMean), reference=None, max_epochs=1, random_state=0)
    with pytest.raises(ValueError, match="row 0.*a reconstruction cannot be compared"):
        explainer.fit(SERIES)
    explainer.set_params(validation_split=None).fit(np.nan_to_num(SERIES))
    assert np.isfinite(explainer.transform(SERIES)).all()
    for method in (explainer.score, explainer.reconstruction_loss, explainer.agreement):
        with pytest.raises(ValueError, match="cannot be compared"):
            method(SERIES)
    with pytest.raises(ValueError, match="Autoencoder does not accept"):
        Autoencoder("conv1d", max_epochs=1).fit(SERIES)


class Root(nn.Module):
    def forward(self, x):
        return torch.sqrt(torch.abs(x)).sum(dim=1, keepdim=True) + x


def test_slopes_that_are_not_finite_are_told():
    X = np.abs(np.nan_to_num(TABLE)) + 1
    X[3, 1] = 0.0
    explainer = LabelFreeAttributor(Root(), method="saliency").fit(X + 1)
    with pytest.raises(
        ValueError, match="sample 3, which is where the network has no finite slope"
    ):
        explainer.transform(X)
