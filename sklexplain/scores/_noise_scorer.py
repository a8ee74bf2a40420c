"""The noise score: whether a representation looks at samples differently than at noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from ..layers import ConstantSum, aggregate, aggregate_with_size, cancels, layer_maps, samples_from
from ..utils import (
    NONE,
    BatchSize,
    Choice,
    DeviceLike,
    Integer,
    ModelLike,
    Numbers,
    RandomState,
    ResponseMethod,
    kept_rows,
    warn,
)
from ._base import REDUCING, LayerScorer, layers_last
from ._drift import DriftMixin
from ._functions import excess_over_benchmark, noise_scores, scaled_maps
from ._noise import NOISES, noise_inputs

# Noise scores that differ by no more are the same, in roundings of the maps.
_ROUNDINGS = 64
# Enough to see which output units depend on which positions.
_SPARSITY_SAMPLES = 16


class NoiseScorer(DriftMixin, LayerScorer):
    r"""How differently a representation looks at samples and at noise.

    The noise score of Bertolini, Clevert & Montanari (equation 1) at layer p is

    .. math:: N_p(x) = \operatorname{mean}_{k, s} |A_p(x)_s - A_p(\nu_k)_s| \in [0, 1],

    with :math:`A_p(x)` the map over the positions s of the layer: the saliency of every output
    unit, aggregated over channels and units and scaled to [0, 1] (a constant map to zeros), and
    :math:`\nu_k` noise inputs, common to all samples. The benchmark :math:`N^0_p` (equation 2) is
    the same between two sets of noise inputs. `transform` gives :math:`N_p(x)`, `score` the mean
    over layers of

    .. math:: (N_p - N^0_p) / (N_p + N^0_p) \in [-1, 1],

    :math:`N_p` averaged over samples: 0 where samples are looked at as if they were noise. The
    score itself is larger for some untrained networks than for trained ones. With ``reference``,
    `score` is minus the mean over layers of :math:`|N_p - \mathrm{reference}_p|` instead. See Notes
    for what each is for.

    Parameters
    ----------
    estimator : nn.Module, skorch net, scikit-learn estimator or Pipeline
        What is scored. A module or a fitted estimator is taken as it is and never changed; of an
        unfitted estimator a clone is fitted in ``fit``.
    layers : list of str or None, default=None
        Where it is looked at, as in ``named_modules()``; ``"rnn[1][0]"`` picks from a tuple,
        ``"enc['mu']"`` from a dict. None: every convolution, linear, recurrent and attention layer
        that the output depends on, in call order.
    output : str or None, default=None
        Submodule whose output is scored. None: what ``response_method`` says; a
        module's ``forward``.
    response_method : str or list of str, default="auto"
        What of an estimator is scored. ``"auto"``: the first that it has of ``transform``,
        ``predict_proba``, ``decision_function`` and a regressor's ``predict``; labels are refused.
        Or one of ``"transform"``, ``"predict_proba"``, ``"predict_log_proba"``,
        ``"decision_function"``, ``"score_samples"`` and ``"predict"``, or a list of them, of which
        the first that it has counts. With a module or ``output``, only ``"auto"``.
    at : {"output", "input"}, default="output"
        Whether to look at the layers' outputs or at their inputs.
    saliency : {"activation_x_gradient", "gradient", "grad_cam"}, \
            default="activation_x_gradient"
        Per output unit and layer.
    channel_agg, unit_agg : {"abs", "mean", "var", "skew"} or callable, default="abs"
        Aggregation over channels, then over output units; a callable is called as
        ``f(tensor, dim=...)``. With abs and abs, the sign of a unit does not matter.
    noise : {"data", "unit", "permuted"}, default="data"
        ``"data"``: uniform over the range of the data given to ``fit`` from the 1st to the 99th
        percentile, of each column of two-dimensional X and of all entries together otherwise;
        ``"unit"``: uniform on [0, 1], the paper's; ``"permuted"``: every entry that of another
        sample. Of what enters the torch path: raw units, or, where a Pipeline starts with steps
        that have no torch form (imputers, encoders), what they return.
    n_noise : int, default=8
        Noise inputs in a set; their scores are averaged.
    reference : array-like of shape (n_layers,) or None, default=None
        Noise scores of another network at the same layers, in their order, for `score` to be
        measured by: ``mean_noise_`` of a scorer that was fitted on the same data with the same
        ``random_state``. None: by the benchmark.
    n_units : int or None, default=None
        Score by this many random output units, at that share of the cost. None, or as many as there
        are: all. See Notes.
    batch_size : int or "auto", default="auto"
        Most rows (samples times units) in the network at once. "auto": 1024; on a GPU, what its
        memory holds.
    device : str, torch.device or None, default=None
        Where to run; None: where the model is.
    random_state : int, RandomState instance or None, default=None
        Determines the noise inputs and which units are drawn.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    estimator_ : nn.Module or estimator
        The fitted estimator that is scored.
    benchmark_ : ndarray of shape (n_layers,)
        :math:`N^0_p`, between two sets of ``n_noise`` noise inputs.
    mean_noise_ : ndarray of shape (n_layers,)
        :math:`N_p`, averaged over the data given to ``fit``, or 1000 of its samples; computed when
        first asked for.
    layers_ : list of str
        Names of the layers.
    n_units_ : int
        Number of output units, N.
    standard_error_ : float
        Of ``score`` on the data given to ``fit``, from drawing units; computed when first asked
        for. 0.0 if all units are used, NaN if fewer than four are.
    n_features_in_, feature_names_in_, input_shape_, seed_
        See `BaseExplainer`.

    See Also
    --------
    VarianceScorer : Do the units of a representation look at different things?
    sklexplain.scores.noise_scorer : The score as ``scoring=`` of a search.
    sklexplain.plotting.ScoreCurveDisplay : The score over the layers.
    sklexplain.EmbeddingAttributor : The maps themselves.

    Notes
    -----
    Three forms of the score are for three questions. `transform` and `score_samples` give
    :math:`N_p` itself, to look at the layers of one network. `score` without a reference compares
    networks of one architecture that were trained differently. It cannot judge a network whose
    parts are broken: if a layer's maps of noise inputs are constant, the benchmark is 0 and says
    nothing, and `score` is NaN with a warning, unless the samples' maps are constant, too, as those
    of one position are: that layer counts as 0. With ``reference``, `score` says how far a network
    has moved from an intact one, when layers are damaged one by one, for example: against the
    accuracy of an ImageNet network with one layer randomised, its rank correlation was 0.4 to 0.6,
    that of N 0.1 and that of the form without a reference -0.4 to -0.7.

    Activation times gradient at a layer is large where the activation is, whether or not training
    has taught the layer anything; the first layers tell trained from untrained networks least. At
    the output itself, which is among the layers if a linear layer makes it, the map is the absolute
    output.

    With ``n_units``, maps are scaled after they have been estimated, which biases the score: by
    less than its standard error in nearly every setting tried. The error reported by
    ``standard_error_`` and ``confidence_interval`` is the root mean squared one, bias included,
    from random halves of the units. Where a position belongs to few output units, the units drawn
    leave most positions empty: at the output itself the map of all units is known and used, at
    other such layers a UserWarning is raised.

    Cost: `fit` runs two sets of ``n_noise`` inputs and a few dozen rows through the network;
    `transform` and `score` every sample once, and backward once for each unit (``n_units`` of
    them), for all layers at once.

    References
    ----------
    .. [1] M. Bertolini, D.-A. Clevert, F. Montanari, "Explaining, Evaluating and Enhancing Neural
       Networks' Learned Representations".

    Examples
    --------
    >>> from sklexplain import NoiseScorer
    >>> from sklexplain.datasets import make_relevant_columns
    >>> from sklexplain.nets import Autoencoder
    >>> X, _, _ = make_relevant_columns(random_state=0)
    >>> autoencoder = Autoencoder(max_epochs=5, validation_split=None, random_state=0).fit(X)
    >>> scorer = NoiseScorer(autoencoder, random_state=0).fit(X)
    >>> scorer.get_feature_names_out().tolist()
    ['encoder.linear0', 'encoder.linear1', 'encoder.code']
    >>> scorer.transform(X).shape
    (200, 3)
    """

    _parameter_constraints = {
        "channel_agg": REDUCING,
        "unit_agg": REDUCING,
        "noise": [Choice(*NOISES)],
        "reference": [
            Numbers(
                "an array of one noise score for each layer, as mean_noise_ of a fitted "
                "NoiseScorer is (not the scorer itself)"
            ),
            NONE,
        ],
        "n_noise": [Integer(1, 100_000)],
    }

    def __init__(
        self,
        estimator: ModelLike,
        *,
        layers: Sequence[str] | None = None,
        output: str | None = None,
        response_method: ResponseMethod = "auto",
        at: Literal["output", "input"] = "output",
        saliency: Literal[
            "gradient", "activation_x_gradient", "grad_cam"
        ] = "activation_x_gradient",
        channel_agg: Literal["mean", "abs", "var", "skew"] | Callable[..., Any] = "abs",
        unit_agg: Literal["mean", "abs", "var", "skew"] | Callable[..., Any] = "abs",
        noise: Literal["data", "unit", "permuted"] = "data",
        n_noise: int = 8,
        reference: ArrayLike | None = None,
        n_units: int | None = None,
        batch_size: BatchSize = "auto",
        device: DeviceLike | None = None,
        random_state: RandomState = None,
        verbose: int | bool = 0,
    ) -> None:
        self.estimator = estimator
        self.layers = layers
        self.output = output
        self.response_method = response_method
        self.at = at
        self.saliency = saliency
        self.channel_agg = channel_agg
        self.unit_agg = unit_agg
        self.noise = noise
        self.n_noise = n_noise
        self.reference = reference
        self.n_units = n_units
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    _keeps_results = True

    def _rows_to_keep(self, inputs):
        return kept_rows(inputs, self.seed_)  # for drift

    def _fit_scorer(self, inputs):
        self._compared_with = checked_reference(self._params_at_fit.reference, self.layers_)
        rng = np.random.default_rng([self.seed_, 0])
        noise = noise_inputs(
            self._params_at_fit.noise, inputs, 2 * self._params_at_fit.n_noise, rng
        )
        self._cancelling = self._find_cancelling(np.concatenate([noise, self._fit_inputs]))
        batches, reached = [], np.zeros(len(self._points), dtype=bool)
        for maps in self._map_batches(noise, halves=True):
            batches.append(scaled_maps(maps))
            reached |= [bool(((m if s is None else s) != 0).any()) for m, s in maps]
        self._dead = ~reached  # no gradient or no activation at any noise input
        self._rounding = _ROUNDINGS * torch.finfo(batches[0][0].dtype).eps
        self._noise_maps = [torch.cat(maps, dim=1) for maps in zip(*batches, strict=True)]
        pairs = [
            (maps[:, : self._params_at_fit.n_noise], maps[:, self._params_at_fit.n_noise :])
            for maps in self._noise_maps
        ]
        self._benchmarks = layers_last([noise_scores(x, y).mean(dim=-1) for x, y in pairs])
        self.benchmark_ = self._benchmarks[0]
        self._noise_maps = [first.cpu().numpy() for first, _ in pairs]
        self._warn_if_sparse(inputs)

    def _find_cancelling(self, inputs):
        """Find the sum of units whose map is 0 whatever autograd's rounding makes of it, if any."""
        params = self._params_at_fit
        if self._drawn is not None or not cancels(params, self.n_units_):
            return None
        representation, rows = self._representation, self._rows()
        with representation.session():
            z = representation.in_blocks(
                lambda block: representation(representation.tensor(inputs[block])).detach(),
                len(inputs),
                rows,
                lambda: rows,
            )
            return ConstantSum.of(torch.cat([part.flatten(1) for _, part in z]))

    def _warn_if_sparse(self, inputs):
        """Warn where the units that were drawn leave most positions without any of them."""
        if self._drawn is None:
            return
        representation = self._representation
        with representation.session():
            maps = self._sampled_maps(representation.tensor(inputs[:_SPARSITY_SAMPLES]))
        for name, point, (m, _) in zip(self.layers_, self._points, maps, strict=True):
            n_units = (m != 0).double().mean().item() * len(m)  # at a position
            if n_units < 1 and not self._is_known_map(point):
                warn(
                    f"on average {n_units:.2g} of the n_units={len(m)} output units drawn depend "
                    f"on a position of layer {name!r}, so its noise score and the standard error "
                    "of that are far from those of all units; use n_units=None or leave this layer "
                    "out of layers."
                )

    def _batch_scores(self, x, subsets):
        return self._against_noise(scaled_maps(self._batch_maps(x, subsets)))

    def _against_noise(self, maps):
        """Noise scores of scaled maps: (n_subsets, b, n_layers)."""
        scores = []
        for m, noise in zip(maps, self._noise_maps, strict=True):
            noise = torch.from_numpy(noise[: len(m)]).to(m.device)
            scores.append(noise_scores(m, noise))
        return layers_last(scores)

    def _map_batches(self, inputs, halves=False):
        """Compute maps of all samples, batch by batch."""
        representation = self._representation

        def run(block):
            x = representation.tensor(inputs[block])
            with samples_from(block.start):
                return self._batch_maps(x, self._subsets(halves))

        def most_rows():
            return self._params_at_fit.batch_size

        with representation.session():
            blocks = representation.in_blocks(run, len(inputs), self._rows(), most_rows)
            yield from (maps for _, maps in blocks)

    def _batch_maps(self, x, subsets):
        """Compute maps for every layer, from every subset of units, with their sizes.

        Parameters
        ----------
        x : tensor of shape (b, ...)
            Samples.
        subsets : list or None
            See `_subsets`.

        Returns
        -------
        layers : list of (tensor, tensor or None) of shape (n_subsets, b, n_positions)
            See `sklexplain.layers.aggregate_with_size`.
        """
        unit_agg = self._params_at_fit.unit_agg
        if subsets is None:
            found = layer_maps(
                self._representation,
                self._representation.bound(self._points),
                x,
                saliency=self._params_at_fit.saliency,
                channel_agg=self._params_at_fit.channel_agg,
                unit_agg=unit_agg,
                rows=self._params_at_fit.batch_size,
                with_sizes=True,
            )
            flat = [[None if t is None else t.flatten(1)[None] for t in part] for part in found]
            layers = list(zip(*flat, strict=True))
            if self._cancelling is None:
                return layers
            with torch.no_grad():
                zero = self._cancelling.holds(self._representation(x).flatten(1))
            return [(m.masked_fill(zero[None, :, None], 0), sizes) for m, sizes in layers]
        layers = []
        for point, (maps, sizes) in zip(self._points, self._sampled_maps(x), strict=True):
            if self._is_known_map(point):
                layers.append((self._output_map(x).expand(len(subsets), -1, -1), None))
                continue
            found = [
                aggregate_with_size(maps[s], None if sizes is None else sizes[s], unit_agg, 0)
                for s in subsets
            ]
            maps, sizes = zip(*found, strict=True)
            layers.append((torch.stack(maps), None if sizes[0] is None else torch.stack(sizes)))
        return layers

    def _is_known_map(self, point):
        """Tell whether a layer is the output itself, where the map of all units is known."""
        aggregators = (self._params_at_fit.channel_agg, self._params_at_fit.unit_agg)
        return point.is_output and not point.has_channels and not any(map(callable, aggregators))

    def _output_map(self, x):
        """Compute the map of all units at the output itself, up to a factor.

        There unit i has its saliency z_i (or 1) at its own position and 0 elsewhere: no gradient is
        needed, and a part of the units would leave the other positions at 0.

        Parameters
        ----------
        x : tensor of shape (b, ...)
            Samples.

        Returns
        -------
        map : tensor of shape (b, N)
        """
        z = self._representation(x)
        z = z if self._params_at_fit.saliency == "activation_x_gradient" else torch.ones_like(z)
        z = aggregate(z[None], self._params_at_fit.channel_agg, 0)
        return {"mean": z, "abs": z.abs(), "var": z.square(), "skew": z.sign()}[
            self._params_at_fit.unit_agg
        ]

    # -- maps ----------------------------------------------------------------------------------

    @property
    def mean_noise_(self) -> np.ndarray:
        """Noise scores, averaged over the data given to ``fit``, or 1000 of its samples."""
        check_is_fitted(self)
        with self._inside(self._fit_inputs):
            return self._usual_scores().copy()

    def _usual_scores(self):
        if "mean" not in self._later:
            self._later["mean"] = self._scores(self._fit_inputs)[0].mean(axis=0)
        return self._later["mean"]

    def _overall(self, layer_scores):
        if self._compared_with is not None:
            return -np.abs(layer_scores - self._compared_with).mean(axis=-1)
        none = self.benchmark_ <= self._rounding
        none &= self._dead | (layer_scores[0] > self._rounding)
        args = layer_scores, self._benchmarks[: len(layer_scores)], self._rounding
        excess = excess_over_benchmark(*args)
        # Where the benchmark of half of the units vanishes, that much is uncertain.
        excess[1:] = excess_over_benchmark(*args, collapsed=1.0)[1:]
        if none.any():
            excess[0] = np.nan
            names = ", ".join(repr(name) for name, n in zip(self.layers_, none, strict=True) if n)
            warn(
                f"the score is NaN: at {names} the maps of all noise inputs are the same, so that "
                "the benchmark is 0 and says nothing. Either the layer is broken (its activations "
                "or gradients are all 0, or do not vary), or the data given to fit are constant, "
                "and noise of their range, too. Name other layers, compare transform() or use "
                "reference=; with constant data, fit on others or use noise='unit'."
            )
        return excess


def checked_reference(reference, layers):
    """Return the parameter ``reference`` as an array; raise an error if it does not fit.

    Parameters
    ----------
    reference : array-like or None
        The parameter.
    layers : list of str
        The layers that are scored.

    Returns
    -------
    reference : ndarray of float64 of shape (n_layers,) or None

    Raises
    ------
    TypeError
        If it holds no numbers.
    ValueError
        If there is not one number in [0, 1] for each layer.
    """
    if reference is None:
        return None
    try:
        values = np.asarray(reference, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"reference={reference!r} must be an array of one noise score for each layer: "
            "mean_noise_ of a fitted NoiseScorer, not the scorer itself."
        ) from None
    if values.shape != (len(layers),):
        raise ValueError(
            f"reference of shape {values.shape} must hold one noise score for each of the "
            f"{len(layers)} layers {layers}; use mean_noise_ of a NoiseScorer with the same layers."
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"reference={values.tolist()} must hold noise scores, which are between 0 and 1."
        )
    return values
