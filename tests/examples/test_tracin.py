import copy
import pickle
import threading
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, StandardScaler
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import LRScheduler
from torch import nn
from torch.optim.lr_scheduler import StepLR

from sklexplain import InfluenceImportance, TracInImportance
from sklexplain.examples import _gradient_pass, _network, _tracin
from sklexplain.examples._losses import ReconstructionLoss
from sklexplain.nets import Autoencoder, CheckpointHistory
from sklexplain.training import corrupt, load_weights, save_weights
from tests.cases import NETS, make_reconstructor, make_X

IRIS, LABELS = load_iris(return_X_y=True)
TRAIN, QUERY = IRIS[::6].astype(np.float32), IRIS[1::6].astype(np.float32)


def small(**params):
    defaults = {
        "n_components": 2,
        "hidden_layer_sizes": (4,),
        "max_epochs": 3,
        "validation_split": None,
        "random_state": 0,
    }
    return Autoencoder(**(defaults | params))


def obvious(module, X, criterion=nn.functional.mse_loss, part="encoder", inputs=None):
    """Gradients by one backward pass a sample, on a copy in eval mode."""
    module = copy.deepcopy(module).eval()
    chosen = list((getattr(module, part) if part else module).parameters())
    rows = []
    for x in torch.as_tensor(X):
        module.zero_grad()
        changed = [x] if inputs is None else inputs(x)
        sum(criterion(module(c[None]), x[None]) / len(changed) for c in changed).backward()
        rows.append(torch.cat([p.grad.flatten() for p in chosen]))
    return torch.stack(rows).numpy()


# -- values


@pytest.mark.parametrize("name", sorted(NETS))
def test_one_checkpoint_is_the_gram_matrix(name):
    net = make_reconstructor(name, torch.float64)
    X = make_X(name, 9, np.float64)
    gradients = obvious(net, X)
    tracin = TracInImportance(net).fit(X[:6])
    np.testing.assert_allclose(
        tracin.transform(X[6:]), gradients[6:] @ gradients[:6].T, rtol=1e-9, atol=1e-15
    )
    scaled = TracInImportance(net, checkpoints=[(net.state_dict(), 0.25)]).fit(X[:6])
    np.testing.assert_allclose(scaled.transform(X), 0.25 * tracin.transform(X), rtol=1e-12)


def test_checkpoints_add_up(tmp_path):
    history = CheckpointHistory(every=1)
    autoencoder = small(net_params={"callbacks": [history]}).fit(TRAIN)
    whole = TracInImportance(autoencoder, checkpoints=history).fit(TRAIN)
    assert whole.learning_rates_.tolist() == [0.001] * 3
    weights = [w for w, _ in history.checkpoints_]
    parts = []
    for number, lr in enumerate((0.1, 0.2, 0.3)):
        module = copy.deepcopy(autoencoder.net_.module_)
        module.load_state_dict(weights[number])
        expected = obvious(module, QUERY) @ obvious(module, TRAIN).T
        saved = save_weights(weights[number], tmp_path / str(number))
        one = TracInImportance(autoencoder, checkpoints=[(saved, lr)]).fit(TRAIN)
        parts.append(one.transform(QUERY))
        np.testing.assert_allclose(parts[-1], lr * expected, rtol=1e-4, atol=1e-6)
    pairs = [(w, lr) for w, lr in zip(weights, (0.1, 0.2, 0.3), strict=True)]
    together = TracInImportance(autoencoder, checkpoints=pairs).fit(TRAIN).transform(QUERY)
    np.testing.assert_allclose(together, sum(parts), rtol=1e-5)


