"""Any named submodule can be what is explained."""

import collections
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklexplain import ClaDecExplainer, DKNNImportance, EmbeddingAttributor, VarianceScorer
from sklexplain.layers import first_tensor, mapped, parse_path, pick
from sklexplain.nets import Autoencoder
from sklexplain.representation import Probe, Representation, layer_table

from ..cases import NETS, make_net, make_X

X = np.random.RandomState(0).normal(size=(12, 4)).astype("f")
Y = np.arange(12) % 3


def latent(estimator, X, layer):
    representation = Representation(estimator, X.shape[1], layer=layer, inputs=X)
    return representation.activations(X, 5)


def run(module, *inputs):
    with torch.no_grad():
        return module.eval()(*[torch.as_tensor(x) for x in inputs])


def flat(z):
    return z.detach().numpy().reshape(len(z), -1)


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_every_submodule_that_returns_one_tensor(name):
    net, samples = make_net(name), make_X(name)
    outputs = {}
    hooks = [
        m.register_forward_hook(lambda _m, _i, out, key=key: outputs.update({key: out}))
        for key, m in net.named_modules()
    ]
    # As a session runs it: attention's fast path skips submodules.
    torch.backends.mha.set_fastpath_enabled(False)
    run(net, samples)
    torch.backends.mha.set_fastpath_enabled(True)
    for hook in hooks:
        hook.remove()
    for key, out in outputs.items():
        path = key
        if isinstance(out, tuple):
            out, path = out[0], f"{key}[0]"
        # In-place activations change what the layer before them returned.
        if key and not (name == "conv2d" and key == "1"):
            np.testing.assert_allclose(latent(net, samples, path), flat(out), rtol=1e-4, atol=1e-5)


def test_a_layer_is_seen_before_the_next_changes_it_in_place():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
    np.testing.assert_allclose(latent(net, X, "0"), flat(run(net[0], X)), atol=1e-6)


def pipeline():
    ae = Autoencoder(
        n_components=2,
        hidden_layer_sizes=(3,),
        max_epochs=1,
        validation_split=None,
        random_state=0,
    )
    steps = [("scale", StandardScaler()), ("ae", ae), ("clf", LogisticRegression())]
    return Pipeline(steps).fit(X, Y)


def test_names_with_and_without_the_step():
    fitted = pipeline()
    scaled = fitted[0].transform(X)
    code = fitted[1].transform(scaled)
    for layer in ("ae.encoder", "encoder"):
        np.testing.assert_allclose(latent(fitted, X, layer), code, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(latent(fitted, X, "scale"), scaled, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(latent(fitted, X, "ae"), code, rtol=1e-4, atol=1e-5)
    logits = fitted[2].decision_function(code)
    np.testing.assert_allclose(latent(fitted, X, "clf.linear"), logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        latent(fitted, X, "proba"), fitted.predict_proba(X), rtol=1e-4, atol=1e-5
    )


def test_names_in_nested_pipelines():
    fitted = pipeline()
    nested = Pipeline([("inner", fitted[:2]), ("clf", fitted[2])])
    for layer in ("inner.ae.encoder", "ae.encoder", "encoder"):
        np.testing.assert_allclose(
            latent(nested, X, layer), fitted[:2].transform(X), rtol=1e-4, atol=1e-5
        )


def test_table_prefers_full_names_and_later_steps():
    nets = [nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 4), nn.ReLU())]

    class Step:
        def __init__(self, net):
            self._torch_form = lambda: (net, "forward")

        def transform(self, X):
            raise AssertionError("its torch form is run")

    chain = Representation(
        Pipeline([("0", Step(nets[0])), ("b", Step(nets[1]))]), 4, probe=Probe()
    ).chain
    table = layer_table(chain)
    assert table["0"][0] is nets[0]  # the step
    assert table["0.0"][0] is nets[0][0]
    assert table["1"][0] is table["b.1"][0] is nets[1][1]
    assert table["b.0"][0] is nets[1][0]


def test_decoder_layers_of_an_autoencoder_are_run_past_the_encoder():
    whole = pipeline()
    fitted = whole[:2]
    out = fitted[1].inverse_transform(fitted.transform(X))
    for pipeline_ in (fitted, whole):  # what follows the encoder does not take reconstructions
        np.testing.assert_allclose(latent(pipeline_, X, "ae.decoder"), out, rtol=1e-4, atol=1e-5)


