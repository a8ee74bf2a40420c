"""ClaDecExplainer: its losses, its theory (section II of the paper), and its contracts."""

import copy
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, KernelPCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback, EpochScoring
from torch import nn

from sklexplain import ClaDecExplainer
from sklexplain.decoding import _trainer
from sklexplain.training import ArrayNet
from tests.cases import encode, make_net, make_X

QUICK = {"max_epochs": 2, "validation_split": None, "random_state": 0}
# Full batches and second-order steps: converged in a few of them.
EXACT = {
    "decoder": "linear",
    "validation_split": None,
    "random_state": 0,
    "max_epochs": 10,
    "lr": 1.0,
    "net_params": {
        "optimizer": torch.optim.LBFGS,
        "optimizer__line_search_fn": "strong_wolfe",
        "optimizer__tolerance_grad": 1e-12,
        "optimizer__tolerance_change": 1e-14,
        "batch_size": -1,
    },
}


class Slow(nn.Module):
    def forward(self, x):
        time.sleep(0.01)  # so that passes of threads overlap
        return x


def correlated(n=80, d=5):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


def linear_net(n_out, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, n_out)).double()


# -- theory --------------------------------------------------------------------------------------


def test_linear_reference_is_pca():
    X = correlated()
    explainer = ClaDecExplainer(linear_net(2), **EXACT).fit(X)
    pca = PCA(2).fit(X)
    expected = pca.inverse_transform(pca.transform(X))
    np.testing.assert_allclose(explainer.transform_reference(X), expected, atol=1e-4)
    weight = explainer.reference_decoder_[1].weight.detach().numpy()
    span, _ = np.linalg.qr(weight)
    np.testing.assert_allclose(span @ span.T, pca.components_.T @ pca.components_, atol=1e-4)


def test_linear_decoder_of_a_linear_encoder_is_a_regression():
    X = correlated()
    net = linear_net(2)
    explainer = ClaDecExplainer(net, reference=None, **EXACT).fit(X)
    y = encode(net, X)
    covariance = np.cov(np.hstack([X, y]).T)
    expected = covariance[:5, 5:] @ np.linalg.inv(covariance[5:, 5:])
    weight = explainer.decoder_[1].weight.detach().numpy()
    np.testing.assert_allclose(weight, expected, atol=1e-5)
    # And of the reference no linear decoder can be better.
    reference = ClaDecExplainer(net, **EXACT).fit(X)
    own, theirs = (reference.reconstruction_loss(X, reference=r).mean() for r in (False, True))
    assert theirs < own


def test_reference_reconstructs_better_and_lower_layers_too():
    X = correlated(120)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 2), nn.Linear(2, 1)).double()
    losses = []
    for layer in ("0", "1", "2"):
        explainer = ClaDecExplainer(net, layer=layer, **EXACT).fit(X)
        own = explainer.reconstruction_loss(X).mean()
        assert explainer.reconstruction_loss(X, reference=True).mean() < own
        losses.append(own)
    assert losses == sorted(losses)


# -- losses --------------------------------------------------------------------------------------


def classifier(double=True):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    return net.double() if double else net


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
@pytest.mark.parametrize("second", ["model", "y", "activation"])
def test_loss_of_a_batch(alpha, loss, second, monkeypatch):
    """Equation 1, written out, at the weights training starts from."""
    net, X = classifier(), np.random.default_rng(0).uniform(size=(7, 5))
    y = np.array([0, 1, 2, 0, 1, 2, 2])
    starts = []
    original = ArrayNet.fit_arrays

    def spy(self, *args):
        starts.append({k: v.clone().numpy() for k, v in self.module.state_dict().items()})
        return original(self, *args)

    monkeypatch.setattr(ArrayNet, "fit_arrays", spy)
    explainer = ClaDecExplainer(
        net,
        alpha=alpha,
        loss=loss,
        decoder="linear",
        class_target=second if second != "activation" else "model",
        fidelity="activation" if second == "activation" else "output",
        reference=None,
        max_epochs=1,
        validation_split=None,
        net_params={"batch_size": -1},
        random_state=0,
    ).fit(X, y)
    w = {k: v.detach().numpy() for k, v in net.state_dict().items()}

    def hidden(x):
        return np.tanh(w["0.weight"] @ x + w["0.bias"])

    def probabilities(x):
        e = np.exp(w["2.weight"] @ hidden(x) + w["2.bias"])
        return e / e.sum()

    spread = np.var([hidden(x) for x in X], axis=0).mean()
    total = 0.0
    for x, label in zip(X, y, strict=True):
        x_hat = starts[0]["decoder.1.weight"] @ hidden(x) + starts[0]["decoder.1.bias"]
        if loss == "cross_entropy":
            x_hat = 1 / (1 + np.exp(-x_hat))
            rec = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat))
        else:
            rec = np.sum((x - x_hat) ** 2)
        if second == "activation":
            other = np.sum((hidden(x_hat) - hidden(x)) ** 2) / spread
        elif second == "y":
            other = -np.log(probabilities(x_hat)[label])
        else:
            other = -np.sum(probabilities(x) * np.log(probabilities(x_hat)))
        total += alpha * rec + (1 - alpha) * other
    assert explainer.loss_curve_[0] == pytest.approx(total / len(X), rel=1e-9)


