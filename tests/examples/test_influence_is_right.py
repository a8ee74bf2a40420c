"""Influence against finite differences, and what it says where it is not right."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from sklexplain import InfluenceImportance, TracInImportance
from sklexplain.examples._gradients import _N_TRIED
from sklexplain.examples._objective import telling_rows
from sklexplain.exceptions import ConvergenceWarning
from sklexplain.nets import Autoencoder

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4))


class Net(nn.Module):
    """An autoencoder of 4 numbers, its encoder given."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = nn.Sequential(encoder, nn.Tanh())
        self.decoder = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4))

    def forward(self, x):
        return self.decoder(self.encoder(x))


def make(wrap=None):
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    return Net(layer if wrap is None else wrap(layer)).double()


def square(output, x):
    return (output - x).square().mean(dim=1)


def cauchy(output, x):
    """Not convex: bends back beyond a distance of 1."""
    return torch.log1p((output - x).square()).sum(dim=1)


def coupled(output, x):
    """Not convex, and the outputs do not count each for itself."""
    return torch.log1p((output - x).square().sum(dim=1))


def slopes(net, names, x, loss):
    """Gradients of single losses, one by one, on a copy of the network."""
    rows = []
    for i in range(len(x)):
        net.zero_grad()
        loss(net(x[i : i + 1]), x[i : i + 1]).sum().backward()
        named = dict(net.named_parameters())
        rows.append(torch.cat([named[name].grad.flatten() for name in names]))
    return torch.stack(rows).numpy()


def differences(net, names, x, loss, step=1e-5):
    """The Hessian of the mean loss by differences of gradients, which torch does not bend."""
    named, columns = dict(net.named_parameters()), []
    for name in names:
        flat = named[name].data.view(-1)
        for j in range(len(flat)):
            ends = []
            middle = float(flat[j])
            for sign in (1, -1):
                flat[j] = middle + sign * step
                ends.append(slopes(net, names, x, loss).mean(axis=0))
            flat[j] = middle
            columns.append((ends[0] - ends[1]) / (2 * step))
    return np.stack(columns)


def gauss_newton(net, names, x, loss):
    """The mean of JᵀS₊J, sample by sample, in a loop."""
    net = copy.deepcopy(net)
    named = dict(net.named_parameters())
    tensors = [named[name] for name in names]
    total = 0
    for i in range(len(x)):
        output = net(x[i : i + 1])
        rows = []
        for j in range(output.shape[1]):
            grads = torch.autograd.grad(output[0, j], tensors, retain_graph=True)
            rows.append(torch.cat([g.flatten() for g in grads]))
        jacobian = torch.stack(rows).detach().numpy()
        bent = torch.autograd.functional.hessian(
            lambda o, i=i: loss(o[None], x[i : i + 1]).sum(), output[0].detach()
        )
        values, vectors = np.linalg.eigh(bent.numpy())
        total = total + jacobian.T @ (vectors * np.maximum(values, 0)) @ vectors.T @ jacobian
    return total / len(x)


def expected(net, names, matrix, loss, damping):
    g = slopes(net, names, torch.as_tensor(X), loss)
    matrix = matrix + np.diag(np.broadcast_to(damping, len(matrix)))
    return g @ np.linalg.solve(matrix, g.T) / len(X)


