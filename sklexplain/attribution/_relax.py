"""Relevance by random masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..explaining import Estimates, warn_of_close
from ..utils import (
    FLAG,
    NONE,
    ArrayOrFrame,
    Baseline,
    BatchSize,
    ChannelAxis,
    DeviceLike,
    Entries,
    Groups,
    Integer,
    Integers,
    ModelLike,
    RandomState,
    ResponseMethod,
    by_blocks,
)
from ._contrast import unit_length
from ._judged import JudgedAttributor

_MOST_CELLS = 10  # along an axis, by default


class RelevanceMasker(JudgedAttributor):
    r"""Which parts a representation depends on, by random masks, and how far that varies (RELAX).

    Masks m_n keep every cell of a sample (a column, a segment of a series, a patch of an image)
    with probability 1/2 and give the others the baseline's value. With the cosine of what the
    masked sample and the sample itself are represented as,

    .. math:: s_n = \cos(f(x), f(m_n x + (1 - m_n) \bar x)), \qquad
              R_i = \frac{\sum_n s_n m_{ni}}{\sum_n m_{ni}}, \qquad
              U_i = \frac{\sum_n (s_n - R_i)^2 m_{ni}}{\sum_n m_{ni}},

    R_i is the importance of cell i and U_i its uncertainty (Wickstrøm et al. 2023). Any model will
    do: only outputs are asked for.

    Parameters
    ----------
    estimator : nn.Module, skorch net, scikit-learn estimator or Pipeline
        What is explained, as in `LabelFreeAttributor`.
    layer : str or None, default=None
        Submodule whose output is explained. None: what ``response_method`` says.
    response_method : str or list of str, default="auto"
        What of an estimator is explained, as in `LabelFreeAttributor`.
    n_masks : int, default=1000
        How many masks; the same for all samples.
    relative : bool, default=False
        Subtract the mean of s over the masks that do *not* keep a cell. Without it, a cell that the
        model never reads has the mean of s, not 0: maps look as if all were important, and only
        differences between cells mean something.
    n_cells : int, list of int or None, default=None
        Cells along each axis of series and images but the one of channels, which are masked
        together. None: 10, or every entry of shorter axes. Every column of a table is a cell.
    baseline : {"mean", "zeros", "background"}, array-like or callable, default="mean"
        What masked cells are given, as in `LabelFreeAttributor`; of several rows, s is a mean.
    groups : array-like, dict or None, default=None
        Groups of features that are masked together, instead of cells; as in `LabelFreeAttributor`.
    channel_axis : {"auto"}, int or None, default="auto"
        Axis of one sample's array that holds channels; ``"auto"``: what the network's layers say.
    batch_size : int or "auto", default="auto"
        Most rows in the network at once. "auto": 1024; on a GPU, what its memory holds.
    device : str, torch.device or None, default=None
        Where to run; None: where the model is.
    random_state : int, RandomState instance or None, default=None
        Of the masks, and of a ``"background"``.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    estimator_ : nn.Module or estimator
        The fitted estimator that is explained.
    baseline_ : ndarray of shape (n_baselines, ...) or DataFrame or None
        Fitted baseline rows, as they enter the network or black box; None for a callable.
    mean_ : ndarray or DataFrame of one row
        Mean of the fitted data; what `score` masks with.
    cells_ : ndarray of int of a sample's shape or None
        Cell of every entry of series and images; None where every column, or a group, is one.
    feature_importances_ : ndarray of shape (n_features,) or a sample's shape, or (n_groups,)
        Mean absolute importance over the data given to ``fit``, or a random 1000 of its samples;
        computed when first asked for.
    groups_ : list of str or None
        Names of the groups.
    n_features_in_, feature_names_in_, input_shape_, seed_
        See `BaseExplainer`.

    See Also
    --------
    LabelFreeAttributor : Attributions that have a sum, with fewer runs of the network.
    sklexplain.plotting.AttributionDisplay : The map of one sample.
    sklexplain.metrics.latent_shift_curve : How far masking the important features moves f(x).

    Notes
    -----
    U does not become smaller with more masks: it says how much what else is kept matters. How
    precise R is says `standard_errors`, which is about the root of U over half the masks. The
    cosine of a representation of 0 is 0. A cell that no mask keeps has NaN, which happens with a
    handful of masks only.

    Cost: `fit` runs a few dozen rows through the network; `transform` ``n_masks`` rows for a
    sample, times the number of rows of the baseline, and one for the sample itself. Nothing runs
    backward.

    References
    ----------
    .. [1] K. Wickstrøm, D. Trosten, S. Løkse, A. Boubekki, K. Mikalsen, M. Kampffmeyer, R. Jenssen,
       "RELAX: Representation Learning Explainability", International Journal of Computer Vision
       131, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from sklexplain import RelevanceMasker
    >>> X = np.random.RandomState(0).normal(size=(100, 4)) * [3, 1, 1, 0.1]
    >>> explainer = RelevanceMasker(PCA(n_components=2), relative=True, random_state=0).fit(X)
    >>> int(explainer.feature_importances_.argmax())
    0
    >>> explainer.transform(X[:5]).shape, explainer.uncertainty(X[:5]).shape
    ((5, 4), (5, 4))
    """

    _parameter_constraints = {
        "n_masks": [Integer(1, 2**31)],
        "relative": [FLAG],
        "n_cells": [Integer(), Entries("a list of integers", Integer()), NONE],
    }

    def __init__(
        self,
        estimator: ModelLike,
        *,
        layer: str | None = None,
        response_method: ResponseMethod = "auto",
        n_masks: int = 1000,
        relative: bool = False,
        n_cells: int | Integers | None = None,
        baseline: Baseline = "mean",
        groups: Groups = None,
        channel_axis: ChannelAxis = "auto",
        batch_size: BatchSize = "auto",
        device: DeviceLike | None = None,
        random_state: RandomState = None,
        verbose: int | bool = 0,
    ) -> None:
        self.estimator = estimator
        self.layer = layer
        self.response_method = response_method
        self.n_masks = n_masks
        self.relative = relative
        self.n_cells = n_cells
        self.baseline = baseline
        self.groups = groups
        self.channel_axis = channel_axis
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @staticmethod
    def _method_of(params):
        return "relax", {"n_samples": params.n_masks, "relative": params.relative}

    def _check_params(self):
        super()._check_params()
        if self.groups is not None and self.n_cells is not None:
            raise ValueError(
                f"n_cells={self.n_cells!r} and groups both say what is masked together; set one."
            )

    # -- fit -----------------------------------------------------------------------------------

    def _fit(self, samples, y):
        """Learn from validated samples.

        Raises
        ------
        ValueError
            If ``n_cells`` does not fit the samples.
        """
        self._learn_features()
        self._units = np.arange(self._representation.n_units)
        self._basis = self._contrast = None
        self._learn_baseline(samples.inputs)
        self._make_engine(samples.inputs, self._baseline)
        self._keep_for_importances(samples)

    def _cells(self):
        params, shape = self._params_at_fit, self.input_shape_
        self.cells_ = None
        if params.groups is not None:
            return None
        if self._sample.kind == "table":
            if params.n_cells is not None:
                raise ValueError(
                    f"n_cells={params.n_cells!r} is for series and images; every column of a table "
                    "is a cell. Set groups to mask several together."
                )
            return None
        axes = [axis for axis in range(len(shape)) if axis != self._sample.channel_axis]
        counts = _per_axis(params.n_cells, [shape[axis] for axis in axes])
        self.cells_ = np.zeros(shape, dtype=np.int64)
        for axis, count in zip(axes, counts, strict=True):
            place = np.arange(shape[axis]) * count // shape[axis]
            along = [-1 if other == axis else 1 for other in range(len(shape))]
            self.cells_ = self.cells_ * count + place.reshape(along)
        return self.cells_

    # -- explaining ----------------------------------------------------------------------------

    def _function(self):
        representation = self._representation
        return {
            "cotangents": lambda rows, z, z_ref: z[:, None],
            "encode": lambda x: unit_length(representation(x)),
        }

    def _transform(self, samples):
        """Compute the importance of every entry: that of its cell.

        Returns
        -------
        importance : ndarray of X's shape, or (n_samples, n_groups)
            Mean cosines R, between -1 and 1 (``relative``: differences of such means); NaN for
            cells that no mask keeps (or that all keep). With ``set_output``, a DataFrame with a
            column for each number.

        Raises
        ------
        NotFittedError
            If called before ``fit``.
        ValueError
            If X does not have the fitted shape or holds infinity, or NaN that the network does not
            take.
        """
        return self._mapped(samples)

    def _mapped(self, samples):
        return self._in_entries(super()._mapped(samples))

    def _in_entries(self, maps):
        return maps if self.cells_ is None else maps[:, self.cells_]

    def _estimates(self, samples):
        return Estimates(*map(self._in_entries, super()._estimates(samples)))

    @by_blocks(lambda self: self._row_form())
    def uncertainty(self, X: ArrayLike) -> ArrayOrFrame:
        """Compute how far the similarity varies among the masks that keep a cell.

        It is no error of the importance, and does not become smaller with more masks; see
        `standard_errors`.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        uncertainty : ndarray of the shape of ``transform(X)``
            U, variances of cosines; NaN for cells that no mask keeps.

        Raises
        ------
        NotFittedError
            If called before ``fit``.
        ValueError
            See `transform`.
        """
        with self._door(X) as samples:
            return self._estimates(samples).uncertainty

    # -- judging -------------------------------------------------------------------------------

    def _order(self, samples, sure=False):
        """Return maps of cells, not negative: ranks are those of absolute values."""
        found = super()._estimates(samples)
        if sure:
            warn_of_close(found.maps, found.errors, "n_masks")
        unknown = np.isnan(found.maps)
        low = np.where(unknown, np.inf, found.maps).min(axis=1, keepdims=True, initial=1.0)
        return np.where(unknown, 0.0, found.maps - low)


def _per_axis(n_cells, sizes):
    """Return how many cells there are along each axis.

    Parameters
    ----------
    n_cells : int, list of int or None
        As they were given.
    sizes : list of int
        Sizes of the axes.

    Returns
    -------
    counts : list of int

    Raises
    ------
    ValueError
        If there are not as many as axes, or more than an axis has entries.
    """
    if n_cells is None:
        return [min(_MOST_CELLS, size) for size in sizes]
    counts = [n_cells] * len(sizes) if np.ndim(n_cells) == 0 else list(n_cells)
    if len(counts) != len(sizes):
        raise ValueError(
            f"n_cells={n_cells!r} must be one integer, or one for each of the {len(sizes)} axes of "
            "a sample that hold no channels."
        )
    for count, size in zip(counts, sizes, strict=True):
        if count > size:
            raise ValueError(f"n_cells={n_cells!r}: an axis has only {size} entries.")
    return counts
