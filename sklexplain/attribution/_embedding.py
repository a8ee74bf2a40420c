"""Where a layer builds an embedding: maps of all its units, aggregated."""

import itertools

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch.nn import functional
from tqdm import tqdm

from ..base import BaseExplainer
from ..explaining import warn_of_unreached
from ..layers import AGGREGATORS, SALIENCIES, check_grad_cam, layer_maps, samples_from
from ..utils import CALLABLE, NONE, VERBOSE, Choice, Flag, Integer, Numbers

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
        ``unit_agg`` then does nothing.
    upsample : bool, default=True
        Scale maps of series and images up to the size of a sample (nearest position).
    n_units : int or None, default=None
        Explain a random subset of so many units, common to all samples. None, or as many as there
        are: all.
    batch_size : int, default=1024
        Most rows (samples times units) in the network at once; fewer where they are large.
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

    Notes
    -----
    In a layer without an axis of channels every unit is a position (C = 1, nothing is scaled up).
    Time steps and tokens are positions. A layer that is called several times is looked at in its
    last call.

    There is no ``score``: how sparse a map is says nothing of whether it is right.
    `sklexplain.NoiseScorer` and `sklexplain.VarianceScorer` judge a representation by such maps.

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

    _constraints = {
        "at": Choice(*AT),
        "saliency": Choice(*SALIENCIES),
        "channel_agg": (Choice(*AGGREGATORS), CALLABLE),
        "unit_agg": (Choice(*AGGREGATORS), CALLABLE),
        "unit_weights": (Numbers(), NONE),
        "upsample": Flag(),
        "n_units": (Integer(), NONE),
        "verbose": VERBOSE,
    }

    def __init__(
        self,
        estimator,
        *,
        layer=None,
        output=None,
        response_method="auto",
        at="output",
        saliency="activation_x_gradient",
        channel_agg="abs",
        unit_agg="var",
        unit_weights=None,
        upsample=True,
        n_units=None,
        batch_size=1024,
        device=None,
        random_state=None,
        verbose=0,
    ):
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
        UnreachedInputWarning
            If the input itself is looked at and no gradient reaches some entries that the embedding
            depends on.
        """
        representation, params = self._representation, self._params_at_fit
        check_torch_form(self, representation)
        self.n_units_ = representation.n_units
        self.units_ = chosen_units(params.n_units, self.n_units_, self.seed_)
        self._weights = checked_weights(params.unit_weights, self.n_units_)
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
        rows = points.block_rows(params.batch_size, representation.device)
        maps = []
        for i in tqdm(range(0, len(inputs), rows), desc="maps", disable=not params.verbose):
            with samples_from(i):
                (m,) = layer_maps(
                    representation,
                    points,
                    representation.tensor(inputs[i : i + rows]),
                    saliency=params.saliency,
                    channel_agg=params.channel_agg,
                    unit_agg=params.unit_agg,
                    units=self.units_,
                    unit_weights=self._weights,
                    rows=params.batch_size,
                )
            maps.append(self._upsampled(m).to(representation.output_dtype).cpu().numpy())
        return np.concatenate(maps)

    def _upsampled(self, maps):
        if self._size is None:
            return maps
        lead = maps.shape[: maps.dim() - len(self._size)]
        flat = maps.reshape(-1, 1, *maps.shape[len(lead) :])
        return functional.interpolate(flat, self._size, mode="nearest").view(*lead, *self._size)

    def get_feature_names_out(self, input_features=None):
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


def check_torch_form(explainer, representation):
    """Raise a TypeError if there is no network to look into."""
    if representation.no_torch_form is not None:
        raise TypeError(
            f"{type(explainer).__name__} looks into the layers of a network, but "
            f"{representation.no_torch_form} has no torch form; use LabelFreeAttributor with a "
            "perturbation method ('feature_ablation', 'kernel_shap', …)."
        )


def chosen_units(n_units, n_all, seed):
    """Positions of a random subset of units, in order; of all where there are no more."""
    if n_units is None or n_units >= n_all:
        return np.arange(n_all)
    return np.sort(check_random_state(seed).choice(n_all, n_units, replace=False))


def checked_weights(weights, n_units):
    """Weights of the units as a tensor.

    Parameters
    ----------
    weights : array-like of shape (n_units,) or None
        The parameter ``unit_weights``.
    n_units : int
        Number of all units of the embedding.

    Returns
    -------
    weights : torch.Tensor of float64 of shape (n_units,) or None

    Raises
    ------
    ValueError
        If there is not one finite number for each unit.
    """
    if weights is None:
        return None
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (n_units,) or not np.isfinite(weights).all():
        raise ValueError(
            f"unit_weights of shape {weights.shape} must hold one finite number for each of the "
            f"embedding's {n_units} units."
        )
    return torch.from_numpy(weights)


def last_layer(representation, inputs, at):
    """Find the last layer with positions beside channels, else the last before the output."""
    all_points = representation.points(inputs, None, at)
    at_input = all_points if at == "input" else None
    for points in (all_points, at_input or representation.points(inputs, None, "input")):
        for i in reversed(range(len(points))):
            point = points[i]
            if point.has_channels and np.prod(point.spatial_shape) > 1 and not point.is_output:
                return points.only(i)
    # The last layer makes the output, if only an activation function follows it.
    makes_output = (p.is_output or p.shape == (1, all_points.n_units) for p in all_points[-1:])
    n_before = len(all_points) - any(makes_output)
    if n_before:
        return all_points.only(n_before - 1)
    return representation.points(inputs, [""], "input")
