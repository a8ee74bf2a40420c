"""SpectrumDisplay: bars are attributions, at their frequencies."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
import torch
from torch import nn

from sklexplain import LabelFreeAttributor
from sklexplain.plotting import AttributionDisplay, ImportanceDisplay, SpectrumDisplay

X = np.random.default_rng(0).normal(size=(6, 2, 10)).astype(np.float32)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(24, 2))


def heights(ax):
    """Of the bars above 0 plus those below."""
    return sum(np.asarray(patch.get_data().values) for patch in ax.patches)


def test_bars_of_all_series_and_of_one(net):
    explainer = LabelFreeAttributor(net, basis="dct").fit(X)
    maps = explainer.transform(X)
    display = SpectrumDisplay.from_estimator(explainer, X, channel_names=["I", "II"])
    for ax, expected in zip(display.axes_, np.abs(maps).mean(axis=0), strict=True):
        np.testing.assert_allclose(heights(ax), expected)
        assert len(ax.patches) == 1
    assert [ax.get_ylabel() for ax in display.axes_] == ["I", "II"]
    np.testing.assert_array_equal(display.frequencies_, np.arange(10) / 2)
    one = SpectrumDisplay.from_estimator(explainer, X, index=-1, sampling_rate=50.0)
    np.testing.assert_allclose([heights(ax) for ax in one.axes_], maps[-1], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(one.frequencies_, np.arange(10) * 50 / 20)  # k/2 in 10/50 seconds
    assert one.axes_[-1].get_xlabel() == "frequency (Hz)"
    unit = SpectrumDisplay.from_estimator(explainer, X, index=2, unit=1)
    expected = explainer.unit_attributions(X[2:3], [1])[0, 0]
    np.testing.assert_allclose([heights(ax) for ax in unit.axes_], expected)


def test_one_channel_without_a_word():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(10, 2))
    explainer = LabelFreeAttributor(linear, basis="dct").fit(X[:, :1])
    display = SpectrumDisplay.from_estimator(explainer, X[:, :1])
    np.testing.assert_allclose(
        heights(display.ax_), np.abs(explainer.transform(X[:, :1])).mean(axis=(0, 1)), rtol=1e-4
    )


def test_coefficients_without_a_frequency_and_a_single_one():
    display = SpectrumDisplay([1.0, -2.0, 0.5], title="$a$").plot()
    assert display.ax_.get_xlabel() == "coefficient"
    np.testing.assert_array_equal(heights(display.ax_), [1.0, -2.0, 0.5])
    np.testing.assert_array_equal(heights(SpectrumDisplay([3.0], [0.0]).plot().ax_), [3.0])


def test_refused(net):
    plain, basis = LabelFreeAttributor(net).fit(X), LabelFreeAttributor(net, basis="dct").fit(X)
    with pytest.raises(ValueError, match="basis='dct'"):
        SpectrumDisplay.from_estimator(plain, X)
    for cls in (AttributionDisplay, ImportanceDisplay):
        with pytest.raises(ValueError, match="use SpectrumDisplay"):
            cls.from_estimator(basis, X)
    with pytest.raises(ValueError, match="no frequency"):
        SpectrumDisplay([1.0, 2.0], sampling_rate=2.0).plot()
    with pytest.raises(ValueError, match="ascending"):
        SpectrumDisplay([1.0, 2.0], [1.0, 0.0]).plot()
    with pytest.raises(ValueError, match="sampling_rate"):
        SpectrumDisplay([1.0, 2.0], [0.0, 0.5], sampling_rate=0.0).plot()
    with pytest.raises(ValueError, match="channel_axis"):
        SpectrumDisplay(X[0]).plot()
