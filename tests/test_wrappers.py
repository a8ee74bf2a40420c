"""Networks in wrappers, in other forms and precisions, compared with the plain network."""

import copy
import functools
import warnings

import numpy as np
import pytest
import torch
from scipy import sparse
from skorch import NeuralNet
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from sklexplain import (
    ClaDecExplainer,
    DKNNImportance,
    EmbeddingAttributor,
    InfluenceImportance,
    LabelFreeAttributor,
    NoiseScorer,
    SimplExImportance,
    SRAEExplainer,
    TracInImportance,
    VarianceScorer,
)
from sklexplain.exceptions import DataConversionWarning
from sklexplain.training import CheckpointHistory, randomized_layers

X = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)
FEW = {"max_epochs": 2, "random_state": 0}
SRAE = {**FEW, "warm_up": 1, "hidden_layer_sizes": (8,), "n_concepts": 2}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1, self.norm, self.l2 = nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x):
        return self.l2(torch.tanh(self.norm(self.l1(x))))


class Closed(nn.Module):
    """Runs by a closure over itself, so that no view can stand for it."""

    def __init__(self):
        super().__init__()
        inside = Network()
        self.l1, self.norm, self.l2 = inside.l1, inside.norm, inside.l2
        self.run = lambda x: self.l2(torch.tanh(self.norm(self.l1(x))))

    def forward(self, x):
        return self.run(x)


def network(kind=Network, seed=0):
    torch.manual_seed(seed)
    return kind().eval()


def loss(output, _x):
    return output.float().square().sum(dim=1)


def silently(function):
    """Leave out warnings of trainings that are too short."""

    def run(net):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*max_epochs.*")
            return function(net)

    return run


OUTPUT = {
    "shapley": lambda n: LabelFreeAttributor(n, method="shapley_sampling", random_state=0),
    "dknn": DKNNImportance,
    "simplex": SimplExImportance,
}
GRADIENTS = {
    "integrated gradients": LabelFreeAttributor,
    "saliency": lambda n: LabelFreeAttributor(n, method="saliency"),
    "tracin": lambda n: TracInImportance(n, loss=loss, parameters="all"),
    "influence": lambda n: InfluenceImportance(n, loss=loss, parameters="all"),
}
LAYERS = {
    "saliency at l1": lambda n: LabelFreeAttributor(n, method="saliency", layer="l1"),
    "embedding": EmbeddingAttributor,
    "embedding at l1": lambda n: EmbeddingAttributor(n, layer="l1"),
    "variance": VarianceScorer,
    "noise": lambda n: NoiseScorer(n, random_state=0),
    "dknn at l1": lambda n: DKNNImportance(n, layer="l1"),
    "srae": lambda n: SRAEExplainer(n, **SRAE),
    "srae at l1": lambda n: SRAEExplainer(n, layer="l1", **SRAE),
    "cladec": lambda n: ClaDecExplainer(n, **FEW),
    "cladec at l1": lambda n: ClaDecExplainer(n, layer="l1", reference="random", **FEW),
}
DEEP_LIFT = {"deep_lift": lambda n: LabelFreeAttributor(n, method="deep_lift")}
EVERY = {**OUTPUT, **GRADIENTS, **DEEP_LIFT, **LAYERS}
SOME = [
    "shapley",
    "deep_lift",
    "tracin",
    "embedding",
    "variance",
    "srae",
    "cladec",
]  # one of a kind


@silently
def results_of(explainer):
    explainer.fit(X)
    results = [explainer.transform(X[:4])]
    results = [r.toarray() if sparse.issparse(r) else r for r in results]
    if isinstance(explainer, ClaDecExplainer) and explainer.reference is not None:
        results.append(explainer.explain(X[:4]).reference)
    if hasattr(explainer, "layers_"):
        results.append(explainer.layers_)
    return results


@pytest.fixture(scope="module")
def plain():
    """Make results of the plain network, each once."""
    found = {}

    def results(name, net=None):
        if name not in found:
            found[name] = results_of(EVERY[name](network()))
        return found[name]

    return results


