"""LabelFreeAttributor on torch networks: the definition, its invariants, every option."""

import copy
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from torch import nn

from sklexplain import LabelFreeAttributor
from sklexplain.attribution import time_segments
from sklexplain.explaining import GRADIENT_METHODS, METHODS, PERTURBATION_METHODS
from sklexplain.metrics import completeness_error
from sklexplain.utils import kept_rows
from tests.cases import NETS, encode, make_net, make_X

# Few draws: enough for what is tested here, whose truth does not depend on their number.
QUICK = {
    "integrated_gradients": {"n_steps": 20},
    "gradient_shap": {"n_samples": 10},
    "smooth_grad": {"n_samples": 5},
    "shapley_sampling": {"n_samples": 3},
    "kernel_shap": {"n_samples": 200},
    "lime": {"n_samples": 100},
}
COMPLETE = ["integrated_gradients", "deep_lift", "shapley_sampling", "kernel_shap"]


def explain(net, X, method="integrated_gradients", fit_X=None, **params):
    params.setdefault("method_params", QUICK.get(method))
    params.setdefault("random_state", 0)
    explainer = LabelFreeAttributor(net, method=method, **params)
    return explainer.fit(X if fit_X is None else fit_X)


class Linear(nn.Module):
    def __init__(self, W):
        super().__init__()
        self.W = nn.Parameter(torch.as_tensor(W, dtype=torch.float64))

    def forward(self, x):
        return x @ self.W.T