WRAPS = {
    "plain": None,
    "weight_norm": parametrizations.weight_norm,
    "weight_norm, columns": lambda layer: parametrizations.weight_norm(layer, dim=1),
    "weight_norm, whole": lambda layer: parametrizations.weight_norm(layer, dim=None),
    "old weight_norm": nn.utils.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": lambda layer: parametrizations.orthogonal(layer, orthogonal_map="cayley"),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("solver", ["exact", "cg"])
@pytest.mark.parametrize("name", WRAPS)
def test_hessians_of_parametrised_weights(name, solver):
    """Torch's own second derivative of weight normalisation is wrong by more than half of it."""
    net = make(WRAPS[name])
    influence = InfluenceImportance(
        net, loss=square, curvature="hessian", solver=solver, damping=1.0, tol=1e-10
    ).fit(X)
    x = torch.as_tensor(X)
    other = make(WRAPS[name]).eval()  # the old one cannot be copied
    matrix = differences(other, influence.parameters_, x, square)
    wanted = expected(other, influence.parameters_, matrix, square, 1.0)
    np.testing.assert_allclose(
        influence.transform(X), wanted, rtol=1e-5, atol=1e-7 * np.abs(wanted).max()
    )
    assert influence.residual_ < 1e-8


class WrongSecond(torch.autograd.Function):
    """A sine whose second derivative is not what it should be."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return (
            gradient * x.cos().detach()
            + 0 * (gradient * x).flip(1)
            + gradient * (x.flip(1) - x.flip(1).detach())
        )


class Wrong(Net):
    def forward(self, x):
        return self.decoder(WrongSecond.apply(self.encoder[0](x)))


@pytest.mark.parametrize("solver", ["exact", "cg"])
def test_second_derivatives_that_contradict_each_other(solver):
    torch.manual_seed(0)
    net = Wrong(nn.Linear(4, 3)).double()
    influence = InfluenceImportance(net, curvature="hessian", solver=solver, damping=2.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        influence.fit(X)
    said = " ".join(str(w.message) for w in caught)
    assert "curvature is not symmetric" in said and "curvature='gauss_newton'" in said


@pytest.mark.parametrize("loss", [cauchy, coupled])
@pytest.mark.parametrize("damping", [1e-3, 0.1])
def test_losses_that_bend_back_are_cut_off_alike(loss, damping):
    """Every solver has the same matrix, that of a loop, and says nothing."""
    net = make()
    matrix = None
    for solver in ("exact", "cg", "low_rank"):
        influence = InfluenceImportance(
            net, loss=loss, solver=solver, damping=damping, tol=1e-10, rank=12 * 3
        ).fit(X)
        if matrix is None:
            names = influence.parameters_
            matrix = gauss_newton(net, names, torch.as_tensor(X), loss)
            wanted = expected(net, names, matrix, loss, damping)
        np.testing.assert_allclose(
            influence.transform(X), wanted, rtol=1e-6, atol=1e-8 * np.abs(wanted).max()
        )
        assert influence.residual_ < 1e-7
    everything = InfluenceImportance(net, loss=loss, parameters="all", damping=damping).fit(X)
    matrix = gauss_newton(net, everything.parameters_, torch.as_tensor(X), loss)
    wanted = expected(net, everything.parameters_, matrix, loss, damping)
    np.testing.assert_allclose(
        everything.transform(X), wanted, rtol=1e-6, atol=1e-8 * np.abs(wanted).max()
    )


@pytest.mark.parametrize("damping", [1e-14, 1e-18, 1e-20, 1e-300])
@pytest.mark.parametrize("parameters", ["encoder", "all"])
@pytest.mark.parametrize("n", [5, 12])
def test_tiny_damping_is_never_silent(damping, parameters, n):
    torch.manual_seed(0)
    net = Net(nn.Linear(4, 3))
    for solver in ("exact", "cg", "low_rank"):
        influence = InfluenceImportance(
            net, damping=damping, parameters=parameters, solver=solver, max_iter=30, rank=500
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                influence.fit(X[:n])
            except ValueError as error:
                assert "raise damping" in str(error)
                continue
        said = any("importance is not right" in str(w.message) for w in caught)
        assert said == (not influence.residual_ <= 0.1)
        assert not any(issubclass(w.category, RuntimeWarning) for w in caught)


def test_one_sentence_for_all_solvers():
    net = make()
    sentences = []
    for params in ({"solver": "cg", "max_iter": 1}, {"solver": "low_rank", "rank": 2}):
        with pytest.warns(ConvergenceWarning, match="importance is not right") as caught:
            InfluenceImportance(net, damping=1e-6, random_state=0, **params).fit(X)
        text = str(caught[0].message)
        sentences.append((text.split("solver=")[0], text.split(", above 0.1")[1]))
    assert sentences[0] == sentences[1]


class Reused(nn.Module):
    """Uses a weight of the encoder again in the decoder, for some samples only."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 3), nn.Linear(3, 4)

    def forward(self, x):
        out, far = self.decoder(self.encoder(x).tanh()), x[:, :1] > 2
        return out + far * (x @ self.encoder.weight.T @ self.encoder.weight) if far.any() else out


@pytest.mark.parametrize("solver", ["exact", "cg"])
def test_parameters_that_act_beside_the_code_for_some_samples(solver):
    """The samples tried are near, so that the encoder's output seems to be a waist."""
    torch.manual_seed(0)
    net, x = Reused().double(), np.clip(X, -1.5, 1.5)
    x[5, 0] = 2.1
    x[0], x[11] = [1.5, 1.5, 1.5, 1.5], [-1.5, -1.5, -1.5, -1.5]
    assert 5 not in telling_rows(x, _N_TRIED)
    influence = InfluenceImportance(net, solver=solver, damping=0.01, tol=1e-10).fit(x)
    names, data = influence.parameters_, torch.as_tensor(x)
    matrix = gauss_newton(net, names, data, square)
    g = slopes(copy.deepcopy(net), names, data, square)
    wanted = g @ np.linalg.solve(matrix + 0.01 * np.eye(len(matrix)), g.T) / 12
    np.testing.assert_allclose(
        influence.transform(x), wanted, rtol=1e-6, atol=1e-8 * np.abs(wanted).max()
    )


# -- settings of parameter groups


GROUPS = [("encoder*", {"weight_decay": 0.5, "lr": 0.05})]


def grouped(**params):
    params = {"n_components": 2, "hidden_layer_sizes": (3,), "max_epochs": 3} | params
    return Autoencoder(
        **params,
        validation_split=None,
        random_state=0,
        weight_decay=0.02,
        net_params={"optimizer__param_groups": GROUPS},
    ).fit(X.astype(np.float32))


@pytest.mark.parametrize("solver", ["exact", "cg", "low_rank"])
@pytest.mark.parametrize("n", [3, 12])
def test_weight_decay_of_each_parameters_group(solver, n):
    """The number of rows is below that of parameters, or above it."""
    autoencoder, x = grouped(), X[:n].astype(np.float32)
    assert InfluenceImportance(autoencoder).fit(x).weight_decay_ == 0.5
    some = InfluenceImportance(autoencoder, parameters=["decoder"], solver=solver, damping=0.1)
    assert some.fit(x).weight_decay_ == pytest.approx(0.02)
    influence = InfluenceImportance(
        autoencoder, parameters="all", solver=solver, damping=0.1, rank=4 * n, tol=1e-9
    ).fit(x)
    decay = [0.5 if name.startswith("encoder") else 0.02 for name in influence.parameters_]
    np.testing.assert_allclose(influence.weight_decay_, decay)
    net, names = copy.deepcopy(autoencoder.net_.module_).double(), influence.parameters_

    single = net.eval()
    named = dict(single.named_parameters())
    shift = np.concatenate(
        [np.full(named[k].numel(), 0.1 + w) for k, w in zip(names, decay, strict=True)]
    )
    data = torch.as_tensor(x).double()
    matrix = gauss_newton(single, names, data, square)
    g = slopes(single, names, data, square)
    wanted = g @ np.linalg.solve(matrix + np.diag(shift), g.T) / n
    np.testing.assert_allclose(influence.transform(x), wanted, rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(influence.self_influence(x), wanted.diagonal(), rtol=2e-4)
    assert influence.residual_ < 1e-4


@pytest.mark.parametrize("kind", [InfluenceImportance, TracInImportance])
def test_numbers_that_are_too_large(kind):
    big = X.copy()
    big[3, 2] = 1e200
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 4)).double()
    explainer = kind(net, parameters="all").fit(X)
    with pytest.raises(ValueError, match="importance for sample 3 is not finite"):
        explainer.self_influence(big)
    with pytest.raises(ValueError, match="not finite"):
        kind(net, parameters="all").fit(big)


def test_checkpoints_of_no_numbers():
    net = make()
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    broken = weights | {"encoder.0.weight": weights["encoder.0.weight"] * float("nan")}
    for checkpoints in ([(broken, 0.1)], [(weights, 1e308)] * 9):
        tracin = TracInImportance(net, checkpoints=checkpoints, parameters="all").fit(X)
        for method in (tracin.transform, tracin.self_influence):
            with pytest.raises(ValueError, match="importance for sample . is not finite"):
                method(1e6 * X)


def test_losses_without_gradient():
    for loss in (
        lambda output, x: (output - x).square().mean(dim=1).detach(),
        lambda output, x: torch.ones(len(x)).double(),
        lambda output, x: 0 * output.sum(dim=1) + 3,
        lambda output, x: (output - x).square().sum(dim=1).round(),
    ):
        for kind in (InfluenceImportance, TracInImportance):
            with pytest.raises(TypeError, match="the loss has no gradient"):
                kind(make(), loss=loss).fit(X)
