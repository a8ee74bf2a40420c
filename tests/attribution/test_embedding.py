"""EmbeddingAttributor: which layer, which units, which shape; the numbers are in test_maps."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklexplain import EmbeddingAttributor
from sklexplain.layers import find_points, layer_maps
from sklexplain.nets import Autoencoder
from tests.cases import NETS, Transformer, make_net, make_X
from tests.layers.test_jacobian import looped

DEFAULT = {  # layer, shape of a map, before it is scaled up
    "mlp": ("0", (8,)),
    "conv1d": ("0", (10,)),
    "conv2d": ("0", (6, 6)),
    "lstm": ("rnn", (7,)),
    "gru": ("rnn", (7,)),
    "rnn": ("rnn", (7,)),
    "transformer": ("block.linear2", (7,)),
}


class LastState(nn.Module):
    """Uses an LSTM's last hidden state only, so that its sequence is not on the way."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[1][0][-1]


def expected_maps(net, layer, X, **params):
    net = net.eval()
    x = torch.as_tensor(X)
    points = find_points(net, x, dict(net.named_modules()), layers=[layer])
    given = {"saliency": "activation_x_gradient", "channel_agg": "abs", "unit_agg": "var"}
    with torch.no_grad():
        return layer_maps(net, points, x, rows=len(x), **given | params)[0].numpy()


@pytest.mark.parametrize("name", sorted(NETS))
def test_default_layer(name):
    X = make_X(name)
    layer, shape = DEFAULT[name]
    explainer = EmbeddingAttributor(make_net(name), upsample=False).fit(X)
    assert (explainer.layer_, explainer.at_, explainer.map_shape_) == (layer, "output", shape)
    maps = explainer.transform(X)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(
        maps, expected_maps(make_net(name), layer, X), rtol=1e-3, atol=1e-5 * maps.max()
    )


@pytest.mark.parametrize(
    ("params", "shape"),
    [
        ({"layer": "5"}, (36,)),  # no position left to scale up
        ({"layer": "3"}, (8, 8)),
        ({"layer": "3", "upsample": False}, (3, 3)),
        ({"layer": "1", "at": "input", "upsample": False}, (6, 6)),
        ({"layer": "", "at": "input"}, (8, 8)),
        ({"output": "0", "layer": "", "at": "input"}, (8, 8)),
        ({"channel_agg": "none", "layer": "0"}, (4, 8, 8)),
        ({"unit_agg": "none"}, (5, 8, 8)),
        ({"unit_agg": "none", "channel_agg": "none", "n_units": 2}, (2, 4, 8, 8)),
        ({"unit_agg": "none", "unit_weights": np.arange(5)}, (8, 8)),
        ({"saliency": "grad_cam", "channel_agg": "none"}, (8, 8)),
    ],
    ids=str,
)
def test_shapes_and_names(params, shape):
    X = make_X("conv2d")
    explainer = EmbeddingAttributor(make_net("conv2d"), random_state=0, **params).fit(X)
    maps = explainer.transform(X)
    assert maps.shape == (len(X), *shape) == (len(X), *explainer.map_shape_)
    assert maps.any()
    names = explainer.get_feature_names_out()
    assert len(set(names)) == len(names) == np.prod(shape)
    if "n_units" in params:
        assert names[-1] == f"unit{explainer.units_[-1]}_ch3_y7_x7"
    frame = explainer.set_output(transform="pandas").transform(X)
    np.testing.assert_array_equal(frame.to_numpy(), maps.reshape(len(X), -1))


def test_scaling_up_repeats_the_nearest_position():
    X = make_X("conv2d")
    small, large = (
        EmbeddingAttributor(make_net("conv2d"), layer="3", upsample=u).fit(X).transform(X)
        for u in (False, True)
    )
    index = np.arange(8) * 3 // 8
    np.testing.assert_array_equal(large, small[:, index][:, :, index])


def test_table_read_as_a_series_is_scaled_up():
    net = nn.Sequential(nn.Unflatten(1, (1, 12)), nn.Conv1d(1, 2, 3, stride=3), nn.Flatten())
    X = np.random.RandomState(0).normal(size=(5, 12)).astype("float32")
    explainer = EmbeddingAttributor(nn.Sequential(net, nn.Linear(8, 3)), layer="0.1").fit(X)
    maps = explainer.transform(X)
    assert maps.shape == (5, 12)
    np.testing.assert_array_equal(maps[:, ::3], maps[:, 2::3])


def test_last_hidden_state_is_explained_at_the_input():
    X = make_X("lstm")
    explainer = EmbeddingAttributor(LastState()).fit(X)
    assert (explainer.layer_, explainer.at_, explainer.map_shape_) == ("rnn", "input", (7,))