class Rotated(nn.Module):
    """An orthogonal map, and an optional shift, after a network."""

    def __init__(self, net, n_units, shift=0.0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        T = torch.linalg.qr(torch.randn(n_units, n_units, generator=generator)).Q
        self.net, self.T, self.shift = net, nn.Parameter(T), shift

    def forward(self, x):
        return self.net(x) @ self.T.to(x.dtype).T + self.shift


class FirstColumns(nn.Module):
    """A network that ignores all but the first two columns."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(torch.cat([x[:, :2], torch.zeros_like(x[:, 2:])], dim=1))


# -- the definition ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("name", ["mlp", "conv2d", "lstm"])
def test_is_the_weighted_sum_of_single_units(name, method):
    net, X = make_net(name), make_X(name, 4)
    explainer = explain(net, X, method)
    units = explainer.unit_attributions(X)
    z = encode(net, X)
    assert units.shape == (4, z.shape[1], *X.shape[1:])
    expected = np.einsum("nj,nj...->n...", z, units)
    actual = explainer.transform(X)
    np.testing.assert_allclose(actual, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"saliency", "smooth_grad", "lime"}))
@pytest.mark.parametrize("center", [False, True])
def test_linear_encoder_has_the_closed_form(method, center):
    rng = np.random.RandomState(0)
    W, X = rng.normal(size=(3, 6)), rng.normal(size=(8, 6))
    params = {"method_params": {"window": 1}} if method == "occlusion" else {}
    actual = explain(Linear(W), X, method, center=center, **params).transform(X)
    mean = X.mean(axis=0)
    u = (X - mean * center) @ W.T
    np.testing.assert_allclose(actual, (X - mean) * (u @ W), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ["saliency", "smooth_grad"])
def test_gradient_of_a_linear_encoder(method):
    rng = np.random.RandomState(0)
    W, X = rng.normal(size=(3, 6)), rng.normal(size=(8, 6))
    np.testing.assert_allclose(explain(Linear(W), X, method).transform(X), X @ W.T @ W, rtol=1e-9)


def test_lime_of_a_linear_encoder_with_a_weak_ridge():
    rng = np.random.RandomState(0)
    W, X = rng.normal(size=(3, 6)), rng.normal(size=(8, 6))
    params = {"n_samples": 100, "alpha": 1e-9}
    actual = explain(Linear(W), X, "lime", method_params=params).transform(X)
    np.testing.assert_allclose(actual, (X - X.mean(axis=0)) * (X @ W.T @ W), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", ["lime", "kernel_shap"])
def test_only_features_that_are_not_as_in_the_baseline_play(method):
    """Words that a text does not have: the others get what they would without them."""
    rng = np.random.RandomState(0)
    W, X = rng.normal(size=(3, 30)), rng.normal(size=(8, 30))
    X[:, 12:] = 0
    X[1] = 0
    params = {"method_params": {"n_samples": 200}, "baseline": "zeros"}
    net = nn.Sequential(Linear(W), nn.Tanh())
    few = nn.Sequential(Linear(W[:, :12]), nn.Tanh())
    found = explain(net, X, method, **params).transform(X)
    expected = explain(few, X[:, :12], method, **params).transform(X[:, :12])
    np.testing.assert_allclose(found[:, :12], expected, rtol=1e-9, atol=1e-12)
    assert not found[:, 12:].any() and not found[1].any()
    groups = np.arange(30) // 6
    found = explain(net, X, method, groups=groups, **params).transform(X)
    expected = explain(few, X[:, :12], method, groups=groups[:12], **params).transform(X[:, :12])
    np.testing.assert_allclose(found[:, :2], expected, rtol=1e-9, atol=1e-12)
    assert not found[:, 2:].any()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_orthogonal_latent_maps_change_nothing(method):
    net, X = make_net("mlp"), make_X("mlp")
    plain = explain(net, X, method).transform(X)
    rotated = explain(Rotated(net, 4), X, method).transform(X)
    np.testing.assert_allclose(rotated, plain, atol=2e-5 * np.abs(plain).max())


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_latent_origin_matters_unless_centred(method):
    net, X = make_net("mlp"), make_X("mlp")
    shifted = Rotated(net, 4, shift=1.0)
    for center in (False, True):
        plain = explain(Rotated(net, 4), X, method, center=center).transform(X)
        moved = explain(shifted, X, method, center=center).transform(X)
        same = np.allclose(plain, moved, atol=1e-4 * np.abs(plain).max())
        assert same == center


@pytest.mark.parametrize("method", sorted(METHODS))
def test_ignored_inputs_get_nothing(method):
    net, X = FirstColumns(make_net("mlp")), make_X("mlp")
    # LIME regresses on random coalitions, so it is zero only up to sampling.
    tolerance = 0.15 if method == "lime" else 1e-6
    params = {"n_samples": 2000} if method == "lime" else QUICK.get(method)
    params = {"window": 1} if method == "occlusion" else params
    b = explain(net, X, method, method_params=params).transform(X)
    assert np.abs(b[:, 2:]).max() <= tolerance * np.abs(b[:, :2]).max()
    assert np.abs(b[:, :2]).max() > 0


@pytest.mark.parametrize("method", COMPLETE)
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("name", sorted(NETS))
def test_completeness(name, center, method):
    net, X = make_net(name), make_X(name)
    params = {"n_steps": 200} if method == "integrated_gradients" else QUICK.get(method)
    explainer = explain(net, X, method, center=center, method_params=params)
    error = completeness_error(
        explainer.transform(X),
        lambda X: encode(net, X.astype(np.float32)),
        X,
        explainer.baseline_[0],
        center=center,
    )
    assert error.max() <= 0.01


def test_expected_gradients_are_complete_in_expectation():
    net, X = make_net("mlp"), make_X("mlp", 60)
    explainer = explain(
        net, X, "gradient_shap", baseline="background", method_params={"n_samples": 20_000}
    )
    z = encode(net, X)
    expected = (z * (z - z.mean(axis=0))).sum(axis=1)
    np.testing.assert_allclose(
        explainer.transform(X).sum(axis=1), expected, atol=0.03 * np.abs(expected).max()
    )


def test_gradient_shap_with_zero_background_tends_to_integrated_gradients():
    # Tiling representations and perturbed inputs differently gave 0.385 in earlier code.
    for name in ("mlp", "conv2d", "lstm"):
        net, X = make_net(name), make_X(name)
        exact = explain(net, X, baseline="zeros", method_params={"n_steps": 200}).transform(X)
        params = {"n_samples": 2000}
        shap = explain(net, X, "gradient_shap", baseline="zeros", method_params=params)
        assert np.corrcoef(shap.transform(X).ravel(), exact.ravel())[0, 1] >= 0.99


@pytest.mark.parametrize("method", ["integrated_gradients", "deep_lift", "shapley_sampling"])
def test_a_background_is_averaged_over(method):
    net, X = make_net("mlp"), make_X("mlp")
    rows = make_X("mlp", 3) + 1
    whole = explain(net, X, method, baseline=rows).transform(X)
    each = [explain(net, X, method, baseline=row).transform(X) for row in rows]
    np.testing.assert_allclose(whole, np.mean(each, axis=0), atol=1e-6)


def test_fitted_background_is_a_sample_of_the_data():
    X = make_X("mlp", 150)
    explainer = explain(make_net("mlp"), X, baseline="background")
    assert explainer.baseline_.shape == (100, 5)
    assert all((row == X).all(axis=1).any() for row in explainer.baseline_)
    few = explain(make_net("mlp"), X[:30], baseline="background")
    assert few.baseline_.shape == (30, 5)


def test_callable_baseline_is_each_samples_own():
    net, X = make_net("mlp"), make_X("mlp")
    own = explain(net, X, baseline=lambda X: X[:, ::-1] * 0.5).transform(X)
    for i in range(len(X)):
        alone = explain(net, X, baseline=X[i, ::-1] * 0.5).transform(X[i : i + 1])
        np.testing.assert_allclose(own[i], alone[0], atol=1e-6)


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("name", sorted(NETS))
def test_batch_equals_one_by_one(name, method):
    net, X = make_net(name), make_X(name, 5)
    explainer = explain(net, X, method, baseline="background", batch_size=64)
    whole = explainer.transform(X)
    single = np.concatenate([explainer.transform(X[i : i + 1]) for i in range(len(X))])
    assert np.abs(whole - single).max() <= 1e-4 * np.abs(whole).max()
    assert net.training


def test_blocks_larger_and_smaller_than_the_data_agree():
    net, X = make_net("conv2d"), make_X("conv2d", 7)
    expected = explain(net, X, batch_size=10_000).transform(X)
    for batch_size in (1, 3, 20, 64):
        np.testing.assert_allclose(
            explain(net, X, batch_size=batch_size).transform(X), expected, atol=1e-6
        )


# -- options -----------------------------------------------------------------------------------


def test_units_restrict_the_inner_product():
    net, X = make_net("mlp"), make_X("mlp")
    explainer = explain(net, X, units=[0, -1])
    maps, z = explainer.unit_attributions(X), encode(net, X)
    assert maps.shape == (9, 2, 5)
    expected = z[:, [0]] * maps[:, 0] + z[:, [3]] * maps[:, 1]
    np.testing.assert_allclose(explainer.transform(X), expected, atol=1e-6)
    np.testing.assert_array_equal(explainer.unit_attributions(X, [3])[:, 0], maps[:, 1])


def test_absolute_is_of_the_final_map():
    net, X = make_net("mlp"), make_X("mlp")
    signed = explain(net, X, "saliency").transform(X)
    assert (signed < 0).any()
    np.testing.assert_array_equal(
        explain(net, X, "saliency", absolute=True).transform(X), np.abs(signed)
    )


def test_groups_sum_gradients_and_perturb_together():
    net, X = make_net("conv1d"), make_X("conv1d")
    groups = time_segments(10, 3)
    summed = explain(net, X, groups=groups).transform(X)
    entries = explain(net, X).transform(X)
    np.testing.assert_allclose(summed[:, 0], entries[:, :, :3].sum(axis=(1, 2)), atol=1e-6)
    ablated = explain(net, X, "feature_ablation", groups=groups).transform(X)
    masked = X.copy()
    masked[:, :, 3:6] = X.mean(axis=0)[:, 3:6]
    z, z_masked = encode(net, X), encode(net, masked)
    np.testing.assert_allclose(ablated[:, 1], (z * (z - z_masked)).sum(axis=1), atol=1e-5)
    occluded = explain(net, X, "occlusion", groups=groups).transform(X)
    np.testing.assert_allclose(occluded, ablated, atol=1e-6)


def test_named_groups_name_the_output():
    groups = {"left": [0, 1], "right": [2, 3, 4]}
    explainer = explain(make_net("mlp"), make_X("mlp"), groups=groups)
    assert explainer.get_feature_names_out().tolist() == ["left", "right"]
    assert explainer.feature_importances_.shape == (2,)
    assert explainer.set_output(transform="pandas").transform(make_X("mlp")).shape == (9, 2)


@pytest.mark.parametrize("layer, n_units", [("0", 8), ("2", 8), ("5", 4)])
def test_layers(layer, n_units):
    net, X = make_net("mlp"), make_X("mlp")
    explainer = explain(net, X, layer=layer)
    assert explainer.n_units_ == n_units
    part = copy.deepcopy(net)[: int(layer) + 1]
    np.testing.assert_allclose(explainer.transform(X), explain(part, X).transform(X), atol=1e-6)


def test_layer_in_a_tuple():
    net, X = make_net("lstm"), make_X("lstm")
    hidden = explain(net, X, layer="rnn[1][0]")
    assert hidden.n_units_ == 5
    whole = explain(net, X, layer="rnn[0]")
    assert whole.n_units_ == 7 * 5


def test_occlusion_window_and_stride_are_used():
    net, X = make_net("conv1d"), make_X("conv1d")
    by_default = explain(net, X, "occlusion").transform(X)
    wide = explain(net, X, "occlusion", method_params={"window": (2, 5), "stride": (2, 5)})
    maps = wide.transform(X)
    assert np.ptp(maps[:, :, :5], axis=(1, 2)).max() < 1e-6 < np.ptp(by_default[:, :, :5])
    assert not np.allclose(maps[:, :, 0], maps[:, :, 5])


@pytest.mark.parametrize(
    "method, params",
    [
        ("integrated_gradients", {"n_steps": 2}),
        ("gradient_shap", {"n_samples": 3}),
        ("smooth_grad", {"noise_level": 0.5}),
        ("smooth_grad", {"n_samples": 2}),
        ("shapley_sampling", {"n_samples": 1}),
        ("kernel_shap", {"n_samples": 20}),
        ("lime", {"n_samples": 20}),
        ("lime", {"alpha": 100.0}),
        ("lime", {"kernel_width": 0.05}),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_method_params_have_an_effect(method, params):
    net, X = make_net("mlp"), make_X("mlp")
    by_default = explain(net, X, method, method_params=None).transform(X)
    assert not np.allclose(
        explain(net, X, method, method_params=params).transform(X), by_default, rtol=1e-4, atol=0
    )


def test_smooth_grad_noise_follows_each_columns_range_in_tables():
    X = make_X("mlp") * np.float32([1, 10, 100, 1000, 0])
    explainer = explain(Linear(np.eye(5)), X.astype(np.float64), "smooth_grad")
    np.testing.assert_allclose(explainer._engine.noise_std, 0.1 * np.ptp(X, axis=0), rtol=1e-6)


def test_random_state_decides_the_draws():
    net, X = make_net("mlp"), make_X("mlp")
    a, b, other = (
        explain(net, X, "gradient_shap", random_state=seed).transform(X) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, other)


def test_verbose_shows_progress(capsys):
    X = make_X("mlp")
    explain(make_net("mlp"), X, verbose=1).transform(X)
    assert "integrated_gradients" in capsys.readouterr().err
    explain(make_net("mlp"), X).transform(X)
    assert capsys.readouterr().err == ""


def test_output_has_the_networks_dtype():
    X = make_X("mlp")
    assert explain(make_net("mlp"), X.astype(np.float64)).transform(X).dtype == np.float32
    assert explain(make_net("mlp", torch.float64), X).transform(X).dtype == np.float64


# -- score, importances, output ----------------------------------------------------------------


def test_score_is_the_latent_shift_area_over_chance():
    net, X = FirstColumns(make_net("mlp")), make_X("mlp", 30)
    explainer = explain(net, X, method_params={"n_steps": 200})
    curve = explainer.latent_shift(X)
    assert explainer.score(X) == curve.area_ratio > 1.1
    assert curve.n_masked.tolist() == [0, 1, 2]  # the network reads two columns
    assert (curve.most >= curve.least - 1e-9).all()


def test_score_masks_with_the_mean_whatever_the_baseline():
    net, X = make_net("mlp"), make_X("mlp", 30) + 3
    curves = [explain(net, X, "saliency", baseline=b).latent_shift(X) for b in ("mean", "zeros")]
    np.testing.assert_array_equal(curves[0].most, curves[1].most)


def test_score_sums_importance_over_channels_where_the_network_has_some():
    for name, n_positions in (("conv1d", 10), ("lstm", 7), ("conv2d", 64)):
        explainer = explain(make_net(name), make_X(name))
        assert explainer.latent_shift(make_X(name)).n_masked[-1] == n_positions


def test_score_of_a_constant_representation_is_chance():
    net = FirstColumns(make_net("mlp"))
    X = make_X("mlp")
    X[:, :2] = 1
    explainer = explain(net, X)
    with pytest.warns(UserWarning, match="no mask shifts"):
        assert explainer.score(X) == 1.0


def test_feature_importances_are_the_mean_over_the_fitted_data():
    net, X = make_net("conv1d"), make_X("conv1d")
    explainer = explain(net, X)
    expected = np.abs(explainer.transform(X)).mean(axis=0)
    np.testing.assert_allclose(explainer.feature_importances_, expected)
    explainer.transform(X[:2])
    np.testing.assert_allclose(explainer.feature_importances_, expected)


def test_feature_importances_are_of_a_thousand_samples_that_are_kept():
    net, X = make_net("mlp"), make_X("mlp", 3000)
    given = X.copy()
    explainer = explain(net, given, "saliency")
    expected = np.abs(explainer.transform(kept_rows(X, explainer.seed_))).mean(axis=0)
    given[:] = 7  # the next batch arrives in the same buffer
    again = pickle.loads(pickle.dumps(explainer))
    assert len(pickle.dumps(explainer)) < X.nbytes / 2 + 20_000
    for fitted in (explainer, again):
        np.testing.assert_allclose(fitted.feature_importances_, expected, rtol=1e-5)


@pytest.mark.parametrize("baseline", ["background", "rows"])
def test_nothing_changes_with_the_arrays_given(baseline):
    net, X, rows = make_net("mlp"), make_X("mlp"), make_X("mlp", 2) + 1
    given, given_rows = X.copy(), rows.copy()
    explainer = explain(net, given, baseline=given_rows if baseline == "rows" else baseline)
    expected = explainer.transform(X)
    given[:] = given_rows[:] = 9
    np.testing.assert_array_equal(explainer.transform(X), expected)


def test_parameters_count_from_fit_on():
    net, X = make_net("mlp"), make_X("mlp")
    explainer = explain(net, X)
    expected = explainer.transform(X)
    explainer.set_params(
        method="kernel_shap",
        method_params=None,
        baseline="zeros",
        center=True,
        absolute=True,
        units=[0],
        batch_size=3,
    )
    np.testing.assert_allclose(explainer.transform(X), expected, atol=1e-6)


def test_channel_axis_names_and_masks():
    net, X = make_net("conv1d"), make_X("conv1d")
    explainer = explain(net, X, "saliency", channel_axis=1)
    assert explainer.get_feature_names_out()[1] == "ch1_t0"
    assert explainer.latent_shift(X).n_masked[-1] == 2
    assert explain(net, X, "saliency", channel_axis=None).latent_shift(X).n_masked[-1] == 20


@pytest.mark.parametrize(
    "name, first, last",
    [
        ("conv1d", "ch0_t0", "ch1_t9"),
        ("lstm", "ch0_t0", "ch2_t6"),
        ("conv2d", "ch0_y0_x0", "ch0_y7_x7"),
    ],
)
@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_set_output_gives_flat_named_columns(name, first, last, container):
    X = make_X(name)
    explainer = explain(make_net(name), X, "saliency").set_output(transform=container)
    frame = explainer.transform(X)
    assert [frame.columns[0], frame.columns[-1]] == [first, last]
    expected = explain(make_net(name), X, "saliency").transform(X).reshape(len(X), -1)
    np.testing.assert_array_equal(frame.to_numpy(), expected)


# -- the model, copies, memory -----------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*cannot be told:sklexplain.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_model_comes_back_bit_identical(method):
    net, X = make_net("conv2d"), make_X("conv2d", 3)
    net[0].weight.grad = torch.ones_like(net[0].weight)
    net[1].eval()
    net[6].bias.requires_grad_(False)
    handle = net[0].register_forward_hook(lambda *args: None)
    before = copy.deepcopy(net.state_dict())
    flags = [(m.training, len(m._forward_hooks)) for m in net.modules()]
    requires = [p.requires_grad for p in net.parameters()]
    generators = torch.get_rng_state(), np.random.get_state()[1].copy()
    explainer = explain(net, X, method)
    explainer.transform(X)
    explainer.score(X)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert flags == [(m.training, len(m._forward_hooks)) for m in net.modules()]
    assert requires == [p.requires_grad for p in net.parameters()]
    assert (net[0].weight.grad == 1).all() and net[6].weight.grad is None
    assert torch.equal(generators[0], torch.get_rng_state())
    assert (generators[1] == np.random.get_state()[1]).all()
    handle.remove()


def test_explains_what_the_module_is_now():
    net, X = make_net("mlp"), make_X("mlp")
    explainer = explain(net, X)
    before = explainer.transform(X)
    with torch.no_grad():
        net[0].weight.mul_(2)
    assert not np.allclose(explainer.transform(X), before)


def test_pickle_joblib_and_clone(tmp_path):
    net, X = make_net("lstm"), make_X("lstm")
    explainer = explain(net, X, "kernel_shap")
    expected = explainer.transform(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(explainer)).transform(X), expected)
    joblib.dump(explainer, tmp_path / "explainer.joblib")
    again = joblib.load(tmp_path / "explainer.joblib")
    np.testing.assert_array_equal(again.transform(X), expected)
    assert clone(explainer).estimator is net
    again.set_params(method="saliency", method_params=None).fit(X)
    assert not np.allclose(again.transform(X), expected)


_MEMORY = """
import resource, sys
import numpy as np, torch
torch.set_num_threads(1)
from sklexplain import LabelFreeAttributor
from tests.cases import make_net, make_X
X = make_X("conv2d", 20_000)
explainer = LabelFreeAttributor(make_net("conv2d"), method_params={"n_steps": 10}).fit(X[:20])
explainer.transform(X[:2000])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
explainer.transform(X)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_peak_memory_does_not_grow_with_the_number_of_samples():
    grown = int(subprocess.check_output([sys.executable, "-c", _MEMORY]))
    # 18 000 more samples take 4.6 MB of output and as much for joining it; their points at ten
    # steps would take 46 MB, and their activations several times that.
    assert grown < 25_000


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params, error, message",
    [
        ({"method": "integrated_gradient"}, ValueError, "Did you mean 'integrated_gradients'"),
        ({"method_params": {"n_step": 5}}, ValueError, "Did you mean 'n_steps'"),
        ({"method_params": {"n_steps": 0}}, ValueError, r"\['n_steps'\]=0 must be at least 1"),
        ({"method_params": {"n_steps": 2.5}}, TypeError, "2.5 must be an integer"),
        ({"method": "saliency", "method_params": {"n_steps": 5}}, ValueError, "no parameters"),
        ({"method": "lime", "method_params": {"alpha": 0}}, ValueError, "must be positive"),
        ({"method": "occlusion", "method_params": {"window": (1, 2)}}, ValueError, "axes"),
        ({"method": "occlusion", "method_params": {"window": (9,)}}, ValueError, "larger than"),
        (
            {"method": "occlusion", "method_params": {"window": (2,), "stride": (3,)}},
            ValueError,
            "leave gaps",
        ),
        ({"method": "kernel_shap", "method_params": {"n_samples": 2}}, ValueError, "n_samples=2"),
        ({"baseline": "median"}, ValueError, "str among .'mean', 'zeros', 'background'"),
        ({"baseline": np.zeros(4)}, ValueError, r"baseline has shape \(4,\).*\(5,\)"),
        ({"baseline": np.full(5, np.nan)}, ValueError, "NaN"),
        ({"units": [4]}, ValueError, "no latent unit 4; the representation has 4"),
        ({"units": [0.5]}, TypeError, "list of integers"),
        ({"units": []}, TypeError, "list of integers"),
        ({"units": [0, 2, -4]}, ValueError, "units names 0 twice"),
        ({"groups": {"a": [0, 1, 2, 3, 4], "b": []}}, ValueError, r"groups\['b'\] is empty"),
        ({"layer": "relu"}, ValueError, "layer='relu' is not a submodule"),
        ({"batch_size": 0}, ValueError, "'batch_size' parameter .* Got 0 instead"),
        ({"groups": [0, 1]}, ValueError, "groups has shape"),
    ],
)
def test_parameters_are_checked_in_fit(params, error, message):
    explainer = LabelFreeAttributor(make_net("mlp"), **params)
    with pytest.raises(error, match=message):
        explainer.fit(make_X("mlp"))


