"""Readable models of the units of a representation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from ..base import BaseExplainer
from ..exceptions import UndefinedMetricWarning
from ..explaining import checked_units
from ..utils import (
    ARRAY,
    MAPPING,
    NONE,
    BatchSize,
    ChannelAxis,
    Choice,
    DeviceLike,
    Groups,
    Integer,
    Integers,
    ModelLike,
    Names,
    Number,
    Numbers,
    RandomState,
    ResponseMethod,
    Rows,
    Written,
    check_positive_int,
    warn,
)
from ._columns import ReadableColumns
from ._models import UnitSum, UnitTree

# Held-out R² up to which a model tells nothing.
_NOTHING = 0.05
_READ_AT_ONCE = 2**16  # numbers that the models read at once


@dataclass(frozen=True)
class _Samples:
    inputs: np.ndarray
    X: object  # in raw units

    def __len__(self):
        return len(self.inputs)

    def parts(self):
        """Yield a few samples at a time, of arrays of numbers; of all else all at once."""
        if not isinstance(self.X, (np.ndarray, Rows)):
            yield self
            return
        step = max(1, _READ_AT_ONCE // max(1, int(np.prod(self.X.shape[1:]))))
        for i in range(0, len(self), step):
            yield _Samples(self.inputs[i : i + step], self.X[i : i + step])


class LatentSurrogate(BaseExplainer):
    """Readable models of latent units: a shallow tree, or a sum of few terms, for each.

    What does unit 3 stand for? A small model is fitted that tells it from the *raw* columns, or
    from means of segments of a series, with its R² on samples that were held out: so what is read
    is known to hold, or known not to.

    Parameters
    ----------
    estimator : nn.Module, skorch net, scikit-learn estimator or Pipeline
        What is explained; any transformer will do, with a torch form or without. Never changed. Of
        an unfitted estimator a clone is fitted in ``fit``.
    layer : str or None, default=None
        Submodule whose output is explained, as in ``named_modules()``; ``"rnn[1][0]"`` picks from a
        tuple, ``"enc['mu']"`` from a dict. None: what the estimator returns.
    response_method : str or list of str, default="auto"
        Which of an estimator's outputs, see `LabelFreeAttributor`.
    units : array-like of int or None, default=None
        Which units of the representation (flattened); None: all.
    model : {"tree", "linear"}, default="tree"
        A regression tree; or a sum of a few columns times numbers (orthogonal matching pursuit).
    max_depth : int, default=3
        Most decisions on the way to a leaf of a tree.
    max_terms : int, default=5
        Most terms of a sum.
    groups : array-like, dict or None, default=None
        What is read instead of columns or segments: means over groups, given as
        `LabelFreeAttributor` takes them; ``time_segments(140, 10)`` where the columns of a table
        are the time steps of a series.
    n_segments : int, default=10
        Of a series, the number of segments of (almost) equal length whose means are read, of every
        channel; of an image, that of rows and of columns of cells.
    test_size : float, default=0.25
        Share of the samples that is held out for `r2_`, drawn at random. The models that are kept
        are then fitted on all samples.
    channel_axis : {"auto"}, int or None, default="auto"
        Axis of one sample's array that holds channels. ``"auto"``: as the network's own layers take
        it; None: there are none.
    batch_size : int or "auto", default="auto"
        Most samples in the network at once; it changes no result. "auto": 1024; on a GPU, what its
        memory holds.
    device : str, torch.device or None, default=None
        Where to run; None: where the model is.
    random_state : int, RandomState instance or None, default=None
        Of the samples that are held out, and of ties between splits.

    Attributes
    ----------
    estimator_ : nn.Module or estimator
        The fitted estimator that is explained.
    units_ : ndarray of shape (n_units,)
        The units.
    r2_ : ndarray of shape (n_units,)
        R² on the held-out samples of models that were fitted on the others; NaN of units that do
        not vary. Where samples come in groups or in an order, `score` samples of other groups.
    column_names_ : list of str
        What models read.
    importances_ : ndarray of shape (n_units, n_columns)
        Share of every column in what each model explains.
    n_features_in_, feature_names_in_, input_shape_, seed_
        See `BaseExplainer`.

    See Also
    --------
    sklexplain.plotting.SurrogateDisplay : All units, how well they are told, and from what.
    LabelFreeAttributor : Which features matter, sample by sample.
    sklexplain.SparseDictionary : Directions of a layer, by their examples.

    Notes
    -----
    Of categories a tree takes the order of the unit's mean, so that a decision parts them into two
    sets; a sum has a term for a category. Missing values are a branch of their own side in a tree,
    and the mean in a sum. Columns with fewer than five samples a category on average (ids, free
    text) are not read, with a warning. A split or term that explains less than .01 % is left out.

    Cost: `fit` and `score` run every sample once through the network, `transform` none: it asks the
    small models only.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklexplain import LatentSurrogate
    >>> X, _ = load_iris(return_X_y=True, as_frame=True)
    >>> surrogate = LatentSurrogate(PCA(2), max_depth=1, random_state=0).fit(X)
    >>> surrogate.r2_.round(2)
    array([0.85, 0.32])
    >>> print(surrogate.export_text(0))
    unit 0, held-out R² 0.85
    |--- petal length (cm) <= 3.4
    |   |--- value: -2.537
    |--- petal length (cm) >  3.4
    |   |--- value: 1.386
    """

    _reads_rows = True
    _keeps_results = True
    _minds_few_values = False  # a unit of few values is the easiest to read

    _parameter_constraints = {
        "units": [Integer(None), Numbers("a list of integers"), NONE],
        "model": [Choice("tree", "linear")],
        "max_depth": [Integer()],
        "max_terms": [Integer()],
        "groups": [MAPPING, ARRAY, NONE],
        "n_segments": [Integer()],
        "test_size": [Number(above=0, below=1)],
    }

    def __init__(
        self,
        estimator: ModelLike,
        *,
        layer: str | None = None,
        response_method: ResponseMethod = "auto",
        units: int | Integers | None = None,
        model: Literal["tree", "linear"] = "tree",
        max_depth: int = 3,
        max_terms: int = 5,
        groups: Groups = None,
        n_segments: int = 10,
        test_size: float = 0.25,
        channel_axis: ChannelAxis = "auto",
        batch_size: BatchSize = "auto",
        device: DeviceLike | None = None,
        random_state: RandomState = None,
    ) -> None:
        self.estimator = estimator
        self.layer = layer
        self.response_method = response_method
        self.units = units
        self.model = model
        self.max_depth = max_depth
        self.max_terms = max_terms
        self.groups = groups
        self.n_segments = n_segments
        self.test_size = test_size
        self.channel_axis = channel_axis
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state

    def _handed(self, inputs, X):
        return _Samples(inputs, X)

    def _fit(self, samples, y):
        params, n = self._params_at_fit, len(samples)
        n_test = int(np.ceil(params.test_size * n))
        if n_test >= n:
            raise ValueError(
                f"test_size={params.test_size} leaves no sample to fit on (n_samples={n}): give "
                "more samples."
            )
        self.units_ = checked_units(params.units, self._representation.n_units, distinct=True)
        words = self.feature_names_in_.tolist() if self._texts else None
        self._columns = ReadableColumns(
            samples.X, self._sample, self._raw, params.groups, params.n_segments, words
        )
        self.column_names_ = list(self._columns.names)
        read, z = self._columns(samples.X, samples.inputs), self._unit_values(samples)
        order = np.random.RandomState(self.seed_).permutation(n)
        train, test = order[n_test:], order[:n_test]
        told = [self._new_model().fit(read[train], unit[train]).predict(read[test]) for unit in z.T]
        self._varies = self._vary(z)
        self.r2_ = _r2(z[test], np.stack(told, axis=1), self._varies)
        self._models = [self._new_model().fit(read, unit) for unit in z.T]
        self.importances_ = np.stack([model.importances for model in self._models])

    def _new_model(self):
        params = self._params_at_fit
        if params.model == "linear":
            return UnitSum(self._columns, int(params.max_terms))
        return UnitTree(self._columns, int(params.max_depth), self.seed_)

    def _unit_values(self, samples):
        """Return the units' values (n, n_units) in float64."""
        z = self._representation.activations(samples.inputs, self._params_at_fit.batch_size)
        return z[:, self.units_].astype(np.float64)

    def _vary(self, z):
        """Tell which units vary; what rounding alone makes vary does not."""
        return z.std(axis=0) > 8 * self._representation.eps * np.abs(z).max(axis=0)

    def _transform(self, samples):
        """Tell the units by the readable models.

        Parameters
        ----------
        samples : object
            Samples.

        Returns
        -------
        values : ndarray of shape (n_samples, n_units)
            What the models take the units to be.
        """
        written = Written(len(samples), np.float64)
        for part in samples.parts():
            read = self._columns(part.X, part.inputs)
            written.add(np.stack([model.predict(read) for model in self._models], axis=1))
        return written.array

    def _row_form(self):
        return (len(self.units_),), np.float64

    def unit_scores(self, X: ArrayLike) -> np.ndarray:
        """R² of every unit.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples, best held out.

        Returns
        -------
        r2 : ndarray of shape (n_units,)
            NaN of units that do not vary over X, and, with a warning, for a single sample.
        """
        with self._door(X) as samples:
            z = self._unit_values(samples)
            return _r2(z, self._transform(samples), self._vary(z))

    def score(self, X: ArrayLike, y: ArrayLike | None = None) -> float:
        """Mean R² of the units that vary over X.

        Parameters
        ----------
        X : array-like, DataFrame or tensor of shape (n_samples, ...)
            Samples, best held out.
        y : object, default=None
            Ignored.

        Returns
        -------
        score : float
            1 is best. If no unit varies, 1.0 if all are told, else 0.0; NaN, with a warning, for a
            single sample.
        """
        with self._door(X) as samples:
            z, told = self._unit_values(samples), self._transform(samples)
            vary = self._vary(z)
            r2 = _r2(z, told, vary)
            if len(z) > 1 and not vary.any():
                return float(np.allclose(z, told, rtol=1e-5, atol=1e-8))
            return float(r2[vary].mean()) if len(z) > 1 else float("nan")

    def export_text(self, unit: int | None = None, *, digits: int = 4) -> str:
        """Write the models as text.

        Parameters
        ----------
        unit : int or None, default=None
            Which unit of the representation; None: all that were fitted.
        digits : int, default=4
            Significant digits of numbers.

        Returns
        -------
        text : str
            A line that names the unit and its held-out R², and the tree or the sum.

        Raises
        ------
        ValueError
            If the unit does not exist or was not fitted.
        """
        check_is_fitted(self)
        check_positive_int("digits", digits)
        places = range(len(self.units_)) if unit is None else [self._place(unit)]
        texts = []
        for i in places:
            head = f"unit {self.units_[i]}, {_how_well(self.r2_[i], self._varies[i])}"
            lines = [head, *self._models[i].lines(int(digits))]
            texts.append("\n".join(lines))
        return "\n\n".join(texts)

    def _place(self, unit):
        asked = checked_units([unit], self._representation.n_units)[0]
        found = np.flatnonzero(self.units_ == asked)
        if not len(found):
            raise ValueError(f"unit {unit} was not fitted; units={self.units_.tolist()} were.")
        return int(found[0])

    def get_feature_names_out(self, input_features: Names | None = None) -> np.ndarray:
        """Names of the columns of `transform`.

        Parameters
        ----------
        input_features : object, default=None
            Ignored.

        Returns
        -------
        names : ndarray of str
            ``unit0``, ``unit1``, …
        """
        check_is_fitted(self)
        return np.asarray([f"unit{i}" for i in self.units_], dtype=object)


def _how_well(r2, varies):
    if np.isnan(r2):
        return "held-out R² not defined" if varies else "which does not vary"
    told = " (as good as nothing: do not read it)" if r2 <= _NOTHING else ""
    return f"held-out R² {r2:.2f}{told}"


def _r2(true, told, vary):
    """R² of every column; NaN of those that do not vary."""
    if len(true) < 2:
        warn("R² is not defined for fewer than two samples: NaN.", UndefinedMetricWarning)
        return np.full(true.shape[1], np.nan)
    error = np.square(true - told).sum(axis=0)
    total = np.square(true - true.mean(axis=0)).sum(axis=0)
    known = vary & (total > 0)
    return np.where(known, 1 - error / np.where(known, total, 1.0), np.nan)
