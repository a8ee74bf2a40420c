import pytest
import torch
from torch import nn

from sklexplain.nets import (
    AutoencoderModule,
    Conv1dAutoencoder,
    Conv2dAutoencoder,
    LSTMAutoencoder,
    MLPAutoencoder,
    build_autoencoder,
)
from sklexplain.nets._modules import find_module_class
from sklexplain.nets._net import check_module_shapes
from sklexplain.utils import seeded


@pytest.fixture(autouse=True)
def _same_weights_every_time():
    with seeded(0):
        yield


SHAPES = [
    *[(MLPAutoencoder, shape) for shape in [(7,), (3, 7), (2, 5, 6)]],
    # Odd, even and very short series: each convolution rounds its length up.
    *[(Conv1dAutoencoder, (steps,)) for steps in (1, 2, 3, 4, 5, 8, 17, 30, 140)],
    *[(Conv1dAutoencoder, (3, steps)) for steps in (1, 6, 13)],
    *[(Conv2dAutoencoder, shape) for shape in [(1, 1), (4, 7), (3, 5, 8), (2, 28, 28)]],
    *[(LSTMAutoencoder, shape) for shape in [(9,), (9, 3), (1,)]],
]


@pytest.mark.parametrize(("module_class", "shape"), SHAPES)
def test_codes_and_reconstructions_have_their_shapes(module_class, shape):
    module = build_autoencoder(
        module_class, input_shape=shape, n_components=4, hidden_layer_sizes=(6, 5)
    )
    x = torch.randn(2, *shape)
    assert module.encode(x).shape == (2, 4)
    assert module(x).shape == x.shape
    torch.testing.assert_close(module(x), module.decode(module.encode(x)))
    names = [name for name, _ in module.named_children()]
    assert names == ["encoder", "decoder", "classifier"][: len(names)]


def test_every_parameter_gets_a_gradient():
    for module_class, shape in [
        (MLPAutoencoder, (7,)),
        (Conv1dAutoencoder, (2, 9)),
        (Conv2dAutoencoder, (2, 9, 4)),
    ]:
        module = module_class(shape, 3, (16, 12))
        module.decoder(module.encoder(torch.randn(50, *shape))).square().sum().backward()
        for name, parameter in module.named_parameters():
            assert parameter.grad.abs().sum() > 0, name


