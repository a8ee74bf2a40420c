import warnings

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from sklexplain.nets import Autoencoder
from sklexplain.training import randomized_layers
from tests.cases import NETS, make_net, make_X


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, after):
    return {name for name, value in after.items() if not torch.equal(before[name], value)}


@pytest.mark.parametrize("name", sorted(NETS))
def test_exactly_one_layer_changes(name):
    net = make_net(name)
    before, generator = state_of(net), torch.get_rng_state()
    copies = list(randomized_layers(net, random_state=0))
    assert len(copies) >= 2
    for layer, randomized in copies:
        names = changed(before, randomized.state_dict())
        own = {n for n, _ in net.get_submodule(layer).named_parameters(prefix=layer)}
        assert names and names <= own
        assert f"{layer}.weight" in names or any("weight" in n for n in names)
        assert [m.training for m in randomized.modules()] == [m.training for m in net.modules()]
    assert not changed(before, net.state_dict())
    assert torch.equal(generator, torch.get_rng_state())


def test_weights_are_those_of_reset_parameters_and_differ_between_layers():
    net = nn.Sequential(nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 40))
    with torch.no_grad():
        net[0].weight.fill_(7.0)
        net[2].weight.fill_(7.0)
    weights = {name: copy[int(name)].weight for name, copy in randomized_layers(net)}
    limit = 1 / 40**0.5  # of torch's uniform distribution for a linear layer
    for weight in weights.values():
        assert weight.abs().max() <= limit
        assert weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.05)
    assert not torch.equal(weights["0"], weights["2"])


def test_weights_depend_on_random_state_and_name_only():
    net = make_net("mlp")
    every = dict(randomized_layers(net, random_state=0))
    (_, alone), *rest = randomized_layers(net, ["4"], random_state=0)
    assert not rest
    assert torch.equal(alone[4].weight, every["4"][4].weight)
    ((_, other),) = randomized_layers(net, ["4"], random_state=1)
    assert not torch.equal(other[4].weight, alone[4].weight)


def test_normalisation_is_reset_only_if_named():
    net = make_net("mlp")
    assert [name for name, _ in randomized_layers(net)] == ["0", "4"]
    ((_, reset),) = randomized_layers(net, ["1"])
    assert (reset[1].running_mean == 0).all() and (net[1].running_mean != 0).any()


def test_skorch_nets_and_pipelines():
    X, y = make_X("mlp", n_samples=20), np.arange(20) % 4
    net = NeuralNetClassifier(
        make_net("mlp"), max_epochs=1, train_split=None, verbose=0, criterion=nn.CrossEntropyLoss
    ).fit(X, y)
    expected = net.predict_proba(X)
    (layer, randomized), *_ = randomized_layers(net, random_state=0)
    assert layer == "0"
    assert np.abs(randomized.predict_proba(X) - expected).max() > 1e-3
    np.testing.assert_array_equal(net.predict_proba(X), expected)

    autoencoder = Autoencoder(max_epochs=1, validation_split=None, random_state=0)
    pipeline = make_pipeline(StandardScaler(), autoencoder).fit(X)
    expected = pipeline.transform(X)
    copies = dict(randomized_layers(pipeline, random_state=0))
    assert np.abs(copies["encoder.linear0"].transform(X) - expected).max() > 1e-3
    # The decoder is no part of what transform returns.
    np.testing.assert_array_equal(copies["decoder.output"].transform(X), expected)


def test_errors():
    net = make_net("mlp")
    with pytest.raises(ValueError, match="Did you mean '4'|Layers:"):
        randomized_layers(net, ["44"])
    with pytest.raises(ValueError, match=r"'2' \(ReLU\) has no reset_parameters.*\['0', '4'\]"):
        randomized_layers(net, ["2"])
    with pytest.raises(ValueError, match="PCA holds 0 networks"):
        randomized_layers(PCA())


# -- every weight that is computed with differs, and no other -----------------------------------


def through_hooks(net):
    """Weights of linear layers as a pass computes them, by name."""
    seen, handles = {}, []
    for name, part in net.named_modules():
        if isinstance(part, nn.Linear):
            handles.append(
                part.register_forward_hook(
                    lambda m, *_, name=name: seen.update({name: m.weight.detach().clone()})
                )
            )
    with torch.no_grad():
        net(torch.ones(2, 5))
    for handle in handles:
        handle.remove()
    return seen


def old(function, **params):
    def make(layer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch deprecates the old weight_norm
            return function(layer, **params)

    return make


def pruned(amount):
    return lambda layer: prune.l1_unstructured(layer, "weight", amount)


class Computed(nn.Module):
    """A parametrization without a way back, or of nothing but itself."""

    def __init__(self, constant=False):
        super().__init__()
        self.constant = constant

    def forward(self, weight):
        return torch.ones_like(weight) if self.constant else torch.tanh(weight)


def parametrised(constant):
    def make(layer):
        return parametrize.register_parametrization(layer, "weight", Computed(constant))

    return make


@pytest.mark.parametrize(
    "wrap",
    [
        old(torch.nn.utils.weight_norm),
        old(torch.nn.utils.spectral_norm),
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
        parametrised(constant=False),
        pruned(0.3),
    ],
)
def test_weights_that_are_computed_differ(wrap):
    torch.manual_seed(0)
    net = nn.Sequential(wrap(nn.Linear(5, 4)), nn.ReLU(), nn.Linear(4, 2)).eval()
    before = through_hooks(net)
    for name, changed in randomized_layers(net, random_state=0):
        after = through_hooks(changed)
        assert {n for n in before if not torch.equal(before[n], after[n])} == {name}
        assert all(torch.isfinite(weight).all() for weight in after.values())


class Stubborn(nn.Linear):
    def reset_parameters(self):
        nn.init.ones_(self.weight)


class Half(nn.Module):
    def __init__(self):
        super().__init__()
        self.drawn, self.kept = (nn.Parameter(torch.randn(4, 5)) for _ in range(2))

    def reset_parameters(self):
        nn.init.normal_(self.drawn)

    def forward(self, x):
        return x @ (self.drawn + self.kept).T


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Stubborn(5, 4), "weight"),
        (Half, "kept"),
        (lambda: pruned(1.0)(nn.Linear(5, 4)), "weight"),
        (lambda: parametrised(constant=True)(nn.Linear(5, 4)), "weight"),
    ],
)
def test_weights_that_do_not_differ_are_an_error(make, name):
    net = nn.Sequential(make(), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=f"layer '0' cannot be randomised: its weights '{name}'"):
        dict(randomized_layers(net))
    assert [layer for layer, _ in randomized_layers(net, ["2"])] == ["2"]


def differing(net, other):
    pairs = zip(net.named_parameters(), other.named_parameters(), strict=True)
    return {name for (name, old), (_, new) in pairs if not torch.equal(old, new)}


def test_attention_leaves_its_projection_alone():
    torch.manual_seed(0)
    net = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1  # biases are trained, too
    for name, other in randomized_layers(net, random_state=0):
        parts = {"in_proj_weight", "in_proj_bias"} if name == "self_attn" else {"weight", "bias"}
        assert differing(net, other) == {f"{name}.{part}" for part in parts}


def test_shared_weights_are_parted():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
    net[2].weight = net[0].weight
    for name, changed in randomized_layers(net, random_state=0):
        assert not torch.equal(changed[int(name)].weight, net[int(name)].weight)
        for other in {0, 2, 3} - {int(name)}:
            assert torch.equal(changed[other].weight, net[other].weight)
    assert net[2].weight is net[0].weight
