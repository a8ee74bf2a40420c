import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.exceptions import ConvergenceWarning
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from sklexplain import InfluenceImportance, TracInImportance
from sklexplain.examples import _influence, _linear_system
from sklexplain.exceptions import ChangedModelWarning
from sklexplain.nets import Autoencoder
from tests.cases import NETS, make_reconstructor, make_X

RNG = np.random.default_rng(0)


class Small(nn.Module):
    """An autoencoder whose encoder has few parameters."""

    def __init__(self, activation=nn.Tanh):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 3), activation(), nn.Linear(3, 2))
        self.decoder = nn.Sequential(nn.Linear(2, 5), activation(), nn.Linear(5, 4))

    def forward(self, x):
        return self.decoder(self.encoder(x))


class LinearAutoencoder(nn.Module):
    """Whose loss is quadratic in the encoder's weight."""

    def __init__(self, n=4, k=2, bias=False):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(n, k, bias=bias), nn.Linear(k, n, bias=bias)

    def forward(self, x):
        return self.decoder(self.encoder(x))


def make(kind=Small, **params):
    torch.manual_seed(0)
    return kind(**params).double()


def dense(module, X, names, curvature="hessian"):
    """Curvature of the mean loss, and gradients, by torch.func on the flattened parameters."""
    module = copy.deepcopy(module).eval()
    named = dict(module.named_parameters())
    shapes = [named[name].shape for name in names]
    theta = torch.cat([named[name].detach().flatten() for name in names])
    x = torch.as_tensor(X)

    def output(theta, x):
        parts = theta.split([shape.numel() for shape in shapes])
        new = {k: p.view(s) for k, p, s in zip(names, parts, shapes, strict=True)}
        return torch.func.functional_call(module, new, (x,))

    def loss(theta):
        return (output(theta, x) - x).square().mean()

    def each(theta):
        return torch.stack([(output(theta, s[None]) - s).square().mean() for s in x])

    gradients = torch.autograd.functional.jacobian(each, theta)
    if curvature == "hessian":
        matrix = torch.autograd.functional.hessian(loss, theta)
    else:
        jacobian = torch.autograd.functional.jacobian(lambda t: output(t, x).flatten(), theta)
        matrix = 2 * jacobian.T @ jacobian / jacobian.shape[0]
    return matrix.detach().numpy(), gradients.detach().numpy()


def expected_influence(module, X, X_query, curvature, damping, names=None):
    names = names or [n for n, _ in module.named_parameters() if n.startswith("encoder")]
    matrix, train = dense(module, X, names, curvature)
    _, query = dense(module, X_query, names, curvature)
    inverse = np.linalg.inv(matrix + damping * np.eye(len(matrix)))
    return query @ inverse @ train.T / len(X)


# -- values


@pytest.mark.parametrize("curvature", ["gauss_newton", "hessian"])
@pytest.mark.parametrize("solver", ["exact", "cg"])
@pytest.mark.parametrize("n_train", [5, 14])
def test_against_the_dense_matrix(curvature, solver, n_train):
    module = make()
    X, query = RNG.normal(size=(n_train, 4)), RNG.normal(size=(7, 4))
    damping = 0.01 if curvature == "gauss_newton" else 1.0  # the Hessian is indefinite
    expected = expected_influence(module, X, query, curvature, damping)
    influence = InfluenceImportance(
        module, solver=solver, curvature=curvature, damping=damping, tol=1e-9, batch_size=6
    ).fit(X)
    assert influence.solver_ == solver
    assert influence.residual_ < 1e-8
    np.testing.assert_allclose(
        influence.transform(query), expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max()
    )
    np.testing.assert_allclose(
        influence.self_influence(X), influence.transform(X).diagonal(), rtol=1e-6, atol=1e-12
    )


class PackedEncoder(nn.Module):
    """Stops at each sample's padding."""

    def __init__(self, cell):
        super().__init__()
        self.rnn = cell(2, 2, batch_first=True)

    def forward(self, x):
        lengths = (x != 0).any(dim=2).sum(dim=1)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states = self.rnn(packed)[1]
        return (states[0] if isinstance(states, tuple) else states)[0]


