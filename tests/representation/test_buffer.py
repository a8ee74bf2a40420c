"""Activations of all samples, computed once."""

import gc
import os
import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from sklexplain.layers import activation_buffer
from sklexplain.representation import LayerTap, Representation
from tests.cases import make_net, make_X


def tap_of(estimator, X, layer=None, link=False):
    X = np.asarray(X)
    representation = Representation(estimator, X.shape[1], link=link, inputs=X)
    return LayerTap(representation, layer, X)


def by_hook(net, X, layer, at):
    """A layer's activations by a plain hook, in one pass in eval mode."""
    seen = []
    module = net.get_submodule(layer)
    handle = module.register_forward_hook(lambda m, a, o: seen.append(a[0] if at == "input" else o))
    net.eval()
    with torch.no_grad():
        output = net(torch.as_tensor(X))
    handle.remove()
    net.train()
    return seen[-1].clone().numpy(), output.numpy()


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("mlp", "4"),
        ("conv1d", "5"),
        ("conv2d", "6"),
        ("lstm", "head"),
        ("gru", "head"),
        ("transformer", "head"),
    ],
)
def test_last_linear_and_output_of_the_same_pass(name, last):
    net, X = make_net(name), make_X(name)
    tap = tap_of(net, X)
    assert (tap.name, tap.at) == (last, "input")
    z, output = tap.buffers(X, batch_size=4)
    expected = by_hook(net, X, last, "input")
    np.testing.assert_allclose(z, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(output, expected[1], rtol=1e-5, atol=1e-6)
    assert z.shape == (len(X), *tap.shape)
    assert net.training


@pytest.mark.parametrize("layer", ["0", "1", "3"])
def test_shape_is_kept_and_operations_in_place_do_not_reach_it(layer):
    net, X = make_net("conv2d"), make_X("conv2d")
    tap = tap_of(net, X, layer)
    z, _ = tap.buffers(X, batch_size=100)
    handle = net[2].register_forward_pre_hook(lambda m, a: (a[0].clone(),))  # before the ReLU
    expected = by_hook(net, X, layer, "output")[0]
    handle.remove()
    assert z.shape == expected.shape
    np.testing.assert_allclose(z, expected, rtol=1e-5, atol=1e-6)
    representation = tap._representation
    with representation.session(), torch.no_grad():
        alone = tap(representation.tensor(X)).numpy()
    np.testing.assert_allclose(alone, z, rtol=1e-5, atol=1e-6)


def test_every_sample_runs_once_in_eval_mode():
    net, X = make_net("mlp"), make_X("mlp", 7)
    tap = tap_of(net, X)
    rows = []
    handle = net.register_forward_hook(lambda m, a, o: rows.append((len(o), m.training)))
    tap.buffers(X, batch_size=3)
    handle.remove()
    assert rows == [(3, False), (3, False), (1, False)]


def test_item_of_a_tuple_and_an_axis_of_samples_that_is_not_the_first():
    net, X = make_net("lstm"), make_X("lstm")
    tap = tap_of(net, X, "rnn[1][0]")
    z, _ = tap.buffers(X, batch_size=4)
    sequence, _ = tap_of(net, X, "rnn[0]").buffers(X, batch_size=9)
    assert z.shape == (len(X), 1, 5)
    np.testing.assert_allclose(z[:, 0], sequence[:, -1], rtol=1e-5)


def test_large_buffers_are_in_a_file_that_goes_with_the_array(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    X = torch.arange(12.0).reshape(6, 2)
    buffer = activation_buffer(lambda x: x * 2, X, 4, max_bytes=47)
    assert isinstance(buffer, np.memmap)
    np.testing.assert_array_equal(buffer, 2 * X.numpy())
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(buffer)), 2 * X.numpy())
    del buffer
    gc.collect()
    assert os.listdir(tmp_path) == []
    assert not isinstance(activation_buffer(lambda x: x, X, 4, max_bytes=48), np.memmap)


def test_several_tensors_a_batch():
    X = np.arange(10.0).reshape(5, 2)
    double, total = activation_buffer(
        lambda x: (torch.from_numpy(2 * x), torch.from_numpy(x.sum(1))), X, 2
    )
    np.testing.assert_array_equal(double, 2 * X)
    np.testing.assert_array_equal(total, X.sum(1))


def test_without_link_a_classifier_gives_its_scores():
    X, y = load_iris(return_X_y=True)
    X = X.astype(np.float32)
    linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    _, scores = tap_of(linear, X).buffers(X, 64)
    np.testing.assert_allclose(scores, linear.decision_function(X), rtol=1e-6, atol=1e-6)

    mlp = make_pipeline(StandardScaler(), MLPClassifier((4,), max_iter=2000, random_state=0))
    mlp.fit(X, y)
    z, scores = tap_of(mlp, X).buffers(X, 64)
    assert z.shape == (150, 4)
    proba = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(proba, mlp.predict_proba(X), rtol=1e-6, atol=1e-8)
    _, linked = tap_of(mlp, X, link=True).buffers(X, 64)
    np.testing.assert_allclose(linked, mlp.predict_proba(X), rtol=1e-6, atol=1e-8)

    torch.manual_seed(0)
    net = NeuralNetClassifier(
        nn.Linear(4, 3), criterion=nn.CrossEntropyLoss, max_epochs=1, train_split=None, verbose=0
    ).fit(X, y)
    _, scores = tap_of(net, X).buffers(X, 64)
    np.testing.assert_allclose(scores, net.forward(X).numpy(), rtol=1e-5, atol=1e-6)
    assert (scores < 0).any()


@pytest.mark.parametrize(
    ("layer", "error", "match"),
    [
        ("5.x", ValueError, "is not a submodule of the network"),
        ("heed", ValueError, "Did you mean 'head'"),
        ("rnn", ValueError, r"layer='rnn\[0\]'"),
        (3, TypeError, "must be a string or None"),
    ],
)
def test_wrong_layers(layer, error, match):
    with pytest.raises(error, match=match):
        tap_of(make_net("lstm"), make_X("lstm"), layer)


def test_no_linear_layer_and_no_network():
    with pytest.raises(ValueError, match="no linear layer; name a layer: '0', '1'"):
        net = nn.Sequential(nn.Conv1d(2, 1, 3), nn.Flatten())
        tap_of(net, np.zeros((4, 2, 5), np.float32))
    from sklearn.neighbors import KNeighborsClassifier

    X, y = load_iris(return_X_y=True)
    with pytest.raises(TypeError, match="KNeighborsClassifier has no torch form, so it has no lay"):
        tap_of(KNeighborsClassifier().fit(X, y), X)


def test_never_called():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(5, 2), nn.Linear(5, 2)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(ValueError, match="'idle' is never called"):
        tap_of(Idle(), make_X("mlp"), "idle")
