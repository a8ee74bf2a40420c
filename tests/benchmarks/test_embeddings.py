"""What the benchmarks of embeddings compute themselves agrees with the library and with loops."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sklexplain import EmbeddingAttributor, NoiseScorer, VarianceScorer


@pytest.fixture
def net():
    from benchmarks.embeddings import MnistResNet, calibrated, seeded

    with seeded(0):
        return calibrated(MnistResNet((2, 3, 4, 10)), digits(8))


def digits(n):
    return np.random.RandomState(0).uniform(size=(n, 1, 12, 12)).astype(np.float32)


def test_maps_of_all_combinations_are_those_of_the_estimator(net):
    from benchmarks.embeddings import SALIENCIES
    from benchmarks.papers.embedding_sparsity import all_maps
    from sklexplain.layers import find_points

    net.double()
    encoder, layer, X = net.encoder(), "blocks.1.conv2", digits(1).astype(np.float64)
    x = torch.as_tensor(X)
    points = find_points(encoder, x, dict(encoder.named_modules()), layers=[layer], at="input")
    found = all_maps(encoder, points, x, None)
    assert {key[0] for key in found} == set(SALIENCIES)
    assert len(found) == 2 * 7 + 2
    for (saliency, channel_agg, unit_agg), maps in found.items():
        explainer = EmbeddingAttributor(
            net,
            layer=layer,
            output="embedding",
            at="input",
            saliency=saliency,
            channel_agg="mean" if channel_agg == "sum" else channel_agg,
            unit_agg=unit_agg,
            upsample=False,
        ).fit(X)
        expected = explainer.transform(X)
        np.testing.assert_allclose(maps[0].numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("n_units", [None, 6])
def test_scores_are_those_of_the_scorers(net, n_units):
    from benchmarks.embedding_scores import Scorer, noise_curves
    from benchmarks.embeddings import SALIENCIES, convolutions

    net.double()
    X = digits(5).astype(np.float64)
    settings = {
        "layers": convolutions(net),
        "output": "embedding",
        "at": "input",
        "n_units": n_units,
        "random_state": 0,
    }
    fitted = NoiseScorer(net, **settings).fit(X)
    sample = None
    if n_units is not None:
        from benchmarks.papers.score_curves import draw_units

        sample = draw_units(10, n_units, np.random.default_rng([fitted.seed_, 1]))
    noise = np.random.default_rng([fitted.seed_, 0]).uniform(size=(6, *X.shape[1:]))
    scorer = Scorer(net.encoder(), convolutions(net), X, sample=sample, batch_size=2)
    combinations = [(s, "abs", "abs") for s in SALIENCIES] + [("gradient", "mean", "var")]
    for (saliency, c, e), found in noise_curves(scorer, X, noise, combinations).items():
        expected = NoiseScorer(
            net, saliency=saliency, channel_agg=c, unit_agg=e, noise="unit", n_noise=3, **settings
        ).fit(X)
        interval = expected.confidence_interval(X)
        scores, benchmark = found
        np.testing.assert_allclose(scores[0], expected.transform(X), rtol=1e-9)
        np.testing.assert_allclose(benchmark[0], expected.benchmark_, rtol=1e-9)
        error = scorer.error(scores.mean(axis=1))
        np.testing.assert_allclose(error, interval.layer_standard_errors, rtol=1e-7)
        assert (error > 0).all() == (n_units is not None)
    for threshold in (None, 0.5):
        expected = VarianceScorer(net, threshold=threshold, **settings).fit(X)
        found = scorer.variance(X, "activation_x_gradient", "mean", threshold)
        np.testing.assert_allclose(found[0], expected.transform(X), rtol=1e-9)


def test_calibrated_sets_statistics_and_nothing_else():
    from benchmarks.embeddings import MnistResNet, calibrated, seeded

    with seeded(0):
        net = MnistResNet((2, 3, 4, 10))
    before = {name: p.clone() for name, p in net.named_parameters()}
    X = digits(8)
    assert calibrated(net, X) is net
    assert not any(m.training for m in net.modules())
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    conv, norm = net.stem[0], net.stem[1]
    with torch.no_grad():
        activations = conv(torch.as_tensor(X))
    assert torch.allclose(norm.running_mean, activations.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(norm.running_var, activations.var((0, 2, 3)), rtol=1e-4)
    assert norm.momentum == nn.BatchNorm2d(1).momentum


@pytest.mark.parametrize("draw", ["default", "he"])
def test_versions_differ_in_one_convolution(net, draw):
    from benchmarks.papers.layer_randomisation import versions

    kept = copy.deepcopy(net.state_dict())
    convolutions = {n for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    seen = []
    for layer, changed in versions(net, draw, seed=0):
        seen.append(layer)
        assert not changed.training
        state = changed.state_dict()
        different = {name for name in state if not torch.equal(state[name], kept[name])}
        if layer == "all":
            assert {f"{name}.weight" for name in convolutions} < different
        else:
            assert different == (set() if layer == "none" else {f"{layer}.weight"})
    assert len(seen) == 14
    assert set(seen) == {"none", "all", *convolutions}
    assert all(torch.equal(v, kept[name]) for name, v in net.state_dict().items())


def test_same_noise_at_every_strength():
    from benchmarks.papers.drift import LAMBDAS, drifted

    X = digits(3)
    moved = drifted(X, np.random.default_rng(0))
    assert {len(v) for v in moved.values()} == {len(LAMBDAS)}
    noise = [(x - X) / strength for x, strength in zip(moved["not clipped"], LAMBDAS, strict=True)]
    np.testing.assert_allclose(noise[0], noise[-1], atol=1e-5)
    assert abs(noise[0].std() - 1) < 0.1
    for x, clipped in zip(moved["not clipped"], moved["clipped"], strict=True):
        np.testing.assert_array_equal(clipped, np.minimum(np.maximum(x, 0), 1))


def test_he_initialisation_counts_a_group_only():
    from benchmarks.embeddings import initialise, seeded

    depthwise = nn.Conv2d(400, 400, 3, groups=400, bias=False)
    with seeded(0):
        initialise(depthwise)
    assert abs(depthwise.weight.std().item() / (2 / 9) ** 0.5 - 1) < 0.1


@pytest.mark.parametrize("n_layers", [1, 9, 49])
def test_thirds_hold_every_layer_once(n_layers):
    from benchmarks.embeddings import thirds

    found = [i for where in thirds(n_layers).values() for i in range(n_layers)[where]]
    assert found == list(range(n_layers))


def test_architectures_without_a_score_are_not_chosen():
    from benchmarks.papers.architecture_choice import judged

    entries = [
        {"accuracy": accuracy, "noise": noise}
        for accuracy, noise in [(0.5, np.nan), (0.9, 0.3), (0.6, 0.1), (0.8, 0.2), (1.0, np.nan)]
    ]
    found = judged(entries, "noise")
    assert found["spearman"] == pytest.approx(1)
    assert found["regret"] == pytest.approx(10)
    none = judged([entries[0], entries[4]], "noise")
    assert none["spearman"] == 0
    assert none["regret"] == none["random_regret"] == pytest.approx(25)