def test_an_empty_history_stands_for_that_of_the_net():
    history = CheckpointHistory(every=2)
    unfitted = small(net_params={"callbacks": [history]})
    tracin = TracInImportance(unfitted, checkpoints=history).fit(TRAIN)
    assert len(tracin.learning_rates_) == 1
    assert not getattr(history, "checkpoints_", [])  # a clone was trained
    fitted = small(net_params={"callbacks": [CheckpointHistory(every=2)]}).fit(TRAIN)
    same = TracInImportance(fitted, checkpoints=CheckpointHistory()).fit(TRAIN)
    np.testing.assert_array_equal(same.transform(QUERY), tracin.transform(QUERY))
    again = clone(same)
    assert again.checkpoints is same.checkpoints
    np.testing.assert_array_equal(again.fit(TRAIN).transform(QUERY), tracin.transform(QUERY))
    with pytest.raises(ValueError, match="holds no checkpoints.*every=10"):
        TracInImportance(small(), checkpoints=CheckpointHistory()).fit(TRAIN)


def test_without_checkpoints_the_learning_rate_is_the_nets():
    autoencoder = small(lr=0.01).fit(TRAIN)
    tracin = TracInImportance(autoencoder).fit(TRAIN)
    assert tracin.learning_rates_.tolist() == [0.01]
    gradients = obvious(autoencoder.net_.module_, TRAIN)
    np.testing.assert_allclose(
        tracin.transform(TRAIN), 0.01 * gradients @ gradients.T, rtol=1e-3, atol=1e-7
    )


def test_rates_are_those_that_the_optimizer_has():
    for params, rate in (({"net_params": {"optimizer__lr": 0.5}}, 0.5), ({"lr": 0.02}, 0.02)):
        fitted = small(**params).fit(TRAIN)
        assert TracInImportance(fitted).fit(TRAIN).learning_rates_.tolist() == [rate]
    # A scheduler lowers it, and a group has its own.
    scheduler = LRScheduler(StepLR, step_size=1, gamma=0.1)
    fitted = small(lr=0.01, net_params={"callbacks": [scheduler]}).fit(TRAIN)
    rate = fitted.net_.optimizer_.param_groups[0]["lr"]
    assert rate < 0.005
    np.testing.assert_allclose(TracInImportance(fitted).fit(TRAIN).learning_rates_, [rate])


@pytest.mark.parametrize("where", ["memory", "files"])
@pytest.mark.parametrize("n_projections", [None, 300])
def test_rates_of_each_parameters_group(where, n_projections, tmp_path):
    history = CheckpointHistory(every=1, folder=tmp_path if where == "files" else None)
    groups = [("encoder*", {"lr": 0.5})]
    autoencoder = small(
        lr=1e-3, net_params={"optimizer__param_groups": groups, "callbacks": [history]}
    ).fit(TRAIN)
    encoder = TracInImportance(autoencoder).fit(TRAIN)
    assert encoder.learning_rates_.tolist() == [0.5]
    if where == "files":
        history = CheckpointHistory(folder=tmp_path)  # as another process finds it
    history = pickle.loads(pickle.dumps(history))
    params = {"parameters": "all", "n_projections": n_projections, "random_state": 0}
    tracin = TracInImportance(autoencoder, checkpoints=history, **params).fit(TRAIN)
    rates = [0.5 if name.startswith("encoder") else 1e-3 for name in tracin.parameters_]
    np.testing.assert_allclose(tracin.learning_rates_, [rates] * len(tracin.learning_rates_))
    expected = 0
    files = CheckpointHistory(folder=tmp_path).initialize().checkpoints_
    for weights, _ in files or history.checkpoints_:
        module = copy.deepcopy(autoencoder.net_.module_)
        module.load_state_dict(load_weights(weights) if where == "files" else weights)
        by_name = dict(module.named_parameters())
        sizes = [by_name[name].numel() for name in tracin.parameters_]
        gradients = obvious(module, TRAIN, part=None)
        expected = expected + gradients * np.repeat(rates, sizes) @ gradients.T
    rtol = 1e-3 if n_projections is None else 0.3
    found = tracin.transform(TRAIN)
    assert np.linalg.norm(found - expected) <= rtol * np.linalg.norm(expected)
    own = tracin.self_influence(TRAIN)
    assert np.linalg.norm(own - found.diagonal()) <= 1e-5 * np.linalg.norm(own)
    still = small(lr=1e-3, net_params={"optimizer__param_groups": [("encoder*", {"lr": 0.0})]})
    with pytest.raises(ValueError, match="a learning rate of 0 for 'encoder"):
        TracInImportance(still.fit(TRAIN)).fit(TRAIN)


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
def test_divergences_are_summed_over_features():
    """``batchmean`` divides by the number of samples only."""
    module = make_reconstructor("mlp", torch.float64)
    for reduction in ("batchmean", "sum", "mean", "other"):

        class Divergence(nn.KLDivLoss):
            pass

        criterion = Divergence(reduction="batchmean")
        criterion.reduction = reduction
        if reduction == "other":  # of the user's own, so each sample is compared alone
            criterion.forward = lambda output, x: (output - x).abs().sum() + 1
        loss = ReconstructionLoss(criterion)
        x = torch.as_tensor(make_X("mlp", 5, np.float64)).abs()
        output = module(x)
        values = loss(output, x, None)
        for i in range(5):
            if reduction == "other":
                wanted = (output[i] - x[i]).abs().sum() + 1
            else:
                wanted = nn.KLDivLoss(reduction=reduction)(output[i : i + 1], x[i : i + 1])
            torch.testing.assert_close(values[i], wanted)


