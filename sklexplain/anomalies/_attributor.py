"""Which features make a sample anomalous."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import _safe_indexing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ..base_attributor import BaseAttributor, Samples
from ..explaining import (
    BASELINES,
    fall_curve,
    fall_ratio,
    fitted_baseline,
    raw_baselines,
)
from ..representation import is_fitted, score_methods, with_residuals
from ..utils import (
    ARRAY,
    CALLABLE,
    MAPPING,
    ArrayOrFrame,
    Baseline,
    BatchSize,
    ChannelAxis,
    Choice,
    DeviceLike,
    Groups,
    Integer,
    ModelLike,
    Number,
    Params,
    RandomState,
    Rows,
    kept_rows,
)
from ._calibration import held_out_rows, rows_of_params, takes_groups
from ._detector import CalibratedDetector
from ._references import References, ReferencesByRows
from ._scores import OF_RESIDUALS, SCORES

OWN_BASELINES = ("auto", "neighbors", "reconstruction")
_MOST_REFERENCES = 10  # of common baseline rows that `score` puts features back to


class _Given(NamedTuple):
    """Samples as they enter the network, and in raw units."""

    inputs: np.ndarray
    X: object


def _reconstructs(explainer):
    fitted = hasattr(explainer, "estimator_")
    kind = explainer._kind if fitted else explainer.score_function
    if isinstance(kind, str) and kind in ("auto", *OF_RESIDUALS):
        return True
    raise AttributeError(
        f"residuals are of a model that reconstructs, but score_function={kind!r} here."
    )


class AnomalyAttributor(CalibratedDetector, BaseAttributor):
    r"""Which features make a sample anomalous, and how sure it is that it is one.

    A score s(x) says how abnormal a sample is: how badly a model of normal data reconstructs it,
    or what a detector makes of it. It is shared out among the features by any attribution method,
    from a *normal* reference b(x),

    .. math:: a_i(x) = \int_0^1 (x_i - b_i(x))\, \partial_i s(b + t (x - b))\, dt, \qquad
              \sum_i a_i(x) = s(x) - s(b(x)),

    and `pvalue` says how often a normal sample is that abnormal. **This holds for samples that the
    model was not trained on only**: of an unfitted estimator a part of X is held back in ``fit``; a
    fitted one has to be given *other* normal data than it was trained on. Calibrated on its own
    training data, an autoencoder of breast cancer's columns called 21 % of new patients abnormal
    where 5 % were meant.

    Parameters
    ----------
    estimator : nn.Module, skorch net, scikit-learn estimator or Pipeline
        A model of normal data: one that reconstructs (``transform`` and ``inverse_transform``, or a
        network whose output has the shape of its input), or a detector of outliers. A module or a
        fitted estimator is explained as it is and never changed; of an unfitted one a clone is
        fitted in ``fit``. Through a Pipeline, attributions are in units of the raw columns.
    score_function : {"auto", "reconstruction", "largest_residual", "decision"} or callable, \
            default="auto"
        What s is. ``"reconstruction"``: the mean of squares of x minus its reconstruction, in the
        space where the autoencoder takes it (behind the Pipeline's scalers and encoders).
        ``"largest_residual"``: the largest of these squares, each over its mean among the samples
        that the model was fitted on (a fitted model: that are given to ``fit``). It finds more of
        the samples in which one column is out of line, which a mean over all columns dilutes, and
        fewer of those in which all are a little.
        ``"decision"``: minus ``score_samples``, else minus ``decision_function`` (plus that of
        PyOD's detectors, whose sign is the other one). A callable: of the estimator's output, from
        a tensor (b, N) to (b,), larger for what is more abnormal. ``"auto"``: ``"decision"`` of
        detectors, else ``"reconstruction"``.
    contamination : float, default=0.05
        Share of normal samples below the threshold of `predict`, in (0, 0.5].
    baseline : {"auto", "neighbors", "reconstruction", "mean", "zeros", "background"}, array-like \
            or callable, default="auto"
        What a sample is compared with. ``"neighbors"``: the mean of the `n_neighbors` normal
        samples nearest to it, none of them a copy of itself. ``"reconstruction"``: what the model
        makes of it. ``"mean"``, ``"zeros"``, ``"background"``, an array and a callable are those of
        `LabelFreeAttributor`, of the samples that the estimator was fitted on. ``"auto"``:
        ``"reconstruction"`` where there is one, else ``"neighbors"``: planted anomalies are found
        equally well from both (on three tables and heartbeats, AUROC differs by at most 0.014 in
        the mean), by the first with less work.
    n_neighbors : int, default=10
        How many neighbours; all where there are fewer.
    layer : str or None, default=None
        Submodule whose output is the code, in which neighbours are found and which a callable is
        given. None: ``transform``, the ``encoder`` of a module; where there is no code, neighbours
        are found in standardised columns (values of columns without numbers match or do not).
    method : str, default="integrated_gradients"
        As in `LabelFreeAttributor`. Detectors without torch form (IsolationForest, LOF) need one
        of the methods that need the output only, such as ``"kernel_shap"``.
    method_params : dict or None, default=None
        As in `LabelFreeAttributor`.
    groups : array-like, dict or None, default=None
        As in `LabelFreeAttributor`: groups of columns, or `time_segments`. Anomalies of series are
        found in segments, not in single time steps.
    calibration : float, default=0.3
        Share of X that an unfitted estimator is not trained on, at random (whole groups, if ``fit``
        is given ``groups``, which go on to an estimator whose own ``fit`` takes them), in (0, 1).
        A fitted one is calibrated on all of X.
    channel_axis : {"auto"}, int or None, default="auto"
        As in `LabelFreeAttributor`.
    absolute : bool, default=False
        Return absolute values of the final map.
    batch_size : int or "auto", default="auto"
        Most rows (samples times steps, or times coalitions) in the network at once. "auto": 1024;
        on a GPU, what its memory holds.
    device : str, torch.device or None, default=None
        Where to run; None: where the model is.
    random_state : int, RandomState instance or None, default=None
        Of what is held back, and of the method's draws, which are common to all samples.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    estimator_ : nn.Module or estimator
        The fitted estimator that is explained.
    calibration_scores_ : ndarray of shape (n_calibration,)
        `score_samples` of the normal samples that p-values compare with, in ascending order.
    offset_ : float
        Their quantile at ``contamination``, the threshold of `predict`.
    baseline_ : ndarray of shape (n_baselines, ...) or DataFrame or None
        Baseline rows, as they enter the network or black box; None where each sample has its own.
    feature_importances_ : ndarray of shape (n_features,) or a sample's shape, or (n_groups,)
        Mean absolute attribution over the data given to ``fit``, or a random 1000 of its samples;
        computed when first asked for.
    groups_ : list of str or None
        Names of the groups.
    n_features_in_, feature_names_in_, input_shape_, seed_
        See `BaseExplainer`.

    See Also
    --------
    LabelFreeAttributor : Which features build a representation; it does not find anomalies.
    sklexplain.attribution.time_segments : Groups of time steps.
    sklexplain.plotting.AnomalyDisplay : One sample beside its reference.
    sklexplain.NoiseScorer : Drift of series and images by what a network looks at.

    Notes
    -----
    The reference is one row, so that attributions sum to s(x) - s(b(x)); s(b(x)) is not 0 where a
    network reconstructs its reconstruction anew. For PCA, from its mean,
    a = (x - mu) * [(I - V V')(x - mu)] / d; from the reconstruction, a is the squared residual over
    d itself. In general squared residuals find a planted column equally well; attributions add raw
    columns behind a Pipeline, groups, detectors without residuals, and a sum that is known. What
    is both legal and likely in a column cannot be told from normal by either.

    With ``baseline="neighbors"`` the fitted normal samples are kept.

    Cost: `fit` runs about a hundred rows and every sample up to three times through the network,
    beside the training of an unfitted estimator. `pvalue` and `predict` run a sample once,
    `transform` with integrated gradients ``n_steps`` times, forward and backward, and up to three
    times more; other methods are as in `LabelFreeAttributor`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from sklexplain import AnomalyAttributor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(300, 5))
    >>> explainer = AnomalyAttributor(PCA(2), random_state=0).fit(X)
    >>> odd = X[:1] + [0, 0, 0, 2, 0]
    >>> int(explainer.transform(odd).argmax())
    3
    >>> bool(explainer.pvalue(odd)[0] < 0.05), int(explainer.predict(odd)[0])
    (True, -1)
    """

    _keeps_results = True
    _own_fit_params = ("groups",)
    __metadata_request__fit = {"groups": True}  # the same, as scikit-learn is told
    _not_saved = (*BaseAttributor._not_saved, "_other_of_fit")
    _kept_arrays = ("_references",)  # the corpus of neighbours

    _reads_rows = True

    _parameter_constraints = {
        "score_function": [Choice(*SCORES), CALLABLE],
        "contamination": [Number(above=0, at_most=0.5)],
        "baseline": [Choice(*OWN_BASELINES, *BASELINES), CALLABLE, ARRAY, MAPPING],
        "n_neighbors": [Integer()],
        "calibration": [Number(above=0, below=1)],
    }

    def __init__(
        self,
        estimator: ModelLike,
        *,
        score_function: Literal["auto", "reconstruction", "largest_residual", "decision"]
        | Callable[..., Any] = "auto",
        contamination: float = 0.05,
        baseline: Baseline = "auto",
        n_neighbors: int = 10,
        layer: str | None = None,
        method: str = "integrated_gradients",
        method_params: Params = None,
        groups: Groups = None,
        calibration: float = 0.3,
        channel_axis: ChannelAxis = "auto",
        absolute: bool = False,
        batch_size: BatchSize = "auto",
        device: DeviceLike | None = None,
        random_state: RandomState = None,
        verbose: int | bool = 0,
    ) -> None:
        self.estimator = estimator
        self.score_function = score_function
        self.contamination = contamination
        self.baseline = baseline
        self.n_neighbors = n_neighbors
        self.layer = layer
        self.method = method
        self.method_params = method_params
        self.groups = groups
        self.calibration = calibration
        self.channel_axis = channel_axis
        self.absolute = absolute
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # -- what is explained ---------------------------------------------------------------------

    def _fitted_estimator(self, X, y, fit_params):
        self._held_out = None
        if is_fitted(self.estimator) is not False:
            return super()._fitted_estimator(X, y, fit_params)
        groups = fit_params.get("groups")
        train, held = held_out_rows(X, self.calibration, groups, self.seed_)
        self._held_out = train, held
        y = None if y is None else _safe_indexing(y, train)
        part = rows_of_params(fit_params, train, len(train) + len(held))
        if "groups" in part and not takes_groups(self.estimator):
            del part["groups"]  # they said what to hold back, which is all that they can
        return super()._fitted_estimator(_safe_indexing(X, train), y, part)

    @property
    def _represented(self):
        if self._kind in OF_RESIDUALS:
            return with_residuals(self.estimator_)
        return self.estimator_

    def _explained(self):
        kind = self._kind
        if kind == "decision":
            return {"layer": None, "response_method": score_methods(self.estimator_)}
        return {"layer": self._params_at_fit.layer if kind == "callable" else None}

    # -- fit -----------------------------------------------------------------------------------

    def _handed(self, inputs, X):
        return _Given(inputs, X)

    def _fit(self, given, y):
        """Learn from validated samples.

        Raises
        ------
        ValueError
            If a detector's scores have the wrong sign, or there is no way back to X's columns for
            the baseline that was asked for.

        Warns
        -----
        SklexplainWarning
            If there are too few calibration samples for a p-value below ``contamination``, or all
            of them are reconstructed but for rounding.
        UnreachedInputWarning
            If a method that needs gradients is used although no gradient reaches some inputs that
            the score depends on.
        """
        inputs, X = given
        everything = np.arange(len(inputs))
        train, held = (everything, everything) if self._held_out is None else self._held_out
        self._held_out = None
        self._kind_at_fit = self._kind
        self._learn_features()
        self._settle_sign(inputs[train], _safe_indexing(X, train))
        self._learn_size(inputs[train])
        self._calibrate(inputs[held], own_size=held is train)
        self._warn_if_exact(inputs[held])
        corpus = inputs[train]
        self._baseline = self._learn_baseline(corpus, X, train)
        self._make_engine(corpus, self._baseline)
        rows = kept_rows(everything, self.seed_)
        self._keep_for_importances(self._samples(_Given(inputs[rows], _safe_indexing(X, rows))))
        self._warn_of_unreached(corpus, self._encode)

    def _learn_baseline(self, corpus, X, train):
        """Return baseline rows; None where each sample has its own reference."""
        params, representation = self._params_at_fit, self._representation
        baseline, self._references = params.baseline, None
        if isinstance(baseline, str) and baseline in OWN_BASELINES:
            self._references = References(self, baseline, corpus, X, train)
            return None
        return fitted_baseline(
            baseline,
            representation,
            corpus,
            mean=self._fitted_mean(corpus),
            input_shape=self.input_shape_,
            seed=self.seed_,
            estimator=self,
        )

    # -- explaining ----------------------------------------------------------------------------

    def _transform(self, given):
        """Share the score of every sample out among its features.

        Returns
        -------
        attributions : ndarray of X's shape, or (n_samples, n_groups)
            Positive for what makes a sample more abnormal than its reference. With
            ``set_output``, a DataFrame with a column for each number.

        Raises
        ------
        NotFittedError
            If called before ``fit``.
        ValueError
            If X does not have the fitted shape or holds infinity, or NaN that the estimator does
            not take; or if gradients are not finite, as they are where values are missing.

        Warns
        -----
        ConvergenceWarning
            If attributions of a complete method miss their sum by more than 5 % for some samples.
        """
        return self._mapped(self._samples(given))

    def _samples(self, given):
        """Return samples with what each is compared with."""
        inputs, X = given
        own = None
        if isinstance(inputs, Rows) and self._references is not None:
            own = ReferencesByRows(self._references, self, inputs, X)
        elif self._references is not None:
            own = self._references(self, inputs, X)
        elif self._baseline is None:
            own = raw_baselines(self._params_at_fit.baseline, self._representation, X)
        return Samples(inputs, self._slopes(X), own)

    def _own_baselines(self):
        own = self._references is None and self._baseline is None  # else it is not a callable
        return self._params_at_fit.baseline if own else None

    def _handed_samples(self, handed):
        return self._samples(handed)

    def _function(self):
        def cotangents(rows, z, z_ref):
            return z.new_ones((len(z), 1, 1))

        return {"cotangents": cotangents, "encode": self._encode, "by_mass": True}

    def references(self, X: ArrayLike) -> ArrayOrFrame:
        """Return what each sample is compared with.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        references : ndarray or DataFrame of shape (n_samples, ...)
            As they enter the network or black box: X's columns, or what imputers and encoders make
            of them (numbered where they are several). A DataFrame if X is one.

        Raises
        ------
        ValueError
            If all samples are compared with the same several rows: these are ``baseline_``.
        """
        with self._door(X) as given:
            rows = self._own_references(self._samples(given))
            if len(rows) > 1:
                raise ValueError(
                    f"every sample is compared with the same {len(self._baseline)} rows: see "
                    "baseline_."
                )
            return self._representation.framed(rows[0], X)

    def _own_references(self, samples):
        """List references of all samples: one, or several for common baseline rows."""
        own, inputs = samples.baselines, samples.inputs
        if callable(own):
            own = self._representation.inputs(own(self._representation.restored(inputs)))
        if own is None:
            rows = kept_rows(self._baseline, self.seed_, _MOST_REFERENCES)
            return [np.broadcast_to(row, inputs.shape).copy() for row in rows]
        return [np.asarray(own)]

    @available_if(_reconstructs)
    def residuals(self, X: ArrayLike) -> np.ndarray:
        """Return samples minus their reconstructions, of which the score is the mean square.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        residuals : ndarray of shape (n_samples, ...)
            In the space where the model reconstructs, behind scalers and encoders.
        """
        with self._door(X) as given:
            z = self._representation.activations(given.inputs, self._params_at_fit.batch_size)
            shape = given.inputs.shape
            return z.reshape(shape) if z.size == given.inputs.size else z

    # -- judging -------------------------------------------------------------------------------

    @property
    def baseline_(self) -> object:
        """Baseline rows, as the network or black box takes them; None where samples have own."""
        check_is_fitted(self)
        return None if self._baseline is None else self._shown(self._baseline)

    def score(self, X: ArrayLike, y: ArrayLike | None = None) -> float:
        """Area under the fall of s as features are put back to the reference, over chance.

        Those that add most to s first, over random ones; features without any effect, as far as the
        samples show, are not among the random ones. Where random ones make s of some samples rise
        nearly as much as they make that of others fall (their area is under a third of the samples'
        mean absolute area), it is 1 plus the difference of the two areas over that third. It needs
        no labels, and compares explanations of one score: ``n_neighbors``, ``baseline``,
        ``method``, never two models.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples, best abnormal ones: a normal sample of which some columns are put back to
            another is often less normal than before. In a search,
            ``cv=[(rows of normal samples, rows of abnormal ones)]`` has them.
        y : object, default=None
            Ignored.

        Returns
        -------
        score : float
            1 is chance; higher is better.

        Warns
        -----
        SklexplainWarning
            If s does not fall when random features are put back; the score is 1 then.
        ConvergenceWarning
            If a method draws so little that for most samples the first feature cannot be told from
            the second (their attributions are less than two standard errors apart).
        """
        with self._door(X) as given:
            samples = self._samples(given)
            curve = fall_curve(
                self._scores,
                samples.inputs,
                self._judged(samples, signed=True),
                self._features,
                references=self._own_references(samples),
                channel_axis=self._sample.channel_axis,
                batch_size=self._params_at_fit.batch_size,
                is_numeric=True if self._table is None else ~self._table.coded,
                random_state=self.seed_,
                n_random=10,
            )
        return fall_ratio(curve)