def test_loss_of_a_regressor():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 5))
    model = LinearRegression().fit(X, np.column_stack([X[:, 0] + X[:, 1], X[:, 2]]))
    options = dict(EXACT, max_epochs=1, reference=None, alpha=0.0)
    explainer = ClaDecExplainer(model, **options).fit(X)
    # Predictions of a linear model of rank two can be kept as they are.
    assert explainer.agreement(X) > 0.999
    assert explainer._found_comparison().link is None
    y = rng.normal(size=(40, 2))
    explainer = ClaDecExplainer(model, class_target="y", **options).fit(X, y)
    explainer_loss = explainer.loss_curve_[0]
    x_hat = explainer.transform(X)
    error = np.sum((model.predict(x_hat) - y) ** 2, axis=1).mean()
    least = ((y - LinearRegression().fit(model.predict(X), y).predict(model.predict(X))) ** 2).sum()
    assert error == pytest.approx(least / 40, rel=1e-3)
    assert explainer_loss > error


def test_through_a_scaler_the_loss_is_in_the_networks_units():
    X = correlated() * [1, 100, 1e-3, 1, 1] + [0, 0, 0, 1e6, 0]
    pipeline = make_pipeline(StandardScaler(), PCA(2)).fit(X)
    explainer = ClaDecExplainer(pipeline, **EXACT).fit(X)
    scaled = pipeline[0].transform(X)
    pca = pipeline[1]
    expected = pca.inverse_transform(pca.transform(scaled))
    np.testing.assert_allclose(pipeline[0].transform(explainer.transform(X)), expected, atol=1e-4)
    np.testing.assert_allclose(
        explainer.reconstruction_loss(X), np.sum((scaled - expected) ** 2, axis=1), atol=1e-3
    )
    np.testing.assert_allclose(explainer.mean_, np.zeros(5), atol=1e-8)


# -- what takes part in training -----------------------------------------------------------------


class Forbidden:
    """An array that nobody may read."""

    def __getitem__(self, index):
        raise AssertionError("this array was read")

    def __len__(self):
        return 9


@pytest.mark.parametrize(
    ("alpha", "fidelity", "unread"),
    [(1.0, "output", ["target"]), (0.0, "output", ["x"]), (0.0, "activation", ["x", "target"])],
)
def test_what_has_no_weight_is_not_touched(alpha, fidelity, unread, monkeypatch):
    original = _trainer.train

    def without(module, plan, objective, arrays, params, **options):
        arrays = {**arrays, **{name: Forbidden() for name in unread}}
        return original(module, plan, objective, arrays, params, **options)

    monkeypatch.setattr(_trainer, "train", without)
    net, X = classifier(double=False), make_X("mlp")
    options = dict(QUICK, reference=None, alpha=alpha, fidelity=fidelity)
    ClaDecExplainer(net, **options).fit(X)


def test_with_alpha_one_neither_targets_nor_the_classifier_matter():
    X = make_X("mlp", 20)
    net = classifier(double=False)
    plain = ClaDecExplainer(net, **QUICK).fit(X)
    with_y = ClaDecExplainer(net, class_target="y", **QUICK).fit(X, np.full(20, 99))
    np.testing.assert_array_equal(plain.transform(X), with_y.transform(X))
    calls = []
    net[2].register_forward_hook(lambda *args: calls.append(1))
    explainer = ClaDecExplainer(net, layer="1", reference=None, **QUICK).fit(X)
    probing = len(calls)
    explainer = ClaDecExplainer(net, layer="1", reference=None, **{**QUICK, "max_epochs": 9})
    explainer.fit(X)
    assert len(calls) == 2 * probing  # of nothing but finding out about the network


