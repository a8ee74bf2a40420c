"""Maps of concepts: methods of label-free importance, and excitation backprop by its definition."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from torch import nn

from sklexplain import LabelFreeAttributor, SRAEExplainer
from sklexplain.exceptions import UnreachedInputWarning
from sklexplain.explaining import METHODS
from tests.cases import make_net, make_X

QUICK = {
    "n_concepts": 2,
    "hidden_layer_sizes": (6,),
    "max_epochs": 2,
    "validation_split": None,
    "random_state": 0,
}


class Composed(nn.Module):
    """A network up to its last linear layer, and the encoder of concepts."""

    def __init__(self, net, module):
        super().__init__()
        self.net, self.module = net, module

    def forward(self, x):
        return self.module.encode(self.net(x))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_methods_explain_the_composed_network(method):
    net, X = make_net("conv1d"), make_X("conv1d", 12)
    explainer = SRAEExplainer(net, **QUICK).fit(X)
    params = {"n_samples": 60} if method in ("kernel_shap", "lime") else None
    maps = explainer.concept_attributions(X[:5], method, method_params=params)
    assert maps.shape == (5, 2, 2, 10)
    by_hand = LabelFreeAttributor(
        Composed(net[:5], explainer.net_.module_), method=method, method_params=params
    ).fit(X)
    by_hand._engine.seed = explainer.seed_
    expected = by_hand.unit_attributions(X[:5])
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_integrated_gradients_add_up_to_concepts():
    X = make_X("mlp", 12)
    explainer = SRAEExplainer(make_net("mlp"), **QUICK).fit(X)
    maps = explainer.concept_attributions(X, method_params={"n_steps": 400}, baseline="zeros")
    difference = explainer.transform(X) - explainer.transform(np.zeros_like(X[:1]))
    np.testing.assert_allclose(maps.sum(axis=2), difference, rtol=2e-2, atol=2e-3)


def test_raw_columns_of_a_pipeline():
    X, y = load_iris(return_X_y=True)
    X = np.round(X)
    pipeline = make_pipeline(
        OneHotEncoder(sparse_output=False, handle_unknown="ignore"),
        MLPClassifier((5,), solver="lbfgs", max_iter=200, random_state=0),
    ).fit(X, y)
    explainer = SRAEExplainer(pipeline, target=0, **QUICK).fit(X)
    for method in ("integrated_gradients", "excitation_backprop"):
        assert explainer.concept_attributions(X[:3], method).shape == (3, 2, 4)


@pytest.mark.parametrize("method", ["saliency", "smooth_grad", "integrated_gradients"])
@pytest.mark.parametrize("baseline", ["zeros", "callable"])
def test_maps_in_raw_units_whatever_stands_in_front(method, baseline):
    """Scalers that clip, and an imputer that has nothing to do."""
    X, y = load_iris(return_X_y=True)
    X, baseline = X[::3], {"zeros": "zeros", "callable": np.zeros_like}[baseline]
    scaler, net = MinMaxScaler(clip=True), MLPClassifier((5,), max_iter=5, random_state=0)
    maps, rows = [], X[:4] * [[1], [1], [0.2], [5]]
    for steps in ((scaler, net), (scaler, SimpleImputer(), net)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipeline = make_pipeline(*steps).fit(X, y[::3])
            explainer = SRAEExplainer(pipeline, **QUICK).fit(X)
        params = {"n_steps": 500} if method == "integrated_gradients" else None
        maps.append(
            explainer.concept_attributions(rows, method, method_params=params, baseline=baseline)
        )
    np.testing.assert_allclose(*maps, rtol=1e-4, atol=1e-6)


class Detached(nn.Module):
    """A network that no gradient passes, behind a layer that lets it."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)).detach())


def test_gradients_have_to_reach_the_layer_only():
    net, X = Detached(), make_X("mlp", 12)
    explainer = SRAEExplainer(net, layer="first", **QUICK).fit(X)
    encode = Composed(net.first, explainer.net_.module_)
    expected = LabelFreeAttributor(encode, method="saliency").fit(X).unit_attributions(X)
    maps = explainer.concept_attributions(X, "saliency")
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-7)
    behind = SRAEExplainer(net, layer="last", **{**QUICK, "n_concepts": 1}).fit(X)
    with pytest.raises(TypeError, match="'saliency' needs gradients, but .* detached"):
        behind.concept_attributions(X, "saliency")


