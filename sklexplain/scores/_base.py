"""What the scorers share: layers, random units, the tables they return."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from ..base import BaseExplainer
from ..layers import AGGREGATORS, SALIENCIES, check_grad_cam, samples_from, unit_maps
from ..utils import (
    A_NUMBER,
    CALLABLE,
    NONE,
    VERBOSE,
    Choice,
    Entries,
    Integer,
    Names,
    Text,
    Written,
    by_blocks,
    is_sequence,
    kept_rows,
    numpy_dtype_of,
    progress,
)
from ._sampling import draw_units, standard_error, t_quantile


class _Layers(Entries):
    """One or more names of layers."""

    def __init__(self):
        super().__init__("a list of names", Text("the name of a layer"))

    def is_satisfied_by(self, val):
        """Tell whether it is a list of names, and not empty."""
        return super().is_satisfied_by(val) and len(val) > 0

    def hint(self, value):
        """Say how one layer is given, or all of them."""
        if isinstance(value, str):
            return f" For one layer, write layers=[{value!r}]."
        return " None means all of them." if is_sequence(value) and not len(value) else ""


class LayerScorer(BaseExplainer):
    """Base class of scores of a representation, one for each layer that leads to it.

    A subclass implements `_batch_scores` and, where it needs more than the points and units,
    `_fit_scorer`.
    """

    _reads_rows = True

    _parameter_constraints = {
        "layers": [_Layers(), NONE],
        "at": [Choice("output", "input")],
        "saliency": [Choice(*SALIENCIES)],
        "n_units": [Integer(2), NONE],
        "verbose": [VERBOSE],
    }

    # -- fit -----------------------------------------------------------------------------------

    def _explained(self):
        # The parameter ``layers`` says where it is looked at.
        return {"layer": self._params_at_fit.output, "parameter": "output"}

    def _fit(self, inputs, y):
        self._points = self._find_points(inputs)
        check_grad_cam(self._points, self._params_at_fit.saliency)
        self.layers_ = self._layer_names()
        self.n_units_ = self._points.n_units
        self._drawn = None  # all units
        if self._params_at_fit.n_units is not None and self._params_at_fit.n_units < self.n_units_:
            rng = np.random.default_rng([self.seed_, 1])
            self._drawn = draw_units(self.n_units_, self._params_at_fit.n_units, rng)
        self._fit_inputs = self._rows_to_keep(inputs)
        self._later = {}  # what is computed when it is first asked for
        self._fit_scorer(inputs)

    def _rows_to_keep(self, inputs):
        """Choose what is kept of the data, for what is computed when it is first asked for."""
        return inputs[:1].copy() if self._drawn is None else kept_rows(inputs, self.seed_)

    def _fit_scorer(self, inputs):
        """Prepare whatever else a subclass needs."""

    def _find_points(self, inputs):
        representation = self._representation
        layers = None if self._params_at_fit.layers is None else list(self._params_at_fit.layers)
        points = representation.points(inputs, layers, self._params_at_fit.at, "layers")
        if len(points):
            return points
        if representation.no_torch_form is not None:
            raise TypeError(
                f"{type(self).__name__} needs gradients at layers of a network, but "
                f"{representation.no_torch_form} has no torch form; score a network, or a Pipeline "
                "that ends in one. LabelFreeAttributor explains such an estimator with "
                "method='feature_ablation' or 'kernel_shap'."
            )
        raise ValueError(
            "the output depends on no convolution, linear, recurrent or attention layer (of a "
            "recurrent layer, on its output at every step or the last); name what to look at: "
            "layers=[...]."
        )

    def _layer_names(self):
        if self._params_at_fit.layers is not None:
            return self._points.names
        # The output of a recurrent layer, its item 0, goes by the layer's name.
        return [p.name.removesuffix("[0]") if p.items == (0,) else p.name for p in self._points]

    # -- scores --------------------------------------------------------------------------------

    def _transform(self, inputs):
        """Score every sample at every layer.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_layers)
            Of the network's dtype, float32 of half precision. With ``set_output``, a DataFrame with
            columns named by layer.
        """
        dtype = numpy_dtype_of(self._representation.output_dtype)
        return self._scores(inputs, dtype=dtype)[0]

    def _row_form(self):
        return (len(self.layers_),), numpy_dtype_of(self._representation.output_dtype)

    @by_blocks(A_NUMBER)
    def score_samples(self, X: ArrayLike) -> np.ndarray:
        """Mean over the layers of every sample's scores.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
        """
        with self._door(X) as inputs:
            return self._scores(inputs)[0].mean(axis=1)

    def score(self, X: ArrayLike, y: ArrayLike | None = None) -> float:
        """Score the representation on samples; needs no labels.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.
        y : object, default=None
            Ignored.

        Returns
        -------
        score : float
            See the class; higher is better.
        """
        with self._door(X) as inputs:
            return float(self._overall(self._scores(inputs).mean(axis=1))[0])

    def confidence_interval(self, X: ArrayLike, level: float = 0.95) -> Bunch:
        """Confidence interval of the score of all units, from the random ones that were used.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples.
        level : float, default=0.95
            Probability, over draws of the units, with which the interval is meant to hold the
            score of all units. It says nothing about other samples or other noise inputs.

        Returns
        -------
        interval : Bunch
            ``score``, ``standard_error``, ``low`` and ``high``, numbers; and
            ``layer_scores``, ``layer_standard_errors``, ``layer_low`` and ``layer_high``, ndarrays
            of shape (n_layers,), of the means over X. Width 0 if all units were used; NaN if fewer
            than four were.

        Raises
        ------
        ValueError
            If ``level`` is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ValueError(f"level={level!r} must be between 0 and 1, for example 0.95.")
        with self._door(X) as inputs:
            return self._interval(inputs, level)

    @property
    def standard_error_(self) -> float:
        """Standard error of `score` on the data given to ``fit``, from drawing units at random."""
        check_is_fitted(self)
        if "interval" not in self._later:
            with self._inside(self._fit_inputs):
                self._later["interval"] = self._interval(self._fit_inputs, 0.95)
        return self._later["interval"].standard_error

    def _interval(self, inputs, level):
        layers = self._scores(inputs, halves=True).mean(axis=1)  # (1 + n_halves, n_layers)
        overall = self._overall(layers)
        quantile, errors = 0.0, np.zeros(layers.shape[1] + 1)
        values = np.append(layers, overall[:, None], axis=1)
        if self._drawn is not None:
            quantile = t_quantile(self._drawn, level)
            errors = standard_error(values[0], values[1:], self._drawn)
        low, high = values[0] - quantile * errors, values[0] + quantile * errors
        return Bunch(
            score=float(overall[0]),
            standard_error=float(errors[-1]),
            low=float(low[-1]),
            high=float(high[-1]),
            layer_scores=layers[0],
            layer_standard_errors=errors[:-1],
            layer_low=low[:-1],
            layer_high=high[:-1],
        )

    def _overall(self, layer_scores):
        """One number from the scores at the layers: (..., n_layers) to (...)."""
        return layer_scores.mean(axis=-1)

    def _scores(self, inputs, halves=False, dtype=np.float64):
        """Scores from all units that are used and, if asked for, from each half of them.

        Parameters
        ----------
        inputs : ndarray of shape (n, ...)
            Samples.
        halves : bool, default=False
            Whether to score from each half of the units, too.
        dtype : dtype, default=float64
            Of the scores.

        Returns
        -------
        scores : ndarray of shape (1, n, n_layers), or (1 + n_halves, n, n_layers)
        """
        representation = self._representation
        written = Written(len(inputs), dtype)

        def run(block):
            x = representation.tensor(inputs[block])
            with samples_from(block.start):
                return self._batch_scores(x, self._subsets(halves))

        def most_rows():
            return self._params_at_fit.batch_size

        blocks = representation.in_blocks(run, len(inputs), self._rows(), most_rows)
        name = type(self).__name__
        with representation.session(), progress(len(inputs), self.verbose, name) as bar:
            for block, scores in blocks:
                bar.update(block.stop - block.start)
                written.add(np.moveaxis(scores, 1, 0))
        return np.moveaxis(written.array, 0, 1)

    def _rows(self):
        """Return the number of samples in a batch."""
        rows = self._points.block_rows(self._params_at_fit.batch_size, self._representation.device)
        # The maps of all drawn units are in memory together.
        return rows if self._drawn is None else max(1, rows // len(self._drawn.units))

    def _subsets(self, halves):
        """Positions among the units that are used: all of them, then each half."""
        if self._drawn is None:
            return None
        return [slice(None), *(self._drawn.halves if halves else ())]

    def _unit_blocks(self, x):
        """Blocks of channel-aggregated maps of the units that are used, (k, b, n_positions).

        Yields
        ------
        layers : list of (tensor, tensor or None)
            The maps and their sizes, for each layer.
        """
        blocks = unit_maps(
            self._representation,
            self._representation.bound(self._points),
            x,
            saliency=self._params_at_fit.saliency,
            channel_agg=self._params_at_fit.channel_agg,
            units=None if self._drawn is None else self._drawn.units,
            rows=self._params_at_fit.batch_size,
            with_sizes=True,
        )
        for _, maps, sizes in blocks:
            yield [(m.flatten(2), _flat(s)) for m, s in zip(maps, sizes, strict=True)]

    def _sampled_maps(self, x):
        """Compute maps of all drawn units and their sizes for each layer: (n_units, b, ...)."""
        layers = []
        for blocks in zip(*self._unit_blocks(x), strict=True):
            maps, sizes = zip(*blocks, strict=True)
            layers.append((torch.cat(maps), None if sizes[0] is None else torch.cat(sizes)))
        return layers

    def get_feature_names_out(self, input_features: Names | None = None) -> np.ndarray:
        """Names of the layers, which are the columns of `transform`.

        Parameters
        ----------
        input_features : object, default=None
            Ignored.

        Returns
        -------
        names : ndarray of str of shape (n_layers,)
        """
        check_is_fitted(self)
        return np.asarray(self.layers_, dtype=object)


# A callable or an aggregator that drops its axis.
REDUCING = [Choice(*(name for name in AGGREGATORS if name != "none")), CALLABLE]


def _flat(sizes):
    return None if sizes is None else sizes.flatten(2)


def layers_last(tensors):
    """Stack one tensor for each layer to an array of float64 whose last axis is the layers'."""
    return torch.stack(tensors, dim=-1).cpu().numpy().astype(np.float64)
