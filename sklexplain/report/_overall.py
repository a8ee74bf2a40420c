"""The report's figure of which features matter overall."""

import numpy as np

from ..plotting import (
    INK,
    MUTED,
    ORANGE,
    ChannelScales,
    as_channels,
    channel_colors,
    channel_labels,
    draw_image,
    label_time,
    named_legend,
    plain_axes,
    shortened,
    split_axes,
)
from ._figures import N_BARS, data_uri, feature_names, new_axes
from ._words import half_window, over_time

_MOST_CHANNELS = 12  # in a legend
_MOST_PANELS = 6  # above each other
_TRAINED = {"color": MUTED, "linestyle": ":", "linewidth": 1.2}


def overall_figure(report):
    """Draw which features matter over all explained samples.

    Parameters
    ----------
    report : RepresentationReport
        Fitted.

    Returns
    -------
    uri : str
    """
    importance = report.feature_importances_
    if report._sample.kind == "table":
        names = feature_names(report)
        order = np.argsort(-importance, kind="stable")[:N_BARS]
        ax = new_axes(0.8 + 0.28 * len(order))
        place = np.arange(len(order))
        ax.barh(place, importance[order], color=ORANGE)
        labels = [shortened(names[i], 30) for i in order]
        ax.set_yticks(place, labels, fontsize=9, parse_math=False)
        ax.invert_yaxis()
        ax.set_xlabel("mean |attribution|")
        plain_axes(ax)
    elif report._sample.kind == "series":
        ax = _overall_series(report, over_time(importance, report._sample.channel_axis))
    else:
        ax = _overall_image(report, importance)
    return data_uri(ax.figure)


def _overall_series(report, importance):
    axis, n_times = report._sample.channel_axis, len(importance)
    maps, trained, explained = (
        as_channels(values, "series", axis)
        for values in (report.feature_importances_, report._means.train, report._means.explained)
    )
    n = len(maps)
    names, scales = channel_labels(report.channel_names, n), channel_scales(report)
    single = n == 1
    n_panels = n if scales.apart_ and n <= _MOST_PANELS else 1
    ax = new_axes(2.6 + 1.2 * n_panels if n_panels > 1 else (3.8 if single else 4.4))
    ratios = [4 / n_panels if n_panels > 1 else 3] * n_panels + [2]
    *upper, lower = split_axes(ax, n_panels + 1, 1, sharex=True, height_ratios=ratios)[:, 0]
    first, last = half_window(importance)
    for panel in (*upper, lower):
        panel.axvspan(first - 0.5, last + 0.5, color=ORANGE, alpha=0.13, linewidth=0)
        plain_axes(panel)
    colors = channel_colors(n)
    if n_panels == 1:
        trained, explained = scales.placed(trained), scales.placed(explained)
    for i, color in enumerate(colors):
        panel = upper[i % n_panels]
        panel.plot(trained[i], **_TRAINED | ({} if single else {"color": color}))
        panel.plot(explained[i], color=color, linewidth=1.6)
    if n_panels > 1:
        for panel, name in zip(upper, names, strict=True):
            panel.set_ylabel(shortened(name, 18), fontsize=9, parse_math=False)
    elif scales.apart_:
        upper[0].set_ylim(*scales.limits)
        scales.name(upper[0], names)
    else:
        upper[0].set_ylabel(shortened(report.value_name or "value", 24), parse_math=False)
    (of_explained,) = upper[0].plot([], [], color=INK, linewidth=1.6)
    (of_trained,) = upper[0].plot([], [], **_TRAINED)
    what = ["mean of explained samples", "mean of training samples"]
    named_legend(upper[0], [of_explained, of_trained], what, fontsize=8)
    places, below, bars = np.arange(n_times), np.zeros(n_times), []
    for values, color in zip(maps, [ORANGE] if single else colors, strict=True):
        bars.append(lower.bar(places, values, width=1.0, bottom=below, color=color))
        below = below + values
    if 1 < n <= _MOST_CHANNELS:
        shown = [shortened(name, 20) for name in names]
        place = {"loc": "outside lower center", "ncols": min(4, n), "fontsize": 8}
        named_legend(ax.figure, bars, shown, **place)
    lower.set_ylabel("mean\n|attribution|")
    label_time(lower, report.time_names, n_times)
    lower.margins(x=0.01)
    return ax


def channel_scales(report):
    """Say whether the channels of a report's mean samples fit on one axis.

    Parameters
    ----------
    report : RepresentationReport
        Fitted, on series.

    Returns
    -------
    scales : ChannelScales
    """
    means, axis = report._means, report._sample.channel_axis
    both = (means.train, means.explained)
    return ChannelScales(np.stack([as_channels(mean, "series", axis) for mean in both]))


def _overall_image(report, importance):
    ax = new_axes(2.5)
    left, right = split_axes(ax, 1, 2)[0]
    draw_image(left, as_channels(report._means.explained, "image", report._sample.channel_axis))
    left.set_title("mean of explained samples", fontsize=9)
    heat = importance
    if heat.ndim == 3:
        heat = heat.sum(axis=report._sample.channel_axis or 0)
    image = right.imshow(heat, cmap="cividis", interpolation="nearest")
    right.set(xticks=[], yticks=[])
    right.set_title("mean |attribution|", fontsize=9)
    ax.figure.colorbar(image, ax=[left, right], pad=0.02)
    return ax
