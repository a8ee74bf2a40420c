"""Where a layer builds an embedding: maps of all its units, aggregated."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted
from torch.nn import functional

from ..base import BaseExplainer
from ..explaining import warn_of_unreached
from ..layers import (
    AGGREGATORS,
    SALIENCIES,
    ConstantSum,
    cancels,
    check_grad_cam,
    layer_maps,
    rounding_of,
    samples_from,
)
from ..utils import (
    CALLABLE,
    FLAG,
    NONE,
    VERBOSE,
    BatchSize,
    Choice,
    DeviceLike,
    Integer,
    ModelLike,
    Names,
    Numbers,
    RandomState,
    ResponseMethod,
    Written,
    kept_rows,
    numpy_dtype_of,
    progress,
    warn,
)
from ._embedding_checks import (
    are_probabilities,
    check_torch_form,
    checked_weights,
    chosen_units,
    last_layer,
)

AT = ("output", "input")


class EmbeddingAttributor(BaseExplainer):
    r"""Where in a sample an embedding comes from, as one of the network's layers sees it.

    For output unit i and layer p, with activations :math:`\phi_p(x)` of shape :math:`(C_p, d_p)`,
    the saliency is :math:`\partial z_i / \partial \phi_p(x)`, or that times :math:`\phi_p(x)`, or
    Grad-CAM's. It is aggregated over the channels by :math:`\mathcal C`, over the units by
    :math:`\mathcal E`, and scaled up to the sample's size by :math:`\mathcal U` (Bertolini, Clevert
    & Montanari, section 2.1):

    .. math:: A^p(x) = \mathcal U \, \mathcal E_i \, \mathcal C_c \, (\hat A^p)_{i,c}(x).

    It takes one backward pass for each unit or, where both aggregators are means, one for all
    units. If the layer has far fewer activations than there are units (a decoder's code), it takes
    about two passes for each activation; if all that follows the layer is affine, one pass gives as
    many units as there are samples.

    Parameters
    ----------
    estimator : nn.Module, skorch net, scikit-learn estimator or Pipeline
        The model to explain; it needs a torch form. A module or a fitted estimator is explained as
        it is and never changed; of an unfitted estimator a clone is fitted in ``fit``.
    layer : str or None, default=None
        Submodule that is looked at, as in ``named_modules()``; ``"rnn[1][0]"`` picks from a tuple,
        ``"enc['mu']"`` from a dict. None: the last convolutional, linear, recurrent or attention
        layer with positions beside channels; else the last such layer before the one that makes the
        output; else the input.
    output : str or None, default=None
        Submodule whose output is the embedding. None: what ``response_method`` says; a module's
        ``forward``.
    response_method : str or list of str, default="auto"
        Which of an estimator's outputs is the embedding. ``"auto"``: the first that it has of
        ``transform``, ``predict_proba``, ``decision_function`` and a regressor's ``predict``;
        labels are refused. Or one of ``"transform"``, ``"predict_proba"``, ``"predict_log_proba"``,
        ``"decision_function"``, ``"score_samples"`` and ``"predict"``, or a list of them, of which
        the first that it has counts. With a module, ``layer`` or ``output``, only ``"auto"``.
    at : {"output", "input"}, default="output"
        Look at the layer's output or at its input.
    saliency : {"activation_x_gradient", "gradient", "grad_cam"}, default="activation_x_gradient"
        Grad-CAM, :math:`\mathrm{relu}(\sum_c \overline{\partial z_i/\partial \phi_{p,c}}\,
        \phi_{p,c})`, needs positions beside channels and makes ``channel_agg`` idle.
    channel_agg : {"abs", "mean", "var", "skew", "none"} or callable, default="abs"
        Aggregator over the channels: mean of absolute values, mean, variance (n - 1 in the
        denominator, 0 for a single element), skewness. ``"none"`` keeps the axis. A callable is
        called as ``f(values, dim=dim)`` with a tensor, like ``torch.amax``.
    unit_agg : {"var", "abs", "mean", "skew", "none"} or callable, default="var"
        Aggregator over the units. ``channel_agg="abs"`` with ``unit_agg="var"`` shows the features
        that dominate an embedding, abs with abs also shows those it misses.
    unit_weights : array-like of shape (n_units,) or None, default=None
        Explain this weighted sum of the units instead, a linear task on the embedding, for example;
        ``unit_agg`` then does nothing. None: no weights, but for two outputs that sum to 1, as
        class probabilities do, where a variance of absolute values says nothing: (-1, 1), the
        second against the first, with a warning.
    upsample : bool, default=True
        Scale maps of series and images up to the size of a sample (nearest position).
    n_units : int or None, default=None
        Explain a random subset of so many units, common to all samples. None, or as many as there
        are: all.
    batch_size : int or "auto", default="auto"
        Most rows (samples times units) in the network at once; fewer where they are large. "auto":
        1024; on a GPU, what its memory holds.
    device : str, torch.device or None, default=None
        Where to run; None: where the model is.
    random_state : int, RandomState instance or None, default=None
        For the subset of units.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    estimator_ : nn.Module or estimator
        The fitted estimator that is explained.
    layer_ : str
        The layer that is looked at; ``""`` is the whole network.
    at_ : {"output", "input"}
        At its output or its input. ``layer=None`` looks at a layer's input where no output has
        positions.
    units_ : ndarray of int
        The units explained.
    n_units_ : int
        Number of all units of the embedding, N.
    map_shape_ : tuple of int
        Shape of one sample's explanation.
    n_features_in_, feature_names_in_, input_shape_, seed_
        See `BaseExplainer`.

    See Also
    --------
    LabelFreeAttributor : Which features of the input build a representation.
    sklexplain.NoiseScorer : Whether such maps differ between samples and noise.
    sklexplain.VarianceScorer : Whether units look at different places.
    sklexplain.plotting.AttributionDisplay : The map of one sample.
    sklexplain.metrics.map_sparsity : How sparse maps are.

    Notes
    -----
    In a layer without an axis of channels every unit is a position (C = 1, nothing is scaled up).
    Time steps and tokens are positions. A layer that is called several times is looked at in its
    last call.

    Where aggregated numbers cancel, a map is rounding and nothing else: the mean over classes of
    the gradients of probabilities, which sum to 1, for example. Such maps are returned as 0, with a
    warning. The variance of a single unit is 0 by definition, without one.

    There is no ``score``: how sparse a map is says nothing of whether it is right.
    `sklexplain.NoiseScorer` and `sklexplain.VarianceScorer` judge a representation by such maps.

    Cost: `fit` runs a few dozen rows through the network, or every sample once where both
    aggregators are means; `transform` every sample once, and backward from the output to the layer
    once for each unit, or as above.

    References
    ----------
    .. [1] M. Bertolini, D.-A. Clevert, F. Montanari, "Explaining, Evaluating and Enhancing Neural
       Networks' Learned Representations", 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from sklexplain import EmbeddingAttributor
    >>> X = np.random.RandomState(0).normal(size=(20, 1, 12)).astype("float32")
    >>> net = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(40, 5))
    >>> explainer = EmbeddingAttributor(net).fit(X)
    >>> explainer.layer_, explainer.transform(X).shape
    ('0', (20, 12))
    """

    _reads_rows = True

    _parameter_constraints = {
        "at": [Choice(*AT)],
        "saliency": [Choice(*SALIENCIES)],
        "channel_agg": [Choice(*AGGREGATORS), CALLABLE],
        "unit_agg": [Choice(*AGGREGATORS), CALLABLE],
        "unit_weights": [Numbers(), NONE],
        "upsample": [FLAG],
        "n_units": [Integer(), NONE],
        "verbose": [VERBOSE],
    }

    def __init__(
        self,
        estimator: ModelLike,
        *,
        layer: str | None = None,
        output: str | None = None,
        response_method: ResponseMethod = "auto",
        at: Literal["output", "input"] = "output",
        saliency: Literal[
            "gradient", "activation_x_gradient", "grad_cam"
        ] = "activation_x_gradient",
        channel_agg: Literal["mean", "abs", "var", "skew", "none"] | Callable[..., Any] = "abs",
        unit_agg: Literal["mean", "abs", "var", "skew", "none"] | Callable[..., Any] = "var",
        unit_weights: ArrayLike | None = None,
        upsample: bool = True,
        n_units: int | None = None,
        batch_size: BatchSize = "auto",
        device: DeviceLike | None = None,
        random_state: RandomState = None,
        verbose: int | bool = 0,
    ) -> None:
        self.estimator = estimator
        self.layer = layer
        self.output = output
        self.response_method = response_method
        self.at = at
        self.saliency = saliency
        self.channel_agg = channel_agg
        self.unit_agg = unit_agg
        self.unit_weights = unit_weights
        self.upsample = upsample
        self.n_units = n_units
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # -- fit -----------------------------------------------------------------------------------

    def _explained(self):
        return {"layer": self.output, "parameter": "output"}

    def _check_params(self):
        super()._check_params()
        if self.n_units is not None and self.unit_weights is not None:
            raise ValueError(
                f"n_units={self.n_units} with unit_weights: a weighted sum is of all units and "
                "takes one backward pass; leave n_units=None."
            )

    def _fit(self, inputs, y):
        """Learn from validated inputs.

        Warns
        -----
        SklexplainWarning
            If the outputs are two that sum to 1, and the second is explained against the first.
        UnreachedInputWarning
            If the input itself is looked at and no gradient reaches some entries that the embedding
            depends on.
        """
        representation, params = self._representation, self._params_at_fit
        check_torch_form(self, representation)
        self.n_units_ = representation.n_units
        self.units_ = chosen_units(params.n_units, self.n_units_, self.seed_)
        self._weights = checked_weights(params.unit_weights, self.n_units_)
        self._look_for_cancelling(inputs)
        if params.layer is None:
            self._points = last_layer(representation, inputs, params.at)
        else:
            self._points = representation.points(inputs, [params.layer], params.at)
        check_grad_cam(self._points, params.saliency)
        point = self._points[0]
        self.layer_, self.at_ = point.name, point.at
        self._size = self._upsampled_size(point) if params.upsample else None
        self.map_shape_ = self._map_shape(point)
        if callable(params.channel_agg) or callable(params.unit_agg):
            self._transform(inputs[:1])  # what the user's own aggregators raise is raised in fit
        if self._looks_at_input() and representation.differentiable:
            names = getattr(self, "feature_names_in_", None)
            sizes = {"batch_size": params.batch_size, "seed": self.seed_}
            warn_of_unreached(representation, inputs, names, **sizes)

    def _look_for_cancelling(self, inputs):
        """Find out whether the units are explained by numbers that cancel."""
        params, representation = self._params_at_fit, self._representation
        self._cancelling = None
        if len(self.units_) < self.n_units_:
            return
        if self._weights is None and not cancels(params, self.n_units_):
            return
        z = representation.activations(kept_rows(inputs, self.seed_), params.batch_size)
        z = torch.from_numpy(np.ascontiguousarray(z))
        if self._weights is None and params.unit_agg == "var" and are_probabilities(z):
            self._weights = torch.tensor([-1.0, 1.0], dtype=torch.float64)
            warn(
                "the two outputs sum to 1, so their gradients are opposite and the variance of "
                "their absolute values is 0: unit_weights=(-1, 1) is used, which explains the "
                "second output against the first. Give unit_weights, or unit_agg='abs'."
            )
            return
        self._cancelling = ConstantSum.of(z, self._weights)

    def _looks_at_input(self):
        return (self.layer_, self.at_) == ("", "input")

    def _upsampled_size(self, point):
        """Sizes of a sample's positions, None where maps stay as they are."""
        if self._representation.head is not None or not point.has_channels:
            return None
        if len(self.input_shape_) == 1:  # a table, or a series in one
            size = self.input_shape_ if self._sample.kind == "series" else ()
        else:
            axis = self._sample.channel_axis
            size = tuple(n for i, n in enumerate(self.input_shape_) if i != axis)
        spatial = point.spatial_shape
        fits = len(size) == len(spatial) and all(s <= n for s, n in zip(spatial, size, strict=True))
        return size if fits and size != spatial else None

    # -- explaining ----------------------------------------------------------------------------

    def _transform(self, inputs):
        """Compute maps of where the layer builds the embedding.

        Returns
        -------
        maps : ndarray of shape (n_samples, *spatial)
            Of the network's dtype, float32 of half precision. With "none" for an aggregator, the
            axis of units, then that of channels, comes before the positions. With ``set_output``, a
            DataFrame with one column for each number.

        Raises
        ------
        NotFittedError
            If called before ``fit``.
        ValueError
            If X does not have the fitted shape or holds infinity, or NaN that the network does not
            take.
        """
        params, representation = self._params_at_fit, self._representation
        points = representation.bound(self._points)
        maps, n_negligible = Written(len(inputs)), 0

        def run(block):
            x = representation.tensor(inputs[block])
            with samples_from(block.start):
                (m,), (sizes,) = layer_maps(
                    representation,
                    points,
                    x,
                    saliency=params.saliency,
                    channel_agg=params.channel_agg,
                    unit_agg=params.unit_agg,
                    units=self.units_,
                    unit_weights=self._weights,
                    rows=params.batch_size,
                    with_sizes=True,
                )
            negligible = self._negligible(m, sizes, x)
            m = m.masked_fill(negligible.view(-1, *[1] * (m.dim() - 1)), 0)
            m = self._upsampled(m).to(representation.output_dtype).cpu().numpy()
            return m, int(negligible.sum())

        rows = points.block_rows(params.batch_size, representation.device)
        blocks = representation.in_blocks(run, len(inputs), rows, lambda: params.batch_size)
        with progress(len(inputs), params.verbose, "maps") as bar:
            for block, (m, n) in blocks:
                bar.update(block.stop - block.start)
                maps.add(m)
                n_negligible += n
        if n_negligible:
            self._warn_of_negligible(n_negligible, len(inputs))
        return maps.array

    def _row_form(self):
        return self.map_shape_, numpy_dtype_of(self._representation.output_dtype)

    def _negligible(self, maps, sizes, x):
        """Tell which samples' maps are 0 but for rounding, of numbers that are not 0.

        Parameters
        ----------
        maps : tensor of shape (b, ...)
            The maps.
        sizes : tensor of the same shape or None
            See `sklexplain.layers.aggregate_with_size`.
        x : tensor of shape (b, ...)
            The samples.

        Returns
        -------
        negligible : tensor of bool of shape (b,)
        """
        if sizes is None:
            negligible = torch.zeros(len(maps), dtype=torch.bool, device=maps.device)
        else:
            largest = sizes.flatten(1).amax(dim=1)
            negligible = maps.flatten(1).abs().amax(dim=1) <= rounding_of(largest)
            negligible &= largest > 0
        if self._cancelling is not None:
            with torch.no_grad():
                negligible |= self._cancelling.holds(self._representation(x).flatten(1))
        return negligible

    def _warn_of_negligible(self, n, n_samples):
        params = self._params_at_fit
        units = "unit_weights" if self._weights is not None else f"unit_agg={params.unit_agg!r}"
        of = "the sample" if n_samples == 1 else f"{n} of {n_samples} samples"
        warn(
            f"the maps of {of} are 0 but for rounding and are returned as 0: what "
            f"channel_agg={params.channel_agg!r} and {units} aggregate cancels (outputs with a "
            "constant sum, as probabilities have, for example). Use channel_agg='abs' with "
            "unit_agg='abs', or unit_weights of one unit."
        )

    def _upsampled(self, maps):
        if self._size is None:
            return maps
        lead = maps.shape[: maps.dim() - len(self._size)]
        flat = maps.reshape(-1, 1, *maps.shape[len(lead) :])
        return functional.interpolate(flat, self._size, mode="nearest").view(*lead, *self._size)

    def get_feature_names_out(self, input_features: Names | None = None) -> np.ndarray:
        """Names of the columns of `transform` under ``set_output``.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Column names of two-dimensional X, checked against those seen in ``fit``.

        Returns
        -------
        names : ndarray of str
            ``t12`` in series, ``y3_x5`` in images, ``p12`` in layers without channels, after
            ``unit0_`` and ``ch0_`` where these axes are kept. If the input itself is looked at,
            the names of its columns.
        """
        check_is_fitted(self)
        point = self._points[0]
        if len(self.input_shape_) == 1:
            from sklearn.utils.validation import _check_feature_names_in

            names = _check_feature_names_in(self, input_features)
            if self._looks_at_input() and self.map_shape_ == self.input_shape_:
                return names
        letters = {1: "t", 2: "yx"}.get(len(point.spatial_shape)) if point.has_channels else None
        if letters is None:
            letters = [f"p{i}" if i else "p" for i in range(len(point.spatial_shape))]
        labels = list(letters)
        if self._keeps_channels():
            labels.insert(0, "ch")
        if self._params_at_fit.unit_agg == "none" and self._weights is None:
            labels.insert(0, "unit")
        axes = []
        for label, size in zip(labels, self.map_shape_, strict=True):
            numbers = self.units_ if label == "unit" else range(size)
            axes.append([f"{label}{i}" for i in numbers])
        names = ["_".join(parts) for parts in itertools.product(*axes)]
        return np.asarray(names, dtype=object)

    def _map_shape(self, point):
        """Return the shape of one sample's map: positions, after the axes that are kept."""
        shape = tuple(point.spatial_shape if self._size is None else self._size)
        if self._keeps_channels():
            shape = (point.shape[0], *shape)
        keeps_units = self._params_at_fit.unit_agg == "none" and self._weights is None
        return (len(self.units_), *shape) if keeps_units else shape

    def _keeps_channels(self):
        params = self._params_at_fit
        return params.channel_agg == "none" and params.saliency != "grad_cam"