def test_unknown_unit_in_unit_attributions():
    explainer = explain(make_net("mlp"), make_X("mlp"))
    with pytest.raises(ValueError, match="no latent unit 9"):
        explainer.unit_attributions(make_X("mlp"), units=[9])


def test_callable_baseline_of_the_wrong_shape():
    X = make_X("mlp")
    explainer = explain(make_net("mlp"), X, baseline=lambda X: X[:, :2])
    with pytest.raises(ValueError, match=r"returned shape \(9, 2\) for X of shape \(9, 5\)"):
        explainer.transform(X)


def test_not_fitted():
    explainer = LabelFreeAttributor(make_net("mlp"))
    with pytest.raises(NotFittedError):
        explainer.transform(make_X("mlp"))
    with pytest.raises(NotFittedError):
        _ = explainer.feature_importances_


@pytest.mark.parametrize("method", sorted(GRADIENT_METHODS))
def test_integers_have_no_gradient(method):
    tokens = nn.Sequential(nn.Embedding(10, 3), nn.Flatten(), nn.Linear(12, 2))
    X = np.random.RandomState(0).randint(10, size=(8, 4))
    with pytest.raises(TypeError, match=r"takes integers.*use one of .*'shapley_sampling'"):
        LabelFreeAttributor(tokens, method=method, baseline="zeros").fit(X)