def test_mlp_layers_are_mirrored_and_the_code_is_linear():
    module = MLPAutoencoder((10,), 3, (7, 5))
    sizes = [tuple(p.shape) for n, p in module.named_parameters() if n.endswith("weight")]
    assert sizes == [(7, 10), (5, 7), (3, 5), (5, 3), (7, 5), (10, 7)]
    kinds = [type(layer).__name__ for layer in module.encoder]
    assert kinds == ["Flatten", "Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert [n for n, _ in module.encoder.named_children()][-1] == "code"


def test_conv1d_channels_and_strides():
    module = Conv1dAutoencoder((2, 20), 3, (4, 6))
    x = torch.randn(1, 2, 20)
    assert module.encoder[:1](x).shape == (1, 4, 10)
    assert module.encoder[:3](x).shape == (1, 6, 5)
    assert [type(m) for m in module.encoder][:4] == [nn.Conv1d, nn.ReLU, nn.Conv1d, nn.ReLU]
    ups = [m for m in module.decoder if isinstance(m, nn.ConvTranspose1d)]
    assert [(m.in_channels, m.out_channels) for m in ups] == [(6, 4), (4, 2)]
    assert isinstance(module.decoder[-1], nn.ConvTranspose1d)  # no ReLU on the output


def test_one_channel_series_is_the_same_with_and_without_its_axis():
    x = torch.randn(3, 11)
    for module_class, axis in [(Conv1dAutoencoder, 1), (LSTMAutoencoder, 2)]:
        without = module_class((11,), 2)
        with_axis = module_class(tuple(x.unsqueeze(axis).shape[1:]), 2)
        with_axis.load_state_dict(without.state_dict())
        code = without.encoder(x)
        torch.testing.assert_close(with_axis.encoder(x.unsqueeze(axis)), code)
        output = with_axis.decoder(code)
        torch.testing.assert_close(output, without.decoder(code).unsqueeze(axis))


def test_lstm_is_the_papers_network():
    module = LSTMAutoencoder((140,), 16)
    layers = [m for m in module.modules() if isinstance(m, nn.LSTM)]
    assert [(m.input_size, m.hidden_size) for m in layers] == [
        (1, 32),
        (32, 16),
        (16, 16),
        (16, 32),
    ]
    assert (module.decoder.output.in_features, module.decoder.output.out_features) == (32, 1)
    # The code is the last hidden state, and the decoder sees it at every step.
    x = torch.randn(2, 140)
    hidden, _ = module.encoder.lstm1(module.encoder.lstm0(x[:, :, None])[0])
    torch.testing.assert_close(module.encoder(x), hidden[:, -1])
    seen = []
    module.decoder.lstm0.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    code = torch.randn(2, 16)
    module.decoder(code)
    torch.testing.assert_close(seen[0], code[:, None].repeat(1, 140, 1))


def test_series_modules_refuse_images():
    for name, module_class in [("conv1d", Conv1dAutoencoder), ("lstm", LSTMAutoencoder)]:
        with pytest.raises(ValueError, match=f"module='{name}'.* shape \\(n, 1, 8, 8\\)"):
            module_class((1, 8, 8), 2)


def test_conv2d_refuses_series():
    with pytest.raises(ValueError, match=r"module='conv2d' .* X has shape \(n, 9\)"):
        Conv2dAutoencoder((9,), 2)


def test_find_module_class_names_the_nearest():
    assert find_module_class("lstm") is LSTMAutoencoder
    assert find_module_class(MLPAutoencoder) is MLPAutoencoder
    with pytest.raises(ValueError, match="module='conv2' is unknown. Did you mean 'conv2d'"):
        find_module_class("conv2")
    with pytest.raises(ValueError, match="Did you mean 'lstm'"):
        find_module_class("LSTM")
    with pytest.raises(TypeError, match="Linear\\(...\\) is an instance: pass the class"):
        find_module_class(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="module=<class 'int'> must be"):
        find_module_class(int)


class NoDecoder(nn.Module):
    def __init__(self, input_shape):
        super().__init__()
        self.encoder = nn.Linear(*input_shape, 2)


class WrongShapes(nn.Module):
    def __init__(self, n_code=2, n_output=4):
        super().__init__()
        self.encoder = nn.Linear(4, n_code)
        self.decoder = nn.Linear(n_code, n_output)


OURS = {"input_shape": (4,), "n_components": 2, "hidden_layer_sizes": (3,)}


def test_build_refuses_what_is_no_autoencoder():
    with pytest.raises(TypeError, match="NoDecoder has no decoder"):
        build_autoencoder(NoDecoder, **OURS)
    with pytest.raises(TypeError, match="'module__n_coda'.* Did you mean 'module__n_code'"):
        build_autoencoder(WrongShapes, **OURS, n_coda=2)


def test_shapes_are_checked():
    x = torch.randn(2, 4)
    check_module_shapes(build_autoencoder(WrongShapes, **OURS), x, 2)
    with pytest.raises(ValueError, match=r"codes of shape \(n, 3\) .* n_components=2"):
        check_module_shapes(build_autoencoder(WrongShapes, **OURS, n_code=3), x, 2)
    # Without the check this one would be broadcast in the loss, and learn nonsense.
    with pytest.raises(ValueError, match=r"reconstructions of shape \(n, 1\) of X of shape"):
        check_module_shapes(build_autoencoder(WrongShapes, **OURS, n_output=1), x, 2)


def test_class_head():
    module = build_autoencoder(MLPAutoencoder, **OURS, n_classes=5)
    assert isinstance(module, AutoencoderModule)
    x = torch.randn(3, 4)
    torch.testing.assert_close(module.classify(x), module.classifier(module.encode(x)))
    assert module.classify(x).shape == (3, 5)
    assert build_autoencoder(MLPAutoencoder, **OURS).classifier is None
