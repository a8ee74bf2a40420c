"""Scores where a shorter way would give rounding, or depend on what was not asked for."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklexplain import NoiseScorer, VarianceScorer
from sklexplain.exceptions import SklexplainWarning
from sklexplain.layers import aggregate_with_size, find_points, rounding_of
from tests.scores import reference

RNG = np.random.default_rng(0)


def mlp(*last, n_in=13, n_out=8, dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(n_in, 16), nn.Tanh(), nn.Linear(16, n_out), *last).to(dtype)


class TestCancellation:
    X = RNG.normal(size=(40, 13))

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("last", [nn.Softmax(1), nn.LayerNorm(8)], ids=["softmax", "norm"])
    @pytest.mark.parametrize("batch_size", [1024, 5, 1])
    def test_a_mean_of_gradients_that_cancel_is_no_map(self, last, batch_size, dtype):
        X = self.X.astype(dtype)
        net = mlp(last.double()).to(getattr(torch, dtype))
        aggregators = {"channel_agg": "mean", "unit_agg": "mean"}
        scorer = NoiseScorer(net, **aggregators, random_state=0, batch_size=batch_size).fit(X)
        assert (scorer.transform(X) == 0).all() and (scorer.benchmark_ == 0).all()
        assert scorer.score(X) == 0
        assert (scorer.drift(X[:2], method="distance") == 0).all()

    @pytest.mark.parametrize("batch_size", [1024, 7, 1])
    def test_saturated_probabilities_cancel_too(self, batch_size):
        X, y = load_wine(return_X_y=True)
        # Long enough for probabilities of 1 up to a few roundings.
        classifier = MLPClassifier(solver="lbfgs", max_iter=300, random_state=0)
        pipeline = make_pipeline(StandardScaler(), classifier).fit(X, y)
        aggregators = {"channel_agg": "mean", "unit_agg": "mean"}
        scorer = NoiseScorer(pipeline, **aggregators, random_state=0, batch_size=batch_size)
        scorer.fit(X[::6])
        assert (scorer.transform(X[::9]) == 0).all() and scorer.score(X[::9]) == 0

    def test_other_sums_of_the_same_units_are_maps(self):
        net = mlp(nn.Softmax(1))
        for unit_agg in ("abs", "var"):
            scorer = NoiseScorer(net, channel_agg="mean", unit_agg=unit_agg, random_state=0)
            assert (scorer.fit(self.X).transform(self.X) > 0.01).all()

    def test_channels_that_cancel(self):
        # Two channels of opposite weights behind the same activations: their mean is 0.
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Conv1d(2, 5, 1), nn.Flatten()).double()
        with torch.no_grad():
            net[0].weight[1], net[0].bias[1] = net[0].weight[0], net[0].bias[0]
            net[1].weight[:, 1] = -net[1].weight[:, 0]
        X = RNG.normal(size=(20, 1, 9))
        for unit_agg in ("abs", "var", "mean", "skew"):
            scorer = NoiseScorer(
                net, layers=["0"], channel_agg="mean", unit_agg=unit_agg, random_state=0
            )
            assert (scorer.fit(X).transform(X) == 0).all()
        assert (VarianceScorer(net, layers=["0"]).fit(X).transform(X) == 0).all()

    def test_of_two_probabilities_neither_says_more(self):
        net, X = mlp(nn.Softmax(1), n_out=2), self.X
        scorer = NoiseScorer(net, unit_agg="var", random_state=0, layers=["0"]).fit(X)
        assert (scorer.transform(X) == 0).all()

    @pytest.mark.parametrize("how", ["mean", "abs", "var", "skew"])
    def test_errors_of_aggregates_stay_below_their_sizes(self, how):
        exact = torch.from_numpy(RNG.normal(size=(12, 200)))
        exact[:, :50] += 100  # means far above the spread
        exact[:, 50:100] = exact[:1, 50:100]  # nothing varies
        exact[6:, 100:150] = -exact[:6, 100:150]  # a mean of 0
        value, size = aggregate_with_size(exact.float(), None, how, 0)
        size = value.abs() if size is None else size
        true, _ = aggregate_with_size(exact, None, how, 0)
        assert ((value.double() - true).abs() <= rounding_of(size).double()).all()
        if how in ("var", "skew"):
            assert (value[50:100] <= rounding_of(size)[50:100]).all()


class TestSkewness:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_of_two_numbers_is_zero(self, dtype):
        X = RNG.normal(size=(20, 6)).astype(dtype)
        net = mlp(n_in=6, n_out=2, dtype=getattr(torch, dtype))
        scorer = NoiseScorer(net, unit_agg="skew", layers=["0"], random_state=0).fit(X)
        assert (scorer.transform(X) == 0).all()
        conv = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
        conv = conv.to(getattr(torch, dtype))
        scorer = VarianceScorer(conv, channel_agg="skew", layers=["0"]).fit(X[:, None])
        assert (scorer.transform(X[:, None]) == 0).all()


class Hard(nn.Module):
    """The output is what a view makes of a layer's, or not."""

    def __init__(self, last):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.last = nn.Linear(4, 30).double(), last

    def forward(self, x):
        return self.last(self.layer(x))


