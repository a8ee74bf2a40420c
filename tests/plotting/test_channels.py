import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest

from sklexplain.plotting import (
    ChannelScales,
    ConceptDisplay,
    ExampleDisplay,
    ImportanceDisplay,
    ReconstructionDisplay,
)

RNG = np.random.RandomState(0)
TIMES = np.linspace(0, 6, 30)
PULSE, VOLUME, SHARE = np.sin(TIMES), 200 + 40 * np.cos(TIMES), 0.97 + 0.01 * np.sin(TIMES)


@pytest.mark.parametrize(
    ("channels", "apart"),
    [
        ([PULSE, 2 * PULSE], False),
        ([PULSE, 9 * PULSE], False),
        ([PULSE, 11 * PULSE], True),
        ([PULSE, PULSE + 50], True),  # far from each other is as bad
        ([PULSE, np.full(30, 100.0)], True),
        ([PULSE, np.zeros(30)], False),
        ([PULSE], False),
        ([np.ones(30), np.ones(30)], False),
        ([np.where(TIMES > 5, np.nan, PULSE), 11 * PULSE], True),
    ],
)
def test_channels_that_would_hide_each_other(channels, apart):
    assert ChannelScales(np.array([channels])).apart_ == apart


def test_bands_have_the_shape_of_their_channels_and_do_not_touch():
    sample = np.array([PULSE, VOLUME, SHARE])
    placed = ChannelScales(sample[None]).placed(sample)
    for line, channel in zip(placed, sample, strict=True):
        scaled = (channel - channel.min()) / (channel.max() - channel.min())
        np.testing.assert_allclose((line - line.min()) / 0.8, scaled, atol=1e-9)
    assert placed[0].min() > placed[1].max() > placed[1].min() > placed[2].max()


def samples(n=6):
    wave = np.array([PULSE, VOLUME, SHARE])
    return wave + wave.std(axis=1, keepdims=True) * RNG.randn(n, 3, 30) / 5


NAMES = ["_ECG", "air $x^{", "SpO2"]


def test_examples_in_bands_with_names():
    X = samples()
    display = ExampleDisplay(X[0], X[1:3], channel_axis=0, channel_names=NAMES).plot()
    first = display.axes_[0]
    assert [text.get_text() for text in first.get_yticklabels()] == NAMES
    lines = [line.get_ydata() for line in display.axes_[1].get_lines()]
    assert len({line.get_color() for line in first.get_lines()}) == 3
    # One scale for all panels: what is larger in an example is drawn larger there.
    low, high = X[:3].min(axis=(0, 2)), X[:3].max(axis=(0, 2))
    expected = (X[1] - low[:, None]) / (high - low)[:, None] * 0.8 + np.array([[2], [1], [0]])
    np.testing.assert_allclose(lines, expected)


def test_channels_of_one_scale_share_axes_and_are_named():
    X = samples()
    X = (X - X.mean(axis=(0, 2), keepdims=True)) / X.std(axis=(0, 2), keepdims=True)
    display = ExampleDisplay(X[0], X[1:3], channel_axis=0, channel_names=NAMES).plot()
    np.testing.assert_allclose(display.axes_[0].get_lines()[1].get_ydata(), X[0, 1])
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == NAMES


def test_differences_are_shares_of_the_range():
    X = samples()
    rebuilt = X + np.array([0.1, 5.0, 0.001])[:, None]
    display = ReconstructionDisplay(X[:2], rebuilt[:2], channel_axis=0, channel_names=NAMES).plot()
    drawn = [line.get_ydata()[0] for line in display.axes_[-1, 0].get_lines()[:3]]
    both = np.concatenate([X[:2], rebuilt[:2]])
    ranges = both.max(axis=(0, 2)) - both.min(axis=(0, 2))
    np.testing.assert_allclose(drawn, np.array([0.1, 5.0, 0.001]) / ranges)
    assert "share of range" in display.axes_[-1, 0].get_ylabel()


def test_concepts_and_importance_name_channels():
    X = samples()
    display = ConceptDisplay(
        X[0], X[1:3] / 100, np.array([1.0, -2.0]), channel_axis=0, channel_names=NAMES
    ).plot()
    assert [text.get_text() for text in display.axes_[0].get_yticklabels()] == NAMES
    display = ImportanceDisplay(X, kind="series", channel_axis=0, channel_names=NAMES).plot()
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == NAMES
