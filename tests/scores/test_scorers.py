"""Both scorers: against plain loops, and what must hold of them."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import KernelPCA
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklexplain import NoiseScorer, VarianceScorer
from sklexplain.datasets import load_ecg5000, make_relevant_columns
from sklexplain.nets import Autoencoder
from sklexplain.scores import noise_scorer, variance_scorer
from tests.cases import make_net, make_X
from tests.scores import reference

SCORERS = [NoiseScorer, VarianceScorer]


def double(name):
    net = make_net(name, dtype=torch.float64).eval()
    return net, make_X(name, dtype=np.float64)


def fit(scorer_class, net, X, **params):
    return scorer_class(net, random_state=0, **params).fit(X)


def noise_of(monkeypatch):
    """Record the noise inputs that a scorer draws."""
    from sklexplain.scores import _noise_scorer

    drawn = []

    def record(*args):
        drawn.append(draw(*args))
        return drawn[-1]

    draw = _noise_scorer.noise_inputs
    monkeypatch.setattr(_noise_scorer, "noise_inputs", record)
    return drawn


LAYERS = {"mlp": [("0", 0), ("4", 0)], "conv1d": [("0", 0), ("5", 0)], "conv2d": [("0", 0)]}


class TestAgainstLoops:
    @pytest.mark.parametrize("saliency", ["activation_x_gradient", "gradient"])
    @pytest.mark.parametrize(("channel_agg", "unit_agg"), [("abs", "abs"), ("mean", "var")])
    @pytest.mark.parametrize("name", sorted(LAYERS))
    def test_noise_score(self, name, channel_agg, unit_agg, saliency, monkeypatch):
        net, X = double(name)
        drawn = noise_of(monkeypatch)
        params = {"channel_agg": channel_agg, "unit_agg": unit_agg, "saliency": saliency}
        layers = [layer for layer, _ in LAYERS[name]]
        scorer = fit(NoiseScorer, net, X, layers=layers, n_noise=3, **params)
        first, second = drawn[0][:3], drawn[0][3:]
        scores = scorer.transform(X)
        assert scores.dtype == np.float64
        for p, (layer, _) in enumerate(LAYERS[name]):
            module = net.get_submodule(layer)
            expected = reference.noise_score(net, module, X, first, **params)
            np.testing.assert_allclose(scores[:, p], expected, atol=1e-9)
            benchmark = np.mean(reference.noise_score(net, module, first, second, **params))
            np.testing.assert_allclose(scorer.benchmark_[p], benchmark, atol=1e-9)

    @pytest.mark.parametrize("threshold", [None, 0.5])
    @pytest.mark.parametrize("channel_agg", ["mean", "abs"])
    @pytest.mark.parametrize("name", sorted(LAYERS))
    def test_variance_score(self, name, channel_agg, threshold):
        net, X = double(name)
        layers = [layer for layer, _ in LAYERS[name]]
        params = {"channel_agg": channel_agg, "threshold": threshold}
        scores = fit(VarianceScorer, net, X, layers=layers, **params).transform(X)
        for p, layer in enumerate(layers):
            module = net.get_submodule(layer)
            expected = reference.variance_score(net, module, X, **params)
            np.testing.assert_allclose(scores[:, p], expected, atol=1e-9)

    def test_recurrent_layer(self, monkeypatch):
        net, X = double("lstm")
        drawn = noise_of(monkeypatch)
        scorer = fit(NoiseScorer, net, X, layers=["rnn"], n_noise=2)
        expected = reference.noise_score(net, net.rnn, X, drawn[0][:2], channel_axis=1)
        np.testing.assert_allclose(scorer.transform(X)[:, 0], expected, atol=1e-9)
        variance = fit(VarianceScorer, net, X, layers=["rnn"]).transform(X)[:, 0]
        expected = reference.variance_score(net, net.rnn, X, channel_axis=1)
        np.testing.assert_allclose(variance, expected, atol=1e-9)

    def test_score_is_the_excess_over_the_benchmark(self):
        net, X = double("conv1d")
        scorer = fit(NoiseScorer, net, X)
        noise, benchmark = scorer.transform(X).mean(axis=0), scorer.benchmark_
        expected = np.mean([(n - b) / (n + b) for n, b in zip(noise, benchmark, strict=True)])
        assert scorer.score(X) == pytest.approx(expected, abs=1e-12)

    def test_score_is_the_mean_variance(self):
        net, X = double("conv1d")
        scorer = fit(VarianceScorer, net, X)
        assert scorer.score(X) == pytest.approx(scorer.transform(X).mean(), abs=1e-12)

    @pytest.mark.parametrize("scorer_class", SCORERS)
    def test_score_samples_is_the_mean_over_layers(self, scorer_class):
        net, X = double("conv1d")
        scorer = fit(scorer_class, net, X)
        expected = scorer.transform(X).mean(axis=1)
        np.testing.assert_allclose(scorer.score_samples(X), expected, atol=1e-12)


class TestWhatMustHold:
    @pytest.mark.parametrize("name", ["mlp", "conv1d", "conv2d", "lstm", "gru", "transformer"])
    @pytest.mark.parametrize(("scorer_class", "limit"), [(NoiseScorer, 1), (VarianceScorer, 0.25)])
    def test_range(self, scorer_class, limit, name):
        scores = fit(scorer_class, make_net(name), make_X(name)).transform(make_X(name))
        assert scores.min() >= 0 and scores.max() <= limit
        assert scores.max() > 0

    def test_identical_maps_score_zero(self):
        # With the gradient of a linear network, every input has the same maps.
        net = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Flatten(), nn.Linear(3 * 8, 4))
        X = make_X("conv1d")
        scorer = fit(NoiseScorer, net, X, saliency="gradient", layers=["0"])
        np.testing.assert_allclose(scorer.transform(X), 0, atol=1e-6)
        np.testing.assert_allclose(scorer.benchmark_, 0, atol=1e-6)
        assert abs(scorer.score(X)) <= 1
        # Units that are alike look at the same.
        with torch.no_grad():
            net[2].weight[:] = net[2].weight[0].clone()
        variance = fit(VarianceScorer, net, X, layers=["0"]).transform(X)
        np.testing.assert_allclose(variance, 0, atol=1e-9)

    @pytest.mark.parametrize("scorer_class", SCORERS)
    def test_constant_maps_score_zero(self, scorer_class):
        class Sum(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv1d(2, 3, 1)

            def forward(self, x):
                return self.conv(x).sum(dim=2)

        scorer = fit(scorer_class, Sum(), make_X("conv1d"), saliency="gradient")
        assert (scorer.transform(make_X("conv1d")) == 0).all()
        assert scorer.score(make_X("conv1d")) == 0

    @pytest.mark.parametrize("scorer_class", SCORERS)
    def test_order_of_units_changes_nothing(self, scorer_class):
        net, X = double("conv2d")
        permuted = copy.deepcopy(net)
        order = torch.tensor([3, 0, 4, 1, 2])
        with torch.no_grad():
            permuted[6].weight[:] = net[6].weight[order]
            permuted[6].bias[:] = net[6].bias[order]
        scores = [fit(scorer_class, n, X).transform(X) for n in (net, permuted)]
        np.testing.assert_allclose(*scores, atol=1e-10)

    def test_signs_of_units_change_nothing_with_absolute_values(self):
        net, X = double("conv2d")
        flipped = copy.deepcopy(net)
        with torch.no_grad():
            flipped[6].weight[1:4] *= -1
            flipped[6].bias[1:4] *= -1
        scores = [fit(NoiseScorer, n, X).transform(X) for n in (net, flipped)]
        np.testing.assert_allclose(*scores, atol=1e-10)
        signed = {"channel_agg": "mean", "unit_agg": "mean"}
        scores = [fit(NoiseScorer, n, X, **signed).transform(X) for n in (net, flipped)]
        assert np.abs(scores[0] - scores[1]).max() > 1e-3

    @pytest.mark.parametrize("scorer_class", SCORERS)
    @pytest.mark.parametrize("unit", range(5))
    def test_every_unit_counts(self, scorer_class, unit):
        net, X = double("conv2d")
        other = copy.deepcopy(net)
        with torch.no_grad():
            other[6].weight[unit] = other[6].weight[unit].flip(0)
        scores = [fit(scorer_class, n, X, layers=["0"]).transform(X) for n in (net, other)]
        assert np.abs(scores[0] - scores[1]).max() > 1e-4

    def test_noise_inputs_do_not_depend_on_x_or_batches(self):
        net, X = double("conv1d")
        one = fit(NoiseScorer, net, X)
        small = fit(NoiseScorer, net, X, batch_size=2)
        np.testing.assert_allclose(small.benchmark_, one.benchmark_, atol=1e-12)
        np.testing.assert_allclose(small.transform(X[::-1]), one.transform(X)[::-1], atol=1e-12)

    def test_random_state_and_n_noise(self):
        net, X = double("conv1d")
        scores = [NoiseScorer(net, random_state=s).fit(X).transform(X) for s in (0, 0, 1)]
        np.testing.assert_array_equal(scores[0], scores[1])
        assert np.abs(scores[0] - scores[2]).max() > 1e-4
        few = fit(NoiseScorer, net, X, n_noise=2).transform(X)
        assert np.abs(few - scores[0]).max() > 1e-4

    @pytest.mark.parametrize("noise", ["data", "unit", "permuted"])
    def test_noise_is_drawn_in_units_of_x(self, noise):
        # A scaler in front: noise in raw units makes the same maps as without it.
        X = np.random.default_rng(0).uniform(size=(300, 5)) * [1, 10, 100, 1, 1] + 1000
        scaler = StandardScaler().fit(X)
        net = make_net("mlp", dtype=torch.float64)
        pipeline = fit(NoiseScorer, make_pipeline(scaler, _Wrapped(net)), X, noise=noise)
        plain = fit(NoiseScorer, net, scaler.transform(X), noise=noise)
        same = np.allclose(pipeline.benchmark_, plain.benchmark_, atol=1e-8)
        assert same == (noise != "unit")

    def test_at_input_of_a_layer_is_the_output_of_the_one_before(self):
        net, X = double("conv1d")
        before = fit(NoiseScorer, net, X, layers=["2"])  # an ELU, then dropout, which does nothing
        after = fit(NoiseScorer, net, X, layers=["3"], at="input")
        np.testing.assert_allclose(after.transform(X), before.transform(X), atol=1e-12)


class _Wrapped(TransformerMixin, BaseEstimator):
    """A fitted transformer with a network inside."""

    def __init__(self, net):
        self.net = net

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        with torch.no_grad():
            return self.net.eval()(torch.as_tensor(X)).numpy()

    def __sklearn_is_fitted__(self):
        return True

    def _torch_form(self):
        return self.net, "forward"


class TestLayers:
    def test_default_layers_are_in_call_order(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.last = nn.Linear(12, 2)
                self.unused = nn.Linear(3, 3)
                self.first = nn.Conv1d(2, 4, 3)
                self.rnn = nn.LSTM(4, 3, batch_first=True)

            def forward(self, x):
                h = self.rnn(self.first(x).transpose(1, 2))[0]
                return self.last(torch.tanh(h[:, ::2]).flatten(1))

        scorer = fit(VarianceScorer, Net(), make_X("conv1d"))
        assert scorer.layers_ == ["first", "rnn", "last"]
        assert scorer.transform(make_X("conv1d")).shape == (9, 3)

    @pytest.mark.parametrize("scorer_class", SCORERS)
    def test_data_frame_has_columns_named_by_layer(self, scorer_class):
        scorer = fit(scorer_class, make_net("conv1d"), make_X("conv1d"), layers=["5", "0"])
        frame = scorer.set_output(transform="pandas").transform(make_X("conv1d"))
        assert list(frame.columns) == ["5", "0"]
        plain = fit(scorer_class, make_net("conv1d"), make_X("conv1d")).transform(make_X("conv1d"))
        np.testing.assert_allclose(frame["0"], plain[:, 0], rtol=1e-5)

    @pytest.mark.parametrize("scorer_class", SCORERS)
    def test_unknown_layers(self, scorer_class):
        autoencoder = Autoencoder("conv1d", max_epochs=1, validation_split=None, random_state=0)
        autoencoder.fit(make_X("conv1d"))
        with pytest.raises(ValueError, match="Did you mean .*encoder.conv0"):
            fit(scorer_class, autoencoder, make_X("conv1d"), layers=["encoder.conv00"])
        with pytest.raises(TypeError, match=r"layers=\['encoder.conv0'\]"):
            fit(scorer_class, autoencoder, make_X("conv1d"), layers="encoder.conv0")
        with pytest.raises(ValueError, match="before the output"):
            fit(scorer_class, autoencoder, make_X("conv1d"), layers=["decoder.expand"])

    def test_output_names_what_is_scored(self):
        net, X = double("conv1d")
        part = nn.Sequential(*list(net)[:3])
        whole = fit(NoiseScorer, net, X, output="2", layers=["0"])
        assert whole.n_units_ == 40
        expected = fit(NoiseScorer, part, X, layers=["0"]).transform(X)
        np.testing.assert_allclose(whole.transform(X), expected, atol=1e-12)

    @pytest.mark.parametrize("scorer_class", SCORERS)
    def test_networks_without_known_layers(self, scorer_class):
        with pytest.raises(ValueError, match=r"name what to look at: layers=\[...\]"):
            fit(scorer_class, nn.Sequential(nn.ReLU()), make_X("mlp"))

    @pytest.mark.parametrize("scorer_class", SCORERS)
    def test_black_boxes_are_refused(self, scorer_class):
        with pytest.raises(TypeError, match="KernelPCA has no torch form.*LabelFreeAttributor"):
            fit(scorer_class, KernelPCA(n_components=2), make_X("mlp"))

    def test_grad_cam(self):
        scorer = fit(
            VarianceScorer, make_net("conv1d"), make_X("conv1d"), saliency="grad_cam", layers=["0"]
        )
        assert 0 < scorer.score(make_X("conv1d")) <= 0.25
        with pytest.raises(ValueError, match="grad_cam"):
            fit(VarianceScorer, make_net("mlp"), make_X("mlp"), saliency="grad_cam")


class TestParameters:
    @pytest.mark.parametrize(
        ("params", "error", "match"),
        [
            ({"noise": "date"}, ValueError, "Did you mean 'data'"),
            ({"n_noise": 0}, ValueError, r"an int in the range \[1, 100000\]"),
            ({"n_units": 1}, ValueError, r"an int in the range \[2, inf\)"),
            ({"saliency": "gradients"}, ValueError, "Did you mean 'gradient'"),
            ({"unit_agg": "none"}, ValueError, "unit_agg"),
            ({"channel_agg": "meen"}, ValueError, "Did you mean 'mean'"),
            ({"at": "outputs"}, ValueError, "Did you mean 'output'"),
            ({"layers": 3}, TypeError, "list of names"),
            ({"layers": []}, ValueError, "None means all of them"),
        ],
    )
    def test_noise_scorer(self, params, error, match):
        with pytest.raises(error, match=match):
            NoiseScorer(make_net("mlp"), **params).fit(make_X("mlp"))

    @pytest.mark.parametrize(
        ("params", "error", "match"),
        [
            ({"threshold": 1.5}, ValueError, r"range \(0.0, 1.0\) or None. Got 1.5"),
            ({"threshold": "0.5"}, TypeError, "must be a float .* or None"),
            ({"channel_agg": "none"}, ValueError, "channel_agg"),
            ({"n_units": 2.5}, TypeError, "must be an int"),
        ],
    )
    def test_variance_scorer(self, params, error, match):
        with pytest.raises(error, match=match):
            VarianceScorer(make_net("mlp"), **params).fit(make_X("mlp"))

    def test_callable_aggregators(self):
        net, X = double("conv1d")
        by_name = fit(NoiseScorer, net, X, channel_agg="mean", unit_agg="mean").transform(X)
        by_call = fit(NoiseScorer, net, X, channel_agg=torch.mean, unit_agg=torch.mean).transform(X)
        np.testing.assert_allclose(by_call, by_name, atol=1e-10)

    def test_verbose_shows_progress(self, capsys):
        fit(VarianceScorer, make_net("mlp"), make_X("mlp"), verbose=1).transform(make_X("mlp"))
        assert "VarianceScorer" in capsys.readouterr().err


class TestModels:
    @pytest.mark.parametrize("scorer_class", SCORERS)
    @pytest.mark.parametrize("module", ["mlp", "conv1d", "lstm"])
    def test_heartbeats(self, scorer_class, module):
        X, _ = load_ecg5000(return_X_y=True)
        autoencoder = Autoencoder(module, n_components=4, max_epochs=1, validation_split=None)
        autoencoder.set_params(random_state=0).fit(X[:100])
        scorer = fit(scorer_class, autoencoder, X[:30])
        assert {name.split(".")[0] for name in scorer.layers_} == {"encoder"}
        assert np.isfinite(scorer.score(X[30:60]))

    @pytest.mark.parametrize("scorer_class", SCORERS)
    def test_pipeline_with_gaps(self, scorer_class):
        X, _, _ = make_relevant_columns(n_samples=40, random_state=0)
        frame = pd.DataFrame(X).add_prefix("c")
        frame.iloc[3, 2] = np.nan
        autoencoder = Autoencoder(n_components=2, max_epochs=2, validation_split=None)
        model = make_pipeline(SimpleImputer(), StandardScaler(), autoencoder)
        model.set_params(autoencoder__random_state=0).fit(frame)
        scorer = fit(scorer_class, model, frame)
        assert np.isfinite(scorer.transform(frame)).all()
        imputed = frame.fillna(frame.mean())
        without_gap = scorer.transform(imputed)
        np.testing.assert_allclose(scorer.transform(frame), without_gap, rtol=1e-4)

    def test_token_network(self):
        class Tokens(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed = nn.Embedding(12, 6)
                self.mix = nn.Linear(6, 5)

            def forward(self, x):
                return torch.tanh(self.mix(self.embed(x))).amax(dim=1)

        X = np.random.default_rng(0).integers(0, 12, size=(9, 7))
        scorer = fit(NoiseScorer, Tokens(), X, layers=["embed", "mix"])
        assert scorer.transform(X).shape == (9, 2)

    @pytest.mark.parametrize(
        ("make", "scorer_class"), [(noise_scorer, NoiseScorer), (variance_scorer, VarianceScorer)]
    )
    def test_architecture_is_chosen_without_labels(self, make, scorer_class):
        X, _, _ = make_relevant_columns(n_samples=60, random_state=0)
        autoencoder = Autoencoder(max_epochs=3, validation_split=None, random_state=0)
        grid = {"n_components": [2, 4], "hidden_layer_sizes": [(8,), (16, 8)]}
        scoring = pickle.loads(pickle.dumps(make(random_state=0, batch_size=64)))
        search = GridSearchCV(autoencoder, grid, scoring=scoring, cv=2).fit(X)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        assert search.best_score_ == search.cv_results_["mean_test_score"].max()
        # A fold's score is that of the scorer on the fold.
        fitted = autoencoder.set_params(n_components=2, hidden_layer_sizes=(8,)).fit(X[30:])
        expected = scorer_class(fitted, random_state=0, batch_size=64).fit(X[:30]).score(X[:30])
        assert search.cv_results_["split0_test_score"][0] == pytest.approx(expected, rel=1e-4)
        assert len(cross_val_score(fitted, X, scoring=scoring, cv=2)) == 2

    def test_scoring_knows_its_parameters(self):
        with pytest.raises(TypeError, match="n_nois"):
            noise_scorer(n_nois=3)
        assert repr(variance_scorer(threshold=0.5)) == "VarianceScorer(threshold=0.5)"
