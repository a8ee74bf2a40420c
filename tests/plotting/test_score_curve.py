import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from matplotlib import pyplot

from sklexplain import NoiseScorer, VarianceScorer
from sklexplain.plotting import ScoreCurveDisplay
from tests.cases import make_net, make_X


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


def test_noise_curve_has_the_means_and_the_benchmark():
    X = make_X("conv1d")
    scorer = NoiseScorer(make_net("conv1d"), random_state=0).fit(X)
    display = ScoreCurveDisplay.from_estimator(scorer, X)
    np.testing.assert_allclose(
        display.line_.get_ydata(), scorer.transform(X).mean(axis=0), rtol=1e-6
    )
    np.testing.assert_array_equal(display.benchmark_line_.get_ydata(), scorer.benchmark_)
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["0", "5"]
    assert display.ax_.get_ylabel() == "noise score"
    assert display.bound_line_ is None
    display.figure_.draw_without_rendering()


def test_variance_curve_has_the_bound_and_error_bars_of_drawn_units():
    X = make_X("conv2d")
    exact = VarianceScorer(make_net("conv2d")).fit(X).set_output(transform="pandas")
    display = ScoreCurveDisplay.from_estimator(exact, X)
    assert set(display.bound_line_.get_ydata()) == {0.25}
    assert display.benchmark_line_ is None and not display.ax_.containers
    sampled = VarianceScorer(make_net("conv2d"), n_units=4, random_state=0).fit(X)
    display = ScoreCurveDisplay.from_estimator(sampled, X)
    errors = sampled.confidence_interval(X).layer_standard_errors
    (bars,) = display.ax_.containers[0].lines[2]
    lengths = [segment[1, 1] - segment[0, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(lengths, 4 * errors, rtol=1e-6)


def test_several_networks_share_axes():
    first = ScoreCurveDisplay(["a", "b"], np.full((3, 2), 0.1), benchmark=[0.2, 0.3])
    first.plot(label="trained")
    second = ScoreCurveDisplay(["a", "b"], np.full((3, 2), 0.2))
    assert second.plot(first.ax_, label="untrained", color="red") is second
    assert second.ax_ is first.ax_ and second.line_.get_color() == "red"
    legend = [text.get_text() for text in first.ax_.get_legend().get_texts()]
    assert legend == ["trained", "noise, trained", "untrained"]


def test_many_layers_have_slanted_names():
    names = [f"encoder.conv{i}" for i in range(6)]
    display = ScoreCurveDisplay(names, np.random.default_rng(0).uniform(size=(4, 6))).plot()
    assert {label.get_rotation() for label in display.ax_.get_xticklabels()} == {30.0}


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 3\) do not fit to 2 layers"):
        ScoreCurveDisplay(["a", "b"], np.zeros((4, 3))).plot()