def test_a_lookup_in_front_of_concepts_is_a_warning():
    class Lookup(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.last = nn.Embedding(5, 3), nn.Linear(6, 2)

        def forward(self, x):
            return self.last(torch.cat([self.table(x[:, 0].long()), x[:, 1:]], dim=1))

    X = np.random.RandomState(0).randint(5, size=(40, 4)).astype(np.float32)
    explainer = SRAEExplainer(Lookup(), **QUICK).fit(X)
    with pytest.warns(UnreachedInputWarning, match="no gradient reaches column 0 although"):
        explainer.concept_attributions(X, "saliency")
    assert explainer.concept_attributions(X, "feature_ablation")[:, :, 0].any()


def test_wrong_methods():
    X = make_X("mlp", 12)
    explainer = SRAEExplainer(make_net("mlp"), **QUICK).fit(X)
    with pytest.raises(ValueError, match="Did you mean 'excitation_backprop'"):
        explainer.concept_attributions(X, "excitation_backpropagation")
    with pytest.raises(ValueError, match="has no parameters"):
        explainer.concept_attributions(X, "excitation_backprop", method_params={"n_steps": 2})
    with pytest.raises(ValueError, match="method_params key"):
        explainer.concept_attributions(X, method_params={"steps": 2})


# -- excitation backprop -----------------------------------------------------------------------


def shared(probability, a, W):
    """One linear layer's rule, neuron by neuron: W (n_out, n_in)."""
    result = np.zeros(len(a))
    for i in range(len(W)):
        contributions = [max(a[j] * W[i, j], 0) for j in range(len(a))]
        if sum(contributions) > 0:
            result += probability[i] * np.array(contributions) / sum(contributions)
    return result


def numpy_of(layer):
    return layer.weight.detach().numpy().astype(np.float64)


def test_excitation_backprop_against_its_definition():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 7), nn.ReLU(inplace=True), nn.Linear(7, 3))
    X = make_X("mlp", 12)
    explainer = SRAEExplainer(net, target=0, **QUICK).fit(X)
    maps = explainer.concept_attributions(X, "excitation_backprop")
    module = explainer.net_.module_
    for m, x in enumerate(X):
        h = np.maximum(numpy_of(net[0]) @ x + net[0].bias.detach().numpy(), 0)
        e = module.encoder[0]
        k = np.maximum(numpy_of(e) @ (h / module.z_scale.item()) + e.bias.numpy(), 0)
        for c in range(2):
            w = numpy_of(module.encoder[2])[[c]]
            contrast = shared([1.0], k, w) - shared([1.0], k, -w)
            expected = shared(shared(contrast, h, numpy_of(e)), x, numpy_of(net[0]))
            np.testing.assert_allclose(maps[m, c], np.maximum(expected, 0), rtol=1e-4, atol=1e-6)
    assert (maps > 0).any()


def test_excitation_backprop_through_convolutions_equals_the_dense_network():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv1d(2, 3, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool1d(2),
        nn.Flatten(),
        nn.Linear(9, 4),
    )
    X = np.abs(np.random.RandomState(0).normal(size=(9, 2, 6))).astype(np.float32)
    dense = nn.Sequential(nn.Flatten(), nn.Linear(12, 18), nn.ReLU(), nn.Linear(18, 9), net[4])
    with torch.no_grad():
        eye = torch.eye(12).view(12, 2, 6)
        first = net[0](eye) - net[0](torch.zeros(1, 2, 6))
        dense[1].weight.copy_(first.flatten(1).T)
        dense[1].bias.copy_(net[0](torch.zeros(1, 2, 6)).flatten())
        dense[3].weight.copy_(net[2](torch.eye(18).view(18, 3, 6)).flatten(1).T)
        dense[3].bias.zero_()
    maps = [
        SRAEExplainer(n, **QUICK).fit(X).concept_attributions(X, "excitation_backprop")
        for n in (net, dense)
    ]
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("in_place", [False, True])
def test_probability_is_kept(in_place):
    """Before the contrast, a distribution goes down as a distribution."""
    from sklexplain.concepts._excitation import _Excitation

    class Residual(nn.Module):
        def __init__(self, in_place):
            super().__init__()
            self.in_place = in_place
            self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
            self.inner = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            a = torch.relu(self.norm(self.conv(x)))
            b = self.inner(a)
            if self.in_place:
                b += a
            else:
                b = a + b
            a = torch.relu(b)
            return nn.functional.max_pool2d(a, 2).mean(dim=(2, 3)) * 0.5

    torch.manual_seed(0)
    net, x = (
        Residual(in_place).eval().requires_grad_(False),
        torch.rand(3, 1, 6, 6, requires_grad=True),
    )
    with _Excitation():
        out = net(x)
    p = torch.rand_like(out) * (out > 0)
    (shares,) = torch.autograd.grad(out, x, p)
    assert (shares >= 0).all()
    kept = shares.sum(dim=(1, 2, 3)) / p.sum(dim=1)
    # What ends in neurons that nothing excites but their bias is lost.
    assert ((kept > 0.5) & (kept < 1 + 1e-5)).all()


@pytest.mark.parametrize(
    ("name", "found"), [("conv1d", "elu"), ("lstm", "lstm"), ("transformer", "layer_norm")]
)
def test_excitation_backprop_needs_relus(name, found):
    X = make_X(name, 12)
    explainer = SRAEExplainer(make_net(name), **QUICK).fit(X)
    with pytest.raises(
        ValueError, match=f"(?i)ReLU networks, but this one has .*({found}|mul|soft)"
    ):
        explainer.concept_attributions(X, "excitation_backprop")


def test_operations_in_place_are_refused():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.last(torch.relu(self.first(x)).mul_(2))

    X = make_X("mlp", 12)
    explainer = SRAEExplainer(Scaled(), **QUICK).fit(X)
    with pytest.raises(ValueError, match="this one has mul_"):
        explainer.concept_attributions(X, "excitation_backprop")


def test_scalers_and_black_boxes():
    X, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(
        StandardScaler(), MLPClassifier((5,), solver="lbfgs", max_iter=200, random_state=0)
    ).fit(X, y)
    explainer = SRAEExplainer(pipeline, target=0, **QUICK).fit(X)
    maps = explainer.concept_attributions(X, "excitation_backprop")
    assert maps.shape == (150, 2, 4)
    assert (maps > 0).any()