class PackedAutoencoder(nn.Module):
    def __init__(self, cell=nn.GRU):
        super().__init__()
        self.encoder, self.decoder = PackedEncoder(cell), nn.Linear(2, 8)

    def forward(self, x):
        return self.decoder(self.encoder(x)).view(x.shape)


@pytest.mark.parametrize("curvature", ["gauss_newton", "hessian"])
@pytest.mark.parametrize("cell", [nn.GRU, nn.LSTM])
def test_packed_sequences(cell, curvature):
    module = make(PackedAutoencoder, cell=cell)
    X = RNG.normal(size=(7, 4, 2))
    for row, length in zip(X, (4, 1, 2, 3, 4, 1, 2), strict=True):
        row[length:] = 0
    expected = expected_influence(module, X, X, curvature, 1.0)
    influence = InfluenceImportance(module, curvature=curvature, damping=1.0).fit(X)
    np.testing.assert_allclose(
        influence.transform(X), expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max()
    )


@pytest.mark.parametrize("name", sorted(NETS))
def test_networks_of_every_kind(name):
    net, X = make_reconstructor(name, torch.float64), make_X(name, 6, np.float64)
    exact = InfluenceImportance(net, solver="exact", damping=0.05).fit(X)
    cg = InfluenceImportance(net, solver="cg", damping=0.05, tol=1e-9).fit(X)
    assert exact.residual_ < 1e-8  # against products with the curvature, found another way
    matrix = exact.transform(X)
    np.testing.assert_allclose(cg.transform(X), matrix, rtol=1e-5, atol=1e-7 * np.abs(matrix).max())
    bent = InfluenceImportance(net, solver="cg", curvature="hessian", damping=5.0).fit(X[:3])
    assert bent.residual_ < 1e-5


def test_closed_form_of_a_linear_autoencoder():
    module = make(LinearAutoencoder)
    X, query = RNG.normal(size=(30, 4)), RNG.normal(size=(6, 4))
    W, V = (p.detach().numpy() for p in module.parameters())
    # L = mean((V W x - x)^2) is quadratic in W: its Hessian is 2/4 (V'V kron mean xx').
    H = 0.5 * np.kron(V.T @ V, X.T @ X / len(X)) + 1e-3 * np.eye(8)

    def gradient(x):
        return 0.5 * np.outer(V.T @ (V @ W @ x - x), x).ravel()

    train, new = np.array([gradient(x) for x in X]), np.array([gradient(x) for x in query])
    expected = new @ np.linalg.solve(H, train.T) / 30
    for curvature in ("gauss_newton", "hessian"):
        influence = InfluenceImportance(module, curvature=curvature).fit(X)
        np.testing.assert_allclose(influence.transform(query), expected, rtol=1e-6, atol=1e-9)


def test_weights_of_the_net_decay():
    params = {"n_components": 2, "hidden_layer_sizes": (3,), "random_state": 0}
    X = RNG.normal(size=(20, 4)).astype(np.float32)
    autoencoder = Autoencoder(weight_decay=0.2, validation_split=None, max_epochs=2, **params).fit(
        X
    )
    influence = InfluenceImportance(autoencoder, damping=0.1).fit(X)
    assert influence.weight_decay_ == pytest.approx(0.2)
    module = copy.deepcopy(autoencoder.net_.module_).double()
    expected = expected_influence(module, X.astype(float), X.astype(float), "gauss_newton", 0.3)
    np.testing.assert_allclose(influence.transform(X), expected, rtol=1e-3, atol=1e-6)