def test_activations_are_computed_once():
    X = make_X("mlp", 20)
    net = classifier(double=False)
    rows = []
    net[0].register_forward_hook(lambda module, args, output: rows.append(len(output)))
    counts = []
    for max_epochs in (1, 9):
        rows.clear()
        options = dict(QUICK, max_epochs=max_epochs, reference=None)
        ClaDecExplainer(net, batch_size=7, **options).fit(X)
        counts.append(list(rows))
    assert counts[0] == counts[1]
    assert counts[0][-4:] == [7, 7, 6, 2]  # two more to check the decoder


def test_both_decoders_start_alike_and_see_the_same_batches(monkeypatch):
    starts, batches = [], []
    original = ArrayNet.fit_arrays

    def spy(self, arrays, objective, *args):
        starts.append({k: v.clone() for k, v in self.module.decoder.named_parameters()})
        batches.append([])

        def seen(module, batch, epoch):
            batches[-1].append(batch["x"].clone())
            return objective(module, batch, epoch)

        seen.needs = objective.needs
        return original(self, arrays, seen, *args)

    monkeypatch.setattr(ArrayNet, "fit_arrays", spy)
    net, X = make_net("mlp"), make_X("mlp", 23)
    options = {"max_epochs": 3, "random_state": 0, "net_params": {"batch_size": 10}}
    with pytest.warns(ConvergenceWarning):
        ClaDecExplainer(net, **options).fit(X)
    first, second = starts
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)
    # A last batch of one (21 = 10 + 10 + 1) joins the one before it; two are held out.
    assert [len(b) for b in batches[0]] == [10, 11, 2] * 3
    assert all(torch.equal(a, b) for a, b in zip(*batches, strict=True))
    assert not torch.equal(batches[0][0], batches[0][3])
    assert len(torch.cat(batches[0][:3]).unique(dim=0)) == 23


def test_random_reference_is_not_trained():
    net, X = make_net("conv1d"), make_X("conv1d", 20)
    explainers = [
        ClaDecExplainer(net, reference="random", **{**QUICK, "max_epochs": n}).fit(X)
        for n in (1, 3)
    ]
    first, second = (e._decoding("reference").encoder.state_dict() for e in explainers)
    assert all(torch.equal(first[k], second[k]) for k in first)
    joint = ClaDecExplainer(net, **QUICK).fit(X)
    trained = joint._decoding("reference").encoder.state_dict()
    assert any(not torch.equal(first[k], trained[k]) for k in first)
    assert not np.array_equal(*(e.transform_reference(X) for e in explainers))


# -- networks of every kind ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "conv1d", "conv2d", "lstm", "gru", "transformer"])
def test_every_network_learns_to_reconstruct(name):
    net, X = make_net(name), make_X(name, 30)
    options = {"validation_split": None, "random_state": 0, "max_epochs": 15, "lr": 3e-3}
    explainer = ClaDecExplainer(net, alpha=0.9, **options).fit(X)
    assert explainer.loss_curve_[-1] < explainer.loss_curve_[0]
    assert explainer.reference_loss_curve_[-1] < explainer.reference_loss_curve_[0]
    explanation = explainer.explain(X)
    for part in explanation.values():
        assert part.shape == X.shape
        assert part.dtype == np.float32
    np.testing.assert_array_equal(explanation.input, X)
    np.testing.assert_array_equal(
        explanation.difference, explanation.reconstruction - explanation.reference
    )
    np.testing.assert_array_equal(explanation.reconstruction, explainer.transform(X))
    np.testing.assert_array_equal(explanation.reference, explainer.transform_reference(X))
    assert net.training


def trained(kind, X):
    """A classifier of a kind, and the labels that it has learned."""
    y = np.digitize(X[:, 0], [0.0] if kind == "binary" else [-0.5, 0.5])
    if kind == "pipeline":
        return make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y), y
    options = {"max_epochs": 40, "lr": 0.1, "batch_size": 10, "train_split": None, "verbose": 0}
    layers = [nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1 if kind == "binary" else 3)]
    if kind == "binary":
        y = y.astype(np.float32)  # what its criterion takes
        net = NeuralNetBinaryClassifier(nn.Sequential(*layers, nn.Flatten(0)), **options)
    elif kind == "probabilities":
        net = NeuralNetClassifier(nn.Sequential(*layers, nn.Softmax(dim=1)), **options)
    else:
        net = NeuralNetClassifier(nn.Sequential(*layers), criterion=nn.CrossEntropyLoss, **options)
    return net.fit(X, y), y


