"""On a GPU: every explainer gives what it gives on the CPU, wherever network and samples are.

Most of these need one. What leads there is tested without: ``test_auto_batch.py``, and
``training/test_on_device.py``.
"""

import copy
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.speed import _gpu_explainers as problems
from sklexplain import LabelFreeAttributor, SRAEExplainer
from sklexplain.exceptions import SklexplainWarning
from sklexplain.nets import Autoencoder, ContrastiveEncoder, VariationalAutoencoder

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
pytestmark = pytest.mark.filterwarnings("ignore::sklexplain.exceptions.SklexplainWarning")

ROOT = Path(__file__).resolve().parents[1]
LEARNERS = (Autoencoder, VariationalAutoencoder, ContrastiveEncoder)


@pytest.fixture(autouse=True)
def _full_precision():
    """Have convolutions round as on the CPU; by default they round factors to ten bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def assert_alike(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    known = np.isfinite(expected)
    scale = np.abs(expected[known]).max(initial=1e-30)
    np.testing.assert_allclose(found[known] / scale, expected[known] / scale, atol=1e-3)


@needs_gpu
@pytest.mark.parametrize("name", problems.EXPLANATIONS)
def test_every_explainer_equals_the_cpu(name):
    explain = problems.EXPLANATIONS[name]
    assert_alike(explain("cuda"), explain("cpu"))


@needs_gpu
@pytest.mark.parametrize("default", ["cpu", "cuda"])
@pytest.mark.parametrize("name", problems.EXPLANATIONS)
def test_networks_that_are_on_the_gpu_already(name, default, monkeypatch):
    """With ``device=None``; afterwards they are there still, in the mode and with the weights.

    Also where torch makes tensors on the GPU unless another device is named.
    """
    expected, networks = problems.EXPLANATIONS[name]("cpu"), []
    of_kind, learner = problems.network, problems.autoencoder

    def network(kind):
        with torch.device("cpu"):  # for the same draws
            networks.append(of_kind(kind).to("cuda"))
        return networks[-1]

    def autoencoder(kind):
        fitted = learner(kind)
        module = fitted.net_.module_
        fitted.net_.device = "cuda"
        module.to("cuda")
        networks.append(module)
        return fitted

    monkeypatch.setattr(problems, "network", network)
    monkeypatch.setattr(problems, "autoencoder", autoencoder)
    explain = problems._explanations()[name]
    torch.set_default_device(default)
    try:
        found = explain(None)
    finally:
        torch.set_default_device(None)
    assert_alike(found, expected)
    for net in networks:
        assert not net.training
        assert all(p.device.type == "cuda" for p in net.parameters())


@needs_gpu
@pytest.mark.parametrize("kind", [*problems.KINDS, "gru"])
@pytest.mark.parametrize("where", ["cpu", "cuda"])
@pytest.mark.parametrize("device", [None, "cpu", "cuda", torch.device("cuda:0")])
def test_samples_and_networks_anywhere(kind, where, device):
    X = problems.samples(kind)
    expected = LabelFreeAttributor(problems.network(kind)).fit(X).transform(X)
    net = problems.network(kind).to(where)
    state = copy.deepcopy(net.state_dict())
    explainer = LabelFreeAttributor(net, device=device).fit(torch.from_numpy(X).to("cuda"))
    assert_alike(explainer.transform(X), expected)
    assert_alike(explainer.transform(torch.from_numpy(X)), expected)
    assert_alike(explainer.transform(torch.from_numpy(X).to("cuda")), expected)
    for name, tensor in net.state_dict().items():
        assert tensor.device.type == where and torch.equal(tensor, state[name])


@needs_gpu
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_recurrent_networks_keep_cudnn_and_their_mode(kind):
    net = problems.network(kind).to("cuda")
    seen = []

    def look(module, *_):
        seen.append((module.training, module.dropout, torch.backends.cudnn.enabled))

    net.rnn.register_forward_hook(look)
    X = problems.samples(kind)
    before = torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32
    LabelFreeAttributor(net).fit(X).transform(X)
    assert set(seen) == {(True, 0.0, True)}
    assert not net.rnn.training and net.rnn.dropout == 0.3
    assert (torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32) == before


@needs_gpu
@pytest.mark.parametrize("cls", LEARNERS)
@pytest.mark.parametrize("kind", problems.KINDS)
def test_learners_train_as_on_the_cpu(cls, kind):
    X = problems.samples(kind)
    params = {"module": kind, "n_components": 3, "max_epochs": 2, "random_state": 0}
    if kind == "mlp":
        params["hidden_layer_sizes"] = (5,)
    on_cpu, on_gpu = cls(**params).fit(X), cls(**params, device="cuda").fit(X)
    assert next(on_gpu.net_.module_.parameters()).device.type == "cuda"
    losses = [fitted.net_.history[:, "train_loss"] for fitted in (on_gpu, on_cpu)]
    np.testing.assert_allclose(*losses, rtol=1e-2)
    assert_alike(on_gpu.transform(X), on_cpu.transform(X))


@needs_gpu
def test_memory_that_is_short_is_made_do_with():
    X = np.random.RandomState(0).normal(size=(2000, 6)).astype("f")
    net = torch.nn.Sequential(torch.nn.Linear(6, 4000), torch.nn.ReLU(), torch.nn.Linear(4000, 4))
    expected = LabelFreeAttributor(net.eval()).fit(X).transform(X)
    explainer = LabelFreeAttributor(net, device="cuda").fit(X[:50])
    share = 300 * 2**20 / torch.cuda.get_device_properties(0).total_memory
    explainer._representation.limit = None
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        assert_alike(explainer.transform(X), expected)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert explainer._representation.limit is not None


# -- from a GPU to a machine without one -----------------------------------------------------------

LOAD = """
import pickle, sys, warnings
import numpy as np, torch
assert not torch.cuda.is_available()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    with open(sys.argv[1], "rb") as file:
        explainers, X = pickle.load(file)
    found = {}
    for name, explainer in explainers.items():
        values = explainer.transform(X)
        found[name] = values.toarray() if hasattr(values, "toarray") else values
