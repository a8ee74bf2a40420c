"""Decoders are built from shapes, and give what has X's shape."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sklexplain import ClaDecExplainer
from sklexplain.decoding._decoders import DataUnits, Decoding, Latent, make_decoder
from tests.cases import make_net, make_X


@pytest.mark.parametrize(
    ("z_shape", "x_shape", "kind", "channel_axis"),
    [
        ((4,), (5,), "table", None),
        ((3, 4), (5,), "table", None),
        ((4,), (37,), "series", None),
        ((3, 19), (37,), "series", None),
        ((4,), (2, 100), "series", 0),
        ((6, 13), (2, 100), "series", 0),
        ((6, 100), (2, 100), "series", 0),
        ((6, 50), (2, 99), "series", 0),
        ((5,), (40, 3), "series", 1),
        ((40, 7), (40, 3), "series", 1),
        ((1, 5), (40, 3), "series", 1),
        ((10,), (1, 32, 32), "image", 0),
        ((10,), (3, 9, 14), "image", 0),
        ((10,), (9, 14, 3), "image", 2),
        ((16, 4, 4), (1, 32, 32), "image", 0),
        ((16, 3, 3), (1, 28, 28), "image", 0),
        ((8, 28, 28), (1, 28, 28), "image", 0),
        ((10,), (12, 12), "image", None),
        ((3, 3), (2, 3, 4, 5), "table", None),
    ],
)
def test_shapes(z_shape, x_shape, kind, channel_axis):
    decoder = make_decoder(None, z_shape, x_shape, kind, channel_axis)
    z = torch.randn(3, *z_shape)
    assert decoder(z).shape == (3, *x_shape)
    transposed = any(isinstance(m, nn.modules.conv._ConvTransposeNd) for m in decoder.modules())
    # None where there is nothing to double.
    doubled = z_shape not in [(6, 100), (40, 7), (8, 28, 28)]
    assert transposed == (kind != "table" and doubled)
    assert any(isinstance(m, nn.ReLU) for m in decoder.modules())  # never linear
    # Every entry of the activations takes part.
    z.requires_grad_()
    decoder(z).square().sum().backward()
    assert (z.grad.flatten(1).abs().sum(dim=0) > 0).float().mean() > 0.9


def test_positions_stay_where_they_are():
    decoder = make_decoder(None, (4, 8), (1, 64), "series", 0)
    z = torch.zeros(1, 4, 8)
    base = decoder(z)
    z[0, :, 1] = 3.0
    changed = (decoder(z) - base).abs()[0, 0]
    assert changed[:32].max() > 0
    assert changed[40:].max() == 0


@pytest.mark.parametrize(
    ("shape", "per_entry", "axis", "along"),
    [
        ((5,), True, None, 0),
        ((9,), False, None, (0, 1)),
        ((2, 9), False, 0, (0, 2)),
        ((9, 2), False, 1, (0, 1)),
        ((3, 4, 6), False, 0, (0, 2, 3)),
    ],
)
def test_data_units_standardise(shape, per_entry, axis, along):
    X = np.random.RandomState(0).randn(50, *shape) * 7
    X += 100 * np.arange(X.size // 50).reshape(shape)
    units = DataUnits(X.mean(axis=0), X.std(axis=0), per_entry=per_entry, axis=axis)
    standard = (X - X.mean(axis=along, keepdims=True)) / X.std(axis=along, keepdims=True)
    np.testing.assert_allclose(units(torch.as_tensor(standard)).numpy(), X, rtol=1e-10)


def test_built_decoders_start_at_the_mean_of_the_data():
    # Columns of very different units, far from 0, and one that does not vary.
    X = make_X("mlp", 40, dtype=np.float64) * [1, 1e-3, 300, 1, 0] + [0, 0, 2000, -5, 3]
    model = nn.Linear(5, 2, dtype=torch.float64)
    options = {"reference": None, "random_state": 0, "validation_split": None}
    with torch.no_grad():
        model.weight.mul_(1e-4)
    explainer = ClaDecExplainer(model, max_epochs=1, lr=1e-9, **options).fit(X)
    found = explainer.transform(X)
    assert (np.abs(found - X.mean(axis=0)) <= X.std(axis=0)).all()
    np.testing.assert_allclose(found[:, 4], 3)
    assert explainer.score_parts(X)[1] > -0.5


@pytest.mark.parametrize(("kind", "factor"), [("mlp", 1e3), ("conv2d", 1e-3)])
def test_size_of_activations_does_not_matter_to_built_decoders(kind, factor):
    X = make_X(kind, 20)
    layer = nn.Sequential(nn.Flatten(), nn.Linear(X[0].size, 6))
    scaled = copy.deepcopy(layer)
    with torch.no_grad():
        scaled[1].weight.mul_(factor)
        scaled[1].bias.mul_(factor)
    options = {"layer": "1", "reference": None, "validation_split": None, "random_state": 0}
    curves = [
        ClaDecExplainer(net, max_epochs=3, **options).fit(X).loss_curve_ for net in (layer, scaled)
    ]
    np.testing.assert_allclose(*curves, rtol=1e-4)


@pytest.mark.parametrize(
    ("z_shape", "x_shape", "channel_axis"),
    [((40,), (140,), None), ((32, 35), (140,), None), ((5,), (90, 3), 1), ((10,), (3, 40, 40), 0)],
)
def test_small_decoders_are_the_same_with_fewer_channels(z_shape, x_shape, channel_axis):
    kind = "image" if len(x_shape) == 3 else "series"
    full, small = (make_decoder(d, z_shape, x_shape, kind, channel_axis) for d in (None, "small"))
    assert [type(step) for step in full] == [type(step) for step in small]
    channels = [step.out_channels for step in small if hasattr(step, "out_channels")]
    assert max(channels) <= 32 < max(s.out_channels for s in full if hasattr(s, "out_channels"))
    assert small(torch.zeros(2, *z_shape)).shape == (2, *x_shape)


def test_small_decoders_have_units_of_their_own():
    """As those of full size, and unlike the user's modules: first of all they give the mean."""
    X = make_X("conv1d", 20) * 100 + 1000
    net = nn.Sequential(nn.Flatten(), nn.Linear(X[0].size, 6))
    options = {"layer": "1", "reference": None, "validation_split": None, "random_state": 0}
    explainer = ClaDecExplainer(net, decoder="small", max_epochs=1, **options).fit(X)
    assert isinstance(explainer.decoder_[-1], DataUnits)
    assert abs(explainer.transform(X).mean() - X.mean()) < 100


