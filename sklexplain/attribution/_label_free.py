"""Label-free feature importance."""

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from ..base import BaseExplainer
from ..exceptions import ConvergenceWarning
from ..explaining import (
    BASELINES,
    GRADIENT_METHODS,
    METHODS,
    PERTURBATION_METHODS,
    Engine,
    checked_params,
    checked_units,
    completeness_sums,
    data_mean,
    given_baseline,
    named_baseline,
    own_baselines,
    resolve_groups,
    sum_by,
)
from ..representation import no_gradient_reason
from ..utils import check_choice, check_finite, warn
from ._latent_shift import latent_shift_curve

_MAX_COMPLETENESS_ERROR = 0.05


class LabelFreeAttributor(BaseExplainer):
    r"""Which features build a representation.

    For a feature-importance method :math:`a(g, x)` that is linear in the scalar function g, and a
    representation :math:`f(x) \in R^N`, the label-free importance (Crabbé & van der Schaar 2022,
    Definition 2.1) is

    .. math:: b(f, x) = a(g_x, x), \quad g_x(\tilde x) = \langle f(x), f(\tilde x) \rangle
              = \sum_j f_j(x)\, a(f_j, x),

    with f(x) held constant: one scalar function a sample, at the cost of the supervised method,
    whatever N is. The complete methods (integrated gradients, DeepLIFT, Shapley sampling,
    KernelSHAP; gradient SHAP in expectation) share :math:`\|f(x)\|^2 - \langle f(x), f(\bar x)
    \rangle` out among the features (Proposition 2.3), and a rotation of the latent space changes
    nothing.

    Parameters
    ----------
    estimator : nn.Module, skorch net, scikit-learn estimator or Pipeline
        What is explained. A module or a fitted estimator is explained as it is and never changed;
        of an unfitted estimator a clone is fitted in ``fit``. Through a Pipeline, attributions are
        in units of the raw columns.
    layer : str or None, default=None
        Submodule whose output is explained, as in ``named_modules()``; ``"rnn[1][0]"`` picks from
        a tuple. None: what ``transform``, else ``predict_proba``, else ``predict`` returns; a
        module's ``forward``.
    method : str, default="integrated_gradients"
        Needing gradients: ``"saliency"`` (signed), ``"input_x_gradient"`` ((x - baseline) times
        the gradient), ``"integrated_gradients"``, ``"gradient_shap"`` (expected gradients),
        ``"smooth_grad"``, ``"deep_lift"`` (rescale rule). Needing only the estimator's output:
        ``"feature_ablation"``, ``"occlusion"``, ``"shapley_sampling"``, ``"kernel_shap"``,
        ``"lime"`` (ridge).
    method_params : dict or None, default=None
        ``n_steps`` (50; integrated_gradients); ``n_samples`` (50 for gradient_shap, 25 for
        smooth_grad, 25 orders for shapley_sampling, 2 n_features + 2048 coalitions for kernel_shap
        and lime, fewer where that is all there are); ``noise_level`` (0.1; smooth_grad, in ranges
        of the fitted data, a column's own for tables); ``window`` and ``stride`` (occlusion, an
        integer or one a sample axis; by default a tenth of each axis, and half of that);
        ``alpha``, ``kernel_width`` (1.0, 0.25; lime).
    baseline : {"mean", "zeros", "background"}, array-like or callable, default="mean"
        What "absent" means: the fitted data's mean; zeros; a fixed random sample of 100 fitted
        rows, averaged over; an array of a sample's shape or of several samples (averaged over); or
        a callable that returns each sample's own baseline, ``baseline(X)`` of X's shape (a blurred
        image, for example). In raw units. Not used by saliency and smooth_grad.
    center : bool, default=False
        Explain :math:`\langle f(x) - f(\bar x), f(\tilde x) \rangle` instead: attributions sum to
        :math:`\|f(x) - f(\bar x)\|^2` and do not depend on where the latent origin lies.
    units : array-like of int or None, default=None
        Restrict the inner product to these latent units.
    groups : array-like, dict or None, default=None
        Explain groups of features: labels that broadcast to a sample's shape (see
        `time_segments`), or ``{name: columns}``. Gradient methods sum over a group; perturbation
        methods perturb it as a whole.
    absolute : bool, default=False
        Return absolute values of the final map.
    batch_size : int, default=1024
        Most rows (samples times steps, or times coalitions) in the network at once.
    device : str, torch.device or None, default=None
        Where to run; None: where the model is.
    random_state : int, RandomState instance or None, default=None
        Draws (noise, baselines, coalitions) are common to all samples and depend on this only.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    estimator_ : nn.Module or estimator
        The fitted estimator that is explained.
    baseline_ : ndarray of shape (n_baselines, ...) or None
        Fitted baseline rows, as they enter the network or black box; None for a callable.
    mean_ : ndarray
        Mean of the fitted data; what `score` masks with.
    n_units_ : int
        Number of latent units, N.
    feature_importances_ : ndarray of shape (n_features,) or a sample's shape, or (n_groups,)
        Mean absolute attribution over the data given to ``fit``; computed when first asked for.
    groups_ : list of str or None
        Names of the groups.
    n_features_in_, feature_names_in_, input_shape_, seed_
        See `BaseExplainer`.

    See Also
    --------
    sklexplain.metrics.latent_shift_curve : How far masking the important features moves f(x).

    References
    ----------
    .. [1] J. Crabbé, M. van der Schaar, "Label-Free Explainability for Unsupervised Models",
       ICML 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from sklexplain import LabelFreeAttributor
    >>> X = np.random.RandomState(0).normal(size=(100, 4)) * [3, 1, 1, 0]
    >>> explainer = LabelFreeAttributor(PCA(n_components=2)).fit(X)
    >>> explainer.transform(X).shape
    (100, 4)
    >>> int(explainer.feature_importances_.argmax())
    0
    """

    def __init__(
        self,
        estimator,
        *,
        layer=None,
        method="integrated_gradients",
        method_params=None,
        baseline="mean",
        center=False,
        units=None,
        groups=None,
        absolute=False,
        batch_size=1024,
        device=None,
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.layer = layer
        self.method = method
        self.method_params = method_params
        self.baseline = baseline
        self.center = center
        self.units = units
        self.groups = groups
        self.absolute = absolute
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # -- fit -----------------------------------------------------------------------------------

    def _check_params(self):
        super()._check_params()
        check_choice("method", self.method, METHODS)
        if isinstance(self.baseline, str):
            check_choice("baseline", self.baseline, BASELINES)
        self._params = checked_params(self.method, self.method_params)

    def _fit(self, inputs, y):
        representation = self._representation
        head = representation.head
        if self.method in GRADIENT_METHODS and not representation.differentiable:
            reason, others = no_gradient_reason(representation), list(PERTURBATION_METHODS)
            raise TypeError(
                f"method={self.method!r} needs gradients, but {reason}; use one of {others}."
            )
        self.n_units_ = representation.n_units
        self._units = checked_units(self.units, self.n_units_)
        names = getattr(self, "feature_names_in_", None)
        # Which feature (raw column, position) an entry of the inputs belongs to.
        entries = np.arange(int(np.prod(self.input_shape_))).reshape(self.input_shape_)
        self.groups_ = None
        if self.groups is not None:
            entries, self.groups_ = resolve_groups(self.groups, self.input_shape_, names)
        # Counted before the head: a column that it drops is still a feature, of no importance.
        self._n_features = int(entries.max()) + 1
        self._players = entries if head is None else entries[head.columns]
        self.mean_ = data_mean(inputs, integers=representation.takes_integers)
        self.baseline_ = None
        if not callable(self.baseline):
            self.baseline_ = self._fitted_baseline(inputs)
        self._engine = Engine(
            self.method,
            self._params,
            n_references=1 if self.baseline_ is None else len(self.baseline_),
            players=self._players,
            n_players=self._n_features,
            window_shape=None if self.groups is not None or head is not None else inputs.shape[1:],
            noise_std=self._noise_std(inputs),
            seed=self.seed_,
        )
        self._fit_inputs = inputs
        self._importances = None

    def _noise_std(self, inputs):
        """Return the standard deviation of SmoothGrad's noise, in ranges of the data."""
        if self.method != "smooth_grad":
            return None
        axis = 0 if inputs.ndim == 2 else None
        spread = inputs.max(axis=axis) - inputs.min(axis=axis)
        std = self._params["noise_level"] * spread.astype(np.float64)
        return np.broadcast_to(std, inputs.shape[1:]).copy()

    def _fitted_baseline(self, inputs):
        """Rows that stand for absence, as they enter the network: (n_baselines, ...)."""
        if isinstance(self.baseline, str):
            integers = self._representation.takes_integers
            return named_baseline(self.baseline, inputs, self.mean_, integers, self.seed_)
        baseline = given_baseline(self.baseline, self.input_shape_)
        baseline = np.asarray(self._representation.inputs(baseline))
        check_finite(baseline, None, self)
        return baseline

    # -- explaining ----------------------------------------------------------------------------

    def transform(self, X):
        """Label-free importance of every feature of every sample.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples, of the shape given to ``fit``.

        Returns
        -------
        attributions : ndarray of X's shape, or (n_samples, n_groups)
            Of the network's dtype. With ``set_output``, a DataFrame with one column an entry.

        Raises
        ------
        NotFittedError
            If called before ``fit``.
        ValueError
            If X does not have the fitted shape or holds NaN or infinity.

        Warns
        -----
        ConvergenceWarning
            If attributions of integrated gradients or DeepLIFT miss their sum by more than 5 %.
        """
        return self._output(self._transform(self._inputs(X)))

    def _transform(self, inputs):
        return self._explain(inputs, None)[:, 0]

    def unit_attributions(self, X, units=None):
        """Explain single latent units: a(f_j, x), one map a unit (section 4.3 of the paper).

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.
        units : array-like of int or None, default=None
            Which units; None: all, or those in ``units`` of the constructor.

        Returns
        -------
        attributions : ndarray of shape (n_samples, n_units, *X.shape[1:]) or \
                (n_samples, n_units, n_groups)

        Raises
        ------
        NotFittedError
            If called before ``fit``.
        ValueError
            If a unit does not exist.
        """
        inputs = self._inputs(X)
        units = self._units if units is None else checked_units(units, self.n_units_)
        return self._explain(inputs, units)

    def _explain(self, inputs, units):
        """Compute maps of <f(x), f(.)> (units None), or of chosen units: (n, k, ...)."""
        representation = self._representation
        rows = representation.block_rows(self.batch_size)
        # Enough samples at once to fill a block; the engines divide further.
        chunks = range(0, len(inputs), rows)
        maps, sums = [], np.zeros(2)
        with representation.session(), torch.no_grad():
            attribute = self._engine.on(representation, rows)
            fitted = None
            if not callable(self.baseline):
                fitted = representation.tensor(self.baseline_)[None]  # (1, K, ...)
            for i in tqdm(chunks, desc=self.method, disable=not self.verbose):
                batch = inputs[i : i + rows]
                x = representation.tensor(batch)
                references = fitted
                if references is None:  # each sample's own: (b, 1, ...)
                    references = representation.tensor(own_baselines(self.baseline, batch))[:, None]
                z, z_ref = representation(x), self._reference_latents(references, rows)
                cotangents = self._cotangents(z, z_ref, units)
                result = attribute(x, references, cotangents)
                sums += completeness_sums(result, z, z_ref, cotangents)
                maps.append(self._to_features(result))
        self._warn_incomplete(*sums)
        maps = np.concatenate(maps)
        return np.abs(maps) if self.absolute else maps

    def _reference_latents(self, references, rows):
        """Mean representation of the references: (1, N) or (b, N)."""
        flat = references.flatten(0, 1)
        z = torch.cat([self._representation(flat[i : i + rows]) for i in range(0, len(flat), rows)])
        return z.view(*references.shape[:2], -1).mean(dim=1)

    def _cotangents(self, z, z_ref, units):
        if units is not None:
            eye = torch.eye(self.n_units_, dtype=z.dtype, device=z.device)[units]
            return eye.expand(len(z), -1, -1)
        u = z - z_ref if self.center else z
        if self.units is not None:
            chosen = torch.zeros_like(u)
            chosen[:, self._units] = u[:, self._units]
            u = chosen
        return u[:, None]

    def _to_features(self, maps):
        """From entries of the inputs to features or groups, on the CPU: (b, k, ...)."""
        maps = maps.cpu().numpy()
        if self.method in GRADIENT_METHODS:
            head = self._representation.head
            if head is not None and self.method in ("saliency", "smooth_grad"):
                maps = maps * head.slopes  # gradients in units of the raw column
            if head is not None or self.groups is not None:
                maps = sum_by(self._players, maps, self._n_features)
        if self.groups is None:
            maps = maps.reshape(*maps.shape[:2], *self.input_shape_)
        dtype = str(self._representation.output_dtype).removeprefix("torch.")
        return maps.astype(dtype, copy=False)

    def _warn_incomplete(self, missed, total):
        if self.method not in ("integrated_gradients", "deep_lift") or total == 0:
            return
        error = missed / total
        if error > _MAX_COMPLETENESS_ERROR:
            fix = "raise method_params['n_steps']"
            if self.method == "deep_lift":
                fix = "the network has operations without a rescale rule: use integrated_gradients"
            warn(
                f"{self.method} attributions miss the sum they should have by {error:.0%}; {fix}.",
                ConvergenceWarning,
            )

    # -- judging -------------------------------------------------------------------------------

    @property
    def feature_importances_(self):
        """Mean absolute attribution over the data given to ``fit``."""
        check_is_fitted(self)
        if self._importances is None:
            self._importances = np.abs(self._transform(self._fit_inputs)).mean(axis=0)
        return self._importances

    def latent_shift(self, X, n_random=10):
        """Latent shift as features are masked, most and least important first (Fig. 2).

        Features are masked with the fitted mean, whatever ``baseline`` is, so that settings
        compare fairly.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.
        n_random : int, default=10
            Number of random orders to compare with, common to all samples.

        Returns
        -------
        curve : Bunch
            See `sklexplain.metrics.latent_shift_curve`.
        """
        inputs = self._inputs(X)
        representation = self._representation
        attributions = self._transform(inputs)
        channel_axis = None
        if self.groups is not None or representation.head is not None:
            features = self._players
        else:
            features = None
            channel_axis = representation.channel_axis(inputs.ndim)
        units = self._units

        def encode(rows):
            return representation.activations(rows, self.batch_size)[:, units]

        return latent_shift_curve(
            encode,
            inputs,
            attributions,
            mask_value=self.mean_,
            channel_axis=channel_axis,
            groups=features,
            n_random=n_random,
            random_state=self.seed_,
            batch_size=self.batch_size,
        )

    def score(self, X, y=None):
        """Area under the latent-shift curve over that of random masking; needs no labels.

        It compares explanations of one representation, never two representations.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples, best held out.
        y : object, default=None
            Ignored.

        Returns
        -------
        score : float
            1 is chance; higher is better.

        Warns
        -----
        UserWarning
            If masking moves nothing at all; the score is 1 then.
        """
        return float(self.latent_shift(X).area_ratio)

    def get_feature_names_out(self, input_features=None):
        """Names of the columns of `transform` under ``set_output``.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Column names of two-dimensional X, checked against those seen in ``fit``.

        Returns
        -------
        names : ndarray of str
            Column names, group names, or ``ch0_t12`` for entries of series.
        """
        check_is_fitted(self)
        if self.groups_ is not None:
            return np.asarray(self.groups_, dtype=object)
        if len(self.input_shape_) == 1:
            from sklearn.utils.validation import _check_feature_names_in

            return _check_feature_names_in(self, input_features)
        axis = self._representation.channel_axis(len(self.input_shape_) + 1)
        return sample_feature_names(self, axis)
