"""Measures of explanations by concepts: faithful, local, distinct."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch

from ..explaining import resolve_groups
from ..utils import (
    FLAG,
    Entries,
    Integer,
    Names,
    as_array,
    check_numbers,
    check_positive_int,
    largest_size,
    rounding_of,
    validated,
)


def faithfulness(y_true: ArrayLike, y_approx: ArrayLike) -> Bunch:
    r"""How well an approximation predicts a network's output.

    .. math:: F_{reg} = \frac{1}{M} \sum_m |\bar y_m - \hat y_m|

    is the paper's measure ([1]_, section 3), in the output's units; R² is free of them.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, n_targets)
        The network's own output, for example ``explainer.target_values(X)``.
    y_approx : array-like of y_true's shape
        Its approximation, for example ``explainer.predict(X)``.

    Returns
    -------
    result : Bunch
        ``f_reg``, the mean absolute difference (0 is best); ``r2``, the coefficient of
        determination averaged over the targets that vary (1 is best; NaN if none does).

    Raises
    ------
    ValueError
        If shapes differ or values are not finite.

    See Also
    --------
    sklexplain.SRAEExplainer : What finds concepts.

    References
    ----------
    .. [1] Z. Qi, F. Li, "Learning Explainable Embeddings for Deep Networks", NIPS 2017 workshop.

    Examples
    --------
    >>> from sklexplain.metrics import faithfulness
    >>> result = faithfulness([0.0, 1.0, 2.0], [0.0, 1.0, 1.5])
    >>> round(result.f_reg, 3), round(result.r2, 3)
    (0.167, 0.875)
    """
    y_true, y_approx = check_numbers("y_true", y_true), check_numbers("y_approx", y_approx)
    eps = rounding_of(y_true)
    y_true, y_approx = y_true.astype(np.float64), y_approx.astype(np.float64)
    if y_true.shape != y_approx.shape:
        raise ValueError(
            f"y_true has shape {y_true.shape}, but y_approx has {y_approx.shape}; they must be "
            "alike, else one would be compared with every other."
        )
    size = largest_size(y_true, axis=0)
    scaled = y_true / size
    error = np.square(scaled - y_approx / size).sum(axis=0)
    total = np.square(scaled - scaled.mean(axis=0)).sum(axis=0)
    # What rounding alone makes vary does not.
    varies = total > len(y_true) * max(1e-12, 8 * eps) ** 2
    r2 = float(np.mean(1 - error[varies] / total[varies])) if np.any(varies) else float("nan")
    return Bunch(f_reg=float(np.abs(y_true - y_approx).mean()), r2=r2)


@validated(average=[FLAG])
def locality(
    attributions: ArrayLike,
    parts: ArrayLike | dict[Any, Any],
    *,
    active: ArrayLike | None = None,
    feature_names: Names | None = None,
    average: bool = True,
) -> float | np.ndarray:
    r"""Entropy of where concepts look, over parts of a sample: lower is more local.

    With :math:`S_p^{n,m}` the share of concept n's absolute attribution in sample m that lies in
    part p, and :math:`\bar S_p^n` its mean over the samples, the locality of a concept is ([1]_,
    section 3)

    .. math:: H_n = -\sum_p \bar S_p^n \log \bar S_p^n,

    in nats: 0 if all is in one part, :math:`\log P` if it is spread evenly over all P.

    Parameters
    ----------
    attributions : array-like of shape (n, n_concepts, *shape)
        Maps of the concepts, for example ``explainer.concept_attributions(X)``. The order of
        channels and positions is that of the samples.
    parts : array-like or dict
        The part of every entry: integer or string labels that broadcast to ``shape``
        (`sklexplain.attribution.time_segments`, `grid_parts`, `voronoi_parts`), or for columns
        {name: list of columns}; or each sample's own integer labels, which broadcast to
        ``(n, *shape)`` and have one axis more than a sample. Entries of a negative label are in no
        part.
    active : array-like of bool of shape (n_concepts,) or None, default=None
        Which concepts are used (``explainer.active_concepts_``); others are left out. None: all.
        A concept without any attribution in a part is always left out.
    feature_names : array-like of str or None, default=None
        Column names, if ``parts`` names columns.
    average : bool, default=True
        Whether to return the mean over concepts.

    Returns
    -------
    locality : float, or ndarray of shape (n_concepts,)
        In nats; NaN for concepts that are left out if ``average`` is False.

    Raises
    ------
    ValueError
        If shapes do not fit, values are not finite, there is only one part, or no concept is left.

    See Also
    --------
    sklexplain.metrics.grid_parts : Parts by a grid.
    sklexplain.metrics.voronoi_parts : Parts by keypoints.
    sklexplain.SRAEExplainer : What finds concepts.

    References
    ----------
    .. [1] Z. Qi, F. Li, "Learning Explainable Embeddings for Deep Networks", NIPS 2017 workshop.

    Examples
    --------
    >>> import numpy as np
    >>> from sklexplain.metrics import locality
    >>> maps = np.array([[[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, -1.0, 1.0]]])  # 1 sample, 2 concepts
    >>> locality(maps, [0, 0, 1, 1], average=False).round(3)
    array([0.   , 0.693])
    """
    maps = check_numbers("attributions", attributions, min_ndim=3)
    maps = np.abs(maps, dtype=np.float64)
    n, n_concepts, shape = maps.shape[0], maps.shape[1], maps.shape[2:]
    maps = maps / largest_size(maps, axis=tuple(range(2, maps.ndim)))  # shares are of a map
    used = _check_active(active, n_concepts)
    index, n_parts = _part_index(parts, n, shape, feature_names)
    if n_parts < 2:
        raise ValueError(
            f"parts={_shown(parts)} makes a single part, in which everything is local: give labels "
            "of at least two parts, as of time_segments, grid_parts or voronoi_parts."
        )
    mass = np.zeros((n, n_concepts, n_parts))
    for i, row in enumerate(np.broadcast_to(index, (n, index.shape[-1]))):
        inside = row >= 0
        one_hot = np.eye(n_parts)[row[inside]]  # (entries, n_parts)
        mass[i] = maps[i].reshape(n_concepts, -1)[:, inside] @ one_hot
    totals = mass.sum(axis=2, keepdims=True)
    seen = totals[..., 0] > 0  # a sample without any attribution has no distribution
    shares = np.divide(mass, totals, out=np.zeros_like(mass), where=totals > 0)
    used = used & seen.any(axis=0)
    if not used.any():
        raise ValueError("no concept that is used has any attribution in a part.")
    mean = shares.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)[:, None]
    logs = np.log(np.where(mean > 0, mean, 1.0))
    entropy = np.where(used, np.abs((mean * logs).sum(axis=1)), np.nan)
    return float(entropy[used].mean()) if average else entropy


def _shown(parts):
    text = repr(parts)
    return text if len(text) < 60 else f"{text[:57]}..."


def _check_active(active, n_concepts):
    """Return which concepts are used; raise a ValueError unless it is a bool for each."""
    used = np.ones(n_concepts, dtype=bool) if active is None else as_array(active, "active")
    if used.dtype != bool or used.shape != (n_concepts,):
        raise ValueError(
            f"active must hold a bool for each of the {n_concepts} concepts, but has shape "
            f"{used.shape} and dtype {used.dtype}."
        )
    return used


def _part_index(parts, n, shape, feature_names):
    """Assign numbers to the parts of samples.

    Parameters
    ----------
    parts : array-like or dict
        See `locality`.
    n : int
        Number of samples.
    shape : tuple of int
        Of one sample.
    feature_names : array-like of str or None
        Column names.

    Returns
    -------
    index : ndarray of int of shape (1 or n, n_entries)
        Part of every entry, -1 for none.
    n_parts : int
        Number of parts.

    Raises
    ------
    ValueError
        If labels do not fit the samples.
    """
    if not isinstance(parts, dict):
        labels = parts = as_array(parts, "parts")
        if labels.ndim == len(shape) + 1:
            if labels.dtype.kind not in "iu":
                raise ValueError("parts: labels of every sample must be integers.")
            try:
                labels = np.broadcast_to(labels, (n, *shape))
            except ValueError:
                raise ValueError(
                    f"parts of shape {labels.shape} fit neither one sample, of shape {shape}, nor "
                    f"all {n}; add an axis for channels, as in parts[:, None]."
                ) from None
            return _renumbered(labels.reshape(n, -1))
        if labels.dtype.kind in "iu" and (labels < 0).any():
            try:
                labels = np.broadcast_to(labels, shape)
            except ValueError:
                raise ValueError(
                    f"parts of shape {labels.shape} do not fit a sample, of shape {shape}."
                ) from None
            return _renumbered(labels.reshape(1, -1))
    try:
        index, names = resolve_groups(parts, shape, feature_names)
    except ValueError as error:
        raise ValueError(str(error).replace("groups", "parts")) from None
    return index.reshape(1, -1), len(names)


def _renumbered(labels):
    """Renumber the labels that occur from 0 on, negative ones as -1; raise if all are negative."""
    occurring = np.unique(labels[labels >= 0])
    if len(occurring) == 0:
        raise ValueError("parts: every label is negative, so there is no part.")
    return np.where(labels < 0, -1, np.searchsorted(occurring, labels)), len(occurring)


def voronoi_parts(keypoints: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Label positions by the nearest keypoint.

    Parameters
    ----------
    keypoints : array-like of shape (n_keypoints, n_axes) or (n, n_keypoints, n_axes)
        Positions in pixels, one column per axis: (row, column) for images. NaN: no such keypoint.
    shape : tuple of int
        Size of every axis: (height, width) for images.

    Returns
    -------
    labels : ndarray of int64 of shape (*shape) or (n, *shape)
        Position of the nearest keypoint in the list; of equally near ones the first.

    Raises
    ------
    ValueError
        If keypoints do not have as many coordinates as there are axes, or all are absent.

    See Also
    --------
    sklexplain.metrics.locality : What parts are for.
    sklexplain.metrics.grid_parts : Parts by a grid.

    Examples
    --------
    >>> from sklexplain.metrics import voronoi_parts
    >>> voronoi_parts([[0, 0], [0, 4]], (2, 5)).tolist()
    [[0, 0, 0, 1, 1], [0, 0, 0, 1, 1]]
    """
    points = as_array(keypoints, "keypoints").astype(np.float64)
    shape = tuple(check_positive_int("shape: a size", size) for size in shape)
    if points.ndim not in (2, 3) or points.shape[-1] != len(shape) or points.shape[-2] == 0:
        raise ValueError(
            f"keypoints of shape {points.shape} must be (n_keypoints, {len(shape)}) or (n, "
            f"n_keypoints, {len(shape)}) for positions of shape {shape}."
        )
    grid = np.moveaxis(np.indices(shape), 0, -1).reshape(-1, len(shape))  # (positions, axes)
    batch = points.reshape(-1, *points.shape[-2:])
    labels = np.empty((len(batch), len(grid)), dtype=np.int64)
    for i, keypoint in enumerate(batch):
        absent = np.isnan(keypoint).any(axis=1)
        if absent.all():
            raise ValueError(f"keypoints: all those of sample {i} are absent.")
        distance = np.square(grid[:, None] - np.where(absent[:, None], 0.0, keypoint)).sum(axis=2)
        distance[:, absent] = np.inf
        labels[i] = distance.argmin(axis=1)
    return labels.reshape(*points.shape[:-2], *shape)