@pytest.mark.parametrize("kind", ["logits", "probabilities", "binary", "pipeline"])
def test_classifiers_with_probabilities_of_their_own(kind):
    X = make_X("mlp", 40)
    estimator, y = trained(kind, X)
    options = {"validation_split": None, "random_state": 0, "max_epochs": 60, "lr": 1e-2}
    explainer = ClaDecExplainer(estimator, alpha=0.0, reference=None, **options).fit(X)
    expected = np.mean(
        estimator.predict(explainer.transform(X).astype(np.float32)) == estimator.predict(X)
    )
    assert explainer.agreement(X) == pytest.approx(expected)
    assert expected > 0.8
    p = estimator.predict_proba(X)
    entropy = -(p * np.log(np.clip(p, 1e-12, None))).sum(axis=1).mean()
    # Cross-entropy with the model's own probabilities is bounded by their entropy.
    assert explainer.loss_curve_[-1] >= entropy - 1e-6
    by_label = ClaDecExplainer(
        estimator, alpha=0.0, class_target="y", reference=None, **options
    ).fit(X, y)
    assert not np.array_equal(by_label.transform(X), explainer.transform(X))


def test_labels_that_are_no_numbers():
    X = make_X("mlp", 30)
    y = np.where(X[:, 0] > 0, "up", "down")
    model = LogisticRegression().fit(X, y)
    options = dict(QUICK, alpha=0.5, class_target="y", reference=None)
    named = ClaDecExplainer(model, **options).fit(X, y)
    numbers = LogisticRegression().fit(X, y == "up")
    same = ClaDecExplainer(numbers, **options).fit(X, y == "up")
    np.testing.assert_allclose(named.transform(X), same.transform(X))
    with pytest.raises(ValueError, match="'left', which is none of the classes"):
        ClaDecExplainer(model, **options).fit(X, np.full(30, "left"))
    with pytest.raises(ValueError, match="needs y"):
        ClaDecExplainer(model, **options).fit(X)


def test_skorch_regressor():
    X = make_X("mlp", 30)
    y = X[:, :1] - X[:, 1:2]
    net = NeuralNetRegressor(
        nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 1)),
        max_epochs=20,
        lr=0.1,
        train_split=None,
        verbose=0,
    ).fit(X, y)
    explainer = ClaDecExplainer(
        net, alpha=0.5, validation_split=None, max_epochs=60, lr=1e-2, random_state=0
    ).fit(X)
    predicted, expected = net.predict(explainer.transform(X)), net.predict(X)
    r2 = 1 - ((predicted - expected) ** 2).sum() / ((expected - expected.mean()) ** 2).sum()
    assert explainer.agreement(X) == pytest.approx(r2, rel=1e-4)
    assert r2 > 0.8


def test_task_can_be_told():
    net, X = make_net("conv1d"), make_X("conv1d", 20)
    as_classes = ClaDecExplainer(net, alpha=0.5, **QUICK).fit(X)
    as_values = ClaDecExplainer(net, alpha=0.5, task="regression", **QUICK).fit(X)
    assert not np.array_equal(as_classes.transform(X), as_values.transform(X))
    assert as_classes._found_comparison().link == "softmax"
    assert as_values._found_comparison().link is None


def test_black_box():
    X = make_X("mlp", 40)
    forest = RandomForestClassifier(40, min_samples_leaf=3, random_state=0).fit(X, X[:, 0] > 0)
    explainer = ClaDecExplainer(forest, reference=None, **QUICK).fit(X)
    assert explainer.transform(X).shape == X.shape
    assert explainer.layer_ is None
    expected = np.mean(forest.predict(explainer.transform(X)) == forest.predict(X))
    assert explainer.agreement(X) == expected
    with pytest.warns(UserWarning, match="no reference.*RandomForestClassifier") as warned:
        same = ClaDecExplainer(forest, **QUICK).fit(X)
    assert warned[0].filename == __file__
    np.testing.assert_array_equal(same.transform(X), explainer.transform(X))
    assert same.explain(X).reference is None
    with pytest.raises(TypeError, match="alpha=0.5 needs the gradient.*RandomForest.*alpha=1"):
        ClaDecExplainer(forest, alpha=0.5, **QUICK).fit(X)


