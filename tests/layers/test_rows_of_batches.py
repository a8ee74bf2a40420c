"""Networks that run a part of themselves on pieces of a batch, or on some samples only."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from sklexplain import (
    ClaDecExplainer,
    DKNNImportance,
    EmbeddingAttributor,
    LabelFreeAttributor,
    NoiseScorer,
    SparseDictionary,
    SRAEExplainer,
    VarianceScorer,
)
from sklexplain.nets import Autoencoder
from sklexplain.scores import ScoreConstraint

X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32) + 3
# Those that go one way come first.
SORTED = X[np.argsort(-X[:, 0])]


class InPieces(nn.Module):
    def __init__(self, size):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.size, self.a, self.out = size, nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.out(torch.cat([torch.tanh(self.a(part)) for part in x.split(self.size)]))


class Routed(nn.Module):
    def __init__(self):
        super().__init__()
        self.b, self.c, self.out = nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x):
        hidden, first = x.new_zeros(len(x), 6), x[:, 0] > 3
        hidden[first] = torch.tanh(self.b(x[first]))
        hidden[~first] = torch.tanh(self.c(x[~first]))
        return self.out(hidden)


BRIEF = {"max_epochs": 2, "random_state": 0}
EXPLAINERS = {
    "dictionary": lambda net, **p: SparseDictionary(net, n_concepts=4, k=2, **BRIEF, **p),
    "concepts": lambda net, **p: SRAEExplainer(net, n_concepts=2, **BRIEF, **p),
    "decoder": lambda net, **p: ClaDecExplainer(
        net, validation_split=None, reference=None, **BRIEF, **p
    ),
    "neighbours": lambda net, **p: DKNNImportance(net, **p),
    "gradients": lambda net, **p: LabelFreeAttributor(net, **p),
    "maps": lambda net, **p: EmbeddingAttributor(net, **p),
    "noise": lambda net, layer, **p: NoiseScorer(net, layers=[layer], random_state=0, **p),
    "variance": lambda net, layer, **p: VarianceScorer(net, layers=[layer], **p),
}


@pytest.mark.filterwarnings("ignore::sklexplain.exceptions.SklexplainWarning")
@pytest.mark.parametrize("name", EXPLAINERS)
def test_a_layer_that_sees_pieces(name):
    """Of more samples than a piece has the numbers would be nobody's; of fewer all is well."""
    explain = EXPLAINERS[name]
    with pytest.raises(ValueError, match=r"layer 'a' has shape \(\d+, 6\) in a batch of .*batch_s"):
        explain(InPieces(16), layer="a").fit(X).transform(X)
    whole, pieces = (
        np.asarray(explain(InPieces(size), layer="a", batch_size=8).fit(X).transform(X))
        for size in (10**9, 16)
    )
    np.testing.assert_array_equal(pieces, whole)


@pytest.mark.parametrize("name", EXPLAINERS)
@pytest.mark.parametrize("samples", [X, SORTED, SORTED[::-1]])
def test_a_layer_that_sees_some_samples_only(name, samples):
    with pytest.raises(ValueError, match=r"layer 'b' (returned|has) shape|'b' is never called"):
        EXPLAINERS[name](Routed(), layer="b").fit(samples)


class Sorted(InPieces):
    def forward(self, x):
        order = x[:, 0].argsort()
        return self.out(torch.tanh(self.a(x[order])))[order.argsort()]


@pytest.mark.parametrize("name", EXPLAINERS)
def test_a_layer_that_sees_samples_in_another_order(name):
    with pytest.raises(ValueError, match="layer 'a' has other rows in another order of the sam"):
        EXPLAINERS[name](Sorted(0), layer="a").fit(X)


@pytest.mark.parametrize("samples", [X, SORTED, SORTED[::-1]])
def test_layers_that_see_some_samples_are_left_out(samples):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        scorer = VarianceScorer(Routed()).fit(samples)
    assert {str(one.message)[:19] for one in heard} == {
        "left out: layer 'b'",
        "left out: layer 'c'",
    }
    assert list(scorer.get_feature_names_out()) == ["out"]
    assert np.isfinite(scorer.transform(samples)).all()


def test_samples_of_one_way_are_not_mistaken_for_others():
    """Fitted on samples that go one way, asked about some that go the other."""
    dictionary = EXPLAINERS["dictionary"](Routed(), layer="b").fit(SORTED[:15])
    with pytest.raises(ValueError, match=r"layer 'b' has shape \(2, 6\) in a batch of 4 samples"):
        dictionary.transform(np.concatenate([SORTED[:2], SORTED[-2:]]))
    with pytest.raises(ValueError, match=r"layer 'b' has shape \(0, 6\) in a batch of 2 samples"):
        dictionary.transform(SORTED[-2:])


def test_constraints_refuse_pieces_of_a_batch():
    class Module(nn.Module):
        def __init__(self, n_components):
            super().__init__()
            self.encoder, self.decoder = InPieces(5), nn.Linear(3, 5)

    estimator = Autoencoder(
        Module, n_components=3, max_epochs=1, net_params={"callbacks": [ScoreConstraint(0.5)]}
    )
    with pytest.raises(ValueError, match="layer .*a' has shape"):
        estimator.fit(X)


def test_the_last_of_several_calls_counts_where_all_samples_are_in_it():
    class Twice(InPieces):
        def forward(self, x):
            return self.out(torch.tanh(self.a(x) + self.a(x / 2)))

    net = Twice(0)
    dictionary = EXPLAINERS["dictionary"](net, layer="a").fit(X)
    with torch.no_grad():
        z = net.a(torch.from_numpy(X) / 2).numpy()
    found = dictionary.inverse_transform(dictionary.transform(X))
    expected = 1 - np.square(z - found).sum() / np.square(z - z.mean(axis=0)).sum()
    assert dictionary.score(X) == pytest.approx(expected, rel=1e-4)