def test_self_influence():
    net = make_reconstructor("conv1d", torch.float64)
    X = make_X("conv1d", 9, np.float64)
    tracin = TracInImportance(net, batch_size=4).fit(X)
    influence = tracin.self_influence(X)
    assert (influence > 0).all()
    np.testing.assert_allclose(influence, tracin.transform(X).diagonal())
    left_out = TracInImportance(net).fit_transform(X)
    off = ~np.eye(9, dtype=bool)
    smallest = np.where(off, left_out, np.inf).min(axis=1)
    np.testing.assert_array_equal(left_out.diagonal(), smallest)
    assert (smallest < 0).any()  # nothing ranks above what is negative
    np.testing.assert_allclose(left_out[off], tracin.transform(X)[off])


def test_little_memory_and_small_batches(monkeypatch):
    net = make_reconstructor("mlp", torch.float64)
    X = make_X("mlp", 23, np.float64)
    checkpoints = [(net.state_dict(), 0.5), (make_reconstructor("mlp").state_dict(), 0.1)]
    params = {"checkpoints": checkpoints}
    expected = TracInImportance(net, **params).fit(X[:13]).transform(X[13:])
    for constants in ({"_CACHE_BYTES": 0}, {"_BLOCK_BYTES": 2000}, {"_BLOCK_BYTES": 1}):
        for name, value in constants.items():
            monkeypatch.setattr(_gradient_pass, name, value)
        monkeypatch.setattr(_tracin, "_ROW_ENTRIES", 40)
        few = TracInImportance(net, batch_size=3, **params).fit(X[:13])
        np.testing.assert_allclose(few.transform(X[13:]), expected, rtol=1e-12)
        importance, index = few.top_examples(X[13:], 4)
        np.testing.assert_allclose(importance, -np.sort(-expected, axis=1)[:, :4])
    with pytest.raises(ValueError, match=r"1,040 bytes.*top_examples"):
        TracInImportance(net, max_bytes=1000).fit(X[:13]).transform(X[13:])


def test_projections_are_about_right():
    net, X = make_reconstructor("conv2d", torch.float64), make_X("conv2d", 9, np.float64)
    exact = TracInImportance(net).fit(X).transform(X)
    lengths = np.sqrt(exact.diagonal())
    for seed in (0, 1):
        few = TracInImportance(net, n_projections=2000, random_state=seed).fit(X)
        error = few.transform(X) - exact
        assert 0 < np.abs(error).max()
        assert (np.abs(error) <= 5 * np.sqrt(2 / 2000) * np.outer(lengths, lengths)).all()


# -- losses


