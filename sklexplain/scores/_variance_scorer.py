"""The variance score: whether a representation's units look at different things."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from ..utils import NONE, BatchSize, DeviceLike, ModelLike, Number, RandomState, ResponseMethod
from ._base import REDUCING, LayerScorer, layers_last
from ._functions import UnitVariance, subset_variances


class VarianceScorer(LayerScorer):
    r"""How much the units of a representation differ in where they look.

    The variance score of Bertolini, Clevert & Montanari (equation 3) at layer p is

    .. math:: V_p(x) = \operatorname{mean}_s \operatorname{Var}_i \hat A_{p,i}(x)_s \in [0, 1/4],

    with :math:`\hat A_{p,i}(x)` the map of output unit i over the positions s of the layer: its
    saliency, aggregated over channels and scaled to [0, 1] (a constant map to zeros). The variance
    has N in its denominator, so that representations of any size N can be compared; 1/4 (Popoviciu)
    is reached where every position is all or nothing, with half of the units each.

    Untrained networks can score high: random units do look at different things. Compare trained
    ones, best of one architecture. At the output itself, which is among the layers if a linear
    layer makes it, every unit looks at itself alone, whatever was learned: name ``layers`` to leave
    it out.

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
    channel_agg : {"mean", "abs", "var", "skew"} or callable, default="mean"
        Aggregation over channels; a callable is called as ``f(tensor, dim=...)``.
    threshold : float or None, default=None
        Scaled maps above it count as 1 and others as 0; the paper's figure 5 has 0.5.
    n_units : int or None, default=None
        Score by this many random output units, at that share of the cost. None, or as many as there
        are: all. See Notes.
    batch_size : int or "auto", default="auto"
        Most rows (samples times units) in the network at once. "auto": 1024; on a GPU, what its
        memory holds.
    device : str, torch.device or None, default=None
        Where to run; None: where the model is.
    random_state : int, RandomState instance or None, default=None
        Determines which units are drawn.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    estimator_ : nn.Module or estimator
        The fitted estimator that is scored.
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
    NoiseScorer : Does a representation tell samples from noise?
    sklexplain.scores.variance_scorer : The score as ``scoring=`` of a search.
    sklexplain.EmbeddingAttributor : The maps themselves.

    Notes
    -----
    n of N units give the sample variance times (N - 1) / N, which has no bias; only values above
    1/4, which few units can give, are cut off. Its standard error, ``confidence_interval`` and
    ``standard_error_``, comes from random halves of the units and is rather too large: the score
    of all units was inside the 95 % interval in 96 % of draws or more.

    Cost: `fit` runs a few dozen rows through the network; `transform` and `score` every sample
    once, and backward once for each unit (``n_units`` of them), for all layers at once.

    References
    ----------
    .. [1] M. Bertolini, D.-A. Clevert, F. Montanari, "Explaining, Evaluating and Enhancing Neural
       Networks' Learned Representations".

    Examples
    --------
    >>> import torch
    >>> from sklexplain import VarianceScorer
    >>> from sklexplain.datasets import make_motif_series
    >>> X, _, _ = make_motif_series(n_samples=20, random_state=0)
    >>> _ = torch.manual_seed(0)
    >>> net = torch.nn.Sequential(
    ...     torch.nn.Conv1d(1, 4, 5), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(8)
    ... )
    >>> _ = net(torch.zeros(1, *X.shape[1:]))
    >>> scorer = VarianceScorer(net, layers=["0"]).fit(X)
    >>> scorer.transform(X).shape
    (20, 1)
    >>> 0 <= scorer.score(X) <= 0.25
    True
    """

    _parameter_constraints = {
        "channel_agg": REDUCING,
        "threshold": [Number(above=0, below=1), NONE],
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
        channel_agg: Literal["mean", "abs", "var", "skew"] | Callable[..., Any] = "mean",
        threshold: float | None = None,
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
        self.threshold = threshold
        self.n_units = n_units
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _batch_scores(self, x, subsets):
        if subsets is None:
            layers = [UnitVariance(self._params_at_fit.threshold) for _ in self._points]
            for maps in self._unit_blocks(x):
                for layer, (m, sizes) in zip(layers, maps, strict=True):
                    layer.add(m, sizes)
            return layers_last([layer.scores()[None] for layer in layers])
        return layers_last([self._sampled(*maps, subsets) for maps in self._sampled_maps(x)])

    def _sampled(self, maps, sizes, subsets):
        """Estimate the variance over all N units from each subset of n of them: (n_subsets, b)."""
        member = maps.new_zeros(len(subsets), len(maps), dtype=torch.float64)
        for row, subset in zip(member, subsets, strict=True):
            row[subset] = 1
        n, total = member.sum(dim=1)[:, None], self.n_units_
        population = subset_variances(maps, member, self._params_at_fit.threshold, sizes)
        return (population * (n / (n - 1) * (total - 1) / total)).clamp(max=0.25)