def assert_same(ours, theirs, **tolerance):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        if isinstance(a, list):
            assert a == b
        else:
            assert a.dtype == b.dtype
            scale = np.abs(b).max()
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance.get("rtol", 1e-6) * scale)


# -- compiled and other wrappers ---------------------------------------------------------------


def compiled(kind=Network):
    return torch.compile(network(kind), backend="eager")


def compiled_in_place(kind=Network):
    net = network(kind)
    net.compile(backend="eager")
    return net


def compiled_part():
    net = network()
    net.l1 = torch.compile(net.l1, backend="eager")
    net.l2.compile(backend="eager")
    return net


WRAPPED = {
    "compiled": compiled,
    "compiled in place": compiled_in_place,
    "compiled part": compiled_part,
    "parallel": lambda: nn.DataParallel(network()),
    "parallel and compiled": lambda: torch.compile(nn.DataParallel(network()), backend="eager"),
    "compiled in parallel": lambda: nn.DataParallel(compiled()),
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(network()),
}


@pytest.mark.parametrize(
    ("wrapper", "name"),
    [(w, n) for w in WRAPPED for n in (EVERY if w in ("compiled", "parallel") else SOME)],
)
def test_wrappers_are_looked_through(wrapper, name, plain):
    net = WRAPPED[wrapper]()
    net(torch.from_numpy(X))  # compiled before anything is explained
    before = {k: v.clone() for k, v in net.state_dict().items()}
    attributes = [(m, dict(vars(m))) for m in net.modules()]
    assert_same(results_of(EVERY[name](net)), plain(name))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    for module, held in attributes:
        assert vars(module).keys() == held.keys()
        assert all(vars(module)[k] is v for k, v in held.items())


@pytest.mark.parametrize("name", ["saliency at l1", "variance", "embedding at l1", "srae"])
@pytest.mark.parametrize("make", [compiled, compiled_in_place])
def test_compiled_networks_that_are_run_themselves(make, name, plain):
    net = make(Closed)
    net(torch.from_numpy(X))
    explainer = EVERY[name](net)
    assert_same(results_of(explainer), plain(name))
    assert not explainer._representation.viewed
    inside = getattr(net, "_orig_mod", net)
    assert not any(m._forward_hooks for m in inside.modules())
    assert (make is compiled) == (inside._compiled_call_impl is None)


@pytest.mark.parametrize("make", [compiled, compiled_in_place])
def test_scores_of_compiled_networks_do_not_depend_on_what_ran_before(make, plain):
    net = make()
    for name in ("embedding at l1", "variance", "embedding", "noise", "srae", "variance"):
        assert_same(results_of(EVERY[name](net)), plain(name))


@pytest.mark.parametrize("layer", ["l1", "_orig_mod.l1", "module.l1"])
def test_names_with_and_without_prefix(layer, plain):
    for net in (compiled(), nn.DataParallel(network()), network()):
        scorer = VarianceScorer(net, layers=[layer]).fit(X)
        assert scorer.layers_ == ["l1"]
        assert ClaDecExplainer(net, layer=layer, reference=None, max_epochs=1)  # not yet fitted
        assert_same(results_of(DKNNImportance(net, layer=layer)), plain("dknn at l1"))
        assert_same(
            [EmbeddingAttributor(net, layer=layer).fit(X).transform(X[:4])],
            plain("embedding at l1"),
        )
    with pytest.raises(ValueError, match=r"Did you mean 'l1'.*Layers: 'l1', 'norm', 'l2'\."):
        VarianceScorer(compiled(), layers=["l11"]).fit(X)


