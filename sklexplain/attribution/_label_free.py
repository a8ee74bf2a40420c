"""Label-free feature importance."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..explaining import checked_units
from ..utils import (
    FLAG,
    NONE,
    Baseline,
    BatchSize,
    ChannelAxis,
    Choice,
    DeviceLike,
    Groups,
    Integer,
    Integers,
    ModelLike,
    Names,
    Numbers,
    Params,
    RandomState,
    ResponseMethod,
    as_array_like,
    by_blocks,
)
from ._basis import BASIS, check_known, coefficient_names, fitted_basis
from ._contrast import CORPUS, FOIL, SIMILARITIES, Contrast, check_contrast, labelled
from ._judged import JudgedAttributor


class LabelFreeAttributor(JudgedAttributor):
    r"""Which features build a representation.

    For a feature-importance method :math:`a(g, x)` that is linear in the scalar function g, and a
    representation :math:`f(x) \in R^N`, the label-free importance (Crabbé & van der Schaar 2022,
    Definition 2.1) is

    .. math:: b(f, x) = a(g_x, x), \quad g_x(\tilde x) = \langle f(x), f(\tilde x) \rangle
              = \sum_j f_j(x)\, a(f_j, x),

    with f(x) held constant: a single scalar function for each sample, at the cost of the supervised
    method, whatever N is. The complete methods (integrated gradients, DeepLIFT, Shapley sampling,
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
        Submodule whose output is explained, as in ``named_modules()``; ``"rnn[1][0]"`` picks from a
        tuple, ``"enc['mu']"`` from a dict. None: what ``response_method`` says; a module's
        ``forward``.
    response_method : str or list of str, default="auto"
        What of an estimator is explained. ``"auto"``: the first that it has of ``transform``,
        ``predict_proba``, ``decision_function`` and a regressor's ``predict``; labels are refused.
        Or one of ``"transform"``, ``"predict_proba"``, ``"predict_log_proba"``,
        ``"decision_function"``, ``"score_samples"`` and ``"predict"``, or a list of them, of which
        the first that it has counts. With a module or ``layer``, only ``"auto"``.
    method : str, default="integrated_gradients"
        Needing gradients: ``"saliency"`` (signed), ``"input_x_gradient"`` ((x - baseline) times
        the gradient), ``"integrated_gradients"``, ``"gradient_shap"`` (expected gradients),
        ``"smooth_grad"``, ``"deep_lift"`` (rescale rule). Needing only the estimator's output:
        ``"feature_ablation"``, ``"occlusion"``, ``"shapley_sampling"``, ``"kernel_shap"``,
        ``"lime"`` (ridge). Saliency and smooth_grad are derivatives by raw columns at the sample:
        0 for missing values and for what encoders and missing-value indicators make of a column,
        which have none; there, use another method.
    method_params : dict or None, default=None
        ``n_steps`` (50; integrated_gradients); ``n_samples`` (50 for gradient_shap, 25 for
        smooth_grad, 25 orders for shapley_sampling, 2 n_features + 2048 coalitions for kernel_shap
        and lime, or all if kernel_shap has fewer; in both, features of a sample that are as in the
        baseline get 0 and are not counted: words that a text does not have);
        ``noise_level`` (0.1; smooth_grad, in units of the fitted data's range, which is each
        column's own for tables); ``window`` and ``stride`` (occlusion, an integer or one for each
        axis of a sample; by default a tenth of each axis, and half of that); ``alpha``,
        ``kernel_width`` (1.0, 0.25; lime). How far few samples are from endless ones say
        `standard_errors` and `confidence_intervals`.
    baseline : {"mean", "zeros", "background"}, array-like or callable, default="mean"
        What "absent" means: the fitted data's mean; zeros; a fixed random sample of 100 fitted
        rows, averaged over; an array of a sample's shape or of several samples (averaged over); or
        a callable that returns each sample's own baseline, ``baseline(X)`` of X's shape (a blurred
        image, for example), X being an array unless a Pipeline begins with encoders or imputers, or
        all is a black box. Columns that have names are told by them. In raw units, which go through
        a Pipeline's imputers and encoders as samples do; the mean is that of what these return, and
        zeros are none of the categories of a column without numbers, or whose encoder does not know
        0. A black box is given tables as they are: there the mean of text, categories and booleans
        is the most frequent value, and that of integers too if it takes no others. Not used by
        saliency and smooth_grad.
    corpus : array-like, DataFrame, dict or None, default=None
        What samples are to be like (Lin et al. 2023): samples, or ``{"label": value or list}``,
        the fitted samples with these labels in the y of ``fit``: a class, or a cluster. Explained
        is then

        .. math:: g(\tilde x) = \operatorname{mean}_{c \in C} s(f(\tilde x), f(c))
                  - \operatorname{mean}_{v \in F} s(f(\tilde x), f(v)),

        with what is known of the corpus C and the foil F held constant; complete methods share
        :math:`g(x) - g(\bar x)` out. The corpus {x} without a foil is what None is for every x.
    foil : array-like, DataFrame, dict, "rest" or None, default=None
        What samples are to be unlike, in the same forms; "rest": the fitted samples whose labels
        are not in ``corpus``; None: the second term is absent.
    similarity : {"dot", "cosine"}, default="dot"
        s, with a corpus; the cosine of a representation of 0 is 0. Without a foil, and with
        cosines, it depends on where the latent origin lies.
    center : bool, default=False
        Without a corpus, explain :math:`\langle f(x) - f(\bar x), f(\tilde x) \rangle` instead:
        attributions sum to :math:`\|f(x) - f(\bar x)\|^2` and do not depend on where the latent
        origin lies.
    units : array-like of int or None, default=None
        Restrict the inner product to these latent units.
    groups : array-like, dict or None, default=None
        Explain groups of features: labels that broadcast to a sample's shape (see
        `time_segments`), or ``{name: columns}``. Gradient methods sum over a group; perturbation
        methods perturb it as a whole.
    basis : {"dct"}, array-like of shape (T, T) or None, default=None
        Explain coefficients of series of T time steps in a basis along time, each channel by
        itself, instead of time steps: which frequencies build the representation. ``"dct"``: the
        orthonormal discrete cosine transform (type II), of 0, 0.5, 1, ... cycles per series. A
        sinusoid is seldom one of its vectors: neighbouring ones share it. Or orthonormal vectors
        as rows. Maps have the coefficients on the axis of time, as have ``groups``, occlusion's
        windows and the masks of `score`; sums are as without a basis. Baselines and the mean are
        series. Scalers of a Pipeline may stand in front; imputers and encoders may not.
    channel_axis : {"auto"}, int or None, default="auto"
        Axis of one sample's array that holds channels: it names entries, and `score` masks the
        channels of a position together. ``"auto"``: as the network takes them; None: there are
        none.
    absolute : bool, default=False
        Return absolute values of the final map.
    batch_size : int or "auto", default="auto"
        Most rows (samples times steps, or times coalitions) in the network at once. "auto": 1024;
        on a GPU, what its memory holds.
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
    baseline_ : ndarray of shape (n_baselines, ...) or DataFrame or None
        Fitted baseline rows, as they enter the network or black box; None for a callable.
    basis_ : ndarray of shape (T, T) or None
        Vectors of ``basis``, as rows: a series x has the coefficients ``basis_ @ x``.
    mean_ : ndarray or DataFrame of one row
        Mean of the fitted data; what `score` masks with.
    n_units_ : int
        Number of latent units, N.
    feature_importances_ : ndarray of shape (n_features,) or a sample's shape, or (n_groups,)
        Mean absolute attribution over the data given to ``fit``, or a random 1000 of its samples;
        computed when first asked for. The explainer keeps a copy of these samples, and nothing
        else of X.
    groups_ : list of str or None
        Names of the groups.
    n_features_in_, feature_names_in_, input_shape_, seed_
        See `BaseExplainer`.

    See Also
    --------
    sklexplain.metrics.latent_shift_curve : How far masking the important features moves f(x).
    sklexplain.plotting.AttributionDisplay : The map of one sample.
    sklexplain.plotting.ImportanceDisplay : Which features matter over all samples.
    sklexplain.RelevanceMasker : Importance by random masks, of any model.
    sklexplain.EmbeddingAttributor : Where a layer builds a representation.
    sklexplain.AnomalyAttributor : Which features make a sample abnormal.
    sklexplain.metrics.completeness_error : How well maps sum to what they should.

    Notes
    -----
    Cost: `fit` runs about a hundred rows through the network (one for each sample more with a
    corpus of labels). `transform` takes up to three rows for a sample and, for each row of the
    baseline, one for ``"saliency"``, ``"input_x_gradient"`` and ``"deep_lift"``, ``n_steps``
    for integrated gradients, ``n_samples`` for gradient SHAP, SmoothGrad, KernelSHAP and LIME,
    one for each feature or window for ablation and occlusion, and ``n_samples`` times (features
    + 1) for Shapley sampling. Methods that need gradients run as many rows backward. `score`
    takes up to 65 rows a sample more.

    References
    ----------
    .. [1] J. Crabbé, M. van der Schaar, "Label-Free Explainability for Unsupervised Models",
       ICML 2022.
    .. [2] C. Lin, H. Chen, C. Kim, S.-I. Lee, "Contrastive Corpus Attribution for Explaining
       Representations", ICLR 2023.

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

    What makes samples like one cluster, and unlike the others:

    >>> y = (X[:, 1] > 0).astype(int)
    >>> contrast = LabelFreeAttributor(PCA(n_components=2), corpus={"label": 1}, foil="rest")
    >>> int(contrast.fit(X, y).feature_importances_.argmax())
    1

    Which frequency of a series, here one of 3 cycles:

    >>> import torch
    >>> wave = np.cos(np.pi * (2 * np.arange(32) + 1) * 3 / 32)
    >>> series = np.random.RandomState(0).normal(size=(100, 1, 32)).astype("float32")
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32, 1))
    >>> _ = net[1].weight.data.copy_(torch.tensor(wave))
    >>> explainer = LabelFreeAttributor(net, basis="dct").fit(series)
    >>> explainer.get_feature_names_out()[explainer.feature_importances_.argmax()]
    'ch0_cycles3'
    """

    _parameter_constraints = {
        "corpus": CORPUS,
        "foil": FOIL,
        "similarity": [Choice(*SIMILARITIES)],
        "center": [FLAG],
        "basis": BASIS,
        "units": [Integer(-(2**31), 2**31), Numbers("a list of integers"), NONE],
    }

    def __init__(
        self,
        estimator: ModelLike,
        *,
        layer: str | None = None,
        response_method: ResponseMethod = "auto",
        method: str = "integrated_gradients",
        method_params: Params = None,
        baseline: Baseline = "mean",
        corpus: ArrayLike | dict[str, Any] | None = None,
        foil: Literal["rest"] | ArrayLike | dict[str, Any] | None = None,
        similarity: Literal["dot", "cosine"] = "dot",
        center: bool = False,
        units: int | Integers | None = None,
        groups: Groups = None,
        basis: Literal["dct"] | ArrayLike | None = None,
        channel_axis: ChannelAxis = "auto",
        absolute: bool = False,
        batch_size: BatchSize = "auto",
        device: DeviceLike | None = None,
        random_state: RandomState = None,
        verbose: int | bool = 0,
    ) -> None:
        self.estimator = estimator
        self.layer = layer
        self.response_method = response_method
        self.method = method
        self.method_params = method_params
        self.baseline = baseline
        self.corpus = corpus
        self.foil = foil
        self.similarity = similarity
        self.center = center
        self.units = units
        self.groups = groups
        self.basis = basis
        self.channel_axis = channel_axis
        self.absolute = absolute
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # -- fit -----------------------------------------------------------------------------------

    def _check_params(self):
        super()._check_params()
        check_contrast(self.corpus, self.foil, self.similarity, self.center)

    def _fit(self, samples, y):
        """Learn from validated samples.

        Warns
        -----
        UnreachedInputWarning
            If a method that needs gradients is used although no gradient reaches some inputs that
            the representation depends on.
        """
        inputs = samples.inputs
        representation, params = self._representation, self._params_at_fit
        self._learn_features()
        self._basis = fitted_basis(params.basis, self._sample, representation)
        self.basis_ = None if self._basis is None else self._basis.matrix
        self.n_units_ = representation.n_units
        self._units = checked_units(params.units, self.n_units_, distinct=True)
        self._contrast = None if params.corpus is None else self._fitted_contrast(inputs, y)
        self._learn_baseline(inputs)
        if self._basis is not None:
            check_known(inputs, "sample")
            if self._baseline is not None:
                check_known(self._baseline, "row of baseline")
        self._make_engine(inputs, self._baseline)
        self._keep_for_importances(samples)
        self._warn_of_unreached(inputs, lambda x: representation(x)[:, self._units])

    @property
    def _keeps_results(self):
        """Whether something of the network is kept: the mean representation of a corpus."""
        return self._params_at_fit.corpus is not None

    def _fitted_contrast(self, inputs, y):
        params, representation = self._params_at_fit, self._representation
        rows = labelled(params.corpus, params.foil, y, len(inputs))
        latents = []
        for name, chosen in zip(("corpus", "foil"), rows, strict=True):
            given = getattr(params, name)
            if chosen is not None:
                samples = inputs[chosen]
            elif given is None:
                latents.append(None)
                continue
            else:
                samples = self._given_samples(name, given)
            latents.append(representation.activations(samples, params.batch_size))
        return Contrast(params.similarity, self._units).fit(*latents)

    def _given_samples(self, name, given):
        """Return samples that are given as a parameter as they enter the network."""
        given = as_array_like(given, name)
        is_one = not hasattr(given, "columns") and np.shape(given) == self.input_shape_
        try:
            given = self._like_fitted(np.asarray(given)[None] if is_one else given)
            return self._cast(self._representation.inputs(given))
        except (ValueError, TypeError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{name} cannot be taken as samples: {error}") from error

    # -- explaining ----------------------------------------------------------------------------

    def _transform(self, samples):
        """Label-free importance of every feature of every sample.

        Returns
        -------
        attributions : ndarray of X's shape, or (n_samples, n_groups)
            Of the network's dtype, float32 of half precision. With ``set_output``, a DataFrame with
            a column for each number.

        Raises
        ------
        NotFittedError
            If called before ``fit``.
        ValueError
            If X does not have the fitted shape or holds infinity, or NaN that the network does not
            take; or if gradients are not finite, as they are where values are missing.

        Warns
        -----
        ConvergenceWarning
            If attributions of a complete method miss their sum by more than 5 % for some samples.
        """
        return self._mapped(samples)

    @by_blocks(lambda self, units=None: self._form_of_units(units))
    def unit_attributions(self, X: ArrayLike, units: int | Integers | None = None) -> np.ndarray:
        """Explain single latent units: a(f_j, x), one map for each (section 4.3 of the paper).

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

        Warns
        -----
        ConvergenceWarning
            If attributions of a complete method miss their sum by more than 5 % for some samples.
        """
        with self._door(X) as samples:
            units = self._units if units is None else checked_units(units, self.n_units_)
            return self._maps(samples, **self._of_units(units))

    def _form_of_units(self, units):
        n_units = len(self._units if units is None else checked_units(units, self.n_units_))
        shape, dtype = self._row_form()
        return (n_units, *shape), dtype

    def _unit_estimates(self, X, units):
        """Return maps of single units, and how sure they are: (n, n_units, ...) each."""
        with self._door(X) as samples:
            return self._run_engine(samples, **self._of_units(units), with_spread=True)

    def _run_engine(self, samples, cotangents, **options):
        if self._basis is not None:
            check_known(samples.inputs, "sample")
        return super()._run_engine(samples, cotangents, **options)

    def _of_units(self, units):
        return {"cotangents": lambda rows, z, z_ref: self._cotangents(z, z_ref, units)}

    def _function(self):
        if self._contrast is None:
            return self._of_units(None)
        representation, contrast = self._representation, self._contrast
        return {
            "cotangents": lambda rows, z, z_ref: contrast.cotangents(z),
            "encode": lambda x: contrast.scaled(representation(x)),
        }

    def _cotangents(self, z, z_ref, units):
        if units is not None:
            eye = torch.eye(self.n_units_, dtype=z.dtype, device=z.device)[units]
            return eye.expand(len(z), -1, -1)
        u = z - z_ref() if self._params_at_fit.center else z
        if len(self._units) < self.n_units_:
            chosen = torch.zeros_like(u)
            chosen[:, self._units] = u[:, self._units]
            u = chosen
        return u[:, None]

    # -- what is shown -------------------------------------------------------------------------

    def get_feature_names_out(self, input_features: Names | None = None) -> np.ndarray:
        """Names of the columns of `transform` under ``set_output``.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Column names of two-dimensional X, checked against those seen in ``fit``.

        Returns
        -------
        names : ndarray of str
            Column names, group names, or ``ch0_t12`` for entries of series; with a basis
            ``ch0_cycles0.5`` for its coefficient of half a cycle per series, or ``ch0_c1`` where
            its vectors are given.
        """
        names = super().get_feature_names_out(input_features)
        if self._basis is None or self.groups_ is not None:
            return names
        return coefficient_names(self._sample, self._basis)
