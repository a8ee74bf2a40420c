"""What a network does for some samples only, and not for those that it was tried on."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from sklexplain import (
    AnomalyAttributor,
    ClaDecExplainer,
    DKNNImportance,
    EmbeddingAttributor,
    LabelFreeAttributor,
    NoiseScorer,
    SimplExImportance,
    SparseDictionary,
    VarianceScorer,
)

RNG = np.random.default_rng(0)
BRIEF = {"max_epochs": 2, "random_state": 0}
pytestmark = pytest.mark.filterwarnings("ignore::sklexplain.exceptions.ConvergenceWarning")


def drawn(module, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return module().eval()


# -- rows in another order -------------------------------------------------------------------------


class ByLength(nn.Module):
    """Sorts samples by their length, and puts its output back in order."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(1, 6, batch_first=True)
        self.norm, self.out = nn.LayerNorm(6), nn.Linear(6, 2)

    def forward(self, x):
        lengths, order = (x != 0).sum(1).clamp(min=1).sort(descending=True, stable=True)
        packed = pack_padded_sequence(x[order][..., None], lengths, batch_first=True)
        return self.out(self.norm(self.rnn(packed)[1][0]))[order.argsort()]


LENGTHS = np.full(60, 8)
LENGTHS[[5, 18, 40]] = 3, 4, 2  # none of those that are tried
SERIES = ((RNG.normal(size=(60, 8)) + 0.1) * (np.arange(8) < LENGTHS[:, None])).astype(np.float32)
ASKED = SERIES[[5, 0, 1, 18]]
LOOKING = {
    "neighbours": lambda net: DKNNImportance(net, layer="norm", n_neighbors=1),
    "gradients": lambda net: LabelFreeAttributor(net, layer="norm"),
    "ablation": lambda net: LabelFreeAttributor(net, layer="norm", method="feature_ablation"),
    "dictionary": lambda net: SparseDictionary(net, layer="norm", n_concepts=4, k=2, **BRIEF),
    "decoder": lambda net: ClaDecExplainer(net, layer="norm", reference=None, **BRIEF),
    "maps": lambda net: EmbeddingAttributor(net, layer="norm"),
    "variance": lambda net: VarianceScorer(net, layers=["norm"]),
    "noise": lambda net: NoiseScorer(net, layers=["norm"], random_state=0),
}


@pytest.mark.filterwarnings("ignore::sklexplain.exceptions.SklexplainWarning")
@pytest.mark.parametrize("name", LOOKING)
def test_a_layer_behind_a_sort(name):
    net = drawn(ByLength)
    with pytest.raises(ValueError, match="'norm' has other rows in another order of the samples"):
        LOOKING[name](net).fit(SERIES).transform(ASKED)


def test_its_output_is_in_order():
    net = drawn(ByLength)
    explainer = DKNNImportance(net, n_neighbors=2).fit(SERIES)
    found = explainer.top_examples(ASKED, k=1)[1].ravel()
    np.testing.assert_array_equal(found, [5, 0, 1, 18])


# -- a layer that is called more often -------------------------------------------------------------


class Loop(nn.Module):
    """Shrinks large samples with a layer that it reads once more in the end."""

    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, h):
        while (large := h.abs().amax(1, keepdim=True) > 2).any():
            h = torch.where(large, 0.5 * h + 0.05 * torch.tanh(self.layer(h)), h)
        return self.out(torch.tanh(self.layer(h)))


def test_the_last_call_of_a_layer_counts_however_many_there_are():
    net, X = drawn(Loop), RNG.normal(size=(60, 4)).clip(-1.9, 1.9).astype(np.float32)
    asked, last = np.array([[9, 1, 0, -1], [0, 1, 0, 1]], dtype=np.float32), []
    for one in torch.from_numpy(asked):
        seen = []
        handle = net.layer.register_forward_hook(lambda _m, _i, z, seen=seen: seen.append(z))
        net(one[None])
        handle.remove()
        last.append(seen[-1].detach().numpy()[0])
    assert len(seen) == 1
    representation = DKNNImportance(net, layer="layer").fit(X)._representation
    np.testing.assert_allclose(representation.activations(asked, 10), last, rtol=1e-5, atol=1e-6)
    dictionary = SparseDictionary(net, layer="layer", n_concepts=6, k=2, **BRIEF).fit(X)
    with dictionary._representation.session(), torch.no_grad():
        np.testing.assert_allclose(dictionary._activations(asked), last, rtol=1e-5, atol=1e-6)