def test_losses_of_ones_own():
    net = make_reconstructor("mlp", torch.float64)
    X = make_X("mlp", 6, np.float64)

    def absolute(output, x):
        return (output - x).abs().sum(dim=1)

    tracin = TracInImportance(net, loss=absolute).fit(X)
    gradients = obvious(net, X, lambda output, x: absolute(output, x).sum())
    np.testing.assert_allclose(tracin.transform(X), gradients @ gradients.T, rtol=1e-9)


@pytest.mark.parametrize("criterion", [nn.L1Loss, nn.HuberLoss])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_criterion_of_the_net(criterion, reduction):
    net_params = {"criterion": criterion, "criterion__reduction": reduction}
    autoencoder = small(net_params=net_params).fit(TRAIN)
    module = autoencoder.net_.module_
    gradients = obvious(module, TRAIN, criterion(reduction=reduction))
    expected = 0.001 * gradients @ gradients.T
    importance = TracInImportance(autoencoder).fit(TRAIN).transform(TRAIN)
    np.testing.assert_allclose(importance, expected, rtol=1e-3, atol=1e-6)
    assert autoencoder.net_.criterion_.reduction == reduction


def test_a_criterion_without_reduction():
    class Fourth(nn.Module):
        def forward(self, output, x):
            return ((output - x) ** 4).mean()

    autoencoder = small(net_params={"criterion": Fourth}).fit(TRAIN)
    gradients = obvious(autoencoder.net_.module_, TRAIN, Fourth())
    importance = TracInImportance(autoencoder).fit(TRAIN).transform(TRAIN)
    np.testing.assert_allclose(importance, 0.001 * gradients @ gradients.T, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pretext", ["denoising", "inpainting"])
def test_random_pretexts_use_draws_that_all_samples_share(pretext):
    autoencoder = small(pretext=pretext).fit(TRAIN)
    tracin = TracInImportance(autoencoder, n_draws=3, random_state=0).fit(TRAIN)
    generator = torch.Generator().manual_seed(tracin.seed_)
    base = torch.zeros(1, 4) if pretext == "denoising" else torch.ones(1, 4)
    draws = [corrupt(base, pretext, 0.3, 0.2, generator)[0] for _ in range(3)]

    def inputs(x):
        return [x + d if pretext == "denoising" else x * d for d in draws]

    gradients = obvious(autoencoder.net_.module_, TRAIN, inputs=inputs)
    np.testing.assert_allclose(
        tracin.transform(TRAIN), 0.001 * gradients @ gradients.T, rtol=1e-3, atol=1e-6
    )
    np.testing.assert_array_equal(tracin.transform(TRAIN), tracin.transform(TRAIN))
    other = TracInImportance(autoencoder, n_draws=3, random_state=1).fit(TRAIN)
    assert not np.allclose(other.transform(TRAIN), tracin.transform(TRAIN))


def contrast(output, x):
    return (torch.cdist(output, output) + torch.eye(len(x))).logsumexp(dim=1)


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        (contrast, "depends on the other samples"),
        (nn.functional.mse_loss, r"returned shape \(\) for .*reduction='none'"),
        (lambda output, x: 1.0, "returned float"),
        ("mse", "The 'loss' parameter .* must be .*a callable"),
    ],
)
def test_losses_that_no_sample_has(loss, match):
    with pytest.raises(TypeError, match=match) as caught:
        TracInImportance(make_reconstructor("mlp"), loss=loss).fit(make_X("mlp"))
    if callable(loss):
        assert "DKNNImportance or SimplExImportance" in str(caught.value)