def test_leaving_examples_out():
    module, rng = make(LinearAutoencoder, n=5, k=2, bias=True), np.random.default_rng(0)
    X = rng.normal(size=(80, 5)) * [3, 2, 1, 1, 1]
    query = rng.normal(size=(6, 5)) * [3, 2, 1, 1, 1]
    damping = 1e-3

    def trained(rows):
        """Minimum over the encoder, the decoder frozen: a least-squares problem."""
        V, c = module.decoder.weight.detach().numpy(), module.decoder.bias.detach().numpy()
        A = np.column_stack([X[rows], np.ones(len(rows))])
        # mean |V B a + c - x|^2 / 5 over the rows, plus damping / 2 |B - B0|^2.
        H = 2 / 5 * np.kron(V.T @ V, A.T @ A / len(X)) + damping * np.eye(12)
        b = 2 / 5 * (V.T @ ((X[rows] - c).T @ A) / len(X)).ravel()
        return np.linalg.solve(H, b).reshape(2, 6)

    def loss(B, x):
        V, c = module.decoder.weight.detach().numpy(), module.decoder.bias.detach().numpy()
        return np.square(np.column_stack([x, np.ones(len(x))]) @ B.T @ V.T + c - x).mean(axis=1)

    best = trained(np.arange(80))
    with torch.no_grad():
        module.encoder.weight.copy_(torch.from_numpy(best[:, :5]))
        module.encoder.bias.copy_(torch.from_numpy(best[:, 5]))
    real = np.stack(
        [loss(trained(np.delete(np.arange(80), i)), query) - loss(best, query) for i in range(80)],
        axis=1,
    )
    found = InfluenceImportance(module, damping=damping).fit(X).transform(query)
    # Not all six: of a sample whose own gradient is almost 0, terms of second order decide.
    agreement = [spearmanr(ours, theirs)[0] for ours, theirs in zip(found, real, strict=True)]
    assert np.median(agreement) >= 0.99


def test_much_damping_leaves_the_gradients_product():
    net, X = make_reconstructor("conv1d", torch.float64), make_X("conv1d", 9, np.float64)
    products = TracInImportance(net).fit(X[:6]).transform(X)
    influence = InfluenceImportance(net, damping=1e6).fit(X[:6]).transform(X)
    np.testing.assert_allclose(influence * 6 * 1e6, products, rtol=1e-4)


def test_duplicates_are_finite_and_share():
    module, X = make(), RNG.normal(size=(10, 4))
    X = np.vstack([X, X[:3], X[:1], X[:1]])
    influence = InfluenceImportance(module, damping=1e-8).fit(X)
    matrix = influence.transform(X)
    assert np.isfinite(matrix).all()
    assert (influence.self_influence(X) >= 0).all()
    np.testing.assert_allclose(matrix[:, 10:13], matrix[:, :3], rtol=1e-3, atol=1e-9)
    left_out = InfluenceImportance(module).fit_transform(X)
    np.testing.assert_array_equal(left_out.diagonal(), left_out.min(axis=1))


@pytest.mark.filterwarnings(
    "ignore:importance is not right"
)  # as few as here are meant to be far off
def test_few_rows_give_the_same_in_the_end():
    net, X = make_reconstructor("conv1d", torch.float64), make_X("conv1d", 40, np.float64)
    exact = InfluenceImportance(net, solver="exact", damping=0.01).fit(X).transform(X[:5])
    all_of_them = InfluenceImportance(net, solver="low_rank", rank=160, damping=0.01).fit(X)
    np.testing.assert_allclose(all_of_them.transform(X[:5]), exact, rtol=1e-8, atol=1e-9)
    errors = []
    for rank in (1, 40, 120):
        few = InfluenceImportance(
            net, solver="low_rank", rank=rank, damping=0.01, random_state=0
        ).fit(X)
        errors.append(np.abs(few.transform(X[:5]) - exact).mean())
        assert few.residual_ > 1e-3
    assert errors[0] > errors[1] > errors[2]


def test_random_pretexts():
    X = RNG.normal(size=(12, 4)).astype(np.float32)
    params = {"n_components": 2, "hidden_layer_sizes": (3,), "max_epochs": 2}
    autoencoder = Autoencoder(
        pretext="denoising", validation_split=None, random_state=0, **params
    ).fit(X)
    exact = InfluenceImportance(autoencoder, n_draws=3, damping=0.1, random_state=0).fit(X)
    assert exact.residual_ < 1e-4
    cg = InfluenceImportance(
        autoencoder, n_draws=3, damping=0.1, solver="cg", tol=1e-5, random_state=0
    ).fit(X)
    matrix = exact.transform(X)
    np.testing.assert_allclose(cg.transform(X), matrix, atol=1e-3 * np.abs(matrix).max())


def test_a_decoder_that_shares_weights_has_no_waist():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(4, 2)

        def forward(self, x):
            return self.encoder(x) @ self.encoder.weight

    module, X = make(Tied), RNG.normal(size=(9, 4))
    expected = expected_influence(module, X, X, "gauss_newton", 0.01)
    influence = InfluenceImportance(module, damping=0.01).fit(X)
    np.testing.assert_allclose(influence.transform(X), expected, rtol=1e-6)
    assert influence.residual_ < 1e-8