def test_steps_without_layers_are_decoded_from_their_output():
    X = make_X("mlp", 40)
    scaled = make_pipeline(StandardScaler(), SelectKBest(k=3)).fit(X, X[:, 0] > 0)
    explainer = ClaDecExplainer(scaled, reference=None, **QUICK).fit(X)
    assert explainer.layer_ is None and explainer.transform(X).shape == X.shape
    assert explainer.task_ == "regression"
    with pytest.warns(UserWarning, match="no reference: .* Pipeline has no weights to draw"):
        same = ClaDecExplainer(scaled, **QUICK).fit(X)
    np.testing.assert_array_equal(same.transform(X), explainer.transform(X))


def test_encoded_columns_are_reconstructed_as_they_enter():
    X = pd.DataFrame({"a": ["u", "v", "w"] * 10, "b": np.arange(30.0)})
    encode = ColumnTransformer([("one", OneHotEncoder(), ["a"]), ("s", StandardScaler(), ["b"])])
    pipeline = make_pipeline(encode, PCA(2)).fit(X)
    explainer = ClaDecExplainer(pipeline, **QUICK).fit(X)
    assert explainer.transform(X).shape == (30, 4)
    assert list(explainer.get_feature_names_out()) == ["a_0", "a_1", "a_2", "b"]
    assert explainer.explain(X).input.shape == (30, 4)
    assert explainer.set_output(transform="pandas").transform(X).columns[3] == "b"


# -- contracts -----------------------------------------------------------------------------------


def test_the_classifier_comes_back_as_it_was():
    net, X = make_net("conv2d"), make_X("conv2d", 12)
    net[0].weight.requires_grad_(False)
    net[1].eval()
    net[2].register_forward_hook(lambda *args: None)
    state = copy.deepcopy(net.state_dict())
    modes = [m.training for m in net.modules()]
    flags = [p.requires_grad for p in net.parameters()]
    generator, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    for fidelity in ("output", "activation"):
        explainer = ClaDecExplainer(net, alpha=0.5, fidelity=fidelity, **QUICK).fit(X)
        explainer.explain(X)
        explainer.score(X)
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    assert modes == [m.training for m in net.modules()]
    assert flags == [p.requires_grad for p in net.parameters()]
    assert all(p.grad is None for p in net.parameters())
    assert len(net[2]._forward_hooks) == 1
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()) == 1
    assert torch.equal(generator, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])


def test_fit_within_no_grad_and_inference_mode():
    net, X = make_net("mlp"), make_X("mlp")
    expected = ClaDecExplainer(net, alpha=0.5, **QUICK).fit(X).transform(X)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            found = ClaDecExplainer(net, alpha=0.5, **QUICK).fit(X).transform(X)
        np.testing.assert_array_equal(found, expected)


def test_score():
    X = make_X("mlp", 40)
    model = LogisticRegression().fit(X, X[:, 0] > 0)
    options = {**QUICK, "max_epochs": 30, "lr": 1e-2}
    explainer = ClaDecExplainer(model, **options).fit(X[:30])
    x_hat = explainer.transform(X[30:])
    a = np.mean(model.predict(x_hat) == model.predict(X[30:]))
    error, total = ((X[30:] - x_hat) ** 2).sum(), ((X[30:] - X[:30].mean(axis=0)) ** 2).sum()
    b = max(0.0, 1 - error / total)
    assert b > 0
    assert explainer.score(X[30:]) == pytest.approx(2 / (1 / a + 1 / b), rel=1e-5)
    in_parts = ClaDecExplainer(model, batch_size=3, **options).fit(X[:30])
    assert in_parts.score(X[30:]) == pytest.approx(explainer.score(X[30:]))
    losses = (e.reconstruction_loss(X) for e in (in_parts, explainer))
    np.testing.assert_allclose(*losses)
    only_class = ClaDecExplainer(model, alpha=0.0, **options).fit(X[:30])
    assert only_class.score(X[30:]) < explainer.score(X[30:])


def test_grid_search_over_alpha_and_layer():
    X = make_X("mlp", 24)
    net = classifier(double=False)
    grid = {"alpha": [0.0, 1.0], "layer": ["0", "2"]}
    search = GridSearchCV(ClaDecExplainer(net, reference=None, **QUICK), grid, cv=2).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.estimator_ is net


