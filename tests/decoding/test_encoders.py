"""Fresh encoders, and the units that enter the network."""

import warnings
from types import SimpleNamespace

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
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils.parametrizations import spectral_norm

from sklexplain import ClaDecExplainer
from sklexplain.decoding._layer import Layer
from sklexplain.decoding._units import InputUnits
from sklexplain.exceptions import ConvergenceWarning
from sklexplain.layers import LinearMap, copied
from sklexplain.representation import Chain, Representation, convert
from sklexplain.training import arrays_of
from tests.cases import NETS, encode, make_net, make_X


def layer_of(estimator, X, layer=None):
    X = np.asarray(X)
    representation = Representation(estimator, X.shape[1], link=False, inputs=X)
    return Layer.find(representation, layer, X)


@pytest.mark.parametrize("name", sorted(NETS))
def test_fresh_encoder_has_the_architecture_and_other_weights(name):
    net, X = make_net(name), make_X(name)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    layer = layer_of(net, X)
    first, again = (layer.fresh_encoder(0, X) for _ in range(2))
    other = layer.fresh_encoder(1, X)
    x = layer.tensor(X)
    with torch.no_grad():
        z = [encoder.eval()(x) for encoder in (first, again, other)]
    assert z[0].shape == (len(X), *layer.shape)
    assert torch.equal(z[0], z[1])
    assert not torch.allclose(z[0], z[2])
    assert torch.isfinite(z[0]).all()
    with layer.representation.session(), torch.no_grad():
        assert not torch.allclose(z[0], layer.of(x))
    after = net.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert net.training
    # The layers behind it are not trained, all before are.
    trained = {k for k, p in first.chain.named_parameters() if p.requires_grad}
    last = f"module.{layer.name}."
    assert trained
    assert not any(k.startswith(last) for k in trained)


def test_statistics_of_batches_start_anew():
    net, X = make_net("mlp"), make_X("mlp")
    layer = layer_of(net, X)
    encoder = layer.fresh_encoder(0, X)
    norm = next(m for m in encoder.modules() if isinstance(m, nn.BatchNorm1d))
    assert torch.equal(norm.running_mean, torch.zeros(8))
    assert not torch.equal(net[1].running_mean, torch.zeros(8))


def test_linear_maps_of_scikit_learn_become_trainable():
    X = make_X("mlp", 30)
    y = (X[:, 0] > 0).astype(int)
    model = MLPClassifier((6, 3), max_iter=5)
    with pytest.warns(match="converged"):
        pipeline = make_pipeline(StandardScaler(), model).fit(X, y)
    layer = layer_of(pipeline, X)
    assert layer.shape == (3,)
    encoder = layer.fresh_encoder(0, X)
    sizes = [tuple(m.weight.shape) for m in encoder.modules() if isinstance(m, nn.Linear)]
    assert sizes == [(6, 5), (3, 6), (1, 3)]
    assert encoder(layer.tensor(X)).requires_grad
    assert not any(isinstance(m, nn.Linear) for m in layer.representation.chain.modules())


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
    layer = layer_of(WithToken(), X)
    with pytest.raises(ValueError, match=r"'module\.token' cannot be drawn.*reference=None"):
        layer.fresh_encoder(0, X)
    layer = layer_of(Drawn(), X)
    assert layer.fresh_encoder(0, X)(layer.tensor(X)).shape == (len(X), 4)


def old_weight_norm(layer):
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.utils.weight_norm(layer)


