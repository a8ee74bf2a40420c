"""The engine: maps of any function of a representation, and what it says where they are wrong."""

import contextlib
import pickle
import re

import numpy as np
import pytest
import torch
from torch import nn

from sklexplain import LabelFreeAttributor
from sklexplain.exceptions import ConvergenceWarning
from sklexplain.explaining import METHODS, AttributionEngine, Features, checked_params
from sklexplain.explaining._completeness import completeness_errors, standard_errors

RNG = np.random.RandomState(0)


class Plain:
    """What an engine asks of a representation, around a function of float64 tensors."""

    head, output_dtype, eps = None, torch.float64, torch.finfo(torch.float64).eps

    def __init__(self, function):
        self.function = function
        self.n_runs = 0

    def __call__(self, x):
        self.n_runs += 1
        return self.function(x)

    def tensor(self, inputs):
        return torch.as_tensor(np.asarray(inputs), dtype=torch.float64)

    def block_rows(self, batch_size):
        return batch_size

    def session(self):
        return contextlib.nullcontext()


class Head:
    columns = np.array([1, 1, 0, 2])


def engine(X, method="integrated_gradients", baseline=None, features=None, **params):
    baseline = np.zeros((1, *X.shape[1:])) if baseline is None else baseline
    features = Features(X.shape[1:]) if features is None else features
    params = checked_params(method, params)
    return AttributionEngine(method, params, X, features, baseline=baseline, seed=0)


def first_unit(rows, z, z_ref):
    return torch.eye(1, z.shape[1], dtype=z.dtype).expand(len(z), 1, -1)


W = torch.as_tensor(RNG.normal(size=(4, 3)))


def smooth(x):
    return torch.tanh(x @ W)


# -- maps --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_choice_of_functions_and_samples(method):
    X, index = RNG.normal(size=(6, 4)), np.array([4, 0, 4, 2, 5])
    maker = engine(X, method)
    all_units = maker.maps(
        Plain(smooth), X, lambda rows, z, _: torch.eye(3).to(z).expand(len(z), -1, -1), batch_size=7
    )
    weights = torch.as_tensor(RNG.normal(size=(5, 2, 3)))
    maps = maker.maps(Plain(smooth), X, lambda rows, *_: weights[rows], index=index, batch_size=2)
    expected = np.einsum("nkj,nj...->nk...", weights.numpy(), all_units[index])
    np.testing.assert_allclose(maps, expected, rtol=1e-9, atol=1e-12)


def test_what_is_encoded_may_be_more_than_the_network():
    X = RNG.normal(size=(5, 4))
    deep = engine(X).maps(
        Plain(None), X, first_unit, encode=lambda x: smooth(x)[:, :1] ** 2, batch_size=3
    )
    expected = engine(X).maps(Plain(lambda x: smooth(x)[:, :1] ** 2), X, first_unit, batch_size=99)
    np.testing.assert_allclose(deep, expected, rtol=1e-12)


@pytest.mark.parametrize("method", ["saliency", "smooth_grad", "input_x_gradient", "kernel_shap"])
def test_features_of_a_head_are_summed_in_raw_units(method):
    X, slopes = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 4))
    maps = engine(X, method, features=Features((3,), Head)).maps(
        Plain(lambda x: x @ W), X, first_unit, batch_size=8, slopes=slopes
    )
    for i, x in enumerate(X):
        expected = np.zeros(3)
        for entry in range(4):
            own = slopes[i, entry] if METHODS[method].in_raw_slope else x[entry]
            expected[Head.columns[entry]] += W[entry, 0] * own
        np.testing.assert_allclose(maps[i, 0], expected, rtol=1e-9)


def test_sums_over_groups_equal_a_loop():
    groups, maps = RNG.randint(3, size=(2, 5)), RNG.normal(size=(4, 2, 2, 5))
    expected = np.zeros((4, 2, 3))
    for position in np.ndindex(2, 5):
        expected[:, :, groups[position]] += maps[(slice(None), slice(None), *position)]
    features = Features((2, 5), groups=groups)
    np.testing.assert_allclose(features.sums(maps), expected)
    assert features.shape == (3,)