class TestOutputItself:
    X = RNG.normal(size=(60, 4)) * 4

    def small_first(self):
        X = self.X.copy()
        X[:3] = 0.01
        return X

    @pytest.mark.parametrize("last", [nn.Hardtanh(), nn.ReLU(), lambda z: z.clamp(-1, 1)])
    def test_a_function_that_clips_nothing_yet_is_none(self, last):
        X, net = self.small_first(), Hard(last)
        with torch.no_grad():
            net.layer.bias.abs_()
        names = dict(net.named_modules())
        (point,) = find_points(net, torch.from_numpy(X[:3]), names, layers=["layer"])
        assert not point.is_output

    @pytest.mark.parametrize(
        ("last", "same"),
        [
            (nn.Identity(), True),
            (nn.Dropout().eval(), True),
            (lambda z: z.view(-1, 5, 6), True),
            (lambda z: z.unsqueeze(1).clone(), True),
            (lambda z: z.view(-1, 5, 6).transpose(1, 2), False),
            (lambda z: z.flip(1), False),
            (lambda z: z + 0, False),
            (lambda z: z[:, :15].repeat(1, 2), False),
        ],
    )
    def test_views_that_keep_every_number_at_its_place_are(self, last, same):
        net = Hard(last)
        x = torch.ones(3, 4, dtype=torch.float64)
        (point,) = find_points(net, x, dict(net.named_modules()), layers=["layer"])
        assert point.is_output == same

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_of_many_units_in_any_precision(self, dtype):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 700), nn.Unflatten(1, (7, 100))).to(dtype)
        x = torch.ones(3, 4, dtype=dtype)
        assert find_points(net, x, dict(net.named_modules()), layers=["0"])[0].is_output

    def test_the_order_of_the_fitted_samples_changes_no_score(self):
        X, net = self.small_first(), Hard(nn.Hardtanh())
        scores = []
        for rows in (X, X[::-1].copy()):
            with pytest.warns(SklexplainWarning, match="output units drawn depend"):
                scorer = NoiseScorer(net, random_state=0, n_units=29, noise="unit").fit(rows)
            scores.append(scorer.transform(X))
            assert scorer.confidence_interval(X).standard_error > 0
        np.testing.assert_array_equal(*scores)


class Shortcut(nn.Module):
    """Layers that return their own input, beside others that use it."""

    def __init__(self, shortcut):
        super().__init__()
        torch.manual_seed(0)
        self.c1, self.c2 = (nn.Conv1d(i, 4, 3, padding=1) for i in (1, 4))
        self.shortcut, self.fc = shortcut, nn.Linear(48, 5)

    def forward(self, x):
        h = torch.tanh(self.c1(x))
        a, b = self.shortcut(h), torch.tanh(self.c2(h))
        return self.fc((a + b * b).flatten(1))