def test_hidden_layers_of_a_converted_mlp():
    mlp = MLPClassifier((5,), max_iter=500, tol=0.1, random_state=0).fit(X, Y)
    hidden = X @ mlp.coefs_[0] + mlp.intercepts_[0]
    np.testing.assert_allclose(latent(mlp, X, "hidden_0"), hidden, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(latent(mlp, X, "activation_0"), hidden.clip(0), rtol=1e-4, atol=1e-5)
    named = make_pipeline(StandardScaler(), mlp)
    named[0].fit(X)
    assert latent(named, X, "mlpclassifier.hidden_0").shape == (12, 5)


# -- tuples ------------------------------------------------------------------------------------


class Net(nn.Module):
    """Recurrent layers whose outputs are tuples."""

    def __init__(self, num_layers=1, batch_first=True):
        super().__init__()
        self.rnn = nn.LSTM(3, 2, num_layers, batch_first=batch_first)
        self.unused = nn.Linear(3, 3)

    def forward(self, x):
        return self.rnn(x)[0].sum(1)


SERIES = np.random.RandomState(0).normal(size=(8, 6, 3)).astype("f")


@pytest.mark.parametrize("num_layers", [1, 2])
def test_hidden_states_have_the_batch_on_another_axis(num_layers):
    net = Net(num_layers)
    out, (h, c) = run(net.rnn, SERIES)
    np.testing.assert_allclose(latent(net, SERIES, "rnn[0]"), flat(out), rtol=1e-4, atol=1e-5)
    for item, state in (("[0]", h), ("[1]", c), ("[-1]", c)):
        z = latent(net, SERIES, f"rnn[1]{item}")
        np.testing.assert_allclose(z, flat(state.movedim(1, 0)), rtol=1e-4, atol=1e-5)


def test_items_of_the_root_and_of_dicts():
    lstm = nn.LSTM(3, 2, batch_first=True)
    _, (h, _) = run(lstm, SERIES)
    np.testing.assert_allclose(latent(lstm, SERIES, "[1][0]"), flat(h[0]), rtol=1e-4, atol=1e-5)

    class Both(nn.Module):
        def forward(self, x):
            return {"twice": 2 * x, "nested": [x, 3 * x]}

    np.testing.assert_allclose(latent(Both(), X, "[1][1]"), 3 * X)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (None, r"not one tensor but tuple \(2\).*layer='\[0\]'"),
        ("[1]", r"'\[1\]' is not one tensor but tuple \(2\)"),
        ("[2]", r"has no item \[2\]"),
        ("[-3]", r"has no item \[-3\]"),
        ("[0][0]", r"has no item \[0\]"),
    ],
)
def test_what_is_no_tensor(layer, message):
    lstm = nn.LSTM(3, 2, batch_first=True)
    with pytest.raises(ValueError, match=message) as info:
        latent(lstm, SERIES, layer)
    assert "axes are never swapped" not in str(info.value)


# -- calls -------------------------------------------------------------------------------------