def test_parameters_of_the_decoder_too():
    module, X = make(), RNG.normal(size=(9, 4))
    names = [name for name, _ in module.named_parameters()]
    expected = expected_influence(module, X, X, "gauss_newton", 0.01, names)
    influence = InfluenceImportance(module, parameters="all", damping=0.01).fit(X)
    np.testing.assert_allclose(influence.transform(X), expected, rtol=1e-6, atol=1e-12)


class Several(Small):
    """Which returns the code too."""

    def forward(self, x):
        z = self.encoder(x)
        return self.decoder(z), z


def test_networks_that_return_several_tensors():
    several, X = make(Several), RNG.normal(size=(9, 4))
    expected = InfluenceImportance(make(), damping=0.01).fit(X).transform(X)
    found = InfluenceImportance(several, damping=0.01).fit(X).transform(X)
    np.testing.assert_allclose(found, expected)

    def loss(output, x):
        reconstruction, z = output
        return (reconstruction - x).square().mean(dim=1) + z.square().sum(dim=1)

    with pytest.raises(TypeError, match=r"returns tuple; set curvature='hessian'"):
        InfluenceImportance(several, loss=loss).fit(X)

    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = several.encoder, several.decoder

        def forward(self, x):
            return torch.cat(several(x), dim=1)

    def joined_loss(output, x):
        return loss(output.split([4, 2], dim=1), x)

    params = {"curvature": "hessian", "damping": 3.0}
    expected = InfluenceImportance(Joined(), loss=joined_loss, **params).fit(X).transform(X)
    found = InfluenceImportance(several, loss=loss, **params).fit(X).transform(X)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    products = TracInImportance(several, loss=loss).fit(X).transform(X)
    wanted = TracInImportance(Joined(), loss=joined_loss).fit(X).transform(X)
    np.testing.assert_allclose(products, wanted, rtol=1e-6)


# -- choices and warnings


def test_auto_says_what_it_chose(monkeypatch, capsys):
    module, X = make(), RNG.normal(size=(9, 4))
    assert InfluenceImportance(module).fit(X).solver_ == "exact"
    assert InfluenceImportance(module, curvature="hessian", damping=2).fit(X).solver_ == "exact"
    assert not capsys.readouterr().out
    monkeypatch.setattr(_influence, "_MAX_DENSE", 4)
    monkeypatch.setattr(_influence, "_AUTO_PRODUCTS", 4)
    assert InfluenceImportance(module, verbose=1).fit(X).solver_ == "cg"
    said = capsys.readouterr().out
    assert "solver='cg' for 23 parameters, 18 rows of the Jacobian: an exact solution" in said
    assert InfluenceImportance(module, curvature="hessian", damping=2).fit(X).solver_ == "cg"
    with pytest.raises(ValueError, match="solver='exact' would decompose.*'cg'"):
        InfluenceImportance(module, solver="exact").fit(X)
    monkeypatch.setattr(_influence, "_CG_FLOPS", 1)
    with pytest.warns(ConvergenceWarning, match="solver='low_rank' leaves"):
        assert InfluenceImportance(module, rank=4).fit(X).solver_ == "low_rank"
    monkeypatch.setattr(_linear_system, "_ROWS_BYTES", 1)
    with pytest.warns(ConvergenceWarning, match="solver='low_rank' leaves"):
        lowest = InfluenceImportance(module, rank=4).fit(X)  # a single row
    assert lowest.solver_ == "low_rank"
    monkeypatch.setattr(_linear_system, "_MAX_SIZE", 1)
    assert InfluenceImportance(module).fit(X).solver_ == "cg"
    with pytest.raises(ValueError, match="solver='low_rank' decomposes"):
        InfluenceImportance(module, solver="low_rank").fit(X)


def test_auto_is_content_with_less_than_cg(monkeypatch):
    module, X = make(), RNG.normal(size=(30, 4))
    exact = InfluenceImportance(module).fit(X).transform(X[:3])
    monkeypatch.setattr(_influence, "_MAX_DENSE", 4)
    monkeypatch.setattr(_influence, "_AUTO_PRODUCTS", 4)
    auto, cg = InfluenceImportance(module).fit(X), InfluenceImportance(module, solver="cg").fit(X)
    assert cg.residual_ < 1e-5 < auto.residual_ <= 0.05
    np.testing.assert_allclose(cg.transform(X[:3]), exact, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["conv1d", "lstm", "mlp"])
