"""The report's numbers as a table, for others to go on with."""

import numpy as np

from ..plotting import column_names
from ..utils import replacing


def numbers_frame(report):
    """Return what is known of each explained sample, a row each.

    Parameters
    ----------
    report : RepresentationReport
        Fitted.

    Returns
    -------
    frame : pandas.DataFrame
        The sample's name, its label, the share of training samples that are rebuilt better, the
        most similar known samples with their importance and label, and its attributions.
    """
    import pandas as pd

    found = report._neighbours
    columns = {report.id_name or "sample": report.ids_}
    if found.own_labels is not None:
        columns["label"] = found.own_labels
    if report.reconstruction_ is not None:
        columns["reconstruction error rank"] = report.reconstruction_.error_rank
    for j in range(found.importance.shape[1]):
        columns[f"similar {j + 1}"] = found.ids[:, j]
        columns[f"similar {j + 1}: importance"] = found.importance[:, j]
        if found.labels is not None:
            columns[f"similar {j + 1}: label"] = found.labels[:, j]
    flat = report.attributions_.reshape(len(report.attributions_), -1)
    names = [f"attribution: {name}" for name in entry_names(report)]
    table = pd.DataFrame({name: list(values) for name, values in columns.items()})
    return pd.concat([table, pd.DataFrame(flat, columns=names)], axis=1)


def entry_names(report):
    """Name every entry of a sample: columns, time steps, or places in an array.

    Parameters
    ----------
    report : RepresentationReport
        Fitted.

    Returns
    -------
    names : list of str
    """
    shape, axis = report.attributor_.input_shape_, report._sample.channel_axis
    if report._sample.kind == "table":
        names = getattr(report.attributor_, "feature_names_in_", None)
        return column_names(names, int(np.prod(shape)))
    if report._sample.kind == "series":
        times = report.time_names or [str(i) for i in range(shape[0 if axis is None else 1 - axis])]
        if len(shape) == 1:
            return [str(time) for time in times]
        channels = report.channel_names or [f"channel {i}" for i in range(shape[axis])]
        order = [(c, t) for c in channels for t in times]
        if axis != 0:
            order = [(c, t) for t in times for c in channels]
        return [f"{channel} {time}" for channel, time in order]
    return [" ".join(map(str, place)) for place in np.ndindex(*shape)]


def write_numbers(report, path):
    """Write them as .csv or .parquet, beside and then in place of what is there.

    Parameters
    ----------
    report : RepresentationReport
        Fitted.
    path : pathlib.Path
        Where to.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise ValueError(f"{path}: numbers are written as .csv or .parquet.")
    frame = numbers_frame(report)
    with replacing(path) as beside:
        if suffix == ".csv":
            frame.to_csv(beside, index=False)
        else:
            texts = {name: str for name in frame.columns if frame[name].dtype == object}
            frame.astype(texts).to_parquet(beside)