@validated(n_parts=[Integer(), Entries("a sequence", Integer())])
def grid_parts(shape: tuple[int, ...], n_parts: int | tuple[int, ...]) -> np.ndarray:
    """Label positions by the cells of a grid.

    Parameters
    ----------
    shape : tuple of int
        Size of every axis: (height, width) for images.
    n_parts : int or tuple of int
        Number of cells along each axis; cells differ by at most one in size.

    Returns
    -------
    labels : ndarray of int64 of shape `shape`

    Raises
    ------
    ValueError
        If there are more cells than positions along an axis.

    See Also
    --------
    sklexplain.metrics.locality : What parts are for.
    sklexplain.metrics.voronoi_parts : Parts by keypoints.
    sklexplain.attribution.time_segments : Parts of series.

    Examples
    --------
    >>> from sklexplain.metrics import grid_parts
    >>> grid_parts((2, 4), 2).tolist()
    [[0, 0, 1, 1], [2, 2, 3, 3]]
    """
    counts = (n_parts,) * len(shape) if isinstance(n_parts, int) else tuple(n_parts)
    if len(counts) != len(shape):
        raise ValueError(f"n_parts={n_parts} must be a number or one for each of {shape}.")
    cells = []
    for size, count in zip(shape, counts, strict=True):
        if count > size:
            raise ValueError(f"n_parts={n_parts}: {count} cells along an axis of {size} positions.")
        cells.append(np.arange(size) * count // size)
    return np.ravel_multi_index(np.meshgrid(*cells, indexing="ij"), counts)


def concept_orthogonality(concepts: ArrayLike, *, active: ArrayLike | None = None) -> float:
    """Mean absolute correlation between different concepts: 0 if they are uncorrelated.

    Parameters
    ----------
    concepts : array-like of shape (n, n_concepts)
        Values of the concepts.
    active : array-like of bool of shape (n_concepts,) or None, default=None
        Which concepts are used; others, and those that do not vary, or by rounding only, are left
        out. None: all.

    Returns
    -------
    correlation : float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If fewer than two concepts are left, or values are not finite.

    See Also
    --------
    sklexplain.SRAEExplainer : What finds concepts.
    sklexplain.metrics.locality : Where concepts look.

    Examples
    --------
    >>> from sklexplain.metrics import concept_orthogonality
    >>> concept_orthogonality([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    0.0
    """
    concepts = check_numbers("concepts", concepts, min_ndim=2)
    if concepts.ndim != 2:
        raise ValueError(f"concepts has shape {concepts.shape}, but must be (n, n_concepts).")
    eps = rounding_of(concepts)
    concepts = concepts.astype(np.float64)
    concepts = concepts / largest_size(concepts, axis=0)
    # What rounding alone makes vary does not.
    varies = np.ptp(concepts, axis=0) > 8 * eps
    used = varies & _check_active(active, concepts.shape[1])
    if used.sum() < 2:
        raise ValueError(
            f"{used.sum()} of {len(used)} concepts are used and vary; at least two are needed."
        )
    correlation = np.corrcoef(concepts[:, used], rowvar=False)
    return float(np.abs(correlation[~np.eye(len(correlation), dtype=bool)]).mean())
