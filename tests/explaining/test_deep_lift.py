"""DeepLIFT: completeness for every network, and captum's on networks it can handle."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sklexplain.explaining._deep_lift import deep_lift
from tests.cases import NETS, make_net, make_X


class Functional(nn.Module):
    """Nonlinearities as functions, one module used twice, and a product of activations."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 6), nn.Linear(6, 6)
        self.relu = nn.ReLU()

    def forward(self, x):
        a = self.relu(self.first(x))
        b = self.relu(self.second(a))
        gate = torch.sigmoid(a) * b
        return F.normalize(torch.tanh(gate) + gate.softmax(dim=1), dim=1)


def _instance(net, x):
    net = net.double().eval()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    torch.backends.mha.set_fastpath_enabled(False)
    generator = torch.Generator().manual_seed(1)
    references = torch.randn((1, 2, *x.shape[1:]), generator=generator, dtype=torch.float64)
    with torch.no_grad():
        z, z0 = net(x), net(references[0])
    return net, references, z[:, None], (z * (z - z0.mean(dim=0))).sum(dim=1)


@pytest.fixture(autouse=True)
def _fast_path():
    before = torch.backends.mha.get_fastpath_enabled()
    yield
    torch.backends.mha.set_fastpath_enabled(before)


@pytest.mark.parametrize("name", [*sorted(NETS), "functional"])
def test_attributions_sum_to_the_difference_of_outputs(name):
    net = Functional() if name == "functional" else make_net(name)
    x = torch.from_numpy(make_X("mlp" if name == "functional" else name)).double()
    net, references, cotangents, expected = _instance(net, x)
    maps = deep_lift(net, x, references, cotangents)
    total = maps.flatten(1).sum(dim=1)
    # Attention is and normalisation are averaged at 32 nodes; all else is exact.
    torch.testing.assert_close(total, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


@pytest.mark.parametrize("name", sorted(NETS))
def test_batch_equals_one_by_one(name):
    x = torch.from_numpy(make_X(name)).double()
    net, references, cotangents, _ = _instance(make_net(name), x)
    whole = deep_lift(net, x, references, cotangents)
    for i in range(len(x)):
        alone = deep_lift(net, x[i : i + 1], references, cotangents[i : i + 1])
        torch.testing.assert_close(alone[0], whole[i])


@pytest.mark.parametrize(
    "activation", [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.Softplus, nn.LeakyReLU]
)
def test_equals_captum_where_every_nonlinearity_is_a_module_used_once(activation):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), activation(), nn.Linear(6, 6), activation())
    x = torch.from_numpy(make_X("mlp")).double()
    net, references, cotangents, _ = _instance(net, x)

    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x, u):
            return (self.net(x) * u).sum(dim=1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum announces the hooks it sets
        from captum.attr import DeepLift

        expected = DeepLift(Inner()).attribute(
            x, references[0, :1].expand_as(x), additional_forward_args=(cotangents[:, 0],)
        )
    actual = deep_lift(net, x, references[:, :1], cotangents)[:, 0]
    torch.testing.assert_close(actual, expected.detach(), rtol=1e-6, atol=1e-9)


def test_max_pooling_gives_rises_and_falls_to_their_places():
    pool = nn.MaxPool1d(2)
    x = torch.tensor([[[3.0, 0.0, 1.0, 1.0]]], dtype=torch.float64)
    reference = torch.tensor([[[[0.0, 1.0, 1.0, 4.0]]]], dtype=torch.float64)
    maps = deep_lift(lambda x: pool(x).flatten(1), x, reference, torch.ones(1, 1, 2).double())
    # First pair: the maximum rises from 1 to 3, held by entry 0. Second: falls from 4, held by 3.
    torch.testing.assert_close(
        maps[0, 0, 0], torch.tensor([2.0, 0.0, 0.0, -3.0], dtype=torch.float64)
    )
