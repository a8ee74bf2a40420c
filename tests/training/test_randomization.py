import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

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
