import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
import torch

from sklexplain.report import RepresentationReport
from sklexplain.report._overall import overall_figure

NAMES = ["_ECG", "air $x^{", "SpO2"]


def samples(n):
    times = np.linspace(0, 6, 30)
    wave = np.array([np.sin(times), 200 + 40 * np.cos(times), 0.97 + 0.01 * np.sin(times)])
    noise = np.random.RandomState(0).randn(n, 3, 30) / 5
    return wave + wave.std(axis=1, keepdims=True) * noise


@pytest.mark.parametrize("n_channels", [3, 9])
def test_means_of_channels_have_their_own_scale(n_channels, monkeypatch, undrawn):
    """Each in a panel if there are few; else in bands; their means are what is drawn."""
    X = np.tile(samples(40), (1, n_channels // 3, 1)).astype(np.float32)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(n_channels * 30, 2))
    names = [f"{name} {i}" for i in range(n_channels // 3) for name in NAMES]
    report = RepresentationReport(
        network, kind="series", channel_axis=0, channel_names=names, random_state=0
    )
    report.set_params(n_examples=1, n_neighbors=2, n_explained=8).fit(X)
    figures = []
    monkeypatch.setattr("sklexplain.report._overall.data_uri", figures.append)
    overall_figure(report)
    axes = figures[0].axes[1:]
    if n_channels == 9:
        assert len(axes) == 2
        labels = [text.get_text() for text in axes[0].get_yticklabels()]
        assert labels == [name[:11] + "…" if len(name) > 12 else name for name in names]
        return
    assert len(axes) == 4
    for ax, name, mean in zip(axes, names, X[report.explained_].mean(axis=0), strict=False):
        assert ax.get_ylabel() == name
        np.testing.assert_allclose(ax.get_lines()[1].get_ydata(), mean, rtol=1e-6)
