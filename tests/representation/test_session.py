"""Running a network leaves nothing behind, and nothing from outside gets in."""

import copy
import threading

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from sklexplain.attribution import LabelFreeAttributor
from sklexplain.exceptions import RandomModelWarning
from sklexplain.representation import Representation

from ..cases import NETS, encode, make_net, make_X


def snapshot(net):
    """All that could change, and the identity of what must stay the same object."""
    modules = dict(net.named_modules())
    return {
        "parameters": {k: p.detach().clone() for k, p in net.named_parameters()},
        "same": {k: id(t) for k, t in (*net.named_parameters(), *net.named_buffers())},
        "buffers": {k: b.clone() for k, b in net.named_buffers()},
        "requires_grad": {k: p.requires_grad for k, p in net.named_parameters()},
        "grad": {k: None if p.grad is None else p.grad.clone() for k, p in net.named_parameters()},
        "training": {k: m.training for k, m in modules.items()},
        "hooks": {
            k: (len(m._forward_hooks), len(m._forward_pre_hooks)) for k, m in modules.items()
        },
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1],
        "fast_path": torch.backends.mha.get_fastpath_enabled(),
        "cudnn": torch.backends.cudnn.enabled,
        "grad_mode": torch.is_grad_enabled(),
    }


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key, value in a.items():
        if isinstance(value, dict):
            assert_same(value, b[key])
        elif isinstance(value, (torch.Tensor, np.ndarray)):
            assert (value == b[key]).all()
        else:
            assert value == b[key], key


def mixed_up(net):
    """Give a network a state that is easily lost: mixed modes, frozen weights, gradients."""
    for i, module in enumerate(net.modules()):
        module.training = i % 3 != 0
    for i, parameter in enumerate(net.parameters()):
        parameter.requires_grad_(i % 2 == 0)
        parameter.grad = torch.full_like(parameter, 0.5) if i % 3 == 0 else None
    net.register_forward_hook(lambda *_: None)
    return net


@pytest.mark.parametrize("layer", [None, "first"])
@pytest.mark.parametrize("name", NETS)
def test_nothing_is_left_behind(name, layer):
    net, X = mixed_up(make_net(name)), make_X(name)
    if layer is not None:
        layer = next(k for k, m in net.named_modules() if isinstance(m, (nn.Linear, nn.Conv1d)))
    before = snapshot(net)
    explainer = LabelFreeAttributor(
        net, layer=layer, method="saliency", batch_size=4, random_state=0
    )
    maps = explainer.fit(X).transform(X)
    assert_same(before, snapshot(net))
    np.testing.assert_array_equal(maps, explainer.transform(X))
    assert_same(before, snapshot(net))


def test_networks_left_in_train_mode_are_explained_in_eval_mode():
    net, X = make_net("mlp"), make_X("mlp")
    representation = Representation(net, 5, inputs=X)
    expected = encode(net, X)
    np.testing.assert_allclose(representation.activations(X, 2), expected, rtol=1e-5)


class Failing(nn.Module):
    """A network that leaves a mess and then fails on large batches."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(5)
        self.register_buffer("count", torch.zeros(1))
        self.register_buffer("unset", None)

    def forward(self, x):
        self.norm.running_mean.add_(1)
        self.count = self.count + 1  # another tensor
        self.unset = x
        torch.rand(3)
        if len(x) > 3:
            raise KeyError("too large")
        return self.norm(x)


def test_nothing_is_left_behind_by_an_exception():
    net = mixed_up(Failing())
    before = snapshot(net)
    with pytest.warns(RandomModelWarning, match="changes its own state"):
        representation = Representation(net, 5, inputs=make_X("mlp"))
    assert_same(before, snapshot(net))
    with pytest.raises(KeyError):
        representation.activations(make_X("mlp"), 9)
    assert_same(before, snapshot(net))


class Drawing(nn.Module):
    """A network that draws even in eval mode, as a variational encoder may."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x):
        z = self.layer(x)
        return z + torch.randn_like(z)


def test_draws_depend_on_the_seed_only():
    net, X = Drawing(), make_X("mlp")

    def activations(seed):
        with pytest.warns(RandomModelWarning, match="draws random numbers"):
            return Representation(net, 5, seed=seed, inputs=X).activations(X, 4)

    first = activations(1)
    torch.rand(7)
    state = torch.get_rng_state()
    again = activations(1)
    assert (torch.get_rng_state() == state).all()
    np.testing.assert_array_equal(first, again)
    other = activations(2)
    assert np.abs(first - other).max() > 0.1


def test_spectral_norm_does_not_move():
    net, X = nn.Sequential(spectral_norm(nn.Linear(5, 3))), make_X("mlp")
    before = copy.deepcopy(net.state_dict())
    explainer = LabelFreeAttributor(net, method="saliency", random_state=0).fit(X)
    np.testing.assert_array_equal(explainer.transform(X), explainer.transform(X))
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])


