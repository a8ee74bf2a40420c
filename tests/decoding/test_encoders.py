"""Fresh encoders, and the units that enter the network."""

import numpy as np
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrizations import spectral_norm

from sklexplain.decoding._encoders import fresh_encoder, layer_tap
from sklexplain.decoding._units import InputUnits, moments
from sklexplain.representation import Representation
from tests.cases import NETS, encode, make_net, make_X


def parts(estimator, X, layer=None):
    X = np.asarray(X)
    representation = Representation(estimator, X.shape[1], link=False, inputs=X)
    units = InputUnits(representation, X)
    return representation, layer_tap(representation, layer, X, units), units


@pytest.mark.parametrize("name", sorted(NETS))
def test_fresh_encoder_has_the_architecture_and_other_weights(name):
    net, X = make_net(name), make_X(name)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    representation, tap, _ = parts(net, X)
    first, again = (fresh_encoder(representation, tap, 0, X) for _ in range(2))
    other = fresh_encoder(representation, tap, 1, X)
    x = representation.tensor(X)
    with torch.no_grad():
        z = [encoder.eval()(x) for encoder in (first, again, other)]
    assert z[0].shape == (len(X), *tap.shape)
    assert torch.equal(z[0], z[1])
    assert not torch.allclose(z[0], z[2])
    assert torch.isfinite(z[0]).all()
    with representation.session(), torch.no_grad():
        assert not torch.allclose(z[0], tap(x))
    after = net.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert net.training
    # The layers behind it are not trained, all before are.
    trained = {k for k, p in first.chain.named_parameters() if p.requires_grad}
    last = f"module.{tap.name}."
    assert trained
    assert not any(k.startswith(last) for k in trained)


def test_statistics_of_batches_start_anew():
    net, X = make_net("mlp"), make_X("mlp")
    representation, tap, _ = parts(net, X)
    encoder = fresh_encoder(representation, tap, 0, X)
    norm = next(m for m in encoder.modules() if isinstance(m, nn.BatchNorm1d))
    assert torch.equal(norm.running_mean, torch.zeros(8))
    assert not torch.equal(net[1].running_mean, torch.zeros(8))


def test_linear_maps_of_scikit_learn_become_trainable():
    X = make_X("mlp", 30)
    y = (X[:, 0] > 0).astype(int)
    model = MLPClassifier((6, 3), max_iter=5)
    with pytest.warns(match="converged"):
        pipeline = make_pipeline(StandardScaler(), model).fit(X, y)
    representation, tap, _ = parts(pipeline, X)
    assert tap.shape == (3,)
    encoder = fresh_encoder(representation, tap, 0, X)
    sizes = [tuple(m.weight.shape) for m in encoder.modules() if isinstance(m, nn.Linear)]
    assert sizes == [(6, 5), (3, 6), (1, 3)]
    assert encoder(representation.tensor(X)).requires_grad
    assert not any(isinstance(m, nn.Linear) for m in representation.chain.modules())


class WithToken(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.ones(4))
        self.unused = nn.Parameter(torch.ones(4))
        self.inner = nn.Linear(5, 4)
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        return self.last(torch.relu(self.inner(x) + self.token))


class Drawn(WithToken):
    def reset_parameters(self):
        nn.init.normal_(self.token)


def test_weights_that_cannot_be_drawn_are_named():
    X = make_X("mlp")
    representation, tap, _ = parts(WithToken(), X)
    with pytest.raises(ValueError, match=r"'module\.token' cannot be drawn.*reference=None"):
        fresh_encoder(representation, tap, 0, X)
    representation, tap, _ = parts(Drawn(), X)
    assert fresh_encoder(representation, tap, 0, X)(representation.tensor(X)).shape == (len(X), 4)


def old_weight_norm(layer):
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.utils.weight_norm(layer)