def test_latent_code_gives_several_explanations():
    X = make_X("conv1d", 20)
    options = dict(QUICK, n_latent=3)
    explainer = ClaDecExplainer(make_net("conv1d"), **options).fit(X)
    draws = explainer.sample(X, n_draws=4)
    assert draws.shape == (20, 4, 2, 10)
    assert (draws.std(axis=1) > 0).all()
    close = {"rtol": 1e-4, "atol": 1e-6}  # entries are of order 1, in float32
    np.testing.assert_allclose(explainer.sample(X[5:8], n_draws=4), draws[5:8], **close)
    np.testing.assert_allclose(explainer.transform(X[:3]), explainer.transform(X)[:3], **close)
    free = ClaDecExplainer(make_net("conv1d"), kl_weight=0.0, **options).fit(X)
    assert free.loss_curve_[0] < explainer.loss_curve_[0]
    with pytest.raises(ValueError, match="set n_latent"):
        ClaDecExplainer(make_net("conv1d"), **QUICK).fit(X).sample(X)


def test_pickle_keeps_everything():
    net, X = make_net("lstm"), make_X("lstm", 12)
    explainer = ClaDecExplainer(net, alpha=0.5, **QUICK).fit(X)
    again = pickle.loads(pickle.dumps(explainer))
    for part, other in zip(explainer.explain(X).values(), again.explain(X).values(), strict=True):
        np.testing.assert_array_equal(part, other)
    assert again.score(X) == explainer.score(X)


def test_early_stopping_and_convergence():
    X = correlated(60).astype(np.float32)
    net = classifier(double=False)
    with pytest.warns(ConvergenceWarning, match="decoder still improved when max_epochs=2"):
        ClaDecExplainer(net, max_epochs=2, reference=None, random_state=0).fit(X)
    with pytest.warns(ConvergenceWarning) as warned:
        ClaDecExplainer(net, max_epochs=2, random_state=0).fit(X)
    assert [w.filename == __file__ for w in warned] == [True, True]
    assert "reference" in str(warned[1].message)
    stopped = ClaDecExplainer(
        net, patience=2, lr=0.1, max_epochs=500, reference=None, random_state=0
    ).fit(X)
    best = int(np.argmin(stopped.validation_loss_curve_))
    assert stopped.n_epochs_ == len(stopped.loss_curve_) < 500
    assert best < stopped.n_epochs_ - 1


def test_verbose_and_callbacks(capsys):
    X = make_X("mlp", 20)
    epochs = []

    class Count(Callback):
        def on_epoch_end(self, net, **kwargs):
            epochs.append(len(net.history))

    options = {**QUICK, "net_params": {"callbacks": [Count()]}, "reference": None}
    ClaDecExplainer(classifier(double=False), **options).fit(X)
    assert epochs == [1, 2]
    assert capsys.readouterr().out == ""
    ClaDecExplainer(classifier(double=False), verbose=1, **options).fit(X)
    assert "train_loss" in capsys.readouterr().out


def test_validation_split_may_look_at_labels():
    X = make_X("mlp", 20)
    y = np.repeat([0, 1], 10)
    seen = []

    class Splitter(StratifiedShuffleSplit):
        def split(self, X, y=None, groups=None):
            seen.append(np.asarray(y))
            return super().split(X, y, groups)

    options = {"max_epochs": 30, "lr": 0.05, "patience": 1, "random_state": 0}
    split = Splitter(1, test_size=4)
    fitted = ClaDecExplainer(classifier(double=False), validation_split=split, **options).fit(X, y)
    assert len(seen) == 2  # of the decoder and of the reference
    assert all(np.array_equal(labels, y) for labels in seen)
    assert len(fitted.validation_loss_curve_) == fitted.n_epochs_


def test_batch_norm_trains_on_a_last_batch_of_one():
    net, X = make_net("mlp"), make_X("mlp", 9)
    ClaDecExplainer(net, net_params={"batch_size": 4}, **QUICK).fit(X)