def test_layers_inside_a_chosen_output():
    X = make_X("transformer")
    net = Transformer()
    explainer = EmbeddingAttributor(net, output="block", layer="embed").fit(X)
    assert explainer.n_units_ == 7 * 8
    with pytest.raises(ValueError, match="'head' is not called before the output"):
        EmbeddingAttributor(net, output="block", layer="head").fit(X)
    with pytest.raises(ValueError, match="output='blok' is not a submodule.*'block'"):
        EmbeddingAttributor(net, output="blok").fit(X)


@pytest.mark.parametrize("saliency", ["gradient", "grad_cam"])
def test_saliency_reaches_the_maps(saliency):
    X = make_X("conv1d")
    explainer = EmbeddingAttributor(make_net("conv1d"), saliency=saliency).fit(X)
    expected = expected_maps(make_net("conv1d"), "0", X, saliency=saliency)
    np.testing.assert_allclose(explainer.transform(X), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("aggregator", ["channel_agg", "unit_agg"])
@pytest.mark.parametrize("how", ["mean", "abs", "skew", torch.amax])
def test_aggregators_reach_the_maps(aggregator, how):
    X = make_X("conv1d")
    explainer = EmbeddingAttributor(make_net("conv1d"), **{aggregator: how}).fit(X)
    expected = expected_maps(make_net("conv1d"), "0", X, **{aggregator: how})
    np.testing.assert_allclose(explainer.transform(X), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("n_units", [5, 6])
def test_as_many_units_as_there_are_is_all(n_units):
    X = make_X("conv2d")
    explainer = EmbeddingAttributor(make_net("conv2d"), n_units=n_units).fit(X)
    np.testing.assert_array_equal(explainer.units_, np.arange(5))
    every = EmbeddingAttributor(make_net("conv2d")).fit(X)
    np.testing.assert_array_equal(explainer.transform(X), every.transform(X))


class Regimes(torch.nn.Module):
    """Many outputs of a code of three, and an affine end after the last hyperbolic tangent."""

    def __init__(self):
        super().__init__()
        self.code = torch.nn.Linear(6, 3)
        self.up = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Tanh())
        self.conv = torch.nn.Sequential(torch.nn.Conv1d(2, 4, 3), torch.nn.Tanh())
        self.out = torch.nn.Linear(4, 24)

    def forward(self, x):
        return self.out(self.conv(self.up(self.code(x)).unflatten(1, (2, 8))).mean(2))


@pytest.mark.parametrize("saliency", ["activation_x_gradient", "gradient"])
@pytest.mark.parametrize(("layer", "regime"), [("code", "columns"), ("conv", "affine")])
def test_few_activations_and_affine_ends_equal_the_loop(layer, regime, saliency):
    torch.manual_seed(0)
    net = Regimes().double()
    X = np.random.RandomState(0).normal(size=(7, 6))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    explainer = EmbeddingAttributor(net, layer=layer, saliency=saliency, upsample=False).fit(X)
    maps = explainer.transform(X)
    assert explainer._points.batched[regime] is True
    point = replace(explainer._points[0], module=getattr(net, layer))
    gradients, activations = looped(net, point, torch.as_tensor(X), 24)
    values = gradients * activations if saliency == "activation_x_gradient" else gradients
    expected = values.abs().mean(2).var(0)  # (b, *spatial)
    np.testing.assert_allclose(maps, expected, rtol=1e-9)
    singles = np.concatenate([explainer.transform(X[i : i + 1]) for i in range(len(X))])
    np.testing.assert_allclose(singles, maps, rtol=1e-9)
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_grad_cam_before_an_affine_end():
    torch.manual_seed(0)
    net = Regimes().double()
    X = np.random.RandomState(0).normal(size=(7, 6))
    params = {"saliency": "grad_cam", "unit_agg": "none", "upsample": False}
    explainer = EmbeddingAttributor(net, layer="conv", **params).fit(X)
    point = replace(explainer._points[0], module=net.conv)
    gradients, activations = looped(net, point, torch.as_tensor(X), 24)
    weights = gradients.mean(3, keepdim=True)  # (N, b, C, 1)
    expected = (weights * activations).sum(2).relu().movedim(0, 1)
    np.testing.assert_allclose(explainer.transform(X), expected, atol=1e-12)
    assert explainer._points.batched["affine"] is True


def test_random_units_are_common_to_all_samples():
    X = make_X("conv2d")
    explainer = EmbeddingAttributor(make_net("conv2d"), n_units=3, random_state=0).fit(X)
    again = EmbeddingAttributor(make_net("conv2d"), n_units=3, random_state=0).fit(X[:4])
    assert len(set(explainer.units_)) == 3
    np.testing.assert_array_equal(explainer.units_, again.units_)
    others = [
        EmbeddingAttributor(make_net("conv2d"), n_units=3, random_state=s).fit(X).units_
        for s in range(1, 5)
    ]
    assert any((units != explainer.units_).any() for units in others)
    every = EmbeddingAttributor(make_net("conv2d"), unit_agg="none").fit(X).transform(X)
    chosen = every[:, explainer.units_]
    np.testing.assert_allclose(
        explainer.transform(X), chosen.var(axis=1, ddof=1), rtol=1e-3, atol=1e-6
    )


def test_weights_explain_a_task_on_the_embedding():
    X = make_X("conv1d")
    w = np.random.RandomState(1).normal(size=4)
    net = make_net("conv1d").eval()
    head = nn.Linear(4, 1, bias=False)
    head.weight.data[:] = torch.as_tensor(w)
    task = nn.Sequential(*net, head)
    ours = EmbeddingAttributor(net, layer="0", unit_weights=w).fit(X).transform(X)
    theirs = EmbeddingAttributor(task, layer="0", unit_agg="mean").fit(X).transform(X)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_pipeline_and_networks_of_scikit_learn():
    X, y = np.random.RandomState(0).normal(size=(60, 5)), np.arange(60) % 3
    mlp = MLPClassifier((7, 4), tol=0.1, n_iter_no_change=2, random_state=0)
    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), mlp).fit(X, y)
    explainer = EmbeddingAttributor(pipeline).fit(X)
    assert explainer.map_shape_ == (4,)
    assert explainer.n_units_ == 3
    assert explainer.transform(X).any()
    autoencoder = Autoencoder(
        hidden_layer_sizes=(6, 5), n_components=2, max_epochs=1, validation_split=None
    )
    inside = EmbeddingAttributor(make_pipeline(StandardScaler(), autoencoder)).fit(X)
    assert (inside.n_units_, inside.map_shape_) == (2, (5,))


