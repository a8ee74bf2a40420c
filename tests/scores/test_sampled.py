"""Scores from random output units, and the intervals around them."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from sklexplain import NoiseScorer, VarianceScorer
from sklexplain.scores._base import LayerScorer
from sklexplain.scores._sampling import draw_units
from tests.cases import make_net, make_X

SCORERS = [NoiseScorer, VarianceScorer]


@pytest.fixture(scope="module")
def digits():
    """A briefly trained network with 128 output units, and samples."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).reshape(-1, 1, 8, 8).astype(np.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 12, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(192, 128),
        )  # fmt: skip
        head = nn.Linear(128, 10)
        optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], 3e-3)
        x, target = torch.from_numpy(X[:1000]), torch.from_numpy(y[:1000])
        for _ in range(40):
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(torch.relu(net(x))), target).backward()
            optimizer.step()
    return net, X[1000:1016]


def with_units(scorer, seed):
    """Draw other units; the noise inputs stay the same."""
    n_units = len(scorer._drawn.units)
    scorer._drawn = draw_units(scorer.n_units_, n_units, np.random.default_rng(seed))
    if isinstance(scorer, NoiseScorer):
        with scorer._inside(scorer._fit_inputs):
            scorer._fit_scorer(scorer._fit_inputs)
    return scorer


@pytest.mark.parametrize("scorer_class", SCORERS)
def test_exact_score_is_inside_the_interval(scorer_class, digits):
    # 1/16 of the units; benchmarks/papers has 1/30 of 512 with 200 draws.
    net, X = digits
    params = {"layers": ["0", "3"], "random_state": 0}
    if scorer_class is NoiseScorer:
        params["n_noise"] = 4
    exact = scorer_class(net, **params).fit(X)
    sampled = scorer_class(net, n_units=8, **params).fit(X)
    overall, layers = exact.score(X), exact.transform(X).mean(axis=0)
    covered = []
    for seed in range(60):
        interval = with_units(sampled, seed).confidence_interval(X)
        assert interval.low < interval.score < interval.high
        covered.append(
            [
                interval.low <= overall <= interval.high,
                *((interval.layer_low <= layers) & (layers <= interval.layer_high)),
            ]
        )
    # At a coverage of 90 %, fewer than 48 of 60 have a probability of 0.6 %.
    assert (np.sum(covered, axis=0) >= 48).all(), np.mean(covered, axis=0)


@pytest.mark.parametrize("scorer_class", SCORERS)
def test_intervals_are_not_wider_than_they_must_be(scorer_class, digits):
    net, X = digits
    sampled = scorer_class(net, layers=["3"], n_units=8, random_state=0).fit(X)
    found = [with_units(sampled, seed).confidence_interval(X) for seed in range(30)]
    spread = np.std([interval.score for interval in found])
    assert np.median([interval.standard_error for interval in found]) <= 2.5 * spread


def test_variance_of_drawn_units_has_no_bias(digits):
    net, X = digits
    exact = VarianceScorer(net, layers=["0"]).fit(X).transform(X)[:, 0]
    sampled = VarianceScorer(net, layers=["0"], n_units=4, random_state=0).fit(X)
    draws = [with_units(sampled, seed).transform(X)[:, 0] for seed in range(200)]
    error = np.mean(draws, axis=0) - exact
    assert (np.abs(error) <= 4.5 * np.std(draws, axis=0) / 200**0.5).all()


@pytest.mark.parametrize("scorer_class", SCORERS)
@pytest.mark.parametrize("n_units", [5, 99])
def test_as_many_units_as_there_are_is_exact(scorer_class, n_units):
    net, X = make_net("conv2d"), make_X("conv2d")
    exact = scorer_class(net, random_state=0).fit(X)
    sampled = scorer_class(net, n_units=n_units, random_state=0).fit(X)
    np.testing.assert_array_equal(sampled.transform(X), exact.transform(X))
    assert sampled.standard_error_ == exact.standard_error_ == 0
    interval = exact.confidence_interval(X)
    assert interval.low == interval.high == interval.score == exact.score(X)


@pytest.mark.parametrize("scorer_class", SCORERS)
def test_standard_error_is_that_of_the_fitted_data(scorer_class, digits):
    net, X = digits
    sampled = scorer_class(net, layers=["0"], n_units=16, random_state=0).fit(X)
    interval = sampled.confidence_interval(X, level=0.9)
    assert sampled.standard_error_ == interval.standard_error > 0
    assert interval.score == pytest.approx(sampled.score(X))
    assert interval.low == pytest.approx(interval.score - 1.753 * interval.standard_error, rel=1e-3)
    assert interval.layer_standard_errors.shape == (1,)
    with pytest.raises(ValueError, match=r"0\.95"):
        sampled.confidence_interval(X, level=95)


@pytest.mark.parametrize("scorer_class", SCORERS)
def test_error_of_very_few_units_is_not_known(scorer_class, digits):
    net, X = digits
    sampled = scorer_class(net, layers=["0"], n_units=3, random_state=0).fit(X)
    assert np.isfinite(sampled.score(X))
    assert np.isnan(sampled.standard_error_)


def test_only_the_units_drawn_are_differentiated(digits, monkeypatch):
    net, X = digits
    seen = []
    blocks = LayerScorer._unit_blocks

    def count(self, x):
        for maps in blocks(self, x):
            seen.append(len(maps[0][0]))
            yield maps

    monkeypatch.setattr(LayerScorer, "_unit_blocks", count)
    VarianceScorer(net, n_units=8, random_state=0).fit(X).transform(X)
    assert sum(seen) == 8


@pytest.mark.parametrize("saliency", ["activation_x_gradient", "gradient"])
@pytest.mark.parametrize(
    ("channel_agg", "unit_agg"),
    [("abs", "abs"), ("mean", "mean"), ("abs", "var"), ("mean", "skew"), ("var", "abs")],
)
def test_map_of_the_output_itself_is_that_of_all_units(channel_agg, unit_agg, saliency):
    # Double precision, where the maps of the gradient are constant exactly in both.
    net, X = make_net("conv2d", torch.float64), make_X("conv2d", dtype=np.float64)
    params = {"channel_agg": channel_agg, "unit_agg": unit_agg, "saliency": saliency}
    params |= {"layers": ["6"], "random_state": 0}
    exact = NoiseScorer(net, **params).fit(X)
    sampled = NoiseScorer(net, n_units=4, **params).fit(X)
    np.testing.assert_allclose(sampled.transform(X), exact.transform(X), atol=1e-12)
    np.testing.assert_allclose(sampled.benchmark_, exact.benchmark_, atol=1e-12)


def test_units_that_leave_positions_empty_are_warned_about():
    net = nn.Sequential(nn.Linear(5, 64), nn.Sigmoid())
    with pytest.warns(UserWarning, match=r"0\.062 of the n_units=4 .* layer '0'"):
        NoiseScorer(net, n_units=4, random_state=0).fit(make_X("mlp"))
