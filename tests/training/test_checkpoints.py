import json
import pickle
import sys

import numpy as np
import pytest
import torch
from skorch import NeuralNet
from skorch.callbacks import LRScheduler
from torch import nn

from sklexplain.nets import Autoencoder, CheckpointHistory
from sklexplain.training import load_weights
from sklexplain.training._checkpoints import save_weights

X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)


def train(history, max_epochs=5, **params):
    callbacks = [history, *params.pop("callbacks", [])]
    torch.manual_seed(0)
    net = NeuralNet(
        nn.Linear,
        nn.MSELoss,
        module__in_features=4,
        module__out_features=4,
        callbacks=callbacks,
        max_epochs=max_epochs,
        lr=0.1,
        train_split=None,
        verbose=0,
        **params,
    )
    return net.fit(X, X)


def test_every_k_epochs():
    history = CheckpointHistory(every=2)
    net = train(history)
    assert history.epochs_ == [2, 4]
    again = train(CheckpointHistory(every=1), max_epochs=4)
    for name, value in again.module_.state_dict().items():
        torch.testing.assert_close(history.checkpoints_[1][0][name], value)
        assert not torch.equal(history.checkpoints_[0][0][name], value)
        assert history.checkpoints_[1][0][name] is not net.module_.state_dict()[name]
    assert [lr for _, lr in history.checkpoints_] == [0.1, 0.1]


def test_learning_rates_are_those_that_the_epochs_began_with():
    history = CheckpointHistory(every=1)
    schedule = LRScheduler(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
    # Whether the scheduler comes before or after.
    train(history, max_epochs=3, callbacks=[schedule])
    assert [lr for _, lr in history.checkpoints_] == pytest.approx([0.1, 0.05, 0.025])


def test_a_new_fit_starts_a_new_history(tmp_path):
    for folder in (None, tmp_path / "run"):
        history = CheckpointHistory(every=2, folder=folder)
        train(history, max_epochs=6)
        train(history, max_epochs=3)
        assert history.epochs_ == [2]
        assert len(history.checkpoints_) == 1
    files = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert files[0] == "checkpoints.json"
    assert len(files) == 2  # no halves, nothing of the longer run


def test_training_goes_on_in_the_same_process_and_in_another(tmp_path):
    history = CheckpointHistory(every=2, folder=tmp_path)
    net = train(history, max_epochs=4)
    net.partial_fit(X, X)
    assert history.epochs_ == [2, 4, 6, 8]
    net.save_params(f_params=tmp_path / "weights", f_history=tmp_path / "history.json")

    resumed = CheckpointHistory(every=2, folder=tmp_path)
    other = NeuralNet(**{**net.get_params(deep=False), "callbacks": [resumed]}).initialize()
    other.load_params(f_params=tmp_path / "weights", f_history=tmp_path / "history.json")
    other.set_params(max_epochs=2)
    other.partial_fit(X, X)
    assert resumed.epochs_ == [2, 4, 6, 8, 10]
    weights = load_weights(resumed.checkpoints_[-1][0])
    torch.testing.assert_close(weights["weight"], other.module_.weight.detach())
    # What is in the folder is found without training.
    found = CheckpointHistory(folder=tmp_path).initialize()
    assert found.epochs_ == resumed.epochs_
    assert found.checkpoints_ == resumed.checkpoints_
    index = json.loads((tmp_path / "checkpoints.json").read_text())
    assert [entry["epoch"] for entry in index] == resumed.epochs_


@pytest.mark.parametrize("installed", [True, False])
def test_files(tmp_path, monkeypatch, installed):
    if installed:
        pytest.importorskip("safetensors")
    else:
        monkeypatch.setitem(sys.modules, "safetensors", None)
        monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    weights = {"a": torch.randn(3, 2).T, "b": torch.tensor(5)}
    path = save_weights(weights, tmp_path / "new" / "weights")
    assert path.suffix == (".safetensors" if installed else ".pt")
    loaded = load_weights(str(path))
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)
    if not installed:
        with pytest.raises(ImportError, match=r"pip install 'sklexplain\[checkpoints\]'"):
            load_weights("x.safetensors")


def test_in_an_autoencoder():
    history = CheckpointHistory(every=1)
    params = {"validation_split": None, "max_epochs": 2, "random_state": 0}
    plain = Autoencoder(n_components=2, **params).fit(X)
    autoencoder = Autoencoder(n_components=2, net_params={"callbacks": [history]}, **params).fit(X)
    np.testing.assert_array_equal(autoencoder.transform(X), plain.transform(X))
    for name, value in autoencoder.net_.module_.state_dict().items():
        assert torch.equal(history.checkpoints_[-1][0][name], value)
    copy = pickle.loads(pickle.dumps(history))
    assert copy.epochs_ == [1, 2]


def test_parameters_in_error():
    with pytest.raises(ValueError, match="The 'every' parameter of CheckpointHistory .* Got 0"):
        train(CheckpointHistory(every=0))