def test_input_of_a_linear_map():
    X = pd.DataFrame(np.random.RandomState(0).normal(size=(30, 4)), columns=list("abcd"))
    explainer = EmbeddingAttributor(PCA(2), unit_agg="none", saliency="gradient").fit(X)
    assert (explainer.layer_, explainer.at_) == ("", "input")
    components = np.abs(explainer.estimator_.components_)
    np.testing.assert_allclose(explainer.transform(X)[0], components, rtol=1e-9)
    explainer = EmbeddingAttributor(PCA(2)).fit(X).set_output(transform="pandas")
    assert list(explainer.transform(X).columns) == list("abcd")


def test_tokens():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(9, 4)
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return torch.tanh(self.head(self.embed(x).mean(1)))

    X = np.random.RandomState(0).randint(9, size=(6, 5))
    explainer = EmbeddingAttributor(Tokens(), layer="embed").fit(X)
    assert explainer.transform(X).shape == (6, 5)


@pytest.mark.parametrize(
    ("params", "error", "words"),
    [
        ({"saliency": "gradcam"}, ValueError, "Did you mean 'grad_cam'"),
        ({"channel_agg": "max"}, ValueError, "The 'channel_agg' parameter .* Got 'max'"),
        ({"unit_agg": "std"}, ValueError, "The 'unit_agg' parameter .* Got 'std'"),
        ({"at": "out"}, ValueError, "Did you mean 'output'"),
        ({"layer": "9"}, ValueError, "layer='9' is not a submodule"),
        ({"n_units": 0}, ValueError, "The 'n_units' parameter .* Got 0"),
        ({"n_units": 2, "unit_weights": [1] * 5}, ValueError, "n_units=2 with unit_weights"),
        ({"unit_weights": [1, 2]}, ValueError, "the embedding's 5 units"),
        ({"unit_weights": [1, 2, 3, 4, np.nan]}, ValueError, "one finite number"),
        ({"layer": "6", "saliency": "grad_cam"}, ValueError, "'6' has activations of shape"),
    ],
    ids=str,
)
def test_parameters_that_do_not_fit(params, error, words):
    with pytest.raises(error, match=words):
        EmbeddingAttributor(make_net("conv2d"), **params).fit(make_X("conv2d"))


@pytest.mark.parametrize("estimator", [KMeans(2), RandomForestRegressor(3)], ids=str)
def test_estimators_without_torch_form(estimator):
    X = np.random.RandomState(0).normal(size=(20, 3))
    with pytest.raises(TypeError, match="no torch form; use LabelFreeAttributor"):
        EmbeddingAttributor(estimator).fit(X, X[:, 0])


def test_progress_bar(capsys):
    X = make_X("mlp")
    EmbeddingAttributor(make_net("mlp"), verbose=1).fit(X).transform(X)
    assert "maps" in capsys.readouterr().err