def test_a_dropped_column_is_a_feature_without_importance():
    features = Features((4,), Head)
    assert features.n_players == 4
    np.testing.assert_array_equal(features.sums(np.ones((1, 1, 4)))[0, 0], [1, 2, 1, 0])


def plain(value):
    """Whether a value holds nothing but numbers, names, arrays and containers of them."""
    if isinstance(value, dict):
        return all(map(plain, [*value.keys(), *value.values()]))
    if isinstance(value, (list, tuple)):
        return all(map(plain, value))
    return value is None or isinstance(value, (bool, int, float, str, np.ndarray))


@pytest.mark.parametrize("method", METHODS)
def test_state_is_plain_and_survives(method):
    X = RNG.normal(size=(6, 4))
    maker = engine(X, method)
    state = vars(maker) | vars(maker.features)
    del state["features"]
    assert plain(state)
    expected = maker.maps(Plain(smooth), X, first_unit, batch_size=50)
    again = pickle.loads(pickle.dumps(maker)).maps(Plain(smooth), X, first_unit, batch_size=50)
    np.testing.assert_array_equal(again, expected)


def test_skops_keeps_an_engine():
    skops = pytest.importorskip("skops.io")
    X = RNG.normal(size=(6, 4))
    saved = skops.dumps(engine(X, "smooth_grad"))
    trusted = skops.get_untrusted_types(data=saved)
    assert all(name.startswith("sklexplain.explaining.") for name in trusted)
    again = skops.loads(saved, trusted=trusted).maps(Plain(smooth), X, first_unit, batch_size=50)
    expected = engine(X, "smooth_grad").maps(Plain(smooth), X, first_unit, batch_size=50)
    np.testing.assert_array_equal(again, expected)


def from_the_baseline(rows, z, z_ref):
    return (z - z_ref())[:, None]


@pytest.mark.parametrize("cotangents, n_baseline", [(first_unit, 0), (from_the_baseline, 1)])
def test_the_common_baseline_is_run_once_and_where_it_counts(cotangents, n_baseline):
    X, counted = RNG.normal(size=(40, 4)), Plain(smooth)
    engine(X, "saliency").maps(counted, X, cotangents, batch_size=10)
    assert counted.n_runs == n_baseline + 2 * 4


# -- completeness ------------------------------------------------------------------------------