@pytest.mark.parametrize("n_bytes", [1, 2**30])
def test_preconditioned_iterations_against_the_exact_solution(monkeypatch, name, n_bytes):
    """With factors that are kept, and made anew for every product."""
    net, X = make_reconstructor(name, torch.float64), make_X(name, 12, np.float64)
    exact = InfluenceImportance(net, damping=1e-3).fit(X)
    matrix = exact.transform(X[:5])
    monkeypatch.setattr(_influence, "_AUTO_PRODUCTS", 1)
    monkeypatch.setattr(_linear_system, "_ROWS_BYTES", n_bytes)
    monkeypatch.setattr(_linear_system, "_MAX_SKETCH_BYTES", 2**30)
    cg = InfluenceImportance(net, solver="cg", damping=1e-3, tol=1e-10).fit(X)
    assert cg._system.preconditioner is not None
    assert (cg._system.factors is None) == (n_bytes == 1)
    assert cg.residual_ < 1e-8  # against products that run the network
    for _ in range(2):
        np.testing.assert_allclose(
            cg.transform(X[:5]), matrix, rtol=1e-5, atol=1e-7 * np.abs(matrix).max()
        )
        cg = pickle.loads(pickle.dumps(cg))


def test_damping_that_rounding_swallows():
    net, X = make_reconstructor("conv1d", torch.float64), make_X("conv1d", 9, np.float64)
    X = np.vstack([X, X])
    with pytest.raises(ValueError, match="raise damping"):
        InfluenceImportance(net, damping=1e-25).fit(X)


@pytest.mark.parametrize("solver", ["exact", "cg"])
def test_negative_curvature_is_said(solver):
    module, X = make(), RNG.normal(size=(9, 4))
    influence = InfluenceImportance(module, curvature="hessian", solver=solver, damping=1e-6)
    # Conjugate gradients stop there, so they have no solution either.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        influence.fit(X)
    said = " ".join(str(w.message) for w in caught)
    assert "negative in some directions" in said
    assert ("importance is not right" in said) == (solver == "cg") == (influence.residual_ > 0.1)


def test_a_loss_without_curvature_is_said():
    module, X = make(LinearAutoencoder), RNG.normal(size=(9, 4))

    def absolute_error(output, x):
        return (output - x).abs().mean(dim=1)

    influence = InfluenceImportance(module, loss=absolute_error, damping=0.5)
    with pytest.warns(UserWarning, match="curvature of the training loss is 0"):
        influence.fit(X)
    tracin = TracInImportance(module, loss=absolute_error).fit(X)
    np.testing.assert_allclose(influence.transform(X), tracin.transform(X) / (0.5 * 9))


def test_too_few_random_rows_are_said():
    net, X = make_reconstructor("conv1d", torch.float64), make_X("conv1d", 40, np.float64)
    influence = InfluenceImportance(net, solver="low_rank", rank=1, damping=1e-4, random_state=0)
    with pytest.warns(ConvergenceWarning, match="solver='low_rank' leaves"):
        influence.fit(X)
    assert influence.residual_ > 0.5


def test_no_convergence_is_said():
    module, X = make(), RNG.normal(size=(30, 4))
    influence = InfluenceImportance(module, solver="cg", damping=1e-3, max_iter=1)
    with pytest.warns(ConvergenceWarning, match="solver='cg' leaves"):
        influence.fit(X)
    assert influence.residual_ > 0.1
    with pytest.warns(ConvergenceWarning, match="solver='cg' leaves"):
        influence.transform(X[:2])


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        ({"solver": "lissa"}, ValueError, "The 'solver' parameter .* Got 'lissa'"),
        ({"curvature": "hesian"}, ValueError, "Did you mean 'hessian'"),
        ({"damping": 0.0}, ValueError, r"'damping' parameter .* Got 0\.0 instead"),
        ({"tol": "small"}, ValueError, "'tol' parameter .* Got 'small' instead"),
        ({"rank": 0}, ValueError, "'rank' parameter .* Got 0 instead"),
        ({"solver": "low_rank", "curvature": "hessian"}, ValueError, "curvature='hessian'; set"),
    ],
)
def test_parameters_in_error(params, error, match):
    with pytest.raises(error, match=match):
        InfluenceImportance(make(), **params).fit(RNG.normal(size=(9, 4)))