def test_linear_decoder():
    decoder = make_decoder("linear", (2, 3), (4, 5), "series", 0)
    assert sum(p.numel() for p in decoder.parameters()) == 6 * 20 + 20


def test_latent_layer_draws_in_training_only():
    latent = Latent((2, 3), 4)
    z = torch.randn(5, 2, 3)
    latent.eval()
    torch.testing.assert_close(latent(z)[0], latent(z)[0])
    latent.train()
    assert not torch.equal(latent(z)[0], latent(z)[0])
    noise = torch.randn(5, 4)
    mean, log_variance = latent.code(z.flatten(1)).chunk(2, dim=1)
    expected = latent.back(mean + noise * (log_variance / 2).exp()).reshape(5, 2, 3)
    torch.testing.assert_close(latent(z, noise)[0], expected)


def test_cross_entropy_outputs_are_logits():
    decoding = Decoding(nn.Linear(2, 3), loss="cross_entropy")
    output = torch.tensor([[-1.0, 0.0, 5.0]])
    torch.testing.assert_close(decoding.samples(output), output.sigmoid())


class OwnDecoder(nn.Module):
    def __init__(self, z_shape, x_shape):
        super().__init__()
        self.map = nn.Linear(int(np.prod(z_shape)), int(np.prod(x_shape)))
        self.x_shape = x_shape

    def forward(self, z):
        return self.map(z.flatten(1)).reshape(len(z), *self.x_shape)


class FixedDecoder(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(8, 5))


@pytest.mark.parametrize("decoder", [OwnDecoder, FixedDecoder, FixedDecoder()])
def test_own_decoders(decoder):
    net, X = make_net("mlp"), make_X("mlp")
    before = None
    if isinstance(decoder, nn.Module):
        before = [p.clone() for p in decoder.parameters()]
    explainer = ClaDecExplainer(net, decoder=decoder, max_epochs=1, validation_split=None)
    explainer.fit(X)
    assert isinstance(explainer.decoder_, (OwnDecoder, FixedDecoder))
    assert explainer.decoder_ is not decoder
    assert explainer.transform(X).shape == X.shape
    if before is not None:
        assert all(torch.equal(a, b) for a, b in zip(before, decoder.parameters(), strict=True))


@pytest.mark.parametrize(
    ("decoder", "words"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(8, 6)), [r"\(n, 6\)", r"\(n, 8\)", r"\(n, 5\)"]),
        (nn.Linear(7, 5), [r"activations of shape \(n, 8\)"]),
    ],
)
def test_wrong_shapes_are_named(decoder, words):
    net, X = make_net("mlp"), make_X("mlp")
    with pytest.raises(ValueError) as error:
        ClaDecExplainer(net, decoder=decoder).fit(X)
    for word in words:
        assert error.match(word)


def test_what_makes_no_module_is_refused():
    net, X = make_net("mlp"), make_X("mlp")
    with pytest.raises(TypeError, match="must return a torch module"):
        ClaDecExplainer(net, decoder=lambda z_shape, x_shape: 3).fit(X)
    with pytest.raises(TypeError, match="'decoder' parameter of ClaDecExplainer must be .* Got 3"):
        ClaDecExplainer(net, decoder=3).fit(X)
    with pytest.raises(ValueError, match="linear"):
        ClaDecExplainer(net, decoder="liner").fit(X)