class Shared(nn.Module):
    """One layer called three times."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.end = nn.Linear(4, 2)

    def forward(self, x):
        return self.end(self.layer(self.layer(self.layer(x)).tanh()))


def test_the_last_call_of_a_layer_counts():
    net = Shared()
    expected = net.layer(net.layer(net.layer(torch.as_tensor(X))).tanh())
    np.testing.assert_allclose(latent(net, X, "layer"), flat(expected), rtol=1e-4, atol=1e-5)


def test_the_network_is_run_no_further_than_needed():
    net = Shared()
    net.end.register_forward_hook(lambda *_: pytest.fail("ran on"))
    representation = Representation(net, 4, layer="layer", probe=Probe(n_units=4, n_calls=3))
    with representation.session(), torch.no_grad():
        representation(torch.as_tensor(X))


# -- errors ------------------------------------------------------------------------------------


def test_unknown_layers_name_the_nearest():
    with pytest.raises(
        ValueError, match="layer='encodr' is no.*Did you mean 'encoder'.*'ae.encoder'"
    ):
        Representation(pipeline(), 4, layer="encodr")
    with pytest.raises(ValueError, match=r"layer='9' is not a submodule.*Layers: '0', '1'\."):
        Representation(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), 4, layer="9")


def test_layers_that_are_never_called():
    with pytest.raises(ValueError, match="layer='unused' is never called"):
        latent(Net(), SERIES, "unused")


@pytest.mark.parametrize("layer", ["a[b]", "a[0", "a[0]b", "[x]"])
def test_malformed_paths(layer):
    with pytest.raises(ValueError, match="is not a layer path.*named_modules"):
        parse_path(layer)


def test_layer_that_is_no_string():
    with pytest.raises(TypeError, match="layer=3 must be a string or None"):
        Representation(nn.Linear(4, 2), 4, layer=3)


# -- nested outputs ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Frozen:
    mu: object
    scale: object
    loss: object = None


class Ordered(collections.OrderedDict):
    """Like the outputs of transformers: by key, by position and by attribute."""

    def __getitem__(self, key):
        return super().__getitem__(key) if isinstance(key, str) else list(self.values())[key]


Named = collections.namedtuple("Named", ["mu", "scale"])
CONTAINERS = {
    "dict": dict,
    "ordered": Ordered,
    "frozen": Frozen,
    "named": Named,
    "object": SimpleNamespace,
    "default": lambda **parts: collections.defaultdict(list, parts),
}


class Returning(nn.Module):
    """Returns its mean in a container, or a network around it that uses the mean."""

    def __init__(self, make, nested=False):
        super().__init__()
        torch.manual_seed(0)
        self.make, self.nested = make, nested
        self.mu, self.scale = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        mu = self.mu(x).tanh()
        return self.make(mu=[None, mu] if self.nested else mu, scale=self.scale(x))


class Using(nn.Module):
    def __init__(self, part, items):
        super().__init__()
        self.part, self.items, self.end = part, items, nn.Linear(3, 2)

    def forward(self, x):
        return self.end(pick(self.part(x), self.items, "part").sigmoid())


X4 = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", CONTAINERS)
def test_parts_by_key(kind, nested):
    part = Returning(CONTAINERS[kind], nested)
    items = ("mu", 1) if nested else ("mu",)
    path = "['mu'][1]" if nested else "['mu']"
    plain = nn.Sequential(part.mu, nn.Tanh())
    expected = DKNNImportance(plain).fit(X4).transform(X4[:3])
    places = [(part, path), (nn.Sequential(part), f"0{path}"), (part, path.replace("'", '"'))]
    for net, layer in places:
        found = DKNNImportance(net, layer=layer).fit(X4).transform(X4[:3])
        np.testing.assert_array_equal(found, expected)
    # The same gradients at the layer: it is replaced by a copy in what flows on.
    net = Using(part, items)
    same = nn.Sequential(part.mu, nn.Tanh(), nn.Sigmoid(), net.end)
    found = EmbeddingAttributor(net, layer=f"part{path}").fit(X4).transform(X4[:3])
    expected = EmbeddingAttributor(same, layer="1").fit(X4).transform(X4[:3])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    names = VarianceScorer(net, layers=[f"part{path}"]).fit(X4).get_feature_names_out()
    assert list(names) == [f"part{path}"]


def test_messages_about_parts():
    net = Returning(dict, nested=True)
    listed = r".*layer=\"\['mu'\]\[1\]\", layer=\"\['scale'\]\"\.$"
    messages = {
        None: r"the network's output is not one tensor but dict with 'mu', 'scale'",
        "['m']": r"no item \['m'\]: it is dict with 'mu', 'scale'",
        "['mu'][0]": r"output \"\['mu'\]\[0\]\" is not one tensor but None, ",
    }
    for layer, message in messages.items():
        with pytest.raises(ValueError, match=message + listed):
            DKNNImportance(net, layer=layer).fit(X4)
    with pytest.raises(ValueError, match=r"output=\"\['mu'\]\[1\]\""):
        VarianceScorer(net).fit(X4)
    with pytest.raises(
        ValueError, match=r"dict, not one tensor \(\['mu'\]\[1\], \['scale'\]\); wrap"
    ):
        ClaDecExplainer(net).fit(X4)
    with pytest.raises(ValueError, match="not a layer path.*by its key"):
        DKNNImportance(net, layer="[mu]").fit(X4)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn = nn.MultiheadAttention(2, 1, batch_first=True)

        def forward(self, x):
            return self.attn(x, x, x, need_weights=False)[0].flatten(1)

    series = X4.reshape(9, 2, 2)
    with pytest.raises(
        ValueError, match=r"'attn\[1\]' is not one tensor but None.*layer='attn\[0\]'\.$"
    ):
        DKNNImportance(Attention(), layer="attn[1]").fit(series)
    DKNNImportance(Attention(), layer="attn[0]").fit(series)


def test_packed_sequences_are_no_layer():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(2, 3, batch_first=True)

        def forward(self, x):
            lengths = torch.full((len(x),), x.shape[1])
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
            return self.rnn(packed)[1][0][0]

    message = r"PackedSequence, whose rows.*layer='rnn\[1\]\[0\]', layer='rnn\[1\]\[1\]'\.$"
    with pytest.raises(ValueError, match=message):
        DKNNImportance(Packed(), layer="rnn[0]").fit(X4.reshape(9, 2, 2))


def test_mapped_keeps_types_and_what_is_not_changed():
    x, whole = torch.ones(2), torch.ones(2, dtype=torch.long)
    packed = nn.utils.rnn.pack_sequence([x, x])
    outputs = [x, (x, None), [x], {"a": {"b": x}}, Named(x, whole), Frozen(x, whole), packed]
    outputs += [torch.max(torch.ones(2, 2), dim=0), SimpleNamespace(a=x), None, "text"]
    for output in outputs:
        assert mapped(lambda tensor: tensor, output) is output
        doubled = mapped(lambda tensor: 2 * tensor, output)
        assert type(doubled) is type(output)
        if first_tensor(output) is not output or output is x:
            torch.testing.assert_close(first_tensor(doubled), 2 * first_tensor(output))
    assert torch.equal(x, torch.ones(2))
