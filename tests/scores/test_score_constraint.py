import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback, GradientNormClipping
from torch import nn
from torch.utils.data import TensorDataset

from sklexplain.layers import find_points
from sklexplain.nets import ScoreConstraint
from sklexplain.scores._score_constraint import _percentiles
from sklexplain.scores._score_terms import add_gradients, run

rng = np.random.default_rng(0)
X = rng.uniform(size=(40, 1, 8, 8)).astype(np.float32)
Y = rng.integers(0, 3, size=40)


class Encoder(nn.Module):
    """Convolutions with BatchNorm and dropout."""

    def __init__(self, activation=nn.Softplus):
        super().__init__()
        self.conv0, self.norm0 = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.conv1, self.norm1 = nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2)
        self.act0, self.act1 = nn.Softplus(), activation()
        self.drop, self.flat, self.code = nn.Dropout(0.4), nn.Flatten(), nn.Linear(128, 3)

    def forward(self, x):
        h = self.act0(self.norm0(self.conv0(x)))
        return self.code(self.drop(self.flat(self.act1(self.norm1(self.conv1(h))))))


class Classifier(nn.Module):
    """The encoder with a class head, and a layer that is never called."""

    def __init__(self, activation=nn.Softplus):
        super().__init__()
        self.unused = nn.Linear(2, 2)
        self.encoder = Encoder(activation)
        self.head = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3))

    def forward(self, x):
        return self.head(self.encoder(x))


def train(constraint=None, kind=NeuralNetClassifier, module=Classifier, X=X, y=Y, **params):
    """Train a net from the same weights, with the same batches."""
    defaults = {
        "criterion": nn.CrossEntropyLoss,
        "max_epochs": 2,
        "batch_size": 10,
        "iterator_train__shuffle": True,
        "train_split": None,
        "verbose": 0,
        "lr": 0.05,
        "callbacks": [] if constraint is None else [("scores", constraint)],
    }
    torch.manual_seed(0)
    net = kind(module, **(defaults | params))
    return net.fit(X, y)


def weights(net):
    return torch.cat([value.flatten().double() for value in net.module_.state_dict().values()])


def same(one, two):
    return torch.equal(weights(one), weights(two))