def test_hooks_of_a_wrapper_are_part_of_the_network():
    net = compiled()
    net.register_forward_hook(lambda _module, _args, output: 2 * output)
    parallel = nn.DataParallel(network())
    parallel.register_forward_pre_hook(lambda _module, args: (2 * args[0],))
    twice = nn.Sequential(network())
    twice.register_forward_hook(lambda _module, _args, output: 2 * output)
    for wrapped, same in ((net, twice), (parallel, nn.Sequential(Doubled(), network()))):
        with torch.no_grad():
            x = torch.from_numpy(X)
            torch.testing.assert_close(wrapped(x), same(x))
        ours = [results_of(OUTPUT["shapley"](n))[0] for n in (wrapped, same)]
        np.testing.assert_allclose(*ours, rtol=1e-5)
        ours = [results_of(GRADIENTS["tracin"](n))[0] for n in (wrapped, same)]
        np.testing.assert_allclose(*ours, rtol=1e-4)


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


class Reconstruction(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, 3), nn.Tanh())
        self.decoder = nn.Linear(3, 5)

    def forward(self, x):
        return self.decoder(self.encoder(x))


def skorch_net(**params):
    torch.manual_seed(0)
    callbacks = [("history", CheckpointHistory(every=1))]
    net = NeuralNet(
        Reconstruction,
        criterion=nn.MSELoss,
        max_epochs=2,
        verbose=0,
        train_split=None,
        callbacks=callbacks,
        **params,
    )
    return net.fit(X, X)


def test_compiled_skorch_nets():
    nets = skorch_net(), skorch_net(compile=True, compile__backend="eager")
    assert hasattr(nets[1].module_, "_orig_mod")
    explainers = [
        LabelFreeAttributor,
        lambda n: DKNNImportance(n, layer="encoder"),
        VarianceScorer,
        lambda n: SRAEExplainer(n, **SRAE),
        lambda n: ClaDecExplainer(n, **FEW),
        TracInImportance,
        lambda n: TracInImportance(n, checkpoints=n.callbacks[0][1]),
        lambda n: TracInImportance(n, checkpoints=[(n.module_.state_dict(), 0.1)]),
        InfluenceImportance,
    ]
    for make in explainers:
        ours, theirs = (results_of(make(net)) for net in reversed(nets))
        assert_same(ours, theirs)
    tracin = TracInImportance(nets[1], parameters=["_orig_mod.encoder.0.bias", "decoder"]).fit(X)
    assert tracin.parameters_ == ["encoder.0.bias", "decoder.weight", "decoder.bias"]
    names = [[name for name, _ in randomized_layers(net, random_state=0)] for net in nets]
    assert names == [["encoder.0", "decoder"]] * 2
    ((_, copy_),) = randomized_layers(nets[1], ["encoder.0"], random_state=0)
    changed = copy_.module_.state_dict()
    before = nets[1].module_.state_dict()
    assert [k for k in before if not torch.equal(before[k], changed[k])] == [
        "_orig_mod.encoder.0.weight",
        "_orig_mod.encoder.0.bias",
    ]


# -- weights that are computed of others -------------------------------------------------------


def pruned(layer, name="weight"):
    prune.l1_unstructured(layer, name, 0.3)
    prune.random_unstructured(layer, name, 0.3)
    return layer


