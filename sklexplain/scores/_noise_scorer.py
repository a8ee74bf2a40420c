"""The noise score: whether a representation looks at samples differently than at noise."""

import numpy as np
import torch

from ..layers import aggregate, layer_maps, samples_from
from ..utils import Choice, Integer, check_choice, kept_rows, warn
from ._base import REDUCING, LayerScorer, layers_last
from ._drift import DriftReference, split_in_halves
from ._functions import excess_over_benchmark, min_max_scaled, noise_scores
from ._noise import NOISES, noise_inputs

# Enough to see which output units depend on which positions.
_SPARSITY_SAMPLES = 16


class NoiseScorer(LayerScorer):
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
    score itself is larger for some untrained networks than for trained ones.

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
    n_units : int or None, default=None
        Score by this many random output units, at that share of the cost. None, or as many as there
        are: all. See Notes.
    batch_size : int, default=1024
        Most rows (samples times units) in the network at once.
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

    Notes
    -----
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

    _constraints = {
        "channel_agg": REDUCING,
        "unit_agg": REDUCING,
        "noise": Choice(*NOISES),
        "n_noise": Integer(1, 100_000),
    }

    def __init__(
        self,
        estimator,
        *,
        layers=None,
        output=None,
        response_method="auto",
        at="output",
        saliency="activation_x_gradient",
        channel_agg="abs",
        unit_agg="abs",
        noise="data",
        n_noise=8,
        n_units=None,
        batch_size=1024,
        device=None,
        random_state=None,
        verbose=0,
    ):
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
        self.n_units = n_units
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    _keeps_results = True

    def _rows_to_keep(self, inputs):
        return kept_rows(inputs, self.seed_)  # for drift

    def _fit_scorer(self, inputs):
        rng = np.random.default_rng([self.seed_, 0])
        noise = noise_inputs(
            self._params_at_fit.noise, inputs, 2 * self._params_at_fit.n_noise, rng
        )
        batches = [_scaled(maps) for maps in self._map_batches(noise, halves=True)]
        self._noise_maps = [torch.cat(maps, dim=1) for maps in zip(*batches, strict=True)]
        pairs = [
            (maps[:, : self._params_at_fit.n_noise], maps[:, self._params_at_fit.n_noise :])
            for maps in self._noise_maps
        ]
        self._benchmarks = layers_last([noise_scores(x, y).mean(dim=-1) for x, y in pairs])
        self.benchmark_ = self._benchmarks[0]
        self._noise_maps = [first.cpu().numpy() for first, _ in pairs]
        self._warn_if_sparse(inputs)

    def _warn_if_sparse(self, inputs):
        """Warn where the units that were drawn leave most positions without any of them."""
        if self._drawn is None:
            return
        representation = self._representation
        with representation.session():
            maps = self._sampled_maps(representation.tensor(inputs[:_SPARSITY_SAMPLES]))
        for name, point, m in zip(self.layers_, self._points, maps, strict=True):
            n_units = (m != 0).double().mean().item() * len(m)  # at a position
            if n_units < 1 and not self._is_known_map(point):
                warn(
                    f"on average {n_units:.2g} of the n_units={len(m)} output units drawn depend "
                    f"on a position of layer {name!r}, so its noise score and the standard error "
                    "of that are far from those of all units; use n_units=None or leave this layer "
                    "out of layers."
                )

    def _batch_scores(self, x, subsets):
        return self._against_noise(_scaled(self._batch_maps(x, subsets)))

    def _against_noise(self, maps):
        """Noise scores of scaled maps: (n_subsets, b, n_layers)."""
        scores = []
        for m, noise in zip(maps, self._noise_maps, strict=True):
            noise = torch.from_numpy(noise[: len(m)]).to(m.device)
            scores.append(noise_scores(m, noise))
        return layers_last(scores)

    def _map_batches(self, inputs, halves=False):
        """Compute maps of all samples, batch by batch."""
        representation, rows = self._representation, self._rows()
        with representation.session():
            for i in range(0, len(inputs), rows):
                x = representation.tensor(inputs[i : i + rows])
                with samples_from(i):
                    maps = self._batch_maps(x, self._subsets(halves))
                yield maps

    def _batch_maps(self, x, subsets):
        """Compute maps for every layer, from every subset of units: (n_subsets, b, n_positions)."""
        if subsets is None:
            maps = layer_maps(
                self._representation,
                self._representation.bound(self._points),
                x,
                saliency=self._params_at_fit.saliency,
                channel_agg=self._params_at_fit.channel_agg,
                unit_agg=self._params_at_fit.unit_agg,
                rows=self._params_at_fit.batch_size,
            )
            return [m.flatten(1)[None] for m in maps]
        layers = []
        for point, maps in zip(self._points, self._sampled_maps(x), strict=True):
            if self._is_known_map(point):
                layers.append(self._output_map(x).expand(len(subsets), -1, -1))
                continue
            layers.append(
                torch.stack([aggregate(maps[s], self._params_at_fit.unit_agg, 0) for s in subsets])
            )
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

    # -- drift ---------------------------------------------------------------------------------

    def drift(self, X, method="relative"):
        """How far samples have drifted from the data given to ``fit``.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.
        method : {"relative", "distance"}, default="relative"
            ``"relative"``: (N - N(x)) / N, N(x) averaged over layers and N over the fitted data too
            (section 4.4 of the paper). It is positive where samples are looked at more as noise
            is, so it needs samples inside the range of the noise; outside it, samples become
            unlike noise again and it turns negative. ``"distance"``: two-sided, with no such range:
            the Mahalanobis distance, from the fitted data, of three numbers per layer: the noise
            score, the mean absolute difference of the map from the fitted data's mean map, and the
            logarithm of the map's range before it is scaled.

        Returns
        -------
        drift : ndarray of shape (n_samples,)
            0 means no drift.

        Raises
        ------
        ValueError
            If there is no such method, or ``"distance"`` has fewer than 20 fitted samples.
        """
        check_choice("method", method, ("relative", "distance"))
        with self._door(X) as inputs:
            if method == "distance":
                reference = self._reference()
                return reference.distances(self._drift_features(inputs))
            if "mean" not in self._later:
                self._later["mean"] = self._scores(self._fit_inputs)[0].mean()
            usual = self._later["mean"]
            scores = self._scores(inputs)[0].mean(axis=1)
        if usual == 0:
            raise ValueError(
                "every fitted sample has a noise score of 0 at every layer, which nothing can be "
                "relative to; use method='distance'."
            )
        return (usual - scores) / usual

    def drift_pvalue(self, X):
        """P-values of no drift: the rank of ``drift(X, method="distance")`` among fitted samples.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        p_values : ndarray of shape (n_samples,)
            Each, for a sample from the distribution of the data given to ``fit``, is at most p with
            probability p or less (split conformal). At least 2 / (n + 3) for n fitted samples.

        Raises
        ------
        ValueError
            If there are fewer than 20 fitted samples.

        Notes
        -----
        A network may treat the data it was trained on unlike new data: fit on held-out data.
        """
        with self._door(X) as inputs:
            reference = self._reference()
            return reference.p_values(reference.distances(self._drift_features(inputs)))

    def _reference(self):
        """Return the reference of drift, which is computed when it is first needed."""
        if "drift" not in self._later:
            rng = np.random.default_rng([self.seed_, 2])
            first, second = split_in_halves(len(self._fit_inputs), rng)
            self._later["maps"] = self._mean_of_maps(self._fit_inputs[first])
            features = [self._drift_features(self._fit_inputs[half]) for half in (first, second)]
            self._later["drift"] = DriftReference(*features)
        return self._later["drift"]

    def _mean_of_maps(self, inputs):
        """Mean scaled map of samples and its mean range before scaling, for each layer."""
        sums = [[0.0, 0.0] for _ in self._points]
        for maps in self._map_batches(inputs):
            for total, m, scaled in zip(sums, maps, _scaled(maps), strict=True):
                total[0] += scaled[0].double().sum(dim=0)
                total[1] += _ranges(m[0]).sum().item()
        return [((m / len(inputs)).cpu().numpy(), r / len(inputs)) for m, r in sums]

    def _drift_features(self, inputs):
        """Noise score, difference from the mean map and log range: (n, 3 n_layers)."""
        parts = []
        for maps in self._map_batches(inputs):
            scaled = _scaled(maps)
            columns = [*self._against_noise(scaled)[0].T]
            for m, s, (mean, usual) in zip(maps, scaled, self._later["maps"], strict=True):
                mean = torch.from_numpy(mean).to(s.device)
                columns.append((s[0] - mean).abs().mean(dim=-1).cpu().numpy())
                # A map that is constant has no logarithm of its range.
                columns.append(np.log(_ranges(m[0]).cpu().numpy() + 1e-3 * usual + (usual == 0)))
            parts.append(np.stack(columns, axis=1))
        return np.concatenate(parts)

    # -- maps ----------------------------------------------------------------------------------

    def _overall(self, layer_scores):
        return excess_over_benchmark(layer_scores, self._benchmarks[: len(layer_scores)])


def _scaled(maps):
    return [min_max_scaled(m) for m in maps]


def _ranges(maps):
    """Largest minus smallest value of every map."""
    maps = maps.double()
    return maps.amax(dim=-1) - maps.amin(dim=-1)
