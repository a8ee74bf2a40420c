"""Gradient attributions against finite differences and plain loops, in float64."""

import numpy as np
import pytest
import torch

from sklexplain.explaining import _paths as _gradients
from tests.cases import NETS, make_net, make_X

GRADIENT_NETS = sorted(NETS)


def _functions(name, n_samples=3, n_functions=2):
    net = make_net(name, torch.float64).eval()
    x = torch.from_numpy(make_X(name, n_samples, np.float64))
    with torch.no_grad():
        n_units = net(x).shape[1]
    rng = np.random.RandomState(1)
    cotangents = torch.from_numpy(rng.normal(size=(n_samples, n_functions, n_units)))
    references = torch.from_numpy(rng.normal(size=(1, 4, *x.shape[1:])))
    return net, x, references, cotangents


def _gradient(net, c, point):
    """Gradient of <c, net(point)> for one sample, alone."""
    point = point[None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad((net(point)[0] * c).sum(), point)
    return gradient[0]


@pytest.mark.parametrize("name", GRADIENT_NETS)
def test_saliency_equals_finite_differences(name):
    net, x, references, cotangents = _functions(name)
    maps = _gradients.path_gradients(
        net, x, references, cotangents, _gradients.saliency_path(), block_rows=2
    )
    h = 1e-6
    for i in range(len(x)):
        for index in list(np.ndindex(*x.shape[1:]))[::5]:
            step = torch.zeros_like(x[i])
            step[index] = h
            with torch.no_grad():
                difference = (net((x[i] + step)[None]) - net((x[i] - step)[None]))[0] / (2 * h)
            for k in range(cotangents.shape[1]):
                expected = (difference * cotangents[i, k]).sum()
                assert maps[(i, k, *index)] == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("block_rows", [1, 3, 1000])
@pytest.mark.parametrize("n_references", [1, 4])
@pytest.mark.parametrize("name", ["mlp", "lstm", "conv2d"])
def test_integrated_gradients_equals_a_loop(name, n_references, block_rows):
    net, x, references, cotangents = _functions(name)
    references = references[:, :n_references]
    path = _gradients.integrated_gradients_path(n_references, 5)
    maps = _gradients.path_gradients(net, x, references, cotangents, path, block_rows)
    nodes, weights = np.polynomial.legendre.leggauss(5)
    for i in range(len(x)):
        for k in range(cotangents.shape[1]):
            expected = torch.zeros_like(x[i])
            for r in references[0]:
                for node, weight in zip(nodes, weights, strict=True):
                    point = r + (node + 1) / 2 * (x[i] - r)
                    term = _gradient(net, cotangents[i, k], point) * (x[i] - r)
                    expected += term * weight / 2 / n_references
            torch.testing.assert_close(maps[i, k], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("block_rows", [2, 1000])
def test_expected_gradients_equals_a_loop_over_its_draws(block_rows):
    net, x, references, cotangents = _functions("mlp")
    path = _gradients.expected_gradients_path(4, 7, np.random.RandomState(3))
    maps = _gradients.path_gradients(net, x, references, cotangents, path, block_rows)
    rng = np.random.RandomState(3)
    rows, positions = rng.randint(4, size=7), rng.uniform(size=7)
    for i in range(len(x)):
        expected = torch.zeros_like(x[i])
        for row, t in zip(rows, positions, strict=True):
            r = references[0, row]
            expected += (x[i] - r) * _gradient(net, cotangents[i, 0], r + t * (x[i] - r)) / 7
        torch.testing.assert_close(maps[i, 0], expected, rtol=1e-9, atol=1e-12)


def test_each_sample_may_have_its_own_reference():
    net, x, _, cotangents = _functions("mlp")
    own = torch.flip(x, dims=[0])[:, None]
    path = _gradients.integrated_gradients_path(1, 4)
    maps = _gradients.path_gradients(net, x, own, cotangents, path, 5)
    for i in range(len(x)):
        alone = _gradients.path_gradients(
            net, x[i : i + 1], own[i : i + 1], cotangents[i : i + 1], path, 5
        )
        torch.testing.assert_close(maps[i : i + 1], alone)


def test_smooth_grad_is_the_mean_gradient_around_the_sample():
    net, x, references, cotangents = _functions("mlp")
    std = np.linspace(0.1, 0.5, 5)
    path = _gradients.smooth_grad_path(6, std, np.random.RandomState(0))
    maps = _gradients.path_gradients(net, x, references, cotangents, path, 4)
    noise = torch.from_numpy(np.random.RandomState(0).normal(size=(6, 5)) * std)
    expected = sum(_gradient(net, cotangents[1, 1], x[1] + e) for e in noise) / 6
    torch.testing.assert_close(maps[1, 1], expected)


def test_a_layer_that_ignores_the_input_gets_zero():
    x = torch.ones(2, 3, dtype=torch.float64)
    constant = torch.ones(4, dtype=torch.float64, requires_grad=True)
    maps = _gradients.path_gradients(
        lambda points: constant.expand(len(points), 4),
        x,
        x[:1, None],
        torch.ones(2, 1, 4, dtype=torch.float64),
        _gradients.saliency_path(),
        10,
    )
    assert not maps.any()
