"""Channels of very different scales: drawn one above the other, each on its own."""

import numpy as np

from ._samples import channel_colors, draw_series, shortened
from ._style import named_legend

_MOST_NAMED = 12  # in a legend
_MANY_TIMES = 10  # from this ratio of ranges on, the smaller one looks like a straight line


class ChannelScales:
    """Where channels are drawn: on one scale, or in bands if they would hide each other's shape.

    They would if all together range over more than ten times what one of them ranges over: because
    their spreads differ, or because they are far from each other.

    Parameters
    ----------
    samples : ndarray of shape (n, channels, time)
        All that is to be compared.

    Attributes
    ----------
    apart_ : bool
        Whether channels have bands of their own, the first one on top.
    range_ : ndarray of shape (channels,)
        What each channel ranges over; 1 for a constant one.

    Examples
    --------
    >>> import numpy as np
    >>> from sklexplain.plotting._channels import ChannelScales
    >>> pulse, volume = [60.0, 80.0, 70.0], [0.2, 0.3, 0.1]
    >>> scales = ChannelScales(np.array([[pulse, volume]]))
    >>> scales.apart_, scales.range_.round(1).tolist()
    (True, [20.0, 0.2])
    """

    def __init__(self, samples):
        samples = np.asarray(samples, dtype=np.float64)
        flat = samples.swapaxes(0, 1).reshape(samples.shape[1], -1)
        # Unlike min and max, these pass over missing values.
        self._low = np.fmin.reduce(flat, axis=1)
        spread = np.fmax.reduce(flat, axis=1) - self._low
        moving = spread[spread > 0]
        together = np.fmax.reduce(self._low + spread) - np.fmin.reduce(self._low)
        self.apart_ = bool(
            len(spread) > 1 and len(moving) and together > _MANY_TIMES * moving.min()
        )
        self.range_ = np.where(spread > 0, spread, 1.0)

    def placed(self, sample):
        """Return a series of shape (channels, time) as it is to be drawn."""
        if not self.apart_:
            return sample
        scaled = (sample - self._low[:, None]) / self.range_[:, None]
        return scaled * 0.8 + np.arange(len(sample))[::-1, None]

    def draw(self, ax, sample, **kwargs):
        """Draw a series, each channel in its colour if there are several.

        Parameters
        ----------
        ax : matplotlib.axes.Axes
            Where to draw.
        sample : ndarray of shape (channels, time)
            The series.
        **kwargs : object
            For `matplotlib.axes.Axes.plot`.
        """
        if len(sample) > 1:
            kwargs.pop("color", None)
        draw_series(ax, self.placed(sample), **kwargs)
        if self.apart_:
            ax.set_ylim(*self.limits)

    @property
    def limits(self):
        """The lower and the upper end of an axis with bands."""
        return -0.1, len(self._low) - 0.1

    def name(self, ax, names, *, colored=True):
        """Write the channels' names beside their bands.

        Parameters
        ----------
        ax : matplotlib.axes.Axes
            Where they were drawn.
        names : sequence of str
            One each.
        colored : bool, default=True
            In the channels' colours.
        """
        n = len(names)
        ax.set_yticks(
            np.arange(n)[::-1] + 0.4,
            [shortened(name, 12) for name in names],
            fontsize=7,
            parse_math=False,
        )
        ax.tick_params(axis="y", length=0)
        for text, color in zip(ax.get_yticklabels(), channel_colors(n) * colored, strict=False):
            text.set_color(color)


def name_channels(ax, lines, names):
    """Name channels that share their axes, below these.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        The frame around the axes.
    lines : sequence of matplotlib.artist.Artist
        One of each channel.
    names : sequence of str
        One each. More than can be told apart are not named.
    """
    if 1 < len(names) <= _MOST_NAMED:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.04)}
        names = [shortened(name, 20) for name in names]
        named_legend(ax, lines, names, ncols=min(4, len(names)), fontsize=8, **place)