class Tokens(nn.Module):
    def __init__(self, embed):
        super().__init__()
        torch.manual_seed(0)
        self.e, self.skip, self.f = nn.Embedding(10, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.o, self.embed = nn.Linear(24, 5), embed

    def forward(self, x):
        h = self.e(x) if self.embed == "module" else self.looked_up(x)
        a, b = self.skip(h), torch.tanh(self.f(h))
        return self.o((a + b * b).flatten(1))

    def looked_up(self, x):
        if self.embed == "index":
            return self.e.weight[x]
        return nn.functional.one_hot(x, 10).to(self.e.weight.dtype) @ self.e.weight


class TestLayersAskedFor:
    def looped(self, net, module, X, noise):
        return reference.noise_score(net, module, X, noise)

    @pytest.mark.parametrize("shortcut", [nn.Identity(), nn.Dropout(), nn.Unflatten(1, (4,))])
    @pytest.mark.parametrize("scorer_class", [NoiseScorer, VarianceScorer])
    def test_modules_that_return_their_input(self, shortcut, scorer_class):
        net = Shortcut(shortcut).double().eval()
        X = RNG.normal(size=(12, 1, 12))
        alone = scorer_class(net, layers=["shortcut"], random_state=0).fit(X).transform(X)
        for layers in (["c1", "shortcut"], ["c1", "c2", "shortcut"]):
            scores = scorer_class(net, layers=layers, random_state=0).fit(X).transform(X)
            np.testing.assert_allclose(scores[:, -1], alone[:, 0], rtol=1e-12)
        # A layer that changes nothing and is no identity to torch: the gradient through it alone.
        net.shortcut = nn.Sequential(nn.Conv1d(4, 4, 1, bias=False).double())
        with torch.no_grad():
            net.shortcut[0].weight.copy_(torch.eye(4)[..., None])
        scores = scorer_class(net, layers=["shortcut.0"], random_state=0).fit(X).transform(X)
        np.testing.assert_allclose(scores, alone, rtol=1e-9)

    def test_a_shortcut_that_leads_nowhere_is_refused(self):
        net = Shortcut(nn.Identity()).double()
        net.forward = lambda x: net.fc(_used_past(net, x))
        with pytest.raises(ValueError, match="does not depend on layer 'shortcut'"):
            NoiseScorer(net, layers=["shortcut"]).fit(RNG.normal(size=(12, 1, 12)))

    @pytest.mark.parametrize("embed", ["module", "index", "product"])
    def test_inputs_of_layers_behind_an_embedding(self, embed):
        net = Tokens(embed).double()
        X = RNG.integers(0, 10, size=(12, 6))
        params = {"at": "input", "random_state": 0}
        alone = NoiseScorer(net, layers=["f"], **params).fit(X).transform(X)
        both = NoiseScorer(net, layers=["skip", "f"], **params).fit(X).transform(X)
        np.testing.assert_allclose(both[:, 1], alone[:, 0], rtol=1e-12)
        # As with floating inputs: all uses of the tensor count.
        floats = nn.Sequential(nn.Flatten(0, 1), nn.Linear(10, 4, bias=False)).double()
        with torch.no_grad():
            floats[1].weight.copy_(net.e.weight.T)
        net.e, net.embed = nn.Sequential(floats, nn.Unflatten(0, (-1, 6))), "module"
        one_hot = np.eye(10)[X]
        whole = NoiseScorer(net, layers=["skip"], **params, noise="permuted").fit(one_hot)
        later = NoiseScorer(net, layers=["f"], **params, noise="permuted").fit(one_hot)
        np.testing.assert_allclose(later.transform(one_hot), whole.transform(one_hot), rtol=1e-12)


def _used_past(net, x):
    h = torch.tanh(net.c1(x))
    net.shortcut(h)
    return h.flatten(1)


class Gate(nn.Module):
    """Sees nothing in samples with a large value, as those of noise are."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        closed = (x.abs().amax(dim=1, keepdim=True) > 1.2).to(x)
        return self.b(torch.relu(0.01 * self.a(x) + 1 - 10 * closed))


class TestCollapsedBenchmark:
    X = np.concatenate([RNG.uniform(-1, 1, (30, 6)), RNG.uniform(4, 5, (30, 6))])

    def test_is_nan_with_a_warning(self):
        scorer = NoiseScorer(Gate().double(), layers=["a"], random_state=0, n_noise=3)
        scorer.fit(np.concatenate([self.X, -self.X]))
        assert scorer.benchmark_ == 0 and (scorer.transform(self.X[:30]) > 0).all()
        with pytest.warns(SklexplainWarning, match="score is NaN: at 'a' the maps of all noise"):
            assert np.isnan(scorer.score(self.X[:30]))
        with pytest.warns(SklexplainWarning, match="score is NaN"):
            assert np.isnan(scorer.confidence_interval(self.X[:30]).score)

    def test_dead_layers_do_not_win_a_search(self):
        net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()
        nn.init.constant_(net[0].bias, -1e3)
        scorer = NoiseScorer(net, random_state=0).fit(self.X)
        with pytest.warns(SklexplainWarning, match="at '0' the maps"):
            assert np.isnan(scorer.score(self.X))

    def test_constant_data(self):
        X = np.full((20, 6), 2.0)
        scorer = NoiseScorer(mlp(n_in=6), random_state=0).fit(X)
        with pytest.warns(SklexplainWarning, match="use noise='unit'"):
            assert np.isnan(scorer.score(self.X))

    def test_maps_of_one_position_count_as_zero(self):
        X = self.X[:30]
        scorer = NoiseScorer(mlp(n_in=6, n_out=1), random_state=0).fit(X)
        alone = NoiseScorer(mlp(n_in=6, n_out=1), random_state=0, layers=["0"]).fit(X)
        assert scorer.benchmark_[1] == 0
        assert scorer.score(X) == pytest.approx(alone.score(X) / 2)


class TestReference:
    X = RNG.normal(size=(30, 6))

    def test_is_the_mean_distance_from_it(self):
        scorer = NoiseScorer(mlp(n_in=6), random_state=0).fit(self.X)
        np.testing.assert_allclose(
            scorer.mean_noise_, scorer.transform(self.X).mean(axis=0), rtol=1e-12
        )
        other = NoiseScorer(mlp(n_in=6), random_state=0, reference=scorer.mean_noise_).fit(self.X)
        assert other.score(self.X) == 0
        values = [0.25, 0.75]
        other.set_params(reference=values).fit(self.X)
        expected = -np.mean(np.abs(scorer.mean_noise_ - values))
        assert other.score(self.X) == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize(
        ("values", "error", "match"),
        [
            ([0.1], ValueError, "one noise score for each of the 2 layers"),
            ([[0.1, 0.2]], ValueError, r"shape \(1, 2\)"),
            ([0.1, np.nan], ValueError, "between 0 and 1"),
            ([0.1, 1.5], ValueError, "between 0 and 1"),
            ("mean", TypeError, "mean_noise_"),
            (NoiseScorer(None), TypeError, "not the scorer itself"),
        ],
    )
    def test_what_does_not_fit(self, values, error, match):
        with pytest.raises(error, match=match):
            NoiseScorer(mlp(n_in=6), reference=values).fit(self.X)

    def test_in_a_search(self):
        from sklexplain.scores import noise_scorer

        net = mlp(n_in=6)
        values = NoiseScorer(net, random_state=0).fit(self.X).mean_noise_
        assert noise_scorer(random_state=0, reference=values)(net, self.X) == 0


@pytest.mark.parametrize("first", [0.0, -0.0])
def test_columns_of_zeros_of_either_sign(first):
    X = RNG.normal(size=(14, 4))
    X[:, 1] = -first
    X[0, 1] = first
    scorer = NoiseScorer(mlp(n_in=4), random_state=0).fit(X)
    expected = NoiseScorer(mlp(n_in=4), random_state=0).fit(X + 0.0)
    np.testing.assert_array_equal(scorer.transform(X), expected.transform(X))


@pytest.mark.parametrize("n", [40, 41])
def test_the_smallest_p_value_is_as_documented(n):
    X = RNG.normal(size=(n, 6))
    scorer = NoiseScorer(mlp(n_in=6), random_state=0).fit(X)
    assert scorer.drift_pvalue(X + 50)[0] == pytest.approx(1 / (n // 2 + 1))
