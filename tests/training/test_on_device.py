"""Training with data that lie on the device: the same batches, losses and weights."""

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch.utils.data import DataLoader

from sklexplain import SRAEExplainer
from sklexplain.nets import Autoencoder, ContrastiveEncoder, VariationalAutoencoder
from sklexplain.training import _on_device

X = np.random.RandomState(0).normal(size=(41, 6)).astype("f")
Y = np.arange(41) % 3
NET = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4)).eval()
SMALL = {"max_epochs": 3, "hidden_layer_sizes": (4,), "random_state": 0}
CASES = {
    "autoencoder": lambda **more: Autoencoder(batch_size=8, **SMALL, **more).fit(X),
    "with labels": lambda **more: Autoencoder(
        batch_size=8, lambda_class=0.5, pretext="denoising", **SMALL, **more
    ).fit(X, Y),
    "variational": lambda **more: VariationalAutoencoder(batch_size=8, **SMALL, **more).fit(X),
    "contrastive": lambda **more: ContrastiveEncoder(batch_size=8, **SMALL, **more).fit(X),
    "concepts": lambda **more: SRAEExplainer(NET, **SMALL, **more).fit(X),
}

pytestmark = pytest.mark.filterwarnings("ignore::sklexplain.exceptions.SklexplainWarning")


def weights(fitted):
    return [p.detach().clone() for p in fitted.net_.module_.parameters()]


def losses(fitted):
    return [fitted.net_.history[:, name] for name in ("train_loss", "valid_loss")]


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Do on the CPU what is done on a GPU; count the batches that came from there."""
    counted = []

    def here(arrays, device):
        return {name: torch.tensor(array) for name, array in arrays.items()}

    for place in ("_array_net", "_split_net"):
        monkeypatch.setattr(f"sklexplain.training.{place}.on_device", here)
    monkeypatch.setattr(_on_device.OnDevice, "_reads_late", lambda net: counted.append(1) or True)
    return counted


@pytest.mark.parametrize("name", CASES)
def test_data_on_the_device_change_no_bit(name, as_on_a_gpu, monkeypatch):
    found = CASES[name]()
    assert len(as_on_a_gpu) == 6  # epochs, of training and of validation
    monkeypatch.undo()
    expected = CASES[name]()
    for one, other in zip(weights(found), weights(expected), strict=True):
        assert torch.equal(one, other)
    assert losses(found) == losses(expected)
    assert all(isinstance(loss, float) for loss in losses(found)[0])


def test_a_cpu_trains_as_before():
    assert _on_device.on_device({"X": X}, torch.device("cpu")) is None


def test_data_that_do_not_fit_stay_where_they_are(monkeypatch):
    monkeypatch.setattr(_on_device, "fits", lambda n_bytes, device: n_bytes < X.nbytes)
    assert _on_device.on_device({"X": X}, torch.device("cuda")) is None


class Asks(Callback):
    def on_batch_end(self, net, **kwargs):
        assert net.history[-1, "batches", -1, "train_loss"] > 0


def test_callbacks_that_ask_for_a_batchs_loss_get_it(monkeypatch):
    params = {"net_params": {"callbacks": [Asks()]}, "validation_split": None}
    net = CASES["autoencoder"](**params).net_
    monkeypatch.setattr(net, "device", "cuda")
    assert not net._reads_late()
    net = CASES["autoencoder"]().net_
    monkeypatch.setattr(net, "device", "cuda")
    assert net._reads_late()
    named = [("all", list(net.module_.named_parameters()))]
    assert net.get_params_for_optimizer("optimizer", named[0][1])[1]["fused"] is True
    net.optimizer__foreach = False
    assert "fused" not in net.get_params_for_optimizer("optimizer", named[0][1])[1]


def test_loaders_that_do_more_are_left_alone():
    data = [(torch.zeros(2), 0.0)] * 5
    assert _on_device.can_stand_in(DataLoader(data, batch_size=2, shuffle=True))
    for options in (
        {"drop_last": True},
        {"collate_fn": lambda batch: batch},
        {"batch_size": None},
        {"sampler": torch.utils.data.SubsetRandomSampler([1, 2])},
    ):
        loader = DataLoader(data, **({"batch_size": 2} | options))
        assert not _on_device.can_stand_in(loader)
    assert not _on_device.can_stand_in(data)