def test_networks_that_reconstruct_nothing():
    narrow = nn.ModuleDict({"encoder": nn.Linear(4, 2)})
    narrow.forward = lambda x: narrow["encoder"](x)
    cases = [
        (narrow, None),
        (NeuralNetRegressor(nn.Linear, module__in_features=4, module__out_features=1), 1),
        (NeuralNetClassifier(nn.Linear, module__in_features=4, module__out_features=4), 0),
    ]
    for estimator, kind in cases:
        if kind is not None:
            y = TRAIN[:, :1] if kind else LABELS[::6]
            estimator.set_params(verbose=0, max_epochs=1, train_split=None).fit(TRAIN, y)
        with pytest.raises(TypeError, match="pass loss, .*DKNNImportance"):
            TracInImportance(estimator, parameters="all").fit(TRAIN)
    for estimator in (PCA(2), make_pipeline(KBinsDiscretizer(3, encode="ordinal"), small())):
        with pytest.raises(TypeError, match="gradients need a network as the last.*DKNNImportance"):
            TracInImportance(estimator).fit(IRIS)


def test_diverged_weights():
    net = make_reconstructor("mlp")
    net.encoder[0].bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        TracInImportance(net).fit(make_X("mlp"))


# -- parameters


def test_which_parameters():
    net, X = make_reconstructor("mlp", torch.float64), make_X("mlp", 6, np.float64)

    def importance(parameters):
        return TracInImportance(net, parameters=parameters).fit(X).transform(X)

    everything = obvious(net, X, part=None)
    np.testing.assert_allclose(importance("all"), everything @ everything.T)
    both = importance(["encoder", "decoder"])
    np.testing.assert_allclose(both, importance("all"))
    np.testing.assert_allclose(both - importance("encoder"), importance("decoder"), atol=1e-12)
    one = TracInImportance(net, parameters=["encoder.0", "encoder.4.bias", "encoder.0.weight"])
    assert one.fit(X).parameters_ == ["encoder.0.weight", "encoder.0.bias", "encoder.4.bias"]


@pytest.mark.parametrize(
    ("parameters", "error", "match"),
    [
        ("encodre", ValueError, "'encodre' is neither.*Did you mean 'encoder'"),
        (["encoder.0.wieght"], ValueError, "Did you mean 'encoder.0.weight'"),
        (["encoder.2"], ValueError, "no parameters to take gradients in"),
        ([], ValueError, "no parameters"),
        (3, TypeError, "'parameters' parameter .* Got 3 instead"),
    ],
)
def test_parameters_in_error(parameters, error, match):
    with pytest.raises(error, match=match):
        TracInImportance(make_reconstructor("mlp"), parameters=parameters).fit(make_X("mlp"))


def test_a_network_without_encoder():
    net = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 4))
    with pytest.raises(ValueError, match="'encoder' is neither.*parameters='all'"):
        TracInImportance(net).fit(TRAIN)
    assert TracInImportance(net, parameters=["0"]).fit(TRAIN).transform(QUERY).shape == (25, 25)


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        ({"n_draws": 0}, ValueError, "'n_draws' parameter .* Got 0 instead"),
        ({"n_projections": 1.5}, TypeError, r"'n_projections' parameter .* Got 1\.5 instead"),
        ({"checkpoints": []}, TypeError, "list, not empty"),
        ({"checkpoints": [{}]}, TypeError, "pairs"),
        ({"checkpoints": [({}, 0.0)]}, ValueError, r"checkpoints\[0\] has learning rate 0.0"),
        ({"checkpoints": [("nowhere.pt", 0.1)]}, FileNotFoundError, "nowhere.pt"),
        ({"checkpoints": [(3, 0.1)]}, TypeError, "holds int"),
        ({"checkpoints": [({"a": 1}, 0.1)]}, ValueError, "weights of another network.*a, "),
    ],
)
def test_other_parameters_in_error(params, error, match):
    with pytest.raises(error, match=match):
        TracInImportance(make_reconstructor("mlp"), **params).fit(make_X("mlp"))


# -- the model comes back