def test_little_memory(monkeypatch):
    module, X = make(), RNG.normal(size=(20, 4))
    for solver in ("exact", "cg"):
        whole = InfluenceImportance(module, solver=solver, damping=0.1).fit(X).transform(X)
        monkeypatch.setattr(_influence, "_ROW_ENTRIES", 60)
        monkeypatch.setattr("sklexplain.examples._gradient_pass._BLOCK_BYTES", 2000)
        monkeypatch.setattr(_linear_system, "_ROOT_BYTES", 100)
        parts = InfluenceImportance(module, solver=solver, damping=0.1, batch_size=3).fit(X)
        np.testing.assert_allclose(parts.transform(X), whole, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(parts.transform(X[:5]), whole[:5], rtol=1e-3, atol=1e-6)


def test_the_network_comes_back():
    net, X = make_reconstructor("lstm"), make_X("lstm")
    state = copy.deepcopy(net.state_dict())
    fused = torch.backends.mkldnn.enabled
    InfluenceImportance(net, curvature="hessian", solver="cg", damping=10.0, tol=1e-3).fit(X)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert all(m.training for m in net.modules())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks for m in net.modules())
    assert torch.backends.mkldnn.enabled == fused


@pytest.mark.parametrize("params", [{}, {"solver": "cg"}])
def test_nothing_is_tried_in_transform(params):
    net, X = make_reconstructor("mlp"), make_X("mlp", 40)
    rows = []
    net.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    influence = InfluenceImportance(net, damping=1.0, **params).fit(X)
    # Six that every explainer needs, and one for the residual; the trial has more samples.
    assert sum(n <= 3 for n in rows) == 7
    rows.clear()
    influence.transform(X[:10])
    assert all(n >= 10 for n in rows)


def test_weights_that_change_are_warned_of():
    module, X = make(), RNG.normal(size=(9, 4))
    influence = InfluenceImportance(module, damping=0.1).fit(X)
    influence.transform(X)
    with torch.no_grad():
        module.encoder[0].weight.mul_(2)
    with pytest.warns(ChangedModelWarning, match="fit it again"):
        influence.transform(X)


CHOICES = [
    ("exact", "gauss_newton", 1e-2),
    ("exact", "hessian", 1.0),
    ("exact", "hessian", 1e-6),  # of negative curvature
    ("low_rank", "gauss_newton", 1e-2),
    ("cg", "gauss_newton", 1e-2),
]


@pytest.mark.filterwarnings("ignore::sklexplain.exceptions.SklexplainWarning")
@pytest.mark.parametrize(("solver", "curvature", "damping"), CHOICES)
def test_saved_and_loaded(solver, curvature, damping):
    X = RNG.normal(size=(20, 4)).astype(np.float32)
    autoencoder = Autoencoder(
        n_components=2,
        hidden_layer_sizes=(3,),
        validation_split=None,
        max_epochs=2,
        weight_decay=0.1,
        random_state=0,
    ).fit(X)
    fitted = InfluenceImportance(
        autoencoder, solver=solver, curvature=curvature, damping=damping
    ).fit(X)
    skops = pytest.importorskip("skops.io")
    saved = skops.dumps(fitted)
    loaded = skops.loads(saved, trusted=skops.get_untrusted_types(data=saved))
    for again in (loaded, pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        np.testing.assert_allclose(again.transform(X), fitted.transform(X), rtol=1e-6)
        np.testing.assert_allclose(again.self_influence(X), fitted.self_influence(X), rtol=1e-6)


@pytest.mark.parametrize("curvature", ["gauss_newton", "hessian"])
def test_errors_of_a_loss_keep_their_type(curvature):
    def loss(output, x):
        raise KeyError("no such thing")

    with pytest.raises(KeyError, match="no such thing") as caught:
        InfluenceImportance(make(), loss=loss, curvature=curvature).fit(RNG.normal(size=(9, 4)))
    assert caught.value.__notes__ == ["raised while running the loss on 6 samples of shape (n, 4)"]