def test_divergence():
    X = correlated().astype(np.float32)
    with pytest.raises(ValueError, match="diverged.*StandardScaler.*lr=1000"):
        ClaDecExplainer(
            classifier(double=False),
            lr=1000,
            net_params={"optimizer": torch.optim.SGD},
            **{**QUICK, "max_epochs": 20},
        ).fit(X)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"alpha": 1.5}, ValueError, r"'alpha' parameter .* Got 1\.5 instead"),
        ({"alpha": -0.1}, ValueError, r"'alpha' parameter .* Got -0\.1 instead"),
        ({"alpha": "1"}, ValueError, "'alpha' parameter .* Got '1' instead"),
        ({"alpha": np.nan}, ValueError, "'alpha' parameter .* Got nan instead"),
        ({"class_target": "labels"}, ValueError, "class_target"),
        ({"fidelity": "outputs"}, ValueError, "Did you mean 'output'"),
        ({"reference": "autoencoders"}, ValueError, "Did you mean 'autoencoder'"),
        ({"loss": "cross-entropy"}, ValueError, "Did you mean 'cross_entropy'"),
        ({"loss": "cross_entropy"}, ValueError, "between 0 and 1, but it enters the network"),
        ({"task": "clustering"}, ValueError, "task"),
        ({"n_latent": 0}, ValueError, "n_latent"),
        ({"kl_weight": -1}, ValueError, "kl_weight"),
        ({"lr": 0}, ValueError, "'lr' parameter .* Got 0 instead"),
        ({"max_epochs": 0}, ValueError, "max_epochs"),
        ({"validation_split": 1.0}, ValueError, "validation_split"),
        ({"layer": "3"}, ValueError, "layer"),
        ({"net_params": {"module": nn.ReLU}}, ValueError, r"ClaDecExplainer\(decoder="),
        ({"net_params": {"iterator_train__shuffle": False}}, ValueError, "batches are cut"),
        ({"net_params": {"batchsize": 3}}, ValueError, "batch_size"),
    ],
)
def test_bad_parameters(params, error, message):
    with pytest.raises(error, match=message):
        ClaDecExplainer(classifier(double=False), **{**QUICK, **params}).fit(make_X("mlp"))


def test_without_a_reference():
    X = make_X("mlp")
    explainer = ClaDecExplainer(classifier(double=False), reference=None, **QUICK).fit(X)
    explanation = explainer.explain(X)
    assert explanation.reference is None
    np.testing.assert_array_equal(explanation.difference, explanation.reconstruction - X)
    with pytest.raises(ValueError, match="no reference"):
        explainer.transform_reference(X)


def test_tokens_cannot_be_decoded():
    net = nn.Sequential(nn.Embedding(10, 3), nn.Flatten(), nn.Linear(12, 2))
    X = np.random.default_rng(0).integers(0, 10, (8, 4))
    with pytest.raises(TypeError, match="takes integers"):
        ClaDecExplainer(net, **QUICK).fit(X)


# -- models without torch form ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "layer"),
    [
        ((KernelPCA(3), LogisticRegression()), None),
        ((StandardScaler(), KNeighborsClassifier()), None),
        ((StandardScaler(), KNeighborsClassifier()), "kneighborsclassifier"),
    ],
)
def test_no_reference_where_nothing_could_learn_anew(steps, layer):
    X = make_X("mlp", 30)
    pipeline = make_pipeline(*steps).fit(X, np.arange(30) % 2)
    with pytest.warns(UserWarning, match="there is no reference.* has no torch form"):
        explainer = ClaDecExplainer(pipeline, layer=layer, **QUICK).fit(X)
    assert explainer.reference_decoder_ is None
    assert explainer.explain(X).reference is None
    said = pipeline.predict_proba(explainer.transform(X)).argmax(axis=1)
    assert explainer.agreement(X) == np.mean(said == pipeline.predict_proba(X).argmax(axis=1))


def test_a_network_behind_a_black_box_has_a_reference():
    X = make_X("mlp", 30)
    pipeline = make_pipeline(
        KernelPCA(3), MLPClassifier((4,), alpha=1.0, solver="lbfgs", random_state=0)
    )
    explainer = ClaDecExplainer(pipeline, **QUICK).fit(X, np.arange(30) % 2)
    assert np.abs(explainer.explain(X).difference).max() > 0


def test_labels_that_do_not_exclude_each_other_are_no_classes():
    X = make_X("mlp", 40)
    labels = np.stack([X[:, 0] > 0, X[:, 1] > 0], axis=1).astype(int)
    model = KNeighborsClassifier().fit(X, labels)
    explainer = ClaDecExplainer(model, reference=None, **QUICK).fit(X)
    with pytest.raises(ValueError, match="exclude each other.*task='regression'"):
        explainer.agreement(X)
    explainer.set_params(task="regression").fit(X)
    assert explainer.task_ == "regression"
    assert np.isfinite(explainer.score(X))