@pytest.mark.parametrize("broken", [False, True])
def test_everything_is_put_back(broken):
    net, X = make_reconstructor("mlp"), make_X("mlp")
    net.encoder[0].weight.requires_grad_(False)
    other = {k: v + 1 for k, v in net.state_dict().items()}
    state = copy.deepcopy(net.state_dict())
    flags = [p.requires_grad for p in net.parameters()]
    calls = []

    def loss(output, x):
        calls.append(None)
        if broken and len(calls) > n_fit + 20:
            raise ZeroDivisionError
        return (output - x).square().mean(dim=1)

    n_fit = 10**6
    tracin = TracInImportance(net, loss=loss, checkpoints=[(other, 0.1)], batch_size=2).fit(X)
    n_fit = len(calls) - 15
    if broken:
        with pytest.raises(ZeroDivisionError):
            tracin.transform(X)
    else:
        tracin.transform(X)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert [p.requires_grad for p in net.parameters()] == flags
    assert all(m.training for m in net.modules())
    assert all(p.grad is None for p in net.parameters())


def test_a_generator_left_early_leaves_nothing_behind():
    net, X = make_reconstructor("mlp"), make_X("mlp")
    checkpoints = [({k: v + lr for k, v in net.state_dict().items()}, lr) for lr in (0.1, 0.2)]
    state = copy.deepcopy(net.state_dict())
    tracin = TracInImportance(net, checkpoints=checkpoints, batch_size=2).fit(X)
    expected = tracin.transform(X)
    with tracin._door(X) as inputs:
        blocks = tracin._blocks(inputs)
        next(blocks)
        view = tracin._representation.chain
        same = zip(view.parameters(), net.parameters(), strict=True)
        assert all(ours.is_set_to(theirs) for ours, theirs in same)
        # Other calls in the same session, while the generator waits.
        np.testing.assert_array_equal(tracin.transform(X), expected)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert net.training
    del blocks
    np.testing.assert_array_equal(tracin.transform(X), expected)


def closure():
    """Make a network that cannot be viewed: its forward runs the very module."""
    net = make_reconstructor("mlp")
    net.forward = lambda x: net.decoder(net.encoder(x))
    return net


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_keeps_its_weights_while_checkpoints_are_loaded(fails):
    net, X = make_reconstructor("mlp"), make_X("mlp")
    other = {k: v + 1 for k, v in net.state_dict().items()}
    state = copy.deepcopy(net.state_dict())
    pointers = [t.data_ptr() for t in net.state_dict().values()]
    looked = []

    def loss(output, x):
        looked.append(all(torch.equal(v, state[k]) for k, v in net.state_dict().items()))
        if fails and len(looked) > n_fit + 1:
            raise ZeroDivisionError
        return (output - x).square().mean(dim=1)

    n_fit = 10**6
    tracin = TracInImportance(net, loss=loss, checkpoints=[(other, 0.1)], batch_size=2).fit(X)
    n_fit = len(looked)
    if fails:
        with pytest.raises(ZeroDivisionError) as caught:
            tracin.transform(X)
        (note,) = caught.value.__notes__
        assert note == "raised while running the loss on 2 samples of shape (n, 5)"
    else:
        tracin.transform(X)
    assert len(looked) > n_fit
    assert all(looked)
    assert [t.data_ptr() for t in net.state_dict().values()] == pointers
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize("fails", [False, True])
def test_networks_that_cannot_be_viewed_get_their_storage_back(fails):
    net, X = closure(), make_X("mlp")
    other = {k: v + 1 for k, v in net.state_dict().items()}
    state = copy.deepcopy(net.state_dict())
    pointers = [t.data_ptr() for t in net.state_dict().values()]
    tracin = TracInImportance(net, checkpoints=[(other, 0.1)]).fit(X)
    assert not tracin._representation.viewed
    plain = make_reconstructor("mlp")
    expected = TracInImportance(plain, checkpoints=[(other, 0.1)]).fit(X).transform(X)
    np.testing.assert_allclose(tracin.transform(X), expected, rtol=1e-6)
    if fails:
        hook = net.decoder.register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            tracin.transform(X)
        hook.remove()
    assert [t.data_ptr() for t in net.state_dict().values()] == pointers
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())