np.savez(sys.argv[2], **found)
"""


@needs_gpu
def test_explainers_fitted_on_a_gpu_are_loaded_where_there_is_none(tmp_path):
    X = problems.samples("mlp")
    explainers, expected = {}, {}
    for cls, params in problems.SAVED.items():
        name = cls.__name__
        model = params.get("model")
        estimator = problems.network("mlp") if model is None else model("mlp")
        params = {key: value for key, value in params.items() if key != "model"}
        explainers[name] = cls(estimator, device="cuda", **params).fit(X)
        values = explainers[name].transform(X)
        expected[name] = values.toarray() if hasattr(values, "toarray") else values
    with open(tmp_path / "saved.pkl", "wb") as file:
        pickle.dump((explainers, X), file)
    paths = tmp_path / "saved.pkl", tmp_path / "found.npz"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", LOAD, *map(str, paths)], check=True, env=environment)
    found = np.load(paths[1])
    for name in expected:
        assert_alike(found[name], expected[name])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("cls", [LabelFreeAttributor, SRAEExplainer])
def test_a_device_that_is_not_here_is_said_and_made_do_without(cls):
    X = problems.samples("mlp")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        params = {} if cls is LabelFreeAttributor else problems.BRIEF
        explainer = cls(problems.network("mlp"), random_state=0, **params).fit(X)
    expected = explainer.transform(X)
    explainer._values_at_fit["device"] = "cuda"  # as if it had been fitted there
    if cls is SRAEExplainer:
        explainer.net_.set_params(device="cpu")
    loaded = pickle.loads(pickle.dumps(explainer))
    with pytest.warns(SklexplainWarning, match="fitted with device='cuda' runs on cpu"):
        found = loaded.transform(X)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(loaded.transform(X), expected)  # said once