def old_spectral_norm(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.spectral_norm(layer)


def pruned(layer):
    prune.l1_unstructured(layer, "weight", 0.5)
    return layer


class Negative(nn.Module):
    def forward(self, weight):
        return -weight


def without_inverse(layer):
    return parametrize.register_parametrization(layer, "weight", Negative())


@pytest.mark.parametrize(
    "norm",
    [
        parametrizations.weight_norm,
        parametrizations.orthogonal,
        spectral_norm,
        old_weight_norm,
        old_spectral_norm,
        pruned,
        without_inverse,
    ],
)
def test_reparametrized_weights(norm):
    X = make_X("mlp")
    net = nn.Sequential(norm(nn.Linear(5, 4)), nn.Linear(4, 2))
    before = encode(net, X)
    layer = layer_of(net, X)
    first, again = (layer.fresh_encoder(0, X) for _ in range(2))
    other = layer.fresh_encoder(1, X)
    x = layer.tensor(X)
    z = [encoder(x) for encoder in (first, again, other)]
    assert torch.equal(z[0], z[1])
    assert not torch.allclose(z[0], z[2])
    assert torch.isfinite(z[0]).all()
    with layer.representation.session(), torch.no_grad():
        assert not torch.allclose(z[0], layer.of(x))
    # As large as a new layer's.
    assert 0.3 < z[0].std() / nn.Linear(5, 4)(x).std() < 6
    np.testing.assert_array_equal(encode(net, X), before)
    z[0].sum().backward()
    trained = [p for p in first.chain.parameters() if p.requires_grad]
    assert len(trained) >= 2
    assert all(p.grad is not None for p in trained)


@pytest.mark.parametrize("norm", [spectral_norm, old_spectral_norm])
def test_spectral_norms_of_drawn_weights_are_one(norm):
    """They keep singular vectors, and those of the trained weights would not do."""
    X, net = make_X("mlp"), nn.Sequential(norm(nn.Linear(5, 4)), nn.Linear(4, 2))
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if "weight" in name:
                weight.copy_(
                    torch.outer(torch.arange(weight.shape[0]), torch.ones(weight.shape[1]))
                )
        for _ in range(20):
            net.train()(torch.as_tensor(X))
    net.eval()
    layer = layer_of(net, X)
    for seed in range(5):
        encoder = layer.fresh_encoder(seed, X)
        encoder(layer.tensor(X))  # the old one computes the weight then
        largest = torch.linalg.matrix_norm(encoder.chain.module[0].weight, 2)
        assert largest.item() == pytest.approx(1, rel=0.05)


RECURRENT = {
    "lstm": (lambda: nn.LSTM(2, 3, batch_first=True), "weight_hh_l0"),
    "attention": (lambda: nn.MultiheadAttention(2, 1, batch_first=True), "in_proj_weight"),
}


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "orthogonal", "old", "pruned"])
def test_reparametrized_layers_with_several_weights(kind, name):
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            make, weight = RECURRENT[name]
            self.layer, self.end = make(), nn.Linear(3 if name == "lstm" else 2, 2)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                if kind == "old":
                    nn.utils.weight_norm(self.layer, weight)
                elif kind == "pruned":
                    prune.l1_unstructured(self.layer, weight, 0.3)
                else:
                    getattr(parametrizations, kind)(self.layer, weight)

        def forward(self, x):
            out = self.layer(x, x, x) if name == "attention" else self.layer(x)
            return self.end(out[0].sum(dim=1))

    torch.manual_seed(0)
    X, weight = np.random.default_rng(0).normal(size=(8, 5, 2)).astype("f"), RECURRENT[name][1]
    net = Around()
    with torch.no_grad():
        for parameter in net.layer.parameters():
            parameter.mul_(7)
        net(torch.as_tensor(X))
    trained = getattr(net.layer, weight).clone()
    layer = layer_of(net, X)
    encoder = layer.fresh_encoder(0, X)
    z = encoder.train()(layer.tensor(X))
    z.sum().backward()
    drawn = getattr(encoder.chain.module.layer, weight)
    assert torch.isfinite(drawn).all() and (drawn - trained).abs().max() > 0.1
    assert not torch.allclose(drawn.flatten()[:4] / trained.flatten()[:4], torch.ones(4), atol=0.01)
    again = copied(encoder)  # in the middle of a pass
    torch.testing.assert_close(again.eval()(layer.tensor(X)), encoder.eval()(layer.tensor(X)))
    saved = layer.saved_encoder(arrays_of(encoder))
    torch.testing.assert_close(saved(layer.tensor(X)), encoder(layer.tensor(X)))