def test_other_threads_see_the_networks_own_weights():
    net, X = make_reconstructor("mlp").eval(), make_X("mlp", 64)
    other = {k: v + 1 for k, v in net.state_dict().items()}
    x = torch.as_tensor(X)
    with torch.no_grad():
        expected = net(x)
    tracin = TracInImportance(net, checkpoints=[(other, 0.1)] * 3, batch_size=8).fit(X)
    done, differing = threading.Event(), []

    def run():
        while not done.is_set():
            with torch.no_grad():
                differing.append(not torch.equal(net(x), expected))
            time.sleep(1e-3)  # or the two would only wait for each other

    thread = threading.Thread(target=run)
    thread.start()
    tracin.transform(X)
    done.set()
    thread.join()
    assert differing
    assert not any(differing)


def test_what_a_part_keeps_beside_its_weights_is_put_back():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.scale = nn.Linear(4, 4), 1.0

        def forward(self, x):
            return self.scale * self.encoder(x)

        def get_extra_state(self):
            return {"scale": self.scale}

        def set_extra_state(self, state):
            self.scale = state["scale"]

    net = Scaled()
    other = copy.deepcopy(net.state_dict())
    other["_extra_state"]["scale"] = 3.0
    with _network.loaded(net, other):
        assert net.scale == 3.0
    assert net.scale == 1.0


# -- plans belong to fit


def count_passes(net):
    rows = []
    net.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    return rows


def test_nothing_is_tried_in_transform():
    net, X = make_reconstructor("mlp"), make_X("mlp", 40)
    rows = count_passes(net)
    tracin = TracInImportance(net).fit(X)
    assert len(rows) == 10  # eight that every explainer needs, and two
    for call in (lambda: tracin.transform(X[:10]), lambda: tracin.self_influence(X[:10])):
        rows.clear()
        call()
        assert rows in ([10, 40], [10])