# -- targets ---------------------------------------------------------------------------------


def test_a_column_of_labels_is_the_same_as_labels():
    X, net = make_X("mlp", 20), classifier(double=False)
    y = np.zeros(20, dtype=int)
    curves = [
        ClaDecExplainer(net, alpha=0.0, class_target="y", reference=None, **QUICK)
        .fit(X, given)
        .loss_curve_
        for given in (y, y[:, None], pd.DataFrame({"y": y}))
    ]
    assert curves[0] == curves[1] == curves[2]
    explainer = ClaDecExplainer(net, alpha=0.0, class_target="y", **QUICK)
    with pytest.raises(ValueError, match="each sample needs one label"):
        explainer.fit(X, np.zeros((20, 2), dtype=int))


def test_missing_targets_are_named():
    X = make_X("mlp", 20)
    y = X[:, 0].copy()
    explainer = ClaDecExplainer(LinearRegression().fit(X, y), alpha=0.5, class_target="y", **QUICK)
    y[3] = np.nan
    with pytest.raises(ValueError, match="y contains NaN or infinity, first in row 3"):
        explainer.fit(X, y)


def test_score_is_made_of_its_parts():
    X = make_X("mlp", 30)
    explainer = ClaDecExplainer(classifier(double=False), lr=0.02, **QUICK).fit(X)
    agreement, reconstruction = explainer.score_parts(X)
    assert explainer.task_ == "classification"
    assert agreement == explainer.agreement(X)
    error = np.square(explainer.transform(X).astype(np.float64) - X).sum()
    total = np.square(X - X.mean(axis=0, dtype=np.float64)).sum()
    np.testing.assert_allclose(reconstruction, 1 - error / total, rtol=1e-6)
    both = max(agreement, 0) * max(reconstruction, 0)
    expected = 2 * both / (agreement + reconstruction) if both else 0.0
    np.testing.assert_allclose(explainer.score(X), expected)


class RandomlyDropping(nn.Module):
    """Draws random numbers in eval mode, too."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(nn.functional.dropout(self.first(x), 0.3))


@pytest.mark.filterwarnings("ignore:the network draws random numbers or")
def test_generators_stay_as_they_are_with_networks_that_draw():
    X, net = make_X("mlp", 20), RandomlyDropping()
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    ClaDecExplainer(net, **QUICK).fit(X).transform(X)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_scoring_callbacks_see_pairs(alpha):
    scored = []

    def score(net, X, y=None):
        scored.append(y)
        return 1.0

    options = {"callbacks": [("own", EpochScoring(score, name="own"))], "batch_size": 8}
    explainer = ClaDecExplainer(
        classifier(double=False), alpha=alpha, net_params=options, max_epochs=2, random_state=0
    )
    with pytest.warns(ConvergenceWarning):
        explainer.fit(make_X("mlp", 30))
    assert len(scored) == 2 * 2  # epochs, of the decoder and of the reference


def test_references_in_several_threads():
    X, net = correlated(), nn.Sequential(nn.Linear(5, 4), Slow(), nn.Linear(4, 2)).double()
    explainer = ClaDecExplainer(net, layer="1", **QUICK).fit(X)
    parts = np.array_split(X, 4)
    expected = [explainer.transform_reference(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(explainer.transform_reference, parts))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore::sklexplain.exceptions.ConvergenceWarning")
def test_the_agreement_of_a_regressor_far_from_zero():
    """Means are taken in double precision, so that they do not round to what float32 holds."""

    class Far(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 1)

        def forward(self, x):
            return 3000 + self.last(torch.tanh(self.first(x)))

    net, rows = Far().eval(), np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32)
    explainer = ClaDecExplainer(net, layer="first", max_epochs=2, reference=None, random_state=0)
    explainer.fit(rows[:100])
    with torch.no_grad():
        true, told = (
            net(torch.from_numpy(x)).double().numpy() for x in (rows, explainer.transform(rows))
        )
    expected = 1 - np.square(true - told).sum() / np.square(true - true.mean()).sum()
    assert explainer.score_parts(rows)[0] == pytest.approx(expected, abs=1e-12)
