"""Files that are read back are not trusted: indices of folders, and checkpoints."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from sklexplain import TracInImportance
from sklexplain.nets import Autoencoder, CheckpointHistory

X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)


def train(folder, **params):
    callbacks = {"callbacks": [CheckpointHistory(every=1, folder=folder)]}
    params = {"n_components": 2, "hidden_layer_sizes": (3,), "max_epochs": 2} | params
    return Autoencoder(validation_split=None, net_params=callbacks, **params).fit(X)


def entry(**changes):
    return {"epoch": 3, "lr": 0.001, "file": "epoch00003.safetensors"} | changes


BROKEN = {
    "empty": ("", "no JSON"),
    "cut": ("{", "no JSON"),
    "deep": ("[" * 5000, "no JSON"),
    "bytes": (b"\xff\xfe", "no JSON"),
    "null": ("null", "holds null, not a list"),
    "object": ('{"a": 1}', "holds an object, not a list"),
    "number": ("[1]", "entry 0 is 1, not an object"),
    "missing": ('[{"epoch": 2}]', "entry 0 has no 'lr'"),
    "above": ([entry(file="../precious.txt")], "has the file '../precious.txt'"),
    "absolute": ([entry(file="/precious.txt")], "has the file '/precious.txt'"),
    "folder": ([entry(file="a/epoch00003.pt")], "has the file"),
    "of another epoch": ([entry(file="epoch00004.pt")], "has the file"),
    "no name": ([entry(file=5)], "has the file 5"),
    "text": ([entry(epoch="x")], "has epoch 'x'"),
    "truth": ([entry(epoch=True)], "has epoch True"),
    "zero": ([entry(epoch=0)], "has epoch 0"),
    "rate": ([entry(lr=None)], "has learning rate None"),
    "nan": ([entry(lr=float("nan"))], "has learning rate nan"),
    "rates": ([entry(rates=[1])], r"has the rates \[1\]"),
    "a rate": ([entry(rates={"weight": "x"})], "has learning rate 'x'"),
    "twice": ([entry(), entry()], "epoch 3 comes after epoch 3"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_index_is_refused(tmp_path, name):
    content, message = BROKEN[name]
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "precious.txt").write_text("precious")
    content = json.dumps(content) if isinstance(content, list) else content
    content = content.encode() if isinstance(content, str) else content
    (folder / "checkpoints.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"checkpoints.json is no index .*{message}"):
        train(folder)
    assert (tmp_path / "precious.txt").read_text() == "precious"
    assert (folder / "checkpoints.json").read_bytes() == content


def test_folders_that_cannot_be_are_refused_before_training(tmp_path, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("it was trained")

    monkeypatch.setattr("sklexplain.training.PretextNet.train_step_single", never)
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(NotADirectoryError, match="folder='.*file' is a file"):
        train(file)
    with pytest.raises(NotADirectoryError, match="folder='.*' cannot be written to"):
        train(file / "inside")
    with pytest.raises(OSError, match="folder="):
        train("x" * 1000)
    with pytest.raises(TypeError, match="The 'folder' parameter .* must be a path or None. Got 5"):
        train(5)
    assert file.read_text() == "x"


# -- checkpoints -----------------------------------------------------------------------------------


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4))


def explained(*saved):
    pairs = [(one, 0.1) for one in saved]
    return TracInImportance(network(), parameters="all", checkpoints=pairs).fit(X).transform(X[:2])


def test_weights_in_a_file_are_those_in_memory(tmp_path):
    weights = network().state_dict()
    torch.save(weights, tmp_path / "a.pt")
    torch.save({name: value.double() for name, value in weights.items()}, tmp_path / "b.pt")
    expected = explained(weights)
    np.testing.assert_array_equal(explained(tmp_path / "a.pt"), expected)
    np.testing.assert_allclose(explained(tmp_path / "b.pt"), expected, rtol=1e-6)


def make_files(folder):
    weights = network().state_dict()
    torch.save(weights, folder / "right.pt")
    whole = (folder / "right.pt").read_bytes()
    (folder / "empty.pt").write_bytes(b"")
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (folder / "cut.safetensors").write_bytes(b"abc" * 50)
    (folder / "pickle.pt").write_bytes(pickle.dumps(os.system))
    torch.save(network(), folder / "module.pt")
    torch.save(weights["0.weight"], folder / "tensor.pt")
    torch.save({"model": weights}, folder / "nested.pt")
    torch.save({1: 2}, folder / "numbers.pt")


NAMES = ["empty.pt", "empty.safetensors", "cut.pt", "cut.safetensors", "pickle.pt", "module.pt"]


@pytest.mark.parametrize("name", [*NAMES, "tensor.pt", "nested.pt", "numbers.pt"])
def test_files_that_hold_no_weights(tmp_path, name):
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors")
    make_files(tmp_path)
    with pytest.raises(ValueError, match=r"checkpoints\[1\]: .* holds no weights") as raised:
        explained(tmp_path / "right.pt", tmp_path / name)
    error = raised.value
    while error is not None:  # nowhere torch's advice to run what a file holds
        assert "weights_only" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(IsADirectoryError, match=r"checkpoints\[0\]: .* is a folder"):
        explained(tmp_path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.bool])
def test_weights_are_not_cast_in_silence(dtype):
    weights = {name: value.to(dtype) for name, value in network().state_dict().items()}
    with pytest.raises(ValueError, match=r"checkpoints\[0\] has '0.weight' as torch"):
        explained(weights)
    with pytest.raises(ValueError, match=r"checkpoints\[0\] .* are no tensors"):
        explained({name: 5 for name in weights})
