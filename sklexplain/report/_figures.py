"""The report's figures, each as a data URI."""

import base64
import io
import warnings

import numpy as np

from ..plotting import (
    BLUE,
    AttributionDisplay,
    ExampleDisplay,
    ImportanceDisplay,
    LatentShiftDisplay,
    as_channels,
    as_drawn,
    column_names,
    draw_series,
    import_pyplot,
    label_time,
    rows_of,
    shortened,
    split_axes,
)
from ._compute import without_rounding
from ._words import label_name, over_time

# Narrow enough that letters stay readable on a telephone.
_WIDTH = 5.0
N_BARS = 15
_NO_GLYPH = "Glyph .* missing from"


def default_style():
    """Return a context in which figures are drawn in the style that matplotlib comes with.

    A report looks the same whatever the user's own style is: the page around its figures is light.
    The backend and other settings that are no style stay as they are.

    Returns
    -------
    context : context manager
    """
    import_pyplot()
    from matplotlib import style

    return style.context("default")


def new_axes(height, width=_WIDTH):
    """Return the axes of a new figure, of a size in inches, that pyplot does not know of."""
    import_pyplot()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure.subplots()


def data_uri(figure):
    """Return a figure as a data URI.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        What was drawn.

    Returns
    -------
    uri : str
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", _NO_GLYPH)
        try:
            svg = _svg(figure, "path")
        except UserWarning:
            # Browsers have letters that the font of figures does not have.
            warnings.filterwarnings("ignore", _NO_GLYPH)
            svg = _svg(figure, "none")
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")


def _svg(figure, letters):
    from matplotlib import rc_context

    buffer = io.BytesIO()
    # A fixed salt and no date: the same report gives the same bytes.
    with rc_context({"svg.hashsalt": "sklexplain", "svg.fonttype": letters}):
        # The layout depends on ticks that depend on the layout: once more settles it.
        figure.get_layout_engine().execute(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def latent_shift_figure(report):
    """Draw how far masking moves the representation.

    Parameters
    ----------
    report : RepresentationReport
        Fitted.

    Returns
    -------
    uri : str
    """
    display = LatentShiftDisplay.from_curve(report.latent_shift_, ax=new_axes(3.4))
    return data_uri(display.figure_)


def sample_figure(report, i):
    """Draw one shown sample with its attributions.

    Parameters
    ----------
    report : RepresentationReport
        Fitted.
    i : int
        Which of the shown samples.

    Returns
    -------
    uri : str
    """
    shown, kind = report._shown, report._sample.kind
    sample = rows(report, shown.samples)[i]
    heights = {"table": 0.8 + 0.28 * min(10, sample.size), "image": 2.4}
    n_channels = 1 if sample.ndim == 1 else sample.shape[report._sample.channel_axis or 0]
    height = heights.get(kind, 1.1 + 1.4 * n_channels)
    display = AttributionDisplay(
        sample,
        shown.attributions[i],
        kind=kind,
        channel_axis=report._sample.channel_axis,
        errors=None if shown.errors is None else shown.errors[i],
        baseline=baseline_series(report),
        feature_names=getattr(report.attributor_, "feature_names_in_", None),
        **series_names(report),
    ).plot(ax=new_axes(height))
    reconstructions = shown.get("reconstructions")
    if kind == "series" and reconstructions is not None:
        rebuilt = as_channels(reconstructions[i], "series", report._sample.channel_axis)
        for ax, channel in zip(display.axes_, rebuilt, strict=True):
            draw_series(ax, channel[None], color=BLUE, linestyle="--", linewidth=1)
    return data_uri(display.figure_)


def neighbours_figure(report, i):
    """Draw one shown series or image with the known samples most similar to it.

    Parameters
    ----------
    report : RepresentationReport
        Fitted.
    i : int
        Which of the shown samples.

    Returns
    -------
    uri : str
    """
    shown, names = report._shown, report.target_names
    k = shown.importance.shape[1]
    n_rows = -(-(k + 1) // 3)
    titles = [f"{j + 1}. {shortened(name, 12)}" for j, name in enumerate(shown.neighbour_ids[i])]
    if shown.neighbour_labels is not None:
        labels = [shortened(label_name(label, names), 20) for label in shown.neighbour_labels[i]]
        titles = [f"{title}\n{label}" for title, label in zip(titles, labels, strict=True)]
    own = "this sample" if shown.labels is None else f"this: {label_name(shown.labels[i], names)}"
    display = ExampleDisplay(
        rows(report, shown.samples)[i],
        rows(report, shown.neighbours)[i * k : (i + 1) * k],
        titles=titles,
        sample_title=shortened(own, 22),
        kind=report._sample.kind,
        channel_axis=report._sample.channel_axis,
        channel_names=report.channel_names,
    ).plot(ax=new_axes(0.4 + 1.35 * n_rows))
    return data_uri(display.figure_)


def swarm_of(report):
    """Say which output a swarm of points is of.

    Parameters
    ----------
    report : RepresentationReport
        Fitted.

    Returns
    -------
    words : (str, str)
        What being to the right and to the left means.
    unit : int or None
        The output; None: the whole representation.
    """
    found = report.predictions_
    if found is None:
        return ("adds to its representation", "works against it"), None
    if found.task == "regressor":
        return ("raises the prediction", "lowers it"), 0
    unit = len(found.outputs) - 1
    if len(found.outputs) > 2:
        unit = int(np.bincount(found.own).argmax())
    name = label_name(found.outputs[unit], report.target_names)
    what = "probability" if found.method == "predict_proba" else "score"
    return (f"raises the {what} of “{name}”", "lowers it"), unit


def swarm_figure(report, unit):
    """Draw value against attribution of the most important columns, a point a sample.

    Parameters
    ----------
    report : RepresentationReport
        Fitted, on a table.
    unit : int or None
        Which output; None: the whole representation.

    Returns
    -------
    uri : str
    """
    maps, errors = report.attributions_, report.standard_errors_
    if unit is not None:
        maps, errors = report._unit_maps[unit], None
        if report._unit_errors is not None:
            errors = report._unit_errors[unit]
    display = ImportanceDisplay(
        maps,
        as_drawn(report.attributor_, report._explained_rows),
        errors=errors,
        kind="table",
        feature_names=getattr(report.attributor_, "feature_names_in_", None),
        n_top=N_BARS,
    ).plot(ax=new_axes(0.9 + 0.34 * min(N_BARS, maps.shape[1])))
    return data_uri(display.figure_)


def outputs_figure(report):
    """Draw which features matter for each output of a predictor, a row each.

    Parameters
    ----------
    report : RepresentationReport
        Fitted.

    Returns
    -------
    uri : str
    """
    outputs = report.predictions_.outputs
    entries = [
        (shortened(label_name(outputs[unit], report.target_names), 22), np.abs(maps).mean(axis=0))
        for unit, maps in report._unit_maps.items()
    ]
    return heat_rows(report, entries)


def series_names(report):
    """Return names of steps, channels and values, for displays of series.

    Parameters
    ----------
    report : RepresentationReport
        Fitted.

    Returns
    -------
    names : dict
    """
    return {
        "time_names": report.time_names,
        "channel_names": report.channel_names,
        "value_name": report.value_name,
    }


def class_figure(report):
    """Draw which features matter for each label, a row each, scaled to its largest.

    Parameters
    ----------
    report : RepresentationReport
        Fitted, with labels, on series or tables.

    Returns
    -------
    uri : str
    """
    entries = [
        (f"{shortened(label_name(label, report.target_names), 22)} ({n})", importance)
        for label, n, importance in report._class_importances
    ]
    return heat_rows(report, entries)


def heat_rows(report, entries):
    """Draw importances of time steps or columns as rows of a heat map, each scaled to its largest.

    Of many columns those are drawn that matter most to any row, so that each has its largest.

    Parameters
    ----------
    report : RepresentationReport
        Fitted, on series or tables.
    entries : list of (str, ndarray)
        Label and importance of each row.

    Returns
    -------
    uri : str
    """
    labels = [label for label, _ in entries]
    heat = [over_time(importance, report._sample.channel_axis) for _, importance in entries]
    # A row of nothing but rounding is empty, and not scaled to look like the others.
    heat = without_rounding(np.array(heat), np.array(heat))
    heat = np.array([values / (values.max() or 1) for values in heat])
    is_table = report._sample.kind == "table"
    if is_table:
        names = feature_names(report)
        order = np.argsort(-heat.max(axis=0), kind="stable")[:N_BARS]
        heat, ticks = heat[:, order], [shortened(names[i], 18) for i in order]
    ax = new_axes((2.2 if is_table else 1.2) + 0.3 * len(labels))
    image = ax.imshow(heat, aspect="auto", cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    ax.set_yticks(np.arange(len(labels)), labels, fontsize=8, parse_math=False)
    if is_table:
        ax.set_xticks(
            np.arange(len(ticks)), ticks, fontsize=8, rotation=60, ha="right", parse_math=False
        )
    else:
        label_time(ax, report.time_names, heat.shape[1], most=4)  # beside labels there is less room
    ax.figure.colorbar(image, ax=ax, label="share of the\nlargest", pad=0.02)
    return data_uri(ax.figure)


def heat_images(maps, titles, channel_axis):
    """Draw importances of pixels side by side, each scaled to its largest.

    Parameters
    ----------
    maps : ndarray of shape (n, height, width) or (n, channels, height, width)
        Importances, not negative.
    titles : list of str
        One each.
    channel_axis : int or None
        A sample's axis that holds channels.

    Returns
    -------
    uri : str
    """
    if maps.ndim == 4:
        maps = maps.sum(axis=1 + (channel_axis or 0))
    n_rows = -(-len(maps) // 5)
    ax = new_axes(0.2 + 1.3 * n_rows, width=6.5)
    grid = split_axes(ax, n_rows, 5).ravel()
    for panel in grid:
        panel.set_axis_off()
    for panel, heat, title in zip(grid, maps, titles, strict=False):
        panel.imshow(heat, cmap="cividis", vmin=0, interpolation="nearest")
        panel.set_title(title, fontsize=9)
    return data_uri(ax.figure)


def sample_title(report, place, line=None):
    """Return what a shown sample is called.

    Parameters
    ----------
    report : RepresentationReport
        Fitted.
    place : int
        Which of the shown samples.
    line : int or None, default=None
        With a number of characters, the label is below, shortened to them.

    Returns
    -------
    title : str
    """
    title = f"Sample {report.ids_[report._shown.positions[place]]}"
    if report.id_name is not None:
        title = f"{report.id_name} {report.ids_[report._shown.positions[place]]}"
    if report._shown.labels is None:
        return title
    label = label_name(report._shown.labels[place], report.target_names)
    return f"{title}: {label}" if line is None else f"{title}\n{shortened(label, line)}"


def baseline_series(report):
    """Return the baseline of series in raw units, None if it has no such shape.

    Parameters
    ----------
    report : RepresentationReport
        Fitted.

    Returns
    -------
    baseline : ndarray of a sample's shape, or None
    """
    baseline = report.attributor_.baseline_
    if report._sample.kind != "series" or baseline is None:
        return None
    baseline = np.asarray(baseline, dtype=np.float64).mean(axis=0)
    return baseline if baseline.shape == report.attributor_.input_shape_ else None


def feature_names(report):
    """Return the names of a table's columns.

    Parameters
    ----------
    report : RepresentationReport
        Fitted.

    Returns
    -------
    names : list of str
    """
    names = getattr(report.attributor_, "feature_names_in_", None)
    return column_names(names, report.facts_.n_features)


def rows(report, X):
    """Return samples as an ndarray, of texts the numbers of their words.

    Parameters
    ----------
    report : RepresentationReport
        With a fitted ``attributor_``.
    X : ndarray or DataFrame
        Samples.

    Returns
    -------
    X : ndarray
    """
    return rows_of(as_drawn(report.attributor_, X), slice(None))