def test_two_threads_explain_one_module():
    net, X = make_net("mlp"), make_X("mlp", 64)
    explainers = [
        LabelFreeAttributor(net, method="saliency", batch_size=8, random_state=i).fit(X)
        for i in range(2)
    ]
    expected = explainers[0].transform(X)
    before, maps = snapshot(net), {}

    def work(i):
        for _ in range(5):
            maps[i] = explainers[i].transform(X)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_same(before, snapshot(net))
    for i in range(2):
        np.testing.assert_array_equal(maps[i], expected)


@pytest.mark.parametrize(
    "context",
    [
        torch.no_grad,
        torch.inference_mode,
        torch.enable_grad,
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    ],
    ids=["no_grad", "inference_mode", "enable_grad", "autocast"],
)
def test_the_callers_context_changes_nothing(context):
    net, X = make_net("transformer"), make_X("transformer")
    expected = LabelFreeAttributor(net, method="saliency", random_state=0).fit(X).transform(X)
    before = snapshot(net)
    with context():
        mode = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        explainer = LabelFreeAttributor(net, method="saliency", random_state=0).fit(X)
        maps = explainer.transform(X)
        assert mode == (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    np.testing.assert_array_equal(maps, expected)
    assert_same(before, snapshot(net))
    np.testing.assert_array_equal(explainer.transform(X), expected)


class InPlace(nn.Module):
    """A network that writes into its input."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x):
        return self.layer(x.mul_(2).relu_())


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "feature_ablation"])
def test_networks_that_write_into_their_input(method):
    class OutOfPlace(InPlace):
        def forward(self, x):
            return self.layer((x * 2).relu())

    X, net, twin = make_X("mlp"), InPlace(), OutOfPlace()
    twin.load_state_dict(net.state_dict())
    before = X.copy()
    maps = [
        LabelFreeAttributor(n, method=method, random_state=0).fit(X).transform(X)
        for n in (net, twin)
    ]
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(*maps)


def test_converted_steps_made_in_inference_mode_have_gradients():
    pipeline = make_pipeline(StandardScaler(), PCA(2)).fit(make_X("mlp"))
    explainer = LabelFreeAttributor(pipeline, method="saliency")
    with torch.inference_mode():
        maps = explainer.fit(make_X("mlp")).transform(make_X("mlp"))
    np.testing.assert_array_equal(explainer.transform(make_X("mlp")), maps)


# -- what a network may return -----------------------------------------------------------------


class Returns(nn.Module):
    """A network that returns what a function makes of its input and a linear layer's output."""

    def __init__(self, function):
        super().__init__()
        self.layer = nn.Linear(5, 2)
        self.function = function

    def forward(self, x):
        return self.function(x, self.layer(x))


@pytest.mark.parametrize(
    ("function", "n_units"),
    [
        (lambda x, z: z[:, 0], 1),
        (lambda x, z: z[:, :1].squeeze(), 1),
        (lambda x, z: z.T, 2),
        (lambda x, z: z[:, None, :, None].expand(-1, 3, -1, 2), 12),
    ],
    ids=["1-D", "squeezed", "batch-last", "4-D"],
)
def test_axis_that_follows_the_samples(function, n_units):
    net, X = Returns(function), make_X("mlp")
    representation = Representation(net, 5, inputs=X)
    z = representation.activations(X, 4)  # the last batch has one sample
    assert z.shape == (9, n_units) == (9, representation.n_units)
    one = np.concatenate([representation.activations(X[i : i + 1], 4) for i in range(9)])
    np.testing.assert_allclose(z, one, rtol=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, z: z @ z.T,
        lambda x, z: z.sum(0),
        lambda x, z: z.flatten(),
        lambda x, z: z.sum(),
        lambda x, z: z.repeat_interleave(2, dim=0),
    ],
    ids=["similarities", "sum", "flat", "scalar", "repeated"],
)
def test_outputs_that_do_not_follow_the_samples(function):
    with pytest.raises(ValueError, match="returned shape .* for two samples .* axis"):
        Representation(Returns(function), 5, inputs=make_X("mlp"))


@pytest.mark.parametrize(
    "function",
    [lambda x, z: z > 0, lambda x, z: z.argmax(1), lambda x, z: z.detach()],
    ids=["bool", "int", "detached"],
)
def test_outputs_without_gradient(function):
    net, X = Returns(function), make_X("mlp")
    with pytest.raises(TypeError, match="Returns, whose output is detached.*feature_ablation"):
        LabelFreeAttributor(net, method="saliency").fit(X)
    explainer = LabelFreeAttributor(net, method="feature_ablation").fit(X)
    assert explainer.transform(X).dtype == np.float32
    z = explainer._representation.activations(X, 4)
    np.testing.assert_allclose(z, np.reshape(encode(net, X), (9, -1)), rtol=1e-5)


def test_complex_outputs_are_refused():
    with pytest.raises(TypeError, match="complex numbers"):
        Representation(Returns(lambda x, z: torch.fft.fft(z)), 5, inputs=make_X("mlp"))


def test_networks_made_in_inference_mode_are_refused():
    with torch.inference_mode():
        net = nn.Linear(5, 3)
    with pytest.raises(ValueError, match="made in torch.inference_mode.*state_dict"):
        Representation(net, 5)
