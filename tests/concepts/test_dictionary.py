"""SparseDictionary: what it computes, how it is trained, what it finds, and how it is judged."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import NMF, PCA
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from torch import nn
from torch.nn import functional as F

from sklexplain import SparseDictionary
from sklexplain.concepts import _dictionary
from sklexplain.concepts._dictionary_net import DictionaryModule, DictionaryObjective
from sklexplain.datasets import load_ecg5000
from sklexplain.exceptions import SklexplainWarning, UndefinedMetricWarning
from sklexplain.layers import activation_buffer
from sklexplain.nets import Autoencoder
from tests.cases import encode, make_net, make_X

QUICK = {"n_concepts": 6, "k": 2, "max_epochs": 3, "random_state": 0}


def explain(name="mlp", n_samples=20, **params):
    X = make_X(name, n_samples)
    return SparseDictionary(make_net(name), **{**QUICK, **params}).fit(X), X


def identity(n_units):
    """A network whose layer "0" is its input."""
    return nn.Sequential(nn.Identity(), nn.Linear(n_units, 2))


def planted(n_samples, n_units, seed=0, n_directions=64, n_active=4, noise=0.05):
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(n_directions, n_units))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    codes = np.zeros((n_samples, n_directions))
    for row in codes:
        row[rng.choice(n_directions, n_active, replace=False)] = rng.uniform(0.5, 1.5, n_active)
    X = codes @ directions + noise * rng.normal(size=(n_samples, n_units))
    return directions, X.astype(np.float32)


# -- what it finds -----------------------------------------------------------------------------


def test_a_planted_dictionary_is_found():
    directions, X = planted(3000, 64)
    dictionary = SparseDictionary(identity(64), layer="0", n_concepts=64, k=4, max_epochs=40)
    dictionary.set_params(random_state=0).fit(X)
    cosines = dictionary.components_ @ directions.T
    assert cosines.max(axis=0).mean() >= 0.95
    assert dictionary.dead_fraction_ <= 0.05
    assert dictionary.score(planted(500, 64)[1]) > 0.9
    # Each is there as often as it was planted.
    assert np.median(dictionary.frequencies_) == pytest.approx(4 / 64, rel=0.2)


def test_more_of_a_layer_of_heartbeats_than_pca_and_nmf_of_as_many_numbers():
    X = load_ecg5000()["data"]
    options = {"hidden_layer_sizes": (64, 32), "max_epochs": 10, "validation_split": None}
    autoencoder = Autoencoder(n_components=8, random_state=0, **options).fit(X[:1000])
    dictionary = SparseDictionary(
        autoencoder, layer="encoder.relu0", n_concepts=64, k=8, max_epochs=70, random_state=0
    ).fit(X[:1000])
    with dictionary._door(X[:1000]) as train, dictionary._door(X[1000:2000]) as held_out:
        z, Z = dictionary._activations(train), dictionary._activations(held_out)
    assert z.shape[1:] == dictionary.layer_shape_ == (64,)
    assert (z >= 0).all()  # so that NMF can be asked
    score = dictionary.score(X[1000:2000])
    for other in (PCA(8), NMF(8, init="nndsvda", tol=1e-3)):
        rebuilt = other.fit(z).inverse_transform(other.transform(Z))
        r2 = r2_score(Z, rebuilt, multioutput="variance_weighted")
        assert score > r2
    assert dictionary.dead_fraction_ <= 0.05


def test_r2_rises_with_k():
    X = planted(250, 24, n_directions=32)[1]
    dictionary = SparseDictionary(identity(24), layer="0", n_concepts=32, max_epochs=40)
    dictionary.set_params(random_state=0)
    scores = [dictionary.set_params(k=k).fit(X).score(X) for k in (1, 3, 6)]
    assert np.all(np.diff(scores) > 0)


# -- what it computes --------------------------------------------------------------------------


def by_hand(module, z):
    """TopK_k(relu(W(z − b))), number by number, in float64."""
    W, b = (p.detach().double().numpy() for p in (module.weight, module.bias))
    concepts = np.zeros((len(z), len(W)))
    for i, row in enumerate(z.reshape(len(z), -1).astype(np.float64)):
        drive = [max(0.0, w @ (row - b)) for w in W]
        for j in sorted(range(len(W)), key=lambda j: -drive[j])[: module.k]:
            concepts[i, j] = drive[j]
    return concepts


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [("mlp", None, (8,)), ("conv2d", "0", (4, 6, 6)), ("lstm", "rnn[0]", (7, 5))],
)
def test_the_formula(name, layer, shape):
    dictionary, X = explain(name, layer=layer)
    assert dictionary.layer_shape_ == shape
    with dictionary._door(X) as inputs:
        z = dictionary._activations(inputs)
    module = dictionary.net_.module_
    concepts = dictionary.transform(X)
    assert concepts.dtype == np.float32
    np.testing.assert_allclose(concepts, by_hand(module, z), rtol=1e-4, atol=1e-5)
    V, b = dictionary.components_, dictionary.intercept_
    assert (V.shape, b.shape) == ((6, *shape), shape)
    np.testing.assert_allclose(np.square(V.reshape(6, -1)).sum(axis=1), 1, rtol=1e-5)
    rebuilt = np.stack([sum(e * v for e, v in zip(row, V, strict=True)) + b for row in concepts])
    np.testing.assert_allclose(dictionary.inverse_transform(concepts), rebuilt, atol=1e-5)
    # Training has the mean and the scale of the activations apart; folded in, all is the same.
    found = module(torch.from_numpy(z))
    np.testing.assert_allclose(found[1].numpy().reshape(rebuilt.shape), rebuilt, atol=1e-5)


def test_what_drives_fewer_than_k_concepts_has_fewer():
    dictionary, X = explain(k=4)
    counts = (dictionary.transform(X) > 0).sum(axis=1)
    assert counts.max() <= 4
    with torch.no_grad():
        dictionary.net_.module_.weight[1:] = -1e-3
    assert (dictionary.transform(X) > 0).sum(axis=1).max() <= 4
    assert dictionary.transform(X).min() == 0


def test_sparse_output_is_the_same():
    dense, X = explain(n_samples=9)
    found, _ = explain(n_samples=9, sparse_output=True, batch_size=4)
    concepts = found.transform(X)
    assert sparse.issparse(concepts)
    assert concepts.format == "csr"
    assert concepts.nnz <= 2 * len(X)
    np.testing.assert_allclose(concepts.toarray(), dense.transform(X), rtol=1e-5, atol=1e-6)
    rebuilt = dense.inverse_transform(dense.transform(X))
    np.testing.assert_allclose(found.inverse_transform(concepts), rebuilt, rtol=1e-5, atol=1e-6)
    assert found.score(X) == pytest.approx(dense.score(X), rel=1e-5)


def test_original_units():
    """Other units of the activations change nothing but units."""
    X = make_X("mlp", 20)
    net, scaled = make_net("mlp")[:5], make_net("mlp")[:5]
    with torch.no_grad():
        scaled[1].weight *= 8
        scaled[1].bias *= 8
    first, second = (SparseDictionary(n, **QUICK).fit(X) for n in (net, scaled))
    np.testing.assert_allclose(second.transform(X), 8 * first.transform(X), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(second.intercept_, 8 * first.intercept_, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(second.components_, first.components_, rtol=1e-4, atol=1e-5)


def test_concepts_are_numbered_by_what_they_rebuild():
    dictionary, X = explain(n_samples=40, max_epochs=20)
    energy = np.square(dictionary.transform(X), dtype=np.float64).sum(axis=0)
    assert np.all(np.diff(energy) <= 0)
    used = (dictionary.transform(X) > 0).mean(axis=0)
    np.testing.assert_allclose(dictionary.frequencies_, used)
    np.testing.assert_array_equal(dictionary.active_concepts_, used > 0)
    assert dictionary.n_active_concepts_ == (used > 0).sum()
    assert dictionary.dead_fraction_ == pytest.approx((used == 0).mean())


# -- training ----------------------------------------------------------------------------------


def test_training_is_gradient_descent_on_the_sphere():
    X = make_X("mlp", 16)
    options = {"optimizer": torch.optim.SGD, "batch_size": -1}
    dictionary = SparseDictionary(
        make_net("mlp"), **QUICK | {"lr": 0.3, "max_epochs": 6, "net_params": options}
    )
    z = encode(make_net("mlp")[:4], X).astype(np.float64)
    mean, scale = z.mean(axis=0), np.sqrt(np.square(z - z.mean(axis=0)).mean())
    scaled = torch.from_numpy((z - mean) / scale)
    start = clone(dictionary).set_params(lr=1e-30).fit(X).net_.module_
    V = start.directions.detach().double().clone()
    W, b = V.clone(), torch.zeros(8, dtype=torch.float64)
    for epoch in range(6):
        parts = [p.requires_grad_() for p in (V, W, b)]
        error = torch.zeros(())
        for row in scaled:
            drive = F.relu(W @ (row - b))
            top = drive.detach().argsort(descending=True)[:2]
            error = error + (row - b - sum(drive[j] * V[j] for j in top)).square().mean()
        gV, gW, gb = torch.autograd.grad(error / len(scaled), parts)
        rate = 0.3 * (1 - 0.98 * max(0, 2 * (epoch + 0.5) / 6 - 1))
        with torch.no_grad():
            gV = gV - (gV * V).sum(dim=1, keepdim=True) * V  # along the sphere
            V, W, b = F.normalize(V - rate * gV), W - rate * gW, b - rate * gb
    dictionary.fit(X)
    # The order of concepts is another's.
    found = dictionary.components_.astype(np.float64)
    order = np.abs(found[:, None] - V.numpy()[None]).sum(axis=2).argmin(axis=1)
    assert sorted(order) == list(range(6))
    np.testing.assert_allclose(found, V.numpy()[order], atol=1e-4)
    weight = dictionary.net_.module_.weight.numpy()
    np.testing.assert_allclose(weight, W.numpy()[order], atol=1e-4)
    np.testing.assert_allclose(dictionary.intercept_, mean + scale * b.numpy(), atol=1e-4)


def test_dead_concepts_rebuild_what_is_left():
    torch.manual_seed(0)
    module, z = DictionaryModule((6,), 5, 2), torch.randn(7, 6)
    module.idle[:] = torch.tensor([25, 0, 40, 24, 25])
    module.train()
    concepts, loss, trained = DictionaryObjective(0.5)(module, {"z": z}, 1)
    drive = F.relu(z @ module.weight.T).detach()
    total = missed = 0.0
    for i in range(7):
        e = torch.zeros(5)
        top = drive[i].argsort(descending=True)[:2]
        e[top] = drive[i, top]
        error = z[i] - e @ module.directions
        total += error.square().mean().item() / 7
        # Dead are those that 25 batches have not used: at most half as many as units are taken.
        dead = sorted([0, 2, 4], key=lambda j, i=i: -float(drive[i, j]))[:3]
        left = error - sum(drive[i, j] * module.directions[j] for j in dead)
        missed += left.square().mean().item() / 7
    assert loss.item() == pytest.approx(total, rel=1e-5)
    assert trained.item() == pytest.approx(total + 0.5 * missed, rel=1e-5)
    used = (concepts > 0).any(dim=0)
    assert module.idle.tolist() == [
        0 if u else n + 1 for u, n in zip(used, [25, 0, 40, 24, 25], strict=True)
    ]
    # In eval mode nothing is counted, and nothing revived.
    module.eval()
    before = module.idle.clone()
    _, loss, trained = DictionaryObjective(0.5)(module, {"z": z}, 1)
    assert loss is trained
    assert torch.equal(module.idle, before)


@pytest.mark.parametrize("revival", [0.0, 1.0])
def test_what_is_never_chosen_learns_by_revival_only(revival):
    torch.manual_seed(0)
    module, z = DictionaryModule((6,), 12, 1), torch.randn(20, 6)
    module.idle[3] = 25
    with torch.no_grad():
        module.weight[3] *= 1e-3
    module.train()
    concepts, _, trained = DictionaryObjective(revival)(module, {"z": z}, 1)
    assert (concepts[:, 3] == 0).all()
    trained.backward()
    for gradient in (module.weight.grad[3], module.directions.grad[3]):
        assert bool(gradient.abs().max() > 0) == (revival > 0)


def test_a_file_instead_of_memory_changes_nothing(monkeypatch):
    expected, X = explain("conv2d", layer="0")
    buffers = []

    def in_file(run, inputs, batch_size, max_bytes=0, **options):
        buffers.append(activation_buffer(run, inputs, batch_size, max_bytes, **options))
        return buffers[-1]

    monkeypatch.setattr(_dictionary, "activation_buffer", in_file)
    dictionary, _ = explain("conv2d", layer="0")
    assert isinstance(buffers[0], np.memmap)
    np.testing.assert_array_equal(dictionary.transform(X), expected.transform(X))
    assert dictionary.score(X) == expected.score(X)


@pytest.mark.parametrize(
    ("n_samples", "net_params", "n_epochs"),
    [(10_000, None, 64), (10**7, None, 5), (40, None, 1000), (10_000, {"batch_size": 500}, 250)],
)
def test_passes_that_make_enough_batches(n_samples, net_params, n_epochs):
    params = SparseDictionary(None, net_params=net_params)
    assert _dictionary._n_epochs(params, n_samples) == n_epochs


# -- examples and maps -------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [4, 1024])
def test_top_examples(batch_size):
    dictionary, X = explain(n_samples=20, batch_size=batch_size)
    concepts = dictionary.transform(X)
    values, index = dictionary.top_examples(X, 4)
    for j in range(6):
        order = sorted(range(20), key=lambda i, j=j: (-concepts[i, j], i))[:4]
        assert index[j].tolist() == order
        np.testing.assert_allclose(values[j], concepts[order, j], rtol=1e-5, atol=1e-6)
    values, index = dictionary.top_examples(X, 2, concepts=[-1, 0])
    assert index.shape == (2, 2)
    assert values[1, 0] == pytest.approx(concepts[:, 0].max(), rel=1e-5)
    frame = pd.DataFrame(X, index=[f"row{i}" for i in range(20)])
    labels = dictionary.fit(frame).top_examples(frame, 1)[1]
    assert labels[0, 0] == f"row{concepts[:, 0].argmax()}"
    with pytest.raises(ValueError, match="k=21 is more than the 20 samples"):
        dictionary.top_examples(frame, 21)
    with pytest.raises(ValueError, match="concepts: there is no concept 6; the dictionary has 6"):
        dictionary.top_examples(frame, 1, concepts=6)


def test_maps_add_up_to_concepts():
    dictionary, X = explain("conv1d", n_samples=12, max_epochs=30)
    maps = dictionary.concept_attributions(X, method_params={"n_steps": 400})
    assert maps.shape == (12, 6, 2, 10)
    moved = maps.sum(axis=(2, 3)) + dictionary.baseline_concepts(X)
    concepts = dictionary.transform(X)
    active = concepts > 0
    np.testing.assert_allclose(moved[active], concepts[active], rtol=2e-2, atol=2e-2)
    some = dictionary.concept_attributions(X, method_params={"n_steps": 400}, concepts=[4, -6])
    np.testing.assert_allclose(some, maps[:, [4, 0]], rtol=1e-4, atol=1e-5)
    for method in ("deep_lift", "feature_ablation"):
        assert dictionary.concept_attributions(X[:2], method, concepts=1).shape == (2, 1, 2, 10)
    with pytest.raises(ValueError, match="method='excitation_backprop'"):
        dictionary.concept_attributions(X, "excitation_backprop")


# -- scores and searches -----------------------------------------------------------------------


def test_score_is_r2():
    dictionary, X = explain(max_epochs=20)
    with dictionary._door(X) as inputs:
        z = dictionary._activations(inputs)
    rebuilt = dictionary.inverse_transform(dictionary.transform(X))
    expected = r2_score(z, rebuilt, multioutput="variance_weighted")
    assert dictionary.score(X) == pytest.approx(expected, rel=1e-5)
    with pytest.warns(UndefinedMetricWarning, match="fewer than two samples"):
        assert np.isnan(dictionary.score(X[:1]))
    same = np.repeat(X[:1], 5, axis=0)
    assert dictionary.score(same) == 0.0


def test_a_layer_that_does_not_vary_is_rebuilt():
    X = np.ones((10, 4), np.float32)
    dictionary = SparseDictionary(identity(4), layer="0", **QUICK | {"lr": 1e-30}).fit(X)
    assert dictionary.dead_fraction_ == 1
    assert dictionary.score(X) == 1.0


def test_a_search_chooses_k_and_the_number_of_concepts():
    X = planted(250, 16, n_directions=12, n_active=2, noise=0.01)[1]
    dictionary = SparseDictionary(identity(16), layer="0", max_epochs=40, random_state=0)
    grid = {"k": [1, 2], "n_concepts": [2, 12]}
    search = GridSearchCV(dictionary, grid, cv=2).fit(X)
    assert search.best_params_ == {"k": 2, "n_concepts": 12}


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        ({"k": 7}, ValueError, "k=7 is more than n_concepts=6"),
        ({"k": 0}, ValueError, "'k' parameter .* Got 0 instead"),
        ({"n_concepts": 2.5}, TypeError, r"'n_concepts' parameter .* Got 2\.5 instead"),
        ({"max_epochs": "all"}, ValueError, "'max_epochs' parameter .* Got 'all' instead"),
        ({"max_epochs": 0}, ValueError, "'max_epochs' parameter .* Got 0 instead"),
        ({"lr": 0}, ValueError, "'lr' parameter .* Got 0 instead"),
        ({"revival": -1}, ValueError, r"'revival' parameter .* Got \-1 instead"),
        ({"revival": "1"}, TypeError, "'revival' parameter .* Got '1' instead"),
        ({"sparse_output": "yes"}, TypeError, "'sparse_output' parameter .* Got 'yes' instead"),
        ({"layer": "5x"}, ValueError, "layer='5x'"),
        ({"net_params": {"max_epochs": 3}}, ValueError, r"set SparseDictionary\(max_epochs="),
        ({"lr": 1e30}, ValueError, "Training diverged.*Lower lr=1e\\+30"),
    ],
)
def test_wrong_parameters(params, error, match):
    with pytest.raises(error, match=match):
        explain(**params)


def test_wrong_use():
    with pytest.warns(SklexplainWarning, match="k=8, but the inputs of layer '4' have 8 units"):
        dictionary, X = explain(n_concepts=9, k=8)
    with pytest.raises(ValueError, match=r"concepts has shape \(n, 3\).*n_concepts=9"):
        dictionary.inverse_transform(X[:, :3])
    with pytest.raises(TypeError, match="has no torch form"):
        SparseDictionary(KNeighborsRegressor().fit(X, X[:, 0]), **QUICK).fit(X)