@pytest.mark.parametrize(
    "norm",
    [parametrizations.weight_norm, parametrizations.orthogonal, spectral_norm, old_weight_norm],
)
def test_reparametrized_weights(norm):
    X = make_X("mlp")
    net = nn.Sequential(norm(nn.Linear(5, 4)), nn.Linear(4, 2))
    before = encode(net, X)
    representation, tap, _ = parts(net, X)
    first, again = (fresh_encoder(representation, tap, 0, X) for _ in range(2))
    other = fresh_encoder(representation, tap, 1, X)
    x = representation.tensor(X)
    z = [encoder(x) for encoder in (first, again, other)]
    assert torch.equal(z[0], z[1])
    assert not torch.allclose(z[0], z[2])
    assert torch.isfinite(z[0]).all()
    with representation.session(), torch.no_grad():
        assert not torch.allclose(z[0], tap(x))
    # As large as a new layer's.
    assert 0.3 < z[0].std() / nn.Linear(5, 4)(x).std() < 6
    np.testing.assert_array_equal(encode(net, X), before)
    z[0].sum().backward()
    trained = [p for p in first.chain.parameters() if p.requires_grad]
    assert len(trained) >= 2
    assert all(p.grad is not None for p in trained)


def test_hooks_of_the_user_do_not_see_the_reference():
    net, X = make_net("mlp"), make_X("mlp")
    seen = []
    net[0].register_forward_hook(lambda *args: seen.append(args))
    representation, tap, _ = parts(net, X)
    n_seen = len(seen)
    fresh_encoder(representation, tap, 0, X)(representation.tensor(X))
    assert len(seen) == n_seen
    assert len(net[0]._forward_hooks) == 1


def test_networks_that_cannot_be_copied():
    class Stubborn(nn.Linear):
        def __deepcopy__(self, memo):
            raise RuntimeError("only one of me")

    X = make_X("mlp")
    representation, tap, _ = parts(nn.Sequential(Stubborn(5, 3), nn.Linear(3, 2)), X)
    with pytest.raises(ValueError, match="only one of me.*reference=None"):
        fresh_encoder(representation, tap, 0, X)


def test_layer_by_default():
    X = make_X("mlp", 30)
    y = (X[:, 0] > 0).astype(int)
    # What has only one linear layer is decoded from what it gives.
    for model in (PCA(2), make_pipeline(StandardScaler(), PCA(2))):
        _, tap, _ = parts(model.fit(X), X)
        assert (tap.at, tap.shape) == ("output", (2,))
    _, tap, _ = parts(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y), X)
    assert (tap.at, tap.shape) == ("output", (1,))
    _, tap, _ = parts(nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), X)
    assert (tap.at, tap.shape) == ("output", (3,))
    _, tap, _ = parts(nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 2)), X)
    assert (tap.at, tap.shape) == ("input", (3,))
    _, tap, _ = parts(RandomForestClassifier(n_estimators=3).fit(X, y), X)
    assert (tap.name, tap.shape) == (None, (2,))


@pytest.mark.parametrize(
    "scaler",
    [
        StandardScaler(),
        make_pipeline(RobustScaler(), MinMaxScaler()),
        ColumnTransformer([("a", StandardScaler(), [3, 1]), ("b", MinMaxScaler(), [0, 4, 2])]),
    ],
)
def test_units_of_the_network(scaler):
    X = make_X("mlp", 30, dtype=np.float64) * [1, 10, 1e-3, 5, 1] + [0, 3, 0, 1e9, 0]
    pipeline = make_pipeline(scaler, PCA(2)).fit(X)
    representation, _, units = parts(pipeline, X)
    entered = pipeline[0].transform(X)
    x = representation.tensor(X)
    found = units.to_network(x).numpy()
    assert units.scaled
    order = np.argsort([3, 1, 0, 4, 2]) if isinstance(scaler, ColumnTransformer) else np.arange(5)
    np.testing.assert_allclose(found, entered[:, order], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(units.to_raw(units.to_network(x)).numpy(), X, rtol=1e-12)
    mean, deviation, low, high = moments(representation, units, X, 7)
    np.testing.assert_allclose(mean, found.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(deviation, found.std(axis=0), rtol=1e-9)
    assert (low, high) == (found.min(), found.max())


def test_units_without_scalers_are_those_of_x():
    net, X = make_net("conv1d"), make_X("conv1d")
    representation, _, units = parts(net, X)
    x = representation.tensor(X)
    assert not units.scaled
    assert units.to_network(x) is x
    # Directions of a PCA are no columns.
    table = make_X("mlp", 20)
    assert not parts(PCA(2).fit(table), table)[2].scaled