def test_hooks_of_the_user_do_not_see_the_reference():
    net, X = make_net("mlp"), make_X("mlp")
    seen = []
    net[0].register_forward_hook(lambda *args: seen.append(args))
    layer = layer_of(net, X)
    n_seen = len(seen)
    layer.fresh_encoder(0, X)(layer.tensor(X))
    assert len(seen) == n_seen
    assert len(net[0]._forward_hooks) == 1


def test_networks_that_cannot_be_copied():
    class Stubborn(nn.Linear):
        def __deepcopy__(self, memo):
            raise RuntimeError("only one of me")

    X = make_X("mlp")
    layer = layer_of(nn.Sequential(Stubborn(5, 3), nn.Linear(3, 2)), X)
    with pytest.raises(ValueError, match="only one of me.*reference=None"):
        layer.fresh_encoder(0, X)


def test_layer_by_default():
    X = make_X("mlp", 30)
    y = (X[:, 0] > 0).astype(int)
    # What has only one linear layer is decoded from what it gives.
    for model in (PCA(2), make_pipeline(StandardScaler(), PCA(2))):
        layer = layer_of(model.fit(X), X)
        assert (layer.record.at, layer.shape) == ("output", (2,))
    layer = layer_of(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y), X)
    assert (layer.record.at, layer.shape) == ("output", (1,))
    layer = layer_of(nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), X)
    assert (layer.record.at, layer.shape) == ("output", (3,))
    layer = layer_of(nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 2)), X)
    assert (layer.record.at, layer.shape) == ("input", (3,))
    layer = layer_of(RandomForestClassifier(n_estimators=3).fit(X, y), X)
    assert (layer.record, layer.shape) == (None, (2,))


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
    layer = layer_of(pipeline, X)
    entered = pipeline[0].transform(X)
    x, units = layer.tensor(X), layer.units
    found = units.to_network(x).numpy()
    assert units.scaled
    order = np.argsort([3, 1, 0, 4, 2]) if isinstance(scaler, ColumnTransformer) else np.arange(5)
    np.testing.assert_allclose(found, entered[:, order], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(units.to_raw(units.to_network(x)).numpy(), X, rtol=1e-12)
    mean, deviation, low, high = layer.moments(X, 7)
    np.testing.assert_allclose(mean, found.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(deviation, found.std(axis=0), rtol=1e-9)
    assert (low, high) == (found.min(), found.max())


def test_units_without_scalers_are_those_of_x():
    net, X = make_net("conv1d"), make_X("conv1d")
    layer = layer_of(net, X)
    x, units = layer.tensor(X), layer.units
    assert not units.scaled
    assert units.to_network(x) is x
    # Directions of a PCA are no columns.
    table = make_X("mlp", 20)
    assert not layer_of(PCA(2).fit(table), table).units.scaled


class Bent(nn.Module):
    """A converted step that keeps columns apart but is not affine."""

    def __init__(self, is_affine):
        super().__init__()
        self.is_affine = is_affine

    def forward(self, x):
        return x**3

    def column_map(self, n_columns):
        return np.arange(n_columns), np.full(n_columns, 3.0)


@pytest.mark.parametrize("claims", [False, True])
def test_steps_that_are_not_affine_are_no_change_of_units(claims):
    X = make_X("mlp", 30, dtype=np.float64)
    chain = Chain([("bent", Bent(claims)), ("map", LinearMap(np.ones((2, 5))))])
    representation = SimpleNamespace(table=None, chain=chain, tensor=torch.as_tensor)
    assert not InputUnits.of(representation, X).scaled


def test_steps_have_no_column_map_unless_they_say_that_they_are_affine():
    chains = [Chain([("bent", Bent(claims))]) for claims in (False, True)]
    assert [chain.column_map(5) is None for chain in chains] == [True, False]


def test_units_end_before_the_first_step_that_is_not_affine():
    X = make_X("mlp", 30, dtype=np.float64) + 3
    scale = convert(StandardScaler().fit(X))
    chain = Chain([("scale", scale), ("bent", Bent(True)), ("map", LinearMap(np.ones((2, 5))))])
    units = InputUnits.of(SimpleNamespace(table=None, chain=chain, tensor=torch.as_tensor), X)
    x = torch.as_tensor(X)
    torch.testing.assert_close(units.to_network(x), (x - x.mean(0)) / x.std(0, correction=0))
    torch.testing.assert_close(units.to_raw(units.to_network(x)), x)


def test_a_clip_within_which_the_data_are_changes_nothing():
    X = make_X("mlp", 30, dtype=np.float64)
    pipeline = make_pipeline(MinMaxScaler(clip=True), PCA(2)).fit(X)
    layer = layer_of(pipeline, X)
    expected = torch.as_tensor(pipeline[0].transform(X))
    torch.testing.assert_close(layer.units.to_network(layer.tensor(X)), expected)


class Experts(nn.Module):
    """One expert of two, by the sign of the first feature; they keep statistics of batches."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))
        self.second = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        up, z = x[:, 0] > 0, x.new_zeros(len(x), 4)
        for rows, expert in ((up, self.first), (~up, self.second)):
            if rows.any():
                z = z.index_put((rows.nonzero()[:, 0],), expert(x[rows]))
        return self.out(torch.tanh(z))


@pytest.mark.parametrize("step", [1, -1])
def test_weights_that_some_samples_reach_are_trained(step):
    torch.manual_seed(0)
    X = np.random.default_rng(0).normal(size=(300, 6)).astype("float32")
    X = X[np.argsort(X[:, 0])][::step].copy()
    layer = layer_of(Experts().eval(), X)
    encoder = layer.fresh_encoder(0, X)
    trained = {k for k, p in encoder.chain.named_parameters() if p.requires_grad}
    assert {k.split(".")[-3] for k in trained} == {"first", "second"}
    assert {name.split(".")[-2] for name in encoder.counting} == {"first", "second"}
    X[:, 0] = step
    X[200, 0] = -step  # a single sample reaches the other expert
    encoder = layer.fresh_encoder(0, X)
    trained = {k for k, p in encoder.chain.named_parameters() if p.requires_grad}
    assert {k.split(".")[-3] for k in trained} == {"first", "second"}
    assert len(encoder.counting) == 1  # of one sample in a batch there are no statistics
    assert np.isfinite(layer.first_activations(encoder, X[192:208], 0)).all()
    with pytest.warns(ConvergenceWarning):
        reference = ClaDecExplainer(Experts().eval(), max_epochs=1, random_state=0).fit(X)
    assert np.isfinite(reference.reference_loss_curve_).all()


def test_rows_of_a_fit_are_from_all_over():
    X = np.random.default_rng(0).normal(size=(300, 6)).astype("float32")
    X = X[np.argsort(X[:, 0])]
    with pytest.warns(ConvergenceWarning):
        found = ClaDecExplainer(Experts().eval(), reference=None, max_epochs=1).fit(X)
    assert found._rows[0, 0] < 0 < found._rows[-1, 0]


def test_a_layer_that_changes_some_samples_only_is_an_encoding():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(4, 2)

        def forward(self, x):
            return self.out(torch.where(x[:, :1] > 0, x.sin(), x))

    X = np.random.default_rng(0).normal(size=(100, 4)).astype("float32")
    X = X[np.argsort(X[:, 0])]
    assert layer_of(Late().eval(), X).shape == (4,)
    assert layer_of(Late().eval(), X[::-1].copy()).shape == (4,)
