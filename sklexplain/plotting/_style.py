"""Colours and axes that the displays share; matplotlib is imported only when something is drawn."""

import numpy as np

from ..utils import missing_extra

# Distinguishable with every common colour blindness (Okabe and Ito's palette), and in grey. All but
# the ink are seen on dark paper, too: displays draw in what `ink` says.
INK = "#222222"
MUTED = "#767676"
BLUE = "#0072B2"
ORANGE = "#D55E00"
# Of channels that are drawn together.
_CHANNELS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00")

# Blue to red with a grey middle: white would vanish on white paper.
_DIVERGING = ("#2166ac", "#74add1", "#d5d5d5", "#f4976c", "#b2182b")


def import_pyplot():
    """Import matplotlib.pyplot, or say how to get it.

    Returns
    -------
    pyplot : module

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(missing_extra("matplotlib", "Drawing")) from error
    return pyplot


def ink():
    """Return the colour of lines that have no meaning of their own, which follows the style.

    Returns
    -------
    color : object
        Nearly black; where the style of matplotlib that is in use writes in a light colour, as on a
        dark figure, that one.
    """
    from matplotlib import rcParams
    from matplotlib.colors import to_rgb

    text = rcParams["text.color"]
    red, green, blue = to_rgb(text)
    return text if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.5 else INK


def channel_palette():
    """Return the colours of channels that are drawn together."""
    return (ink(), *_CHANNELS)


def diverging_colormap():
    """Return the colour map of attributions: blue below 0, grey at 0, red above."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("attribution", _DIVERGING)


def centred_norm(values, limit=None):
    """Return a norm with 0 in the middle.

    Parameters
    ----------
    values : ndarray
        What is coloured.
    limit : float or None, default=None
        The value of the strongest colour; None for the largest absolute value.

    Returns
    -------
    norm : matplotlib.colors.Normalize
    """
    from matplotlib.colors import Normalize

    largest = np.abs(values).max(initial=0.0) if limit is None else limit
    # Zero everywhere must be drawn in the colour of 0.
    largest = float(largest) or 1.0
    return Normalize(-largest, largest)


def bar_ticks():
    """Return what finds the ticks of a colour bar, whatever its length.

    By default their number follows the length, and the length their labels' width: the layout may
    go to and fro between two of them, and leave a label half outside.

    Returns
    -------
    locator : matplotlib.ticker.Locator
    """
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(6)


def get_axes(ax, figsize):
    """Return (figure, ax), made if ``ax`` is None.

    Parameters
    ----------
    ax : matplotlib.axes.Axes or None
        Where to draw.
    figsize : tuple of float
        Width and height of a new figure, in inches.

    Returns
    -------
    figure : matplotlib.figure.Figure
    ax : matplotlib.axes.Axes
    """
    if ax is None:
        pyplot = import_pyplot()
        _, ax = pyplot.subplots(figsize=figsize, layout="constrained")
    return ax.figure, ax


def split_axes(ax, n_rows, n_columns, **kwargs):
    """Turn one axes into a grid; the axes itself stays as an empty frame around it.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Whose place is used.
    n_rows, n_columns : int
        Size of the grid.
    **kwargs : object
        For `matplotlib.gridspec.SubplotSpec.subgridspec` and, with ``sharex`` and ``sharey``, the
        axes.

    Returns
    -------
    axes : ndarray of matplotlib.axes.Axes of shape (n_rows, n_columns)
    """
    share = {name: kwargs.pop(name) for name in ("sharex", "sharey") if name in kwargs}
    ax.set_axis_off()
    grid = ax.get_subplotspec().subgridspec(n_rows, n_columns, **kwargs)
    return grid.subplots(squeeze=False, **share)


def plain_axes(ax):
    """Remove the frame's upper and right line."""
    ax.spines[["top", "right"]].set_visible(False)


def named_legend(owner, handles, names, **kwargs):
    """Add a legend whose names are texts, whatever signs they have.

    matplotlib leaves out names that begin with an underscore, and reads dollar signs as formulas.

    Parameters
    ----------
    owner : matplotlib.axes.Axes or matplotlib.figure.Figure
        What it is of.
    handles : sequence of matplotlib.artist.Artist
        What is named.
    names : sequence of str
        Their names.
    **kwargs : object
        For ``owner.legend``.
    """
    legend = owner.legend(handles, [str(i) for i in range(len(names))], frameon=False, **kwargs)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)
        text.set_parse_math(False)


def draw_whiskers(ax, values, places, widths, *, upright=False):
    """Draw how far values may be from what they estimate.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    values, places : array-like of float
        Ends of bars, or means, along the axis of values and the other one.
    widths : ndarray of float
        Lengths to each side; NaN and 0 are not drawn.
    upright : bool, default=False
        Whether values go up, not to the right.
    """
    known = np.asarray(widths) > 0
    if not known.any():
        return
    x, y = np.asarray(values)[known], np.asarray(places)[known]
    style = {"fmt": "none", "ecolor": ink(), "elinewidth": 1, "capsize": 2, "zorder": 3}
    if upright:
        ax.errorbar(y, x, yerr=widths[known], **style)
    else:
        ax.errorbar(x, y, xerr=widths[known], **style)