def test_errors_are_each_samples_own():
    z, z_ref = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.zeros(1, 2)
    cotangents = torch.tensor([[[2.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [0.0, 1.0]]])
    maps = torch.tensor([[[5.0, 1.0], [4.0, -1.0]], [[2.0, 0.0], [1.0, 1.0]]])
    errors, scores = completeness_errors(maps, z, z_ref, cotangents)
    # <c, z>: 6, 4; 2, 2. Sums: 6, 3; 2, 2. Largest: 10, 5; sqrt(8), 2.
    np.testing.assert_allclose(errors, [0.2, 0.0])
    assert (scores == np.inf).all()
    alone = [
        completeness_errors(*(t[[i]] for t in (maps, z)), z_ref, cotangents[[i]])[0] for i in (0, 1)
    ]
    np.testing.assert_allclose(np.ravel(alone), errors)


def test_nothing_to_share_out_is_no_error():
    zeros = torch.zeros(2, 3)
    errors, _ = completeness_errors(torch.zeros(2, 1, 4), zeros, zeros[:1], torch.zeros(2, 1, 3))
    assert not errors.any()


def test_standard_errors_with_one_more_draw():
    draws = RNG.normal(size=20)
    mean, square = (torch.tensor([v]) for v in (draws.mean(), (draws**2).mean()))
    expected = np.sqrt(draws.var(ddof=1) / 20 + 9.0 / 20 / 19)
    actual = standard_errors(mean, square, 20, torch.tensor([3.0]))
    np.testing.assert_allclose(actual.numpy(), [expected])
    assert standard_errors(mean, square, 1, mean).item() == np.inf


def test_draws_of_gradient_shap_have_their_mean_square():
    X, squares = torch.as_tensor(RNG.normal(size=(3, 4))), torch.zeros(3, 1, dtype=torch.float64)
    maker = engine(X.numpy(), "gradient_shap", baseline=RNG.normal(size=(5, 4)), n_samples=7)
    references = torch.as_tensor(maker.baseline)[None]
    cotangents = torch.eye(1, 3).double().expand(3, 1, -1)
    maker._attribute(maker.params)(smooth, X, references, cotangents, 2, squares)
    rng = np.random.RandomState(0)
    rows, positions = rng.randint(5, size=7), rng.uniform(size=7)
    for i, x in enumerate(X):
        total = 0.0
        for row, t in zip(rows, positions, strict=True):
            point = (references[0, row] + t * (x - references[0, row])).requires_grad_()
            (gradient,) = torch.autograd.grad(smooth(point)[0], point)
            total += ((x - references[0, row]) * gradient).sum().item() ** 2 / 7
        assert squares[i, 0].item() == pytest.approx(total)


def steep(x):
    return torch.tanh(200 * x[:, :1]) + x


def with_a_step(x):
    return torch.cat([(x[:, :1] > 0.5).to(x) + x[:, :1], x[:, 1:]], dim=1)


def test_one_wrong_sample_among_many_is_a_warning():
    X = np.full((400, 4), 0.1)
    X[123, 0] = 0.6
    maker = engine(X, n_steps=20)
    with pytest.warns(ConvergenceWarning, match=r"for 1 of 400 samples \(number 123 by \d+.\d%\)"):
        maker.maps(Plain(with_a_step), X, first_unit, batch_size=64)


@pytest.mark.parametrize(
    ("function", "advice"),
    [
        (lambda x: torch.relu(x - 0.4), None),
        (lambda x: torch.exp(9 * x), r"raise method_params\['n_steps'\]"),
        (with_a_step, r"twice method_params\['n_steps'\] does not help, as .* not differentiable"),
    ],
)
def test_twice_the_steps_tell_a_curve_from_a_step(function, advice):
    X = np.linspace(0.6, 0.9, 12).reshape(3, 4)
    maker = engine(X, n_steps=2 if advice else 50)
    expected = (
        pytest.warns(ConvergenceWarning, match=advice) if advice else contextlib.nullcontext()
    )
    with expected:
        maker.maps(Plain(function), X, first_unit, batch_size=64)


def test_a_step_is_beyond_what_draws_of_gradient_shap_explain():
    X = RNG.uniform(0.6, 1, size=(20, 4))
    maker = engine(X, "gradient_shap")
    message = (
        r"more than random draws explain: raise method_params\['n_samples'\], or .*'kernel_shap'"
    )
    with pytest.warns(ConvergenceWarning, match=message):
        maker.maps(Plain(with_a_step), X, first_unit, batch_size=64)


@pytest.mark.parametrize("n_samples", [2, 10, 50])
def test_the_draws_of_gradient_shap_are_no_shortfall(n_samples):
    """Sums of a few draws miss by far over 5 %, as they may."""
    for seed in range(10):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 3)).double()
        X = 2 * np.random.RandomState(seed).normal(size=(100, 4))
        maker = engine(X, "gradient_shap", baseline=X[:30], n_samples=n_samples)
        maps = maker.maps(Plain(net), X, first_unit, batch_size=500)
        with torch.no_grad():
            expected = (net(torch.as_tensor(X)) - net(torch.as_tensor(X[:30])).mean(0))[:, 0]
        missed = np.abs(maps[:, 0].sum(axis=1) - expected.numpy())
        assert missed.max() > 0.05 * expected.abs().max()


def test_perturbations_of_a_network_that_draws():
    draws = Plain(lambda x: x + torch.rand_like(x))
    X = RNG.normal(size=(5, 4))
    with pytest.warns(ConvergenceWarning, match="same output every time"):
        engine(X, "shapley_sampling").maps(draws, X, first_unit, batch_size=9)


def test_a_warning_is_one_sentence():
    X = RNG.uniform(0.6, 1, size=(20, 4)).astype(np.float32)
    for method in ("integrated_gradients", "gradient_shap"):
        explainer = LabelFreeAttributor(Module(), method=method, baseline="zeros", random_state=0)
        explainer.fit(X)
        with pytest.warns(ConvergenceWarning) as record:
            explainer.transform(X)
        (text,) = (str(w.message) for w in record)
        assert text.endswith(".") and not re.search(r"\. ", text)


class Module(nn.Module):
    def forward(self, x):
        return with_a_step(x)
