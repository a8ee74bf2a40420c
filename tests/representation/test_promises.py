"""What a network must keep to be explained, and what is kept of it: learnt once, in fit."""

import threading

import numpy as np
import pytest
import torch
from sklearn.ensemble import VotingClassifier
from skorch import NeuralNetClassifier
from torch import nn

from sklexplain import DKNNImportance, LabelFreeAttributor
from sklexplain.exceptions import RandomModelWarning
from sklexplain.representation import Representation

from ..cases import make_net, make_X

X = make_X("mlp", 12)


class Around(nn.Module):
    """A function of a linear layer's output."""

    def __init__(self, function):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layer = nn.Linear(5, 4)
        self.function = function

    def forward(self, x):
        return self.function(self.layer(x))


def represent(net, **params):
    return Representation(net, 5, inputs=X, **params)


# -- a function of one sample ------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda z: z - z.mean(dim=0),
        nn.BatchNorm1d(4, track_running_stats=False),
        lambda z: z.reshape(-1, 4).softmax(dim=0),
    ],
    ids=["mean", "batch norm", "softmax"],
)
def test_networks_that_couple_samples_are_refused(function):
    with pytest.raises(ValueError, match="no function of one sample.*layer='...'"):
        represent(Around(function))


def test_the_layer_before_is_a_function_of_one_sample():
    representation = represent(Around(lambda z: z - z.mean(dim=0)), layer="layer")
    assert representation.n_units == 4


@pytest.mark.parametrize("p", [0.5, 0.1])
def test_networks_that_draw_are_told(p):
    with pytest.warns(RandomModelWarning, match="draws random numbers.*name a layer before"):
        representation = represent(Around(lambda z: nn.functional.dropout(z, p, training=True)))
    assert representation.probe.draws and representation.probe.random


