"""``batch_size="auto"``: the default of all explainers, and what becomes of too little memory."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

import sklexplain
from sklexplain import (
    AnomalyAttributor,
    ClaDecExplainer,
    DKNNImportance,
    EmbeddingAttributor,
    InfluenceImportance,
    LabelFreeAttributor,
    LatentSurrogate,
    NoiseScorer,
    RelevanceMasker,
    SimplExImportance,
    SparseDictionary,
    SRAEExplainer,
    TracInImportance,
    VarianceScorer,
)
from sklexplain.nets import Autoencoder
from sklexplain.report import RepresentationReport

from .cases import make_net

X = np.random.RandomState(0).normal(size=(40, 5)).astype("f")
EXPLAINERS = [getattr(sklexplain, name) for name in sklexplain.__all__ if name[0] != "_"]
FEW = {"max_epochs": 1, "validation_split": None}

pytestmark = pytest.mark.filterwarnings("ignore::sklexplain.exceptions.SklexplainWarning")


SEEN = []  # how many rows networks were given, not their own: a view would have another list


class Narrow(nn.Module):
    """A network that has memory for so many rows at once."""

    def __init__(self, room=None):
        super().__init__()
        self.net, self.room = make_net("mlp"), room

    def forward(self, x):
        SEEN.append(len(x))
        if self.room is not None and len(x) > self.room:
            raise torch.OutOfMemoryError("out of memory")
        return self.net(x)


@pytest.mark.parametrize("cls", [*EXPLAINERS, RepresentationReport])
def test_auto_is_the_default_of_every_explainer(cls):
    assert cls(None).get_params(deep=False)["batch_size"] == "auto"


@pytest.mark.parametrize("cls", [LabelFreeAttributor, DKNNImportance, VarianceScorer])
def test_on_a_cpu_auto_is_1024(cls):
    explainer = cls(make_net("mlp")).fit(X)
    assert explainer.get_params()["batch_size"] == "auto"
    assert explainer._params_at_fit.batch_size == 1024
    expected = np.asarray(_dense(explainer.transform(X)))
    for other in (clone(explainer).fit(X), pickle.loads(pickle.dumps(explainer))):
        np.testing.assert_array_equal(_dense(other.transform(X)), expected)
    explainer.set_params(batch_size=1024)  # as it was saved with before
    np.testing.assert_array_equal(_dense(explainer.transform(X)), expected)


def _dense(values):
    return values.toarray() if hasattr(values, "toarray") else values


def _autoencoder():
    return Autoencoder(n_components=2, hidden_layer_sizes=(3,), random_state=0, **FEW).fit(X)


def own_loss(output, x):
    return output.square().sum(dim=1)


CALLS = {
    "label-free": lambda net: (
        LabelFreeAttributor(net, method_params={"n_steps": 5}).fit(X).transform(X)
    ),
    "lime": lambda net: (
        LabelFreeAttributor(net, method="lime", method_params={"n_samples": 9}, random_state=0)
        .fit(X)
        .transform(X)
    ),
    "relax": lambda net: RelevanceMasker(net, n_masks=9, random_state=0).fit(X).transform(X),
    "embedding": lambda net: EmbeddingAttributor(net).fit(X).transform(X),
    "variance": lambda net: VarianceScorer(net, random_state=0).fit(X).transform(X),
    "noise": lambda net: NoiseScorer(net, random_state=0).fit(X).transform(X),
    "dknn": lambda net: DKNNImportance(net).fit(X).transform(X),
    "simplex": lambda net: SimplExImportance(net).fit(X).transform(X),
    "influence": lambda net: (
        InfluenceImportance(net, loss=own_loss, parameters="all").fit(X).transform(X)
    ),
    "tracin": lambda net: (
        TracInImportance(net, loss=own_loss, parameters="all").fit(X).transform(X)
    ),
    "srae": lambda net: SRAEExplainer(net, random_state=0, **FEW).fit(X).transform(X),
    "dictionary": lambda net: (
        SparseDictionary(net, n_concepts=4, k=2, max_epochs=1, random_state=0).fit(X).transform(X)
    ),
    "cladec": lambda net: (
        ClaDecExplainer(net, reference=None, random_state=0, **FEW).fit(X).transform(X)
    ),
    "surrogate": lambda net: LatentSurrogate(net, random_state=0).fit(X).transform(X),
}


@pytest.mark.parametrize("name", CALLS)
def test_too_little_memory_halves_blocks_and_changes_no_result(name):
    expected = _dense(CALLS[name](Narrow()))
    SEEN.clear()
    found = _dense(CALLS[name](Narrow(room=9)))
    assert max(SEEN) > 9, "nothing was too much"
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_what_was_too_much_is_not_tried_again_and_said_if_verbose(capsys):
    net = Narrow()
    explainer = LabelFreeAttributor(net, verbose=1).fit(X)
    net.room = 30
    maps = explainer.transform(X)
    out = capsys.readouterr().out
    assert "memory was too small" in out and "LabelFreeAttributor" in out
    SEEN.clear()
    np.testing.assert_allclose(explainer.transform(X), maps, rtol=1e-5, atol=1e-7)
    assert max(SEEN) <= 30
    assert not capsys.readouterr().out
    SEEN.clear()
    explainer.set_params(batch_size=5).transform(X)
    assert max(SEEN) <= 5


def test_an_anomaly_attributor_halves_too():
    explainer = AnomalyAttributor(_autoencoder(), score_function="reconstruction").fit(X)
    expected, run = explainer.transform(X), explainer._representation.run

    def narrow(x):
        if len(x) > 9:
            raise torch.OutOfMemoryError
        return run(x)

    explainer._representation.run = narrow
    np.testing.assert_allclose(explainer.transform(X), expected, rtol=1e-4, atol=1e-5)


def test_a_gpu_gets_what_its_memory_holds(monkeypatch):
    explainer = LabelFreeAttributor(make_net("mlp")).fit(X)
    representation = explainer._representation
    monkeypatch.setattr("sklexplain.layers._memory.free_bytes", lambda device: 6 * 10**6)
    monkeypatch.setattr(representation, "device", torch.device("cuda"))
    row = representation.probe.input_bytes + representation.probe.bytes_per_row
    assert representation.probe.input_bytes == X[0].nbytes
    assert explainer._params_at_fit.batch_size == 10**6 // row
    assert representation.block_rows(10**9) == 10**6 // row
    explainer.set_params(batch_size=10)
    assert explainer._params_at_fit.batch_size == representation.block_rows(10) == 10
    assert representation.shrink(10)
    assert explainer._params_at_fit.batch_size == 5
    dknn = DKNNImportance(make_net("mlp")).fit(X)
    monkeypatch.setattr(dknn._representation, "device", torch.device("cuda"))
    assert dknn._params_at_fit.batch_size > dknn._rows_at_once == 1024  # distances are the CPU's