# -- a network that writes into its input, or its weights ------------------------------------------


class Clamps(nn.Module):
    def __init__(self, in_place=True):
        super().__init__()
        self.layer, self.in_place = nn.Linear(4, 3), in_place

    def forward(self, x):
        if not self.in_place:
            x = x.clamp(max=3)
        elif x.max() > 3:
            x.clamp_(max=3)
        return torch.tanh(self.layer(x))


X = RNG.normal(size=(50, 4)).clip(-2, 2).astype(np.float32)
LARGE = X[:3].copy()
LARGE[2, 1] = 9
WRITING = {
    "saliency": lambda net: LabelFreeAttributor(net, method="saliency"),
    "product": lambda net: LabelFreeAttributor(net, method="input_x_gradient"),
    "gradients": lambda net: LabelFreeAttributor(net),
    "smooth": lambda net: LabelFreeAttributor(net, method="smooth_grad", random_state=0),
    "neighbours": lambda net: DKNNImportance(net),
    "mixtures": lambda net: SimplExImportance(net),
    "noise": lambda net: NoiseScorer(net, random_state=0),
}


@pytest.mark.filterwarnings("ignore::sklexplain.exceptions.SklexplainWarning")
@pytest.mark.parametrize("name", WRITING)
@pytest.mark.parametrize("training", [X, np.concatenate([X, LARGE[2:], X])])
def test_a_network_that_writes_into_some_samples(name, training):
    results = []
    for in_place in (True, False):
        net = drawn(Clamps)
        net.in_place = in_place
        given, asked = training.copy(), LARGE.copy()
        result = WRITING[name](net).fit(given).transform(asked)
        results.append(result.toarray() if hasattr(result, "toarray") else result)
        np.testing.assert_array_equal(given, training)
        np.testing.assert_array_equal(asked, LARGE)
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-7)


class Rebuilds(nn.Module):
    def __init__(self, in_place=True):
        super().__init__()
        self.encoder, self.decoder, self.in_place = nn.Linear(4, 2), nn.Linear(2, 4), in_place

    def forward(self, x):
        x = x.clamp_(-3, 3) if self.in_place else x.clamp(-3, 3)
        return self.decoder(torch.tanh(self.encoder(x)))


def test_residuals_are_those_of_the_sample_as_it_was():
    many = RNG.normal(size=(200, 4)).clip(-2, 2).astype(np.float32)
    found, expected = (
        AnomalyAttributor(drawn(lambda p=p: Rebuilds(p)), random_state=0).fit(many)
        for p in (True, False)
    )
    np.testing.assert_allclose(found.score_samples(LARGE), expected.score_samples(LARGE), rtol=1e-5)
    np.testing.assert_allclose(found.transform(LARGE), expected.transform(LARGE), rtol=1e-4)
    net = drawn(Rebuilds)
    errors = np.square(LARGE - net(torch.from_numpy(LARGE.copy())).detach().numpy()).mean(axis=1)
    np.testing.assert_allclose(found.score_samples(LARGE), -errors, rtol=1e-5)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.lookup, self.out = nn.Embedding(20, 4, max_norm=1.0), nn.Linear(4, 3)
        with torch.no_grad():
            self.lookup.weight.mul_(0.2)
            self.lookup.weight[15:] *= 20

    def forward(self, x):
        return self.out(self.lookup(x).mean(1))


def test_a_lookup_that_clips_later_leaves_the_weights():
    net = drawn(Tokens)
    before = net.lookup.weight.detach().clone()
    explainer = DKNNImportance(net).fit(RNG.integers(0, 15, (60, 5)))
    explainer.transform(RNG.integers(15, 20, (4, 5)))
    torch.testing.assert_close(net.lookup.weight, before, rtol=0, atol=0)


def test_lengths_that_depend_on_the_batch():
    class Trims(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.out = nn.Conv1d(1, 3, 1), nn.Linear(3, 2)

        def forward(self, x):
            x = x[:, : int((x != 0).sum(dim=1).max())]
            return self.out(self.conv(x[:, None]).mean(dim=2))

    explainer = EmbeddingAttributor(drawn(Trims), layer="conv").fit(SERIES)
    assert explainer.transform(SERIES).shape == (60, 8)
    with pytest.raises(ValueError, match=r"layer 'conv' has shape \(3, 4\).* and had \(3, 8\)"):
        explainer.transform(SERIES[[5, 18]])