@pytest.mark.parametrize("method", sorted(PERTURBATION_METHODS))
def test_integers_can_be_perturbed(method):
    tokens = nn.Sequential(nn.Embedding(10, 3), nn.Flatten(), nn.Linear(12, 2))
    X = np.random.RandomState(0).randint(10, size=(8, 4))
    explainer = LabelFreeAttributor(tokens, method=method, baseline="zeros", random_state=0).fit(X)
    assert explainer.transform(X).shape == (8, 4)
    assert np.isfinite(explainer.score(X))
    with pytest.raises(ValueError, match="integers, which have no mean"):
        LabelFreeAttributor(tokens, method=method).fit(X)


def test_too_few_steps_are_a_convergence_warning():
    net, X = make_net("conv2d"), make_X("conv2d") * 5
    explainer = explain(net, X, method_params={"n_steps": 1})
    with pytest.warns(ConvergenceWarning, match="miss the sum .* raise method_params.'n_steps'"):
        explainer.transform(X)


def test_deep_lift_of_a_lookup_is_a_convergence_warning():
    class Codebook(nn.Module):
        def __init__(self):
            super().__init__()
            self.codes, self.rest = nn.Embedding(4, 3), nn.Linear(5, 3)

        def forward(self, x):
            place = (x[:, :4] ** 2).argmax(dim=1)
            return self.codes(place) + 0.1 * self.rest(x)

    X = make_X("mlp") * 3
    explainer = explain(Codebook(), X, "deep_lift")
    with pytest.warns(ConvergenceWarning, match=r"for \d+ of 9 .*a lookup.* 'kernel_shap'"):
        explainer.transform(X)


def test_a_single_sample_that_misses_its_sum_is_told():
    class OneStep(nn.Module):
        def forward(self, x):
            return x + 10 * (x[:, 3:4] > 5).to(x)

    X = make_X("mlp", 200)
    X[17:19, 3] = 6
    explainer = LabelFreeAttributor(OneStep(), method="deep_lift", baseline="zeros").fit(X)
    with pytest.warns(ConvergenceWarning, match=r"for 2 of 200 samples \(number 1[78] by"):
        explainer.transform(X)


def test_a_scikit_learn_transformer_needs_no_network():
    X = make_X("mlp").astype(np.float64)
    assert explain(PCA(2), X).transform(X).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.longdouble, ">f4"])
def test_a_baseline_in_any_dtype(dtype):
    net, rows = make_net("mlp"), make_X("mlp")
    baseline = np.random.default_rng(0).integers(0, 3, size=(2, *rows.shape[1:]))
    for method in ("input_x_gradient", "feature_ablation"):
        maps = [
            explain(net, rows, method, baseline=baseline.astype(kind)).transform(rows)
            for kind in (float, dtype)
        ]
        np.testing.assert_allclose(maps[1], maps[0], rtol=1e-6)