def old(norm):
    def normed(layer, name="weight"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return norm(layer, name)

    return normed


class Stretch(nn.Module):
    """Has no right_inverse."""

    def forward(self, weight):
        return 1.5 * weight


def stretched(layer, name="weight"):
    return parametrize.register_parametrization(layer, name, Stretch())


COMPUTED = {
    "weight_norm": parametrizations.weight_norm,
    "old weight_norm": old(nn.utils.weight_norm),
    "spectral_norm": parametrizations.spectral_norm,
    "old spectral_norm": old(nn.utils.spectral_norm),
    "orthogonal": parametrizations.orthogonal,
    "pruned": pruned,
    "parametrized": stretched,
}


@pytest.mark.parametrize("kind", COMPUTED)
def test_computed_weights(kind):
    """Everything but the reference is that of the same weights as plain parameters."""
    net, plain = network(), network()
    for name in ("l1", "l2"):
        COMPUTED[kind](getattr(net, name))
    net.train()(torch.from_numpy(X))
    net.eval()(torch.from_numpy(X))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with torch.no_grad():
        for name in ("l1", "l2"):
            getattr(plain, name).weight.copy_(getattr(net, name).weight)
    for name in SOME:
        if name == "tracin":  # its parameters are others
            assert np.isfinite(results_of(EVERY[name](net))[0]).all()
            continue
        ours, theirs = (results_of(EVERY[name](n)) for n in (net, plain))
        if name.startswith("cladec"):
            assert np.isfinite(ours[1]).all()
            ours, theirs = ours[:1], theirs[:1]
        assert_same(ours, theirs, rtol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize("kind", COMPUTED)
def test_layers_with_computed_weights_are_randomized(kind):
    net = network()
    for name in ("l1", "l2"):
        COMPUTED[kind](getattr(net, name))
    net(torch.from_numpy(X))
    before = net.l1.weight.clone()
    copies = dict(randomized_layers(net, random_state=0))
    assert [name for name in copies if name != "norm"] == ["l1", "l2"]
    with torch.no_grad():
        for copied in copies.values():
            copied(torch.from_numpy(X))
    assert not torch.allclose(copies["l1"].l1.weight, before)
    torch.testing.assert_close(copies["l2"].l1.weight, before)
    torch.testing.assert_close(net.l1.weight, before)


# -- TorchScript and exported networks ---------------------------------------------------------


@functools.cache
def traced():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        return torch.jit.trace(network(), torch.zeros(3, 5))


@functools.cache
def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(network())


@functools.cache
def exported(fixed=False):
    shapes = None if fixed else ({0: torch.export.Dim("n")},)
    return torch.export.export(network(), (torch.zeros(3, 5),), dynamic_shapes=shapes).module()


HIDDEN = {
    "scripted": (scripted, "layers of a ScriptModule cannot be looked at .*pass the Python module"),
    "traced": (traced, "layers of a ScriptModule cannot be looked at .*pass the Python module"),
    "exported": (exported, "layers of an exported module cannot be looked at .*pass the Python"),
}


@pytest.mark.parametrize("form", HIDDEN)
def test_outputs_of_networks_without_layers(form, plain):
    net = HIDDEN[form][0]()
    for name in (*OUTPUT, "integrated gradients", "saliency", "tracin"):
        assert_same(results_of(EVERY[name](net)), plain(name))
    assert_same(results_of(GRADIENTS["influence"](net)), plain("influence"), rtol=1e-3)


@pytest.mark.parametrize("name", [*LAYERS, *DEEP_LIFT])
@pytest.mark.parametrize("form", HIDDEN)
def test_layers_of_networks_without_layers(form, name):
    make, message = HIDDEN[form]
    with pytest.raises(TypeError, match=message):
        EVERY[name](make()).fit(X)


class Tuple(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = Network()

    def forward(self, x):
        z = self.inside(x)
        return z, {"mu": z + x[:, :3], "z": z}


def test_parts_of_the_output_of_a_scripted_network():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = torch.jit.script(network(Tuple))
    for layer in ("[0]", "[1]['mu']"):
        ours, theirs = (
            LabelFreeAttributor(n, layer=layer).fit(X).transform(X[:3])
            for n in (net, network(Tuple))
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    # A Python network around it has layers.
    around = nn.Sequential(nn.Linear(5, 5), scripted())
    assert VarianceScorer(around).fit(X).layers_ == ["0"]
    with pytest.raises(TypeError, match="layers of a ScriptModule"):
        VarianceScorer(around, layers=["1.l1"]).fit(X)


class FixedView(nn.Module):
    def forward(self, x):
        return x.reshape(3, 5) * 2


def test_fixed_batch_sizes():
    with pytest.raises(ValueError, match="batches of 3 samples only.*dynamic_shapes"):
        LabelFreeAttributor(exported(fixed=True)).fit(X)
    one = torch.export.export(network(), (torch.zeros(1, 5),)).module()
    with pytest.raises(ValueError, match="batches of 1 samples only.*dynamic_shapes"):
        DKNNImportance(one).fit(X)
    with pytest.raises(ValueError, match="three samples but not on two .*batch size is fixed"):
        DKNNImportance(FixedView()).fit(X)
    with pytest.raises(ValueError, match=r"could not run on X of shape \(n, 4\)"):
        DKNNImportance(exported()).fit(X[:, :4])


# -- precision ---------------------------------------------------------------------------------

HALF = {torch.float16: 4e-3, torch.bfloat16: 2e-2}


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(torch.float16, n) for n in EVERY if n not in ("variance", "noise")]
    + [(torch.bfloat16, n) for n in (*SOME, "dknn", "influence") if n != "variance"],
)
def test_half_precision(dtype, name):
    net = network().to(dtype)
    same = copy.deepcopy(net).float()  # the same weights
    ours, theirs = (results_of(EVERY[name](n)) for n in (net, same))
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=2 * HALF[dtype] * np.abs(b).max())
    assert {p.dtype for p in net.parameters()} == {dtype}


@pytest.mark.parametrize("dtype", HALF)
def test_scores_in_half_precision(dtype):
    net = network().to(dtype)
    for scorer in (VarianceScorer, lambda n: NoiseScorer(n, random_state=0)):
        ours, theirs = (scorer(n).fit(X) for n in (net, copy.deepcopy(net).float()))
        assert ours.transform(X).dtype == np.float32
        assert ours.score(X) == pytest.approx(theirs.score(X), abs=0.02)


@pytest.mark.parametrize("dtype", HALF)
def test_references_are_trained_in_single_precision(dtype):
    explainers = [ClaDecExplainer(network().to(d), **FEW) for d in (dtype, torch.float32)]
    half, single = (silently(lambda _, e=e: e.fit(X))(None) for e in explainers)
    encoder = half._decoding("reference").encoder
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert {p.dtype for p in half.decoder_.parameters()} == {torch.float32}
    # References do not depend on the weights, so these are the same.
    np.testing.assert_allclose(half.reference_loss_curve_, single.reference_loss_curve_, rtol=1e-5)


def test_a_reference_that_cannot_be_in_single_precision():
    class Casting(Network):
        def forward(self, x):
            return super().forward(x.half())

    with pytest.raises(ValueError, match="in single precision, does not run .*reference=None"):
        ClaDecExplainer(network(Casting).half(), **FEW).fit(X)


def test_numbers_that_half_precision_cannot_hold():
    with pytest.raises(ValueError, match="up to 1e.05, too large for the network's float16"):
        DKNNImportance(network().half()).fit(X + 1e5)
    fitted = DKNNImportance(network().half()).fit(X)
    with pytest.raises(ValueError, match="too large for the network's float16"):
        fitted.transform(X + 1e5)
    DKNNImportance(network().bfloat16()).fit(X)
    with pytest.warns(DataConversionWarning, match="Column 0 varies too little.* bfloat16"):
        DKNNImportance(network().bfloat16()).fit(X + 100)


class BatchStatistics(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1 = nn.Linear(5, 4)
        self.norm = nn.BatchNorm1d(4, track_running_stats=False)

    def forward(self, x):
        return self.norm(self.l1(x))


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_hides_no_dependence_on_the_batch(dtype):
    class Mean(Network):
        def forward(self, x):
            z = super().forward(x)
            return z - z.mean(dim=0)

    with pytest.raises(ValueError, match="depends on the other samples"):
        DKNNImportance(network(Mean).to(dtype)).fit(X)


# -- quantised networks ------------------------------------------------------------------------


class Skipping(Network):
    """A path past the quantised layers has a gradient."""

    def forward(self, x):
        return super().forward(x) + x[:, :3]


class Static(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant = torch.ao.quantization.QuantStub()
        self.l1, self.l2 = nn.Linear(5, 8), nn.Linear(8, 3)
        self.dequant = torch.ao.quantization.DeQuantStub()

    def forward(self, x):
        return self.dequant(self.l2(self.l1(self.quant(x)).relu()))


def quantised(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in torch, and still what people have
        if kind is not Static:
            return torch.ao.quantization.quantize_dynamic(network(kind), {nn.Linear})
        net = network(kind)
        net.qconfig = torch.ao.quantization.get_default_qconfig(torch.backends.quantized.engine)
        torch.ao.quantization.prepare(net, inplace=True)
        net(torch.from_numpy(X))
        return torch.ao.quantization.convert(net)


NAMED = {
    "integrated gradients": "shapley_sampling",
    "saliency": "shapley_sampling",
    "deep_lift": "shapley_sampling",
    "tracin": "DKNNImportance",
    "influence": "DKNNImportance",
    "embedding": "LabelFreeAttributor",
    "variance": "LabelFreeAttributor",
    "noise": "LabelFreeAttributor",
    "saliency at l1": "shapley_sampling",
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("kind", [Network, Skipping, Static])
def test_gradients_of_quantised_networks_are_refused(kind, name):
    with pytest.raises(TypeError, match=NAMED[name]):
        EVERY[name](quantised(kind)).fit(X)


@pytest.mark.parametrize("kind", [Network, Skipping, Static])
def test_outputs_of_quantised_networks_are_those_of_single_samples(kind):
    net = quantised(kind)
    with torch.no_grad():
        alone = np.concatenate([net(row).numpy() for row in torch.from_numpy(X).split(1)])
    explainer = LabelFreeAttributor(net, method="shapley_sampling", baseline=X[3]).fit(X)
    sums = explainer.transform(X[:3]).sum(axis=1)
    np.testing.assert_allclose(sums, (alone[:3] * (alone[:3] - alone[3])).sum(axis=1), atol=1e-5)
    np.testing.assert_array_equal(
        DKNNImportance(net).fit(X).transform(X[:2]),
        DKNNImportance(nn.Identity()).fit(alone).transform(alone[:2]),
    )
    (attributions,) = results_of(SimplExImportance(net))
    assert np.isfinite(attributions).all()


@pytest.mark.parametrize("kind", [Network, Static])
def test_layers_of_quantised_networks(kind):
    net = quantised(kind)
    with torch.no_grad():
        z = torch.cat(
            [net.l1(net.quant(r) if kind is Static else r) for r in torch.from_numpy(X).split(1)]
        )
        z = (z.dequantize() if z.is_quantized else z).numpy()
    np.testing.assert_allclose(
        DKNNImportance(net, layer="l1").fit(X).transform(X[:2]),
        DKNNImportance(nn.Identity()).fit(z).transform(z[:2]),
        rtol=1e-5,
    )
    fit = silently(lambda _: ClaDecExplainer(net, reference=None, **FEW).fit(X))
    assert fit(net).transform(X).shape == X.shape
    with pytest.warns(UserWarning, match="there is no reference: .*quantised|detached"):
        assert silently(lambda n: ClaDecExplainer(n, **FEW).fit(X))(net).reference_decoder_ is None
    with pytest.raises(TypeError, match="use alpha=1"):
        ClaDecExplainer(net, alpha=0.5, **FEW).fit(X)
    srae = silently(lambda n: SRAEExplainer(n, **SRAE).fit(X))(net)
    np.testing.assert_allclose(srae.relevance_, 1 / 8)
    for method in ("integrated_gradients", "excitation_backprop"):
        with pytest.raises(TypeError, match=f"'{method}' needs"):
            srae.concept_attributions(X, method=method)


# -- baselines ---------------------------------------------------------------------------------


class Lengths(nn.Module):
    """Counts the steps that are not padding."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(2, 3, batch_first=True)

    def forward(self, x):
        lengths = (x != 0).any(dim=2).sum(dim=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        return self.rnn(packed)[1][0]


def test_a_baseline_that_the_network_does_not_run_on():
    series = np.random.default_rng(0).normal(size=(12, 6, 2)).astype(np.float32)
    explainer = LabelFreeAttributor(
        network(Lengths), method="shapley_sampling", baseline="zeros", random_state=0
    ).fit(series)
    with pytest.raises(ValueError, match="on a baseline of zeros .*baseline='mean', 'background'"):
        explainer.transform(series[:2])
    explainer.set_params(baseline="mean").fit(series).transform(series[:2])