def test_weights_that_change_are_followed():
    net, X = make_reconstructor("mlp", torch.float64), make_X("mlp", 6, np.float64)
    tracin = TracInImportance(net).fit(X)
    with torch.no_grad():
        net.encoder[0].weight.mul_(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = tracin.transform(X)
    gradients = obvious(net, X)
    np.testing.assert_allclose(found, gradients @ gradients.T, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("part", [nn.Sequential(nn.Linear(4, 4)), nn.Identity()])
def test_layers_that_are_replaced(part):
    net, X = make_reconstructor("mlp"), make_X("mlp")
    tracin = TracInImportance(net).fit(X)
    net.encoder[0] = part
    with pytest.raises(ValueError, match="no longer has .* fit it again"):
        tracin.transform(X)


@pytest.mark.parametrize("params", [{}, {"n_projections": 8}])
def test_saved_and_loaded(params):
    fitted = TracInImportance(small().fit(TRAIN), **params).fit(TRAIN)
    expected = fitted.transform(QUERY)
    for again in round_trips(fitted):
        np.testing.assert_array_equal(again.transform(QUERY), expected)
        np.testing.assert_array_equal(again.self_influence(QUERY), fitted.self_influence(QUERY))


def round_trips(fitted):
    yield pickle.loads(pickle.dumps(fitted))
    yield copy.deepcopy(fitted)
    skops = pytest.importorskip("skops.io")
    saved = skops.dumps(fitted)
    yield skops.loads(saved, trusted=skops.get_untrusted_types(data=saved))


@pytest.mark.parametrize("empty", [False, True])
def test_checkpoints_are_saved_with_it(empty):
    history = CheckpointHistory(every=1)
    autoencoder = small(net_params={"callbacks": [history]}).fit(TRAIN)
    checkpoints = CheckpointHistory() if empty else history
    fitted = TracInImportance(autoencoder, checkpoints=checkpoints).fit(TRAIN)
    for again in round_trips(fitted):
        np.testing.assert_array_equal(again.transform(QUERY), fitted.transform(QUERY))


# -- as a citizen of scikit-learn


def test_pipelines_preprocess_first():
    autoencoder = small().fit(StandardScaler().fit_transform(IRIS))
    scaler = StandardScaler().fit(IRIS)
    pipeline = make_pipeline(scaler, autoencoder)
    scaled = [scaler.transform(X).astype(np.float32) for X in (IRIS[::6], IRIS[1::6])]
    expected = TracInImportance(autoencoder).fit(scaled[0]).transform(scaled[1])
    tracin = TracInImportance(pipeline).fit(IRIS[::6], LABELS[::6])
    np.testing.assert_allclose(tracin.transform(IRIS[1::6]), expected, rtol=1e-4)
    assert -1 <= tracin.score(IRIS[1::6], LABELS[1::6]) <= 1
    assert -1 <= tracin.score(IRIS[1::6]) <= 1


def test_arrays_that_have_no_length():
    class Bare:
        def __array__(self, dtype=None, copy=None):
            return TRAIN

    tracin = TracInImportance(small()).fit(Bare())
    assert tracin.corpus_index_.tolist() == list(range(25))


def test_frames_name_their_examples():
    frame = pd.DataFrame(
        TRAIN.astype(np.float64), index=[f"p{i}" for i in range(25)], columns=list("abcd")
    )
    tracin = TracInImportance(small()).fit(frame)
    index = tracin.top_examples(frame.iloc[:3], 2)[1]
    assert set(index.ravel()) <= set(frame.index)


def test_before_fit():
    with pytest.raises(NotFittedError):
        TracInImportance(small()).transform(TRAIN)
    with pytest.raises(NotFittedError):
        TracInImportance(small()).self_influence(TRAIN)


CONSTANT = {
    "zero": lambda output, x: (output * 0).sum(dim=1),
    "one": lambda output, x: (output * 0).sum(dim=1) + 1,
    "rounded": lambda output, x: output.round().sum(dim=1),
    "zero product": lambda output, x: output.square().sum(dim=1) * 0,
}


@pytest.mark.parametrize("explainer", [TracInImportance, InfluenceImportance])
@pytest.mark.parametrize("name", CONSTANT)
def test_a_loss_without_slope_is_refused(name, explainer):
    X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    with pytest.raises(TypeError, match="the loss has no gradient in the parameters"):
        explainer(nn.Linear(3, 2), loss=CONSTANT[name], parameters="all").fit(X)


def test_a_perfect_network_has_importance_zero():
    X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    net = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.eye(3))
    loss = lambda output, x: (output - x).square().sum(dim=1)  # noqa: E731
    perfect = TracInImportance(net, loss=loss, parameters="all")
    assert not perfect.fit(X).transform(X).any()


@pytest.mark.parametrize("explainer", [TracInImportance, InfluenceImportance])
@pytest.mark.parametrize("in_one_set", [True, False])
def test_batches_with_rare_samples(explainer, in_one_set, monkeypatch):
    class Rare(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.out = nn.Linear(4, 3), nn.Linear(3, 4)

        def forward(self, x):
            out, rare = self.out(torch.tanh(self.layer(x))), x[:, :1] > 2
            if not rare.any():
                return out
            return torch.where(rare, out + x @ self.layer.weight.T @ self.layer.weight, out)

    torch.manual_seed(0)
    net, X = Rare().eval(), np.random.default_rng(0).normal(size=(100, 4)).clip(-1, 1)
    X[33, 0] = 2.1
    X = X.astype("float32")
    expected = explainer(net, parameters="all").fit(X).transform(X)
    if not in_one_set:
        monkeypatch.setattr(_gradient_pass, "joins_within", lambda parts, max_bytes: False)
    found = explainer(net, parameters="all", batch_size=16).fit(X)
    np.testing.assert_allclose(found.transform(X), expected, rtol=1e-3, atol=1e-4)
    again = found.transform(X[:7])  # by gradients that were kept
    np.testing.assert_allclose(again, expected[:7], rtol=1e-3, atol=1e-4)