def test_draws_that_do_not_show_leave_the_generator_alone():
    def ignored(z):
        torch.rand(3)
        return z

    state = torch.get_rng_state()
    representation = represent(Around(ignored))
    first, second = (representation.activations(X, 5) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert representation.probe.draws and not representation.probe.random
    np.testing.assert_array_equal(first, second)


def test_networks_that_draw_nothing_do_not_reseed_the_generator():
    representation, drawn = represent(make_net("mlp")), []

    def draw():
        drawn.extend(torch.rand(1).item() for _ in range(2000))

    thread = threading.Thread(target=draw)
    thread.start()
    while thread.is_alive():
        representation.activations(X, 3)
    thread.join()
    assert len(set(drawn)) > 1990


# -- finite ------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [0, 7])
def test_the_sample_that_is_not_finite_is_named(row):
    def broken(z):
        return torch.where(hit(z)[:, None], torch.nan, z)

    net = Around(broken)
    target = net.layer(torch.from_numpy(X[row : row + 1])).detach()

    def hit(z):
        return (z - target).abs().sum(dim=1) < 1e-4

    with pytest.raises(ValueError, match=f"not finite.*for sample {row};"):
        DKNNImportance(net).fit(X)


@pytest.mark.parametrize("row", [1, 9])
def test_numbers_too_large_for_the_network_are_not_blamed_on_it(row):
    large = X.astype(np.float64)
    large[row, 2] = 1e300
    with pytest.raises(ValueError, match=r"values up to 1e\+300, too large for .* float32"):
        DKNNImportance(make_net("mlp")).fit(large)


def test_sums_that_overflow_are_no_alarm():
    representation = represent(Around(lambda z: z * 1e38))
    assert np.isfinite(representation.activations(X, 5)).all()


# -- errors ------------------------------------------------------------------------------------


def failing(error):
    def fail(z):
        raise error

    return Around(fail)


@pytest.mark.parametrize(
    "error", [KeyError("config"), AttributeError("no fc2"), ZeroDivisionError(), MemoryError()]
)
def test_errors_of_the_network_keep_their_type_with_a_note(error):
    with pytest.raises(type(error)) as caught:
        represent(failing(error))
    (note,) = caught.value.__notes__
    assert "while running the network on 3 samples of shape (n, 5)" in note


def test_out_of_memory_can_be_caught():
    with pytest.raises(torch.OutOfMemoryError):
        represent(failing(torch.OutOfMemoryError("out of memory, tried to allocate size 3")))


def test_a_misfit_is_a_value_error_raised_from_the_original():
    with pytest.raises(ValueError, match=r"could not run on X of shape \(n, 5\)") as caught:
        Representation(nn.Linear(4, 2), 5, inputs=X)
    assert isinstance(caught.value.__cause__, RuntimeError)


# -- networks that write into their weights, and those that cannot be viewed -----------------------


class Clipped(nn.Module):
    """A network that clips its own weights whenever it runs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x):
        with torch.no_grad():
            self.layer.weight.clamp_(-0.1, 0.1)
        return self.layer(x)


def test_networks_that_write_into_their_weights_get_copies():
    net = Clipped()
    before = net.layer.weight.detach().clone()
    explainer = LabelFreeAttributor(net, method="saliency").fit(X)
    maps = explainer.transform(X)
    assert torch.equal(net.layer.weight, before)
    expected = LabelFreeAttributor(copy_clipped(net), method="saliency").fit(X).transform(X)
    np.testing.assert_allclose(maps, expected, rtol=1e-6)
    assert torch.equal(net.layer.weight, before)


def copy_clipped(net):
    plain = nn.Linear(5, 3)
    plain.load_state_dict({k: v.clone() for k, v in net.layer.state_dict().items()})
    with torch.no_grad():
        plain.weight.clamp_(-0.1, 0.1)
    return plain


class Closure(nn.Module):
    """A network that calls itself by a closure, past its registry."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.5))
        self.call = lambda x: self.inner(x)

    def forward(self, x):
        return self.call(x)


def test_networks_that_cannot_be_viewed_are_run_and_put_back():
    net = Closure().train()
    explainer = LabelFreeAttributor(net, method="saliency").fit(X)
    assert not explainer._representation.viewed and explainer._representation.obstacles
    expected = LabelFreeAttributor(net.inner, method="saliency").fit(X).transform(X)
    np.testing.assert_allclose(explainer.transform(X), expected, rtol=1e-6)
    assert net.training and net.inner[1].training
    assert all(p.requires_grad for p in net.parameters())


def test_estimators_with_networks_inside_are_put_back():
    def classifier():
        module = nn.Sequential(nn.Linear(5, 2), nn.Softmax(dim=1)).double()
        return NeuralNetClassifier(module, max_epochs=1, verbose=0, train_split=None)

    X = make_X("mlp", 12, dtype=np.float64)
    y = (X[:, 0] > 0).astype(np.int64)
    voting = VotingClassifier([("a", classifier()), ("b", classifier())], voting="soft").fit(X, y)
    modules = [net.module_ for net in voting.estimators_]
    for module in modules:
        module.train()
    explainer = LabelFreeAttributor(voting, method="feature_ablation").fit(X)
    explainer.transform(X)
    assert not explainer._representation.viewed
    assert all(module.training for module in modules)


def test_four_threads_explain_with_one_explainer():
    explainer = LabelFreeAttributor(make_net("lstm"), method="saliency").fit(make_X("lstm", 12))
    expected, found = explainer.transform(make_X("lstm", 12)), []

    def work():
        found.extend(explainer.transform(make_X("lstm", 12)) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    for maps in found:
        np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=1e-7)


def test_weights_that_change_during_a_call_are_an_error():
    net, entered, changed = make_net("mlp"), threading.Event(), threading.Event()
    explainer = DKNNImportance(net).fit(X)

    def train():
        entered.wait(10)
        with torch.no_grad():
            next(net.parameters()).add_(1)
        changed.set()

    thread = threading.Thread(target=train)
    thread.start()

    def wait(*_):
        entered.set()
        changed.wait(10)

    handle = net.register_forward_hook(wait)
    with pytest.raises(RuntimeError, match="weights changed while it was being explained"):
        explainer.transform(X)
    handle.remove()
    thread.join()