class Record(Callback):
    """What the gradients are, and the state they were taken in."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.found = []

    def on_grad_computed(self, net, named_parameters, batch=None, training=True, **kwargs):
        self.found.append(
            {
                "gradients": [
                    torch.zeros_like(p) if p.grad is None else p.grad.clone()
                    for p in net.module_.parameters()
                ],
                "module": copy.deepcopy(net.module_),
                "batch": batch,
                "modes": [part.training for part in net.module_.modules()],
                "torch": torch.get_rng_state(),
                "numpy": np.random.get_state()[1].copy(),
            }
        )


def test_without_weights_training_is_bit_identical():
    plain = train()
    constraint = ScoreConstraint(random_state=0, score_every=1)
    scored = train(constraint)
    assert same(plain, scored)
    assert plain.history.to_list()[-1].keys() == scored.history.to_list()[-1].keys()
    assert not same(plain, train(ScoreConstraint(0.5, score_every=1, random_state=0)))


def test_what_is_added_is_the_gradient_of_the_constraint():
    before, after = Record(), Record()
    constraint = ScoreConstraint(
        0.7, 1.3, score_every=3, n_score_samples=None, n_noise=2, noise="unit", random_state=0
    )
    callbacks = [("a", before), ("scores", constraint), ("b", after)]
    net = train(callbacks=callbacks)
    scored = []
    for i, (one, two) in enumerate(zip(before.found, after.found, strict=True)):
        assert one["modes"] == two["modes"] and all(one["modes"])
        assert torch.equal(one["torch"], two["torch"])
        np.testing.assert_array_equal(one["numpy"], two["numpy"])
        states = (m["module"].state_dict().values() for m in (one, two))
        assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))  # with BatchNorm's
        added = [b - a for a, b in zip(one["gradients"], two["gradients"], strict=True)]
        if i % 3:
            assert all((difference == 0).all() for difference in added)
            continue
        scored.append(i)
        module = one["module"].double().eval()
        modules = dict(module.named_modules())
        x = one["batch"][0].double()
        noise = np.random.default_rng([constraint._seed, i + 1]).uniform(size=(2, 1, 8, 8))
        point = find_points(module.encoder, x, modules, layers=["encoder.conv1"])[0]
        for parameter in module.parameters():
            parameter.grad = None
        scores = add_gradients(
            lambda batch, module=module, point=point: run(
                module.encoder, point, batch, module.modules()
            ),
            x,
            torch.from_numpy(noise),
            0.7,
            1.3,
        )
        for parameter, difference in zip(module.parameters(), added, strict=True):
            expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            torch.testing.assert_close(difference.double(), expected, rtol=1e-3, atol=2e-6)
        recorded = net.history[i // 4, "batches", i % 4]
        for name, score in scores.items():
            assert recorded[name] == pytest.approx(score.item(), rel=1e-4)
    assert scored == [0, 3, 6] and constraint.n_batches_ == 8
    assert "noise_score" not in net.history[0, "batches", 1]
    # The encoder's are there to be found: the constraint acts on both convolutions.
    assert min(added_norm(before, after, 0)[name] for name in ("conv0", "conv1", "code")) > 1e-5
    assert added_norm(before, after, 0)["head"] == 0


def added_norm(before, after, i):
    one, two = before.found[i], after.found[i]
    names = [name for name, _ in one["module"].named_parameters()]
    norms = dict.fromkeys(("conv0", "conv1", "code", "head"), 0.0)
    for name, a, b in zip(names, one["gradients"], two["gradients"], strict=True):
        for part in norms:
            if part in name:
                norms[part] += (b - a).norm().item()
    return norms


def test_history_has_means_and_gaps():
    net = train(ScoreConstraint(0.1, score_every=5, random_state=0), max_epochs=4)
    # 4 mini-batches an epoch: number 0, 5, 10 and 15 are scored.
    for epoch in range(4):
        batches = [b for b in net.history[epoch, "batches"] if "noise_score" in b]
        assert len(batches) == 1
        assert net.history[epoch, "noise_score"] == batches[0]["noise_score"]
    assert "variance_score" not in net.history[0]
    net = train(ScoreConstraint(0.0, 0.1, score_every=8, random_state=0))
    assert 0 < net.history[0, "variance_score"] <= 0.25
    assert np.isnan(net.history[1, "variance_score"]) and "noise_score" not in net.history[0]


def test_the_scores_rise():
    for weights_, name in (((5.0, 0.0), "noise_score"), ((0.0, 20.0), "variance_score")):
        ends = []
        for weights in (weights_, tuple(1e-9 * w for w in weights_)):
            net = train(
                ScoreConstraint(
                    *weights, score_every=1, n_score_samples=None, noise="unit", random_state=0
                ),
                max_epochs=6,
            )
            ends.append(net.history[-1, name])
        assert ends[0] > ends[1] * 1.1


CONSTRAINED = {"lambda_noise": 0.5, "lambda_variance": 0.5, "score_every": 1, "random_state": 0}


def constrained(**other):
    """A net trained on data whose range is not that of "unit"."""
    return train(ScoreConstraint(**(CONSTRAINED | other)), X=X * 0.5)


@pytest.fixture(scope="module")
def net_constrained():
    return constrained()


def test_the_same_parameters_give_the_same_net(net_constrained):
    assert same(net_constrained, constrained())


@pytest.mark.parametrize(
    "other",
    [
        {"lambda_noise": 1.0},
        {"lambda_variance": 1.0},
        {"score_every": 2},
        {"score_layer": "encoder.conv0"},
        {"output": "head.0"},
        {"n_score_samples": 3},
        {"n_score_samples": None},
        {"n_noise": 3},
        {"noise": "unit"},
        {"random_state": 1},
    ],
)
def test_every_parameter_matters(other, net_constrained):
    assert not same(net_constrained, constrained(**other))


def test_any_net_and_output():
    regression = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh())
    regression.append(nn.Linear(5, 2))
    table = rng.normal(size=(30, 6)).astype(np.float32)
    constraint = ScoreConstraint(0.1, 0.1, random_state=0)
    for kind in (NeuralNetRegressor, NeuralNet):
        train(constraint, kind, regression, table, table[:, :2], criterion=nn.MSELoss)
        assert constraint.score_layer_ == "2"  # the last hidden layer
    constraint = ScoreConstraint(0.1, 0.1, output="2", random_state=0)
    train(constraint, NeuralNet, regression, table, table[:, :2], criterion=nn.MSELoss)
    assert constraint.score_layer_ == "0"
    constraint = ScoreConstraint(0.1, 0.1, random_state=0)
    train(constraint)
    assert constraint.score_layer_ == "encoder.conv1"


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.LSTM(2, 4, batch_first=True), nn.GRU(4, 3, batch_first=True)

    def forward(self, x):
        return self.second(self.first(x)[0])[1][0]


def test_recurrent_nets():
    series = rng.normal(size=(20, 6, 2)).astype(np.float32)
    constraint = ScoreConstraint(0.1, 0.1, score_layer="first[0]", random_state=0)
    net = train(constraint, NeuralNetRegressor, Recurrent, series, series[:, -1, [0, 0, 1]],
                criterion=nn.MSELoss)  # fmt: skip
    assert net.history[0, "noise_score"] > 0 and net.history[0, "variance_score"] > 0


def test_datasets_and_devices_of_noise():
    constraint = ScoreConstraint(0.1, 0.1, score_every=1, random_state=0)
    dataset = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    net = train(constraint, X=dataset, y=None)
    assert constraint._range is None and net.history[-1, "noise_score"] > 0
    train(constraint, X=torch.from_numpy(X), y=torch.from_numpy(Y))
    np.testing.assert_allclose(constraint._range, np.percentile(X, [1, 99]), rtol=1e-6)


def test_range_of_the_noise():
    table = rng.normal(size=(500, 3)) * [1, 10, 0] + [0, 5, 2]
    low, high = _percentiles(table)
    np.testing.assert_allclose(low, np.percentile(table, 1, axis=0))
    np.testing.assert_allclose(high, np.percentile(torch.from_numpy(table), 99, axis=0))
    assert low[2] == high[2] == 2
    assert _percentiles(X).shape == (2,)
    constraint = ScoreConstraint(noise="data", n_noise=1000).initialize()
    constraint._range = low, high
    noise = constraint._noise(torch.zeros(4, 3), np.random.default_rng(0))
    assert (noise >= low).all() and (noise <= high).all()
    np.testing.assert_allclose(noise.mean(axis=0), (low + high) / 2, atol=0.05 * 40)
    assert noise[:, 1].max() > 20


def test_partial_fit_goes_on_counting_and_fit_starts_anew():
    constraint = ScoreConstraint(0.1, score_every=3, random_state=0)
    net = train(constraint, max_epochs=1)
    assert constraint.n_batches_ == 4
    net.partial_fit(X, Y)
    scored = [["noise_score" in b for b in epoch] for epoch in net.history[:, "batches"]]
    assert sum(scored, []) == [True, False, False, True, False, False, True, False]
    net.fit(X, Y)
    assert constraint.n_batches_ == 4


def test_validation_batches_are_not_counted():
    from skorch.dataset import ValidSplit

    constraint = ScoreConstraint(0.1, score_every=3, random_state=0)
    train(constraint, train_split=ValidSplit(4, stratified=False))
    assert constraint.n_batches_ == 6


def test_clipping_behind_it_clips_all():
    record = Record()
    constraint = ScoreConstraint(100.0, 100.0, score_every=1, random_state=0)
    train(callbacks=[constraint, GradientNormClipping(0.01), record])
    for found in record.found:
        total = torch.cat([g.flatten() for g in found["gradients"]]).norm()
        assert total <= 0.0101


def test_a_net_with_it_can_be_pickled_copied_and_set():
    constraint = ScoreConstraint(0.1, 0.1, random_state=0)
    net = train(constraint)
    for other in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert same(net, other)
        other.partial_fit(X, Y)
        assert dict(other.callbacks_)["scores"].n_batches_ == 16
    net.set_params(callbacks__scores__lambda_noise=0.0, callbacks__scores__lambda_variance=0.0)
    torch.manual_seed(0)
    assert same(net.fit(X, Y), train())


def test_piecewise_linear_gates_warn_once_a_fit():
    constraint = ScoreConstraint(0.1, 0.1, score_every=1, random_state=0)
    for _ in range(2):
        with pytest.warns(UserWarning, match="Relu.*Use softplus") as record:
            net = train(constraint, module__activation=nn.ReLU)
        assert len(record) == 1
    assert net.history[-1, "noise_score"] > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # ReLU before the layer, or behind the embedding, is no matter.
        train(ScoreConstraint(0.1, score_layer="encoder.act1"), module__activation=nn.ReLU)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"lambda_noise": -1.0}, r"'lambda_noise' parameter .* range \[0.0, inf\)\. Got -1.0"),
        ({"lambda_variance": np.nan}, "'lambda_variance' parameter .* Got nan instead"),
        ({"lambda_noise": "1"}, "'lambda_noise' parameter .* Got '1' instead"),
        ({"score_every": 0}, "'score_every' parameter .* Got 0 instead"),
        ({"n_noise": 0}, "'n_noise' parameter .* Got 0 instead"),
        ({"n_score_samples": 0}, "'n_score_samples' parameter .* Got 0 instead"),
        ({"noise": "date"}, "'noise' parameter .* Got 'date' instead. Did you mean 'data'"),
        ({"score_layer": "encoder.conv2"}, "encoder.conv2.*Did you mean 'encoder.conv"),
        ({"score_layer": "unused"}, "layer='unused' is not called"),
        ({"score_layer": "head.0"}, "layer='head.0' is not called"),
        ({"output": "heat"}, "output='heat' is not a submodule.*Did you mean 'head"),
        ({"output": "unused"}, "output='unused' is not called"),
    ],
)
def test_parameters_in_error(params, message):
    with pytest.raises(ValueError, match=message):
        train(ScoreConstraint(**({"lambda_noise": 0.1, "random_state": 0} | params)))


def test_nets_in_error():
    table = rng.normal(size=(20, 4)).astype(np.float32)
    linear = {"module": nn.Linear(4, 2), "X": table, "y": table[:, :2], "kind": NeuralNet}
    with pytest.raises(ValueError, match="score_layer=None needs .* and there is none"):
        train(ScoreConstraint(0.1), criterion=nn.MSELoss, **linear)
    narrow = nn.Sequential(nn.Linear(4, 1), nn.Tanh(), nn.Linear(1, 2))
    with pytest.raises(ValueError, match="score_layer='0' has a single position"):
        train(ScoreConstraint(0.1), criterion=nn.MSELoss, **(linear | {"module": narrow}))

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(5, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.embed(x).mean(1))

    with pytest.raises(TypeError, match="a tensor of torch.int64"):
        train(ScoreConstraint(0.1), module=Tokens, X=rng.integers(0, 5, (40, 6)))
    with pytest.raises(TypeError, match="is given dict"):
        train(ScoreConstraint(0.1), X={"x": X})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("module", [Classifier, Recurrent])
def test_on_a_gpu(module):
    series = rng.normal(size=(20, 6, 2)).astype(np.float32)
    constraint = ScoreConstraint(0.1, 0.1, random_state=0)
    if module is Classifier:
        net = train(constraint, device="cuda")
    else:
        constraint.set_params(score_layer="first[0]")
        target = series[:, -1, [0, 0, 1]]
        net = train(constraint, NeuralNetRegressor, module, series, target, criterion=nn.MSELoss,
                    device="cuda")  # fmt: skip
    assert net.history[-1, "noise_score"] > 0
